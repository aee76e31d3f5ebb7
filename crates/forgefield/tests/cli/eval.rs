//! `eval`: the user's own tensors, right and wrong.

use std::collections::HashMap;
use std::path::PathBuf;

use ff_reference::fused_message::{backward, forward};
use ff_spec::Dtype;
use ff_spec::fused_message::{BackwardInputs, Inputs, Variant, Wanted};
use ff_testkit::catalogue::CaseSet;
use ff_testkit::fused_message::cases;
use ff_testkit::fused_message::sampled;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype as FileDtype, TensorView};

use super::*;

/// A tensor as it goes into a file.
#[derive(Clone)]
struct Tensor(FileDtype, Vec<usize>, Vec<u8>);

fn f64s(shape: &[usize], values: &[f64]) -> Tensor {
    Tensor(FileDtype::F64, shape.to_vec(), values.iter().flat_map(|v| v.to_le_bytes()).collect())
}

fn f32s(shape: &[usize], values: &[f64]) -> Tensor {
    Tensor(FileDtype::F32, shape.to_vec(), values.iter().flat_map(|v| (*v as f32).to_le_bytes()).collect())
}

fn u32s(values: &[u32]) -> Tensor {
    Tensor(FileDtype::U32, vec![values.len()], values.iter().flat_map(|v| v.to_le_bytes()).collect())
}

type Tensors = HashMap<String, Tensor>;

fn tensors(inputs: &Inputs<f64>, dtype: Dtype) -> Tensors {
    let floats = |shape: &[usize], values: &[f64]| match dtype {
        Dtype::F32 => f32s(shape, values),
        Dtype::F64 => f64s(shape, values),
    };
    let mut all: Tensors =
        inputs.tensors().into_iter().map(|(name, shape, values)| (name, floats(&shape, values))).collect();
    all.insert("row_ptr".into(), u32s(&inputs.row_ptr));
    all.insert("sender".into(), u32s(&inputs.sender));
    all.insert("r_cut".into(), floats(&[], &[inputs.radial.r_cut]));
    all
}

fn save(path: PathBuf, tensors: &Tensors, metadata: &[(&str, &str)]) {
    let views = tensors.iter().map(|(name, Tensor(dtype, shape, bytes))| {
        (name.clone(), TensorView::new(*dtype, shape.clone(), bytes).expect("bytes of this shape"))
    });
    let metadata = metadata.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    std::fs::write(path, safetensors::serialize(views, Some(metadata)).expect("tensors")).expect("written");
}

fn case(id: &str, name: &str, dtype: Dtype) -> (Variant, Inputs<f64>) {
    let variant: Variant = id.parse().expect("a variant");
    let case = cases(CaseSet::Quick).into_iter().find(|c| c.id == name).expect("a case");
    let inputs = case.inputs(&variant, dtype, 1).expect("known radial functions");
    (variant, inputs)
}

fn eval(dir: &Path, variant: &str, dtype: Dtype) -> Done {
    let files = "--inputs in.safetensors --outputs out.safetensors";
    run(dir, &format!("eval fused_message --variant {variant} --dtype {dtype} --runtime host {files}"))
}

fn output(dir: &Path, name: &str) -> (Vec<usize>, Vec<f64>) {
    let bytes = std::fs::read(dir.join("out.safetensors")).expect("written");
    let file = SafeTensors::deserialize(&bytes).expect("a safetensors file");
    let view = file.tensor(name).expect("the output");
    let values = match view.dtype() {
        FileDtype::F32 => view.data().as_chunks().0.iter().map(|b| f32::from_le_bytes(*b).into()).collect(),
        FileDtype::F64 => view.data().as_chunks().0.iter().map(|b| f64::from_le_bytes(*b)).collect(),
        other => panic!("dtype {other:?}"),
    };
    (view.shape().to_vec(), values)
}

#[track_caller]
fn near(found: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len());
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    let off = norm(&mut found.iter().zip(expected).map(|(f, e)| f - e)) / norm(&mut expected.iter().copied());
    assert!(off <= tolerance, "relative error {off:e}, allowed {tolerance:e}");
}

