//! Training an artificial network, epoch by epoch.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Instant;

use escape_data::{CLASSES, Recordings};
use tch::{Device, Kind, Reduction, Tensor};

use crate::ModelError;
use crate::ann::{Ann, to_tensor, to_vec};
use crate::checkpoint::{Checkpoint, Value};
use crate::metrics::{Loss, Metrics};
use crate::optim::{Optimizer, Rule};
use crate::shuffle::permutation;

/// How to train.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Update rule.
    pub rule: Rule,
    /// Recordings a step.
    pub batch_size: usize,
    /// What is minimised.
    pub loss: Loss,
    /// Stop after this many epochs without a new best accuracy.
    pub patience: Option<usize>,
    /// Orders the recordings and drives dropout.
    pub seed: u64,
}

/// What one epoch came to.
#[derive(Clone, Copy, Debug)]
pub struct EpochResult {
    /// Number of the epoch, from 1.
    pub epoch: usize,
    /// Mean loss over the training recordings, as they were trained on.
    pub train_loss: f64,
    /// Accuracy likewise.
    pub train_accuracy: f64,
    /// Mean loss on the held-out recordings.
    pub test_loss: f64,
    /// Accuracy on the held-out recordings.
    pub test_accuracy: f64,
    /// Wall-clock seconds.
    pub seconds: f64,
    /// Whether the held-out accuracy is the best so far.
    pub is_best: bool,
}

/// A training run: the network and everything needed to continue.
#[derive(Debug)]
pub struct Trainer {
    net: Ann,
    optimizer: Optimizer,
    options: Options,
    epoch: usize,
    best: Option<(usize, f64)>,
}

impl Trainer {
    /// Starts training `net`.
    pub fn new(mut net: Ann, options: Options) -> Self {
        net.require_gradients();
        Self { net, optimizer: Optimizer::new(options.rule), options, epoch: 0, best: None }
    }

    /// Continues from a checkpoint that [`Trainer::checkpoint`] made; `net` holds its weights already.
    pub fn resume(mut net: Ann, options: Options, saved: &Checkpoint) -> Result<Self, ModelError> {
        net.require_gradients();
        let state = saved.optimizer.as_ref().ok_or_else(|| {
            ModelError::Data(
                "the checkpoint holds no optimiser state to resume from; start afresh without --resume"
                    .into(),
            )
        })?;
        let optimizer = Optimizer::from_value(options.rule, state, net.parameters().len(), net.device())?;
        let epoch = saved.epoch.unwrap_or(0).max(0) as usize;
        let extra = |key: &str| saved.extra.iter().find(|e| e.0 == key).and_then(|e| e.1.as_f64());
        let best = extra("best_epoch").zip(extra("best_accuracy")).map(|(e, a)| (e as usize, a));
        Ok(Self { net, optimizer, options, epoch, best })
    }

    /// The network.
    pub fn net(&self) -> &Ann {
        &self.net
    }

    /// Epochs done.
    pub fn epoch(&self) -> usize {
        self.epoch
    }

    /// Epoch and held-out accuracy of the best epoch so far.
    pub fn best(&self) -> Option<(usize, f64)> {
        self.best
    }

    /// Whether the best epoch lies further back than the patience.
    pub fn out_of_patience(&self) -> bool {
        let since = self.epoch - self.best.map_or(0, |b| b.0);
        self.options.patience.is_some_and(|p| since >= p)
    }

