//! How a file of recordings is to be understood, and what was found when it was.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::recordings::Split;
use crate::{CLASS_NAMES, CLASSES};

/// How a file of recordings is to be understood. The default decides by what is in the file and refuses what is
/// wrong with it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReadOptions {
    /// Whether recordings are scaled to [-1, 1].
    pub scaling: Rescale,
    /// The label of the first class, 0 or 1; `None`: what the labels say, and where they leave it open, 1 in `.mat`
    /// and 0 in NumPy's formats.
    pub first_label: Option<u8>,
    /// Leave out recordings that hold NaN, an infinity or one value only, or whose label is no class. Otherwise the
    /// first of them is an error.
    pub drop_bad: bool,
}

/// Whether a reader scales recordings: (x - min) / (max - min) * 2 - 1, min and max being those of the recording.
///
/// Written `auto`, `none` and `per-recording`. The arithmetic is float64, from the values as float32.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rescale {
    /// If the file's name ends in `_RAW` (of any case), or if more than half of a split's recordings leave [-1, 1].
    #[default]
    Auto,
    /// Never: whatever leaves [-1, 1] is an error.
    None,
    /// Always.
    PerRecording,
}

impl Rescale {
    /// Each of them, in the order of the command line's help.
    pub const ALL: [Self; 3] = [Self::Auto, Self::None, Self::PerRecording];
}

impl fmt::Display for Rescale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Auto => "auto",
            Self::None => "none",
            Self::PerRecording => "per-recording",
        })
    }
}

impl FromStr for Rescale {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|r| r.to_string() == name)
            .ok_or_else(|| format!("unknown scaling: expected auto, none or per-recording, got {name:?}"))
    }
}

/// Why recordings were scaled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The file's name ends in `_RAW`.
    Name,
    /// More than half of the recordings leave [-1, 1].
    Values {
        /// So many do.
        outside: usize,
    },
    /// It was asked for.
    Option,
}

/// Something that a reader found or decided, and that whoever uses the recordings should know.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "note", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Note {
    /// The format of the file.
    Format {
        /// In words.
        format: String,
    },
    /// Recordings were scaled one by one, see [`Rescale`].
    Scaled {
        /// The split.
        split: Split,
        /// How many recordings it has (N).
        recordings: usize,
        /// Why they were.
        reason: Reason,
        /// Smallest value before.
        min: f32,
        /// Largest value before.
        max: f32,
    },
    /// All labels are 1 or 2, so they could start at 0 or at 1; what the format says was taken.
    OpenLabels {
        /// The label that the first class was taken to have.
        first: u8,
    },
    /// Labels start at another number than usual in the format.
    UnusualLabels {
        /// The label of the first class.
        first: u8,
    },
    /// The file has one split only; the other one is taken to be empty.
    NoSplit {
        /// The absent one.
        split: Split,
    },
    /// A split has no recording of a class.
    EmptyClass {
        /// The split.
        split: Split,
        /// The class, 0..[`CLASSES`].
        class: usize,
    },
    /// Recordings were left out because [`ReadOptions::drop_bad`] asks for it.
    Dropped {
        /// The split.
        split: Split,
        /// How many recordings the file has.
        of: usize,
        /// How many of them hold NaN or an infinity.
        not_finite: usize,
        /// How many hold one value only.
        constant: usize,
        /// How many have a label that is no class.
        label: usize,
        /// The first of them.
        indices: Vec<usize>,
    },
}

impl Note {
    /// How many indices [`Note::Dropped`] keeps.
    pub(crate) const INDICES: usize = 5;
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Format { format } => f.write_str(format),
            Self::Scaled { split, recordings, reason, min, max } => {
                write!(
                    f,
                    "{split}: scaled each of {recordings} recordings to [-1, 1] (values from {min} to {max}): "
                )?;
                match reason {
                    Reason::Name => f.write_str("the file's name ends in _RAW, so it holds microvolts"),
                    Reason::Values { outside } => {
                        write!(f, "{outside} of them leave [-1, 1], so these are taken for raw microvolts")
                    }
                    Reason::Option => f.write_str("as asked for"),
                }
            }
            Self::OpenLabels { first } => write!(
                f,
                "all labels are 1 or 2: taken to start at {first}, as usual in this format ({} is {}); --first-label \
                 says otherwise",
                1,
                CLASS_NAMES[usize::from(1 - first)]
            ),
            Self::UnusualLabels { first } => write!(
                f,
                "labels are {first}..={}, not {}..={} as usual in this format",
                usize::from(*first) + CLASSES - 1,
                1 - first,
                usize::from(1 - first) + CLASSES - 1
            ),
            Self::NoSplit { split } => write!(f, "the file has no {split} split"),
            Self::EmptyClass { split, class } => {
                write!(f, "{split}: no recording of class {class} ({})", CLASS_NAMES[*class])
            }
            Self::Dropped { split, of, not_finite, constant, label, indices } => {
                let count = not_finite + constant + label;
                let some: Vec<String> = indices.iter().map(usize::to_string).collect();
                let more = if count > indices.len() { ", ..." } else { "" };
                write!(
                    f,
                    "{split}: left out {count} of {of} recordings ({}{more}): {not_finite} with NaN or an infinity, \
                     {constant} constant, {label} whose label is no class",
                    some.join(", ")
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalings_are_written_as_options() {
        for scaling in Rescale::ALL {
            assert_eq!(scaling.to_string().parse(), Ok(scaling));
            assert_eq!(serde_json::to_string(&scaling).unwrap(), format!("\"{scaling}\""));
        }
        assert!("raw".parse::<Rescale>().unwrap_err().contains("expected auto, none or per-recording"));
    }

    #[test]
    fn notes_are_sentences() {
        let dropped = Note::Dropped {
            split: Split::Train,
            of: 90,
            not_finite: 4,
            constant: 3,
            label: 0,
            indices: vec![1, 2, 3, 5, 8],
        };
        let text = dropped.to_string();
        assert!(text.starts_with("train: left out 7 of 90 recordings (1, 2, 3, 5, 8, ...): 4 with NaN"));
        assert!(
            Note::OpenLabels { first: 1 }.to_string().contains("start at 1, as usual in this format (1 is d")
        );
        let unusual = Note::UnusualLabels { first: 0 }.to_string();
        assert_eq!(unusual, "labels are 0..=2, not 1..=3 as usual in this format");
    }
}
