//! Basis values, cutoffs and Hermite weights of a tile, lanes across edges.

use std::marker::PhantomData;

use pulp::{Arch, Simd, WithSimd};

use super::call::Call;
use super::tile::Tile;
use crate::{Element, Lane, MAX_LANES};

/// A radial basis φ_k(d); generated code implements it.
pub trait Basis: Send + Sync + 'static {
    /// φ_k(d).
    fn value<S: Simd, T: Element>(d: Lane<S, T>, r_c: Lane<S, T>, k: Lane<S, T>, p: &[Lane<S, T>]) -> Lane<S, T>;
    /// φ_k and its first two derivatives in d.
    fn jet<S: Simd, T: Element>(d: Lane<S, T>, r_c: Lane<S, T>, k: Lane<S, T>, p: &[Lane<S, T>]) -> Jet<S, T>;
}

/// A cutoff function f_c(d) for d < r_c; generated code implements it.
pub trait Cutoff: Send + Sync + 'static {
    /// f_c(d).
    fn value<S: Simd, T: Element>(d: Lane<S, T>, r_c: Lane<S, T>, p: &[Lane<S, T>]) -> Lane<S, T>;
    /// f_c and its first two derivatives in d.
    fn jet<S: Simd, T: Element>(d: Lane<S, T>, r_c: Lane<S, T>, p: &[Lane<S, T>]) -> Jet<S, T>;
}

/// A value with its first two derivatives in d.
pub type Jet<S, T> = [Lane<S, T>; 3];

/// φ_k and its first two derivatives for one d in f64: (d, r_c, k, parameters).
fn basis_jet<B: Basis>(d: f64, r_c: f64, k: f64, p: &[f64]) -> [f64; 3] {
    scalar_jet(p, |at, p| B::jet(at(d), at(r_c), at(k), p))
}

/// f_c and its first two derivatives for one d in f64: (d, r_c, parameters).
fn cutoff_jet<C: Cutoff>(d: f64, r_c: f64, p: &[f64]) -> [f64; 3] {
    scalar_jet(p, |at, p| C::jet(at(d), at(r_c), p))
}

type One = Lane<pulp::Scalar, f64>;

fn scalar_jet(p: &[f64], jet: impl Fn(&dyn Fn(f64) -> One, &[One]) -> [One; 3]) -> [f64; 3] {
    let at = |x: f64| One::splat(pulp::Scalar, x);
    let p: Vec<One> = p.iter().map(|x| at(*x)).collect();
    jet(&at, &p).map(|lane| lane.v)
}

/// The most parameters a radial function may declare: more than a handful has no published precedent.
pub const MAX_PARAMETERS: usize = 8;

/// Parameters of a radial function in declared order: name, and whether there is one per basis function.
pub type Parameters = &'static [(&'static str, bool)];

/// Fills planes of a tile.
type Fill<T> = fn(&Call<T>, &mut Tile<T>);

/// A radial basis, compiled for an element type.
pub struct BasisStage<T> {
    /// Name.
    pub name: &'static str,
    /// Its parameters.
    pub parameters: Parameters,
    /// Its generated file.
    pub text: &'static str,
    /// φ_k and its first two derivatives for one d in f64: (d, r_c, k, parameters).
    pub jet: fn(f64, f64, f64, &[f64]) -> [f64; 3],
    /// Basis values of a tile, by derivatives in d.
    pub(super) fill: [Fill<T>; 3],
}

impl<T: Element> BasisStage<T> {
    /// Of the basis `B`.
    pub const fn new<B: Basis>(name: &'static str, parameters: Parameters, text: &'static str) -> Self {
        let fill: [Fill<T>; 3] = [fill_basis::<T, B, 0>, fill_basis::<T, B, 1>, fill_basis::<T, B, 2>];
        Self { name, parameters, text, jet: basis_jet::<B>, fill }
    }
}

/// A cutoff function, compiled for an element type.
pub struct CutoffStage<T> {
    /// Name.
    pub name: &'static str,
    /// Its parameters.
    pub parameters: Parameters,
    /// Its generated file.
    pub text: &'static str,
    /// f_c and its first two derivatives for one d in f64: (d, r_c, parameters).
    pub jet: fn(f64, f64, &[f64]) -> [f64; 3],
    /// Cutoffs of a tile, by derivatives in d.
    pub(super) fill: [Fill<T>; 3],
}

