//! Training an artificial network, epoch by epoch.

use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::str::FromStr;
use std::time::Instant;

use escape_data::Recordings;
use tch::{Device, Kind, Reduction, Tensor};

use crate::ModelError;
use crate::ann::{Ann, to_tensor, to_vec};
use crate::distill::Teacher;
use crate::optim::{Optimizer, Rule, Schedule};
use crate::prune::{Pruner, Pruning};
use crate::rounding::{Rounding, RoundingBits};
use crate::watch::{Trouble, Watch};
use escape_checkpoint::{Checkpoint, Value, describe};
use escape_network::metrics::{Loss, Metrics};
use escape_network::sequential::Sequential;
use escape_network::shuffle::{balanced, permutation};

/// How a training makes up for classes of different frequency.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Balance {
    /// Each recording's loss is weighted by N / (K n), n the recordings of its class; a batch's loss is the weighted
    /// mean, as PyTorch's.
    Weights,
    /// Each epoch draws as many recordings as there are, every class equally often.
    Sampling,
}

impl fmt::Display for Balance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Weights => "weights",
            Self::Sampling => "sampling",
        })
    }
}

impl FromStr for Balance {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "weights" => Ok(Self::Weights),
            "sampling" => Ok(Self::Sampling),
            _ => Err(format!("unknown balance '{text}': expected weights or sampling")),
        }
    }
}

/// The weight of each of `classes` classes, N / (K n) for n of N recordings with these labels and K classes that occur; 0 for
/// a class that does not.
pub fn class_weights(labels: &[i64], classes: usize) -> Vec<f32> {
    let counts = class_counts(labels, classes);
    let occurring = counts.iter().filter(|&&n| n > 0).count();
    let weight = |&n: &usize| if n == 0 { 0.0 } else { labels.len() as f32 / (occurring * n) as f32 };
    counts.iter().map(weight).collect()
}

/// How many of the labels are of each of `classes` classes.
fn class_counts(labels: &[i64], classes: usize) -> Vec<usize> {
    let mut counts = vec![0; classes];
    labels.iter().filter_map(|&label| usize::try_from(label).ok()).for_each(|class| {
        if let Some(count) = counts.get_mut(class) {
            *count += 1;
        }
    });
    counts
}

/// How to train.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Update rule.
    pub rule: Rule,
    /// Recordings a step.
    pub batch_size: usize,
    /// What is minimised.
    pub loss: Loss,
    /// What is done about classes of different frequency.
    pub balance: Option<Balance>,
    /// Stop after this many epochs without a new best accuracy.
    pub patience: Option<usize>,
    /// How the learning rate goes.
    pub schedule: Schedule,
    /// The network computes with so few bits, and learns to; see [`rounding`](crate::rounding).
    pub rounding: Option<RoundingBits>,
    /// Weights become zero while it is trained; see [`prune`](crate::prune).
    pub pruning: Option<Pruning>,
    /// Orders the recordings and drives dropout.
    pub seed: u64,
}

/// What a training tells while an epoch runs.
#[derive(Debug)]
pub enum Event<'a> {
    /// So many more recordings were trained on.
    Trained(usize),
    /// So many more were judged; a part of one where its simulation takes many steps.
    Judged(f64),
    /// Something goes wrong.
    Trouble(&'a Trouble),
}

/// What one epoch came to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EpochResult {
    /// Number of the epoch, from 1; 0 is the network as it was given.
    pub epoch: usize,
    /// Mean of what was minimised over the training recordings, as they were trained on; none at epoch 0.
    pub train_loss: Option<f64>,
    /// Accuracy likewise.
    pub train_accuracy: Option<f64>,
    /// Mean loss on the held-out recordings.
    pub test_loss: f64,
    /// Accuracy on the held-out recordings.
    pub test_accuracy: f64,
    /// Balanced accuracy likewise.
    pub test_balanced_accuracy: f64,
    /// Macro F1 likewise.
    pub test_macro_f1: f64,
    /// Wall-clock seconds.
    pub seconds: f64,
    /// Whether the held-out accuracy is the best so far, among the epochs that may be kept.
    pub is_best: bool,
}

