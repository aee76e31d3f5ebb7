//! The edges that are computed together: their geometry and everything of the filter that no channel changes.

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};

use super::call::{Backward, Call};
use super::config::HostConfig;
use crate::{Element, MAX_LANES};
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
    /// How fast things change in a direction: d and u of each edge.
    pub rate: Vec<T>,
    pub u_rate: [Vec<T>; 3],
    /// Second derivatives in d of `f_c` and of basis values or Hermite weights.
    pub f_c_curve: Vec<T>,
    pub curves: Vec<T>,
    /// Rates of `coefficients`, then of the hidden layer and its slopes.
    pub rates: Vec<T>,
    pub hidden_rates: Vec<T>,
    pub hidden_slope_rates: Vec<T>,
    /// Rate of σ′.
    pub activation_rates: Vec<T>,
    /// Rates of edge vectors, [capacity, 3].
    edge_vec_rate: Vec<T>,
}

impl<T: Element> Tile<T> {
    pub fn new(call: &Call<T>, config: &HostConfig) -> Self {
        Self::sized(call, config, 0, 0)
    }

    /// What tiles of calls differ in, of those that have slopes, or have none.
    pub fn sizes(call: &Call<T>, config: &HostConfig) -> [usize; 3] {
        [Self::capacity(config), Self::rows(call), call.hidden()]
    }

    /// Rows of coefficients.
    fn rows(call: &Call<T>) -> usize {
        match call.filter {
            Filter::Tabulated { order, .. } => 2 * order,
            _ => call.n_basis,
        }
    }

    /// With room for second derivatives and rates as well.
    pub fn with_rates(call: &Call<T>, config: &HostConfig) -> Self {
        Self::sized(call, config, 1, 1)
    }

    /// With room for derivatives in d and for where edges are in the list.
    pub fn with_slopes(call: &Call<T>, config: &HostConfig) -> Self {
        Self::sized(call, config, 1, 0)
    }

    /// Edges of a tile under `config`.
    pub fn capacity(config: &HostConfig) -> usize {
        config.edges_per_tile.max(1).next_multiple_of(MAX_LANES)
    }

    fn sized(call: &Call<T>, config: &HostConfig, slopes: usize, rates: usize) -> Self {
        let capacity = Self::capacity(config);
        let (depth, hidden) = (Self::rows(call), call.hidden());
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
            rate: vec![zero; rates * capacity],
            u_rate: std::array::from_fn(|_| vec![zero; rates * capacity]),
            f_c_curve: vec![zero; rates * capacity],
            curves: vec![zero; rates * depth * stride],
            rates: vec![zero; rates * depth * stride],
            hidden_rates: vec![zero; rates * hidden * stride],
            hidden_slope_rates: vec![zero; rates * hidden * stride],
            activation_rates: vec![zero; rates * hidden * stride],
            edge_vec_rate: vec![zero; 3 * rates * capacity],
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

    /// [`Tile::push`] with rates of edge vectors.
    pub fn push_rates(&mut self, call: &Call<T>, rates: &[T], row: usize, edges: Range<usize>) {
        let at = 3 * self.len;
        let rates = &rates[3 * edges.start..3 * edges.end];
        self.edge_vec_rate[at..at + rates.len()].copy_from_slice(rates);
        self.push(call, row, edges);
    }

    /// [`Tile::push_sent`] with rates of edge vectors.
    pub fn push_sent_rates(
        &mut self,
        call: &Call<T>,
        backward: &Backward<T>,
        rates: &[T],
        row: usize,
        sent: Range<usize>,
    ) {
        for (at, edge) in (self.len..).zip(&backward.transpose[sent.clone()]) {
            let e = *edge as usize;
            self.edge_vec_rate[3 * at..3 * at + 3].copy_from_slice(&rates[3 * e..3 * e + 3]);
        }
        self.push_sent(call, backward, row, sent);
    }

    fn rates_of_geometry(&mut self) {
        for e in 0..self.len {
            let d = self.d[e].to_f64();
            let u: [f64; 3] = std::array::from_fn(|axis| self.u[axis][e].to_f64());
            let r: [f64; 3] = std::array::from_fn(|axis| self.edge_vec_rate[3 * e + axis].to_f64());
            let rate = u[0] * r[0] + u[1] * r[1] + u[2] * r[2];
            let inverse = if d > 0.0 { 1.0 / d } else { 0.0 };
            self.rate[e] = T::from_f64(rate);
            for axis in 0..3 {
                self.u_rate[axis][e] = T::from_f64((r[axis] - u[axis] * rate) * inverse);
            }
        }
    }

    /// Rates of basis values. Those that would be subnormal are zero: products with them take a processor a hundred cycles.
    pub fn rates_of_basis(&mut self, n_basis: usize) {
        let padded = self.padded();
        for k in 0..n_basis {
            let at = k * self.stride..k * self.stride + padded;
            let of = self.slopes[at.clone()].iter().zip(&self.rate);
            for (rate, (slope, by)) in self.rates[at].iter_mut().zip(of) {
                let value = slope.to_f64() * by.to_f64();
                *rate = if value.abs() < T::LEAST_NORMAL { T::default() } else { T::from_f64(value) };
            }
        }
    }

    /// Distances and directions of what was pushed, and their rates where there are any; edges in the skin are dropped.
    pub fn geometry(&mut self, call: &Call<T>) {
        let n = self.len;
        Arch::new().dispatch(Geometry { tile: self });
        if !self.rate.is_empty() {
            self.rates_of_geometry();
        }
        self.len = self.drop_skin(n, call.r_cut);
        let padding = self.len..self.padded();
        if let Some(last) = self.len.checked_sub(1) {
            let (sender, receiver) = (self.sender[last], self.receiver[last]);
            self.sender[padding.clone()].fill(sender);
            self.receiver[padding.clone()].fill(receiver);
            for u in &mut self.u {
                u[padding.clone()].fill(T::default());
            }
            if !self.rate.is_empty() {
                self.rate[padding.clone()].fill(T::default());
                self.u_rate.iter_mut().for_each(|u| u[padding.clone()].fill(T::default()));
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
                if !self.rate.is_empty() {
                    self.rate[kept] = self.rate[e];
                    self.u_rate.iter_mut().for_each(|u| u[kept] = u[e]);
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
