//! Random networks of every kind of layer that spikes: the engine against a naive simulator of a page, spike for spike.

#![allow(clippy::unwrap_used)]

use escape_dense::Dense;
use escape_network::rng::Stream;
use escape_network::sequential::{Conv2d, Pool, Pooling};
use escape_network::stage::{Op, Stage};
use escape_snn_core::encode::Encoding;
use escape_snn_core::engine::{Batch, Engine, Spike, SpikeRecorder};
use escape_snn_core::network::{SpikingLayer, SpikingNetwork};
use escape_snn_core::neuron::Neuron;
use escape_snn_core::rules::Rules;
use tch::Device;

#[path = "../../../tests/random_networks/mod.rs"]
mod networks;

const NETWORKS: u64 = 250;

/// Weighted sums of a stage, in float64: where every sum is exact, whatever its order.
fn currents(layer: &SpikingLayer, input: &[f64]) -> Vec<f64> {
    let Stage { input: from, output: to, .. } = layer.shape;
    let bias = |o: usize| layer.bias.get(o).map_or(0.0, |b| f64::from(*b));
    let w = |i: usize| f64::from(layer.weights[i]);
    let Op::Conv(Conv2d { kernel, stride, padding, groups, .. }) = layer.shape.op else {
        let row = |o: usize| (0..from.channels).map(|i| w(o * from.channels + i) * input[i]).sum::<f64>();
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
                sum += w(((o * inputs + c) * kernel.0 + i) * kernel.1 + j)
                    * input[(channel * from.height + row) * from.width + column];
            }
        }
        all.push(sum);
    }
    all
}

/// What a stage's spikes are to the next one.
fn pooled(layer: &SpikingLayer, spikes: &[f64], fired: &mut [f64]) -> Vec<f64> {
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
        all.push(match pooling {
            Pooling::Average { .. } => {
                window.iter().map(|&at| spikes[at]).sum::<f64>() * f64::from(layer.share)
            }
            Pooling::Max => {
                let most = |counts: &[f64]| window.iter().map(|&at| counts[at]).fold(0.0, f64::max);
                most(fired) - most(&before)
            }
        });
    }
    all
}

/// Every spike of a recording, and the readout after the last step. Potentials are float32, as they are defined.
fn simulate(network: &SpikingNetwork, x: &[f32], steps: usize) -> (Vec<Spike>, Vec<f32>) {
    let last = network.layers.len() - 1;
    let mut potentials: Vec<Vec<f32>> =
        (0..=last).map(|k| vec![network.initial_potential(k); network.layers[k].shape.neurons()]).collect();
    let mut fired: Vec<Vec<f64>> = potentials.iter().map(|u| vec![0.0; u.len()]).collect();
    let mut events = Vec::new();
    // Recordings are rounded to multiples of 2^-24 before they are multiplied.
    let recording: Vec<f64> =
        x.iter().map(|v| (f64::from(*v) * 16_777_216.0).round() / 16_777_216.0).collect();
    for step in 0..steps {
        let mut signal = recording.clone();
        for (k, layer) in network.layers.iter().enumerate() {
            let current = currents(layer, &signal);
            let neuron = layer.neuron;
            if k == last {
                potentials[k].iter_mut().zip(&current).for_each(|(u, c)| *u += *c as f32);
                break;
            }
            let mut spikes = vec![0.0; current.len()];
            for (n, (u, c)) in potentials[k].iter_mut().zip(&current).enumerate() {
                *u = neuron.decay() * *u + *c as f32;
                if *u / neuron.threshold() - 1.0 > 0.0 {
                    *u -= neuron.threshold();
                    spikes[n] = 1.0;
                    events.push(Spike { layer: k, step, neuron: n });
                }
            }
            signal = pooled(layer, &spikes, &mut fired[k]);
        }
    }
    events.sort_unstable();
    (events, potentials.pop().unwrap())
}

fn spiking(index: u64) -> SpikingNetwork {
    let network = networks::random(index, |n| n.stages().is_ok());
    let mut random = Stream::new(index, 3);
    let described = network.folded();
    let layers = network.stages().unwrap().into_iter().map(|stage| {
        let spread = 2.0 / (stage.weights() as f64 / stage.output.channels as f64).sqrt();
        let weights = (0..stage.weights()).map(|_| (random.normal() * spread) as f32).collect();
        let bias = match stage.bias {
            true => (0..stage.output.channels).map(|_| (random.normal() * 0.1) as f32).collect(),
            false => Vec::new(),
        };
        let neuron =
            Neuron::new(0.3 + random.uniform() as f32, if index.is_multiple_of(3) { 0.9 } else { 1.0 });
        SpikingLayer::new(stage, weights, bias, neuron.unwrap())
    });
    let mut network = SpikingNetwork { rules: Rules::DEFAULT, network: described, layers: layers.collect() };
    network.round_to_grid(Encoding::Direct);
    network
}

#[test]
fn spikes_are_those_of_a_naive_simulator() {
    let (mut spikes, mut maxima, mut sums) = (0, 0, 0);
    for index in 0..NETWORKS {
        let network = spiking(index);
        let pools = network.layers.iter().filter_map(|l| Some((l.shape.pool?, l.share)));
        for (pool, share) in pools {
            maxima += usize::from(pool.pooling == Pooling::Max);
            sums += usize::from(pool.pooling != Pooling::Max && pool.kernel != (1, 1) && share == 1.0);
        }
        let size = network.input().count();
        let mut random = Stream::new(index, 4);
        let x: Vec<f32> = (0..2 * size).map(|_| (random.uniform() * 2.0 - 1.0) as f32).collect();
        let steps = 7;
        let want = simulate(&network, &x[..size], steps);
        let second = simulate(&network, &x[size..], steps).1;
        for tensors in [false, true] {
            let mut engine = Dense::new(network.clone(), Encoding::Direct, Device::Cpu).unwrap();
            engine.tensor_neurons = tensors;
            // In blocks of a step as in one of all.
            for budget in [0, engine.budget] {
                engine.budget = budget;
                let mut encoder = network.rules.encoder(Encoding::Direct, 0);
                let mut recorder = SpikeRecorder::default();
                let found =
                    engine.run(Batch { x: &x, first: 0 }, &mut encoder, steps, &mut recorder).unwrap();
                let name = format!("network {index}, tensors {tensors}, budget {budget}");
                assert_eq!(recorder.into_spikes(), want.0, "{name}");
                assert_eq!(found.logits(steps), [&want.1[..], &second].concat(), "{name}");
            }
        }
        spikes += want.0.len();
    }
    assert!(spikes > 10_000 && maxima > 10 && sums > 10, "{spikes} spikes, {maxima} maxima, {sums} sums");
}
