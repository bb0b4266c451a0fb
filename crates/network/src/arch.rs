//! The layers of every network of the ESCAPE-NET family, as plain numbers.
//!
//! Letters: C channels, H contacts, W samples in time, k kernel size.
//!
//! Source: the study's network definitions; weights and neurons are tabulated in the README.

use std::fmt;
use std::str::FromStr;

/// Number of classes.
pub const CLASSES: usize = 3;
/// Name of each class, in the order of the labels 0, 1, 2.
pub const CLASS_NAMES: [&str; CLASSES] = ["dorsiflexion", "plantarflexion", "pricking"];
/// Contacts (H) of the cuff the published networks were made for: 7 rings of 8, row = ring * 8 + angle.
pub const CONTACTS: usize = 56;
/// Samples (W) of one recording: 3.33 ms at 30 kHz.
pub const SAMPLES: usize = 100;
/// A network of the family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    /// Average pooling, no bias, no dropout: the one that converts to a spiking network.
    Modified,
    /// ESCAPE-NET as first published: maximum pooling, biases, dropout before the last layer.
    Original,
    /// First stage of the original's incremental training: one convolution.
    Ig1,
    /// Second stage: two convolutions.
    Ig2,
}

impl Architecture {
    /// Every member, in the order of the command line's help.
    pub const ALL: [Self; 4] = [Self::Modified, Self::Original, Self::Ig1, Self::Ig2];

    /// Whether layers add a bias.
    pub fn has_bias(self) -> bool {
        self != Self::Modified
    }

    /// Whether pooling takes the maximum (otherwise the mean).
    pub fn max_pooling(self) -> bool {
        self != Self::Modified
    }

    /// Whether half of the hidden features are dropped before the last layer in training.
    pub fn has_dropout(self) -> bool {
        self != Self::Modified
    }

    /// Number of convolutions.
    pub fn convolutions(self) -> usize {
        match self {
            Self::Modified | Self::Original => 3,
            Self::Ig1 => 1,
            Self::Ig2 => 2,
        }
    }

    /// The layers for recordings of `contacts` x `samples`.
    pub fn layers(self, contacts: usize, samples: usize) -> Vec<Layer> {
        // (features index, kernel size, pooling after it)
        let convolutions: &[(usize, usize, usize)] = match self {
            Self::Modified | Self::Original => &[(0, 8, 2), (3, 4, 2), (6, 2, 1)],
            Self::Ig1 => &[(0, 8, 4)],
            Self::Ig2 => &[(0, 8, 2), (3, 4, 4)],
        };
        let (mut channels, mut height, mut width) = (1, contacts, samples);
        let mut layers = Vec::new();
        for (i, &(index, kernel, pool)) in convolutions.iter().enumerate() {
            let op = Op::Conv { inputs: channels, outputs: CHANNELS, kernel, height, width };
            layers.push(Layer { name: format!("conv{}", i + 1), key: format!("features.{index}"), op, pool });
            (channels, height, width) = (CHANNELS, height / pool, width / pool);
        }
        // A dropout between the two shifts the last layer's index in `classifier`.
        let last = if self.has_dropout() { 3 } else { 2 };
        for (i, (index, inputs, outputs)) in
            [(0, channels * height * width, HIDDEN), (last, HIDDEN, CLASSES)].into_iter().enumerate()
        {
            let op = Op::Linear { inputs, outputs };
            layers.push(Layer {
                name: format!("linear{}", i + 1),
                key: format!("classifier.{index}"),
                op,
                pool: 1,
            });
        }
        layers
    }

    /// Name and shape of every parameter, in the order of PyTorch's `parameters()`.
    pub fn parameters(self, contacts: usize, samples: usize) -> Vec<(String, Vec<usize>)> {
        let mut list = Vec::new();
        for layer in self.layers(contacts, samples) {
            let shape = layer.weight_shape();
            let outputs = shape[0];
            list.push((format!("{}.weight", layer.key), shape));
            if self.has_bias() {
                list.push((format!("{}.bias", layer.key), vec![outputs]));
            }
        }
        list
    }

    /// The member whose parameters have these names, if any.
    pub fn detect<'a>(names: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let mut found: Vec<&str> = names.into_iter().collect();
        found.sort_unstable();
        Self::ALL.into_iter().find(|a| {
            let mut expected: Vec<String> =
                a.parameters(CONTACTS, SAMPLES).into_iter().map(|p| p.0).collect();
            expected.sort_unstable();
            expected == found
        })
    }
}

