//! Rows that are kernels: from the words of a row to something that is gated and timed.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use ff_kernels::fused_message::tabulate;
use ff_ops::on_tensors::{self, Implementation};
use ff_reference::Oracle;
use ff_reference::fused_message::{backward, double_backward, forward};
use ff_spec::fused_message::{
    Activation, BackwardInputs, DoubleBackwardInputs, Filter, FilterKind, Inputs, Message, Outputs, Radial, Reduction,
    Variant, Wanted,
};
use ff_spec::{
    CellList, Clock, DeviceId, Dtype, ForceScatter, ForceScatterBackward, ForceScatterDoubleBackward, FusedMessage,
    FusedMessageBackward, FusedMessageDoubleBackward, Launch, LaunchConfig, LaunchError, Op, Prepare, Problem, Runtime,
    RuntimeKind, cell_list, force_scatter, fused_message,
};
use ff_sweep::axes::CONFIG;
use ff_sweep::{Bench, Origin, Refused, Row, Subject, Timed, Verdict};
use ff_testkit::force_scatter as scatter;
use ff_testkit::gate::{self, check_launch};
use ff_testkit::generators::systems::rounded_batch;
use ff_testkit::generators::{CaseSpec, Degrees, Distances, random_inputs};
use ff_testkit::gradients::{random_cotangents, random_tangent};
use ff_testkit::tensors::ByTensors;
use ff_tune::{GateVerifier, Part, Refusal, Spaces, Target, Verifier};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::potential::{self, Evaluated};
use crate::baseline::memory;
use crate::commands::bench::backward::{places, spread};
use crate::commands::bench::{checked_step, mask, peak_of, some_receivers};
use crate::failure::{Failure, Result};
use crate::options::{RuntimeChoice, Sizes};
use crate::screen::Screen;
use crate::variants::meant;
use crate::workload::{self, Workload};
use crate::{provenance, runtimes, variants};

/// Relative error of a table where a row does not say: a tenth of what the gate allows in f32.
const TABLE_TOLERANCE: f64 = 1e-6;
/// Derivatives per node of a table where a row does not say: cubic segments, as everywhere in this binary.
const TABLE_ORDER: u64 = 2;

/// A kernel of any op.
#[derive(Clone, Debug)]
enum Kernel {
    Message(Variant),
    List(cell_list::Variant),
    Scatter(force_scatter::Variant),
}

impl Kernel {
    fn op(&self) -> &'static str {
        match self {
            Kernel::Message(_) => fused_message::OP,
            Kernel::List(_) => cell_list::OP,
            Kernel::Scatter(_) => force_scatter::OP,
        }
    }

    fn id(&self) -> String {
        match self {
            Kernel::Message(variant) => variant.id(),
            Kernel::List(variant) => variant.id(),
            Kernel::Scatter(variant) => variant.id(),
        }
    }
}

/// Where atoms and edges come from.
#[derive(Clone, Debug)]
enum Geometry {
    /// A built-in structure.
    Problem(String),
    /// A random graph.
    Graph { n_atoms: usize, degree: f64, skew: f64 },
}

/// What a row asks for.
#[derive(Clone, Debug)]
struct Asked {
    kernel: Kernel,
    order: u8,
    dtype: Dtype,
    /// `None` for the kernel itself.
    implementation: Option<Implementation>,
    geometry: Geometry,
    sizes: Sizes,
    table: Option<(usize, f64)>,
    config: LaunchConfig,
}

impl Asked {
    /// The hash of the kernel on a runtime.
    fn kernel_hash(&self, runtime: RuntimeKind) -> String {
        provenance::kernel_hash(self.kernel.op(), &self.kernel.id(), self.order, runtime)
    }
}

/// The runtimes, and what rows have in common.
#[derive(Default)]
pub struct Kernels {
    runtimes: BTreeMap<String, Box<dyn Runtime>>,
    workloads: BTreeMap<String, Rc<Workload>>,
    /// The potential with the exact filter, by everything that makes it.
    exact: BTreeMap<String, Rc<Evaluated>>,
}

impl Kernels {
    /// Finds what is wrong with a row.
    ///
    /// # Errors
    /// The first thing that no kernel can be made of.
    pub fn check(&mut self, row: &Row) -> Result<()> {
        self.asked(row).map(|_| ())
    }

    /// Expects every row to be of something else, and every axis to be of use to some row.
    ///
    /// # Errors
    /// Two rows that differ in nothing that their kernel has a use for, and an axis that none has.
    pub fn expect_different(&mut self, rows: &[Row]) -> Result<()> {
        let mut seen: BTreeMap<String, &Row> = BTreeMap::new();
        let (mut given, mut used): (BTreeSet<&str>, BTreeSet<&str>) = Default::default();
        for row in rows {
            let unused = self.unused(row)?;
            if let Some(other) = seen.insert(row.without(unused).to_string(), row) {
                let differ = unused.iter().filter(|axis| row.get(axis) != other.get(axis)).copied();
                return Err(Failure::input(format!(
                    "row {row}: it has no use for `{}` and is as row {other}; expected one of them, an `exclude` takes rows out",
                    differ.collect::<Vec<_>>().join("`, `")
                )));
            }
            let axes = || row.0.keys().map(String::as_str);
            given.extend(axes());
            used.extend(axes().filter(|axis| !unused.contains(axis)));
        }
        match given.difference(&used).next() {
            Some(axis) => Err(Failure::input(format!("axis `{axis}`: no row has a use for it, expected none"))),
            None => Ok(()),
        }
    }

