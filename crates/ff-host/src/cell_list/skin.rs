//! Lists that stay valid while atoms move a little.

use std::ops::Range;

use ff_spec::cell_list::{InputError, Inputs, NeighborList, Variant};
use rayon::prelude::*;

use super::{HostConfig, Real, Shared, build, for_each_part, within_limit};
use crate::pool::Pooled;

/// Atoms of one part in a pass over atoms.
const PART: usize = 1024;

/// The place of an edge that is not there: a list has fewer.
const NONE: u32 = u32::MAX;

/// A list at cutoff + skin that is built again, system by system, only when it may miss a pair (Verlet, Phys. Rev. 159, 98
/// (1967)).
///
/// A pair that is not listed is further apart than cutoff + skin, so it is beyond the cutoff until its atoms have together
/// moved by the skin. Edges between cutoff and cutoff + skin are listed as well, for the kernels to pass over.
#[derive(Debug)]
pub struct SkinList<T> {
    /// Positions and cells now; their cutoff includes the skin.
    inputs: Inputs<T>,
    /// Positions each system had when its list was built.
    built_at: Vec<T>,
    /// Positions and cells before the last update, whose memory the next one uses.
    before: [Vec<T>; 2],
    /// Whether the list of each system may miss a pair, [n_systems].
    stale: Vec<bool>,
    skin: T,
    variant: Variant,
    config: HostConfig,
    list: NeighborList<T>,
    rebuilds: Vec<u64>,
}

impl<T: Real> SkinList<T> {
    /// Builds lists of all pairs with d < `inputs.cutoff` + `skin`, both in Å.
    ///
    /// # Errors
    /// As [`build`]; a skin that is negative or not finite is an [`InputError::Cutoff`].
    pub fn new(mut inputs: Inputs<T>, skin: T, variant: Variant, config: HostConfig) -> Result<Self, InputError> {
        Inputs::check_skin(skin)?;
        inputs.cutoff += skin;
        let mut list = NeighborList::default();
        build(&inputs, variant.list, variant.strategy, &config, &mut list)?;
        let (built_at, rebuilds) = (inputs.positions.clone(), vec![0; inputs.n_systems()]);
        let stale = vec![false; inputs.n_systems()];
        Ok(Self { inputs, built_at, before: Default::default(), stale, skin, variant, config, list, rebuilds })
    }

    /// The list, with edge vectors of the latest positions.
    pub fn list(&self) -> &NeighborList<T> {
        &self.list
    }

    /// How often the list of each system was built again, [n_systems].
    pub fn rebuilds(&self) -> &[u64] {
        &self.rebuilds
    }

    /// Moves the atoms and, where given, the cells: `positions` [n_atoms, 3], `cell` [n_systems, 3, 3] in Å. Builds the lists of
    /// those systems again in which an atom has moved by more than skin/2 since, or whose cell has changed, and says how many;
    /// all edge vectors are those of the new positions.
    ///
    /// # Errors
    /// As [`build`]; the list is then as it was before.
    pub fn update(&mut self, positions: &[T], cell: Option<&[T]>) -> Result<usize, InputError> {
        let shapes = [
            ("positions", "[n_atoms, 3]", self.inputs.positions.len(), positions.len()),
            ("cell", "[n_systems, 3, 3]", self.inputs.cell.len(), cell.map_or(self.inputs.cell.len(), <[T]>::len)),
        ];
        if let Some((tensor, shape, expected, found)) = shapes.into_iter().find(|(_, _, e, f)| e != f) {
            return Err(InputError::Shape { tensor, shape, expected, found });
        }
        let [positions_before, cell_before] = &mut self.before;
        std::mem::swap(&mut self.inputs.positions, positions_before);
        self.inputs.positions.clear();
        self.inputs.positions.extend_from_slice(positions);
        if let Some(cell) = cell {
            std::mem::swap(&mut self.inputs.cell, cell_before);
            self.inputs.cell.clear();
            self.inputs.cell.extend_from_slice(cell);
        }
        let built = T::rebuild(self, cell.is_some());
        if built.is_err() {
            let [positions_before, cell_before] = &mut self.before;
            std::mem::swap(&mut self.inputs.positions, positions_before);
            if cell.is_some() {
                std::mem::swap(&mut self.inputs.cell, cell_before);
            }
        }
        built
    }

    /// Changes the cells to `cell` [n_systems, 3, 3] in Å as [`SkinList::update`] does, where the atoms are.
    ///
    /// # Errors
    /// As [`SkinList::update`].
    pub fn set_cell(&mut self, cell: &[T]) -> Result<usize, InputError> {
        let positions = self.inputs.positions.clone();
        self.update(&positions, Some(cell))
    }