/// The member whose parameters have most of these names and shapes, names counting where that leaves a choice, so
/// that there is something to compare other weights with; of equals the first, the modified network before all.
pub fn nearest(found: &[(&str, &[usize])]) -> Architecture {
    let likeness = |arch: Architecture| {
        let parameters = arch.parameters(CONTACTS, SAMPLES);
        // What the file has not speaks against a member: the stages are parts of the original by name.
        let score = |fits: &dyn Fn(&str, &[usize]) -> bool| {
            let missing = parameters.iter().filter(|(name, shape)| !fits(name, shape)).count();
            parameters.len() as isize - 2 * missing as isize
        };
        let whole = score(&|name, shape| found.contains(&(name, shape)));
        let named = score(&|name, _| found.iter().any(|(other, _)| *other == name));
        (whole, named)
    };
    let mut best = Architecture::Modified;
    for arch in Architecture::ALL {
        if likeness(arch) > likeness(best) {
            best = arch;
        }
    }
    best
}

/// Channels of every convolution.
pub const CHANNELS: usize = 64;
/// Features between the two linear layers.
pub const HIDDEN: usize = 256;

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Modified => "modified",
            Self::Original => "original",
            Self::Ig1 => "ig1",
            Self::Ig2 => "ig2",
        })
    }
}

impl FromStr for Architecture {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|a| a.to_string() == text)
            .ok_or_else(|| format!("unknown network '{text}': expected modified, original, ig1 or ig2"))
    }
}

/// What a layer's weights do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Convolution with stride 1 and `same` zero padding.
    Conv {
        /// Input channels.
        inputs: usize,
        /// Output channels.
        outputs: usize,
        /// Side of the square kernel.
        kernel: usize,
        /// Rows of input and output.
        height: usize,
        /// Columns of input and output.
        width: usize,
    },
    /// Fully connected.
    Linear {
        /// Input features.
        inputs: usize,
        /// Output features.
        outputs: usize,
    },
}

/// One layer with weights, and the pooling that follows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// `conv1` .. `conv3`, `linear1`, `linear2`.
    pub name: String,
    /// Prefix of its parameters in a state dictionary, `features.0` say.
    pub key: String,
    /// What it computes.
    pub op: Op,
    /// Side and stride of the pooling window after its activation; 1 for none.
    pub pool: usize,
}

impl Layer {
    /// Channels, rows and columns of its output, before pooling; `(n, 1, 1)` for a linear layer.
    pub fn output(&self) -> (usize, usize, usize) {
        match self.op {
            Op::Conv { outputs, height, width, .. } => (outputs, height, width),
            Op::Linear { outputs, .. } => (outputs, 1, 1),
        }
    }

    /// Channels, rows and columns after pooling.
    pub fn pooled(&self) -> (usize, usize, usize) {
        let (c, h, w) = self.output();
        (c, h / self.pool, w / self.pool)
    }

    /// Outputs for one recording.
    pub fn neurons(&self) -> usize {
        let (c, h, w) = self.output();
        c * h * w
    }

    /// PyTorch's weight shape: `[out, in, k, k]` or `[out, in]`.
    pub fn weight_shape(&self) -> Vec<usize> {
        match self.op {
            Op::Conv { inputs, outputs, kernel, .. } => vec![outputs, inputs, kernel, kernel],
            Op::Linear { inputs, outputs } => vec![outputs, inputs],
        }
    }

    /// Number of weights, without biases.
    pub fn weights(&self) -> usize {
        self.weight_shape().iter().product()
    }

    /// Multiply-accumulates for one recording, padding counted as the study does:
    /// C_in C_out k^2 H_out W_out.
    pub fn macs(&self) -> usize {
        match self.op {
            Op::Conv { height, width, .. } => self.weights() * height * width,
            Op::Linear { .. } => self.weights(),
        }
    }

    /// Zeros that `same` padding puts before (left, top) and after (right, bottom).
    pub fn padding(&self) -> (usize, usize) {
        match self.op {
            Op::Conv { kernel, .. } => ((kernel - 1) / 2, kernel / 2),
            Op::Linear { .. } => (0, 0),
        }
    }

