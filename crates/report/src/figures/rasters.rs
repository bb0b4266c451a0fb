//! For each layer a raster of its neurons over the steps, with the spikes of each step below.

use serde::{Deserialize, Serialize};

use super::{Chapter, Drawn, Gallery, Plan, stem};
use crate::error::ReportError;
use crate::plot::{Axis, Colours, Plot, outline};
use crate::rows::{Activity, Raster, Row};
use crate::run::Run;
use crate::scene::{Area, Dash, Ink, Scene};
use crate::standing::{best_spiking, ranked};
use crate::style::Style;
use crate::text;

/// Up to this many neurons each has a row of its own.
const SINGLE: u64 = 256;
/// Rows of a raster that bins its neurons: two for each of 64 channels.
const BINS: u64 = 128;

/// Most cells of a raster.
const CELLS: u64 = 1_000_000;

/// Width of a spike of a single neuron, in units.
const SPIKE: f64 = 1.8;
/// Its greatest width among so many neurons that their rows are thin.
const TICK: f64 = 12.0;

#[derive(Serialize, Deserialize)]
pub(super) struct Bin {
    network: String,
    layer: String,
    /// Place of the layer in the network, from 0.
    layer_order: usize,
    step: u32,
    first_neuron: u64,
    neurons: u64,
    spikes: u64,
}

fn derive(layer: &Activity, order: usize, steps: u32, spikes: impl Iterator<Item = (u32, u64)>) -> Vec<Bin> {
    let bins = if layer.neurons <= SINGLE { layer.neurons } else { BINS };
    let start = |bin: u64| bin * layer.neurons / bins;
    let mut counts = vec![0_u64; (u64::from(steps) * bins) as usize];
    for (step, neuron) in spikes {
        // The bin whose start is the last one not after the neuron.
        let mut bin = (neuron * bins / layer.neurons).min(bins - 1);
        while bin + 1 < bins && start(bin + 1) <= neuron {
            bin += 1;
        }
        counts[(u64::from(step) * bins + bin) as usize] += 1;
    }
    (0..u64::from(steps) * bins)
        .map(|at| {
            let (step, bin) = (at / bins, at % bins);
            Bin {
                network: layer.network.clone(),
                layer: layer.layer.clone(),
                layer_order: order,
                step: step as u32,
                first_neuron: start(bin),
                neurons: start(bin + 1) - start(bin),
                spikes: counts[at as usize],
            }
        })
        .collect()
}

pub(super) fn add(run: &Run, gallery: &mut Gallery<'_>) -> Result<(), ReportError> {
    const ITEM: &str = "Figure 4";
    if !gallery.has(run, ITEM, &[Raster::FILE, Activity::FILE]) {
        return Ok(());
    }
    let raster = run.raster.as_deref().unwrap_or_default();
    let mut drawn = false;
    let best = best_spiking(run).map(|e| e.network.as_str());
    for (i, network) in ranked(run, raster.iter().map(|r| r.network.as_str())).iter().enumerate() {
        let layers = run.activity_of(network);
        if layers.is_empty() {
            let item = format!("{ITEM} of {network}");
            gallery.leave_out(&item, &[Activity::FILE], "has no row of this network");
            continue;
        }
        let seen = raster.iter().filter(|r| r.network == *network).map(|r| r.step + 1).max().unwrap_or(1);
        let steps = layers.iter().map(|l| l.timesteps.min(100_000)).max().unwrap_or(1).max(seen);
        for layer in layers {
            if layer.neurons == 0 || layer.neurons > u64::from(u32::MAX) {
                continue;
            }
            if u64::from(steps) * layer.neurons.min(SINGLE) > CELLS {
                let item = format!("{ITEM}, {} of {network}", layer.layer);
                gallery.leave_out(&item, &[Raster::FILE], "has too many steps to draw");
                continue;
            }
            let spikes = raster.iter().filter(|r| r.network == *network && r.layer == layer.layer);
            let bins =
                derive(layer, run.layer_order(&layer.layer), steps, spikes.map(|r| (r.step, r.neuron)));
            // The page is about another network, whose spikes nobody followed.
            let other = best.filter(|best| best != network && !run.has_raster(best));
            let other = other.map_or(String::new(), |best| {
                format!(" The folder has no spikes of {best}, this run's best network; `escape-snn spikes` follows it.")
            });
            let fired: u64 = bins.iter().map(|b| b.spikes).sum();
            let plan = Plan {
                chapter: Chapter::Spikes,
                stem: stem(&format!("fig4_raster_{}", text::slug(&layer.layer)), i, network),
                label: ITEM,
                caption: format!(
                    "{}, layer {}: {} spikes of {} neurons over {steps} steps, for the recording shown. {}{other}",
                    network,
                    layer.layer,
                    text::grouped(fired),
                    text::grouped(layer.neurons),
                    if layer.neurons > SINGLE {
                        "Each row is a group of neighbouring neurons, its colour the share of them that fired at \
                         the step (the busiest 1% all have the colour at the bar's upper end); the bars below count all spikes of the step."
                    } else {
                        "Each row is one neuron, each mark a spike, in the middle of its step; the bars below count all spikes of the step."
                    }
                ),
            };
            gallery.add(plan, &bins)?;
            drawn = true;
        }
    }
    if !drawn {
        gallery.leave_out(ITEM, &[Raster::FILE], "has no spikes of a network in activity.csv");
    }
    Ok(())
}

