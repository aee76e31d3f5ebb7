//! The edges that are computed together: their geometry and everything of the filter that no channel changes.

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};

use super::backward::Backward;
use super::{Call, HostConfig};
use crate::host::{Element, MAX_LANES};
use ff_spec::fused_message::Filter;

/// Edges of one tile with d < r_c. Every buffer is padded to whole registers with edges that add nothing.
pub(super) struct Tile<T> {
    /// Edges it can hold: a multiple of every vector width.
    pub capacity: usize,
    /// Elements from one row of coefficients to the next: odd in cache lines, so that rows do not share cache sets.
    pub stride: usize,
    /// Edges it holds.
    pub len: usize,
    /// The atom whose features are gathered: the sender, or the receiver where gradients go the other way.
    pub sender: Vec<u32>,
    /// The atom whose sums are taken.
    pub receiver: Vec<u32>,
    /// Where each edge is in the list; only with slopes.
    pub edge: Vec<u32>,
    /// [capacity, 3].
    edge_vec: Vec<T>,
    pub d: Vec<T>,
    /// Direction, by axis.
    pub u: [Vec<T>; 3],
    pub f_c: Vec<T>,
    /// Basis values [K, stride], or Hermite weights [capacity, 2·order].
    pub coefficients: Vec<T>,
    /// First row of the table for each edge (`tabulated`).
    pub base: Vec<u32>,
    /// Hidden layer [hidden, stride] (`mlp`).
    pub hidden: Vec<T>,
    /// Derivatives in d of `f_c`, `coefficients` and `hidden`, where they are asked for.
    pub f_c_slope: Vec<T>,
    pub slopes: Vec<T>,
    pub hidden_slopes: Vec<T>,
    /// σ′ of the hidden layer, where slopes are asked for.
    pub activation: Vec<T>,
}

impl<T: Element> Tile<T> {
    pub fn new(call: &Call<T>, config: &HostConfig) -> Self {
        Self::sized(call, config, 0)
    }

    /// With room for derivatives in d and for where edges are in the list.
    pub fn with_slopes(call: &Call<T>, config: &HostConfig) -> Self {
        Self::sized(call, config, 1)
    }

    fn sized(call: &Call<T>, config: &HostConfig, slopes: usize) -> Self {
        let capacity = config.edges_per_tile.max(1).next_multiple_of(MAX_LANES);
        let (depth, hidden) = match call.filter {
            Filter::Linear { .. } => (call.n_basis, 0),
            Filter::Mlp { hidden, .. } => (call.n_basis, *hidden),
            Filter::Tabulated { order, .. } => (2 * order, 0),
        };
        let stride = capacity + if (capacity / MAX_LANES).is_multiple_of(2) { MAX_LANES } else { 0 };
        let zero = T::default();
        Self {
            capacity,
            stride,
            len: 0,
            sender: vec![0; capacity],
            receiver: vec![0; capacity],
            edge_vec: vec![zero; 3 * capacity],
            d: vec![zero; capacity],
            u: std::array::from_fn(|_| vec![zero; capacity]),
            f_c: vec![zero; capacity],
            coefficients: vec![zero; depth * stride],
            base: vec![0; capacity],
            hidden: vec![zero; hidden * stride],
            edge: vec![0; slopes * capacity],
            f_c_slope: vec![zero; slopes * capacity],
            slopes: vec![zero; slopes * depth * stride],
            hidden_slopes: vec![zero; slopes * hidden * stride],
            activation: vec![zero; slopes * hidden * stride],
        }
    }

    /// `len` padded to whole registers of any width.
    pub fn padded(&self) -> usize {
        self.len.next_multiple_of(MAX_LANES)
    }

    /// Appends edges of one receiver, no more than there is room for.
    pub fn push(&mut self, call: &Call<T>, row: usize, edges: Range<usize>) {
        let at = self.len..self.len + edges.len();
        self.sender[at.clone()].copy_from_slice(&call.sender[edges.clone()]);
        self.receiver[at.clone()].fill(row as u32);
        self.edge_vec[3 * at.start..3 * at.end].copy_from_slice(&call.edge_vec[3 * edges.start..3 * edges.end]);
        self.len = at.end;
    }

