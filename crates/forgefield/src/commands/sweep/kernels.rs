//! Rows that are kernels: from the words of a row to something that is gated and timed.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use ff_spec::{Clock, DeviceId, Dtype, LaunchConfig, Problem, Runtime, RuntimeKind};
use ff_sweep::axes::CONFIG;
use ff_sweep::{Bench, Origin, Refused, Row, Subject};
use ff_tune::Target;
use ff_yardstick::on_tensors::Implementation;

use crate::failure::{Failure, Result};
use crate::ops::{self, AnyOp, meant};
use crate::options::{RuntimeChoice, Sizes};
use crate::screen::Screen;
use crate::workload::{self, Workload};
use crate::{provenance, runtimes};

/// Relative error of a table where a row does not say: a tenth of what the gate allows in f32.
const TABLE_TOLERANCE: f64 = 1e-6;
/// Derivatives per node of a table where a row does not say: cubic segments, as everywhere in this binary.
const TABLE_ORDER: u64 = 2;

/// Where atoms and edges come from.
#[derive(Clone, Debug)]
pub enum Geometry {
    /// A built-in structure.
    Problem(String),
    /// A random graph.
    Graph {
        /// Atoms.
        n_atoms: usize,
        /// Mean edges of an atom.
        degree: f64,
        /// How unequal they are: in proportion to (i + 1)^−skew.
        skew: f64,
    },
}

/// What a row asks for.
#[derive(Clone)]
pub struct Asked {
    /// The op.
    pub op: &'static dyn AnyOp,
    /// Id of the variant.
    pub id: &'static str,
    /// Derivative order.
    pub order: u8,
    /// Element type.
    pub dtype: Dtype,
    /// `None` for the kernel itself.
    pub implementation: Option<Implementation>,
    /// Where atoms and edges come from.
    pub geometry: Geometry,
    /// Sizes of the model.
    pub sizes: Sizes,
    /// Derivatives per node and relative error of a table, where a filter is sampled into one.
    pub table: Option<(usize, f64)>,
    /// Launch parameters that are fixed.
    pub config: LaunchConfig,
}

impl Asked {
    /// The hash of the kernel on a runtime.
    fn kernel_hash(&self, runtime: RuntimeKind) -> String {
        provenance::kernel_hash(self.op.name(), self.id, self.order, runtime)
    }
}

/// The runtimes, and what rows have in common.
#[derive(Default)]
pub struct Kernels {
    runtimes: BTreeMap<String, Box<dyn Runtime>>,
    workloads: BTreeMap<String, Rc<Workload>>,
    /// What an op keeps from one row for another, by everything that makes it.
    kept: BTreeMap<String, Rc<dyn Any>>,
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
        let asked = self.asked(row)?;
        Ok(asked.op.unused_axes(asked.id))
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

    /// The runtime of a row.
    ///
    /// # Errors
    /// One that was not opened.
    pub fn runtime(&self, row: &Row) -> Result<&(dyn Runtime + 'static)> {
        let runtime = self.runtimes.get(runtime_of(row)).map(Box::as_ref);
        runtime.ok_or_else(|| Failure::fault(format!("runtime `{}` was not opened", runtime_of(row))))
    }

