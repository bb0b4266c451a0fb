//! Recordings as images, and the Poisson spikes of one.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Chapter, Drawn, EXTENSIONS, Gallery, Plan, publish};
use crate::error::ReportError;
use crate::plot::{Axis, Colours, outline, x_axis};
use crate::rows::{InputSpike, Recording, Row};
use crate::run::{Run, distinct};
use crate::scene::{Area, Dash, Ink, Scene};
use crate::style::Style;
use crate::{Shown, text};

#[derive(Serialize, Deserialize)]
pub(super) struct Pixel {
    contact: u32,
    /// Of the cuff, and the contact's angle around it, where they are known.
    ring: Option<u32>,
    angle_deg: Option<f64>,
    sample: u32,
    time_ms: f64,
    value: f64,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Spikes {
    contact: u32,
    ring: Option<u32>,
    sample: u32,
    time_ms: f64,
    first_step: i8,
    mean_over_steps: f64,
}

/// Largest image held in memory.
const CELLS: usize = 4_000_000;

pub(super) fn add_image(run: &Run, gallery: &mut Gallery<'_>) -> Result<(), ReportError> {
    const ITEM: &str = "Figure 1";
    if !gallery.has(run, ITEM, &[Recording::FILE]) {
        return Ok(());
    }
    let ms = run.sample_ms();
    let rows = run.recording.as_deref().unwrap_or_default();
    let (contacts, samples) = extent(rows.iter().map(|r| (r.contact, r.sample)));
    if !(1..=CELLS).contains(&(contacts * samples)) {
        gallery.leave_out(ITEM, &[Recording::FILE], "has no rows, or an image too large to draw");
        return Ok(());
    }
    let together = run.contacts_per_ring(contacts);
    let pixel = |r: &Recording| Pixel {
        contact: r.contact,
        ring: together.map(|n| r.contact / n as u32),
        angle_deg: together.map(|n| f64::from(r.contact % n as u32) * 360.0 / n as f64),
        sample: r.sample,
        time_ms: f64::from(r.sample) * ms,
        value: r.value,
    };
    let rings = match together {
        Some(n) => format!(
            " Rows are the contacts of the cuff, ring by ring along the nerve; within a ring the {n} contacts go around it, \
             the first at 0 degrees."
        ),
        None => String::new(),
    };
    let plan = Plan {
        chapter: Chapter::Input,
        stem: "fig1_recording".to_owned(),
        label: ITEM,
        caption: format!(
            "One recording: the value at each of {contacts} contacts over time, as the networks see it.{rings}"
        ),
    };
    gallery.add(plan, &rows.iter().map(pixel).collect::<Vec<_>>())
}

impl Drawn for Pixel {
    fn draw<'s>(pixels: &[Self], style: &'s Style) -> Scene<'s> {
        let mut scene = Scene::new(style, 0.0, style.words().recording);
        let peak = pixels.iter().map(|p| p.value.abs()).fold(0.0, f64::max);
        let values = pixels.iter().map(|p| ((p.contact, p.sample), p.value)).collect();
        let area = Area::new(56.0, scene.top() + 24.0, scene.width - 56.0 - 66.0, 260.0);
        let time = time_axis(style, pixels.iter().map(|p| (p.sample, p.time_ms)));
        let rings = ring_count(pixels.iter().map(|p| p.ring));
        panel(&mut scene, area, &values, time, peak, style.words().value, rings);
        scene.height = area.bottom() + 42.0;
        scene
    }
}

/// How many rings there are, if every cell has one.
fn ring_count(rings: impl Iterator<Item = Option<u32>>) -> Option<u32> {
    let (mut cells, mut first) = (0_usize, 0_usize);
    let mut last = 0;
    for ring in rings {
        let ring = ring?;
        cells += 1;
        first += usize::from(ring == 0);
        last = last.max(ring);
    }
    // All rings have as many cells; only their number matters.
    (first > 0 && last > 0 && cells == first * (last as usize + 1)).then_some(last + 1)
}

