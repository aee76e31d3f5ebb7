use super::*;
use crate::testing::numbers;

/// Systems of 3, 0, 1 and 2 atoms: rows of several edges, of none, edges between an atom and its own image.
fn inputs() -> Inputs<f64> {
    let sender = vec![1, 2, 0, 2, 1, 3, 3, 4];
    let n = 3 * sender.len();
    Inputs {
        row_ptr: vec![0, 2, 5, 5, 7, 7, 8],
        sender,
        edge_vec: numbers(n, 1),
        edge_grad: numbers(n, 2),
        system_ptr: vec![0, 3, 3, 4, 6],
    }
}

fn cotangents(inputs: &Inputs<f64>, seed: usize) -> Outputs<f64> {
    let Outputs { forces, strain } = inputs.poisoned_outputs();
    Outputs { forces: numbers(forces.len(), seed), strain: numbers(strain.len(), seed + 1) }
}

fn direction(inputs: &Inputs<f64>, seed: usize) -> Gradients<f64> {
    let n = 3 * inputs.n_edges();
    Gradients { edge_vec: numbers(n, seed), edge_grad: numbers(n, seed + 1) }
}

fn dot(a: &[(&str, &[f64])], b: &[(&str, &[f64])]) -> f64 {
    a.iter().zip(b).flat_map(|((_, a), (_, b))| a.iter().zip(*b)).map(|(a, b)| a * b).sum()
}

/// The inputs, `h` of a direction further.
fn moved(inputs: &Inputs<f64>, direction: &Gradients<f64>, h: f64) -> Inputs<f64> {
    let add = |x: &[f64], t: &[f64]| x.iter().zip(t).map(|(x, t)| x + h * t).collect();
    Inputs {
        edge_vec: add(&inputs.edge_vec, &direction.edge_vec),
        edge_grad: add(&inputs.edge_grad, &direction.edge_grad),
        ..inputs.clone()
    }
}

/// The op is quadratic in (r, g), so central differences have no error but rounding, whatever the step.
const STEP: f64 = 0.5;
const ROUNDING: f64 = 1e-13;

fn close(found: f64, expected: f64, what: &str) {
    assert!((found - expected).abs() <= ROUNDING * (1.0 + expected.abs()), "{what}: {found}, expected {expected}");
}

#[test]
fn two_atoms_by_hand() {
    // One edge 0 ← 1: r = (1, 2, 3), g = (4, 5, 6).
    let inputs = Inputs {
        row_ptr: vec![0, 1, 1],
        sender: vec![1],
        edge_vec: vec![1.0, 2.0, 3.0],
        edge_grad: vec![4.0, 5.0, 6.0],
        system_ptr: vec![0, 2],
    };
    let Oracle { outputs, magnitude } = forward(&inputs).unwrap();
    assert_eq!(outputs.forces, [4.0, 5.0, 6.0, -4.0, -5.0, -6.0]);
    assert_eq!(outputs.strain, [4.0, 6.5, 9.0, 6.5, 10.0, 13.5, 9.0, 13.5, 18.0]);
    assert_eq!(magnitude.forces, [4.0, 5.0, 6.0, 4.0, 5.0, 6.0]);
    let mut strain = vec![0.0; 9];
    strain[1] = 2.0;
    let grad = Outputs { forces: vec![1.0, 0.0, 0.0, 0.0, 3.0, 0.0], strain };
    // sym(S̄) has ones at (x, y) and (y, x).
    let found = backward(&BackwardInputs { inputs, grad }).unwrap().outputs;
    assert_eq!(found.edge_grad, [1.0 + 2.0, -3.0 + 1.0, 0.0]);
    assert_eq!(found.edge_vec, [5.0, 4.0, 0.0]);
}

