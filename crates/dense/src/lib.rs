//! The engine that computes every synapse, layer by layer over blocks of timesteps.
//!
//! The network is feed-forward, so a layer's whole spike train follows from the layer's before it: the
//! synapses of a block of T steps and B recordings are one convolution over B x T frames, the neurons a
//! scan over T. Membranes are carried from block to block, and the block is sized to a memory budget, so
//! memory does not grow with the number of steps.
//!
//! Letters: B batch, T timesteps of the block, C channels, H rows, W columns, K classes. Frames are in the
//! order B x T, each C x H x W.

mod device;
pub mod evaluate;
mod host;

use escape_model::ModelError;
use escape_model::ann::{convolve, to_tensor, to_vec};
use escape_network::arch::{Layer, Op};
use tch::{Device, Kind, Tensor};

use escape_snn_core::encode::{Encoder, Encoding};
use escape_snn_core::exact::snap_recording;
use escape_snn_core::network::{Preset, SpikingNetwork};
use escape_snn_core::neuron::{published_readout_step, weigh_nonzero};

pub use host::{slice, slice_mut};

/// A network made ready for simulation on one device.
#[derive(Debug)]
pub struct Dense {
    network: SpikingNetwork,
    encoding: Encoding,
    device: Device,
    weights: Vec<Tensor>,
    /// Arrivals at each layer, weighed by pixel; see [`escape_network::arch::Layer::fan_out`].
    fan_out: Vec<Vec<u32>>,
    /// Bytes that the frames of one block may take.
    pub budget: usize,
    /// Computes neurons by tensor operations on the CPU too; they are what a CUDA device uses.
    pub tensor_neurons: bool,
}

/// What a run of some steps over one batch gave.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Readout after every step, T x B x K; the last B x K are the logits.
    pub readout: Vec<f32>,
    /// Output spikes, layer by layer, step by step, summed over the batch.
    pub spikes: Vec<Vec<u64>>,
    /// Synaptic operations that arriving spikes caused: accumulates in this layer, likewise.
    pub operations: Vec<Vec<u64>>,
    /// Every spike of the batch's first recording, if they were asked for.
    pub events: Vec<Event>,
}

impl Outcome {
    /// The readout after the last step, B x K.
    pub fn logits(&self, batch: usize) -> &[f32] {
        let per_batch = batch * escape_network::arch::CLASSES;
        &self.readout[self.readout.len().saturating_sub(per_batch)..]
    }
}

/// One spike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Event {
    /// Layer, from 0.
    pub layer: usize,
    /// Timestep, from 0.
    pub step: usize,
    /// Neuron within the layer, in channel, row, column order.
    pub neuron: usize,
}

/// Membranes carried from block to block.
enum Membranes {
    Host(Vec<f32>),
    Device(Tensor),
}

/// Spikes and arriving operations of one layer in one block, step by step.
#[derive(Clone, Debug, Default)]
struct Tally {
    spikes: Vec<u64>,
    /// Operations that these spikes cause in the next layer.
    sent: Vec<u64>,
}

/// Bytes of frames that a block takes unless told otherwise.
pub const DEFAULT_BUDGET: usize = 256 << 20;

impl Dense {
    /// Prepares a network for input of one kind.
    pub fn new(mut network: SpikingNetwork, encoding: Encoding, device: Device) -> Result<Self, ModelError> {
        network.snap(encoding);
        let weights = network
            .layers
            .iter()
            .map(|l| to_tensor(&l.weights, &l.shape.weight_shape(), device))
            .collect::<Result<_, _>>()?;
        let fan_out = network.layers.iter().map(|l| l.shape.fan_out()).collect();
        Ok(Self {
            network,
            encoding,
            device,
            weights,
            fan_out,
            budget: DEFAULT_BUDGET,
            tensor_neurons: device.is_cuda(),
        })
    }

    /// The network.
    pub fn network(&self) -> &SpikingNetwork {
        &self.network
    }

    /// The kind of input it was prepared for.
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// Simulates `steps` steps of a batch of recordings `x`, B x H x W. `first` is the index of the first
    /// recording in its file, `encoder` the source of input; `record` keeps every spike of the first
    /// recording.
    pub fn run(
        &self,
        x: &[f32],
        first: usize,
        encoder: &mut Encoder,
        steps: usize,
        record: bool,
    ) -> Result<Outcome, ModelError> {
        let layers = self.network.layers.len();
        self.run_layers(x, first, encoder, steps, layers, record, &mut |_| Ok(()), &mut |_| true)
    }

    /// As [`Dense::run`]; `tick` hears of steps done, and stops the run by returning false.
    pub fn run_ticking(
        &self,
        x: &[f32],
        first: usize,
        encoder: &mut Encoder,
        steps: usize,
        tick: &mut dyn FnMut(usize) -> bool,
    ) -> Result<Outcome, ModelError> {
        self.run_layers(x, first, encoder, steps, self.network.layers.len(), false, &mut |_| Ok(()), tick)
    }

