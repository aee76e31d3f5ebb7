use std::path::{Path, PathBuf};

use ff_spec::fused_message::OP;
use ff_spec::{LaunchConfig, SCHEMA_VERSION};
use ff_tables::{Entry, Selection, Table, load_all};
use serde::Serialize;

use crate::failure::{Failure, Result};
use crate::options::{DiffArgs, MergeArgs, SelectArgs, TablesArgs, TablesCommand, TablesFiles, TablesFolder};
use crate::screen::{Paint, Screen, columns, nanoseconds};
use crate::{provenance, runtimes, variants, workload};

use super::eval::choose;

/// Shows, checks, compares, merges and queries tables.
pub fn run(args: &TablesArgs, screen: &Screen) -> Result<()> {
    match &args.command {
        TablesCommand::Show(args) => show(args, screen),
        TablesCommand::Check(args) => check(args, screen),
        TablesCommand::Select(args) => selected(args, screen),
        TablesCommand::Diff(args) => diff(args, screen),
        TablesCommand::Merge(args) => merge(args, screen),
    }
}

fn show(args: &TablesFolder, screen: &Screen) -> Result<()> {
    variants::op(&args.op)?;
    let loaded = load_all(&args.dir, &args.op);
    if let Some(error) = loaded.errors.first() {
        return Err(Failure::input(error));
    }
    if args.json {
        return screen.json(&loaded.iter().collect::<Vec<_>>());
    }
    if loaded.tables.is_empty() {
        return screen.line(format!("no tables of `{}` under {}", args.op, args.dir.display()));
    }
    for (path, table) in &loaded.tables {
        let device = &table.device;
        screen.line(screen.paint(Paint::Bold, path.display()))?;
        screen.line(format!("  {}", runtimes::describe(device)))?;
        if device.software {
            screen.line("  times of a software adapter: no performance claims, never used on hardware")?;
        }
        if table.template_hash != provenance::TEMPLATE_HASH {
            screen.line(format!("  {}", stale(table)))?;
        }
        let rows: Vec<Vec<String>> = table.entries().iter().map(row).collect();
        for line in columns(&HEADER, &rows, "llrrrrrrrrrl") {
            screen.line(format!("  {line}"))?;
        }
    }
    Ok(())
}

const HEADER: [&str; 12] =
    ["FAMILY", "DTYPE", "ATOMS", "DEGREE", "F", "K", "MEDIAN", "SPREAD", "× DEFAULT", "× UNFUSED", "TIES", "CONFIG"];

fn row(entry: &Entry) -> Vec<String> {
    let ratio = |ratio: Option<f64>| ratio.map_or_else(|| "–".to_owned(), |r| format!("{r:.2}"));
    let key = &entry.key;
    vec![
        key.family.clone(),
        key.dtype.to_string(),
        key.n_atoms.to_string(),
        format!("{:.1}", key.mean_degree),
        key.features.to_string(),
        key.n_basis.to_string(),
        nanoseconds(entry.median_ns),
        nanoseconds(entry.spread_ns),
        ratio(entry.speedup()),
        ratio(entry.unfused_speedup()),
        entry.ties.len().to_string(),
        entry.config.to_string(),
    ]
}

fn stale(table: &Table) -> String {
    let (found, expected) = (&table.template_hash, provenance::TEMPLATE_HASH);
    format!("made from templates {found}, this binary has {expected}: its entries are not used")
}

