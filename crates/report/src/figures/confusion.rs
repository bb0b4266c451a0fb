//! Confusion matrices.

use serde::{Deserialize, Serialize};

use super::{Chapter, Gallery, Plan, WIDTH};
use crate::error::ReportError;
use crate::plot::Colours;
use crate::rows::{Confusion, Row};
use crate::run::{Run, distinct};
use crate::scene::{Area, Ink, Scene, Type};
use crate::text;

/// Names of the study's classes.
const CLASSES: [&str; 3] = ["dorsiflexion", "plantarflexion", "pricking"];

#[derive(Serialize, Deserialize)]
struct Cell {
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

pub(super) fn add(run: &Run, gallery: &mut Gallery) -> Result<(), ReportError> {
    const ITEM: &str = "Confusion matrices";
    if !gallery.has(run, ITEM, &[Confusion::FILE]) {
        return Ok(());
    }
    let cells = derive(run.confusion.as_deref().unwrap_or_default());
    if cells.is_empty() {
        gallery.leave_out(ITEM, &[Confusion::FILE], "has no rows");
        return Ok(());
    }
    let plan = Plan {
        chapter: Chapter::Accuracy,
        stem: "confusion".to_owned(),
        label: ITEM,
        caption:
            "Recordings of each class (rows) by the class the network chose (columns): count, and share of \
                  the row. The diagonal is right."
                .to_owned(),
    };
    gallery.add(plan, &cells, draw)
}

fn draw(cells: &[Cell]) -> Scene {
    const NAMES: f64 = 92.0;
    let networks = distinct(cells.iter().map(|c| c.network.as_str()));
    let classes = cells.iter().map(|c| c.actual + 1).max().unwrap_or(1) as usize;
    let per_row = if classes > 5 { 1 } else { 2 };
    let panel = WIDTH / per_row as f64;
    let side = (panel - NAMES - 24.0) / classes as f64;
    let cell = Area::new(0.0, 0.0, side, side.clamp(11.0, if classes > 5 { 34.0 } else { 46.0 }));
    let height = 74.0 + cell.h * classes as f64;
    let rows = networks.len().div_ceil(per_row);
    let mut scene = Scene::new(WIDTH, 34.0 + height * rows as f64, "Confusion matrices");
    for (i, network) in networks.iter().enumerate() {
        let left = (i % per_row) as f64 * panel + 12.0;
        let top = 34.0 + (i / per_row) as f64 * height;
        let title = text::fit(network, panel - 24.0, Type::PANEL.size, true);
        scene.text(left, top + 16.0, &title, Type::PANEL);
        scene.text(left + NAMES - 8.0, top + 38.0, "actual", Type::LABEL.end());
        let grid = top + 46.0;
        let of_network = || cells.iter().filter(|c| c.network == *network);
        for c in of_network() {
            // Names that would not be read are left to the rows.
            if c.actual == 0 && cell.w > 40.0 {
                let x = left + NAMES + (f64::from(c.predicted) + 0.5) * cell.w;
                let name = text::fit(&c.predicted_name, cell.w - 4.0, Type::LABEL.size, false);
                scene.text(x, top + 38.0, &name, Type::LABEL.middle());
            }
            if c.predicted == 0 {
                let y = grid + (f64::from(c.actual) + 0.5) * cell.h + Type::LABEL.drop();
                let name = text::fit(&c.actual_name, NAMES - 10.0, Type::LABEL.size, false);
                scene.text(left + NAMES - 8.0, y, &name, Type::LABEL.end());
            }
        }
        let middle = left + NAMES + cell.w * classes as f64 / 2.0;
        scene.text(middle, grid + cell.h * classes as f64 + 16.0, "predicted", Type::LABEL.middle());
        scene.map(|scene| {
            for c in of_network() {
                let x = left + NAMES + f64::from(c.predicted) * cell.w;
                let y = grid + f64::from(c.actual) * cell.h;
                let shade = c.share_of_actual * 0.8;
                let ink = Colours::Sequential.ink_on(shade);
                scene.rect(x, y, cell.w - 2.0, cell.h - 2.0, Ink::Rgb([238, 241, 245]));
                scene.rect(
                    x,
                    y,
                    cell.w - 2.0,
                    cell.h - 2.0,
                    Ink::Rgb(Colours::Sequential.of(shade.max(0.03))),
                );
                let (x, y) = (x + cell.w / 2.0 - 1.0, y + cell.h / 2.0);
                let count = text::grouped(c.count);
                if cell.h > 40.0 {
                    scene.text(x, y - 3.0, &count, Type::PANEL.middle().ink(ink));
                    let share = format!("{:.1}%", 100.0 * c.share_of_actual);
                    scene.text(x, y + 13.0, &share, Type::VALUE.middle().ink(ink));
                } else if cell.h > 18.0 && cell.w > 30.0 {
                    scene.text(x, y + Type::LABEL.drop(), &count, Type::LABEL.middle().ink(ink));
                }
            }
        });
    }
    scene
}
