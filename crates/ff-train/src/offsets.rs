//! What of an energy is not left to the network.

use ff_structure::Structure;

/// Energies by atomic number, eV, that fit those of frames best in the sense of least squares per atom. Where compositions do not tell
/// elements apart, the smallest deviations from the mean energy per atom.
pub fn fitted(frames: &[(&Structure, f64)], elements: &[u8]) -> Vec<f64> {
    let mut energies = vec![0.0; elements.iter().max().map_or(0, |z| usize::from(*z) + 1)];
    let (n, m) = (frames.len(), elements.len());
    if n == 0 {
        return energies;
    }
    let per_atom = |(structure, energy): &(&Structure, f64)| energy / structure.n_atoms() as f64;
    let mean = frames.iter().map(per_atom).sum::<f64>() / n as f64;
    // Normal equations for the deviations from the mean, in fractions of a frame's atoms.
    let (mut matrix, mut right) = (vec![0.0; m * m], vec![0.0; m]);
    for frame in frames {
        let structure = frame.0;
        let fraction =
            |z: &u8| structure.species.iter().filter(|s| *s == z).count() as f64 / structure.n_atoms() as f64;
        let fractions: Vec<f64> = elements.iter().map(fraction).collect();
        for (a, of_a) in fractions.iter().enumerate() {
            right[a] += of_a * (per_atom(frame) - mean) / n as f64;
            for (b, of_b) in fractions.iter().enumerate() {
                matrix[a * m + b] += of_a * of_b / n as f64;
            }
        }
    }
    // Far below what compositions that differ by one atom in a hundred make, far above rounding.
    (0..m).for_each(|a| matrix[a * m + a] += 1e-9);
    for (z, deviation) in elements.iter().zip(solve(matrix, right)) {
        energies[usize::from(*z)] = mean + deviation;
    }
    energies
}

/// x of A·x = b for a symmetric positive A [n, n], by Cholesky's decomposition.
fn solve(mut a: Vec<f64>, mut b: Vec<f64>) -> Vec<f64> {
    let n = b.len();
    for j in 0..n {
        for i in j..n {
            let sum: f64 = (0..j).map(|k| a[i * n + k] * a[j * n + k]).sum();
            a[i * n + j] = if i == j { (a[i * n + j] - sum).sqrt() } else { (a[i * n + j] - sum) / a[j * n + j] };
        }
    }
    for i in 0..n {
        let sum: f64 = (0..i).map(|k| a[i * n + k] * b[k]).sum();
        b[i] = (b[i] - sum) / a[i * n + i];
    }
    for i in (0..n).rev() {
        let sum: f64 = (i + 1..n).map(|k| a[k * n + i] * b[k]).sum();
        b[i] = (b[i] - sum) / a[i * n + i];
    }
    b
}

/// The mean energy per atom that is left of frames, eV, after those of their atoms.
pub fn left(frames: &[(&Structure, f64)], atomref: &[f64]) -> f64 {
    let left = |(structure, energy): &(&Structure, f64)| {
        let own: f64 = structure.species.iter().map(|z| atomref.get(usize::from(*z)).copied().unwrap_or(0.0)).sum();
        (energy - own) / structure.n_atoms() as f64
    };
    frames.iter().map(left).sum::<f64>() / frames.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(species: &[u8]) -> Structure {
        Structure::open("", species.to_vec(), vec![[0.0; 3]; species.len()])
    }

    #[test]
    fn energies_that_add_up_are_found() {
        let structures = [of(&[1, 1, 8]), of(&[6, 1, 1, 1, 1]), of(&[6, 8, 8]), of(&[6, 6, 1, 8, 1])];
        let own = |z: &u8| match z {
            1 => -13.6,
            6 => -1030.0,
            _ => -2041.0,
        };
        let energies: Vec<f64> = structures.iter().map(|s| s.species.iter().map(own).sum()).collect();
        let frames: Vec<(&Structure, f64)> = structures.iter().zip(energies).collect();
        let found = fitted(&frames, &[1, 6, 8]);
        for z in [1u8, 6, 8] {
            // What is added to the diagonal, 10⁻⁹, over the least eigenvalue, about 10⁻², of deviations of 1,000 eV.
            assert!((found[usize::from(z)] - own(&z)).abs() < 1e-2, "{z}: {found:?}");
        }
        assert!(left(&frames, &found).abs() < 1e-3);
    }

    #[test]
    fn one_composition_is_divided_evenly() {
        let structures = [of(&[6, 1]), of(&[6, 1])];
        let frames: Vec<(&Structure, f64)> = structures.iter().zip([-10.0, -12.0]).collect();
        let found = fitted(&frames, &[1, 6]);
        assert!((found[1] - found[6]).abs() < 1e-9 && (found[1] + 5.5).abs() < 1e-9, "{found:?}");
    }
}
