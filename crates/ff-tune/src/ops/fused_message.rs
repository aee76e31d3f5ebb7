//! `fused_message`: a large problem is compared on some of its rows. The gradients of its first backward need the edges alone whose
//! receivers have cotangents, which whoever makes a large problem keeps few, so the oracle knows all of them.

use std::collections::BTreeSet;

use ff_reference::Oracle;
use ff_reference::fused_message::{double_backward, forward};
use ff_spec::fused_message::{DoubleBackwardInputs, DoubleGradients, Filter, Gradients, Inputs, OP, Outputs, Variant};
use ff_spec::{Dtype, FusedMessage, FusedMessageBackward, FusedMessageDoubleBackward, Op, Problem};
use ff_tables::gate_tolerance;
use ff_testkit::fused_message::rounded;
use ff_testkit::sampling::placed;
use ff_testkit::tensors::ByTensors;
use ff_testkit::tolerance::norm;

use super::BuiltIn;
use crate::op::{Rows, Tuned, known_whole, tensor_bytes};
use crate::space::Part;

/// Its spaces are told apart by reduction.
pub(super) const SPACES: BuiltIn = BuiltIn {
    op: OP,
    key: "reduction",
    names: &["receiver", "edge_atomic"],
    file: include_str!("../../../../autotune/spaces/fused_message.toml"),
    name: |id| id.parse::<Variant>().ok().map(|variant| variant.reduction.name()),
};

impl Tuned for FusedMessage {
    /// The sum and the sum of magnitudes of every row: configurations round in different orders.
    type Trace = Vec<[f64; 2]>;

    fn part(variant: &Variant) -> Part {
        SPACES.part(variant.reduction.name())
    }

    fn sizes(name: &str, inputs: &Inputs<f64>) -> Problem {
        inputs.problem(name)
    }

    fn launch_bytes(inputs: &Inputs<f64>, dtype: Dtype) -> u64 {
        let tensors: usize = inputs.tensors().iter().map(|(_, _, values)| values.len()).sum();
        let outputs = inputs.n_atoms * inputs.features + inputs.vectors.len();
        let indices = (inputs.n_atoms + inputs.n_edges()) * size_of::<u32>();
        ((tensors + outputs) * dtype.size() + indices) as u64
    }

    fn reference(
        variant: &Variant,
        inputs: &Inputs<f64>,
        dtype: Dtype,
        work: usize,
    ) -> Result<(Oracle<Outputs<f64>>, Option<Rows>), String> {
        let mut inputs = rounded(inputs, dtype);
        let rows = message_rows(&inputs, work);
        if let Some(rows) = &rows {
            rows.keep(&mut inputs.row_ptr, &mut inputs.sender, &mut inputs.edge_vec);
        }
        let oracle = forward(variant, &inputs).map_err(|e| e.to_string())?;
        let Some(rows) = rows else { return Ok((oracle, None)) };
        let Oracle { outputs, magnitude } = oracle;
        Ok((Oracle { outputs: gather(&outputs, &rows), magnitude: gather(&magnitude, &rows) }, Some(rows)))
    }

    fn sampled(outputs: Outputs<f64>, rows: &Rows) -> (Outputs<f64>, Self::Trace) {
        let mut sampled = gather(&outputs, rows);
        let all = || outputs.nodes.iter().chain(&outputs.vectors);
        let poisoned = all().all(|v| v.is_nan());
        if !poisoned && all().any(|v| !v.is_finite()) {
            sampled.nodes.fill(f64::NAN);
        }
        (sampled, row_sums(&outputs, rows.n_atoms))
    }

    /// In the norm over all rows.
    fn alike(found: &Self::Trace, expected: &Self::Trace, dtype: Dtype) -> Result<(), String> {
        compare_sums(found, expected, gate_tolerance(dtype, Self::ORDER))
    }
}

known_whole! {
    SPACES;
    FusedMessageBackward: all => all.inputs;
}

impl Tuned for FusedMessageDoubleBackward {
    /// As of the forward, of the gradients in the cotangents. All others are known.
    type Trace = Vec<[f64; 2]>;

    fn part(variant: &Variant) -> Part {
        FusedMessage::part(variant)
    }

    fn sizes(name: &str, inputs: &DoubleBackwardInputs<f64>) -> Problem {
        FusedMessage::sizes(name, &inputs.inputs)
    }

    fn launch_bytes(inputs: &DoubleBackwardInputs<f64>, dtype: Dtype) -> u64 {
        let indices = (inputs.inputs.n_atoms + 3 * inputs.inputs.n_edges()) * size_of::<u32>();
        tensor_bytes::<Self>(inputs, dtype) + indices as u64
    }

