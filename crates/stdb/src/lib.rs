//! Spike timing dependent backpropagation (STDB, Rathi et al., ICLR 2020): surrogate gradients through time, by a recurrence
//! derived by hand instead of autograd, and fine-tuning with them.
//!
//! * [`surrogate`]: what stands in for the derivative of a spike.
//! * [`scan`]: the recurrence backwards in time, for a plane of neurons; plain slices.
//! * [`bptt`]: loss and gradients of a whole network.
//! * [`temperature`]: the scale on which the loss judges a readout.
//! * [`finetune`]: the training loop.

pub mod bptt;
pub mod finetune;
pub mod scan;
pub mod surrogate;
pub mod temperature;
