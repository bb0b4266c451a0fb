//! What was found out about a network over a set of recordings, and the tables of a results folder that hold it.

use std::path::Path;

use anyhow::Result;
use escape_network::metrics::{self, Metrics};
use escape_network::stage::{LayerWork, Op, Stage};
use escape_report::rows::{
    Activity, AnnActivity, Confusion, Evaluation, Kind, LayerKind, Prediction, Row, Step, read_csv,
};
use escape_snn_core::encode::Encoding;
use escape_snn_core::evaluate;
use escape_snn_core::integer::Precision;
use escape_snn_core::nonzero::Nonzero;
use escape_snn_core::rules::Rules;

use crate::folder::write_csv;
use crate::notes;

/// What was measured of a network.
pub struct Measured {
    /// What every table calls it.
    pub network: String,
    /// What its classes are called.
    pub classes: Vec<String>,
    /// How it came to be.
    pub kind: Kind,
    /// The epoch of training that was kept, where that is to be told.
    pub epoch: Option<u32>,
    /// The recordings' classes.
    pub labels: Vec<i64>,
    /// What was found.
    pub result: Findings,
}

/// Classes of which a confusion matrix is kept, at most.
const MOST_SHOWN: usize = 64;

/// The results themselves.
pub enum Findings {
    /// An ANN: one pass a recording.
    Artificial {
        /// Accuracy, loss and confusion.
        metrics: Metrics,
        /// N x K.
        logits: Vec<f32>,
        /// Bits of a quantised one: of weights and activations, and of input.
        precision: Option<Precision>,
        /// Its layers with what arrived at each over all recordings; empty where it has none that spike.
        layers: Vec<LayerWork>,
    },
    /// A spiking network: one simulation a recording.
    Spiking(Box<Simulated>),
}

/// A spiking network's simulation over all recordings.
pub struct Simulated {
    /// The engine that simulated it.
    pub engine: String,
    /// Its rules.
    pub rules: Rules,
    /// What its input is.
    pub encoding: Encoding,
    /// T of the tables that are about one T: activity, steps and confusion.
    pub steps: usize,
    /// All T at which accuracy is told, ascending.
    pub moments: Vec<usize>,
    /// Shape and decay of each layer.
    pub layers: Vec<(Stage, f64)>,
    /// Over the largest T of all.
    pub found: evaluate::Evaluation,
    /// What zeros leave of its work, where it was counted, and the network computes in whole numbers and sees the recordings themselves.
    pub sparse: Option<Sparse>,
}

/// What zeros leave of a network's work over all recordings.
pub enum Sparse {
    /// Of a large one: the first layer's multiply-accumulates with values that are not zero.
    Values(u64),
    /// Of one that is small enough for its spikes to be gone through.
    Traced(Traced),
}

/// What was found in that.
pub struct Traced {
    /// Weights of each layer that are not zero.
    pub weights: Vec<u64>,
    /// What each layer did.
    pub layers: Vec<Nonzero>,
}

impl Sparse {
    /// Of the first layer.
    fn macs(&self) -> u64 {
        match self {
            Self::Values(macs) => *macs,
            Self::Traced(traced) => traced.layers[0].macs,
        }
    }

    fn traced(&self) -> Option<&Traced> {
        match self {
            Self::Values(_) => None,
            Self::Traced(traced) => Some(traced),
        }
    }
}

impl Measured {
    /// Accuracy, loss and confusion, for a spiking network at its T.
    pub fn metrics(&self) -> &Metrics {
        match &self.result {
            Findings::Artificial { metrics, .. } => metrics,
            Findings::Spiking(simulated) => &simulated.found.by_step[simulated.steps - 1],
        }
    }

    /// The simulation, of a spiking network.
    pub fn simulated(&self) -> Option<&Simulated> {
        match &self.result {
            Findings::Artificial { .. } => None,
            Findings::Spiking(simulated) => Some(simulated),
        }
    }

    /// The readout, after the last step of a spiking network: N x K.
    pub fn logits(&self) -> &[f32] {
        match &self.result {
            Findings::Artificial { logits, .. } => logits,
            Findings::Spiking(simulated) => &simulated.found.logits,
        }
    }