    /// The axes that the kernel of a row has no use for.
    fn unused(&mut self, row: &Row) -> Result<&'static [&'static str]> {
        let unused: &'static [&'static str] = match &self.asked(row)?.kernel {
            Kernel::Message(variant) if exact(variant).filter == FilterKind::Mlp => &[],
            Kernel::Message(_) => &["hidden"],
            Kernel::List(_) => &["features", "n_basis", "hidden", "seed"],
            Kernel::Scatter(_) => &["features", "n_basis", "hidden"],
        };
        Ok(unused)
    }

    /// Opens every runtime that rows ask for.
    ///
    /// # Errors
    /// A runtime that cannot be had is a fault.
    pub fn open(&mut self, rows: &[Row], screen: &Screen) -> Result<()> {
        for row in rows {
            let name = runtime_of(row);
            if !self.runtimes.contains_key(name) {
                let choices = [
                    ("auto", RuntimeChoice::Auto),
                    ("host", RuntimeChoice::Host),
                    ("vulkan", RuntimeChoice::Vulkan),
                    ("metal", RuntimeChoice::Metal),
                    ("cuda", RuntimeChoice::Cuda),
                ];
                let choice = choices.into_iter().find(|(known, _)| *known == name).map(|(_, choice)| choice);
                let choice = choice.ok_or_else(|| Failure::input(format!("unknown runtime `{name}`")))?;
                let runtime = runtimes::open(choice, screen)?;
                if runtime.device().software {
                    screen.warn("a software adapter: its rows are marked `software` and say nothing of a GPU");
                }
                self.runtimes.insert(name.to_owned(), runtime);
            }
        }
        Ok(())
    }

    fn runtime(&self, row: &Row) -> Result<&(dyn Runtime + 'static)> {
        let runtime = self.runtimes.get(runtime_of(row)).map(Box::as_ref);
        runtime.ok_or_else(|| Failure::fault(format!("runtime `{}` was not opened", runtime_of(row))))
    }

    fn asked(&mut self, row: &Row) -> Result<Asked> {
        let refuse = |text: String| Err(Failure::input(text));
        let Some(name) = row.text("variant") else {
            return refuse("no `variant`, expected an axis of them".to_owned());
        };
        let kernel = if let Some(list) = variants::list(name) {
            Kernel::List(list)
        } else if let Some(scatter) = variants::scatter(name) {
            Kernel::Scatter(scatter)
        } else {
            Kernel::Message(variants::representative(name)?)
        };
        if let Some(op) = row.text("op") {
            variants::op(op)?;
            if op != kernel.op() {
                return refuse(format!("variant `{name}` is of op `{}`, expected one of `{op}`", kernel.op()));
            }
        }
        if row.text("strategy").is_some() {
            return refuse("`strategy` is an axis of replays, expected `kind = \"replay\"` with it".to_owned());
        }
        let order = row.integer("order").unwrap_or(0);
        let most = if matches!(kernel, Kernel::List(_)) { 0 } else { 2 };
        if order > most {
            return refuse(format!("order {order} of op `{}`, expected at most {most}", kernel.op()));
        }
        let implementation = match row.text("implementation") {
            None | Some("kernel") => None,
            Some(which) => {
                if !matches!(kernel, Kernel::Message(_)) || order > 1 {
                    let what = format!("`{which}` of op `{}` in order {order}", kernel.op());
                    return refuse(format!("{what}, expected `fused_message` in order 0 or 1, or `kernel`"));
                }
                if !row.config().0.is_empty() {
                    return refuse(format!(
                        "launch parameters of `{which}`, which chooses them itself; expected `kernel`"
                    ));
                }
                Some(if which == "fused" { Implementation::Fused } else { Implementation::Unfused })
            }
        };
        self.check_config(row, &kernel, order as u8)?;
        let size = |axis: &str, default: usize| {
            row.integer(axis).map_or(default, |n| usize::try_from(n).unwrap_or(usize::MAX))
        };
        let sizes = Sizes {
            cutoff: row.number("cutoff").unwrap_or(5.0),
            features: size("features", 128),
            n_basis: size("n_basis", 20),
            hidden: size("hidden", 128),
            seed: row.integer("seed").unwrap_or(0),
        };
        // Here they are axes, not options.
        let as_axes = |e: Failure| Failure::input(e.message.replace("--n-basis", "n_basis").replace("--", ""));
        sizes.check().map_err(as_axes)?;
        let geometry = match (row.text("problem"), row.integer("n_atoms"), row.number("degree")) {
            (Some(problem), None, None) if row.number("skew").is_none() => {
                self.workload(problem, &sizes).map_err(as_axes)?;
                Geometry::Problem(problem.to_owned())
            }
            (None, Some(n_atoms), Some(degree)) => {
                if !matches!(kernel, Kernel::Message(_)) {
                    return refuse(format!("a random graph for op `{}`, expected a `problem`", kernel.op()));
                }
                let skew = row.number("skew").unwrap_or(0.0);
                if !(degree >= 0.0 && (0.0..=4.0).contains(&skew)) {
                    return refuse(format!(
                        "`degree` is {degree} and `skew` {skew}, expected a degree from 0 and a skew of 0 to 4"
                    ));
                }
                if skew == 0.0 && degree.fract() != 0.0 {
                    return refuse(format!(
                        "`degree` is {degree}, expected a whole number, since without a `skew` all atoms have as many edges"
                    ));
                }
                // What fits the index type.
                let (edges, elements) = (n_atoms as f64 * degree, n_atoms as f64 * 3.0 * sizes.features as f64);
                if edges > 1e9 || elements > f64::from(u32::MAX) {
                    return refuse(format!(
                        "degree {degree} and features {} on {n_atoms} atoms, expected at most 1e9 edges and n_atoms × 3F below 2³²",
                        sizes.features
                    ));
                }
                Geometry::Graph { n_atoms: n_atoms as usize, degree, skew }
            }
            _ => return refuse("expected either `problem`, or `n_atoms` with `degree` (and `skew`)".to_owned()),
        };
        let tabulated = matches!(&kernel, Kernel::Message(variant) if variant.filter == FilterKind::Tabulated);
        let tolerance = row.number("table_tolerance");
        if !tabulated && (tolerance.is_some() || row.integer("table_order").is_some()) {
            return refuse(format!("`table_tolerance` of `{name}`, which has no table"));
        }
        let (table_order, tolerance) =
            (row.integer("table_order").unwrap_or(TABLE_ORDER), tolerance.unwrap_or(TABLE_TOLERANCE));
        if !(2..=3).contains(&table_order) {
            return refuse(format!("`table_order` is {table_order}, expected 2 (cubic) or 3 (quintic)"));
        }
        if !(tolerance.is_finite() && tolerance > 0.0) {
            return refuse(format!("`table_tolerance` is {tolerance}, expected a positive number"));
        }
        let table = tabulated.then_some((table_order as usize, tolerance));
        Ok(Asked {
            kernel,
            order: order as u8,
            dtype: row.text("dtype").unwrap_or("f32").parse().map_err(Failure::input)?,
            implementation,
            geometry,
            sizes,
            table,
            config: row.config(),
        })
    }

    /// Expects launch parameters that the spaces of a kernel have: on what it runs on, where that is known.
    fn check_config(&self, row: &Row, kernel: &Kernel, order: u8) -> Result<()> {
        // Far above what any space tries; launches size what they allocate by these.
        const MOST: u32 = 1 << 16;
        let fixed: Vec<_> =
            row.0.iter().filter_map(|(axis, value)| Some((axis.strip_prefix(CONFIG)?, value.number()?))).collect();
        if fixed.is_empty() {
            return Ok(());
        }
        let target = match (self.runtimes.get(runtime_of(row)), runtime_of(row)) {
            (Some(runtime), _) => Some(Target::of(runtime.device().runtime)),
            (None, "auto") => None,
            (None, "host") => Some(Target::Host),
            (None, _) => Some(Target::Cube),
        };
        let (spaces, part) = match kernel {
            Kernel::Message(variant) => (Spaces::fused_message(), Part::Reduction(variant.reduction)),
            Kernel::List(variant) => (Spaces::cell_list(), Part::Strategy(variant.strategy)),
            Kernel::Scatter(variant) => (Spaces::force_scatter(), Part::Scatter(variant.reduction)),
        };
        let spaces = spaces.map_err(Failure::fault)?;
        let of_kernel = spaces.iter().filter(|space| space.part == part && space.orders.contains(&order));
        let there = of_kernel.filter(|space| target.is_none_or(|target| target == space.target));
        let known: BTreeSet<&str> = there.flat_map(|space| space.parameters()).map(|(name, _)| name.as_str()).collect();
        let known: Vec<&str> = known.into_iter().collect();
        for (name, value) in fixed {
            if !known.contains(&name) {
                return Err(Failure::input(format!(
                    "unknown launch parameter `{name}` of {}{}{}, expected one of {}",
                    kernel.id(),
                    target.map(|target| format!(" on target `{target}`")).unwrap_or_default(),
                    meant(name, &known),
                    known.join(", ")
                )));
            }
            if value > f64::from(MOST) {
                return Err(Failure::input(format!("`{CONFIG}{name}` is {value}, expected at most {MOST}")));
            }
        }
        Ok(())
    }

    /// A structure with a cutoff; neighbouring rows ask for the same.
    fn workload(&mut self, problem: &str, sizes: &Sizes) -> Result<Rc<Workload>> {
        let key = format!("{problem} {}", sizes.cutoff);
        if let Some(workload) = self.workloads.get(&key) {
            return Ok(workload.clone());
        }
        let mut found = workload::collect(&[problem.to_owned()], &[], sizes)?;
        let workload = Rc::new(found.pop().ok_or_else(|| Failure::fault("no workload"))?);
        self.workloads.insert(key, workload.clone());
        Ok(workload)
    }

    /// The tensors of a message with an exact filter.
    fn message_inputs(&mut self, asked: &Asked, variant: &Variant) -> Result<Inputs<f64>> {
        let sizes = &asked.sizes;
        match &asked.geometry {
            Geometry::Problem(problem) => self.workload(problem, sizes)?.inputs(variant, sizes),
            Geometry::Graph { n_atoms, degree, skew } => {
                let spec = CaseSpec {
                    n_atoms: *n_atoms,
                    features: sizes.features,
                    n_basis: sizes.n_basis,
                    hidden: sizes.hidden,
                    activation: Activation::ShiftedSoftplus,
                    table_order: 2,
                    table_nodes: 2,
                    r_cut: sizes.cutoff,
                    degrees: degrees(*n_atoms, *degree, *skew),
                    distances: Distances::Inside,
                };
                random_inputs(&spec, variant, sizes.seed).map_err(Failure::input)
            }
        }
    }

    fn message(&mut self, row: &Row, asked: &Asked, variant: &Variant) -> Result<Prepared> {
        let dtype = asked.dtype;
        let exact_variant = exact(variant);
        let expected = sizes(asked, &exact_variant)?;
        let (bytes, most) = (input_bytes(&exact_variant, &expected), memory() as f64);
        if bytes > most {
            let gib = |bytes: f64| format!("{:.1} GiB", bytes / f64::from(1 << 30));
            let reason = format!("not tried, its inputs would take {} of memory, allowed {}", gib(bytes), gib(most));
            let refused = Err(Refused::new(Verdict::Skipped, reason));
            return Ok(Prepared { problem: expected, config: LaunchConfig::default(), subject: refused });
        }
        let exact = self.message_inputs(asked, &exact_variant)?;
        let mut metrics = BTreeMap::new();
        let inputs = match asked.table {
            None => exact,
            Some((order, tolerance)) => {
                let table = match tabulate(&exact_variant, &exact, order, tolerance) {
                    // A tolerance out of reach is a result too.
                    Err(error @ LaunchError::Constraint(_)) => {
                        let problem = Problem { n_basis: 2 * order as u32, hidden: 0, ..exact.problem(&expected.name) };
                        let config = LaunchConfig::default();
                        return Ok(Prepared { problem, config, subject: Err(error.into()) });
                    }
                    found => found?,
                };
                metrics.insert("filter_rel_error".to_owned(), table.rel_error);
                if let Filter::Tabulated { n_nodes, values, .. } = &table.filter {
                    metrics.insert("table_nodes".to_owned(), *n_nodes as f64);
                    metrics.insert("table_bytes".to_owned(), (values.len() * dtype.size()) as f64);
                }
                let radial = Radial { r_cut: exact.radial.r_cut, ..Radial::default() };
                let inputs = Inputs { filter: table.filter, radial, ..exact.clone() };
                if row.number("table_tolerance").is_some() && asked.order == 0 && variant.message == Message::Cfconv {
                    let key = row.without(&["table_tolerance", "table_order", "order", "variant", "runtime", "repeat"]);
                    let key = format!("{key} {exact_variant}");
                    let reference = match self.exact.get(&key) {
                        Some(reference) => reference.clone(),
                        None => Rc::new(potential::evaluate(&exact_variant, &exact)?),
                    };
                    self.exact.insert(key, reference.clone());
                    let [energy, force] = potential::evaluate(variant, &inputs)?.errors(&reference);
                    metrics.insert("energy_rel_error".to_owned(), energy);
                    metrics.insert("force_rel_error".to_owned(), force);
                }
                inputs
            }
        };
        let inputs = FusedMessage::rounded(&inputs, dtype);
        let problem = inputs.problem(&expected.name);
        let runtime = self.runtime(row)?;
        let config = match asked.implementation {
            None => config::<FusedMessage>(runtime, variant, dtype, &problem, &asked.config),
            Some(_) => LaunchConfig::default(),
        };
        let subject = message_subject(runtime, asked, variant, inputs, &config);
        Ok(Prepared { problem, config, subject: subject.map(|timed| Subject::Timed(timed, metrics)) })
    }

    fn list(&mut self, row: &Row, asked: &Asked, variant: &cell_list::Variant) -> Result<Prepared> {
        let Geometry::Problem(problem) = &asked.geometry else {
            return Err(Failure::input("a list of a random graph, expected a `problem`"));
        };
        let inputs = self.workload(problem, &asked.sizes)?.list_inputs(asked.sizes.cutoff)?;
        let inputs = rounded_batch(&inputs, asked.dtype);
        let problem = inputs.estimate(problem);
        let runtime = self.runtime(row)?;
        let config = config::<CellList>(runtime, variant, asked.dtype, &problem, &asked.config);
        let on_host = runtime.device().runtime == RuntimeKind::Host;
        let subject = Prepare::<CellList>::prepare(runtime, variant, asked.dtype, &inputs, &config)
            .map_err(Refused::from)
            .and_then(|launch| {
                let mut verifier = GateVerifier::<CellList>::default();
                verifier
                    .begin(variant, asked.dtype, &inputs)
                    .map_err(|e| Refused::new(Verdict::Correctness, format!("no reference: {e}")))?;
                Ok(Subject::Timed(Box::new(Listed { launch, verifier, on_host }), BTreeMap::new()))
            });
        Ok(Prepared { problem, config, subject })
    }

    fn scatter(&mut self, row: &Row, asked: &Asked, variant: &force_scatter::Variant) -> Result<Prepared> {
        let Geometry::Problem(problem) = &asked.geometry else {
            return Err(Failure::input("a force scatter of a random graph, expected a `problem`"));
        };
        let workload = self.workload(problem, &asked.sizes)?;
        // The narrowest message has the same edges.
        let smallest: Variant = "cfconv_linear_gaussian_cosine_receiver".parse().map_err(Failure::fault)?;
        let narrow = Sizes { features: 1, n_basis: 1, hidden: 1, ..asked.sizes.clone() };
        let edges = workload.inputs(&smallest, &narrow)?;
        let system_ptr = workload.list_inputs(asked.sizes.cutoff)?.system_ptr;
        let mut rng = ChaCha8Rng::seed_from_u64(asked.sizes.seed);
        let edge_grad = edges.edge_vec.iter().map(|_| rng.random_range(-1.0..1.0)).collect();
        let inputs = force_scatter::Inputs {
            row_ptr: edges.row_ptr,
            sender: edges.sender,
            edge_vec: edges.edge_vec,
            edge_grad,
            system_ptr,
        };
        let (problem, seed) = (inputs.problem(problem), asked.sizes.seed);
        let runtime = self.runtime(row)?;
        let config = config::<ForceScatter>(runtime, variant, asked.dtype, &problem, &asked.config);
        let subject = match asked.order {
            0 => whole::<ForceScatter>(runtime, variant, asked.dtype, &inputs, &config),
            1 => {
                let grad = scatter::random_cotangents(&inputs, seed);
                let all = force_scatter::BackwardInputs { inputs, grad };
                whole::<ForceScatterBackward>(runtime, variant, asked.dtype, &all, &config)
            }
            _ => {
                let grad = scatter::random_cotangents(&inputs, seed);
                let tangent = scatter::random_tangent(&inputs, seed);
                let all = force_scatter::DoubleBackwardInputs { inputs, grad, tangent };
                whole::<ForceScatterDoubleBackward>(runtime, variant, asked.dtype, &all, &config)
            }
        };
        Ok(Prepared { problem, config, subject: subject.map(|timed| Subject::Timed(timed, BTreeMap::new())) })
    }
}

