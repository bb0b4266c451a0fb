//! Accuracy against energy of every network, and the fronts of spiking networks and of ANNs.

use serde::{Deserialize, Serialize};

use super::{Chapter, Drawn, Gallery, Plan};
use crate::error::ReportError;
use crate::front::{Candidate, field, front};
use crate::plot::{Axis, Plot, Swatch, legend};
use crate::routes::Route;
use crate::rows::{Front, Row as _};
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
    #[serde(default = "default_route")]
    route: Route,
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
    let field = field(run, rows);
    if !field.has_spiking() {
        let why = "has no spiking network that is better than naming the most frequent class throughout";
        gallery.leave_out("Accuracy against energy", &[Front::FILE], why);
        return Ok(());
    }
    let all = &field.entered;
    let mut points = Vec::new();
    for (counting, cost) in COUNTINGS {
        let fronts = [true, false].map(|spiking| front(all, spiking, cost));
        for c in all {
            points.push(Point {
                counting: counting.to_owned(),
                network: c.first.network.clone(),
                sort: if c.is_spiking() { Sort::Spiking } else { Sort::Ann },
                route: route(run, c),
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
        caption: "Every network that can be compared, each in its own number of bits: spiking networks, and their ANNs in fp32 and quantised, \
                  with and without what is zero. Above the energy of arithmetic alone, below with the memory that weights, states and \
                  events take. Lines join the networks that no other of their sort is as accurate as for as little (where they are few, \
                  with one standard error to either side); where one line lies above and left of the other, its networks are the \
                  better choice. Colours are routes. Those more than 12 points below the best are in front.csv only."
            .to_owned()
            + &field.left_out().map_or_else(String::new, |left_out| format!(" {left_out}")),
    };
    gallery.add(plan, &points)
}

/// In tables that do not say: those of before drew all networks so.
fn default_route() -> Route {
    Route::Other
}

/// A study's outcomes say by which preset a network was made.
fn route(run: &Run, c: &Candidate<'_>) -> Route {
    let of_study = run.outcomes.iter().flatten().find(|o| o.network == c.first.network);
    match of_study {
        Some(outcome) => Route::of(c.first.kind, &outcome.preset),
        None if c.is_spiking() => Route::of_network(run, &c.first.network),
        None => Route::Ann,
    }
}

/// How far below the best a network may be that is drawn.
const SHOWN: f64 = 0.12;

/// Whether a network is among those worth a place: others would make the axis so long that the best could not be told apart.
fn is_shown(points: &[Point], point: &Point) -> bool {
    let best = points.iter().map(|p| p.accuracy).fold(0.0, f64::max);
    point.microjoules > 0.0 && point.accuracy >= best - SHOWN
}

impl Point {
    fn ink(&self) -> Ink {
        Ink::Route(if self.sort == Sort::Ann { Route::Ann } else { self.route })
    }
}

impl Sort {
    /// Of the line that joins the networks of many routes.
    fn ink(self) -> Ink {
        match self {
            Self::Spiking => Ink::Text,
            Self::Ann => Ink::Route(Route::Ann),
        }
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
        /// Networks on a line, at most, that have bars of their errors.
        const MANY: usize = 8;
        let words = style.words();
        let mut scene = Scene::new(style, 0.0, words.front_title);
        let sorts = [(Sort::Spiking, words.spiking_networks), (Sort::Ann, words.anns)];
        let mut entries: Vec<_> = sorts
            .iter()
            .enumerate()
            .map(|(i, (sort, name))| {
                let mark = (*sort == Sort::Ann).then_some(i);
                (Swatch::Line(sort.ink(), sort.dash(), mark), (*name).to_owned())
            })
            .collect();
        let spiking = || points.iter().filter(|p| p.sort == Sort::Spiking && is_shown(points, p));
        for route in Route::ALL.into_iter().filter(|route| spiking().any(|p| p.route == *route)) {
            let name = if route == Route::Other { words.other.to_owned() } else { words.route(route) };
            entries.push((Swatch::Mark(Ink::Route(route), 0), name));
        }
        let (width, top) = (scene.width, scene.top());
        let mut top = top + legend(&mut scene, 12.0, top, width - 24.0, &entries);
        let names = [words.arithmetic, words.with_memory];
        for (i, (counting, _)) in COUNTINGS.iter().enumerate() {
            let of: Vec<&Self> =
                points.iter().filter(|p| p.counting == *counting && is_shown(points, p)).collect();
            if of.is_empty() {
                continue;
            }
            let area = Area::new(48.0, top + 46.0, width - 48.0 - 14.0, 180.0);
            scene.text(12.0, top + 18.0, names[i], style.panel());
            top = area.bottom() + 42.0;
            let ends = |value: fn(&Self) -> f64| {
                of.iter()
                    .map(|p| value(p))
                    .fold((f64::INFINITY, 0.0f64), |(lo, hi), v| (lo.min(v), hi.max(v)))
            };
            let ((low, _), (_, high)) =
                (ends(|p| p.accuracy - p.standard_error), ends(|p| p.accuracy + p.standard_error));
            let y = Axis::rounded(low.max(0.0), high.min(1.0), 6, words.accuracy);
            let (low, high) = ends(|p| p.microjoules);
            let plot = Plot::new(&mut scene, area, Axis::log(low, high, words.microjoules), y);
            for (mark, (sort, _)) in sorts.iter().enumerate() {
                let theirs = || of.iter().filter(|p| p.sort == *sort);
                let place = |p: &Self| (plot.px(p.microjoules), plot.py(p.accuracy));
                for p in theirs().filter(|p| !p.on_front) {
                    let (x, y) = place(p);
                    scene.disk(x, y, SMALL, p.ink());
                }
                let mut line: Vec<&&Self> = theirs().filter(|p| p.on_front).collect();
                line.sort_by(|a, b| a.microjoules.total_cmp(&b.microjoules));
                // Of many a bar each would hide the line.
                if line.len() <= MANY {
                    for p in &line {
                        let (low, high) = (p.accuracy - p.standard_error, p.accuracy + p.standard_error);
                        plot.band(&mut scene, &[(p.microjoules, low, high)], p.ink());
                    }
                }
                let at: Vec<(f64, f64)> = line.iter().map(|p| (p.microjoules, p.accuracy)).collect();
                plot.series(&mut scene, &at, sort.ink(), sort.dash(), None);
                for p in line {
                    let (x, y) = place(p);
                    scene.mark(mark, x, y, p.ink());
                }
            }
        }
        scene.height = top;
        scene
    }
}
