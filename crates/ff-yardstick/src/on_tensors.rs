//! The fused op and the unfused composition as a user of Burn calls them, each as something that is gated and timed.
//!
//! Order 0 is the forward on a backend without a graph; order 1 is the forward on `Autodiff<B>` and the backward through
//! Burn's graph, as a program pays for them in every step: neither part can be had without the other.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use burn::backend::Flex;
use burn::backend::wgpu::{Wgpu, WgpuDevice, WgpuRuntime};
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{DType, Int, Tensor, TensorData};
use burn_autodiff::Autodiff;
use burn_cubecl::cubecl::Runtime;
use ff_ops::burn_dtype;
use ff_ops::fused_message::{FilterTensors, FusedMessageBackend, Graph, OpError, Options, fused_message};
use ff_spec::fused_message::{
    BackwardInputs, Filter, Gradients, Inputs, Message as MessageKind, Outputs, Radial, Variant, Wanted,
};
use ff_spec::{Dtype, FusedMessage, FusedMessageBackward, Launch, LaunchError, RuntimeKind};

use crate::unfused;

/// What is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Implementation {
    /// [`fused_message`].
    Fused,
    /// [`unfused::message`].
    Unfused,
}

/// Bytes that a call takes at its peak, roughly: `None` of the fused op, which makes nothing of the size n_edges × F.
///
/// The unfused forward holds about six tensors of the size of its largest at once; with a graph every step of it stays until
/// the backward has passed, and gradients come to them.
pub fn peak_bytes(implementation: Implementation, inputs: &Inputs<f64>, dtype: Dtype, order: u8) -> Option<u64> {
    let tensors = if order == 0 { 6 } else { 18 };
    (implementation == Implementation::Unfused).then(|| tensors * unfused::largest_tensor(inputs, dtype))
}

/// The forward on tensors.
///
/// # Errors
/// As [`unfused::prepare`] of the composition; [`LaunchError`] of the op for what it refuses.
pub fn forward(
    kind: RuntimeKind,
    implementation: Implementation,
    inputs: &Inputs<f64>,
    variant: &Variant,
    dtype: Dtype,
) -> Result<Box<dyn Launch<FusedMessage>>, LaunchError> {
    if implementation == Implementation::Unfused {
        return unfused::prepare(kind, inputs, variant, dtype);
    }
    match kind {
        RuntimeKind::Host => boxed(Call::<Flex>::upload(inputs, variant, dtype, Implementation::Fused)),
        RuntimeKind::Vulkan | RuntimeKind::Metal => {
            open(kind)?;
            boxed(Call::<Wgpu>::upload(inputs, variant, dtype, Implementation::Fused))
        }
        RuntimeKind::Cuda => cuda::forward(inputs, variant, dtype),
    }
}

/// The forward and the first backward on tensors: gradients in what is wanted, of ⟨grad, outputs⟩.
///
/// # Errors
/// As [`forward`].
pub fn backward(
    kind: RuntimeKind,
    implementation: Implementation,
    inputs: &BackwardInputs<f64>,
    variant: &Variant,
    dtype: Dtype,
) -> Result<Box<dyn Launch<FusedMessageBackward>>, LaunchError> {
    open(kind)?;
    match kind {
        RuntimeKind::Host => Descent::<Flex>::upload(inputs, variant, dtype, implementation, u64::MAX),
        RuntimeKind::Vulkan | RuntimeKind::Metal => {
            let limit = WgpuRuntime::client(&WgpuDevice::DefaultDevice).properties().memory.max_page_size;
            Descent::<Wgpu>::upload(inputs, variant, dtype, implementation, limit)
        }
        RuntimeKind::Cuda => cuda::backward(inputs, variant, dtype, implementation),
    }
}

#[cfg(feature = "cuda")]
mod cuda {
    use burn::backend::cuda::{Cuda, CudaDevice};
    use burn_cubecl::cubecl::cuda::CudaRuntime;

    use super::*;

    pub(super) fn forward(
        inputs: &Inputs<f64>,
        variant: &Variant,
        dtype: Dtype,
    ) -> Result<Box<dyn Launch<FusedMessage>>, LaunchError> {
        open(RuntimeKind::Cuda)?;
        boxed(Call::<Cuda>::upload(inputs, variant, dtype, Implementation::Fused))
    }

    pub(super) fn backward(
        inputs: &BackwardInputs<f64>,
        variant: &Variant,
        dtype: Dtype,
        implementation: Implementation,
    ) -> Result<Box<dyn Launch<FusedMessageBackward>>, LaunchError> {
        let limit = CudaRuntime::client(&CudaDevice::new(0)).properties().memory.max_page_size;
        Descent::<Cuda>::upload(inputs, variant, dtype, implementation, limit)
    }
}

#[cfg(not(feature = "cuda"))]
mod cuda {
    use super::*;

