//! A training as a whole, on frames of a pair potential.

use std::path::Path;

use burn_autodiff::Autodiff;
use burn_flex::Flex;
use ff_nn::{Network, Setup, weights};
use ff_spec::Dtype;
use ff_structure::Structure;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::config::{Course, LossConfig, ModelConfig, TrainConfig};
use crate::direct::Direct;
use crate::loss::{Fitted, Scales, filled, flatten, gradient, loss, tracked};
use crate::run::{Ended, Files, Row, Training, Watch};
use crate::split::{Sample, Split};
use crate::{Labelled, TrainError};

/// Water-like molecules, shaken, with energies and forces of Σ (d − 1.2)² over pairs, in eV and Å.
fn frames(n: usize, seed: u64) -> Vec<Labelled> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let rest = [[0.0, 0.0, 0.1], [0.9, 0.1, 0.0], [-0.3, 0.9, 0.0], [0.2, -0.4, 1.0]];
    let species = vec![8, 1, 1, 6];
    let frame = |number: usize| {
        let positions: Vec<[f64; 3]> = rest.iter().map(|x| x.map(|x| x + rng.random_range(-0.2..0.2))).collect();
        let (mut energy, mut forces) = (-76.0, vec![[0.0; 3]; positions.len()]);
        for i in 0..positions.len() {
            for j in 0..i {
                let r: [f64; 3] = std::array::from_fn(|k| positions[j][k] - positions[i][k]);
                let d = r.iter().map(|x| x * x).sum::<f64>().sqrt();
                energy += (d - 1.2) * (d - 1.2);
                for (k, r) in r.into_iter().enumerate() {
                    let f = 2.0 * (d - 1.2) * r / d;
                    forces[i][k] += f;
                    forces[j][k] -= f;
                }
            }
        }
        let structure = Structure::open("", species.clone(), positions);
        Labelled { structure, frame: number + 1, energy: Some(energy), forces: Some(forces), stress: None }
    };
    (0..n).map(frame).collect()
}

fn samples(frames: Vec<Labelled>) -> Vec<Sample> {
    frames.into_iter().map(|frame| Sample { frame, path: "frames.extxyz".into() }).collect()
}

fn split(train: usize) -> Split {
    let (train, validation) = (samples(frames(train, 1)), samples(frames(2, 2)));
    Split { train, validation, ..Split::default() }
}

/// A model of a few hundred weights.
fn config(kind: &str) -> TrainConfig {
    let text = format!(
        "[data]\ntrain = \"frames.extxyz\"\n[model]\nkind = \"{kind}\"\nfeatures = 8\nlayers = 2\nn_basis = 6\n\
         cutoff = 3.0\n[optimizer]\nema = 0.9\n[run]\nbatch = 3\npart_atoms = 4\nepochs = 4\ncheckpoint_seconds = 1e9"
    );
    TrainConfig::parse(&text, "config.toml").unwrap_or_else(|error| panic!("{error}"))
}

/// Asks a training to end after a step.
#[derive(Default)]
struct Until {
    stop: Option<u64>,
    step: u64,
    rows: Vec<Row>,
}

impl Watch for Until {
    fn stop(&mut self) -> bool {
        self.stop == Some(self.step)
    }

    fn step(&mut self, step: u64, _: u64, _: f64) {
        self.step = step;
    }

    fn epoch(&mut self, row: &Row, _: u64) {
        self.rows.push(row.clone());
    }
}

/// Lines of a log without what the clock says.
fn lines(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).expect("a log");
    text.lines().map(|line| line.split(",\"seconds\"").next().unwrap_or_default().to_owned()).collect()
}

