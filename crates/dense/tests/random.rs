//! Random networks of every kind of layer that spikes: the engine against a naive simulator of a page, spike for spike.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use escape_dense::Dense;
use escape_network::rng::Stream;
use escape_network::sequential::{Conv2d, Pool, Pooling};
use escape_network::stage::{Op, Stage};
use escape_snn_core::encode::Encoding;
use escape_snn_core::engine::{Batch, Engine, Spike, SpikeRecorder};
use escape_snn_core::event::{Event, EventError, Instructions};
use escape_snn_core::integer::{IntegerLayer, IntegerNetwork};
use escape_snn_core::network::{SpikingLayer, SpikingNetwork};
use escape_snn_core::neuron::Neuron;
use escape_snn_core::nonzero::Tracer;
use escape_snn_core::rules::{Arithmetic, Preset, Rules};
use tch::Device;

#[path = "../../../tests/random_networks/mod.rs"]
mod networks;
#[path = "../../../tests/random_networks/spiking.rs"]
mod spiking;
use spiking::spiking;

const NETWORKS: u64 = 250;
/// Steps that a network is simulated for: one block of the event engine's or more, of equal length or not.
const STEPS: [usize; 5] = [4, 9, 1, 17, 8];

/// Weighted sums of a stage; `met` counts its products of a weight and a value that are not zero.
fn currents(layer: &IntegerLayer, input: &[i64], met: &mut u64) -> Vec<i64> {
    let Stage { input: from, output: to, .. } = layer.shape;
    let bias = |o: usize| layer.bias.get(o).map_or(0, |b| i64::from(*b));
    let mut product = |weight: usize, value: usize| {
        let (weight, value) = (i64::from(layer.weights[weight]), input[value]);
        *met += u64::from(weight != 0 && value != 0);
        weight * value
    };
    let Op::Conv(Conv2d { kernel, stride, padding, groups, .. }) = layer.shape.op else {
        let mut row = |o: usize| (0..from.channels).map(|i| product(o * from.channels + i, i)).sum::<i64>();
        return (0..to.channels).map(|o| row(o) + bias(o)).collect();
    };
    let (inputs, outputs) = (from.channels / groups, to.channels / groups);
    let mut all = Vec::new();
    for (o, y, x) in
        (0..to.channels).flat_map(|o| (0..to.height).flat_map(move |y| (0..to.width).map(move |x| (o, y, x))))
    {
        let mut sum = bias(o);
        for (c, i, j) in
            (0..inputs).flat_map(|c| (0..kernel.0).flat_map(move |i| (0..kernel.1).map(move |j| (c, i, j))))
        {
            let row = (y * stride.0 + i).wrapping_sub(padding.top);
            let column = (x * stride.1 + j).wrapping_sub(padding.left);
            if row < from.height && column < from.width {
                let channel = o / outputs * inputs + c;
                let weight = ((o * inputs + c) * kernel.0 + i) * kernel.1 + j;
                sum += product(weight, (channel * from.height + row) * from.width + column);
            }
        }
        all.push(sum);
    }
    all
}

/// What a stage's spikes are to the next one.
fn pooled(layer: &IntegerLayer, spikes: &[i64], fired: &mut [i64]) -> Vec<i64> {
    let Stage { output: from, pooled: to, pool, .. } = layer.shape;
    let before = fired.to_vec();
    fired.iter_mut().zip(spikes).for_each(|(n, s)| *n += s);
    let Some(Pool { pooling, kernel, stride, padding, .. }) = pool else { return spikes.to_vec() };
    let mut all = Vec::new();
    for (c, y, x) in
        (0..to.channels).flat_map(|c| (0..to.height).flat_map(move |y| (0..to.width).map(move |x| (c, y, x))))
    {
        let inside = |(i, j): (usize, usize)| {
            let row = (y * stride.0 + i).checked_sub(padding.top).filter(|&row| row < from.height)?;
            let column =
                (x * stride.1 + j).checked_sub(padding.left).filter(|&column| column < from.width)?;
            Some((c * from.height + row) * from.width + column)
        };
        let window: Vec<usize> =
            (0..kernel.0).flat_map(|i| (0..kernel.1).map(move |j| (i, j))).filter_map(inside).collect();
        let most = |counts: &[i64]| window.iter().map(|&at| counts[at]).max().unwrap_or(0);
        all.push(match pooling {
            Pooling::Average { .. } => window.iter().map(|&at| spikes[at]).sum(),
            Pooling::Max => most(fired) - most(&before),
        });
    }
    all
}

