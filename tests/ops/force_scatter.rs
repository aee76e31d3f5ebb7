//! Edge vectors and sums of edges through Burn's graph, against the oracle, the host kernels and differences.

use burn::backend::wgpu::Wgpu;
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{DType, Int, Tensor};
use burn_autodiff::Autodiff;
use burn_autodiff::checkpoint::strategy::{BalancedCheckpointing, CheckpointStrategy, NoCheckpointing};
use burn_flex::Flex;
use ff_ops::force_scatter::{ForceScatterBackend, ScatterOptions, Systems, edge_vec, force_scatter, strained};
use ff_ops::fused_message::{Graph, OpError};
use ff_reference::force_scatter as oracle;
use ff_spec::force_scatter::{BackwardInputs, DoubleBackwardInputs, Gradients, Inputs, Outputs, Reduction, Variant};
use ff_spec::{Dtype, RuntimeKind};
use ff_testkit::fused_message::small::{assert_agree, numbers};
use ff_testkit::tolerance::{Order, tolerance};

use crate::testing::{floats, indices, numbers_of};

/// Three systems of 4, 0 and 5 atoms, all pairs within each.
fn inputs() -> Inputs<f64> {
    let system_ptr = vec![0, 4, 4, 9];
    let (mut row_ptr, mut sender) = (vec![0], Vec::new());
    for system in [0..4u32, 4..9] {
        for i in system.clone() {
            sender.extend(system.clone().filter(|j| *j != i));
            row_ptr.push(sender.len() as u32);
        }
    }
    let n = 3 * sender.len();
    Inputs { row_ptr, sender, edge_vec: numbers(n, 1), edge_grad: numbers(n, 2), system_ptr }
}

fn graph<B: Backend>(inputs: &Inputs<f64>, dtype: Dtype) -> Graph<B> {
    let indices = |values: &[u32]| indices(values, DType::I32, &Default::default());
    Graph::new(indices(&inputs.row_ptr), indices(&inputs.sender), edges(&inputs.edge_vec, dtype)).unwrap()
}

fn edges<B: Backend>(values: &[f64], dtype: Dtype) -> Tensor<B, 2> {
    floats(values, [values.len() / 3, 3], dtype, &Default::default())
}

fn strains<B: Backend>(values: &[f64], dtype: Dtype) -> Tensor<B, 3> {
    floats(values, [values.len() / 9, 3, 3], dtype, &Default::default())
}

const GATHER: Variant = Variant { reduction: Reduction::Gather };
const ATOMIC: Variant = Variant { reduction: Reduction::Atomic };

/// Without tables.
fn of(variant: Variant) -> ScatterOptions<'static> {
    ScatterOptions { variant, tables: &[] }
}

fn forward<B: ForceScatterBackend>(dtype: Dtype, variant: Variant) -> Result<Outputs<f64>, OpError> {
    let inputs = inputs();
    let graph = graph::<B>(&inputs, dtype);
    let systems = Systems::new(&graph, &[4, 0, 5]).unwrap();
    let found = force_scatter(&graph, edges(&inputs.edge_grad, dtype), &systems, &of(variant))?;
    Ok(Outputs { forces: numbers_of(&found.forces), strain: numbers_of(&found.strain) })
}

#[test]
fn sums_are_the_oracle_s_on_every_backend() {
    let expected = oracle::forward(&inputs()).unwrap().outputs;
    let check = |what: &str, found: Outputs<f64>, dtype| {
        assert_agree(&format!("{what} forces"), &found.forces, &expected.forces, tolerance(dtype, Order::Forward));
        assert_agree(&format!("{what} strain"), &found.strain, &expected.strain, tolerance(dtype, Order::Forward));
    };
    for (variant, dtype) in [(GATHER, Dtype::F32), (GATHER, Dtype::F64), (ATOMIC, Dtype::F32), (ATOMIC, Dtype::F64)] {
        check("host", forward::<Flex>(dtype, variant).unwrap(), dtype);
    }
    match ff_kernels::open(RuntimeKind::Vulkan) {
        Ok(runtime) => {
            check("vulkan gather", forward::<Wgpu>(Dtype::F32, GATHER).unwrap(), Dtype::F32);
            match forward::<Wgpu>(Dtype::F32, ATOMIC) {
                Ok(found) => check("vulkan atomic", found, Dtype::F32),
                Err(error) => assert!(!runtime.device().atomics.f32_add, "{error}"),
            }
            check("fusion", forward::<burn_fusion::Fusion<Wgpu>>(Dtype::F32, GATHER).unwrap(), Dtype::F32);
        }
        Err(error) => println!("not tested on a GPU: {error}"),
    }
}

