//! The op and its first backward, one edge at a time, over any [`Number`].
//!
//! Over [`Tracked`] they come with their magnitudes; over [`Dual`] with their derivatives in the direction
//! of the inputs' tangents, which is the second backward.

use ff_spec::fused_message::{Filter, Gradients, Inputs, Message, Outputs, Wanted};

use super::{Dual, Number, RadialPair, Tracked, activate, hermite};

/// One call: what it reads, as numbers, and its radial functions.
pub(super) struct Call<'a, N> {
    inputs: &'a Inputs<f64>,
    radial: Option<Radial>,
    nodes: Vec<N>,
    vectors: Vec<N>,
    edge_vec: Vec<N>,
    filter: Filter<N>,
}

struct Radial {
    pair: RadialPair,
    /// The largest |f_c|, |f_c′| and |f_c″| over [0, r_c].
    largest: [f64; 3],
}

/// The length and the direction of an edge. At d = 0 the direction and 1/d are zero and nothing varies.
struct Edge<N> {
    d: N,
    u: [N; 3],
    inverse: N,
}

/// The filter at one distance, with what its backward needs.
struct FilterAt<N> {
    /// W.
    w: Vec<N>,
    /// dW/dd, of a tabulated filter only.
    slope: Vec<N>,
    /// φ and φ′.
    phi: Vec<[N; 2]>,
    /// σ and σ′ of an mlp filter.
    hidden: Vec<[N; 2]>,
    /// W without its cutoff.
    raw: Vec<N>,
    /// f_c and f_c′.
    cutoff: [N; 2],
}

impl<'a, N: Number> Call<'a, N> {
    /// A call on constants.
    pub(super) fn new(inputs: &'a Inputs<f64>, pair: Option<RadialPair>) -> Self {
        let constants = |v: &[f64]| v.iter().map(|x| N::constant(*x)).collect();
        Self {
            inputs,
            radial: pair.map(|pair| Radial { largest: largest(&pair, inputs.radial.r_cut), pair }),
            nodes: constants(&inputs.nodes),
            vectors: constants(&inputs.vectors),
            edge_vec: constants(&inputs.edge_vec),
            filter: inputs.filter.map(|x| N::constant(*x)),
        }
    }

    /// The op. At d = 0 the direction u is zero.
    pub(super) fn forward(&self) -> Outputs<N> {
        let (f, zero) = (self.inputs.features, N::constant(0.0));
        let mut out =
            Outputs { nodes: vec![zero; self.inputs.n_atoms * f], vectors: vec![zero; self.inputs.vectors.len()] };
        let mut at = FilterAt::new();
        for (i, j, e) in self.edges() {
            let Some(edge) = self.edge(e) else { continue };
            self.filter(edge.d, &mut at);
            let (sender, w) = (self.sender(j), &at.w);
            for c in 0..f {
                out.nodes[i * f + c] += sender[c] * w[c];
            }
            if self.inputs.message == Message::Cfconv {
                continue;
            }
            for (axis, u) in edge.u.into_iter().enumerate() {
                for c in 0..f {
                    let mu = self.vectors[(3 * j + axis) * f + c];
                    out.vectors[(3 * i + axis) * f + c] +=
                        sender[f + c] * w[f + c] * u + sender[2 * f + c] * w[2 * f + c] * mu;
                }
            }
        }
        out
    }

