//! What a network did on average for one sample, and the checks every formula starts with.

use serde::{Deserialize, Serialize};

/// Why an energy could not be computed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum EnergyError {
    /// The published formula knows three convolutions.
    #[error(
        "the published formula needs one rate for each of the {expected} convolutions (conv1, conv2, conv3: spikes \
         per neuron over the whole simulation), got {got}; leave out the linear layers"
    )]
    RateCount {
        /// How many rates it takes.
        expected: usize,
        /// How many were given.
        got: usize,
    },
    /// A count or a rate that cannot be one.
    #[error("{what} of {layer}: expected a finite number of 0 or more, got {got}")]
    Value {
        /// The layer's name.
        layer: String,
        /// Which number, in words.
        what: &'static str,
        /// What it was.
        got: f64,
    },
    /// Nothing to count.
    #[error("the activity names no layer; give one entry for each layer of the network")]
    NoLayers,
    /// A simulation has at least one step.
    #[error("expected at least 1 time step, got 0")]
    NoSteps,
    /// Per-step counts must cover each layer at each step.
    #[error("step {step} (from 0): expected what {expected} layers did, got that of {got}")]
    StepLayers {
        /// The step, from 0.
        step: usize,
        /// Layers of the network.
        expected: usize,
        /// Values given at this step.
        got: usize,
    },
    /// Per-step counts must cover the simulation.
    #[error("expected what the layers did at {expected} steps, got {got}")]
    StepCount {
        /// T of the network.
        expected: usize,
        /// Steps given.
        got: usize,
    },
    /// The published formula needs the layers it is about.
    #[error("the published formula is about {expected}, and the activity has no such layer (it has {got})")]
    MissingLayer {
        /// The layer's name.
        expected: &'static str,
        /// The names there are.
        got: String,
    },
    /// An ANN can skip zeros only where they were counted.
    #[error("{layer}: nobody has counted what is not zero there; measure the ANN")]
    NotCounted {
        /// The layer's name.
        layer: String,
    },
    /// All rates are zero: a silent network has no ratio.
    #[error("no convolution fires at all, so the saving is not a number; check the thresholds")]
    Silent,
}

/// What a layer computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LayerKind {
    /// Convolution.
    Conv,
    /// Fully connected.
    Linear,
}

/// One layer and what it did for one sample, on average.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LayerActivity {
    /// Name: `conv1`, `conv2`, `conv3`, `linear1`, `linear2`.
    pub layer: String,
    /// Convolution or fully connected.
    pub kind: LayerKind,
    /// Multiply-accumulates of one pass of the ANN, per sample (borders counted as if inside, as is usual).
    pub macs: u64,
    /// Neurons, that is outputs before pooling.
    pub neurons: u64,
    /// Values that the next layer takes, that is outputs after pooling.
    pub sent: u64,
    /// Weights.
    pub weights: u64,
    /// Spikes the layer itself fired per sample, over all T steps.
    pub spikes_per_sample: f64,
    /// Accumulates that arriving spikes really caused per sample, over all T steps: for every spike its fan-out
    /// inside the border. 0 for a layer with [`analog_input`](Self::analog_input).
    pub synaptic_operations_per_sample: f64,
    /// The layer sees the recording itself, a constant current, instead of spikes: its synapses are computed
    /// once per sample, as multiply-accumulates.
    pub analog_input: bool,
    /// Of those multiply-accumulates the ones with a value that is not zero, inside the border, where they were counted; and with a
    /// weight that is not zero either, where those were.
    pub nonzero_macs: Option<f64>,
    /// Weights that are not zero, where they were counted.
    pub nonzero_weights: Option<u64>,
    /// Of the accumulates those with a weight that is not zero, likewise.
    pub nonzero_operations: Option<f64>,
    /// Neurons that fired at all in the T steps, likewise.
    pub active: Option<f64>,
}

impl LayerActivity {
    /// Spikes per neuron over the whole simulation, the study's lambda. 0 for a layer without neurons.
    pub fn rate(&self) -> f64 {
        if self.neurons == 0 { 0.0 } else { self.spikes_per_sample / self.neurons as f64 }
    }
}

