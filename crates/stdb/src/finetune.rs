//! Fine-tuning a spiking network, epoch by epoch.
//!
//! Letters: B batch, T timesteps, K classes.

use std::time::Instant;

use escape_checkpoint::{Checkpoint, Value};
use escape_data::Recordings;
use escape_dense::Dense;
use escape_model::ModelError;
use escape_model::ann::{to_tensor, to_vec};
use escape_model::distill::Teacher;
use escape_model::optim::{Optimizer, Rule, Schedule};
use escape_model::prune::Held;
use escape_model::train::{
    Balance, EpochResult, Event, History, check_loss, class_weights, order, tell_one_class,
};
use escape_model::watch::layers::{LayerStep, LayerWatch};
use escape_model::watch::{Trouble, Watch};
use escape_network::metrics::{Loss, Metrics};
use escape_snn_core::encode::{Encoder, Encoding};
use escape_snn_core::evaluate::{Evaluation, Labelled, evaluate};
use escape_snn_core::network::SpikingNetwork;
use escape_snn_core::neuron::{Firing, Neuron};
use escape_snn_core::random::TorchGenerator;
use escape_snn_core::stored;
use tch::{Device, Tensor};

use crate::bptt::{Gradients, Trainable};
use crate::surrogate::Surrogate;

/// How to fine-tune.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Update rule.
    pub rule: Rule,
    /// Recordings a step.
    pub batch_size: usize,
    /// Timesteps.
    pub steps: usize,
    /// Input.
    pub encoding: Encoding,
    /// What stands in for a spike's derivative.
    pub surrogate: Surrogate,
    /// Whether thresholds are learned too.
    pub learn_thresholds: bool,
    /// Whether decays are learned too.
    pub learn_decays: bool,
    /// Whether each epoch has an order of its own; otherwise file order, and no [`Balance::Sampling`].
    pub shuffle: bool,
    /// What is done about classes of different frequency.
    pub balance: Option<Balance>,
    /// How the learning rate goes.
    pub schedule: Schedule,
    /// What the readout is divided by before the loss judges it; see [`temperature`](crate::temperature).
    pub temperature: f64,
    /// Added to the loss for each million synaptic operations that the spikes of a recording cause; see
    /// [`Trainable::operations_penalty`].
    pub operations_penalty: f64,
    /// Whether weights that are zero in the network that is given stay so, those that were pruned say.
    pub keep_zeros: bool,
    /// Orders the recordings and drives the input.
    pub seed: u64,
}

/// A fine-tuning run: the network and everything needed to continue.
#[derive(Debug)]
pub struct FineTuner {
    trainable: Trainable,
    /// Another network to learn from, whose logits for the training recordings are known.
    teacher: Option<Teacher>,
    optimizer: Optimizer,
    options: Options,
    /// Weights that are to stay zero, layer by layer; empty where none are.
    held: Vec<Held>,
    encoder: Encoder,
    epoch: usize,
    history: History,
    step_losses: Vec<f64>,
    /// Thresholds at the start of the whole training.
    thresholds: Vec<f32>,
    watch: Watch,
    layers: LayerWatch,
}

/// What one update found.
#[derive(Debug)]
pub struct Step {
    /// Readout before the update, B x K.
    pub readout: Vec<f32>,
    /// Mean loss.
    pub loss: f64,
    /// What the layers did, in order.
    pub layers: Vec<LayerStep>,
}

/// Key under which the published generator's state is saved.
const GENERATOR_KEY: &str = "generator";
/// Key of the loss of every step so far.
const LOSSES_KEY: &str = "step_losses";

