//! Recordings and networks from files, and what is to be said of them.

use std::path::Path;

use anyhow::Result;
use escape_checkpoint::description;
use escape_checkpoint::identify::of_family;
use escape_checkpoint::input::KnownInput;
use escape_checkpoint::{Checkpoint, CheckpointError, Note as Finding, Selection};
use escape_data::nerve::{NerveConfig, simulate};
use escape_data::{Classes, Dataset, Note, Origin, ReadOptions, Recordings, Split};
use escape_data::{are_recordings, holds_recordings};
use escape_network::arch::{CONTACTS, SAMPLES};
use escape_report::rows::Kind;
use escape_snn_core::encode::Encoding;
use escape_snn_core::integer::Bits;
use escape_snn_core::network::SpikingNetwork;
use escape_snn_core::rules::Preset;
use escape_snn_core::stored::{self, Loaded};

use crate::defaults::{Defaults, EngineName, Route};
use crate::engine;
use crate::place::{existing, existing_data};
use crate::session::{Session, usage};

/// Both splits of a file of recordings.
///
/// # Errors
/// The file is not there, no recordings, or damaged.
pub fn dataset(session: &Session, path: &Path, options: &ReadOptions) -> Result<Dataset> {
    let (dataset, notes) = read_dataset(path, options)?;
    tell(session, path, &notes);
    Ok(dataset)
}

/// Both splits of a file of recordings, and what its reader found and decided.
///
/// # Errors
/// The file is not there, no recordings, or damaged.
pub fn read_dataset(path: &Path, options: &ReadOptions) -> Result<(Dataset, Vec<Note>)> {
    Ok(escape_data::read(&existing_data(path)?, options)?)
}

/// Says what a reader found and decided, but for the format, which surprises nobody.
pub fn tell(session: &Session, path: &Path, notes: &[Note]) {
    for note in notes.iter().filter(|note| !matches!(note, Note::Format { .. })) {
        session.note(format!("note: {}: {note}", path.display()));
    }
}

/// Says what somebody should know who gives a network recordings of an origin.
pub fn tell_remarks(session: &Session, network: &Path, input: &KnownInput, origin: &Origin) {
    for remark in input.remarks(origin.sample_rate_hz, origin.nerve.map(|nerve| nerve.to_string()).as_deref())
    {
        session.note(format!("note: {}: {remark}", network.display()));
    }
}

/// How recordings for a network are read: of as many classes as it tells apart, called what it calls them, unless something
/// else was asked for.
pub fn reading_for(options: &ReadOptions, network: &Checkpoint) -> ReadOptions {
    let mut options = options.clone();
    if options.classes == Classes::Open {
        let described = description::stored(network, Path::new("")).ok().flatten();
        options.classes = match described {
            Some(network) if network.class_names().len() > 1 => {
                Classes::Named(network.class_names().to_vec())
            }
            // Labels are of two classes at least.
            Some(network) if network.classes() < 2 => Classes::Open,
            Some(network) => Classes::Count(network.classes()),
            None => {
                of_family(&network.weights).map_or(Classes::Open, |family| Classes::Count(family.classes))
            }
        };
    }
    options
}

/// Recordings of a split for a network, at most `limit` of them, and where they come from.
///
/// # Errors
/// As [`dataset`], or the split is empty.
pub fn recordings(
    session: &Session,
    path: &Path,
    options: &ReadOptions,
    split: Split,
    limit: Option<usize>,
    (network, network_path): (&Checkpoint, &Path),
) -> Result<(Recordings, Origin)> {
    let options = reading_for(options, network);
    let (all, origin, notes) = escape_data::read_split(&existing_data(path)?, split, &options)?;
    tell(session, path, &notes);
    if all.is_empty() || limit == Some(0) {
        return Err(usage(format!("{}: no recordings to work on in the {split} split", path.display())));
    }
    tell_remarks(session, network_path, &KnownInput::of(network), &origin);
    Ok((all.at_most(limit), origin))
}

