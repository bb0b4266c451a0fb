//! Comparing a network's parameters with the tensors of a file.

use std::collections::{HashMap, HashSet};
use std::fmt;

use escape_files::text::shown;

use super::value::TensorData;
use escape_files::text::dims;

/// What became of every parameter of a network and of every tensor of a file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LoadReport {
    /// Parameters whose name and shape the file has.
    pub applied: Vec<String>,
    /// Name and shape of parameters whose name the file does not have.
    pub missing: Vec<(String, Vec<usize>)>,
    /// Name and shape of tensors that are no parameter of the network.
    pub unused: Vec<(String, Vec<usize>)>,
    /// Name, expected and found shape where the shapes differ.
    pub mismatched: Vec<(String, Vec<usize>, Vec<usize>)>,
    /// For missing parameters the nearest unused name, if one is near.
    pub suggestions: Vec<(String, String)>,
    /// Unused biases of layers whose weights the network has, if they are not zero.
    pub biases: Vec<String>,
}

/// Compares the parameters that a network expects (name and shape) with the tensors found in a file.
///
/// Every name of either side appears in exactly one of `applied`, `missing`, `unused` and `mismatched`, in the order
/// of its side; of tensors with the same name the first counts and the others are unused. Element types do not
/// matter.
pub fn match_weights(expected: &[(String, Vec<usize>)], found: &[(String, TensorData)]) -> LoadReport {
    let mut report = LoadReport::default();
    let mut by_name: HashMap<&str, (usize, &TensorData)> = HashMap::new();
    for (i, (name, tensor)) in found.iter().enumerate() {
        by_name.entry(name).or_insert((i, tensor));
    }
    let mut used = HashSet::new();
    for (name, shape) in expected {
        match by_name.get(name.as_str()) {
            None => report.missing.push((name.clone(), shape.clone())),
            Some((i, tensor)) => {
                used.insert(*i);
                if tensor.shape == *shape {
                    report.applied.push(name.clone());
                } else {
                    report.mismatched.push((name.clone(), shape.clone(), tensor.shape.clone()));
                }
            }
        }
    }
    for (i, (name, tensor)) in found.iter().enumerate() {
        if !used.contains(&i) {
            report.unused.push((name.clone(), tensor.shape.clone()));
        }
    }
    let layer_has_weights = |name: &str| {
        name.strip_suffix("bias")
            .is_some_and(|layer| expected.iter().any(|(n, _)| *n == format!("{layer}weight")))
    };
    let biases = found.iter().enumerate().filter(|(i, (name, tensor))| {
        !used.contains(i) && layer_has_weights(name) && (0..tensor.len()).any(|i| tensor.element(i) != 0.0)
    });
    report.biases = biases.map(|(_, (name, _))| name.clone()).collect();
    // A part of a weight is no weight under another name.
    let whole: Vec<_> = report.unused.iter().filter(|(name, _)| part_of(name).is_none()).cloned().collect();
    for (name, shape) in &report.missing {
        let near = only_one(shape, &report.missing, &whole).or_else(|| nearest(name, shape, &whole));
        if let Some(near) = near {
            report.suggestions.push((name.clone(), near.to_owned()));
        }
    }
    report
}

impl LoadReport {
    /// Whether every parameter was found with its shape, and nothing was left over.
    pub fn is_clean(&self) -> bool {
        self.missing.is_empty() && self.unused.is_empty() && self.mismatched.is_empty()
    }

    /// What to do about a file that does not fit.
    pub(crate) fn remedy(&self) -> String {
        if let Some(other) = self.other_network() {
            return other;
        }
        let rules = self.renames();
        let mut remedy = match rules.is_empty() {
            true => "take another file, rename its keys with --rename OLD=NEW, or describe the network (`checkpoint inspect FILE --propose NETWORK.yaml` begins a description) and give that with --network".to_owned(),
            false => format!("take another file, or rename its keys: {}", rules.join(" ")),
        };
        if self.missing.is_empty() && self.mismatched.is_empty() {
            // The network is whole; what is left over may be something else.
            const SHOWN: usize = 4;
            let mut parts: Vec<&str> =
                self.unused.iter().map(|(name, _)| name.split('.').next().unwrap_or(name)).collect();
            parts.dedup();
            let mut options: Vec<String> =
                self.unused.iter().map(|(name, _)| format!("--ignore {}", shown(name))).collect();
            if options.len() > SHOWN && parts.len() <= SHOWN {
                let taken = |part: &str| self.applied.iter().any(|name| name.split('.').next() == Some(part));
                if !parts.iter().any(|part| taken(part)) {
                    options = parts.iter().map(|part| format!("--ignore {}", shown(part))).collect();
                }
            }
            options.truncate(SHOWN);
            remedy = format!(
                "the network is whole, and these tensors are none of its: if they are not needed, leave them out with {}",
                options.join(" ")
            );
        }
        remedy
    }

