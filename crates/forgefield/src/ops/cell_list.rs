//! `cell_list`: neighbour lists of batches, in any cell.

mod bench;
pub mod neighbors;

use std::path::PathBuf;
use std::rc::Rc;

use ff_kernels::cell_list::{default_config, registered};
use ff_record::{Kernel, Recorder};
use ff_reference::cell_list::search;
use ff_spec::cell_list::{Inputs, List, OP, Strategy, Variant, compulsory_bytes};
use ff_spec::{CellList, DeviceId, Dtype, LaunchConfig, LaunchError, Prepare, Problem, Runtime};
use ff_structure::batch;
use ff_tables::Loaded;
use ff_testkit::cell_list::systems::rounded_batch;
use ff_testkit::registry::{Discrete, Registration, op};

use super::AnyOp;
use super::order::{Counted, Maker, Orders, Selected, UsedOrder, key_of};
use crate::commands::bench::Case;
use crate::commands::bench::instructions::{CountedJob, CountedLaunch, prepare};
use crate::commands::eval::FileCall;
use crate::commands::eval::args::EvalArgs;
use crate::commands::tables::args::SelectArgs;
use crate::failure::{Failure, Result};
use crate::options::Sizes;
use crate::screen::Screen;
use crate::workload::{self, Workload};

/// Its list is fixed in every backward: the gradient in its edge vectors belongs to the op that reads them.
const REGISTRATION: Registration<Discrete<CellList>> = op::<CellList>().discrete();

/// Atoms of a system up to which brute force is timed: its time grows with their square, and cells win long before.
const MOST_BRUTE: usize = 4096;

/// As an op among all.
pub struct Lists;

/// The variant of an id of this op.
fn of(id: &str) -> Variant {
    id.parse().unwrap_or_else(|_| unreachable!("`{id}` was found among the variants of `{OP}`"))
}

impl AnyOp for Lists {
    fn name(&self) -> &'static str {
        OP
    }

    fn template_hash(&self) -> &'static str {
        ff_kernels::generated::CELL_LIST_TEMPLATE_HASH
    }

    fn about(&self) -> &'static str {
        "neighbour lists of batches, in any cell"
    }

    fn orders(&self) -> Orders {
        Orders::of(&REGISTRATION)
    }

    fn ids(&self) -> Vec<&'static str> {
        registered().iter().map(|registered| registered.id).collect()
    }

    fn text(&self, _id: &str) -> String {
        ff_kernels::cell_list::host::SOURCE.to_owned()
    }

    fn is_deterministic(&self, _id: &str) -> bool {
        true
    }

    fn tuned_by_default(&self) -> &'static [&'static str] {
        &["full_cells", "full_brute", "half_cells"]
    }

    /// Its sizes are estimates, as tables are keyed by them.
    fn heading(&self, problem: &Problem) -> String {
        let Problem { name, n_atoms, n_systems, n_edges, .. } = problem;
        let systems = if *n_systems == 1 { "system" } else { "systems" };
        format!("{name}: {n_atoms} atoms in {n_systems} {systems}, lists of about {n_edges} edges")
    }

    fn problem(&self, id: &str, name: &str, sizes: &Sizes) -> Result<Problem> {
        let problem = workload::systems_of(name, sizes)?;
        let n_edges = match of(id).list {
            List::Full => problem.n_edges,
            List::Half => problem.n_edges / 2,
        };
        Ok(Problem { n_edges, ..problem })
    }

    fn default_config(&self, device: &DeviceId, id: &str, dtype: Dtype, problem: &Problem) -> LaunchConfig {
        default_config(device, &of(id), dtype, problem)
    }

    fn has_corners(&self, _id: &str, _order: u8, _dtype: Dtype) -> bool {
        true
    }

    fn bench_cases(&self, _structures: &[PathBuf]) -> Vec<Rc<dyn Case>> {
        bench::suite().into_iter().map(|case| Rc::new(case) as Rc<dyn Case>).collect()
    }

    fn counted_calls(&self) -> Vec<CountedJob> {
        let mut jobs = Vec::new();
        for variant in registered().iter().map(|registered| registered.variant()) {
            for dtype in Dtype::ALL {
                jobs.push(CountedJob::new::<CellList>(&variant, dtype, move |runtime| {
                    let inputs = rounded_batch(&bench::liquids(200, 1), dtype);
                    let problem = inputs.estimate("instructions");
                    let launch = prepare::<CellList>(runtime, &variant, dtype, &inputs, &problem)?;
                    let oracle = move || search(&inputs, variant.list, dtype).map_err(Failure::fault);
                    Ok(Box::new(CountedLaunch::<CellList> { launch, dtype, oracle: Box::new(oracle) }))
                }));
            }
        }
        jobs
    }

    fn read_call(&self, _args: &EvalArgs, _screen: &Screen) -> Result<Box<dyn FileCall>> {
        Err(Failure::input(format!(
            "`eval` runs kernels on tensors, and op `{OP}` makes lists of structures: expected op `{}`, or the command \
             `forgefield neighbors FILE`",
            ff_spec::fused_message::OP
        )))
    }

    /// Without a variant a full list, by the strategy that wins.
    fn usual(&self) -> Option<&'static str> {
        Some("a full list, by the strategy that wins")
    }

    fn selected(
        &self,
        args: &SelectArgs,
        workload: &Workload,
        runtime: &(dyn Runtime + 'static),
        tables: &Loaded,
    ) -> Result<Selected> {
        if let Some(name) = &args.variant {
            let id = self.one(name)?;
            return self.forward().select(runtime, tables, id, args.dtype, (workload, &args.sizes));
        }
        let inputs = self::inputs(workload, &args.sizes)?;
        let problem = inputs.estimate(&workload.name);
        let (variant, selection, config) =
            neighbors::choose(runtime, tables, List::Full, args.dtype, &inputs, &problem);
        Ok(key_of::<CellList>(&variant, args.dtype, (problem, selection, config)))
    }

    fn unused_axes(&self, _id: &str) -> &'static [&'static str] {
        &["features", "n_basis", "hidden", "seed"]
    }

    #[cfg(test)]
    fn host_takes(&self, config: &LaunchConfig) -> std::result::Result<(), LaunchError> {
        ff_kernels::cell_list::host_config(config).map(|_| ())
    }

    #[cfg(test)]
    fn cube_takes(
        &self,
        limits: &ff_spec::Limits,
        _: (&str, Dtype, &Problem),
        config: &LaunchConfig,
    ) -> std::result::Result<(), LaunchError> {
        ff_kernels::cell_list::cube_config(limits, config).map(|_| ())
    }
}