    /// Trains on every recording once, in an order of the epoch's own, then judges the held-out ones.
    /// `tick` hears of recordings done, and stops the run by returning false.
    pub fn run_epoch(
        &mut self,
        train: &Recordings,
        held_out: &Recordings,
        tick: &mut dyn FnMut(usize) -> bool,
    ) -> Result<EpochResult, ModelError> {
        let start = Instant::now();
        let device = self.net.device();
        // Dropout draws from libtorch's generator: a resumed epoch must find it where it left it.
        tch::manual_seed((self.options.seed ^ ((self.epoch as u64 + 1) << 32)) as i64);
        let mut metrics = Metrics::default();
        for batch in
            permutation(train.len(), self.options.seed, self.epoch as u64).chunks(self.options.batch_size)
        {
            let x = batch_tensor(train, batch, device)?;
            let labels: Vec<i64> = batch.iter().map(|&i| train.y[i]).collect();
            let logits = self.net.forward(&x, true)?;
            let judged = match self.options.loss {
                Loss::CrossEntropy => logits.f_view_(logits.size())?,
                Loss::SoftmaxCrossEntropy => logits.f_softmax(1, Kind::Float)?,
            };
            let target = Tensor::f_from_slice(&labels)?.f_to_device(device)?;
            let loss = judged.f_cross_entropy_loss(&target, None::<&Tensor>, Reduction::Mean, -100, 0.0)?;
            let parameters: Vec<&Tensor> = self.net.parameters().iter().map(|p| &p.1).collect();
            let gradients = Tensor::f_run_backward(&[loss], &parameters, false, false)?;
            self.optimizer.step(&parameters, &gradients, 1.0)?;
            add_all(&mut metrics, &to_vec(&logits)?, &labels, self.options.loss);
            check_loss(metrics.loss(), self.epoch + 1)?;
            if !tick(batch.len()) {
                return Err(ModelError::Interrupted);
            }
        }
        let test = evaluate(&self.net, held_out, 256, self.options.loss, &mut |_, _| true)?;
        self.epoch += 1;
        let is_best = self.best.is_none_or(|b| test.accuracy() > b.1);
        if is_best {
            self.best = Some((self.epoch, test.accuracy()));
        }
        Ok(EpochResult {
            epoch: self.epoch,
            train_loss: metrics.loss(),
            train_accuracy: metrics.accuracy(),
            test_loss: test.loss(),
            test_accuracy: test.accuracy(),
            seconds: start.elapsed().as_secs_f64(),
            is_best,
        })
    }

    /// The study's dictionary as of now; with the optimiser's state it can be resumed from.
    pub fn checkpoint(&self, accuracy: f64, with_optimizer: bool) -> Result<Checkpoint, ModelError> {
        let mut extra = Vec::new();
        if let Some((epoch, accuracy)) = self.best {
            extra.push(("best_epoch".to_string(), Value::Int(epoch as i64)));
            extra.push(("best_accuracy".to_string(), Value::Float(accuracy)));
        }
        Ok(Checkpoint {
            accuracy: Some(accuracy),
            epoch: Some(self.epoch as i64),
            weights: self.net.weights()?,
            optimizer: with_optimizer.then(|| self.optimizer.to_value()).transpose()?,
            extra,
            ..Checkpoint::default()
        })
    }
}

/// Whether a training still has a loss to follow.
///
/// # Errors
/// [`ModelError::Data`] if the loss is no finite number; what the epochs before saved is as good as ever.
pub fn check_loss(loss: f64, epoch: usize) -> Result<(), ModelError> {
    if loss.is_finite() {
        return Ok(());
    }
    Err(ModelError::Data(format!(
        "training diverged: expected a finite loss, got {loss} in epoch {epoch}; go on from an earlier epoch or start \
         afresh, with a smaller --lr"
    )))
}

