//! Numbers as a narrower type holds them, kept in the element type, which the host computes in.

use ff_spec::Storage;
use pulp::Arch;

use crate::Element;

/// Bits of f32: infinity, 2⁻¹⁴ (the smallest normal number of f16) and 65504 (its largest).
const INFINITY: u32 = 0x7f80_0000;
const SMALLEST_F16: u32 = 0x3880_0000;
const LARGEST_F16: u32 = 0x477f_e000;

/// Rounds to nearest, ties to even, as a conversion to the type and back does; beyond its range to infinity.
pub(super) fn narrow<T: Element>(storage: Storage, values: &mut [T]) {
    // A number of f64 is rounded to f32 first.
    match storage {
        Storage::F16 => Arch::new().dispatch(|| {
            values.iter_mut().for_each(|x| *x = T::from_f64(f64::from(through_f16(x.to_f64() as f32))));
        }),
        Storage::Bf16 => Arch::new().dispatch(|| {
            values.iter_mut().for_each(|x| *x = T::from_f64(f64::from(through_bf16(x.to_f64() as f32))));
        }),
    }
}

/// |x| as bits, and the sign alone.
#[inline(always)]
fn parts(x: f32) -> (u32, u32) {
    (x.to_bits() & 0x7fff_ffff, x.to_bits() & 0x8000_0000)
}

/// Drops bits of the mantissa below `unit`, a power of two, to nearest and ties to even; what carries goes into the exponent.
#[inline(always)]
fn drop_below(bits: u32, unit: u32) -> u32 {
    let is_odd = u32::from(bits & unit != 0);
    (bits + (unit / 2 - 1) + is_odd) & !(unit - 1)
}

#[inline(always)]
fn through_f16(x: f32) -> f32 {
    let (size, sign) = parts(x);
    let normal = drop_below(size, 1 << 13);
    // Below its normal numbers f16 has steps of 2⁻²⁴, which are those of f32 between ½ and 1.
    let small = ((f32::from_bits(size) + 0.5) - 0.5).to_bits();
    let rounded = if size < SMALLEST_F16 { small } else { normal };
    let rounded = if rounded > LARGEST_F16 { INFINITY } else { rounded };
    // What is no number stays what it is.
    f32::from_bits(if size > INFINITY { size } else { rounded } | sign)
}

#[inline(always)]
fn through_bf16(x: f32) -> f32 {
    let (size, sign) = parts(x);
    f32::from_bits(if size > INFINITY { size } else { drop_below(size, 1 << 16) } | sign)
}
