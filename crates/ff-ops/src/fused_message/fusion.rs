//! The kernels of the backend beneath Burn's fusion wrapper.

use std::sync::{Arc, OnceLock};

use burn_fusion::{Fusion, FusionBackend};
use ff_kernels::fused_message::reads_list_by_sender;
use ff_spec::fused_message::Wanted;
use ff_spec::{DeviceId, LaunchError};

use super::{FusedMessageBackend, Plan, PrimitiveDoubleGradients, PrimitiveGradients, PrimitiveMessage, Primitives};
use crate::fusion::{float, fused, int};
use crate::graph::{BySender, by_sender};

impl<B: FusionBackend + FusedMessageBackend> FusedMessageBackend for Fusion<B> {
    const ORDER: u8 = B::ORDER;

    type KeptRadial = B::KeptRadial;
    type KeptFilter = B::KeptFilter;

    fn device_id(device: &Self::Device) -> DeviceId {
        B::device_id(device)
    }

    fn fused_message(inputs: Primitives<Self>, plan: &Arc<Plan>) -> Result<PrimitiveMessage<Self>, LaunchError> {
        let device = inputs.nodes.client.device().clone();
        // The forward does not read the list by sender.
        let found = B::fused_message(inputs.map(float::<B>, int::<B>, |_| Arc::default()), plan)?;
        Ok(found.map(|tensor| fused::<B>(&device, tensor)))
    }

    fn fused_message_backward(
        inputs: Primitives<Self>,
        grad: PrimitiveMessage<Self>,
        wanted: Wanted,
        plan: &Arc<Plan>,
    ) -> Result<PrimitiveGradients<Self>, LaunchError> {
        let device = inputs.nodes.client.device().clone();
        let found = B::fused_message_backward(with_list(inputs, plan, 1)?, grad.map(float::<B>), wanted, plan)?;
        Ok(found.map(|tensor| fused::<B>(&device, tensor)))
    }

    fn fused_message_double_backward(
        inputs: Primitives<Self>,
        grad: PrimitiveMessage<Self>,
        tangent: PrimitiveGradients<Self>,
        wanted: Wanted,
        plan: &Arc<Plan>,
    ) -> Result<PrimitiveDoubleGradients<Self>, LaunchError> {
        let device = inputs.nodes.client.device().clone();
        let (grad, tangent) = (grad.map(float::<B>), tangent.map(float::<B>));
        let found = B::fused_message_double_backward(with_list(inputs, plan, 2)?, grad, tangent, wanted, plan)?;
        Ok(PrimitiveDoubleGradients {
            grad: found.grad.map(|tensor| fused::<B>(&device, tensor)),
            gradients: found.gradients.map(|tensor| fused::<B>(&device, tensor)),
        })
    }
}

/// The call beneath, with the list by sender that is kept with the graph, where the backward of this order reads it.
fn with_list<B: FusionBackend + FusedMessageBackend>(
    inputs: Primitives<Fusion<B>>,
    plan: &Plan,
    order: u8,
) -> Result<Primitives<B>, LaunchError> {
    if !reads_list_by_sender(&plan.kind.variant, order) {
        return Ok(inputs.map(float::<B>, int::<B>, |_| Arc::default()));
    }
    let list = by_sender::<Fusion<B>>(&inputs.by_sender, &inputs.host, &inputs.row_ptr, &inputs.sender)
        .map_err(|error| LaunchError::Runtime(error.to_string()))?;
    let list: BySender<B> = Arc::new(OnceLock::from(list.map(int::<B>)));
    Ok(inputs.map(float::<B>, int::<B>, |_| list))
}
