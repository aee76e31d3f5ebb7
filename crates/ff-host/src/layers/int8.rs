//! Products of matrices in eight bits: inputs and weights are integers from −127 to 127 with a scale for each row and each output,
//! and their products are summed as integers.
//!
//! Every level of instructions gives the same integers. Rows are scaled by their own largest element, so that a row's result does
//! not depend on what is beside it.

use std::cell::RefCell;

use pulp::{Arch, Simd, WithSimd};

use crate::Element;

/// Rows and outputs of one kernel, and inputs of one instruction.
const ROWS: usize = 6;
const WIDTH: usize = 16;
const DEPTH: usize = 4;

/// The largest integer of either factor.
const MOST: f32 = 127.0;

/// The most inputs whose sum of products is sure to be an integer of 32 bits.
const MOST_DEPTH: usize = 1 << 16;

/// Adding it to a number of at most 2²² in size leaves the nearest integer in the low bits, ties to even.
const ROUND: f32 = 12_582_912.0;

/// Instructions for products of small integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// None of them.
    Scalar,
    /// AVX2: pairs of products of 16 bits (`vpmaddwd`).
    Avx2,
    /// AVX-VNNI: four products of eight bits (`vpdpbusd`).
    AvxVnni,
    /// The same instruction, as AVX-512 encodes it.
    Avx512Vnni,
}

impl Level {
    /// All levels that this processor has.
    pub fn available() -> Vec<Self> {
        let mut levels = vec![Self::Scalar];
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") {
            levels.push(Self::Avx2);
            if is_x86_feature_detected!("avxvnni") {
                levels.push(Self::AvxVnni);
            }
            if is_x86_feature_detected!("avx512vnni") && is_x86_feature_detected!("avx512vl") {
                levels.push(Self::Avx512Vnni);
            }
        }
        levels
    }

    /// The fastest of them.
    pub fn best() -> Self {
        *Self::available().last().expect("the scalar one at least")
    }

    /// The instruction that sums products.
    pub fn name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Avx2 => "vpmaddwd (AVX2)",
            Self::AvxVnni => "vpdpbusd (AVX-VNNI)",
            Self::Avx512Vnni => "vpdpbusd (AVX512-VNNI)",
        }
    }

    /// Whether inputs are read as bytes that are 128 more than they mean: its instruction takes one factor without a sign.
    fn takes_bytes(self) -> bool {
        matches!(self, Self::AvxVnni | Self::Avx512Vnni)
    }
}

/// Four inputs of sixteen outputs, [output, input]: a cache line.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Line([i8; WIDTH * DEPTH]);

/// A matrix in eight bits.
#[derive(Clone, Debug)]
pub(super) struct Matrix {
    level: Level,
    depth: usize,
    width: usize,
    /// [outputs / 16, inputs / 4]; zero beyond outputs and inputs.
    lines: Vec<Line>,
    /// What sums begin with, [outputs, up to a whole line]: −128 times the sums of the weights where inputs are 128 more than they
    /// mean, and zero.
    begin: Vec<i32>,
    /// What inputs are multiplied with before they are rounded, [inputs]; empty where it is 1.
    of_inputs: Vec<f32>,
    /// The scales of the outputs, [outputs, up to a whole line].
    of_outputs: Vec<f32>,
}

/// Weights [outputs, inputs] as integers, and the scale of each output: the largest of its weights is 127.
pub(super) fn quantised<T: Element>(inputs: usize, weights: &[T]) -> (Vec<i8>, Vec<f32>) {
    let mut integers = Vec::with_capacity(weights.len());
    let mut scales = Vec::new();
    for row in weights.chunks_exact(inputs.max(1)) {
        let (scale, inverse) = scale(row.iter().fold(0.0_f32, |most, w| most.max((w.to_f64() as f32).abs())));
        scales.push(scale);
        integers.extend(row.iter().map(|w| (w.to_f64() as f32 * inverse).round_ties_even() as i8));
    }
    (integers, scales)
}