/// A spiking network and what its layers did for one sample, on average.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NetworkActivity {
    /// T: steps of the simulation.
    pub timesteps: u32,
    /// The membranes leak (leak below 1), so that every update multiplies before it adds.
    pub leaky: bool,
    /// Bits of an input value that the first layer multiplies, where the recording itself is its input.
    pub input_bits: u32,
    /// Bits of a weight, where it computes in whole numbers.
    pub weight_bits: Option<u32>,
    /// The layers, input first.
    pub layers: Vec<LayerActivity>,
}

impl NetworkActivity {
    /// Refuse what no network can have done.
    ///
    /// # Errors
    /// No layer, no step, or a count that is negative or not finite.
    pub fn check(&self) -> Result<(), EnergyError> {
        if self.timesteps == 0 {
            return Err(EnergyError::NoSteps);
        }
        if self.layers.is_empty() {
            return Err(EnergyError::NoLayers);
        }
        for layer in &self.layers {
            count(&layer.layer, "spikes per sample", layer.spikes_per_sample)?;
            count(&layer.layer, "synaptic operations per sample", layer.synaptic_operations_per_sample)?;
            for (what, counted) in [
                ("multiply-accumulates with what is not zero", layer.nonzero_macs),
                ("synaptic operations with weights that are not zero", layer.nonzero_operations),
                ("neurons that fired", layer.active),
            ] {
                counted.map_or(Ok(()), |counted| count(&layer.layer, what, counted))?;
            }
        }
        Ok(())
    }
}

/// One layer of an ANN and what it did for one sample, on average.
#[derive(Debug, Clone, PartialEq)]
pub struct AnnLayer {
    /// Name, as that of the spiking network's layer.
    pub layer: String,
    /// Multiply-accumulates of one pass (borders counted as if inside, as is usual).
    pub macs: u64,
    /// Neurons, that is outputs before pooling.
    pub neurons: u64,
    /// Values that the next layer takes, that is outputs after pooling.
    pub sent: u64,
    /// Weights.
    pub weights: u64,
    /// Weights that are not zero, where they were counted.
    pub nonzero_weights: Option<u64>,
    /// What was not zero, if that was measured.
    pub nonzero: Option<Nonzero>,
}

/// What was not zero in a layer of an ANN, on average for one sample.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Nonzero {
    /// Multiply-accumulates with a value that is not zero: for every such value its fan-out inside the border.
    pub macs: f64,
    /// Those of them with a weight that is not zero either, where they were counted.
    pub macs_of_nonzero_weights: Option<f64>,
    /// Values that it sends, after pooling, that are not zero.
    pub sent: f64,
}

/// Bits of a quantised ANN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AnnBits {
    /// Of a weight and of an activation.
    pub bits: u32,
    /// Of an input value.
    pub input_bits: u32,
}

/// An ANN, run once for each sample.
#[derive(Debug, Clone, PartialEq)]
pub struct AnnActivity {
    /// Its whole numbers; none: it computes in fp32.
    pub bits: Option<AnnBits>,
    /// The layers, input first.
    pub layers: Vec<AnnLayer>,
}

impl AnnActivity {
    /// The full-precision ANN of a spiking network, nothing measured: what it does with every value, zero or not.
    pub fn dense(activity: &NetworkActivity) -> Self {
        let layer = |l: &LayerActivity| AnnLayer {
            layer: l.layer.clone(),
            macs: l.macs,
            neurons: l.neurons,
            sent: l.sent,
            weights: l.weights,
            nonzero_weights: None,
            nonzero: None,
        };
        Self { bits: None, layers: activity.layers.iter().map(layer).collect() }
    }

    /// Whether it is known what was not zero in each of its layers.
    pub fn is_measured(&self) -> bool {
        self.layers.iter().all(|layer| layer.nonzero.is_some())
    }

