//! The host kernels of `vector_norm`.
//!
//! A register holds neighbouring channels of one atom and one axis, so an atom is three rows of registers and nothing is ever
//! summed across a register. The rest of a row goes through partial loads, whose idle lanes hold V = 0 and the norm √ε.

use std::ops::Range;

use ff_spec::vector_norm::{DoubleGradients, Gradients, Outputs};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use crate::{Element, Lane};

/// The source of these kernels.
pub const SOURCE: &str = include_str!("mod.rs");

/// Launch parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HostConfig {
    /// Atoms of one task; results do not depend on it.
    pub atoms_per_task: usize,
}

impl Default for HostConfig {
    fn default() -> Self {
        Self { atoms_per_task: 64 }
    }
}

/// Borrowed inputs of one call; shapes as in [`ff_spec::vector_norm::Inputs`], already checked.
pub struct Call<'a, T> {
    /// Atoms.
    pub n_atoms: usize,
    /// Channels F.
    pub features: usize,
    /// [n_atoms, 3, F].
    pub vectors: &'a [T],
    /// ε > 0.
    pub epsilon: T,
}

/// An element type for which this crate has compiled every kernel.
pub trait Compiled: Element {
    /// The norm of every atom and channel.
    fn forward(call: &Call<'_, Self>, config: &HostConfig, out: &mut Outputs<Self>);
    /// Gradients in the vectors from those in the norm, `grad` [n_atoms, F].
    fn backward(call: &Call<'_, Self>, grad: &[Self], config: &HostConfig, out: &mut Gradients<Self>);
    /// Gradients of the first backward in `grad` and in the vectors, from those in what it computes, `tangent` [n_atoms, 3, F].
    fn double_backward(
        call: &Call<'_, Self>,
        grad: &[Self],
        tangent: &[Self],
        config: &HostConfig,
        out: &mut DoubleGradients<Self>,
    );
}

macro_rules! compiled {
    ($($t:ident),*) => {$(
        impl Compiled for $t {
            #[inline(never)]
            fn forward(call: &Call<'_, Self>, config: &HostConfig, out: &mut Outputs<Self>) {
                let Some(tasks) = Tasks::new(call, config) else { return };
                let norm = out.norm.chunks_mut(tasks.norms);
                let kernels = tasks.of(call).zip(norm).map(|(vectors, norm)| Forward { vectors, norm });
                run(kernels.collect());
            }

            #[inline(never)]
            fn backward(call: &Call<'_, Self>, grad: &[Self], config: &HostConfig, out: &mut Gradients<Self>) {
                let Some(tasks) = Tasks::new(call, config) else { return };
                let tensors = grad.chunks(tasks.norms).zip(out.vectors.chunks_mut(3 * tasks.norms));
                let kernels =
                    tasks.of(call).zip(tensors).map(|(vectors, (grad, out))| Backward { vectors, grad, out });
                run(kernels.collect());
            }

            #[inline(never)]
            fn double_backward(
                call: &Call<'_, Self>,
                grad: &[Self],
                tangent: &[Self],
                config: &HostConfig,
                out: &mut DoubleGradients<Self>,
            ) {
                let Some(tasks) = Tasks::new(call, config) else { return };
                let read = grad.chunks(tasks.norms).zip(tangent.chunks(3 * tasks.norms));
                let written = out.grad.chunks_mut(tasks.norms).zip(out.vectors.chunks_mut(3 * tasks.norms));
                let kernels = tasks.of(call).zip(read.zip(written)).map(|(vectors, ((grad, tangent), (of_grad, of_vectors)))| {
                    DoubleBackward { vectors, grad, tangent, of_grad, of_vectors }
                });
                run(kernels.collect());
            }
        }
    )*};
}
compiled!(f32, f64);

/// How the atoms of a call are cut into tasks.
struct Tasks {
    /// Elements of the norm of one task: whole atoms.
    norms: usize,
}

impl Tasks {
    /// None where there is nothing to compute.
    fn new<T>(call: &Call<'_, T>, config: &HostConfig) -> Option<Self> {
        let norms = config.atoms_per_task.min(call.n_atoms) * call.features;
        (norms > 0).then_some(Self { norms })
    }

    /// The vectors of each task.
    fn of<'a, T: Element>(&self, call: &Call<'a, T>) -> impl Iterator<Item = Vectors<'a, T>> {
        let (features, epsilon) = (call.features, call.epsilon);
        call.vectors.chunks(3 * self.norms).map(move |values| Vectors { features, epsilon, values })
    }
}

/// Runs tasks in parallel; one alone stays on this thread.
fn run<T: Element, K: Kernel<T> + Send>(kernels: Vec<K>) {
    let one = |kernel| Arch::new().dispatch(Sweep { kernel, element: std::marker::PhantomData });
    match kernels.len() {
        1 => kernels.into_iter().for_each(one),
        _ => kernels.into_par_iter().for_each(one),
    }
}

/// The vectors of one task's atoms.
#[derive(Clone, Copy)]
struct Vectors<'a, T> {
    features: usize,
    epsilon: T,
    values: &'a [T],
}

/// What is computed of one register of channels.
trait Kernel<T: Element> {
    /// The vectors it is computed of.
    fn vectors(&self) -> Vectors<'_, T>;

    /// Computes `channels` of an atom, which fill a register where `FULL`.
    fn compute<S: Simd, const FULL: bool>(&mut self, simd: S, atom: usize, channels: Range<usize>);
}

/// A kernel over all atoms and channels of its task.
struct Sweep<K, T> {
    kernel: K,
    element: std::marker::PhantomData<T>,
}