fn runtime_of(row: &Row) -> &str {
    row.text("runtime").unwrap_or("auto")
}

/// What a row is launched with and on.
struct Prepared {
    problem: Problem,
    config: LaunchConfig,
    subject: std::result::Result<Subject, Refused>,
}

impl Bench for Kernels {
    fn source(&mut self, row: &Row) -> std::result::Result<(String, DeviceId, String), String> {
        let asked = self.asked(row).map_err(|e| e.message)?;
        let device = self.runtime(row).map_err(|e| e.message)?.device().clone();
        let compiler = provenance::compiler(device.runtime);
        Ok((asked.kernel_hash(device.runtime), device, compiler))
    }

    fn prepare(&mut self, row: &Row) -> std::result::Result<(Origin, std::result::Result<Subject, Refused>), String> {
        let asked = self.asked(row).map_err(|e| e.message)?;
        let prepared = match &asked.kernel {
            Kernel::Message(variant) => self.message(row, &asked, variant),
            Kernel::List(variant) => self.list(row, &asked, variant),
            Kernel::Scatter(variant) => self.scatter(row, &asked, variant),
        };
        let Prepared { problem, config, subject } = prepared.map_err(|e| e.message)?;
        let runtime = self.runtime(row).map_err(|e| e.message)?;
        let device = runtime.device().clone();
        let origin = Origin {
            op: asked.kernel.op().to_owned(),
            variant: asked.kernel.id(),
            kernel_hash: asked.kernel_hash(device.runtime),
            order: asked.order,
            dtype: asked.dtype,
            config,
            problem,
            versions: provenance::versions(),
            compiler: provenance::compiler(device.runtime),
            // Burn is timed from outside.
            clock: if asked.implementation.is_some() { Clock::Wall } else { runtime.clock() },
            device,
        };
        Ok((origin, subject))
    }
}

