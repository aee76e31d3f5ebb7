//! Runs and their files: whole frames whatever happens, and the same bits after a restart.

mod common;

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use common::{LennardJones, argon, started};
use ff_md::{
    Ended, Ensemble, FireSettings, Minimizer, Outputs, Plan, RestartFile, Settings, Simulation, State, Summary, System,
    Velocities, Watch, minimize, simulate,
};
use ff_structure::{FrameReader, Structure};
use serde_json::{Map, Value};

const PLAN: Plan = Plan { steps: 60, every: 7, log_every: 3, restart_every: 13 };

/// Stops before a step, as Ctrl-C would.
struct Until(u64);

impl Watch for Until {
    fn stop(&mut self) -> bool {
        self.0 == 0
    }

    fn step(&mut self, _: u64) {
        self.0 -= 1;
    }
}

fn identity(seed: u64) -> Map<String, Value> {
    [("seed".to_owned(), seed.into())].into_iter().collect()
}

fn settings() -> Settings {
    let ensemble = Ensemble::Npt {
        thermostat_fs: 100.0,
        barostat_fs: 300.0,
        pressure_bar: 100.0,
        compressibility_per_bar: 3e-5,
        anisotropic: true,
    };
    Settings { timestep_fs: 4.0, temperature: 50.0, seed: 5, ..Settings::new(ensemble) }
}

fn systems() -> Vec<System> {
    (0..2).map(|replica| started(argon(1, 5.3), replica, &settings())).collect()
}

fn lennard_jones() -> LennardJones {
    LennardJones::argon(1.8, true)
}

/// Runs in a folder, from its restart file where there is one; the state at the end.
fn run(dir: &Path, steps_of_process: u64) -> State {
    let (trajectory, log) = (dir.join("t.extxyz"), dir.join("log.csv"));
    let restart = RestartFile::new(&dir.join("restart.json"), identity(5)).expect("a restart file");
    let (mut simulation, mut outputs) = match restart.load().unwrap_or_else(|error| panic!("{error}")) {
        None => (
            Simulation::new(lennard_jones(), &systems(), settings()).expect("systems"),
            Outputs::create(Some(&trajectory), Some(&log)).expect("files"),
        ),
        Some((state, lengths)) => (
            Simulation::restore(lennard_jones(), &systems(), settings(), state).expect("systems"),
            Outputs::resume(Some(&trajectory), Some(&log), lengths).unwrap_or_else(|error| panic!("{error}")),
        ),
    };
    let mut until = Until(steps_of_process);
    simulate(&mut simulation, &PLAN, &mut outputs, Some(&restart), &mut until).expect("written");
    simulation.state()
}

/// A log without the rates, which are the clock's.
fn values(log: &Path) -> Vec<String> {
    let text = fs::read_to_string(log).expect("a log");
    assert!(text.ends_with('\n'), "the last line is whole");
    text.lines().map(|line| line.split(',').take(12).collect::<Vec<_>>().join(",")).collect()
}

