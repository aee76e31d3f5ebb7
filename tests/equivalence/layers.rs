//! What the layers of models promise: numbers of a narrower type as a conversion gives them, and products of integers that are exact at
//! every level of instructions.

use ff_kernels::host::layers::{Compiled, Dense, Level, Storage};
use half::{bf16, f16};
use proptest::prelude::*;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

fn converted(storage: Storage, x: f32) -> f32 {
    match storage {
        Storage::F16 => f16::from_f32(x).to_f32(),
        Storage::Bf16 => bf16::from_f32(x).to_f32(),
    }
}

/// Bits, where all that are no number are one.
fn bits(x: f32) -> u32 {
    if x.is_nan() { f32::NAN.to_bits() } else { x.to_bits() }
}

#[test]
fn narrow_numbers_are_those_of_a_conversion() {
    // Every exponent and sign, with mantissas about every boundary of rounding, and some at random.
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let mut mantissas: Vec<u32> = (0..23).flat_map(|bit| [(1_u32 << bit) - 1, 1 << bit, (1 << bit) + 1]).collect();
    mantissas.extend([0x1000, 0x2000, 0x3000, 0x8000, 0x1_8000].map(|half| 0x7f_ffff & (half | 0x40_0000)));
    mantissas.extend((0..200).map(|_| rng.random_range(0..1 << 23)));
    mantissas.extend([0x7f_ffff, 0x7f_f000, 0x7f_efff, 0x7f_8000, 0x7f_7fff]);
    let values: Vec<f32> = (0..1_u32 << 9)
        .flat_map(|high| mantissas.iter().map(move |low| f32::from_bits(high << 23 | (low & 0x7f_ffff))))
        .collect();
    for storage in Storage::ALL {
        let mut found = values.clone();
        f32::narrow(storage, &mut found);
        for (x, found) in values.iter().zip(&found) {
            let expected = converted(storage, *x);
            assert_eq!(bits(*found), bits(expected), "{storage:?}: {x:e} is {found:e}, expected {expected:e}");
        }
        // As often as one likes, and of f64 what is of f32.
        let mut again = found.clone();
        f32::narrow(storage, &mut again);
        let mut wide: Vec<f64> = values.iter().map(|x| f64::from(*x)).collect();
        f64::narrow(storage, &mut wide);
        for ((found, again), wide) in found.iter().zip(&again).zip(&wide) {
            assert_eq!((bits(*found), bits(*found)), (bits(*again), bits(*wide as f32)));
        }
        let normal = |x: &&f32| (1e-4..6e4).contains(&x.abs());
        for x in values.iter().filter(normal) {
            let error = f64::from((converted(storage, *x) - x).abs());
            assert!(error <= storage.epsilon() * f64::from(x.abs()), "{storage:?}: {x:e} errs by {error:e}");
        }
    }
}

/// Rows of integers up to 127 of which one is 127, so that their scale is 1.
fn integers(rng: &mut ChaCha8Rng, rows: usize, width: usize) -> Vec<i32> {
    let mut values: Vec<i32> = (0..rows * width).map(|_| rng.random_range(-127..=127)).collect();
    for row in values.chunks_exact_mut(width) {
        row[rng.random_range(0..width)] = if rng.random() { 127 } else { -127 };
    }
    values
}

