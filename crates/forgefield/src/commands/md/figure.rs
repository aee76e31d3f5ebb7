//! The figure of a run: energies and temperature against time.

use std::path::Path;

use ff_md::Row;
use ff_report::{Panel, Series};

use crate::failure::{Failure, Result};

/// What is drawn of a line of the log.
struct Point {
    replica: u64,
    time_ps: f64,
    potential: f64,
    conserved: f64,
    temperature: f64,
}

/// Draws what the log holds, which goes back beyond a restart, or else the rows of this process.
///
/// # Errors
/// A log that cannot be read, a figure that cannot be written.
pub fn write(path: &Path, title: &str, log: Option<&Path>, rows: Vec<Row>) -> Result<()> {
    let points = match log {
        Some(log) => read(log)?,
        None => rows
            .iter()
            .map(|row| Point {
                replica: row.replica,
                time_ps: 1e-3 * row.time_fs,
                potential: row.values.potential,
                conserved: row.values.conserved,
                temperature: row.values.temperature,
            })
            .collect(),
    };
    let mut replicas: Vec<u64> = points.iter().map(|point| point.replica).collect();
    replicas.sort_unstable();
    replicas.dedup();
    let several = replicas.len() > 1;
    let of = |replica: u64, value: &dyn Fn(&Point) -> f64| -> Vec<(f64, f64)> {
        points.iter().filter(|point| point.replica == replica).map(|point| (point.time_ps, value(point))).collect()
    };
    let mut energies = Vec::new();
    let mut temperatures = Vec::new();
    for replica in replicas {
        let first = points.iter().find(|point| point.replica == replica).map_or(0.0, |point| point.potential);
        let label = |what: &str| if several { format!("{what}, {replica}") } else { what.to_owned() };
        energies.push(Series { label: label("potential"), points: of(replica, &|p| p.potential - first) });
        if !several {
            let total = of(replica, &|p| p.conserved - first);
            energies.push(Series { label: label("conserved"), points: total });
        }
        temperatures.push(Series { label: label("temperature"), points: of(replica, &|p| p.temperature) });
    }
    let panels = [
        Panel { quantity: "energy less the first potential energy (eV)".to_owned(), series: energies },
        Panel { quantity: "temperature (K)".to_owned(), series: temperatures },
    ];
    let svg = ff_report::series(title, "time (ps)", &panels).map_err(Failure::fault)?;
    std::fs::write(path, svg).map_err(|e| Failure::fault(format!("cannot write {}: {e}", path.display())))
}

/// The points of a log, which has the columns of [`Row::HEADER`].
fn read(log: &Path) -> Result<Vec<Point>> {
    let text = std::fs::read_to_string(log)
        .map_err(|e| Failure::fault(format!("cannot read {} to draw it: {e}", log.display())))?;
    let column = |name: &str| Row::HEADER.split(',').position(|column| column == name).unwrap_or(usize::MAX);
    let columns = ["replica", "time_fs", "potential_ev", "conserved_ev", "temperature_k"].map(column);
    let point = |line: &str| {
        let fields: Vec<&str> = line.split(',').collect();
        let number = |column: usize| fields.get(column)?.parse::<f64>().ok();
        let [replica, time, potential, conserved, temperature] = columns;
        Some(Point {
            replica: fields.get(replica)?.parse().ok()?,
            time_ps: 1e-3 * number(time)?,
            potential: number(potential)?,
            conserved: number(conserved)?,
            temperature: number(temperature)?,
        })
    };
    Ok(text.lines().skip(1).filter_map(point).collect())
}
