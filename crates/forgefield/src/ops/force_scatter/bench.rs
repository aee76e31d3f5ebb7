//! The suite of `force_scatter`: forces of a liquid and of a batch of molecules, and the two backwards of a loss on them.

use ff_kernels::host::peak::Peak;
use ff_spec::force_scatter::{Inputs, OP, Reduction, Variant};
use ff_spec::{Dtype, ForceScatter, ForceScatterBackward, ForceScatterDoubleBackward, Prepare, Runtime};
use ff_structure::{builtin, edges};
use ff_testkit::tensors::ByTensors;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{first, second};
use crate::commands::bench::args::BenchArgs;
use crate::commands::bench::{Case, Floor, Row, Timed, export, tables};
use crate::commands::eval::choose;
use crate::failure::{Failure, Result};
use crate::ops::order::UsedOrder;
use crate::screen::Screen;
use crate::tensors::write_flat;
use crate::workload::{Edges, Workload};

/// Å.
const CUTOFF: f64 = 5.0;

/// A sum with its sizes.
#[derive(Clone)]
pub struct Sum {
    name: String,
    reduction: Reduction,
    dtype: Dtype,
    problem: &'static str,
    /// How often the systems of the problem are in the batch.
    copies: usize,
    order: u8,
}

/// The built-in suite: both reductions at the size that messages are compared at, then one axis changed at a time.
pub fn suite() -> Vec<Sum> {
    let scatter = |name: &str, reduction| Sum {
        name: format!("scatter-{name}"),
        reduction,
        dtype: Dtype::F32,
        problem: "water-1333",
        copies: 1,
        order: 0,
    };
    let gather = |name: &str| scatter(name, Reduction::Gather);
    vec![
        gather("gather"),
        scatter("atomic", Reduction::Atomic),
        Sum { dtype: Dtype::F64, ..gather("gather-f64") },
        Sum { problem: "water-16667", ..gather("gather-50001-atoms") },
        Sum { problem: "molecules", copies: 128, ..gather("gather-1024-molecules") },
        Sum { order: 1, ..gather("backward") },
        Sum { order: 2, ..gather("double") },
    ]
}

impl Sum {
    fn inputs(&self) -> Result<Inputs<f64>> {
        let systems = builtin(self.problem).map_err(Failure::input)?;
        let structures = (0..self.copies).flat_map(|_| systems.iter().cloned()).collect();
        let workload = Workload::new(self.problem.to_owned(), structures);
        let Edges { row_ptr, sender, edge_vec } = edges(&workload.structures, CUTOFF).map_err(Failure::input)?;
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let edge_grad = edge_vec.iter().map(|_| rng.random_range(-1.0..1.0)).collect();
        Ok(Inputs { row_ptr, sender, edge_vec, edge_grad, system_ptr: workload.system_ptr() })
    }

    fn timed<O: ByTensors<Variant = Variant>>(
        &self,
        list: &Inputs<f64>,
        inputs: &O::Inputs,
        runtime: &dyn Prepare<O>,
        args: &BenchArgs,
        screen: &Screen,
    ) -> Result<Row> {
        let (inputs, variant) = (O::rounded(inputs, self.dtype), Variant { reduction: self.reduction });
        let problem = list.problem(&self.name);
        let (_, config) = choose::<O>(runtime, &tables(OP, args, screen), &variant, self.dtype, &inputs, &problem);
        let oracle = O::oracle(&variant, &inputs).map_err(Failure::fault)?;
        let floats = |tensors: Vec<&[f64]>| tensors.iter().map(|values| values.len()).sum::<usize>();
        let written = floats(O::tensors(&oracle.outputs).into_iter().map(|(_, values)| values).collect());
        let indices: usize = [&list.row_ptr, &list.sender, &list.system_ptr].map(Vec::len).into_iter().sum();
        let bytes = (floats(O::input_tensors(&inputs)) + written) * self.dtype.size() + 4 * indices;
        let timed = Timed::<O> {
            case: &self.name,
            variant: &variant,
            dtype: self.dtype,
            inputs: &inputs,
            problem,
            config,
            oracle,
            known: &|_| (),
            bytes,
            // A few products per edge; memory is what it waits for.
            floor: Some(Floor { flops: 0, bytes: bytes as u64 }),
        };
        timed.measure(runtime, args, |dir, outputs| {
            let path = dir.join(format!("{}.safetensors", self.name));
            export(&path, &write_flat(&O::tensors(outputs), self.dtype)?)
        })
    }
}

impl Case for Sum {
    fn name(&self) -> &str {
        &self.name
    }

    fn op(&self) -> &'static str {
        OP
    }

    /// Every element of its outputs is compared with the oracle.
    fn measure(
        &self,
        runtime: &(dyn Runtime + 'static),
        roof: Option<Peak>,
        args: &BenchArgs,
        screen: &Screen,
    ) -> Result<Row> {
        let list = self.inputs()?;
        let row = match self.order {
            0 => self.timed::<ForceScatter>(&list, &list, ForceScatter::on(runtime), args, screen)?,
            1 => {
                let (inputs, runtime) = (first(list.clone(), 0), ForceScatterBackward::on(runtime));
                self.timed::<ForceScatterBackward>(&list, &inputs, runtime, args, screen)?
            }
            _ => {
                let (inputs, runtime) = (second(list.clone(), 0), ForceScatterDoubleBackward::on(runtime));
                self.timed::<ForceScatterDoubleBackward>(&list, &inputs, runtime, args, screen)?
            }
        };
        Ok(row.under(roof))
    }
}
