//! The [`Verifier`] that tuning uses: the gate of ff-testkit on its catalogue, and on the problem itself.

use std::collections::BTreeSet;
use std::time::Duration;

use ff_reference::fused_message::{Oracle, forward};
use ff_spec::fused_message::{Filter, Inputs, OP, Outputs, Variant};
use ff_spec::{Dtype, Launch, LaunchConfig, LaunchError, Prepare};
use ff_tables::{Evidence, gate_tolerance};
use ff_testkit::catalogue::{CaseSet, OracleCache, cases};
use ff_testkit::gate::{MIN_SEEDS, Verdict, check_launch};
use ff_testkit::generators::rounded;

use crate::verify::{Refusal, Verifier};

/// Multiplications that the oracle may spend on one problem: about a tenth of a second. A larger problem is compared on
/// some of its rows, spread over all of them.
const ORACLE_WORK: usize = 100_000_000;

/// Gates on the catalogue's cases and on the problem at hand.
///
/// On a problem that is too large for the scalar oracle, rows spread over the whole range are compared with the oracle:
/// the first, the last, the longest, and as many between as take about a tenth of a second. All rows are compared, by their sums,
/// with those of the first configuration that passed.
pub struct GateVerifier {
    set: CaseSet,
    cache: OracleCache,
    work: usize,
    problem: Option<Reference>,
}

/// What the problem's outputs are compared with.
struct Reference {
    variant: Variant,
    dtype: Dtype,
    /// Rows that the oracle computed; `None` for all.
    rows: Option<Vec<usize>>,
    /// The oracle's outputs in these rows.
    oracle: Oracle,
    /// Atoms of the problem.
    n_atoms: usize,
    /// The sum and the sum of magnitudes of every row, of the first configuration that passed.
    sums: Option<Vec<[f64; 2]>>,
}

impl GateVerifier {
    /// A verifier for a set of the catalogue's cases.
    pub fn new(set: CaseSet) -> Self {
        Self { set, cache: OracleCache::default(), work: ORACLE_WORK, problem: None }
    }
}

impl Default for GateVerifier {
    /// Quick cases: every configuration is gated on them.
    fn default() -> Self {
        Self::new(CaseSet::Quick)
    }
}

impl Verifier for GateVerifier {
    fn begin(&mut self, variant: &Variant, dtype: Dtype, inputs: &Inputs<f64>) -> Result<(), String> {
        self.problem = None;
        let mut inputs = rounded(inputs, dtype);
        let rows = sample(&inputs, self.work);
        if let Some(rows) = &rows {
            keep_rows(&mut inputs, rows);
        }
        let oracle = forward(variant, &inputs).map_err(|e| e.to_string())?;
        let oracle = match &rows {
            Some(rows) => Oracle {
                outputs: gather(&oracle.outputs, rows, inputs.n_atoms),
                magnitude: gather(&oracle.magnitude, rows, inputs.n_atoms),
            },
            None => oracle,
        };
        let n_atoms = inputs.n_atoms;
        self.problem = Some(Reference { variant: variant.clone(), dtype, rows, oracle, n_atoms, sums: None });
        Ok(())
    }

    fn check(
        &mut self,
        runtime: &dyn Prepare,
        variant: &Variant,
        dtype: Dtype,
        config: &LaunchConfig,
    ) -> Result<Evidence, Refusal> {
        let mut evidence = Evidence::default();
        let mut telling = BTreeSet::new();
        let mut refused = String::new();
        for case in cases(OP, variant, self.set) {
            for seed in 0..MIN_SEEDS as u64 {
                let evaluated =
                    self.cache.get(&case, variant, dtype, seed).map_err(|e| wrong(format!("oracle: {e}")))?;
                let verdict = match runtime.prepare(variant, dtype, &evaluated.inputs, config) {
                    Ok(mut launch) => check_launch(launch.as_mut(), variant, dtype, &evaluated.oracle),
                    // Not every configuration fits every odd width of the catalogue.
                    Err(LaunchError::Constraint(reason)) => {
                        refused = format!("case `{}`: {reason}", case.id);
                        continue;
                    }
                    Err(error) => return Err(error.into()),
                };
                let found = judge(verdict, vec![seed], &format!("case `{}`, seed {seed}: ", case.id))?;
                if !case.degenerate {
                    telling.insert(seed);
                }
                evidence = evidence.and(&found);
            }
        }
        if telling.len() < MIN_SEEDS {
            return Err(wrong(format!("no case of the catalogue fits this configuration; {refused}")));
        }
        Ok(evidence)
    }