#[test]
fn outputs_equal_the_oracle() {
    let dir = folder();
    for (id, name) in [
        ("cfconv_mlp_gaussian_cosine_receiver", "odd_boundary"),
        ("cfconv_linear_expnorm_polynomial_edge_atomic", "small"),
        ("painn_linear_bessel_cosine_receiver", "small"),
        ("painn_tabulated_receiver", "small"),
    ] {
        // The tolerances of the gate.
        for (dtype, tolerance) in [(Dtype::F32, 1e-5), (Dtype::F64, 1e-12)] {
            let (variant, inputs) = case(id, name, dtype);
            // The case `odd_boundary` has tanh, the others what is assumed anyway.
            let activation = if name == "odd_boundary" { "tanh" } else { "shifted_softplus" };
            save(dir.path().join("in.safetensors"), &tensors(&inputs, dtype), &[("activation", activation)]);
            eval(dir.path(), id, dtype).expect(0, &["runtime host: ", "config ", "wrote out.safetensors"]);
            let oracle = forward(&variant, &inputs).expect("right inputs").outputs;
            let (n, f) = (inputs.n_atoms, inputs.features);
            let nodes = if id.starts_with("cfconv") { "y" } else { "dq" };
            let (shape, values) = output(dir.path(), nodes);
            assert_eq!(shape, [n, f]);
            near(&values, &oracle.nodes, tolerance);
            if nodes == "dq" {
                let (shape, values) = output(dir.path(), "dmu");
                assert_eq!(shape, [n, 3, f]);
                near(&values, &oracle.vectors, tolerance);
            }
        }
    }
}

#[test]
fn the_outputs_say_how_they_were_made_and_are_the_same_each_time() {
    let dir = folder();
    let (_, inputs) = case("cfconv_linear_gaussian_cosine_receiver", "small", Dtype::F64);
    save(dir.path().join("in.safetensors"), &tensors(&inputs, Dtype::F64), &[]);
    let bytes = || {
        eval(dir.path(), "cfconv_linear_gaussian_cosine_receiver", Dtype::F64).expect(0, &[]);
        std::fs::read(dir.path().join("out.safetensors")).expect("written")
    };
    let first = bytes();
    assert_eq!(first, bytes());
    let (_, header) = SafeTensors::read_metadata(&first).expect("a header");
    let note: serde_json::Value =
        serde_json::from_str(&header.metadata().as_ref().expect("metadata")["forgefield"]).expect("JSON");
    assert_eq!(note["variant"], "cfconv_linear_gaussian_cosine_receiver");
    assert_eq!((&note["runtime"], &note["step"]), (&"host".into(), &"default".into()));
    assert!(note["config"].is_object() && note["reason"].is_string(), "{note}");
}

#[test]
fn defaults_stand_in_for_radial_parameters_and_other_integers_for_u32() {
    let dir = folder();
    let id = "cfconv_mlp_gaussian_cosine_receiver";
    let (variant, mut inputs) = case(id, "small", Dtype::F64);
    let mut file = tensors(&inputs, Dtype::F64);
    file.retain(|name, _| !name.starts_with("basis.") && name != "r_cut");
    let wide = |values: &[u32]| {
        Tensor(FileDtype::I64, vec![values.len()], values.iter().flat_map(|v| i64::from(*v).to_le_bytes()).collect())
    };
    file.insert("sender".into(), wide(&inputs.sender));
    file.insert("row_ptr".into(), wide(&inputs.row_ptr));
    save(dir.path().join("in.safetensors"), &file, &[("r_cut", "5.0"), ("activation", "shifted_softplus")]);
    eval(dir.path(), id, Dtype::F64).expect(0, &["`basis.mu` is not given, the default of `gaussian` is used"]);
    let kind = ff_reference::radial::RadialKind::Basis;
    inputs.radial.basis =
        ff_reference::radial::default_parameters("gaussian", kind, 5.0, inputs.radial.n_basis).expect("known");
    let oracle = forward(&variant, &inputs).expect("right inputs").outputs;
    near(&output(dir.path(), "y").1, &oracle.nodes, 1e-12);
}