#[test]
fn sums_are_differentiable_twice() {
    for (variant, dtype) in [GATHER, ATOMIC].into_iter().flat_map(|variant| Dtype::ALL.map(|dtype| (variant, dtype))) {
        gradients_are_the_oracle_s::<Flex, NoCheckpointing>(variant, dtype);
        gradients_are_the_oracle_s::<Flex, BalancedCheckpointing>(variant, dtype);
    }
    match ff_kernels::open(RuntimeKind::Vulkan) {
        Ok(runtime) => {
            gradients_are_the_oracle_s::<Wgpu, NoCheckpointing>(GATHER, Dtype::F32);
            gradients_are_the_oracle_s::<burn_fusion::Fusion<Wgpu>, NoCheckpointing>(GATHER, Dtype::F32);
            if runtime.device().atomics.f32_add {
                gradients_are_the_oracle_s::<Wgpu, NoCheckpointing>(ATOMIC, Dtype::F32);
            }
        }
        Err(error) => println!("not tested on a GPU: {error}"),
    }
}

/// Gradients of ⟨grad, sums⟩, and of ⟨tangent, those gradients⟩, are the oracle's.
fn gradients_are_the_oracle_s<B: ForceScatterBackend, C: CheckpointStrategy>(variant: Variant, dtype: Dtype) {
    type Once<B, C> = Autodiff<B, C>;
    type Twice<B, C> = Autodiff<Once<B, C>, C>;
    let inputs = inputs().cast::<f32>().cast::<f64>();
    let n_edges = inputs.edge_vec.len();
    let grad = Outputs { forces: numbers(27, 3), strain: numbers(27, 4) }.cast::<f32>().cast::<f64>();
    let tangent =
        Gradients { edge_vec: numbers(n_edges, 5), edge_grad: numbers(n_edges, 6) }.cast::<f32>().cast::<f64>();
    let once = BackwardInputs { inputs: inputs.clone(), grad: grad.clone() };
    let first = oracle::backward(&once).unwrap().outputs;
    let twice = DoubleBackwardInputs { inputs: inputs.clone(), grad: grad.clone(), tangent: tangent.clone() };
    let second = oracle::double_backward(&twice).unwrap().outputs;

    let leaf = |values: &[f64]| edges::<Once<B, C>>(values, dtype).require_grad();
    let (r, g) = (leaf(&inputs.edge_vec), leaf(&inputs.edge_grad));
    let (f_bar, s_bar) = (leaf(&grad.forces), strains::<Once<B, C>>(&grad.strain, dtype).require_grad());
    let over = |tensor: &Tensor<Once<B, C>, 2>| Tensor::<Twice<B, C>, 2>::from_inner(tensor.clone()).require_grad();
    let (r2, g2) = (over(&r), over(&g));
    let graph = graph::<Twice<B, C>>(&inputs, dtype).with_edge_vec(r2.clone()).unwrap();
    let systems = Systems::new(&graph, &[4, 0, 5]).unwrap();
    let sums = force_scatter(&graph, g2.clone(), &systems, &of(variant)).unwrap();
    let loss = (sums.forces * Tensor::from_inner(f_bar.clone())).sum()
        + (sums.strain * Tensor::from_inner(s_bar.clone())).sum();
    let found = loss.backward();
    let (r_bar, g_bar) = (r2.grad(&found).unwrap(), g2.grad(&found).unwrap());
    let tolerance_1 = tolerance(dtype, Order::First);
    assert_agree("edge_vec", &numbers_of(&r_bar), &first.edge_vec, tolerance_1);
    assert_agree("edge_grad", &numbers_of(&g_bar), &first.edge_grad, tolerance_1);
    let loss = (r_bar * edges(&tangent.edge_vec, dtype)).sum() + (g_bar * edges(&tangent.edge_grad, dtype)).sum();
    let found = loss.backward();
    let tolerance_2 = tolerance(dtype, Order::Second);
    for (what, found, expected) in [
        ("second edge_vec", numbers_of(&r.grad(&found).unwrap()), &second.gradients.edge_vec),
        ("second edge_grad", numbers_of(&g.grad(&found).unwrap()), &second.gradients.edge_grad),
        ("second forces", numbers_of(&f_bar.grad(&found).unwrap()), &second.grad.forces),
        ("second strain", numbers_of(&s_bar.grad(&found).unwrap()), &second.grad.strain),
    ] {
        assert_agree(what, &found, expected, tolerance_2);
    }
}

