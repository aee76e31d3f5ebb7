//! Which frames make a step, and which of them a part of it.

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::config::RunConfig;

/// The frames of every step of an epoch: a function of seed and epoch alone, so that no generator is kept between them.
/// `atoms` are those of every frame.
pub fn epoch(run: &RunConfig, atoms: &[usize], epoch: u64) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..atoms.len()).collect();
    let mut rng = ChaCha8Rng::seed_from_u64(run.seed);
    // Stream 0 is the split's.
    rng.set_stream(epoch + 1);
    order.shuffle(&mut rng);
    match run.batch_atoms {
        None => order.chunks(run.batch).map(<[usize]>::to_vec).collect(),
        Some(most) => grouped(order, atoms, most),
    }
}

/// Steps of an epoch; by atoms they differ between epochs, and this is of the first.
pub fn steps(run: &RunConfig, atoms: &[usize]) -> u64 {
    epoch(run, atoms, 0).len() as u64
}

/// The parts of a batch, of about `part_atoms` atoms each: they depend on nothing but the batch.
pub fn parts(batch: &[usize], atoms: &[usize], part_atoms: usize) -> Vec<Vec<usize>> {
    let all: usize = batch.iter().map(|frame| atoms[*frame]).sum();
    let parts = all.div_ceil(part_atoms).clamp(1, batch.len().max(1));
    grouped(batch.to_vec(), atoms, all.div_ceil(parts))
}

/// Groups of frames in order that have `most` atoms at most; a larger frame is one of its own.
fn grouped(frames: Vec<usize>, atoms: &[usize], most: usize) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    let mut room = 0;
    for frame in frames {
        match groups.last_mut() {
            Some(group) if atoms[frame] <= room => {
                group.push(frame);
                room -= atoms[frame];
            }
            _ => {
                groups.push(vec![frame]);
                room = most.saturating_sub(atoms[frame]);
            }
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_frame_is_in_one_batch_and_every_batch_within_its_atoms() {
        let atoms = [3, 9, 2, 30, 5, 5, 4, 1];
        for batch_atoms in [None, Some(10)] {
            let run = RunConfig { batch: 3, batch_atoms, seed: 5, ..RunConfig::default() };
            let batches = epoch(&run, &atoms, 4);
            let mut all = batches.concat();
            all.sort_unstable();
            assert_eq!(all, (0..atoms.len()).collect::<Vec<_>>());
            assert_eq!(batches, epoch(&run, &atoms, 4), "another order of the same epoch");
            assert_ne!(batches, epoch(&run, &atoms, 5), "the same order of another epoch");
            for batch in &batches {
                let sum: usize = batch.iter().map(|frame| atoms[*frame]).sum();
                assert!(match batch_atoms {
                    None => batch.len() <= 3,
                    Some(most) => sum <= most || batch.len() == 1,
                });
            }
        }
    }

    #[test]
    fn parts_are_of_like_sizes() {
        let atoms = [9; 10];
        let batch: Vec<usize> = (0..10).rev().collect();
        let found = parts(&batch, &atoms, 48);
        assert_eq!(found, [[9, 8, 7, 6, 5], [4, 3, 2, 1, 0]]);
        assert_eq!(parts(&[0], &[500], 48).len(), 1);
    }
}
