//! Networks of Burn against the path without a tape, files, and differences.
//!
//! A target of its own: on host alone it is built in a fraction of the time that the tests on all backends take.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{Tensor, TensorData};
use burn_autodiff::Autodiff;
use burn_flex::Flex;
use ff_kernels::host::layers::Activation;
use ff_model::config::{Aggregation, Basis, Config, CutoffFn, Head, Kind};
use ff_model::units::{Energy, Length};
use ff_model::weights::{Interaction, Linear, Weights};
use ff_model::{HostModel, Model, Wanted};
use ff_nn::{Batch, Evaluation, Network, NetworkError, Setup, evaluate, weights};
use ff_spec::Dtype;
use ff_structure::Structure;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

type Once = Autodiff<Flex>;
type Twice = Autodiff<Once>;

const ROWS: usize = 10;

fn painn() -> Config {
    Config {
        kind: Kind::Painn,
        features: 8,
        filters: 8,
        layers: 2,
        n_basis: 6,
        basis: Basis::Gaussian,
        cutoff: 4.0,
        cutoff_fn: CutoffFn::Cosine,
        activation: Activation::Silu,
        epsilon: 1e-8,
        shared_filters: false,
        shared_interactions: false,
        head: Head { layers: vec![8, 4, 1], activation: Activation::Silu },
        aggregation: Aggregation::Sum,
        energy_unit: Energy::ElectronVolt,
        length_unit: Length::Angstrom,
        offset_per_atom: -3.25,
        elements: vec![1, 6, 8],
    }
}

fn schnet() -> Config {
    let head = Head { layers: vec![8, 4, 1], activation: Activation::ShiftedSoftplus };
    Config { kind: Kind::Schnet, filters: 6, activation: Activation::ShiftedSoftplus, head, ..painn() }
}

/// What differs from the above in everything that can be chosen.
fn others() -> [Config; 3] {
    let units = |config| Config {
        basis: Basis::Bessel,
        aggregation: Aggregation::Avg,
        energy_unit: Energy::KilocaloriePerMole,
        length_unit: Length::Bohr,
        shared_interactions: true,
        head: Head { layers: vec![8, 5, 5, 1], activation: Activation::Tanh },
        ..config
    };
    let centred = Config { basis: Basis::GaussianCentered, shared_filters: true, ..painn() };
    [units(painn()), units(Config { activation: Activation::Silu, ..schnet() }), centred]
}

/// Random weights whose biases are not zero, and energies of atoms.
fn random(config: &Config) -> Weights {
    let mut weights = weights::random(config, ROWS, 7);
    let mut rng = ChaCha8Rng::seed_from_u64(8);
    let mut shift = |linear: &mut Linear| linear.bias.iter_mut().for_each(|x| *x = rng.random_range(-0.5..0.5));
    for interaction in &mut weights.interactions {
        match interaction {
            Interaction::Painn { filter, context, update, .. } => {
                context.iter_mut().chain(update).chain([filter]).for_each(&mut shift);
            }
            Interaction::Schnet { filter, output, .. } => filter.iter_mut().chain(output).for_each(&mut shift),
        }
    }
    weights.head.iter_mut().for_each(&mut shift);
    // Layers that share weights have those of the first again.
    let first = weights.interactions[0].clone();
    for other in &mut weights.interactions {
        let own = other.clone();
        if config.shared_interactions {
            *other = first.clone();
        }
        if let (
            Interaction::Painn { filter: of_first, .. },
            Interaction::Painn { filter: own, .. },
            Interaction::Painn { filter, .. },
        ) = (&first, own, other)
        {
            *filter = if config.shared_filters { of_first.clone() } else { own };
        }
    }
    weights.atomref = (0..ROWS).map(|z| -10.0 * z as f64).collect();
    weights
}

/// Molecules of five to nine atoms, no closer than 0.9 Å; a lone atom; a sheared cell whose atoms see images of their own.
fn structures() -> Vec<Structure> {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut jittered = |n: usize| -> (Vec<u8>, Vec<[f64; 3]>) {
        let sites = (0..n).map(|i| [i % 3, i / 3 % 3, i / 9].map(|at| 1.4 * at as f64));
        let positions = sites.map(|site| site.map(|x| x + rng.random_range(-0.25..0.25))).collect();
        ((0..n).map(|i| [6, 1, 8, 1][i % 4]).collect(), positions)
    };
    let mut all: Vec<Structure> = [5, 7, 9]
        .map(|n| {
            let (species, positions) = jittered(n);
            Structure::open(format!("molecule of {n}"), species, positions)
        })
        .into();
    all.push(Structure::open("atom", vec![8], vec![[0.5; 3]]));
    let (species, positions) = jittered(6);
    all.push(Structure::periodic("cell", species, positions, [[4.3, 0.0, 0.0], [0.7, 3.1, 0.0], [-0.4, 0.5, 3.3]]));
    all
}

