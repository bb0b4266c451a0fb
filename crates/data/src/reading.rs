//! What all formats share: labels become classes, values are checked and scaled, and notes are taken.

use std::path::Path;

use rayon::prelude::*;

use crate::SAMPLE_RATE_HZ;
use crate::arrays::{Array, Convention, Kind, SCALARS, Source};
use crate::budget::take;
use crate::contacts::{Odd, Rows, neighbours, odd, other_fits_better, repair};
use crate::error::{DataError, Position};
use crate::labels::{self, Labels, first_label};
use crate::layout::{Layout, Misfit, Window};
use crate::options::{BadContacts, LabelForm, Note, ReadOptions, Reason, Rescale};
use crate::recordings::{Dataset, Nerve, Recordings, Split};
use escape_checkpoint::input::KnownInput;
use escape_files::budget::Budget;
use escape_files::text::shown;
use escape_network::arch::{CLASSES, SAMPLES};

/// Values this far outside [-1, 1] are taken for rounding of the scaling and clamped.
const ROUNDING: f32 = 1e-5;
/// Where no recording is this large, they were not scaled to [-1, 1], however that is done.
const SMALL: f32 = 0.5;
/// Nor were they where most are smaller than this.
const FAR_SMALLER: f32 = 0.1;
/// So many recordings tell in which order their values are.
const ENOUGH: usize = 8;

