//! A client of i-PI's socket protocol, which ASE's `SocketIOCalculator` speaks too: the server moves atoms and asks for
//! forces.
//!
//! [`message`] is what is sent, on any reader and writer; [`serve`] answers a server until it ends; [`socket`] finds
//! one. Outside of the messages, lengths are in Å, energies in eV and lattice vectors are rows. No model is known here,
//! and nothing is printed.
//!
//! Source: V. Kapil et al., Comput. Phys. Commun. 236 (2019) 214, and `ipi/interfaces/sockets.py` of i-PI 3.3.

mod error;
pub mod message;
mod serve;
pub mod socket;
pub mod units;

pub use error::Error;
pub use message::{Geometry, Outcome, Reply, Request, Shape};
pub use serve::{Ended, ServeError, serve};
pub use socket::{Endpoint, Socket};
