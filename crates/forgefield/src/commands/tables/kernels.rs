//! Whether the entries of a table are of the kernels of this binary.

use std::collections::BTreeSet;
use std::path::Path;

use ff_spec::kernel_name;
use ff_tables::{Entry, Table};

use super::args::RenewArgs;
use crate::code::Code;
use crate::failure::{Failure, Result};
use crate::provenance;
use crate::screen::Screen;

/// Which entries were timed with kernels that have changed since; `None` where none were. Nothing is emitted for that.
pub(super) fn changed(table: &Table) -> Option<String> {
    let runtime = table.device.runtime;
    let now = |entry: &Entry| Code::built_in(&table.op, &entry.variant, entry.key.order, runtime).hash();
    let changed: Vec<&Entry> = table.entries().iter().filter(|e| now(e) != e.pass.kernel_hash()).collect();
    if changed.is_empty() {
        return None;
    }
    let names: BTreeSet<String> = changed.iter().map(|e| kernel_name(&e.variant, e.key.order)).collect();
    let (names, of) = (names.into_iter().collect::<Vec<_>>().join(", "), table.entries().len());
    Some(format!("{} of {of} entries were timed with kernels that changed since: {names}", changed.len()))
}

/// Gives tables the hash of this binary's templates where the code of their entries is that of this binary.
pub(super) fn renew(args: &RenewArgs, screen: &Screen) -> Result<()> {
    // All or nothing: whatever cannot be read or emitted is found before anything is written.
    let renewed = args.files.iter().map(|path| renewed(path)).collect::<Result<Vec<_>>>()?;
    for (path, renewed) in args.files.iter().zip(renewed) {
        let Renewed { table, left_out, was_current } = renewed;
        let kept = table.entries().len();
        if was_current {
            screen.line(format!("{}: of this binary's templates already", path.display()))?;
        } else if kept == 0 {
            screen.line(format!("{}: left as it is, every entry is of another kernel", path.display()))?;
        } else {
            table.save(path).map_err(Failure::fault)?;
            screen.line(format!("{}: {kept} entries of the same kernels are used again", path.display()))?;
            left_out.iter().try_for_each(|name| screen.line(format!("  left out, of another kernel: {name}")))?;
        }
    }
    Ok(())
}

struct Renewed {
    table: Table,
    left_out: Vec<String>,
    was_current: bool,
}

fn renewed(path: &Path) -> Result<Renewed> {
    let mut table = Table::load(path).map_err(Failure::input)?;
    let hash = provenance::template_hash(&table.op);
    if hash.is_empty() {
        return Err(Failure::input(format!("{}: op `{}` does not exist", path.display(), table.op)));
    }
    let was_current = table.template_hash == hash;
    let (op, runtime, mut left_out) = (table.op.clone(), table.device.runtime, Vec::new());
    table.retain(|entry| {
        let same = was_current
            || provenance::kernel_hash(&op, &entry.variant, entry.key.order, runtime) == entry.pass.kernel_hash();
        if !same {
            left_out.push(entry.key.to_string());
        }
        same
    });
    table.template_hash = hash.to_owned();
    Ok(Renewed { table, left_out, was_current })
}
