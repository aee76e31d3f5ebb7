//! The numerical gate as the tuner sees it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use ff_spec::{Dtype, Launch, LaunchConfig, LaunchError, Op, Prepare};
use ff_tables::Evidence;

use crate::workbench::Failure;

/// The numerical gate. What passes here has its errors judged again by [`ff_tables::Pass::record`].
pub trait Verifier<O: Op> {
    /// Announces the problem that [`Verifier::recheck`] will be asked about: time to compute a reference, once.
    ///
    /// # Errors
    /// Why there can be no reference; the problem is then skipped.
    fn begin(&mut self, variant: &O::Variant, dtype: Dtype, inputs: &O::Inputs) -> Result<(), String>;

    /// Gates a configuration on the catalogue's cases, with at least three seeds.
    ///
    /// # Errors
    /// [`Failure`].
    fn check(
        &mut self,
        runtime: &dyn Prepare<O>,
        variant: &O::Variant,
        dtype: Dtype,
        config: &LaunchConfig,
    ) -> Result<Evidence, Failure>;

    /// Gates a prepared launch on the problem itself: poisons the outputs, runs, compares, and makes sure that the inputs
    /// are what they were. It is asked before and after timing.
    ///
    /// # Errors
    /// [`Failure`].
    fn recheck(&mut self, launch: &mut dyn Launch<O>) -> Result<Evidence, Failure>;
}

/// Runs something of a kernel; a panic of the driver's bindings is a fault of that kernel and not the end of the run.
///
/// # Errors
/// As `action`, and [`LaunchError::Runtime`] for a panic.
pub fn guarded<T, E: From<LaunchError>>(action: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    catch_unwind(AssertUnwindSafe(action)).unwrap_or_else(|panic| {
        let message = panic.downcast_ref::<String>().map(String::as_str);
        let message = message.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
        Err(LaunchError::Runtime(format!("panic: {message}")).into())
    })
}
