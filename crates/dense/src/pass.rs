//! A run through the layers, block by block.
//!
//! Letters: B batch, T timesteps of the block, K classes.

use std::ops::Range;

use escape_model::ModelError;
use escape_model::ann::{convolve, to_tensor, to_vec};
use escape_snn_core::encode::Encoder;
use escape_snn_core::engine::{Batch, Observer, Outcome, Spike};
use escape_snn_core::exact::round_recording;
use escape_snn_core::neuron::{published_readout_step, weigh_nonzero};
use escape_snn_core::rules::{Readout, Sums};
use tch::{Device, Kind, Tensor};

use crate::scan::{Scan, Tally};
use crate::{Dense, synaptic_current};

/// What is carried from block to block.
pub(crate) struct Pass<'a> {
    engine: &'a Dense,
    recordings: Batch<'a>,
    batch: usize,
    steps: usize,
    /// Steps done, and those of a block.
    done: usize,
    block: usize,
    /// Membrane potentials of the layers that are run.
    membranes: Vec<Membranes>,
    /// Those of the readout, on the host: it has a neuron for each class.
    readout: Vec<f32>,
    /// Each layer's outgoing frames, with the zeros of the next layer's padding in place.
    frames: Vec<Tensor>,
    /// What the first layer receives where the recording itself is the input, at every step.
    constant: Option<Tensor>,
}

/// Membrane potentials of one layer.
enum Membranes {
    Host(Vec<f32>),
    Device(Tensor),
}

/// Synaptic currents of one layer over one block.
pub(crate) struct Current {
    /// B x T frames, or B if they are the same at every step.
    pub(crate) frames: Tensor,
    pub(crate) constant: bool,
}

impl<'a> Pass<'a> {
    /// For `steps` steps through the layers below `depth`; `None` if there is nothing to run.
    pub(crate) fn new(
        engine: &'a Dense,
        recordings: Batch<'a>,
        encoder: &Encoder,
        steps: usize,
        depth: usize,
    ) -> Result<Option<Self>, ModelError> {
        let (contacts, samples) = engine.network.input();
        let batch = recordings.x.len() / (contacts * samples);
        if batch == 0 || steps == 0 {
            return Ok(None);
        }
        let constant =
            encoder.is_direct().then(|| engine.constant_current(recordings.x, batch)).transpose()?;
        let block = engine.block_steps(batch, constant.is_some());
        let membranes = (0..depth).map(|k| engine.initial_membranes(k, batch)).collect::<Result<_, _>>()?;
        let last = engine.network.layers.len() - 1;
        let readout =
            vec![engine.network.initial_potential(last); batch * engine.network.layers[last].shape.neurons()];
        let frames = engine.frames(batch, block.min(steps))?;
        let done = 0;
        Ok(Some(Self { engine, recordings, batch, steps, done, block, membranes, readout, frames, constant }))
    }

    /// The steps of the next block.
    pub(crate) fn next_block(&mut self) -> Option<Range<usize>> {
        let start = self.done;
        self.done = self.steps.min(start + self.block);
        (start < self.done).then_some(start..self.done)
    }

    /// Synaptic currents of a layer over a block, for which the layers below run; counts their spikes and what they cause.
    pub(crate) fn current_of(
        &mut self,
        layer: usize,
        block: &Range<usize>,
        encoder: &mut Encoder,
        outcome: &mut Outcome,
        observer: &mut dyn Observer,
    ) -> Result<Current, ModelError> {
        let mut current = self.input_current(block, encoder, outcome)?;
        for k in 0..layer {
            let (frames, tally) = self.fire(k, &current, block, observer.wants_spikes())?;
            for (i, t) in block.clone().enumerate() {
                outcome.spikes[k][t] += tally.spikes[i];
                outcome.operations[k + 1][t] += tally.sent[i];
            }
            observer.spikes(&tally.recorded);
            current = Current { frames: self.engine.current(k + 1, &frames, true)?, constant: false };
        }
        Ok(current)
    }

    /// What the first layer receives.
    fn input_current(
        &self,
        block: &Range<usize>,
        encoder: &mut Encoder,
        outcome: &mut Outcome,
    ) -> Result<Current, ModelError> {
        if let Some(constant) = &self.constant {
            return Ok(Current { frames: constant.shallow_clone(), constant: true });
        }
        let engine = self.engine;
        let (contacts, samples) = engine.network.input();
        let (pixels, steps) = (contacts * samples, block.len());
        let spikes = encoder.encode(self.recordings.x, pixels, self.recordings.first, block.start, steps);
        for (n, frame) in spikes.chunks_exact(pixels).enumerate() {
            let t = block.start + n % steps;
            outcome.operations[0][t] += u64::from(weigh_nonzero(frame, &engine.fan_out[0]));
        }
        let spikes = to_tensor(&spikes, &[self.batch * steps, 1, contacts, samples], engine.device)?;
        Ok(Current { frames: engine.current(0, &spikes, false)?, constant: false })
    }

