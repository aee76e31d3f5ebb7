//! The loss of a PaiNN and its gradient in the weights, without a tape.
//!
//! Let γ = ∂L/∂F. Since F = −∂E/∂x, what forces add to ∂L/∂w is ∂Ė/∂w, where Ė is the derivative of the energy as atoms move along
//! ẋ = −γ (and a strain likewise). So four passes make the gradient: energies forwards; forces backwards, which leaves the
//! cotangents of Ė in all that was computed; tangents forwards; and backwards once more the cotangents of Σ a·E + Ė in all that was
//! computed, with a = ∂L/∂E. In a product y = x·W the gradient in W is then xᵀ·ȳ + ẋᵀ·ẏ̄, with the cotangents ȳ of y and ẏ̄ of ẏ. Names
//! below: `d_…` tangents, `t_…` cotangents of tangents, `p_…` cotangents of the values themselves.

mod atoms;
mod dense;
mod passes;
mod silu;

use std::ops::{Add, Div, Mul, Neg, Range, Sub};

use ff_kernels::fused_message::host::{HostConfig, PackedFilter, Stages};
use ff_kernels::fused_message::{HostElement, find};
use ff_model::config::{Activation, Aggregation, Config, Kind};
use ff_model::units::Energy;
use ff_spec::fused_message::{Filter, FilterKind, Radial, Reduction, Variant};

use self::atoms::{Atoms, loss, match_features};
use self::dense::DenseAt;
use self::passes::Passes;
use crate::loss::{Fitted, Scales, Terms};

/// An element type that gradients are computed in.
pub trait Real:
    HostElement
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + Into<f64>
{
    /// 1/(1 + e⁻ˣ).
    fn logistic(self) -> Self;
    /// √x.
    fn root(self) -> Self;
}

macro_rules! real {
    ($($t:ident)*) => {$(
        impl Real for $t {
            #[inline]
            fn logistic(self) -> Self {
                1.0 / (1.0 + (-self).exp())
            }

            #[inline]
            fn root(self) -> Self {
                self.sqrt()
            }
        }
    )*};
}
real!(f32 f64);

/// Where the weights of an interaction are.
#[derive(Clone, Debug)]
struct LayerAt {
    filter: Range<usize>,
    context: [DenseAt; 2],
    mix: DenseAt,
    update: [DenseAt; 2],
}

/// A PaiNN whose weights are given flat, in the order of its modules' parameters.
pub struct Direct<T: HostElement> {
    features: usize,
    layers: Vec<LayerAt>,
    /// Layers with filters of their own.
    n_filters: usize,
    head: Vec<DenseAt>,
    /// From the features that the head reads to those of a teacher.
    projection: Option<DenseAt>,
    epsilon: T,
    radial: Radial<T>,
    basis: Vec<Vec<T>>,
    stages: Stages<T>,
    configs: [HostConfig; 3],
    n_weights: usize,
}

/// Weights of a step, with filters in the order of the passes.
pub struct Loaded<'a, T: HostElement> {
    values: &'a [T],
    filters: Vec<(Filter<T>, [PackedFilter<T>; 3])>,
}

impl<T: HostElement> Loaded<'_, T> {
    /// The filter of a layer.
    fn filter(&self, layer: usize) -> (&Filter<T>, &[PackedFilter<T>; 3]) {
        let (filter, packed) = &self.filters[layer.min(self.filters.len() - 1)];
        (filter, packed)
    }
}

