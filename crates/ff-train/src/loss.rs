//! The loss and its gradient in the weights.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{Element, Tensor, TensorData};
use ff_nn::{Batch, Listed, Network, NetworkBackend, Setup, evaluate};
use ff_ops::burn_dtype;
use ff_spec::Dtype;
use ff_structure::Structure;

use crate::config::LossConfig;
use crate::error::TrainError;
use crate::labels::Labelled;

/// A frame as it is fitted: its list is made once.
#[derive(Clone, Debug)]
pub struct Fitted {
    listed: Listed,
    /// Energy per atom beside the offsets, eV.
    energy: Option<f64>,
    /// eV/Å, [n_atoms, 3].
    forces: Option<Vec<f64>>,
    /// Strain derivative over the volume, eV/Å³, and one over the volume, Å⁻³.
    stress: Option<([[f64; 3]; 3], f64)>,
    /// A teacher's features, in units of their deviation, [n_atoms, F of the teacher].
    features: Option<Vec<f32>>,
}

impl Fitted {
    /// Of a frame whose offsets are `offset` in eV.
    ///
    /// # Errors
    /// [`TrainError::Network`] for a structure that cannot be computed.
    pub fn new(frame: &Labelled, offset: f64, cutoff: f64, rows: usize) -> Result<Self, TrainError> {
        let structure = &frame.structure;
        let n_atoms = structure.n_atoms().max(1) as f64;
        Ok(Self {
            listed: Listed::new(structure, cutoff, rows, frame.frame)?,
            energy: frame.energy.map(|energy| (energy - offset) / n_atoms),
            forces: frame.forces.as_ref().map(|forces| forces.as_flattened().to_vec()),
            // That of a slab is a projection of what a network gives, and not fitted.
            stress: frame.stress.filter(|_| structure.pbc == [true; 3]).zip(inverse_volume(structure)),
            features: None,
        })
    }

    /// With features of a teacher to match, [n_atoms, F of the teacher].
    pub fn set_features(&mut self, features: Vec<f32>) {
        self.features = Some(features);
    }

    /// Features of a teacher, [n_atoms, F of the teacher].
    pub fn features(&self) -> Option<&[f32]> {
        self.features.as_deref()
    }

    /// Atoms.
    pub fn n_atoms(&self) -> usize {
        self.listed.n_atoms()
    }

    /// The atoms with their list.
    pub fn listed(&self) -> &Listed {
        &self.listed
    }

    /// Energy per atom beside the offsets, eV.
    pub fn energy(&self) -> Option<f64> {
        self.energy
    }

    /// Forces, eV/Å, [n_atoms, 3].
    pub fn forces(&self) -> Option<&[f64]> {
        self.forces.as_deref()
    }

    /// Stress, eV/Å³, and one over the volume, Å⁻³.
    pub fn stress(&self) -> Option<([[f64; 3]; 3], f64)> {
        self.stress
    }
}

fn inverse_volume(structure: &Structure) -> Option<f64> {
    let [a, b, c] = structure.cell?;
    let cross = [b[1] * c[2] - b[2] * c[1], b[2] * c[0] - b[0] * c[2], b[0] * c[1] - b[1] * c[0]];
    let volume = (0..3).map(|k| a[k] * cross[k]).sum::<f64>().abs();
    (volume > 0.0).then(|| 1.0 / volume)
}

/// What squared errors are multiplied by: the weights of the loss over the numbers of a batch.
#[derive(Clone, Copy, Debug)]
pub struct Scales {
    /// Of energies per atom.
    pub energy: f64,
    /// Of force components.
    pub forces: f64,
    /// Of stress components.
    pub stress: f64,
    /// Of a teacher's features.
    pub features: f64,
}

