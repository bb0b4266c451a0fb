//! Loss and gradients of a spiking network over its timesteps:
//! `cargo run --release -p escape-stdb --example gradients`
#![allow(clippy::print_stdout)]

use std::error::Error;

use escape_convert::{Method, activations};
use escape_data::Recordings;
use escape_model::ann::Ann;
use escape_network::arch::{Architecture, CONTACTS, SAMPLES};
use escape_network::family::Family;
use escape_snn_core::encode::Encoding;
use escape_snn_core::rules::Rules;
use escape_stdb::bptt::Trainable;
use escape_stdb::surrogate::Surrogate;
use tch::Device;

fn main() -> Result<(), Box<dyn Error>> {
    let ann =
        Ann::new(Family::published(Architecture::Modified).network(CONTACTS, SAMPLES)?, 1, Device::Cpu)?;
    let x = (0..CONTACTS * SAMPLES).map(|i| (i as f32 * 0.1).sin()).collect();
    let recordings = Recordings::new(x, vec![2], CONTACTS, SAMPLES)?;
    let network =
        activations::convert(&ann, &recordings, Rules::DEFAULT, Method::for_steps(2), &mut |_| true)?;
    let mut encoder = network.rules.encoder(Encoding::Direct, 0);
    let trainable = Trainable::new(network, Surrogate::DEFAULT, true, Device::Cpu)?;
    let found = trainable.gradients(&recordings.x, &recordings.y, &[0], &mut encoder, 2)?;
    println!("loss {:.4}; gradient of the first threshold {:.4}", found.loss, found.neurons[0].threshold);
    assert!(found.loss.is_finite());
    Ok(())
}
