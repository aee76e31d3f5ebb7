//! A model's file in other units or another element type.

use crate::config::{Basis, ConfigError, Kind};
use crate::file::{ModelFile, StoredDtype, Tensor};
use crate::model::Model;
use crate::units::{Energy, Length, Unit};

/// What a file is rewritten to; what is absent stays as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Conversion {
    /// Unit of energies.
    pub energy: Option<Energy>,
    /// Unit of lengths.
    pub length: Option<Length>,
    /// Element type of all tensors.
    pub dtype: Option<StoredDtype>,
}

/// The same model in other units: what it predicts, in eV and Å, stays as it is to the rounding of its tensors. The metadata are
/// complete and of the newest schema, and tensors of the head have their newest names.
///
/// Energies scale the last layer of the head and the energies of free atoms; lengths scale the cutoff, the centres and the widths of
/// the basis, and of Bessel functions, which are inverse lengths, the frequencies and the layer on them.
///
/// # Errors
/// [`ConfigError`] where the file is no model.
pub fn convert(file: &ModelFile, to: Conversion) -> Result<ModelFile, ConfigError> {
    let model = Model::from_file(file)?;
    let mut config = model.config().clone();
    let energy_unit = to.energy.unwrap_or(config.energy_unit);
    let length_unit = to.length.unwrap_or(config.length_unit);
    let energy = config.energy_unit.factor() / energy_unit.factor();
    let length = config.length_unit.factor() / length_unit.factor();
    let last = format!("head.outnet.{}.", config.head.layers.len() - 2);
    let bessel = config.basis == Basis::Bessel;
    let on_basis = |name: &str| match config.kind {
        Kind::Painn => name == "representation.filter_net.weight",
        Kind::Schnet => name.ends_with(".filter_network.0.weight"),
    };
    let scale = |name: &str| match name {
        "atomref" => energy,
        "representation.cutoff_fn.cutoff"
        | "representation.radial_basis.offsets"
        | "representation.radial_basis.widths" => length,
        "representation.radial_basis.freqs" => 1.0 / length,
        _ if name.starts_with(&last) => energy,
        // A basis value in the new unit is 1/length of that in the old.
        _ if bessel && on_basis(name) => length,
        _ => 1.0,
    };
    let mut converted = ModelFile { metadata: file.metadata.clone(), tensors: Vec::with_capacity(file.tensors.len()) };
    for tensor in &file.tensors {
        let mut tensor = tensor.clone();
        if let Some(rest) = tensor.name.strip_prefix("output_modules.0.outnet.") {
            tensor.name = format!("head.outnet.{rest}");
        }
        let scale = scale(&tensor.name);
        let dtype = to.dtype.unwrap_or(tensor.dtype);
        if scale != 1.0 || dtype != tensor.dtype {
            let values: Vec<f64> = tensor.values().into_iter().map(|x| x * scale).collect();
            tensor = Tensor { dtype, ..tensor }.with_values(&values);
        }
        converted.tensors.push(tensor);
    }
    (config.energy_unit, config.length_unit) = (energy_unit, length_unit);
    converted.set_config(&config);
    // What stays in its unit stays as it was written: there and back it would lose its last bit.
    for (key, stays) in [("cutoff", length == 1.0), ("energy_offset_per_atom", energy == 1.0)] {
        if let (true, Some(written)) = (stays, file.get(key)) {
            converted.set(key, written);
        }
    }
    // What is written can be read.
    Model::from_file(&converted)?;
    Ok(converted)
}
