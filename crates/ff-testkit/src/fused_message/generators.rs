//! Random inputs, reproducible from a seed; [`super::strategies`] has them for property tests.
//!
//! Shapes come from a [`CaseSpec`] alone and never from the seed. A gate over several seeds therefore runs launches of
//! the same shape and different values one after the other, so that a kernel reading what an earlier launch left in a
//! reused buffer is wrong on all seeds but the first.

use std::collections::BTreeMap;
use std::f64::consts::TAU;

use ff_reference::fused_message::{FilterFunction, ReferenceError};
use ff_reference::radial::{RadialKind, default_parameters};
use ff_spec::fused_message::{Activation, Filter, FilterKind, Inputs, Message, Radial, Variant};
use ff_spec::{Dtype, FusedMessage};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::degrees::Degrees;
use crate::tensors::ByTensors;

/// How long the edges are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distances {
    /// Uniform over [0.1, 1) r_c.
    Inside,
    /// Uniform over [0.1, 1.2) r_c, as in a list with a skin.
    Skin,
    /// Every second edge is special, in turn: 10⁻⁶ Å, exactly 0, just below, exactly at and just above r_c, 1.2 r_c.
    Boundary,
    /// Uniform over [1, 1.2) r_c: no edge contributes.
    Beyond,
}

/// The sizes and the kind of randomness of some inputs, for any variant.
#[derive(Clone, Debug, PartialEq)]
pub struct CaseSpec {
    /// Atoms.
    pub n_atoms: usize,
    /// Feature width F.
    pub features: usize,
    /// Radial basis functions K (of a tabulated filter: of the filter that is sampled).
    pub n_basis: usize,
    /// Hidden width H of an mlp filter.
    pub hidden: usize,
    /// σ of an mlp filter.
    pub activation: Activation,
    /// Derivatives per node of a tabulated filter: 2 cubic, 3 quintic.
    pub table_order: usize,
    /// Nodes of a tabulated filter.
    pub table_nodes: usize,
    /// Cutoff radius r_c in Å.
    pub r_cut: f64,
    /// Edges per row.
    pub degrees: Degrees,
    /// Lengths of the edges.
    pub distances: Distances,
}

