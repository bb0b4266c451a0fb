//! The figures. Each is made in two steps: `derive` turns the run's tables into one tidy table of its own, which
//! is written beside the figure; [`Drawn::draw`] reads nothing but that table and a style, so that [`check`] can draw it again.

pub(crate) mod accuracy;
mod confusion;
mod counts;
mod energy;
mod front;
mod nerve;
mod rasters;
mod recording;
mod steps;
pub(crate) mod training;
mod work;

pub(crate) use recording::picture as recordings;

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::ReportError;
use crate::recordings::RecordingsPage;
use crate::rows;
use crate::run::Run;
use crate::scene::Scene;
use crate::style::Style;
use crate::{Checked, LeftOut, output, pdf, render};

/// What a figure is written as; the table that it is drawn from comes first.
pub(crate) const EXTENSIONS: [&str; 4] = ["csv", "svg", "pdf", "png"];
/// The style that a folder's figures were drawn in.
pub(crate) const STYLE: &str = "style.yaml";

/// Figures wider than this, in units, take the page's whole width.
const COLUMN: f64 = 560.0;

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

/// A row of the tidy table behind a figure.
pub(crate) trait Drawn: Serialize + DeserializeOwned {
    /// The figure of a table.
    fn draw<'s>(rows: &[Self], style: &'s Style) -> Scene<'s>;
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
    /// It takes the page's whole width.
    pub wide: bool,
}

/// What to call a figure and where it belongs.
pub(crate) struct Plan {
    pub chapter: Chapter,
    pub stem: String,
    pub label: &'static str,
    pub caption: String,
}

/// The figures made so far.
pub(crate) struct Gallery<'s> {
    folder: PathBuf,
    style: &'s Style,
    pub figures: Vec<Figure>,
    pub written: Vec<PathBuf>,
    pub left_out: Vec<LeftOut>,
}

impl<'s> Gallery<'s> {
    fn new(folder: &Path, style: &'s Style) -> Self {
        let folder = folder.join("figures");
        Self { folder, style, figures: Vec::new(), written: Vec::new(), left_out: Vec::new() }
    }

    /// Write the tidy table, draw the figure from what was written, and write it in every format.
    fn add<R: Drawn>(&mut self, mut plan: Plan, table: &[R]) -> Result<(), ReportError> {
        // Names that differ in signs a file name cannot have.
        while self.figures.iter().any(|f| f.stem == plan.stem) {
            plan.stem.push_str("_2");
        }
        let paths = EXTENSIONS.map(|extension| self.folder.join(format!("{}.{extension}", plan.stem)));
        let (svg, wide) = publish(&paths, table, self.style, R::draw)?;
        self.written.extend(paths);
        let Plan { chapter, stem, label, caption } = plan;
        self.figures.push(Figure { chapter, stem, label: label.to_owned(), caption, svg, wide });
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

    /// Write the style beside the figures, so that they can be drawn again.
    fn finished(mut self) -> Result<Self, ReportError> {
        if !self.figures.is_empty() {
            let path = self.folder.join(STYLE);
            let failed = |e: serde_yaml::Error| ReportError::Draw { path: path.clone(), what: e.to_string() };
            output::write(&path, self.style.yaml().map_err(failed)?.as_bytes())?;
            self.written.push(path);
        }
        self.clear();
        Ok(self)
    }

    /// Remove figures of before that are drawn no more: those there are in every format, as only this program leaves them. One that
    /// cannot be removed stays.
    fn clear(&self) {
        let files = |stem: &str| EXTENSIONS.map(|e| self.folder.join(format!("{stem}.{e}")));
        let there = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let stems = there.filter_map(|file| Some(file.path().file_stem()?.to_str()?.to_owned()));
        let is_ours = |stem: &String| DRAWINGS.iter().any(|(start, _)| stem.starts_with(start));
        let old = stems.filter(|stem| is_ours(stem) && self.figures.iter().all(|f| f.stem != *stem));
        old.for_each(|stem| output::take_away(&files(&stem)));
    }
}

/// Write a tidy table, draw a figure from what was written, and write it in every format; returns the SVG as part of a page,
/// and whether it takes the page's whole width.
fn publish<R: Serialize + DeserializeOwned>(
    paths: &[PathBuf; 4],
    table: &[R],
    style: &Style,
    draw: impl for<'s> FnOnce(&[R], &'s Style) -> Scene<'s>,
) -> Result<(String, bool), ReportError> {
    let [csv, pictures @ ..] = paths;
    let bytes = to_csv(table).map_err(|e| ReportError::Draw { path: csv.clone(), what: e.to_string() })?;
    output::write(csv, &bytes)?;
    let scene = draw(&read(csv, &bytes)?, style);
    let (drawing, files) = drawn(csv, &scene)?;
    pictures.iter().zip(&files).try_for_each(|(path, file)| output::write(path, file))?;
    Ok((render::fragment(&scene, &drawing), scene.width > COLUMN))
}

