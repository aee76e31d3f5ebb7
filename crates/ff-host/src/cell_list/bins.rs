//! Atoms sorted by bin.

use std::ops::{Range, RangeInclusive};

use ff_spec::cell_list::{InputError, Inputs, Strategy};
use rayon::prelude::*;

use super::{HostConfig, Real};
use ff_spec::cell_list::grid::{Grid, furthest};

/// Bins per atom up to which the start of every bin is stored; beyond, a bin is looked up among the atoms. It keeps a huge
/// empty box from costing memory.
const DENSE: u64 = 8;

/// Bins that are stored for any system, however few atoms it has.
const ALWAYS_DENSE: u64 = 64;

/// Magnitudes whose squares are ordinary numbers in f32.
const ORDINARY: Range<f64> = 1e-15..1e15;

/// Atoms of one part in a pass over atoms.
const PART: usize = 1024;

/// One system.
pub(super) struct System<T> {
    pub grid: Grid,
    /// Lattice vectors in the dtype of the list.
    pub basis: [[T; 3]; 3],
    /// Its atoms; also its slots.
    pub atoms: Range<usize>,
    /// Squared distances of candidates: up to the first they are edges, beyond the second none, between the edge vector says.
    pub certain: f32,
    pub possible: f32,
    /// Whether sizes are so extreme that only edge vectors can say anything: all wrapped positions are then zero.
    pub extreme: bool,
    /// Where its bins begin in `starts`; `None` where they are looked up in `bins`.
    starts: Option<usize>,
    /// Whether any of its atoms lies outside its cell.
    pub unwrapped: bool,
}

impl<T: Real> System<T> {
    fn new(
        inputs: &Inputs<T>,
        system: usize,
        strategy: Strategy,
        config: &HostConfig,
        starts: &mut usize,
    ) -> Result<Self, InputError> {
        let atoms = inputs.atoms(system);
        let cell = inputs.cell(system).map(|row| row.map(T::to_f64));
        let positions = atoms.clone().map(|atom| inputs.position(atom).map(T::to_f64));
        let cutoff = inputs.cutoff.to_f64();
        let finer = match strategy {
            Strategy::Cells => [config.bins_across, config.bins_across, config.bins_along],
            Strategy::Brute => [0; 3],
        };
        let furthest = furthest(positions.clone());
        let grid = Grid::new(system, (cell, inputs.pbc[system]), positions, furthest, cutoff, T::EPSILON, finer)?;
        let n_bins = grid.n_bins();
        let dense = n_bins <= (DENSE * atoms.len() as u64).max(ALWAYS_DENSE);
        let first = *starts;
        if dense {
            *starts += n_bins as usize + 1;
        }
        let slack = grid.slack + 8.0 * <f32 as Real>::EPSILON * grid.magnitude;
        let squared = |d: f64, rounding: f64| (d.powi(2) * (1.0 + rounding * <f32 as Real>::EPSILON)) as f32;
        let certain = cutoff - slack;
        let extreme = !(ORDINARY.contains(&cutoff) && ORDINARY.contains(&grid.magnitude));
        Ok(Self {
            basis: grid.basis.map(|row| row.map(T::from_f64)),
            // Where rounding is more than the cutoff, not even two atoms in one place are certain.
            certain: if certain > 0.0 && !extreme { squared(certain, -4.0) } else { -1.0 },
            possible: if extreme { f32::INFINITY } else { squared(cutoff + slack, 4.0) },
            extreme,
            grid,
            atoms,
            starts: dense.then_some(first),
            unwrapped: false,
        })
    }

    /// S·H.
    #[inline(always)]
    pub fn translation(&self, shift: [i32; 3]) -> [T; 3] {
        let [a, b, c] = self.basis;
        let [s, t, u] = shift.map(|s| T::from_f64(f64::from(s)));
        [s * a[0] + t * b[0] + u * c[0], s * a[1] + t * b[1] + u * c[1], s * a[2] + t * b[2] + u * c[2]]
    }
}

/// The atoms of all systems, sorted by (system, bin, atom): atom `atom[slot]` has the slot `slot`.
pub(super) struct Binned<T> {
    pub cutoff: T,
    pub systems: Vec<System<T>>,
    /// Atom of each slot, [n_atoms].
    pub atom: Vec<u32>,
    /// Bin of each slot, [n_atoms].
    pub bin: Vec<u64>,
    /// Positions as given, [n_atoms], four wide as registers are.
    pub position: Vec<[T; 4]>,
    /// Positions moved into the cell, [n_atoms] each: good enough to propose edges.
    pub wrapped: [Vec<f32>; 3],
    /// Cell of each slot, [n_atoms].
    pub wrap: Vec<[i32; 3]>,
    /// First slot of every bin, system by system, with one entry more than bins.
    starts: Vec<u32>,
}