/// Splits off up to `per_class` different recordings of each class, the last ones in file order, to stop training
/// by; never more than a fifth of those of a class. Training sets balanced by oversampling hold copies of a recording:
/// no copy of what is held out stays behind. Returns (training, validation).
pub fn hold_out(recordings: &Recordings, per_class: usize) -> (Recordings, Recordings) {
    // Two recordings with one key are the same but for a chance of 1 in 2^64, and then one is left out in vain.
    let key = |i: usize| {
        let mut hasher = DefaultHasher::new();
        recordings.get(i).iter().for_each(|v| v.to_bits().hash(&mut hasher));
        hasher.finish()
    };
    let keys: Vec<u64> = (0..recordings.len()).map(key).collect();
    let mut held = Vec::new();
    for class in 0..CLASSES as i64 {
        let mut seen = HashSet::new();
        let mut different: Vec<usize> = (0..recordings.len())
            .rev()
            .filter(|&i| recordings.y[i] == class && seen.insert(keys[i]))
            .collect();
        different.truncate(per_class.min(different.len() / 5));
        held.extend(different);
    }
    held.sort_unstable();
    let copies: HashSet<u64> = held.iter().map(|&i| keys[i]).collect();
    let keep: Vec<usize> = (0..recordings.len()).filter(|&i| !copies.contains(&keys[i])).collect();
    (recordings.select(&keep), recordings.select(&held))
}

/// Judges a network on recordings in file order. `look` sees each batch's first index and its logits
/// (B x classes, row-major), and stops the run by returning false.
pub fn evaluate(
    net: &Ann,
    recordings: &Recordings,
    batch_size: usize,
    loss: Loss,
    look: &mut dyn FnMut(usize, &[f32]) -> bool,
) -> Result<Metrics, ModelError> {
    let mut metrics = Metrics::default();
    let indices: Vec<usize> = (0..recordings.len()).collect();
    for batch in indices.chunks(batch_size.max(1)) {
        let x = batch_tensor(recordings, batch, net.device())?;
        let logits = to_vec(&tch::no_grad(|| net.forward(&x, false))?)?;
        let labels: Vec<i64> = batch.iter().map(|&i| recordings.y[i]).collect();
        add_all(&mut metrics, &logits, &labels, loss);
        if !look(batch[0], &logits) {
            return Err(ModelError::Interrupted);
        }
    }
    Ok(metrics)
}

/// Adds a batch of logits, B x classes, to running totals.
pub fn add_all(metrics: &mut Metrics, logits: &[f32], labels: &[i64], loss: Loss) {
    for (row, &label) in logits.chunks_exact(CLASSES).zip(labels) {
        metrics.add(row, label as usize, loss);
    }
}

/// The recordings with these indices as a B x 1 x H x W tensor.
pub fn batch_tensor(
    recordings: &Recordings,
    indices: &[usize],
    device: Device,
) -> Result<Tensor, ModelError> {
    let values: Vec<f32> = indices.iter().flat_map(|&i| recordings.get(i)).copied().collect();
    to_tensor(&values, &[indices.len(), 1, recordings.contacts, recordings.samples], device)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One contact, one sample: recordings are told apart by their value.
    fn recordings(of_class: [&[f32]; CLASSES]) -> Recordings {
        let labelled =
            of_class.iter().enumerate().flat_map(|(class, values)| values.iter().map(move |&v| (v, class)));
        let (x, y) = labelled.map(|(v, class)| (v, class as i64)).unzip();
        Recordings { x, y, contacts: 1, samples: 1 }
    }

    #[test]
    fn no_copy_of_what_is_held_out_is_trained_on() {
        // Ten different ones; ten, each three times; five, one of them often.
        let plain: Vec<f32> = (0..10u8).map(f32::from).collect();
        let thrice: Vec<f32> = (0..30u8).map(|i| f32::from(20 + i % 10)).collect();
        let often = [50.0, 51.0, 52.0, 53.0, 54.0, 54.0, 54.0, 54.0];
        let (train, held) = hold_out(&recordings([&plain, &thrice, &often]), 2);
        assert_eq!(held.x, [8.0, 9.0, 28.0, 29.0, 54.0]);
        assert_eq!(held.y, [0, 0, 1, 1, 2]);
        assert_eq!(train.class_counts(), [8, 24, 4]);
        assert!(train.x.iter().all(|v| !held.x.contains(v)));
        // At most a fifth of the different ones.
        let (_, held) = hold_out(&recordings([&plain, &thrice, &often]), 1000);
        assert_eq!(held.class_counts(), [2, 2, 1]);
    }
}
