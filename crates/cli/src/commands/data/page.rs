//! The page that shows recordings and the nerve they come from.

use std::f64::consts::TAU;
use std::path::Path;

use anyhow::{Context as _, Result};
use escape_data::nerve::{Anatomy, NerveConfig, RowOrder, examples};
use escape_data::{Dataset, Recordings, Split, mean_recording, mean_spectrum};
use escape_network::arch::CLASS_NAMES;
use escape_report::{Image, Images, NervePart, Part, RecordingsPage, Spectrum, recordings_page};
use escape_study::session::{Session, usage};
use serde_json::Map;

use super::class_names;
use crate::commands::thousands;

/// Recordings of a class that its spectrum is the mean of, at most.
const SPECTRUM_OF: usize = 1000;

/// The page of what was just simulated.
pub fn simulated(session: &Session, folder: &Path, config: &NerveConfig, dataset: &Dataset) -> Result<()> {
    let shown = examples(config, session.seed).map_err(|e| usage(e.to_string()))?;
    let image = |what, values: &[f32], class: usize| Image {
        what,
        class: CLASS_NAMES[class],
        values: values.to_vec(),
    };
    let recorded = shown.iter().map(|e| image("As recorded", &e.recorded, e.class));
    let alone = shown.iter().map(|e| image("The same moment, nerve fibres alone", &e.fibres_alone, e.class));
    let (rows_together, of) = match config.row_order {
        RowOrder::Spatial => (config.contacts_per_ring, "ring"),
        RowOrder::Temporal => (config.rings, "angle"),
    };
    let traces = Images {
        contacts: config.contacts(),
        rows_together,
        of_class: recorded.chain(alone).collect(),
        caption: format!(
            "The first recording of each class at all {} contacts, of the test split where it has one, grouped by {of}, each \
             recording scaled to its largest deviation. Below, what remains of it without noise and interference: fibres \
             of the evoked fascicle, of the others, and background.",
            config.contacts()
        ),
    };
    let lead = format!(
        "Simulated recordings of one animal (number {}, seed {}): {} for training, {} for testing, the {} third of its \
         session. No animal was recorded; docs/nerve.md has the model.",
        config.animal,
        session.seed,
        thousands(dataset.train.len() as f64),
        thousands(dataset.test.len() as f64),
        ["first", "second", "last"][config.fold.clamp(1, 3) - 1]
    );
    let serde_json::Value::Object(settings) = serde_json::to_value(config)? else { unreachable!() };
    draw(session, folder, "A simulated nerve", lead, nerve(config, session.seed), traces, dataset, settings)
}

/// The page of a file's recordings.
pub fn of_file(session: &Session, folder: &Path, file: &Path, dataset: &Dataset) -> Result<()> {
    let (split, recordings) = drawn(dataset);
    let first = |class: usize| recordings.iter().find(|(_, y)| *y == class as i64).map(|(x, _)| x);
    let names = class_names(dataset);
    let of_class = names.iter().enumerate().filter_map(|(class, name)| {
        Some(Image { what: "As recorded", class: name, values: first(class)?.to_vec() })
    });
    let traces = Images {
        contacts: recordings.contacts,
        // The known cuffs have rings of 8.
        rows_together: if recordings.contacts.is_multiple_of(8) { 8 } else { recordings.contacts },
        of_class: of_class.collect(),
        caption: format!(
            "The first {split} recording of each class at all {} contacts, each scaled to its largest deviation.",
            recordings.contacts
        ),
    };
    let name = file.file_name().unwrap_or(file.as_os_str()).to_string_lossy();
    let lead = format!(
        "{} recordings for training, {} for testing.",
        thousands(dataset.train.len() as f64),
        thousands(dataset.test.len() as f64)
    );
    draw(session, folder, &name, lead, Vec::new(), traces, dataset, Map::new())
}

/// The split that is drawn: that for testing, unless it is empty.
fn drawn(dataset: &Dataset) -> (Split, &Recordings) {
    let split = if dataset.test.is_empty() { Split::Train } else { Split::Test };
    (split, dataset.split(split))
}

