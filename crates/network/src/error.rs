//! What can be wrong with a network's description.

use crate::shape::{MOST_LAYERS, MOST_PARAMETERS, MOST_VALUES, Shape};

/// A network that cannot be.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum NetworkError {
    /// Recordings of a shape that no network takes.
    #[error(
        "input: expected channels x rows x columns of at least 1 and at most {MOST_VALUES} values, got {0}"
    )]
    Input(Shape),
    /// More layers than any network has.
    #[error("{0} layers, expected at most {MOST_LAYERS}")]
    Layers(usize),
    /// More parameters than any machine here would train.
    #[error("{0} parameters in all, expected at most {MOST_PARAMETERS}")]
    Parameters(usize),
    /// A layer that does not fit.
    #[error("layer {number} ({what}) {why}")]
    Layer {
        /// From 1.
        number: usize,
        /// Its name and kind.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// A layer that spikes cannot stand for.
    #[error("layer {number} ({what}) has no spiking counterpart: {why}")]
    NoSpikes {
        /// From 1.
        number: usize,
        /// Its name and kind.
        what: String,
        /// Why, and what to do.
        why: String,
    },
    /// A last layer whose output is no logits.
    #[error(
        "{0}, the last layer with weights, has a ReLU or a pooling behind it, so that there is no readout; take them out"
    )]
    NoReadout(String),
    /// Nothing to train or to convert.
    #[error("no layer with weights; a network needs a conv2d or a linear layer")]
    NoWeights,
    /// The last layer gives planes.
    #[error("the last layer gives {0}, expected a feature a class; end with a flatten and a linear layer")]
    NotFlat(Shape),
    /// Another number of class names than of outputs.
    #[error("{named} class name(s) for {outputs} outputs of the last layer")]
    Classes {
        /// Names.
        named: usize,
        /// Outputs.
        outputs: usize,
    },
    /// Two classes of one name.
    #[error("the class name '{0}' is there twice")]
    ClassTwice(String),
}

impl NetworkError {
    /// Of a layer by its place from 0, its name and kind.
    pub(crate) fn layer(index: usize, what: String, why: String) -> Self {
        Self::Layer { number: index + 1, what, why }
    }

    /// Of a layer by its place from 0, its name and kind.
    pub(crate) fn no_spikes(index: usize, what: String, why: &str) -> Self {
        Self::NoSpikes { number: index + 1, what, why: why.to_owned() }
    }
}
