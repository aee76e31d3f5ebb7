//! The four passes of a gradient: energies, forces, tangents, gradients.

use ff_kernels::SenderList;
use ff_kernels::fused_message::HostElement;
use ff_kernels::fused_message::host::{Backward, Call, Direction, PackedFilter};
use ff_spec::fused_message::{DoubleGradients, Filter, Gradients, Outputs, Wanted};

use super::atoms::Atoms;
use super::dense::{add, sum};
use super::silu::Silu;
use super::{Direct, Loaded, Real};

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

/// What the passes of a hidden layer of the head leave: its inputs and pre-activations, their tangents, and the cotangents of
/// these.
struct HeadKept<T> {
    input: Vec<T>,
    silu: Silu<T>,
    /// Of the activations and of the pre-activations.
    t: [Vec<T>; 2],
    /// Of the inputs and of the pre-activations.
    d: [Vec<T>; 2],
}

/// Some frames, and what the passes over them have left so far.
pub(super) struct Passes<'a, T: HostElement> {
    direct: &'a Direct<T>,
    loaded: &'a Loaded<'a, T>,
    pub atoms: Atoms<T>,
    layers: Vec<Kept<T>>,
    head: Vec<HeadKept<T>>,
    /// What energies are linear in, and its tangent.
    last: [Vec<T>; 2],
    /// Energies of atoms, [N].
    pub energies: Vec<T>,
}

