//! A small random case of every variant of `fused_message`, and comparison by norm, for tests of what is built on kernels.

use ff_spec::fused_message::{Activation, FilterKind, Inputs, Message, Outputs, Reduction, Variant};

use crate::degrees::Degrees;
use crate::fused_message::{CaseSpec, Distances, random_inputs};
use crate::tolerance::norm;

/// Odd sizes, empty rows, and edges in the skin.
pub fn spec() -> CaseSpec {
    CaseSpec {
        n_atoms: 11,
        features: 7,
        n_basis: 5,
        hidden: 6,
        activation: Activation::ShiftedSoftplus,
        table_order: 2,
        table_nodes: 65,
        r_cut: 4.5,
        degrees: Degrees::EmptyRows(13),
        distances: Distances::Skin,
    }
}

/// Random inputs of a variant, the same on every call.
///
/// # Panics
/// Where the generator does not know the variant's radial functions.
pub fn case(spec: &CaseSpec, variant: &Variant) -> Inputs<f64> {
    random_inputs(spec, variant, 17).expect("a variant that was rendered")
}

/// Every message and filter with these radial functions.
pub fn variants(basis: &str, cutoff: &str, reduction: Reduction) -> Vec<Variant> {
    let radial = |filter| (filter != FilterKind::Tabulated).then(|| (basis.to_owned(), cutoff.to_owned()));
    Message::ALL
        .into_iter()
        .flat_map(|message| {
            FilterKind::ALL.map(|filter| Variant { message, filter, radial: radial(filter), reduction })
        })
        .collect()
}

/// Numbers of mixed sign and size.
pub fn numbers(n: usize, seed: usize) -> Vec<f64> {
    (0..n).map(|i| ((i * 7 + seed * 13) as f64 * 0.73).sin()).collect()
}

/// ‖found − expected‖ and ‖expected‖.
fn error_and_scale(found: &[f64], expected: &[f64]) -> (f64, f64) {
    assert_eq!(found.len(), expected.len());
    (norm(found.iter().zip(expected).map(|(a, b)| a - b)), norm(expected.iter().copied()))
}

/// Asserts that tensors agree by the gate's norm.
///
/// # Panics
/// Where they do not, where their lengths differ, and where `expected` is zero, which would tell nothing.
pub fn assert_agree(what: &str, found: &[f64], expected: &[f64], tolerance: f64) {
    let (error, scale) = error_and_scale(found, expected);
    assert!(scale > 0.0, "{what} tells nothing");
    assert!(error <= tolerance * scale, "{what}: {error:e} of {scale:e}");
}

/// The larger ‖found − expected‖/‖expected‖ of the two outputs; NaN where one is NaN.
///
/// # Panics
/// Where lengths differ.
pub fn distance(found: &Outputs<f64>, expected: &Outputs<f64>) -> f64 {
    let one = |found: &[f64], expected: &[f64]| {
        let (error, scale) = error_and_scale(found, expected);
        if error == 0.0 { 0.0 } else { error / scale }
    };
    let (nodes, vectors) = (one(&found.nodes, &expected.nodes), one(&found.vectors, &expected.vectors));
    if nodes.is_nan() || vectors.is_nan() { f64::NAN } else { nodes.max(vectors) }
}
