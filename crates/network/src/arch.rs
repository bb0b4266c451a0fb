//! The members of the ESCAPE-NET family: their names, and what is common to networks of each.
//!
//! Source: the network definitions of the study (github.com/shafinulh/ESCAPE_NET_SNN, 2022). [`crate::family`] makes networks of
//! them.

use std::fmt;
use std::str::FromStr;

/// Number of classes.
pub const CLASSES: usize = 3;
/// Name of each class, in the order of the labels 0, 1, 2.
pub const CLASS_NAMES: [&str; CLASSES] = ["dorsiflexion", "plantarflexion", "pricking"];
/// What a class of `classes` is called: one of the nerve's three pathways, or its number.
pub fn class_name(class: usize, classes: usize) -> String {
    match CLASS_NAMES.get(class) {
        Some(name) if classes == CLASSES => (*name).to_owned(),
        _ => format!("class {class}"),
    }
}

/// Contacts (H) of the cuff the published networks were made for: 7 rings of 8, row = ring * 8 + angle.
pub const CONTACTS: usize = 56;
/// Samples (W) of one recording: 3.33 ms at 30 kHz.
pub const SAMPLES: usize = 100;
/// A network of the family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    /// Average pooling, no bias, no dropout: the one that converts to a spiking network.
    Modified,
    /// ESCAPE-NET as first published: maximum pooling, biases, dropout before the last layer.
    Original,
    /// First stage of the original's incremental training: one convolution.
    Ig1,
    /// Second stage: two convolutions.
    Ig2,
}

impl Architecture {
    /// Every member, in the order of the command line's help.
    pub const ALL: [Self; 4] = [Self::Modified, Self::Original, Self::Ig1, Self::Ig2];

    /// The stages in which the study grew the original network, each from the convolutions of the one before.
    pub const STAGES: [Self; 3] = [Self::Ig1, Self::Ig2, Self::Original];

    /// Whether layers add a bias.
    pub fn has_bias(self) -> bool {
        self != Self::Modified
    }

    /// Whether pooling takes the maximum (otherwise the mean).
    pub fn max_pooling(self) -> bool {
        self != Self::Modified
    }

    /// Whether half of the hidden features are dropped before the last layer in training.
    pub fn has_dropout(self) -> bool {
        self != Self::Modified
    }
}

/// Channels of every convolution.
pub const CHANNELS: usize = 64;
/// Features between the two linear layers.
pub const HIDDEN: usize = 256;

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Modified => "modified",
            Self::Original => "original",
            Self::Ig1 => "ig1",
            Self::Ig2 => "ig2",
        })
    }
}

impl FromStr for Architecture {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|a| a.to_string() == text)
            .ok_or_else(|| format!("unknown network '{text}': expected modified, original, ig1 or ig2"))
    }
}
