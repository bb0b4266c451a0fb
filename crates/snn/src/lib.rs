//! Spiking networks: description, rules, neurons, encoders. Plain numbers, no tensors.
//!
//! * [`rules`]: what a network does, rule by rule, and the presets that name sets of them.
//! * [`network`]: layers and constants of a spiking network. [`stored`]: the same in a checkpoint.
//! * [`neuron`]: what one neuron does in one timestep, and the same for a whole plane of them.
//! * [`encode`]: from a recording to input spikes or currents. [`random`]: PyTorch's random numbers.
//! * [`engine`]: what simulates a network. [`evaluate`](mod@evaluate): accuracy and activity over a set of recordings.
//! * [`integer`]: a network in whole numbers, whose spikes no engine, device or order of summation changes. [`nonzero`]: what zeros
//!   leave of its work.
//!
//! ```
#![doc = include_str!("../examples/neuron.rs")]
//! ```

pub mod aligned;
pub mod encode;
pub mod engine;
mod error;
pub mod evaluate;
pub mod event;
pub mod integer;
pub mod network;
pub mod neuron;
pub mod nonzero;
pub mod random;
pub mod rules;
pub mod stored;
mod weights;

pub use error::SnnError;
pub use weights::Weights;