#[test]
fn a_training_that_was_interrupted_ends_with_the_same_bits_in_any_number_of_threads() {
    let folder = tempfile::tempdir().expect("a folder");
    let files = |name: &str| Files {
        checkpoint: Some(folder.path().join(format!("{name}.checkpoint"))),
        log: Some(folder.path().join(format!("{name}.jsonl"))),
    };
    let mut config = config("painn");
    for kind in [Course::Cosine, Course::Plateau] {
        config.schedule.kind = kind;
        config.schedule.patience = 0;
        let split = split(7);
        let mut whole = Training::new(&config, &split, 2).unwrap();
        assert_eq!(whole.run(&files("whole"), &mut Until::default()).unwrap(), Ended::Done);
        assert_eq!(whole.state().progress.step, 4 * 3);

        // Ctrl-C in the midst of an epoch and at its end, each time into a process of its own.
        for (from, until) in [(0, 2), (2, 3), (3, 7)] {
            let mut training = Training::new(&config, &split, 1).unwrap();
            let checkpoint = files("parts").checkpoint.expect("one");
            assert_eq!(training.resume(&checkpoint).unwrap(), from > 0);
            assert_eq!(training.state().progress.step, from);
            let mut watch = Until { stop: Some(until), ..Until::default() };
            assert_eq!(training.run(&files("parts"), &mut watch).unwrap(), Ended::Interrupted);
        }
        // Killed two steps and a line of the log after its last checkpoint.
        let mut killed = Training::new(&config, &split, 1).unwrap();
        killed.resume(&files("parts").checkpoint.expect("one")).unwrap();
        let beyond = Files { checkpoint: None, ..files("parts") };
        killed.run(&beyond, &mut Until { stop: Some(9), ..Until::default() }).unwrap();
        drop(killed);
        let mut last = Training::new(&config, &split, 3).unwrap();
        assert!(last.resume(&files("parts").checkpoint.expect("one")).unwrap());
        assert_eq!(last.state().progress.step, 7);
        assert_eq!(last.run(&files("parts"), &mut Until::default()).unwrap(), Ended::Done);
        assert_eq!((&last.state().weights, &last.state().best), (&whole.state().weights, &whole.state().best));
        let [whole, parts] = ["whole", "parts"].map(|name| lines(&files(name).log.expect("one")));
        assert_eq!((whole.len(), whole), (5, parts));
        std::fs::remove_file(files("parts").checkpoint.expect("one")).expect("a checkpoint");
    }
}

#[test]
fn a_checkpoint_of_another_run_is_refused_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let checkpoint = folder.path().join("a.checkpoint");
    let split = split(4);
    Training::new(&config("painn"), &split, 1).unwrap().save(&checkpoint).unwrap();
    let reason = |config: &TrainConfig, split: &Split| {
        let error = Training::new(config, split, 1).unwrap().resume(&checkpoint).unwrap_err();
        error.to_string().replace(&checkpoint.display().to_string(), "a")
    };
    let mut other = config("painn");
    other.model.features = 16;
    let expected = "a: it is of a run with another `model.features`: expected 16, found 8";
    assert_eq!(reason(&other, &split), expected);
    other = config("painn");
    other.optimizer.rate = 0.5;
    assert!(reason(&other, &split).starts_with("a: it is of a run with another `optimizer.rate`: expected 0.5"));
    let mut moved = split.clone();
    moved.train[0].frame.structure.positions[0][0] += 1e-9;
    assert!(reason(&config("painn"), &moved).starts_with("a: it is of a run with another `data.train`"));
    std::fs::write(&checkpoint, "no checkpoint").expect("a file");
    assert!(reason(&config("painn"), &split).starts_with("a: expected a checkpoint, found "));
}

#[test]
fn a_few_frames_are_learned_by_heart() {
    for kind in ["painn", "schnet"] {
        let mut config = config(kind);
        config.optimizer.rate = 1e-2;
        config.optimizer.ema = 0.0;
        config.run.epochs = 800;
        config.schedule.warmup_steps = 10;
        let mut split = split(3);
        split.validation = split.train.clone();
        let mut training = Training::new(&config, &split, 1).unwrap();
        let mut watch = Until::default();
        assert_eq!(training.run(&Files::default(), &mut watch).unwrap(), Ended::Done);
        let (first, last) = (watch.rows[0].loss, watch.rows[800].loss);
        // Errors of a hundredth.
        assert!(last < 1e-4 * first, "{kind}: from {first} to {last}");
        let sums = crate::run::errors(&training.best(), &split.train).unwrap();
        let best = watch.rows.iter().map(|row| row.loss).fold(f64::INFINITY, f64::min);
        let found = 100.0 * sums.energy.rmse().unwrap().powi(2) + sums.forces.components.rmse().unwrap().powi(2);
        assert!((found - best).abs() <= 1e-12 * best.max(1.0), "{kind}: the best weights are of {best}, found {found}");
    }
}

