//! The plain composition: what a user would write with Burn's tensor operations and no fusion.
//!
//! It is the yardstick for the fused kernels, run on the same backend: gather the sender rows, expand distances into
//! the radial basis by broadcasting, multiply with the filter's weights, multiply again, scatter-add by receiver. Every
//! step writes its edges × channels to memory; [`largest_tensor`] says how much that is.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use burn::backend::Flex;
use burn::backend::wgpu::{Wgpu, WgpuDevice, WgpuRuntime};
use burn::tensor::activation::{silu, softplus, tanh};
use burn::tensor::backend::Backend;
use burn::tensor::{DType, IndexingUpdateOp, Int, Tensor, TensorData};
use burn_cubecl::cubecl::Runtime;
use ff_ops::burn_dtype;
use ff_ops::fused_message::{FilterTensors, Graph, OpError};
use ff_spec::fused_message::{Activation, Filter, FilterKind, Inputs, Message, Outputs, Radial, Variant};
use ff_spec::{Dtype, Launch, LaunchError, RuntimeKind};

/// Uploads `inputs`, rounded to `dtype`, for the unfused composition on a runtime: Burn's Flex backend on host, its
/// CubeCL backends elsewhere. The reduction of `variant` is not used; timing is by wall clock around a synchronisation.
///
/// # Errors
/// [`LaunchError::Unsupported`] for a tabulated filter (its counterpart is that of the filter it was made from), a
/// radial function without a composition here, a runtime that is not available, a dtype that Burn does not support on
/// it and tensors larger than the device can allocate; [`LaunchError::Input`] for tensors that are wrong.
pub fn prepare(
    kind: RuntimeKind,
    inputs: &Inputs<f64>,
    variant: &Variant,
    dtype: Dtype,
) -> Result<Box<dyn Launch>, LaunchError> {
    let radial = RadialFunctions::of(variant)?;
    let registered =
        ff_kernels::fused_message::find(variant).ok_or_else(|| LaunchError::UnknownVariant(variant.id()))?;
    registered.check(inputs)?;
    // Burn's device is initialised with the graphics API of the kernels' runtime, so that both share one client.
    ff_kernels::open(kind).map_err(|error| LaunchError::Unsupported(error.to_string()))?;
    match kind {
        RuntimeKind::Host => Composition::<Flex>::upload(inputs, radial, dtype, Default::default(), u64::MAX),
        RuntimeKind::Vulkan | RuntimeKind::Metal => {
            let device = WgpuDevice::DefaultDevice;
            let limit = WgpuRuntime::client(&device).properties().memory.max_page_size;
            Composition::<Wgpu>::upload(inputs, radial, dtype, device, limit)
        }
        RuntimeKind::Cuda => upload_cuda(inputs, radial, dtype),
    }
}

#[cfg(feature = "cuda")]
fn upload_cuda(inputs: &Inputs<f64>, radial: RadialFunctions, dtype: Dtype) -> Result<Box<dyn Launch>, LaunchError> {
    use burn::backend::cuda::{Cuda, CudaDevice};
    use burn_cubecl::cubecl::cuda::CudaRuntime;
    let device = CudaDevice::new(0);
    let limit = CudaRuntime::client(&device).properties().memory.max_page_size;
    Composition::<Cuda>::upload(inputs, radial, dtype, device, limit)
}

#[cfg(not(feature = "cuda"))]
fn upload_cuda(_: &Inputs<f64>, _: RadialFunctions, _: Dtype) -> Result<Box<dyn Launch>, LaunchError> {
    Err(LaunchError::Unsupported("runtime `cuda` is not compiled into this binary".to_owned()))
}

