//! A small PaiNN (Schütt, Unke, Gastegger, ICML 2021) for one element, with the fused message or its plain composition.

use std::collections::BTreeMap;

use burn::module::{Module, Param};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::backend::Backend;
use burn::tensor::{Distribution, Tensor};
use ff_ops::force_scatter::{ForceScatterBackend, edge_vec};
use ff_ops::fused_message::{Features, FilterTensors, FusedMessageBackend, Layer as MessageLayer, OpError};
use ff_spec::fused_message::{Radial, Variant};
use ff_yardstick::unfused;

use crate::data::Batch;

/// How far atoms see each other, Å.
pub const CUTOFF: f64 = 4.5;

/// What a model's messages are computed by: one variant with the same radial functions in every interaction.
pub struct Messages<B: FusedMessageBackend> {
    variant: Variant,
    radial: Radial<f64>,
    /// The fused kernels; `None` for Burn's operations.
    fused: Option<MessageLayer<B>>,
}

impl<B: FusedMessageBackend> Messages<B> {
    /// By the fused kernels, or composed of Burn's operations.
    ///
    /// # Errors
    /// [`OpError`] where there is no kernel.
    pub fn new(n_basis: usize, fused: bool) -> Result<Self, OpError> {
        let variant: Variant = "painn_linear_gaussian_cosine_receiver".parse().expect("a name of this format");
        let radial = radial(n_basis);
        let layer = || MessageLayer::new(&variant, &radial, Vec::new(), &B::Device::default());
        let fused = fused.then(layer).transpose()?;
        Ok(Self { variant, radial, fused })
    }
}

/// Sizes.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// F.
    pub features: usize,
    /// K.
    pub n_basis: usize,
    /// Interactions.
    pub layers: usize,
}

/// Energies of atoms from their neighbourhoods.
#[derive(Module, Debug)]
pub struct Model<B: Backend> {
    /// [1, F].
    embedding: Param<Tensor<B, 2>>,
    layers: Vec<Layer<B>>,
    hidden: Linear<B>,
    readout: Linear<B>,
}

/// One message and one update.
#[derive(Module, Debug)]
struct Layer<B: Backend> {
    filter_a: Param<Tensor<B, 2>>,
    filter_b: Param<Tensor<B, 1>>,
    message: [Linear<B>; 2],
    vectors: [Linear<B>; 2],
    update: [Linear<B>; 2],
}

impl<B: Backend> Layer<B> {
    fn new(sizes: &Sizes, device: &B::Device) -> Self {
        let (f, k) = (sizes.features, sizes.n_basis);
        let linear = |from: usize, to: usize| LinearConfig::new(from, to).init(device);
        let bare = || LinearConfig::new(f, f).with_bias(false).init(device);
        let spread = Distribution::Normal(0.0, 1.0 / (k as f64).sqrt());
        Self {
            filter_a: Param::from_tensor(Tensor::random([k, 3 * f], spread, device)),
            filter_b: Param::from_tensor(Tensor::zeros([3 * f], device)),
            message: [linear(f, f), linear(f, 3 * f)],
            vectors: [bare(), bare()],
            update: [linear(2 * f, f), linear(f, 3 * f)],
        }
    }
}

/// A linear map by operations that Burn differentiates twice, which `Linear::forward` (0.21) is not.
fn affine<B: Backend>(map: &Linear<B>, x: Tensor<B, 2>) -> Tensor<B, 2> {
    let y = x.matmul(map.weight.val());
    match &map.bias {
        Some(bias) => y + bias.val().unsqueeze(),
        None => y,
    }
}

/// x·σ(x), likewise.
fn silu<B: Backend>(x: Tensor<B, 2>) -> Tensor<B, 2> {
    x.clone() * x.mul_scalar(0.5).tanh().mul_scalar(0.5).add_scalar(0.5)
}

/// Two linear maps with a SiLU between.
fn mlp<B: Backend>([first, second]: &[Linear<B>; 2], x: Tensor<B, 2>) -> Tensor<B, 2> {
    affine(second, silu(affine(first, x)))
}

