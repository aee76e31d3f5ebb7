//! From inputs to launches on host, of every derivative order.

use std::time::{Duration, Instant};

use ff_host::Aligned;
use ff_spec::fused_message::{
    BackwardInputs, DoubleBackwardInputs, DoubleGradients, Gradients, InputError, Inputs, Outputs, Wanted,
};
use ff_spec::{
    FusedMessage, FusedMessageBackward, FusedMessageDoubleBackward, Launch, LaunchConfig, LaunchError, Op, digest,
};

use super::host::{Backward, Call, Direction, HostConfig, PackedFilter, ReceiverOrder, Stages};
use super::launch::{host_call, host_config};
use super::{HostElement, Registered, SenderList};

/// Inputs of a derivative order on host.
pub trait HostInputs<T: HostElement>: Sized {
    /// Which order this is.
    type Op: Op;
    /// What it writes.
    type Outputs;

    #[doc(hidden)]
    fn check(&self) -> Result<(), InputError>;
    /// The inputs of the forward among them.
    #[doc(hidden)]
    fn forward(&self) -> &Inputs<T>;
    /// The tensors that rows are gathered from: those of the forward, then others.
    #[doc(hidden)]
    fn gathered(&mut self) -> Vec<&mut Vec<T>>;
    /// The others.
    #[doc(hidden)]
    fn values(&self) -> Vec<&[T]>;
    #[doc(hidden)]
    fn poisoned(&self) -> Self::Outputs;
    #[doc(hidden)]
    fn poison(outputs: &Self::Outputs) -> Self::Outputs;
    #[doc(hidden)]
    fn widened(outputs: &Self::Outputs) -> <Self::Op as Op>::Outputs;
    /// Runs the kernel; `gathered` as above, in the memory that it is read from.
    #[doc(hidden)]
    fn launch(&self, host: &Host<T>, call: &Call<T>, gathered: &[Aligned<T>], outputs: &mut Self::Outputs);
}

/// What the launches of every order keep.
#[doc(hidden)]
pub struct Host<T: HostElement> {
    registered: &'static Registered,
    stages: Stages<T>,
    config: HostConfig,
    /// Packed once, as weights are the same for many calls.
    packed: PackedFilter<T>,
    /// Found once, as a neighbour list is made once for many calls.
    order: ReceiverOrder,
    list: SenderList,
}

impl<T: HostElement> Host<T> {
    fn backward<'a>(&'a self, [nodes, vectors]: [&'a [T]; 2], wanted: Wanted) -> Backward<'a, T> {
        let SenderList { sender_ptr, transpose, receiver } = &self.list;
        Backward { sender_ptr, transpose, receiver, nodes, vectors, wanted }
    }
}

/// A host kernel with its tensors.
pub struct HostLaunch<T: HostElement, I: HostInputs<T> = Inputs<T>> {
    host: Host<T>,
    /// Without what is in `gathered`.
    inputs: I,
    /// Aligned as in a tensor library.
    gathered: Vec<Aligned<T>>,
    outputs: I::Outputs,
}

impl<T: HostElement, I: HostInputs<T>> HostLaunch<T, I> {
    /// Takes the tensors over after checking them.
    ///
    /// # Errors
    /// [`LaunchError::Input`] and [`LaunchError::Constraint`].
    pub fn new(registered: &'static Registered, mut inputs: I, config: &LaunchConfig) -> Result<Self, LaunchError> {
        inputs.check()?;
        registered.check(inputs.forward())?;
        let config = host_config(config)?;
        let outputs = inputs.poisoned();
        let forward = inputs.forward();
        let (parts, features) = (forward.message.parts(), forward.features);
        let packed = PackedFilter::new(I::Op::ORDER, &forward.filter, parts, features, &config);
        let list = match I::Op::ORDER {
            0 => SenderList::default(),
            _ => SenderList::new(&forward.row_ptr, &forward.sender),
        };
        let host =
            Host { registered, stages: registered.stages(), config, packed, order: ReceiverOrder::default(), list };
        let gathered = inputs.gathered().into_iter().map(|v| Aligned::from(&*std::mem::take(v))).collect();
        Ok(Self { host, inputs, gathered, outputs })
    }

