//! What symmetry says of energies and forces through the fused ops, on random molecules.

use burn::tensor::{DType, Tensor};
use burn_autodiff::Autodiff;
use burn_flex::Flex;
use ff_ops::force_scatter::{Systems, edge_vec, strained};
use ff_ops::fused_message::{Graph, Options, fused_message};
use ff_spec::Dtype;
use ff_spec::fused_message::{Inputs, Message, Variant};
use ff_testkit::fused_message::CaseSpec;
use ff_testkit::fused_message::small::{case, spec};
use proptest::prelude::*;

use crate::testing::{filter, floats, indices, numbers_of};

type B = Autodiff<Flex>;
type Positions = Vec<[f64; 3]>;

const VARIANTS: [&str; 4] = [
    "painn_linear_gaussian_cosine_receiver",
    "painn_mlp_bessel_polynomial_receiver",
    "cfconv_mlp_gaussian_cosine_receiver",
    "cfconv_linear_expnorm_polynomial_receiver",
];

/// Weights and features of a case, of as many atoms as there are positions.
fn model(id: &str, n_atoms: usize) -> (Variant, Inputs<f64>) {
    let variant: Variant = id.parse().expect("a variant");
    let inputs = case(&CaseSpec { n_atoms, ..spec() }, &variant);
    (variant, inputs)
}

struct Found {
    energy: f64,
    /// [n_atoms, 3].
    forces: Positions,
    /// ∂E/∂ε.
    strain: [[f64; 3]; 3],
}

/// A two-layer energy of atoms whose features are `features` of the model's, in that order: every atom has its own, so that
/// no two are alike.
fn evaluate((variant, inputs): &(Variant, Inputs<f64>), positions: &Positions, features: &[usize]) -> Found {
    let device = Default::default();
    let (n, f, c) = (positions.len(), inputs.features, inputs.channels());
    let near = |i: usize, j: usize| {
        let square: f64 = (0..3).map(|axis| (positions[i][axis] - positions[j][axis]).powi(2)).sum();
        i != j && square.sqrt() < inputs.radial.r_cut
    };
    let (mut row_ptr, mut sender) = (vec![0], Vec::new());
    for i in 0..n {
        sender.extend((0..n).filter(|j| near(i, *j)).map(|j| j as u32));
        row_ptr.push(sender.len() as u32);
    }
    let zeros = floats::<B, 2>(&vec![0.0; 3 * sender.len()], [sender.len(), 3], Dtype::F64, &device);
    let indices = |values: &[u32]| indices(values, DType::I32, &device);
    let graph = Graph::new(indices(&row_ptr), indices(&sender), zeros).expect("a list");
    let systems = Systems::new(&graph, &[n]).expect("one system");
    let x = floats::<B, 2>(positions.as_flattened(), [n, 3], Dtype::F64, &device).require_grad();
    let strain = floats::<B, 3>(&[0.0; 9], [1, 3, 3], Dtype::F64, &device).require_grad();
    let vectors = edge_vec(&graph, x.clone(), None).expect("edge vectors");
    let graph = graph.with_edge_vec(strained(vectors, strain.clone(), &systems).expect("strained")).expect("as many");
    let chosen: Vec<f64> = features.iter().flat_map(|i| inputs.nodes[i * c..(i + 1) * c].to_vec()).collect();
    let mut nodes = floats::<B, 2>(&chosen, [n, c], Dtype::F64, &device);
    let painn = inputs.message == Message::Painn;
    let mut mu = painn.then(|| floats::<B, 3>(&vec![0.0; 3 * n * f], [n, 3, f], Dtype::F64, &device));
    let weights = filter::<B>(inputs, Dtype::F64, &device);
    let options = Options { variant, tables: &[] };
    for _ in 0..2 {
        let message =
            fused_message(&graph, nodes.clone(), mu.clone(), &inputs.radial, &weights, &options).expect("a message");
        let update = message.nodes.tanh();
        nodes = nodes + if painn { Tensor::cat(vec![update; 3], 1) } else { update };
        mu = mu.zip(message.vectors).map(|(mu, change)| mu + change);
    }
    let mut energy = (nodes.clone() * nodes).sum();
    if let Some(mu) = mu {
        energy = energy + (mu.clone() * mu).sum();
    }
    let value = numbers_of(&energy)[0];
    let found = energy.backward();
    let gradient = numbers_of(&x.grad(&found).expect("tracked"));
    let by_strain = numbers_of(&strain.grad(&found).expect("tracked"));
    Found {
        energy: value,
        forces: gradient.chunks_exact(3).map(|g| [-g[0], -g[1], -g[2]]).collect(),
        strain: std::array::from_fn(|a| std::array::from_fn(|b| by_strain[3 * a + b])),
    }
}

