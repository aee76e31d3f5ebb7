//! A derivative order of an op. What is alike for all of them is written once, over [`UsedOrder`]; commands see [`AnyOrder`].

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::ops::ControlFlow;

use ff_record::{Kernel, Recorder};
use ff_spec::{Cost, Dtype, LaunchConfig, LaunchError, Op, Prepare, Problem, Runtime, RuntimeKind, TuneKey};
use ff_sweep::{Row, Subject};
use ff_tables::{Loaded, Selection};
use ff_testkit::catalogue::CaseSet;
use ff_testkit::gate::{GatePlan, GateRow, GateSummary};
use ff_testkit::registry::{Discrete, Order, Registered, Registration, Twice};
use ff_tune::{Baseline, Part, Spaces, Task, Tuned};
use serde::Serialize;

use crate::commands::eval::choose;
use crate::commands::sweep::kernels::{Asked, Geometry, Kernels, PreparedRow};
use crate::commands::sweep::launched::{configured, gated};
use crate::commands::tune::queue::{Queue, Searched};
use crate::estimate::Estimator;
use crate::failure::{Failure, Result};
use crate::options::Sizes;
use crate::provenance;
use crate::screen::Screen;
use crate::workload::Workload;

/// What makes the inputs of a call when its turn comes.
pub type Maker<'a, O> = Box<dyn Fn() -> <O as Op>::Inputs + 'a>;

/// What this binary has to know of one order of an op besides its gate and what the tuner knows.
pub trait UsedOrder: Order + Tuned {
    /// A runtime as what prepares this order.
    fn on<'r>(runtime: &'r (dyn Runtime + 'static)) -> &'r (dyn Prepare<Self> + 'static);

    /// What makes the inputs of a call on a workload; what can be wrong is found now.
    ///
    /// # Errors
    /// What is wrong with the sizes.
    fn maker<'a>(workload: &'a Workload, variant: &Self::Variant, sizes: &'a Sizes) -> Result<Maker<'a, Self>>;

    /// Why a variant is not tried on a workload; `None` where it is.
    ///
    /// # Errors
    /// What is wrong with the workload.
    fn too_large(_variant: &Self::Variant, _workload: &Workload, _sizes: &Sizes) -> Result<Option<String>> {
        Ok(None)
    }

    /// A call to be recorded; of an op that sees features, on this built-in problem. Kernels are the same for any number of atoms
    /// and edges, but those that add up many parts are launched for many edges alone.
    ///
    /// # Errors
    /// An unknown problem, and sizes that no kernel has.
    fn recorded_call(variant: &Self::Variant, problem: &str, sizes: &Sizes) -> Result<Self::Inputs>;

    /// The kernels of a call.
    ///
    /// # Errors
    /// As [`AnyCall::record`].
    fn record(
        recorder: &Recorder,
        variant: &Self::Variant,
        dtype: Dtype,
        inputs: &Self::Inputs,
        config: &LaunchConfig,
    ) -> std::result::Result<Vec<Kernel>, LaunchError>;

    /// Counts a call.
    fn counted(variant: &Self::Variant, problem: &Problem, dtype: Dtype) -> Counted;

    /// The cost of a configuration as it can be counted before anything is measured; `None` where nothing is known of it.
    fn estimated(
        _estimator: &Estimator,
        _variant: &Self::Variant,
        _dtype: Dtype,
        _problem: &Problem,
        _config: &LaunchConfig,
    ) -> Option<f64> {
        None
    }

    /// Measures the unfused composition on a runtime, where there is one.
    ///
    /// # Errors
    /// Why it cannot be had.
    fn unfused(
        _runtime: RuntimeKind,
        _variant: &Self::Variant,
        _dtype: Dtype,
        _inputs: &Self::Inputs,
    ) -> std::result::Result<Option<Baseline>, String> {
        Ok(None)
    }
}

/// The part of [`UsedOrder`] that is alike for every op on tensors: how a runtime prepares it, and how its kernels are recorded.
macro_rules! on_tensors {
    () => {
        fn on<'r>(runtime: &'r (dyn ff_spec::Runtime + 'static)) -> &'r (dyn ff_spec::Prepare<Self> + 'static) {
            runtime
        }

        fn record(
            recorder: &ff_record::Recorder,
            variant: &Self::Variant,
            dtype: ff_spec::Dtype,
            inputs: &Self::Inputs,
            config: &ff_spec::LaunchConfig,
        ) -> std::result::Result<Vec<ff_record::Kernel>, ff_spec::LaunchError> {
            recorder.record::<Self>(variant, dtype, inputs, config)
        }
    };
}

pub(super) use on_tensors;

/// What is counted of a call.
#[derive(Serialize)]
pub struct Counted {
    /// Absent where FLOPs depend on more than sizes.
    pub cost: Option<Cost>,
    /// Every input read once and every output written once.
    pub compulsory_bytes: u64,
}

impl From<Cost> for Counted {
    fn from(cost: Cost) -> Self {
        Self { compulsory_bytes: cost.compulsory_bytes, cost: Some(cost) }
    }
}

/// What the gate judges.
#[derive(Clone, Copy)]
pub struct Plan<'a> {
    /// Ids of variants.
    pub ids: &'a [&'static str],
    /// Element types.
    pub dtypes: &'a [Dtype],
    /// Cases of the catalogue.
    pub set: CaseSet,
    /// Seeds of each case.
    pub seeds: u64,
}

/// What a search is made of.
#[derive(Clone, Copy)]
pub struct Tasks<'a> {
    /// The spaces of the op.
    pub spaces: &'a Spaces,
    /// Ids of variants.
    pub ids: &'a [&'static str],
    /// Element types.
    pub dtypes: &'a [Dtype],
    /// Problems.
    pub workloads: &'a [Workload],
    /// Sizes of the model.
    pub sizes: &'a Sizes,
    /// Where costs are counted.
    pub estimator: &'a Estimator,
    /// The runtime, whose composition is timed beside the kernels where there is one.
    pub runtime: RuntimeKind,
}

