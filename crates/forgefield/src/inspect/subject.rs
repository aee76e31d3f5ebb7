//! What is inspected: a variant of an op in one of its orders, and what stands for the tensors of its calls.

use std::sync::{Mutex, PoisonError};

use ff_kernels::{cell_list as lists, force_scatter as scatters, fused_message as messages};
use ff_record::{Kernel, Recorder};
use ff_spec::fused_message::{BackwardInputs, DoubleBackwardInputs, FilterKind, Inputs, Wanted};
use ff_spec::{
    Cost, DeviceId, Dtype, ForceScatter, ForceScatterBackward, ForceScatterDoubleBackward, FusedMessage,
    FusedMessageBackward, FusedMessageDoubleBackward, LaunchConfig, LaunchError, Problem, backward_cost, cell_list,
    cost, double_backward_cost, force_scatter, fused_message, list_bytes, scatter_cost,
};
use ff_testkit::{force_scatter as scatter_kit, gradients};
use ff_tune::{Part, Space, Spaces, Target};
use serde::Serialize;

use crate::failure::{Failure, Result};
use crate::options::Sizes;
use crate::{variants, workload};

/// A variant in one of its orders.
#[derive(Clone, Debug)]
pub enum Subject {
    /// Of `fused_message`.
    Message(fused_message::Variant, u8),
    /// Of `cell_list`, which has one order.
    List(cell_list::Variant),
    /// Of `force_scatter`.
    Scatter(force_scatter::Variant, u8),
}

/// What is counted of a call.
#[derive(Serialize)]
pub struct Counted {
    /// Absent where FLOPs depend on more than sizes.
    pub cost: Option<Cost>,
    /// Every input read once and every output written once.
    pub compulsory_bytes: u64,
}

/// The tensors of one call. Kernels are the same for any number of atoms and edges, so there are few.
pub enum Call {
    /// Of each order.
    Message(Inputs<f64>),
    /// Of the first backward.
    Backward(BackwardInputs<f64>),
    /// Of the second.
    DoubleBackward(DoubleBackwardInputs<f64>),
    /// Of a list.
    List(cell_list::Inputs<f64>),
    /// Of a scatter in each order.
    Scatter(force_scatter::Inputs<f64>),
    /// Of its first backward.
    ScatterBackward(force_scatter::BackwardInputs<f64>),
    /// Of its second.
    ScatterDoubleBackward(force_scatter::DoubleBackwardInputs<f64>),
}

impl Subject {
    /// The variant of exactly this id, in an order that its op has.
    ///
    /// # Errors
    /// An unknown op, variant or order, with what is known.
    pub fn find(op: &str, id: &str, order: u8) -> Result<Self> {
        variants::op(op)?;
        match op {
            cell_list::OP if order > 0 => {
                Err(Failure::input(format!("`{op}` has no derivatives, expected --order 0 and found {order}")))
            }
            cell_list::OP => Ok(Self::List(variants::one_list(id)?)),
            force_scatter::OP => Ok(Self::Scatter(variants::one_scatter(id)?, order)),
            _ => Ok(Self::Message(variants::one(id)?, order)),
        }
    }

    /// Every variant of an op in every order.
    pub fn all(op: &str) -> Vec<Self> {
        let orders = 0..=2;
        match op {
            cell_list::OP => lists::registered().iter().map(|r| Self::List(r.variant())).collect(),
            force_scatter::OP => {
                let of_order = |o| scatters::registered().iter().map(move |r| Self::Scatter(r.variant(), o));
                orders.flat_map(of_order).collect()
            }
            _ => {
                orders.flat_map(|o| messages::registered().iter().map(move |r| Self::Message(r.variant(), o))).collect()
            }
        }
    }

