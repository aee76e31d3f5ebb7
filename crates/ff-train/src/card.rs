//! What a model's file says of its training.

use std::path::Path;

use ff_model::file::StoredDtype;
use ff_model::{Model, ModelFile};

use crate::config::TrainConfig;
use crate::errors::Errors;
use crate::labels::symbols;
use crate::run::Training;
use crate::split::Split;

/// The file of a model, with source, licence and card. `watched` and `tested` are its errors.
pub fn file(training: &Training, split: &Split, model: &Model, watched: &Errors, tested: Option<&Errors>) -> ModelFile {
    let mut file = model.weights().to_file(model.config(), StoredDtype::F32);
    let config = training.config();
    let names = |paths: &[std::path::PathBuf]| {
        let name = |path: &std::path::PathBuf| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        paths.iter().map(name).collect::<Vec<_>>().join(", ")
    };
    let version = env!("CARGO_PKG_VERSION");
    let trained = format!("Trained by forgefield {version} on {}.", names(&config.data.train));
    file.set(
        "source",
        match &config.data.source {
            None => trained,
            Some(source) => format!("{trained} {source}"),
        },
    );
    if let Some(license) = &config.data.license {
        file.set("license", license.as_str());
    }
    file.set("card", card(training, config, split, model, watched, tested));
    file
}

fn card(
    training: &Training,
    config: &TrainConfig,
    split: &Split,
    model: &Model,
    watched: &Errors,
    tested: Option<&Errors>,
) -> String {
    let TrainConfig { loss, optimizer, schedule, run, data, .. } = config;
    let progress = &training.state().progress;
    let batch = match run.batch_atoms {
        None => format!("{} frames", run.batch),
        Some(atoms) => format!("up to {atoms} atoms"),
    };
    let offsets = match data.isolated_atoms.as_deref().and_then(Path::file_name) {
        None => "energies of atoms fitted to the frames".to_owned(),
        Some(name) => format!("energies of isolated atoms from {}, and a mean per atom", name.to_string_lossy()),
    };
    let mut lines = vec![
        format!("{}, {} parameters.", model.config().summary(), training.n_weights()),
        format!("Elements: {}.", symbols(model.config().elements.iter().copied())),
        format!(
            "Fitted to {} frames, {} watched (seed {}); offsets: {offsets}.",
            split.train.len(),
            split.validation.len(),
            run.seed
        ),
        format!(
            "Loss: {} × energies per atom (eV²) + {} × forces (eV²/Å²) + {} × stress (eV²/Å⁶), mean squared errors.",
            loss.energy, loss.forces, loss.stress
        ),
        format!(
            "AdamW, rate {} ({:?}), batches of {batch}, average of weights {}; {} steps in {} epochs, best after {}.",
            optimizer.rate, schedule.kind, optimizer.ema, progress.step, progress.epoch, progress.best_epoch
        ),
        format!("On the watched frames: {}.", said(watched)),
    ];
    lines.extend(tested.map(|errors| format!("On {} test frames: {}.", errors.frames, said(errors))));
    lines.join("\n")
}

/// Errors in a line.
pub fn said(errors: &Errors) -> String {
    let pair = |what: &str, mae: Option<f64>, rmse: Option<f64>, unit: &str| {
        Some(format!("{what} {:.2} {unit} (rms {:.2})", mae?, rmse?))
    };
    let parts = [
        pair("energy", errors.energy_mae_mev_per_atom, errors.energy_rmse_mev_per_atom, "meV/atom"),
        pair("forces", errors.force_mae_mev_per_a, errors.force_rmse_mev_per_a, "meV/Å"),
        pair("stress", errors.stress_mae_gpa, errors.stress_rmse_gpa, "GPa"),
    ];
    let all: Vec<String> = parts.into_iter().flatten().collect();
    if all.is_empty() { "nothing to compare".to_owned() } else { all.join(", ") }
}
