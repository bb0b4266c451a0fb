//! What is done under a preset's rules where nothing else is asked for, and the choices that have names.

use std::fmt;
use std::str::FromStr;

#[cfg(feature = "libtorch")]
use escape_convert::Method;
#[cfg(feature = "libtorch")]
use escape_model::optim::Schedule;
use escape_network::metrics::Loss;
use escape_snn_core::rules::Preset;
#[cfg(feature = "libtorch")]
use escape_stdb::surrogate::Surrogate;
use serde::{Deserialize, Serialize};

/// Held out of training to judge epochs by unless told otherwise: recordings a class, at most a fifth of them.
pub const HELD_OUT: usize = 1000;

/// What is done under a preset's rules where nothing else is asked for. The only place that asks which preset it is.
#[derive(Clone, Copy, Debug)]
pub struct Defaults {
    /// How an ANN becomes a spiking network.
    pub route: Route,
    /// Where thresholds come from in a conversion to so many timesteps.
    #[cfg(feature = "libtorch")]
    pub method: fn(usize) -> Method,
    /// Timesteps of a conversion: those to balance over, or those that the network is meant for.
    pub conversion_steps: usize,
    /// The loss that an ANN is trained with and judged by.
    pub ann_loss: Loss,
    /// What stands in for a spike's derivative when a network is fine-tuned.
    #[cfg(feature = "libtorch")]
    pub surrogate: Surrogate,
    /// Whether fine-tuning learns thresholds and decays.
    pub learn_neurons: bool,
    /// How the learning rate of a fine-tuning goes.
    pub schedule: ScheduleName,
    /// Recordings a class held out to judge epochs by; 0: the test recordings judge them.
    pub held_out: usize,
}

/// How an ANN becomes a spiking network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// Threshold balancing: layer by layer, from what arrives in a simulation.
    Balancing,
    /// Thresholds from the ANN's own activations.
    Activations,
}

impl Defaults {
    /// The study's (github.com/shafinulh/ESCAPE_NET_SNN, 2022).
    const PUBLISHED: Self = Self {
        route: Route::Balancing,
        #[cfg(feature = "libtorch")]
        method: |_| Method::Max,
        conversion_steps: 1000,
        ann_loss: Loss::SoftmaxCrossEntropy,
        #[cfg(feature = "libtorch")]
        surrogate: Surrogate::PUBLISHED_LINEAR,
        learn_neurons: false,
        schedule: ScheduleName::Constant,
        held_out: 0,
    };

    /// What a user who wants results should get.
    const DEFAULT: Self = Self {
        route: Route::Activations,
        #[cfg(feature = "libtorch")]
        method: Method::for_steps,
        conversion_steps: 4,
        ann_loss: Loss::CrossEntropy,
        #[cfg(feature = "libtorch")]
        surrogate: Surrogate::DEFAULT,
        learn_neurons: true,
        schedule: ScheduleName::Linear,
        held_out: HELD_OUT,
    };

    /// Those of weight normalisation, which needs many steps.
    const TOOLBOX: Self = Self {
        #[cfg(feature = "libtorch")]
        method: |_| Method::Percentile(99.9),
        conversion_steps: 300,
        ..Self::DEFAULT
    };

    /// Those under a preset's rules.
    pub const fn of(preset: Preset) -> Self {
        match preset {
            Preset::Published => Self::PUBLISHED,
            Preset::Default => Self::DEFAULT,
            Preset::Toolbox | Preset::ToolboxZero | Preset::ToolboxMean => Self::TOOLBOX,
        }
    }
}

/// An enum whose members have one name on the command line and in configurations.
macro_rules! named {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $member:ident = $text:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$doc])* #[serde(rename = $text)] $member,)+
        }

        impl $name {
            /// The names of its members.
            pub const NAMES: &'static [&'static str] = &[$($text),+];
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$member => $text),+ })
            }
        }

        impl FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                match text {
                    $($text => Ok(Self::$member),)+
                    _ => Err(format!("expected {}, got {text}", Self::NAMES.join(" or "))),
                }
            }
        }
    };
}

named! {
    /// The optimisers of the study's recipes.
    OptimizerName {
        /// Adam.
        Adam = "adam",
        /// Stochastic gradient descent with momentum.
        Sgd = "sgd",
    }
}

named! {
    /// Engines by name.
    #[derive(Default)]
    EngineName {
        /// The event engine for whole numbers on a CPU, the dense one otherwise.
        #[default]
        Auto = "auto",
        /// Every synapse at every step, in libtorch.
        Dense = "dense",
        /// Only what spikes cause, on the CPU; networks in whole numbers.
        Event = "event",
    }
}

named! {
    /// Surrogates by name.
    SurrogateName {
        /// A triangle around the threshold.
        Linear = "linear",
        /// Falls with the time since the last spike.
        Exponential = "exponential",
    }
}

named! {
    /// Learning rate schedules by name.
    ScheduleName {
        /// The same throughout.
        Constant = "constant",
        /// Falls in a straight line, to 0 after the last epoch.
        Linear = "linear",
    }
}

#[cfg(feature = "libtorch")]
impl ScheduleName {
    /// The schedule of a training of so many epochs.
    pub fn over(self, epochs: usize) -> Schedule {
        match self {
            Self::Constant => Schedule::Constant,
            Self::Linear => Schedule::Linear { epochs },
        }
    }

    /// The name of a schedule.
    pub fn of(schedule: Schedule) -> Self {
        match schedule {
            Schedule::Constant => Self::Constant,
            Schedule::Linear { .. } => Self::Linear,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_study_holds_nothing_out_and_learns_no_thresholds() {
        let published = Defaults::of(Preset::Published);
        assert_eq!((published.held_out, published.learn_neurons), (0, false));
        assert_eq!(Defaults::of(Preset::Default).held_out, HELD_OUT);
    }

    #[test]
    fn names_are_those_of_configurations() {
        for name in SurrogateName::NAMES {
            let member: SurrogateName = name.parse().unwrap();
            assert_eq!(member.to_string(), *name);
            assert_eq!(serde_json::to_value(member).unwrap(), *name);
        }
        assert_eq!("odd".parse::<OptimizerName>(), Err("expected adam or sgd, got odd".into()));
    }
}
