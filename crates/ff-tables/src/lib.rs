//! Tuning tables: what was measured on a device, what may be used on it, and which entry a call gets.
//!
//! A table lives at `autotune/tables/<device-slug>/<op>.json` and is replaced as a whole ([`Table::save`]), so a reader
//! sees the old table or the new one and never a part. Its entries are keyed by [`ff_spec::TuneKey`]; [`select`] walks
//! exact device → same architecture → default.
//!
//! An [`Entry`] holds a [`Pass`], and a `Pass` exists only where measured errors lie within [`gate_tolerance`]. It names the
//! configuration, the kernel and the device that it is of, and a digest of the whole entry is checked on every read: neither a
//! program nor an edited file can put a configuration into a table that the numerical gate has not seen. An entry that is
//! refused does not cost the others: a call that would have taken it takes the default.

pub mod cell_list;
mod entry;
pub mod fs;
mod pass;
mod read;
mod select;
mod table;

pub use entry::{Entry, EntryError, EntryFields, Tie};
pub use pass::{Evidence, Pass, PassError, PassOf, gate_tolerance};
pub use read::{Loaded, TableError, load_all, nearest};
pub use select::{LEAST_GAIN, MAX_OCTAVES, Query, Selection, Step, select};
pub use table::{Finding, MergeError, MergeReport, TABLE_SCHEMA, Table, Versions};
