//! The host kernel of `cell_list`: bins, two passes over candidates, and the transposed list.
//!
//! Atoms are sorted by bin, so that the candidates of an atom are a few runs of neighbouring slots. Distances to them are
//! computed in vectors of f32 from positions moved into the cell, and only propose: what is within rounding of the cutoff
//! is decided by the edge vector itself, in an order of operations in which the reverse edge is the exact negative. The
//! first pass counts. The second sorts the candidates of a bin once for all its atoms, so that each row is written in
//! order, where it belongs; nothing but the list itself has its size.

mod bins;
mod rows;
mod skin;
mod transpose;

use std::ops::{Add, Mul, Sub};

use ff_spec::cell_list::{InputError, Inputs, List, NeighborList, Strategy};
use rayon::prelude::*;

use crate::Element;
use bins::Binned;
pub use skin::SkinList;

/// The source of these kernels.
pub const SOURCE: &str =
    concat!(include_str!("mod.rs"), include_str!("bins.rs"), include_str!("rows.rs"), include_str!("transpose.rs"));

/// Element types with the arithmetic of plain loops, for which this crate has compiled every kernel.
pub trait Real:
    Element + PartialOrd + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> + std::ops::Neg<Output = Self>
{
    /// The distance from 1 to the next larger number.
    const EPSILON: f64;

    #[doc(hidden)]
    fn build(
        inputs: &Inputs<Self>,
        list: List,
        strategy: Strategy,
        config: &HostConfig,
        out: &mut NeighborList<Self>,
    ) -> Result<(), InputError>;
    #[doc(hidden)]
    fn rebuild(list: &mut SkinList<Self>, new_cell: bool) -> Result<usize, InputError>;
}

macro_rules! real {
    ($($t:ident),*) => {$(
        impl Real for $t {
            const EPSILON: f64 = $t::EPSILON as f64;

            #[inline(never)]
            fn build(
                inputs: &Inputs<Self>,
                list: List,
                strategy: Strategy,
                config: &HostConfig,
                out: &mut NeighborList<Self>,
            ) -> Result<(), InputError> {
                build_list(inputs, list, strategy, config, out)
            }

            #[inline(never)]
            fn rebuild(list: &mut SkinList<Self>, new_cell: bool) -> Result<usize, InputError> {
                list.rebuild(new_cell)
            }
        }
    )*};
}
real!(f32, f64);

/// Launch parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostConfig {
    /// Rows of one task.
    pub rows_per_task: usize,
    /// Bins per search radius along a and b.
    pub bins_across: u32,
    /// Bins per search radius along c, the direction in which bins follow each other in memory.
    pub bins_along: u32,
}

impl Default for HostConfig {
    fn default() -> Self {
        Self { rows_per_task: 128, bins_across: 1, bins_along: 1 }
    }
}

/// The most edges that the index type holds; one less than its largest value, so that a row that saturates shows.
const MAX_EDGES: u64 = u32::MAX as u64 - 1;

/// Builds a neighbour list into `out`, whose memory is used again where it is large enough.
///
/// `inputs` in Å; `out` as in [`ff_spec::cell_list`]. The result does not depend on the configuration or on the number
/// of threads.
///
/// # Errors
/// [`InputError`] for tensors of wrong shape, values that are not finite, cells without volume, and lists too large for
/// the index type; `out` is then unspecified.
pub fn build<T: Real>(
    inputs: &Inputs<T>,
    list: List,
    strategy: Strategy,
    config: &HostConfig,
    out: &mut NeighborList<T>,
) -> Result<(), InputError> {
    T::build(inputs, list, strategy, config, out)
}

fn build_list<T: Real>(
    inputs: &Inputs<T>,
    list: List,
    strategy: Strategy,
    config: &HostConfig,
    out: &mut NeighborList<T>,
) -> Result<(), InputError> {
    inputs.check()?;
    let binned = Binned::new(inputs, strategy, config)?;
    let n_atoms = inputs.n_atoms();
    resize(&mut out.row_ptr, n_atoms + 1);
    out.row_ptr[0] = 0;
    rows::count(&binned, list, config, &mut out.row_ptr);
    let n_edges = offsets(&mut out.row_ptr);
    let n_edges = within_limit(n_edges)?;
    resize(&mut out.sender, n_edges);
    resize(&mut out.shift, n_edges);
    resize(&mut out.edge_vec, n_edges);
    rows::fill(&binned, list, config, out);
    drop(binned);
    resize(&mut out.transpose, n_edges);
    match list {
        List::Full => transpose::reverse(out),
        List::Half => transpose::by_sender(out),
    }
    Ok(())
}

