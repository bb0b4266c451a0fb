//! Loss and gradients of a whole spiking network, backpropagated through all timesteps.
//!
//! The forward pass runs each layer through all steps of a part of the batch and stores m over its synaptic currents,
//! unless those are quickly made again (see [`crate::scan`]); the backward pass overwrites m with dL/dI. On the host both follow
//! what is there (`host.rs`): spikes that arrived, and dL/dI that is not zero; on a GPU libtorch computes every synapse, one
//! layer at a time (`tensors.rs`). Parts of the batch are taken one after the other, sized to a memory
//! budget: the mean loss is a sum over samples, so memory does not grow with the batch.
//!
//! Letters: B batch, T timesteps, C channels, H rows, W columns, K classes. Frames are in the order B x T.

mod arrivals;
mod host;
mod order;
mod pooling;
mod readout;
mod synapses;
mod tensors;

use std::sync::OnceLock;

use escape_dense::Synapses;
use escape_model::ModelError;
use escape_model::ann::to_vec;
use escape_model::distill::Distillation;
use escape_network::sequential::{Pool, Pooling};
use escape_snn_core::encode::{Encoder, Encoding};
use escape_snn_core::integer::{IntegerLayer, IntegerNetwork};
use escape_snn_core::network::SpikingNetwork;
use escape_snn_core::neuron::Reset;
use escape_snn_core::rules::{Arithmetic, Rules};
use tch::{Device, Tensor};

use self::arrivals::Order;
use crate::scan::NeuronFindings;
use crate::surrogate::Surrogate;

/// A spiking network whose weights, thresholds and decays can change.
#[derive(Debug)]
pub struct Trainable {
    /// Shapes, rules, and the current constants of its neurons; its weights are those at the start.
    pub network: SpikingNetwork,
    /// Weights and constant currents, in the order of the layers, on the training device. In a network of whole numbers these
    /// are what is learned; the forward pass sees what they are rounded to, and gradients go through the rounding as
    /// if it were not there (the straight-through estimator of Bengio et al., arXiv 1308.3432, 2013).
    pub synapses: Vec<Synapses>,
    /// What stands in for a spike's derivative.
    pub surrogate: Surrogate,
    /// Whether gradients of thresholds and decays are wanted.
    pub neuron_parameters: bool,
    /// What each class's loss counts, if not the same; a batch's loss is then the weighted mean.
    pub class_weights: Option<Vec<f32>>,
    /// What the readout is divided by before the loss judges it, see [`temperature`](crate::temperature).
    pub temperature: f64,
    /// What is added to the loss for each million synaptic operations that the spikes of a recording cause, 0 for nothing. A spike
    /// costs its fan-out, so that layers whose spikes reach many neurons fall silent first; those of a mean's window cost one by one,
    /// although they arrive together. It reaches the gradients, not [`Gradients::loss`].
    pub operations_penalty: f64,
    /// Bytes that a part of the batch may take.
    pub budget: usize,
    /// Computes by libtorch's operations on the CPU too, not by what is there; they are what a CUDA device uses, and rules in
    /// float32 where libtorch adds up in another order than the host, see [`Trainable::sums_as_libtorch`].
    pub tensor_neurons: bool,
    /// The order in which libtorch adds up, once it is asked for.
    order: OnceLock<Option<Order>>,
}

/// What one batch came to.
#[derive(Debug)]
pub struct Gradients {
    /// Mean cross-entropy, weighted if classes are.
    pub loss: f64,
    /// Readout after the last step, B x K.
    pub readout: Vec<f32>,
    /// dL/dW, and dL/db where there is a constant current, in the order of [`Trainable::parameters`].
    pub weights: Vec<Tensor>,
    /// What the neurons did and dL of their constants, layer by layer.
    pub neurons: Vec<NeuronFindings>,
}

/// Bytes that a part of a batch takes unless told otherwise.
pub const DEFAULT_BUDGET: usize = 512 << 20;

