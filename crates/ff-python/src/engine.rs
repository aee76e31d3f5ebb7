//! Models in the element type that was asked for, and where they run.

use std::process;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{self, ThreadId};

use ff_model::config::ConfigError;
use ff_model::{Deviation, HostModel, Model, ModelError, Neighbors, Prediction, Wanted};
use ff_spec::{Dtype, Precision};
use ff_structure::Structure;
use rayon::{ThreadPool, ThreadPoolBuilder};

/// A model packed for the host.
pub enum Engine {
    /// In single precision.
    F32(HostModel<f32>),
    /// In double precision.
    F64(HostModel<f64>),
}

impl Engine {
    /// Packs a model; its filters as tables where these may err by so much beside their largest value.
    ///
    /// # Errors
    /// [`ConfigError`] where it has no kernels, no table reaches the tolerance, or a precision stores less than f64 for it.
    pub fn new(model: &Model, dtype: Dtype, tabulate: Option<f64>, precision: Precision) -> Result<Self, ConfigError> {
        Ok(match dtype {
            Dtype::F64 => Self::F64(HostModel::with_precision(model, precision, tabulate)?),
            Dtype::F32 => Self::F32(HostModel::with_precision(model, precision, tabulate)?),
        })
    }

    /// How numbers are stored.
    pub fn precision(&self) -> Precision {
        match self {
            Self::F32(model) => model.precision(),
            Self::F64(model) => model.precision(),
        }
    }

    /// By how much it differs from a reference on structures.
    ///
    /// # Errors
    /// [`ModelError`].
    pub fn deviation(&self, reference: &HostModel<f32>, structures: &[Structure]) -> Result<Deviation, ModelError> {
        on_threads(|| match self {
            Self::F32(model) => model.deviation(reference, structures),
            Self::F64(model) => model.deviation(reference, structures),
        })
    }

    /// How much filters that are tables err beside their largest value.
    pub fn table_error(&self) -> Option<f64> {
        match self {
            Self::F32(model) => model.table_error(),
            Self::F64(model) => model.table_error(),
        }
    }

    /// The element type.
    pub fn dtype(&self) -> Dtype {
        match self {
            Self::F32(_) => Dtype::F32,
            Self::F64(_) => Dtype::F64,
        }
    }

    /// What the model says of structures.
    ///
    /// # Errors
    /// [`ModelError`].
    pub fn predict(&self, structures: &[Structure], wanted: Wanted) -> Result<Vec<Prediction>, ModelError> {
        on_threads(|| match self {
            Self::F32(model) => model.predict(structures, wanted),
            Self::F64(model) => model.predict(structures, wanted),
        })
    }

    /// The same, to the last bit, with neighbour lists that are kept for the next call.
    ///
    /// # Errors
    /// [`ModelError`].
    pub fn predict_with(
        &self,
        structures: &[Structure],
        wanted: Wanted,
        lists: &mut Neighbors,
    ) -> Result<Vec<Prediction>, ModelError> {
        let mut predictions = Vec::new();
        on_threads(|| match self {
            Self::F32(model) => model.predict_with(structures, wanted, lists, &mut predictions),
            Self::F64(model) => model.predict_with(structures, wanted, lists, &mut predictions),
        })?;
        Ok(predictions)
    }
}

/// The process and the thread that imported the module, and a pool that this thread is one of.
static HOME: OnceLock<Home> = OnceLock::new();

struct Home {
    process: u32,
    thread: ThreadId,
    pool: OnceLock<Option<ThreadPool>>,
}

/// Notes process and thread; the first call counts.
pub fn started() {
    HOME.get_or_init(|| Home { process: process::id(), thread: thread::current().id(), pool: OnceLock::new() });
}

/// Runs something on rayon's threads.
///
/// The thread that Python runs in is one of them: to hand a call to another and to wait for it takes 50 µs, more than a small
/// molecule does. Other threads of Python share rayon's own. `fork`, by which `multiprocessing` may make workers, copies no threads: a
/// forked process has threads of its own, or it would wait for ever.
pub fn on_threads<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    static FORKED: Mutex<Option<(u32, Arc<ThreadPool>)>> = Mutex::new(None);
    let process = process::id();
    let Some(home) = HOME.get() else { return work() };
    if home.process == process {
        if home.thread == thread::current().id() {
            home.pool.get_or_init(|| ThreadPoolBuilder::new().use_current_thread().build().ok());
        }
        return work();
    }
    let pool = {
        let mut forked = FORKED.lock().unwrap_or_else(PoisonError::into_inner);
        match &*forked {
            Some((of, pool)) if *of == process => Some(pool.clone()),
            _ => ThreadPoolBuilder::new().build().ok().map(|pool| {
                let pool = Arc::new(pool);
                // The threads of a pool from before the fork are not here to be joined.
                if let Some((_, lost)) = forked.replace((process, pool.clone())) {
                    std::mem::forget(lost);
                }
                pool
            }),
        }
    };
    match pool {
        Some(pool) => pool.install(work),
        None => work(),
    }
}
