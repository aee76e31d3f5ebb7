//! The suite of `vector_norm`: the vectors of a liquid, and the two backwards of a loss on them.

use ff_kernels::host::peak::Peak;
use ff_spec::vector_norm::{Inputs, OP, Strategy, Variant, cost};
use ff_spec::{Dtype, Prepare, Runtime, VectorNorm, VectorNormBackward, VectorNormDoubleBackward};
use ff_structure::builtin;
use ff_testkit::tensors::ByTensors;
use ff_testkit::vector_norm::{Kind, NormSpec, random_inputs};

use super::{first, second};
use crate::commands::bench::args::BenchArgs;
use crate::commands::bench::{Case, Floor, Row, Timed, export, tables};
use crate::commands::eval::choose;
use crate::failure::{Failure, Result};
use crate::ops::order::UsedOrder;
use crate::screen::Screen;
use crate::tensors::write_flat;

const VARIANT: Variant = Variant { strategy: Strategy::Channelwise };

/// A norm with its sizes.
#[derive(Clone)]
pub struct Norm {
    name: String,
    dtype: Dtype,
    problem: &'static str,
    features: usize,
    order: u8,
}

/// The built-in suite: the size that messages are compared at, then one axis changed at a time.
pub fn suite() -> Vec<Norm> {
    let norm = |name: &str| Norm {
        name: format!("norm-{name}"),
        dtype: Dtype::F32,
        problem: "water-1333",
        features: 128,
        order: 0,
    };
    vec![
        norm("forward"),
        Norm { dtype: Dtype::F64, ..norm("forward-f64") },
        Norm { features: 33, ..norm("33-channels") },
        Norm { problem: "water-5000", ..norm("15000-atoms") },
        Norm { order: 1, ..norm("backward") },
        Norm { order: 2, ..norm("double") },
    ]
}

impl Norm {
    fn inputs(&self) -> Result<Inputs<f64>> {
        let systems = builtin(self.problem).map_err(Failure::input)?;
        let n_atoms = systems.iter().map(|structure| structure.n_atoms()).sum();
        Ok(random_inputs(&NormSpec { n_atoms, features: self.features, kind: Kind::Ordinary }, 0))
    }

    fn timed<O: ByTensors<Variant = Variant, Forward = Inputs<f64>>>(
        &self,
        inputs: &O::Inputs,
        runtime: &dyn Prepare<O>,
        args: &BenchArgs,
        screen: &Screen,
    ) -> Result<Row> {
        let inputs = O::rounded(inputs, self.dtype);
        let problem = O::forward(&inputs).problem(&self.name);
        let (_, config) = choose::<O>(runtime, &tables(OP, args, screen), &VARIANT, self.dtype, &inputs, &problem);
        let oracle = O::oracle(&VARIANT, &inputs).map_err(Failure::fault)?;
        let counted = cost(O::ORDER, &problem, self.dtype);
        let timed = Timed::<O> {
            case: &self.name,
            variant: &VARIANT,
            dtype: self.dtype,
            inputs: &inputs,
            problem,
            config,
            oracle,
            known: &|_| (),
            bytes: counted.compulsory_bytes as usize,
            floor: Some(Floor { flops: counted.flops, bytes: counted.compulsory_bytes }),
        };
        timed.measure(runtime, args, |dir, outputs| {
            let path = dir.join(format!("{}.safetensors", self.name));
            export(&path, &write_flat(&O::tensors(outputs), self.dtype)?)
        })
    }
}

impl Case for Norm {
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
        let inputs = self.inputs()?;
        let row = match self.order {
            0 => self.timed::<VectorNorm>(&inputs, VectorNorm::on(runtime), args, screen)?,
            1 => {
                let runtime = VectorNormBackward::on(runtime);
                self.timed::<VectorNormBackward>(&first(inputs, 0), runtime, args, screen)?
            }
            _ => {
                let runtime = VectorNormDoubleBackward::on(runtime);
                self.timed::<VectorNormDoubleBackward>(&second(inputs, 0), runtime, args, screen)?
            }
        };
        Ok(row.under(roof))
    }
}
