//! Every op through one table. What a command asks of an op it asks of [`AnyOp`], and what it asks of one of its derivative
//! orders of [`AnyOrder`], so no command names one. An op is a module here and a line of [`ALL`].

mod cell_list;
mod force_scatter;
mod fused_message;
mod names;
pub mod order;
mod vector_norm;

use std::path::PathBuf;
use std::rc::Rc;

use ff_spec::{DeviceId, Dtype, LaunchConfig, Problem, Runtime};
use ff_sweep::Row;
use ff_tables::Loaded;
use ff_tune::Spaces;
use serde::Serialize;

pub use cell_list::neighbors;
pub use names::{Chosen, chosen, find, ids, meant, of_variant, tensors, usual};
pub use order::{AnyCall, AnyOrder, Counted, Orders, Plan, Selected, Tasks, UsedOrder};

use crate::commands::bench::Case;
use crate::commands::bench::instructions::CountedJob;
use crate::commands::eval::args::EvalArgs;
use crate::commands::eval::{FileCall, not_from_files};
use crate::commands::sweep::kernels::{Asked, Kernels, PreparedRow};
use crate::commands::tables::args::SelectArgs;
use crate::failure::{Failure, Result};
use crate::options::Sizes;
use crate::screen::Screen;
use crate::workload::{self, Workload};

/// Every op, in the order in which they are checked and tuned: lists first, since what they leave of a time goes to the
/// messages, which have more to try.
pub const ALL: [&dyn AnyOp; 4] =
    [&cell_list::Lists, &force_scatter::Scatters, &vector_norm::Norms, &fused_message::Messages];

/// A basis or a cutoff function that variants read distances through.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RadialFunction {
    /// Its name in ids.
    pub name: &'static str,
    /// `basis` or `cutoff`.
    pub kind: &'static str,
    /// As text.
    pub formula: &'static str,
    /// What it reads.
    pub parameters: Vec<RadialParameter>,
    /// Where it was published.
    pub source: &'static str,
}

/// A parameter of a radial function.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RadialParameter {
    /// Its name.
    pub name: &'static str,
    /// One value per basis function rather than one for all.
    pub per_basis: bool,
    /// As text.
    pub default: &'static str,
    /// In words.
    pub meaning: &'static str,
}

/// An op, whichever it is. Variants are named by their ids, and an id that is passed in is one of [`AnyOp::ids`].
pub trait AnyOp: Sync {
    /// The one name that templates, oracles, spaces, tables and tests share.
    fn name(&self) -> &'static str;

    /// Hash of its templates.
    fn template_hash(&self) -> &'static str;

    /// What it computes, in a few words.
    fn about(&self) -> &'static str;

    /// Its derivative orders, which a complete registration alone gives.
    fn orders(&self) -> Orders;

    /// The id of every variant that was rendered.
    fn ids(&self) -> Vec<&'static str>;

    /// The family of a variant: what tuning tables are keyed by.
    fn family(&self, id: &str) -> String {
        id.to_owned()
    }

    /// The source of a variant's host kernels.
    fn text(&self, id: &str) -> String;

    /// The tuning spaces that this binary was built with.
    ///
    /// # Errors
    /// A space file that does not read, which a test rules out.
    fn spaces(&self) -> Result<Spaces> {
        Spaces::built_in(self.name()).map_err(Failure::fault)
    }

    /// Whether a variant gives the same bits on every run.
    fn is_deterministic(&self, id: &str) -> bool;

    /// The parameters that a variant reads besides its list and features.
    fn parameters(&self, _id: &str) -> Vec<String> {
        Vec::new()
    }

    /// The basis and the cutoff of a variant, where it has any.
    fn radial_of(&self, _id: &str) -> Option<[&'static str; 2]> {
        None
    }

    /// The radial functions of its variants.
    fn radial(&self) -> Vec<RadialFunction> {
        Vec::new()
    }