    fn recheck(&mut self, launch: &mut dyn Launch) -> Result<Evidence, Refusal> {
        let Some(reference) = &mut self.problem else {
            return Err(wrong("no problem was announced".to_owned()));
        };
        // A fault keeps its kind here; the gate would make it a failed comparison.
        launch.run()?;
        let (variant, dtype, oracle) = (&reference.variant, reference.dtype, &reference.oracle);
        let Some(rows) = &reference.rows else {
            return judge(check_launch(launch, variant, dtype, oracle), Vec::new(), "");
        };
        let mut sampled = Sampled { launch, rows, n_atoms: reference.n_atoms, sums: Vec::new() };
        let evidence = judge(check_launch(&mut sampled, variant, dtype, oracle), Vec::new(), "in sampled rows: ")?;
        let sums = sampled.sums;
        match &reference.sums {
            None => reference.sums = Some(sums),
            Some(expected) => compare_sums(&sums, expected, dtype)?,
        }
        Ok(evidence)
    }
}

fn wrong(reason: String) -> Refusal {
    Refusal::Wrong { reason, evidence: None }
}

fn judge(verdict: Verdict, seeds: Vec<u64>, place: &str) -> Result<Evidence, Refusal> {
    match verdict {
        Verdict::Passed { rel_error, max_abs_error } => Ok(Evidence { rel_error, max_abs_error, cases: 1, seeds }),
        Verdict::Failed { reason, rel_error, max_abs_error } => {
            let evidence = rel_error.zip(max_abs_error);
            let evidence =
                evidence.map(|(rel_error, max_abs_error)| Evidence { rel_error, max_abs_error, cases: 1, seeds });
            Err(Refusal::Wrong { reason: format!("{place}{reason}"), evidence })
        }
        Verdict::Unsupported { reason } => Err(LaunchError::Unsupported(reason).into()),
        Verdict::Skipped { reason } => Err(LaunchError::Constraint(reason).into()),
    }
}

/// The rows to compare where all of them are more than `work` multiplications; `None` for all.
fn sample(inputs: &Inputs<f64>, work: usize) -> Option<Vec<usize>> {
    let (k, c) = (inputs.radial.n_basis, inputs.channels());
    let per_edge = match &inputs.filter {
        Filter::Linear { .. } => k * c,
        Filter::Mlp { hidden, .. } => hidden * (k + c),
        Filter::Tabulated { order, .. } => 2 * order * c,
    };
    let n_edges = inputs.n_edges();
    if n_edges.saturating_mul(per_edge) <= work || inputs.n_atoms == 0 {
        return None;
    }
    let longest = (0..inputs.n_atoms).max_by_key(|i| inputs.row_ptr[i + 1] - inputs.row_ptr[*i])?;
    let mean_degree = n_edges.div_ceil(inputs.n_atoms);
    let count = (work / (per_edge * mean_degree).max(1)).clamp(1, inputs.n_atoms);
    let spread = (0..count).map(|i| i * inputs.n_atoms / count);
    Some(spread.chain([longest, inputs.n_atoms - 1]).collect::<BTreeSet<_>>().into_iter().collect())
}

