//! Loss and accuracy over the epochs, of the ANN's training and of the fine-tuning.

use serde::{Deserialize, Serialize};

use super::{Chapter, Gallery, Plan, WIDTH};
use crate::error::ReportError;
use crate::plot::{Axis, Plot, Swatch, legend};
use crate::rows::{Epoch, Finetune, Row, Training};
use crate::run::{Run, distinct};
use crate::scene::{Area, Dash, Ink, Scene, Type};

/// The split of what was trained on; every other is what judged.
const TRAIN: &str = "train";

/// What is drawn: one of an epoch's values.
#[derive(Serialize, Deserialize)]
struct Point {
    network: String,
    epoch: u32,
    measure: String,
    split: String,
    value: f64,
}

/// Loss and accuracy of every epoch, in training and judged.
fn derive<const FINETUNING: bool>(rows: &[Epoch<FINETUNING>]) -> Vec<Point> {
    rows.iter()
        .flat_map(|row| {
            // Earlier versions had nothing but the test split to judge by, and did not say so.
            let judged = row.judged_on.as_deref().unwrap_or("test");
            let values = [
                ("loss", TRAIN, row.train_loss),
                ("loss", judged, Some(row.test_loss)),
                ("accuracy", TRAIN, row.train_accuracy),
                ("accuracy", judged, Some(row.test_accuracy)),
            ];
            // Before the first epoch nothing was trained on yet.
            values.into_iter().filter_map(|(measure, split, value)| {
                Some(Point {
                    network: row.network.clone(),
                    epoch: row.epoch,
                    measure: measure.to_owned(),
                    split: split.to_owned(),
                    value: value?,
                })
            })
        })
        .collect()
}

pub(super) fn add(run: &Run, gallery: &mut Gallery) -> Result<(), ReportError> {
    if gallery.has(run, "Figure 3, training of the ANN", &[Training::FILE]) {
        let points = derive(run.training.as_deref().unwrap_or_default());
        one(gallery, "fig3_training", Training::FILE, "Training of the ANN", &points)?;
    }
    if gallery.has(run, "Figure 3, fine-tuning of the spiking network", &[Finetune::FILE]) {
        let points = derive(run.finetune.as_deref().unwrap_or_default());
        one(gallery, "fig3_finetune", Finetune::FILE, "Fine-tuning of the spiking network", &points)?;
    }
    Ok(())
}

fn one(
    gallery: &mut Gallery,
    stem: &str,
    file: &'static str,
    title: &str,
    epochs: &[Point],
) -> Result<(), ReportError> {
    if epochs.is_empty() {
        gallery.leave_out(&format!("Figure 3, {}", title.to_lowercase()), &[file], "has no rows");
        return Ok(());
    }
    let plan = Plan {
        chapter: Chapter::Training,
        stem: stem.to_owned(),
        label: "Figure 3",
        caption: format!(
            "{title}: mean cross-entropy and share of correct answers after each epoch. The ringed point is the \
             epoch with the best accuracy on the {}.",
            judges(epochs).join(" or the ")
        ),
    };
    gallery.add(plan, epochs, |epochs| draw(title, epochs))
}

/// What the epochs were judged by, in words.
fn judges(epochs: &[Point]) -> Vec<String> {
    let splits = distinct(epochs.iter().map(|e| e.split.as_str()).filter(|split| *split != TRAIN));
    let words =
        |split: String| if split == "test" { "test split".to_owned() } else { format!("{split} recordings") };
    splits.into_iter().map(words).collect()
}

