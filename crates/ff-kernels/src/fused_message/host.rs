//! The host kernels of `fused_message`: hand-written stages that a generated variant composes.
//!
//! A task walks its edges in tiles. Per tile: distances and directions (edges in the skin are dropped here), then the
//! coefficients of the filter (basis values, hidden layer or Hermite weights), then, per block of channels, the filter
//! itself and the message, summed over each run of edges that share a receiver while the filter is in L1.

use std::marker::PhantomData;

use ff_spec::fused_message::{Activation, Filter, Outputs};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use crate::host::{Element, Lane, maths};

/// Borrowed inputs of one call; shapes as in [`ff_spec::fused_message::Inputs`], already checked.
pub struct Call<'a, T> {
    /// Feature width F.
    pub features: usize,
    /// [n_atoms + 1].
    pub row_ptr: &'a [u32],
    /// [n_edges].
    pub sender: &'a [u32],
    /// [n_edges, 3], Å.
    pub edge_vec: &'a [T],
    /// `x` or `s`.
    pub nodes: &'a [T],
    /// `mu`, or empty.
    pub vectors: &'a [T],
    /// r_c, Å.
    pub r_cut: T,
    /// K.
    pub n_basis: usize,
    /// Parameters of the basis in declared order, each of length 1 or K.
    pub basis: Vec<&'a [T]>,
    /// Parameters of the cutoff function in declared order.
    pub cutoff: Vec<T>,
    /// Weights.
    pub filter: &'a Filter<T>,
}

/// Launch parameters of the host kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostConfig {
    /// Receiver rows of one task (`receiver`).
    pub rows_per_task: usize,
    /// Tiles of one task (`edge_atomic`).
    pub tiles_per_task: usize,
    /// Edges whose filter is computed together.
    pub edges_per_tile: usize,
    /// Features of one pass over a tile.
    pub channel_block: usize,
}

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
pub fn basis_jet<B: Basis>(d: f64, r_c: f64, k: f64, p: &[f64]) -> [f64; 3] {
    scalar_jet(p, |at, p| B::jet(at(d), at(r_c), at(k), p))
}

/// f_c and its first two derivatives for one d in f64: (d, r_c, parameters).
pub fn cutoff_jet<C: Cutoff>(d: f64, r_c: f64, p: &[f64]) -> [f64; 3] {
    scalar_jet(p, |at, p| C::jet(at(d), at(r_c), p))
}

type One = Lane<pulp::Scalar, f64>;

fn scalar_jet(p: &[f64], jet: impl Fn(&dyn Fn(f64) -> One, &[One]) -> [One; 3]) -> [f64; 3] {
    let at = |x: f64| One::splat(pulp::Scalar, x);
    let p: Vec<One> = p.iter().map(|x| at(*x)).collect();
    jet(&at, &p).map(|lane| lane.v)
}

/// How a variant fills a tile with basis values and cutoffs.
pub trait Radial: 'static {
    #[doc(hidden)]
    #[expect(private_interfaces, reason = "sealed: implemented in this module only")]
    fn fill<T: Element>(call: &Call<T>, tile: &mut Tile<T>);
}

/// A basis under a cutoff.
pub struct Pair<B, C>(PhantomData<(B, C)>);

impl<B: Basis, C: Cutoff> Radial for Pair<B, C> {
    #[expect(private_interfaces, reason = "as in the trait")]
    fn fill<T: Element>(call: &Call<T>, tile: &mut Tile<T>) {
        Arch::new().dispatch(RadialTile { call, tile, functions: PhantomData::<(B, C)> });
    }
}

/// No radial functions: a tabulated filter has them in its table.
pub struct InTable;

impl Radial for InTable {
    #[expect(private_interfaces, reason = "as in the trait")]
    fn fill<T: Element>(_: &Call<T>, _: &mut Tile<T>) {}
}

/// Edges of one tile with d < r_c, and everything computed of them.
struct Tile<T> {
    /// Edges it can hold: a multiple of every vector width.
    capacity: usize,
    sender: Vec<u32>,
    /// Runs of edges with one receiver: (row, first, one past last).
    runs: Vec<(usize, usize, usize)>,
    d: Vec<T>,
    /// Direction u, [capacity, 3].
    u: Vec<[T; 3]>,
    f_c: Vec<T>,
    /// Coefficients [depth, capacity] of the filter's last linear map.
    coefficients: Vec<T>,
    /// First row of the table for each edge (`tabulated`).
    base: Vec<u32>,
    /// [capacity, hidden] (`mlp`).
    hidden: Vec<T>,
    /// The filter of one channel block, [capacity, parts, padded block].
    w: Vec<T>,
}