/// E = Σ_e k/2 ‖r_e‖² on r_e = (x_j − x_i)(1 + ε) + offset: forces and strain are its derivatives in x and in ε.
#[test]
fn forces_and_strain_are_derivatives_of_an_energy() {
    let list = inputs();
    let (n_atoms, n_edges) = (list.n_atoms(), list.n_edges());
    let positions = numbers(3 * n_atoms, 3);
    // S·H of each edge, which the strain deforms too.
    let offsets = numbers(3 * n_edges, 4);
    let constants = numbers(n_edges, 5);
    let call = Call::<Tracked>::new(&list);
    let vectors = |x: &[f64], strain: &[f64]| -> Vec<f64> {
        let mut vectors = Vec::new();
        for Edge { id, receiver, sender, system } in call.edges() {
            let r = [0, 1, 2].map(|a| x[3 * sender + a] - x[3 * receiver + a] + offsets[3 * id + a]);
            let eps = &strain[9 * system..];
            vectors.extend((0..3).map(|a| r[a] + (0..3).map(|b| eps[3 * a + b] * r[b]).sum::<f64>()));
        }
        vectors
    };
    let energy = |x: &[f64], strain: &[f64]| -> f64 {
        let r = vectors(x, strain);
        r.chunks_exact(3).zip(&constants).map(|(r, k)| 0.5 * k * r.iter().map(|r| r * r).sum::<f64>()).sum()
    };
    let zero = vec![0.0; 9 * list.n_systems()];
    let edge_vec = vectors(&positions, &zero);
    let edge_grad = edge_vec.iter().enumerate().map(|(i, r)| constants[i / 3] * r).collect();
    let Outputs { forces, strain } = forward(&Inputs { edge_vec, edge_grad, ..list.clone() }).unwrap().outputs;
    let shifted = |values: &[f64], at: usize, h: f64| {
        let mut values = values.to_vec();
        values[at] += h;
        values
    };
    for (at, force) in forces.iter().enumerate() {
        let of = |h| energy(&shifted(&positions, at, h), &zero);
        close(*force, -(of(STEP) - of(-STEP)) / (2.0 * STEP), &format!("force {at}"));
    }
    // The energy of a strain is that of its symmetric part to first order: elements of both triangles are averaged.
    for (system, strain) in strain.chunks_exact(9).enumerate() {
        for (a, b) in (0..3).flat_map(|a| (0..3).map(move |b| (a, b))) {
            let of = |at: usize| {
                let energy = |h| energy(&positions, &shifted(&zero, 9 * system + at, h));
                (energy(STEP) - energy(-STEP)) / (2.0 * STEP)
            };
            close(strain[3 * a + b], 0.5 * (of(3 * a + b) + of(3 * b + a)), &format!("strain {system} {a}{b}"));
        }
    }
}

#[test]
fn forces_of_each_system_cancel_and_nothing_is_summed_into_an_empty_one() {
    let inputs = inputs();
    let Oracle { outputs, magnitude } = forward(&inputs).unwrap();
    for atoms in inputs.system_ptr.windows(2) {
        for axis in 0..3 {
            let total: f64 = (atoms[0]..atoms[1]).map(|i| outputs.forces[3 * i as usize + axis]).sum();
            close(total, 0.0, "total force");
        }
    }
    assert_eq!(magnitude.strain[9..18], [0.0; 9]);
    // Its own image pulls at both ends of an atom.
    assert_eq!(outputs.forces[9..12], [0.0; 3]);
    assert!(magnitude.forces[9..12].iter().all(|m| *m > 0.0) && outputs.strain[18..27].iter().all(|s| *s != 0.0));
}

#[test]
fn the_first_backward_is_the_derivative_of_the_forward() {
    let (inputs, t) = (inputs(), direction(&inputs(), 30));
    let grad = cotangents(&inputs, 20);
    let l = |h| dot(&forward(&moved(&inputs, &t, h)).unwrap().outputs.tensors(), &grad.tensors());
    let found = backward(&BackwardInputs { inputs: inputs.clone(), grad: grad.clone() }).unwrap().outputs;
    close(dot(&found.tensors(), &t.tensors()), (l(STEP) - l(-STEP)) / (2.0 * STEP), "L");
}

