//! From what a user types to variants that were rendered.

use ff_kernels::fused_message::{find, registered};
use ff_reference::radial::{self, RadialKind};
use ff_spec::fused_message::{self, Variant};
use ff_spec::{OPS, cell_list, force_scatter};
use ff_tables::nearest;

use crate::failure::{Failure, Result};

/// Checks the name of an op.
///
/// # Errors
/// An unknown name, with the nearest known one.
pub fn op(name: &str) -> Result<()> {
    if OPS.contains(&name) {
        return Ok(());
    }
    Err(Failure::input(format!("unknown op `{name}`{}, expected one of {}", meant(name, OPS), OPS.join(", "))))
}

/// Checks the name of an op that a command knows `of_command` ops of only.
///
/// # Errors
/// As [`op`], and an op that the command has no use for.
pub fn op_of(name: &str, command: &str, of_command: &[&str]) -> Result<()> {
    op(name)?;
    if of_command.contains(&name) {
        return Ok(());
    }
    let known = of_command.join(", ");
    Err(Failure::input(format!("`{command}` does not know op `{name}` yet, expected one of {known}")))
}

/// The neighbour lists of an id.
pub fn list(id: &str) -> Option<cell_list::Variant> {
    let variant = id.parse().ok()?;
    ff_kernels::cell_list::find(&variant).map(|registered| registered.variant())
}

/// The force scatter of an id.
pub fn scatter(id: &str) -> Option<force_scatter::Variant> {
    let variant = id.parse().ok()?;
    ff_kernels::force_scatter::find(&variant).map(|registered| registered.variant())
}

/// The neighbour lists of exactly this id.
///
/// # Errors
/// An unknown id, with the nearest known one.
pub fn one_list(id: &str) -> Result<cell_list::Variant> {
    let ids = list_ids();
    let unknown = || format!("unknown variant `{id}` of op `{}`{}", cell_list::OP, meant(id, &ids));
    list(id).ok_or_else(|| Failure::input(format!("{}, expected one of {}", unknown(), ids.join(", "))))
}

/// The force scatter of exactly this id.
///
/// # Errors
/// An unknown id, with the nearest known one.
pub fn one_scatter(id: &str) -> Result<force_scatter::Variant> {
    let ids = scatter_ids();
    let unknown = || format!("unknown variant `{id}` of op `{}`{}", force_scatter::OP, meant(id, &ids));
    scatter(id).ok_or_else(|| Failure::input(format!("{}, expected one of {}", unknown(), ids.join(", "))))
}

/// Variants, each kind under its op.
#[derive(Debug)]
pub struct ByOp {
    /// Of `fused_message`.
    pub messages: Vec<Variant>,
    /// Of `cell_list`.
    pub lists: Vec<cell_list::Variant>,
    /// Of `force_scatter`.
    pub scatters: Vec<force_scatter::Variant>,
}

/// The variants that these names stand for and that are of one of these ops, of any where none is given. Names of
/// lists and of force scatters are ids, `messages` says what the others stand for.
///
/// # Errors
/// An unknown op or name, and names of which none is of these ops.
pub fn by_op(ops: &[String], names: &[String], messages: impl Fn(&str) -> Result<Vec<Variant>>) -> Result<ByOp> {
    ops.iter().try_for_each(|name| op(name))?;
    let of = |op: &str| ops.is_empty() || ops.iter().any(|chosen| chosen == op);
    let mut found = ByOp { messages: Vec::new(), lists: Vec::new(), scatters: Vec::new() };
    for name in names {
        if let Some(scatter) = scatter(name) {
            if of(force_scatter::OP) && !found.scatters.contains(&scatter) {
                found.scatters.push(scatter);
            }
            continue;
        }
        match list(name) {
            Some(list) if of(cell_list::OP) && !found.lists.contains(&list) => found.lists.push(list),
            Some(_) => {}
            None => {
                let known = messages(name).map_err(|error| unknown(name, &of, error))?;
                for variant in known.into_iter().filter(|_| of(fused_message::OP)) {
                    if !found.messages.contains(&variant) {
                        found.messages.push(variant);
                    }
                }
            }
        }
    }
    if found.messages.is_empty() && found.lists.is_empty() && found.scatters.is_empty() {
        let (names, ops) = (names.join(", "), ops.join(", "));
        return Err(Failure::input(format!("none of the variants {names} is of op {ops}")));
    }
    Ok(found)
}

