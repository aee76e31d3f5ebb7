use std::ops::{Add, AddAssign, Div, Mul, Neg, Sub};

use bytemuck::Pod;
use ff_spec::Scalar;
use pulp::Simd;

/// A vector register of `T` at SIMD level `S`, with the arithmetic that rendered formulas are written in.
#[derive(Clone, Copy)]
pub struct Lane<S: Simd, T: Element> {
    /// The proof that this processor has the level.
    pub simd: S,
    /// The register.
    pub v: T::V<S>,
}

/// Whether a SIMD level has 32 registers, as AVX-512 and NEON do, and not 16.
#[inline(always)]
pub fn has_many_registers<S: Simd>() -> bool {
    S::REGISTER_COUNT >= 32
}

/// The widest vector in elements, for padding: AVX-512 in f32.
pub const MAX_LANES: usize = 16;

/// A dtype that host kernels compute in: what differs between `f32` and `f64` registers and their elementary functions.
pub trait Element: Scalar + Pod + PartialOrd + AddAssign {
    /// A register of the SIMD level.
    type V<S: Simd>: Copy + Pod;
    /// An integer cell of the same width that threads may share.
    type Cell: Sync;

    /// Number of terms that make the polynomials of [`super::maths`] exact to rounding, per function.
    const TERMS: Terms;
    /// 1.5·2^mantissa: adding and subtracting it rounds to the nearest integer.
    const ROUND: f64;
    /// π in parts whose products with a small integer are exact.
    const PI_PARTS: [f64; 3];
    /// ln 2 likewise.
    const LN2_PARTS: [f64; 2];
    /// Arguments beyond which exp is clamped.
    const EXP_RANGE: [f64; 2];
    /// The least number above 0 that is not subnormal.
    const LEAST_NORMAL: f64;

    /// Lanes of one register.
    fn lanes<S: Simd>() -> usize {
        size_of::<Self::V<S>>() / size_of::<Self>()
    }
    /// All lanes equal.
    fn splat<S: Simd>(simd: S, x: Self) -> Self::V<S>;
    /// a + b.
    fn add<S: Simd>(simd: S, a: Self::V<S>, b: Self::V<S>) -> Self::V<S>;
    /// a − b.
    fn sub<S: Simd>(simd: S, a: Self::V<S>, b: Self::V<S>) -> Self::V<S>;
    /// a·b.
    fn mul<S: Simd>(simd: S, a: Self::V<S>, b: Self::V<S>) -> Self::V<S>;
    /// a / b.
    fn div<S: Simd>(simd: S, a: Self::V<S>, b: Self::V<S>) -> Self::V<S>;
    /// a·b + c, fused where the processor can.
    fn mul_add<S: Simd>(simd: S, a: Self::V<S>, b: Self::V<S>, c: Self::V<S>) -> Self::V<S>;
    /// √a.
    fn sqrt<S: Simd>(simd: S, a: Self::V<S>) -> Self::V<S>;
    /// |a|.
    fn abs<S: Simd>(simd: S, a: Self::V<S>) -> Self::V<S>;
    /// Lanewise minimum.
    fn min<S: Simd>(simd: S, a: Self::V<S>, b: Self::V<S>) -> Self::V<S>;
    /// Lanewise maximum.
    fn max<S: Simd>(simd: S, a: Self::V<S>, b: Self::V<S>) -> Self::V<S>;
    /// `yes` where a < b, else `no`.
    fn select_less<S: Simd>(simd: S, a: Self::V<S>, b: Self::V<S>, yes: Self::V<S>, no: Self::V<S>) -> Self::V<S>;
    /// The sum of all lanes, in an order that the SIMD level decides.
    fn sum<S: Simd>(simd: S, a: Self::V<S>) -> Self;
    /// Bit l is set where lane l of a is at most that of b.
    fn at_most<S: Simd>(simd: S, a: Self::V<S>, b: Self::V<S>) -> u32;
    /// 2ⁿ for integral lanes within the exponent range.
    fn exp2i<S: Simd>(simd: S, n: Self::V<S>) -> Self::V<S>;
    /// A first guess of ln x, good to a few hundredths, for positive normal lanes.
    fn ln_guess<S: Simd>(simd: S, x: Self::V<S>) -> Self::V<S>;
    /// The first `slice.len()` lanes from memory, the rest zero; `slice` is no longer than a register.
    fn partial_load<S: Simd>(simd: S, slice: &[Self]) -> Self::V<S>;
    /// The first `slice.len()` lanes to memory.
    fn partial_store<S: Simd>(simd: S, slice: &mut [Self], v: Self::V<S>);
    /// Adds to a shared cell: a compare-and-swap loop, for want of a floating-point atomic on host processors.
    fn atomic_add(cell: &Self::Cell, x: Self);
    /// The same memory as cells.
    fn as_cells(slice: &mut [Self]) -> &[Self::Cell];
}

