//! A page about recordings: where they come from and what they look like.

use std::path::{Path, PathBuf};

use crate::error::ReportError;
use crate::figures::{self, Chapter};
use crate::recordings::RecordingsPage;
use crate::scene::escape;
use crate::style::Style;
use crate::{ReportSummary, output, page};

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
        figures::EXTENSIONS.map(|extension| folder.join("figures").join(format!("{stem}.{extension}")))
    });
    let style = folder.join("figures").join(figures::STYLE);
    figures.chain([style, folder.join("report").join("index.html")]).collect()
}

/// Draw recordings and the nerve that they come from: `figures/*.{csv,svg,pdf,png}` and `report/index.html` in a folder.
///
/// # Errors
/// A file cannot be written.
pub fn recordings_page(folder: &Path, shown: &RecordingsPage<'_>) -> Result<ReportSummary, ReportError> {
    let style = Style::wide();
    let gallery = figures::of_recordings(folder, shown, &style)?;
    let of = |chapter: Chapter| page::figures(gallery.figures.iter().filter(|f| f.chapter == chapter));
    let chapters = [
        ("nerve", "The nerve", of(Chapter::Nerve)),
        ("recordings", "The recordings", of(Chapter::Recordings)),
        ("settings", "Settings", page::manifest(&shown.settings)),
    ];
    let html = page::document(
        &style,
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
