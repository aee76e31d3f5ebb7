//! The [`Verifier`] that tuning uses: the gate of ff-testkit on its catalogue, and on the problem itself.

use std::collections::BTreeSet;
use std::time::Duration;

use ff_spec::{Dtype, Launch, LaunchConfig, LaunchError, Prepare};
use ff_tables::Evidence;
use ff_testkit::catalogue::{CaseSet, OracleCache};
use ff_testkit::gate::{self, MIN_SEEDS, check_launch};

use crate::op::{Rows, Tuned};
use crate::records::Verdict;
use crate::verify::Verifier;
use crate::workbench::Failure;

/// Multiplications that the oracle may spend on one problem: about a tenth of a second. A larger problem is compared on
/// some of its rows, spread over all of them.
const ORACLE_WORK: usize = 100_000_000;

/// Gates on the catalogue's cases and on the problem at hand.
///
/// On a problem that is too large for the scalar oracle, rows spread over the whole range are compared with the oracle:
/// the first, the last, the longest where it is known, and as many between as take about a tenth of a second. All rows are compared with
/// those of the first configuration that passed: messages by their sums, lists to the last bit.
pub struct GateVerifier<O: Tuned> {
    set: CaseSet,
    cache: OracleCache<O>,
    work: usize,
    problem: Option<Reference<O>>,
}

/// What the problem's outputs are compared with.
struct Reference<O: Tuned> {
    variant: O::Variant,
    dtype: Dtype,
    /// Rows that the oracle computed; `None` for all.
    rows: Option<Rows>,
    /// The oracle's outputs in these rows.
    oracle: O::Oracle,
    /// Of the first configuration that passed.
    trace: Option<O::Trace>,
}

impl<O: Tuned> GateVerifier<O> {
    /// A verifier for a set of the catalogue's cases.
    pub fn new(set: CaseSet) -> Self {
        Self { set, cache: OracleCache::default(), work: ORACLE_WORK, problem: None }
    }

    /// The gate of a prepared launch on the problem that was announced last: ‖out − ref‖/‖ref‖ and max |out − ref|.
    ///
    /// # Errors
    /// [`gate::Failure`].
    pub fn judge(&mut self, launch: &mut dyn Launch<O>) -> Result<(f64, f64), gate::Failure> {
        let Some(reference) = &mut self.problem else {
            return Err(gate::Failure::wrong("no problem was announced"));
        };
        let (variant, dtype, oracle) = (&reference.variant, reference.dtype, &reference.oracle);
        let Some(rows) = &reference.rows else {
            return check_launch(launch, variant, dtype, oracle).into_result();
        };
        let mut sampled = Sampled { launch, rows, trace: None };
        let errors = check_launch(&mut sampled, variant, dtype, oracle).into_result();
        let errors = errors.map_err(|failure| match failure {
            gate::Failure::Wrong { reason, errors } => {
                gate::Failure::Wrong { reason: format!("in sampled rows: {reason}"), errors }
            }
            fault => fault,
        })?;
        match (sampled.trace, &reference.trace) {
            (Some(found), Some(expected)) => O::alike(&found, expected, dtype).map_err(gate::Failure::wrong)?,
            (found, _) => reference.trace = found,
        }
        Ok(errors)
    }
}

impl<O: Tuned> Default for GateVerifier<O> {
    /// Quick cases: every configuration is gated on them.
    fn default() -> Self {
        Self::new(CaseSet::Quick)
    }
}

impl<O: Tuned> Verifier<O> for GateVerifier<O> {
    fn begin(&mut self, variant: &O::Variant, dtype: Dtype, inputs: &O::Inputs) -> Result<(), String> {
        self.problem = None;
        let (oracle, rows) = O::reference(variant, inputs, dtype, self.work)?;
        self.problem = Some(Reference { variant: variant.clone(), dtype, rows, oracle, trace: None });
        Ok(())
    }

