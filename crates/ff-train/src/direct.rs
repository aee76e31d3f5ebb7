//! The loss of a PaiNN and its gradient in the weights, without a tape.
//!
//! Let γ = ∂L/∂F. Since F = −∂E/∂x, what forces add to ∂L/∂w is ∂Ė/∂w, where Ė is the derivative of the energy as atoms move along
//! ẋ = −γ (and a strain likewise). So four passes make the gradient: energies forwards; forces backwards, which leaves the
//! cotangents of Ė in all that was computed; tangents forwards; and backwards once more the cotangents of Σ a·E + Ė in all that was
//! computed, with a = ∂L/∂E. In a product y = x·W the gradient in W is then xᵀ·ȳ + ẋᵀ·ẏ̄, with the cotangents ȳ of y and ẏ̄ of ẏ. Names
//! below: `d_…` tangents, `t_…` cotangents of tangents, `p_…` cotangents of the values themselves.

use std::ops::{Add, Div, Mul, Neg, Range, Sub};

use ff_kernels::SenderList;
use ff_kernels::fused_message::host::{Backward, Call, Direction, HostConfig, PackedFilter, ReceiverOrder, Stages};
use ff_kernels::fused_message::{HostElement, find};
use ff_model::config::{Activation, Aggregation, Config, Kind};
use ff_model::units::Energy;
use ff_spec::fused_message::{
    DoubleGradients, Filter, FilterKind, Gradients, Outputs, Radial, Reduction, Variant, Wanted,
};
use gemm::{Parallelism, gemm};

use crate::loss::{Fitted, Scales, Terms};

/// An element type that gradients are computed in.
pub trait Real:
    HostElement
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + Into<f64>
{
    /// 1/(1 + e⁻ˣ).
    fn logistic(self) -> Self;
    /// √x.
    fn root(self) -> Self;
}

macro_rules! real {
    ($($t:ident)*) => {$(
        impl Real for $t {
            #[inline]
            fn logistic(self) -> Self {
                1.0 / (1.0 + (-self).exp())
            }

            #[inline]
            fn root(self) -> Self {
                self.sqrt()
            }
        }
    )*};
}
real!(f32 f64);

/// Where a dense layer's weights [inputs, outputs] and biases are among all.
#[derive(Clone, Debug)]
struct DenseAt {
    inputs: usize,
    outputs: usize,
    weight: usize,
    bias: Option<usize>,
}

impl DenseAt {
    fn weights<'a, T>(&self, all: &'a [T]) -> &'a [T] {
        &all[self.weight..][..self.inputs * self.outputs]
    }

    /// x·W + b of rows x.
    fn forward<T: Real>(&self, all: &[T], x: &[T]) -> Vec<T> {
        let rows = x.len() / self.inputs;
        let mut y = Vec::with_capacity(rows * self.outputs);
        match self.bias {
            Some(bias) => (0..rows).for_each(|_| y.extend_from_slice(&all[bias..][..self.outputs])),
            None => y.resize(rows * self.outputs, T::default()),
        }
        let (x, w) = (Matrix::rows(x, self.inputs), Matrix::rows(self.weights(all), self.outputs));
        product(&mut y, [rows, self.inputs, self.outputs], x, w, self.bias.is_some());
        y
    }

    /// x·W.
    fn linear<T: Real>(&self, all: &[T], x: &[T]) -> Vec<T> {
        Self { bias: None, ..self.clone() }.forward(all, x)
    }

    /// ȳ·Wᵀ.
    fn backward<T: Real>(&self, all: &[T], y: &[T]) -> Vec<T> {
        let rows = y.len() / self.outputs;
        let mut x = vec![T::default(); rows * self.inputs];
        let (y, w) = (Matrix::rows(y, self.outputs), Matrix::columns(self.weights(all), self.outputs));
        product(&mut x, [rows, self.outputs, self.inputs], y, w, false);
        x
    }

    /// Adds xᵀ·ȳ to the gradient in W, and Σ ȳ to that in b, of values; of tangents only the former, as biases have none.
    fn gather<T: Real>(&self, gradient: &mut [T], x: &[T], y: &[T], values: bool) {
        let rows = x.len() / self.inputs;
        let own = &mut gradient[self.weight..][..self.inputs * self.outputs];
        let (xt, y_) = (Matrix::columns(x, self.inputs), Matrix::rows(y, self.outputs));
        product(own, [self.inputs, rows, self.outputs], xt, y_, true);
        if let Some(bias) = self.bias.filter(|_| values) {
            for row in y.chunks_exact(self.outputs) {
                add(&mut gradient[bias..][..self.outputs], row);
            }
        }
    }
}

/// A matrix with the strides of its rows and columns.
#[derive(Clone, Copy)]
struct Matrix<'a, T> {
    values: &'a [T],
    strides: [isize; 2],
}

impl<'a, T> Matrix<'a, T> {
    /// Rows of `width` elements.
    fn rows(values: &'a [T], width: usize) -> Self {
        Self { values, strides: [width as isize, 1] }
    }

    /// The transpose of that.
    fn columns(values: &'a [T], width: usize) -> Self {
        Self { values, strides: [1, width as isize] }
    }
}