    fn absent<T>() -> Result<T, LaunchError> {
        Err(LaunchError::Unsupported("runtime `cuda` is not compiled into this binary".to_owned()))
    }

    pub(super) fn forward(
        _: &Inputs<f64>,
        _: &Variant,
        _: Dtype,
    ) -> Result<Box<dyn Launch<FusedMessage>>, LaunchError> {
        absent()
    }

    pub(super) fn backward(
        _: &BackwardInputs<f64>,
        _: &Variant,
        _: Dtype,
        _: Implementation,
    ) -> Result<Box<dyn Launch<FusedMessageBackward>>, LaunchError> {
        absent()
    }
}

/// Burn's device is initialised with the graphics API of the kernels' runtime, so that both share one client.
fn open(kind: RuntimeKind) -> Result<(), LaunchError> {
    ff_kernels::open(kind).map(|_| ()).map_err(|error| LaunchError::Unsupported(error.to_string()))
}

fn boxed<L: Launch<FusedMessage> + 'static>(
    launch: Result<L, LaunchError>,
) -> Result<Box<dyn Launch<FusedMessage>>, LaunchError> {
    launch.map(|launch| Box::new(launch) as Box<dyn Launch<FusedMessage>>)
}

fn refused(error: OpError) -> LaunchError {
    match error {
        OpError::Launch(error) => error,
        OpError::Input(error) => error.into(),
        other => LaunchError::Constraint(other.to_string()),
    }
}

fn floats<B: Backend, const D: usize>(values: &[f64], shape: [usize; D], dtype: DType) -> Tensor<B, D> {
    let data = TensorData::new(values.to_vec(), shape).convert_dtype(dtype);
    Tensor::from_data(data, (&B::Device::default(), dtype))
}

fn indices<B: Backend>(values: impl ExactSizeIterator<Item = u32>) -> Tensor<B, 1, Int> {
    let n = values.len();
    // Burn's indices are signed; lists this long are refused before.
    let data = TensorData::new(values.map(|i| i as i32).collect(), [n]);
    Tensor::from_data(data, (&B::Device::default(), DType::I32))
}

/// The tensors of one call.
struct Tensors<B: Backend> {
    graph: Graph<B>,
    receiver: Tensor<B, 1, Int>,
    nodes: Tensor<B, 2>,
    /// `mu` for painn.
    vectors: Option<Tensor<B, 3>>,
    filter: FilterTensors<B>,
}

impl<B: Backend> Tensors<B> {
    fn upload(inputs: &Inputs<f64>, dtype: Dtype) -> Result<Self, LaunchError> {
        if inputs.n_atoms.max(inputs.n_edges()) > i32::MAX as usize {
            return Err(LaunchError::Unsupported("more atoms or edges than Burn's i32 indices hold".to_owned()));
        }
        let (n, f, c, k) = (inputs.n_atoms, inputs.features, inputs.channels(), inputs.radial.n_basis);
        let device = B::Device::default();
        let graph = Graph::upload(&inputs.row_ptr, &inputs.sender, &inputs.edge_vec, dtype, &device);
        let receivers = inputs.row_ptr.windows(2).zip(0u32..).flat_map(|(row, i)| (row[0]..row[1]).map(move |_| i));
        let receivers: Vec<u32> = receivers.collect();
        let filter = FilterTensors::upload(&inputs.filter, k, c, dtype, &device);
        let dtype = burn_dtype(dtype);
        Ok(Self {
            graph: graph.map_err(refused)?,
            receiver: indices(receivers.into_iter()),
            nodes: floats(&inputs.nodes, [n, c], dtype),
            vectors: (inputs.message == MessageKind::Painn).then(|| floats(&inputs.vectors, [n, 3, f], dtype)),
            filter,
        })
    }

    /// Every floating-point tensor, flat.
    fn flat(&self) -> Vec<Tensor<B, 1>> {
        let mut all = vec![flat(&self.nodes), flat(self.graph.edge_vec())];
        all.extend(self.vectors.iter().map(flat));
        all.extend(self.filter.flat());
        all
    }

    fn digest(&self) -> Result<u64, LaunchError> {
        // Compared within one process only, so the standard library's hash will do.
        let mut hash = DefaultHasher::new();
        for indices in [self.graph.row_ptr(), self.graph.sender(), &self.receiver] {
            indices.clone().try_into_data().map_err(fault)?.as_bytes().hash(&mut hash);
        }
        for tensor in self.flat() {
            tensor.try_into_data().map_err(fault)?.as_bytes().hash(&mut hash);
        }
        Ok(hash.finish())
    }
}