impl Scales {
    /// Of a batch: mean squared errors of energies per atom, of force components and of stress components and of
    /// features, times their weights.
    pub fn new<'a>(loss: &LossConfig, batch: impl IntoIterator<Item = &'a Fitted>) -> Self {
        let [mut energies, mut forces, mut stresses, mut features] = [0usize; 4];
        for frame in batch {
            energies += usize::from(frame.energy.is_some());
            forces += frame.forces.as_ref().map_or(0, Vec::len);
            stresses += 9 * usize::from(frame.stress.is_some());
            features += frame.features.as_ref().map_or(0, Vec::len);
        }
        let over = |weight: f64, n: usize| weight / n.max(1) as f64;
        Self {
            energy: over(loss.energy, energies),
            forces: over(loss.forces, forces),
            stress: over(loss.stress, stresses),
            features: over(loss.features, features),
        }
    }
}

/// Parts of a loss in f64: energies, forces, stress, features of a teacher.
pub type Terms = [f64; 4];

/// The loss of some frames of a batch, as a tensor that has gradients and as numbers.
///
/// # Errors
/// [`TrainError::Network`].
pub fn loss<A>(
    network: &Network<A::InnerBackend>,
    setup: &Setup<A>,
    frames: &[&Fitted],
    scales: &Scales,
    dtype: Dtype,
) -> Result<(Tensor<A::InnerBackend, 1>, Terms), TrainError>
where
    A: AutodiffBackend + NetworkBackend,
    A::InnerBackend: Backend,
{
    let device = A::Device::default();
    let batch = Batch::<A>::of_listed(frames.iter().map(|frame| &frame.listed), dtype, &device)?;
    let stressed = scales.stress > 0.0 && frames.iter().any(|frame| frame.stress.is_some());
    let found = evaluate::<A>(network, setup, &batch, stressed)?;
    let (n, n_atoms) = (frames.len(), batch.n_atoms());
    let float = burn_dtype(dtype);
    let values = |values: Vec<f64>| -> Tensor<A::InnerBackend, 1> {
        let len = values.len();
        Tensor::from_data(TensorData::new(values, [len]).convert_dtype(float), (&device, float))
    };
    let mut sum: Option<Tensor<A::InnerBackend, 1>> = None;
    let mut terms = [0.0; 4];
    let mut add = |term: usize, error: Tensor<A::InnerBackend, 1>, weights: Vec<f64>| {
        // In f64, as numbers are told; in the graph only gradients count.
        let errors: Vec<f64> = error.to_data().iter::<f64>().collect();
        terms[term] = errors.iter().zip(&weights).map(|(error, weight)| weight * error * error).sum();
        let term = (error.clone() * error * values(weights)).sum();
        sum = Some(match sum.take() {
            None => term,
            Some(sum) => sum + term,
        });
    };
    let weight = |known: bool, weight: f64| if known { weight } else { 0.0 };
    if scales.energy > 0.0 {
        let labels = values(frames.iter().map(|frame| frame.energy.unwrap_or(0.0)).collect());
        let weights = frames.iter().map(|frame| weight(frame.energy.is_some(), scales.energy)).collect();
        add(0, found.energies * batch.per_atom().clone().inner() - labels, weights);
    }
    if scales.forces > 0.0 {
        let (mut labels, mut weights) = (Vec::with_capacity(3 * n_atoms), Vec::with_capacity(3 * n_atoms));
        for frame in frames {
            let len = 3 * frame.n_atoms();
            weights.extend(std::iter::repeat_n(weight(frame.forces.is_some(), scales.forces), len));
            match &frame.forces {
                Some(forces) => labels.extend_from_slice(forces),
                None => labels.extend(std::iter::repeat_n(0.0, len)),
            }
        }
        add(1, found.forces.reshape([3 * n_atoms]) - values(labels), weights);
    }
    if let Some(strain) = found.strain {
        // Only its symmetric part is a stress.
        let symmetric = (strain.clone() + strain.swap_dims(1, 2)).mul_scalar(0.5).reshape([9 * n]);
        let each = |of: &dyn Fn(&Fitted) -> [f64; 9]| frames.iter().flat_map(|frame| of(frame)).collect::<Vec<f64>>();
        let labels = each(&|frame| frame.stress.map_or([0.0; 9], |(stress, _)| flat(stress)));
        let volumes = each(&|frame| [frame.stress.map_or(0.0, |(_, volume)| volume); 9]);
        let weights = each(&|frame| [weight(frame.stress.is_some(), scales.stress); 9]);
        add(2, symmetric * values(volumes) - values(labels), weights);
    }
    let none = || Tensor::zeros([1], (&device, float));
    Ok((sum.unwrap_or_else(none), terms))
}

