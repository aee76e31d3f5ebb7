//! Faults on purpose: a scalar kernel of each order that rounds every operation to its dtype, and the same with a fault.

use ff_spec::force_scatter::{
    BackwardInputs, DoubleBackwardInputs, DoubleGradients, Gradients, Inputs, Outputs, Variant,
};
use ff_spec::{
    Dtype, ForceScatter, ForceScatterBackward, ForceScatterDoubleBackward, Launch, LaunchConfig, LaunchError, Prepare,
    Problem,
};

use crate::faults::{Common, Fault};
use crate::played::{Played, shape};
use crate::scalar::Mutants;
use crate::tensors::ByTensors;

/// A fault that a gate must catch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mutation {
    /// The last edge is left out.
    DroppedEdge,
    /// The last element is not written.
    MissingWrite,
    /// The edge gradients that the first launch of the same shape left in memory are used: wrong from the second seed on.
    StaleBufferRead,
    /// An input is written to.
    InputOverwritten,
    /// Everything is zero.
    ZeroOutput,
    /// The sender is pulled where it should be pushed.
    SenderSign,
    /// The sender is forgotten.
    SenderForgotten,
    /// The strain derivative, or its cotangent, is not made symmetric.
    Unsymmetric,
    /// Every edge is taken for one of the first system.
    FirstSystem,
    /// Edge vectors are taken for constants. Derivatives only.
    ConstantVectors,
}

impl Mutation {
    /// All mutations that an order can have.
    pub fn of_order(order: u8) -> &'static [Mutation] {
        const ALL: [Mutation; 10] = [
            Mutation::DroppedEdge,
            Mutation::MissingWrite,
            Mutation::StaleBufferRead,
            Mutation::InputOverwritten,
            Mutation::ZeroOutput,
            Mutation::SenderSign,
            Mutation::SenderForgotten,
            Mutation::Unsymmetric,
            Mutation::FirstSystem,
            Mutation::ConstantVectors,
        ];
        if order == 0 { &ALL[..9] } else { &ALL }
    }
}

/// One call of the scalar kernel.
#[derive(Debug)]
pub struct Scalar<'a> {
    list: &'a Inputs<f64>,
    dtype: Dtype,
    mutation: Option<Mutation>,
}

/// Receiver, sender and system of an edge.
type Ends = (usize, usize, usize);

