//! The norm of vector features over their axes, on Burn tensors.
//!
//! On `Autodiff<B>` it is a node of Burn's graph with one parent, V, whose backward is a node in turn with the parents V and g on
//! `Autodiff<Autodiff<B>>`: a loss on forces reaches the second backward with no further code. It takes 4 F numbers per atom
//! through memory where a composition of Burn's operations takes 14 F.
//!
//! Shapes and units are those of [`ff_spec::vector_norm`].

mod autodiff;
mod cube;
mod flex;
#[cfg(feature = "fusion")]
mod fusion;

use std::sync::Arc;

use burn::tensor::Tensor;
use burn::tensor::ops::FloatTensor;
use ff_kernels::vector_norm::{cube_config, default_config, host_config};
use ff_spec::vector_norm::{InputError, OP, Strategy, Variant};
use ff_spec::{DeviceId, Dtype, LaunchConfig, LaunchError, Problem, RuntimeKind, TuneKey};
use ff_tables::{Query, Table, select};

use crate::call::{Context, OpError, check_indices, check_support, primitive, tensor};
use crate::fused_message::FusedMessageBackend;

/// A backend that carries the kernels of `vector_norm`.
pub trait VectorNormBackend: FusedMessageBackend {
    /// The highest order of derivatives that there are kernels for.
    const NORM_ORDER: u8;

    /// √(Σ_a V_a² + ε) of `vectors` [n_atoms, 3, F], [n_atoms, F].
    ///
    /// # Errors
    /// [`LaunchError`] for what the device refuses.
    fn vector_norm(vectors: FloatTensor<Self>, plan: &Arc<NormPlan>) -> Result<FloatTensor<Self>, LaunchError>;

    /// The first backward: the gradient in `vectors`, [n_atoms, 3, F], from that in the norm, `grad` [n_atoms, F].
    ///
    /// # Errors
    /// As [`VectorNormBackend::vector_norm`].
    fn vector_norm_backward(
        vectors: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        plan: &Arc<NormPlan>,
    ) -> Result<FloatTensor<Self>, LaunchError>;

    /// The second backward: from the gradient `tangent` [n_atoms, 3, F] in what the first computes, gradients in `grad` and in
    /// `vectors`.
    ///
    /// # Errors
    /// As [`VectorNormBackend::vector_norm`], and [`LaunchError::Unsupported`] where [`VectorNormBackend::NORM_ORDER`] is less
    /// than 2.
    fn vector_norm_double_backward(
        vectors: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        tangent: FloatTensor<Self>,
        plan: &Arc<NormPlan>,
    ) -> Result<[FloatTensor<Self>; 2], LaunchError>;
}

/// What a call launches, and how.
#[derive(Clone, Debug)]
pub struct NormPlan {
    device: DeviceId,
    dtype: Dtype,
    /// By derivative order.
    configs: [LaunchConfig; 3],
    n_atoms: usize,
    features: usize,
    /// As `dtype` holds it.
    epsilon: f64,
}

impl NormPlan {
    /// The configuration of a derivative order.
    fn config(&self, order: u8) -> &LaunchConfig {
        &self.configs[usize::from(order)]
    }
}

/// √(Σ_a V_a² + ε) over the axes of `vectors` [n_atoms, 3, F], [n_atoms, F] in their unit, under the default configurations.
///
/// ε > 0 keeps everything finite at V = 0; SchNetPack's PaiNN has 10⁻⁸ (arXiv 2102.03150).
///
/// # Errors
/// [`OpError`] for vectors that have not three axes or a dtype without kernels, for an ε that is not positive, and where a
/// derivative of higher order than the second is tracked.
pub fn vector_norm<B: VectorNormBackend>(vectors: Tensor<B, 3>, epsilon: f64) -> Result<Tensor<B, 2>, OpError> {
    vector_norm_with(vectors, epsilon, &[])
}

/// As [`vector_norm`], with the tuning tables at hand, of which each order takes an entry of its own where there is one.
///
/// # Errors
/// As [`vector_norm`].
pub fn vector_norm_with<B: VectorNormBackend>(
    vectors: Tensor<B, 3>,
    epsilon: f64,
    tables: &[Table],
) -> Result<Tensor<B, 2>, OpError> {
    let plan = plan(&vectors, epsilon, tables)?;
    Ok(tensor(B::vector_norm(primitive(vectors), &plan)?))
}

fn plan<B: VectorNormBackend>(
    vectors: &Tensor<B, 3>,
    epsilon: f64,
    tables: &[Table],
) -> Result<Arc<NormPlan>, OpError> {
    let context = Context::of("vectors", vectors)?;
    let [n_atoms, _, features] = vectors.dims();
    context.float("vectors", vectors, [n_atoms, 3, features], "n_atoms, 3, F")?;
    check_indices("n_atoms × 3F", n_atoms.saturating_mul(3).saturating_mul(features))?;
    let dtype = context.dtype;
    let epsilon = dtype.round(epsilon);
    if !(epsilon > 0.0 && epsilon.is_finite()) {
        return Err(LaunchError::from(InputError::Epsilon { found: epsilon }).into());
    }
    let device = B::device_id(&context.device);
    check_support(&device, dtype, false)?;
    let problem =
        Problem { name: String::new(), n_atoms: n_atoms as u64, features: features as u32, ..Problem::default() };
    let variant = Variant { strategy: Strategy::Channelwise };
    let configs = [0, 1, 2].map(|order| {
        let default = || default_config(&device, &variant, dtype, &problem);
        if tables.is_empty() {
            return default();
        }
        let query = Query {
            op: OP,
            device: &device,
            template_hash: ff_kernels::generated::VECTOR_NORM_TEMPLATE_HASH,
            key: &TuneKey::new(&variant.id(), order, dtype, &problem),
        };
        let selection = select(tables, query, |config| match device.runtime {
            RuntimeKind::Host => host_config(config).is_ok(),
            _ => cube_config(&device.limits, features, config).is_ok(),
        });
        selection.config.unwrap_or_else(default)
    });
    Ok(Arc::new(NormPlan { device, dtype, configs, n_atoms, features, epsilon }))
}

#[cfg(test)]
mod tests;
