//! Gradients through Burn's graph against differences, and what has none.

use burn::backend::wgpu::Wgpu;
use burn::tensor::backend::AutodiffBackend;
use burn::tensor::{DType, Tensor};
use burn_autodiff::Autodiff;
use burn_flex::Flex;
use ff_ops::force_scatter::{ForceScatterBackend, Systems, edge_vec, strained};
use ff_ops::fused_message::{FilterTensors, FusedMessageBackend, OpError, Options, fused_message};
use ff_spec::Dtype;
use ff_spec::fused_message::{Filter, Inputs, Message as MessageKind, Variant};
use ff_testkit::fused_message::CaseSpec;
use ff_testkit::fused_message::small::{case, numbers, spec};

use crate::testing::{filter, floats, graph, numbers_of, on_a_gpu};

/// All pairs of six atoms in a box that the cutoff does not quite span.
struct Molecule {
    variant: Variant,
    inputs: Inputs<f64>,
    positions: Vec<f64>,
}

impl Molecule {
    fn new(id: &str) -> Self {
        let variant: Variant = id.parse().unwrap();
        let mut inputs = case(&CaseSpec { n_atoms: 6, ..spec() }, &variant);
        inputs.row_ptr = (0..=6).map(|i| 5 * i).collect();
        inputs.sender = (0..6u32).flat_map(|i| (0..6).filter(move |j| *j != i)).collect();
        inputs.edge_vec = vec![1.0; 90];
        let positions = numbers(18, 3).into_iter().map(|x| 2.0 * x).collect();
        Self { variant, inputs, positions }
    }

    /// ½ Σ q² + ½ Σ |μ|² of a message passed twice, under a strain [1, 3, 3].
    fn energy<B: ForceScatterBackend>(
        &self,
        positions: Tensor<B, 2>,
        strain: Tensor<B, 3>,
        filter: &FilterTensors<B>,
    ) -> Tensor<B, 1> {
        let (inputs, device) = (&self.inputs, Default::default());
        let (n, f) = (inputs.n_atoms, inputs.features);
        let list = graph::<B>(inputs, Dtype::F64, DType::I32, &device).unwrap();
        let systems = Systems::new(&list, &[n]).unwrap();
        let vectors = edge_vec(&list, positions, None).unwrap();
        let list = list.with_edge_vec(strained(vectors, strain, &systems).unwrap()).unwrap();
        let options = Options { variant: &self.variant, tables: &[] };
        let mut nodes = floats::<B, 2>(&inputs.nodes, [n, 3 * f], Dtype::F64, &device);
        let mut vectors = floats::<B, 3>(&inputs.vectors, [n, 3, f], Dtype::F64, &device);
        for _ in 0..2 {
            let message =
                fused_message(&list, nodes.clone(), Some(vectors.clone()), &inputs.radial, filter, &options).unwrap();
            let update = message.nodes.clone().tanh();
            nodes = nodes + Tensor::cat(vec![update.clone(), update.clone(), update], 1);
            vectors = vectors + message.vectors.unwrap();
        }
        ((nodes.clone() * nodes).sum() + (vectors.clone() * vectors).sum()).mul_scalar(0.5)
    }
}

/// A central difference whose truncation is of the fifth order: at this step about 1e-10, as its rounding.
fn difference(value: impl Fn(f64) -> f64) -> f64 {
    let h = 1e-3;
    (8.0 * (value(h) - value(-h)) - (value(2.0 * h) - value(-2.0 * h))) / (12.0 * h)
}

