//! Logits of an untrained network: `cargo run --release -p escape-model --example classify`
#![allow(clippy::print_stdout)]

use std::error::Error;

use escape_model::ann::{Ann, to_tensor, to_vec};
use escape_network::arch::{Architecture, CONTACTS, SAMPLES};
use escape_network::family::Family;
use escape_network::metrics::softmax;
use tch::Device;

fn main() -> Result<(), Box<dyn Error>> {
    let network = Family::published(Architecture::Modified).network(CONTACTS, SAMPLES)?;
    let ann = Ann::new(network, 1, Device::Cpu)?;
    let recording: Vec<f32> = (0..CONTACTS * SAMPLES).map(|i| (i as f32 * 0.1).sin()).collect();
    let logits = ann.forward(&to_tensor(&recording, &[1, 1, CONTACTS, SAMPLES], Device::Cpu)?, false)?;
    let probabilities = softmax(&to_vec(&logits)?);
    println!("{probabilities:?}");
    assert_eq!(probabilities.len(), 3);
    Ok(())
}
