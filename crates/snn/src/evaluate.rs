//! Accuracy and activity over a set of recordings.
//!
//! Letters: N recordings, B batch, T timesteps, K classes.

use std::ops::ControlFlow;

use escape_network::metrics::{self, Loss, Metrics};

use crate::encode::Encoder;
use crate::engine::{Batch, Engine, Observer};

/// What a network made of a set of recordings.
#[derive(Clone, Debug)]
pub struct Evaluation {
    /// Accuracy, loss and confusion by the readout after 1, 2, .. T steps.
    pub by_step: Vec<Metrics>,
    /// The class that each recording was taken for, after 1, 2, .. T steps.
    pub predicted: Vec<Vec<u32>>,
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

/// Recordings and what is known of them.
#[derive(Clone, Copy, Debug)]
pub struct Labelled<'a> {
    /// Values, N x contacts x samples.
    pub x: &'a [f32],
    /// Classes, N.
    pub y: &'a [i64],
}

/// Simulates `steps` timesteps of every recording, in file order, `batch_size` at a time. `progress` is told of recordings
/// done, in parts where a batch's steps are not simulated all at once, and stops the run by returning false.
///
/// # Errors
/// Those of the engine.
pub fn evaluate<E: Engine>(
    engine: &E,
    recordings: Labelled<'_>,
    encoder: &mut Encoder,
    steps: usize,
    batch_size: usize,
    progress: &mut dyn FnMut(f64) -> bool,
) -> Result<Evaluation, E::Error> {
    let network = engine.network();
    let classes = network.classes();
    let mut by_step = vec![Metrics::default(); steps];
    let mut predicted = vec![Vec::with_capacity(recordings.y.len()); steps];
    let mut logits = Vec::with_capacity(recordings.y.len() * classes);
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
    let pixels = network.input().count();
    let mut first = 0;
    for x in recordings.x.chunks(batch_size.max(1) * pixels) {
        let batch = x.len() / pixels;
        let mut part = Part { each: batch as f64 / steps as f64, progress };
        let outcome = engine.run(Batch { x, first }, encoder, steps, &mut part)?;
        let labels = &recordings.y[first..first + batch];
        for (t, readout) in outcome.readout.chunks_exact(batch * classes).enumerate() {
            let scale = network.rules.loss_scale.factor(t + 1);
            for (row, &label) in readout.chunks_exact(classes).zip(labels) {
                let judged: Vec<f32> = row.iter().map(|v| v * scale).collect();
                by_step[t].add(&judged, label as usize, Loss::CrossEntropy);
                predicted[t].push(metrics::predicted(&judged) as u32);
            }
        }
        logits.extend_from_slice(outcome.logits(steps));
        for (layer, (spikes, operations)) in
            layers.iter_mut().zip(outcome.spikes.iter().zip(&outcome.operations))
        {
            layer.spikes.iter_mut().zip(spikes).for_each(|(a, b)| *a += b);
            layer.operations.iter_mut().zip(operations).for_each(|(a, b)| *a += b);
        }
        first += batch;
    }
    Ok(Evaluation { by_step, predicted, logits, layers })
}

/// Turns timesteps of a batch into recordings.
struct Part<'a> {
    each: f64,
    progress: &'a mut dyn FnMut(f64) -> bool,
}

impl Observer for Part<'_> {
    fn advanced(&mut self, steps: usize) -> ControlFlow<()> {
        match (self.progress)(self.each * steps as f64) {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        }
    }
}