    /// The edges of [`SkinList::list`] that are shorter than `cutoff` in Å, into `out`, whose memory is used again: of a cutoff
    /// that is the list's less the skin, what [`build`] makes of the latest positions, to the last bit.
    pub fn within(&self, cutoff: T, out: &mut NeighborList<T>) {
        let list = &self.list;
        let squared = cutoff * cutoff;
        let is_edge = |r: &[T; 3]| r[0] * r[0] + r[1] * r[1] + r[2] * r[2] < squared;
        let NeighborList { row_ptr, sender, shift, edge_vec, sender_ptr, transpose } = out;
        let mut places = Pooled::<Vec<u32>>::take([0; 8], Vec::new);
        [&mut *places, row_ptr, sender, sender_ptr, transpose].into_iter().for_each(Vec::clear);
        shift.clear();
        edge_vec.clear();
        row_ptr.push(0);
        for row in list.row_ptr.windows(2) {
            for edge in row[0] as usize..row[1] as usize {
                let r = &list.edge_vec[edge];
                let place = sender.len() as u32;
                if is_edge(r) {
                    sender.push(list.sender[edge]);
                    shift.push(list.shift[edge]);
                    edge_vec.push(*r);
                    places.push(place);
                } else {
                    places.push(NONE);
                }
            }
            row_ptr.push(sender.len() as u32);
        }
        sender_ptr.push(0);
        for row in list.sender_ptr.windows(2) {
            let sent = &list.transpose[row[0] as usize..row[1] as usize];
            transpose.extend(sent.iter().map(|edge| places[*edge as usize]).filter(|place| *place != NONE));
            sender_ptr.push(transpose.len() as u32);
        }
    }

    /// Brings the list up to the inputs, whose cells may be `new_cell`.
    pub(super) fn rebuild(&mut self, new_cell: bool) -> Result<usize, InputError> {
        self.inputs.check()?;
        let moved = self.moved(new_cell);
        if moved.is_empty() {
            refresh(&self.inputs, &mut self.list);
        } else if moved.len() < self.inputs.n_systems() {
            self.rebuild_part(&moved)?;
            refresh(&self.inputs, &mut self.list);
        } else {
            let mut list = NeighborList::default();
            build(&self.inputs, self.variant.list, self.variant.strategy, &self.config, &mut list)?;
            self.list = list;
        }
        for &system in &moved {
            let coordinates = 3 * self.inputs.atoms(system).start..3 * self.inputs.atoms(system).end;
            self.built_at[coordinates.clone()].copy_from_slice(&self.inputs.positions[coordinates]);
            self.rebuilds[system] += 1;
        }
        Ok(moved.len())
    }

    /// Builds the lists of some systems.
    fn rebuild_part(&mut self, moved: &[usize]) -> Result<(), InputError> {
        let mut part = NeighborList::default();
        if let Err(error) =
            build(&self.inputs.select(moved), self.variant.list, self.variant.strategy, &self.config, &mut part)
        {
            // The whole batch names its own atoms and systems.
            build(&self.inputs, self.variant.list, self.variant.strategy, &self.config, &mut part)?;
            return Err(error);
        }
        let edges = |system: &usize| {
            let atoms = self.inputs.atoms(*system);
            u64::from(self.list.row_ptr[atoms.end] - self.list.row_ptr[atoms.start])
        };
        let replaced: u64 = moved.iter().map(edges).sum();
        within_limit(self.list.n_edges() as u64 - replaced + part.n_edges() as u64)?;
        self.replace(moved, &part);
        Ok(())
    }

    /// The systems whose lists may miss a pair.
    fn moved(&mut self, new_cell: bool) -> Vec<usize> {
        let Self { inputs, built_at, before: [_, old_cell], stale, skin, .. } = self;
        let inputs = &*inputs;
        let (half, built_at) = (skin.to_f64() / 2.0, &*built_at);
        let has_moved = |system: usize| {
            if new_cell && inputs.cell_differs(system, old_cell) {
                return true;
            }
            let coordinates = 3 * inputs.atoms(system).start..3 * inputs.atoms(system).end;
            let pairs = (&inputs.positions[coordinates.clone()], &built_at[coordinates]);
            let parts = pairs.0.par_chunks(3 * PART).zip(pairs.1.par_chunks(3 * PART));
            parts.any(|(now, then)| {
                now.as_chunks::<3>().0.iter().zip(then.as_chunks::<3>().0).any(|(now, then)| {
                    let step: [f64; 3] = std::array::from_fn(|c| now[c].to_f64() - then[c].to_f64());
                    // Less what the decisions of the list itself are rounded by.
                    let largest = now.iter().fold(inputs.cutoff.to_f64(), |m, x| m.max(x.to_f64().abs()));
                    let limit = (half - 8.0 * T::EPSILON * largest).max(0.0);
                    step.iter().map(|x| x * x).sum::<f64>() > limit * limit
                })
            })
        };
        stale.par_iter_mut().enumerate().for_each(|(system, stale)| *stale = has_moved(system));
        (0..).zip(stale).filter_map(|(system, stale)| stale.then_some(system)).collect()
    }