fn numbers<B: Backend, const D: usize>(tensor: &Tensor<B, D>) -> Vec<f64> {
    tensor.to_data().iter::<f64>().collect()
}

fn setup_and_network<A>(config: &Config, weights: &Weights) -> (Setup<A>, Network<A::InnerBackend>)
where
    A: AutodiffBackend + ff_nn::NetworkBackend,
{
    let device = Default::default();
    let setup = Setup::new(config, weights, &device).unwrap();
    (setup, Network::from_weights(config, weights, Dtype::F64, &device))
}

fn batch<A: ff_nn::NetworkBackend>(structures: &[Structure], cutoff: f64) -> Batch<A> {
    Batch::new(structures, cutoff, ROWS, Dtype::F64, &Default::default()).unwrap()
}

#[test]
fn energies_forces_and_stress_are_those_without_a_tape() {
    let structures = structures();
    for config in [painn(), schnet()].into_iter().chain(others()) {
        let weights = random(&config);
        let (setup, network) = setup_and_network::<Once>(&config, &weights);
        let found = evaluate(&network, &setup, &batch(&structures, config.cutoff), true).unwrap();
        let (energies, forces) = (numbers(&found.energies), numbers(&found.forces));
        let strain = numbers(&found.strain.unwrap());

        let file = network.to_file(&Setup::<Flex>::new(&config, &weights, &Default::default()).unwrap());
        let host = HostModel::<f64>::new(&Model::from_file(&file).unwrap()).unwrap();
        let expected = host.predict(&structures, Wanted::FORCES).unwrap();
        let what = config.summary();
        let mut first = 0;
        for (system, (structure, expected)) in structures.iter().zip(&expected).enumerate() {
            let energy = energies[system] + setup.offset(structure);
            let error = (energy - expected.energy).abs();
            assert!(error <= 1e-10 * expected.energy.abs(), "{what}, {}: {energy} and {expected:?}", structure.name);
            let own = &forces[3 * first..3 * (first + structure.n_atoms())];
            for (found, expected) in own.iter().zip(expected.forces.as_flattened()) {
                assert!((found - expected).abs() <= 1e-9, "{what}, {}: force {found} and {expected}", structure.name);
            }
            first += structure.n_atoms();
            if let (Some(stress), Some([a, b, c])) = (expected.stress, structure.cell) {
                let volume = a[0] * b[1] * c[2];
                for (found, expected) in strain[9 * system..9 * system + 9].iter().zip(stress.as_flattened()) {
                    assert!((found / volume - expected).abs() <= 1e-9, "{what}: stress {found} and {expected}");
                }
            }
        }
        assert_eq!(first, batch::<Once>(&structures, config.cutoff).n_atoms());
        assert!(forces.iter().any(|force| force.abs() > 1e-3), "{what}: all forces vanish");
    }
}

#[test]
fn a_file_holds_the_weights() {
    for config in [painn(), schnet()] {
        let weights = random(&config);
        let (setup, _) = setup_and_network::<Once>(&config, &weights);
        let network = Network::<Once>::from_weights(&config, &weights, Dtype::F64, &Default::default());
        let model = Model::from_file(&network.to_file(&setup)).unwrap();
        assert_eq!(*model.config(), config);
        let Weights { embedding, radial, interactions, head, atomref } = model.weights();
        assert_eq!(*embedding, weights.embedding);
        assert_eq!(*interactions, weights.interactions);
        assert_eq!((head, atomref), (&weights.head, &weights.atomref));
        // Widths are stored, and a root and a square lie between them and what kernels read.
        assert_eq!(radial.basis["mu"], weights.radial.basis["mu"]);
        for (found, expected) in radial.basis["gamma"].iter().zip(&weights.radial.basis["gamma"]) {
            assert!((found / expected - 1.0).abs() < 1e-14, "{found} and {expected}");
        }
    }
    // Where units or sharing stand between, to rounding.
    for config in others() {
        let weights = random(&config);
        let (setup, _) = setup_and_network::<Once>(&config, &weights);
        let network = Network::<Once>::from_weights(&config, &weights, Dtype::F64, &Default::default());
        let model = Model::from_file(&network.to_file(&setup)).unwrap();
        let (found, expected) = (flat(model.weights()), flat(&weights));
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(&expected) {
            assert!((found - expected).abs() <= 1e-14 * expected.abs(), "{found} and {expected}");
        }
        assert!((model.config().cutoff / config.cutoff - 1.0).abs() < 1e-14);
    }
}