/// A figure as part of a page, and the files of the formats after CSV in [`EXTENSIONS`].
fn drawn(csv: &Path, scene: &Scene<'_>) -> Result<(String, [Vec<u8>; 3]), ReportError> {
    let failed = |what| ReportError::Draw { path: csv.to_owned(), what };
    let drawing = render::drawing(scene).map_err(failed)?;
    let svg = render::file(scene, &drawing).into_bytes();
    Ok((drawing, [svg, pdf::file(scene).map_err(failed)?, render::png(scene).map_err(failed)?]))
}

/// The rows of a tidy table.
fn read<R: DeserializeOwned>(csv: &Path, bytes: &[u8]) -> Result<Vec<R>, ReportError> {
    Ok(rows::parse(csv, bytes, &[])?.into_iter().map(|(row, _)| row).collect())
}

/// The figure of a table as its file has it.
fn redrawn<'s, R: Drawn>(csv: &Path, bytes: &[u8], style: &'s Style) -> Result<Scene<'s>, ReportError> {
    let rows = read::<R>(csv, bytes)?;
    if rows.is_empty() {
        let (expected, got) = ("a row or more".to_owned(), "none".to_owned());
        return Err(ReportError::Line { path: csv.to_owned(), line: 2, expected, got });
    }
    Ok(R::draw(&rows, style))
}

fn to_csv<R: Serialize>(table: &[R]) -> Result<Vec<u8>, csv::Error> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    for row in table {
        writer.serialize(row)?;
    }
    writer.into_inner().map_err(|e| e.into_error().into())
}

type Redraw = for<'s> fn(&Path, &[u8], &'s Style) -> Result<Scene<'s>, ReportError>;

/// How each figure is drawn from its table, by the beginning of its name.
const DRAWINGS: [(&str, Redraw); 17] = [
    ("front", redrawn::<front::Point>),
    ("accuracy_timesteps", redrawn::<accuracy::Point>),
    ("confusion", redrawn::<confusion::Cell>),
    ("fig1_recording", redrawn::<recording::Pixel>),
    ("fig2_input_spikes", redrawn::<recording::Spikes>),
    ("fig3_", redrawn::<training::Point>),
    ("fig4_raster_", redrawn::<rasters::Bin>),
    ("fig5_histogram", redrawn::<counts::Bar>),
    ("fig5_channels", redrawn::<counts::Channel>),
    ("fig6_computations", redrawn::<work::Work>),
    ("fig7_energy", redrawn::<energy::Part>),
    ("fig8_energy_steps", redrawn::<energy::Spent>),
    ("spikes_by_step", redrawn::<steps::Count>),
    ("nerve_section", redrawn::<crate::NervePart>),
    ("traces", redrawn::<nerve::Cell<false>>),
    ("means", redrawn::<nerve::Cell<true>>),
    ("spectra", redrawn::<nerve::Bin>),
];

/// Draw every figure of a folder again from its table, in the style given or else in the one that it was drawn in, and compare with
/// what is there. A figure without its table, but in two formats or more, has nothing that it could be drawn from.
pub(crate) fn check(folder: &Path, style: Option<&Style>) -> Result<Checked, ReportError> {
    let figures = folder.join("figures");
    let stored = figures.join(STYLE);
    let own;
    let style = match style {
        Some(style) => style,
        None => {
            own = if stored.exists() { Style::read(&stored)? } else { Style::default() };
            &own
        }
    };
    let mut tables: Vec<PathBuf> = match fs::read_dir(&figures) {
        Ok(entries) => entries.filter_map(|entry| Some(entry.ok()?.path())).collect(),
        Err(_) => return Err(ReportError::NoFigure { path: folder.to_owned() }),
    };
    tables.retain(|path| path.extension().is_some_and(|e| EXTENSIONS.iter().any(|known| e == *known)));
    tables.iter_mut().for_each(|path| _ = path.set_extension(EXTENSIONS[0]));
    tables.sort();
    let mut checked = Checked::default();
    for formats in tables.chunk_by(|a, b| a == b) {
        let csv = &formats[0];
        if !csv.exists() && formats.len() == 1 {
            continue;
        }
        let stem = csv.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let Some((_, redraw)) = DRAWINGS.iter().find(|(start, _)| stem.starts_with(start)) else { continue };
        checked.figures += 1;
        if !csv.exists() {
            checked.differing.push(csv.clone());
            continue;
        }
        let bytes = fs::read(csv).map_err(ReportError::io("read", csv))?;
        let (_, expected) = drawn(csv, &redraw(csv, &bytes, style)?)?;
        let paths = EXTENSIONS[1..].iter().map(|extension| csv.with_extension(extension));
        let other = paths.zip(&expected).filter(|(path, file)| fs::read(path).ok().as_ref() != Some(file));
        checked.differing.extend(other.map(|(path, _)| path));
    }
    match checked.figures {
        0 => Err(ReportError::NoFigure { path: folder.to_owned() }),
        _ => Ok(checked),
    }
}

