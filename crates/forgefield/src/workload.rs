//! What is tuned and selected for: structures under a name.

use std::path::PathBuf;

use ff_spec::Problem;
use ff_structure::{Frames, Structure, StructureWarning, builtin, edges, read_frames};

use crate::failure::{Failure, Result};
use crate::options::Sizes;
use crate::screen::Screen;

pub use ff_structure::Edges;

/// Structures under one name, taken as one batch.
pub struct Workload {
    /// The built-in id or the file's name.
    pub name: String,
    /// The systems of the batch.
    pub structures: Vec<Structure>,
    /// What a user should be told of the file.
    warnings: Vec<StructureWarning>,
}

/// Says what in a structure file was probably not meant.
pub fn warn(warnings: &[StructureWarning], screen: &Screen) {
    for warning in warnings {
        screen.warn(format!("warning: {warning}"));
    }
}

/// Built-in problems and files, each checked to have neighbour lists at this cutoff.
///
/// # Errors
/// The first problem that is unknown, the first file that cannot be read.
pub fn collect(problems: &[String], files: &[PathBuf], sizes: &Sizes) -> Result<Vec<Workload>> {
    sizes.check()?;
    let mut workloads = Vec::new();
    for id in problems {
        workloads.push(Workload::new(id.clone(), builtin(id).map_err(Failure::input)?));
    }
    for path in files {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let Frames { structures, warnings } = read_frames(path).map_err(Failure::input)?;
        workloads.push(Workload { name, structures, warnings });
    }
    for workload in &workloads {
        let n_atoms = workload.edges(sizes.cutoff)?.n_atoms();
        let elements = n_atoms.saturating_mul(3).saturating_mul(sizes.features);
        if elements > u32::MAX as usize {
            return Err(Failure::input(format!(
                "problem `{}`: n_atoms × 3F is {elements}, more than the u32 index type holds; lower --features",
                workload.name
            )));
        }
    }
    Ok(workloads)
}

/// One built-in problem.
///
/// # Errors
/// As [`collect`].
pub fn one(problem: &str, sizes: &Sizes) -> Result<Workload> {
    let mut found = collect(&[problem.to_owned()], &[], sizes)?;
    found.pop().ok_or_else(|| Failure::fault("no workload"))
}

/// The sizes of a call on one built-in problem that sees systems and no features: atoms, systems and the edges of a full
/// list.
///
/// # Errors
/// An unknown problem, or sizes that no kernel has.
pub fn systems_of(problem: &str, sizes: &Sizes) -> Result<Problem> {
    sizes.check()?;
    let structures = builtin(problem).map_err(Failure::input)?;
    let edges = edges(&structures, sizes.cutoff).map_err(Failure::input)?;
    Ok(Problem {
        name: problem.to_owned(),
        n_atoms: edges.n_atoms() as u64,
        n_systems: structures.len() as u64,
        n_edges: edges.sender.len() as u64,
        max_degree: edges.max_degree() as u64,
        ..Problem::default()
    })
}

impl Workload {
    /// Of structures that are from no file.
    pub fn new(name: String, structures: Vec<Structure>) -> Self {
        Self { name, structures, warnings: Vec::new() }
    }

    /// Says what in its file was probably not meant.
    pub fn warn(&self, screen: &Screen) {
        warn(&self.warnings, screen);
    }

    /// The edges of a full list of all systems.
    ///
    /// # Errors
    /// The first system without a list.
    pub fn edges(&self, cutoff: f64) -> Result<Edges> {
        edges(&self.structures, cutoff).map_err(Failure::input)
    }

    /// Where the atoms of each system begin, and where those of the last end.
    pub fn system_ptr(&self) -> Vec<u32> {
        let mut system_ptr = vec![0];
        for structure in &self.structures {
            system_ptr.push(system_ptr[system_ptr.len() - 1] + structure.n_atoms() as u32);
        }
        system_ptr
    }
}
