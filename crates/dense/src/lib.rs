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
use escape_snn_core::event::EventError;
use escape_snn_core::integer::{IntegerLayer, IntegerNetwork};
use escape_snn_core::network::{SpikingLayer, SpikingNetwork};
use escape_snn_core::neuron::Plane;
use escape_snn_core::rules::Arithmetic;
use tch::{Device, Kind, Tensor};

use pass::Pass;

pub use host::{slice, slice_mut};

/// A network made ready for simulation on one device.
#[derive(Debug)]
pub struct Dense {
    network: SpikingNetwork,
    /// The same in whole numbers, if its rules ask for them.
    integer: Option<IntegerNetwork>,
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
    /// Its sums may be too large for whole numbers, or libtorch could not place the weights on the device.
    pub fn new(network: SpikingNetwork, encoding: Encoding, device: Device) -> Result<Self, ModelError> {
        if network.rules.averaged {
            return Err(ModelError::Data(EventError::Averaged(network.rules.preset).to_string()));
        }
        let integer = match network.rules.arithmetic {
            Arithmetic::Float32 => None,
            Arithmetic::Integer(_) => Some(
                IntegerNetwork::new(&network, encoding).map_err(|why| ModelError::Data(why.to_string()))?,
            ),
        };
        let synapses = match &integer {
            None => network.layers.iter().map(|l| Synapses::new(l, device)).collect::<Result<_, _>>()?,
            Some(integer) => {
                integer.layers.iter().map(|l| Synapses::whole(l, device)).collect::<Result<_, _>>()?
            }
        };
        let fan_out = network.layers.iter().map(|l| l.shape.fan_out()).collect();
        Ok(Self {
            network,
            integer,
            encoding,
            device,
            synapses,
            fan_out,
            budget: DEFAULT_BUDGET,
            tensor_neurons: device.is_cuda(),
        })
    }

    /// The network in whole numbers, if that is what it computes in.
    pub fn integer(&self) -> Option<&IntegerNetwork> {
        self.integer.as_ref()
    }

    /// See [`SpikingNetwork::planes`].
    fn planes(&self, layer: usize) -> (usize, Plane) {
        match &self.integer {
            Some(integer) => integer.planes(layer),
            None => self.network.planes(layer),
        }
    }

    /// Where it computes.
    pub fn device(&self) -> Device {
        self.device
    }

    /// The kind of input it was prepared for.
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// Runs the layers below `layer` for `steps` steps and shows `look` the synaptic currents of `layer`, block by
    /// block: what a conversion takes the layer's threshold from. Blocks are B x T frames; of a network in whole numbers
    /// they are in its own units.
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
        self.check_steps(steps)?;
        let Some(mut pass) = Pass::new(self, batch, encoder, steps, layer)? else { return Ok(()) };
        let mut outcome = Outcome::empty(self.network.layers.len(), steps);
        while let Some(block) = pass.next_block() {
            let current = pass.current_of(layer, &block, encoder, &mut outcome, &mut ())?;
            look(&current.frames)?;
        }
        Ok(())
    }

    /// Refuses more steps than whole numbers are proven to hold.
    fn check_steps(&self, steps: usize) -> Result<(), ModelError> {
        let checked = self.integer.as_ref().map_or(Ok(()), |integer| integer.check_steps(steps));
        checked.map_err(|why| ModelError::Data(why.to_string()))
    }

    /// Steps a block: as many as the budget holds, at least one.
    fn block_steps(&self, batch: usize, constant_input: bool) -> usize {
        let values: usize = (0..self.network.layers.len())
            .map(|k| {
                let (channels, plane) = self.planes(k);
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
    /// So many steps may be too many for whole numbers; of libtorch; [`ModelError::Interrupted`] if the observer stopped the
    /// run.
    fn run(
        &self,
        batch: Batch<'_>,
        encoder: &mut Encoder,
        steps: usize,
        observer: &mut dyn Observer,
    ) -> Result<Outcome, ModelError> {
        let readout = self.network.layers.len() - 1;
        self.check_steps(steps)?;
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
    /// In what the products are summed.
    sums: Kind,
}

/// Whole numbers below this are float32 numbers, and so are their sums.
const EXACT_IN_FLOAT32: i32 = 1 << 24;

impl Synapses {
    /// Those of a layer.
    ///
    /// # Errors
    /// libtorch could not place them on the device.
    pub fn new(layer: &SpikingLayer, device: Device) -> Result<Self, ModelError> {
        let SpikingLayer { shape, weights, bias, .. } = layer;
        Self::of(shape, weights, bias.iter().map(|&b| f64::from(b)), Kind::Float, device)
    }

    /// Those of a layer in whole numbers, whose currents are whole numbers too: in float32 where every partial sum, of which a
    /// bias is a part, is one of its numbers, else in float64.
    fn whole(layer: &IntegerLayer, device: Device) -> Result<Self, ModelError> {
        let weights: Vec<f32> = layer.weights.iter().map(|&w| f32::from(w)).collect();
        let sums = if layer.largest_current < EXACT_IN_FLOAT32 { Kind::Float } else { Kind::Double };
        Self::of(&layer.shape, &weights, layer.bias.iter().map(|&b| f64::from(b)), sums, device)
    }

    /// Biases are float32 numbers wherever sums are in float32.
    fn of(
        shape: &Stage,
        weights: &[f32],
        bias: impl Iterator<Item = f64>,
        sums: Kind,
        device: Device,
    ) -> Result<Self, ModelError> {
        let weight = to_tensor(weights, &shape.weight_shape(), device)?.f_to_kind(sums)?;
        let bias: Vec<f64> = bias.collect();
        let bias = (!bias.is_empty())
            .then(|| Tensor::f_from_slice(&bias)?.f_to_kind(sums)?.f_to_device(device))
            .transpose()?;
        Ok(Self { stage: shape.clone(), weight, bias, sums })
    }

    /// Synaptic currents: N x C x H x W from frames N x C x H x W, or N x outputs. With `padded` the frames already carry the
    /// zeros that the convolution's padding asks for. Float32; where whole numbers were summed in float64, as the nearest
    /// that neurons can tell apart: themselves, as 32-bit whole numbers.
    ///
    /// # Errors
    /// Of libtorch: frames that do not fit the layer.
    pub fn current(&self, frames: &Tensor, padded: bool) -> Result<Tensor, ModelError> {
        let double = self.sums == Kind::Double;
        let frames = if double { frames.f_to_kind(Kind::Double)? } else { frames.shallow_clone() };
        let (weight, bias) = (&self.weight, self.bias.as_ref());
        let current = match self.stage.op {
            Op::Conv(conv) if padded => convolve_padded(&conv, &frames, weight, bias)?,
            Op::Conv(conv) => convolve(&conv, &frames, weight, bias)?,
            Op::Linear => frames.f_flatten(1, -1)?.f_linear(weight, bias)?,
        };
        Ok(if double { current.f_to_kind(Kind::Int)? } else { current })
    }
}
