//! `vector_norm`: the norm of vector features over their axes.

mod bench;

use std::path::PathBuf;
use std::rc::Rc;

use ff_kernels::vector_norm::{default_config, registered};
use ff_spec::vector_norm::{BackwardInputs, DoubleBackwardInputs, Inputs, OP, Strategy, Variant, cost};
use ff_spec::{DeviceId, Dtype, LaunchConfig, Problem, VectorNorm, VectorNormBackward, VectorNormDoubleBackward};
use ff_testkit::registry::{Registration, Twice, op};
use ff_testkit::vector_norm::{Kind, NormSpec, random_cotangents, random_inputs, random_tangent};

use super::AnyOp;
use super::order::{Counted, Maker, Orders, UsedOrder, on_tensors};
use crate::commands::bench::Case;
use crate::commands::bench::instructions::CountedJob;
use crate::failure::Result;
use crate::options::Sizes;
use crate::workload::{self, Workload};

const REGISTRATION: Registration<Twice<VectorNorm, VectorNormBackward, VectorNormDoubleBackward>> =
    op::<VectorNorm>().first::<VectorNormBackward>().second::<VectorNormDoubleBackward>();

/// As an op among all.
pub struct Norms;

/// The variant of an id of this op.
fn of(id: &str) -> Variant {
    id.parse().unwrap_or_else(|_| unreachable!("`{id}` was found among the variants of `{OP}`"))
}

impl AnyOp for Norms {
    fn name(&self) -> &'static str {
        OP
    }

    fn template_hash(&self) -> &'static str {
        ff_kernels::generated::VECTOR_NORM_TEMPLATE_HASH
    }

    fn about(&self) -> &'static str {
        "norms of vector features over their axes"
    }

    fn orders(&self) -> Orders {
        Orders::of(&REGISTRATION)
    }

    fn ids(&self) -> Vec<&'static str> {
        registered().iter().map(|registered| registered.id).collect()
    }

    fn text(&self, _id: &str) -> String {
        ff_kernels::vector_norm::host::SOURCE.to_owned()
    }

    fn is_deterministic(&self, _id: &str) -> bool {
        true
    }

    fn parameters(&self, _id: &str) -> Vec<String> {
        vec!["epsilon".to_owned()]
    }

    fn tuned_by_default(&self) -> &'static [&'static str] {
        &["channelwise"]
    }

    fn heading(&self, problem: &Problem) -> String {
        let Problem { name, n_atoms, features, .. } = problem;
        format!("{name}: {n_atoms} atoms, {features} channels")
    }

    fn widths(&self, _id: &str, sizes: &Sizes) -> [u32; 3] {
        [u32::try_from(sizes.features).unwrap_or(u32::MAX), 0, 0]
    }

    /// Atoms and channels: it sees neither edges nor systems.
    fn problem(&self, id: &str, name: &str, sizes: &Sizes) -> Result<Problem> {
        let geometry = workload::systems_of(name, sizes)?;
        let [features, ..] = self.widths(id, sizes);
        Ok(Problem { n_systems: 0, n_edges: 0, max_degree: 0, features, ..geometry })
    }

    fn default_config(&self, device: &DeviceId, id: &str, dtype: Dtype, problem: &Problem) -> LaunchConfig {
        default_config(device, &of(id), dtype, problem)
    }

    /// Its kernels have no loops: what a parameter changes is how many units there are.
    fn has_corners(&self, _id: &str, _order: u8, _dtype: Dtype) -> bool {
        false
    }

    fn bench_cases(&self, _structures: &[PathBuf]) -> Vec<Rc<dyn Case>> {
        bench::suite().into_iter().map(|case| Rc::new(case) as Rc<dyn Case>).collect()
    }

    fn counted_calls(&self) -> Vec<CountedJob> {
        // Whole registers, and a rest.
        let spec = NormSpec { n_atoms: 40, features: 100, kind: Kind::Ordinary };
        let mut jobs = Vec::new();
        for variant in registered().iter().map(|registered| registered.variant()) {
            for dtype in Dtype::ALL {
                jobs.push(CountedJob::by_tensors::<VectorNorm>(&variant, dtype, spec.clone()));
                jobs.push(CountedJob::by_tensors::<VectorNormBackward>(&variant, dtype, spec.clone()));
                jobs.push(CountedJob::by_tensors::<VectorNormDoubleBackward>(&variant, dtype, spec.clone()));
            }
        }
        jobs
    }

    fn usual(&self) -> Option<&'static str> {
        Some(Strategy::Channelwise.name())
    }

    fn unused_axes(&self, _id: &str) -> &'static [&'static str] {
        &["cutoff", "n_basis", "hidden"]
    }

    /// Widths that vectors of 4, 2 and 1 channels divide.
    #[cfg(test)]
    fn tried(&self) -> Vec<(&'static str, usize)> {
        [128, 126, 17].map(|features| (Strategy::Channelwise.name(), features)).into()
    }

    #[cfg(test)]
    fn host_takes(&self, config: &LaunchConfig) -> std::result::Result<(), ff_spec::LaunchError> {
        ff_kernels::vector_norm::host_config(config).map(|_| ())
    }

    #[cfg(test)]
    fn cube_takes(
        &self,
        limits: &ff_spec::Limits,
        (_, _, problem): (&str, Dtype, &Problem),
        config: &LaunchConfig,
    ) -> std::result::Result<(), ff_spec::LaunchError> {
        ff_kernels::vector_norm::cube_config(limits, problem.features as usize, config).map(|_| ())
    }
}

