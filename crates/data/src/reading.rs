//! What all formats share: labels become classes, values are checked and scaled, and notes are taken.

use std::path::Path;

use rayon::prelude::*;

use crate::budget::Budget;
use crate::error::{DataError, Position};
use crate::options::{Note, ReadOptions, Reason, Rescale};
use crate::recordings::{Dataset, Recordings, Split};
use crate::{CLASSES, SAMPLE_RATE_HZ};

/// Values this far outside [-1, 1] are taken for rounding of the scaling and clamped.
const ROUNDING: f32 = 1e-5;

/// An opened file of recordings: arrays by name.
pub(crate) trait Source {
    /// The format in words.
    fn format(&self) -> String;

    /// The label that the first class usually has in this format.
    fn first_label(&self) -> u8;

    /// What the values and the labels of a split are called.
    fn names(&self, split: Split) -> [&'static str; 2];

    /// Whether there is an array of this name.
    fn holds(&self, name: &str) -> bool;

    /// The names of all arrays, for error messages.
    fn present(&self) -> Vec<String>;

    /// Labels as they are stored.
    fn labels(&mut self, name: &'static str, budget: &mut Budget) -> Result<Vec<f64>, DataError>;

    /// N, H and W of an array of values, without reading them.
    fn shape(&mut self, name: &'static str) -> Result<[usize; 3], DataError>;

    /// Values, N x H x W row-major, as they are stored but for the rounding to float32.
    fn values(&mut self, name: &'static str, budget: &mut Budget) -> Result<Vec<f32>, DataError>;

    /// A single number.
    fn scalar(&mut self, name: &'static str, budget: &mut Budget) -> Result<f64, DataError>;
}

/// Reads splits from an opened file.
pub(crate) struct Reading<'a> {
    source: Box<dyn Source + 'a>,
    path: &'a Path,
    options: &'a ReadOptions,
    budget: Budget,
    /// Whether the file's name says that it holds microvolts.
    raw: bool,
    /// The label of the first class.
    first: u8,
    /// By split: labels that were read already.
    labels: [Option<Vec<f64>>; 2],
    pub(crate) notes: Vec<Note>,
}

impl<'a> Reading<'a> {
    /// Reads the labels of the splits, which say together at what number they start. Labels of a split that is not
    /// among `wanted` help if they can be read.
    pub(crate) fn new(
        mut source: Box<dyn Source + 'a>,
        path: &'a Path,
        raw: bool,
        wanted: &[Split],
        options: &'a ReadOptions,
        mut budget: Budget,
    ) -> Result<Self, DataError> {
        let mut labels = [None, None];
        for split in Split::ALL {
            let name = source.names(split)[1];
            if source.holds(name) {
                match source.labels(name, &mut budget) {
                    Ok(found) => labels[split as usize] = Some(found),
                    Err(error) if wanted.contains(&split) => return Err(error),
                    Err(_) => {}
                }
            }
        }
        let mut notes = vec![Note::Format { format: source.format() }];
        let first = first_label(path, &labels, options, source.first_label(), &mut notes)?;
        Ok(Self { source, path, options, budget, raw, first, labels, notes })
    }

    /// Whether the file has anything of a split.
    pub(crate) fn has(&self, split: Split) -> bool {
        self.source.names(split).iter().any(|name| self.source.holds(name))
    }

    /// Both splits; one that the file has nothing of is empty.
    pub(crate) fn dataset(&mut self) -> Result<Dataset, DataError> {
        let (train, test) = match Split::ALL.map(|split| self.has(split)) {
            [true, true] => (self.split(Split::Train)?, self.split(Split::Test)?),
            [true, false] => {
                let train = self.split(Split::Train)?;
                let test = train.head(0);
                (train, test)
            }
            [false, true] => {
                let test = self.split(Split::Test)?;
                (test.head(0), test)
            }
            [false, false] => {
                let [[train, _], [test, _]] = Split::ALL.map(|split| self.source.names(split));
                return Err(self.missing(&format!("{train} or {test}")));
            }
        };
        let absent = Split::ALL.into_iter().find(|&split| !self.has(split));
        self.notes.extend(absent.map(|split| Note::NoSplit { split }));
        let sample_rate_hz = self.sample_rate_hz()?;
        let dataset = Dataset { train, test, sample_rate_hz };
        dataset.check_shapes(self.path)?;
        Ok(dataset)
    }

    fn missing(&self, name: &str) -> DataError {
        let (path, present) = (self.path.to_owned(), self.source.present());
        DataError::MissingArray { path, name: name.to_owned(), present }
    }

    fn sample_rate_hz(&mut self) -> Result<f64, DataError> {
        const NAME: &str = "sample_rate_hz";
        if !self.source.holds(NAME) {
            return Ok(SAMPLE_RATE_HZ);
        }
        let rate = self.source.scalar(NAME, &mut self.budget)?;
        if !rate.is_finite() || rate <= 0.0 {
            let problem = format!("{NAME} is {rate}, expected a positive number");
            return Err(DataError::malformed(self.path, problem));
        }
        Ok(rate)
    }

    /// One split, checked as [`crate::read`] promises.
    pub(crate) fn split(&mut self, split: Split) -> Result<Recordings, DataError> {
        let [x_name, y_name] = self.source.names(split);
        // Both looked up first: a missing array is reported before hundreds of megabytes are read.
        if !self.source.holds(x_name) {
            return Err(self.missing(x_name));
        }
        let Some(labels) = self.labels[split as usize].take() else {
            return Err(self.missing(y_name));
        };
        let [recordings, contacts, samples] = self.source.shape(x_name)?;
        if recordings != labels.len() {
            let path = self.path.to_owned();
            return Err(DataError::LabelCount { path, split, recordings, labels: labels.len() });
        }
        if self.source.holds("contacts") {
            let declared = self.source.scalar("contacts", &mut self.budget)?;
            if declared != contacts as f64 {
                let problem = format!("contacts is {declared}, but {x_name} has {contacts} rows a recording");
                return Err(DataError::malformed(self.path, problem));
            }
        }
        let y = self.classes(split, labels)?;
        let x = self.source.values(x_name, &mut self.budget)?;
        self.checked(split, Recordings { x, y, contacts, samples })
    }

    /// Labels as classes; with `drop_bad`, [`NO_CLASS`] for those that are none.
    fn classes(&mut self, split: Split, labels: Vec<f64>) -> Result<Vec<i64>, DataError> {
        let first = i64::from(self.first);
        let last = first + CLASSES as i64 - 1;
        let class = |value: f64| {
            let fits = value.fract() == 0.0 && (first as f64..=last as f64).contains(&value);
            fits.then(|| value as i64 - first)
        };
        if !self.options.drop_bad
            && let Some(index) = labels.iter().position(|&value| class(value).is_none())
        {
            let (path, value) = (self.path.to_owned(), labels[index]);
            return Err(DataError::Label { path, split, index, value, first, last });
        }
        self.budget.take(self.path, "the labels", labels.len(), size_of::<i64>())?;
        Ok(labels.into_iter().map(|value| class(value).unwrap_or(NO_CLASS)).collect())
    }

    /// Checks and scales recordings in place.
    fn checked(&mut self, split: Split, mut r: Recordings) -> Result<Recordings, DataError> {
        let (path, size) = (self.path, r.size());
        let of = r.len();
        let at = |i: usize, inside: usize| Position {
            recording: i,
            contact: inside / r.samples,
            sample: inside % r.samples,
        };
        let (mut not_finite, mut constant, mut label) = (0, 0, 0);
        let (mut outside, mut first_outside, mut total) = (0, None, Range::EMPTY);
        let mut dropped = Vec::new();
        let mut kept = 0;
        self.budget.take(path, "the ranges of the recordings", of, size_of::<Range>())?;
        let ranges: Vec<Range> = r.x.par_chunks_exact(size).map(Range::of).collect();
        for (i, &range) in ranges.iter().enumerate() {
            let recording = &r.x[i * size..(i + 1) * size];
            let found = if r.y[i] == NO_CLASS {
                label += 1;
                None
            } else if !range.is_finite() {
                not_finite += 1;
                let inside = recording.iter().position(|v| !v.is_finite()).unwrap_or(0);
                let (path, at, value) = (path.to_owned(), at(i, inside), recording[inside]);
                Some(DataError::NotFinite { path, split, at, value })
            } else if range.min == range.max {
                constant += 1;
                let (path, value) = (path.to_owned(), range.min);
                Some(DataError::Constant { path, split, recording: i, value })
            } else {
                total = total.with(range);
                if range.min < -1.0 - ROUNDING || range.max > 1.0 + ROUNDING {
                    outside += 1;
                    first_outside = first_outside.or(Some((i, kept)));
                }
                if kept < i {
                    r.x.copy_within(i * size..(i + 1) * size, kept * size);
                    r.y[kept] = r.y[i];
                }
                kept += 1;
                continue;
            };
            match found {
                Some(error) if !self.options.drop_bad => return Err(error),
                _ if dropped.len() < Note::INDICES => dropped.push(i),
                _ => {}
            }
        }
        r.x.truncate(kept * size);
        r.y.truncate(kept);
        if kept < of {
            let indices = dropped;
            self.notes.push(Note::Dropped { split, of, not_finite, constant, label, indices });
        }
        let reason = match self.options.scaling {
            Rescale::None => None,
            Rescale::PerRecording => Some(Reason::Option),
            Rescale::Auto if self.raw => Some(Reason::Name),
            Rescale::Auto => (outside > kept / 2).then_some(Reason::Values { outside }),
        };
        match (reason, first_outside) {
            (Some(reason), _) if kept > 0 => {
                r.x.par_chunks_exact_mut(size).for_each(scale);
                let (Range { min, max, .. }, recordings) = (total, kept);
                self.notes.push(Note::Scaled { split, recordings, reason, min, max });
            }
            (_, Some((i, now_at))) => {
                let allowed = -1.0 - ROUNDING..=1.0 + ROUNDING;
                let recording = r.get(now_at);
                let inside = recording.iter().position(|v| !allowed.contains(v)).unwrap_or(0);
                let (path, at, value) = (path.to_owned(), at(i, inside), recording[inside]);
                return Err(DataError::OutOfRange { path, split, at, value });
            }
            // Most files need no clamping, and looking is cheaper than writing.
            _ if total.min < -1.0 || total.max > 1.0 => {
                r.x.iter_mut().for_each(|v| *v = v.clamp(-1.0, 1.0));
            }
            _ => {}
        }
        if kept > 0 {
            for (class, _) in r.class_counts().iter().enumerate().filter(|(_, count)| **count == 0) {
                self.notes.push(Note::EmptyClass { split, class });
            }
        }
        Ok(r)
    }
}

/// Stands for a label that is no class.
const NO_CLASS: i64 = -1;

/// Smallest and largest of some values.
#[derive(Clone, Copy)]
pub(crate) struct Range {
    pub(crate) min: f32,
    pub(crate) max: f32,
    /// Not finite if any value is not.
    probe: f32,
}

impl Range {
    const EMPTY: Self = Self { min: f32::INFINITY, max: f32::NEG_INFINITY, probe: 0.0 };

    pub(crate) fn of(values: &[f32]) -> Self {
        // In lanes, which the compiler turns into vector instructions.
        const LANES: usize = 16;
        let mut min = [f32::INFINITY; LANES];
        let mut max = [f32::NEG_INFINITY; LANES];
        let mut probe = [0.0; LANES];
        let mut add = |chunk: &[f32; LANES]| {
            for (lane, &v) in chunk.iter().enumerate() {
                min[lane] = if v < min[lane] { v } else { min[lane] };
                max[lane] = if v > max[lane] { v } else { max[lane] };
                // Zero times NaN or an infinity is NaN, and stays so.
                probe[lane] += v * 0.0;
            }
        };
        let (chunks, rest) = values.as_chunks();
        chunks.iter().for_each(&mut add);
        if let Some(&any) = rest.first() {
            let mut last = [any; LANES];
            last[..rest.len()].copy_from_slice(rest);
            add(&last);
        }
        let lanes = (0..LANES).map(|lane| Self { min: min[lane], max: max[lane], probe: probe[lane] });
        lanes.fold(Self::EMPTY, Self::with)
    }

    fn with(self, other: Self) -> Self {
        Self { min: self.min.min(other.min), max: self.max.max(other.max), probe: self.probe + other.probe }
    }

    fn is_finite(self) -> bool {
        self.probe == 0.0
    }
}

/// Stretches one recording, whose values are finite and not all equal, to [-1, 1].
fn scale(recording: &mut [f32]) {
    let Range { min, max, .. } = Range::of(recording);
    let (min, span) = (f64::from(min), f64::from(max) - f64::from(min));
    recording.iter_mut().for_each(|v| *v = ((f64::from(*v) - min) / span * 2.0 - 1.0) as f32);
}

/// At what number labels start: any 0 says 0, any 3 says 1, and what the labels of all splits leave open is decided
/// by `usual`.
fn first_label(
    path: &Path,
    labels: &[Option<Vec<f64>>; 2],
    options: &ReadOptions,
    usual: u8,
    notes: &mut Vec<Note>,
) -> Result<u8, DataError> {
    if let Some(first) = options.first_label {
        return Ok(first);
    }
    let find = |wanted: f64| {
        Split::ALL.into_iter().find_map(|split| {
            let index = labels[split as usize].as_ref()?.iter().position(|&label| label == wanted)?;
            Some((split, index))
        })
    };
    let first = match (find(0.0), find(CLASSES as f64)) {
        (Some(zero), Some(three)) => {
            return Err(DataError::MixedLabels { path: path.to_owned(), zero, three });
        }
        (Some(_), None) => 0,
        (None, Some(_)) => 1,
        (None, None) => {
            if find(1.0).or(find(2.0)).is_some() {
                notes.push(Note::OpenLabels { first: usual });
            }
            return Ok(usual);
        }
    };
    if first != usual {
        notes.push(Note::UnusualLabels { first });
    }
    Ok(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_see_every_value() {
        for length in 1..40 {
            for at in 0..length {
                let mut values = vec![0.25; length];
                values[at] = 0.5;
                let range = Range::of(&values);
                assert_eq!((range.max, range.is_finite()), (0.5, true));
                assert_eq!(range.min, if length == 1 { 0.5 } else { 0.25 });
                for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                    values[at] = bad;
                    assert!(!Range::of(&values).is_finite(), "{bad} at {at} of {length}");
                }
            }
        }
        assert!(Range::of(&[f32::MAX, f32::MIN]).is_finite());
    }

    #[test]
    fn scaling_reaches_both_ends() {
        let mut values = [-37.5, 12.5, -12.5, 62.5];
        scale(&mut values);
        assert_eq!(values, [-1.0, 0.0, -0.5, 1.0]);
        let mut extremes = [f32::MIN, 0.0, f32::MAX];
        scale(&mut extremes);
        assert_eq!(extremes, [-1.0, 0.0, 1.0]);
    }
}
