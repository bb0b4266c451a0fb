//! Spiking networks in whole numbers as programs for an implant.
//!
//! [`c99`] writes C99 without dependencies, allocation, floating point or recursion, [`no_std`] a crate of Rust without these and without
//! unsafe code. The program works column by column as a recording arrives: the network is feed-forward, so a layer's spikes at all
//! timesteps follow from those of the layer below, each stage keeps of its input no more columns than its window has, of each neuron its
//! train of spikes, and a potential lives only while its neuron's train is written. Its readout is the event engine's
//! ([`escape_snn_core::event`]) to the last bit.

mod c;
mod plan;
mod rust;
mod template;

pub use c::c99;
pub use plan::ExportError;
pub use rust::no_std;

use escape_snn_core::integer::IntegerNetwork;

use plan::Plan;

/// A file of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Its name, without a folder.
    pub name: String,
    /// What it holds.
    pub text: String,
}

/// A program, and what it takes.
#[derive(Clone, Debug)]
pub struct Program {
    /// Its files.
    pub files: Vec<Written>,
    /// Bytes of weights, biases and thresholds.
    pub constant_bytes: usize,
    /// Bytes kept between calls.
    pub state_bytes: usize,
}

/// A recording with what the program has to make of it, for its self-test.
#[derive(Clone, Debug)]
pub struct Golden {
    /// The recording in whole numbers: channels x rows x columns.
    pub recording: Vec<i32>,
    /// The readout after the last timestep, a class each.
    pub readout: Vec<i32>,
    /// Spikes of each layer that spikes, over all timesteps.
    pub spikes: Vec<u64>,
}

/// Whether a name can begin every name of a program in C and in Rust.
fn check_prefix(prefix: &str) -> Result<(), ExportError> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let is_name = prefix.starts_with(|c: char| c.is_ascii_lowercase()) && prefix.chars().all(fits);
    match is_name && prefix.len() <= 40 {
        true => Ok(()),
        false => Err(ExportError::Prefix(prefix.to_owned())),
    }
}

/// A network's plan, once it is known that a program can be written for it.
fn prepared(
    network: &IntegerNetwork,
    steps: usize,
    prefix: &str,
    goldens: &[Golden],
) -> Result<Plan, ExportError> {
    check_prefix(prefix)?;
    let plan = Plan::new(network, steps)?;
    if goldens.is_empty() {
        return Err(ExportError::NoGolden);
    }
    Ok(plan)
}
