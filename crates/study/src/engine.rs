//! Which engine simulates.

use std::fmt;

use anyhow::Result;
use escape_dense::Dense;
use escape_model::ModelError;
use escape_snn_core::encode::{Encoder, Encoding};
use escape_snn_core::engine::{Batch, Engine, Observer, Outcome};
use escape_snn_core::event::{Event, EventError};
use escape_snn_core::network::SpikingNetwork;
use tch::Device;

use crate::load::EngineName;

/// One of the engines, made ready for a network.
#[derive(Debug)]
pub enum AnyEngine {
    /// See [`Dense`].
    Dense(Dense),
    /// See [`Event`].
    Event(Event),
}

impl AnyEngine {
    /// Prepares a network for input of one kind.
    ///
    /// # Errors
    /// The event engine was asked for and the network computes in float32, its sums may be too large for whole numbers, or
    /// libtorch fails.
    pub fn new(
        name: EngineName,
        network: SpikingNetwork,
        encoding: Encoding,
        device: Device,
    ) -> Result<Self> {
        Ok(match name {
            EngineName::Event => {
                Self::Event(Event::new(network, encoding).map_err(|why| ModelError::Data(why.to_string()))?)
            }
            EngineName::Auto | EngineName::Dense => Self::Dense(Dense::new(network, encoding, device)?),
        })
    }
}

impl fmt::Display for AnyEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dense(_) => "dense",
            Self::Event(_) => "event",
        })
    }
}

impl Engine for AnyEngine {
    type Error = ModelError;

    fn network(&self) -> &SpikingNetwork {
        match self {
            Self::Dense(engine) => engine.network(),
            Self::Event(engine) => engine.network(),
        }
    }

    /// # Errors
    /// Those of the engine.
    fn run(
        &self,
        batch: Batch<'_>,
        encoder: &mut Encoder,
        steps: usize,
        observer: &mut dyn Observer,
    ) -> Result<Outcome, ModelError> {
        match self {
            Self::Dense(engine) => engine.run(batch, encoder, steps, observer),
            Self::Event(engine) => engine.run(batch, encoder, steps, observer).map_err(|why| match why {
                EventError::Interrupted => ModelError::Interrupted,
                why => ModelError::Data(why.to_string()),
            }),
        }
    }
}
