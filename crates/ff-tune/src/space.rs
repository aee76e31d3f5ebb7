//! What can be tuned: parameters, their values, and the constraints between them, a device and a problem.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ff_spec::cell_list::{self, Strategy};
use ff_spec::fused_message::Reduction;
use ff_spec::{DeviceId, Dtype, LaunchConfig, OPS, Problem, RuntimeKind, force_scatter, fused_message};
use ff_tables::nearest;
use serde::{Deserialize, Serialize};

use crate::constraint::Constraint;
use crate::points::Points;
use crate::product::Product;

/// The file of `fused_message` as it was when this crate was built.
const FUSED_MESSAGE: &str = include_str!("../../../autotune/spaces/fused_message.toml");

/// The file of `cell_list` as it was when this crate was built.
const CELL_LIST: &str = include_str!("../../../autotune/spaces/cell_list.toml");

/// The file of `force_scatter` as it was when this crate was built.
const FORCE_SCATTER: &str = include_str!("../../../autotune/spaces/force_scatter.toml");

/// What a constraint may name besides the parameters of its space.
const VARIABLES: [&str; 11] = [
    "features",
    "n_basis",
    "hidden",
    "n_atoms",
    "n_systems",
    "n_edges",
    "mean_degree",
    "dtype_size",
    "max_units_per_cube",
    "shared_memory",
    "plane_size",
];

/// Which of the two sources rendered from a template a space is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// Plain Rust.
    Host,
    /// CubeCL, on any of its runtimes.
    Cube,
}

impl Target {
    /// The target that runs on a runtime.
    pub fn of(runtime: RuntimeKind) -> Self {
        match runtime {
            RuntimeKind::Host => Target::Host,
            RuntimeKind::Vulkan | RuntimeKind::Metal | RuntimeKind::Cuda => Target::Cube,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Target::Host => "host",
            Target::Cube => "cube",
        })
    }
}

/// What of a variant decides which parameters its kernels have, by its key in a space file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// Of `fused_message`.
    Reduction(Reduction),
    /// Of `cell_list`.
    Strategy(Strategy),
    /// Of `force_scatter`.
    #[serde(rename = "reduction")]
    Scatter(force_scatter::Reduction),
}

impl Part {
    /// Its key in a space file.
    pub fn key(self) -> &'static str {
        match self {
            Part::Reduction(_) | Part::Scatter(_) => "reduction",
            Part::Strategy(_) => "strategy",
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Part::Reduction(reduction) => reduction.name(),
            Part::Strategy(strategy) => strategy.name(),
            Part::Scatter(reduction) => reduction.name(),
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} `{}`", self.key(), self.name())
    }
}

/// A space file that cannot be used, or a space with nothing in it.
#[derive(Debug, thiserror::Error)]
pub enum SpaceError {
    /// The file cannot be read.
    #[error("cannot read tuning space {}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It is not TOML of this shape.
    #[error("malformed tuning space {file}: {reason}")]
    Malformed {
        /// Which file.
        file: String,
        /// What is wrong, with line and column.
        reason: String,
    },
    /// It is of this shape and contradicts itself.
    #[error("tuning space {file}, target `{target}`, {part}: {reason}")]
    Inconsistent {
        /// Which file.
        file: String,
        /// Target of the space.
        target: Target,
        /// Part of the space.
        part: Part,
        /// What was expected and found.
        reason: String,
    },
    /// No space for what is asked.
    #[error("tuning space {file} has no [[space]] for target `{target}`, {part} and order {order}")]
    Missing {
        /// Which file.
        file: String,
        /// Target asked for.
        target: Target,
        /// Part asked for.
        part: Part,
        /// Derivative order asked for.
        order: u8,
    },
    /// The spaces of another op.
    #[error("tuning space {file} is for op `{found}`, expected `{expected}`")]
    Op {
        /// Which file.
        file: String,
        /// Op of the file.
        found: String,
        /// Op that is tuned.
        expected: &'static str,
    },
    /// No configuration meets all constraints.
    #[error(
        "empty tuning space for `{problem}` in {dtype} on {device}: none of {total} configurations is left; {}",
        contradiction(conflict)
    )]
    Empty {
        /// Name of the problem.
        problem: String,
        /// Element type.
        dtype: Dtype,
        /// Slug of the device.
        device: String,
        /// Configurations without constraints.
        total: u64,
        /// The constraints that cannot hold together: one, two, or as few as none of which can be spared.
        conflict: Vec<String>,
    },
}

