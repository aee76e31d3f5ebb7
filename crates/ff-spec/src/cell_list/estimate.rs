//! The sizes of a list, before it is built and after.

use std::f64::consts::PI;

use super::Inputs;
use crate::{Problem, Scalar};

impl<T: Scalar> Inputs<T> {
    /// The sizes of a list that is there, given its row lengths. Tables are keyed by [`Inputs::estimate`].
    pub fn problem(&self, name: &str, row_ptr: &[u32]) -> Problem {
        Problem {
            name: name.to_owned(),
            n_atoms: self.n_atoms() as u64,
            n_systems: self.n_systems() as u64,
            n_edges: u64::from(row_ptr.last().copied().unwrap_or(0)),
            max_degree: row_ptr.windows(2).map(|w| u64::from(w[1] - w[0])).max().unwrap_or(0),
            ..Problem::default()
        }
    }

    /// The sizes that tables are keyed by and constraints may name: what is known of a list before it is built, which is
    /// atoms, systems, density and cutoff.
    ///
    /// Edges are those of a full list of atoms spread evenly: Σ over systems of n² · 4/3 π r³ / V, with the cutoff r in Å and
    /// V in Å³. V is that of the cell; in open directions it reaches as far as the atoms do and a cutoff more, since half of
    /// what surrounds a surface is empty. A system without periodic directions has at most n (n − 1) edges, and no list has
    /// more than its index type counts. The longest row is that of the densest system. Half lists and clusters have other
    /// numbers of edges; a table that was made with these sizes is asked with these sizes.
    ///
    /// # Panics
    /// If shapes or offsets are not those that [`Inputs::check`] expects.
    pub fn estimate(&self, name: &str) -> Problem {
        let most = f64::from(u32::MAX);
        let (mut n_edges, mut max_degree) = (0.0, 0.0_f64);
        for system in 0..self.n_systems() {
            let degree = self.expected_degree(system).min(most);
            n_edges += self.atoms(system).len() as f64 * degree;
            max_degree = max_degree.max(degree);
        }
        let (n_edges, max_degree) = (n_edges.min(most).round() as u64, max_degree.ceil() as u64);
        Problem { n_edges, max_degree, ..self.problem(name, &[]) }
    }

    /// Edges per atom of a system whose atoms are spread evenly; not a number or infinite where it has no volume.
    fn expected_degree(&self, system: usize) -> f64 {
        let n_atoms = self.atoms(system).len() as f64;
        let sphere = 4.0 / 3.0 * PI * self.cutoff.to_f64().powi(3);
        match self.pbc[system] {
            _ if n_atoms == 0.0 => 0.0,
            [false, false, false] => (n_atoms * sphere / self.volume(system)).min(n_atoms - 1.0),
            _ => n_atoms * sphere / self.volume(system),
        }
    }

    /// The volume that a system's atoms share, in Å³: what its periodic lattice vectors span, times the extent of its atoms
    /// and a cutoff at right angles to them.
    fn volume(&self, system: usize) -> f64 {
        let rows = self.cell(system).map(|row| row.map(Scalar::to_f64));
        let periodic = (0..3).filter(|k| self.pbc[system][*k]).map(|k| rows[k]);
        let (mut axes, mut volume) = (Vec::with_capacity(3), 1.0);
        for row in periodic {
            let rest = without(row, &axes);
            volume *= norm(rest);
            axes.push(rest.map(|x| x / norm(rest)));
        }
        while axes.len() < 3 {
            // Of the axes of space the one that leans least on those that are there.
            let rests = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]].map(|axis| without(axis, &axes));
            let rest = rests.into_iter().fold([0.0; 3], |a, b| if norm(b) > norm(a) { b } else { a });
            let axis = rest.map(|x| x / norm(rest));
            let places = self.atoms(system).map(|atom| dot(self.position(atom).map(Scalar::to_f64), axis));
            let ends = places.fold([f64::INFINITY, f64::NEG_INFINITY], |[low, high], x| [low.min(x), high.max(x)]);
            volume *= ends[1] - ends[0] + self.cutoff.to_f64();
            axes.push(axis);
        }
        volume
    }
}

fn dot(a: [f64; 3], b: [f64; 3]) -> f64 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

fn norm(a: [f64; 3]) -> f64 {
    dot(a, a).sqrt()
}

/// What is left of a vector at right angles to these unit vectors, which are so to each other.
fn without(vector: [f64; 3], axes: &[[f64; 3]]) -> [f64; 3] {
    axes.iter().fold(vector, |rest, axis| {
        let along = dot(rest, *axis);
        std::array::from_fn(|c| rest[c] - along * axis[c])
    })
}
