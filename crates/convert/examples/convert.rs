//! A spiking network from an ANN's activations: `cargo run --release -p escape-convert --example convert`
#![allow(clippy::print_stdout)]

use std::error::Error;

use escape_convert::{Method, activations};
use escape_data::Recordings;
use escape_model::ann::Ann;
use escape_network::arch::{Architecture, CONTACTS, SAMPLES};
use escape_network::family::Family;
use escape_snn_core::rules::Rules;
use tch::Device;

fn main() -> Result<(), Box<dyn Error>> {
    let ann =
        Ann::new(Family::published(Architecture::Modified).network(CONTACTS, SAMPLES)?, 1, Device::Cpu)?;
    let x = (0..CONTACTS * SAMPLES).map(|i| (i as f32 * 0.1).sin()).collect();
    let calibration = Recordings::new(x, vec![0], CONTACTS, SAMPLES)?;
    let network =
        activations::convert(&ann, &calibration, Rules::DEFAULT, Method::for_steps(4), &mut |_| true)?;
    for layer in &network.layers {
        println!("{}: threshold {:.4}", layer.shape.name, layer.neuron.threshold());
    }
    Ok(())
}
