//! The dense engine gives the same spikes however the work is cut up and wherever neurons are computed.

// A test fails by panicking, its helpers too; and says so when it was skipped.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

use std::path::Path;

use escape_checkpoint::Checkpoint;
use escape_dense::{Dense, Synapses};
use escape_model::ann::{Ann, to_vec};
use escape_network::arch::Architecture;
use escape_network::family::Family;
use escape_network::rng::Stream;
use escape_snn_core::encode::Encoding;
use escape_snn_core::engine::{Averaged, Batch, Engine, Outcome, Spike, SpikeRecorder};
use escape_snn_core::network::SpikingNetwork;
use escape_snn_core::rules::Preset;
use escape_snn_core::stored;
use tch::Device;

const SIZE: usize = 56 * 100;

/// Rules with each kind of input that they are used with.
const CASES: [(Preset, Encoding); 4] = [
    (Preset::Published, Encoding::Poisson),
    (Preset::Default, Encoding::Poisson),
    (Preset::Default, Encoding::Direct),
    (Preset::ToolboxZero, Encoding::Direct),
];

/// A network with random weights whose layers all spike.
fn network(preset: Preset) -> SpikingNetwork {
    let ann = Ann::new(Family::published(Architecture::Modified).network(56, 100).unwrap(), 3, Device::Cpu)
        .unwrap();
    let checkpoint = Checkpoint {
        weights: ann.weights().unwrap(),
        thresholds: Some(vec![0.3, 0.05, 0.02, 0.01, 0.01]),
        ..Checkpoint::default()
    };
    stored::load(&checkpoint, Path::new("memory"), Some(preset), 56, 100).unwrap().network
}

fn recordings(n: usize) -> Vec<f32> {
    let mut r = Stream::new(1, 0);
    (0..n * SIZE).map(|_| (r.uniform() * 2.0 - 1.0) as f32).collect()
}

fn engine(preset: Preset, encoding: Encoding) -> Dense {
    Dense::new(network(preset), encoding, Device::Cpu).unwrap()
}

/// What a run gave, and every spike of its first recording.
struct Found {
    readout: Vec<f32>,
    spikes: Vec<Vec<u64>>,
    operations: Vec<Vec<u64>>,
    events: Vec<Spike>,
}

fn run(engine: &Dense, x: &[f32], first: usize, steps: usize) -> Found {
    let mut encoder = engine.network().rules.encoder(engine.encoding(), 7);
    let mut recorder = SpikeRecorder::default();
    let outcome = engine.run(Batch { x, first }, &mut encoder, steps, &mut recorder).unwrap();
    let Outcome { readout, spikes, operations } = outcome;
    Found { readout, spikes, operations, events: recorder.into_spikes() }
}

#[test]
fn every_layer_spikes() {
    let found = run(&engine(Preset::Default, Encoding::Direct), &recordings(1), 0, 6);
    for k in 0..4 {
        assert!(found.spikes[k].iter().sum::<u64>() > 0, "layer {k} is silent: this file would test nothing");
    }
    assert_eq!(found.spikes[4].iter().sum::<u64>(), 0, "the clean readout does not spike");
}

/// Exact sums make the default preset independent of how many frames a convolution takes at once. The published one
/// rounds as the processor's convolution for that number does.
#[test]
fn blocks_of_steps_change_nothing() {
    for (preset, encoding) in CASES {
        let x = recordings(2);
        let mut engine = engine(preset, encoding);
        let whole = run(&engine, &x, 0, 7);
        for budget in [0, 60 << 20] {
            engine.budget = budget;
            let cut = run(&engine, &x, 0, 7);
            match preset {
                Preset::Default => assert_eq!(cut.readout, whole.readout, "{encoding}"),
                _ => {
                    assert_eq!(cut.readout.len(), whole.readout.len());
                    for (a, b) in cut.readout.iter().zip(&whole.readout) {
                        assert!((a - b).abs() <= 1e-5 * b.abs().max(1.0), "{a} against {b}");
                    }
                }
            }
            assert_eq!(cut.events, whole.events);
            assert_eq!((cut.spikes, cut.operations), (whole.spikes.clone(), whole.operations.clone()));
        }
    }
}

#[test]
fn two_networks_readouts_are_averaged() {
    let x = recordings(2);
    let batch = Batch { x: &x, first: 0 };
    let run = |preset: Preset| {
        let engine = engine(preset, Encoding::Direct);
        engine.run(batch, &mut preset.rules().encoder(Encoding::Direct, 7), 6, &mut ()).unwrap()
    };
    let (subtraction, zero) = (run(Preset::Toolbox), run(Preset::ToolboxZero));
    assert_ne!(subtraction.readout, zero.readout);
    let network = network(Preset::ToolboxMean);
    let refused = Dense::new(network.clone(), Encoding::Direct, Device::Cpu).unwrap_err().to_string();
    assert!(refused.contains("toolbox-mean") && refused.contains("toolbox-zero"), "{refused}");
    let mut encoder = network.rules.encoder(Encoding::Direct, 7);
    let both = Averaged::new(network, |network| Dense::new(network, Encoding::Direct, Device::Cpu)).unwrap();
    let mut steps = 0;
    let mut told = |n: usize| {
        steps += n;
        true
    };
    let found = both.run(batch, &mut encoder, 6, &mut told).unwrap();
    assert_eq!(steps, 6);
    for ((a, b), mean) in subtraction.readout.iter().zip(&zero.readout).zip(&found.readout) {
        assert_eq!((a + b) / 2.0, *mean);
    }
    for (((a, b), sum), layer) in subtraction.spikes.iter().zip(&zero.spikes).zip(&found.spikes).zip(0..) {
        let sums: Vec<u64> = a.iter().zip(b).map(|(a, b)| a + b).collect();
        assert_eq!(sums, *sum, "layer {layer}");
    }
}

