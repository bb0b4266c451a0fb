//! Spiking networks in checkpoints: the study's dictionary ([`escape_checkpoint::Checkpoint`]), with the preset and the encoder as keys of our own.

use std::path::Path;

use escape_checkpoint::{Checkpoint, Leak, TensorData, Value, describe, matched_weights, network_of};
use escape_network::stage::Stage;

use crate::encode::Encoding;
use crate::integer::Bits;
use crate::network::{SpikingLayer, SpikingNetwork};
use crate::neuron::Neuron;
use crate::rules::Preset;
use crate::{SnnError, Weights};

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
    /// Whether the file says of how many bits its whole numbers are; those that an earlier version wrote do not.
    pub stored_bits: bool,
}

/// Key of the preset in a checkpoint; the study's dictionary has none.
pub const PRESET_KEY: &str = "preset";
/// Keys of the bits of a weight and of an input value.
pub const BITS_KEYS: [&str; 2] = ["weight_bits", "input_bits"];
/// Key of the encoder.
pub const ENCODER_KEY: &str = "encoder";

/// The bits that a checkpoint names.
pub fn bits(checkpoint: &Checkpoint) -> Bits {
    let number = |key: &str| {
        let value = checkpoint.extra.iter().find(|e| e.0 == key).and_then(|e| e.1.as_i64());
        value.map(|bits| u32::try_from(bits).unwrap_or(u32::MAX))
    };
    let [weight, input] = BITS_KEYS.map(number);
    Bits { weight, input }
}

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
) -> Result<Loaded, SnnError> {
    let wrong = |why: String| SnnError::Network(format!("{}: {why}", path.display()));
    let network = network_of(checkpoint, path, contacts, samples)?;
    let stages = network.stages().map_err(|why| wrong(why.to_string()))?;
    let weights = matched_weights(checkpoint, path, &network)?;
    let parameter = |stage: &Stage, what: &str| {
        let name = format!("{}.{what}", stage.key);
        weights.iter().find(|(other, _)| *other == name).map(|(_, data)| *data)
    };
    let thresholds = checkpoint.thresholds.as_ref().ok_or_else(|| {
        wrong(
            "no thresholds in it, so this is an ANN; make a spiking network of it with `escape-snn convert`"
                .into(),
        )
    })?;
    let count = stages.len();
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
    for (i, stage) in stages.into_iter().enumerate() {
        let neuron = Neuron::new((thresholds[i] * scale) as f32, leaks[i] as f32).map_err(|error| {
            let again = "convert the ANN again with more samples or steps";
            wrong(format!("{}: {error}; {again}", stage.name))
        })?;
        let weights = parameter(&stage, "weight").cloned().map_or_else(|| Vec::new().into(), Weights::from);
        let bias = parameter(&stage, "bias").map(TensorData::to_f32).unwrap_or_default();
        layers.push(SpikingLayer { shape: stage, weights, bias, neuron });
    }
    let stored = |key: &str| checkpoint.extra.iter().find(|e| e.0 == key).and_then(|e| e.1.as_str());
    let stored_preset = stored(PRESET_KEY).map(str::parse).transpose().map_err(wrong)?;
    let preset = preset.or(stored_preset).unwrap_or(Preset::Default);
    // A file's encoder belongs to the preset it was made for.
    let encoding = match stored(ENCODER_KEY) {
        Some(name) if stored_preset == Some(preset) => name.parse().map_err(wrong)?,
        _ => preset.rules().encoding,
    };
    let timesteps = match checkpoint.timesteps {
        None => None,
        Some(t @ 1..=100_000) => Some(t as usize),
        Some(t) => return Err(wrong(format!("its number of timesteps is {t}, expected 1 to 100000"))),
    };
    let bits = bits(checkpoint);
    let rules = match preset.rules() {
        rules if rules.precision().is_some() => rules.with_bits(bits).map_err(wrong)?,
        // A file of whole numbers may be simulated by rules of float32.
        rules => rules,
    };
    Ok(Loaded {
        network: SpikingNetwork { rules, network, layers },
        encoding,
        timesteps,
        stored_preset,
        stored_bits: bits.weight.is_some() && bits.input.is_some(),
    })
}

