//! Nerve-cuff recordings: readers, writers, splits and a simulated nerve.
//!
//! A recording is one detected compound action potential: H contacts of a nerve cuff, W samples of time,
//! scaled to [-1, 1], and the class of the movement or touch that evoked it. Files are `.npz` (this project's
//! own layout, see [`npz`]), the same arrays as `.npy`, MATLAB `.mat` of level 4 (see [`mat4`]), 5 (see [`mat`]) or 7.3
//! (whose reader has Octave's and h5py's files, too), or tensors that `torch.save` or safetensors kept; one by one they come as
//! raw [`frames`]. [`nerve`] makes recordings where no animal is at hand. This crate prints nothing and needs no libtorch.
//!
//! Letters used for shapes throughout: **N** recordings, **H** contacts, **W** samples.

mod arrays;
mod budget;
mod checks;
mod classes;
mod contacts;
mod error;
pub mod frames;
mod hdf5;
mod labels;
mod layout;
pub mod mat;
pub mod mat4;
pub mod nerve;
pub mod npz;
mod options;
mod range;
mod reading;
mod recordings;
mod summary;
mod torch;
mod typical;

use std::fs::File;
use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use escape_files::archive::{Archive, END, LOCAL};

use arrays::Source;
use reading::Reading;

pub use budget::{COMPRESSED, COMPRESSED_LIMIT, SLACK, memory_limit};
pub use classes::Classes;
pub use error::{DataError, Position};
pub use layout::Axes;
pub use options::{BadContacts, LabelForm, Neighbours, Note, ReadOptions, Reason, Rescale};
pub use recordings::{Dataset, Inconsistent, Nerve, Origin, ParseSplitError, Recordings, Split};
pub use summary::{DatasetSummary, SplitSummary};
pub use torch::{are_recordings, holds_recordings};
pub use typical::{mean_recording, mean_spectrum};

/// Sampling rate of the recordings, in hertz.
pub const SAMPLE_RATE_HZ: f64 = 30_000.0;

/// Read both splits of a file of recordings; one that the file has nothing of is empty. Also says what was found and
/// decided on the way.
///
/// The format follows from the extension (`.npz`, `.mat`, `.npy`), or from the first bytes when it is none of these; a
/// folder holds `.npy` files, of which one can be named as well (see [`npz`]). Values are checked to be finite, not all
/// equal within a recording, and within [-1, 1] (up to a rounding of 1e-5, which is clamped), labels to be one of the
/// classes; `options` says what is done about it.
///
/// # Errors
/// Anything that keeps the file from being understood, as a [`DataError`] that names the file, the place in
/// it and the remedy. A damaged or hostile file gives an error, never a panic; the memory taken is at most
/// [`memory_limit`] of its size.
pub fn read(path: &Path, options: &ReadOptions) -> Result<(Dataset, Vec<Note>), DataError> {
    let mut reading = open(path, &Split::ALL, options)?;
    let dataset = reading.dataset()?;
    Ok((dataset, reading.notes))
}

/// Read one split of a file of recordings, and what the file says of where they come from; the other split is not
/// required to exist, and only its labels are looked at.
///
/// # Errors
/// As [`read`].
pub fn read_split(
    path: &Path,
    split: Split,
    options: &ReadOptions,
) -> Result<(Recordings, Origin, Vec<Note>), DataError> {
    let mut reading = open(path, &[split], options)?;
    let recordings = reading.split(split)?;
    let origin = reading.origin()?;
    Ok((recordings, origin, reading.notes))
}

/// The files that a path of recordings stands for: itself, or the `.npy` files of a folder or beside the one named.
///
/// # Errors
/// [`DataError::ArrayName`] if it is a folder without such files, or an `.npy` file of another name.
pub fn files(path: &Path, options: &ReadOptions) -> Result<Vec<PathBuf>, DataError> {
    match path.is_dir() || extension(path) == "npy" {
        true => npz::files(path, options),
        false => Ok(vec![path.to_owned()]),
    }
}