/// The widest vector in elements, for padding: AVX-512 in f32.
const MAX_LANES: usize = 16;

impl<T: Element> Tile<T> {
    fn new(call: &Call<T>, config: &HostConfig, parts: usize) -> Self {
        let capacity = config.edges_per_tile.max(1).next_multiple_of(MAX_LANES);
        let block = config.channel_block.clamp(1, call.features.max(1)).next_multiple_of(MAX_LANES);
        let (depth, hidden) = match call.filter {
            Filter::Linear { .. } => (call.n_basis, 0),
            Filter::Mlp { hidden, .. } => (call.n_basis, hidden.next_multiple_of(MAX_LANES)),
            Filter::Tabulated { order, .. } => (2 * order, 0),
        };
        let zero = T::default();
        Self {
            capacity,
            sender: Vec::with_capacity(capacity),
            runs: Vec::new(),
            d: vec![zero; capacity],
            u: vec![[zero; 3]; capacity],
            f_c: vec![zero; capacity],
            coefficients: vec![zero; depth * capacity],
            base: vec![0; capacity],
            hidden: vec![zero; hidden * capacity],
            w: vec![zero; capacity * parts * block],
        }
    }

    fn len(&self) -> usize {
        self.sender.len()
    }

    fn clear(&mut self) {
        self.sender.clear();
        self.runs.clear();
    }

    /// Adds an edge unless it lies in the skin; returns whether the tile is now full.
    #[inline]
    fn push(&mut self, call: &Call<T>, row: usize, edge: usize) -> bool {
        let r: [f64; 3] = std::array::from_fn(|x| call.edge_vec[3 * edge + x].to_f64());
        // In f64 even for f32: exact squares, so that a subnormal or huge component neither under- nor overflows.
        let d = (r[0] * r[0] + r[1] * r[1] + r[2] * r[2]).sqrt();
        if d >= call.r_cut.to_f64() {
            return false;
        }
        let inverse = if d > 0.0 { 1.0 / d } else { 0.0 };
        let at = self.len();
        self.d[at] = T::from_f64(d);
        self.u[at] = r.map(|x| T::from_f64(x * inverse));
        self.sender.push(call.sender[edge]);
        match self.runs.last_mut() {
            Some((last, _, end)) if *last == row => *end = at + 1,
            _ => self.runs.push((row, at, at + 1)),
        }
        self.sender.len() == self.capacity
    }
}

/// W[e, :] = scale[e]·(bias + Σ_k coefficient[e, k]·weights[base[e] + k, :]).
#[derive(Clone, Copy)]
struct LinearMap<'a, T> {
    coefficients: &'a [T],
    stride_k: usize,
    stride_e: usize,
    edges: usize,
    depth: usize,
    base: Option<&'a [u32]>,
    weights: &'a [T],
    columns: usize,
    bias: Option<&'a [T]>,
    scale: Option<&'a [T]>,
}

/// The linear map from basis values to the columns of `weights`.
fn basis_map<'a, T: Element>(
    call: &Call<T>,
    tile: &'a Tile<T>,
    weights: &'a [T],
    bias: &'a [T],
    scale: Option<&'a [T]>,
) -> LinearMap<'a, T> {
    LinearMap {
        coefficients: &tile.coefficients,
        stride_k: tile.capacity,
        stride_e: 1,
        edges: tile.len(),
        depth: call.n_basis,
        base: None,
        weights,
        columns: bias.len(),
        bias: Some(bias),
        scale,
    }
}

/// Everything of the filter that does not depend on the channel.
fn coefficients<T: Element>(stages: &Stages<T>, call: &Call<T>, tile: &mut Tile<T>) {
    let arch = Arch::new();
    match call.filter {
        Filter::Linear { .. } => (stages.radial)(call, tile),
        Filter::Mlp { hidden, a1, b1, activation, .. } => {
            (stages.radial)(call, tile);
            let stride = hidden.next_multiple_of(MAX_LANES);
            let mut out = std::mem::take(&mut tile.hidden);
            let map = basis_map(call, tile, a1, b1, None);
            arch.dispatch(ApplyMap { map, column: 0, width: *hidden, out: &mut out, out_stride: stride });
            arch.dispatch(Activate { values: &mut out[..tile.len() * stride], activation: *activation });
            tile.hidden = out;
        }
        Filter::Tabulated { order, n_nodes, .. } => {
            arch.dispatch(HermiteTile { r_cut: call.r_cut, order: *order, n_nodes: *n_nodes, tile });
        }
    }
}

