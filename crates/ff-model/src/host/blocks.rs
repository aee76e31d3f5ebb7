//! Rows of many tensors, cut alike into blocks of atoms that tasks own.

use std::marker::PhantomData;
use std::ops::Range;

use rayon::prelude::*;

/// Rows of a dense layer are whole multiples of this: what the products' widest kernels take at a time, and never a single row,
/// which is summed in another order.
pub(super) const ROWS: usize = 6;

/// Rows of one block where there are enough for all threads: weights are read from the cache once for so many.
pub(super) const MOST: usize = 36;

/// A tensor that tasks write to, each the rows of its own block.
pub(super) struct Cut<'a, T> {
    start: *mut T,
    len: usize,
    owner: PhantomData<&'a mut [T]>,
}

// SAFETY: it hands out exclusive borrows of disjoint rows, which may be sent where `T` may.
unsafe impl<T: Send> Sync for Cut<'_, T> {}

impl<'a, T> Cut<'a, T> {
    pub fn new(values: &'a mut [T]) -> Self {
        Self { start: values.as_mut_ptr(), len: values.len(), owner: PhantomData }
    }

    /// Part `index` of a tensor that is made of parts of `len` elements each.
    ///
    /// # Panics
    /// Out of bounds.
    pub fn part(&self, index: usize, len: usize) -> Self {
        self.range(index * len, len)
    }

    /// `len` elements from `first` on.
    ///
    /// # Panics
    /// Out of bounds.
    pub fn range(&self, first: usize, len: usize) -> Self {
        assert!(first + len <= self.len, "{len} elements from {first} on, of {}", self.len);
        // SAFETY: in bounds.
        Self { start: unsafe { self.start.add(first) }, len, owner: PhantomData }
    }

    /// Rows of `width` elements.
    ///
    /// # Panics
    /// Out of bounds.
    ///
    /// # Safety
    /// While the slice lives, no other has any of these rows.
    pub unsafe fn rows(&self, rows: &Range<usize>, width: usize) -> &'a mut [T] {
        let (start, end) = (rows.start * width, rows.end * width);
        assert!(start <= end && end <= self.len, "rows {rows:?} of {width} in {} elements", self.len);
        // SAFETY: in bounds, and exclusive as the caller promises.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(start), end - start) }
    }
}

/// Runs `task` on every block of `rows` rows, a multiple of [`ROWS`]; blocks are disjoint and cover all. How they are cut depends
/// on the number of threads, and no result does.
pub(super) fn for_each_block(rows: usize, task: impl Fn(Range<usize>) + Sync + Send) {
    let threads = rayon::current_num_threads();
    let block = rows.div_ceil(threads).next_multiple_of(ROWS).clamp(ROWS, MOST);
    let blocks = rows.div_ceil(block);
    let range = |block_index: usize| block_index * block..rows.min((block_index + 1) * block);
    match blocks {
        0 => {}
        1 => task(range(0)),
        _ => (0..blocks).into_par_iter().for_each(|index| task(range(index))),
    }
}
