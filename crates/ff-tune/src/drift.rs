//! A machine that does not stay as fast as it was.

use std::collections::BTreeMap;

use ff_spec::LaunchConfig;

use crate::outcome::{Note, NoteKind};

/// What is worth a note: less than this is in the spread of most machines.
const NOTED: f64 = 0.1;

/// How fast the machine was in each batch of the screening, by the default configuration, which is timed in every one: the
/// fixed anchor.
///
/// Batches are compared by the ratio to their own anchor, so that a slow quarter of an hour costs no configuration its place in
/// the finals; there everything is timed again side by side. Samples are recorded as they were taken.
#[derive(Clone, Debug, Default)]
pub(crate) struct Drift {
    /// The default when it was first measured, ns.
    reference_ns: Option<f64>,
    /// By what factor the machine was slower when a configuration was measured.
    factors: BTreeMap<LaunchConfig, f64>,
    /// The least and the greatest factor.
    range: Option<(f64, f64)>,
}

impl Drift {
    /// The default was measured for the first time.
    pub(crate) fn begin(&mut self, default_ns: f64) {
        self.reference_ns.get_or_insert(default_ns);
    }

    /// The default was measured again, beside these.
    pub(crate) fn anchor(&mut self, default_ns: f64, beside: impl IntoIterator<Item = LaunchConfig>) {
        let factor = default_ns / *self.reference_ns.get_or_insert(default_ns);
        self.factors.extend(beside.into_iter().map(|config| (config, factor)));
        let (least, greatest) = self.range.unwrap_or((1.0, 1.0));
        self.range = Some((least.min(factor), greatest.max(factor)));
    }

    /// The default when it was first measured, ns.
    pub(crate) fn reference_ns(&self) -> Option<f64> {
        self.reference_ns
    }

    /// The time that a configuration would have had then.
    pub(crate) fn corrected(&self, config: &LaunchConfig, ns: f64) -> f64 {
        ns / self.factors.get(config).copied().unwrap_or(1.0)
    }

    /// What a reader should know.
    pub(crate) fn note(&self) -> Option<Note> {
        let (least, greatest) = self.range.filter(|(least, greatest)| greatest / least > 1.0 + NOTED)?;
        let text = format!(
            "the machine drifted: the default took {least:.2} to {greatest:.2} times its first median; batches were compared \
             by their ratio to it"
        );
        Some(Note::new(NoteKind::Drift, text))
    }
}