/// The study's dictionary of this network, with its preset and encoder as extra keys.
pub fn to_checkpoint(network: &SpikingNetwork, encoding: Encoding, timesteps: usize) -> Checkpoint {
    let leaks: Vec<f64> = network.layers.iter().map(|l| f64::from(l.neuron.decay())).collect();
    let same = leaks.iter().all(|&l| l == leaks[0]);
    let mut checkpoint = Checkpoint {
        accuracy: Some(0.0),
        epoch: Some(0),
        weights: network
            .layers
            .iter()
            .flat_map(|l| {
                let weight = TensorData::from_f32(&l.shape.weight_shape(), &l.weights);
                let bias = (!l.bias.is_empty()).then(|| TensorData::from_f32(&[l.bias.len()], &l.bias));
                let named = |(what, data)| (format!("{}.{what}", l.shape.key), data);
                [("weight", weight)].into_iter().chain(bias.map(|bias| ("bias", bias))).map(named)
            })
            .collect(),
        thresholds: Some(network.layers.iter().map(|l| f64::from(l.neuron.threshold())).collect()),
        timesteps: Some(timesteps as i64),
        leak: Some(if same { Leak::Same(leaks[0]) } else { Leak::PerLayer(leaks) }),
        activation: Some("Linear".into()),
        extra: vec![
            (PRESET_KEY.into(), Value::Str(network.rules.preset.to_string())),
            (ENCODER_KEY.into(), Value::Str(encoding.to_string())),
        ],
        ..Checkpoint::default()
    };
    if let Some(precision) = network.rules.precision() {
        let bits = [precision.weight_bits(), precision.input_bits()].map(|bits| Value::Int(bits.into()));
        checkpoint.extra.extend(BITS_KEYS.map(str::to_owned).into_iter().zip(bits));
    }
    describe(&mut checkpoint, &network.network);
    checkpoint
}

#[cfg(test)]
mod tests {
    use super::*;
    use escape_network::arch::Architecture;
    use escape_network::rng::Stream;

    fn checkpoint(arch: Architecture) -> Checkpoint {
        let mut random = Stream::new(1, 0);
        let mut tensor = |shape: Vec<usize>| {
            let values: Vec<f32> =
                (0..shape.iter().product()).map(|_| random.uniform() as f32 * 0.1 - 0.05).collect();
            TensorData::from_f32(&shape, &values)
        };
        let parameters = arch.parameters().into_iter();
        Checkpoint {
            weights: parameters.map(|(name, shape)| (name, tensor(shape))).collect(),
            thresholds: Some(vec![1.0, 2.0, 3.0, 4.0, 5.0]),
            ..Checkpoint::default()
        }
    }

    fn load(c: &Checkpoint, preset: Option<Preset>) -> Result<Loaded, String> {
        super::load(c, Path::new("x.pth"), preset, 56, 100).map_err(|e| e.to_string())
    }

    #[test]
    fn a_file_without_keys_means_the_preset_asked_for() {
        let c = checkpoint(Architecture::Modified);
        let loaded = load(&c, Some(Preset::Published)).unwrap();
        assert_eq!((loaded.network.rules.preset, loaded.encoding), (Preset::Published, Encoding::Poisson));
        let loaded = load(&c, None).unwrap();
        assert_eq!((loaded.network.rules.preset, loaded.encoding), (Preset::Default, Encoding::Direct));
        assert!(loaded.network.layers.iter().all(|l| l.neuron.decay() == 1.0));
    }

    #[test]
    fn what_is_written_is_read_back() {
        let mut network = load(&checkpoint(Architecture::Modified), None).unwrap().network;
        network.layers[2].neuron = Neuron::new(3.0, 0.5).unwrap();
        let saved = to_checkpoint(&network, Encoding::Poisson, 7);
        let back = load(&saved, None).unwrap();
        assert_eq!((back.timesteps, back.encoding), (Some(7), Encoding::Poisson));
        assert_eq!(back.stored_preset, Some(Preset::Default));
        for (a, b) in network.layers.iter().zip(&back.network.layers) {
            assert_eq!((a.neuron, &a.weights[..]), (b.neuron, &b.weights[..]));
        }
        // Asked for the other preset, its own encoder comes with it.
        assert_eq!(load(&saved, Some(Preset::Published)).unwrap().encoding, Encoding::Poisson);
    }

    #[test]
    fn bits_are_kept_and_belong_to_whole_numbers() {
        let mut network = load(&checkpoint(Architecture::Modified), None).unwrap().network;
        let bits = Bits { weight: Some(5), input: Some(9) };
        network.rules = network.rules.with_bits(bits).unwrap();
        let mut saved = to_checkpoint(&network, Encoding::Direct, 4);
        let back = load(&saved, None).unwrap();
        assert_eq!((back.network.rules, back.stored_bits), (network.rules, true));
        let published = load(&saved, Some(Preset::Published)).unwrap().network;
        assert_eq!(published.rules, Preset::Published.rules());
        // A file of before says nothing, one that says nonsense is refused.
        saved.extra.retain(|entry| entry.0 != BITS_KEYS[0]);
        assert!(!load(&saved, None).unwrap().stored_bits);
        saved.extra.push((BITS_KEYS[0].into(), Value::Int(-3)));
        assert!(load(&saved, None).unwrap_err().contains("bits of a weight"));
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
    }

    #[test]
    fn a_scaling_factor_multiplies_every_threshold() {
        let mut c = checkpoint(Architecture::Modified);
        c.scaling_threshold = Some(0.5);
        let thresholds: Vec<f32> =
            load(&c, None).unwrap().network.layers.iter().map(|l| l.neuron.threshold()).collect();
        assert_eq!(thresholds, [0.5, 1.0, 1.5, 2.0, 2.5]);
    }
}