/// Which networks see the recording as Poisson spikes, in words for the caption; `None` where every spiking network of the
/// evaluations sees the recording itself.
fn seen_by(run: &Run) -> Option<String> {
    let spiking =
        || run.evaluations.iter().flatten().filter(|e| e.kind.is_spiking() && !e.encoder.is_empty());
    let of = |poisson: bool| {
        let names = spiking().filter(|e| (e.encoder == "poisson") == poisson).map(|e| e.network.as_str());
        distinct(names).join(", ")
    };
    let (poisson, direct) = (of(true), of(false));
    match (poisson.is_empty(), direct.is_empty()) {
        (true, true) => Some(String::new()),
        (true, false) => None,
        (false, true) => Some(format!(" It is what {poisson} sees.")),
        (false, false) => Some(format!(" It is what {poisson} sees; {direct} sees the recording itself.")),
    }
}

pub(super) fn add_spikes(run: &Run, gallery: &mut Gallery<'_>) -> Result<(), ReportError> {
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
    let Some(seen_by) = seen_by(run) else {
        let reason =
            "is of no network: all of them take the recording itself, so there are no Poisson spikes to show";
        gallery.leave_out(ITEM, &[InputSpike::FILE], reason);
        return Ok(());
    };
    let steps = spikes.iter().map(|s| s.step + 1).max().unwrap_or(1);
    let together = run.contacts_per_ring(contacts);
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
            ring: together.map(|n| (at / samples / n) as u32),
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
             {steps} steps, which approaches the recording as they grow more.{seen_by}"
        ),
    };
    gallery.add(plan, &table)
}

impl Drawn for Spikes {
    fn draw<'s>(table: &[Self], style: &'s Style) -> Scene<'s> {
        let words = style.words();
        let mut scene = Scene::new(style, 0.0, words.input_spikes);
        let rings = ring_count(table.iter().map(|s| s.ring));
        let time = || time_axis(style, table.iter().map(|s| (s.sample, s.time_ms)));
        let upper = Area::new(56.0, scene.top() + 42.0, scene.width - 56.0 - 66.0, 170.0);
        let lower = Area { y: upper.bottom() + 66.0, ..upper };
        let mut x = time();
        x.label.clear();
        scene.text(12.0, upper.y - 26.0, words.first_step, style.panel());
        let values = table.iter().map(|s| ((s.contact, s.sample), f64::from(s.first_step))).collect();
        panel(&mut scene, upper, &values, x, 1.0, words.spike, rings);
        scene.text(12.0, lower.y - 26.0, words.mean_over_steps, style.panel());
        let values: HashMap<_, _> =
            table.iter().map(|s| ((s.contact, s.sample), s.mean_over_steps)).collect();
        let peak = values.values().map(|v| v.abs()).fold(0.0, f64::max);
        panel(&mut scene, lower, &values, time(), peak, words.spikes_per_step, rings);
        scene.height = lower.bottom() + 42.0;
        scene
    }
}

fn extent(cells: impl Iterator<Item = (u32, u32)>) -> (usize, usize) {
    cells.fold((0, 0), |(c, s), (contact, sample)| (c.max(contact as usize + 1), s.max(sample as usize + 1)))
}

pub(super) fn time_axis(style: &Style, times: impl Iterator<Item = (u32, f64)>) -> Axis {
    let (mut samples, mut last) = (0, 0.0_f64);
    for (sample, ms) in times {
        samples = samples.max(sample + 1);
        last = last.max(ms);
    }
    // The last cell ends one sample after it begins.
    let width = last * f64::from(samples) / f64::from((samples - 1).max(1));
    Axis::linear(0.0, if width > 0.0 { width } else { 1.0 }, 5, style.words().time)
}

/// Contacts by time, contact 0 at the top, with a colour bar.
fn panel(
    scene: &mut Scene<'_>,
    area: Area,
    values: &HashMap<(u32, u32), f64>,
    time: Axis,
    peak: f64,
    unit: &str,
    rings: Option<u32>,
) {
    let peak = if peak > 0.0 { peak } else { 1.0 };
    let contacts = image(scene, area, values, peak);
    x_axis(scene, area, &time);
    match rings {
        Some(rings) => ring_axis(scene, area, contacts, rings as usize),
        None => contact_axis(scene, area, contacts),
    }
    let bar = Area::new(area.right() + 16.0, area.y, 10.0, area.h);
    Colours::Diverging.bar(scene, bar, &Axis::linear(-peak, peak, 5, unit));
}

