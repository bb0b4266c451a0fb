//! Feed-forward networks as plain numbers, and what is computed of them without tensors.
//!
//! * [`sequential`]: any feed-forward network, layer by layer: shapes, parameter names, multiply-accumulates.
//! * [`arch`]: the members of the ESCAPE-NET family; [`family`]: them as networks, in any width.
//! * [`stage`]: a network as layers of neurons, which is how a spiking one sees it.
//! * [`fold`]: batch norms folded into the weights before them.
//! * [`metrics`]: accuracy, loss and confusion of predictions.
//! * [`rng`]: random streams that do not depend on threads. [`shuffle`]: reproducible orders.
//!
//! ```
#![doc = include_str!("../examples/layers.rs")]
//! ```

pub mod arch;
mod error;
pub mod family;
pub mod fold;
pub mod metrics;
pub mod rng;
pub mod sequential;
mod shape;
pub mod shuffle;
pub mod stage;

pub use error::NetworkError;
