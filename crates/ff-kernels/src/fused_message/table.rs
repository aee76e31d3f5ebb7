//! Sampling a filter into Hermite segments.

use ff_spec::LaunchError;
use ff_spec::fused_message::{Activation, Filter, Inputs, Variant};

use super::RadialPair;

/// A filter as a table, with the error it makes.
#[derive(Clone, Debug)]
pub struct Tabulation {
    /// [`Filter::Tabulated`].
    pub filter: Filter<f64>,
    /// max |W_table − W| / max |W| over points that are not nodes, all channels.
    pub rel_error: f64,
}

/// The most segments a table may take.
const MAX_SEGMENTS: usize = 1 << 16;

/// Samples the `linear` or `mlp` filter of `inputs`, whose radial functions `variant` names, into the fewest segments
/// (a power of two) that keep the relative error below `tolerance`.
///
/// `order` is 2 for cubic segments (values and slopes), 3 for quintic ones (and curvatures).
///
/// # Errors
/// [`LaunchError::UnknownVariant`] where the radial functions were not rendered, [`LaunchError::Input`] for wrong
/// tensors, [`LaunchError::Constraint`] for an order that does not exist or a tolerance out of reach.
pub fn tabulate(
    variant: &Variant,
    inputs: &Inputs<f64>,
    order: usize,
    tolerance: f64,
) -> Result<Tabulation, LaunchError> {
    let registered = super::find(variant).ok_or_else(|| LaunchError::UnknownVariant(variant.id()))?;
    registered.check(inputs)?;
    let Some(pair) = &registered.pair() else {
        return Err(LaunchError::Constraint(format!("`{variant}` is tabulated already")));
    };
    if !(2..=3).contains(&order) {
        return Err(LaunchError::Constraint(format!("table order {order}, expected 2 (cubic) or 3 (quintic)")));
    }
    let (r_c, channels) = (inputs.radial.r_cut, inputs.channels());
    let exact = |d: f64| filter_jet(pair, inputs, d);
    let mut segments = 8;
    loop {
        let h = r_c / segments as f64;
        let mut values = Vec::with_capacity((segments + 1) * order * channels);
        for node in 0..=segments {
            // f_c and f_c′ vanish at r_c: the last node is exactly zero, not rounding noise.
            let jets = exact(if node == segments { r_c } else { node as f64 * h });
            for derivative in 0..order {
                values.extend(
                    jets.iter().map(|jet| if node == segments && derivative < 2 { 0.0 } else { jet[derivative] }),
                );
            }
        }
        // A third and a half of the way: the error of odd and of even terms.
        let (mut error, mut size) = (0.0_f64, f64::MIN_POSITIVE);
        for segment in 0..segments {
            for t in [1.0 / 3.0, 0.5] {
                let jets = exact((segment as f64 + t) * h);
                for (c, jet) in jets.iter().enumerate() {
                    let node = |n: usize, m: usize| values[((segment + n) * order + m) * channels + c];
                    error = error.max((hermite(order, t, h, node) - jet[0]).abs());
                    size = size.max(jet[0].abs());
                }
            }
        }
        let rel_error = error / size;
        if rel_error <= tolerance {
            return Ok(Tabulation { filter: Filter::Tabulated { order, n_nodes: segments + 1, values }, rel_error });
        }
        if segments == MAX_SEGMENTS {
            return Err(LaunchError::Constraint(format!(
                "a table of {segments} segments still errs by {rel_error:.1e}, asked for {tolerance:.1e}; use order 3 or f64"
            )));
        }
        segments *= 2;
    }
}

/// The Hermite interpolant at t in [0, 1] of a segment of length h; `node(n, m)` is derivative m at end n.
fn hermite(order: usize, t: f64, h: f64, node: impl Fn(usize, usize) -> f64) -> f64 {
    let s = 1.0 - t;
    if order == 2 {
        s * s * ((1.0 + 2.0 * t) * node(0, 0) + h * t * node(0, 1))
            + t * t * ((1.0 + 2.0 * s) * node(1, 0) - h * s * node(1, 1))
    } else {
        let side = |t: f64, s: f64, h: f64, n: usize| {
            s.powi(3)
                * ((1.0 + 3.0 * t + 6.0 * t * t) * node(n, 0)
                    + h * t * (1.0 + 3.0 * t) * node(n, 1)
                    + 0.5 * h * h * t * t * node(n, 2))
        };
        side(t, s, h, 0) + side(s, t, -h, 1)
    }
}

/// W(d) of every channel with its first two derivatives.
fn filter_jet(pair: &RadialPair, inputs: &Inputs<f64>, d: f64) -> Vec<[f64; 3]> {
    let radial = &inputs.radial;
    let parameters = |declared: super::Parameters, given: &std::collections::BTreeMap<String, Vec<f64>>, k: usize| {
        declared.iter().map(|(name, per)| given[*name][if *per { k } else { 0 }]).collect::<Vec<f64>>()
    };
    let phi: Vec<[f64; 3]> = (0..radial.n_basis)
        .map(|k| {
            let p = parameters(pair.basis_parameters, &radial.basis, k);
            (pair.basis_jet)(d, radial.r_cut, k as f64 + 1.0, &p)
        })
        .collect();
    let f_c = (pair.cutoff_jet)(d, radial.r_cut, &parameters(pair.cutoff_parameters, &radial.cutoff, 0));
    let linear = |input: &[[f64; 3]], weights: &[f64], bias: &[f64]| -> Vec<[f64; 3]> {
        let mut out: Vec<[f64; 3]> = bias.iter().map(|b| [*b, 0.0, 0.0]).collect();
        for (jet, row) in input.iter().zip(weights.chunks_exact(bias.len().max(1))) {
            for (out, w) in out.iter_mut().zip(row) {
                for (out, x) in out.iter_mut().zip(jet) {
                    *out += x * w;
                }
            }
        }
        out
    };
    let mut w = match &inputs.filter {
        Filter::Linear { a, b } => linear(&phi, a, b),
        Filter::Mlp { a1, b1, a2, b2, activation, .. } => {
            let mut hidden = linear(&phi, a1, b1);
            for z in &mut hidden {
                let [s, s1, s2] = activation_jet(*activation, z[0]);
                *z = [s, s1 * z[1], s2 * z[1] * z[1] + s1 * z[2]];
            }
            linear(&hidden, a2, b2)
        }
        Filter::Tabulated { .. } => unreachable!("checked against the variant"),
    };
    for w in &mut w {
        let [g, g1, g2] = *w;
        let [f, f1, f2] = f_c;
        *w = [f * g, f1 * g + f * g1, f2 * g + 2.0 * f1 * g1 + f * g2];
    }
    w
}

/// σ and its first two derivatives.
fn activation_jet(activation: Activation, x: f64) -> [f64; 3] {
    match activation {
        Activation::ShiftedSoftplus => {
            let s = 1.0 / (1.0 + (-x).exp());
            [x.max(0.0) + (-x.abs()).exp().ln_1p() - std::f64::consts::LN_2, s, s * (1.0 - s)]
        }
        Activation::Tanh => {
            let t = x.tanh();
            [t, 1.0 - t * t, -2.0 * t * (1.0 - t * t)]
        }
        Activation::Silu => {
            let s = 1.0 / (1.0 + (-x).exp());
            let slope = s * (1.0 - s);
            [x * s, s + x * slope, slope * (2.0 + x * (1.0 - 2.0 * s))]
        }
    }
}