fn draw(title: &str, epochs: &[Point]) -> Scene {
    let networks = distinct(epochs.iter().map(|e| e.network.as_str()));
    let mut scene = Scene::new(WIDTH, 340.0, title);
    let mut entries: Vec<(Swatch, String)> = networks
        .iter()
        .enumerate()
        .map(|(i, name)| (Swatch::Line(Ink::Series(i), Dash::Solid, None), name.clone()))
        .collect();
    entries.push((Swatch::Line(Ink::Muted, Dash::Solid, None), judges(epochs).join(" or ")));
    entries.push((Swatch::Line(Ink::Muted, Dash::Dashed, None), "training split".to_owned()));
    let top = 34.0 + legend(&mut scene, 12.0, 34.0, WIDTH - 24.0, &entries) + 34.0;
    let first = f64::from(epochs.iter().map(|e| e.epoch).min().unwrap_or(1));
    let last = f64::from(epochs.iter().map(|e| e.epoch).max().unwrap_or(1));
    // A run of one epoch still gets an axis around it.
    let (first, last) = if last > first { (first, last) } else { (first - 0.5, last + 0.5) };
    let mut bottom = top;
    for (i, (measure, label)) in
        [("loss", "loss (mean cross-entropy)"), ("accuracy", "accuracy (share correct)")]
            .into_iter()
            .enumerate()
    {
        let area = Area::new(56.0 + i as f64 * 360.0, top, 290.0, 200.0);
        bottom = area.bottom();
        let of = |network: &str, trained: bool| {
            let mut line: Vec<(f64, f64)> = epochs
                .iter()
                .filter(|e| e.network == network && e.measure == measure && (e.split == TRAIN) == trained)
                .map(|e| (f64::from(e.epoch), e.value))
                .collect();
            line.sort_by(|a, b| a.0.total_cmp(&b.0));
            line
        };
        let values =
            || epochs.iter().filter(|e| e.measure == measure && e.value.is_finite()).map(|e| e.value);
        let (lo, hi) =
            values().fold((f64::INFINITY, f64::NEG_INFINITY), |(lo, hi), v| (lo.min(v), hi.max(v)));
        let (lo, hi) = if lo <= hi { (lo, hi) } else { (0.0, 1.0) };
        let slack = ((hi - lo) * 0.03).max(1e-3);
        let y = Axis::rounded((lo - slack).max(0.0), hi + slack, 5, label);
        let plot = Plot::new(&mut scene, area, Axis::whole(first, last, 6, "epoch"), y);
        for (n, network) in networks.iter().enumerate() {
            let ink = Ink::Series(n);
            for (trained, dash) in [(true, Dash::Dashed), (false, Dash::Solid)] {
                let mut line = of(network, trained);
                if let ([(epoch, value)], true) = (&line[..], trained) {
                    // A single epoch shows as a stroke through it.
                    line = vec![(epoch - 0.08, *value), (epoch + 0.08, *value)];
                }
                let marks = (line.len() < 16 && !trained).then_some(n);
                plot.series(&mut scene, &line, ink, dash, marks);
            }
            if measure == "accuracy"
                && let Some(best) =
                    of(network, false).into_iter().reduce(|a, b| if b.1 > a.1 { b } else { a })
            {
                ring(&mut scene, plot.px(best.0), plot.py(best.1), ink);
                // Below the ring if there is room: the training curve is usually above.
                let y = plot.py(best.1);
                let baseline = if y + 24.0 < area.bottom() { y + 21.0 } else { y - 12.0 };
                let half = Type::VALUE.width("0.000") / 2.0;
                let x = plot.px(best.0).clamp(area.x + half, area.right() - half);
                let label = format!("{:.3}", best.1);
                scene.text(x, baseline, &label, Type::VALUE.middle().ink(ink));
            }
        }
    }
    scene.height = bottom + 46.0;
    scene
}

fn ring(scene: &mut Scene, x: f64, y: f64, ink: Ink) {
    let points = (0..=24).map(|i| {
        let angle = f64::from(i) * std::f64::consts::TAU / 24.0;
        (x + 7.5 * angle.cos(), y + 7.5 * angle.sin())
    });
    scene.line(points.collect(), ink, 1.5, Dash::Solid);
}
