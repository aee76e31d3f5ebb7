//! The oracle against values that other programs computed.

use std::collections::BTreeMap;

use ff_reference::fused_message::forward;
use ff_reference::radial::{RadialKind, default_parameters};
use ff_spec::fused_message::{Activation, Filter, Inputs, Message, Radial};
use serde_json::Value;

fn numbers(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(items) => items.iter().flat_map(numbers).collect(),
        other => vec![other.as_f64().expect("a number")],
    }
}

fn transposed(rows: &Value) -> Vec<f64> {
    let (n, all) = (rows.as_array().expect("rows").len(), numbers(rows));
    let m = all.len() / n;
    (0..m).flat_map(|c| (0..n).map(move |r| r * m + c)).map(|i| all[i]).collect()
}

/// SchNet's continuous-filter convolution on 18 atoms of water, open and periodic, from NNPOps and SchNetPack.
#[test]
fn cfconv_of_water() {
    let Some(path) = ff_testkit::shared("yardsticks/cfconv_water.json") else { return };
    let text = std::fs::read_to_string(&path).expect("a readable file");
    let data: Value = serde_json::from_str(&text).expect("a JSON document");
    let (width, n_basis) = (data["width"].as_u64().unwrap() as usize, data["n_gaussians"].as_u64().unwrap() as usize);
    let (cutoff, sigma) = (data["cutoff"].as_f64().unwrap(), data["sigma"].as_f64().unwrap());
    let positions = numbers(&data["positions"]);
    let n_atoms = positions.len() / 3;
    let mut basis = default_parameters("gaussian", RadialKind::Basis, cutoff, n_basis).unwrap();
    basis.insert("gamma".to_owned(), vec![0.5 / (sigma * sigma); n_basis]);
    let variant = "cfconv_mlp_gaussian_cosine_receiver".parse().unwrap();
    for (name, case) in data["cases"].as_object().unwrap() {
        assert_eq!(case["activation"], "shifted_softplus");
        let box_length = case["cell"][0][0].as_f64();
        let images: Vec<f64> = box_length.map_or(vec![0.0], |l| (-3..=3).map(|s| f64::from(s) * l).collect());
        let (mut row_ptr, mut sender, mut edge_vec) = (vec![0], Vec::new(), Vec::new());
        for i in 0..n_atoms {
            for j in 0..n_atoms {
                let shifts =
                    images.iter().flat_map(|a| images.iter().flat_map(|b| images.iter().map(|c| [*a, *b, *c])));
                for shift in shifts {
                    let r: [f64; 3] = std::array::from_fn(|x| positions[3 * j + x] + shift[x] - positions[3 * i + x]);
                    let d = r.iter().map(|x| x * x).sum::<f64>().sqrt();
                    if d < cutoff && d > 0.0 {
                        sender.push(j as u32);
                        edge_vec.extend(r);
                    }
                }
            }
            row_ptr.push(sender.len() as u32);
        }
        let inputs = Inputs {
            message: Message::Cfconv,
            n_atoms,
            features: width,
            row_ptr,
            sender,
            edge_vec,
            nodes: (0..n_atoms * width).map(|i| 0.1 * i as f64).collect(),
            vectors: Vec::new(),
            radial: Radial { r_cut: cutoff, n_basis, basis: basis.clone(), cutoff: BTreeMap::new() },
            filter: Filter::Mlp {
                hidden: width,
                a1: transposed(&data["w1"]),
                b1: numbers(&data["b1"]),
                a2: transposed(&data["w2"]),
                b2: numbers(&data["b2"]),
                activation: Activation::ShiftedSoftplus,
            },
        };
        let found = forward(&variant, &inputs).unwrap().outputs.nodes;
        let expected = numbers(&case["output"]);
        assert_eq!(found.len(), expected.len());
        for (index, (found, expected)) in found.iter().zip(&expected).enumerate() {
            // The tolerance is the one the file states, for values computed in f32.
            let allowed = 1e-4 + 1e-3 * expected.abs();
            assert!((found - expected).abs() <= allowed, "{name}[{index}]: {found}, expected {expected}");
        }
    }
}
