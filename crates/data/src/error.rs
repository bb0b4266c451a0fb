//! The errors of this crate: what, in which file and where, expected against got, what to do.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use escape_checkpoint::CheckpointError;
use escape_files::archive::ArchiveError;
use escape_files::budget::MemoryError;
use escape_files::text::{self, shown};

use crate::recordings::{Inconsistent, Split};
use escape_network::arch::{CLASS_NAMES, CLASSES};

/// Where in a split a value stands; all counts start at 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Index of the recording within its split, below N.
    pub recording: usize,
    /// Contact (row), below H.
    pub contact: usize,
    /// Sample (column), below W.
    pub sample: usize,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "recording {}, contact {}, sample {}", self.recording, self.contact, self.sample)
    }
}

/// Why recordings could not be read, written or simulated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// There is nothing at the path.
    #[error("no recordings at {path}: the file does not exist; check the path, or simulate recordings first")]
    Missing {
        /// The file asked for.
        path: PathBuf,
    },
    /// A torch or safetensors file could not be read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The file holds a network.
    #[error(
        "{path}: this is a checkpoint ({what}), expected recordings; have --data and --checkpoint changed places?"
    )]
    Network {
        /// The file.
        path: PathBuf,
        /// Which network.
        what: String,
    },
    /// The operating system refused.
    #[error("could not {operation} {path}")]
    Io {
        /// The file concerned.
        path: PathBuf,
        /// What was tried, as a verb: `open`, `read`, `create`, `write`.
        operation: &'static str,
        /// What the system answered.
        source: io::Error,
    },
    /// Neither the extension nor the content names a format that can be read.
    #[error("cannot tell the format of {path}: expected .npz or .mat, got {looks_like}; convert it to .npz")]
    UnknownFormat {
        /// The file.
        path: PathBuf,
        /// What its first bytes look like.
        looks_like: &'static str,
    },
    /// The content is not what the extension says.
    #[error("{path} is not {expected}: its content looks like {looks_like}; {hint}")]
    WrongFormat {
        /// The file.
        path: PathBuf,
        /// The format its extension names.
        expected: &'static str,
        /// What its first bytes look like.
        looks_like: &'static str,
        /// What to do about it.
        hint: &'static str,
    },
    /// The name of a single NumPy array does not say which of the four it is.
    #[error(
        "cannot tell what {path} holds: expected recordings as train_x.npy, train_y.npy, test_x.npy and test_y.npy, all \
         with one beginning (rat2_train_x.npy, ...) or in a folder of their own; rename it, or put the arrays into one \
         .npz with numpy.savez"
    )]
    ArrayName {
        /// The file or folder.
        path: PathBuf,
    },
    /// What the file holds takes more memory than its size warrants.
    #[error(
        "cannot read {path}: {what} takes {bytes} bytes of memory, and with the rest of the file that is more than the \
         {limit} that a file of {file} bytes may take; save it anew without compression (MATLAB: save -v6; NumPy: savez)",
        limit = crate::memory_limit(*file)
    )]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// What was to be read.
        what: String,
        /// The memory for it.
        bytes: u64,
        /// Size of the file in bytes.
        file: u64,
    },
    /// The file breaks its own format: truncated, corrupted or hostile.
    #[error("{path} is damaged: {problem}; copy or export the file again")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        problem: String,
    },
    /// Sound, but of a kind this reader does not read.
    #[error("cannot read {path}: {problem}")]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// What is not supported and what to do instead.
        problem: String,
    },
    /// The format cannot hold the recordings.
    #[error("cannot write {path}: {problem}")]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// What does not fit and what to do instead.
        problem: String,
    },
    /// An array (of an `.npz`) or a variable (of a `.mat`) is absent.
    #[error(
        "{path} has no array {name}: it holds {}; say which of them are recordings and labels with --x NAME --y NAME, \
         name them as expected, or ask for the other split",
        list(present)
    )]
    MissingArray {
        /// The file.
        path: PathBuf,
        /// The array looked for.
        name: String,
        /// The arrays present.
        present: Vec<String>,
    },
    /// An array has a shape that cannot be recordings or labels.
    #[error("wrong shape of {name} in {path}: expected {expected}, got {}", shape(got))]
    WrongShape {
        /// The file.
        path: PathBuf,
        /// The array.
        name: String,
        /// The shapes that would do.
        expected: String,
        /// Its shape.
        got: Vec<u64>,
    },
    /// An array fits the recordings' shape by what was said of it only.
    #[error("{path}: {name} is {}: {problem}", shape(got))]
    Misfit {
        /// The file.
        path: PathBuf,
        /// The array.
        name: String,
        /// Its shape.
        got: Vec<u64>,
        /// What does not fit, and what to do.
        problem: String,
    },
    /// Contacts hold NaN or infinities in most recordings.
    #[error(
        "{split} split of {path}: {} {} NaN or an infinity in more than half of the {of} recordings, as a broken \
         electrode does; zero such contacts or take their neighbours' mean with --bad-contacts zero or mean",
        contacts_named(contacts), if contacts.len() == 1 { "holds" } else { "hold" }
    )]
    BadContacts {
        /// The file.
        path: PathBuf,
        /// The split.
        split: Split,
        /// The contacts.
        contacts: Vec<usize>,
        /// Recordings in the split.
        of: usize,
    },
    /// Every recording of a split was left out.
    #[error(
        "{split} split of {path}: nothing is left of {of} recordings: {not_finite} with NaN or an infinity, {constant} \
         constant, {label} whose label is no class; repair the file, or broken contacts with --bad-contacts zero or mean"
    )]
    NothingLeft {
        /// The file.
        path: PathBuf,
        /// The split.
        split: Split,
        /// Recordings in the split.
        of: usize,
        /// How many hold NaN or an infinity.
        not_finite: usize,
        /// How many hold one value only.
        constant: usize,
        /// How many have a label that is no class.
        label: usize,
    },
    /// An array has an element type that cannot be recordings or labels.
    #[error(
        "wrong element type of {name} in {path}: expected {expected}, got {}; convert the array",
        shown(got)
    )]
    WrongType {
        /// The file.
        path: PathBuf,
        /// The array.
        name: String,
        /// The types that would do.
        expected: &'static str,
        /// Its type, as the file words it.
        got: String,
    },
    /// Not one label for every recording.
    #[error(
        "{split} split of {path}: {recordings} recordings but {labels} labels; every recording needs one label{hint}"
    )]
    LabelCount {
        /// The file.
        path: PathBuf,
        /// The split.
        split: Split,
        /// Recordings in the split (N).
        recordings: usize,
        /// Labels in the split.
        labels: usize,
        /// Which dimension may count the recordings instead, or nothing.
        hint: String,
    },
    /// A label is not one of the classes.
    #[error(
        "label {index} of the {split} split of {path}: expected a whole number in {first}..={last}{}, got {value}; \
         correct it, say where labels start with --first-label or how many classes there are with --classes, or leave out all \
         such recordings with --drop-bad",
        classes(*first, *last)
    )]
    Label {
        /// The file.
        path: PathBuf,
        /// The split.
        split: Split,
        /// Index of the label, below N.
        index: usize,
        /// Its value.
        value: f64,
        /// The label of the first class.
        first: i64,
        /// The label of the last class.
        last: i64,
    },
    /// Labels start both at 0 and at 1.
    #[error(
        "labels of {path}: label {} of the {} split is 0 and label {} of the {} split is {classes}; expected all in 0..={} or all \
         in 1..={classes}, say which with --first-label (or how many classes there are with --classes), and leave out the others \
         with --drop-bad",
        zero.1, zero.0, last.1, last.0, classes - 1
    )]
    MixedLabels {
        /// The file.
        path: PathBuf,
        /// Split and index of the first 0.
        zero: (Split, usize),
        /// Split and index of the first K.
        last: (Split, usize),
        /// K, how many classes there are.
        classes: usize,
    },
    /// A value is NaN or infinite.
    #[error(
        "{split} split of {path}: {at} is {value}; expected a finite number, repair the recording, or leave out all such \
         ones with --drop-bad"
    )]
    NotFinite {
        /// The file.
        path: PathBuf,
        /// The split.
        split: Split,
        /// Where.
        at: Position,
        /// The value.
        value: f32,
    },
    /// A value, or all of a split, cannot be had as float32.
    #[error(
        "{split} split of {path}: {at} is {value:e}, {} what a float32 can hold; save the recordings in another unit, \
         or scaled",
        if value.abs() > 1.0 { "beyond" } else { "and no value is larger, which is below" }
    )]
    NoFloat32 {
        /// The file.
        path: PathBuf,
        /// The split.
        split: Split,
        /// Where.
        at: Position,
        /// The value.
        value: f64,
    },
    /// All values of a recording are equal.
    #[error(
        "{split} split of {path}: recording {recording} is constant ({value} throughout); expected a signal, so export it \
         again, or leave out all such recordings with --drop-bad"
    )]
    Constant {
        /// The file.
        path: PathBuf,
        /// The split.
        split: Split,
        /// Index of the recording, below N.
        recording: usize,
        /// Its value.
        value: f32,
    },
    /// A value lies outside [-1, 1].
    #[error(
        "{split} split of {path}: {at} is {value}; expected values in [-1, 1], so scale every recording first, e.g. \
         with --scaling per-recording: (x - min) / (max - min) * 2 - 1"
    )]
    OutOfRange {
        /// The file.
        path: PathBuf,
        /// The split.
        split: Split,
        /// Where.
        at: Position,
        /// The value.
        value: f32,
    },
    /// The two splits hold recordings of different shapes.
    #[error(
        "the splits of {path} differ: train is N x {} x {}, test N x {} x {} (contacts x samples); both must come \
         from the same cuff and window", train[0], train[1], test[0], test[1]
    )]
    SplitsDiffer {
        /// The file.
        path: PathBuf,
        /// H and W of the training split.
        train: [usize; 2],
        /// H and W of the test split.
        test: [usize; 2],
    },
    /// Recordings to be written do not fit together.
    #[error("cannot write the {split} split to {path}")]
    Inconsistent {
        /// The file that was to be written.
        path: PathBuf,
        /// The split.
        split: Split,
        /// What does not fit.
        source: Inconsistent,
    },
    /// The simulator's configuration cannot be used; all problems at once.
    #[error("simulator configuration{}: {}", place(path), problems.join("; "))]
    Config {
        /// The file it came from, if from one.
        path: Option<PathBuf>,
        /// Each problem, beginning with the field's name.
        problems: Vec<String>,
    },
    /// Memory for the recordings could not be had.
    #[error("not enough memory for {bytes} bytes of recordings{}; use fewer recordings", place(path))]
    OutOfMemory {
        /// The file, if they came from one.
        path: Option<PathBuf>,
        /// The bytes asked for.
        bytes: u64,
    },
}

