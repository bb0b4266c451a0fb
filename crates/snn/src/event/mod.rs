//! The event engine: networks computed from the spikes that there are, in plain Rust, without libtorch.
//!
//! A layer is simulated over a block of timesteps before the next one's turn. An output pixel goes through what arrived under
//! its kernel, from lists of what is not zero, and adds a row of weights, one for each output channel, for every arrival; these
//! sums stay in registers. Where most of the input is not zero, and where it is the recording itself, whole planes are
//! convolved instead. A pixel's neurons are stepped at once over all steps of the block, and what they send is pooled for the
//! next layer as soon as a row of windows is complete.
//!
//! In whole numbers, spikes and readouts are those of the dense engine to the last bit, whatever the batch, the threads and the
//! instructions: sums of whole numbers have no order. Rules that compute in float32 are simulated as well; there a potential
//! within rounding of its threshold may fire here and not there.
//!
//! Letters: B batch, T timesteps, K classes, P pixels, C channels, H rows, W columns. Channels come last here: H x W x C.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod float;
mod kernels;
mod layer;
mod number;
mod packed;
mod plane;
mod pooling;
mod state;
mod whole;

use std::sync::{Mutex, PoisonError};

use escape_network::sequential::{Padding, Shape};
use escape_network::stage::Stage;
use rayon::prelude::*;

use crate::encode::{Encoder, Encoding};
use crate::engine::{Batch, Engine, Observer, Outcome};
use crate::integer::{IntegerError, IntegerNetwork};
use crate::network::{SpikingLayer, SpikingNetwork};
use crate::rules::{Arithmetic, Preset};

pub use kernels::Instructions;
pub use layer::{Block, WholeLayer};
use number::Number;
use packed::{LANES, Packed};
use plane::LARGEST_WORD;
use state::{Found, How, Input, State};

/// Why a run gave nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    /// The network, or so many timesteps, are beyond whole numbers.
    #[error(transparent)]
    Integer(#[from] IntegerError),
    /// A mean over more neurons than a count of 16 bits holds.
    #[error("{layer}: a mean over {neurons} neurons, the event engine takes at most 32767")]
    Window {
        /// The layer.
        layer: String,
        /// Neurons of a window.
        neurons: usize,
    },
    /// Rules that stand for two networks.
    #[error(
        "the {0} preset averages two networks, which only `evaluate` does; simulate one of them with toolbox or toolbox-zero"
    )]
    Averaged(Preset),
    /// An input of more values than places in lists.
    #[error("{layer}: its input has {values} values, the event engine takes at most {most}")]
    Size {
        /// The layer.
        layer: String,
        /// Values of its input, padding included.
        values: usize,
        /// The most that there may be.
        most: usize,
    },
    /// An encoder of another kind than the engine was prepared for.
    #[error(
        "the engine was prepared for {expected} input and is run with an encoder of another kind; prepare another"
    )]
    Encoder {
        /// What it was prepared for.
        expected: Encoding,
    },
    /// The observer stopped the run.
    #[error("interrupted")]
    Interrupted,
}

/// A network made ready for simulation.
#[derive(Debug)]
pub struct Event {
    network: SpikingNetwork,
    encoding: Encoding,
    machine: Machine,
    instructions: Instructions,
}

/// The numbers in which it is simulated.
#[derive(Debug)]
enum Machine {
    Whole(IntegerNetwork, Layers<i32>),
    Real(Layers<f32>),
}

/// Layers, and buffers of earlier runs for later ones.
#[derive(Debug)]
struct Layers<N: Number> {
    layers: Vec<Packed<N>>,
    idle: Mutex<Vec<State<N>>>,
}

