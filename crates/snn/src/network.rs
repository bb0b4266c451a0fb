//! The description of a spiking network: layers, weights, thresholds, leaks, rules. No tensors.

use escape_network::arch::{Layer, Op};

use crate::encode::Encoding;
use crate::exact::{ANALOG_BITS, SPIKE_BITS, round_rows};
use crate::neuron::{Dynamics, Neuron, Plane};
use crate::rules::{Rules, Sums};

/// One layer of synapses and the neurons behind them.
#[derive(Clone, Debug)]
pub struct SpikingLayer {
    /// Sizes and names.
    pub shape: Layer,
    /// Weights, row-major in PyTorch's order.
    pub weights: Vec<f32>,
    /// The constants of its neurons; a readout that only accumulates makes no use of them.
    pub neuron: Neuron,
}

/// A spiking network.
#[derive(Clone, Debug)]
pub struct SpikingNetwork {
    /// Its rules.
    pub rules: Rules,
    /// Layers from input to readout.
    pub layers: Vec<SpikingLayer>,
}

impl SpikingNetwork {
    /// Puts every layer's weights on the grid on which sums are exact, where the rules ask for exact
    /// sums. See [`crate::exact`].
    pub fn round_to_grid(&mut self, encoding: Encoding) {
        if self.rules.sums == Sums::Rounded {
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
            round_rows(&mut layer.weights, row, bits);
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
        Dynamics { neuron: self.layers[layer].neuron, firing: self.rules.firing }
    }

    /// The potential with which a layer's neurons start; a readout that only accumulates starts its sum at 0.
    pub fn initial_potential(&self, layer: usize) -> f32 {
        match layer < self.rules.firing_layers(self.layers.len()) {
            true => self.layers[layer].neuron.threshold() * self.rules.start,
            false => 0.0,
        }
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
