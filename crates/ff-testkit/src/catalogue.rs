//! The cases by id: what the gate, the tests and the benches look up by the same name.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;

use ff_reference::Oracle;
use ff_reference::fused_message::{ReferenceError, forward};
use ff_spec::fused_message::{Activation, Inputs, OP, Outputs, Reduction, Variant};
use ff_spec::{Dtype, FusedMessage};

use crate::gate::Gated;
use crate::generators::{CaseSpec, Degrees, Distances, random_inputs, rounded};
use crate::tensors::{ByTensors, tensors_of_spec};
use crate::tolerance::Order;

/// How many cases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CaseSet {
    /// A few small ones: seconds for all variants.
    Quick,
    /// Every one.
    Full,
}

/// One case: its shape depends on this alone, its values also on the seed.
#[derive(Clone, Debug, PartialEq)]
pub struct Case<S = CaseSpec> {
    /// Its name in results, the same for every variant.
    pub id: &'static str,
    /// Sizes and kind of randomness.
    pub spec: S,
    /// There is nothing to sum or to list, so this case cannot tell a kernel from one that does nothing.
    pub degenerate: bool,
}

impl<S> Case<S> {
    /// The same case with another spec.
    pub fn map<T>(self, change: impl FnOnce(S) -> T) -> Case<T> {
        Case { id: self.id, spec: change(self.spec), degenerate: self.degenerate }
    }
}

impl Case {
    /// Inputs for a variant, rounded to `dtype`.
    ///
    /// # Errors
    /// [`ReferenceError`] for radial functions that do not exist.
    pub fn inputs(&self, variant: &Variant, dtype: Dtype, seed: u64) -> Result<Inputs<f64>, ReferenceError> {
        Ok(rounded(&random_inputs(&self.spec, variant, seed)?, dtype))
    }
}

/// The cases of `fused_message` for a variant; empty for any other op.
///
/// Every family has the same cases. Sizes are such that one evaluation of the oracle stays near 10⁷ multiplications.
pub fn cases(op: &str, _variant: &Variant, set: CaseSet) -> Vec<Case> {
    if op != OP {
        return Vec::new();
    }
    let base = CaseSpec {
        n_atoms: 0,
        features: 8,
        n_basis: 6,
        hidden: 7,
        activation: Activation::ShiftedSoftplus,
        table_order: 2,
        table_nodes: 33,
        r_cut: 5.0,
        degrees: Degrees::Uniform(0),
        distances: Distances::Skin,
    };
    let case = |id, n_atoms, features, degrees, change: &dyn Fn(&mut CaseSpec)| {
        let mut spec = CaseSpec { n_atoms, features, degrees, ..base.clone() };
        change(&mut spec);
        let degenerate =
            spec.distances == Distances::Beyond || spec.degrees.rows(n_atoms).into_iter().sum::<usize>() == 0;
        Case { id, spec, degenerate }
    };
    let mut all = vec![
        case("small", 12, 8, Degrees::PowerLaw { max: 14, exponent: 0.7 }, &|_| {}),
        // Widths that no vector divides, rows without edges at both ends, every distance that is special.
        case("odd_boundary", 23, 17, Degrees::EmptyRows(13), &|s| {
            (s.n_basis, s.hidden, s.distances, s.r_cut) = (7, 11, Distances::Boundary, 4.7);
            (s.activation, s.table_order, s.table_nodes) = (Activation::Tanh, 3, 20);
        }),
        case("one_atom", 1, 33, Degrees::Uniform(9), &|s| (s.n_basis, s.distances) = (3, Distances::Inside)),
        case("no_edges", 5, 3, Degrees::Uniform(0), &|_| {}),
        case("wide", 14, 100, Degrees::Uniform(12), &|s| {
            (s.n_basis, s.hidden, s.table_order, s.table_nodes) = (20, 33, 3, 65);
        }),
    ];
    if set == CaseSet::Full {
        all.extend([
            case("no_atoms", 0, 8, Degrees::Uniform(0), &|_| {}),
            case("all_beyond", 9, 5, Degrees::Uniform(7), &|s| s.distances = Distances::Beyond),
            // One channel, one basis function, one hidden unit: every loop runs once.
            case("ones", 80, 1, Degrees::Uniform(6), &|s| (s.n_basis, s.hidden, s.table_nodes) = (1, 1, 2)),
            case("width_3", 60, 3, Degrees::EmptyRows(9), &|s| {
                (s.n_basis, s.hidden, s.distances) = (5, 3, Distances::Boundary);
            }),
            case("width_33", 40, 33, Degrees::PowerLaw { max: 60, exponent: 0.9 }, &|s| {
                (s.n_basis, s.hidden, s.activation, s.table_order) = (33, 31, Activation::Tanh, 3);
            }),
            case("many_basis", 30, 20, Degrees::Uniform(18), &|s| {
                (s.n_basis, s.hidden, s.table_order, s.table_nodes) = (50, 17, 3, 257);
            }),
            // More rows than any one cube or task takes, of a few edges each.
            case("many_rows", 1031, 4, Degrees::EmptyRows(3), &|s| s.n_basis = 5),
            case("long_row", 70, 7, Degrees::LongRow { long: 5000, short: 3 }, &|s| (s.n_basis, s.hidden) = (8, 9)),
            case("skewed", 120, 16, Degrees::PowerLaw { max: 2000, exponent: 1.5 }, &|s| {
                (s.n_basis, s.hidden, s.activation) = (16, 13, Activation::Tanh);
                s.table_order = 3;
            }),
            // The proportions of a liquid in a real model.
            case("liquid", 32, 128, Degrees::Uniform(50), &|s| {
                (s.n_basis, s.hidden, s.table_nodes) = (20, 64, 129);
            }),
        ]);
    }
    all
}