/// What a training has come to so far, epoch by epoch. It is saved with the network, so that the table of epochs
/// follows from the state and never runs ahead of it.
#[derive(Clone, Debug, Default)]
pub struct History {
    epochs: Vec<EpochResult>,
    /// How many of them, the first ones, may not be kept: what they left was not pruned to the end.
    unfinished: usize,
}

/// Keys of the history in a checkpoint, and of how many of its epochs may not be kept, if any.
const HISTORY_KEY: &str = "history";
const UNFINISHED_KEY: &str = "unfinished_epochs";

impl History {
    /// All epochs so far.
    pub fn epochs(&self) -> &[EpochResult] {
        &self.epochs
    }

    /// How many of them, the first ones, may not be kept: what they left was not pruned to the end.
    pub fn unfinished(&self) -> usize {
        self.unfinished
    }

    /// The epoch of the highest accuracy among those that may be kept, the earliest of equal ones.
    pub fn best(&self) -> Option<&EpochResult> {
        self.epochs.iter().rfind(|e| e.is_best)
    }

    /// Adds an epoch that was judged just now, `train` its loss and accuracy in training. Where its network is not `finished`,
    /// neither it nor any before it may be kept.
    pub fn add(
        &mut self,
        epoch: usize,
        train: Option<(f64, f64)>,
        judged: &Metrics,
        start: Instant,
        finished: bool,
    ) -> EpochResult {
        let result = EpochResult {
            epoch,
            train_loss: train.map(|t| t.0),
            train_accuracy: train.map(|t| t.1),
            test_loss: judged.loss(),
            test_accuracy: judged.accuracy(),
            test_balanced_accuracy: judged.balanced_accuracy(),
            test_macro_f1: judged.macro_f1(),
            seconds: start.elapsed().as_secs_f64(),
            is_best: finished && self.best().is_none_or(|best| judged.accuracy() > best.test_accuracy),
        };
        self.epochs.push(result);
        if !finished {
            self.unfinished = self.epochs.len();
        }
        result
    }

    /// What a checkpoint keeps of it.
    pub fn entries(&self) -> Vec<(String, Value)> {
        let number = |x: Option<f64>| x.map_or(Value::None, Value::Float);
        let row = |e: &EpochResult| {
            let numbers = [
                e.train_loss,
                e.train_accuracy,
                Some(e.test_loss),
                Some(e.test_accuracy),
                Some(e.test_balanced_accuracy),
                Some(e.test_macro_f1),
                Some(e.seconds),
            ];
            Value::List(std::iter::once(Value::Int(e.epoch as i64)).chain(numbers.map(number)).collect())
        };
        let mut entries = Vec::new();
        if let Some(best) = self.best() {
            entries.push(("best_epoch".to_string(), Value::Int(best.epoch as i64)));
            entries.push(("best_accuracy".to_string(), Value::Float(best.test_accuracy)));
        }
        if self.unfinished > 0 {
            entries.push((UNFINISHED_KEY.to_string(), Value::Int(self.unfinished as i64)));
        }
        entries.push((HISTORY_KEY.to_string(), Value::List(self.epochs.iter().map(row).collect())));
        entries
    }

