//! Kernel inputs from structures: neighbours of a batch as one flat list, and seeded random features and weights.

use ff_spec::fused_message::{Activation, Filter, InputError, Inputs, Message, Radial};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{NeighborError, Structure, neighbors};

/// What [`message_inputs`] cannot learn from the structures.
#[derive(Clone, Debug, PartialEq)]
pub struct MessageSpec {
    /// Message.
    pub message: Message,
    /// Feature width F.
    pub features: usize,
    /// Radial functions; `n_basis` is K.
    pub radial: Radial<f64>,
    /// Filter weights, as from [`random_linear`] or [`random_mlp`], or a table.
    pub filter: Filter<f64>,
    /// Seed of the node features.
    pub seed: u64,
}

/// Why structures cannot be made into kernel inputs.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum FeatureError {
    /// No neighbour list for one of the systems.
    #[error("structure `{name}`: {source}")]
    Neighbors {
        /// Its name.
        name: String,
        /// Why.
        source: NeighborError,
    },
    /// The inputs do not fit together or are too large for the index type.
    #[error(transparent)]
    Input(#[from] InputError),
}

/// The directed edges of a batch of systems, i ← j: one flat list, CSR by receiver, no padding.
#[derive(Clone, Debug, PartialEq)]
pub struct Edges {
    /// Where the edges of each receiver begin, and where those of the last end.
    pub row_ptr: Vec<u32>,
    /// Senders, counted over the atoms of all systems.
    pub sender: Vec<u32>,
    /// r_ij = x_j + S·H − x_i in Å, [n_edges, 3].
    pub edge_vec: Vec<f64>,
}

impl Edges {
    /// Atoms of all systems.
    pub fn n_atoms(&self) -> usize {
        self.row_ptr.len().saturating_sub(1)
    }

    /// Edges of the longest row.
    pub fn max_degree(&self) -> usize {
        self.row_ptr.windows(2).map(|row| (row[1] - row[0]) as usize).max().unwrap_or(0)
    }
}

/// The edges of a full list of a batch, with d < `cutoff` in Å.
///
/// # Errors
/// [`FeatureError`]: the first system without a neighbour list, and more atoms or edges than the index type holds.
pub fn edges(structures: &[Structure], cutoff: f64) -> Result<Edges, FeatureError> {
    let (mut row_ptr, mut sender, mut edge_vec) = (vec![0u32], Vec::new(), Vec::new());
    let mut n_atoms = 0usize;
    for structure in structures {
        let list = neighbors(&structure.positions, structure.cell, structure.pbc, cutoff)
            .map_err(|source| FeatureError::Neighbors { name: structure.name.clone(), source })?;
        let fits = |what: &'static str, found: usize| {
            u32::try_from(found).map_err(|_| InputError::TooLarge { what, found: found as u64 })
        };
        let (first_atom, first_edge) = (fits("n_atoms", n_atoms)?, fits("n_edges", sender.len())?);
        n_atoms += structure.n_atoms();
        fits("n_atoms", n_atoms)?;
        fits("n_edges", sender.len() + list.n_edges())?;
        row_ptr.extend(list.row_ptr[1..].iter().map(|end| first_edge + end));
        sender.extend(list.sender.iter().map(|j| first_atom + j));
        edge_vec.extend_from_slice(list.edge_vec.as_flattened());
    }
    Ok(Edges { row_ptr, sender, edge_vec })
}

/// The inputs of one `fused_message` call on a batch of systems: one flat list of atoms and edges, no padding.
///
/// `cutoff` in Å is the neighbour lists' and may exceed `radial.r_cut` by a skin. Node features (and vectors, for PaiNN) are
/// uniform with zero mean and unit variance; they depend on the seed and on their place alone.
///
/// # Errors
/// [`FeatureError`]: the first system without a neighbour list, or what [`Inputs::check`] objects to.
pub fn message_inputs(structures: &[Structure], cutoff: f64, spec: &MessageSpec) -> Result<Inputs<f64>, FeatureError> {
    let edges = edges(structures, cutoff)?;
    let n_atoms = edges.n_atoms();
    let Edges { row_ptr, sender, edge_vec } = edges;
    let per_atom = spec.features.saturating_mul(3);
    if n_atoms.saturating_mul(per_atom) > u32::MAX as usize {
        // Said by `check` too, but before that much memory is asked for.
        let found = n_atoms.saturating_mul(per_atom) as u64;
        return Err(InputError::TooLarge { what: "n_atoms × 3F", found }.into());
    }
    let n_vectors = match spec.message {
        Message::Cfconv => 0,
        Message::Painn => n_atoms * per_atom,
    };
    let inputs = Inputs {
        message: spec.message,
        n_atoms,
        features: spec.features,
        row_ptr,
        sender,
        edge_vec,
        nodes: uniform(n_atoms * spec.message.parts() * spec.features, 1.0, spec.seed, Stream::Nodes),
        vectors: uniform(n_vectors, 1.0, spec.seed, Stream::Vectors),
        radial: spec.radial.clone(),
        filter: spec.filter.clone(),
    };
    inputs.check()?;
    Ok(inputs)
}

/// Random weights of a linear filter, `n_basis` = K to `channels` = C, of variance 1/K, so that filters are of order one.
pub fn random_linear(n_basis: usize, channels: usize, seed: u64) -> Filter<f64> {
    Filter::Linear {
        a: weights(n_basis, n_basis * channels, seed, Stream::Weights1),
        b: weights(n_basis, channels, seed, Stream::Bias1),
    }
}