#[test]
fn forces_are_differences_of_the_energy() {
    type B = Autodiff<Flex>;
    let device = Default::default();
    for id in ["painn_linear_gaussian_cosine_receiver", "painn_mlp_bessel_polynomial_receiver"] {
        let molecule = Molecule::new(id);
        let weights = filter::<B>(&molecule.inputs, Dtype::F64, &device);
        let at = |x: &[f64]| floats::<B, 2>(x, [6, 3], Dtype::F64, &device);
        let x = at(&molecule.positions).require_grad();
        let still = || floats::<B, 3>(&[0.0; 9], [1, 3, 3], Dtype::F64, &device);
        let found = molecule.energy(x.clone(), still(), &weights).backward();
        let gradient = numbers_of(&x.grad(&found).unwrap());
        let scale = gradient.iter().fold(0.0, |m: f64, g| m.max(g.abs()));
        assert!(scale > 1e-3);
        for (k, found) in gradient.iter().enumerate() {
            let expected = difference(|h| {
                let mut x = molecule.positions.clone();
                x[k] += h;
                numbers_of(&molecule.energy(at(&x), still(), &weights))[0]
            });
            assert!((found - expected).abs() <= 1e-8 * scale, "{id} coordinate {k}: {found} and {expected}");
        }
        for axis in 0..3 {
            let sum: f64 = gradient.iter().skip(axis).step_by(3).sum();
            assert!(sum.abs() <= 1e-12 * scale, "{id}: forces along axis {axis} sum to {sum:e}");
        }
    }
}

/// A loss on forces and on the strain derivative: its gradients in the weights and in the positions against differences of the
/// loss.
#[test]
fn a_loss_on_forces_and_stress_has_gradients() {
    type Once = Autodiff<Flex>;
    type Twice = Autodiff<Once>;
    for id in ["painn_linear_gaussian_cosine_receiver", "painn_mlp_bessel_polynomial_receiver"] {
        let molecule = Molecule::new(id);
        let (forces, stress) = (numbers(18, 5), numbers(9, 6));
        let at = |x: &[f64]| floats::<Once, 2>(x, [6, 3], Dtype::F64, &Default::default());
        // The loss, on a graph whose weights and positions are tracked beneath one of its own.
        let loss = |filter: &FilterTensors<Once>, x: &Tensor<Once, 2>| {
            let device = Default::default();
            let filter = FilterTensors::from_inner(filter.clone());
            let x = Tensor::<Twice, 2>::from_inner(x.clone()).require_grad();
            let strain = floats::<Twice, 3>(&[0.0; 9], [1, 3, 3], Dtype::F64, &device).require_grad();
            let found = molecule.energy::<Twice>(x.clone(), strain.clone(), &filter).backward();
            let of_forces = x.grad(&found).unwrap() + at(&forces);
            let of_stress = strain.grad(&found).unwrap() + floats::<Once, 3>(&stress, [1, 3, 3], Dtype::F64, &device);
            (of_forces.clone() * of_forces).sum() + (of_stress.clone() * of_stress).sum()
        };
        let weights = filter::<Once>(&molecule.inputs, Dtype::F64, &Default::default()).require_grad();
        let x = at(&molecule.positions).require_grad();
        let found = loss(&weights, &x).backward();
        let by_positions = numbers_of(&x.grad(&found).unwrap());
        let scale = by_positions.iter().fold(0.0, |m: f64, g| m.max(g.abs()));
        for k in [0, 7, 17] {
            let expected = difference(|h| {
                let mut positions = molecule.positions.clone();
                positions[k] += h;
                numbers_of(&loss(&weights, &at(&positions)))[0]
            });
            let found = by_positions[k];
            assert!((found - expected).abs() <= 1e-7 * scale, "{id} coordinate {k}: {found} and {expected}");
        }
        let gradients: Vec<Vec<f64>> = match &weights {
            FilterTensors::Linear { a, b } => {
                vec![numbers_of(&a.grad(&found).unwrap()), numbers_of(&b.grad(&found).unwrap())]
            }
            FilterTensors::Mlp { a1, b1, a2, b2, .. } => vec![
                numbers_of(&a1.grad(&found).unwrap()),
                numbers_of(&b1.grad(&found).unwrap()),
                numbers_of(&a2.grad(&found).unwrap()),
                numbers_of(&b2.grad(&found).unwrap()),
            ],
            FilterTensors::Tabulated { .. } => Vec::new(),
        };
        assert!(gradients.iter().all(|g| g.iter().any(|x| x.abs() > 1e-6)), "{id}: a gradient is zero");
        for (tensor, gradients) in gradients.iter().enumerate() {
            let scale = gradients.iter().fold(0.0, |m: f64, g| m.max(g.abs()));
            for k in [0, gradients.len() / 2, gradients.len() - 1] {
                let expected = difference(|h| {
                    let mut inputs = molecule.inputs.clone();
                    *weight(&mut inputs.filter, tensor, k) += h;
                    numbers_of(&loss(&filter::<Once>(&inputs, Dtype::F64, &Default::default()), &x))[0]
                });
                let found = gradients[k];
                assert!((found - expected).abs() <= 1e-7 * scale, "{id} weight {tensor}[{k}]: {found} and {expected}");
            }
        }
    }
}