/// Refuses recordings of a class that a network does not know.
///
/// # Errors
/// There is one, which is named.
pub fn check_classes(network: &str, classes: usize, recordings: &Recordings) -> Result<()> {
    match recordings.y.iter().position(|&label| usize::try_from(label).is_ok_and(|class| class >= classes)) {
        Some(index) => Err(usage(format!(
            "{network} tells {classes} classes apart, numbered from 0, but recording {index} is of class {}; give it a network \
             for as many classes as the recordings have",
            recordings.y[index]
        ))),
        None => Ok(()),
    }
}

/// A checkpoint in the study's dictionary, this program's own.
///
/// # Errors
/// The file is not there, no checkpoint, or damaged.
pub fn checkpoint(path: &Path) -> Result<Checkpoint> {
    load(path, &Selection::default()).map(|(checkpoint, _)| checkpoint)
}

/// A user's checkpoint, of which may be said more than that it was read.
///
/// # Errors
/// The file is not there, no checkpoint, or damaged; [`Usage`](crate::session::Usage) where what was selected is not in it.
pub fn network(session: &Session, path: &Path, selection: &Selection) -> Result<Checkpoint> {
    let (checkpoint, notes) = load(path, selection)?;
    for note in notes {
        session.note(format!("note: {}: {note}", path.display()));
    }
    Ok(checkpoint)
}

/// A checkpoint, and what is to be said of it. What is asked for and not there is wrong usage.
fn load(path: &Path, selection: &Selection) -> Result<(Checkpoint, Vec<Finding>)> {
    const TENSORS: &str = "tensors of recordings";
    // The reader itself says what a folder may be.
    let path = if path.is_dir() { path.to_path_buf() } else { existing(path)? };
    let found = Checkpoint::load_as(&path, selection);
    let recordings = match &found {
        Ok((checkpoint, _)) => are_recordings(checkpoint).then_some(TENSORS),
        Err(CheckpointError::Choice { .. }) => None,
        Err(_) if path.is_dir() => None,
        Err(_) => escape_data::recordings_format(&path).or(holds_recordings(&path).then_some(TENSORS)),
    };
    match (recordings, found) {
        (Some(what), _) => Err(anyhow::anyhow!(
            "{}: these are recordings ({what}), expected a checkpoint; have --data and --checkpoint changed places?",
            path.display()
        )),
        (None, Err(error @ CheckpointError::Choice { .. })) => Err(usage(error.to_string())),
        (None, found) => Ok(found?),
    }
}

/// Contacts and samples of the recordings that a network takes, as far as its checkpoint says; one that says nothing is taken
/// for the study's, and that is said.
///
/// # Errors
/// The checkpoint keeps a description of its network that is none.
pub fn input_of(session: &Session, checkpoint: &Checkpoint, path: &Path) -> Result<(usize, usize)> {
    if let Some(described) = description::stored(checkpoint, path)? {
        return Ok(described.input().recording());
    }
    Ok(KnownInput::of(checkpoint).shape.unwrap_or_else(|| {
        session.note(format!(
            "note: {}: does not say what recordings it takes; {CONTACTS} contacts x {SAMPLES} samples are assumed, as in the study",
            path.display()
        ));
        (CONTACTS, SAMPLES)
    }))
}

/// What was asked for besides what a checkpoint says; what is not, is as the checkpoint says.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asked {
    /// The rules.
    pub preset: Option<Preset>,
    /// The number of timesteps.
    pub timesteps: Option<usize>,
    /// The encoder.
    pub encoding: Option<Encoding>,
    /// Bits of whole numbers.
    pub bits: Bits,
    /// The engine.
    pub engine: EngineName,
}

/// A spiking network with everything that its simulation needs.
pub struct Simulation {
    /// The network.
    pub network: SpikingNetwork,
    /// What its input is.
    pub encoding: Encoding,
    /// T.
    pub steps: usize,
    /// Which engine simulates it.
    pub engine: EngineName,
}

/// Brings together what the checkpoint says and what the command line says.
///
/// # Errors
/// As [`simulation_of`].
pub fn simulation(
    session: &Session,
    checkpoint: &Checkpoint,
    path: &Path,
    asked: Asked,
    recordings: &Recordings,
) -> Result<Simulation> {
    simulation_of(session, checkpoint, path, asked, (recordings.contacts, recordings.samples))
}

