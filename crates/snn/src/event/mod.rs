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

#[cfg(target_arch = "x86_64")]
mod avx2;
mod kernels;
mod packed;
mod plane;
mod state;

use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;

use crate::encode::{Encoder, Encoding};
use crate::engine::{Batch, Engine, Observer, Outcome};
use crate::integer::{IntegerError, IntegerNetwork};
use crate::network::SpikingNetwork;

pub use kernels::Instructions;
use packed::{Packed, largest_count};
use state::{Input, State};

/// Why a run gave nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    /// The network, or so many timesteps, are beyond whole numbers.
    #[error(transparent)]
    Integer(#[from] IntegerError),
    /// A mean over more neurons than a count of 16 bits holds.
    #[error(
        "{layer}: a mean over {neurons} neurons, expected at most 32767; simulate it with the dense engine"
    )]
    Window {
        /// The layer.
        layer: String,
        /// Neurons of a window.
        neurons: usize,
    },
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
    instructions: Instructions,
    /// Buffers of earlier runs, for later ones.
    idle: Mutex<Vec<State>>,
}

impl Event {
    /// Prepares a network for input of one kind.
    ///
    /// # Errors
    /// [`EventError`] of a network that has no whole numbers, or that pools more neurons than a count of 16 bits holds.
    pub fn new(network: SpikingNetwork, encoding: Encoding) -> Result<Self, EventError> {
        let integer = IntegerNetwork::new(&network, encoding)?;
        for layer in &integer.layers {
            let largest = largest_count(layer.shape.pool.as_ref());
            if largest > Packed::LARGEST_WORD {
                return Err(EventError::Window { layer: layer.shape.name.clone(), neurons: largest });
            }
        }
        let layers = (0..integer.layers.len()).map(|k| Packed::new(&integer, k)).collect();
        Ok(Self { network, integer, layers, instructions: Instructions::best(), idle: Mutex::default() })
    }

    /// The same with other instructions than the best, where this machine has them.
    #[must_use]
    pub fn with(mut self, instructions: Instructions) -> Self {
        if instructions.are_available() {
            self.instructions = instructions;
        }
        self
    }

    /// Buffers for a run, those of an earlier one if they fit.
    fn borrow(&self, steps: usize) -> Borrowed<'_> {
        // Whoever panicked with the lock in hand left buffers, which any run sets anew.
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = idle.iter().position(|state| state.steps == steps);
        let state = match fits {
            Some(at) => idle.swap_remove(at),
            None => {
                idle.clear();
                State::new(&self.integer, &self.layers, steps)
            }
        };
        Borrowed { state: Some(state), idle: &self.idle }
    }

    /// The network in whole numbers.
    pub fn integer(&self) -> &IntegerNetwork {
        &self.integer
    }
}

/// Buffers that go back when a thread is done with them.
struct Borrowed<'a> {
    /// There until it is dropped.
    state: Option<State>,
    idle: &'a Mutex<Vec<State>>,
}

impl Drop for Borrowed<'_> {
    fn drop(&mut self) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.extend(self.state.take());
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
        // Draws of a generator that goes over the whole batch come before all else; others are made where they are needed.
        let drawn = match &mut *encoder {
            Encoder::PublishedPoisson(_) => draw_all(encoder, batch, pixels, steps),
            Encoder::Direct | Encoder::Poisson { .. } => Vec::new(),
        };
        let encoder = &*encoder;
        let recordings: Vec<&[f32]> = batch.x.chunks_exact(pixels).collect();
        let found: Vec<state::Found> = recordings
            .par_iter()
            .enumerate()
            .map_init(
                || self.borrow(steps),
                |borrowed, (b, x)| {
                    let state =
                        borrowed.state.get_or_insert_with(|| State::new(&self.integer, &self.layers, steps));
                    let input = match encoder {
                        Encoder::Direct => Input::Constant(x),
                        Encoder::Poisson { .. } => Input::Keyed(x, encoder, batch.first + b),
                        Encoder::PublishedPoisson(_) => {
                            Input::Drawn(&drawn[b * steps * pixels..][..steps * pixels])
                        }
                    };
                    let machine = (&self.integer, &self.layers[..], self.instructions);
                    state.simulate(machine, input, wants && b == 0)
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

/// Input spikes of a batch, B x T x P.
fn draw_all(encoder: &mut Encoder, batch: Batch<'_>, pixels: usize, steps: usize) -> Vec<i8> {
    let size = steps * pixels;
    let mut all = vec![0; batch.x.len() / pixels * size];
    for t in 0..steps {
        for (b, x) in batch.x.chunks_exact(pixels).enumerate() {
            encoder.draw(x, batch.first + b, t, &mut all[b * size + t * pixels..][..pixels]);
        }
    }
    all
}
