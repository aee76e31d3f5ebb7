//! What one search tries, and in which order.

use std::collections::VecDeque;

use ff_spec::LaunchConfig;

use crate::points::Points;
use crate::strategy::Strategy;

/// The configurations that a strategy asks for, within what the budget leaves.
pub(crate) struct Trials {
    points: Points,
    strategy: Box<dyn Strategy>,
    default: LaunchConfig,
    /// Before anything that the strategy asks for.
    first: Option<LaunchConfig>,
    /// The point of the first, which the strategy may ask for too.
    handed: Option<usize>,
    /// Asked for and not yet handed out.
    asked: VecDeque<usize>,
    /// How many may still be handed out.
    left: usize,
}

impl Trials {
    /// At most `most` of the points, `first` before all others. The default is tried beside them and never handed out.
    pub(crate) fn new(
        points: Points,
        strategy: Box<dyn Strategy>,
        first: Option<LaunchConfig>,
        default: LaunchConfig,
        most: usize,
    ) -> Self {
        let first = first.filter(|config| *config != default);
        let among = |config: &LaunchConfig| points.position(config).is_some();
        let besides = usize::from(first.as_ref().is_some_and(|config| !among(config)));
        let left = most.min(points.len() - usize::from(among(&default)) + besides);
        Self { points, strategy, default, first, handed: None, asked: VecDeque::new(), left }
    }

    /// How many are left to be tried.
    pub(crate) fn left(&self) -> usize {
        self.left
    }

    /// The next of a batch in which there is room for `room`. None where all was tried, and where the strategy has to be
    /// told about the batch first.
    pub(crate) fn next(&mut self, room: usize) -> Option<LaunchConfig> {
        if self.left == 0 {
            return None;
        }
        let config = match self.first.take() {
            Some(first) => {
                self.handed = self.points.position(&first);
                first
            }
            None => loop {
                if self.asked.is_empty() {
                    self.asked.extend(self.strategy.ask(&self.points, room.min(self.left)));
                }
                let point = self.asked.pop_front()?;
                let config = self.points.config(point);
                if self.handed != Some(point) && config != self.default {
                    break config;
                }
            },
        };
        self.left -= 1;
        Some(config)
    }

    /// What a configuration came to, also one that was not handed out.
    pub(crate) fn tell(&mut self, config: &LaunchConfig, time_ns: Option<f64>) {
        if let Some(point) = self.points.position(config) {
            self.strategy.tell(&self.points, point, time_ns);
        }
    }
}
