//! What is known of every variant that was rendered.

use ff_kernels::{cell_list, force_scatter, fused_message};
use ff_reference::radial::RADIAL_FUNCTIONS;
use ff_spec::fused_message::{FilterKind, Reduction};
use ff_spec::{Dtype, Op, RuntimeKind};
use ff_testkit::catalogue::CaseSet;
use ff_tune::{Part, Spaces, Tuned};
use serde::Serialize;

use crate::failure::{Failure, Result};
use crate::passes::{Pass, Passes};
use crate::registry;

/// An op with all that was rendered of it.
pub struct Rendered {
    /// The op.
    pub op: &'static str,
    /// What it computes, in a few words.
    pub computes: &'static str,
    /// What its tuning spaces are told apart by, as a heading.
    pub part: &'static str,
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

/// A basis or a cutoff.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RadialFunction {
    /// Name.
    pub name: &'static str,
    /// `basis` or `cutoff`.
    pub kind: &'static str,
    /// Formula in the distance d, the cutoff r_c and its parameters.
    pub formula: &'static str,
    /// Parameters.
    pub parameters: Vec<Parameter>,
    /// Paper and equation.
    pub source: &'static str,
}

/// A parameter of a radial function.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Parameter {
    /// Name.
    pub name: &'static str,
    /// One value per basis function rather than one for all.
    pub per_basis: bool,
    /// What stands in where a call names none.
    pub default: &'static str,
    /// Meaning, with its unit.
    pub meaning: &'static str,
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

/// Every op that was rendered.
///
/// # Errors
/// A built-in tuning space that cannot be read.
pub fn all(passes: &Passes) -> Result<Vec<Rendered>> {
    Ok(vec![messages(passes)?, lists(passes)?, scatters(passes)?])
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

/// A row of what every op has; its parameters and radial functions are the op's own.
fn row<R>(op: &R, id: &'static str, variant: &Variant<R>, spaces: &Spaces, passes: &Passes) -> Row
where
    R: ff_testkit::registry::Registered,
    R::Forward: Tuned,
{
    let orders = op.orders();
    let part = R::Forward::part(variant);
    let of_part = spaces.iter().filter(|space| space.part == part);
    Row {
        op: R::Forward::NAME,
        variant: id,
        family: R::Forward::family(variant),
        orders_gated: orders.iter().copied().filter(|order| op.cases(*order, variant, CaseSet::Quick) > 0).collect(),
        orders,
        dtypes: Dtype::ALL.to_vec(),
        deterministic: true,
        parameters: Vec::new(),
        radial: None,
        passes: passes.of(R::Forward::NAME, id).map(Passed::from).collect(),
        radial_functions: Vec::new(),
        launch: of_part
            .map(|space| Launch {
                target: space.target.to_string(),
                orders: space.orders.clone(),
                part,
                parameters: space.parameters().to_vec(),
            })
            .collect(),
    }
}

/// A variant of a registered op.
type Variant<R> = <<R as ff_testkit::registry::Registered>::Forward as Op>::Variant;

fn messages(passes: &Passes) -> Result<Rendered> {
    let spaces = Spaces::fused_message().map_err(Failure::fault)?;
    let row = |registered: &'static fused_message::Registered| {
        let mut parameters: Vec<String> = match registered.filter {
            FilterKind::Linear => vec!["A".into(), "b".into()],
            FilterKind::Mlp => vec!["A1".into(), "b1".into(), "A2".into(), "b2".into()],
            FilterKind::Tabulated => vec!["table".into()],
        };
        parameters.push("r_cut".into());
        if let Some(pair) = &registered.pair() {
            for (prefix, declared) in [("basis", pair.basis_parameters), ("cutoff", pair.cutoff_parameters)] {
                let name = |(name, per_basis): &(&str, bool)| {
                    format!("{prefix}.{name}{}", if *per_basis { "[K]" } else { "" })
                };
                parameters.extend(declared.iter().map(name));
            }
        }
        let radial = registered.radial.map(|(basis, cutoff)| [basis, cutoff]);
        Row {
            deterministic: registered.reduction == Reduction::Receiver,
            parameters,
            radial,
            radial_functions: radial_functions(radial.as_ref()),
            ..row(&registry::FUSED_MESSAGE, registered.id, &registered.variant(), &spaces, passes)
        }
    };
    Ok(Rendered {
        op: ff_spec::fused_message::OP,
        computes: "radial basis, filter, message and scatter in one kernel",
        part: "REDUCTION",
        variants: fused_message::registered().iter().map(row).collect(),
    })
}

fn radial_functions(used: Option<&[&'static str; 2]>) -> Vec<RadialFunction> {
    let used = RADIAL_FUNCTIONS.iter().filter(|f| used.is_some_and(|used| used.contains(&f.name)));
    let parameter = |p: &ff_reference::radial::ParameterSpec| Parameter {
        name: p.name,
        per_basis: p.per_basis,
        default: p.default,
        meaning: p.doc,
    };
    used.map(|f| RadialFunction {
        name: f.name,
        kind: f.kind.name(),
        formula: f.formula,
        parameters: f.parameters.iter().map(parameter).collect(),
        source: f.source,
    })
    .collect()
}

fn lists(passes: &Passes) -> Result<Rendered> {
    let spaces = Spaces::cell_list().map_err(Failure::fault)?;
    let row = |registered: &cell_list::Registered| {
        row(&registry::CELL_LIST, registered.id, &registered.variant(), &spaces, passes)
    };
    Ok(Rendered {
        op: ff_spec::cell_list::OP,
        computes: "neighbour lists of batches, in any cell",
        part: "STRATEGY",
        variants: cell_list::registered().iter().map(row).collect(),
    })
}

fn scatters(passes: &Passes) -> Result<Rendered> {
    let spaces = Spaces::force_scatter().map_err(Failure::fault)?;
    let row = |registered: &force_scatter::Registered| Row {
        deterministic: registered.reduction == ff_spec::force_scatter::Reduction::Gather,
        ..row(&registry::FORCE_SCATTER, registered.id, &registered.variant(), &spaces, passes)
    };
    Ok(Rendered {
        op: ff_spec::force_scatter::OP,
        computes: "edge gradients to forces and strain derivatives",
        part: "REDUCTION",
        variants: force_scatter::registered().iter().map(row).collect(),
    })
}
