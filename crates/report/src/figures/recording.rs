//! Recordings as images, and the Poisson spikes of one.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Chapter, Gallery, Plan, WIDTH, publish};
use crate::error::ReportError;
use crate::plot::{Axis, Colours, outline, x_axis};
use crate::rows::{InputSpike, Recording, Row};
use crate::run::Run;
use crate::scene::{Area, Dash, Ink, Scene, Type};
use crate::{Shown, text};

#[derive(Serialize, Deserialize)]
struct Pixel {
    contact: u32,
    sample: u32,
    time_ms: f64,
    value: f64,
}

#[derive(Serialize, Deserialize)]
struct Spikes {
    contact: u32,
    sample: u32,
    time_ms: f64,
    first_step: i8,
    mean_over_steps: f64,
}

/// Largest image held in memory.
const CELLS: usize = 4_000_000;

pub(super) fn add_image(run: &Run, gallery: &mut Gallery) -> Result<(), ReportError> {
    const ITEM: &str = "Figure 1";
    if !gallery.has(run, ITEM, &[Recording::FILE]) {
        return Ok(());
    }
    let ms = run.sample_ms();
    let pixel = |r: &Recording| Pixel {
        contact: r.contact,
        sample: r.sample,
        time_ms: f64::from(r.sample) * ms,
        value: r.value,
    };
    let pixels: Vec<Pixel> = run.recording.iter().flatten().map(pixel).collect();
    let (contacts, samples) = extent(pixels.iter().map(|p| (p.contact, p.sample)));
    if !(1..=CELLS).contains(&(contacts * samples)) {
        gallery.leave_out(ITEM, &[Recording::FILE], "has no rows, or an image too large to draw");
        return Ok(());
    }
    let plan = Plan {
        chapter: Chapter::Input,
        stem: "fig1_recording".to_owned(),
        label: ITEM,
        caption: "One recording: the voltage at each contact of the nerve cuff over time, scaled to [-1, 1]."
            .to_owned(),
    };
    gallery.add(plan, &pixels, |pixels| {
        let mut scene = Scene::new(WIDTH, 370.0, "One recording");
        let peak = pixels.iter().map(|p| p.value.abs()).fold(0.0, f64::max);
        let values = pixels.iter().map(|p| ((p.contact, p.sample), p.value)).collect();
        let area = Area::new(56.0, 62.0, 560.0, 258.0);
        panel(
            &mut scene,
            area,
            &values,
            time_axis(pixels.iter().map(|p| (p.sample, p.time_ms))),
            peak,
            "value",
        );
        scene
    })
}

pub(super) fn add_spikes(run: &Run, gallery: &mut Gallery) -> Result<(), ReportError> {
    const ITEM: &str = "Figure 2";
    if !gallery.has(run, ITEM, &[InputSpike::FILE]) {
        return Ok(());
    }
    let spikes = run.input_spikes.as_deref().unwrap_or_default();
    // The file has spikes only; the recording says how far the image reaches.
    let recording = run.recording.iter().flatten().map(|r| (r.contact, r.sample));
    let (contacts, samples) = extent(recording.chain(spikes.iter().map(|s| (s.contact, s.sample))));
    if spikes.is_empty() || contacts * samples > CELLS {
        gallery.leave_out(ITEM, &[InputSpike::FILE], "has no spike, or an image too large to draw");
        return Ok(());
    }
    let steps = spikes.iter().map(|s| s.step + 1).max().unwrap_or(1);
    let mut first = vec![0_i8; contacts * samples];
    let mut sum = vec![0_i64; contacts * samples];
    for s in spikes {
        let at = s.contact as usize * samples + s.sample as usize;
        sum[at] += i64::from(s.spike);
        if s.step == 0 {
            first[at] = s.spike;
        }
    }
    let ms = run.sample_ms();
    let table: Vec<Spikes> = (0..contacts * samples)
        .map(|at| Spikes {
            contact: (at / samples) as u32,
            sample: (at % samples) as u32,
            time_ms: (at % samples) as f64 * ms,
            first_step: first[at],
            mean_over_steps: sum[at] as f64 / f64::from(steps),
        })
        .collect();
    let plan = Plan {
        chapter: Chapter::Input,
        stem: "fig2_input_spikes".to_owned(),
        label: ITEM,
        caption: format!(
            "The same recording as Poisson spikes with the sign of its value: at the first step, and averaged over \
             {steps} steps, which approaches the recording as they grow more."
        ),
    };
    gallery.add(plan, &table, |table| {
        let mut scene = Scene::new(WIDTH, 560.0, "The recording as Poisson spikes");
        let time = || time_axis(table.iter().map(|s| (s.sample, s.time_ms)));
        let upper = Area::new(56.0, 76.0, 560.0, 190.0);
        let lower = Area::new(56.0, 328.0, 560.0, 190.0);
        let mut x = time();
        x.label.clear();
        scene.text(12.0, upper.y - 26.0, "First step", Type::PANEL);
        let values = table.iter().map(|s| ((s.contact, s.sample), f64::from(s.first_step))).collect();
        panel(&mut scene, upper, &values, x, 1.0, "spike");
        scene.text(12.0, lower.y - 26.0, "Mean over all steps", Type::PANEL);
        let values: HashMap<_, _> =
            table.iter().map(|s| ((s.contact, s.sample), s.mean_over_steps)).collect();
        let peak = values.values().map(|v| v.abs()).fold(0.0, f64::max);
        panel(&mut scene, lower, &values, time(), peak, "spikes per step");
        scene
    })
}

fn extent(cells: impl Iterator<Item = (u32, u32)>) -> (usize, usize) {
    cells.fold((0, 0), |(c, s), (contact, sample)| (c.max(contact as usize + 1), s.max(sample as usize + 1)))
}

