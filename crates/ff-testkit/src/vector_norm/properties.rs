//! What holds for any input: the norm does not change when all vectors are rotated, and the first backward rotates with them.

use ff_spec::vector_norm::{BackwardInputs, Gradients, Inputs, Outputs};
use ff_spec::{Dtype, VectorNorm, VectorNormBackward};

use super::{numbers, random_cotangents};
use crate::tensors::ByTensors;
use crate::tolerance::{norm, tolerance};

/// A rotation by a unit quaternion, random and the same for a seed.
pub fn rotation(seed: u64) -> [[f64; 3]; 3] {
    let q = numbers(4, seed, 7);
    let length = norm(q.iter().copied());
    let [w, x, y, z] = [0, 1, 2, 3].map(|k| q[k] / length);
    [
        [1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y - w * z), 2.0 * (x * z + w * y)],
        [2.0 * (x * y + w * z), 1.0 - 2.0 * (x * x + z * z), 2.0 * (y * z - w * x)],
        [2.0 * (x * z - w * y), 2.0 * (y * z + w * x), 1.0 - 2.0 * (x * x + y * y)],
    ]
}

/// Every vector of [n_atoms, 3, F], rotated.
pub fn rotated(vectors: &[f64], features: usize, rotation: &[[f64; 3]; 3]) -> Vec<f64> {
    let turned = |at: usize| {
        let (atom, axis, c) = (at / (3 * features), at / features % 3, at % features);
        (0..3).map(|from| rotation[axis][from] * vectors[(3 * atom + from) * features + c]).sum()
    };
    (0..vectors.len()).map(turned).collect()
}

/// A kernel: what it computes of inputs, or what it says.
pub type Kernel<'a, I, O> = dyn Fn(&I) -> Result<O, String> + 'a;

/// Compares what a kernel computes of vectors and of the same vectors rotated.
///
/// # Errors
/// What a kernel says, and what differs by more than both may be off.
pub fn check_rotations(
    norm_of: &Kernel<'_, Inputs<f64>, Outputs<f64>>,
    gradients_of: &Kernel<'_, BackwardInputs<f64>, Gradients<f64>>,
    inputs: &Inputs<f64>,
    dtype: Dtype,
    seed: u64,
) -> Result<(), String> {
    let rotation = rotation(seed);
    let inputs = VectorNorm::rounded(inputs, dtype);
    let f = inputs.features;
    let turned = Inputs { vectors: rotated(&inputs.vectors, f, &rotation), ..inputs.clone() };
    near("norm", &norm_of(&turned)?.norm, &norm_of(&inputs)?.norm, 4.0 * tolerance(dtype, VectorNorm::TOLERANCE))?;
    let grad = random_cotangents(&inputs, seed);
    let first = |inputs: &Inputs<f64>| {
        let all = VectorNormBackward::rounded(&BackwardInputs { inputs: inputs.clone(), grad: grad.clone() }, dtype);
        gradients_of(&all)
    };
    let expected = rotated(&first(&inputs)?.vectors, f, &rotation);
    near("gradient", &first(&turned)?.vectors, &expected, 4.0 * tolerance(dtype, VectorNormBackward::TOLERANCE))
}

/// ‖found − expected‖ ≤ allowed·‖expected‖. Vectors that were rotated are rounded once more, so allowed is a few tolerances.
fn near(what: &str, found: &[f64], expected: &[f64], allowed: f64) -> Result<(), String> {
    let off = norm(found.iter().zip(expected).map(|(a, b)| a - b));
    let size = norm(expected.iter().copied());
    if found.len() == expected.len() && off <= allowed * size {
        return Ok(());
    }
    Err(format!("{what}: {off:e} of {size:e} after a rotation, expected at most {allowed:e} of it"))
}

#[cfg(test)]
mod tests {
    use super::super::mutants::{Kernel, Mutation};
    use super::super::{Kind, NormSpec, random_inputs};
    use super::*;

    fn checked(mutation: Option<Mutation>, dtype: Dtype) -> Result<(), String> {
        for seed in 0..4 {
            let inputs = random_inputs(&NormSpec { n_atoms: 5, features: 7, kind: Kind::Ordinary }, seed);
            check_rotations(
                &|inputs| Ok(VectorNorm::compute(inputs, dtype, mutation)),
                &|inputs| Ok(VectorNormBackward::compute(inputs, dtype, mutation)),
                &inputs,
                dtype,
                seed,
            )?;
        }
        Ok(())
    }

    #[test]
    fn rotations_are_rotations() {
        for seed in 0..8 {
            let r = rotation(seed);
            for (a, b) in (0..3).flat_map(|a| (0..3).map(move |b| (a, b))) {
                let dot: f64 = (0..3).map(|k| r[a][k] * r[b][k]).sum();
                assert!((dot - f64::from(u8::from(a == b))).abs() < 1e-14, "{r:?}");
            }
        }
        // Of one atom and one channel: a matrix times a vector.
        let r = rotation(1);
        assert_eq!(rotated(&[0.0, 1.0, 0.0], 1, &r), [r[0][1], r[1][1], r[2][1]]);
    }

    #[test]
    fn right_kernels_have_the_properties_and_one_that_forgets_an_axis_has_not() {
        for dtype in Dtype::ALL {
            assert_eq!(checked(None, dtype), Ok(()));
            assert!(checked(Some(Mutation::AxisForgotten), dtype).is_err());
        }
    }
}
