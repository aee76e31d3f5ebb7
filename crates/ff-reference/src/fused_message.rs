//! `fused_message` in f64: radial basis, filter, message and scatter, one edge at a time.
//!
//! Shapes and names are those of [`ff_spec::fused_message`]. Distances are in Å.

use ff_spec::fused_message::{Activation, Filter, InputError, Inputs, Outputs, Variant};

use crate::radial::{self, BoundRadial, RadialError, RadialFunction, RadialKind};
use crate::{Jet, Oracle};

mod call;
mod gradients;
mod number;

use call::Call;
pub use gradients::{backward, backward_over, double_backward, double_backward_over};
pub use number::{Dual, Number, Tracked};

/// Inputs that the oracle cannot compute on.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ReferenceError {
    /// Wrong tensors.
    #[error(transparent)]
    Input(#[from] InputError),
    /// Wrong radial functions.
    #[error(transparent)]
    Radial(#[from] RadialError),
    /// A linear or mlp filter without radial functions.
    #[error("the filter is expanded in a radial basis, but the variant names none")]
    NoRadial,
    /// A tabulated filter with radial functions.
    #[error("a tabulated filter has its radial functions in the table, but the variant names `{basis}` and `{cutoff}`")]
    SurplusRadial {
        /// Basis named.
        basis: String,
        /// Cutoff named.
        cutoff: String,
    },
    /// A formula or a sum left the range of f64.
    #[error("`{tensor}`[{index}] of the result is {found}, expected a finite value")]
    NotFinite {
        /// Output tensor.
        tensor: &'static str,
        /// Flat index.
        index: usize,
        /// The value.
        found: f64,
    },
}

/// Computes the op on checked inputs.
///
/// Edges with d ≥ r_c contribute exactly nothing; at d = 0 the direction u is zero. Source: SchNet (arXiv 1706.08566)
/// eq. 2 and PaiNN (arXiv 2102.03150) eqs. 7 and 8, in SchNetPack's split order (q, r, μ).
///
/// # Errors
/// [`ReferenceError`] for inputs that are not the variant's.
pub fn forward(variant: &Variant, inputs: &Inputs<f64>) -> Result<Oracle<Outputs<f64>>, ReferenceError> {
    let tracked = call::<Tracked>(variant, inputs)?.forward();
    let (outputs, magnitude) = (tracked.map(|x| x.value), tracked.map(|x| x.magnitude));
    check_finite(outputs.tensors())?;
    Ok(Oracle { outputs, magnitude })
}

/// The inputs, which must be the variant's, as numbers.
fn call<'a, N: Number>(variant: &Variant, inputs: &'a Inputs<f64>) -> Result<Call<'a, N>, ReferenceError> {
    inputs.check_variant(variant)?;
    let radial = variant.radial.as_ref().map(|(basis, cutoff)| (basis.as_str(), cutoff.as_str()));
    Ok(Call::new(inputs, bind(inputs, radial)?))
}

fn check_finite(tensors: Vec<(&'static str, &[f64])>) -> Result<(), ReferenceError> {
    for (tensor, values) in tensors {
        if let Some(index) = values.iter().position(|v| !v.is_finite()) {
            return Err(ReferenceError::NotFinite { tensor, index, found: values[index] });
        }
    }
    Ok(())
}

/// A basis and a cutoff with their parameters.
type RadialPair = (BoundRadial, BoundRadial);

/// Checks the inputs and compiles their radial functions, given as (basis, cutoff) for all but tabulated filters.
fn bind(inputs: &Inputs<f64>, radial: Option<(&str, &str)>) -> Result<Option<RadialPair>, ReferenceError> {
    inputs.check()?;
    match (&inputs.filter, radial) {
        (Filter::Tabulated { .. }, None) => Ok(None),
        (Filter::Tabulated { .. }, Some((basis, cutoff))) => {
            Err(ReferenceError::SurplusRadial { basis: basis.to_owned(), cutoff: cutoff.to_owned() })
        }
        (_, None) => Err(ReferenceError::NoRadial),
        (_, Some((basis, cutoff))) => {
            let r = &inputs.radial;
            let bind = |name, kind, parameters| {
                RadialFunction::new(radial::find(name, kind)?)?.bind(r.r_cut, r.n_basis, parameters)
            };
            Ok(Some((bind(basis, RadialKind::Basis, &r.basis)?, bind(cutoff, RadialKind::Cutoff, &r.cutoff)?)))
        }
    }
}

/// The filter W(d) ∈ R^C of some inputs, with its formulas compiled.
#[derive(Clone, Debug)]
pub struct FilterFunction<'a> {
    inputs: &'a Inputs<f64>,
    radial: Option<RadialPair>,
}