#[test]
fn a_loss_that_is_not_finite_ends_a_training_with_the_last_good_weights() {
    let mut config = config("painn");
    config.optimizer.rate = 1e30;
    config.schedule.warmup_steps = 0;
    let mut training = Training::new(&config, &split(6), 1).unwrap();
    let begin = training.state().best.clone();
    assert_eq!(training.run(&Files::default(), &mut Until::default()).unwrap(), Ended::Diverged { step: 2 });
    assert_eq!(training.state().best, begin);
    assert_eq!(training.state().progress.step, 1);
}

/// A molecule, two crystals and an atom, each with labels that others have not.
fn labelled() -> Vec<Fitted> {
    let mut frames = frames(3, 4);
    frames[1].energy = None;
    frames[2].forces = None;
    for frame in &mut frames[1..] {
        frame.structure.cell = Some([[4.0, 0.2, 0.0], [0.0, 4.1, 0.3], [0.1, 0.0, 3.9]]);
        frame.structure.pbc = [true; 3];
    }
    frames[2].stress = Some([[0.1, 0.02, 0.0], [0.02, -0.2, 0.03], [0.0, 0.03, 0.05]]);
    // An atom that has no neighbours.
    let structure = Structure::open("", vec![1], vec![[0.0; 3]]);
    frames.push(Labelled { structure, frame: 4, energy: Some(-76.3), forces: Some(vec![[0.0; 3]]), stress: None });
    frames.iter().map(|frame| Fitted::new(frame, -76.5, 3.0, 9).unwrap()).collect()
}

/// Gradients of a loss with all its terms, and with labels that are missing, against central differences in f64.
#[test]
fn gradients_are_those_of_differences() {
    type Once = Autodiff<Flex>;
    type Twice = Autodiff<Once>;
    let device = Default::default();
    for kind in ["painn", "schnet"] {
        let model = config(kind).model(vec![1, 6, 8]).unwrap();
        let begin = weights::random(&model, 9, 3);
        let setup = Setup::<Twice>::new(&model, &begin, &device).unwrap();
        let fitted = labelled();
        let fitted: Vec<&Fitted> = fitted.iter().collect();
        let weights = LossConfig { energy: 30.0, forces: 1.0, stress: 500.0, features: 0.0 };
        let scales = Scales::new(&weights, fitted.iter().copied());
        let network = Network::<Once>::from_weights(&model, &begin, Dtype::F64, &device);
        let (values, _) = flatten::<_, f64>(&network);
        let (found, terms) = gradient::<Twice, f64>(&network, &setup, &fitted, &scales, Dtype::F64).unwrap();
        assert!(terms[..3].iter().all(|term| *term > 0.0), "{terms:?}");
        let at = |values: &[f64]| -> f64 {
            let network = tracked(filled(network.clone(), values));
            loss::<Twice>(&network, &setup, &fitted, &scales, Dtype::F64).unwrap().1.iter().sum()
        };
        let norm = found.iter().map(|g| g * g).sum::<f64>().sqrt();
        // Along the gradient, and in every 37th weight.
        let directions = (0..values.len()).step_by(37).map(|k| {
            let mut direction = vec![0.0; values.len()];
            direction[k] = 1.0;
            direction
        });
        for direction in std::iter::once(found.iter().map(|g| g / norm).collect()).chain(directions) {
            let h = 1e-5;
            let moved = |h: f64| values.iter().zip(&direction).map(|(w, d)| w + h * d).collect::<Vec<f64>>();
            let expected = (at(&moved(h)) - at(&moved(-h))) / (2.0 * h);
            let slope: f64 = found.iter().zip(&direction).map(|(g, d)| g * d).sum();
            // Differences are good to h² and rounding over h.
            assert!((slope - expected).abs() < 1e-6 * norm, "{kind}: {slope}, expected {expected} of {norm}");
        }
    }
}

