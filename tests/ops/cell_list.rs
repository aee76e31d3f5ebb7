//! Neighbour lists of tensors against the host kernel, and what they feed.

use burn::backend::wgpu::Wgpu;
use burn::tensor::{DType, Int, Tensor};
use burn_autodiff::Autodiff;
use burn_flex::Flex;
use ff_ops::cell_list::{Batch, CellListBackend, Neighbors, Options, Repair};
use ff_ops::force_scatter::edge_vec;
use ff_ops::fused_message::{self, OpError, fused_message};
use ff_spec::cell_list::{Inputs, List, NeighborList, Strategy, Variant};
use ff_spec::fused_message::{Message as MessageKind, Variant as MessageVariant};
use ff_spec::{CellList, Dtype, Prepare, RuntimeKind};
use ff_testkit::fused_message::small::{case, spec};
use ff_testkit::tolerance::{Order, norm, tolerance};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::testing::{filter, floats};

const ATOMS: [usize; 4] = [40, 0, 30, 1];
const PBC: [[bool; 3]; 4] = [[true; 3], [true; 3], [false; 3], [true, false, true]];
const CELL: [f64; 36] = [
    7.0, 0.0, 0.0, 1.0, 6.0, 0.0, -2.0, 1.0, 8.0, //
    5.0, 0.0, 0.0, 0.0, 5.0, 0.0, 0.0, 0.0, 5.0, //
    0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, //
    3.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 4.0,
];
const BATCH: Batch<'static> = Batch { n_atoms: &ATOMS, cell: &CELL, pbc: &PBC };
const OPTIONS: Options<'static> = Options { cutoff: 4.5, skin: 0.8, tables: &[] };

/// Numbers that are exact in f32.
fn random(rng: &mut ChaCha8Rng, n: usize, reach: f32) -> Vec<f64> {
    (0..n).map(|_| f64::from(rng.random_range(-reach..reach))).collect()
}

fn start(rng: &mut ChaCha8Rng) -> Vec<f64> {
    random(rng, 3 * ATOMS.iter().sum::<usize>(), 4.0)
}

/// The positions in f32 of every atom after a step.
fn step(rng: &mut ChaCha8Rng, positions: &[f64], reach: f32) -> Vec<f64> {
    positions.iter().map(|x| f64::from(*x as f32 + rng.random_range(-reach..reach))).collect()
}

/// The list that the host kernel builds of these positions within the cutoff.
fn fresh(positions: &[f64], dtype: Dtype) -> NeighborList<f64> {
    let host: Box<dyn Prepare<CellList>> = Box::new(ff_kernels::host::HostRuntime::new());
    let inputs = Inputs {
        positions: positions.to_vec(),
        system_ptr: vec![0, 40, 40, 70, 71],
        cell: CELL.to_vec(),
        pbc: PBC.to_vec(),
        cutoff: OPTIONS.cutoff,
    };
    let variant = Variant { list: List::Full, strategy: Strategy::Cells };
    let config = host.default_config(&variant, dtype, &inputs.estimate(""));
    let mut launch = host.prepare(&variant, dtype, &inputs, &config).unwrap();
    launch.run().unwrap();
    launch.outputs().unwrap()
}

fn upload<B: CellListBackend>(positions: &[f64], dtype: Dtype) -> Tensor<B, 2> {
    floats(positions, [positions.len() / 3, 3], dtype, &Default::default())
}

fn read<B: CellListBackend, const D: usize>(tensor: &Tensor<B, D, Int>) -> Vec<i64> {
    tensor.to_data().iter::<i64>().collect()
}

/// Whether an edge vector is within the cutoff by the list's own rule: in its dtype, in its order of operations.
fn is_edge(r: &[f64], dtype: Dtype) -> bool {
    let [x, y, z] = [r[0], r[1], r[2]];
    match dtype {
        Dtype::F32 => {
            let ([x, y, z], cutoff) = ([x, y, z].map(|x| x as f32), OPTIONS.cutoff as f32);
            x * x + y * y + z * z < cutoff * cutoff
        }
        Dtype::F64 => x * x + y * y + z * z < OPTIONS.cutoff * OPTIONS.cutoff,
    }
}