    /// The op.
    pub fn op(&self) -> &'static str {
        match self {
            Self::Message(..) => fused_message::OP,
            Self::List(_) => cell_list::OP,
            Self::Scatter(..) => force_scatter::OP,
        }
    }

    /// The derivative order.
    pub fn order(&self) -> u8 {
        match self {
            Self::Message(_, order) | Self::Scatter(_, order) => *order,
            Self::List(_) => 0,
        }
    }

    /// The id of the variant.
    pub fn id(&self) -> String {
        match self {
            Self::Message(variant, _) => variant.id(),
            Self::List(variant) => variant.id(),
            Self::Scatter(variant, _) => variant.id(),
        }
    }

    /// The id, with the order where it is a derivative.
    pub fn name(&self) -> String {
        match self.order() {
            0 => self.id(),
            order => format!("{} order {order}", self.id()),
        }
    }

    /// The source of the host kernels; of a message, what was rendered for them.
    pub fn text(&self) -> String {
        match self {
            Self::Message(variant, _) => messages::find(variant).map(messages::Registered::text).unwrap_or_default(),
            Self::List(_) => lists::host::SOURCE.to_owned(),
            Self::Scatter(..) => scatters::host::SOURCE.to_owned(),
        }
    }

    /// The sizes of a call on a built-in problem.
    ///
    /// # Errors
    /// An unknown problem, or sizes that no kernel has.
    pub fn problem(&self, name: &str, sizes: &Sizes) -> Result<Problem> {
        match self {
            Self::Message(variant, _) => workload::sizes_of(name, variant, sizes),
            Self::List(variant) => {
                let problem = workload::systems_of(name, sizes)?;
                let n_edges = match variant.list {
                    cell_list::List::Full => problem.n_edges,
                    cell_list::List::Half => problem.n_edges / 2,
                };
                Ok(Problem { n_edges, ..problem })
            }
            Self::Scatter(..) => workload::systems_of(name, sizes),
        }
    }

    /// The configuration that is used where no table entry applies.
    pub fn default_config(&self, device: &DeviceId, dtype: Dtype, problem: &Problem) -> LaunchConfig {
        match self {
            Self::Message(variant, _) => messages::default_config(device, variant, dtype, problem),
            Self::List(variant) => lists::default_config(device, variant, dtype, problem),
            Self::Scatter(variant, _) => scatters::default_config(device, variant, dtype, problem),
        }
    }

    /// Counts a call.
    pub fn counted(&self, problem: &Problem, dtype: Dtype) -> Counted {
        let cost = match self {
            Self::Message(variant, 0) => cost(variant, problem, dtype),
            Self::Message(variant, 1) => backward_cost(variant, problem, dtype),
            Self::Message(variant, _) => double_backward_cost(variant, problem, dtype),
            Self::Scatter(_, order) => scatter_cost(*order, problem, dtype),
            Self::List(variant) => {
                return Counted { cost: None, compulsory_bytes: list_bytes(variant.list, problem, dtype) };
            }
        };
        Counted { compulsory_bytes: cost.compulsory_bytes, cost: Some(cost) }
    }

    /// Tensors for a recording, and the problem that they are.
    ///
    /// # Errors
    /// Sizes that no kernel has.
    pub fn call(&self, sizes: &Sizes) -> Result<Call> {
        let smallest = || workload::collect(&["h2".to_owned()], &[], sizes);
        let message = |variant| smallest()?.remove(0).inputs(variant, sizes);
        Ok(match self {
            Self::Message(variant, 0) => Call::Message(message(variant)?),
            Self::Message(variant, 1) => {
                let inputs = message(variant)?;
                let grad = gradients::random_cotangents(&inputs, 0);
                Call::Backward(BackwardInputs { inputs, grad, wanted: Wanted::ALL })
            }
            Self::Message(variant, _) => {
                let inputs = message(variant)?;
                let grad = gradients::random_cotangents(&inputs, 0);
                let weights = variant.filter != FilterKind::Tabulated;
                let tangent = gradients::random_tangent(&inputs, weights, 0);
                Call::DoubleBackward(DoubleBackwardInputs { inputs, grad, tangent })
            }
            // Scans of so many atoms have two levels.
            Self::List(_) => {
                Call::List(workload::collect(&["water-512".to_owned()], &[], sizes)?[0].list_inputs(sizes.cutoff)?)
            }
            Self::Scatter(_, order) => {
                let edges = vec![0.5; 6];
                let inputs = force_scatter::Inputs {
                    row_ptr: vec![0, 1, 2],
                    sender: vec![1, 0],
                    edge_vec: edges.clone(),
                    edge_grad: edges,
                    system_ptr: vec![0, 2],
                };
                let grad = scatter_kit::random_cotangents(&inputs, 0);
                match order {
                    0 => Call::Scatter(inputs),
                    1 => Call::ScatterBackward(force_scatter::BackwardInputs { inputs, grad }),
                    _ => {
                        let tangent = scatter_kit::random_tangent(&inputs, 0);
                        Call::ScatterDoubleBackward(force_scatter::DoubleBackwardInputs { inputs, grad, tangent })
                    }
                }
            }
        })
    }

    /// The kernels of a call.
    ///
    /// # Errors
    /// [`LaunchError::Constraint`] for a configuration that does not fit, [`LaunchError::Compile`].
    pub fn record(
        &self,
        recorder: &Recorder,
        call: &Call,
        dtype: Dtype,
        config: &LaunchConfig,
    ) -> std::result::Result<Vec<Kernel>, LaunchError> {
        // What one thread prepares would be recorded with what another launches: a target has one server in a process.
        static ONE: Mutex<()> = Mutex::new(());
        let _one_at_a_time = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        match (self, call) {
            (Self::Message(v, _), Call::Message(i)) => recorder.record::<FusedMessage>(v, dtype, i, config),
            (Self::Message(v, _), Call::Backward(i)) => recorder.record::<FusedMessageBackward>(v, dtype, i, config),
            (Self::Message(v, _), Call::DoubleBackward(i)) => {
                recorder.record::<FusedMessageDoubleBackward>(v, dtype, i, config)
            }
            (Self::List(v), Call::List(i)) => recorder.record_list(v, dtype, i, config),
            (Self::Scatter(v, _), Call::Scatter(i)) => recorder.record::<ForceScatter>(v, dtype, i, config),
            (Self::Scatter(v, _), Call::ScatterBackward(i)) => {
                recorder.record::<ForceScatterBackward>(v, dtype, i, config)
            }
            (Self::Scatter(v, _), Call::ScatterDoubleBackward(i)) => {
                recorder.record::<ForceScatterDoubleBackward>(v, dtype, i, config)
            }
            _ => unreachable!("a call is made by its subject"),
        }
    }
}

