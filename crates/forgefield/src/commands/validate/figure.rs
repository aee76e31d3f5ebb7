//! The figure of a comparison: predictions over their reference.

use std::path::Path;

use ff_report::Parity;
use ff_train::Validation;
use ff_train::errors::Errors;
use ff_train::validate::Reservoir;

use crate::failure::{Failure, Result};

/// Draws what was compared, of long files a sample.
///
/// # Errors
/// A figure that cannot be written.
pub fn write(path: &Path, title: &str, validation: &Validation, errors: &Errors) -> Result<()> {
    let panel = |quantity: &str, unit: &str, values: &Reservoir<(f64, f64)>, mae: Option<f64>, rmse: Option<f64>| {
        let (mae, rmse) = (mae?, rmse?);
        let (shown, seen) = (values.items().len(), values.seen());
        let of = if shown as u64 == seen { String::new() } else { format!(" ({shown} of {seen} drawn)") };
        let note = format!("MAE {mae:.3}, RMSE {rmse:.3} {unit}{of}");
        Some(Parity { quantity: quantity.to_owned(), note, points: values.items().to_vec() })
    };
    let panels: Vec<Parity> = [
        panel(
            "energy (eV/atom)",
            "meV/atom",
            &validation.energies,
            errors.energy_mae_mev_per_atom,
            errors.energy_rmse_mev_per_atom,
        ),
        panel(
            "force component (eV/Å)",
            "meV/Å",
            &validation.forces,
            errors.force_mae_mev_per_a,
            errors.force_rmse_mev_per_a,
        ),
        panel("stress component (GPa)", "GPa", &validation.stresses, errors.stress_mae_gpa, errors.stress_rmse_gpa),
    ]
    .into_iter()
    .flatten()
    .collect();
    let svg = ff_report::parity(title, &panels).map_err(Failure::fault)?;
    ff_tables::fs::replace(path, svg.as_bytes())
        .map_err(|e| Failure::fault(format!("cannot write {}: {e}", path.display())))
}
