//! `escape-snn data`

mod page;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use escape_data::frames::{FrameFormat, write_frames};
use escape_data::nerve::NerveConfig;
use escape_data::{
    Dataset, DatasetSummary, Note, ReadOptions, Rescale, Split, SplitSummary, write_mat, write_npz,
};
use escape_report::{Shown, picture};
use escape_study::load::{dataset, read_dataset, simulated};
use escape_study::place::{check_apart, check_file, check_folder, check_results, existing, existing_data};
use escape_study::session::{Session, usage};
use serde::Serialize;

use super::{table, thousands};
use crate::args::{DataArgs, DataCommand};
use crate::context::Context;

pub fn run(context: &Context, args: DataArgs) -> Result<()> {
    let session = &context.session;
    match args.command {
        DataCommand::Simulate { out, config, samples, animal, fold, page } => {
            check_extension(session, &out, &["npz", "mat"])?;
            if let Some(folder) = &page {
                check_page(session, folder, &[&out])?;
            }
            let mut config = match config {
                Some(path) => NerveConfig::read(&existing(&path)?).map_err(|e| usage(e.to_string()))?,
                None => NerveConfig::default(),
            };
            let session =
                &config.seed.map_or_else(|| context.session.clone(), |seed| context.session_with_seed(seed));
            config.samples = samples.unwrap_or(config.samples);
            config.animal = animal.unwrap_or(config.animal);
            config.fold = fold.unwrap_or(config.fold);
            // It is the context's from here on: --seed comes before it.
            config.seed = None;
            let dataset = simulated(session, &config)?;
            write(&out, &dataset)?;
            if let Some(folder) = &page {
                page::simulated(session, folder, &config, &dataset)?;
            }
            context.result(&dataset.summary(), || describe(&dataset.summary()))
        }
        DataCommand::Inspect { file, reading, picture, page } => {
            if let Some(picture) = &picture {
                check_picture(session, picture, &file, &reading.options())?;
            }
            if let Some(folder) = &page {
                let inputs = escape_data::files(&existing_data(&file)?, &reading.options())?;
                check_page(session, folder, &inputs.iter().map(PathBuf::as_path).collect::<Vec<_>>())?;
            }
            let (dataset, notes) = read_dataset(&file, &reading.options())?;
            let inspection = Inspection::new(&dataset, notes);
            if let Some(picture) = &picture {
                draw(&dataset, &file, picture)?;
            }
            if let Some(folder) = &page {
                page::of_file(session, folder, &file, &dataset)?;
            }
            context.result(&inspection, || inspection.text())
        }
        DataCommand::Convert { from, to, reading } => {
            let inputs = escape_data::files(&existing_data(&from)?, &reading.options())?;
            check_apart(&to, &inputs.iter().map(PathBuf::as_path).collect::<Vec<_>>())?;
            check_extension(session, &to, &["npz", "mat", "f32", "i16"])?;
            let dataset = dataset(session, &from, &reading.options())?;
            match FrameFormat::of_name(&to) {
                Some(format) => frames(session, &to, &dataset, format)?,
                None => write(&to, &dataset)?,
            }
            context.result(&dataset.summary(), || describe(&dataset.summary()))
        }
    }
}

fn has_extension(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case(extension))
}

/// Makes sure that recordings can be written to a file of this name.
fn check_extension(session: &Session, path: &Path, allowed: &[&str]) -> Result<()> {
    check_name(path, allowed)?;
    check_file(session, path)
}

fn check_name(path: &Path, allowed: &[&str]) -> Result<()> {
    if !allowed.iter().any(|extension| has_extension(path, extension)) {
        let named: Vec<String> = allowed.iter().map(|extension| format!(".{extension}")).collect();
        return Err(usage(format!(
            "{}: expected a name that ends in {}; name such a file",
            path.display(),
            named.join(" or ")
        )));
    }
    Ok(())
}

fn write(path: &Path, dataset: &Dataset) -> Result<()> {
    let written =
        if has_extension(path, "mat") { write_mat(path, dataset) } else { write_npz(path, dataset) };
    Ok(written?)
}

/// Writes the recordings of one split as raw frames, and says what that leaves out.
fn frames(session: &Session, path: &Path, dataset: &Dataset, format: FrameFormat) -> Result<()> {
    let (split, left) = match dataset.test.is_empty() {
        true => (Split::Train, String::new()),
        false => (Split::Test, format!(" and {} training recordings", thousands(dataset.train.len() as f64))),
    };
    let recordings = dataset.split(split);
    write_frames(path, recordings, format)?;
    session.note(format!(
        "note: {}: {} {split} recordings of {} contacts x {} samples, as raw frames of {format}; labels, classes, sampling \
         rate{left} have no place there",
        path.display(),
        thousands(recordings.len() as f64),
        recordings.contacts,
        recordings.samples
    ));
    Ok(())
}

/// What is in a file, and how it was understood.
#[derive(Serialize)]
struct Inspection {
    format: String,
    #[serde(flatten)]
    summary: DatasetSummary,
    scaling: BySplit,
    /// Each in a sentence.
    notes: Vec<String>,
    /// The same in parts.
    found: Vec<Note>,
}