/// C = A·B or, where `accumulate`, C + A·B: A [m, k], B [k, n], C [m, n] in rows.
fn product<T: Real>(c: &mut [T], [m, k, n]: [usize; 3], a: Matrix<'_, T>, b: Matrix<'_, T>, accumulate: bool) {
    assert_eq!((a.values.len(), b.values.len(), c.len()), (m * k, k * n, m * n), "[{m}, {k}]·[{k}, {n}]");
    let one = T::from_f64(1.0);
    // SAFETY: A has m·k elements and B k·n, as was asserted, in rows or in columns without gaps; C is borrowed exclusively and has
    // m rows of n. Written as Cᵀ = Bᵀ·Aᵀ.
    unsafe {
        gemm(
            n,
            m,
            k,
            c.as_mut_ptr(),
            n as isize,
            1,
            accumulate,
            b.values.as_ptr(),
            b.strides[0],
            b.strides[1],
            a.values.as_ptr(),
            a.strides[0],
            a.strides[1],
            one,
            one,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}

fn add<T: Real>(sum: &mut [T], other: &[T]) {
    assert_eq!(sum.len(), other.len());
    sum.iter_mut().zip(other).for_each(|(sum, other)| *sum += *other);
}

fn sum<T: Real>(mut a: Vec<T>, b: &[T]) -> Vec<T> {
    add(&mut a, b);
    a
}

/// SiLU of pre-activations z: g = 1/(1 + e⁻ᶻ) is kept with it, of which its derivatives are made.
struct Silu<T> {
    z: Vec<T>,
    g: Vec<T>,
}

impl<T: Real> Silu<T> {
    /// With σ(z).
    fn new(z: Vec<T>) -> (Self, Vec<T>) {
        let g: Vec<T> = z.iter().map(|z| z.logistic()).collect();
        let y = z.iter().zip(&g).map(|(z, g)| *z * *g).collect();
        (Self { z, g }, y)
    }

    /// σ′(z)·x.
    fn slope(&self, x: &[T]) -> Vec<T> {
        let one = T::from_f64(1.0);
        let each = self.z.iter().zip(&self.g).zip(x);
        each.map(|((z, g), x)| *x * *g * (one + *z * (one - *g))).collect()
    }

    /// σ′(z)·p + σ″(z)·ż·t.
    fn curve(&self, p: &[T], tangent: &[T], t: &[T]) -> Vec<T> {
        let (one, two) = (T::from_f64(1.0), T::from_f64(2.0));
        let each = self.z.iter().zip(&self.g).zip(p).zip(tangent).zip(t);
        each.map(|((((z, g), p), d), t)| {
            let first = *g * (one + *z * (one - *g));
            let second = *g * (one - *g) * (two + *z * (one - two * *g));
            first * *p + second * *d * *t
        })
        .collect()
    }
}

/// Where the weights of an interaction are.
#[derive(Clone, Debug)]
struct LayerAt {
    filter: Range<usize>,
    context: [DenseAt; 2],
    mix: DenseAt,
    update: [DenseAt; 2],
}

/// A PaiNN whose weights are given flat, in the order of its modules' parameters.
pub struct Direct<T: HostElement> {
    features: usize,
    layers: Vec<LayerAt>,
    /// Layers with filters of their own.
    n_filters: usize,
    head: Vec<DenseAt>,
    epsilon: T,
    radial: Radial<T>,
    basis: Vec<Vec<T>>,
    stages: Stages<T>,
    configs: [HostConfig; 3],
    n_weights: usize,
}

/// Weights of a step, with filters in the order of the passes.
pub struct Loaded<'a, T: HostElement> {
    values: &'a [T],
    filters: Vec<(Filter<T>, [PackedFilter<T>; 3])>,
}

/// Frames of a part as the kernels read them.
struct Atoms<T> {
    species: Vec<usize>,
    /// Atoms of every frame.
    frames: Vec<Range<usize>>,
    /// Edges of every frame.
    edges: Vec<Range<usize>>,
    row_ptr: Vec<u32>,
    sender: Vec<u32>,
    edge_vec: Vec<T>,
    senders: SenderList,
    order: ReceiverOrder,
}

impl<T: Real> Atoms<T> {
    fn new(fitted: &[&Fitted]) -> Self {
        let (mut row_ptr, mut sender, mut edge_vec) = (vec![0u32], Vec::new(), Vec::new());
        let (mut species, mut frames, mut edges) = (Vec::new(), Vec::new(), Vec::new());
        for frame in fitted {
            let (listed, first, first_edge) = (frame.listed(), species.len(), sender.len());
            row_ptr.extend(listed.row_ptr()[1..].iter().map(|end| first_edge as u32 + end));
            sender.extend(listed.sender().iter().map(|j| first as u32 + j));
            edge_vec.extend(listed.edge_vec().iter().map(|x| T::from_f64(*x)));
            species.extend(listed.species().iter().map(|z| *z as usize));
            frames.push(first..species.len());
            edges.push(first_edge..sender.len());
        }
        let senders = SenderList::new(&row_ptr, &sender);
        Self { species, frames, edges, row_ptr, sender, edge_vec, senders, order: ReceiverOrder::default() }
    }
}

/// What the passes of a layer leave for those after them. [N, F] unless it is said.
struct Kept<T> {
    q: Vec<T>,
    /// [N, 3, F].
    mu: Vec<T>,
    silu: Silu<T>,
    hidden: Vec<T>,
    /// s, [N, 3F].
    nodes: Vec<T>,
    /// μ after the message, [N, 3, F].
    mu_between: Vec<T>,
    /// (V, U), [3N, 2F].
    mixed: Vec<T>,
    /// (q after the message, n), [N, 2F].
    joined: Vec<T>,
    update_silu: Silu<T>,
    update_hidden: Vec<T>,
    /// [N, 3F].
    gates: Vec<T>,
    inner: Vec<T>,
    /// Cotangents of tangents, of the second pass.
    t: Cotangents<T>,
    /// Tangents and what the second backward gave, of the third.
    d: Tangents<T>,
}

#[derive(Default)]
struct Cotangents<T> {
    /// Of the next layer's q and μ.
    q: Vec<T>,
    mu: Vec<T>,
    gates: Vec<T>,
    update_hidden: Vec<T>,
    update_z: Vec<T>,
    joined: Vec<T>,
    mixed: Vec<T>,
    /// Of the messages' sums.
    q_between: Vec<T>,
    mu_between: Vec<T>,
    nodes: Vec<T>,
    hidden: Vec<T>,
    z: Vec<T>,
}

#[derive(Default)]
struct Tangents<T> {
    q: Vec<T>,
    z: Vec<T>,
    hidden: Vec<T>,
    mu_between: Vec<T>,
    mixed: Vec<T>,
    joined: Vec<T>,
    update_z: Vec<T>,
    update_hidden: Vec<T>,
    gates: Vec<T>,
    inner: Vec<T>,
    /// Of the second backward: cotangents of s and μ, and the gradient in the filter.
    p_nodes: Vec<T>,
    p_mu: Vec<T>,
    p_filter: Option<Filter<T>>,
}

impl<T: Real> Direct<T> {
    /// Of a model whose embedding has `rows`; `None` for one that is not a PaiNN as it is trained here.
    pub fn new(config: &Config, radial: &Radial<f64>, rows: usize) -> Option<Self> {
        let silu = config.activation == Activation::Silu && config.head.activation == Activation::Silu;
        let plain = config.aggregation == Aggregation::Sum && config.energy_unit == Energy::ElectronVolt;
        if config.kind != Kind::Painn || !silu || !plain {
            return None;
        }
        let (basis, cutoff) = config.radial_names();
        let names = Some((basis.to_owned(), cutoff.to_owned()));
        let (message, filter) = (config.message(), FilterKind::Linear);
        let registered = find(&Variant { message, filter, radial: names, reduction: Reduction::Receiver })?;
        let (f, k) = (config.features, config.n_basis);
        let mut at = rows * f;
        let mut take = |len: usize| {
            at += len;
            at - len..at
        };
        let n_filters = if config.shared_filters { 1 } else { config.layers };
        let filters: Vec<Range<usize>> = (0..n_filters).map(|_| take(3 * f * (k + 1))).collect();
        let mut dense = |inputs: usize, outputs: usize, bias: bool| {
            let weight = take(inputs * outputs).start;
            DenseAt { inputs, outputs, weight, bias: bias.then(|| take(outputs).start) }
        };
        let mut layers: Vec<LayerAt> = Vec::new();
        for l in 0..config.layers {
            let filter = filters[l.min(n_filters - 1)].clone();
            let layer = match layers.first() {
                Some(first) if config.shared_interactions => LayerAt { filter, ..first.clone() },
                _ => LayerAt {
                    filter,
                    context: [dense(f, f, true), dense(f, 3 * f, true)],
                    mix: dense(f, 2 * f, false),
                    update: [dense(2 * f, f, true), dense(f, 3 * f, true)],
                },
            };
            layers.push(layer);
        }
        let head = config.head.layers.windows(2).map(|pair| dense(pair[0], pair[1], true)).collect();
        let radial: Radial<T> = radial.cast();
        let declared = registered.pair().map_or(&[][..], |pair| pair.basis_parameters);
        let config_of =
            |edges_per_tile, channel_block| HostConfig { edges_per_task: 512, edges_per_tile, channel_block };
        Some(Self {
            features: f,
            layers,
            n_filters,
            head,
            epsilon: T::from_f64(config.epsilon),
            basis: declared.iter().map(|(name, _)| radial.basis[*name].clone()).collect(),
            radial,
            stages: registered.stages(),
            configs: [config_of(128, 32), config_of(32, 32), config_of(32, 16)],
            n_weights: at,
        })
    }

    /// Weights that it has.
    pub fn n_weights(&self) -> usize {
        self.n_weights
    }

    /// Weights of a step.
    ///
    /// # Panics
    /// Where there is another number of them.
    pub fn load<'a>(&self, values: &'a [T]) -> Loaded<'a, T> {
        assert_eq!(values.len(), self.n_weights);
        let channels = 3 * self.features;
        let filter = |layer: &LayerAt| {
            let (a, b) = values[layer.filter.clone()].split_at(layer.filter.len() - channels);
            let filter = Filter::Linear { a: a.to_vec(), b: b.to_vec() };
            let pack =
                |order: u8| PackedFilter::new(order, &filter, 3, self.features, &self.configs[usize::from(order)]);
            let packed = [0, 1, 2].map(pack);
            (filter, packed)
        };
        Loaded { values, filters: self.layers.iter().take(self.n_filters).map(filter).collect() }
    }

    fn call<'a>(
        &'a self,
        atoms: &'a Atoms<T>,
        (filter, packed): (&'a Filter<T>, &'a PackedFilter<T>),
        nodes: &'a [T],
        vectors: &'a [T],
    ) -> Call<'a, T> {
        Call {
            features: self.features,
            row_ptr: &atoms.row_ptr,
            sender: &atoms.sender,
            edge_vec: &atoms.edge_vec,
            nodes,
            vectors,
            r_cut: self.radial.r_cut,
            n_basis: self.radial.n_basis,
            basis: self.basis.iter().map(Vec::as_slice).collect(),
            cutoff: Vec::new(),
            filter,
            packed: Some(packed),
            order: Some(&atoms.order),
        }
    }

    /// The first backward of a message.
    fn message_backward(
        &self,
        atoms: &Atoms<T>,
        (filter, packed): (&Filter<T>, &[PackedFilter<T>; 3]),
        [nodes, vectors]: [&[T]; 2],
        [of_nodes, of_vectors]: [&[T]; 2],
        wanted: Wanted,
    ) -> Gradients<T> {
        let mut out = room(filter, [nodes, vectors, &atoms.edge_vec], wanted);
        let backward = backward(&atoms.senders, [of_nodes, of_vectors], wanted);
        let call = self.call(atoms, (filter, &packed[1]), nodes, vectors);
        self.stages.backward(&call, backward, &self.configs[1], &mut out);
        out
    }

    /// The loss of frames and its gradient in all weights.
    pub fn gradient(&self, loaded: &Loaded<'_, T>, frames: &[&Fitted], scales: &Scales) -> (Vec<T>, Terms) {
        let (w, f) = (loaded.values, self.features);
        let atoms = Atoms::<T>::new(frames);
        let n = atoms.species.len();
        let (zero, one) = (T::default(), T::from_f64(1.0));
        let filter_of = |l: usize| {
            let (filter, packed) = &loaded.filters[l.min(self.n_filters - 1)];
            (filter, packed)
        };

        // Energies.
        let mut q: Vec<T> = Vec::with_capacity(n * f);
        atoms.species.iter().for_each(|z| q.extend_from_slice(&w[z * f..][..f]));
        let mut mu = vec![zero; 3 * n * f];
        let mut kept: Vec<Kept<T>> = Vec::with_capacity(self.layers.len());
        for (l, layer) in self.layers.iter().enumerate() {
            let (silu, hidden) = Silu::new(layer.context[0].forward(w, &q));
            let nodes = layer.context[1].forward(w, &hidden);
            let mut out = Outputs { nodes: vec![zero; n * f], vectors: vec![zero; 3 * n * f] };
            let (filter, packed) = filter_of(l);
            self.stages.forward(&self.call(&atoms, (filter, &packed[0]), &nodes, &mu), &self.configs[0], &mut out);
            let q_between = sum(out.nodes, &q);
            let mu_between = sum(out.vectors, &mu);
            let mixed = layer.mix.linear(w, &mu_between);
            let (mut joined, mut inner) = (vec![zero; 2 * n * f], vec![zero; n * f]);
            for i in 0..n {
                let (left, norm) = joined[2 * i * f..][..2 * f].split_at_mut(f);
                left.copy_from_slice(&q_between[i * f..][..f]);
                norm.fill(self.epsilon);
                let inner = &mut inner[i * f..][..f];
                for (v, u) in vectors(&mixed, i, f) {
                    for c in 0..f {
                        norm[c] += v[c] * v[c];
                        inner[c] += v[c] * u[c];
                    }
                }
                norm.iter_mut().for_each(|x| *x = x.root());
            }
            let (update_silu, update_hidden) = Silu::new(layer.update[0].forward(w, &joined));
            let gates = layer.update[1].forward(w, &update_hidden);
            let (mut next_q, mut next_mu) = (q_between, mu_between.clone());
            for i in 0..n {
                let [scalar, vector, product] = thirds(&gates, i, f);
                let (q, inner) = (&mut next_q[i * f..][..f], &inner[i * f..][..f]);
                for c in 0..f {
                    q[c] += scalar[c] + product[c] * inner[c];
                }
                for (mu, (_, u)) in next_mu[3 * i * f..][..3 * f].chunks_exact_mut(f).zip(vectors(&mixed, i, f)) {
                    for c in 0..f {
                        mu[c] += vector[c] * u[c];
                    }
                }
            }
            let (q, mu) = (std::mem::replace(&mut q, next_q), std::mem::replace(&mut mu, next_mu));
            let (t, d) = (Cotangents::default(), Tangents::default());
            kept.push(Kept {
                q,
                mu,
                silu,
                hidden,
                nodes,
                mu_between,
                mixed,
                joined,
                update_silu,
                update_hidden,
                gates,
                inner,
                t,
                d,
            });
        }
        let (last, hidden) = self.head.split_last().expect("a head has a layer");
        let mut head: Vec<(Vec<T>, Silu<T>)> = Vec::new();
        let mut x = q;
        for dense in hidden {
            let (silu, next) = Silu::new(dense.forward(w, &x));
            head.push((std::mem::replace(&mut x, next), silu));
        }
        let energies = last.forward(w, &x);

        // Forces, and the cotangents of the energy's tangent.
        let row = last.weights(w);
        let mut t: Vec<T> = (0..n).flat_map(|_| row.iter().copied()).collect();
        // Before and after the slope of each hidden layer, the last first.
        let mut t_head: Vec<[Vec<T>; 2]> = Vec::new();
        for (dense, (_, silu)) in hidden.iter().zip(&head).rev() {
            let t_z = silu.slope(&t);
            let next = dense.backward(w, &t_z);
            t_head.push([std::mem::replace(&mut t, next), t_z]);
        }
        let (mut t_q, mut t_mu) = (t, vec![zero; 3 * n * f]);
        let mut edge_grad = vec![zero; atoms.edge_vec.len()];
        for (l, (layer, kept)) in self.layers.iter().zip(&mut kept).enumerate().rev() {
            let mut gates = vec![zero; 3 * n * f];
            for i in 0..n {
                let [scalar, vector, product] = thirds_mut(&mut gates, i, f);
                let (t_q, inner) = (&t_q[i * f..][..f], &kept.inner[i * f..][..f]);
                scalar.copy_from_slice(t_q);
                for c in 0..f {
                    product[c] = t_q[c] * inner[c];
                }
                for (t_mu, (_, u)) in t_mu[3 * i * f..][..3 * f].chunks_exact(f).zip(vectors(&kept.mixed, i, f)) {
                    for c in 0..f {
                        vector[c] += t_mu[c] * u[c];
                    }
                }
            }
            let update_hidden = layer.update[1].backward(w, &gates);
            let update_z = kept.update_silu.slope(&update_hidden);
            let joined = layer.update[0].backward(w, &update_z);
            let mut mixed = vec![zero; 6 * n * f];
            let mut q_between = t_q.clone();
            for i in 0..n {
                let [_, gate_vector, gate_product] = thirds(&kept.gates, i, f);
                let norm = &kept.joined[2 * i * f + f..][..f];
                let (of_q, of_norm) = joined[2 * i * f..][..2 * f].split_at(f);
                let own_q = &t_q[i * f..][..f];
                add(&mut q_between[i * f..][..f], of_q);
                let each = vectors(&kept.mixed, i, f).zip(t_mu[3 * i * f..][..3 * f].chunks_exact(f));
                for (((v, u), t_mu), out) in each.zip(mixed[6 * i * f..][..6 * f].chunks_exact_mut(2 * f)) {
                    let (t_v, t_u) = out.split_at_mut(f);
                    for c in 0..f {
                        let along = own_q[c] * gate_product[c];
                        t_v[c] = v[c] * of_norm[c] / norm[c] + u[c] * along;
                        t_u[c] = v[c] * along + t_mu[c] * gate_vector[c];
                    }
                }
            }
            let mu_between = sum(layer.mix.backward(w, &mixed), &t_mu);
            let wanted = Wanted { nodes: l > 0, edge_vec: true, filter: false };
            let (inputs, of) = ([&kept.nodes[..], &kept.mu[..]], [&q_between[..], &mu_between[..]]);
            let found = self.message_backward(&atoms, filter_of(l), inputs, of, wanted);
            add(&mut edge_grad, &found.edge_vec);
            let (mut hidden, mut z) = (Vec::new(), Vec::new());
            let (mut before_q, mut before_mu) = (q_between.clone(), mu_between.clone());
            if l > 0 {
                hidden = layer.context[1].backward(w, &found.nodes);
                z = kept.silu.slope(&hidden);
                add(&mut before_q, &layer.context[0].backward(w, &z));
                add(&mut before_mu, &found.vectors);
            }
            kept.t = Cotangents {
                q: std::mem::replace(&mut t_q, before_q),
                mu: std::mem::replace(&mut t_mu, before_mu),
                gates,
                update_hidden,
                update_z,
                joined,
                mixed,
                q_between,
                mu_between,
                nodes: found.nodes,
                hidden,
                z,
            };
        }

        // The loss, what it says of energies, and the direction that it gives to edges.
        let (terms, of_energies, direction) = loss(&atoms, frames, scales, &energies, &edge_grad);

        // Tangents.
        let (mut d_q, mut d_mu) = (vec![zero; n * f], vec![zero; 3 * n * f]);
        for (l, (layer, kept)) in self.layers.iter().zip(&mut kept).enumerate() {
            let (mut z, mut hidden, mut d_nodes) = (Vec::new(), Vec::new(), vec![zero; 3 * n * f]);
            if l > 0 {
                z = layer.context[0].linear(w, &d_q);
                hidden = kept.silu.slope(&z);
                d_nodes = layer.context[1].linear(w, &hidden);
            }
            let (filter, packed) = filter_of(l);
            let wanted = Wanted { nodes: true, edge_vec: false, filter: true };
            let mut out = DoubleGradients {
                grad: Outputs { nodes: vec![zero; n * f], vectors: vec![zero; 3 * n * f] },
                gradients: room(filter, [&kept.nodes, &kept.mu, &atoms.edge_vec], wanted),
            };
            let cotangents = [&kept.t.q_between[..], &kept.t.mu_between[..]];
            self.stages.double_backward(
                &self.call(&atoms, (filter, &packed[2]), &kept.nodes, &kept.mu),
                backward(&atoms.senders, cotangents, wanted),
                Direction { nodes: &d_nodes, vectors: &d_mu, edge_vec: &direction, filter: None },
                &self.configs[2],
                &mut out,
            );
            let DoubleGradients { grad, gradients } = out;
            let q_between = sum(grad.nodes, &d_q);
            let mu_between = sum(grad.vectors, &d_mu);
            let mixed = layer.mix.linear(w, &mu_between);
            let (mut joined, mut inner) = (vec![zero; 2 * n * f], vec![zero; n * f]);
            for i in 0..n {
                let (left, d_norm) = joined[2 * i * f..][..2 * f].split_at_mut(f);
                left.copy_from_slice(&q_between[i * f..][..f]);
                let inner = &mut inner[i * f..][..f];
                for ((v, u), (d_v, d_u)) in vectors(&kept.mixed, i, f).zip(vectors(&mixed, i, f)) {
                    for c in 0..f {
                        d_norm[c] += v[c] * d_v[c];
                        inner[c] += d_v[c] * u[c] + v[c] * d_u[c];
                    }
                }
                let norm = &kept.joined[2 * i * f + f..][..f];
                d_norm.iter_mut().zip(norm).for_each(|(d, norm)| *d = *d / *norm);
            }
            let update_z = layer.update[0].linear(w, &joined);
            let update_hidden = kept.update_silu.slope(&update_z);
            let gates = layer.update[1].linear(w, &update_hidden);
            let (mut next_q, mut next_mu) = (q_between, mu_between.clone());
            for i in 0..n {
                let [_, vector, product] = thirds(&kept.gates, i, f);
                let [d_scalar, d_vector, d_product] = thirds(&gates, i, f);
                let (own, d_own) = (&kept.inner[i * f..][..f], &inner[i * f..][..f]);
                let q = &mut next_q[i * f..][..f];
                for c in 0..f {
                    q[c] += d_scalar[c] + d_product[c] * own[c] + product[c] * d_own[c];
                }
                let each = vectors(&kept.mixed, i, f).zip(vectors(&mixed, i, f));
                for (mu, ((_, u), (_, d_u))) in next_mu[3 * i * f..][..3 * f].chunks_exact_mut(f).zip(each) {
                    for c in 0..f {
                        mu[c] += d_vector[c] * u[c] + vector[c] * d_u[c];
                    }
                }
            }
            d_mu = next_mu;
            kept.d = Tangents {
                q: std::mem::replace(&mut d_q, next_q),
                z,
                hidden,
                mu_between,
                mixed,
                joined,
                update_z,
                update_hidden,
                gates,
                inner,
                p_nodes: gradients.nodes,
                p_mu: gradients.vectors,
                p_filter: gradients.filter,
            };
        }
        // Inputs and pre-activations of each hidden layer.
        let mut d_head: Vec<[Vec<T>; 2]> = Vec::new();
        let mut d_x = d_q;
        for (dense, (_, silu)) in hidden.iter().zip(&head) {
            let z = dense.linear(w, &d_x);
            let next = silu.slope(&z);
            d_head.push([std::mem::replace(&mut d_x, next), z]);
        }

        // Gradients.
        let mut gradient = vec![zero; self.n_weights];
        last.gather(&mut gradient, &x, &of_energies, true);
        last.gather(&mut gradient, &d_x, &vec![one; n], false);
        let mut p = last.backward(w, &of_energies);
        let each = hidden.iter().zip(&head).zip(&d_head).rev().zip(&t_head);
        for (((dense, (input, silu)), [d_input, d_z]), [t, t_z]) in each {
            let p_z = silu.curve(&p, d_z, t);
            dense.gather(&mut gradient, input, &p_z, true);
            dense.gather(&mut gradient, d_input, t_z, false);
            p = dense.backward(w, &p_z);
        }
        let (mut p_q, mut p_mu) = (p, vec![zero; 3 * n * f]);
        for (l, (layer, kept)) in self.layers.iter().zip(&kept).enumerate().rev() {
            let (t, d) = (&kept.t, &kept.d);
            let mut gates = vec![zero; 3 * n * f];
            for i in 0..n {
                let [scalar, vector, product] = thirds_mut(&mut gates, i, f);
                let (p_q, t_q) = (&p_q[i * f..][..f], &t.q[i * f..][..f]);
                let (inner, d_inner) = (&kept.inner[i * f..][..f], &d.inner[i * f..][..f]);
                scalar.copy_from_slice(p_q);
                for c in 0..f {
                    product[c] = p_q[c] * inner[c] + t_q[c] * d_inner[c];
                }
                let (p_mu, t_mu) = (&p_mu[3 * i * f..][..3 * f], &t.mu[3 * i * f..][..3 * f]);
                let each = vectors(&kept.mixed, i, f).zip(vectors(&d.mixed, i, f));
                for ((p_mu, t_mu), ((_, u), (_, d_u))) in p_mu.chunks_exact(f).zip(t_mu.chunks_exact(f)).zip(each) {
                    for c in 0..f {
                        vector[c] += p_mu[c] * u[c] + t_mu[c] * d_u[c];
                    }
                }
            }
            layer.update[1].gather(&mut gradient, &kept.update_hidden, &gates, true);
            layer.update[1].gather(&mut gradient, &d.update_hidden, &t.gates, false);
            let z = kept.update_silu.curve(&layer.update[1].backward(w, &gates), &d.update_z, &t.update_hidden);
            layer.update[0].gather(&mut gradient, &kept.joined, &z, true);
            layer.update[0].gather(&mut gradient, &d.joined, &t.update_z, false);
            let joined = layer.update[0].backward(w, &z);
            let mut mixed = vec![zero; 6 * n * f];
            let mut q_between = p_q.clone();
            for i in 0..n {
                let [_, vector, product] = thirds(&kept.gates, i, f);
                let [_, d_vector, d_product] = thirds(&d.gates, i, f);
                let (norm, d_norm) = (&kept.joined[2 * i * f + f..][..f], &d.joined[2 * i * f + f..][..f]);
                let (of_q, p_norm) = joined[2 * i * f..][..2 * f].split_at(f);
                let t_norm = &t.joined[2 * i * f + f..][..f];
                let (own_q, t_q) = (&p_q[i * f..][..f], &t.q[i * f..][..f]);
                add(&mut q_between[i * f..][..f], of_q);
                let own = p_mu[3 * i * f..][..3 * f].chunks_exact(f).zip(t.mu[3 * i * f..][..3 * f].chunks_exact(f));
                let each = vectors(&kept.mixed, i, f).zip(vectors(&d.mixed, i, f)).zip(own);
                for ((((v, u), (d_v, d_u)), (p_mu, t_mu)), out) in
                    each.zip(mixed[6 * i * f..][..6 * f].chunks_exact_mut(2 * f))
                {
                    let (p_v, p_u) = out.split_at_mut(f);
                    for c in 0..f {
                        let along = own_q[c] * product[c] + t_q[c] * d_product[c];
                        let t_along = t_q[c] * product[c];
                        let of_norm = p_norm[c] * v[c] + t_norm[c] * (d_v[c] - d_norm[c] * v[c] / norm[c]);
                        p_v[c] = of_norm / norm[c] + along * u[c] + t_along * d_u[c];
                        p_u[c] = along * v[c] + t_along * d_v[c] + p_mu[c] * vector[c] + t_mu[c] * d_vector[c];
                    }
                }
            }
            layer.mix.gather(&mut gradient, &kept.mu_between, &mixed, true);
            layer.mix.gather(&mut gradient, &d.mu_between, &t.mixed, false);
            let mu_between = sum(layer.mix.backward(w, &mixed), &p_mu);
            let wanted = Wanted { nodes: true, edge_vec: false, filter: true };
            let (inputs, of) = ([&kept.nodes[..], &kept.mu[..]], [&q_between[..], &mu_between[..]]);
            let found = self.message_backward(&atoms, filter_of(l), inputs, of, wanted);
            let own = &mut gradient[layer.filter.clone()];
            for filter in [&found.filter, &d.p_filter].into_iter().flatten() {
                if let Filter::Linear { a, b } = filter {
                    let (own_a, own_b) = own.split_at_mut(a.len());
                    add(own_a, a);
                    add(own_b, b);
                }
            }
            let nodes = sum(found.nodes, &d.p_nodes);
            layer.context[1].gather(&mut gradient, &kept.hidden, &nodes, true);
            let hidden = layer.context[1].backward(w, &nodes);
            // Nothing has moved before the first layer.
            let z = if l > 0 {
                layer.context[1].gather(&mut gradient, &d.hidden, &t.nodes, false);
                kept.silu.curve(&hidden, &d.z, &t.hidden)
            } else {
                kept.silu.slope(&hidden)
            };
            layer.context[0].gather(&mut gradient, &kept.q, &z, true);
            if l > 0 {
                layer.context[0].gather(&mut gradient, &d.q, &t.z, false);
            }
            p_q = sum(layer.context[0].backward(w, &z), &q_between);
            p_mu = sum(sum(mu_between, &found.vectors), &d.p_mu);
        }
        for (z, row) in atoms.species.iter().zip(p_q.chunks_exact(f)) {
            add(&mut gradient[z * f..][..f], row);
        }
        (gradient, terms)
    }
}

