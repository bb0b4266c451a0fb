//! By which route a network came to be, in words: what makes a line of a figure and a row of a table.

use std::collections::{HashMap, HashSet};

use crate::rows::Evaluation;

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