/// The scale of integers up to 127 for numbers of at most `most`, and its inverse.
#[inline(always)]
fn scale(most: f32) -> (f32, f32) {
    let inverse = MOST / most;
    // Of zeros, and of numbers so small that the inverse is none.
    if inverse < f32::INFINITY { (most / MOST, inverse) } else { (0.0, 0.0) }
}

impl Matrix {
    /// Of `weight(input, output)`, with the factors of inputs and outputs.
    pub fn new(
        level: Level,
        [depth, width]: [usize; 2],
        weight: impl Fn(usize, usize) -> i8,
        of_inputs: Vec<f32>,
        mut of_outputs: Vec<f32>,
    ) -> Self {
        assert!(depth <= MOST_DEPTH, "{depth} inputs, expected at most {MOST_DEPTH}");
        let (columns, steps) = (width.div_ceil(WIDTH), depth.div_ceil(DEPTH));
        let mut lines = vec![Line([0; WIDTH * DEPTH]); columns * steps];
        let mut begin = vec![0; columns * WIDTH];
        for input in 0..depth {
            for output in 0..width {
                let line = &mut lines[output / WIDTH * steps + input / DEPTH];
                line.0[output % WIDTH * DEPTH + input % DEPTH] = weight(input, output);
                if level.takes_bytes() {
                    begin[output] -= 128 * i32::from(weight(input, output));
                }
            }
        }
        of_outputs.resize(columns * WIDTH, 0.0);
        Self { level, depth, width, lines, begin, of_inputs, of_outputs }
    }

    /// Bytes that it takes.
    pub fn bytes(&self) -> usize {
        size_of_val(&self.lines[..])
            + size_of_val(&self.begin[..])
            + size_of_val(&self.of_inputs[..])
            + size_of_val(&self.of_outputs[..])
    }

    /// y = x·M or, where `accumulate`, y + x·M: `x` [rows, depth], `y` [rows, width].
    pub fn product<T: Element>(&self, x: &[T], y: &mut [T], accumulate: bool) {
        let rows = y.len() / self.width.max(1);
        let expected = (rows * self.depth, rows * self.width);
        assert_eq!((x.len(), y.len()), expected, "rows of {} to rows of {}", self.depth, self.width);
        SCRATCH.with_borrow_mut(|scratch| {
            scratch.reserve(self.depth.next_multiple_of(DEPTH));
            let values = x.chunks(ROWS * self.depth.max(1)).zip(y.chunks_mut(ROWS * self.width.max(1)));
            for (x, y) in values {
                Arch::new().dispatch(Rows { matrix: self, x, y, accumulate, scratch });
            }
        });
    }

    /// Up to six rows as integers.
    #[inline(always)]
    fn quantise<T: Element>(&self, x: &[T], scratch: &mut Scratch) {
        let Scratch { floats, integers, bytes, scales } = scratch;
        let padded = self.depth.next_multiple_of(DEPTH);
        for (row, x) in x.chunks_exact(self.depth).enumerate() {
            let floats = &mut floats[..self.depth];
            match &self.of_inputs[..] {
                [] => floats.iter_mut().zip(x).for_each(|(f, x)| *f = x.to_f64() as f32),
                factors => {
                    floats.iter_mut().zip(x).zip(factors).for_each(|((f, x), factor)| *f = x.to_f64() as f32 * factor);
                }
            }
            // As bits, what is no number is larger than all that is one, and is passed on by the scale.
            let most = floats.iter().fold(0, |most, f| most.max(f.to_bits() & 0x7fff_ffff));
            let (scale, inverse) = scale(f32::from_bits(most));
            scales[row] = if f32::from_bits(most).is_finite() { scale } else { f32::NAN };
            let integer = |f: f32| {
                let nearest = (f * inverse + ROUND).to_bits().wrapping_sub(ROUND.to_bits()) as i32;
                nearest.clamp(-MOST as i32, MOST as i32)
            };
            if self.level.takes_bytes() {
                let bytes = &mut bytes[row * padded..][..padded];
                bytes.iter_mut().zip(&*floats).for_each(|(b, f)| *b = (integer(*f) + 128) as u8);
                bytes[self.depth..].fill(128);
            } else {
                let integers = &mut integers[row * padded..][..padded];
                integers.iter_mut().zip(&*floats).for_each(|(i, f)| *i = integer(*f) as i16);
                integers[self.depth..].fill(0);
            }
        }
    }