/// No pair within the cutoff is missed, every edge has its vector and its offset, and the transposed list is right, however
/// often the atoms moved.
fn follows_the_atoms<B: CellListBackend>(dtype: Dtype) {
    let rng = &mut ChaCha8Rng::seed_from_u64(5);
    let mut positions = start(rng);
    let mut neighbors = Neighbors::<B>::new(upload(&positions, dtype), &BATCH, &OPTIONS).unwrap();
    for round in 0..8 {
        positions = step(rng, &positions, if round == 4 { 1.0 } else { 0.1 });
        neighbors.update(upload(&positions, dtype)).unwrap();
        if round % 3 == 1 {
            continue;
        }
        neighbors.finish().unwrap();
        let graph = neighbors.graph();
        let (row_ptr, sender) = (read(graph.row_ptr()), read(graph.sender()));
        let vectors: Vec<f64> = graph.edge_vec().to_data().iter::<f64>().collect();
        let moved = edge_vec(&graph, upload(&positions, dtype), Some(neighbors.offset())).unwrap();
        let moved: Vec<f64> = moved.to_data().iter::<f64>().collect();
        let expected = fresh(&positions, dtype);
        let mut within = 0;
        for atom in 0..expected.n_atoms() {
            let row = row_ptr[atom] as usize..row_ptr[atom + 1] as usize;
            let listed: Vec<_> =
                row.clone().map(|e| (sender[e] as u32, [0, 1, 2].map(|k| vectors[3 * e + k]))).collect();
            for edge in expected.row(atom) {
                let pair = (expected.sender[edge], expected.edge_vec[edge]);
                assert!(listed.contains(&pair), "round {round}: {atom} ← {pair:?} is not listed");
            }
            for edge in row {
                let r = &vectors[3 * edge..3 * edge + 3];
                within += usize::from(is_edge(r, dtype));
                let off = r.iter().zip(&moved[3 * edge..]).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
                assert!(off < if dtype == Dtype::F32 { 1e-5 } else { 1e-13 }, "round {round}: offset is {off:e} off");
            }
        }
        // Nothing but those pairs is within the cutoff.
        assert_eq!(within, expected.n_edges(), "round {round}");
    }
    let rebuilds = neighbors.rebuilds().unwrap();
    assert!(rebuilds[0] >= 1 && rebuilds.iter().all(|n| *n <= 4), "{rebuilds:?}");
}

#[test]
fn lists_follow_their_atoms() {
    follows_the_atoms::<Flex>(Dtype::F32);
    follows_the_atoms::<Autodiff<Flex>>(Dtype::F64);
    match ff_kernels::open(RuntimeKind::Vulkan) {
        Ok(runtime) => {
            follows_the_atoms::<Wgpu>(Dtype::F32);
            if runtime.device().f64 {
                follows_the_atoms::<Wgpu>(Dtype::F64);
            }
            follows_the_atoms::<burn_fusion::Fusion<Wgpu>>(Dtype::F32);
        }
        Err(error) => println!("not tested on a GPU: {error}"),
    }
}

/// Σ of the squared outputs of a message on the list, without waiting for the list between: of atoms at `x`, which were at
/// `first` when the list was made.
fn energy<B: CellListBackend>(
    variant: &MessageVariant,
    dtype: Dtype,
    first: &[f64],
    x: Tensor<B, 2>,
) -> (Tensor<B, 1>, Neighbors<B>) {
    let device = Default::default();
    let mut neighbors = Neighbors::<B>::new(upload(first, dtype), &BATCH, &OPTIONS).unwrap();
    neighbors.update(x.clone()).unwrap();
    let graph = neighbors.graph();
    let vectors = edge_vec(&graph, x, Some(neighbors.offset())).unwrap();
    let graph = graph.with_edge_vec(vectors).unwrap();
    // Exact in both dtypes.
    let inputs = case(&ff_testkit::fused_message::CaseSpec { n_atoms: 71, ..spec() }, variant).cast::<f32>().cast();
    let (n, f) = (inputs.n_atoms, inputs.features);
    let nodes = floats::<B, 2>(&inputs.nodes, [n, inputs.channels()], dtype, &device);
    let mu = (inputs.message == MessageKind::Painn).then(|| floats(&inputs.vectors, [n, 3, f], dtype, &device));
    let weights = filter::<B>(&inputs, dtype, &device);
    let options = fused_message::Options { variant, tables: &[] };
    let message = fused_message(&graph, nodes, mu, &inputs.radial, &weights, &options).unwrap();
    let mut energy = (message.nodes.clone() * message.nodes).sum();
    if let Some(vectors) = message.vectors {
        energy = energy + (vectors.clone() * vectors).sum();
    }
    (energy, neighbors)
}

