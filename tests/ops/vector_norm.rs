//! Norms through Burn's graph, against the oracle, a composition of Burn's operations, and differences.

use burn::backend::wgpu::Wgpu;
use burn::tensor::Tensor;
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn_autodiff::Autodiff;
use burn_autodiff::checkpoint::strategy::{BalancedCheckpointing, CheckpointStrategy, NoCheckpointing};
use burn_flex::Flex;
use ff_ops::fused_message::OpError;
use ff_ops::vector_norm::{VectorNormBackend, vector_norm};
use ff_reference::vector_norm as oracle;
use ff_spec::Dtype;
use ff_spec::vector_norm::{BackwardInputs, DoubleBackwardInputs, Inputs};
use ff_testkit::fused_message::small::{assert_agree, numbers};
use ff_testkit::tolerance::{Order, tolerance};

use crate::testing::{floats, numbers_of, on_a_gpu};

const EPSILON: f64 = 1e-8;
const ATOMS: usize = 5;
const FEATURES: usize = 12;

/// Rounded to f32, so that they are the same in both dtypes; some channels are far below √ε.
fn twice() -> DoubleBackwardInputs<f64> {
    let n = ATOMS * FEATURES;
    let mut vectors = numbers(3 * n, 1);
    vectors.iter_mut().step_by(5).for_each(|x| *x *= 1e-6);
    let inputs = Inputs { n_atoms: ATOMS, features: FEATURES, vectors, epsilon: EPSILON };
    let all = DoubleBackwardInputs { inputs, grad: numbers(n, 2), tangent: numbers(3 * n, 3) };
    all.cast::<f32>().cast()
}

fn axes<B: Backend>(values: &[f64], dtype: Dtype) -> Tensor<B, 3> {
    floats(values, [values.len() / (3 * FEATURES), 3, FEATURES], dtype, &Default::default())
}

fn norms<B: Backend>(values: &[f64], dtype: Dtype) -> Tensor<B, 2> {
    floats(values, [values.len() / FEATURES, FEATURES], dtype, &Default::default())
}

/// On every backend that this machine has.
macro_rules! on_every_backend {
    ($check:ident) => {
        for dtype in Dtype::ALL {
            $check::<Flex, NoCheckpointing>(dtype);
            $check::<Flex, BalancedCheckpointing>(dtype);
        }
        if on_a_gpu() {
            $check::<Wgpu, NoCheckpointing>(Dtype::F32);
            $check::<burn_fusion::Fusion<Wgpu>, NoCheckpointing>(Dtype::F32);
        }
    };
}

#[test]
fn norms_are_those_of_the_oracle() {
    fn check<B: VectorNormBackend, C: CheckpointStrategy>(dtype: Dtype) {
        let inputs = twice().inputs;
        let expected = oracle::forward(&inputs).unwrap().outputs.norm;
        let found = vector_norm(axes::<Autodiff<B, C>>(&inputs.vectors, dtype), EPSILON).unwrap();
        assert_eq!(found.dims(), [ATOMS, FEATURES]);
        assert_agree("norm", &numbers_of(&found), &expected, tolerance(dtype, Order::Forward));
        // A view whose strides are not those of its shape.
        let whole = axes::<B>(&inputs.vectors, dtype);
        let other_way_round = whole.clone().swap_dims(0, 2).into_data();
        let turned = Tensor::<B, 3>::from_data(other_way_round, (&whole.device(), whole.dtype())).swap_dims(0, 2);
        assert_agree("a view", &numbers_of(&vector_norm(turned, EPSILON).unwrap()), &expected, 1e-5);
        let part = vector_norm(whole.slice([1..3, 0..3, 0..FEATURES]), EPSILON).unwrap();
        assert_agree("a part", &numbers_of(&part), &expected[FEATURES..3 * FEATURES], 1e-5);
    }
    on_every_backend!(check);
}

