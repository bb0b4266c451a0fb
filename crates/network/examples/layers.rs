//! The layers of the modified ESCAPE-NET, with what each costs.
//! `cargo run -p escape-network --example layers`
#![allow(clippy::print_stdout)]

use escape_network::NetworkError;
use escape_network::arch::{Architecture, CONTACTS, SAMPLES};
use escape_network::family::Family;

fn main() -> Result<(), NetworkError> {
    let network = Family::published(Architecture::Modified).network(CONTACTS, SAMPLES)?;
    for stage in network.stages()? {
        println!(
            "{}: {} neurons, {} weights, {} MACs",
            stage.name,
            stage.neurons(),
            stage.weights(),
            stage.macs()
        );
    }
    Ok(())
}