    /// Reads what [`History::entries`] gave.
    ///
    /// # Errors
    /// The checkpoint holds none, or a damaged one.
    pub fn of(saved: &Checkpoint) -> Result<Self, ModelError> {
        let odd = || {
            ModelError::Data(
                "the checkpoint holds no sound history of its training to resume from; start afresh without --resume"
                    .into(),
            )
        };
        let entry = |key: &str| saved.extra.iter().find(|e| e.0 == key).map(|e| &e.1);
        let rows = entry(HISTORY_KEY).and_then(Value::items).ok_or_else(odd)?;
        let mut history = Self::default();
        if let Some(unfinished) = entry(UNFINISHED_KEY) {
            let unfinished = unfinished.as_i64().and_then(|n| usize::try_from(n).ok());
            history.unfinished = unfinished.filter(|n| *n <= rows.len()).ok_or_else(odd)?;
        }
        for row in rows {
            let [epoch, train_loss, train_accuracy, rest @ ..] = row.items().ok_or_else(odd)? else {
                return Err(odd());
            };
            let rest: Vec<f64> = rest.iter().filter_map(Value::as_f64).collect();
            let ([test_loss, test_accuracy, balanced, f1, seconds], Some(epoch)) =
                (&rest[..], epoch.as_i64())
            else {
                return Err(odd());
            };
            let finished = history.epochs.len() >= history.unfinished;
            let is_best = finished && history.best().is_none_or(|best| *test_accuracy > best.test_accuracy);
            history.epochs.push(EpochResult {
                epoch: usize::try_from(epoch).map_err(|_| odd())?,
                train_loss: train_loss.as_f64(),
                train_accuracy: train_accuracy.as_f64(),
                test_loss: *test_loss,
                test_accuracy: *test_accuracy,
                test_balanced_accuracy: *balanced,
                test_macro_f1: *f1,
                seconds: *seconds,
                is_best,
            });
        }
        Ok(history)
    }
}

/// A training run: the network and everything needed to continue.
#[derive(Debug)]
pub struct Trainer {
    net: Ann,
    /// Another network to learn from, whose logits for the training recordings are known.
    teacher: Option<Teacher>,
    rounding: Option<Rounding>,
    pruner: Option<Pruner>,
    optimizer: Optimizer,
    options: Options,
    epoch: usize,
    history: History,
    watch: Watch,
}

impl Trainer {
    /// Starts training `net`.
    ///
    /// # Errors
    /// A network that cannot be trained with rounded numbers, or has nothing to prune, where that is asked for.
    pub fn new(mut net: Ann, options: Options) -> Result<Self, ModelError> {
        net.require_gradients();
        let optimizer = Optimizer::new(options.rule);
        let (history, watch) = (History::default(), Watch::default());
        let rounding = options.rounding.map(|bits| Rounding::new(&net, bits)).transpose()?;
        let pruner = options.pruning.map(|how| Pruner::new(&net, how)).transpose()?;
        Ok(Self { net, teacher: None, rounding, pruner, optimizer, options, epoch: 0, history, watch })
    }

    /// Continues from a checkpoint that [`Trainer::checkpoint`] made; `net` holds its weights already.
    ///
    /// # Errors
    /// The checkpoint holds no training of this network.
    pub fn resume(net: Ann, options: Options, saved: &Checkpoint) -> Result<Self, ModelError> {
        let mut trainer = Self::new(net, options)?;
        let state = saved.optimizer.as_ref().ok_or_else(|| {
            ModelError::Data(
                "the checkpoint holds no optimiser state to resume from; start afresh without --resume"
                    .into(),
            )
        })?;
        let device = trainer.net.device();
        let count = trainer.net.learned().len() + trainer.rounding.as_ref().map_or(0, Rounding::count);
        trainer.optimizer = Optimizer::from_value(options.rule, state, count, device)?;
        trainer.epoch = saved.epoch.unwrap_or(0).max(0) as usize;
        trainer.history = History::of(saved)?;
        if let Some(rounding) = &mut trainer.rounding {
            rounding.restore(saved, device)?;
        }
        trainer.expect();
        Ok(trainer)
    }

    /// Learns from a teacher from now on.
    pub fn learn_from(&mut self, teacher: Option<Teacher>) {
        self.teacher = teacher;
    }

    /// The network.
    pub fn net(&self) -> &Ann {
        &self.net
    }

    /// Epochs done.
    pub fn epoch(&self) -> usize {
        self.epoch
    }

