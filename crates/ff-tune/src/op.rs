//! What the tuner has to know of an op beside its gate.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use ff_reference::Oracle;
use ff_reference::cell_list::{Oracle as ListOracle, search_rows};
use ff_reference::fused_message::{double_backward, forward};
use ff_spec::cell_list::NeighborList;
use ff_spec::fused_message::{DoubleBackwardInputs, DoubleGradients, Filter, Gradients, Inputs, Outputs, Variant};
use ff_spec::{
    CellList, Dtype, ForceScatter, ForceScatterBackward, ForceScatterDoubleBackward, FusedMessage,
    FusedMessageBackward, FusedMessageDoubleBackward, Op, Problem, cell_list,
};
use ff_tables::gate_tolerance;
use ff_testkit::gate::Gated;
use ff_testkit::generators::rounded;
use ff_testkit::generators::systems::rounded_batch;
use ff_testkit::tensors::ByTensors;
use ff_testkit::tolerance::norm;

use crate::space::Part;

/// Some of the rows of a problem that is too large for the scalar oracle.
#[derive(Clone, Debug, PartialEq)]
pub struct Rows {
    /// All rows there are.
    pub n_atoms: usize,
    /// Those that are compared with the oracle, ascending.
    pub sampled: Vec<usize>,
}

/// An op that can be tuned.
pub trait Tuned: Gated {
    /// What the outputs of two configurations are compared by where the oracle knows only some rows.
    type Trace;

    /// What of a variant its space is found by.
    fn part(variant: &Self::Variant) -> Part;

    /// The sizes that tables are keyed by, as whoever asks them knows them before a call.
    fn sizes(name: &str, inputs: &Self::Inputs) -> Problem;

    /// Bytes of the tensors of one launch.
    fn launch_bytes(inputs: &Self::Inputs, dtype: Dtype) -> u64;

    /// The oracle for a problem: of all rows where that takes no more than about `work` multiplications, else of rows
    /// spread over the whole range, the last and, where it is known, the longest among them.
    ///
    /// # Errors
    /// Why there can be none.
    fn reference(
        variant: &Self::Variant,
        inputs: &Self::Inputs,
        dtype: Dtype,
        work: usize,
    ) -> Result<(Self::Oracle, Option<Rows>), String>;

    /// What the oracle of some rows is compared with, and the trace of all of them. A number that is not finite shows in
    /// the former, whatever row it is in.
    fn sampled(outputs: Self::Outputs, rows: &Rows) -> (Self::Outputs, Self::Trace);

    /// Compares what two configurations computed.
    ///
    /// # Errors
    /// How they differ by more than `dtype` allows.
    fn alike(found: &Self::Trace, expected: &Self::Trace, dtype: Dtype) -> Result<(), String>;
}

impl Tuned for FusedMessage {
    /// The sum and the sum of magnitudes of every row: configurations round in different orders.
    type Trace = Vec<[f64; 2]>;