/// Terms per polynomial; see [`Element::TERMS`].
pub struct Terms {
    /// Taylor degree of exp on ±½ ln 2.
    pub exp: usize,
    /// Odd Taylor terms of sin on ±π/2.
    pub sin: usize,
    /// Odd terms of artanh on [0, ⅓].
    pub artanh: usize,
    /// Even Taylor terms of sinc and its derivatives on [0, 2].
    pub sinc: usize,
}

macro_rules! element {
    ($t:ident, $bits:ident, $cell:ident, $s:ident, $one:expr, $mantissa:expr, $($consts:tt)*) => {
        pastey::paste! {
        impl Element for $t {
            type V<S: Simd> = S::$s;
            type Cell = std::sync::atomic::$cell;
            const LEAST_NORMAL: f64 = $t::MIN_POSITIVE as f64;
            $($consts)*

            #[inline(always)]
            fn splat<S: Simd>(simd: S, x: Self) -> S::$s { simd.[<splat_ $s>](x) }
            #[inline(always)]
            fn add<S: Simd>(simd: S, a: S::$s, b: S::$s) -> S::$s { simd.[<add_ $s>](a, b) }
            #[inline(always)]
            fn sub<S: Simd>(simd: S, a: S::$s, b: S::$s) -> S::$s { simd.[<sub_ $s>](a, b) }
            #[inline(always)]
            fn mul<S: Simd>(simd: S, a: S::$s, b: S::$s) -> S::$s { simd.[<mul_ $s>](a, b) }
            #[inline(always)]
            fn div<S: Simd>(simd: S, a: S::$s, b: S::$s) -> S::$s { simd.[<div_ $s>](a, b) }
            #[inline(always)]
            fn mul_add<S: Simd>(simd: S, a: S::$s, b: S::$s, c: S::$s) -> S::$s { simd.[<mul_add_e_ $s>](a, b, c) }
            #[inline(always)]
            fn sqrt<S: Simd>(simd: S, a: S::$s) -> S::$s { simd.[<sqrt_ $s>](a) }
            #[inline(always)]
            fn abs<S: Simd>(simd: S, a: S::$s) -> S::$s { simd.[<abs_ $s>](a) }
            #[inline(always)]
            fn min<S: Simd>(simd: S, a: S::$s, b: S::$s) -> S::$s { simd.[<min_ $s>](a, b) }
            #[inline(always)]
            fn max<S: Simd>(simd: S, a: S::$s, b: S::$s) -> S::$s { simd.[<max_ $s>](a, b) }
            #[inline(always)]
            fn select_less<S: Simd>(simd: S, a: S::$s, b: S::$s, yes: S::$s, no: S::$s) -> S::$s {
                simd.[<select_ $s>](simd.[<less_than_ $s>](a, b), yes, no)
            }
            #[inline(always)]
            fn sum<S: Simd>(simd: S, a: S::$s) -> Self { simd.[<reduce_sum_ $s>](a) }
            #[inline(always)]
            fn at_most<S: Simd>(simd: S, a: S::$s, b: S::$s) -> u32 {
                let mask = simd.[<less_than_or_equal_ $s>](a, b);
                let bytes = bytemuck::bytes_of(&mask);
                let mut bits = 0;
                match *bytes {
                    // A bit per lane already.
                    [a] => bits = u32::from(a),
                    [a, b] => bits = u32::from(u16::from_le_bytes([a, b])),
                    // All bits of every lane.
                    _ => {
                        for (l, lane) in bytes.chunks_exact(size_of::<Self>()).enumerate() {
                            bits |= u32::from(lane[0] & 1) << l;
                        }
                    }
                }
                bits
            }
            #[inline(always)]
            fn exp2i<S: Simd>(_: S, n: S::$s) -> S::$s {
                let mut v = n;
                for x in bytemuck::cast_slice_mut::<S::$s, $t>(std::slice::from_mut(&mut v)) {
                    // Adding 1.5·2^mantissa leaves the integer in the low bits; shifted up, they are the exponent field.
                    let bits = (*x + Self::ROUND as $t).to_bits();
                    *x = $t::from_bits(bits.wrapping_add($one) << $mantissa);
                }
                v
            }
            #[inline(always)]
            fn ln_guess<S: Simd>(_: S, x: S::$s) -> S::$s {
                let mut v = x;
                for x in bytemuck::cast_slice_mut::<S::$s, $t>(std::slice::from_mut(&mut v)) {
                    // The bit pattern of a positive float is its log2, offset and scaled, with a piecewise linear mantissa.
                    let log2 = x.to_bits() as $t / ((1 as $bits) << $mantissa) as $t - $one as $t;
                    *x = log2 * std::$t::consts::LN_2;
                }
                v
            }
            #[inline(always)]
            fn partial_load<S: Simd>(simd: S, slice: &[Self]) -> S::$s { simd.[<partial_load_ $s>](slice) }
            #[inline(always)]
            fn partial_store<S: Simd>(simd: S, slice: &mut [Self], v: S::$s) { simd.[<partial_store_ $s>](slice, v) }
            #[inline]
            fn atomic_add(cell: &Self::Cell, x: Self) {
                use std::sync::atomic::Ordering::Relaxed;
                let mut old = cell.load(Relaxed);
                loop {
                    let new = ($t::from_bits(old) + x).to_bits();
                    match cell.compare_exchange_weak(old, new, Relaxed, Relaxed) {
                        Ok(_) => return,
                        Err(current) => old = current,
                    }
                }
            }
            fn as_cells(slice: &mut [Self]) -> &[Self::Cell] {
                // SAFETY: the atomic has the size, alignment and bit validity of the float (asserted below), and the
                // exclusive borrow of the slice ends with the shared borrow of the cells.
                unsafe { std::slice::from_raw_parts(slice.as_ptr().cast(), slice.len()) }
            }
        }
        const _: () = assert!(
            size_of::<$t>() == size_of::<std::sync::atomic::$cell>()
                && align_of::<$t>() == align_of::<std::sync::atomic::$cell>()
        );
        }
    };
}

