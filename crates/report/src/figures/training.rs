//! Loss and accuracy over the epochs, of the ANN's training and of the fine-tuning.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{Chapter, Drawn, Gallery, Plan};
use crate::error::ReportError;
use crate::interval::Spread;
use crate::plot::{Axis, Plot, Swatch, legend};
use crate::routes::Route;
use crate::rows::{Epoch, Finetune, Row, Training};
use crate::run::{Run, distinct};
use crate::scene::{Area, Dash, Ink, Scene};
use crate::style::Style;

/// The split of what was trained on; every other is what judged.
const TRAIN: &str = "train";

/// What is drawn: one of an epoch's values; or the mean of several seeds, whose standard deviations are then the interval.
#[derive(Serialize, Deserialize)]
pub(crate) struct Point {
    pub network: String,
    pub route: Route,
    pub epoch: u32,
    pub measure: String,
    pub split: String,
    pub value: f64,
    /// Ends of the interval around it, where one is known.
    pub low: Option<f64>,
    pub high: Option<f64>,
    /// Whether the network that the epoch left could be kept; not before it is pruned to the end.
    #[serde(default = "kept_unless_said")]
    pub may_be_kept: bool,
}

/// Tables of before have no others.
fn kept_unless_said() -> bool {
    true
}

/// Loss and accuracy of every epoch, in training and judged; of several seeds their means, as far as all of them were trained: where one
/// ends the mean would jump to what the others are like.
fn derive<const FINETUNING: bool>(rows: &[Epoch<FINETUNING>], route: impl Fn(&str) -> Route) -> Vec<Point> {
    let mut points = Vec::new();
    for network in distinct(rows.iter().map(|row| row.network.as_str())) {
        let of_network = || rows.iter().filter(|row| row.network == network);
        let seeds: BTreeSet<Option<u64>> = of_network().map(|row| row.seed).collect();
        let last =
            |seed: &Option<u64>| of_network().filter(|row| row.seed == *seed).map(|row| row.epoch).max();
        let end = seeds.iter().filter_map(last).min().unwrap_or_default();
        let mut epochs: Vec<u32> = of_network().map(|row| row.epoch).filter(|epoch| *epoch <= end).collect();
        epochs.sort_unstable();
        epochs.dedup();
        // One epoch makes no curve.
        if epochs.iter().filter(|&&epoch| epoch > 0).count() < 2 {
            continue;
        }
        let route = route(&network);
        // Earlier versions had nothing but the test split to judge by, and did not say so.
        let judged = of_network().find_map(|row| row.judged_on.as_deref()).unwrap_or("test");
        for epoch in epochs {
            let may_be_kept = of_network().all(|row| row.epoch != epoch || row.may_be_kept != Some(false));
            let mut add = |measure: &str, split: &str, value: &dyn Fn(&Epoch<FINETUNING>) -> Option<f64>| {
                let values: Vec<f64> =
                    of_network().filter(|row| row.epoch == epoch).filter_map(value).collect();
                // Before the first epoch nothing was trained on yet.
                points.extend(Spread::of(&values).map(|spread| Point {
                    network: network.clone(),
                    route,
                    epoch,
                    measure: measure.to_owned(),
                    split: split.to_owned(),
                    value: spread.mean,
                    low: spread.interval().map(|i| i.low.max(0.0)),
                    high: spread.interval().map(|i| i.high.min(most(measure))),
                    may_be_kept,
                }));
            };
            add("loss", TRAIN, &|row| row.train_loss);
            add("loss", judged, &|row| Some(row.test_loss));
            add("accuracy", TRAIN, &|row| row.train_accuracy);
            add("accuracy", judged, &|row| Some(row.test_accuracy));
        }
    }
    points
}

/// The most that a measure can be.
fn most(measure: &str) -> f64 {
    if measure == "accuracy" { 1.0 } else { f64::INFINITY }
}

pub(super) fn add(run: &Run, gallery: &mut Gallery<'_>) -> Result<(), ReportError> {
    let item = "Figure 3, training of the ANN";
    if gallery.has(run, item, &[Training::FILE]) {
        let rows = run.training.as_deref().unwrap_or_default();
        one(
            gallery,
            "fig3_training",
            Training::FILE,
            item,
            "Training of the ANN",
            rows.len(),
            &derive(rows, |_| Route::Ann),
        )?;
    }
    let item = "Figure 3, fine-tuning of the spiking network";
    if gallery.has(run, item, &[Finetune::FILE]) {
        let rows = run.finetune.as_deref().unwrap_or_default();
        let title = "Fine-tuning of the spiking network";
        one(
            gallery,
            "fig3_finetune",
            Finetune::FILE,
            item,
            title,
            rows.len(),
            &derive(rows, |network| Route::of_network(run, network)),
        )?;
    }
    Ok(())
}