    /// What every epoch came to.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// Whether the best epoch lies further back than the patience; never before there is one.
    pub fn out_of_patience(&self) -> bool {
        let since = self.history.best().map_or(0, |best| self.epoch - best.epoch);
        self.options.patience.is_some_and(|p| since >= p)
    }

    /// Judges the network as it was given, as epoch 0: it is the best until an epoch beats it.
    ///
    /// # Errors
    /// [`ModelError::Interrupted`] where `tick` returned false, or libtorch's.
    pub fn judge_input(
        &mut self,
        held_out: &Recordings,
        tick: &mut dyn FnMut(Event) -> bool,
    ) -> Result<EpochResult, ModelError> {
        let start = Instant::now();
        let judged = self.judge(held_out, tick)?;
        let result = self.history.add(0, None, &judged, start, self.is_finished()?);
        self.expect();
        Ok(result)
    }

    /// Whether the network is what it is to be, pruned to the end.
    ///
    /// # Errors
    /// libtorch fails.
    pub fn is_finished(&self) -> Result<bool, ModelError> {
        self.pruner.as_ref().map_or(Ok(true), Pruner::is_done)
    }

    fn judge(
        &mut self,
        held_out: &Recordings,
        tick: &mut dyn FnMut(Event) -> bool,
    ) -> Result<Metrics, ModelError> {
        let classes = self.net.network().classes();
        let look = &mut |_: usize, logits: &[f32]| tick(Event::Judged((logits.len() / classes) as f64));
        let (device, loss) = (self.net.device(), self.options.loss);
        evaluate_with(&mut |x| self.forward(x, false), device, held_out, 256, loss, look)
    }

    /// Logits of a batch, by the numbers that the network is to compute with.
    fn forward(&mut self, x: &Tensor, training: bool) -> Result<Tensor, ModelError> {
        match &mut self.rounding {
            None => self.net.forward(x, training),
            Some(rounding) => rounding.forward(&self.net, x, training),
        }
    }

    /// What the next epoch should keep up.
    fn expect(&mut self) {
        if let Some(best) = self.history.best() {
            self.watch.expect(best.test_loss, best.test_balanced_accuracy);
        }
    }

