//! Feed-forward networks as plain numbers, and what is computed of them without tensors.
//!
//! * [`arch`]: the ESCAPE-NET family, layer by layer: shapes, parameter names, multiply-accumulates, fan-out.
//! * [`metrics`]: accuracy, loss and confusion of predictions.
//! * [`rng`]: random streams that do not depend on threads. [`shuffle`]: reproducible orders.
//!
//! ```
#![doc = include_str!("../examples/layers.rs")]
//! ```

pub mod arch;
pub mod metrics;
pub mod rng;
pub mod shuffle;
