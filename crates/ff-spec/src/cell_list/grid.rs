//! The grid that sorts the atoms of one system into bins, from its cell and the cutoff.
//!
//! Space is cut along the lattice vectors (along orthonormal complements of them in open directions) by planes, so that a
//! bin's neighbourhood is a box of bins in any cell. A cell thinner than the search radius is seen in several images: a
//! neighbourhood that reaches around it names the image of each bin.

use std::ops::RangeInclusive;

use super::InputError;

/// With these bounds every shift and bin index stays within `i32`, and a linear bin index within `u64`.
pub const MAX_WRAP: f64 = (1 << 28) as f64;
const MAX_IMAGES: f64 = (1 << 24) as f64;
const MAX_BINS: f64 = (1 << 20) as f64;

/// A vector in Å.
pub type Vec3 = [f64; 3];

/// One direction of a grid.
#[derive(Clone, Copy, Debug)]
pub struct Axis {
    /// Bins around the cell in a periodic direction, or between the outermost atoms in an open one.
    pub n_bins: u32,
    /// How many bins away neighbours can be.
    pub span: u32,
    /// Whether images follow each other.
    pub periodic: bool,
    /// Bins per unit of the lattice coordinate.
    pub scale: f64,
    /// Where the first bin begins.
    pub origin: f64,
}

/// Bins around a system.
#[derive(Clone, Debug)]
pub struct Grid {
    /// Lattice vectors as rows; in open directions orthonormal complements.
    pub basis: [Vec3; 3],
    /// Lattice coordinates are s_k = x · dual_k.
    pub dual: [Vec3; 3],
    /// Directions.
    pub axes: [Axis; 3],
    /// How far a distance between atoms moved into the cell may be from that of the edge vector, both computed in the dtype
    /// of the list. Each is a handful of operations on coordinates and multiples of lattice vectors, off by half an epsilon
    /// of its result: eight epsilons of the sum of all magnitudes are more than both.
    pub slack: f64,
    /// Sum of the magnitudes that make up the positions of atoms moved into the cell and of those of their images within
    /// reach.
    pub magnitude: f64,
}

/// Where an atom is in its grid.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// The cell it lies in; 0 in open directions.
    pub wrap: [i32; 3],
    /// Linear bin index, c fastest.
    pub bin: u64,
    /// Its position, moved into the cell.
    pub wrapped: Vec3,
}

