//! Checkpoints of PyTorch, read and written without Python; models of Keras, read.
//!
//! * [`read()`] and [`write()`]: any file of `torch.save` or safetensors as a [`Value`], and back; Keras models are read only.
//! * [`Checkpoint`]: the study's dictionary (github.com/shafinulh/ESCAPE_NET_SNN, 2022), on top of them.
//! * [`match_weights`]: compares a network's parameters with a file's, every key accounted for; [`matched_weights`]: the
//!   weights of a network of the family.
//! * [`description`]: a network that names and shapes do not tell, as a text.
//! * [`propose`]: what network a state dictionary may be of.
//! * [`identify`]: which network a set of weights is. [`input`]: what a network knows of the recordings that it takes.
//!
//! # The formats
//! Since PyTorch 1.6 a file of `torch.save` is a zip archive of one folder, named as the file: `data.pkl` is a
//! pickle in which every tensor refers to a storage by key, `data/KEY` holds that storage's bytes, `byteorder`
//! their byte order. Before, it was a row of pickles with the storages behind them (`legacy`). A `.safetensors` file
//! is a JSON directory of tensors with the tensors behind it (`safetensors`). A Keras model is HDF5, alone or in a zip archive
//! (`keras`); it comes out as a state dictionary in PyTorch's layout with its network's description beside it. Sources: `torch/serialization.py`,
//! `torch/_utils.py` and `caffe2/serialize` of PyTorch 2.11; the opcodes as documented in CPython's
//! `Lib/pickletools.py`; the format's description in the repository of safetensors.
//!
//! # Trust
//! A pickle is a program, and Python's own loader runs it. Nothing is executed here: the opcodes build lists,
//! dictionaries, numbers, text and tensors; a fixed list of names (tensor and storage types, `OrderedDict`, NumPy
//! scalars and arrays) has a meaning. Every other name is but a name: what it would make is a [`Value::Opaque`], which
//! says what it is and can be used for nothing, and [`Contents::foreign`] lists them all. Sizes, offsets and strides
//! are checked before use, nesting is limited, and all memory that reading takes stays below [`memory_limit`].
//!
//! ```
#![doc = include_str!("../examples/weights.rs")]
//! ```

mod archive;
mod budget;
pub mod description;
mod dtype;
mod error;
mod expand;
mod foreign;
mod graph;
pub mod identify;
pub mod input;
mod keras;
mod legacy;
mod locate;
mod names;
mod note;
mod parts;
mod pickle;
pub mod propose;
mod report;
mod safetensors;
mod sniff;
mod study;
mod value;
mod weights;
mod writer;

use std::fmt;
use std::fs::File;
use std::io::Cursor;
use std::path::Path;

pub use budget::memory_limit;
pub use dtype::DType;
pub use error::CheckpointError;
use error::Fault;
pub use foreign::Foreign;
pub use note::Note;
pub use parts::Parts;
pub use report::{LoadReport, match_weights};
pub use study::{Checkpoint, Leak, Selection};
pub use value::{Opaque, TensorData, Value};
pub use weights::{describe, matched_weights, network_of};

/// How a checkpoint is kept in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// The zip archive of PyTorch 1.6 and newer.
    Zip,
    /// The pickles of PyTorch 1.5 and before.
    Legacy,
    /// Safetensors.
    Safetensors,
    /// A Keras model in HDF5, `.h5`.
    KerasHdf5,
    /// A Keras model in a zip archive, `.keras`.
    KerasArchive,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Zip => "zip archive of torch.save (the format of PyTorch 1.6 and newer)",
            Self::Legacy => "legacy file of torch.save (the format of PyTorch 1.5 and before)",
            Self::Safetensors => "safetensors",
            Self::KerasHdf5 => "Keras model in HDF5 (.h5)",
            Self::KerasArchive => "Keras model in a zip archive (.keras)",
        })
    }
}

/// Reads a file that `torch.save`, safetensors or Keras wrote; its content decides which, not its name.
///
/// Every tensor comes out contiguous, whatever view of a shared storage it was; NumPy scalars come out as numbers,
/// NumPy arrays as tensors, `torch.Size` as a tuple, a `Parameter` as its tensor. Attributes of objects, such as
/// the `_metadata` of a state dict, and the device a tensor was on are dropped; a dictionary or list of a class of its
/// own comes out as a plain one, a quantised tensor as the float32 values that it stands for, a sparse one filled up.
/// Everything else is [`Value::Opaque`].
///
/// A `.safetensors` file comes out as a dictionary of its tensors. If it has metadata, it comes out as a dictionary
/// of that under the name `state_dict` and of the metadata: those that [`Checkpoint::save`] wrote under their own
/// names and with their own types, others as text under `metadata`.
///
/// # Errors
/// [`CheckpointError`]: no such file; not such a format, with what it looks like instead; damaged; or would take far
/// more memory than the file's size.
pub fn read(path: &Path) -> Result<Value, CheckpointError> {
    open(path).map(|contents| contents.value)
}

/// What a file holds, and what is to be known about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Contents {
    /// How it is kept.
    pub format: Format,
    /// What is in it.
    pub value: Value,
    /// The classes and functions of other programs that its pickle names, none of which was looked up or called.
    pub foreign: Vec<Foreign>,
    /// What was found and decided.
    pub notes: Vec<Note>,
}

/// Reads a file as [`read()`] does, and says what is to be known about it.
///
/// # Errors
/// Those of [`read()`].
pub fn open(path: &Path) -> Result<Contents, CheckpointError> {
    let metadata = std::fs::metadata(path).map_err(|e| CheckpointError::open(path, e))?;
    if !metadata.is_file() {
        let looks_like = "a device or pipe".to_owned();
        let hint = "name a file".to_owned();
        let fault = if metadata.is_dir() { sniff::folder(path) } else { Fault::Other { looks_like, hint } };
        return Err(fault.at(path));
    }
    let file = File::open(path).map_err(|e| CheckpointError::open(path, e))?;
    sniff::load(file, path).map_err(|fault| fault.at(path))
}

/// Reads what a file would hold, as [`open`] does; messages call it `name`.
///
/// # Errors
/// Those of [`read()`].
pub fn read_bytes(name: &Path, bytes: &[u8]) -> Result<Contents, CheckpointError> {
    sniff::load(Cursor::new(bytes), name).map_err(|fault| fault.at(name))
}

/// Writes a file that `torch.load(path, weights_only=True)` opens.
///
/// The file is written next to its destination and renamed when complete, see [`escape_files::write_atomically`]. Equal values
/// written under equal file names give equal bytes.
///
/// # Errors
/// [`CheckpointError::Unwritable`], before anything is written, if the value cannot be expressed: a tensor whose
/// bytes do not fit its shape, a repeated or unhashable key, too deep nesting. [`CheckpointError::Io`] if the
/// system refuses.
pub fn write(path: &Path, value: &Value) -> Result<(), CheckpointError> {
    writer::write(path, value)
}
