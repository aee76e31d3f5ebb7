//! What can be tuned: parameters, their values, and the constraints between them, a device and a problem.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ff_spec::cell_list::{self, Strategy};
use ff_spec::fused_message::Reduction;
use ff_spec::{DeviceId, Dtype, LaunchConfig, OPS, Problem, RuntimeKind};
use ff_tables::nearest;
use serde::{Deserialize, Serialize};

use crate::constraint::Constraint;

/// The file of `fused_message` as it was when this crate was built.
const FUSED_MESSAGE: &str = include_str!("../../../autotune/spaces/fused_message.toml");

/// The file of `cell_list` as it was when this crate was built.
const CELL_LIST: &str = include_str!("../../../autotune/spaces/cell_list.toml");

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
}

impl Part {
    /// Its key in a space file.
    pub fn key(self) -> &'static str {
        match self {
            Part::Reduction(_) => "reduction",
            Part::Strategy(_) => "strategy",
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Part::Reduction(reduction) => reduction.name(),
            Part::Strategy(strategy) => strategy.name(),
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
    #[error("tuning space {file} has no [[space]] for target `{target}` and {part}")]
    Missing {
        /// Which file.
        file: String,
        /// Target asked for.
        target: Target,
        /// Part asked for.
        part: Part,
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
        "empty tuning space for `{problem}` in {dtype} on {device}: none of {total} configurations is left; \
         `{constraint}` removed most of them ({removed})"
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
        /// The constraint that removed the most.
        constraint: String,
        /// How many it removed.
        removed: u64,
    },
}

/// A `[[space]]` as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSpace {
    target: Target,
    reduction: Option<Reduction>,
    strategy: Option<Strategy>,
    parameters: BTreeMap<String, Vec<u32>>,
    defaults: BTreeMap<String, u32>,
    #[serde(default)]
    constraints: Vec<String>,
}

