//! What the workspace's own tests share: which runtimes they run on.

use ff_spec::Runtime;

/// Every runtime of this machine; prints which compiled ones are missing and why, so that no run is silently narrower.
pub fn runtimes() -> Vec<Box<dyn Runtime>> {
    ff_kernels::available()
        .into_iter()
        .filter_map(|(kind, runtime)| match runtime {
            Ok(runtime) => Some(runtime),
            Err(error) => {
                println!("not tested on {kind}: {error}");
                None
            }
        })
        .collect()
}

/// A chapter of the guide, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../../docs/burn.md")]
pub struct BurnChapter;

/// The same, of the oracle alone.
#[cfg(doctest)]
#[doc = include_str!("../../docs/write-an-op.md")]
pub struct OpChapter;
