//! Faults on purpose: a gate is worth what it catches.
//!
//! [`MutantRuntime`] is a kernel simple enough to be right by inspection, with each fault built in where such a fault
//! would be made. [`mutate`] puts the same faults around any runtime.

use std::time::Duration;

use ff_reference::fused_message::ReferenceError;
use ff_reference::radial::{BoundRadial, RadialFunction, RadialKind, find};
use ff_spec::fused_message::{Filter, FilterKind, Inputs, Message, Outputs, Reduction, Variant};
use ff_spec::{
    Atomics, Clock, Device, DeviceId, Dtype, FusedMessage, Launch, LaunchConfig, LaunchError, Limits, Prepare, Problem,
    RuntimeKind,
};

use crate::played::{Leftovers, Played, Shape, shape};
use crate::tensors::ByTensors;

/// A fault that a gate must catch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mutation {
    /// An edge is left out.
    DroppedEdge,
    /// The last row is not written.
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

/// A device whose every kernel is simple enough to be right by inspection, with or without a fault.
#[derive(Debug)]
pub struct Mutants<M> {
    pub(crate) mutation: Option<M>,
    device: DeviceId,
    pub(crate) leftovers: Leftovers,
}

/// A scalar kernel for linear filters with reduction `receiver`, in f64 with its results rounded.
pub type MutantRuntime = Mutants<Mutation>;

/// The device of mutants.
pub(crate) fn scalar_device() -> DeviceId {
    DeviceId {
        runtime: RuntimeKind::Host,
        name: "scalar".to_owned(),
        slug: "scalar".to_owned(),
        arch: "scalar".to_owned(),
        driver: String::new(),
        software: true,
        threads: 1,
        limits: Limits { max_units_per_cube: 1, shared_memory: 0, plane_size: 1 },
        atomics: Atomics::default(),
        f64: true,
    }
}

impl<M> Mutants<M> {
    /// A runtime whose every launch has the fault; a right one for `None`.
    pub fn new(mutation: Option<M>) -> Self {
        Self { mutation, device: scalar_device(), leftovers: Leftovers::default() }
    }
}

impl<M> Device for Mutants<M> {
    fn device(&self) -> &DeviceId {
        &self.device
    }

    fn clock(&self) -> Clock {
        Clock::Wall
    }
}

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

/// Puts a fault around every launch of a runtime, from the outside: through its inputs, its outputs or its digest.
pub fn mutate(runtime: Box<dyn Prepare>, mutation: Mutation) -> Box<dyn Prepare> {
    Box::new(Mutated { inner: runtime, mutation, leftovers: Leftovers::default() })
}

struct Mutated {
    inner: Box<dyn Prepare>,
    mutation: Mutation,
    leftovers: Leftovers,
}

impl Device for Mutated {
    fn device(&self) -> &DeviceId {
        self.inner.device()
    }

    fn clock(&self) -> Clock {
        self.inner.clock()
    }
}

impl Prepare for Mutated {
    fn default_config(&self, variant: &Variant, dtype: Dtype, problem: &Problem) -> LaunchConfig {
        self.inner.default_config(variant, dtype, problem)
    }

    fn prepare(
        &self,
        variant: &Variant,
        dtype: Dtype,
        inputs: &Inputs<f64>,
        config: &LaunchConfig,
    ) -> Result<Box<dyn Launch>, LaunchError> {
        let changed = changed_inputs(inputs, self.mutation);
        let inner = self.inner.prepare(variant, dtype, changed.as_ref().unwrap_or(inputs), config)?;
        Ok(Box::new(MutatedLaunch {
            inner,
            mutation: self.mutation,
            features: inputs.features,
            shape: shape::<FusedMessage>(variant, dtype, inputs),
            leftovers: self.leftovers.clone(),
            runs: 0,
            poisoned: false,
        }))
    }
}

