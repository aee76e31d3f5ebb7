//! A layer against one call at a time and, without a graph, against the oracle.

use std::sync::Arc;

use burn::backend::wgpu::Wgpu;
use burn::tensor::backend::Backend;
use burn::tensor::{DType, Tensor};
use burn_flex::Flex;
use ff_ops::fused_message::{
    Features, FilterTensors, FusedMessageBackend, Layer, MessageGradients, OpError, Options, fused_message,
};
use ff_reference::fused_message as oracle;
use ff_spec::fused_message::{
    BackwardInputs, DoubleBackwardInputs, Inputs, Message as MessageKind, Outputs, Reduction, Variant, Wanted,
};
use ff_spec::{Dtype, FusedMessageBackward, FusedMessageDoubleBackward, LaunchConfig, RuntimeKind};
use ff_testkit::degrees::Degrees;
use ff_testkit::fused_message::CaseSpec;
use ff_testkit::fused_message::gradients::{random_cotangents, random_tangent};
use ff_testkit::fused_message::small::{assert_agree, case, spec, variants};
use ff_testkit::tensors::ByTensors;
use ff_testkit::tolerance::{Order, tolerance};

use crate::fused_message::{entry, table};
use crate::testing::{filter, floats, graph, numbers_of};

fn features<B: Backend>(inputs: &Inputs<f64>, dtype: Dtype) -> Features<B> {
    let (device, n) = (Default::default(), inputs.n_atoms);
    let vectors = floats(
        &inputs.vectors,
        [inputs.vectors.len() / (3 * inputs.features).max(1), 3, inputs.features],
        dtype,
        &device,
    );
    Features {
        nodes: floats(&inputs.nodes, [n, inputs.channels()], dtype, &device),
        vectors: (inputs.message == MessageKind::Painn).then_some(vectors),
    }
}

fn cotangents<B: Backend>(inputs: &Inputs<f64>, grad: &Outputs<f64>, dtype: Dtype) -> Features<B> {
    let (device, n, f) = (Default::default(), inputs.n_atoms, inputs.features);
    Features {
        nodes: floats(&grad.nodes, [n, f], dtype, &device),
        vectors: (inputs.message == MessageKind::Painn).then(|| floats(&grad.vectors, [n, 3, f], dtype, &device)),
    }
}

fn layer<B: FusedMessageBackend>(variant: &Variant, inputs: &Inputs<f64>) -> Layer<B> {
    Layer::new(variant, &inputs.radial, Vec::new(), &Default::default()).unwrap()
}

fn numbers<B: FusedMessageBackend>(found: &MessageGradients<B>) -> Vec<Vec<f64>> {
    let mut all: Vec<Vec<f64>> = found.nodes.iter().map(numbers_of).collect();
    all.extend(found.vectors.iter().map(numbers_of));
    all.extend(found.edge_vec.iter().map(numbers_of));
    all.extend(found.filter.iter().flat_map(FilterTensors::flat).map(|tensor| numbers_of(&tensor)));
    all
}