impl ByTensors for FusedMessage {
    type Spec = CaseSpec;
    type Error = ReferenceError;
    const TOLERANCE: Order = Order::Forward;

    fn cases(variant: &Variant, set: CaseSet) -> Vec<Case> {
        cases(OP, variant, set)
    }

    fn representative(variant: &Variant) -> Variant {
        Variant { reduction: Reduction::Receiver, ..variant.clone() }
    }

    fn inputs(spec: &CaseSpec, variant: &Variant, seed: u64) -> Result<Inputs<f64>, ReferenceError> {
        random_inputs(spec, variant, seed)
    }

    fn oracle(variant: &Variant, inputs: &Inputs<f64>) -> Result<Oracle<Outputs<f64>>, ReferenceError> {
        forward(variant, inputs)
    }

    fn same_bits(variant: &Variant) -> Option<&'static str> {
        (variant.reduction == Reduction::Receiver).then_some("receiver")
    }

    tensors_of_spec!(Inputs<f64>, inputs => *inputs);
}

/// Inputs with what the oracle says of them.
pub struct Evaluated<O: Gated = FusedMessage> {
    /// Rounded to the dtype.
    pub inputs: O::Inputs,
    /// Exact for those inputs.
    pub oracle: O::Oracle,
}

impl<O: Gated> fmt::Debug for Evaluated<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Evaluated").field("inputs", &self.inputs).field("oracle", &self.oracle).finish()
    }
}

/// Evaluations of the oracle, so that variants and runtimes share one.
///
/// Forgets the oldest beyond a limit of bytes.
#[derive(Debug)]
pub struct OracleCache<O: Gated = FusedMessage> {
    limit: usize,
    bytes: usize,
    known: BTreeMap<Key<O>, Arc<Evaluated<O>>>,
    oldest: VecDeque<Key<O>>,
}

