//! What a file says in its metadata, as a [`Config`] and back.

use std::str::FromStr;

use ff_kernels::host::layers::Activation;
use serde::{Deserialize, Serialize};

use super::ModelFile;
use crate::config::{Aggregation, Basis, Config, ConfigError, CutoffFn, Head, Kind, activation, one_of, quoted};
use crate::units::{Energy, Length, Unit};

/// The value of the metadata `format`.
pub const FORMAT: &str = "forgefield-model";

/// The version of the schema that is written, and the newest that is read.
pub const SCHEMA: u32 = 1;

/// `head` as it is written.
#[derive(Serialize, Deserialize)]
struct StoredHead {
    layers: Vec<usize>,
    activation: String,
}

impl ModelFile {
    /// The model that the metadata describe. What early files do not say is SchNetPack's default, or follows from the weights.
    ///
    /// # Errors
    /// [`ConfigError`] for what is missing, cannot be read or contradicts itself.
    pub fn config(&self) -> Result<Config, ConfigError> {
        if let Some(found) = self.get("format").filter(|format| *format != FORMAT) {
            return Err(ConfigError::Metadata { key: "format", expected: quoted(FORMAT), found: quoted(found) });
        }
        if let Some(found) = self.get("schema").filter(|schema| schema.parse() != Ok(SCHEMA)) {
            let expected = format!("`{SCHEMA}`, the newest that this version reads");
            return Err(ConfigError::Metadata { key: "schema", expected, found: quoted(found) });
        }
        let kind = match self.get("model") {
            Some(model) => model.parse().map_err(|_| ConfigError::Kind { found: model.to_owned() })?,
            None => return Err(missing("model", one_of(Kind::ALL.iter().map(|kind| kind.name())))),
        };
        let features = self.number("n_atom_basis", "a positive number of features", |n: &usize| *n > 0)?;
        let (energy_unit, length_unit) = (self.unit::<Energy>("energy_unit")?, self.unit::<Length>("length_unit")?);
        let positive = |x: &f64| x.is_finite() && *x > 0.0;
        let cutoff: f64 = self.number("cutoff", "a positive radius", positive)?;
        let filters = match (kind, self.get("n_filters")) {
            (Kind::Schnet, Some(_)) => self.number("n_filters", "a positive number of filters", |n: &usize| *n > 0)?,
            _ => features,
        };
        Ok(Config {
            kind,
            features,
            filters,
            layers: self.number("n_interactions", "a positive number of interactions", |n: &usize| *n > 0)?,
            n_basis: self.number("n_rbf", "a positive number of basis functions", |n: &usize| *n > 0)?,
            basis: self.choice("basis", Basis::Gaussian)?,
            cutoff: cutoff * length_unit.factor(),
            cutoff_fn: self.choice("cutoff_fn", CutoffFn::Cosine)?,
            activation: match self.get("activation") {
                Some(text) => activation("activation", text)?,
                None if kind == Kind::Painn => Activation::Silu,
                None => Activation::ShiftedSoftplus,
            },
            epsilon: self.optional("epsilon", "a positive number", 1e-8, positive)?,
            shared_filters: self.flag("shared_filters")?,
            shared_interactions: self.flag("shared_interactions")?,
            head: self.head(features)?,
            aggregation: self.choice("aggregation", Aggregation::Sum)?,
            energy_unit,
            length_unit,
            offset_per_atom: energy_unit.factor()
                * self.optional("energy_offset_per_atom", "a finite energy", 0.0, |x: &f64| x.is_finite())?,
            elements: self.elements()?,
        })
    }

