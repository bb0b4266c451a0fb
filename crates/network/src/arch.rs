//! The members of the ESCAPE-NET family: their names, and what is common to networks of each.
//!
//! Source: the network definitions of the study (github.com/shafinulh/ESCAPE_NET_SNN, 2022). [`crate::family`] makes networks of
//! them.

use std::fmt;
use std::str::FromStr;

use crate::family::Family;

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

    /// Name and shape of every parameter of the network as published, in the order of PyTorch's `parameters()`.
    pub fn parameters(self) -> Vec<(String, Vec<usize>)> {
        let network = Family::published(self).network(CONTACTS, SAMPLES);
        let parameters = network.map(|network| network.parameters()).unwrap_or_default();
        parameters.into_iter().map(|p| (p.name, p.shape)).collect()
    }

    /// The member whose parameters have these names, if any.
    pub fn detect<'a>(names: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let mut found: Vec<&str> = names.into_iter().collect();
        found.sort_unstable();
        Self::ALL.into_iter().find(|a| {
            let mut expected: Vec<String> = a.parameters().into_iter().map(|p| p.0).collect();
            expected.sort_unstable();
            expected == found
        })
    }
}

/// The member whose parameters have most of these names and shapes, names counting where that leaves a choice, so
/// that there is something to compare other weights with; of equals the first, the modified network before all.
pub fn nearest(found: &[(&str, &[usize])]) -> Architecture {
    let likeness = |arch: Architecture| {
        let parameters = arch.parameters();
        // What the file has not speaks against a member: the stages are parts of the original by name.
        let score = |fits: &dyn Fn(&str, &[usize]) -> bool| {
            let missing = parameters.iter().filter(|(name, shape)| !fits(name, shape)).count();
            parameters.len() as isize - 2 * missing as isize
        };
        let whole = score(&|name, shape| found.contains(&(name, shape)));
        let named = score(&|name, _| found.iter().any(|(other, _)| *other == name));
        (whole, named)
    };
    let mut best = Architecture::Modified;
    for arch in Architecture::ALL {
        if likeness(arch) > likeness(best) {
            best = arch;
        }
    }
    best
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

#[cfg(test)]
mod tests {
    use super::*;

    fn totals(a: Architecture) -> usize {
        a.parameters().iter().map(|(_, s)| s.iter().product::<usize>()).sum()
    }

    #[test]
    fn sizes_are_those_of_the_study() {
        assert_eq!(totals(Architecture::Modified), 5_821_184);
        assert_eq!(totals(Architecture::Original), 5_821_635);
    }

    #[test]
    fn incremental_stages_share_the_trunk() {
        let shape = |a: Architecture, key: &str| a.parameters().into_iter().find(|p| p.0 == key).unwrap().1;
        assert_eq!(shape(Architecture::Ig1, "classifier.0.weight"), [256, 22400]);
        assert_eq!(shape(Architecture::Ig2, "classifier.0.weight"), [256, 64 * 7 * 12]);
        for key in ["features.0.weight", "features.0.bias", "features.3.weight"] {
            assert_eq!(shape(Architecture::Ig2, key), shape(Architecture::Original, key));
        }
    }

    #[test]
    fn every_member_is_detected_by_its_names() {
        for a in Architecture::ALL {
            let names: Vec<String> = a.parameters().into_iter().map(|p| p.0).collect();
            assert_eq!(Architecture::detect(names.iter().map(String::as_str)), Some(a));
            assert_eq!(a.to_string().parse::<Architecture>().unwrap(), a);
        }
        assert_eq!(Architecture::detect(["features.0.weight"]), None);
    }

    #[test]
    fn the_nearest_member_is_found_with_names_missing_or_added() {
        for a in Architecture::ALL {
            let parameters = a.parameters();
            let mut found: Vec<(&str, &[usize])> =
                parameters.iter().map(|(n, s)| (n.as_str(), &s[..])).collect();
            assert_eq!(nearest(&found), a);
            found.push(("extra", &[1]));
            assert_eq!(nearest(&found), a);
            found.remove(0);
            assert_eq!(nearest(&found), a, "without its first weight");
        }
        assert_eq!(nearest(&[]), Architecture::Modified);
    }
}