impl FineTuner {
    /// Starts from a converted network.
    ///
    /// # Errors
    /// Libtorch's: no memory on the device.
    pub fn new(network: SpikingNetwork, options: Options, device: Device) -> Result<Self, ModelError> {
        let encoder = network.rules.encoder(options.encoding, options.seed);
        let learned = options.learn_thresholds || options.learn_decays;
        let thresholds = network.layers.iter().map(|l| l.neuron.threshold()).collect();
        let mut trainable = Trainable::new(network, options.surrogate, learned, device)?;
        let held = held(&trainable, &trainable.network, options.keep_zeros)?;
        trainable.temperature = options.temperature;
        trainable.operations_penalty = options.operations_penalty;
        let optimizer = Optimizer::new(options.rule);
        let (history, watch) = (History::default(), Watch::default());
        Ok(Self {
            trainable,
            teacher: None,
            optimizer,
            options,
            held,
            encoder,
            epoch: 0,
            history,
            step_losses: Vec::new(),
            thresholds,
            watch,
            layers: LayerWatch::default(),
        })
    }

    /// Continues the training that began with `start` from a checkpoint that [`FineTuner::checkpoint`] made; `network`
    /// is the one in it.
    ///
    /// # Errors
    /// The checkpoint holds no fine-tuning of this network.
    pub fn resume(
        start: &SpikingNetwork,
        network: SpikingNetwork,
        options: Options,
        device: Device,
        saved: &Checkpoint,
    ) -> Result<Self, ModelError> {
        let mut tuner = Self::new(network, options, device)?;
        tuner.thresholds = start.layers.iter().map(|l| l.neuron.threshold()).collect();
        tuner.held = held(&tuner.trainable, start, options.keep_zeros)?;
        let state = saved.optimizer.as_ref().ok_or_else(|| {
            ModelError::Data(
                "the checkpoint holds no optimiser state to resume from; start afresh without --resume"
                    .into(),
            )
        })?;
        let count = tuner.constants()?.len() + tuner.trainable.parameters().len();
        tuner.optimizer = Optimizer::from_value(options.rule, state, count, device)?;
        tuner.epoch = saved.epoch.unwrap_or(0).max(0) as usize;
        tuner.history = History::of(saved)?;
        let extra = |key: &str| saved.extra.iter().find(|e| e.0 == key).map(|e| &e.1);
        if let Some(losses) = extra(LOSSES_KEY).and_then(Value::items) {
            tuner.step_losses = losses.iter().filter_map(Value::as_f64).collect();
        }
        if let (Encoder::PublishedPoisson(generator), Some(Value::List(words))) =
            (&mut tuner.encoder, extra(GENERATOR_KEY))
        {
            let words: Vec<i64> = words.iter().filter_map(Value::as_i64).collect();
            *generator = TorchGenerator::restore(&words).ok_or_else(|| {
                ModelError::Data(
                    "the checkpoint's generator state is damaged; start afresh without --resume".into(),
                )
            })?;
        }
        tuner.expect();
        Ok(tuner)
    }

    /// Learns from a teacher from now on.
    pub fn learn_from(&mut self, teacher: Option<Teacher>) {
        self.teacher = teacher;
    }

    /// Epochs done.
    pub fn epoch(&self) -> usize {
        self.epoch
    }

    /// What every epoch came to.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// Loss of every step of the training so far.
    pub fn step_losses(&self) -> &[f64] {
        &self.step_losses
    }

    /// The network as it is now.
    ///
    /// # Errors
    /// Libtorch's.
    pub fn network(&self) -> Result<SpikingNetwork, ModelError> {
        self.trainable.snapshot()
    }