/// Every spike of a recording, the readout after the last step, and each layer's products of what is not zero. No sum is too large for 64 bits, and none is checked
/// against the bounds that the network has proven.
fn simulate(network: &IntegerNetwork, input: &[Vec<i64>], steps: usize) -> (Vec<Spike>, Vec<f32>, Vec<u64>) {
    let last = network.layers.len() - 1;
    let per_row = |layer: &IntegerLayer| layer.shape.neurons() / layer.shape.output.channels;
    let theta = |layer: &IntegerLayer, n: usize| i64::from(layer.thresholds[n / per_row(layer)]);
    let half =
        |layer: &IntegerLayer, n: usize| if layer.thresholds.is_empty() { 0 } else { theta(layer, n) / 2 };
    let start = |layer: &IntegerLayer| (0..layer.shape.neurons()).map(|n| half(layer, n)).collect();
    let mut potentials: Vec<Vec<i64>> = network.layers.iter().map(start).collect();
    let mut fired: Vec<Vec<i64>> = potentials.iter().map(|u| vec![0; u.len()]).collect();
    let mut events = Vec::new();
    let mut met = vec![0; network.layers.len()];
    for step in 0..steps {
        let mut signal = input[step % input.len()].clone();
        for (k, layer) in network.layers.iter().enumerate() {
            let current = currents(layer, &signal, &mut met[k]);
            if k == last {
                potentials[k].iter_mut().zip(&current).for_each(|(u, c)| *u += c);
                break;
            }
            let mut spikes = vec![0; current.len()];
            for (n, (u, c)) in potentials[k].iter_mut().zip(&current).enumerate() {
                *u = (*u * i64::from(layer.decay)).div_euclid(1 << 15) + c;
                if *u > theta(layer, n) {
                    *u -= theta(layer, n);
                    spikes[n] = 1;
                    events.push(Spike { layer: k, step, neuron: n });
                }
            }
            signal = pooled(layer, &spikes, &mut fired[k]);
        }
    }
    events.sort_unstable();
    let unit = network.layers[last].units[0];
    (events, potentials.pop().unwrap().into_iter().map(|u| (u as f64 * unit) as f32).collect(), met)
}

#[test]
fn spikes_are_those_of_a_naive_simulator() {
    let (mut spikes, mut maxima, mut averages, mut wide, mut zeros) = (0, 0, 0, 0, 0);
    for index in 0..NETWORKS {
        let network = spiking(index, STEPS[3]);
        let encoding = if index % 4 == 3 { Encoding::Poisson } else { Encoding::Direct };
        let whole = IntegerNetwork::new(&network, encoding).unwrap();
        for pool in network.layers.iter().filter_map(|l| l.shape.pool) {
            *(if pool.pooling == Pooling::Max { &mut maxima } else { &mut averages }) += 1;
        }
        wide += usize::from(whole.layers.iter().any(|l| l.largest_current >= 1 << 24));
        let size = network.input().count();
        let mut random = Stream::new(index, 4);
        let x: Vec<f32> = (0..2 * size).map(|_| (random.uniform() * 2.0 - 1.0) as f32).collect();
        let steps = STEPS[index as usize % STEPS.len()];
        // The input of each recording, step by step where it changes.
        let input = |n: usize| -> Vec<Vec<i64>> {
            let x = &x[n * size..][..size];
            match encoding {
                Encoding::Direct => {
                    let whole = whole.precision.round_recording(x);
                    vec![whole.into_iter().map(i64::from).collect()]
                }
                Encoding::Poisson => {
                    let spikes = network.rules.encoder(encoding, 5).encode(x, size, n, 0, steps);
                    spikes.chunks(size).map(|step| step.iter().map(|&s| s as i64).collect()).collect()
                }
            }
        };
        let want = simulate(&whole, &input(0), steps);
        let second = simulate(&whole, &input(1), steps).1;
        if encoding == Encoding::Direct && whole.layers.len() > 1 {
            let tracer = Tracer::new(&whole);
            let traced = tracer.trace(&whole.precision.round_recording(&x[..size]), &want.0, steps);
            // A constant recording is multiplied once, not in each step.
            assert_eq!(traced[0].macs, want.2[0] / steps as u64, "network {index}");
            for (k, (layer, of)) in whole.layers.iter().zip(&traced).enumerate() {
                let fired: BTreeSet<usize> =
                    want.0.iter().filter(|spike| spike.layer == k).map(|spike| spike.neuron).collect();
                assert_eq!(of.active, fired.len() as u64, "network {index}, layer {k}");
                assert_eq!(of.operations, if k == 0 { 0 } else { want.2[k] }, "network {index}, layer {k}");
                let nonzero = layer.weights.iter().filter(|weight| **weight != 0).count() as u64;
                assert_eq!(tracer.weights()[k], nonzero);
                zeros += layer.weights.len() as u64 - nonzero;
            }
        }
        let mut by_events = None;
        // Recordings side by side, and each shared by threads.
        for (with, threads) in Instructions::available().into_iter().flat_map(|with| [(with, 1), (with, 7)]) {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let event = Event::new(network.clone(), encoding).unwrap().with(with);
            let name = format!("network {index}, by events, {with:?}, {threads} threads");
            // Another order before: what a run leaves behind must not matter to the next.
            let back = [&x[size..], &x[..size]].concat();
            let run = |x: &[f32], recorder: &mut SpikeRecorder| {
                let mut encoder = network.rules.encoder(encoding, 5);
                pool.install(|| event.run(Batch { x, first: 0 }, &mut encoder, steps, recorder)).unwrap()
            };
            run(&back, &mut SpikeRecorder::default());
            let mut recorder = SpikeRecorder::default();
            let found = run(&x, &mut recorder);
            assert_eq!(recorder.into_spikes(), want.0, "{name}");
            assert_eq!(found.logits(steps), [&want.1[..], &second].concat(), "{name}");
            assert!(by_events.as_ref().is_none_or(|before| *before == found), "{name}");
            by_events = Some(found);
        }
        let by_events = by_events.unwrap();
        for tensors in [false, true] {
            let mut engine = Dense::new(network.clone(), encoding, Device::Cpu).unwrap();
            assert_eq!(engine.integer(), Some(&whole));
            engine.tensor_neurons = tensors;
            // In blocks of a step as in one of all.
            for budget in [0, engine.budget] {
                engine.budget = budget;
                let mut encoder = network.rules.encoder(encoding, 5);
                let mut recorder = SpikeRecorder::default();
                let found =
                    engine.run(Batch { x: &x, first: 0 }, &mut encoder, steps, &mut recorder).unwrap();
                let name = format!("network {index}, tensors {tensors}, budget {budget}");
                assert_eq!(recorder.into_spikes(), want.0, "{name}");
                assert_eq!(found.logits(steps), [&want.1[..], &second].concat(), "{name}");
                // Every readout, count and operation of both recordings.
                assert_eq!(found, by_events, "{name}");
            }
        }
        spikes += want.0.len();
    }
    assert!(
        spikes > 10_000 && maxima > 10 && averages > 10 && wide > 5 && zeros > 1000,
        "{spikes} spikes, {maxima} maxima, {averages} averages, {wide} with sums in float64, {zeros} weights that are zero"
    );
}

