//! Whether the configurations of a table are of their tuning spaces.

use std::path::PathBuf;

use ff_spec::{LaunchConfig, kernel_name};
use ff_tables::{Entry, Table};
use ff_tune::{Space, SpaceError, Spaces, Target};

use crate::failure::{Failure, Result};
use crate::ops;

/// The spaces of every op, in the order of the table of ops.
pub(super) struct OpSpaces(Vec<Spaces>);

impl OpSpaces {
    /// Those that this binary was built with, but for the ops that `files` are of.
    ///
    /// # Errors
    /// A space file that does not read.
    pub(super) fn new(files: &[PathBuf]) -> Result<Self> {
        let mut spaces = ops::ALL.iter().map(|op| op.spaces()).collect::<Result<Vec<_>>>()?;
        for file in files {
            let given = Spaces::load(file).map_err(Failure::input)?;
            spaces.iter_mut().filter(|known| known.op == given.op).for_each(|known| *known = given.clone());
        }
        Ok(Self(spaces))
    }

    /// What is wrong with the configurations of an entry, the chosen one and those that tie with it: each is a feasible point of
    /// its space on the entry's problem, or the op's default there. `None` where nothing is, and of a variant of another build,
    /// which is never selected.
    pub(super) fn misfit(&self, table: &Table, entry: &Entry) -> Option<String> {
        let (device, key) = (&table.device, &entry.key);
        let (default, space) = self.expected(table, entry)?;
        let problem = |reason: String| {
            let name = kernel_name(&entry.variant, key.order);
            format!("{name} in {} on `{}`: {reason}", key.dtype, entry.problem.name)
        };
        let space = match space {
            Ok(space) => space,
            Err(error) => return Some(problem(error.to_string())),
        };
        let configs = std::iter::once(("configuration", &entry.config));
        let configs = configs.chain(entry.ties.iter().map(|tie| ("tie", &tie.config)));
        let misfit = configs.filter(|(_, config)| **config != default).find_map(|(what, config)| {
            let reason = space.misfit(config, device, &entry.problem, key.dtype)?;
            Some(format!("{what} `{config}` is not of its tuning space and not the default: {reason}"))
        });
        misfit.map(problem)
    }

    /// The default configuration of the call that an entry is of, and its space.
    fn expected(
        &self,
        table: &Table,
        entry: &Entry,
    ) -> Option<(LaunchConfig, std::result::Result<&Space, SpaceError>)> {
        let at = ops::ALL.iter().position(|op| op.name() == table.op)?;
        let op = ops::ALL[at];
        let (id, key) = (op.one(&entry.variant).ok()?, &entry.key);
        let part = op.order(key.order)?.part(id);
        let default = op.default_of_order(key.order, &table.device, id, key.dtype, &entry.problem);
        Some((default, self.0[at].get(Target::of(table.device.runtime), part, key.order)))
    }
}

#[cfg(test)]
mod tests {
    use ff_spec::{Clock, Dtype, Problem, RuntimeKind, TuneKey};
    use ff_tables::{EntryFields, Evidence, Pass, PassOf, Tie, Versions};

    use super::*;

    #[test]
    fn entries_are_points_of_their_spaces_or_the_default() {
        let spaces = OpSpaces::new(&[]).expect("the built-in files are sound");
        let device = crate::runtimes::of(RuntimeKind::Host).unwrap_or_else(|e| panic!("{e}")).device().clone();
        let versions = Versions { forgefield: "0".into(), burn: "0".into(), cubecl: "0".into() };
        let table = Table::new("fused_message", device.clone(), versions, "hash");
        let problem = Problem {
            name: "water-64".to_owned(),
            n_atoms: 192,
            n_edges: 10_000,
            max_degree: 60,
            features: 8,
            n_basis: 20,
            ..Problem::default()
        };
        let found = |order: u8, config: &LaunchConfig, tie: &LaunchConfig| {
            let evidence = Evidence { rel_error: 1e-7, max_abs_error: 1e-6, cases: 9, seeds: vec![1, 2, 3] };
            let of = PassOf { device: &device.slug, kernel_hash: "k", config, dtype: Dtype::F32, order };
            let entry = Entry::new(EntryFields {
                key: TuneKey::new("painn_linear_receiver", order, Dtype::F32, &problem),
                variant: "painn_linear_gaussian_cosine_receiver".to_owned(),
                problem: problem.clone(),
                config: config.clone(),
                median_ns: 10.0,
                spread_ns: 1.0,
                samples: 9,
                clock: Clock::Wall,
                driver: String::new(),
                default_median_ns: None,
                unfused_median_ns: None,
                ties: vec![Tie { config: tie.clone(), median_ns: 10.0, spread_ns: 1.0 }],
                pass: Pass::record(of, evidence, 0).expect("within tolerance"),
            });
            spaces.misfit(&table, &entry.expect("consistent"))
        };
        let config = |tile, block| {
            LaunchConfig::from([("edges_per_task", 512), ("edges_per_tile", tile), ("channel_block", block)])
        };
        // The default of the forward, which eight features are too few for as a point of the space.
        let default = config(128, 32);
        assert_eq!(found(0, &default, &config(64, 16)), None);
        assert_eq!(found(1, &config(32, 32), &config(64, 16)), None, "the default of the first backward");
        let said = found(0, &config(7, 16), &default).expect("no such tile");
        for part in
            ["painn_linear_gaussian_cosine_receiver in f32 on `water-64`: configuration", "is 7, expected one of"]
        {
            assert!(said.contains(part), "{said}");
        }
        let said = found(0, &default, &config(64, 32)).expect("a block of more channels than there are");
        assert!(said.contains("tie `") && said.contains("constraint `channel_block"), "{said}");
    }
}
