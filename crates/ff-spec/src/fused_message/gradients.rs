//! What the first and the second backward of `fused_message` read and write.
//!
//! With cotangents g in the shape of [`Outputs`], L = ⟨g, outputs⟩. The first backward is the gradients of L. With
//! cotangents t of those, Q = ⟨t, gradients of L⟩ is the derivative of L in direction t; the second backward is the
//! gradients of Q in g and in every input. Each gradient has the shape of what it is taken in and its unit inverted.

use crate::Scalar;
use crate::dtype::cast_by_map;

use super::{Filter, InputError, Inputs, Message, Outputs, shape_error};

/// Gradients in every differentiable input, or one cotangent for each of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Gradients<T> {
    /// In `x` [n_atoms, F] or `s` [n_atoms, 3F].
    pub nodes: Vec<T>,
    /// In `mu` [n_atoms, 3, F]; empty for cfconv.
    pub vectors: Vec<T>,
    /// In `edge_vec` [n_edges, 3], 1/Å. Zero where d ≥ r_c and, by definition, at d = 0.
    pub edge_vec: Vec<T>,
    /// In the filter's weights; `None` for a tabulated filter, which has none, and where nobody asks for them.
    pub filter: Option<Filter<T>>,
}

/// Which gradients the first backward computes. Those not wanted are empty, or `None`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Wanted {
    /// `nodes` and `vectors`.
    pub nodes: bool,
    /// `edge_vec`.
    pub edge_vec: bool,
    /// `filter`. There is nothing to want of a tabulated one.
    pub filter: bool,
}

impl Wanted {
    /// All gradients: training.
    pub const ALL: Wanted = Wanted { nodes: true, edge_vec: true, filter: true };
    /// All but the weights': forces at inference.
    pub const INPUTS: Wanted = Wanted { nodes: true, edge_vec: true, filter: false };
}

/// All inputs of one first backward.
#[derive(Clone, Debug, PartialEq)]
pub struct BackwardInputs<T> {
    /// Inputs of the forward.
    pub inputs: Inputs<T>,
    /// g = ∂L/∂outputs.
    pub grad: Outputs<T>,
    /// Which gradients of L are computed.
    pub wanted: Wanted,
}

/// All inputs of one second backward.
#[derive(Clone, Debug, PartialEq)]
pub struct DoubleBackwardInputs<T> {
    /// Inputs of the forward.
    pub inputs: Inputs<T>,
    /// g, the cotangents that the first backward was given.
    pub grad: Outputs<T>,
    /// t = ∂Q/∂(gradients of L): a direction in the space of inputs. A `filter` of `None` is zero, and the only choice
    /// for a tabulated one.
    pub tangent: Gradients<T>,
}

/// What one second backward computes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DoubleGradients<T> {
    /// ∂Q/∂g: the derivative of the outputs in direction t.
    pub grad: Outputs<T>,
    /// ∂Q/∂inputs: the derivative of the gradients of L in direction t. The weights' are there wherever there are weights.
    pub gradients: Gradients<T>,
}

impl<T> Outputs<T> {
    /// Every tensor by the name of its field.
    pub fn tensors(&self) -> Vec<(&'static str, &[T])> {
        vec![("nodes", &self.nodes[..]), ("vectors", &self.vectors[..])]
    }

    /// The same tensors with every element changed.
    pub fn map<U>(&self, mut change: impl FnMut(&T) -> U) -> Outputs<U> {
        Outputs {
            nodes: self.nodes.iter().map(&mut change).collect(),
            vectors: self.vectors.iter().map(&mut change).collect(),
        }
    }
}

cast_by_map!(Outputs, Filter, Gradients, DoubleGradients);

impl<T> Filter<T> {
    /// Every tensor by its name in `ops.md`.
    pub fn tensors(&self) -> Vec<(&'static str, &[T])> {
        match self {
            Filter::Linear { a, b } => vec![("A", &a[..]), ("b", &b[..])],
            Filter::Mlp { a1, b1, a2, b2, .. } => {
                vec![("A1", &a1[..]), ("b1", &b1[..]), ("A2", &a2[..]), ("b2", &b2[..])]
            }
            Filter::Tabulated { values, .. } => vec![("table", &values[..])],
        }
    }

    /// The same tensors with every element changed.
    pub fn map<U>(&self, mut change: impl FnMut(&T) -> U) -> Filter<U> {
        let mut map = |v: &[T]| -> Vec<U> { v.iter().map(&mut change).collect() };
        match self {
            Filter::Linear { a, b } => Filter::Linear { a: map(a), b: map(b) },
            Filter::Mlp { hidden, a1, b1, a2, b2, activation } => Filter::Mlp {
                hidden: *hidden,
                a1: map(a1),
                b1: map(b1),
                a2: map(a2),
                b2: map(b2),
                activation: *activation,
            },
            Filter::Tabulated { order, n_nodes, values } => {
                Filter::Tabulated { order: *order, n_nodes: *n_nodes, values: map(values) }
            }
        }
    }
}

