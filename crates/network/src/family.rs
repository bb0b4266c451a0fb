//! The ESCAPE-NET family in any width, as networks.

use crate::arch::{Architecture, CHANNELS, CLASS_NAMES, CLASSES, CONTACTS, HIDDEN, SAMPLES};
use crate::error::NetworkError;
use crate::sequential::{Conv2d, Layer, Named, Padding, Pool, Pooling, Sequential, Shape, Size};

/// A member of the family and its sizes: any number of channels, hidden features and classes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Family {
    /// Which member.
    pub arch: Architecture,
    /// Output channels and kernel of each convolution, which have `same` padding.
    pub convolutions: Vec<(usize, Size)>,
    /// Features between the two linear layers.
    pub hidden: usize,
    /// Classes.
    pub classes: usize,
}

/// Index of each convolution in `features`, its kernel, and the side of the pooling windows after it; 1 for none.
const WHOLE: [(usize, usize, usize); 3] = [(0, 8, 2), (3, 4, 2), (6, 2, 1)];
const IG1: [(usize, usize, usize); 1] = [(0, 8, 4)];
const IG2: [(usize, usize, usize); 2] = [(0, 8, 2), (3, 4, 4)];

impl Family {
    /// A member with the sizes that were published.
    pub fn published(arch: Architecture) -> Self {
        let convolutions = Self::table(arch).iter().map(|&(_, k, _)| (CHANNELS, (k, k))).collect();
        Self { arch, convolutions, hidden: HIDDEN, classes: CLASSES }
    }

    fn table(arch: Architecture) -> &'static [(usize, usize, usize)] {
        match arch {
            Architecture::Modified | Architecture::Original => &WHOLE,
            Architecture::Ig1 => &IG1,
            Architecture::Ig2 => &IG2,
        }
    }

    /// Name of the last layer: a dropout before it shifts its index.
    fn last(arch: Architecture) -> &'static str {
        if arch.has_dropout() { "classifier.3" } else { "classifier.2" }
    }

    /// Names of its layers with weights, in order.
    pub fn keys(&self) -> Vec<String> {
        let convolutions = Self::table(self.arch).iter().map(|(index, _, _)| format!("features.{index}"));
        convolutions.chain(["classifier.0".to_owned(), Self::last(self.arch).to_owned()]).collect()
    }

    /// The member whose parameters have these names, in the sizes that their shapes say; `shape` gives a name's. Kernels
    /// are taken to be padded to keep the size of their input, and windows of pooling to be those of the family, which no
    /// shape tells: the number of features of the first linear layer says whether that is so.
    ///
    /// # Errors
    /// A shape that no layer of the family has, in words.
    pub fn of_shapes<'a>(
        arch: Architecture,
        shape: impl Fn(&str) -> Option<&'a [usize]>,
    ) -> Result<Self, String> {
        let odd = |name: &str, expected: &str| {
            let found = shape(name).map_or_else(|| "nothing".to_owned(), |s| format!("{s:?}"));
            format!("{name}: expected {expected}, got {found}")
        };
        let mut convolutions = Vec::new();
        let mut channels = 1;
        for (index, _, _) in Self::table(arch) {
            let name = format!("features.{index}.weight");
            match shape(&name) {
                Some(&[out, inputs, rows, columns]) if inputs == channels => {
                    convolutions.push((out, (rows, columns)));
                    channels = out;
                }
                _ => return Err(odd(&name, &format!("[channels, {channels}, rows, columns]"))),
            }
        }
        let first = "classifier.0.weight";
        let Some(&[hidden, _]) = shape(first) else { return Err(odd(first, "[hidden, features]")) };
        let last = format!("{}.weight", Self::last(arch));
        match shape(&last) {
            Some(&[classes, inputs]) if inputs == hidden => Ok(Self { arch, convolutions, hidden, classes }),
            _ => Err(odd(&last, &format!("[classes, {hidden}]"))),
        }
    }

    /// The network, for recordings of `contacts` x `samples`.
    ///
    /// # Errors
    /// Recordings too small for the kernels and windows, or sizes that no network has.
    pub fn network(&self, contacts: usize, samples: usize) -> Result<Sequential, NetworkError> {
        let arch = self.arch;
        let bias = arch.has_bias();
        let pooling =
            if arch.max_pooling() { Pooling::Max } else { Pooling::Average { count_padding: true } };
        let mut layers = Vec::new();
        let mut add = |name: String, layer: Layer| layers.push(Named { name, layer });
        for ((index, _, pool), &(out, kernel)) in Self::table(arch).iter().zip(&self.convolutions) {
            let padding = Padding::same(kernel);
            add(
                format!("features.{index}"),
                Layer::Conv2d(Conv2d { padding, bias, ..Conv2d::new(out, kernel) }),
            );
            add(String::new(), Layer::Relu);
            if *pool > 1 {
                add(String::new(), Layer::Pool(Pool::new(pooling, (*pool, *pool))));
            }
        }
        add(String::new(), Layer::Flatten);
        add("classifier.0".into(), Layer::Linear { out: self.hidden, bias });
        add(String::new(), Layer::Relu);
        if arch.has_dropout() {
            add(String::new(), Layer::Dropout { p: 0.5 });
        }
        add(Self::last(arch).into(), Layer::Linear { out: self.classes, bias });
        // The study's classes are the nerve's three pathways.
        let named = self.classes == CLASSES;
        let classes = if named { CLASS_NAMES.map(str::to_owned).to_vec() } else { Vec::new() };
        Sequential::new(Shape::new(1, contacts, samples), layers, classes)
    }
}

