//! Recordings in memory, and their two splits. N recordings, H contacts, W samples.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use escape_checkpoint::input::KnownInput;
use escape_network::arch::CLASSES;

/// The recordings of one split.
///
/// The fields are public so that they can be handed to a tensor library without a copy; [`Recordings::check`]
/// says whether they fit each other, and every reader of this crate guarantees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Recordings {
    /// N x H x W values in [-1, 1], row-major: recording after recording, contact after contact.
    pub x: Vec<f32>,
    /// The class of each recording: N labels from 0.
    pub y: Vec<i64>,
    /// Contacts of a recording (H).
    pub contacts: usize,
    /// Samples of a recording (W).
    pub samples: usize,
}

/// The fields of some [`Recordings`] do not fit each other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Inconsistent {
    /// The number of values is not N x H x W.
    #[error(
        "recordings do not fit their labels: expected {recordings} x {contacts} x {samples} values (labels x \
         contacts x samples), got {values}"
    )]
    Values {
        /// Number of labels (N).
        recordings: usize,
        /// H.
        contacts: usize,
        /// W.
        samples: usize,
        /// Number of values.
        values: usize,
    },
    /// A label is not a class.
    #[error("label {index}: expected a class, counted from 0, got {value}")]
    Label {
        /// Index of the label.
        index: usize,
        /// Its value.
        value: i64,
    },
}

impl Recordings {
    /// Recordings from their parts: `x` N x H x W values, `y` N labels.
    ///
    /// # Errors
    /// [`Inconsistent`] when the lengths do not fit or a label is not a class. The values are not looked at.
    pub fn new(x: Vec<f32>, y: Vec<i64>, contacts: usize, samples: usize) -> Result<Self, Inconsistent> {
        let recordings = Self { x, y, contacts, samples };
        recordings.check()?;
        Ok(recordings)
    }

    /// Whether the fields fit each other.
    ///
    /// # Errors
    /// [`Inconsistent`] when the lengths do not fit or a label is not a class. The values are not looked at.
    pub fn check(&self) -> Result<(), Inconsistent> {
        let (recordings, contacts, samples) = (self.y.len(), self.contacts, self.samples);
        let expected = recordings.checked_mul(contacts).and_then(|n| n.checked_mul(samples));
        if expected != Some(self.x.len()) {
            return Err(Inconsistent::Values { recordings, contacts, samples, values: self.x.len() });
        }
        match self.y.iter().position(|&label| class_index(label).is_none()) {
            Some(index) => Err(Inconsistent::Label { index, value: self.y[index] }),
            None => Ok(()),
        }
    }

    /// Number of recordings (N).
    pub fn len(&self) -> usize {
        self.y.len()
    }

    /// Whether there is no recording.
    pub fn is_empty(&self) -> bool {
        self.y.is_empty()
    }

    /// Values of one recording: H x W.
    pub fn size(&self) -> usize {
        self.contacts * self.samples
    }

    /// Recording `i`: H x W values, row-major.
    ///
    /// # Panics
    /// If `i` is not below [`len`](Self::len).
    pub fn get(&self, i: usize) -> &[f32] {
        let size = self.size();
        &self.x[i * size..(i + 1) * size]
    }

    /// The recordings one after the other, each with its label.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&[f32], i64)> {
        self.y.iter().enumerate().map(|(i, &label)| (self.get(i), label))
    }

    /// The first `n` recordings, or all if there are fewer.
    pub fn head(&self, n: usize) -> Self {
        self.part(0, Some(n)).into_owned()
    }

    /// At most so many of them, the first, if there is a limit.
    pub fn at_most(self, limit: Option<usize>) -> Self {
        match limit {
            Some(n) if n < self.len() => self.head(n),
            _ => self,
        }
    }

    /// What is left without the first `skip`, at most so many if there is a limit. Only a part is copied.
    pub fn part(&self, skip: usize, limit: Option<usize>) -> Cow<'_, Self> {
        let from = skip.min(self.len());
        let n = (self.len() - from).min(limit.unwrap_or(usize::MAX));
        if n == self.len() {
            return Cow::Borrowed(self);
        }
        let (size, to) = (self.size(), from + n);
        Cow::Owned(Self { x: self.x[from * size..to * size].to_vec(), y: self.y[from..to].to_vec(), ..*self })
    }

    /// The recordings of the given indices, in that order; an index may occur more than once.
    ///
    /// # Panics
    /// If an index is not below [`len`](Self::len).
    pub fn select(&self, indices: &[usize]) -> Self {
        let mut x = Vec::with_capacity(indices.len() * self.size());
        indices.iter().for_each(|&i| x.extend_from_slice(self.get(i)));
        Self { x, y: indices.iter().map(|&i| self.y[i]).collect(), ..*self }
    }

    /// How many recordings each class has, of the nerve's three or as many more as occur. Labels that are no class are not
    /// counted.
    pub fn class_counts(&self) -> Vec<usize> {
        let mut counts = vec![0; CLASSES];
        for class in self.y.iter().filter_map(|&label| class_index(label)) {
            if class >= counts.len() {
                counts.resize(class + 1, 0);
            }
            counts[class] += 1;
        }
        counts
    }
}

/// Classes, at most: a stray number must not ask for gigabytes.
pub const MOST_CLASSES: usize = 10_000;

fn class_index(label: i64) -> Option<usize> {
    usize::try_from(label).ok().filter(|&class| class < MOST_CLASSES)
}

/// Training and test recordings of the same cuff.
#[derive(Debug, Clone, PartialEq)]
pub struct Dataset {
    /// What the classes are called, whether all of them occur or not.
    pub classes: Vec<String>,
    /// What networks are trained and calibrated on.
    pub train: Recordings,
    /// What they are judged by.
    pub test: Recordings,
    /// Sampling rate of both, in hertz.
    pub sample_rate_hz: f64,
    /// The simulated nerve that they are of, if that is known.
    pub nerve: Option<Nerve>,
}

