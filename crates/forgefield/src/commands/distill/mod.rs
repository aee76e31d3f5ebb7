//! `distill`: structures labelled by a teacher.

pub mod args;
mod model;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use ff_train::{AseTeacher, DistillError, LabelFile, Skipped, Teacher, TeacherError, distill};
use serde::Serialize;

use self::args::DistillArgs;
use self::model::ModelTeacher;
use crate::failure::{Failure, Result};
use crate::interrupt;
use crate::screen::Screen;

/// How often those who see no bar hear how far it is.
const SAID_EVERY: Duration = Duration::from_secs(5);
/// Skipped structures that are named; the list has all.
const NAMED: usize = 5;

/// What is printed as JSON.
#[derive(Serialize)]
struct Report<'a> {
    teacher: String,
    labels: String,
    labelled: u64,
    earlier: u64,
    skipped: &'a [Skipped],
    seconds: f64,
    structures_per_s: f64,
    stopped: Option<String>,
}

/// Labels.
pub fn run(args: &DistillArgs, screen: &Screen) -> Result<()> {
    check_labels(args)?;
    for file in &args.files {
        ff_structure::FrameReader::open(file).map_err(Failure::input)?;
    }
    let mut teacher = teacher(args, screen)?;
    let mut to = LabelFile::open(&args.labels, teacher.name()).map_err(failed)?;
    if to.torn() > 0 {
        screen.warn(format!("{}: a torn end of {} bytes was cut off", args.labels.display(), to.torn()));
    }
    // What Ctrl-C finds labelled is in the file.
    interrupt::flag();
    let (begin, progress) = (Instant::now(), screen.counter());
    let mut said = Instant::now();
    let mut counts = distill::LabelCounts::default();
    let done = distill::label(&args.files, teacher.as_mut(), &mut to, &mut |now| {
        counts = now;
        let new = now.labelled - now.earlier;
        let rate = new as f64 / begin.elapsed().as_secs_f64().max(1e-9);
        let text = format!("{} structures labelled, {} skipped, {rate:.1}/s", now.labelled, now.skipped);
        progress.step(now.labelled + now.skipped, &text);
        if said.elapsed() >= SAID_EVERY {
            progress.plain(text);
            said = Instant::now();
        }
        !interrupt::raised()
    });
    progress.end();
    let seconds = begin.elapsed().as_secs_f64();
    let failure = match done {
        Err(error) => {
            let mut failure = failed(error);
            failure.message += &format!("; {} labelled frames are in {}", to.labelled(), args.labels.display());
            Some(failure)
        }
        Ok(_) if interrupt::raised() => Some(Failure::interrupted(format!(
            "interrupted; {} labelled frames are in {}, the same command goes on",
            to.labelled(),
            args.labels.display()
        ))),
        Ok(counts) if counts.labelled == 0 => Some(Failure::unmet(format!(
            "no structure was labelled, {} were skipped; see {}",
            counts.skipped,
            to.skipped_path().display()
        ))),
        Ok(_) => None,
    };
    let report = Report {
        teacher: teacher.name().to_owned(),
        labels: args.labels.display().to_string(),
        labelled: to.labelled(),
        earlier: counts.earlier,
        skipped: to.skipped(),
        seconds,
        structures_per_s: (to.labelled() - counts.earlier) as f64 / seconds.max(1e-9),
        stopped: failure.as_ref().map(|failure| failure.message.clone()),
    };
    if args.json {
        screen.json(&report)?;
    } else {
        show(&report, to.skipped_path(), screen)?;
    }
    failure.map_or(Ok(()), Err)
}

fn show(report: &Report, list: &Path, screen: &Screen) -> Result<()> {
    let Report { teacher, labels, labelled, earlier, skipped, seconds, structures_per_s, .. } = report;
    let earlier = if *earlier > 0 { format!(", {earlier} of them before") } else { String::new() };
    screen.line(format!(
        "{labels}: {labelled} structures labelled by {teacher}{earlier}, {seconds:.2} s: {structures_per_s:.1} structures/s"
    ))?;
    if skipped.is_empty() {
        return Ok(());
    }
    screen.line(format!("{} structures skipped, listed in {}", skipped.len(), list.display()))?;
    for Skipped { file, frame, reason } in skipped.iter().take(NAMED) {
        screen.line(format!("  {file}: frame {frame}: {reason}"))?;
    }
    match skipped.len().saturating_sub(NAMED) {
        0 => Ok(()),
        more => screen.line(format!("  and {more} more")),
    }
}

/// The teacher, announced in the first line of output.
fn teacher<'a>(args: &'a DistillArgs, screen: &'a Screen) -> Result<Box<dyn Teacher + 'a>> {
    let is_model = Path::new(&args.teacher).is_file() || !args.teacher.contains(':');
    if !is_model {
        let arguments = args.teacher_arguments();
        let teacher = AseTeacher::start(&args.python, &args.teacher, &arguments, args.timeout)
            .map_err(|error| failed_teacher(&error))?;
        screen.headline(format!(
            "teacher {} ({}) in {}",
            teacher.name(),
            teacher.describes(),
            args.python.display()
        ))?;
        return Ok(Box::new(teacher));
    }
    if let Some((key, _)) = args.teacher_args.first() {
        let message = format!("--teacher-arg {key}: {} is a model, which takes no arguments", args.teacher);
        return Err(Failure::input(message));
    }
    Ok(Box::new(ModelTeacher::open(args, screen)?))
}

/// Refuses names that the labels cannot have.
fn check_labels(args: &DistillArgs) -> Result<()> {
    let path = &args.labels;
    let extension = path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    if !["extxyz", "xyz"].contains(&extension.as_str()) {
        let message = format!("{}: expected the extension extxyz or xyz, found `{extension}`", path.display());
        return Err(Failure::input(message));
    }
    super::verify::writable(path)?;
    let real = |path: &Path| fs::canonicalize(path).ok();
    match args.files.iter().find(|file| real(file).is_some() && real(file) == real(path)) {
        Some(_) => Err(Failure::input(format!("{} is an input: expected another file for the labels", path.display()))),
        None => Ok(()),
    }
}

fn failed(error: DistillError) -> Failure {
    match &error {
        DistillError::Teacher { error: teacher, .. } => {
            Failure { message: error.to_string(), ..failed_teacher(teacher) }
        }
        DistillError::File { .. } => Failure::fault(error),
        DistillError::Structure(_)
        | DistillError::Other { .. }
        | DistillError::Busy(_)
        | DistillError::Frame { .. } => Failure::input(error),
    }
}

fn failed_teacher(error: &TeacherError) -> Failure {
    match error {
        TeacherError::Path(_) | TeacherError::Start { .. } | TeacherError::Make { .. } => Failure::input(error),
        TeacherError::Ended { .. }
        | TeacherError::Late { .. }
        | TeacherError::Answer { .. }
        | TeacherError::Fault { .. } => Failure::fault(error),
    }
}