    /// Products of six rows of integers, of which as many are wanted as `y` has.
    #[inline(always)]
    fn rows<T: Element>(&self, scratch: &Scratch, y: &mut [T], accumulate: bool) {
        let steps = self.depth.div_ceil(DEPTH);
        let mut sums = [[0; WIDTH]; ROWS];
        for first in (0..self.width).step_by(WIDTH) {
            let columns = first..self.width.min(first + WIDTH);
            let lines = &self.lines[first / WIDTH * steps..][..steps];
            let begin: &[i32; WIDTH] = self.begin[first..].first_chunk().expect("whole lines");
            let of_outputs: &[f32; WIDTH] = self.of_outputs[first..].first_chunk().expect("whole lines");
            self.kernel(scratch, lines, begin, &mut sums);
            for ((y, sums), scale) in y.chunks_exact_mut(self.width).zip(&sums).zip(&scratch.scales) {
                let values = y[columns.clone()].iter_mut().zip(sums).zip(of_outputs);
                values.for_each(|((y, sum), of_output)| {
                    let value = T::from_f64(f64::from(*sum as f32 * (scale * of_output)));
                    *y = if accumulate { T::from_f64(y.to_f64() + value.to_f64()) } else { value };
                });
            }
        }
    }

    #[inline(always)]
    fn kernel(&self, x: &Scratch, lines: &[Line], begin: &[i32; WIDTH], sums: &mut [[i32; WIDTH]; ROWS]) {
        let most = ROWS * lines.len() * DEPTH;
        match self.level {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: a level is one of those that this processor has, as `Dense` asserts.
            Level::Avx2 => unsafe { x86::avx2(&x.integers[..most], lines, sums) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Level::AvxVnni => unsafe { x86::avx_vnni(&x.bytes[..most], lines, begin, sums) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Level::Avx512Vnni => unsafe { x86::avx512_vnni(&x.bytes[..most], lines, begin, sums) },
            _ => scalar(&x.integers[..most], lines, begin, sums),
        }
    }
}

/// Up to six rows of a product.
struct Rows<'a, T> {
    matrix: &'a Matrix,
    x: &'a [T],
    y: &'a mut [T],
    accumulate: bool,
    scratch: &'a mut Scratch,
}

impl<T: Element> WithSimd for Rows<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { matrix, x, y, accumulate, scratch } = self;
        matrix.quantise(x, scratch);
        matrix.rows(scratch, y, accumulate);
    }
}

/// Memory of one thread.
#[derive(Default)]
struct Scratch {
    /// A row, [depth].
    floats: Vec<f32>,
    /// Six rows as integers, [6, depth]; in one of the two, as the level takes them.
    integers: Vec<i16>,
    bytes: Vec<u8>,
    scales: [f32; ROWS],
}

