//! What an engine does for whoever runs a spiking network: simulate it, and tell of it while it goes on.
//!
//! Letters: B batch, T timesteps, K classes.

use std::ops::ControlFlow;
use std::time::Duration;

use crate::encode::Encoder;
use crate::network::SpikingNetwork;
use crate::neuron::Reset;
use crate::rules::Rules;

/// Simulates a spiking network.
pub trait Engine {
    /// What can go wrong.
    type Error;

    /// The network.
    fn network(&self) -> &SpikingNetwork;

    /// Simulates `steps` timesteps of a batch, its input from `encoder`; `observer` is told of it and may stop it.
    ///
    /// # Errors
    /// The engine's own; among them that the observer stopped the run.
    fn run(
        &self,
        batch: Batch<'_>,
        encoder: &mut Encoder,
        steps: usize,
        observer: &mut dyn Observer,
    ) -> Result<Outcome, Self::Error>;
}

/// A network with each reset whose readouts are averaged: what [`Rules::averaged`] stands for. Spikes and operations are those of
/// both.
#[derive(Debug)]
pub struct Averaged<E> {
    network: SpikingNetwork,
    engines: [E; 2],
}

impl<E: Engine> Averaged<E> {
    /// Prepares both by `engine`.
    ///
    /// # Errors
    /// Those of `engine`.
    pub fn new<R>(
        network: SpikingNetwork,
        mut engine: impl FnMut(SpikingNetwork) -> Result<E, R>,
    ) -> Result<Self, R> {
        let mut with = |reset| {
            let rules = Rules { reset, averaged: false, ..network.rules };
            engine(SpikingNetwork { rules, ..network.clone() })
        };
        let engines = [with(Reset::Subtraction)?, with(Reset::Zero)?];
        Ok(Self { network, engines })
    }

    /// Either of both.
    pub fn either(&self) -> &E {
        &self.engines[0]
    }
}

impl<E: Engine> Engine for Averaged<E> {
    type Error = E::Error;

    fn network(&self) -> &SpikingNetwork {
        &self.network
    }

    fn run(
        &self,
        batch: Batch<'_>,
        encoder: &mut Encoder,
        steps: usize,
        observer: &mut dyn Observer,
    ) -> Result<Outcome, E::Error> {
        let [first, second] = &self.engines;
        // Both receive the same input. The observer hears of the second only, whose steps are the last to be done.
        let mut outcome = first.run(batch, &mut encoder.clone(), steps, &mut Unheard(observer))?;
        let other = second.run(batch, encoder, steps, observer)?;
        outcome.readout.iter_mut().zip(&other.readout).for_each(|(a, b)| *a = (*a + b) / 2.0);
        for (counts, more) in
            [(&mut outcome.spikes, &other.spikes), (&mut outcome.operations, &other.operations)]
        {
            counts.iter_mut().flatten().zip(more.iter().flatten()).for_each(|(a, b)| *a += b);
        }
        Ok(outcome)
    }
}

/// May stop a run, but is told nothing of it.
struct Unheard<'a>(&'a mut dyn Observer);

impl Observer for Unheard<'_> {
    fn advanced(&mut self, _: usize) -> ControlFlow<()> {
        self.0.advanced(0)
    }
}

/// Recordings that are simulated together.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// Their values, B x contacts x samples.
    pub x: &'a [f32],
    /// Index of the first of them in its file, by which keyed encoders draw.
    pub first: usize,
}

/// Is told of a run while it goes on. What it does not care for it leaves out.
pub trait Observer {
    /// Whether the spikes of the batch's first recording are wanted, one by one.
    fn wants_spikes(&self) -> bool {
        false
    }

    /// More spikes of the batch's first recording, in any order.
    fn spikes(&mut self, _spikes: &[Spike]) {}

    /// Whether it is wanted how long each layer took.
    fn wants_times(&self) -> bool {
        false
    }

    /// How long a layer took for the batch, or a block of its steps, summed up over recordings that are simulated side by side:
    /// what arrives at it, its neurons, and what these send.
    fn spent(&mut self, _layer: usize, _time: Duration) {}

    /// So many more timesteps of the batch are done. [`ControlFlow::Break`] stops the run.
    fn advanced(&mut self, _steps: usize) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

/// Nobody who wants to know.
impl Observer for () {}

/// Counts timesteps, and stops the run by returning false.
impl<F: FnMut(usize) -> bool> Observer for F {
    fn advanced(&mut self, steps: usize) -> ControlFlow<()> {
        if self(steps) { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    }
}

/// Keeps every spike of the batch's first recording.
#[derive(Clone, Debug, Default)]
pub struct SpikeRecorder {
    spikes: Vec<Spike>,
}

impl SpikeRecorder {
    /// The spikes, by layer, timestep and neuron.
    pub fn into_spikes(mut self) -> Vec<Spike> {
        self.spikes.sort_unstable();
        self.spikes
    }
}

impl Observer for SpikeRecorder {
    fn wants_spikes(&self) -> bool {
        true
    }

    fn spikes(&mut self, spikes: &[Spike]) {
        self.spikes.extend_from_slice(spikes);
    }
}

/// One spike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Spike {
    /// Layer, from 0.
    pub layer: usize,
    /// Timestep, from 0.
    pub step: usize,
    /// Neuron within the layer, in channel, row, column order.
    pub neuron: usize,
}

/// What a run of T timesteps over one batch gave.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// Readout after every step, T x B x K; the last B x K are the logits.
    pub readout: Vec<f32>,
    /// Output spikes, layer by layer, step by step, summed over the batch.
    pub spikes: Vec<Vec<u64>>,
    /// Synaptic operations that arriving spikes caused: accumulates in this layer, likewise.
    pub operations: Vec<Vec<u64>>,
}

impl Outcome {
    /// No readout yet, and no spike in `layers` layers and `steps` steps.
    pub fn empty(layers: usize, steps: usize) -> Self {
        let zeros = vec![vec![0; steps]; layers];
        Self { readout: Vec::new(), spikes: zeros.clone(), operations: zeros }
    }

    /// The readout after the last of `steps` steps, B x K.
    pub fn logits(&self, steps: usize) -> &[f32] {
        let per_step = self.readout.len() / steps.max(1);
        &self.readout[self.readout.len() - per_step..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recorded_spikes_come_in_order() {
        let spike = |layer, step, neuron| Spike { layer, step, neuron };
        let mut recorder = SpikeRecorder::default();
        assert!(recorder.wants_spikes());
        recorder.spikes(&[spike(0, 1, 5), spike(0, 1, 7)]);
        recorder.spikes(&[spike(1, 0, 2)]);
        recorder.spikes(&[spike(0, 0, 9)]);
        assert_eq!(recorder.into_spikes(), [spike(0, 0, 9), spike(0, 1, 5), spike(0, 1, 7), spike(1, 0, 2)]);
    }

    #[test]
    fn a_closure_stops_by_false() {
        let mut seen = 0;
        let mut count = |n: usize| {
            seen += n;
            seen < 3
        };
        assert!(count.advanced(2).is_continue() && count.advanced(1).is_break());
        assert!(!().wants_spikes() && ().advanced(1).is_continue());
    }

    #[test]
    fn logits_are_the_last_step() {
        let outcome = Outcome { readout: vec![1.0, 2.0, 3.0, 4.0], ..Outcome::empty(1, 2) };
        assert_eq!(outcome.logits(2), [3.0, 4.0]);
        assert!(Outcome::empty(1, 0).logits(0).is_empty());
    }
}