/// Rules in float32: sums are rounded in another order, so that now and then a neuron fires a step earlier or later.
#[test]
fn float_rules_by_events_are_the_dense_engines_but_for_rounding() {
    let (mut spikes, mut differing, mut alike) = (0, 0, 0);
    for index in 0..NETWORKS / 2 {
        let mut network = spiking(index, STEPS[3]);
        network.rules = match index % 5 {
            0 => Rules { arithmetic: Arithmetic::Float32, ..Rules::DEFAULT },
            1 => Preset::ToolboxZero.rules(),
            _ => Rules::PUBLISHED,
        };
        let encoding = if index % 2 == 0 { Encoding::Poisson } else { Encoding::Direct };
        let size = network.input().count();
        let mut random = Stream::new(index, 4);
        let x: Vec<f32> = (0..2 * size).map(|_| (random.uniform() * 2.0 - 1.0) as f32).collect();
        let batch = Batch { x: &x, first: 0 };
        let (mut of_dense, mut of_event) = (SpikeRecorder::default(), SpikeRecorder::default());
        let mut encoder = network.rules.encoder(encoding, 5);
        let dense = Dense::new(network.clone(), encoding, Device::Cpu).unwrap();
        let want = dense.run(batch, &mut encoder, 12, &mut of_dense).unwrap();
        let mut encoder = network.rules.encoder(encoding, 5);
        let event = Event::new(network, encoding).unwrap();
        let found = event.run(batch, &mut encoder, 12, &mut of_event).unwrap();
        let (of_dense, of_event) = (of_dense.into_spikes(), of_event.into_spikes());
        let missing = of_dense.iter().filter(|spike| of_event.binary_search(spike).is_err()).count();
        let more = of_event.iter().filter(|spike| of_dense.binary_search(spike).is_err()).count();
        assert!(missing + more <= 2 + of_dense.len() / 50, "network {index}: {missing} missing, {more} more");
        spikes += of_dense.len();
        differing += missing + more;
        if (&found.spikes, &found.operations) == (&want.spikes, &want.operations) {
            alike += 1;
            for (a, b) in found.readout.iter().zip(&want.readout) {
                assert!((a - b).abs() <= 1e-4 * (1.0 + b.abs()), "network {index}: {a} {b}");
            }
        }
    }
    assert!(spikes > 10_000 && alike * 10 > 9 * (NETWORKS / 2) as usize, "{spikes} spikes, {alike} alike");
    assert!(differing * 1000 < spikes, "{differing} of {spikes} differ");
}

