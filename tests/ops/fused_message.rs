//! The fused op on tensors of every backend against the host kernels, its configurations and its errors.

use burn::backend::wgpu::{Wgpu, WgpuDevice};
use burn::tensor::backend::Backend;
use burn::tensor::{DType, Tensor};
use burn_autodiff::Autodiff;
use burn_flex::Flex;
use cubecl::wgpu::WgpuRuntime;
use ff_ops::fused_message::{
    CubeKernels, FilterTensors, FusedMessageBackend, Message, OpError, Options, fused_message,
};
use ff_spec::fused_message::{Inputs, Message as MessageKind, OP, Outputs, Reduction, Variant};
use ff_spec::{Clock, DeviceId, Dtype, LaunchConfig, LaunchError, RuntimeKind, TuneKey};
use ff_tables::{Entry, EntryFields, Evidence, Pass, PassOf, Step, Table, Versions, gate_tolerance};
use ff_testkit::degrees::Degrees;
use ff_testkit::fused_message::CaseSpec;
use ff_testkit::fused_message::small::{case, distance, spec, variants};

use crate::testing::{filter, floats, graph, numbers_of, on_host};

/// The op on tensors made of `inputs`.
fn call<B: FusedMessageBackend>(
    inputs: &Inputs<f64>,
    variant: &Variant,
    dtype: Dtype,
    index: DType,
    tables: &[Table],
    device: &B::Device,
) -> Result<Message<B>, OpError> {
    let (n, f) = (inputs.n_atoms, inputs.features);
    let graph = graph::<B>(inputs, dtype, index, device)?;
    let nodes = floats(&inputs.nodes, [n, inputs.channels()], dtype, device);
    let painn = inputs.message == MessageKind::Painn;
    let vectors = painn.then(|| floats(&inputs.vectors, [n, 3, f], dtype, device));
    let filter = filter(inputs, dtype, device);
    fused_message(&graph, nodes, vectors, &inputs.radial, &filter, &Options { variant, tables })
}

fn read<B: Backend>(message: Message<B>) -> Outputs<f64> {
    let vectors = message.vectors.as_ref().map(numbers_of).unwrap_or_default();
    Outputs { nodes: numbers_of(&message.nodes), vectors }
}

/// Every message, filter, reduction and dtype that the device has.
fn equals_host<B: FusedMessageBackend>(device: &B::Device) {
    let id = B::device_id(device);
    let narrow = CaseSpec { features: 8, degrees: Degrees::LongRow { long: 90, short: 3 }, ..spec() };
    for reduction in Reduction::ALL {
        for variant in variants("expnorm", "polynomial", reduction) {
            for dtype in Dtype::ALL {
                for spec in [&spec(), &narrow] {
                    let inputs = case(spec, &variant);
                    let message = match call::<B>(&inputs, &variant, dtype, DType::I32, &[], device) {
                        Err(OpError::Launch(LaunchError::Unsupported(reason))) if id.runtime != RuntimeKind::Host => {
                            println!("{variant} {dtype} not run: {reason}");
                            continue;
                        }
                        message => message.unwrap(),
                    };
                    assert_eq!(message.chosen[0].selection.step, Step::Default);
                    let error = distance(&read(message), &on_host(&variant, &inputs, dtype));
                    // Both are held to the gate's tolerance from the oracle, so to twice that from each other.
                    assert!(error <= 2.0 * gate_tolerance(dtype, 0), "{variant} {dtype}: {error:e}");
                }
            }
        }
    }
}

/// Other index types, views that are not contiguous, and nothing to sum.
fn takes_any_layout<B: FusedMessageBackend>(device: &B::Device) {
    let dtype = Dtype::F32;
    let variant = "painn_linear_gaussian_cosine_receiver".parse().unwrap();
    let inputs = case(&spec(), &variant);
    let expected = on_host(&variant, &inputs, dtype);
    let message = call::<B>(&inputs, &variant, dtype, DType::I64, &[], device).unwrap();
    assert!(distance(&read(message), &expected) <= 2.0 * gate_tolerance(dtype, 0));

    let (n, f, c) = (inputs.n_atoms, inputs.features, inputs.channels());
    let graph = graph::<B>(&inputs, dtype, DType::I32, device).unwrap();
    let FilterTensors::Linear { a, b } = filter::<B>(&inputs, dtype, device) else { unreachable!() };
    // The same values as views into larger or transposed tensors.
    let nodes = floats::<B, 2>(&inputs.nodes, [n, c], dtype, device);
    let nodes = Tensor::cat(vec![nodes.clone(), nodes.clone(), nodes], 0).narrow(0, n, n);
    let vectors = floats::<B, 3>(&inputs.vectors, [n, 3, f], dtype, device);
    let vectors = Tensor::cat(vec![vectors.clone(), vectors], 2).slice([0..n, 0..3, f..2 * f]);
    let a = a.clone() + a.transpose().mul_scalar(0.0).transpose();
    let a = Tensor::cat(vec![a.clone(), a], 1).transpose().narrow(0, c, c).transpose();
    let filter = FilterTensors::Linear { a, b };
    let options = Options { variant: &variant, tables: &[] };
    let message = fused_message(&graph, nodes, Some(vectors), &inputs.radial, &filter, &options).unwrap();
    assert!(distance(&read(message), &expected) <= 2.0 * gate_tolerance(dtype, 0));

    for reduction in Reduction::ALL {
        let variant = Variant { reduction, ..variant.clone() };
        for (n_atoms, features, degree) in [(0, 4, 0), (3, 0, 2), (3, 4, 0), (1, 1, 1)] {
            let spec = CaseSpec { n_atoms, features, degrees: Degrees::Uniform(degree), ..spec() };
            let inputs = case(&spec, &variant);
            let message = call::<B>(&inputs, &variant, dtype, DType::I32, &[], device).unwrap();
            assert_eq!(message.nodes.dims(), [n_atoms, features]);
            let error = distance(&read(message), &on_host(&variant, &inputs, dtype));
            assert!(error <= 2.0 * gate_tolerance(dtype, 0), "{n_atoms} {features} {degree}: {error:e}");
        }
    }
}