    /// Appends edges sent by `row`, given by their places in the list by sender; no more than there is room for.
    pub fn push_sent(&mut self, call: &Call<T>, backward: &Backward<T>, row: usize, sent: Range<usize>) {
        let at = self.len..self.len + sent.len();
        for (at, edge) in at.clone().zip(&backward.transpose[sent]) {
            let e = *edge as usize;
            (self.sender[at], self.edge[at]) = (backward.receiver[e], *edge);
            self.edge_vec[3 * at..3 * at + 3].copy_from_slice(&call.edge_vec[3 * e..3 * e + 3]);
        }
        self.receiver[at.clone()].fill(row as u32);
        self.len = at.end;
    }

    /// Distances and directions of what was pushed; edges in the skin are dropped.
    pub fn geometry(&mut self, call: &Call<T>) {
        let n = self.len;
        Arch::new().dispatch(Geometry { tile: self });
        self.len = self.drop_skin(n, call.r_cut);
        let padding = self.len..self.padded();
        if let Some(last) = self.len.checked_sub(1) {
            let (sender, receiver) = (self.sender[last], self.receiver[last]);
            self.sender[padding.clone()].fill(sender);
            self.receiver[padding.clone()].fill(receiver);
            for u in &mut self.u {
                u[padding.clone()].fill(T::default());
            }
            // Any distance at which every radial function is finite.
            self.d[padding].fill(T::from_f64(0.5 * call.r_cut.to_f64()));
        }
    }

    /// Moves the first `n` edges' with d < r_cut to the front; returns their number.
    fn drop_skin(&mut self, n: usize, r_cut: T) -> usize {
        let Some(first) = self.d[..n].iter().position(|d| *d >= r_cut) else { return n };
        let mut kept = first;
        for e in first..n {
            if self.d[e] < r_cut {
                self.sender[kept] = self.sender[e];
                self.receiver[kept] = self.receiver[e];
                if !self.edge.is_empty() {
                    self.edge[kept] = self.edge[e];
                }
                self.d[kept] = self.d[e];
                for u in &mut self.u {
                    u[kept] = u[e];
                }
                kept += 1;
            }
        }
        kept
    }
}

/// Distances and directions, in f64 even for f32: exact squares, so that a subnormal or huge component neither under- nor
/// overflows.
struct Geometry<'a, T> {
    tile: &'a mut Tile<T>,
}

impl<T: Element> WithSimd for Geometry<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        // Loops over arrays of constant length, which the compiler turns into registers of this SIMD level.
        const N: usize = MAX_LANES;
        let tile = self.tile;
        for (chunk, vectors) in tile.edge_vec[..3 * tile.len].chunks(3 * N).enumerate() {
            let mut r = [T::default(); 3 * N];
            r[..vectors.len()].copy_from_slice(vectors);
            let [mut x, mut y, mut z, mut d, mut inverse] = [[0.0; N]; 5];
            for e in 0..N {
                x[e] = r[3 * e].to_f64();
                y[e] = r[3 * e + 1].to_f64();
                z[e] = r[3 * e + 2].to_f64();
            }
            for e in 0..N {
                d[e] = (x[e] * x[e] + y[e] * y[e] + z[e] * z[e]).sqrt();
                inverse[e] = if d[e] > 0.0 { 1.0 / d[e] } else { 0.0 };
            }
            let at = chunk * N..(chunk + 1) * N;
            for (out, d) in tile.d[at.clone()].iter_mut().zip(d) {
                *out = T::from_f64(d);
            }
            for (u, axis) in tile.u.iter_mut().zip([x, y, z]) {
                for ((u, component), inverse) in u[at.clone()].iter_mut().zip(axis).zip(inverse) {
                    *u = T::from_f64(component * inverse);
                }
            }
        }
    }
}