/// A part of a batch.
struct Part<'a> {
    /// Frames in the order B x T, each C x H x W; of a constant input one for each recording.
    input: &'a [f32],
    constant: bool,
    labels: &'a [i64],
    /// A teacher's logits for these recordings, B x K, and how they count.
    taught: Option<(&'a [f32], Distillation)>,
    /// The classes of the whole batch.
    whole: &'a [i64],
    steps: usize,
}

/// A network as the forward pass sees it.
struct Seen {
    network: SpikingNetwork,
    /// Where each layer's potentials start, as a fraction of the threshold: one for all its channels, or one for each. A readout's
    /// start at 0.
    starts: Vec<Vec<f32>>,
    /// In whole numbers, if the rules ask for those.
    whole: Option<IntegerNetwork>,
}

/// The way through the network and back: by what is there on the host, or by tensor operations.
trait Pass {
    /// Loss and gradients of a part of a batch.
    fn part(&self, part: &Part<'_>) -> Result<Gradients, ModelError>;
}

/// Makes sure that there is a gradient for a network's rules.
///
/// # Errors
/// In words, that there is none.
pub fn check(rules: &Rules) -> Result<(), String> {
    if rules.reset == Reset::Subtraction && !rules.averaged {
        return Ok(());
    }
    Err(format!(
        "the {} preset resets potentials to zero, which fine-tuning has no gradient for; take the toolbox preset, which resets \
         by subtraction, or the default one",
        rules.preset
    ))
}

impl Trainable {
    /// Makes a network trainable on `device`.
    ///
    /// # Errors
    /// Its rules are not those whose gradient is known, or libtorch could not place the weights there.
    pub fn new(
        network: SpikingNetwork,
        surrogate: Surrogate,
        neuron_parameters: bool,
        device: Device,
    ) -> Result<Self, ModelError> {
        check(&network.rules).map_err(ModelError::Data)?;
        let synapses = learned(&network, device)?;
        let in_float32 = network.rules.arithmetic == Arithmetic::Float32;
        let mut net = Self {
            network,
            synapses,
            surrogate,
            neuron_parameters,
            class_weights: None,
            temperature: 1.0,
            operations_penalty: 0.0,
            budget: DEFAULT_BUDGET,
            tensor_neurons: device.is_cuda(),
            order: OnceLock::new(),
        };
        // In float32 spikes are PyTorch's, whose sums libtorch makes.
        net.tensor_neurons |= in_float32 && !net.sums_as_libtorch();
        Ok(net)
    }

    /// Whether the host can add up the currents of its neurons as libtorch does, to the last bit. Found out by comparing, on this
    /// machine.
    pub fn sums_as_libtorch(&self) -> bool {
        self.order_of_libtorch().is_some()
    }

    fn order_of_libtorch(&self) -> Option<Order> {
        *self.order.get_or_init(|| order::of_libtorch(&self.network))
    }

    /// Where it computes.
    pub fn device(&self) -> Device {
        self.synapses[0].weight.device()
    }

    /// Every weight and constant current, layer by layer.
    pub fn parameters(&self) -> Vec<&Tensor> {
        self.synapses.iter().flat_map(|s| std::iter::once(&s.weight).chain(&s.bias)).collect()
    }

    /// The network with its weights as they are now.
    ///
    /// # Errors
    /// libtorch could not read them back.
    pub fn snapshot(&self) -> Result<SpikingNetwork, ModelError> {
        let mut network = self.network.clone();
        for (layer, Synapses { weight, bias, .. }) in network.layers.iter_mut().zip(&self.synapses) {
            layer.weights = to_vec(weight)?.into();
            layer.bias = bias.as_ref().map(to_vec).transpose()?.unwrap_or_default();
        }
        Ok(network)
    }

