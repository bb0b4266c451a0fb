//! Nerve-cuff recordings: readers, writers, splits and the nerve simulator.
//!
//! A recording is one detected compound action potential: H contacts of a nerve cuff, W samples of time,
//! scaled to [-1, 1], and the class of the movement or touch that evoked it. Files are `.npz` (this project's
//! own layout, see [`npz`]) or MATLAB level 5 `.mat` (see [`mat`]); [`mod@simulate`] makes recordings where no
//! animal is at hand. This crate prints nothing and needs no libtorch.
//!
//! Checkpoints, too, are zip archives: [`archive`] reads the directory of either and trusts no size in it, and
//! [`write_atomically`] writes files of any kind.
//!
//! Letters used for shapes throughout: **N** recordings, **H** contacts, **W** samples.

pub mod archive;
mod atomic;
mod error;
pub mod mat;
pub mod npz;
mod recordings;
pub mod rng;
mod scalar;
pub mod simulate;
mod summary;

use std::fs::File;
use std::io::Read;
use std::path::Path;

pub use atomic::write_atomically;
pub use error::{DataError, Position, shown};
pub use recordings::{Dataset, Inconsistent, ParseSplitError, Recordings, Split};
pub use simulate::{RowOrder, Scaling, SimulatorConfig, simulate};
pub use summary::{DatasetSummary, SplitSummary};

/// Number of classes.
pub const CLASSES: usize = 3;
/// Name of each class, in the order of the labels 0, 1, 2.
pub const CLASS_NAMES: [&str; CLASSES] = ["dorsiflexion", "plantarflexion", "pricking"];
/// Contacts (H) of the cuff the published networks were made for: 7 rings of 8, row = ring * 8 + angle.
pub const CONTACTS: usize = 56;
/// Samples (W) of one recording: 3.33 ms at 30 kHz.
pub const SAMPLES: usize = 100;
/// Sampling rate of the recordings, in hertz.
pub const SAMPLE_RATE_HZ: f64 = 30_000.0;

/// Read both splits of a file of recordings.
///
/// The format follows from the extension (`.npz` or `.mat`), or from the first bytes when the extension is
/// neither. Values are checked to be finite and within [-1, 1] (up to a rounding of 1e-5, which is clamped),
/// labels to be one of the classes.
///
/// # Errors
/// Anything that keeps the file from being understood, as a [`DataError`] that names the file, the place in
/// it and the remedy. A damaged or hostile file gives an error, never a panic or an allocation that its size
/// does not justify.
pub fn read(path: &Path) -> Result<Dataset, DataError> {
    let mut source = open(path, &Split::ALL)?;
    let (train, test) = (source.split(Split::Train)?, source.split(Split::Test)?);
    let dataset = Dataset { train, test, sample_rate_hz: source.sample_rate_hz() };
    dataset.check_shapes(path)?;
    Ok(dataset)
}

/// Read one split of a file of recordings; the other one is neither read nor required to exist.
///
/// # Errors
/// As [`read`].
pub fn read_split(path: &Path, split: Split) -> Result<Recordings, DataError> {
    open(path, &[split])?.split(split)
}

/// Write both splits as `.npz`: `train_x` float32 N x H x W, `train_y` int64 N (0..2), `test_x`, `test_y`,
/// and the scalars `contacts` (int64) and `sample_rate_hz` (float64).
///
/// The file appears whole or not at all, see [`write_atomically`]. Equal data give equal bytes.
///
/// # Errors
/// [`DataError::Inconsistent`] when the arrays of a split do not fit each other, [`DataError::Io`] when
/// writing fails.
pub fn write_npz(path: &Path, dataset: &Dataset) -> Result<(), DataError> {
    npz::save(path, dataset)
}

/// An opened file of recordings.
trait Source {
    /// One of the splits that the file was opened for; each can be had once.
    fn split(&mut self, split: Split) -> Result<Recordings, DataError>;

    fn sample_rate_hz(&self) -> f64;
}

/// Open a file for the splits asked for.
fn open<'a>(path: &'a Path, splits: &'a [Split]) -> Result<Box<dyn Source + 'a>, DataError> {
    let extension = path.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase);
    let looks_like = looks_like(path)?;
    Ok(match (extension.as_deref(), looks_like) {
        (Some("npz"), _) => Box::new(npz::open(path, looks_like)?),
        (Some("mat"), _) => Box::new(mat::open(path, looks_like, splits)?),
        (_, Magic::Zip) => Box::new(npz::open(path, looks_like)?),
        (_, Magic::Mat5 | Magic::Hdf5) => Box::new(mat::open(path, looks_like, splits)?),
        (_, other) => {
            return Err(DataError::UnknownFormat { path: path.to_owned(), looks_like: other.describe() });
        }
    })
}

/// What the first bytes of a file say it is; only for choosing a reader and for error messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Magic {
    Empty,
    Zip,
    Npy,
    Mat5,
    Hdf5,
    Gzip,
    Text,
    Other,
}

impl Magic {
    fn describe(self) -> &'static str {
        match self {
            Self::Empty => "an empty file",
            Self::Zip => "a zip archive (.npz)",
            Self::Npy => "a single NumPy array (.npy; use numpy.savez with the names train_x, train_y, ...)",
            Self::Mat5 => "a MATLAB level 5 file (.mat)",
            Self::Hdf5 => "an HDF5 file (MATLAB level 7.3 .mat, .h5)",
            Self::Gzip => "a gzip file (unpack it first)",
            Self::Text => "text",
            Self::Other => "unknown binary data",
        }
    }
}

/// Recognise a file by its first 520 bytes.
fn looks_like(path: &Path) -> Result<Magic, DataError> {
    const HDF5: &[u8] = b"\x89HDF\r\n\x1a\n";
    let mut head = Vec::with_capacity(520);
    let file = File::open(path).map_err(|e| DataError::open(path, e))?;
    file.take(520).read_to_end(&mut head).map_err(|e| DataError::io(path, "read", e))?;
    // MATLAB puts 512 bytes of its own before the HDF5 signature.
    let hdf5 = head.starts_with(HDF5) || head.get(512..).is_some_and(|rest| rest.starts_with(HDF5));
    Ok(if head.is_empty() {
        Magic::Empty
    } else if hdf5 || head.starts_with(b"MATLAB 7.3 MAT-file") {
        Magic::Hdf5
    } else if head.starts_with(archive::LOCAL) || head.starts_with(archive::END) {
        Magic::Zip
    } else if head.starts_with(b"\x93NUMPY") {
        Magic::Npy
    } else if matches!(head.get(126..128), Some(b"IM" | b"MI")) {
        Magic::Mat5
    } else if head.starts_with(b"\x1f\x8b") {
        Magic::Gzip
    } else if head.iter().all(|&b| b.is_ascii_graphic() || b.is_ascii_whitespace()) {
        Magic::Text
    } else {
        Magic::Other
    })
}
