//! Faults on purpose in the derivatives, put into what a kernel reads or writes.
//!
//! Where it is the gate alone that is shown to work the kernel is [`MutantRuntime`], the oracle's arithmetic with rounded
//! results; [`mutate`](crate::faults::mutate) puts the same faults around real ones.

use ff_reference::fused_message::ReferenceError;
use ff_reference::radial::{RadialFunction, RadialKind, find};
use ff_spec::fused_message::{
    BackwardInputs, DoubleBackwardInputs, DoubleGradients, Filter, FilterKind, Gradients, InputError, Inputs, Variant,
};
use ff_spec::{
    Dtype, FusedMessageBackward, FusedMessageDoubleBackward, Launch, LaunchConfig, LaunchError, Prepare, Problem,
};

use crate::faults::{Common, Fault, around};
use crate::fused_message::mutants::drop_edge;
use crate::played::Played;
use crate::scalar::Mutants;
use crate::tensors::ByTensors;

/// A fault that a gate must catch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mutation {
    /// An edge is left out.
    DroppedEdge,
    /// What is written last is not written.
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

    /// Whether kernels of a variant can be given the fault.
    pub fn concerns(self, variant: &Variant) -> bool {
        self != Mutation::CutoffSlope || variant.filter == FilterKind::Linear
    }
}

/// What a mutant has to know of a derivative.
pub trait Derivative: ByTensors<Variant = Variant, Error = ReferenceError, Forward = Inputs<f64>> {
    /// Checks the inputs.
    ///
    /// # Errors
    /// [`InputError`].
    fn check(inputs: &Self::Inputs) -> Result<(), InputError>;
    /// Takes out of the results what comes from the slope of the cutoff, in part: enough for them to be wrong.
    fn forget(inputs: &Self::Inputs, slopes: &[EdgeSlope], outputs: &mut Self::Outputs);
    /// The gradients of inputs among the results.
    fn gradients_mut(outputs: &mut Self::Outputs) -> &mut Gradients<f64>;
}

impl Derivative for FusedMessageBackward {
    fn check(inputs: &BackwardInputs<f64>) -> Result<(), InputError> {
        inputs.check()
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
}

impl Derivative for FusedMessageDoubleBackward {
    fn check(inputs: &DoubleBackwardInputs<f64>) -> Result<(), InputError> {
        inputs.check()
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

impl<O: Derivative> Fault<O> for Mutation {
    fn common(self) -> Option<Common> {
        match self {
            Mutation::MissingWrite => Some(Common::MissingWrite),
            Mutation::StaleBufferRead => Some(Common::StaleBufferRead),
            Mutation::InputOverwritten => Some(Common::InputOverwritten),
            Mutation::ZeroOutput => Some(Common::ZeroOutput),
            _ => None,
        }
    }

    fn read(self, inputs: &mut O::Inputs) {
        if O::check(inputs).is_err() {
            return;
        }
        let forward = O::forward_mut(inputs);
        match self {
            Mutation::DroppedEdge => drop_edge(forward),
            Mutation::ReceiverForSender => {
                for i in 0..forward.n_atoms {
                    forward.sender[forward.row_ptr[i] as usize..forward.row_ptr[i + 1] as usize].fill(i as u32);
                }
            }
            _ => {}
        }
    }

    fn write(self, variant: &Variant, inputs: &O::Inputs, outputs: &mut O::Outputs) -> Result<(), LaunchError> {
        match self {
            Mutation::CutoffSlope => O::forget(inputs, &edge_slopes(variant, O::forward(inputs))?, outputs),
            Mutation::EdgeSign => O::gradients_mut(outputs).edge_vec.iter_mut().for_each(|x| *x = -*x),
            _ => {}
        }
        Ok(())
    }
}

/// The oracle as a kernel of order 1 and 2, its results rounded.
pub type MutantRuntime = Mutants<Mutation>;

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
        let right = |inputs: &O::Inputs| -> Result<Box<dyn Launch<O>>, LaunchError> {
            O::check(inputs)?;
            let inputs = O::rounded(inputs, dtype);
            let exact = O::oracle(variant, &inputs).map_err(|e| LaunchError::Compile(e.to_string()))?.outputs;
            let results = O::map(&exact, &mut |x| dtype.round(x));
            Ok(Box::new(Played::<O>::on(inputs, results, false)))
        };
        match self.mutation {
            Some(mutation) => around(mutation, &self.leftovers, (variant, dtype, inputs), right),
            None => right(inputs),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::OracleCache;
    use crate::testing::{assert_caught, assert_passes};

    /// Linear, since every fault can be put into these.
    const LINEAR: [&str; 2] = ["cfconv_linear_gaussian_cosine_receiver", "painn_linear_bessel_polynomial_receiver"];

    fn variants<const N: usize>(ids: [&str; N]) -> [Variant; N] {
        ids.map(|id| id.parse().unwrap())
    }

    fn right_passes<O: Derivative>() {
        let variants = variants([LINEAR[0], "painn_mlp_expnorm_cosine_receiver", "painn_tabulated_edge_atomic"]);
        assert_passes::<O>(&MutantRuntime::new(None), &variants, &Dtype::ALL);
    }

    #[test]
    fn the_right_first_backward_passes_everything() {
        right_passes::<FusedMessageBackward>();
    }

    #[test]
    fn the_right_second_backward_passes_everything() {
        right_passes::<FusedMessageDoubleBackward>();
    }

    fn faults_are_caught<O: Derivative>() {
        let mut cache = OracleCache::default();
        for mutation in Mutation::ALL {
            let runtime = MutantRuntime::new(Some(mutation));
            assert_caught::<O>(&format!("{mutation:?}"), &runtime, &variants(LINEAR), &mut cache);
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
