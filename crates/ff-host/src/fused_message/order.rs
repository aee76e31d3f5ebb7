//! The order in which receivers are summed.

use std::sync::OnceLock;

/// Senders' features in bytes from which on the order of receivers matters: below, the L2 cache of a core holds them all.
const FROM: usize = 1 << 20;

/// Receivers that are grown together: with those around them their features fit the L2 cache of one core.
const GROUP: usize = 128;

/// The order in which the receivers of a neighbour list are summed, found by the first call for which it matters and kept
/// for the others.
///
/// Atoms of a liquid lie in memory in no order, so that nearly every gather misses caches and address translation. In
/// this order receivers that share senders follow each other. It depends on the list alone: after another list was made,
/// so must be this.
#[derive(Debug, Default)]
pub struct ReceiverOrder(OnceLock<Vec<u32>>);

impl ReceiverOrder {
    /// Receivers of a list in their order, where senders have so many bytes of features; `None` where the order in memory will
    /// do.
    ///
    /// # Panics
    /// Where it was found for another number of atoms.
    pub(super) fn of(&self, bytes: usize, row_ptr: &[u32], sender: &[u32]) -> Option<&[u32]> {
        if bytes < FROM {
            return None;
        }
        let order = self.0.get_or_init(|| grow(row_ptr, sender));
        assert_eq!(order.len(), row_ptr.len() - 1, "an order of the receivers of another neighbour list");
        Some(order)
    }
}

/// Groups of `GROUP` receivers, grown over the graph, each from a neighbour of the one before. Few rows are looked at for
/// that: the neighbours of one or two make a group.
fn grow(row_ptr: &[u32], sender: &[u32]) -> Vec<u32> {
    let n_atoms = row_ptr.len() - 1;
    let senders = |row: u32| &sender[row_ptr[row as usize] as usize..row_ptr[row as usize + 1] as usize];
    let mut order: Vec<u32> = Vec::with_capacity(n_atoms);
    let mut taken = vec![false; n_atoms];
    // Neighbours of finished groups; where they run out, the first atom that is left.
    let mut seeds: Vec<u32> = Vec::new();
    let mut rest = 0..n_atoms as u32;
    while let Some(seed) = seeds.pop().or_else(|| rest.next()) {
        let first = order.len();
        if std::mem::replace(&mut taken[seed as usize], true) {
            continue;
        }
        order.push(seed);
        let mut at = first;
        while at < order.len() && order.len() < first + GROUP {
            for &sender in senders(order[at]) {
                if order.len() < first + GROUP && !std::mem::replace(&mut taken[sender as usize], true) {
                    order.push(sender);
                }
            }
            at += 1;
        }
        for &row in order[at..].iter().rev().step_by(8) {
            seeds.extend(senders(row).iter().filter(|sender| !taken[**sender as usize]));
        }
    }
    order
}