impl<T: Real> Binned<T> {
    pub fn new(inputs: &Inputs<T>, strategy: Strategy, config: &HostConfig) -> Result<Self, InputError> {
        let n_atoms = inputs.n_atoms();
        let mut n_starts = 0;
        let mut systems = (0..inputs.n_systems())
            .map(|system| System::new(inputs, system, strategy, config, &mut n_starts))
            .collect::<Result<Vec<_>, _>>()?;
        let place = |system: &System<T>, atom: usize| system.grid.place(atom, inputs.position(atom).map(T::to_f64));
        // Bins first, then everything else in their order: less is moved than if whole places were sorted.
        let mut bin_of = vec![0u64; n_atoms];
        bin_of.par_chunks_mut(PART).enumerate().try_for_each(|(part, bins)| {
            let mut at = Systems::default();
            for (atom, bin) in (part * PART..).zip(bins) {
                *bin = place(at.of(&systems, atom), atom)?.bin;
            }
            Ok(())
        })?;
        let mut starts = vec![0u32; n_starts];
        let mut atom: Vec<u32> = vec![0; n_atoms];
        for system in &systems {
            let atoms = system.atoms.clone();
            match system.starts {
                Some(first) => {
                    let starts = &mut starts[first..first + system.grid.n_bins() as usize + 1];
                    sort_by_count(&bin_of, atoms, starts, &mut atom);
                }
                None => {
                    let slots = &mut atom[atoms.clone()];
                    slots.iter_mut().zip(atoms).for_each(|(slot, atom)| *slot = atom as u32);
                    slots.par_sort_unstable_by_key(|atom| (bin_of[*atom as usize], *atom));
                }
            }
        }
        let mut binned = Self {
            cutoff: inputs.cutoff,
            atom,
            bin: bin_of,
            position: vec![[T::default(); 4]; n_atoms],
            wrapped: std::array::from_fn(|_| vec![0.0; n_atoms]),
            wrap: vec![[0; 3]; n_atoms],
            starts,
            systems: Vec::new(),
        };
        let [x, y, z] = &mut binned.wrapped;
        binned
            .bin
            .par_chunks_mut(PART)
            .zip(binned.position.par_chunks_mut(PART))
            .zip(binned.wrap.par_chunks_mut(PART))
            .zip(x.par_chunks_mut(PART).zip(y.par_chunks_mut(PART)).zip(z.par_chunks_mut(PART)))
            .enumerate()
            .try_for_each(|(part, (((bin, position), wrap), ((x, y), z)))| {
                let mut at = Systems::default();
                for k in 0..bin.len() {
                    let slot = part * PART + k;
                    let atom = binned.atom[slot] as usize;
                    let system = at.of(&systems, slot);
                    let found = place(system, atom)?;
                    let [a, b, c] = inputs.position(atom);
                    (bin[k], position[k], wrap[k]) = (found.bin, [a, b, c, T::default()], found.wrap);
                    if !system.extreme {
                        [x[k], y[k], z[k]] = found.wrapped.map(|x| x as f32);
                    }
                }
                Ok::<_, InputError>(())
            })?;
        for system in &mut systems {
            system.unwrapped = binned.wrap[system.atoms.clone()].iter().any(|wrap| *wrap != [0; 3]);
        }
        binned.systems = systems;
        Ok(binned)
    }

    /// The slots of a run of bins.
    #[inline]
    pub fn slots(&self, system: &System<T>, bins: RangeInclusive<u64>) -> Range<usize> {
        match system.starts {
            Some(first) => {
                let start = |bin: u64| self.starts[first + bin as usize] as usize;
                start(*bins.start())..start(*bins.end() + 1)
            }
            None => {
                let of_system = &self.bin[system.atoms.clone()];
                let first = of_system.partition_point(|bin| bin < bins.start());
                let len = of_system[first..].partition_point(|bin| bin <= bins.end());
                system.atoms.start + first..system.atoms.start + first + len
            }
        }
    }
}

/// Sorts the atoms of one system by bin, atoms of one bin in ascending order; `starts` gets the first slot of each bin.
fn sort_by_count(bin_of: &[u64], atoms: Range<usize>, starts: &mut [u32], atom: &mut [u32]) {
    for bin in &bin_of[atoms.clone()] {
        starts[*bin as usize + 1] += 1;
    }
    let first = atoms.start as u32;
    starts[0] = first;
    for bin in 1..starts.len() {
        starts[bin] += starts[bin - 1];
    }
    // Each start is moved to the end of its bin, which is the start of the next.
    for i in atoms {
        let slot = &mut starts[bin_of[i] as usize];
        atom[*slot as usize] = i as u32;
        *slot += 1;
    }
    let last = starts.len() - 1;
    starts.copy_within(0..last, 1);
    starts[0] = first;
}

/// The system of ascending slots or atoms.
#[derive(Default)]
pub(super) struct Systems {
    at: Option<usize>,
}

impl Systems {
    /// The system that `slot` belongs to.
    #[inline]
    pub fn of<'a, T>(&mut self, systems: &'a [System<T>], slot: usize) -> &'a System<T> {
        let mut at = self.at.unwrap_or_else(|| systems.partition_point(|system| system.atoms.end <= slot));
        while systems[at].atoms.end <= slot {
            at += 1;
        }
        self.at = Some(at);
        &systems[at]
    }
}
