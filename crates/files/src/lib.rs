//! Files that come from anywhere, read under a budget of memory; and files written whole or not at all.
//!
//! * [`archive`]: zip archives, which `.npz` files and checkpoints are.
//! * [`hdf5`]: groups and data sets of HDF5, which `.mat` files of level 7.3 and Keras files are.
//! * [`scalar`]: numbers as they are stored.
//! * [`budget`]: how much memory a file may make its reader take.
//! * [`text`]: what a file says, fit for a terminal.
//! * [`write_atomically`]: the old file or the complete new one, whatever happens.
//!
//! Nothing a file says about itself is believed before it was compared with the file's length or taken from the budget.
//!
//! ```
#![doc = include_str!("../examples/archive.rs")]
//! ```

pub mod archive;
mod atomic;
pub mod budget;
pub mod hdf5;
pub mod scalar;
pub mod text;

use std::io;

pub use atomic::{remove_leftovers, write_atomically};

/// An error about the content of a file.
pub fn invalid(problem: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem.into())
}
