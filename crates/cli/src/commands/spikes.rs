//! `escape-snn spikes`

use std::path::{Path, PathBuf};

use anyhow::Result;
use escape_data::Recordings;
use escape_dense::Dense;
use escape_report::rows::{InputSpike, Raster, Recording, Row, read_csv};
use escape_snn_core::encode::Encoding;
use escape_snn_core::engine::{Batch, Engine, Outcome, Spike, SpikeRecorder};
use escape_snn_core::rules::Rules;
use serde::Serialize;
use tch::Device;

use super::{Simulation, recordings, simulation, table, thousands};
use crate::args::SpikesArgs;
use crate::context::{Context, make_folder, usage};
use crate::results::{Results, Use};
use crate::run_folder::write_csv;

#[derive(Serialize)]
struct Report {
    network: String,
    folder: PathBuf,
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
    let checkpoint = super::network(context, &args.checkpoint, &args.selection)?;
    let name = args.name.name.as_deref();
    let (kind, _) = super::evaluate::origin(&checkpoint, true);
    let mut results = Results::open(
        context,
        &args.out,
        name,
        kind,
        &args.checkpoint,
        (&args.data, &args.reading.options()),
    )?;
    let shown = (&checkpoint, args.checkpoint.as_path());
    let (all, _) = recordings(context, &args.data, &args.reading.options(), args.split, None, shown)?;
    if args.sample >= all.len() {
        return Err(usage(format!(
            "--sample {}: the {} split holds {} recordings, numbered from 0",
            args.sample,
            args.split,
            all.len()
        )));
    }
    let chosen = simulation(context, &checkpoint, &args.checkpoint, &args.simulation, &all)?;
    let rules = Some((chosen.network.rules.preset, chosen.encoding));
    let used = Use { command: "spikes", rules, split: args.split };
    results.check_use(used)?;
    let steps = chosen.steps;
    let shapes: Vec<_> = chosen.network.layers.iter().map(|l| l.shape.clone()).collect();
    let shown = recording(&all, args.sample);
    check_free(context, &args.out, results.network(), &shown)?;
    results.begin(used, Some(steps))?;
    let recorded = record(context, results.network(), chosen, &all, args.sample, context.device()?)?;
    let held = results.hold()?;
    recorded.write(&args.out)?;
    drop(held);
    let outcome = recorded.outcome;
    let layers = shapes.iter().enumerate().map(|(k, shape)| {
        let mut counts = vec![0usize; shape.neurons()];
        recorded.spikes.iter().filter(|e| e.layer == k).for_each(|e| counts[e.neuron] += 1);
        LayerReport {
            name: shape.name.clone(),
            neurons: counts.len(),
            spikes: outcome.spikes[k].iter().sum(),
            silent_neurons: counts.iter().filter(|&&c| c == 0).count(),
            most_spikes_of_a_neuron: counts.iter().copied().max().unwrap_or(0),
        }
    });
    let report = Report {
        network: results.network().to_owned(),
        folder: args.out.clone(),
        sample: args.sample,
        label: all.y[args.sample],
        readout: outcome.logits(steps).to_vec(),
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
        let (table, folder) = (table(&rows), args.out.display());
        format!(
            "{}\nadded to {folder} as '{}': {}; `escape-snn report {folder}` draws them",
            table.trim_end(),
            report.network,
            report.files.join(", ")
        )
    })
}

/// One recording, followed through a network.
pub struct Recorded {
    encoding: Encoding,
    recording: Vec<Recording>,
    input: Vec<InputSpike>,
    raster: Vec<Raster>,
    network: String,
    outcome: Outcome,
    spikes: Vec<Spike>,
}

