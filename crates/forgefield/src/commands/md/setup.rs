//! What `md` and `minimize` begin with: systems of a file, a model as their potential, files to write.

use std::fs;
use std::path::Path;

use ff_md::{MdError, ModelPotential, Potential, PotentialError, SKIN, System};
use ff_model::host::Real;
use ff_model::{HostModel, Model, Prediction, Wanted};
use ff_nn::device::Follow;
use ff_spec::{Dtype, RuntimeKind};
use ff_structure::{FrameReader, Structure};
use serde::Serialize;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::args::RunArgs;
use crate::failure::{Failure, Result};
use crate::models::{PredictError, Untrained, announce, device, load, of_tables};
use crate::screen::Screen;
use crate::workload;

/// A model as what moves atoms, on the host.
///
/// # Errors
/// A file that is no model, a model without kernels.
pub fn potential(args: &RunArgs, screen: &Screen) -> Result<(Model, Box<dyn Potential>)> {
    let model = load(&args.model)?;
    let potential: Box<dyn Potential> = match args.dtype {
        Dtype::F32 => Box::new(ModelPotential::new(packed::<f32>(args, &model, screen)?)),
        Dtype::F64 => Box::new(ModelPotential::new(packed::<f64>(args, &model, screen)?)),
    };
    Ok((model, potential))
}

fn packed<T: Real>(args: &RunArgs, model: &Model, screen: &Screen) -> Result<HostModel<T>> {
    let packed = args.packing.pack(model)?;
    if let Some(error) = packed.table_error() {
        screen.say(of_tables(error));
    }
    Ok(packed)
}

/// What moves atoms where it was asked for, which the first line of output says: `host`, or the same model on a device.
///
/// # Errors
/// As [`announce`] and [`device`].
pub fn placed(args: &RunArgs, model: &Model, host: Box<dyn Potential>, screen: &Screen) -> Result<Box<dyn Potential>> {
    Ok(match announce(args.runtime, screen)?.runtime {
        RuntimeKind::Host => host,
        kind => Box::new(DevicePotential(
            device(kind, model, args.dtype, args.packing)?.moving(SKIN).map_err(Failure::fault)?,
        )),
    })
}

/// A model on a device, with neighbour lists that stay there from step to step.
struct DevicePotential(Box<dyn Follow>);

impl Potential for DevicePotential {
    fn evaluate(
        &mut self,
        structures: &[Structure],
        wanted: Wanted,
        out: &mut Vec<Prediction>,
    ) -> std::result::Result<(), PotentialError> {
        *out = self.0.predict(structures, wanted).map_err(|error| match error.into() {
            PredictError::Structure(error) => PotentialError::System { system: error.index(), reason: error.reason() },
            PredictError::Device(reason) => PotentialError::Fault(reason),
        })?;
        Ok(())
    }

    fn rebuilds(&self) -> u64 {
        self.0.rebuilds()
    }
}

/// The replicas of the file's frames, those of the first frame first.
///
/// # Errors
/// A file that is broken or has no such frame, columns that are not what they are to be.
pub fn systems(args: &RunArgs, model: &Model, screen: &Screen) -> Result<Vec<System>> {
    let mut reader = FrameReader::open(&args.file).map_err(Failure::input)?;
    let (mut systems, mut untrained, mut replica) = (Vec::new(), Untrained::default(), u64::from(args.first_replica));
    let mut frames = 0;
    for frame in &mut reader {
        let frame = frame.map_err(Failure::input)?;
        frames += 1;
        if args.frame.is_some_and(|wanted| wanted as usize != frames) {
            continue;
        }
        untrained.look(model.config(), &args.file, frames, &frame.structure, screen);
        for _ in 0..args.replicas {
            let system = System::from_frame(&frame, replica);
            systems.push(system.map_err(|e| Failure::input(format!("{}: frame {frames}: {e}", args.file.display())))?);
            replica += 1;
        }
        if args.frame.is_some() {
            break;
        }
    }
    workload::warn(reader.warnings(), screen);
    match args.frame {
        Some(wanted) if systems.is_empty() => {
            let message = format!("{}: expected a frame {wanted}, found {frames}", args.file.display());
            Err(Failure::input(message))
        }
        _ => Ok(systems),
    }
}