    /// Writes all that a config says into the metadata.
    pub fn set_config(&mut self, config: &Config) {
        let head = StoredHead { layers: config.head.layers.clone(), activation: config.head.activation.name().into() };
        let number = |x: f64| format!("{x}");
        for (key, value) in [
            ("format", FORMAT.to_owned()),
            ("schema", SCHEMA.to_string()),
            ("model", config.kind.to_string()),
            ("n_atom_basis", config.features.to_string()),
            ("n_interactions", config.layers.to_string()),
            ("n_rbf", config.n_basis.to_string()),
            ("basis", config.basis.to_string()),
            ("cutoff", number(config.cutoff / config.length_unit.factor())),
            ("cutoff_fn", config.cutoff_fn.to_string()),
            ("activation", config.activation.name().to_owned()),
            ("epsilon", number(config.epsilon)),
            ("shared_filters", config.shared_filters.to_string()),
            ("shared_interactions", config.shared_interactions.to_string()),
            ("head", serde_json::to_string(&head).expect("numbers and a name")),
            ("aggregation", config.aggregation.to_string()),
            ("energy_unit", config.energy_unit.to_string()),
            ("length_unit", config.length_unit.to_string()),
            ("energy_offset_per_atom", number(config.offset_per_atom / config.energy_unit.factor())),
            ("elements", serde_json::to_string(&config.elements).expect("numbers")),
        ] {
            self.set(key, value);
        }
        if config.kind == Kind::Schnet {
            self.set("n_filters", config.filters.to_string());
        }
    }

    fn number<T: FromStr>(
        &self,
        key: &'static str,
        expected: &str,
        holds: impl Fn(&T) -> bool,
    ) -> Result<T, ConfigError> {
        let text = self.get(key).ok_or_else(|| missing(key, expected))?;
        text.trim().parse().ok().filter(holds).ok_or_else(|| ConfigError::Metadata {
            key,
            expected: expected.to_owned(),
            found: quoted(text),
        })
    }

    fn optional<T: FromStr>(
        &self,
        key: &'static str,
        expected: &str,
        default: T,
        holds: impl Fn(&T) -> bool,
    ) -> Result<T, ConfigError> {
        match self.get(key) {
            Some(_) => self.number(key, expected, holds),
            None => Ok(default),
        }
    }

    fn choice<T: FromStr<Err = ConfigError>>(&self, key: &str, default: T) -> Result<T, ConfigError> {
        self.get(key).map_or(Ok(default), str::parse)
    }

    fn unit<U: Unit + Default + FromStr>(&self, key: &'static str) -> Result<U, ConfigError> {
        match self.get(key) {
            None => Ok(U::default()),
            Some(text) => text.parse().map_err(|_| ConfigError::Metadata {
                key,
                expected: one_of(U::ALL.iter().map(|unit| unit.name())),
                found: quoted(text),
            }),
        }
    }

    fn flag(&self, key: &'static str) -> Result<bool, ConfigError> {
        match self.get(key).map(str::to_ascii_lowercase).as_deref() {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(found) => Err(ConfigError::Metadata { key, expected: "true or false".into(), found: quoted(found) }),
        }
    }

    fn elements(&self) -> Result<Vec<u8>, ConfigError> {
        let Some(text) = self.get("elements") else { return Ok(Vec::new()) };
        serde_json::from_str(text).map_err(|_| ConfigError::Metadata {
            key: "elements",
            expected: "atomic numbers as `[1,6,8]`".to_owned(),
            found: quoted(text),
        })
    }

    /// The head: as it is written, or in the words of early files, whose widths are those of the weights.
    fn head(&self, features: usize) -> Result<Head, ConfigError> {
        let wrong =
            |expected: &str, found: String| ConfigError::Metadata { key: "head", expected: expected.to_owned(), found };
        let of_weights = || {
            let widths = (0..).map_while(|k| self.any_tensor(&crate::weights::head_names(k, "weight")));
            std::iter::once(features).chain(widths.map(|tensor| tensor.shape.first().copied().unwrap_or(0))).collect()
        };
        let head = match self.get("head") {
            Some(text) if text.trim_start().starts_with('{') => {
                let stored: StoredHead =
                    serde_json::from_str(text).map_err(|error| wrong("layers and activation", error.to_string()))?;
                Head { layers: stored.layers, activation: activation("head", &stored.activation)? }
            }
            Some(text) => {
                let words: Vec<&str> = text.split(|c: char| !(c.is_alphanumeric() || c == '_')).collect();
                let named = words.iter().find_map(|word| activation("head", word).ok());
                let named = named.ok_or_else(|| wrong("an activation in its words", quoted(text)))?;
                Head { layers: of_weights(), activation: named }
            }
            None => Head { layers: of_weights(), activation: Activation::Silu },
        };
        let fits = head.layers.len() >= 2 && head.layers[0] == features && head.layers.last() == Some(&1);
        if !fits || head.layers.contains(&0) {
            return Err(wrong(&format!("layers from {features} features to 1 energy"), format!("{:?}", head.layers)));
        }
        Ok(head)
    }

