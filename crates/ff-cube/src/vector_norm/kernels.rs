//! The kernels and the pieces they share.

#![allow(missing_docs, reason = "`#[cube]` expands into items that carry no documentation")]

use cubecl::ir::StorageType;
use cubecl::prelude::*;

// Every kernel names its element type and vector width by these two, so that the pieces are compiled once for all of them.
cubecl::define_scalar!(pub Real);
cubecl::define_size!(pub Lanes);

/// Three axes of some channels of one atom.
#[derive(CubeType)]
struct Axes<F: Float, N: Size> {
    x: Vector<F, N>,
    y: Vector<F, N>,
    z: Vector<F, N>,
}

/// Those of unit `at`, whose share begins `row` vectors behind three rows for each atom before it.
#[cube]
fn axes<F: Float, N: Size>(values: &Array<Vector<F, N>>, at: usize, row: usize) -> Axes<F, N> {
    let first = first_axis(at, row);
    Axes::<F, N> { x: values[first], y: values[first + row], z: values[first + 2 * row] }
}

/// Where the x axis of unit `at` is; `row` is F in vectors.
#[cube]
fn first_axis(at: usize, row: usize) -> usize {
    at / row * 3 * row + at % row
}

/// Σ_a a·b.
#[cube]
fn dot<F: Float, N: Size>(a: &Axes<F, N>, b: &Axes<F, N>) -> Vector<F, N> {
    a.x * b.x + a.y * b.y + a.z * b.z
}

/// √(Σ_a V_a² + ε).
#[cube]
fn norm<F: Float, N: Size>(v: &Axes<F, N>, epsilon: F) -> Vector<F, N> {
    Vector::sqrt(dot::<F, N>(v, v) + Vector::new(epsilon))
}

/// The norm of every atom and channel; `count` units have a share.
#[cube(launch_unchecked, explicit_define)]
pub fn norms<F: Float, N: Size>(
    vectors: &Array<Vector<F, N>>,
    norms: &mut Array<Vector<F, N>>,
    epsilon: InputScalar,
    row: u32,
    count: u32,
    #[define(F)] _real: StorageType,
    #[define(N)] _lanes: usize,
) {
    let at = ABSOLUTE_POS;
    if at < count as usize {
        let v = axes::<F, N>(vectors, at, row as usize);
        norms[at] = norm::<F, N>(&v, epsilon.get::<F>());
    }
}

/// g/n · V.
#[cube(launch_unchecked, explicit_define)]
pub fn first_gradients<F: Float, N: Size>(
    vectors: &Array<Vector<F, N>>,
    grad: &Array<Vector<F, N>>,
    of_vectors: &mut Array<Vector<F, N>>,
    epsilon: InputScalar,
    row: u32,
    count: u32,
    #[define(F)] _real: StorageType,
    #[define(N)] _lanes: usize,
) {
    let at = ABSOLUTE_POS;
    if at < count as usize {
        let row = row as usize;
        let v = axes::<F, N>(vectors, at, row);
        let by_norm = grad[at] / norm::<F, N>(&v, epsilon.get::<F>());
        let first = first_axis(at, row);
        of_vectors[first] = by_norm * v.x;
        of_vectors[first + row] = by_norm * v.y;
        of_vectors[first + 2 * row] = by_norm * v.z;
    }
}

/// s/n, and g/n · (t − V·s/n²); n² is divided by in two steps, since a third power would leave the range of f32 first.
#[cube(launch_unchecked, explicit_define)]
pub fn second_gradients<F: Float, N: Size>(
    vectors: &Array<Vector<F, N>>,
    grad: &Array<Vector<F, N>>,
    tangent: &Array<Vector<F, N>>,
    of_grad: &mut Array<Vector<F, N>>,
    of_vectors: &mut Array<Vector<F, N>>,
    epsilon: InputScalar,
    row: u32,
    count: u32,
    #[define(F)] _real: StorageType,
    #[define(N)] _lanes: usize,
) {
    let at = ABSOLUTE_POS;
    if at < count as usize {
        let row = row as usize;
        let v = axes::<F, N>(vectors, at, row);
        let t = axes::<F, N>(tangent, at, row);
        let n = norm::<F, N>(&v, epsilon.get::<F>());
        let by_norm = grad[at] / n;
        let along = dot::<F, N>(&v, &t) / n;
        of_grad[at] = along;
        let back = along / n;
        let first = first_axis(at, row);
        of_vectors[first] = by_norm * (t.x - v.x * back);
        of_vectors[first + row] = by_norm * (t.y - v.y * back);
        of_vectors[first + 2 * row] = by_norm * (t.z - v.z * back);
    }
}
