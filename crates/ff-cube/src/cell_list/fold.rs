//! The grids of a batch as a device reads them.
//!
//! Bins are those of [`Grid`], but stored folded: bin (i, j, k) of a system is kept at (i mod m_a, j mod m_b, k mod m_c),
//! so that a huge empty box takes no more memory than its atoms do, and open directions need no walls. A neighbourhood meets
//! every folded bin at most once per image, since no m is less than its bins there, so no pair is found twice; what
//! else lies in a folded bin is too far away and is dropped with the other candidates.

use ff_spec::cell_list::{InputError, Inputs, Strategy};

use crate::Real;
use ff_spec::cell_list::grid::{Grid, MAX_WRAP, furthest};

/// Floats of a system: `BASIS`, `DUAL` [3, 3], `SCALE`, `ORIGIN` [3], then one each.
pub(super) const BASIS: usize = 0;
pub(super) const DUAL: usize = 9;
pub(super) const SCALE: usize = 18;
pub(super) const ORIGIN: usize = 21;
/// Squared distances of candidates: up to the first they are edges, beyond the second none, between the edge vector says.
pub(super) const CERTAIN: usize = 24;
pub(super) const POSSIBLE: usize = 25;
pub(super) const CUTOFF2: usize = 26;
/// The largest magnitude of a coordinate that the grid is made for.
pub(super) const BOUND: usize = 27;
/// The squared distance from where the list was built beyond which an atom may have a neighbour that is not listed.
pub(super) const MOVED2: usize = 28;
pub(super) const FLOATS: usize = 29;

/// Integers of a system: bins around the cell, 0 in open directions [3]; folded bins [3]; how many bins away neighbours can be
/// [3]; how many images away they can be [3]; its first folded bin.
pub(super) const BINS: usize = 0;
pub(super) const FOLDED: usize = 3;
pub(super) const SPAN: usize = 6;
pub(super) const IMAGES: usize = 9;
pub(super) const FIRST: usize = 12;
pub(super) const INTEGERS: usize = 13;

/// Folded bins per atom up to which bins are not folded further, and folded bins that any system may have. As atoms that
/// share a folded bin by accident are 1 in `PER_ATOM` bins, they are few among the candidates.
const PER_ATOM: u64 = 4;
const ALWAYS: u64 = 64;

/// Rounding of the device's lattice coordinates, which are computed in the list's dtype, is allowed for by half of this; the
/// other half is what [`Grid::slack`] is for.
const ROUNDINGS: f64 = 2.0;

/// Cutoffs beyond twice the furthest atom that atoms may move before grids are made anew.
const ROAM: f64 = 4.0;

/// The grids of all systems.
pub(super) struct Grids<T> {
    /// [n_systems, FLOATS].
    pub floats: Vec<T>,
    /// [n_systems, INTEGERS].
    pub integers: Vec<u32>,
    /// Folded bins of all systems.
    pub n_bins: usize,
}

impl<T: Real> Grids<T> {
    /// Grids with about `finer` bins per search radius; one bin per system for [`Strategy::Brute`]. With a `skin`, which the
    /// cutoff includes, in Å they allow for atoms that move.
    ///
    /// # Errors
    /// [`InputError::SingularCell`], [`InputError::TooManyImages`], [`InputError::FarAway`] and [`InputError::TooMany`].
    pub fn new(inputs: &Inputs<T>, strategy: Strategy, finer: [u32; 3], skin: Option<f64>) -> Result<Self, InputError> {
        let finer = match strategy {
            Strategy::Cells => finer,
            Strategy::Brute => [0; 3],
        };
        let n_systems = inputs.n_systems();
        let mut grids = Self {
            floats: Vec::with_capacity(n_systems * FLOATS),
            integers: Vec::with_capacity(n_systems * INTEGERS),
            n_bins: 0,
        };
        let mut first = 0u64;
        for system in 0..n_systems {
            let bins = grids.push(inputs, system, finer, first, skin)?;
            first += bins;
            let limit = u64::from(u32::MAX) - 1;
            if first > limit {
                return Err(InputError::TooMany { what: "bins", found: first, limit });
            }
        }
        grids.n_bins = first as usize;
        Ok(grids)
    }

