//! The kernels of `cell_list`, in the order in which they run.
//!
//! An atom has an id, its place in `positions`, and a slot, its place among the atoms sorted by folded bin. Its row is walked
//! twice by `units_per_atom` neighbouring units, which share the candidates of each run of bins: first they count, then
//! they write, each behind the units before it. What is written is the sender and the image, by which a row is sorted; the
//! shift and the edge vector follow from them and are written once, where they belong.

#![allow(missing_docs, reason = "`#[cube]` expands into items that carry no documentation")]
#![allow(clippy::collapsible_if, reason = "`&&` of a kernel computes both sides, a nested `if` only what it needs")]
#![allow(clippy::collapsible_else_if, reason = "as above")]

use cubecl::ir::StorageType;
use cubecl::prelude::*;

use super::fold::{
    BASIS, BINS, BOUND, CERTAIN, CUTOFF2, DUAL, FIRST, FLOATS, FOLDED, IMAGES, INTEGERS, MOVED2, ORIGIN, POSSIBLE,
    SCALE, SPAN,
};

// Every kernel names its element type by this one, so that the pieces are compiled once for all of them.
cubecl::define_scalar!(pub Real);

/// Integers of an atom in `places`: the cell it lies in [3], its bin [3], its system (−1 − that of one whose list is kept), its
/// rank among the atoms of its bin.
pub const PLACE: usize = 8;
const BIN: usize = 3;
const SYSTEM: usize = 6;
const RANK: usize = 7;

/// Entries of `report`: edges of the list, what went wrong, and the most edges that there was no room for.
pub const REPORT: usize = 3;
/// The two walks found different edges.
pub const WALKS_DIFFER: u32 = 1;
/// An edge has no reverse.
pub const NO_REVERSE: u32 = 2;
/// A loop ended before its condition did: Mesa's software Vulkan (22.3) allows a unit 65,535 turns of all its loops.
pub const LOOP_CUT: u32 = 3;
/// An atom is further out than its grid allows, or nowhere.
pub const OUT_OF_REACH: u32 = 4;

/// The grids of all systems; see [`super::fold`].
#[derive(CubeLaunch, CubeType)]
pub struct Grids<F: Float> {
    /// [n_systems, FLOATS].
    pub floats: Array<F>,
    /// [n_systems, INTEGERS].
    pub integers: Array<u32>,
}

/// A point or an arrow in Å.
#[derive(CubeType)]
pub struct Point<F: Float> {
    pub x: F,
    pub y: F,
    pub z: F,
}

/// What is found at one place of a neighbourhood, along one direction.
#[derive(CubeType)]
pub struct Seen {
    /// The image.
    pub image: i32,
    /// The folded bin.
    pub folded: i32,
    /// Bins of the same image from here on that follow each other in memory.
    pub run: i32,
}

#[cube]
impl<F: Float> Grids<F> {
    /// A float of a system.
    pub fn float(&self, system: usize, k: usize) -> F {
        self.floats[system * FLOATS + k]
    }

    /// An integer of a system.
    pub fn integer(&self, system: usize, k: usize) -> i32 {
        i32::cast_from(self.integers[system * INTEGERS + k])
    }

    /// S·H.
    pub fn translation(&self, system: usize, s: i32, t: i32, u: i32) -> Point<F> {
        let (s, t, u) = (F::cast_from(s), F::cast_from(t), F::cast_from(u));
        let at = system * FLOATS + BASIS;
        Point::<F> {
            x: s * self.floats[at] + t * self.floats[at + 3] + u * self.floats[at + 6],
            y: s * self.floats[at + 1] + t * self.floats[at + 4] + u * self.floats[at + 7],
            z: s * self.floats[at + 2] + t * self.floats[at + 5] + u * self.floats[at + 8],
        }
    }

    /// What bin `index` along direction `k` is, which may lie in another image.
    pub fn see(&self, system: usize, k: usize, index: i32) -> Seen {
        let n = self.integer(system, BINS + k);
        let m = self.integer(system, FOLDED + k);
        let mut image = 0i32;
        if n > 0 {
            image = floor_div(index, n);
        }
        let bin = index - image * n;
        let folded = bin - floor_div(bin, m) * m;
        let mut run = m - folded;
        if n > 0 {
            run = min(run, n - bin);
        }
        Seen { image, folded, run }
    }