    /// What to do about a file whose network computes something else than its tensors under other names, or without some
    /// of them, would.
    fn other_network(&self) -> Option<String> {
        let names = || self.unused.iter().map(|(name, _)| name.as_str());
        let missing = |name: &str| self.missing.iter().any(|(other, _)| other == name);
        if let Some(name) = names().find(|name| name.ends_with(".scale") || name.ends_with(".zero_point")) {
            return Some(format!(
                "{} is a quantised layer's, without which the weights mean something else: save those that they stand for, \
                 weight.dequantize() in Python, or the state dict of the network that was quantised",
                shown(name)
            ));
        }
        if let Some(name) = names().find(|name| part_of(name).is_some_and(missing)) {
            return Some(format!(
                "{} is a part of a weight, as weight_norm, spectral_norm or pruning keep it, and the other parts do not fit \
                 it or are not there: put them together in Python before saving, with torch.nn.utils.remove_weight_norm(\
                 module), torch.nn.utils.remove_spectral_norm(module) or torch.nn.utils.prune.remove(module, 'weight')",
                shown(name)
            ));
        }
        if let Some(name) = self.biases.first() {
            return Some(format!(
                "it is of a network with biases ({} is not zero), which this one has none of; without them it would compute \
                 something else: take a network whose layers have bias=False",
                shown(name)
            ));
        }
        self.mismatched.iter().find_map(|(name, expected, found)| {
            let name = shown(name);
            if found.len() == 2 && found.iter().rev().eq(expected) {
                return Some(format!(
                    "{name} is transposed: turn it round in Python before saving, state['{name}'] = \
                     state['{name}'].T.contiguous()"
                ));
            }
            let without =
                |at: usize| expected.iter().enumerate().filter(move |(i, _)| *i != at).map(|(_, dim)| dim);
            let lost = (0..expected.len()).find(|&at| expected.get(at) == Some(&1) && without(at).eq(found));
            lost.map(|at| {
                format!(
                    "{name} lacks a dimension of 1: put it in in Python before saving, state['{name}'] = \
                     state['{name}'].unsqueeze({at})"
                )
            })
        })
    }

    /// The suggestions as options, several names at once where only what stands before them differs.
    fn renames(&self) -> Vec<String> {
        const SHOWN: usize = 8;
        let mut rules: Vec<(&str, &str)> = Vec::new();
        for (name, near) in &self.suggestions {
            let (mut old, mut new) = (near.as_str(), name.as_str());
            // The same last parts: `conv1.weight` and `features.0.weight`.
            while let (Some((left, end)), Some((right, other))) = (old.rsplit_once('.'), new.rsplit_once('.'))
                && end == other
            {
                (old, new) = (left, right);
            }
            // A prefix only: `net.classifier` and `classifier`.
            if let Some(prefix) = old.strip_suffix(new).filter(|prefix| prefix.ends_with('.')) {
                (old, new) = (prefix, "");
            }
            if !rules.contains(&(old, new)) {
                rules.push((old, new));
            }
        }
        // One old name for two new ones leaves a choice that is not ours.
        let clear = |rule: &&(&str, &str)| rules.iter().filter(|other| other.0 == rule.0).count() == 1;
        let option = |&(old, new): &(&str, &str)| format!("--rename {}={}", shown(old), shown(new));
        rules.iter().filter(clear).take(SHOWN).map(option).collect()
    }
}

/// So many keys are shown under a heading; no network of the family has more.
const SHOWN: usize = 30;