impl Architecture {
    /// Name and shape of every parameter of the network as published, in the order of PyTorch's `parameters()`.
    pub fn parameters(self) -> Vec<(String, Vec<usize>)> {
        let network = Family::published(self).network(CONTACTS, SAMPLES);
        let parameters = network.map(|network| network.parameters()).unwrap_or_default();
        parameters.into_iter().map(|p| (p.name, p.shape)).collect()
    }

    /// The member whose parameters have these names, if any.
    pub fn detect<'a>(names: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let mut found: Vec<&str> = names.into_iter().collect();
        found.sort_unstable();
        Self::ALL.into_iter().find(|a| {
            let mut expected: Vec<String> = a.parameters().into_iter().map(|p| p.0).collect();
            expected.sort_unstable();
            expected == found
        })
    }
}

/// The member whose parameters have most of these names and shapes, names counting where that leaves a choice, so
/// that there is something to compare other weights with; of equals the first, the modified network before all.
pub fn nearest(found: &[(&str, &[usize])]) -> Architecture {
    let likeness = |arch: Architecture| {
        let parameters = arch.parameters();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_width_is_known_by_its_shapes() {
        for arch in Architecture::ALL {
            let mut family = Family::published(arch);
            family.convolutions.iter_mut().enumerate().for_each(|(i, c)| *c = (5 + i, (9 - i, 3)));
            (family.hidden, family.classes) = (16, 5);
            let parameters = family.network(64, 100).unwrap().parameters();
            let shape = |name: &str| parameters.iter().find(|p| p.name == name).map(|p| &p.shape[..]);
            assert_eq!(Family::of_shapes(arch, shape), Ok(family.clone()));
        }
        let none = Family::of_shapes(Architecture::Modified, |_| None).unwrap_err();
        assert_eq!(none, "features.0.weight: expected [channels, 1, rows, columns], got nothing");
    }

    #[test]
    fn recordings_that_are_too_small_are_refused() {
        let why = Family::published(Architecture::Modified).network(1, 100).unwrap_err().to_string();
        assert!(why.contains("avg_pool2d") && why.contains("kernel of 2 rows"), "{why}");
    }

    fn totals(a: Architecture) -> usize {
        a.parameters().iter().map(|(_, s)| s.iter().product::<usize>()).sum()
    }

    #[test]
    fn sizes_are_those_of_the_study() {
        assert_eq!(totals(Architecture::Modified), 5_821_184);
        assert_eq!(totals(Architecture::Original), 5_821_635);
    }

    #[test]
    fn incremental_stages_share_the_trunk() {
        let shape = |a: Architecture, key: &str| a.parameters().into_iter().find(|p| p.0 == key).unwrap().1;
        assert_eq!(shape(Architecture::Ig1, "classifier.0.weight"), [256, 22400]);
        assert_eq!(shape(Architecture::Ig2, "classifier.0.weight"), [256, 64 * 7 * 12]);
        for key in ["features.0.weight", "features.0.bias", "features.3.weight"] {
            assert_eq!(shape(Architecture::Ig2, key), shape(Architecture::Original, key));
        }
    }

    #[test]
    fn every_member_is_detected_by_its_names() {
        for a in Architecture::ALL {
            let names: Vec<String> = a.parameters().into_iter().map(|p| p.0).collect();
            assert_eq!(Architecture::detect(names.iter().map(String::as_str)), Some(a));
            assert_eq!(a.to_string().parse::<Architecture>().unwrap(), a);
        }
        assert_eq!(Architecture::detect(["features.0.weight"]), None);
    }

    #[test]
    fn the_nearest_member_is_found_with_names_missing_or_added() {
        for a in Architecture::ALL {
            let parameters = a.parameters();
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
}