#[expect(clippy::too_many_arguments, reason = "the parts of a page, once")]
fn draw(
    session: &Session,
    folder: &Path,
    title: &str,
    lead: String,
    nerve: Vec<NervePart>,
    traces: Images<'_>,
    dataset: &Dataset,
    settings: Map<String, serde_json::Value>,
) -> Result<()> {
    let (split, recordings) = drawn(dataset);
    let names = class_names(dataset);
    let spectra = names.iter().enumerate().filter_map(|(class, name)| {
        let power = mean_spectrum(recordings, class, SPECTRUM_OF)?;
        let step_hz = dataset.sample_rate_hz / recordings.samples as f64;
        Some(Spectrum { class: name, step_hz, power })
    });
    let spectra = spectra.collect();
    let page = RecordingsPage {
        title: title.to_owned(),
        lead,
        sample_rate_hz: dataset.sample_rate_hz,
        nerve,
        means: means(recordings, &names, split, traces.rows_together),
        traces,
        spectra,
        settings,
    };
    let made = recordings_page(folder, &page)
        .with_context(|| format!("{}: the page could not be written", folder.display()))?;
    session.note(format!("open {}", made.page.display()));
    Ok(())
}

/// The mean of each class, and how it differs from the mean of the classes' means.
fn means<'a>(recordings: &Recordings, names: &'a [String], split: Split, rows_together: usize) -> Images<'a> {
    let means: Vec<(&str, Vec<f32>)> = names
        .iter()
        .enumerate()
        .filter_map(|(class, name)| Some((name.as_str(), mean_recording(recordings, class)?)))
        .collect();
    let size = recordings.contacts * recordings.samples;
    let overall: Vec<f32> =
        (0..size).map(|i| means.iter().map(|(_, mean)| mean[i]).sum::<f32>() / means.len() as f32).collect();
    let images = |what: &'static str, values: &dyn Fn(&[f32]) -> Vec<f32>| -> Vec<Image<'a>> {
        means.iter().map(|(class, mean)| Image { what, class, values: values(mean) }).collect()
    };
    let mut of_class = images("Mean", &|mean| mean.to_vec());
    of_class.extend(images("Difference from the mean of all classes", &|mean| {
        mean.iter().zip(&overall).map(|(v, all)| v - all).collect()
    }));
    Images {
        contacts: recordings.contacts,
        rows_together,
        of_class,
        caption: format!(
            "Mean over the {split} recordings of each class, scaled as the networks see them, and what sets it apart, on a \
             colour scale of its own."
        ),
    }
}

/// What is to be seen in the nerve's cross-section.
fn nerve(config: &NerveConfig, seed: u64) -> Vec<NervePart> {
    let nerve = Anatomy::new(config, seed);
    let radius = nerve.radius_mm;
    let part = |part, class: &str, depth: f64, angle: f64, radius_mm: f64, velocity_m_s| NervePart {
        part,
        class: class.to_owned(),
        x_mm: depth * radius * angle.cos(),
        y_mm: depth * radius * angle.sin(),
        radius_mm,
        velocity_m_s,
    };
    let contact = |k: usize| {
        let angle = TAU * k as f64 / config.contacts_per_ring as f64;
        part(Part::Contact, "", 1.0, angle, config.contact_mm[1] / 2.0, None)
    };
    let mut parts = vec![part(Part::Cuff, "", 0.0, 0.0, radius, None)];
    parts.extend((0..config.contacts_per_ring).map(contact));
    for (class, fascicle) in CLASS_NAMES.iter().zip(&nerve.fascicles) {
        let outline = fascicle.radius * radius;
        parts.push(part(Part::Fascicle, class, fascicle.depth, fascicle.angle, outline, None));
        let fibres = fascicle.fibres.iter();
        parts.extend(fibres.map(|f| part(Part::Fibre, class, f.depth, f.angle, 0.0, Some(f.velocity))));
    }
    parts
}