/// Element `k` of a tensor of the filter.
fn weight(filter: &mut Filter<f64>, tensor: usize, k: usize) -> &mut f64 {
    match (filter, tensor) {
        (Filter::Linear { a: values, .. }, 0) | (Filter::Mlp { a1: values, .. }, 0) => &mut values[k],
        (Filter::Linear { b: values, .. }, 1) | (Filter::Mlp { b1: values, .. }, 1) => &mut values[k],
        (Filter::Mlp { a2: values, .. }, 2) | (Filter::Mlp { b2: values, .. }, 3) => &mut values[k],
        (_, tensor) => unreachable!("no tensor {tensor}"),
    }
}

#[test]
fn what_is_not_registered_is_an_error_where_it_is_called() {
    fn call<B: FusedMessageBackend + AutodiffBackend>(id: &str, track_table: bool) -> Result<(), OpError> {
        let device = Default::default();
        let variant: Variant = id.parse().unwrap();
        let inputs = case(&spec(), &variant);
        let dtype = Dtype::F32;
        let graph = graph::<B>(&inputs, dtype, DType::I32, &device)?;
        let nodes = floats::<B, 2>(&inputs.nodes, [inputs.n_atoms, inputs.channels()], dtype, &device);
        let nodes = if track_table { nodes } else { nodes.require_grad() };
        let vectors = (inputs.message == MessageKind::Painn)
            .then(|| floats(&inputs.vectors, [inputs.n_atoms, 3, inputs.features], dtype, &device));
        let weights = match filter::<B>(&inputs, dtype, &device) {
            FilterTensors::Tabulated { values } if track_table => {
                FilterTensors::Tabulated { values: values.require_grad() }
            }
            weights => weights,
        };
        fused_message(&graph, nodes, vectors, &inputs.radial, &weights, &Options { variant: &variant, tables: &[] })
            .map(|_| ())
    }
    let linear = "painn_linear_gaussian_cosine_receiver";
    let reason = |found: Result<(), OpError>| found.unwrap_err().to_string();
    assert_eq!(call::<Autodiff<Flex>>(linear, false), Ok(()));
    assert_eq!(call::<Autodiff<Flex>>("cfconv_tabulated_receiver", false), Ok(()));
    assert!(reason(call::<Autodiff<Flex>>("cfconv_tabulated_receiver", true)).contains("make the table anew"));
    assert_eq!(call::<Autodiff<Autodiff<Flex>>>(linear, false), Ok(()));
    let third = reason(call::<Autodiff<Autodiff<Autodiff<Flex>>>>(linear, false));
    let expected = "a gradient of order 3 through `fused_message` is not registered, expected at most 2";
    assert!(third.contains(expected), "{third}");
    if on_a_gpu() {
        assert_eq!(call::<Autodiff<Autodiff<Wgpu>>>(linear, false), Ok(()));
    }
}