impl<B: Backend> Model<B> {
    /// With random weights.
    pub fn new(sizes: &Sizes, device: &B::Device) -> Self {
        let f = sizes.features;
        Self {
            embedding: Param::from_tensor(Tensor::random([1, f], Distribution::Normal(0.0, 1.0), device)),
            layers: (0..sizes.layers).map(|_| Layer::new(sizes, device)).collect(),
            hidden: LinearConfig::new(f, f).init(device),
            readout: LinearConfig::new(f, 1).init(device),
        }
    }
}

/// Gaussians on a regular grid up to the cutoff.
fn radial(n_basis: usize) -> Radial<f64> {
    let width = CUTOFF / (n_basis - 1) as f64;
    let mu = (0..n_basis).map(|k| k as f64 * width).collect();
    let basis = BTreeMap::from([("mu".to_owned(), mu), ("gamma".to_owned(), vec![0.5 / (width * width); n_basis])]);
    Radial { r_cut: CUTOFF, n_basis, basis, cutoff: BTreeMap::new() }
}

impl<B: Backend> Model<B> {
    /// The weights of the first message's filter, [K, 3F].
    pub fn first_filter(&self) -> Tensor<B, 2> {
        self.layers[0].filter_a.val()
    }
}

impl<B: ForceScatterBackend> Model<B> {
    /// Energy per atom of each frame, [n_frames], of atoms at `positions` [n_atoms, 3] in Å.
    ///
    /// # Errors
    /// [`OpError`] where a kernel cannot be launched.
    pub fn energies(
        &self,
        positions: Tensor<B, 2>,
        batch: &Batch<B>,
        messages: &Messages<B>,
    ) -> Result<Tensor<B, 1>, OpError> {
        let (n_atoms, f) = (positions.dims()[0], self.embedding.dims()[1]);
        let edge_vec = edge_vec(&batch.graph, positions.clone(), Some(batch.graph.edge_vec().clone()))?;
        let graph = batch.graph.with_edge_vec(edge_vec)?;
        let mut s = self.embedding.val().repeat_dim(0, n_atoms);
        let mut mu = Tensor::zeros([n_atoms, 3, f], &positions.device());
        for layer in &self.layers {
            let filter = FilterTensors::Linear { a: layer.filter_a.val(), b: layer.filter_b.val() };
            let nodes = mlp(&layer.message, s.clone());
            let (vectors, Messages { variant, radial, fused }) = (Some(mu.clone()), messages);
            let (dq, dmu) = match fused {
                Some(kernels) => {
                    let sums = kernels.forward(&graph, Features { nodes, vectors }, &kernels.load(filter)?)?;
                    (sums.nodes, sums.vectors)
                }
                None => unfused::message(&graph, &batch.receiver, nodes, vectors, radial, &filter, variant)?,
            };
            s = s + dq;
            mu = mu + dmu.expect("painn has vectors");
            let rows = mu.clone().reshape([3 * n_atoms, f]);
            let [u, v] = layer.vectors.each_ref().map(|map| affine(map, rows.clone()).reshape([n_atoms, 3, f]));
            let length = (v.clone() * v.clone()).sum_dim(1).add_scalar(1e-8).sqrt().squeeze_dim::<2>(1);
            let gates = mlp(&layer.update, Tensor::cat(vec![s.clone(), length], 1));
            let gate = |i: usize| gates.clone().narrow(1, i * f, f);
            let inner = (u.clone() * v).sum_dim(1).squeeze_dim::<2>(1);
            s = s + gate(0) + gate(1) * inner;
            mu = mu + u * gate(2).unsqueeze_dim::<3>(1);
        }
        let atoms = affine(&self.readout, silu(affine(&self.hidden, s)));
        Ok(atoms.reshape([batch.n_frames, n_atoms / batch.n_frames]).mean_dim(1).squeeze_dim::<1>(1))
    }
}
