//! How often single neurons, and the channels of a convolution, fired.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::{Chapter, Gallery, Plan, WIDTH, stem};
use crate::error::ReportError;
use crate::plot::{Axis, Colours, Plot};
use crate::rows::{Activity, LayerKind, Raster, Row};
use crate::run::{Run, distinct};
use crate::scene::{Area, Ink, Scene, Type};
use crate::standing::ranked;
use crate::text;

/// Channels of every convolution in tables that do not say.
const CHANNELS: u64 = 64;
/// Channels that can still be told apart in a figure.
const MOST_CHANNELS: u64 = 1024;
/// Most bars of a histogram.
const BARS: u64 = 40;

#[derive(Serialize, Deserialize)]
struct Bar {
    layer: String,
    spikes_from: u64,
    spikes_to: u64,
    neurons: u64,
}

#[derive(Serialize, Deserialize)]
struct Channel {
    layer: String,
    channel: u64,
    neurons: u64,
    spikes: u64,
}

/// Neurons by their number of spikes, silent ones included.
fn histogram(layer: &Activity, neurons: impl Iterator<Item = u64>) -> Vec<Bar> {
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
        Bar { layer: layer.layer.clone(), spikes_from: from, spikes_to: to, neurons: *neurons }
    };
    bars.iter().enumerate().map(bar).collect()
}

fn channels(layer: &Activity, neurons: impl Iterator<Item = u64>) -> Vec<Channel> {
    let count = layer.channels.unwrap_or(CHANNELS);
    let size = layer.neurons / count;
    let mut spikes = vec![0_u64; count as usize];
    for neuron in neurons {
        if let Some(count) = spikes.get_mut((neuron / size) as usize) {
            *count += 1;
        }
    }
    let channel = |(i, spikes): (usize, &u64)| Channel {
        layer: layer.layer.clone(),
        channel: i as u64,
        neurons: size,
        spikes: *spikes,
    };
    spikes.iter().enumerate().map(channel).collect()
}

pub(super) fn add(run: &Run, gallery: &mut Gallery) -> Result<(), ReportError> {
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
        let bars: Vec<Bar> = layers.iter().flat_map(|l| histogram(l, fired(&l.layer).into_iter())).collect();
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
                 recording shown, silent neurons included."
            ),
        };
        let title = format!("Spikes per neuron ({network})");
        gallery.add(plan, &bars, |bars| draw_histograms(&title, bars))?;

        let whole = |l: &&&Activity| {
            let channels = l.channels.unwrap_or(CHANNELS);
            l.kind == LayerKind::Conv
                && l.neurons > 0
                && (1..=MOST_CHANNELS).contains(&channels)
                && l.neurons.is_multiple_of(channels)
        };
        let map: Vec<Channel> =
            layers.iter().filter(whole).flat_map(|l| channels(l, fired(&l.layer).into_iter())).collect();
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
        let title = format!("Spikes per feature channel ({network})");
        gallery.add(plan, &map, |map| draw_channels(&title, map))?;
    }
    Ok(())
}

fn draw_histograms(title: &str, bars: &[Bar]) -> Scene {
    const PER_ROW: usize = 3;
    const PANEL: Area = Area { x: 56.0, y: 0.0, w: 168.0, h: 130.0 };
    let layers = distinct(bars.iter().map(|b| b.layer.as_str()));
    let mut scene = Scene::new(WIDTH, 0.0, &text::fit(title, WIDTH - 24.0, Type::TITLE.size, true));
    let (across, down) = ((WIDTH - 12.0) / PER_ROW as f64, PANEL.h + 104.0);
    for (i, layer) in layers.iter().enumerate() {
        let of: Vec<&Bar> = bars.iter().filter(|b| b.layer == *layer).collect();
        let left = (i % PER_ROW) as f64 * across;
        let top = 34.0 + (i / PER_ROW) as f64 * down;
        let area = Area { x: left + PANEL.x, y: top + 46.0, ..PANEL };
        let all = of.iter().map(|b| b.neurons).fold(0, u64::saturating_add);
        let silent: u64 = of.iter().filter(|b| b.spikes_to == 0).map(|b| b.neurons).sum();
        scene.text(left + 12.0, top + 16.0, layer, Type::PANEL);
        let share = format!(
            "{:.0}% of {} silent",
            100.0 * silent as f64 / all.max(1) as f64,
            text::short(all as f64)
        );
        scene.text(area.right(), top + 16.0, &share, Type::LABEL.end());

        let most = of.iter().map(|b| b.neurons).max().unwrap_or(1).max(1) as f64;
        let least = of.iter().map(|b| b.neurons).filter(|n| *n > 0).min().unwrap_or(1) as f64;
        let log = most / least > 50.0;
        let y = if log {
            let mut y = Axis::log(1.0, most, "neurons (log scale)");
            // A bar of one neuron must be visible.
            y.lo = 0.5;
            y.ticks = thinned(y.ticks, 5);
            y
        } else {
            Axis::counts(most, 4, "neurons")
        };
        let hi = of.iter().map(|b| b.spikes_to).max().unwrap_or(0) as f64;
        let mut x = Axis::whole(0.0, hi, 5, "spikes per neuron");
        // A layer that hardly fires still has slim bars.
        (x.lo, x.hi) = (-0.6, hi.max(4.0) + 0.6);
        let plot = Plot::new(&mut scene, area, x, y);
        for bar in of.iter().filter(|b| b.neurons > 0) {
            let gap = if area.w / (hi + 1.0) > 4.0 { 0.1 } else { 0.0 };
            let (x0, x1) =
                (plot.px(bar.spikes_from as f64 - 0.5 + gap), plot.px(bar.spikes_to as f64 + 0.5 - gap));
            let y = plot.py(bar.neurons as f64);
            // The silent ones are another kind of neuron, not another count.
            let ink = if bar.spikes_to == 0 { Ink::Series(6) } else { Ink::Series(0) };
            scene.rect(x0, y, x1 - x0, area.bottom() - y, ink);
        }
    }
    scene.height = 34.0 + layers.len().div_ceil(PER_ROW) as f64 * down - 10.0;
    scene
}