/// As [`simulation`], for recordings of so many contacts and samples.
///
/// # Errors
/// The checkpoint is none of a spiking network for such recordings, or says no number of timesteps and none was asked for; no
/// engine runs it by these rules.
pub fn simulation_of(
    session: &Session,
    checkpoint: &Checkpoint,
    path: &Path,
    asked: Asked,
    (contacts, samples): (usize, usize),
) -> Result<Simulation> {
    let Loaded { mut network, encoding, timesteps, stored_preset, stored_bits } =
        stored::load(checkpoint, path, asked.preset, contacts, samples)?;
    engine::check(asked.engine, &network)?;
    if let (Some(asked), Some(stored)) = (asked.preset, stored_preset)
        && asked != stored
    {
        session.note(format!(
            "note: {} was made for the {stored} preset and is simulated by the {asked} one",
            path.display()
        ));
    }
    network.rules = network.rules.with_bits(asked.bits).map_err(usage)?;
    if let (Some(precision), Some(Preset::Default), false, true) =
        (network.rules.precision(), stored_preset, stored_bits, asked.bits.is_empty())
    {
        session.note(format!(
            "note: {} was made before this preset computed in whole numbers; it is simulated with {precision}, and its accuracy \
             may differ a little from what was said of it (--bits and --input-bits choose others)",
            path.display()
        ));
    }
    let steps = asked.timesteps.or(timesteps).ok_or_else(|| {
        usage(format!("{}: the checkpoint names no number of timesteps; give --timesteps T", path.display()))
    })?;
    tell_fewer_steps(session, (path, checkpoint), network.rules.preset, steps);
    Ok(Simulation { network, encoding: asked.encoding.unwrap_or(encoding), steps, engine: asked.engine })
}

/// Says where a network of the default preset that was made for more timesteps is simulated over a single one, for which
/// other thresholds do better.
pub fn tell_fewer_steps(
    session: &Session,
    (path, checkpoint): (&Path, &Checkpoint),
    preset: Preset,
    steps: usize,
) {
    let Some(stored) = checkpoint
        .timesteps
        .filter(|&stored| Defaults::of(preset).route == Route::Activations && steps < 2 && stored > 1)
    else {
        return;
    };
    let make = match kind_of(checkpoint, true).0 {
        Kind::Finetuned => "fine-tune",
        Kind::Converted | Kind::Ann | Kind::Quantised => "convert",
    };
    session.note(format!(
        "note: {}: its thresholds were chosen for T = {stored}; for a single timestep, {make} with --timesteps 1",
        path.display()
    ));
}

/// Whether a checkpoint is that of a spiking network: with thresholds, and a number of timesteps.
pub fn is_spiking(checkpoint: &Checkpoint) -> bool {
    checkpoint.thresholds.is_some() && checkpoint.timesteps.is_some()
}

/// How the network came to be, and the epoch of its training. Fine-tuning notes its best epoch in a checkpoint.
pub fn kind_of(checkpoint: &Checkpoint, spiking: bool) -> (Kind, Option<u32>) {
    let epoch = checkpoint.epoch.and_then(|epoch| u32::try_from(epoch).ok());
    let tuned = checkpoint.extra.iter().any(|(key, _)| key == "best_epoch");
    match (spiking, tuned) {
        (false, _) => (Kind::Ann, epoch),
        (true, true) => (Kind::Finetuned, epoch),
        // The epoch in it is that of the ANN it was made from.
        (true, false) => (Kind::Converted, None),
    }
}

/// Simulates recordings, from the configuration's own seed if it has one.
///
/// # Errors
/// Settings that no nerve can have.
pub fn simulated(session: &Session, config: &NerveConfig) -> Result<Dataset> {
    let progress = std::sync::Mutex::new(session.progress("simulating", config.recordings().iter().sum()));
    let tick = |n: usize| {
        if let Ok(mut progress) = progress.lock() {
            progress.tick(n);
        }
    };
    simulate(config, config.seed.unwrap_or(session.seed), &tick).map_err(|e| usage(e.to_string()))
}
