//! The ESCAPE-NET family of networks, their training and their checkpoints.
//!
//! * [`arch`]: which layers each network of the family has; plain arithmetic, no tensors.
//! * [`identify`]: which network a set of weights is.
//! * [`ann`]: the networks as tensors; forward pass, weights in and out of checkpoints.
//! * [`train`] and [`optim`]: training with PyTorch's update rules.
//! * [`shuffle`]: reproducible orders. [`watch`]: whether a training goes wrong.
//! * [`checkpoint`]: `.pth` and `.safetensors` files, read and written without Python.
//! * [`input`]: what a network knows of the recordings that it takes.
//! * [`recordings`]: recordings from any file, tensors kept by `torch.save` among them.
//! * [`device`]: CPU or CUDA.
//!
//! Without the feature `libtorch`, which is on by default, what computes with tensors is left out.

pub mod arch;
pub mod checkpoint;
pub mod identify;
pub mod input;
pub mod metrics;
pub mod recordings;
pub mod shuffle;
pub mod watch;

#[cfg(feature = "libtorch")]
pub mod ann;
#[cfg(feature = "libtorch")]
pub mod device;
#[cfg(feature = "libtorch")]
pub mod error;
#[cfg(feature = "libtorch")]
pub mod optim;
#[cfg(feature = "libtorch")]
pub mod train;

#[cfg(feature = "libtorch")]
pub use error::ModelError;
