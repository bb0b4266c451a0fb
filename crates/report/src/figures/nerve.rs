//! The figures of a page about recordings: the nerve in its cuff, what one compound action potential looks like at
//! every contact, what the recordings of a class have in common, and spectra.

use std::collections::HashMap;
use std::f64::consts::TAU;

use serde::{Deserialize, Serialize};

use super::recording::{contact_axis, image, time_axis};
use super::{Chapter, Drawn, Gallery, Plan};
use crate::error::ReportError;
use crate::plot::{Axis, Colours, Plot, Swatch, legend, x_axis};
use crate::recordings::{Images, NervePart, Part, Spectrum};
use crate::run::distinct;
use crate::scene::{Area, Dash, Ink, Scene};
use crate::style::Style;
use crate::text;

/// Corners of the polygon that stands for a circle.
const CORNERS: usize = 120;
/// Width of a bin of the histogram of velocities, in m/s.
const BIN: f64 = 5.0;

/// One value of one image of a class: of the figure of means, or of that of traces.
#[derive(Serialize, Deserialize)]
pub(super) struct Cell<const MEANS: bool> {
    image: String,
    class: String,
    contact: u32,
    sample: u32,
    time_ms: f64,
    value: f64,
    /// The group of contacts that its own is of, such as a ring.
    group: u32,
}

impl Drawn for Cell<false> {
    fn draw<'s>(cells: &[Self], style: &'s Style) -> Scene<'s> {
        draw_traces(cells, style)
    }
}

impl Drawn for Cell<true> {
    fn draw<'s>(cells: &[Self], style: &'s Style) -> Scene<'s> {
        draw_means(cells, style)
    }
}

impl Drawn for Bin {
    fn draw<'s>(bins: &[Self], style: &'s Style) -> Scene<'s> {
        draw_spectra(bins, style)
    }
}

/// One value of a spectrum.
#[derive(Serialize, Deserialize)]
pub(super) struct Bin {
    class: String,
    frequency_hz: f64,
    power_db: f64,
}

/// The cross-section and the fibres' velocities.
pub(crate) fn add_section(parts: &[NervePart], gallery: &mut Gallery<'_>) -> Result<(), ReportError> {
    let plan = Plan {
        chapter: Chapter::Nerve,
        stem: "nerve_section".to_owned(),
        label: "The nerve in its cuff",
        caption: "Left, the nerve across: the cuff with the first ring's contacts, the fascicles, and the fibres that each class \
                  can evoke, larger where they conduct faster. Right, how fast they conduct."
            .to_owned(),
    };
    gallery.add(plan, parts)
}

fn circle(centre: (f64, f64), radius: f64) -> Vec<(f64, f64)> {
    let corner = |k: usize| {
        let (sin, cos) = (TAU * k as f64 / CORNERS as f64).sin_cos();
        (centre.0 + radius * cos, centre.1 - radius * sin)
    };
    (0..=CORNERS).map(corner).collect()
}

impl Drawn for NervePart {
    fn draw<'s>(rows: &[Self], style: &'s Style) -> Scene<'s> {
        draw_section(rows, style)
    }
}