impl Grid {
    /// The grid of a system with about `finer` bins per search radius in each direction where they fit; 0 asks for one bin.
    /// `furthest` is no less than any coordinate's magnitude, and `epsilon` is that of the list's dtype.
    ///
    /// # Errors
    /// [`InputError::SingularCell`] and [`InputError::TooManyImages`].
    pub fn new(
        system: usize,
        (cell, pbc): ([Vec3; 3], [bool; 3]),
        positions: impl Iterator<Item = Vec3> + Clone,
        furthest: f64,
        cutoff: f64,
        epsilon: f64,
        finer: [u32; 3],
    ) -> Result<Self, InputError> {
        let basis = complete(cell, pbc).ok_or(InputError::SingularCell { system, found: cell, pbc })?;
        let volume = dot(basis[0], cross(basis[1], basis[2]));
        let dual: [Vec3; 3] =
            std::array::from_fn(|k| cross(basis[(k + 1) % 3], basis[(k + 2) % 3]).map(|x| x / volume));
        let mut magnitude = 2.0 * furthest + cutoff;
        for k in (0..3).filter(|k| pbc[*k]) {
            // Cells between two atoms that are neighbours, wherever they lie: |S_k| ≤ |r_ij − (x_j − x_i)| ‖dual_k‖.
            let cells = (cutoff + 2.0 * 3f64.sqrt() * furthest) * norm(dual[k]) + 3.0;
            magnitude += cells * norm(basis[k]);
        }
        let slack = 8.0 * epsilon * magnitude;
        let mut magnitude = if pbc == [true; 3] { cutoff } else { cutoff + 4.0 * furthest };
        for k in (0..3).filter(|k| pbc[*k]) {
            magnitude += (cutoff * norm(dual[k]) + 4.0) * norm(basis[k]);
        }
        let reach = cutoff + slack;
        let mut images = 1.0;
        let mut axes = [Axis { n_bins: 1, span: 0, periodic: false, scale: 0.0, origin: 0.0 }; 3];
        for k in 0..3 {
            let axis = &mut axes[k];
            axis.periodic = pbc[k];
            // Planes of whole s_k lie so far apart.
            let spacing = 1.0 / norm(dual[k]);
            let wanted = |length: f64| if finer[k] == 0 { 1.0 } else { (length / reach * f64::from(finer[k])).floor() };
            if pbc[k] {
                let n = wanted(spacing).clamp(1.0, MAX_BINS);
                let span = (reach * n / spacing).ceil();
                images *= 2.0 * (span / n).ceil() + 1.0;
                (axis.n_bins, axis.scale) = (n as u32, n);
                // Only read where there are not too many images.
                axis.span = span as u32;
            } else {
                let (low, high) = positions.clone().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| {
                    let s = dot(x, dual[k]);
                    (low.min(s), high.max(s))
                });
                // No atoms, or coordinates beyond what can be subtracted: one bin.
                let length = if (high - low).is_finite() { high - low } else { 0.0 };
                let n = wanted(length).clamp(1.0, MAX_BINS);
                if n > 1.0 {
                    (axis.n_bins, axis.scale, axis.origin) = (n as u32, n / length, low);
                    axis.span = (reach * axis.scale).ceil().min(n - 1.0) as u32;
                }
            }
        }
        if images.is_nan() || images > MAX_IMAGES {
            return Err(InputError::TooManyImages { system, cutoff, found: images, limit: MAX_IMAGES });
        }
        Ok(Self { basis, dual, axes, slack, magnitude })
    }

    /// The most cells between the origin and an atom whose coordinates are no larger than `furthest`.
    pub fn most_cells(&self, furthest: f64) -> f64 {
        let along = |k: usize| if self.axes[k].periodic { self.dual[k].iter().map(|x| x.abs()).sum() } else { 0.0 };
        furthest * (0..3).map(along).fold(0.0, f64::max)
    }

    /// Bins in all.
    pub fn n_bins(&self) -> u64 {
        self.axes.iter().map(|axis| u64::from(axis.n_bins)).product()
    }

    /// Where an atom is.
    ///
    /// # Errors
    /// [`InputError::FarAway`].
    pub fn place(&self, atom: usize, x: Vec3) -> Result<Place, InputError> {
        let (mut wrap, mut bin) = ([0; 3], 0);
        for (k, axis) in self.axes.iter().enumerate() {
            let s = dot(x, self.dual[k]);
            let within = if axis.periodic {
                let cells = s.floor();
                if cells.abs() > MAX_WRAP {
                    return Err(InputError::FarAway { atom, found: cells.abs(), limit: MAX_WRAP });
                }
                wrap[k] = cells as i32;
                s - cells
            } else {
                s - axis.origin
            };
            // Rounding may lead one bin too far; a float beyond the integers, or NaN, is clamped by the conversion.
            let index = ((within * axis.scale) as u32).min(axis.n_bins - 1);
            bin = bin * u64::from(axis.n_bins) + u64::from(index);
        }
        let home = self.translation(wrap);
        Ok(Place { wrap, bin, wrapped: std::array::from_fn(|c| x[c] - home[c]) })
    }

    /// S·H.
    pub fn translation(&self, shift: [i32; 3]) -> Vec3 {
        let [a, b, c] = self.basis;
        let [s, t, u] = shift.map(f64::from);
        std::array::from_fn(|k| s * a[k] + t * b[k] + u * c[k])
    }

    /// The runs of bins around `bin` that follow each other along c, as ranges of linear indices, each with the image it is
    /// seen in.
    pub fn around(&self, bin: u64) -> impl Iterator<Item = (RangeInclusive<u64>, [i32; 3])> {
        let [a, b, c] = self.axes;
        let (plane, row) = (u64::from(b.n_bins) * u64::from(c.n_bins), u64::from(c.n_bins));
        let [i, j, k] = [bin / plane, bin % plane / row, bin % row].map(|index| index as i64);
        a.bins(i).flat_map(move |(i, image_a)| {
            b.bins(j).flat_map(move |(j, image_b)| {
                let first = i * plane + j * row;
                c.runs(k)
                    .map(move |(run, image_c)| (first + run.start()..=first + run.end(), [image_a, image_b, image_c]))
            })
        })
    }
}