/// The same number where the index type holds it.
fn within_limit(n_edges: u64) -> Result<usize, InputError> {
    match n_edges {
        0..=MAX_EDGES => Ok(n_edges as usize),
        _ => Err(InputError::TooMany { what: "edges", found: n_edges, limit: MAX_EDGES }),
    }
}

/// Makes a vector exactly so long. What it held is of no use, so a longer one starts from fresh zeroed pages.
fn resize<T: bytemuck::Zeroable + Copy>(v: &mut Vec<T>, len: usize) {
    if v.capacity() < len {
        // Freed first: both together would be twice the memory.
        *v = Vec::new();
        *v = vec![bytemuck::Zeroable::zeroed(); len];
        ask_for_large_pages(v);
    } else {
        v.resize(len, bytemuck::Zeroable::zeroed());
    }
}

/// Rows are written all over a list that is larger than what ordinary pages' addresses are cached for, and fresh pages cost
/// more than the list: large ones are asked for. It is advice only.
#[cfg(target_os = "linux")]
fn ask_for_large_pages<T>(v: &mut [T]) {
    use rustix::mm::{Advice, madvise};
    const LARGE: usize = 2 << 20;
    let (start, end) = (v.as_ptr() as usize, v.as_ptr() as usize + size_of_val(v));
    let (first, last) = (start.next_multiple_of(LARGE), end / LARGE * LARGE);
    if first < last {
        // SAFETY: the range lies within the slice, and the advice changes nothing of its contents.
        let _ = unsafe { madvise(first as *mut _, last - first, Advice::LinuxHugepage) };
    }
}

#[cfg(not(target_os = "linux"))]
fn ask_for_large_pages<T>(_: &mut [T]) {}

/// Turns counts in entries 1.. into offsets; the total, which may be more than the offsets hold.
fn offsets(row_ptr: &mut [u32]) -> u64 {
    let mut total = 0u64;
    for entry in row_ptr {
        total += u64::from(*entry);
        *entry = total as u32;
    }
    total
}

/// Calls `task` with consecutive parts of `0..n`, in parallel where there are several, each with scratch of its thread.
fn for_each_part<S: Send>(
    n: usize,
    part: usize,
    scratch: impl Fn() -> S + Send + Sync,
    task: impl Fn(&mut S, std::ops::Range<usize>) + Send + Sync,
) {
    let part = part.max(1);
    if n <= part {
        return task(&mut scratch(), 0..n);
    }
    (0..n.div_ceil(part)).into_par_iter().for_each_init(scratch, |scratch, index| {
        task(scratch, index * part..((index + 1) * part).min(n));
    });
}

/// A slice that tasks write to, each its own parts.
struct Shared<'a, T> {
    start: *mut T,
    len: usize,
    owner: std::marker::PhantomData<&'a mut [T]>,
}

// SAFETY: it hands out exclusive borrows of parts, which may be sent where `T` may.
unsafe impl<T: Send> Sync for Shared<'_, T> {}

impl<'a, T> Shared<'a, T> {
    fn new(slice: &'a mut [T]) -> Self {
        Self { start: slice.as_mut_ptr(), len: slice.len(), owner: std::marker::PhantomData }
    }

    /// A part of the slice.
    ///
    /// # Panics
    /// If it is out of bounds.
    ///
    /// # Safety
    /// No two borrows that live at once overlap.
    #[expect(clippy::mut_from_ref, reason = "the borrows are disjoint, as the caller promises")]
    unsafe fn get(&self, part: std::ops::Range<usize>) -> &mut [T] {
        assert!(part.start <= part.end && part.end <= self.len, "{part:?} of {}", self.len);
        // SAFETY: in bounds, and exclusive as the caller promises.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(part.start), part.len()) }
    }
}
