//! How a file of recordings is to be understood, and what was found when it was.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::SAMPLE_RATE_HZ;
use crate::arrays::SCALARS;
use crate::classes::Classes;
use crate::error::contacts_named;
use crate::layout::Axes;
use crate::recordings::Split;
use escape_files::text::shown;
use escape_network::arch::SAMPLES;

/// Recordings that span less than this of the 2 from -1 to 1 were not scaled one by one.
pub(crate) const STRETCHED: f32 = 1.6;

/// How a file of recordings is to be understood. The default decides by what is in the file and refuses what is
/// wrong with it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReadOptions {
    /// Whether recordings are scaled to [-1, 1].
    pub scaling: Rescale,
    /// The label of the first class, 0 or 1; `None`: what the labels say, and where they leave it open, 1 in `.mat`
    /// and 0 in NumPy's formats.
    pub first_label: Option<u8>,
    /// How many classes there are, and what they are called.
    pub classes: Classes,
    /// Leave out recordings that hold NaN, an infinity or one value only, or whose label is no class. Otherwise the
    /// first of them is an error.
    pub drop_bad: bool,
    /// What the dimensions of the recordings count, in the order of the file's own program (NumPy: slowest first;
    /// MATLAB: fastest first); `None`: N,C,S in NumPy's and PyTorch's files, a column a recording in MATLAB's, which is
    /// S,C,N.
    pub axes: Option<Axes>,
    /// Samples of a recording's window (W); `None`: what the array's shape or the file's scalars `samples` or `contacts`
    /// say, otherwise 100.
    pub samples: Option<usize>,
    /// Name of the recordings' array where it is not the usual one; dots lead into structures. One name is the split
    /// that is asked for, and the training split where both are; two names are the training and the test split.
    pub x: Vec<String>,
    /// The same of the labels.
    pub y: Vec<String>,
    /// What is done about broken contacts.
    pub bad_contacts: BadContacts,
}

/// What a reader does about contacts that hold NaN or infinities, or one value only throughout a split.
///
/// Written `refuse`, `zero` and `mean`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BadContacts {
    /// NaN and infinities are errors, flat contacts are noted.
    #[default]
    Refuse,
    /// Their rows are 0 in what is read; how a recording is scaled, its sound rows alone say.
    Zero,
    /// Their rows become the mean of the nearest sound rows above and below, whose recording is scaled in the same way.
    Mean,
}

impl BadContacts {
    /// Each of them, in the order of the command line's help.
    pub const ALL: [Self; 3] = [Self::Refuse, Self::Zero, Self::Mean];
}

impl fmt::Display for BadContacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Refuse => "refuse",
            Self::Zero => "zero",
            Self::Mean => "mean",
        })
    }
}

impl FromStr for BadContacts {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|how| how.to_string() == name)
            .ok_or_else(|| format!("expected refuse, zero or mean, got {name:?}"))
    }
}

/// In what form labels were found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LabelForm {
    /// One number a recording.
    Numbers,
    /// One number a class.
    OneHot,
    /// Names of classes.
    Names,
}

