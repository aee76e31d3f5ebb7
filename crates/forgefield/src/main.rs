//! `forgefield`: sole owner of arguments, colour, progress, exit codes and stdout.

mod code;
mod commands;
mod estimate;
mod failure;
mod inspect;
mod interrupt;
mod machine;
mod models;
mod ops;
mod options;
mod passes;
mod provenance;
mod runtimes;
mod screen;
mod tensors;
mod workload;

#[cfg(test)]
#[path = "../build/sources.rs"]
mod sources;

use std::process::ExitCode;

use screen::Screen;

fn main() -> ExitCode {
    let options = options::parse();
    let screen = Screen::new(options.is_quiet(), options.prints_json());
    match commands::run(&options, &screen) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            screen.error(&failure);
            ExitCode::from(failure.code)
        }
    }
}