fn one(
    gallery: &mut Gallery<'_>,
    stem: &str,
    file: &'static str,
    item: &str,
    title: &str,
    rows: usize,
    epochs: &[Point],
) -> Result<(), ReportError> {
    if epochs.is_empty() {
        let reason = if rows == 0 {
            "has no rows"
        } else {
            "has a single epoch of each network, which makes no curve"
        };
        gallery.leave_out(item, &[file], reason);
        return Ok(());
    }
    let plan = Plan {
        chapter: Chapter::Training,
        stem: stem.to_owned(),
        label: "Figure 3",
        caption: format!(
            "{title}: mean cross-entropy and share of correct answers after each epoch. The ringed point is the \
             epoch with the best accuracy on the {}{}.{}",
            judges(epochs).join(" or the "),
            match epochs.iter().all(|e| e.may_be_kept) {
                true => "",
                false => ", of those at whose end all was pruned that is to be",
            },
            if epochs.iter().any(|e| e.low.is_some()) {
                " Means over the seeds, with one standard deviation to either side, up to the last epoch of the seed that ended first."
            } else {
                ""
            }
        ),
    };
    gallery.add(plan, epochs)
}

/// What the epochs were judged by, in words.
fn judges(epochs: &[Point]) -> Vec<String> {
    let splits = distinct(epochs.iter().map(|e| e.split.as_str()).filter(|split| *split != TRAIN));
    let words =
        |split: String| if split == "test" { "test split".to_owned() } else { format!("{split} recordings") };
    splits.into_iter().map(words).collect()
}

impl Drawn for Point {
    fn draw<'s>(epochs: &[Self], style: &'s Style) -> Scene<'s> {
        let words = style.words();
        let networks = distinct(epochs.iter().map(|e| e.network.as_str()));
        let ink = |network: &str| {
            Ink::Route(epochs.iter().find(|e| e.network == network).map_or(Route::Other, |e| e.route))
        };
        let anns = epochs.iter().all(|e| e.route == Route::Ann);
        let mut scene =
            Scene::new(style, 0.0, if anns { words.training_title } else { words.finetune_title });
        let mut entries: Vec<(Swatch, String)> = networks
            .iter()
            .enumerate()
            .map(|(i, name)| (Swatch::Line(ink(name), Dash::Solid, Some(i)), name.clone()))
            .collect();
        let judged = distinct(epochs.iter().map(|e| e.split.as_str()).filter(|split| *split != TRAIN));
        let judged: Vec<&str> = judged.iter().map(|split| words.split(split)).collect();
        entries.push((Swatch::Line(Ink::Muted, Dash::Solid, None), judged.join(", ")));
        entries.push((Swatch::Line(Ink::Muted, Dash::Dashed, None), words.training_split.to_owned()));
        let start = scene.top();
        let width = scene.width;
        let top = start + legend(&mut scene, 12.0, start, width - 24.0, &entries) + 34.0;
        let first = f64::from(epochs.iter().map(|e| e.epoch).min().unwrap_or(1));
        let last = f64::from(epochs.iter().map(|e| e.epoch).max().unwrap_or(1));
        // A lone epoch still gets an axis around it.
        let (first, last) = if last > first { (first, last) } else { (first - 0.5, last + 0.5) };
        let panel = width / 2.0;
        for (i, (measure, label)) in
            [("loss", words.loss), ("accuracy", words.accuracy)].into_iter().enumerate()
        {
            let area = Area::new(48.0 + i as f64 * panel, top, panel - 48.0 - 12.0, 160.0);
            scene.height = area.bottom() + 42.0;
            let of = |network: &str, trained: bool| {
                let mut line: Vec<&Self> = epochs
                    .iter()
                    .filter(|e| e.network == network && e.measure == measure && (e.split == TRAIN) == trained)
                    .collect();
                line.sort_by_key(|e| e.epoch);
                line
            };
            let values = || {
                let of_measure = epochs.iter().filter(|e| e.measure == measure);
                of_measure.flat_map(|e| [Some(e.value), e.low, e.high]).flatten().filter(|v| v.is_finite())
            };
            let (lo, hi) =
                values().fold((f64::INFINITY, f64::NEG_INFINITY), |(lo, hi), v| (lo.min(v), hi.max(v)));
            let (lo, hi) = if lo <= hi { (lo, hi) } else { (0.0, 1.0) };
            let slack = ((hi - lo) * 0.03).max(1e-3);
            let y = Axis::rounded((lo - slack).max(0.0), (hi + slack).min(most(measure)), 5, label);
            let plot = Plot::new(&mut scene, area, Axis::whole(first, last, 4, words.epoch), y);
            for (n, network) in networks.iter().enumerate() {
                for (trained, dash) in [(true, Dash::Dashed), (false, Dash::Solid)] {
                    let line = of(network, trained);
                    let interval = |e: &&Self| Some((f64::from(e.epoch), e.low?, e.high?));
                    plot.band(
                        &mut scene,
                        &line.iter().filter_map(interval).collect::<Vec<_>>(),
                        ink(network),
                    );
                    let line: Vec<_> = line.iter().map(|e| (f64::from(e.epoch), e.value)).collect();
                    plot.series(&mut scene, &line, ink(network), dash, (!trained).then_some(n));
                }
                let better = |a: (f64, f64), b: (f64, f64)| if b.1 > a.1 { b } else { a };
                let judged = of(network, false).into_iter().filter(|e| e.may_be_kept);
                let judged = judged.map(|e| (f64::from(e.epoch), e.value));
                if let Some(best) = judged.reduce(better).filter(|_| measure == "accuracy") {
                    ring(&mut scene, plot.px(best.0), plot.py(best.1), ink(network));
                }
            }
        }
        scene
    }
}

