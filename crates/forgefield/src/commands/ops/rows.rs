//! What is known of every variant that was rendered.

use ff_spec::{Dtype, RuntimeKind};
use ff_testkit::catalogue::CaseSet;
use ff_tune::Part;
use serde::Serialize;

use crate::failure::Result;
use crate::ops::{self, AnyOp, AnyOrder, RadialFunction};
use crate::passes::{Pass, Passes};

/// An op with all that was rendered of it.
pub struct Rendered {
    /// The op.
    pub op: &'static str,
    /// What it computes, in a few words.
    pub computes: &'static str,
    /// What its tuning spaces are told apart by, as a heading.
    pub part: String,
    /// Its variants.
    pub variants: Vec<Row>,
}

/// A variant, as `--json` prints it.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The op.
    pub op: &'static str,
    /// Id.
    pub variant: &'static str,
    /// What tuning tables are keyed by: variants of a family differ in radial functions at most.
    pub family: String,
    /// Derivative orders that are registered.
    pub orders: Vec<u8>,
    /// Those of them that have cases in the gate.
    pub orders_gated: Vec<u8>,
    /// Element types.
    pub dtypes: Vec<Dtype>,
    /// The same bits on every run.
    pub deterministic: bool,
    /// Parameters of a call; `[K]` has one value per basis function.
    pub parameters: Vec<String>,
    /// Basis and cutoff, where they are not in a table and there are any.
    pub radial: Option<[&'static str; 2]>,
    /// What passed the gate completely.
    pub passes: Vec<Passed>,
    /// The formulas of `radial`; only of what was named, as `launch`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub radial_functions: Vec<RadialFunction>,
    /// Tuning spaces.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub launch: Vec<Launch>,
}

/// A pass of one order on one device.
#[derive(Clone, Debug, Serialize)]
pub struct Passed {
    /// Derivative order.
    pub order: u8,
    /// Slug of the device.
    pub device: String,
    /// Its runtime.
    pub runtime: RuntimeKind,
    /// Day, UTC.
    pub date: String,
    /// Whether the kernel that passed is the one in this binary.
    pub current: bool,
    /// Cases that passed.
    pub cases: usize,
    /// Whether they were all that there are, or the quick ones.
    pub full: bool,
    /// Element types that they were in.
    pub dtypes: Vec<Dtype>,
}

/// A tuning space.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Launch {
    /// `host` or `cube`.
    pub target: String,
    /// Derivative orders that are launched by these.
    pub orders: Vec<u8>,
    /// What of a variant it is for.
    #[serde(flatten)]
    pub part: Part,
    /// Launch parameters with the values tried.
    pub parameters: Vec<(String, Vec<u32>)>,
}

/// Every op that was rendered, that of most variants first.
///
/// # Errors
/// A built-in tuning space that cannot be read.
pub fn all(passes: &Passes) -> Result<Vec<Rendered>> {
    let mut all = ops::ALL.iter().map(|op| rendered(*op, passes)).collect::<Result<Vec<_>>>()?;
    all.sort_by_key(|op| std::cmp::Reverse(op.variants.len()));
    Ok(all)
}

impl Row {
    /// Without what is printed only of a variant that was named.
    pub fn brief(self) -> Self {
        Self { radial_functions: Vec::new(), launch: Vec::new(), ..self }
    }
}

impl From<&Pass> for Passed {
    fn from(pass: &Pass) -> Self {
        Self {
            order: pass.order,
            device: pass.device.clone(),
            runtime: pass.runtime,
            date: pass.on.clone(),
            current: pass.is_current(),
            cases: pass.passed,
            full: pass.full,
            dtypes: pass.dtypes.clone(),
        }
    }
}

fn rendered(op: &'static dyn AnyOp, passes: &Passes) -> Result<Rendered> {
    let spaces = op.spaces()?;
    let row = |id: &'static str| {
        let part = op.forward().part(id);
        let has_cases = |order: &&dyn AnyOrder| !order.cases(id, CaseSet::Quick).is_empty();
        let launch = spaces.iter().filter(|space| space.part == part).map(|space| Launch {
            target: space.target.to_string(),
            orders: space.orders.clone(),
            part,
            parameters: space.parameters().to_vec(),
        });
        let radial = op.radial_of(id);
        let functions = op.radial().into_iter().filter(|f| radial.is_some_and(|names| names.contains(&f.name)));
        Row {
            op: op.name(),
            variant: id,
            family: op.family(id),
            orders: op.orders().iter().map(|order| order.order()).collect(),
            orders_gated: op.orders().iter().filter(has_cases).map(|order| order.order()).collect(),
            dtypes: Dtype::ALL.to_vec(),
            deterministic: op.is_deterministic(id),
            parameters: op.parameters(id),
            radial,
            passes: passes.of(op.name(), id).map(Passed::from).collect(),
            radial_functions: functions.collect(),
            launch: launch.collect(),
        }
    };
    let part = op.ids().first().map(|id| op.forward().part(id).key().to_uppercase()).unwrap_or_default();
    let variants = op.ids().into_iter().map(row).collect();
    Ok(Rendered { op: op.name(), computes: op.about(), part, variants })
}
