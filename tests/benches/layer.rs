//! What a call on tensors of a molecule of 22 atoms costs besides its kernel, on host: `cargo bench -p ff-tests --bench layer`.
//!
//! One call at a time, as a layer that keeps what does not change, and the kernel alone, which is the floor; forward, and forward
//! with the backward in features and edge vectors, through Burn's graph and without one.

use std::path::Path;

use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use burn_autodiff::Autodiff;
use burn_flex::Flex;
use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main, measurement::WallTime};
use ff_kernels::fused_message::{HostLaunch, default_backward_config, default_config, find};
use ff_ops::fused_message::{
    Features, FilterTensors, FusedMessageBackend, Graph, Layer, LoadedFilter, Options, fused_message,
};
use ff_spec::fused_message::{BackwardInputs, Inputs, Outputs, Variant, Wanted};
use ff_spec::{Dtype, Launch};
use ff_tables::Table;
use ff_testkit::degrees::Degrees;
use ff_testkit::fused_message::gradients::random_cotangents;
use ff_testkit::fused_message::small::{case, spec};
use ff_testkit::fused_message::{CaseSpec, Distances};

const ATOMS: usize = 22;
const DTYPE: Dtype = Dtype::F32;

/// The committed tables, as a program loads them once.
fn tables() -> Vec<Table> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../autotune/tables");
    ff_tables::load_all(&folder, "fused_message").tables.into_iter().map(|(_, table)| table).collect()
}

fn floats<B: Backend, const D: usize>(values: &[f64], shape: [usize; D]) -> Tensor<B, D> {
    Tensor::from_data(TensorData::new(values.to_vec(), shape).convert::<f32>(), &B::Device::default())
}

/// What is called, on one backend.
struct Subject<B: FusedMessageBackend> {
    graph: Graph<B>,
    inputs: Inputs<f64>,
    filter: FilterTensors<B>,
}

impl<B: FusedMessageBackend> Subject<B> {
    fn new(inputs: &Inputs<f64>) -> Self {
        let device = B::Device::default();
        let (k, c) = (inputs.radial.n_basis, inputs.channels());
        Self {
            graph: Graph::upload(&inputs.row_ptr, &inputs.sender, &inputs.edge_vec, DTYPE, &device).expect("a list"),
            inputs: inputs.clone(),
            filter: FilterTensors::upload(&inputs.filter, k, c, DTYPE, &device),
        }
    }

    fn features(&self) -> Features<B> {
        let Inputs { n_atoms, features, nodes, vectors, .. } = &self.inputs;
        Features {
            nodes: floats(nodes, [*n_atoms, self.inputs.channels()]),
            vectors: Some(floats(vectors, [*n_atoms, 3, *features])),
        }
    }

    fn cotangents(&self, grad: &Outputs<f64>) -> Features<B> {
        let Inputs { n_atoms, features, .. } = &self.inputs;
        Features {
            nodes: floats(&grad.nodes, [*n_atoms, *features]),
            vectors: Some(floats(&grad.vectors, [*n_atoms, 3, *features])),
        }
    }

    fn layer(&self, variant: &Variant, tables: Vec<Table>) -> (Layer<B>, LoadedFilter<B>) {
        let layer = Layer::new(variant, &self.inputs.radial, tables, &B::Device::default()).expect("a variant");
        let filter = layer.load(self.filter.clone()).expect("a filter");
        (layer, filter)
    }
}

fn kernels(group: &mut BenchmarkGroup<'_, WallTime>, variant: &Variant, all: &BackwardInputs<f64>) {
    let registered = find(variant).expect("a rendered variant");
    let (device, problem) = (Flex::device_id(&Default::default()), all.inputs.problem(""));
    let config = default_config(&device, variant, DTYPE, &problem);
    let mut forward = HostLaunch::<f32>::new(registered, all.inputs.cast(), &config).expect("prepares");
    group.bench_function("forward/kernel", |b| b.iter(|| forward.run().expect("runs")));
    let config = default_backward_config(&device, variant, 1, DTYPE, &problem);
    let mut backward = HostLaunch::<f32, BackwardInputs<f32>>::new(registered, all.cast(), &config).expect("prepares");
    group.bench_function("forward+backward/kernels", |b| {
        b.iter(|| {
            forward.run().expect("runs");
            backward.run().expect("runs");
        });
    });
}