    /// The gradients of L = ⟨grad, forward⟩.
    ///
    /// An edge whose receiver has cotangents of zero alone contributes nothing and is passed over.
    ///
    /// Per edge L is a function of W(d) and u: with v = ∂L/∂u, ∂L/∂r = u ∂L/∂d + (v − u (u·v))/d.
    pub(super) fn backward(&self, grad: &Outputs<N>, wanted: Wanted) -> Gradients<N> {
        let (f, zero) = (self.inputs.features, N::constant(0.0));
        let channels = self.inputs.channels();
        let mut out = self.inputs.filled_gradients(wanted, zero);
        let mut at = FilterAt::new();
        let mut grad_w = vec![zero; channels];
        let none = |values: &[N], i: usize, width: usize| {
            values[i * width..(i + 1) * width].iter().all(|g| g.magnitude() == 0.0)
        };
        let vectors = if self.inputs.message == Message::Painn { 3 * f } else { 0 };
        for (i, j, e) in self.edges() {
            if none(&grad.nodes, i, f) && none(&grad.vectors, i, vectors) {
                continue;
            }
            let Some(Edge { d, u, inverse }) = self.edge(e) else { continue };
            self.filter(d, &mut at);
            let (sender, w) = (self.sender(j), &at.w);
            let mut grad_u = [zero; 3];
            for c in 0..f {
                let g = grad.nodes[i * f + c];
                grad_w[c] = g * sender[c];
                if wanted.nodes {
                    out.nodes[j * channels + c] += g * w[c];
                }
            }
            if self.inputs.message == Message::Painn {
                for c in 0..f {
                    let (mut along, mut across) = (zero, zero);
                    for (axis, u) in u.into_iter().enumerate() {
                        let g = grad.vectors[(3 * i + axis) * f + c];
                        let to = (3 * j + axis) * f + c;
                        along += g * u;
                        across += g * self.vectors[to];
                        grad_u[axis] += g * sender[f + c] * w[f + c];
                        if wanted.nodes {
                            out.vectors[to] += g * sender[2 * f + c] * w[2 * f + c];
                        }
                    }
                    grad_w[f + c] = sender[f + c] * along;
                    grad_w[2 * f + c] = sender[2 * f + c] * across;
                    if wanted.nodes {
                        out.nodes[j * channels + f + c] += w[f + c] * along;
                        out.nodes[j * channels + 2 * f + c] += w[2 * f + c] * across;
                    }
                }
            }
            if !wanted.edge_vec && out.filter.is_none() {
                continue;
            }
            let grad_d = self.filter_backward(&at, &grad_w, out.filter.as_mut());
            if wanted.edge_vec {
                let along = dot(grad_u, u);
                for axis in 0..3 {
                    out.edge_vec[3 * e + axis] = u[axis] * grad_d + (grad_u[axis] - u[axis] * along) * inverse;
                }
            }
        }
        out
    }