/// The filter's last linear map, from the coefficients of a tile to channels.
fn last_map<'a, T: Element>(call: &'a Call<T>, tile: &'a Tile<T>) -> LinearMap<'a, T> {
    match call.filter {
        Filter::Linear { a, b } => basis_map(call, tile, a, b, Some(&tile.f_c)),
        Filter::Mlp { hidden, a2, b2, .. } => LinearMap {
            coefficients: &tile.hidden,
            stride_k: 1,
            stride_e: hidden.next_multiple_of(MAX_LANES),
            depth: *hidden,
            ..basis_map(call, tile, a2, b2, Some(&tile.f_c))
        },
        Filter::Tabulated { order, n_nodes, values } => LinearMap {
            coefficients: &tile.coefficients,
            stride_k: tile.capacity,
            stride_e: 1,
            edges: tile.len(),
            depth: 2 * order,
            base: Some(&tile.base),
            weights: values,
            columns: values.len() / (n_nodes * order),
            bias: None,
            scale: None,
        },
    }
}

/// What a variant composes: its radial functions and its message. Function pointers per tile rather than types, so
/// that one variant adds two small functions and not a copy of the whole kernel.
pub struct Stages<T: Element> {
    parts: usize,
    radial: fn(&Call<T>, &mut Tile<T>),
    owned: for<'a> fn(Block<T>, &mut OwnedRows<'a, T>),
    shared: for<'a> fn(Block<T>, &mut SharedRows<'a, T>),
}

impl<T: Element> Stages<T> {
    /// The stages of radial functions `R` and message `M`.
    pub fn new<R: Radial, M: MessageStage>() -> Self {
        Self {
            parts: M::PARTS,
            radial: R::fill,
            owned: |block, sink| Arch::new().dispatch(Messages { block, sink, message: PhantomData::<M> }),
            shared: |block, sink| Arch::new().dispatch(Messages { block, sink, message: PhantomData::<M> }),
        }
    }
}

/// Basis values and cutoff of a tile, lanes across edges.
struct RadialTile<'a, T, B, C> {
    call: &'a Call<'a, T>,
    tile: &'a mut Tile<T>,
    functions: PhantomData<(B, C)>,
}

impl<T: Element, B: Basis, C: Cutoff> WithSimd for RadialTile<'_, T, B, C> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { call, tile, .. } = self;
        let (lanes, n) = (T::lanes::<S>(), tile.len());
        let splat = |x: T| Lane::<S, T>::splat(simd, x);
        let r_c = splat(call.r_cut);
        // Parameters per function: more than a handful has no published precedent.
        let mut p = [splat(T::default()); MAX_PARAMETERS];
        // Lanes past the last edge must stay finite: they are computed, never used.
        let padded = n.next_multiple_of(lanes);
        let (half, capacity) = (T::from_f64(0.5 * call.r_cut.to_f64()), tile.capacity);
        tile.d[n..padded].fill(half);
        for (p, value) in p.iter_mut().zip(&call.cutoff) {
            *p = splat(*value);
        }
        for e in (0..padded).step_by(lanes) {
            let d = Lane::load_full(simd, &tile.d[e..]);
            C::value(d, r_c, &p).store(&mut tile.f_c[e..e + lanes]);
        }
        for k in 0..call.n_basis {
            for (p, values) in p.iter_mut().zip(&call.basis) {
                *p = splat(if values.len() == 1 { values[0] } else { values[k] });
            }
            let index = splat(T::from_f64(k as f64 + 1.0));
            for e in (0..padded).step_by(lanes) {
                let d = Lane::load_full(simd, &tile.d[e..]);
                let phi = B::value(d, r_c, index, &p);
                phi.store(&mut tile.coefficients[k * capacity + e..k * capacity + e + lanes]);
            }
        }
    }
}

/// The most parameters a radial function may declare.
pub const MAX_PARAMETERS: usize = 8;

