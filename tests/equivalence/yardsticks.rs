//! Golden values from other programs, on every runtime. The files lie beside the repository and may be absent.

use std::collections::BTreeMap;

use ff_spec::fused_message::{Activation, Filter, Inputs, Message, Radial, Variant};
use ff_spec::{Dtype, Prepare};
use ff_structure::neighbors;
use serde_json::Value;

fn numbers(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(items) => items.iter().flat_map(numbers).collect(),
        number => vec![number.as_f64().expect("a number")],
    }
}

fn transposed(rows: &Value) -> Vec<f64> {
    let rows: Vec<Vec<f64>> = rows.as_array().expect("a matrix").iter().map(numbers).collect();
    (0..rows[0].len()).flat_map(|column| rows.iter().map(move |row| row[column]).collect::<Vec<_>>()).collect()
}

#[test]
fn cfconv_of_water_as_schnetpack_computes_it() {
    let Some(path) = ff_testkit::shared("yardsticks/cfconv_water.json") else { return };
    let text = std::fs::read_to_string(&path).expect("a readable file");
    let file: Value = serde_json::from_str(&text).expect("valid JSON");
    let (width, n_basis) = (file["width"].as_u64().unwrap() as usize, file["n_gaussians"].as_u64().unwrap() as usize);
    let (r_cut, sigma) = (file["cutoff"].as_f64().unwrap(), file["sigma"].as_f64().unwrap());
    let positions: Vec<[f64; 3]> = numbers(&file["positions"]).chunks_exact(3).map(|r| [r[0], r[1], r[2]]).collect();
    for (name, case) in file["cases"].as_object().expect("cases by name") {
        let cell = case["cell"].as_array().map(|_| {
            let h = numbers(&case["cell"]);
            std::array::from_fn(|i| std::array::from_fn(|j| h[3 * i + j]))
        });
        let list = neighbors(&positions, cell, [cell.is_some(); 3], r_cut).expect("a valid structure");
        let activation = match case["activation"].as_str() {
            Some("shifted_softplus") => Activation::ShiftedSoftplus,
            Some("tanh") => Activation::Tanh,
            other => panic!("unknown activation {other:?}"),
        };
        let mu = (0..n_basis).map(|k| r_cut * k as f64 / (n_basis - 1) as f64).collect();
        let inputs = Inputs::<f64> {
            message: Message::Cfconv,
            n_atoms: positions.len(),
            features: width,
            row_ptr: list.row_ptr,
            sender: list.sender,
            edge_vec: list.edge_vec.concat(),
            nodes: (0..positions.len() * width).map(|i| 0.1 * i as f64).collect(),
            vectors: Vec::new(),
            radial: Radial {
                r_cut,
                n_basis,
                basis: BTreeMap::from([
                    ("mu".to_owned(), mu),
                    ("gamma".to_owned(), vec![0.5 / (sigma * sigma); n_basis]),
                ]),
                cutoff: BTreeMap::new(),
            },
            filter: Filter::Mlp {
                hidden: width,
                a1: transposed(&file["w1"]),
                b1: numbers(&file["b1"]),
                a2: transposed(&file["w2"]),
                b2: numbers(&file["b2"]),
                activation,
            },
        };
        let expected = numbers(&case["output"]);
        for runtime in ff_tests::runtimes() {
            let runtime: &dyn Prepare = runtime.as_ref();
            for id in ["cfconv_mlp_gaussian_cosine_receiver", "cfconv_mlp_gaussian_cosine_edge_atomic"] {
                let variant: Variant = id.parse().expect("this was rendered");
                for dtype in Dtype::ALL {
                    let config = runtime.default_config(&variant, dtype, &inputs.problem(name));
                    let mut launch = match runtime.prepare(&variant, dtype, &inputs, &config) {
                        Err(ff_spec::LaunchError::Unsupported(reason)) => {
                            println!("not tested: {id} {dtype}: {reason}");
                            continue;
                        }
                        launch => launch.expect("prepares"),
                    };
                    launch.run().expect("runs");
                    let got = launch.outputs().expect("reads back").nodes;
                    for (i, (got, want)) in got.iter().zip(&expected).enumerate() {
                        // The file's own tolerance: its values have eight digits and its program computed in f32.
                        let allowed = 1e-4 + 1e-3 * want.abs();
                        let kind = runtime.device().runtime;
                        assert!((got - want).abs() <= allowed, "{name} {kind} {id} {dtype} [{i}]: {got}, not {want}");
                    }
                    assert_eq!(got.len(), expected.len());
                }
            }
        }
    }
}
