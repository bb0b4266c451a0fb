//! The rules that a spiking network follows, and the two sets of them that have a name.

use std::fmt;
use std::str::FromStr;

use crate::encode::{Encoder, Encoding};
use crate::integer::{Bits, Precision};
use crate::neuron::{Firing, Reset};
use crate::random::TorchGenerator;

/// What a simulation does, rule by rule. No code that simulates or trains asks which preset it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rules {
    /// The name under which files and tables have these rules.
    pub preset: Preset,
    /// When neurons decide.
    pub firing: Firing,
    /// What a spike takes from a potential.
    pub reset: Reset,
    /// Whether this stands for two networks, one with each reset, whose readouts are averaged
    /// ([`crate::engine::Averaged`]); an engine simulates one of them.
    pub averaged: bool,
    /// Potential at the start, as a fraction of the threshold.
    pub start: f32,
    /// What the last layer does with its synaptic current.
    pub readout: Readout,
    /// The input used where none is named.
    pub encoding: Encoding,
    /// How Poisson input is drawn.
    pub poisson: Poisson,
    /// In what numbers it computes.
    pub arithmetic: Arithmetic,
    /// The value that the loss judges.
    pub loss_scale: LossScale,
}

/// What the last layer does with its synaptic current.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readout {
    /// Sums it over time, never reset; there are no spikes.
    Accumulate,
    /// Spikes, and feeds the softmax of its own spikes back into its potentials, as in the study.
    Spiking,
}

/// How Poisson input is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Poisson {
    /// As the study does: at 0.9 of the magnitude, from PyTorch's generator, over the whole batch step by step.
    Torch,
    /// At the magnitude, each draw a function of seed, recording, step and pixel alone.
    Keyed,
}

/// In what numbers a simulation computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arithmetic {
    /// In float32, whose sums are rounded as PyTorch's are.
    Float32,
    /// In whole numbers, whose sums do not depend on their order; see [`crate::integer`].
    Integer(Precision),
}

/// The value that cross-entropy judges, from the readout after some steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LossScale {
    /// The readout as it is: the study takes its potentials.
    One,
    /// Its mean over the steps, whose scale, and with it the loss, is that of the ANN's logits at any number of steps.
    Mean,
}

impl LossScale {
    /// The factor on the readout after `steps` steps.
    pub fn factor(self, steps: usize) -> f32 {
        match self {
            Self::One => 1.0,
            Self::Mean => 1.0 / steps as f32,
        }
    }
}

impl Rules {
    /// The study's to the letter, quirks included (github.com/shafinulh/ESCAPE_NET_SNN, 2022): neurons decide before their
    /// input arrives, potentials start at 0, the readout spikes and is fed by its own softmax, Poisson input.
    pub const PUBLISHED: Self = Self {
        preset: Preset::Published,
        firing: Firing::BeforeInput,
        reset: Reset::Subtraction,
        averaged: false,
        start: 0.0,
        readout: Readout::Spiking,
        encoding: Encoding::Poisson,
        poisson: Poisson::Torch,
        arithmetic: Arithmetic::Float32,
        loss_scale: LossScale::One,
    };

    /// What a user who wants results should get: neurons fire within the step, potentials start at theta/2, which centres
    /// the rounding error, the readout only sums, the recording is a constant current, and everything is a whole number, so that sums do not depend on their order.
    pub const DEFAULT: Self = Self {
        preset: Preset::Default,
        firing: Firing::AfterInput,
        reset: Reset::Subtraction,
        averaged: false,
        start: 0.5,
        readout: Readout::Accumulate,
        encoding: Encoding::Direct,
        poisson: Poisson::Keyed,
        arithmetic: Arithmetic::Integer(Precision::DEFAULT),
        loss_scale: LossScale::Mean,
    };

    /// Those of the SNN toolbox, for conversions by weight normalisation (Rueckauer et al., "Conversion of continuous-valued deep
    /// networks to efficient event-driven networks", Front. Neurosci. 2017): the recording is a constant current, potentials
    /// start at 0, in float32. The study's first route.
    pub const TOOLBOX: Self = Self {
        preset: Preset::Toolbox,
        start: 0.0,
        poisson: Poisson::Keyed,
        arithmetic: Arithmetic::Float32,
        ..Self::DEFAULT
    };

