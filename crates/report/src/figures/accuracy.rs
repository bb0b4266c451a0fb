//! Accuracy against T for each network, in the colours of the routes.

use serde::{Deserialize, Serialize};

use super::{Chapter, Drawn, Gallery, Plan};
use crate::error::ReportError;
use crate::interval::{Spread, wilson};
use crate::plot::{Axis, Plot, Swatch, legend};
use crate::routes::Route;
use crate::rows::{Evaluation, Kind, Outcome, Row};
use crate::run::{Run, distinct};
use crate::scene::{Area, Dash, Ink, Scene};
use crate::seeds::means;
use crate::standing::{chance, largest_class, standard_error};
use crate::style::Style;
use crate::text;

/// One network at one T; or the mean of several seeds, whose standard deviations are then the interval.
#[derive(Serialize, Deserialize)]
pub(crate) struct Point {
    pub network: String,
    pub kind: Kind,
    pub preset: String,
    pub encoder: String,
    pub route: Route,
    pub timesteps: Option<u32>,
    pub accuracy: f64,
    /// Ends of the interval around it, where one is known.
    pub low: Option<f64>,
    pub high: Option<f64>,
    pub samples: u64,
    pub standard_error: Option<f64>,
    /// Accuracy of naming the most frequent class throughout.
    pub largest_class: Option<f64>,
    /// Accuracy of guessing.
    pub chance: f64,
    /// The network's mark.
    #[serde(default)]
    pub mark: usize,
}

impl Point {
    fn interval(&self) -> Option<(f64, f64)> {
        Some((self.low?, self.high?)).filter(|(low, high)| low.is_finite() && high.is_finite())
    }
    /// Points of one line: nothing joins two networks.
    fn line(&self) -> (&str, &str, &str) {
        (&self.network, &self.preset, &self.encoder)
    }
    fn shown(&self) -> String {
        text::share(self.accuracy, self.standard_error.unwrap_or(f64::NAN))
    }
}

fn derive(run: &Run, evaluations: &[Evaluation]) -> Vec<Point> {
    evaluations.iter().map(|e| point(run, e)).collect()
}

fn point(run: &Run, e: &Evaluation) -> Point {
    let interval = wilson(e.accuracy, e.samples);
    Point {
        network: e.network.clone(),
        kind: e.kind,
        preset: e.preset.clone(),
        encoder: e.encoder.clone(),
        route: Route::of(e.kind, &e.preset),
        timesteps: e.timesteps,
        accuracy: e.accuracy,
        low: interval.map(|i| i.low),
        high: interval.map(|i| i.high),
        samples: e.samples,
        standard_error: Some(standard_error(e)).filter(|error| error.is_finite()),
        largest_class: largest_class(run, e.samples),
        chance: chance(run),
        mark: 0,
    }
}

/// Names of a list in the caption, at most.
const NAMED: usize = 6;

/// The routes of the spiking networks, each with its networks, in words after a colon; nothing where none is known.
fn of_routes(points: &[Point]) -> String {
    let words = Style::default().words();
    let spiking = || points.iter().filter(|p| p.kind.is_spiking() && p.route != Route::Other);
    let routes =
        distinct(spiking().map(|p| words.route(p.route)).collect::<Vec<_>>().iter().map(String::as_str));
    let named = routes.iter().map(|route| {
        let own = spiking().filter(|p| words.route(p.route) == *route);
        format!("{route} ({})", text::listed(&distinct(own.map(|p| p.network.as_str())), NAMED))
    });
    let named = named.collect::<Vec<_>>().join("; ");
    if named.is_empty() { named } else { format!(": {named}") }
}

/// Means over the seeds of a study. A network that no seed reaches has the interval of its recordings.
fn of_seeds(run: &Run, outcomes: &[Outcome]) -> Vec<Point> {
    let mean = |(o, spread): (&Outcome, Spread)| {
        let single = point(run, &o.evaluation());
        let interval = spread.interval();
        Point {
            accuracy: spread.mean,
            low: interval.map_or(single.low, |i| Some(i.low)),
            high: interval.map_or(single.high, |i| Some(i.high)),
            standard_error: Some(spread.standard_error(o.samples as f64)),
            ..single
        }
    };
    means(outcomes).into_iter().map(mean).collect()
}