element! { f32, u32, AtomicU32, f32s, 127, 23,
    const TERMS: Terms = Terms { exp: 8, sin: 7, artanh: 8, sinc: 10 };
    const ROUND: f64 = 12_582_912.0;
    const PI_PARTS: [f64; 3] = [3.140_625, 9.675_025_939_941_406e-4, 1.509_957_990_978_376_4e-7];
    const LN2_PARTS: [f64; 2] = [0.693_359_375, -2.121_944_400_546_905_8e-4];
    const EXP_RANGE: [f64; 2] = [-87.0, 88.0];
}

element! { f64, u64, AtomicU64, f64s, 1023, 52,
    const TERMS: Terms = Terms { exp: 14, sin: 12, artanh: 17, sinc: 15 };
    const ROUND: f64 = 6_755_399_441_055_744.0;
    const PI_PARTS: [f64; 3] = [3.141_592_502_593_994, 1.509_957_883_172_319_3e-7, 1.078_060_571_631_623_8e-14];
    const LN2_PARTS: [f64; 2] = [0.693_147_180_369_123_8, 1.908_214_929_270_587_7e-10];
    const EXP_RANGE: [f64; 2] = [-708.0, 709.0];
}

impl<S: Simd, T: Element> Lane<S, T> {
    /// All lanes equal.
    #[inline(always)]
    pub fn splat(simd: S, x: T) -> Self {
        Self { simd, v: T::splat(simd, x) }
    }
    /// A constant beside this value.
    #[inline(always)]
    pub fn lit(self, x: f64) -> Self {
        Self::splat(self.simd, T::from_f64(x))
    }
    /// The first lanes from memory, the rest zero.
    #[inline(always)]
    pub fn load(simd: S, slice: &[T]) -> Self {
        Self { simd, v: T::partial_load(simd, slice) }
    }
    /// A full register from memory.
    #[inline(always)]
    pub fn load_full(simd: S, slice: &[T]) -> Self {
        Self { simd, v: bytemuck::pod_read_unaligned(bytemuck::cast_slice(&slice[..T::lanes::<S>()])) }
    }
    /// A full register to memory.
    #[inline(always)]
    pub fn store_full(self, slice: &mut [T]) {
        bytemuck::cast_slice_mut::<T, u8>(&mut slice[..T::lanes::<S>()]).copy_from_slice(bytemuck::bytes_of(&self.v));
    }
    /// The first lanes to memory.
    #[inline(always)]
    pub fn store(self, slice: &mut [T]) {
        T::partial_store(self.simd, slice, self.v);
    }
    /// self·b + c.
    #[inline(always)]
    pub fn mul_add(self, b: Self, c: Self) -> Self {
        Self { simd: self.simd, v: T::mul_add(self.simd, self.v, b.v, c.v) }
    }
    /// √self.
    #[inline(always)]
    pub fn sqrt(self) -> Self {
        Self { simd: self.simd, v: T::sqrt(self.simd, self.v) }
    }
    /// |self|.
    #[inline(always)]
    pub fn abs(self) -> Self {
        Self { simd: self.simd, v: T::abs(self.simd, self.v) }
    }
    /// Lanewise minimum.
    #[inline(always)]
    pub fn min(self, b: Self) -> Self {
        Self { simd: self.simd, v: T::min(self.simd, self.v, b.v) }
    }
    /// Lanewise maximum.
    #[inline(always)]
    pub fn max(self, b: Self) -> Self {
        Self { simd: self.simd, v: T::max(self.simd, self.v, b.v) }
    }
    /// `yes` where self < b, else `no`.
    #[inline(always)]
    pub fn select_less(self, b: Self, yes: Self, no: Self) -> Self {
        Self { simd: self.simd, v: T::select_less(self.simd, self.v, b.v, yes.v, no.v) }
    }
    /// The sum of all lanes.
    #[inline(always)]
    pub fn sum(self) -> T {
        T::sum(self.simd, self.v)
    }
    /// Bit l is set where lane l is at most that of `b`.
    #[inline(always)]
    pub fn at_most(self, b: Self) -> u32 {
        T::at_most(self.simd, self.v, b.v)
    }
    /// Nearest integer, for lanes well inside the mantissa.
    #[inline(always)]
    pub fn round(self) -> Self {
        (self + self.lit(T::ROUND)) - self.lit(T::ROUND)
    }
}

macro_rules! operator {
    ($($trait:ident $method:ident),*) => {$(
        impl<S: Simd, T: Element> $trait for Lane<S, T> {
            type Output = Self;
            #[inline(always)]
            fn $method(self, b: Self) -> Self {
                Self { simd: self.simd, v: T::$method(self.simd, self.v, b.v) }
            }
        }
    )*};
}
operator!(Add add, Sub sub, Mul mul, Div div);

impl<S: Simd, T: Element> Neg for Lane<S, T> {
    type Output = Self;
    #[inline(always)]
    fn neg(self) -> Self {
        self.lit(0.0) - self
    }
}
