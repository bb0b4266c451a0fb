//! Which engine simulates.

use std::fmt;

use anyhow::{Error, Result};
#[cfg(feature = "libtorch")]
use escape_dense::Dense;
#[cfg(feature = "libtorch")]
use escape_model::ModelError;
use escape_snn_core::encode::{Encoder, Encoding};
use escape_snn_core::engine::{Batch, Engine, Observer, Outcome};
use escape_snn_core::event::{Event, EventError};
use escape_snn_core::network::SpikingNetwork;
#[cfg(feature = "libtorch")]
use escape_snn_core::rules::Arithmetic;

use crate::defaults::EngineName;
#[cfg(not(feature = "libtorch"))]
use crate::session::WHOLE_PROGRAM;
use crate::session::{Device, usage};

/// One of the engines, made ready for a network.
#[derive(Debug)]
pub enum AnyEngine {
    /// See [`Dense`].
    #[cfg(feature = "libtorch")]
    Dense(Dense),
    /// See [`Event`].
    Event(Event),
}

/// Which of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    #[cfg(feature = "libtorch")]
    Dense,
    Event,
}

/// The engine of a name for a network: the one place that says which engine runs what. Left to choose, it is the event engine for
/// whole numbers on a CPU, whose results are the same and take less time at any activity; but the dense one on a GPU, and for
/// rules in float32, whose sums it rounds as PyTorch does.
#[cfg(feature = "libtorch")]
fn kind(name: EngineName, network: &SpikingNetwork, device: Device) -> Result<Kind> {
    let whole = matches!(network.rules.arithmetic, Arithmetic::Integer(_));
    Ok(match name {
        EngineName::Dense => Kind::Dense,
        EngineName::Event => Kind::Event,
        EngineName::Auto if whole && device == Device::Cpu && Event::check(network).is_ok() => Kind::Event,
        EngineName::Auto => Kind::Dense,
    })
}

/// Without libtorch there is one engine.
#[cfg(not(feature = "libtorch"))]
fn kind(name: EngineName, _: &SpikingNetwork, _: Device) -> Result<Kind> {
    match name {
        EngineName::Dense => Err(usage(format!(
            "--engine dense computes with libtorch, which this escape-snn is built without; leave --engine out, or take \
             {WHOLE_PROGRAM}"
        ))),
        EngineName::Auto | EngineName::Event => Ok(Kind::Event),
    }
}

/// What to do with a network whose layers are too large for the event engine.
#[cfg(feature = "libtorch")]
const OTHER: &str = "give --engine dense";
#[cfg(not(feature = "libtorch"))]
const OTHER: &str = "the dense engine has no such limit, and is a part of the whole program";

/// Makes sure that there is an engine of a name for a network.
///
/// # Errors
/// There is none: [`Usage`](crate::session::Usage), in words.
pub fn check(name: EngineName, network: &SpikingNetwork) -> Result<()> {
    match kind(name, network, Device::Cpu)? {
        Kind::Event => Event::check(network).map_err(|why| usage(format!("{why}; {OTHER}"))),
        #[cfg(feature = "libtorch")]
        Kind::Dense => Ok(()),
    }
}

/// Whether work ended because its listener asked to stop.
pub fn interrupted(error: &Error) -> bool {
    #[cfg(feature = "libtorch")]
    if matches!(error.downcast_ref(), Some(ModelError::Interrupted)) {
        return true;
    }
    matches!(error.downcast_ref(), Some(EventError::Interrupted))
}

impl AnyEngine {
    /// Prepares a network for input of one kind. Only the dense engine makes use of the device.
    ///
    /// # Errors
    /// As [`check`]; the network's sums may be too large for whole numbers, or libtorch fails.
    pub fn new(
        name: EngineName,
        network: SpikingNetwork,
        encoding: Encoding,
        device: Device,
    ) -> Result<Self> {
        Ok(match kind(name, &network, device)? {
            Kind::Event => Self::Event(Event::new(network, encoding)?),
            #[cfg(feature = "libtorch")]
            Kind::Dense => Self::Dense(Dense::new(network, encoding, device)?),
        })
    }
}

