//! What an evaluation does, step by step, counted from sizes alone: shapes, FLOPs and bytes.
//!
//! Steps stand in the order in which the host runs them. A sum, a product, a quotient and a root are 1 FLOP each, a fused
//! multiply-add is 2, a value of an activation is [`ELEMENTARY`], and its slope times a gradient one more than that. Bytes are those
//! of tensors of the workspace and of weights, each read or written once by a step; what a block keeps in its thread's cache
//! between the steps of one part counts nothing.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, Mul};

use ff_spec::cell_list::{List, compulsory_bytes};
use ff_spec::fused_message::{FilterKind, Message, Reduction, Variant, backward_cost, cost};
use ff_spec::{Dtype, ELEMENTARY, Problem, force_scatter};
use serde::Serialize;

use crate::config::{Config, Kind};
use crate::host::{Part, TABLE_ORDER};

/// A quantity that grows with atoms and directed edges: a + b·N + c·E.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Count {
    /// However many atoms there are: weights, for one.
    pub fixed: u64,
    /// Per atom.
    pub per_atom: u64,
    /// Per directed edge.
    pub per_edge: u64,
}

impl Count {
    /// Of nothing but atoms.
    pub const fn atoms(per_atom: u64) -> Self {
        Self { fixed: 0, per_atom, per_edge: 0 }
    }

    /// For so many atoms and directed edges.
    pub fn at(self, atoms: u64, edges: u64) -> u64 {
        self.fixed + self.per_atom * atoms + self.per_edge * edges
    }

    /// Of a function that is one of atoms and edges.
    fn of(count: impl Fn(u64, u64) -> u64) -> Self {
        let fixed = count(0, 0);
        Self { fixed, per_atom: count(1, 0) - fixed, per_edge: count(0, 1) - fixed }
    }
}

impl Add for Count {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            fixed: self.fixed + other.fixed,
            per_atom: self.per_atom + other.per_atom,
            per_edge: self.per_edge + other.per_edge,
        }
    }
}

impl Mul<u64> for Count {
    type Output = Self;

    fn mul(self, factor: u64) -> Self {
        Self { fixed: self.fixed * factor, per_atom: self.per_atom * factor, per_edge: self.per_edge * factor }
    }
}

impl Sum for Count {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), Add::add)
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { fixed, per_atom, per_edge } = *self;
        let terms: Vec<String> = [(fixed, ""), (per_atom, " N"), (per_edge, " E")]
            .into_iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, of)| format!("{count}{of}"))
            .collect();
        if terms.is_empty() { f.pad("0") } else { f.pad(&terms.join(" + ")) }
    }
}

/// One kernel of an evaluation.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Step {
    /// The part that it belongs to.
    #[serde(serialize_with = "named")]
    pub part: Part,
    /// The interaction; 0 for parts that no interaction has.
    pub layer: usize,
    /// What computes it.
    pub kernel: &'static str,
    /// Of its tensors, for N atoms and E edges.
    pub shape: String,
    /// Whether forces need it and energies do not.
    pub for_forces: bool,
    /// FLOPs.
    pub flops: Count,
    /// Bytes that have to move.
    pub bytes: Count,
}

fn named<S: serde::Serializer>(part: &Part, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(part.name())
}

/// The steps of a part of a layer together.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct PartCount {
    /// The part.
    #[serde(serialize_with = "named")]
    pub part: Part,
    /// The interaction; 0 for parts that no interaction has.
    pub layer: usize,
    /// FLOPs.
    pub flops: Count,
    /// Bytes that have to move.
    pub bytes: Count,
}

/// All steps of an evaluation of a model, in order.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plan {
    /// The element type.
    pub dtype: Dtype,
    /// The steps.
    pub steps: Vec<Step>,
}

impl Plan {
    /// Of energies and forces, for one system of any size.
    pub fn new(config: &Config, dtype: Dtype) -> Self {
        let filter = match config.kind {
            Kind::Painn => FilterKind::Linear,
            Kind::Schnet => FilterKind::Mlp,
        };
        Self::with(config, filter, dtype)
    }

