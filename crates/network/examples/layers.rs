//! The layers of the modified ESCAPE-NET, with what each costs.
//! `cargo run -p escape-network --example layers`
#![allow(clippy::print_stdout)]

use escape_network::arch::{Architecture, CONTACTS, SAMPLES};

fn main() {
    for layer in Architecture::Modified.layers(CONTACTS, SAMPLES) {
        println!(
            "{}: {} neurons, {} weights, {} MACs",
            layer.name,
            layer.neurons(),
            layer.weights(),
            layer.macs()
        );
    }
}
