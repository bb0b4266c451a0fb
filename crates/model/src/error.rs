//! What can go wrong with a network, and how it is said.

use escape_checkpoint::CheckpointError;

/// Failures of building, loading, running or training a network.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// A checkpoint could not be read, written or matched to a network.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
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