pub(super) fn add(run: &Run, gallery: &mut Gallery<'_>) -> Result<(), ReportError> {
    const ITEM: &str = "Accuracy against T";
    if !gallery.has(run, ITEM, &[Evaluation::FILE]) {
        return Ok(());
    }
    let evaluations = run.evaluations.as_deref().unwrap_or_default();
    if !evaluations.iter().any(|e| e.timesteps.is_some() && e.kind.is_spiking()) {
        gallery.leave_out(ITEM, &[Evaluation::FILE], "has no row of a spiking network");
        return Ok(());
    }
    let (mut points, intervals) = match &run.outcomes {
        Some(outcomes) if !outcomes.is_empty() => (
            of_seeds(run, outcomes),
            "Points are means over the seeds; bands and whiskers are one standard deviation of a seed to either side, and of a \
             network that no seed reaches the 95% (Wilson) interval of a share of so many recordings.",
        ),
        _ => (
            derive(run, evaluations),
            "Bands, and whiskers of a network at one T, are the 95% (Wilson) intervals of a share of so many recordings.",
        ),
    };
    let places = run.places();
    points.iter_mut().for_each(|p| p.mark = places.get(&p.network).copied().unwrap_or_default());
    let samples = || points.iter().map(|p| p.samples);
    let alike = if samples().min() == samples().max() {
        "All networks saw the same recordings, so differences between them are surer than their intervals suggest.".to_owned()
    } else {
        format!(
            "Networks were judged by N = {} recordings, the first ones each{}; those of different numbers cannot be compared to the point.",
            text::several(samples(), text::grouped),
            on_fewer(run).map_or_else(String::new, |anns| format!(" ({anns})")),
        )
    };
    let plan = Plan {
        chapter: Chapter::Accuracy,
        stem: "accuracy_timesteps".to_owned(),
        label: ITEM,
        caption: format!(
            "Share of {} classified correctly when the simulation runs for T steps (logarithmic axis). A line joins one network \
             at several T, in its route's colour{}. {intervals} {alike} Level lines: the ANN, which has no steps, naming the most frequent class throughout, \
             and guessing.",
            run.recordings(),
            of_routes(&points)
        ),
    };
    gallery.add(plan, &points)
}

/// What given ANNs have on the recordings of networks that were judged by fewer, in words; known of a study. Trained ones differ from
/// seed to seed.
fn on_fewer(run: &Run) -> Option<String> {
    let outcomes = run.outcomes.as_deref()?;
    let given = |o: &&Outcome| o.kind == Kind::Ann && o.seed.is_none();
    let mut told: Vec<String> = Vec::new();
    for ann in outcomes.iter().filter(given) {
        let fewer = outcomes.iter().filter(|o| o.ann == ann.network && o.samples < ann.samples);
        for o in fewer {
            let there = o.lost.map(|lost| format!("{:.3}", o.accuracy + lost + 1e-9));
            let words = there.map(|there| {
                format!("of the first {} {} gets {there} right", text::grouped(o.samples), ann.network)
            });
            told.extend(words.filter(|words| !told.contains(words)));
        }
    }
    (!told.is_empty()).then(|| text::listed(&told, NAMED))
}

impl Drawn for Point {
    fn draw<'s>(points: &[Self], style: &'s Style) -> Scene<'s> {
        /// Lines, at most, whose routes the legend names.
        const FEW: usize = 6;
        let words = style.words();
        let most = points.iter().map(|p| p.samples).max().unwrap_or_default();
        let (anns, spiking): (Vec<&Self>, Vec<&Self>) = points.iter().partition(|p| !p.kind.is_spiking());
        let mut entries = Vec::new();
        let mut lines: Vec<Vec<&Self>> = Vec::new();
        for point in spiking.iter().filter(|p| p.timesteps.is_some()) {
            match lines.iter_mut().find(|line| line[0].line() == point.line()) {
                Some(line) => line.push(point),
                None => lines.push(vec![point]),
            }
        }
        let few = lines.len() <= FEW;
        let marks = marks(&lines);
        for (line, mark) in lines.iter_mut().zip(&marks) {
            line.sort_by_key(|p| p.timesteps);
            let route = match line[0].route {
                Route::Other => words.kind(line[0].kind).to_owned(),
                route => words.route(route),
            };
            let ink = Ink::Route(line[0].route);
            let swatch = if line.len() > 1 {
                Swatch::Line(ink, Dash::Solid, Some(*mark))
            } else {
                Swatch::Mark(ink, *mark)
            };
            let fewer = line[0].samples < most;
            let more =
                [few.then_some(route), fewer.then(|| format!("N = {}", text::grouped(line[0].samples)))];
            let more: Vec<String> = more.into_iter().flatten().collect();
            let name = &line[0].network;
            entries.push((
                swatch,
                if more.is_empty() { name.clone() } else { format!("{name} ({})", more.join("; ")) },
            ));
        }
        // Level lines, with their values: names beside them would collide.
        let mut levels = Vec::new();
        for (i, ann) in anns.iter().enumerate() {
            let name = words.network(&ann.network);
            let name = if name.starts_with(words.ann) { name } else { format!("{} {name}", words.ann) };
            levels.push((
                ann.accuracy,
                Ink::Route(Route::Ann),
                Dash::level(i),
                format!("{name} {}", ann.shown()),
            ));
        }
        if let Some(share) = points.iter().find_map(|p| p.largest_class) {
            levels.push((share, Ink::Text, Dash::Fine, format!("{} {share:.2}", words.largest_class)));
        }
        if let Some(p) = points.first() {
            levels.push((p.chance, Ink::Text, Dash::Dotted, format!("{} {:.2}", words.chance, p.chance)));
        }
        let names = levels.iter().map(|(_, ink, dash, name)| (Swatch::Line(*ink, *dash, None), name.clone()));
        entries.extend(names);

        let mut scene = Scene::new(style, 0.0, words.accuracy_title);
        let (width, top) = (scene.width, scene.top());
        let top = top + legend(&mut scene, 12.0, top, width - 24.0, &entries) + 34.0;
        let area = Area::new(48.0, top, width - 48.0 - 12.0, 230.0);
        scene.height = area.bottom() + 42.0;

        let ends = points.iter().filter_map(Self::interval).flat_map(|(low, high)| [low, high]);
        let values: Vec<f64> =
            points.iter().map(|p| p.accuracy).chain(levels.iter().map(|l| l.0)).chain(ends).collect();
        let y =
            Axis::rounded((min(&values) - 0.01).max(0.0), (max(&values) + 0.01).min(1.0), 6, words.accuracy);
        let mut steps: Vec<f64> = spiking.iter().filter_map(|p| p.timesteps).map(f64::from).collect();
        steps.sort_by(f64::total_cmp);
        steps.dedup();
        // Room left and right of the marks.
        let (lo, hi) = (min(&steps) / 1.15, max(&steps) * 1.15);
        let ticks = steps.iter().map(|t| (*t, format!("{t:.0}"))).collect();
        let x = Axis { log: true, lo, hi, ticks, label: words.timesteps.to_owned() };
        let x = x.with_room(area.w, style.label());
        let plot = Plot::new(&mut scene, area, x, y);
        for (value, ink, dash, _) in &levels {
            plot.level(&mut scene, *value, *ink, *dash);
        }
        for line in &lines {
            let interval =
                |p: &&Self| p.interval().map(|(low, high)| (f64::from(p.timesteps.unwrap_or(1)), low, high));
            let intervals: Vec<_> = line.iter().filter_map(interval).collect();
            plot.band(&mut scene, &intervals, Ink::Route(line[0].route));
        }
        for (line, mark) in lines.iter().zip(&marks) {
            let at: Vec<_> = line.iter().map(|p| (f64::from(p.timesteps.unwrap_or(1)), p.accuracy)).collect();
            plot.series(&mut scene, &at, Ink::Route(line[0].route), Dash::Solid, Some(*mark));
        }
        scene
    }
}

