//! What a call computes and moves, in each order.

use super::{FilterKind, Message, Variant};
use crate::{Cost, Dtype, ELEMENTARY, GEOMETRY, Problem};

/// FLOPs of one Hermite weight of a tabulated filter.
pub const HERMITE_WEIGHT: u64 = 5;

/// Nodes of the table that a tabulated filter is counted with: 256 segments, which keep cubic tables of the usual filters
/// below a relative error of 1e-6. A [`Problem`] does not say how long its table is.
pub const TABLE_NODES: u64 = 257;

/// Counts one forward call.
///
/// ```
/// use ff_spec::fused_message::cost;
/// use ff_spec::{Dtype, Problem};
/// let problem = Problem { n_atoms: 2, n_edges: 2, max_degree: 1, features: 1, n_basis: 1, ..Problem::default() };
/// let variant = "cfconv_linear_gaussian_cosine_receiver".parse()?;
/// assert_eq!(cost(&variant, &problem, Dtype::F32).message_flops, 2 * 2);
/// # Ok::<(), ff_spec::fused_message::MalformedVariant>(())
/// ```
pub fn cost(variant: &Variant, problem: &Problem, dtype: Dtype) -> Cost {
    let sizes = Sizes::new(variant, problem);
    let Sizes { e, f, k, h, c, .. } = sizes;
    // A sum that starts at its bias is made of FMAs alone; f_c is one more product per channel.
    let filter = match variant.filter {
        FilterKind::Linear => ELEMENTARY * (k + 1) + 2 * k * c + c,
        FilterKind::Mlp => ELEMENTARY * (k + 1) + 2 * k * h + ELEMENTARY * h + 2 * h * c + c,
        // K is 2·order weights here, and the table holds f_c.
        FilterKind::Tabulated => HERMITE_WEIGHT * k + 2 * k * c,
    };
    let message = match variant.message {
        Message::Cfconv => 2 * f,
        // w_q: one FMA. w_r and w_μ: two products. Each component of Δμ: two FMAs.
        Message::Painn => 16 * f,
    };
    sizes.cost([e * (GEOMETRY + filter), e * message, 0], 0, dtype)
}

/// Counts one call of the first backward, in features, edge vectors and weights.
///
/// What one pass over the edges needs: per edge, with C channels, F features, K basis functions and H hidden units,
///
/// | part | FLOPs |
/// | --- | --- |
/// | W and its slope | values and slopes of the radial functions and activations, each linear map twice, 4C for f_c |
/// | `cfconv` | 3F + 2C for the features, dW and dd, 3 for the edge vector |
/// | `painn` | 33F + 2C for μ·ḡ and u·ḡ, μ, s, dW, du and dd, 20 for the edge vector |
/// | weights, `linear` | 2KC + 2C |
/// | weights, `mlp` | 4HC + 2KH + 2C + 2H |
///
/// Kernels that walk the edges once for each kind of gradient compute W as often.
pub fn backward_cost(variant: &Variant, problem: &Problem, dtype: Dtype) -> Cost {
    let sizes = Sizes::new(variant, problem);
    let Sizes { e, f, k, h, c, .. } = sizes;
    let (filter, weights) = match variant.filter {
        FilterKind::Linear => (2 * ELEMENTARY * (k + 1) + 4 * k * c + 4 * c, 2 * k * c + 2 * c),
        // The slope of a hidden unit is one more product.
        FilterKind::Mlp => (
            2 * ELEMENTARY * (k + 1) + 4 * k * h + (2 * ELEMENTARY + 1) * h + 4 * h * c + 4 * c,
            4 * h * c + 2 * k * h + 2 * c + 2 * h,
        ),
        FilterKind::Tabulated => (2 * HERMITE_WEIGHT * k + 4 * k * c, 0),
    };
    let message = match variant.message {
        // x̄ by an FMA, dW by a product; r̄ = dd·u.
        Message::Cfconv => 3 * f + 2 * c + 3,
        // u·ḡ and μ·ḡ: 5 each. μ̄: a product and three FMAs, du alike. s̄: three FMAs. dW: three products.
        Message::Painn => 33 * f + 2 * c + 20,
    };
    sizes.cost([e * (GEOMETRY + filter), e * message, e * weights], 1, dtype)
}

