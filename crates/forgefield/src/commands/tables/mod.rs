//! `tables`: tuning tables shown, checked, compared, merged and asked.

pub mod args;
mod fit;
mod kernels;

use std::path::{Path, PathBuf};

use ff_spec::{LaunchConfig, OPS, Problem, SCHEMA_VERSION, kernel_name};
use ff_tables::{Entry, Loaded, Selection, Table, TableError, load_all};
use ff_tune::{RecordWriter, records};
use serde::Serialize;

use self::args::{CheckArgs, DiffArgs, MergeArgs, SelectArgs, ShowArgs, TablesArgs, TablesCommand};
use self::fit::OpSpaces;
use crate::failure::{Failure, Result};
use crate::screen::{Paint, Screen, columns, nanoseconds};
use crate::{ops, provenance, runtimes, workload};

/// Shows, checks, compares, merges and queries tables.
pub fn run(args: &TablesArgs, screen: &Screen) -> Result<()> {
    match &args.command {
        TablesCommand::Show(args) => show(args, screen),
        TablesCommand::Check(args) => check(args, screen),
        TablesCommand::Select(args) => selected(args, screen),
        TablesCommand::Diff(args) => diff(args, screen),
        TablesCommand::Merge(args) => merge(args, screen),
        TablesCommand::Renew(args) => kernels::renew(args, screen),
    }
}

fn show(args: &ShowArgs, screen: &Screen) -> Result<()> {
    if let Some(op) = &args.op {
        ops::find(op)?;
    }
    let loaded = load(&args.dir, args.op.as_deref());
    if let Some(error) = loaded.errors.first() {
        return Err(Failure::input(error));
    }
    if args.json {
        return screen.json(&loaded.iter().collect::<Vec<_>>());
    }
    if loaded.tables.is_empty() {
        let of = args.op.as_ref().map(|op| format!(" of `{op}`")).unwrap_or_default();
        return screen.line(format!("no tables{of} under {}", args.dir.display()));
    }
    for (path, table) in &loaded.tables {
        let device = &table.device;
        screen.line(screen.paint(Paint::Bold, path.display()))?;
        screen.line(format!("  {}", runtimes::describe(device)))?;
        if device.software {
            screen.line("  times of a software adapter: no performance claims, never used on hardware")?;
        }
        for note in [stale(table), kernels::changed(table)].into_iter().flatten() {
            screen.line(format!("  {note}"))?;
        }
        let rows: Vec<Vec<String>> = table.entries().iter().map(row).collect();
        for line in columns(&HEADER, &rows, "llrrrrrrrrrrl") {
            screen.line(format!("  {line}"))?;
        }
    }
    Ok(())
}

/// The tables of an op, or of all.
fn load(dir: &Path, op: Option<&str>) -> Loaded {
    let mut loaded = Loaded::default();
    for op in OPS.iter().filter(|known| op.is_none_or(|op| op == **known)) {
        let Loaded { tables, errors } = load_all(dir, op);
        loaded.tables.extend(tables);
        loaded.errors.extend(errors);
    }
    loaded
}

const HEADER: [&str; 13] = [
    "FAMILY",
    "DTYPE",
    "ATOMS",
    "SYSTEMS",
    "DEGREE",
    "F",
    "K",
    "MEDIAN",
    "SPREAD",
    "× DEFAULT",
    "× UNFUSED",
    "TIES",
    "CONFIG",
];

fn row(entry: &Entry) -> Vec<String> {
    let ratio = |ratio: Option<f64>| ratio.map_or_else(|| "–".to_owned(), |r| format!("{r:.2}"));
    // What an op does not see is 0.
    let seen = |size: u64| if size == 0 { "–".to_owned() } else { size.to_string() };
    let key = &entry.key;
    let own = key.axes.iter().map(|(axis, size)| format!(" {axis}={size}"));
    vec![
        kernel_name(&key.family, key.order) + &own.collect::<String>(),
        key.dtype.to_string(),
        key.n_atoms.to_string(),
        seen(key.n_systems),
        format!("{:.1}", key.mean_degree),
        seen(key.features.into()),
        seen(key.n_basis.into()),
        nanoseconds(entry.median_ns),
        nanoseconds(entry.spread_ns),
        ratio(entry.speedup()),
        ratio(entry.unfused_speedup()),
        entry.ties.len().to_string(),
        entry.config.to_string(),
    ]
}

