//! From inputs to launches of the first backward on host.

use std::time::{Duration, Instant};

use ff_spec::fused_message::{BackwardInputs, Gradients};
use ff_spec::{FusedMessageBackward, LaunchConfig, LaunchError};

use super::host::{Backward, Call, HostConfig, ReceiverOrder};
use super::launch::{host_call, host_config};
use super::{HostElement, Registered};
use crate::digest::digest;
use crate::host::Aligned;
use crate::sender_list::SenderList;

/// The first backward of a host kernel with its tensors.
pub struct HostBackward<T: HostElement> {
    registered: &'static Registered,
    config: HostConfig,
    /// Without what is in `features`.
    inputs: BackwardInputs<T>,
    /// Node features and vectors, then the gradients in the outputs, aligned as in a tensor library.
    features: [Aligned<T>; 4],
    list: SenderList,
    order: ReceiverOrder,
    outputs: Gradients<T>,
}

impl<T: HostElement> HostBackward<T> {
    /// Takes the tensors over after checking them.
    ///
    /// # Errors
    /// [`LaunchError::Input`] and [`LaunchError::Constraint`].
    pub fn new(
        registered: &'static Registered,
        mut inputs: BackwardInputs<T>,
        config: &LaunchConfig,
    ) -> Result<Self, LaunchError> {
        inputs.check()?;
        registered.check(&inputs.inputs)?;
        let config = host_config(config)?;
        let outputs = inputs.poisoned_outputs();
        let list = SenderList::new(&inputs.inputs.row_ptr, &inputs.inputs.sender);
        let BackwardInputs { inputs: forward, grad, .. } = &mut inputs;
        let features = [&mut forward.nodes, &mut forward.vectors, &mut grad.nodes, &mut grad.vectors]
            .map(|v| Aligned::from(&*std::mem::take(v)));
        Ok(Self { registered, config, inputs, features, list, order: ReceiverOrder::default(), outputs })
    }

    fn launch(&mut self) {
        let [nodes, vectors, grad_nodes, grad_vectors] = &self.features;
        let call = Call { nodes, vectors, order: Some(&self.order), ..host_call(self.registered, &self.inputs.inputs) };
        let SenderList { sender_ptr, transpose, receiver } = &self.list;
        let wanted = self.inputs.wanted;
        let backward = Backward { sender_ptr, transpose, receiver, nodes: grad_nodes, vectors: grad_vectors, wanted };
        T::backward(self.registered)(&call, backward, &self.config, &mut self.outputs);
    }
}

impl<T: HostElement> ff_spec::Launch<FusedMessageBackward> for HostBackward<T> {
    fn poison(&mut self) -> Result<(), LaunchError> {
        self.outputs = self.outputs.map(|_| T::from_f64(f64::NAN));
        Ok(())
    }

    fn run(&mut self) -> Result<(), LaunchError> {
        self.launch();
        Ok(())
    }

    fn time(&mut self) -> Result<Duration, LaunchError> {
        let start = Instant::now();
        self.launch();
        Ok(start.elapsed())
    }

    fn outputs(&mut self) -> Result<Gradients<f64>, LaunchError> {
        Ok(self.outputs.cast())
    }

    fn input_digest(&mut self) -> Result<u64, LaunchError> {
        let inputs = &self.inputs.inputs;
        let mut parts: Vec<&[u8]> = vec![bytemuck::cast_slice(&inputs.row_ptr), bytemuck::cast_slice(&inputs.sender)];
        let tensors = self.inputs.tensors();
        parts.extend(self.features.iter().map(|values| bytemuck::cast_slice::<T, u8>(values)));
        parts.extend(tensors.iter().map(|(_, _, values)| bytemuck::cast_slice::<T, u8>(values)));
        Ok(digest(&parts))
    }
}
