//! A spiking network as a program, with recordings for its self-test whose results the event engine gives.

use anyhow::Result;
use escape_export::{Golden, Program};
use escape_network::rng::Stream;
use escape_snn_core::encode::Encoding;
use escape_snn_core::engine::{Batch, Engine};
use escape_snn_core::event::Event;
use escape_snn_core::integer::IntegerNetwork;

use crate::load::Simulation;
use crate::session::usage;

/// Names of a program.
#[derive(Clone, Copy, Debug)]
pub struct Names<'a> {
    /// What every name in it begins with.
    pub prefix: &'a str,
    /// What its files call the network.
    pub title: &'a str,
}

/// The largest whole number up to which float32, in which engines give readouts, holds all.
const EXACT: i64 = 1 << 24;

/// In which language.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// C99.
    C,
    /// Rust without the standard library.
    Rust,
}

/// Writes a network as a program whose self-test runs `recordings`, one after the other in values from -1 to 1.
///
/// # Errors
/// The network is none of whole numbers, or one that no program is written for: [`Usage`](crate::session::Usage), in words.
pub fn program(
    language: Language,
    chosen: Simulation,
    recordings: &[f32],
    names: Names<'_>,
) -> Result<Program> {
    let Simulation { network, encoding, steps, .. } = chosen;
    let whole = IntegerNetwork::new(&network, encoding).map_err(|why| usage(why.to_string()))?;
    let readout = whole.layers.last().map_or(0, |l| i64::from(l.largest_current));
    if readout.saturating_mul(steps as i64) >= EXACT {
        return Err(usage(format!(
            "the readout may reach {} over {steps} timesteps, the self-test compares up to {EXACT}; take fewer timesteps or bits",
            readout.saturating_mul(steps as i64)
        )));
    }
    let size = network.input().count();
    let firing = network.rules.firing_layers(network.layers.len());
    let rules = network.rules;
    let mut goldens = Vec::new();
    if encoding == Encoding::Direct {
        let event = Event::new(network, encoding)?;
        for (first, x) in recordings.chunks_exact(size).enumerate() {
            let found = event.run(Batch { x, first }, &mut rules.encoder(encoding, 0), steps, &mut ())?;
            let unit = whole.layers.last().and_then(|l| l.units.first()).copied().unwrap_or(1.0);
            let potential = |&v: &f32| (f64::from(v) / unit).round() as i32;
            goldens.push(Golden {
                recording: whole.precision.round_recording(x),
                readout: found.logits(steps).iter().map(potential).collect(),
                spikes: found.spikes[..firing].iter().map(|steps| steps.iter().sum()).collect(),
            });
        }
    }
    let write = match language {
        Language::C => escape_export::c99,
        Language::Rust => escape_export::no_std,
    };
    write(&whole, steps, names.prefix, names.title, &goldens).map_err(|why| usage(why.to_string()))
}

/// Recordings for a self-test where none are given: values drawn evenly from -1 to 1.
pub fn drawn(values: usize, recordings: usize, seed: u64) -> Vec<f32> {
    let mut random = Stream::new(seed, 0);
    (0..values * recordings).map(|_| (random.uniform() * 2.0 - 1.0) as f32).collect()
}