impl AnyEngine {
    /// Where it computes.
    pub fn device(&self) -> Device {
        match self {
            #[cfg(feature = "libtorch")]
            Self::Dense(engine) => engine.device(),
            Self::Event(_) => Device::Cpu,
        }
    }
}

impl fmt::Display for AnyEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            #[cfg(feature = "libtorch")]
            Self::Dense(_) => "dense",
            Self::Event(_) => "event",
        })
    }
}

impl Engine for AnyEngine {
    type Error = Error;

    fn network(&self) -> &SpikingNetwork {
        match self {
            #[cfg(feature = "libtorch")]
            Self::Dense(engine) => engine.network(),
            Self::Event(engine) => engine.network(),
        }
    }

    /// # Errors
    /// Those of the engine; see [`interrupted`].
    fn run(
        &self,
        batch: Batch<'_>,
        encoder: &mut Encoder,
        steps: usize,
        observer: &mut dyn Observer,
    ) -> Result<Outcome> {
        Ok(match self {
            #[cfg(feature = "libtorch")]
            Self::Dense(engine) => engine.run(batch, encoder, steps, observer)?,
            Self::Event(engine) => engine.run(batch, encoder, steps, observer)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use escape_snn_core::{network::SpikingLayer, neuron::Neuron, rules::Rules};

    fn network(rules: Rules, window: usize) -> SpikingNetwork {
        let text = format!(
            "input: [1, 1, {window}]\nlayers:\n  - {{type: conv2d, name: a, out: 1, kernel: 1, bias: false}}\n  - {{type: relu}}\n  \
             - {{type: avg_pool2d, kernel: [1, {window}]}}\n  - {{type: flatten}}\n  - {{type: linear, name: z, out: 2, bias: false}}\n"
        );
        let network = escape_checkpoint::description::parse("test", &text).unwrap();
        let layers = network.stages().unwrap().into_iter().map(|shape| SpikingLayer {
            weights: vec![1.0; shape.weights()].into(),
            bias: Vec::new(),
            neuron: Neuron::default(),
            shape,
        });
        SpikingNetwork { rules, layers: layers.collect(), network }
    }

    #[test]
    #[cfg(feature = "libtorch")]
    fn auto_is_the_event_engine_where_results_are_the_same() {
        let (cpu, gpu) = (Device::Cpu, Device::Cuda(0));
        for (rules, window, device, want) in [
            (Rules::DEFAULT, 4, cpu, Kind::Event),
            (Rules::DEFAULT, 4, gpu, Kind::Dense),
            (Rules::DEFAULT, 40_000, cpu, Kind::Dense),
            (Rules::PUBLISHED, 4, cpu, Kind::Dense),
        ] {
            let network = network(rules, window);
            assert_eq!(kind(EngineName::Auto, &network, device).unwrap(), want);
            for (name, want) in [(EngineName::Dense, Kind::Dense), (EngineName::Event, Kind::Event)] {
                assert_eq!(kind(name, &network, device).unwrap(), want);
            }
        }
    }

    #[test]
    fn what_is_too_large_for_events_is_refused_with_what_this_program_can_do() {
        let why = check(EngineName::Event, &network(Rules::DEFAULT, 40_000)).unwrap_err().to_string();
        assert!(why.contains("40000 neurons") && why.ends_with(OTHER), "{why}");
        assert_eq!(why.contains("--engine dense"), cfg!(feature = "libtorch"), "{why}");
    }

    #[test]
    fn being_stopped_is_no_failure() {
        assert!(interrupted(&EventError::Interrupted.into()));
        #[cfg(feature = "libtorch")]
        assert!(interrupted(&ModelError::Interrupted.into()));
        assert!(!interrupted(&usage("no")));
    }
}
