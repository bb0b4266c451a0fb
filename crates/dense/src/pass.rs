//! A run through the layers, block by block.
//!
//! Letters: B batch, T timesteps of the block, K classes.

use std::ops::Range;
use std::time::Instant;

use escape_model::ModelError;
use escape_model::ann::{to_tensor, to_vec};
use escape_model::device::synchronize;
use escape_network::sequential::Shape;
use escape_snn_core::encode::Encoder;
use escape_snn_core::engine::{Batch, Observer, Outcome, Spike};
use escape_snn_core::integer::IntegerLayer;
use escape_snn_core::neuron::{count_nonzero, published_readout_step, weigh_nonzero};
use escape_snn_core::rules::Readout;
use tch::{Device, Kind, Tensor};

use crate::Dense;
use crate::scan::{Currents, Rule, Scan, Tally};

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
    readout: ReadoutPotentials,
    /// Each layer's outgoing frames, with the zeros of the next layer's padding in place.
    frames: Vec<Tensor>,
    /// What the first layer receives where the recording itself is the input, at every step.
    constant: Option<Tensor>,
    /// When the layer before was done.
    since: Instant,
}

/// Membrane potentials of one layer, and how often each neuron fired where a pooling over maxima asks for it.
enum Membranes {
    Real { u: Vec<f32>, fired: Vec<f32> },
    Whole { u: Vec<i32>, fired: Vec<f32> },
    Device { u: Tensor, fired: Option<Tensor> },
}

