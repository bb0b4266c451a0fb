//! Spiking networks: description, encoders, neurons, engines and spike recorders.
//!
//! * [`network`]: layers, thresholds and rules of a spiking network; no tensors.
//! * [`neuron`]: what one neuron does in one timestep, and the same for a whole plane of them.
//! * [`encode`]: from a recording to input spikes or currents.
//! * [`exact`]: weights on a grid on which every order of summation gives the same result.
//! * [`dense`]: the engine that computes every synapse, layer by layer over blocks of timesteps.
//! * [`evaluate`]: accuracy and activity over a set of recordings.

pub mod dense;
pub mod encode;
pub mod evaluate;
pub mod exact;
pub mod network;
pub mod neuron;
pub mod random;