/// What format of recordings a file is in, if it is one that holds nothing else: `.npy`, `.npz` or MATLAB's.
pub fn recordings_format(path: &Path) -> Option<&'static str> {
    let mut file = File::open(path).ok().filter(|file| file.metadata().is_ok_and(|m| m.is_file()))?;
    let (looks_like, _) = looks_like(&mut file).ok()?;
    let is = match looks_like {
        Magic::Npy | Magic::Mat4 | Magic::Mat5 => true,
        Magic::Hdf5 => extension(path) == "mat",
        Magic::Zip => {
            let archive = Archive::new(file).ok()?;
            archive.names().next().is_some() && archive.names().all(|name| name.ends_with(".npy"))
        }
        _ => false,
    };
    is.then(|| looks_like.describe())
}

/// As [`read`], for a file in memory that would be called `name`. `.npy` files are read from a disk only.
///
/// # Errors
/// As [`read`].
pub fn read_bytes(
    name: &str,
    bytes: &[u8],
    options: &ReadOptions,
) -> Result<(Dataset, Vec<Note>), DataError> {
    let path = Path::new(name);
    let mut reading = open_stream(path, Cursor::new(bytes), &Split::ALL, options)?;
    let dataset = reading.dataset()?;
    Ok((dataset, reading.notes))
}

/// Write both splits as a MATLAB level 5 file, not compressed: doubles, one column a recording, labels 1..3 in a
/// column (see [`mat`]); also the scalars `samples` (W), `sample_rate_hz` where it is not 30,000, and `nerve_seed` and
/// `nerve_animal` where the nerve is known.
///
/// The file appears whole or not at all, see [`escape_files::write_atomically`]. Equal data give equal bytes.
///
/// # Errors
/// [`DataError::Inconsistent`] when the arrays of a split do not fit each other, [`DataError::Unwritable`] when the
/// format cannot hold them (2 GiB or more as doubles), [`DataError::Io`] when writing fails.
pub fn write_mat(path: &Path, dataset: &Dataset) -> Result<(), DataError> {
    mat::save(path, dataset)
}

/// Write both splits as `.npz`: `train_x` float32 N x H x W, `train_y` int64 N (0..2), `test_x`, `test_y`,
/// and the scalars `contacts` (int64), `sample_rate_hz` (float64), and `nerve_seed` and `nerve_animal` (int64) where the
/// nerve is known.
///
/// The file appears whole or not at all, see [`escape_files::write_atomically`]. Equal data give equal bytes.
///
/// # Errors
/// [`DataError::Inconsistent`] when the arrays of a split do not fit each other, [`DataError::Io`] when
/// writing fails.
pub fn write_npz(path: &Path, dataset: &Dataset) -> Result<(), DataError> {
    npz::save(path, dataset)
}

/// Open a file, or `.npy` files, for the splits asked for.
fn open<'a>(path: &'a Path, wanted: &[Split], options: &'a ReadOptions) -> Result<Reading<'a>, DataError> {
    if path.is_dir() || extension(path) == "npy" {
        if !path.exists() {
            return Err(DataError::Missing { path: path.to_owned() });
        }
        let (files, bytes, title) = npz::open_files(path, options)?;
        return Reading::new(Box::new(files), path, is_raw(&title), wanted, options, budget::of_file(bytes));
    }
    if let Some((arrays, length)) = torch::open(path, options)? {
        let raw = is_raw(stem(path));
        return Reading::new(Box::new(arrays), path, raw, wanted, options, budget::of_file(length));
    }
    open_stream(path, File::open(path).map_err(|e| DataError::open(path, e))?, wanted, options)
}

