//! Models in the element type that was asked for, and where they run.

use std::process;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use ff_model::config::ConfigError;
use ff_model::{HostModel, Model, ModelError, Prediction, Wanted};
use ff_spec::Dtype;
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
    /// Packs a model.
    ///
    /// # Errors
    /// [`ConfigError`] where it has no kernels.
    pub fn new(model: &Model, dtype: Dtype) -> Result<Self, ConfigError> {
        Ok(match dtype {
            Dtype::F64 => Self::F64(HostModel::new(model)?),
            _ => Self::F32(HostModel::new(model)?),
        })
    }

    /// The element type.
    pub fn dtype(&self) -> Dtype {
        match self {
            Self::F32(_) => Dtype::F32,
            Self::F64(_) => Dtype::F64,
        }
    }

    /// What the model says of structures: the one call by which Python computes anything.
    ///
    /// # Errors
    /// [`ModelError`].
    pub fn predict(&self, structures: &[Structure], wanted: Wanted) -> Result<Vec<Prediction>, ModelError> {
        on_threads(|| match self {
            Self::F32(model) => model.predict(structures, wanted),
            Self::F64(model) => model.predict(structures, wanted),
        })
    }
}

/// The process that threads were started in.
static PROCESS: OnceLock<u32> = OnceLock::new();

/// Notes the process; the first call counts.
pub fn started() {
    PROCESS.get_or_init(process::id);
}

/// Runs something on rayon's threads. `fork`, by which Python's `multiprocessing` may make workers, copies no threads: a forked
/// process has threads of its own, or it would wait for ever.
fn on_threads<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    static FORKED: Mutex<Option<(u32, Arc<ThreadPool>)>> = Mutex::new(None);
    let process = process::id();
    if PROCESS.get().is_none_or(|started| *started == process) {
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