/// The composition on tensors: the counterpart of [`fused_message`](ff_ops::fused_message::fused_message), with Burn's own
/// gradients to every order.
///
/// `receiver` [n_edges] holds the receiver of each edge of `graph`; shapes and units are those of the fused op, and so is
/// what is returned: `y` or `dq` [n_atoms, F], and `dmu` [n_atoms, 3, F] (painn).
///
/// # Errors
/// [`OpError::Launch`] for a tabulated filter and for radial functions without a composition here.
pub fn message<B: Backend>(
    graph: &Graph<B>,
    receiver: &Tensor<B, 1, Int>,
    nodes: Tensor<B, 2>,
    vectors: Option<Tensor<B, 3>>,
    radial: &Radial<f64>,
    filter: &FilterTensors<B>,
    variant: &Variant,
) -> Result<Sums<B>, OpError> {
    let (device, dtype) = (nodes.device(), nodes.dtype());
    let up = Uploader::<B> { device: &device, dtype };
    let weights = match filter.clone() {
        FilterTensors::Linear { a, b } => Weights::Linear { a, b: b.unsqueeze() },
        FilterTensors::Mlp { a1, b1, a2, b2, activation } => {
            Weights::Mlp { a1, b1: b1.unsqueeze(), a2, b2: b2.unsqueeze(), activation }
        }
        FilterTensors::Tabulated { .. } => return Err(no_table().into()),
    };
    let k = radial.n_basis;
    let (n_atoms, features) = (graph.n_atoms(), nodes.dims()[1] / variant.message.parts());
    let parameters = radial.basis.iter().map(|(name, values)| (name.clone(), up.floats(values, [1, values.len()])));
    let composition = Composition {
        radial: RadialFunctions::of(variant)?,
        r_cut: radial.r_cut,
        n_atoms,
        features,
        sender: graph.sender().clone(),
        receiver: receiver.clone(),
        edge_vec: graph.edge_vec().clone(),
        nodes,
        vectors,
        weights,
        index: up.floats(&(1..=k).map(|k| k as f64).collect::<Vec<_>>(), [1, k]),
        parameters: parameters.collect(),
        outputs: (Tensor::empty([0, 0], &device), None),
        device: device.clone(),
        dtype,
    };
    Ok(composition.forward())
}

/// Bytes of the largest tensor of the composition. About six of them live at once.
pub fn largest_tensor<T: ff_spec::Scalar>(inputs: &Inputs<T>, dtype: Dtype) -> u64 {
    let hidden = match &inputs.filter {
        Filter::Mlp { hidden, .. } => *hidden,
        _ => 0,
    };
    let columns = inputs.channels().max(hidden).max(inputs.radial.n_basis);
    inputs.n_edges() as u64 * columns as u64 * dtype.size() as u64
}

#[derive(Clone, Copy)]
enum Basis {
    Gaussian,
    Bessel,
    Expnorm,
}

#[derive(Clone, Copy)]
enum Cutoff {
    Cosine,
    Polynomial,
}

/// The radial functions that are composed here by hand; those that codegen adds have no unfused counterpart.
#[derive(Clone, Copy)]
struct RadialFunctions {
    basis: Basis,
    cutoff: Cutoff,
}

impl RadialFunctions {
    fn of(variant: &Variant) -> Result<Self, LaunchError> {
        let Some((basis, cutoff)) = variant.radial.as_ref().filter(|_| variant.filter != FilterKind::Tabulated) else {
            return Err(no_table());
        };
        let unknown = |kind: &str, found: &str, expected: &str| {
            LaunchError::Unsupported(format!("no unfused composition for {kind} `{found}`, expected {expected}"))
        };
        Ok(Self {
            basis: match basis.as_str() {
                "gaussian" => Basis::Gaussian,
                "bessel" => Basis::Bessel,
                "expnorm" => Basis::Expnorm,
                other => return Err(unknown("basis", other, "gaussian, bessel or expnorm")),
            },
            cutoff: match cutoff.as_str() {
                "cosine" => Cutoff::Cosine,
                "polynomial" => Cutoff::Polynomial,
                other => return Err(unknown("cutoff", other, "cosine or polynomial")),
            },
        })
    }
}