    /// Trains on every recording once, in an order of the epoch's own, then judges the held-out ones.
    /// `tick` hears what happens, and stops the run by returning false.
    ///
    /// # Errors
    /// [`ModelError::Interrupted`] where `tick` returned false, nothing to train on or to judge by, or libtorch's.
    pub fn run_epoch(
        &mut self,
        train: &Recordings,
        held_out: &Recordings,
        tick: &mut dyn FnMut(Event) -> bool,
    ) -> Result<EpochResult, ModelError> {
        let start = Instant::now();
        let device = self.net.device();
        let epoch = self.epoch + 1;
        self.watch.epoch_of(train.len());
        // Dropout draws from libtorch's generator: a resumed epoch must find it where it left it.
        tch::manual_seed((self.options.seed ^ ((self.epoch as u64 + 1) << 32)) as i64);
        let order = order(&train.y, self.options.balance, self.options.seed, self.epoch);
        let weights = match self.options.balance {
            Some(Balance::Weights) => Some(class_weights(&train.y, self.net.network().classes())),
            _ => None,
        };
        let on_device = weights.as_ref().map(|w| Tensor::f_from_slice(w)?.f_to_device(device)).transpose()?;
        let mut metrics = Metrics::default();
        // Sum of the weighted losses, and of the weights.
        let mut weighted = (0.0, 0.0);
        let batches = order.chunks(self.options.batch_size);
        let steps = batches.len();
        if let Some(pruner) = &mut self.pruner {
            pruner.start_epoch()?;
        }
        for (step, batch) in batches.enumerate() {
            let factor = self.options.schedule.factor(self.epoch, step, steps);
            let x = batch_tensor(train, batch, device)?;
            let labels: Vec<i64> = batch.iter().map(|&i| train.y[i]).collect();
            let logits = self.forward(&x, true)?;
            let judged = match self.options.loss {
                Loss::CrossEntropy => logits.f_view_(logits.size())?,
                Loss::SoftmaxCrossEntropy => logits.f_softmax(1, Kind::Float)?,
            };
            let target = Tensor::f_from_slice(&labels)?.f_to_device(device)?;
            let loss =
                judged.f_cross_entropy_loss(&target, on_device.as_ref(), Reduction::Mean, -100, 0.0)?;
            let mixed = match &self.teacher {
                None => loss.shallow_clone(),
                Some(teacher) => {
                    let taught = to_tensor(&teacher.of(batch), &[batch.len(), teacher.classes], device)?;
                    teacher.how.mixed(&loss, &teacher.how.distance(&logits, &taught)?)?
                }
            };
            let mut parameters = self.net.learned();
            parameters.extend(self.rounding.iter().flat_map(Rounding::learned));
            let gradients = Tensor::f_run_backward(&[&mixed], &parameters, false, false)?;
            self.optimizer.step(&parameters, &gradients, factor)?;
            if let Some(pruner) = &mut self.pruner {
                pruner.after_step(self.epoch * steps + step + 1, steps)?;
            }
            let logits = to_vec(&logits)?;
            add_all(&mut metrics, &logits, &labels, self.options.loss);
            check_loss(metrics.loss(), epoch)?;
            let mean = loss.f_double_value(&[])?;
            let share: f64 =
                weights.as_ref().map_or(0.0, |w| labels.iter().map(|&y| f64::from(w[y as usize])).sum());
            weighted = (weighted.0 + mean * share, weighted.1 + share);
            for trouble in self.watch.batch((epoch, step + 1), mean, &logits, &labels) {
                tick(Event::Trouble(&trouble));
            }
            if !tick(Event::Trained(batch.len())) {
                return Err(ModelError::Interrupted);
            }
        }
        let train_loss = if weights.is_some() { weighted.0 / weighted.1 } else { metrics.loss() };
        let judged = self.judge(held_out, tick)?;
        tell_one_class(epoch, &judged, self.net.network(), tick);
        self.epoch = epoch;
        let finished = self.is_finished()?;
        let train = Some((train_loss, metrics.accuracy()));
        let result = self.history.add(epoch, train, &judged, start, finished);
        self.expect();
        Ok(result)
    }

    /// The study's dictionary as of now; with the optimiser's state it can be resumed from.
    ///
    /// # Errors
    /// Libtorch's.
    pub fn checkpoint(&self, with_optimizer: bool) -> Result<Checkpoint, ModelError> {
        let mut extra = self.history.entries();
        extra.extend(self.rounding.as_ref().map(Rounding::entries).transpose()?.into_iter().flatten());
        let mut checkpoint = Checkpoint {
            accuracy: self.history.epochs().last().map(|e| e.test_accuracy),
            epoch: Some(self.epoch as i64),
            weights: self.net.weights()?,
            optimizer: with_optimizer.then(|| self.optimizer.to_value()).transpose()?,
            extra,
            ..Checkpoint::default()
        };
        describe(&mut checkpoint, self.net.network());
        Ok(checkpoint)
    }
}

/// The places of recordings of these classes in the order of an epoch, counted from 0.
pub fn order(labels: &[i64], balance: Option<Balance>, seed: u64, epoch: usize) -> Vec<usize> {
    match balance {
        Some(Balance::Sampling) => balanced(labels, seed, epoch as u64),
        _ => permutation(labels.len(), seed, epoch as u64),
    }
}

/// Tells of an epoch that names one class throughout.
pub fn tell_one_class(
    epoch: usize,
    judged: &Metrics,
    network: &Sequential,
    tick: &mut dyn FnMut(Event) -> bool,
) {
    if let Some(class) = judged.only_class_predicted() {
        let (class, samples) = (network.class_name(class), judged.samples());
        tick(Event::Trouble(&Trouble::OneClass { epoch, class, samples }));
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
        "training diverged: expected a finite loss, got {loss} in epoch {epoch}; start afresh in another folder with a \
         smaller --lr, from the best epoch's checkpoint if there is one"
    )))
}