/// Random weights of a filter with one hidden layer, K to H to C, of variances 1/K and 1/H.
pub fn random_mlp(n_basis: usize, hidden: usize, channels: usize, activation: Activation, seed: u64) -> Filter<f64> {
    Filter::Mlp {
        hidden,
        a1: weights(n_basis, n_basis * hidden, seed, Stream::Weights1),
        b1: weights(n_basis, hidden, seed, Stream::Bias1),
        a2: weights(hidden, hidden * channels, seed, Stream::Weights2),
        b2: weights(hidden, channels, seed, Stream::Bias2),
        activation,
    }
}

/// Each tensor has a random stream of its own, so that the size of one does not change another.
#[derive(Clone, Copy)]
enum Stream {
    Nodes,
    Vectors,
    Weights1,
    Bias1,
    Weights2,
    Bias2,
}

fn weights(fan_in: usize, n: usize, seed: u64, stream: Stream) -> Vec<f64> {
    uniform(n, 1.0 / (fan_in.max(1) as f64).sqrt(), seed, stream)
}

/// `n` numbers of zero mean and the given standard deviation.
///
/// Uniform rather than normal: exact arithmetic on every platform, and no outliers that would dominate a relative error.
fn uniform(n: usize, deviation: f64, seed: u64, stream: Stream) -> Vec<f64> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(stream as u64);
    let half_width = deviation * 3f64.sqrt();
    (0..n).map(|_| half_width * (2.0 * rng.random::<f64>() - 1.0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problems::{molecules, rock_salt};

    fn spec(message: Message, filter: Filter<f64>) -> MessageSpec {
        let radial = Radial { r_cut: 5.0, n_basis: 6, ..Radial::default() };
        MessageSpec { message, features: 4, radial, filter, seed: 3 }
    }

    #[test]
    fn a_batch_is_its_systems_one_after_the_other() {
        let mut systems = molecules();
        systems.insert(3, rock_salt(1));
        systems.push(Structure::open("empty", Vec::new(), Vec::new()));
        let batch = message_inputs(&systems, 5.0, &spec(Message::Painn, random_linear(6, 12, 1))).expect("inputs");
        assert_eq!(batch.n_atoms, 48);
        assert_eq!((batch.nodes.len(), batch.vectors.len()), (48 * 12, 48 * 12));
        let (mut atom, mut edge) = (0, 0);
        for system in &systems {
            let list = neighbors(&system.positions, system.cell, system.pbc, 5.0).expect("a list");
            let rows = &batch.row_ptr[atom..=atom + system.n_atoms()];
            assert_eq!(rows.iter().map(|e| e - edge as u32).collect::<Vec<_>>(), list.row_ptr, "{}", system.name);
            let range = edge..edge + list.n_edges();
            assert!(batch.sender[range.clone()].iter().map(|j| j - atom as u32).eq(list.sender.iter().copied()));
            assert_eq!(&batch.edge_vec[3 * range.start..3 * range.end], list.edge_vec.as_flattened());
            (atom, edge) = (atom + system.n_atoms(), range.end);
        }
        assert_eq!((atom, edge), (batch.n_atoms, batch.n_edges()));
    }

    #[test]
    fn random_tensors_are_seeded_and_scaled() {
        let mlp = || random_mlp(6, 5, 4, Activation::ShiftedSoftplus, 9);
        let inputs = |seed| {
            let spec = MessageSpec { seed, ..spec(Message::Cfconv, mlp()) };
            message_inputs(&[rock_salt(4)], 5.0, &spec).expect("inputs")
        };
        assert_eq!(inputs(1), inputs(1));
        assert_ne!(inputs(1).nodes, inputs(2).nodes);
        let nodes = inputs(1).nodes;
        let mean = nodes.iter().sum::<f64>() / nodes.len() as f64;
        let variance = nodes.iter().map(|x| x * x).sum::<f64>() / nodes.len() as f64;
        // 2048 samples: four standard errors of the mean, and of the variance of a uniform distribution.
        assert!(mean.abs() < 0.09 && (variance - 1.0).abs() < 0.08, "mean {mean}, variance {variance}");
        let Filter::Linear { a, .. } = random_linear(400, 10, 0) else { panic!("a linear filter") };
        let variance = a.iter().map(|x| x * x).sum::<f64>() / a.len() as f64;
        assert!((variance * 400.0 - 1.0).abs() < 0.06, "variance {variance} is not 1/400");
    }

    #[test]
    fn errors_name_the_structure_or_the_tensor() {
        let wrong = spec(Message::Painn, random_linear(6, 4, 1));
        let error = message_inputs(&molecules(), 5.0, &wrong).expect_err("too few channels").to_string();
        assert_eq!(error, "`A` has 24 elements, expected 72 for shape [6, 12]");
        let mut broken = molecules();
        broken[1].positions[2][0] = f64::NAN;
        let right = spec(Message::Cfconv, random_linear(6, 4, 1));
        let error = message_inputs(&broken, 5.0, &right).expect_err("NaN").to_string();
        assert!(error.starts_with("structure `h2o`: position of atom 2 (counted from 0) is [NaN,"), "{error}");
    }
}
