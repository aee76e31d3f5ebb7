//! Structures and what is made of them: files, built-in problems, neighbour lists and kernel inputs.
//!
//! Nothing here knows a GPU; only [`io`] touches files.

pub mod elements;
pub mod features;
pub mod io;
pub mod neighbors;
pub mod problems;
mod structure;

pub use features::{Edges, FeatureError, MessageSpec, edges, message_inputs, random_linear, random_mlp};
pub use io::{
    Frame, FrameReader, FrameWriter, Frames, Labels, StructureError, StructureWarning, read_frames, read_structures,
};
pub use neighbors::{NeighborError, batch, neighbors};
pub use problems::{BuiltIn, BuiltInError, builtin};
pub use structure::Structure;