    /// Runs the layers below `layer` for `steps` steps and shows `look` the input currents of `layer`, block by
    /// block: what a conversion takes the layer's threshold from. `first` is the index of the first recording in its
    /// file.
    #[allow(clippy::too_many_arguments)]
    pub fn look_at_input(
        &self,
        x: &[f32],
        first: usize,
        encoder: &mut Encoder,
        steps: usize,
        layer: usize,
        look: &mut dyn FnMut(&Tensor) -> Result<(), ModelError>,
    ) -> Result<(), ModelError> {
        self.run_layers(x, first, encoder, steps, layer, false, look, &mut |_| true).map(drop)
    }

    /// Runs the first `depth` layers; `look` is shown the input current of the layer after them, if any.
    #[allow(clippy::too_many_arguments)]
    fn run_layers(
        &self,
        x: &[f32],
        first: usize,
        encoder: &mut Encoder,
        steps: usize,
        depth: usize,
        record: bool,
        look: &mut dyn FnMut(&Tensor) -> Result<(), ModelError>,
        tick: &mut dyn FnMut(usize) -> bool,
    ) -> Result<Outcome, ModelError> {
        let (contacts, samples) = self.network.input();
        let pixels = contacts * samples;
        let batch = x.len() / pixels;
        let layers = self.network.layers.len();
        let mut outcome = Outcome {
            spikes: vec![vec![0; steps]; layers],
            operations: vec![vec![0; steps]; layers],
            ..Outcome::default()
        };
        if batch == 0 || steps == 0 {
            return Ok(outcome);
        }
        let mut membranes =
            (0..depth).map(|k| self.initial_membranes(k, batch)).collect::<Result<Vec<_>, _>>()?;
        let constant = encoder.is_direct().then(|| self.analog_current(x, batch)).transpose()?;
        let block = self.block_steps(batch, constant.is_some());
        let mut frames = self.frames(batch, block.min(steps))?;
        for start in (0..steps).step_by(block) {
            let count = block.min(steps - start);
            let mut input = match &constant {
                Some(_) => None,
                None => {
                    let spikes = encoder.encode(x, pixels, first, start, count);
                    for (n, frame) in spikes.chunks_exact(pixels).enumerate() {
                        outcome.operations[0][start + n % count] +=
                            u64::from(weigh_nonzero(frame, &self.fan_out[0]));
                    }
                    Some(to_tensor(&spikes, &[batch * count, 1, contacts, samples], self.device)?)
                }
            };
            for k in 0..=depth.min(layers - 1) {
                let current = match (&input, &constant) {
                    (Some(input), _) => self.current(k, input, k > 0 && !self.tensor_neurons)?,
                    (None, Some(constant)) => constant.shallow_clone(),
                    (None, None) => return Err(ModelError::Data("a layer without input".into())),
                };
                if k == depth {
                    look(&current)?;
                    break;
                }
                let steps_here = start..start + count;
                if k == layers - 1 {
                    self.read_out(&current, &mut membranes[k], batch, steps_here, record, &mut outcome)?;
                    break;
                }
                let held = input.is_none();
                let events = record.then_some(&mut outcome.events);
                let (next, tally) = self.fire(
                    k,
                    &current,
                    held,
                    &mut membranes[k],
                    batch,
                    steps_here.clone(),
                    &mut frames[k],
                    events,
                )?;
                for (i, t) in steps_here.enumerate() {
                    outcome.spikes[k][t] += tally.spikes[i];
                    outcome.operations[k + 1][t] += tally.sent[i];
                }
                input = Some(next);
            }
            if !tick(count) {
                return Err(ModelError::Interrupted);
            }
        }
        outcome.events.sort_unstable();
        Ok(outcome)
    }

    /// Steps a block: as many as the budget holds, at least one.
    fn block_steps(&self, batch: usize, held: bool) -> usize {
        let values: usize = (0..self.network.layers.len())
            .map(|k| {
                let (channels, plane) = self.network.planes(k);
                let currents = if k == 0 && held { 0 } else { plane.neurons() };
                channels * (currents + plane.padded_len())
            })
            .sum();
        (self.budget / (values * batch * size_of::<f32>()).max(1)).max(1)
    }

