//! What is tuned and selected for: structures with the sizes of a model.

use std::path::PathBuf;

use ff_reference::radial::{RadialKind, default_parameters};
use ff_spec::fused_message::{
    Activation, BackwardInputs, DoubleBackwardInputs, Filter, FilterKind, Inputs, Message, Radial, Reduction, Variant,
    Wanted,
};
use ff_spec::{Problem, cell_list, force_scatter};
use ff_structure::{
    Frames, MessageSpec, Structure, StructureWarning, batch, builtin, message_inputs, random_linear, random_mlp,
    read_frames,
};
use ff_testkit::force_scatter as scatters;
use ff_testkit::gradients::{random_tangent, sparse_cotangents};

use crate::failure::{Failure, Result};
use crate::options::Sizes;
use crate::screen::Screen;

/// Relative error of the tables that stand in for a filter: a tenth of what the gate allows in f32.
const TABLE_TOLERANCE: f64 = 1e-6;

/// Receivers that have cotangents: of so many the oracle knows every gradient in about a tenth of a second.
const RECEIVERS: usize = 64;

/// Structures under one name, taken as one batch.
pub struct Workload {
    /// The built-in id or the file's name.
    pub name: String,
    structures: Vec<Structure>,
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
        let structures = builtin(id).map_err(Failure::input)?;
        workloads.push(Workload { name: id.clone(), structures, warnings: Vec::new() });
    }
    for path in files {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let Frames { structures, warnings } = read_frames(path).map_err(Failure::input)?;
        workloads.push(Workload { name, structures, warnings });
    }
    for workload in &workloads {
        let geometry = geometry(&workload.structures, sizes.cutoff)?;
        let elements = geometry.n_atoms.saturating_mul(3).saturating_mul(sizes.features);
        if elements > u32::MAX as usize {
            return Err(Failure::input(format!(
                "problem `{}`: n_atoms × 3F is {elements}, more than the u32 index type holds; lower --features",
                workload.name
            )));
        }
    }
    Ok(workloads)
}

/// The sizes of a variant's call on one built-in problem, without its tensors.
///
/// # Errors
/// An unknown problem, or sizes that no kernel has.
pub fn sizes_of(problem: &str, variant: &Variant, sizes: &Sizes) -> Result<Problem> {
    sizes.check()?;
    let structures = builtin(problem).map_err(Failure::input)?;
    let geometry = geometry(&structures, sizes.cutoff)?.problem(problem);
    let (n_basis, hidden) = match variant.filter {
        FilterKind::Linear => (sizes.n_basis, 0),
        FilterKind::Mlp => (sizes.n_basis, sizes.hidden),
        // A cubic table, as everywhere in this binary.
        FilterKind::Tabulated => (4, 0),
    };
    Ok(Problem { features: sizes.features as u32, n_basis: n_basis as u32, hidden: hidden as u32, ..geometry })
}

/// The sizes of a call on one built-in problem that sees systems and no features: atoms, systems and the edges of a full
/// list.
///
/// # Errors
/// As [`sizes_of`].
pub fn systems_of(problem: &str, sizes: &Sizes) -> Result<Problem> {
    sizes.check()?;
    let structures = builtin(problem).map_err(Failure::input)?;
    let geometry = geometry(&structures, sizes.cutoff)?.problem(problem);
    Ok(Problem { n_systems: structures.len() as u64, features: 0, n_basis: 0, hidden: 0, ..geometry })
}

/// One feature and one basis function: what can be wrong is in the structures and the cutoff.
fn geometry(structures: &[Structure], cutoff: f64) -> Result<Inputs<f64>> {
    let spec = MessageSpec {
        message: Message::Cfconv,
        features: 1,
        radial: Radial { r_cut: cutoff, n_basis: 1, ..Radial::default() },
        filter: random_linear(1, 1, 0),
        seed: 0,
    };
    message_inputs(structures, cutoff, &spec).map_err(Failure::input)
}

impl Workload {
    /// Says what in its file was probably not meant.
    pub fn warn(&self, screen: &Screen) {
        warn(&self.warnings, screen);
    }

    /// The tensors of one call of a variant, with seeded random features and weights.
    ///
    /// # Errors
    /// What is wrong with the sizes.
    pub fn inputs(&self, variant: &Variant, sizes: &Sizes) -> Result<Inputs<f64>> {
        let spec = spec(variant, sizes)?;
        message_inputs(&self.structures, sizes.cutoff, &spec).map_err(Failure::input)
    }

    /// The batch that a neighbour list is built of.
    ///
    /// # Errors
    /// Periodic directions without a cell.
    pub fn list_inputs(&self, cutoff: f64) -> Result<cell_list::Inputs<f64>> {
        batch(&self.structures, cutoff).map_err(Failure::input)
    }

    /// What makes this batch when its turn comes; what can be wrong is found now.
    ///
    /// # Errors
    /// As [`Workload::list_inputs`].
    pub fn list_maker(&self, cutoff: f64) -> Result<impl Fn() -> cell_list::Inputs<f64>> {
        self.list_inputs(cutoff)?;
        Ok(move || batch(&self.structures, cutoff).expect("this batch was made just before"))
    }