/// Compares a reduced precision with f32 on the first systems.
///
/// # Errors
/// As [`PackArgs::compare`](crate::models::PackArgs::compare).
pub fn compare(args: &RunArgs, model: &Model, systems: &[System], screen: &Screen) -> Result<()> {
    if !args.packing.precision.is_reduced() {
        return Ok(());
    }
    let structures: Vec<_> = systems.iter().map(|system| system.structure.clone()).collect();
    args.packing.compare(model, &structures, screen).map(drop)
}

/// Refuses names that files cannot have: another ending than extxyz, that of another file of this run.
///
/// # Errors
/// The first of them.
pub fn check_paths(args: &RunArgs, figure: Option<&Path>) -> Result<()> {
    if let Some(path) = &args.output {
        let extension = path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        if !["extxyz", "xyz"].contains(&extension.as_str()) {
            let message = format!("{}: expected the extension extxyz or xyz, found `{extension}`", path.display());
            return Err(Failure::input(message));
        }
    }
    let written = [args.output.as_deref(), args.log.as_deref(), args.restart.as_deref(), figure];
    let mut all = vec![args.file.as_path(), args.model.as_path()];
    for path in written.into_iter().flatten() {
        let real = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        if let Some(other) = all.iter().find(|other| real(other) == real(path)) {
            let (path, other) = (path.display(), other.display());
            return Err(Failure::input(format!("{path} is to be written and is {other} too: expected another file")));
        }
        all.push(path);
    }
    Ok(())
}

/// What has to be the same for a run to go on: settings, and the contents of model and structure file.
///
/// # Errors
/// Files that cannot be read.
pub fn identity(command: &str, settings: &impl Serialize, args: &RunArgs) -> Result<Map<String, Value>> {
    let hash = |path: &Path| -> Result<Value> {
        let bytes = fs::read(path).map_err(|e| Failure::input(format!("cannot read {}: {e}", path.display())))?;
        Ok(Value::String(Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()))
    };
    let mut identity = Map::new();
    identity.insert("command".to_owned(), command.into());
    let settings = serde_json::to_value(settings).map_err(Failure::fault)?;
    identity.extend(settings.as_object().cloned().unwrap_or_default());
    identity.insert("model_sha256".to_owned(), hash(&args.model)?);
    identity.insert("structures_sha256".to_owned(), hash(&args.file)?);
    identity.insert("dtype".to_owned(), args.dtype.to_string().into());
    if let Some(error) = args.packing.tabulate {
        identity.insert("tabulate".to_owned(), error.into());
    }
    if args.packing.precision.is_reduced() {
        identity.insert("precision".to_owned(), args.packing.precision.to_string().into());
    }
    for (key, value) in [
        ("frame", args.frame.map_or(Value::Null, Value::from)),
        ("replicas", args.replicas.into()),
        ("first_replica", args.first_replica.into()),
        ("every", args.every.into()),
        ("log_every", args.log_every.into()),
        ("output", args.output.is_some().into()),
        ("log", args.log.is_some().into()),
    ] {
        identity.insert(key.to_owned(), value);
    }
    Ok(identity)
}

/// An error of a run under its exit code.
pub fn failure(error: MdError, file: &Path) -> Failure {
    match error {
        MdError::Setting { .. } | MdError::Restart { .. } => Failure::input(error),
        MdError::System { .. } => Failure::input(format!("{}: {error}", file.display())),
        MdError::Diverged { .. } => Failure::unmet(error),
        MdError::File { .. } | MdError::Fault { .. } => Failure::fault(error),
    }
}