fn positions_of() -> [Vec<f64>; 2] {
    let rng = &mut ChaCha8Rng::seed_from_u64(9);
    let first = start(rng);
    let moved = step(rng, &first, 0.2);
    [first, moved]
}

fn numbers<B: CellListBackend>(tensor: &Tensor<B, 2>) -> Vec<f64> {
    tensor.to_data().convert_dtype(DType::F64).iter::<f64>().collect()
}

/// ∂E/∂x.
fn gradients<B: CellListBackend>(variant: &MessageVariant, dtype: Dtype) -> Vec<f64> {
    let [first, moved] = positions_of();
    let x = upload::<Autodiff<B>>(&moved, dtype).require_grad();
    let (energy, mut neighbors) = energy(variant, dtype, &first, x.clone());
    let found = x.grad(&energy.backward()).unwrap();
    assert_eq!(neighbors.finish().unwrap(), None);
    numbers(&found)
}

/// ∂/∂x of Σ (∂E/∂x)², which is differentiated twice.
fn second_gradients<B: CellListBackend>(variant: &MessageVariant, dtype: Dtype) -> Vec<f64> {
    let [first, moved] = positions_of();
    let inner = upload::<Autodiff<B>>(&moved, dtype).require_grad();
    let x = Tensor::<Autodiff<Autodiff<B>>, 2>::from_inner(inner.clone()).require_grad();
    let (energy, mut neighbors) = energy(variant, dtype, &first, x.clone());
    let force = x.grad(&energy.backward()).unwrap();
    let found = inner.grad(&(force.clone() * force).sum().backward()).unwrap();
    assert_eq!(neighbors.finish().unwrap(), None);
    numbers(&found)
}

/// What f32 gives, on the host, on a device whose list has room for more, and behind Burn's fusion wrapper, is what f64 gives
/// on the host, within the gate's tolerance.
#[test]
fn a_list_feeds_the_message_and_its_gradients() {
    let agree = |what: &str, found: &[f64], expected: &[f64], order: Order| {
        let scale = norm(expected.iter().copied());
        assert!(scale.is_finite() && scale > 0.0, "{what}");
        let error = norm(found.iter().zip(expected).map(|(a, b)| a - b)) / scale;
        let allowed = tolerance(Dtype::F32, order);
        assert!(error <= allowed, "{what}: {error:e}, allowed {allowed:e}");
    };
    let gpu = ff_kernels::open(RuntimeKind::Vulkan);
    if let Err(error) = &gpu {
        println!("not tested on a GPU: {error}");
    }
    for id in ["cfconv_linear_gaussian_cosine_receiver", "painn_linear_bessel_polynomial_receiver"] {
        let variant: MessageVariant = id.parse().unwrap();
        let first = gradients::<Flex>(&variant, Dtype::F64);
        let second = second_gradients::<Flex>(&variant, Dtype::F64);
        let check = |what: &str, found: [Vec<f64>; 2]| {
            agree(&format!("{what} {id} first"), &found[0], &first, Order::First);
            agree(&format!("{what} {id} second"), &found[1], &second, Order::Second);
        };
        check("host", [gradients::<Flex>(&variant, Dtype::F32), second_gradients::<Flex>(&variant, Dtype::F32)]);
        if gpu.is_ok() {
            check("vulkan", [gradients::<Wgpu>(&variant, Dtype::F32), second_gradients::<Wgpu>(&variant, Dtype::F32)]);
            type Fused = burn_fusion::Fusion<Wgpu>;
            let dtype = Dtype::F32;
            check("fusion", [gradients::<Fused>(&variant, dtype), second_gradients::<Fused>(&variant, dtype)]);
        }
    }
}

