//! What goes wrong between a server and its client.

use std::io;

use crate::message::{MOST_ATOMS, MOST_TEXT};

/// Why a conversation ended otherwise than by the server's word.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system refused to send or to receive.
    #[error("the connection failed: {0}")]
    Io(io::Error),
    /// The connection ended inside of a message.
    #[error("the connection ended in {what}: expected {expected} bytes, found {found}")]
    Truncated {
        /// The message.
        what: &'static str,
        /// Its size in bytes, as far as it is known.
        expected: usize,
        /// How many of them came.
        found: usize,
    },
    /// The connection ended where the server had asked for forces and not yet taken them.
    #[error("the connection ended between POSDATA and GETFORCE: the forces were not taken")]
    NotTaken,
    /// Not a message of the protocol, or one of another length than it should have before it.
    #[error("unknown header `{found}`, expected one of {expected}")]
    Header {
        /// Its twelve bytes, escaped.
        found: String,
        /// The headers that may come.
        expected: &'static str,
    },
    /// A message of another number of atoms.
    #[error("{what} has {found} atoms, expected {expected}")]
    Atoms {
        /// The message.
        what: &'static str,
        /// Atoms that it says it has.
        found: i32,
        /// Atoms of the template.
        expected: usize,
    },
    /// A text too long, or shorter than nothing.
    #[error("{what} has a text of {found} bytes, expected 0 to {MOST_TEXT}")]
    Text {
        /// The message.
        what: &'static str,
        /// Bytes that it says it has.
        found: i32,
    },
    /// A batch that cannot be.
    #[error(
        "INIT asks for `batch_size:{found}` of {atoms} atoms, expected 1 or more and at most {MOST_ATOMS} atoms in all"
    )]
    Batch {
        /// What stands for the size.
        found: String,
        /// Atoms of one structure.
        atoms: usize,
    },
    /// Forces of nothing.
    #[error("GETFORCE came without POSDATA before it")]
    NoPositions,
    /// A number that is none.
    #[error("POSDATA: {what} of structure {structure} is not finite")]
    NotFinite {
        /// The cell, or an atom.
        what: String,
        /// The structure in its batch, from 0.
        structure: usize,
    },
    /// Positions that do not come through the socket.
    #[error("the server sends positions through shared memory: expected its mode `unix` or `inet`, found `shm`")]
    SharedMemory,
    /// Nothing answers at an address.
    #[error("cannot connect to {endpoint}: {source}")]
    Connect {
        /// The address.
        endpoint: String,
        /// What the system said of the last attempt.
        source: io::Error,
    },
    /// The caller wanted it to end.
    #[error("interrupted")]
    Stopped,
}

impl Error {
    /// Whether the server is gone, and not what it says wrong: one that comes back may be served.
    pub fn is_lost(&self) -> bool {
        matches!(self, Self::Io(_) | Self::Truncated { .. } | Self::NotTaken)
    }
}

/// Carried by the errors of a [`Socket`](crate::Socket) that was told to stop.
#[derive(Debug, thiserror::Error)]
#[error("interrupted")]
pub(crate) struct Stop;

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        if error.get_ref().is_some_and(|inner| inner.is::<Stop>()) { Self::Stopped } else { Self::Io(error) }
    }
}
