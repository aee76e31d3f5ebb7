//! What is inspected: a variant of an op in one of its orders.

use ff_spec::{DeviceId, Dtype, LaunchConfig, Problem};
use ff_tune::Part;

use crate::failure::Result;
use crate::ops::{self, AnyCall, AnyOp, AnyOrder, Counted};
use crate::options::Sizes;

/// A variant in one of its orders.
#[derive(Clone, Copy)]
pub struct Subject {
    /// The op.
    pub op: &'static dyn AnyOp,
    /// The id of the variant.
    pub id: &'static str,
    order: &'static dyn AnyOrder,
}

impl Subject {
    /// The variant of exactly this id, in an order that its op has.
    ///
    /// # Errors
    /// An unknown op, variant or order, with what is known.
    pub fn find(op: &str, id: &str, order: u8) -> Result<Self> {
        let op = ops::find(op)?;
        let order = op.expect_order(order)?;
        Ok(Self { op, id: op.one(id)?, order })
    }

    /// Every variant of an op in every order.
    ///
    /// # Errors
    /// An unknown op.
    pub fn all(op: &str) -> Result<Vec<Self>> {
        let op = ops::find(op)?;
        let of_order = |order| op.ids().into_iter().map(move |id| Self { op, id, order });
        Ok(op.orders().iter().flat_map(of_order).collect())
    }

    /// The derivative order.
    pub fn order(&self) -> u8 {
        self.order.order()
    }

    /// The id, with the order where it is a derivative.
    pub fn name(&self) -> String {
        match self.order() {
            0 => self.id.to_owned(),
            order => format!("{} order {order}", self.id),
        }
    }

    /// The sizes of a call on a built-in problem.
    ///
    /// # Errors
    /// An unknown problem, or sizes that no kernel has.
    pub fn problem(&self, name: &str, sizes: &Sizes) -> Result<Problem> {
        self.op.problem(self.id, name, sizes)
    }

    /// The configuration that is used where no table entry applies.
    pub fn default_config(&self, device: &DeviceId, dtype: Dtype, problem: &Problem) -> LaunchConfig {
        self.op.default_config(device, self.id, dtype, problem)
    }

    /// Counts a call.
    pub fn counted(&self, problem: &Problem, dtype: Dtype) -> Counted {
        self.order.counted(self.id, problem, dtype)
    }

    /// A call for a recording of the kernels that every call has.
    ///
    /// # Errors
    /// Sizes that no kernel has.
    pub fn call(&self, sizes: &Sizes) -> Result<Box<dyn AnyCall>> {
        self.call_on("h2", sizes)
    }

    /// The same, of messages on a built-in problem. Kernels that add up many parts are launched for many edges.
    ///
    /// # Errors
    /// As [`Subject::call`], and an unknown problem.
    pub fn call_on(&self, problem: &str, sizes: &Sizes) -> Result<Box<dyn AnyCall>> {
        self.order.call(self.id, problem, sizes)
    }

    /// The part that its space is found by.
    pub fn part(&self) -> Part {
        self.order.part(self.id)
    }
}

#[cfg(test)]
mod tests {
    use ff_record::{Recorder, Target};

    use super::*;

    #[test]
    fn recordings_of_many_threads_do_not_mix() {
        const SIZES: Sizes = Sizes { cutoff: 5.0, features: 32, n_basis: 4, hidden: 8, seed: 0 };
        let recorded = |order| {
            let subject = Subject::find("force_scatter", "gather", order).unwrap();
            let call = subject.call(&SIZES).unwrap();
            let recorder = Recorder::new(Target::Cuda(90));
            let problem = subject.problem("h2", &SIZES).unwrap();
            let config = subject.default_config(recorder.device(), Dtype::F32, &problem);
            call.record(&recorder, Dtype::F32, &config).unwrap()
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
