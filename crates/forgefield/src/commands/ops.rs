use std::path::Path;

use ff_spec::{Dtype, SCHEMA_VERSION};
use ff_testkit::catalogue::CaseSet;
use ff_tune::{Part, Spaces};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::failure::{Failure, Result};
use crate::ops::{self, AnyOp, RadialFunction};
use crate::options::OpsArgs;
use crate::passes::{self, Pass, Passes};
use crate::screen::{Paint, Screen, columns};

#[derive(Serialize)]
struct Report {
    schema: u32,
    ops: Vec<Described>,
}

#[derive(Serialize)]
struct Described {
    op: &'static str,
    #[serde(skip)]
    about: &'static str,
    dtypes: Vec<Dtype>,
    /// Each of which has its cases, as nothing else can be registered.
    orders_registered: Vec<u8>,
    orders_gated: Vec<u8>,
    variants: Vec<Row>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    radial: Vec<RadialFunction>,
    launch: Vec<Launch>,
}

#[derive(Serialize)]
struct Row {
    variant: &'static str,
    passes: Vec<Pass>,
    #[serde(flatten)]
    facts: Map<String, Value>,
    /// The same bits on every run.
    deterministic: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    parameters: Vec<String>,
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
    let mut ops = ops::ALL.iter().map(|op| described(*op, &passes)).collect::<Result<Vec<_>>>()?;
    // The op of most variants first.
    ops.sort_by_key(|op| std::cmp::Reverse(op.variants.len()));
    if args.json {
        return screen.json(&Report { schema: SCHEMA_VERSION, ops });
    }
    for (index, op) in ops.iter().enumerate() {
        if index > 0 {
            screen.line("")?;
        }
        show(op, screen)?;
    }
    Ok(())
}

fn show(op: &Described, screen: &Screen) -> Result<()> {
    screen.line(screen.paint(Paint::Bold, format!("{}: {}", op.op, op.about)))?;
    screen.line(format!("dtypes {}", op.dtypes.iter().map(|d| d.name()).collect::<Vec<_>>().join(", ")))?;
    screen.line(orders(&op.orders_registered, &op.orders_gated))?;
    screen.line("")?;
    let parameters = op.variants.iter().any(|row| !row.parameters.is_empty());
    let row = |row: &Row| -> Vec<String> {
        let bits = if row.deterministic { "yes" } else { "no" };
        let mut cells = vec![row.variant.to_owned(), bits.to_owned()];
        cells.extend(parameters.then(|| row.parameters.join(" ")));
        cells.push(passed(&op.orders_registered, &row.passes));
        cells
    };
    let rows: Vec<Vec<String>> = op.variants.iter().map(row).collect();
    let header = ["VARIANT", "SAME BITS", "PARAMETERS", "LAST PASSED, BY ORDER"];
    let header: Vec<&str> = header.into_iter().filter(|name| parameters || *name != "PARAMETERS").collect();
    for line in columns(&header, &rows, &"l".repeat(header.len())) {
        screen.line(line)?;
    }
    for kind in ["basis", "cutoff"] {
        let of_kind = op.radial.iter().filter(|f| f.kind == kind);
        let rows: Vec<Vec<String>> = of_kind.map(|f| vec![f.name.to_owned(), f.formula.to_owned()]).collect();
        if rows.is_empty() {
            continue;
        }
        screen.line("")?;
        for line in columns(&[&kind.to_uppercase(), "FORMULA"], &rows, "ll") {
            screen.line(line)?;
        }
    }
    screen.line("")?;
    launches(&op.launch, screen)
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

/// The launch parameters of an op, told apart by a part of its variants.
fn launches(launch: &[Launch], screen: &Screen) -> Result<()> {
    let mut rows = Vec::new();
    for launch in launch {
        for (name, values) in &launch.parameters {
            let values = values.iter().map(u32::to_string).collect::<Vec<_>>().join(" ");
            let orders = launch.orders.iter().map(u8::to_string).collect::<Vec<_>>().join(", ");
            rows.push(vec![launch.target.clone(), launch.part.name().to_owned(), orders, name.clone(), values]);
        }
    }
    let part = launch.first().map(|launch| launch.part.key().to_uppercase()).unwrap_or_default();
    let header = ["TARGET", &part, "ORDERS", "LAUNCH PARAMETER", "VALUES TRIED"];
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

fn described(op: &'static dyn AnyOp, passes: &Passes) -> Result<Described> {
    let ids = op.ids();
    let row = |&id: &&'static str| Row {
        variant: id,
        passes: passes.of(op.name(), id).cloned().collect(),
        facts: op.facts(id),
        deterministic: op.is_deterministic(id),
        parameters: op.parameters(id),
    };
    // The orders that have cases for every variant.
    let gated = op.orders().iter().filter(|order| ids.iter().all(|id| !order.cases(id, CaseSet::Quick).is_empty()));
    Ok(Described {
        op: op.name(),
        about: op.about(),
        dtypes: Dtype::ALL.to_vec(),
        orders_registered: op.orders().iter().map(|order| order.order()).collect(),
        orders_gated: gated.map(|order| order.order()).collect(),
        variants: ids.iter().map(row).collect(),
        radial: op.radial(),
        launch: launch(&op.spaces()?),
    })
}
