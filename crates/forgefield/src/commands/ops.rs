use std::collections::BTreeSet;
use std::path::Path;

use ff_kernels::fused_message::{Registered, registered};
use ff_reference::radial::{RADIAL_FUNCTIONS, RadialKind};
use ff_spec::cell_list::{List, Strategy};
use ff_spec::fused_message::{FilterKind, Message, OP, Reduction};
use ff_spec::{Dtype, SCHEMA_VERSION};
use ff_testkit::catalogue::CaseSet;
use ff_testkit::registry::Registered as _;
use ff_tune::{Part, Spaces};
use serde::Serialize;

use crate::failure::{Failure, Result};
use crate::options::OpsArgs;
use crate::passes::{Pass, Passes};
use crate::screen::{Paint, Screen, columns};
use crate::{passes, registry};

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
    /// Each of which has its cases, as nothing else can be registered.
    orders_registered: Vec<u8>,
    orders_gated: Vec<u8>,
    variants: Vec<ListRow>,
    launch: Vec<Launch>,
}

/// `force_scatter`.
#[derive(Serialize)]
struct Scatters {
    op: &'static str,
    dtypes: Vec<Dtype>,
    orders_registered: Vec<u8>,
    orders_gated: Vec<u8>,
    variants: Vec<ScatterRow>,
    launch: Vec<Launch>,
}

#[derive(Serialize)]
struct ScatterRow {
    variant: &'static str,
    passes: Vec<Pass>,
    /// The same bits on every run.
    deterministic: bool,
}

#[derive(Serialize)]
struct ListRow {
    variant: &'static str,
    passes: Vec<Pass>,
    list: List,
    strategy: Strategy,
    /// The same bits on every run.
    deterministic: bool,
}

#[derive(Serialize)]
struct Op {
    op: &'static str,
    dtypes: Vec<Dtype>,
    /// Each of which has its cases, as nothing else can be registered.
    orders_registered: Vec<u8>,
    orders_gated: Vec<u8>,
    variants: Vec<Row>,
    radial: Vec<RadialFunction>,
    launch: Vec<Launch>,
}

#[derive(Serialize)]
struct Row {
    variant: &'static str,
    passes: Vec<Pass>,
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
    /// Derivative orders that are launched by these.
    orders: Vec<u8>,
    #[serde(flatten)]
    part: Part,
    parameters: Vec<(String, Vec<u32>)>,
}

