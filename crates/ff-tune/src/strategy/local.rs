//! Local search with restarts.

use rand::seq::SliceRandom;

use super::{Known, Strategy};
use crate::points::Points;

/// Goes to the best neighbour that is known to be better; asks for neighbours that are not known; where none is better,
/// starts anew at a random point. A neighbour differs in one parameter, by any number of values.
pub(super) struct Local {
    known: Known,
    /// Where the descent stands; `None` before a start.
    here: Option<usize>,
    /// Neighbours of it, in a random order.
    around: Vec<usize>,
    /// Starts that were asked for.
    starts: Vec<usize>,
}

impl Local {
    pub(super) fn new(known: Known) -> Self {
        Self { known, here: None, around: Vec::new(), starts: Vec::new() }
    }

    fn go(&mut self, points: &Points, here: usize) {
        self.here = Some(here);
        self.around = points.neighbours(here);
        self.around.shuffle(&mut self.known.rng);
    }

    /// Walks downhill as far as what is known leads.
    fn descend(&mut self, points: &Points) {
        if self.here.is_none() {
            let starts = self.starts.iter().copied();
            let best = starts.filter_map(|p| Some((self.known.time(p)?, p))).min_by(|a, b| a.0.total_cmp(&b.0));
            if let Some((_, start)) = best {
                self.starts.clear();
                self.go(points, start);
            }
        }
        while let Some(here) = self.here {
            let time = self.known.time(here).unwrap_or(f64::INFINITY);
            let near = self.around.iter().copied();
            let best = near.filter_map(|p| Some((self.known.time(p)?, p))).min_by(|a, b| a.0.total_cmp(&b.0));
            match best.filter(|(found, _)| *found < time) {
                Some((_, better)) => self.go(points, better),
                None => return,
            }
        }
    }
}

impl Strategy for Local {
    fn ask(&mut self, points: &Points, most: usize) -> Vec<usize> {
        if self.known.open > 0 {
            return Vec::new();
        }
        self.descend(points);
        let mut asked = Vec::new();
        if self.here.is_some() {
            for point in &self.around {
                if asked.len() < most && self.known.take(*point) {
                    asked.push(*point);
                }
            }
        }
        if asked.is_empty() {
            self.here = None;
            asked.extend(std::iter::from_fn(|| self.known.draw()).take(most));
            self.starts.clone_from(&asked);
        }
        asked
    }

    fn tell(&mut self, points: &Points, point: usize, time: Option<f64>) {
        self.known.tell(point, time);
        // What was told before the first question is as good a start as any.
        if self.here.is_none() && !self.starts.contains(&point) {
            self.starts.push(point);
        }
        if self.known.open == 0 {
            self.descend(points);
        }
    }
}
