//! Computations of the ANN against spikes of the spiking network, layer by layer.

use serde::{Deserialize, Serialize};

use super::{Chapter, Gallery, Plan, WIDTH, stem};
use crate::error::ReportError;
use crate::plot::{Axis, Plot, Swatch, legend};
use crate::rows::{Activity, Row};
use crate::run::{Run, distinct};
use crate::scene::{ANN_SERIES, Area, Ink, Scene, Type};
use crate::standing::ranked;
use crate::text;

#[derive(Serialize, Deserialize)]
struct Work {
    layer: String,
    quantity: String,
    value: f64,
}

const QUANTITIES: [(&str, Ink); 3] = [
    ("multiply-accumulates of the ANN", Ink::Series(ANN_SERIES)),
    ("accumulates caused by arriving spikes", Ink::Series(0)),
    ("spikes fired", Ink::Series(3)),
];

pub(super) fn add(run: &Run, gallery: &mut Gallery) -> Result<(), ReportError> {
    const ITEM: &str = "Figure 6";
    if !gallery.has(run, ITEM, &[Activity::FILE]) {
        return Ok(());
    }
    let networks = ranked(run, run.activity.iter().flatten().map(|r| r.network.as_str()));
    if networks.is_empty() {
        gallery.leave_out(ITEM, &[Activity::FILE], "has no rows");
    }
    for (i, network) in networks.iter().enumerate() {
        let layers = run.activity_of(network);
        let table: Vec<Work> = layers
            .iter()
            .flat_map(|l| {
                let values = [l.macs as f64, l.synaptic_operations_per_sample, l.spikes_per_sample];
                QUANTITIES.iter().zip(values).map(|((quantity, _), value)| Work {
                    layer: l.layer.clone(),
                    quantity: (*quantity).to_owned(),
                    value,
                })
            })
            .collect();
        let steps = layers.first().map_or(0, |l| l.timesteps);
        let analog: Vec<&str> = layers.iter().filter(|l| l.analog_input).map(|l| l.layer.as_str()).collect();
        let note = if analog.is_empty() {
            String::new()
        } else {
            format!(
                " {} sees the recording itself and does its multiply-accumulates once.",
                analog.join(", ")
            )
        };
        let plan = Plan {
            chapter: Chapter::Energy,
            stem: stem("fig6_computations", i, network),
            label: ITEM,
            caption: format!(
                "{network}: what one pass of the ANN computes in each layer, against what the spiking network does \
                 over T = {steps} steps, per recording on average.{note}"
            ),
        };
        let title = format!("Computations of the ANN, spikes of {network} (T = {steps})");
        gallery.add(plan, &table, |table| draw(&title, table))?;
    }
    Ok(())
}

fn draw(title: &str, table: &[Work]) -> Scene {
    let layers = distinct(table.iter().map(|w| w.layer.as_str()));
    let mut scene = Scene::new(WIDTH, 0.0, &text::fit(title, WIDTH - 24.0, Type::TITLE.size, true));
    let entries: Vec<_> =
        QUANTITIES.iter().map(|(name, ink)| (Swatch::Box(*ink), (*name).to_owned())).collect();
    let top = 34.0 + legend(&mut scene, 12.0, 34.0, WIDTH - 24.0, &entries) + 34.0;
    let area = Area::new(56.0, top, WIDTH - 56.0 - 16.0, 260.0);
    let positive = || table.iter().map(|w| w.value).filter(|v| *v > 0.0);
    let most = positive().fold(1.0, f64::max);
    let least = positive().fold(most, f64::min);
    // Room for a bar under the smallest value and for a label over the largest.
    let y = Axis::log(least / 2.0, most * 2.0, "count per recording (log scale)");
    let x = Axis { log: false, lo: 0.0, hi: layers.len() as f64, ticks: Vec::new(), label: String::new() };
    let plot = Plot::new(&mut scene, area, x, y);
    let group = area.w / layers.len().max(1) as f64;
    let width = (group * 0.84 / QUANTITIES.len() as f64).min(44.0);
    for (i, layer) in layers.iter().enumerate() {
        let middle = area.x + (i as f64 + 0.5) * group;
        scene.text(middle, area.bottom() + 18.0, layer, Type::VALUE.middle());
        for (j, (quantity, ink)) in QUANTITIES.iter().enumerate() {
            let Some(work) = table.iter().find(|w| w.layer == *layer && w.quantity == *quantity) else {
                continue;
            };
            let x = middle + (j as f64 - QUANTITIES.len() as f64 / 2.0) * width;
            let top = if work.value > 0.0 { plot.py(work.value) } else { area.bottom() };
            scene.rect(x + 1.0, top, width - 2.0, area.bottom() - top, *ink);
            let style = Type::VALUE.size(10.5).middle();
            scene.text(x + width / 2.0, top - 4.0, &text::short(work.value), style);
        }
    }
    scene.height = area.bottom() + 30.0;
    scene
}