fn no_table() -> LaunchError {
    let reason = "a tabulated filter has no unfused composition, compare with the filter it was made from";
    LaunchError::Unsupported(reason.to_owned())
}

enum Weights<B: Backend> {
    Linear { a: Tensor<B, 2>, b: Tensor<B, 2> },
    Mlp { a1: Tensor<B, 2>, b1: Tensor<B, 2>, a2: Tensor<B, 2>, b2: Tensor<B, 2>, activation: Activation },
}

/// `y` or `dq` [n_atoms, F], and `dmu` [n_atoms, 3, F].
pub type Sums<B> = (Tensor<B, 2>, Option<Tensor<B, 3>>);

/// Inputs and outputs as Burn tensors.
struct Composition<B: Backend> {
    device: B::Device,
    dtype: DType,
    radial: RadialFunctions,
    r_cut: f64,
    n_atoms: usize,
    features: usize,
    sender: Tensor<B, 1, Int>,
    receiver: Tensor<B, 1, Int>,
    edge_vec: Tensor<B, 2>,
    nodes: Tensor<B, 2>,
    /// `mu` for painn.
    vectors: Option<Tensor<B, 3>>,
    weights: Weights<B>,
    /// k = 1..K, [1, K].
    index: Tensor<B, 2>,
    /// Parameters of the basis, [1, 1] or [1, K].
    parameters: BTreeMap<String, Tensor<B, 2>>,
    outputs: Sums<B>,
}

impl<B: Backend> Composition<B> {
    fn upload(
        inputs: &Inputs<f64>,
        radial: RadialFunctions,
        dtype: Dtype,
        device: B::Device,
        limit: u64,
    ) -> Result<Box<dyn Launch>, LaunchError> {
        Ok(Box::new(Self::new(inputs, radial, dtype, device, limit)?))
    }

    fn new(
        inputs: &Inputs<f64>,
        radial: RadialFunctions,
        dtype: Dtype,
        device: B::Device,
        limit: u64,
    ) -> Result<Self, LaunchError> {
        check_device::<B>(&device, inputs, dtype, limit)?;
        let (n, f, e, c) = (inputs.n_atoms, inputs.features, inputs.n_edges(), inputs.channels());
        let k = inputs.radial.n_basis;
        let dtype = burn_dtype(dtype);
        let up = Uploader::<B> { device: &device, dtype };
        let receivers = inputs.row_ptr.windows(2).zip(0i32..).flat_map(|(row, i)| (row[0]..row[1]).map(move |_| i));
        let outputs = up.fill(n, f, inputs.message, f64::NAN);
        Ok(Self {
            radial,
            r_cut: inputs.radial.r_cut,
            n_atoms: n,
            features: f,
            sender: up.indices(inputs.sender.iter().map(|j| *j as i32).collect()),
            receiver: up.indices(receivers.collect()),
            edge_vec: up.floats(&inputs.edge_vec, [e, 3]),
            nodes: up.floats(&inputs.nodes, [n, c]),
            vectors: (inputs.message == Message::Painn).then(|| up.floats(&inputs.vectors, [n, 3, f])),
            weights: match &inputs.filter {
                Filter::Linear { a, b } => Weights::Linear { a: up.floats(a, [k, c]), b: up.floats(b, [1, c]) },
                Filter::Mlp { hidden, a1, b1, a2, b2, activation } => Weights::Mlp {
                    a1: up.floats(a1, [k, *hidden]),
                    b1: up.floats(b1, [1, *hidden]),
                    a2: up.floats(a2, [*hidden, c]),
                    b2: up.floats(b2, [1, c]),
                    activation: *activation,
                },
                Filter::Tabulated { .. } => unreachable!("refused by `RadialFunctions::of`"),
            },
            index: up.floats(&(1..=k).map(|k| k as f64).collect::<Vec<_>>(), [1, k]),
            parameters: inputs
                .radial
                .basis
                .iter()
                .map(|(name, values)| (name.clone(), up.floats(values, [1, values.len()])))
                .collect(),
            outputs,
            device,
            dtype,
        })
    }

