//! proptest strategies over [`CaseSpec`], variants and inputs. They shrink by size, then by kind.

use ff_reference::radial::{RADIAL_FUNCTIONS, RadialKind};
use ff_spec::fused_message::{Activation, FilterKind, Inputs, Message, Reduction, Variant, Wanted};
use proptest::prelude::*;
use proptest::sample::select;

use super::gradients::{BackwardSpec, DoubleBackwardSpec};
use super::{CaseSpec, Distances, random_inputs};
use crate::degrees;

/// Any variant that a radial data file and the structure allow.
pub fn variant() -> impl Strategy<Value = Variant> {
    let names = |kind| -> Vec<String> {
        RADIAL_FUNCTIONS.iter().filter(|s| s.kind == kind).map(|s| s.name.to_owned()).collect()
    };
    (
        select(&Message::ALL),
        select(&FilterKind::ALL),
        select(names(RadialKind::Basis)),
        select(names(RadialKind::Cutoff)),
        select(&Reduction::ALL),
    )
        .prop_map(|(message, filter, basis, cutoff, reduction)| Variant {
            message,
            filter,
            radial: (filter != FilterKind::Tabulated).then_some((basis, cutoff)),
            reduction,
        })
}

/// Small cases of every kind: 0 to 20 atoms, odd widths, 1 to 50 basis functions.
pub fn case_spec() -> impl Strategy<Value = CaseSpec> {
    (
        (0usize..20, select(vec![1usize, 2, 3, 8, 17, 33]), prop_oneof![4 => 1usize..12, 1 => 12usize..=50]),
        (1usize..12, select(&Activation::ALL[..])),
        (2usize..=3, 2usize..70),
        1.0..8.0,
        (degrees::strategy(), select(vec![Distances::Inside, Distances::Skin, Distances::Boundary, Distances::Beyond])),
    )
        .prop_map(|((n_atoms, features, n_basis), (hidden, activation), table, r_cut, (degrees, distances))| {
            let (table_order, table_nodes) = table;
            CaseSpec {
                n_atoms,
                features,
                n_basis,
                hidden,
                activation,
                table_order,
                table_nodes,
                r_cut,
                degrees,
                distances,
            }
        })
}

/// Any case of the first backward, asked for something.
pub fn backward_spec() -> impl Strategy<Value = BackwardSpec> {
    (case_spec(), 1..8_u8).prop_map(|(forward, bits)| {
        let wanted = Wanted { nodes: bits & 1 != 0, edge_vec: bits & 2 != 0, filter: bits & 4 != 0 };
        BackwardSpec { forward, wanted }
    })
}

/// Any case of the second backward.
pub fn double_backward_spec() -> impl Strategy<Value = DoubleBackwardSpec> {
    (case_spec(), any::<bool>()).prop_map(|(forward, weights)| DoubleBackwardSpec { forward, weights })
}

/// A variant and inputs for it.
pub fn inputs() -> impl Strategy<Value = (Variant, Inputs<f64>)> {
    (variant(), case_spec(), any::<u64>()).prop_map(|(variant, spec, seed)| {
        let inputs = random_inputs(&spec, &variant, seed).expect("`variant` names declared radial functions only");
        (variant, inputs)
    })
}

#[cfg(test)]
mod tests {
    use ff_reference::fused_message::forward;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn every_input_is_one_the_oracle_accepts((variant, inputs) in inputs()) {
            let oracle = forward(&variant, &inputs).unwrap();
            // A value can exceed the sum of its |terms| by rounding alone.
            for (y, m) in oracle.outputs.nodes.iter().zip(&oracle.magnitude.nodes) {
                prop_assert!(y.abs() <= m * (1.0 + 1e-12), "{y} above {m}");
            }
        }
    }
}