    /// One update on the recordings with these indices, the learning rate scaled by `factor`.
    ///
    /// # Errors
    /// The loss or a gradient is no finite number, libtorch's, or no memory.
    pub fn step(&mut self, train: &Recordings, batch: &[usize], factor: f64) -> Result<Step, ModelError> {
        let x: Vec<f32> = batch.iter().flat_map(|&i| train.get(i)).copied().collect();
        let labels: Vec<i64> = batch.iter().map(|&i| train.y[i]).collect();
        // An epoch is a new set of draws: a keyed encoder gets a key of its own for each.
        let mut fresh = match self.encoder {
            Encoder::Poisson { .. } => {
                Some(Encoder::Poisson { seed: self.options.seed ^ ((self.epoch as u64 + 1) << 32) })
            }
            _ => None,
        };
        let encoder = fresh.as_mut().unwrap_or(&mut self.encoder);
        let taught = self.teacher.as_ref().map(|teacher| (teacher.of(batch), teacher.how));
        let taught = taught.as_ref().map(|(logits, how)| (&logits[..], *how));
        let found =
            self.trainable.taught_gradients(&x, &labels, taught, batch, encoder, self.options.steps)?;
        check_loss(found.loss, self.epoch + 1)?;
        let layers = self.layers_of(&found)?;
        if let Some(layer) = layers.iter().find(|layer| !layer.gradient.is_finite()) {
            return Err(ModelError::Data(format!(
                "training diverged: expected a finite gradient, the norm of {}'s is {} in epoch {}; start afresh in another \
                 folder with a smaller --lr, from the best epoch's checkpoint if there is one",
                layer.name,
                layer.gradient,
                self.epoch + 1
            )));
        }
        let learned = self.constants()?;
        let mut gradients: Vec<Tensor> = found.weights;
        for (constant, _) in &learned {
            let (k, is_threshold) = *constant;
            let g = &found.neurons[k];
            let value = if is_threshold { g.threshold } else { g.decay };
            gradients.push(to_tensor(&[value as f32], &[1], Device::Cpu)?);
        }
        let parameters: Vec<&Tensor> =
            self.trainable.parameters().into_iter().chain(learned.iter().map(|l| &l.1)).collect();
        self.optimizer.step(&parameters, &gradients, factor)?;
        self.held.iter_mut().try_for_each(Held::restore)?;
        for ((k, is_threshold), value) in learned {
            let value = to_vec(&value)?[0];
            let layer = &mut self.trainable.network.layers[k];
            let (threshold, decay) = (layer.neuron.threshold(), layer.neuron.decay());
            let changed = match is_threshold {
                // A step too far must not leave a neuron that fires without input.
                true => Neuron::new(value.max(threshold * 0.5), decay),
                false => Neuron::new(threshold, value.clamp(0.0, 1.0)),
            };
            layer.neuron = changed.map_err(|error| {
                ModelError::Data(format!("{}: {error}; the training diverged, lower --lr", layer.shape.name))
            })?;
        }
        self.step_losses.push(found.loss);
        Ok(Step { readout: found.readout, loss: found.loss, layers })
    }

    /// What the layers did in a batch. The readout's neurons are not judged: that they fire says nothing of what is learned.
    fn layers_of(&self, found: &Gradients) -> Result<Vec<LayerStep>, ModelError> {
        let network = &self.trainable.network;
        let delayed = network.rules.firing == Firing::BeforeInput;
        let steps = self.options.steps as u64;
        let mut weights = found.weights.iter();
        let mut layers = Vec::new();
        for (k, (layer, synapses)) in network.layers.iter().zip(&self.trainable.synapses).enumerate() {
            let norm = weights.next().map(|g| g.f_norm()?.f_double_value(&[])).transpose()?;
            if synapses.bias.is_some() {
                weights.next();
            }
            // Of the first steps nothing has arrived where each layer adds one of delay.
            let empty = if delayed { (k as u64 + 1).min(steps) } else { 0 };
            let activity = found.neurons[k].activity;
            layers.push(LayerStep {
                name: layer.shape.name.clone(),
                decisions: activity.decisions / steps.max(1) * (steps - empty),
                spikes: activity.spikes,
                open: activity.open,
                gradient: norm.unwrap_or(0.0),
                before: self.thresholds[k],
                now: layer.neuron.threshold(),
            });
        }
        Ok(layers)
    }