/// The tuning spaces of every op that has them.
pub struct AllSpaces {
    messages: Spaces,
    lists: Spaces,
}

impl AllSpaces {
    /// Those of this build.
    ///
    /// # Errors
    /// A space file that does not read, which a test rules out.
    pub fn new() -> Result<Self> {
        Ok(Self {
            messages: Spaces::fused_message().map_err(Failure::fault)?,
            lists: Spaces::cell_list().map_err(Failure::fault)?,
        })
    }

    /// The space whose corners of a subject's cube kernels are compiled too: none for `force_scatter` and the backwards, whose
    /// many kernels are compiled at their defaults.
    pub fn of(&self, subject: &Subject) -> Option<&Space> {
        let found = match subject {
            Subject::Message(variant, 0) => self.messages.get(Target::Cube, Part::Reduction(variant.reduction), 0),
            Subject::List(variant) => self.lists.get(Target::Cube, Part::Strategy(variant.strategy), 0),
            Subject::Message(..) | Subject::Scatter(..) => return None,
        };
        found.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ff_record::Target;

    #[test]
    fn recordings_of_many_threads_do_not_mix() {
        const SIZES: Sizes = Sizes { cutoff: 5.0, features: 32, n_basis: 4, hidden: 8, seed: 0 };
        let recorded = |order| {
            let subject = Subject::find(force_scatter::OP, "gather", order).unwrap();
            let call = subject.call(&SIZES).unwrap();
            let recorder = Recorder::new(Target::Cuda(90));
            let problem = subject.problem("h2", &SIZES).unwrap();
            let config = subject.default_config(recorder.device(), Dtype::F32, &problem);
            subject.record(&recorder, &call, Dtype::F32, &config).unwrap()
        };
        let alone: Vec<_> = (0..3).map(recorded).collect();
        assert!(alone.iter().all(|kernels| !kernels.is_empty()));
        assert_ne!(alone[0], alone[1]);
        std::thread::scope(|scope| {
            for thread in 0..6_u8 {
                let (alone, recorded) = (&alone, &recorded);
                scope.spawn(move || {
                    for turn in 0..8 {
                        let order = (thread + turn) % 3;
                        assert_eq!(recorded(order), alone[usize::from(order)], "order {order}");
                    }
                });
            }
        });
    }
}
