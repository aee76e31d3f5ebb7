//! The neighbour list that is gathered over by sender.

/// A neighbour list as its senders see it; made once, as the list is made once for many calls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SenderList {
    /// [n_atoms + 1].
    pub sender_ptr: Vec<u32>,
    /// The edges of each sender in ascending order, [n_edges].
    pub transpose: Vec<u32>,
    /// The receiver of each edge, [n_edges].
    pub receiver: Vec<u32>,
}

impl SenderList {
    /// Of a checked list: `row_ptr` [n_atoms + 1] and `sender` [n_edges].
    pub fn new(row_ptr: &[u32], sender: &[u32]) -> Self {
        let n_atoms = row_ptr.len() - 1;
        let mut sender_ptr = vec![0; n_atoms + 1];
        sender.iter().for_each(|atom| sender_ptr[*atom as usize + 1] += 1);
        for atom in 0..n_atoms {
            sender_ptr[atom + 1] += sender_ptr[atom];
        }
        let mut next = sender_ptr.clone();
        let (mut transpose, mut receiver) = (vec![0; sender.len()], vec![0; sender.len()]);
        for (atom, row) in row_ptr.windows(2).enumerate() {
            for edge in row[0]..row[1] {
                let slot = &mut next[sender[edge as usize] as usize];
                transpose[*slot as usize] = edge;
                receiver[edge as usize] = atom as u32;
                *slot += 1;
            }
        }
        Self { sender_ptr, transpose, receiver }
    }
}
