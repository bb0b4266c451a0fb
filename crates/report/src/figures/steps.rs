//! Spikes of each layer at each step, averaged over the samples evaluated.

use super::{Chapter, Gallery, Plan, WIDTH};
use crate::error::ReportError;
use crate::plot::{Axis, Plot, Swatch, legend};
use crate::rows::{Row, Step};
use crate::run::{Run, distinct, layer_rank};
use crate::scene::{Area, Dash, Ink, Scene, Type};
use crate::text;

pub(super) fn add(run: &Run, gallery: &mut Gallery) -> Result<(), ReportError> {
    const ITEM: &str = "Spikes by step";
    if !gallery.has(run, ITEM, &[Step::FILE]) {
        return Ok(());
    }
    let steps = run.steps.as_deref().unwrap_or_default();
    if steps.is_empty() {
        gallery.leave_out(ITEM, &[Step::FILE], "has no rows");
        return Ok(());
    }
    let plan = Plan {
        chapter: Chapter::Spikes,
        stem: "spikes_by_step".to_owned(),
        label: ITEM,
        caption:
            "Spikes that each layer fires at each step, averaged over the recordings evaluated (log scale; a \
                  step without spikes breaks the line)."
                .to_owned(),
    };
    gallery.add(plan, steps, draw)
}

fn draw(steps: &[Step]) -> Scene {
    const PER_ROW: usize = 2;
    let networks = distinct(steps.iter().map(|s| s.network.as_str()));
    let mut layers = distinct(steps.iter().map(|s| s.layer.as_str()));
    layers.sort_by_key(|l| layer_rank(l));
    let mut scene = Scene::new(WIDTH, 0.0, "Spikes by step");
    let entries: Vec<_> = layers
        .iter()
        .enumerate()
        .map(|(i, name)| (Swatch::Line(Ink::Series(i), Dash::Solid, Some(i)), name.clone()))
        .collect();
    let start = 34.0 + legend(&mut scene, 12.0, 34.0, WIDTH - 24.0, &entries) + 6.0;
    let positive = || steps.iter().map(|s| s.spikes_per_sample).filter(|v| *v > 0.0);
    let (lo, hi) = positive().fold((f64::INFINITY, 0.0), |(lo, hi): (f64, f64), v| (lo.min(v), hi.max(v)));
    let (lo, hi) = if hi > 0.0 { (lo, hi) } else { (1.0, 10.0) };
    for (n, network) in networks.iter().enumerate() {
        let top = start + (n / PER_ROW) as f64 * 284.0;
        let area = Area::new(56.0 + (n % PER_ROW) as f64 * 358.0, top + 46.0, 286.0, 180.0);
        let title = text::fit(network, 320.0, Type::PANEL.size, true);
        scene.text(area.x - 44.0, top + 16.0, &title, Type::PANEL);
        let last = steps.iter().filter(|s| s.network == *network).map(|s| s.step).max().unwrap_or(0);
        let mut x = Axis::whole(0.0, f64::from(last), 6, "step");
        (x.lo, x.hi) = (-0.3, f64::from(last) + 0.3);
        let plot = Plot::new(&mut scene, area, x, Axis::log(lo, hi, "spikes per recording (log scale)"));
        for (i, layer) in layers.iter().enumerate() {
            let mut line: Vec<(f64, f64)> = steps
                .iter()
                .filter(|s| s.network == *network && s.layer == *layer)
                .map(|s| {
                    let value = s.spikes_per_sample;
                    (f64::from(s.step), if value > 0.0 { value } else { f64::NAN })
                })
                .collect();
            line.sort_by(|a, b| a.0.total_cmp(&b.0));
            let marks = (line.len() <= 30).then_some(i);
            plot.series(&mut scene, &line, Ink::Series(i), Dash::Solid, marks);
        }
    }
    scene.height = start + networks.len().div_ceil(PER_ROW) as f64 * 284.0 - 4.0;
    scene
}