    /// As [`Plan::new`], with filters as tables.
    pub fn tabulated(config: &Config, dtype: Dtype) -> Self {
        Self::with(config, FilterKind::Tabulated, dtype)
    }

    fn with(config: &Config, filter: FilterKind, dtype: Dtype) -> Self {
        let (part, layer, for_forces, steps) = (Part::Neighbors, 0, false, Vec::new());
        let mut plan = Builder { config, filter, dtype, part, layer, for_forces, steps };
        plan.all();
        Self { dtype, steps: plan.steps }
    }

    /// The steps that energies alone need, or also forces.
    pub fn steps(&self, forces: bool) -> impl Iterator<Item = &Step> {
        self.steps.iter().filter(move |step| forces || !step.for_forces)
    }

    /// FLOPs and bytes of all steps.
    pub fn total(&self, forces: bool) -> (Count, Count) {
        (self.steps(forces).map(|step| step.flops).sum(), self.steps(forces).map(|step| step.bytes).sum())
    }

    /// Parts of layers in the order in which they begin.
    pub fn parts(&self, forces: bool) -> Vec<PartCount> {
        let mut parts: Vec<PartCount> = Vec::new();
        for Step { part, layer, flops, bytes, .. } in self.steps(forces) {
            match parts.iter_mut().find(|known| (known.part, known.layer) == (*part, *layer)) {
                Some(known) => (known.flops, known.bytes) = (known.flops + *flops, known.bytes + *bytes),
                None => parts.push(PartCount { part: *part, layer: *layer, flops: *flops, bytes: *bytes }),
            }
        }
        parts
    }
}

/// A dense layer with what it moves apart from its weights.
struct DenseStep {
    /// Rows for each atom.
    rows: u64,
    inputs: u64,
    outputs: u64,
    bias: bool,
    /// Elements per atom that it reads from the workspace and writes to it.
    moved: u64,
}

struct Builder<'a> {
    config: &'a Config,
    filter: FilterKind,
    dtype: Dtype,
    part: Part,
    layer: usize,
    for_forces: bool,
    steps: Vec<Step>,
}

