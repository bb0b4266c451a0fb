//! The study's energy formula on the rates of its first published network.
//! `cargo run -p escape-energy --example published`
#![allow(clippy::print_stdout)]

use std::error::Error;

use escape_energy::published;

fn main() -> Result<(), Box<dyn Error>> {
    // Spikes a neuron over T = 28 steps, of the three convolutions.
    let found = published(&[0.314, 0.685, 0.542])?;
    println!("{found:?}");
    Ok(())
}
