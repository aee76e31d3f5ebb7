//! Launch configurations that no space lists, for property tests.

use ff_spec::LaunchConfig;
use proptest::collection::vec;
use proptest::prelude::*;

/// What becomes of one parameter of a default configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    Kept,
    /// Multiplied by this power of two, and 1 at least.
    Scaled(i32),
}

/// Changes for as many parameters as any kernel has; they shrink towards the default.
pub fn changes() -> impl Strategy<Value = Vec<Change>> {
    let change = prop_oneof![3 => Just(Change::Kept), 6 => (-2..=3).prop_map(Change::Scaled)];
    vec(change, 8)
}

/// A configuration with its parameters changed, in the order of their names.
///
/// # Panics
/// For fewer changes than parameters.
pub fn changed(config: &LaunchConfig, changes: &[Change]) -> LaunchConfig {
    assert!(config.0.len() <= changes.len(), "{} changes for [{config}]", changes.len());
    let change = |value: u32, change: Change| match change {
        Change::Kept => value,
        Change::Scaled(power) if power < 0 => (value >> -power).max(1),
        Change::Scaled(power) => value << power,
    };
    let values = config.0.iter().zip(changes);
    LaunchConfig(values.map(|((name, value), to)| (name.clone(), change(*value, *to))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_parameter_gets_its_own_change() {
        let config = LaunchConfig::from([("a", 4), ("b", 4), ("c", 4)]);
        let found = changed(&config, &[Change::Kept, Change::Scaled(-3), Change::Scaled(2), Change::Scaled(1)]);
        assert_eq!(found, [("a", 4), ("b", 1), ("c", 16)].into());
    }
}