/// Takes the edges of all other rows away. Atoms stay, since edges name their senders.
fn keep_rows(inputs: &mut Inputs<f64>, rows: &[usize]) {
    let old = std::mem::replace(&mut inputs.row_ptr, vec![0; inputs.n_atoms + 1]);
    let (sender, edge_vec) = (std::mem::take(&mut inputs.sender), std::mem::take(&mut inputs.edge_vec));
    let mut wanted = rows.iter().peekable();
    for row in 0..inputs.n_atoms {
        if wanted.next_if(|r| **r == row).is_some() {
            let edges = old[row] as usize..old[row + 1] as usize;
            inputs.edge_vec.extend_from_slice(&edge_vec[3 * edges.start..3 * edges.end]);
            inputs.sender.extend_from_slice(&sender[edges]);
        }
        inputs.row_ptr[row + 1] = u32::try_from(inputs.sender.len()).unwrap_or(u32::MAX);
    }
}

fn gather(outputs: &Outputs<f64>, rows: &[usize], n_atoms: usize) -> Outputs<f64> {
    let pick = |values: &[f64]| {
        let width = values.len() / n_atoms.max(1);
        rows.iter().flat_map(|row| &values[row * width..(row + 1) * width]).copied().collect()
    };
    Outputs { nodes: pick(&outputs.nodes), vectors: pick(&outputs.vectors) }
}

/// The sum and the sum of magnitudes of every row.
fn row_sums(outputs: &Outputs<f64>, n_atoms: usize) -> Vec<[f64; 2]> {
    let row = |values: &[f64], i: usize| {
        let width = values.len() / n_atoms.max(1);
        values[i * width..(i + 1) * width].iter().fold([0.0, 0.0], |[s, m], v| [s + v, m + v.abs()])
    };
    let rows = (0..n_atoms).map(|i| (row(&outputs.nodes, i), row(&outputs.vectors, i)));
    rows.map(|([s, m], [t, n])| [s + t, m + n]).collect()
}

/// Compares the rows of two configurations that computed the same, in the norm over all rows.
fn compare_sums(found: &[[f64; 2]], expected: &[[f64; 2]], dtype: Dtype) -> Result<(), Refusal> {
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    let off = norm(&mut found.iter().zip(expected).map(|(f, e)| f[0] - e[0]));
    let size = norm(&mut expected.iter().map(|e| e[1]));
    // Each of the two may be off by the tolerance.
    let allowed = 2.0 * gate_tolerance(dtype) * size;
    if found.len() == expected.len() && off <= allowed {
        return Ok(());
    }
    Err(wrong(format!("row sums are {off:e} from those of the first configuration that passed, allowed {allowed:e}")))
}

/// A launch of which only some rows are looked at closely; the others must be numbers, and are summed up.
struct Sampled<'a> {
    launch: &'a mut dyn Launch,
    rows: &'a [usize],
    n_atoms: usize,
    sums: Vec<[f64; 2]>,
}

