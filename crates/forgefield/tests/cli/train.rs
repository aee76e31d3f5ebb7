//! Training: `train` on frames that the small model of ethanol labels.

use std::path::Path;
#[cfg(unix)]
use std::process::Stdio;
#[cfg(unix)]
use std::time::{Duration, Instant};

use super::*;

/// A folder with forty labelled frames.
fn labelled() -> tempfile::TempDir {
    let dir = folder();
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models");
    let [frame, model] = ["ethanol.extxyz", "ethanol-painn-small.safetensors"].map(|name| models.join(name));
    let md = format!("md {} --model {} --steps 780 --every 20", frame.display(), model.display());
    run(dir.path(), &format!("{md} --temperature 500 -o frames.extxyz")).expect(0, &[]);
    dir
}

const SMALL: &str = "train --train frames.extxyz --energy-unit eV --features 8 --layers 1";

#[test]
fn a_model_is_trained_tested_and_read() {
    let dir = labelled();
    let dir = dir.path();
    let files = "--log log.jsonl --figure curve.svg -o a.safetensors --test frames.extxyz";
    let done = run(dir, &format!("{SMALL} --epochs 20 --rate 0.01 {files} --json"))
        .expect(0, &["frames that are tested are in"]);
    let json = done.json();
    assert!(json["steps"] == 80 && json["frames"] == 38 && json["stopped"].is_null(), "{json}");
    for key in ["energy_mae_mev_per_atom", "force_mae_mev_per_a"] {
        assert!(json["watched"][key].is_number() && json["tested"][key].is_number(), "{json}");
    }
    let log = std::fs::read_to_string(dir.join("log.jsonl")).expect("a log");
    let rows: Vec<serde_json::Value> = log.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(rows.len(), 21);
    let loss = |row: usize| rows[row]["loss"].as_f64().expect("a loss");
    assert!(loss(20) < 0.5 * loss(0), "{log}");
    let svg = std::fs::read_to_string(dir.join("curve.svg")).expect("a figure");
    assert!(svg.contains("watched") && svg.contains("fitted"), "{svg}");
    assert!(!dir.join("a.safetensors.checkpoint").exists(), "nothing is left to go on with");
    let predict = "predict frames.extxyz --model a.safetensors -o b.extxyz";
    run(dir, predict).expect(0, &["40 structures, 360 atoms"]);
    let file = std::fs::read(dir.join("a.safetensors")).expect("a model");
    let header = String::from_utf8_lossy(&file[..6000]).into_owned();
    for word in ["Fitted to 38 frames, 2 watched", "frames.extxyz", "\"elements\":\"[1,6,8]\"", "On 40 test frames"] {
        assert!(header.contains(word), "no `{word}` in {header}");
    }
    // The same settings from a file give the same bytes.
    let config = "[data]\ntrain = 'frames.extxyz'\ntest = 'frames.extxyz'\nenergy_unit = 'eV'\n[model]\nfeatures = 8\nlayers = 1\n\
                  [run]\nepochs = 99\n";
    std::fs::write(dir.join("train.toml"), config).expect("written");
    run(dir, "train train.toml --epochs 20 --rate 0.01 --threads 1 -o c.safetensors")
        .expect(0, &["80 steps in 20 epochs"]);
    assert!(file == std::fs::read(dir.join("c.safetensors")).expect("a model"));
}

#[test]
fn bad_input_of_a_training_is_refused() {
    let dir = labelled();
    let dir = dir.path();
    std::fs::write(dir.join("key.toml"), "[optimiser]\nrate = 1").expect("written");
    std::fs::write(dir.join("text.extxyz"), "no frames").expect("written");
    for (words, expected) in [
        ("train -o a.safetensors", "expected a CONFIG, or --train FILE"),
        ("train key.toml -o a.safetensors", "(nearest: `optimizer`)"),
        ("train none.toml -o a.safetensors", "none.toml: cannot be read"),
        ("train --train text.extxyz -o a.safetensors", "text.extxyz:1"),
        ("train --train frames.extxyz -o none/a.safetensors", "none: expected a folder to write into"),
        ("train --train frames.extxyz -o frames.extxyz", "expected another file"),
        ("train --train frames.extxyz --features 0 -o a.safetensors", "`model.features` is 0, expected 1 to"),
        (
            "train --train frames.extxyz --model so3net -o a.safetensors",
            "`model.kind` is `so3net`, expected painn or schnet",
        ),
        ("train --train frames.extxyz --runtime cuda -o a.safetensors", "--runtime host or auto, found cuda"),
    ] {
        run(dir, words).expect(2, &[expected]);
    }
    let diverged = run(dir, &format!("{SMALL} --epochs 100 --rate 1e30 -o b.safetensors"));
    diverged.expect(1, &["is not finite", "the weights of epoch 0 are in b.safetensors"]);
    run(dir, "predict frames.extxyz --model b.safetensors -o c.extxyz").expect(0, &["40 structures"]);
}

#[cfg(unix)]
#[test]
fn a_training_that_is_killed_goes_on_and_ends_with_the_same_bytes() {
    let dir = labelled();
    let dir = dir.path();
    let config = "[data]\ntrain = 'frames.extxyz'\nenergy_unit = 'eV'\n[model]\nfeatures = 16\nlayers = 2\n[run]\nepochs = 30\n\
                  checkpoint_seconds = 0.0\n";
    std::fs::write(dir.join("train.toml"), config).expect("written");
    let train = |name: &str| format!("train train.toml -o {name}.safetensors --log {name}.jsonl");
    run(dir, &train("whole")).expect(0, &["120 steps"]);
    let checkpoint = dir.join("killed.safetensors.checkpoint");
    let (mut killed, mut interrupted) = (0, 0);
    for delay in [3_u64, 20, 9] {
        let before = std::fs::metadata(&checkpoint).and_then(|file| file.modified()).ok();
        let mut command = forgefield(dir);
        let words = format!("{} --resume", train("killed"));
        command.args(words.split_whitespace()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().expect("the binary starts");
        let begin = Instant::now();
        let written = || std::fs::metadata(&checkpoint).and_then(|file| file.modified()).ok();
        while written() == before && begin.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis(delay));
        if delay == 20 {
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
    if checkpoint.exists() {
        run(dir, &train("killed")).expect(2, &["expected --resume to go on from it, or --fresh to begin anew"]);
        run(dir, &format!("{} --resume --epochs 31", train("killed"))).expect(2, &["another `run.epochs`"]);
    }
    run(dir, &format!("{} --resume", train("killed"))).expect(0, &[]);
    let read = |name: &str| std::fs::read(dir.join(name)).expect("written");
    assert!(read("killed.safetensors") == read("whole.safetensors"), "the same weights");
    let rows = |name: &str| -> Vec<String> {
        let text = String::from_utf8(read(name)).expect("text");
        text.lines().map(|line| line.split(",\"seconds\"").next().unwrap_or_default().to_owned()).collect()
    };
    assert_eq!(rows("killed.jsonl"), rows("whole.jsonl"));
}
