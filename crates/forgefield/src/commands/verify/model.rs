//! `verify --model`: a model against labels, and against what holds of every energy.

use std::path::{Path, PathBuf};
use std::time::Instant;

use ff_model::Wanted;
use ff_model::check::{Check, Checker};
use ff_nn::device::computes_in;
use ff_spec::{Dtype, RuntimeKind};
use ff_structure::{FrameReader, Structure};
use ff_testkit::gate::{GateRow, GateSummary};

use super::args::VerifyArgs;
use super::{distinct, junit, show, writable, write};
use crate::failure::{Failure, Result};
use crate::models::{AnyModel, PackArgs, PredictError, announce, load};
use crate::options::RuntimeChoice;
use crate::screen::{Screen, pretty};
use crate::{interrupt, workload};

/// What stands in the place of an op in results.
const OP: &str = "model";

/// Checks a model on every frame of a file.
pub fn run(path: &Path, args: &VerifyArgs, screen: &Screen) -> Result<()> {
    let frames = match &args.against {
        Some(frames) => frames.clone(),
        None => beside(path)?,
    };
    let dtypes = if args.dtype.is_empty() { Dtype::ALL.to_vec() } else { distinct(&args.dtype) };
    let to_stdout = args.json.as_deref().is_some_and(|path| path.as_os_str() == "-");
    let json_file = args.json.as_deref().filter(|_| !to_stdout);
    for path in [json_file, args.junit.as_deref()].into_iter().flatten() {
        writable(path)?;
    }
    let model = load(path)?;
    let checker = Checker::new(&model).map_err(Failure::input)?;
    let mut reader = FrameReader::open(&frames).map_err(Failure::input)?;
    let choices = if args.runtime.is_empty() { vec![RuntimeChoice::Host] } else { args.runtime.clone() };
    let mut models = Vec::new();
    for choice in choices {
        let device = announce(choice, screen)?;
        for dtype in &dtypes {
            if args.dtype.is_empty() && !computes_in(&device, *dtype) {
                screen.say(format!("{} does not compute models in {dtype}: not checked", device.name));
            } else {
                let host = AnyModel::new(&model, *dtype, PackArgs::EXACT)?;
                models.push((device.runtime, *dtype, host.on(device.runtime, &model, *dtype)?));
            }
        }
    }
    screen.headline(format!("{}: {}", path.display(), model.config().summary()))?;
    interrupt::flag();
    let begin = Instant::now();
    let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let progress = screen.counter();
    let mut summary = GateSummary::default();
    for (number, frame) in (1..).zip(reader.by_ref()) {
        if interrupt::raised() {
            break;
        }
        let frame = frame.map_err(Failure::input)?;
        let labels = frame.labels().map_err(Failure::input)?;
        progress.step(number, format!("frame {number}"));
        for (runtime, dtype, model) in &models {
            let checks = match model {
                AnyModel::Single(_) | AnyModel::Double(_) => {
                    checker.frame(&frame.structure, &labels, *dtype, number).map_err(PredictError::from)
                }
                AnyModel::Device(device) => {
                    let model = |structures: &[Structure], wanted: Wanted| {
                        device.predict(structures, wanted).map_err(PredictError::from)
                    };
                    checker.device_frame(&model, &frame.structure, &labels, *dtype, number)
                }
            };
            for check in checks.map_err(|e| e.of_frames(&frames, number as usize))? {
                add(&mut summary, row(&name, *runtime, number, &frame.structure.name, &check));
            }
        }
    }
    progress.end();
    workload::warn(reader.warnings(), screen);
    let seconds = begin.elapsed().as_secs_f64();
    if let Some(path) = &args.junit {
        write(path, &junit::xml(&summary)?)?;
    }
    if let Some(path) = json_file {
        write(path, &(pretty(&summary)? + "\n"))?;
    }
    if to_stdout {
        screen.json(&summary)?;
    } else {
        show(&summary, &[], seconds, screen)?;
    }
    match summary.failure() {
        _ if interrupt::raised() => Err(Failure::interrupted("interrupted: the frames after that were not checked")),
        Some(reason) => Err(Failure::unmet(format!("the gate is not passed: {reason}"))),
        None => Ok(()),
    }
}

/// The frames that stand beside a model's file.
fn beside(path: &Path) -> Result<PathBuf> {
    let frames = path.with_extension("extxyz");
    if frames.is_file() {
        return Ok(frames);
    }
    Err(Failure::input(format!(
        "{} is not there: expected frames beside the model, or --against FILE",
        frames.display()
    )))
}

fn add(summary: &mut GateSummary, row: GateRow) {
    *if row.verdict == "passed" { &mut summary.passed } else { &mut summary.failed } += 1;
    summary.cases.push(row);
}

fn row(model: &str, runtime: RuntimeKind, frame: u64, name: &str, check: &Check) -> GateRow {
    let Check { property, dtype, error, tolerance } = check;
    let case = format!("{}, frame {frame} `{name}`", property.name());
    let holds = check.holds();
    // JSON has no infinity: what is missing altogether has no number.
    let number = Some(*error).filter(|error| error.is_finite());
    let relative = property.is_relative();
    GateRow {
        op: OP.to_owned(),
        variant: model.to_owned(),
        runtime,
        dtype: *dtype,
        order: 0,
        case,
        seed: frame,
        verdict: if holds { "passed" } else { "failed" }.to_owned(),
        reason: (!holds).then(|| {
            let (name, unit) = (property.name(), property.unit());
            format!("{name} {unit} is off by {error:.2e}, expected at most {tolerance:.1e}")
        }),
        rel_error: number.filter(|_| relative),
        max_abs_error: number.filter(|_| !relative),
    }
}