    /// The network as whole numbers stand for it, where the rules ask for those.
    fn rounded(&self, encoder: &Encoder, steps: usize) -> Result<Option<Seen>, ModelError> {
        if self.network.rules.arithmetic == Arithmetic::Float32 {
            return Ok(None);
        }
        let mut network = self.snapshot()?;
        let encoding = if encoder.is_direct() { Encoding::Direct } else { Encoding::Poisson };
        let whole =
            IntegerNetwork::new(&network, encoding).map_err(|why| ModelError::Data(why.to_string()))?;
        whole.check_steps(steps).map_err(|why| ModelError::Data(why.to_string()))?;
        whole.write_back(&mut network);
        let starts = whole.layers.iter().map(IntegerLayer::start_fractions).collect();
        Ok(Some(Seen { network, starts, whole: Some(whole) }))
    }

    /// Where each layer's potentials start in real numbers.
    fn starts(&self) -> Vec<Vec<f32>> {
        vec![vec![self.network.rules.start]; self.network.layers.len()]
    }

    /// The way through the network, made ready for one batch.
    fn pass(&self, encoder: &Encoder, steps: usize) -> Result<Box<dyn Pass + '_>, ModelError> {
        let rounded = self.rounded(encoder, steps)?;
        if self.tensor_neurons {
            return Ok(Box::new(tensors::Tensors::new(self, rounded)?));
        }
        let seen = match rounded {
            Some(seen) => seen,
            None => Seen { network: self.snapshot()?, starts: self.starts(), whole: None },
        };
        Ok(Box::new(host::Host::new(self, seen, steps, encoder.is_direct())?))
    }

    /// Loss and gradients of a batch of recordings `x` (B x H x W) with classes `labels`, over `steps`
    /// steps. `indices` are the recordings' places in their file, which keyed encoders draw by.
    ///
    /// # Errors
    /// There is no recording, or one of libtorch's.
    pub fn gradients(
        &self,
        x: &[f32],
        labels: &[i64],
        indices: &[usize],
        encoder: &mut Encoder,
        steps: usize,
    ) -> Result<Gradients, ModelError> {
        self.taught_gradients(x, labels, None, indices, encoder, steps)
    }

    /// As [`Trainable::gradients`], learning from a teacher too: its logits for these recordings, B x K.
    ///
    /// # Errors
    /// As [`Trainable::gradients`].
    pub fn taught_gradients(
        &self,
        x: &[f32],
        labels: &[i64],
        taught: Option<(&[f32], Distillation)>,
        indices: &[usize],
        encoder: &mut Encoder,
        steps: usize,
    ) -> Result<Gradients, ModelError> {
        let shape = self.network.input();
        let pixels = shape.count();
        let pass = self.pass(encoder, steps)?;
        // Drawn for the whole batch at once: the published generator runs over it step by step.
        let direct = encoder.is_direct();
        let input = match encoder {
            Encoder::Poisson { .. } => {
                let each = x.chunks_exact(pixels).zip(indices);
                each.flat_map(|(x, &i)| encoder.encode(x, pixels, i, 0, steps)).collect()
            }
            _ => encoder.encode(x, pixels, 0, 0, steps),
        };
        let per_recording = if direct { pixels } else { pixels * steps };
        let input = match self.network.rules.arithmetic {
            Arithmetic::Integer(precision) if direct => precision.rounded(&input),
            _ => input,
        };
        let mut total: Option<Gradients> = None;
        let size = self.part_size(steps, direct);
        let classes = self.network.classes();
        for (i, (input, part_labels)) in
            input.chunks(size * per_recording).zip(labels.chunks(size)).enumerate()
        {
            let taught = taught
                .map(|(logits, how)| (&logits[i * size * classes..][..part_labels.len() * classes], how));
            let found = pass.part(&Part {
                input,
                constant: direct,
                labels: part_labels,
                taught,
                whole: labels,
                steps,
            })?;
            total = Some(match total {
                None => found,
                Some(sum) => sum.plus(found)?,
            });
        }
        total.ok_or_else(|| ModelError::Data("a training step needs at least one recording".into()))
    }