#[test]
fn wrong_tensors_are_named_with_what_was_expected_and_found() {
    let dir = folder();
    let id = "painn_linear_gaussian_cosine_receiver";
    let (_, inputs) = case(id, "small", Dtype::F64);
    let right = tensors(&inputs, Dtype::F64);
    let (n, e, f, k) = (inputs.n_atoms, inputs.n_edges(), inputs.features, inputs.radial.n_basis);
    let wrong = |name: &str, tensor: Option<Tensor>, words: &[&str]| {
        let mut file = right.clone();
        file.remove(name);
        if let Some(tensor) = tensor {
            file.insert(name.to_owned(), tensor);
        }
        save(dir.path().join("in.safetensors"), &file, &[]);
        let done = eval(dir.path(), id, Dtype::F64).expect(2, &["in.safetensors"]).expect(2, words);
        assert!(!dir.path().join("out.safetensors").exists(), "{}", done.err);
    };
    // Shapes.
    let shape = format!("`mu` has shape [{n}, {f}], expected [n_atoms = {n}, 3, F]");
    wrong("mu", Some(f64s(&[n, f], &vec![0.0; n * f])), &[&shape]);
    let shape = format!("`s` has shape [{n}, {f}], expected [n_atoms = {n}, 3F = {}]", 3 * f);
    wrong("s", Some(f64s(&[n, f], &vec![0.0; n * f])), &[&shape]);
    let shape = format!("`A` has shape [{k}, {f}], expected [K, 3F = {}]", 3 * f);
    wrong("A", Some(f64s(&[k, f], &vec![0.0; k * f])), &[&shape]);
    let shape = format!("`basis.mu` has shape [1], expected [K = {k}]");
    wrong("basis.mu", Some(f64s(&[1], &[0.0])), &[&shape]);
    let shape = format!("`edge_vec` has shape [{}, 3], expected [n_edges = {e}, 3]", e - 1);
    wrong("edge_vec", Some(f64s(&[e - 1, 3], &vec![1.0; 3 * (e - 1)])), &[&shape]);
    // Dtypes.
    wrong("s", Some(f32s(&[n, 3 * f], &inputs.nodes)), &["`s` has dtype f32, expected f64, or --dtype f32"]);
    wrong("sender", Some(f64s(&[e], &vec![0.0; e])), &["`sender` has dtype f64, expected u32"]);
    // Values.
    let mut values = inputs.nodes.clone();
    values[3] = f64::NAN;
    wrong("s", Some(f64s(&[n, 3 * f], &values)), &["`s`[3] is NaN, expected a finite value"]);
    let mut values = inputs.edge_vec.clone();
    values[1] = f64::INFINITY;
    wrong("edge_vec", Some(f64s(&[e, 3], &values)), &["`edge_vec`[1] is inf"]);
    let mut sender = inputs.sender.clone();
    sender[2] = n as u32;
    wrong("sender", Some(u32s(&sender)), &[&format!("`sender`[2] is {n}, expected an atom below n_atoms = {n}")]);
    let negative = Tensor(FileDtype::I32, vec![e], vec![0xff; 4 * e]);
    wrong("sender", Some(negative), &["`sender`[0] is -1, expected 0 to 4294967295"]);
    let mut row_ptr = inputs.row_ptr.clone();
    row_ptr[1] = row_ptr[2] + 1;
    wrong("row_ptr", Some(u32s(&row_ptr)), &["`row_ptr` descends at row 1"]);
    wrong("r_cut", Some(f64s(&[], &[-1.0])), &["`r_cut` is -1, expected a positive radius"]);
    // Names.
    wrong("A", None, &["tensor `A` is missing", "edge_vec"]);
    wrong("edge_vect", Some(f64s(&[1], &[0.0])), &["unknown tensor `edge_vect`, did you mean `edge_vec`"]);
    wrong("basis.gama", Some(f64s(&[k], &vec![0.0; k])), &["unknown tensor `basis.gama`, did you mean `basis.gamma`"]);
}