/// Counts one call of the second backward, in a direction in all inputs, the weights included (but of a
/// table, which has none).
///
/// What one pass over the edges needs: the rates, along the direction, of the outputs and of what [`backward_cost`] counts.
/// Per edge,
///
/// | part | FLOPs |
/// | --- | --- |
/// | geometry | 14 for the rates of d and u |
/// | W, its slope and their rates | radial functions to second order, activations to third, 17C for f_c and the direction |
/// | its maps | `linear` 10KC, `mlp` 10KH + 14HC, the table 6KC |
/// | `cfconv` | 8F + 6C, 9 for the edge vector |
/// | `painn` | 94F + 6C, 58 for the edge vector |
/// | weights, `linear` | 4KC + 4C + 5K + 1 |
/// | weights, `mlp` | 10HC + 4KH + 8C + 14H + K + 1 |
pub fn double_backward_cost(variant: &Variant, problem: &Problem, dtype: Dtype) -> Cost {
    let sizes = Sizes::new(variant, problem);
    let Sizes { e, f, k, h, c, .. } = sizes;
    let (filter, weights) = match variant.filter {
        FilterKind::Linear => (3 * ELEMENTARY * (k + 1) + 10 * k * c + 17 * c, 4 * k * c + 4 * c + 5 * k + 1),
        // A hidden unit's slope and curvature, and the direction's value and slope of it: 10. Its value goes through the
        // direction of A₂ besides.
        FilterKind::Mlp => (
            3 * ELEMENTARY * (k + 1) + 10 * k * h + (4 * ELEMENTARY + 10) * h + 14 * h * c + 17 * c,
            10 * h * c + 4 * k * h + 8 * c + 14 * h + k + 1,
        ),
        FilterKind::Tabulated => (3 * HERMITE_WEIGHT * k + 6 * k * c + 2 * c, 0),
    };
    let message = match variant.message {
        // ẏ: two FMAs. The rate of x̄: one. dW and its rate: a product each. dd and its rate: three FMAs.
        Message::Cfconv => 8 * f + 6 * c + 9,
        Message::Painn => 94 * f + 6 * c + 58,
    };
    sizes.cost([e * (GEOMETRY + 14 + filter), e * message, e * weights], 2, dtype)
}

/// The sizes of a call as counts are made of them.
#[derive(Clone, Copy)]
struct Sizes {
    n: u64,
    e: u64,
    f: u64,
    k: u64,
    h: u64,
    /// Channels of the filter.
    c: u64,
    /// Elements of the features of an atom.
    node: u64,
    /// Elements of the outputs of an atom.
    output: u64,
    /// Elements of the filter's tensors.
    weights: u64,
    /// The same, of those that have a gradient.
    trained: u64,
}

impl Sizes {
    fn new(variant: &Variant, problem: &Problem) -> Self {
        let (f, k, h) = (u64::from(problem.features), u64::from(problem.n_basis), u64::from(problem.hidden));
        let c = variant.message.parts() as u64 * f;
        let weights = match variant.filter {
            FilterKind::Linear => k * c + c,
            FilterKind::Mlp => k * h + h + h * c + c,
            FilterKind::Tabulated => TABLE_NODES * (k / 2) * c,
        };
        let (node, output) = match variant.message {
            Message::Cfconv => (f, f),
            Message::Painn => (6 * f, 4 * f),
        };
        let trained = if variant.filter == FilterKind::Tabulated { 0 } else { weights };
        Self { n: problem.n_atoms, e: problem.n_edges, f, k, h, c, node, output, weights, trained }
    }

