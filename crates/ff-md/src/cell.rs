//! Cells and matrices of three by three.

pub type Matrix = [[f64; 3]; 3];

pub const IDENTITY: Matrix = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];

pub fn dot(a: [f64; 3], b: [f64; 3]) -> f64 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

pub fn cross(a: [f64; 3], b: [f64; 3]) -> [f64; 3] {
    [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
}

/// The volume, Å³, whatever the handedness.
pub fn volume(cell: &Matrix) -> f64 {
    dot(cell[0], cross(cell[1], cell[2])).abs()
}

/// Distances between opposite faces, Å.
pub fn heights(cell: &Matrix) -> [f64; 3] {
    let volume = volume(cell);
    std::array::from_fn(|i| {
        let normal = cross(cell[(i + 1) % 3], cell[(i + 2) % 3]);
        volume / dot(normal, normal).sqrt()
    })
}

pub fn trace(m: &Matrix) -> f64 {
    m[0][0] + m[1][1] + m[2][2]
}

/// Whether a number is at most a limit; no number is not.
pub fn within(x: f64, limit: f64) -> bool {
    x <= limit
}

/// Σ a_ij b_ij.
pub fn contract(a: &Matrix, b: &Matrix) -> f64 {
    a.as_flattened().iter().zip(b.as_flattened()).map(|(a, b)| a * b).sum()
}

pub fn scale(m: &Matrix, by: f64) -> Matrix {
    m.map(|row| row.map(|x| x * by))
}

pub fn add(a: &Matrix, b: &Matrix) -> Matrix {
    std::array::from_fn(|i| std::array::from_fn(|j| a[i][j] + b[i][j]))
}

pub fn product(a: &Matrix, b: &Matrix) -> Matrix {
    std::array::from_fn(|i| std::array::from_fn(|j| a[i][0] * b[0][j] + a[i][1] * b[1][j] + a[i][2] * b[2][j]))
}

pub fn transpose(a: &Matrix) -> Matrix {
    std::array::from_fn(|i| std::array::from_fn(|j| a[j][i]))
}

/// M·v.
pub fn apply(m: &Matrix, v: [f64; 3]) -> [f64; 3] {
    m.map(|row| dot(row, v))
}

/// The inverse; not finite where there is none.
pub fn inverse(m: &Matrix) -> Matrix {
    let determinant = dot(m[0], cross(m[1], m[2]));
    let columns = [cross(m[1], m[2]), cross(m[2], m[0]), cross(m[0], m[1])];
    std::array::from_fn(|i| std::array::from_fn(|j| columns[j][i] / determinant))
}

/// exp(M) by its series; M has entries well below 1.
pub fn exponential(m: &Matrix) -> Matrix {
    let (mut sum, mut term) = (IDENTITY, IDENTITY);
    for k in 1..=16 {
        term = scale(&product(&term, m), 1.0 / f64::from(k));
        sum = add(&sum, &term);
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matrices_obey_their_identities() {
        let m = [[0.1, 0.02, -0.03], [0.02, -0.2, 0.01], [-0.03, 0.01, 0.05]];
        let near = |a: &Matrix, b: &Matrix| {
            let apart = add(a, &scale(b, -1.0));
            assert!(contract(&apart, &apart).sqrt() < 1e-14, "{a:?} {b:?}");
        };
        near(&product(&exponential(&m), &exponential(&scale(&m, -1.0))), &IDENTITY);
        near(&product(&inverse(&exponential(&m)), &exponential(&m)), &IDENTITY);
        // det exp M = exp tr M.
        assert!((volume(&exponential(&m)).ln() - trace(&m)).abs() < 1e-14);
        let cell = [[4.0, 0.0, 0.0], [1.0, 3.0, 0.0], [0.5, 0.5, 2.0]];
        assert!((heights(&cell)[2] - 2.0).abs() < 1e-14);
        assert_eq!(volume(&cell), 24.0);
    }
}
