//! The rows of receivers: candidates in vectors, edges one by one, sorted by rank.

use std::ops::Range;

use ff_spec::cell_list::{List, NeighborList};
use pulp::{Arch, Simd, WithSimd};

use super::bins::{Binned, PADDING, System, Systems};
use super::{HostConfig, Real, Shared, for_each_part};
use crate::host::Lane;

/// Candidates whose distances are computed together.
const BLOCK: usize = PADDING;

/// Rows up to this length are sorted by counting, for each edge, those before it: all comparisons in vectors and none of
/// them a branch. Beyond, the square of the length tells.
const RANKED: usize = 256;

/// The positions of the bits that are set in a byte, in ascending order.
static SET_BITS: [[u8; 8]; 256] = {
    let mut table = [[0; 8]; 256];
    let mut byte = 0;
    while byte < 256 {
        let (mut bit, mut n) = (0, 0);
        while bit < 8 {
            if byte >> bit & 1 == 1 {
                table[byte][n] = bit as u8;
                n += 1;
            }
            bit += 1;
        }
        byte += 1;
    }
    table
};

/// Writes the length of every row to the entry after it.
pub(super) fn count<T: Real>(binned: &Binned<T>, list: List, config: &HostConfig, row_ptr: &mut [u32]) {
    let lengths = Shared::new(&mut row_ptr[1..]);
    for_each_part(binned.atom.len(), config.rows_per_task, Scratch::default, |scratch, slots| {
        Arch::new().dispatch(Count { binned, list, slots, scratch, lengths: &lengths });
    });
}

/// Writes every row.
pub(super) fn fill<T: Real>(binned: &Binned<T>, list: List, config: &HostConfig, out: &mut NeighborList<T>) {
    let NeighborList { row_ptr, sender, shift, edge_vec, .. } = out;
    let rows =
        Rows { row_ptr, sender: Shared::new(sender), shift: Shared::new(shift), edge_vec: Shared::new(edge_vec) };
    for_each_part(binned.atom.len(), config.rows_per_task, Scratch::default, |scratch, slots| {
        Arch::new().dispatch(Fill { binned, list, slots, scratch, rows: &rows });
    });
}

/// What is being written, each row by one task.
struct Rows<'a, T> {
    row_ptr: &'a [u32],
    sender: Shared<'a, u32>,
    shift: Shared<'a, [i32; 3]>,
    edge_vec: Shared<'a, [T; 3]>,
}

/// The candidates of all atoms of one bin, side by side.
struct Candidates<T> {
    /// Positions in their images, padded to whole blocks.
    position: [Vec<T>; 3],
    slot: Vec<u32>,
    /// Index into `images`.
    image: Vec<u32>,
    /// S and S·H.
    images: Vec<([i32; 3], [T; 3])>,
}

/// An edge before it has its place.
#[derive(Clone, Copy)]
struct Edge<T> {
    sender: u32,
    shift: [i32; 3],
    vec: [T; 3],
}

struct Scratch<T> {
    candidates: Candidates<T>,
    /// Candidates within reach of one receiver.
    near: Vec<u32>,
    edges: Vec<Edge<T>>,
    keys: Vec<u32>,
    wide_keys: Vec<u64>,
    ranks: Vec<u32>,
}

impl<T: Real> Default for Scratch<T> {
    fn default() -> Self {
        Self {
            candidates: Candidates {
                position: std::array::from_fn(|_| Vec::new()),
                slot: Vec::new(),
                image: Vec::new(),
                images: Vec::new(),
            },
            near: Vec::new(),
            edges: Vec::new(),
            keys: Vec::new(),
            wide_keys: Vec::new(),
            ranks: Vec::new(),
        }
    }
}

impl<T: Real> Candidates<T> {
    /// Collects what is around a bin, in ascending order of images.
    #[inline(always)]
    fn gather(&mut self, binned: &Binned<T>, system: &System<T>, bin: u64) {
        self.slot.clear();
        self.image.clear();
        self.images.clear();
        self.position.iter_mut().for_each(Vec::clear);
        for (bins, image) in system.grid.around(bin) {
            let slots = binned.slots(system, bins);
            if slots.is_empty() {
                continue;
            }
            let translation = system.translation(image);
            for c in 0..3 {
                let moved = binned.wrapped[c][slots.clone()].iter().map(|x| *x + translation[c]);
                self.position[c].extend(moved);
            }
            self.image.resize(self.image.len() + slots.len(), self.images.len() as u32);
            self.slot.extend(slots.start as u32..slots.end as u32);
            self.images.push((image, translation));
        }
        let padded = self.slot.len().next_multiple_of(BLOCK);
        for x in &mut self.position {
            // Infinitely far from everything.
            x.resize(padded, T::from_f64(f64::INFINITY));
        }
    }