    /// Of the gradients in the cotangents of all rows or of some, among them all that have cotangents, on whose edges alone
    /// the other gradients depend.
    fn reference(
        variant: &Variant,
        inputs: &DoubleBackwardInputs<f64>,
        dtype: Dtype,
        work: usize,
    ) -> Result<(Oracle<DoubleGradients<f64>>, Option<Rows>), String> {
        let mut part = Self::rounded(inputs, dtype);
        let Some(mut rows) = message_rows(&part.inputs, work) else {
            return Ok((double_backward(variant, &part).map_err(|e| e.to_string())?, None));
        };
        let given = rows_with_cotangents(&part.inputs, &part.grad);
        rows.sampled = rows.sampled.into_iter().chain(given).collect::<BTreeSet<_>>().into_iter().collect();
        let places = rows.places(&part.inputs.row_ptr);
        let list = &mut part.inputs;
        rows.keep(&mut list.row_ptr, &mut list.sender, &mut list.edge_vec);
        part.tangent.edge_vec = places.iter().map(|at| inputs.tangent.edge_vec[*at]).collect();
        // Numbers that were rounded already stay as they are.
        let part = Self::rounded(&part, dtype);
        let oracle = double_backward(variant, &part).map_err(|e| e.to_string())?;
        let whole = |DoubleGradients { grad, gradients }: DoubleGradients<f64>| {
            let edge_vec = placed(&gradients.edge_vec, &places, inputs.inputs.edge_vec.len());
            DoubleGradients { grad: gather(&grad, &rows), gradients: Gradients { edge_vec, ..gradients } }
        };
        Ok((Oracle { outputs: whole(oracle.outputs), magnitude: whole(oracle.magnitude) }, Some(rows)))
    }

    fn sampled(mut outputs: DoubleGradients<f64>, rows: &Rows) -> (DoubleGradients<f64>, Self::Trace) {
        let (grad, trace) = FusedMessage::sampled(outputs.grad, rows);
        outputs.grad = grad;
        (outputs, trace)
    }

    fn alike(found: &Self::Trace, expected: &Self::Trace, dtype: Dtype) -> Result<(), String> {
        compare_sums(found, expected, gate_tolerance(dtype, Self::ORDER))
    }
}

/// Receivers of which a cotangent is not zero.
fn rows_with_cotangents(inputs: &Inputs<f64>, grad: &Outputs<f64>) -> Vec<usize> {
    let given = |values: &[f64], row: usize| {
        let width = values.len() / inputs.n_atoms.max(1);
        values[row * width..(row + 1) * width].iter().any(|g| *g != 0.0)
    };
    (0..inputs.n_atoms).filter(|row| given(&grad.nodes, *row) || given(&grad.vectors, *row)).collect()
}

/// The rows to compare where all of them are more than `work` multiplications; `None` for all.
fn message_rows(inputs: &Inputs<f64>, work: usize) -> Option<Rows> {
    let (k, c) = (inputs.radial.n_basis, inputs.channels());
    let per_edge = match &inputs.filter {
        Filter::Linear { .. } => k * c,
        Filter::Mlp { hidden, .. } => hidden * (k + c),
        Filter::Tabulated { order, .. } => 2 * order * c,
    };
    let n_edges = inputs.n_edges();
    if n_edges.saturating_mul(per_edge) <= work || inputs.n_atoms == 0 {
        return None;
    }
    let longest = (0..inputs.n_atoms).max_by_key(|i| inputs.row_ptr[i + 1] - inputs.row_ptr[*i])?;
    let mean_degree = n_edges.div_ceil(inputs.n_atoms);
    let count = (work / (per_edge * mean_degree).max(1)).clamp(1, inputs.n_atoms);
    Some(Rows::spread(inputs.n_atoms, count, [longest]))
}

/// The sampled rows of both tensors.
pub(crate) fn gather(outputs: &Outputs<f64>, rows: &Rows) -> Outputs<f64> {
    Outputs { nodes: rows.gather(&outputs.nodes), vectors: rows.gather(&outputs.vectors) }
}

/// The sum and the sum of magnitudes of every row.
fn row_sums(outputs: &Outputs<f64>, n_atoms: usize) -> Vec<[f64; 2]> {
    let row = |values: &[f64], i: usize| {
        let width = values.len() / n_atoms.max(1);
        values[i * width..(i + 1) * width].iter().fold([0.0, 0.0], |[s, m], v| [s + v, m + v.abs()])
    };
    let rows = (0..n_atoms).map(|i| (row(&outputs.nodes, i), row(&outputs.vectors, i)));
    rows.map(|([s, m], [t, n])| [s + t, m + n]).collect()
}

/// Compares the rows of two configurations that computed the same, in the norm over all rows.
fn compare_sums(found: &[[f64; 2]], expected: &[[f64; 2]], tolerance: f64) -> Result<(), String> {
    let off = norm(found.iter().zip(expected).map(|(f, e)| f[0] - e[0]));
    let size = norm(expected.iter().map(|e| e[1]));
    // Each of the two may be off by the tolerance.
    let allowed = 2.0 * tolerance * size;
    if found.len() == expected.len() && off <= allowed {
        return Ok(());
    }
    Err(format!("row sums are {off:e} from those of the first configuration that passed, allowed {allowed:e}"))
}
