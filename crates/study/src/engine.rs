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
use escape_snn_core::rules::{Arithmetic, Rules};

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

/// The engine of a name for networks of these rules: the one place that says which engine can run what.
fn kind(name: EngineName, rules: &Rules) -> Result<Kind> {
    let preset = rules.preset;
    match (name, rules.arithmetic) {
        #[cfg(feature = "libtorch")]
        (EngineName::Auto | EngineName::Dense, _) => Ok(Kind::Dense),
        #[cfg(feature = "libtorch")]
        (EngineName::Event, Arithmetic::Float32) => Err(usage(format!(
            "--engine event computes in whole numbers, and the {preset} preset in float32; leave --engine out"
        ))),
        #[cfg(not(feature = "libtorch"))]
        (EngineName::Dense, _) => Err(usage(format!(
            "--engine dense computes with libtorch, which this escape-snn is built without; leave --engine out, or take \
             {WHOLE_PROGRAM}"
        ))),
        #[cfg(not(feature = "libtorch"))]
        (_, Arithmetic::Float32) => Err(usage(format!(
            "the {preset} preset computes in float32, which the event engine does not, and this escape-snn is built without \
             libtorch and has no other engine; take {WHOLE_PROGRAM}"
        ))),
        (_, Arithmetic::Integer(_)) => Ok(Kind::Event),
    }
}

/// Makes sure that there is an engine of a name for networks of these rules.
///
/// # Errors
/// There is none: [`Usage`](crate::session::Usage), in words.
pub fn check(name: EngineName, rules: &Rules) -> Result<()> {
    kind(name, rules).map(drop)
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
    #[cfg_attr(not(feature = "libtorch"), allow(unused_variables))]
    pub fn new(
        name: EngineName,
        network: SpikingNetwork,
        encoding: Encoding,
        device: Device,
    ) -> Result<Self> {
        Ok(match kind(name, &network.rules)? {
            Kind::Event => Self::Event(Event::new(network, encoding)?),
            #[cfg(feature = "libtorch")]
            Kind::Dense => Self::Dense(Dense::new(network, encoding, device)?),
        })
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

    #[test]
    #[cfg(feature = "libtorch")]
    fn the_dense_engine_runs_everything_and_the_event_engine_whole_numbers() {
        for rules in [Rules::DEFAULT, Rules::PUBLISHED] {
            for name in [EngineName::Auto, EngineName::Dense] {
                assert_eq!(kind(name, &rules).unwrap(), Kind::Dense);
            }
        }
        assert_eq!(kind(EngineName::Event, &Rules::DEFAULT).unwrap(), Kind::Event);
        let why = check(EngineName::Event, &Rules::PUBLISHED).unwrap_err().to_string();
        assert!(why.contains("leave --engine out"), "{why}");
    }

    #[test]
    #[cfg(not(feature = "libtorch"))]
    fn without_libtorch_there_is_the_event_engine_for_whole_numbers() {
        for name in [EngineName::Auto, EngineName::Event] {
            assert_eq!(kind(name, &Rules::DEFAULT).unwrap(), Kind::Event);
            let why = check(name, &Rules::PUBLISHED).unwrap_err().to_string();
            assert!(why.contains("published") && why.contains(WHOLE_PROGRAM), "{why}");
        }
        for rules in [Rules::DEFAULT, Rules::PUBLISHED] {
            let why = check(EngineName::Dense, &rules).unwrap_err().to_string();
            assert!(why.contains("--engine dense") && why.contains(WHOLE_PROGRAM), "{why}");
        }
    }

    #[test]
    fn being_stopped_is_no_failure() {
        assert!(interrupted(&EventError::Interrupted.into()));
        #[cfg(feature = "libtorch")]
        assert!(interrupted(&ModelError::Interrupted.into()));
        assert!(!interrupted(&usage("no")));
    }
}