fn draw_section<'s>(parts: &[NervePart], style: &'s Style) -> Scene<'s> {
    let (words, width) = (style.words(), style.width());
    // Side by side, or one below the other.
    let beside = width > 640.0;
    let of = |kind: Part| parts.iter().filter(move |p| p.part == kind);
    let classes = distinct(of(Part::Fascicle).map(|p| p.class.as_str()));
    let series = |class: &str| classes.iter().position(|c| *c == class).unwrap_or(0);
    let mut scene = Scene::new(style, if beside { 452.0 } else { 800.0 }, words.nerve_title);
    let entries: Vec<_> =
        classes.iter().enumerate().map(|(i, c)| (Swatch::Box(Ink::Series(i), 1.0), c.clone())).collect();
    legend(&mut scene, 12.0, 34.0, width - 24.0, &entries);

    let wall = of(Part::Cuff).map(|p| p.radius_mm).fold(0.0, f64::max);
    let wall = if wall > 0.0 { wall } else { 1.0 };
    let (middle, scale) = ((190.0, 246.0), 150.0 / wall);
    let at = |x: f64, y: f64| (middle.0 + x * scale, middle.1 - y * scale);
    scene.line(circle(middle, 150.0), Ink::Axis, 2.0, Dash::Solid);
    for (k, contact) in of(Part::Contact).enumerate() {
        let angle = contact.y_mm.atan2(contact.x_mm);
        // A contact covers its width of the wall.
        let half = (contact.radius_mm / wall).max(0.02);
        let arc = |i: i32| {
            let (sin, cos) = (angle + half * f64::from(i) / 4.0).sin_cos();
            at(wall * cos, wall * sin)
        };
        scene.line((-4..=4).map(arc).collect(), Ink::Text, 6.0, Dash::Solid);
        let (x, y) = at(contact.x_mm * 1.1, contact.y_mm * 1.1);
        scene.text(x, y + style.label().drop(), &k.to_string(), style.label().middle());
    }
    for fascicle in of(Part::Fascicle) {
        let ink = Ink::Series(series(&fascicle.class));
        let outline = circle(at(fascicle.x_mm, fascicle.y_mm), fascicle.radius_mm * scale);
        scene.line(outline, ink, 1.5, Dash::Solid);
    }
    let fastest = of(Part::Fibre).filter_map(|p| p.velocity_m_s).fold(1.0, f64::max);
    for fibre in of(Part::Fibre) {
        let (x, y) = at(fibre.x_mm, fibre.y_mm);
        let r = 0.8 + 1.8 * fibre.velocity_m_s.unwrap_or(0.0) / fastest;
        scene.disk(x, y, r, Ink::Series(series(&fibre.class)));
    }
    let bar = 0.2;
    scene.line(vec![(40.0, 434.0), (40.0 + bar * scale, 434.0)], Ink::Text, 2.0, Dash::Solid);
    scene.text(48.0 + bar * scale, 434.0 + style.label().drop(), &format!("{bar} mm"), style.label());

    let area = if beside {
        Area::new(430.0, 96.0, width - 450.0, 300.0)
    } else {
        Area::new(56.0, 490.0, width - 76.0, 260.0)
    };
    let bins = (fastest / BIN).ceil() as usize;
    let counts: Vec<Vec<f64>> = classes
        .iter()
        .map(|class| {
            let mut counts = vec![0.0; bins];
            for v in of(Part::Fibre).filter(|p| p.class == *class).filter_map(|p| p.velocity_m_s) {
                counts[((v / BIN) as usize).min(bins - 1)] += 1.0;
            }
            counts
        })
        .collect();
    let most = counts.iter().flatten().copied().fold(1.0, f64::max);
    let x = Axis::rounded(0.0, bins as f64 * BIN, 5, words.velocity);
    let y = Axis::counts(most, 5, &format!("{} {BIN} m/s", words.fibres_per));
    let plot = Plot::new(&mut scene, area, x, y);
    for (i, counts) in counts.iter().enumerate() {
        let steps = counts.iter().enumerate().flat_map(|(k, &n)| {
            let from = k as f64 * BIN;
            [(plot.px(from), plot.py(n)), (plot.px(from + BIN), plot.py(n))]
        });
        let end = (plot.px(bins as f64 * BIN), plot.py(0.0));
        scene.line(steps.chain([end]).collect(), Ink::Series(i), 2.0, Dash::Solid);
    }
    scene
}

fn cells<const MEANS: bool>(images: &Images<'_>, sample_rate_hz: f64) -> Vec<Cell<MEANS>> {
    let together = images.rows_together.max(1);
    let ms = 1000.0 / sample_rate_hz;
    let mut cells = Vec::new();
    for image in &images.of_class {
        let samples = image.values.len() / images.contacts.max(1);
        cells.extend(image.values.iter().enumerate().map(|(at, &value)| Cell {
            image: image.what.to_owned(),
            class: image.class.to_owned(),
            contact: (at / samples) as u32,
            sample: (at % samples) as u32,
            time_ms: (at % samples) as f64 * ms,
            value: value.into(),
            group: (at / samples / together) as u32,
        }));
    }
    cells
}

/// One compound action potential of each class at every contact.
pub(crate) fn add_traces(images: &Images<'_>, hz: f64, gallery: &mut Gallery<'_>) -> Result<(), ReportError> {
    gallery.add(plan(images, "traces", "One recording of each class"), &cells::<false>(images, hz))
}

/// What the recordings of a class have in common.
pub(crate) fn add_means(images: &Images<'_>, hz: f64, gallery: &mut Gallery<'_>) -> Result<(), ReportError> {
    gallery.add(plan(images, "means", "The mean of each class"), &cells::<true>(images, hz))
}

fn plan(images: &Images<'_>, stem: &str, label: &'static str) -> Plan {
    Plan { chapter: Chapter::Recordings, stem: stem.to_owned(), label, caption: images.caption.clone() }
}

