//! SiLU with two derivatives.

use super::Real;

/// SiLU of pre-activations z: g = 1/(1 + e⁻ᶻ) is kept with it, of which its derivatives are made.
pub(super) struct Silu<T> {
    z: Vec<T>,
    g: Vec<T>,
}

impl<T: Real> Silu<T> {
    /// With σ(z).
    pub fn new(z: Vec<T>) -> (Self, Vec<T>) {
        let g: Vec<T> = z.iter().map(|z| z.logistic()).collect();
        let y = z.iter().zip(&g).map(|(z, g)| *z * *g).collect();
        (Self { z, g }, y)
    }

    /// σ′(z)·x.
    pub fn slope(&self, x: &[T]) -> Vec<T> {
        let one = T::from_f64(1.0);
        let each = self.z.iter().zip(&self.g).zip(x);
        each.map(|((z, g), x)| *x * *g * (one + *z * (one - *g))).collect()
    }

    /// σ′(z)·p + σ″(z)·ż·t.
    pub fn curve(&self, p: &[T], tangent: &[T], t: &[T]) -> Vec<T> {
        let (one, two) = (T::from_f64(1.0), T::from_f64(2.0));
        let each = self.z.iter().zip(&self.g).zip(p).zip(tangent).zip(t);
        each.map(|((((z, g), p), d), t)| {
            let first = *g * (one + *z * (one - *g));
            let second = *g * (one - *g) * (two + *z * (one - two * *g));
            first * *p + second * *d * *t
        })
        .collect()
    }
}
