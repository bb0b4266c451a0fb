//! Every gradient of the closed-form backward pass against PyTorch's autograd, and against itself however
//! the work is cut up.

// A test fails by panicking, its helpers too; and says so when it was skipped.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

#[path = "../../../tests/parity/mod.rs"]
mod parity;

use std::path::Path;

use escape_checkpoint::{Checkpoint, Leak, Value, description, read};
use escape_data::{ReadOptions, Recordings, Split, read_split};
use escape_dense::Dense;
use escape_model::ann::to_vec;
use escape_model::distill::Distillation;
use escape_network::rng::Stream;
use escape_snn_core::encode::{Encoder, Encoding};
use escape_snn_core::engine::{Batch, Engine as _};
use escape_snn_core::integer::{IntegerNetwork, Precision};
use escape_snn_core::network::{SpikingLayer, SpikingNetwork};
use escape_snn_core::neuron::Neuron;
use escape_snn_core::rules::{Arithmetic, Preset, Rules};
use escape_snn_core::stored;
use escape_stdb::bptt::{Gradients, Trainable};
use escape_stdb::surrogate::Surrogate;
use tch::Device;

const STEPS: usize = 7;
/// The generator's seed.
const SEED: u64 = 5;

fn numbers(value: &Value) -> Vec<f64> {
    value.items().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

fn trainable(folder: &Path, preset: Preset, surrogate: Surrogate, leaks: Vec<f64>) -> Trainable {
    let path = folder.join("snn.pth");
    let mut checkpoint = Checkpoint::load(&path).unwrap();
    checkpoint.leak = Some(Leak::PerLayer(leaks));
    let network = stored::load(&checkpoint, &path, Some(preset), 56, 100).unwrap().network;
    let mut net = Trainable::new(network, surrogate, true, Device::Cpu).unwrap();
    // Elsewhere spikes within rounding of a threshold are not PyTorch's.
    net.tensor_neurons |= !net.sums_as_libtorch();
    net
}

fn gradients(net: &Trainable, data: &Recordings) -> Gradients {
    let preset = net.network.rules.preset;
    let mut encoder: Encoder = preset.rules().encoder(preset.rules().encoding, SEED);
    let indices: Vec<usize> = (0..data.len()).collect();
    net.gradients(&data.x, &data.y, &indices, &mut encoder, STEPS).unwrap()
}

/// Largest difference over the largest value.
fn distance(got: &[f32], want: &[f32]) -> f32 {
    assert_eq!(got.len(), want.len());
    let largest = want.iter().fold(0f32, |m, v| m.max(v.abs()));
    got.iter().zip(want).fold(0f32, |m, (a, b)| m.max((a - b).abs())) / largest
}

#[test]
fn every_gradient_equals_autograd() {
    let Some(folder) = parity::reference() else { return };
    let (data, ..) = read_split(&folder.join("data.npz"), Split::Train, &ReadOptions::default()).unwrap();
    for preset in [Preset::Published, Preset::Default] {
        let linear = match preset {
            Preset::Published => Surrogate::PUBLISHED_LINEAR,
            _ => Surrogate::DEFAULT,
        };
        for surrogate in [linear, Surrogate::PUBLISHED_EXPONENTIAL] {
            let case = format!("{preset}-{}", surrogate.name());
            let want = read(&folder.join(format!("gradients-{case}.pth"))).unwrap();
            let mut net = trainable(&folder, preset, surrogate, numbers(want.get("leak").unwrap()));
            // PyTorch computes with the weights as they are.
            net.network.rules.arithmetic = Arithmetic::Float32;
            let got = gradients(&net, &data);
            let loss = want.get("loss").unwrap().as_f64().unwrap();
            assert!((got.loss - loss).abs() < 1e-5 * loss, "{case}: loss {} against {loss}", got.loss);
            for (k, tensor) in want.get("weights").unwrap().items().unwrap().iter().enumerate() {
                let d = distance(&to_vec(&got.weights[k]).unwrap(), &tensor.as_tensor().unwrap().to_f32());
                assert!(d < 1e-4, "{case}: weights of layer {k} differ by {d:e} of the largest");
            }
            let constants = [("thresholds", got.neurons.iter().map(|c| c.threshold).collect::<Vec<_>>())]
                .into_iter()
                .chain([("leaks", got.neurons.iter().map(|c| c.decay).collect())]);
            for (name, got) in constants {
                for (k, (got, want)) in got.iter().zip(numbers(want.get(name).unwrap())).enumerate() {
                    let close = (got - want).abs() <= 2e-3 * want.abs() + 1e-6;
                    assert!(close, "{case}: {name} of layer {k}: {got} against {want}");
                }
            }
        }
    }
}

/// A teacher's part, a temperature and a penalty on operations, by PyTorch's autograd.
#[test]
fn teacher_and_penalty_equal_autograd() {
    let Some(folder) = parity::reference() else { return };
    let (data, ..) = read_split(&folder.join("data.npz"), Split::Train, &ReadOptions::default()).unwrap();
    let want = read(&folder.join("gradients-taught.pth")).unwrap();
    let number = |key: &str| want.get(key).unwrap().as_f64().unwrap();
    let teacher = want.get("teacher").unwrap().as_tensor().unwrap().to_f32();
    let taught = Some((&teacher[..], Distillation { share: 0.3, temperature: 2.0 }));
    let mut net = trainable(&folder, Preset::Default, Surrogate::DEFAULT, vec![1.0; 5]);
    net.network.rules.arithmetic = Arithmetic::Float32;
    net.temperature = 1.5;
    let run = |net: &Trainable| {
        net.taught_gradients(&data.x, &data.y, taught, &[0, 1], &mut Encoder::Direct, STEPS).unwrap()
    };
    let plain = run(&net);
    net.operations_penalty = 0.2;
    let whole = run(&net);
    net.budget = 0;
    let parts = run(&net);
    net.tensor_neurons = true;
    for got in [whole, parts, run(&net)] {
        assert!((got.loss - number("loss")).abs() < 1e-5, "{} against {}", got.loss, number("loss"));
        for (k, tensor) in want.get("weights").unwrap().items().unwrap().iter().enumerate() {
            let (got, want) = (to_vec(&got.weights[k]).unwrap(), tensor.as_tensor().unwrap().to_f32());
            let d = distance(&got, &want);
            assert!(d < 1e-4, "weights of layer {k} differ by {d:e} of the largest");
            // The readout's weights cause none, and a spike before it only three; those of the convolutions do.
            let without = distance(&to_vec(&plain.weights[k]).unwrap(), &want);
            assert_eq!(without > 0.001, k < 3, "layer {k}: {without:e} without a penalty");
        }
    }
    // Engines count alike, but that spikes of a mean's window arrive as one.
    let found = Dense::new(net.network.clone(), Encoding::Direct, Device::Cpu)
        .unwrap()
        .run(Batch { x: &data.x, first: 0 }, &mut Encoder::Direct, STEPS, &mut ())
        .unwrap();
    let counted: u64 = found.operations[1..].iter().flatten().sum();
    assert_eq!(counted as f64, number("operations"));
}

/// The gradient of a weight is that of what it is rounded to.
#[test]
fn gradients_go_through_the_rounding() {
    let Some(folder) = parity::reference() else { return };
    let (data, ..) = read_split(&folder.join("data.npz"), Split::Train, &ReadOptions::default()).unwrap();
    let mut whole = trainable(&folder, Preset::Default, Surrogate::DEFAULT, vec![1.0; 5]);
    let precision = Precision::new(4, 10).unwrap();
    whole.network.rules.arithmetic = Arithmetic::Integer(precision);
    // Rounded until it stays as it is: the largest weight of a row sets its unit, and may have been rounded down.
    let mut rounded = whole.network.clone();
    for _ in 0..4 {
        IntegerNetwork::new(&rounded.clone(), Encoding::Direct).unwrap().write_back(&mut rounded);
    }
    // All weights but the largest moved by less than half a unit.
    let mut moved = rounded.clone();
    for layer in &mut moved.layers {
        let row = layer.weights.len() / layer.shape.output.channels;
        for weights in layer.weights.chunks_exact_mut(row) {
            let largest = weights.iter().fold(0f32, |most, w| most.max(w.abs()));
            weights.iter_mut().filter(|w| w.abs() < 0.9 * largest).for_each(|w| *w *= 0.97);
        }
    }
    let [got, want] = [moved, rounded]
        .map(|network| Trainable::new(network, Surrogate::DEFAULT, true, Device::Cpu).unwrap())
        .map(|net| gradients(&net, &data));
    assert_eq!(got.loss, want.loss);
    for (got, want) in got.weights.iter().zip(&want.weights) {
        assert_eq!(to_vec(got).unwrap(), to_vec(want).unwrap());
    }
    // With 4 bits it matters.
    let got = gradients(&whole, &data);
    whole.network.rules.arithmetic = Arithmetic::Float32;
    assert!((gradients(&whole, &data).loss - got.loss).abs() > 1e-4);
}

#[test]
fn neither_parts_of_a_batch_nor_tensor_neurons_change_gradients() {
    let Some(folder) = parity::reference() else { return };
    let (data, ..) = read_split(&folder.join("data.npz"), Split::Train, &ReadOptions::default()).unwrap();
    for (preset, surrogate) in [
        (Preset::Published, Surrogate::PUBLISHED_EXPONENTIAL),
        (Preset::Default, Surrogate::DEFAULT),
        (Preset::Default, Surrogate::PUBLISHED_EXPONENTIAL),
    ] {
        let mut net = trainable(&folder, preset, surrogate, vec![0.9; 5]);
        let whole = gradients(&net, &data);
        net.budget = 0;
        let parts = gradients(&net, &data);
        net.tensor_neurons = true;
        let tensors = gradients(&net, &data);
        // On the host currents of whole numbers are exact, those of tensors sums of weights that are rounded to float32.
        let rounding = if preset == Preset::Default { 2e-5 } else { 1e-5 };
        for (other, rounding) in [(parts, 1e-6), (tensors, rounding)] {
            assert!((other.loss - whole.loss).abs() < 1e-6);
            for k in 0..5 {
                let [a, b] = [&other, &whole].map(|g| to_vec(&g.weights[k]).unwrap());
                assert!(distance(&a, &b) < rounding, "{preset} weights of layer {k}: {:e}", distance(&a, &b));
                let (a, b) = (other.neurons[k], whole.neurons[k]);
                assert!(
                    (a.threshold - b.threshold).abs() <= 1e-4 * b.threshold.abs() + 1e-7,
                    "{preset} {a:?} {b:?}"
                );
                assert!((a.decay - b.decay).abs() <= 1e-4 * b.decay.abs() + 1e-7, "{preset} {a:?} {b:?}");
            }
        }
    }
}

#[test]
fn keyed_poisson_input_does_not_depend_on_the_batch_it_comes_in() {
    let Some(folder) = parity::reference() else { return };
    let (data, ..) = read_split(&folder.join("data.npz"), Split::Train, &ReadOptions::default()).unwrap();
    let net = trainable(&folder, Preset::Default, Surrogate::DEFAULT, vec![1.0; 5]);
    let mut encoder = Preset::Default.rules().encoder(Encoding::Poisson, 1);
    let all = net.gradients(&data.x, &data.y, &[4, 9], &mut encoder, 3).unwrap();
    let last = net.gradients(data.get(1), &data.y[1..], &[9], &mut encoder, 3).unwrap();
    assert!(distance(&last.readout, &all.readout[3..]) < 1e-5);
}

/// Poolings over maxima, whose windows lie side by side, overlap, and are padded.
const MAXIMA: &str = "
input: [2, 11, 13]
layers:
  - {type: conv2d, name: a, out: 3, kernel: 3, padding: 1}
  - {type: relu}
  - {type: max_pool2d, kernel: 3, stride: 2, padding: 1}
  - {type: conv2d, name: b, out: 4, kernel: [2, 3]}
  - {type: relu}
  - {type: max_pool2d, kernel: 2, stride: 1}
  - {type: flatten}
  - {type: linear, name: z, out: 3}
";

/// The closed form through maxima is what libtorch finds of the largest counts, in either place of a network, at constant
/// input and at spikes.
#[test]
fn gradients_through_maxima_are_those_of_the_largest_counts() {
    let network = description::parse("maxima", MAXIMA).unwrap();
    let mut random = Stream::new(3, 0);
    let mut values =
        |n: usize, spread: f64| (0..n).map(|_| (random.normal() * spread) as f32).collect::<Vec<_>>();
    let layers: Vec<SpikingLayer> = network
        .stages()
        .unwrap()
        .into_iter()
        .map(|shape| {
            let (weights, bias) = (values(shape.weights(), 0.3), values(shape.output.channels, 0.1));
            SpikingLayer { shape, weights: weights.into(), bias, neuron: Neuron::new(1.5, 0.9).unwrap() }
        })
        .collect();
    let x: Vec<f32> = values(4 * 286, 0.4).into_iter().map(|v| v.clamp(-1.0, 1.0)).collect();
    let data = Recordings { x, y: vec![0, 1, 2, 1], contacts: 22, samples: 13 };
    for (encoding, surrogate) in [
        (Encoding::Direct, Surrogate::DEFAULT),
        (Encoding::Poisson, Surrogate::DEFAULT),
        (Encoding::Poisson, Surrogate::PUBLISHED_EXPONENTIAL),
    ] {
        let network =
            SpikingNetwork { rules: Rules::DEFAULT, network: network.clone(), layers: layers.clone() };
        let mut net = Trainable::new(network, surrogate, true, Device::Cpu).unwrap();
        let run = |net: &Trainable| {
            let mut encoder = net.network.rules.encoder(encoding, SEED);
            net.gradients(&data.x, &data.y, &[0, 1, 2, 3], &mut encoder, STEPS).unwrap()
        };
        let host = run(&net);
        net.tensor_neurons = true;
        let tensors = run(&net);
        assert!((host.loss - tensors.loss).abs() < 1e-6);
        for (k, (a, b)) in host.weights.iter().zip(&tensors.weights).enumerate() {
            let [a, b] = [a, b].map(|g| to_vec(g).unwrap());
            assert!(
                b.iter().any(|v| v.abs() > 1e-6),
                "{encoding}: no gradient {k}, so this would test nothing"
            );
            assert!(distance(&a, &b) < 1e-5, "{encoding}, gradient {k}: {:e}", distance(&a, &b));
        }
        for (a, b) in host.neurons.iter().zip(&tensors.neurons) {
            for (a, b) in [(a.threshold, b.threshold), (a.decay, b.decay)] {
                assert!((a - b).abs() <= 1e-4 * b.abs() + 1e-7, "{encoding}: {a} against {b}");
            }
        }
    }
}