impl Event {
    /// Prepares a network for input of one kind.
    ///
    /// # Errors
    /// [`EventError`] of a network in whole numbers whose sums may be too large, that pools more neurons than a count of 16
    /// bits holds, or that is two by its rules.
    pub fn new(network: SpikingNetwork, encoding: Encoding) -> Result<Self, EventError> {
        if network.rules.averaged {
            return Err(EventError::Averaged(network.rules.preset));
        }
        Self::check(&network)?;
        let instructions = Instructions::best();
        let machine = match network.rules.arithmetic {
            Arithmetic::Integer(_) => {
                let integer = IntegerNetwork::new(&network, encoding)?;
                let layers = whole::pack(&integer, instructions);
                Machine::Whole(integer, Layers { layers, idle: Mutex::default() })
            }
            Arithmetic::Float32 => {
                let layers = float::pack(&network, encoding);
                Machine::Real(Layers { layers, idle: Mutex::default() })
            }
        };
        Ok(Self { network, encoding, machine, instructions })
    }

    /// Makes sure that it can simulate a network, as far as the sizes of its layers are concerned.
    ///
    /// # Errors
    /// [`EventError::Window`] or [`EventError::Size`].
    pub fn check(network: &SpikingNetwork) -> Result<(), EventError> {
        network.layers.iter().try_for_each(|SpikingLayer { shape, .. }| {
            let (layer, neurons) = (shape.name.clone(), shape.largest_count());
            if neurons > LARGEST_WORD {
                return Err(EventError::Window { layer, neurons });
            }
            Self::check_size(shape)
        })
    }

    /// Makes sure that lists of a layer's input can be made.
    fn check_size(shape: &Stage) -> Result<(), EventError> {
        let Shape { channels, height, width } = shape.input;
        let Padding { top, bottom, left, right } = shape.padding();
        let row = (width + left + right) * channels;
        let values = (height + top + bottom) * row;
        // Places in lists are numbers of 32 bits.
        let most = u32::MAX as usize / LANES;
        if values > most {
            return Err(EventError::Size { layer: shape.name.clone(), values, most });
        }
        Ok(())
    }

    /// The same with other instructions than the best, where this machine has them.
    #[must_use]
    pub fn with(mut self, instructions: Instructions) -> Self {
        if instructions.are_available() {
            self.instructions = instructions;
            if let Machine::Whole(integer, layers) = &mut self.machine {
                layers.layers = whole::pack(integer, instructions);
            }
        }
        self
    }

    /// The network in whole numbers, if it computes in them.
    pub fn integer(&self) -> Option<&IntegerNetwork> {
        match &self.machine {
            Machine::Whole(integer, _) => Some(integer),
            Machine::Real(_) => None,
        }
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
        if let Some(integer) = self.integer() {
            integer.check_steps(steps)?;
        }
        if encoder.is_direct() != (self.encoding == Encoding::Direct) {
            return Err(EventError::Encoder { expected: self.encoding });
        }
        let layers = self.network.layers.len();
        let pixels = self.network.input().count();
        let mut outcome = Outcome::empty(layers, steps);
        if steps == 0 || batch.x.len() < pixels {
            return Ok(outcome);
        }
        let recordings: Vec<&[f32]> = batch.x.chunks_exact(pixels).collect();
        // Draws of a generator that goes over the whole batch come before all else; others are made where they are needed.
        let drawn = match &mut *encoder {
            Encoder::PublishedPoisson(_) => encoder.draw_all(batch.x, pixels, batch.first, 0, steps),
            Encoder::Direct | Encoder::Poisson { .. } => Vec::new(),
        };
        let run = Run {
            encoder,
            drawn: &drawn,
            first: batch.first,
            steps,
            record: observer.wants_spikes(),
            with: self.instructions,
        };
        let mut stop = || observer.advanced(0).is_break();
        let found = match &self.machine {
            Machine::Whole(integer, layers) => {
                let whole = |x: &[f32]| Some(integer.precision.round_recording(x));
                layers.run(&run, &recordings, whole, &mut stop)
            }
            Machine::Real(layers) => layers.run(&run, &recordings, |_| None, &mut stop),
        };
        let found = found.ok_or(EventError::Interrupted)?;
        let classes = self.network.classes();
        for t in 0..steps {
            for one in &found {
                outcome.readout.extend_from_slice(&one.readout[t * classes..][..classes]);
            }
        }
        for k in 0..layers {
            for one in &found {
                let of = |all: &[u64], sums: &mut [u64]| {
                    sums.iter_mut().zip(&all[k * steps..]).for_each(|(sum, n)| *sum += n);
                };
                of(&one.spikes, &mut outcome.spikes[k]);
                of(&one.operations, &mut outcome.operations[k]);
            }
            if observer.wants_times() {
                observer.spent(k, found.iter().map(|one| one.spent[k]).sum());
            }
        }
        if let Some(first) = found.first().filter(|_| run.record) {
            observer.spikes(&first.recorded);
        }
        match observer.advanced(steps).is_break() {
            true => Err(EventError::Interrupted),
            false => Ok(outcome),
        }
    }
}

