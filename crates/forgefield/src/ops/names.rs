//! From what a user types to ops and to variants that were rendered.

use ff_spec::OPS;
use ff_tables::nearest;

use super::{ALL, AnyOp};
use crate::failure::{Failure, Result};

/// An op of at most so many variants names all of them to whoever asks for another one.
const FEW: usize = 16;

/// The op of a name.
///
/// # Errors
/// An unknown name, with the nearest known one.
pub fn find(name: &str) -> Result<&'static dyn AnyOp> {
    let unknown =
        || Failure::input(format!("unknown op `{name}`{}, expected one of {}", meant(name, OPS), OPS.join(", ")));
    ALL.into_iter().find(|op| op.name() == name).ok_or_else(unknown)
}

/// What stands for a variant of each op where none is named: the op and words.
pub fn usual() -> String {
    let said = ALL.into_iter().filter_map(|op| Some(format!("for {}: {}", op.name(), op.usual()?)));
    said.collect::<Vec<_>>().join("; ")
}

/// The tensors of every op whose calls are read from files, as help.
pub fn tensors() -> String {
    ALL.into_iter().filter_map(|op| op.tensors()).collect::<Vec<_>>().join("\n\n")
}

/// Variants of an op, of which there is one at least.
#[derive(Clone)]
pub struct Chosen {
    /// The op.
    pub op: &'static dyn AnyOp,
    /// Their ids, each once.
    pub ids: Vec<&'static str>,
}

/// The variants that these names stand for and that are of one of these ops, of any where none is given; ops in the order of
/// [`ALL`]. `stands_for` says what a name stands for in an op.
///
/// # Errors
/// An unknown op or name, and names of which none is of these ops.
pub fn chosen<S: AsRef<str>>(
    ops: &[String],
    names: &[S],
    stands_for: impl Fn(&'static dyn AnyOp, &str) -> Result<Vec<&'static str>>,
) -> Result<Vec<Chosen>> {
    ops.iter().try_for_each(|name| find(name).map(|_| ()))?;
    let of = |op: &dyn AnyOp| ops.is_empty() || ops.iter().any(|chosen| chosen == op.name());
    let mut found = ALL.map(|op| Chosen { op, ids: Vec::new() });
    for name in names.iter().map(AsRef::as_ref) {
        let known = found.iter_mut().find_map(|chosen| Some((stands_for(chosen.op, name).ok()?, chosen)));
        let Some((ids, chosen)) = known else { return Err(unknown(name, of, &stands_for)) };
        if of(chosen.op) {
            let new: Vec<&str> = ids.into_iter().filter(|id| !chosen.ids.contains(id)).collect();
            chosen.ids.extend(new);
        }
    }
    let found: Vec<Chosen> = found.into_iter().filter(|chosen| !chosen.ids.is_empty()).collect();
    if found.is_empty() {
        let names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
        return Err(Failure::input(format!("none of the variants {} is of op {}", names.join(", "), ops.join(", "))));
    }
    Ok(found)
}

/// What is said of a name that is of no op: what the op of the nearest known one says, else the op of most variants.
fn unknown(
    name: &str,
    of: impl Fn(&dyn AnyOp) -> bool,
    stands_for: impl Fn(&'static dyn AnyOp, &str) -> Result<Vec<&'static str>>,
) -> Failure {
    let asked: Vec<(&dyn AnyOp, Vec<&str>)> = ALL.into_iter().filter(|op| of(*op)).map(|op| (op, op.ids())).collect();
    let near = nearest(name, asked.iter().flat_map(|(_, ids)| ids.iter().copied()));
    let owner = asked.iter().find(|(_, ids)| near.is_some_and(|near| ids.contains(&near)));
    let owner = owner.or_else(|| asked.iter().max_by_key(|(_, ids)| ids.len()));
    match owner {
        Some((op, ids)) if ids.len() > FEW => stands_for(*op, name).err(),
        _ => None,
    }
    .unwrap_or_else(|| {
        let few: Vec<&str> =
            asked.iter().filter(|(_, ids)| ids.len() <= FEW).flat_map(|(_, ids)| ids.iter().copied()).collect();
        Failure::input(format!("unknown variant `{name}`{}, expected one of {}", meant(name, &few), few.join(", ")))
    })
}

/// The op and the id of the one variant that a name stands for when something is timed.
///
/// # Errors
/// As [`chosen`].
pub fn of_variant(name: &str) -> Result<(&'static dyn AnyOp, &'static str)> {
    let found = chosen(&[], &[name], |op, name| Ok(vec![op.representative(name)?]))?;
    let first = found.first().and_then(|chosen| Some((chosen.op, *chosen.ids.first()?)));
    first.ok_or_else(|| Failure::input(format!("no variant `{name}`")))
}

/// The id of every variant that was rendered, of all ops.
pub fn ids() -> Vec<&'static str> {
    ALL.into_iter().flat_map(|op| op.ids()).collect()
}

/// `, did you mean …?` where a known name is near.
pub fn meant(found: &str, known: &[&str]) -> String {
    nearest(found, known.iter().copied()).map(|n| format!(", did you mean `{n}`?")).unwrap_or_default()
}
