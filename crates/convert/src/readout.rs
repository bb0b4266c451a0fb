//! What the study's readout does to weak logits, and the remedy.
//!
//! The published readout spikes, and after every step each potential gains the softmax of the K spikes: 1 a step over
//! all classes, 1/K for each on average, whatever the recording. A class is told from the others while potentials of
//! the wrong ones sink, so the synaptic input has to outweigh that drive. In a network with small logits it does not:
//! every class fires all the time, and the residual potentials that the study takes for logits say little.
//!
//! Multiplying the last layer's weights by a gain changes no decision of the ANN and multiplies the readout's input and
//! threshold, but not the softmax.

use std::fmt;
use std::str::FromStr;

use escape_snn_core::network::SpikingNetwork;
use escape_snn_core::neuron::NeuronError;

/// What a potential of the published readout gains from the softmax in a step, averaged over so many classes.
pub fn softmax_drive(classes: usize) -> f32 {
    1.0 / classes as f32
}

/// The mean input of the readout, as a multiple of [`softmax_drive`], from which on a larger gain does not help any more,
/// measured over gains of 1 to 128 (docs/design.md has the table).
pub const AMPLE: f32 = 8.0;

/// Factor on the weights of the last layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Gain {
    /// This one.
    Factor(f32),
    /// The smallest power of two that makes the mean input ample; 1 if it is already.
    Auto,
}

impl Gain {
    /// The factor for a readout of so many classes that receives `mean_input` a step on average.
    pub fn factor(self, mean_input: f32, classes: usize) -> f32 {
        match self {
            Self::Factor(factor) => factor,
            Self::Auto => (AMPLE * softmax_drive(classes) / mean_input).max(1.0).log2().ceil().exp2(),
        }
    }
}

impl FromStr for Gain {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        let factor = text.parse().ok().filter(|g: &f32| *g > 0.0 && g.is_finite());
        factor.map(Self::Factor).ok_or_else(|| format!("expected auto or a positive number, got '{text}'"))
    }
}

impl fmt::Display for Gain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Factor(factor) => write!(f, "{factor}"),
            Self::Auto => f.write_str("auto"),
        }
    }
}

/// Whether the softmax swamps a readout of so many classes that receives `mean_input` a step on average.
pub fn is_swamped(mean_input: f32, classes: usize) -> bool {
    mean_input < AMPLE * softmax_drive(classes)
}

/// Multiplies the weights of the last layer, and with them its input and its threshold.
///
/// # Errors
/// [`NeuronError`] if the threshold is no positive number any more.
pub fn amplify(network: &mut SpikingNetwork, factor: f32) -> Result<(), NeuronError> {
    if let Some(readout) = network.layers.last_mut() {
        readout.weights.iter_mut().for_each(|w| *w *= factor);
        let threshold = readout.neuron.threshold() * factor;
        readout.neuron = readout.neuron.with_threshold(threshold)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gains_read_and_print() {
        for text in ["auto", "16", "0.5"] {
            assert_eq!(text.parse::<Gain>().unwrap().to_string(), text);
        }
        for text in ["", "0", "-2", "nan", "inf", "1e60", "many"] {
            assert!(text.parse::<Gain>().is_err(), "{text}");
        }
    }

    #[test]
    fn auto_is_the_smallest_power_of_two_that_suffices() {
        assert_eq!(Gain::Factor(3.0).factor(0.1, 3), 3.0);
        for mean in [0.001f32, 0.03, 0.2, 0.7, 1.0, 1.3, 1.4, 50.0] {
            let factor = Gain::Auto.factor(mean, 3);
            assert_eq!(factor.log2().fract(), 0.0);
            assert!(!is_swamped(mean * factor, 3), "{mean}: {factor}");
            assert!(factor == 1.0 || is_swamped(mean * factor / 2.0, 3), "{mean}: {factor}");
        }
    }
}
