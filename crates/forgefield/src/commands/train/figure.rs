//! The figure of a training: errors against epochs.

use std::path::Path;

use ff_report::{Panel, Series};
use serde_json::Value;

use crate::failure::{Failure, Result};

/// Draws what the lines of a log hold.
///
/// # Errors
/// A figure that cannot be written.
pub fn write(path: &Path, title: &str, rows: &[Value]) -> Result<()> {
    // Errors fall by orders of magnitude.
    let of = |key: &str| -> Vec<(f64, f64)> {
        let point = |row: &Value| Some((row["epoch"].as_f64()?, row[key].as_f64().filter(|y| *y > 0.0)?.log10()));
        rows.iter().filter_map(point).collect()
    };
    let panel = |quantity: &str, fitted: &str, watched: &str| Panel {
        quantity: format!("lg {quantity}"),
        series: [("fitted", fitted), ("watched", watched)]
            .map(|(label, key)| Series { label: label.to_owned(), points: of(key) })
            .into_iter()
            .filter(|series| !series.points.is_empty())
            .collect(),
    };
    let panels = [
        panel("rms of energies (meV/atom)", "train_energy_rmse_mev_per_atom", "energy_rmse_mev_per_atom"),
        panel("rms of forces (meV/Å)", "train_force_rmse_mev_per_a", "force_rmse_mev_per_a"),
    ];
    let panels: Vec<Panel> = panels.into_iter().filter(|panel| !panel.series.is_empty()).collect();
    let svg = ff_report::series(title, "epoch", &panels).map_err(Failure::fault)?;
    std::fs::write(path, svg).map_err(|e| Failure::fault(format!("cannot write {}: {e}", path.display())))
}