/// Hermite weights of a tile and the table row each edge starts at.
struct HermiteTile<'a, T> {
    r_cut: T,
    order: usize,
    n_nodes: usize,
    tile: &'a mut Tile<T>,
}

impl<T: Element> WithSimd for HermiteTile<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { r_cut, order, n_nodes, tile } = self;
        let (lanes, n, capacity) = (T::lanes::<S>(), tile.len(), tile.capacity);
        let segments = (n_nodes - 1) as f64;
        let h = r_cut.to_f64() / segments;
        // f_c is not used by this filter: its buffer holds the position t in [0, 1] within the segment.
        for e in 0..n {
            let x = tile.d[e].to_f64() / h;
            let segment = x.floor().min(segments - 1.0);
            tile.base[e] = (segment as usize * order) as u32;
            tile.f_c[e] = T::from_f64(x - segment);
        }
        for e in (0..n).step_by(lanes) {
            let t = Lane::<S, T>::load_full(simd, &tile.f_c[e..]);
            let s = t.lit(1.0) - t;
            let (t2, s2) = (t * t, s * s);
            let h = t.lit(h);
            let mut put = |m: usize, v: Lane<S, T>| {
                v.store(&mut tile.coefficients[m * capacity + e..m * capacity + e + lanes]);
            };
            if order == 2 {
                put(0, s2 * (t.lit(1.0) + t + t));
                put(1, h * t * s2);
                put(2, t2 * (t.lit(1.0) + s + s));
                put(3, -(h * s * t2));
            } else {
                let (t3, s3) = (t2 * t, s2 * s);
                let (one, three, six, half) = (t.lit(1.0), t.lit(3.0), t.lit(6.0), t.lit(0.5));
                put(0, s3 * (one + three * t + six * t2));
                put(1, h * t * s3 * (one + three * t));
                put(2, half * h * h * t2 * s3);
                put(3, t3 * (one + three * s + six * s2));
                put(4, -(h * s * t3 * (one + three * s)));
                put(5, half * h * h * s2 * t3);
            }
        }
    }
}

/// σ in place.
struct Activate<'a, T> {
    values: &'a mut [T],
    activation: Activation,
}

impl<T: Element> WithSimd for Activate<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        for chunk in self.values.chunks_exact_mut(T::lanes::<S>()) {
            let x = Lane::<S, T>::load_full(simd, chunk);
            match self.activation {
                Activation::ShiftedSoftplus => maths::shifted_softplus(x).store(chunk),
                Activation::Tanh => maths::tanh(x).store(chunk),
            }
        }
    }
}

/// `width` columns of a [`LinearMap`] from `column` on, into rows of `out`.
struct ApplyMap<'a, T> {
    map: LinearMap<'a, T>,
    column: usize,
    width: usize,
    out: &'a mut [T],
    out_stride: usize,
}

impl<T: Element> WithSimd for ApplyMap<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let lanes = T::lanes::<S>();
        let mut c = 0;
        while c + 2 * lanes <= self.width {
            self.columns::<S, 2>(simd, c, lanes);
            c += 2 * lanes;
        }
        while c < self.width {
            self.columns::<S, 1>(simd, c, lanes.min(self.width - c));
            c += lanes;
        }
    }
}

