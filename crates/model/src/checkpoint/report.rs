//! Comparing a network's parameters with the tensors of a file.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::path::Path;

use escape_data::shown;

use super::error::{CheckpointError, dims};
use super::value::TensorData;

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
    for (name, shape) in &report.missing {
        if let Some(near) = nearest(name, shape, &report.unused) {
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

    /// The report itself if it is clean; `path` is the file to name, `network` and `holds` say in words what was
    /// expected and what is there.
    ///
    /// # Errors
    /// [`CheckpointError::Mismatch`] with the report if it is not.
    pub fn into_result(self, path: &Path, network: &str, holds: &str) -> Result<Self, CheckpointError> {
        if self.is_clean() {
            return Ok(self);
        }
        let (path, report) = (path.to_owned(), Box::new(self));
        Err(CheckpointError::Mismatch { path, network: network.to_owned(), holds: holds.to_owned(), report })
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

/// The candidate of the same shape that only has a prefix before the name, else the one that differs least; one of the
/// same shape may differ more.
fn nearest<'a>(name: &str, shape: &[usize], candidates: &'a [(String, Vec<usize>)]) -> Option<&'a str> {
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
