use ff_model::host::{HostModel, Real};
use ff_model::{Model, Wanted};
use std::time::Instant;

fn refs(path: &str) -> Vec<(f64, Vec<[f64; 3]>, Option<Vec<f64>>)> {
    let text = std::fs::read_to_string(path).unwrap();
    let mut lines = text.lines();
    let mut out = vec![];
    while let Some(n) = lines.next() {
        let n: usize = n.trim().parse().unwrap();
        let header = lines.next().unwrap();
        let key = |k: &str| header.split_once(&format!("{k}=")).map(|(_, r)| r.trim_start());
        let e: f64 = key("ref_energy").unwrap().split_whitespace().next().unwrap().parse().unwrap();
        let stress = key("ref_stress").map(|r| {
            r.trim_start_matches('"')
                .split('"')
                .next()
                .unwrap()
                .split_whitespace()
                .map(|x| x.parse().unwrap())
                .collect()
        });
        let f = (0..n)
            .map(|_| {
                let l: Vec<f64> =
                    lines.next().unwrap().split_whitespace().skip(4).take(3).map(|x| x.parse().unwrap()).collect();
                [l[0], l[1], l[2]]
            })
            .collect();
        out.push((e, f, stress));
    }
    out
}

fn run<T: Real>(name: &str) {
    let dir = "../../../shared/yardsticks";
    let model = Model::load(format!("{dir}/{name}.safetensors")).unwrap();
    let host = HostModel::<T>::new(&model).unwrap();
    let path = format!("{dir}/{name}.extxyz");
    let structures = ff_structure::read_structures(&path).unwrap();
    let predictions = host.predict(&structures, Wanted::FORCES).unwrap();
    let (mut de, mut df, mut ds) = (0f64, 0f64, 0f64);
    for ((p, r), s) in predictions.iter().zip(refs(&path)).zip(&structures) {
        let e = (p.energy - r.0).abs() / r.0.abs();
        let f =
            p.forces.iter().zip(&r.1).flat_map(|(a, b)| (0..3).map(move |k| (a[k] - b[k]).abs())).fold(0.0, f64::max);
        let st = match (&r.2, p.stress) {
            (Some(a), Some(b)) => a.iter().zip(b.as_flattened()).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max),
            (None, None) => 0.0,
            (a, b) => {
                println!("{} stress {a:?} {b:?}", s.name);
                0.0
            }
        };
        de = de.max(e);
        df = df.max(f);
        ds = ds.max(st);
    }
    println!(
        "{name} {}: {} frames, energy {de:.2e} forces {df:.2e} stress {ds:.2e}",
        std::any::type_name::<T>(),
        predictions.len()
    );
    let singles: Vec<_> =
        structures.iter().map(|s| host.predict(std::slice::from_ref(s), Wanted::FORCES).unwrap().remove(0)).collect();
    println!("batch == singles: {}", singles == predictions);
    let benzene = structures.iter().find(|s| s.n_atoms() == 12).unwrap_or(&structures[0]).clone();
    for (n, w) in [(1, Wanted::FORCES), (1, Wanted::ENERGY), (16, Wanted::FORCES), (64, Wanted::FORCES)] {
        let batch = vec![benzene.clone(); n];
        let mut best = f64::MAX;
        for _ in 0..40 {
            let t = Instant::now();
            let _ = host.predict(&batch, w).unwrap();
            best = best.min(t.elapsed().as_secs_f64());
        }
        println!("{n} x {} atoms {w:?}: {:.3} ms", benzene.n_atoms(), best * 1e3);
    }
}

fn parts<T: Real>(name: &str, n: usize) {
    use ff_model::host::{Part, Times};
    let dir = "../../../shared/yardsticks";
    let model = Model::load(format!("{dir}/{name}.safetensors")).unwrap();
    let host = HostModel::<T>::new(&model).unwrap();
    let structures = ff_structure::read_structures(format!("{dir}/{name}.extxyz")).unwrap();
    let benzene = structures.iter().find(|s| s.n_atoms() == 12).unwrap().clone();
    let batch = vec![benzene; n];
    for _ in 0..5 {
        let _ = host.predict(&batch, Wanted::FORCES).unwrap();
    }
    let times = Times::of_layers(3);
    let rounds = 60;
    let t = Instant::now();
    for _ in 0..rounds {
        let _ = host.predict_timed(&batch, Wanted::FORCES, &times).unwrap();
    }
    println!("{name} {n} {} {:.3} ms", std::any::type_name::<T>(), t.elapsed().as_secs_f64() * 1e3 / rounds as f64);
    for part in Part::ALL {
        let l: Vec<String> =
            (0..3).map(|l| format!("{:.1}", times.of(part, l).as_secs_f64() * 1e6 / rounds as f64)).collect();
        println!("  {:20} {} us of all threads", part.name(), l.join("  "));
    }
}

#[test]
fn quick() {
    for n in [1, 64] {
        parts::<f32>("painn_gaussian", n);
    }
    if std::env::var("PARTS").is_ok() {
        return;
    }
    for name in ["painn_gaussian", "schnet_gaussian", "ethanol_painn"] {
        run::<f32>(name);
        run::<f64>(name);
    }
}