/// Random inputs of the sizes of `spec` for `variant`.
///
/// Features are uniform over [−1, 1), weights have variance 1/fan-in. Radial parameters are the defaults moved by up to
/// 3 %, so that a kernel which does not read them is wrong. Senders ascend within a row and may repeat, as images of
/// one atom do; with one atom every edge is a self edge.
///
/// # Errors
/// [`ReferenceError`] for radial functions that do not exist.
pub fn random_inputs(spec: &CaseSpec, variant: &Variant, seed: u64) -> Result<Inputs<f64>, ReferenceError> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let channels = variant.message.parts() * spec.features;
    let mut row_ptr = vec![0];
    let mut sender = Vec::new();
    for degree in spec.degrees.rows(spec.n_atoms) {
        let start = sender.len();
        sender.extend((0..degree).map(|_| rng.random_range(0..spec.n_atoms as u32)));
        sender[start..].sort_unstable();
        row_ptr.push(sender.len() as u32);
    }
    let edge_vec = (0..sender.len()).flat_map(|e| edge_vector(&mut rng, spec, e)).collect();
    let mut uniform =
        |n: usize, scale: f64| -> Vec<f64> { (0..n).map(|_| scale * rng.random_range(-1.0..1.0)).collect() };
    let nodes = uniform(spec.n_atoms * channels, 1.0);
    let vectors = match variant.message {
        Message::Cfconv => Vec::new(),
        Message::Painn => uniform(spec.n_atoms * 3 * spec.features, 1.0),
    };
    // A uniform distribution over [−s, s) has variance s²/3.
    let fan_in = |n: usize| (3.0 / n.max(1) as f64).sqrt();
    let (k, h) = (spec.n_basis, spec.hidden);
    let filter = match variant.filter {
        FilterKind::Mlp => Filter::Mlp {
            hidden: h,
            a1: uniform(k * h, fan_in(k)),
            b1: uniform(h, 0.5),
            a2: uniform(h * channels, fan_in(h)),
            b2: uniform(channels, 0.5),
            activation: spec.activation,
        },
        FilterKind::Linear | FilterKind::Tabulated => {
            Filter::Linear { a: uniform(k * channels, fan_in(k)), b: uniform(channels, 0.5) }
        }
    };
    let (basis, cutoff) = match &variant.radial {
        Some((basis, cutoff)) => (basis.as_str(), cutoff.as_str()),
        // What a tabulated filter is sampled from.
        None => ("gaussian", "cosine"),
    };
    let mut parameters = |name, kind| -> Result<BTreeMap<String, Vec<f64>>, ReferenceError> {
        let mut parameters = default_parameters(name, kind, spec.r_cut, k)?;
        for value in parameters.values_mut().flatten() {
            *value *= 1.0 + uniform(1, 0.03)[0];
        }
        Ok(parameters)
    };
    let mut inputs = Inputs {
        message: variant.message,
        n_atoms: spec.n_atoms,
        features: spec.features,
        row_ptr,
        sender,
        edge_vec,
        nodes,
        vectors,
        radial: Radial {
            r_cut: spec.r_cut,
            n_basis: k,
            basis: parameters(basis, RadialKind::Basis)?,
            cutoff: parameters(cutoff, RadialKind::Cutoff)?,
        },
        filter,
    };
    if variant.filter == FilterKind::Tabulated {
        inputs.filter = sampled(&inputs, (basis, cutoff), spec.table_order, spec.table_nodes)?;
        inputs.radial = Radial { r_cut: spec.r_cut, n_basis: 0, ..Radial::default() };
    }
    Ok(inputs)
}

/// One edge vector in Å.
fn edge_vector(rng: &mut ChaCha8Rng, spec: &CaseSpec, edge: usize) -> [f64; 3] {
    let r_c = spec.r_cut;
    // Every edge takes the same draws whatever its kind, so that no edge moves the values of the next.
    let z: f64 = rng.random_range(-1.0..1.0);
    let (y, x) = rng.random_range(0.0..TAU).sin_cos();
    let place: f64 = rng.random_range(0.0..1.0);
    let rho = (1.0 - z * z).sqrt();
    let scaled = |d: f64| [d * rho * x, d * rho * y, d * z];
    match spec.distances {
        Distances::Inside => scaled(r_c * (0.1 + 0.9 * place)),
        Distances::Skin => scaled(r_c * (0.1 + 1.1 * place)),
        Distances::Beyond => scaled(r_c * (1.0 + 1e-6 + 0.2 * place)),
        Distances::Boundary if edge.is_multiple_of(2) => scaled(r_c * (0.1 + 0.9 * place)),
        Distances::Boundary => {
            // Along an axis √(d²) is d to the last bit in every dtype, which is what puts it exactly at r_c.
            let special = [1e-6, 0.0, r_c * (1.0 - 1e-7), r_c, r_c * (1.0 + 1e-7), r_c * 1.2];
            let mut vector = [0.0; 3];
            vector[(edge / 2) % 3] = special[(edge / 2) % special.len()] * if place < 0.5 { -1.0 } else { 1.0 };
            vector
        }
    }
}