fn contradiction(conflict: &[String]) -> String {
    match conflict {
        [one] => format!("`{one}` never holds"),
        [one, other] => format!("`{one}` and `{other}` cannot both hold"),
        more => format!("`{}` cannot hold together", more.join("`, `")),
    }
}

/// A reduction of any op.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum RawReduction {
    Receiver,
    EdgeAtomic,
    Gather,
    Atomic,
}

impl RawReduction {
    fn part(self) -> Part {
        match self {
            RawReduction::Receiver => Part::Reduction(Reduction::Receiver),
            RawReduction::EdgeAtomic => Part::Reduction(Reduction::EdgeAtomic),
            RawReduction::Gather => Part::Scatter(force_scatter::Reduction::Gather),
            RawReduction::Atomic => Part::Scatter(force_scatter::Reduction::Atomic),
        }
    }
}

/// A `[[space]]` as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSpace {
    target: Target,
    reduction: Option<RawReduction>,
    strategy: Option<Strategy>,
    /// The derivative orders that it is for.
    #[serde(default = "forward")]
    orders: Vec<u8>,
    parameters: BTreeMap<String, Vec<u32>>,
    defaults: BTreeMap<String, u32>,
    #[serde(default)]
    constraints: Vec<String>,
}

fn forward() -> Vec<u8> {
    vec![0]
}

impl RawSpace {
    /// The part that spaces of this op are told apart by, and nothing of another op.
    fn part(&self, op: &str) -> Result<Part, String> {
        let (reduction, strategy) = (self.reduction.map(RawReduction::part), self.strategy.map(Part::Strategy));
        let (key, part, other) = match op {
            cell_list::OP => ("strategy", strategy, reduction),
            _ => ("reduction", reduction, strategy),
        };
        if let Some(other) = other {
            return Err(format!("unknown field `{}`, spaces of `{op}` are told apart by `{key}`", other.key()));
        }
        let part =
            part.ok_or_else(|| format!("missing field `{key}` of the [[space]] for target `{}`", self.target))?;
        let own = match part {
            Part::Reduction(_) => fused_message::OP,
            Part::Strategy(_) => cell_list::OP,
            Part::Scatter(_) => force_scatter::OP,
        };
        if own == op { Ok(part) } else { Err(format!("{part} is of op `{own}`, expected one of op `{op}`")) }
    }
}

/// A space file as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    op: String,
    space: Vec<RawSpace>,
}

/// All spaces of one op.
#[derive(Clone, Debug)]
pub struct Spaces {
    /// The op.
    pub op: String,
    file: String,
    spaces: Vec<Space>,
}

/// One tuning space: the parameters of a target and a part, in some derivative orders.
#[derive(Clone, Debug)]
pub struct Space {
    /// Target.
    pub target: Target,
    /// Part.
    pub part: Part,
    /// Derivative orders.
    pub orders: Vec<u8>,
    file: String,
    parameters: Vec<(String, Vec<u32>)>,
    defaults: LaunchConfig,
    constraints: Vec<Constraint>,
}

/// What became of the points of a space on a device and a problem.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// Points without constraints.
    pub total: u64,
    /// Points that are left.
    pub kept: u64,
    /// Each constraint with the points it removed; a point counts for the first constraint that refuses it.
    pub removed: Vec<(String, u64)>,
}

impl Spaces {
    /// The spaces of `fused_message` that this crate was built with.
    ///
    /// # Errors
    /// As [`Spaces::parse`]; a test keeps the built-in file sound.
    pub fn fused_message() -> Result<Self, SpaceError> {
        Self::parse(FUSED_MESSAGE, "autotune/spaces/fused_message.toml (built in)")
    }

    /// The spaces of `cell_list` that this crate was built with.
    ///
    /// # Errors
    /// As [`Spaces::parse`]; a test keeps the built-in file sound.
    pub fn cell_list() -> Result<Self, SpaceError> {
        Self::parse(CELL_LIST, "autotune/spaces/cell_list.toml (built in)")
    }

    /// The spaces of `force_scatter` that this crate was built with.
    ///
    /// # Errors
    /// As [`Spaces::parse`]; a test keeps the built-in file sound.
    pub fn force_scatter() -> Result<Self, SpaceError> {
        Self::parse(FORCE_SCATTER, "autotune/spaces/force_scatter.toml (built in)")
    }