/// A smooth energy of edge vectors that is not of pairs alone: Σ_i (Σ_j exp(−|r|²) u·a)².
fn energy<B: Backend>(edge_vec: Tensor<B, 2>, of: &Inputs<f64>) -> Tensor<B, 1> {
    let receiver: Vec<i64> =
        of.row_ptr.windows(2).zip(0..).flat_map(|(row, i)| (row[0]..row[1]).map(move |_| i)).collect();
    let receiver = Tensor::<B, 1, Int>::from_data(&receiver[..], &edge_vec.device());
    let square = (edge_vec.clone() * edge_vec.clone()).sum_dim(1);
    let weight = (square.neg()).exp();
    let along = edge_vec.clone() * floats::<B, 2>(&[0.3, -0.8, 0.5], [1, 3], Dtype::F64, &edge_vec.device());
    let terms = (along.sum_dim(1).add_scalar(1.0)) * weight;
    let atoms = Tensor::<B, 2>::zeros([of.row_ptr.len() - 1, 1], (&edge_vec.device(), DType::F64));
    let atoms = atoms.select_assign(0, receiver, terms, burn::tensor::IndexingUpdateOp::Add);
    (atoms.clone() * atoms).sum()
}

#[test]
fn forces_and_strain_are_differences_of_an_energy() {
    type B = Autodiff<Flex>;
    let inputs = inputs();
    let list = graph::<B>(&inputs, Dtype::F64);
    let systems = Systems::new(&list, &[4, 0, 5]).unwrap();
    let (positions, offset) = (numbers(27, 8), edges::<B>(&numbers(inputs.edge_vec.len(), 9), Dtype::F64));
    let value = |positions: Tensor<B, 2>, strain: Tensor<B, 3>| {
        let edge_vec = edge_vec(&list, positions, Some(offset.clone())).unwrap();
        let strained = strained(edge_vec, strain, &systems).unwrap();
        (energy(strained.clone(), &inputs), strained)
    };
    let (x, epsilon) =
        (edges::<B>(&positions, Dtype::F64).require_grad(), strains::<B>(&[0.0; 27], Dtype::F64).require_grad());
    let (loss, r) = value(x.clone(), epsilon.clone());
    let found = loss.backward();
    let (by_x, by_strain) = (numbers_of(&x.grad(&found).unwrap()), numbers_of(&epsilon.grad(&found).unwrap()));
    // The sum of edges gives both from the gradients in the edge vectors.
    let r = Tensor::<B, 2>::from_inner(r.inner()).require_grad();
    let found = energy(r.clone(), &inputs).backward();
    let graph = graph::<Flex>(&inputs, Dtype::F64).with_edge_vec(r.clone().inner()).unwrap();
    let inner = Systems::new(&graph, &[4, 0, 5]).unwrap();
    let sums = force_scatter(&graph, r.grad(&found).unwrap(), &inner, &of(GATHER)).unwrap();
    let negative: Vec<f64> = numbers_of(&sums.forces).iter().map(|f| -f).collect();
    assert_agree("forces", &by_x, &negative, 1e-12);
    let symmetric: Vec<f64> =
        (0..27).map(|at| 0.5 * (by_strain[at] + by_strain[at / 9 * 9 + at % 3 * 3 + at % 9 / 3])).collect();
    assert_agree("strain", &symmetric, &numbers_of(&sums.strain), 1e-12);
    let number = |positions: &[f64], strain: &[f64]| {
        numbers_of(&value(edges::<B>(positions, Dtype::F64), strains::<B>(strain, Dtype::F64)).0)[0]
    };
    let (h, scale) = (1e-5, by_x.iter().fold(0.0, |m: f64, g| m.max(g.abs())));
    for k in [0, 11, 26] {
        let step = |h: f64| {
            let (mut positions, mut strain) = (positions.clone(), [0.0; 27]);
            positions[k] += h;
            let moved = number(&positions, &strain);
            positions[k] -= h;
            strain[k] += h;
            (moved, number(&positions, &strain))
        };
        let ((a, s), (b, t)) = (step(h), step(-h));
        assert!(((a - b) / (2.0 * h) - by_x[k]).abs() < 1e-7 * scale, "coordinate {k}");
        assert!(((s - t) / (2.0 * h) - by_strain[k]).abs() < 1e-7 * scale, "strain {k}");
    }
    for system in [0..4, 4..9] {
        for axis in 0..3 {
            let sum: f64 = system.clone().map(|atom| by_x[3 * atom + axis]).sum();
            assert!(sum.abs() < 1e-12 * scale, "forces of a system sum to {sum:e}");
        }
    }
}

