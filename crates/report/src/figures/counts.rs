//! How often single neurons, and the channels of a convolution, fired.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::{Chapter, Drawn, Gallery, Plan, across, stem};
use crate::error::ReportError;
use crate::plot::{Axis, Colours, Plot};
use crate::routes::Route;
use crate::rows::{Activity, LayerKind, Raster, Row};
use crate::run::{Run, distinct};
use crate::scene::{Area, Ink, Scene};
use crate::standing::ranked;
use crate::style::Style;
use crate::text;

/// Channels of every convolution in tables that do not say.
const CHANNELS: u64 = 64;
/// Channels that can still be told apart in a figure.
const MOST_CHANNELS: u64 = 1024;
/// Most bars of a histogram.
const BARS: u64 = 40;

#[derive(Serialize, Deserialize)]
pub(super) struct Bar {
    network: String,
    layer: String,
    /// Place of the layer in the network, from 0.
    layer_order: usize,
    spikes_from: u64,
    spikes_to: u64,
    neurons: u64,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Channel {
    network: String,
    layer: String,
    /// Place of the layer in the network, from 0.
    layer_order: usize,
    channel: u64,
    neurons: u64,
    spikes: u64,
}

/// Neurons by their number of spikes, silent ones included.
fn histogram(layer: &Activity, order: usize, neurons: impl Iterator<Item = u64>) -> Vec<Bar> {
    let mut spikes: HashMap<u64, u64> = HashMap::new();
    for neuron in neurons {
        *spikes.entry(neuron).or_default() += 1;
    }
    let most = spikes.values().copied().max().unwrap_or(0);
    // The silent ones keep a bar of their own; the others share bars once there are too many.
    let width = most.div_ceil(BARS).max(1);
    let mut bars = vec![0_u64; 1 + most.div_ceil(width) as usize];
    for count in spikes.values() {
        bars[((count - 1) / width + 1) as usize] += 1;
    }
    bars[0] = layer.neurons.saturating_sub(spikes.len() as u64);
    let bar = |(i, neurons): (usize, &u64)| {
        let i = i as u64;
        let (from, to) = if i == 0 { (0, 0) } else { ((i - 1) * width + 1, i * width) };
        Bar {
            network: layer.network.clone(),
            layer: layer.layer.clone(),
            layer_order: order,
            spikes_from: from,
            spikes_to: to,
            neurons: *neurons,
        }
    };
    bars.iter().enumerate().map(bar).collect()
}

fn channels(layer: &Activity, order: usize, neurons: impl Iterator<Item = u64>) -> Vec<Channel> {
    let count = layer.channels.unwrap_or(CHANNELS);
    let size = layer.neurons / count;
    let mut spikes = vec![0_u64; count as usize];
    for neuron in neurons {
        if let Some(count) = spikes.get_mut((neuron / size) as usize) {
            *count += 1;
        }
    }
    let channel = |(i, spikes): (usize, &u64)| Channel {
        network: layer.network.clone(),
        layer: layer.layer.clone(),
        layer_order: order,
        channel: i as u64,
        neurons: size,
        spikes: *spikes,
    };
    spikes.iter().enumerate().map(channel).collect()
}

pub(super) fn add(run: &Run, gallery: &mut Gallery<'_>) -> Result<(), ReportError> {
    const ITEM: &str = "Figure 5";
    if !gallery.has(run, ITEM, &[Raster::FILE, Activity::FILE]) {
        return Ok(());
    }
    let raster = run.raster.as_deref().unwrap_or_default();
    let networks = ranked(run, raster.iter().map(|r| r.network.as_str()));
    if networks.is_empty() {
        gallery.leave_out(ITEM, &[Raster::FILE], "has no rows");
    }
    for (i, network) in networks.iter().enumerate() {
        let layers = run.activity_of(network);
        let fired = |layer: &str| -> Vec<u64> {
            raster.iter().filter(|r| r.network == *network && r.layer == layer).map(|r| r.neuron).collect()
        };
        let order = |l: &Activity| run.layer_order(&l.layer);
        let bars: Vec<Bar> =
            layers.iter().flat_map(|l| histogram(l, order(l), fired(&l.layer).into_iter())).collect();
        if bars.is_empty() {
            gallery.leave_out(
                &format!("{ITEM} of {network}"),
                &[Activity::FILE],
                "has no row of this network",
            );
            continue;
        }
        let plan = Plan {
            chapter: Chapter::Spikes,
            stem: stem("fig5_histogram", i, network),
            label: ITEM,
            caption: format!(
                "{network}: neurons of each layer by how often they fired in the whole simulation, for the \
                 recording shown, silent neurons (grey) included."
            ),
        };
        gallery.add(plan, &bars)?;

        let whole = |l: &&&Activity| {
            let channels = l.channels.unwrap_or(CHANNELS);
            l.kind == LayerKind::Conv
                && l.neurons > 0
                && (1..=MOST_CHANNELS).contains(&channels)
                && l.neurons.is_multiple_of(channels)
        };
        let map: Vec<Channel> = layers
            .iter()
            .filter(whole)
            .flat_map(|l| channels(l, order(l), fired(&l.layer).into_iter()))
            .collect();
        if map.is_empty() {
            continue;
        }
        let plan = Plan {
            chapter: Chapter::Spikes,
            stem: stem("fig5_channels", i, network),
            label: ITEM,
            caption: format!(
                "{network}: spikes of each feature channel of the convolutions, for the recording shown; channel 0 at the top \
                 left, then row by row. The colour is relative to the layer's busiest channel."
            ),
        };
        gallery.add(plan, &map)?;
    }
    Ok(())
}

impl Drawn for Bar {
    fn draw<'s>(bars: &[Self], style: &'s Style) -> Scene<'s> {
        let (words, label) = (style.words(), style.label());
        let layers = distinct(bars.iter().map(|b| b.layer.as_str()));
        let name = bars.first().map_or("", |b| b.network.as_str());
        let mut scene = Scene::new(style, 0.0, &format!("{} ({name})", words.histogram_title));
        let start = scene.top();
        let per_row = across(scene.width, 190.0);
        let (panel, down) = (scene.width / per_row as f64, 188.0);
        for (i, layer) in layers.iter().enumerate() {
            let of: Vec<&Self> = bars.iter().filter(|b| b.layer == *layer).collect();
            let ink = Ink::Layer(of.first().map_or(0, |b| b.layer_order));
            let (left, top) = ((i % per_row) as f64 * panel, start + (i / per_row) as f64 * down);
            let area = Area::new(left + 50.0, top + 40.0, panel - 50.0 - 12.0, 104.0);
            let all = of.iter().map(|b| b.neurons).fold(0, u64::saturating_add);
            let silent: u64 = of.iter().filter(|b| b.spikes_to == 0).map(|b| b.neurons).sum();
            let share = format!(
                "{:.0}% {} {} {}",
                100.0 * silent as f64 / all.max(1) as f64,
                words.of,
                text::short(all as f64),
                words.silent
            );
            scene.text(area.right(), top + 14.0, &share, label.end());
            let room = panel - 28.0 - label.width(&share);
            scene.text(
                left + 12.0,
                top + 14.0,
                &text::fit(layer, room, style.panel().size, true),
                style.panel(),
            );

            let most = of.iter().map(|b| b.neurons).max().unwrap_or(1).max(1) as f64;
            let least = of.iter().map(|b| b.neurons).filter(|n| *n > 0).min().unwrap_or(1) as f64;
            let y = if most / least > 50.0 {
                let mut y = Axis::log(1.0, most, words.neurons);
                // A bar of one neuron must be visible.
                y.lo = 0.5;
                y.ticks = thinned(y.ticks, 5);
                y
            } else {
                Axis::counts(most, 4, words.neurons)
            };
            let hi = of.iter().map(|b| b.spikes_to).max().unwrap_or(0) as f64;
            let mut x = Axis::whole(0.0, hi, 4, words.spikes_per_neuron);
            // A layer that hardly fires still has slim bars.
            (x.lo, x.hi) = (-0.6, hi.max(4.0) + 0.6);
            let plot = Plot::new(&mut scene, area, x, y);
            for bar in of.iter().filter(|b| b.neurons > 0) {
                let gap = if area.w / (hi + 1.0) > 4.0 { 0.1 } else { 0.0 };
                let x0 = plot.px(bar.spikes_from as f64 - 0.5 + gap);
                let x1 = plot.px(bar.spikes_to as f64 + 0.5 - gap);
                let y = plot.py(bar.neurons as f64);
                // The silent ones are another kind of neuron, not another count.
                let ink = if bar.spikes_to == 0 { Ink::Route(Route::Ann) } else { ink };
                scene.rect(x0, y, x1 - x0, area.bottom() - y, ink);
            }
        }
        scene.height = start + layers.len().div_ceil(per_row) as f64 * down;
        scene
    }
}

