//! From a trained ANN to a spiking network.
//!
//! * [`balance`]: the threshold balancing of the study (github.com/shafinulh/ESCAPE_NET_SNN, 2022), on the spiking network as it grows layer by layer; and
//!   thresholds by the rate that is wanted ([`rate`]).
//! * [`activations`]: thresholds from the ANN's own activations, of a layer or of each channel, with the spike's amplitude
//!   folded into the next layer's weights.
//! * [`quantised`]: the ANN itself in whole numbers of a few bits, the baseline that a spiking network has to beat.
//! * [`readout`]: how much of the published readout's drive is its own softmax, and a gain against it.
//! * [`quantile`]: streaming percentiles in fixed memory.

pub mod activations;
pub mod balance;
pub mod quantile;
pub mod quantised;
pub mod rate;
pub mod readout;

use std::fmt;
use std::str::FromStr;

use escape_model::ModelError;
use escape_model::ann::{Ann, to_vec};
use escape_network::fold::BatchNorm;
use escape_network::sequential::{Layer, Role};
use escape_snn_core::network::{SpikingLayer, SpikingNetwork};
use escape_snn_core::neuron::Neuron;
use escape_snn_core::rules::Rules;

/// Which of the observed values becomes a layer's threshold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Method {
    /// The largest.
    Max,
    /// This percentile, 0 to 100.
    Percentile(f64),
    /// This percentile, of each channel of a convolution on its own; folded into the weights, so that a layer still has one
    /// threshold.
    Channels(f64),
    /// None of them: the thresholds that the ANN was trained with, see [`escape_model::rounding`].
    Trained,
    /// Not a value, but the threshold at which a neuron fires this often a step, above 0 and below 1; see [`balance`].
    Rate(f64),
}

impl Method {
    /// What serves the default preset best at a number of timesteps (docs/design.md has the measurement): the fewer the steps,
    /// the more a coarse staircase costs beside what clipping does.
    pub fn for_steps(steps: usize) -> Self {
        Self::Channels(match steps {
            0 | 1 => 99.0,
            2 | 3 => 99.5,
            _ => 99.9,
        })
    }
}

impl FromStr for Method {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "max" => return Ok(Self::Max),
            "trained" => return Ok(Self::Trained),
            _ => {}
        }
        let percent = |p: &str| p.parse().ok().filter(|p: &f64| (0.0..=100.0).contains(p) && *p > 0.0);
        let found = match text.split_once(':') {
            Some(("percentile", p)) => percent(p).map(Self::Percentile),
            Some(("channels", p)) => percent(p).map(Self::Channels),
            Some(("rate", r)) => r.parse().ok().filter(|r: &f64| *r > 0.0 && *r < 1.0).map(Self::Rate),
            _ => None,
        };
        found.ok_or_else(|| {
            format!(
                "unknown method '{text}': expected max, percentile:P or channels:P with P above 0 and up to 100, rate:R with R \
                 above 0 and below 1, or trained"
            )
        })
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Max => f.write_str("max"),
            Self::Trained => f.write_str("trained"),
            Self::Percentile(p) => write!(f, "percentile:{p}"),
            Self::Channels(p) => write!(f, "channels:{p}"),
            Self::Rate(r) => write!(f, "rate:{r}"),
        }
    }
}

/// The ANN's layers as a spiking network with thresholds still to be set; batch norms are folded into the weights.
fn skeleton(ann: &Ann, rules: Rules) -> Result<SpikingNetwork, ModelError> {
    let stages = ann.network().stages().map_err(|why| ModelError::Data(why.to_string()))?;
    let layers = stages.into_iter().map(|stage| {
        let values = |layer: usize, role: Role| match ann.parameter(layer, role) {
            Some(tensor) => to_vec(tensor),
            None => Ok(Vec::new()),
        };
        let mut weights = values(stage.weights_at, Role::Weight)?;
        let mut bias = values(stage.weights_at, Role::Bias)?;
        if let Some(norm) = stage.norm_at
            && let Layer::BatchNorm { eps, .. } = ann.network().layers()[norm].layer
        {
            let of = |role| values(norm, role);
            let [mean, variance, scale, shift] =
                [of(Role::Mean)?, of(Role::Variance)?, of(Role::Scale)?, of(Role::Shift)?];
            let norm = BatchNorm { mean: &mean, variance: &variance, scale: &scale, shift: &shift, eps };
            bias = norm.fold(&mut weights, &bias);
        }
        Ok(SpikingLayer { shape: stage, weights: weights.into(), bias, neuron: Neuron::default() })
    });
    let layers = layers.collect::<Result<_, ModelError>>()?;
    Ok(SpikingNetwork { rules, network: ann.network().folded(), layers })
}

/// Gives a layer's neurons a threshold that was found, or says what to do where it cannot be one.
fn set_threshold(layer: &mut SpikingLayer, threshold: f32) -> Result<(), ModelError> {
    layer.neuron = layer.neuron.with_threshold(threshold).map_err(|_| {
        ModelError::Data(format!(
            "{}: nothing above 0 arrived during calibration (threshold {threshold}); use more samples or steps, a higher \
             percentile, or check the checkpoint's weights",
            layer.shape.name
        ))
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use escape_network::arch::Architecture;
    use escape_network::family::Family;

    #[test]
    fn methods_read_and_print() {
        for text in ["max", "percentile:99", "percentile:99.9", "channels:99.5", "rate:0.1"] {
            assert_eq!(text.parse::<Method>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "percentile",
            "percentile:",
            "percentile:0",
            "percentile:101",
            "percentile:nan",
            "mean",
            "channels:0",
            "rate:0",
            "rate:1",
            "rate",
        ] {
            assert!(text.parse::<Method>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_method_follows_the_number_of_steps() {
        assert_eq!(Method::for_steps(1), Method::Channels(99.0));
        assert_eq!(Method::for_steps(3), Method::Channels(99.5));
        for steps in [4, 32, 1000] {
            assert_eq!(Method::for_steps(steps).to_string(), "channels:99.9");
        }
    }

    #[test]
    fn a_silent_layer_is_named() {
        let network = Family::published(Architecture::Modified).network(56, 100).unwrap();
        let ann = Ann::new(network, 1, tch::Device::Cpu).unwrap();
        let layer = &mut skeleton(&ann, Rules::DEFAULT).unwrap().layers[1];
        assert!(set_threshold(layer, 0.0).unwrap_err().to_string().starts_with("conv2: nothing above 0"));
        set_threshold(layer, 0.5).unwrap();
        assert_eq!(layer.neuron.threshold(), 0.5);
    }
}