    /// The variant of exactly this id.
    ///
    /// # Errors
    /// An unknown id, with the nearest known one.
    fn one(&self, id: &str) -> Result<&'static str> {
        let ids = self.ids();
        ids.iter().find(|known| **known == id).copied().ok_or_else(|| {
            let (op, hint) = (self.name(), meant(id, &ids));
            Failure::input(format!("unknown variant `{id}` of op `{op}`{hint}, expected one of {}", ids.join(", ")))
        })
    }

    /// The variants of an id or of a family.
    ///
    /// # Errors
    /// As [`AnyOp::one`].
    fn matching(&self, name: &str) -> Result<Vec<&'static str>> {
        Ok(vec![self.one(name)?])
    }

    /// The variant that stands for an id or a family when something is timed.
    ///
    /// # Errors
    /// As [`AnyOp::one`].
    fn representative(&self, name: &str) -> Result<&'static str> {
        self.one(name)
    }

    /// What the rows of the gate are counted under: variants of which there are dozens share a name.
    fn group(&self, id: &str) -> String {
        id.to_owned()
    }

    /// Whether the costs of its forward's configurations can be counted before anything is measured.
    fn is_estimated(&self) -> bool {
        false
    }

    /// What is tuned when nothing is said.
    fn tuned_by_default(&self) -> &'static [&'static str];

    /// A problem with its sizes, as a heading.
    fn heading(&self, problem: &Problem) -> String {
        let Problem { name, n_atoms, n_edges, .. } = problem;
        format!("{name}: {n_atoms} atoms, {n_edges} edges")
    }

    /// Features F, basis functions K and hidden units H of a variant's call at these sizes; all 0 where it sees none.
    fn widths(&self, _id: &str, _sizes: &Sizes) -> [u32; 3] {
        [0; 3]
    }

    /// The sizes of a variant's call on one built-in problem, without its tensors. An op sees either features or systems.
    ///
    /// # Errors
    /// An unknown problem, or sizes that no kernel has.
    fn problem(&self, id: &str, name: &str, sizes: &Sizes) -> Result<Problem> {
        let geometry = workload::systems_of(name, sizes)?;
        let [features, n_basis, hidden] = self.widths(id, sizes);
        let n_systems = if features > 0 { 0 } else { geometry.n_systems };
        Ok(Problem { n_systems, features, n_basis, hidden, ..geometry })
    }

    /// The forward's configuration where no table entry applies.
    fn default_config(&self, device: &DeviceId, id: &str, dtype: Dtype, problem: &Problem) -> LaunchConfig;

    /// The same of an order: backwards may have another.
    fn default_of_order(
        &self,
        _order: u8,
        device: &DeviceId,
        id: &str,
        dtype: Dtype,
        problem: &Problem,
    ) -> LaunchConfig {
        self.default_config(device, id, dtype, problem)
    }

    /// Whether the static gate compiles a variant in an order.
    fn is_gated(&self, _id: &str, _order: u8) -> bool {
        true
    }

    /// Whether it compiles it at the corners of its space too.
    fn has_corners(&self, id: &str, order: u8, dtype: Dtype) -> bool;

    /// The cases of `bench`, with one for each of these structures where it has such.
    fn bench_cases(&self, structures: &[PathBuf]) -> Vec<Rc<dyn Case>>;

    /// Every call whose instructions are counted.
    fn counted_calls(&self) -> Vec<CountedJob>;

    /// The tensors that its calls are read from, as help: a heading and a line each; `None` where no call is read from a file.
    fn tensors(&self) -> Option<&'static str> {
        None
    }

    /// Reads the call that `eval` is asked for.
    ///
    /// # Errors
    /// Tensors that are wrong, and an op whose calls are not read from files.
    fn read_call(&self, args: &EvalArgs, _screen: &Screen) -> Result<Box<dyn FileCall>> {
        Err(not_from_files(args))
    }

    /// The variant that is meant where none is named, or what stands for one in words; `None` where one has to be named.
    fn usual(&self) -> Option<&'static str> {
        None
    }

    /// Which configuration a call would use, and why.
    ///
    /// # Errors
    /// An unknown variant, and none where the op has no usual one.
    fn selected(
        &self,
        args: &SelectArgs,
        workload: &Workload,
        runtime: &(dyn Runtime + 'static),
        tables: &Loaded,
    ) -> Result<Selected> {
        let Some(name) = args.variant.as_deref().or(self.usual()) else {
            return Err(Failure::input(format!("no variant of op `{}`, expected --variant", self.name())));
        };
        let id = self.representative(name)?;
        self.expect_order(args.order)?.select(runtime, tables, id, args.dtype, (workload, &args.sizes))
    }

    /// The axes of a sweep that a variant has no use for.
    fn unused_axes(&self, id: &str) -> &'static [&'static str];

    /// Whether it runs on random graphs too, which have edges and no atoms in space.
    fn takes_graphs(&self) -> bool {
        false
    }

    /// Whether the same is computed by tensor operations that it can be compared with, in this order.
    fn has_compositions(&self, _order: u8) -> bool {
        false
    }

    /// Whether a variant reads a table that a filter is sampled into.
    fn is_tabulated(&self, _id: &str) -> bool {
        false
    }

    /// Prepares a row of a sweep.
    ///
    /// # Errors
    /// What is wrong with the row; what the kernel itself refuses is a result.
    fn sweep(&self, kernels: &mut Kernels, row: &Row, asked: &Asked) -> Result<PreparedRow> {
        self.expect_order(asked.order)?.sweep(kernels, row, asked)
    }

    /// One of its derivative orders, where it has that.
    fn order(&self, order: u8) -> Option<&'static dyn AnyOrder> {
        self.orders().iter().find(|known| known.order() == order)
    }

    /// One of its derivative orders.
    ///
    /// # Errors
    /// An order that it does not have.
    fn expect_order(&self, order: u8) -> Result<&'static dyn AnyOrder> {
        self.order(order).ok_or_else(|| {
            let op = self.name();
            match self.orders().iter().count() {
                1 => Failure::input(format!("op `{op}` has no derivatives, expected --order 0 and found {order}")),
                n => Failure::input(format!("op `{op}` has no order {order}, expected at most {}", n - 1)),
            }
        })
    }

    /// Its forward.
    fn forward(&self) -> &'static dyn AnyOrder {
        self.orders().forward()
    }

    /// What a test holds its spaces against its kernels for: variants of every part, each with a width of features; several
    /// widths where kernels depend on what divides them.
    #[cfg(test)]
    fn tried(&self) -> Vec<(&'static str, usize)> {
        self.ids().into_iter().map(|id| (id, 128)).collect()
    }

    /// Reads a configuration as its host kernels do.
    ///
    /// # Errors
    /// Why they refuse it.
    #[cfg(test)]
    fn host_takes(&self, config: &LaunchConfig) -> std::result::Result<(), ff_spec::LaunchError>;

    /// Reads a configuration as its cube kernels do for a call of a variant on a device.
    ///
    /// # Errors
    /// Why they refuse it.
    #[cfg(test)]
    fn cube_takes(
        &self,
        limits: &ff_spec::Limits,
        call: (&str, Dtype, &Problem),
        config: &LaunchConfig,
    ) -> std::result::Result<(), ff_spec::LaunchError>;
}

