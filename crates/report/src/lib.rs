//! Tidy tables to figures and one self-contained page.
//!
//! A run leaves its results in a folder as CSV files ([`rows`] has one type for each); [`build`] turns them into
//! `figures/*.{csv,svg,pdf,png}` and `report/index.html`, and [`tables`] into text for a terminal. No model is ever
//! loaded: whatever the page shows is in a file of the folder, and every figure is drawn from the tidy CSV that lies
//! beside it. What the folder lacks is left out, and the page says which file it would need.
//!
//! Nothing is printed from here.

// Tests of figures make the same run as those of the whole crate.
#[cfg(test)]
extern crate self as escape_report;

mod claims;
mod error;
mod export;
mod figures;
mod front;
pub mod interval;
mod nerve;
mod output;
mod page;
mod pdf;
mod plot;
mod published;
mod recordings;
mod render;
mod routes;
pub mod rows;
mod run;
mod scene;
mod seeds;
mod standing;
mod style;
mod tables;
mod tally;
mod text;
mod words;

use std::fmt;
use std::path::{Path, PathBuf};

pub use claims::{Claim, Quantised, Verdict};
pub use error::ReportError;
pub use nerve::{recordings_page, recordings_page_files};
pub use recordings::{Image, Images, NervePart, Part, RecordingsPage, Spectrum};
pub use rows::append_csv;
pub use style::{Colour, Font, Language, Lines, Palette, RouteColours, Style};
pub use tables::{Column, Table, Tables};
pub use text::ratio;

use run::Run;

/// Something the page cannot show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// The figure or table.
    pub item: String,
    /// The files it would need.
    pub files: Vec<&'static str>,
    /// What is wrong with them: `missing`, or what they lack.
    pub reason: String,
}

impl LeftOut {
    fn new(item: &str, files: &[&'static str], reason: &str) -> Self {
        Self { item: item.to_owned(), files: files.to_vec(), reason: reason.to_owned() }
    }
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let files = self.files.join(" and ");
        if self.reason == "missing" {
            write!(f, "{} needs {files}", self.item)
        } else {
            write!(f, "{}: {files} {}", self.item, self.reason)
        }
    }
}

/// What [`build`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportSummary {
    /// The page.
    pub page: PathBuf,
    /// Every file written, the page last.
    pub written: Vec<PathBuf>,
    /// What the page cannot show, and why.
    pub left_out: Vec<LeftOut>,
}

/// What [`verify`] found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Checked {
    /// How many figures there are.
    pub figures: usize,
    /// Their files that are not what the tables beside them draw, or are missing; a table, where it is missing itself.
    pub differing: Vec<PathBuf>,
}

/// Draw all figures of a run in the default style and write its page. Files are replaced whole; those of the run itself are only
/// read.
///
/// # Errors
/// There is no such folder, one of its files is malformed, or a file cannot be written.
pub fn build(run: &Path) -> Result<ReportSummary, ReportError> {
    build_in(run, &Style::default())
}

/// As [`build`], in a style, which is written beside the figures (`figures/style.yaml`).
///
/// # Errors
/// As [`build`].
pub fn build_in(run: &Path, style: &Style) -> Result<ReportSummary, ReportError> {
    let run = Run::load(run)?;
    let gallery = figures::all(&run, style)?;
    let tables = tables::all(&run);
    let mut left_out = missing_tables(&run, &tables);
    left_out.extend(gallery.left_out);
    let page = run.folder.join("report").join("index.html");
    output::write(&page, page::html(&run, style, &gallery.figures, &tables, &left_out).as_bytes())?;
    let mut written = gallery.written;
    written.extend(export::write(&run.folder, &tables)?);
    written.push(page.clone());
    Ok(ReportSummary { page, written, left_out })
}

/// Draw every figure of a folder again from the table beside it, and compare with the SVG, PDF and PNG that are there. The style is
/// the one given, else `figures/style.yaml`. Nothing is written.
///
/// # Errors
/// There is no figure, one of its tables is malformed, or the style is.
pub fn verify(folder: &Path, style: Option<&Style>) -> Result<Checked, ReportError> {
    if !folder.is_dir() {
        return Err(ReportError::NoRun { path: folder.to_owned() });
    }
    figures::check(folder, style)
}

