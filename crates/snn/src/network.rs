//! The description of a spiking network: layers, weights, thresholds, leaks, rules. No tensors.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use escape_model::ModelError;
use escape_model::ann::{detect, matched_weights};
use escape_model::arch::{Architecture, Layer, Op};
use escape_model::checkpoint::{Checkpoint, Leak, TensorData, Value};

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

/// Everything of an SNN checkpoint that a simulation needs.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The network.
    pub network: SpikingNetwork,
    /// The encoder that the file names, or its preset's.
    pub encoding: Encoding,
    /// The number of timesteps that the file was made for.
    pub timesteps: Option<usize>,
    /// The preset that the file names, if it names one.
    pub stored_preset: Option<Preset>,
}

/// Key of the preset in a checkpoint; the study's dictionary has none.
pub const PRESET_KEY: &str = "preset";
/// Key of the encoder.
pub const ENCODER_KEY: &str = "encoder";

impl SpikingNetwork {
    /// Reads an SNN checkpoint for recordings of `contacts` x `samples`. `preset` overrides what the file
    /// says; a file that says nothing is taken as the default preset's.
    ///
    /// # Errors
    /// The file holds another network, no thresholds, or constants no neuron can have.
    pub fn load(
        checkpoint: &Checkpoint,
        path: &Path,
        preset: Option<Preset>,
        contacts: usize,
        samples: usize,
    ) -> Result<Loaded, ModelError> {
        let wrong = |why: String| ModelError::Data(format!("{}: {why}", path.display()));
        let arch = detect(checkpoint);
        if arch != Architecture::Modified {
            return Err(wrong(format!(
                "this is the {arch} network, with biases and maximum pooling, which have no spiking counterpart; a spiking network is made from the modified one"
            )));
        }
        let weights = matched_weights(checkpoint, path, arch, contacts, samples)?;
        let shapes = arch.layers(contacts, samples);
        let thresholds = checkpoint.thresholds.as_ref().ok_or_else(|| {
            wrong("no thresholds in it, so this is an ANN; make a spiking network of it with `escape-snn convert`".into())
        })?;
        let count = shapes.len();
        if thresholds.len() != count {
            return Err(wrong(format!("expected {count} thresholds, one a layer, got {}", thresholds.len())));
        }
        let leaks = match &checkpoint.leak {
            None => vec![1.0; count],
            Some(leak) => leak
                .for_layers(count)
                .ok_or_else(|| wrong(format!("expected {count} leaks, one a layer, got {leak:?}")))?,
        };
        let scale = checkpoint.scaling_threshold.unwrap_or(1.0);
        let mut layers = Vec::new();
        for (i, (shape, (_, data))) in shapes.into_iter().zip(weights).enumerate() {
            let (threshold, leak) = ((thresholds[i] * scale) as f32, leaks[i] as f32);
            if !(threshold > 0.0 && threshold.is_finite()) {
                return Err(wrong(format!(
                    "the threshold of {} is {threshold}, expected a positive number; convert the ANN again with more samples or steps",
                    shape.name
                )));
            }
            if !(0.0..=1.0).contains(&leak) {
                return Err(wrong(format!("the leak of {} is {leak}, expected 0 to 1", shape.name)));
            }
            layers.push(SpikingLayer { shape, weights: data.to_f32(), threshold, leak });
        }
        let stored = |key: &str| checkpoint.extra.iter().find(|e| e.0 == key).and_then(|e| e.1.as_str());
        let stored_preset = stored(PRESET_KEY).map(str::parse).transpose().map_err(wrong)?;
        let preset = preset.or(stored_preset).unwrap_or(Preset::Default);
        // A file's encoder belongs to the preset it was made for.
        let encoding = match stored(ENCODER_KEY) {
            Some(name) if stored_preset == Some(preset) => name.parse().map_err(wrong)?,
            _ => preset.encoding(),
        };
        let timesteps = match checkpoint.timesteps {
            None => None,
            Some(t @ 1..=100_000) => Some(t as usize),
            Some(t) => return Err(wrong(format!("its number of timesteps is {t}, expected 1 to 100000"))),
        };
        Ok(Loaded { network: Self { preset, layers }, encoding, timesteps, stored_preset })
    }