    /// For every input pixel, row by row: how many of this layer's neurons a spike there reaches (kernel
    /// taps that fall inside the border x output channels). One entry for a linear layer.
    pub fn fan_out(&self) -> Vec<u32> {
        match self.op {
            Op::Linear { outputs, .. } => vec![outputs as u32],
            Op::Conv { outputs, kernel, height, width, .. } => {
                let (before, _) = self.padding();
                // Output o reads inputs o - before .. o - before + kernel.
                let taps = |length: usize| -> Vec<u32> {
                    (0..length)
                        .map(|i| {
                            (0..kernel)
                                .filter(|&j| (i + before).checked_sub(j).is_some_and(|o| o < length))
                                .count() as u32
                        })
                        .collect()
                };
                let columns = taps(width);
                let across =
                    |rows: u32| columns.iter().map(move |c| rows * c * outputs as u32).collect::<Vec<_>>();
                taps(height).into_iter().flat_map(across).collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn totals(a: Architecture) -> usize {
        a.parameters(56, 100).iter().map(|(_, s)| s.iter().product::<usize>()).sum()
    }

    #[test]
    fn sizes_are_those_of_the_study() {
        let layers = Architecture::Modified.layers(56, 100);
        let neurons: Vec<usize> = layers.iter().map(Layer::neurons).collect();
        assert_eq!(neurons, [358_400, 89_600, 22_400, 256, 3]);
        let weights: Vec<usize> = layers.iter().map(Layer::weights).collect();
        assert_eq!(weights, [4_096, 65_536, 16_384, 5_734_400, 768]);
        let macs: Vec<usize> = layers.iter().map(Layer::macs).collect();
        assert_eq!(macs, [22_937_600, 91_750_400, 5_734_400, 5_734_400, 768]);
        assert_eq!(totals(Architecture::Modified), 5_821_184);
        assert_eq!(totals(Architecture::Original), 5_821_635);
    }

    #[test]
    fn incremental_stages_share_the_trunk() {
        let shape =
            |a: Architecture, key: &str| a.parameters(56, 100).into_iter().find(|p| p.0 == key).unwrap().1;
        assert_eq!(shape(Architecture::Ig1, "classifier.0.weight"), [256, 22400]);
        assert_eq!(shape(Architecture::Ig2, "classifier.0.weight"), [256, 64 * 7 * 12]);
        for key in ["features.0.weight", "features.0.bias", "features.3.weight"] {
            assert_eq!(shape(Architecture::Ig2, key), shape(Architecture::Original, key));
        }
    }

    #[test]
    fn every_member_is_detected_by_its_names() {
        for a in Architecture::ALL {
            let names: Vec<String> = a.parameters(56, 100).into_iter().map(|p| p.0).collect();
            assert_eq!(Architecture::detect(names.iter().map(String::as_str)), Some(a));
            assert_eq!(a.to_string().parse::<Architecture>().unwrap(), a);
        }
        assert_eq!(Architecture::detect(["features.0.weight"]), None);
    }

    #[test]
    fn the_nearest_member_is_found_with_names_missing_or_added() {
        for a in Architecture::ALL {
            let parameters = a.parameters(56, 100);
            let mut found: Vec<(&str, &[usize])> =
                parameters.iter().map(|(n, s)| (n.as_str(), &s[..])).collect();
            assert_eq!(nearest(&found), a);
            found.push(("extra", &[1]));
            assert_eq!(nearest(&found), a);
            found.remove(0);
            assert_eq!(nearest(&found), a, "without its first weight");
        }
        assert_eq!(nearest(&[]), Architecture::Modified);
    }

    #[test]
    fn fan_out_counts_each_tap_inside_the_border_once() {
        let layers = Architecture::Modified.layers(56, 100);
        // By brute force: walk every output and count which input it reads.
        for layer in &layers[..3] {
            let Op::Conv { outputs, kernel, height, width, .. } = layer.op else { unreachable!() };
            let before = (kernel - 1) / 2;
            let mut want = vec![0u32; height * width];
            for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
                for (i, j) in (0..kernel).flat_map(|i| (0..kernel).map(move |j| (i, j))) {
                    let (r, c) = ((y + i).wrapping_sub(before), (x + j).wrapping_sub(before));
                    if r < height && c < width {
                        want[r * width + c] += outputs as u32;
                    }
                }
            }
            assert_eq!(layer.fan_out(), want);
        }
        assert_eq!(layers[3].fan_out(), [256]);
    }
}