    fn check(
        &mut self,
        runtime: &dyn Prepare<O>,
        variant: &O::Variant,
        dtype: Dtype,
        config: &LaunchConfig,
    ) -> Result<Evidence, Failure> {
        let mut evidence = Evidence::default();
        let mut telling = BTreeSet::new();
        let mut refused = String::new();
        for case in O::cases(variant, self.set) {
            for seed in 0..MIN_SEEDS as u64 {
                let evaluated =
                    self.cache.get(&case, variant, dtype, seed).map_err(|e| wrong(format!("oracle: {e}")))?;
                let place = format!("case `{}`, seed {seed}: ", case.id);
                let verdict = match runtime.prepare(variant, dtype, &evaluated.inputs, config) {
                    Ok(mut launch) => check_launch(launch.as_mut(), variant, dtype, &evaluated.oracle),
                    // Not every configuration fits every odd width of the catalogue.
                    Err(LaunchError::Constraint(reason)) => {
                        refused = format!("case `{}`: {reason}", case.id);
                        continue;
                    }
                    Err(error) => return Err(error.into()),
                };
                let (rel_error, max_abs_error) = verdict.into_result().map_err(|failure| {
                    let failure = Failure::from(failure).placed(&place);
                    let evidence = failure.evidence.map(|evidence| Evidence { seeds: vec![seed], ..evidence });
                    Failure { evidence, ..failure }
                })?;
                if !case.degenerate {
                    telling.insert(seed);
                }
                evidence = evidence.and(&Evidence { rel_error, max_abs_error, cases: 1, seeds: vec![seed] });
            }
        }
        if telling.len() < MIN_SEEDS {
            return Err(wrong(format!("no case of the catalogue fits this configuration; {refused}")));
        }
        Ok(evidence)
    }

    fn recheck(&mut self, launch: &mut dyn Launch<O>) -> Result<Evidence, Failure> {
        let (rel_error, max_abs_error) = self.judge(launch)?;
        Ok(Evidence { rel_error, max_abs_error, cases: 1, seeds: Vec::new() })
    }
}

fn wrong(reason: String) -> Failure {
    Failure::new(Verdict::Correctness, reason)
}

/// A launch of which only some rows are looked at closely; of the others a trace is kept.
struct Sampled<'a, O: Tuned> {
    launch: &'a mut dyn Launch<O>,
    rows: &'a Rows,
    trace: Option<O::Trace>,
}

impl<O: Tuned> Launch<O> for Sampled<'_, O> {
    fn poison(&mut self) -> Result<(), LaunchError> {
        self.launch.poison()
    }

    fn run(&mut self) -> Result<(), LaunchError> {
        self.launch.run()
    }

    fn time(&mut self) -> Result<Duration, LaunchError> {
        self.launch.time()
    }

    fn outputs(&mut self) -> Result<O::Outputs, LaunchError> {
        let (sampled, trace) = O::sampled(self.launch.outputs()?, self.rows);
        self.trace = Some(trace);
        Ok(sampled)
    }

    fn input_digest(&mut self) -> Result<u64, LaunchError> {
        self.launch.input_digest()
    }
}

#[cfg(test)]
mod tests {
    use ff_reference::Oracle;
    use ff_reference::fused_message::forward;
    use ff_spec::cell_list::{self, NeighborList};
    use ff_spec::fused_message::{BackwardInputs, DoubleBackwardInputs, Inputs, Variant, Wanted};
    use ff_spec::{
        CellList, ForceScatter, ForceScatterBackward, ForceScatterDoubleBackward, FusedMessage, FusedMessageBackward,
        FusedMessageDoubleBackward, force_scatter,
    };
    use ff_tables::gate_tolerance;
    use ff_testkit::cell_list::mutants::{self as lists, ScalarLists};
    use ff_testkit::force_scatter as scatters;
    use ff_testkit::fused_message::gradients::{mutants as gradients, random_tangent, sparse_cotangents};
    use ff_testkit::fused_message::mutants::{MutantRuntime, Mutation};
    use ff_testkit::gate::Gated;
    use ff_testkit::played::Played;
    use ff_testkit::tolerance::{Order, tolerance};

    use super::*;
    use crate::ops::gather;

    #[test]
    fn tables_judge_by_the_tolerance_of_the_gate() {
        for (dtype, order) in
            Dtype::ALL.into_iter().flat_map(|d| [Order::Forward, Order::First, Order::Second].map(|o| (d, o)))
        {
            assert_eq!(gate_tolerance(dtype, order.number()), tolerance(dtype, order));
        }
    }

