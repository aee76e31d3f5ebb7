//! SchNet and PaiNN as modules of Burn, on the fused ops: what can be trained, on forces too.
//!
//! A [`Network`] holds what is trained; a [`Setup`] what is not, its kernels among it; a [`Batch`] the atoms. [`evaluate`] makes
//! energies, forces and strain derivatives of the three, which on `Autodiff<B>` have gradients in the weights. [`weights::random`]
//! begins a training, [`Network::to_file`] ends it with a file that `ff-model` reads. The maths is in `models.md`. The same numbers
//! come without a graph, and faster, from a [`DeviceModel`], and on the host from [`ff_model::HostModel`].

mod activation;
mod batch;
mod dense;
pub mod device;
mod error;
mod evaluate;
mod filter;
mod network;
mod painn;
mod schnet;
mod setup;
pub mod weights;

pub use batch::{Batch, Listed};
pub use dense::Dense;
pub use device::DeviceModel;
pub use error::NetworkError;
pub use evaluate::{Evaluation, evaluate};
pub use filter::Filter;
pub use network::{Interaction, Network, NetworkBackend};
pub use setup::Setup;
