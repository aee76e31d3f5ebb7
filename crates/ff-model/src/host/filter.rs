//! Filters of a model's interactions as the kernels read them: exactly, or as tables.

use ff_kernels::fused_message::{find, tabulate};
use ff_kernels::host::layers::{Compiled as _, Storage};
use ff_spec::fused_message::{Filter, FilterKind, Inputs, Reduction, Variant};

use crate::config::{Config, ConfigError};
use crate::model::Model;
use crate::weights::{Interaction, Linear};

/// Derivatives that a node of a table holds: value, slope and curvature, so that forces are smooth.
pub(crate) const TABLE_ORDER: usize = 3;

/// The filters of all interactions, with the kernels that read them.
pub(super) struct Filters {
    pub variant: Variant,
    pub filters: Vec<Filter<f64>>,
    /// The largest error of a table, beside its largest value; `None` where there are none.
    pub table_error: Option<f64>,
}

/// What the largest error in a node of a quintic table, of value, slope and curvature, adds at most to its error, for nodes at a
/// distance of 1: the largest sums of the sizes of the polynomials that they are multiplied with, which are those in the middle.
const OF_NODES: [f64; TABLE_ORDER] = [1.0, 5.0 / 16.0, 1.0 / 32.0];

impl Filters {
    /// Of a model; as tables where they may err by so much beside their largest value. Rounded to what they are stored in, which
    /// tables err by as well.
    pub fn new(model: &Model, table: Option<f64>, storage: Option<Storage>) -> Result<Self, ConfigError> {
        let (config, weights) = (model.config(), model.weights());
        crate::weights::check_radial(config)?;
        let (basis, cutoff) = config.radial_names();
        let kind = match weights.interactions[..] {
            [Interaction::Schnet { .. }, ..] => FilterKind::Mlp,
            _ => FilterKind::Linear,
        };
        let radial = Some((basis.to_owned(), cutoff.to_owned()));
        let variant = Variant { message: config.message(), filter: kind, radial, reduction: Reduction::Receiver };
        let filters = weights.interactions.iter().map(|interaction| exact(config, interaction));
        let mut found = Self { variant, filters: filters.collect::<Result<_, _>>()?, table_error: None };
        if let Some(tolerance) = table {
            found.tabulate(model, tolerance)?;
        }
        if let Some(storage) = storage {
            found.round(model.config(), storage);
        }
        match find(&found.variant) {
            Some(_) => Ok(found),
            None => Err(ConfigError::Unsupported {
                what: format!("the kernel {}", found.variant),
                expected: "one that `forgefield ops fused_message` lists".to_owned(),
            }),
        }
    }

    fn tabulate(&mut self, model: &Model, tolerance: f64) -> Result<(), ConfigError> {
        let mut largest = 0.0_f64;
        for filter in &mut self.filters {
            let inputs = Inputs {
                message: self.variant.message,
                n_atoms: 0,
                features: model.config().filters,
                row_ptr: vec![0],
                sender: Vec::new(),
                edge_vec: Vec::new(),
                nodes: Vec::new(),
                vectors: Vec::new(),
                radial: model.weights().radial.clone(),
                filter: filter.clone(),
            };
            let table = tabulate(&self.variant, &inputs, TABLE_ORDER, tolerance).map_err(|error| {
                ConfigError::Unsupported { what: format!("a table to {tolerance:.0e}"), expected: error.to_string() }
            })?;
            largest = largest.max(table.rel_error);
            *filter = table.filter;
        }
        self.variant = Variant { filter: FilterKind::Tabulated, radial: None, ..self.variant.clone() };
        self.table_error = Some(largest);
        Ok(())
    }
}

impl Filters {
    /// Rounds weights and tables.
    fn round(&mut self, config: &Config, storage: Storage) {
        for filter in &mut self.filters {
            match filter {
                Filter::Linear { a, b } => [a, b].into_iter().for_each(|values| f64::narrow(storage, values)),
                Filter::Mlp { a1, b1, a2, b2, .. } => {
                    [a1, b1, a2, b2].into_iter().for_each(|values| f64::narrow(storage, values));
                }
                Filter::Tabulated { n_nodes, values, .. } => {
                    let exact = values.clone();
                    f64::narrow(storage, values);
                    let step = config.cutoff / (*n_nodes - 1) as f64;
                    let error = table_rounding(&exact, values, config.parts() * config.filters, step);
                    self.table_error = self.table_error.map(|before| before.max(error));
                }
            }
        }
    }
}

/// The most by which rounded nodes [n_nodes, derivative, channels] at so many Å change their table, beside its largest value.
fn table_rounding(exact: &[f64], rounded: &[f64], channels: usize, step: f64) -> f64 {
    let mut largest = f64::MIN_POSITIVE;
    let mut errors = [0.0_f64; TABLE_ORDER];
    for (at, (exact, rounded)) in exact.chunks_exact(channels).zip(rounded.chunks_exact(channels)).enumerate() {
        let derivative = at % TABLE_ORDER;
        for (exact, rounded) in exact.iter().zip(rounded) {
            errors[derivative] = errors[derivative].max((exact - rounded).abs());
            if derivative == 0 {
                largest = largest.max(exact.abs());
            }
        }
    }
    let of = |derivative: usize| OF_NODES[derivative] * step.powi(derivative as i32) * errors[derivative];
    (0..TABLE_ORDER).map(of).sum::<f64>() / largest
}

/// A filter in the order of the kernels: A [inputs, outputs] of weights [outputs, inputs].
fn exact(config: &Config, interaction: &Interaction) -> Result<Filter<f64>, ConfigError> {
    Ok(match interaction {
        Interaction::Painn { filter, .. } => Filter::Linear { a: transposed(filter), b: filter.bias.clone() },
        Interaction::Schnet { filter: [first, second], .. } => Filter::Mlp {
            hidden: first.outputs,
            a1: transposed(first),
            b1: first.bias.clone(),
            a2: transposed(second),
            b2: second.bias.clone(),
            activation: config.activation,
        },
    })
}

fn transposed(Linear { inputs, outputs, weight, .. }: &Linear) -> Vec<f64> {
    (0..inputs * outputs).map(|at| weight[at % outputs * inputs + at / outputs]).collect()
}