    /// (receiver, sender, edge) of every edge.
    fn edges(&self) -> impl Iterator<Item = (usize, usize, usize)> + use<'a, N> {
        let inputs = self.inputs;
        let row = |i: usize| inputs.row_ptr[i] as usize..inputs.row_ptr[i + 1] as usize;
        (0..inputs.n_atoms).flat_map(move |i| row(i).map(move |e| (i, inputs.sender[e] as usize, e)))
    }

    fn sender(&self, j: usize) -> &[N] {
        let channels = self.inputs.channels();
        &self.nodes[j * channels..][..channels]
    }

    /// `None` from the cutoff on: such an edge contributes exactly nothing.
    fn edge(&self, e: usize) -> Option<Edge<N>> {
        let r = [0, 1, 2].map(|axis| self.edge_vec[3 * e + axis]);
        let squared = dot(r, r);
        if squared.value() == 0.0 {
            let zero = N::constant(0.0);
            return Some(Edge { d: zero, u: [zero; 3], inverse: zero });
        }
        let d = squared.sqrt();
        if d.value() >= self.inputs.radial.r_cut {
            return None;
        }
        let inverse = d.recip();
        Some(Edge { d, u: r.map(|r| r * inverse), inverse })
    }

    /// W at d < r_c.
    ///
    /// Magnitudes count what rounding d changes. They count the cutoff function and its derivatives at their largest,
    /// which for the function itself is 1: their own rounding errors do not shrink with them.
    fn filter(&self, d: N, at: &mut FilterAt<N>) {
        let x = d.value();
        let Some(Radial { pair: (basis, cutoff), largest }) = &self.radial else {
            return self.table(d, at);
        };
        // What underflows to zero is still a term.
        let split = |jet: [f64; 4], z: N, scale: f64| {
            let magnitude = |n: usize| (jet[n].abs() + (scale * jet[n + 1]).abs()).max(1e-200);
            let tracked: [Tracked; 3] = std::array::from_fn(|n| Tracked { value: jet[n], magnitude: magnitude(n) });
            [z.compose(&tracked), z.compose(&tracked[1..])]
        };
        at.phi.clear();
        at.phi.extend((1..=self.inputs.radial.n_basis).map(|k| split(basis.jet(x, k), d, x)));
        match &self.filter {
            Filter::Linear { a, b } => affine(&at.phi, a, b, &mut at.raw),
            Filter::Mlp { a1, b1, a2, b2, activation, .. } => {
                affine(&at.phi, a1, b1, &mut at.raw);
                at.hidden.clear();
                at.hidden.extend(at.raw.iter().map(|z| split(activate(*activation, z.value()), *z, z.magnitude())));
                affine(&at.hidden, a2, b2, &mut at.raw);
            }
            Filter::Tabulated { .. } => unreachable!("has no radial functions"),
        }
        let jet = cutoff.jet(x, 1);
        let tracked: [Tracked; 3] =
            std::array::from_fn(|n| Tracked { value: jet[n], magnitude: largest[n].max(jet[n].abs()) });
        at.cutoff = [d.compose(&tracked), d.compose(&tracked[1..])];
        at.w.clear();
        at.w.extend(at.raw.iter().map(|raw| *raw * at.cutoff[0]));
    }

    /// W and dW/dd of a tabulated filter.
    fn table(&self, d: N, at: &mut FilterAt<N>) {
        let Filter::Tabulated { order, n_nodes, values } = &self.filter else {
            unreachable!("every other filter has radial functions")
        };
        let (x, channels) = (d.value(), self.inputs.channels());
        let (start, weights) = hermite(x, self.inputs.radial.r_cut, *order, *n_nodes);
        let weights: Vec<[f64; 4]> = weights.into_iter().map(|w| w.derivatives()).collect();
        at.w.clear();
        at.slope.clear();
        for c in 0..channels {
            let (mut w, mut slope) = (N::constant(0.0), N::constant(0.0));
            let mut jet = [0.0; 4];
            for (n, weight) in weights.iter().enumerate() {
                let sample = values[(start + n) * channels + c];
                let tracked = weight.map(Tracked::new);
                w += d.compose(&tracked) * sample;
                slope += d.compose(&tracked[1..]) * sample;
                jet.iter_mut().zip(weight).for_each(|(sum, weight)| *sum += weight * sample.value());
            }
            // What rounding d changes is no sum over the samples, so it is added as a term without a value.
            let rounding: [Tracked; 3] =
                std::array::from_fn(|n| Tracked { value: 0.0, magnitude: (x * jet[n + 1]).abs() });
            at.w.push(w + d.compose(&rounding));
            at.slope.push(slope + d.compose(&rounding[1..]));
        }
    }

    /// ∂L/∂d from ∂L/∂W, and adds ∂L/∂weights where they are wanted.
    fn filter_backward(&self, at: &FilterAt<N>, grad_w: &[N], weights: Option<&mut Filter<N>>) -> N {
        let pairs = |a: &[N], b: &[N]| a.iter().zip(b).fold(N::constant(0.0), |sum, (a, b)| sum + *a * *b);
        let [cutoff, cutoff_slope] = at.cutoff;
        let grad_raw: Vec<N> = grad_w.iter().map(|g| *g * cutoff).collect();
        let (grad_phi, of_cutoff) = match &self.filter {
            Filter::Tabulated { .. } => return pairs(&at.slope, grad_w),
            Filter::Linear { a, .. } => {
                if let Some(Filter::Linear { a, b }) = weights {
                    outer(&at.phi, &grad_raw, a, b);
                }
                (transposed(a, &grad_raw, at.phi.len()), pairs(&at.raw, grad_w))
            }
            Filter::Mlp { a1, a2, .. } => {
                let mut grad_z = transposed(a2, &grad_raw, at.hidden.len());
                grad_z.iter_mut().zip(&at.hidden).for_each(|(g, [_, slope])| *g = *g * *slope);
                if let Some(Filter::Mlp { a1, b1, a2, b2, .. }) = weights {
                    outer(&at.hidden, &grad_raw, a2, b2);
                    outer(&at.phi, &grad_z, a1, b1);
                }
                (transposed(a1, &grad_z, at.phi.len()), pairs(&at.raw, grad_w))
            }
        };
        let of_basis = at.phi.iter().zip(grad_phi).fold(N::constant(0.0), |sum, ([_, slope], g)| sum + *slope * g);
        of_cutoff * cutoff_slope + of_basis
    }
}

