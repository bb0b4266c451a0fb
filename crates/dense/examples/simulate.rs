//! Convert an untrained network by hand and simulate it: `cargo run --release -p escape-dense --example simulate`
#![allow(clippy::print_stdout)]

use std::error::Error;

use escape_dense::Dense;
use escape_model::ann::{Ann, to_vec};
use escape_network::arch::{Architecture, CONTACTS, SAMPLES};
use escape_network::family::Family;
use escape_snn_core::encode::Encoding;
use escape_snn_core::engine::{Batch, Engine, SpikeRecorder};
use escape_snn_core::network::{SpikingLayer, SpikingNetwork};
use escape_snn_core::neuron::Neuron;
use escape_snn_core::rules::Rules;
use tch::Device;

fn main() -> Result<(), Box<dyn Error>> {
    let ann =
        Ann::new(Family::published(Architecture::Modified).network(CONTACTS, SAMPLES)?, 1, Device::Cpu)?;
    let mut layers = Vec::new();
    for (stage, (_, weight)) in ann.network().stages()?.into_iter().zip(ann.parameters()) {
        layers.push(SpikingLayer {
            shape: stage,
            weights: to_vec(weight)?.into(),
            bias: Vec::new(),
            neuron: Neuron::new(0.05, 1.0)?,
        });
    }
    let network = SpikingNetwork { rules: Rules::DEFAULT, network: ann.network().clone(), layers };

    let recording: Vec<f32> = (0..CONTACTS * SAMPLES).map(|i| (i as f32 * 0.1).sin()).collect();
    let mut encoder = network.rules.encoder(Encoding::Direct, 0);
    let engine = Dense::new(network, Encoding::Direct, Device::Cpu)?;
    let mut recorder = SpikeRecorder::default();
    let outcome = engine.run(Batch { x: &recording, first: 0 }, &mut encoder, 4, &mut recorder)?;
    let spikes = recorder.into_spikes();
    println!("{} spikes in 4 steps; the readout is {:?}", spikes.len(), outcome.logits(4));
    assert_eq!(spikes.len() as u64, outcome.spikes.iter().flatten().sum::<u64>());
    Ok(())
}
