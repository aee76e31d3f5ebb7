//! Filters of a few edges in registers, and what an edge reads of its two ends.

use cubecl::prelude::*;

use super::config::BackwardConfig;
use super::fill::coefficient_at;
use super::slopes::{Along, Cotangents, SlopeTile};
use super::tile::{Inputs, basis_at, slot, start_filter};

/// Filters of `unroll` edges for a unit's channels, [parts, unroll], with their derivatives as far as the kernel has them.
#[derive(CubeType)]
pub struct Filters<F: Float, N: Size> {
    /// W.
    pub value: Array<Vector<F, N>>,
    /// W′.
    pub slope: Array<Vector<F, N>>,
    /// The rate of W.
    pub rate: Array<Vector<F, N>>,
    /// The rate of W′.
    pub slope_rate: Array<Vector<F, N>>,
}

/// What one edge reads for a unit's channels.
#[derive(CubeType)]
pub struct Edge<F: Float, N: Size> {
    /// Features of the sender: `x`, or q, r and μ of `s` and the axes of `mu`.
    pub sender: Array<Vector<F, N>>,
    /// Gradients at the receiver: in `y`, or in `dq` and the axes of `dmu`.
    pub receiver: Array<Vector<F, N>>,
    /// The factor of `sender` in each message: g, or g_q, g_μ·u and g_μ·μ.
    pub product: Array<Vector<F, N>>,
    /// Rates of `sender`.
    pub sender_rate: Array<Vector<F, N>>,
    /// Rates of `product`; that of the first is zero.
    pub product_rate: Array<Vector<F, N>>,
}

#[cube]
impl<F: Float, N: Size> Filters<F, N> {
    /// Registers for a configuration.
    pub fn new(#[comptime] config: BackwardConfig) -> Filters<F, N> {
        let length = comptime!(config.tile.filters());
        Filters::<F, N> {
            value: Array::new(length),
            slope: Array::new(length),
            rate: Array::new(length),
            slope_rate: Array::new(length),
        }
    }

    /// Computes the filters of `unroll` edges from `e` on for the vector of channels `c`.
    pub fn apply(
        &mut self,
        inputs: &Inputs<F, N>,
        direction: &Along<F, N>,
        tile: &SlopeTile<F>,
        e: usize,
        c: usize,
        #[comptime] config: BackwardConfig,
    ) {
        let layout = comptime!(config.tile);
        let features = inputs.features as usize;
        let columns = features * config.parts;
        let tabulated = comptime!(layout.order > 0);
        start_filter::<F, N>(&inputs.bias, &mut self.value, features, c, config.parts, layout);
        let zero = Vector::<F, N>::new(F::new(0.0));
        #[unroll]
        for j in 0..layout.filters() {
            self.slope[j] = zero;
            self.rate[j] = zero;
            self.slope_rate[j] = zero;
        }
        if comptime!(config.varied) {
            let direction = direction.as_ref().unwrap();
            start_filter::<F, N>(&direction.bias, &mut self.rate, features, c, config.parts, layout);
        }
        for k in 0..layout.depth {
            if comptime!(tabulated) {
                #[unroll]
                for i in 0..layout.unroll {
                    let base = tile.values.indices[comptime!(2 * layout.plane()) + slot(e + i, layout)] as usize;
                    let row = (base + k) * columns + c;
                    let at = basis_at(k, e + i, layout);
                    #[unroll]
                    for part in 0..config.parts {
                        let node = inputs.weights[row + part * features];
                        self.add(node, tile, at, comptime!(part * layout.unroll + i), config);
                    }
                }
            } else {
                #[unroll]
                for part in 0..config.parts {
                    let column = k * columns + part * features + c;
                    let weight = inputs.weights[column];
                    #[unroll]
                    for i in 0..layout.unroll {
                        let at = coefficient_at(k, e + i, layout);
                        self.add(weight, tile, at, comptime!(part * layout.unroll + i), config);
                    }
                    if comptime!(config.varied) {
                        let rate = direction.as_ref().unwrap().weights[column];
                        #[unroll]
                        for i in 0..layout.unroll {
                            let at = coefficient_at(k, e + i, layout);
                            self.add_varied(rate, tile, at, comptime!(part * layout.unroll + i), config);
                        }
                    }
                }
            }
        }
        if comptime!(!tabulated) {
            #[unroll]
            for i in 0..layout.unroll {
                #[unroll]
                for part in 0..config.parts {
                    self.cut_off(tile, slot(e + i, layout), comptime!(part * layout.unroll + i), config);
                }
            }
        }
    }

    /// Adds a row of the last map, whose coefficient lies at `at`, to filter `j`.
    pub fn add(
        &mut self,
        weight: Vector<F, N>,
        tile: &SlopeTile<F>,
        at: usize,
        #[comptime] j: usize,
        #[comptime] config: BackwardConfig,
    ) {
        self.value[j] += weight * Vector::new(tile.values.floats[at]);
        if comptime!(config.edges) {
            self.slope[j] += weight * Vector::new(tile.slope(at, config));
        }
        if comptime!(config.rates) {
            self.rate[j] += weight * Vector::new(tile.rate(at, config));
        }
        if comptime!(config.edges && config.rates) {
            self.slope_rate[j] += weight * Vector::new(tile.slope_rate(at, config));
        }
    }

    /// Adds the rate of a row of the last map.
    pub fn add_varied(
        &mut self,
        rate: Vector<F, N>,
        tile: &SlopeTile<F>,
        at: usize,
        #[comptime] j: usize,
        #[comptime] config: BackwardConfig,
    ) {
        self.rate[j] += rate * Vector::new(tile.values.floats[at]);
        if comptime!(config.edges) {
            self.slope_rate[j] += rate * Vector::new(tile.slope(at, config));
        }
    }