/// At most so many ticks, evenly spaced, the last kept.
fn thinned(ticks: Vec<(f64, String)>, most: usize) -> Vec<(f64, String)> {
    let every = ticks.len().div_ceil(most).max(1);
    let skip = ticks.len().saturating_sub(1) % every;
    ticks.into_iter().skip(skip).step_by(every).collect()
}

impl Drawn for Channel {
    fn draw<'s>(channels: &[Self], style: &'s Style) -> Scene<'s> {
        let (words, label) = (style.words(), style.label());
        let most_channels = channels.iter().map(|c| c.channel as usize + 1).max().unwrap_or(1);
        let side = if most_channels <= 64 { 8 } else { most_channels.isqrt() + 1 };
        let rows = most_channels.div_ceil(side);
        let layers = distinct(channels.iter().map(|c| c.layer.as_str()));
        let name = channels.first().map_or("", |c| c.network.as_str());
        let mut scene = Scene::new(style, 0.0, &format!("{} ({name})", words.channels_title));
        let start = scene.top();
        let per_row = across(scene.width, 120.0).min(3);
        let panel = (scene.width - 24.0) / per_row as f64;
        let w = (panel - 14.0) / side as f64;
        let down = 56.0 + rows as f64 * w;
        for (i, layer) in layers.iter().enumerate() {
            let (left, top) = (12.0 + (i % per_row) as f64 * panel, start + (i / per_row) as f64 * down);
            let of: Vec<&Self> = channels.iter().filter(|c| c.layer == *layer).collect();
            let most = of.iter().map(|c| c.spikes).max().unwrap_or(0);
            let silent = of.iter().filter(|c| c.spikes == 0).count();
            let tint = Colours::Tint(style.rgb(Ink::Layer(of.first().map_or(0, |c| c.layer_order))));
            scene.text(
                left,
                top + 14.0,
                &text::fit(layer, panel - 8.0, style.panel().size, true),
                style.panel(),
            );
            let mut note = format!("{} {}", words.most_in_channel, text::short(most as f64));
            if silent > 0 {
                note += &format!(", {silent} {}", words.silent);
            }
            scene.text(left, top + 29.0, &text::fit(&note, panel - 8.0, label.size, false), label);
            scene.map(|scene| {
                for c in &of {
                    let (row, column) = (c.channel as usize / side, c.channel as usize % side);
                    let (x, y) = (left + column as f64 * w, top + 36.0 + row as f64 * w);
                    let shade = c.spikes as f64 / most.max(1) as f64;
                    scene.rect(x, y, w - 1.0, w - 1.0, Ink::Rgb([222, 226, 231]));
                    scene.rect(x + 0.5, y + 0.5, w - 2.0, w - 2.0, Ink::Rgb(tint.of(shade)));
                }
            });
        }
        scene.height = start + layers.len().div_ceil(per_row) as f64 * down;
        scene
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(neurons: u64) -> Activity {
        Activity {
            network: "n".to_owned(),
            preset: "default".to_owned(),
            timesteps: 4,
            samples: 1,
            layer: "l".to_owned(),
            kind: LayerKind::Conv,
            neurons,
            weights: 1,
            macs: 1,
            analog_input: false,
            leak: 1.0,
            spikes_per_sample: 0.0,
            synaptic_operations_per_sample: 0.0,
            channels: None,
            sent: None,
            input_bits: None,
            weight_bits: None,
            nonzero_macs_per_sample: None,
            nonzero_weights: None,
            nonzero_operations_per_sample: None,
            active_per_sample: None,
        }
    }

    #[test]
    fn every_neuron_is_in_one_bar() {
        let bars = histogram(&layer(10), 0, [3, 3, 3, 7].into_iter());
        let counts: Vec<_> = bars.iter().map(|b| (b.spikes_from, b.spikes_to, b.neurons)).collect();
        assert_eq!(counts, [(0, 0, 8), (1, 1, 1), (2, 2, 0), (3, 3, 1)]);
        let many = histogram(&layer(5), 0, (0..500).map(|i| i % 3 / 2));
        assert_eq!(many.iter().map(|b| b.neurons).sum::<u64>(), 5);
        assert!(many.len() <= BARS as usize + 1);
        assert_eq!(histogram(&layer(4), 0, std::iter::empty()).len(), 1);
    }

    #[test]
    fn channels_are_the_slow_index() {
        let map = channels(&layer(640), 0, [0, 9, 10, 639].into_iter());
        assert_eq!((map[0].spikes, map[1].spikes, map[63].spikes, map[5].neurons), (2, 1, 1, 10));
    }
}