impl<T: Element> ApplyMap<'_, T> {
    /// `V` registers of columns at `c`, `last` of them used in the last register.
    #[inline(always)]
    fn columns<S: Simd, const V: usize>(&mut self, simd: S, c: usize, last: usize) {
        let mut e = 0;
        if self.map.base.is_none() {
            while e + 4 <= self.map.edges {
                self.micro::<S, 4, V>(simd, e, c, last);
                e += 4;
            }
        }
        while e < self.map.edges {
            self.micro::<S, 1, V>(simd, e, c, last);
            e += 1;
        }
    }

    /// `E` edges × `V` registers, accumulated in registers over the depth.
    #[inline(always)]
    fn micro<S: Simd, const E: usize, const V: usize>(&mut self, simd: S, e: usize, c: usize, last: usize) {
        let map = &self.map;
        let lanes = T::lanes::<S>();
        let load = |row: &[T], v: usize| {
            let at = &row[self.column + c + v * lanes..];
            if v + 1 == V && last < lanes { Lane::<S, T>::load(simd, &at[..last]) } else { Lane::load_full(simd, at) }
        };
        let mut acc: [[Lane<S, T>; V]; E] = std::array::from_fn(|_| {
            std::array::from_fn(|v| map.bias.map_or(Lane::splat(simd, T::default()), |bias| load(bias, v)))
        });
        let base = map.base.map_or(0, |base| base[e] as usize);
        for k in 0..map.depth {
            let row = &map.weights[(base + k) * map.columns..(base + k + 1) * map.columns];
            let weights: [Lane<S, T>; V] = std::array::from_fn(|v| load(row, v));
            let coefficients = &map.coefficients[k * map.stride_k + e * map.stride_e..];
            for (i, acc) in acc.iter_mut().enumerate() {
                let coefficient = Lane::splat(simd, coefficients[i * map.stride_e]);
                for (acc, weight) in acc.iter_mut().zip(weights) {
                    *acc = coefficient.mul_add(weight, *acc);
                }
            }
        }
        for (i, acc) in acc.into_iter().enumerate() {
            let scale = map.scale.map(|scale| Lane::splat(simd, scale[e + i]));
            let at = (e + i) * self.out_stride + c;
            for (v, acc) in acc.into_iter().enumerate() {
                let value = scale.map_or(acc, |scale| scale * acc);
                value.store(&mut self.out[at + v * lanes..at + (v + 1) * lanes]);
            }
        }
    }
}

/// Where the sums of a run of edges go.
trait Sink<T: Element>: Sized {
    /// The message stage that writes here.
    fn messages(stages: &Stages<T>) -> impl Fn(Block<T>, &mut Self);
    fn add_nodes<S: Simd>(&mut self, row: usize, channel: usize, width: usize, value: Lane<S, T>);
    fn add_vectors<S: Simd>(&mut self, row: usize, axis: usize, channel: usize, width: usize, value: Lane<S, T>);
}

/// Rows that one task owns.
struct OwnedRows<'a, T> {
    first_row: usize,
    features: usize,
    nodes: &'a mut [T],
    vectors: &'a mut [T],
}

impl<T: Element> Sink<T> for OwnedRows<'_, T> {
    fn messages(stages: &Stages<T>) -> impl Fn(Block<T>, &mut Self) {
        stages.owned
    }

    #[inline(always)]
    fn add_nodes<S: Simd>(&mut self, row: usize, channel: usize, width: usize, value: Lane<S, T>) {
        let at = (row - self.first_row) * self.features + channel;
        add_in_place(&mut self.nodes[at..at + width], value);
    }

    #[inline(always)]
    fn add_vectors<S: Simd>(&mut self, row: usize, axis: usize, channel: usize, width: usize, value: Lane<S, T>) {
        let at = ((row - self.first_row) * 3 + axis) * self.features + channel;
        add_in_place(&mut self.vectors[at..at + width], value);
    }
}

#[inline(always)]
fn add_in_place<S: Simd, T: Element>(slot: &mut [T], value: Lane<S, T>) {
    (Lane::load(value.simd, slot) + value).store(slot);
}

/// Rows that all tasks share.
struct SharedRows<'a, T: Element> {
    features: usize,
    nodes: &'a [T::Cell],
    vectors: &'a [T::Cell],
}

impl<T: Element> Sink<T> for SharedRows<'_, T> {
    fn messages(stages: &Stages<T>) -> impl Fn(Block<T>, &mut Self) {
        stages.shared
    }

    #[inline(always)]
    fn add_nodes<S: Simd>(&mut self, row: usize, channel: usize, width: usize, value: Lane<S, T>) {
        let at = row * self.features + channel;
        add_atomically(&self.nodes[at..at + width], value);
    }

    #[inline(always)]
    fn add_vectors<S: Simd>(&mut self, row: usize, axis: usize, channel: usize, width: usize, value: Lane<S, T>) {
        let at = (row * 3 + axis) * self.features + channel;
        add_atomically(&self.vectors[at..at + width], value);
    }
}

#[inline(always)]
fn add_atomically<S: Simd, T: Element>(cells: &[T::Cell], value: Lane<S, T>) {
    let mut buffer = [T::default(); MAX_LANES];
    value.store(&mut buffer[..T::lanes::<S>()]);
    for (cell, x) in cells.iter().zip(buffer) {
        T::atomic_add(cell, x);
    }
}

