//! `sweep`: an experiment's description, its rows, and what they came to.

pub mod args;
pub mod kernels;
pub mod launched;
mod replays;

use std::path::Path;
use std::time::Duration;

use ff_sweep::{
    Basis, Bench, Description, Event, Expansion, Group, Job, Kind, Measured, Prediction, ResultWriter, Results, Row,
    Stopped, Value, Verdict, columns as tidy, groups, predict, remaining,
};
use ff_tune::Timing;
use serde::Serialize;

use self::args::SweepArgs;
use self::kernels::Kernels;
use self::replays::Replays;
use crate::failure::{Failure, Result};
use crate::interrupt;
use crate::screen::{Left, Paint, Screen, columns, nanoseconds};

/// A row and what it will take.
#[derive(Serialize)]
struct Planned<'a> {
    row: &'a Row,
    predicted_s: f64,
    basis: Basis,
}

#[derive(Serialize)]
struct DryRun<'a> {
    sweep: &'a str,
    rows: Vec<Planned<'a>>,
    predicted_s: f64,
    excluded: usize,
    duplicates: usize,
}

#[derive(Serialize)]
struct Document<'a> {
    schema: u32,
    sweep: &'a str,
    results: String,
    rows: Vec<Measured>,
}

/// Expands, measures, and writes results.
pub fn run(args: &SweepArgs, screen: &Screen) -> Result<()> {
    let mut description = Description::load(&args.file).map_err(Failure::input)?;
    let kind = description.kind.clone();
    match (args.runtime, &kind) {
        (None, _) => {}
        (Some(choice), Kind::Timing) => {
            let name = choice.kind().map_or("auto", ff_spec::RuntimeKind::name);
            description.set("runtime", Value::Text(name.to_owned())).map_err(Failure::input)?;
        }
        (Some(_), Kind::Replay(_)) => {
            return Err(Failure::input("--runtime: a replay runs nowhere, expected no runtime"));
        }
    }
    let Expansion { rows, excluded, duplicates } = description.expand().map_err(Failure::input)?;
    let mut bench = match &kind {
        Kind::Timing => AnyBench::Kernels(Kernels::default()),
        Kind::Replay(of) => AnyBench::Replays(Replays::load(of, screen)?),
    };
    // What can be wrong is found before anything is measured.
    for row in &rows {
        bench.check(row).map_err(|e| Failure::input(format!("{}: row {row}: {}", args.file.display(), e.message)))?;
    }
    if let AnyBench::Kernels(kernels) = &mut bench {
        let wrong = |e: Failure| Failure::input(format!("{}: {}", args.file.display(), e.message));
        kernels.expect_different(&rows).map_err(wrong)?;
    }
    let all = groups(rows, &description.beside);
    let count = all.len();
    let mine: Vec<Group> = all.into_iter().filter(|g| args.shard.is_none_or(|shard| shard.has(g.index))).collect();
    let rows: Vec<Row> = mine.iter().flat_map(|group| group.rows.clone()).collect();
    if args.shard.is_some() {
        screen.say(format!("shard: {} of {count} groups of rows", mine.len()));
    }
    let slug = description.slug();
    let folder = args.out.clone().unwrap_or_else(|| args.file.parent().unwrap_or(Path::new("")).to_owned());
    let path = folder.join("results.jsonl");
    let (earlier, torn) = if path.is_file() {
        let results = Results::read(&path).map_err(Failure::input)?;
        (results.rows, results.torn)
    } else {
        (Vec::new(), None)
    };
    // What a row in the results ran on is compared with what it would run on now.
    if args.resume || !args.dry_run {
        bench.open(&rows, screen)?;
    }
    let (left, resumed) = if args.resume {
        remaining(bench.as_mut(), &mine, &earlier).map_err(Failure::input)?
    } else {
        (mine.clone(), 0)
    };
    let rows: Vec<Row> = left.into_iter().flat_map(|group| group.rows).collect();
    let predictions = predict(&rows, &earlier, &kind, &description.sampling);
    if args.dry_run {
        if let Some(torn) = torn {
            let (path, line) = (path.display(), torn.line);
            screen.warn(format!("warning: {path}: torn last line {line}, which the next sweep drops"));
        }
        if resumed > 0 {
            screen.say(format!("{resumed} rows are in the results already"));
        }
        return dry_run(args, &slug, &rows, &predictions, excluded, duplicates, screen);
    }
    if duplicates > 0 {
        screen.say(format!("{duplicates} rows are there twice and are measured once"));
    }
    ff_tables::fs::ensure_writable(if folder.as_os_str().is_empty() { Path::new(".") } else { &folder })
        .map_err(|e| Failure::input(format!("{}: cannot write there: {e}", folder.display())))?;
    let mut writer = ResultWriter::open(&path).map_err(Failure::input)?;
    if let Some(torn) = writer.torn() {
        screen.warn(format!("warning: {}: {torn}", path.display()));
    }
    let job = Job {
        sweep: &slug,
        groups: &mine,
        sampling: &description.sampling,
        resume: args.resume,
        stop: interrupt::flag(),
    };
    let mut shown = SweepProgress::new(&predictions, screen);
    let mut measured = Vec::new();
    let ended = ff_sweep::run(bench.as_mut(), &job, &mut writer, &mut |event| {
        if let Event::End(line) = &event {
            measured.push((*line).clone());
        }
        shown.event(event);
    });
    shown.progress.end();
    drop(writer);
    // Derived files follow the results whatever ended the sweep.
    let results = Results::read(&path).map_err(Failure::fault)?;
    derive(&folder, &results.rows)?;
    let wrong = measured.iter().filter(|line| line.verdict == Verdict::Correctness).count();
    let none = !measured.is_empty() && measured.iter().all(|line| line.verdict != Verdict::Correct);
    if args.json {
        let results = path.display().to_string();
        screen.json(&Document { schema: ff_sweep::RESULT_SCHEMA, sweep: &slug, results, rows: measured })?;
    } else {
        summary(&measured, screen)?;
        screen.line(format!("results {} ({} rows that count)", path.display(), results.rows.len()))?;
    }
    match ended {
        Err(error @ Stopped::Interrupted) => Err(Failure::interrupted(error)),
        Err(error @ Stopped::Input { .. }) => Err(Failure::input(error)),
        Err(error @ Stopped::Results(_)) => {
            Err(Failure::fault(format!("{error}; what was measured before is kept in {}", path.display())))
        }
        Ok(()) if wrong > 0 => Err(Failure::unmet(format!("{wrong} rows gave wrong results; they have no times"))),
        Ok(()) if none => Err(Failure::unmet("no row could be measured; the results say why")),
        Ok(()) => Ok(()),
    }
}