impl<'a> FilterFunction<'a> {
    /// Checks the inputs and compiles the radial functions, given as (basis, cutoff) for all but tabulated filters.
    ///
    /// # Errors
    /// [`ReferenceError`] for malformed inputs and radial functions that do not fit them.
    pub fn new(inputs: &'a Inputs<f64>, radial: Option<(&str, &str)>) -> Result<Self, ReferenceError> {
        Ok(Self { inputs, radial: bind(inputs, radial)? })
    }

    /// W, dW/dd and d²W/dd² of each of the C channels at a distance in Å: zero beyond r_c, and at r_c itself the limit
    /// from below, which is what a table's last node holds (the curvature of a cutoff function may jump there).
    pub fn jet(&self, d: f64) -> Vec<[f64; 3]> {
        let channels = self.inputs.channels();
        if d > self.inputs.radial.r_cut {
            return vec![[0.0; 3]; channels];
        }
        let (basis, cutoff) = match (&self.inputs.filter, &self.radial) {
            (Filter::Tabulated { order, n_nodes, values }, _) => {
                let (start, weights) = hermite(d, self.inputs.radial.r_cut, *order, *n_nodes);
                return (0..channels)
                    .map(|c| {
                        let mut sum = [0.0; 3];
                        for (n, weight) in weights.iter().enumerate() {
                            let sample = values[(start + n) * channels + c];
                            let [w, w1, w2, _] = weight.derivatives();
                            add_scaled(&mut sum, [w, w1, w2], sample);
                        }
                        sum
                    })
                    .collect();
            }
            (_, Some((basis, cutoff))) => (basis, cutoff),
            (_, None) => unreachable!("`new` gives every other filter its radial functions"),
        };
        let phi: Vec<[f64; 3]> = (1..=self.inputs.radial.n_basis).map(|k| head(basis.jet(d, k))).collect();
        let raw = match &self.inputs.filter {
            Filter::Linear { a, b } => affine(&phi, a, b),
            Filter::Mlp { a1, b1, a2, b2, activation, .. } => {
                let hidden: Vec<[f64; 3]> = affine(&phi, a1, b1)
                    .into_iter()
                    .map(|[z, z1, z2]| {
                        let [s, s1, s2, _] = activate(*activation, z);
                        [s, s1 * z1, s2 * z1 * z1 + s1 * z2]
                    })
                    .collect();
                affine(&hidden, a2, b2)
            }
            Filter::Tabulated { .. } => unreachable!("returned above"),
        };
        let [f, f1, f2] = head(cutoff.jet(d, 1));
        raw.into_iter().map(|[g, g1, g2]| [f * g, f1 * g + f * g1, f2 * g + 2.0 * f1 * g1 + f * g2]).collect()
    }
}

fn head([a, b, c, _]: [f64; 4]) -> [f64; 3] {
    [a, b, c]
}

fn add_scaled(sum: &mut [f64; 3], x: [f64; 3], scale: f64) {
    for (s, x) in sum.iter_mut().zip(x) {
        *s += scale * x;
    }
}

/// x A + b for values with two derivatives; A is [x.len(), b.len()].
fn affine(x: &[[f64; 3]], a: &[f64], b: &[f64]) -> Vec<[f64; 3]> {
    let mut out: Vec<[f64; 3]> = b.iter().map(|b| [*b, 0.0, 0.0]).collect();
    for (x, row) in x.iter().zip(a.chunks_exact(b.len().max(1))) {
        for (out, a) in out.iter_mut().zip(row) {
            add_scaled(out, *x, *a);
        }
    }
    out
}

