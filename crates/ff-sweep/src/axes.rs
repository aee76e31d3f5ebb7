//! What a row may say: the names of axes, and what their values are.

use crate::row::Value;

/// What the values of an axis are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Values {
    /// Any text; what it names is the bench's to check.
    Text,
    /// One of these words.
    Word(&'static [&'static str]),
    /// A whole number from 0.
    Integer,
    /// A real number.
    Number,
}

/// One axis.
#[derive(Clone, Copy, Debug)]
pub struct Axis {
    /// Its key.
    pub name: &'static str,
    /// What its values are.
    pub values: Values,
    /// What it means.
    pub doc: &'static str,
}

/// Before the name of a launch parameter: `config.unroll`.
pub const CONFIG: &str = "config.";

/// What a row is measured through.
pub const IMPLEMENTATIONS: &[&str] = &["kernel", "fused", "unfused"];

/// Every axis but launch parameters, in the order in which rows are sorted and shown.
pub const AXES: &[Axis] = &[
    axis("op", Values::Text, "the family of kernels; follows from the variant"),
    axis("problem", Values::Text, "a built-in structure"),
    axis("n_atoms", Values::Integer, "atoms of a random graph, in place of a structure"),
    axis("degree", Values::Number, "mean edges per atom of a random graph"),
    axis("skew", Values::Number, "row i of a random graph has edges in proportion to (i + 1)^−skew; 0: all alike"),
    axis("variant", Values::Text, "a variant or a family of them"),
    axis("strategy", Values::Text, "a strategy of search, in a replay"),
    axis("order", Values::Integer, "derivative order: 0 forward, 1 and 2 backward"),
    axis("dtype", Values::Word(&["f32", "f64"]), "element type"),
    axis("features", Values::Integer, "feature width F"),
    axis("n_basis", Values::Integer, "radial basis functions K"),
    axis("hidden", Values::Integer, "hidden width H of mlp filters"),
    axis("cutoff", Values::Number, "cutoff radius in Å"),
    axis("table_tolerance", Values::Number, "relative error allowed of a tabulated filter"),
    axis("table_order", Values::Integer, "derivatives per node of a table: 2 cubic, 3 quintic"),
    axis("seed", Values::Integer, "seed of features, weights and random graphs"),
    axis("implementation", Values::Word(IMPLEMENTATIONS), "kernel, fused op or unfused composition on Burn's tensors"),
    axis("runtime", Values::Word(&["auto", "host", "vulkan", "metal", "cuda"]), "where it runs"),
    axis("repeat", Values::Integer, "number of the repeat, from 0; made by `repeats`"),
];

const fn axis(name: &'static str, values: Values, doc: &'static str) -> Axis {
    Axis { name, values, doc }
}

/// What the values of an axis of this name are; `None` for a name that no axis has.
pub fn values_of(name: &str) -> Option<Values> {
    if name.strip_prefix(CONFIG).is_some_and(|parameter| !parameter.is_empty()) {
        return Some(Values::Integer);
    }
    AXES.iter().find(|axis| axis.name == name).map(|axis| axis.values)
}

/// Where an axis comes among all: launch parameters are last.
pub(crate) fn place(name: &str) -> usize {
    AXES.iter().position(|axis| axis.name == name).unwrap_or(AXES.len())
}

impl Values {
    /// What is expected, in words.
    pub fn expected(self) -> String {
        match self {
            Values::Text => "text".to_owned(),
            Values::Word(words) => format!("one of {}", words.join(", ")),
            Values::Integer => "a whole number from 0".to_owned(),
            Values::Number => "a number".to_owned(),
        }
    }

    /// Whether it takes this value.
    pub fn takes(self, value: &Value) -> bool {
        match (self, value) {
            (Values::Text, Value::Text(text)) => !text.is_empty(),
            (Values::Word(words), Value::Text(text)) => words.contains(&text.as_str()),
            (Values::Integer, Value::Integer(_)) | (Values::Number, Value::Integer(_)) => true,
            (Values::Number, Value::Number(number)) => number.is_finite(),
            _ => false,
        }
    }
}
