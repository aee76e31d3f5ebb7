//! The teacher: Stillinger–Weber silicon (Phys. Rev. B 31, 5262, 1985), whose three-body term no pair potential can mimic.

use ff_spec::cell_list::NeighborList;

const EPSILON: f64 = 2.1683;
const SIGMA: f64 = 2.0951;
const A: f64 = 7.049_556_277;
const B: f64 = 0.602_224_558_4;
const RANGE: f64 = 1.8;
const LAMBDA: f64 = 21.0;
const GAMMA: f64 = 1.2;

/// Where the potential ends, Å.
pub const CUTOFF: f64 = RANGE * SIGMA;

/// Energy in eV and forces in eV/Å of the atoms of a full list, which may reach further than [`CUTOFF`].
pub fn energy_and_forces(list: &NeighborList<f64>) -> (f64, Vec<[f64; 3]>) {
    let mut energy = 0.0;
    let mut forces = vec![[0.0; 3]; list.n_atoms()];
    for i in 0..list.n_atoms() {
        let row = list.row_ptr[i] as usize..list.row_ptr[i + 1] as usize;
        let near: Vec<(usize, [f64; 3], f64)> = row
            .map(|e| (list.sender[e] as usize, list.edge_vec[e], norm(list.edge_vec[e])))
            .filter(|(_, _, d)| *d < CUTOFF)
            .collect();
        for (at, &(j, r, d)) in near.iter().enumerate() {
            let (pair, slope) = pair(d);
            energy += 0.5 * pair;
            push(&mut forces, i, j, r, 0.5 * slope / d);
            for &(k, s, q) in &near[at + 1..] {
                let (value, by_r, by_s) = triplet((r, d), (s, q));
                energy += value;
                for axis in 0..3 {
                    forces[j][axis] -= by_r[axis];
                    forces[k][axis] -= by_s[axis];
                    forces[i][axis] += by_r[axis] + by_s[axis];
                }
            }
        }
    }
    (energy, forces)
}

fn norm(r: [f64; 3]) -> f64 {
    dot(r, r).sqrt()
}

fn dot(a: [f64; 3], b: [f64; 3]) -> f64 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

/// The gradient c·r in the vector from i to j.
fn push(forces: &mut [[f64; 3]], i: usize, j: usize, r: [f64; 3], c: f64) {
    for axis in 0..3 {
        forces[i][axis] += c * r[axis];
        forces[j][axis] -= c * r[axis];
    }
}

/// The pair term and its slope in d.
fn pair(d: f64) -> (f64, f64) {
    let x = d / SIGMA;
    let (repulsion, tail) = (B / x.powi(4), (1.0 / (x - RANGE)).exp());
    let value = A * EPSILON * (repulsion - 1.0) * tail;
    let slope = A * EPSILON * tail * (-4.0 * repulsion / x - (repulsion - 1.0) / (x - RANGE).powi(2));
    (value, slope / SIGMA)
}

/// The term of the angle between two vectors, and its gradients in both.
fn triplet((r, d): ([f64; 3], f64), (s, q): ([f64; 3], f64)) -> (f64, [f64; 3], [f64; 3]) {
    let (x, y) = (d / SIGMA - RANGE, q / SIGMA - RANGE);
    let tail = LAMBDA * EPSILON * (GAMMA / x + GAMMA / y).exp();
    let cosine = dot(r, s) / (d * q);
    let angle = cosine + 1.0 / 3.0;
    let value = tail * angle * angle;
    let by_cosine = 2.0 * tail * angle;
    let (by_d, by_q) = (-value * GAMMA / (x * x * SIGMA), -value * GAMMA / (y * y * SIGMA));
    let gradient = |r: [f64; 3], d: f64, s: [f64; 3], q: f64, by_d: f64| -> [f64; 3] {
        std::array::from_fn(|axis| by_d * r[axis] / d + by_cosine * (s[axis] / (d * q) - cosine * r[axis] / (d * d)))
    };
    (value, gradient(r, d, s, q, by_d), gradient(s, q, r, d, by_q))
}

#[cfg(test)]
mod tests {
    use ff_structure::{neighbors, problems::silicon};

    use super::*;

    #[test]
    fn the_crystal_has_the_published_energy() {
        let crystal = silicon(2);
        let list = neighbors(&crystal.positions, crystal.cell, crystal.pbc, CUTOFF).expect("a list");
        let (energy, forces) = energy_and_forces(&list);
        // −4.3363 eV per atom at a = 5.431 Å (2·ε below the minimum of the pair term).
        assert!((energy / 64.0 + 4.3363).abs() < 1e-3, "{}", energy / 64.0);
        assert!(forces.iter().flatten().all(|f| f.abs() < 1e-10));
    }

    #[test]
    fn forces_are_differences_of_the_energy() {
        let crystal = silicon(2);
        let mut positions = crystal.positions.clone();
        for (i, x) in positions.iter_mut().flatten().enumerate() {
            *x += 0.2 * (i as f64 * 1.7).sin();
        }
        let at = |positions: &[[f64; 3]]| {
            energy_and_forces(&neighbors(positions, crystal.cell, crystal.pbc, 4.5).expect("a list"))
        };
        let (_, forces) = at(&positions);
        for (atom, axis) in [(0, 0), (17, 1), (63, 2)] {
            let step = |h: f64| {
                let mut moved = positions.clone();
                moved[atom][axis] += h;
                at(&moved).0
            };
            let h = 1e-4;
            let difference = -(step(h) - step(-h)) / (2.0 * h);
            assert!((difference - forces[atom][axis]).abs() < 1e-6, "{difference} and {}", forces[atom][axis]);
        }
    }
}