/// The readout's potentials, B x K.
enum ReadoutPotentials {
    Real(Vec<f32>),
    Whole(Vec<i32>),
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
        let batch = recordings.x.len() / engine.network.input().count();
        if batch == 0 || steps == 0 {
            return Ok(None);
        }
        let since = Instant::now();
        let constant =
            encoder.is_direct().then(|| engine.constant_current(recordings.x, batch)).transpose()?;
        let block = engine.block_steps(batch, constant.is_some());
        let membranes = (0..depth).map(|k| engine.initial_membranes(k, batch)).collect::<Result<_, _>>()?;
        let last = engine.network.layers.len() - 1;
        let neurons = batch * engine.network.layers[last].shape.neurons();
        let readout = match &engine.integer {
            None => ReadoutPotentials::Real(vec![engine.network.initial_potential(last); neurons]),
            Some(_) => ReadoutPotentials::Whole(vec![0; neurons]),
        };
        let frames = engine.frames(batch, block.min(steps))?;
        let done = 0;
        Ok(Some(Self {
            engine,
            recordings,
            batch,
            steps,
            done,
            block,
            membranes,
            readout,
            frames,
            constant,
            since,
        }))
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
            self.lap(k, observer);
            current = Current { frames: self.engine.current(k + 1, &frames, true)?, constant: false };
        }
        Ok(current)
    }

    /// Tells how long a layer took.
    fn lap(&mut self, layer: usize, observer: &mut dyn Observer) {
        if observer.wants_times() {
            synchronize(self.engine.device);
            let now = Instant::now();
            observer.spent(layer, now - self.since);
            self.since = now;
        }
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
        let input = engine.network.input();
        let (pixels, steps) = (input.count(), block.len());
        let spikes = encoder.encode(self.recordings.x, pixels, self.recordings.first, block.start, steps);
        for (n, frame) in spikes.chunks_exact(pixels).enumerate() {
            let t = block.start + n % steps;
            outcome.operations[0][t] += match &engine.fan_out[0][..] {
                [everywhere] => u64::from(count_nonzero(frame)) * u64::from(*everywhere),
                by_pixel => frame
                    .chunks_exact(by_pixel.len())
                    .map(|plane| u64::from(weigh_nonzero(plane, by_pixel)))
                    .sum(),
            };
        }
        let spikes = to_tensor(&spikes, &frames_of(self.batch * steps, input), engine.device)?;
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
        let (channels, plane) = self.engine.planes(k);
        let scan = Scan {
            rule: self.engine.rule(k),
            channels,
            plane,
            fan_out: &self.engine.fan_out[k + 1],
            batch: self.batch,
            steps: block.len(),
            constant_current: current.constant,
            record: record.then_some((k, block.start)),
        };
        match &mut self.membranes[k] {
            Membranes::Real { u, fired } => {
                let frames = self.frames[k].f_narrow(0, 0, (self.batch * block.len()) as i64)?;
                let tally = scan.on_host(u, fired, &current.frames, &frames)?;
                Ok((frames, tally))
            }
            Membranes::Whole { u, fired } => {
                let frames = self.frames[k].f_narrow(0, 0, (self.batch * block.len()) as i64)?;
                let tally = scan.on_host(u, fired, &current.frames, &frames)?;
                Ok((frames, tally))
            }
            Membranes::Device { u, fired } => scan.on_device(u, fired, &current.frames),
        }
    }

    /// Runs the readout over a block.
    pub(crate) fn read_out(
        &mut self,
        current: &Current,
        block: &Range<usize>,
        outcome: &mut Outcome,
        observer: &mut dyn Observer,
    ) -> Result<(), ModelError> {
        let k = self.engine.network.layers.len() - 1;
        // In a network of one layer the recording itself is the readout's input.
        let frames = if current.constant { 1 } else { block.len() };
        let current = current.frames.f_to_device(Device::Cpu)?.f_contiguous()?;
        let mut recorded = Vec::new();
        match (&mut self.readout, &self.engine.integer) {
            (ReadoutPotentials::Whole(potentials), Some(integer)) => {
                let current = Currents::of(&current)?.whole();
                let classes = potentials.len() / self.batch;
                for i in 0..block.len() {
                    for (b, u) in potentials.chunks_exact_mut(classes).enumerate() {
                        let current = &current[(b * frames + i.min(frames - 1)) * classes..][..classes];
                        u.iter_mut().zip(current).for_each(|(u, c)| *u += c);
                    }
                    outcome.readout.extend(potentials.iter().map(|&u| integer.logit(u)));
                }
            }
            (ReadoutPotentials::Real(potentials), _) => {
                let dynamics = self.engine.network.dynamics(k);
                let current = to_vec(&current)?;
                let classes = potentials.len() / self.batch;
                let (mut m, mut spikes) = (vec![0f32; classes], vec![0f32; classes]);
                for (i, t) in block.clone().enumerate() {
                    for (b, u) in potentials.chunks_exact_mut(classes).enumerate() {
                        let current = &current[(b * frames + i.min(frames - 1)) * classes..][..classes];
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
                    outcome.readout.extend_from_slice(potentials);
                }
            }
            // Whole potentials belong to a network in whole numbers.
            (ReadoutPotentials::Whole(_), None) => {}
        }
        observer.spikes(&recorded);
        self.lap(k, observer);
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
                let (channels, plane) = self.planes(k);
                let (rows, columns) = plane.padded();
                let shape = [batch * steps, channels, rows, columns].map(|n| n as i64);
                Ok(Tensor::f_zeros(shape, (Kind::Float, Device::Cpu))?)
            })
            .collect()
    }

    /// What a layer's neurons do in a step.
    fn rule(&self, k: usize) -> Rule<'_> {
        match &self.integer {
            None => Rule::Real(self.network.dynamics(k)),
            Some(integer) => {
                let layer = &integer.layers[k];
                Rule::Whole { thresholds: &layer.thresholds, decay: layer.decay }
            }
        }
    }

    fn initial_membranes(&self, k: usize, batch: usize) -> Result<Membranes, ModelError> {
        let layer = &self.network.layers[k];
        let (channels, plane) = self.planes(k);
        let start = self.network.initial_potential(k);
        // Potentials of one recording in whole numbers, row after row.
        let whole = |layer: &IntegerLayer| -> Vec<i32> {
            let rows = layer.thresholds.len();
            let each = layer.shape.neurons() / rows;
            (0..rows * each).map(|n| layer.initial_potential(n / each)).collect()
        };
        if !self.tensor_neurons {
            let neurons = batch * layer.shape.neurons();
            let fired = vec![0.0; if plane.counts() { neurons } else { 0 }];
            return Ok(match &self.integer {
                None => Membranes::Real { u: vec![start; neurons], fired },
                Some(integer) => Membranes::Whole { u: whole(&integer.layers[k]).repeat(batch), fired },
            });
        }
        let shape = [batch, channels, plane.height, plane.width].map(|n| n as i64);
        let all = (Kind::Float, self.device);
        let fired = plane.counts().then(|| Tensor::f_zeros(shape, all)).transpose()?;
        let u = match &self.integer {
            None => Tensor::f_full(shape, f64::from(start), all)?,
            Some(integer) => Tensor::f_from_slice(&whole(&integer.layers[k]).repeat(batch))?
                .f_view(shape)?
                .f_to_device(self.device)?,
        };
        Ok(Membranes::Device { u, fired })
    }

    /// What the first layer receives from recordings that are themselves the input, once for all steps.
    fn constant_current(&self, x: &[f32], batch: usize) -> Result<Tensor, ModelError> {
        let shape = frames_of(batch, self.network.input());
        let x = match &self.integer {
            None => to_tensor(x, &shape, self.device)?,
            Some(integer) => {
                let whole = integer.precision.round_recording(x);
                let whole: Vec<f32> = whole.into_iter().map(|v| v as f32).collect();
                to_tensor(&whole, &shape, self.device)?
            }
        };
        self.current(0, &x, false)
    }

    /// Synaptic currents of layer `k` from its input frames; those of a layer below come `padded` from the host.
    fn current(&self, k: usize, frames: &Tensor, from_below: bool) -> Result<Tensor, ModelError> {
        let padded = from_below && !self.tensor_neurons;
        self.synapses[k].current(frames, padded)
    }
}

/// The shape of so many frames.
fn frames_of(count: usize, Shape { channels, height, width }: Shape) -> [usize; 4] {
    [count, channels, height, width]
}