    /// What makes these tensors when their turn comes; what can be wrong is found now.
    ///
    /// # Errors
    /// What is wrong with the sizes.
    pub fn maker<'a>(&'a self, variant: &Variant, sizes: &Sizes) -> Result<impl Fn() -> Inputs<f64> + 'a> {
        let (spec, cutoff) = (spec(variant, sizes)?, sizes.cutoff);
        Ok(move || {
            message_inputs(&self.structures, cutoff, &spec).expect(
                "`collect` made these neighbour lists before, and the shapes of the weights follow from the sizes",
            )
        })
    }
}

impl Workload {
    /// As [`Workload::maker`], of the first backward in features and edge vectors, as forces need it: that is what the
    /// configurations of order 1 are chosen for, also where weights have gradients besides.
    ///
    /// # Errors
    /// As [`Workload::maker`].
    pub fn backward_maker<'a>(
        &'a self,
        variant: &Variant,
        sizes: &Sizes,
    ) -> Result<impl Fn() -> BackwardInputs<f64> + 'a> {
        let (make, seed) = (self.maker(variant, sizes)?, sizes.seed);
        Ok(move || {
            let inputs = make();
            BackwardInputs { grad: sparse_cotangents(&inputs, seed, RECEIVERS), inputs, wanted: Wanted::INPUTS }
        })
    }

    /// As [`Workload::maker`], of the second backward in a direction in features and edge vectors, as a loss on forces has it.
    ///
    /// # Errors
    /// As [`Workload::maker`].
    pub fn double_backward_maker<'a>(
        &'a self,
        variant: &Variant,
        sizes: &Sizes,
    ) -> Result<impl Fn() -> DoubleBackwardInputs<f64> + 'a> {
        let (make, seed) = (self.maker(variant, sizes)?, sizes.seed);
        Ok(move || {
            let inputs = make();
            let tangent = random_tangent(&inputs, false, seed);
            DoubleBackwardInputs { grad: sparse_cotangents(&inputs, seed, RECEIVERS), inputs, tangent }
        })
    }

    /// The edges of a full list with random gradients, over [−1, 1) eV/Å, seeded.
    ///
    /// # Errors
    /// Periodic directions without a cell.
    pub fn scatter_inputs(&self, sizes: &Sizes) -> Result<force_scatter::Inputs<f64>> {
        let Inputs { row_ptr, sender, edge_vec, .. } = geometry(&self.structures, sizes.cutoff)?;
        let mut system_ptr = vec![0];
        for structure in &self.structures {
            system_ptr.push(system_ptr[system_ptr.len() - 1] + structure.n_atoms() as u32);
        }
        let edge_grad = vec![0.0; edge_vec.len()];
        let inputs = force_scatter::Inputs { row_ptr, sender, edge_vec, edge_grad, system_ptr };
        Ok(force_scatter::Inputs { edge_grad: scatters::random_tangent(&inputs, sizes.seed).edge_grad, ..inputs })
    }

    /// What makes these when their turn comes; what can be wrong is found now.
    ///
    /// # Errors
    /// As [`Workload::scatter_inputs`].
    pub fn scatter_maker<'a>(
        &'a self,
        sizes: &'a Sizes,
    ) -> Result<impl Fn() -> force_scatter::Inputs<f64> + Copy + 'a> {
        self.scatter_inputs(sizes)?;
        Ok(move || self.scatter_inputs(sizes).expect("these inputs were made just before"))
    }
}

fn spec(variant: &Variant, sizes: &Sizes) -> Result<MessageSpec> {
    let channels = variant.message.parts() * sizes.features;
    let (n_basis, r_cut, seed) = (sizes.n_basis, sizes.cutoff, sizes.seed);
    let (radial, filter) = match &variant.radial {
        Some((basis, cutoff)) => {
            let parameters = |name: &str, kind| default_parameters(name, kind, r_cut, n_basis).map_err(Failure::input);
            let (basis, cutoff) = (parameters(basis, RadialKind::Basis)?, parameters(cutoff, RadialKind::Cutoff)?);
            let filter = match variant.filter {
                FilterKind::Mlp => random_mlp(n_basis, sizes.hidden, channels, Activation::ShiftedSoftplus, seed),
                FilterKind::Linear | FilterKind::Tabulated => random_linear(n_basis, channels, seed),
            };
            (Radial { r_cut, n_basis, basis, cutoff }, filter)
        }
        None => (Radial { r_cut, n_basis: 0, ..Radial::default() }, table(variant.message, sizes)?),
    };
    Ok(MessageSpec { message: variant.message, features: sizes.features, radial, filter, seed })
}

/// The filter of the message's usual model, sampled.
fn table(message: Message, sizes: &Sizes) -> Result<Filter<f64>> {
    let filter = match message {
        Message::Cfconv => FilterKind::Mlp,
        Message::Painn => FilterKind::Linear,
    };
    let radial = Some(("gaussian".to_owned(), "cosine".to_owned()));
    let sampled = Variant { message, filter, radial, reduction: Reduction::Receiver };
    let structures = builtin("h2").map_err(Failure::input)?;
    let smallest = Workload { name: String::new(), structures, warnings: Vec::new() };
    let inputs = smallest.inputs(&sampled, sizes)?;
    Ok(ff_kernels::fused_message::tabulate(&sampled, &inputs, 2, TABLE_TOLERANCE)?.filter)
}
