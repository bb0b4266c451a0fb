//! Computations of the ANN against what the spiking network does, layer by layer.

use serde::{Deserialize, Serialize};

use super::{Chapter, Drawn, Gallery, Plan};
use crate::error::ReportError;
use crate::plot::{Axis, Swatch, legend, x_axis};
use crate::routes::Route;
use crate::rows::{Activity, Row};
use crate::run::{Run, distinct};
use crate::scene::{Area, Dash, Ink, Scene};
use crate::seeds::{band_note, over_seeds};
use crate::standing::{best_spiking, ranked};
use crate::style::Style;
use crate::text;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Quantity {
    /// Multiply-accumulates of one pass of the ANN.
    AnnMultiplyAccumulates,
    /// Those of a layer of the spiking network whose input is the recording itself, a constant.
    MultiplyAccumulates,
    /// Additions that arriving spikes cause.
    Accumulates,
    SpikesFired,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Work {
    network: String,
    route: Route,
    timesteps: u32,
    layer: String,
    quantity: Quantity,
    /// Of a study the mean over the seeds, and one standard deviation to either side.
    value: f64,
    #[serde(default)]
    low: Option<f64>,
    #[serde(default)]
    high: Option<f64>,
}

pub(super) fn add(run: &Run, gallery: &mut Gallery<'_>) -> Result<(), ReportError> {
    const ITEM: &str = "Figure 6";
    if !gallery.has(run, ITEM, &[Activity::FILE]) {
        return Ok(());
    }
    // Of the network that the page is about, if its activity is known; the table of activity has all.
    let headline =
        best_spiking(run).map(|e| e.network.clone()).filter(|network| !run.activity_of(network).is_empty());
    let networks = ranked(run, run.activity.iter().flatten().map(|r| r.network.as_str()));
    let Some(network) = headline.as_ref().or(networks.first()) else {
        gallery.leave_out(ITEM, &[Activity::FILE], "has no rows");
        return Ok(());
    };
    let layers = run.activity_of(network);
    let route = Route::of_network(run, network);
    let of_layer = |l: &&Activity| {
        let macs: fn(&Activity) -> f64 = |a| a.macs as f64;
        let done = match l.analog_input {
            true => (Quantity::MultiplyAccumulates, macs),
            false => {
                let additions: fn(&Activity) -> f64 = |a| a.synaptic_operations_per_sample;
                (Quantity::Accumulates, additions)
            }
        };
        let fired: fn(&Activity) -> f64 = |a| a.spikes_per_sample;
        let counted = [(Quantity::AnnMultiplyAccumulates, macs), done, (Quantity::SpikesFired, fired)];
        let (layer, timesteps) = (l.layer.clone(), l.timesteps);
        let work = move |(quantity, number): (Quantity, fn(&Activity) -> f64)| {
            let of_seed =
                |seed: &Run| seed.activity_of(network).into_iter().find(|a| a.layer == layer).map(number);
            let spread = over_seeds(run, network, of_seed)?;
            let interval = spread.interval();
            Some(Work {
                network: network.clone(),
                route,
                timesteps,
                layer: layer.clone(),
                quantity,
                value: spread.mean,
                low: interval.map(|i| i.low),
                high: interval.map(|i| i.high),
            })
        };
        counted.map(work).into_iter().flatten()
    };
    let table: Vec<Work> = layers.iter().flat_map(of_layer).collect();
    let steps = layers.first().map_or(0, |l| l.timesteps);
    let analog: Vec<&str> = layers.iter().filter(|l| l.analog_input).map(|l| l.layer.as_str()).collect();
    let note = if analog.is_empty() {
        String::new()
    } else {
        format!(
            " The input of {} is the recording itself, the same at every step: it multiplies once, as the ANN does, and adds \
             what came out at each step.",
            analog.join(", ")
        )
    };
    let plan = Plan {
        chapter: Chapter::Energy,
        stem: "fig6_computations".to_owned(),
        label: ITEM,
        caption: format!(
            "What one pass of the ANN computes in each layer, against what {network} does over T = {steps} steps, per recording \
             on average (logarithmic axis).{note}{}",
            band_note(run)
        ),
    };
    gallery.add(plan, &table)
}

impl Drawn for Work {
    fn draw<'s>(table: &[Self], style: &'s Style) -> Scene<'s> {
        const BAR: f64 = 13.0;
        const LEFT: f64 = 60.0;
        const RIGHT: f64 = 50.0;
        let (words, value) = (style.words(), style.value());
        let layers = distinct(table.iter().map(|w| w.layer.as_str()));
        let mut scene = Scene::new(style, 0.0, words.work_title);
        let width = scene.width;
        let ink = Ink::Route(table.first().map_or(Route::Other, |w| w.route));
        let swatch = |quantity| match quantity {
            Quantity::AnnMultiplyAccumulates => (Swatch::Box(Ink::Route(Route::Ann), 1.0), words.ann_macs),
            Quantity::MultiplyAccumulates => (Swatch::Box(ink, 1.0), words.snn_macs),
            Quantity::Accumulates => (Swatch::Box(ink, 0.65), words.accumulates),
            Quantity::SpikesFired => (Swatch::Box(ink, 0.3), words.spikes_fired),
        };
        let mut used: Vec<Quantity> = Vec::new();
        for work in table {
            if !used.contains(&work.quantity) {
                used.push(work.quantity);
            }
        }
        let entries: Vec<_> = used.iter().map(|q| swatch(*q)).map(|(s, name)| (s, name.to_owned())).collect();
        let mut top = scene.top();
        if let Some(first) = table.first() {
            let name = format!("{} (T = {})", first.network, first.timesteps);
            let name = text::fit(&name, width - 24.0, style.panel().size, true);
            scene.text(12.0, top + 12.0, &name, style.panel());
            top += 20.0;
        }
        top += legend(&mut scene, 12.0, top, width - 24.0, &entries) + 8.0;
        let each = |layer: &str| table.iter().filter(|w| w.layer == layer).count() as f64 * BAR + 9.0;
        let height: f64 = layers.iter().map(|layer| each(layer)).sum();
        let area = Area::new(LEFT, top, width - LEFT - RIGHT, height);
        let positive = || table.iter().flat_map(|w| [Some(w.value), w.high]).flatten().filter(|v| *v > 0.0);
        let most = positive().fold(1.0, f64::max);
        let least = positive().fold(most, f64::min);
        // A bar is to be seen under the smallest value too.
        let x = Axis::log(least / 2.0, most, words.work);
        let at = |value: f64| area.x + x.at(value).clamp(0.0, 1.0) * area.w;
        for (tick, _) in &x.ticks {
            scene.line(vec![(at(*tick), area.y), (at(*tick), area.bottom())], Ink::Grid, 1.0, Dash::Solid);
        }
        let mut y = area.y + 4.0;
        for layer in &layers {
            let bars: Vec<&Self> = table.iter().filter(|w| w.layer == *layer).collect();
            let middle = y + bars.len() as f64 * BAR / 2.0;
            let name = text::fit(layer, LEFT - 18.0, value.size, false);
            scene.text(LEFT - 6.0, middle + value.drop(), &name, value.end());
            for work in bars {
                let right = if work.value > 0.0 { at(work.value) } else { area.x };
                if let (Swatch::Box(ink, opacity), _) = swatch(work.quantity) {
                    let (top, bottom) = (y + 1.0, y + BAR - 1.0);
                    let corners = vec![(area.x, top), (right, top), (right, bottom), (area.x, bottom)];
                    scene.polygon(corners, ink, opacity);
                }
                let interval = work.low.zip(work.high).filter(|(low, high)| high > low && *high > 0.0);
                let end = interval.map_or(right, |(low, high)| {
                    let middle = y + BAR / 2.0;
                    scene.line(vec![(at(low), middle), (at(high), middle)], Ink::Text, 1.0, Dash::Solid);
                    right.max(at(high))
                });
                scene.text(end + 4.0, y + BAR / 2.0 + value.drop(), &text::short(work.value), value);
                y += BAR;
            }
            y += 9.0;
        }
        x_axis(&mut scene, area, &x);
        scene.height = area.bottom() + 42.0;
        scene
    }
}
