//! Sums over the energy table, and names for its models and networks.

use std::collections::HashMap;

use escape_energy::{PUBLISHED, ann_of};

use crate::rows::{Energy, Kind};
use crate::run::{Run, distinct};

/// The energy table of a run, without quantised ANNs of which no accuracy was measured: nobody knows what they are worth.
pub(crate) struct Tally<'a> {
    rows: Vec<&'a Energy>,
    /// Picojoules by model and network.
    totals: HashMap<(&'a str, &'a str), f64>,
}

impl<'a> Tally<'a> {
    pub(crate) fn of(run: &'a Run) -> Self {
        let measured = |bits: u32| {
            run.evaluations.iter().flatten().any(|e| e.kind == Kind::Quantised && e.bits == Some(bits))
        };
        let counts = |row: &&Energy| match ann_of(&row.network) {
            Some((Some(bits), _)) => measured(bits),
            _ => true,
        };
        let rows: Vec<&Energy> = run.energy.iter().flatten().filter(counts).collect();
        let mut totals = HashMap::new();
        for row in &rows {
            *totals.entry((row.model.as_str(), row.network.as_str())).or_insert(0.0) += row.picojoules;
        }
        Self { rows, totals }
    }
    /// Whether a network's energy is known by any model.
    pub(crate) fn knows(&self, network: &str) -> bool {
        self.rows.iter().any(|row| row.network == network)
    }
    /// Models in order of appearance.
    pub(crate) fn models(&self) -> Vec<String> {
        distinct(self.rows.iter().map(|r| r.model.as_str()))
    }
    /// Networks of a model in order of appearance, ANNs first.
    pub(crate) fn networks(&self, model: &str) -> Vec<String> {
        let mut names = distinct(self.rows.iter().filter(|r| r.model == model).map(|r| r.network.as_str()));
        names.sort_by_key(|name| !is_ann(name));
        names
    }
    /// Picojoules per sample; `None` if the table does not have it.
    pub(crate) fn total(&self, model: &str, network: &str) -> Option<f64> {
        self.totals.get(&(model, network)).copied()
    }
    /// `above` over `below`: how many times less energy `below` takes. `None` unless both are known and positive.
    pub(crate) fn saving(&self, model: &str, above: &str, below: &str) -> Option<f64> {
        let ratio = self.total(model, above)? / self.total(model, below)?;
        (ratio.is_finite() && ratio > 0.0).then_some(ratio)
    }
    /// The model that stands for itemised arithmetic: `fp32`, else the first that is not the published one.
    pub(crate) fn itemised(&self) -> Option<String> {
        self.preferred(|m| !m.contains('+'), "fp32")
    }
    /// The model that stands for itemised arithmetic and memory traffic.
    pub(crate) fn itemised_with_memory(&self) -> Option<String> {
        self.preferred(|m| m.ends_with("+memory"), "fp32+memory")
    }
    fn preferred(&self, fits: impl Fn(&str) -> bool, first: &str) -> Option<String> {
        let models: Vec<String> = self.models().into_iter().filter(|m| m != PUBLISHED && fits(m)).collect();
        models.iter().find(|m| *m == first).or(models.first()).cloned()
    }
}

/// Whether a network of the energy tables is an ANN.
pub(crate) fn is_ann(network: &str) -> bool {
    ann_of(network).is_some()
}

/// A network of the energy tables for a reader.
pub(crate) fn network_name(network: &str) -> String {
    let Some((bits, skips)) = ann_of(network) else { return network.to_owned() };
    let bits = bits.map_or_else(String::new, |bits| format!(", {bits} bits"));
    format!("ANN{bits}{}", if skips { ", skips zeros" } else { "" })
}

/// A model for a reader.
pub(crate) fn model_name(model: &str) -> String {
    if model == PUBLISHED {
        return "published formula".to_owned();
    }
    match model.split_once('+') {
        Some((format, "events")) => format!("{format} arithmetic and memory, weights by event"),
        Some((format, _)) => format!("{format} arithmetic and memory"),
        None => format!("{model} arithmetic"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn baselines_are_told_apart() {
        assert!(is_ann("ann") && is_ann("ann-5bit") && is_ann("ann-skip"));
        assert!(!is_ann("ann-large") && !is_ann("annealed") && !is_ann("ann-bit"));
        assert_eq!(network_name("ann-3bit"), "ANN, 3 bits");
        assert_eq!(network_name("ann-3bit-skip"), "ANN, 3 bits, skips zeros");
        assert_eq!(model_name("fp32+memory"), "fp32 arithmetic and memory");
        assert_eq!(model_name("int8+events"), "int8 arithmetic and memory, weights by event");
    }
}