/// Open a file that is one stream.
fn open_stream<'a, R: Read + Seek + 'a>(
    path: &'a Path,
    mut file: R,
    wanted: &[Split],
    options: &'a ReadOptions,
) -> Result<Reading<'a>, DataError> {
    let (looks_like, length) = looks_like(&mut file).map_err(|e| DataError::io(path, "read", e))?;
    let mut budget = budget::of_file(length);
    let wrong = |expected, hint| DataError::WrongFormat {
        path: path.to_owned(),
        expected,
        looks_like: looks_like.describe(),
        hint,
    };
    let source: Box<dyn Source + 'a> = match (extension(path).as_str(), looks_like) {
        ("mat", Magic::Zip) => return Err(wrong("a MATLAB file", "rename it to .npz")),
        ("npz", Magic::Mat4 | Magic::Mat5 | Magic::Hdf5) => {
            return Err(wrong("an .npz archive", "rename it to .mat"));
        }
        (_, Magic::Zip) => Box::new(npz::open(path, file, &mut budget)?),
        (_, Magic::Mat4) => Box::new(mat4::open(path, file, length, &mut budget)?),
        (_, Magic::Mat5) => Box::new(mat::open(path, file, length, &mut budget)?),
        (_, Magic::Hdf5) => Box::new(hdf5::open(path, file, length, &mut budget)?),
        (_, Magic::Octave) => {
            return Err(wrong("a MATLAB file", "save it in Octave with save -v7 or save -hdf5"));
        }
        ("npz", _) => {
            return Err(wrong("an .npz archive", "write it with numpy.savez or the data commands"));
        }
        ("mat", Magic::Gzip) => {
            return Err(wrong(
                "a MATLAB file",
                "unpack it, or if Octave wrote it with -zip, save it with save -v7 or save -hdf5 instead",
            ));
        }
        ("mat", _) => return Err(wrong("a MATLAB file", "save it in MATLAB with -v7")),
        (_, other) => {
            return Err(DataError::UnknownFormat { path: path.to_owned(), looks_like: other.describe() });
        }
    };
    Reading::new(source, path, is_raw(stem(path)), wanted, options, budget)
}

/// The name of a file without its extension.
fn stem(path: &Path) -> &str {
    path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default()
}

/// The extension in lower case.
fn extension(path: &Path) -> String {
    path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase()
}

/// Whether a name says that the file holds microvolts.
fn is_raw(stem: &str) -> bool {
    stem.to_ascii_lowercase().ends_with("_raw")
}

/// What the first bytes of a file say it is; only for choosing a reader and for error messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Magic {
    Empty,
    Zip,
    Npy,
    Mat4,
    Mat5,
    Hdf5,
    Octave,
    Gzip,
    Text,
    Other,
}

impl Magic {
    fn describe(self) -> &'static str {
        match self {
            Self::Empty => "an empty file",
            Self::Zip => "a zip archive (.npz)",
            Self::Npy => "a single NumPy array (.npy)",
            Self::Mat4 => "a MATLAB level 4 file (.mat)",
            Self::Mat5 => "a MATLAB level 5 file (.mat)",
            Self::Hdf5 => "an HDF5 file (MATLAB level 7.3 .mat, .h5)",
            Self::Octave => "a file in Octave's own text or binary format",
            Self::Gzip => "a gzip file (unpack it first)",
            Self::Text => "text",
            Self::Other => "unknown binary data",
        }
    }
}

/// Recognise a file by its first 520 bytes; also gives its length.
fn looks_like(file: &mut (impl Read + Seek)) -> io::Result<(Magic, u64)> {
    const HDF5: &[u8] = b"\x89HDF\r\n\x1a\n";
    let mut head = Vec::with_capacity(520);
    file.take(520).read_to_end(&mut head)?;
    let length = file.seek(SeekFrom::End(0))?;
    file.seek(SeekFrom::Start(0))?;
    // MATLAB puts 512 bytes of its own before the HDF5 signature.
    let hdf5 = head.starts_with(HDF5) || head.get(512..).is_some_and(|rest| rest.starts_with(HDF5));
    let level = |low: &[u8], high: &[u8]| {
        matches!(head.get(124..128), Some([a, b, b'I', b'M']) if [*a, *b] == *low)
            || matches!(head.get(124..128), Some([a, b, b'M', b'I']) if [*a, *b] == *high)
    };
    let magic = if head.is_empty() {
        Magic::Empty
    } else if hdf5 || head.starts_with(b"MATLAB 7.3 MAT-file") || level(&[0, 2], &[2, 0]) {
        Magic::Hdf5
    } else if head.starts_with(LOCAL) || head.starts_with(END) {
        Magic::Zip
    } else if head.starts_with(b"\x93NUMPY") {
        Magic::Npy
    } else if matches!(head.get(126..128), Some(b"IM" | b"MI")) {
        Magic::Mat5
    } else if head.starts_with(b"# Created by Octave") || head.starts_with(b"Octave-1-") {
        Magic::Octave
    } else if head.starts_with(b"\x1f\x8b") {
        Magic::Gzip
    } else if mat4::is_mat4(&head) {
        Magic::Mat4
    } else if head.iter().all(|&b| b.is_ascii_graphic() || b.is_ascii_whitespace()) {
        Magic::Text
    } else {
        Magic::Other
    };
    Ok((magic, length))
}
