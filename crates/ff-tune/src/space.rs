//! What can be tuned: parameters, their values, and the constraints between them, a device and a problem.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ff_spec::{DeviceId, Dtype, LaunchConfig, OPS, Problem, RuntimeKind, axes};
use ff_tables::nearest;
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};

use crate::constraint::Constraint;
use crate::ops::{ALL, BuiltIn};
use crate::points::Points;
use crate::product::Product;

/// What a constraint may name besides the parameters of its space and the axes of its op.
const VARIABLES: [&str; 4] = ["dtype_size", "max_units_per_cube", "shared_memory", "plane_size"];

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

/// What of a variant decides which parameters its kernels have: a reduction or a strategy, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Part {
    key: &'static str,
    name: &'static str,
}

impl Part {
    pub(crate) const fn new(key: &'static str, name: &'static str) -> Self {
        Self { key, name }
    }

    /// Its key in a space file.
    pub fn key(self) -> &'static str {
        self.key
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        self.name
    }
}

impl Serialize for Part {
    /// As in a space file: `reduction: "receiver"`.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry(self.key, self.name)?;
        map.end()
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
    /// No spaces of an op.
    #[error("op `{op}` has no tuning spaces")]
    Unknown {
        /// The op.
        op: String,
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

/// A `[[space]]` as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSpace {
    target: Target,
    reduction: Option<String>,
    strategy: Option<String>,
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
    fn part(&self, of: &BuiltIn) -> Result<Part, String> {
        let BuiltIn { op, key, names, .. } = *of;
        let mut found = None;
        for (given, name) in [("reduction", &self.reduction), ("strategy", &self.strategy)] {
            let Some(name) = name else { continue };
            if given != key {
                return Err(format!("unknown field `{given}`, spaces of `{op}` are told apart by `{key}`"));
            }
            found = Some(name);
        }
        let name =
            found.ok_or_else(|| format!("missing field `{key}` of the [[space]] for target `{}`", self.target))?;
        if let Some(known) = names.iter().find(|known| *known == name) {
            return Ok(of.part(known));
        }
        if let Some(other) = ALL.iter().find(|other| other.key == key && other.names.contains(&name.as_str())) {
            return Err(format!("{key} `{name}` is of op `{}`, expected one of op `{op}`", other.op));
        }
        let near = did_you_mean(name, names.iter().copied());
        Err(format!("unknown {key} `{name}`{near}, expected {}", names.join(" or ")))
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
    axes: &'static [&'static str],
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
    /// The spaces of an op that this crate was built with.
    ///
    /// # Errors
    /// [`SpaceError::Unknown`], and as [`Spaces::parse`]; a test keeps the built-in files sound.
    pub fn built_in(op: &str) -> Result<Self, SpaceError> {
        let built_in = BuiltIn::of(op).ok_or_else(|| SpaceError::Unknown { op: op.to_owned() })?;
        Self::parse(built_in.file, &format!("autotune/spaces/{op}.toml (built in)"))
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
        let Some(of) = BuiltIn::of(&raw.op) else {
            let near = did_you_mean(&raw.op, OPS.iter().copied());
            return Err(malformed(format!("op is `{}`{near}, expected {}", raw.op, OPS.join(" or "))));
        };
        let mut spaces: Vec<Space> = Vec::new();
        for space in raw.space {
            let (target, part) = (space.target, space.part(&of).map_err(malformed)?);
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
            spaces.push(Space::new(space, part, axes(of.op), file).map_err(inconsistent)?);
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
    fn new(raw: RawSpace, part: Part, axes: &'static [&'static str], file: &str) -> Result<Self, String> {
        let is_variable = |name: &str| VARIABLES.contains(&name) || axes.contains(&name);
        for (name, values) in &raw.parameters {
            let identifier = name.starts_with(|c: char| c.is_ascii_lowercase())
                && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
            if !identifier {
                return Err(format!("parameter `{name}` is no name, expected [a-z][a-z0-9_]*"));
            }
            if is_variable(name) {
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
                if !raw.parameters.contains_key(name) && !is_variable(name) {
                    let near = did_you_mean(name, known().chain(VARIABLES).chain(axes.iter().copied()));
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
            axes,
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
        let variables = self.variables(device, problem, dtype);
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
        let variables = self.variables(device, problem, dtype);
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
        let variables = self.variables(device, problem, dtype);
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

    /// What constraints may name here, with its value.
    fn variables(&self, device: &DeviceId, problem: &Problem, dtype: Dtype) -> Vec<(&'static str, f64)> {
        let limits = &device.limits;
        let of_device = [limits.max_units_per_cube, limits.shared_memory, limits.plane_size].map(f64::from);
        let values = [dtype.size() as f64].into_iter().chain(of_device);
        let size = |axis: &'static str| match axis {
            "mean_degree" => problem.mean_degree(),
            _ => problem.get(axis).unwrap_or(0) as f64,
        };
        let sizes = self.axes.iter().map(|axis| (*axis, size(axis)));
        VARIABLES.into_iter().zip(values).chain(sizes).collect()
    }

    /// The first constraint that a configuration breaks, or the parameter that it lacks; `None` where it is feasible.
    pub fn refuses(&self, config: &LaunchConfig, device: &DeviceId, problem: &Problem, dtype: Dtype) -> Option<String> {
        if let Some((name, _)) = self.parameters.iter().find(|(n, _)| config.get(n).is_none()) {
            return Some(format!("parameter `{name}` is not set"));
        }
        let variables =
            self.variables(device, problem, dtype).into_iter().map(|(name, value)| (name.to_owned(), value));
        let parameters = config.0.iter().map(|(n, v)| (n.clone(), f64::from(*v)));
        let values: BTreeMap<String, f64> = variables.chain(parameters).collect();
        self.constraints.iter().find_map(|c| match c.holds(&values) {
            Ok(true) => None,
            Ok(false) => Some(format!("constraint `{}` does not hold", c.text())),
            Err(reason) => Some(reason),
        })
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
#[path = "space_tests.rs"]
mod tests;
