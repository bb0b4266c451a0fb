//! The dense engine: every synapse computed by libtorch, layer by layer over blocks of timesteps.
//!
//! The network is feed-forward, so a layer's whole spike train follows from that of the layer before it: the synaptic
//! currents of a block of T steps and B recordings are one convolution over B x T frames, the neurons a scan over T.
//! Membrane potentials are carried from block to block, and the block is sized to a memory budget, so memory does not grow
//! with the number of steps.
//!
//! Letters: B batch, T timesteps of the block, C channels, H rows, W columns, K classes. Frames are in the
//! order B x T, each C x H x W.

mod host;
mod pass;
mod scan;
pub mod tensors;

use escape_model::ModelError;
use escape_model::ann::{convolve, convolve_padded, to_tensor};
use escape_network::stage::{Op, Stage};
use escape_snn_core::encode::{Encoder, Encoding};
use escape_snn_core::engine::{Batch, Engine, Observer, Outcome};
use escape_snn_core::network::{SpikingLayer, SpikingNetwork};
use tch::{Device, Kind, Tensor};

use pass::Pass;

pub use host::{slice, slice_mut};

/// A network made ready for simulation on one device.
#[derive(Debug)]
pub struct Dense {
    network: SpikingNetwork,
    encoding: Encoding,
    device: Device,
    synapses: Vec<Synapses>,
    /// Arrivals at each layer, weighed by pixel; see [`Stage::fan_out`].
    fan_out: Vec<Vec<u32>>,
    /// Bytes that the frames of one block may take.
    pub budget: usize,
    /// Computes neurons by tensor operations on the CPU too; they are what a CUDA device uses.
    pub tensor_neurons: bool,
}

/// Bytes of frames that a block takes unless told otherwise.
pub const DEFAULT_BUDGET: usize = 256 << 20;

impl Dense {
    /// Prepares a network for input of one kind.
    ///
    /// # Errors
    /// libtorch could not place the weights on the device.
    pub fn new(mut network: SpikingNetwork, encoding: Encoding, device: Device) -> Result<Self, ModelError> {
        network.round_to_grid(encoding);
        let synapses = network.layers.iter().map(|l| Synapses::new(l, device)).collect::<Result<_, _>>()?;
        let fan_out = network.layers.iter().map(|l| l.shape.fan_out()).collect();
        Ok(Self {
            network,
            encoding,
            device,
            synapses,
            fan_out,
            budget: DEFAULT_BUDGET,
            tensor_neurons: device.is_cuda(),
        })
    }

    /// The kind of input it was prepared for.
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// Runs the layers below `layer` for `steps` steps and shows `look` the synaptic currents of `layer`, block by
    /// block: what a conversion takes the layer's threshold from. Blocks are B x T frames.
    ///
    /// # Errors
    /// Of libtorch, or of `look`.
    pub fn synaptic_currents(
        &self,
        batch: Batch<'_>,
        encoder: &mut Encoder,
        steps: usize,
        layer: usize,
        look: &mut dyn FnMut(&Tensor) -> Result<(), ModelError>,
    ) -> Result<(), ModelError> {
        let Some(mut pass) = Pass::new(self, batch, encoder, steps, layer)? else { return Ok(()) };
        let mut outcome = Outcome::empty(self.network.layers.len(), steps);
        while let Some(block) = pass.next_block() {
            let current = pass.current_of(layer, &block, encoder, &mut outcome, &mut ())?;
            look(&current.frames)?;
        }
        Ok(())
    }

    /// Steps a block: as many as the budget holds, at least one.
    fn block_steps(&self, batch: usize, constant_input: bool) -> usize {
        let values: usize = (0..self.network.layers.len())
            .map(|k| {
                let (channels, plane) = self.network.planes(k);
                let currents = if k == 0 && constant_input { 0 } else { plane.neurons() };
                channels * (currents + plane.padded_len())
            })
            .sum();
        (self.budget / (values * batch * size_of::<f32>()).max(1)).max(1)
    }
}

impl Engine for Dense {
    type Error = ModelError;

    fn network(&self) -> &SpikingNetwork {
        &self.network
    }

    /// # Errors
    /// Of libtorch; [`ModelError::Interrupted`] if the observer stopped the run.
    fn run(
        &self,
        batch: Batch<'_>,
        encoder: &mut Encoder,
        steps: usize,
        observer: &mut dyn Observer,
    ) -> Result<Outcome, ModelError> {
        let readout = self.network.layers.len() - 1;
        let mut outcome = Outcome::empty(readout + 1, steps);
        let Some(mut pass) = Pass::new(self, batch, encoder, steps, readout)? else { return Ok(outcome) };
        while let Some(block) = pass.next_block() {
            let current = pass.current_of(readout, &block, encoder, &mut outcome, observer)?;
            pass.read_out(&current, &block, &mut outcome, observer)?;
            if observer.advanced(block.len()).is_break() {
                return Err(ModelError::Interrupted);
            }
        }
        Ok(outcome)
    }
}

/// Weights and constant currents of one layer, on one device.
#[derive(Debug)]
pub struct Synapses {
    stage: Stage,
    /// The weights, in PyTorch's shape.
    pub weight: Tensor,
    /// The constant current of each output channel, where there is one.
    pub bias: Option<Tensor>,
}

impl Synapses {
    /// Those of a layer.
    ///
    /// # Errors
    /// libtorch could not place them on the device.
    pub fn new(layer: &SpikingLayer, device: Device) -> Result<Self, ModelError> {
        let SpikingLayer { shape, weights, bias, .. } = layer;
        let weight = to_tensor(weights, &shape.weight_shape(), device)?;
        let bias = (!bias.is_empty()).then(|| to_tensor(bias, &[bias.len()], device)).transpose()?;
        Ok(Self { stage: shape.clone(), weight, bias })
    }

    /// Synaptic currents: N x C x H x W from frames N x C x H x W, or N x outputs. With `padded` the frames already carry the
    /// zeros that the convolution's padding asks for.
    ///
    /// # Errors
    /// Of libtorch: frames that do not fit the layer.
    pub fn current(&self, frames: &Tensor, padded: bool) -> Result<Tensor, ModelError> {
        current(&self.stage, &self.weight, self.bias.as_ref(), frames, padded)
    }

    /// As [`Synapses::current`], in float64.
    fn exact_current(&self, frames: &Tensor) -> Result<Tensor, ModelError> {
        let double = |t: &Tensor| t.f_to_kind(Kind::Double);
        let bias = self.bias.as_ref().map(double).transpose()?;
        current(&self.stage, &double(&self.weight)?, bias.as_ref(), &double(frames)?, false)
    }
}

/// See [`Synapses::current`].
fn current(
    stage: &Stage,
    weight: &Tensor,
    bias: Option<&Tensor>,
    frames: &Tensor,
    padded: bool,
) -> Result<Tensor, ModelError> {
    Ok(match stage.op {
        Op::Conv(conv) if padded => convolve_padded(&conv, frames, weight, bias)?,
        Op::Conv(conv) => convolve(&conv, frames, weight, bias)?,
        Op::Linear => frames.f_flatten(1, -1)?.f_linear(weight, bias)?,
    })
}
