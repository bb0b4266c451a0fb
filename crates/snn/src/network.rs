//! The description of a spiking network: layers, weights, thresholds, leaks, rules. No tensors.

use escape_network::sequential::{Sequential, Shape};
use escape_network::stage::Stage;

use crate::Weights;
use crate::neuron::{Dynamics, Neuron, Plane};
use crate::rules::Rules;

/// One layer of synapses and the neurons behind them.
#[derive(Clone, Debug)]
pub struct SpikingLayer {
    /// Sizes and names.
    pub shape: Stage,
    /// Weights, row-major in PyTorch's order.
    pub weights: Weights,
    /// A constant current for each output channel, at every step; empty where there is none.
    pub bias: Vec<f32>,
    /// The constants of its neurons; a readout that only accumulates makes no use of them.
    pub neuron: Neuron,
}

/// A spiking network.
#[derive(Clone, Debug)]
pub struct SpikingNetwork {
    /// Its rules.
    pub rules: Rules,
    /// What it is made from, without batch norms; names its classes.
    pub network: Sequential,
    /// Layers from input to readout.
    pub layers: Vec<SpikingLayer>,
}

impl SpikingNetwork {
    /// The recordings it takes; features in a row where the first layer is a linear one.
    pub fn input(&self) -> Shape {
        self.layers[0].shape.input
    }

    /// How many classes it tells apart.
    pub fn classes(&self) -> usize {
        self.layers.last().map_or(0, |readout| readout.shape.neurons())
    }

    /// Constants of a layer's neurons.
    pub fn dynamics(&self, layer: usize) -> Dynamics {
        let Rules { firing, reset, .. } = self.rules;
        Dynamics { neuron: self.layers[layer].neuron, firing, reset }
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
        Plane::between(&self.layers[layer].shape, self.layers.get(layer + 1).map(|next| &next.shape))
    }
}