/// What is said of a name that is of no op: what the op of the nearest known one says, `message` being what `fused_message` does.
fn unknown(name: &str, of: &impl Fn(&str) -> bool, message: Failure) -> Failure {
    let others: Vec<&str> = [(cell_list::OP, list_ids()), (force_scatter::OP, scatter_ids())]
        .into_iter()
        .flat_map(|(op, ids)| ids.into_iter().filter(|_| of(op)).collect::<Vec<_>>())
        .collect();
    let messages = registered().iter().map(|registered| registered.id).filter(|_| of(fused_message::OP));
    let near = nearest(name, others.iter().copied().chain(messages)).is_some_and(|near| others.contains(&near));
    if of(fused_message::OP) && !near {
        return message;
    }
    Failure::input(format!("unknown variant `{name}`{}, expected one of {}", meant(name, &others), others.join(", ")))
}

fn list_ids() -> Vec<&'static str> {
    ff_kernels::cell_list::registered().iter().map(|registered| registered.id).collect()
}

fn scatter_ids() -> Vec<&'static str> {
    ff_kernels::force_scatter::registered().iter().map(|registered| registered.id).collect()
}

/// The id of every variant that was rendered, of all ops.
pub fn ids() -> Vec<String> {
    let messages = registered().iter().map(|registered| registered.id);
    list_ids().into_iter().chain(scatter_ids()).chain(messages).map(str::to_owned).collect()
}

/// Every message that was rendered.
pub fn all() -> Vec<Variant> {
    registered().iter().map(|r| r.variant()).collect()
}

/// The variant of exactly this id.
///
/// # Errors
/// An unknown id, with what is wrong about it and the nearest known one.
pub fn one(id: &str) -> Result<Variant> {
    let parsed = id.parse::<Variant>();
    if let Ok(variant) = &parsed {
        if let Some(registered) = find(variant) {
            return Ok(registered.variant());
        }
        if let Some((basis, cutoff)) = &variant.radial {
            for (name, kind) in [(basis, RadialKind::Basis), (cutoff, RadialKind::Cutoff)] {
                if let Err(error) = radial::find(name, kind) {
                    return Err(Failure::input(format!("variant `{id}`: {error}")));
                }
            }
        }
    }
    let hint = meant(id, &registered().iter().map(|registered| registered.id).collect::<Vec<_>>());
    Err(Failure::input(match parsed {
        Ok(_) => format!("variant `{id}` was not rendered{hint}; `forgefield ops` lists those that were"),
        Err(error) => format!("{error}{hint}; `forgefield ops` lists all"),
    }))
}

/// The variants of an id or of a family (`painn_linear_receiver`: any radial functions).
///
/// # Errors
/// As [`one`].
pub fn matching(name: &str) -> Result<Vec<Variant>> {
    let of_family: Vec<Variant> = all().into_iter().filter(|v| v.family() == name).collect();
    if of_family.is_empty() { Ok(vec![one(name)?]) } else { Ok(of_family) }
}

/// The variant that stands for an id or a family when something is timed: tables do not tell radial functions apart.
///
/// # Errors
/// As [`one`].
pub fn representative(name: &str) -> Result<Variant> {
    let of_family = matching(name)?;
    let usual = |v: &&Variant| v.radial.as_ref().is_some_and(|(b, c)| b == "gaussian" && c == "cosine");
    let chosen = of_family.iter().find(usual).or(of_family.first()).cloned();
    chosen.ok_or_else(|| Failure::input(format!("no variant `{name}`")))
}

/// `, did you mean …?` where a known name is near.
pub fn meant(found: &str, known: &[&str]) -> String {
    nearest(found, known.iter().copied()).map(|n| format!(", did you mean `{n}`?")).unwrap_or_default()
}