    /// What the penalty on operations adds to the gradient of every frame that arrives at a layer, pixel by pixel, in a batch of so
    /// many recordings; one value for all of a linear layer.
    fn penalties(&self, layer: usize, batch: usize) -> Option<Vec<f32>> {
        // What a spike of the layer below is in its frame.
        let below = self.network.planes(layer - 1).1;
        let share = match below.pool {
            Some(Pool { pooling: Pooling::Max, .. }) => 1.0,
            _ => below.share,
        };
        let each = self.operations_penalty / 1e6 / batch as f64 / f64::from(share);
        let fan_out = || self.network.layers[layer].shape.fan_out();
        (self.operations_penalty > 0.0)
            .then(|| fan_out().into_iter().map(|reached| (f64::from(reached) * each) as f32).collect())
    }

    /// Recordings a part: as many as the budget holds, at least one for each thread.
    fn part_size(&self, steps: usize, constant_input: bool) -> usize {
        let values: usize = (0..self.network.layers.len())
            .map(|k| {
                let (channels, plane) = self.network.planes(k);
                let times = match (k, self.tensor_neurons) {
                    // On the host the first layer's are made again.
                    (0, false) => 0,
                    (0, true) if constant_input => 1,
                    _ => steps,
                };
                // Currents, outgoing frames and the gradient of either of them.
                channels * (times * plane.neurons() + 2 * steps * plane.padded_len())
            })
            .sum();
        (self.budget / (values * size_of::<f32>())).max(rayon::current_num_threads())
    }
}

/// A network's synapses on a device, for which gradients can be had.
fn learned(network: &SpikingNetwork, device: Device) -> Result<Vec<Synapses>, ModelError> {
    let mut synapses =
        network.layers.iter().map(|l| Synapses::new(l, device)).collect::<Result<Vec<_>, _>>()?;
    for Synapses { weight, bias, .. } in &mut synapses {
        *weight = weight.set_requires_grad(true);
        *bias = bias.as_ref().map(|bias| bias.set_requires_grad(true));
    }
    Ok(synapses)
}