/// What a call would use.
pub struct Selected {
    /// Id of the variant.
    pub id: String,
    /// What tables are asked for.
    pub key: TuneKey,
    /// Its sizes.
    pub problem: Problem,
    /// How it was found.
    pub selection: Selection,
    /// The table's configuration, or the default one.
    pub config: LaunchConfig,
}

/// What tables are asked for of a variant.
pub fn key_of<O: Op>(variant: &O::Variant, dtype: Dtype, found: (Problem, Selection, LaunchConfig)) -> Selected {
    let (problem, selection, config) = found;
    Selected { id: variant.to_string(), key: TuneKey::of::<O>(variant, dtype, &problem), problem, selection, config }
}

/// One derivative order of an op, whichever that is. Variants are named by ids of the op.
pub trait AnyOrder: Sync {
    /// The name of the op.
    fn op(&self) -> &'static str;

    /// The derivative order.
    fn order(&self) -> u8;

    /// The cases of the catalogue that judge a variant.
    fn cases(&self, id: &str, set: CaseSet) -> Vec<&'static str>;

    /// How many rows the gate will report for this many runtimes.
    fn gate_rows(&self, runtimes: usize, plan: &Plan<'_>) -> usize;

    /// Runs the gate.
    fn gate(
        &self,
        runtimes: &[&(dyn Runtime + 'static)],
        plan: &Plan<'_>,
        on_row: &mut dyn FnMut(&GateRow) -> ControlFlow<()>,
    ) -> GateSummary;

    /// What of a variant its space is found by.
    fn part(&self, id: &str) -> Part;

    /// What is searched: every variant in every dtype on every problem.
    ///
    /// # Errors
    /// What is wrong with the sizes of a problem.
    fn queue<'a>(&self, tasks: Tasks<'a>, screen: &Screen) -> Result<Box<dyn Searched + 'a>>;

    /// The cost of a configuration, as [`UsedOrder::estimated`].
    fn estimated(
        &self,
        estimator: &Estimator,
        id: &str,
        dtype: Dtype,
        problem: &Problem,
        config: &LaunchConfig,
    ) -> Option<f64>;

    /// Counts a call.
    fn counted(&self, id: &str, problem: &Problem, dtype: Dtype) -> Counted;

    /// A call to be recorded; of an op that sees features, on this built-in problem.
    ///
    /// # Errors
    /// An unknown problem, and sizes that no kernel has.
    fn call(&self, id: &str, problem: &str, sizes: &Sizes) -> Result<Box<dyn AnyCall>>;

    /// Which configuration a call on a workload would use.
    ///
    /// # Errors
    /// What is wrong with the sizes.
    fn select(
        &self,
        runtime: &(dyn Runtime + 'static),
        tables: &Loaded,
        id: &str,
        dtype: Dtype,
        on: (&Workload, &Sizes),
    ) -> Result<Selected>;

    /// Prepares a row of a sweep on structures, with the gate of a search.
    ///
    /// # Errors
    /// A row without structures, and what is wrong with its sizes; what the kernel itself refuses is a result.
    fn sweep(&self, kernels: &mut Kernels, row: &Row, asked: &Asked) -> Result<PreparedRow>;
}

/// A variant with the inputs of one call.
pub trait AnyCall {
    /// Its kernels under a configuration.
    ///
    /// # Errors
    /// [`LaunchError::Constraint`] for a configuration that does not fit, [`LaunchError::Compile`].
    fn record(
        &self,
        recorder: &Recorder,
        dtype: Dtype,
        config: &LaunchConfig,
    ) -> std::result::Result<Vec<Kernel>, LaunchError>;
}

/// All orders of an op that is registered in all of them.
#[derive(Clone, Copy)]
pub struct Orders(&'static [&'static dyn AnyOrder]);

impl Orders {
    /// Those of a registration.
    pub fn of<R: Complete>(_: &R) -> Self {
        Self(R::ALL)
    }

    /// All of them, ascending.
    pub fn iter(self) -> impl Iterator<Item = &'static dyn AnyOrder> {
        self.0.iter().copied()
    }

    /// Order 0, which every registration begins with.
    pub fn forward(self) -> &'static dyn AnyOrder {
        self.0[0]
    }
}