/// The image alone; returns the number of contacts.
pub(super) fn image(
    scene: &mut Scene<'_>,
    area: Area,
    values: &HashMap<(u32, u32), f64>,
    peak: f64,
) -> usize {
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
pub(super) fn contact_axis(scene: &mut Scene<'_>, area: Area, contacts: usize) {
    let label = scene.style.label();
    for (value, name) in Axis::whole(0.0, contacts as f64 - 1.0, 6, "").ticks {
        let y = area.y + (value + 0.5) / contacts as f64 * area.h;
        scene.line(vec![(area.x - 4.0, y), (area.x, y)], Ink::Axis, 1.0, Dash::Solid);
        scene.text(area.x - 7.0, y + label.drop(), &name, label.end());
    }
    scene.text(area.x - 44.0, area.y - 9.0, scene.style.words().contact, label);
}

/// Rings left of an image, each with the angles of its first and its opposite contact where there is room, and lines between rings.
fn ring_axis(scene: &mut Scene<'_>, area: Area, contacts: usize, rings: usize) {
    let (label, words) = (scene.style.label(), scene.style.words());
    let height = area.h / rings as f64;
    let row = area.h / contacts as f64;
    let angles = height >= 2.6 * label.size;
    for ring in 0..rings {
        let top = area.y + ring as f64 * height;
        if ring > 0 {
            scene.line(vec![(area.x - 30.0, top), (area.right(), top)], Ink::Axis, 0.6, Dash::Solid);
        }
        let x = if angles { area.x - 34.0 } else { area.x - 8.0 };
        scene.text(x, top + height / 2.0 + label.drop(), &ring.to_string(), label.end());
        for (share, name) in [(0.0, "0\u{b0}"), (0.5, "180\u{b0}")].into_iter().filter(|_| angles) {
            let y = top + share * height + row / 2.0;
            scene.line(vec![(area.x - 4.0, y), (area.x, y)], Ink::Axis, 1.0, Dash::Solid);
            // The first one's name stays clear of the line above.
            scene.text(area.x - 6.0, (y + label.drop()).max(top + label.size * 0.8), name, label.end());
        }
    }
    let name = if angles { format!("{}, {}", words.ring, words.angle) } else { words.ring.to_owned() };
    scene.text(12.0, area.y - 9.0, &name, label);
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
    let paths = EXTENSIONS.map(|extension| path.with_extension(extension));
    publish(&paths, &cells, &Style::wide(), |cells: &[Cell], style| side_by_side(title, cells, style))?;
    Ok(paths.into())
}

/// Recordings next to each other, on one colour scale.
fn side_by_side<'s>(title: &str, cells: &[Cell], style: &'s Style) -> Scene<'s> {
    const GAP: f64 = 14.0;
    const LEFT: f64 = 56.0;
    const TOP: f64 = 88.0;
    let peak = cells.iter().map(|c| c.value.abs()).fold(0.0, f64::max);
    let peak = if peak > 0.0 { peak } else { 1.0 };
    let panels: Vec<&[Cell]> = cells.chunk_by(|a, b| a.panel == b.panel).collect();
    let count = panels.len().max(1) as f64;
    let width = (style.width() - LEFT - 76.0 - GAP * (count - 1.0)) / count;
    let rows = cells.iter().map(|c| c.contact + 1).max().unwrap_or(1);
    // Four pixels a contact, within what looks right.
    let height = (4.0 * f64::from(rows)).clamp(160.0, 420.0);
    let mut scene = Scene::new(style, TOP + height + 46.0, title);
    let mut area = Area::new(LEFT, TOP, width, height);
    for (k, panel) in panels.iter().enumerate() {
        let values = panel.iter().map(|c| ((c.contact, c.sample), c.value)).collect();
        let contacts = image(&mut scene, area, &values, peak);
        x_axis(&mut scene, area, &time_axis(style, panel.iter().map(|c| (c.sample, c.time_ms))));
        if k == 0 {
            contact_axis(&mut scene, area, contacts);
        }
        if let Some(first) = panel.first() {
            let class = text::fit(&first.class, width, style.panel().size, true);
            scene.text(area.x, TOP - 38.0, &class, style.panel());
            let index = format!("recording {}", first.recording);
            // The first one's axis is named at the same height.
            scene.text(area.x, TOP - 23.0, &index, style.label());
        }
        area.x = area.right() + GAP;
    }
    let bar = Area::new(area.x - GAP + 22.0, TOP, 12.0, height);
    Colours::Diverging.bar(&mut scene, bar, &Axis::linear(-peak, peak, 6, style.words().value));
    scene
}
