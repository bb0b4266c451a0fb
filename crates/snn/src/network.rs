//! The description of a spiking network: layers, weights, thresholds, leaks, rules. No tensors.

use escape_network::sequential::{Padding, Pooling, Sequential, Shape};
use escape_network::stage::{Op, Stage};

use crate::encode::Encoding;
use crate::exact::{ANALOG_BITS, SPIKE_BITS, round_rows};
use crate::neuron::{Dynamics, Neuron, Plane};
use crate::rules::{Rules, Sums};

/// One layer of synapses and the neurons behind them.
#[derive(Clone, Debug)]
pub struct SpikingLayer {
    /// Sizes and names.
    pub shape: Stage,
    /// Weights, row-major in PyTorch's order.
    pub weights: Vec<f32>,
    /// A constant current for each output channel, at every step; empty where there is none.
    pub bias: Vec<f32>,
    /// The constants of its neurons; a readout that only accumulates makes no use of them.
    pub neuron: Neuron,
    /// What a spike counts in the sum over a pooling window; its part of an average, unless that is folded into the next
    /// layer's weights.
    pub share: f32,
}

impl SpikingLayer {
    /// A layer whose averages are averages.
    pub fn new(shape: Stage, weights: Vec<f32>, bias: Vec<f32>, neuron: Neuron) -> Self {
        let share = Plane::of(&shape, Padding::default()).share;
        Self { shape, weights, bias, neuron, share }
    }
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
    /// Puts every layer's weights on the grid on which sums are exact, where the rules ask for exact
    /// sums. See [`crate::exact`]. The parts of an average over a number of neurons that is no power of two are on no grid;
    /// such windows are summed up instead, and the next layer's weights divided.
    pub fn round_to_grid(&mut self, encoding: Encoding) {
        if self.rules.sums == Sums::Rounded {
            return;
        }
        // The largest value that the layer below sends, what its values are multiples of, and what is yet to be divided by.
        let (mut most, mut unit, mut divisor) = (1.0f32, 1.0f32, 1.0f32);
        for (i, layer) in self.layers.iter_mut().enumerate() {
            if divisor > 1.0 {
                layer.weights.iter_mut().for_each(|w| *w /= divisor);
            }
            let row = layer.weights.len() / layer.shape.weight_shape()[0];
            let bits = match (i, encoding) {
                (0, Encoding::Direct) => ANALOG_BITS,
                // Values are multiples of `unit` of up to `most`.
                _ => SPIKE_BITS - (most / unit).log2().ceil() as i32,
            };
            round_rows(&mut layer.weights, &mut layer.bias, row, bits);
            let window = match layer.shape.pool {
                Some(pool) if matches!(pool.pooling, Pooling::Average { .. }) => {
                    pool.kernel.0 * pool.kernel.1
                }
                _ => 1,
            };
            (most, unit, divisor) = if window.is_power_of_two() {
                (1.0, 1.0 / window as f32, 1.0)
            } else {
                // Done before, the next layer's weights are divided already.
                let divisor = if layer.share == 1.0 { 1.0 } else { window as f32 };
                layer.share = 1.0;
                (window as f32, 1.0, divisor)
            };
        }
    }

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
        let SpikingLayer { shape, share, .. } = &self.layers[layer];
        let channels = match shape.op {
            Op::Conv(_) => shape.output.channels,
            Op::Linear => 1,
        };
        let padding = self.layers.get(layer + 1).map_or(Padding::default(), |next| next.shape.padding());
        (channels, Plane { share: *share, ..Plane::of(shape, padding) })
    }
}
