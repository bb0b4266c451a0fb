//! Which network a set of weights is, told by their names and shapes alone.

use std::collections::{BTreeSet, HashSet};
use std::fmt;

use escape_network::arch::{CONTACTS, SAMPLES};

use crate::TensorData;
use escape_network::arch::Architecture;
use escape_network::family::Family;
use escape_network::sequential::Layer;

/// What is known of a network whose weights were looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Identity {
    /// A member of the ESCAPE-NET family.
    Escape {
        /// Which one, in which width.
        family: Family,
        /// Features that its first linear layer takes, which depend on the size of the recordings.
        features: usize,
    },
    /// A plain chain of convolutions and linear layers with the names that the code of the STDB method (Rathi et
    /// al., 2020) gives them.
    Vgg {
        /// Convolutions.
        convolutions: usize,
        /// Linear layers.
        linears: usize,
        /// Side of the convolutions' kernels, if it is the same for all.
        kernel: Option<usize>,
        /// Channels of an input image.
        channels: usize,
        /// Outputs of the last layer.
        classes: usize,
    },
    /// A residual network with the names that the code of the STDB method gives it.
    ResNet {
        /// Tensors in all.
        tensors: usize,
    },
    /// None of these.
    Other {
        /// Tensors in all.
        tensors: usize,
        /// Their elements in all.
        elements: usize,
    },
}

impl Identity {
    /// Looks at names, without the prefix `module.`, and shapes.
    pub fn of(weights: &[(String, TensorData)]) -> Self {
        escape(weights).or_else(|| vgg(weights)).or_else(|| res_net(weights)).unwrap_or_else(|| Self::Other {
            tensors: weights.len(),
            elements: weights.iter().map(|(_, tensor)| tensor.len()).sum(),
        })
    }
}

/// What stands before the names of a whole network of the family, for each such network; the empty prefix first.
pub fn prefixes(names: &[String]) -> Vec<String> {
    let mut found = BTreeSet::new();
    for arch in Architecture::ALL {
        let parameters: Vec<String> = arch.parameters().into_iter().map(|(name, _)| name).collect();
        found.extend(prefixes_of(names, &parameters));
    }
    found.into_iter().collect()
}

/// What stands before the names of all `parameters` of one network; the empty prefix first.
pub(crate) fn prefixes_of(names: &[String], parameters: &[String]) -> BTreeSet<String> {
    let all: HashSet<&str> = names.iter().map(String::as_str).collect();
    let Some((first, rest)) = parameters.split_first() else { return BTreeSet::new() };
    let whole = |prefix: &&str| {
        let there = |name: &String| all.contains(format!("{prefix}{name}").as_str());
        (prefix.is_empty() || prefix.ends_with('.')) && rest.iter().all(there)
    };
    names
        .iter()
        .filter_map(|name| name.strip_suffix(first.as_str()))
        .filter(whole)
        .map(str::to_owned)
        .collect()
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Escape { ref family, features } => {
                write!(f, "the {} network of the ESCAPE-NET family", family.arch)?;
                if *family != Family::published(family.arch) {
                    let convolutions: Vec<String> = family
                        .convolutions
                        .iter()
                        .map(|(channels, (rows, columns))| format!("{channels} of {rows} x {columns}"))
                        .collect();
                    write!(
                        f,
                        " in another width (convolutions: {}; {} hidden features, {} classes)",
                        convolutions.join(", "),
                        family.hidden,
                        family.classes
                    )?;
                }
                match standard_features(family) == Some(features) {
                    true => write!(f, " for recordings of {CONTACTS} contacts x {SAMPLES} samples"),
                    false => write!(
                        f,
                        " for other recordings than of {CONTACTS} contacts x {SAMPLES} samples (its first linear layer \
                         takes {features} features)"
                    ),
                }
            }
            Self::Vgg { convolutions, linears, kernel, channels, classes } => {
                let layers = convolutions + linears;
                write!(f, "a VGG-style network (VGG{layers}: {convolutions} convolutions")?;
                if let Some(side) = kernel {
                    write!(f, " of {side} x {side}")?;
                }
                write!(
                    f,
                    ", {linears} linear layers, {channels} input channels, {classes} classes) named as the STDB \
                     method's own code names it; not of the ESCAPE-NET family"
                )
            }
            Self::ResNet { tensors } => write!(
                f,
                "a residual network of {tensors} tensors named as the STDB method's own code names it; not of the \
                 ESCAPE-NET family"
            ),
            Self::Other { tensors, elements } => {
                write!(f, "a network of another family: {tensors} tensors of {elements} elements in all")
            }
        }
    }
}

/// Features of the first linear layer for recordings of the published size.
fn standard_features(family: &Family) -> Option<usize> {
    let network = family.network(CONTACTS, SAMPLES).ok()?;
    let flatten = network.layers().iter().position(|l| l.layer == Layer::Flatten)?;
    Some(network.output_of(flatten).count())
}

fn shape_of<'a>(weights: &'a [(String, TensorData)], name: &str) -> Option<&'a [usize]> {
    weights.iter().find(|(other, _)| other == name).map(|(_, tensor)| tensor.shape.as_slice())
}

