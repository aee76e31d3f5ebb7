//! Registration of ops: an op is complete when every derivative order names the cases that judge it.
//!
//! The type of a registration says how far it has come, and only a complete one is [`Registered`]:
//!
//! ```
//! use ff_spec::{VectorNorm, VectorNormBackward, VectorNormDoubleBackward};
//! use ff_testkit::registry::{Registered, op};
//!
//! let complete = op::<VectorNorm>().first::<VectorNormBackward>().second::<VectorNormDoubleBackward>();
//! assert_eq!(complete.orders(), [0, 1, 2]);
//! ```
//!
//! Without the cases of its gradients an op is no [`Registered`]:
//!
//! ```compile_fail
//! use ff_spec::{VectorNorm, VectorNormBackward};
//! use ff_testkit::registry::{Registered, op};
//!
//! let forward_only = op::<VectorNorm>().first::<VectorNormBackward>();
//! forward_only.orders();
//! ```
//!
//! and an order cannot be judged by another op's cases:
//!
//! ```compile_fail
//! use ff_spec::{ForceScatterBackward, VectorNorm};
//! use ff_testkit::registry::op;
//!
//! op::<VectorNorm>().first::<ForceScatterBackward>();
//! ```

use std::marker::PhantomData;
use std::ops::ControlFlow;

use ff_spec::{Prepare, Runtime};

use crate::catalogue::OracleCache;
use crate::gate::{GatePlan, GateRow, GateSummary, Gated, run_gate};

/// An order that every runtime can be asked for.
pub trait Order: Gated {
    /// The gate, as [`run_gate`].
    fn gate(
        runtimes: &[&(dyn Runtime + 'static)],
        plan: &GatePlan<'_, Self>,
        on_row: &mut dyn FnMut(&GateRow) -> ControlFlow<()>,
    ) -> GateSummary;
}

impl<O: Gated> Order for O
where
    dyn Runtime: Prepare<O>,
{
    fn gate(
        runtimes: &[&(dyn Runtime + 'static)],
        plan: &GatePlan<'_, Self>,
        on_row: &mut dyn FnMut(&GateRow) -> ControlFlow<()>,
    ) -> GateSummary {
        run_gate(runtimes, plan, &mut OracleCache::default(), on_row)
    }
}

/// A registration that has come as far as `State` says.
pub struct Registration<State>(PhantomData<State>);

/// The forward of `O` has cases.
pub struct Forward<O>(PhantomData<O>);

/// So has its first backward, `O1`.
pub struct First<O, O1>(PhantomData<(O, O1)>);

/// So has its second, `O2`: a loss on its gradients can be trained.
pub struct Twice<O, O1, O2>(PhantomData<(O, O1, O2)>);

/// There is nothing in the op to differentiate.
pub struct Discrete<O>(PhantomData<O>);

/// Begins with the forward.
pub const fn op<O: Order>() -> Registration<Forward<O>> {
    const { assert!(O::ORDER == 0, "an op is registered by its forward") };
    Registration(PhantomData)
}

impl<O: Order> Registration<Forward<O>> {
    /// Adds the first backward.
    pub const fn first<O1: Order<Variant = O::Variant>>(self) -> Registration<First<O, O1>> {
        const { assert!(O1::ORDER == 1, "the first backward is of order 1") };
        Registration(PhantomData)
    }

    /// Says that the outputs are integers, or that their gradients are another op's.
    pub const fn discrete(self) -> Registration<Discrete<O>> {
        Registration(PhantomData)
    }
}

impl<O: Order, O1: Order<Variant = O::Variant>> Registration<First<O, O1>> {
    /// Adds the second backward.
    pub const fn second<O2: Order<Variant = O::Variant>>(self) -> Registration<Twice<O, O1, O2>> {
        const { assert!(O2::ORDER == 2, "the second backward is of order 2") };
        Registration(PhantomData)
    }
}

/// An op with all its orders.
pub trait Registered {
    /// The op.
    type Forward: Order;

    /// The derivative orders that are registered, ascending.
    fn orders(&self) -> Vec<u8>;
}

impl<O: Order> Registered for Registration<Discrete<O>> {
    type Forward = O;

    fn orders(&self) -> Vec<u8> {
        vec![O::ORDER]
    }
}

impl<O, O1, O2> Registered for Registration<Twice<O, O1, O2>>
where
    O: Order,
    O1: Order<Variant = O::Variant>,
    O2: Order<Variant = O::Variant>,
{
    type Forward = O;

    fn orders(&self) -> Vec<u8> {
        vec![O::ORDER, O1::ORDER, O2::ORDER]
    }
}
