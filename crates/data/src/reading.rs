//! What all formats share: labels become classes, values are checked and scaled, and notes are taken.

use std::path::Path;

use rayon::prelude::*;

use crate::SAMPLE_RATE_HZ;
use crate::arrays::{Array, Convention, Kind, SCALARS, Source};
use crate::budget::take;
use crate::contacts::{Odd, Rows, neighbours, odd, other_fits_better, repair, sound_range};
use crate::error::{DataError, Position, shape};
use crate::labels::{self, Labels, first_label};
use crate::layout::{Layout, Misfit, Window};
use crate::options::{BadContacts, LabelForm, Note, ReadOptions, Reason, Rescale, STRETCHED};
use crate::range::{ROUNDING, Range, scale};
use crate::recordings::{Dataset, Nerve, Origin, Recordings, Split};
use escape_files::budget::Budget;
use escape_files::text::{self, shown};
use escape_network::arch::SAMPLES;

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
    /// What was found under the names of [`SCALARS`] that were asked for.
    numbers: Vec<(&'static str, Found)>,
    pub(crate) notes: Vec<Note>,
}

/// What stands under the name of a single number.
#[derive(Debug, Clone, PartialEq)]
enum Found {
    Nothing,
    One(f64),
    /// Something else, in words.
    Other(String),
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
        let labels = [None, None];
        let mut reading =
            Self { source, path, options, budget, raw, names, first: 0, labels, numbers: Vec::new(), notes };
        for split in Split::ALL {
            let Some([_, name]) = reading.names[split as usize].clone() else { continue };
            if reading.source.holds(&name) {
                // Their number tells one-hot labels from others.
                let count = reading.layout(split).ok().map(|(_, layout)| layout.shape[0]);
                let (source, budget) = (reading.source.as_mut(), &mut reading.budget);
                match labels::read(source, path, &name, (count, &options.classes), budget) {
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
        if train.is_empty() && test.is_empty() {
            let problem = "no split has a recording; expected one at least, is this the right file?";
            return Err(DataError::unsupported(self.path, problem));
        }
        let Origin { sample_rate_hz, nerve } = self.origin()?;
        let classes = self.options.classes.names();
        let dataset = Dataset { train, test, classes, sample_rate_hz, nerve };
        dataset.check_shapes(self.path)?;
        Ok(dataset)
    }

    fn missing(&mut self, name: &str) -> DataError {
        let (path, present) = (self.path.to_owned(), self.source.entries());
        DataError::MissingArray { path, name: name.to_owned(), present }
    }

    /// A single number of the file, if it has one of this name: one that stands there several times, as for each
    /// recording, is one.
    fn number(&mut self, name: &'static str) -> Result<Found, DataError> {
        if let Some((_, found)) = self.numbers.iter().find(|(known, _)| *known == name) {
            return Ok(found.clone());
        }
        // What is named as recordings or labels is read as that.
        let named = self.names.iter().flatten().flatten().any(|other| other == name);
        let found = if named || !self.source.holds(name) { Found::Nothing } else { self.look_at(name)? };
        self.numbers.push((name, found.clone()));
        Ok(found)
    }

    fn look_at(&mut self, name: &str) -> Result<Found, DataError> {
        let array = self.source.array(name)?;
        match &array.kind {
            Kind::Numbers if array.count().is_some_and(|count| count > 0) => {}
            Kind::Numbers => return Ok(Found::Other("empty".to_owned())),
            Kind::Text(what) | Kind::Other(what) => return Ok(Found::Other(what.clone())),
        }
        let (mut first, mut same) = (None, true);
        self.source.numbers(name, &mut self.budget, &mut |_, run| {
            let first = *first.get_or_insert(run[0]);
            same &= run.iter().all(|&value| value == first);
        })?;
        Ok(match first {
            Some(value) if same || array.count() == Some(1) => Found::One(value),
            _ => Found::Other(format!("{} different numbers", shape(&array.dims))),
        })
    }

    /// As [`Reading::number`]; what is none is noted.
    fn declared(&mut self, name: &'static str) -> Result<Option<f64>, DataError> {
        match self.number(name)? {
            Found::Nothing => Ok(None),
            Found::One(value) => Ok(Some(value)),
            Found::Other(what) => {
                self.note_once(Note::NoNumber { name, what });
                Ok(None)
            }
        }
    }

    /// Notes that both splits give rise to.
    fn note_once(&mut self, note: Note) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// As [`Reading::number`], a whole number that fits; other people's arrays may have the same name.
    fn whole(&mut self, name: &'static str) -> Option<u64> {
        let Ok(Found::One(value)) = self.number(name) else { return None };
        (value.fract() == 0.0 && (0.0..=9_007_199_254_740_992.0).contains(&value)).then_some(value as u64)
    }

    /// Sampling rate and nerve.
    pub(crate) fn origin(&mut self) -> Result<Origin, DataError> {
        let [.., rate, seed, animal] = SCALARS;
        let sample_rate_hz = self.declared(rate)?.unwrap_or(SAMPLE_RATE_HZ);
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
        let contacts = self.declared(contacts)?;
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
            let hint = other_dimension(&x_name, &array.dims, labels);
            return Err(DataError::LabelCount { path, split, recordings, labels, hint });
        }
        if let Some(values) = layout.assumed.filter(|_| recordings > 0) {
            let said = |note: &Note| matches!(note, Note::AssumedSamples { values: of, .. } if *of == values);
            if !self.notes.iter().any(said) {
                self.notes.push(Note::AssumedSamples { name: x_name.clone(), values, contacts });
            }
        }
        let told = layout.assumed.is_some() || self.options.samples.is_some() || self.source.is_ours();
        if layout.flat && !told && samples != SAMPLES {
            let [of_contacts, of_samples, ..] = SCALARS;
            let by = if self.whole(of_samples).is_some() { of_samples } else { of_contacts };
            let said = |note: &Note| matches!(note, Note::Window { samples: other, .. } if *other == samples);
            if !self.notes.iter().any(said) {
                self.notes.push(Note::Window { name: x_name.clone(), contacts, samples, by });
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
        let mut beyond = Beyond::default();
        self.source.numbers(&x_name, &mut self.budget, &mut |start, run| {
            layout.place(start, run, &mut x);
            beyond.look_at(start, run, &layout);
        })?;
        let place = |at: usize| Position {
            recording: at / (contacts * samples),
            contact: at / samples % contacts,
            sample: at % samples,
        };
        if let Some((at, value)) = beyond.all_too_small() {
            let (path, at) = (self.path.to_owned(), place(at));
            return Err(DataError::NoFloat32 { path, split, at, value });
        }
        let r = match (self.checked(split, Recordings { x, y, contacts, samples }), beyond.first) {
            (Err(DataError::NotFinite { path, split, at, .. }), Some((first, value)))
                if place(first) == at =>
            {
                return Err(DataError::NoFloat32 { path, split, at, value });
            }
            (checked, _) => checked?,
        };
        self.look_at_order(split, &r, &layout);
        Ok(r)
    }

    /// Labels as classes; with `drop_bad`, [`NO_CLASS`] for those that are none.
    fn classes(&mut self, split: Split, labels: Labels) -> Result<Vec<i64>, DataError> {
        let first = if labels.form == LabelForm::Numbers { i64::from(self.first) } else { 0 };
        let labels = labels.values;
        let last = first + self.options.classes.count() as i64 - 1;
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
        // Not worth a file's last memory. The values twice, in both orders.
        let each = 2 * size_of::<f64>();
        if r.len() < ENOUGH || take(&mut self.budget, self.path, "a recording", r.size(), each).is_err() {
            return;
        }
        let by_sample = layout.by_sample;
        if let Some(found @ [read, other]) = neighbours(r, by_sample)
            && other_fits_better(found)
        {
            let axes = layout.flat.then(|| layout.axes.swapped());
            self.notes.push(Note::OtherOrder { split, by_sample, axes, read, other });
        }
        self.budget.give_back(r.size(), each);
    }

    /// Checks and scales recordings in place.
    fn checked(&mut self, split: Split, mut r: Recordings) -> Result<Recordings, DataError> {
        let (path, size, samples) = (self.path, r.size(), r.samples);
        let of = r.len();
        if of == 0 {
            return Ok(r);
        }
        let broken = self.broken(&r)?;
        let at = |i: usize, inside: usize| Position {
            recording: i,
            contact: inside / samples,
            sample: inside % samples,
        };
        let (mut not_finite, mut constant, mut label) = (0, 0, 0);
        let (mut outside, mut small, mut first_outside, mut total) = (0, 0, None, Range::EMPTY);
        let mut dropped = Vec::new();
        let mut kept = 0;
        take(&mut self.budget, path, "the ranges of the recordings", of, size_of::<Range>())?;
        let repairs = self.options.bad_contacts != BadContacts::Refuse;
        let range = |x: &[f32]| if repairs { sound_range(x, samples, &broken) } else { Range::of(x) };
        let mut ranges: Vec<Range> = r.x.par_chunks_exact(size).map(range).collect();
        for i in 0..of {
            let range = ranges[i];
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
                    ranges[kept] = range;
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
        ranges.truncate(kept);
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
        if total.min < total.max && r.x.iter().all(|&v| v == total.min || v == total.max) {
            self.notes.push(Note::TwoValues { split, values: [total.min, total.max] });
        }
        let (Range { min, max, .. }, recordings) = (total, kept);
        match reason {
            Some(reason) => {
                r.x.par_chunks_exact_mut(size).zip(&ranges).for_each(|(x, range)| scale(x, *range));
                self.notes.push(Note::Scaled { split, recordings, reason, min, max });
            }
            None if self.options.scaling == Rescale::Auto => self.look_at_spans(split, &mut ranges),
            None => {}
        }
        if repairs {
            let (contacts, how) = (broken.clone(), self.options.bad_contacts);
            let rows = repair(&mut r, &broken, how);
            if !contacts.is_empty() || rows > 0 {
                self.notes.push(Note::Repaired { split, contacts, rows, how });
            }
        }
        match (reason, first_outside) {
            (None, Some((i, now_at))) => {
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
            let names = self.options.classes.names();
            let counts = r.class_counts();
            for class in (0..names.len()).filter(|&class| counts.get(class).is_none_or(|count| *count == 0)) {
                let name = names[class].clone();
                self.notes.push(Note::EmptyClass { split, class, name });
            }
        }
        let found = odd(&r, &broken);
        if !found.is_empty() {
            let Odd { flat, left, stuck, noisy, dwarfing } = found;
            self.notes.push(Note::OddContacts { split, flat, left, stuck, noisy, dwarfing });
        }
        Ok(r)
    }

    /// Note where recordings that are taken as they are do not reach as far as those that were scaled.
    fn look_at_spans(&mut self, split: Split, ranges: &mut [Range]) {
        ranges.sort_by(|a, b| a.span().total_cmp(&b.span()));
        let span = ranges[ranges.len() / 2].span();
        let smaller = ranges.partition_point(|range| range.span() < span / 10.0);
        if span < STRETCHED || smaller > 0 {
            self.notes.push(Note::NotStretched { split, recordings: ranges.len(), span, smaller });
        }
    }

    /// Contacts to repair, where that is asked for.
    fn broken(&mut self, r: &Recordings) -> Result<Vec<usize>, DataError> {
        if self.options.bad_contacts == BadContacts::Refuse {
            return Ok(Vec::new());
        }
        // A list for each thread, besides.
        let each = Rows::EACH + rayon::current_num_threads() * 2 * size_of::<usize>();
        take(&mut self.budget, self.path, "what is known of the contacts", r.contacts, each)?;
        let contacts = Rows::of(r).broken();
        // With no sound contact at all there is nothing to take a mean of.
        Ok(if contacts.len() == r.contacts { Vec::new() } else { contacts })
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

/// What somebody may mean by as many labels as `name`, an array of `dims`, has in a dimension that was not taken for
/// recordings; empty if it has none.
fn other_dimension(name: &str, dims: &[u64], labels: usize) -> String {
    let dims: Vec<u64> = dims.iter().copied().filter(|&dim| dim != 1).collect();
    let Some(at) = dims.iter().position(|&dim| dim == labels as u64) else { return String::new() };
    let axes = match (at, &dims[..]) {
        (0, [_, _]) => "N,S,C or N,C,S",
        (1, [_, _]) => "S,C,N or C,S,N",
        (0, [_, c, s]) if *s == SAMPLES as u64 || *c != SAMPLES as u64 => "N,C,S",
        (0, [..]) if dims.len() == 3 => "N,S,C",
        (1, [c, _, s]) if *s == SAMPLES as u64 || *c != SAMPLES as u64 => "C,N,S",
        (1, [_, _, _]) => "S,N,C",
        (2, [c, s, _]) if *s == SAMPLES as u64 || *c != SAMPLES as u64 => "C,S,N",
        (2, [_, _, _]) => "S,C,N",
        _ => return String::new(),
    };
    format!(
        "; {name} is {}, so its recordings may be those {labels}: say so with --axes {axes}",
        text::dims(&dims)
    )
}

/// Finite values of an array that are none as float32.
#[derive(Default)]
struct Beyond {
    /// The first that is too large, and where it belongs.
    first: Option<(usize, f64)>,
    /// The largest of all by magnitude, and where it belongs.
    largest: Option<(usize, f64)>,
}

impl Beyond {
    /// Looks at a run of values of which the first is number `start` of the array as it is stored.
    fn look_at(&mut self, start: usize, run: &[f64], layout: &Layout) {
        let largest = self.largest.map_or(0.0, |(_, value)| value.abs());
        // Most runs hold none of either; infinities are, and are said to be, what they are.
        if largest >= f64::from(f32::MIN_POSITIVE) && run.iter().all(|v| v.abs() <= f64::from(f32::MAX)) {
            return;
        }
        for (i, &value) in run.iter().enumerate().filter(|(_, value)| value.is_finite() && **value != 0.0) {
            if self.largest.is_none_or(|(_, largest)| value.abs() > largest.abs()) {
                self.largest = Some((layout.target(start + i), value));
            }
            if (value as f32).is_infinite() {
                let at = layout.target(start + i);
                self.first = self.first.filter(|(first, _)| *first < at).or(Some((at, value)));
            }
        }
    }

    /// The largest value, if all are so small that nothing or little is left of them.
    fn all_too_small(&self) -> Option<(usize, f64)> {
        self.largest.filter(|(_, value)| value.abs() < f64::from(f32::MIN_POSITIVE))
    }
}
