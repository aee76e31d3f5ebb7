use std::ops::Deref;

use ff_spec::{Clock, LaunchConfig, OPS, Problem, TuneKey, axes, family};
use serde::ser::Error as _;
use serde::{Deserialize, Serialize, Serializer};
use sha2::{Digest, Sha256};

use crate::Pass;

/// A configuration that could not be told from the chosen one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tie {
    /// The configuration.
    pub config: LaunchConfig,
    /// Its median, ns.
    pub median_ns: f64,
    /// Its median absolute deviation, ns.
    pub spread_ns: f64,
}

/// What an [`Entry`] says. [`Entry::new`] checks it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EntryFields {
    /// What the entry is found by.
    pub key: TuneKey,
    /// The variant that was timed; its family is the key's.
    pub variant: String,
    /// The problem it was timed on.
    pub problem: Problem,
    /// The configuration to use.
    pub config: LaunchConfig,
    /// Median of the samples, ns.
    pub median_ns: f64,
    /// Median absolute deviation of the samples, ns.
    pub spread_ns: f64,
    /// How many samples.
    pub samples: u32,
    /// What they were measured with.
    pub clock: Clock,
    /// The driver at that time; empty on host.
    pub driver: String,
    /// Median of the default configuration in the same run, ns; `None` where the default did not pass.
    pub default_median_ns: Option<f64>,
    /// Median of the unfused composition on the same runtime, ns; `None` where it was not measured or not verified.
    pub unfused_median_ns: Option<f64>,
    /// Configurations that tie with this one.
    pub ties: Vec<Tie>,
    /// The numerical pass of this configuration.
    pub pass: Pass,
}

/// Fields that contradict each other.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum EntryError {
    /// The key is not that of the problem.
    #[error("key `{found}` is not that of its problem, expected `{expected}`")]
    Key {
        /// Key of the entry.
        found: String,
        /// Key of the problem.
        expected: String,
    },
    /// The variant is not of the key's family.
    #[error("variant `{variant}` is not of family `{family}`")]
    Family {
        /// Variant of the entry.
        variant: String,
        /// Family of its key.
        family: String,
    },
    /// A size that calls of the op do not have.
    #[error("problem has a size `{found}`, expected those of `{op}`: {}", axes(op).join(", "))]
    Axis {
        /// Name of the size.
        found: String,
        /// Op of the variant.
        op: &'static str,
    },
    /// The pass is for another dtype.
    #[error("the recorded pass is for {found}, expected {expected}")]
    Dtype {
        /// Dtype of the pass.
        found: ff_spec::Dtype,
        /// Dtype of the key.
        expected: ff_spec::Dtype,
    },
    /// The pass is for another derivative order.
    #[error("the recorded pass is of order {found}, expected {expected}")]
    Order {
        /// Order of the pass.
        found: u8,
        /// Order of the key.
        expected: u8,
    },
    /// The pass is for another configuration.
    #[error("configuration is `{found}`, expected that of its pass, `{expected}`")]
    Config {
        /// Configuration of the entry.
        found: LaunchConfig,
        /// Configuration of the pass.
        expected: LaunchConfig,
    },
    /// The pass is for another device.
    #[error("the recorded pass is of device `{found}`, expected `{expected}`")]
    Device {
        /// Device of the pass.
        found: String,
        /// Device of the table.
        expected: String,
    },
    /// A time that cannot have been measured.
    #[error("`{field}` is {found}, expected a finite number of ns{bound}")]
    Time {
        /// Which field.
        field: &'static str,
        /// Its value.
        found: f64,
        /// Further condition.
        bound: &'static str,
    },
    /// No samples.
    #[error("no samples, expected at least one")]
    NoSamples,
    /// Slower than the default.
    #[error("median {median_ns} ns is above the default's {default_ns} ns: the default should have been chosen")]
    SlowerThanDefault {
        /// Median of the entry.
        median_ns: f64,
        /// Median of the default.
        default_ns: f64,
    },
}

/// One line of a table: a configuration that passed the gate, with what it cost.
///
/// Read its fields through [`EntryFields`]. There is no way to build one without a [`Pass`] of the same configuration. It is
/// written with a digest of all its fields behind them, which [`Table::load`](crate::Table::load) compares with what it finds:
/// an entry in which anything was changed is refused. The digest tells an edit from a measurement; it is no signature.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry(EntryFields);

