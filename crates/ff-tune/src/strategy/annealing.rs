//! Simulated annealing.

use rand::Rng;
use rand::seq::IndexedRandom;

use super::{Known, Strategy};
use crate::points::Points;

/// The temperature at a start, in the logarithm of a time: a step that costs a factor of 1.35 is taken in one of e cases.
const HOT: f64 = 0.3;
/// Below it the walk goes downhill alone, and one that finds nothing more starts anew.
const COLD: f64 = 0.005;
/// What each told point leaves of the temperature: cold after about 60.
const COOLING: f64 = 0.935;
/// Steps over known points before a new start, so that a walk in circles ends.
const WANDER: usize = 64;

/// A walk over neighbours, which differ in one parameter. A slower one is gone to with probability exp(−Δ ln t / T).
pub(super) struct Annealing {
    known: Known,
    here: Option<usize>,
    temperature: f64,
    /// What was asked for, in order.
    asked: Vec<usize>,
}

impl Annealing {
    pub(super) fn new(known: Known) -> Self {
        Self { known, here: None, temperature: HOT, asked: Vec::new() }
    }

    /// Goes to a known point, or not.
    fn consider(&mut self, point: usize) {
        let Some(found) = self.known.time(point) else { return };
        let now = self.here.and_then(|here| self.known.time(here)).unwrap_or(f64::INFINITY);
        // Two failures are alike: any way out of them will do.
        let uphill = if found < now || now.is_infinite() { 0.0 } else { found.ln() - now.ln() };
        if self.known.rng.random::<f64>() < (-uphill / self.temperature).exp() {
            self.here = Some(point);
        }
    }
}

impl Strategy for Annealing {
    fn ask(&mut self, points: &Points, most: usize) -> Vec<usize> {
        if self.known.open > 0 {
            return Vec::new();
        }
        let mut asked = Vec::new();
        for _ in 0..WANDER {
            let Some(here) = self.here else { break };
            let around = points.neighbours(here);
            let unknown: Vec<usize> = around.iter().copied().filter(|p| !self.known.taken[*p]).collect();
            // As likely as a walk that did not know would come to a new one.
            let fresh = self.known.rng.random_range(0..around.len().max(1)) < unknown.len();
            if fresh {
                asked.extend(unknown.choose_multiple(&mut self.known.rng, most).copied());
                asked.iter().for_each(|point| {
                    self.known.take(*point);
                });
                break;
            }
            let Some(known) = around.choose(&mut self.known.rng).copied() else { break };
            self.consider(known);
        }
        if asked.is_empty() {
            // Nowhere to go from here: a new start, hot again.
            (self.here, self.temperature) = (None, HOT);
            asked.extend(self.known.draw());
        }
        self.asked.clone_from(&asked);
        asked
    }

    fn tell(&mut self, _: &Points, point: usize, time: Option<f64>) {
        self.known.tell(point, time);
        self.consider(point);
        self.temperature = (self.temperature * COOLING).max(COLD);
    }
}
