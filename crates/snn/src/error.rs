//! What can go wrong with a spiking network, and how it is said.

use escape_checkpoint::CheckpointError;

/// Why a spiking network cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnnError {
    /// Its checkpoint could not be read or matched.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The network in a file has no spiking counterpart, or constants that no neuron can have.
    #[error("{0}")]
    Network(String),
}
