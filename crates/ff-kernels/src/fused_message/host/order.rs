//! The order in which receivers are summed.

use std::collections::VecDeque;

use super::Call;
use crate::host::Element;

/// Senders' features in bytes from which on the order of receivers matters: below, the L2 cache of a core holds them all.
const FROM: usize = 1 << 20;

/// Receivers that are grown together: with those around them their features fit the L2 cache of one core.
const GROUP: usize = 64;

/// Receivers in an order in which those that share senders follow each other; `None` where the order in memory will do.
///
/// Atoms of a liquid lie in memory in no order, so that nearly every gather misses caches and address translation. Groups of
/// `GROUP` receivers are grown over the graph, each from a neighbour of an earlier group.
pub(super) fn receivers<T: Element>(call: &Call<T>) -> Option<Vec<u32>> {
    if size_of_val(call.nodes) + size_of_val(call.vectors) < FROM {
        return None;
    }
    let n_atoms = call.row_ptr.len() - 1;
    let mut order = Vec::with_capacity(n_atoms);
    let mut known = vec![false; n_atoms];
    // Neighbours of finished groups, from which later groups grow; atoms that no edge reaches come last.
    let mut seeds = VecDeque::new();
    let mut rest = 0..n_atoms as u32;
    let mut taken = vec![false; n_atoms];
    let mut queue = VecDeque::with_capacity(64 * GROUP);
    while let Some(seed) = seeds.pop_front().or_else(|| rest.next()) {
        if std::mem::replace(&mut taken[seed as usize], true) {
            continue;
        }
        queue.push_back(seed);
        let end = order.len() + GROUP;
        while let Some(row) = queue.pop_front() {
            order.push(row);
            if order.len() == end {
                break;
            }
            for &sender in &call.sender[call.row_ptr[row as usize] as usize..call.row_ptr[row as usize + 1] as usize] {
                if !std::mem::replace(&mut taken[sender as usize], true) {
                    queue.push_back(sender);
                }
            }
        }
        // What is left of the queue belongs to nobody yet.
        for row in queue.drain(..) {
            taken[row as usize] = false;
            if !std::mem::replace(&mut known[row as usize], true) {
                seeds.push_back(row);
            }
        }
    }
    Some(order)
}