/// (V, U) of the three components of an atom in `mixed` [3N, 2F].
fn vectors<T>(mixed: &[T], atom: usize, f: usize) -> impl Iterator<Item = (&[T], &[T])> {
    mixed[6 * atom * f..][..6 * f].chunks_exact(2 * f).map(move |row| row.split_at(f))
}

/// The gates of an atom in [N, 3F].
fn thirds<T>(gates: &[T], atom: usize, f: usize) -> [&[T]; 3] {
    let row = &gates[3 * atom * f..][..3 * f];
    [&row[..f], &row[f..2 * f], &row[2 * f..]]
}

fn thirds_mut<T>(gates: &mut [T], atom: usize, f: usize) -> [&mut [T]; 3] {
    let (first, rest) = gates[3 * atom * f..][..3 * f].split_at_mut(f);
    let (second, third) = rest.split_at_mut(f);
    [first, second, third]
}

/// Room for the gradients that are wanted, in nodes, vectors and edge vectors like these.
fn room<T: Real>(filter: &Filter<T>, like: [&[T]; 3], wanted: Wanted) -> Gradients<T> {
    let zeros = |wanted: bool, like: &[T]| vec![T::default(); if wanted { like.len() } else { 0 }];
    Gradients {
        nodes: zeros(wanted.nodes, like[0]),
        vectors: zeros(wanted.nodes, like[1]),
        edge_vec: zeros(wanted.edge_vec, like[2]),
        filter: wanted.filter.then(|| filter.map(|_| T::default())),
    }
}