    /// The first tensor of several names.
    pub(crate) fn any_tensor(&self, names: &[String]) -> Option<&super::Tensor> {
        names.iter().find_map(|name| self.tensor(name))
    }
}

fn missing(key: &'static str, expected: impl Into<String>) -> ConfigError {
    ConfigError::Metadata { key, expected: expected.into(), found: "nothing".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(pairs: &[(&str, &str)]) -> ModelFile {
        let mut file = ModelFile::default();
        for (key, value) in [
            ("model", "painn"),
            ("n_atom_basis", "4"),
            ("n_interactions", "2"),
            ("n_rbf", "5"),
            ("cutoff", "5.0"),
            ("head", r#"{"layers":[4,2,1],"activation":"silu"}"#),
        ]
        .iter()
        .chain(pairs)
        {
            file.set(key, *value);
        }
        file
    }

    #[test]
    fn a_config_round_trips_through_metadata() {
        let mut config = file(&[
            ("energy_unit", "kcal/mol"),
            ("length_unit", "Bohr"),
            ("basis", "bessel"),
            ("cutoff_fn", "mollifier"),
            ("aggregation", "avg"),
            ("shared_filters", "True"),
            ("elements", "[1,6,8]"),
            ("energy_offset_per_atom", "-3.5"),
        ])
        .config()
        .expect("a config");
        assert!((config.cutoff - 5.0 * 0.529_177_210_903).abs() < 1e-12);
        config.kind = Kind::Schnet;
        config.filters = 7;
        let mut written = ModelFile::default();
        written.set_config(&config);
        assert_eq!(written.config(), Ok(config));
        assert_eq!(written.get("cutoff"), Some("5"));
    }

    #[test]
    fn what_cannot_be_is_named() {
        for (key, value, message) in [
            ("model", "so3net", "a model of kind `so3net`, expected painn or schnet"),
            ("format", "pickle", "metadata `format`: expected `forgefield-model`, found `pickle`"),
            ("schema", "2", "metadata `schema`: expected `1`, the newest that this version reads, found `2`"),
            ("cutoff", "-1", "metadata `cutoff`: expected a positive radius, found `-1`"),
            ("n_rbf", "many", "metadata `n_rbf`: expected a positive number of basis functions, found `many`"),
            ("basis", "fourier", "metadata `basis`: expected gaussian or gaussian_centered or bessel, found `fourier`"),
            ("activation", "relu", "metadata `activation`: expected silu or shifted_softplus or tanh, found `relu`"),
            ("energy_unit", "erg", "metadata `energy_unit`: expected eV or Ha or kcal/mol or kJ/mol, found `erg`"),
            ("shared_filters", "1", "metadata `shared_filters`: expected true or false, found `1`"),
            ("elements", "H", "metadata `elements`: expected atomic numbers as `[1,6,8]`, found `H`"),
            ("head", "a net", "metadata `head`: expected an activation in its words, found `a net`"),
            (
                "head",
                r#"{"layers":[3,1],"activation":"silu"}"#,
                "metadata `head`: expected layers from 4 features to 1 energy, found [3, 1]",
            ),
        ] {
            assert_eq!(file(&[(key, value)]).config().unwrap_err().to_string(), message);
        }
        let mut none = file(&[]);
        none.metadata.retain(|(key, _)| key != "model");
        assert_eq!(none.config().unwrap_err().to_string(), "metadata `model`: expected painn or schnet, found nothing");
    }
}