#[test]
fn edge_vectors_are_the_same_on_a_device() {
    let inputs = inputs();
    let positions = numbers(27, 8);
    let expected = differences(&inputs, &positions);
    let on_host = edge_vec(&graph::<Flex>(&inputs, Dtype::F64), edges(&positions, Dtype::F64), None).unwrap();
    assert_agree("host", &numbers_of(&on_host), &expected, 1e-15);
    match ff_kernels::open(RuntimeKind::Vulkan) {
        Ok(_) => {
            let found = edge_vec(&graph::<Wgpu>(&inputs, Dtype::F32), edges(&positions, Dtype::F32), None).unwrap();
            assert_agree("vulkan", &numbers_of(&found), &expected, 1e-6);
        }
        Err(error) => println!("not tested on a GPU: {error}"),
    }
}

/// x_sender − x_receiver of every edge, of values [n_atoms, 3].
fn differences(of: &Inputs<f64>, values: &[f64]) -> Vec<f64> {
    (0..of.row_ptr.len() - 1)
        .flat_map(|i| (of.row_ptr[i]..of.row_ptr[i + 1]).map(move |e| (i, e as usize)))
        .flat_map(|(i, e)| (0..3).map(move |axis| (i, e, axis)))
        .map(|(i, e, axis)| values[3 * of.sender[e] as usize + axis] - values[3 * i + axis])
        .collect()
}

/// Its transpose.
fn transposed(of: &Inputs<f64>, edges: &[f64]) -> Vec<f64> {
    let mut sums = vec![0.0; 3 * (of.row_ptr.len() - 1)];
    for i in 0..of.row_ptr.len() - 1 {
        for e in of.row_ptr[i] as usize..of.row_ptr[i + 1] as usize {
            for axis in 0..3 {
                sums[3 * of.sender[e] as usize + axis] += edges[3 * e + axis];
                sums[3 * i + axis] -= edges[3 * e + axis];
            }
        }
    }
    sums
}