    /// How many candidates are certainly, and how many possibly, within the cutoff of a receiver; both count itself.
    #[inline(always)]
    fn count<S: Simd>(&self, simd: S, system: &System<T>, from: [T; 3]) -> [usize; 2] {
        let [certain, possible] = [system.certain, system.possible].map(|square| Lane::splat(simd, square));
        let [x, y, z] = [&self.position[0][..], &self.position[1][..], &self.position[2][..]];
        let from = from.map(|x| Lane::splat(simd, x));
        let mut counts = [0; 2];
        for first in (0..x.len()).step_by(T::lanes::<S>()) {
            let square = squares(simd, [x, y, z], first, from);
            counts[0] += square.at_most(certain).count_ones() as usize;
            counts[1] += square.at_most(possible).count_ones() as usize;
        }
        counts
    }

    /// The candidates that are possibly within the cutoff.
    #[inline(always)]
    fn near<S: Simd>(&self, simd: S, system: &System<T>, from: [T; 3], near: &mut Vec<u32>) {
        let possible = Lane::splat(simd, system.possible);
        let [x, y, z] = [&self.position[0][..], &self.position[1][..], &self.position[2][..]];
        let from = from.map(|x| Lane::splat(simd, x));
        // What follows the last one found is written as well.
        near.resize(x.len() + 8, 0);
        let found = &mut near[..];
        let mut n = 0;
        for first in (0..x.len()).step_by(T::lanes::<S>()) {
            let mask = squares(simd, [x, y, z], first, from).at_most(possible);
            for octet in 0..T::lanes::<S>().div_ceil(8) {
                let byte = mask >> (8 * octet) & 0xff;
                let (base, set) = ((first + 8 * octet) as u32, SET_BITS[byte as usize]);
                let mut indices = [0u32; 8];
                for l in 0..8 {
                    indices[l] = base + u32::from(set[l]);
                }
                found[n..n + 8].copy_from_slice(&indices);
                n += byte.count_ones() as usize;
            }
        }
        near.truncate(n);
    }
}

/// Squared distances of a register of positions.
#[inline(always)]
fn squares<S: Simd, T: Real>(simd: S, [x, y, z]: [&[T]; 3], first: usize, from: [Lane<S, T>; 3]) -> Lane<S, T> {
    let dx = Lane::load_full(simd, &x[first..]) - from[0];
    let dy = Lane::load_full(simd, &y[first..]) - from[1];
    let dz = Lane::load_full(simd, &z[first..]) - from[2];
    dx.mul_add(dx, dy.mul_add(dy, dz * dz))
}

/// Calls `row` for every receiver with its candidates.
macro_rules! for_each_row {
    ($binned:expr, $slots:expr, $candidates:expr, |$system:ident, $slot:ident, $from:ident| $row:block) => {
        let (mut systems, mut gathered) = (Systems::default(), None);
        for $slot in $slots {
            let $system = systems.of(&$binned.systems, $slot);
            let bin = ($system.atoms.start, $binned.bin[$slot]);
            if gathered != Some(bin) {
                $candidates.gather($binned, $system, bin.1);
                gathered = Some(bin);
            }
            let [x, y, z] = &$binned.wrapped;
            let $from = [x[$slot], y[$slot], z[$slot]];
            $row
        }
    };
}

struct Count<'a, T> {
    binned: &'a Binned<T>,
    list: List,
    slots: Range<usize>,
    scratch: &'a mut Scratch<T>,
    lengths: &'a Shared<'a, u32>,
}

impl<T: Real> WithSimd for Count<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { binned, list, slots, scratch, lengths } = self;
        let Scratch { candidates, near, edges, .. } = scratch;
        for_each_row!(binned, slots, candidates, |system, slot, from| {
            let counted = match list {
                List::Full => candidates.count(simd, system, from),
                // Which of them a half list has is asked edge by edge.
                List::Half => [0, 1],
            };
            let length = if counted[0] == counted[1] {
                counted[0] - 1
            } else {
                candidates.near(simd, system, from, near);
                take_edges(binned, system, candidates, list, slot, near, edges);
                edges.len()
            };
            // SAFETY: the slot of an atom is in one task only.
            let entry = unsafe { lengths.get(binned.atom[slot] as usize..binned.atom[slot] as usize + 1) };
            entry[0] = u32::try_from(length).unwrap_or(u32::MAX);
        });
    }
}