    /// The bytes of a call of an order, with its FLOPs.
    fn cost(self, [filter_flops, message_flops, weight_flops]: [u64; 3], order: u8, dtype: Dtype) -> Cost {
        let Self { n, e, node, output, weights, trained, .. } = self;
        let inputs = 3 * e + n * node;
        let (floats, gathered) = match order {
            0 => (inputs + weights + n * output, node),
            // Cotangents are read, and a gradient is written of each input.
            1 => (2 * inputs + weights + trained + n * output, output),
            // A direction is read besides, and a gradient is written of each cotangent.
            _ => (3 * inputs + weights + 2 * trained + 2 * n * output, 2 * node + output),
        };
        Cost {
            flops: filter_flops + message_flops + weight_flops,
            filter_flops,
            message_flops,
            weight_flops,
            compulsory_bytes: 4 * (n + 1 + e) + floats * dtype.size() as u64,
            gathered_bytes: e * gathered * dtype.size() as u64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(n_basis: u32, hidden: u32) -> Problem {
        Problem {
            name: String::new(),
            n_atoms: 3,
            n_edges: 4,
            max_degree: 2,
            features: 2,
            n_basis,
            hidden,
            ..Problem::default()
        }
    }

    fn counted(id: &str, n_basis: u32, hidden: u32, dtype: Dtype) -> Cost {
        let variant = id.parse().unwrap_or_else(|e| panic!("{e}"));
        cost(&variant, &problem(n_basis, hidden), dtype)
    }

    #[test]
    fn cfconv_linear_by_hand() {
        // An edge, K = 5, C = 2: 9 of geometry, 6 elementary, 5·2 FMAs, 2 products with f_c; 2 FMAs of message.
        // Floats: 12 of edge_vec, 6 of x, 10 + 2 of weights, 6 of y; indices 4 + 4.
        let found = counted("cfconv_linear_bessel_cosine_receiver", 5, 0, Dtype::F32);
        let expected = Cost {
            flops: 4 * 127 + 4 * 4,
            filter_flops: 4 * 127,
            message_flops: 4 * 4,
            weight_flops: 0,
            compulsory_bytes: 8 * 4 + 36 * 4,
            gathered_bytes: 4 * 2 * 4,
        };
        assert_eq!(found, expected);
        assert_eq!(found.intensity(), 524.0 / 176.0);
    }

    #[test]
    fn painn_mlp_by_hand() {
        // An edge, K = 5, H = 7, C = 6: 9, 6 elementary, 35 FMAs, 7 elementary, 42 FMAs, 6; per feature 16.
        // Floats: 12, 3 atoms × (3 + 3)·2, weights 35 + 7 + 42 + 6, outputs 3 × 4·2; indices 4 + 4.
        let found = counted("painn_mlp_gaussian_polynomial_edge_atomic", 5, 7, Dtype::F64);
        let expected = Cost {
            flops: 4 * (377 + 32),
            filter_flops: 4 * (9 + 96 + 70 + 112 + 84 + 6),
            message_flops: 4 * 32,
            weight_flops: 0,
            compulsory_bytes: 8 * 4 + (12 + 36 + 90 + 24) * 8,
            gathered_bytes: 4 * 12 * 8,
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn tables_by_hand() {
        // Cubic: 4 weights an edge; 257 nodes × 2 values × C.
        let found = counted("cfconv_tabulated_receiver", 4, 0, Dtype::F32);
        assert_eq!(found.filter_flops, 4 * (9 + 20 + 16));
        assert_eq!(found.compulsory_bytes, 8 * 4 + (12 + 6 + 257 * 2 * 2 + 6) * 4);
    }

    #[test]
    fn reductions_cost_alike() {
        let [a, b] =
            ["painn_tabulated_receiver", "painn_tabulated_edge_atomic"].map(|id| counted(id, 6, 0, Dtype::F32));
        assert_eq!(a, b);
    }

    /// f64 that counts what is done with it: a sum, difference, product, quotient or root each as one.
    #[derive(Clone, Copy)]
    struct Counted(f64);

    thread_local! {
        static DONE: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
    }

    impl Counted {
        fn new(value: f64) -> Self {
            DONE.set(DONE.get() + 1);
            Self(value)
        }

        fn dot(a: [Self; 3], b: [Self; 3]) -> Self {
            a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
        }
    }

    macro_rules! counted {
        ($($op:ident $method:ident $assign:ident $of_assign:ident $sign:tt),*) => {$(
            impl std::ops::$op for Counted {
                type Output = Self;
                fn $method(self, other: Self) -> Self {
                    Self::new(self.0 $sign other.0)
                }
            }
            impl std::ops::$assign for Counted {
                fn $of_assign(&mut self, other: Self) {
                    *self = *self $sign other;
                }
            }
        )*};
    }
    counted!(Add add AddAssign add_assign +, Sub sub SubAssign sub_assign -, Mul mul MulAssign mul_assign *, Div div DivAssign div_assign /);

    /// What a function gives, and the FLOPs it takes.
    fn count<R>(work: impl FnOnce() -> R) -> (R, u64) {
        let before = DONE.get();
        (work(), DONE.get() - before)
    }

    const K: usize = 2;
    const F: usize = 2;

    /// φ_k and its slope, and the cutoff's; each counts as elementary.
    fn radial(d: f64) -> ([[Counted; 2]; K], [Counted; 2]) {
        DONE.set(DONE.get() + (K as u64 + 1) * 2 * ELEMENTARY);
        let basis = |k: f64| [Counted((k * d).sin()), Counted(k * (k * d).cos())];
        ([basis(1.1), basis(1.7)], [Counted((-d * d).exp()), Counted(-2.0 * d * (-d * d).exp())])
    }

    /// One edge of PaiNN's message with a linear filter: Σ of its outputs times their cotangents.
    fn painn(
        r: [f64; 3],
        s: [f64; 3 * F],
        mu: [[f64; 3]; F],
        a: [[f64; 3 * F]; K],
        q: [f64; F],
        g: [[f64; 3]; F],
    ) -> f64 {
        let d = r.iter().map(|x| x * x).sum::<f64>().sqrt();
        let (basis, [cutoff, _]) = radial(d);
        let filter = |c: usize| cutoff.0 * (0..K).map(|k| basis[k][0].0 * a[k][c]).sum::<f64>();
        let channel = |f: usize| {
            let w = |part: usize| s[part * F + f] * filter(part * F + f);
            let vector = |x: usize| (w(1) * r[x] / d + w(2) * mu[f][x]) * g[f][x];
            w(0) * q[f] + (0..3).map(vector).sum::<f64>()
        };
        (0..F).map(channel).sum()
    }

    #[test]
    fn the_first_backward_of_an_edge_is_what_is_counted() {
        let (r, q) = ([0.4, -0.7, 0.5], [0.3, -0.8]);
        let s = [0.9, -0.2, 0.5, 1.1, -0.6, 0.7];
        let (mu, g) = ([[0.2, 0.8, -0.4], [-0.5, 0.1, 0.6]], [[0.7, -0.3, 0.2], [0.4, 0.9, -0.1]]);
        let a = [[0.3, 0.1, -0.2, 0.5, 0.8, -0.7], [-0.4, 0.6, 0.2, -0.1, 0.9, 0.35]];
        let number = Counted;
        let ((r_grad, s_grad, mu_grad, a_grad), flops) = count(|| {
            let r = r.map(number);
            // d, and u.
            let square = Counted::dot(r, r);
            let d = Counted::new(square.0.sqrt());
            let u = r.map(|x| x / d);
            let (basis, [cutoff, slope]) = radial(d.0);
            let (mut dd, mut u_grad) = (Counted(0.0), [Counted(0.0); 3]);
            let (mut s_grad, mut mu_grad, mut a_grad) =
                ([Counted(0.0); 3 * F], [[Counted(0.0); 3]; F], [[Counted(0.0); 3 * F]; K]);
            let mut bias_grad = [Counted(0.0); 3 * F];
            for f in 0..F {
                let (g, mu) = (g[f].map(number), mu[f].map(number));
                let cotangents = [number(q[f]), Counted::dot(u, g), Counted::dot(mu, g)];
                for (part, cotangent) in cotangents.into_iter().enumerate() {
                    let c = part * F + f;
                    // The bias is zero here, and added all the same.
                    let (mut sum, mut rate) = (Counted(0.0), Counted(0.0));
                    for k in 0..K {
                        sum += basis[k][0] * number(a[k][c]);
                        rate += basis[k][1] * number(a[k][c]);
                    }
                    let (w, w_slope) = (cutoff * sum, slope * sum + cutoff * rate);
                    s_grad[c] += cotangent * w;
                    let w_grad = cotangent * number(s[c]);
                    dd += w_grad * w_slope;
                    if part > 0 {
                        let message = number(s[c]) * w;
                        for x in 0..3 {
                            let sum = if part == 1 { &mut u_grad[x] } else { &mut mu_grad[f][x] };
                            *sum += message * g[x];
                        }
                    }
                    let scaled = cutoff * w_grad;
                    bias_grad[c] += scaled;
                    for k in 0..K {
                        a_grad[k][c] += basis[k][0] * scaled;
                    }
                }
            }
            let along = Counted::dot(u, u_grad);
            let r_grad: [Counted; 3] = std::array::from_fn(|x| (u_grad[x] - along * u[x]) / d + dd * u[x]);
            (r_grad, s_grad, mu_grad, a_grad)
        });
        let problem = Problem { n_edges: 1, features: F as u32, n_basis: K as u32, ..problem(0, 0) };
        let variant = "painn_linear_gaussian_cosine_receiver".parse().unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(backward_cost(&variant, &problem, Dtype::F32).flops, flops);

        // It is the gradient that was counted.
        let h = 1e-6;
        let differs = |found: Counted, change: &dyn Fn(f64) -> f64| {
            let expected = (change(h) - change(-h)) / (2.0 * h);
            assert!((found.0 - expected).abs() < 1e-8, "{} for {expected}", found.0);
        };
        let moved = |x: usize, h: f64| std::array::from_fn(|y| r[y] + if x == y { h } else { 0.0 });
        for x in 0..3 {
            differs(r_grad[x], &|h| painn(moved(x, h), s, mu, a, q, g));
            let changed = |h: f64| {
                let mut mu = mu;
                mu[1][x] += h;
                painn(r, s, mu, a, q, g)
            };
            differs(mu_grad[1][x], &changed);
        }
        for c in 0..3 * F {
            let changed = |h: f64| {
                let mut s = s;
                s[c] += h;
                painn(r, s, mu, a, q, g)
            };
            differs(s_grad[c], &changed);
            let changed = |h: f64| {
                let mut a = a;
                a[1][c] += h;
                painn(r, s, mu, a, q, g)
            };
            differs(a_grad[1][c], &changed);
        }
    }

    #[test]
    fn backwards_by_hand() {
        // The edges of `cfconv_linear_by_hand`: value and slope of 6 elementary functions, 2·5·2 FMAs, 4 per channel; x̄ by
        // an FMA, dW by a product and dd by an FMA per channel, 3; dA by 5·2 FMAs, a product and a sum per channel.
        let problem = |n_basis, hidden| problem(n_basis, hidden);
        let variant = |id: &str| id.parse().unwrap_or_else(|e| panic!("{e}"));
        let found = backward_cost(&variant("cfconv_linear_bessel_cosine_receiver"), &problem(5, 0), Dtype::F32);
        let expected = Cost {
            flops: 4 * (9 + 192 + 40 + 8) + 4 * (4 + 2 + 4 + 3) + 4 * (20 + 4),
            filter_flops: 4 * (9 + 192 + 40 + 8),
            message_flops: 4 * (4 + 2 + 4 + 3),
            weight_flops: 4 * (20 + 4),
            // Edge vectors, features and weights twice, and the cotangents of 3 atoms.
            compulsory_bytes: 8 * 4 + (2 * (12 + 6 + 12) + 6) * 4,
            gathered_bytes: 4 * 2 * 4,
        };
        assert_eq!(found, expected);

        // H = 7, C = 6. First map 2·(35 FMAs), 7 units of 2·16 + 1, second map 2·(42 FMAs).
        let mlp = variant("painn_mlp_gaussian_polynomial_receiver");
        let found = backward_cost(&mlp, &problem(5, 7), Dtype::F64);
        assert_eq!(found.filter_flops, 4 * (9 + 192 + 140 + 231 + 168 + 24));
        assert_eq!(found.message_flops, 4 * (66 + 12 + 20));
        assert_eq!(found.weight_flops, 4 * (168 + 70 + 12 + 14));
        assert_eq!(found.gathered_bytes, 4 * 8 * 8);

        // The second: radial functions to second order, 5 maps of 35 FMAs, 7 units of 4·16 + 10, 7 of 42 FMAs.
        let found = double_backward_cost(&mlp, &problem(5, 7), Dtype::F64);
        assert_eq!(found.filter_flops, 4 * (23 + 288 + 350 + 518 + 588 + 102));
        assert_eq!(found.message_flops, 4 * (188 + 36 + 58));
        assert_eq!(found.weight_flops, 4 * (420 + 140 + 48 + 98 + 5 + 1));
        // Features and their direction of the sender, cotangents of the receiver.
        assert_eq!(found.gathered_bytes, 4 * (2 * 12 + 8) * 8);
        // Edge vectors and features three times, weights too, cotangents and their gradients.
        assert_eq!(found.compulsory_bytes, 8 * 4 + (3 * (12 + 36) + 3 * 90 + 2 * 24) * 8);

        let table = variant("cfconv_tabulated_receiver");
        let [first, second] =
            [backward_cost, double_backward_cost].map(|cost| cost(&table, &problem(4, 0), Dtype::F32));
        assert_eq!((first.filter_flops, first.weight_flops), (4 * (9 + 40 + 32), 0));
        assert_eq!((second.filter_flops, second.message_flops), (4 * (23 + 60 + 48 + 4), 4 * (16 + 12 + 9)));
        // The table is read and has no gradient.
        assert_eq!(first.compulsory_bytes, 8 * 4 + (2 * 18 + 257 * 2 * 2 + 6) * 4);
    }

    #[test]
    fn nothing_costs_nothing() {
        let variant = "cfconv_tabulated_receiver".parse().unwrap_or_else(|e| panic!("{e}"));
        let empty = Problem { n_atoms: 0, n_edges: 0, n_basis: 0, ..problem(0, 0) };
        let found = cost(&variant, &empty, Dtype::F32);
        // One offset of an empty row_ptr.
        assert_eq!((found.flops, found.compulsory_bytes, found.intensity()), (0, 4, 0.0));
    }
}
