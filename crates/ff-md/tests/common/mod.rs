//! Potentials with known statistics.
#![allow(dead_code)]

use ff_md::{Potential, PotentialError, Settings, System, Velocities};
use ff_model::{Prediction, Wanted};
use ff_structure::{Structure, neighbors};

/// Every atom on springs of its own, one stiffness along each axis (eV/Å²), to where it belongs.
pub struct Einstein {
    pub sites: Vec<[f64; 3]>,
    pub stiffness: Vec<[f64; 3]>,
}

impl Einstein {
    pub fn new(n: usize, stiffness: impl Fn(usize) -> f64) -> Self {
        let sites = (0..n).map(|i| [3.0 * i as f64, 0.0, 0.0]).collect();
        let stiffness = (0..n).map(|i| std::array::from_fn(|axis| stiffness(3 * i + axis))).collect();
        Self { sites, stiffness }
    }

    pub fn structure(&self) -> Structure {
        Structure::open("crystal", vec![18; self.sites.len()], self.sites.clone())
    }
}

impl Potential for Einstein {
    fn evaluate(
        &mut self,
        structures: &[Structure],
        _: Wanted,
        out: &mut Vec<Prediction>,
    ) -> Result<(), PotentialError> {
        out.clear();
        for structure in structures {
            let mut prediction = Prediction::default();
            for ((x, site), k) in structure.positions.iter().zip(&self.sites).zip(&self.stiffness) {
                let d: [f64; 3] = std::array::from_fn(|axis| x[axis] - site[axis]);
                prediction.energy += (0..3).map(|axis| 0.5 * k[axis] * d[axis] * d[axis]).sum::<f64>();
                prediction.forces.push(std::array::from_fn(|axis| -k[axis] * d[axis]));
            }
            out.push(prediction);
        }
        Ok(())
    }

    fn rebuilds(&self) -> u64 {
        0
    }
}

/// No forces at all; the stress is zero where there is a cell.
pub struct Ideal;

impl Potential for Ideal {
    fn evaluate(
        &mut self,
        structures: &[Structure],
        _: Wanted,
        out: &mut Vec<Prediction>,
    ) -> Result<(), PotentialError> {
        out.clear();
        out.extend(structures.iter().map(|structure| Prediction {
            forces: vec![[0.0; 3]; structure.n_atoms()],
            stress: structure.cell.map(|_| [[0.0; 3]; 3]),
            ..Prediction::default()
        }));
        Ok(())
    }

    fn rebuilds(&self) -> u64 {
        0
    }
}

/// Lennard-Jones of ε in eV and σ in Å; at the cutoff, in σ, energy and force go to zero where `smooth`, else the energy is cut.
pub struct LennardJones {
    pub epsilon: f64,
    pub sigma: f64,
    pub cutoff: f64,
    pub smooth: bool,
    pub builds: u64,
}

impl LennardJones {
    pub fn argon(cutoff: f64, smooth: bool) -> Self {
        Self { epsilon: 0.0104, sigma: 3.4, cutoff, smooth, builds: 0 }
    }

    /// Energy and dE/dr.
    fn pair(&self, r: f64) -> (f64, f64) {
        let power = (self.sigma / r).powi(6);
        let energy = 4.0 * self.epsilon * power * (power - 1.0);
        (energy, -24.0 * self.epsilon / r * power * (2.0 * power - 1.0))
    }
}

impl Potential for LennardJones {
    fn evaluate(
        &mut self,
        structures: &[Structure],
        _: Wanted,
        out: &mut Vec<Prediction>,
    ) -> Result<(), PotentialError> {
        self.builds += 1;
        out.clear();
        let cutoff = self.cutoff * self.sigma;
        let (at_cutoff, slope_at_cutoff) = if self.smooth { self.pair(cutoff) } else { (0.0, 0.0) };
        for (system, structure) in structures.iter().enumerate() {
            let Structure { positions, cell, pbc, .. } = structure;
            let list = neighbors(positions, *cell, *pbc, cutoff)
                .map_err(|error| PotentialError::System { system, reason: error.to_string() })?;
            let mut prediction = Prediction { forces: vec![[0.0; 3]; positions.len()], ..Prediction::default() };
            let mut strain = [[0.0; 3]; 3];
            for (receiver, row) in list.row_ptr.windows(2).enumerate() {
                for edge in row[0] as usize..row[1] as usize {
                    let d = list.edge_vec[edge];
                    let r = d.iter().map(|x| x * x).sum::<f64>().sqrt();
                    let (energy, slope) = self.pair(r);
                    let (energy, slope) =
                        (energy - at_cutoff - slope_at_cutoff * (r - cutoff), slope - slope_at_cutoff);
                    prediction.energy += 0.5 * energy;
                    for a in 0..3 {
                        prediction.forces[receiver][a] += slope * d[a] / r;
                        for b in 0..3 {
                            strain[a][b] += 0.5 * slope * d[a] * d[b] / r;
                        }
                    }
                }
            }
            prediction.stress = ff_model::stress::stress(structure, strain);
            out.push(prediction);
        }
        Ok(())
    }

    fn rebuilds(&self) -> u64 {
        self.builds
    }
}

/// A face-centred cubic crystal of argon, 4·n³ atoms.
pub fn argon(n: usize, lattice: f64) -> Structure {
    let mut positions = Vec::new();
    for i in 0..n * n * n {
        let corner = [i / (n * n), i / n % n, i % n].map(|x| x as f64);
        for site in [[0.0, 0.0, 0.0], [0.0, 0.5, 0.5], [0.5, 0.0, 0.5], [0.5, 0.5, 0.0]] {
            positions.push(std::array::from_fn(|axis| lattice * (corner[axis] + site[axis])));
        }
    }
    let edge = lattice * n as f64;
    let cell = [[edge, 0.0, 0.0], [0.0, edge, 0.0], [0.0, 0.0, edge]];
    Structure::periodic("argon", vec![18; positions.len()], positions, cell)
}

/// A system with velocities drawn.
pub fn started(structure: Structure, replica: u64, settings: &Settings) -> System {
    let mut system = System::new(structure, replica).expect("masses");
    system.start(Velocities::Drawn, settings).expect("velocities");
    system
}

/// Mean and standard error of independent values.
pub fn mean(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0);
    (mean, (variance / n).sqrt())
}

/// Expects the mean of independent values within four of its standard errors of what theory says, which has to say something: the
/// error is to be below `resolved` times the value.
#[track_caller]
pub fn expect_mean(what: &str, values: &[f64], theory: f64, resolved: f64) {
    let (mean, error) = mean(values);
    println!("{what}: {mean:.6e} ± {error:.1e}, theory {theory:.6e}");
    assert!(error < resolved * theory.abs(), "{what}: an error of {error} says nothing about {theory}");
    assert!((mean - theory).abs() < 4.0 * error, "{what}: {mean} ± {error}, theory {theory}");
}
