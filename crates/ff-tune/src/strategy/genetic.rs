//! A genetic algorithm.

use rand::Rng;

use super::{Known, Strategy};
use crate::points::Points;

/// Points that breed.
const POPULATION: usize = 16;
/// Of which the best of so many becomes a parent.
const TOURNAMENT: usize = 3;
/// Attempts at a child that is a point and not known, before one is drawn at random.
const ATTEMPTS: usize = 24;

/// The best points known so far cross over, parameter by parameter, and mutate in one parameter on average.
pub(super) struct Genetic {
    known: Known,
    /// By time, the best first.
    population: Vec<(f64, usize)>,
}

impl Genetic {
    pub(super) fn new(known: Known) -> Self {
        Self { known, population: Vec::new() }
    }

    fn parent(&mut self) -> usize {
        let count = self.population.len();
        let drawn = (0..TOURNAMENT).map(|_| self.known.rng.random_range(0..count));
        // The population is sorted.
        self.population[drawn.min().unwrap_or(0)].1
    }

    fn child(&mut self, points: &Points) -> Option<usize> {
        let widths: Vec<usize> = points.widths().collect();
        for _ in 0..ATTEMPTS {
            let [one, other] = [self.parent(), self.parent()].map(|parent| points.levels_of(parent));
            let mut levels = one;
            for (axis, width) in widths.iter().enumerate() {
                if self.known.rng.random() {
                    levels[axis] = other[axis];
                }
                if self.known.rng.random_range(0..widths.len()) == 0 {
                    levels[axis] = self.known.rng.random_range(0..*width);
                }
            }
            if let Some(child) = points.at(&levels).filter(|child| self.known.take(*child)) {
                return Some(child);
            }
        }
        None
    }
}

impl Strategy for Genetic {
    fn ask(&mut self, points: &Points, most: usize) -> Vec<usize> {
        let mut asked = Vec::new();
        // A generation is asked for at once, whatever of the last one is still open.
        while asked.len() < most {
            let grown = self.population.len() + self.known.open >= POPULATION;
            if grown && self.population.is_empty() {
                break;
            }
            let child = if grown { self.child(points) } else { None };
            let Some(point) = child.or_else(|| self.known.draw()) else { break };
            asked.push(point);
        }
        asked
    }

    fn tell(&mut self, _: &Points, point: usize, time: Option<f64>) {
        self.known.tell(point, time);
        let Some(time) = time else { return };
        let place = self.population.partition_point(|(other, _)| *other <= time);
        self.population.insert(place, (time, point));
        self.population.truncate(POPULATION);
    }
}