impl Scalar<'_> {
    fn has(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }

    fn round(&self, x: f64) -> f64 {
        self.dtype.round(x)
    }

    fn for_each_edge(&self, mut visit: impl FnMut(usize, Ends)) {
        let Inputs { row_ptr, sender, .. } = self.list;
        let n_edges = sender.len() - usize::from(self.has(Mutation::DroppedEdge) && !sender.is_empty());
        for (receiver, system) in self.list.system_of_atoms().into_iter().enumerate() {
            let system = if self.has(Mutation::FirstSystem) { 0 } else { system as usize };
            let at = |atom: usize| (row_ptr[atom] as usize).min(n_edges);
            let row = at(receiver)..at(receiver + 1);
            for (edge, sender) in row.clone().zip(&sender[row]) {
                visit(edge, (receiver, *sender as usize, system));
            }
        }
    }

    fn add(&self, to: &mut f64, x: f64) {
        *to = self.round(*to + x);
    }

    fn sender_sign(&self) -> f64 {
        match self.mutation {
            Some(Mutation::SenderSign) => 1.0,
            Some(Mutation::SenderForgotten) => 0.0,
            _ => -1.0,
        }
    }

    fn forces(&self, values: &[f64]) -> Vec<f64> {
        let mut forces = vec![0.0; 3 * self.list.n_atoms()];
        self.for_each_edge(|edge, (receiver, sender, _)| {
            for axis in 0..3 {
                self.add(&mut forces[3 * receiver + axis], values[3 * edge + axis]);
                self.add(&mut forces[3 * sender + axis], self.sender_sign() * values[3 * edge + axis]);
            }
        });
        forces
    }

    /// Adds Σ_e sym(a ⊗ b).
    fn add_strain(&self, strain: &mut [f64], a: &[f64], b: &[f64]) {
        let product = |x: f64, y: f64| self.round(x * y);
        self.for_each_edge(|edge, (_, _, system)| {
            let (a, b) = (&a[3 * edge..], &b[3 * edge..]);
            for (x, y) in (0..3).flat_map(|x| (0..3).map(move |y| (x, y))) {
                let mirror = if self.has(Mutation::Unsymmetric) { product(a[x], b[y]) } else { product(a[y], b[x]) };
                let both = self.round(product(a[x], b[y]) + mirror);
                self.add(&mut strain[9 * system + 3 * x + y], 0.5 * both);
            }
        });
    }

    /// s·(r, g) for every edge, the one in the gradient of g with F̄_i − F̄_j where there is one.
    fn gradients(&self, grad: &Outputs<f64>, forces: bool, vec: &[f64], edge_grad: &[f64]) -> Gradients<f64> {
        let mut out = Gradients { edge_vec: vec![0.0; vec.len()], edge_grad: vec![0.0; vec.len()] };
        self.for_each_edge(|edge, (receiver, sender, system)| {
            let strain = &grad.strain[9 * system..];
            for x in 0..3 {
                let at = 3 * edge + x;
                if forces {
                    out.edge_grad[at] = grad.forces[3 * receiver + x];
                    self.add(&mut out.edge_grad[at], self.sender_sign() * grad.forces[3 * sender + x]);
                }
                for y in 0..3 {
                    let mirror = if self.has(Mutation::Unsymmetric) { strain[3 * x + y] } else { strain[3 * y + x] };
                    let s = 0.5 * self.round(strain[3 * x + y] + mirror);
                    self.add(&mut out.edge_grad[at], self.round(s * vec[3 * edge + y]));
                    self.add(&mut out.edge_vec[at], self.round(s * edge_grad[3 * edge + y]));
                }
            }
        });
        out
    }

    fn strain(&self) -> Vec<f64> {
        vec![0.0; 9 * self.list.n_systems()]
    }
}

/// An order with its scalar kernel.
pub trait Kernel: ByTensors<Variant = Variant, Forward = Inputs<f64>> {
    /// Its results, before the faults that every kernel can have.
    fn compute(inputs: &Self::Inputs, dtype: Dtype, mutation: Option<Mutation>) -> Self::Outputs;
}

impl Kernel for ForceScatter {
    fn compute(list: &Inputs<f64>, dtype: Dtype, mutation: Option<Mutation>) -> Outputs<f64> {
        let kernel = Scalar { list, dtype, mutation };
        let mut strain = kernel.strain();
        kernel.add_strain(&mut strain, &list.edge_vec, &list.edge_grad);
        Outputs { forces: kernel.forces(&list.edge_grad), strain }
    }
}

impl Kernel for ForceScatterBackward {
    fn compute(inputs: &BackwardInputs<f64>, dtype: Dtype, mutation: Option<Mutation>) -> Gradients<f64> {
        let BackwardInputs { inputs: list, grad } = inputs;
        let mut out = Scalar { list, dtype, mutation }.gradients(grad, true, &list.edge_vec, &list.edge_grad);
        if mutation == Some(Mutation::ConstantVectors) {
            out.edge_vec.fill(0.0);
        }
        out
    }
}

impl Kernel for ForceScatterDoubleBackward {
    fn compute(inputs: &DoubleBackwardInputs<f64>, dtype: Dtype, mutation: Option<Mutation>) -> DoubleGradients<f64> {
        let DoubleBackwardInputs { inputs: list, grad, tangent } = inputs;
        let kernel = Scalar { list, dtype, mutation };
        let mut t_r = tangent.edge_vec.clone();
        if kernel.has(Mutation::ConstantVectors) {
            t_r.fill(0.0);
        }
        let mut strain = kernel.strain();
        kernel.add_strain(&mut strain, &list.edge_vec, &tangent.edge_grad);
        kernel.add_strain(&mut strain, &t_r, &list.edge_grad);
        DoubleGradients {
            grad: Outputs { forces: kernel.forces(&tangent.edge_grad), strain },
            gradients: kernel.gradients(grad, false, &t_r, &tangent.edge_grad),
        }
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
            self.leftovers.read(shape::<O>(variant, dtype, &inputs), &mut O::forward_mut(&mut read).edge_grad);
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