/// The gradient of a PaiNN that is written out, against that of Burn's tape, in f64.
#[test]
fn gradients_without_a_tape_are_those_of_the_tape() {
    type Once = Autodiff<Flex>;
    type Twice = Autodiff<Once>;
    let device = Default::default();
    for (layers, shared, head) in
        [(3, [false, false], None), (2, [true, true], Some(vec![5, 3])), (1, [false, false], None)]
    {
        let mut config = config("painn");
        config.model.layers = layers;
        [config.model.shared_filters, config.model.shared_interactions] = shared;
        config.model.head = head;
        let model = config.model(vec![1, 6, 8]).unwrap();
        let begin = weights::random(&model, 9, 3);
        let setup = Setup::<Twice>::new(&model, &begin, &device).unwrap();
        let fitted = labelled();
        let fitted: Vec<&Fitted> = fitted.iter().collect();
        let weights = LossConfig { energy: 30.0, forces: 1.0, stress: 500.0, features: 0.0 };
        let scales = Scales::new(&weights, fitted.iter().copied());
        let network = Network::<Once>::from_weights(&model, &begin, Dtype::F64, &device);
        // Biases that begin as zero test nothing.
        let (mut values, _) = flatten::<_, f64>(&network);
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        values.iter_mut().for_each(|w| *w += rng.random_range(-0.1..0.1));
        let network = tracked(filled(network, &values));
        let (expected, terms) = gradient::<Twice, f64>(&network, &setup, &fitted, &scales, Dtype::F64).unwrap();
        let direct = Direct::<f64>::new(&model, setup.radial(), 9, None).expect("a PaiNN");
        let (found, own) = direct.gradient(&direct.load(&values), &fitted, &scales);
        assert_eq!(found.len(), expected.len());
        let largest = expected.iter().fold(0.0, |most: f64, g| most.max(g.abs()));
        let off = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(off < 1e-11 * largest, "{layers} layers: off by {off} of {largest}");
        assert!((0..3).all(|k| (terms[k] - own[k]).abs() < 1e-12 * terms[k]), "{terms:?}, {own:?}");
        // In f32 it is what rounding leaves, over a few hundred sums.
        let values: Vec<f32> = values.iter().map(|w| *w as f32).collect();
        let direct = Direct::<f32>::new(&model, setup.radial(), 9, None).expect("a PaiNN");
        let (found, _) = direct.gradient(&direct.load(&values), &fitted, &scales);
        let off = found.iter().zip(&expected).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max);
        assert!(off < 1e-4 * largest, "{layers} layers in f32: off by {off} of {largest}");
    }
}

#[test]
fn parts_add_up_to_the_batch() {
    type Once = Autodiff<Flex>;
    type Twice = Autodiff<Once>;
    let device = Default::default();
    let model = config("painn").model(vec![1, 6, 8]).unwrap();
    let begin = weights::random(&model, 9, 3);
    let setup = Setup::<Twice>::new(&model, &begin, &device).unwrap();
    let fitted: Vec<Fitted> = frames(3, 4).iter().map(|frame| Fitted::new(frame, -76.5, 3.0, 9).unwrap()).collect();
    let fitted: Vec<&Fitted> = fitted.iter().collect();
    let scales = Scales::new(&LossConfig::default(), fitted.iter().copied());
    let network = Network::<Once>::from_weights(&model, &begin, Dtype::F64, &device);
    let of = |part: &[&Fitted]| gradient::<Twice, f64>(&network, &setup, part, &scales, Dtype::F64).unwrap();
    let ((all, sum), (first, one), (second, two)) = (of(&fitted), of(&fitted[..1]), of(&fitted[1..]));
    let norm = all.iter().map(|g| g * g).sum::<f64>().sqrt();
    let off = all.iter().zip(first.iter().zip(second)).map(|(all, (a, b))| (all - a - b).abs()).fold(0.0, f64::max);
    assert!(off < 1e-12 * norm, "{off} of {norm}");
    assert!((0..3).all(|k| (sum[k] - one[k] - two[k]).abs() <= 1e-12 * sum[k]));
}

#[test]
fn keys_that_are_not_known_are_named_with_the_nearest() {
    let reason = |text: &str| TrainConfig::parse(text, "a.toml").unwrap_err().to_string();
    let expected =
        "a.toml: unknown key `modle`, expected one of data, model, loss, optimizer, schedule, run (nearest: `model`)";
    assert_eq!(reason("[modle]\nfeatures = 3"), expected);
    assert!(reason("[model]\nfeature = 3").ends_with("(nearest: `features`)"));
    assert!(reason("model = 3").contains("expected a section `[model]`"));
    assert!(reason("[model]\nfeatures = \"many\"").contains("invalid type"));
    assert!(reason("[schedule]\nkind = \"linear\"").contains("unknown variant `linear`"));
    for (text, expected) in [
        ("", "`data.train` is none, expected a file of labelled frames"),
        ("[data]\ntrain = \"a\"\n[run]\nbatch = 0", "`run.batch` is 0, expected 1 to 16384"),
        ("[data]\ntrain = \"a\"\n[optimizer]\nrate = -1", "`optimizer.rate` is -1, expected a positive number"),
        ("[data]\ntrain = \"a\"\n[optimizer]\nema = 1.0", "`optimizer.ema` is 1, expected a number from 0 to below 1"),
    ] {
        assert_eq!(TrainConfig::parse(text, "").unwrap().check().unwrap_err().to_string(), expected);
    }
    let mut config = config("painn");
    config.model.basis = "fourier".to_owned();
    let expected = "`model.basis` is `fourier`, expected gaussian or gaussian_centered or bessel";
    assert_eq!(config.model(vec![1]).unwrap_err().to_string(), expected);
}

