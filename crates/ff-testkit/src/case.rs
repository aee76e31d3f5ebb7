//! A case by its name: what the gate, the tests and the benches look up by the same one.

/// How many cases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CaseSet {
    /// A few small ones: seconds for all variants.
    Quick,
    /// Every one.
    Full,
}

/// One case: its shape depends on this alone, its values also on the seed.
#[derive(Clone, Debug, PartialEq)]
pub struct Case<S> {
    /// Its name in results, the same for every variant.
    pub id: &'static str,
    /// Sizes and kind of randomness.
    pub spec: S,
    /// There is nothing to sum or to list, so this case cannot tell a kernel from one that does nothing.
    pub degenerate: bool,
}

impl<S> Case<S> {
    /// The same case with another spec.
    pub fn map<T>(self, change: impl FnOnce(S) -> T) -> Case<T> {
        Case { id: self.id, spec: change(self.spec), degenerate: self.degenerate }
    }
}