/// Why a table is not used by this binary.
fn stale(table: &Table) -> Option<String> {
    let (found, expected) = (&table.template_hash, provenance::template_hash(&table.op));
    let text = || format!("made from templates {found}, this binary has {expected}: its entries are not used");
    (found != expected).then(text)
}

fn check(args: &CheckArgs, screen: &Screen) -> Result<()> {
    let mut problems = 0;
    let mut tables: Vec<(PathBuf, Table)> = Vec::new();
    let mut errors = Vec::new();
    if args.files.is_empty() {
        Loaded { tables, errors } = load(&args.dir, None);
    }
    for path in &args.files {
        match Table::salvage(path) {
            Ok((table, refused)) => {
                tables.push((path.clone(), table));
                errors.extend(refused);
            }
            Err(error) => errors.push(error),
        }
    }
    let spaces = OpSpaces::new(&args.space)?;
    for error in &errors {
        problems += 1;
        screen.line(format!("{} {error}", screen.paint(Paint::Red, "wrong")))?;
    }
    for (path, table) in &tables {
        // A file that was named may lie anywhere.
        let place = args.files.is_empty().then_some(path.as_path());
        let findings = table.check(place).into_iter().map(|finding| finding.to_string());
        let misfits = table.entries().iter().filter_map(|entry| spaces.misfit(table, entry));
        let findings: Vec<String> = findings.chain(misfits).collect();
        problems += findings.len();
        for finding in &findings {
            screen.line(format!("{} {}: {finding}", screen.paint(Paint::Red, "wrong"), path.display()))?;
        }
        if findings.is_empty() {
            let entries = table.entries().len();
            let refused = errors.iter().filter(|error| of_entry(error) == Some(path)).count();
            let but = if refused > 0 { format!(" and {refused} that are refused") } else { String::new() };
            let text = format!("{}: {entries} entries, each with a numerical pass{but}", path.display());
            screen.line(format!("{} {text}", screen.paint(Paint::Green, "fine ")))?;
        }
        for note in [stale(table), kernels::changed(table)].into_iter().flatten() {
            screen.line(format!("note  {}: {note}", path.display()))?;
        }
    }
    if problems > 0 {
        return Err(Failure::unmet(format!("{problems} findings")));
    }
    if tables.is_empty() {
        return Err(Failure::unmet(format!("nothing checked: no tables under {}", args.dir.display())));
    }
    Ok(())
}

/// The file of an entry that is refused.
fn of_entry(error: &TableError) -> Option<&PathBuf> {
    if let TableError::Entry { path, .. } = error { Some(path) } else { None }
}

#[derive(Serialize)]
struct SelectReport {
    schema: u32,
    op: String,
    order: u8,
    variant: String,
    device: String,
    problem: Problem,
    #[serde(flatten)]
    selection: Selection,
    /// The table's, or the default one.
    used: LaunchConfig,
}

fn selected(args: &SelectArgs, screen: &Screen) -> Result<()> {
    let op = ops::find(&args.op)?;
    op.expect_order(args.order)?;
    let problems: Vec<String> = args.problem.iter().cloned().collect();
    let files: Vec<PathBuf> = args.structure.iter().cloned().collect();
    let workloads = workload::collect(&problems, &files, &args.sizes)?;
    workloads.iter().for_each(|workload| workload.warn(screen));
    let workload = workloads.first().ok_or_else(|| Failure::input("no problem, expected --problem or --structure"))?;
    let runtime = runtimes::open(args.runtime, screen)?;
    let loaded = load_all(&args.dir, &args.op);
    for error in &loaded.errors {
        screen.warn(format!("warning: {error}"));
    }
    let found = op.selected(args, workload, runtime.as_ref(), &loaded)?;
    let ops::Selected { id: variant, key, problem, selection, config: used } = found;
    let device = runtime.device().slug.clone();
    if args.json {
        let (schema, op, order) = (SCHEMA_VERSION, args.op.clone(), args.order);
        return screen.json(&SelectReport { schema, op, order, variant, device, problem, selection, used });
    }
    screen.line(format!("call    {key}"))?;
    screen.line(format!("step    {}", selection.step))?;
    if let (Some(entry), Some(distance)) = (&selection.key, &selection.distance) {
        screen.line(format!("entry   {entry}"))?;
        // Axes that the op does not see are left out.
        let seen = [true, key.n_systems > 0, true, key.features > 0, key.features > 0];
        let own = key.axes.keys().map(|axis| (axis.as_str(), true));
        let shared = ["atoms", "systems", "degree", "F", "K"].into_iter().zip(seen);
        let axes = distance.iter().zip(shared.chain(own));
        let axes: Vec<String> =
            axes.filter(|(_, (_, seen))| *seen).map(|(octaves, (axis, _))| format!("{octaves:.2} {axis}")).collect();
        screen.line(format!("octaves {}", axes.join(", ")))?;
    }
    screen.line(format!("config  {used}"))?;
    screen.line(format!("why     {}", selection.reason))
}

