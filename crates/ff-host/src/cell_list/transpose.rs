//! The list by sender.
//!
//! Walking the rows in ascending order meets the edges that an atom sends in ascending order of their receivers, so a
//! cursor per atom says which of its edges is next. Parts of the rows are walked in parallel, each from cursors of its own.

use ff_spec::cell_list::NeighborList;
use rayon::prelude::*;

use super::{Shared, offsets, resize};

/// Rows from which on a second part pays for its cursors.
const LEAST: usize = 512;

/// Receivers in parts of about equal numbers of edges.
fn parts(row_ptr: &[u32]) -> Vec<std::ops::Range<usize>> {
    let n_atoms = row_ptr.len() - 1;
    let n_edges = row_ptr[n_atoms] as usize;
    let n = (n_atoms / LEAST).clamp(1, rayon::current_num_threads());
    let cut = |part: usize| match part {
        0 => 0,
        part if part == n => n_atoms,
        part => row_ptr.partition_point(|start| (*start as usize) < n_edges / n * part).min(n_atoms),
    };
    (0..n).map(|part| cut(part)..cut(part + 1)).collect()
}

/// The runs of edges of one receiver from one sender: several where it is seen in several images.
fn runs(sender: &[u32], row: std::ops::Range<usize>) -> impl Iterator<Item = std::ops::Range<usize>> {
    let mut start = row.start;
    std::iter::from_fn(move || {
        if start >= row.end {
            return None;
        }
        let first = start;
        start += 1;
        while start < row.end && sender[start] == sender[first] {
            start += 1;
        }
        Some(first..start)
    })
}

/// Whether an atom is seen by a receiver in several images.
fn repeats(senders: &[u32]) -> bool {
    // Without an early end, so that it is done in vectors.
    senders.iter().zip(senders.iter().skip(1)).fold(false, |repeats, (a, b)| repeats | (a == b))
}

/// A full list: the reverse of every edge.
pub(super) fn reverse<T: Sync>(out: &mut NeighborList<T>) {
    let NeighborList { row_ptr, sender, sender_ptr, transpose, .. } = out;
    resize(sender_ptr, row_ptr.len());
    sender_ptr.copy_from_slice(row_ptr);
    let n_atoms = row_ptr.len() - 1;
    let reverse = Shared::new(transpose);
    let (row_ptr, sender) = (&*row_ptr, &*sender);
    let walk = |part: std::ops::Range<usize>| {
        // The edges that each atom receives from atoms before this part, which are those it sends to them.
        let mut cursor: Vec<u32> = match part.start {
            0 => row_ptr[..n_atoms].to_vec(),
            first => (0..n_atoms)
                .map(|atom| {
                    let row = row_ptr[atom] as usize..row_ptr[atom + 1] as usize;
                    (row.start + sender[row].partition_point(|sender| (*sender as usize) < first)) as u32
                })
                .collect(),
        };
        for receiver in part {
            let row = row_ptr[receiver] as usize..row_ptr[receiver + 1] as usize;
            // SAFETY: the row is in one part only.
            let reverse = unsafe { reverse.get(row.clone()) };
            if !repeats(&sender[row.clone()]) {
                for (reverse, sender) in reverse.iter_mut().zip(&sender[row]) {
                    let next = &mut cursor[*sender as usize];
                    *reverse = *next;
                    *next += 1;
                }
                continue;
            }
            for run in runs(sender, row.clone()) {
                let next = &mut cursor[sender[run.start] as usize];
                // Images ascend here and descend, negated, there.
                for (k, edge) in run.clone().enumerate() {
                    reverse[edge - row.start] = *next + (run.len() - 1 - k) as u32;
                }
                *next += run.len() as u32;
            }
        }
    };
    parts(row_ptr).into_par_iter().for_each(walk);
}

/// Any list: the edges that each atom sends.
pub(super) fn by_sender<T: Sync>(out: &mut NeighborList<T>) {
    let NeighborList { row_ptr, sender, sender_ptr, transpose, .. } = out;
    let n_atoms = row_ptr.len() - 1;
    resize(sender_ptr, n_atoms + 1);
    let (row_ptr, sender) = (&*row_ptr, &*sender);
    let parts = parts(row_ptr);
    let edges = |part: &std::ops::Range<usize>| row_ptr[part.start] as usize..row_ptr[part.end] as usize;
    // How many edges each atom sends to the receivers of each part, then where it begins to do so.
    let mut cursors: Vec<Vec<u32>> = parts
        .par_iter()
        .map(|part| {
            let mut count = vec![0u32; n_atoms];
            sender[edges(part)].iter().for_each(|sender| count[*sender as usize] += 1);
            count
        })
        .collect();
    sender_ptr.fill(0);
    for atom in 0..n_atoms {
        sender_ptr[atom + 1] = cursors.iter().map(|count| count[atom]).sum();
    }
    offsets(sender_ptr);
    for atom in 0..n_atoms {
        let mut next = sender_ptr[atom];
        for cursor in &mut cursors {
            next += std::mem::replace(&mut cursor[atom], next);
        }
    }
    let transpose = Shared::new(transpose);
    parts.into_par_iter().zip(&mut cursors).for_each(|(part, cursor)| {
        for receiver in part {
            for run in runs(sender, row_ptr[receiver] as usize..row_ptr[receiver + 1] as usize) {
                let next = &mut cursor[sender[run.start] as usize];
                // SAFETY: cursors of different parts and atoms never meet.
                let sent = unsafe { transpose.get(*next as usize..*next as usize + run.len()) };
                sent.iter_mut().zip(run.clone().rev()).for_each(|(sent, edge)| *sent = edge as u32);
                *next += run.len() as u32;
            }
        }
    });
}
