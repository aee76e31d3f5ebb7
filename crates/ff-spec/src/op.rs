use std::fmt;
use std::str::FromStr;

/// A family of kernels: what its variants are, what they read and what they write.
pub trait Op: 'static {
    /// The one name that templates, oracles, spaces, tables and tests share.
    const NAME: &'static str;
    /// The derivative order: 0 for the op itself, 1 for its vector-Jacobian product, 2 for that of order 1.
    const ORDER: u8;
    /// The sizes of its calls, by their names in [`Problem`](crate::Problem): what constraints of its spaces may name. Any but
    /// the shared ones are its own, and tables are keyed by them.
    const AXES: &'static [&'static str];
    /// What changes the generated code; prints as its id and is read from it.
    type Variant: Clone + Ord + fmt::Debug + fmt::Display + FromStr;
    /// All inputs of one call, in f64.
    type Inputs: Clone + fmt::Debug;
    /// What one call computes, widened to f64.
    type Outputs: Clone + fmt::Debug;

    /// What tuning tables are keyed by of a variant.
    fn family(variant: &Self::Variant) -> String;
}

/// Declares the orders of an op in its module, whose `OP`, `AXES`, `Variant` and `InputError` these have: of each the derivative
/// order, what it reads and computes, and the method of the variant that is [`Op::family`].
macro_rules! declare {
    ($(
        $(#[$doc:meta])*
        impl Op for $op:ident: $order:literal, $inputs:ident -> $outputs:ident, $family:ident;
    )*) => {
        $(
            $(#[$doc])*
            #[derive(Debug)]
            pub struct $op;

            impl $crate::Op for $op {
                const NAME: &'static str = OP;
                const ORDER: u8 = $order;
                const AXES: &'static [&'static str] = AXES;
                type Variant = Variant;
                type Inputs = $inputs<f64>;
                type Outputs = $outputs<f64>;

                fn family(variant: &Self::Variant) -> String {
                    variant.$family()
                }
            }
        )*

        impl From<InputError> for $crate::LaunchError {
            fn from(error: InputError) -> Self {
                Self::Input($crate::InputError::new(error))
            }
        }
    };
}
pub(crate) use declare;
