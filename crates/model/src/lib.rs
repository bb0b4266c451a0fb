//! The ESCAPE-NET family of networks, their training and their checkpoints.
//!
//! * [`arch`]: which layers each network of the family has; plain arithmetic, no tensors.
//! * [`ann`]: the networks as tensors; forward pass, weights in and out of checkpoints.
//! * [`train`] and [`optim`]: training with PyTorch's update rules.
//! * [`checkpoint`]: `.pth` files, read and written without Python.
//! * [`device`]: CPU or CUDA.

pub mod ann;
pub mod arch;
pub mod checkpoint;
pub mod device;
pub mod error;
pub mod metrics;
pub mod optim;
pub mod shuffle;
pub mod train;

pub use error::ModelError;