impl<T: Element> CutoffStage<T> {
    /// Of the cutoff function `C`.
    pub const fn new<C: Cutoff>(name: &'static str, parameters: Parameters, text: &'static str) -> Self {
        let fill: [Fill<T>; 3] = [fill_cutoff::<T, C, 0>, fill_cutoff::<T, C, 1>, fill_cutoff::<T, C, 2>];
        Self { name, parameters, text, jet: cutoff_jet::<C>, fill }
    }
}

fn fill_basis<T: Element, B: Basis, const ORDER: u8>(call: &Call<T>, tile: &mut Tile<T>) {
    Arch::new().dispatch(BasisTile::<_, B, ORDER> { call, tile, basis: PhantomData });
}

fn fill_cutoff<T: Element, C: Cutoff, const ORDER: u8>(call: &Call<T>, tile: &mut Tile<T>) {
    Arch::new().dispatch(CutoffTile::<_, C, ORDER> { call, tile, cutoff: PhantomData });
}

struct CutoffTile<'a, T, C, const ORDER: u8> {
    call: &'a Call<'a, T>,
    tile: &'a mut Tile<T>,
    cutoff: PhantomData<C>,
}

impl<T: Element, C: Cutoff, const ORDER: u8> WithSimd for CutoffTile<'_, T, C, ORDER> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { call, tile, .. } = self;
        let (lanes, padded) = (T::lanes::<S>(), tile.padded());
        let splat = |x: T| Lane::<S, T>::splat(simd, x);
        let r_c = splat(call.r_cut);
        let mut p = [splat(T::default()); MAX_PARAMETERS];
        for (p, value) in p.iter_mut().zip(&call.cutoff) {
            *p = splat(*value);
        }
        for e in (0..padded).step_by(lanes) {
            let d = Lane::load_full(simd, &tile.d[e..]);
            if const { ORDER >= 1 } {
                let [value, slope, curve] = C::jet(d, r_c, &p);
                value.store_full(&mut tile.f_c[e..]);
                slope.store_full(&mut tile.f_c_slope[e..]);
                if const { ORDER >= 2 } {
                    curve.store_full(&mut tile.f_c_curve[e..]);
                }
            } else {
                C::value(d, r_c, &p).store_full(&mut tile.f_c[e..]);
            }
        }
        // The edges that only pad the tile must add nothing.
        tile.f_c[tile.len..padded].fill(T::default());
        if const { ORDER >= 1 } {
            tile.f_c_slope[tile.len..padded].fill(T::default());
        }
        if const { ORDER >= 2 } {
            tile.f_c_curve[tile.len..padded].fill(T::default());
        }
    }
}

struct BasisTile<'a, T, B, const ORDER: u8> {
    call: &'a Call<'a, T>,
    tile: &'a mut Tile<T>,
    basis: PhantomData<B>,
}

impl<T: Element, B: Basis, const ORDER: u8> WithSimd for BasisTile<'_, T, B, ORDER> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { call, tile, .. } = self;
        let (lanes, padded, stride) = (T::lanes::<S>(), tile.padded(), tile.stride);
        let splat = |x: T| Lane::<S, T>::splat(simd, x);
        let r_c = splat(call.r_cut);
        let mut p = [splat(T::default()); MAX_PARAMETERS];
        for k in 0..call.n_basis {
            for (p, values) in p.iter_mut().zip(&call.basis) {
                *p = splat(if values.len() == 1 { values[0] } else { values[k] });
            }
            let index = splat(T::from_f64(k as f64 + 1.0));
            for e in (0..padded).step_by(lanes) {
                let (d, at) = (Lane::load_full(simd, &tile.d[e..]), k * stride + e);
                if const { ORDER >= 1 } {
                    let [value, slope, curve] = B::jet(d, r_c, index, &p);
                    value.store_full(&mut tile.coefficients[at..]);
                    slope.store_full(&mut tile.slopes[at..]);
                    if const { ORDER >= 2 } {
                        curve.store_full(&mut tile.curves[at..]);
                    }
                } else {
                    B::value(d, r_c, index, &p).store_full(&mut tile.coefficients[at..]);
                }
            }
        }
    }
}

/// Hermite weights of a tile and the table row each edge starts at.
pub(super) struct HermiteTile<'a, T, const ORDER: u8> {
    pub r_cut: T,
    pub order: usize,
    pub n_nodes: usize,
    pub tile: &'a mut Tile<T>,
}

