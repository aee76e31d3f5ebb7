//! A small message-passing potential, for what a tabulated filter does to energies and forces.
//!
//! Two steps of SchNet's message on random features, x ← x + α y(x), with α = 1/√(mean degree), and a readout that is not
//! linear: e_i = 1/F Σ_f tanh(x_if), E = Σ_i e_i. Forces are F_i = −∂E/∂x_i, by the kernels of the first backward, on the
//! host in f64, so that a difference between two filters is theirs alone and not rounding.

use ff_spec::fused_message::{BackwardInputs, Inputs, Outputs, Variant, Wanted};
use ff_spec::{Dtype, FusedMessage, FusedMessageBackward, LaunchError, Prepare, RuntimeKind};
use ff_testkit::tolerance::norm;

/// Energies of atoms and forces on them; the unit is that of random features.
pub struct Evaluated {
    energies: Vec<f64>,
    forces: Vec<f64>,
}

/// Evaluates the potential with the filter of `inputs`, which are SchNet's; their features are those of the first step.
///
/// # Errors
/// [`LaunchError`] of the host's kernels.
pub fn evaluate(variant: &Variant, inputs: &Inputs<f64>) -> Result<Evaluated, LaunchError> {
    let host = ff_kernels::open(RuntimeKind::Host).map_err(|e| LaunchError::Unsupported(e.to_string()))?;
    let alpha = (inputs.n_atoms as f64 / inputs.n_edges().max(1) as f64).sqrt();
    let config =
        Prepare::<FusedMessage>::default_config(host.as_ref(), variant, Dtype::F64, &inputs.problem("potential"));
    let step = |x: &[f64]| -> Result<Vec<f64>, LaunchError> {
        let inputs = Inputs { nodes: x.to_vec(), ..inputs.clone() };
        let mut launch = Prepare::<FusedMessage>::prepare(host.as_ref(), variant, Dtype::F64, &inputs, &config)?;
        launch.run()?;
        let y = launch.outputs()?.nodes;
        Ok(x.iter().zip(&y).map(|(x, y)| x + alpha * y).collect())
    };
    // Gradients in x and in the edge vectors, of those in x + α y.
    let back = |x: &[f64], grad: &[f64]| -> Result<(Vec<f64>, Vec<f64>), LaunchError> {
        let grad_y = grad.iter().map(|g| alpha * g).collect();
        let inputs = Inputs { nodes: x.to_vec(), ..inputs.clone() };
        let grad_y = Outputs { nodes: grad_y, vectors: Vec::new() };
        let all = BackwardInputs { inputs, grad: grad_y, wanted: Wanted::INPUTS };
        let mut launch = Prepare::<FusedMessageBackward>::prepare(host.as_ref(), variant, Dtype::F64, &all, &config)?;
        launch.run()?;
        let found = launch.outputs()?;
        Ok((found.nodes.iter().zip(grad).map(|(through, direct)| through + direct).collect(), found.edge_vec))
    };
    let x0 = &inputs.nodes;
    let x1 = step(x0)?;
    let x2 = step(&x1)?;
    let width = inputs.features.max(1);
    let energies = x2.chunks_exact(width).map(|row| row.iter().map(|x| x.tanh()).sum::<f64>() / width as f64).collect();
    let grad: Vec<f64> = x2.iter().map(|x| (1.0 - x.tanh().powi(2)) / width as f64).collect();
    let (grad, second) = back(&x1, &grad)?;
    let (_, first) = back(x0, &grad)?;
    let mut forces = vec![0.0; 3 * inputs.n_atoms];
    // r_ij = x_j − x_i, so a receiver is moved along the gradient in its edge and a sender against it.
    for receiver in 0..inputs.n_atoms {
        for edge in inputs.row_ptr[receiver] as usize..inputs.row_ptr[receiver + 1] as usize {
            let sender = inputs.sender[edge] as usize;
            for axis in 0..3 {
                let gradient = first[3 * edge + axis] + second[3 * edge + axis];
                forces[3 * receiver + axis] += gradient;
                forces[3 * sender + axis] -= gradient;
            }
        }
    }
    Ok(Evaluated { energies, forces })
}

impl Evaluated {
    /// ‖e − e_ref‖/‖e_ref‖ over atoms, and the same of forces.
    pub fn errors(&self, reference: &Evaluated) -> [f64; 2] {
        let relative = |found: &[f64], expected: &[f64]| {
            norm(found.iter().zip(expected).map(|(f, e)| f - e)) / norm(expected.iter().copied())
        };
        [relative(&self.energies, &reference.energies), relative(&self.forces, &reference.forces)]
    }
}

#[cfg(test)]
mod tests {
    use ff_reference::radial::{RadialKind, default_parameters};
    use ff_spec::fused_message::{Activation, Message, Radial};
    use ff_structure::{MessageSpec, Structure, message_inputs, random_mlp};

    use super::*;

    fn inputs(structure: &Structure) -> Inputs<f64> {
        let parameters = |name, kind| default_parameters(name, kind, 3.0, 6).unwrap_or_else(|e| panic!("{e}"));
        let spec = MessageSpec {
            message: Message::Cfconv,
            features: 8,
            radial: Radial {
                r_cut: 3.0,
                n_basis: 6,
                basis: parameters("gaussian", RadialKind::Basis),
                cutoff: parameters("cosine", RadialKind::Cutoff),
            },
            filter: random_mlp(6, 8, 8, Activation::ShiftedSoftplus, 1),
            seed: 1,
        };
        message_inputs(std::slice::from_ref(structure), 3.0, &spec).unwrap_or_else(|e| panic!("{e}"))
    }

    /// Forces are what the energy's differences say.
    #[test]
    fn forces_are_the_gradient_of_the_energy() {
        let variant: Variant = "cfconv_mlp_gaussian_cosine_receiver".parse().unwrap_or_else(|e| panic!("{e}"));
        let structure = ff_structure::builtin("c2h6").unwrap_or_else(|e| panic!("{e}")).remove(0);
        let energy = |structure: &Structure| -> f64 {
            evaluate(&variant, &inputs(structure)).unwrap_or_else(|e| panic!("{e}")).energies.iter().sum()
        };
        let found = evaluate(&variant, &inputs(&structure)).unwrap_or_else(|e| panic!("{e}"));
        // The third-order term of the difference is far below what it is compared to.
        let h = 1e-5;
        for (atom, axis) in [(0, 0), (3, 1), (7, 2)] {
            let moved = |by: f64| {
                let mut structure = structure.clone();
                structure.positions[atom][axis] += by;
                energy(&structure)
            };
            let expected = -(moved(h) - moved(-h)) / (2.0 * h);
            let force = found.forces[3 * atom + axis];
            assert!((force - expected).abs() <= 1e-7 * (1.0 + expected.abs()), "{atom} {axis}: {force} {expected}");
        }
    }
}