/// Whatever knows the words of this sweep's rows.
enum AnyBench {
    Kernels(Kernels),
    Replays(Replays),
}

impl AnyBench {
    /// Finds what is wrong with a row without measuring anything.
    fn check(&mut self, row: &Row) -> Result<()> {
        match self {
            AnyBench::Kernels(kernels) => kernels.check(row),
            AnyBench::Replays(replays) => replays.check(row),
        }
    }

    /// Opens what rows run on.
    fn open(&mut self, rows: &[Row], screen: &Screen) -> Result<()> {
        match self {
            AnyBench::Kernels(kernels) => kernels.open(rows, screen),
            AnyBench::Replays(_) => Ok(()),
        }
    }

    fn as_mut(&mut self) -> &mut dyn Bench {
        match self {
            AnyBench::Kernels(kernels) => kernels,
            AnyBench::Replays(replays) => replays,
        }
    }
}

fn total(predictions: &[Prediction]) -> Duration {
    predictions.iter().map(|prediction| prediction.time).sum()
}

fn dry_run(
    args: &SweepArgs,
    slug: &str,
    rows: &[Row],
    predictions: &[Prediction],
    excluded: usize,
    duplicates: usize,
    screen: &Screen,
) -> Result<()> {
    let predicted_s = total(predictions).as_secs_f64();
    if args.json {
        let planned = rows.iter().zip(predictions);
        let planned =
            planned.map(|(row, p)| Planned { row, predicted_s: p.time.as_secs_f64(), basis: p.basis }).collect();
        return screen.json(&DryRun { sweep: slug, rows: planned, predicted_s, excluded, duplicates });
    }
    for (row, prediction) in rows.iter().zip(predictions) {
        screen.line(format!("{:>8.1} s  {row}", prediction.time.as_secs_f64()))?;
    }
    let of = |basis| predictions.iter().filter(|prediction| prediction.basis == basis).count();
    let how = [
        (of(Basis::Measured), "as measured before"),
        (of(Basis::Mean), "by the mean of what was"),
        (of(Basis::Allowance), "by what the sampling allows"),
    ];
    let how: Vec<String> = how.iter().filter(|(n, _)| *n > 0).map(|(n, how)| format!("{n} {how}")).collect();
    let how = if how.is_empty() { String::new() } else { format!(" ({})", how.join(", ")) };
    let time =
        if predicted_s < 60.0 { format!("{predicted_s:.1} s") } else { format!("{:.1} min", predicted_s / 60.0) };
    let twice = if duplicates > 0 { format!(", {duplicates} there twice") } else { String::new() };
    screen.line(format!("{} rows ({excluded} excluded{twice}), predicted {time}{how}", rows.len()))
}

