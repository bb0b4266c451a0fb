//! Random networks of neurons, in whole numbers. Shared by the tests of several crates, beside `networks`.

use escape_network::rng::Stream;
use escape_network::sequential::Sequential;
use escape_snn_core::encode::Encoding;
use escape_snn_core::integer::{IntegerNetwork, Precision};
use escape_snn_core::network::{SpikingLayer, SpikingNetwork};
use escape_snn_core::neuron::Neuron;
use escape_snn_core::rules::{Arithmetic, Rules};

use super::networks;

/// The spiking network of a number: weights and constants of every size. Those of whole numbers do not overflow in `most_steps`.
pub fn spiking(index: u64, most_steps: usize) -> SpikingNetwork {
    spiking_of(networks::random(index, |n| n.stages().is_ok()), index, most_steps)
}

/// The same of a given network.
pub fn spiking_of(network: Sequential, index: u64, most_steps: usize) -> SpikingNetwork {
    let mut random = Stream::new(index, 3);
    let described = network.folded();
    let layers = network.stages().unwrap().into_iter().map(|stage| {
        let spread = 2.0 / (stage.weights() as f64 / stage.output.channels as f64).sqrt();
        let weights: Vec<f32> = (0..stage.weights()).map(|_| (random.normal() * spread) as f32).collect();
        let bias = match stage.bias {
            true => (0..stage.output.channels).map(|_| (random.normal() * 0.1) as f32).collect(),
            false => Vec::new(),
        };
        let neuron =
            Neuron::new(0.3 + random.uniform() as f32, if index.is_multiple_of(3) { 0.9 } else { 1.0 });
        SpikingLayer { shape: stage, weights: weights.into(), bias, neuron: neuron.unwrap() }
    });
    let mut network = SpikingNetwork { rules: Rules::DEFAULT, network: described, layers: layers.collect() };
    // Weights of every number of bits, and input of as many as no potential overflows with.
    for bits in (4..=[8, 10, 12, 16][index as usize / 7 % 4]).rev() {
        let bits = Precision::new(2 + index as u32 % 7, bits).unwrap();
        network.rules.arithmetic = Arithmetic::Integer(bits);
        let whole = IntegerNetwork::new(&network, Encoding::Direct);
        if whole.is_ok_and(|whole| whole.check_steps(most_steps).is_ok()) {
            break;
        }
    }
    network
}