/// All weights of interactions and head.
fn flat(weights: &Weights) -> Vec<f64> {
    let mut all = Vec::new();
    let mut push = |linear: &Linear| all.extend(linear.weight.iter().chain(&linear.bias).copied());
    for interaction in &weights.interactions {
        match interaction {
            Interaction::Painn { filter, context, mix, update } => {
                context.iter().chain(update).chain([filter, mix]).for_each(&mut push);
            }
            Interaction::Schnet { inputs, filter, output } => {
                filter.iter().chain(output).chain([inputs]).for_each(&mut push);
            }
        }
    }
    weights.head.iter().for_each(&mut push);
    all
}

/// Gradients of every parameter, in the order in which a module is visited.
struct Collect<'a, B: AutodiffBackend> {
    found: &'a B::Gradients,
    gradients: Vec<Vec<f64>>,
}

impl<B: AutodiffBackend> ModuleVisitor<B> for Collect<'_, B> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        let gradient = param.val().grad(self.found).expect("the loss depends on every parameter");
        self.gradients.push(numbers(&gradient));
    }
}

/// Adds `by` to element `at` of parameter `tensor`.
struct Shift {
    tensor: usize,
    at: usize,
    by: f64,
    visited: usize,
}

impl<B: Backend> ModuleMapper<B> for Shift {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        self.visited += 1;
        if self.visited - 1 != self.tensor {
            return param;
        }
        param.map(|tensor| {
            let mut values = numbers(&tensor);
            values[self.at] += self.by;
            Tensor::from_data(TensorData::new(values, tensor.dims()), (&tensor.device(), tensor.dtype()))
        })
    }
}

/// A loss on energies, forces and strain: in every parameter its largest gradient is a difference of the loss.
#[test]
fn a_loss_on_forces_has_gradients_in_all_weights() {
    let structures = &structures()[..];
    for config in [painn(), schnet()] {
        let (setup, network) = setup_and_network::<Twice>(&config, &random(&config));
        let batch = batch::<Twice>(structures, config.cutoff);
        let loss = |network: &Network<Once>| {
            let Evaluation { energies, forces, strain } = evaluate(network, &setup, &batch, true).unwrap();
            let (energies, forces, strain) = (energies - 0.3, forces + 0.2, strain.unwrap() - 0.1);
            (energies.clone() * energies).sum() + (forces.clone() * forces).sum() + (strain.clone() * strain).sum()
        };
        let found = loss(&network).backward();
        let mut collect = Collect::<Once> { found: &found, gradients: Vec::new() };
        network.visit(&mut collect);
        let gradients = collect.gradients;
        // Of the embedding, of filters and interactions, of the head.
        let expected = match config.kind {
            Kind::Painn => 1 + 2 * (2 + 4 + 1 + 4) + 4,
            Kind::Schnet => 1 + 2 * (4 + 1 + 4) + 4,
        };
        assert_eq!(gradients.len(), expected);
        for (tensor, gradient) in gradients.iter().enumerate() {
            let largest = |best: usize, at: usize| if gradient[at].abs() > gradient[best].abs() { at } else { best };
            let at = (0..gradient.len()).fold(0, largest);
            let moved = |by: f64| numbers(&loss(&network.clone().map(&mut Shift { tensor, at, by, visited: 0 })))[0];
            let h = 1e-4;
            let difference = (8.0 * (moved(h) - moved(-h)) - (moved(2.0 * h) - moved(-2.0 * h))) / (12.0 * h);
            let found = gradient[at];
            assert!(found.abs() > 1e-6, "{}: parameter {tensor} has no gradient", config.kind);
            assert!(
                (found - difference).abs() <= 1e-6 * found.abs().max(1e-2),
                "{}: parameter {tensor}[{at}]: {found} and {difference}",
                config.kind
            );
        }
    }
}

#[test]
fn what_cannot_be_computed_is_named() {
    let of = |structure: &Structure| {
        Batch::<Flex>::new([structure], 4.0, ROWS, Dtype::F64, &Default::default()).map(|_| ()).unwrap_err()
    };
    let heavy = Structure::open("", vec![1, 14], vec![[0.0; 3], [1.0; 3]]);
    assert_eq!(of(&heavy), NetworkError::Element { structure: 0, atom: 1, z: 14, rows: ROWS });
    assert_eq!(
        of(&heavy).to_string(),
        "structure 0: atom 1 has atomic number 14, expected one with an embedding, 1 to 9"
    );
    let twice = Structure::open("", vec![1; 3], vec![[0.0; 3], [1.0; 3], [1.0; 3]]);
    assert_eq!(of(&twice), NetworkError::Coincident { structure: 0, atoms: [1, 2] });
    let endless = Structure { pbc: [true; 3], ..heavy };
    assert!(matches!(of(&endless), NetworkError::Neighbors { structure: 0, .. }));
}