impl Drawn for Bin {
    fn draw<'s>(bins: &[Self], style: &'s Style) -> Scene<'s> {
        let (words, label) = (style.words(), style.label());
        let steps = bins.iter().map(|b| b.step + 1).max().unwrap_or(1) as usize;
        let rows = bins.iter().filter(|b| b.step == 0).count().max(1);
        let neurons = bins.iter().map(|b| b.first_neuron + b.neurons).max().unwrap_or(1);
        let single = bins.iter().all(|b| b.neurons <= 1);
        let (name, order) = bins.first().map_or((String::new(), 0), |b| {
            (format!("{}: {} ({})", b.layer, words.raster_title, b.network), b.layer_order)
        });
        let ink = Ink::Layer(order);
        let colours = Colours::Tint(style.rgb(ink));
        let mut scene = Scene::new(style, 0.0, &name);
        let height = if rows <= 16 { (18.0 * rows as f64).max(40.0) } else { 200.0 };
        let right = if single { 12.0 } else { 72.0 };
        let area = Area::new(48.0, scene.top() + 24.0, scene.width - 48.0 - right, height);
        let share = |b: &Self| b.spikes as f64 / b.neurons.max(1) as f64;
        let peak = high(bins.iter().map(share).filter(|s| *s > 0.0).collect());
        if rows <= 16 {
            let (w, h) = (area.w / steps as f64, area.h / rows as f64);
            for row in 1..rows {
                let y = area.y + row as f64 * h;
                scene.line(vec![(area.x, y), (area.right(), y)], Ink::Grid, 1.0, Dash::Solid);
            }
            for bin in bins.iter().filter(|b| b.spikes > 0) {
                let x = area.x + f64::from(bin.step) * w;
                let y = area.bottom() - (bin.first_neuron + 1) as f64 * h;
                let width = (w * 0.5).clamp(0.6, SPIKE);
                scene.rect(x + (w - width) / 2.0, y + h * 0.12, width, h * 0.76, ink);
            }
        } else {
            // Of single neurons a spike is a tick in the middle of its step, of groups the whole step has their colour.
            let w = area.w / steps as f64;
            let columns = if single { (w / (w * 0.5).clamp(0.6, TICK)).max(1.0) as usize | 1 } else { 1 };
            let mut pixels = vec![[255_u8; 3]; rows * steps * columns];
            let mut row_of = vec![0_usize; steps];
            for bin in bins {
                let (step, row) = (bin.step as usize, row_of[bin.step as usize]);
                row_of[step] += 1;
                let colour = if !single {
                    colours.of(share(bin) / peak)
                } else if bin.spikes > 0 {
                    style.rgb(ink)
                } else {
                    continue;
                };
                if row < rows {
                    pixels[((rows - 1 - row) * steps + step) * columns + columns / 2] = colour;
                }
            }
            scene.map(|scene| scene.image(area, steps * columns, rows, pixels));
            if !single {
                let bar = Area::new(area.right() + 16.0, area.y, 10.0, area.h);
                colours.bar(&mut scene, bar, &Axis::linear(0.0, peak, 5, words.share_firing));
            }
        }
        outline(&mut scene, area);
        if bins.iter().all(|b| b.spikes == 0) {
            let (x, y) = (area.x + area.w / 2.0, area.y + area.h / 2.0 + label.drop());
            scene.text(x, y, words.no_spikes, label.middle());
        }
        scene.text(12.0, area.y - 9.0, words.neuron, label);
        let ticks = if neurons <= 16 {
            // Whole neurons are named at the middle of their rows.
            let whole = Axis::whole(0.0, neurons as f64 - 1.0, 8, "").ticks;
            whole.into_iter().map(|(v, n)| (v + 0.5, n)).collect()
        } else {
            Axis::linear(0.0, neurons as f64, 5, "").ticks
        };
        for (value, name) in ticks {
            let y = area.bottom() - value / neurons as f64 * area.h;
            scene.line(vec![(area.x - 4.0, y), (area.x, y)], Ink::Axis, 1.0, Dash::Solid);
            scene.text(area.x - 7.0, y + label.drop(), &name, label.end());
        }

        let below = Area::new(area.x, area.bottom() + 34.0, area.w, 70.0);
        let mut counts = vec![0_u64; steps];
        for bin in bins {
            counts[bin.step as usize] += bin.spikes;
        }
        let most = counts.iter().copied().max().unwrap_or(0).max(1);
        let mut x = Axis::whole(0.0, steps as f64 - 1.0, 8, words.step);
        (x.lo, x.hi) = (-0.5, steps as f64 - 0.5);
        let plot = Plot::new(&mut scene, below, x, Axis::counts(most as f64, 3, words.spikes_at_step));
        let width = below.w / steps as f64;
        let bar = if width > 4.0 { (width * 0.85).min(30.0) } else { width };
        for (step, count) in counts.iter().enumerate() {
            let top = plot.py(*count as f64);
            let x = below.x + step as f64 * width + (width - bar) / 2.0;
            scene.rect(x, top, bar, below.bottom() - top, ink);
        }
        scene.height = below.bottom() + 42.0;
        scene
    }
}

/// The 99th percentile, so that one busy group does not wash out all others; 1 if there is nothing.
fn high(mut shares: Vec<f64>) -> f64 {
    shares.sort_by(f64::total_cmp);
    shares.get(shares.len() * 99 / 100).or(shares.last()).copied().unwrap_or(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::LayerKind;

    #[test]
    fn every_neuron_has_its_bin() {
        let layer = Activity {
            network: "n".to_owned(),
            preset: "default".to_owned(),
            timesteps: 2,
            samples: 1,
            layer: "l".to_owned(),
            kind: LayerKind::Conv,
            neurons: 1000,
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
        };
        let bins = derive(&layer, 0, 2, (0..1000).map(|n| (1, n)));
        assert_eq!(bins.len(), 2 * BINS as usize);
        assert!(bins.iter().all(|b| b.spikes == if b.step == 1 { b.neurons } else { 0 }));
        assert_eq!(bins.iter().map(|b| b.neurons).sum::<u64>(), 2000);
    }
}