    fn forward(&self) -> Sums<B> {
        let up = Uploader::<B> { device: &self.device, dtype: self.dtype };
        let message = if self.vectors.is_some() { Message::Painn } else { Message::Cfconv };
        let (n, f, [e, _]) = (self.n_atoms, self.features, self.edge_vec.dims());
        let zeros = up.fill(n, f, message, 0.0);
        if n * f * e == 0 {
            return zeros;
        }
        let d = (self.edge_vec.clone() * self.edge_vec.clone()).sum_dim(1).sqrt();
        let from_sender = self.nodes.clone().select(0, self.sender.clone()) * self.filter(d.clone());
        let add = |to: Tensor<B, 2>, values: Tensor<B, 2>| {
            to.select_assign(0, self.receiver.clone(), values, IndexingUpdateOp::Add)
        };
        let Some(vectors) = &self.vectors else {
            return (add(zeros.0, from_sender), None);
        };
        let part = |i: usize| from_sender.clone().narrow(1, i * f, f);
        // A coincident pair has no direction; its r is 0 and so is u. [e, 3, 1]
        let u = (self.edge_vec.clone() / d.clamp_min(1e-18)).unsqueeze_dim::<3>(2);
        let (w_r, w_mu) = (part(1).unsqueeze_dim::<3>(1), part(2).unsqueeze_dim::<3>(1));
        let along = w_r * u + w_mu * vectors.clone().select(0, self.sender.clone());
        let dmu = add(Tensor::zeros([n, 3 * f], (&self.device, self.dtype)), along.reshape([e, 3 * f]));
        (add(zeros.0, part(0)), Some(dmu.reshape([n, 3, f])))
    }

    /// W(d) [n_edges, C] of distances [n_edges, 1].
    fn filter(&self, d: Tensor<B, 2>) -> Tensor<B, 2> {
        let phi = self.basis(d.clone());
        let f_c = self.cutoff(d);
        let w = match &self.weights {
            Weights::Linear { a, b } => affine(phi, a, b),
            Weights::Mlp { a1, b1, a2, b2, activation } => {
                let x = affine(phi, a1, b1);
                let hidden = match activation {
                    Activation::ShiftedSoftplus => softplus(x, 1.0).sub_scalar(std::f64::consts::LN_2),
                    Activation::Tanh => tanh(x),
                    Activation::Silu => silu(x),
                };
                affine(hidden, a2, b2)
            }
        };
        w * f_c
    }

    /// Φ(d) [n_edges, K].
    fn basis(&self, d: Tensor<B, 2>) -> Tensor<B, 2> {
        let parameter = |name: &str| self.parameters[name].clone();
        match self.radial.basis {
            Basis::Gaussian => {
                let x = d - parameter("mu");
                (parameter("gamma").neg() * (x.clone() * x)).exp()
            }
            Basis::Bessel => {
                // sin(kπd/r_c)/d is kπ/r_c at 0, and to rounding already at this distance.
                let d = d.clamp_min(1e-7);
                let x = self.index.clone().mul_scalar(std::f64::consts::PI / self.r_cut) * d.clone();
                x.sin() / d
            }
            Basis::Expnorm => {
                let x = (d * parameter("alpha").neg()).exp() - parameter("mu");
                (parameter("beta").neg() * (x.clone() * x)).exp()
            }
        }
    }

