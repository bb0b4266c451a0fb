//! A page about recordings: where they come from and what they look like.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::ReportError;
use crate::figures::{self, Chapter};
use crate::scene::escape;
use crate::{ReportSummary, output, page};

/// What a row of the picture of a nerve stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// The cuff's inner wall.
    Cuff,
    /// A contact on it; its radius is half its width.
    Contact,
    /// A fascicle.
    Fascicle,
    /// A fibre.
    Fibre,
}

/// Something to be seen in a nerve's cross-section. The axis of the cuff is at 0, 0.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NervePart {
    /// What it is.
    pub part: Part,
    /// The class of a fascicle or fibre, empty otherwise.
    pub class: String,
    /// Its centre, in millimetres.
    pub x_mm: f64,
    /// Its centre, in millimetres.
    pub y_mm: f64,
    /// Its radius, in millimetres; 0 for a fibre.
    pub radius_mm: f64,
    /// Conduction velocity of a fibre, in m/s.
    pub velocity_m_s: Option<f64>,
}

/// Contacts by time.
#[derive(Debug, Clone, PartialEq)]
pub struct Image<'a> {
    /// What the values are; images of the same kind are drawn in a row.
    pub what: &'a str,
    /// The name of their class.
    pub class: &'a str,
    /// H x W values, contact after contact.
    pub values: Vec<f32>,
}

/// Images of all classes, of one kind or more.
#[derive(Debug, Clone, PartialEq)]
pub struct Images<'a> {
    /// Contacts (H).
    pub contacts: usize,
    /// Contacts that belong together, such as those of a ring.
    pub rows_together: usize,
    /// Kind after kind, class after class.
    pub of_class: Vec<Image<'a>>,
    /// What they show.
    pub caption: String,
}

/// The mean spectrum of a class.
#[derive(Debug, Clone, PartialEq)]
pub struct Spectrum<'a> {
    /// The name of the class.
    pub class: &'a str,
    /// Between two values, in hertz.
    pub step_hz: f64,
    /// Power in any unit at 1, 2, ... times `step_hz`.
    pub power: Vec<f64>,
}

/// What a page about recordings shows. What is empty is left out.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordingsPage<'a> {
    /// The page's title.
    pub title: String,
    /// What the recordings are, in a sentence or two.
    pub lead: String,
    /// Sampling rate, in hertz.
    pub sample_rate_hz: f64,
    /// The nerve's cross-section.
    pub nerve: Vec<NervePart>,
    /// One recording of each class.
    pub traces: Images<'a>,
    /// What the recordings of each class have in common.
    pub means: Images<'a>,
    /// Their spectra.
    pub spectra: Vec<Spectrum<'a>>,
    /// Names and values of the settings they were made with.
    pub settings: serde_json::Map<String, serde_json::Value>,
}

/// What stands over the title of such a page; it also tells one from a run's.
const KICKER: &str = "Recordings of a nerve cuff";

/// Whether the page in a folder is one about recordings.
pub(crate) fn is_recordings_page(page: &Path) -> bool {
    let head = |page: &Path| -> std::io::Result<String> {
        let mut bytes = Vec::new();
        // Styles come first, a few kilobytes of them.
        std::io::Read::read_to_end(
            &mut std::io::Read::take(std::fs::File::open(page)?, 1 << 16),
            &mut bytes,
        )?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    head(page).is_ok_and(|head| head.contains(&page::kicker(KICKER)))
}

/// The files that [`recordings_page`] writes into a folder.
pub fn recordings_page_files(folder: &Path) -> Vec<PathBuf> {
    let figures = ["nerve_section", "traces", "means", "spectra"].iter().flat_map(|stem| {
        ["csv", "svg", "png"].map(|extension| folder.join("figures").join(format!("{stem}.{extension}")))
    });
    figures.chain([folder.join("report").join("index.html")]).collect()
}

/// Draw recordings and the nerve that they come from: `figures/*.{csv,svg,png}` and `report/index.html` in a folder.
///
/// # Errors
/// A file cannot be written.
pub fn recordings_page(folder: &Path, shown: &RecordingsPage<'_>) -> Result<ReportSummary, ReportError> {
    let gallery = figures::of_recordings(folder, shown)?;
    let of = |chapter: Chapter| {
        gallery.figures.iter().filter(|f| f.chapter == chapter).map(page::figure).collect::<String>()
    };
    let chapters = [
        ("nerve", "The nerve", of(Chapter::Nerve)),
        ("recordings", "The recordings", of(Chapter::Recordings)),
        ("settings", "Settings", page::manifest(&shown.settings)),
    ];
    let html = page::document(
        &shown.title,
        KICKER,
        &shown.title,
        &escape(&shown.lead),
        &chapters.into_iter().filter(|(.., body)| !body.is_empty()).collect::<Vec<_>>(),
    );
    let path = folder.join("report").join("index.html");
    output::write(&path, html.as_bytes())?;
    let mut written = gallery.written;
    written.push(path.clone());
    Ok(ReportSummary { page: path, written, left_out: gallery.left_out })
}