    /// Reads a space file.
    ///
    /// # Errors
    /// [`SpaceError`] with the file and what was expected.
    pub fn load(path: &Path) -> Result<Self, SpaceError> {
        let text = fs::read_to_string(path).map_err(|source| SpaceError::Io { path: path.to_owned(), source })?;
        Self::parse(&text, &path.display().to_string())
    }

    /// Reads a space file from text; `file` is for messages.
    ///
    /// # Errors
    /// As [`Spaces::load`].
    pub fn parse(text: &str, file: &str) -> Result<Self, SpaceError> {
        let malformed = |reason: String| SpaceError::Malformed { file: file.to_owned(), reason };
        let raw: RawFile = toml::from_str(text).map_err(|e| malformed(with_suggestion(&e.to_string())))?;
        if !OPS.contains(&raw.op.as_str()) {
            let near = did_you_mean(&raw.op, OPS.iter().copied());
            return Err(malformed(format!("op is `{}`{near}, expected {}", raw.op, OPS.join(" or "))));
        }
        let mut spaces: Vec<Space> = Vec::new();
        for space in raw.space {
            let (target, part) = (space.target, space.part(&raw.op).map_err(malformed)?);
            let inconsistent = |reason| SpaceError::Inconsistent { file: file.to_owned(), target, part, reason };
            if let Some(order) = space.orders.iter().find(|order| **order > 2) {
                return Err(inconsistent(format!("order {order} in `orders`, expected 0, 1 or 2")));
            }
            let described = |s: &Space| {
                (s.target, s.part) == (target, part) && s.orders.iter().any(|order| space.orders.contains(order))
            };
            if spaces.iter().any(described) {
                return Err(inconsistent("described twice, expected once".to_owned()));
            }
            spaces.push(Space::new(space, part, file).map_err(inconsistent)?);
        }
        Ok(Self { op: raw.op, file: file.to_owned(), spaces })
    }

    /// Expects the spaces to be of an op.
    ///
    /// # Errors
    /// [`SpaceError::Op`].
    pub fn expect(&self, op: &'static str) -> Result<(), SpaceError> {
        if self.op == op {
            return Ok(());
        }
        Err(SpaceError::Op { file: self.file.clone(), found: self.op.clone(), expected: op })
    }

    /// The space of a target and a part in a derivative order.
    ///
    /// # Errors
    /// [`SpaceError::Missing`].
    pub fn get(&self, target: Target, part: Part, order: u8) -> Result<&Space, SpaceError> {
        let missing = || SpaceError::Missing { file: self.file.clone(), target, part, order };
        let of = |s: &&Space| (s.target, s.part) == (target, part) && s.orders.contains(&order);
        self.spaces.iter().find(of).ok_or_else(missing)
    }

    /// All of them, in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = &Space> {
        self.spaces.iter()
    }
}

impl Space {
    fn new(raw: RawSpace, part: Part, file: &str) -> Result<Self, String> {
        for (name, values) in &raw.parameters {
            let identifier = name.starts_with(|c: char| c.is_ascii_lowercase())
                && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
            if !identifier {
                return Err(format!("parameter `{name}` is no name, expected [a-z][a-z0-9_]*"));
            }
            if VARIABLES.contains(&name.as_str()) {
                return Err(format!("parameter `{name}` has the name of a device or problem variable"));
            }
            if values.is_empty() {
                return Err(format!("parameter `{name}` has no values, expected at least one"));
            }
            if values.contains(&0) {
                return Err(format!("parameter `{name}` has the value 0, expected positive integers"));
            }
            if values.iter().collect::<BTreeSet<_>>().len() != values.len() {
                return Err(format!("parameter `{name}` has a value twice: {values:?}"));
            }
            match raw.defaults.get(name) {
                None => return Err(format!("parameter `{name}` has no default")),
                Some(default) if !values.contains(default) => {
                    return Err(format!("default {default} of `{name}` is none of its values {values:?}"));
                }
                Some(_) => {}
            }
        }
        let known = || raw.parameters.keys().map(String::as_str);
        if let Some(name) = raw.defaults.keys().find(|n| !raw.parameters.contains_key(*n)) {
            return Err(format!("default for unknown parameter `{name}`{}", did_you_mean(name, known())));
        }
        let mut constraints = Vec::new();
        for text in &raw.constraints {
            let constraint = Constraint::parse(text)?;
            for name in constraint.names() {
                if !raw.parameters.contains_key(name) && !VARIABLES.contains(&name.as_str()) {
                    let near = did_you_mean(name, known().chain(VARIABLES));
                    return Err(format!("constraint `{text}` names unknown `{name}`{near}"));
                }
            }
            constraints.push(constraint);
        }
        let RawSpace { target, orders, parameters, defaults, .. } = raw;
        let mut parameters: Vec<(String, Vec<u32>)> = parameters.into_iter().collect();
        let total = parameters.iter().try_fold(1_u64, |total, (_, values)| total.checked_mul(values.len() as u64));
        if total.is_none() {
            return Err("2⁶⁴ points or more, expected fewer".to_owned());
        }
        parameters.iter_mut().for_each(|(_, values)| values.sort_unstable());
        Ok(Self {
            target,
            part,
            orders,
            file: file.to_owned(),
            parameters,
            defaults: LaunchConfig(defaults),
            constraints,
        })
    }