    /// The folded bin of three bins within the cell, among those of all systems.
    pub fn folded_bin(&self, system: usize, i: i32, j: i32, k: i32) -> u32 {
        let i = self.see(system, 0usize, i).folded;
        let j = self.see(system, 1usize, j).folded;
        let k = self.see(system, 2usize, k).folded;
        let at = system * INTEGERS;
        let row = u32::cast_from(i) * self.integers[at + FOLDED + 1] + u32::cast_from(j);
        self.integers[at + FIRST] + row * self.integers[at + FOLDED + 2] + u32::cast_from(k)
    }
}

/// The system of an atom in `places`.
#[cube]
fn system_of(places: &Array<i32>, atom: usize) -> usize {
    let system = places[PLACE * atom + SYSTEM];
    select(system < 0, -1 - system, system) as usize
}

/// Whether the list of an atom is kept as it is.
#[cube]
fn is_kept(places: &Array<i32>, atom: usize) -> bool {
    places[PLACE * atom + SYSTEM] < 0
}

/// ⌊a / b⌋ for b > 0.
#[cube]
fn floor_div(a: i32, b: i32) -> i32 {
    let quotient = a / b;
    select(quotient * b > a, quotient - 1, quotient)
}

/// The last of `n` ascending starts that does not exceed `at`.
#[cube]
fn last_start(starts: &Array<u32>, n: usize, at: u32) -> usize {
    let mut low = 0usize;
    let mut high = n;
    while low + 1 < high {
        let middle = (low + high) / 2;
        if starts[middle] <= at {
            low = middle;
        } else {
            high = middle;
        }
    }
    low
}

/// r_ij of an edge whose sender is seen in image S. In this order of operations the reverse edge is the exact negative.
#[cube]
fn edge_vec<F: Float>(positions: &Array<F>, receiver: usize, sender: usize, translation: &Point<F>) -> Point<F> {
    let (i, j) = (3 * receiver, 3 * sender);
    Point::<F> {
        x: (positions[j] - positions[i]) + translation.x,
        y: (positions[j + 1] - positions[i + 1]) + translation.y,
        z: (positions[j + 2] - positions[i + 2]) + translation.z,
    }
}

/// Whether there is an edge `edge`, and room for the list.
#[cube]
fn is_edge(row_ptr: &Array<u32>, edge: usize, n_atoms: u32, capacity: u32) -> bool {
    let n_edges = row_ptr[n_atoms as usize];
    n_edges <= capacity && edge < n_edges as usize
}

/// Marks in `moved` [n_systems] what may miss a pair: systems with an atom that has moved too far since they were built, and
/// all of them where something went wrong before.
#[cube(launch_unchecked, explicit_define)]
pub fn find_moved<F: Float>(
    positions: &Array<F>,
    built_at: &Array<F>,
    system_ptr: &Array<u32>,
    grids: &Grids<F>,
    moved: &mut Array<u32>,
    report: &Array<u32>,
    n_atoms: u32,
    n_systems: u32,
    #[define(F)] _real: StorageType,
) {
    let atom = ABSOLUTE_POS;
    if atom < n_atoms as usize {
        let system = last_start(system_ptr, n_systems as usize, atom as u32);
        let x = positions[3 * atom] - built_at[3 * atom];
        let y = positions[3 * atom + 1] - built_at[3 * atom + 1];
        let z = positions[3 * atom + 2] - built_at[3 * atom + 2];
        // Neither is true of a position that is not a number: it is found where atoms are placed.
        let still = x * x + y * y + z * z <= grids.float(system, MOVED2);
        if !still || report[1] != 0u32 || report[2] != 0u32 {
            moved[system] = 1u32;
        }
    }
}

/// Counts the systems that are built again, and notes where their atoms are.
#[cube(launch_unchecked, explicit_define)]
pub fn remember<F: Float>(
    positions: &Array<F>,
    built_at: &mut Array<F>,
    places: &Array<i32>,
    moved: &Array<u32>,
    rebuilds: &mut Array<u32>,
    n_atoms: u32,
    n_systems: u32,
    #[define(F)] _real: StorageType,
) {
    let at = ABSOLUTE_POS;
    if at < n_systems as usize {
        rebuilds[at] += moved[at];
    }
    if at < n_atoms as usize {
        if !is_kept(places, at) {
            #[unroll]
            for k in 0..3usize {
                built_at[3 * at + k] = positions[3 * at + k];
            }
        }
    }
}

