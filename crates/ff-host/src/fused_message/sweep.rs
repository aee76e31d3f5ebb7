//! Walks over a neighbour list by one end of its edges: rows are cut into tasks, and a task fills tiles of edges.

use std::marker::PhantomData;
use std::ops::Range;

use rayon::prelude::*;

use super::call::Call;
use super::config::HostConfig;
use super::tile::Tile;
use crate::Element;
use crate::pool::Pooled;

/// The most parts into which the edges are cut where gradients in weights are summed. Each has sums of its own, so it bounds
/// their memory, to so many times that of the weights, and the threads that can share the work.
const PARTS: usize = 64;

/// The rows of a list in the order in which they are summed.
#[derive(Clone, Copy)]
pub(super) struct Sweep<'a> {
    /// [n_atoms + 1], the list by receiver or by sender.
    ptr: &'a [u32],
    order: Option<&'a [u32]>,
    edges_per_task: usize,
}

impl<'a> Sweep<'a> {
    pub fn new<T: Element>(call: &Call<T>, ptr: &'a [u32], order: Option<&'a [u32]>, config: &HostConfig) -> Self {
        Self { ptr, order, edges_per_task: edges_per_task(call, config) }
    }

    fn row(&self, at: usize) -> (usize, Range<usize>) {
        let row = self.order.map_or(at, |order| order[at] as usize);
        (row, self.ptr[row] as usize..self.ptr[row + 1] as usize)
    }

    /// Consecutive rows, of `edges_per_task` edges in all or of one row: where each task begins, and where the last ends.
    fn cuts(self) -> Pooled<Vec<usize>> {
        let mut cuts = Pooled::<Vec<usize>>::take([0; 8], Vec::new);
        cuts.clear();
        cuts.push(0);
        let mut sum = 0;
        let n_rows = self.ptr.len() - 1;
        for at in 0..n_rows {
            // An empty row costs its outputs: as much as an edge or so.
            let cost = self.row(at).1.len() + 1;
            if sum > 0 && sum + cost > self.edges_per_task {
                cuts.push(at);
                sum = 0;
            }
            sum += cost;
        }
        cuts.push(n_rows);
        cuts
    }

    fn task(self, cuts: &[usize], index: usize) -> Task<'a> {
        Task { sweep: self, rows: cuts[index]..cuts[index + 1] }
    }

    /// Runs every task, each with the memory of its thread.
    pub fn run<S>(self, scratch: impl Fn() -> S + Sync + Send, run: impl Fn(&mut S, &Task) + Sync + Send) {
        let cuts = self.cuts();
        let cuts = &cuts[..];
        match cuts.len() - 1 {
            // Nothing to share: the pool would cost more than it gives.
            1 => run(&mut scratch(), &self.task(cuts, 0)),
            tasks => (0..tasks)
                .into_par_iter()
                .for_each_init(scratch, |scratch, index| run(scratch, &self.task(cuts, index))),
        }
    }

    /// Runs every task of each of at most [`PARTS`] parts after the other, and returns the sums of each part. The number of
    /// threads plays no part in how they are cut.
    pub fn sum<S, W: Send>(
        self,
        scratch: impl Fn() -> S + Sync + Send,
        sums: impl Fn() -> W + Sync + Send,
        run: impl Fn(&mut S, &mut W, &Task) + Sync + Send,
    ) -> Vec<W> {
        let cuts = self.cuts();
        let cuts = &cuts[..];
        let tasks = cuts.len() - 1;
        let of_part = tasks.div_ceil(PARTS);
        let part = |scratch: &mut S, part: usize| {
            let mut sums = sums();
            let tasks = part * of_part..tasks.min((part + 1) * of_part);
            tasks.for_each(|index| run(scratch, &mut sums, &self.task(cuts, index)));
            sums
        };
        (0..tasks.div_ceil(of_part)).into_par_iter().map_init(scratch, part).collect()
    }
}

/// Consecutive rows of a [`Sweep`].
pub(super) struct Task<'a> {
    sweep: Sweep<'a>,
    rows: Range<usize>,
}

impl Task<'_> {
    /// Rows with their edges by place in the list.
    pub fn rows(&self) -> impl Iterator<Item = (usize, Range<usize>)> {
        self.rows.clone().map(|at| self.sweep.row(at))
    }
}

