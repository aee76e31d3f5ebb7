use std::collections::BTreeSet;

use ff_kernels::fused_message::{Registered, registered};
use ff_reference::radial::{RADIAL_FUNCTIONS, RadialKind};
use ff_spec::cell_list::{List, Strategy};
use ff_spec::fused_message::{FilterKind, Message, OP, Reduction};
use ff_spec::{Dtype, SCHEMA_VERSION};
use ff_tune::{Part, Spaces};
use serde::Serialize;

use crate::failure::{Failure, Result};
use crate::options::JsonOnly;
use crate::screen::{Paint, Screen, columns};

/// Derivative orders of `fused_message` that there are kernels for on some runtime, each of which `verify` covers.
const MESSAGE_ORDERS: &[u8] = &[0, 1];
/// The same of `cell_list`.
const LIST_ORDERS: &[u8] = &[0];
/// The same of `force_scatter`.
const SCATTER_ORDERS: &[u8] = &[0, 1, 2];

#[derive(Serialize)]
struct Report {
    schema: u32,
    ops: (Op, Lists, Scatters),
}

/// `cell_list`.
#[derive(Serialize)]
struct Lists {
    op: &'static str,
    dtypes: Vec<Dtype>,
    orders_registered: &'static [u8],
    orders_gated: &'static [u8],
    variants: Vec<ListRow>,
    launch: Vec<Launch>,
}

/// `force_scatter`.
#[derive(Serialize)]
struct Scatters {
    op: &'static str,
    dtypes: Vec<Dtype>,
    orders_registered: &'static [u8],
    orders_gated: &'static [u8],
    variants: Vec<ScatterRow>,
}

#[derive(Serialize)]
struct ScatterRow {
    variant: &'static str,
    /// The same bits on every run.
    deterministic: bool,
}

#[derive(Serialize)]
struct ListRow {
    variant: &'static str,
    list: List,
    strategy: Strategy,
    /// The same bits on every run.
    deterministic: bool,
}

#[derive(Serialize)]
struct Op {
    op: &'static str,
    dtypes: Vec<Dtype>,
    orders_registered: &'static [u8],
    orders_gated: &'static [u8],
    variants: Vec<Row>,
    radial: Vec<RadialFunction>,
    launch: Vec<Launch>,
}

#[derive(Serialize)]
struct Row {
    variant: &'static str,
    family: String,
    message: Message,
    filter: FilterKind,
    basis: Option<&'static str>,
    cutoff: Option<&'static str>,
    reduction: Reduction,
    /// The same bits on every run.
    deterministic: bool,
    parameters: Vec<String>,
}

#[derive(Serialize)]
struct RadialFunction {
    name: &'static str,
    kind: &'static str,
    formula: &'static str,
    parameters: Vec<Parameter>,
    source: &'static str,
}

#[derive(Serialize)]
struct Parameter {
    name: &'static str,
    /// One value per basis function rather than one for all.
    per_basis: bool,
    default: &'static str,
    meaning: &'static str,
}

#[derive(Serialize)]
struct Launch {
    target: String,
    #[serde(flatten)]
    part: Part,
    parameters: Vec<(String, Vec<u32>)>,
}

/// Prints what was rendered.
pub fn run(args: &JsonOnly, screen: &Screen) -> Result<()> {
    let (op, lists, scatters) = (fused_message()?, cell_list()?, force_scatter());
    if args.json {
        return screen.json(&Report { schema: SCHEMA_VERSION, ops: (op, lists, scatters) });
    }
    let list = |orders: &[u8]| orders.iter().map(u8::to_string).collect::<Vec<_>>().join(", ");
    screen.line(screen.paint(Paint::Bold, format!("{OP}: radial basis, filter, message and scatter in one kernel")))?;
    screen.line(format!("dtypes {}", op.dtypes.iter().map(|d| d.name()).collect::<Vec<_>>().join(", ")))?;
    let (all, gated) = (list(op.orders_registered), list(op.orders_gated));
    screen.line(format!("derivative orders: registered {all}; gated {gated}"))?;
    screen.line("")?;
    let rows: Vec<Vec<String>> = op
        .variants
        .iter()
        .map(|row| {
            let bits = if row.deterministic { "yes" } else { "no" };
            vec![row.variant.to_owned(), bits.to_owned(), row.parameters.join(" ")]
        })
        .collect();
    for line in columns(&["VARIANT", "SAME BITS", "PARAMETERS"], &rows, "lll") {
        screen.line(line)?;
    }
    for kind in [RadialKind::Basis, RadialKind::Cutoff] {
        screen.line("")?;
        let of_kind = op.radial.iter().filter(|f| f.kind == kind.name());
        let rows: Vec<Vec<String>> = of_kind.map(|f| vec![f.name.to_owned(), f.formula.to_owned()]).collect();
        for line in columns(&[&kind.name().to_uppercase(), "FORMULA"], &rows, "ll") {
            screen.line(line)?;
        }
    }
    screen.line("")?;
    parameters("REDUCTION", &op.launch, screen)?;
    let name = lists.op;
    screen.line("")?;
    screen.line(screen.paint(Paint::Bold, format!("{name}: neighbour lists of batches, in any cell")))?;
    screen.line(format!("dtypes {}", lists.dtypes.iter().map(|d| d.name()).collect::<Vec<_>>().join(", ")))?;
    let (all, gated) = (list(lists.orders_registered), list(lists.orders_gated));
    screen.line(format!("derivative orders: registered {all}; gated {gated}"))?;
    screen.line("")?;
    let rows: Vec<Vec<String>> =
        lists.variants.iter().map(|row| vec![row.variant.to_owned(), "yes".to_owned()]).collect();
    columns(&["VARIANT", "SAME BITS"], &rows, "ll").into_iter().try_for_each(|line| screen.line(line))?;
    screen.line("")?;
    parameters("STRATEGY", &lists.launch, screen)?;
    screen.line("")?;
    let name = scatters.op;
    screen.line(screen.paint(Paint::Bold, format!("{name}: edge gradients to forces and strain derivatives")))?;
    screen.line(format!("dtypes {}", scatters.dtypes.iter().map(|d| d.name()).collect::<Vec<_>>().join(", ")))?;
    let (all, gated) = (list(scatters.orders_registered), list(scatters.orders_gated));
    screen.line(format!("derivative orders: registered {all}; gated {gated}"))?;
    screen.line("")?;
    let bits = |row: &ScatterRow| if row.deterministic { "yes" } else { "no" };
    let rows: Vec<Vec<String>> =
        scatters.variants.iter().map(|row| vec![row.variant.to_owned(), bits(row).to_owned()]).collect();
    columns(&["VARIANT", "SAME BITS"], &rows, "ll").into_iter().try_for_each(|line| screen.line(line))
}

