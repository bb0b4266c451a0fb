//! `escape-snn spikes`

use std::path::Path;

use anyhow::Result;
use escape_data::Recordings;
use escape_report::rows::{InputSpike, Raster, Recording, Row};
use escape_snn_core::dense::{Dense, Outcome};
use escape_snn_core::encode::Encoding;
use escape_snn_core::network::Preset;
use serde::Serialize;
use tch::Device;

use super::{Simulation, recordings, simulation, table, thousands};
use crate::args::SpikesArgs;
use crate::context::{Context, check_folder, make_folder, usage};
use crate::run_folder::write_csv;

#[derive(Serialize)]
struct Report {
    sample: usize,
    label: i64,
    readout: Vec<f32>,
    timesteps: usize,
    layers: Vec<LayerReport>,
    files: Vec<String>,
}

#[derive(Serialize)]
struct LayerReport {
    name: String,
    neurons: usize,
    spikes: u64,
    silent_neurons: usize,
    most_spikes_of_a_neuron: usize,
}

pub fn run(context: &Context, args: SpikesArgs) -> Result<()> {
    check_folder(&args.out)?;
    let checkpoint = super::checkpoint(&args.checkpoint)?;
    let all = recordings(context, &args.data, &args.reading.options(), args.split, None)?;
    if args.sample >= all.len() {
        return Err(usage(format!(
            "--sample {}: the {} split holds {} recordings, numbered from 0",
            args.sample,
            args.split,
            all.len()
        )));
    }
    let chosen = simulation(context, &checkpoint, &args.checkpoint, &args.simulation, &all)?;
    let steps = chosen.steps;
    let shapes: Vec<_> = chosen.network.layers.iter().map(|l| l.shape.clone()).collect();
    let outcome = record(context, &args.out, "snn", chosen, &all, args.sample, context.device()?)?;
    let layers = shapes.iter().enumerate().map(|(k, shape)| {
        let mut counts = vec![0usize; shape.neurons()];
        outcome.events.iter().filter(|e| e.layer == k).for_each(|e| counts[e.neuron] += 1);
        LayerReport {
            name: shape.name.clone(),
            neurons: counts.len(),
            spikes: outcome.spikes[k].iter().sum(),
            silent_neurons: counts.iter().filter(|&&c| c == 0).count(),
            most_spikes_of_a_neuron: counts.iter().copied().max().unwrap_or(0),
        }
    });
    let report = Report {
        sample: args.sample,
        label: all.y[args.sample],
        readout: outcome.logits(1).to_vec(),
        timesteps: steps,
        layers: layers.collect(),
        files: [Recording::FILE, InputSpike::FILE, Raster::FILE].map(String::from).to_vec(),
    };
    context.result(&report, || {
        let head = ["layer", "neurons", "spikes", "silent", "most of a neuron"];
        let mut rows = vec![head.map(String::from).to_vec()];
        for l in &report.layers {
            let counts = [
                l.neurons as f64,
                l.spikes as f64,
                l.silent_neurons as f64,
                l.most_spikes_of_a_neuron as f64,
            ];
            rows.push(std::iter::once(l.name.clone()).chain(counts.map(thousands)).collect());
        }
        format!(
            "{}\nwritten to {}: {}; draw them with `escape-snn report {0}`",
            table(&rows).trim_end(),
            args.out.display(),
            report.files.join(", ")
        )
    })
}

/// Simulates one recording and writes it, its Poisson spikes and every spike of the network.
pub fn record(
    context: &Context,
    folder: &Path,
    network: &str,
    chosen: Simulation,
    recordings: &Recordings,
    sample: usize,
    device: Device,
) -> Result<Outcome> {
    let Simulation { network: description, encoding, steps } = chosen;
    let preset = description.preset;
    let names: Vec<String> = description.layers.iter().map(|l| l.shape.name.clone()).collect();
    let engine = Dense::new(description, encoding, device)?;
    let x = recordings.get(sample);
    let outcome = engine.run(x, sample, &mut preset.encoder(encoding, context.seed), steps, true)?;

    make_folder(folder)?;
    let width = recordings.samples;
    let place = |i: usize| ((i / width) as u32, (i % width) as u32);
    let values = x.iter().enumerate().map(|(i, &value)| {
        let (contact, sample) = place(i);
        Recording { contact, sample, value: f64::from(value) }
    });
    write_csv(&folder.join(Recording::FILE), &values.collect::<Vec<_>>())?;

    // With a constant input there are no input spikes to record; shown are those that Poisson coding, which
    // the study uses, would send.
    let mut poisson = match encoding {
        Encoding::Poisson => preset.encoder(encoding, context.seed),
        Encoding::Direct => Preset::Default.encoder(Encoding::Poisson, context.seed),
    };
    let input = poisson.encode(x, x.len(), sample, 0, steps);
    let spikes = input.iter().enumerate().filter(|(_, s)| **s != 0.0).map(|(i, &s)| {
        let (contact, sample) = place(i % x.len());
        InputSpike { step: (i / x.len()) as u32, contact, sample, spike: s as i8 }
    });
    write_csv(&folder.join(InputSpike::FILE), &spikes.collect::<Vec<_>>())?;

    let raster = outcome.events.iter().map(|e| Raster {
        network: network.to_string(),
        layer: names[e.layer].clone(),
        step: e.step as u32,
        neuron: e.neuron as u64,
    });
    write_csv(&folder.join(Raster::FILE), &raster.collect::<Vec<_>>())?;
    Ok(outcome)
}