    /// Lets the neurons of layer `k` run over a block; returns the next layer's input frames.
    fn fire(
        &mut self,
        k: usize,
        current: &Current,
        block: &Range<usize>,
        record: bool,
    ) -> Result<(Tensor, Tally), ModelError> {
        let (channels, plane) = self.engine.network.planes(k);
        let scan = Scan {
            dynamics: self.engine.network.dynamics(k),
            channels,
            plane,
            fan_out: &self.engine.fan_out[k + 1],
            batch: self.batch,
            steps: block.len(),
            constant_current: current.constant,
            record: record.then_some((k, block.start)),
        };
        match &mut self.membranes[k] {
            Membranes::Host(u) => {
                let frames = self.frames[k].f_narrow(0, 0, (self.batch * block.len()) as i64)?;
                let tally = scan.on_host(u, &current.frames, &frames)?;
                Ok((frames, tally))
            }
            Membranes::Device(u) => scan.on_device(u, &current.frames),
        }
    }

    /// Runs the readout over a block.
    pub(crate) fn read_out(
        &mut self,
        current: &Tensor,
        block: &Range<usize>,
        outcome: &mut Outcome,
        observer: &mut dyn Observer,
    ) -> Result<(), ModelError> {
        let k = self.engine.network.layers.len() - 1;
        let dynamics = self.engine.network.dynamics(k);
        let classes = self.readout.len() / self.batch;
        let current = to_vec(current)?;
        let (mut m, mut spikes) = (vec![0f32; classes], vec![0f32; classes]);
        let mut recorded = Vec::new();
        for (i, t) in block.clone().enumerate() {
            for b in 0..self.batch {
                let u = &mut self.readout[b * classes..][..classes];
                let current = &current[(b * block.len() + i) * classes..][..classes];
                match self.engine.network.rules.readout {
                    Readout::Accumulate => u.iter_mut().zip(current).for_each(|(u, c)| *u += c),
                    Readout::Spiking => {
                        published_readout_step(dynamics, u, current, &mut m, &mut spikes);
                        let fired = (0..classes).filter(|&n| spikes[n] > 0.0);
                        outcome.spikes[k][t] += fired.clone().count() as u64;
                        if b == 0 && observer.wants_spikes() {
                            recorded.extend(fired.map(|neuron| Spike { layer: k, step: t, neuron }));
                        }
                    }
                }
            }
            outcome.readout.extend_from_slice(&self.readout);
        }
        observer.spikes(&recorded);
        Ok(())
    }
}

impl Dense {
    /// Buffers for each layer's outgoing frames, with the zeros of the next layer's padding in place; none where
    /// neurons are tensor operations, which make frames of their own.
    fn frames(&self, batch: usize, steps: usize) -> Result<Vec<Tensor>, ModelError> {
        if self.tensor_neurons {
            return Ok(Vec::new());
        }
        (0..self.network.layers.len() - 1)
            .map(|k| {
                let (channels, plane) = self.network.planes(k);
                let (rows, columns) = plane.padded();
                let shape = [batch * steps, channels, rows, columns].map(|n| n as i64);
                Ok(Tensor::f_zeros(shape, (Kind::Float, Device::Cpu))?)
            })
            .collect()
    }

    fn initial_membranes(&self, k: usize, batch: usize) -> Result<Membranes, ModelError> {
        let layer = &self.network.layers[k];
        let start = self.network.initial_potential(k);
        if !self.tensor_neurons {
            return Ok(Membranes::Host(vec![start; batch * layer.shape.neurons()]));
        }
        let (channels, plane) = self.network.planes(k);
        let shape = [batch, channels, plane.height, plane.width].map(|n| n as i64);
        Ok(Membranes::Device(Tensor::f_full(shape, f64::from(start), (Kind::Float, self.device))?))
    }

    /// What the first layer receives from recordings that are themselves the input, once for all steps.
    fn constant_current(&self, x: &[f32], batch: usize) -> Result<Tensor, ModelError> {
        let (contacts, samples) = self.network.input();
        let shape = [batch, 1, contacts, samples];
        if self.network.rules.sums == Sums::Rounded {
            return self.current(0, &to_tensor(x, &shape, self.device)?, false);
        }
        // On a grid and in float64 the sum is exact, whatever its order.
        let mut x = x.to_vec();
        round_recording(&mut x);
        let x = to_tensor(&x, &shape, self.device)?.f_to_kind(Kind::Double)?;
        let weight = self.weights[0].f_to_kind(Kind::Double)?;
        Ok(convolve(&self.network.layers[0].shape, &x, &weight, None)?.f_to_kind(Kind::Float)?)
    }

    /// Synaptic currents of layer `k` from its input frames; those of a layer below come `padded` from the host.
    fn current(&self, k: usize, frames: &Tensor, from_below: bool) -> Result<Tensor, ModelError> {
        let padded = from_below && !self.tensor_neurons;
        synaptic_current(&self.network.layers[k].shape, &self.weights[k], frames, padded)
    }
}
