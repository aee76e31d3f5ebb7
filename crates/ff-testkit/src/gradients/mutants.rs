//! Faults on purpose in the derivatives: the oracle itself as a kernel, with each fault put into what it reads or writes.
//!
//! It is the gate that is shown to work here, so the right kernel may be the oracle's arithmetic with rounded results.

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;
use std::time::{Duration, Instant};

use ff_reference::fused_message::{ReferenceError, backward, double_backward};
use ff_reference::radial::{RadialFunction, RadialKind, find};
use ff_spec::fused_message::{
    BackwardInputs, DoubleBackwardInputs, DoubleGradients, Filter, Gradients, InputError, Inputs, Variant,
};
use ff_spec::{
    Clock, Device, DeviceId, Dtype, FusedMessageBackward, FusedMessageDoubleBackward, Launch, LaunchConfig,
    LaunchError, Op, Prepare, Problem,
};

use super::{rounded_backward, rounded_double_backward};
use crate::mutants::scalar_device;

/// A fault that a gate must catch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mutation {
    /// An edge is left out.
    DroppedEdge,
    /// The last row is not written.
    MissingWrite,
    /// What the first launch of the same shape left in memory is used: wrong from the second seed on.
    StaleBufferRead,
    /// An input is written to.
    InputOverwritten,
    /// Everything is zero.
    ZeroOutput,
    /// The gradient in the edge vector has the wrong sign, as if r were x_i − x_j.
    EdgeSign,
    /// The receiver's features are read and its gradient is written, where the sender's should be.
    ReceiverForSender,
    /// The cutoff is taken for a constant where W is differentiated. Linear filters only.
    CutoffSlope,
}

impl Mutation {
    /// All mutations.
    pub const ALL: [Mutation; 8] = [
        Mutation::DroppedEdge,
        Mutation::MissingWrite,
        Mutation::StaleBufferRead,
        Mutation::InputOverwritten,
        Mutation::ZeroOutput,
        Mutation::EdgeSign,
        Mutation::ReceiverForSender,
        Mutation::CutoffSlope,
    ];
}

/// What a mutant has to know of a derivative.
pub trait Derivative: Op<Variant = Variant> {
    /// Checked inputs as a kernel of `dtype` sees them.
    ///
    /// # Errors
    /// [`InputError`].
    fn rounded(inputs: &Self::Inputs, dtype: Dtype) -> Result<Self::Inputs, InputError>;
    /// The forward's inputs among them.
    fn forward_mut(inputs: &mut Self::Inputs) -> &mut Inputs<f64>;
    /// Every floating-point tensor of the inputs.
    fn tensors(inputs: &Self::Inputs) -> Vec<&[f64]>;
    /// The oracle's results.
    ///
    /// # Errors
    /// [`ReferenceError`].
    fn compute(variant: &Variant, inputs: &Self::Inputs) -> Result<Self::Outputs, ReferenceError>;
    /// Takes out of the results what comes from the slope of the cutoff, in part: enough for them to be wrong.
    fn forget(inputs: &Self::Inputs, slopes: &[EdgeSlope], outputs: &mut Self::Outputs);
    /// The gradients of inputs among the results.
    fn gradients_mut(outputs: &mut Self::Outputs) -> &mut Gradients<f64>;
    /// Every element of the results changed.
    fn map(outputs: &Self::Outputs, change: &dyn Fn(f64) -> f64) -> Self::Outputs;
    /// Results of the right size, all NaN.
    fn poisoned(inputs: &Self::Inputs) -> Self::Outputs;
}

impl Derivative for FusedMessageBackward {
    fn rounded(inputs: &BackwardInputs<f64>, dtype: Dtype) -> Result<BackwardInputs<f64>, InputError> {
        inputs.check()?;
        Ok(rounded_backward(inputs, dtype))
    }
    fn forward_mut(inputs: &mut BackwardInputs<f64>) -> &mut Inputs<f64> {
        &mut inputs.inputs
    }
    fn tensors(inputs: &BackwardInputs<f64>) -> Vec<&[f64]> {
        inputs.tensors().into_iter().map(|(_, _, values)| values).collect()
    }
    fn compute(variant: &Variant, inputs: &BackwardInputs<f64>) -> Result<Gradients<f64>, ReferenceError> {
        backward(variant, inputs).map(|oracle| oracle.outputs)
    }
    fn forget(inputs: &BackwardInputs<f64>, slopes: &[EdgeSlope], outputs: &mut Gradients<f64>) {
        let f = inputs.inputs.features;
        for edge in slopes {
            // Of the part of L that is linear in the scalar features: f_c′ Σ g s (Φ A + b).
            let g = &inputs.grad.nodes[edge.receiver * f..][..f];
            let s = &inputs.inputs.nodes[edge.sender * inputs.inputs.channels()..];
            let of_cutoff: f64 = (0..f).map(|c| g[c] * s[c] * edge.slope[c]).sum();
            (0..3).for_each(|axis| outputs.edge_vec[3 * edge.edge + axis] -= edge.u[axis] * of_cutoff);
        }
    }
    fn gradients_mut(outputs: &mut Gradients<f64>) -> &mut Gradients<f64> {
        outputs
    }
    fn map(outputs: &Gradients<f64>, change: &dyn Fn(f64) -> f64) -> Gradients<f64> {
        outputs.map(|x| change(*x))
    }
    fn poisoned(inputs: &BackwardInputs<f64>) -> Gradients<f64> {
        inputs.poisoned_outputs()
    }
}