    /// An encoder for input of a kind, its random numbers from `seed`.
    pub fn encoder(&self, encoding: Encoding, seed: u64) -> Encoder {
        match (encoding, self.poisson) {
            (Encoding::Direct, _) => Encoder::Direct,
            (Encoding::Poisson, Poisson::Torch) => Encoder::PublishedPoisson(TorchGenerator::new(seed)),
            (Encoding::Poisson, Poisson::Keyed) => Encoder::Poisson { seed },
        }
    }

    /// The same with other numbers of bits.
    ///
    /// # Errors
    /// These rules compute in float32, or there are no such numbers; in words.
    pub fn with_bits(self, bits: Bits) -> Result<Self, String> {
        match self.arithmetic {
            _ if bits.is_empty() => Ok(self),
            Arithmetic::Float32 => Err(format!(
                "the {} preset computes in float32; numbers of bits go with the default preset",
                self.preset
            )),
            Arithmetic::Integer(precision) => {
                Ok(Self { arithmetic: Arithmetic::Integer(precision.with(bits)?), ..self })
            }
        }
    }

    /// The precision of its whole numbers, if it computes in them.
    pub fn precision(&self) -> Option<Precision> {
        match self.arithmetic {
            Arithmetic::Float32 => None,
            Arithmetic::Integer(precision) => Some(precision),
        }
    }

    /// How many of `layers` layers have neurons that spike.
    pub fn firing_layers(&self, layers: usize) -> usize {
        match self.readout {
            Readout::Spiking => layers,
            Readout::Accumulate => layers.saturating_sub(1),
        }
    }
}

/// A name for a set of rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// [`Rules::PUBLISHED`].
    Published,
    /// [`Rules::DEFAULT`].
    Default,
    /// [`Rules::TOOLBOX`], reset by subtraction.
    Toolbox,
    /// The same, reset to zero.
    ToolboxZero,
    /// The same, the readouts of both averaged.
    ToolboxMean,
}

impl Preset {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Default, Self::Published, Self::Toolbox, Self::ToolboxZero, Self::ToolboxMean];

    /// What it is a name for.
    pub const fn rules(self) -> Rules {
        match self {
            Self::Published => Rules::PUBLISHED,
            Self::Default => Rules::DEFAULT,
            Self::Toolbox => Rules::TOOLBOX,
            Self::ToolboxZero => Rules { preset: self, reset: Reset::Zero, ..Rules::TOOLBOX },
            Self::ToolboxMean => Rules { preset: self, averaged: true, ..Rules::TOOLBOX },
        }
    }
}

impl fmt::Display for Preset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Published => "published",
            Self::Default => "default",
            Self::Toolbox => "toolbox",
            Self::ToolboxZero => "toolbox-zero",
            Self::ToolboxMean => "toolbox-mean",
        })
    }
}

impl FromStr for Preset {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let named = |preset: &Self| preset.to_string() == text;
        Self::ALL.into_iter().find(named).ok_or_else(|| {
            let names = Self::ALL.map(|preset| preset.to_string()).join(", ");
            format!("unknown preset '{text}': expected one of {names}")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preset_is_the_name_of_its_rules() {
        for preset in Preset::ALL {
            assert_eq!(preset.rules().preset, preset);
            assert_eq!(preset.to_string().parse(), Ok(preset));
        }
        assert!("best".parse::<Preset>().unwrap_err().contains("default, published"));
    }

    #[test]
    fn the_loss_judges_potentials_or_their_mean() {
        assert_eq!(Rules::PUBLISHED.loss_scale.factor(28), 1.0);
        assert_eq!(Rules::DEFAULT.loss_scale.factor(4), 0.25);
    }

    #[test]
    fn bits_go_with_whole_numbers() {
        let bits = Bits { weight: Some(4), input: None };
        let rules = Rules::DEFAULT.with_bits(bits).unwrap();
        assert_eq!(rules.precision(), Precision::new(4, 10).ok());
        assert!(
            Rules::PUBLISHED.with_bits(bits).unwrap_err().contains("published preset computes in float32")
        );
        assert_eq!(Rules::PUBLISHED.with_bits(Bits::default()), Ok(Rules::PUBLISHED));
        assert!(
            Rules::DEFAULT.with_bits(Bits { weight: Some(9), input: None }).unwrap_err().contains("2 to 8")
        );
    }

    #[test]
    fn only_a_spiking_readout_fires() {
        assert_eq!(Rules::PUBLISHED.firing_layers(5), 5);
        assert_eq!(Rules::DEFAULT.firing_layers(5), 4);
    }
}