/// Inputs from which a right kernel computes what a faulty one would from the given ones; `None` for a fault that is
/// not in the inputs.
fn changed_inputs(inputs: &Inputs<f64>, mutation: Mutation) -> Option<Inputs<f64>> {
    let mut changed = inputs.clone();
    match mutation {
        Mutation::DroppedEdge => {
            let r_c = inputs.radial.r_cut;
            // An edge whose absence matters: neither beyond the cutoff nor so near it that nothing is missed.
            let near = |r: &[f64]| r.iter().map(|x| x * x).sum::<f64>() < 0.64 * r_c * r_c;
            let edge = inputs.edge_vec.chunks_exact(3).rposition(near)?;
            changed.edge_vec[3 * edge..][..3].copy_from_slice(&[2.0 * r_c, 0.0, 0.0]);
        }
        Mutation::OffByOneCutoff => changed.radial.r_cut *= 1.02,
        _ => return None,
    }
    Some(changed)
}

struct MutatedLaunch {
    inner: Box<dyn Launch>,
    mutation: Mutation,
    features: usize,
    shape: Shape,
    leftovers: Leftovers,
    runs: u64,
    poisoned: bool,
}

impl Launch for MutatedLaunch {
    fn poison(&mut self) -> Result<(), LaunchError> {
        self.poisoned = true;
        self.inner.poison()
    }

    fn run(&mut self) -> Result<(), LaunchError> {
        (self.poisoned, self.runs) = (false, self.runs + 1);
        self.inner.run()
    }

    fn time(&mut self) -> Result<Duration, LaunchError> {
        (self.poisoned, self.runs) = (false, self.runs + 1);
        self.inner.time()
    }

    fn outputs(&mut self) -> Result<Outputs<f64>, LaunchError> {
        let mut out = self.inner.outputs()?;
        if self.poisoned {
            return Ok(out);
        }
        let f = self.features;
        match self.mutation {
            Mutation::MissingWrite => {
                let start = out.nodes.len().saturating_sub(f);
                out.nodes[start..].fill(f64::NAN);
            }
            Mutation::WrongChannelOffset => {
                out.nodes.chunks_exact_mut(f.max(1)).for_each(|row| row.rotate_left(1));
            }
            Mutation::ZeroOutput => out.nodes.iter_mut().chain(&mut out.vectors).for_each(|x| *x = 0.0),
            Mutation::StaleBufferRead => self.leftovers.read(self.shape.clone(), &mut out.nodes),
            Mutation::DroppedEdge | Mutation::OffByOneCutoff | Mutation::InputOverwritten => {}
        }
        Ok(out)
    }

    fn input_digest(&mut self) -> Result<u64, LaunchError> {
        let digest = self.inner.input_digest()?;
        Ok(if self.mutation == Mutation::InputOverwritten { digest ^ self.runs } else { digest })
    }
}

#[cfg(test)]
mod tests {
    use ff_spec::fused_message::InputError;

    use super::*;
    use crate::catalogue::{CaseSet, OracleCache};
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
            let around = mutate(Box::new(MutantRuntime::new(None)), mutation);
            assert_caught(&format!("{mutation:?} around"), around.as_ref(), &variants(), &mut cache);
        }
    }

    #[test]
    fn a_fault_does_not_hide_what_the_runtime_lacks() {
        let runtime = mutate(Box::new(MutantRuntime::new(None)), Mutation::ZeroOutput);
        let variant: Variant = "cfconv_tabulated_receiver".parse().unwrap();
        let case = &crate::catalogue::cases(ff_spec::fused_message::OP, &variant, CaseSet::Quick)[0];
        let inputs = case.inputs(&variant, Dtype::F32, 0).unwrap();
        let refused = runtime.prepare(&variant, Dtype::F32, &inputs, &LaunchConfig::default()).err();
        assert!(matches!(refused, Some(LaunchError::Unsupported(_))), "{refused:?}");
        let wrong = Inputs { sender: vec![99; inputs.n_edges()], ..inputs };
        let refused = runtime.prepare(&variant, Dtype::F32, &wrong, &LaunchConfig::default()).err();
        assert!(matches!(refused, Some(LaunchError::Input(InputError::Sender { .. }))), "{refused:?}");
    }
}