/// Splits off up to `per_class` different recordings of each class, the last ones in file order, to stop training
/// by; never more than a fifth of those of a class, but one of two. Training sets balanced by oversampling hold copies of a recording:
/// no copy of what is held out stays behind. Returns the places of those to train on and of those to validate by.
pub fn hold_out(recordings: &Recordings, per_class: usize) -> (Vec<usize>, Vec<usize>) {
    // Two recordings with one key are the same but for a chance of 1 in 2^64, and then one is left out in vain.
    let key = |i: usize| {
        let mut hasher = DefaultHasher::new();
        recordings.get(i).iter().for_each(|v| v.to_bits().hash(&mut hasher));
        hasher.finish()
    };
    let keys: Vec<u64> = (0..recordings.len()).map(key).collect();
    let mut held = Vec::new();
    for class in recordings.y.iter().copied().collect::<BTreeSet<i64>>() {
        let mut seen = HashSet::new();
        let mut different: Vec<usize> = (0..recordings.len())
            .rev()
            .filter(|&i| recordings.y[i] == class && seen.insert(keys[i]))
            .collect();
        let most = (different.len() / 5).max(usize::from(different.len() > 1));
        different.truncate(per_class.min(most));
        held.extend(different);
    }
    held.sort_unstable();
    let copies: HashSet<u64> = held.iter().map(|&i| keys[i]).collect();
    ((0..recordings.len()).filter(|&i| !copies.contains(&keys[i])).collect(), held)
}

/// Judges a network on recordings in file order. `look` sees each batch's first index and its logits
/// (B x classes, row-major), and stops the run by returning false.
///
/// # Errors
/// [`ModelError::Interrupted`] where `look` returned false, or libtorch's.
pub fn evaluate(
    net: &Ann,
    recordings: &Recordings,
    batch_size: usize,
    loss: Loss,
    look: &mut dyn FnMut(usize, &[f32]) -> bool,
) -> Result<Metrics, ModelError> {
    let forward = &mut |x: &Tensor| net.forward(x, false);
    evaluate_with(forward, net.device(), recordings, batch_size, loss, look)
}