impl Launch for Sampled<'_> {
    fn poison(&mut self) -> Result<(), LaunchError> {
        self.launch.poison()
    }

    fn run(&mut self) -> Result<(), LaunchError> {
        self.launch.run()
    }

    fn time(&mut self) -> Result<Duration, LaunchError> {
        self.launch.time()
    }

    fn outputs(&mut self) -> Result<Outputs<f64>, LaunchError> {
        let outputs = self.launch.outputs()?;
        let mut sampled = gather(&outputs, self.rows, self.n_atoms);
        let all = || outputs.nodes.iter().chain(&outputs.vectors);
        let poisoned = all().all(|v| v.is_nan());
        if !poisoned && all().any(|v| !v.is_finite()) {
            // Whatever row it is in, the gate shall see it.
            sampled.nodes.fill(f64::NAN);
        }
        self.sums = row_sums(&outputs, self.n_atoms);
        Ok(sampled)
    }

    fn input_digest(&mut self) -> Result<u64, LaunchError> {
        self.launch.input_digest()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ff_testkit::mutants::{MutantRuntime, Mutation};
    use ff_testkit::tolerance::{Order, tolerance};

    #[test]
    fn tables_judge_by_the_tolerance_of_the_gate() {
        for dtype in Dtype::ALL {
            assert_eq!(gate_tolerance(dtype), tolerance(dtype, Order::Forward));
        }
    }

    fn case_inputs(variant: &Variant, id: &str) -> Inputs<f64> {
        let case = cases(OP, variant, CaseSet::Full).into_iter().find(|c| c.id == id).expect("in the catalogue");
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
                    let mut verifier = GateVerifier { work, ..GateVerifier::default() };
                    verifier.begin(&variant, dtype, &inputs).expect("a reference");
                    let sampled = verifier.problem.as_ref().and_then(|p| p.rows.as_ref());
                    assert_eq!(sampled.is_some(), work < ORACLE_WORK);
                    assert!(sampled.is_none_or(|rows| rows.len() > 3 && rows.len() < inputs.n_atoms / 2));
                    let config = LaunchConfig::default();
                    let evidence = verifier.check(&runtime, &variant, dtype, &config).expect("right");
                    assert_eq!(evidence.seeds.len(), MIN_SEEDS);
                    let mut launch = runtime.prepare(&variant, dtype, &inputs, &config).expect("prepared");
                    for _ in 0..2 {
                        let evidence = verifier.recheck(launch.as_mut()).expect("right");
                        assert!(evidence.rel_error <= gate_tolerance(dtype));
                    }
                }
            }
        }
    }

    #[test]
    fn mutants_do_not_pass() {
        let variant: Variant = "painn_linear_gaussian_cosine_receiver".parse().expect("a variant");
        for mutation in Mutation::ALL {
            let mut verifier = GateVerifier::default();
            let runtime = MutantRuntime::new(Some(mutation));
            let found = verifier.check(&runtime, &variant, Dtype::F32, &LaunchConfig::default());
            assert!(matches!(found, Err(Refusal::Wrong { .. })), "{mutation:?} passed: {found:?}");
        }
    }

    #[test]
    fn a_fault_outside_the_sampled_rows_shows() {
        /// The right outputs with one row replaced.
        struct OneRow {
            outputs: Outputs<f64>,
            poisoned: bool,
            value: Option<f64>,
        }
        impl Launch for OneRow {
            fn poison(&mut self) -> Result<(), LaunchError> {
                self.poisoned = true;
                Ok(())
            }
            fn run(&mut self) -> Result<(), LaunchError> {
                self.poisoned = false;
                Ok(())
            }
            fn time(&mut self) -> Result<Duration, LaunchError> {
                Ok(Duration::from_nanos(1))
            }
            fn outputs(&mut self) -> Result<Outputs<f64>, LaunchError> {
                let mut outputs = self.outputs.clone();
                if self.poisoned {
                    outputs.nodes.fill(f64::NAN);
                } else if let Some(value) = self.value {
                    outputs.nodes[0] = value;
                }
                Ok(outputs)
            }
            fn input_digest(&mut self) -> Result<u64, LaunchError> {
                Ok(0)
            }
        }
        let variant: Variant = "cfconv_linear_gaussian_cosine_receiver".parse().expect("a variant");
        let inputs = case_inputs(&variant, "many_rows");
        let outputs = forward(&variant, &inputs).expect("right").outputs;
        let mut verifier = GateVerifier { work: 1000, ..GateVerifier::default() };
        verifier.begin(&variant, Dtype::F64, &inputs).expect("a reference");
        // Row 0 is always sampled; take it out so that the fault lies outside.
        let reference = verifier.problem.as_mut().expect("announced");
        let rows: Vec<usize> = reference.rows.take().expect("sampled").into_iter().filter(|r| *r != 0).collect();
        let oracle = forward(&variant, &inputs).expect("right");
        reference.oracle = Oracle {
            outputs: gather(&oracle.outputs, &rows, inputs.n_atoms),
            magnitude: gather(&oracle.magnitude, &rows, inputs.n_atoms),
        };
        reference.rows = Some(rows);
        let launch = |value| OneRow { outputs: outputs.clone(), poisoned: false, value };
        assert!(verifier.recheck(&mut launch(Some(f64::NAN))).is_err());
        verifier.recheck(&mut launch(None)).expect("right");
        assert!(verifier.recheck(&mut launch(Some(outputs.nodes[0] + 1.0))).is_err());
    }
}