fn rotated(q: [f64; 4], x: [f64; 3]) -> [f64; 3] {
    let norm = q.iter().map(|x| x * x).sum::<f64>().sqrt();
    let [w, i, j, k] = q.map(|x| x / norm);
    let rows = [
        [1.0 - 2.0 * (j * j + k * k), 2.0 * (i * j - k * w), 2.0 * (i * k + j * w)],
        [2.0 * (i * j + k * w), 1.0 - 2.0 * (i * i + k * k), 2.0 * (j * k - i * w)],
        [2.0 * (i * k - j * w), 2.0 * (j * k + i * w), 1.0 - 2.0 * (i * i + j * j)],
    ];
    rows.map(|row| row.iter().zip(x).map(|(a, b)| a * b).sum())
}

/// Molecules whose atoms keep apart from each other and whose pairs keep apart from the cutoff.
fn molecules() -> impl Strategy<Value = (usize, Positions)> {
    let atom = prop::array::uniform3(-3.0..3.0f64);
    (0..VARIANTS.len(), prop::collection::vec(atom, 3..8)).prop_filter("apart", |(_, positions)| {
        let r_cut = spec().r_cut;
        positions.iter().enumerate().all(|(i, a)| {
            positions[..i].iter().all(|b| {
                let d = a.iter().zip(b).map(|(x, y)| (x - y) * (x - y)).sum::<f64>().sqrt();
                d > 0.5 && (d - r_cut).abs() > 1e-6
            })
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn energies_and_forces_move_with_their_atoms(
        (id, positions) in molecules(),
        q in prop::array::uniform4(0.1..1.0f64),
        shift in prop::array::uniform3(-9.0..9.0f64),
        turns in 1..7usize,
    ) {
        let n = positions.len();
        let model = model(VARIANTS[id], n);
        let order: Vec<usize> = (0..n).collect();
        let here = evaluate(&model, &positions, &order);
        let size = here.energy.abs().max(here.forces.iter().flatten().fold(0.0, |m: f64, x| m.max(x.abs())));
        let tolerance = 1e-12 * size;

        let moved: Positions = positions
            .iter()
            .map(|x| { let r = rotated(q, *x); std::array::from_fn(|axis| r[axis] + shift[axis]) })
            .collect();
        let there = evaluate(&model, &moved, &order);
        prop_assert!((here.energy - there.energy).abs() <= tolerance, "{} and {}", here.energy, there.energy);
        for (here, there) in here.forces.iter().zip(&there.forces) {
            for (a, b) in rotated(q, *here).iter().zip(there) {
                prop_assert!((a - b).abs() <= tolerance, "forces do not turn with the atoms: {a} and {b}");
            }
        }

        let permuted: Vec<usize> = (0..n).map(|i| (i + turns) % n).collect();
        let positions_of: Positions = permuted.iter().map(|i| positions[*i]).collect();
        let other = evaluate(&model, &positions_of, &permuted);
        prop_assert!((here.energy - other.energy).abs() <= tolerance);
        for (at, i) in permuted.iter().enumerate() {
            for axis in 0..3 {
                prop_assert!((here.forces[*i][axis] - other.forces[at][axis]).abs() <= tolerance);
            }
        }

        for axis in 0..3 {
            let sum: f64 = here.forces.iter().map(|f| f[axis]).sum();
            prop_assert!(sum.abs() <= tolerance, "forces sum to {sum:e}");
            let (a, b) = ((axis + 1) % 3, (axis + 2) % 3);
            let torque: f64 = here.forces.iter().zip(&positions).map(|(f, x)| x[a] * f[b] - x[b] * f[a]).sum();
            prop_assert!(torque.abs() <= tolerance, "torques sum to {torque:e}");
            let difference = here.strain[a][b] - here.strain[b][a];
            prop_assert!(difference.abs() <= tolerance, "the strain derivative is not symmetric: {difference:e}");
        }
    }

    /// An atom that comes to the cutoff of one other brings neither a jump of the energy nor one of the forces.
    #[test]
    fn nothing_jumps_at_the_cutoff(id in 0..VARIANTS.len(), direction in prop::array::uniform3(0.1..1.0f64)) {
        let model = model(VARIANTS[id], 3);
        let length = direction.iter().map(|x| x * x).sum::<f64>().sqrt();
        let at = |d: f64| {
            let along = |d: f64| direction.map(|x| 1.0 + x / length * d);
            // The third atom is beyond the reach of the second.
            evaluate(&model, &vec![along(0.0), along(-1.2), along(d)], &[0, 1, 2])
        };
        let r_cut = model.1.radial.r_cut;
        let (h, inside, outside) = (1e-5, at(r_cut - 1e-5), at(r_cut + 1e-5));
        let size = inside.forces.iter().flatten().fold(0.0, |m: f64, x| m.max(x.abs()));
        // f_c and its slope vanish at r_c: the energy changes by h², forces by h, times what the curvatures allow.
        prop_assert!((inside.energy - outside.energy).abs() <= 1e3 * h * h * size.max(inside.energy.abs()));
        for (a, b) in inside.forces.iter().flatten().zip(outside.forces.iter().flatten()) {
            prop_assert!((a - b).abs() <= 1e2 * h * size, "{a} and {b}");
        }
    }
}