/// The guide shows every key, and what it is where it is not given.
#[test]
fn the_guide_shows_all_keys() {
    let guide =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/training.md")).expect("a chapter");
    let block = guide.split("```toml").nth(1).and_then(|rest| rest.split("```").next()).expect("a block of TOML");
    assert_eq!(TrainConfig::parse(block, "training.md").unwrap(), TrainConfig::default());
    // Keys without a default are shown as comments.
    let all: String = block.lines().map(|line| line.strip_prefix("# ").unwrap_or(line).to_owned() + "\n").collect();
    let shown: toml::Table = all.parse().unwrap_or_else(|error| panic!("{error}"));
    TrainConfig::parse(&all, "training.md").unwrap();
    for (section, keys) in TrainConfig::default().to_map() {
        for key in keys.as_object().expect("a section").keys() {
            assert!(shown[&section].as_table().is_some_and(|table| table.contains_key(key)), "{section}.{key}");
        }
    }
}

/// A file of frames, as text.
fn extxyz(frames: &[Labelled], symbols: [&str; 4]) -> String {
    let mut text = String::new();
    for Labelled { structure, energy, forces, .. } in frames {
        let energy = energy.map(|energy| format!(" energy={energy}")).unwrap_or_default();
        let column = if forces.is_some() { ":forces:R:3" } else { "" };
        text += &format!("4\nProperties=species:S:1:pos:R:3{column}{energy} name=frame pbc=\"F F F\"\n");
        for (k, (symbol, x)) in symbols.iter().zip(&structure.positions).enumerate() {
            let force = forces.as_ref().map(|f| f[k].map(|x| x.to_string()).join(" ")).unwrap_or_default();
            text += &format!("{symbol} {} {force}\n", x.map(|x| x.to_string()).join(" "));
        }
    }
    text
}

#[test]
fn what_is_wrong_with_frames_is_said() {
    let folder = tempfile::tempdir().expect("a folder");
    let known = ["O", "H", "H", "C"];
    let file = |name: &str, text: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("a file");
        path
    };
    let all = frames(20, 1);
    let train = file("train.xyz", extxyz(&all, known));
    let load = |change: &dyn Fn(&mut TrainConfig)| -> Result<Split, String> {
        let mut config = config("painn");
        config.data.train = vec![train.clone()];
        // Energies of this potential are no sums over free atoms.
        config.data.energy_unit = Some("eV".to_owned());
        change(&mut config);
        Split::load(&config)
            .map_err(|error: TrainError| error.to_string().replace(&format!("{}/", folder.path().display()), ""))
    };
    let drawn = load(&|_| ()).unwrap();
    assert_eq!((drawn.train.len(), drawn.validation.len(), drawn.warnings.len()), (19, 1, 0));

    let test = file("test.xyz", extxyz(&frames(1, 9), ["O", "H", "H", "Cl"]));
    let error = load(&|config| config.data.test = vec![test.clone()]).unwrap_err();
    let expected = "test.xyz: frame 1: it is tested and has Cl, which no frame to be fitted has: expected one that has";
    assert_eq!(error, expected);

    let again = file("again.xyz", extxyz(&all[4..7], known));
    let split = load(&|config| config.data.validation = vec![again.clone()]).unwrap();
    assert_eq!(split.warnings.len(), 1, "{:?}", split.warnings);
    let told = split.warnings[0].replace(&format!("{}/", folder.path().display()), "");
    let expected = "warning: 3 frames that are watched are in another set too, the first: again.xyz: frame 1 is \
                    train.xyz: frame 5, which is fitted";
    assert_eq!(told, expected);

    let mut bare = all.clone();
    bare.iter_mut().for_each(|frame| frame.forces = None);
    let bare = file("bare.xyz", extxyz(&bare, known));
    let error = load(&|config| config.data.train = vec![bare.clone()]).unwrap_err();
    let expected = "frames to be fitted: expected some with forces, or a weight of 0 for them in the loss, found none";
    assert_eq!(error, expected);
    let nan = extxyz(&all[..1], known).replace("energy=-", "energy=nan x=");
    let nan = file("nan.xyz", nan);
    let error = load(&|config| config.data.validation = vec![nan.clone()]).unwrap_err();
    assert!(error.contains("nan.xyz:2") && error.contains("energy"), "{error}");
    let kcal = frames(20, 1).into_iter().map(|mut frame| {
        frame.forces.iter_mut().flatten().flatten().for_each(|x| *x *= 100.0);
        frame
    });
    let kcal = file("kcal.xyz", extxyz(&kcal.collect::<Vec<_>>(), known));
    let error = load(&|config| (config.data.train, config.data.energy_unit) = (vec![kcal.clone()], None)).unwrap_err();
    assert!(error.contains("kcal/mol") && error.contains("data.energy_unit"), "{error}");
}