/// How the recordings of each split were scaled: `none` or `per-recording`.
#[derive(Serialize)]
struct BySplit {
    train: Rescale,
    test: Rescale,
}

impl Inspection {
    fn new(dataset: &Dataset, found: Vec<Note>) -> Self {
        let format = found.iter().find_map(|note| match note {
            Note::Format { format } => Some(format.clone()),
            _ => None,
        });
        let scaling = |wanted: Split| {
            let scaled =
                found.iter().any(|note| matches!(note, Note::Scaled { split, .. } if *split == wanted));
            if scaled { Rescale::PerRecording } else { Rescale::None }
        };
        let sentences = found.iter().filter(|note| !matches!(note, Note::Format { .. }));
        Self {
            format: format.unwrap_or_default(),
            summary: dataset.summary(),
            scaling: BySplit { train: scaling(Split::Train), test: scaling(Split::Test) },
            notes: sentences.map(Note::to_string).collect(),
            found,
        }
    }

    fn text(&self) -> String {
        let notes: String = self.notes.iter().map(|note| format!("{note}\n")).collect();
        format!("{}\n{}\n{notes}", self.format, describe(&self.summary))
    }
}

/// Makes sure, before the work, that a page can be written and replaces none of the work's own files.
fn check_page(session: &Session, folder: &Path, others: &[&Path]) -> Result<()> {
    check_folder(folder)?;
    check_results(session, folder, &["report/index.html"], "a page", "")?;
    escape_report::recordings_page_files(folder).iter().try_for_each(|path| check_apart(path, others))
}

/// Makes sure, before the work, that a picture and what belongs to it can be written.
fn check_picture(session: &Session, picture: &Path, from: &Path, options: &ReadOptions) -> Result<()> {
    check_name(picture, &["png"])?;
    let inputs = escape_data::files(&existing_data(from)?, options)?;
    let inputs: Vec<&Path> = inputs.iter().map(PathBuf::as_path).collect();
    ["csv", "svg", "pdf", "png"].iter().try_for_each(|extension| {
        let path = picture.with_extension(extension);
        check_apart(&path, &inputs)?;
        check_file(session, &path)
    })
}

/// Classes that are drawn, at most.
const DRAWN: usize = 12;

/// Names of the classes that are drawn.
fn class_names(dataset: &Dataset) -> Vec<String> {
    dataset.classes.iter().take(DRAWN).cloned().collect()
}

/// Draws the first recording of each class, of the test split if there is one.
fn draw(dataset: &Dataset, file: &Path, picture_path: &Path) -> Result<()> {
    let split = if dataset.test.is_empty() { Split::Train } else { Split::Test };
    let recordings = dataset.split(split);
    let first = |class: usize| recordings.y.iter().position(|&label| label == class as i64);
    let names = class_names(dataset);
    let shown: Vec<Shown> = names
        .iter()
        .enumerate()
        .filter_map(|(class, name)| {
            let index = first(class)?;
            let (contacts, values) = (recordings.contacts, recordings.get(index));
            Some(Shown { index, class: name, contacts, values })
        })
        .collect();
    if shown.is_empty() {
        return Err(usage(format!("{}: no recording to draw; leave --picture out", file.display())));
    }
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let title = format!("The first {split} recording of each class in {name}");
    picture(picture_path, &title, dataset.sample_rate_hz, &shown)
        .with_context(|| format!("{}: the picture could not be drawn", picture_path.display()))?;
    Ok(())
}

fn describe(summary: &DatasetSummary) -> String {
    let head = ["split", "recordings", "contacts", "samples", "min", "max", "mean", "sd", "constant"];
    let mut rows: Vec<Vec<String>> =
        vec![head.iter().map(|s| s.to_string()).chain(summary.class_names.iter().cloned()).collect()];
    rows.push(row("train", &summary.train));
    rows.push(row("test", &summary.test));
    let alike =
        [("train", &summary.train), ("test", &summary.test)].into_iter().filter_map(|(name, split)| {
            let neighbours = split.neighbours?;
            Some(format!(
                "\n{name}: neighbouring samples correlate by {:.2}, neighbouring contacts by {:.2}",
                neighbours.time, neighbours.contacts
            ))
        });
    let alike: String = alike.collect();
    format!("{}\n{} Hz{alike}", table(&rows), thousands(summary.sample_rate_hz))
}

/// A value with three decimals, or with three figures where it is too small for them.
fn figure(value: f64) -> String {
    if value != 0.0 && value.abs() < 0.01 { format!("{value:.2e}") } else { format!("{value:.3}") }
}

fn row(name: &str, s: &SplitSummary) -> Vec<String> {
    let mut cells = vec![name.to_string()];
    cells.extend([s.recordings, s.contacts, s.samples].map(|n| thousands(n as f64)));
    cells.extend([s.min, s.max, s.mean, s.sd].map(|v| v.map_or_else(String::new, figure)));
    cells.push(thousands(s.constant_recordings as f64));
    cells.extend(s.class_counts.iter().map(|n| thousands(*n as f64)));
    cells
}
