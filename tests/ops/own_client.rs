//! A program that uses Burn's GPU backend before any kernel of this workspace: the op must work on its client all the
//! same. A process of its own, since a client is made once.

use burn::backend::wgpu::{Wgpu, WgpuDevice};
use burn::tensor::{Int, Tensor};
use ff_ops::fused_message::{FilterTensors, FusedMessageBackend, Graph, Options, fused_message};
use ff_spec::fused_message::Radial;

#[test]
fn a_client_that_burn_made_is_used() {
    let device = WgpuDevice::DefaultDevice;
    let made = std::panic::catch_unwind(|| Tensor::<Wgpu, 1>::ones([1], &device).into_data());
    if made.is_err() {
        println!("SKIPPED: Burn finds no adapter");
        return;
    }
    let id = <Wgpu>::device_id(&device);
    assert_eq!(id.slug, "", "a table would be chosen for a device that nobody identified: {id:?}");
    let graph = Graph::<Wgpu>::new(
        Tensor::<Wgpu, 1, Int>::from_ints([0, 1, 1], &device),
        Tensor::<Wgpu, 1, Int>::from_ints([1], &device),
        Tensor::from_floats([[0.0, 0.0, 1.0]], &device),
    )
    .unwrap();
    let x = Tensor::from_floats([[1.0], [2.0]], &device);
    // W = f_c(d)·b with b = 1 and f_c = ½ at half the cutoff.
    let filter = FilterTensors::Linear { a: Tensor::zeros([1, 1], &device), b: Tensor::ones([1], &device) };
    let radial = Radial { r_cut: 2.0, n_basis: 1, ..Radial::default() };
    let variant = "cfconv_linear_bessel_cosine_receiver".parse().unwrap();
    let y = fused_message(&graph, x, None, &radial, &filter, &Options { variant: &variant, tables: &[] }).unwrap();
    let y: Vec<f32> = y.nodes.into_data().to_vec().unwrap();
    assert!((y[0] - 1.0).abs() < 1e-6 && y[1] == 0.0, "{y:?}");
}
