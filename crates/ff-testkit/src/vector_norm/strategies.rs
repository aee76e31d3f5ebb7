//! proptest strategies over [`NormSpec`].

use proptest::prelude::*;
use proptest::sample::select;

use super::{Kind, NormSpec};

/// Up to some dozen atoms of up to some dozen channels, whole registers and odd ones.
pub fn norm_spec() -> impl Strategy<Value = NormSpec> {
    let features = prop_oneof![1usize..70, select(&[8usize, 16, 32, 64][..])];
    let kind = select(&[Kind::Ordinary, Kind::Zero, Kind::BelowEpsilon, Kind::Huge, Kind::Along][..]);
    (0usize..40, features, kind).prop_map(|(n_atoms, features, kind)| NormSpec { n_atoms, features, kind })
}