impl DataError {
    pub(crate) fn open(path: &Path, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::NotFound => Self::Missing { path: path.to_owned() },
            _ => Self::io(path, "open", source),
        }
    }

    pub(crate) fn io(path: &Path, operation: &'static str, source: io::Error) -> Self {
        Self::Io { path: path.to_owned(), operation, source }
    }

    pub(crate) fn malformed(path: &Path, problem: impl Into<String>) -> Self {
        Self::Malformed { path: path.to_owned(), problem: problem.into() }
    }

    pub(crate) fn unsupported(path: &Path, problem: impl Into<String>) -> Self {
        Self::Unsupported { path: path.to_owned(), problem: problem.into() }
    }

    pub(crate) fn unwritable(path: &Path, problem: impl Into<String>) -> Self {
        Self::Unwritable { path: path.to_owned(), problem: problem.into() }
    }

    pub(crate) fn archive(path: &Path, error: ArchiveError) -> Self {
        match error {
            ArchiveError::Io(source) => Self::io(path, "read", source),
            ArchiveError::Damaged(problem) => Self::malformed(path, problem),
            ArchiveError::Unsupported(problem) => Self::unsupported(path, problem),
        }
    }

    pub(crate) fn memory(path: &Path, error: MemoryError) -> Self {
        match error {
            MemoryError::Limit { what, bytes, file } => {
                Self::TooLarge { path: path.to_owned(), what, bytes, file }
            }
            MemoryError::System { .. } => Self::unsupported(path, error.to_string()),
        }
    }

    /// An error while reading `what`: of the file's content, or of the system below.
    pub(crate) fn reading(path: &Path, what: &str, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::UnexpectedEof => Self::malformed(path, format!("{what} ends too early")),
            io::ErrorKind::Unsupported => Self::unsupported(path, format!("{what}: {source}")),
            io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => {
                Self::malformed(path, format!("{what}: {source}"))
            }
            io::ErrorKind::OutOfMemory => Self::unsupported(path, format!("not enough memory for {what}")),
            _ => Self::io(path, "read", source),
        }
    }
}

