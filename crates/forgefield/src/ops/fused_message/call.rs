//! Calls of `fused_message` on a workload, in every order.

use ff_kernels::fused_message::tabulate;
use ff_reference::radial::{RadialKind, default_parameters};
use ff_spec::fused_message::{
    Activation, BackwardInputs, DoubleBackwardInputs, Filter, FilterKind, Inputs, Message, Radial, Reduction, Variant,
    Wanted, backward_cost, cost, double_backward_cost,
};
use ff_spec::{
    Dtype, FusedMessage, FusedMessageBackward, FusedMessageDoubleBackward, LaunchConfig, Problem, RuntimeKind,
};
use ff_structure::{MessageSpec, builtin, message_inputs, random_linear, random_mlp};
use ff_testkit::fused_message::gradients::{random_cotangents, random_tangent, sparse_cotangents};
use ff_tune::Baseline;

use super::estimate::estimate;
use super::unfused::Unfused;
use crate::estimate::Estimator;
use crate::failure::{Failure, Result};
use crate::ops::order::{Counted, Maker, UsedOrder, on_tensors};
use crate::options::Sizes;
use crate::workload::{self, Workload};

/// Relative error of the tables that stand in for a filter: a tenth of what the gate allows in f32.
pub const TABLE_TOLERANCE: f64 = 1e-6;

/// Receivers that have cotangents: of so many the oracle knows every gradient in about a tenth of a second.
const RECEIVERS: usize = 64;

/// The variant whose filter is sampled into a table, of the message's usual model; the variant itself where it has none.
pub fn exact(variant: &Variant) -> Variant {
    let filter = match (variant.filter, variant.message) {
        (FilterKind::Tabulated, Message::Cfconv) => FilterKind::Mlp,
        (FilterKind::Tabulated, Message::Painn) => FilterKind::Linear,
        _ => return variant.clone(),
    };
    let radial = Some(("gaussian".to_owned(), "cosine".to_owned()));
    Variant { filter, radial, reduction: Reduction::Receiver, ..variant.clone() }
}

/// The tensors of one call of a variant, with seeded random features and weights.
///
/// # Errors
/// What is wrong with the sizes.
pub fn inputs(workload: &Workload, variant: &Variant, sizes: &Sizes) -> Result<Inputs<f64>> {
    let spec = spec(variant, sizes)?;
    message_inputs(&workload.structures, sizes.cutoff, &spec).map_err(Failure::input)
}

/// What makes these tensors when their turn comes; what can be wrong is found now.
fn maker<'a>(workload: &'a Workload, variant: &Variant, sizes: &Sizes) -> Result<impl Fn() -> Inputs<f64> + 'a> {
    let (spec, cutoff) = (spec(variant, sizes)?, sizes.cutoff);
    Ok(move || {
        message_inputs(&workload.structures, cutoff, &spec)
            .expect("`collect` made these neighbour lists before, and the shapes of the weights follow from the sizes")
    })
}

fn spec(variant: &Variant, sizes: &Sizes) -> Result<MessageSpec> {
    let channels = variant.message.parts() * sizes.features;
    let (n_basis, r_cut, seed) = (sizes.n_basis, sizes.cutoff, sizes.seed);
    let (radial, filter) = match &variant.radial {
        Some((basis, cutoff)) => {
            let parameters = |name: &str, kind| default_parameters(name, kind, r_cut, n_basis).map_err(Failure::input);
            let (basis, cutoff) = (parameters(basis, RadialKind::Basis)?, parameters(cutoff, RadialKind::Cutoff)?);
            let filter = match variant.filter {
                FilterKind::Mlp => random_mlp(n_basis, sizes.hidden, channels, Activation::ShiftedSoftplus, seed),
                FilterKind::Linear | FilterKind::Tabulated => random_linear(n_basis, channels, seed),
            };
            (Radial { r_cut, n_basis, basis, cutoff }, filter)
        }
        None => (Radial { r_cut, n_basis: 0, ..Radial::default() }, table(variant, sizes)?),
    };
    Ok(MessageSpec { message: variant.message, features: sizes.features, radial, filter, seed })
}