    /// f_c(d) [n_edges, 1], 0 from the cutoff on.
    fn cutoff(&self, d: Tensor<B, 2>) -> Tensor<B, 2> {
        let beyond = d.clone().greater_equal_elem(self.r_cut);
        let f_c = match self.radial.cutoff {
            Cutoff::Cosine => d.mul_scalar(std::f64::consts::PI / self.r_cut).cos().add_scalar(1.0).mul_scalar(0.5),
            Cutoff::Polynomial => {
                // Not `div_scalar`: Burn's backward of it is rounded to f32 (0.21).
                let x = d.mul_scalar(1.0 / self.r_cut);
                let x2 = x.clone() * x.clone();
                let x6 = x2.clone() * x2.clone() * x2.clone();
                // 1 − 28x⁶ + 48x⁷ − 21x⁸.
                let p = x.mul_scalar(48.0) - x2.mul_scalar(21.0);
                (x6 * p.sub_scalar(28.0)).add_scalar(1.0)
            }
        };
        f_c.mask_fill(beyond, 0.0)
    }

    fn wait(&self) -> Result<(), LaunchError> {
        B::sync(&self.device).map_err(|error| LaunchError::Runtime(error.to_string()))
    }

    fn step(&mut self) -> Result<(), LaunchError> {
        // Burn reports what it cannot allocate or compile by panicking; a yardstick must not end the program.
        let outputs = catch_unwind(AssertUnwindSafe(|| self.forward())).map_err(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
            LaunchError::Runtime(text.unwrap_or("Burn panicked").lines().next().unwrap_or_default().to_owned())
        })?;
        self.outputs = outputs;
        self.wait()
    }
}

/// Whether the composition of a variant can be computed on the default device of a backend.
///
/// # Errors
/// As [`prepare`].
pub(crate) fn check<B: Backend>(
    inputs: &Inputs<f64>,
    variant: &Variant,
    dtype: Dtype,
    limit: u64,
) -> Result<(), LaunchError> {
    RadialFunctions::of(variant)?;
    check_device::<B>(&Default::default(), inputs, dtype, limit)
}

fn check_device<B: Backend>(
    device: &B::Device,
    inputs: &Inputs<f64>,
    dtype: Dtype,
    limit: u64,
) -> Result<(), LaunchError> {
    let unsupported = |text: String| Err(LaunchError::Unsupported(text));
    if !B::supports_dtype(device, burn_dtype(dtype)) {
        return unsupported(format!("Burn's {} does not compute in {dtype}", B::name(device)));
    }
    if let Some(function) = first_wrong_function::<B>(device, dtype) {
        return unsupported(format!("Burn's {} has no right `{function}` in {dtype}", B::name(device)));
    }
    let largest = largest_tensor(inputs, dtype);
    if largest > limit {
        return unsupported(format!("a tensor of {largest} bytes, the device allocates at most {limit}"));
    }
    if inputs.n_atoms.max(inputs.n_edges()) > i32::MAX as usize {
        return unsupported("more atoms or edges than Burn's i32 indices hold".to_owned());
    }
    Ok(())
}

/// The first elementary function that a backend gets wrong in a dtype.
///
/// Burn reports f64 as supported wherever a device stores and adds it, but SPIR-V's elementary functions are defined up
/// to 32 bits only, and a driver may return anything for the rest without a word.
fn first_wrong_function<B: Backend>(device: &B::Device, dtype: Dtype) -> Option<&'static str> {
    type Function<B> = fn(Tensor<B, 1>) -> Tensor<B, 1>;
    let functions: [(&str, Function<B>, f64); 6] = [
        ("exp", Tensor::exp, 0.75f64.exp()),
        ("log", Tensor::log, 0.75f64.ln()),
        ("sin", Tensor::sin, 0.75f64.sin()),
        ("cos", Tensor::cos, 0.75f64.cos()),
        ("tanh", Tensor::tanh, 0.75f64.tanh()),
        ("sqrt", Tensor::sqrt, 0.75f64.sqrt()),
    ];
    let tolerance = match dtype {
        Dtype::F32 => 1e-5,
        Dtype::F64 => 1e-12,
    };
    functions.into_iter().find_map(|(name, function, expected)| {
        let right = catch_unwind(AssertUnwindSafe(|| {
            let x = Tensor::<B, 1>::full([4], 0.75, (device, burn_dtype(dtype)));
            let data = function(x).try_into_data().ok()?;
            Some(data.iter::<f64>().all(|y| (y - expected).abs() <= tolerance))
        }));
        (!matches!(right, Ok(Some(true)))).then_some(name)
    })
}