/// What all recordings of a run share.
struct Run<'a> {
    encoder: &'a Encoder,
    /// Input spikes that were drawn before, B x T x P.
    drawn: &'a [i8],
    /// Index of the first recording.
    first: usize,
    steps: usize,
    /// Whether the first one's spikes are wanted.
    record: bool,
    with: Instructions,
}

impl<N: Number> Layers<N> {
    /// Simulates recordings side by side; what is left of the threads shares the layers of each. Nothing, if it is to stop.
    fn run(
        &self,
        run: &Run<'_>,
        recordings: &[&[f32]],
        whole: impl Fn(&[f32]) -> Option<Vec<i32>> + Sync,
        stop: &mut dyn FnMut() -> bool,
    ) -> Option<Vec<Found>> {
        let shares = (rayon::current_num_threads() / recordings.len()).max(1);
        let one =
            |borrowed: &mut Borrowed<'_, N>, (b, x): (usize, &[f32]), stop: &mut dyn FnMut() -> bool| {
                let rounded = if run.encoder.is_direct() { whole(x) } else { None };
                let input = match run.encoder {
                    Encoder::Direct => rounded.as_deref().map_or(Input::Real(x), Input::Whole),
                    Encoder::Poisson { .. } => Input::Keyed(x, run.encoder, run.first + b),
                    Encoder::PublishedPoisson(_) => {
                        let size = run.steps * x.len();
                        Input::Drawn(&run.drawn[b * size..][..size])
                    }
                };
                let how = How { with: run.with, shares, record: run.record && b == 0 };
                borrowed.state.simulate(&self.layers, input, how, stop)
            };
        if let [x] = recordings {
            return one(&mut self.borrow(run.steps, shares), (0, x), stop).map(|found| vec![found]);
        }
        // A few for each thread at a time, so that it is soon noticed when the run is to stop.
        let few = 4 * rayon::current_num_threads();
        let mut found = Vec::with_capacity(recordings.len());
        for (n, some) in recordings.chunks(few).enumerate() {
            if stop() {
                return None;
            }
            let all = some.par_iter().enumerate().map_init(
                || self.borrow(run.steps, shares),
                |borrowed, (b, x)| one(borrowed, (n * few + b, x), &mut || false),
            );
            found.extend(all.flatten().collect::<Vec<_>>());
        }
        Some(found)
    }

    /// Buffers for a run, those of an earlier one if they fit.
    fn borrow(&self, steps: usize, shares: usize) -> Borrowed<'_, N> {
        // Whoever panicked left buffers that any run sets anew.
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = idle.iter().position(|state| (state.steps, state.shares) == (steps, shares));
        let state = match fits {
            Some(at) => idle.swap_remove(at),
            None => {
                idle.clear();
                State::new(&self.layers, steps, shares)
            }
        };
        Borrowed { state, idle: &self.idle }
    }
}

/// Buffers that go back when a thread is done with them.
struct Borrowed<'a, N: Number> {
    state: State<N>,
    idle: &'a Mutex<Vec<State<N>>>,
}

impl<N: Number> Drop for Borrowed<'_, N> {
    fn drop(&mut self) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.push(std::mem::take(&mut self.state));
    }
}
