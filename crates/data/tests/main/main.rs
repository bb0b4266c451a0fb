//! The crate from outside: files written here, by hand or by Python, and simulated recordings.
// Helpers are no tests, so clippy.toml's allowance does not reach them.
#![allow(clippy::unwrap_used)]

/// Files that appear whole or not at all.
mod atomic;
/// Files as people have them, whatever the format.
mod cases;
/// `.mat` files of level 7.3, written by h5py: every structure that it writes, and what is not read. Needs
/// Python.
mod hdf5;
/// `.mat` files built byte by byte: byte orders, small elements, truncation, lying sizes.
mod mat;
/// Determinism and statistics of the nerve.
mod nerve;
/// `.npz` files: round trips, every accepted layout, and files that lie.
mod npz;
/// Files written by NumPy and SciPy, and ours read by NumPy. Needs Python; see [`python::python`].
mod python;

use std::path::Path;

use escape_data::{DataError, Dataset, ReadOptions, Recordings, Split};

/// N recordings of H x W with different values everywhere, labels 0, 1, 2, 0, ...
fn recordings(n: usize, contacts: usize, samples: usize) -> Recordings {
    let count = n * contacts * samples;
    let x = (0..count).map(|i| ((i * 7919 % 2001) as f32 - 1000.0) / 1000.0).collect();
    Recordings::new(x, (0..n as i64).map(|i| i % 3).collect(), contacts, samples).unwrap()
}

fn dataset() -> Dataset {
    let train = recordings(5, 4, 100);
    let test = train.select(&[4, 2, 1]);
    Dataset {
        train,
        test,
        classes: escape_data::Classes::Open.names(),
        sample_rate_hz: 30_000.0,
        nerve: None,
    }
}

/// Read both splits with the default options; what was noted is left out.
fn read(path: &Path) -> Result<Dataset, DataError> {
    Ok(escape_data::read(path, &ReadOptions::default())?.0)
}

/// The same for one split.
fn read_split(path: &Path, split: Split) -> Result<Recordings, DataError> {
    Ok(escape_data::read_split(path, split, &ReadOptions::default())?.0)
}

/// The error's message with those of its causes.
fn message(error: DataError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        text += &format!(": {cause}");
        source = cause.source();
    }
    text
}

/// Fail unless every part occurs in the text.
#[track_caller]
fn contains(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "expected {part:?} in {text:?}");
    }
}
