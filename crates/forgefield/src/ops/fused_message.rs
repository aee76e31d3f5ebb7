//! `fused_message`: radial basis, filter, message and scatter in one kernel.

mod bench;
mod bench_backward;
mod call;
mod estimate;
mod eval;
mod potential;
mod sweep;
mod tensors;
mod unfused;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::rc::Rc;

use ff_kernels::fused_message::{Registered, default_backward_config, default_config, find, registered};
use ff_reference::radial::{self, RadialKind};
use ff_spec::fused_message::{FilterKind, OP, Reduction, Variant};
use ff_spec::{DeviceId, Dtype, FusedMessage, FusedMessageBackward, FusedMessageDoubleBackward, LaunchConfig, Problem};
use ff_sweep::Row;
use ff_testkit::registry::{Registration, Twice, op};

use super::order::Orders;
use super::{AnyOp, RadialFunction, RadialParameter, meant};
use crate::commands::bench::Case;
use crate::commands::bench::instructions::CountedJob;
use crate::commands::eval::FileCall;
use crate::commands::eval::args::EvalArgs;
use crate::commands::sweep::kernels::{Asked, Kernels, PreparedRow};
use crate::failure::{Failure, Result};
use crate::options::Sizes;
use crate::screen::Screen;

const REGISTRATION: Registration<Twice<FusedMessage, FusedMessageBackward, FusedMessageDoubleBackward>> =
    op::<FusedMessage>().first::<FusedMessageBackward>().second::<FusedMessageDoubleBackward>();

/// Radial functions that the static gate compiles the backwards and the corners with.
const PAIRS: [[&str; 2]; 4] =
    [["gaussian", "cosine"], ["bessel", "polynomial"], ["expnorm", "cosine"], ["gaussian", "mollifier"]];

/// As an op among all.
pub struct Messages;

/// The variant of an id of this op.
fn of(id: &str) -> Variant {
    id.parse().unwrap_or_else(|_| unreachable!("`{id}` was found among the variants of `{OP}`"))
}

/// Whether it has the radial functions that stand for all where tables or counts do not tell them apart.
fn is_usual(variant: &Variant) -> bool {
    variant.radial.as_ref().is_some_and(|(basis, cutoff)| basis == "gaussian" && cutoff == "cosine")
}

fn is_paired(variant: &Variant) -> bool {
    variant.radial.as_ref().is_none_or(|(basis, cutoff)| PAIRS.contains(&[basis, cutoff]))
}

/// What `eval` reads and writes.
const TENSORS: &str = "\
Tensors of fused_message (T is --dtype; C = F for cfconv, 3F for painn):
  row_ptr [n_atoms+1], sender [n_edges]     u32 (i32, i64 and u64 are accepted)
  edge_vec [n_edges, 3]                     T, Å
  x [n_atoms, F]                            cfconv;  y [n_atoms, F] comes out
  s [n_atoms, 3F], mu [n_atoms, 3, F]       painn;   dq [n_atoms, F], dmu [n_atoms, 3, F] come out
  A [K, C], b [C]                           linear
  A1 [K, H], b1 [H], A2 [H, C], b2 [C]      mlp; metadata `activation`: shifted_softplus, tanh or silu
  table [n_nodes, order, C]                 tabulated
  r_cut [] or [1]                           Å; a tensor or metadata
  basis.<name>, cutoff.<name>               parameters of the radial functions; defaults where left out";

