use std::collections::BTreeMap;
use std::fmt;

use ff_spec::LaunchConfig;
use serde::{Deserialize, Serialize};

use crate::axes::{CONFIG, place};

/// What a row says of one axis.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Value {
    /// A whole number.
    Integer(u64),
    /// A real number.
    Number(f64),
    /// Text.
    Text(String),
}

impl Value {
    /// As a number, which text is not.
    pub fn number(&self) -> Option<f64> {
        match self {
            Value::Integer(n) => Some(*n as f64),
            Value::Number(x) => Some(*x),
            Value::Text(_) => None,
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Integer(n) => n.fmt(f),
            Value::Number(x) => x.fmt(f),
            Value::Text(text) => text.fmt(f),
        }
    }
}

/// One point of a sweep: a value for each of its axes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Row(pub BTreeMap<String, Value>);

impl Row {
    /// The value of an axis.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// The text of an axis.
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.get(name)? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The whole number of an axis.
    pub fn integer(&self, name: &str) -> Option<u64> {
        match self.get(name)? {
            Value::Integer(n) => Some(*n),
            _ => None,
        }
    }

    /// The number of an axis.
    pub fn number(&self, name: &str) -> Option<f64> {
        self.get(name)?.number()
    }

    /// The launch parameters that it fixes; what it leaves out is the default's.
    pub fn config(&self) -> LaunchConfig {
        let parameters = self.0.iter().filter_map(|(name, value)| Some((name.strip_prefix(CONFIG)?, value)));
        let fixed = parameters.filter_map(|(name, value)| match value {
            Value::Integer(n) => Some((name.to_owned(), u32::try_from(*n).unwrap_or(u32::MAX))),
            _ => None,
        });
        LaunchConfig(fixed.collect())
    }

    /// The same point without some of its axes.
    pub fn without(&self, axes: &[&str]) -> Row {
        Row(self
            .0
            .iter()
            .filter(|(name, _)| !axes.contains(&name.as_str()))
            .map(|(n, v)| (n.clone(), v.clone()))
            .collect())
    }
}

impl fmt::Display for Row {
    /// `variant=… features=64`, in the order of [`crate::axes::AXES`].
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut all: Vec<_> = self.0.iter().collect();
        all.sort_by_key(|(name, _)| place(name));
        for (i, (name, value)) in all.into_iter().enumerate() {
            let space = if i == 0 { "" } else { " " };
            write!(f, "{space}{name}={value}")?;
        }
        Ok(())
    }
}
