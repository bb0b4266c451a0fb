//! The errors of this module: what, in which file and where, expected against got, what to do.

use std::io;
use std::path::{Path, PathBuf};

use escape_files::budget::{EXPANSION, MemoryError};

use super::budget::SLACK;
use super::dtype::DType;
use super::report::LoadReport;
use escape_files::text::shown;

/// Why a checkpoint could not be read, written or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// There is nothing at the path.
    #[error("no checkpoint at {path}: the file does not exist; check the path")]
    Missing {
        /// The file asked for.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("could not {operation} checkpoint {path}")]
    Io {
        /// The file concerned.
        path: PathBuf,
        /// What was tried, as a verb: `open`, `read`, `write`.
        operation: &'static str,
        /// What the system answered.
        source: io::Error,
    },
    /// Something else than a checkpoint.
    #[error(
        "{path} is not a checkpoint: expected a file of torch.save, .safetensors or a Keras model, got {looks_like}; {hint}"
    )]
    NotACheckpoint {
        /// The file.
        path: PathBuf,
        /// What its content looks like.
        looks_like: String,
        /// What to do about it.
        hint: String,
    },
    /// An archive of `torch.jit.save`, which holds a program.
    #[error(
        "{path} is a TorchScript archive (it holds {entry}), expected a dictionary of tensors: export its state dict \
         in Python with torch.save(torch.jit.load('old.pt', map_location='cpu').state_dict(), 'new.pth')"
    )]
    TorchScript {
        /// The file.
        path: PathBuf,
        /// The entry that gives it away.
        entry: String,
    },
    /// The file breaks its own format: truncated, corrupted or hostile.
    #[error("{path} is damaged: {problem}; copy or download the file again, or save it anew")]
    Damaged {
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
        /// What is not supported, where, and what to do instead.
        problem: String,
    },
    /// The file would take far more memory than its size warrants.
    #[error(
        "refused {path}: {problem}; if the file is genuine, save it anew, not compressed (with torch.save: long lists as tensors, views \
         cloned)"
    )]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// What asks for how much, and how much is allowed.
        problem: String,
    },
    /// A value that cannot be written.
    #[error("cannot write checkpoint{}: {at}: {problem}", place(path))]
    Unwritable {
        /// The file that was to be written.
        path: Option<PathBuf>,
        /// Where in the value, as Python would index it.
        at: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Readable, but not the study's dictionary or a state dict.
    #[error("wrong content of checkpoint{}: {at}: expected {expected}, got {got}", place(path))]
    Content {
        /// The file, if the value came from one.
        path: Option<PathBuf>,
        /// Where in the dictionary.
        at: String,
        /// What would do.
        expected: String,
        /// What is there, and what to do if that is not plain.
        got: String,
    },
    /// What was asked for is not in the file.
    #[error("{}{problem}", file(path))]
    Choice {
        /// The file, if the value came from one.
        path: Option<PathBuf>,
        /// What was asked for, and what there is.
        problem: String,
    },
    /// The network's parameters and the file's do not match.
    #[error(
        "weights of {path} do not fit: expected {network}, got {holds}; {}\n{report}", report.remedy()
    )]
    Mismatch {
        /// The file.
        path: PathBuf,
        /// What would have fitted, in words.
        network: String,
        /// What the file holds, in words.
        holds: String,
        /// Every key of both.
        report: Box<LoadReport>,
    },
    /// A network was made for recordings of another shape.
    #[error(
        "{path}: the network takes recordings {takes}, but these have {contacts} contacts x {samples} samples; give it \
         recordings of that shape, or train one for these with `escape-snn train`\n{report}"
    )]
    OtherRecordings {
        /// The checkpoint.
        path: PathBuf,
        /// The shape that it takes, and how that is known.
        takes: String,
        /// Contacts of the recordings (H).
        contacts: usize,
        /// Samples of the recordings (W).
        samples: usize,
        /// Every key of the network and of the file.
        report: Box<LoadReport>,
    },
    /// Recordings that the network in the file cannot take.
    #[error("{path} is no network for recordings of {contacts} contacts x {samples} samples: {why}")]
    Network {
        /// The file.
        path: PathBuf,
        /// Rows of the recordings.
        contacts: usize,
        /// Their columns.
        samples: usize,
        /// What does not fit.
        why: escape_network::NetworkError,
    },
    /// The description of a network that a file keeps is none.
    #[error(transparent)]
    Description(#[from] crate::description::DescriptionError),
    /// Recordings that a network's weights may fit, but not what it knows of them; see [`crate::input`].
    #[error("{0}")]
    OtherInput(String),
    /// A weight is kept as whole numbers.
    #[error(
        "{path}: {name} holds whole numbers ({dtype}), as a quantised layer does, and not the weights that they stand for; \
         save those in Python: tensor.dequantize() of a quantised tensor{}", scaled(name, scale.as_deref())
    )]
    WholeNumbers {
        /// The file.
        path: PathBuf,
        /// The parameter.
        name: String,
        /// Its element type.
        dtype: DType,
        /// The file's tensor that seems to hold its scale.
        scale: Option<String>,
    },
    /// A weight is NaN or infinite.
    #[error(
        "{path}: {name} holds a value that is no finite number (at position {at}); its training diverged, take an \
         earlier checkpoint"
    )]
    NotFinite {
        /// The file.
        path: PathBuf,
        /// The parameter.
        name: String,
        /// Which of its values, counted from 0.
        at: usize,
    },
}