/// As [`evaluate`], of whatever makes logits of a batch on a device.
///
/// # Errors
/// As [`evaluate`], and those of `forward`.
pub fn evaluate_with(
    forward: &mut dyn FnMut(&Tensor) -> Result<Tensor, ModelError>,
    device: Device,
    recordings: &Recordings,
    batch_size: usize,
    loss: Loss,
    look: &mut dyn FnMut(usize, &[f32]) -> bool,
) -> Result<Metrics, ModelError> {
    let mut metrics = Metrics::default();
    let indices: Vec<usize> = (0..recordings.len()).collect();
    for batch in indices.chunks(batch_size.max(1)) {
        let x = batch_tensor(recordings, batch, device)?;
        let logits = to_vec(&tch::no_grad(|| forward(&x))?)?;
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
    let classes = logits.len() / labels.len().max(1);
    for (row, &label) in logits.chunks_exact(classes.max(1)).zip(labels) {
        metrics.add(row, label as usize, loss);
    }
}

/// The recordings with these indices as a B x 1 x H x W tensor.
///
/// # Errors
/// Libtorch's: no memory on the device.
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
    fn recordings(of_class: [&[f32]; 3]) -> Recordings {
        let labelled =
            of_class.iter().enumerate().flat_map(|(class, values)| values.iter().map(move |&v| (v, class)));
        let (x, y) = labelled.map(|(v, class)| (v, class as i64)).unzip();
        Recordings { x, y, contacts: 1, samples: 1 }
    }

    #[test]
    fn no_copy_of_what_is_held_out_is_trained_on() {
        let split = |all: &Recordings, per_class| {
            let (train, held) = hold_out(all, per_class);
            (all.select(&train), all.select(&held))
        };
        // Ten different ones; ten, each three times; five, one of them often.
        let plain: Vec<f32> = (0..10u8).map(f32::from).collect();
        let thrice: Vec<f32> = (0..30u8).map(|i| f32::from(20 + i % 10)).collect();
        let often = [50.0, 51.0, 52.0, 53.0, 54.0, 54.0, 54.0, 54.0];
        let (train, held) = split(&recordings([&plain, &thrice, &often]), 2);
        assert_eq!(held.x, [8.0, 9.0, 28.0, 29.0, 54.0]);
        assert_eq!(held.y, [0, 0, 1, 1, 2]);
        assert_eq!(train.class_counts(), [8, 24, 4]);
        assert!(train.x.iter().all(|v| !held.x.contains(v)));
        // At most a fifth of the different ones.
        let (_, held) = split(&recordings([&plain, &thrice, &often]), 1000);
        assert_eq!(held.class_counts(), [2, 2, 1]);
        // One of few, and none of one.
        let (train, held) = split(&recordings([&[1.0, 2.0, 3.0], &[4.0, 5.0], &[6.0]]), 1000);
        assert_eq!(train.class_counts(), [2, 1, 1]);
        assert_eq!(held.class_counts(), [1, 1, 0]);
    }

    #[test]
    fn weights_make_up_for_frequencies() {
        let unequal = recordings([&[0.0; 6], &[0.0; 3], &[]]);
        assert_eq!(class_weights(&unequal.y, 3), [0.75, 1.5, 0.0]);
    }

    #[test]
    fn a_history_comes_back_from_a_checkpoint() {
        let judged = |right: usize| {
            let mut metrics = Metrics::default();
            (0..4).for_each(|i| metrics.add(&[1.0, 0.5, 0.0], usize::from(i >= right), Loss::CrossEntropy));
            metrics
        };
        let (mut history, now) = (History::default(), Instant::now());
        assert!(history.add(0, None, &judged(2), now, true).is_best);
        assert!(!history.add(1, Some((0.5, 0.7)), &judged(2), now, true).is_best);
        assert!(history.add(2, Some((f64::NAN, 0.7)), &judged(3), now, true).is_best);
        let saved = Checkpoint { extra: history.entries(), ..Checkpoint::default() };
        let back = History::of(&saved).unwrap();
        assert_eq!(back.epochs()[..2], history.epochs()[..2]);
        assert!(back.epochs()[2].train_loss.unwrap().is_nan());
        assert_eq!(back.best().map(|b| (b.epoch, b.test_accuracy)), Some((2, 0.75)));
        assert!(History::of(&Checkpoint::default()).is_err());
    }

    #[test]
    fn an_epoch_that_is_not_pruned_to_the_end_is_never_the_best() {
        let judged = |right: usize| {
            let mut metrics = Metrics::default();
            (0..4).for_each(|i| metrics.add(&[1.0, 0.5, 0.0], usize::from(i >= right), Loss::CrossEntropy));
            metrics
        };
        let (mut history, now) = (History::default(), Instant::now());
        assert!(!history.add(0, None, &judged(4), now, false).is_best);
        assert!(!history.add(1, Some((0.5, 0.7)), &judged(3), now, false).is_best);
        assert!(history.best().is_none());
        assert!(history.add(2, Some((0.5, 0.7)), &judged(1), now, true).is_best);
        assert!(history.add(3, Some((0.5, 0.7)), &judged(2), now, true).is_best);
        let mut saved = Checkpoint { extra: history.entries(), ..Checkpoint::default() };
        let back = History::of(&saved).unwrap();
        assert_eq!((back.epochs(), back.unfinished), (history.epochs(), 2));
        for entry in saved.extra.iter_mut().filter(|entry| entry.0 == UNFINISHED_KEY) {
            entry.1 = Value::Int(5);
        }
        assert!(History::of(&saved).is_err());
    }
}