/// The launch parameters of an op; `part` is what its spaces are told apart by.
fn parameters(part: &str, launch: &[Launch], screen: &Screen) -> Result<()> {
    let mut rows = Vec::new();
    for launch in launch {
        for (name, values) in &launch.parameters {
            let values = values.iter().map(u32::to_string).collect::<Vec<_>>().join(" ");
            rows.push(vec![launch.target.clone(), launch.part.name().to_owned(), name.clone(), values]);
        }
    }
    let header = ["TARGET", part, "LAUNCH PARAMETER", "VALUES TRIED"];
    columns(&header, &rows, "llll").into_iter().try_for_each(|line| screen.line(line))
}

fn launch(spaces: &Spaces) -> Vec<Launch> {
    let launch = spaces.iter().map(|space| Launch {
        target: space.target.to_string(),
        part: space.part,
        parameters: space.parameters().to_vec(),
    });
    launch.collect()
}

fn cell_list() -> Result<Lists> {
    let row = |registered: &ff_kernels::cell_list::Registered| ListRow {
        variant: registered.id,
        list: registered.list,
        strategy: registered.strategy,
        deterministic: true,
    };
    let spaces = Spaces::cell_list().map_err(Failure::fault)?;
    Ok(Lists {
        op: ff_spec::cell_list::OP,
        dtypes: Dtype::ALL.to_vec(),
        orders_registered: LIST_ORDERS,
        orders_gated: LIST_ORDERS,
        variants: ff_kernels::cell_list::registered().iter().map(row).collect(),
        launch: launch(&spaces),
    })
}

fn force_scatter() -> Scatters {
    let row = |registered: &ff_kernels::force_scatter::Registered| ScatterRow {
        variant: registered.id,
        deterministic: registered.reduction == ff_spec::force_scatter::Reduction::Gather,
    };
    Scatters {
        op: ff_spec::force_scatter::OP,
        dtypes: Dtype::ALL.to_vec(),
        orders_registered: SCATTER_ORDERS,
        orders_gated: SCATTER_ORDERS,
        variants: ff_kernels::force_scatter::registered().iter().map(row).collect(),
    }
}

fn fused_message() -> Result<Op> {
    let spaces = Spaces::fused_message().map_err(Failure::fault)?;
    let used: BTreeSet<&str> =
        registered().iter().filter_map(|r| r.radial.as_ref()).flat_map(|pair| [pair.basis, pair.cutoff]).collect();
    let radial = RADIAL_FUNCTIONS.iter().filter(|f| used.contains(f.name)).map(|f| RadialFunction {
        name: f.name,
        kind: f.kind.name(),
        formula: f.formula,
        parameters: f
            .parameters
            .iter()
            .map(|p| Parameter { name: p.name, per_basis: p.per_basis, default: p.default, meaning: p.doc })
            .collect(),
        source: f.source,
    });
    Ok(Op {
        op: OP,
        dtypes: Dtype::ALL.to_vec(),
        orders_registered: MESSAGE_ORDERS,
        orders_gated: MESSAGE_ORDERS,
        variants: registered().iter().map(row).collect(),
        radial: radial.collect(),
        launch: launch(&spaces),
    })
}

fn row(registered: &'static Registered) -> Row {
    let mut parameters: Vec<String> = match registered.filter {
        FilterKind::Linear => vec!["A".into(), "b".into()],
        FilterKind::Mlp => vec!["A1".into(), "b1".into(), "A2".into(), "b2".into()],
        FilterKind::Tabulated => vec!["table".into()],
    };
    parameters.push("r_cut".into());
    if let Some(pair) = &registered.radial {
        for (prefix, declared) in [("basis", pair.basis_parameters), ("cutoff", pair.cutoff_parameters)] {
            let name =
                |(name, per_basis): &(&str, bool)| format!("{prefix}.{name}{}", if *per_basis { "[K]" } else { "" });
            parameters.extend(declared.iter().map(name));
        }
    }
    Row {
        variant: registered.id,
        family: registered.variant().family(),
        message: registered.message,
        filter: registered.filter,
        basis: registered.radial.as_ref().map(|pair| pair.basis),
        cutoff: registered.radial.as_ref().map(|pair| pair.cutoff),
        reduction: registered.reduction,
        deterministic: registered.reduction == Reduction::Receiver,
        parameters,
    }
}