/// The member of the family that weights are of: they have its names and, in any width, its shapes.
pub fn of_family(weights: &[(String, TensorData)]) -> Option<Family> {
    let arch = Architecture::detect(weights.iter().map(|(name, _)| name.as_str()))?;
    let family = Family::of_shapes(arch, |name| shape_of(weights, name)).ok()?;
    // How many features the first linear layer has follows from the recordings; every other shape is the family's.
    let network = family.network(CONTACTS, SAMPLES).ok()?;
    let fits = |(name, shape): (String, Vec<usize>)| {
        name == "classifier.0.weight" || shape_of(weights, &name) == Some(&shape[..])
    };
    network.parameters().into_iter().all(|p| fits((p.name, p.shape))).then_some(family)
}

fn escape(weights: &[(String, TensorData)]) -> Option<Identity> {
    let family = of_family(weights)?;
    let &[_, features] = shape_of(weights, "classifier.0.weight")? else { return None };
    Some(Identity::Escape { family, features })
}

fn vgg(weights: &[(String, TensorData)]) -> Option<Identity> {
    let (mut convolutions, mut linears) = (Vec::new(), Vec::new());
    for (name, tensor) in weights {
        let (part, rest) = name.split_once('.')?;
        let (index, kind) = rest.split_once('.')?;
        index.parse::<u32>().ok()?;
        match (part, kind, &tensor.shape[..]) {
            ("features", "weight", [outputs, inputs, height, width]) if height == width => {
                convolutions.push((*inputs, *outputs, *height));
            }
            ("classifier", "weight", [outputs, inputs]) => linears.push((*inputs, *outputs)),
            ("features" | "classifier", "bias", [_]) => {}
            _ => return None,
        }
    }
    let kernel = convolutions.first()?.2;
    let chained = convolutions.windows(2).all(|pair| matches!(pair, [a, b] if a.1 == b.0))
        && linears.windows(2).all(|pair| matches!(pair, [a, b] if a.1 == b.0));
    chained.then_some(())?;
    Some(Identity::Vgg {
        convolutions: convolutions.len(),
        linears: linears.len(),
        kernel: convolutions.iter().all(|c| c.2 == kernel).then_some(kernel),
        channels: convolutions.first()?.0,
        classes: linears.last()?.1,
    })
}

fn res_net(weights: &[(String, TensorData)]) -> Option<Identity> {
    let has = |start: &str| weights.iter().any(|(name, _)| name.starts_with(start));
    (has("pre_process.") && has("layer1.") && has("classifier."))
        .then_some(Identity::ResNet { tensors: weights.len() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(weights: &[(&str, &[usize])]) -> Identity {
        let tensor = |shape: &[usize]| TensorData::from_f32(shape, &vec![0.0; shape.iter().product()]);
        let weights: Vec<_> = weights.iter().map(|(name, shape)| (name.to_string(), tensor(shape))).collect();
        Identity::of(&weights)
    }

    #[test]
    fn every_member_of_the_family_is_known_for_any_recording() {
        for arch in Architecture::ALL {
            for (contacts, text) in
                [(56, "for recordings of 56 contacts x 100"), (64, "for other recordings")]
            {
                let all = Family::published(arch).network(contacts, 100).unwrap().parameters();
                let all: Vec<_> = all.iter().map(|p| (p.name.as_str(), p.shape.as_slice())).collect();
                let found = of(&all).to_string();
                assert!(found.starts_with(&format!("the {arch} network")) && found.contains(text), "{found}");
            }
        }
        // The names alone do not make it.
        let mut wrong = Architecture::Modified.parameters();
        wrong[0].1 = vec![64, 3, 3, 3];
        let wrong: Vec<_> = wrong.iter().map(|(name, shape)| (name.as_str(), shape.as_slice())).collect();
        assert!(matches!(of(&wrong), Identity::Vgg { kernel: None, channels: 3, .. }));
    }

    #[test]
    fn networks_of_the_stdb_method_are_described() {
        let vgg: [(&str, &[usize]); 5] = [
            ("features.0.weight", &[64, 3, 3, 3]),
            ("features.3.weight", &[128, 64, 3, 3]),
            ("features.6.weight", &[128, 128, 3, 3]),
            ("classifier.0.weight", &[40, 80]),
            ("classifier.3.weight", &[10, 40]),
        ];
        let found = of(&vgg).to_string();
        let expected = "VGG5: 3 convolutions of 3 x 3, 2 linear layers, 3 input channels, 10 classes";
        assert!(found.contains(expected), "{found}");
        let broken = [vgg[0], ("features.3.weight", &[128, 63, 3, 3]), vgg[3]];
        assert_eq!(of(&broken), Identity::Other { tensors: 3, elements: 1728 + 128 * 63 * 9 + 3200 });
        let resnet: [(&str, &[usize]); 3] = [
            ("pre_process.0.weight", &[64, 3, 3, 3]),
            ("layer1.0.residual.0.weight", &[1]),
            ("classifier.0.weight", &[10, 1]),
        ];
        assert!(of(&resnet).to_string().contains("a residual network of 3 tensors"));
        assert_eq!(of(&[]), Identity::Other { tensors: 0, elements: 0 });
    }
}
