//! Accuracy against energy of every network, and the fronts of spiking networks and of ANNs.

use serde::{Deserialize, Serialize};

use super::{Chapter, Drawn, Gallery, Plan};
use crate::error::ReportError;
use crate::front::{Candidate, candidates, front};
use crate::plot::{Axis, Plot, Swatch, legend};
use crate::routes::Route;
use crate::rows::Front;
use crate::run::Run;
use crate::scene::{Area, Dash, Ink, Scene};
use crate::style::Style;

/// A network by one way of counting.
#[derive(Serialize, Deserialize)]
pub(super) struct Point {
    /// `arithmetic` or `memory`.
    counting: String,
    network: String,
    sort: Sort,
    timesteps: Option<u32>,
    bits: Option<u32>,
    skips: bool,
    accuracy: f64,
    standard_error: f64,
    microjoules: f64,
    /// No other of its sort is as accurate for as little.
    on_front: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Sort {
    Spiking,
    Ann,
}

/// A network's picojoules.
type Cost = fn(&Candidate<'_>) -> f64;

/// Ways of counting, in the order of their panels.
const COUNTINGS: [(&str, Cost); 2] = [("arithmetic", |c| c.arithmetic_pj), ("memory", |c| c.memory_pj)];

pub(super) fn add(run: &Run, gallery: &mut Gallery<'_>) -> Result<(), ReportError> {
    let Some(rows) = run.front.as_deref().filter(|rows| rows.iter().any(|r: &Front| r.kind.is_spiking()))
    else {
        return Ok(());
    };
    let all = candidates(rows);
    let mut points = Vec::new();
    for (counting, cost) in COUNTINGS {
        let fronts = [true, false].map(|spiking| front(&all, spiking, cost));
        for c in &all {
            points.push(Point {
                counting: counting.to_owned(),
                network: c.first.network.clone(),
                sort: if c.is_spiking() { Sort::Spiking } else { Sort::Ann },
                timesteps: c.first.timesteps,
                bits: c.first.bits,
                skips: c.first.skips,
                accuracy: c.accuracy.mean,
                standard_error: c.error(),
                microjoules: cost(c) / 1e6,
                on_front: fronts.iter().flatten().any(|other| std::ptr::eq(*other, c)),
            });
        }
    }
    let plan = Plan {
        chapter: Chapter::Accuracy,
        stem: "front".to_owned(),
        label: "Accuracy against energy",
        caption: "Every network, each in its own number of bits: spiking networks, and their ANNs in fp32 and quantised, \
                  with and without what is zero. Left the energy of arithmetic alone, right with the memory that weights, states and \
                  events take. Lines join the networks that no other of their sort is as accurate as for as little, with one standard \
                  error to either side; where one line lies above and left of the other, its networks are the better choice."
            .to_owned(),
    };
    gallery.add(plan, &points)
}

impl Sort {
    fn ink(self) -> Ink {
        Ink::Route(match self {
            Self::Spiking => Route::FinetunedDefault,
            Self::Ann => Route::Ann,
        })
    }
    fn dash(self) -> Dash {
        match self {
            Self::Spiking => Dash::Solid,
            Self::Ann => Dash::Dashed,
        }
    }
}

impl Drawn for Point {
    fn draw<'s>(points: &[Self], style: &'s Style) -> Scene<'s> {
        /// Radius of a network that is on no front.
        const SMALL: f64 = 1.8;
        let words = style.words();
        let mut scene = Scene::new(style, 0.0, words.front_title);
        let sorts = [(Sort::Spiking, words.spiking_networks), (Sort::Ann, words.anns)];
        let entries: Vec<_> = sorts
            .iter()
            .enumerate()
            .map(|(i, (sort, name))| (Swatch::Line(sort.ink(), sort.dash(), Some(i)), (*name).to_owned()))
            .collect();
        let (width, top) = (scene.width, scene.top());
        let top = top + legend(&mut scene, 12.0, top, width - 24.0, &entries) + 48.0;
        let names = [words.arithmetic, words.with_memory];
        let shown: Vec<usize> =
            (0..COUNTINGS.len()).filter(|i| points.iter().any(|p| p.counting == COUNTINGS[*i].0)).collect();
        let panel = width / shown.len().max(1) as f64;
        for (place, &i) in shown.iter().enumerate() {
            let of: Vec<&Self> =
                points.iter().filter(|p| p.counting == COUNTINGS[i].0 && p.microjoules > 0.0).collect();
            let left = place as f64 * panel;
            let area = Area::new(left + 48.0, top, panel - 48.0 - 14.0, 220.0);
            scene.height = area.bottom() + 42.0;
            scene.text(left + 12.0, top - 28.0, names[i], style.panel());
            let ends = |value: fn(&Self) -> f64| {
                of.iter()
                    .map(|p| value(p))
                    .fold((f64::INFINITY, 0.0f64), |(lo, hi), v| (lo.min(v), hi.max(v)))
            };
            let ((low, _), (_, high)) =
                (ends(|p| p.accuracy - p.standard_error), ends(|p| p.accuracy + p.standard_error));
            let y = Axis::rounded(low.max(0.0), high.min(1.0), 6, words.accuracy);
            let (low, high) = ends(|p| p.microjoules);
            let x = Axis::log(low, high, words.microjoules);
            let plot = Plot::new(&mut scene, area, x, y);
            for (mark, (sort, _)) in sorts.iter().enumerate() {
                let theirs = || of.iter().filter(|p| p.sort == *sort);
                for p in theirs().filter(|p| !p.on_front) {
                    let (x, y) = (plot.px(p.microjoules), plot.py(p.accuracy));
                    scene.disk(x, y, SMALL, sort.ink());
                }
                let mut line: Vec<&&Self> = theirs().filter(|p| p.on_front).collect();
                line.sort_by(|a, b| a.microjoules.total_cmp(&b.microjoules));
                for p in &line {
                    let (low, high) = (p.accuracy - p.standard_error, p.accuracy + p.standard_error);
                    plot.band(&mut scene, &[(p.microjoules, low, high)], sort.ink());
                }
                let at: Vec<(f64, f64)> = line.iter().map(|p| (p.microjoules, p.accuracy)).collect();
                plot.series(&mut scene, &at, sort.ink(), sort.dash(), Some(mark));
            }
        }
        scene
    }
}