impl<T> Gradients<T> {
    /// Every tensor that is there: by the name of its field, a weight's by its name in `ops.md`.
    pub fn tensors(&self) -> Vec<(&'static str, &[T])> {
        let mut all =
            vec![("nodes", &self.nodes[..]), ("vectors", &self.vectors[..]), ("edge_vec", &self.edge_vec[..])];
        all.extend(self.filter.iter().flat_map(Filter::tensors));
        all
    }

    /// The same tensors with every element changed.
    pub fn map<U>(&self, mut change: impl FnMut(&T) -> U) -> Gradients<U> {
        let mut map = |v: &[T]| -> Vec<U> { v.iter().map(&mut change).collect() };
        let (nodes, vectors, edge_vec) = (map(&self.nodes), map(&self.vectors), map(&self.edge_vec));
        Gradients { nodes, vectors, edge_vec, filter: self.filter.as_ref().map(|filter| filter.map(change)) }
    }
}

impl<T: Scalar> Gradients<T> {
    /// Every tensor that is there with its shape, as `prefix.` and the name of what it is a gradient in.
    pub fn named(&self, prefix: &str, inputs: &Inputs<T>) -> Vec<(String, Vec<usize>, &[T])> {
        named_gradients(prefix, inputs, self)
    }
}

impl<T> DoubleGradients<T> {
    /// Every tensor that is there by the name of its field, those in g as `grad.nodes` and `grad.vectors`.
    pub fn tensors(&self) -> Vec<(&'static str, &[T])> {
        let mut all = vec![("grad.nodes", &self.grad.nodes[..]), ("grad.vectors", &self.grad.vectors[..])];
        all.extend(self.gradients.tensors());
        all
    }

    /// The same tensors with every element changed.
    pub fn map<U>(&self, mut change: impl FnMut(&T) -> U) -> DoubleGradients<U> {
        DoubleGradients { grad: self.grad.map(&mut change), gradients: self.gradients.map(change) }
    }
}

impl<T: Scalar> Inputs<T> {
    /// Gradients of the right size, every element `value`: those wanted, and of the weights only where there are some.
    pub fn filled_gradients<U: Clone>(&self, wanted: Wanted, value: U) -> Gradients<U> {
        let fill = |wanted: bool, like: &[T]| vec![value.clone(); if wanted { like.len() } else { 0 }];
        let weights = match &self.filter {
            Filter::Tabulated { .. } => None,
            filter => wanted.filter.then(|| filter.map(|_| value.clone())),
        };
        Gradients {
            nodes: fill(wanted.nodes, &self.nodes),
            vectors: fill(wanted.nodes, &self.vectors),
            edge_vec: fill(wanted.edge_vec, &self.edge_vec),
            filter: weights,
        }
    }
}

/// Tensors under a prefix with the names and shapes that `ops.md` gives them.
type Named<'a, T> = Vec<(String, Vec<usize>, &'a [T])>;

fn named_outputs<'a, T: Scalar>(prefix: &str, inputs: &Inputs<T>, outputs: &'a Outputs<T>) -> Named<'a, T> {
    let (n, f) = (inputs.n_atoms, inputs.features);
    let (scalars, vectors, axes) = match inputs.message {
        Message::Cfconv => ("y", "dmu", 0),
        Message::Painn => ("dq", "dmu", 3),
    };
    let mut all: Named<T> = vec![(format!("{prefix}.{scalars}"), vec![n, f], &outputs.nodes)];
    if axes > 0 || !outputs.vectors.is_empty() {
        all.push((format!("{prefix}.{vectors}"), vec![n, axes, f], &outputs.vectors));
    }
    all
}

fn named_gradients<'a, T: Scalar>(prefix: &str, inputs: &Inputs<T>, gradients: &'a Gradients<T>) -> Named<'a, T> {
    let given = gradients.tensors();
    let name = |field: &str| -> String {
        let name = match (field, inputs.message) {
            ("nodes", Message::Cfconv) => "x",
            ("nodes", Message::Painn) => "s",
            ("vectors", _) => "mu",
            (name, _) => name,
        };
        format!("{prefix}.{name}")
    };
    let shapes: Vec<(String, Vec<usize>)> =
        inputs.tensors().into_iter().map(|(name, shape, _)| (format!("{prefix}.{name}"), shape)).collect();
    given
        .into_iter()
        .map(|(field, values)| {
            let name = name(field);
            // `mu` of cfconv is the one tensor that the inputs have not: there must be nothing of it.
            let shape = shapes.iter().find(|(known, _)| *known == name).map_or(vec![0], |(_, shape)| shape.clone());
            (name, shape, values)
        })
        .filter(|(_, shape, values)| !(shape == &[0] && values.is_empty()))
        .collect()
}

