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
    /// What is to be added to a slot of this bin for its place among the candidates.
    own: usize,
}

struct Scratch<T> {
    candidates: Candidates<T>,
    /// Candidates within reach of one receiver, then those of them that are edges.
    near: Vec<u32>,
    /// Their senders.
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
                own: 0,
            },
            near: Vec::new(),
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
            let slots = binned.slots(system, bins.clone());
            if slots.is_empty() {
                continue;
            }
            let translation = system.translation(image);
            for ((own, wrapped), by) in self.position.iter_mut().zip(&binned.wrapped).zip(translation) {
                own.extend(wrapped[slots.clone()].iter().map(|x| *x + by));
            }
            self.image.resize(self.image.len() + slots.len(), self.images.len() as u32);
            if image == [0; 3] && bins.contains(&bin) {
                self.own = self.slot.len().wrapping_sub(slots.start);
            }
            self.slot.extend(slots.start as u32..slots.end as u32);
            self.images.push((image, translation));
        }
        let padded = self.slot.len().next_multiple_of(BLOCK);
        for x in &mut self.position {
            // Compares as near with nothing, not even where rounding makes everything possible.
            x.resize(padded, T::from_f64(f64::NAN));
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

    /// The candidates that are possibly within the cutoff; whether all of them certainly are.
    #[inline(always)]
    fn near<S: Simd>(&self, simd: S, system: &System<T>, from: [T; 3], near: &mut Vec<u32>) -> bool {
        let [certain, possible] = [system.certain, system.possible].map(|square| Lane::splat(simd, square));
        let mut doubtful = 0;
        let [x, y, z] = [&self.position[0][..], &self.position[1][..], &self.position[2][..]];
        let from = from.map(|x| Lane::splat(simd, x));
        // What follows the last one found is written as well.
        near.resize(x.len() + 8, 0);
        let found = &mut near[..];
        let mut n = 0;
        for first in (0..x.len()).step_by(T::lanes::<S>()) {
            let square = squares(simd, [x, y, z], first, from);
            let mask = square.at_most(possible);
            doubtful |= mask ^ square.at_most(certain);
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
        doubtful == 0
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
        let Scratch { candidates, near, keys, .. } = scratch;
        for_each_row!(binned, slots, candidates, |system, slot, from| {
            let counted = match list {
                List::Full => candidates.count(simd, system, from),
                // Which of them a half list has is asked edge by edge.
                List::Half => [0, 1],
            };
            let length = if counted[0] == counted[1] {
                counted[0] - 1
            } else {
                let certain = candidates.near(simd, system, from, near);
                Receiver::new(binned, system, candidates, slot).keep_edges(list, certain, near, keys);
                near.len()
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
        let Scratch { candidates, near, keys, wide_keys, ranks } = scratch;
        for_each_row!(binned, slots, candidates, |system, slot, from| {
            let certain = candidates.near(simd, system, from, near);
            let receiver = Receiver::new(binned, system, candidates, slot);
            receiver.keep_edges(list, certain, near, keys);
            let atom = receiver.atom as usize;
            let row = rows.row_ptr[atom] as usize..rows.row_ptr[atom + 1] as usize;
            assert_eq!(near.len(), row.len(), "both passes must find the same edges");
            if near.len() > RANKED {
                ranks.clear();
                ranks.resize(near.len(), 0);
                wide_keys.clear();
                wide_keys.extend(keys.iter().zip(0u64..).map(|(sender, k)| u64::from(*sender) << 32 | k));
                wide_keys.sort_unstable();
                for (rank, key) in (0..).zip(&*wide_keys) {
                    ranks[(key & u64::from(u32::MAX)) as usize] = rank;
                }
            } else if system.grid.many_images {
                // Candidates are in ascending order of images, and so are the shifts of one sender.
                wide_keys.clear();
                wide_keys.extend(keys.iter().zip(0u64..).map(|(sender, k)| u64::from(*sender) << 32 | k));
                rank(wide_keys, u64::MAX, ranks);
            } else {
                rank(keys, u32::MAX, ranks);
            }
            // SAFETY: the row belongs to the atom of this slot, which is in one task only.
            let (sender, shift, edge_vec) =
                unsafe { (rows.sender.get(row.clone()), rows.shift.get(row.clone()), rows.edge_vec.get(row)) };
            for ((candidate, key), rank) in near.iter().zip(&*keys).zip(&*ranks) {
                let at = *rank as usize;
                (shift[at], edge_vec[at]) = receiver.edge(*candidate);
                sender[at] = *key;
            }
        });
    }
}

/// One row in the making.
struct Receiver<'a, T> {
    binned: &'a Binned<T>,
    system: &'a System<T>,
    candidates: &'a Candidates<T>,
    /// Its place among the candidates.
    own: u32,
    atom: u32,
    position: [T; 3],
    wrap: [i32; 3],
}

impl<'a, T: Real> Receiver<'a, T> {
    #[inline(always)]
    fn new(binned: &'a Binned<T>, system: &'a System<T>, candidates: &'a Candidates<T>, slot: usize) -> Self {
        let own = candidates.own.wrapping_add(slot) as u32;
        let (atom, position, wrap) = (binned.atom[slot], binned.position[slot], binned.wrap[slot]);
        Self { binned, system, candidates, own, atom, position, wrap }
    }

    /// S and r_ij of a candidate.
    #[inline(always)]
    fn edge(&self, candidate: u32) -> ([i32; 3], [T; 3]) {
        let slot = self.candidates.slot[candidate as usize] as usize;
        let (mut shift, mut lattice) = self.candidates.images[self.candidates.image[candidate as usize] as usize];
        if self.system.unwrapped {
            for (k, s) in shift.iter_mut().enumerate() {
                *s += self.wrap[k] - self.binned.wrap[slot][k];
            }
            lattice = self.system.translation(shift);
        }
        let (x, own) = (self.binned.position[slot], self.position);
        // In this order of operations the reverse edge is the exact negative.
        let vec = [(x[0] - own[0]) + lattice[0], (x[1] - own[1]) + lattice[1], (x[2] - own[2]) + lattice[2]];
        (shift, vec)
    }

    /// Keeps those of the near candidates that are edges of the list, in their order, and lists their senders.
    #[inline(always)]
    fn keep_edges(&self, list: List, certain: bool, near: &mut Vec<u32>, keys: &mut Vec<u32>) {
        keys.clear();
        keys.resize(near.len(), 0);
        let cutoff2 = self.binned.cutoff * self.binned.cutoff;
        let mut n = 0;
        for k in 0..near.len() {
            let candidate = near[k];
            let sender = self.binned.atom[self.candidates.slot[candidate as usize] as usize];
            let mut keep = candidate != self.own;
            if !certain || list == List::Half {
                let (shift, r) = self.edge(candidate);
                keep &= r[0] * r[0] + r[1] * r[1] + r[2] * r[2] < cutoff2 && list.has(self.atom, sender, shift);
            }
            (near[n], keys[n]) = (candidate, sender);
            n += usize::from(keep);
        }
        near.truncate(n);
        keys.truncate(n);
    }
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
