//! The command `neighbors`: the pairs within a cutoff, of every frame of a file.

use ff_spec::cell_list::{Inputs, List, NeighborList, OP, Variant};
use ff_spec::{CellList, Dtype, LaunchConfig, Prepare, Problem};
use ff_structure::{Frames, batch, read_frames};
use ff_tables::cell_list::{ListQuery, select_list};
use ff_tables::{Loaded, Selection, load_all};
use serde::Serialize;

use crate::commands::neighbors::args::{ListFormat, NeighborsArgs};
use crate::failure::{Failure, Result};
use crate::screen::Screen;
use crate::{interrupt, provenance, runtimes, workload};

/// The pairs of one frame.
#[derive(Serialize)]
struct Pairs {
    n_atoms: usize,
    n_pairs: usize,
    /// (i, j, S) with r_ij = x_j + S·H − x_i, in ascending order.
    pairs: Vec<(u32, u32, i32, i32, i32)>,
}

/// Prints the pairs of every frame of a file.
pub fn run(args: &NeighborsArgs, screen: &Screen) -> Result<()> {
    let Frames { structures, warnings } = read_frames(&args.file).map_err(Failure::input)?;
    workload::warn(&warnings, screen);
    let runtime = match (args.format, args.runtime.kind()) {
        (ListFormat::Text, _) => runtimes::open(args.runtime, screen)?,
        // Nothing but JSON on stdout.
        (ListFormat::Json, Some(kind)) => runtimes::of(kind).map_err(runtimes::unavailable)?,
        (ListFormat::Json, None) => runtimes::fastest()?,
    };
    let runtime: &dyn Prepare<CellList> = runtime.as_ref();
    let list = if args.half { List::Half } else { List::Full };
    let tables = load_all(&args.tables, OP);
    for error in &tables.errors {
        screen.warn(format!("warning: {error}"));
    }
    for (index, structure) in structures.iter().enumerate() {
        if interrupt::raised() {
            return Err(Failure::interrupted(format!("interrupted after {index} of {} frames", structures.len())));
        }
        let of_frame = |error: &dyn std::fmt::Display| {
            Failure::input(format!("{}: frame {}: {error}", args.file.display(), index + 1))
        };
        let inputs = batch(std::slice::from_ref(structure), args.cutoff).map_err(|error| of_frame(&error))?;
        inputs.check().map_err(|error| of_frame(&error))?;
        let problem = inputs.estimate("");
        let (variant, _, config) = choose(runtime, &tables, list, Dtype::F64, &inputs, &problem);
        let list = runtime
            .prepare(&variant, Dtype::F64, &inputs, &config)
            .and_then(|mut launch| {
                launch.run()?;
                launch.outputs()
            })
            .map_err(|error| match error {
                error if error.is_input() => of_frame(&error),
                error => error.into(),
            })?;
        let pairs = pairs(&list);
        let (n_atoms, n_pairs) = (structure.n_atoms(), pairs.len());
        match args.format {
            ListFormat::Json => {
                let line = serde_json::to_string(&Pairs { n_atoms, n_pairs, pairs }).map_err(Failure::fault)?;
                screen.line(line)?;
            }
            ListFormat::Text => {
                let mean = n_pairs as f64 / n_atoms.max(1) as f64;
                screen.line(format!("frame {}: {n_atoms} atoms, {n_pairs} pairs, {mean:.2} per atom", index + 1))?;
            }
        }
    }
    Ok(())
}

/// The strategy and the configuration for a list from the tables, or the default ones, with how they were found.
pub fn choose(
    runtime: &dyn Prepare<CellList>,
    tables: &Loaded,
    list: List,
    dtype: Dtype,
    inputs: &Inputs<f64>,
    problem: &Problem,
) -> (Variant, Selection, LaunchConfig) {
    let template_hash = provenance::template_hash(OP);
    let query = ListQuery { device: runtime.device(), template_hash, list, dtype, problem };
    let feasible = |variant: &Variant, config: &LaunchConfig| runtime.prepare(variant, dtype, inputs, config).is_ok();
    let (variant, selection) = select_list(tables.iter(), query, feasible);
    let config = selection.config.clone().unwrap_or_else(|| runtime.default_config(&variant, dtype, problem));
    (variant, selection, config)
}

fn pairs(list: &NeighborList<f64>) -> Vec<(u32, u32, i32, i32, i32)> {
    let rows = (0..list.n_atoms()).flat_map(|i| list.row(i).map(move |edge| (i as u32, edge)));
    rows.map(|(i, edge)| (i, list.sender[edge], list.shift[edge])).map(|(i, j, [a, b, c])| (i, j, a, b, c)).collect()
}