#[test]
fn a_run_that_was_killed_at_any_byte_ends_with_the_same_bits() {
    let whole = tempfile::tempdir().expect("a folder");
    let expected = run(whole.path(), u64::MAX);
    assert_eq!(expected.step, PLAN.steps);
    let trajectory = fs::read(whole.path().join("t.extxyz")).expect("a trajectory");
    let log = values(&whole.path().join("log.csv"));
    assert_eq!(log.len(), 1 + 2 * 21, "a header, and a line per replica and three steps");
    let frames: Vec<_> = FrameReader::open(whole.path().join("t.extxyz"))
        .expect("frames")
        .map(|frame| frame.expect("a frame"))
        .collect();
    let steps: Vec<String> = frames.iter().map(|f| f.value("step").expect("a step").to_owned()).collect();
    let due: Vec<String> = (0..=8).flat_map(|k| [(7 * k).to_string(), (7 * k).to_string()]).collect();
    assert_eq!(steps, due);
    assert!(frames.iter().all(|f| f.column("momenta").is_some_and(|c| c.len() == 12) && f.labels().is_ok()));

    // Ctrl-C, twice.
    let dir = tempfile::tempdir().expect("a folder");
    assert_eq!(run(dir.path(), 11).step, 11);
    assert_eq!(run(dir.path(), 30).step, 41);
    assert_eq!(run(dir.path(), u64::MAX), expected);
    assert!(fs::read(dir.path().join("t.extxyz")).expect("a trajectory") == trajectory);
    assert_eq!(values(&dir.path().join("log.csv")), log);

    // Killed: the restart file is an earlier one, and what was appended after it ends anywhere.
    for (killed, cut) in [(0, 0), (5, 0), (12, 900), (20, 0), (20, 1), (33, 17), (33, 500), (45, 1200), (59, 3)] {
        let dir = tempfile::tempdir().expect("a folder");
        let at = |name: &str| dir.path().join(name);
        // To the last restart file that a killed process would have written by itself.
        run(dir.path(), killed / PLAN.restart_every * PLAN.restart_every);
        let restart = fs::read(at("restart.json")).expect("a restart file");
        let (kept_trajectory, kept_log) = (fs::metadata(at("t.extxyz")), fs::metadata(at("log.csv")));
        run(dir.path(), killed % PLAN.restart_every);
        fs::write(at("restart.json"), restart).expect("written");
        fs::write(at(".restart.json.new"), "{\"format\": \"forge").expect("written");
        for (name, kept) in [("t.extxyz", kept_trajectory), ("log.csv", kept_log)] {
            let (kept, length) = (kept.expect("a file").len(), fs::metadata(at(name)).expect("a file").len());
            let file = OpenOptions::new().write(true).open(at(name)).expect("a file");
            file.set_len(length.saturating_sub(cut).max(kept)).expect("cut");
        }
        assert_eq!(run(dir.path(), u64::MAX), expected, "killed at {killed}");
        assert!(fs::read(at("t.extxyz")).expect("a trajectory") == trajectory, "killed at {killed}");
        assert_eq!(values(&at("log.csv")), log, "killed at {killed}");
    }
    // One that is over stays as it is.
    assert_eq!(run(whole.path(), u64::MAX), expected);
    assert!(fs::read(whole.path().join("t.extxyz")).expect("a trajectory") == trajectory);
}

#[test]
fn restart_files_of_other_runs_and_broken_files_are_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("restart.json");
    run(dir.path(), 20);
    let load = |seed| RestartFile::new(&path, identity(seed)).expect("a path").load::<State>();
    let error = load(6).expect_err("another seed").to_string();
    assert!(error.contains("another `seed`: expected 6, found 5"), "{error}");
    let (_, lengths) = load(5).expect("readable").expect("there");
    let trajectory = dir.path().join("t.extxyz");
    fs::write(&trajectory, "short").expect("written");
    let error = Outputs::resume(Some(&trajectory), None, lengths).err().expect("too short").to_string();
    assert!(error.contains("t.extxyz: expected the") && error.contains("found 5"), "{error}");
    for (text, words) in [
        ("{", "expected a restart file, found no JSON"),
        ("{}", "expected forgefield-restart of schema 1, found None"),
        (r#"{"format":"forgefield-restart","schema":1,"identity":{"seed":5},"state":{}}"#, "the state cannot be read"),
    ] {
        fs::write(&path, text).expect("written");
        let error = load(5).expect_err("broken").to_string();
        assert!(error.contains(words) && error.contains("restart.json"), "{error}");
    }
    let error = RestartFile::new(dir.path(), identity(5)).err().expect("a folder").to_string();
    assert!(error.contains("expected a file or nothing"), "{error}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_named_with_the_file() {
    let run = |trajectory: Option<&Path>, log: Option<&Path>| {
        let mut simulation = Simulation::new(lennard_jones(), &systems(), settings()).expect("systems");
        let mut outputs = Outputs::create(trajectory, log).expect("files");
        simulate(&mut simulation, &PLAN, &mut outputs, None, &mut ()).expect_err("no space").to_string()
    };
    let full = Some(Path::new("/dev/full"));
    for error in [run(full, None), run(None, full)] {
        assert!(error.starts_with("/dev/full: cannot write the"), "{error}");
        assert!(error.to_lowercase().contains("no space left"), "{error}");
    }
}

/// A file system in memory with room for so many KiB, which is unmounted when it is dropped.
#[cfg(target_os = "linux")]
struct SmallDisk(tempfile::TempDir);

#[cfg(target_os = "linux")]
impl SmallDisk {
    /// `None` where this process may not mount anything.
    fn new(kib: usize) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={kib}k"), "tmpfs"])
            .arg(folder.path())
            .output();
        match mounted {
            Ok(done) if done.status.success() => Some(Self(folder)),
            other => {
                println!("skipped: a small file system cannot be mounted here, which takes root: {other:?}");
                None
            }
        }
    }
}