impl Entry {
    /// Checks that the fields agree with each other.
    ///
    /// # Errors
    /// The first contradiction.
    pub fn new(fields: EntryFields) -> Result<Self, EntryError> {
        let expected = TuneKey::new(&fields.key.family, fields.key.order, fields.key.dtype, &fields.problem);
        if !same_bucket(&fields.key, &expected) {
            return Err(EntryError::Key { found: fields.key.to_string(), expected: expected.to_string() });
        }
        // An id that no op knows may be of a later version; it is never selected, since no variant asks for its family.
        let mut families = OPS.iter().filter_map(|op| Some((*op, family(op, &fields.variant)?)));
        if let Some((op, family)) = families.next() {
            if family != fields.key.family {
                return Err(EntryError::Family { variant: fields.variant, family: fields.key.family });
            }
            if let Some(found) = fields.problem.axes.keys().find(|name| !axes(op).contains(&name.as_str())) {
                return Err(EntryError::Axis { found: found.clone(), op });
            }
        }
        if fields.pass.dtype() != fields.key.dtype {
            return Err(EntryError::Dtype { found: fields.pass.dtype(), expected: fields.key.dtype });
        }
        if fields.pass.order() != fields.key.order {
            return Err(EntryError::Order { found: fields.pass.order(), expected: fields.key.order });
        }
        if fields.config != *fields.pass.config() {
            return Err(EntryError::Config { expected: fields.pass.config().clone(), found: fields.config });
        }
        let times = [("median_ns", Some(fields.median_ns)), ("default_median_ns", fields.default_median_ns)];
        let times = times.into_iter().chain([("unfused_median_ns", fields.unfused_median_ns)]);
        let times = times.chain(fields.ties.iter().map(|t| ("ties.median_ns", Some(t.median_ns))));
        for (field, found) in times.filter_map(|(field, t)| Some((field, t?))) {
            if !(found.is_finite() && found > 0.0) {
                return Err(EntryError::Time { field, found, bound: " above 0" });
            }
        }
        for spread in [fields.spread_ns].into_iter().chain(fields.ties.iter().map(|t| t.spread_ns)) {
            if !(spread.is_finite() && spread >= 0.0) {
                return Err(EntryError::Time { field: "spread_ns", found: spread, bound: "" });
            }
        }
        if fields.samples == 0 {
            return Err(EntryError::NoSamples);
        }
        match fields.default_median_ns {
            Some(default_ns) if fields.median_ns > default_ns => {
                Err(EntryError::SlowerThanDefault { median_ns: fields.median_ns, default_ns })
            }
            _ => Ok(Self(fields)),
        }
    }

    /// How many times faster than the default configuration.
    pub fn speedup(&self) -> Option<f64> {
        Some(self.default_median_ns? / self.median_ns)
    }

    /// How many times faster than the unfused composition.
    pub fn unfused_speedup(&self) -> Option<f64> {
        Some(self.unfused_median_ns? / self.median_ns)
    }
}

/// Whether two keys are the same, but for the rounding that a decimal fraction in a file may bring.
pub(crate) fn same_bucket(a: &TuneKey, b: &TuneKey) -> bool {
    a.distance(b).is_some_and(|d| d.iter().all(|octaves| *octaves < 1e-9))
}

impl Deref for Entry {
    type Target = EntryFields;

    fn deref(&self) -> &EntryFields {
        &self.0
    }
}

/// SHA-256 of the fields of an entry as they are written, without white space.
fn digest(fields: &str) -> String {
    Sha256::digest(fields).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Splits an entry as it is written, without white space, into its fields, the digest that it names and the one that it has.
/// `None` where there is no digest at its end.
///
/// Text is compared and not what was understood of it, so that a key that has a default, the order of keys and the last digit
/// of a number count as they do for whoever reads a difference between files.
pub(crate) fn digests(entry: &str) -> Option<(String, &str, String)> {
    let (fields, named) = entry.strip_suffix("\"}")?.rsplit_once(",\"digest\":\"")?;
    let fields = format!("{fields}}}");
    let own = digest(&fields);
    Some((fields, named, own))
}

impl Serialize for Entry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Written<'a> {
            #[serde(flatten)]
            fields: &'a EntryFields,
            digest: String,
        }
        let text = serde_json::to_string(&self.0).map_err(S::Error::custom)?;
        Written { fields: &self.0, digest: digest(&text) }.serialize(serializer)
    }
}
