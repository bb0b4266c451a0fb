//! Measures a network over a set of recordings.

use anyhow::Result;
use escape_data::Recordings;
#[cfg(feature = "libtorch")]
use escape_model::ann::Ann;
#[cfg(feature = "libtorch")]
use escape_model::train;
#[cfg(feature = "libtorch")]
use escape_network::metrics::Loss;
use escape_network::sequential::Sequential;
use escape_report::rows::Kind;
use escape_snn_core::evaluate::{Labelled, evaluate};

use crate::engine::AnyEngine;
use crate::load::{Simulation, check_classes};
use crate::measured::{Findings, Measured, Simulated};
use crate::session::Session;

/// Measures an ANN.
///
/// # Errors
/// The listener asked to stop, or libtorch fails.
#[cfg(feature = "libtorch")]
pub fn ann(
    session: &Session,
    network: &str,
    ann: &Ann,
    recordings: &Recordings,
    batch_size: usize,
    loss: Loss,
) -> Result<Measured> {
    let classes = ann.network().classes();
    check_classes(network, classes, recordings)?;
    let mut progress = session.progress(network, recordings.len());
    let mut logits = Vec::with_capacity(recordings.len() * classes);
    let metrics = train::evaluate(ann, recordings, batch_size, loss, &mut |_, batch| {
        logits.extend_from_slice(batch);
        progress.tick(batch.len() / classes)
    })?;
    let result = Findings::Artificial { metrics, logits };
    let classes = names(ann.network());
    Ok(Measured { network: network.to_owned(), classes, kind: Kind::Ann, epoch: None, result })
}

/// Simulates a spiking network; `also_at` are further numbers of steps at which its accuracy is told, all from one
/// simulation over the most of them.
///
/// # Errors
/// The listener asked to stop, or the engine fails.
pub fn snn(
    session: &Session,
    network: &str,
    (kind, epoch): (Kind, Option<u32>),
    chosen: Simulation,
    also_at: &[usize],
    recordings: &Recordings,
    batch_size: usize,
) -> Result<Measured> {
    let Simulation { network: description, encoding, steps, engine } = chosen;
    check_classes(network, description.classes(), recordings)?;
    let mut moments: Vec<usize> = also_at.iter().copied().chain([steps]).collect();
    moments.sort_unstable();
    moments.dedup();
    let longest = moments.last().copied().unwrap_or(steps);
    let rules = description.rules;
    let layers = description.layers.iter().map(|l| (l.shape.clone(), f64::from(l.neuron.decay()))).collect();
    let classes = names(&description.network);
    let engine = AnyEngine::new(engine, description, encoding, session.device()?)?;
    let mut encoder = rules.encoder(encoding, session.seed);
    let mut progress = session.progress(&format!("{network}, T up to {longest}"), recordings.len());
    let labelled = Labelled { x: &recordings.x, y: &recordings.y };
    let found = evaluate(&engine, labelled, &mut encoder, longest, batch_size, &mut |n| progress.part(n))?;
    let simulated = Simulated { engine: engine.to_string(), rules, encoding, steps, moments, layers, found };
    Ok(Measured {
        network: network.to_owned(),
        classes,
        kind,
        epoch,
        result: Findings::Spiking(Box::new(simulated)),
    })
}

/// What a network's classes are called.
fn names(network: &Sequential) -> Vec<String> {
    (0..network.classes()).map(|class| network.class_name(class)).collect()
}