impl Builder<'_> {
    fn size(&self) -> u64 {
        self.dtype.size() as u64
    }

    fn begin(&mut self, part: Part, layer: usize) {
        (self.part, self.layer) = (part, layer);
    }

    fn push(&mut self, kernel: &'static str, shape: String, flops: Count, bytes: Count) {
        let Self { part, layer, for_forces, .. } = *self;
        self.steps.push(Step { part, layer, kernel, shape, for_forces, flops, bytes });
    }

    /// A step on the rows of atoms, in elements.
    fn rows(&mut self, kernel: &'static str, shape: String, flops: u64, moved: u64) {
        let bytes = Count::atoms(moved * self.size());
        self.push(kernel, shape, Count::atoms(flops), bytes);
    }

    fn dense(&mut self, DenseStep { rows, inputs, outputs, bias, moved }: DenseStep) {
        let weights = inputs * outputs + if bias { outputs } else { 0 };
        let shape = format!("{} → [{outputs}]", of_rows(rows, inputs));
        let bytes = Count { fixed: weights * self.size(), per_atom: moved * self.size(), per_edge: 0 };
        self.push("dense", shape, Count::atoms(rows * 2 * inputs * outputs), bytes);
    }

    /// Gradients in the inputs of a dense layer; `added` to what is there.
    fn dense_backward(&mut self, DenseStep { rows, inputs, outputs, moved, .. }: DenseStep, added: bool) {
        let shape = format!("{} → [{inputs}]", of_rows(rows, outputs));
        let sums = if added { rows * inputs } else { 0 };
        let bytes = Count { fixed: inputs * outputs * self.size(), per_atom: moved * self.size(), per_edge: 0 };
        self.push("dense backward", shape, Count::atoms(rows * 2 * inputs * outputs + sums), bytes);
    }

    fn activation(&mut self, width: u64) {
        self.rows("activation", of_rows(1, width), ELEMENTARY * width, 0);
    }

    fn activation_backward(&mut self, width: u64) {
        self.rows("activation backward", of_rows(1, width), (ELEMENTARY + 1) * width, width);
    }

    fn all(&mut self) {
        let (f, layers) = (self.config.features as u64, self.config.layers);
        let problem = |n_atoms, n_edges| Problem { n_atoms, n_edges, n_systems: 1, ..Problem::default() };
        let list = Count::of(|n, e| compulsory_bytes(List::Full, &problem(n, e), Dtype::F64));
        // Edge vectors are rounded to the element type.
        let rounded = Count { fixed: 0, per_atom: 0, per_edge: 3 * (8 + self.size()) };
        self.push("cell_list", "[N, 3] → [E, 3]".to_owned(), Count::default(), list + rounded);
        self.begin(Part::Embedding, 0);
        self.rows("embedding", of_rows(1, f), 0, 2 * f);
        for layer in 0..layers {
            if layer > 0 {
                self.update(layer - 1);
            }
            self.context(layer);
            self.message(layer);
        }
        self.update(layers - 1);
        self.begin(Part::Readout, 0);
        self.readout();
        self.for_forces = true;
        self.readout_backward();
        self.update_backward(layers - 1);
        for layer in (0..layers).rev() {
            if layer + 1 < layers {
                self.context_backward(layer + 1);
                self.update_backward(layer);
            }
            self.message_backward(layer);
        }
        self.begin(Part::Forces, 0);
        let size = self.dtype;
        let flops = Count::of(|n, e| force_scatter::cost(0, &problem(n, e), size).flops);
        let bytes = Count::of(|n, e| force_scatter::cost(0, &problem(n, e), size).compulsory_bytes);
        self.push("force_scatter", "[E, 3] → [N, 3] and [3, 3]".to_owned(), flops, bytes);
    }

    fn context(&mut self, layer: usize) {
        self.begin(Part::Context, layer);
        let (f, n) = (self.config.features as u64, self.config.filters as u64);
        match self.config.kind {
            Kind::Painn => {
                self.dense(DenseStep { rows: 1, inputs: f, outputs: f, bias: true, moved: 2 * f });
                self.activation(f);
                self.dense(DenseStep { rows: 1, inputs: f, outputs: 3 * f, bias: true, moved: 3 * f });
            }
            Kind::Schnet => self.dense(DenseStep { rows: 1, inputs: f, outputs: n, bias: false, moved: f + n }),
        }
    }

    fn context_backward(&mut self, layer: usize) {
        self.begin(Part::ContextBackward, layer);
        let (f, n) = (self.config.features as u64, self.config.filters as u64);
        match self.config.kind {
            Kind::Painn => {
                let second = DenseStep { rows: 1, inputs: f, outputs: 3 * f, bias: true, moved: 3 * f };
                self.dense_backward(second, false);
                self.activation_backward(f);
                let first = DenseStep { rows: 1, inputs: f, outputs: f, bias: true, moved: 2 * f };
                self.dense_backward(first, true);
            }
            Kind::Schnet => {
                let only = DenseStep { rows: 1, inputs: f, outputs: n, bias: false, moved: n + 2 * f };
                self.dense_backward(only, true);
            }
        }
    }

    /// The message of the interactions as `fused_message` counts it: sizes of a call, and its variant.
    fn call(&self) -> (Variant, impl Fn(u64, u64) -> Problem + use<>) {
        let (filters, filter) = (self.config.filters, self.filter);
        let n_basis = self.inputs();
        let variant = Variant { message: self.config.message(), filter, radial: None, reduction: Reduction::Receiver };
        let hidden = if filter == FilterKind::Mlp { filters as u32 } else { 0 };
        let problem = move |n_atoms, n_edges| Problem {
            n_atoms,
            n_edges,
            features: filters as u32,
            n_basis: n_basis as u32,
            hidden,
            ..Problem::default()
        };
        (variant, problem)
    }

    /// What a filter is a function of, per edge.
    fn inputs(&self) -> usize {
        match self.filter {
            FilterKind::Tabulated => 2 * TABLE_ORDER,
            FilterKind::Linear | FilterKind::Mlp => self.config.n_basis,
        }
    }

    fn message_shape(&self) -> String {
        let (parts, n, k) = (self.config.parts(), self.config.filters, self.inputs());
        format!("[N, {}], [E, {k}] → [E, {}] → [N, {n}{}]", parts * n, parts * n, if parts > 1 { " × 4" } else { "" })
    }

    fn message(&mut self, layer: usize) {
        self.begin(Part::Message, layer);
        let ((variant, problem), dtype) = (self.call(), self.dtype);
        let flops = Count::of(|n, e| cost(&variant, &problem(n, e), dtype).flops);
        let bytes = Count::of(|n, e| cost(&variant, &problem(n, e), dtype).compulsory_bytes);
        self.push("fused_message", self.message_shape(), flops, bytes);
        let n = self.config.filters as u64;
        match (variant.message, layer) {
            // Into q and, where there are vectors already, into μ.
            (Message::Painn, 0) => self.rows("add", of_rows(4, n), n, 2 * n + n + 6 * n),
            (Message::Painn, _) => self.rows("add", of_rows(4, n), 4 * n, 2 * n + n + 9 * n),
            (Message::Cfconv, _) => self.rows("copy", of_rows(1, n), 0, 2 * n),
        }
    }

    fn message_backward(&mut self, layer: usize) {
        self.begin(Part::MessageBackward, layer);
        let ((variant, problem), dtype, size) = (self.call(), self.dtype, self.size());
        let (n, k, c) = (
            self.config.filters as u64,
            self.config.n_basis as u64,
            (self.config.parts() * self.config.filters) as u64,
        );
        // Of the first layer nobody wants gradients in features: per edge and feature μ̄ and s̄ (7 + 6), or x̄ (2).
        let (node, unwanted) = match variant.message {
            Message::Painn => (6 * n, 13 * n),
            Message::Cfconv => (n, 2 * n),
        };
        let trained = match variant.filter {
            FilterKind::Mlp => k * n + n + n * c + c,
            FilterKind::Linear => k * c + c,
            FilterKind::Tabulated => 0,
        };
        let first = u64::from(layer == 0);
        let flops = Count::of(|n, e| {
            let counted = backward_cost(&variant, &problem(n, e), dtype);
            counted.flops - counted.weight_flops - first * e * unwanted
        });
        let bytes = Count::of(|n, e| {
            backward_cost(&variant, &problem(n, e), dtype).compulsory_bytes - size * (trained + first * n * node)
        });
        self.push("fused_message backward", self.message_shape(), flops, bytes);
        let edges = Count { fixed: 0, per_atom: 0, per_edge: 9 * size };
        self.push("add", "[E, 3]".to_owned(), Count { fixed: 0, per_atom: 0, per_edge: 3 }, edges);
        if layer > 0 {
            match variant.message {
                Message::Painn => self.rows("add", of_rows(6, n), 3 * n, 6 * n + 9 * n),
                Message::Cfconv => self.rows("copy", of_rows(1, n), 0, 2 * n),
            }
        }
    }

    fn update(&mut self, layer: usize) {
        self.begin(Part::Update, layer);
        let (f, n) = (self.config.features as u64, self.config.filters as u64);
        if self.config.kind == Kind::Schnet {
            self.dense(DenseStep { rows: 1, inputs: n, outputs: f, bias: true, moved: n + f });
            self.activation(f);
            self.dense(DenseStep { rows: 1, inputs: f, outputs: f, bias: true, moved: 2 * f });
            return;
        }
        let (width, vectors) = self.update_width(layer);
        self.dense(DenseStep { rows: 3, inputs: f, outputs: 2 * f, bias: false, moved: 9 * f });
        // Three FMAs and a root.
        self.rows("norm", of_rows(3, f), 7 * f, 2 * f);
        self.dense(DenseStep { rows: 1, inputs: 2 * f, outputs: f, bias: true, moved: f });
        self.activation(f);
        self.dense(DenseStep { rows: 1, inputs: f, outputs: width, bias: true, moved: width });
        // V·U, then a sum and an FMA into q; three FMAs into μ.
        self.rows("update", of_rows(1 + 3 * vectors, f), (8 + 6 * vectors) * f, (1 + 3 * vectors) * f);
    }

    /// Outputs of PaiNN's update, and 1 where it updates vectors: after the last layer nothing reads them.
    fn update_width(&self, layer: usize) -> (u64, u64) {
        let vectors = u64::from(layer + 1 < self.config.layers);
        ((2 + vectors) * self.config.features as u64, vectors)
    }

    fn update_backward(&mut self, layer: usize) {
        self.begin(Part::UpdateBackward, layer);
        let (f, n) = (self.config.features as u64, self.config.filters as u64);
        if self.config.kind == Kind::Schnet {
            self.dense_backward(DenseStep { rows: 1, inputs: f, outputs: f, bias: true, moved: f }, false);
            self.activation_backward(f);
            self.dense_backward(DenseStep { rows: 1, inputs: n, outputs: f, bias: true, moved: n }, false);
            return;
        }
        let (width, vectors) = self.update_width(layer);
        // V·U times q̄; U·μ̄.
        self.rows("update backward", of_rows(1 + 3 * vectors, f), (6 + 5 * vectors) * f, (7 + 3 * vectors) * f);
        self.dense_backward(DenseStep { rows: 1, inputs: f, outputs: width, bias: true, moved: 0 }, false);
        self.activation_backward(f);
        self.dense_backward(DenseStep { rows: 1, inputs: 2 * f, outputs: f, bias: true, moved: 0 }, false);
        // q̄·a_qμ, a quotient by the norm; V̄ a product and an FMA, Ū a product, per axis; a sum into q̄; an FMA of μ̄ per axis.
        self.rows("norm backward", of_rows(6, f), (15 + 6 * vectors) * f, width + 2 * f);
        let mix = DenseStep { rows: 3, inputs: f, outputs: 2 * f, bias: false, moved: 3 * f };
        self.dense_backward(mix, vectors == 1);
    }

    fn head(&self) -> Vec<[u64; 2]> {
        self.config.head.layers.windows(2).map(|pair| [pair[0] as u64, pair[1] as u64]).collect()
    }

    fn readout(&mut self) {
        let head = self.head();
        for (k, [inputs, outputs]) in head.iter().copied().enumerate() {
            let read = if k == 0 { inputs } else { 0 };
            self.dense(DenseStep { rows: 1, inputs, outputs, bias: true, moved: read + outputs });
            if k + 1 < head.len() {
                self.activation(outputs);
            }
        }
    }

    fn readout_backward(&mut self) {
        for (k, [inputs, outputs]) in self.head().into_iter().enumerate().rev() {
            let written = if k == 0 { inputs } else { 0 };
            self.dense_backward(DenseStep { rows: 1, inputs, outputs, bias: true, moved: written }, false);
            if k > 0 {
                self.activation_backward(inputs);
            }
        }
    }
}

