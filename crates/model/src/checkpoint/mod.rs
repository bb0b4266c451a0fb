//! Checkpoints of PyTorch, read and written without Python.
//!
//! * [`read()`] and [`write()`]: any file of `torch.save` as a [`Value`], and back.
//! * [`Checkpoint`]: the study's dictionary, on top of them.
//! * [`match_weights`]: compares a network's parameters with a file's, every key accounted for.
//!
//! # The format
//! Since PyTorch 1.6 a file of `torch.save` is a zip archive of one folder, named as the file: `data.pkl` is a
//! pickle in which every tensor refers to a storage by key, `data/KEY` holds that storage's bytes, `byteorder`
//! their byte order. Sources: `torch/serialization.py`, `torch/_utils.py` and `caffe2/serialize` of PyTorch 2.11;
//! the opcodes as documented in CPython's `Lib/pickletools.py`.
//!
//! # Trust
//! A pickle is a program, and Python's own loader runs it. Nothing is executed here: the opcodes build lists,
//! dictionaries, numbers, text and tensors; a fixed list of names (tensor and storage types, `OrderedDict`, NumPy
//! scalars and arrays) has a meaning, and every other name is refused ([`CheckpointError::Refused`]). Sizes,
//! offsets and strides are checked before use, nesting is limited, and memory is limited by the file's size.

mod archive;
mod error;
mod graph;
mod pickle;
mod report;
mod study;
mod value;
mod writer;

use std::path::Path;

pub use error::CheckpointError;
pub use escape_data::write_atomically;
pub use report::{LoadReport, match_weights};
pub use study::{Checkpoint, Leak};
pub use value::{DType, TensorData, Value};

/// Reads a file that `torch.save` wrote (PyTorch 1.6 or newer).
///
/// Every tensor comes out contiguous, whatever view of a shared storage it was; NumPy scalars come out as numbers,
/// NumPy arrays as tensors, `torch.Size` as a tuple, a `Parameter` as its tensor. Attributes of objects, such as
/// the `_metadata` of a state dict, and the device a tensor was on are dropped.
///
/// # Errors
/// [`CheckpointError`]: no such file; not this format, with what it looks like instead; damaged; asks for anything
/// but data; holds an element type that [`DType`] has not; or would take far more memory than the file's size.
pub fn read(path: &Path) -> Result<Value, CheckpointError> {
    let mut archive = archive::open(path)?;
    graph::load(&mut archive).map_err(|fault| fault.at(path))
}

/// Writes a file that `torch.load(path, weights_only=True)` opens.
///
/// The file is written next to its destination and renamed when complete, see [`write_atomically`]. Equal values
/// written under equal file names give equal bytes.
///
/// # Errors
/// [`CheckpointError::Unwritable`], before anything is written, if the value cannot be expressed: a tensor whose
/// bytes do not fit its shape, a repeated or unhashable key, too deep nesting. [`CheckpointError::Io`] if the
/// system refuses.
pub fn write(path: &Path, value: &Value) -> Result<(), CheckpointError> {
    writer::write(path, value)
}
