//! Structures drawn by dynamics where a committee of potentials disagrees: what is worth labelling next.

use ff_model::{Prediction, Wanted};
use ff_structure::Structure;

use crate::dynamics::Simulation;
use crate::error::MdError;
use crate::potential::{Potential, PotentialError};
use crate::settings::{Ensemble, Settings};
use crate::system::{System, Velocities};

/// How structures are drawn.
#[derive(Clone, Debug, PartialEq)]
pub struct DrawSettings {
    /// Temperatures, K; every structure is moved at each of them.
    pub temperatures: Vec<f64>,
    /// Steps of a trajectory.
    pub steps: u64,
    /// Steps from one look at the committee to the next.
    pub every: u64,
    /// Time step, fs.
    pub timestep_fs: f64,
    /// Friction of Langevin's thermostat, 1/ps.
    pub friction_per_ps: f64,
    /// Seed of all random numbers.
    pub seed: u64,
    /// Disagreement from which a structure is worth labelling, eV/Å.
    pub least: f64,
    /// Disagreement from which a trajectory means nothing and ends, eV/Å.
    pub most: f64,
    /// Structures to draw at most: those of the largest disagreement.
    pub structures: usize,
}

/// A structure that was drawn.
#[derive(Clone, Debug, PartialEq)]
pub struct Drawn {
    /// The atoms, named after the structure that it began as.
    pub structure: Structure,
    /// What the committee disagrees by: see [`disagreement`].
    pub disagreement: f64,
    /// Which structure it began as.
    pub start: usize,
    /// Temperature of its trajectory, K.
    pub temperature: f64,
    /// Its step.
    pub step: u64,
}

/// What was seen on the way.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct DrawSummary {
    /// Looks at the committee.
    pub looks: u64,
    /// Of these, those at structures worth labelling.
    pub candidates: u64,
    /// Mean disagreement, eV/Å.
    pub mean: f64,
    /// Largest disagreement, eV/Å.
    pub largest: f64,
    /// Trajectories that ended early: they diverged, or the committee disagreed by too much.
    pub ended: u64,
}

/// The largest disagreement of a committee about the force on an atom, eV/Å: the root of the mean square of |F_m − F̄| over its members.
pub fn disagreement(forces: &[&[[f64; 3]]]) -> f64 {
    let n = forces.len() as f64;
    let atoms = forces.iter().map(|forces| forces.len()).min().unwrap_or(0);
    let of_atom = |atom: usize| {
        let mean: [f64; 3] = std::array::from_fn(|axis| forces.iter().map(|f| f[atom][axis]).sum::<f64>() / n);
        let square = |f: &&[[f64; 3]]| f[atom].iter().zip(mean).map(|(f, mean)| (f - mean) * (f - mean)).sum::<f64>();
        (forces.iter().map(square).sum::<f64>() / n).sqrt()
    };
    // What is not a number is the largest of all.
    (0..atoms).map(of_atom).fold(0.0, |largest, x| if x.is_nan() { f64::INFINITY } else { largest.max(x) })
}

/// Draws structures: each of `starts` moves at each temperature under a member of the committee, which takes turns, and all members
/// look at it. `watch` is told of every trajectory that is done, of how many, and says whether to go on.
///
/// The result is in order of falling disagreement, and the same for the same arguments.
///
/// # Errors
/// [`MdError`]: settings that mean nothing, a structure that cannot be moved at all, a fault of a potential.
pub fn draw<P: Potential>(
    committee: &mut [P],
    starts: &[Structure],
    settings: &DrawSettings,
    watch: &mut dyn FnMut(u64, u64) -> bool,
) -> Result<(Vec<Drawn>, DrawSummary), MdError> {
    if committee.len() < 2 {
        let found = committee.len().to_string();
        return Err(MdError::Setting { name: "the committee", expected: "two members or more".to_owned(), found });
    }
    if settings.every == 0 {
        let expected = "one step or more".to_owned();
        return Err(MdError::Setting { name: "steps between looks", expected, found: "0".to_owned() });
    }
    let all = (starts.len() * settings.temperatures.len()) as u64;
    let (mut drawn, mut summary, mut sum) = (Vec::new(), DrawSummary::default(), 0.0);
    let trajectories =
        settings.temperatures.iter().flat_map(|temperature| (0..starts.len()).map(move |start| (*temperature, start)));
    for (number, (temperature, start)) in (0..).zip(trajectories) {
        let place = number as usize % committee.len();
        let (before, rest) = committee.split_at_mut(place);
        let Some((driver, after)) = rest.split_first_mut() else { continue };
        let dynamics = Settings {
            timestep_fs: settings.timestep_fs,
            temperature,
            seed: settings.seed,
            ..Settings::new(Ensemble::Langevin { friction_per_ps: settings.friction_per_ps })
        };
        let refused = |reason: String| MdError::System { system: start, name: starts[start].name.clone(), reason };
        let mut system = System::new(starts[start].clone(), number).map_err(refused)?;
        system.start(Velocities::Drawn, &dynamics).map_err(refused)?;
        let mut simulation = Simulation::new(driver, &[system], dynamics)?;
        while simulation.step_number() < settings.steps {
            match simulation.step() {
                Err(error) if error.is_divergence() => {
                    summary.ended += 1;
                    break;
                }
                taken => taken?,
            }
            if !simulation.step_number().is_multiple_of(settings.every) {
                continue;
            }
            let others = match looks(before.iter_mut().chain(after.iter_mut()), simulation.structures()) {
                Ok(others) => others,
                Err(PotentialError::System { .. }) => {
                    summary.ended += 1;
                    break;
                }
                Err(PotentialError::Fault(reason)) => {
                    return Err(MdError::Fault { step: simulation.step_number(), reason });
                }
            };
            let forces: Vec<&[[f64; 3]]> =
                simulation.predictions().iter().chain(&others).map(|prediction| prediction.forces.as_slice()).collect();
            let disagreement = disagreement(&forces);
            if disagreement > settings.most {
                summary.ended += 1;
                break;
            }
            summary.looks += 1;
            summary.largest = summary.largest.max(disagreement);
            sum += disagreement;
            if disagreement >= settings.least {
                summary.candidates += 1;
                let (structure, step) = (simulation.structures()[0].clone(), simulation.step_number());
                drawn.push(Drawn { structure, disagreement, start, temperature, step });
                // Twice as many as are wanted are kept, so that a long run does not keep them all.
                if drawn.len() >= 2 * settings.structures.max(1) {
                    keep(&mut drawn, settings.structures);
                }
            }
        }
        if !watch(number + 1, all) {
            break;
        }
    }
    keep(&mut drawn, settings.structures);
    summary.mean = if summary.looks > 0 { sum / summary.looks as f64 } else { 0.0 };
    Ok((drawn, summary))
}

/// What members say of a structure.
fn looks<'a, P: Potential + 'a>(
    members: impl Iterator<Item = &'a mut P>,
    structures: &[Structure],
) -> Result<Vec<Prediction>, PotentialError> {
    let mut all = Vec::new();
    for member in members {
        let mut said = Vec::new();
        member.evaluate(structures, Wanted { stress: false, ..Wanted::FORCES }, &mut said)?;
        all.append(&mut said);
    }
    Ok(all)
}

/// The structures of the largest disagreement; of equal ones the first.
fn keep(drawn: &mut Vec<Drawn>, most: usize) {
    drawn.sort_by(|a, b| b.disagreement.total_cmp(&a.disagreement));
    drawn.truncate(most);
}
