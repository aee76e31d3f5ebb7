//! Adding up parts, and clearing what is added to.

use cubecl::prelude::*;

/// Adds up `n_parts` parts of `len` elements in `groups` groups of `of_group`, each in its order; the sums go behind the parts.
#[cube(launch_unchecked)]
pub fn add_groups<F: Float>(partials: &mut Array<F>, n_parts: u32, groups: u32, of_group: u32, len: u32) {
    let at = ABSOLUTE_POS;
    if at < (groups * len) as usize {
        let i = at % len as usize;
        let first = (at / len as usize) * of_group as usize;
        let end = min(first + of_group as usize, n_parts as usize);
        let mut sum = F::new(0.0);
        for part in first..end {
            sum += partials[part * len as usize + i];
        }
        partials[(n_parts * len) as usize + at] = sum;
    }
}

/// Adds up `n_parts` parts of `len` elements from part `first_part` on in their order: the first `split` elements into
/// `weights`, the rest into `bias`.
#[cube(launch_unchecked)]
pub fn add_parts<F: Float>(
    partials: &Array<F>,
    weights: &mut Array<F>,
    bias: &mut Array<F>,
    first_part: u32,
    n_parts: u32,
    split: u32,
    len: u32,
) {
    let i = ABSOLUTE_POS;
    if i < len as usize {
        let mut sum = F::new(0.0);
        for part in 0..n_parts as usize {
            sum += partials[(first_part as usize + part) * len as usize + i];
        }
        if i < split as usize {
            weights[i] = sum;
        } else {
            bias[i - split as usize] = sum;
        }
    }
}

/// Zeroes an output before sums are added to it.
#[cube(launch_unchecked)]
pub fn zero<F: Float>(out: &mut Array<F>) {
    let i = ABSOLUTE_POS;
    if i < out.len() {
        out[i] = F::new(0.0);
    }
}
