/// What an op computes, and the scale that rounding errors of it are judged by.
#[derive(Clone, Debug, PartialEq)]
pub struct Oracle<T> {
    /// The exact result, to f64 rounding.
    pub outputs: T,
    /// For each output element the sum of the |terms| that were summed, with the first-order effect of a rounded
    /// distance where there is one. An implementation in a type of unit roundoff ε is off by a small multiple of ε times
    /// this, however much of the sum cancels.
    pub magnitude: T,
}