/// The variant whose filter is sampled into a table; the variant itself where it has none.
fn exact(variant: &Variant) -> Variant {
    let filter = match (variant.filter, variant.message) {
        (FilterKind::Tabulated, Message::Cfconv) => FilterKind::Mlp,
        (FilterKind::Tabulated, Message::Painn) => FilterKind::Linear,
        _ => return variant.clone(),
    };
    let radial = Some(("gaussian".to_owned(), "cosine".to_owned()));
    Variant { filter, radial, reduction: Reduction::Receiver, ..variant.clone() }
}

/// The sizes of a message before anything of it is made; only the mean of a skewed graph's degrees is known then.
fn sizes(asked: &Asked, variant: &Variant) -> Result<Problem> {
    let Sizes { features, n_basis, hidden, .. } = asked.sizes;
    match &asked.geometry {
        Geometry::Problem(problem) => workload::sizes_of(problem, variant, &asked.sizes),
        Geometry::Graph { n_atoms, degree, skew } => Ok(Problem {
            name: format!("graph-{n_atoms}-{degree}-{skew}"),
            n_atoms: *n_atoms as u64,
            n_systems: 0,
            n_edges: (*n_atoms as f64 * degree) as u64,
            max_degree: degree.ceil() as u64,
            features: features as u32,
            n_basis: n_basis as u32,
            hidden: if variant.filter == FilterKind::Mlp { hidden as u32 } else { 0 },
        }),
    }
}