impl<B: AutodiffBackend> Tensors<B> {
    /// The same tensors as leaves of a graph.
    fn tracked(self, wanted: Wanted) -> Result<Self, LaunchError> {
        macro_rules! leaf {
            ($wanted:expr, $tensor:expr) => {
                if $wanted { $tensor.require_grad() } else { $tensor }
            };
        }
        let edge_vec = leaf!(wanted.edge_vec, self.graph.edge_vec().clone());
        Ok(Self {
            graph: self.graph.with_edge_vec(edge_vec).map_err(refused)?,
            receiver: self.receiver,
            nodes: leaf!(wanted.nodes, self.nodes),
            vectors: self.vectors.map(|vectors| leaf!(wanted.nodes, vectors)),
            filter: if wanted.filter { self.filter.require_grad() } else { self.filter },
        })
    }
}

fn flat<B: Backend, const D: usize>(tensor: &Tensor<B, D>) -> Tensor<B, 1> {
    tensor.clone().reshape([tensor.shape().num_elements()])
}

fn fault(error: impl std::fmt::Display) -> LaunchError {
    LaunchError::Runtime(error.to_string())
}

fn numbers<B: Backend>(tensor: Tensor<B, 1>) -> Result<Vec<f64>, LaunchError> {
    Ok(tensor.try_into_data().map_err(fault)?.iter::<f64>().collect())
}

/// Burn reports what it cannot allocate or compile by panicking; a yardstick must not end the program.
fn guarded<T>(action: impl FnOnce() -> Result<T, LaunchError>) -> Result<T, LaunchError> {
    catch_unwind(AssertUnwindSafe(action)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        Err(fault(text.unwrap_or("Burn panicked").lines().next().unwrap_or_default()))
    })
}

fn wait<B: Backend>() -> Result<(), LaunchError> {
    B::sync(&B::Device::default()).map_err(fault)
}

/// A call, with what it is called on.
struct Call<B: Backend> {
    implementation: Implementation,
    variant: Variant,
    radial: Radial<f64>,
    tensors: Tensors<B>,
    outputs: (Tensor<B, 2>, Option<Tensor<B, 3>>),
    /// The sizes of the outputs.
    sizes: (usize, usize),
    dtype: DType,
}

impl<B: FusedMessageBackend> Call<B> {
    fn upload(
        inputs: &Inputs<f64>,
        variant: &Variant,
        dtype: Dtype,
        implementation: Implementation,
    ) -> Result<Self, LaunchError> {
        let sizes = (inputs.n_atoms, inputs.features);
        let mut call = Self {
            implementation,
            variant: variant.clone(),
            radial: inputs.radial.clone(),
            tensors: Tensors::upload(inputs, dtype)?,
            outputs: (Tensor::zeros([0, 0], &B::Device::default()), None),
            sizes,
            dtype: burn_dtype(dtype),
        };
        call.poison()?;
        Ok(call)
    }

    fn call(&self) -> Result<(Tensor<B, 2>, Option<Tensor<B, 3>>), OpError> {
        let Tensors { graph, receiver, nodes, vectors, filter } = &self.tensors;
        let (nodes, vectors) = (nodes.clone(), vectors.clone());
        match self.implementation {
            Implementation::Fused => {
                let options = Options { variant: &self.variant, tables: &[] };
                let message = fused_message(graph, nodes, vectors, &self.radial, filter, &options)?;
                Ok((message.nodes, message.vectors))
            }
            Implementation::Unfused => {
                unfused::message(graph, receiver, nodes, vectors, &self.radial, filter, &self.variant)
            }
        }
    }
}

impl<B: FusedMessageBackend> Launch<FusedMessage> for Call<B> {
    fn poison(&mut self) -> Result<(), LaunchError> {
        let ((n, f), options) = (self.sizes, (&B::Device::default(), self.dtype));
        let vectors = self.tensors.vectors.is_some().then(|| Tensor::full([n, 3, f], f64::NAN, options));
        self.outputs = (Tensor::full([n, f], f64::NAN, options), vectors);
        Ok(())
    }

    fn run(&mut self) -> Result<(), LaunchError> {
        self.outputs = guarded(|| self.call().map_err(refused))?;
        wait::<B>()
    }

    fn time(&mut self) -> Result<Duration, LaunchError> {
        wait::<B>()?;
        let start = Instant::now();
        self.run()?;
        Ok(start.elapsed())
    }

    fn outputs(&mut self) -> Result<Outputs<f64>, LaunchError> {
        let vectors = self.outputs.1.as_ref().map_or(Ok(Vec::new()), |vectors| numbers(flat(vectors)))?;
        Ok(Outputs { nodes: numbers(flat(&self.outputs.0))?, vectors })
    }

    fn input_digest(&mut self) -> Result<u64, LaunchError> {
        self.tensors.digest()
    }
}