/// How a filter, sender features and directions make a message.
pub trait MessageStage: Send + Sync + 'static {
    /// Filters per feature.
    const PARTS: usize;
    #[doc(hidden)]
    #[expect(private_bounds, private_interfaces, reason = "sealed: implemented by the messages of this module only")]
    fn run<S: Simd, T: Element, K: Sink<T>>(
        simd: S,
        block: &Block<T>,
        run: (usize, usize, usize),
        c: usize,
        width: usize,
        sink: &mut K,
    );
}

/// A block of channels of one tile with its filter.
struct Block<'a, T> {
    call: &'a Call<'a, T>,
    tile: &'a Tile<T>,
    /// First feature.
    first: usize,
    /// Features.
    width: usize,
    /// `width` padded to whole registers.
    padded: usize,
}

impl<T: Element> Block<'_, T> {
    /// Part `p` of the filter of edge `e`, features from `c` on.
    #[inline(always)]
    fn filter<S: Simd>(&self, simd: S, parts: usize, e: usize, p: usize, c: usize) -> Lane<S, T> {
        Lane::load_full(simd, &self.tile.w[(e * parts + p) * self.padded + c..])
    }

    /// `width` elements at `at`, as a register.
    #[inline(always)]
    fn gather<S: Simd>(&self, simd: S, from: &[T], at: usize, width: usize) -> Lane<S, T> {
        if width == T::lanes::<S>() {
            Lane::load_full(simd, &from[at..])
        } else {
            Lane::load(simd, &from[at..at + width])
        }
    }
}

/// y_i = Σ_j x_j ⊙ W(d_ij).
pub struct Cfconv;
/// Δq_i = Σ_j w_q ; Δμ_i = Σ_j (w_r ⊗ u_ij + w_μ ⊙ μ_j).
pub struct Painn;

impl MessageStage for Cfconv {
    const PARTS: usize = 1;

    #[inline(always)]
    #[expect(private_bounds, private_interfaces, reason = "as in the trait")]
    fn run<S: Simd, T: Element, K: Sink<T>>(
        simd: S,
        block: &Block<T>,
        (row, start, end): (usize, usize, usize),
        c: usize,
        width: usize,
        sink: &mut K,
    ) {
        let features = block.call.features;
        let channel = block.first + c;
        let mut sum = Lane::<S, T>::splat(simd, T::default());
        for e in start..end {
            let j = block.tile.sender[e] as usize;
            let x = block.gather(simd, block.call.nodes, j * features + channel, width);
            sum = x.mul_add(block.filter(simd, 1, e, 0, c), sum);
        }
        sink.add_nodes(row, channel, width, sum);
    }
}

impl MessageStage for Painn {
    const PARTS: usize = 3;

    #[inline(always)]
    #[expect(private_bounds, private_interfaces, reason = "as in the trait")]
    fn run<S: Simd, T: Element, K: Sink<T>>(
        simd: S,
        block: &Block<T>,
        (row, start, end): (usize, usize, usize),
        c: usize,
        width: usize,
        sink: &mut K,
    ) {
        let features = block.call.features;
        let channel = block.first + c;
        let zero = Lane::<S, T>::splat(simd, T::default());
        let (mut q, mut mu) = (zero, [zero; 3]);
        for e in start..end {
            let at = block.tile.sender[e] as usize * 3 * features + channel;
            let part = |p: usize| {
                block.gather(simd, block.call.nodes, at + p * features, width) * block.filter(simd, 3, e, p, c)
            };
            let (w_q, w_r, w_mu) = (part(0), part(1), part(2));
            q = q + w_q;
            for (x, sum) in mu.iter_mut().enumerate() {
                let u = Lane::splat(simd, block.tile.u[e][x]);
                let mu_j = block.gather(simd, block.call.vectors, at + x * features, width);
                *sum = w_mu.mul_add(mu_j, w_r.mul_add(u, *sum));
            }
        }
        sink.add_nodes(row, channel, width, q);
        for (x, sum) in mu.into_iter().enumerate() {
            sink.add_vectors(row, x, channel, width, sum);
        }
    }
}

/// Messages of one block, summed per run of edges.
struct Messages<'a, T, M, K> {
    block: Block<'a, T>,
    sink: &'a mut K,
    message: PhantomData<M>,
}

impl<T: Element, M: MessageStage, K: Sink<T>> WithSimd for Messages<'_, T, M, K> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let lanes = T::lanes::<S>();
        for &run in &self.block.tile.runs {
            let mut c = 0;
            while c < self.block.width {
                M::run(simd, &self.block, run, c, lanes.min(self.block.width - c), self.sink);
                c += lanes;
            }
        }
    }
}

