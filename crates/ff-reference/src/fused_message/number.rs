//! The numbers that the op is written over.

use std::ops::{Add, AddAssign, Mul, Neg, Sub};

/// What the op needs of a number. A constant has no tangent and its own |value| as magnitude.
pub trait Number:
    Copy + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> + Neg<Output = Self> + AddAssign
{
    /// A constant, rounded to this type.
    fn constant(value: f64) -> Self;

    /// The value alone.
    fn value(self) -> f64;

    /// The magnitude of the value, where it is known; else |value|.
    fn magnitude(self) -> f64;

    /// g(self), from g, g′, … at this value, as many of them as this number has derivatives and one more.
    fn compose(self, g: &[Tracked]) -> Self;

    /// √self, to full relative precision.
    fn sqrt(self) -> Self {
        let d = self.value().sqrt();
        self.compose(&[d, 0.5 / d].map(Tracked::new))
    }

    /// 1/self, to full relative precision.
    fn recip(self) -> Self {
        let y = 1.0 / self.value();
        self.compose(&[y, -y * y].map(Tracked::new))
    }
}

/// A value with the sum of the |terms| that make it, by the same arithmetic on absolute values.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Tracked {
    /// The value.
    pub value: f64,
    /// At least |value|.
    pub magnitude: f64,
}

impl Tracked {
    /// A value that is not a sum.
    pub fn new(value: f64) -> Self {
        Self { value, magnitude: value.abs() }
    }
}

impl Number for Tracked {
    fn constant(value: f64) -> Self {
        Self::new(value)
    }

    fn value(self) -> f64 {
        self.value
    }

    fn magnitude(self) -> f64 {
        self.magnitude
    }

    fn compose(self, g: &[Tracked]) -> Self {
        g[0]
    }
}

impl Add for Tracked {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self { value: self.value + other.value, magnitude: self.magnitude + other.magnitude }
    }
}

impl Sub for Tracked {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        self + -other
    }
}

impl Mul for Tracked {
    type Output = Self;
    fn mul(self, other: Self) -> Self {
        Self { value: self.value * other.value, magnitude: self.magnitude * other.magnitude }
    }
}

impl Neg for Tracked {
    type Output = Self;
    fn neg(self) -> Self {
        Self { value: -self.value, ..self }
    }
}

impl AddAssign for Tracked {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

/// Arithmetic that rounds to f32 at every step: what a kernel of that type may at best be expected to do.
impl Number for f32 {
    fn constant(value: f64) -> Self {
        value as f32
    }

    fn value(self) -> f64 {
        f64::from(self)
    }

    fn magnitude(self) -> f64 {
        self.value().abs()
    }

    fn compose(self, g: &[Tracked]) -> Self {
        g[0].value as f32
    }
}

/// A number with its derivative in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Dual<N> {
    /// The number.
    pub value: N,
    /// Its derivative.
    pub tangent: N,
}

impl<N: Number> Number for Dual<N> {
    fn constant(value: f64) -> Self {
        Self { value: N::constant(value), tangent: N::constant(0.0) }
    }

    fn value(self) -> f64 {
        self.value.value()
    }

    fn magnitude(self) -> f64 {
        self.value.magnitude()
    }

    fn compose(self, g: &[Tracked]) -> Self {
        Self { value: self.value.compose(g), tangent: self.value.compose(&g[1..]) * self.tangent }
    }
}

impl<N: Number> Add for Dual<N> {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self { value: self.value + other.value, tangent: self.tangent + other.tangent }
    }
}

impl<N: Number> Sub for Dual<N> {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self { value: self.value - other.value, tangent: self.tangent - other.tangent }
    }
}

impl<N: Number> Mul for Dual<N> {
    type Output = Self;
    fn mul(self, other: Self) -> Self {
        Self { value: self.value * other.value, tangent: self.tangent * other.value + self.value * other.tangent }
    }
}

impl<N: Number> Neg for Dual<N> {
    type Output = Self;
    fn neg(self) -> Self {
        Self { value: -self.value, tangent: -self.tangent }
    }
}

impl<N: Number> AddAssign for Dual<N> {
    fn add_assign(&mut self, other: Self) {
        self.value += other.value;
        self.tangent += other.tangent;
    }
}