    /// The parameters by name, with their values ascending.
    pub fn parameters(&self) -> &[(String, Vec<u32>)] {
        &self.parameters
    }

    /// The configuration that the file names as default. It may be infeasible on some device or problem, so what is used
    /// where no table applies is [`ff_spec::Runtime::default_config`].
    pub fn defaults(&self) -> &LaunchConfig {
        &self.defaults
    }

    /// Every configuration that meets all constraints, in lexicographic order of the parameter names.
    ///
    /// # Errors
    /// [`SpaceError::Empty`] names the constraints that cannot hold together; [`SpaceError::Inconsistent`] where one is
    /// neither true nor false here (a division by zero).
    pub fn enumerate(
        &self,
        device: &DeviceId,
        problem: &Problem,
        dtype: Dtype,
    ) -> Result<Vec<LaunchConfig>, SpaceError> {
        let (points, _) = self.open(device, problem, dtype)?;
        if points.is_empty() {
            return Err(self.empty(device, problem, dtype)?);
        }
        Ok(points.iter().collect())
    }

    /// The configurations that are left, and how many points each constraint removed.
    ///
    /// # Errors
    /// [`SpaceError::Inconsistent`] where a constraint is neither true nor false here.
    pub fn open(
        &self,
        device: &DeviceId,
        problem: &Problem,
        dtype: Dtype,
    ) -> Result<(Points, Explanation), SpaceError> {
        let undecided = |reason| self.undecided(reason, device, problem, dtype);
        let variables = variables(device, problem, dtype);
        let product = Product::new(&self.parameters, &self.constraints, &variables).map_err(undecided)?;
        let grid = Points::grid(self.parameters.iter().cloned());
        let mut points = grid.ok_or_else(|| undecided("the space has 2⁶⁴ points or more".to_owned()))?;
        let removed = product.collect(&mut points).map_err(undecided)?;
        let removed = self.constraints.iter().map(|c| c.text().to_owned()).zip(removed).collect();
        let explanation = Explanation { total: points.total(), kept: points.len() as u64, removed };
        Ok((points, explanation))
    }

    /// How many points each constraint would remove if it were the only one.
    ///
    /// # Errors
    /// As [`Space::open`].
    pub fn alone(&self, device: &DeviceId, problem: &Problem, dtype: Dtype) -> Result<Vec<(String, u64)>, SpaceError> {
        let variables = variables(device, problem, dtype);
        let product = Product::new(&self.parameters, &self.constraints, &variables);
        let alone = product.and_then(|product| product.alone());
        let alone = alone.map_err(|reason| self.undecided(reason, device, problem, dtype))?;
        Ok(self.constraints.iter().map(|c| c.text().to_owned()).zip(alone).collect())
    }

    /// The error of a space without points: which constraints empty it.
    ///
    /// # Errors
    /// As [`Space::open`].
    pub fn empty(&self, device: &DeviceId, problem: &Problem, dtype: Dtype) -> Result<SpaceError, SpaceError> {
        let variables = variables(device, problem, dtype);
        let product = Product::new(&self.parameters, &self.constraints, &variables);
        let product = product.map_err(|reason| self.undecided(reason, device, problem, dtype))?;
        let conflict = product.conflict().into_iter().map(|c| self.constraints[c].text().to_owned()).collect();
        Ok(SpaceError::Empty {
            problem: problem.name.clone(),
            dtype,
            device: device.slug.clone(),
            total: self.parameters.iter().map(|(_, v)| v.len() as u64).product(),
            conflict,
        })
    }

    fn undecided(&self, reason: String, device: &DeviceId, problem: &Problem, dtype: Dtype) -> SpaceError {
        SpaceError::Inconsistent {
            file: self.file.clone(),
            target: self.target,
            part: self.part,
            reason: format!("{reason} for `{}` in {dtype} on {}", problem.name, device.slug),
        }
    }