/// Finds cell and bin of each atom, and counts the atoms of each folded bin where they are to be sorted by it.
#[cube(launch_unchecked, explicit_define)]
pub fn place<F: Float>(
    positions: &Array<F>,
    system_ptr: &Array<u32>,
    grids: &Grids<F>,
    moved: &Array<u32>,
    places: &mut Array<i32>,
    counts: &mut Array<Atomic<u32>>,
    report: &mut Array<u32>,
    n_atoms: u32,
    n_systems: u32,
    #[comptime] binned: bool,
    #[define(F)] _real: StorageType,
) {
    let atom = ABSOLUTE_POS;
    if atom < n_atoms as usize {
        let system = last_start(system_ptr, n_systems as usize, atom as u32);
        let bound = grids.float(system, BOUND);
        let mut x = positions[3 * atom];
        let mut y = positions[3 * atom + 1];
        let mut z = positions[3 * atom + 2];
        let within = F::abs(x) <= bound && F::abs(y) <= bound && F::abs(z) <= bound;
        if !within {
            // Its bin is still one that there is.
            x = F::new(0.0);
            y = F::new(0.0);
            z = F::new(0.0);
            report[1] = OUT_OF_REACH;
        }
        let at = PLACE * atom;
        #[unroll]
        for k in 0..3usize {
            let dual = DUAL + 3 * k;
            let s =
                x * grids.float(system, dual) + y * grids.float(system, dual + 1) + z * grids.float(system, dual + 2);
            let scale = grids.float(system, SCALE + k);
            let n = grids.integer(system, BINS + k);
            if n > 0 {
                let cells = F::floor(s);
                places[at + k] = i32::cast_from(cells);
                // Rounding may lead one bin too far.
                places[at + BIN + k] = min(i32::cast_from((s - cells) * scale), n - 1);
            } else {
                places[at + k] = 0;
                places[at + BIN + k] = i32::cast_from(F::floor((s - grids.float(system, ORIGIN + k)) * scale));
            }
        }
        places[at + SYSTEM] = select(moved[system] == 0u32, -1 - system as i32, system as i32);
        if comptime!(binned) {
            let bin = grids.folded_bin(system, places[at + BIN], places[at + BIN + 1], places[at + BIN + 2]);
            places[at + RANK] = i32::cast_from(counts[bin as usize].fetch_add(1u32));
        }
    }
}

/// Writes each atom, moved into the cell, to its slot. The order of atoms within a bin may differ from run to run.
#[cube(launch_unchecked, explicit_define)]
pub fn arrange<F: Float>(
    positions: &Array<F>,
    places: &Array<i32>,
    grids: &Grids<F>,
    starts: &Array<u32>,
    wrapped: &mut Array<Vector<F, Const<4>>>,
    atoms: &mut Array<u32>,
    n_atoms: u32,
    #[comptime] binned: bool,
    #[define(F)] _real: StorageType,
) {
    let atom = ABSOLUTE_POS;
    if atom < n_atoms as usize {
        let at = PLACE * atom;
        let system = system_of(places, atom);
        let mut slot = atom;
        if comptime!(binned) {
            let bin = grids.folded_bin(system, places[at + BIN], places[at + BIN + 1], places[at + BIN + 2]);
            slot = (starts[bin as usize] + u32::cast_from(places[at + RANK])) as usize;
        }
        let home = grids.translation(system, places[at], places[at + 1], places[at + 2]);
        let mut moved = Vector::<F, Const<4>>::new(F::new(0.0));
        moved[0] = positions[3 * atom] - home.x;
        moved[1] = positions[3 * atom + 1] - home.y;
        moved[2] = positions[3 * atom + 2] - home.z;
        wrapped[slot] = moved;
        atoms[slot] = atom as u32;
    }
}