/// The batch that a list is built of.
fn inputs(workload: &Workload, sizes: &Sizes) -> Result<Inputs<f64>> {
    batch(&workload.structures, sizes.cutoff).map_err(Failure::input)
}

impl UsedOrder for CellList {
    fn on<'r>(runtime: &'r (dyn Runtime + 'static)) -> &'r (dyn Prepare<Self> + 'static) {
        runtime
    }

    fn maker<'a>(workload: &'a Workload, _: &Variant, sizes: &'a Sizes) -> Result<Maker<'a, Self>> {
        inputs(workload, sizes)?;
        Ok(Box::new(move || inputs(workload, sizes).expect("this batch was made just before")))
    }

    fn too_large(variant: &Variant, workload: &Workload, sizes: &Sizes) -> Result<Option<String>> {
        if variant.strategy != Strategy::Brute {
            return Ok(None);
        }
        let inputs = self::inputs(workload, sizes)?;
        let largest = (0..inputs.n_systems()).map(|system| inputs.atoms(system).len()).max().unwrap_or(0);
        Ok((largest > MOST_BRUTE).then(|| format!("a system of {largest} atoms takes minutes")))
    }

    /// Of so many atoms that scans have two levels.
    fn recorded_call(_: &Variant, _: &str, sizes: &Sizes) -> Result<Inputs<f64>> {
        inputs(&workload::one("water-512", sizes)?, sizes)
    }

    fn record(
        recorder: &Recorder,
        variant: &Variant,
        dtype: Dtype,
        inputs: &Inputs<f64>,
        config: &LaunchConfig,
    ) -> std::result::Result<Vec<Kernel>, LaunchError> {
        recorder.record_list(variant, dtype, inputs, config)
    }

    fn counted(variant: &Variant, problem: &Problem, dtype: Dtype) -> Counted {
        Counted { cost: None, compulsory_bytes: compulsory_bytes(variant.list, problem, dtype) }
    }
}