    /// The first constraint that a configuration breaks, or the parameter that it lacks; `None` where it is feasible.
    pub fn refuses(&self, config: &LaunchConfig, device: &DeviceId, problem: &Problem, dtype: Dtype) -> Option<String> {
        if let Some((name, _)) = self.parameters.iter().find(|(n, _)| config.get(n).is_none()) {
            return Some(format!("parameter `{name}` is not set"));
        }
        let variables = variables(device, problem, dtype).map(|(name, value)| (name.to_owned(), value));
        let parameters = config.0.iter().map(|(n, v)| (n.clone(), f64::from(*v)));
        let values: BTreeMap<String, f64> = variables.into_iter().chain(parameters).collect();
        self.constraints.iter().find_map(|c| match c.holds(&values) {
            Ok(true) => None,
            Ok(false) => Some(format!("constraint `{}` does not hold", c.text())),
            Err(reason) => Some(reason),
        })
    }
}

fn variables(device: &DeviceId, problem: &Problem, dtype: Dtype) -> [(&'static str, f64); VARIABLES.len()] {
    let values = [
        f64::from(problem.features),
        f64::from(problem.n_basis),
        f64::from(problem.hidden),
        problem.n_atoms as f64,
        problem.n_systems as f64,
        problem.n_edges as f64,
        problem.mean_degree(),
        dtype.size() as f64,
        f64::from(device.limits.max_units_per_cube),
        f64::from(device.limits.shared_memory),
        f64::from(device.limits.plane_size),
    ];
    std::array::from_fn(|i| (VARIABLES[i], values[i]))
}

fn did_you_mean<'a>(found: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(found, known).map(|n| format!(", did you mean `{n}`?")).unwrap_or_default()
}

