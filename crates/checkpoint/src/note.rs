//! What was found and decided while a network was taken from a file that is not the study's own.

use std::fmt;

use escape_files::text::shown;

use super::parts::Parts;

/// Something to tell whoever gave the file.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Note {
    /// The weights did not lie under `state_dict`.
    Found {
        /// Where they do, as Python would index it; empty for the top level.
        place: String,
        /// Other dictionaries of weights, as `--weights` takes them.
        others: Vec<String>,
    },
    /// So much stood before the network's names and was taken off.
    Prefix(String),
    /// Names were changed as asked.
    Renamed {
        /// What was asked for, `OLD=NEW`.
        rule: String,
        /// How many names it changed.
        names: usize,
    },
    /// Tensors were left out as asked.
    Ignored {
        /// What was asked for.
        name: String,
        /// How many tensors it left out.
        tensors: usize,
        /// How many things that are no tensors.
        others: usize,
    },
    /// What another program's metadata say of fields that this one has, and was not taken.
    Metadata(Vec<(String, String)>),
    /// Parts of a loss or measure, which are none of the network.
    Losses(Vec<String>),
    /// Entries of a state dict that modules added themselves and no network here has.
    ExtraState(Vec<String>),
    /// Weights that were kept in parts.
    PutTogether(Parts, Vec<String>),
    /// How many quantised tensors were read as the values that they stand for.
    Dequantised(usize),
    /// How many sparse tensors were filled up.
    Densified(usize),
    /// Objects beside the weights: where, and what.
    Opaque {
        /// The first of them.
        objects: Vec<(String, String)>,
        /// How many there are.
        count: usize,
    },
    /// What of a Keras model was left out, in words.
    Keras(String),
    /// A name that would do more than make a value.
    WouldRun(String),
}

impl Note {
    /// Of so many quantised tensors and so many sparse ones.
    pub(crate) fn of_expanded((dequantised, densified): (usize, usize)) -> impl Iterator<Item = Self> {
        let quantised = (dequantised > 0).then_some(Self::Dequantised(dequantised));
        quantised.into_iter().chain((densified > 0).then_some(Self::Densified(densified)))
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Found { place, others } => {
                match place.is_empty() {
                    true => f.write_str("the weights lie at the top level among other things")?,
                    false => write!(f, "the weights are those of {place}")?,
                }
                match &others[..] {
                    [] => Ok(()),
                    [first, ..] => {
                        write!(f, "; others lie in {}: --weights {first} takes those", others.join(", "))
                    }
                }
            }
            Self::Prefix(prefix) => write!(f, "'{}' was taken off the weights' names", shown(prefix)),
            Self::Renamed { rule, names } => write!(f, "--rename {} changed {names} names", shown(rule)),
            Self::Ignored { name, tensors, others } => {
                let name = shown(name);
                match others {
                    0 => write!(f, "--ignore {name} left {tensors} tensors out"),
                    others => {
                        write!(f, "--ignore {name} left out {tensors} tensors and {others} other things")
                    }
                }
            }
            Self::Metadata(fields) => {
                let fields: Vec<String> =
                    fields.iter().map(|(key, text)| format!("{} = '{}'", shown(key), shown(text))).collect();
                write!(
                    f,
                    "not taken from the file's metadata, which are texts of another program: {}; a .pth file has them as \
                     numbers beside 'state_dict'",
                    fields.join(", ")
                )
            }
            Self::Losses(names) => {
                write!(f, "left out, as parts of a loss or measure and not of the network: {}", list(names))
            }
            Self::ExtraState(names) => write!(f, "left out, as no tensors of the network: {}", list(names)),
            Self::PutTogether(kind, names) => write!(f, "{}: {kind}", list(names)),
            Self::Dequantised(tensors) => {
                write!(f, "{tensors} quantised tensors were read as the float32 values that they stand for")
            }
            Self::Densified(tensors) => write!(f, "{tensors} sparse tensors were filled up with zeros"),
            Self::Opaque { objects, count } => {
                f.write_str("kept as names, executed in no part, and left out of what is written: ")?;
                for (i, (place, what)) in objects.iter().enumerate() {
                    let comma = if i == 0 { "" } else { ", " };
                    write!(f, "{comma}{place} ({what})")?;
                }
                match count - objects.len() {
                    0 => Ok(()),
                    more => write!(f, " and {more} more"),
                }
            }
            Self::Keras(what) => f.write_str(what),
            Self::WouldRun(name) => write!(
                f,
                "warning: torch.load(weights_only=False) would run {} on loading this file; it was not run here, and do not \
                 load the file so unless you trust it",
                shown(name)
            ),
        }
    }
}

/// The first few names.
fn list(names: &[String]) -> String {
    const SHOWN: usize = 8;
    let some: Vec<String> = names.iter().take(SHOWN).map(|name| shown(name)).collect();
    match names.len().saturating_sub(SHOWN) {
        0 => some.join(", "),
        more => format!("{} and {more} more", some.join(", ")),
    }
}