    fn case_inputs(variant: &Variant, id: &str) -> Inputs<f64> {
        let case =
            FusedMessage::cases(variant, CaseSet::Full).into_iter().find(|c| c.id == id).expect("in the catalogue");
        case.inputs(variant, Dtype::F64, 5).expect("known radial functions")
    }

    #[test]
    fn right_kernels_pass_whole_and_sampled() {
        let runtime = MutantRuntime::new(None);
        for id in ["painn_linear_gaussian_cosine_receiver", "cfconv_linear_bessel_polynomial_receiver"] {
            let variant: Variant = id.parse().expect("a variant");
            let inputs = case_inputs(&variant, "many_rows");
            for work in [ORACLE_WORK, 20_000] {
                for dtype in Dtype::ALL {
                    let mut verifier = GateVerifier::<FusedMessage> { work, ..GateVerifier::default() };
                    verifier.begin(&variant, dtype, &inputs).expect("a reference");
                    let sampled = verifier.problem.as_ref().and_then(|p| p.rows.as_ref());
                    assert_eq!(sampled.is_some(), work < ORACLE_WORK);
                    assert!(
                        sampled.is_none_or(|rows| rows.sampled.len() > 3 && rows.sampled.len() < inputs.n_atoms / 2)
                    );
                    let config = LaunchConfig::default();
                    let evidence = verifier.check(&runtime, &variant, dtype, &config).expect("right");
                    assert_eq!(evidence.seeds.len(), MIN_SEEDS);
                    let mut launch = runtime.prepare(&variant, dtype, &inputs, &config).expect("prepared");
                    for _ in 0..2 {
                        let evidence = verifier.recheck(launch.as_mut()).expect("right");
                        assert!(evidence.rel_error <= gate_tolerance(dtype, 0));
                    }
                }
            }
        }
    }

    /// What the verifier says of a right kernel and of one with a fault, on a problem of this size.
    fn judged<O: Tuned>(
        [right, wrong]: [&dyn Prepare<O>; 2],
        variant: &O::Variant,
        inputs: &O::Inputs,
        work: usize,
        sampled: bool,
    ) {
        for dtype in Dtype::ALL {
            let mut verifier = GateVerifier::<O> { work, ..GateVerifier::default() };
            verifier.begin(variant, dtype, inputs).expect("a reference");
            assert_eq!(verifier.problem.as_ref().is_some_and(|p| p.rows.is_some()), sampled);
            let config = LaunchConfig::default();
            let mut launch = |runtime: &dyn Prepare<O>| {
                let mut launch = runtime.prepare(variant, dtype, inputs, &config).expect("prepared");
                verifier.recheck(launch.as_mut())
            };
            for _ in 0..2 {
                assert!(launch(right).expect("right").rel_error <= gate_tolerance(dtype, O::ORDER));
            }
            let found = launch(wrong);
            assert!(
                matches!(found, Err(Failure { verdict: Verdict::Correctness, .. })),
                "order {} in {dtype}: {found:?}",
                O::ORDER
            );
            if work < ORACLE_WORK {
                return;
            }
            assert!(verifier.check(right, variant, dtype, &config).is_ok());
            assert!(verifier.check(wrong, variant, dtype, &config).is_err());
        }
    }

    #[test]
    fn backwards_are_judged_by_few_receivers_and_all_edges() {
        let variant: Variant = "painn_linear_gaussian_cosine_receiver".parse().expect("a variant");
        let inputs = case_inputs(&variant, "many_rows");
        let grad = sparse_cotangents(&inputs, 5, 8);
        let given = grad.nodes.iter().filter(|g| **g != 0.0).count() / inputs.features;
        assert!((2..=8).contains(&given), "{given} receivers");
        let tangent = random_tangent(&inputs, false, 5);
        let first = BackwardInputs { inputs: inputs.clone(), grad: grad.clone(), wanted: Wanted::INPUTS };
        let second = DoubleBackwardInputs { inputs, grad, tangent };
        let right = gradients::MutantRuntime::new(None);
        let wrong = gradients::MutantRuntime::new(Some(gradients::Mutation::EdgeSign));
        for work in [ORACLE_WORK, 20_000] {
            judged::<FusedMessageBackward>([&right, &wrong], &variant, &first, work, false);
            judged::<FusedMessageDoubleBackward>([&right, &wrong], &variant, &second, work, work < ORACLE_WORK);
        }
    }

