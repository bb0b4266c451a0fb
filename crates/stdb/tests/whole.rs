//! What training in whole numbers sees is what the engines compute.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

use escape_network::rng::Stream;
use escape_network::stage::Op;
use escape_snn_core::encode::Encoding;
use escape_snn_core::engine::{Batch, Engine as _};
use escape_snn_core::event::Event;
use escape_snn_core::integer::{IntegerLayer, IntegerNetwork};
use escape_snn_core::neuron::Neuron;
use escape_snn_core::rules::Arithmetic;
use escape_stdb::bptt::Trainable;
use escape_stdb::surrogate::Surrogate;
use tch::Device;

#[path = "../../../tests/random_networks/mod.rs"]
mod networks;
#[path = "../../../tests/random_networks/spiking.rs"]
mod spiking;
use spiking::spiking;

const NETWORKS: u64 = 150;
const STEPS: usize = 9;

/// Two random recordings of so many values.
fn recordings(index: u64, size: usize) -> Vec<f32> {
    let mut random = Stream::new(index, 4);
    (0..2 * size).map(|_| (random.uniform() * 2.0 - 1.0) as f32).collect()
}

/// A potential at a threshold to the last unit must not be decided by how sums are rounded in float32: the host computes convolutions in
/// whole numbers, tensors and linear layers in float32.
#[test]
fn training_sees_the_spikes_of_the_engines() {
    let (mut spikes, mut leaking) = (0, 0);
    for (index, mut network) in (0..NETWORKS).map(|index| (index, spiking(index, STEPS))) {
        if index % 10 == 7 {
            // Whole numbers lose nothing by such a leak.
            for layer in &mut network.layers {
                layer.neuron = Neuron::new(layer.neuron.threshold(), 0.999_99).unwrap();
            }
        }
        let whole = IntegerNetwork::new(&network, Encoding::Direct).unwrap();
        // Sums of float32 are right to half a unit where a threshold has not too many.
        let layers = || whole.layers.iter().take(whole.layers.len() - 1);
        let few = |layer: &IntegerLayer| layer.thresholds.iter().all(|&theta| theta <= 1 << 18);
        let exact = |tensors: bool| layers().all(|l| few(l) || !tensors && l.shape.op != Op::Linear);
        let encoding = if index % 4 == 3 { Encoding::Poisson } else { Encoding::Direct };
        let x = recordings(index, network.input().count());
        let encoder = || network.rules.encoder(encoding, 5);
        let engine = Event::new(network.clone(), encoding).unwrap();
        let found = engine.run(Batch { x: &x, first: 0 }, &mut encoder(), STEPS, &mut ()).unwrap();
        let mut net = Trainable::new(network.clone(), Surrogate::DEFAULT, false, Device::Cpu).unwrap();
        for tensors in [false, true].into_iter().filter(|&tensors| exact(tensors)) {
            leaking += layers().filter(|layer| layer.leak().is_some()).count();
            net.tensor_neurons = tensors;
            let seen = net.gradients(&x, &[0, 0], &[0, 1], &mut encoder(), STEPS).unwrap();
            let name = format!("network {index}, tensors {tensors}");
            let fired: Vec<u64> = seen.neurons.iter().map(|layer| layer.activity.spikes).collect();
            let want: Vec<u64> = found.spikes.iter().map(|layer| layer.iter().sum()).collect();
            let firing = want.len() - 1;
            assert_eq!(fired[..firing], want[..firing], "{name}");
            let largest = found.logits(STEPS).iter().fold(1e-3f32, |most, z| most.max(z.abs()));
            for (seen, want) in seen.readout.iter().zip(found.logits(STEPS)) {
                assert!((seen - want).abs() < 1e-4 * largest, "{name}: {seen} against {want}");
            }
            spikes += fired.iter().sum::<u64>();
        }
    }
    assert!(spikes > 100_000 && leaking > 20, "{spikes} spikes, {leaking} layers that leak");
}

/// Of any kernel, group and stride: where the host follows what is there by rules in float32, its spikes are libtorch's.
#[test]
fn spikes_in_float32_are_those_of_libtorch() {
    let (mut spikes, mut followed) = (0, 0);
    for index in 0..NETWORKS {
        let mut network = spiking(index, STEPS);
        network.rules.arithmetic = Arithmetic::Float32;
        let x = recordings(index, network.input().count());
        let mut net = Trainable::new(network, Surrogate::DEFAULT, false, Device::Cpu).unwrap();
        followed += usize::from(!net.tensor_neurons);
        let fired = [net.tensor_neurons, true].map(|tensors| {
            net.tensor_neurons = tensors;
            let mut encoder = net.network.rules.encoder(Encoding::Poisson, 5);
            let seen = net.gradients(&x, &[0, 0], &[0, 1], &mut encoder, STEPS).unwrap();
            seen.neurons.iter().map(|layer| layer.activity.spikes).collect::<Vec<u64>>()
        });
        assert_eq!(fired[0], fired[1], "network {index}");
        spikes += fired[0].iter().sum::<u64>();
    }
    eprintln!("{followed} of {NETWORKS} networks follow what is there");
    assert!(spikes > 50_000, "{spikes} spikes");
}
