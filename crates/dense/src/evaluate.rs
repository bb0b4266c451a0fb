//! Accuracy and activity over a set of recordings.
//!
//! Letters: N recordings, B batch, T timesteps, K classes.

use escape_data::Recordings;
use escape_model::ModelError;
use escape_network::arch::CLASSES;
use escape_network::metrics::{Loss, Metrics};

use escape_snn_core::encode::Encoder;

use crate::Dense;

/// What a network made of a set of recordings.
#[derive(Clone, Debug)]
pub struct Evaluation {
    /// Accuracy, loss and confusion by the readout after 1, 2, .. T steps.
    pub by_step: Vec<Metrics>,
    /// Readout after the last step, N x K.
    pub logits: Vec<f32>,
    /// Activity of each layer.
    pub layers: Vec<Activity>,
}

/// Totals of one layer over all recordings.
#[derive(Clone, Debug)]
pub struct Activity {
    /// `conv1` and so on.
    pub name: String,
    /// Neurons a recording.
    pub neurons: usize,
    /// Output spikes, step by step.
    pub spikes: Vec<u64>,
    /// Accumulates caused by arriving spikes, step by step.
    pub operations: Vec<u64>,
}

impl Activity {
    /// Mean number of output spikes a recording.
    pub fn spikes_per_sample(&self, samples: usize) -> f64 {
        self.spikes.iter().sum::<u64>() as f64 / samples as f64
    }

    /// Mean number of accumulates a recording.
    pub fn operations_per_sample(&self, samples: usize) -> f64 {
        self.operations.iter().sum::<u64>() as f64 / samples as f64
    }
}

impl Evaluation {
    /// By the readout after the last step.
    pub fn last(&self) -> Metrics {
        self.by_step.last().cloned().unwrap_or_default()
    }
}

/// Simulates `steps` steps for every recording, in file order. `tick` hears of recordings done, in parts where a
/// batch's steps are not simulated all at once, and stops the run by returning false.
pub fn evaluate(
    engine: &Dense,
    recordings: &Recordings,
    encoder: &mut Encoder,
    steps: usize,
    batch_size: usize,
    tick: &mut dyn FnMut(f64) -> bool,
) -> Result<Evaluation, ModelError> {
    let network = engine.network();
    let mut by_step = vec![Metrics::default(); steps];
    let mut logits = Vec::with_capacity(recordings.len() * CLASSES);
    let mut layers: Vec<Activity> = network
        .layers
        .iter()
        .map(|l| Activity {
            name: l.shape.name.clone(),
            neurons: l.shape.neurons(),
            spikes: vec![0; steps],
            operations: vec![0; steps],
        })
        .collect();
    let pixels = recordings.contacts * recordings.samples;
    let mut first = 0;
    for x in recordings.x.chunks(batch_size.max(1) * pixels) {
        let batch = x.len() / pixels;
        let mut part = |done: usize| tick((batch * done) as f64 / steps as f64);
        let outcome = engine.run_ticking(x, first, encoder, steps, &mut part)?;
        let labels = &recordings.y[first..first + batch];
        for (t, readout) in outcome.readout.chunks_exact(batch * CLASSES).enumerate() {
            let scale = network.preset.loss_scale(t + 1);
            for (row, &label) in readout.chunks_exact(CLASSES).zip(labels) {
                let judged: Vec<f32> = row.iter().map(|v| v * scale).collect();
                by_step[t].add(&judged, label as usize, Loss::CrossEntropy);
            }
        }
        logits.extend_from_slice(outcome.logits(batch));
        for (layer, (spikes, operations)) in
            layers.iter_mut().zip(outcome.spikes.iter().zip(&outcome.operations))
        {
            layer.spikes.iter_mut().zip(spikes).for_each(|(a, b)| *a += b);
            layer.operations.iter_mut().zip(operations).for_each(|(a, b)| *a += b);
        }
        first += batch;
    }
    Ok(Evaluation { by_step, logits, layers })
}
