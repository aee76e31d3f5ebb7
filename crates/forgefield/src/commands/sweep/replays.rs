//! Rows that are searches over recorded measurements.

use std::collections::BTreeMap;

use ff_spec::{DeviceId, Dtype};
use ff_sweep::notebook::digest;
use ff_sweep::{Bench, Origin, Refused, ReplayOf, Row, Subject, Verdict};
use ff_tune::replay::{CostFn, Quartiles, Replay, replay, transferred};
use ff_tune::{Recorded, StrategyKind, records};

use crate::failure::{Failure, Result};
use crate::provenance;
use crate::screen::Screen;

/// The records of a replay.
pub struct Replays {
    searches: Vec<Recorded>,
    repeats: usize,
    /// What tells results of these records, searched so often, from others.
    replayed: String,
}

impl Replays {
    /// Reads the records.
    ///
    /// # Errors
    /// Records that cannot be read.
    pub fn load(of: &ReplayOf, screen: &Screen) -> Result<Self> {
        let (all, torn) = records::read(&of.records).map_err(Failure::input)?;
        if let Some(torn) = torn {
            screen.warn(format!("warning: {}: {torn}", of.records.display()));
        }
        let bytes = std::fs::read(&of.records)
            .map_err(|e| Failure::input(format!("cannot read records {}: {e}", of.records.display())))?;
        let replayed = format!("{} searches of records {}", of.searches, digest(&bytes));
        Ok(Self { searches: Recorded::of(&all), repeats: of.searches, replayed })
    }

    /// Finds what is wrong with a row.
    ///
    /// # Errors
    /// An axis that a replay has no use for, and a search that the records do not hold once.
    pub fn check(&self, row: &Row) -> Result<()> {
        self.find(row).map(|_| ())
    }

    fn find(&self, row: &Row) -> Result<(&Recorded, StrategyKind)> {
        const USED: [&str; 7] = ["op", "variant", "problem", "dtype", "strategy", "seed", "repeat"];
        if let Some(name) = row.0.keys().find(|name| !USED.contains(&name.as_str())) {
            return Err(Failure::input(format!("a replay has no use for `{name}`, expected {}", USED.join(", "))));
        }
        let strategy =
            row.text("strategy").ok_or_else(|| Failure::input("no `strategy`, expected one to search by"))?;
        let strategy: StrategyKind = strategy.parse().map_err(Failure::input)?;
        let dtype: Dtype = row.text("dtype").unwrap_or("f32").parse().map_err(Failure::input)?;
        let is = |axis: &str, found: &str| row.text(axis).is_none_or(|asked| asked == found);
        let matching = |search: &&Recorded| {
            search.dtype == dtype
                && is("op", &search.op)
                && is("variant", &search.variant)
                && is("problem", &search.problem.name)
        };
        let mut found = self.searches.iter().filter(matching);
        match (found.next(), found.count()) {
            (Some(search), 0) => Ok((search, strategy)),
            (None, _) => {
                let of = |s: &Recorded| format!("{} {} on {}", s.variant, s.dtype, s.problem.name);
                let known: Vec<String> = self.searches.iter().map(of).collect();
                Err(Failure::input(format!("the records have no such search, expected one of {}", known.join(", "))))
            }
            (Some(_), more) => {
                Err(Failure::input(format!("the records have {} such searches, expected one", more + 1)))
            }
        }
    }
}

impl Bench for Replays {
    fn source(&mut self, row: &Row) -> std::result::Result<(String, DeviceId, String), String> {
        let (search, _) = self.find(row).map_err(|e| e.message)?;
        Ok((search.kernel_hash.clone(), search.device.clone(), search.compiler.clone()))
    }

    fn replayed(&self) -> Option<&str> {
        Some(&self.replayed)
    }

    fn prepare(&mut self, row: &Row) -> std::result::Result<(Origin, std::result::Result<Subject, Refused>), String> {
        let (search, strategy) = self.find(row).map_err(|e| e.message)?;
        let origin = Origin {
            op: search.op.clone(),
            variant: search.variant.clone(),
            kernel_hash: search.kernel_hash.clone(),
            order: 0,
            dtype: search.dtype,
            config: search.default.clone(),
            problem: search.problem.clone(),
            device: search.device.clone(),
            versions: provenance::versions(),
            compiler: search.compiler.clone(),
            clock: search.clock,
        };
        let seed = row.integer("seed").unwrap_or(0) + 1000 * row.integer("repeat").unwrap_or(0);
        let options = Replay { strategies: vec![strategy], repeats: self.repeats, seed, ..Replay::default() };
        let cost = transferred(search, &self.searches);
        let cost = cost.as_ref().map(|cost| cost as &CostFn<'_>);
        let replayed = match replay(search, &options, cost) {
            Ok(replayed) => replayed,
            Err(reason) => return Ok((origin, Err(Refused::new(Verdict::Skipped, reason)))),
        };
        let Some(course) = replayed.courses.first() else {
            let reason = "the records have no other problem of this kernel to estimate costs by";
            return Ok((origin, Err(Refused::new(Verdict::Skipped, reason))));
        };
        let mut metrics =
            BTreeMap::from([("configs".to_owned(), replayed.configs as f64), ("best_ns".to_owned(), replayed.best_ns)]);
        metrics.extend(replayed.default_ratio.map(|ratio| ("default_over_best".to_owned(), ratio)));
        let mut add = |name: &str, quartiles: &Quartiles| {
            let Quartiles { lower, median, upper } = *quartiles;
            for (of, value) in [("lower", lower), ("median", median), ("upper", upper)] {
                if value.is_finite() {
                    metrics.insert(format!("{name}_{of}"), value);
                }
            }
        };
        if let Some(until) = &course.until_near {
            add("evaluations_until_near", until);
        }
        for (evaluation, best) in course.best_so_far.iter().enumerate() {
            if let Some(best) = best {
                add(&format!("best_so_far_{:03}", evaluation + 1), best);
            }
        }
        Ok((origin, Ok(Subject::Computed(metrics))))
    }
}
