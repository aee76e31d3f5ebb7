use ff_model::{NeighborList, neighbors, read_structures};
use serde::Serialize;

use crate::failure::{Failure, Result};
use crate::interrupt;
use crate::options::{ListFormat, NeighborsArgs};
use crate::screen::Screen;

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
    let structures = read_structures(&args.file).map_err(Failure::input)?;
    for (index, structure) in structures.iter().enumerate() {
        if interrupt::raised() {
            return Err(Failure::interrupted(format!("interrupted after {index} of {} frames", structures.len())));
        }
        let list = neighbors(&structure.positions, structure.cell, structure.pbc, args.cutoff)
            .map_err(|error| Failure::input(format!("{}: frame {}: {error}", args.file.display(), index + 1)))?;
        let pairs = pairs(&list, args.half);
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

/// All pairs, or of each pair and its reverse the one with i < j, or, for an atom's own images, with S after −S.
fn pairs(list: &NeighborList, half: bool) -> Vec<(u32, u32, i32, i32, i32)> {
    let mut pairs = Vec::with_capacity(if half { list.n_edges() / 2 } else { list.n_edges() });
    for i in 0..list.row_ptr.len() - 1 {
        for edge in list.row(i) {
            let (i, j, shift) = (i as u32, list.sender[edge], list.shift[edge]);
            if !half || i < j || (i == j && shift > [0; 3]) {
                pairs.push((i, j, shift[0], shift[1], shift[2]));
            }
        }
    }
    pairs
}