#[cfg(test)]
mod tests {
    use ff_spec::{Limits, RuntimeKind};
    use ff_testkit::catalogue::CaseSet;
    use ff_tune::{Space, Target};

    use super::*;
    use crate::runtimes;

    /// Devices by what spaces ask of them: their runtime, units of a cube and units of a plane.
    const DEVICES: [(RuntimeKind, u32, u32); 5] = [
        (RuntimeKind::Host, 2, 16),
        (RuntimeKind::Cuda, 1024, 32),
        (RuntimeKind::Vulkan, 128, 8),
        (RuntimeKind::Vulkan, 1024, 8),
        (RuntimeKind::Vulkan, 512, 64),
    ];

    #[test]
    fn the_table_has_every_op_with_its_variants_orders_and_spaces() {
        assert_eq!(ALL.map(|op| op.name()), *ff_spec::OPS);
        for op in ALL {
            let orders: Vec<u8> = op.orders().iter().map(|order| order.order()).collect();
            assert_eq!(orders, (0..orders.len() as u8).collect::<Vec<_>>(), "of {}", op.name());
            let spaces = op.spaces().unwrap_or_else(|e| panic!("{}", e.message));
            for id in op.ids() {
                assert_eq!(op.one(id).ok(), Some(id));
                assert!(ff_spec::family(op.name(), id).is_some(), "{id} has a family");
                assert!(!op.text(id).is_empty(), "{id} has a text");
                for order in op.orders().iter() {
                    assert!(!order.cases(id, CaseSet::Quick).is_empty(), "{id} has cases in order {}", order.order());
                    for target in [Target::Host, Target::Cube] {
                        let space = spaces.get(target, order.part(id), order.order());
                        assert!(space.is_ok(), "{id} has a space on {target} in order {}", order.order());
                    }
                }
            }
            for name in op.tuned_by_default() {
                assert!(op.representative(name).is_ok(), "{name}");
            }
        }
    }

