//! The binary as its users see it: arguments in, text, files and exit codes out.

mod bad_input;
mod bench;
mod describe;
mod distill;
mod eval;
mod inspect;
mod md;
mod models;
mod neighbors;
mod report;
#[cfg(unix)]
mod serve;
mod sweep;
mod train;
mod tune;
mod validate;
mod verify;

use std::path::Path;
use std::process::{Command, Output};

/// What a finished process left.
struct Done {
    code: Option<i32>,
    out: String,
    err: String,
}

impl From<Output> for Done {
    fn from(output: Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
    }
}

impl Done {
    /// Expects an exit code and, for errors, one line on stderr that says all of `words`.
    #[track_caller]
    fn expect(self, code: i32, words: &[&str]) -> Self {
        assert_eq!(self.code, Some(code), "stdout: {}\nstderr: {}", self.out, self.err);
        for word in words {
            assert!(self.out.contains(word) || self.err.contains(word), "no `{word}` in {}\n{}", self.out, self.err);
        }
        if code != 0 {
            let lines: Vec<&str> = self.err.lines().filter(|line| line.starts_with("error: ")).collect();
            assert_eq!(lines.len(), 1, "one error line, found: {}", self.err);
            assert!(!self.err.contains("panicked"), "{}", self.err);
        }
        self
    }

    /// Stdout as JSON.
    #[track_caller]
    fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {}", self.out))
    }
}

/// The binary, to be run in a folder.
fn forgefield(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forgefield"));
    command.current_dir(dir).env_remove("XDG_RUNTIME_DIR");
    command
}

/// Runs the binary on words that are separated by spaces.
fn run(dir: &Path, words: &str) -> Done {
    forgefield(dir).args(words.split_whitespace()).output().expect("the binary starts").into()
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}