/// Simulates one recording: its values, its Poisson spikes and every spike of the network.
pub fn record(
    context: &Context,
    network: &str,
    chosen: Simulation,
    recordings: &Recordings,
    sample: usize,
    device: Device,
) -> Result<Recorded> {
    let Simulation { network: description, encoding, steps } = chosen;
    let rules = description.rules;
    let names: Vec<String> = description.layers.iter().map(|l| l.shape.name.clone()).collect();
    let engine = Dense::new(description, encoding, device)?;
    let x = recordings.get(sample);
    let mut encoder = rules.encoder(encoding, context.seed);
    let mut recorder = SpikeRecorder::default();
    let outcome = engine.run(Batch { x, first: sample }, &mut encoder, steps, &mut recorder)?;
    let fired = recorder.into_spikes();

    // With a constant input there are no input spikes to record; shown are those that Poisson coding, which
    // the study uses, would send.
    let mut poisson = match encoding {
        Encoding::Poisson => rules.encoder(encoding, context.seed),
        Encoding::Direct => Rules::DEFAULT.encoder(Encoding::Poisson, context.seed),
    };
    let input = poisson.encode(x, x.len(), sample, 0, steps);
    let spikes = input.iter().enumerate().filter(|(_, s)| **s != 0.0).map(|(i, &s)| {
        let (contact, sample) = place(i % x.len(), recordings.samples);
        InputSpike { step: (i / x.len()) as u32, contact, sample, spike: s as i8 }
    });
    let raster = fired.iter().map(|e| Raster {
        network: network.to_string(),
        layer: names[e.layer].clone(),
        step: e.step as u32,
        neuron: e.neuron as u64,
    });
    Ok(Recorded {
        encoding,
        recording: recording(recordings, sample),
        input: spikes.collect(),
        raster: raster.collect(),
        network: network.to_owned(),
        outcome,
        spikes: fired,
    })
}

/// Contact and sample of a value of a recording.
fn place(index: usize, samples: usize) -> (u32, u32) {
    ((index / samples) as u32, (index % samples) as u32)
}

/// A recording as a table.
fn recording(recordings: &Recordings, index: usize) -> Vec<Recording> {
    let value = |(i, &value): (usize, &f32)| {
        let (contact, sample) = place(i, recordings.samples);
        Recording { contact, sample, value: f64::from(value) }
    };
    recordings.get(index).iter().enumerate().map(value).collect()
}

/// Refuses to replace what a folder shows: another recording, or this network's spikes.
fn check_free(context: &Context, folder: &Path, network: &str, shown: &[Recording]) -> Result<()> {
    if context.force {
        return Ok(());
    }
    let there: Option<Vec<Recording>> = read_csv(&folder.join(Recording::FILE))?;
    let raster: Vec<Raster> = read_csv(&folder.join(Raster::FILE))?.unwrap_or_default();
    let (what, file, otherwise) = if there.is_some_and(|there| there != shown) {
        ("another recording".to_owned(), Recording::FILE, "choose another folder")
    } else if raster.iter().any(|row| row.network == network) {
        (format!("'{network}'"), Raster::FILE, "name this network otherwise with --name")
    } else {
        return Ok(());
    };
    Err(usage(format!(
        "{}: holds spikes of {what} already ({file}); {otherwise}, or replace them with --force",
        folder.display()
    )))
}

impl Recorded {
    /// Writes the tables into a folder; beside the spikes of other networks if they are of the same recording, in the
    /// place of this network's.
    pub fn write(&self, folder: &Path) -> Result<()> {
        make_folder(folder)?;
        let there: Option<Vec<Recording>> = read_csv(&folder.join(Recording::FILE))?;
        let same = there.is_some_and(|there| there == self.recording);
        let mut raster: Vec<Raster> =
            if same { read_csv(&folder.join(Raster::FILE))?.unwrap_or_default() } else { Vec::new() };
        raster.retain(|row| row.network != self.network);
        raster.extend(self.raster.iter().cloned());
        write_csv(&folder.join(Recording::FILE), &self.recording)?;
        // Spikes that a network really gets are of more interest than those that one with a constant input would.
        if !same || self.encoding == Encoding::Poisson || !folder.join(InputSpike::FILE).exists() {
            write_csv(&folder.join(InputSpike::FILE), &self.input)?;
        }
        write_csv(&folder.join(Raster::FILE), &raster)
    }
}
