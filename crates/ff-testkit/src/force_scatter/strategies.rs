//! proptest strategies over [`ScatterSpec`].

use proptest::collection::vec;
use proptest::prelude::*;

use super::ScatterSpec;
use crate::degrees;

/// Up to five systems of up to a dozen atoms, with up to some hundred edges in a row.
pub fn scatter_spec() -> impl Strategy<Value = ScatterSpec> {
    (vec(0usize..12, 0..5), degrees::strategy(), any::<bool>()).prop_map(|(systems, degrees, cancelling)| ScatterSpec {
        systems,
        degrees,
        cancelling,
    })
}