/// Prints what was rendered.
pub fn run(args: &OpsArgs, screen: &Screen) -> Result<()> {
    let passes = match &args.passes {
        Some(path) if !path.exists() => {
            let path = path.display();
            return Err(Failure::input(format!("there is no {path}, expected a file of `verify --passes`")));
        }
        named => Passes::read(named.as_deref().unwrap_or(Path::new(passes::USUAL)))?,
    };
    let (op, lists, scatters) = (fused_message(&passes)?, cell_list(&passes)?, force_scatter(&passes)?);
    if args.json {
        return screen.json(&Report { schema: SCHEMA_VERSION, ops: (op, lists, scatters) });
    }
    screen.line(screen.paint(Paint::Bold, format!("{OP}: radial basis, filter, message and scatter in one kernel")))?;
    screen.line(format!("dtypes {}", op.dtypes.iter().map(|d| d.name()).collect::<Vec<_>>().join(", ")))?;
    screen.line(orders(&op.orders_registered, &op.orders_gated))?;
    screen.line("")?;
    let rows: Vec<Vec<String>> = op
        .variants
        .iter()
        .map(|row| {
            let bits = if row.deterministic { "yes" } else { "no" };
            vec![
                row.variant.to_owned(),
                bits.to_owned(),
                row.parameters.join(" "),
                passed(&op.orders_registered, &row.passes),
            ]
        })
        .collect();
    for line in columns(&["VARIANT", "SAME BITS", "PARAMETERS", "LAST PASSED, BY ORDER"], &rows, "llll") {
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
    screen.line(orders(&lists.orders_registered, &lists.orders_gated))?;
    screen.line("")?;
    let row =
        |row: &ListRow| vec![row.variant.to_owned(), "yes".to_owned(), passed(&lists.orders_registered, &row.passes)];
    let rows: Vec<Vec<String>> = lists.variants.iter().map(row).collect();
    columns(&["VARIANT", "SAME BITS", "LAST PASSED, BY ORDER"], &rows, "lll")
        .into_iter()
        .try_for_each(|line| screen.line(line))?;
    screen.line("")?;
    parameters("STRATEGY", &lists.launch, screen)?;
    screen.line("")?;
    let name = scatters.op;
    screen.line(screen.paint(Paint::Bold, format!("{name}: edge gradients to forces and strain derivatives")))?;
    screen.line(format!("dtypes {}", scatters.dtypes.iter().map(|d| d.name()).collect::<Vec<_>>().join(", ")))?;
    screen.line(orders(&scatters.orders_registered, &scatters.orders_gated))?;
    screen.line("")?;
    let row = |row: &ScatterRow| {
        let bits = if row.deterministic { "yes" } else { "no" };
        vec![row.variant.to_owned(), bits.to_owned(), passed(&scatters.orders_registered, &row.passes)]
    };
    let rows: Vec<Vec<String>> = scatters.variants.iter().map(row).collect();
    columns(&["VARIANT", "SAME BITS", "LAST PASSED, BY ORDER"], &rows, "lll")
        .into_iter()
        .try_for_each(|line| screen.line(line))?;
    screen.line("")?;
    parameters("REDUCTION", &scatters.launch, screen)
}

fn orders(registered: &[u8], gated: &[u8]) -> String {
    let list = |orders: &[u8]| orders.iter().map(u8::to_string).collect::<Vec<_>>().join(", ");
    format!("derivative orders: registered {}; gated {}", list(registered), list(gated))
}

/// Which runtimes passed each order, and when; in brackets what such a pass lacks.
fn passed(orders: &[u8], passes: &[Pass]) -> String {
    let of = |order: u8| {
        let passes = passes.iter().filter(|pass| pass.order == order).map(|pass| {
            let lacking = [
                (!pass.is_current(), "another kernel".to_owned()),
                (!pass.full, "quick cases".to_owned()),
                (
                    pass.dtypes.len() < Dtype::ALL.len(),
                    pass.dtypes.iter().map(|d| d.name()).collect::<Vec<_>>().join(", "),
                ),
            ];
            let lacking: Vec<String> = lacking.into_iter().filter(|(holds, _)| *holds).map(|(_, what)| what).collect();
            let lacking = if lacking.is_empty() { String::new() } else { format!(" ({})", lacking.join("; ")) };
            format!("{} {}{lacking}", pass.runtime, pass.on)
        });
        let passes: Vec<String> = passes.collect();
        let passes = if passes.is_empty() { "never noted".to_owned() } else { passes.join(", ") };
        format!("{order}: {passes}")
    };
    orders.iter().map(|order| of(*order)).collect::<Vec<_>>().join("; ")
}

/// The orders of an op that have cases for every one of its variants.
fn gated<R: ff_testkit::registry::Registered>(op: &R, variants: &[<R::Forward as ff_spec::Op>::Variant]) -> Vec<u8> {
    let has_cases = |order: &u8| variants.iter().all(|variant| op.cases(*order, variant, CaseSet::Quick) > 0);
    op.orders().into_iter().filter(has_cases).collect()
}

/// The launch parameters of an op; `part` is what its spaces are told apart by.
fn parameters(part: &str, launch: &[Launch], screen: &Screen) -> Result<()> {
    let mut rows = Vec::new();
    for launch in launch {
        for (name, values) in &launch.parameters {
            let values = values.iter().map(u32::to_string).collect::<Vec<_>>().join(" ");
            let orders = launch.orders.iter().map(u8::to_string).collect::<Vec<_>>().join(", ");
            rows.push(vec![launch.target.clone(), launch.part.name().to_owned(), orders, name.clone(), values]);
        }
    }
    let header = ["TARGET", part, "ORDERS", "LAUNCH PARAMETER", "VALUES TRIED"];
    columns(&header, &rows, "lllll").into_iter().try_for_each(|line| screen.line(line))
}

fn launch(spaces: &Spaces) -> Vec<Launch> {
    let launch = spaces.iter().map(|space| Launch {
        target: space.target.to_string(),
        orders: space.orders.clone(),
        part: space.part,
        parameters: space.parameters().to_vec(),
    });
    launch.collect()
}

fn cell_list(passes: &Passes) -> Result<Lists> {
    let row = |registered: &ff_kernels::cell_list::Registered| ListRow {
        variant: registered.id,
        passes: passes.of(ff_spec::cell_list::OP, registered.id).cloned().collect(),
        list: registered.list,
        strategy: registered.strategy,
        deterministic: true,
    };
    let spaces = Spaces::cell_list().map_err(Failure::fault)?;
    Ok(Lists {
        op: ff_spec::cell_list::OP,
        dtypes: Dtype::ALL.to_vec(),
        orders_registered: registry::CELL_LIST.orders(),
        orders_gated: gated(
            &registry::CELL_LIST,
            &ff_kernels::cell_list::registered().iter().map(|r| r.variant()).collect::<Vec<_>>(),
        ),
        variants: ff_kernels::cell_list::registered().iter().map(row).collect(),
        launch: launch(&spaces),
    })
}

fn force_scatter(passes: &Passes) -> Result<Scatters> {
    let spaces = Spaces::force_scatter().map_err(Failure::fault)?;
    let row = |registered: &ff_kernels::force_scatter::Registered| ScatterRow {
        variant: registered.id,
        passes: passes.of(ff_spec::force_scatter::OP, registered.id).cloned().collect(),
        deterministic: registered.reduction == ff_spec::force_scatter::Reduction::Gather,
    };
    Ok(Scatters {
        op: ff_spec::force_scatter::OP,
        dtypes: Dtype::ALL.to_vec(),
        orders_registered: registry::FORCE_SCATTER.orders(),
        orders_gated: gated(
            &registry::FORCE_SCATTER,
            &ff_kernels::force_scatter::registered().iter().map(|r| r.variant()).collect::<Vec<_>>(),
        ),
        variants: ff_kernels::force_scatter::registered().iter().map(row).collect(),
        launch: launch(&spaces),
    })
}

fn fused_message(passes: &Passes) -> Result<Op> {
    let spaces = Spaces::fused_message().map_err(Failure::fault)?;
    let used: BTreeSet<&str> =
        registered().iter().filter_map(|r| r.radial).flat_map(|(basis, cutoff)| [basis, cutoff]).collect();
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
        orders_registered: registry::FUSED_MESSAGE.orders(),
        orders_gated: gated(
            &registry::FUSED_MESSAGE,
            &registered().iter().map(Registered::variant).collect::<Vec<_>>(),
        ),
        variants: registered().iter().map(|registered| row(registered, passes)).collect(),
        radial: radial.collect(),
        launch: launch(&spaces),
    })
}

fn row(registered: &'static Registered, passes: &Passes) -> Row {
    let mut parameters: Vec<String> = match registered.filter {
        FilterKind::Linear => vec!["A".into(), "b".into()],
        FilterKind::Mlp => vec!["A1".into(), "b1".into(), "A2".into(), "b2".into()],
        FilterKind::Tabulated => vec!["table".into()],
    };
    parameters.push("r_cut".into());
    if let Some(pair) = &registered.pair() {
        for (prefix, declared) in [("basis", pair.basis_parameters), ("cutoff", pair.cutoff_parameters)] {
            let name =
                |(name, per_basis): &(&str, bool)| format!("{prefix}.{name}{}", if *per_basis { "[K]" } else { "" });
            parameters.extend(declared.iter().map(name));
        }
    }
    Row {
        variant: registered.id,
        passes: passes.of(OP, registered.id).cloned().collect(),
        family: registered.variant().family(),
        message: registered.message,
        filter: registered.filter,
        basis: registered.radial.map(|(basis, _)| basis),
        cutoff: registered.radial.map(|(_, cutoff)| cutoff),
        reduction: registered.reduction,
        deterministic: registered.reduction == Reduction::Receiver,
        parameters,
    }
}