/// Reads splits from an opened file.
pub(crate) struct Reading<'a> {
    source: Box<dyn Source + 'a>,
    path: &'a Path,
    options: &'a ReadOptions,
    budget: Budget,
    /// Whether the file's name says that it holds microvolts.
    raw: bool,
    /// Names of the values and the labels of each split that is looked for.
    names: [Option<[String; 2]>; 2],
    /// The label of the first class.
    first: u8,
    /// By split: labels that were read already.
    labels: [Option<Labels>; 2],
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
        budget: Budget,
    ) -> Result<Self, DataError> {
        let names = names(path, source.convention(), wanted, options)?;
        let mut notes = vec![Note::Format { format: source.format() }];
        let read = |name: &str| {
            let of = |wanted: &String| wanted == name || wanted.split('.').next() == Some(name);
            names.iter().flatten().flatten().any(of)
        };
        let variables: Vec<String> = source
            .skipped()
            .into_iter()
            .filter(|(name, _)| !read(name))
            .map(|(name, what)| format!("{} ({})", shown(&name), what.split(';').next().unwrap_or_default()))
            .collect();
        if !variables.is_empty() {
            notes.push(Note::Skipped { variables });
        }
        let mut reading =
            Self { source, path, options, budget, raw, names, first: 0, labels: [None, None], notes };
        for split in Split::ALL {
            let Some([_, name]) = reading.names[split as usize].clone() else { continue };
            if reading.source.holds(&name) {
                // Their number tells one-hot labels from others.
                let count = reading.layout(split).ok().map(|(_, layout)| layout.shape[0]);
                let (source, budget) = (reading.source.as_mut(), &mut reading.budget);
                match labels::read(source, path, &name, count, budget) {
                    Ok(found) => reading.labels[split as usize] = Some(found),
                    Err(error) if wanted.contains(&split) => return Err(error),
                    Err(_) => {}
                }
            }
        }
        let usual = reading.source.convention().first_label();
        reading.first = first_label(path, &reading.labels, options, usual, &mut reading.notes)?;
        Ok(reading)
    }

    /// Whether the file has anything of a split.
    fn has(&mut self, split: Split) -> bool {
        let source = &mut self.source;
        self.names[split as usize].iter().flatten().any(|name| source.holds(name))
    }

    /// Both splits; one that the file has nothing of is empty.
    pub(crate) fn dataset(&mut self) -> Result<Dataset, DataError> {
        let there = Split::ALL.map(|split| self.has(split));
        let (mut train, mut test) = match there {
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
                let names: Vec<&str> = self.names.iter().flatten().map(|[x, _]| x.as_str()).collect();
                let names = names.join(" or ");
                return Err(self.missing(&names));
            }
        };
        self.notes.extend(
            Split::ALL
                .into_iter()
                .filter(|&split| !there[split as usize])
                .map(|split| Note::NoSplit { split }),
        );
        // MATLAB's [] has no shape of its own.
        match (train.size(), test.size()) {
            (0, size) if size > 0 => train = test.head(0),
            (size, 0) if size > 0 => test = train.head(0),
            _ => {}
        }
        let Origin { sample_rate_hz, nerve } = self.origin()?;
        let dataset = Dataset { train, test, sample_rate_hz, nerve };
        dataset.check_shapes(self.path)?;
        Ok(dataset)
    }

    fn missing(&mut self, name: &str) -> DataError {
        let (path, present) = (self.path.to_owned(), self.source.entries());
        DataError::MissingArray { path, name: name.to_owned(), present }
    }

    /// A single number of the file, if it has an array of this name.
    fn scalar(&mut self, name: &str) -> Result<Option<f64>, DataError> {
        if !self.source.holds(name) {
            return Ok(None);
        }
        let array = self.source.array(name)?;
        if array.kind != Kind::Numbers || array.count() != Some(1) {
            let (path, name) = (self.path.to_owned(), name.to_owned());
            let (expected, got) = ("one number".to_owned(), array.dims);
            return Err(DataError::WrongShape { path, name, expected, got });
        }
        let mut value = f64::NAN;
        self.source.numbers(name, &mut self.budget, &mut |_, run| value = run[0])?;
        Ok(Some(value))
    }

    /// As [`Reading::scalar`], a whole number that fits; other people's arrays may have the same name.
    fn whole(&mut self, name: &str) -> Option<u64> {
        let value = self.scalar(name).ok()??;
        (value.fract() == 0.0 && (0.0..=9_007_199_254_740_992.0).contains(&value)).then_some(value as u64)
    }

    /// Sampling rate and nerve.
    pub(crate) fn origin(&mut self) -> Result<Origin, DataError> {
        let [.., rate, seed, animal] = SCALARS;
        let sample_rate_hz = self.scalar(rate)?.unwrap_or(SAMPLE_RATE_HZ);
        if !sample_rate_hz.is_finite() || sample_rate_hz <= 0.0 {
            let problem = format!("{rate} is {sample_rate_hz}, expected a positive number");
            return Err(DataError::malformed(self.path, problem));
        }
        let animal = self.whole(animal).and_then(|animal| u16::try_from(animal).ok());
        let nerve = self.whole(seed).zip(animal).map(|(seed, animal)| Nerve { seed, animal });
        Ok(Origin { sample_rate_hz, nerve })
    }

    /// How the values of a split are to be understood.
    fn layout(&mut self, split: Split) -> Result<(Array, Layout), DataError> {
        let path = self.path;
        let Some([name, _]) = self.names[split as usize].clone() else {
            return Err(DataError::malformed(path, format!("no array is named for the {split} split")));
        };
        let array = self.source.array(&name)?;
        if array.kind != Kind::Numbers {
            let got = match &array.kind {
                Kind::Other(what) | Kind::Text(what) => what.clone(),
                Kind::Numbers => String::new(),
            };
            let (path, expected) = (path.to_owned(), "a full array of real numbers");
            return Err(DataError::WrongType { path, name, expected, got });
        }
        let [contacts, samples, ..] = SCALARS;
        let flat = array.dims.len() == 2;
        let contacts = match self.scalar(contacts) {
            Ok(declared) => declared,
            Err(_) if flat => None,
            Err(error) => return Err(error),
        };
        let window = Window {
            contacts: match contacts {
                Some(declared) => match usize::try_from(declared as i64) {
                    Ok(whole) if whole as f64 == declared => Some(whole),
                    _ => {
                        let problem = format!("contacts is {declared}, expected a whole number");
                        return Err(DataError::malformed(path, problem));
                    }
                },
                None => None,
            },
            samples: match self.options.samples {
                None if flat => self.whole(samples).and_then(|n| usize::try_from(n).ok()),
                given => given,
            },
        };
        match Layout::of((&name, &array), self.source.convention(), self.options.axes, window) {
            Ok(layout) => Ok((array, layout)),
            Err(misfit) => {
                let (path, got) = (path.to_owned(), array.dims);
                Err(match misfit {
                    Misfit::Shape(expected) => DataError::WrongShape { path, name, expected, got },
                    Misfit::Problem(problem) => DataError::Misfit { path, name, got, problem },
                })
            }
        }
    }

    /// One split, checked as [`crate::read`] promises.
    pub(crate) fn split(&mut self, split: Split) -> Result<Recordings, DataError> {
        let Some([x_name, y_name]) = self.names[split as usize].clone() else {
            return Err(self.missing("of the other split"));
        };
        // Both looked up first: a missing array is reported before hundreds of megabytes are read.
        if !self.source.holds(&x_name) {
            return Err(self.missing(&x_name));
        }
        let Some(labels) = self.labels[split as usize].take() else {
            return Err(self.missing(&y_name));
        };
        let (array, layout) = self.layout(split)?;
        let [recordings, contacts, samples] = layout.shape;
        if recordings != labels.values.len() {
            let (path, labels) = (self.path.to_owned(), labels.values.len());
            return Err(DataError::LabelCount { path, split, recordings, labels });
        }
        if let Some(values) = layout.assumed.filter(|_| recordings > 0) {
            let said = |note: &Note| matches!(note, Note::AssumedSamples { values: of, .. } if *of == values);
            if !self.notes.iter().any(said) {
                self.notes.push(Note::AssumedSamples { name: x_name.clone(), values, contacts });
            }
        }
        if labels.form != LabelForm::Numbers {
            self.notes.push(Note::LabelsAs { split, form: labels.form });
        }
        let y = self.classes(split, labels)?;
        let count = recordings.saturating_mul(contacts).saturating_mul(samples);
        if array.count() != Some(count) {
            return Err(DataError::malformed(self.path, format!("{x_name} is too large to be counted")));
        }
        take(&mut self.budget, self.path, &x_name, count, size_of::<f32>())?;
        let mut x = Vec::new();
        x.try_reserve_exact(count)
            .map_err(|_| DataError::unsupported(self.path, format!("not enough memory for {x_name}")))?;
        x.resize(count, 0.0);
        self.source.numbers(&x_name, &mut self.budget, &mut |start, run| layout.place(start, run, &mut x))?;
        let r = self.checked(split, Recordings { x, y, contacts, samples })?;
        self.look_at_order(split, &r, &layout);
        Ok(r)
    }

    /// Labels as classes; with `drop_bad`, [`NO_CLASS`] for those that are none.
    fn classes(&mut self, split: Split, labels: Labels) -> Result<Vec<i64>, DataError> {
        let first = if labels.form == LabelForm::Numbers { i64::from(self.first) } else { 0 };
        let labels = labels.values;
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
        take(&mut self.budget, self.path, "the labels", labels.len(), size_of::<i64>())?;
        Ok(labels.into_iter().map(|value| class(value).unwrap_or(NO_CLASS)).collect())
    }

    /// Note where contacts and samples seem to have changed places.
    fn look_at_order(&mut self, split: Split, r: &Recordings, layout: &Layout) {
        let told = self.options.axes.is_some();
        if r.contacts == SAMPLES && r.samples != SAMPLES && !told && !layout.flat {
            let (contacts, samples, axes) = (r.contacts, r.samples, layout.axes.swapped());
            self.notes.push(Note::MaybeSwapped { contacts, samples, axes });
        }
        // Not worth a file's last memory.
        let each = size_of::<f64>();
        if r.len() < ENOUGH || take(&mut self.budget, self.path, "a recording", r.size(), each).is_err() {
            return;
        }
        if let Some(found @ [read, other]) = neighbours(r)
            && other_fits_better(found)
        {
            let axes = layout.flat.then(|| layout.axes.swapped());
            self.notes.push(Note::OtherOrder { split, axes, read, other });
        }
        self.budget.give_back(r.size(), each);
    }

    /// Checks and scales recordings in place.
    fn checked(&mut self, split: Split, mut r: Recordings) -> Result<Recordings, DataError> {
        let (path, size) = (self.path, r.size());
        let of = r.len();
        if of == 0 {
            return Ok(r);
        }
        let repaired = self.repaired(split, &mut r)?;
        let at = |i: usize, inside: usize| Position {
            recording: i,
            contact: inside / r.samples,
            sample: inside % r.samples,
        };
        let (mut not_finite, mut constant, mut label) = (0, 0, 0);
        let (mut outside, mut small, mut first_outside, mut total) = (0, 0, None, Range::EMPTY);
        let mut dropped = Vec::new();
        let mut kept = 0;
        take(&mut self.budget, path, "the ranges of the recordings", of, size_of::<Range>())?;
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
                Some(match self.options.drop_bad {
                    true => DataError::NotFinite { path, split, at, value },
                    false => self.not_finite(split, &r, at, value)?,
                })
            } else if range.min == range.max {
                constant += 1;
                let (path, value) = (path.to_owned(), range.min);
                Some(DataError::Constant { path, split, recording: i, value })
            } else {
                total = total.with(range);
                small += usize::from(range.magnitude() < FAR_SMALLER);
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
        if kept == 0 {
            let path = path.to_owned();
            return Err(DataError::NothingLeft { path, split, of, not_finite, constant, label });
        }
        if kept < of {
            let indices = dropped;
            self.notes.push(Note::Dropped { split, of, not_finite, constant, label, indices });
        }
        let reason = match self.options.scaling {
            Rescale::None => None,
            Rescale::PerRecording => Some(Reason::Option),
            Rescale::Auto if self.raw => Some(Reason::Name),
            Rescale::Auto if outside > kept / 2 => Some(Reason::Values { outside }),
            Rescale::Auto => {
                let largest = total.magnitude();
                (largest < SMALL || small > kept / 2).then_some(Reason::Small { largest })
            }
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
        let found = odd(&r, &repaired);
        if !found.is_empty() {
            let Odd { flat, stuck, noisy, dwarfing } = found;
            self.notes.push(Note::OddContacts { split, flat, stuck, noisy, dwarfing });
        }
        Ok(r)
    }

    /// Repairs broken contacts where that is asked for; gives them.
    fn repaired(&mut self, split: Split, r: &mut Recordings) -> Result<Vec<usize>, DataError> {
        let how = self.options.bad_contacts;
        if how == BadContacts::Refuse {
            return Ok(Vec::new());
        }
        // A list for each thread, besides.
        let each = Rows::EACH + rayon::current_num_threads() * 2 * size_of::<usize>();
        take(&mut self.budget, self.path, "what is known of the contacts", r.contacts, each)?;
        let contacts = Rows::of(r).broken();
        // With no sound contact at all there is nothing to take a mean of.
        let contacts = if contacts.len() == r.contacts { Vec::new() } else { contacts };
        let rows = repair(r, &contacts, how);
        if !contacts.is_empty() || rows > 0 {
            self.notes.push(Note::Repaired { split, contacts: contacts.clone(), rows, how });
        }
        Ok(contacts)
    }

    /// The error of a value that is not finite: about its contact, if that is broken throughout.
    fn not_finite(
        &mut self,
        split: Split,
        r: &Recordings,
        at: Position,
        value: f32,
    ) -> Result<DataError, DataError> {
        take(&mut self.budget, self.path, "what is known of the contacts", r.contacts, Rows::EACH)?;
        let (path, of) = (self.path.to_owned(), r.len());
        let contacts = Rows::of(r).mostly_not_finite();
        // One recording says nothing about a contact.
        Ok(match of > 1 && !contacts.is_empty() && contacts.len() < r.contacts {
            true => DataError::BadContacts { path, split, contacts, of },
            false => DataError::NotFinite { path, split, at, value },
        })
    }
}

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

/// What the values and labels of each split are called.
fn names(
    path: &Path,
    convention: Convention,
    wanted: &[Split],
    options: &ReadOptions,
) -> Result<[Option<[String; 2]>; 2], DataError> {
    let ReadOptions { x, y, .. } = options;
    match (&x[..], &y[..]) {
        ([], []) => Ok(Split::ALL.map(|split| Some(convention.names(split).map(str::to_owned)))),
        ([x], [y]) => {
            let names = Some([x.clone(), y.clone()]);
            Ok(if matches!(wanted, [Split::Test]) { [None, names] } else { [names, None] })
        }
        ([train_x, test_x], [train_y, test_y]) => {
            Ok([[train_x, train_y], [test_x, test_y]].map(|pair| Some(pair.map(String::clone))))
        }
        _ => Err(DataError::unsupported(
            path,
            format!(
                "{} arrays of recordings and {} of labels are named; give one of each with --x NAME --y NAME, or two: of the \
                 training split and of the test split",
                x.len(),
                y.len()
            ),
        )),
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

    /// Of the largest value.
    fn magnitude(self) -> f32 {
        self.max.abs().max(self.min.abs())
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