/// A registration that has the cases of all its orders.
pub trait Complete: Registered {
    /// Its orders, ascending.
    const ALL: &'static [&'static dyn AnyOrder];
}

impl<O: UsedOrder> Complete for Registration<Discrete<O>> {
    const ALL: &'static [&'static dyn AnyOrder] = &[&Of::<O>(PhantomData)];
}

impl<O, O1, O2> Complete for Registration<Twice<O, O1, O2>>
where
    O: UsedOrder,
    O1: UsedOrder<Variant = O::Variant>,
    O2: UsedOrder<Variant = O::Variant>,
{
    const ALL: &'static [&'static dyn AnyOrder] =
        &[&Of::<O>(PhantomData), &Of::<O1>(PhantomData), &Of::<O2>(PhantomData)];
}

/// An order as [`AnyOrder`].
struct Of<O>(PhantomData<fn() -> O>);

/// The variant of an id, which is one of its op's.
fn variant<O: Op>(id: &str) -> O::Variant {
    id.parse().unwrap_or_else(|_| unreachable!("`{id}` was found among the variants of `{}`", O::NAME))
}

impl<O: UsedOrder> AnyOrder for Of<O> {
    fn op(&self) -> &'static str {
        O::NAME
    }

    fn order(&self) -> u8 {
        O::ORDER
    }

    fn cases(&self, id: &str, set: CaseSet) -> Vec<&'static str> {
        O::cases(&variant::<O>(id), set).into_iter().map(|case| case.id).collect()
    }

    fn gate_rows(&self, runtimes: usize, plan: &Plan<'_>) -> usize {
        let Plan { ids, dtypes, set, seeds } = *plan;
        let variants: Vec<_> = ids.iter().map(|id| variant::<O>(id)).collect();
        GatePlan::<O> { variants: &variants, dtypes, set, seeds }.rows(runtimes)
    }

    fn gate(
        &self,
        runtimes: &[&(dyn Runtime + 'static)],
        plan: &Plan<'_>,
        on_row: &mut dyn FnMut(&GateRow) -> ControlFlow<()>,
    ) -> GateSummary {
        let Plan { ids, dtypes, set, seeds } = *plan;
        let variants: Vec<_> = ids.iter().map(|id| variant::<O>(id)).collect();
        O::gate(runtimes, &GatePlan { variants: &variants, dtypes, set, seeds }, on_row)
    }

    fn part(&self, id: &str) -> Part {
        O::part(&variant::<O>(id))
    }

    fn queue<'a>(&self, tasks: Tasks<'a>, screen: &Screen) -> Result<Box<dyn Searched + 'a>> {
        let Tasks { spaces, ids, dtypes, workloads, sizes, estimator, runtime } = tasks;
        let mut made = Vec::new();
        for workload in workloads {
            for id in ids {
                let variant = variant::<O>(id);
                if let Some(why) = O::too_large(&variant, workload, sizes)? {
                    screen.say(format!("{variant} is not tried on `{}`: {why}", workload.name));
                    continue;
                }
                for dtype in dtypes {
                    let inputs = O::maker(workload, &variant, sizes)?;
                    let (kernel_hash, problem) =
                        (provenance::kernel_hash(O::NAME, id, O::ORDER, runtime), workload.name.clone());
                    made.push(Task { variant: variant.clone(), kernel_hash, dtype: *dtype, problem, inputs });
                }
            }
        }
        Ok(Box::new(Queue::<O>::new(
            spaces,
            made,
            Box::new(move |variant, dtype, inputs| O::unfused(runtime, variant, dtype, inputs)),
            Box::new(|variant, dtype, problem, config| O::estimated(estimator, variant, dtype, problem, config)),
        )))
    }

    fn estimated(
        &self,
        estimator: &Estimator,
        id: &str,
        dtype: Dtype,
        problem: &Problem,
        config: &LaunchConfig,
    ) -> Option<f64> {
        O::estimated(estimator, &variant::<O>(id), dtype, problem, config)
    }

    fn counted(&self, id: &str, problem: &Problem, dtype: Dtype) -> Counted {
        O::counted(&variant::<O>(id), problem, dtype)
    }

    fn call(&self, id: &str, problem: &str, sizes: &Sizes) -> Result<Box<dyn AnyCall>> {
        let variant = variant::<O>(id);
        let inputs = O::recorded_call(&variant, problem, sizes)?;
        Ok(Box::new(CallOf::<O> { variant, inputs }))
    }

    fn select(
        &self,
        runtime: &(dyn Runtime + 'static),
        tables: &Loaded,
        id: &str,
        dtype: Dtype,
        (workload, sizes): (&Workload, &Sizes),
    ) -> Result<Selected> {
        let variant = variant::<O>(id);
        let inputs = O::maker(workload, &variant, sizes)?();
        let problem = O::sizes(&workload.name, &inputs);
        let (selection, config) = choose::<O>(O::on(runtime), tables, &variant, dtype, &inputs, &problem);
        Ok(key_of::<O>(&variant, dtype, (problem, selection, config)))
    }

    fn sweep(&self, kernels: &mut Kernels, row: &Row, asked: &Asked) -> Result<PreparedRow> {
        let Geometry::Problem(problem) = &asked.geometry else {
            return Err(Failure::input(format!("`{}` of a random graph, expected a `problem`", O::NAME)));
        };
        let (variant, dtype) = (variant::<O>(asked.id), asked.dtype);
        let workload = kernels.workload(problem, &asked.sizes)?;
        let inputs = O::maker(&workload, &variant, &asked.sizes)?();
        let problem = O::sizes(problem, &inputs);
        let runtime = O::on(kernels.runtime(row)?);
        let config = configured(runtime, &variant, dtype, &problem, &asked.config);
        let subject = gated(runtime, &variant, dtype, &inputs, &config);
        Ok(PreparedRow { problem, config, subject: subject.map(|timed| Subject::Timed(timed, BTreeMap::new())) })
    }
}

struct CallOf<O: Op> {
    variant: O::Variant,
    inputs: O::Inputs,
}

impl<O: UsedOrder> AnyCall for CallOf<O> {
    fn record(
        &self,
        recorder: &Recorder,
        dtype: Dtype,
        config: &LaunchConfig,
    ) -> std::result::Result<Vec<Kernel>, LaunchError> {
        O::record(recorder, &self.variant, dtype, &self.inputs, config)
    }
}