/// All figures of a run.
pub(crate) fn all<'s>(run: &Run, style: &'s Style) -> Result<Gallery<'s>, ReportError> {
    let mut gallery = Gallery::new(&run.folder, style);
    front::add(run, &mut gallery)?;
    accuracy::add(run, &mut gallery)?;
    confusion::add(run, &mut gallery)?;
    recording::add_image(run, &mut gallery)?;
    recording::add_spikes(run, &mut gallery)?;
    training::add(run, &mut gallery)?;
    rasters::add(run, &mut gallery)?;
    counts::add(run, &mut gallery)?;
    steps::add(run, &mut gallery)?;
    work::add(run, &mut gallery)?;
    energy::add_components(run, &mut gallery)?;
    energy::add_steps(run, &mut gallery)?;
    gallery.finished()
}

/// All figures of a page about recordings.
pub(crate) fn of_recordings<'s>(
    folder: &Path,
    shown: &RecordingsPage<'_>,
    style: &'s Style,
) -> Result<Gallery<'s>, ReportError> {
    let mut gallery = Gallery::new(folder, style);
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
    gallery.finished()
}

/// File name of a figure of one network out of several: the first has the plain name.
fn stem(base: &str, index: usize, network: &str) -> String {
    if index == 0 { base.to_owned() } else { format!("{base}_{}", crate::text::slug(network)) }
}

/// Networks of a figure that has a panel for each, as many as a page has room for, evenly spread over as few figures as that takes.
fn pages(networks: &[String], most: usize) -> Vec<&[String]> {
    if networks.is_empty() {
        return vec![networks];
    }
    let figures = networks.len().div_ceil(most);
    networks.chunks(networks.len().div_ceil(figures).max(1)).collect()
}

/// Stem of one of several figures: the first has the plain name.
fn page_stem(base: &str, page: usize) -> String {
    if page == 0 { base.to_owned() } else { format!("{base}_{}", page + 1) }
}