/// `[N, width]`, or `[N, rows, width]`.
fn of_rows(rows: u64, width: u64) -> String {
    if rows == 1 { format!("[N, {width}]") } else { format!("[N, {rows}, {width}]") }
}

#[cfg(test)]
mod tests {
    use ff_spec::fused_message::HERMITE_WEIGHT;

    use super::*;
    use crate::ModelFile;

    fn config(kind: &str, features: usize, layers: usize, basis: usize) -> Config {
        let mut file = ModelFile::default();
        for (key, value) in [
            ("model", kind.to_owned()),
            ("n_atom_basis", features.to_string()),
            ("n_interactions", layers.to_string()),
            ("n_rbf", basis.to_string()),
            ("cutoff", "5.0".to_owned()),
            ("head", format!(r#"{{"layers":[{features},1],"activation":"silu"}}"#)),
        ] {
            file.set(key, value);
        }
        file.config().expect("a config")
    }

    fn of(parts: &[PartCount], part: Part, layer: usize) -> PartCount {
        *parts.iter().find(|p| (p.part, p.layer) == (part, layer)).unwrap_or_else(|| panic!("no {part:?} {layer}"))
    }

    #[test]
    fn schnet_by_hand() {
        // F = N = 2, one layer, K = 3, f32.
        let plan = Plan::new(&config("schnet", 2, 1, 3), Dtype::F32);
        let parts = plan.parts(true);
        let context = of(&parts, Part::Context, 0);
        assert_eq!((context.flops, context.bytes), (Count::atoms(8), Count { fixed: 16, per_atom: 16, per_edge: 0 }));
        // An edge: 9 of geometry, 4 elementary, 3·2 FMAs, 2 elementary, 2·2 FMAs, 2 products; 2 FMAs of message.
        let message = of(&parts, Part::Message, 0);
        assert_eq!(message.flops, Count { fixed: 0, per_atom: 0, per_edge: 9 + 64 + 12 + 32 + 8 + 2 + 4 });
        // Weights 6 + 2 + 4 + 2 and a row of indices; x and y of an atom, its row, and a copy; an edge's vector and its sender.
        assert_eq!(message.bytes, Count { fixed: 14 * 4 + 4, per_atom: 4 * 4 + 4 + 4 * 4, per_edge: 12 + 4 });
        // Two dense layers of 2 × 2 and an activation.
        let update = of(&parts, Part::Update, 0);
        assert_eq!(update.flops, Count::atoms(8 + 32 + 8));
        assert_eq!(update.bytes, Count { fixed: 2 * 24, per_atom: (4 + 4) * 4, per_edge: 0 });
        // 2 → 1 and back.
        let readout = of(&parts, Part::Readout, 0);
        assert_eq!(readout.flops, Count::atoms(4 + 4));
        assert_eq!(readout.bytes, Count { fixed: (3 + 2) * 4, per_atom: (3 + 2) * 4, per_edge: 0 });
        assert_eq!(of(&plan.parts(false), Part::Readout, 0).flops, Count::atoms(4));
        // Geometry 9; twice 4 elementary, 6 + 4 FMAs and 2 elementary with a product each; 4C of f_c; dW 2, 2C, 3 of the vector;
        // no x̄ of the first layer; 3 sums of edge gradients.
        let backward = of(&parts, Part::MessageBackward, 0);
        let filter = 9 + 2 * 64 + 24 + 2 * 33 + 16 + 8;
        assert_eq!(backward.flops, Count { fixed: 0, per_atom: 0, per_edge: filter + (6 + 4 + 3) - 4 + 3 });
        assert_eq!(of(&parts, Part::Forces, 0).flops, Count { fixed: 0, per_atom: 0, per_edge: 24 });
        assert!(parts.iter().all(|part| part.part != Part::ContextBackward), "nothing reads x̄ of the first layer");
    }

    #[test]
    fn painn_by_hand() {
        // F = 1, two layers, K = 1, f64: every dense layer counts 2 FLOPs per weight.
        let plan = Plan::new(&config("painn", 1, 2, 1), Dtype::F64);
        let parts = plan.parts(true);
        assert_eq!(of(&parts, Part::Context, 1).flops, Count::atoms(2 + 16 + 6));
        assert_eq!(of(&parts, Part::Context, 1).bytes, Count { fixed: (2 + 6) * 8, per_atom: 5 * 8, per_edge: 0 });
        // 9 of geometry, 2 elementary, 3 FMAs, 3 products; 16 of message. Sums of q alone, then of μ too.
        for (layer, sums) in [(0, 1), (1, 4)] {
            let message = of(&parts, Part::Message, layer);
            assert_eq!(message.flops, Count { fixed: 0, per_atom: sums, per_edge: 9 + 32 + 6 + 3 + 16 });
        }
        // mix 3 · 2 · 2, norm 7, 2·2, silu 16, three outputs 6, update 8 + 6; without vectors 4 and 8.
        assert_eq!(of(&parts, Part::Update, 0).flops, Count::atoms(12 + 7 + 4 + 16 + 6 + 14));
        assert_eq!(of(&parts, Part::Update, 1).flops, Count::atoms(12 + 7 + 4 + 16 + 4 + 8));
        // 6 + 5, three outputs 6, slope 17, 4, norm 15 + 6, mix 12 + 3.
        assert_eq!(of(&parts, Part::UpdateBackward, 0).flops, Count::atoms(11 + 6 + 17 + 4 + 21 + 15));
        assert_eq!(of(&parts, Part::UpdateBackward, 1).flops, Count::atoms(6 + 4 + 17 + 4 + 15 + 12));
        assert_eq!(of(&parts, Part::ContextBackward, 1).flops, Count::atoms(6 + 17 + 2 + 1));
        let per_edge = |layer| of(&parts, Part::MessageBackward, layer).flops.per_edge;
        assert_eq!(per_edge(1) - per_edge(0), 13, "no μ̄ and no s̄ of the first layer");
    }

    #[test]
    fn tables_by_hand() {
        // Six weights of a quintic and an FMA of each per channel, in place of radial functions and a linear map.
        let config = config("painn", 1, 2, 1);
        let [exact, tables] = [Plan::new(&config, Dtype::F64), Plan::tabulated(&config, Dtype::F64)];
        let per_edge = |plan: &Plan, part| of(&plan.parts(true), part, 1).flops.per_edge;
        assert_eq!(per_edge(&tables, Part::Message), 9 + HERMITE_WEIGHT * 6 + 2 * 6 * 3 + 16);
        let filter = 2 * ELEMENTARY * 2 + 4 * 3 + 4 * 3;
        let (exact, tables) = (per_edge(&exact, Part::MessageBackward), per_edge(&tables, Part::MessageBackward));
        assert_eq!(tables - (2 * HERMITE_WEIGHT * 6 + 4 * 6 * 3), exact - filter);
    }

    #[test]
    fn steps_are_in_the_order_in_which_they_run() {
        for (kind, last) in [("painn", 1), ("schnet", 1)] {
            let plan = Plan::new(&config(kind, 4, 2, 5), Dtype::F32);
            let order: Vec<(Part, usize)> = plan.parts(true).iter().map(|part| (part.part, part.layer)).collect();
            assert_eq!(
                order,
                [
                    (Part::Neighbors, 0),
                    (Part::Embedding, 0),
                    (Part::Context, 0),
                    (Part::Message, 0),
                    (Part::Update, 0),
                    (Part::Context, last),
                    (Part::Message, last),
                    (Part::Update, last),
                    (Part::Readout, 0),
                    (Part::UpdateBackward, last),
                    (Part::MessageBackward, last),
                    (Part::ContextBackward, last),
                    (Part::UpdateBackward, 0),
                    (Part::MessageBackward, 0),
                    (Part::Forces, 0)
                ]
            );
            let (flops, bytes) = plan.total(true);
            let by_steps: u64 = plan.steps.iter().map(|step| step.flops.at(10, 30)).sum();
            assert_eq!(flops.at(10, 30), by_steps);
            assert!(bytes.per_atom > plan.total(false).1.per_atom);
        }
    }

    #[test]
    fn counts_are_shown_as_formulas() {
        assert_eq!(Count { fixed: 3, per_atom: 0, per_edge: 2 }.to_string(), "3 + 2 E");
        assert_eq!(Count::default().to_string(), "0");
        assert_eq!(Count { fixed: 1, per_atom: 2, per_edge: 3 }.at(10, 100), 321);
    }
}