/// Which simulated nerve recordings are of; written `seed 1, animal 2`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nerve {
    /// Seed of the simulation.
    pub seed: u64,
    /// Number of the animal.
    pub animal: u16,
}

impl Nerve {
    /// Seed and animal as float64; `None` if the seed is none, beyond 2^53.
    pub(crate) fn exact(self) -> Option<(f64, f64)> {
        (self.seed <= 1 << 53).then_some((self.seed as f64, self.animal.into()))
    }
}

impl fmt::Display for Nerve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed {}, animal {}", self.seed, self.animal)
    }
}

impl Dataset {
    /// Sampling rate and nerve of its recordings.
    pub fn origin(&self) -> Origin {
        Origin { sample_rate_hz: self.sample_rate_hz, nerve: self.nerve }
    }

    /// The recordings of one split.
    pub fn split(&self, split: Split) -> &Recordings {
        match split {
            Split::Train => &self.train,
            Split::Test => &self.test,
        }
    }
}

/// Which recordings of a [`Dataset`]; written `train` and `test`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// The training recordings.
    Train,
    /// The test recordings.
    Test,
}

impl Split {
    /// Both splits.
    pub const ALL: [Self; 2] = [Self::Train, Self::Test];

    /// `train` or `test`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Test => "test",
        }
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Split {
    type Err = ParseSplitError;

    fn from_str(name: &str) -> Result<Self, ParseSplitError> {
        Self::ALL.into_iter().find(|s| s.name() == name).ok_or_else(|| ParseSplitError(name.to_owned()))
    }
}

/// A word that names no split.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown split: expected train or test, got {0:?}")]
pub struct ParseSplitError(String);

/// Sampling rate and nerve of a file's recordings.
#[derive(Debug, Clone, PartialEq)]
pub struct Origin {
    /// Sampling rate, in hertz.
    pub sample_rate_hz: f64,
    /// The simulated nerve, if the file names one.
    pub nerve: Option<Nerve>,
}

impl Origin {
    /// What a network knows that was trained on `recordings` of this origin.
    pub fn known_input(&self, recordings: &Recordings) -> KnownInput {
        KnownInput {
            shape: Some((recordings.contacts, recordings.samples)),
            sample_rate_hz: Some(self.sample_rate_hz),
            nerve: self.nerve.map(|nerve| nerve.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Four recordings of 2 x 3, value = 10 * recording + position, over 100.
    fn four() -> Recordings {
        let x = (0..24).map(|i| (i / 6 * 10 + i % 6) as f32 / 100.0).collect();
        Recordings::new(x, vec![0, 2, 1, 2], 2, 3).unwrap()
    }

    #[test]
    fn a_limit_keeps_the_first() {
        let all = Recordings::new(vec![0.0, 1.0, 2.0, 3.0], vec![0, 1], 1, 2).unwrap();
        let length = |limit| all.clone().at_most(limit).len();
        assert_eq!([length(None), length(Some(5)), length(Some(2)), length(Some(1))], [2, 2, 2, 1]);
        assert_eq!(all.clone().at_most(Some(1)), all.head(1));
    }

    #[test]
    fn parts_are_recordings_in_order() {
        let r = four();
        assert_eq!((r.len(), r.is_empty(), r.size()), (4, false, 6));
        assert_eq!(r.get(2), [0.20, 0.21, 0.22, 0.23, 0.24, 0.25]);
        assert_eq!(r.class_counts(), [1, 1, 2]);
        assert_eq!(r.iter().map(|(x, y)| (x[0], y)).collect::<Vec<_>>()[1], (0.10, 2));

        let head = r.head(2);
        assert_eq!((head.get(1), head.y.as_slice()), (r.get(1), &[0, 2][..]));
        assert_eq!(r.head(99), r);

        assert!(matches!(r.part(0, Some(4)), Cow::Borrowed(all) if *all == r));
        assert_eq!(*r.part(0, Some(2)), head);
        assert_eq!(*r.part(1, Some(2)), r.select(&[1, 2]));
        assert_eq!(*r.part(3, None), r.select(&[3]));
        assert!(r.part(4, None).is_empty() && r.part(99, Some(1)).is_empty());

        let picked = r.select(&[3, 0, 3]);
        assert_eq!((picked.get(0), picked.get(2), picked.y.as_slice()), (r.get(3), r.get(3), &[2, 0, 2][..]));
        picked.check().unwrap();
    }

    #[test]
    fn parts_that_do_not_fit_are_refused() {
        let values = Recordings::new(vec![0.0; 5], vec![0], 2, 3).unwrap_err();
        assert!(values.to_string().contains("expected 1 x 2 x 3 values"), "{values}");
        for class in [-1, MOST_CLASSES as i64] {
            let label = Recordings::new(vec![0.0; 6], vec![class], 2, 3).unwrap_err();
            assert_eq!(label.to_string(), format!("label 0: expected a class, counted from 0, got {class}"));
        }
        assert!(Recordings::new(vec![], vec![0, 0, 0, 0], usize::MAX, 2).is_err(), "N x H x W overflows");
    }

    #[test]
    fn splits_are_written_in_lower_case() {
        for split in Split::ALL {
            assert_eq!(split.to_string().parse(), Ok(split));
            assert_eq!(serde_json::to_string(&split).unwrap(), format!("\"{split}\""));
        }
        let error = "Train".parse::<Split>().unwrap_err();
        assert_eq!(error.to_string(), "unknown split: expected train or test, got \"Train\"");
    }
}