/// The GPU's device, with Burn's client made the way the kernels make it; `None` says why on standard output.
fn gpu() -> Option<WgpuDevice> {
    match ff_kernels::open(<WgpuRuntime as CubeKernels>::kind()) {
        Ok(_) => Some(WgpuDevice::DefaultDevice),
        Err(error) => {
            println!("SKIPPED, no GPU test was run: {error}");
            None
        }
    }
}

#[test]
fn flex_equals_the_host_kernels() {
    equals_host::<Flex>(&Default::default());
    takes_any_layout::<Flex>(&Default::default());
}

#[test]
fn wgpu_equals_the_host_kernels() {
    if let Some(device) = gpu() {
        equals_host::<Wgpu>(&device);
        takes_any_layout::<Wgpu>(&device);
    }
}

#[test]
fn the_fusion_wrapper_changes_nothing() {
    if let Some(device) = gpu() {
        equals_host::<burn_fusion::Fusion<Wgpu>>(&device);
        takes_any_layout::<burn_fusion::Fusion<Wgpu>>(&device);
    }
}

/// A table of one entry for a device and a problem like that of `inputs`.
pub fn table(device: DeviceId, variant: &Variant, inputs: &Inputs<f64>, config: LaunchConfig) -> Table {
    table_of_orders(device, variant, inputs, [(0, config)])
}

/// The same with an entry for each of these orders.
fn table_of_orders<const N: usize>(
    device: DeviceId,
    variant: &Variant,
    inputs: &Inputs<f64>,
    configs: [(u8, LaunchConfig); N],
) -> Table {
    let versions = Versions { forgefield: "0".into(), burn: "0".into(), cubecl: "0".into() };
    let hash = ff_kernels::generated::FUSED_MESSAGE_TEMPLATE_HASH;
    let mut table = Table::new(OP, device, versions, hash);
    let slug = table.device.slug.clone();
    let entries = configs.map(|(order, config)| entry(&slug, variant, order, inputs, config));
    entries.into_iter().for_each(|entry| table.insert(entry).unwrap());
    table
}

pub fn entry(device: &str, variant: &Variant, order: u8, inputs: &Inputs<f64>, config: LaunchConfig) -> Entry {
    let (dtype, problem) = (Dtype::F32, inputs.problem("test"));
    let evidence = Evidence { rel_error: 1e-7, max_abs_error: 1e-7, cases: 3, seeds: vec![1, 2, 3] };
    let of = PassOf { device, kernel_hash: "hash", config: &config, dtype, order };
    let pass = Pass::record(of, evidence, 0).unwrap();
    let entry = Entry::new(EntryFields {
        key: TuneKey::new(&variant.family(), order, dtype, &problem),
        variant: variant.id(),
        problem,
        config,
        median_ns: 1.0,
        spread_ns: 0.0,
        samples: 1,
        clock: Clock::Wall,
        driver: String::new(),
        default_median_ns: None,
        unfused_median_ns: None,
        ties: Vec::new(),
        pass,
    });
    entry.unwrap()
}

#[test]
fn the_configuration_comes_from_the_nearest_table() {
    let variant = "painn_linear_gaussian_cosine_receiver".parse().unwrap();
    let inputs = case(&spec(), &variant);
    let host = Flex::device_id(&Default::default());
    let config = |edges| LaunchConfig::from([("edges_per_task", edges), ("edges_per_tile", 16), ("channel_block", 16)]);
    let cousin = DeviceId { slug: "host-cousin".to_owned(), ..host.clone() };
    let tables = [
        table(cousin, &variant, &inputs, config(2)),
        // A zero is refused by the launcher, so this entry must be passed over.
        table(DeviceId { slug: "host-other".to_owned(), ..host.clone() }, &variant, &inputs, config(0)),
        table(host, &variant, &inputs, config(3)),
    ];
    let used = |tables: &[Table]| {
        let message = call::<Flex>(&inputs, &variant, Dtype::F32, DType::I32, tables, &Default::default()).unwrap();
        (message.chosen[0].selection.step, message.chosen[0].config.get("edges_per_task"))
    };
    assert_eq!(used(&tables), (Step::ExactDevice, Some(3)));
    assert_eq!(used(&tables[..2]), (Step::SameArchitecture, Some(2)));
    assert_eq!(used(&tables[1..2]).0, Step::Default);
    assert_eq!(used(&[]), (Step::Default, Some(512)));
}