fn ring(scene: &mut Scene<'_>, x: f64, y: f64, ink: Ink) {
    let points = (0..=24).map(|i| {
        let angle = f64::from(i) * std::f64::consts::TAU / 24.0;
        (x + 6.0 * angle.cos(), y + 6.0 * angle.sin())
    });
    scene.line(points.collect(), ink, 1.2, Dash::Solid);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scene::Item;

    #[test]
    fn seeds_are_averaged_epoch_by_epoch() {
        let row = |network: &str, epoch: u32, accuracy: f64, seed: Option<u64>| Training {
            network: network.to_owned(),
            epoch,
            train_loss: None,
            train_accuracy: None,
            test_loss: 1.0,
            test_accuracy: accuracy,
            seconds: 1.0,
            test_balanced_accuracy: None,
            test_macro_f1: None,
            judged_on: Some("held-out".to_owned()),
            seed,
            may_be_kept: (network == "two" && epoch == 1).then_some(false),
        };
        let rows = [
            row("two", 1, 0.5, Some(1)),
            row("two", 2, 0.6, Some(1)),
            row("two", 1, 0.7, Some(2)),
            row("two", 2, 0.8, Some(2)),
            // The first seed ended earlier.
            row("two", 3, 0.1, Some(2)),
            row("one", 1, 0.1, None),
            row("one", 2, 0.2, None),
            row("short", 1, 0.3, None),
        ];
        let points = derive(&rows, |_| Route::Ann);
        let of = |network: &str| {
            let points = points.iter().filter(|p| p.network == network && p.measure == "accuracy");
            points.map(|p| (p.epoch, p.value, p.low.is_some())).collect::<Vec<_>>()
        };
        assert_eq!(of("two"), [(1, 0.6, true), (2, 0.7, true)]);
        assert_eq!(of("one"), [(1, 0.1, false), (2, 0.2, false)]);
        assert!(of("short").is_empty());
        assert!(points.iter().all(|p| p.may_be_kept == (p.network != "two" || p.epoch != 1)));
        let low = points.iter().find_map(|p| p.low.filter(|_| p.measure == "accuracy")).unwrap();
        assert!((low - (0.6 - 0.02f64.sqrt())).abs() < 1e-12, "{low}");
    }

    #[test]
    fn seeds_make_a_band_and_a_single_run_none() {
        let style = Style::default();
        let point = |epoch: u32, low: Option<f64>| Point {
            network: "tuned".to_owned(),
            route: Route::FinetunedDefault,
            epoch,
            measure: "accuracy".to_owned(),
            split: "held-out".to_owned(),
            value: 0.7,
            low,
            high: low.map(|low| 1.4 - low),
            may_be_kept: true,
        };
        let bands = |low: Option<f64>| {
            let points: Vec<Point> = (1..4).map(|epoch| point(epoch, low)).collect();
            let band = |i: &&Item| matches!(i, Item::Polygon { opacity, .. } if *opacity < 1.0);
            Point::draw(&points, &style).items.iter().filter(band).count()
        };
        assert_eq!((bands(Some(0.65)), bands(None)), (1, 0));
        // What is pruned further is not the best of a training.
        let rings = |may_be_kept: bool| {
            let points = [Point { may_be_kept, ..point(1, None) }, Point { may_be_kept, ..point(2, None) }];
            let ring = |i: &&Item| matches!(i, Item::Line { points, .. } if points.len() == 25);
            Point::draw(&points, &style).items.iter().filter(ring).count()
        };
        assert_eq!((rings(true), rings(false)), (1, 0));
    }
}