fn check_tensors<T: Scalar>(tensors: Named<T>) -> Result<(), InputError> {
    for (tensor, shape, values) in tensors {
        if values.len() != shape.iter().product::<usize>() {
            return Err(shape_error(&tensor, &shape, values.len()));
        }
        if let Some(index) = values.iter().position(|x| !x.to_f64().is_finite()) {
            return Err(InputError::NotFinite { tensor, index, found: values[index].to_f64() });
        }
    }
    Ok(())
}

impl<T: Scalar> BackwardInputs<T> {
    /// The same inputs in another dtype, rounded to nearest.
    pub fn cast<U: Scalar>(&self) -> BackwardInputs<U> {
        BackwardInputs { inputs: self.inputs.cast(), grad: self.grad.cast(), wanted: self.wanted }
    }

    /// Every floating-point tensor with its shape: those of [`Inputs::tensors`], then `grad.y`, or `grad.dq` and
    /// `grad.dmu`.
    pub fn tensors(&self) -> Vec<(String, Vec<usize>, &[T])> {
        let mut all = self.inputs.tensors();
        all.extend(named_outputs("grad", &self.inputs, &self.grad));
        all
    }

    /// Checks as [`Inputs::check`] does, and the cotangents' shapes and finiteness.
    ///
    /// # Errors
    /// The first thing that is wrong, with what was expected and found.
    pub fn check(&self) -> Result<(), InputError> {
        self.inputs.check()?;
        check_tensors(named_outputs("grad", &self.inputs, &self.grad))
    }

    /// Output buffers of the right size, every element NaN, so that a missing write shows.
    pub fn poisoned_outputs(&self) -> Gradients<T> {
        self.inputs.filled_gradients(self.wanted, T::from_f64(f64::NAN))
    }
}

impl<T: Scalar> DoubleBackwardInputs<T> {
    /// The same inputs in another dtype, rounded to nearest.
    pub fn cast<U: Scalar>(&self) -> DoubleBackwardInputs<U> {
        DoubleBackwardInputs { inputs: self.inputs.cast(), grad: self.grad.cast(), tangent: self.tangent.cast() }
    }

    /// Every floating-point tensor with its shape: those of [`Inputs::tensors`], then the cotangents as `grad.*` and the
    /// direction as `tangent.*`.
    pub fn tensors(&self) -> Vec<(String, Vec<usize>, &[T])> {
        let mut all = self.inputs.tensors();
        all.extend(named_outputs("grad", &self.inputs, &self.grad));
        all.extend(named_gradients("tangent", &self.inputs, &self.tangent));
        all
    }

    /// Checks as [`Inputs::check`] does, and the cotangents' and the direction's shapes and finiteness.
    ///
    /// # Errors
    /// The first thing that is wrong, with what was expected and found.
    pub fn check(&self) -> Result<(), InputError> {
        self.inputs.check()?;
        check_tensors(named_outputs("grad", &self.inputs, &self.grad))?;
        check_tensors(named_gradients("tangent", &self.inputs, &self.tangent))?;
        match &self.tangent.filter {
            Some(Filter::Tabulated { values, .. }) => Err(shape_error("tangent.table", &[0], values.len())),
            _ => Ok(()),
        }
    }

