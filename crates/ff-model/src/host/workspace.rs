//! The memory of one evaluation. It grows to the largest group it has seen, and then stays.

use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ff_kernels::host::Aligned;
use ff_structure::Structure;
use rayon::prelude::*;

use super::blocks::ROWS;
use super::neighbors::Lists;
use super::system::System;
use super::{HostModel, Layer, Real};
use crate::error::ModelError;

/// Elements from which on a sum of two tensors is worth a second thread.
const PARALLEL: usize = 1 << 16;

/// What layers keep for their backwards; layer after layer, rows of atoms.
pub(super) struct Kept<T> {
    /// Pre-activations before the message, [layers, rows, F] (PaiNN).
    pub hidden: Aligned<T>,
    /// What messages are made of: s [layers, rows, 3F] or y [layers, rows, filters].
    pub nodes: Aligned<T>,
    /// V and U, [layers, rows, 3, 2F] (PaiNN).
    pub mixed: Aligned<T>,
    /// √(Σ V² + ε), [layers, rows, F] (PaiNN).
    pub norm: Aligned<T>,
    /// Pre-activations after the message, [layers, rows, F].
    pub hidden_update: Aligned<T>,
    /// (a_q, a_μ, a_qμ), [layers, rows, 3F]; of the last, without a_μ (PaiNN).
    pub a: Aligned<T>,
}

/// Memory of one thread while it works on a block.
pub(super) struct Scratch<T> {
    pub a: Aligned<T>,
    pub b: Aligned<T>,
    pub c: Aligned<T>,
}

pub(super) struct Workspace<T: Real> {
    /// Threads that work on it.
    pub threads: usize,
    /// Rows of all tensors: the atoms, up to a whole block.
    pub rows: usize,
    pub systems: Vec<System<T>>,
    /// Where the atoms of each system are.
    pub atoms: Vec<Range<usize>>,
    pub species: Vec<u8>,
    /// Scalar features, [rows, F].
    pub q: Aligned<T>,
    /// Vector features after every layer, [layers, rows, 3, F] (PaiNN).
    pub mu: Aligned<T>,
    /// Those before the first: zeros, [rows, 3, F] (PaiNN).
    pub no_mu: Aligned<T>,
    pub kept: Kept<T>,
    /// Messages summed at their receivers, [rows, filters] (SchNet).
    pub messages: Aligned<T>,
    /// Pre-activations of the head's layers one after the other, each [rows, outputs].
    pub head: Aligned<T>,
    /// Where in `head` the energies begin.
    pub energies: usize,
    pub of_q: Aligned<T>,
    pub of_mu: Aligned<T>,
    /// Gradients in what messages were made of, or in their sums.
    pub of_nodes: Aligned<T>,
    /// Of each thread of the pool, and of a caller outside of it.
    pub scratch: Vec<Mutex<Scratch<T>>>,
}

impl<T: Real> Default for Workspace<T> {
    fn default() -> Self {
        let none = || Aligned::zeros(0);
        Self {
            threads: 1,
            rows: 0,
            systems: Vec::new(),
            atoms: Vec::new(),
            species: Vec::new(),
            q: none(),
            mu: none(),
            no_mu: none(),
            kept: Kept { hidden: none(), nodes: none(), mixed: none(), norm: none(), hidden_update: none(), a: none() },
            messages: none(),
            head: none(),
            energies: 0,
            of_q: none(),
            of_mu: none(),
            of_nodes: none(),
            scratch: Vec::new(),
        }
    }
}

/// Makes room for `len` elements; what there was is kept or zero.
pub(super) fn room<T: Real>(buffer: &mut Aligned<T>, len: usize) {
    if buffer.len() < len {
        *buffer = Aligned::zeros(len);
    }
}

/// a += b, in parallel where it is long.
pub(super) fn add<T: Real>(a: &mut [T], b: &[T]) {
    match a.len() {
        0..PARALLEL => T::accumulate(a, b),
        _ => a.par_chunks_mut(PARALLEL / 2).zip(b.par_chunks(PARALLEL / 2)).for_each(|(a, b)| T::accumulate(a, b)),
    }
}

/// a = b, in parallel where it is long.
pub(super) fn copy<T: Real>(a: &mut [T], b: &[T]) {
    match a.len() {
        0..PARALLEL => a.copy_from_slice(b),
        _ => a.par_chunks_mut(PARALLEL / 2).zip(b.par_chunks(PARALLEL / 2)).for_each(|(a, b)| a.copy_from_slice(b)),
    }
}