#[test]
fn a_backward_takes_its_own_entry_or_its_default() {
    let variant = "painn_linear_gaussian_cosine_receiver".parse().unwrap();
    let inputs = case(&spec(), &variant);
    let host = Flex::device_id(&Default::default());
    let config = |edges| LaunchConfig::from([("edges_per_task", edges), ("edges_per_tile", 16), ("channel_block", 16)]);
    let tables = [table_of_orders(host, &variant, &inputs, [(0, config(3)), (2, config(5))])];
    let device = Default::default();
    let message = call::<Autodiff<Flex>>(&inputs, &variant, Dtype::F32, DType::I32, &tables, &device).unwrap();
    let [forward, first, second] = &message.chosen[..] else { panic!("{:?}", message.chosen) };
    assert_eq!(forward.config, config(3));
    assert_eq!(
        (first.config.get("edges_per_task"), first.selection.step),
        (Some(512), Step::Default),
        "not the forward's"
    );
    assert!(first.selection.reason.contains("of order 1"), "{}", first.selection.reason);
    assert_eq!((&second.config, second.selection.step), (&config(5), Step::ExactDevice));
    let message = call::<Flex>(&inputs, &variant, Dtype::F32, DType::I32, &tables, &device).unwrap();
    assert_eq!(message.chosen.len(), 1, "nothing is differentiated");
}

#[test]
fn what_does_not_fit_is_a_clear_error() {
    let device = Default::default();
    let variant: Variant = "painn_linear_gaussian_cosine_receiver".parse().unwrap();
    let good = case(&spec(), &variant);
    let message = |inputs: &Inputs<f64>| {
        call::<Flex>(inputs, &variant, Dtype::F32, DType::I32, &[], &device).unwrap_err().to_string()
    };
    let mut bad = good.clone();
    bad.sender[3] = 11;
    assert_eq!(message(&bad), "`sender`[3] is 11, expected an atom below n_atoms = 11");
    let mut bad = good.clone();
    bad.row_ptr[2] = 40;
    assert_eq!(message(&bad), "`row_ptr` descends at row 2: 40 to 26, expected ascending offsets");
    let mut bad = good.clone();
    bad.radial.r_cut = -1.0;
    assert_eq!(message(&bad), "`r_cut` is -1, expected a positive radius in Å");
    let mut bad = good.clone();
    bad.radial.basis.remove("mu");
    assert!(message(&bad).starts_with("radial function `gaussian` has parameters [gamma: 5]"), "{}", message(&bad));

    let graph = graph::<Flex>(&good, Dtype::F32, DType::I32, &device).unwrap();
    let f32s = |shape| Tensor::<Flex, 2>::zeros(shape, &device);
    let mu = Tensor::<Flex, 3>::zeros([11, 3, 7], &device);
    let linear = filter::<Flex>(&good, Dtype::F32, &device);
    let run = |nodes: Tensor<Flex, 2>, mu: Option<Tensor<Flex, 3>>, filter: &FilterTensors<Flex>, variant: &Variant| {
        let options = Options { variant, tables: &[] };
        fused_message(&graph, nodes, mu, &good.radial, filter, &options).unwrap_err().to_string()
    };
    let some = || Some(mu.clone());
    assert_eq!(
        run(f32s([11, 20]), some(), &linear, &variant),
        "`nodes` has shape [11, 20], expected [n_atoms = 11, 3F]"
    );
    assert_eq!(
        run(f32s([11, 18]), some(), &linear, &variant),
        "`mu` has shape [11, 3, 7], expected [n_atoms, 3, F] = [11, 3, 6]"
    );
    assert_eq!(run(f32s([11, 21]), None, &linear, &variant), "message `painn` reads `mu`, found none");
    let wide = Tensor::zeros([11, 21], (&device, DType::F64));
    assert_eq!(run(wide, some(), &linear, &variant), "`edge_vec` is F32, expected f64 as `nodes`");
    let tabulated = "painn_tabulated_receiver".parse().unwrap();
    assert!(run(f32s([11, 21]), some(), &linear, &tabulated).contains("with filter `linear`"));
    let unknown = "painn_linear_mine_cosine_receiver".parse().unwrap();
    assert!(run(f32s([11, 21]), some(), &linear, &unknown).starts_with("unknown variant"));
    let FilterTensors::Linear { a, .. } = linear.clone() else { unreachable!() };
    let short = FilterTensors::Linear { a, b: Tensor::zeros([20], &device) };
    assert_eq!(run(f32s([11, 21]), some(), &short, &variant), "`b` has shape [20], expected [C] = [21]");
}
