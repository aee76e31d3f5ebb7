//! Random numbers as a function of seed, replica, step and purpose: a run that goes on needs no state of a generator.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// What numbers are drawn for.
#[derive(Clone, Copy)]
pub enum Purpose {
    /// Velocities at the beginning.
    Velocities = 0,
    /// Noise of Langevin dynamics.
    Langevin = 1,
    /// Rescaling of velocities.
    Thermostat = 2,
    /// Rescaling of the cell.
    Barostat = 3,
}

/// Words of the generator between two steps, in bits: 4·10⁹ words for each of [`MOST_STEPS`].
const WORDS_PER_STEP: u32 = 32;

/// Steps that have random numbers of their own.
pub const MOST_STEPS: u64 = 1 << 36;

/// The numbers of one replica at one step for one purpose.
pub struct Stream {
    rng: ChaCha8Rng,
    spare: Option<f64>,
}

impl Stream {
    /// Stream `256·replica + purpose` of the generator of `seed`, from the words of a step on.
    pub fn new(seed: u64, replica: u64, step: u64, purpose: Purpose) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(replica << 8 | purpose as u64);
        rng.set_word_pos(u128::from(step) << WORDS_PER_STEP);
        Self { rng, spare: None }
    }

    /// Uniform in (0, 1].
    fn uniform(&mut self) -> f64 {
        ((self.rng.next_u64() >> 11) + 1) as f64 * (-53f64).exp2()
    }

    /// A standard normal variate, by Box and Muller: as many words for each, whatever they are.
    pub fn normal(&mut self) -> f64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        let radius = (-2.0 * libm::log(self.uniform())).sqrt();
        let (sin, cos) = libm::sincos(std::f64::consts::TAU * self.uniform());
        self.spare = Some(radius * sin);
        radius * cos
    }

    /// The sum of `n` squares of standard normal variates.
    pub fn chi_square(&mut self, n: usize) -> f64 {
        let pairs: f64 = (0..n / 2).map(|_| -2.0 * libm::log(self.uniform())).sum();
        if n % 2 == 1 { pairs + self.normal().powi(2) } else { pairs }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_functions_of_their_arguments_and_differ() {
        let draw = |seed, replica, step, purpose| {
            let mut stream = Stream::new(seed, replica, step, purpose);
            [stream.normal(), stream.normal(), stream.normal()]
        };
        let first = draw(1, 2, 3, Purpose::Langevin);
        assert_eq!(first, draw(1, 2, 3, Purpose::Langevin));
        for other in [
            draw(2, 2, 3, Purpose::Langevin),
            draw(1, 3, 3, Purpose::Langevin),
            draw(1, 2, 4, Purpose::Langevin),
            draw(1, 2, 3, Purpose::Thermostat),
        ] {
            assert!(first.iter().zip(other).all(|(a, b)| *a != b), "{first:?} {other:?}");
        }
    }

    #[test]
    fn moments_are_those_of_the_distributions() {
        const N: usize = 200_000;
        let mut stream = Stream::new(7, 0, 0, Purpose::Velocities);
        let normals: Vec<f64> = (0..N).map(|_| stream.normal()).collect();
        let moment = |k: i32| normals.iter().map(|x| x.powi(k)).sum::<f64>() / N as f64;
        // Four standard errors: of xᵏ the variance is (2k − 1)!! − E².
        for (k, expected, variance) in [(1, 0.0, 1.0), (2, 1.0, 2.0), (3, 0.0, 15.0), (4, 3.0, 96.0)] {
            let error = 4.0 * f64::sqrt(variance / N as f64);
            assert!((moment(k) - expected).abs() < error, "{k}: {} is not {expected}", moment(k));
        }
        for n in [1, 2, 5] {
            let draws: Vec<f64> = (0..N).map(|_| stream.chi_square(n)).collect();
            let mean = draws.iter().sum::<f64>() / N as f64;
            assert!((mean - n as f64).abs() < 4.0 * f64::sqrt(2.0 * n as f64 / N as f64), "{n}: {mean}");
            let variance = draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / N as f64;
            // The variance of (x − n)² is 8n² + 48n.
            let error = 4.0 * f64::sqrt((8 * n * n + 48 * n) as f64 / N as f64);
            assert!((variance - 2.0 * n as f64).abs() < error, "{n}: {variance}");
        }
    }
}
