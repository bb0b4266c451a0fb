//! The event engine: networks in whole numbers, computed from the spikes that there are. Plain Rust, no libtorch.
//!
//! A layer's input is a list of arrivals for each pixel: channels that sent something, and how much. An output pixel goes
//! through the arrivals under its kernel; each adds a row of weights, a weight for every output channel, to the pixel's
//! accumulators. Its neurons are stepped at once, and what they send is pooled and listed for the next layer. Time follows
//! spikes: a pixel that is silent costs a look at an empty list. What recordings themselves cause, being constant, is computed
//! once.
//!
//! Spikes and readouts are those of the dense engine, to the last bit: sums of whole numbers have no order.
//!
//! Letters: B batch, T timesteps, C channels, H rows, W columns. Channels come last here: H x W x C.

mod packed;
mod state;

use rayon::prelude::*;

use crate::encode::{Encoder, Encoding};
use crate::engine::{Batch, Engine, Observer, Outcome};
use crate::integer::{IntegerError, IntegerNetwork};
use crate::network::SpikingNetwork;

use packed::Packed;
use state::State;

/// Why a run gave nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    /// The network, or so many timesteps, are beyond whole numbers.
    #[error(transparent)]
    Integer(#[from] IntegerError),
    /// The observer stopped the run.
    #[error("interrupted")]
    Interrupted,
}

/// A network in whole numbers, made ready for simulation.
#[derive(Debug)]
pub struct Event {
    network: SpikingNetwork,
    integer: IntegerNetwork,
    layers: Vec<Packed>,
}

impl Event {
    /// Prepares a network for input of one kind.
    ///
    /// # Errors
    /// [`IntegerError`] of a network that has no whole numbers.
    pub fn new(network: SpikingNetwork, encoding: Encoding) -> Result<Self, IntegerError> {
        let integer = IntegerNetwork::new(&network, encoding)?;
        let layers = (0..integer.layers.len()).map(|k| Packed::new(&integer, k)).collect();
        Ok(Self { network, integer, layers })
    }

    /// The network in whole numbers.
    pub fn integer(&self) -> &IntegerNetwork {
        &self.integer
    }
}

impl Engine for Event {
    type Error = EventError;

    fn network(&self) -> &SpikingNetwork {
        &self.network
    }

    /// # Errors
    /// So many steps may be too many for whole numbers, or the observer stopped the run.
    fn run(
        &self,
        batch: Batch<'_>,
        encoder: &mut Encoder,
        steps: usize,
        observer: &mut dyn Observer,
    ) -> Result<Outcome, EventError> {
        self.integer.check_steps(steps)?;
        let layers = self.layers.len();
        let mut outcome = Outcome::empty(layers, steps);
        let pixels = self.network.input().count();
        if steps == 0 || batch.x.len() < pixels {
            return Ok(outcome);
        }
        let wants = observer.wants_spikes();
        // Drawn for the whole batch at once, which keyed draws do not notice.
        let direct = encoder.is_direct();
        let drawn = if direct { Vec::new() } else { encoder.encode(batch.x, pixels, batch.first, 0, steps) };
        let recordings: Vec<&[f32]> = batch.x.chunks_exact(pixels).collect();
        let found: Vec<state::Found> = recordings
            .par_iter()
            .enumerate()
            .map_init(
                || State::new(&self.integer, &self.layers),
                |state, (b, x)| {
                    let spikes = drawn.get(b * steps * pixels..(b + 1) * steps * pixels);
                    state.simulate(&self.integer, &self.layers, x, spikes, steps, wants && b == 0)
                },
            )
            .collect();
        let classes = self.network.classes();
        for t in 0..steps {
            for one in &found {
                let potentials = &one.readout[t * classes..][..classes];
                outcome.readout.extend(potentials.iter().map(|&u| self.integer.logit(u)));
            }
            for (k, (spikes, operations)) in
                outcome.spikes.iter_mut().zip(&mut outcome.operations).enumerate()
            {
                spikes[t] = found.iter().map(|one| one.spikes[k * steps + t]).sum();
                operations[t] = found.iter().map(|one| one.operations[k * steps + t]).sum();
            }
        }
        if let Some(first) = found.first().filter(|_| wants) {
            observer.spikes(&first.recorded);
        }
        match observer.advanced(steps).is_break() {
            true => Err(EventError::Interrupted),
            false => Ok(outcome),
        }
    }
}
