//! Faults on purpose in the forward.
//!
//! [`MutantRuntime`] is a kernel simple enough to be right by inspection, with each fault built in where such a fault
//! would be made; [`mutate`](crate::faults::mutate) puts the same faults around any kernel.

use ff_reference::fused_message::ReferenceError;
use ff_reference::radial::{BoundRadial, RadialFunction, RadialKind, find};
use ff_spec::fused_message::{Filter, FilterKind, Inputs, Message, Outputs, Reduction, Variant};
use ff_spec::{Dtype, FusedMessage, Launch, LaunchConfig, LaunchError, Prepare, Problem};

use crate::faults::{Common, Fault};
use crate::played::{Played, shape};
use crate::scalar::Mutants;
use crate::tensors::ByTensors;

/// A fault that a gate must catch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mutation {
    /// An edge is left out.
    DroppedEdge,
    /// What is written last is not written.
    MissingWrite,
    /// A channel gets what belongs to its neighbour.
    WrongChannelOffset,
    /// The cutoff is not where it should be.
    OffByOneCutoff,
    /// What the first launch of the same shape left in memory is used: wrong from the second seed on.
    StaleBufferRead,
    /// An input is written to.
    InputOverwritten,
    /// Everything is zero.
    ZeroOutput,
}

impl Mutation {
    /// All mutations.
    pub const ALL: [Mutation; 7] = [
        Mutation::DroppedEdge,
        Mutation::MissingWrite,
        Mutation::WrongChannelOffset,
        Mutation::OffByOneCutoff,
        Mutation::StaleBufferRead,
        Mutation::InputOverwritten,
        Mutation::ZeroOutput,
    ];
}

/// A scalar kernel for linear filters with reduction `receiver`, in f64 with its results rounded.
pub type MutantRuntime = Mutants<Mutation>;

impl Prepare for MutantRuntime {
    fn default_config(&self, _: &Variant, _: Dtype, _: &Problem) -> LaunchConfig {
        LaunchConfig::default()
    }

    fn prepare(
        &self,
        variant: &Variant,
        dtype: Dtype,
        inputs: &Inputs<f64>,
        _: &LaunchConfig,
    ) -> Result<Box<dyn Launch>, LaunchError> {
        inputs.check()?;
        inputs.check_variant(variant)?;
        let Some((basis, cutoff)) = &variant.radial else {
            return Err(LaunchError::Unsupported("a tabulated filter".to_owned()));
        };
        if (variant.filter, variant.reduction) != (FilterKind::Linear, Reduction::Receiver) {
            return Err(LaunchError::Unsupported("other than a linear filter with reduction `receiver`".to_owned()));
        }
        let bound = |name, kind, parameters| -> Result<BoundRadial, ReferenceError> {
            Ok(RadialFunction::new(find(name, kind)?)?.bind(inputs.radial.r_cut, inputs.radial.n_basis, parameters)?)
        };
        let unreadable = |e: ReferenceError| LaunchError::Compile(e.to_string());
        let basis = bound(basis, RadialKind::Basis, &inputs.radial.basis).map_err(unreadable)?;
        let cutoff = bound(cutoff, RadialKind::Cutoff, &inputs.radial.cutoff).map_err(unreadable)?;
        let inputs = FusedMessage::rounded(inputs, dtype);
        let mut read = inputs.clone();
        if self.mutation == Some(Mutation::StaleBufferRead) {
            self.leftovers.read(shape::<FusedMessage>(variant, dtype, &inputs), &mut read.nodes);
        }
        let results = Scalar { mutation: self.mutation, inputs: &read, basis, cutoff }.outputs(dtype);
        let overwrites = self.mutation == Some(Mutation::InputOverwritten);
        Ok(Box::new(Played::<FusedMessage>::on(inputs, results, overwrites)))
    }
}

/// One call of the scalar kernel.
struct Scalar<'a> {
    mutation: Option<Mutation>,
    inputs: &'a Inputs<f64>,
    basis: BoundRadial,
    cutoff: BoundRadial,
}

impl Scalar<'_> {
    fn has(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }

    /// W(d), or `None` from the cutoff on.
    fn filter(&self, d: f64) -> Option<Vec<f64>> {
        let skin = if self.has(Mutation::OffByOneCutoff) { 1.2 } else { 1.0 };
        if d >= self.inputs.radial.r_cut * skin {
            return None;
        }
        let Filter::Linear { a, b } = &self.inputs.filter else { unreachable!("`prepare` takes linear filters only") };
        let mut w = b.clone();
        for k in 0..self.inputs.radial.n_basis {
            let phi = self.basis.jet(d, k + 1)[0];
            for (w, a) in w.iter_mut().zip(&a[k * b.len()..]) {
                *w += phi * a;
            }
        }
        let f = self.cutoff.jet(d, 1)[0];
        w.iter_mut().for_each(|w| *w *= f);
        if self.has(Mutation::WrongChannelOffset) && !w.is_empty() {
            w.rotate_left(1);
        }
        Some(w)
    }

    fn row(&self, i: usize) -> (Vec<f64>, Vec<f64>) {
        let (inputs, f) = (&self.inputs, self.inputs.features);
        let (mut y, mut v) = (vec![0.0; f], vec![0.0; 3 * f]);
        let dropped = usize::from(self.has(Mutation::DroppedEdge));
        let end = (inputs.row_ptr[i + 1] as usize).saturating_sub(dropped);
        for e in inputs.row_ptr[i] as usize..end {
            let r = &inputs.edge_vec[3 * e..3 * e + 3];
            let d = r.iter().map(|x| x * x).sum::<f64>().sqrt();
            let Some(w) = self.filter(d) else { continue };
            let j = inputs.sender[e] as usize;
            let s = &inputs.nodes[j * w.len()..];
            for c in 0..f {
                y[c] += s[c] * w[c];
                if inputs.message == Message::Painn {
                    for axis in 0..3 {
                        let u = if d == 0.0 { 0.0 } else { r[axis] / d };
                        let mu = inputs.vectors[(3 * j + axis) * f + c];
                        v[axis * f + c] += s[f + c] * w[f + c] * u + s[2 * f + c] * w[2 * f + c] * mu;
                    }
                }
            }
        }
        (y, v)
    }

    fn outputs(&self, dtype: Dtype) -> Outputs<f64> {
        let (mut out, f) = (self.inputs.poisoned_outputs(), self.inputs.features);
        let rows = self.inputs.n_atoms - usize::from(self.has(Mutation::MissingWrite) && self.inputs.n_atoms > 0);
        let round = |x: f64| if self.has(Mutation::ZeroOutput) { 0.0 } else { dtype.round(x) };
        for i in 0..rows {
            let (y, v) = self.row(i);
            out.nodes[i * f..][..f].iter_mut().zip(y).for_each(|(out, y)| *out = round(y));
            if self.inputs.message == Message::Painn {
                out.vectors[3 * i * f..][..3 * f].iter_mut().zip(v).for_each(|(out, v)| *out = round(v));
            }
        }
        out
    }
}