/// What happens, as it is shown.
struct SweepProgress<'a> {
    progress: crate::screen::Progress<'a>,
    /// What is left of the prediction for each row that has not ended, in order, ms.
    left: std::vec::IntoIter<u64>,
    position: u64,
}

impl<'a> SweepProgress<'a> {
    fn new(predictions: &[Prediction], screen: &'a Screen) -> Self {
        let steps: Vec<u64> = predictions.iter().map(|p| p.time.as_millis().max(1) as u64).collect();
        let progress = screen.progress(steps.iter().sum(), Left::Estimated);
        Self { progress, left: steps.into_iter(), position: 0 }
    }

    fn event(&mut self, event: Event<'_>) {
        match event {
            // Nothing was predicted for these.
            Event::Resumed(rows) => self.progress.line(format!("{rows} rows are in the results already")),
            Event::Begin(row) => self.progress.step(self.position, row),
            Event::End(line) => {
                self.position += self.left.next().unwrap_or(0);
                self.progress.step(self.position, &line.row);
                let came = match (Timing::of(&line.samples_ns), &line.reason) {
                    (Some(timing), _) => nanoseconds(timing.median_ns),
                    (None, Some(reason)) => format!("{}: {reason}", line.verdict),
                    (None, None) => line.verdict.to_string(),
                };
                self.progress.plain(format!("{}: {came}", line.row));
            }
        }
    }
}

/// The results as CSV and Parquet, one row per sample.
fn derive(folder: &Path, results: &[Measured]) -> Result<()> {
    if results.is_empty() {
        return Ok(());
    }
    let table = tidy(results);
    let csv = ff_export::table::csv(&table).map_err(Failure::fault)?;
    let parquet = ff_export::table::parquet("samples", &table).map_err(Failure::fault)?;
    for (name, bytes) in [("results.csv", csv), ("results.parquet", parquet)] {
        let path = folder.join(name);
        ff_tables::fs::replace(&path, &bytes)
            .map_err(|e| Failure::fault(format!("cannot write {}: {e}", path.display())))?;
    }
    Ok(())
}

fn summary(measured: &[Measured], screen: &Screen) -> Result<()> {
    let Some(first) = measured.first() else { return screen.line("nothing was measured") };
    // What all rows agree on says nothing.
    let constant: Vec<&str> = first
        .row
        .0
        .iter()
        .filter(|(name, value)| measured.iter().all(|line| line.row.get(name) == Some(value)))
        .map(|(name, _)| name.as_str())
        .collect();
    let rows: Vec<Vec<String>> = measured
        .iter()
        .map(|line| {
            let timing = Timing::of(&line.samples_ns);
            vec![
                line.row.without(&constant).to_string(),
                timing.map_or("–".to_owned(), |t| nanoseconds(t.median_ns)),
                timing.map_or("–".to_owned(), |t| format!("{:.1} %", 100.0 * t.spread_ns / t.median_ns)),
                line.samples_ns.len().to_string(),
                line.peak_bytes
                    .map_or("–".to_owned(), |bytes| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))),
                line.rel_error.map_or("–".to_owned(), |e| format!("{:.0e}", e[0].max(e[1]))),
                line.verdict.to_string(),
            ]
        })
        .collect();
    let header = ["ROW", "MEDIAN", "SPREAD", "SAMPLES", "MEMORY", "ERROR", "VERDICT"];
    columns(&header, &rows, "lrrrrrl").into_iter().try_for_each(|line| screen.line(line))?;
    let software = measured.iter().find(|line| line.device.software);
    if let Some(line) = software {
        let text = format!("{} is a software adapter: these times are no performance claims", line.device.name);
        screen.line(screen.paint(Paint::Yellow, text))?;
    }
    Ok(())
}