    /// What `make` made before under this key, or makes now.
    ///
    /// # Errors
    /// As `make`, and a key of something else.
    pub fn kept<T: 'static>(&mut self, key: String, make: impl FnOnce() -> Result<T>) -> Result<Rc<T>> {
        let found: Rc<dyn Any> = match self.kept.get(&key) {
            Some(found) => found.clone(),
            None => Rc::new(make()?),
        };
        self.kept.insert(key, found.clone());
        found.downcast().map_err(|_| Failure::fault("something else is kept under this key"))
    }

    /// What a row asks for.
    ///
    /// # Errors
    /// The first thing that no kernel can be made of.
    pub fn asked(&mut self, row: &Row) -> Result<Asked> {
        let refuse = |text: String| Err(Failure::input(text));
        let Some(name) = row.text("variant") else {
            return refuse("no `variant`, expected an axis of them".to_owned());
        };
        let (op, id) = ops::of_variant(name)?;
        if let Some(asked) = row.text("op") {
            ops::find(asked)?;
            if asked != op.name() {
                return refuse(format!("variant `{name}` is of op `{}`, expected one of `{asked}`", op.name()));
            }
        }
        if row.text("strategy").is_some() {
            return refuse("`strategy` is an axis of replays, expected `kind = \"replay\"` with it".to_owned());
        }
        let order = row.integer("order").unwrap_or(0);
        let most = op.orders().iter().map(|order| u64::from(order.order())).max().unwrap_or(0);
        if order > most {
            return refuse(format!("order {order} of op `{}`, expected at most {most}", op.name()));
        }
        let implementation = match row.text("implementation") {
            None | Some("kernel") => None,
            Some(which) => {
                if !op.has_compositions(order as u8) {
                    let what = format!("`{which}` of op `{}` in order {order}", op.name());
                    let composed = ops::ALL.iter().filter(|op| op.has_compositions(0));
                    let composed: Vec<String> = composed.map(|op| format!("`{}`", op.name())).collect();
                    return refuse(format!("{what}, expected {} in order 0 or 1, or `kernel`", composed.join(" or ")));
                }
                if !row.config().0.is_empty() {
                    return refuse(format!(
                        "launch parameters of `{which}`, which chooses them itself; expected `kernel`"
                    ));
                }
                Some(if which == "fused" { Implementation::Fused } else { Implementation::Unfused })
            }
        };
        self.check_config(row, (op, id), order as u8)?;
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
                if !op.takes_graphs() {
                    return refuse(format!("a random graph for op `{}`, expected a `problem`", op.name()));
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
        let tabulated = op.is_tabulated(id);
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
            op,
            id,
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
    fn check_config(&self, row: &Row, (op, id): (&'static dyn AnyOp, &str), order: u8) -> Result<()> {
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
        let (spaces, part) = (op.spaces()?, op.expect_order(order)?.part(id));
        let of_kernel = spaces.iter().filter(|space| space.part == part && space.orders.contains(&order));
        let there = of_kernel.filter(|space| target.is_none_or(|target| target == space.target));
        let known: BTreeSet<&str> = there.flat_map(|space| space.parameters()).map(|(name, _)| name.as_str()).collect();
        let known: Vec<&str> = known.into_iter().collect();
        for (name, value) in fixed {
            if !known.contains(&name) {
                return Err(Failure::input(format!(
                    "unknown launch parameter `{name}` of {}{}{}, expected one of {}",
                    id,
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
    ///
    /// # Errors
    /// As [`workload::collect`].
    pub fn workload(&mut self, problem: &str, sizes: &Sizes) -> Result<Rc<Workload>> {
        let key = format!("{problem} {}", sizes.cutoff);
        if let Some(workload) = self.workloads.get(&key) {
            return Ok(workload.clone());
        }
        let workload = Rc::new(workload::one(problem, sizes)?);
        self.workloads.insert(key, workload.clone());
        Ok(workload)
    }
}

fn runtime_of(row: &Row) -> &str {
    row.text("runtime").unwrap_or("auto")
}

/// What a row is launched with and on.
pub struct PreparedRow {
    /// Its sizes.
    pub problem: Problem,
    /// Its configuration.
    pub config: LaunchConfig,
    /// What is timed, or why it cannot be.
    pub subject: std::result::Result<Subject, Refused>,
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
        let prepared = asked.op.sweep(self, row, &asked);
        let PreparedRow { problem, config, subject } = prepared.map_err(|e| e.message)?;
        let runtime = self.runtime(row).map_err(|e| e.message)?;
        let device = runtime.device().clone();
        let origin = Origin {
            op: asked.op.name().to_owned(),
            variant: asked.id.to_owned(),
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