fn floats(values: &[i32]) -> Vec<f32> {
    values.iter().map(|x| *x as f32).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Sums of up to 1000 products of integers are integers of f32, so that layers whose scales are 1 show the sums themselves.
    #[test]
    fn products_in_eight_bits_are_those_of_integers_at_every_level(
        rows in 1..40_usize, inputs in 1..300_usize, outputs in 1..80_usize, biased in any::<bool>(), seed in any::<u64>(),
    ) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let weights = integers(&mut rng, outputs, inputs);
        let bias: Vec<i32> = (0..if biased { outputs } else { 0 }).map(|_| rng.random_range(-99..=99)).collect();
        let [x, of_y] = [inputs, outputs].map(|width| integers(&mut rng, rows, width));
        let [before_y, before_x] = [outputs, inputs].map(|width| integers(&mut rng, rows, width));
        let sum = |terms: &mut dyn Iterator<Item = i32>| terms.sum::<i32>();
        for level in Level::available() {
            let layer = Dense::int8(inputs, outputs, &floats(&weights), &floats(&bias), level);
            for accumulate in [false, true] {
                let (mut y, mut of_x) = (floats(&before_y), floats(&before_x));
                f32::dense(&layer, &floats(&x), &mut y, accumulate);
                f32::dense_backward(&layer, &floats(&of_y), &mut of_x, accumulate);
                for (row, o) in (0..rows).flat_map(|row| (0..outputs).map(move |o| (row, o))) {
                    let product = sum(&mut (0..inputs).map(|i| x[row * inputs + i] * weights[o * inputs + i]));
                    let before = if accumulate { before_y[row * outputs + o] } else { 0 };
                    let expected = product + bias.get(o).copied().unwrap_or(0) + before;
                    prop_assert_eq!(y[row * outputs + o], expected as f32, "{}: y[{}, {}]", level.name(), row, o);
                }
                for (row, i) in (0..rows).flat_map(|row| (0..inputs).map(move |i| (row, i))) {
                    let product = sum(&mut (0..outputs).map(|o| of_y[row * outputs + o] * weights[o * inputs + i]));
                    let expected = product + if accumulate { before_x[row * inputs + i] } else { 0 };
                    prop_assert_eq!(of_x[row * inputs + i], expected as f32, "{}: x[{}, {}]", level.name(), row, i);
                }
            }
        }
    }

    /// Of numbers that are no integers, a product errs by half a step of each of its factors and by no more, and all levels agree to
    /// the last bit; what is no number stays in its row.
    #[test]
    fn products_in_eight_bits_err_by_half_a_step(
        rows in 1..14_usize, inputs in 1..100_usize, outputs in 1..40_usize, exponent in -20..20_i32, seed in any::<u64>(),
    ) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let size = 2.0_f32.powi(exponent);
        let mut uniform = |len: usize, size: f32| -> Vec<f32> { (0..len).map(|_| size * rng.random_range(-1.0..1.0)).collect() };
        let (weights, mut x) = (uniform(inputs * outputs, 1.0), uniform(rows * inputs, size));
        x[..inputs].fill(0.0);
        let run = |level: Level, x: &[f32]| {
            let mut y = vec![f32::NAN; rows * outputs];
            f32::dense(&Dense::int8(inputs, outputs, &weights, &[], level), x, &mut y, false);
            y
        };
        let largest = |row: &[f32]| row.iter().fold(0.0, |most: f64, v| most.max(f64::from(v.abs())));
        let y = run(Level::Scalar, &x);
        for (row, o) in (0..rows).flat_map(|row| (0..outputs).map(move |o| (row, o))) {
            let (x, w) = (&x[row * inputs..][..inputs], &weights[o * inputs..][..inputs]);
            let steps = [largest(x) / 127.0, largest(w) / 127.0];
            let (mut exact, mut allowed) = (0.0, 0.0);
            for (x, w) in x.iter().zip(w) {
                let (x, w) = (f64::from(*x), f64::from(*w));
                exact += x * w;
                allowed += 0.5 * steps[0] * w.abs() + 0.5 * steps[1] * x.abs() + 0.25 * steps[0] * steps[1];
            }
            let error = (f64::from(y[row * outputs + o]) - exact).abs();
            // Scales and their product are rounded too.
            prop_assert!(error <= (1.0 + 1e-4) * allowed, "[{row}, {o}] errs by {error:e}, {allowed:e} is allowed");
        }
        let strange = rows - 1;
        for level in Level::available() {
            prop_assert_eq!(&run(level, &x), &y, "{}", level.name());
            for bad in [f32::NAN, f32::INFINITY] {
                let mut x = x.clone();
                x[strange * inputs] = bad;
                let found = run(level, &x);
                prop_assert_eq!(&found[..strange * outputs], &y[..strange * outputs]);
                prop_assert!(found[strange * outputs..].iter().all(|y| !y.is_finite()));
            }
        }
    }
}

#[test]
fn eight_bits_take_a_quarter_of_the_memory() {
    let (inputs, outputs) = (128, 384);
    let weights = vec![0.5_f32; inputs * outputs];
    let full = Dense::new(inputs, outputs, &weights, &[]).bytes();
    let reduced = Dense::int8(inputs, outputs, &weights, &[], Level::best()).bytes();
    assert_eq!(full, 2 * 4 * inputs * outputs);
    assert!(reduced < full * 27 / 100, "{reduced} of {full}");
    assert_eq!(Level::available()[0], Level::Scalar);
}
