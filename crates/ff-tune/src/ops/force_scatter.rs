//! `force_scatter`, whose oracle spends little on an edge and knows every output of every order.

use ff_spec::force_scatter::{OP, Variant};
use ff_spec::{ForceScatter, ForceScatterBackward, ForceScatterDoubleBackward};

use super::BuiltIn;
use crate::op::known_whole;

/// Its spaces are told apart by reduction.
pub(super) const SPACES: BuiltIn = BuiltIn {
    op: OP,
    key: "reduction",
    names: &["gather", "atomic"],
    file: include_str!("../../../../autotune/spaces/force_scatter.toml"),
    name: |id| id.parse::<Variant>().ok().map(|variant| variant.reduction.name()),
};

known_whole! {
    SPACES;
    ForceScatter: all => all;
    ForceScatterBackward: all => all.inputs;
    ForceScatterDoubleBackward: all => all.inputs;
}