fn backward<'a, T>(senders: &'a SenderList, [nodes, vectors]: [&'a [T]; 2], wanted: Wanted) -> Backward<'a, T> {
    let SenderList { sender_ptr, transpose, receiver } = senders;
    Backward { sender_ptr, transpose, receiver, nodes, vectors, wanted }
}

/// The loss's terms, its gradient in the energy of each atom [N], and the direction of edges [n_edges, 3] in which the energy's
/// derivative has the gradient that forces and strain give.
fn loss<T: Real>(
    atoms: &Atoms<T>,
    frames: &[&Fitted],
    scales: &Scales,
    energies: &[T],
    edge_grad: &[T],
) -> (Terms, Vec<T>, Vec<T>) {
    let mut terms = [0.0; 3];
    let mut of_energies = vec![T::default(); energies.len()];
    let mut direction = vec![T::default(); edge_grad.len()];
    for ((frame, own), edges) in frames.iter().zip(&atoms.frames).zip(&atoms.edges) {
        let n = own.len().max(1) as f64;
        if let Some(label) = frame.energy() {
            let energy: f64 = energies[own.clone()].iter().map(|e| -> f64 { (*e).into() }).sum();
            let error = energy / n - label;
            terms[0] += scales.energy * error * error;
            of_energies[own.clone()].fill(T::from_f64(2.0 * scales.energy * error / n));
        }
        let ends = own.clone().flat_map(|i| atoms.row_ptr[i]..atoms.row_ptr[i + 1]).map(|edge| edge as usize);
        let (receiver, sender) = (&atoms.senders.receiver, &atoms.sender);
        let vector = |values: &[T], edge: usize| -> [f64; 3] { std::array::from_fn(|k| values[3 * edge + k].into()) };
        debug_assert_eq!(ends.clone().next().unwrap_or(edges.start), edges.start);
        if let Some(labels) = frame.forces().filter(|_| scales.forces > 0.0) {
            // −∂L/∂F of each atom.
            let mut moved: Vec<f64> = vec![0.0; 3 * own.len()];
            for edge in ends.clone() {
                let gradient = vector(edge_grad, edge);
                let [i, j] = [receiver[edge], sender[edge]].map(|atom| 3 * (atom as usize - own.start));
                for k in 0..3 {
                    moved[i + k] += gradient[k];
                    moved[j + k] -= gradient[k];
                }
            }
            for (force, label) in moved.iter_mut().zip(labels) {
                let error = *force - label;
                terms[1] += scales.forces * error * error;
                *force = -2.0 * scales.forces * error;
            }
            for edge in ends.clone() {
                let [i, j] = [receiver[edge], sender[edge]].map(|atom| 3 * (atom as usize - own.start));
                for k in 0..3 {
                    direction[3 * edge + k] += T::from_f64(moved[j + k] - moved[i + k]);
                }
            }
        }
        if let Some((label, per_volume)) = frame.stress().filter(|_| scales.stress > 0.0) {
            let mut strain = [[0.0; 3]; 3];
            for edge in edges.clone() {
                let (r, gradient) = (vector(&atoms.edge_vec, edge), vector(edge_grad, edge));
                for a in 0..3 {
                    for b in 0..3 {
                        // Only its symmetric part is a stress.
                        strain[a][b] += 0.5 * (r[a] * gradient[b] + r[b] * gradient[a]);
                    }
                }
            }
            let errors: [[f64; 3]; 3] =
                std::array::from_fn(|a| std::array::from_fn(|b| strain[a][b] * per_volume - label[a][b]));
            terms[2] += errors.as_flattened().iter().map(|e| scales.stress * e * e).sum::<f64>();
            for edge in edges.clone() {
                let r = vector(&atoms.edge_vec, edge);
                for b in 0..3 {
                    let along: f64 = (0..3).map(|a| r[a] * 0.5 * (errors[a][b] + errors[b][a])).sum();
                    direction[3 * edge + b] += T::from_f64(2.0 * scales.stress * per_volume * along);
                }
            }
        }
    }
    (terms, of_energies, direction)
}