fn affine<B: Backend>(x: Tensor<B, 2>, a: &Tensor<B, 2>, b: &Tensor<B, 2>) -> Tensor<B, 2> {
    let [rows, depth] = x.dims();
    if depth == 0 {
        // A matrix product over nothing is zero, which not every backend knows.
        return b.clone().repeat_dim(0, rows);
    }
    x.matmul(a.clone()) + b.clone()
}

/// Makes tensors of one dtype on one device.
struct Uploader<'a, B: Backend> {
    device: &'a B::Device,
    dtype: DType,
}

impl<B: Backend> Uploader<'_, B> {
    fn floats<const D: usize>(&self, values: &[f64], shape: [usize; D]) -> Tensor<B, D> {
        let data = TensorData::new(values.to_vec(), shape).convert_dtype(self.dtype);
        Tensor::from_data(data, (self.device, self.dtype))
    }

    fn indices(&self, values: Vec<i32>) -> Tensor<B, 1, Int> {
        let n = values.len();
        Tensor::from_data(TensorData::new(values, [n]), (self.device, DType::I32))
    }

    fn fill(&self, n: usize, f: usize, message: Message, value: f64) -> Sums<B> {
        let options = (self.device, self.dtype);
        let vectors = (message == Message::Painn).then(|| Tensor::full([n, 3, f], value, options));
        (Tensor::full([n, f], value, options), vectors)
    }
}

fn read<B: Backend, const D: usize>(tensor: &Tensor<B, D>) -> Result<TensorData, LaunchError> {
    tensor.clone().try_into_data().map_err(|error| LaunchError::Runtime(error.to_string()))
}

fn read_f64<B: Backend, const D: usize>(tensor: &Tensor<B, D>) -> Result<Vec<f64>, LaunchError> {
    Ok(read(tensor)?.iter::<f64>().collect())
}

impl<B: Backend> Launch for Composition<B> {
    fn poison(&mut self) -> Result<(), LaunchError> {
        let message = if self.vectors.is_some() { Message::Painn } else { Message::Cfconv };
        let up = Uploader::<B> { device: &self.device, dtype: self.dtype };
        self.outputs = up.fill(self.n_atoms, self.features, message, f64::NAN);
        Ok(())
    }

    fn run(&mut self) -> Result<(), LaunchError> {
        self.step()
    }

    fn time(&mut self) -> Result<Duration, LaunchError> {
        self.wait()?;
        let start = Instant::now();
        self.step()?;
        Ok(start.elapsed())
    }

    fn outputs(&mut self) -> Result<Outputs<f64>, LaunchError> {
        let vectors = self.outputs.1.as_ref().map_or(Ok(Vec::new()), read_f64)?;
        Ok(Outputs { nodes: read_f64(&self.outputs.0)?, vectors })
    }

    fn input_digest(&mut self) -> Result<u64, LaunchError> {
        // Compared within one process only, so the standard library's hash will do.
        let mut hash = DefaultHasher::new();
        for indices in [&self.sender, &self.receiver] {
            let data = indices.clone().try_into_data().map_err(|error| LaunchError::Runtime(error.to_string()))?;
            data.as_bytes().hash(&mut hash);
        }
        let mut tensors = vec![&self.edge_vec, &self.nodes, &self.index];
        match &self.weights {
            Weights::Linear { a, b } => tensors.extend([a, b]),
            Weights::Mlp { a1, b1, a2, b2, .. } => tensors.extend([a1, b1, a2, b2]),
        }
        tensors.extend(self.parameters.values());
        for tensor in tensors {
            read(tensor)?.as_bytes().hash(&mut hash);
        }
        if let Some(vectors) = &self.vectors {
            read(vectors)?.as_bytes().hash(&mut hash);
        }
        Ok(hash.finish())
    }
}