/// σ, σ′, σ″, σ‴.
fn activate(activation: Activation, x: f64) -> [f64; 4] {
    match activation {
        Activation::ShiftedSoftplus => {
            // Through expm1 there is no cancellation near 0; past 30, where it would soon overflow, e⁻ˣ is below 1e-13
            // and adds in full.
            let value =
                if x < 30.0 { (0.5 * x.exp_m1()).ln_1p() } else { x - std::f64::consts::LN_2 + (-x).exp().ln_1p() };
            let slope = 1.0 / (1.0 + (-x).exp());
            let curvature = slope * (1.0 - slope);
            [value, slope, curvature, curvature * (1.0 - 2.0 * slope)]
        }
        Activation::Tanh => {
            let t = x.tanh();
            let slope = 1.0 - t * t;
            [t, slope, -2.0 * t * slope, (6.0 * t * t - 2.0) * slope]
        }
        Activation::Silu => {
            // x s of the logistic s, whose derivatives are s(1 − s) and so on.
            let s = 1.0 / (1.0 + (-x).exp());
            let s1 = s * (1.0 - s);
            let (s2, s3) = (s1 * (1.0 - 2.0 * s), s1 * (1.0 - 6.0 * s1));
            [x * s, s + x * s1, 2.0 * s1 + x * s2, 3.0 * s2 + x * s3]
        }
    }
}