/// A mark for each line: its network's, or where a network has several lines the next that is free.
fn marks(lines: &[Vec<&Point>]) -> Vec<usize> {
    let mut taken: Vec<usize> = Vec::new();
    for line in lines {
        let own = line[0].mark;
        taken.push((own..).find(|mark| !taken.contains(mark)).unwrap_or(own));
    }
    taken
}

fn min(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::INFINITY, f64::min)
}

fn max(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::NEG_INFINITY, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scene::Item;

    fn point(network: &str, timesteps: u32, interval: Option<(f64, f64)>) -> Point {
        Point {
            network: network.to_owned(),
            kind: Kind::Finetuned,
            preset: "default".to_owned(),
            encoder: "direct".to_owned(),
            route: Route::FinetunedDefault,
            timesteps: Some(timesteps),
            accuracy: 0.7,
            low: interval.map(|i| i.0),
            high: interval.map(|i| i.1),
            samples: 200,
            standard_error: Some(0.03),
            largest_class: Some(0.43),
            chance: 1.0 / 3.0,
            mark: 0,
        }
    }

    /// Curves of the route's colour.
    fn curves(points: &[Point]) -> usize {
        let style = Style::default();
        let curve = |item: &&Item| {
            matches!(item, Item::Line { ink: Ink::Route(Route::FinetunedDefault), points, width, .. }
                if *width == style.curve() && points[0].1 > 100.0 && points[0].0 != points[1].0)
        };
        let scene = Point::draw(points, &style);
        scene.items.iter().filter(curve).count()
    }

    #[test]
    fn no_line_joins_two_networks() {
        assert_eq!(curves(&[point("a", 1, None), point("b", 4, None)]), 0);
        assert_eq!(curves(&[point("a", 1, None), point("a", 4, None), point("b", 4, None)]), 1);
    }

    #[test]
    fn intervals_that_are_given_become_bands() {
        let style = Style::default();
        let bands = |points: &[Point]| {
            let scene = Point::draw(points, &style);
            let band = |i: &&Item| matches!(i, Item::Polygon { opacity, .. } if *opacity < 1.0);
            scene.items.iter().filter(band).count()
        };
        let (low, high) = (0.65, 0.75);
        assert_eq!(bands(&[point("a", 1, Some((low, high))), point("a", 4, Some((low, high)))]), 1);
        assert_eq!(bands(&[point("a", 1, None), point("a", 4, None)]), 0);
    }

    #[test]
    fn the_largest_class_stands_beside_chance() {
        let style = Style::default();
        let scene = Point::draw(&[point("a", 1, None)], &style);
        let said = |wanted: &str| {
            scene.items.iter().any(|i| matches!(i, Item::Text { string, .. } if string == wanted))
        };
        assert!(said("largest class 0.43") && said("chance 0.33"));
    }
}
