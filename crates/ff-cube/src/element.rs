use cubecl::prelude::{CubeElement, Float};
use ff_spec::Scalar;

/// An element type with the size of its rounding.
pub trait Real: Scalar + std::ops::Mul<Output = Self> {
    /// The distance from 1 to the next larger number.
    const EPSILON: f64;
}

impl Real for f32 {
    const EPSILON: f64 = f32::EPSILON as f64;
}

impl Real for f64 {
    const EPSILON: f64 = f64::EPSILON;
}

/// An element type of the kernels.
pub trait Element: Real + CubeElement + Float {}

impl Element for f32 {}
impl Element for f64 {}
