//! Confusion matrices.

use serde::{Deserialize, Serialize};

use super::{Chapter, Drawn, Gallery, Plan, across, page_stem, pages};
use crate::error::ReportError;
use crate::plot::Colours;
use crate::rows::{Confusion, Row};
use crate::run::{Run, distinct};
use crate::scene::{Ink, Scene};
use crate::seeds::of_one_seed;
use crate::style::Style;
use crate::text;

/// Matrices of a figure, at most.
const PAGE: usize = 10;
/// Names of the study's classes.
const CLASSES: [&str; 3] = ["dorsiflexion", "plantarflexion", "pricking"];

#[derive(Serialize, Deserialize)]
pub(super) struct Cell {
    network: String,
    actual: u32,
    actual_name: String,
    predicted: u32,
    predicted_name: String,
    count: u64,
    share_of_actual: f64,
}

fn derive(counts: &[Confusion]) -> Vec<Cell> {
    let classes = counts.iter().map(|c| c.actual.max(c.predicted) + 1).max().unwrap_or(0);
    // What files of earlier versions do not say.
    let usual = |class: u32| match CLASSES.get(class as usize) {
        Some(name) if classes as usize == CLASSES.len() => (*name).to_owned(),
        _ => format!("class {class}"),
    };
    let mut cells = Vec::new();
    for network in distinct(counts.iter().map(|c| c.network.as_str())) {
        let name = |class: u32| {
            let mut of_network = counts.iter().filter(|c| c.network == network);
            let actual = |c: &Confusion| c.actual_name.clone().filter(|_| c.actual == class);
            let predicted = |c: &Confusion| c.predicted_name.clone().filter(|_| c.predicted == class);
            let said = of_network.find_map(|c| actual(c).or_else(|| predicted(c)));
            said.unwrap_or_else(|| usual(class))
        };
        let names: Vec<String> = (0..classes).map(name).collect();
        let name = |class: u32| names.get(class as usize).cloned().unwrap_or_default();
        let count = |actual, predicted| {
            let found =
                |c: &&Confusion| c.network == network && c.actual == actual && c.predicted == predicted;
            counts.iter().find(found).map_or(0, |c| c.count)
        };
        for actual in 0..classes {
            let all = (0..classes).map(|p| count(actual, p)).fold(0, u64::saturating_add);
            for predicted in 0..classes {
                let count = count(actual, predicted);
                cells.push(Cell {
                    network: network.clone(),
                    actual,
                    actual_name: name(actual),
                    predicted,
                    predicted_name: name(predicted),
                    count,
                    share_of_actual: if all == 0 { 0.0 } else { count as f64 / all as f64 },
                });
            }
        }
    }
    cells
}

pub(super) fn add(run: &Run, gallery: &mut Gallery<'_>) -> Result<(), ReportError> {
    const ITEM: &str = "Confusion matrices";
    if !gallery.has(run, ITEM, &[Confusion::FILE]) {
        return Ok(());
    }
    let mut cells = derive(run.confusion.as_deref().unwrap_or_default());
    if cells.is_empty() {
        gallery.leave_out(ITEM, &[Confusion::FILE], "has no rows");
        return Ok(());
    }
    let networks = distinct(cells.iter().map(|c| c.network.as_str()));
    for (i, page) in pages(&networks, PAGE).iter().enumerate() {
        let plan = Plan {
            chapter: Chapter::Accuracy,
            stem: page_stem("confusion", i),
            label: ITEM,
            caption: format!(
                "Recordings of each class (rows) by the class the network chose (columns, of the same numbers): count, and share of the \
                 row. The diagonal is right.{}",
                of_one_seed(run)
            ),
        };
        let (shown, rest): (Vec<Cell>, Vec<Cell>) =
            cells.into_iter().partition(|c| page.contains(&c.network));
        cells = rest;
        gallery.add(plan, &shown)?;
    }
    Ok(())
}

impl Drawn for Cell {
    fn draw<'s>(cells: &[Self], style: &'s Style) -> Scene<'s> {
        let (words, label) = (style.words(), style.label());
        let networks = distinct(cells.iter().map(|c| c.network.as_str()));
        let classes = cells.iter().map(|c| c.actual + 1).max().unwrap_or(1) as usize;
        let mut scene = Scene::new(style, 0.0, words.confusion);
        let start = scene.top();
        let width = scene.width - 24.0;
        let per_row = if classes > 5 { 1 } else { across(scene.width, 190.0).min(networks.len().max(1)) };
        // Rows are named at the left of the figure only, columns by their numbers.
        let longest = cells.iter().map(|c| label.width(&row_name(c))).fold(0.0, f64::max);
        let names = longest.max(label.width(words.actual)).min(120.0) + 8.0;
        let panel = (width - names) / per_row as f64;
        let (w, most) = ((panel - 12.0) / classes as f64, if classes > 5 { 30.0 } else { 36.0 });
        let h = w.clamp(11.0, most);
        let down = 64.0 + h * classes as f64;
        for (i, network) in networks.iter().enumerate() {
            let left = 12.0 + names + (i % per_row) as f64 * panel;
            let top = start + (i / per_row) as f64 * down;
            let title = text::fit(network, panel - 12.0, style.panel().size, true);
            scene.text(left, top + 16.0, &title, style.panel());
            let grid = top + 38.0;
            let middle = left + w * classes as f64 / 2.0;
            scene.text(middle, grid + h * classes as f64 + 14.0, words.predicted, label.middle());
            if i % per_row == 0 {
                scene.text(12.0, grid - 6.0, words.actual, label);
            }
            let of_network = || cells.iter().filter(|c| c.network == *network);
            let room = |i: u32, size: f64, least: f64| {
                size > least || i.is_multiple_of((least / size).ceil() as u32)
            };
            for c in of_network() {
                if c.actual == 0 && room(c.predicted, w, 16.0) {
                    let x = left + (f64::from(c.predicted) + 0.5) * w;
                    scene.text(x, grid - 6.0, &c.predicted.to_string(), label.middle());
                }
                if c.predicted == 0 && i % per_row == 0 && room(c.actual, h, 14.0) {
                    let y = grid + (f64::from(c.actual) + 0.5) * h + label.drop();
                    let name = text::fit(&row_name(c), names - 8.0, label.size, false);
                    scene.text(left - 8.0, y, &name, label.end());
                }
            }
            scene.map(|scene| {
                for c in of_network() {
                    let (x, y) = (left + f64::from(c.predicted) * w, grid + f64::from(c.actual) * h);
                    let shade = c.share_of_actual * 0.8;
                    let ink = Colours::Sequential.ink_on(shade);
                    scene.rect(x, y, w - 1.5, h - 1.5, Ink::Rgb(Colours::Sequential.of(shade.max(0.06))));
                    let (x, y) = (x + w / 2.0 - 0.75, y + h / 2.0);
                    let count = text::grouped(c.count);
                    if label.width(&count) > w - 4.0 || h < 16.0 {
                        continue;
                    }
                    if h > 2.4 * label.size {
                        scene.text(x, y - 2.0, &count, style.value().middle().ink(ink));
                        let share = format!("{:.0}%", 100.0 * c.share_of_actual);
                        scene.text(x, y + label.size, &share, label.middle().ink(ink));
                    } else {
                        scene.text(x, y + label.drop(), &count, label.middle().ink(ink));
                    }
                }
            });
        }
        scene.height = start + networks.len().div_ceil(per_row) as f64 * down;
        scene
    }
}

/// `0 dorsiflexion`
fn row_name(cell: &Cell) -> String {
    format!("{} {}", cell.actual, cell.actual_name)
}
