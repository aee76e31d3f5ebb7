//! The rows of receivers: candidates in vectors, edges in the order of their senders.

use std::ops::Range;

use ff_spec::cell_list::{List, NeighborList};
use pulp::{Arch, Simd, WithSimd};

use super::bins::{Binned, System, Systems};
use super::{HostConfig, Real, Shared, for_each_part};
use crate::{Element, Lane, MAX_LANES};

/// The positions of the bits that are set in a byte, in ascending order.
static SET_BITS: [[u16; 8]; 256] = {
    let mut table = [[0; 8]; 256];
    let mut byte = 0;
    while byte < 256 {
        let (mut bit, mut n) = (0, 0);
        while bit < 8 {
            if byte >> bit & 1 == 1 {
                table[byte][n] = bit;
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
    // A full list is counted without asking who is whose sender.
    let order = match list {
        List::Full => Order::Slots,
        List::Half => Order::Rows,
    };
    for_each_part(binned.atom.len(), config.rows_per_task, Scratch::default, |scratch, slots| {
        Arch::new().dispatch(Rows { binned, list, order, slots, scratch, write: Lengths(&lengths) });
    });
}

/// Writes every row.
pub(super) fn fill<T: Real>(binned: &Binned<T>, list: List, config: &HostConfig, out: &mut NeighborList<T>) {
    let NeighborList { row_ptr, sender, shift, edge_vec, .. } = out;
    let edges =
        Edges { row_ptr, sender: Shared::new(sender), shift: Shared::new(shift), edge_vec: Shared::new(edge_vec) };
    for_each_part(binned.atom.len(), config.rows_per_task, Scratch::default, |scratch, slots| {
        Arch::new().dispatch(Rows { binned, list, order: Order::Rows, slots, scratch, write: &edges });
    });
}

/// An image of an atom that may be within reach of a bin.
#[derive(Clone, Copy, Default)]
struct Candidate {
    atom: u32,
    slot: u32,
    /// Index into [`Candidates::images`].
    image: u32,
}

/// A translation by whole cells, four wide as registers are.
#[derive(Clone, Copy)]
struct Image<T> {
    shift: [i32; 4],
    /// S·H.
    lattice: [T; 4],
    /// S·H as proposals have it.
    near: [f32; 3],
}

/// The order of candidates.
#[derive(Clone, Copy, PartialEq)]
enum Order {
    /// As they lie in memory.
    Slots,
    /// As rows are sorted: by (atom, image).
    Rows,
}

/// The candidates of all atoms of one bin, side by side.
struct Candidates<T> {
    all: Vec<Candidate>,
    sorted: Vec<Candidate>,
    /// In ascending order of shifts.
    images: Vec<Image<T>>,
    /// Positions in their images, padded to whole registers.
    near: [Vec<f32>; 3],
    /// Where the atoms of the bin itself are among them, from its first slot on.
    own: Vec<u32>,
}

struct Scratch<T> {
    candidates: Candidates<T>,
    /// A bit for every candidate of one receiver, set where it is its edge; a word for every register of them.
    masks: Vec<u16>,
    /// The same as indices.
    found: Vec<u32>,
}

impl<T> Default for Scratch<T> {
    fn default() -> Self {
        let candidates = Candidates {
            all: Vec::new(),
            sorted: Vec::new(),
            images: Vec::new(),
            near: std::array::from_fn(|_| Vec::new()),
            own: Vec::new(),
        };
        Self { candidates, masks: Vec::new(), found: Vec::new() }
    }
}

impl<T: Real> Candidates<T> {
    /// Collects what is around a bin.
    #[inline(always)]
    fn gather(&mut self, binned: &Binned<T>, system: &System<T>, bin: u64, order: Order) {
        self.all.clear();
        self.images.clear();
        self.near.iter_mut().for_each(Vec::clear);
        let (mut home, mut own_slots) = (0, 0..0);
        for (bins, shift) in system.grid.around(bin) {
            let slots = binned.slots(system, bins.clone());
            if slots.is_empty() {
                continue;
            }
            let image = self.images.len() as u32;
            let [x, y, z] = system.translation(shift);
            let near = if system.extreme { [0.0; 3] } else { [x, y, z].map(|x| x.to_f64() as f32) };
            self.images.push(Image {
                shift: [shift[0], shift[1], shift[2], 0],
                lattice: [x, y, z, T::default()],
                near,
            });
            if shift == [0; 3] && bins.contains(&bin) {
                (home, own_slots) = (image, binned.slots(system, bin..=bin));
            }
            if order == Order::Slots {
                for ((own, wrapped), by) in self.near.iter_mut().zip(&binned.wrapped).zip(near) {
                    own.extend(wrapped[slots.clone()].iter().map(|x| *x + by));
                }
            }
            let atoms = &binned.atom[slots.clone()];
            let first = slots.start;
            self.all.extend((0..atoms.len()).map(|k| Candidate { atom: atoms[k], slot: (first + k) as u32, image }));
        }
        if order == Order::Rows {
            sort(&mut self.all, &mut self.sorted, system.atoms.clone());
            let n = self.all.len();
            self.near.iter_mut().for_each(|x| x.resize(n, 0.0));
            let [x, y, z] = &mut self.near;
            let [from_x, from_y, from_z] = &binned.wrapped;
            for (candidate, ((x, y), z)) in self.all.iter().zip(x.iter_mut().zip(y).zip(z)) {
                let (slot, by) = (candidate.slot as usize, self.images[candidate.image as usize].near);
                (*x, *y, *z) = (from_x[slot] + by[0], from_y[slot] + by[1], from_z[slot] + by[2]);
            }
        }
        self.own.clear();
        self.own.resize(own_slots.len(), 0);
        for (at, candidate) in (0..).zip(&self.all) {
            let own = (candidate.slot as usize).wrapping_sub(own_slots.start);
            if own < self.own.len() && candidate.image == home {
                self.own[own] = at;
            }
        }
        let padded = self.all.len().next_multiple_of(MAX_LANES);
        for x in &mut self.near {
            // Compares as near with nothing, not even where sizes are extreme.
            x.resize(padded, f32::NAN);
        }
    }

    /// Sets the bits of the candidates that are edges of a receiver.
    #[inline(always)]
    fn scan<S: Simd>(&self, simd: S, receiver: &Receiver<'_, T>, list: List, masks: &mut Vec<u16>) {
        let lanes = f32::lanes::<S>();
        let [certain, possible] =
            [receiver.system.certain, receiver.system.possible].map(|square| Lane::splat(simd, square));
        let from = receiver.near.map(|x| Lane::splat(simd, x));
        let [x, y, z] = &self.near;
        masks.clear();
        masks.resize(x.len() / lanes, 0);
        let mut doubtful = 0u16;
        let positions = x.chunks_exact(lanes).zip(y.chunks_exact(lanes)).zip(z.chunks_exact(lanes));
        for (mask, ((x, y), z)) in masks.iter_mut().zip(positions) {
            let dx = Lane::load_full(simd, x) - from[0];
            let dy = Lane::load_full(simd, y) - from[1];
            let dz = Lane::load_full(simd, z) - from[2];
            let square = dx.mul_add(dx, dy.mul_add(dy, dz * dz));
            *mask = square.at_most(possible) as u16;
            doubtful |= *mask ^ square.at_most(certain) as u16;
        }
        // No edge to itself; in the order of rows a half list has what follows.
        let (word, bit) = (receiver.own / lanes, receiver.own % lanes);
        masks[word] &= !(1 << bit);
        if list == List::Half {
            masks[..word].fill(0);
            masks[word] &= !((1 << bit) - 1);
        }
        if doubtful != 0 {
            receiver.decide(lanes, masks);
        }
    }
}

/// The indices of all bits that are set.
#[inline(always)]
fn expand(lanes: usize, masks: &[u16], found: &mut Vec<u32>) {
    const BYTE: usize = 8;
    // What follows the last one found is written as well.
    found.resize(masks.len() * lanes + BYTE, 0);
    let mut n = 0;
    for (word, mask) in masks.iter().enumerate() {
        for first in (0..lanes).step_by(BYTE) {
            let byte = u32::from(*mask) >> first & 0xff;
            let (base, set) = ((word * lanes + first) as u32, &SET_BITS[byte as usize]);
            let out = &mut found[n..n + BYTE];
            for l in 0..BYTE {
                out[l] = base + u32::from(set[l]);
            }
            n += byte.count_ones() as usize;
        }
    }
    found.truncate(n);
}

/// Sorts by atom, candidates of one atom in the order they had: by digits of the atom counted from the first of the system.
#[inline(always)]
fn sort(all: &mut Vec<Candidate>, sorted: &mut Vec<Candidate>, atoms: Range<usize>) {
    const MOST_BITS: u32 = 9;
    /// Fewer are sorted faster by comparing them.
    const FEW: usize = 48;
    if all.len() < FEW {
        return all.sort_by_key(|candidate| candidate.atom);
    }
    let bits = usize::BITS - atoms.len().leading_zeros();
    let passes = bits.div_ceil(MOST_BITS);
    let digits = bits.div_ceil(passes);
    sorted.resize(all.len(), Candidate::default());
    let mut starts = [0u32; 1 << MOST_BITS];
    let starts = &mut starts[..1 << digits];
    for pass in 0..passes {
        let digit = |candidate: &Candidate| {
            (candidate.atom - atoms.start as u32) as usize >> (pass * digits) & ((1 << digits) - 1)
        };
        starts.fill(0);
        all.iter().for_each(|candidate| starts[digit(candidate)] += 1);
        let mut total = 0;
        for start in &mut *starts {
            total += std::mem::replace(start, total);
        }
        for candidate in &*all {
            let start = &mut starts[digit(candidate)];
            sorted[*start as usize] = *candidate;
            *start += 1;
        }
        std::mem::swap(all, sorted);
    }
}

/// The rows of some slots.
struct Rows<'a, T, W> {
    binned: &'a Binned<T>,
    list: List,
    order: Order,
    slots: Range<usize>,
    scratch: &'a mut Scratch<T>,
    write: W,
}

/// What becomes of a row.
trait Write<T: Real> {
    fn row(&self, receiver: &Receiver<'_, T>, lanes: usize, masks: &[u16], found: &mut Vec<u32>);
}

impl<T: Real, W: Write<T>> WithSimd for Rows<'_, T, W> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { binned, list, order, slots, scratch: Scratch { candidates, masks, found }, write } = self;
        let (mut systems, mut gathered, mut first) = (Systems::default(), None, 0);
        for slot in slots {
            let system = systems.of(&binned.systems, slot);
            let bin = (system.atoms.start, binned.bin[slot]);
            if gathered != Some(bin) {
                candidates.gather(binned, system, bin.1, order);
                (gathered, first) = (Some(bin), binned.slots(system, bin.1..=bin.1).start);
            }
            let receiver = Receiver {
                binned,
                system,
                candidates,
                own: candidates.own[slot - first] as usize,
                atom: binned.atom[slot],
                near: std::array::from_fn(|k| binned.wrapped[k][slot]),
                position: binned.position[slot],
                wrap: binned.wrap[slot],
            };
            candidates.scan(simd, &receiver, list, masks);
            write.row(&receiver, f32::lanes::<S>(), masks, found);
        }
    }
}

/// The lengths of rows.
struct Lengths<'a>(&'a Shared<'a, u32>);

impl<T: Real> Write<T> for Lengths<'_> {
    #[inline(always)]
    fn row(&self, receiver: &Receiver<'_, T>, _: usize, masks: &[u16], _: &mut Vec<u32>) {
        let length: usize = masks.iter().map(|mask| mask.count_ones() as usize).sum();
        let atom = receiver.atom as usize;
        // SAFETY: the slot of an atom is in one task only.
        let entry = unsafe { self.0.get(atom..atom + 1) };
        entry[0] = u32::try_from(length).unwrap_or(u32::MAX);
    }
}