/// The variant is [`Gated::representative`].
type Key<O> = (<O as ff_spec::Op>::Variant, &'static str, Dtype, u64);

impl<O: Gated> Default for OracleCache<O> {
    /// Holds 256 MiB.
    fn default() -> Self {
        Self::new(256 << 20)
    }
}

impl<O: Gated> OracleCache<O> {
    /// Holds up to `limit` bytes of tensors.
    pub fn new(limit: usize) -> Self {
        Self { limit, bytes: 0, known: BTreeMap::new(), oldest: VecDeque::new() }
    }

    /// The inputs of a case and the oracle's answer, computed where not known.
    ///
    /// # Errors
    /// [`Gated::Error`] for a variant that the oracle does not know.
    pub fn get(
        &mut self,
        case: &Case<O::Spec>,
        variant: &O::Variant,
        dtype: Dtype,
        seed: u64,
    ) -> Result<Arc<Evaluated<O>>, O::Error> {
        let key = (O::representative(variant), case.id, dtype, seed);
        if let Some(known) = self.known.get(&key) {
            return Ok(known.clone());
        }
        let evaluated = Arc::new(O::evaluate(case, variant, dtype, seed)?);
        self.bytes += O::bytes(&evaluated);
        self.oldest.push_back(key.clone());
        self.known.insert(key, evaluated.clone());
        while self.bytes > self.limit
            && let Some(oldest) = self.oldest.pop_front()
        {
            self.bytes -= self.known.remove(&oldest).map_or(0, |e| O::bytes(&e));
        }
        Ok(evaluated)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use ff_spec::fused_message::Filter;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::tensors::is_degenerate;
    use crate::tolerance::compare;

    fn variants() -> Vec<Variant> {
        [
            "cfconv_linear_gaussian_cosine_receiver",
            "painn_mlp_bessel_polynomial_receiver",
            "painn_tabulated_receiver",
            "cfconv_linear_expnorm_polynomial_edge_atomic",
        ]
        .map(|id| id.parse().unwrap())
        .to_vec()
    }

    #[test]
    fn ids_are_unique_and_quick_is_part_of_full() {
        let variant = &variants()[0];
        let (quick, full) = (cases(OP, variant, CaseSet::Quick), cases(OP, variant, CaseSet::Full));
        assert_eq!(full.iter().map(|c| c.id).collect::<BTreeSet<_>>().len(), full.len());
        assert!(quick.iter().all(|case| full.contains(case)));
        assert!(cases("no_such_op", variant, CaseSet::Full).is_empty());
    }

    #[test]
    fn every_case_is_what_its_flag_says() {
        let mut cache = <OracleCache>::default();
        for variant in variants() {
            for case in cases(OP, &variant, CaseSet::Full) {
                let evaluated = cache.get(&case, &variant, Dtype::F32, 0).unwrap();
                assert_eq!(
                    is_degenerate::<FusedMessage>(&evaluated.oracle),
                    case.degenerate,
                    "{} of {variant}",
                    case.id
                );
                let work =
                    evaluated.inputs.n_edges() * evaluated.inputs.channels() * case.spec.n_basis.max(case.spec.hidden);
                assert!(work < 50_000_000, "{}: {work} multiplications are too many for the oracle", case.id);
            }
        }
    }

    /// A kernel in f32 computes, at best, the exact result of inputs that are a rounding error away. Cases must leave it
    /// room: this is what the tolerances, the norm and the magnitudes are for.
    #[test]
    fn a_rounding_error_in_every_input_passes() {
        let mut cache = <OracleCache>::default();
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        for variant in variants() {
            for case in cases(OP, &variant, CaseSet::Full) {
                let evaluated = cache.get(&case, &variant, Dtype::F32, 0).unwrap();
                let mut inputs = evaluated.inputs.clone();
                let mut perturb = |values: &mut Vec<f64>| {
                    let epsilon = f64::from(f32::EPSILON);
                    values.iter_mut().for_each(|x| *x *= 1.0 + epsilon * rng.random_range(-1.0..1.0));
                };
                perturb(&mut inputs.edge_vec);
                perturb(&mut inputs.nodes);
                perturb(&mut inputs.vectors);
                inputs.radial.basis.values_mut().for_each(&mut perturb);
                match &mut inputs.filter {
                    Filter::Linear { a, b } => [a, b].into_iter().for_each(perturb),
                    Filter::Mlp { a1, b1, a2, b2, .. } => [a1, b1, a2, b2].into_iter().for_each(perturb),
                    Filter::Tabulated { values, .. } => perturb(values),
                }
                let out = forward(&variant, &inputs).unwrap().outputs;
                let Oracle { outputs, magnitude } = &evaluated.oracle;
                for (out, reference, magnitude) in [
                    (&out.nodes, &outputs.nodes, &magnitude.nodes),
                    (&out.vectors, &outputs.vectors, &magnitude.vectors),
                ] {
                    let found = compare(Dtype::F32, Order::Forward, out, reference, magnitude);
                    assert!(found.passed, "{} of {variant}: {found:?}", case.id);
                    // Kernels round more than once: a case that leaves less than this is unfair.
                    assert!(found.rel_error < 2e-6, "{} of {variant}: {found:?}", case.id);
                }
            }
        }
    }

    #[test]
    fn reductions_share_an_evaluation_and_the_limit_holds() {
        let a: Variant = "cfconv_linear_gaussian_cosine_receiver".parse().unwrap();
        let b: Variant = "cfconv_linear_gaussian_cosine_edge_atomic".parse().unwrap();
        let case = &cases(OP, &a, CaseSet::Quick)[0];
        let mut cache = <OracleCache>::default();
        let first = cache.get(case, &a, Dtype::F32, 0).unwrap();
        assert!(Arc::ptr_eq(&first, &cache.get(case, &b, Dtype::F32, 0).unwrap()));
        assert!(!Arc::ptr_eq(&first, &cache.get(case, &b, Dtype::F64, 0).unwrap()));
        let mut small = OracleCache::<FusedMessage>::new(FusedMessage::bytes(&first));
        for seed in 0..4 {
            small.get(case, &a, Dtype::F32, seed).unwrap();
        }
        assert_eq!((small.known.len(), small.oldest.len(), small.bytes), (1, 1, FusedMessage::bytes(&first)));
    }
}
