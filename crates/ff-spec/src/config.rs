use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::LaunchError;

/// One point of a tuning space: a value for every launch parameter of a kernel family.
///
/// Ordered by parameter name, so that two equal configurations print, hash and serialise alike.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LaunchConfig(pub BTreeMap<String, u32>);

impl LaunchConfig {
    /// The value of a parameter, if it is set.
    pub fn get(&self, name: &str) -> Option<u32> {
        self.0.get(name).copied()
    }

    /// The values of exactly these parameters, in the order of their names.
    ///
    /// # Errors
    /// [`LaunchError::Constraint`] for a parameter that is unknown, missing or 0.
    pub fn exactly<const N: usize>(&self, names: [&str; N]) -> Result<[u32; N], LaunchError> {
        if let Some(name) = self.0.keys().find(|name| !names.contains(&name.as_str())) {
            let expected = names.join(", ");
            return Err(LaunchError::Constraint(format!("unknown parameter `{name}`, expected {expected}")));
        }
        let mut values = [0; N];
        for (value, name) in values.iter_mut().zip(names) {
            *value = self
                .get(name)
                .filter(|value| *value > 0)
                .ok_or_else(|| LaunchError::Constraint(format!("expected a positive `{name}`, found [{self}]")))?;
        }
        Ok(values)
    }
}

impl<const N: usize> From<[(&str, u32); N]> for LaunchConfig {
    fn from(pairs: [(&str, u32); N]) -> Self {
        Self(pairs.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())
    }
}

impl fmt::Display for LaunchConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (name, value)) in self.0.iter().enumerate() {
            let comma = if i == 0 { "" } else { " " };
            write!(f, "{comma}{name}={value}")?;
        }
        Ok(())
    }
}