    /// Adds everything to the tables of a folder, in the place of what they say of the same network, T and rules. The
    /// accuracies come last: where they are, all else is.
    ///
    /// # Errors
    /// A table cannot be read or written.
    pub fn write(&self, folder: &Path) -> Result<()> {
        // Of two networks whose readouts are averaged the tables of layers would have the spikes of both.
        if let Findings::Spiking(simulated) = &self.result
            && !simulated.rules.averaged
        {
            let preset = simulated.rules.preset.to_string();
            put(folder, &simulated.activity(&self.network), |row: &Activity| {
                (&row.network, &row.preset, row.timesteps) == (&self.network, &preset, simulated.steps as u32)
            })?;
            put(folder, &simulated.by_step(&self.network), |row: &Step| row.network == self.network)?;
        }
        put(folder, &self.ann_activity(), |row: &AnnActivity| row.network == self.network)?;
        let timesteps = self.simulated().map(|simulated| simulated.steps as u32);
        put(folder, &self.predictions(timesteps), |row: &Prediction| {
            (&row.network, row.timesteps) == (&self.network, timesteps)
        })?;
        put(folder, &self.confusion(), |row: &Confusion| row.network == self.network)?;
        let rows = self.evaluations();
        let key =
            |row: &Evaluation| (row.network.clone(), row.preset.clone(), row.encoder.clone(), row.timesteps);
        put(folder, &rows, |old: &Evaluation| rows.iter().any(|new| key(new) == key(old)))
    }

    /// What its numbers alone do not say.
    pub fn notes(&self) -> Vec<String> {
        let silent = self.simulated().and_then(|simulated| {
            let firing = simulated.rules.firing_layers(simulated.found.layers.len());
            let spikes = simulated.found.layers[..firing].iter();
            let spikes = spikes.map(|l| (l.name.as_str(), l.spikes[..simulated.steps].iter().sum()));
            notes::on_silence(&self.network, spikes, simulated.samples())
        });
        let class = |class: usize| self.classes.get(class).cloned().unwrap_or_default();
        notes::on_metrics(&self.network, self.metrics(), class).into_iter().chain(silent).collect()
    }

    /// A row for each T; one for an ANN.
    pub fn evaluations(&self) -> Vec<Evaluation> {
        let row = |timesteps: Option<usize>, metrics: &Metrics| Evaluation {
            network: self.network.clone(),
            kind: self.kind,
            preset: String::new(),
            encoder: String::new(),
            timesteps: timesteps.map(|t| t as u32),
            samples: metrics.samples() as u64,
            accuracy: metrics.accuracy(),
            loss: metrics.loss(),
            epoch: self.epoch,
            balanced_accuracy: Some(metrics.balanced_accuracy()),
            macro_f1: Some(metrics.macro_f1()),
            bits: None,
        };
        match &self.result {
            Findings::Artificial { metrics, precision, .. } => {
                vec![Evaluation { bits: precision.map(Precision::weight_bits), ..row(None, metrics) }]
            }
            Findings::Spiking(simulated) => {
                let at = |&t: &usize| Evaluation {
                    preset: simulated.rules.preset.to_string(),
                    encoder: simulated.encoding.to_string(),
                    ..row(Some(t), &simulated.found.by_step[t - 1])
                };
                simulated.moments.iter().map(at).collect()
            }
        }
    }

    /// What an ANN's layers did on average; nothing of a spiking network.
    fn ann_activity(&self) -> Vec<AnnActivity> {
        let Findings::Artificial { metrics, logits, precision, layers } = &self.result else {
            return Vec::new();
        };
        let samples = metrics.samples() as f64;
        let sent = |k: usize| match layers.get(k + 1) {
            Some(next) => next.arrived.values,
            None => logits.iter().filter(|logit| **logit != 0.0).count() as u64,
        };
        let row = |(k, LayerWork { stage, arrived, nonzero_weights }): (usize, &LayerWork)| AnnActivity {
            network: self.network.clone(),
            bits: precision.map(Precision::weight_bits),
            input_bits: precision.map(Precision::input_bits),
            samples: metrics.samples() as u64,
            layer: stage.name.clone(),
            kind: kind(stage),
            neurons: stage.neurons() as u64,
            sent: stage.pooled.count() as u64,
            weights: stage.weights() as u64,
            macs: stage.macs() as u64,
            nonzero_sent_per_sample: sent(k) as f64 / samples,
            nonzero_macs_per_sample: arrived.macs as f64 / samples,
            nonzero_weights: Some(*nonzero_weights),
            nonzero_weight_macs_per_sample: Some(arrived.macs_of_nonzero_weights as f64 / samples),
        };
        layers.iter().enumerate().map(row).collect()
    }

    /// What each recording was taken for, by a spiking network after T steps.
    fn predictions(&self, timesteps: Option<u32>) -> Vec<Prediction> {
        let predicted: Vec<u32> = match &self.result {
            Findings::Artificial { logits, .. } => {
                let classes = self.metrics().classes().max(1);
                logits.chunks_exact(classes).map(|row| metrics::predicted(row) as u32).collect()
            }
            Findings::Spiking(simulated) => simulated.found.predicted[simulated.steps - 1].clone(),
        };
        let row = |(recording, (&actual, predicted)): (usize, (&i64, u32))| Prediction {
            network: self.network.clone(),
            timesteps,
            recording: recording as u32,
            actual: u32::try_from(actual).unwrap_or_default(),
            predicted,
        };
        self.labels.iter().zip(predicted).enumerate().map(row).collect()
    }