    /// Adds a system whose first folded bin is `first`; how many folded bins it has.
    fn push(
        &mut self,
        inputs: &Inputs<T>,
        system: usize,
        finer: [u32; 3],
        first: u64,
        skin: Option<f64>,
    ) -> Result<u64, InputError> {
        let atoms = inputs.atoms(system);
        let position = |atom: usize| inputs.position(atom).map(T::to_f64);
        let cell = inputs.cell(system).map(|row| row.map(T::to_f64));
        let cutoff = inputs.cutoff.to_f64();
        let cell = (cell, inputs.pbc[system]);
        let positions = atoms.clone().map(position);
        let furthest = furthest(positions.clone());
        let within = |bound: f64| {
            let grid = Grid::new(system, cell, positions.clone(), bound, cutoff, ROUNDINGS * T::EPSILON, finer)?;
            Ok::<_, InputError>((grid, bound))
        };
        let roaming = skin.and_then(|_| within(2.0 * furthest + ROAM * cutoff).ok());
        let (grid, bound) = match roaming.filter(|(grid, bound)| grid.most_cells(*bound) <= MAX_WRAP) {
            Some(roaming) => roaming,
            None => within(furthest)?,
        };
        for atom in atoms.clone() {
            grid.place(atom, position(atom))?;
        }
        let (mut span, mut folded, mut least) = ([0; 3], [1; 3], [1; 3]);
        for (k, axis) in grid.axes.iter().enumerate() {
            if axis.periodic {
                span[k] = axis.span;
                folded[k] = axis.n_bins;
                least[k] = (2 * span[k] + 1).min(axis.n_bins);
            } else if axis.n_bins > 1 {
                // Unlike on the host there are bins beyond the outermost atoms, so they may be neighbours too.
                span[k] = ((cutoff + grid.slack) * axis.scale).ceil() as u32;
                least[k] = 2 * span[k] + 1;
                folded[k] = axis.n_bins.max(least[k]);
            }
        }
        let bins = |folded: [u32; 3]| folded.iter().map(|m| u64::from(*m)).product::<u64>();
        let most = (PER_ATOM * atoms.len() as u64).max(ALWAYS);
        while bins(folded) > most {
            let longest = (0..3).filter(|k| folded[*k] > least[*k]).max_by_key(|k| folded[*k]);
            let Some(k) = longest else { break };
            folded[k] = (folded[k] / 2).max(least[k]);
        }
        let axes = grid.axes;
        self.floats.extend(grid.basis.iter().chain(&grid.dual).flatten().map(|x| T::from_f64(*x)));
        self.floats.extend(axes.iter().map(|axis| T::from_f64(axis.scale)));
        self.floats.extend(axes.iter().map(|axis| T::from_f64(axis.origin)));
        let squared = |d: f64, rounding: f64| T::from_f64(d.powi(2) * (1.0 + rounding * T::EPSILON));
        self.floats.push(match cutoff - grid.slack {
            certain if certain > 0.0 => squared(certain, -4.0),
            // Not even two atoms in one place.
            _ => T::from_f64(-1.0),
        });
        self.floats.push(squared(cutoff + grid.slack, 4.0));
        self.floats.push(inputs.cutoff * inputs.cutoff);
        self.floats.push(T::from_f64(bound));
        // Less what the decisions of the list itself are rounded by.
        let limit = skin.unwrap_or(0.0) / 2.0 - 8.0 * T::EPSILON * bound.max(cutoff);
        self.floats.push(T::from_f64(limit.max(0.0).powi(2)));
        self.integers.extend(axes.iter().map(|axis| if axis.periodic { axis.n_bins } else { 0 }));
        self.integers.extend(folded);
        self.integers.extend(span);
        self.integers.extend(axes.iter().zip(span).map(|(axis, span)| match axis.periodic {
            true => span.div_ceil(axis.n_bins),
            false => 0,
        }));
        self.integers.push(first as u32);
        Ok(bins(folded))
    }
}