/// The filter of `inputs` as a table: W and its derivatives on a uniform grid over [0, r_c].
///
/// # Errors
/// [`ReferenceError`] for malformed inputs and radial functions that do not fit them.
pub fn sampled(
    inputs: &Inputs<f64>,
    (basis, cutoff): (&str, &str),
    order: usize,
    n_nodes: usize,
) -> Result<Filter<f64>, ReferenceError> {
    let function = FilterFunction::new(inputs, Some((basis, cutoff)))?;
    let mut values = Vec::with_capacity(n_nodes * order * inputs.channels());
    for n in 0..n_nodes {
        // The last node is r_c itself, not a rounding error beyond it.
        let d =
            if n + 1 == n_nodes { inputs.radial.r_cut } else { inputs.radial.r_cut * n as f64 / (n_nodes - 1) as f64 };
        let jets = function.jet(d);
        for derivative in 0..order {
            values.extend(jets.iter().map(|w| w[derivative]));
        }
    }
    Ok(Filter::Tabulated { order, n_nodes, values })
}

/// The inputs as a kernel of `dtype` sees them: rounded to nearest and widened again. The oracle gets the same.
pub fn rounded(inputs: &Inputs<f64>, dtype: Dtype) -> Inputs<f64> {
    FusedMessage::rounded(inputs, dtype)
}

#[cfg(test)]
mod tests {
    use ff_spec::fused_message::Reduction;

    use super::*;

    fn spec() -> CaseSpec {
        CaseSpec {
            n_atoms: 9,
            features: 3,
            n_basis: 4,
            hidden: 5,
            activation: Activation::Tanh,
            table_order: 3,
            table_nodes: 12,
            r_cut: 4.7,
            degrees: Degrees::PowerLaw { max: 40, exponent: 1.2 },
            distances: Distances::Boundary,
        }
    }

    fn variant(filter: FilterKind) -> Variant {
        let radial = (filter != FilterKind::Tabulated).then(|| ("expnorm".to_owned(), "polynomial".to_owned()));
        Variant { message: Message::Painn, filter, radial, reduction: Reduction::Receiver }
    }

    #[test]
    fn a_seed_says_it_all_and_shapes_are_the_same_for_every_seed() {
        for filter in FilterKind::ALL {
            let variant = variant(filter);
            let build = |seed| random_inputs(&spec(), &variant, seed).unwrap();
            assert_eq!(build(1), build(1));
            let (a, b) = (build(1), build(2));
            assert_ne!(a.nodes, b.nodes);
            assert_eq!(a.row_ptr, b.row_ptr);
            let shapes = |i: &Inputs<f64>| i.tensors().into_iter().map(|(n, s, _)| (n, s)).collect::<Vec<_>>();
            assert_eq!(shapes(&a), shapes(&b));
            a.check().unwrap();
            a.check_variant(&variant).unwrap();
        }
    }

    #[test]
    fn special_distances_survive_rounding() {
        for dtype in Dtype::ALL {
            let inputs = rounded(&random_inputs(&spec(), &variant(FilterKind::Linear), 3).unwrap(), dtype);
            let lengths: Vec<f64> =
                inputs.edge_vec.chunks(3).map(|r| (r[0] * r[0] + r[1] * r[1] + r[2] * r[2]).sqrt()).collect();
            let r_c = inputs.radial.r_cut;
            assert!(lengths.contains(&0.0));
            assert!(lengths.contains(&r_c), "{dtype}: none exactly at r_c");
            assert!(lengths.iter().any(|d| *d > 0.0 && *d < 2e-6));
            assert!(lengths.iter().any(|d| *d > r_c && *d < r_c * 1.000_001));
            assert!(lengths.iter().any(|d| *d < r_c && *d > r_c * 0.999_999));
        }
    }

    #[test]
    fn rows_are_sorted_and_degrees_are_what_they_say() {
        let inputs = random_inputs(&spec(), &variant(FilterKind::Linear), 0).unwrap();
        for row in inputs.row_ptr.windows(2) {
            assert!(inputs.sender[row[0] as usize..row[1] as usize].is_sorted());
        }
        assert_eq!(inputs.max_degree(), 40);
        assert_eq!(Degrees::EmptyRows(2).rows(5), [0, 2, 2, 0, 0]);
        assert_eq!(Degrees::LongRow { long: 9, short: 1 }.rows(3), [1, 9, 1]);
    }
}
