//! `escape-snn evaluate`

use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result};
use escape_data::npz::{self, Values};
use escape_data::{CLASS_NAMES, CLASSES, Recordings};
use escape_model::ann::Ann;
use escape_model::checkpoint::Checkpoint;
use escape_model::metrics::{Loss, Metrics};
use escape_model::train;
use escape_snn_core::dense::Dense;
use escape_snn_core::evaluate::{Evaluation, evaluate};
use escape_snn_core::network::Preset;
use serde::Serialize;

use super::{recordings, simulation, table, thousands};
use crate::args::EvaluateArgs;
use crate::context::{Context, check_apart, check_file};

#[derive(Serialize)]
struct Report {
    kind: &'static str,
    samples: usize,
    accuracy: f64,
    loss: f64,
    timesteps: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    preset: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    encoder: Option<String>,
    confusion: [[u64; CLASSES]; CLASSES],
    layers: Vec<LayerReport>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    accuracy_by_step: Vec<f64>,
    seconds: f64,
}

#[derive(Serialize)]
struct LayerReport {
    name: String,
    neurons: usize,
    spikes_per_sample: f64,
    spikes_per_neuron: f64,
    synaptic_operations_per_sample: f64,
}

pub fn run(context: &Context, args: EvaluateArgs) -> Result<()> {
    if let Some(path) = &args.logits {
        check_file(path)?;
        check_apart(path, &[&args.checkpoint, &args.data])?;
    }
    let checkpoint = super::checkpoint(&args.checkpoint)?;
    let recordings = recordings(context, &args.data, &args.reading.options(), args.split, args.limit)?;
    let start = Instant::now();
    let (mut report, logits) = if checkpoint.thresholds.is_some() && checkpoint.timesteps.is_some()
        || args.simulation.timesteps.is_some()
    {
        spiking(context, &args, &checkpoint, &recordings)?
    } else {
        artificial(context, &args, &checkpoint, &recordings)?
    };
    report.seconds = start.elapsed().as_secs_f64();
    if let Some(path) = &args.logits {
        write_logits(path, &logits, &recordings)?;
    }
    context.result(&report, || report.text())
}

fn spiking(
    context: &Context,
    args: &EvaluateArgs,
    checkpoint: &Checkpoint,
    recordings: &Recordings,
) -> Result<(Report, Vec<f32>)> {
    let chosen = simulation(context, checkpoint, &args.checkpoint, &args.simulation, recordings)?;
    let preset = chosen.network.preset;
    let mut encoder = preset.encoder(chosen.encoding, context.seed);
    let engine = Dense::new(chosen.network, chosen.encoding, context.device()?)?;
    let mut progress = context.progress("evaluating", recordings.len());
    let found =
        evaluate(&engine, recordings, &mut encoder, chosen.steps, args.batch_size as usize, &mut |n| {
            progress.tick(n)
        })?;
    let mut report = Report::new("snn", &found.last(), layers(&found, recordings.len()));
    report.timesteps = Some(chosen.steps);
    report.preset = Some(preset.to_string());
    report.encoder = Some(chosen.encoding.to_string());
    report.accuracy_by_step = found.by_step.iter().map(Metrics::accuracy).collect();
    Ok((report, found.logits))
}

fn artificial(
    context: &Context,
    args: &EvaluateArgs,
    checkpoint: &Checkpoint,
    recordings: &Recordings,
) -> Result<(Report, Vec<f32>)> {
    let (contacts, samples) = (recordings.contacts, recordings.samples);
    let ann = Ann::from_checkpoint(checkpoint, &args.checkpoint, contacts, samples, context.device()?)?;
    let loss = match args.simulation.preset {
        Some(Preset::Published) => Loss::SoftmaxCrossEntropy,
        _ => Loss::CrossEntropy,
    };
    let mut progress = context.progress("evaluating", recordings.len());
    let mut logits = Vec::new();
    let metrics = train::evaluate(&ann, recordings, args.batch_size as usize, loss, &mut |_, batch| {
        logits.extend_from_slice(batch);
        progress.tick(batch.len() / CLASSES)
    })?;
    Ok((Report::new("ann", &metrics, Vec::new()), logits))
}

fn layers(found: &Evaluation, samples: usize) -> Vec<LayerReport> {
    let each = found.layers.iter().map(|layer| LayerReport {
        name: layer.name.clone(),
        neurons: layer.neurons,
        spikes_per_sample: layer.spikes_per_sample(samples),
        spikes_per_neuron: layer.spikes_per_sample(samples) / layer.neurons as f64,
        synaptic_operations_per_sample: layer.operations_per_sample(samples),
    });
    each.collect()
}

fn write_logits(path: &Path, logits: &[f32], recordings: &Recordings) -> Result<()> {
    let n = recordings.len();
    npz::write(
        path,
        &[("logits", &[n, CLASSES], Values::F32(logits)), ("labels", &[n], Values::I64(&recordings.y))],
    )
    .with_context(|| format!("{}: the logits could not be written", path.display()))
}

impl Report {
    fn new(kind: &'static str, metrics: &Metrics, layers: Vec<LayerReport>) -> Self {
        Self {
            kind,
            samples: metrics.samples(),
            accuracy: metrics.accuracy(),
            loss: metrics.loss(),
            timesteps: None,
            preset: None,
            encoder: None,
            confusion: *metrics.confusion(),
            layers,
            accuracy_by_step: Vec::new(),
            seconds: 0.0,
        }
    }

    fn text(&self) -> String {
        let mut text =
            format!("accuracy {:.4}, loss {:.4}, {} recordings", self.accuracy, self.loss, self.samples);
        if let (Some(steps), Some(preset), Some(encoder)) = (self.timesteps, &self.preset, &self.encoder) {
            text.push_str(&format!(", {steps} timesteps, preset {preset}, encoder {encoder}"));
        }
        text.push_str("\n\n");
        let mut rows =
            vec![std::iter::once("actual \\ predicted").chain(CLASS_NAMES).map(String::from).collect()];
        for (name, counts) in CLASS_NAMES.iter().zip(&self.confusion) {
            rows.push(std::iter::once(name.to_string()).chain(counts.iter().map(u64::to_string)).collect());
        }
        text.push_str(&table(&rows));
        if !self.layers.is_empty() {
            let head = ["layer", "neurons", "spikes/sample", "spikes/neuron", "synaptic operations/sample"];
            let mut rows = vec![head.map(String::from).to_vec()];
            for l in &self.layers {
                rows.push(vec![
                    l.name.clone(),
                    thousands(l.neurons as f64),
                    thousands(l.spikes_per_sample),
                    format!("{:.3}", l.spikes_per_neuron),
                    thousands(l.synaptic_operations_per_sample),
                ]);
            }
            text.push('\n');
            text.push_str(&table(&rows));
        }
        text
    }
}