/// Bytes of the inputs of a message as they are made, in f64.
fn input_bytes(variant: &Variant, problem: &Problem) -> f64 {
    let [n_atoms, n_edges] = [problem.n_atoms, problem.n_edges].map(|n| n as f64);
    let [features, n_basis, hidden] = [problem.features, problem.n_basis, problem.hidden].map(f64::from);
    let channels = variant.message.parts() as f64 * features;
    let vectors = if variant.message == Message::Painn { 3.0 * features } else { 0.0 };
    let weights = if variant.filter == FilterKind::Mlp { hidden * (n_basis + channels) } else { n_basis * channels };
    // An edge has a vector and a sender.
    8.0 * (n_atoms * (channels + vectors) + weights) + 28.0 * n_edges
}

/// Degrees with this mean: all alike, or in proportion to (i + 1)^−skew.
fn degrees(n_atoms: usize, degree: f64, skew: f64) -> Degrees {
    if skew == 0.0 {
        return Degrees::Uniform(degree.round() as usize);
    }
    let shares: f64 = (1..=n_atoms).map(|i| (i as f64).powf(-skew)).sum();
    let max = if n_atoms == 0 { 0.0 } else { n_atoms as f64 * degree / shares };
    Degrees::PowerLaw { max: max.round() as usize, exponent: skew }
}

