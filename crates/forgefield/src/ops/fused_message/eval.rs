//! A call of `fused_message` on tensors from files.

use ff_kernels::fused_message::find;
use ff_spec::fused_message::{BackwardInputs, Gradients, Inputs, Outputs, Variant, Wanted};
use ff_spec::{Dtype, FusedMessage, FusedMessageBackward, Op, Prepare, Problem, Runtime};
use ff_tables::{Loaded, Selection};

use super::{Messages, of, tensors};
use crate::commands::eval::args::EvalArgs;
use crate::commands::eval::{BackwardRun, FileCall, Ran, choose, keeps_inputs};
use crate::failure::{Failure, Result};
use crate::ops::AnyOp;
use crate::ops::order::UsedOrder;
use crate::screen::Screen;

/// Inputs, cotangents where gradients are asked for, and what came of them.
struct Message {
    variant: Variant,
    dtype: Dtype,
    inputs: Inputs<f64>,
    grad: Option<Outputs<f64>>,
    outputs: Outputs<f64>,
    gradients: Option<Gradients<f64>>,
}

/// Reads the call that `eval` is asked for.
///
/// # Errors
/// The first thing that is wrong about its variant or its tensors.
pub fn read(args: &EvalArgs, screen: &Screen) -> Result<Box<dyn FileCall>> {
    keeps_inputs(args)?;
    let variant = of(Messages.one(&args.variant)?);
    let registered = find(&variant).ok_or_else(|| Failure::input(format!("`{variant}` was not rendered")))?;
    let tensors::Read { inputs, assumed } =
        tensors::read(&args.inputs, &variant, registered.pair().as_ref(), args.dtype)?;
    for note in &assumed {
        screen.say(format!("note: {note}"));
    }
    let grad = args.grad.as_deref().map(|path| tensors::read_cotangents(path, &inputs, args.dtype)).transpose()?;
    let outputs = Outputs { nodes: Vec::new(), vectors: Vec::new() };
    Ok(Box::new(Message { variant, dtype: args.dtype, inputs, grad, outputs, gradients: None }))
}

impl FileCall for Message {
    fn id(&self) -> String {
        self.variant.id()
    }

    fn problem(&self, name: &str) -> Problem {
        self.inputs.problem(name)
    }

    fn run(&mut self, runtime: &(dyn Runtime + 'static), tables: &Loaded, problem: &Problem) -> Result<Ran> {
        let call = (&self.variant, self.dtype, problem);
        let (selection, ran) = launched::<FusedMessage>(FusedMessage::on(runtime), tables, call, &self.inputs)?;
        self.outputs = ran;
        let mut backward = None;
        if let Some(grad) = self.grad.take() {
            let inputs = BackwardInputs { inputs: self.inputs.clone(), grad, wanted: Wanted::ALL };
            let runtime = FusedMessageBackward::on(runtime);
            let (selection, gradients) = launched::<FusedMessageBackward>(runtime, tables, call, &inputs)?;
            self.gradients = Some(gradients);
            let (Selection { step, reason, .. }, config) = selection;
            backward = Some(BackwardRun { config, step, reason });
        }
        let (selection, config) = selection;
        Ok(Ran { selection, config, backward })
    }

    fn unusual(&self) -> usize {
        let outputs = [&self.outputs.nodes[..], &self.outputs.vectors];
        let more = self.more();
        let all = outputs.into_iter().chain(more.iter().map(|(_, _, values)| *values));
        all.flatten().filter(|v| !v.is_finite()).count()
    }

    fn file(&self, note: String) -> Result<Vec<u8>> {
        tensors::write_outputs(&self.outputs, self.more(), &self.inputs, self.dtype, note)
    }
}

impl Message {
    /// The gradients by name, where there are any.
    fn more(&self) -> Vec<(String, Vec<usize>, &[f64])> {
        self.gradients.as_ref().map(|gradients| gradients.named("grad", &self.inputs)).unwrap_or_default()
    }
}

/// Runs one order of a call, with how its configuration was found.
fn launched<O: Op<Variant = Variant>>(
    runtime: &dyn Prepare<O>,
    tables: &Loaded,
    (variant, dtype, problem): (&Variant, Dtype, &Problem),
    inputs: &O::Inputs,
) -> Result<((Selection, ff_spec::LaunchConfig), O::Outputs)> {
    let (selection, config) = choose(runtime, tables, variant, dtype, inputs, problem);
    let mut launch = runtime.prepare(variant, dtype, inputs, &config)?;
    launch.poison()?;
    launch.run()?;
    Ok(((selection, config), launch.outputs()?))
}