/// The filter of the message's usual model, sampled.
fn table(variant: &Variant, sizes: &Sizes) -> Result<Filter<f64>> {
    let sampled = exact(variant);
    let smallest = Workload::new(String::new(), builtin("h2").map_err(Failure::input)?);
    Ok(tabulate(&sampled, &inputs(&smallest, &sampled, sizes)?, 2, TABLE_TOLERANCE)?.filter)
}

/// A call on a built-in problem.
fn on_problem(problem: &str, variant: &Variant, sizes: &Sizes) -> Result<Inputs<f64>> {
    inputs(&workload::one(problem, sizes)?, variant, sizes)
}

impl UsedOrder for FusedMessage {
    on_tensors!();

    fn maker<'a>(workload: &'a Workload, variant: &Variant, sizes: &'a Sizes) -> Result<Maker<'a, Self>> {
        Ok(Box::new(maker(workload, variant, sizes)?))
    }

    fn recorded_call(variant: &Variant, problem: &str, sizes: &Sizes) -> Result<Inputs<f64>> {
        on_problem(problem, variant, sizes)
    }

    fn counted(variant: &Variant, problem: &Problem, dtype: Dtype) -> Counted {
        cost(variant, problem, dtype).into()
    }

    fn estimated(
        estimator: &Estimator,
        variant: &Variant,
        dtype: Dtype,
        problem: &Problem,
        config: &LaunchConfig,
    ) -> Option<f64> {
        estimate(estimator, variant, dtype, problem, config)
    }

    fn unfused(
        runtime: RuntimeKind,
        variant: &Variant,
        dtype: Dtype,
        inputs: &Inputs<f64>,
    ) -> std::result::Result<Option<Baseline>, String> {
        Unfused::new(runtime).measure(variant, dtype, inputs)
    }
}

impl UsedOrder for FusedMessageBackward {
    on_tensors!();

    /// In features and edge vectors, as forces need it: that is what the configurations of order 1 are chosen for, also where
    /// weights have gradients besides.
    fn maker<'a>(workload: &'a Workload, variant: &Variant, sizes: &'a Sizes) -> Result<Maker<'a, Self>> {
        let make = maker(workload, variant, sizes)?;
        Ok(Box::new(move || {
            let inputs = make();
            BackwardInputs { grad: sparse_cotangents(&inputs, sizes.seed, RECEIVERS), inputs, wanted: Wanted::INPUTS }
        }))
    }

    fn recorded_call(variant: &Variant, problem: &str, sizes: &Sizes) -> Result<BackwardInputs<f64>> {
        let inputs = on_problem(problem, variant, sizes)?;
        Ok(BackwardInputs { grad: random_cotangents(&inputs, 0), inputs, wanted: Wanted::ALL })
    }

    fn counted(variant: &Variant, problem: &Problem, dtype: Dtype) -> Counted {
        backward_cost(variant, problem, dtype).into()
    }
}

impl UsedOrder for FusedMessageDoubleBackward {
    on_tensors!();

    /// In a direction in features and edge vectors, as a loss on forces has it.
    fn maker<'a>(workload: &'a Workload, variant: &Variant, sizes: &'a Sizes) -> Result<Maker<'a, Self>> {
        let make = maker(workload, variant, sizes)?;
        Ok(Box::new(move || {
            let inputs = make();
            let tangent = random_tangent(&inputs, false, sizes.seed);
            DoubleBackwardInputs { grad: sparse_cotangents(&inputs, sizes.seed, RECEIVERS), inputs, tangent }
        }))
    }

    fn recorded_call(variant: &Variant, problem: &str, sizes: &Sizes) -> Result<DoubleBackwardInputs<f64>> {
        let inputs = on_problem(problem, variant, sizes)?;
        let grad = random_cotangents(&inputs, 0);
        let tangent = random_tangent(&inputs, variant.filter != FilterKind::Tabulated, 0);
        Ok(DoubleBackwardInputs { inputs, grad, tangent })
    }

    fn counted(variant: &Variant, problem: &Problem, dtype: Dtype) -> Counted {
        double_backward_cost(variant, problem, dtype).into()
    }
}
