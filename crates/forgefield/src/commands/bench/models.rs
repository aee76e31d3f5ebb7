//! The suite `models`: energy and forces of a model, from one molecule to large boxes.

use std::path::Path;
use std::rc::Rc;
use std::time::Instant;

use ff_kernels::host::peak::Peak;
use ff_model::host::Times;
use ff_model::{HostModel, Model, Plan, Prediction, Wanted};
use ff_spec::{Dtype, LaunchConfig, Problem, Runtime, RuntimeKind};
use ff_structure::{Structure, builtin, edges, problems};
use serde::{Deserialize, Serialize};

use super::args::BenchArgs;
use super::result::{Floor, Row};
use super::{Case, time};
use crate::failure::{Failure, Result};
use crate::models::{AnyModel, PackArgs, Roof};
use crate::screen::Screen;

/// What the rows of this suite say besides, with the fields that its readers rely on.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Rates {
    pub n_atoms: u64,
    pub n_systems: u64,
    pub median_ns: f64,
    pub structures_per_s: f64,
}

impl Rates {
    pub fn new(problem: &Problem, median_ns: f64) -> Self {
        let Problem { n_atoms, n_systems, .. } = *problem;
        Self { n_atoms, n_systems, median_ns, structures_per_s: 1e9 * n_systems as f64 / median_ns }
    }
}

/// How far off forces in f32 may be from those in f64, relative to the norm of all of them.
const TOLERANCE: f64 = 1e-4;

/// The cases of a model.
///
/// # Errors
/// A file that is no model.
pub fn cases(path: &Path, full: bool) -> Result<Vec<Rc<dyn Case>>> {
    let model = Rc::new(crate::models::load(path)?);
    // How many systems of how many molecules, carbon atoms or benzenes.
    let mut sizes = vec![
        ("benzene-1".to_owned(), Systems::Benzene(1)),
        ("benzene-16".to_owned(), Systems::Benzene(16)),
        ("benzene-64".to_owned(), Systems::Benzene(64)),
    ];
    for carbons in [3, 10, 21, 32] {
        sizes.push((format!("alkane-{}-atoms", 3 * carbons + 2), Systems::Alkane(carbons)));
    }
    let boxes: &[usize] = if full { &[216, 1728, 6912, 33_333] } else { &[216, 1728] };
    sizes.extend(boxes.iter().map(|molecules| (format!("water-{}-atoms", 3 * molecules), Systems::Water(*molecules))));
    let case = |(name, systems)| Rc::new(ModelCase { name, systems, model: Rc::clone(&model) }) as Rc<dyn Case>;
    Ok(sizes.into_iter().map(case).collect())
}

#[derive(Clone, Copy)]
enum Systems {
    Benzene(usize),
    Alkane(usize),
    Water(usize),
}

impl Systems {
    fn build(self) -> Result<Vec<Structure>> {
        match self {
            Self::Benzene(copies) => {
                let one = builtin("c6h6").map_err(Failure::fault)?;
                Ok(one.iter().cycle().take(copies).cloned().collect())
            }
            Self::Alkane(carbons) => Ok(vec![problems::alkane(carbons)]),
            Self::Water(molecules) => Ok(vec![problems::water_box(molecules, 0)]),
        }
    }
}

struct ModelCase {
    name: String,
    systems: Systems,
    model: Rc<Model>,
}

impl Case for ModelCase {
    fn name(&self) -> &str {
        &self.name
    }

    fn op(&self) -> &'static str {
        "model"
    }

    fn runs_on(&self, runtime: RuntimeKind) -> bool {
        runtime == RuntimeKind::Host
    }

    fn measure(&self, _: &(dyn Runtime + 'static), roof: Option<Peak>, args: &BenchArgs, _: &Screen) -> Result<Row> {
        let (dtype, config) = (Dtype::F32, self.model.config());
        let systems = self.systems.build()?;
        let host = AnyModel::new(&self.model, dtype, PackArgs::EXACT)?;
        let exact = HostModel::<f64>::new(&self.model).map_err(Failure::input)?;
        let oracle = exact.predict(&systems, Wanted::FORCES);
        let oracle = oracle.map_err(|error| Failure::input(format!("{}: {error}", self.name)))?;
        drop(exact);
        let predict = || {
            host.predict(&systems, Wanted::FORCES, &Times::off())
                .map_err(|error| error.of_frames(Path::new(&self.name), 1))
        };
        let before = error(&predict()?, &oracle)?;
        let samples = time(args, || {
            let begin = Instant::now();
            predict()?;
            Ok(begin.elapsed())
        })?;
        let after = error(&predict()?, &oracle)?;
        let found = edges(&systems, config.cutoff).map_err(Failure::input)?;
        let problem = Problem {
            name: self.name.clone(),
            n_atoms: found.n_atoms() as u64,
            n_systems: systems.len() as u64,
            n_edges: found.sender.len() as u64,
            max_degree: found.max_degree() as u64,
            features: config.features as u32,
            n_basis: config.n_basis as u32,
            ..Problem::default()
        };
        let (flops, bytes) = Plan::new(config, dtype).total(true);
        let (flops, bytes) = (flops.at(problem.n_atoms, problem.n_edges), bytes.at(problem.n_atoms, problem.n_edges));
        // Of what stays in the cache bytes say nothing.
        let cached =
            roof.is_some_and(|peak| Roof::new(peak, &self.model, dtype, problem.n_atoms, problem.n_edges).cached);
        let row = Row {
            case: self.name.clone(),
            variant: config.summary(),
            dtype,
            ns_per_edge: samples.timing.median_ns / problem.n_edges.max(1) as f64,
            rates: Some(Rates::new(&problem, samples.timing.median_ns)),
            problem,
            config: LaunchConfig::default(),
            samples,
            floor: Some(Floor { flops, bytes: if cached { 0 } else { bytes } }),
            floor_ns: None,
            bound: None,
            rel_error: before.max(after),
            memory: None,
        };
        Ok(row.under(roof))
    }
}

/// ‖F − F₆₄‖/‖F₆₄‖ over all systems.
fn error(found: &[Prediction], oracle: &[Prediction]) -> Result<f64> {
    let (mut off, mut norm) = (0.0, 0.0);
    for (found, oracle) in found.iter().zip(oracle) {
        for (a, b) in found.forces.as_flattened().iter().zip(oracle.forces.as_flattened()) {
            (off, norm) = (off + (a - b).powi(2), norm + b.powi(2));
        }
    }
    let error: f64 = if off == 0.0 { 0.0 } else { (off / norm).sqrt() };
    if error <= TOLERANCE {
        return Ok(error);
    }
    Err(Failure::unmet(format!("not timed, forces are off by {error:.1e} relative, expected at most {TOLERANCE:.0e}")))
}