#[cfg(target_os = "linux")]
impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg(self.0.path()).status();
    }
}

/// Each of the three files on a disk that fills up while the run goes on, and goes on after there is room again.
#[cfg(target_os = "linux")]
#[test]
fn a_disk_that_fills_up_costs_nothing_that_was_written() {
    const PAGE: u64 = 4096;
    let plan = Plan { steps: 200, every: 2, log_every: 1, restart_every: 13 };
    // The end of a run from its restart file where there is one; `at` says where files are.
    let go = |at: &dyn Fn(&str) -> PathBuf, steps: u64| {
        let (trajectory, log) = (at("t.extxyz"), at("log.csv"));
        let restart = RestartFile::new(&at("restart.json"), identity(5)).expect("a restart file");
        let (mut simulation, mut outputs) = match restart.load().unwrap_or_else(|error| panic!("{error}")) {
            None => (
                Simulation::new(lennard_jones(), &systems(), settings()).expect("systems"),
                Outputs::create(Some(&trajectory), Some(&log)).expect("files"),
            ),
            Some((state, lengths)) => (
                Simulation::restore(lennard_jones(), &systems(), settings(), state).expect("systems"),
                Outputs::resume(Some(&trajectory), Some(&log), lengths).unwrap_or_else(|error| panic!("{error}")),
            ),
        };
        let ended = simulate(&mut simulation, &plan, &mut outputs, Some(&restart), &mut Until(steps));
        (ended, simulation.state())
    };
    let whole = tempfile::tempdir().expect("a folder");
    let expected = go(&|name| whole.path().join(name), u64::MAX).1;
    let read = |path: PathBuf| fs::read(path).expect("a file");
    for (full, words) in [
        ("t.extxyz", "t.extxyz: cannot write the frame"),
        ("log.csv", "log.csv: cannot write the log"),
        ("restart.json", "restart.json: cannot write the restart file"),
    ] {
        let Some(disk) = SmallDisk::new(256) else { return };
        let dir = tempfile::tempdir().expect("a folder");
        let at = |name: &str| if name == full { disk.0.path().join(name) } else { dir.path().join(name) };
        go(&at, 20).0.expect("there is room");
        let restart = read(at("restart.json"));
        // What remains is the last page of the file.
        let used = fs::metadata(at(full)).expect("a file").len().div_ceil(PAGE);
        let filler = disk.0.path().join("filler");
        fs::write(&filler, vec![0; ((64 - used) * PAGE) as usize]).expect("room for it");
        let error = go(&at, u64::MAX).0.expect_err("no space").to_string();
        println!("{error}");
        assert!(error.contains(words) && error.to_lowercase().contains("no space left"), "{error}");
        // What was written before is there and whole.
        let frames = FrameReader::open(at("t.extxyz")).expect("frames");
        let frames = frames.inspect(|frame| assert!(frame.is_ok(), "no whole frame: {frame:?}")).count();
        assert!(frames >= 22, "{frames} frames for {full}");
        let log = fs::read_to_string(at("log.csv")).expect("a log");
        assert!(log.ends_with('\n') && log.lines().count() > 2 * 21, "{log}");
        if full == "restart.json" {
            assert!(read(at(full)) == restart, "the restart file of before");
            assert!(!at(".restart.json.new").exists() && !disk.0.path().join(".restart.json.new").exists());
        }
        fs::remove_file(filler).expect("removed");
        let (ended, state) = go(&at, u64::MAX);
        assert!(matches!(ended.expect("there is room again"), Ended::Done) && state == expected, "the same bits");
        assert!(read(at("t.extxyz")) == read(whole.path().join("t.extxyz")), "the same frames");
        assert_eq!(values(&at("log.csv")), values(&whole.path().join("log.csv")));
    }
}

