//! Sums over the energy table, and names for its models and networks.

use crate::rows::Energy;
use crate::run::{Run, distinct};

/// The full-precision ANN in the energy tables.
pub(crate) const ANN: &str = "ann";
/// The study's own formula.
pub(crate) const PUBLISHED: &str = "published";

/// The energy table of a run.
pub(crate) struct Tally<'a> {
    rows: &'a [Energy],
}

impl<'a> Tally<'a> {
    pub(crate) fn of(run: &'a Run) -> Self {
        Self { rows: run.energy.as_deref().unwrap_or_default() }
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
        let mut of = self.rows.iter().filter(|r| r.model == model && r.network == network).peekable();
        of.peek()?;
        Some(of.map(|r| r.picojoules).sum())
    }
    /// `above` over `below`: how many times less energy `below` takes. `None` unless both are known and positive.
    pub(crate) fn saving(&self, model: &str, above: &str, below: &str) -> Option<f64> {
        let ratio = self.total(model, above)? / self.total(model, below)?;
        (ratio.is_finite() && ratio > 0.0).then_some(ratio)
    }
    /// The model that stands for itemised arithmetic: `fp32`, else the first that is not the published one.
    pub(crate) fn itemised(&self) -> Option<String> {
        self.preferred(|m| !m.ends_with("+memory"), "fp32")
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

/// Whether a network of the energy tables is a baseline.
pub(crate) fn is_ann(network: &str) -> bool {
    network == ANN || bits(network).is_some()
}

/// Bits of a quantised baseline: 5 for `ann-5bit`.
pub(crate) fn bits(network: &str) -> Option<u32> {
    network.strip_prefix("ann-")?.strip_suffix("bit")?.parse().ok()
}

/// The quantised baseline that belongs to a simulation of T steps: ceil(log2(T + 1)) bits.
pub(crate) fn quantised(timesteps: u32) -> (u32, String) {
    let bits = (u32::BITS - timesteps.leading_zeros()).max(1);
    (bits, format!("ann-{bits}bit"))
}

/// A network of the energy tables for a reader.
pub(crate) fn network_name(network: &str) -> String {
    match (network, bits(network)) {
        (ANN, _) => "ANN".to_owned(),
        (_, Some(bits)) => format!("ANN, {bits} bits"),
        _ => network.to_owned(),
    }
}

/// A model for a reader.
pub(crate) fn model_name(model: &str) -> String {
    if model == PUBLISHED {
        return "published formula".to_owned();
    }
    match model.strip_suffix("+memory") {
        Some(format) => format!("{format} arithmetic and memory"),
        None => format!("{model} arithmetic"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn baselines_are_told_apart() {
        assert!(is_ann("ann") && is_ann("ann-5bit"));
        assert!(!is_ann("ann-large") && !is_ann("annealed") && !is_ann("ann-bit"));
        assert_eq!(quantised(28), (5, "ann-5bit".to_owned()));
        assert_eq!(quantised(4).0, 3);
        assert_eq!(network_name("ann-3bit"), "ANN, 3 bits");
        assert_eq!(model_name("fp32+memory"), "fp32 arithmetic and memory");
    }
}