/// Walks the candidates of every atom. `offsets` [n_atoms · units + 1] say where each unit writes senders (to `out`), `images`
/// and `receivers`; before they are known, `out` has their shape and gets the number of edges of each unit.
#[cube(launch_unchecked, explicit_define)]
pub fn walk<F: Float>(
    positions: &Array<F>,
    places: &Array<i32>,
    grids: &Grids<F>,
    starts: &Array<u32>,
    wrapped: &Array<Vector<F, Const<4>>>,
    atoms: &Array<u32>,
    offsets: &Array<u32>,
    out: &mut Array<u32>,
    images: &mut Array<u32>,
    receivers: &mut Array<u32>,
    report: &mut Array<u32>,
    n_atoms: u32,
    capacity: u32,
    #[comptime] units: usize,
    #[comptime] half: bool,
    #[comptime] fill: bool,
    #[define(F)] _real: StorageType,
) {
    let n_atoms = n_atoms as usize;
    let slot = ABSOLUTE_POS / units;
    let lane = ABSOLUTE_POS % units;
    let mut active = slot < n_atoms;
    if active {
        active = !is_kept(places, atoms[slot] as usize);
    }
    if comptime!(fill) {
        active = active && offsets[n_atoms * units] <= capacity;
    } else if ABSOLUTE_POS == n_atoms * units {
        // The last offset is the sum of all lengths.
        out[ABSOLUTE_POS] = 0u32;
    }
    if active {
        let receiver = atoms[slot];
        let own = receiver as usize * units + lane;
        let at = PLACE * receiver as usize;
        let system = system_of(places, receiver as usize);
        let from = wrapped[slot];
        let certain = grids.float(system, CERTAIN);
        let possible = grids.float(system, POSSIBLE);
        let cutoff2 = grids.float(system, CUTOFF2);
        let span_a = grids.integer(system, SPAN);
        let span_b = grids.integer(system, SPAN + 1);
        let span_c = grids.integer(system, SPAN + 2);
        let folded_b = grids.integer(system, FOLDED + 1);
        let folded_c = grids.integer(system, FOLDED + 2);
        let images_a = grids.integer(system, IMAGES);
        let images_b = grids.integer(system, IMAGES + 1);
        let images_c = grids.integer(system, IMAGES + 2);
        // Images are numbered in the order in which shifts are sorted.
        let middle = (images_a * (2 * images_b + 1) + images_b) * (2 * images_c + 1) + images_c;
        let first_bin = grids.integers[system * INTEGERS + FIRST];
        let mut first = 0u32;
        let mut room = 0u32;
        if comptime!(fill) {
            first = offsets[own];
            room = offsets[own + 1] - first;
        }
        let mut n = 0u32;
        let mut whole = true;
        let mut a = places[at + BIN] - span_a;
        let last_a = places[at + BIN] + span_a;
        while a <= last_a {
            let seen_a = grids.see(system, 0usize, a);
            let mut b = places[at + BIN + 1] - span_b;
            let last_b = places[at + BIN + 1] + span_b;
            while b <= last_b {
                let seen_b = grids.see(system, 1usize, b);
                let row = u32::cast_from(seen_a.folded) * u32::cast_from(folded_b) + u32::cast_from(seen_b.folded);
                let first_of_row = first_bin + row * u32::cast_from(folded_c);
                let mut c = places[at + BIN + 2] - span_c;
                let last_c = places[at + BIN + 2] + span_c;
                while c <= last_c {
                    let seen_c = grids.see(system, 2usize, c);
                    let run = min(seen_c.run, last_c - c + 1);
                    let bins = (first_of_row + u32::cast_from(seen_c.folded)) as usize;
                    let end = starts[bins + run as usize] as usize;
                    let image = ((seen_a.image + images_a) * (2 * images_b + 1) + seen_b.image + images_b)
                        * (2 * images_c + 1)
                        + seen_c.image
                        + images_c;
                    let moved = grids.translation(system, seen_a.image, seen_b.image, seen_c.image);
                    let mut candidate = starts[bins] as usize + lane;
                    while candidate < end {
                        let to = wrapped[candidate];
                        let x = (to[0] + moved.x) - from[0];
                        let y = (to[1] + moved.y) - from[1];
                        let z = (to[2] + moved.z) - from[2];
                        let square = x * x + y * y + z * z;
                        if square <= possible {
                            let sender = atoms[candidate];
                            let mut listed = candidate != slot || image != middle;
                            if comptime!(half) {
                                listed = receiver < sender || (receiver == sender && image > middle);
                            }
                            if listed && square > certain {
                                // Within rounding of the cutoff the edge vector itself decides.
                                let other = PLACE * sender as usize;
                                let translation = grids.translation(
                                    system,
                                    seen_a.image + places[at] - places[other],
                                    seen_b.image + places[at + 1] - places[other + 1],
                                    seen_c.image + places[at + 2] - places[other + 2],
                                );
                                let r = edge_vec::<F>(positions, receiver as usize, sender as usize, &translation);
                                listed = r.x * r.x + r.y * r.y + r.z * r.z < cutoff2;
                            }
                            if listed {
                                if comptime!(fill) {
                                    if n < room {
                                        out[(first + n) as usize] = sender;
                                        images[(first + n) as usize] = u32::cast_from(image);
                                        receivers[(first + n) as usize] = receiver;
                                    }
                                }
                                n += 1u32;
                            }
                        }
                        candidate += units;
                    }
                    whole = whole && candidate >= end;
                    c += run;
                }
                whole = whole && c > last_c;
                b += 1;
            }
            whole = whole && b > last_b;
            a += 1;
        }
        if !whole || a <= last_a {
            report[1] = LOOP_CUT;
        }
        if comptime!(fill) {
            if n != room {
                report[1] = WALKS_DIFFER;
            }
        } else {
            out[own] = n;
        }
    }
}