fn calls(c: &mut Criterion) {
    for id in ["painn_linear_bessel_cosine_receiver", "painn_tabulated_receiver"] {
        let variant: Variant = id.parse().expect("a variant");
        let sizes = CaseSpec {
            n_atoms: ATOMS,
            features: 128,
            n_basis: 20,
            table_nodes: 501,
            degrees: Degrees::Uniform(ATOMS - 1),
            distances: Distances::Inside,
            ..spec()
        };
        let inputs = case(&sizes, &variant);
        let grad = random_cotangents(&inputs, 3);
        let wanted = Wanted::INPUTS;
        let tables = tables();
        let mut group = c.benchmark_group(format!("layer/{id}"));
        kernels(&mut group, &variant, &BackwardInputs { inputs: inputs.clone(), grad: grad.clone(), wanted });

        let flat = Subject::<Flex>::new(&inputs);
        let (layer, filter) = flat.layer(&variant, tables.clone());
        let (features, cotangents) = (flat.features(), flat.cotangents(&grad));
        let options = Options { variant: &variant, tables: &tables };
        group.bench_function("forward/call", |b| {
            b.iter(|| {
                let Features { nodes, vectors } = features.clone();
                fused_message(&flat.graph, nodes, vectors, &inputs.radial, &flat.filter, &options).expect("a message")
            });
        });
        group.bench_function("forward/layer", |b| {
            b.iter(|| layer.forward(&flat.graph, features.clone(), &filter).expect("a message"));
        });
        group.bench_function("forward+backward/layer without a graph", |b| {
            b.iter(|| {
                let message = layer.forward(&flat.graph, features.clone(), &filter).expect("a message");
                let (features, cotangents) = (features.clone(), cotangents.clone());
                let gradients = layer.backward(&flat.graph, features, &filter, cotangents, wanted);
                (message, gradients.expect("gradients"))
            });
        });

        let over = Subject::<Autodiff<Flex>>::new(&inputs);
        let (layer, filter) = over.layer(&variant, tables.clone());
        let cotangents = over.cotangents(&grad);
        let leaves = || {
            let Features { nodes, vectors } = over.features();
            let edge_vec = over.graph.edge_vec().clone().require_grad();
            let features =
                Features { nodes: nodes.require_grad(), vectors: vectors.map(|vectors| vectors.require_grad()) };
            (over.graph.with_edge_vec(edge_vec).expect("as many"), features)
        };
        let descend = |nodes: Tensor<Autodiff<Flex>, 2>, vectors: Option<Tensor<Autodiff<Flex>, 3>>| {
            let loss = (nodes * cotangents.nodes.clone()).sum();
            let of_vectors = vectors.zip(cotangents.vectors.clone()).map(|(vectors, grad)| (vectors * grad).sum());
            of_vectors.map_or(loss.clone(), |more| loss + more).backward()
        };
        group.bench_function("forward+backward/call", |b| {
            b.iter_batched(
                leaves,
                |(graph, Features { nodes, vectors })| {
                    let found = fused_message(&graph, nodes, vectors, &inputs.radial, &over.filter, &options);
                    let found = found.expect("a message");
                    descend(found.nodes, found.vectors)
                },
                criterion::BatchSize::SmallInput,
            );
        });
        group.bench_function("forward+backward/layer", |b| {
            b.iter_batched(
                leaves,
                |(graph, features)| {
                    let found = layer.forward(&graph, features, &filter).expect("a message");
                    descend(found.nodes, found.vectors)
                },
                criterion::BatchSize::SmallInput,
            );
        });
        group.finish();
    }
}

criterion_group!(benches, calls);
criterion_main!(benches);