    #[test]
    fn scatters_are_judged_whole() {
        let right = scatters::mutants::MutantRuntime::new(None);
        let wrong = scatters::mutants::MutantRuntime::new(Some(scatters::mutants::Mutation::SenderSign));
        let case = scatters::cases(CaseSet::Full).into_iter().find(|c| c.id == "liquid").expect("in the catalogue");
        let inputs = scatters::random_inputs(&case.spec, 5);
        let (grad, tangent) = (scatters::random_cotangents(&inputs, 5), scatters::random_tangent(&inputs, 5));
        let first = force_scatter::BackwardInputs { inputs: inputs.clone(), grad: grad.clone() };
        let second = force_scatter::DoubleBackwardInputs { inputs: inputs.clone(), grad, tangent };
        for reduction in force_scatter::Reduction::ALL {
            let variant = force_scatter::Variant { reduction };
            judged::<ForceScatter>([&right, &wrong], &variant, &inputs, ORACLE_WORK, false);
            judged::<ForceScatterBackward>([&right, &wrong], &variant, &first, ORACLE_WORK, false);
            judged::<ForceScatterDoubleBackward>([&right, &wrong], &variant, &second, ORACLE_WORK, false);
        }
    }

    #[test]
    fn mutants_do_not_pass() {
        let variant: Variant = "painn_linear_gaussian_cosine_receiver".parse().expect("a variant");
        for mutation in Mutation::ALL {
            let mut verifier = GateVerifier::<FusedMessage>::default();
            let runtime = MutantRuntime::new(Some(mutation));
            let found = verifier.check(&runtime, &variant, Dtype::F32, &LaunchConfig::default());
            assert!(
                matches!(found, Err(Failure { verdict: Verdict::Correctness, .. })),
                "{mutation:?} passed: {found:?}"
            );
        }
    }

    #[test]
    fn a_fault_outside_the_sampled_rows_shows() {
        let variant: Variant = "cfconv_linear_gaussian_cosine_receiver".parse().expect("a variant");
        let inputs = case_inputs(&variant, "many_rows");
        let outputs = forward(&variant, &inputs).expect("right").outputs;
        let mut verifier = GateVerifier::<FusedMessage> { work: 1000, ..GateVerifier::default() };
        verifier.begin(&variant, Dtype::F64, &inputs).expect("a reference");
        // Row 0 is always sampled; take it out so that the fault lies outside.
        let reference = verifier.problem.as_mut().expect("announced");
        let mut rows = reference.rows.take().expect("sampled");
        rows.sampled.retain(|row| *row != 0);
        let oracle = forward(&variant, &inputs).expect("right");
        reference.oracle =
            Oracle { outputs: gather(&oracle.outputs, &rows), magnitude: gather(&oracle.magnitude, &rows) };
        reference.rows = Some(rows);
        let launch = |value| {
            let mut outputs = outputs.clone();
            outputs.nodes[0] = value;
            Played::<FusedMessage>::on(inputs.clone(), outputs, false)
        };
        assert!(verifier.recheck(&mut launch(f64::NAN)).is_err());
        verifier.recheck(&mut launch(outputs.nodes[0])).expect("right");
        assert!(verifier.recheck(&mut launch(outputs.nodes[0] + 1.0)).is_err());
    }

    fn list_inputs(id: &str) -> cell_list::Inputs<f64> {
        let variant: cell_list::Variant = "full_cells".parse().expect("a variant");
        let case = CellList::cases(&variant, CaseSet::Full).into_iter().find(|c| c.id == id).expect("in the catalogue");
        CellList::evaluate(&case, &variant, Dtype::F64, 5).expect("a list").inputs
    }