#[test]
fn a_diverging_run_keeps_what_was_written() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut system =
        System::new(Structure::open("pair", vec![18; 2], vec![[0.0; 3], [5.5, 0.0, 0.0]]), 0).expect("masses");
    system.velocities = Some(vec![[0.1, 0.0, 0.0], [-0.1, 0.0, 0.0]]);
    let settings = Settings { timestep_fs: 5.0, ..Settings::new(Ensemble::Nve) };
    let mut simulation = Simulation::new(lennard_jones(), &[system], settings).expect("a system");
    let trajectory = dir.path().join("t.extxyz");
    let mut outputs = Outputs::create(Some(&trajectory), None).expect("a file");
    let plan = Plan { every: 1, ..PLAN };
    let ended = simulate(&mut simulation, &plan, &mut outputs, None, &mut ()).expect("written");
    let Ended::Diverged(error) = ended else { panic!("{ended:?}") };
    assert!(error.to_string().contains("the force on atom 0"), "{error}");
    let frames = FrameReader::open(&trajectory).expect("frames");
    let frames = frames.inspect(|frame| assert!(frame.is_ok(), "a whole frame")).count();
    assert_eq!(frames as u64, simulation.step_number() + 1);
    assert_eq!(Summary::new(&simulation).steps, simulation.step_number());
}