/// Prints what a step takes: `cargo test --release -p ff-train -- --ignored --nocapture steps_per_second`.
#[test]
#[ignore = "measures"]
fn steps_per_second() {
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    // Molecules of nine atoms that all see each other, as those of ethanol do.
    let molecule = |number: usize| {
        let positions =
            (0..9).map(|k| [k % 3, k / 3, 0].map(|x| 1.3 * x as f64 + rng.random_range(-0.2..0.2))).collect();
        let structure = Structure::open("", vec![6, 6, 8, 1, 1, 1, 1, 1, 1], positions);
        Labelled { structure, frame: number + 1, energy: Some(0.3), forces: Some(vec![[0.1; 3]; 9]), stress: None }
    };
    let train = samples((0..60).map(molecule).collect());
    let split = Split { validation: train[..2].to_vec(), train, ..Split::default() };
    let text = "[data]\ntrain = \"x\"\n[run]\nepochs = 1000";
    for part_atoms in [24, 48, 96] {
        for threads in [1, 2] {
            let mut config = TrainConfig::parse(text, "").unwrap();
            config.run.part_atoms = part_atoms;
            let mut training = Training::new(&config, &split, threads).unwrap();
            let mut watch = Until { stop: Some(6), ..Until::default() };
            training.run(&Files::default(), &mut watch).unwrap();
            let begin = std::time::Instant::now();
            watch.stop = Some(66);
            training.run(&Files::default(), &mut watch).unwrap();
            let ms = 1e3 * begin.elapsed().as_secs_f64() / 60.0;
            println!("parts of {part_atoms} atoms, {threads} threads: {ms:.2} ms a step");
        }
    }
}

#[test]
fn features_of_a_teacher_are_matched_by_their_gradient() {
    let mut config = config("painn");
    config.model.layers = 2;
    let model = config.model(vec![1, 6, 8]).unwrap();
    let begin = weights::random(&model, 9, 3);
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    let mut fitted = labelled();
    let width = 5;
    // One frame has none.
    for frame in fitted.iter_mut().skip(1) {
        frame.set_features((0..width * frame.n_atoms()).map(|_| rng.random_range(-1.0..1.0)).collect());
    }
    let fitted: Vec<&Fitted> = fitted.iter().collect();
    let direct = Direct::<f64>::new(&model, &begin.radial, 9, Some(width)).expect("a PaiNN");
    let values: Vec<f64> = (0..direct.n_weights()).map(|_| rng.random_range(-0.3..0.3)).collect();
    let weights = LossConfig { energy: 30.0, forces: 1.0, stress: 0.0, features: 2.0 };
    let scales = Scales::new(&weights, fitted.iter().copied());
    let of = |values: &[f64]| direct.gradient(&direct.load(values), &fitted, &scales);
    let (gradient, terms) = of(&values);
    assert!(terms[3] > 0.1, "{terms:?}");
    // Along random directions of all weights, of the model's and of the projection's alone.
    let own = values.len() - width * (model.features + 1);
    for range in [0..values.len(), 0..own, own..values.len()] {
        let mut along = vec![0.0; values.len()];
        along[range].iter_mut().for_each(|x| *x = rng.random_range(-1.0..1.0));
        let at = |h: f64| {
            let moved: Vec<f64> = values.iter().zip(&along).map(|(w, x)| w + h * x).collect();
            of(&moved).1.iter().sum::<f64>()
        };
        let h = 1e-4;
        let numeric = (8.0 * (at(h) - at(-h)) - (at(2.0 * h) - at(-2.0 * h))) / (12.0 * h);
        let slope: f64 = gradient.iter().zip(&along).map(|(g, x)| g * x).sum();
        assert!((slope - numeric).abs() < 1e-8 * slope.abs().max(1.0), "{slope}, {numeric}");
    }
}