/// Panels side by side in a figure, each at least so wide.
fn across(width: f64, least: f64) -> usize {
    ((width / least) as usize).clamp(1, 4)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a generator for tests may panic")]
#[path = "../../tests/synthetic/mod.rs"]
mod synthetic;

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::scene::{Anchor, Item};
    use crate::style::{Font, Language};

    /// A run and its figures in a style.
    fn drawn(style: &Style) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        synthetic::write(folder.path(), 0.02);
        all(&Run::load(folder.path()).unwrap(), style).unwrap();
        folder
    }

    fn tables(folder: &Path) -> Vec<PathBuf> {
        let files = fs::read_dir(folder.join("figures")).unwrap().map(|f| f.unwrap().path());
        let mut tables: Vec<_> = files.filter(|f| f.extension().is_some_and(|e| e == "csv")).collect();
        tables.sort();
        tables
    }

    /// Left, top, right, bottom and string of every text.
    fn texts(scene: &Scene<'_>) -> Vec<([f64; 4], String)> {
        let text = |item: &Item| {
            let Item::Text { x, y, string, style } = item else { return None };
            let width = style.width(string);
            let left = x - width
                * match style.anchor {
                    Anchor::Start => 0.0,
                    Anchor::Middle => 0.5,
                    Anchor::End => 1.0,
                };
            (!string.is_empty()).then(|| ([left, y - 0.7 * style.size, left + width, *y], string.clone()))
        };
        scene.items.iter().filter_map(text).collect()
    }

    #[test]
    fn every_text_is_in_the_picture_and_none_upon_another() {
        let large = Font { text_pt: 9.0, title_pt: 11.0, panel_pt: 9.5, ..Font::default() };
        let styles = [
            Style::default(),
            Style { language: Language::De, titles: false, ..Style::default() },
            Style { width_mm: 170.0, ..Style::default() },
            Style { font: large, ..Style::default() },
        ];
        let folder = drawn(&styles[0]);
        let mut wrong = Vec::new();
        for style in &styles {
            for csv in tables(folder.path()) {
                let stem = csv.file_stem().unwrap().to_string_lossy().into_owned();
                let (_, redraw) = DRAWINGS.iter().find(|(start, _)| stem.starts_with(start)).unwrap();
                let scene = redraw(&csv, &fs::read(&csv).unwrap(), style).unwrap();
                let at = format!("{stem} at {} mm, {:?}", style.width_mm, style.language);
                let texts = texts(&scene);
                for (i, ([l, t, r, b], string)) in texts.iter().enumerate() {
                    // The page cuts the first 12 units off.
                    let inside = *l >= 11.0 && *t >= 0.0 && *r <= scene.width + 0.5 && *b <= scene.height;
                    if !inside {
                        wrong.push(format!(
                            "{at}: `{string}` from {l:.0} to {r:.0} of {:.0}, {b:.0}",
                            scene.width
                        ));
                    }
                    for ([l2, t2, r2, b2], other) in &texts[i + 1..] {
                        if !(r < l2 || r2 < l || b < t2 || b2 < t) {
                            wrong.push(format!("{at}: `{string}` and `{other}` overlap at {l:.0}, {b:.0}"));
                        }
                    }
                }
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn figures_of_before_are_taken_away_and_nothing_else() {
        let style = Style::default();
        let folder = drawn(&style);
        let figures = folder.path().join("figures");
        let put = |name: &str| fs::write(figures.join(name), "x").unwrap();
        EXTENSIONS.iter().for_each(|e| put(&format!("confusion_7.{e}")));
        ["confusion_mine.png", "notes.csv"].iter().for_each(|name| put(name));
        all(&Run::load(folder.path()).unwrap(), &style).unwrap();
        let is_there = |name: &str| figures.join(name).exists();
        assert!(EXTENSIONS.iter().all(|e| !is_there(&format!("confusion_7.{e}"))));
        assert!(
            ["confusion_mine.png", "notes.csv", "confusion.csv", "confusion.pdf"].into_iter().all(is_there)
        );
    }

    #[test]
    fn many_networks_are_spread_evenly_over_pages() {
        let names: Vec<String> = (0..12).map(|i| i.to_string()).collect();
        let lengths = |n: usize| pages(&names[..n], 10).iter().map(|page| page.len()).collect::<Vec<_>>();
        assert_eq!((lengths(12), lengths(10), lengths(0)), (vec![6, 6], vec![10], vec![0]));
        assert_eq!([page_stem("a", 0), page_stem("a", 1)], ["a", "a_2"]);
    }

    #[test]
    fn a_layer_and_a_route_have_one_colour_in_all_figures() {
        let folder = drawn(&Style::default());
        for (what, colour) in [("layer", "layer_order"), ("network", "route")] {
            let mut seen: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
            let mut figures = 0;
            for csv in tables(folder.path()) {
                let mut reader = csv::Reader::from_path(&csv).unwrap();
                let heads = reader.headers().unwrap().clone();
                let column = |name: &str| heads.iter().position(|head| head == name);
                let (Some(name), Some(colour)) = (column(what), column(colour)) else { continue };
                // One name stands for several routes where presets differ.
                let preset = column("preset");
                figures += 1;
                for row in reader.records().map(Result::unwrap) {
                    let key = format!("{} {}", &row[name], preset.map_or("", |p| &row[p]));
                    let key = if preset.is_some() && !row[name].contains("-T") {
                        key
                    } else {
                        row[name].to_owned()
                    };
                    seen.entry(key).or_default().insert(row[colour].to_owned());
                }
            }
            assert!(figures >= 4, "{figures} figures with {colour}");
            assert!(seen.values().all(|colours| colours.len() == 1), "{seen:?}");
        }
    }

    #[test]
    fn figures_are_checked_against_their_tables() {
        let style = Style { width_mm: 100.0, ..Style::default() };
        let folder = drawn(&style);
        let checked = check(folder.path(), None).unwrap();
        let figures = tables(folder.path()).len();
        assert_eq!((checked.figures, checked.differing), (figures, Vec::new()));
        // In another style all are others.
        assert_eq!(check(folder.path(), Some(&Style::default())).unwrap().differing.len(), 3 * figures);
        let figure = |name: &str| folder.path().join("figures").join(name);
        let changed =
            fs::read_to_string(figure("confusion.csv")).unwrap().replacen("dorsiflexion", "resting", 2);
        fs::write(figure("confusion.csv"), changed).unwrap();
        fs::remove_file(figure("fig7_energy.svg")).unwrap();
        fs::remove_file(figure("fig8_energy_steps.csv")).unwrap();
        let checked = check(folder.path(), None).unwrap();
        let differing =
            ["confusion.svg", "confusion.pdf", "confusion.png", "fig7_energy.svg", "fig8_energy_steps.csv"];
        assert_eq!((checked.figures, checked.differing), (figures, differing.map(figure).to_vec()));
        fs::write(figure("confusion.csv"), "network\n").unwrap();
        assert!(check(folder.path(), None).is_err(), "a broken table");
        let empty = tempfile::tempdir().unwrap();
        assert!(matches!(check(empty.path(), None), Err(ReportError::NoFigure { .. })));
    }
}
