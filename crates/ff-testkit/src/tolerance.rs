//! The one place that says how close is close enough.

use ff_spec::{Dtype, Storage};

/// Which derivative is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Order {
    /// The op itself.
    Forward,
    /// Its vector-Jacobian product.
    First,
    /// The vector-Jacobian product of that.
    Second,
}

impl Order {
    /// 0, 1 or 2, as on the command line and in results.
    pub fn number(self) -> u8 {
        self as u8
    }
}

/// ‖out − ref‖/‖ref‖ that is allowed; also rtol and atol of the elementwise rule.
///
/// About 10⁴ units in the last place of f64 and 10² of f32, and a digit more per derivative taken: what correct kernels
/// with different orders of summation reach on rows of thousands of edges.
pub fn tolerance(dtype: Dtype, order: Order) -> f64 {
    match (dtype, order) {
        (Dtype::F64, Order::Forward) => 1e-12,
        (Dtype::F64, Order::First) => 1e-11,
        (Dtype::F64, Order::Second) => 1e-10,
        (Dtype::F32, Order::Forward | Order::First) => 1e-5,
        (Dtype::F32, Order::Second) => 1e-4,
    }
}

/// The same of a computation in f32 whose tensors are stored in a narrower type, against one that stores them in f32; nobody
/// differentiates such a one twice.
///
/// A few roundings of the storage type, and twice as many for a derivative.
pub fn storage_tolerance(storage: Storage, order: Order) -> Option<f64> {
    match (storage, order) {
        (Storage::F16, Order::Forward) => Some(2e-3),
        (Storage::F16, Order::First) => Some(5e-3),
        (Storage::Bf16, Order::Forward) => Some(1e-2),
        (Storage::Bf16, Order::First) => Some(2e-2),
        (_, Order::Second) => None,
    }
}

/// How one tensor compares with its reference.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// Whether it is close enough, by both rules.
    pub passed: bool,
    /// ‖out − ref‖/‖ref‖; 0 for 0/0, infinite or NaN where the output is.
    pub rel_error: f64,
    /// max |out − ref|.
    pub max_abs_error: f64,
    /// The element that is furthest off in units of what it is allowed; `None` for empty or equal tensors.
    pub worst_index: Option<usize>,
    /// Why it did not pass.
    pub reason: Option<String>,
}

/// Compares a tensor with its reference: ‖out − ref‖ ≤ tol·‖ref‖ and, for each element,
/// |out − ref| ≤ tol·|ref| + tol·magnitude, where `magnitude` is the sum of the |terms| that were summed.
///
/// Anything but finite numbers fails, and so does a tensor of another length.
pub fn compare(dtype: Dtype, order: Order, out: &[f64], reference: &[f64], magnitude: &[f64]) -> Comparison {
    compare_rounded(dtype, order, out, reference, magnitude, 0.0)
}

/// As [`compare`], where rounding errors that no implementation can avoid add up to a norm of at most `rounding`:
/// ‖out − ref‖ ≤ tol·‖ref‖ + rounding. The elementwise rule is the same.
pub fn compare_rounded(
    dtype: Dtype,
    order: Order,
    out: &[f64],
    reference: &[f64],
    magnitude: &[f64],
    rounding: f64,
) -> Comparison {
    let tol = tolerance(dtype, order);
    let failed = |rel_error, max_abs_error, worst_index, reason| Comparison {
        passed: false,
        rel_error,
        max_abs_error,
        worst_index,
        reason: Some(reason),
    };
    if out.len() != reference.len() || magnitude.len() != reference.len() {
        let reason = format!("{} elements, expected {}", out.len(), reference.len());
        return failed(f64::INFINITY, f64::INFINITY, None, reason);
    }
    if let Some(index) = out.iter().position(|x| !x.is_finite()) {
        let count = out.iter().filter(|x| !x.is_finite()).count();
        let reason = format!(
            "{count} of {} elements are not finite; [{index}] is {}, expected {:e}",
            out.len(),
            out[index],
            reference[index]
        );
        return failed(f64::NAN, f64::NAN, Some(index), reason);
    }
    let error_norm = norm(out.iter().zip(reference).map(|(o, r)| o - r));
    let reference_norm = norm(reference.iter().copied());
    let rel_error = if error_norm == 0.0 { 0.0 } else { error_norm / reference_norm };
    let mut max_abs_error: f64 = 0.0;
    let (mut worst_index, mut worst) = (None, 0.0);
    for (index, ((o, r), m)) in out.iter().zip(reference).zip(magnitude).enumerate() {
        let error = (o - r).abs();
        max_abs_error = max_abs_error.max(error);
        if error > 0.0 {
            let excess = error / (tol * r.abs() + tol * m);
            if excess > worst {
                (worst_index, worst) = (Some(index), excess);
            }
        }
    }
    if let Some(index) = worst_index
        && worst > 1.0
    {
        let (o, r, m) = (out[index], reference[index], magnitude[index]);
        let reason = format!(
            "[{index}] is {o:e}, expected {r:e}: {worst:.2e} times what is allowed ({tol:e} of the value and of its \
             summed magnitude {m:e})"
        );
        return failed(rel_error, max_abs_error, worst_index, reason);
    }
    if error_norm > tol * reference_norm + rounding {
        let allowed = tol + if rounding == 0.0 { 0.0 } else { rounding / reference_norm };
        let reason = format!("relative error {rel_error:.3e} in the norm, expected at most {allowed:e}");
        return failed(rel_error, max_abs_error, worst_index, reason);
    }
    Comparison { passed: true, rel_error, max_abs_error, worst_index, reason: None }
}