struct Fill<'a, T> {
    binned: &'a Binned<T>,
    list: List,
    slots: Range<usize>,
    scratch: &'a mut Scratch<T>,
    rows: &'a Rows<'a, T>,
}

impl<T: Real> WithSimd for Fill<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { binned, list, slots, scratch, rows } = self;
        let Scratch { candidates, near, edges, keys, wide_keys, ranks } = scratch;
        for_each_row!(binned, slots, candidates, |system, slot, from| {
            candidates.near(simd, system, from, near);
            take_edges(binned, system, candidates, list, slot, near, edges);
            let atom = binned.atom[slot] as usize;
            let row = rows.row_ptr[atom] as usize..rows.row_ptr[atom + 1] as usize;
            assert_eq!(edges.len(), row.len(), "both passes must find the same edges");
            if edges.len() > RANKED {
                // Stable: edges of one sender are in ascending order of images, and so of shifts.
                edges.sort_by_key(|edge| edge.sender);
                ranks.clear();
                ranks.extend(0..edges.len() as u32);
            } else if system.grid.many_images {
                wide_keys.clear();
                wide_keys.extend(edges.iter().zip(0u64..).map(|(edge, k)| u64::from(edge.sender) << 32 | k));
                rank(wide_keys, u64::MAX, ranks);
            } else {
                keys.clear();
                keys.extend(edges.iter().map(|edge| edge.sender));
                rank(keys, u32::MAX, ranks);
            }
            // SAFETY: the row belongs to the atom of this slot, which is in one task only.
            let (sender, shift, edge_vec) =
                unsafe { (rows.sender.get(row.clone()), rows.shift.get(row.clone()), rows.edge_vec.get(row)) };
            for (edge, rank) in edges.iter().zip(&*ranks) {
                let at = *rank as usize;
                (sender[at], shift[at], edge_vec[at]) = (edge.sender, edge.shift, edge.vec);
            }
        });
    }
}

/// Those of the near candidates that are edges of the list, in ascending order of images.
#[inline(always)]
fn take_edges<T: Real>(
    binned: &Binned<T>,
    system: &System<T>,
    candidates: &Candidates<T>,
    list: List,
    receiver: usize,
    near: &[u32],
    edges: &mut Vec<Edge<T>>,
) {
    edges.clear();
    edges.resize(near.len(), Edge { sender: 0, shift: [0; 3], vec: [T::default(); 3] });
    let (position, atom, wrap) = (binned.position[receiver], binned.atom[receiver], binned.wrap[receiver]);
    let cutoff2 = binned.cutoff * binned.cutoff;
    let mut n = 0;
    for &candidate in near {
        let slot = candidates.slot[candidate as usize] as usize;
        let (mut shift, mut lattice) = candidates.images[candidates.image[candidate as usize] as usize];
        if system.unwrapped {
            for k in 0..3 {
                shift[k] += wrap[k] - binned.wrap[slot][k];
            }
            lattice = system.translation(shift);
        }
        let x = binned.position[slot];
        // In this order of operations the reverse edge is the exact negative.
        let vec =
            [(x[0] - position[0]) + lattice[0], (x[1] - position[1]) + lattice[1], (x[2] - position[2]) + lattice[2]];
        let square = vec[0] * vec[0] + vec[1] * vec[1] + vec[2] * vec[2];
        let sender = binned.atom[slot];
        edges[n] = Edge { sender, shift, vec };
        let itself = slot == receiver && shift == [0; 3];
        n += usize::from(square < cutoff2 && !itself && list.has(atom, sender, shift));
    }
    edges.truncate(n);
}

/// For every key how many keys are less; keys are unique and below `largest`.
#[inline(always)]
fn rank<K: Copy + Ord>(keys: &mut Vec<K>, largest: K, ranks: &mut Vec<u32>) {
    let n = keys.len();
    keys.resize(n.next_multiple_of(BLOCK), largest);
    ranks.clear();
    ranks.resize(keys.len(), 0);
    for (own, ranks) in keys.chunks_exact(BLOCK).zip(ranks.chunks_exact_mut(BLOCK)) {
        let mut less = [0u32; BLOCK];
        for other in &keys[..n] {
            for l in 0..BLOCK {
                less[l] += u32::from(*other < own[l]);
            }
        }
        ranks.copy_from_slice(&less);
    }
}