/// Where rows begin, from where units write.
#[cube(launch_unchecked)]
pub fn row_starts(
    offsets: &Array<u32>,
    row_ptr: &mut Array<u32>,
    report: &mut Array<u32>,
    n_atoms: u32,
    capacity: u32,
    #[comptime] units: usize,
) {
    let atom = ABSOLUTE_POS;
    if atom <= n_atoms as usize {
        row_ptr[atom] = offsets[atom * units];
    }
    if atom == n_atoms as usize {
        let n_edges = offsets[atom * units];
        report[0] = n_edges;
        if n_edges > capacity {
            report[2] = max(report[2], n_edges);
        }
    }
}

/// Counts the edges of rows that are kept: a unit has a part of the row.
#[cube(launch_unchecked)]
pub fn count_kept(
    places: &Array<i32>,
    old_row_ptr: &Array<u32>,
    lengths: &mut Array<u32>,
    n_atoms: u32,
    #[comptime] units: usize,
) {
    let atom = ABSOLUTE_POS / units;
    if atom < n_atoms as usize {
        if is_kept(places, atom) {
            let lane = ABSOLUTE_POS % units;
            let length = (old_row_ptr[atom + 1] - old_row_ptr[atom]) as usize;
            lengths[ABSOLUTE_POS] = (length * (lane + 1) / units - length * lane / units) as u32;
        }
    }
}

/// Copies rows that are kept; their edge vectors are those of the new positions. `receivers` [n_edges] as `walk` writes it.
#[cube(launch_unchecked, explicit_define)]
pub fn copy_kept<F: Float>(
    positions: &Array<F>,
    places: &Array<i32>,
    grids: &Grids<F>,
    row_ptr: &Array<u32>,
    old_row_ptr: &Array<u32>,
    old_sender: &Array<u32>,
    old_shift: &Array<i32>,
    sender: &mut Array<u32>,
    shift: &mut Array<i32>,
    edge_vecs: &mut Array<F>,
    receivers: &mut Array<u32>,
    report: &mut Array<u32>,
    n_atoms: u32,
    capacity: u32,
    #[comptime] units: usize,
    #[define(F)] _real: StorageType,
) {
    let receiver = ABSOLUTE_POS / units;
    let mut active = receiver < n_atoms as usize && row_ptr[n_atoms as usize] <= capacity;
    if active {
        active = is_kept(places, receiver);
    }
    if active {
        let system = system_of(places, receiver);
        let end = row_ptr[receiver + 1] as usize;
        let mut edge = row_ptr[receiver] as usize + ABSOLUTE_POS % units;
        let mut old = old_row_ptr[receiver] as usize + ABSOLUTE_POS % units;
        while edge < end {
            let from = old_sender[old];
            let s = old_shift[3 * old];
            let t = old_shift[3 * old + 1];
            let u = old_shift[3 * old + 2];
            let translation = grids.translation(system, s, t, u);
            let r = edge_vec::<F>(positions, receiver, from as usize, &translation);
            sender[edge] = from;
            shift[3 * edge] = s;
            shift[3 * edge + 1] = t;
            shift[3 * edge + 2] = u;
            edge_vecs[3 * edge] = r.x;
            edge_vecs[3 * edge + 1] = r.y;
            edge_vecs[3 * edge + 2] = r.z;
            receivers[edge] = receiver as u32;
            edge += units;
            old += units;
        }
        if edge < end {
            report[1] = LOOP_CUT;
        }
    }
}

