//! Spikes of each layer at each step, averaged over the samples evaluated.

use serde::{Deserialize, Serialize};

use super::{Chapter, Drawn, Gallery, Plan, across, page_stem, pages};
use crate::error::ReportError;
use crate::plot::{Axis, Plot, Swatch, legend};
use crate::rows::{Row, Step};
use crate::run::{Run, distinct};
use crate::scene::{Area, Dash, Ink, Scene};
use crate::seeds::{OtherSeeds, band_note, is_reached};
use crate::style::Style;
use crate::text;

/// Panels of a figure, at most.
const PAGE: usize = 10;

#[derive(Serialize, Deserialize)]
pub(super) struct Count {
    network: String,
    layer: String,
    /// Place of the layer in the network, from 0.
    layer_order: usize,
    step: u32,
    /// Of a study the mean over the seeds, and one standard deviation to either side.
    spikes_per_sample: f64,
    #[serde(default)]
    low: Option<f64>,
    #[serde(default)]
    high: Option<f64>,
}

pub(super) fn add(run: &Run, gallery: &mut Gallery<'_>) -> Result<(), ReportError> {
    const ITEM: &str = "Spikes by step";
    if !gallery.has(run, ITEM, &[Step::FILE]) {
        return Ok(());
    }
    let steps = run.steps.as_deref().unwrap_or_default();
    if steps.is_empty() {
        gallery.leave_out(ITEM, &[Step::FILE], "has no rows");
        return Ok(());
    }
    let layers = distinct(steps.iter().map(|s| s.layer.as_str()));
    let orders: std::collections::HashMap<&str, usize> =
        layers.iter().map(|layer| (layer.as_str(), run.layer_order(layer))).collect();
    let others = OtherSeeds::of(run, |seed| {
        let rows = seed.steps.iter().flatten();
        rows.map(|s| ((s.network.clone(), s.layer.clone(), s.step), s.spikes_per_sample)).collect()
    });
    let count = |s: &Step| {
        let key = (s.network.clone(), s.layer.clone(), s.step);
        let spread = others.with(s.spikes_per_sample, &key, is_reached(run, &s.network));
        let interval = spread.interval();
        Count {
            network: s.network.clone(),
            layer: s.layer.clone(),
            layer_order: orders.get(s.layer.as_str()).copied().unwrap_or_default(),
            step: s.step,
            spikes_per_sample: spread.mean,
            low: interval.map(|i| i.low),
            high: interval.map(|i| i.high),
        }
    };
    let networks = distinct(steps.iter().map(|s| s.network.as_str()));
    for (i, page) in pages(&networks, PAGE).iter().enumerate() {
        let plan = Plan {
            chapter: Chapter::Spikes,
            stem: page_stem("spikes_by_step", i),
            label: ITEM,
            caption: format!(
                "Spikes that each layer fires at each step, averaged over the recordings evaluated (logarithmic axis; a step without \
                 spikes breaks the line).{}",
                band_note(run)
            ),
        };
        let shown = steps.iter().filter(|s| page.contains(&s.network));
        gallery.add(plan, &shown.map(count).collect::<Vec<_>>())?;
    }
    Ok(())
}

impl Drawn for Count {
    fn draw<'s>(steps: &[Self], style: &'s Style) -> Scene<'s> {
        let words = style.words();
        let networks = distinct(steps.iter().map(|s| s.network.as_str()));
        let mut layers: Vec<(usize, &str)> =
            steps.iter().map(|s| (s.layer_order, s.layer.as_str())).collect();
        layers.sort_unstable();
        layers.dedup();
        let mut scene = Scene::new(style, 0.0, words.steps_title);
        let entries: Vec<_> = layers
            .iter()
            .map(|(i, name)| (Swatch::Line(Ink::Layer(*i), Dash::Solid, Some(*i)), (*name).to_owned()))
            .collect();
        let (width, top) = (scene.width, scene.top());
        let start = top + legend(&mut scene, 12.0, top, width - 24.0, &entries) + 4.0;
        let values = || steps.iter().flat_map(|s| [Some(s.spikes_per_sample), s.high]).flatten();
        let positive = || values().filter(|v| *v > 0.0);
        let (lo, hi) =
            positive().fold((f64::INFINITY, 0.0), |(lo, hi): (f64, f64), v| (lo.min(v), hi.max(v)));
        let (lo, hi) = if hi > 0.0 { (lo, hi) } else { (1.0, 10.0) };
        let per_row = across(width, 190.0);
        let (panel, down) = (width / per_row as f64, 206.0);
        for (n, network) in networks.iter().enumerate() {
            let (left, top) = ((n % per_row) as f64 * panel, start + (n / per_row) as f64 * down);
            let area = Area::new(left + 52.0, top + 42.0, panel - 52.0 - 12.0, 120.0);
            let title = text::fit(network, panel - 16.0, style.panel().size, true);
            scene.text(left + 12.0, top + 14.0, &title, style.panel());
            let last = steps.iter().filter(|s| s.network == *network).map(|s| s.step).max().unwrap_or(0);
            let mut x = Axis::whole(0.0, f64::from(last), 4, words.step);
            let room = 0.03 * f64::from(last.max(10));
            (x.lo, x.hi) = (-room, f64::from(last) + room);
            let plot = Plot::new(&mut scene, area, x, Axis::log(lo, hi, words.spikes_per_recording));
            for (i, layer) in &layers {
                let own = || steps.iter().filter(|s| s.network == *network && s.layer == *layer);
                let mut line: Vec<(f64, f64)> = own()
                    .map(|s| {
                        let value = s.spikes_per_sample;
                        (f64::from(s.step), if value > 0.0 { value } else { f64::NAN })
                    })
                    .collect();
                line.sort_by(|a, b| a.0.total_cmp(&b.0));
                let mut intervals: Vec<_> = own()
                    .map(|s| (f64::from(s.step), s.low.zip(s.high).filter(|_| s.spikes_per_sample > 0.0)))
                    .collect();
                intervals.sort_by(|a, b| a.0.total_cmp(&b.0));
                plot.bands(&mut scene, &intervals, Ink::Layer(*i));
                plot.series(&mut scene, &line, Ink::Layer(*i), Dash::Solid, Some(*i));
            }
        }
        scene.height = start + networks.len().div_ceil(per_row) as f64 * down - 2.0;
        scene
    }
}