/// Output channels in blocks of 64 and of 32, and several input channels.
const WIDE: &str = "
input: [2, 9, 8]
layers:
  - {type: conv2d, name: a, out: 83, kernel: 3, padding: 1}
  - {type: relu}
  - {type: avg_pool2d, kernel: 2}
  - {type: conv2d, name: b, out: 70, kernel: 2, bias: false}
  - {type: relu}
  - {type: flatten}
  - {type: linear, name: c, out: 99}
  - {type: relu}
  - {type: linear, name: z, out: 5}
";

/// A mean over more neurons than the kernels for bytes take.
const LARGE_WINDOW: &str = "
input: [2, 12, 13]
layers:
  - {type: conv2d, name: a, out: 33, kernel: 1}
  - {type: relu}
  - {type: avg_pool2d, kernel: 12}
  - {type: flatten}
  - {type: linear, name: c, out: 130}
  - {type: relu}
  - {type: linear, name: d, out: 70}
  - {type: relu}
  - {type: linear, name: z, out: 5}
";

/// What the random networks are too small for.
#[test]
fn events_of_wide_layers_are_those_of_the_dense_engine() {
    for text in [WIDE, LARGE_WINDOW] {
        for rules in [Rules::DEFAULT, Rules { arithmetic: Arithmetic::Float32, ..Rules::DEFAULT }] {
            events_are_those_of_the_dense_engine(text, rules);
        }
    }
}

fn events_are_those_of_the_dense_engine(text: &str, rules: Rules) {
    let network = escape_checkpoint::description::parse("wide", text).unwrap();
    let mut random = Stream::new(6, 0);
    let mut values =
        |n: usize, spread: f64| (0..n).map(|_| (random.normal() * spread) as f32).collect::<Vec<_>>();
    let layers = network.stages().unwrap().into_iter().map(|shape| {
        let spread = 2.0 / (shape.weights() as f64 / shape.output.channels as f64).sqrt();
        let weights = values(shape.weights(), spread);
        let bias = if shape.bias { values(shape.output.channels, 0.1) } else { Vec::new() };
        SpikingLayer { shape, weights: weights.into(), bias, neuron: Neuron::new(0.6, 1.0).unwrap() }
    });
    let layers = layers.collect();
    let network = SpikingNetwork { rules, network: network.folded(), layers };
    let x: Vec<f32> =
        values(3 * network.input().count(), 0.5).into_iter().map(|v| v.clamp(-1.0, 1.0)).collect();
    let whole = matches!(rules.arithmetic, Arithmetic::Integer(_));
    for encoding in [Encoding::Direct, Encoding::Poisson] {
        let batch = Batch { x: &x, first: 0 };
        let encoder = || network.rules.encoder(encoding, 5);
        let dense = Dense::new(network.clone(), encoding, Device::Cpu).unwrap();
        let event = Event::new(network.clone(), encoding).unwrap();
        let (mut of_dense, mut of_event) = (SpikeRecorder::default(), SpikeRecorder::default());
        let want = dense.run(batch, &mut encoder(), 9, &mut of_dense).unwrap();
        let found = event.run(batch, &mut encoder(), 9, &mut of_event).unwrap();
        let portable = Event::new(network.clone(), encoding).unwrap().with(Instructions::Portable);
        assert_eq!(
            portable.run(batch, &mut encoder(), 9, &mut ()).unwrap().spikes,
            found.spikes,
            "{encoding}"
        );
        let spikes = of_dense.into_spikes();
        assert!((0..3).all(|layer| spikes.iter().filter(|s| s.layer == layer).count() > 50));
        if whole {
            assert_eq!(found, want, "{encoding}");
            assert_eq!(of_event.into_spikes(), spikes, "{encoding}");
        } else {
            // None of these few potentials is within rounding of its threshold.
            assert_eq!((&found.spikes, &found.operations), (&want.spikes, &want.operations), "{encoding}");
            for (a, b) in found.readout.iter().zip(&want.readout) {
                assert!((a - b).abs() <= 1e-4 * (1.0 + b.abs()), "{a} {b}");
            }
        }
        let other = if encoding == Encoding::Direct { Encoding::Poisson } else { Encoding::Direct };
        let mixed = event.run(batch, &mut network.rules.encoder(other, 5), 9, &mut ());
        assert_eq!(mixed, Err(EventError::Encoder { expected: encoding }));
        // One recording alone, and nobody stopped it; a stopped one says so.
        let first = Batch { x: &x[..network.input().count()], first: 0 };
        let alone = event.run(first, &mut encoder(), 9, &mut ()).unwrap();
        assert_eq!(alone.logits(9), &found.logits(9)[..5]);
        let stopped = event.run(first, &mut encoder(), 9, &mut |_: usize| false);
        assert_eq!(stopped, Err(EventError::Interrupted));
    }
}