    /// Refuse what no network can have done.
    ///
    /// # Errors
    /// No layer, or a count that is negative or not finite.
    pub fn check(&self) -> Result<(), EnergyError> {
        if self.layers.is_empty() {
            return Err(EnergyError::NoLayers);
        }
        for layer in &self.layers {
            let Some(nonzero) = layer.nonzero else { continue };
            count(&layer.layer, "multiply-accumulates with what is not zero", nonzero.macs)?;
            count(&layer.layer, "values that are not zero", nonzero.sent)?;
            if let Some(macs) = nonzero.macs_of_nonzero_weights {
                count(&layer.layer, "multiply-accumulates with weights that are not zero", macs)?;
            }
        }
        Ok(())
    }
}

pub(crate) fn count(layer: &str, what: &'static str, got: f64) -> Result<(), EnergyError> {
    if got.is_finite() && got >= 0.0 {
        Ok(())
    } else {
        Err(EnergyError::Value { layer: layer.to_owned(), what, got })
    }
}

#[cfg(test)]
pub(crate) mod examples {
    use super::*;

    /// The network of the published model 1 (T = 28), with arriving spikes as a round number.
    pub(crate) fn model_1(analog_input: bool) -> NetworkActivity {
        let layer = |layer: &str, kind, macs, neurons, weights, spikes, operations| LayerActivity {
            layer: layer.to_owned(),
            kind,
            macs,
            neurons,
            // The first two are pooled over 2 x 2.
            sent: if neurons > 80_000 { neurons / 4 } else { neurons },
            weights,
            spikes_per_sample: spikes,
            synaptic_operations_per_sample: operations,
            analog_input: false,
            nonzero_macs: None,
            nonzero_weights: None,
            nonzero_operations: None,
            active: None,
        };
        let mut layers = vec![
            layer("conv1", LayerKind::Conv, 22_937_600, 358_400, 4_096, 112_650.0, 40e6),
            layer("conv2", LayerKind::Conv, 91_750_400, 89_600, 65_536, 61_392.0, 90e6),
            layer("conv3", LayerKind::Conv, 5_734_400, 22_400, 16_384, 12_132.0, 10e6),
            layer("linear1", LayerKind::Linear, 5_734_400, 256, 5_734_400, 678.0, 3e6),
            layer("linear2", LayerKind::Linear, 768, 3, 768, 6.0, 2_034.0),
        ];
        layers[0].analog_input = analog_input;
        if analog_input {
            layers[0].synaptic_operations_per_sample = 0.0;
        }
        NetworkActivity { timesteps: 28, leaky: false, input_bits: 10, weight_bits: Some(8), layers }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_five_layers_need_126_million_macs() {
        let network = examples::model_1(false);
        assert_eq!(network.layers.iter().map(|l| l.macs).sum::<u64>(), 126_157_568);
    }

    #[test]
    fn impossible_counts_are_refused() {
        let with = |change: fn(&mut NetworkActivity)| {
            let mut network = examples::model_1(false);
            change(&mut network);
            network.check()
        };
        assert_eq!(with(|_| ()), Ok(()));
        assert_eq!(with(|n| n.timesteps = 0), Err(EnergyError::NoSteps));
        assert_eq!(with(|n| n.layers.clear()), Err(EnergyError::NoLayers));
        let nan = with(|n| n.layers[1].spikes_per_sample = f64::NAN).unwrap_err().to_string();
        assert!(nan.contains("spikes per sample of conv2") && nan.contains("NaN"), "{nan}");
        assert!(with(|n| n.layers[4].synaptic_operations_per_sample = -1.0).is_err());
        assert!(with(|n| n.layers[0].spikes_per_sample = f64::INFINITY).is_err());
    }

    #[test]
    fn the_rate_is_spikes_per_neuron() {
        let network = examples::model_1(false);
        assert!((network.layers[0].rate() - 0.314).abs() < 5e-4);
        assert!((network.layers[1].rate() - 0.685).abs() < 5e-4);
        assert!((network.layers[2].rate() - 0.542).abs() < 5e-4);
        let empty = LayerActivity { neurons: 0, ..network.layers[0].clone() };
        assert_eq!(empty.rate(), 0.0);
    }
}