impl Fault<FusedMessage> for Mutation {
    fn common(self) -> Option<Common> {
        match self {
            Mutation::MissingWrite => Some(Common::MissingWrite),
            Mutation::StaleBufferRead => Some(Common::StaleBufferRead),
            Mutation::InputOverwritten => Some(Common::InputOverwritten),
            Mutation::ZeroOutput => Some(Common::ZeroOutput),
            Mutation::DroppedEdge | Mutation::WrongChannelOffset | Mutation::OffByOneCutoff => None,
        }
    }

    fn read(self, inputs: &mut Inputs<f64>) {
        match self {
            Mutation::DroppedEdge => drop_edge(inputs),
            Mutation::OffByOneCutoff => inputs.radial.r_cut *= 1.02,
            _ => {}
        }
    }

    fn write(self, _: &Variant, inputs: &Inputs<f64>, outputs: &mut Outputs<f64>) -> Result<(), LaunchError> {
        if self == Mutation::WrongChannelOffset {
            outputs.nodes.chunks_exact_mut(inputs.features.max(1)).for_each(|row| row.rotate_left(1));
        }
        Ok(())
    }
}

/// Puts an edge out of reach whose absence matters: it has a direction and is well within the cutoff.
pub(super) fn drop_edge(inputs: &mut Inputs<f64>) {
    let r_c = inputs.radial.r_cut;
    let near = |r: &[f64]| (1e-9..0.64 * r_c * r_c).contains(&r.iter().map(|x| x * x).sum::<f64>());
    if let Some(edge) = inputs.edge_vec.chunks_exact(3).rposition(near) {
        inputs.edge_vec[3 * edge..][..3].copy_from_slice(&[2.0 * r_c, 0.0, 0.0]);
    }
}

#[cfg(test)]
mod tests {
    use ff_spec::fused_message::InputError;

    use super::*;
    use crate::catalogue::{CaseSet, OracleCache};
    use crate::faults::mutate;
    use crate::testing::{assert_caught, assert_passes};

    fn variants() -> [Variant; 2] {
        ["cfconv_linear_gaussian_cosine_receiver", "painn_linear_bessel_polynomial_receiver"]
            .map(|id| id.parse().unwrap())
    }

    #[test]
    fn the_right_kernel_passes_everything() {
        assert_passes(&MutantRuntime::new(None), &variants(), &[Dtype::F32]);
    }

    #[test]
    fn every_fault_is_caught_in_every_variant_and_dtype() {
        let mut cache = OracleCache::default();
        for mutation in Mutation::ALL {
            let inside = MutantRuntime::new(Some(mutation));
            assert_caught(&format!("{mutation:?} inside"), &inside, &variants(), &mut cache);
            let around = mutate::<FusedMessage, _, _>(Box::new(MutantRuntime::new(None)), mutation);
            assert_caught(&format!("{mutation:?} around"), around.as_ref(), &variants(), &mut cache);
        }
    }

    #[test]
    fn a_fault_does_not_hide_what_the_runtime_lacks() {
        let runtime = mutate::<FusedMessage, _, _>(Box::new(MutantRuntime::new(None)), Mutation::ZeroOutput);
        let variant: Variant = "cfconv_tabulated_receiver".parse().unwrap();
        let case = &FusedMessage::cases(&variant, CaseSet::Quick)[0];
        let inputs = case.inputs(&variant, Dtype::F32, 0).unwrap();
        let refused = runtime.prepare(&variant, Dtype::F32, &inputs, &LaunchConfig::default()).err();
        assert!(matches!(refused, Some(LaunchError::Unsupported(_))), "{refused:?}");
        let wrong = Inputs { sender: vec![99; inputs.n_edges()], ..inputs };
        let refused = runtime.prepare(&variant, Dtype::F32, &wrong, &LaunchConfig::default()).err();
        let Some(LaunchError::Input(error)) = &refused else { panic!("{refused:?}") };
        assert!(matches!(error.downcast_ref(), Some(InputError::Sender { .. })), "{refused:?}");
    }
}