#[test]
fn files_and_arguments_that_cannot_be_used() {
    let dir = folder();
    let id = "cfconv_tabulated_receiver";
    eval(dir.path(), id, Dtype::F32).expect(2, &["cannot read in.safetensors"]);
    std::fs::write(dir.path().join("in.safetensors"), b"not tensors").expect("written");
    eval(dir.path(), id, Dtype::F32).expect(2, &["in.safetensors: not a safetensors file"]);
    let (_, inputs) = case("cfconv_linear_gaussian_cosine_receiver", "small", Dtype::F32);
    let table = sampled(&inputs, ("gaussian", "cosine"), 2, 9).expect("known radial functions");
    let inputs = Inputs {
        filter: table,
        radial: ff_spec::fused_message::Radial {
            n_basis: 0,
            basis: Default::default(),
            cutoff: Default::default(),
            ..inputs.radial
        },
        ..inputs
    };
    save(dir.path().join("in.safetensors"), &tensors(&inputs, Dtype::F32), &[]);
    eval(dir.path(), id, Dtype::F32).expect(0, &[]);
    let words = format!("eval fused_message --variant {id} --inputs in.safetensors --outputs o --runtime host");
    run(dir.path(), &format!("{words} --grad g.safetensors")).expect(2, &["cannot read g.safetensors"]);
    let shape = [inputs.n_atoms, inputs.features];
    let bad = [
        ("z", f32s(&[1], &[1.0]), "unknown tensor `z`"),
        ("y", f32s(&[2], &[1.0, 2.0]), "`y` has shape [2]"),
        ("y", f64s(&shape, &vec![1.0; shape[0] * shape[1]]), "`y` has dtype f64, expected f32"),
        ("y", f32s(&shape, &vec![f64::NAN; shape[0] * shape[1]]), "`y`[0] is NaN, expected a finite value"),
    ];
    for (name, tensor, reason) in bad {
        save(dir.path().join("g.safetensors"), &HashMap::from([(name.to_owned(), tensor)]), &[]);
        run(dir.path(), &format!("{words} --grad g.safetensors")).expect(2, &["g.safetensors: ", reason]);
    }
    assert!(!dir.path().join("o").exists());
    // What is read is not written over.
    for (flag, name) in [("--inputs", "in.safetensors"), ("--grad", "g.safetensors")] {
        let before = std::fs::read(dir.path().join(name)).expect("there");
        let over = format!("{words} --grad g.safetensors").replace("--outputs o", &format!("--outputs ./{name}"));
        run(dir.path(), &over).expect(2, &["is the file of", flag, "expected another one"]);
        assert_eq!(std::fs::read(dir.path().join(name)).expect("kept"), before);
    }
    let file = dir.path().join("file");
    std::fs::write(&file, b"").expect("written");
    run(dir.path(), &words.replace("--outputs o", "--outputs file/out.safetensors"))
        .expect(2, &["cannot write file/out"]);
}

/// `--grad` writes the oracle's gradients beside the outputs.
#[test]
fn gradients_of_the_users_tensors() {
    for id in
        ["cfconv_mlp_gaussian_cosine_receiver", "painn_linear_bessel_polynomial_receiver", "painn_tabulated_receiver"]
    {
        let dir = tempfile::tempdir().expect("a folder");
        let (variant, inputs) = case(id, "small", Dtype::F64);
        let grad = ff_testkit::fused_message::gradients::random_cotangents(&inputs, 5);
        let given = BackwardInputs { inputs: inputs.clone(), grad, wanted: Wanted::ALL };
        let cotangents: Tensors = given
            .tensors()
            .into_iter()
            .filter_map(|(name, shape, values)| Some((name.strip_prefix("grad.")?.to_owned(), f64s(&shape, values))))
            .collect();
        save(dir.path().join("in.safetensors"), &tensors(&inputs, Dtype::F64), &[("activation", "shifted_softplus")]);
        save(dir.path().join("g.safetensors"), &cotangents, &[]);
        let words = format!(
            "eval fused_message --variant {id} --dtype f64 --inputs in.safetensors --outputs out.safetensors --runtime host \
             --grad g.safetensors"
        );
        run(dir.path(), &words).expect(0, &[]);
        let bytes = std::fs::read(dir.path().join("out.safetensors")).expect("written");
        let found = SafeTensors::deserialize(&bytes).expect("tensors");
        let expected = backward(&variant, &given).expect("gradients").outputs;
        for (name, shape, expected) in expected.named("grad", &inputs) {
            let view = found.tensor(&name).expect("a gradient");
            assert_eq!(view.shape(), shape, "{id} {name}");
            let values = view.data().chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().expect("eight bytes")));
            let scale = expected.iter().fold(0.0, |m: f64, x| m.max(x.abs()));
            assert!(scale > 0.0, "{id} {name} tells nothing");
            for (found, expected) in values.zip(expected) {
                assert!((found - expected).abs() <= 1e-11 * scale, "{id} {name}: {found} and {expected}");
            }
        }
    }
}