fn flat(matrix: [[f64; 3]; 3]) -> [f64; 9] {
    std::array::from_fn(|k| matrix[k / 3][k % 3])
}

/// The loss of some frames and its gradient in all weights, flat in the order of [`flatten`].
///
/// # Errors
/// [`TrainError::Network`].
pub fn gradient<A, E: Element>(
    network: &Network<A::InnerBackend>,
    setup: &Setup<A>,
    frames: &[&Fitted],
    scales: &Scales,
    dtype: Dtype,
) -> Result<(Vec<E>, Terms), TrainError>
where
    A: AutodiffBackend + NetworkBackend,
    A::InnerBackend: AutodiffBackend,
{
    let (loss, terms) = loss::<A>(network, setup, frames, scales, dtype)?;
    let gradients = loss.backward();
    let mut gather = Gather::<'_, A::InnerBackend, E> { gradients: &gradients, values: Vec::new() };
    network.visit(&mut gather);
    Ok((gather.values, terms))
}

/// Gradients of parameters, one after another.
struct Gather<'a, B: AutodiffBackend, E> {
    gradients: &'a B::Gradients,
    values: Vec<E>,
}

impl<B: AutodiffBackend, E: Element> ModuleVisitor<B> for Gather<'_, B, E> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        let value = param.val();
        match value.grad(self.gradients) {
            Some(gradient) => extend(&mut self.values, gradient.into_data()),
            // What nothing depends on.
            None => self.values.extend(std::iter::repeat_n(E::from_elem(0.0), value.shape().num_elements())),
        }
    }
}

fn extend<E: Element>(values: &mut Vec<E>, data: TensorData) {
    match data.as_slice::<E>() {
        Ok(slice) => values.extend_from_slice(slice),
        Err(_) => values.extend(data.iter::<E>()),
    }
}

/// The weights of a network, flat; and where its matrices are, beside the embedding.
pub fn flatten<B: Backend, E: Element>(network: &Network<B>) -> (Vec<E>, Vec<std::ops::Range<usize>>) {
    struct Flatten<E> {
        values: Vec<E>,
        matrices: Vec<std::ops::Range<usize>>,
    }
    impl<B: Backend, E: Element> ModuleVisitor<B> for Flatten<E> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
            let first = self.values.len();
            extend(&mut self.values, param.val().into_data());
            // The embedding is the first of all.
            if D > 1 && first > 0 {
                self.matrices.push(first..self.values.len());
            }
        }
    }
    let mut flatten = Flatten { values: Vec::new(), matrices: Vec::new() };
    network.visit(&mut flatten);
    (flatten.values, flatten.matrices)
}

/// A network with other weights, in the order of [`flatten`]; they have gradients.
pub fn filled<B: Backend, E: Element>(network: Network<B>, values: &[E]) -> Network<B> {
    struct Fill<'a, E>(&'a [E]);
    impl<B: Backend, E: Element> ModuleMapper<B> for Fill<'_, E> {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
            let (id, tensor, mapper) = param.consume();
            let (own, rest) = self.0.split_at(tensor.shape().num_elements());
            self.0 = rest;
            let (device, dtype) = (tensor.device(), tensor.dtype());
            let data = TensorData::new(own.to_vec(), tensor.shape()).convert_dtype(dtype);
            Param::from_mapped_value(id, Tensor::from_data(data, (&device, dtype)).require_grad(), mapper)
        }
    }
    network.map(&mut Fill(values))
}

/// The same weights as nodes of a graph of their own.
pub fn tracked<B: Backend>(network: Network<B>) -> Network<B> {
    struct Track;
    impl<B: Backend> ModuleMapper<B> for Track {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
            let (id, tensor, mapper) = param.consume();
            Param::from_mapped_value(id, tensor.set_require_grad(true), mapper)
        }
    }
    network.map(&mut Track)
}
