//! The artificial networks in libtorch, and their training.
//!
//! * [`ann`]: the networks as tensors; forward pass, weights in and out of checkpoints.
//! * [`train`] and [`optim`]: training with PyTorch's update rules. [`distill`]: learning from a teacher. [`rounding`]: with few bits.
//!   [`prune`]: with few weights. [`watch`]: whether a training goes wrong.
//! * [`work`]: what is not zero in a network, and the multiply-accumulates that it causes.
//! * [`device`]: CPU or CUDA.

pub mod ann;
pub mod device;
pub mod distill;
mod error;
pub mod optim;
pub mod prune;
pub mod rounding;
pub mod train;
pub mod watch;
pub mod work;

pub use error::ModelError;
