//! Neighbour state of structures that move, on the device from call to call.

use burn::tensor::{Tensor, TensorData};
use ff_model::{Prediction, Reference, Wanted};
use ff_ops::burn_dtype;
use ff_ops::force_scatter::{Systems, edge_vec};
use ff_ops::fused_message::OpError;
use ff_spec::cell_list::{Inputs, NeighborList};
use ff_spec::{Dtype, LaunchError};
use ff_structure::Structure;

use super::DeviceModel;
use super::atoms::{Atoms, Tensors, listed};
use crate::error::NetworkError;
use crate::network::NetworkBackend;

/// A model on a device for structures that move a little from call to call: neighbour lists, which reach further than the cutoff by
/// a skin, stay there with the vectors of their edges, rounded once from f64.
///
/// While [`Reference::moved`] finds a list whole, a call uploads displacements, [n_atoms, 3], and where a cell has changed the
/// strain of each system, [n_systems, 3, 3]; both are taken in f64 and are small, so that edges err as they do when they are
/// uploaded. The lists of all structures are built again, on the host in f64, where one of them may miss a pair: they lie in one
/// array, and what moves at one temperature would else be built again by turns. Edges with d ≥ r_c contribute nothing.
#[derive(Debug)]
pub struct Moving<B: NetworkBackend> {
    model: DeviceModel<B>,
    /// Å.
    skin: f64,
    kept: Option<Kept<B>>,
    /// Lists that were built.
    builds: u64,
    /// Those of them that were the first.
    first: u64,
}

/// Structures as they were when their lists were built.
#[derive(Debug)]
struct Kept<B: NetworkBackend> {
    references: Vec<Reference>,
    atoms: Atoms<B>,
}

impl<B: NetworkBackend> DeviceModel<B> {
    /// The model for structures that move, with lists that reach further than the cutoff by `skin` in Å.
    ///
    /// # Errors
    /// [`NetworkError::Op`] for a skin that is negative or not finite.
    pub fn moving(self, skin: f64) -> Result<Moving<B>, NetworkError> {
        Inputs::check_skin(skin).map_err(|error| OpError::Launch(LaunchError::from(error)))?;
        Ok(Moving { model: self, skin, kept: None, builds: 0, first: 0 })
    }
}

impl<B: NetworkBackend> Moving<B> {
    /// As [`DeviceModel::predict`], whose numbers it has to rounding; faster where structures are those of the last call with their
    /// atoms, or cells that repeat in all directions, a little changed.
    ///
    /// # Errors
    /// As there.
    pub fn predict(&mut self, structures: &[Structure], wanted: Wanted) -> Result<Vec<Prediction>, NetworkError> {
        let Self { model, skin, kept, builds, first } = self;
        if let Some(found) = &*kept
            && let Some(atoms) = found.moved(structures, model)?
        {
            return model.evaluate(&atoms, structures, wanted);
        }
        // The memory of the old ones may be that of the new.
        *kept = None;
        *builds += structures.len() as u64;
        if *first == 0 {
            *first = *builds;
        }
        *kept = Kept::new(structures, model, *skin)?;
        match kept {
            Some(kept) => model.evaluate(&kept.atoms, structures, wanted),
            // As without a skin, with its errors.
            None => model.predict(structures, wanted),
        }
    }

    /// How often the list of a structure was built again; the first ones are not counted.
    pub fn rebuilds(&self) -> u64 {
        self.builds - self.first
    }
}

impl<B: NetworkBackend> Kept<B> {
    /// `None` where no list with a skin can be made.
    fn new(structures: &[Structure], model: &DeviceModel<B>, skin: f64) -> Result<Option<Self>, NetworkError> {
        let cutoff = model.config().cutoff;
        let Ok(list) = listed(structures, cutoff + skin, model.rows()) else { return Ok(None) };
        let mut first = 0;
        let reference = |structure: &Structure| {
            let atoms = first..first + structure.n_atoms();
            first = atoms.end;
            Reference::new(structure, cutoff, skin, shortest(&list, atoms))
        };
        let Some(references) = structures.iter().map(reference).collect::<Option<Vec<_>>>() else { return Ok(None) };
        let atoms = Atoms::of_list(&list, structures, model.dtype, &model.device)?;
        Ok(Some(Self { references, atoms }))
    }

    /// The atoms where they are now; `None` where a list may miss a pair.
    fn moved(&self, structures: &[Structure], model: &DeviceModel<B>) -> Result<Option<Atoms<B>>, NetworkError> {
        let Self { references, atoms: Atoms { n_atoms, n_edges, tensors } } = self;
        if structures.len() != references.len() {
            return Ok(None);
        }
        let (mut displacements, mut strains) = (Vec::with_capacity(3 * n_atoms), Vec::new());
        for (reference, structure) in references.iter().zip(structures) {
            let Some(strain) = reference.moved(structure, &mut displacements) else { return Ok(None) };
            strains.extend_from_slice(strain.as_flattened());
        }
        let (n_atoms, n_edges) = (*n_atoms, *n_edges);
        let moved = |Tensors { graph, systems, species }: &Tensors<B>| -> Result<_, NetworkError> {
            let upload = |values: Vec<f64>, shape: [usize; 2]| upload::<B>(values, shape, model.dtype, &model.device);
            let mut edges = graph.edge_vec().clone();
            if n_edges > 0 {
                if strains.iter().any(|x| *x != 0.0) {
                    let strains = upload(strains, [3 * structures.len(), 3]);
                    edges = strained(edges, strains, systems);
                }
                edges = edge_vec(graph, upload(displacements, [n_atoms, 3]), Some(edges))?;
            }
            let graph = graph.with_edge_vec(edges)?;
            Ok(Tensors { graph, systems: systems.clone(), species: species.clone() })
        };
        let tensors = tensors.as_ref().map(moved).transpose()?;
        Ok(Some(Atoms { n_atoms, n_edges, tensors }))
    }
}

/// The shortest edge of some atoms, Å; infinite where there is none.
fn shortest(list: &NeighborList<f64>, atoms: std::ops::Range<usize>) -> f64 {
    let edges = list.row_ptr[atoms.start] as usize..list.row_ptr[atoms.end] as usize;
    let squares = list.edge_vec[edges].iter().map(|r| r.iter().map(|x| x * x).sum::<f64>());
    squares.fold(f64::INFINITY, f64::min).sqrt()
}

fn upload<B: NetworkBackend>(values: Vec<f64>, shape: [usize; 2], dtype: Dtype, device: &B::Device) -> Tensor<B, 2> {
    let dtype = burn_dtype(dtype);
    Tensor::from_data(TensorData::new(values, shape).convert_dtype(dtype), (device, dtype))
}

/// r (1 + ε) of edges [n_edges, 3] under the strains of their systems, [3 n_systems, 3], which need not be symmetric.
fn strained<B: NetworkBackend>(edges: Tensor<B, 2>, strains: Tensor<B, 2>, systems: &Systems<B>) -> Tensor<B, 2> {
    let of_edges = strains.reshape([systems.n_systems(), 3, 3]).select(0, systems.of_edges().clone());
    // No product of matrices: there would be as many as edges.
    let change = (edges.clone().unsqueeze_dim::<3>(2) * of_edges).sum_dim(1).squeeze_dim::<2>(1);
    edges + change
}
