//! `force_scatter`: edge gradients to forces and strain derivatives.

mod bench;

use std::path::PathBuf;
use std::rc::Rc;

use ff_kernels::force_scatter::{default_config, registered};
use ff_spec::force_scatter::{BackwardInputs, DoubleBackwardInputs, Inputs, OP, Reduction, Variant, cost};
use ff_spec::{DeviceId, Dtype, ForceScatter, ForceScatterBackward, ForceScatterDoubleBackward, LaunchConfig, Problem};
use ff_testkit::degrees::Degrees;
use ff_testkit::force_scatter::{ScatterSpec, random_cotangents, random_tangent};
use ff_testkit::registry::{Registration, Twice, op};

use super::AnyOp;
use super::order::{Counted, Maker, Orders, UsedOrder, on_tensors};
use crate::commands::bench::Case;
use crate::commands::bench::instructions::CountedJob;
use crate::failure::Result;
use crate::options::Sizes;
use crate::workload::{Edges, Workload};

const REGISTRATION: Registration<Twice<ForceScatter, ForceScatterBackward, ForceScatterDoubleBackward>> =
    op::<ForceScatter>().first::<ForceScatterBackward>().second::<ForceScatterDoubleBackward>();

/// As an op among all.
pub struct Scatters;

/// The variant of an id of this op.
fn of(id: &str) -> Variant {
    id.parse().unwrap_or_else(|_| unreachable!("`{id}` was found among the variants of `{OP}`"))
}

impl AnyOp for Scatters {
    fn name(&self) -> &'static str {
        OP
    }

    fn template_hash(&self) -> &'static str {
        ff_kernels::generated::FORCE_SCATTER_TEMPLATE_HASH
    }

    fn about(&self) -> &'static str {
        "edge gradients to forces and strain derivatives"
    }

    fn orders(&self) -> Orders {
        Orders::of(&REGISTRATION)
    }

    fn ids(&self) -> Vec<&'static str> {
        registered().iter().map(|registered| registered.id).collect()
    }

    fn text(&self, _id: &str) -> String {
        ff_kernels::force_scatter::host::SOURCE.to_owned()
    }

    fn is_deterministic(&self, id: &str) -> bool {
        of(id).reduction == Reduction::Gather
    }

    fn tuned_by_default(&self) -> &'static [&'static str] {
        &["gather", "atomic"]
    }

    fn default_config(&self, device: &DeviceId, id: &str, dtype: Dtype, problem: &Problem) -> LaunchConfig {
        default_config(device, &of(id), dtype, problem)
    }

    /// Its kernels are few and compiled at their defaults.
    fn has_corners(&self, _id: &str, _order: u8, _dtype: Dtype) -> bool {
        false
    }

    fn bench_cases(&self, _structures: &[PathBuf]) -> Vec<Rc<dyn Case>> {
        bench::suite().into_iter().map(|case| Rc::new(case) as Rc<dyn Case>).collect()
    }

    fn counted_calls(&self) -> Vec<CountedJob> {
        let spec = ScatterSpec { systems: vec![60, 3, 1], degrees: Degrees::Uniform(40), cancelling: false };
        let mut jobs = Vec::new();
        for variant in registered().iter().map(|registered| registered.variant()) {
            for dtype in Dtype::ALL {
                jobs.push(CountedJob::by_tensors::<ForceScatter>(&variant, dtype, spec.clone()));
                jobs.push(CountedJob::by_tensors::<ForceScatterBackward>(&variant, dtype, spec.clone()));
                jobs.push(CountedJob::by_tensors::<ForceScatterDoubleBackward>(&variant, dtype, spec.clone()));
            }
        }
        jobs
    }

    /// Without a variant by `gather`, which every device has.
    fn usual(&self) -> Option<&'static str> {
        Some(Reduction::Gather.name())
    }

    fn unused_axes(&self, _id: &str) -> &'static [&'static str] {
        &["features", "n_basis", "hidden"]
    }

    #[cfg(test)]
    fn host_takes(&self, config: &LaunchConfig) -> std::result::Result<(), ff_spec::LaunchError> {
        ff_kernels::force_scatter::host_config(config).map(|_| ())
    }

    #[cfg(test)]
    fn cube_takes(
        &self,
        limits: &ff_spec::Limits,
        (_, dtype, _): (&str, Dtype, &Problem),
        config: &LaunchConfig,
    ) -> std::result::Result<(), ff_spec::LaunchError> {
        ff_kernels::force_scatter::cube_config(limits, dtype, config).map(|_| ())
    }
}

/// The edges of a full list with random gradients, over [−1, 1) eV/Å, seeded.
fn inputs(workload: &Workload, sizes: &Sizes) -> Result<Inputs<f64>> {
    let Edges { row_ptr, sender, edge_vec } = workload.edges(sizes.cutoff)?;
    let (edge_grad, system_ptr) = (vec![0.0; edge_vec.len()], workload.system_ptr());
    let inputs = Inputs { row_ptr, sender, edge_vec, edge_grad, system_ptr };
    Ok(Inputs { edge_grad: random_tangent(&inputs, sizes.seed).edge_grad, ..inputs })
}

/// What makes these when their turn comes.
fn maker<'a>(workload: &'a Workload, sizes: &'a Sizes) -> Result<impl Fn() -> Inputs<f64> + 'a> {
    inputs(workload, sizes)?;
    Ok(move || inputs(workload, sizes).expect("these inputs were made just before"))
}

/// Two atoms that are each other's neighbours.
fn pair() -> Inputs<f64> {
    let edges = vec![0.5; 6];
    Inputs {
        row_ptr: vec![0, 1, 2],
        sender: vec![1, 0],
        edge_vec: edges.clone(),
        edge_grad: edges,
        system_ptr: vec![0, 2],
    }
}

fn first(inputs: Inputs<f64>, seed: u64) -> BackwardInputs<f64> {
    BackwardInputs { grad: random_cotangents(&inputs, seed), inputs }
}

fn second(inputs: Inputs<f64>, seed: u64) -> DoubleBackwardInputs<f64> {
    let (grad, tangent) = (random_cotangents(&inputs, seed), random_tangent(&inputs, seed));
    DoubleBackwardInputs { inputs, grad, tangent }
}

/// [`UsedOrder`] of an order: its inputs from those of the forward and a seed.
macro_rules! used {
    ($($op:ident: $inputs:expr;)*) => {$(
        impl UsedOrder for $op {
            on_tensors!();

            fn maker<'a>(workload: &'a Workload, _: &Variant, sizes: &'a Sizes) -> Result<Maker<'a, Self>> {
                let make = maker(workload, sizes)?;
                let of: fn(Inputs<f64>, u64) -> Self::Inputs = $inputs;
                Ok(Box::new(move || of(make(), sizes.seed)))
            }

            fn recorded_call(_: &Variant, _: &str, _: &Sizes) -> Result<Self::Inputs> {
                let of: fn(Inputs<f64>, u64) -> Self::Inputs = $inputs;
                Ok(of(pair(), 0))
            }

            fn counted(_: &Variant, problem: &Problem, dtype: Dtype) -> Counted {
                cost(<Self as ff_spec::Op>::ORDER, problem, dtype).into()
            }
        }
    )*};
}

used! {
    ForceScatter: |inputs, _| inputs;
    ForceScatterBackward: first;
    ForceScatterDoubleBackward: second;
}