/// A call on a graph, with cotangents of what it returns.
struct Descent<B: FusedMessageBackend>
where
    Autodiff<B>: FusedMessageBackend,
{
    call: Call<Autodiff<B>>,
    grad: (Tensor<Autodiff<B>, 2>, Option<Tensor<Autodiff<B>, 3>>),
    wanted: Wanted,
    /// The gradients as they were read last; NaN where nothing was.
    found: Gradients<f64>,
    poison: Gradients<f64>,
    /// The gradients of the last run, still on the device.
    pending: Option<<Autodiff<B> as AutodiffBackend>::Gradients>,
}

impl<B: FusedMessageBackend> Descent<B>
where
    Autodiff<B>: FusedMessageBackend + AutodiffBackend<InnerBackend = B>,
{
    fn upload(
        inputs: &BackwardInputs<f64>,
        variant: &Variant,
        dtype: Dtype,
        implementation: Implementation,
        limit: u64,
    ) -> Result<Box<dyn Launch<FusedMessageBackward>>, LaunchError> {
        let BackwardInputs { inputs: forward, grad, wanted } = inputs;
        if implementation == Implementation::Unfused {
            unfused::check::<B>(forward, variant, dtype, limit)?;
        }
        let mut call = Call::<Autodiff<B>>::upload(forward, variant, dtype, implementation)?;
        call.tensors = call.tensors.tracked(*wanted)?;
        let ((n, f), burn) = (call.sizes, call.dtype);
        let vectors = call.tensors.vectors.is_some().then(|| floats(&grad.vectors, [n, 3, f], burn));
        let poison = inputs.poisoned_outputs();
        Ok(Box::new(Self {
            grad: (floats(&grad.nodes, [n, f], burn), vectors),
            wanted: *wanted,
            found: poison.clone(),
            poison,
            pending: None,
            call,
        }))
    }

    fn step(&mut self) -> Result<(), LaunchError> {
        // What the last step left would count towards the memory of this one.
        self.pending = None;
        let (nodes, vectors) = self.call.call().map_err(refused)?;
        let mut loss = (nodes * self.grad.0.clone()).sum();
        if let (Some(vectors), Some(grad)) = (vectors, &self.grad.1) {
            loss = loss + (vectors * grad.clone()).sum();
        }
        self.pending = Some(loss.backward());
        wait::<B>()
    }

    /// Reads the gradients of the last run.
    fn read(&mut self) -> Result<(), LaunchError> {
        let Some(pending) = self.pending.take() else { return Ok(()) };
        fn of<A: AutodiffBackend, const D: usize>(
            wanted: bool,
            tensor: &Tensor<A, D>,
            found: &A::Gradients,
        ) -> Result<Vec<f64>, LaunchError> {
            if !wanted {
                return Ok(Vec::new());
            }
            let gradient = tensor.grad(found).ok_or_else(|| fault("Burn's graph has no gradient of a leaf"))?;
            numbers(flat(&gradient))
        }
        let (tensors, wanted) = (&self.call.tensors, self.wanted);
        let filter = match &tensors.filter {
            _ if !wanted.filter => None,
            FilterTensors::Linear { a, b } => {
                Some(Filter::Linear { a: of(true, a, &pending)?, b: of(true, b, &pending)? })
            }
            FilterTensors::Mlp { a1, b1, a2, b2, activation } => Some(Filter::Mlp {
                hidden: b1.dims()[0],
                a1: of(true, a1, &pending)?,
                b1: of(true, b1, &pending)?,
                a2: of(true, a2, &pending)?,
                b2: of(true, b2, &pending)?,
                activation: *activation,
            }),
            FilterTensors::Tabulated { .. } => None,
        };
        let vectors = match &tensors.vectors {
            Some(vectors) => of(wanted.nodes, vectors, &pending)?,
            None => Vec::new(),
        };
        self.found = Gradients {
            nodes: of(wanted.nodes, &tensors.nodes, &pending)?,
            vectors,
            edge_vec: of(wanted.edge_vec, tensors.graph.edge_vec(), &pending)?,
            filter,
        };
        Ok(())
    }
}

impl<B: FusedMessageBackend> Launch<FusedMessageBackward> for Descent<B>
where
    Autodiff<B>: FusedMessageBackend + AutodiffBackend<InnerBackend = B>,
{
    fn poison(&mut self) -> Result<(), LaunchError> {
        self.pending = None;
        self.found = self.poison.clone();
        Ok(())
    }

    fn run(&mut self) -> Result<(), LaunchError> {
        guarded(|| self.step())
    }

    fn time(&mut self) -> Result<Duration, LaunchError> {
        wait::<B>()?;
        let start = Instant::now();
        self.run()?;
        Ok(start.elapsed())
    }

    fn outputs(&mut self) -> Result<Gradients<f64>, LaunchError> {
        self.read()?;
        Ok(self.found.clone())
    }

    fn input_digest(&mut self) -> Result<u64, LaunchError> {
        self.call.tensors.digest()
    }
}
