//! Faults on purpose: a scalar kernel of each order that rounds every operation to its dtype, and the same with a fault.

use ff_spec::vector_norm::{
    BackwardInputs, DoubleBackwardInputs, DoubleGradients, Gradients, Inputs, Outputs, Variant,
};
use ff_spec::{
    Dtype, Launch, LaunchConfig, LaunchError, Prepare, Problem, VectorNorm, VectorNormBackward,
    VectorNormDoubleBackward,
};

use crate::faults::{Common, Fault};
use crate::played::{Played, shape};
use crate::scalar::Mutants;
use crate::tensors::ByTensors;

/// A fault that a gate must catch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mutation {
    /// The last element is not written.
    MissingWrite,
    /// The vectors that the first launch of the same shape left in memory are used: wrong from the second seed on.
    StaleBufferRead,
    /// An input is written to.
    InputOverwritten,
    /// Everything is zero.
    ZeroOutput,
    /// The z axis is left out of the norm and of s.
    AxisForgotten,
    /// √(Σ_a V_a²) + ε.
    EpsilonOutside,
    /// ε once per axis.
    EpsilonPerAxis,
    /// No ε at all.
    EpsilonForgotten,
    /// Half the result.
    Half,
    /// The first backward is g·V. Order 1 only.
    Undivided,
    /// The second backward is g·t/n in V. Order 2 only.
    NoSecondTerm,
    /// V·s·g/n³, with a power too many, which is right as long as n³ is a number: of f32 in order 2 alone, and no fault of
    /// [`Mutation::of_order`].
    Cubed,
}

impl Mutation {
    /// All mutations that an order can have in every dtype.
    pub fn of_order(order: u8) -> Vec<Mutation> {
        let mut all = vec![
            Mutation::MissingWrite,
            Mutation::StaleBufferRead,
            Mutation::InputOverwritten,
            Mutation::ZeroOutput,
            Mutation::AxisForgotten,
            Mutation::EpsilonOutside,
            Mutation::EpsilonPerAxis,
            Mutation::EpsilonForgotten,
            Mutation::Half,
        ];
        match order {
            0 => {}
            1 => all.push(Mutation::Undivided),
            _ => all.push(Mutation::NoSecondTerm),
        }
        all
    }
}

/// One call of the scalar kernel.
#[derive(Debug)]
struct Scalar<'a> {
    inputs: &'a Inputs<f64>,
    dtype: Dtype,
    mutation: Option<Mutation>,
}

impl Scalar<'_> {
    fn has(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }

    fn round(&self, x: f64) -> f64 {
        self.dtype.round(x)
    }

    /// Where the axes of an element of the norm are in the vectors.
    fn axes(&self, at: usize) -> [usize; 3] {
        let f = self.inputs.features;
        [0, 1, 2].map(|axis| (3 * (at / f) + axis) * f + at % f)
    }

    /// Σ_a a·b from a first term on.
    fn sum(&self, at: usize, first: f64, a: &[f64], b: &[f64]) -> f64 {
        let axes = self.axes(at);
        let summed = if self.has(Mutation::AxisForgotten) { &axes[..2] } else { &axes[..] };
        summed.iter().fold(first, |sum, axis| self.round(sum + self.round(a[*axis] * b[*axis])))
    }

    fn norm(&self, at: usize) -> f64 {
        let Inputs { vectors, epsilon, .. } = self.inputs;
        let beneath = match self.mutation {
            Some(Mutation::EpsilonOutside | Mutation::EpsilonForgotten) => 0.0,
            Some(Mutation::EpsilonPerAxis) => self.round(3.0 * epsilon),
            _ => *epsilon,
        };
        let norm = self.round(self.sum(at, beneath, vectors, vectors).sqrt());
        if self.has(Mutation::EpsilonOutside) { self.round(norm + epsilon) } else { norm }
    }

    /// A value of each element of the norm.
    fn norms(&self, value: impl Fn(usize) -> f64) -> Vec<f64> {
        (0..self.inputs.n_norms()).map(value).collect()
    }

    /// A value of each element of the vectors, by its element of the norm and its place.
    fn vectors(&self, value: impl Fn(usize, usize) -> f64) -> Vec<f64> {
        let mut all = vec![0.0; self.inputs.vectors.len()];
        for at in 0..self.inputs.n_norms() {
            for place in self.axes(at) {
                all[place] = value(at, place);
            }
        }
        all
    }
}

/// An order with its scalar kernel.
pub trait Kernel: ByTensors<Variant = Variant, Forward = Inputs<f64>> {
    /// Its results, before the faults that every kernel can have.
    fn compute(inputs: &Self::Inputs, dtype: Dtype, mutation: Option<Mutation>) -> Self::Outputs;
}

