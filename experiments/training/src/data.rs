//! Frames of disordered silicon with the teacher's energies and forces, and batches of them.

use anyhow::Result;
use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor, TensorData};
use ff_ops::fused_message::Graph;
use ff_spec::cell_list::NeighborList;
use ff_structure::{Structure, neighbors, problems::silicon};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::teacher::energy_and_forces;

/// A crystal that was strained and shaken.
pub struct Frame {
    structure: Structure,
    list: NeighborList<f64>,
    /// eV.
    pub energy: f64,
    forces: Vec<[f64; 3]>,
}

/// `n` frames of 64 atoms: strains of up to 3 % in every component, displacements of up to 0.3 Å along each axis.
pub fn frames(n: usize, cutoff: f64, seed: u64) -> Result<Vec<Frame>> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..n)
        .map(|_| {
            let mut structure = silicon(2);
            let strain: [[f64; 3]; 3] = std::array::from_fn(|_| std::array::from_fn(|_| rng.random_range(-0.03..0.03)));
            let strained = |r: [f64; 3]| -> [f64; 3] {
                std::array::from_fn(|b| r[b] + (0..3).map(|a| r[a] * strain[a][b]).sum::<f64>())
            };
            structure.cell = structure.cell.map(|cell| cell.map(strained));
            let amplitude = rng.random_range(0.05..0.3);
            for x in &mut structure.positions {
                *x = strained(*x).map(|x| x + rng.random_range(-amplitude..amplitude));
            }
            let list = neighbors(&structure.positions, structure.cell, structure.pbc, cutoff)?;
            let (energy, forces) = energy_and_forces(&list);
            Ok(Frame { structure, list, energy, forces })
        })
        .collect()
}

/// Frames as one graph.
#[derive(Clone, Debug)]
pub struct Batch<B: Backend> {
    /// Frames.
    pub n_frames: usize,
    /// Their neighbour list, with S·H in the place of edge vectors.
    pub graph: Graph<B>,
    /// [n_edges].
    pub receiver: Tensor<B, 1, Int>,
    /// [n_atoms, 3], Å.
    pub positions: Tensor<B, 2>,
    /// [n_frames], eV per atom above the mean of the training frames.
    pub energies: Tensor<B, 1>,
    /// [n_atoms, 3], eV/Å.
    pub forces: Tensor<B, 2>,
}

impl<B: Backend> Batch<B> {
    /// Of frames with the same number of atoms; `mean` is the energy per atom that is subtracted.
    ///
    /// # Errors
    /// None for lists that ff-structure made.
    pub fn new(frames: &[&Frame], mean: f64) -> Result<Self> {
        let device = Default::default();
        let (mut row_ptr, mut sender, mut receiver) = (vec![0i32], Vec::new(), Vec::new());
        let (mut offset, mut positions, mut forces, mut energies) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for Frame { structure, list, energy, forces: of_frame } in frames {
            let first = (row_ptr.len() - 1) as i32;
            let first_edge = sender.len() as i32;
            for (atom, row) in list.row_ptr.windows(2).enumerate() {
                row_ptr.push(first_edge + row[1] as i32);
                receiver.extend((row[0]..row[1]).map(|_| first + atom as i32));
            }
            sender.extend(list.sender.iter().map(|j| first + *j as i32));
            let cell = structure.cell.unwrap_or_default();
            for shift in &list.shift {
                offset.extend((0..3).map(|b| (0..3).map(|a| f64::from(shift[a]) * cell[a][b]).sum::<f64>() as f32));
            }
            positions.extend(structure.positions.iter().flatten().map(|x| *x as f32));
            forces.extend(of_frame.iter().flatten().map(|x| *x as f32));
            energies.push((energy / structure.n_atoms() as f64 - mean) as f32);
        }
        let floats = |values: Vec<f32>| {
            let rows = values.len() / 3;
            Tensor::<B, 2>::from_data(TensorData::new(values, [rows, 3]), &device)
        };
        let indices = |values: Vec<i32>| {
            let n = values.len();
            Tensor::<B, 1, Int>::from_data(TensorData::new(values, [n]), &device)
        };
        Ok(Self {
            n_frames: frames.len(),
            graph: Graph::new(indices(row_ptr), indices(sender), floats(offset))?,
            receiver: indices(receiver),
            positions: floats(positions),
            energies: Tensor::from_data(TensorData::new(energies, [frames.len()]), &device),
            forces: floats(forces),
        })
    }
}