impl Derivative for FusedMessageDoubleBackward {
    fn rounded(inputs: &DoubleBackwardInputs<f64>, dtype: Dtype) -> Result<DoubleBackwardInputs<f64>, InputError> {
        inputs.check()?;
        Ok(rounded_double_backward(inputs, dtype))
    }
    fn forward_mut(inputs: &mut DoubleBackwardInputs<f64>) -> &mut Inputs<f64> {
        &mut inputs.inputs
    }
    fn tensors(inputs: &DoubleBackwardInputs<f64>) -> Vec<&[f64]> {
        inputs.tensors().into_iter().map(|(_, _, values)| values).collect()
    }
    fn compute(variant: &Variant, inputs: &DoubleBackwardInputs<f64>) -> Result<DoubleGradients<f64>, ReferenceError> {
        double_backward(variant, inputs).map(|oracle| oracle.outputs)
    }
    fn forget(inputs: &DoubleBackwardInputs<f64>, slopes: &[EdgeSlope], outputs: &mut DoubleGradients<f64>) {
        let f = inputs.inputs.features;
        for edge in slopes {
            // Of the derivative of the scalar outputs: s (Φ A + b) f_c′ u·t.
            let t = &inputs.tangent.edge_vec[3 * edge.edge..][..3];
            let along: f64 = t.iter().zip(edge.u).map(|(t, u)| t * u).sum();
            let s = &inputs.inputs.nodes[edge.sender * inputs.inputs.channels()..];
            (0..f).for_each(|c| outputs.grad.nodes[edge.receiver * f + c] -= s[c] * edge.slope[c] * along);
        }
    }
    fn gradients_mut(outputs: &mut DoubleGradients<f64>) -> &mut Gradients<f64> {
        &mut outputs.gradients
    }
    fn map(outputs: &DoubleGradients<f64>, change: &dyn Fn(f64) -> f64) -> DoubleGradients<f64> {
        outputs.map(|x| change(*x))
    }
    fn poisoned(inputs: &DoubleBackwardInputs<f64>) -> DoubleGradients<f64> {
        inputs.poisoned_outputs()
    }
}

/// What the slope of the cutoff contributes to dW/dd at one edge.
#[derive(Debug)]
pub struct EdgeSlope {
    edge: usize,
    receiver: usize,
    sender: usize,
    /// The edge's direction.
    u: [f64; 3],
    /// f_c′ (Φ A + b) of each of the C channels.
    slope: Vec<f64>,
}

/// Of every edge inside the cutoff that has a direction.
fn edge_slopes(variant: &Variant, inputs: &Inputs<f64>) -> Result<Vec<EdgeSlope>, LaunchError> {
    let (Some((basis, cutoff)), Filter::Linear { a, b }) = (&variant.radial, &inputs.filter) else {
        return Err(LaunchError::Unsupported("other than a linear filter".to_owned()));
    };
    let radial = &inputs.radial;
    let bind = |name, kind, parameters| {
        let bound = find(name, kind).and_then(RadialFunction::new)?;
        bound.bind(radial.r_cut, radial.n_basis, parameters)
    };
    let unreadable = |e: ff_reference::radial::RadialError| LaunchError::Compile(e.to_string());
    let basis = bind(basis, RadialKind::Basis, &radial.basis).map_err(unreadable)?;
    let cutoff = bind(cutoff, RadialKind::Cutoff, &radial.cutoff).map_err(unreadable)?;
    let mut slopes = Vec::new();
    for receiver in 0..inputs.n_atoms {
        for edge in inputs.row_ptr[receiver] as usize..inputs.row_ptr[receiver + 1] as usize {
            let r = [0, 1, 2].map(|axis| inputs.edge_vec[3 * edge + axis]);
            let d = r.iter().map(|x| x * x).sum::<f64>().sqrt();
            if d == 0.0 || d >= radial.r_cut {
                continue;
            }
            let mut slope = b.clone();
            for k in 0..radial.n_basis {
                let phi = basis.jet(d, k + 1)[0];
                slope.iter_mut().zip(&a[k * b.len()..]).for_each(|(w, a)| *w += phi * a);
            }
            let f = cutoff.jet(d, 1)[1];
            slope.iter_mut().for_each(|w| *w *= f);
            let sender = inputs.sender[edge] as usize;
            slopes.push(EdgeSlope { edge, receiver, sender, u: r.map(|r| r / d), slope });
        }
    }
    Ok(slopes)
}