thread_local! {
    /// It grows to the largest that was needed, and stays.
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl Scratch {
    fn reserve(&mut self, depth: usize) {
        if self.floats.len() < depth {
            self.floats.resize(depth, 0.0);
            self.integers.resize(ROWS * depth, 0);
            self.bytes.resize(ROWS * depth, 0);
        }
    }
}

/// Sums of products of six rows with sixteen columns.
#[inline(always)]
fn scalar(x: &[i16], lines: &[Line], begin: &[i32; WIDTH], sums: &mut [[i32; WIDTH]; ROWS]) {
    for (x, sums) in x.chunks_exact(lines.len() * DEPTH).zip(sums) {
        *sums = *begin;
        for (x, line) in x.chunks_exact(DEPTH).zip(lines) {
            for (sum, weights) in sums.iter_mut().zip(line.0.chunks_exact(DEPTH)) {
                *sum += x.iter().zip(weights).map(|(x, w)| i32::from(*x) * i32::from(*w)).sum::<i32>();
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    //! The same in registers of 256 bits.

    use std::arch::x86_64::*;

    use super::{DEPTH, Line, ROWS, WIDTH};

    /// The instruction sums two products of 16 bits, here of at most 127², in 32 bits: nothing saturates.
    #[target_feature(enable = "avx2")]
    pub fn avx2(x: &[i16], lines: &[Line], sums: &mut [[i32; WIDTH]; ROWS]) {
        let depth = lines.len() * DEPTH;
        assert_eq!(x.len(), ROWS * depth);
        // Eight outputs at a time: twelve registers of sums, two of weights and one of inputs.
        for half in [0, WIDTH / 2] {
            let mut acc = [[_mm256_setzero_si256(); 2]; ROWS];
            for (step, line) in lines.iter().enumerate() {
                let weights = line.0[half * DEPTH..].as_ptr();
                // SAFETY: half a line, of which sixteen bytes each.
                let weights = unsafe { [_mm_load_si128(weights.cast()), _mm_load_si128(weights.add(16).cast())] };
                let weights = weights.map(|w| _mm256_cvtepi8_epi16(w));
                unroll!(row in 0..ROWS => {
                    // SAFETY: four integers of a row, of which there are `depth`, as was asserted.
                    let four = unsafe { x.as_ptr().add(row * depth + step * DEPTH).cast::<i64>().read_unaligned() };
                    let four = _mm256_set1_epi64x(four);
                    acc[row][0] = _mm256_add_epi32(acc[row][0], _mm256_madd_epi16(weights[0], four));
                    acc[row][1] = _mm256_add_epi32(acc[row][1], _mm256_madd_epi16(weights[1], four));
                });
            }
            unroll!(row in 0..ROWS => {
                // Two sums of each output: of its even and odd pairs.
                let paired = _mm256_hadd_epi32(acc[row][0], acc[row][1]);
                let sorted = _mm256_permute4x64_epi64::<0b11_01_10_00>(paired);
                let to = sums[row][half..half + WIDTH / 2].as_mut_ptr();
                // SAFETY: eight sums.
                unsafe { _mm256_storeu_si256(to.cast(), sorted) };
            });
        }
    }

    macro_rules! vnni {
        ($name:ident, $features:literal, $dot:ident) => {
            #[target_feature(enable = $features)]
            pub fn $name(x: &[u8], lines: &[Line], begin: &[i32; WIDTH], sums: &mut [[i32; WIDTH]; ROWS]) {
                let depth = lines.len() * DEPTH;
                assert_eq!(x.len(), ROWS * depth);
                // SAFETY: two times eight numbers.
                let begin = unsafe {
                    [_mm256_loadu_si256(begin.as_ptr().cast()), _mm256_loadu_si256(begin[8..].as_ptr().cast())]
                };
                let mut acc = [begin; ROWS];
                for (step, line) in lines.iter().enumerate() {
                    let weights = line.0.as_ptr();
                    // SAFETY: a line, of which thirty-two bytes each.
                    let weights = unsafe { [_mm256_load_si256(weights.cast()), _mm256_load_si256(weights.add(32).cast())] };
                    unroll!(row in 0..ROWS => {
                        // SAFETY: four bytes of a row, of which there are `depth`, as was asserted.
                        let four = unsafe { x.as_ptr().add(row * depth + step * DEPTH).cast::<i32>().read_unaligned() };
                        let four = _mm256_set1_epi32(four);
                        acc[row][0] = $dot(acc[row][0], four, weights[0]);
                        acc[row][1] = $dot(acc[row][1], four, weights[1]);
                    });
                }
                unroll!(row in 0..ROWS => {
                    let to = sums[row].as_mut_ptr();
                    // SAFETY: two times eight sums.
                    unsafe {
                        _mm256_storeu_si256(to.cast(), acc[row][0]);
                        _mm256_storeu_si256(to.add(8).cast(), acc[row][1]);
                    }
                });
            }
        };
    }
    vnni!(avx_vnni, "avx2,avxvnni", _mm256_dpbusd_avx_epi32);
    vnni!(avx512_vnni, "avx2,avx512vnni,avx512vl", _mm256_dpbusd_epi32);
}