/// Make sure that [`build`] would have something to show, and would not replace a page about recordings.
///
/// # Errors
/// [`ReportError::Nothing`], [`ReportError::OtherPage`], and those of [`build`] where a file cannot be read.
pub fn check(run: &Path) -> Result<(), ReportError> {
    if !run.is_dir() {
        return Err(ReportError::NoRun { path: run.to_owned() });
    }
    let page = run.join("report").join("index.html");
    if nerve::is_recordings_page(&page) {
        return Err(ReportError::OtherPage { path: page });
    }
    let there = rows::FILES
        .into_iter()
        .chain(rows::STUDY_FILES)
        .chain(["manifest.json"])
        .any(|file| run.join(file).exists());
    if there { Ok(()) } else { Err(ReportError::Nothing { path: run.to_owned() }) }
}

/// A recording to be shown by [`picture`].
#[derive(Debug, Clone, Copy)]
pub struct Shown<'a> {
    /// Its index among those of its split.
    pub index: usize,
    /// The name of its class.
    pub class: &'a str,
    /// Contacts (H).
    pub contacts: usize,
    /// H x W values, contact after contact.
    pub values: &'a [f32],
}

/// Draw recordings side by side on one colour scale, as SVG, PDF and PNG, from the CSV that is written beside them: `path`
/// with the extensions `.csv`, `.svg`, `.pdf` and `.png`. Returns the four.
///
/// # Errors
/// A file cannot be written, or the figure would be too large to draw.
pub fn picture(
    path: &Path,
    title: &str,
    sample_rate_hz: f64,
    shown: &[Shown<'_>],
) -> Result<Vec<PathBuf>, ReportError> {
    figures::recordings(path, title, sample_rate_hz, shown)
}

/// The tables of a run. Each prints as aligned plain text:
///
/// ```no_run
/// let tables = escape_report::tables("runs/demo".as_ref())?;
/// if let Some(table1) = tables.table1 {
///     let text = table1.to_string();
/// }
/// # Ok::<(), escape_report::ReportError>(())
/// ```
///
/// # Errors
/// There is no such folder, or one of its files is malformed.
pub fn tables(run: &Path) -> Result<Tables, ReportError> {
    Ok(tables::all(&Run::load(run)?))
}

/// Which claims of a saving survive: each spiking network of a folder, by each itemised model, against the ANNs that were
/// measured. Of a study those of its first seed.
///
/// # Errors
/// As [`tables`].
pub fn claims(run: &Path) -> Result<Vec<Claim>, ReportError> {
    Ok(claims::claims(&Run::load_alone(run)?))
}

fn missing_tables(run: &Run, tables: &Tables) -> Vec<LeftOut> {
    use rows::Row;
    let wanted = [
        ("Table 1", rows::Evaluation::FILE, tables.table1.is_none(), "has no rows"),
        ("Table 2", rows::Evaluation::FILE, tables.table2.is_none(), "has no row of a converted network"),
        ("Table 3", rows::Evaluation::FILE, tables.table3.is_none(), "has no row of a fine-tuned network"),
        ("The table of activity", rows::Activity::FILE, tables.activity.is_none(), "has no rows"),
        ("The table of energy", rows::Energy::FILE, tables.energy.is_none(), "has no rows"),
        (
            "The table of claims",
            rows::Evaluation::FILE,
            tables.claims.is_none(),
            "has no row of a spiking network of known energy",
        ),
        ("The table of settings", "manifest.json", run.manifest.is_none(), "is empty"),
    ];
    let of = |(item, file, absent, reason): (&str, &'static str, bool, &str)| {
        absent.then(|| {
            LeftOut::new(item, &[file], if run.missing(&[file]).is_empty() { reason } else { "missing" })
        })
    };
    let mut left_out: Vec<LeftOut> = wanted.into_iter().filter_map(of).collect();
    // Networks that other seeds have, but not the one whose tables these are.
    let of_first = |network: &str| run.evaluations.iter().flatten().any(|e| e.network == network);
    let others = run.outcomes.iter().flatten().filter(|o| o.kind.is_spiking() && o.seed.is_some());
    let others = run::distinct(others.map(|o| o.network.as_str()));
    left_out.extend(others.iter().filter(|network| !of_first(network)).map(|network| {
        let reason = "has no row of the study's first seed, by whose networks these tables and figures go";
        LeftOut::new(&format!("Energy and activity of {network}"), &[rows::Evaluation::FILE], reason)
    }));
    left_out
}