    fn part(variant: &Variant) -> Part {
        Part::Reduction(variant.reduction)
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
            keep_rows(&mut inputs, rows);
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

/// Orders whose oracle knows every output of any problem, so that nothing is sampled: those of `force_scatter` spend little
/// on an edge, and the gradients of a message need the edges alone whose receivers have cotangents, which whoever makes a
/// large problem keeps few.
macro_rules! known_whole {
    ($($op:ident: $part:path, $variant:ident => $key:expr, $inputs:ident => $forward:expr;)*) => {$(
        impl Tuned for $op {
            type Trace = ();

            fn part($variant: &Self::Variant) -> Part {
                $part($key)
            }

            fn sizes(name: &str, $inputs: &Self::Inputs) -> Problem {
                $forward.problem(name)
            }

            fn launch_bytes($inputs: &Self::Inputs, dtype: Dtype) -> u64 {
                let indices = ($forward.row_ptr.len() + 3 * $forward.sender.len()) * size_of::<u32>();
                tensor_bytes::<Self>($inputs, dtype) + indices as u64
            }

            fn reference(
                variant: &Self::Variant,
                inputs: &Self::Inputs,
                dtype: Dtype,
                _: usize,
            ) -> Result<(Self::Oracle, Option<Rows>), String> {
                let oracle = <Self as ByTensors>::oracle(variant, &Self::rounded(inputs, dtype));
                Ok((oracle.map_err(|e| e.to_string())?, None))
            }

            fn sampled(outputs: Self::Outputs, _: &Rows) -> (Self::Outputs, ()) {
                (outputs, ())
            }

            fn alike((): &(), (): &(), _: Dtype) -> Result<(), String> {
                Ok(())
            }
        }
    )*};
}

known_whole! {
    FusedMessageBackward: Part::Reduction, variant => variant.reduction, all => all.inputs;
    ForceScatter: Part::Scatter, variant => variant.reduction, all => all;
    ForceScatterBackward: Part::Scatter, variant => variant.reduction, all => all.inputs;
    ForceScatterDoubleBackward: Part::Scatter, variant => variant.reduction, all => all.inputs;
}

/// Bytes of floating-point inputs and outputs, and of the list by sender.
fn tensor_bytes<O: ByTensors>(inputs: &O::Inputs, dtype: Dtype) -> u64 {
    let outputs = O::poisoned(inputs);
    let written = O::tensors(&outputs).into_iter().map(|(_, values)| values.len());
    let elements: usize = O::input_tensors(inputs).into_iter().map(<[f64]>::len).chain(written).sum();
    (elements * dtype.size()) as u64
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
        let places = places(&part.inputs, &rows);
        keep_rows(&mut part.inputs, &rows);
        part.tangent.edge_vec = places.iter().map(|at| inputs.tangent.edge_vec[*at]).collect();
        // Numbers that were rounded already stay as they are.
        let part = Self::rounded(&part, dtype);
        let oracle = double_backward(variant, &part).map_err(|e| e.to_string())?;
        let whole = |DoubleGradients { grad, gradients }: DoubleGradients<f64>| {
            let mut edge_vec = vec![0.0; inputs.inputs.edge_vec.len()];
            places.iter().zip(&gradients.edge_vec).for_each(|(at, value)| edge_vec[*at] = *value);
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

/// Where the elements of the edge vectors of some rows are among all.
fn places(inputs: &Inputs<f64>, rows: &Rows) -> Vec<usize> {
    let of = |row: &usize| 3 * inputs.row_ptr[*row] as usize..3 * inputs.row_ptr[row + 1] as usize;
    rows.sampled.iter().flat_map(of).collect()
}

impl Tuned for CellList {
    /// A digest of the whole list: its bits do not depend on the configuration.
    type Trace = u64;

    fn part(variant: &cell_list::Variant) -> Part {
        Part::Strategy(variant.strategy)
    }

    fn sizes(name: &str, inputs: &cell_list::Inputs<f64>) -> Problem {
        inputs.estimate(name)
    }

    fn launch_bytes(inputs: &cell_list::Inputs<f64>, dtype: Dtype) -> u64 {
        // `sender`, `transpose`, `shift` and `edge_vec`; positions, `row_ptr` and `sender_ptr`.
        let (per_edge, per_atom) = (2 * 4 + 3 * 4 + 3 * dtype.size() as u64, 3 * dtype.size() as u64 + 2 * 4);
        let Problem { n_atoms, n_edges, .. } = inputs.estimate("");
        n_edges * per_edge + n_atoms * per_atom
    }

    fn reference(
        variant: &cell_list::Variant,
        inputs: &cell_list::Inputs<f64>,
        dtype: Dtype,
        work: usize,
    ) -> Result<(ListOracle, Option<Rows>), String> {
        let inputs = rounded_batch(inputs, dtype);
        let rows = list_rows(&inputs, work);
        let wanted = rows.as_ref().map_or_else(|| (0..inputs.n_atoms()).collect(), |rows| rows.sampled.clone());
        Ok((search_rows(&inputs, variant.list, dtype, wanted).map_err(|e| e.to_string())?, rows))
    }

    /// The oracle knows which rows it looked at, so the list stays whole.
    fn sampled(mut outputs: NeighborList<f64>, _: &Rows) -> (NeighborList<f64>, u64) {
        let digest = digest(&outputs);
        let vectors = outputs.edge_vec.as_flattened_mut();
        if vectors.iter().any(|x| !x.is_finite()) {
            vectors.fill(f64::NAN);
        }
        (outputs, digest)
    }

    fn alike(found: &u64, expected: &u64, _: Dtype) -> Result<(), String> {
        if found == expected {
            return Ok(());
        }
        Err("the list differs from that of the first configuration that passed, expected the same bits".to_owned())
    }
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
    Some(spread(inputs.n_atoms, count, [longest]))
}

/// As [`message_rows`]; nobody knows yet which row is the longest.
fn list_rows(inputs: &cell_list::Inputs<f64>, work: usize) -> Option<Rows> {
    /// What the oracle spends on looking at a pair of atoms and on an edge, in multiplications: about as many ns.
    const PAIR: usize = 150;
    const EDGE: usize = 1000;
    /// Fewer rows show little, and this many cost less than a comparison of the whole list.
    const FEWEST: usize = 32;
    let n_atoms = inputs.n_atoms();
    let pairs: usize = (0..inputs.n_systems()).map(|system| inputs.atoms(system).len().pow(2)).sum();
    let n_edges = usize::try_from(inputs.estimate("").n_edges).unwrap_or(usize::MAX);
    let all = pairs.saturating_mul(PAIR).saturating_add(n_edges.saturating_mul(EDGE));
    if all <= work || n_atoms == 0 {
        return None;
    }
    let count = (work / (all / n_atoms).max(1)).clamp(FEWEST.min(n_atoms), n_atoms);
    Some(spread(n_atoms, count, []))
}

/// About `count` rows from the first to the last, and these.
fn spread(n_atoms: usize, count: usize, besides: impl IntoIterator<Item = usize>) -> Rows {
    let even = (0..count).map(|i| i * n_atoms / count);
    let all: BTreeSet<usize> = even.chain(besides).chain([n_atoms - 1]).collect();
    Rows { n_atoms, sampled: all.into_iter().collect() }
}

/// Takes the edges of all other rows away. Atoms stay, since edges name their senders.
fn keep_rows(inputs: &mut Inputs<f64>, rows: &Rows) {
    let old = std::mem::replace(&mut inputs.row_ptr, vec![0; inputs.n_atoms + 1]);
    let (sender, edge_vec) = (std::mem::take(&mut inputs.sender), std::mem::take(&mut inputs.edge_vec));
    let mut wanted = rows.sampled.iter().peekable();
    for row in 0..inputs.n_atoms {
        if wanted.next_if(|r| **r == row).is_some() {
            let edges = old[row] as usize..old[row + 1] as usize;
            inputs.edge_vec.extend_from_slice(&edge_vec[3 * edges.start..3 * edges.end]);
            inputs.sender.extend_from_slice(&sender[edges]);
        }
        inputs.row_ptr[row + 1] = u32::try_from(inputs.sender.len()).unwrap_or(u32::MAX);
    }
}

/// The sampled rows of both tensors.
pub(crate) fn gather(outputs: &Outputs<f64>, rows: &Rows) -> Outputs<f64> {
    let pick = |values: &[f64]| {
        let width = values.len() / rows.n_atoms.max(1);
        rows.sampled.iter().flat_map(|row| &values[row * width..(row + 1) * width]).copied().collect()
    };
    Outputs { nodes: pick(&outputs.nodes), vectors: pick(&outputs.vectors) }
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

/// A digest of all arrays of a list, to the last bit.
fn digest(list: &NeighborList<f64>) -> u64 {
    let NeighborList { row_ptr, sender, shift, edge_vec, sender_ptr, transpose } = list;
    let mut hasher = DefaultHasher::new();
    (row_ptr, sender, shift, sender_ptr, transpose).hash(&mut hasher);
    edge_vec.as_flattened().iter().for_each(|x| x.to_bits().hash(&mut hasher));
    hasher.finish()
}