#[test]
fn the_second_backward_is_the_derivative_of_the_first() {
    let (inputs, t) = (inputs(), direction(&inputs(), 30));
    let grad = cotangents(&inputs, 20);
    let q = |inputs: Inputs<f64>, grad: Outputs<f64>| {
        dot(&backward(&BackwardInputs { inputs, grad }).unwrap().outputs.tensors(), &t.tensors())
    };
    let double = DoubleBackwardInputs { inputs: inputs.clone(), grad: grad.clone(), tangent: t.clone() };
    let found = double_backward(&double).unwrap().outputs;
    let (u, v) = (direction(&inputs, 40), cotangents(&inputs, 50));
    let of_inputs = |h| q(moved(&inputs, &u, h), grad.clone());
    close(
        dot(&found.gradients.tensors(), &u.tensors()),
        (of_inputs(STEP) - of_inputs(-STEP)) / (2.0 * STEP),
        "Q in the inputs",
    );
    let of_grad = |h: f64| {
        let add = |x: &[f64], t: &[f64]| x.iter().zip(t).map(|(x, t)| x + h * t).collect();
        q(inputs.clone(), Outputs { forces: add(&grad.forces, &v.forces), strain: add(&grad.strain, &v.strain) })
    };
    close(
        dot(&found.grad.tensors(), &v.tensors()),
        (of_grad(STEP) - of_grad(-STEP)) / (2.0 * STEP),
        "Q in the cotangents",
    );
}

/// As `ops.md` writes it, term by term.
#[test]
fn the_second_backward_is_what_the_documents_say() {
    let inputs = inputs();
    let (grad, tangent) = (cotangents(&inputs, 20), direction(&inputs, 30));
    let found =
        double_backward(&DoubleBackwardInputs { inputs: inputs.clone(), grad: grad.clone(), tangent: tangent.clone() });
    let found = found.unwrap().outputs;
    let Gradients { edge_vec: t_r, edge_grad: t_g } = tangent;
    let forces_of_t = forward(&Inputs { edge_grad: t_g.clone(), ..inputs.clone() }).unwrap().outputs;
    let of_t_r = forward(&Inputs { edge_vec: t_r.clone(), ..inputs.clone() }).unwrap().outputs;
    assert_eq!(found.grad.forces, forces_of_t.forces);
    for (at, s) in found.grad.strain.iter().enumerate() {
        close(*s, forces_of_t.strain[at] + of_t_r.strain[at], "strain");
    }
    let still = Outputs { forces: vec![0.0; grad.forces.len()], ..grad };
    let crossed = Inputs { edge_vec: t_r, edge_grad: t_g, ..inputs };
    assert_eq!(found.gradients, backward(&BackwardInputs { inputs: crossed, grad: still }).unwrap().outputs);
}

#[test]
fn magnitudes_bound_values() {
    let inputs = inputs();
    let (grad, tangent) = (cotangents(&inputs, 20), direction(&inputs, 30));
    let zero = forward(&inputs).unwrap();
    let one = backward(&BackwardInputs { inputs: inputs.clone(), grad: grad.clone() }).unwrap();
    let two = double_backward(&DoubleBackwardInputs { inputs, grad, tangent }).unwrap();
    let values = [zero.outputs.tensors(), one.outputs.tensors(), two.outputs.tensors()].concat();
    let bounds = [zero.magnitude.tensors(), one.magnitude.tensors(), two.magnitude.tensors()].concat();
    for ((tensor, values), (_, bounds)) in values.into_iter().zip(bounds) {
        for (value, bound) in values.iter().zip(bounds) {
            assert!(value.abs() <= bound * (1.0 + 1e-12), "`{tensor}`: {value} above {bound}");
        }
    }
}

#[test]
fn wrong_inputs_and_results_are_named() {
    let mut wrong = inputs();
    wrong.sender[0] = 3;
    let error = forward(&wrong).unwrap_err().to_string();
    assert!(error.contains("edge 0 joins atom 0 of system 0 and atom 3 of system 2"), "{error}");
    let mut huge = inputs();
    huge.edge_vec.fill(1e200);
    huge.edge_grad.fill(1e200);
    let error = forward(&huge).unwrap_err();
    assert!(matches!(error, ReferenceError::NotFinite { tensor: "strain", .. }), "{error}");
}