/// The default configuration with the parameters that a row fixes.
fn config<O: Op>(
    runtime: &(dyn Runtime + 'static),
    variant: &O::Variant,
    dtype: Dtype,
    problem: &Problem,
    fixed: &LaunchConfig,
) -> LaunchConfig
where
    dyn Runtime: Prepare<O>,
{
    let mut config = Prepare::<O>::default_config(runtime, variant, dtype, problem);
    config.0.extend(fixed.0.clone());
    config
}

type Subjected = std::result::Result<Box<dyn Timed>, Refused>;

/// A message of any order and implementation. What is compared are the outputs of some receivers and their gradients.
fn message_subject(
    runtime: &(dyn Runtime + 'static),
    asked: &Asked,
    variant: &Variant,
    inputs: Inputs<f64>,
    config: &LaunchConfig,
) -> Subjected {
    let (dtype, seed, kind) = (asked.dtype, asked.sizes.seed, runtime.device().runtime);
    let on_host = kind == RuntimeKind::Host;
    if let Some(bytes) =
        asked.implementation.and_then(|which| on_tensors::peak_bytes(which, &inputs, dtype, asked.order))
    {
        let (gib, most) = (bytes as f64 / f64::from(1 << 30), memory());
        if on_host && bytes > most {
            let most = most as f64 / f64::from(1 << 30);
            let reason = format!("not tried, it would take about {gib:.1} GiB of memory, allowed {most:.1} GiB");
            return Err(Refused::new(Verdict::Skipped, reason));
        }
    }
    let wrong = |e: &dyn std::fmt::Display| Refused::new(Verdict::Correctness, format!("no reference: {e}"));
    // A composition promises nothing about its bits, whatever the variant's reduction does.
    let promised = match asked.implementation {
        Some(Implementation::Unfused) => Variant { reduction: Reduction::EdgeAtomic, ..variant.clone() },
        _ => variant.clone(),
    };
    let step = checked_step(&inputs);
    let n_atoms = inputs.n_atoms;
    match asked.order {
        0 => {
            let oracle = forward(variant, &some_receivers(&inputs, step)).map_err(|e| wrong(&e))?;
            let launch = match asked.implementation {
                None => Prepare::<FusedMessage>::prepare(runtime, variant, dtype, &inputs, config)?,
                Some(which) => on_tensors::forward(kind, which, &inputs, variant, dtype)?,
            };
            let known = move |outputs: &mut Outputs<f64>| mask(outputs, n_atoms, step);
            Ok(Box::new(Launched::<FusedMessage, _> { launch, variant: promised, dtype, oracle, known, on_host }))
        }
        1 => {
            let mut grad = random_cotangents(&inputs, seed);
            mask(&mut grad, n_atoms, step);
            let wanted = if variant.filter == FilterKind::Tabulated { Wanted::INPUTS } else { Wanted::ALL };
            let all = FusedMessageBackward::rounded(&BackwardInputs { inputs, grad, wanted }, dtype);
            let part = BackwardInputs { inputs: some_receivers(&all.inputs, step), ..all.clone() };
            let mut oracle = backward(variant, &part).map_err(|e| wrong(&e))?;
            let places = places(&all.inputs, step);
            spread(&mut oracle.outputs, &places, &all.inputs);
            spread(&mut oracle.magnitude, &places, &all.inputs);
            let launch = match asked.implementation {
                None => Prepare::<FusedMessageBackward>::prepare(runtime, variant, dtype, &all, config)?,
                Some(which) => on_tensors::backward(kind, which, &all, variant, dtype)?,
            };
            let known = |_: &mut _| ();
            Ok(Box::new(Launched::<FusedMessageBackward, _> {
                launch,
                variant: promised,
                dtype,
                oracle,
                known,
                on_host,
            }))
        }
        _ => {
            let mut grad = random_cotangents(&inputs, seed);
            mask(&mut grad, n_atoms, step);
            let tangent = random_tangent(&inputs, false, seed);
            let all = DoubleBackwardInputs { inputs, grad, tangent };
            let all = FusedMessageDoubleBackward::rounded(&all, dtype);
            let places = places(&all.inputs, step);
            let mut part = DoubleBackwardInputs { inputs: some_receivers(&all.inputs, step), ..all.clone() };
            part.tangent.edge_vec = places.iter().map(|at| all.tangent.edge_vec[*at]).collect();
            let mut oracle = double_backward(variant, &part).map_err(|e| wrong(&e))?;
            spread(&mut oracle.outputs.gradients, &places, &all.inputs);
            spread(&mut oracle.magnitude.gradients, &places, &all.inputs);
            let launch = Prepare::<FusedMessageDoubleBackward>::prepare(runtime, variant, dtype, &all, config)?;
            // What other receivers' outputs change at is not known.
            let known = move |outputs: &mut fused_message::DoubleGradients<f64>| mask(&mut outputs.grad, n_atoms, step);
            Ok(Box::new(Launched::<FusedMessageDoubleBackward, _> {
                launch,
                variant: promised,
                dtype,
                oracle,
                known,
                on_host,
            }))
        }
    }
}

/// A kernel of which the oracle knows every output.
fn whole<O: ByTensors + 'static>(
    runtime: &(dyn Runtime + 'static),
    variant: &O::Variant,
    dtype: Dtype,
    inputs: &O::Inputs,
    config: &LaunchConfig,
) -> Subjected
where
    dyn Runtime: Prepare<O>,
{
    let inputs = O::rounded(inputs, dtype);
    let oracle =
        O::oracle(variant, &inputs).map_err(|e| Refused::new(Verdict::Correctness, format!("no reference: {e}")))?;
    let launch = Prepare::<O>::prepare(runtime, variant, dtype, &inputs, config)?;
    let on_host = runtime.device().runtime == RuntimeKind::Host;
    let known = |_: &mut O::Outputs| ();
    Ok(Box::new(Launched::<O, _> { launch, variant: variant.clone(), dtype, oracle, known, on_host }))
}

/// A launch with what it should give.
struct Launched<O: ByTensors, M> {
    launch: Box<dyn Launch<O>>,
    variant: O::Variant,
    dtype: Dtype,
    oracle: Oracle<O::Outputs>,
    /// Hides what the oracle does not know.
    known: M,
    on_host: bool,
}

impl<O: ByTensors, M: Fn(&mut O::Outputs)> Timed for Launched<O, M> {
    fn gate(&mut self) -> std::result::Result<f64, Refused> {
        let Self { launch, variant, dtype, oracle, known, .. } = self;
        let mut masked = Masked { launch: launch.as_mut(), known };
        match check_launch::<O>(&mut masked, variant, *dtype, oracle) {
            gate::Verdict::Passed { rel_error, .. } => Ok(rel_error),
            gate::Verdict::Failed { reason, .. } => Err(Refused::new(Verdict::Correctness, reason)),
            gate::Verdict::Unsupported { reason } => Err(Refused::new(Verdict::Unsupported, reason)),
            gate::Verdict::Skipped { reason } => Err(Refused::new(Verdict::Constraint, reason)),
        }
    }

    fn time(&mut self) -> std::result::Result<Duration, Refused> {
        Ok(self.launch.time()?)
    }

    fn peak_bytes(&mut self) -> std::result::Result<Option<u64>, Refused> {
        // What a process has resident says nothing of another device's memory.
        if self.on_host { peak(|| self.launch.run()) } else { Ok(None) }
    }
}

/// A launch of which only what is known is looked at.
struct Masked<'a, O: Op, M> {
    launch: &'a mut dyn Launch<O>,
    known: &'a M,
}

impl<O: Op, M: Fn(&mut O::Outputs)> Launch<O> for Masked<'_, O, M> {
    fn poison(&mut self) -> std::result::Result<(), LaunchError> {
        self.launch.poison()
    }

    fn run(&mut self) -> std::result::Result<(), LaunchError> {
        self.launch.run()
    }

    fn time(&mut self) -> std::result::Result<Duration, LaunchError> {
        self.launch.time()
    }

    fn outputs(&mut self) -> std::result::Result<O::Outputs, LaunchError> {
        let mut outputs = self.launch.outputs()?;
        (self.known)(&mut outputs);
        Ok(outputs)
    }

    fn input_digest(&mut self) -> std::result::Result<u64, LaunchError> {
        self.launch.input_digest()
    }
}