/// Gradients of ⟨g, norm⟩, and of ⟨t, that gradient⟩, are the oracle's.
#[test]
fn norms_are_differentiable_twice() {
    fn check<B: VectorNormBackend, C: CheckpointStrategy>(dtype: Dtype) {
        type Once<B, C> = Autodiff<B, C>;
        type Twice<B, C> = Autodiff<Once<B, C>, C>;
        let all = twice();
        let once = BackwardInputs { inputs: all.inputs.clone(), grad: all.grad.clone() };
        let first = oracle::backward(&once).unwrap().outputs;
        let second = oracle::double_backward(&all).unwrap().outputs;

        let v = axes::<Once<B, C>>(&all.inputs.vectors, dtype).require_grad();
        let g = norms::<Once<B, C>>(&all.grad, dtype).require_grad();
        let over = Tensor::<Twice<B, C>, 3>::from_inner(v.clone()).require_grad();
        let loss = (vector_norm(over.clone(), EPSILON).unwrap() * Tensor::from_inner(g.clone())).sum();
        let gradient = over.grad(&loss.backward()).unwrap();
        assert_agree("first", &numbers_of(&gradient), &first.vectors, tolerance(dtype, Order::First));
        let found = (gradient * axes(&all.tangent, dtype)).sum().backward();
        let tolerance = tolerance(dtype, Order::Second);
        assert_agree("second in V", &numbers_of(&v.grad(&found).unwrap()), &second.vectors, tolerance);
        assert_agree("second in g", &numbers_of(&g.grad(&found).unwrap()), &second.grad, tolerance);
    }
    on_every_backend!(check);
}

/// The same of Burn's own operations, which square, sum, add ε and take the root.
fn composed<B: Backend>(vectors: Tensor<B, 3>) -> Tensor<B, 2> {
    (vectors.clone() * vectors).sum_dim(1).squeeze_dim::<2>(1).add_scalar(EPSILON).sqrt()
}

#[test]
fn a_loss_on_gradients_is_that_of_a_composition() {
    type Once = Autodiff<Flex>;
    type Twice = Autodiff<Once>;
    let all = twice();
    let gradients = |norm: &dyn Fn(Tensor<Twice, 3>) -> Tensor<Twice, 2>| {
        let v = axes::<Once>(&all.inputs.vectors, Dtype::F64).require_grad();
        let over = Tensor::<Twice, 3>::from_inner(v.clone()).require_grad();
        let n = norm(over.clone());
        // Nonlinear in the norm, so that its gradient is in both terms of the second backward.
        let first = over.grad(&(n.clone() * n.clone() * n).sum().backward()).unwrap();
        let found = (first.clone() * first.clone()).sum().backward();
        [numbers_of(&first), numbers_of(&v.grad(&found).unwrap())]
    };
    let found = gradients(&|v| vector_norm(v, EPSILON).unwrap());
    let expected = gradients(&composed);
    assert_agree("first", &found[0], &expected[0], tolerance(Dtype::F64, Order::First));
    assert_agree("second", &found[1], &expected[1], tolerance(Dtype::F64, Order::Second));
}

#[test]
fn nothing_has_no_norm() {
    let (none, device) = (Vec::<f64>::new(), Default::default());
    for (shape, expected) in [([0, 3, 4], [0, 4]), ([4, 3, 0], [4, 0])] {
        let vectors = floats::<Flex, 3>(&none, shape, Dtype::F32, &device);
        assert_eq!(vector_norm(vectors, EPSILON).unwrap().dims(), expected);
    }
}

#[test]
fn what_does_not_fit_is_named() {
    let reason = |found: Result<Tensor<Flex, 2>, OpError>| found.err().unwrap().to_string();
    let device = Default::default();
    let found = reason(vector_norm(floats(&[0.0; 16], [2, 4, 2], Dtype::F64, &device), EPSILON));
    assert!(found.contains("`vectors`") && found.contains("[2, 4, 2]") && found.contains("[2, 3, 2]"), "{found}");
    for (epsilon, dtype, shown) in [(0.0, Dtype::F64, "0"), (-1.0, Dtype::F32, "-1"), (1e-60, Dtype::F32, "0")] {
        let found = reason(vector_norm(floats(&[0.0; 6], [1, 3, 2], dtype, &device), epsilon));
        assert!(found.contains(&format!("`epsilon` is {shown}, expected a positive number")), "{found}");
    }
    assert!(vector_norm::<Flex>(floats(&[0.0; 6], [1, 3, 2], Dtype::F64, &device), 1e-60).is_ok());
    fn third<B: VectorNormBackend + AutodiffBackend>() -> Result<(), OpError> {
        vector_norm(axes::<B>(&twice().inputs.vectors, Dtype::F64).require_grad(), EPSILON).map(|_| ())
    }
    assert!(third::<Autodiff<Autodiff<Flex>>>().is_ok());
    let found = third::<Autodiff<Autodiff<Autodiff<Flex>>>>().err().unwrap().to_string();
    let expected = "a gradient of order 3 through `vector_norm` is not registered, expected at most 2";
    assert!(found.contains(expected), "{found}");
}