#[test]
fn a_student_comes_near_the_features_of_its_teacher() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("teacher.safetensors");
    let split = split(8);
    let teacher = Training::new(&config("painn"), &split, 1).unwrap();
    let file = teacher.best();
    file.weights().to_file(file.config(), ff_model::file::StoredDtype::F32).write(&path).unwrap();
    let mut config = config("painn");
    config.data.teacher = Some(path.clone());
    let error = Training::new(&config, &split, 1).err().expect("a weight of 0").to_string();
    assert!(error.contains("`data.teacher`") && error.contains("`loss.features` is 0"), "{error}");
    (config.loss.features, config.run.epochs, config.run.seed, config.model.features) = (10.0, 60, 1, 6);
    (config.optimizer.rate, config.schedule.warmup_steps) = (1e-2, 5);
    let mut student = Training::new(&config, &split, 2).unwrap();
    assert!(student.n_weights() < student.state().weights.values.len());
    let mut watch = Until::default();
    assert_eq!(student.run(&Files::default(), &mut watch).unwrap(), Ended::Done);
    let of = |row: &Row| row.train_feature_rmse.expect("features");
    // Of what deviates by one.
    let (first, last) = (of(&watch.rows[1]), of(watch.rows.last().expect("rows")));
    assert!(first > 0.5 && last < 0.3 * first, "{first}, {last}");
    // The file holds the model alone.
    let weights = student.best();
    assert_eq!(weights.weights().n_parameters(weights.config()), student.n_weights());
    config.model.kind = "schnet".to_owned();
    let error = Training::new(&config, &split, 1).err().expect("no PaiNN").to_string();
    assert!(error.contains("no PaiNN"), "{error}");
}

#[test]
fn a_training_that_begins_with_a_model_goes_on_from_it_and_keeps_its_zeros() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("start.safetensors");
    let split = split(8);
    let mut first = Training::new(&config("painn"), &split, 1).unwrap();
    first.run(&Files::default(), &mut Until::default()).unwrap();
    let model = first.best();
    model.weights().to_file(model.config(), ff_model::file::StoredDtype::F32).write(&path).unwrap();
    let begin = |change: &dyn Fn(&mut TrainConfig)| {
        let mut config = config("painn");
        config.model = ModelConfig { start: Some(path.clone()), ..ModelConfig::default() };
        change(&mut config);
        Training::new(&config, &split, 2)
    };
    let whole = begin(&|_| ()).unwrap();
    assert_eq!(whole.state().weights.values, first.state().best);
    let mut sparse = begin(&|config| config.model.sparsity = 0.6).unwrap();
    let zeros = |training: &Training| training.state().weights.values.iter().filter(|w| **w == 0.0).count();
    let before = zeros(&sparse);
    assert!(before as f64 > 0.4 * sparse.n_weights() as f64, "{before} of {}", sparse.n_weights());
    sparse.run(&Files::default(), &mut Until::default()).unwrap();
    assert_eq!(zeros(&sparse), before);
    let narrow = begin(&|config| config.model.keep_features = Some(6)).unwrap();
    assert_eq!(narrow.model_config().features, 6);
    for (change, expected) in [
        (&(|config: &mut TrainConfig| config.model.layers = 2) as &dyn Fn(&mut TrainConfig), "no sizes beside it"),
        (&|config: &mut TrainConfig| config.model.sparsity = 1.0, "`model.sparsity` is 1"),
        (&|config: &mut TrainConfig| config.model.keep_features = Some(9), "at most the 8 features"),
        (&|config: &mut TrainConfig| config.model.start = Some("none.safetensors".into()), "none.safetensors"),
    ] {
        let error = begin(change).err().expect(expected).to_string();
        assert!(error.contains(expected), "{error}");
    }
}
