//! `serve`, of which a test is the server.

use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Stdio;

use ff_ipi::{Geometry, Reply, Request, Shape};
use serde_json::Value;

use super::models::with_model;
use super::*;

const CELL: [[f64; 3]; 3] = [[6.0, 0.0, 0.0], [1.2, 5.5, 0.0], [-0.8, 1.1, 6.3]];
const POSITIONS: [[f64; 3]; 3] = [[0.5, 0.25, 0.75], [0.75, 1.5, 0.5], [5.5, 4.75, 5.25]];

fn frame(positions: [[f64; 3]; 3], pbc: &str) -> String {
    let lattice: Vec<String> = CELL.iter().flatten().map(f64::to_string).collect();
    let [o, h, last] = positions.map(|x| x.map(|x| format!("{x:.12}")).join(" "));
    let lattice = lattice.join(" ");
    format!("3\nLattice=\"{lattice}\" Properties=species:S:1:pos:R:3 pbc=\"{pbc}\" name=cell\nO {o}\nH {h}\nH {last}\n")
}

/// Starts the command and plays its server.
fn served(dir: &Path, options: &str, server: impl FnOnce(UnixStream)) -> Done {
    let path = dir.join("socket");
    let listener = UnixListener::bind(&path).expect("a socket");
    let child = forgefield(dir)
        .args(["serve", "--unix", path.to_str().expect("a path"), "--model", "model.safetensors"])
        .args(options.split_whitespace())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary");
    server(listener.accept().expect("a client").0);
    drop(listener);
    child.wait_with_output().expect("an end").into()
}

fn numbers(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(values) => values.iter().flat_map(numbers).collect(),
        value => vec![value.as_f64().expect("a number")],
    }
}

#[track_caller]
fn assert_close(found: &[f64], expected: &[f64], tolerance: f64) {
    let close = found.iter().zip(expected).all(|(a, b)| (a - b).abs() <= tolerance);
    assert!(found.len() == expected.len() && close, "{found:?} is not {expected:?}");
}

#[test]
fn a_server_gets_what_predict_computes() {
    let dir = with_model(|_| {});
    let dir = dir.path();
    std::fs::write(dir.join("template.extxyz"), frame([[0.0; 3], [1.0; 3], [2.0; 3]], "T T T")).expect("written");
    let moved = POSITIONS.map(|x| x.map(|x| x + 0.125));
    std::fs::write(dir.join("both.extxyz"), frame(POSITIONS, "T T T") + &frame(moved, "T T T")).expect("written");
    let predicted = run(dir, "predict both.extxyz --model model.safetensors --dtype f64 --json").expect(0, &[]).json();
    let predicted = predicted["results"].as_array().expect("results").clone();

    let mut far = moved;
    for k in 0..3 {
        far[1][k] += 100.0 * CELL[0][k] - 70.0 * CELL[2][k];
    }
    let batch = [POSITIONS, far, far].map(|x| Geometry { cell: CELL, positions: x.to_vec() }).to_vec();
    let mut outcomes = Vec::new();
    let done = served(dir, "--structure template.extxyz --dtype f64 --json", |mut server| {
        let shape = Shape { atoms: 3, batch: 3 };
        Request::Status.write(&mut server).expect("written");
        assert_eq!(Reply::read(&mut server, shape).expect("an answer"), Some(Reply::NeedInit));
        Request::Init { replica: 0, text: "batch_size:3".to_owned() }.write(&mut server).expect("written");
        Request::Positions(batch).write(&mut server).expect("written");
        Request::Forces.write(&mut server).expect("written");
        let Some(Reply::Forces(found)) = Reply::read(&mut server, shape).expect("an answer") else {
            panic!("expected forces")
        };
        outcomes = found;
        Request::Exit.write(&mut server).expect("written");
    });
    // A copy at the end of a batch is not computed.
    let report = done.expect(0, &["connected to "]).json();
    assert_eq!(
        (&report["evaluations"], &report["connections"], &report["ended"]),
        (&2.into(), &1.into(), &"exit".into())
    );

    // A triple product: a × b has only a z component here.
    let volume = CELL[0][0] * CELL[1][1] * CELL[2][2];
    assert_eq!(outcomes.len(), 3);
    for (outcome, expected) in outcomes.iter().zip([0, 1, 1].map(|k| &predicted[k])) {
        // What units and a hundred cells take of sixteen digits.
        assert_close(&[outcome.energy], &numbers(&expected["energy"]), 1e-10);
        assert_close(outcome.forces.as_flattened(), &numbers(&expected["forces"]), 1e-9);
        let stress: Vec<f64> = outcome.virial.iter().flatten().map(|w| -w / volume).collect();
        assert_close(&stress, &numbers(&expected["stress"]), 1e-10);
        assert!(stress.iter().any(|s| s.abs() > 1e-6), "a stress that is there: {stress:?}");
    }
}