/// What a device cannot say at once, it says where it is asked.
#[test]
fn what_a_device_finds_is_told_and_mended() {
    if let Err(error) = ff_kernels::open(RuntimeKind::Vulkan) {
        println!("not tested on a GPU: {error}");
        return;
    }
    let rng = &mut ChaCha8Rng::seed_from_u64(3);
    // Atoms that hardly see each other at first, and then all others of their system.
    let positions: Vec<f64> = start(rng).into_iter().map(|x| f64::from(x as f32 * 16.0)).collect();
    let open = Batch { pbc: &[[false; 3]; 4], ..BATCH };
    let mut neighbors = Neighbors::<Wgpu>::new(upload(&positions, Dtype::F32), &open, &OPTIONS).unwrap();
    let close: Vec<f64> = positions.iter().map(|x| x / 64.0).collect();
    neighbors.update(upload(&close, Dtype::F32)).unwrap();
    assert_eq!(read(neighbors.graph().row_ptr()), vec![0; 72], "a list without room is empty");
    let pairs = 40 * 39 + 30 * 29;
    let repair = neighbors.finish().unwrap();
    assert!(
        matches!(repair, Some(Repair::Room { capacity, edges }) if capacity < pairs && edges == pairs),
        "{repair:?}"
    );
    assert_eq!(read(neighbors.graph().row_ptr())[71], pairs as i64);
    let far: Vec<f64> = positions.iter().map(|x| x + 1000.0).collect();
    neighbors.update(upload(&far, Dtype::F32)).unwrap();
    assert_eq!(neighbors.finish().unwrap(), Some(Repair::Reach));
    assert_eq!(neighbors.finish().unwrap(), None);
    let mut broken = positions;
    broken[100] = f64::NAN;
    neighbors.update(upload(&broken, Dtype::F32)).unwrap();
    let error = neighbors.finish().unwrap_err().to_string();
    assert!(error.contains("atom 33") && error.contains("finite"), "{error}");
}

#[test]
fn what_does_not_fit_is_named() {
    let rng = &mut ChaCha8Rng::seed_from_u64(3);
    let positions = start(rng);
    let all = || upload::<Flex>(&positions, Dtype::F64);
    let reason = |found: Result<Neighbors<Flex>, OpError>| found.unwrap_err().to_string();
    let found = reason(Neighbors::new(all(), &Batch { n_atoms: &[70], ..BATCH }, &OPTIONS));
    assert!(found.contains("`positions`") && found.contains("[71, 3]"), "{found}");
    let found = reason(Neighbors::new(all(), &Batch { cell: &CELL[..9], ..BATCH }, &OPTIONS));
    assert!(found.contains("`cell` has 9"), "{found}");
    let found = reason(Neighbors::new(all(), &BATCH, &Options { skin: -0.5, ..OPTIONS }));
    assert!(found.contains("-0.5"), "{found}");
    let found = reason(Neighbors::new(all(), &Batch { cell: &[0.0; 36], ..BATCH }, &OPTIONS));
    assert!(found.contains("cell of system 0"), "{found}");
    let mut neighbors = Neighbors::new(all(), &BATCH, &OPTIONS).unwrap();
    let found = neighbors.update(upload(&positions[..6], Dtype::F64)).unwrap_err().to_string();
    assert!(found.contains("[71, 3]"), "{found}");
    let found = neighbors.update(upload(&positions, Dtype::F32)).unwrap_err().to_string();
    assert!(found.contains("F32"), "{found}");
    let mut broken = positions.clone();
    broken[3] = f64::INFINITY;
    let found = neighbors.update(upload(&broken, Dtype::F64)).unwrap_err().to_string();
    assert!(found.contains("atom 1"), "{found}");
    let mut wide = CELL;
    wide[0] = 9.0;
    assert_eq!(neighbors.set_cell(&wide).unwrap(), None);
    assert_eq!(neighbors.rebuilds().unwrap(), [1, 0, 0, 0]);
}