/// Five lines, each a heading with its count and the keys under it.
impl fmt::Display for LoadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shaped = |list: &[(String, Vec<usize>)]| {
            list.iter().map(|(name, shape)| format!("{} ({})", shown(name), dims(shape))).collect()
        };
        let mismatched = self.mismatched.iter().map(|(name, expected, found)| {
            format!("{} (expected {}, got {})", shown(name), dims(expected), dims(found))
        });
        let suggestions =
            self.suggestions.iter().map(|(name, near)| format!("{} for {}", shown(near), shown(name)));
        let lines: [(&str, Vec<String>); 5] = [
            ("applied", self.applied.iter().map(|name| shown(name)).collect()),
            ("missing", shaped(&self.missing)),
            ("unused", shaped(&self.unused)),
            ("mismatched", mismatched.collect()),
            ("did you mean", suggestions.collect()),
        ];
        for (i, (heading, keys)) in lines.iter().enumerate() {
            let newline = if i == 0 { "" } else { "\n" };
            let mut list = keys.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
            if keys.is_empty() {
                list.push_str("none");
            } else if keys.len() > SHOWN {
                list.push_str(&format!(" and {} more", keys.len() - SHOWN));
            }
            write!(f, "{newline}  {heading} ({}): {list}", keys.len())?;
        }
        Ok(())
    }
}

/// Of which weight a tensor is a part by its name: `a.weight` of `a.weight_v`.
fn part_of(name: &str) -> Option<&str> {
    ["_orig", "_mask", "_g", "_u", "_v"].iter().find_map(|end| name.strip_suffix(end))
}

/// The one unused tensor of a shape that one missing parameter has, whatever it is called.
fn only_one<'r>(
    shape: &[usize],
    missing: &[(String, Vec<usize>)],
    unused: &'r [(String, Vec<usize>)],
) -> Option<&'r str> {
    let mut unused = unused.iter().filter(|(_, found)| found == shape);
    let (first, second) = (unused.next(), unused.next());
    let missing = missing.iter().filter(|(_, other)| other == shape).count();
    first.filter(|_| second.is_none() && missing == 1 && !shape.is_empty()).map(|(name, _)| name.as_str())
}

/// The candidate of the same shape that only has a prefix before the name, else the one that differs least; one of the
/// same shape may differ more.
pub(crate) fn nearest<'a>(
    name: &str,
    shape: &[usize],
    candidates: &'a [(String, Vec<usize>)],
) -> Option<&'a str> {
    // A file with very many or very long names must not take long to refuse.
    const CANDIDATES: usize = 500;
    const LENGTH: usize = 200;
    let prefixed = |(candidate, found): &&'a (String, Vec<usize>)| {
        found == shape && candidate.strip_suffix(name).is_some_and(|prefix| prefix.ends_with('.'))
    };
    if let Some((candidate, _)) = candidates.iter().find(prefixed) {
        return Some(candidate);
    }
    let name: Vec<char> = name.chars().collect();
    let near = |(candidate, found): &'a (String, Vec<usize>)| {
        if candidate.len().max(name.len()) > LENGTH {
            return None;
        }
        let (distance, same) = (edit_distance(&name, candidate), found == shape);
        let limit = if same { name.len() / 2 } else { (name.len() / 4).max(2) };
        (distance <= limit).then_some((distance, !same, candidate.as_str()))
    };
    candidates.iter().take(CANDIDATES).filter_map(near).min().map(|(.., candidate)| candidate)
}

/// Fewest insertions, deletions and substitutions of characters (Wagner and Fischer, 1974).
fn edit_distance(a: &[char], b: &str) -> usize {
    let mut row: Vec<usize> = (0..=a.len()).collect();
    for (i, y) in b.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        let mut next = vec![left];
        for (x, &above) in a.iter().zip(row.iter().skip(1)) {
            left = (diagonal + usize::from(*x != y)).min(left + 1).min(above + 1);
            diagonal = above;
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edit_distances_worked_by_hand() {
        let distance = |a: &str, b: &str| edit_distance(&a.chars().collect::<Vec<_>>(), b);
        assert_eq!(distance("", ""), 0);
        assert_eq!(distance("abc", ""), 3);
        assert_eq!(distance("", "ab"), 2);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("flaw", "lawn"), 2);
        assert_eq!(distance("features.0.weight", "feature.0.weight"), 1);
    }
}