    /// The study's dictionary of this network, with its preset and encoder as extra keys.
    pub fn to_checkpoint(&self, encoding: Encoding, timesteps: usize) -> Checkpoint {
        let leaks: Vec<f64> = self.layers.iter().map(|l| f64::from(l.leak)).collect();
        let same = leaks.iter().all(|&l| l == leaks[0]);
        Checkpoint {
            accuracy: Some(0.0),
            epoch: Some(0),
            weights: self
                .layers
                .iter()
                .map(|l| {
                    let name = format!("{}.weight", l.shape.key);
                    (name, TensorData::from_f32(&l.shape.weight_shape(), &l.weights))
                })
                .collect(),
            thresholds: Some(self.layers.iter().map(|l| f64::from(l.threshold)).collect()),
            timesteps: Some(timesteps as i64),
            leak: Some(if same { Leak::Same(leaks[0]) } else { Leak::PerLayer(leaks) }),
            activation: Some("Linear".into()),
            extra: vec![
                (PRESET_KEY.into(), Value::Str(self.preset.to_string())),
                (ENCODER_KEY.into(), Value::Str(encoding.to_string())),
            ],
            ..Checkpoint::default()
        }
    }

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

#[cfg(test)]
mod tests {
    use super::*;
    use escape_model::ann::Ann;

    fn checkpoint(arch: Architecture) -> Checkpoint {
        let ann = Ann::new(arch, 56, 100, 1, tch::Device::Cpu).unwrap();
        Checkpoint {
            weights: ann.weights().unwrap(),
            thresholds: Some(vec![1.0, 2.0, 3.0, 4.0, 5.0]),
            ..Checkpoint::default()
        }
    }

    fn load(c: &Checkpoint, preset: Option<Preset>) -> Result<Loaded, String> {
        SpikingNetwork::load(c, Path::new("x.pth"), preset, 56, 100).map_err(|e| e.to_string())
    }

    #[test]
    fn a_file_without_keys_means_the_preset_asked_for() {
        let c = checkpoint(Architecture::Modified);
        let loaded = load(&c, Some(Preset::Published)).unwrap();
        assert_eq!((loaded.network.preset, loaded.encoding), (Preset::Published, Encoding::Poisson));
        let loaded = load(&c, None).unwrap();
        assert_eq!((loaded.network.preset, loaded.encoding), (Preset::Default, Encoding::Direct));
        assert!(loaded.network.layers.iter().all(|l| l.leak == 1.0));
    }

    #[test]
    fn what_is_written_is_read_back() {
        let mut network = load(&checkpoint(Architecture::Modified), None).unwrap().network;
        network.layers[2].leak = 0.5;
        let saved = network.to_checkpoint(Encoding::Poisson, 7);
        let back = load(&saved, None).unwrap();
        assert_eq!((back.timesteps, back.encoding), (Some(7), Encoding::Poisson));
        assert_eq!(back.stored_preset, Some(Preset::Default));
        for (a, b) in network.layers.iter().zip(&back.network.layers) {
            assert_eq!((a.threshold, a.leak, &a.weights), (b.threshold, b.leak, &b.weights));
        }
        // Asked for the other preset, its own encoder comes with it.
        assert_eq!(load(&saved, Some(Preset::Published)).unwrap().encoding, Encoding::Poisson);
    }

    #[test]
    fn constants_no_neuron_can_have_are_refused() {
        let with = |f: fn(&mut Checkpoint)| {
            let mut c = checkpoint(Architecture::Modified);
            f(&mut c);
            load(&c, None).unwrap_err()
        };
        assert!(with(|c| c.thresholds = None).contains("escape-snn convert"));
        assert!(with(|c| c.thresholds = Some(vec![1.0; 4])).contains("expected 5 thresholds"));
        assert!(with(|c| c.thresholds = Some(vec![1.0, 1.0, 0.0, 1.0, 1.0])).contains("conv3"));
        assert!(with(|c| c.thresholds = Some(vec![f64::NAN; 5])).contains("conv1"));
        assert!(with(|c| c.leak = Some(Leak::Same(1.5))).contains("leak"));
        assert!(load(&checkpoint(Architecture::Original), None).unwrap_err().contains("original network"));
    }

    #[test]
    fn a_scaling_factor_multiplies_every_threshold() {
        let mut c = checkpoint(Architecture::Modified);
        c.scaling_threshold = Some(0.5);
        let thresholds: Vec<f32> =
            load(&c, None).unwrap().network.layers.iter().map(|l| l.threshold).collect();
        assert_eq!(thresholds, [0.5, 1.0, 1.5, 2.0, 2.5]);
    }
}
