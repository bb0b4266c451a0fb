//! The description of a spiking network: layers, weights, thresholds, leaks, rules. No tensors.

use std::fmt;
use std::str::FromStr;

use escape_network::arch::{Layer, Op};

use crate::encode::{Encoder, Encoding};
use crate::exact::{ANALOG_BITS, SPIKE_BITS, snap_rows};
use crate::neuron::{Dynamics, Firing, Plane};
use crate::random::TorchGenerator;

/// Which set of rules a simulation follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// The study's to the letter, quirks included: fire before the input arrives, potentials from 0, a
    /// spiking readout fed by its own softmax, Poisson input at 0.9 of the magnitude.
    Published,
    /// What a user who wants results should get: fire within the step, potentials from theta/2, a clean
    /// readout, constant input, sums that do not depend on their order.
    Default,
}

impl Preset {
    /// When neurons decide.
    pub fn firing(self) -> Firing {
        match self {
            Self::Published => Firing::BeforeInput,
            Self::Default => Firing::AfterInput,
        }
    }

    /// Potential at the start, as a fraction of the threshold.
    pub fn initial_fraction(self) -> f32 {
        match self {
            Self::Published => 0.0,
            Self::Default => 0.5,
        }
    }

    /// Whether the last layer spikes (otherwise it sums its input over time).
    pub fn spiking_readout(self) -> bool {
        self == Self::Published
    }

    /// The input it uses when none is named.
    pub fn encoding(self) -> Encoding {
        match self {
            Self::Published => Encoding::Poisson,
            Self::Default => Encoding::Direct,
        }
    }

    /// An encoder of this preset's kind, its random numbers from `seed`.
    pub fn encoder(self, encoding: Encoding, seed: u64) -> Encoder {
        match (encoding, self) {
            (Encoding::Direct, _) => Encoder::Direct,
            (Encoding::Poisson, Self::Published) => Encoder::PublishedPoisson(TorchGenerator::new(seed)),
            (Encoding::Poisson, Self::Default) => Encoder::Poisson { seed },
        }
    }

    /// The value that cross-entropy judges, from the readout after `steps` steps: the study takes its
    /// membranes as they are; the clean sum over time becomes a mean, so that its scale, and with it the
    /// loss, is that of the ANN's logits at any number of steps.
    pub fn loss_scale(self, steps: usize) -> f32 {
        match self {
            Self::Published => 1.0,
            Self::Default => 1.0 / steps as f32,
        }
    }
}

impl fmt::Display for Preset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Published => "published",
            Self::Default => "default",
        })
    }
}

impl FromStr for Preset {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "published" => Ok(Self::Published),
            "default" => Ok(Self::Default),
            _ => Err(format!("unknown preset '{text}': expected published or default")),
        }
    }
}

/// One layer of synapses and the neurons behind them.
#[derive(Clone, Debug)]
pub struct SpikingLayer {
    /// Sizes and names.
    pub shape: Layer,
    /// Weights, row-major in PyTorch's order.
    pub weights: Vec<f32>,
    /// Threshold, in units of the membrane potential; the clean readout has none to use.
    pub threshold: f32,
    /// Fraction of the potential kept from step to step.
    pub leak: f32,
}

/// A spiking network.
#[derive(Clone, Debug)]
pub struct SpikingNetwork {
    /// Its rules.
    pub preset: Preset,
    /// Layers from input to readout.
    pub layers: Vec<SpikingLayer>,
}

impl SpikingNetwork {
    /// Puts every layer's weights on the grid on which sums are exact, as the default preset asks; the
    /// published one leaves them as they are. See [`crate::exact`].
    pub fn snap(&mut self, encoding: Encoding) {
        if self.preset == Preset::Published {
            return;
        }
        let mut pool = 1usize;
        for (i, layer) in self.layers.iter_mut().enumerate() {
            let row = layer.weights.len() / layer.shape.weight_shape()[0];
            let bits = match (i, encoding) {
                (0, Encoding::Direct) => ANALOG_BITS,
                // A window of pool x pool spikes comes as a multiple of 1 / pool^2.
                _ => SPIKE_BITS - 2 * pool.ilog2() as i32,
            };
            snap_rows(&mut layer.weights, row, bits);
            pool = layer.shape.pool;
        }
    }

    /// Contacts and samples of the recordings it takes.
    pub fn input(&self) -> (usize, usize) {
        match self.layers[0].shape.op {
            Op::Conv { height, width, .. } => (height, width),
            Op::Linear { inputs, .. } => (1, inputs),
        }
    }

    /// Constants of a layer's neurons.
    pub fn dynamics(&self, layer: usize) -> Dynamics {
        let l = &self.layers[layer];
        Dynamics { threshold: l.threshold, leak: l.leak, firing: self.preset.firing() }
    }

    /// How a layer's spikes reach the layer after it: channels, and each channel's plane. A linear layer
    /// is one row of neurons.
    pub fn planes(&self, layer: usize) -> (usize, Plane) {
        let shape = &self.layers[layer].shape;
        let (channels, height, width) = match shape.op {
            Op::Conv { .. } => shape.output(),
            Op::Linear { outputs, .. } => (1, 1, outputs),
        };
        let padding = self.layers.get(layer + 1).map_or((0, 0), |next| next.shape.padding());
        (channels, Plane { height, width, pool: shape.pool, padding })
    }
}