/// Rounds a tensor to what a model stores it in, in parallel where it is long.
pub(super) fn store<T: Real>(model: &HostModel<T>, a: &mut [T]) {
    match a.len() {
        0..PARALLEL => model.store(a),
        _ => a.par_chunks_mut(PARALLEL / 2).for_each(|a| model.store(a)),
    }
}

impl<T: Real> Workspace<T> {
    /// Takes structures over with their lists; the first is number `first` of the caller's.
    pub fn load(
        &mut self,
        model: &HostModel<T>,
        first: usize,
        structures: &[Structure],
        mut lists: Lists<'_>,
    ) -> Result<(), ModelError> {
        self.atoms.clear();
        self.species.clear();
        let rows = model.embedding.len() / model.config.features;
        for (index, structure) in (first..).zip(structures) {
            if let Some(atom) = structure.species.iter().position(|z| usize::from(*z) >= rows || *z == 0) {
                let (name, z) = (structure.name.clone(), structure.species[atom]);
                return Err(ModelError::Element { name, index, atom, z, rows });
            }
            let start = self.species.len();
            self.species.extend_from_slice(&structure.species);
            self.atoms.push(start..self.species.len());
        }
        while self.systems.len() < structures.len() {
            self.systems.push(System::default());
        }
        for (at, structure) in structures.iter().enumerate() {
            self.systems[at].load(structure, model.config.cutoff, first + at, lists.of(at))?;
        }
        self.rows = self.species.len().next_multiple_of(ROWS);
        Ok(())
    }

    /// Room for the tensors that every model has.
    pub fn reserve(&mut self, model: &HostModel<T>, forces: bool) {
        let (rows, f, n) = (self.rows, model.config.features, model.config.filters);
        let painn = matches!(model.layers[0], Layer::Painn(_));
        let parts = if painn { 3 } else { 1 };
        room(&mut self.q, rows * f);
        let layers = model.layers.len();
        let kept = &mut self.kept;
        room(&mut kept.nodes, layers * rows * parts * n);
        room(&mut kept.hidden_update, layers * rows * f);
        if painn {
            room(&mut kept.hidden, layers * rows * f);
            room(&mut kept.mixed, layers * rows * 6 * f);
            room(&mut kept.norm, layers * rows * f);
            room(&mut kept.a, layers * rows * 3 * f);
            room(&mut self.mu, layers * rows * 3 * f);
            room(&mut self.no_mu, rows * 3 * f);
        } else {
            room(&mut self.messages, rows * n);
        }
        let outputs = model.head.iter().map(|layer| layer.outputs());
        room(&mut self.head, rows * outputs.clone().sum::<usize>());
        self.energies = rows * outputs.take(model.head.len() - 1).sum::<usize>();
        room(&mut self.of_q, rows * f);
        room(&mut self.of_nodes, rows * parts * n);
        if painn {
            room(&mut self.of_mu, rows * 3 * f);
        }
        let (sent, vectors) = if painn { (3 * f, 3 * f) } else { (n, 0) };
        for system in &mut self.systems[..self.atoms.len()] {
            system.reserve(n, sent, vectors, forces);
        }
        let widest = model.head.iter().map(|layer| layer.outputs()).fold(6 * f.max(n), usize::max);
        let scratch = || {
            let zeros = || Aligned::zeros(super::blocks::MOST * widest);
            Mutex::new(Scratch { a: zeros(), b: zeros(), c: zeros() })
        };
        let threads = rayon::current_num_threads() + 1;
        if self.scratch.len() < threads {
            self.scratch.resize_with(threads, scratch);
        }
    }

    /// Forces and strain derivatives of all systems.
    pub fn scatter(&mut self) {
        self.systems[..self.atoms.len()].iter_mut().for_each(System::scatter);
    }

    /// Energies of a system's atoms, as the head gave them.
    pub fn energies(&self, slot: usize) -> &[T] {
        &self.head[self.energies..][self.atoms[slot].clone()]
    }

    /// Forces [n_atoms, 3] and strain derivative [3, 3] of a system.
    pub fn forces(&self, slot: usize) -> (&[T], &[T]) {
        let forces = &self.systems[slot].forces;
        (&forces.forces, &forces.strain)
    }
}

/// The memory of this thread.
pub(super) fn scratch<T: Real>(all: &[Mutex<Scratch<T>>]) -> MutexGuard<'_, Scratch<T>> {
    let own = rayon::current_thread_index().map_or(all.len() - 1, |index| index.min(all.len() - 1));
    all[own].lock().unwrap_or_else(PoisonError::into_inner)
}