impl AnyOp for Messages {
    fn name(&self) -> &'static str {
        OP
    }

    fn template_hash(&self) -> &'static str {
        ff_kernels::generated::FUSED_MESSAGE_TEMPLATE_HASH
    }

    fn about(&self) -> &'static str {
        "radial basis, filter, message and scatter in one kernel"
    }

    fn orders(&self) -> Orders {
        Orders::of(&REGISTRATION)
    }

    fn ids(&self) -> Vec<&'static str> {
        registered().iter().map(|registered| registered.id).collect()
    }

    fn family(&self, id: &str) -> String {
        of(id).family()
    }

    fn text(&self, id: &str) -> String {
        find(&of(id)).map(Registered::text).unwrap_or_default()
    }

    fn is_deterministic(&self, id: &str) -> bool {
        of(id).reduction == Reduction::Receiver
    }

    fn parameters(&self, id: &str) -> Vec<String> {
        let variant = of(id);
        let mut parameters: Vec<String> = match variant.filter {
            FilterKind::Linear => vec!["A".into(), "b".into()],
            FilterKind::Mlp => vec!["A1".into(), "b1".into(), "A2".into(), "b2".into()],
            FilterKind::Tabulated => vec!["table".into()],
        };
        parameters.push("r_cut".into());
        if let Some(pair) = &find(&variant).and_then(Registered::pair) {
            for (prefix, declared) in [("basis", pair.basis_parameters), ("cutoff", pair.cutoff_parameters)] {
                let name = |(name, per_basis): &(&str, bool)| {
                    format!("{prefix}.{name}{}", if *per_basis { "[K]" } else { "" })
                };
                parameters.extend(declared.iter().map(name));
            }
        }
        parameters
    }

    fn radial_of(&self, id: &str) -> Option<[&'static str; 2]> {
        find(&of(id))?.radial.map(|(basis, cutoff)| [basis, cutoff])
    }

    fn radial(&self) -> Vec<RadialFunction> {
        let used: BTreeSet<&str> = self.ids().into_iter().filter_map(|id| self.radial_of(id)).flatten().collect();
        let parameter = |p: &radial::ParameterSpec| RadialParameter {
            name: p.name,
            per_basis: p.per_basis,
            default: p.default,
            meaning: p.doc,
        };
        let function = |f: &radial::RadialSpec| RadialFunction {
            name: f.name,
            kind: f.kind.name(),
            formula: f.formula,
            parameters: f.parameters.iter().map(parameter).collect(),
            source: f.source,
        };
        radial::RADIAL_FUNCTIONS.iter().filter(|f| used.contains(f.name)).map(function).collect()
    }

    /// An unknown id, with what is wrong about it and the nearest known one.
    fn one(&self, id: &str) -> Result<&'static str> {
        let parsed = id.parse::<Variant>();
        if let Ok(variant) = &parsed {
            if let Some(registered) = find(variant) {
                return Ok(registered.id);
            }
            if let Some((basis, cutoff)) = &variant.radial {
                for (name, kind) in [(basis, RadialKind::Basis), (cutoff, RadialKind::Cutoff)] {
                    if let Err(error) = radial::find(name, kind) {
                        return Err(Failure::input(format!("variant `{id}`: {error}")));
                    }
                }
            }
        }
        let hint = meant(id, &self.ids());
        Err(Failure::input(match parsed {
            Ok(_) => format!("variant `{id}` was not rendered{hint}; `forgefield ops` lists those that were"),
            Err(error) => format!("{error}{hint}; `forgefield ops` lists all"),
        }))
    }

    /// A family is of any radial functions: `painn_linear_receiver`.
    fn matching(&self, name: &str) -> Result<Vec<&'static str>> {
        let of_family: Vec<&str> =
            registered().iter().filter(|r| r.variant().family() == name).map(|registered| registered.id).collect();
        if of_family.is_empty() { Ok(vec![self.one(name)?]) } else { Ok(of_family) }
    }

    /// Tables do not tell radial functions apart.
    fn representative(&self, name: &str) -> Result<&'static str> {
        let of_family = self.matching(name)?;
        let chosen = of_family.iter().find(|id| is_usual(&of(id))).or(of_family.first()).copied();
        chosen.ok_or_else(|| Failure::input(format!("no variant `{name}`")))
    }

    /// There are dozens, told apart by their filters.
    fn group(&self, id: &str) -> String {
        of(id).filter.name().to_owned()
    }

    fn is_estimated(&self) -> bool {
        true
    }

    /// The filters of SchNet and PaiNN, both reductions, and their tables.
    fn tuned_by_default(&self) -> &'static [&'static str] {
        &[
            "cfconv_mlp_receiver",
            "cfconv_mlp_edge_atomic",
            "cfconv_tabulated_receiver",
            "painn_linear_receiver",
            "painn_linear_edge_atomic",
            "painn_tabulated_receiver",
        ]
    }

    fn widths(&self, id: &str, sizes: &Sizes) -> [u32; 3] {
        let (n_basis, hidden) = match of(id).filter {
            FilterKind::Linear => (sizes.n_basis, 0),
            FilterKind::Mlp => (sizes.n_basis, sizes.hidden),
            // A cubic table, as everywhere in this binary.
            FilterKind::Tabulated => (4, 0),
        };
        [sizes.features, n_basis, hidden].map(|width| width as u32)
    }

    fn default_config(&self, device: &DeviceId, id: &str, dtype: Dtype, problem: &Problem) -> LaunchConfig {
        default_config(device, &of(id), dtype, problem)
    }

    fn default_of_order(
        &self,
        order: u8,
        device: &DeviceId,
        id: &str,
        dtype: Dtype,
        problem: &Problem,
    ) -> LaunchConfig {
        match order {
            0 => default_config(device, &of(id), dtype, problem),
            order => default_backward_config(device, &of(id), order, dtype, problem),
        }
    }

    /// Kernels are generic over radial functions, and many: the large backwards are compiled with each basis and each cutoff
    /// once, the second for `receiver` alone, whose vectors are the wider ones and fill more registers.
    fn is_gated(&self, id: &str, order: u8) -> bool {
        let variant = of(id);
        order == 0 || (is_paired(&variant) && (order == 1 || variant.reduction == Reduction::Receiver))
    }

    /// In f32 with each basis and each cutoff once.
    fn has_corners(&self, id: &str, order: u8, dtype: Dtype) -> bool {
        order == 0 && dtype == Dtype::F32 && is_paired(&of(id))
    }

    fn bench_cases(&self, structures: &[PathBuf]) -> Vec<Rc<dyn Case>> {
        let mut all: Vec<Rc<dyn Case>> = Vec::new();
        all.extend(bench::suite().into_iter().map(|step| Rc::new(step) as Rc<dyn Case>));
        all.extend(bench_backward::suite().into_iter().map(|step| Rc::new(step) as Rc<dyn Case>));
        all.extend(bench::of_structures(structures).into_iter().map(|step| Rc::new(step) as Rc<dyn Case>));
        all
    }

    fn counted_calls(&self) -> Vec<CountedJob> {
        bench::counted_calls()
    }

    fn tensors(&self) -> Option<&'static str> {
        Some(TENSORS)
    }

    fn read_call(&self, args: &EvalArgs, screen: &Screen) -> Result<Box<dyn FileCall>> {
        eval::read(args, screen)
    }

    fn unused_axes(&self, id: &str) -> &'static [&'static str] {
        if call::exact(&of(id)).filter == FilterKind::Mlp { &[] } else { &["hidden"] }
    }

    fn takes_graphs(&self) -> bool {
        true
    }

    fn has_compositions(&self, order: u8) -> bool {
        order <= 1
    }

    fn is_tabulated(&self, id: &str) -> bool {
        of(id).filter == FilterKind::Tabulated
    }

    fn sweep(&self, kernels: &mut Kernels, row: &Row, asked: &Asked) -> Result<PreparedRow> {
        sweep::prepare(kernels, row, asked, &of(asked.id))
    }

    /// One variant for each reduction: the others are of the same spaces.
    #[cfg(test)]
    fn tried(&self) -> Vec<(&'static str, usize)> {
        let families = ["painn_linear_receiver", "painn_linear_edge_atomic"];
        families.map(|family| (self.representative(family).unwrap_or_else(|e| panic!("{}", e.message)), 128)).into()
    }

    #[cfg(test)]
    fn host_takes(&self, config: &LaunchConfig) -> std::result::Result<(), ff_spec::LaunchError> {
        ff_kernels::fused_message::host_config(config).map(|_| ())
    }

    #[cfg(test)]
    fn cube_takes(
        &self,
        limits: &ff_spec::Limits,
        (id, dtype, problem): (&str, Dtype, &Problem),
        config: &LaunchConfig,
    ) -> std::result::Result<(), ff_spec::LaunchError> {
        let variant = of(id);
        assert_eq!(variant.filter, FilterKind::Linear, "all that is tried is linear");
        let Problem { n_atoms, n_edges, features, n_basis, .. } = *problem;
        let sizes = ff_spec::fused_message::Sizes {
            message: variant.message,
            n_atoms: n_atoms as usize,
            n_edges: n_edges as usize,
            features: features as usize,
            n_basis: n_basis as usize,
            filter: ff_spec::fused_message::FilterSizes::Linear,
        };
        ff_kernels::fused_message::cube_config(&variant, dtype, &sizes, limits, config).map(|_| ())
    }
}
