//! Parts of a batch in threads of their own.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};

/// Threads that each compute one part at a time.
///
/// Each is a pool of its own, so that what runs in it finds one thread: it has the same bits whichever thread runs it and however
/// many there are.
pub struct Workers {
    pools: Vec<ThreadPool>,
}

impl Workers {
    /// So many threads, one at least.
    ///
    /// # Errors
    /// Where the system has no more of them.
    pub fn new(threads: usize) -> Result<Self, ThreadPoolBuildError> {
        let pool = |_| ThreadPoolBuilder::new().num_threads(1).build();
        Ok(Self { pools: (0..threads.max(1)).map(pool).collect::<Result<_, _>>()? })
    }

    /// What `of` gives of every part from 0 on, in their order.
    pub fn run<T: Send>(&self, parts: usize, of: impl Fn(usize) -> T + Sync) -> Vec<T> {
        let next = AtomicUsize::new(0);
        let done: Mutex<Vec<Option<T>>> = Mutex::new((0..parts).map(|_| None).collect());
        let work = || {
            loop {
                let part = next.fetch_add(1, Ordering::Relaxed);
                if part >= parts {
                    break;
                }
                let found = of(part);
                done.lock().unwrap_or_else(PoisonError::into_inner)[part] = Some(found);
            }
        };
        std::thread::scope(|scope| {
            for pool in &self.pools[..self.pools.len().min(parts)] {
                scope.spawn(|| pool.install(work));
            }
        });
        let done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
        done.into_iter().map(|part| part.expect("a thread that panics ends the scope")).collect()
    }
}
