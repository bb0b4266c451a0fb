//! By which route a network came to be, in words: what makes a line of a figure and a row of a table.

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};

use crate::rows::{Evaluation, Kind};
use crate::run::Run;
use crate::tally::is_ann;

/// A route from ANN to spiking network, as figures colour it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Route {
    Ann,
    ConvertedDefault,
    FinetunedDefault,
    ConvertedPublished,
    FinetunedPublished,
    /// By any of the SNN toolbox's rules.
    ConvertedToolbox,
    /// Of another preset, or unknown.
    Other,
}

impl Route {
    pub(crate) const ALL: [Self; 7] = [
        Self::Ann,
        Self::ConvertedDefault,
        Self::FinetunedDefault,
        Self::ConvertedPublished,
        Self::FinetunedPublished,
        Self::ConvertedToolbox,
        Self::Other,
    ];

    pub(crate) fn of(kind: Kind, preset: &str) -> Self {
        match (kind, preset) {
            (Kind::Ann | Kind::Quantised, _) => Self::Ann,
            (Kind::Converted, "default") => Self::ConvertedDefault,
            (Kind::Finetuned, "default") => Self::FinetunedDefault,
            (Kind::Converted, "published") => Self::ConvertedPublished,
            (Kind::Finetuned, "published") => Self::FinetunedPublished,
            (Kind::Converted, preset) if preset.starts_with("toolbox") => Self::ConvertedToolbox,
            _ => Self::Other,
        }
    }

    /// Of a network as the tables name it: by its last evaluation.
    pub(crate) fn of_network(run: &Run, network: &str) -> Self {
        let evaluated = run.evaluations.iter().flatten().rev().find(|e| e.network == network);
        match evaluated {
            Some(e) => Self::of(e.kind, &e.preset),
            None if is_ann(network) => Self::Ann,
            None => Self::Other,
        }
    }
}

/// The name of a route: how the network came to be, its preset and its encoder.
fn route(e: &Evaluation) -> String {
    if !e.kind.is_spiking() {
        return format!("{} ({})", e.kind.words(), e.network);
    }
    let settings: Vec<&str> =
        [e.preset.as_str(), e.encoder.as_str()].into_iter().filter(|s| !s.is_empty()).collect();
    if settings.is_empty() {
        e.kind.words().to_owned()
    } else {
        format!("{} ({})", e.kind.words(), settings.join(", "))
    }
}

/// The route of each evaluation. Networks that share a route make one line, unless they were evaluated at the same
/// T; then each has a line of its own.
pub(crate) fn routes(evaluations: &[Evaluation]) -> Vec<String> {
    let plain: Vec<String> = evaluations.iter().map(route).collect();
    let mut seen: HashMap<(&str, Option<u32>), &str> = HashMap::new();
    let mut shared: HashSet<&str> = HashSet::new();
    for (e, route) in evaluations.iter().zip(&plain) {
        let first = *seen.entry((route, e.timesteps)).or_insert(&e.network);
        if e.kind.is_spiking() && first != e.network {
            shared.insert(route);
        }
    }
    let name = |(e, route): (&Evaluation, &String)| {
        if shared.contains(route.as_str()) { format!("{}: {route}", e.network) } else { route.clone() }
    };
    evaluations.iter().zip(&plain).map(name).collect()
}
