//! The kernels of `fused_message`.
//!
//! Backwards: the first computes gradients in senders' features, edge vectors and weights, from those in the outputs. The
//! second computes the rates of these along a direction in the inputs, and the rates of the outputs.
//!
//! [`senders::senders`] walks the list by sender as the forward walks it by receiver: the units of one sender share a tile of its
//! edges and hold its sums in registers. What an edge vector is owed is summed over the units of the tile in shared memory,
//! and over blocks of channels by the row's own units, one block after another. [`maps::last_map`] and [`maps::first_map`] cut the
//! edges into parts whose sums [`parts::add_groups`] and [`parts::add_parts`] add in their order. [`receivers::receivers`] is the forward's walk with
//! rates. There are no atomics in these: the same bits on every run.
//!
//! [`edges::edges`] is the first backward's walk for variants that add atomically: tiles of edges as they lie, whose units add what
//! each edge owes its sender. It reads no list by sender.
//!
//! | kernel | cube x | cube y | count x | count y | count z |
//! | --- | --- | --- | --- | --- | --- |
//! | `senders` | channels_per_cube / vector_width | rows_per_cube | rows / rows_per_cube | 1 | what exceeds x |
//! | `edges` | channels_per_cube | tiles_per_cube | tiles / tiles_per_cube | 1 | what exceeds x |
//! | `receivers` | as `senders` | as `senders` | as `senders` | F / channels_per_cube | what exceeds x |
//! | `last_map` | as above | parts of a cube | parts | F / channels_per_cube | rows of the gradient |
//! | `first_map` | as above | parts of a cube | parts | 1 | 1 |

pub mod edges;
pub mod forward;
pub mod maps;
pub mod parts;
pub mod receivers;
pub mod senders;
mod sums;