#[test]
fn columns_say_masses_momenta_and_what_is_fixed() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("frame.extxyz");
    let read = |text: &str| {
        fs::write(&path, text).expect("written");
        let frame = FrameReader::open(&path).expect("a file").next().expect("a frame").expect("a frame");
        System::from_frame(&frame, 0)
    };
    let header = "Properties=species:S:1:pos:R:3:masses:R:1:momenta:R:3:move_mask:L:1 pbc=\"F F F\"";
    let system = read(&format!("2\n{header}\nO 0 0 0 18.0 1 2 3 T\nH 0 0 1 2.0 4 5 6 F\n")).expect("a system");
    assert_eq!((&system.masses[..], &system.free[..]), (&[18.0, 2.0][..], &[[true; 3], [false; 3]][..]));
    // ASE has velocities in Å over its unit of time, 10.18 fs.
    let velocity = system.velocities.as_ref().expect("velocities")[1];
    assert!((velocity[2] - 6.0 / 2.0 * 0.098_226_95).abs() < 1e-6, "{velocity:?}");
    // What is written is what was read.
    let mut given = system.clone();
    given.start(Velocities::Given, &settings()).expect("momenta");
    assert_eq!(given.velocities.as_ref().expect("velocities")[1], [0.0; 3], "a fixed atom does not move");
    let mut simulation = Simulation::new(common::Ideal, &[given], Settings::new(Ensemble::Nve)).expect("a system");
    let mut outputs = Outputs::create(Some(&path), None).expect("a file");
    simulate(&mut simulation, &Plan { steps: 0, ..PLAN }, &mut outputs, None, &mut ()).expect("written");
    let text = fs::read_to_string(&path).expect("a frame");
    assert!(text.contains("momenta:R:3:masses:R:1:move_mask:L:1"), "{text}");
    let again = FrameReader::open(&path).expect("a file").next().expect("a frame").expect("a frame");
    let again = System::from_frame(&again, 0).expect("a system");
    assert_eq!((&again.masses, &again.free), (&system.masses, &system.free));
    let v = again.velocities.expect("velocities")[0];
    assert!((v[1] - simulation.velocities(0)[0][1]).abs() < 1e-15);

    for (text, words) in [
        ("1\nProperties=species:S:1:pos:R:3:masses:R:2\nO 0 0 0 1 2\n", "`masses` has 2 values"),
        ("1\nProperties=species:S:1:pos:R:3:move_mask:L:2\nO 0 0 0 T T\n", "expected 1 or 3"),
        ("1\nProperties=species:S:1:pos:R:3:momenta:R:3\nO 0 0 0 1 2 nan\n", "`momenta` has `nan`"),
    ] {
        let error = read(text).expect_err(words);
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn minima_are_found_and_a_minimisation_goes_on_from_its_restart() {
    // Argon under a Lennard-Jones potential with this cutoff, displaced and in a cell that is strained.
    let structure = || {
        let mut structure = argon(2, 5.5);
        for (i, x) in structure.positions.iter_mut().enumerate() {
            x[i % 3] += 0.15 * ((7 * i % 5) as f64 - 2.0) / 2.0;
        }
        structure
    };
    let minimizer = |cell: bool, state| {
        let settings = FireSettings { largest_force_at_rest: 1e-4, cell, ..FireSettings::default() };
        let systems =
            vec![System::new(structure(), 0).expect("masses"), System::new(argon(1, 5.3), 1).expect("masses")];
        Minimizer::new(LennardJones::argon(2.2, true), systems, settings, state)
            .unwrap_or_else(|error| panic!("{error}"))
    };
    let plan = Plan { steps: 2000, every: 50, log_every: 50, restart_every: 20 };
    let mut energies = Vec::new();
    for cell in [false, true] {
        let mut minimizer = minimizer(cell, None);
        let before = minimizer.observe(0).potential;
        let ended = minimize(&mut minimizer, &plan, &mut Outputs::default(), None, &mut ()).expect("written");
        assert!(matches!(ended, Ended::Done) && minimizer.active().is_empty(), "{}", minimizer.state().step);
        assert!(minimizer.largest_force(0) <= 1e-4 && minimizer.observe(0).potential < before);
        energies.push(minimizer.observe(0).potential);
        if cell {
            // Both are the same crystal, the first of eight of the second's cells.
            let per_atom = [minimizer.observe(0).potential / 32.0, minimizer.observe(1).potential / 4.0];
            assert!((per_atom[0] - per_atom[1]).abs() < 1e-6, "{per_atom:?}");
            let pressure = minimizer.observe(0).pressure_bar.expect("a pressure");
            assert!(pressure.abs() < 10.0, "{pressure} bar");
        }
    }
    assert!(energies[1] < energies[0] - 1e-3, "{energies:?}");

    let folder = || tempfile::tempdir().expect("a folder");
    let go = |dir: &Path, steps: u64| {
        let (trajectory, log) = (dir.join("t.extxyz"), dir.join("log.csv"));
        let restart = RestartFile::new(&dir.join("restart.json"), identity(0)).expect("a restart file");
        let (state, lengths) = restart.load().expect("readable").unzip();
        let mut outputs = match lengths {
            None => Outputs::create(Some(&trajectory), Some(&log)).expect("files"),
            Some(lengths) => Outputs::resume(Some(&trajectory), Some(&log), lengths).expect("files"),
        };
        let mut minimizer = minimizer(true, state);
        minimize(&mut minimizer, &plan, &mut outputs, Some(&restart), &mut Until(steps)).expect("written");
        (minimizer.state().clone(), fs::read(trajectory).expect("frames"), fs::read(log).expect("lines"))
    };
    let (whole, parts) = (folder(), folder());
    let expected = go(whole.path(), u64::MAX);
    go(parts.path(), 13);
    let mut torn = OpenOptions::new().append(true).open(parts.path().join("t.extxyz")).expect("a file");
    torn.write_all(b"32\nLattice=\"10").expect("written");
    assert!(go(parts.path(), u64::MAX) == expected, "the same bits");
}
