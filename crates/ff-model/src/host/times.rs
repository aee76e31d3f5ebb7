//! What the parts of an evaluation take.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A part of an evaluation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// Neighbour lists and edge vectors.
    Neighbors,
    /// Features of the elements.
    Embedding,
    /// Dense layers before a message.
    Context,
    /// Messages.
    Message,
    /// What follows a message, to the features of the next.
    Update,
    /// The head, and its backward where forces are wanted.
    Readout,
    /// Backward of an update.
    UpdateBackward,
    /// Backward of messages.
    MessageBackward,
    /// Backward of dense layers before a message.
    ContextBackward,
    /// Edge gradients to forces and strain.
    Forces,
}

impl Part {
    /// All parts in the order in which they run.
    pub const ALL: [Self; 10] = [
        Self::Neighbors,
        Self::Embedding,
        Self::Context,
        Self::Message,
        Self::Update,
        Self::Readout,
        Self::UpdateBackward,
        Self::MessageBackward,
        Self::ContextBackward,
        Self::Forces,
    ];

    /// Its name in profiles.
    pub fn name(self) -> &'static str {
        match self {
            Self::Neighbors => "neighbors",
            Self::Embedding => "embedding",
            Self::Context => "context",
            Self::Message => "message",
            Self::Update => "update",
            Self::Readout => "readout",
            Self::UpdateBackward => "update backward",
            Self::MessageBackward => "message backward",
            Self::ContextBackward => "context backward",
            Self::Forces => "forces",
        }
    }
}

/// Time per part and layer, of all threads together: a part on which all threads work for 1 ms takes as many ms as there are
/// threads.
#[derive(Debug)]
pub struct Times {
    /// [layers, parts] in ns; empty where nothing is timed.
    nanoseconds: Vec<AtomicU64>,
}

impl Times {
    /// Of nothing: no clock is read.
    pub fn off() -> Self {
        Self { nanoseconds: Vec::new() }
    }

    /// Of a model with so many layers.
    pub fn of_layers(layers: usize) -> Self {
        Self { nanoseconds: (0..layers * Part::ALL.len()).map(|_| AtomicU64::new(0)).collect() }
    }

    /// What a part of a layer took, summed over threads and calls.
    pub fn of(&self, part: Part, layer: usize) -> Duration {
        let slot = self.nanoseconds.get(layer * Part::ALL.len() + part as usize);
        Duration::from_nanos(slot.map_or(0, |slot| slot.load(Ordering::Relaxed)))
    }

    /// Times work of one thread.
    #[inline]
    pub(super) fn part<R>(&self, part: Part, layer: usize, run: impl FnOnce() -> R) -> R {
        self.weighed(part, layer, 1, run)
    }

    /// Times work that so many threads share or wait for.
    pub(super) fn whole<R>(&self, part: Part, layer: usize, threads: usize, run: impl FnOnce() -> R) -> R {
        self.weighed(part, layer, threads as u64, run)
    }

    #[inline]
    fn weighed<R>(&self, part: Part, layer: usize, weight: u64, run: impl FnOnce() -> R) -> R {
        let Some(slot) = self.nanoseconds.get(layer * Part::ALL.len() + part as usize) else { return run() };
        let start = Instant::now();
        let result = run();
        slot.fetch_add(weight * start.elapsed().as_nanos() as u64, Ordering::Relaxed);
        result
    }
}
