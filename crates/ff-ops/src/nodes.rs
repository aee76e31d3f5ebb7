//! What the nodes of Burn's autodiff graph share.

use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;
use burn::tensor::{Shape, Slice, TensorMetadata};
use burn_autodiff::Autodiff;
use burn_autodiff::checkpoint::strategy::CheckpointStrategy;
use burn_autodiff::ops::{Backward, OpsKind};
use ff_spec::LaunchError;

/// Orders of derivatives that every backend without a graph of its own has kernels for.
const REGISTERED: u8 = 2;

/// Computes what `state` holds and, where anything it is made of is tracked, records it with the state. There are kernels
/// for `have` orders of derivatives of `op` beneath this graph, and tracking takes `need`.
pub(crate) fn record<B: Backend, C: CheckpointStrategy, G, S, const N: usize>(
    prep: OpsKind<G, B, S, C, N>,
    (have, need): (u8, u8),
    op: &str,
    state: S,
    compute: impl FnOnce(S) -> Result<FloatTensor<B>, LaunchError>,
) -> Result<FloatTensor<Autodiff<B, C>>, LaunchError>
where
    G: Backward<B, N, State = S>,
    S: Clone + Send + std::fmt::Debug + 'static,
{
    match prep {
        OpsKind::Tracked(_) if have < need => Err(LaunchError::Unsupported(format!(
            "a gradient of order {} through `{op}` is not registered, expected at most {REGISTERED}",
            REGISTERED.saturating_sub(have) + need
        ))),
        OpsKind::Tracked(prep) => {
            let output = compute(state.clone())?;
            Ok(prep.finish(state, output))
        }
        OpsKind::UnTracked(prep) => Ok(prep.finish(compute(state)?)),
    }
}

/// Tensors as one, since a node of the graph has one output.
pub(crate) fn join<B: Backend>(tensors: impl Iterator<Item = FloatTensor<B>>) -> FloatTensor<B> {
    let mut flat: Vec<FloatTensor<B>> = tensors
        .map(|tensor| {
            let elements = tensor.shape().num_elements();
            B::float_reshape(tensor, Shape::new([elements]))
        })
        .collect();
    if flat.len() == 1 { flat.swap_remove(0) } else { B::float_cat(flat, 0) }
}

/// The tensors that were joined, from the front.
pub(crate) struct Joined<B: Backend> {
    joined: FloatTensor<B>,
    at: usize,
}

impl<B: Backend> Joined<B> {
    pub fn new(joined: FloatTensor<B>) -> Self {
        Self { joined, at: 0 }
    }

    pub fn next(&mut self, shape: &Shape) -> FloatTensor<B> {
        let end = self.at + shape.num_elements();
        let slice = Slice::from(self.at..end);
        self.at = end;
        B::float_reshape(B::float_slice(self.joined.clone(), &[slice]), shape.clone())
    }
}
