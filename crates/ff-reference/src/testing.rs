/// Numbers of mixed sign and size without a generator: what they are does not matter.
pub(crate) fn numbers(n: usize, seed: usize) -> Vec<f64> {
    (0..n).map(|i| ((i * 7 + seed * 13) as f64 * 0.73).sin()).collect()
}