#[test]
fn a_molecule_has_no_virial_whatever_cell_is_sent() {
    let dir = with_model(|_| {});
    let dir = dir.path();
    std::fs::write(dir.join("open.extxyz"), frame(POSITIONS, "F F F")).expect("written");
    let shape = Shape { atoms: 3, batch: 1 };
    let done = served(dir, "--structure open.extxyz --retry 0", |mut server| {
        for cell in [CELL, [[0.0; 3]; 3]] {
            let geometry = Geometry { cell, positions: POSITIONS.to_vec() };
            Request::Positions(vec![geometry]).write(&mut server).expect("written");
            Request::Forces.write(&mut server).expect("written");
            let reply = Reply::read(&mut server, shape).expect("an answer");
            let Some(Reply::Forces(outcomes)) = reply else { panic!("expected forces") };
            assert_eq!(outcomes[0].virial, [[0.0; 3]; 3]);
            assert!(outcomes[0].forces.iter().flatten().any(|f| *f != 0.0));
        }
    });
    done.expect(0, &["2 evaluations of 3 atoms by 1 connection"]);
}

/// Where there is Vulkan: atoms and cells that move a little, and then by far, have the forces that `predict` says on the host.
#[test]
fn a_device_answers_as_the_host_does() {
    let dir = with_model(|_| {});
    let dir = dir.path();
    // The oxygen stays.
    let moved = |by: f64| [POSITIONS[0], POSITIONS[1].map(|x| x + by), POSITIONS[2].map(|x| x + by)];
    let steps = [0.0, 0.1, 0.15, 2.0, 2.1].map(moved);
    let all: String = steps.iter().map(|x| frame(*x, "T T T")).collect();
    std::fs::write(dir.join("all.extxyz"), all).expect("written");
    let words = "all.extxyz --model model.safetensors --json";
    let device = run(dir, &format!("predict {words} --runtime vulkan"));
    if device.code == Some(3) && device.err.contains("runtime `vulkan` is not") {
        println!("not tested on a GPU: {}", device.err);
        return;
    }
    let predicted = run(dir, &format!("predict {words}")).expect(0, &[]).json()["results"].clone();
    let shape = Shape { atoms: 3, batch: 1 };
    let mut outcomes = Vec::new();
    let done = served(dir, "--structure all.extxyz --runtime vulkan --retry 0", |mut server| {
        for positions in steps {
            let geometry = Geometry { cell: CELL, positions: positions.to_vec() };
            Request::Positions(vec![geometry]).write(&mut server).expect("written");
            Request::Forces.write(&mut server).expect("written");
            let Some(Reply::Forces(mut found)) = Reply::read(&mut server, shape).expect("an answer") else {
                panic!("expected forces")
            };
            outcomes.append(&mut found);
        }
    });
    done.expect(0, &["runtime vulkan", "5 evaluations of 3 atoms"]);
    for (k, outcome) in outcomes.iter().enumerate() {
        let expected = numbers(&predicted[k]["forces"]);
        let largest = expected.iter().fold(1.0, |most: f64, f| most.max(f.abs()));
        assert_close(outcome.forces.as_flattened(), &expected, 1e-4 * largest);
    }
}

#[test]
fn what_cannot_be_served_is_said() {
    let dir = with_model(|_| {});
    let dir = dir.path();
    std::fs::write(dir.join("cell.extxyz"), frame(POSITIONS, "T T T")).expect("written");
    let serve = "serve --model model.safetensors --structure cell.extxyz";
    let usage = |options: &str, words: &str| {
        let done = run(dir, &format!("{serve} {options}"));
        assert!(done.code == Some(2) && done.err.contains(words), "{:?}: {}", done.code, done.err);
    };
    usage("", "<--ipi <HOST:PORT>|--unix <NAME>>");
    usage("--ipi localhost", "expected HOST:PORT, such as localhost:31415, found `localhost`");
    usage("--unix a --ipi localhost:1", "cannot be used with");
    usage("--unix a --wait=-1", "expected 0 to 86400 seconds");
    run(dir, &format!("{serve} --unix /nowhere/socket --wait 0.2"))
        .expect(3, &["cannot connect to /nowhere/socket: ", "within 0.2 s"]);
    let sends = |geometry: Geometry| {
        move |mut server: UnixStream| {
            Request::Positions(vec![geometry]).write(&mut server).expect("written");
            // Nothing comes: the client has gone.
            assert_eq!(Reply::read(&mut server, Shape { atoms: 3, batch: 1 }).expect("an end"), None);
        }
    };
    let options = "--structure cell.extxyz";
    let socket = || std::fs::remove_file(dir.join("socket")).expect("a socket");
    let flat = Geometry { cell: [[0.0; 3]; 3], positions: POSITIONS.to_vec() };
    served(dir, options, sends(flat)).expect(2, &["socket: evaluation 1: "]);
    socket();
    let one = Geometry { cell: CELL, positions: vec![[0.0; 3]; 3] };
    served(dir, options, sends(one)).expect(2, &["socket: evaluation 1: atoms 0 and 1 are in one place"]);
    socket();
    let two = Geometry { cell: CELL, positions: vec![[0.0; 3]; 2] };
    served(dir, options, sends(two)).expect(2, &["socket: POSDATA has 2 atoms, expected 3"]);
    socket();
    // A server that is gone in the midst of a step does not come back.
    let leaves = |mut server: UnixStream| {
        let geometry = Geometry { cell: CELL, positions: POSITIONS.to_vec() };
        Request::Positions(vec![geometry]).write(&mut server).expect("written");
    };
    served(dir, &format!("{options} --retry 0.2"), leaves)
        .expect(3, &["the forces were not taken; cannot connect to "]);
}