    /// Takes the lists of some systems from `part`, which has those alone.
    fn replace(&mut self, moved: &[usize], part: &NeighborList<T>) {
        let old = std::mem::take(&mut self.list);
        let mut new = NeighborList { row_ptr: vec![0], sender_ptr: vec![0], ..NeighborList::default() };
        let (mut moved, mut first) = (moved.iter().peekable(), 0);
        for system in 0..self.inputs.n_systems() {
            let atoms = self.inputs.atoms(system);
            if moved.next_if_eq(&&system).is_some() {
                append(&mut new, part, first..first + atoms.len());
                first += atoms.len();
            } else {
                append(&mut new, &old, atoms);
            }
        }
        self.list = new;
    }
}

/// Appends the lists of atoms that neighbour only each other.
fn append<T: Copy>(out: &mut NeighborList<T>, from: &NeighborList<T>, atoms: Range<usize>) {
    let edges = from.row_ptr[atoms.start] as usize..from.row_ptr[atoms.end] as usize;
    let (first_atom, first_edge) = (out.n_atoms() as u32, out.n_edges() as u32);
    let atom = |j: &u32| *j - atoms.start as u32 + first_atom;
    let edge = |e: &u32| *e - edges.start as u32 + first_edge;
    out.row_ptr.extend(from.row_ptr[atoms.start + 1..=atoms.end].iter().map(edge));
    out.sender.extend(from.sender[edges.clone()].iter().map(atom));
    out.shift.extend_from_slice(&from.shift[edges.clone()]);
    out.edge_vec.extend_from_slice(&from.edge_vec[edges.clone()]);
    out.sender_ptr.extend(from.sender_ptr[atoms.start + 1..=atoms.end].iter().map(edge));
    out.transpose.extend(from.transpose[edges.clone()].iter().map(edge));
}

/// Computes every edge vector anew.
fn refresh<T: Real>(inputs: &Inputs<T>, list: &mut NeighborList<T>) {
    let NeighborList { row_ptr, sender, shift, edge_vec, .. } = list;
    if sender.is_empty() {
        return;
    }
    let (row_ptr, sender, shift) = (&*row_ptr, &*sender, &*shift);
    let rows = Shared::new(edge_vec);
    let system_of = |atom: usize| inputs.system_ptr.partition_point(|start| *start as usize <= atom) - 1;
    for_each_part(
        inputs.n_atoms(),
        PART,
        || (),
        |(), atoms| {
            let mut system = system_of(atoms.start);
            let mut cell = basis(inputs, system);
            for atom in atoms {
                while inputs.system_ptr[system + 1] as usize <= atom {
                    system += 1;
                    cell = basis(inputs, system);
                }
                let row = row_ptr[atom] as usize..row_ptr[atom + 1] as usize;
                let x = inputs.position(atom);
                // SAFETY: the row of an atom is in one part only.
                let out = unsafe { rows.get(row.clone()) };
                for (out, edge) in out.iter_mut().zip(row) {
                    let (other, [s, t, u]) =
                        (inputs.position(sender[edge] as usize), shift[edge].map(|s| T::from_f64(f64::from(s))));
                    let [a, b, c] = cell;
                    // The order of operations of the kernel.
                    *out = std::array::from_fn(|k| (other[k] - x[k]) + (s * a[k] + t * b[k] + u * c[k]));
                }
            }
        },
    );
}

/// Lattice vectors of a system with zeros in open directions, whose rows may hold anything.
fn basis<T: Real>(inputs: &Inputs<T>, system: usize) -> [[T; 3]; 3] {
    let (cell, pbc) = (inputs.cell(system), inputs.pbc[system]);
    std::array::from_fn(|k| if pbc[k] { cell[k] } else { [T::from_f64(0.0); 3] })
}