impl CheckpointError {
    pub(crate) fn open(path: &Path, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::NotFound => Self::Missing { path: path.to_owned() },
            _ => Self::Io { path: path.to_owned(), operation: "open", source },
        }
    }

    pub(crate) fn content(
        at: impl Into<String>,
        expected: impl Into<String>,
        got: impl Into<String>,
    ) -> Self {
        Self::Content { path: None, at: at.into(), expected: expected.into(), got: got.into() }
    }

    /// Of a value that cannot be written, at a place given as Python would index it; empty for the whole.
    pub(crate) fn unwritable(at: &str, problem: impl Into<String>) -> Self {
        let at = if at.is_empty() { "the value itself" } else { at };
        Self::Unwritable { path: None, at: at.to_owned(), problem: problem.into() }
    }

    pub(crate) fn choice(problem: impl Into<String>) -> Self {
        Self::Choice { path: None, problem: problem.into() }
    }

    /// Names the file in an error that was raised without one.
    pub fn in_file(mut self, file: &Path) -> Self {
        if let Self::Content { path: path @ None, .. }
        | Self::Choice { path: path @ None, .. }
        | Self::Unwritable { path: path @ None, .. } = &mut self
        {
            *path = Some(file.to_owned());
        }
        // Lines of Python name the file.
        if let Self::Content { got, .. } = &mut self {
            *got = got.replace("'FILE'", &format!("'{}'", file.display()));
        }
        self
    }
}

/// The line of Python that makes weights of whole numbers.
fn scaled(name: &str, scale: Option<&str>) -> String {
    let name = shown(name);
    match scale {
        Some(scale) => format!(", here perhaps state['{name}'].float() * state['{}']", shown(scale)),
        None => format!(", or state['{name}'].float() * scale with the scale that they were divided by"),
    }
}

fn file(path: &Option<PathBuf>) -> String {
    path.as_ref().map(|p| format!("{}: ", p.display())).unwrap_or_default()
}

fn place(path: &Option<PathBuf>) -> String {
    path.as_ref().map(|p| format!(" {}", p.display())).unwrap_or_default()
}

/// An error below the level that knows the file's name.
#[derive(Debug)]
pub(crate) enum Fault {
    Io(io::Error),
    Damaged(String),
    Unsupported(String),
    TooLarge(String),
    /// Damaged, in that the bytes end where more are expected; what follows may be known elsewhere.
    CutShort(String),
    /// Another kind of file altogether: what it looks like, and what to do.
    Other {
        looks_like: String,
        hint: String,
    },
    /// A TorchScript archive, by the entry that gives it away.
    TorchScript(String),
}

impl From<io::Error> for Fault {
    /// What `escape_files` says of content and memory is no fault of the system's.
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::InvalidData => Self::damaged(error.to_string()),
            io::ErrorKind::OutOfMemory => Self::TooLarge(error.to_string()),
            _ => Self::Io(error),
        }
    }
}

impl From<MemoryError> for Fault {
    fn from(error: MemoryError) -> Self {
        Self::TooLarge(match error {
            MemoryError::Limit { what, bytes, file } => format!(
                "{what} would take {bytes} bytes of memory, and with that the file more than {EXPANSION} times its \
                 {file} bytes and {SLACK}"
            ),
            MemoryError::System { .. } => error.to_string(),
        })
    }
}

impl Fault {
    pub(crate) fn damaged(problem: impl Into<String>) -> Self {
        Self::Damaged(problem.into())
    }

    pub(crate) fn unsupported(problem: impl Into<String>) -> Self {
        Self::Unsupported(problem.into())
    }

    /// Says where in the value the trouble is, outwards: `['a']` and then `['b']` make `['b']['a']`.
    pub(crate) fn within(mut self, place: &str) -> Self {
        if let Self::Damaged(problem)
        | Self::CutShort(problem)
        | Self::Unsupported(problem)
        | Self::TooLarge(problem) = &mut self
        {
            let colon = if problem.starts_with('[') { "" } else { ": " };
            *problem = format!("{place}{colon}{problem}");
        }
        self
    }

    pub(crate) fn at(self, path: &Path) -> CheckpointError {
        let path = path.to_owned();
        match self {
            Self::Io(source) => CheckpointError::Io { path, operation: "read", source },
            Self::Damaged(problem) | Self::CutShort(problem) => CheckpointError::Damaged { path, problem },
            Self::Unsupported(problem) => CheckpointError::Unsupported { path, problem },
            Self::TooLarge(problem) => CheckpointError::TooLarge { path, problem },
            Self::Other { looks_like, hint } => CheckpointError::NotACheckpoint { path, looks_like, hint },
            Self::TorchScript(entry) => CheckpointError::TorchScript { path, entry },
        }
    }
}