fn check(args: &TablesFiles, screen: &Screen) -> Result<()> {
    let mut problems = 0;
    let mut tables: Vec<(PathBuf, Table)> = Vec::new();
    let mut errors = Vec::new();
    if args.files.is_empty() {
        let loaded = load_all(&args.dir, OP);
        (tables, errors) = (loaded.tables, loaded.errors);
    }
    for path in &args.files {
        match Table::load(path) {
            Ok(table) => tables.push((path.clone(), table)),
            Err(error) => errors.push(error),
        }
    }
    for error in &errors {
        problems += 1;
        screen.line(format!("{} {error}", screen.paint(Paint::Red, "wrong")))?;
    }
    for (path, table) in &tables {
        // A file that was named may lie anywhere.
        let place = args.files.is_empty().then_some(path.as_path());
        let findings = table.check(place);
        problems += findings.len();
        for finding in &findings {
            screen.line(format!("{} {}: {finding}", screen.paint(Paint::Red, "wrong"), path.display()))?;
        }
        if findings.is_empty() {
            let entries = table.entries().len();
            let text = format!("{}: {entries} entries, each with a numerical pass", path.display());
            screen.line(format!("{} {text}", screen.paint(Paint::Green, "fine ")))?;
        }
        if table.template_hash != provenance::TEMPLATE_HASH {
            screen.line(format!("note  {}: {}", path.display(), stale(table)))?;
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

#[derive(Serialize)]
struct Selected {
    schema: u32,
    op: &'static str,
    variant: String,
    device: String,
    problem: ff_spec::Problem,
    #[serde(flatten)]
    selection: Selection,
    /// The table's, or the default one.
    used: LaunchConfig,
}

fn selected(args: &SelectArgs, screen: &Screen) -> Result<()> {
    variants::op_of(&args.op, "tables select", &[OP])?;
    let variant = variants::representative(&args.variant)?;
    let problems: Vec<String> = args.problem.iter().cloned().collect();
    let files: Vec<PathBuf> = args.structure.iter().cloned().collect();
    let workloads = workload::collect(&problems, &files, &args.sizes)?;
    let workload = workloads.first().ok_or_else(|| Failure::input("no problem, expected --problem or --structure"))?;
    let inputs = workload.inputs(&variant, &args.sizes)?;
    let runtime = runtimes::open(args.runtime, screen)?;
    let loaded = load_all(&args.dir, OP);
    for error in &loaded.errors {
        screen.warn(format!("warning: {error}"));
    }
    let problem = inputs.problem(&workload.name);
    let (selection, used) = choose(runtime.as_ref(), &loaded, &variant, args.dtype, &inputs, &problem);
    let device = runtime.device().slug.clone();
    if args.json {
        let variant = variant.id();
        return screen.json(&Selected { schema: SCHEMA_VERSION, op: OP, variant, device, problem, selection, used });
    }
    screen.line(format!("call    {}", ff_spec::TuneKey::new(&variant.family(), args.dtype, &problem)))?;
    screen.line(format!("step    {}", selection.step))?;
    if let (Some(key), Some(distance)) = (&selection.key, &selection.distance) {
        screen.line(format!("entry   {key}"))?;
        let [atoms, _, degree, features, basis] = distance;
        let octaves = format!("{atoms:.2} atoms, {degree:.2} degree, {features:.2} F, {basis:.2} K");
        screen.line(format!("octaves {octaves}"))?;
    }
    screen.line(format!("config  {used}"))?;
    screen.line(format!("why     {}", selection.reason))
}

fn load(path: &Path) -> Result<Table> {
    Table::load(path).map_err(Failure::input)
}

fn diff(args: &DiffArgs, screen: &Screen) -> Result<()> {
    let (old, new) = (load(&args.old)?, load(&args.new)?);
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
    let mut table = load(&args.into)?;
    let mut lines = Vec::new();
    for path in &args.from {
        let report = table.merge(load(path)?).map_err(|e| Failure::input(format!("{}: {e}", path.display())))?;
        let (added, replaced, kept) = (report.added, report.replaced, report.kept);
        lines.push(format!("{}: {added} added, {replaced} faster and replaced, {kept} not faster", path.display()));
    }
    // All or nothing: a table that does not fit is found before anything is written.
    table.save(&args.into).map_err(Failure::input)?;
    lines.into_iter().try_for_each(|line| screen.line(line))?;
    screen.line(format!("wrote {} ({} entries)", args.into.display(), table.entries().len()))
}
