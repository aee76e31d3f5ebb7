//! Strategies that learn nothing: an order that stands from the beginning.

use super::{Known, Strategy};
use crate::points::Points;

/// All points in a given order.
pub(super) struct Ordered {
    known: Known,
}

impl Ordered {
    /// In a random order.
    pub(super) fn shuffled(known: Known) -> Self {
        Self { known }
    }

    /// By ascending estimate; those without one come last, in a random order, as do equals among themselves.
    pub(super) fn by_cost(mut known: Known, costs: &[Option<f64>]) -> Self {
        let cost = |point: &u32| costs.get(*point as usize).copied().flatten().unwrap_or(f64::INFINITY);
        known.order.sort_by(|a, b| cost(a).total_cmp(&cost(b)));
        Self { known }
    }
}

impl Strategy for Ordered {
    fn ask(&mut self, _: &Points, most: usize) -> Vec<usize> {
        std::iter::from_fn(|| self.known.draw()).take(most).collect()
    }

    fn tell(&mut self, _: &Points, point: usize, time: Option<f64>) {
        self.known.tell(point, time);
    }
}