    /// The learned constants: (layer, whether it is a threshold) and value. The clean readout has none.
    #[allow(clippy::type_complexity)]
    fn constants(&self) -> Result<Vec<((usize, bool), Tensor)>, ModelError> {
        let network = &self.trainable.network;
        let count = network.rules.firing_layers(network.layers.len());
        let mut list = Vec::new();
        for (is_threshold, learned) in
            [(true, self.options.learn_thresholds), (false, self.options.learn_decays)]
        {
            if !learned {
                continue;
            }
            for (k, layer) in network.layers[..count].iter().enumerate() {
                let value = if is_threshold { layer.neuron.threshold() } else { layer.neuron.decay() };
                list.push(((k, is_threshold), to_tensor(&[value], &[1], Device::Cpu)?));
            }
        }
        Ok(list)
    }

    /// Judges the network as it was given, as epoch 0: it is the best until an epoch beats it.
    ///
    /// # Errors
    /// [`ModelError::Interrupted`] where `tick` returned false, or libtorch's.
    pub fn judge_input(
        &mut self,
        judges: &Recordings,
        tick: &mut dyn FnMut(Event) -> bool,
    ) -> Result<(EpochResult, Evaluation), ModelError> {
        let start = Instant::now();
        let found = self.evaluate(judges, tick)?;
        let result = self.history.add(0, None, &found.last(), start, true);
        self.expect();
        Ok((result, found))
    }

    /// What the next epoch should keep up.
    fn expect(&mut self) {
        if let Some(best) = self.history.best() {
            self.watch.expect(best.test_loss, best.test_balanced_accuracy);
        }
    }

    /// Trains on every recording once, but takes no more than `limit` steps, then judges the recordings
    /// `judges`. `tick` hears what happens and stops the run by returning false.
    ///
    /// # Errors
    /// [`ModelError::Interrupted`] where `tick` returned false, nothing to train on or to judge by, or libtorch's.
    pub fn run_epoch(
        &mut self,
        train: &Recordings,
        judges: &Recordings,
        limit: Option<usize>,
        tick: &mut dyn FnMut(Event) -> bool,
    ) -> Result<EpochResult, ModelError> {
        let start = Instant::now();
        let epoch = self.epoch + 1;
        let order = if self.options.shuffle {
            order(&train.y, self.options.balance, self.options.seed, self.epoch)
        } else {
            (0..train.len()).collect()
        };
        self.trainable.class_weights = match self.options.balance {
            Some(Balance::Weights) => Some(class_weights(&train.y, self.trainable.network.classes())),
            _ => None,
        };
        let mut metrics = Metrics::default();
        // Sum of the losses, and of what each counts.
        let mut loss = (0.0, 0.0);
        let scale = self.trainable.network.rules.loss_scale.factor(self.options.steps);
        let batches = order.chunks(self.options.batch_size.max(1));
        let steps = batches.len();
        let seen = limit.map_or(train.len(), |n| n.saturating_mul(self.options.batch_size).min(train.len()));
        self.watch.epoch_of(seen);
        for (i, batch) in batches.take(limit.unwrap_or(usize::MAX)).enumerate() {
            let factor = self.options.schedule.factor(self.epoch, i, steps);
            let Step { readout, loss: batch_loss, layers } = self.step(train, batch, factor)?;
            let labels: Vec<i64> = batch.iter().map(|&i| train.y[i]).collect();
            let share = match &self.trainable.class_weights {
                None => batch.len() as f64,
                Some(weights) => labels.iter().map(|&y| f64::from(weights[y as usize])).sum(),
            };
            loss = (loss.0 + batch_loss * share, loss.1 + share);
            for (row, &label) in readout.chunks_exact(self.trainable.network.classes()).zip(&labels) {
                let judged: Vec<f32> = row.iter().map(|v| v * scale).collect();
                metrics.add(&judged, label as usize, Loss::CrossEntropy);
            }
            let mut troubles = self.watch.batch((epoch, i + 1), batch_loss, &readout, &labels);
            for (k, trouble) in self.layers.step(layers) {
                let layer = self.trainable.network.layers[k].shape.name.clone();
                troubles.push(Trouble::Layer { epoch, step: i + 1, layer, trouble });
            }
            troubles.iter().for_each(|trouble| {
                tick(Event::Trouble(trouble));
            });
            if !tick(Event::Trained(batch.len())) {
                return Err(ModelError::Interrupted);
            }
        }
        let judged = self.evaluate(judges, tick)?.last();
        tell_one_class(epoch, &judged, &self.trainable.network.network, tick);
        self.epoch = epoch;
        let train = Some((loss.0 / loss.1, metrics.accuracy()));
        let result = self.history.add(epoch, train, &judged, start, true);
        self.expect();
        Ok(result)
    }

