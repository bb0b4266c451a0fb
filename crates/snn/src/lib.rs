//! Spiking networks: description, rules, neurons, encoders. Plain numbers, no tensors.
//!
//! * [`network`]: layers, thresholds and rules of a spiking network. [`stored`]: the same in a checkpoint.
//! * [`neuron`]: what one neuron does in one timestep, and the same for a whole plane of them.
//! * [`encode`]: from a recording to input spikes or currents. [`random`]: PyTorch's random numbers.
//! * [`exact`]: weights on a grid on which every order of summation gives the same result.

pub mod encode;
mod error;
pub mod exact;
pub mod network;
pub mod neuron;
pub mod random;
pub mod stored;

pub use error::SnnError;