/// Whether a reader scales recordings: (x - min) / (max - min) * 2 - 1, min and max being those of the recording.
///
/// Written `auto`, `none` and `per-recording`. The arithmetic is float64, from the values as float32.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rescale {
    /// If the file's name ends in `_RAW` (of any case), if more than half of a split's recordings leave [-1, 1], or if
    /// they are far smaller: none reaches 0.5, or more than half stay below 0.1, as volts and millivolts do.
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
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The file's name ends in `_RAW`.
    Name,
    /// More than half of the recordings leave [-1, 1].
    Values {
        /// So many do.
        outside: usize,
    },
    /// All or most recordings are far smaller than 1.
    Small {
        /// The largest magnitude of any.
        largest: f32,
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
        /// What the class of label 1 is called then.
        one: String,
    },
    /// Labels start at another number than usual in the format.
    UnusualLabels {
        /// The label of the first class.
        first: u8,
        /// How many classes there are.
        classes: usize,
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
        /// The class, from 0.
        class: usize,
        /// What it is called.
        name: String,
    },
    /// Contacts and samples share a dimension, and nothing says how many samples a contact has.
    AssumedSamples {
        /// The array of recordings.
        name: String,
        /// Values of a recording.
        values: usize,
        /// Contacts that follow.
        contacts: usize,
    },
    /// Labels that are no plain numbers.
    LabelsAs {
        /// The split.
        split: Split,
        /// In what form they were found.
        form: LabelForm,
    },
    /// Variables that are no arrays of numbers or text were left alone.
    Skipped {
        /// Each in words.
        variables: Vec<String>,
    },
    /// Broken contacts were repaired, see [`BadContacts`].
    Repaired {
        /// The split.
        split: Split,
        /// Contacts that were replaced in every recording.
        contacts: Vec<usize>,
        /// Further single rows with NaN or infinities that were replaced.
        rows: usize,
        /// How.
        how: BadContacts,
    },
    /// Contacts that are unlike the others.
    OddContacts {
        /// The split.
        split: Split,
        /// One value throughout each recording.
        flat: Vec<usize>,
        /// What the others span of the range, if the flat ones are so far away that it is less than half.
        left: Option<f32>,
        /// The same value from sample to sample, more often than not.
        stuck: Vec<usize>,
        /// More than three times as strong as the median contact.
        noisy: Vec<usize>,
        /// More than ten times as strong as the median contact.
        dwarfing: Vec<usize>,
    },
    /// Values were taken as they are, but a recording that was scaled as networks take it reaches from -1 to 1, and these
    /// do not.
    NotStretched {
        /// The split.
        split: Split,
        /// How many recordings it has (N).
        recordings: usize,
        /// Largest less smallest value, the median of all recordings.
        span: f32,
        /// How many recordings span less than a tenth of that.
        smaller: usize,
    },
    /// All values of a split are one of two.
    TwoValues {
        /// The split.
        split: Split,
        /// The two.
        values: [f32; 2],
    },
    /// A number in the file said how long windows are, and it is not the usual length.
    Window {
        /// The array of recordings.
        name: String,
        /// Contacts that follow.
        contacts: usize,
        /// Samples that follow.
        samples: usize,
        /// What the number is called.
        by: &'static str,
    },
    /// Something that is called as a number that is looked for is none, and was not taken.
    NoNumber {
        /// Its name.
        name: &'static str,
        /// What it is, in words.
        what: String,
    },
    /// Recordings are smoother if the file's values are taken in the other order: sample by sample instead of contact by
    /// contact, or the other way round.
    OtherOrder {
        /// The split.
        split: Split,
        /// Whether they were read sample by sample.
        by_sample: bool,
        /// What to read them with, if that can be said.
        axes: Option<Axes>,
        /// As they were read.
        read: Neighbours,
        /// The other way.
        other: Neighbours,
    },
    /// Contacts are as many as samples usually are, and samples are not.
    MaybeSwapped {
        /// Contacts.
        contacts: usize,
        /// Samples.
        samples: usize,
        /// What would change them over.
        axes: Axes,
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

/// How alike neighbouring values are: correlation over all pairs, each recording's mean taken off.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Neighbours {
    /// Of a sample and the next one of its contact.
    pub time: f64,
    /// Of a sample and the same one of the next contact.
    pub contacts: f64,
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
                    Reason::Small { largest } => write!(
                        f,
                        "none is larger than {largest}, so these are taken for volts or millivolts; --scaling none keeps \
                         them"
                    ),
                    Reason::Option => f.write_str("as asked for"),
                }
            }
            Self::OpenLabels { first, one } => write!(
                f,
                "all labels are 1 or 2: taken to start at {first}, as usual in this format (1 is {}); --first-label \
                 says otherwise",
                shown(one)
            ),
            Self::UnusualLabels { first, classes } => write!(
                f,
                "labels are {first}..={}, not {}..={} as usual in this format",
                usize::from(*first) + classes - 1,
                1 - first,
                usize::from(1 - first) + classes - 1
            ),
            Self::NoSplit { split } => write!(f, "the file has no {split} split"),
            Self::EmptyClass { split, class, name } => {
                write!(f, "{split}: no recording of class {class}")?;
                match *name == format!("class {class}") {
                    true => Ok(()),
                    false => write!(f, " ({})", shown(name)),
                }
            }
            Self::AssumedSamples { name, values, contacts } => write!(
                f,
                "{name} has {values} values a recording: taken for {contacts} contact{} x {SAMPLES} samples; --samples says \
                 otherwise",
                if *contacts == 1 { "" } else { "s" }
            ),
            Self::LabelsAs { split, form } => {
                let form = match form {
                    LabelForm::Numbers => "numbers",
                    LabelForm::OneHot => "one-hot: a column or row for each class",
                    LabelForm::Names => "names of classes",
                };
                write!(f, "{split}: labels are {form}")
            }
            Self::Skipped { variables } => write!(f, "left aside: {}", variables.join(", ")),
            Self::Repaired { split, contacts, rows, how } => {
                let how = match how {
                    BadContacts::Mean => "replaced by their neighbours' mean",
                    _ => "zeroed",
                };
                let mut parts = Vec::new();
                if !contacts.is_empty() {
                    parts.push(format!("{} in every recording", contacts_named(contacts)));
                }
                if *rows > 0 {
                    parts.push(format!("{rows} single rows with NaN or an infinity"));
                }
                write!(f, "{split}: {how}: {}", parts.join(", "))
            }
            Self::OddContacts { split, flat, left, stuck, noisy, dwarfing } => {
                let remedy = "zeros or the neighbours' mean instead with --bad-contacts zero or mean";
                let flat_is = match left {
                    Some(left) => format!(
                        "flat throughout and far from the others, so that the scale is set by it and the others span {:.1} % \
                         of the range: {remedy}",
                        left * 100.0
                    ),
                    None => format!("flat throughout: {remedy}"),
                };
                let kinds: Vec<String> = [
                    (flat, flat_is.as_str()),
                    (stuck, "stuck at a value for most of the time"),
                    (noisy, "more than three times as strong as the median contact"),
                    (
                        dwarfing,
                        "more than ten times as strong as the median contact, so that scaling leaves little of the others",
                    ),
                ]
                .into_iter()
                .filter(|(which, _)| !which.is_empty())
                .map(|(which, what)| format!("{} ({what})", contacts_named(which)))
                .collect();
                write!(f, "{split}: unlike the others: {}", kinds.join("; "))
            }
            Self::NotStretched { split, recordings, span, smaller } => {
                if *span < STRETCHED {
                    write!(
                        f,
                        "{split}: values are taken as they are, but most of the {recordings} recordings do not reach from -1 \
                         to 1, as networks take them: the median one spans {span:.3} of 2"
                    )?;
                } else {
                    write!(f, "{split}: values are taken as they are")?;
                }
                if *smaller > 0 {
                    let comma = if *span < STRETCHED { ", and" } else { ", but" };
                    write!(f, "{comma} {smaller} of {recordings} span less than a tenth of the median one")?;
                }
                f.write_str("; --scaling per-recording stretches each of them, --scaling none says that they are right")
            }
            Self::TwoValues { split, values: [low, high] } => write!(
                f,
                "{split}: every value is {low} or {high}, as in a mask or in spikes; expected voltages, is this the right array?"
            ),
            Self::Window { name, contacts, samples, by } => write!(
                f,
                "{name}: {contacts} contact{} x {samples} samples, as `{by}` in the file says; --samples says otherwise",
                if *contacts == 1 { "" } else { "s" }
            ),
            Self::NoNumber { name, what } => {
                write!(f, "{name} is {what}, expected one number: not taken")?;
                if *name == SCALARS[2] { write!(f, ", {SAMPLE_RATE_HZ} Hz assumed") } else { Ok(()) }
            }
            Self::OtherOrder { split, by_sample, axes, read, other } => {
                write!(
                    f,
                    "{split}: the other order of values fits clearly better (neighbouring samples correlate by {:.2} \
                     instead of {:.2}, neighbouring contacts by {:.2} instead of {:.2}): the values of a recording seem \
                     to stand {} in the file",
                    other.time,
                    read.time,
                    other.contacts,
                    read.contacts,
                    if *by_sample { "contact by contact" } else { "sample by sample" }
                )?;
                match axes {
                    Some(axes) => write!(f, "; read them so with --axes {axes}"),
                    None => f.write_str("; reshape the array before it is saved"),
                }
            }
            Self::MaybeSwapped { contacts, samples, axes } => write!(
                f,
                "{contacts} contacts x {samples} samples: if they are the other way round, say so with --axes {axes}"
            ),
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
            Note::OpenLabels { first: 1, one: "dorsiflexion".into() }
                .to_string()
                .contains("start at 1, as usual in this format (1 is d")
        );
        let unusual = Note::UnusualLabels { first: 0, classes: 3 }.to_string();
        assert_eq!(unusual, "labels are 0..=2, not 1..=3 as usual in this format");
    }
}