/// What launches have the same shape by: order, variant, dtype and the sizes of all tensors.
type Shape = (u8, String, Dtype, Vec<usize>);

/// The oracle as a kernel of order 1 and 2, its results rounded, with or without a fault.
#[derive(Debug)]
pub struct MutantRuntime {
    mutation: Option<Mutation>,
    device: DeviceId,
    /// The features of the first launch by shape.
    leftovers: Rc<RefCell<HashMap<Shape, Vec<f64>>>>,
}

impl MutantRuntime {
    /// A runtime whose every launch has the fault; a right one for `None`.
    pub fn new(mutation: Option<Mutation>) -> Self {
        Self { mutation, device: scalar_device(), leftovers: Rc::default() }
    }
}

impl Device for MutantRuntime {
    fn device(&self) -> &DeviceId {
        &self.device
    }

    fn clock(&self) -> Clock {
        Clock::Wall
    }
}

impl<O: Derivative> Prepare<O> for MutantRuntime {
    fn default_config(&self, _: &Variant, _: Dtype, _: &Problem) -> LaunchConfig {
        LaunchConfig::default()
    }

    fn prepare(
        &self,
        variant: &Variant,
        dtype: Dtype,
        inputs: &O::Inputs,
        _: &LaunchConfig,
    ) -> Result<Box<dyn Launch<O>>, LaunchError> {
        let inputs = O::rounded(inputs, dtype)?;
        let mut read = O::rounded(&inputs, dtype)?;
        match self.mutation {
            Some(Mutation::StaleBufferRead) => {
                let sizes = O::tensors(&inputs).into_iter().map(<[f64]>::len).collect();
                let forward = O::forward_mut(&mut read);
                let mut leftovers = self.leftovers.borrow_mut();
                let first = leftovers.entry((O::ORDER, variant.id(), dtype, sizes)).or_insert(forward.nodes.clone());
                forward.nodes.clone_from(first);
            }
            Some(Mutation::DroppedEdge) => drop_edge(O::forward_mut(&mut read)),
            Some(Mutation::ReceiverForSender) => {
                let forward = O::forward_mut(&mut read);
                for i in 0..forward.n_atoms {
                    forward.sender[forward.row_ptr[i] as usize..forward.row_ptr[i + 1] as usize].fill(i as u32);
                }
            }
            _ => {}
        }
        let mut results = O::compute(variant, &read).map_err(|e| LaunchError::Compile(e.to_string()))?;
        match self.mutation {
            Some(Mutation::CutoffSlope) => {
                let slopes = edge_slopes(variant, O::forward_mut(&mut read))?;
                O::forget(&read, &slopes, &mut results);
            }
            Some(Mutation::EdgeSign) => O::gradients_mut(&mut results).edge_vec.iter_mut().for_each(|x| *x = -*x),
            Some(Mutation::MissingWrite) => {
                let gradients = O::gradients_mut(&mut results);
                let last = if gradients.nodes.is_empty() { &mut gradients.edge_vec } else { &mut gradients.nodes };
                last.iter_mut().next_back().into_iter().for_each(|x| *x = f64::NAN);
            }
            _ => {}
        }
        let zero = self.mutation == Some(Mutation::ZeroOutput);
        let results = O::map(&results, &|x| match dtype {
            _ if zero => 0.0,
            Dtype::F32 => f64::from(x as f32),
            Dtype::F64 => x,
        });
        let overwrites = self.mutation == Some(Mutation::InputOverwritten);
        Ok(Box::new(OracleLaunch::<O> { outputs: O::poisoned(&inputs), inputs, results, overwrites }))
    }
}

/// Puts an edge out of reach whose absence matters: neither beyond the cutoff nor so near it that nothing is missed.
fn drop_edge(inputs: &mut Inputs<f64>) {
    let r_c = inputs.radial.r_cut;
    let near = |r: &[f64]| (1e-9..0.64 * r_c * r_c).contains(&r.iter().map(|x| x * x).sum::<f64>());
    if let Some(edge) = inputs.edge_vec.chunks_exact(3).rposition(near) {
        inputs.edge_vec[3 * edge..][..3].copy_from_slice(&[2.0 * r_c, 0.0, 0.0]);
    }
}