fn draw_traces<'s>(cells: &[Cell<false>], style: &'s Style) -> Scene<'s> {
    const LEFT: f64 = 56.0;
    const GAP: f64 = 16.0;
    /// Between contacts and between groups, where so many do not make the figure too high to be stored.
    const STEP: f64 = 5.0;
    const HIGHEST: f64 = 6_500.0;
    /// How far a recording's largest deviation reaches.
    const REACH: f64 = 18.0;
    let kinds = distinct(cells.iter().map(|c| c.image.as_str()));
    let classes = distinct(cells.iter().map(|c| c.class.as_str()));
    let contacts = cells.iter().map(|c| c.contact as usize + 1).max().unwrap_or(1);
    let together = cells.iter().filter(|c| c.group == 0).map(|c| c.contact as usize + 1).max().unwrap_or(1);
    // Groups are numbered by their first contact; others would be too close or too far apart.
    let numbered = if (4..=16).contains(&together) { together } else { 8 };
    let steps = |contact: usize| (contact + contact / together) as f64;
    let step = STEP.min(HIGHEST / steps(contacts));
    let y_of = |contact: usize| REACH + steps(contact) * step;
    let height = y_of(contacts - 1) + REACH;
    let width =
        (style.width() - LEFT - 20.0 - GAP * (classes.len() as f64 - 1.0)) / classes.len().max(1) as f64;
    let each = height + 84.0;
    let mut scene = Scene::new(style, 40.0 + kinds.len() as f64 * each, style.words().traces_title);
    for (row, kind) in kinds.iter().enumerate() {
        let top = 34.0 + row as f64 * each;
        scene.text(12.0, top + 16.0, kind, style.panel());
        for (k, class) in classes.iter().enumerate() {
            let area = Area::new(LEFT + k as f64 * (width + GAP), top + 42.0, width, height);
            let own: Vec<&Cell<_>> = cells.iter().filter(|c| c.image == *kind && c.class == *class).collect();
            let name = text::fit(class, width, style.value().size, false);
            // The first one's axis is named at the same height.
            let x = area.x + if k == 0 { 10.0 } else { 0.0 };
            scene.text(x, top + 36.0, &name, style.value().ink(Ink::Series(k)));
            let time = time_axis(style, own.iter().map(|c| (c.sample, c.time_ms)));
            x_axis(&mut scene, area, &time);
            let traces: Vec<&[&Cell<false>]> = own.chunk_by(|a, b| a.contact == b.contact).collect();
            let mean =
                |trace: &[&Cell<false>]| trace.iter().map(|c| c.value).sum::<f64>() / trace.len() as f64;
            let peak = traces
                .iter()
                .flat_map(|trace| trace.iter().map(|c| (c.value - mean(trace)).abs()))
                .fold(1e-12, f64::max);
            for trace in traces {
                let (Some(first), mean) = (trace.first(), mean(trace)) else { continue };
                let base = area.y + y_of(first.contact as usize);
                if k == 0 && (first.contact as usize).is_multiple_of(numbered) {
                    let label = first.contact.to_string();
                    scene.text(area.x - 7.0, base + style.label().drop(), &label, style.label().end());
                }
                let point = |c: &&Cell<false>| {
                    (area.x + time.at(c.time_ms) * area.w, base - (c.value - mean) / peak * REACH)
                };
                scene.line(trace.iter().map(point).collect(), Ink::Series(k), 1.0, Dash::Solid);
            }
        }
        scene.text(12.0, top + 36.0, style.words().contact, style.label());
    }
    scene
}

