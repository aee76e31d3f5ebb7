//! Dynamics: `md` and `minimize` with the small model of ethanol.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use ff_structure::FrameReader;

use super::*;

/// A file of the folder of models.
fn model(name: &str) -> String {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models").join(name);
    path.display().to_string()
}

/// A command on ethanol.
fn ethanol(command: &str) -> String {
    format!("{command} {} --model {}", model("ethanol.extxyz"), model("ethanol-painn-small.safetensors"))
}

fn frames(path: &Path) -> Vec<ff_structure::Frame> {
    FrameReader::open(path).expect("a file").map(|frame| frame.expect("a whole frame")).collect()
}

#[test]
fn dynamics_print_and_write_what_they_promise() {
    let dir = folder();
    let dir = dir.path();
    let md = ethanol("md");
    let files = "-o t.extxyz --log log.csv --figure run.svg --every 50 --log-every 20";
    let json = run(dir, &format!("{md} --steps 100 --replicas 3 --json {files}")).expect(0, &[]).json();
    for key in
        ["steps", "drift_mev_per_atom_ps", "mean_temperature_k", "steps_per_s", "ns_per_day", "model_share", "rebuilds"]
    {
        assert!(json[key].is_number(), "{key}: {json}");
    }
    // A part of the whole; how large a part is for benchmarks.
    assert!(json["model_share"].as_f64().is_some_and(|share| share > 0.0 && share < 1.0), "{json}");
    assert!(json["stopped"].is_null() && json["steps"] == 100 && json["replicas"] == 3, "{json}");
    let written = frames(&dir.join("t.extxyz"));
    assert_eq!(written.len(), 9);
    let last = &written[8];
    assert_eq!(
        (last.value("step"), last.value("replica"), last.value("time_fs")),
        (Some("100"), Some("2"), Some("50.0"))
    );
    let labels = last.labels().expect("results");
    assert!(labels.energy.is_some() && labels.forces.is_some() && labels.stress.is_none());
    assert_eq!(last.column("momenta").expect("momenta").len(), 27);
    let log = std::fs::read_to_string(dir.join("log.csv")).expect("a log");
    assert!(log.starts_with("step,time_fs,replica,potential_ev") && log.lines().count() == 1 + 3 * 6, "{log}");
    let svg = std::fs::read_to_string(dir.join("run.svg")).expect("a figure");
    assert!(svg.contains("temperature (K)") && svg.contains("time (ps)"), "{svg}");
    // A replica alone has the frames that it has among others.
    run(dir, &format!("{md} --steps 100 --first-replica 2 -o alone.extxyz --every 50")).expect(0, &["ns/day"]);
    assert!(frames(&dir.join("alone.extxyz"))[2] == *last, "the same bits");
    // Every ensemble that needs no cell.
    for ensemble in ["langevin", "bussi"] {
        run(dir, &format!("{md} --steps 20 --ensemble {ensemble}"))
            .expect(0, &["20 steps of 0.5 fs", "mean temperature"]);
    }
}

#[test]
fn minimisation_ends_at_rest() {
    let dir = folder();
    let dir = dir.path();
    let minimize = ethanol("minimize");
    let json = run(dir, &format!("{minimize} --fmax 0.05 -o rest.extxyz --json")).expect(0, &[]).json();
    let force = json["systems"][0]["max_force"].as_f64().expect("a force");
    assert!(json["converged"] == 1 && force <= 0.05, "{json}");
    let last = frames(&dir.join("rest.extxyz")).pop().expect("a frame");
    assert_eq!(last.labels().expect("results").energy, json["systems"][0]["energy"].as_f64());
    run(dir, &format!("{minimize} --fmax 0.0001 --steps 3")).expect(1, &["0 of 1 systems are at rest"]);
    run(dir, &format!("{minimize} --cell")).expect(2, &["to relax the cell it has to repeat"]);
}