/// Sorts each row that was walked by (sender, shift): an edge's rank is the number of edges before it.
#[cube(launch_unchecked, explicit_define)]
pub fn sort_rows<F: Float>(
    positions: &Array<F>,
    places: &Array<i32>,
    grids: &Grids<F>,
    row_ptr: &Array<u32>,
    senders: &Array<u32>,
    images: &Array<u32>,
    receivers: &Array<u32>,
    sender: &mut Array<u32>,
    shift: &mut Array<i32>,
    edge_vecs: &mut Array<F>,
    report: &mut Array<u32>,
    n_atoms: u32,
    capacity: u32,
    #[define(F)] _real: StorageType,
) {
    let edge = ABSOLUTE_POS;
    let mut listed = is_edge(row_ptr, edge, n_atoms, capacity);
    if listed {
        listed = !is_kept(places, receivers[edge] as usize);
    }
    if listed {
        let receiver = receivers[edge] as usize;
        let from = senders[edge];
        let image = images[edge];
        let end = row_ptr[receiver + 1] as usize;
        let mut other = row_ptr[receiver] as usize;
        let mut to = other;
        while other < end {
            let before = senders[other];
            if before < from {
                to += 1;
            } else if before == from {
                if images[other] < image {
                    to += 1;
                }
            }
            other += 1;
        }
        if other < end {
            report[1] = LOOP_CUT;
        }
        let (at, other) = (PLACE * receiver, PLACE * from as usize);
        let system = system_of(places, receiver);
        let images_a = grids.integer(system, IMAGES);
        let images_b = grids.integer(system, IMAGES + 1);
        let images_c = grids.integer(system, IMAGES + 2);
        let (along_b, along_c) = (2 * images_b + 1, 2 * images_c + 1);
        let image = i32::cast_from(image);
        let s = image / along_c / along_b - images_a + places[at] - places[other];
        let t = image / along_c % along_b - images_b + places[at + 1] - places[other + 1];
        let u = image % along_c - images_c + places[at + 2] - places[other + 2];
        let translation = grids.translation(system, s, t, u);
        let r = edge_vec::<F>(positions, receiver, from as usize, &translation);
        sender[to] = from;
        shift[3 * to] = s;
        shift[3 * to + 1] = t;
        shift[3 * to + 2] = u;
        edge_vecs[3 * to] = r.x;
        edge_vecs[3 * to + 1] = r.y;
        edge_vecs[3 * to + 2] = r.z;
    }
}