impl Axis {
    /// Images that the neighbourhood of `at` reaches into.
    fn images(self, at: i64) -> RangeInclusive<i64> {
        let (n, span) = (i64::from(self.n_bins), i64::from(self.span));
        if self.periodic { (at - span).div_euclid(n)..=(at + span).div_euclid(n) } else { 0..=0 }
    }

    /// Bins around `at`, run by run.
    fn runs(self, at: i64) -> impl Iterator<Item = (RangeInclusive<u64>, i32)> {
        let (n, span) = (i64::from(self.n_bins), i64::from(self.span));
        self.images(at).map(move |image| {
            let first = (at - span - image * n).max(0);
            let last = (at + span - image * n).min(n - 1);
            (first as u64..=last as u64, image as i32)
        })
    }

    /// Bins around `at`, one by one.
    fn bins(self, at: i64) -> impl Iterator<Item = (u64, i32)> {
        self.runs(at).flat_map(|(run, image)| run.map(move |bin| (bin, image)))
    }
}

/// The cell with its open directions replaced by unit vectors orthogonal to all others; `None` if its periodic rows are not
/// finite or not linearly independent.
fn complete(cell: [Vec3; 3], pbc: [bool; 3]) -> Option<[Vec3; 3]> {
    const INDEPENDENT: f64 = 1e-8;
    let mut span: Vec<Vec3> = Vec::with_capacity(3);
    let residual = |span: &[Vec3], mut v: Vec3| {
        for u in span {
            let along = dot(v, *u);
            v = std::array::from_fn(|k| v[k] - along * u[k]);
        }
        v
    };
    for row in (0..3).filter(|k| pbc[*k]).map(|k| cell[k]) {
        let rest = residual(&span, row);
        // Written so that NaN and infinity fail too.
        if !(norm(rest) > INDEPENDENT * norm(row) && norm(row).is_finite()) {
            return None;
        }
        span.push(rest.map(|x| x / norm(rest)));
    }
    let mut basis = cell;
    for k in (0..3).filter(|k| !pbc[*k]) {
        // The axis that is furthest from the span; among equals the one of this direction, so that an open box stays upright.
        let axes = [k, (k + 1) % 3, (k + 2) % 3].map(|axis| {
            let mut unit = [0.0; 3];
            unit[axis] = 1.0;
            residual(&span, unit)
        });
        let best = axes.into_iter().reduce(|a, b| if norm(b) > norm(a) * 1.01 { b } else { a })?;
        basis[k] = best.map(|x| x / norm(best));
        span.push(basis[k]);
    }
    Some(basis)
}

/// The largest magnitude of a coordinate.
pub fn furthest(positions: impl Iterator<Item = Vec3>) -> f64 {
    positions.flatten().fold(0.0, |m: f64, x| m.max(x.abs()))
}

fn norm(v: Vec3) -> f64 {
    dot(v, v).sqrt()
}

fn dot(a: Vec3, b: Vec3) -> f64 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

fn cross(a: Vec3, b: Vec3) -> Vec3 {
    [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
}