/// Hermite interpolation on a uniform grid over [0, r_c]: the row of the table, counted in samples per channel, at which
/// the segment of d starts, and the weights of its 2·order samples.
///
/// t is the place in the segment and h its width; slopes are weighted by h and curvatures by h². The cubic (order 2)
/// and quintic (order 3) polynomials are in factored form, which is accurate at both ends. The two that values are weighted by sum to
/// 1, and the one that is small is computed: the slopes of both go to 0 at both ends, where those of the other are differences
/// of numbers of about 1/h.
fn hermite(d: f64, r_c: f64, order: usize, n_nodes: usize) -> (usize, Vec<Jet>) {
    let h = r_c / (n_nodes - 1) as f64;
    let segment = ((d / h).floor() as usize).min(n_nodes - 2);
    let c = Jet::constant;
    let t = Jet::variable(d) / c(h) - c(segment as f64);
    let s = c(1.0) - t;
    let smaller = |x: Jet| match order {
        2 => x * x * (c(3.0) - c(2.0) * x),
        _ => x * x * x * (c(10.0) - c(15.0) * x + c(6.0) * x * x),
    };
    let (before, after) = if d / h - (segment as f64) < 0.5 {
        let after = smaller(t);
        (c(1.0) - after, after)
    } else {
        let before = smaller(s);
        (before, c(1.0) - before)
    };
    let h = c(h);
    let weights = if order == 2 {
        vec![before, h * t * s * s, after, -h * t * t * s]
    } else {
        let (t3, s3) = (t * t * t, s * s * s);
        vec![
            before,
            h * t * s3 * (c(1.0) + c(3.0) * t),
            c(0.5) * h * h * t * t * s3,
            after,
            -h * t3 * s * (c(1.0) + c(3.0) * s),
            c(0.5) * h * h * t3 * s * s,
        ]
    };
    (segment * order, weights)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ff_spec::fused_message::{FilterKind, Message, Radial, Reduction};

    use super::*;
    use crate::radial::default_parameters;
    use crate::testing::numbers;

    const R_C: f64 = 4.0;

    fn radial(n_basis: usize) -> Radial<f64> {
        Radial {
            r_cut: R_C,
            n_basis,
            basis: default_parameters("gaussian", RadialKind::Basis, R_C, n_basis).unwrap(),
            cutoff: BTreeMap::new(),
        }
    }

    fn linear(message: Message, features: usize, edges: &[(u32, [f64; 3])]) -> Inputs<f64> {
        let (n_atoms, n_basis, c) = (2, 3, message.parts() * features);
        Inputs {
            message,
            n_atoms,
            features,
            row_ptr: vec![0, edges.len() as u32, edges.len() as u32],
            sender: edges.iter().map(|e| e.0).collect(),
            edge_vec: edges.iter().flat_map(|e| e.1).collect(),
            nodes: numbers(n_atoms * c, 1),
            vectors: if message == Message::Painn { numbers(n_atoms * 3 * features, 2) } else { Vec::new() },
            radial: radial(n_basis),
            filter: Filter::Linear { a: numbers(n_basis * c, 3), b: numbers(c, 4) },
        }
    }

    fn variant(message: Message, filter: FilterKind) -> Variant {
        let radial = (filter != FilterKind::Tabulated).then(|| ("gaussian".to_owned(), "cosine".to_owned()));
        Variant { message, filter, radial, reduction: Reduction::Receiver }
    }

    fn with_mlp(mut inputs: Inputs<f64>, activation: Activation) -> Inputs<f64> {
        let (hidden, k, c) = (5, inputs.radial.n_basis, inputs.channels());
        inputs.filter = Filter::Mlp {
            hidden,
            a1: numbers(k * hidden, 5),
            b1: numbers(hidden, 6),
            a2: numbers(hidden * c, 7),
            b2: numbers(c, 8),
            activation,
        };
        inputs
    }

    #[test]
    fn painn_by_hand() {
        let inputs = linear(Message::Painn, 2, &[(1, [0.0, 1.5, 2.0]), (0, [0.0; 3]), (1, [0.0, 0.0, R_C])]);
        let Oracle { outputs, magnitude } = forward(&variant(Message::Painn, FilterKind::Linear), &inputs).unwrap();
        // The edges at d = 2.5 and at d = 0; the one at r_c is no edge.
        let Filter::Linear { a, b } = &inputs.filter else { panic!("built above") };
        let w = |d: f64, c: usize| {
            let sum: f64 = (0..3).map(|k| (-0.5 * (d / 2.0 - k as f64).powi(2)).exp() * a[k * 6 + c]).sum();
            0.5 * ((std::f64::consts::PI * d / R_C).cos() + 1.0) * (sum + b[c])
        };
        let s = |j: usize, c: usize| inputs.nodes[j * 6 + c];
        let mu = |j: usize, axis: usize, c: usize| inputs.vectors[(j * 3 + axis) * 2 + c];
        for c in 0..2 {
            let q = s(1, c) * w(2.5, c) + s(0, c) * w(0.0, c);
            assert!((outputs.nodes[c] - q).abs() < 1e-14);
            for (axis, u) in [0.0, 0.6, 0.8].into_iter().enumerate() {
                let v = s(1, 2 + c) * w(2.5, 2 + c) * u
                    + s(1, 4 + c) * w(2.5, 4 + c) * mu(1, axis, c)
                    + s(0, 4 + c) * w(0.0, 4 + c) * mu(0, axis, c);
                let found = outputs.vectors[axis * 2 + c];
                assert!((found - v).abs() < 1e-14, "axis {axis} channel {c}: {found}, expected {v}");
                assert!(magnitude.vectors[axis * 2 + c] >= found.abs());
            }
        }
        assert!(
            outputs.nodes[2..].iter().chain(&outputs.vectors[6..]).all(|v| *v == 0.0),
            "the second row has no edge"
        );
    }

    #[test]
    fn edges_from_the_cutoff_on_are_no_edges() {
        let message = Message::Cfconv;
        let inside = [(1, [0.3, 0.4, 1.2])];
        let beyond = [inside[0], (0, [0.0, R_C, 0.0]), (1, [0.0, 0.0, 1.1 * R_C])];
        let run = |edges: &[_]| forward(&variant(message, FilterKind::Linear), &linear(message, 3, edges)).unwrap();
        assert_eq!(run(&inside), run(&beyond));
    }

    #[test]
    fn magnitudes_bound_values() {
        for (message, activation) in [
            (Message::Cfconv, Activation::Tanh),
            (Message::Painn, Activation::ShiftedSoftplus),
            (Message::Cfconv, Activation::Silu),
        ] {
            let inputs = with_mlp(linear(message, 3, &[(1, [1.0, 0.5, 0.2]), (0, [0.0, 3.0, 1.0])]), activation);
            let Oracle { outputs, magnitude } = forward(&variant(message, FilterKind::Mlp), &inputs).unwrap();
            for (value, bound) in
                outputs.nodes.iter().zip(&magnitude.nodes).chain(outputs.vectors.iter().zip(&magnitude.vectors))
            {
                assert!(value.abs() <= bound * (1.0 + 1e-12), "{value} above {bound}");
            }
        }
    }

    #[test]
    fn filter_derivatives_match_differences() {
        let base = linear(Message::Painn, 2, &[]);
        let table = sample(&with_mlp(base.clone(), Activation::Tanh), 3, 9);
        let filters = [
            base.clone(),
            with_mlp(base.clone(), Activation::Tanh),
            with_mlp(base.clone(), Activation::ShiftedSoftplus),
            with_mlp(base.clone(), Activation::Silu),
            table,
        ];
        for inputs in &filters {
            let radial = (inputs.filter.kind() != FilterKind::Tabulated).then_some(("gaussian", "cosine"));
            let filter = FilterFunction::new(inputs, radial).unwrap();
            for d in [0.1, 1.3, 2.2, 3.7] {
                let h = 1e-5;
                let (at, up, down) = (filter.jet(d), filter.jet(d + h), filter.jet(d - h));
                for c in 0..inputs.channels() {
                    for n in 0..2 {
                        let difference = (up[c][n] - down[c][n]) / (2.0 * h);
                        assert!((difference - at[c][n + 1]).abs() < 1e-7, "{:?} d={d} {n}", inputs.filter.kind());
                    }
                }
            }
            assert!(filter.jet(R_C).iter().all(|w| w[0].abs() < 1e-15 && w[1].abs() < 1e-15));
            assert!(filter.jet(1.01 * R_C).iter().flatten().all(|w| *w == 0.0));
        }
    }

    /// The same inputs with the filter sampled into a table.
    fn sample(inputs: &Inputs<f64>, order: usize, n_nodes: usize) -> Inputs<f64> {
        let filter = FilterFunction::new(inputs, Some(("gaussian", "cosine"))).unwrap();
        let mut values = Vec::new();
        for n in 0..n_nodes {
            let jets = filter.jet(R_C * n as f64 / (n_nodes - 1) as f64);
            for m in 0..order {
                values.extend(jets.iter().map(|w| w[m]));
            }
        }
        Inputs { filter: Filter::Tabulated { order, n_nodes, values }, ..inputs.clone() }
    }

    /// What is divided by a small d must be right to its own last bits, not to those of 1/h.
    #[test]
    fn slopes_of_a_table_are_accurate_at_both_ends_of_a_segment() {
        let (r_c, n_nodes) = (1.0, 17);
        let per_h = 16.0;
        for (order, slope) in
            [(2, (|t: f64, s: f64| 6.0 * t * s) as fn(f64, f64) -> f64), (3, |t, s| 30.0 * (t * s).powi(2))]
        {
            for t in [1e-6, 0.25, 0.75, 1.0 - 1.0 / 1048576.0] {
                let (_, weights) = hermite(t / per_h, r_c, order, n_nodes);
                let [before, after] = [0, order].map(|n| weights[n].derivatives()[1]);
                let expected = slope(t, 1.0 - t) * per_h;
                assert!((after / expected - 1.0).abs() < 1e-14, "order {order}, t = {t}: {after} is not {expected}");
                assert_eq!(before, -after, "order {order}, t = {t}");
            }
        }
    }

    #[test]
    fn tables_converge_at_the_order_of_their_segments() {
        let base = linear(Message::Cfconv, 3, &[]);
        let exact = FilterFunction::new(&base, Some(("gaussian", "cosine"))).unwrap();
        for (order, rate) in [(2, 4), (3, 6)] {
            let error = |n_nodes| {
                let table = sample(&base, order, n_nodes);
                let table = FilterFunction::new(&table, None).unwrap();
                (0..300).map(|i| f64::from(i) / 300.0 * R_C).fold(0.0, |worst: f64, d| {
                    let (t, e) = (table.jet(d), exact.jet(d));
                    t.iter().zip(&e).fold(worst, |w, (t, e)| w.max((t[0] - e[0]).abs()))
                })
            };
            let (coarse, fine) = (error(11), error(21));
            let gain = (coarse / fine).log2();
            assert!((gain - f64::from(rate)).abs() < 0.5, "order {order}: 2^{gain} from {coarse} to {fine}");
        }
    }

    #[test]
    fn shifted_softplus_is_stable() {
        let at = |x| activate(Activation::ShiftedSoftplus, x);
        assert_eq!(at(0.0), [0.0, 0.5, 0.25, 0.0]);
        assert!((at(1e-12)[0] / 5e-13 - 1.0).abs() < 1e-12);
        assert!((at(800.0)[0] - (800.0 - std::f64::consts::LN_2)).abs() < 1e-12);
        assert!((at(-800.0)[0] + std::f64::consts::LN_2).abs() < 1e-15);
        assert!((at(30.0 - 1e-9)[0] - at(30.0)[0]).abs() < 2e-9);
    }

    #[test]
    fn wrong_inputs_are_named() {
        let inputs = linear(Message::Cfconv, 2, &[]);
        let mismatch = forward(&variant(Message::Painn, FilterKind::Linear), &inputs).unwrap_err();
        assert!(matches!(mismatch, ReferenceError::Input(InputError::Variant { .. })));
        let mut unknown = variant(Message::Cfconv, FilterKind::Linear);
        unknown.radial = Some(("gaussian".into(), "cosin".into()));
        assert!(forward(&unknown, &inputs).unwrap_err().to_string().contains("nearest known is `cosine`"));
        unknown.radial = None;
        assert_eq!(forward(&unknown, &inputs), Err(ReferenceError::NoRadial));
    }
}