/// Half the outputs where that is the fault.
fn halved<O: ByTensors>(outputs: O::Outputs, mutation: Option<Mutation>) -> O::Outputs {
    if mutation == Some(Mutation::Half) { O::map(&outputs, &mut |x| 0.5 * x) } else { outputs }
}

impl Kernel for VectorNorm {
    fn compute(inputs: &Inputs<f64>, dtype: Dtype, mutation: Option<Mutation>) -> Outputs<f64> {
        let kernel = Scalar { inputs, dtype, mutation };
        halved::<Self>(Outputs { norm: kernel.norms(|at| kernel.norm(at)) }, mutation)
    }
}

impl Kernel for VectorNormBackward {
    fn compute(inputs: &BackwardInputs<f64>, dtype: Dtype, mutation: Option<Mutation>) -> Gradients<f64> {
        let BackwardInputs { inputs, grad } = inputs;
        let kernel = Scalar { inputs, dtype, mutation };
        let vectors = kernel.vectors(|at, place| {
            let divisor = if kernel.has(Mutation::Undivided) { 1.0 } else { kernel.norm(at) };
            kernel.round(kernel.round(grad[at] / divisor) * inputs.vectors[place])
        });
        halved::<Self>(Gradients { vectors }, mutation)
    }
}

impl Kernel for VectorNormDoubleBackward {
    fn compute(inputs: &DoubleBackwardInputs<f64>, dtype: Dtype, mutation: Option<Mutation>) -> DoubleGradients<f64> {
        let DoubleBackwardInputs { inputs, grad, tangent } = inputs;
        let kernel = Scalar { inputs, dtype, mutation };
        let round = |x: f64| kernel.round(x);
        // s/n.
        let along = |at: usize| round(kernel.sum(at, 0.0, &inputs.vectors, tangent) / kernel.norm(at));
        let vectors = kernel.vectors(|at, place| {
            let (n, v, t) = (kernel.norm(at), inputs.vectors[place], tangent[place]);
            let by_norm = round(grad[at] / n);
            if kernel.has(Mutation::Cubed) {
                let s = kernel.sum(at, 0.0, &inputs.vectors, tangent);
                let cube = round(round(n * n) * n);
                return round(round(by_norm * t) - round(round(round(grad[at] * v) * s) / cube));
            }
            let second = if kernel.has(Mutation::NoSecondTerm) { 0.0 } else { round(v * round(along(at) / n)) };
            round(by_norm * round(t - second))
        });
        halved::<Self>(DoubleGradients { grad: kernel.norms(along), vectors }, mutation)
    }
}

/// Faults of the op's own are put around a kernel as the difference that they make to the scalar one.
impl<O: Kernel> Fault<O> for Mutation {
    fn common(self) -> Option<Common> {
        match self {
            Mutation::MissingWrite => Some(Common::MissingWrite),
            Mutation::StaleBufferRead => Some(Common::StaleBufferRead),
            Mutation::InputOverwritten => Some(Common::InputOverwritten),
            Mutation::ZeroOutput => Some(Common::ZeroOutput),
            _ => None,
        }
    }

    fn write(self, _: &Variant, inputs: &O::Inputs, outputs: &mut O::Outputs) -> Result<(), LaunchError> {
        if Fault::<O>::common(self).is_none() {
            let [right, wrong] = [None, Some(self)].map(|mutation| O::compute(inputs, Dtype::F64, mutation));
            let elements = |outputs: &O::Outputs| -> Vec<f64> {
                O::tensors(outputs).into_iter().flat_map(|(_, values)| values.iter().copied()).collect()
            };
            let differences: Vec<f64> =
                elements(&wrong).into_iter().zip(elements(&right)).map(|(wrong, right)| wrong - right).collect();
            let mut differences = differences.into_iter();
            *outputs = O::map(outputs, &mut |x| x + differences.next().unwrap_or_default());
        }
        Ok(())
    }
}

/// The scalar kernels as a device.
pub type MutantRuntime = Mutants<Mutation>;

impl<O: Kernel> Prepare<O> for MutantRuntime {
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
        O::forward(inputs).check()?;
        let inputs = O::rounded(inputs, dtype);
        let mut read = inputs.clone();
        if self.mutation == Some(Mutation::StaleBufferRead) {
            self.leftovers.read(shape::<O>(variant, dtype, &inputs), &mut O::forward_mut(&mut read).vectors);
        }
        let mut results = O::compute(&read, dtype, self.mutation);
        let elements: usize = O::tensors(&results).iter().map(|(_, values)| values.len()).sum();
        let mut element = 0;
        results = O::map(&results, &mut |x| {
            element += 1;
            match self.mutation {
                Some(Mutation::ZeroOutput) => 0.0,
                Some(Mutation::MissingWrite) if element == elements => f64::NAN,
                _ => x,
            }
        });
        let overwrites = self.mutation == Some(Mutation::InputOverwritten);
        Ok(Box::new(Played::<O>::on(inputs, results, overwrites)))
    }
}