/// Adds the nearest known name to serde's message about an unknown one, which lists them all in backticks.
fn with_suggestion(message: &str) -> String {
    let message = message.trim_end();
    let Some(start) = message.find("unknown field `").or_else(|| message.find("unknown variant `")) else {
        return message.to_owned();
    };
    let mut names = message[start..].split('`').skip(1).step_by(2);
    let found = names.next().unwrap_or_default();
    format!("{message}{}", did_you_mean(found, names))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use ff_spec::Limits;
    use proptest::prelude::{prop, prop_assert, prop_assert_eq, proptest};

    use super::*;
    use crate::testing::{device, problem};

    const RECEIVER: Part = Part::Reduction(Reduction::Receiver);

    #[test]
    fn the_built_in_file_covers_every_target_reduction_and_order() {
        let spaces = Spaces::fused_message().expect("the built-in file is sound");
        for runtime in RuntimeKind::ALL {
            for (reduction, order) in Reduction::ALL.into_iter().flat_map(|r| [(r, 0), (r, 1), (r, 2)]) {
                let part = Part::Reduction(reduction);
                let space = spaces.get(Target::of(runtime), part, order).expect("described");
                for features in [1, 3, 16, 17, 64, 128, 250, 512] {
                    for dtype in Dtype::ALL {
                        let (device, problem) = (device(runtime), problem(64, features));
                        let configs = space.enumerate(&device, &problem, dtype).expect("not empty");
                        assert!(configs.iter().all(|c| space.refuses(c, &device, &problem, dtype).is_none()));
                        assert_eq!(configs.iter().collect::<BTreeSet<_>>().len(), configs.len());
                    }
                }
            }
        }
    }

    #[test]
    fn constraints_bound_the_cube() {
        let spaces = Spaces::fused_message().expect("sound");
        let space = spaces.get(Target::Cube, RECEIVER, 0).expect("described");
        let (device, problem) = (device(RuntimeKind::Vulkan), problem(64, 126));
        let (points, explanation) = space.open(&device, &problem, Dtype::F64).expect("decidable");
        assert_eq!(explanation.total, 4 * 4 * 3 * 4 * 4);
        assert_eq!(explanation.total, explanation.kept + explanation.removed.iter().map(|(_, n)| n).sum::<u64>());
        for config in points.iter() {
            let get = |name| config.get(name).expect("set");
            assert!(get("rows_per_cube") * get("channels_per_cube") / get("vector_width") <= 1024);
            assert!(get("vector_width") <= 2, "126 features are not a multiple of 4");
            assert_eq!(get("edges_per_tile") % get("unroll"), 0);
            assert!(get("rows_per_cube") * get("edges_per_tile") * (20 + 8) * 8 <= 32768);
        }
        let refused = LaunchConfig::from([("vector_width", 4)]);
        assert!(space.refuses(&refused, &device, &problem, Dtype::F32).is_some_and(|r| r.contains("not set")));
    }

    #[test]
    fn lists_have_a_space_for_every_target_and_strategy() {
        let spaces = Spaces::cell_list().expect("the built-in file is sound");
        assert!(matches!(spaces.expect("fused_message"), Err(SpaceError::Op { .. })));
        for runtime in RuntimeKind::ALL {
            for strategy in Strategy::ALL {
                let part = Part::Strategy(strategy);
                let space = spaces.get(Target::of(runtime), part, 0).expect("described");
                for (n_systems, max_units_per_cube, plane_size) in [(1, 1024, 32), (64, 256, 64), (9, 128, 4)] {
                    let mut device = device(runtime);
                    device.limits = Limits { max_units_per_cube, plane_size, ..device.limits };
                    let problem = Problem { n_systems, features: 0, n_basis: 0, ..problem(64, 0) };
                    let configs = space.enumerate(&device, &problem, Dtype::F32).expect("not empty");
                    for config in configs.iter().filter(|_| runtime != RuntimeKind::Host) {
                        let units = config.get("atoms_per_cube").zip(config.get("units_per_atom"));
                        let units = units.map(|(atoms, units)| atoms * units).expect("set");
                        assert!(units <= max_units_per_cube && units % plane_size == 0, "{config}");
                    }
                    // Nothing is tried twice that brute force cannot tell apart: it has no bins.
                    let bins: BTreeSet<_> =
                        configs.iter().map(|c| (c.get("bins_across"), c.get("bins_along"))).collect();
                    assert_eq!(bins.len() > 1, strategy == Strategy::Cells);
                }
            }
        }
        let error = spaces.get(Target::Host, RECEIVER, 0).expect_err("of the other op").to_string();
        assert!(error.contains("target `host`, reduction `receiver` and order 0"), "{error}");
    }

    #[test]
    fn scatters_have_a_space_for_every_target_reduction_and_order() {
        let spaces = Spaces::force_scatter().expect("the built-in file is sound");
        for (runtime, plane_size) in RuntimeKind::ALL.into_iter().flat_map(|r| [(r, 4), (r, 32), (r, 64)]) {
            for reduction in force_scatter::Reduction::ALL {
                for order in 0..=2 {
                    let part = Part::Scatter(reduction);
                    let space = spaces.get(Target::of(runtime), part, order).expect("described");
                    let mut device = device(runtime);
                    device.limits.plane_size = plane_size;
                    let configs = space.enumerate(&device, &problem(64, 0), Dtype::F32).expect("not empty");
                    assert!(configs.len() > 1, "{configs:?}");
                }
            }
        }
        assert!(spaces.get(Target::Host, RECEIVER, 0).is_err());
    }

    #[test]
    fn an_empty_space_names_the_constraint() {
        let text = FUSED_MESSAGE.replace("unroll <= edges_per_tile", "unroll > 1000");
        let spaces = Spaces::parse(&text, "x.toml").expect("sound");
        let space = spaces.get(Target::Cube, RECEIVER, 0).expect("described");
        let error = space.enumerate(&device(RuntimeKind::Cuda), &problem(64, 128), Dtype::F32).expect_err("empty");
        assert!(
            error.to_string().ends_with("none of 768 configurations is left; `unroll > 1000` never holds"),
            "{error}"
        );
    }

    /// A host space of these values for each parameter, with these constraints.
    fn synthetic(parameters: &[(String, Vec<u32>)], constraints: &[String]) -> Space {
        let values: String = parameters.iter().map(|(name, values)| format!("{name} = {values:?}\n")).collect();
        let defaults: String = parameters.iter().map(|(name, values)| format!("{name} = {}\n", values[0])).collect();
        let text = format!(
            "op = \"fused_message\"\n[[space]]\ntarget = \"host\"\nreduction = \"receiver\"\n\
             constraints = {constraints:?}\n[space.parameters]\n{values}[space.defaults]\n{defaults}"
        );
        let spaces = Spaces::parse(&text, "x.toml").unwrap_or_else(|e| panic!("{e}"));
        spaces.get(Target::Host, RECEIVER, 0).expect("described").clone()
    }

    fn six_of_ten() -> Vec<(String, Vec<u32>)> {
        ["a", "b", "c", "d", "e", "f"].map(|name| (name.to_owned(), (1..=10).collect())).to_vec()
    }

    #[test]
    fn a_million_points_open_in_a_second() {
        let (device, problem) = (device(RuntimeKind::Host), problem(64, 8));
        // Unoptimised code is given ten times as long.
        let most = Duration::from_secs(if cfg!(debug_assertions) { 10 } else { 1 });
        // The first cuts whole branches off; the last is judged a million times and removes nothing.
        for (constraints, kept) in [
            (vec!["a * b <= 16", "c % b == 0", "d + e + f <= 9"], None),
            (vec!["a + b + c + d + e + f >= 6"], Some(1_000_000)),
        ] {
            let constraints: Vec<String> = constraints.into_iter().map(str::to_owned).collect();
            let space = synthetic(&six_of_ten(), &constraints);
            let start = Instant::now();
            let (points, explanation) = space.open(&device, &problem, Dtype::F32).expect("decidable");
            let took = start.elapsed();
            assert!(took < most, "took {took:?}");
            assert_eq!((explanation.total, explanation.kept), (1_000_000, points.len() as u64));
            assert!(kept.is_none_or(|kept| kept == points.len()));
        }
    }

    #[test]
    fn contradictions_are_named() {
        let (device, problem) = (device(RuntimeKind::Host), problem(64, 8));
        for (constraints, expected) in [
            (vec!["a <= 3", "b > 10", "a * b >= 1"], "`b > 10` never holds"),
            (vec!["a <= 3", "c <= 5", "c >= a", "a * b >= 40"], "`a <= 3` and `a * b >= 40` cannot both hold"),
            (vec!["features > 8", "a <= 3"], "`features > 8` never holds"),
            (vec!["f > 1", "a > b", "b > c", "c > a"], "`a > b`, `b > c`, `c > a` cannot hold together"),
        ] {
            let constraints: Vec<String> = constraints.into_iter().map(str::to_owned).collect();
            let space = synthetic(&six_of_ten(), &constraints);
            let error = space.enumerate(&device, &problem, Dtype::F32).expect_err("empty");
            let expected = format!("none of 1000000 configurations is left; {expected}");
            assert!(error.to_string().ends_with(&expected), "{error}");
        }
    }

    proptest! {
        /// Against every combination, judged one by one.
        #[test]
        fn a_pruned_product_keeps_what_brute_force_keeps(
            parameters in prop::collection::vec(prop::collection::btree_set(1_u32..40, 1..5), 1..5),
            chosen in prop::collection::vec((0_usize..6, 0_usize..5, 0_usize..5, 1_u32..60), 0..5),
        ) {
            let parameters: Vec<(String, Vec<u32>)> = ["a", "b", "c", "d"]
                .iter()
                .zip(parameters)
                .map(|(name, values)| ((*name).to_owned(), values.into_iter().collect()))
                .collect();
            let name = |i: usize| &parameters[i % parameters.len()].0;
            let constraints: Vec<String> = chosen
                .into_iter()
                .map(|(shape, x, y, n)| match (shape, name(x), name(y)) {
                    (0, x, y) => format!("{x} * {y} <= {}", n * n),
                    (1, x, y) => format!("{x} % {y} == 0"),
                    (2, x, y) => format!("{x} <= {y} + {n}"),
                    (3, x, _) => format!("{x} >= {n}"),
                    (4, _, _) => format!("features <= {n}"),
                    (_, x, y) => format!("{x} != {n} || {y} > {x}"),
                })
                .collect();
            let space = synthetic(&parameters, &constraints);
            let (device, problem) = (device(RuntimeKind::Host), problem(64, 8));
            let mut all = vec![LaunchConfig::default()];
            for (name, values) in &parameters {
                let with = |config: &LaunchConfig, value: &u32| {
                    let mut config = config.clone();
                    config.0.insert(name.clone(), *value);
                    config
                };
                all = all.iter().flat_map(|config| values.iter().map(move |value| with(config, value))).collect();
            }
            let expected: Vec<LaunchConfig> =
                all.iter().filter(|c| space.refuses(c, &device, &problem, Dtype::F32).is_none()).cloned().collect();
            let (points, explanation) = space.open(&device, &problem, Dtype::F32).expect("decidable");
            prop_assert_eq!(points.iter().collect::<Vec<_>>(), expected.clone());
            prop_assert_eq!(explanation.total, all.len() as u64);
            let removed: u64 = explanation.removed.iter().map(|(_, n)| n).sum();
            prop_assert_eq!(explanation.kept + removed, explanation.total);
            for (text, alone) in space.alone(&device, &problem, Dtype::F32).expect("decidable") {
                let only = synthetic(&parameters, std::slice::from_ref(&text));
                let refused = all.iter().filter(|c| only.refuses(c, &device, &problem, Dtype::F32).is_some()).count();
                prop_assert_eq!(alone, refused as u64, "{}", text);
            }
            if expected.is_empty() {
                let SpaceError::Empty { conflict, .. } = space.empty(&device, &problem, Dtype::F32).expect("decidable")
                else { panic!("another error") };
                prop_assert!(!conflict.is_empty());
                // They empty it without the others, and none of them can be spared.
                let left = |constraints: &[String]| {
                    synthetic(&parameters, constraints).open(&device, &problem, Dtype::F32).expect("decidable").0.len()
                };
                prop_assert_eq!(left(&conflict), 0);
                for spared in 0..conflict.len() {
                    let mut others = conflict.clone();
                    others.remove(spared);
                    prop_assert!(left(&others) > 0, "{:?} without {}", conflict, spared);
                }
            }
        }
    }

    #[test]
    fn malformed_files_say_what_was_expected() {
        let error = |from: &str, to: &str| {
            let text = FUSED_MESSAGE.replacen(from, to, 1);
            assert_ne!(text, FUSED_MESSAGE, "`{from}` is not in the file");
            Spaces::parse(&text, "x.toml").expect_err("malformed").to_string()
        };
        for (from, to, expected) in [
            ("constraints = [", "constraint = [", "did you mean `constraints`?"),
            ("target = \"host\"", "target = \"hots\"", "did you mean `host`?"),
            ("reduction = \"edge_atomic\"", "reduction = \"receiver\"", "described twice"),
            ("op = \"fused_message\"", "op = \"fused\"", "expected cell_list or force_scatter or fused_message"),
            ("op = \"fused_message\"", "op = \"fused_massage\"", "did you mean `fused_message`?"),
            ("op = \"fused_message\"", "op = \"cell_list\"", "unknown field `reduction`"),
            ("reduction = \"receiver\"", "strategy = \"cells\"", "told apart by `reduction`"),
            ("reduction = \"receiver\"", "reductoin = \"receiver\"", "did you mean `reduction`?"),
            ("reduction = \"receiver\"", "reduction = \"reciever\"", "did you mean `receiver`?"),
            ("reduction = \"receiver\"", "", "missing field `reduction` of the [[space]] for target `host`"),
            (
                "reduction = \"receiver\"",
                "reduction = \"gather\"",
                "of op `force_scatter`, expected one of op `fused_message`",
            ),
            ("reduction = \"receiver\"", "reduction = \"receiver\"\norders = [0, 3]", "order 3 in `orders`"),
            ("reduction = \"receiver\"", "reduction = \"receiver\"\norders = [0, 1]", "described twice"),
            ("edges_per_task = [128, 512, 2048, 8192]", "edges_per_task = []", "has no values"),
            ("edges_per_task = [128, 512, 2048, 8192]", "edges_per_task = [16, 16]", "twice"),
            ("edges_per_task = [128, 512, 2048, 8192]", "edges_per_task = [0, 16]", "value 0"),
            ("edges_per_task = [128, 512, 2048, 8192]", "edges_per_task = [-1, 16]", "line"),
            ("edges_per_task = [128, 512, 2048, 8192]", "hidden = [16]", "variable"),
            ("edges_per_task = 512", "edges_per_task = 17", "none of its values"),
            ("edges_per_task = 512", "", "no default"),
            ("edges_per_task = 512", "edges_per_task = 512\nedges_per_tusk = 1", "did you mean `edges_per_task`?"),
            ("unroll <= edges_per_tile", "unrol <= edges_per_tile", "did you mean `unroll`?"),
            ("unroll <= edges_per_tile", "unroll <= ", "constraint `unroll <= `"),
            ("unroll <= edges_per_tile", "unroll + edges_per_tile", "true or false"),
            ("[space.defaults]", "[space.defaults", "x.toml"),
        ] {
            let message = error(from, to);
            assert!(message.contains(expected) && message.contains("x.toml"), "`{to}` gave: {message}");
        }
        assert!(matches!(Spaces::load(Path::new("no/such/file.toml")), Err(SpaceError::Io { .. })));
    }
}
