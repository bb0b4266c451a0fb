//! A neuron that receives a constant current fires at a rate that stands for it.
//! `cargo run -p escape-snn-core --example neuron`
#![allow(clippy::print_stdout)]

use std::error::Error;

use escape_snn_core::neuron::{Dynamics, Neuron, step};
use escape_snn_core::rules::Rules;

fn main() -> Result<(), Box<dyn Error>> {
    let rules = Rules::DEFAULT;
    let neuron = Neuron::new(2.0, 1.0)?;
    let (current, steps) = (0.7, 100);
    let mut u = rules.start * neuron.threshold();
    let mut spikes = 0.0;
    for _ in 0..steps {
        let (_, spike, next) =
            step(Dynamics { neuron, firing: rules.firing, reset: rules.reset }, u, current);
        spikes += spike;
        u = next;
    }
    let stands_for = spikes * neuron.threshold() / steps as f32;
    println!("{spikes} spikes in {steps} steps stand for a current of {stands_for}");
    assert!((stands_for - current).abs() <= neuron.threshold() / steps as f32);
    Ok(())
}