/// At most so many ticks, evenly spaced, the last kept.
fn thinned(ticks: Vec<(f64, String)>, most: usize) -> Vec<(f64, String)> {
    let every = ticks.len().div_ceil(most).max(1);
    let skip = ticks.len().saturating_sub(1) % every;
    ticks.into_iter().skip(skip).step_by(every).collect()
}

fn draw_channels(title: &str, channels: &[Channel]) -> Scene {
    let most_channels = channels.iter().map(|c| c.channel as usize + 1).max().unwrap_or(1);
    // Wide enough for a number in each cell, as long as there are not too many of them.
    let side = if most_channels <= 64 { 8 } else { most_channels.isqrt() + 1 };
    let rows = most_channels.div_ceil(side);
    let layers = distinct(channels.iter().map(|c| c.layer.as_str()));
    let per_row = 3;
    let across = (WIDTH - 24.0) / per_row as f64;
    let w = (across - 16.0) / side as f64;
    let h = w.min(24.0);
    let down = 62.0 + rows as f64 * h;
    let mut scene = Scene::new(
        WIDTH,
        34.0 + layers.len().div_ceil(per_row) as f64 * down,
        &text::fit(title, WIDTH - 24.0, Type::TITLE.size, true),
    );
    for (i, layer) in layers.iter().enumerate() {
        let (left, top) = (12.0 + (i % per_row) as f64 * across, 34.0 + (i / per_row) as f64 * down);
        let of: Vec<&Channel> = channels.iter().filter(|c| c.layer == *layer).collect();
        let most = of.iter().map(|c| c.spikes).max().unwrap_or(0).max(1) as f64;
        let silent = of.iter().filter(|c| c.spikes == 0).count();
        scene.text(left, top + 16.0, layer, Type::PANEL);
        let note = match silent {
            0 => format!("{} spikes", text::short(of.iter().map(|c| c.spikes as f64).sum())),
            n => format!(
                "{} spikes, {n} channels silent",
                text::short(of.iter().map(|c| c.spikes as f64).sum())
            ),
        };
        scene.text(left, top + 33.0, &note, Type::LABEL);
        scene.map(|scene| {
            for c in &of {
                let (row, column) = (c.channel as usize / side, c.channel as usize % side);
                let (x, y) = (left + column as f64 * w, top + 42.0 + row as f64 * h);
                let shade = c.spikes as f64 / most;
                scene.rect(x, y, w - 1.0, h - 1.0, Ink::Rgb([222, 226, 231]));
                scene.rect(x + 0.5, y + 0.5, w - 2.0, h - 2.0, Ink::Rgb(Colours::Sequential.of(shade)));
                if side > 8 {
                    continue;
                }
                let style = Type::VALUE.size(8.5).middle().ink(Colours::Sequential.ink_on(shade));
                scene.text(
                    x + w / 2.0 - 0.5,
                    y + h / 2.0 + style.drop() - 0.5,
                    &text::short(c.spikes as f64),
                    style,
                );
            }
        });
    }
    scene
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
        }
    }

    #[test]
    fn every_neuron_is_in_one_bar() {
        let bars = histogram(&layer(10), [3, 3, 3, 7].into_iter());
        let counts: Vec<_> = bars.iter().map(|b| (b.spikes_from, b.spikes_to, b.neurons)).collect();
        assert_eq!(counts, [(0, 0, 8), (1, 1, 1), (2, 2, 0), (3, 3, 1)]);
        let many = histogram(&layer(5), (0..500).map(|i| i % 3 / 2));
        assert_eq!(many.iter().map(|b| b.neurons).sum::<u64>(), 5);
        assert!(many.len() <= BARS as usize + 1);
        assert_eq!(histogram(&layer(4), std::iter::empty()).len(), 1);
    }

    #[test]
    fn channels_are_the_slow_index() {
        let map = channels(&layer(640), [0, 9, 10, 639].into_iter());
        assert_eq!((map[0].spikes, map[1].spikes, map[63].spikes, map[5].neurons), (2, 1, 1, 10));
    }
}