#[test]
fn bad_input_is_refused() {
    let dir = folder();
    let dir = dir.path();
    let md = ethanol("md");
    for (more, words) in [
        ("--timestep-fs 0", "the time step is 0, expected more than 0 and at most 10 fs"),
        ("--timestep-fs 20", "the time step is 20"),
        ("--ensemble npt", "constant pressure needs a cell"),
        ("--velocities file", "no column `momenta`"),
        ("--frame 2", "expected a frame 2, found 1"),
        ("-o out.txt", "expected the extension extxyz or xyz"),
        ("-o a.extxyz --log a.extxyz", "expected another file"),
        ("--restart .", "expected a file or nothing"),
    ] {
        run(dir, &format!("{md} --steps 1 {more}")).expect(2, &[words]);
    }
    std::fs::write(dir.join("massless.extxyz"), "1\nProperties=species:S:1:pos:R:3:masses:R:1\nH 0 0 0 0\n")
        .expect("written");
    let massless = format!("md massless.extxyz --model {}", model("ethanol-painn-small.safetensors"));
    run(dir, &massless).expect(2, &["massless.extxyz", "atom 0 has mass 0"]);
    // A run that diverges says where, keeps what it wrote, and prints its summary all the same.
    let hot =
        format!("{md} --temperature 3000 --timestep-fs 1 --max-force 6 --steps 1000 -o hot.extxyz --every 1 --json");
    let done = run(dir, &hot).expect(1, &["error: step", "atom"]);
    let json = done.json();
    assert!(json["stopped"].as_str().is_some_and(|reason| reason.contains("atom")), "{json}");
    assert_eq!(frames(&dir.join("hot.extxyz")).len() as u64, json["steps"].as_u64().expect("steps") + 1);
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_named() {
    let dir = folder();
    std::os::unix::fs::symlink("/dev/full", dir.path().join("full.extxyz")).expect("a link");
    run(dir.path(), &format!("{} --steps 5 -o full.extxyz", ethanol("md")))
        .expect(3, &["full.extxyz", "No space left"]);
}

/// Files that may not grow beyond a limit, in place of a disk without room, which takes root to make: what was written stays, and the
/// same command goes on when there is room again.
#[cfg(target_os = "linux")]
#[test]
fn a_run_that_could_not_write_goes_on() {
    for (option, ending) in [("-o", "extxyz"), ("--log", "csv"), ("--restart", "json")] {
        let dir = folder();
        let dir = dir.path();
        let md = |name: &str, steps: usize| {
            let written = format!("--every 2 --log-every 1 --restart-every 50 {option} {name}.{ending}");
            let restart = if ending == "json" { String::new() } else { format!("--restart {name}.json") };
            format!("{} --replicas 4 --steps {steps} {written} {restart}", ethanol("md"))
        };
        run(dir, &md("whole", 120)).expect(0, &[]);
        run(dir, &md("limited", 60)).expect(0, &[]);
        let (file, whole) = (format!("limited.{ending}"), format!("whole.{ending}"));
        let read = |name: &str| std::fs::read(dir.join(name)).expect("written");
        let (restart, kept) = (read("limited.json"), read(&file));
        // KiB: one more than there is, or less than any state has.
        let limit = if ending == "json" { 1 } else { kept.len() / 1024 + 1 };
        let limited = Command::new("bash")
            .args(["-c", "trap '' XFSZ; ulimit -f $0; exec \"$@\"", &limit.to_string()])
            .arg(forgefield(dir).get_program())
            .args(md("limited", 120).split_whitespace())
            .current_dir(dir)
            .output()
            .expect("bash");
        Done::from(limited).expect(3, &[&format!("{file}: cannot write"), "File too large"]);
        assert!(read("limited.json") == restart && read(&file).starts_with(&kept), "{file}");
        assert!(!dir.join(".limited.json.new").exists());
        match ending {
            "extxyz" => assert!(frames(&dir.join(&file)).len() >= 4 * 31),
            "csv" => assert!(read(&file).ends_with(b"\n")),
            _ => {}
        }
        run(dir, &md("limited", 120)).expect(0, &["goes on from step 60"]);
        match ending {
            "extxyz" => assert!(read(&file) == read(&whole), "the same frames"),
            "csv" => assert_eq!(values(&dir.join(&file)), values(&dir.join(&whole))),
            _ => assert!(read(&file) != restart),
        }
    }
}

/// Lines without the rates, which are the clock's, and how often lists were built again, which a process that goes on does once more.
fn values(log: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(log).expect("a log");
    text.lines().map(|line| line.split(',').take(11).collect::<Vec<_>>().join(",")).collect()
}

#[cfg(unix)]
#[test]
fn a_process_that_is_killed_goes_on_and_ends_with_the_same_bytes() {
    let dir = folder();
    let dir = dir.path();
    let common = "--ensemble langevin --steps 1600 --every 5 --log-every 10 --restart-every 40";
    let md = |name: &str| format!("{} {common} -o {name}.extxyz --log {name}.csv --restart {name}.json", ethanol("md"));
    run(dir, &md("whole")).expect(0, &[]);
    let size = || std::fs::metadata(dir.join("killed.extxyz")).map_or(0, |file| file.len());
    let (mut killed, mut interrupted) = (0, 0);
    for delay in [0_u64, 23, 7, 41, 12] {
        let before = size();
        let mut command = forgefield(dir);
        command.args(md("killed").split_whitespace()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().expect("the binary starts");
        let begin = Instant::now();
        while size() <= before && begin.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis(delay));
        if delay == 41 {
            let pid = child.id();
            Command::new("sh").arg("-c").arg(format!("kill -INT {pid}")).status().expect("a shell");
            interrupted += usize::from(child.wait().expect("an end").code() == Some(130));
        } else {
            child.kill().expect("killed");
            killed += usize::from(child.wait().expect("an end").code().is_none());
        }
    }
    println!("{killed} times killed, {interrupted} times interrupted");
    assert!(killed > 0, "the process was there to be killed");
    run(dir, &md("killed")).expect(0, &[]);
    let read = |name: &str| std::fs::read(dir.join(name)).expect("written");
    assert!(read("killed.extxyz") == read("whole.extxyz"), "the same frames");
    assert_eq!(values(&dir.join("killed.csv")), values(&dir.join("whole.csv")));
    // Other settings do not go on from it.
    run(dir, &md("killed").replace("langevin", "bussi")).expect(2, &["killed.json", "another `ensemble`"]);
}

/// Ethanol in a triclinic cell, across its boundaries.
fn in_a_cell(dir: &Path) -> String {
    let text = std::fs::read_to_string(model("ethanol.extxyz")).expect("ethanol");
    let lattice = "Lattice=\"7.0 0.0 0.0 1.5 6.8 0.0 -0.7 1.0 7.2\" ";
    let text = text.replace("Properties", &format!("{lattice}Properties")).replace("F F F", "T T T");
    std::fs::write(dir.join("cell.extxyz"), text).expect("written");
    format!("cell.extxyz --model {}", model("ethanol-painn-small.safetensors"))
}

/// What a command does on Vulkan; `None` where that is not here, which is said.
fn on_vulkan(dir: &Path, words: &str) -> Option<Done> {
    let done = run(dir, &format!("{words} --runtime vulkan"));
    if done.code == Some(3) && done.err.contains("runtime `vulkan` is not") {
        println!("not tested on a GPU: {}", done.err);
        return None;
    }
    Some(done)
}

#[track_caller]
fn assert_near(found: &Path, expected: &Path) {
    let (found, expected) = (frames(found), frames(expected));
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(&expected) {
        // Twenty steps in single precision.
        let pairs = [found, expected].map(|frame| frame.structure.positions.as_flattened());
        assert!(pairs[0].iter().zip(pairs[1]).all(|(a, b)| (a - b).abs() <= 1e-5), "{pairs:?}");
        let [a, b] = [found, expected].map(|frame| frame.structure.cell.unwrap_or_default());
        assert!(a.as_flattened().iter().zip(b.as_flattened()).all(|(a, b)| (a - b).abs() <= 1e-5), "{a:?}, {b:?}");
        let [a, b] = [found, expected].map(|frame| frame.labels().expect("results").energy.expect("an energy"));
        assert!((a - b).abs() <= 2e-3, "{a} and {b} eV");
    }
}

/// What a device says of atoms that move is what the host says: replicas that are hot enough to have their lists built again, a cell
/// that changes in every step.
#[test]
fn atoms_move_on_a_device_as_on_the_host() {
    let dir = folder();
    let dir = dir.path();
    let hot = format!("{} --replicas 2 --steps 20 --temperature 2000 --every 10 --json", ethanol("md"));
    let npt = format!("md {} --ensemble npt-aniso --barostat-fs 100 --steps 20 --every 10 --json", in_a_cell(dir));
    for (name, words) in [("hot", hot), ("npt", npt)] {
        let Some(done) = on_vulkan(dir, &format!("{words} -o {name}.extxyz")) else { return };
        let json = done.expect(0, &["runtime vulkan"]).json();
        assert!(json["stopped"].is_null() && json["steps"] == 20, "{json}");
        let rebuilds = json["rebuilds"].as_u64().expect("a number");
        match name {
            "hot" => assert!((2..=20).contains(&rebuilds) && rebuilds % 2 == 0, "{json}"),
            // The host builds a list in every step here.
            _ => assert!(rebuilds < 5, "{json}"),
        }
        run(dir, &format!("{words} -o {name}-host.extxyz")).expect(0, &[]);
        assert_near(&dir.join(format!("{name}.extxyz")), &dir.join(format!("{name}-host.extxyz")));
    }
}

#[test]
fn a_device_goes_on_and_comes_to_rest() {
    let dir = folder();
    let dir = dir.path();
    let words = format!("md {} --every 10 --restart state.json -o parts.extxyz", in_a_cell(dir));
    let Some(done) = on_vulkan(dir, &format!("{words} --steps 10")) else { return };
    done.expect(0, &["runtime vulkan", "10 steps"]);
    on_vulkan(dir, &format!("{words} --steps 20")).expect("still there").expect(0, &["goes on from step 10"]);
    run(dir, &format!("md {} --every 10 --steps 20 -o whole.extxyz", in_a_cell(dir))).expect(0, &[]);
    assert_near(&dir.join("parts.extxyz"), &dir.join("whole.extxyz"));

    let minimize = format!("{} --fmax 0.05 --json", ethanol("minimize"));
    let [found, expected] = [on_vulkan(dir, &minimize).expect("still there"), run(dir, &minimize)]
        .map(|done| done.expect(0, &["runtime"]).json());
    let energy = |json: &serde_json::Value| json["systems"][0]["energy"].as_f64().expect("an energy");
    assert!((energy(&found) - energy(&expected)).abs() < 2e-3, "{found} and {expected}");

    for (words, code, why) in [
        ("md", 2, "--tabulate: tables of a model's filters are read on host"),
        ("minimize", 2, "--tabulate: tables of a model's filters are read on host"),
    ] {
        on_vulkan(dir, &format!("{} --tabulate 1e-6", ethanol(words))).expect("still there").expect(code, &[why]);
    }
    let double = on_vulkan(dir, &format!("{} --dtype f64", ethanol("md"))).expect("still there");
    double.expect(3, &["does not compute models in f64"]);
}