    /// Judges recordings with the network as it is now. Its random numbers start from the seed every time,
    /// so that epochs compare, and the training's run on undisturbed.
    ///
    /// # Errors
    /// [`ModelError::Interrupted`] where `tick` returned false, or libtorch's.
    pub fn evaluate(
        &self,
        recordings: &Recordings,
        tick: &mut dyn FnMut(Event) -> bool,
    ) -> Result<Evaluation, ModelError> {
        let network = self.network()?;
        let mut encoder = network.rules.encoder(self.options.encoding, self.options.seed);
        let engine = Dense::new(network, self.options.encoding, self.trainable.device())?;
        let Options { steps, batch_size, .. } = self.options;
        let recordings = Labelled { x: &recordings.x, y: &recordings.y };
        evaluate(&engine, recordings, &mut encoder, steps, batch_size, &mut |n| tick(Event::Judged(n)))
    }

    /// The study's dictionary as of now; with the optimiser's state it can be resumed from.
    ///
    /// # Errors
    /// As [`FineTuner::network`].
    pub fn checkpoint(&self, with_optimizer: bool) -> Result<Checkpoint, ModelError> {
        let mut checkpoint =
            stored::to_checkpoint(&self.network()?, self.options.encoding, self.options.steps);
        checkpoint.accuracy = self.history.epochs().last().map(|e| e.test_accuracy);
        checkpoint.epoch = Some(self.epoch as i64);
        checkpoint.activation = Some(self.options.surrogate.activation().into());
        checkpoint.extra.extend(self.history.entries());
        if with_optimizer {
            checkpoint.optimizer = Some(self.optimizer.to_value()?);
            let losses = self.step_losses.iter().copied().map(Value::Float).collect();
            checkpoint.extra.push((LOSSES_KEY.into(), Value::List(losses)));
            if let Encoder::PublishedPoisson(generator) = &self.encoder {
                let words = generator.save().into_iter().map(Value::Int).collect();
                checkpoint.extra.push((GENERATOR_KEY.into(), Value::List(words)));
            }
        }
        Ok(checkpoint)
    }
}