    /// Buffers for each layer's outgoing frames, with the zeros of the next layer's padding in place.
    fn frames(&self, batch: usize, steps: usize) -> Result<Vec<Tensor>, ModelError> {
        if self.tensor_neurons {
            return Ok((0..self.network.layers.len()).map(|_| Tensor::new()).collect());
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
        let last = k + 1 == self.network.layers.len();
        // The clean readout starts its sum at 0.
        let fraction = if last && !self.network.preset.spiking_readout() {
            0.0
        } else {
            self.network.preset.initial_fraction()
        };
        let value = layer.threshold * fraction;
        if last || !self.tensor_neurons {
            return Ok(Membranes::Host(vec![value; batch * layer.shape.neurons()]));
        }
        let (channels, plane) = self.network.planes(k);
        let shape = [batch, channels, plane.height, plane.width].map(|n| n as i64);
        Ok(Membranes::Device(Tensor::f_full(shape, f64::from(value), (Kind::Float, self.device))?))
    }

    /// What the first layer receives from recordings that are themselves the input, once for all steps.
    fn analog_current(&self, x: &[f32], batch: usize) -> Result<Tensor, ModelError> {
        let (contacts, samples) = self.network.input();
        let shape = [batch, 1, contacts, samples];
        if self.network.preset == Preset::Published {
            return self.current(0, &to_tensor(x, &shape, self.device)?, false);
        }
        // On a grid and in float64 the sum is exact, whatever its order.
        let mut x = x.to_vec();
        snap_recording(&mut x);
        let x = to_tensor(&x, &shape, self.device)?.f_to_kind(Kind::Double)?;
        let weight = self.weights[0].f_to_kind(Kind::Double)?;
        Ok(convolve(&self.network.layers[0].shape, &x, &weight, None)?.f_to_kind(Kind::Float)?)
    }

    /// Input currents of layer `k` from its input frames.
    fn current(&self, k: usize, frames: &Tensor, padded: bool) -> Result<Tensor, ModelError> {
        synapses(&self.network.layers[k].shape, &self.weights[k], frames, padded)
    }

    /// Lets the neurons of layer `k` run over a block; returns the next layer's input frames.
    #[allow(clippy::too_many_arguments)]
    fn fire(
        &self,
        k: usize,
        current: &Tensor,
        held: bool,
        membranes: &mut Membranes,
        batch: usize,
        steps: std::ops::Range<usize>,
        frames: &mut Tensor,
        events: Option<&mut Vec<Event>>,
    ) -> Result<(Tensor, Tally), ModelError> {
        let (channels, plane) = self.network.planes(k);
        let scan = Scan {
            dynamics: self.network.dynamics(k),
            channels,
            plane,
            fan_out: &self.fan_out[k + 1],
            batch,
            steps: steps.len(),
            held,
        };
        let mut spikes_of_first = events.is_some().then(Vec::new);
        let (next, tally) = match membranes {
            Membranes::Host(u) => {
                let frames = frames.f_narrow(0, 0, (batch * steps.len()) as i64)?;
                let tally = scan.on_host(u, current, &frames, spikes_of_first.as_mut())?;
                (frames, tally)
            }
            Membranes::Device(u) => scan.on_device(u, current, spikes_of_first.as_mut())?,
        };
        if let (Some(events), Some(found)) = (events, spikes_of_first) {
            events.extend(found.into_iter().map(|(t, neuron)| Event {
                layer: k,
                step: steps.start + t,
                neuron,
            }));
        }
        Ok((next, tally))
    }

    /// Runs the readout over a block, on the host: it has three neurons.
    fn read_out(
        &self,
        current: &Tensor,
        membranes: &mut Membranes,
        batch: usize,
        steps: std::ops::Range<usize>,
        record: bool,
        outcome: &mut Outcome,
    ) -> Result<(), ModelError> {
        let Membranes::Host(u) = membranes else {
            return Err(ModelError::Data("the readout's membranes belong on the host".into()));
        };
        let k = self.network.layers.len() - 1;
        let dynamics = self.network.dynamics(k);
        let classes = u.len() / batch;
        let current = to_vec(current)?;
        let (mut m, mut spikes) = (vec![0f32; classes], vec![0f32; classes]);
        for (i, t) in steps.clone().enumerate() {
            for b in 0..batch {
                let u = &mut u[b * classes..][..classes];
                let current = &current[(b * steps.len() + i) * classes..][..classes];
                if self.network.preset.spiking_readout() {
                    published_readout_step(dynamics, u, current, &mut m, &mut spikes);
                    outcome.spikes[k][t] += spikes.iter().filter(|&&s| s > 0.0).count() as u64;
                    if record && b == 0 {
                        let fired = (0..classes).filter(|&n| spikes[n] > 0.0);
                        outcome.events.extend(fired.map(|neuron| Event { layer: k, step: t, neuron }));
                    }
                } else {
                    u.iter_mut().zip(current).for_each(|(u, c)| *u += c);
                }
            }
            outcome.readout.extend_from_slice(u);
        }
        Ok(())
    }
}

/// Input currents of a layer: N x C x H x W from frames N x C x H x W, or N x outputs. With `padded` the
/// frames already carry the zeros that `same` padding asks for.
pub fn synapses(layer: &Layer, weight: &Tensor, frames: &Tensor, padded: bool) -> Result<Tensor, ModelError> {
    Ok(match layer.op {
        Op::Conv { .. } if padded => frames.f_conv2d(weight, None::<&Tensor>, [1, 1], [0, 0], [1, 1], 1)?,
        Op::Conv { .. } => convolve(layer, frames, weight, None)?,
        Op::Linear { .. } => frames.f_flatten(1, -1)?.f_linear(weight, None::<&Tensor>)?,
    })
}

/// One layer's neurons over one block.
struct Scan<'a> {
    dynamics: escape_snn_core::neuron::Dynamics,
    channels: usize,
    plane: escape_snn_core::neuron::Plane,
    /// Fan-out of each pixel of the next layer's input; a single entry where it is the same everywhere.
    fan_out: &'a [u32],
    batch: usize,
    steps: usize,
    /// The current is the same at every step, B frames instead of B x T.
    held: bool,
}
