//! `distill`: structures labelled by a teacher.

pub mod args;
mod model;
mod rounds;
mod student;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ff_train::{AseTeacher, DistillError, LabelFile, Skipped, Teacher, TeacherError, TrainConfig, distill};
use serde::Serialize;

use self::args::DistillArgs;
use self::model::ModelTeacher;
use self::rounds::{Round, Rounds};
use self::student::Trained;
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
    rounds: &'a [Round],
    student: Option<&'a Trained>,
    stopped: Option<String>,
}

/// What labelling left.
#[derive(Default)]
struct Labelled {
    labelled: u64,
    /// Of these, those of earlier runs.
    earlier: u64,
    skipped: Vec<Skipped>,
    /// The list of these.
    list: PathBuf,
    /// Time of the teacher in this run.
    seconds: f64,
}

/// Labels, and trains the student.
pub fn run(args: &DistillArgs, screen: &Screen) -> Result<()> {
    check_paths(args)?;
    for file in &args.files {
        ff_structure::FrameReader::open(file).map_err(Failure::input)?;
    }
    let config = args.student.as_deref().map(|path| student::config(path, &args.labels, &args.teacher)).transpose()?;
    let mut teacher = teacher(args, screen)?;
    // What Ctrl-C finds done is kept.
    interrupt::flag();
    let mut labelled = Labelled::default();
    let config_of_rounds = config.as_ref().filter(|_| args.rounds.rounds > 0);
    let mut rounds = config_of_rounds.map(|config| Rounds::open(args, config, screen)).transpose()?;
    let done = work(args, config.as_ref(), teacher.as_mut(), rounds.as_mut(), &mut labelled, screen);
    let (student, failure) = match done {
        Ok(student) => (student, None),
        Err(failure) => (None, Some(failure)),
    };
    let Labelled { labelled, earlier, ref skipped, ref list, seconds } = labelled;
    let report = Report {
        teacher: teacher.name().to_owned(),
        labels: args.labels.display().to_string(),
        labelled,
        earlier,
        skipped,
        seconds,
        structures_per_s: (labelled - earlier) as f64 / seconds.max(1e-9),
        rounds: rounds.as_ref().map_or(&[], |rounds| &rounds.done),
        student: student.as_ref(),
        stopped: failure.as_ref().map(|failure| failure.message.clone()),
    };
    if args.json {
        screen.json(&report)?;
    } else {
        show(&report, list, screen)?;
    }
    failure.map_or(Ok(()), Err)
}

/// All of it: labels, rounds of more of them, the student.
fn work(
    args: &DistillArgs,
    config: Option<&TrainConfig>,
    teacher: &mut dyn Teacher,
    mut rounds: Option<&mut Rounds<'_>>,
    labelled: &mut Labelled,
    screen: &Screen,
) -> Result<Option<Trained>> {
    let mut files = args.files.clone();
    if let Some(rounds) = &mut rounds {
        files.extend(rounds.done.iter().filter_map(|round| round.file.clone()));
    }
    label(args, &files, teacher, labelled, screen)?;
    let Some(config) = config else { return Ok(None) };
    if let Some(rounds) = rounds {
        while rounds.done.len() < args.rounds.rounds as usize && rounds.done.last().is_none_or(|round| round.drawn > 0)
        {
            rounds.next(labelled.labelled)?;
            files.extend(rounds.done.last().and_then(|round| round.file.clone()));
            label(args, &files, teacher, labelled, screen)?;
        }
    }
    let output = args.output.as_deref().ok_or_else(|| Failure::input("--student: expected --output too"))?;
    student::train(config, output, screen).map(Some)
}