impl<T: Real> Direct<T> {
    /// Of a model whose embedding has `rows`; `None` for one that is not a PaiNN as it is trained here. Where its features are
    /// matched with so many of a teacher, the weights and biases of their projection come after its own.
    pub fn new(config: &Config, radial: &Radial<f64>, rows: usize, matched: Option<usize>) -> Option<Self> {
        let silu = config.activation == Activation::Silu && config.head.activation == Activation::Silu;
        let plain = config.aggregation == Aggregation::Sum && config.energy_unit == Energy::ElectronVolt;
        if config.kind != Kind::Painn || !silu || !plain {
            return None;
        }
        let (basis, cutoff) = config.radial_names();
        let names = Some((basis.to_owned(), cutoff.to_owned()));
        let (message, filter) = (config.message(), FilterKind::Linear);
        let registered = find(&Variant { message, filter, radial: names, reduction: Reduction::Receiver })?;
        let (f, k) = (config.features, config.n_basis);
        let mut at = rows * f;
        let mut take = |len: usize| {
            at += len;
            at - len..at
        };
        let n_filters = if config.shared_filters { 1 } else { config.layers };
        let filters: Vec<Range<usize>> = (0..n_filters).map(|_| take(3 * f * (k + 1))).collect();
        let mut dense = |inputs: usize, outputs: usize, bias: bool| {
            let weight = take(inputs * outputs).start;
            DenseAt { inputs, outputs, weight, bias: bias.then(|| take(outputs).start) }
        };
        let mut layers: Vec<LayerAt> = Vec::new();
        for l in 0..config.layers {
            let filter = filters[l.min(n_filters - 1)].clone();
            let layer = match layers.first() {
                Some(first) if config.shared_interactions => LayerAt { filter, ..first.clone() },
                _ => LayerAt {
                    filter,
                    context: [dense(f, f, true), dense(f, 3 * f, true)],
                    mix: dense(f, 2 * f, false),
                    update: [dense(2 * f, f, true), dense(f, 3 * f, true)],
                },
            };
            layers.push(layer);
        }
        let head = config.head.layers.windows(2).map(|pair| dense(pair[0], pair[1], true)).collect();
        let projection = matched.map(|outputs| dense(f, outputs, true));
        let radial: Radial<T> = radial.cast();
        let declared = registered.pair().map_or(&[][..], |pair| pair.basis_parameters);
        let config_of =
            |edges_per_tile, channel_block| HostConfig { edges_per_task: 512, edges_per_tile, channel_block };
        Some(Self {
            features: f,
            layers,
            n_filters,
            head,
            projection,
            epsilon: T::from_f64(config.epsilon),
            basis: declared.iter().map(|(name, _)| radial.basis[*name].clone()).collect(),
            radial,
            stages: registered.stages(),
            configs: [config_of(128, 32), config_of(32, 32), config_of(32, 16)],
            n_weights: at,
        })
    }

    /// Weights that it has.
    pub fn n_weights(&self) -> usize {
        self.n_weights
    }

    /// Weights of a step.
    ///
    /// # Panics
    /// Where there is another number of them.
    pub fn load<'a>(&self, values: &'a [T]) -> Loaded<'a, T> {
        assert_eq!(values.len(), self.n_weights);
        let channels = 3 * self.features;
        let filter = |layer: &LayerAt| {
            let (a, b) = values[layer.filter.clone()].split_at(layer.filter.len() - channels);
            let filter = Filter::Linear { a: a.to_vec(), b: b.to_vec() };
            let pack =
                |order: u8| PackedFilter::new(order, &filter, 3, self.features, &self.configs[usize::from(order)]);
            let packed = [0, 1, 2].map(pack);
            (filter, packed)
        };
        Loaded { values, filters: self.layers.iter().take(self.n_filters).map(filter).collect() }
    }

    /// Features of the atoms of frames that the head reads, [N, F].
    pub fn features(&self, loaded: &Loaded<'_, T>, frames: &[&Fitted]) -> Vec<T> {
        Passes::energies(self, loaded, Atoms::new(frames)).features().to_vec()
    }

    /// The loss of frames and its gradient in all weights.
    pub fn gradient(&self, loaded: &Loaded<'_, T>, frames: &[&Fitted], scales: &Scales) -> (Vec<T>, Terms) {
        let mut passes = Passes::energies(self, loaded, Atoms::new(frames));
        let edge_grad = passes.forces();
        let (mut terms, of_energies, direction) = loss(&passes.atoms, frames, scales, &passes.energies, &edge_grad);
        passes.tangents(&direction);
        let Some(projection) = self.projection.as_ref().filter(|_| scales.features > 0.0) else {
            return (passes.gradients(&of_energies, None), terms);
        };
        let (term, of_projected) =
            match_features(frames, scales, &projection.forward(loaded.values, passes.features()));
        terms[3] = term;
        let of_features = projection.backward(loaded.values, &of_projected);
        let mut gradient = passes.gradients(&of_energies, Some(&of_features));
        projection.gather(&mut gradient, passes.features(), &of_projected, true);
        (gradient, terms)
    }
}
