//! What can go wrong with a network, and how it is said.

use std::path::PathBuf;

use crate::checkpoint::{CheckpointError, LoadReport};

/// Failures of building, loading, running or training a network.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// A checkpoint could not be read, written or matched to a network.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A checkpoint holds a network that is none of the family.
    #[error(
        "{path}: this is no network of the ESCAPE-NET family: {why}; `escape-snn checkpoint inspect` lists what is in it"
    )]
    UnknownNetwork {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        why: String,
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
    /// Recordings that a network's weights may fit, but not what it knows of them; see [`crate::input`].
    #[error("{0}")]
    Input(String),
    /// The data do not suit the network or the operation.
    #[error("{0}")]
    Data(String),
    /// The asked-for device is not there.
    #[error("{0}")]
    Device(String),
    /// libtorch refused an operation; its own words, first line only.
    #[error("libtorch: {0}")]
    Torch(String),
    /// The caller asked to stop.
    #[error("interrupted")]
    Interrupted,
}

impl From<tch::TchError> for ModelError {
    /// Keeps libtorch's sentence and drops its C++ stack trace.
    fn from(error: tch::TchError) -> Self {
        let text = error.to_string();
        let line = text.lines().find(|l| !l.trim().is_empty()).unwrap_or("unknown error");
        Self::Torch(line.trim_start_matches("Internal torch error: ").trim().to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_libtorch_error_is_one_line() {
        let a = tch::Tensor::zeros([2, 3], tch::kind::FLOAT_CPU);
        let b = tch::Tensor::zeros([2, 3], tch::kind::FLOAT_CPU);
        let error = ModelError::from(a.f_matmul(&b).unwrap_err()).to_string();
        assert!(error.contains("shapes cannot be multiplied"), "{error}");
        assert!(!error.contains('\n') && !error.contains("frame #"), "{error}");
    }
}