/// A list with the tuner's gate, which compares sampled rows of a large one.
struct Listed {
    launch: Box<dyn Launch<CellList>>,
    verifier: GateVerifier<CellList>,
    on_host: bool,
}

impl Timed for Listed {
    fn gate(&mut self) -> std::result::Result<f64, Refused> {
        self.verifier.recheck(self.launch.as_mut()).map(|evidence| evidence.rel_error).map_err(
            |refusal| match refusal {
                Refusal::Wrong { reason, .. } => Refused::new(Verdict::Correctness, reason),
                Refusal::Fault(error) => error.into(),
            },
        )
    }

    fn time(&mut self) -> std::result::Result<Duration, Refused> {
        Ok(self.launch.time()?)
    }

    fn peak_bytes(&mut self) -> std::result::Result<Option<u64>, Refused> {
        if self.on_host { peak(|| self.launch.run()) } else { Ok(None) }
    }
}

/// Bytes that a run makes resident at its peak.
fn peak(run: impl FnOnce() -> std::result::Result<(), LaunchError>) -> std::result::Result<Option<u64>, Refused> {
    trim();
    let found = peak_of(run).map_err(|e| Refused::new(Verdict::Runtime, e.message))?;
    Ok(found.map(|bytes| bytes as u64))
}

/// Gives the system back what the allocator keeps of earlier runs, which would hide what this one takes.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn trim() {
    // SAFETY: `malloc_trim` takes no pointer and may be called at any time, from any thread.
    unsafe { libc::malloc_trim(0) };
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn trim() {}