/// With L = ½ |r|², ∂L/∂x = Dᵀ D x, and ⟨t, ∂L/∂x⟩ has the gradient Dᵀ D t, where r = D x.
#[test]
fn edge_vectors_are_differentiable_twice() {
    fn check<B: ForceScatterBackend>(dtype: Dtype) {
        let inputs = inputs();
        let round = |values: Vec<f64>| -> Vec<f64> { values.into_iter().map(|x| dtype.round(x)).collect() };
        let (positions, t) = (round(numbers(27, 8)), round(numbers(27, 9)));
        let graph = graph::<Autodiff<Autodiff<B>>>(&inputs, dtype);
        let once = edges::<Autodiff<B>>(&positions, dtype).require_grad();
        let x = Tensor::<Autodiff<Autodiff<B>>, 2>::from_inner(once.clone()).require_grad();
        let r = edge_vec(&graph, x.clone(), None).unwrap();
        let first = x.grad(&(r.clone() * r).sum().mul_scalar(0.5).backward()).unwrap();
        let expected = transposed(&inputs, &differences(&inputs, &positions));
        assert_agree("first", &numbers_of(&first), &expected, tolerance(dtype, Order::First));
        let second = once.grad(&(first * edges::<Autodiff<B>>(&t, dtype)).sum().backward()).unwrap();
        let expected = transposed(&inputs, &differences(&inputs, &t));
        assert_agree("second", &numbers_of(&second), &expected, tolerance(dtype, Order::Second));
    }
    check::<Flex>(Dtype::F32);
    check::<Flex>(Dtype::F64);
    match ff_kernels::open(RuntimeKind::Vulkan) {
        Ok(_) => {
            check::<Wgpu>(Dtype::F32);
            check::<burn_fusion::Fusion<Wgpu>>(Dtype::F32);
        }
        Err(error) => println!("not tested on a GPU: {error}"),
    }
}

#[test]
fn what_does_not_fit_is_named() {
    let given = inputs();
    let list = graph::<Flex>(&given, Dtype::F64);
    let reason = |error: OpError| error.to_string();
    let found = reason(Systems::new(&list, &[4, 4]).err().unwrap());
    assert!(found.contains("n_atoms = 9") && found.contains("[8]"), "{found}");
    let found = reason(Systems::new(&list, &[5, 4]).err().unwrap());
    assert!(found.contains("system 0") && found.contains("system 1"), "{found}");
    let found = reason(edge_vec(&list, edges::<Flex>(&numbers(24, 1), Dtype::F64), None).err().unwrap());
    assert!(found.contains("`positions`") && found.contains("[9, 3]"), "{found}");
    let systems = Systems::new(&list, &[4, 0, 5]).unwrap();
    let found =
        reason(force_scatter(&list, edges::<Flex>(&[0.0; 6], Dtype::F64), &systems, &of(GATHER)).err().unwrap());
    assert!(found.contains("`edge_grad`"), "{found}");
    let found = force_scatter(&list, edges::<Flex>(&given.edge_grad, Dtype::F32), &systems, &of(GATHER)).err().unwrap();
    assert!(reason(found).contains("F64"));
    // The systems of a list with fewer atoms, and of one with as many atoms and fewer edges.
    let small = Inputs { row_ptr: vec![0; 10], sender: Vec::new(), edge_vec: Vec::new(), ..inputs() };
    for (other, n_atoms, name) in [
        (Inputs { row_ptr: vec![0; 9], ..small.clone() }, [4, 0, 4], "systems' atoms"),
        (small, [4, 0, 5], "systems' edges"),
    ] {
        let systems = Systems::new(&graph::<Flex>(&other, Dtype::F64), &n_atoms).unwrap();
        let all = edges::<Flex>(&given.edge_grad, Dtype::F64);
        let found = reason(force_scatter(&list, all, &systems, &of(GATHER)).err().unwrap());
        assert!(found.contains(name) && found.contains("another list"), "{found}");
    }
    fn third<B: ForceScatterBackend + AutodiffBackend>() -> Result<(), OpError> {
        let inputs = inputs();
        let graph = graph::<B>(&inputs, Dtype::F64);
        let systems = Systems::new(&graph, &[4, 0, 5]).unwrap();
        force_scatter(&graph, edges::<B>(&inputs.edge_grad, Dtype::F64).require_grad(), &systems, &of(GATHER))
            .map(|_| ())
    }
    assert!(third::<Autodiff<Autodiff<Flex>>>().is_ok());
    let found = reason(third::<Autodiff<Autodiff<Autodiff<Flex>>>>().err().unwrap());
    let expected = "a gradient of order 3 through `force_scatter` is not registered, expected at most 2";
    assert!(found.contains(expected), "{found}");
}
