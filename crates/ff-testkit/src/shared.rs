//! What lies beside the checkout in `../shared`: files of other programs that are too large, or not ours, to be committed.

use std::env;
use std::path::{Path, PathBuf};

/// A file or folder of `shared`, by its path in there, where there is one. A test without it says aloud that it skips.
///
/// # Panics
/// Where it is absent and `CI` is set: nobody reads what a test of a pipeline says, so one that skips there is none.
pub fn shared(path: &str) -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    match find(&beside, path, env::var_os("CI").is_some_and(|value| !value.is_empty())) {
        Ok(found) => Some(found),
        Err(Absent::Skipped(message)) => {
            println!("{message}");
            None
        }
        Err(Absent::Failed(message)) => panic!("{message}"),
    }
}

/// What is not there, in words.
#[derive(Debug, PartialEq)]
enum Absent {
    /// Nobody promised it.
    Skipped(String),
    /// A pipeline has to bring it.
    Failed(String),
}

fn find(beside: &Path, path: &str, in_ci: bool) -> Result<PathBuf, Absent> {
    let found = beside.join(path);
    match (found.exists(), in_ci) {
        (true, _) => Ok(found),
        (false, true) => {
            Err(Absent::Failed(format!("`CI` is set, expected shared/{path} beside the checkout, found none")))
        }
        (false, false) => {
            Err(Absent::Skipped(format!("SKIPPED: no shared/{path} beside the checkout, nothing compared")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_absent_fails_in_a_pipeline_and_is_skipped_elsewhere() {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        for in_ci in [true, false] {
            assert_eq!(find(here, "src/shared.rs", in_ci), Ok(here.join("src/shared.rs")));
        }
        let Err(Absent::Failed(failed)) = find(here, "no/such", true) else { panic!("a pipeline went on without it") };
        assert!(failed.contains("expected shared/no/such"), "{failed}");
        let Err(Absent::Skipped(skipped)) = find(here, "no/such", false) else { panic!("expected to be skipped") };
        assert!(skipped.starts_with("SKIPPED: no shared/no/such"), "{skipped}");
    }
}
