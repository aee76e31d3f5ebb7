//! The suite of `force_scatter`: forces of a liquid and of a batch of molecules, and the two backwards of a loss on them.

use ff_spec::force_scatter::{BackwardInputs, DoubleBackwardInputs, Inputs, OP, Reduction, Variant};
use ff_spec::{Dtype, ForceScatter, ForceScatterBackward, ForceScatterDoubleBackward, Prepare, Runtime};
use ff_structure::{batch, builtin, neighbors};
use ff_testkit::force_scatter::{random_cotangents, random_tangent};
use ff_testkit::tensors::ByTensors;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{Floor, Peak, Row, check, export, peak_of, tables, time};
use crate::commands::eval::choose;
use crate::failure::{Failure, Result};
use crate::options::BenchArgs;
use crate::screen::Screen;
use crate::tensors;

/// Å.
const CUTOFF: f64 = 5.0;

/// A sum with its sizes.
#[derive(Clone)]
pub struct Case {
    pub name: String,
    reduction: Reduction,
    dtype: Dtype,
    problem: &'static str,
    /// How often the systems of the problem are in the batch.
    copies: usize,
    order: Order,
}

#[derive(Clone, Copy)]
enum Order {
    Forward,
    First,
    Second,
}

/// The built-in suite: both reductions at the size that messages are compared at, then one axis changed at a time.
pub fn suite() -> Vec<Case> {
    let scatter = |name: &str, reduction| Case {
        name: format!("scatter-{name}"),
        reduction,
        dtype: Dtype::F32,
        problem: "water-1333",
        copies: 1,
        order: Order::Forward,
    };
    let gather = |name: &str| scatter(name, Reduction::Gather);
    vec![
        gather("gather"),
        scatter("atomic", Reduction::Atomic),
        Case { dtype: Dtype::F64, ..gather("gather-f64") },
        Case { problem: "water-16667", ..gather("gather-50001-atoms") },
        Case { problem: "molecules", copies: 128, ..gather("gather-1024-molecules") },
        Case { order: Order::First, ..gather("backward") },
        Case { order: Order::Second, ..gather("double") },
    ]
}

impl Case {
    fn inputs(&self) -> Result<Inputs<f64>> {
        let systems = builtin(self.problem).map_err(Failure::input)?;
        let all = batch(&systems, CUTOFF).map_err(Failure::input)?;
        let mut inputs = Inputs {
            row_ptr: vec![0],
            sender: Vec::new(),
            edge_vec: Vec::new(),
            edge_grad: Vec::new(),
            system_ptr: vec![0],
        };
        for _ in 0..self.copies {
            for (system, atoms) in systems.iter().zip(all.system_ptr.windows(2)) {
                let list = neighbors(&system.positions, system.cell, system.pbc, CUTOFF).map_err(Failure::input)?;
                let first = inputs.system_ptr.last().copied().unwrap_or_default();
                let edges = inputs.sender.len() as u32;
                inputs.row_ptr.extend(list.row_ptr[1..].iter().map(|end| edges + end));
                inputs.sender.extend(list.sender.iter().map(|sender| first + sender));
                inputs.edge_vec.extend_from_slice(list.edge_vec.as_flattened());
                inputs.system_ptr.push(first + (atoms[1] - atoms[0]));
            }
        }
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        inputs.edge_grad = inputs.edge_vec.iter().map(|_| rng.random_range(-1.0..1.0)).collect();
        Ok(inputs)
    }
}

/// Times one case; every element of its outputs is compared with the oracle.
///
/// # Errors
/// Sums that are wrong, and whatever stops the runtime.
pub fn measure(
    case: &Case,
    runtime: &(dyn Runtime + 'static),
    roof: Option<Peak>,
    args: &BenchArgs,
    screen: &Screen,
) -> Result<Row> {
    let inputs = case.inputs()?;
    let row = match case.order {
        Order::Forward => timed::<ForceScatter>(case, &inputs, inputs.clone(), runtime, args, screen)?,
        Order::First => {
            let all = BackwardInputs { grad: random_cotangents(&inputs, 0), inputs: inputs.clone() };
            timed::<ForceScatterBackward>(case, &inputs, all, runtime, args, screen)?
        }
        Order::Second => {
            let (grad, tangent) = (random_cotangents(&inputs, 0), random_tangent(&inputs, 0));
            let all = DoubleBackwardInputs { inputs: inputs.clone(), grad, tangent };
            timed::<ForceScatterDoubleBackward>(case, &inputs, all, runtime, args, screen)?
        }
    };
    Ok(row.under(roof))
}

fn timed<O: ByTensors<Variant = Variant>>(
    case: &Case,
    list: &Inputs<f64>,
    inputs: O::Inputs,
    runtime: &(dyn Runtime + 'static),
    args: &BenchArgs,
    screen: &Screen,
) -> Result<Row>
where
    dyn Runtime: Prepare<O>,
{
    let inputs = O::rounded(&inputs, case.dtype);
    let (variant, problem) = (Variant { reduction: case.reduction }, list.problem(&case.name));
    let (_, config) = choose::<O>(runtime, &tables(OP, args, screen), &variant, case.dtype, &inputs, &problem);
    let mut launch = Prepare::<O>::prepare(runtime, &variant, case.dtype, &inputs, &config)?;
    let oracle = O::oracle(&variant, &inputs).map_err(Failure::fault)?;
    let before = check::<O>(launch.as_mut(), &oracle, case.dtype, |_| ())?;
    if let Some(dir) = &args.export {
        let outputs = launch.outputs()?;
        export(
            &dir.join(format!("{}.safetensors", case.name)),
            &tensors::write_flat(&O::tensors(&outputs), case.dtype)?,
        )?;
    }
    let floats = |tensors: Vec<&[f64]>| tensors.iter().map(|values| values.len()).sum::<usize>();
    let written = floats(O::tensors(&oracle.outputs).into_iter().map(|(_, values)| values).collect());
    let indices: usize = [&list.row_ptr, &list.sender, &list.system_ptr].map(Vec::len).into_iter().sum();
    let bytes = (floats(O::input_tensors(&inputs)) + written) * case.dtype.size() + 4 * indices;
    let memory = peak_of(|| launch.run())?.map(|extra| 1.0 + extra as f64 / bytes.max(1) as f64);
    let samples = time(args, || Ok(launch.time()?))?;
    let after = check::<O>(launch.as_mut(), &oracle, case.dtype, |_| ())?;
    Ok(Row {
        case: case.name.clone(),
        variant: variant.id(),
        dtype: case.dtype,
        ns_per_edge: samples.timing.median_ns / problem.n_edges.max(1) as f64,
        problem,
        config,
        samples,
        // A few products per edge; memory is what it waits for.
        floor: Some(Floor { flops: 0, bytes: bytes as u64 }),
        floor_ns: None,
        bound: None,
        rel_error: before.max(after),
        memory,
    })
}