/// Labels what is not labelled yet.
fn label(
    args: &DistillArgs,
    files: &[PathBuf],
    teacher: &mut dyn Teacher,
    labelled: &mut Labelled,
    screen: &Screen,
) -> Result<()> {
    let mut to = LabelFile::open(&args.labels, teacher.name()).map_err(failed)?;
    if to.torn() > 0 {
        screen.warn(format!("{}: a torn end of {} bytes was cut off", args.labels.display(), to.torn()));
    }
    let (begin, progress) = (Instant::now(), screen.counter());
    let mut said = Instant::now();
    let done = distill::label(files, teacher, &mut to, &mut |now| {
        let rate = (now.labelled - now.earlier) as f64 / begin.elapsed().as_secs_f64().max(1e-9);
        let text = format!("{} structures labelled, {} skipped, {rate:.1}/s", now.labelled, now.skipped);
        progress.step(now.labelled + now.skipped, &text);
        if said.elapsed() >= SAID_EVERY {
            progress.plain(text);
            said = Instant::now();
        }
        !interrupt::raised()
    });
    progress.end();
    // Frames that an earlier call of this run labelled are not those of an earlier run.
    let before = labelled.labelled - labelled.earlier;
    *labelled = Labelled {
        labelled: to.labelled(),
        earlier: to.found().saturating_sub(before),
        skipped: to.skipped().to_vec(),
        list: to.skipped_path().to_owned(),
        seconds: labelled.seconds + begin.elapsed().as_secs_f64(),
    };
    let (number, path) = (to.labelled(), args.labels.display());
    match done {
        Err(error) => {
            let mut failure = failed(error);
            failure.message += &format!("; {number} labelled frames are in {path}");
            Err(failure)
        }
        Ok(_) if interrupt::raised() => Err(Failure::interrupted(format!(
            "interrupted; {number} labelled frames are in {path}, the same command goes on"
        ))),
        Ok(counts) if counts.labelled == 0 => Err(Failure::unmet(format!(
            "no structure was labelled, {} were skipped; see {}",
            counts.skipped,
            to.skipped_path().display()
        ))),
        Ok(_) => Ok(()),
    }
}

fn show(report: &Report, list: &Path, screen: &Screen) -> Result<()> {
    let Report { teacher, labels, labelled, earlier, skipped, seconds, structures_per_s, .. } = report;
    let earlier = if *earlier > 0 { format!(", {earlier} of them before") } else { String::new() };
    screen.line(format!(
        "{labels}: {labelled} structures labelled by {teacher}{earlier}, {seconds:.2} s: {structures_per_s:.1} structures/s"
    ))?;
    if !skipped.is_empty() {
        screen.line(format!("{} structures skipped, listed in {}", skipped.len(), list.display()))?;
    }
    for Skipped { file, frame, reason } in skipped.iter().take(NAMED) {
        screen.line(format!("  {file}: frame {frame}: {reason}"))?;
    }
    if skipped.len() > NAMED {
        screen.line(format!("  and {} more", skipped.len() - NAMED))?;
    }
    report.student.map_or(Ok(()), |student| screen.line(student.said()))
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

/// Refuses names that the files cannot have.
fn check_paths(args: &DistillArgs) -> Result<()> {
    let expected = |path: &Path, endings: &[&str]| -> Result<()> {
        let found = path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        if endings.contains(&found.as_str()) {
            return super::verify::writable(path);
        }
        let endings = endings.join(" or ");
        Err(Failure::input(format!("{}: expected the extension {endings}, found `{found}`", path.display())))
    };
    expected(&args.labels, &["extxyz", "xyz"])?;
    args.output.as_deref().map_or(Ok(()), |path| expected(path, &["safetensors"]))?;
    let real = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let teacher = PathBuf::from(&args.teacher);
    let read: Vec<&PathBuf> = args.files.iter().chain(&args.student).chain([&teacher]).collect();
    for path in [Some(&args.labels), args.output.as_ref()].into_iter().flatten() {
        if read.iter().any(|other| real(other) == real(path)) {
            return Err(Failure::input(format!("{} is an input: expected another file to write", path.display())));
        }
    }
    Ok(())
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