fn assert_all(what: &str, found: &[Vec<f64>], expected: Vec<(&'static str, &[f64])>, tolerance: f64) {
    let expected: Vec<_> = expected.into_iter().filter(|(_, values)| !values.is_empty()).collect();
    assert_eq!(found.len(), expected.len(), "{what}");
    for (found, (name, expected)) in found.iter().zip(expected) {
        assert_agree(&format!("{what} {name}"), found, expected, tolerance);
    }
}

/// The forward again and again, and both backwards of cotangents and tangents that no graph made.
fn is_the_oracle_s<B: FusedMessageBackend>(dtype: Dtype) {
    for reduction in Reduction::ALL {
        for variant in variants("bessel", "polynomial", reduction) {
            let inputs = case(&spec(), &variant);
            let (grad, tangent) = (random_cotangents(&inputs, 3), random_tangent(&inputs, true, 3));
            let all = DoubleBackwardInputs { inputs, grad, tangent };
            let all = FusedMessageDoubleBackward::rounded(&all, dtype);
            let DoubleBackwardInputs { inputs, grad, tangent } = &all;
            let device = B::Device::default();
            let layer = layer::<B>(&variant, inputs);
            let loaded = layer.load(filter(inputs, dtype, &device)).unwrap();
            let graph = graph::<B>(inputs, dtype, DType::I32, &device).unwrap();
            let what = format!("{variant} {dtype}");

            let Features { nodes, vectors } = features(inputs, dtype);
            let options = Options { variant: &variant, tables: &[] };
            let once = fused_message(&graph, nodes, vectors, &inputs.radial, &filter(inputs, dtype, &device), &options);
            let once = once.unwrap();
            for call in 0..3 {
                let found = layer.forward(&graph, features(inputs, dtype), &loaded).unwrap();
                assert_eq!(found.chosen[0], once.chosen[0], "{what}");
                // Sums of atomics come in any order.
                let tolerance = if reduction == Reduction::Receiver { 0.0 } else { tolerance(dtype, Order::Forward) };
                assert_agree(
                    &format!("{what} call {call}"),
                    &numbers_of(&found.nodes),
                    &numbers_of(&once.nodes),
                    tolerance,
                );
                for (found, once) in found.vectors.iter().zip(&once.vectors) {
                    assert_agree(&format!("{what} call {call}"), &numbers_of(found), &numbers_of(once), tolerance);
                }
            }

            let wanted = Wanted::ALL;
            let first = FusedMessageBackward::rounded(
                &BackwardInputs { inputs: inputs.clone(), grad: grad.clone(), wanted },
                dtype,
            );
            let expected = oracle::backward(&variant, &first).unwrap().outputs;
            let given = || (features(inputs, dtype), cotangents::<B>(inputs, grad, dtype));
            for _ in 0..2 {
                let (features, grad) = given();
                let found = layer.backward(&graph, features, &loaded, grad, wanted).unwrap();
                assert_all(&what, &numbers(&found), expected.tensors(), tolerance(dtype, Order::First));
            }
            let (of_features, of_grad) = given();
            let forces = Wanted { nodes: false, edge_vec: true, filter: false };
            let found = layer.backward(&graph, of_features, &loaded, of_grad, forces).unwrap();
            let tensors = vec![("edge_vec", &expected.edge_vec[..])];
            assert_all(&what, &numbers(&found), tensors, tolerance(dtype, Order::First));

            let weights = tangent.filter.as_ref().map(|weights| {
                FilterTensors::upload(weights, inputs.radial.n_basis, inputs.channels(), dtype, &device)
            });
            let along = Inputs { nodes: tangent.nodes.clone(), vectors: tangent.vectors.clone(), ..inputs.clone() };
            let Features { nodes, vectors } = features::<B>(&along, dtype);
            let edge_vec = floats(&tangent.edge_vec, [inputs.n_edges(), 3], dtype, &device);
            let direction = MessageGradients { nodes: Some(nodes), vectors, edge_vec: Some(edge_vec), filter: weights };
            let (of_features, of_grad) = given();
            let found = layer.double_backward(&graph, of_features, &loaded, of_grad, direction, wanted).unwrap();
            let expected = oracle::double_backward(&variant, &all).unwrap().outputs;
            let mut numbers_found = vec![numbers_of(&found.cotangents.nodes)];
            numbers_found.extend(found.cotangents.vectors.iter().map(numbers_of));
            numbers_found.extend(numbers(&found.gradients));
            assert_all(&what, &numbers_found, expected.tensors(), tolerance(dtype, Order::Second));
        }
    }
}

#[test]
fn a_layer_is_the_oracle_s_on_host() {
    for dtype in Dtype::ALL {
        is_the_oracle_s::<Flex>(dtype);
    }
}

#[test]
fn a_layer_is_the_oracle_s_on_a_device() {
    match ff_kernels::open(RuntimeKind::Vulkan) {
        Ok(_) => {
            is_the_oracle_s::<Wgpu>(Dtype::F32);
            is_the_oracle_s::<burn_fusion::Fusion<Wgpu>>(Dtype::F32);
        }
        Err(error) => println!("not tested on a GPU: {error}"),
    }
}

/// A tangent of edge vectors alone is one whose other tensors are zero.
#[test]
fn what_a_tangent_lacks_is_zero() {
    let variant: Variant = "painn_mlp_gaussian_cosine_receiver".parse().unwrap();
    let inputs = case(&spec(), &variant);
    let (dtype, device) = (Dtype::F64, Default::default());
    let layer = layer::<Flex>(&variant, &inputs);
    let loaded = layer.load(filter(&inputs, dtype, &device)).unwrap();
    let graph = graph::<Flex>(&inputs, dtype, DType::I32, &device).unwrap();
    let grad = random_cotangents(&inputs, 3);
    let edge_vec = || Some(floats(&random_tangent(&inputs, false, 3).edge_vec, [inputs.n_edges(), 3], dtype, &device));
    let zeros = Inputs {
        nodes: vec![0.0; inputs.nodes.len()],
        vectors: vec![0.0; inputs.vectors.len()],
        filter: inputs.filter.map(|_| 0.0),
        ..inputs.clone()
    };
    let Features { nodes, vectors } = features(&zeros, dtype);
    let full = MessageGradients {
        nodes: Some(nodes),
        vectors,
        edge_vec: edge_vec(),
        filter: Some(filter(&zeros, dtype, &device)),
    };
    let of = |tangent| {
        let grad = cotangents(&inputs, &grad, dtype);
        let found =
            layer.double_backward(&graph, features(&inputs, dtype), &loaded, grad, tangent, Wanted::ALL).unwrap();
        (numbers_of(&found.cotangents.nodes), numbers(&found.gradients))
    };
    let found = of(MessageGradients { edge_vec: edge_vec(), ..MessageGradients::none() });
    let expected = of(full);
    assert_agree("cotangents", &found.0, &expected.0, 1e-14);
    for (found, expected) in found.1.iter().zip(&expected.1) {
        assert_agree("gradients", found, expected, 1e-14);
    }
}

/// One layer serves both dtypes, and filters of either.
#[test]
fn a_layer_keeps_each_dtype_apart() {
    let variant: Variant = "painn_linear_expnorm_cosine_receiver".parse().unwrap();
    let inputs = case(&spec(), &variant);
    let device = Default::default();
    let layer = layer::<Flex>(&variant, &inputs);
    let found = |dtype| {
        let loaded = layer.load(filter(&inputs, dtype, &device)).unwrap();
        let graph = graph::<Flex>(&inputs, dtype, DType::I32, &device).unwrap();
        numbers_of(&layer.forward(&graph, features(&inputs, dtype), &loaded).unwrap().nodes)
    };
    let (single, double) = (found(Dtype::F32), found(Dtype::F64));
    assert_agree("f32", &single, &double, tolerance(Dtype::F32, Order::Forward));
    assert_ne!(single, double, "f64 was computed in f32");
}

/// A list that gains an edge keeps the configuration that the first list had; another size selects its own.
#[test]
fn a_size_class_keeps_its_configuration() {
    let variant: Variant = "painn_linear_gaussian_cosine_receiver".parse().unwrap();
    let of = |n_atoms, degree| case(&CaseSpec { n_atoms, degrees: Degrees::Uniform(degree), ..spec() }, &variant);
    let (small, large) = (of(11, 13), of(64, 13));
    let config = |edges| LaunchConfig::from([("edges_per_task", edges), ("edges_per_tile", 16), ("channel_block", 16)]);
    let host = Flex::device_id(&Default::default());
    let mut both = table(host, &variant, &small, config(3));
    let slug = both.device.slug.clone();
    both.insert(entry(&slug, &variant, 0, &large, config(5))).unwrap();
    let layer = Layer::<Flex>::new(&variant, &small.radial, [both], &Default::default()).unwrap();
    let chosen = |inputs: &Inputs<f64>| {
        let (dtype, device) = (Dtype::F32, Default::default());
        let loaded = layer.load(filter(inputs, dtype, &device)).unwrap();
        let graph = graph::<Flex>(inputs, dtype, DType::I32, &device).unwrap();
        layer.forward(&graph, features(inputs, dtype), &loaded).unwrap().chosen
    };
    let first = chosen(&small);
    assert_eq!(first[0].config, config(3));
    let mut longer = small.clone();
    longer.sender.push(0);
    longer.edge_vec.extend([1.0, 0.0, 0.0]);
    *longer.row_ptr.last_mut().unwrap() += 1;
    assert!(Arc::ptr_eq(&first, &chosen(&longer)), "chosen again for one edge more");
    assert_eq!(chosen(&large)[0].config, config(5));
    assert!(Arc::ptr_eq(&first, &chosen(&small)));
}

#[test]
fn what_does_not_fit_a_layer_is_named() {
    let variant: Variant = "painn_mlp_gaussian_cosine_receiver".parse().unwrap();
    let inputs = case(&spec(), &variant);
    let (dtype, device) = (Dtype::F32, Default::default());
    let layer = layer::<Flex>(&variant, &inputs);
    let reason = |error: OpError| error.to_string();

    let mut radial = inputs.radial.clone();
    radial.r_cut = f64::NAN;
    let found = reason(Layer::<Flex>::new(&variant, &radial, Vec::new(), &device).err().unwrap());
    assert!(found.contains("`r_cut` is NaN"), "{found}");
    let unknown = "painn_linear_mine_cosine_receiver".parse().unwrap();
    let found = reason(Layer::<Flex>::new(&unknown, &inputs.radial, Vec::new(), &device).err().unwrap());
    assert!(found.contains("unknown variant"), "{found}");

    let linear = case(&spec(), &"painn_linear_gaussian_cosine_receiver".parse().unwrap());
    let found = reason(layer.load(filter(&linear, dtype, &device)).err().unwrap());
    assert!(found.contains("with filter `linear`"), "{found}");
    let FilterTensors::Mlp { a1, b1, a2, activation, .. } = filter::<Flex>(&inputs, dtype, &device) else {
        unreachable!("an mlp")
    };
    let short = FilterTensors::Mlp { a1, b1, a2, b2: Tensor::zeros([20], &device), activation };
    let found = reason(layer.load(short).err().unwrap());
    assert!(found.contains("`A2` has shape [6, 21]"), "{found}");

    let loaded = layer.load(filter(&inputs, dtype, &device)).unwrap();
    let graph = graph::<Flex>(&inputs, dtype, DType::I32, &device).unwrap();
    let narrow = case(&CaseSpec { features: 5, ..spec() }, &variant);
    let found = reason(layer.forward(&graph, features(&narrow, dtype), &loaded).err().unwrap());
    assert!(found.contains("`nodes` has shape [11, 15], expected [n_atoms, C] = [11, 21] as the filter"), "{found}");
    let wide = layer.load(filter(&inputs, Dtype::F64, &device)).unwrap();
    let found = reason(layer.forward(&graph, features(&inputs, dtype), &wide).err().unwrap());
    assert!(found.contains("`filter` is f64, expected f32 as `nodes`"), "{found}");

    let grad = || cotangents::<Flex>(&inputs, &random_cotangents(&inputs, 3), dtype);
    let backward =
        |grad| reason(layer.backward(&graph, features(&inputs, dtype), &loaded, grad, Wanted::ALL).err().unwrap());
    let found = backward(Features { vectors: None, ..grad() });
    assert_eq!(found, "message `painn` reads `cotangent of mu`, found none");
    let found = backward(Features { nodes: Tensor::zeros([11, 21], &device), ..grad() });
    assert!(found.contains("`cotangent of nodes` has shape [11, 21], expected [n_atoms, F] = [11, 7]"), "{found}");
    let double = |tangent| {
        let found = layer.double_backward(&graph, features(&inputs, dtype), &loaded, grad(), tangent, Wanted::ALL);
        reason(found.err().unwrap())
    };
    let none = MessageGradients::none;
    let found = double(MessageGradients { edge_vec: Some(Tensor::zeros([3, 3], &device)), ..none() });
    assert!(found.contains("`tangent of edge_vec` has shape [3, 3]"), "{found}");
    let found = double(MessageGradients { filter: Some(filter(&linear, dtype, &device)), ..none() });
    assert!(found.contains("with filter `linear`"), "{found}");
    let hidden = case(&CaseSpec { hidden: 9, ..spec() }, &variant);
    let found = double(MessageGradients { filter: Some(filter(&hidden, dtype, &device)), ..none() });
    assert!(found.contains("`tangent of A1` has shape [5, 9], expected [K, H] = [5, 6]"), "{found}");
}