impl Gradients {
    /// Sums two parts of one batch.
    fn plus(mut self, other: Self) -> Result<Self, ModelError> {
        self.loss += other.loss;
        self.readout.extend(other.readout);
        for (sum, more) in self.weights.iter_mut().zip(&other.weights) {
            let _ = sum.f_add_(more)?;
        }
        for (sum, more) in self.neurons.iter_mut().zip(other.neurons) {
            *sum += more;
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use escape_model::ann::Ann;
    use escape_network::arch::Architecture;
    use escape_network::family::Family;
    use escape_snn_core::network::SpikingLayer;
    use escape_snn_core::neuron::Neuron;
    use escape_snn_core::rules::Preset;

    /// An untrained network with thresholds low enough that every layer fires.
    fn trainable(preset: Preset) -> Trainable {
        let network = Family::published(Architecture::Modified).network(56, 100).unwrap();
        let stages = network.stages().unwrap();
        let ann = Ann::new(network, 3, Device::Cpu).unwrap();
        // Weights and recordings in steps of a power of two: sums are exact and do not depend on the batch.
        let exact = |w: f32| (w * 4096.0).round() / 4096.0;
        let layers = stages.into_iter().zip(ann.parameters()).map(|(stage, (_, weight))| {
            let neuron = Neuron::new(0.0625, 1.0).unwrap();
            SpikingLayer {
                shape: stage,
                weights: to_vec(weight).unwrap().into_iter().map(exact).collect::<Vec<_>>().into(),
                bias: Vec::new(),
                neuron,
            }
        });
        let layers = layers.collect();
        let rules = Rules { arithmetic: Arithmetic::Float32, ..preset.rules() };
        let network = SpikingNetwork { rules, network: ann.network().clone(), layers };
        Trainable::new(network, Surrogate::DEFAULT, false, Device::Cpu).unwrap()
    }

    #[test]
    fn the_gradient_of_a_weighted_loss_is_its_slope() {
        for preset in [Preset::Default, Preset::Published] {
            let mut net = trainable(preset);
            for weights in [None, Some(vec![0.5, 1.5, 3.0])] {
                net.class_weights.clone_from(&weights);
                let (values, labels, steps) =
                    ([0.3, -1.2, 0.8, 1.1, 0.4, -0.5, -0.9, 0.2, 1.7], [0i64, 2, 1], 2);
                let whole = [0i64, 2, 1, 1, 0];
                let at = |values: &[f32]| net.judge(values, &labels, None, &whole, steps).unwrap().0;
                let (_, gradient) = net.judge(&values, &labels, None, &whole, steps).unwrap();
                for i in 0..values.len() {
                    let moved = |by: f32| {
                        let mut values = values;
                        values[i] += by;
                        at(&values)
                    };
                    let slope = (moved(0.02) - moved(-0.02)) / 0.04;
                    let got = f64::from(gradient[i]);
                    assert!((got - slope).abs() < 2e-4, "{preset} {weights:?} {i}: {got} against {slope}");
                }
            }
        }
    }

    #[test]
    fn a_weighted_batch_is_the_weighted_mean_of_its_recordings() {
        let mut net = trainable(Preset::Default);
        let x: Vec<f32> = (0..3 * 5600).map(|i| ((i as f32 * 0.37).sin() * 256.0).round() / 256.0).collect();
        let labels = [2i64, 0, 0];
        let weights = [0.5f32, 1.0, 2.5];
        let run = |net: &Trainable, which: std::ops::Range<usize>| {
            let x = &x[which.start * 5600..which.end * 5600];
            let places: Vec<usize> = which.clone().collect();
            net.gradients(x, &labels[which], &places, &mut Encoder::Direct, 3).unwrap()
        };
        let single: Vec<Gradients> = (0..3).map(|i| run(&net, i..i + 1)).collect();
        net.class_weights = Some(weights.to_vec());
        let whole = run(&net, 0..3);
        net.budget = 0;
        let share = |i: usize| f64::from(weights[labels[i] as usize]) / 3.5;
        let loss: f64 = (0..3).map(|i| share(i) * single[i].loss).sum();
        assert!((whole.loss - loss).abs() < 1e-5 * loss, "{} against {loss}", whole.loss);
        for (k, got) in whole.weights.iter().enumerate() {
            let each: Vec<Vec<f32>> = single.iter().map(|g| to_vec(&g.weights[k]).unwrap()).collect();
            let got = to_vec(got).unwrap();
            let largest = got.iter().fold(0f32, |m, v| m.max(v.abs()));
            assert!(largest > 0.0, "layer {k}: no gradient, so this would test nothing");
            for (n, got) in got.iter().enumerate() {
                let want: f64 = (0..3).map(|i| share(i) * f64::from(each[i][n])).sum();
                assert!(
                    (f64::from(*got) - want).abs() < 1e-5 * f64::from(largest),
                    "layer {k}: {got}, {want}"
                );
            }
        }
        // Cut into parts it is the same.
        let parts = run(&net, 0..3);
        assert!((parts.loss - whole.loss).abs() < 1e-6);
    }

    /// Where sums are exact, whatever their order, every spike is the same, so that only gradients are rounded.
    #[test]
    fn what_is_there_gives_what_every_synapse_gives() {
        for (preset, encoding, steps) in [
            (Preset::Default, Encoding::Direct, 4),
            (Preset::Default, Encoding::Poisson, 5),
            (Preset::Published, Encoding::Poisson, 5),
        ] {
            let mut net = trainable(preset);
            net.neuron_parameters = true;
            let x: Vec<f32> =
                (0..2 * 5600).map(|i| ((i as f32 * 0.37).sin() * 256.0).round() / 256.0).collect();
            let run = |net: &Trainable| {
                let mut encoder = preset.rules().encoder(encoding, 1);
                net.gradients(&x, &[2, 0], &[0, 1], &mut encoder, steps).unwrap()
            };
            let host = run(&net);
            net.tensor_neurons = true;
            let tensors = run(&net);
            assert_eq!(host.readout, tensors.readout, "{preset} {encoding}");
            for (k, (a, b)) in host.weights.iter().zip(&tensors.weights).enumerate() {
                let [a, b] = [a, b].map(|g| to_vec(g).unwrap());
                let largest = b.iter().fold(0f32, |m, v| m.max(v.abs()));
                let apart = a.iter().zip(&b).fold(0f32, |m, (a, b)| m.max((a - b).abs()));
                assert!(
                    largest > 0.0 && apart < 1e-5 * largest,
                    "{preset} {encoding} {k}: {apart:e} {largest:e}"
                );
            }
            for (a, b) in host.neurons.iter().zip(&tensors.neurons) {
                assert_eq!(a.activity, b.activity, "{preset} {encoding}");
                for (a, b) in [(a.threshold, b.threshold), (a.decay, b.decay)] {
                    assert!((a - b).abs() <= 1e-4 * b.abs() + 1e-7, "{preset} {encoding}: {a} against {b}");
                }
            }
        }
    }

    /// Strides, groups, windows that overlap and padding, of which some go back through libtorch.
    const STRIDES: &str = "
input: [2, 11, 13]
layers:
  - {type: conv2d, name: a, out: 4, kernel: 3, padding: 1}
  - {type: relu}
  - {type: avg_pool2d, kernel: 2, stride: 1}
  - {type: conv2d, name: b, out: 6, kernel: [2, 3], stride: [2, 1], padding: 1, groups: 2}
  - {type: relu}
  - {type: conv2d, name: c, out: 5, kernel: 2, padding: 2}
  - {type: relu}
  - {type: max_pool2d, kernel: 2}
  - {type: flatten}
  - {type: linear, name: y, out: 9}
  - {type: relu}
  - {type: linear, name: z, out: 3}
";

    #[test]
    fn strides_and_groups_go_back_as_they_came() {
        let network = escape_checkpoint::description::parse("strides", STRIDES).unwrap();
        let mut random = escape_network::rng::Stream::new(3, 0);
        // In steps of a power of two: sums are exact.
        let mut values = |n: usize| -> Vec<f32> {
            (0..n).map(|_| ((random.normal() * 20.0).round() / 64.0) as f32).collect()
        };
        let layers: Vec<SpikingLayer> = network
            .stages()
            .unwrap()
            .into_iter()
            .map(|shape| {
                let (weights, bias) = (values(shape.weights()), values(shape.output.channels));
                SpikingLayer { shape, weights: weights.into(), bias, neuron: Neuron::new(1.0, 1.0).unwrap() }
            })
            .collect();
        let x = values(3 * 286);
        let rules = Rules { arithmetic: Arithmetic::Float32, ..Preset::Default.rules() };
        let mut net =
            Trainable::new(SpikingNetwork { rules, network, layers }, Surrogate::DEFAULT, true, Device::Cpu)
                .unwrap();
        let run =
            |net: &Trainable| net.gradients(&x, &[0, 2, 1], &[0, 1, 2], &mut Encoder::Direct, 5).unwrap();
        let host = run(&net);
        net.tensor_neurons = true;
        let tensors = run(&net);
        assert_eq!(host.readout, tensors.readout);
        for (k, (a, b)) in host.weights.iter().zip(&tensors.weights).enumerate() {
            let [a, b] = [a, b].map(|g| to_vec(g).unwrap());
            let largest = b.iter().fold(0f32, |m, v| m.max(v.abs()));
            let apart = a.iter().zip(&b).fold(0f32, |m, (a, b)| m.max((a - b).abs()));
            assert!(largest > 0.0 && apart < 1e-5 * largest, "{k}: {apart:e} of {largest:e}");
        }
    }
}