    #[test]
    fn right_lists_pass_whole_and_sampled() {
        let (runtime, inputs, config) = (ScalarLists::default(), list_inputs("ragged"), LaunchConfig::default());
        for id in ["full_cells", "half_brute"] {
            let variant: cell_list::Variant = id.parse().expect("a variant");
            for (work, dtype) in [(ORACLE_WORK, Dtype::F32), (400_000, Dtype::F32), (400_000, Dtype::F64)] {
                let mut verifier = GateVerifier::<CellList> { work, ..GateVerifier::default() };
                verifier.begin(&variant, dtype, &inputs).expect("a reference");
                let sampled = verifier.problem.as_ref().and_then(|p| p.rows.as_ref());
                assert_eq!(sampled.is_some(), work < ORACLE_WORK);
                assert!(sampled.is_none_or(|rows| rows.sampled.len() > 3 && rows.sampled.len() < rows.n_atoms / 2));
                let evidence = verifier.check(&runtime, &variant, dtype, &config).expect("right");
                assert_eq!(evidence.seeds.len(), MIN_SEEDS);
                let mut launch = runtime.prepare(&variant, dtype, &inputs, &config).expect("prepared");
                for _ in 0..2 {
                    let evidence = verifier.recheck(launch.as_mut()).expect("right");
                    assert!(evidence.rel_error <= gate_tolerance(dtype, 0));
                }
            }
        }
    }

    #[test]
    fn mutants_of_lists_do_not_pass() {
        for id in ["full_cells", "half_cells"] {
            let variant: cell_list::Variant = id.parse().expect("a variant");
            let mut verifier = GateVerifier::<CellList>::default();
            for mutation in lists::Mutation::ALL.into_iter().filter(|m| m.concerns(variant.list)) {
                let runtime = lists::mutate(Box::new(ScalarLists::default()), mutation);
                let found = verifier.check(runtime.as_ref(), &variant, Dtype::F32, &LaunchConfig::default());
                assert!(
                    matches!(found, Err(Failure { verdict: Verdict::Correctness, .. })),
                    "{mutation:?} of {id} passed: {found:?}"
                );
            }
        }
    }

    #[test]
    fn a_fault_of_a_list_outside_the_sampled_rows_shows() {
        let inputs = list_inputs("liquid");
        for id in ["full_cells", "half_cells"] {
            let variant: cell_list::Variant = id.parse().expect("a variant");
            let right = lists::scalar_list(&inputs, variant.list, Dtype::F64).expect("a list");
            let mut verifier = GateVerifier::<CellList> { work: 200_000, ..GateVerifier::default() };
            verifier.begin(&variant, Dtype::F64, &inputs).expect("a reference");
            let reference = verifier.problem.as_ref().expect("announced");
            let rows = reference.rows.as_ref().expect("sampled");
            let pair = lists::edges(&right)
                .into_iter()
                .find(|edge| [edge.receiver, edge.sender].iter().all(|atom| !rows.sampled.contains(&(*atom as usize))));
            let pair = pair.expect("a pair that nobody looks at");
            let of_pair = |edge: &lists::Edge| edge.key() == pair.key() || edge.key() == pair.reverse().key();
            let altered = |change: &dyn Fn(lists::Edge) -> Option<lists::Edge>| {
                let all = lists::edges(&right).into_iter();
                let edges = all.filter_map(|edge| if of_pair(&edge) { change(edge) } else { Some(edge) });
                let list = lists::assembled(inputs.n_atoms(), edges.collect());
                Played::<CellList>::new(NeighborList::default(), vec![list])
            };
            let whole = |edge| Some(edge);
            let missing = |_| None;
            let nan = |edge| Some(lists::Edge { vector: [f64::NAN; 3], ..edge });
            let last_bit =
                |edge: lists::Edge| Some(lists::Edge { vector: edge.vector.map(|x| x * (1.0 + f64::EPSILON)), ..edge });
            assert!(verifier.recheck(&mut altered(&nan)).is_err(), "even of the first");
            verifier.recheck(&mut altered(&whole)).expect("right");
            for wrong in [&missing as &dyn Fn(_) -> _, &nan, &last_bit] {
                assert!(verifier.recheck(&mut altered(wrong)).is_err());
            }
            verifier.recheck(&mut altered(&whole)).expect("still right");
        }
    }
}