    fn confusion(&self) -> Vec<Confusion> {
        let counts = self.metrics().confusion();
        let classes = counts.len();
        // Of more a matrix says nothing to the eye, and its table would be long.
        if classes > MOST_SHOWN {
            return Vec::new();
        }
        let cells = (0..classes).flat_map(|actual| (0..classes).map(move |predicted| (actual, predicted)));
        let row = |(actual, predicted): (usize, usize)| Confusion {
            network: self.network.clone(),
            actual: actual as u32,
            predicted: predicted as u32,
            count: counts[actual][predicted],
            actual_name: self.classes.get(actual).cloned(),
            predicted_name: self.classes.get(predicted).cloned(),
        };
        cells.map(row).collect()
    }

    /// A line for each accuracy, for a reader who waits.
    pub fn lines(&self) -> Vec<String> {
        let line = |row: &Evaluation| {
            let at = row.timesteps.map_or_else(String::new, |t| format!(" at T = {t}"));
            format!("{}: accuracy {:.4}{at} on {} recordings", row.network, row.accuracy, row.samples)
        };
        self.evaluations().iter().map(line).collect()
    }
}

impl Simulated {
    /// The layers with what they did up to `steps`: spikes and operations, step by step.
    fn layers(&self) -> impl Iterator<Item = (&(Stage, f64), &evaluate::Activity)> {
        self.layers.iter().zip(&self.found.layers)
    }

    fn samples(&self) -> usize {
        self.found.by_step[self.steps - 1].samples()
    }

    fn activity(&self, network: &str) -> Vec<Activity> {
        let samples = self.samples() as f64;
        let mean = |counts: &[u64]| counts[..self.steps].iter().sum::<u64>() as f64 / samples;
        let traced = self.sparse.as_ref().and_then(Sparse::traced);
        let row = |(k, ((shape, leak), did)): (usize, (&(Stage, f64), &evaluate::Activity))| Activity {
            network: network.to_owned(),
            preset: self.rules.preset.to_string(),
            timesteps: self.steps as u32,
            samples: self.samples() as u64,
            layer: shape.name.clone(),
            kind: kind(shape),
            neurons: shape.neurons() as u64,
            weights: shape.weights() as u64,
            macs: shape.macs() as u64,
            analog_input: k == 0 && self.encoding == Encoding::Direct,
            leak: *leak,
            spikes_per_sample: mean(&did.spikes),
            synaptic_operations_per_sample: mean(&did.operations),
            channels: matches!(shape.op, Op::Conv(_)).then_some(shape.output.channels as u64),
            sent: Some(shape.pooled.count() as u64),
            input_bits: self.rules.precision().map(Precision::input_bits),
            weight_bits: self.rules.precision().map(Precision::weight_bits),
            nonzero_macs_per_sample: self
                .sparse
                .as_ref()
                .filter(|_| k == 0)
                .map(|s| s.macs() as f64 / samples),
            nonzero_weights: traced.map(|t| t.weights[k]),
            nonzero_operations_per_sample: traced.map(|t| t.layers[k].operations as f64 / samples),
            // The readout sends nothing.
            active_per_sample: traced
                .filter(|t| k + 1 < t.layers.len())
                .map(|t| t.layers[k].active as f64 / samples),
        };
        self.layers().enumerate().map(row).collect()
    }

    fn by_step(&self, network: &str) -> Vec<Step> {
        let samples = self.samples() as f64;
        let rows = self.layers().flat_map(|((shape, _), did)| {
            (0..self.steps).map(move |t| Step {
                network: network.to_owned(),
                layer: shape.name.clone(),
                step: t as u32,
                spikes_per_sample: did.spikes[t] as f64 / samples,
                synaptic_operations_per_sample: did.operations[t] as f64 / samples,
            })
        });
        rows.collect()
    }
}

fn kind(shape: &Stage) -> LayerKind {
    match shape.op {
        Op::Conv(_) => LayerKind::Conv,
        Op::Linear => LayerKind::Linear,
    }
}

/// Adds rows to a folder's table in place of those that they replace, all in one moment: whatever was written before a
/// process was killed, doing the same again leaves the same table.
///
/// # Errors
/// The table cannot be read or written.
pub fn put<R: Row + Clone>(folder: &Path, rows: &[R], replaced: impl Fn(&R) -> bool) -> Result<()> {
    let path = folder.join(R::FILE);
    let there: Option<Vec<R>> = read_csv(&path)?;
    if rows.is_empty() && there.is_none() {
        return Ok(());
    }
    let mut all = there.unwrap_or_default();
    all.retain(|row| !replaced(row));
    all.extend(rows.iter().cloned());
    write_csv(&path, &all)
}