/// Random vectors of every atom, over [−1, 1), seeded.
fn inputs(workload: &Workload, sizes: &Sizes) -> Inputs<f64> {
    let n_atoms = workload.structures.iter().map(|structure| structure.n_atoms()).sum();
    random_inputs(&NormSpec { n_atoms, features: sizes.features, kind: Kind::Ordinary }, sizes.seed)
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
                sizes.check()?;
                let of: fn(Inputs<f64>, u64) -> Self::Inputs = $inputs;
                Ok(Box::new(move || of(inputs(workload, sizes), sizes.seed)))
            }

            /// Two atoms: the kernels are the same for any number, and what divides their channels decides how they are loaded.
            fn recorded_call(_: &Variant, _: &str, sizes: &Sizes) -> Result<Self::Inputs> {
                sizes.check()?;
                let of: fn(Inputs<f64>, u64) -> Self::Inputs = $inputs;
                let spec = NormSpec { n_atoms: 2, features: sizes.features, kind: Kind::Ordinary };
                Ok(of(random_inputs(&spec, 0), 0))
            }

            fn counted(_: &Variant, problem: &Problem, dtype: Dtype) -> Counted {
                cost(<Self as ff_spec::Op>::ORDER, problem, dtype).into()
            }
        }
    )*};
}

used! {
    VectorNorm: |inputs, _| inputs;
    VectorNormBackward: first;
    VectorNormDoubleBackward: second;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A table entry is found by atoms and channels alone.
    #[test]
    fn keys_have_neither_edges_nor_systems() {
        let sizes = Sizes { cutoff: 5.0, features: 32, n_basis: 4, hidden: 8, seed: 0 };
        let workload = workload::one("molecules", &sizes).unwrap_or_else(|e| panic!("{}", e.message));
        let problem = Norms.problem("channelwise", "molecules", &sizes).unwrap_or_else(|e| panic!("{}", e.message));
        assert_eq!(inputs(&workload, &sizes).problem("molecules"), problem);
        assert_eq!((problem.n_atoms, problem.features), (40, 32));
        let Problem { n_systems, n_edges, max_degree, n_basis, hidden, .. } = problem;
        assert_eq!((n_systems, n_edges, max_degree, n_basis, hidden), (0, 0, 0, 0, 0));
    }
}