impl<T: Element, const ORDER: u8> WithSimd for HermiteTile<'_, T, ORDER> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { r_cut, order, n_nodes, tile } = self;
        let (lanes, padded, depth) = (T::lanes::<S>(), tile.padded(), 2 * order);
        let segments = (n_nodes - 1) as f64;
        let h = r_cut.to_f64() / segments;
        let per_h = 1.0 / h;
        // f_c is not used by this filter: its buffer holds the position t in [0, 1] within the segment.
        for e in 0..padded {
            let x = tile.d[e].to_f64() * per_h;
            let segment = x.floor().min(segments - 1.0);
            tile.base[e] = (segment as usize * order) as u32;
            tile.f_c[e] = T::from_f64(x - segment);
        }
        for e in (0..padded).step_by(lanes) {
            let t = Lane::<S, T>::load_full(simd, &tile.f_c[e..]);
            let s = t.lit(1.0) - t;
            let (t2, s2) = (t * t, s * s);
            let h = t.lit(h);
            let (one, zero) = (t.lit(1.0), t.lit(0.0));
            let weights = if order == 2 {
                [s2 * (one + t + t), h * t * s2, t2 * (one + s + s), -(h * s * t2), zero, zero]
            } else {
                let (t3, s3) = (t2 * t, s2 * s);
                let (three, six, half_h2) = (t.lit(3.0), t.lit(6.0), t.lit(0.5) * h * h);
                [
                    s3 * (one + three * t + six * t2),
                    h * t * s3 * (one + three * t),
                    half_h2 * t2 * s3,
                    t3 * (one + three * s + six * s2),
                    -(h * s * t3 * (one + three * s)),
                    half_h2 * s2 * t3,
                ]
            };
            store_by_edge(&mut tile.coefficients[e * depth..], depth, &weights);
            if const { ORDER >= 1 } {
                let (three, five, per_h) = (t.lit(3.0), t.lit(5.0), t.lit(per_h));
                let slopes = if order == 2 {
                    let ends = t.lit(6.0) * t * s * per_h;
                    [-ends, s * (one - three * t), ends, t * (one - three * s), zero, zero]
                } else {
                    let (ends, half_h) = (t.lit(30.0) * t2 * s2 * per_h, t.lit(0.5) * h);
                    let two = t.lit(2.0);
                    [
                        -ends,
                        s2 * (one - three * t) * (one + five * t),
                        half_h * t * s2 * (two - five * t),
                        ends,
                        t2 * (one - three * s) * (one + five * s),
                        -(half_h * s * t2 * (two - five * s)),
                    ]
                };
                store_by_edge(&mut tile.slopes[e * depth..], depth, &slopes);
            }
            if const { ORDER >= 2 } {
                let (per_h, per_h2) = (t.lit(per_h), t.lit(per_h * per_h));
                let (two, three, four, six) = (t.lit(2.0), t.lit(3.0), t.lit(4.0), t.lit(6.0));
                let curves = if order == 2 {
                    let ends = six * (one - two * t) * per_h2;
                    [-ends, (six * t - four) * per_h, ends, (four - six * s) * per_h, zero, zero]
                } else {
                    // d²/dt² of the quintic's weights, over h².
                    let ends = t.lit(60.0) * t * s * (s - t) * per_h2;
                    let slope = t.lit(12.0) * per_h;
                    let half = t.lit(0.5);
                    [
                        -ends,
                        -(slope * t * s * (three - t.lit(5.0) * t)),
                        half * s * (two - t.lit(16.0) * t + t.lit(20.0) * t2),
                        ends,
                        slope * s * t * (three - t.lit(5.0) * s),
                        half * t * (two - t.lit(16.0) * s + t.lit(20.0) * s2),
                    ]
                };
                store_by_edge(&mut tile.curves[e * depth..], depth, &curves);
            }
        }
        // The edges that only pad the tile must add nothing.
        tile.coefficients[tile.len * depth..padded * depth].fill(T::default());
        if const { ORDER >= 1 } {
            tile.slopes[tile.len * depth..padded * depth].fill(T::default());
        }
        if const { ORDER >= 2 } {
            tile.curves[tile.len * depth..padded * depth].fill(T::default());
        }
    }
}

/// Writes the weights of a register of edges, edge by edge.
#[inline(always)]
fn store_by_edge<S: Simd, T: Element>(out: &mut [T], depth: usize, weights: &[Lane<S, T>; 6]) {
    for (m, weight) in weights.iter().take(depth).enumerate() {
        let mut values = [T::default(); MAX_LANES];
        weight.store_full(&mut values);
        for (edge, value) in out.chunks_exact_mut(depth).zip(&values[..T::lanes::<S>()]) {
            edge[m] = *value;
        }
    }
}
