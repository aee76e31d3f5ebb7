//! What was measured, as a reader sees it: one self-contained page, and static figures.
//!
//! [`Report::new`] makes one document of records, tables, benches and the gate's results; [`page`] puts it into a page that
//! needs nothing beside itself, and [`svg`] draws one figure of it. Everything that is counted or compared is counted here,
//! once: the page's script only draws. Data in, text out: this crate reads no file and prints nothing.

mod bench;
mod figures;
mod gate;
mod page;
mod parity;
mod report;
mod roofline;
mod search;
mod series;
mod speedup;

pub use bench::{Bench, BenchError};
pub use figures::{Figure, FigureError, svg};
pub use gate::{Checked, Passed, PassedFamily};
pub use page::{ECHARTS, ECHARTS_VERSION, page};
pub use parity::{Parity, parity};
pub use report::{Device, Environment, Report, Sources, Subject, family, names};
pub use roofline::{Peak, Point, Roof};
pub use search::{Cell, Config, Map, Search, Step};
pub use series::{Panel, Series, series};
pub use speedup::{Basis, Over, Speedup};