#[cfg(test)]
mod tests {
    use ff_sweep::Value;

    use super::*;

    /// What is counted before anything is made is what is made then, but for the parameters of radial functions.
    #[test]
    fn inputs_are_as_large_as_expected() {
        for name in ["painn_linear_bessel_cosine_receiver", "cfconv_mlp_gaussian_cosine_receiver"] {
            let text = |text: &str| Value::Text(text.to_owned());
            let number = |axis: &str, n: u64| (axis.to_owned(), Value::Integer(n));
            let sizes = [number("features", 24), number("n_basis", 7), number("hidden", 40), number("n_atoms", 50)];
            let mut row = Row(sizes.into());
            row.0.insert("variant".to_owned(), text(name));
            row.0.insert("degree".to_owned(), Value::Number(6.0));
            let mut kernels = Kernels::default();
            let asked = kernels.asked(&row).unwrap_or_else(|e| panic!("{}", e.message));
            let Kernel::Message(variant) = &asked.kernel else { panic!("{name} is no message") };
            let expected = super::sizes(&asked, variant).unwrap_or_else(|e| panic!("{}", e.message));
            let inputs = kernels.message_inputs(&asked, variant).unwrap_or_else(|e| panic!("{}", e.message));
            assert_eq!(inputs.problem(&expected.name), expected);
            let values: usize = inputs.tensors().iter().map(|(_, _, values)| values.len()).sum();
            let made = (8 * values + 4 * inputs.sender.len()) as f64;
            let counted = input_bytes(variant, &expected);
            assert!(counted <= made && made <= 1.05 * counted, "{name}: {counted} counted, {made} made");
        }
    }
}