/// The rows themselves.
struct Edges<'a, T> {
    row_ptr: &'a [u32],
    sender: Shared<'a, u32>,
    shift: Shared<'a, [i32; 3]>,
    edge_vec: Shared<'a, [T; 3]>,
}

impl<T: Real> Write<T> for &Edges<'_, T> {
    #[inline(always)]
    fn row(&self, receiver: &Receiver<'_, T>, lanes: usize, masks: &[u16], found: &mut Vec<u32>) {
        expand(lanes, masks, found);
        let atom = receiver.atom as usize;
        let row = self.row_ptr[atom] as usize..self.row_ptr[atom + 1] as usize;
        assert_eq!(found.len(), row.len(), "both passes must find the same edges");
        // SAFETY: the row belongs to the atom of this slot, which is in one task only.
        let (sender, shift, edge_vec) =
            unsafe { (self.sender.get(row.clone()), self.shift.get(row.clone()), self.edge_vec.get(row)) };
        for (sender, candidate) in sender.iter_mut().zip(&*found) {
            *sender = receiver.candidates.all[*candidate as usize].atom;
        }
        let (shift, edge_vec) = (shift.as_flattened_mut(), edge_vec.as_flattened_mut());
        let Some((last, others)) = found.split_last() else { return };
        let mut at = 0;
        for candidate in others {
            let (s, r) = receiver.edge(*candidate);
            // The fourth is written over by the next edge.
            shift[at..at + 4].copy_from_slice(&s);
            edge_vec[at..at + 4].copy_from_slice(&r);
            at += 3;
        }
        let (s, r) = receiver.edge(*last);
        shift[at..].copy_from_slice(&s[..3]);
        edge_vec[at..].copy_from_slice(&r[..3]);
    }
}

