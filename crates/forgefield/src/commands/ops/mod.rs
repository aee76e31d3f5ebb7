//! `ops`: a page of all that was rendered and what of it passed the gate, and everything about what is named.

pub mod args;
mod marks;
mod rows;

use std::path::Path;

use ff_spec::Dtype;

use self::args::OpsArgs;
use self::marks::Marks;
use self::rows::{Launch, Rendered, Row};
use crate::failure::{Failure, Result};
use crate::ops::{RadialFunction, meant};
use crate::passes::{self, Passes};
use crate::screen::{Paint, Screen, columns};

/// Prints what was rendered.
pub fn run(args: &OpsArgs, screen: &Screen) -> Result<()> {
    let passes = match &args.passes {
        Some(path) if !path.exists() => {
            let path = path.display();
            return Err(Failure::input(format!("there is no {path}, expected a file of `verify --passes`")));
        }
        named => Passes::read(named.as_deref().unwrap_or(Path::new(passes::USUAL)))?,
    };
    let all = rows::all(&passes)?;
    let Some(name) = &args.name else {
        if args.json {
            return screen.json(&all.into_iter().flat_map(|op| op.variants).map(Row::brief).collect::<Vec<_>>());
        }
        return page(&all, screen);
    };
    let (op, named) = find(&all, name)?;
    if args.json {
        return screen.json(&named);
    }
    match named.as_slice() {
        [one] => variant(one, screen),
        several => group(name, op, several, screen),
    }
}

/// The variants of an op, of a family, or of an id.
fn find<'a>(all: &'a [Rendered], name: &str) -> Result<(&'a Rendered, Vec<&'a Row>)> {
    for op in all {
        let named = |row: &&Row| op.op == name || row.family == name || row.variant == name;
        let named: Vec<&Row> = op.variants.iter().filter(named).collect();
        if !named.is_empty() {
            return Ok((op, named));
        }
    }
    let rows = all.iter().flat_map(|op| &op.variants);
    let known: Vec<&str> =
        all.iter().map(|op| op.op).chain(rows.flat_map(|row| [row.family.as_str(), row.variant])).collect();
    let hint = meant(name, &known);
    Err(Failure::input(format!(
        "unknown name `{name}`{hint}, expected an op, a family or a variant; `forgefield ops` lists them"
    )))
}

/// A screen of all families.
fn page(all: &[Rendered], screen: &Screen) -> Result<()> {
    let rows: Vec<&Row> = all.iter().flat_map(|op| &op.variants).collect();
    let dtypes = Dtype::ALL.map(Dtype::name).join(" and ");
    let (ops, variants) = (all.len(), rows.len());
    screen.line(format!(
        "{variants} variants of {ops} ops, in {dtypes}; orders: 0 the op, 1 its backward, 2 the backward of that"
    ))?;
    screen.line("")?;
    let marks = Marks::new(&rows);
    let families: Vec<Vec<(&str, Vec<&Row>)>> = all.iter().map(families).collect();
    let cells = families
        .iter()
        .flatten()
        .map(|(family, rows)| [vec![format!("  {family}"), rows.len().to_string()], marks.cells(rows)].concat());
    let header = [vec!["FAMILY".to_owned(), "VARIANTS".to_owned()], marks.runtimes()].concat();
    let orders = [vec![String::new(), String::new()], marks.orders()].concat();
    let cells: Vec<Vec<String>> = std::iter::once(orders).chain(cells).collect();
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    let align = format!("lr{}", "l".repeat(header.len() - 2));
    // Aligned over all ops, shown op by op.
    let mut lines = columns(&header, &cells, &align).into_iter();
    for line in lines.by_ref().take(2) {
        screen.line(screen.paint(Paint::Bold, line))?;
    }
    for (op, families) in all.iter().zip(&families) {
        screen.line(screen.paint(Paint::Bold, format!("{}: {}", op.op, op.computes)))?;
        for line in lines.by_ref().take(families.len()) {
            screen.line(marks::painted(&line, screen))?;
        }
    }
    screen.line("")?;
    screen.line(marks::painted(marks::LEGEND, screen))?;
    screen.line("A family is as its least proven variant; `forgefield ops NAME` shows an op, a family or a variant.")
}

/// An op's families in their order, with their variants.
fn families(op: &Rendered) -> Vec<(&str, Vec<&Row>)> {
    let mut families: Vec<(&str, Vec<&Row>)> = Vec::new();
    for row in &op.variants {
        match families.iter_mut().find(|(family, _)| *family == row.family) {
            Some((_, rows)) => rows.push(row),
            None => families.push((&row.family, vec![row])),
        }
    }
    families
}

