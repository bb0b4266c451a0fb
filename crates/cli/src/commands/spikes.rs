//! `escape-snn spikes`

use std::path::PathBuf;

use anyhow::Result;
use escape_study::load::{kind_of, network, recordings, simulation};
use escape_study::results::{Results, Use};
use escape_study::session::usage;
use escape_study::spikes::{TABLES, check_free, record, recording};
use serde::Serialize;

use super::{table, thousands};
use crate::args::SpikesArgs;
use crate::context::Context;

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
    let session = &context.session;
    let checkpoint = network(session, &args.checkpoint, &args.selection.selection())?;
    let name = (args.name.name.as_deref(), args.simulation.bits.other_than(&checkpoint));
    let (kind, _) = kind_of(&checkpoint, true);
    let mut results = Results::open(
        session,
        &args.out,
        name,
        kind,
        &args.checkpoint,
        (&args.data, &args.reading.options()),
    )?;
    let shown = (&checkpoint, args.checkpoint.as_path());
    let (all, _) = recordings(session, &args.data, &args.reading.options(), args.split, None, shown)?;
    if args.sample >= all.len() {
        return Err(usage(format!(
            "--sample {}: the {} split holds {} recordings, numbered from 0",
            args.sample,
            args.split,
            all.len()
        )));
    }
    let chosen = simulation(session, &checkpoint, &args.checkpoint, args.simulation.asked(), &all)?;
    let rules = Some((chosen.network.rules, chosen.encoding));
    let used = Use { command: "spikes", rules, precision: None, split: args.split };
    results.check_use(used)?;
    let steps = chosen.steps;
    let shapes: Vec<_> = chosen.network.layers.iter().map(|l| l.shape.clone()).collect();
    let shown = recording(&all, args.sample);
    check_free(session, &args.out, results.network(), &shown)?;
    results.begin(used, Some(steps))?;
    let recorded = record(session, results.network(), chosen, &all, args.sample)?;
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
        files: TABLES.map(String::from).to_vec(),
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