    fn launch(&mut self) {
        let Self { host, inputs, gathered, outputs } = self;
        let call = Call {
            nodes: &gathered[0],
            vectors: &gathered[1],
            packed: Some(&host.packed),
            order: Some(&host.order),
            ..host_call(host.registered, inputs.forward())
        };
        inputs.launch(host, &call, gathered, outputs);
    }
}

impl<T: HostElement, I: HostInputs<T>> Launch<I::Op> for HostLaunch<T, I> {
    fn poison(&mut self) -> Result<(), LaunchError> {
        self.outputs = I::poison(&self.outputs);
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

    fn outputs(&mut self) -> Result<<I::Op as Op>::Outputs, LaunchError> {
        Ok(I::widened(&self.outputs))
    }

    fn input_digest(&mut self) -> Result<u64, LaunchError> {
        let forward = self.inputs.forward();
        let mut parts: Vec<&[u8]> = vec![bytemuck::cast_slice(&forward.row_ptr), bytemuck::cast_slice(&forward.sender)];
        parts.extend(self.gathered.iter().map(|values| bytemuck::cast_slice::<T, u8>(values)));
        parts.extend(self.inputs.values().into_iter().map(|values| bytemuck::cast_slice::<T, u8>(values)));
        Ok(digest(&parts))
    }
}

impl<T: HostElement> HostInputs<T> for Inputs<T> {
    type Op = FusedMessage;
    type Outputs = Outputs<T>;

    fn check(&self) -> Result<(), InputError> {
        Inputs::check(self)
    }

    fn forward(&self) -> &Inputs<T> {
        self
    }

    fn gathered(&mut self) -> Vec<&mut Vec<T>> {
        vec![&mut self.nodes, &mut self.vectors]
    }

    fn values(&self) -> Vec<&[T]> {
        self.tensors().into_iter().map(|(_, _, values)| values).collect()
    }

    fn poisoned(&self) -> Outputs<T> {
        self.poisoned_outputs()
    }

    fn poison(outputs: &Outputs<T>) -> Outputs<T> {
        outputs.map(|_| T::from_f64(f64::NAN))
    }

    fn widened(outputs: &Outputs<T>) -> Outputs<f64> {
        outputs.cast()
    }

    fn launch(&self, host: &Host<T>, call: &Call<T>, _: &[Aligned<T>], outputs: &mut Outputs<T>) {
        host.stages.forward(call, &host.config, outputs);
    }
}

impl<T: HostElement> HostInputs<T> for BackwardInputs<T> {
    type Op = FusedMessageBackward;
    type Outputs = Gradients<T>;

    fn check(&self) -> Result<(), InputError> {
        BackwardInputs::check(self)
    }

    fn forward(&self) -> &Inputs<T> {
        &self.inputs
    }

    fn gathered(&mut self) -> Vec<&mut Vec<T>> {
        let Self { inputs, grad, .. } = self;
        vec![&mut inputs.nodes, &mut inputs.vectors, &mut grad.nodes, &mut grad.vectors]
    }

    fn values(&self) -> Vec<&[T]> {
        self.tensors().into_iter().map(|(_, _, values)| values).collect()
    }

    fn poisoned(&self) -> Gradients<T> {
        self.poisoned_outputs()
    }

    fn poison(outputs: &Gradients<T>) -> Gradients<T> {
        outputs.map(|_| T::from_f64(f64::NAN))
    }

    fn widened(outputs: &Gradients<T>) -> Gradients<f64> {
        outputs.cast()
    }

    fn launch(&self, host: &Host<T>, call: &Call<T>, gathered: &[Aligned<T>], outputs: &mut Gradients<T>) {
        let backward = host.backward([&gathered[2], &gathered[3]], self.wanted);
        host.stages.backward(call, backward, &host.config, outputs);
    }
}

impl<T: HostElement> HostInputs<T> for DoubleBackwardInputs<T> {
    type Op = FusedMessageDoubleBackward;
    type Outputs = DoubleGradients<T>;

    fn check(&self) -> Result<(), InputError> {
        DoubleBackwardInputs::check(self)
    }

    fn forward(&self) -> &Inputs<T> {
        &self.inputs
    }

    fn gathered(&mut self) -> Vec<&mut Vec<T>> {
        let Self { inputs, grad, tangent } = self;
        let cotangents = [&mut grad.nodes, &mut grad.vectors];
        let direction = [&mut tangent.nodes, &mut tangent.vectors];
        [&mut inputs.nodes, &mut inputs.vectors].into_iter().chain(cotangents).chain(direction).collect()
    }

    fn values(&self) -> Vec<&[T]> {
        self.tensors().into_iter().map(|(_, _, values)| values).collect()
    }

    fn poisoned(&self) -> DoubleGradients<T> {
        self.poisoned_outputs()
    }

    fn poison(outputs: &DoubleGradients<T>) -> DoubleGradients<T> {
        outputs.map(|_| T::from_f64(f64::NAN))
    }

    fn widened(outputs: &DoubleGradients<T>) -> DoubleGradients<f64> {
        outputs.cast()
    }

    fn launch(&self, host: &Host<T>, call: &Call<T>, gathered: &[Aligned<T>], outputs: &mut DoubleGradients<T>) {
        let backward = host.backward([&gathered[2], &gathered[3]], Wanted::ALL);
        let Gradients { edge_vec, filter, .. } = &self.tangent;
        let direction = Direction { nodes: &gathered[4], vectors: &gathered[5], edge_vec, filter: filter.as_ref() };
        host.stages.double_backward(call, backward, direction, &host.config, outputs);
    }
}
