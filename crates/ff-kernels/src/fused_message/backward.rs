//! From inputs to launches of the first backward on host.

use std::time::{Duration, Instant};

use ff_spec::fused_message::{BackwardInputs, Gradients};
use ff_spec::{FusedMessageBackward, LaunchConfig, LaunchError};

use super::host::{Backward, Call, HostConfig, ReceiverOrder};
use super::launch::{host_call, host_config};
use super::{HostElement, Registered};
use crate::digest::digest;
use crate::host::Aligned;

/// A neighbour list as its senders see it; made once, as the list is made once for many calls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SenderList {
    /// [n_atoms + 1].
    pub sender_ptr: Vec<u32>,
    /// The edges of each sender in ascending order, [n_edges].
    pub transpose: Vec<u32>,
    /// The receiver of each edge, [n_edges].
    pub receiver: Vec<u32>,
}

impl SenderList {
    /// Of a checked list: `row_ptr` [n_atoms + 1] and `sender` [n_edges].
    pub fn new(row_ptr: &[u32], sender: &[u32]) -> Self {
        let n_atoms = row_ptr.len() - 1;
        let mut sender_ptr = vec![0; n_atoms + 1];
        sender.iter().for_each(|atom| sender_ptr[*atom as usize + 1] += 1);
        for atom in 0..n_atoms {
            sender_ptr[atom + 1] += sender_ptr[atom];
        }
        let mut next = sender_ptr.clone();
        let (mut transpose, mut receiver) = (vec![0; sender.len()], vec![0; sender.len()]);
        for (atom, row) in row_ptr.windows(2).enumerate() {
            for edge in row[0]..row[1] {
                let slot = &mut next[sender[edge as usize] as usize];
                transpose[*slot as usize] = edge;
                receiver[edge as usize] = atom as u32;
                *slot += 1;
            }
        }
        Self { sender_ptr, transpose, receiver }
    }
}

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