/// The transposed full list: the reverse of each edge, found in the row of its sender. `transpose` holds the receivers.
#[cube(launch_unchecked)]
pub fn reverse(
    row_ptr: &Array<u32>,
    sender: &Array<u32>,
    shift: &Array<i32>,
    transpose: &mut Array<u32>,
    report: &mut Array<u32>,
    n_atoms: u32,
    capacity: u32,
) {
    let edge = ABSOLUTE_POS;
    if is_edge(row_ptr, edge, n_atoms, capacity) {
        let receiver = transpose[edge];
        let from = sender[edge] as usize;
        let s = 0 - shift[3 * edge];
        let t = 0 - shift[3 * edge + 1];
        let u = 0 - shift[3 * edge + 2];
        let mut low = row_ptr[from] as usize;
        let mut high = row_ptr[from + 1] as usize;
        let mut found = false;
        while low < high {
            let middle = (low + high) / 2;
            let other = sender[middle];
            let mut before = other < receiver;
            if other == receiver {
                let a = shift[3 * middle];
                let b = shift[3 * middle + 1];
                let c = shift[3 * middle + 2];
                before = a < s || (a == s && (b < t || (b == t && c < u)));
                if a == s && b == t && c == u {
                    found = true;
                }
            }
            if before {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        transpose[edge] = low as u32;
        if !found {
            report[1] = NO_REVERSE;
        }
    }
}

/// Counts the edges that each atom sends, and says of each edge how many were counted before it, in any order.
///
/// One unit per edge: Mesa's software Vulkan (22.3) loses some of the atomics in a loop that ends sooner for some units of a
/// plane than for others.
#[cube(launch_unchecked)]
pub fn count_sent(
    row_ptr: &Array<u32>,
    sender: &Array<u32>,
    counts: &mut Array<Atomic<u32>>,
    ranks: &mut Array<u32>,
    n_atoms: u32,
    capacity: u32,
) {
    let edge = ABSOLUTE_POS;
    if is_edge(row_ptr, edge, n_atoms, capacity) {
        ranks[edge] = counts[sender[edge] as usize].fetch_add(1u32);
    }
}

/// Writes each edge and its receiver among those of its sender, in the order in which they were counted.
#[cube(launch_unchecked)]
pub fn scatter_sent(
    row_ptr: &Array<u32>,
    sender: &Array<u32>,
    sender_ptr: &Array<u32>,
    ranks: &Array<u32>,
    edges: &mut Array<u32>,
    receivers: &mut Array<u32>,
    n_atoms: u32,
    capacity: u32,
    #[comptime] units: usize,
) {
    let receiver = ABSOLUTE_POS / units;
    if receiver < n_atoms as usize && row_ptr[n_atoms as usize] <= capacity {
        let end = row_ptr[receiver + 1] as usize;
        let mut edge = row_ptr[receiver] as usize + ABSOLUTE_POS % units;
        while edge < end {
            let to = (sender_ptr[sender[edge] as usize] + ranks[edge]) as usize;
            edges[to] = edge as u32;
            receivers[to] = receiver as u32;
            edge += units;
        }
    }
}

/// Sorts the edges of each sender by (receiver, −shift): edges of one receiver are in ascending order of shifts, so theirs
/// is descending.
#[cube(launch_unchecked)]
pub fn sort_sent(
    row_ptr: &Array<u32>,
    sender: &Array<u32>,
    sender_ptr: &Array<u32>,
    edges: &Array<u32>,
    receivers: &Array<u32>,
    transpose: &mut Array<u32>,
    report: &mut Array<u32>,
    n_atoms: u32,
    capacity: u32,
) {
    let at = ABSOLUTE_POS;
    if is_edge(row_ptr, at, n_atoms, capacity) {
        let edge = edges[at];
        let receiver = receivers[at];
        let from = sender[edge as usize] as usize;
        let end = sender_ptr[from + 1] as usize;
        let mut other = sender_ptr[from] as usize;
        let mut to = other;
        while other < end {
            let before = receivers[other];
            if before < receiver {
                to += 1;
            } else if before == receiver {
                if edges[other] > edge {
                    to += 1;
                }
            }
            other += 1;
        }
        if other < end {
            report[1] = LOOP_CUT;
        }
        transpose[to] = edge;
    }
}

/// Leaves nothing unspecified: what lies behind the list is zero, and so is the whole list where it could not be written, so
/// that whoever reads it before the report finds an empty one.
#[cube(launch_unchecked, explicit_define)]
pub fn seal<F: Float>(
    sender: &mut Array<u32>,
    shift: &mut Array<i32>,
    edge_vecs: &mut Array<F>,
    transpose: &mut Array<u32>,
    report: &Array<u32>,
    capacity: u32,
    #[define(F)] _real: StorageType,
) {
    let edge = ABSOLUTE_POS;
    let written = report[0] <= capacity && report[1] == 0u32;
    if edge < capacity as usize && (!written || edge >= report[0] as usize) {
        sender[edge] = 0u32;
        transpose[edge] = 0u32;
        #[unroll]
        for k in 0..3usize {
            shift[3 * edge + k] = 0;
            edge_vecs[3 * edge + k] = F::new(0.0);
        }
    }
}

/// As [`seal`], of where rows begin.
#[cube(launch_unchecked)]
pub fn seal_rows(row_ptr: &mut Array<u32>, report: &Array<u32>, n_atoms: u32, capacity: u32) {
    let atom = ABSOLUTE_POS;
    if atom <= n_atoms as usize && (report[0] > capacity || report[1] != 0u32) {
        row_ptr[atom] = 0u32;
    }
}