/// An op or a family.
fn group(name: &str, op: &Rendered, rows: &[&Row], screen: &Screen) -> Result<()> {
    let title = match rows.len() {
        _ if name == op.op => format!("{name}: {}", op.computes),
        n => format!("{name}: {n} variants of {}", op.op),
    };
    screen.line(screen.paint(Paint::Bold, title))?;
    let row = rows[0];
    screen.line(format!("dtypes {}", dtypes(&row.dtypes)))?;
    screen.line(format!("derivative orders: {}", orders(row)))?;
    screen.line("")?;
    let marks = Marks::new(rows);
    let header = [vec!["VARIANT".to_owned(), "SAME BITS".to_owned()], marks.runtimes()].concat();
    let mut cells = vec![[vec![String::new(), String::new()], marks.orders()].concat()];
    cells.extend(rows.iter().map(|row| {
        let bits = if row.deterministic { "yes" } else { "no" };
        [vec![row.variant.to_owned(), bits.to_owned()], marks.cells(&[row])].concat()
    }));
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    let lines = columns(&header, &cells, &"l".repeat(header.len()));
    for (i, line) in lines.into_iter().enumerate() {
        screen.line(if i < 2 { screen.paint(Paint::Bold, line) } else { marks::painted(&line, screen) })?;
    }
    screen.line(marks::painted(marks::LEGEND, screen))?;
    radial(rows, screen)?;
    launch(&op.part, rows, screen)
}

/// Everything about one variant.
fn variant(row: &Row, screen: &Screen) -> Result<()> {
    screen.line(screen.paint(Paint::Bold, format!("{}: variant of {}", row.variant, row.op)))?;
    screen.line(format!("family      {}", row.family))?;
    screen.line(format!("dtypes      {}", dtypes(&row.dtypes)))?;
    screen.line(format!("orders      {}", orders(row)))?;
    let bits = if row.deterministic { "yes, on every run" } else { "no: atomics add in any order" };
    screen.line(format!("same bits   {bits}"))?;
    if !row.parameters.is_empty() {
        screen.line(format!("parameters  {}", row.parameters.join(" ")))?;
    }
    screen.line("")?;
    if row.passes.is_empty() {
        screen.line("no pass noted; `forgefield verify --passes FILE` notes them")?;
    } else {
        let cells: Vec<Vec<String>> = row
            .passes
            .iter()
            .map(|pass| {
                let kernel = if pass.current { "this" } else { "an earlier one" };
                let set = if pass.full { "every" } else { "quick" };
                let cases = format!("{} ({set})", pass.cases);
                let facts = [&pass.device, &pass.date, &cases, &dtypes(&pass.dtypes)].map(String::clone);
                [vec![pass.order.to_string()], facts.to_vec(), vec![kernel.to_owned()]].concat()
            })
            .collect();
        let header = ["ORDER", "PASSED ON", "DATE", "CASES", "DTYPES", "KERNEL"];
        columns(&header, &cells, "llllll").into_iter().try_for_each(|line| screen.line(line))?;
    }
    radial(&[row], screen)?;
    launch("FOR", &[row], screen)
}

fn dtypes(dtypes: &[Dtype]) -> String {
    dtypes.iter().map(|dtype| dtype.name()).collect::<Vec<_>>().join(", ")
}

fn numbers<T: ToString>(numbers: &[T], between: &str) -> String {
    numbers.iter().map(T::to_string).collect::<Vec<_>>().join(between)
}

fn orders(row: &Row) -> String {
    format!("registered {}; gated {}", numbers(&row.orders, ", "), numbers(&row.orders_gated, ", "))
}

/// The formulas of bases and cutoffs.
fn radial(rows: &[&Row], screen: &Screen) -> Result<()> {
    let mut shown: Vec<&RadialFunction> = Vec::new();
    for function in rows.iter().flat_map(|row| &row.radial_functions) {
        if !shown.contains(&function) {
            shown.push(function);
        }
    }
    for RadialFunction { name, kind, formula, parameters, .. } in shown {
        screen.line("")?;
        screen.line(screen.paint(Paint::Bold, format!("{kind} {name}")))?;
        screen.line(format!("  {formula}"))?;
        for parameter in parameters {
            let each = if parameter.per_basis { "[K]" } else { "" };
            screen.line(format!("  {}{each} is {} where a call names none", parameter.name, parameter.default))?;
        }
    }
    Ok(())
}

/// Launch parameters; `part` is what their spaces are told apart by.
fn launch(part: &str, rows: &[&Row], screen: &Screen) -> Result<()> {
    let mut spaces: Vec<&Launch> = Vec::new();
    for space in rows.iter().flat_map(|row| &row.launch) {
        if !spaces.contains(&space) {
            spaces.push(space);
        }
    }
    let mut cells = Vec::new();
    for Launch { target, orders, part, parameters } in spaces {
        for (name, values) in parameters {
            let (orders, values) = (numbers(orders, ", "), numbers(values, " "));
            cells.push(vec![target.clone(), part.name().to_owned(), orders, name.clone(), values]);
        }
    }
    screen.line("")?;
    let header = ["TARGET", part, "ORDERS", "LAUNCH PARAMETER", "VALUES TRIED"];
    columns(&header, &cells, "lllll").into_iter().try_for_each(|line| screen.line(line))
}