fn draw_means<'s>(cells: &[Cell<true>], style: &'s Style) -> Scene<'s> {
    const GAP: f64 = 14.0;
    const LEFT: f64 = 56.0;
    let kinds = distinct(cells.iter().map(|c| c.image.as_str()));
    let classes = distinct(cells.iter().map(|c| c.class.as_str()));
    let rows = cells.iter().map(|c| c.contact + 1).max().unwrap_or(1);
    let width =
        (style.width() - LEFT - 84.0 - GAP * (classes.len() as f64 - 1.0)) / classes.len().max(1) as f64;
    let height = (4.0 * f64::from(rows)).clamp(160.0, 420.0);
    let each = height + 98.0;
    let mut scene = Scene::new(style, 40.0 + kinds.len() as f64 * each, style.words().means_title);
    for (row, kind) in kinds.iter().enumerate() {
        let top = 34.0 + row as f64 * each;
        scene.text(12.0, top + 16.0, kind, style.panel());
        let of_kind: Vec<&Cell<_>> = cells.iter().filter(|c| c.image == *kind).collect();
        let peak = of_kind.iter().map(|c| c.value.abs()).fold(0.0, f64::max);
        let peak = if peak > 0.0 { peak } else { 1.0 };
        let mut area = Area::new(LEFT, top + 52.0, width, height);
        for (k, class) in classes.iter().enumerate() {
            let own: Vec<&&Cell<true>> = of_kind.iter().filter(|c| c.class == *class).collect();
            let name = text::fit(class, width, style.value().size, false);
            scene.text(area.x + if k == 0 { 10.0 } else { 0.0 }, area.y - 9.0, &name, style.value());
            let values: HashMap<_, _> = own.iter().map(|c| ((c.contact, c.sample), c.value)).collect();
            let contacts = image(&mut scene, area, &values, peak);
            x_axis(&mut scene, area, &time_axis(style, own.iter().map(|c| (c.sample, c.time_ms))));
            if k == 0 {
                contact_axis(&mut scene, area, contacts);
            }
            area.x = area.right() + GAP;
        }
        let bar = Area::new(area.x - GAP + 22.0, area.y, 12.0, height);
        Colours::Diverging.bar(&mut scene, bar, &Axis::linear(-peak, peak, 6, style.words().value));
    }
    scene
}

/// The mean spectrum of each class.
pub(crate) fn add_spectra(spectra: &[Spectrum<'_>], gallery: &mut Gallery<'_>) -> Result<(), ReportError> {
    let most = spectra.iter().flat_map(|s| &s.power).copied().fold(0.0, f64::max);
    let bins: Vec<Bin> = spectra
        .iter()
        .flat_map(|s| {
            s.power.iter().enumerate().map(|(k, power)| Bin {
                class: s.class.to_owned(),
                frequency_hz: (k + 1) as f64 * s.step_hz,
                power_db: 10.0 * (power / most).max(1e-12).log10(),
            })
        })
        .collect();
    let plan = Plan {
        chapter: Chapter::Recordings,
        stem: "spectra".to_owned(),
        label: "Spectra",
        caption: "Power spectrum along time, mean over contacts and recordings of a class, relative to the largest value. \
                  Each contact's mean is taken off, and a Hann window applied."
            .to_owned(),
    };
    gallery.add(plan, &bins)
}

fn draw_spectra<'s>(bins: &[Bin], style: &'s Style) -> Scene<'s> {
    let (words, width) = (style.words(), style.width());
    let classes = distinct(bins.iter().map(|b| b.class.as_str()));
    let mut scene = Scene::new(style, 360.0, words.spectra_title);
    let entries: Vec<_> = classes
        .iter()
        .enumerate()
        .map(|(i, c)| (Swatch::Line(Ink::Series(i), Dash::Solid, None), c.clone()))
        .collect();
    legend(&mut scene, 12.0, 34.0, width - 24.0, &entries);
    let highest = bins.iter().map(|b| b.frequency_hz).fold(0.0, f64::max) / 1000.0;
    let lowest = bins.iter().map(|b| b.power_db).fold(0.0, f64::min).max(-80.0);
    let area = Area::new(56.0, 84.0, width - 80.0, 230.0);
    let x = Axis::linear(0.0, highest, 8, words.frequency);
    let plot = Plot::new(&mut scene, area, x, Axis::rounded(lowest, 0.0, 6, words.power));
    for (i, class) in classes.iter().enumerate() {
        let points: Vec<_> = bins
            .iter()
            .filter(|b| b.class == *class)
            .map(|b| (b.frequency_hz / 1000.0, b.power_db.max(plot.y.lo)))
            .collect();
        plot.series(&mut scene, &points, Ink::Series(i), Dash::Solid, None);
    }
    scene
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recordings::Image;
    use crate::render::png;

    /// Cuffs of any number of contacts that can be simulated.
    #[test]
    fn many_contacts_make_no_figure_that_cannot_be_stored() {
        for contacts in [1, 3, 56, 4096] {
            let image = |what| Image { what, class: "pricking", values: vec![1.0; 2 * contacts] };
            let of_class = ["a", "b"].map(image).to_vec();
            let images = Images { contacts, rows_together: 8, of_class, caption: String::new() };
            let style = Style::wide();
            let scene = draw_traces(&cells(&images, 30_000.0), &style);
            assert!(png(&scene).is_ok(), "{contacts} contacts: {} high", scene.height);
        }
    }
}