impl<T: Element, K: Kernel<T>> WithSimd for Sweep<K, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let Vectors { features, values, .. } = self.kernel.vectors();
        let (n_atoms, lanes) = (values.len() / (3 * features), T::lanes::<S>());
        for atom in 0..n_atoms {
            let mut first = 0;
            while first + lanes <= features {
                self.kernel.compute::<S, true>(simd, atom, first..first + lanes);
                first += lanes;
            }
            if first < features {
                self.kernel.compute::<S, false>(simd, atom, first..features);
            }
        }
    }
}

#[inline(always)]
fn load<S: Simd, T: Element, const FULL: bool>(simd: S, from: &[T]) -> Lane<S, T> {
    if FULL { Lane::load_full(simd, from) } else { Lane::load(simd, from) }
}

#[inline(always)]
fn store<S: Simd, T: Element, const FULL: bool>(to: &mut [T], lanes: Lane<S, T>) {
    if FULL { lanes.store_full(to) } else { lanes.store(to) }
}

/// Where channels of an atom are in a tensor [n_atoms, F].
#[inline(always)]
fn place(features: usize, atom: usize, channels: &Range<usize>) -> Range<usize> {
    atom * features + channels.start..atom * features + channels.end
}

/// The three axes of channels of an atom, of a tensor [n_atoms, 3, F].
#[inline(always)]
fn axes<S: Simd, T: Element, const FULL: bool>(
    simd: S,
    values: &[T],
    features: usize,
    atom: usize,
    channels: &Range<usize>,
) -> [Lane<S, T>; 3] {
    let x = load::<S, T, FULL>(simd, &values[place(features, 3 * atom, channels)]);
    let y = load::<S, T, FULL>(simd, &values[place(features, 3 * atom + 1, channels)]);
    let z = load::<S, T, FULL>(simd, &values[place(features, 3 * atom + 2, channels)]);
    [x, y, z]
}

/// √(Σ_a V_a² + ε).
#[inline(always)]
fn norm<S: Simd, T: Element>([x, y, z]: [Lane<S, T>; 3], epsilon: T) -> Lane<S, T> {
    z.mul_add(z, y.mul_add(y, x.mul_add(x, Lane::splat(x.simd, epsilon)))).sqrt()
}

struct Forward<'a, T> {
    vectors: Vectors<'a, T>,
    norm: &'a mut [T],
}

impl<T: Element> Kernel<T> for Forward<'_, T> {
    #[inline(always)]
    fn vectors(&self) -> Vectors<'_, T> {
        self.vectors
    }

    #[inline(always)]
    fn compute<S: Simd, const FULL: bool>(&mut self, simd: S, atom: usize, channels: Range<usize>) {
        let Vectors { features, epsilon, values } = self.vectors;
        let v = axes::<S, T, FULL>(simd, values, features, atom, &channels);
        store::<S, T, FULL>(&mut self.norm[place(features, atom, &channels)], norm(v, epsilon));
    }
}

struct Backward<'a, T> {
    vectors: Vectors<'a, T>,
    grad: &'a [T],
    out: &'a mut [T],
}

impl<T: Element> Kernel<T> for Backward<'_, T> {
    #[inline(always)]
    fn vectors(&self) -> Vectors<'_, T> {
        self.vectors
    }

    /// g/n · V.
    #[inline(always)]
    fn compute<S: Simd, const FULL: bool>(&mut self, simd: S, atom: usize, channels: Range<usize>) {
        let Vectors { features, epsilon, values } = self.vectors;
        let v = axes::<S, T, FULL>(simd, values, features, atom, &channels);
        let by_norm = load::<S, T, FULL>(simd, &self.grad[place(features, atom, &channels)]) / norm(v, epsilon);
        unroll!(axis in 0..3 => {
            store::<S, T, FULL>(&mut self.out[place(features, 3 * atom + axis, &channels)], by_norm * v[axis]);
        });
    }
}

struct DoubleBackward<'a, T> {
    vectors: Vectors<'a, T>,
    grad: &'a [T],
    tangent: &'a [T],
    of_grad: &'a mut [T],
    of_vectors: &'a mut [T],
}

impl<T: Element> Kernel<T> for DoubleBackward<'_, T> {
    #[inline(always)]
    fn vectors(&self) -> Vectors<'_, T> {
        self.vectors
    }

    /// s/n, and g/n · (t − V·s/n²); n² is divided by in two steps, since a third power would leave the range of f32 first.
    #[inline(always)]
    fn compute<S: Simd, const FULL: bool>(&mut self, simd: S, atom: usize, channels: Range<usize>) {
        let Vectors { features, epsilon, values } = self.vectors;
        let v = axes::<S, T, FULL>(simd, values, features, atom, &channels);
        let t = axes::<S, T, FULL>(simd, self.tangent, features, atom, &channels);
        let norm = norm(v, epsilon);
        let by_norm = load::<S, T, FULL>(simd, &self.grad[place(features, atom, &channels)]) / norm;
        let along = v[2].mul_add(t[2], v[1].mul_add(t[1], v[0] * t[0])) / norm;
        store::<S, T, FULL>(&mut self.of_grad[place(features, atom, &channels)], along);
        let back = -(along / norm);
        unroll!(axis in 0..3 => {
            let gradient = by_norm * v[axis].mul_add(back, t[axis]);
            store::<S, T, FULL>(&mut self.of_vectors[place(features, 3 * atom + axis, &channels)], gradient);
        });
    }
}