impl<N: Number> Call<'_, Dual<N>> {
    /// Sets the inputs' tangents. A filter of `None`, or of another kind, leaves the weights' at zero.
    pub(super) fn set_tangents(&mut self, tangent: &Gradients<f64>) {
        let set = |values: &mut Vec<Dual<N>>, tangents: &[f64]| {
            values.iter_mut().zip(tangents).for_each(|(x, t)| x.tangent = N::constant(*t));
        };
        set(&mut self.nodes, &tangent.nodes);
        set(&mut self.vectors, &tangent.vectors);
        set(&mut self.edge_vec, &tangent.edge_vec);
        match (&mut self.filter, &tangent.filter) {
            (Filter::Linear { a, b }, Some(Filter::Linear { a: t_a, b: t_b })) => {
                set(a, t_a);
                set(b, t_b);
            }
            (Filter::Mlp { a1, b1, a2, b2, .. }, Some(Filter::Mlp { a1: t_a1, b1: t_b1, a2: t_a2, b2: t_b2, .. })) => {
                set(a1, t_a1);
                set(b1, t_b1);
                set(a2, t_a2);
                set(b2, t_b2);
            }
            _ => {}
        }
    }
}

impl<N: Number> FilterAt<N> {
    fn new() -> Self {
        let (w, slope, raw) = (Vec::new(), Vec::new(), Vec::new());
        Self { w, slope, phi: Vec::new(), hidden: Vec::new(), raw, cutoff: [N::constant(0.0); 2] }
    }
}

/// The largest |f_c|, |f_c′| and |f_c″| on a grid that is fine beside any cutoff function.
fn largest((_, cutoff): &RadialPair, r_cut: f64) -> [f64; 3] {
    let mut largest = [0.0f64; 3];
    for n in 0..=64 {
        let jet = cutoff.jet(r_cut * f64::from(n) / 64.0, 1);
        largest.iter_mut().zip(jet).for_each(|(largest, f)| *largest = largest.max(f.abs()));
    }
    largest
}

fn dot<N: Number>(a: [N; 3], b: [N; 3]) -> N {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

/// x A + b, A being [x.len(), b.len()].
fn affine<N: Number>(x: &[[N; 2]], a: &[N], b: &[N], out: &mut Vec<N>) {
    out.clear();
    out.extend_from_slice(b);
    for ([x, _], row) in x.iter().zip(a.chunks_exact(b.len().max(1))) {
        out.iter_mut().zip(row).for_each(|(out, a)| *out += *x * *a);
    }
}

/// Adds the gradients of ⟨g, x A + b⟩ in A and b.
fn outer<N: Number>(x: &[[N; 2]], g: &[N], a: &mut [N], b: &mut [N]) {
    for ([x, _], row) in x.iter().zip(a.chunks_exact_mut(g.len().max(1))) {
        row.iter_mut().zip(g).for_each(|(a, g)| *a += *x * *g);
    }
    b.iter_mut().zip(g).for_each(|(b, g)| *b += *g);
}

/// A g, the gradient of ⟨g, x A + b⟩ in x, which has `rows` elements.
fn transposed<N: Number>(a: &[N], g: &[N], rows: usize) -> Vec<N> {
    let mut out = vec![N::constant(0.0); rows];
    for (out, row) in out.iter_mut().zip(a.chunks_exact(g.len().max(1))) {
        row.iter().zip(g).for_each(|(a, g)| *out += *a * *g);
    }
    out
}