fn read(path: &Path) -> Result<Table> {
    Table::load(path).map_err(Failure::input)
}

fn diff(args: &DiffArgs, screen: &Screen) -> Result<()> {
    let (old, new) = (read(&args.old)?, read(&args.new)?);
    let fields = |t: &Table| {
        let versions = &t.versions;
        [
            ("op", t.op.clone()),
            ("device", format!("{} ({})", t.device.slug, t.device.driver)),
            ("templates", t.template_hash.clone()),
            (
                "versions",
                format!("forgefield {}, burn {}, cubecl {}", versions.forgefield, versions.burn, versions.cubecl),
            ),
        ]
    };
    for ((what, old), (_, new)) in fields(&old).into_iter().zip(fields(&new)).filter(|(o, n)| o != n) {
        screen.line(format!("{what}: {old} → {new}"))?;
    }
    let mut same = 0;
    for entry in new.entries() {
        match old.get(&entry.key) {
            None => screen.line(format!("added   {}: {}", entry.key, entry.config))?,
            Some(before) => {
                let ratio = before.median_ns / entry.median_ns;
                let times =
                    format!("{} → {} (× {ratio:.2})", nanoseconds(before.median_ns), nanoseconds(entry.median_ns));
                if before.config == entry.config {
                    same += 1;
                    screen.line(format!("same    {}: {times}", entry.key))?;
                } else {
                    screen.line(format!(
                        "changed {}: {times}\n          {}\n        → {}",
                        entry.key, before.config, entry.config
                    ))?;
                }
            }
        }
    }
    for entry in old.entries().iter().filter(|e| new.get(&e.key).is_none()) {
        screen.line(format!("removed {}: {}", entry.key, entry.config))?;
    }
    screen.line(format!("{same} of {} entries have the same configuration", new.entries().len()))
}

fn merge(args: &MergeArgs, screen: &Screen) -> Result<()> {
    if args.into.extension().is_some_and(|extension| extension == "jsonl") {
        return merge_records(args, screen);
    }
    let mut table = read(&args.into)?;
    let mut lines = Vec::new();
    for path in &args.from {
        let report = table.merge(read(path)?).map_err(|e| Failure::input(format!("{}: {e}", path.display())))?;
        let (added, replaced, kept) = (report.added, report.replaced, report.kept);
        lines.push(format!("{}: {added} added, {replaced} faster and replaced, {kept} not faster", path.display()));
    }
    // All or nothing: a table that does not fit is found before anything is written.
    table.save(&args.into).map_err(Failure::input)?;
    lines.into_iter().try_for_each(|line| screen.line(line))?;
    screen.line(format!("wrote {} ({} entries)", args.into.display(), table.entries().len()))
}

/// Joins records of shards; nothing is written where two of them claim the same measurement.
fn merge_records(args: &MergeArgs, screen: &Screen) -> Result<()> {
    let mut files = Vec::new();
    let (mut present, mut lines) = (0, Vec::new());
    for path in std::iter::once(&args.into).filter(|into| into.exists()).chain(&args.from) {
        let (records, torn) = records::read(path).map_err(Failure::input)?;
        if let Some(torn) = torn {
            screen.warn(format!("warning: {}: {torn}", path.display()));
        }
        present = if path == &args.into { records.len() } else { present };
        lines.push(format!("{}: {} records", path.display(), records.len()));
        files.push((path.clone(), records));
    }
    let merged = ff_tune::merge(&files).map_err(Failure::input)?;
    let mut writer = RecordWriter::open(&args.into).map_err(Failure::input)?;
    for record in &merged[present..] {
        writer.append(record).map_err(Failure::fault)?;
    }
    writer.sync().map_err(Failure::fault)?;
    lines.into_iter().try_for_each(|line| screen.line(line))?;
    screen.line(format!(
        "wrote {} ({} records, {} of them new)",
        args.into.display(),
        merged.len(),
        merged.len() - present
    ))
}
