//! What this processor can do at most, measured: the two roofs under which host kernels are read.

use std::hint::black_box;
use std::marker::PhantomData;
use std::time::{Duration, Instant};

use ff_spec::Dtype;
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::{Element, Lane};

/// Rates of all threads of the current pool together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Peak {
    /// FLOPs per second of fused multiply-adds in registers, one counted as 2, in f32.
    pub f32: f64,
    /// The same in f64.
    pub f64: f64,
    /// Bytes per second of a copy far larger than any cache, read and written bytes both counted.
    pub bytes: f64,
}

/// Each rate is the best of runs that take this long together.
const TIME: Duration = Duration::from_millis(200);

impl Peak {
    /// FLOPs per second in a dtype.
    pub fn flops(&self, dtype: Dtype) -> f64 {
        match dtype {
            Dtype::F32 => self.f32,
            Dtype::F64 => self.f64,
        }
    }
}

/// Measures the peak: less than a second.
pub fn measure() -> Peak {
    Peak { f32: best(fma::<f32>), f64: best(fma::<f64>), bytes: best(copy) }
}

fn best(run: fn() -> f64) -> f64 {
    let begin = Instant::now();
    let mut best = 0.0_f64;
    while begin.elapsed() < TIME {
        best = best.max(run());
    }
    best
}

fn fma<T: Element>() -> f64 {
    let begin = Instant::now();
    let done: f64 = rayon::broadcast(|_| Arch::new().dispatch(Fma(PhantomData::<T>))).into_iter().sum();
    done / begin.elapsed().as_secs_f64()
}

/// FMAs on 8 independent chains: more than latency times width of any processor with registers to hold them.
struct Fma<T>(PhantomData<T>);

impl<T: Element> WithSimd for Fma<T> {
    type Output = f64;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f64 {
        const ROUNDS: usize = 1 << 20;
        let at = |x: f64| Lane::<S, T>::splat(simd, T::from_f64(black_box(x)));
        let (a, b) = (at(0.5), at(0.25));
        let mut chains = [at(1.0); 8];
        for _ in 0..ROUNDS {
            unroll!(i in 0..8 => { chains[i] = chains[i].mul_add(a, b); });
        }
        for chain in chains {
            black_box(chain.v);
        }
        (ROUNDS * 8 * 2 * T::lanes::<S>()) as f64
    }
}

fn copy() -> f64 {
    const BYTES: usize = 128 << 20;
    let from = vec![1_u8; BYTES];
    let mut to = vec![0_u8; BYTES];
    let mut once =
        || to.par_chunks_mut(1 << 20).zip(from.par_chunks(1 << 20)).for_each(|(to, from)| to.copy_from_slice(from));
    // The first touch is the operating system's.
    once();
    let begin = Instant::now();
    once();
    let taken = begin.elapsed().as_secs_f64();
    black_box(&to);
    2.0 * BYTES as f64 / taken
}