    /// Spaces and kernels are written in two places; here they meet.
    #[test]
    fn the_kernels_take_every_configuration_of_every_space() {
        let host = runtimes::of(RuntimeKind::Host).unwrap_or_else(|e| panic!("{e}"));
        let devices = DEVICES.map(|(runtime, max_units_per_cube, plane_size)| {
            let limits = Limits { max_units_per_cube, plane_size, shared_memory: 32768 };
            DeviceId { runtime, limits, ..host.device().clone() }
        });
        for op in ALL {
            let call = |(id, features)| {
                let sizes = Sizes { cutoff: 5.0, features, n_basis: 20, hidden: 128, seed: 0 };
                (id, op.problem(id, "molecules", &sizes).unwrap_or_else(|e| panic!("{}", e.message)))
            };
            let calls: Vec<(&str, Problem)> = op.tried().into_iter().map(call).collect();
            let spaces = op.spaces().unwrap_or_else(|e| panic!("{}", e.message));
            let in_order = spaces.iter().flat_map(|space| space.orders.iter().map(move |order| (space, *order)));
            for (space, order) in in_order {
                let of_space = |id: &str| op.expect_order(order).is_ok_and(|of| of.part(id) == space.part);
                let mut same = 0;
                for device in devices.iter().filter(|device| Target::of(device.runtime) == space.target) {
                    for (id, problem) in calls.iter().filter(|(id, _)| of_space(id)) {
                        same += usize::from(meet(op, (space, order), device, id, problem));
                    }
                }
                let (op, target, part) = (op.name(), space.target, space.part.name());
                assert!(
                    same > 0,
                    "{op} on {target} by {part} in order {order}: its default is nowhere that of the space"
                );
            }
        }
    }

    /// Holds a space against the kernels of a variant on a device. Whether both have the same default; they differ only where the
    /// kernels refuse that of the space.
    fn meet(op: &dyn AnyOp, (space, order): (&Space, u8), device: &DeviceId, id: &str, problem: &Problem) -> bool {
        let takes = |dtype, config: &LaunchConfig| match space.target {
            Target::Host => op.host_takes(config),
            Target::Cube => op.cube_takes(&device.limits, (id, dtype, problem), config),
        };
        let default = |dtype| op.default_of_order(order, device, id, dtype, problem);
        let DeviceId { runtime, limits, .. } = device;
        let on = format!("of {id} in order {order}, {} features, on {runtime} with {limits:?}", problem.features);
        for dtype in Dtype::ALL {
            let configs = space.enumerate(device, problem, dtype).unwrap_or_else(|e| panic!("{e}"));
            for config in &configs {
                assert_eq!(takes(dtype, config), Ok(()), "{config} {on} in {dtype}");
            }
            // What a second backward sums does not fit a cube in f64. The kernel then takes fewer edges than its default has, which a
            // space cannot say.
            let is_beyond = (space.part.name(), order, dtype) == ("edge_atomic", 2, Dtype::F64);
            let default = default(dtype);
            assert!(is_beyond || configs.contains(&default), "{default} {on} in {dtype} is no point of the space");
        }
        let (default, of_space) = (default(Dtype::F32), space.defaults());
        assert!(
            default == *of_space || takes(Dtype::F32, of_space).is_err(),
            "{default} {on}, the space has {of_space}, which the kernels take"
        );
        default == *of_space
    }

    #[test]
    fn names_lead_to_ops() {
        let ids = |found: Result<Vec<Chosen>>| -> Vec<(&str, usize)> {
            let found = found.unwrap_or_else(|e| panic!("{}", e.message));
            found.iter().map(|chosen| (chosen.op.name(), chosen.ids.len())).collect()
        };
        let matching = |op: &'static dyn AnyOp, name: &str| op.matching(name);
        let names = ["gather", "full_cells", "full_cells", "painn_tabulated_receiver"];
        let all = ids(chosen(&[], &names, matching));
        assert_eq!(
            all,
            [("cell_list", 1), ("force_scatter", 1), ("fused_message", 1)],
            "in the order of the table, each once"
        );
        assert_eq!(ids(chosen(&["force_scatter".to_owned()], &names, matching)), [("force_scatter", 1)]);
        for (ops, name, expected) in [
            (vec![], "gathr", "unknown variant `gathr`, did you mean `gather`?"),
            (vec!["cell_list".to_owned()], "gather_", "unknown variant `gather_`, expected one of full_cells"),
            (vec!["cell_list".to_owned()], "gather", "none of the variants gather is of op cell_list"),
            (vec![], "painn_tabulated_receivr", "did you mean `painn_tabulated_receiver`"),
            (vec!["cell_lst".to_owned()], "gather", "unknown op `cell_lst`, did you mean `cell_list`?"),
        ] {
            let error = chosen(&ops, &[name], matching).err().map(|e| e.message).unwrap_or_default();
            assert!(error.contains(expected), "{name}: {error}");
        }
    }
}