/// So many of a file's arrays are listed.
pub(crate) const LISTED: usize = 20;

fn list(names: &[String]) -> String {
    let some: Vec<String> = names.iter().take(LISTED).map(|name| shown(name)).collect();
    match names.len() {
        0 => "no arrays".to_owned(),
        n if n > LISTED => format!("{} and {} more", some.join(", "), n - LISTED),
        _ => some.join(", "),
    }
}

pub(crate) fn shape(dims: &[u64]) -> String {
    match dims {
        [] => "a scalar".to_owned(),
        _ => text::dims(dims),
    }
}

/// Which label is which class, of the nerve's three.
fn classes(first: i64, last: i64) -> String {
    if last - first + 1 != CLASSES as i64 {
        return String::new();
    }
    let named: Vec<_> =
        CLASS_NAMES.iter().zip(first..).map(|(name, label)| format!("{label} {name}")).collect();
    format!(" ({})", named.join(", "))
}

fn place(path: &Option<PathBuf>) -> String {
    path.as_ref().map(|p| format!(" in {}", p.display())).unwrap_or_default()
}

/// `contact 3` or `contacts 3, 7`, the first of many.
pub(crate) fn contacts_named(contacts: &[usize]) -> String {
    const SHOWN: usize = 12;
    let some: Vec<String> = contacts.iter().take(SHOWN).map(usize::to_string).collect();
    let more =
        if contacts.len() > SHOWN { format!(" and {} more", contacts.len() - SHOWN) } else { String::new() };
    format!("contact{} {}{more}", if contacts.len() == 1 { "" } else { "s" }, some.join(", "))
}
