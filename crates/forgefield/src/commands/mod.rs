//! One module per command: what it is asked for in its `args`, and its `run`.

pub mod bench;
pub mod convert;
pub mod devices;
pub mod distill;
pub mod eval;
pub mod export;
pub mod inspect;
pub mod md;
pub mod minimize;
pub mod neighbors;
pub mod notebook;
pub mod ops;
pub mod predict;
pub mod profile;
pub mod report;
pub mod serve;
pub mod sweep;
pub mod tables;
pub mod train;
pub mod tune;
pub mod validate;
pub mod verify;

use crate::failure::Result;
use crate::options::{Command, Options, SHORT_HELP};
use crate::screen::Screen;

/// Does what the command line asks for.
///
/// # Errors
/// What ends the program with another code than 0.
pub fn run(options: &Options, screen: &Screen) -> Result<()> {
    match &options.command {
        None => screen.line(SHORT_HELP),
        Some(Command::Devices(args)) => devices::run(args, screen),
        Some(Command::Ops(args)) => ops::run(args, screen),
        Some(Command::Predict(args)) => predict::run(args, screen),
        Some(Command::Md(args)) => md::run(args, screen),
        Some(Command::Minimize(args)) => minimize::run(args, screen),
        Some(Command::Validate(args)) => validate::run(args, screen),
        Some(Command::Distill(args)) => distill::run(args, screen),
        Some(Command::Serve(args)) => serve::run(args, screen),
        Some(Command::Profile(args)) => profile::run(args, screen),
        Some(Command::Train(args)) => train::run(args, screen),
        Some(Command::Convert(args)) => convert::run(args, screen),
        Some(Command::Verify(args)) => verify::run(args, screen),
        Some(Command::Eval(args)) => eval::run(args, screen),
        Some(Command::Inspect(args)) => inspect::run(args, screen),
        Some(Command::Tune(args)) => tune::run(args, screen),
        Some(Command::Bench(args)) => bench::run(args, screen),
        Some(Command::Neighbors(args)) => neighbors::run(args, screen),
        Some(Command::Tables(args)) => tables::run(args, screen),
        Some(Command::Export(args)) => export::run(args, screen),
        Some(Command::Sweep(args)) => sweep::run(args, screen),
        Some(Command::Notebook(args)) => notebook::run(args, screen),
        Some(Command::Report(args)) => report::run(args, screen),
    }
}
