//! The figures. Each is made in two steps: `derive` turns the run's tables into one tidy table of its own, which
//! is written beside the figure; `draw` reads nothing but that table.

mod accuracy;
mod confusion;
mod counts;
mod energy;
mod nerve;
mod rasters;
mod recording;
mod steps;
mod training;
mod work;

pub(crate) use recording::picture as recordings;

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::LeftOut;
use crate::error::ReportError;
use crate::recordings::RecordingsPage;
use crate::rows;
use crate::run::Run;
use crate::scene::Scene;
use crate::{output, render};

/// Width of every figure.
pub(crate) const WIDTH: f64 = 720.0;

/// Chapters of the page that figures belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Chapter {
    Accuracy,
    Energy,
    Input,
    Nerve,
    Recordings,
    Training,
    Spikes,
}

/// A figure as the page shows it.
pub(crate) struct Figure {
    pub chapter: Chapter,
    /// File name without extension; also its anchor on the page.
    pub stem: String,
    /// `Figure 4`, or what it is for figures the study does not have.
    pub label: String,
    /// Below the figure, plain text.
    pub caption: String,
    /// To be placed on the page.
    pub svg: String,
}

/// What to call a figure and where it belongs.
pub(crate) struct Plan {
    pub chapter: Chapter,
    pub stem: String,
    pub label: &'static str,
    pub caption: String,
}

/// The figures made so far.
pub(crate) struct Gallery {
    folder: PathBuf,
    pub figures: Vec<Figure>,
    pub written: Vec<PathBuf>,
    pub left_out: Vec<LeftOut>,
}

impl Gallery {
    fn new(folder: &Path) -> Self {
        let folder = folder.join("figures");
        Self { folder, figures: Vec::new(), written: Vec::new(), left_out: Vec::new() }
    }

    /// Write the tidy table, draw the figure from what was written, and write it in both formats.
    fn add<R: Serialize + DeserializeOwned>(
        &mut self,
        mut plan: Plan,
        table: &[R],
        draw: impl FnOnce(&[R]) -> Scene,
    ) -> Result<(), ReportError> {
        // Names that differ in signs a file name cannot have.
        while self.figures.iter().any(|f| f.stem == plan.stem) {
            plan.stem.push_str("_2");
        }
        let path = |extension: &str| self.folder.join(format!("{}.{extension}", plan.stem));
        let paths = [path("csv"), path("svg"), path("png")];
        let svg = publish(&paths, table, draw)?;
        self.written.extend(paths);
        let Plan { chapter, stem, label, caption } = plan;
        self.figures.push(Figure { chapter, stem, label: label.to_owned(), caption, svg });
        Ok(())
    }

    /// Note that something cannot be shown.
    fn leave_out(&mut self, item: &str, files: &[&'static str], reason: &str) {
        self.left_out.push(LeftOut::new(item, files, reason));
    }

    /// Whether all these tables are there; if not, the figure is noted as left out.
    fn has(&mut self, run: &Run, item: &str, files: &[&'static str]) -> bool {
        let missing = run.missing(files);
        if !missing.is_empty() {
            self.leave_out(item, &missing, "missing");
        }
        missing.is_empty()
    }
}

/// Write a tidy table, draw a figure from what was written, and write it as SVG and PNG; returns the SVG as part of a
/// page.
fn publish<R: Serialize + DeserializeOwned>(
    [csv, svg, png]: &[PathBuf; 3],
    table: &[R],
    draw: impl FnOnce(&[R]) -> Scene,
) -> Result<String, ReportError> {
    let failed = |what| ReportError::Draw { path: csv.clone(), what };
    let bytes = to_csv(table).map_err(|e| failed(e.to_string()))?;
    output::write(csv, &bytes)?;
    let rows: Vec<R> = rows::parse(csv, &bytes, &[])?.into_iter().map(|(row, _)| row).collect();
    let scene = draw(&rows);
    let drawing = render::drawing(&scene).map_err(failed)?;
    output::write(svg, render::file(&scene, &drawing).as_bytes())?;
    output::write(png, &render::png(&scene).map_err(failed)?)?;
    Ok(render::fragment(&scene, &drawing))
}

fn to_csv<R: Serialize>(table: &[R]) -> Result<Vec<u8>, csv::Error> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    for row in table {
        writer.serialize(row)?;
    }
    writer.into_inner().map_err(|e| e.into_error().into())
}

/// All figures of a run.
pub(crate) fn all(run: &Run) -> Result<Gallery, ReportError> {
    let mut gallery = Gallery::new(&run.folder);
    accuracy::add(run, &mut gallery)?;
    confusion::add(run, &mut gallery)?;
    work::add(run, &mut gallery)?;
    energy::add_components(run, &mut gallery)?;
    energy::add_steps(run, &mut gallery)?;
    recording::add_image(run, &mut gallery)?;
    recording::add_spikes(run, &mut gallery)?;
    training::add(run, &mut gallery)?;
    steps::add(run, &mut gallery)?;
    rasters::add(run, &mut gallery)?;
    counts::add(run, &mut gallery)?;
    Ok(gallery)
}

/// All figures of a page about recordings.
pub(crate) fn of_recordings(folder: &Path, shown: &RecordingsPage<'_>) -> Result<Gallery, ReportError> {
    let mut gallery = Gallery::new(folder);
    let rate = shown.sample_rate_hz;
    if !shown.nerve.is_empty() {
        nerve::add_section(&shown.nerve, &mut gallery)?;
    }
    if !shown.traces.of_class.is_empty() {
        nerve::add_traces(&shown.traces, rate, &mut gallery)?;
    }
    if !shown.means.of_class.is_empty() {
        nerve::add_means(&shown.means, rate, &mut gallery)?;
    }
    if !shown.spectra.is_empty() {
        nerve::add_spectra(&shown.spectra, &mut gallery)?;
    }
    Ok(gallery)
}

/// File name of a figure of one network out of several: the first has the plain name.
fn stem(base: &str, index: usize, network: &str) -> String {
    if index == 0 { base.to_owned() } else { format!("{base}_{}", crate::text::slug(network)) }
}