#[test]
fn tensor_neurons_spike_alike() {
    for (preset, encoding) in CASES {
        let x = recordings(2);
        let mut engine = engine(preset, encoding);
        let host = run(&engine, &x, 0, 5);
        engine.tensor_neurons = true;
        let device = run(&engine, &x, 0, 5);
        assert_eq!(host.events, device.events, "{preset} {encoding}");
        assert_eq!((host.spikes, host.operations), (device.spikes, device.operations));
        assert_eq!(host.readout, device.readout);
    }
}

#[test]
fn batches_change_nothing_in_the_default_preset() {
    for encoding in [Encoding::Direct, Encoding::Poisson] {
        let x = recordings(9);
        let engine = engine(Preset::Default, encoding);
        let all = run(&engine, &x, 100, 4);
        for size in [1, 2, 7] {
            for (i, part) in x.chunks(size * SIZE).enumerate() {
                let batch = part.len() / SIZE;
                let found = run(&engine, part, 100 + i * size, 4);
                for t in 0..4 {
                    let want = &all.readout[(t * 9 + i * size) * 3..][..batch * 3];
                    assert_eq!(
                        &found.readout[t * batch * 3..][..batch * 3],
                        want,
                        "{encoding}, batches of {size}"
                    );
                }
            }
        }
    }
}

#[test]
fn recorded_events_are_the_counted_spikes() {
    let found = run(&engine(Preset::Published, Encoding::Poisson), &recordings(1), 0, 8);
    for k in 0..5 {
        for t in 0..8 {
            let events = found.events.iter().filter(|e| e.layer == k && e.step == t).count() as u64;
            assert_eq!(events, found.spikes[k][t], "layer {k}, step {t}");
        }
    }
    assert!(found.events.is_sorted());
}

#[test]
fn operations_are_arriving_spikes_times_their_fan_out() {
    // From the recorded spikes, by the definition: merged arrivals of a pooling window count once.
    let engine = engine(Preset::Default, Encoding::Direct);
    let found = run(&engine, &recordings(1), 0, 5);
    for k in 0..4 {
        let (channels, plane) = engine.network().planes(k);
        let fan_out = engine.network().layers[k + 1].shape.fan_out();
        let (rows, columns) = plane.pooled;
        for t in 0..5 {
            let mut arrived = vec![false; channels * rows * columns];
            for e in found.events.iter().filter(|e| e.layer == k && e.step == t) {
                let (c, place) = (e.neuron / plane.neurons(), e.neuron % plane.neurons());
                let (down, across) = plane.pool.map_or((1, 1), |pool| pool.kernel);
                let (r, column) = (place / plane.width / down, place % plane.width / across);
                if r < rows && column < columns {
                    arrived[(c * rows + r) * columns + column] = true;
                }
            }
            let weigh = |i: usize| {
                u64::from(if fan_out.len() == 1 { fan_out[0] } else { fan_out[i % (rows * columns)] })
            };
            let want: u64 = (0..arrived.len()).filter(|&i| arrived[i]).map(weigh).sum();
            assert_eq!(found.operations[k + 1][t], want, "layer {k}, step {t}");
        }
    }
}

#[test]
fn rates_approach_the_currents_they_stand_for() {
    // One layer's rate times threshold against its analog current, where 0 <= current <= threshold.
    let engine = engine(Preset::Default, Encoding::Direct);
    let x = recordings(1);
    let steps = 64;
    let found = run(&engine, &x, 0, steps);
    // The real numbers that its whole ones stand for.
    let integer = engine.integer().unwrap();
    let mut network = engine.network().clone();
    integer.write_back(&mut network);
    let input = tch::Tensor::from_slice(&integer.precision.rounded(&x)).view([1, 1, 56, 100]);
    let current = Synapses::new(&network.layers[0], Device::Cpu).unwrap().current(&input, false).unwrap();
    let current: Vec<f32> = to_vec(&current.relu()).unwrap();
    let theta = engine.network().layers[0].neuron.threshold();
    let mut counts = vec![0u32; current.len()];
    found.events.iter().filter(|e| e.layer == 0).for_each(|e| counts[e.neuron] += 1);
    for (count, a) in counts.iter().zip(&current) {
        let want = (a / theta).min(1.0) * steps as f32;
        assert!((*count as f32 - want).abs() <= 1.0, "{count} against {want}");
    }
}

#[test]
fn it_draws_what_libtorch_draws() {
    for seed in [0i64, 11, 123_456_789_012] {
        tch::manual_seed(seed);
        let mut want = vec![0f32; 5000];
        for part in want.chunks_mut(1300) {
            tch::Tensor::rand([part.len() as i64], tch::kind::FLOAT_CPU).copy_data(part, part.len());
        }
        let mut g = escape_snn_core::random::TorchGenerator::new(seed as u64);
        assert_eq!(want, (0..5000).map(|_| g.uniform()).collect::<Vec<_>>(), "seed {seed}");
    }
}