/// One row in the making.
struct Receiver<'a, T> {
    binned: &'a Binned<T>,
    system: &'a System<T>,
    candidates: &'a Candidates<T>,
    /// Its place among the candidates.
    own: usize,
    atom: u32,
    /// Where proposals see it.
    near: [f32; 3],
    position: [T; 4],
    wrap: [i32; 3],
}

impl<T: Real> Receiver<'_, T> {
    /// S and r_ij of a candidate.
    #[inline(always)]
    fn edge(&self, candidate: u32) -> ([i32; 4], [T; 4]) {
        let candidate = self.candidates.all[candidate as usize];
        let slot = candidate.slot as usize;
        let Image { mut shift, mut lattice, .. } = self.candidates.images[candidate.image as usize];
        if self.system.unwrapped {
            for (k, s) in shift[..3].iter_mut().enumerate() {
                *s += self.wrap[k] - self.binned.wrap[slot][k];
            }
            let [x, y, z] = self.system.translation([shift[0], shift[1], shift[2]]);
            lattice = [x, y, z, T::default()];
        }
        let (x, own) = (&self.binned.position[slot], &self.position);
        // In this order of operations the reverse edge is the exact negative.
        (shift, std::array::from_fn(|c| (x[c] - own[c]) + lattice[c]))
    }

    /// Clears the bits of all candidates whose edge vectors are not within the cutoff.
    #[cold]
    fn decide(&self, lanes: usize, masks: &mut [u16]) {
        let cutoff2 = self.binned.cutoff * self.binned.cutoff;
        for (word, mask) in masks.iter_mut().enumerate() {
            let mut left = *mask;
            while left != 0 {
                let bit = left.trailing_zeros();
                left &= left - 1;
                let (_, r) = self.edge((word * lanes) as u32 + bit);
                let is_edge = r[0] * r[0] + r[1] * r[1] + r[2] * r[2] < cutoff2;
                *mask &= !(u16::from(!is_edge) << bit);
            }
        }
    }
}