/// Whether a tensor is less than a hundredth of the terms it sums, in the norm: the error of such a one tells how the terms
/// were rounded and little else.
pub fn cancels(outputs: &[f64], magnitude: &[f64]) -> bool {
    norm(outputs.iter().copied()) < 1e-2 * norm(magnitude.iter().copied())
}

/// The square root of the sum of squares.
pub fn norm(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|x| x * x).sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn close_passes_and_far_fails() {
        let reference = [1.0, -2.0, 0.5];
        let magnitude = [1.0, 2.0, 0.5];
        for dtype in Dtype::ALL {
            for order in [Order::Forward, Order::First, Order::Second] {
                let tol = tolerance(dtype, order);
                let off = |by: f64| reference.map(|r| r * (1.0 + by * tol));
                assert!(compare(dtype, order, &reference, &reference, &magnitude).passed);
                assert!(compare(dtype, order, &off(0.5), &reference, &magnitude).passed);
                assert!(!compare(dtype, order, &off(4.0), &reference, &magnitude).passed);
            }
        }
    }

    #[test]
    fn storage_may_err_by_roundings_and_by_more_than_arithmetic() {
        for storage in Storage::ALL {
            let [forward, first] =
                [Order::Forward, Order::First].map(|order| storage_tolerance(storage, order).unwrap());
            assert!((2.0..=5.0).contains(&(forward / storage.epsilon())), "{storage:?}: {forward}");
            assert!(first > forward && forward > tolerance(Dtype::F32, Order::Forward));
            assert_eq!(storage_tolerance(storage, Order::Second), None);
        }
    }

    #[test]
    fn cancellation_is_judged_by_what_was_summed() {
        // 1 + 1e-9 − 1 in f32 may come out as 0; nothing was summed that would excuse the same error in the third.
        let (reference, magnitude) = ([1e-9, 1.0], [2.0, 1.0]);
        assert!(compare(Dtype::F32, Order::Forward, &[0.0, 1.0], &reference, &magnitude).passed);
        let exact = compare(Dtype::F32, Order::Forward, &[0.0, 1.0], &reference, &[1e-9, 1.0]);
        assert!(!exact.passed);
        assert_eq!(exact.worst_index, Some(0));
    }

    #[test]
    fn the_norm_rule_holds_where_no_element_is_far() {
        // Every element within its summed magnitude, but nothing right at all.
        let far = compare(Dtype::F32, Order::Forward, &[1e-6; 4], &[-1e-6; 4], &[1.0; 4]);
        assert!(!far.passed && far.rel_error == 2.0);
        assert!(far.reason.unwrap().contains("norm"));
    }

    #[test]
    fn rounding_excuses_no_more_than_it_explains() {
        let reference = [1e-6; 4];
        let judge = |by: f64| compare_rounded(Dtype::F32, Order::Forward, &[1e-6 + by; 4], &reference, &[1.0; 4], 1e-7);
        assert!(judge(4e-8).passed, "a norm of 8e-8 is rounding");
        let found = judge(6e-8);
        assert!(!found.passed && found.reason.unwrap().contains("norm"), "a norm of 1.2e-7 is more");
    }

    #[test]
    fn what_cancels_is_small_beside_its_terms() {
        assert!(cancels(&[1e-3], &[1.0]) && cancels(&[1e-3, -1e-3], &[1.0, 1.0]));
        assert!(!cancels(&[-0.5], &[1.0]) && !cancels(&[1e-3, 0.5], &[1.0, 1.0]));
        assert!(!cancels(&[], &[]) && !cancels(&[0.0], &[0.0]), "nothing was summed");
    }

    #[test]
    fn what_is_not_a_number_fails() {
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let found = compare(Dtype::F64, Order::Forward, &[0.0, bad], &[0.0, 1.0], &[0.0, f64::INFINITY]);
            assert!(!found.passed);
            assert_eq!(found.worst_index, Some(1));
        }
        assert!(!compare(Dtype::F64, Order::Forward, &[0.0], &[0.0, 1.0], &[0.0, 1.0]).passed);
    }

    #[test]
    fn nothing_expected_allows_nothing() {
        assert!(compare(Dtype::F32, Order::Forward, &[0.0], &[0.0], &[0.0]).passed);
        assert!(compare(Dtype::F32, Order::Forward, &[], &[], &[]).passed);
        assert!(!compare(Dtype::F32, Order::Forward, &[1e-30], &[0.0], &[0.0]).passed);
    }
}