/// The weights that are to stay zero: those that are zero in the network that the training began with.
fn held(trainable: &Trainable, start: &SpikingNetwork, keep_zeros: bool) -> Result<Vec<Held>, ModelError> {
    let layers = trainable.synapses.iter().zip(&start.layers).filter(|_| keep_zeros);
    layers.map(|(synapses, layer)| Held::zeros_of(&synapses.weight, &layer.weights)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use escape_checkpoint::description;
    use escape_snn_core::network::SpikingLayer;
    use escape_snn_core::rules::{Preset, Rules};

    const SMALL: &str = "
input: [1, 6, 8]
layers:
  - {type: conv2d, name: a, out: 4, kernel: 3, padding: 1}
  - {type: relu}
  - {type: flatten}
  - {type: linear, name: b, out: 12}
  - {type: relu}
  - {type: linear, name: c, out: 3}
";

    /// A network every third of whose weights is zero.
    fn network(rules: Rules) -> SpikingNetwork {
        let network = description::parse("small", SMALL).unwrap();
        let weight = |i: usize| if i.is_multiple_of(3) { 0.0 } else { (i as f32 * 0.77).sin() * 0.5 };
        let layers = network.stages().unwrap().into_iter().map(|shape| {
            let weights = (0..shape.weights()).map(weight).collect::<Vec<f32>>().into();
            SpikingLayer { shape, weights, bias: Vec::new(), neuron: Neuron::new(0.3, 1.0).unwrap() }
        });
        SpikingNetwork { rules, layers: layers.collect(), network }
    }

    fn recordings() -> Recordings {
        Recordings {
            x: (0..24 * 48).map(|i| (i as f32 * 0.31).sin()).collect(),
            y: (0..24).map(|i| i % 3).collect(),
            contacts: 6,
            samples: 8,
        }
    }

    fn options(rule: Rule, keep_zeros: bool) -> Options {
        Options {
            rule,
            batch_size: 5,
            steps: 3,
            encoding: Encoding::Poisson,
            surrogate: Surrogate::DEFAULT,
            learn_thresholds: true,
            learn_decays: false,
            shuffle: true,
            balance: None,
            schedule: Schedule::Constant,
            temperature: 1.0,
            operations_penalty: 0.0,
            keep_zeros,
            seed: 1,
        }
    }

    fn run(tuner: &mut FineTuner, epochs: usize) {
        let data = recordings();
        for _ in 0..epochs {
            tuner.run_epoch(&data, &data, None, &mut |_| true).unwrap();
        }
    }

    /// Which weights are zero, layer by layer.
    fn zeros(network: &SpikingNetwork) -> Vec<Vec<bool>> {
        network.layers.iter().map(|l| l.weights.iter().map(|w| *w == 0.0).collect()).collect()
    }

    #[test]
    fn zeros_stay_where_they_are_to_and_are_learned_otherwise() {
        for rules in [Preset::Default.rules(), Preset::Published.rules()] {
            for (tensors, rule) in [
                (false, Rule::adam(0.01)),
                (true, Rule::adam(0.01)),
                (false, Rule::sgd(0.1)),
                (true, Rule::sgd(0.1)),
            ] {
                let given = network(rules);
                let tuned = |keep_zeros: bool| {
                    let mut tuner =
                        FineTuner::new(given.clone(), options(rule, keep_zeros), Device::Cpu).unwrap();
                    tuner.trainable.tensor_neurons = tensors;
                    run(&mut tuner, 2);
                    tuner.network().unwrap()
                };
                let (kept, learned) = (tuned(true), tuned(false));
                assert_eq!(zeros(&kept), zeros(&given), "{rules:?}, tensors {tensors}, {rule:?}");
                for (k, layer) in kept.layers.iter().enumerate() {
                    assert!(*layer.weights != *given.layers[k].weights, "layer {k} was not trained");
                }
                assert_ne!(zeros(&learned), zeros(&given), "{rules:?}, tensors {tensors}, {rule:?}");
            }
        }
    }

    #[test]
    fn a_resumed_training_keeps_the_zeros_of_the_network_that_was_given() {
        let given = network(Preset::Default.rules());
        let options = options(Rule::adam(0.01), true);
        let mut whole = FineTuner::new(given.clone(), options, Device::Cpu).unwrap();
        run(&mut whole, 2);
        let mut first = FineTuner::new(given.clone(), options, Device::Cpu).unwrap();
        run(&mut first, 1);
        let mut now = first.network().unwrap();
        // A weight that became zero by chance is none of them.
        now.layers[1].weights[1] = 0.0;
        let saved = first.checkpoint(true).unwrap();
        let resumed = FineTuner::resume(&given, now, options, Device::Cpu, &saved).unwrap();
        let zeros = zeros(&given).iter().flatten().filter(|zero| **zero).count();
        let held = |tuner: &FineTuner| tuner.held.iter().map(|held| held.held().unwrap()).sum::<usize>();
        assert_eq!((held(&resumed), held(&whole)), (zeros, zeros));
        let now = first.network().unwrap();
        let mut resumed = FineTuner::resume(&given, now, options, Device::Cpu, &saved).unwrap();
        run(&mut resumed, 1);
        let [a, b] = [&whole, &resumed].map(|tuner| tuner.network().unwrap());
        assert!(a.layers.iter().zip(&b.layers).all(|(a, b)| *a.weights == *b.weights));
    }
}