impl<T: Element> Tile<T> {
    /// Fills the tile over and over: `push` appends edges of a row, and `full` computes what was pushed.
    pub fn walk(
        &mut self,
        rows: impl Iterator<Item = (usize, Range<usize>)>,
        mut push: impl FnMut(&mut Self, usize, Range<usize>),
        mut full: impl FnMut(&mut Self),
    ) {
        self.len = 0;
        for (row, mut edges) in rows {
            while !edges.is_empty() {
                let end = edges.end.min(edges.start + self.capacity - self.len);
                push(self, row, edges.start..end);
                edges.start = end;
                if self.len == self.capacity {
                    full(self);
                    self.len = 0;
                }
            }
        }
        full(self);
        self.len = 0;
    }
}

/// Edges of one task: as configured, but a problem of few edges is still cut into several. The number of threads plays no
/// part, since where a row is cut into tiles decides its last bits.
pub(super) fn edges_per_task<T>(call: &Call<T>, config: &HostConfig) -> usize {
    /// Fewer edges are not worth another thread.
    const LEAST: usize = 64;
    const TASKS: usize = 8;
    config.edges_per_task.clamp(1, call.sender.len().div_ceil(TASKS).max(LEAST))
}

/// An output whose rows are written by one task each.
pub(super) struct Rows<'a, T> {
    values: *mut T,
    len: usize,
    width: usize,
    borrowed: PhantomData<&'a mut [T]>,
}

// SAFETY: threads meet in `Rows::row` only, whose callers see to it that no two have the same row.
unsafe impl<T: Send> Sync for Rows<'_, T> {}

impl<'a, T> Rows<'a, T> {
    /// `None` where there is nothing to write.
    pub fn new(values: &'a mut [T], width: usize) -> Option<Self> {
        let (len, values) = (values.len(), values.as_mut_ptr());
        (len > 0).then_some(Self { values, len, width, borrowed: PhantomData })
    }

    /// # Safety
    /// While the slice lives, nobody else asks for this row.
    #[expect(clippy::mut_from_ref, reason = "the rows are disjoint")]
    unsafe fn row(&self, row: usize) -> &mut [T] {
        let range = row * self.width..(row + 1) * self.width;
        assert!(range.end <= self.len, "row {row} of {} elements of width {}", self.len, self.width);
        // SAFETY: within the slice that this was made of, which stays borrowed; the caller sees to the rest.
        unsafe { std::slice::from_raw_parts_mut(self.values.add(range.start), self.width) }
    }
}

/// Where the sums of a row go.
pub(super) trait Sink<T> {
    /// Adds to the row's features, or to its vectors, from element `at` on.
    fn add(&mut self, row: usize, to_vectors: bool, at: usize, values: &[T]);
}

/// Outputs of the atoms and edges that one task owns; `None` for what is not wanted.
pub(super) struct Owned<'a, T> {
    pub nodes: Option<&'a Rows<'a, T>>,
    pub vectors: Option<&'a Rows<'a, T>>,
    pub edge_vec: Option<&'a Rows<'a, T>>,
}

impl<T: Element> Owned<'_, T> {
    /// Zeros in the rows of a task.
    pub fn clear(&mut self, task: &Task) {
        for (row, _) in task.rows() {
            for rows in [self.nodes, self.vectors].into_iter().flatten() {
                // SAFETY: every row is in one task, and `&mut self` keeps a task from holding a row twice.
                unsafe { rows.row(row) }.fill(T::default());
            }
        }
    }

    /// The gradient in the vector of an edge, where it is wanted.
    pub fn edge(&mut self, edge: u32) -> Option<&mut [T]> {
        // SAFETY: an edge has one sender, whose task alone has it.
        self.edge_vec.map(|rows| unsafe { rows.row(edge as usize) })
    }
}

impl<T: Element> Sink<T> for Owned<'_, T> {
    #[inline]
    fn add(&mut self, row: usize, to_vectors: bool, at: usize, values: &[T]) {
        let Some(rows) = (if to_vectors { self.vectors } else { self.nodes }) else { return };
        // SAFETY: as in `clear`.
        let row = unsafe { rows.row(row) };
        for (slot, value) in row[at..at + values.len()].iter_mut().zip(values) {
            *slot += *value;
        }
    }
}

/// Rows that all tasks share.
pub(super) struct Shared<'a, T: Element> {
    pub features: usize,
    pub nodes: &'a [T::Cell],
    pub vectors: &'a [T::Cell],
}

impl<T: Element> Sink<T> for Shared<'_, T> {
    fn add(&mut self, row: usize, to_vectors: bool, at: usize, values: &[T]) {
        let cells =
            if to_vectors { &self.vectors[3 * row * self.features..] } else { &self.nodes[row * self.features..] };
        for (cell, value) in cells[at..].iter().zip(values) {
            T::atomic_add(cell, *value);
        }
    }
}
