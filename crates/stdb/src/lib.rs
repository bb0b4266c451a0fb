//! Surrogate-gradient backpropagation through time, in closed form, and fine-tuning with it.
//!
//! * [`surrogate`]: what stands in for the derivative of a spike.
//! * [`scan`]: the recurrence backwards in time, for a plane of neurons; plain slices.
//! * [`bptt`]: loss and gradients of a whole network.
//! * [`finetune`]: the training loop.

pub mod bptt;
pub mod finetune;
pub mod scan;
pub mod surrogate;