pub(super) fn time_axis(times: impl Iterator<Item = (u32, f64)>) -> Axis {
    let (mut samples, mut last) = (0, 0.0_f64);
    for (sample, ms) in times {
        samples = samples.max(sample + 1);
        last = last.max(ms);
    }
    // The last cell ends one sample after it begins.
    let width = last * f64::from(samples) / f64::from((samples - 1).max(1));
    Axis::linear(0.0, if width > 0.0 { width } else { 1.0 }, 7, "time (ms)")
}

/// Contacts by time, contact 0 at the top, with a colour bar.
fn panel(
    scene: &mut Scene,
    area: Area,
    values: &HashMap<(u32, u32), f64>,
    time: Axis,
    peak: f64,
    unit: &str,
) {
    let peak = if peak > 0.0 { peak } else { 1.0 };
    let contacts = image(scene, area, values, peak);
    x_axis(scene, area, &time);
    contact_axis(scene, area, contacts);
    let bar = Area::new(area.right() + 22.0, area.y, 12.0, area.h);
    Colours::Diverging.bar(scene, bar, &Axis::linear(-peak, peak, 6, unit));
}

/// The image alone; returns the number of contacts.
pub(super) fn image(scene: &mut Scene, area: Area, values: &HashMap<(u32, u32), f64>, peak: f64) -> usize {
    let (contacts, samples) = extent(values.keys().copied());
    let pixels = (0..contacts * samples)
        .map(|at| {
            let key = ((at / samples) as u32, (at % samples) as u32);
            Colours::Diverging.of(values.get(&key).map_or(f64::NAN, |v| v / peak))
        })
        .collect();
    scene.map(|scene| scene.image(area, samples, contacts, pixels));
    outline(scene, area);
    contacts
}

/// Ticks left of an image, and what they count.
pub(super) fn contact_axis(scene: &mut Scene, area: Area, contacts: usize) {
    for (value, name) in Axis::whole(0.0, contacts as f64 - 1.0, 6, "").ticks {
        let y = area.y + (value + 0.5) / contacts as f64 * area.h;
        scene.line(vec![(area.x - 4.0, y), (area.x, y)], Ink::Axis, 1.0, Dash::Solid);
        scene.text(area.x - 7.0, y + Type::LABEL.drop(), &name, Type::LABEL.end());
    }
    scene.text(area.x - 44.0, area.y - 9.0, "contact", Type::LABEL);
}

/// One value of one of the recordings of a [`picture`].
#[derive(Serialize, Deserialize)]
struct Cell {
    /// Which of those shown.
    panel: u32,
    recording: u64,
    class: String,
    contact: u32,
    sample: u32,
    time_ms: f64,
    value: f64,
}

/// See [`crate::picture`].
pub(crate) fn picture(
    path: &Path,
    title: &str,
    sample_rate_hz: f64,
    shown: &[Shown<'_>],
) -> Result<Vec<PathBuf>, ReportError> {
    let ms = 1000.0 / sample_rate_hz;
    let mut cells = Vec::new();
    for (panel, recording) in shown.iter().enumerate() {
        let samples = recording.values.len() / recording.contacts.max(1);
        cells.extend(recording.values.iter().enumerate().map(|(at, &value)| Cell {
            panel: panel as u32,
            recording: recording.index as u64,
            class: recording.class.to_owned(),
            contact: (at / samples) as u32,
            sample: (at % samples) as u32,
            time_ms: (at % samples) as f64 * ms,
            value: value.into(),
        }));
    }
    let paths = ["csv", "svg", "png"].map(|extension| path.with_extension(extension));
    publish(&paths, &cells, |cells: &[Cell]| side_by_side(title, cells))?;
    Ok(paths.into())
}

/// Recordings next to each other, on one colour scale.
fn side_by_side(title: &str, cells: &[Cell]) -> Scene {
    const GAP: f64 = 14.0;
    const LEFT: f64 = 56.0;
    const TOP: f64 = 88.0;
    let peak = cells.iter().map(|c| c.value.abs()).fold(0.0, f64::max);
    let peak = if peak > 0.0 { peak } else { 1.0 };
    let panels: Vec<&[Cell]> = cells.chunk_by(|a, b| a.panel == b.panel).collect();
    let count = panels.len().max(1) as f64;
    let width = (WIDTH - LEFT - 76.0 - GAP * (count - 1.0)) / count;
    let rows = cells.iter().map(|c| c.contact + 1).max().unwrap_or(1);
    // Four pixels a contact, within what looks right.
    let height = (4.0 * f64::from(rows)).clamp(160.0, 420.0);
    let mut scene = Scene::new(WIDTH, TOP + height + 46.0, title);
    let mut area = Area::new(LEFT, TOP, width, height);
    for (k, panel) in panels.iter().enumerate() {
        let values = panel.iter().map(|c| ((c.contact, c.sample), c.value)).collect();
        let contacts = image(&mut scene, area, &values, peak);
        x_axis(&mut scene, area, &time_axis(panel.iter().map(|c| (c.sample, c.time_ms))));
        if k == 0 {
            contact_axis(&mut scene, area, contacts);
        }
        if let Some(first) = panel.first() {
            let class = text::fit(&first.class, width, Type::PANEL.size, true);
            scene.text(area.x, TOP - 38.0, &class, Type::PANEL);
            let index = format!("recording {}", first.recording);
            // The first one's axis is named at the same height.
            scene.text(area.x, TOP - 23.0, &index, Type::LABEL);
        }
        area.x = area.right() + GAP;
    }
    let bar = Area::new(area.x - GAP + 22.0, TOP, 12.0, height);
    Colours::Diverging.bar(&mut scene, bar, &Axis::linear(-peak, peak, 6, "value"));
    scene
}