/// Computes a filled tile and adds it to `sink`.
fn flush<T: Element, K: Sink<T>>(
    stages: &Stages<T>,
    call: &Call<T>,
    config: &HostConfig,
    tile: &mut Tile<T>,
    sink: &mut K,
) {
    coefficients(stages, call, tile);
    let step = config.channel_block.clamp(1, call.features);
    for first in (0..call.features).step_by(step) {
        let width = step.min(call.features - first);
        let padded = width.next_multiple_of(MAX_LANES);
        let mut w = std::mem::take(&mut tile.w);
        for part in 0..stages.parts {
            Arch::new().dispatch(ApplyMap {
                map: last_map(call, tile),
                column: part * call.features + first,
                width,
                out: &mut w[part * padded..],
                out_stride: stages.parts * padded,
            });
        }
        tile.w = w;
        K::messages(stages)(Block { call, tile, first, width, padded }, sink);
    }
}

/// One owner per row: rows are cut into tasks, each summed in the order of its edges. The same bits on every run.
pub fn receiver<T: Element>(stages: &Stages<T>, call: &Call<T>, config: &HostConfig, out: &mut Outputs<T>) {
    let (f, n_atoms) = (call.features, call.row_ptr.len() - 1);
    if f == 0 || n_atoms == 0 {
        return;
    }
    let rows = config.rows_per_task.max(1);
    let vectors: Vec<&mut [T]> = if out.vectors.is_empty() {
        std::iter::repeat_with(Default::default).take(n_atoms.div_ceil(rows)).collect()
    } else {
        out.vectors.chunks_mut(rows * 3 * f).collect()
    };
    out.nodes.par_chunks_mut(rows * f).zip(vectors).enumerate().for_each_init(
        || Tile::new(call, config, stages.parts),
        |tile, (task, (nodes, vectors))| {
            nodes.fill(T::default());
            vectors.fill(T::default());
            let first_row = task * rows;
            let mut sink = OwnedRows { first_row, features: f, nodes, vectors };
            let edges = (first_row..n_atoms.min(first_row + rows)).flat_map(|row| {
                (call.row_ptr[row] as usize..call.row_ptr[row + 1] as usize).map(move |edge| (row, edge))
            });
            sum_edges(stages, call, config, tile, edges, &mut sink);
        },
    );
}

/// Tasks of equal numbers of edges, wherever rows begin and end; sums are added atomically.
pub fn edge_atomic<T: Element>(stages: &Stages<T>, call: &Call<T>, config: &HostConfig, out: &mut Outputs<T>) {
    out.nodes.par_iter_mut().for_each(|x| *x = T::default());
    out.vectors.par_iter_mut().for_each(|x| *x = T::default());
    let (f, n_edges) = (call.features, call.sender.len());
    if f == 0 || n_edges == 0 {
        return;
    }
    let per_task = config.tiles_per_task.max(1) * config.edges_per_tile.max(1);
    let (nodes, vectors) = (T::as_cells(&mut out.nodes), T::as_cells(&mut out.vectors));
    (0..n_edges.div_ceil(per_task)).into_par_iter().for_each_init(
        || Tile::new(call, config, stages.parts),
        |tile, task| {
            let first = task * per_task;
            // The row of an edge is the last whose offset does not exceed it.
            let mut row = call.row_ptr.partition_point(|&start| start as usize <= first) - 1;
            let edges = (first..n_edges.min(first + per_task)).map(|edge| {
                while call.row_ptr[row + 1] as usize <= edge {
                    row += 1;
                }
                (row, edge)
            });
            sum_edges(stages, call, config, tile, edges, &mut SharedRows { features: f, nodes, vectors });
        },
    );
}

/// Walks (row, edge) pairs in tiles.
fn sum_edges<T: Element, K: Sink<T>>(
    stages: &Stages<T>,
    call: &Call<T>,
    config: &HostConfig,
    tile: &mut Tile<T>,
    edges: impl Iterator<Item = (usize, usize)>,
    sink: &mut K,
) {
    tile.clear();
    for (row, edge) in edges {
        if tile.push(call, row, edge) {
            flush(stages, call, config, tile, sink);
            tile.clear();
        }
    }
    if tile.len() > 0 {
        flush(stages, call, config, tile, sink);
    }
}