impl RawSpace {
    /// The part that spaces of this op are told apart by, and nothing of another op.
    fn part(&self, op: &str) -> Result<Part, String> {
        let (reduction, strategy) = (self.reduction.map(Part::Reduction), self.strategy.map(Part::Strategy));
        let (key, part, other) = match op {
            cell_list::OP => ("strategy", strategy, reduction),
            _ => ("reduction", reduction, strategy),
        };
        if let Some(other) = other {
            return Err(format!("unknown field `{}`, spaces of `{op}` are told apart by `{key}`", other.key()));
        }
        part.ok_or_else(|| format!("missing field `{key}` of the [[space]] for target `{}`", self.target))
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

/// One tuning space: the parameters of a target and a part.
#[derive(Clone, Debug)]
pub struct Space {
    /// Target.
    pub target: Target,
    /// Part.
    pub part: Part,
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
            if spaces.iter().any(|s| (s.target, s.part) == (target, part)) {
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

    /// The space of a target and a part.
    ///
    /// # Errors
    /// [`SpaceError::Missing`].
    pub fn get(&self, target: Target, part: Part) -> Result<&Space, SpaceError> {
        let missing = || SpaceError::Missing { file: self.file.clone(), target, part };
        self.spaces.iter().find(|s| (s.target, s.part) == (target, part)).ok_or_else(missing)
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
        let RawSpace { target, parameters, defaults, .. } = raw;
        let parameters = parameters.into_iter().collect();
        Ok(Self { target, part, file: file.to_owned(), parameters, defaults: LaunchConfig(defaults), constraints })
    }

    /// The parameters with their values, by name.
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
    /// [`SpaceError::Empty`] names the constraint that removed the most; [`SpaceError::Inconsistent`] where a constraint
    /// is neither true nor false here (a division by zero).
    pub fn enumerate(
        &self,
        device: &DeviceId,
        problem: &Problem,
        dtype: Dtype,
    ) -> Result<Vec<LaunchConfig>, SpaceError> {
        let (configs, explanation) = self.explain(device, problem, dtype)?;
        if !configs.is_empty() {
            return Ok(configs);
        }
        let (constraint, removed) = explanation.removed.into_iter().max_by_key(|(_, n)| *n).unwrap_or_default();
        Err(SpaceError::Empty {
            problem: problem.name.clone(),
            dtype,
            device: device.slug.clone(),
            total: explanation.total,
            constraint,
            removed,
        })
    }

    /// The configurations that are left, and how many points each constraint removed.
    ///
    /// A depth-first product over the parameters: a constraint is judged as soon as all that it names is set, so what it
    /// refuses is cut off as a whole branch.
    ///
    /// # Errors
    /// [`SpaceError::Inconsistent`] where a constraint is neither true nor false here.
    pub fn explain(
        &self,
        device: &DeviceId,
        problem: &Problem,
        dtype: Dtype,
    ) -> Result<(Vec<LaunchConfig>, Explanation), SpaceError> {
        let mut search = Search::new(self, device, problem, dtype);
        search.descend(0).map_err(|reason| SpaceError::Inconsistent {
            file: self.file.clone(),
            target: self.target,
            part: self.part,
            reason: format!("{reason} for `{}` in {dtype} on {}", problem.name, device.slug),
        })?;
        let Search { found, removed, .. } = search;
        let total = self.parameters.iter().map(|(_, v)| v.len() as u64).product();
        let removed = self.constraints.iter().map(|c| c.text().to_owned()).zip(removed).collect();
        let explanation = Explanation { total, kept: found.len() as u64, removed };
        Ok((found, explanation))
    }

    /// The first constraint that a configuration breaks, or the parameter that it lacks; `None` where it is feasible.
    pub fn refuses(&self, config: &LaunchConfig, device: &DeviceId, problem: &Problem, dtype: Dtype) -> Option<String> {
        if let Some((name, _)) = self.parameters.iter().find(|(n, _)| config.get(n).is_none()) {
            return Some(format!("parameter `{name}` is not set"));
        }
        let mut values = variables(device, problem, dtype);
        values.extend(config.0.iter().map(|(n, v)| (n.clone(), f64::from(*v))));
        self.constraints.iter().find_map(|c| match c.holds(&values) {
            Ok(true) => None,
            Ok(false) => Some(format!("constraint `{}` does not hold", c.text())),
            Err(reason) => Some(reason),
        })
    }
}

fn variables(device: &DeviceId, problem: &Problem, dtype: Dtype) -> BTreeMap<String, f64> {
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
    VARIABLES.iter().map(|name| (*name).to_owned()).zip(values).collect()
}

/// The state of a depth-first product.
struct Search<'a> {
    space: &'a Space,
    /// Which constraints become decidable once the first n parameters are set.
    due: Vec<Vec<usize>>,
    values: BTreeMap<String, f64>,
    config: LaunchConfig,
    found: Vec<LaunchConfig>,
    removed: Vec<u64>,
}

impl<'a> Search<'a> {
    fn new(space: &'a Space, device: &DeviceId, problem: &Problem, dtype: Dtype) -> Self {
        let mut due = vec![Vec::new(); space.parameters.len() + 1];
        for (index, constraint) in space.constraints.iter().enumerate() {
            let last = space.parameters.iter().rposition(|(name, _)| constraint.names().contains(name));
            due[last.map_or(0, |l| l + 1)].push(index);
        }
        Self {
            space,
            due,
            values: variables(device, problem, dtype),
            config: LaunchConfig::default(),
            found: Vec::new(),
            removed: vec![0; space.constraints.len()],
        }
    }

    fn descend(&mut self, depth: usize) -> Result<(), String> {
        let space = self.space;
        for &index in &self.due[depth] {
            if !space.constraints[index].holds(&self.values)? {
                let below: u64 = space.parameters[depth..].iter().map(|(_, v)| v.len() as u64).product();
                self.removed[index] += below;
                return Ok(());
            }
        }
        let Some((name, values)) = space.parameters.get(depth) else {
            self.found.push(self.config.clone());
            return Ok(());
        };
        for value in values {
            self.values.insert(name.clone(), f64::from(*value));
            self.config.0.insert(name.clone(), *value);
            self.descend(depth + 1)?;
        }
        Ok(())
    }
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
    use super::*;
    use crate::testing::{device, problem};
    use ff_spec::Limits;

    const RECEIVER: Part = Part::Reduction(Reduction::Receiver);

    #[test]
    fn the_built_in_file_covers_every_target_and_reduction() {
        let spaces = Spaces::fused_message().expect("the built-in file is sound");
        for runtime in RuntimeKind::ALL {
            for reduction in Reduction::ALL {
                let part = Part::Reduction(reduction);
                let space = spaces.get(Target::of(runtime), part).expect("described");
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
        let space = spaces.get(Target::Cube, RECEIVER).expect("described");
        let (device, problem) = (device(RuntimeKind::Vulkan), problem(64, 126));
        let (configs, explanation) = space.explain(&device, &problem, Dtype::F64).expect("decidable");
        assert_eq!(explanation.total, 4 * 4 * 3 * 4 * 4);
        assert_eq!(explanation.total, explanation.kept + explanation.removed.iter().map(|(_, n)| n).sum::<u64>());
        for config in &configs {
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
                let space = spaces.get(Target::of(runtime), part).expect("described");
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
        let error = spaces.get(Target::Host, RECEIVER).expect_err("of the other op").to_string();
        assert!(error.contains("target `host` and reduction `receiver`"), "{error}");
    }

    #[test]
    fn an_empty_space_names_the_constraint() {
        let text = FUSED_MESSAGE.replace("unroll <= edges_per_tile", "unroll > 1000");
        let spaces = Spaces::parse(&text, "x.toml").expect("sound");
        let space = spaces.get(Target::Cube, RECEIVER).expect("described");
        let error = space.enumerate(&device(RuntimeKind::Cuda), &problem(64, 128), Dtype::F32).expect_err("empty");
        assert!(error.to_string().contains("`unroll > 1000` removed most"), "{error}");
    }

    #[test]
    fn a_million_points_open_quickly() {
        let values: Vec<String> = (1..=10).map(|v| v.to_string()).collect();
        let parameters: String =
            ["a", "b", "c", "d", "e", "f"].iter().map(|p| format!("{p} = [{}]\n", values.join(","))).collect();
        let defaults: String = ["a", "b", "c", "d", "e", "f"].iter().map(|p| format!("{p} = 1\n")).collect();
        let text = format!(
            "op = \"fused_message\"\n[[space]]\ntarget = \"host\"\nreduction = \"receiver\"\n\
             constraints = [\"a * b <= 16\", \"c % b == 0\", \"d + e + f <= 9\"]\n\
             [space.parameters]\n{parameters}[space.defaults]\n{defaults}"
        );
        let spaces = Spaces::parse(&text, "x.toml").expect("sound");
        let space = spaces.get(Target::Host, RECEIVER).expect("described");
        let start = std::time::Instant::now();
        let (_, explanation) =
            space.explain(&device(RuntimeKind::Host), &problem(64, 8), Dtype::F32).expect("decidable");
        assert_eq!(explanation.total, 1_000_000);
        assert!(start.elapsed().as_secs() < 5, "took {:?} even unoptimised", start.elapsed());
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