impl<'a, T: Real> Passes<'a, T> {
    /// The first: energies.
    pub fn energies(direct: &'a Direct<T>, loaded: &'a Loaded<'a, T>, atoms: Atoms<T>) -> Self {
        let (w, f, n, zero) = (loaded.values, direct.features, atoms.species.len(), T::default());
        let mut q: Vec<T> = Vec::with_capacity(n * f);
        atoms.species.iter().for_each(|z| q.extend_from_slice(&w[z * f..][..f]));
        let mut mu = vec![zero; 3 * n * f];
        let mut kept: Vec<Kept<T>> = Vec::with_capacity(direct.layers.len());
        for (l, layer) in direct.layers.iter().enumerate() {
            let (silu, hidden) = Silu::new(layer.context[0].forward(w, &q));
            let nodes = layer.context[1].forward(w, &hidden);
            let mut out = Outputs { nodes: vec![zero; n * f], vectors: vec![zero; 3 * n * f] };
            let (filter, packed) = loaded.filter(l);
            direct.stages.forward(
                &direct.call(&atoms, (filter, &packed[0]), &nodes, &mu),
                &direct.configs[0],
                &mut out,
            );
            let q_between = sum(out.nodes, &q);
            let mu_between = sum(out.vectors, &mu);
            let mixed = layer.mix.linear(w, &mu_between);
            let (mut joined, mut inner) = (vec![zero; 2 * n * f], vec![zero; n * f]);
            for i in 0..n {
                let (left, norm) = joined[2 * i * f..][..2 * f].split_at_mut(f);
                left.copy_from_slice(&q_between[i * f..][..f]);
                norm.fill(direct.epsilon);
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
        let (last, hidden) = direct.head.split_last().expect("a head has a layer");
        let mut head: Vec<HeadKept<T>> = Vec::new();
        let mut x = q;
        for dense in hidden {
            let (silu, next) = Silu::new(dense.forward(w, &x));
            let input = std::mem::replace(&mut x, next);
            head.push(HeadKept { input, silu, t: Default::default(), d: Default::default() });
        }
        let energies = last.forward(w, &x);
        Self { direct, loaded, atoms, layers: kept, head, last: [x, Vec::new()], energies }
    }

    /// Features of atoms that the head reads, [N, F].
    pub fn features(&self) -> &[T] {
        self.head.first().map_or(&self.last[0], |kept| &kept.input)
    }

    /// The second: gradients of the energy in edge vectors [n_edges, 3], and the cotangents of its tangent.
    pub fn forces(&mut self) -> Vec<T> {
        let Self { direct, loaded, atoms, layers, head, .. } = self;
        let (w, f, n, zero) = (loaded.values, direct.features, atoms.species.len(), T::default());
        let (last, hidden) = direct.head.split_last().expect("a head has a layer");
        let row = last.weights(w);
        let mut t: Vec<T> = (0..n).flat_map(|_| row.iter().copied()).collect();
        for (dense, kept) in hidden.iter().zip(head).rev() {
            let t_z = kept.silu.slope(&t);
            let next = dense.backward(w, &t_z);
            kept.t = [std::mem::replace(&mut t, next), t_z];
        }
        let (mut t_q, mut t_mu) = (t, vec![zero; 3 * n * f]);
        let mut edge_grad = vec![zero; atoms.edge_vec.len()];
        for (l, (layer, kept)) in direct.layers.iter().zip(layers).enumerate().rev() {
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
            let found = direct.message_backward(atoms, loaded.filter(l), inputs, of, wanted);
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
        edge_grad
    }

    /// The third: tangents as edge vectors move along `direction` [n_edges, 3].
    pub fn tangents(&mut self, direction: &[T]) {
        let Self { direct, loaded, atoms, layers, head, last, .. } = self;
        let (w, f, n, zero) = (loaded.values, direct.features, atoms.species.len(), T::default());
        let (mut d_q, mut d_mu) = (vec![zero; n * f], vec![zero; 3 * n * f]);
        for (l, (layer, kept)) in direct.layers.iter().zip(layers).enumerate() {
            let (mut z, mut hidden, mut d_nodes) = (Vec::new(), Vec::new(), vec![zero; 3 * n * f]);
            if l > 0 {
                z = layer.context[0].linear(w, &d_q);
                hidden = kept.silu.slope(&z);
                d_nodes = layer.context[1].linear(w, &hidden);
            }
            let (filter, packed) = loaded.filter(l);
            let wanted = Wanted { nodes: true, edge_vec: false, filter: true };
            let mut out = DoubleGradients {
                grad: Outputs { nodes: vec![zero; n * f], vectors: vec![zero; 3 * n * f] },
                gradients: room(filter, [&kept.nodes, &kept.mu, &atoms.edge_vec], wanted),
            };
            let cotangents = [&kept.t.q_between[..], &kept.t.mu_between[..]];
            direct.stages.double_backward(
                &direct.call(atoms, (filter, &packed[2]), &kept.nodes, &kept.mu),
                backward(&atoms.senders, cotangents, wanted),
                Direction { nodes: &d_nodes, vectors: &d_mu, edge_vec: direction, filter: None },
                &direct.configs[2],
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
        let mut d_x = d_q;
        for (dense, kept) in direct.head.iter().zip(head) {
            let z = dense.linear(w, &d_x);
            let next = kept.silu.slope(&z);
            kept.d = [std::mem::replace(&mut d_x, next), z];
        }
        last[1] = d_x;
    }

    /// The fourth: the gradient in all weights, from those in the energies of atoms [N] and, where there are any, in the features
    /// that the head reads [N, F].
    pub fn gradients(&self, of_energies: &[T], of_features: Option<&[T]>) -> Vec<T> {
        let Self { direct, loaded, atoms, layers, head, last: [x, d_x], .. } = self;
        let (w, f, n, zero) = (loaded.values, direct.features, atoms.species.len(), T::default());
        let (last, hidden) = direct.head.split_last().expect("a head has a layer");
        let mut gradient = vec![zero; direct.n_weights];
        last.gather(&mut gradient, x, of_energies, true);
        last.gather(&mut gradient, d_x, &vec![T::from_f64(1.0); n], false);
        let mut p = last.backward(w, of_energies);
        for (dense, kept) in hidden.iter().zip(head).rev() {
            let HeadKept { input, silu, t: [t, t_z], d: [d_input, d_z] } = kept;
            let p_z = silu.curve(&p, d_z, t);
            dense.gather(&mut gradient, input, &p_z, true);
            dense.gather(&mut gradient, d_input, t_z, false);
            p = dense.backward(w, &p_z);
        }
        if let Some(of_features) = of_features {
            add(&mut p, of_features);
        }
        let (mut p_q, mut p_mu) = (p, vec![zero; 3 * n * f]);
        for (l, (layer, kept)) in direct.layers.iter().zip(layers).enumerate().rev() {
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
            let found = direct.message_backward(atoms, loaded.filter(l), inputs, of, wanted);
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
        gradient
    }
}

impl<T: Real> Direct<T> {
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
