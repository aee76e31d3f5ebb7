//! The table of ops: a line each, of its module and the types of its orders.

use crate::{Op, Prepare};

macro_rules! ops {
    ($($module:ident: $($op:ident),+;)*) => {
        $(pub use crate::$module::{$($op),+};)*

        /// The families of kernels, by the one name that templates, oracles, spaces, tables and tests share.
        pub const OPS: &[&str] = &[$(crate::$module::OP),*];

        /// The family of an op's variant by its id, what tables are keyed by; `None` where the op has no such variant.
        pub fn family(op: &str, id: &str) -> Option<String> {
            $($(if $op::NAME == op && $op::ORDER == 0 {
                return id.parse().ok().map(|variant| $op::family(&variant));
            })+)*
            None
        }

        /// [`Op::AXES`] of an op; none where there is no such op.
        pub fn axes(op: &str) -> &'static [&'static str] {
            $(if op == crate::$module::OP {
                return crate::$module::AXES;
            })*
            &[]
        }

        /// A device that kernels of every family can be prepared on.
        pub trait Runtime: $($(Prepare<$op> +)+)* {}

        impl<R> Runtime for R where R: $($(Prepare<$op> +)+)* {}
    };
}

/// The op that is meant where one is needed and none is named.
pub const USUAL_OP: &str = crate::fused_message::OP;

ops! {
    cell_list: CellList;
    force_scatter: ForceScatter, ForceScatterBackward, ForceScatterDoubleBackward;
    vector_norm: VectorNorm, VectorNormBackward, VectorNormDoubleBackward;
    fused_message: FusedMessage, FusedMessageBackward, FusedMessageDoubleBackward;
}