/// The results are known before the first run, which writes them.
struct OracleLaunch<O: Derivative> {
    inputs: O::Inputs,
    results: O::Outputs,
    outputs: O::Outputs,
    overwrites: bool,
}

impl<O: Derivative> Launch<O> for OracleLaunch<O> {
    fn poison(&mut self) -> Result<(), LaunchError> {
        self.outputs = O::poisoned(&self.inputs);
        Ok(())
    }

    fn run(&mut self) -> Result<(), LaunchError> {
        self.outputs = O::map(&self.results, &|x| x);
        if self.overwrites
            && let Some(x) = O::forward_mut(&mut self.inputs).edge_vec.last_mut()
        {
            *x = -*x;
        }
        Ok(())
    }

    fn time(&mut self) -> Result<Duration, LaunchError> {
        let start = Instant::now();
        self.run()?;
        Ok(start.elapsed())
    }

    fn outputs(&mut self) -> Result<O::Outputs, LaunchError> {
        Ok(O::map(&self.outputs, &|x| x))
    }

    fn input_digest(&mut self) -> Result<u64, LaunchError> {
        let mut hasher = DefaultHasher::new();
        let forward = O::forward_mut(&mut self.inputs);
        (&forward.row_ptr, &forward.sender).hash(&mut hasher);
        O::tensors(&self.inputs).into_iter().flatten().for_each(|x| x.to_bits().hash(&mut hasher));
        Ok(hasher.finish())
    }
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use super::*;
    use crate::catalogue::{CaseSet, OracleCache};
    use crate::gate::{GatePlan, GateSummary, Gated, run_gate};

    /// Linear, since every fault can be put into these.
    const LINEAR: [&str; 2] = ["cfconv_linear_gaussian_cosine_receiver", "painn_linear_bessel_polynomial_receiver"];

    fn gate<O: Derivative + Gated>(
        runtime: &dyn Prepare<O>,
        cache: &mut OracleCache<O>,
        ids: &[&str],
        set: CaseSet,
        dtypes: &[Dtype],
    ) -> GateSummary {
        let variants: Vec<Variant> = ids.iter().map(|id| id.parse().unwrap()).collect();
        let plan = GatePlan { variants: &variants, dtypes, set, seeds: 3 };
        run_gate(&[runtime], &plan, cache, &mut |_| ControlFlow::Continue(()))
    }

    fn right_passes<O: Derivative + Gated>() {
        let ids = [LINEAR[0], "painn_mlp_expnorm_cosine_receiver", "painn_tabulated_edge_atomic"];
        let summary =
            gate::<O>(&MutantRuntime::new(None), &mut OracleCache::default(), &ids, CaseSet::Full, &Dtype::ALL);
        let failure = summary.cases.iter().find(|row| row.verdict != "passed");
        assert_eq!(summary.failure(), None, "{failure:?}");
        assert_eq!(summary.passed, summary.cases.len());
        assert!(summary.cases.iter().all(|row| row.order == O::ORDER));
    }

    #[test]
    fn the_right_first_backward_passes_everything() {
        right_passes::<FusedMessageBackward>();
    }

    #[test]
    fn the_right_second_backward_passes_everything() {
        right_passes::<FusedMessageDoubleBackward>();
    }

    fn faults_are_caught<O: Derivative + Gated>() {
        let mut cache = OracleCache::default();
        for mutation in Mutation::ALL {
            let runtime = MutantRuntime::new(Some(mutation));
            let summary = gate::<O>(&runtime, &mut cache, &LINEAR, CaseSet::Quick, &Dtype::ALL);
            assert!(summary.failure().is_some(), "{mutation:?} went unnoticed");
            for variant in LINEAR {
                for dtype in Dtype::ALL {
                    let caught =
                        |r: &&crate::gate::GateRow| r.variant == variant && r.dtype == dtype && r.verdict == "failed";
                    assert!(
                        summary.cases.iter().any(|r| caught(&r)),
                        "{mutation:?} went unnoticed in {variant} {dtype} of order {}",
                        O::ORDER
                    );
                }
            }
        }
    }

    #[test]
    fn every_fault_in_the_first_backward_is_caught() {
        faults_are_caught::<FusedMessageBackward>();
    }

    #[test]
    fn every_fault_in_the_second_backward_is_caught() {
        faults_are_caught::<FusedMessageDoubleBackward>();
    }
}