    /// Output buffers of the right size, every element NaN, so that a missing write shows.
    pub fn poisoned_outputs(&self) -> DoubleGradients<T> {
        let gradients = self.inputs.filled_gradients(Wanted::ALL, T::from_f64(f64::NAN));
        DoubleGradients { grad: self.inputs.poisoned_outputs(), gradients }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::{Activation, Radial};
    use super::*;

    fn inputs(message: Message) -> Inputs<f64> {
        let (features, c) = (2, message.parts() * 2);
        Inputs {
            message,
            n_atoms: 3,
            features,
            row_ptr: vec![0, 1, 1, 2],
            sender: vec![2, 0],
            edge_vec: vec![1.0; 6],
            nodes: vec![1.0; 3 * c],
            vectors: vec![1.0; if message == Message::Painn { 18 } else { 0 }],
            radial: Radial { r_cut: 5.0, n_basis: 4, basis: BTreeMap::new(), cutoff: BTreeMap::new() },
            filter: Filter::Mlp {
                hidden: 5,
                a1: vec![1.0; 20],
                b1: vec![1.0; 5],
                a2: vec![1.0; 5 * c],
                b2: vec![1.0; c],
                activation: Activation::Tanh,
            },
        }
    }

    fn double(message: Message) -> DoubleBackwardInputs<f64> {
        let inputs = inputs(message);
        let grad = inputs.poisoned_outputs().map(|_| 0.5);
        DoubleBackwardInputs { tangent: inputs.filled_gradients(Wanted::ALL, 0.25), grad, inputs }
    }

    fn names(tensors: Vec<(String, Vec<usize>, &[f64])>) -> Vec<String> {
        tensors.into_iter().map(|(name, ..)| name).collect()
    }

    #[test]
    fn what_fits_is_accepted_and_named_as_in_the_documents() {
        for message in Message::ALL {
            let all = double(message);
            assert_eq!(all.check(), Ok(()));
            assert_eq!(all.cast::<f32>().cast::<f64>(), all, "these numbers are exact in both dtypes");
            for (name, shape, values) in all.tensors() {
                assert_eq!(shape.iter().product::<usize>(), values.len(), "{name}");
            }
            let found = names(all.tensors());
            let expected: &[&str] = match message {
                Message::Cfconv => &["grad.y", "tangent.x", "tangent.edge_vec"],
                Message::Painn => &["grad.dq", "grad.dmu", "tangent.s", "tangent.mu", "tangent.edge_vec"],
            };
            let weights = ["tangent.A1", "tangent.b1", "tangent.A2", "tangent.b2"];
            assert!(
                found.ends_with(&[expected, &weights].concat().iter().map(|n| (*n).to_owned()).collect::<Vec<_>>())
            );
            let zero = Gradients { filter: None, ..all.tangent };
            assert_eq!(DoubleBackwardInputs { tangent: zero, ..all }.check(), Ok(()), "no direction in the weights");
        }
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let check = |change: fn(&mut DoubleBackwardInputs<f64>)| {
            let mut all = double(Message::Painn);
            change(&mut all);
            all.check().unwrap_err().to_string()
        };
        for (change, tensor, expected) in [
            (
                (|a| {
                    a.grad.nodes.pop();
                }) as fn(&mut DoubleBackwardInputs<f64>),
                "`grad.dq` has 5",
                "[3, 2]",
            ),
            (|a| a.grad.vectors.clear(), "`grad.dmu` has 0", "[3, 3, 2]"),
            (|a| a.grad.vectors[7] = f64::NAN, "`grad.dmu`[7]", "finite"),
            (|a| a.tangent.nodes.clear(), "`tangent.s` has 0", "[3, 6]"),
            (|a| a.tangent.edge_vec.push(0.0), "`tangent.edge_vec` has 7", "[2, 3]"),
            (|a| a.tangent.vectors[0] = f64::INFINITY, "`tangent.mu`[0]", "finite"),
            (
                |a| a.tangent.filter = Some(Filter::Linear { a: vec![0.0; 3], b: Vec::new() }),
                "`tangent.A` has 3",
                "[0]",
            ),
            (
                |a| a.tangent.filter = Some(Filter::Tabulated { order: 2, n_nodes: 2, values: Vec::new() }),
                "`tangent.table`",
                "[0]",
            ),
            (|a| a.inputs.nodes.clear(), "`s` has 0", "[3, 6]"),
        ] {
            let found = check(change);
            assert!(found.contains(tensor) && found.contains(expected), "{found}");
        }
        let mut all = double(Message::Cfconv);
        all.tangent.vectors.push(0.0);
        assert!(all.check().unwrap_err().to_string().contains("`tangent.mu` has 1"));
        let mut all = double(Message::Cfconv);
        all.grad.vectors.push(0.0);
        let first = BackwardInputs { inputs: all.inputs, grad: all.grad, wanted: Wanted::ALL };
        assert!(first.check().unwrap_err().to_string().contains("`grad.dmu` has 1"));
    }

    #[test]
    fn poison_has_what_is_wanted() {
        let of = |wanted, filter| {
            let mut inputs = inputs(Message::Painn);
            inputs.filter = filter;
            let grad = inputs.poisoned_outputs();
            BackwardInputs { inputs, grad, wanted }.poisoned_outputs()
        };
        let mlp = inputs(Message::Painn).filter;
        let lengths = |g: Gradients<f64>| g.tensors().iter().map(|(_, v)| v.len()).collect::<Vec<_>>();
        assert_eq!(lengths(of(Wanted::ALL, mlp.clone())), [18, 18, 6, 20, 5, 30, 6]);
        assert_eq!(lengths(of(Wanted::INPUTS, mlp.clone())), [18, 18, 6]);
        assert_eq!(lengths(of(Wanted { nodes: false, edge_vec: true, filter: false }, mlp)), [0, 0, 6]);
        let table = Filter::Tabulated { order: 2, n_nodes: 2, values: vec![0.0; 24] };
        assert_eq!(lengths(of(Wanted::ALL, table)), [18, 18, 6]);
    }
}
