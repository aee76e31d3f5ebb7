//! The ops that can be tuned: their spaces, and what the tuner has to know of each.

mod cell_list;
mod force_scatter;
mod fused_message;
mod vector_norm;

use crate::space::Part;

#[cfg(test)]
pub(crate) use fused_message::gather;

/// Every op that has spaces.
pub(crate) const ALL: [BuiltIn; 4] =
    [cell_list::SPACES, force_scatter::SPACES, vector_norm::SPACES, fused_message::SPACES];

/// The spaces of an op that this crate was built with.
#[derive(Clone, Copy)]
pub(crate) struct BuiltIn {
    /// The op.
    pub op: &'static str,
    /// What of a variant its spaces are told apart by: `reduction` or `strategy`.
    pub key: &'static str,
    /// The values of that.
    pub names: &'static [&'static str],
    /// The file as it was when this crate was built.
    pub file: &'static str,
    /// Which of these a variant has, by its id; `None` for a variant that the op does not have.
    pub name: fn(&str) -> Option<&'static str>,
}

impl BuiltIn {
    /// The part of a name, which is one of [`BuiltIn::names`].
    pub(crate) fn part(&self, name: &'static str) -> Part {
        Part::new(self.key, name)
    }

    /// That of an op.
    pub(crate) fn of(op: &str) -> Option<Self> {
        ALL.into_iter().find(|built_in| built_in.op == op)
    }
}
