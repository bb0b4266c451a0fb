//! Feed-forward networks as plain numbers, and what is computed of them without tensors.
//!
//! * [`arch`]: the ESCAPE-NET family, layer by layer: shapes, parameter names, multiply-accumulates, fan-out.
//! * [`sequential`]: any feed-forward network; [`family`]: the ESCAPE-NETs as such, in any width.
//! * [`metrics`]: accuracy, loss and confusion of predictions.
//! * [`rng`]: random streams that do not depend on threads. [`shuffle`]: reproducible orders.
//!
//! ```
#![doc = include_str!("../examples/layers.rs")]
//! ```

pub mod arch;
mod error;
pub mod family;
pub mod metrics;
pub mod rng;
pub mod sequential;
pub mod shuffle;

pub use error::NetworkError;