    /// Multiplies filter `j` with the cutoff of the edge in slot `at`.
    pub fn cut_off(
        &mut self,
        tile: &SlopeTile<F>,
        at: usize,
        #[comptime] j: usize,
        #[comptime] config: BackwardConfig,
    ) {
        let layout = comptime!(config.tile);
        let of = comptime!(config.before_derivatives()) + at;
        let f_c = Vector::new(tile.values.floats[comptime!(layout.f_c()) + at]);
        if comptime!(config.edges && config.rates) {
            let slope = Vector::new(tile.slope(of, config));
            let rate = Vector::new(tile.rate(of, config));
            let slope_rate = Vector::new(tile.slope_rate(of, config));
            self.slope_rate[j] =
                slope_rate * self.value[j] + slope * self.rate[j] + rate * self.slope[j] + f_c * self.slope_rate[j];
        }
        if comptime!(config.rates) {
            self.rate[j] = self.rate[j] * f_c + self.value[j] * Vector::new(tile.rate(of, config));
        }
        if comptime!(config.edges) {
            self.slope[j] = self.slope[j] * f_c + self.value[j] * Vector::new(tile.slope(of, config));
        }
        self.value[j] *= f_c;
    }
}

/// Reads the features of atom `j` at the vector of channels `c`.
#[cube]
pub fn load_features<F: Float, N: Size>(
    nodes: &Array<Vector<F, N>>,
    vectors: &Array<Vector<F, N>>,
    to: &mut Array<Vector<F, N>>,
    from: usize,
    features: usize,
    #[comptime] config: BackwardConfig,
) {
    #[unroll]
    for p in 0..config.parts {
        to[p] = nodes[from + p * features];
    }
    if comptime!(config.parts == 3) {
        #[unroll]
        for x in 0..3usize {
            to[comptime!(3 + x)] = vectors[from + x * features];
        }
    }
}

#[cube]
impl<F: Float, N: Size> Edge<F, N> {
    /// Registers for a configuration.
    pub fn new(#[comptime] config: BackwardConfig) -> Edge<F, N> {
        Edge::<F, N> {
            sender: Array::new(comptime!(config.sender_vectors())),
            receiver: Array::new(comptime!(config.receiver_vectors())),
            product: Array::new(comptime!(config.parts)),
            sender_rate: Array::new(comptime!(config.sender_vectors())),
            product_rate: Array::new(comptime!(config.parts)),
        }
    }

    /// Reads the features of atom `j` at the vector of channels `c`.
    pub fn load_sender(
        &mut self,
        inputs: &Inputs<F, N>,
        direction: &Along<F, N>,
        j: usize,
        c: usize,
        #[comptime] config: BackwardConfig,
    ) {
        let features = inputs.features as usize;
        let from = j * config.parts * features + c;
        load_features::<F, N>(&inputs.nodes, &inputs.vectors, &mut self.sender, from, features, config);
        if comptime!(config.rates) {
            let direction = direction.as_ref().unwrap();
            load_features::<F, N>(&direction.nodes, &direction.vectors, &mut self.sender_rate, from, features, config);
        }
    }

    /// Reads the gradients at the atom that plane `plane` of the tile names for slot `at`, and multiplies them with what the
    /// edge and its sender are.
    pub fn load_receiver(
        &mut self,
        grad: &Cotangents<F, N>,
        tile: &SlopeTile<F>,
        at: usize,
        c: usize,
        #[comptime] plane: usize,
        #[comptime] config: BackwardConfig,
    ) {
        let layout = comptime!(config.tile);
        let features = grad.features as usize;
        let i = tile.values.indices[comptime!(plane * layout.plane()) + at] as usize;
        let zero = Vector::<F, N>::new(F::new(0.0));
        self.receiver[0] = grad.nodes[i * features + c];
        self.product[0] = self.receiver[0];
        self.product_rate[0] = zero;
        if comptime!(config.parts == 3) {
            #[unroll]
            for p in 1..3usize {
                self.product[p] = zero;
                self.product_rate[p] = zero;
            }
            #[unroll]
            for x in 0..3usize {
                let g = grad.vectors[(i * 3 + x) * features + c];
                let u = tile.values.floats[comptime!(layout.u() + x * layout.plane()) + at];
                self.product[1] += g * Vector::new(u);
                self.product[2] += g * self.sender[comptime!(3 + x)];
                self.receiver[comptime!(1 + x)] = g;
                if comptime!(config.rates) {
                    self.product_rate[1] += g * Vector::new(tile.motion(at, comptime!(1 + x), config));
                    self.product_rate[2] += g * self.sender_rate[comptime!(3 + x)];
                }
            }
        }
    }

    /// The gradient in filter `p`.
    pub fn by_filter(&self, #[comptime] p: usize) -> Vector<F, N> {
        self.sender[p] * self.product[p]
    }

    /// The rate of the gradient in filter `p`.
    pub fn by_filter_rate(&self, #[comptime] p: usize) -> Vector<F, N> {
        let rate = self.sender_rate[p] * self.product[p];
        if comptime!(p > 0) { rate + self.sender[p] * self.product_rate[p] } else { rate }
    }

    /// Part `p` of the sender's features times filter `j`.
    pub fn weighted(&self, filters: &Filters<F, N>, #[comptime] p: usize, #[comptime] j: usize) -> Vector<F, N> {
        self.sender[p] * filters.value[j]
    }

    /// The rate of [`Edge::weighted`].
    pub fn weighted_rate(&self, filters: &Filters<F, N>, #[comptime] p: usize, #[comptime] j: usize) -> Vector<F, N> {
        self.sender_rate[p] * filters.value[j] + self.sender[p] * filters.rate[j]
    }
}
