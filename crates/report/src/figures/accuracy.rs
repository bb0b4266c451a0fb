//! Accuracy against T for each route from ANN to spiking network.

use serde::{Deserialize, Serialize};

use super::{Chapter, Gallery, Plan, WIDTH};
use crate::error::ReportError;
use crate::plot::{Axis, Plot, Swatch, legend};
use crate::routes::routes;
use crate::rows::{Evaluation, Kind, Row};
use crate::run::{Run, distinct};
use crate::scene::{ANN_SERIES, Area, Dash, Ink, Scene, Type};
use crate::standing::{chance, largest_class, standard_error};

#[derive(Serialize, Deserialize)]
struct Point {
    route: String,
    network: String,
    kind: Kind,
    timesteps: Option<u32>,
    accuracy: f64,
    samples: u64,
    standard_error: f64,
    /// Accuracy of naming the most frequent class throughout.
    largest_class: Option<f64>,
    /// Accuracy of guessing.
    chance: f64,
}

fn derive(run: &Run, evaluations: &[Evaluation]) -> Vec<Point> {
    let point = |(e, route): (&Evaluation, String)| Point {
        samples: e.samples,
        standard_error: standard_error(e),
        largest_class: largest_class(run, e.samples),
        chance: chance(run),
        route,
        network: e.network.clone(),
        kind: e.kind,
        timesteps: e.timesteps,
        accuracy: e.accuracy,
    };
    evaluations.iter().zip(routes(evaluations)).map(point).collect()
}

pub(super) fn add(run: &Run, gallery: &mut Gallery) -> Result<(), ReportError> {
    const ITEM: &str = "Accuracy against T";
    if !gallery.has(run, ITEM, &[Evaluation::FILE]) {
        return Ok(());
    }
    let evaluations = run.evaluations.as_deref().unwrap_or_default();
    if !evaluations.iter().any(|e| e.timesteps.is_some() && e.kind.is_spiking()) {
        gallery.leave_out(ITEM, &[Evaluation::FILE], "has no row of a spiking network");
        return Ok(());
    }
    let plan = Plan {
        chapter: Chapter::Accuracy,
        stem: "accuracy_timesteps".to_owned(),
        label: ITEM,
        caption: format!(
            "Share of {} classified correctly when the simulation runs for T steps, for each route from ANN to \
             spiking network; whiskers reach one standard error up and down. The ANN has no steps: its accuracy is the \
             level line.",
            run.recordings()
        ),
    };
    gallery.add(plan, &derive(run, evaluations), draw)
}

fn draw(points: &[Point]) -> Scene {
    let spiking: Vec<&Point> = points.iter().filter(|p| p.kind.is_spiking()).collect();
    let steps: Vec<f64> = spiking.iter().filter_map(|p| p.timesteps).map(f64::from).collect();
    let (lo, hi) = (min(&steps), max(&steps));
    let routes = distinct(points.iter().map(|p| p.route.as_str()));
    let mut entries = Vec::new();
    let mut lines = Vec::new();
    let mut whiskers = Vec::new();
    let mut anns = 0;
    for (i, name) in routes.iter().filter(|r| spiking.iter().any(|p| p.route == **r)).enumerate() {
        let mut line: Vec<(f64, f64)> = spiking
            .iter()
            .filter(|p| p.route == *name)
            .filter_map(|p| Some((f64::from(p.timesteps?), p.accuracy)))
            .collect();
        line.sort_by(|a, b| a.0.total_cmp(&b.0));
        // Grey is the ANN's.
        let ink = Ink::Series(i % ANN_SERIES);
        whiskers.extend(spiking.iter().filter(|p| p.route == *name).filter_map(|p| {
            let error = Some(p.standard_error).filter(|error| error.is_finite())?;
            Some((f64::from(p.timesteps?), p.accuracy - error, p.accuracy + error, ink))
        }));
        entries.push((Swatch::Line(ink, Dash::Solid, Some(i)), name.clone()));
        lines.push((line, ink, i));
    }
    let mut levels = Vec::new();
    for point in points.iter().filter(|p| p.kind == Kind::Ann) {
        let dash = if anns == 0 { Dash::Dashed } else { Dash::Dotted };
        anns += 1;
        entries.push((Swatch::Line(Ink::Series(ANN_SERIES), dash, None), point.route.clone()));
        levels.push((point.accuracy, dash));
    }
    let mut scene = Scene::new(WIDTH, 420.0, "Accuracy against simulation length");
    let height = legend(&mut scene, 12.0, 34.0, WIDTH - 24.0, &entries);
    let top = 34.0 + height + 34.0;
    let area = Area::new(56.0, top, WIDTH - 56.0 - 74.0, 280.0);
    scene.height = area.bottom() + 46.0;

    let largest = points.iter().find_map(|p| p.largest_class);
    let chance = points.first().map_or(0.0, |p| p.chance);
    let ends = whiskers.iter().flat_map(|w| [w.1.max(0.0), w.2.min(1.0)]);
    let values: Vec<f64> =
        points.iter().map(|p| p.accuracy).chain([chance]).chain(largest).chain(ends).collect();
    let y = Axis::rounded(min(&values) - 0.01, (max(&values) + 0.01).min(1.0), 6, "accuracy (share correct)");
    let mut ticks: Vec<f64> = steps.clone();
    ticks.sort_by(f64::total_cmp);
    ticks.dedup();
    // Room left and right of the marks.
    let (lo, hi) = (lo / 1.15, hi * 1.15);
    let x = Axis {
        log: true,
        lo,
        hi,
        ticks: ticks.iter().map(|t| (*t, format!("{t:.0}"))).collect(),
        label: "T, steps of the simulation (log scale)".to_owned(),
    };
    let plot = Plot::new(&mut scene, area, x, y);
    plot.level(&mut scene, chance, Ink::Muted, Dash::Dotted);
    let beside = |scene: &mut Scene, value: f64, name: &str| {
        scene.text(area.right() + 6.0, plot.py(value) + Type::LABEL.drop(), name, Type::LABEL);
    };
    // What would collide is left without a name.
    let mut named: Vec<f64> = Vec::new();
    let mut name = |scene: &mut Scene, value: f64, name: &str| {
        if named.iter().all(|n| (plot.py(*n) - plot.py(value)).abs() > 13.0) {
            beside(scene, value, name);
            named.push(value);
        }
    };
    for (accuracy, dash) in levels {
        plot.level(&mut scene, accuracy, Ink::Series(ANN_SERIES), dash);
        name(&mut scene, accuracy, &format!("ANN {accuracy:.3}"));
    }
    if let Some(share) = largest.filter(|share| share - chance > 0.005) {
        plot.level(&mut scene, share, Ink::Muted, Dash::Dotted);
        name(&mut scene, share, "largest class");
    }
    name(&mut scene, chance, "chance");
    for (t, low, high, ink) in whiskers {
        let (x, top, bottom) = (plot.px(t), plot.py(high.min(1.0)), plot.py(low.max(0.0)));
        scene.line(vec![(x, top), (x, bottom)], ink, 1.0, Dash::Solid);
    }
    for (line, ink, mark) in lines {
        plot.series(&mut scene, &line, ink, Dash::Solid, Some(mark));
    }
    scene
}

fn min(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::INFINITY, f64::min)
}

fn max(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::NEG_INFINITY, f64::max)
}
