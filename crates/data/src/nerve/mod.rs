//! Simulated recordings: compound action potentials of a nerve with three fascicles, seen by a cuff of contacts.
//!
//! An animal has a nerve: fibres with a place, a velocity and nodes, whose travelling currents give every contact a
//! potential through the cuff's lead field. A recording is some fibres of the evoked fascicle at about the same time,
//! some of the others, background activity, noise and interference; then reference, band-pass along time and scaling.
//! Every recording bears the label of the fascicle that was evoked: what makes the task hard is mixing, noise and
//! drift, and no label is ever wrong. `docs/nerve.md` has the model, its formulas and their sources,
//! `configs/nerve.yaml` every parameter.
//!
//! N recordings, H contacts (rings * contacts_per_ring), W samples.

mod anatomy;
mod animal;
mod band;
mod config;
mod fibre;
mod leadfield;
mod session;
mod streams;

use std::collections::HashMap;

use rayon::prelude::*;

pub use self::anatomy::{Anatomy, PlacedFascicle};
use self::animal::{Animal, Scratch};
pub use self::config::{Fascicle, NerveConfig, RowOrder, Scaling};
pub use self::fibre::Fibre;
use self::session::{Session, Take};
use self::streams::{Purpose, stream};
use crate::SAMPLE_RATE_HZ;
use crate::classes::Classes;
use crate::error::DataError;
use crate::recordings::{Dataset, Nerve, Recordings};
use escape_network::arch::{CLASSES, SAMPLES};
use escape_network::rng::Stream;

/// Recordings that a thread simulates at a time: few enough to share out evenly, enough that its memory is reused.
const BATCH: usize = 16;

/// Simulate both splits of the configured fold.
///
/// A recording depends on the configuration, the seed, the animal, its class, its number and (by the drift) the
/// length of the session only, not on the number of threads. It runs on rayon's current thread pool. `progress` is
/// told, from any thread, how many more recordings are finished since it was last told; these numbers add up to those of
/// [`NerveConfig::recordings`].
///
/// # Errors
/// [`DataError::Config`] when the configuration cannot be simulated, with all its problems;
/// [`DataError::OutOfMemory`].
pub fn simulate(
    config: &NerveConfig,
    seed: u64,
    progress: &(dyn Fn(usize) + Sync),
) -> Result<Dataset, DataError> {
    let session = session(config)?;
    // Room for both splits before any work.
    let size = config.contacts() * SAMPLES;
    let [train, test] = session.sizes();
    let [train_x, test_x] = [train * config.training_rounds, test].map(|count| room(count, size));
    let (train_x, test_x) = (train_x?, test_x?);
    let animal = Animal::new(config, seed);
    let part = |takes: Vec<Take>, mut x: Vec<f32>| {
        fill(&animal, &session, &takes, size, config, &mut x, progress);
        let y = takes.iter().map(|take| take.class as i64).collect();
        Recordings { x, y, contacts: config.contacts(), samples: SAMPLES }
    };
    let round = |round: usize| {
        let takes = session.train(&mut order(config, seed, 0, round));
        takes.into_iter().map(move |take| Take { round, ..take })
    };
    Ok(Dataset {
        classes: Classes::Open.names(),
        train: part((0..config.training_rounds).flat_map(round).collect(), train_x),
        test: part(session.test(&mut order(config, seed, 1, 0)), test_x),
        sample_rate_hz: SAMPLE_RATE_HZ,
        nerve: Some(Nerve { seed, animal: config.animal }),
    })
}

/// The session of a configuration that can be simulated.
fn session(config: &NerveConfig) -> Result<Session, DataError> {
    let problems = config.problems();
    if !problems.is_empty() {
        return Err(DataError::Config { path: None, problems });
    }
    Ok(Session::new(config.samples, config.test_fraction, config.test_class_weights, config.fold))
}

/// What the order of a round of the training split (0) or of the test split (1) is drawn from.
fn order(config: &NerveConfig, seed: u64, split: usize, round: usize) -> Stream {
    stream(seed, Purpose::Order, config.animal, split, round << 8 | config.fold)
}

/// A recording, and what of it nerve fibres contribute. Each is H x W values in [-1, 1].
#[derive(Debug, Clone, PartialEq)]
pub struct Example {
    /// The evoked class.
    pub class: usize,
    /// As in the data set.
    pub recorded: Vec<f32>,
    /// The same moment without noise and interference.
    pub fibres_alone: Vec<f32>,
}

/// The first recording of each class, of the test split where it has one.
///
/// # Errors
/// [`DataError::Config`].
pub fn examples(config: &NerveConfig, seed: u64) -> Result<Vec<Example>, DataError> {
    let session = session(config)?;
    let takes: Vec<Take> =
        [session.test(&mut order(config, seed, 1, 0)), session.train(&mut order(config, seed, 0, 0))]
            .concat();
    let first = |class: usize| takes.iter().find(|take| take.class == class).copied();
    let takes: Vec<Take> = (0..CLASSES).filter_map(first).collect();
    let quiet = config.without_noise();
    let record = |animal: &Animal<'_>| -> Vec<Vec<f32>> {
        let mut scratch = Scratch::new(config);
        let record = |&take: &Take| {
            let mut out = vec![0.0; config.contacts() * SAMPLES];
            animal.record(take, session.progressed(take), &mut scratch, &mut out);
            out
        };
        takes.iter().map(record).collect()
    };
    let animal = Animal::new(config, seed);
    let recorded = record(&animal);
    let both = recorded.into_iter().zip(record(&animal.with_noise_of(&quiet)));
    let example =
        |(take, (recorded, fibres_alone)): (&Take, _)| Example { class: take.class, recorded, fibres_alone };
    Ok(takes.iter().zip(both).map(example).collect())
}

/// Simulate each recording of `takes` once, and copy it to wherever else it occurs. `x` is N x H x W.
fn fill(
    animal: &Animal<'_>,
    session: &Session,
    takes: &[Take],
    size: usize,
    config: &NerveConfig,
    x: &mut [f32],
    progress: &(dyn Fn(usize) + Sync),
) {
    let mut first = HashMap::new();
    let sources: Vec<usize> =
        takes.iter().enumerate().map(|(i, take)| *first.entry(*take).or_insert(i)).collect();
    x.par_chunks_mut(size * BATCH).enumerate().for_each_init(
        || Scratch::new(config),
        |scratch, (batch, x)| {
            let mut done = 0;
            for (k, out) in x.chunks_exact_mut(size).enumerate() {
                let i = batch * BATCH + k;
                if sources[i] == i {
                    let take = takes[i];
                    animal.record(take, session.progressed(take), scratch, out);
                    done += 1;
                }
            }
            progress(done);
        },
    );
    for (i, &source) in sources.iter().enumerate() {
        if source != i {
            x.copy_within(source * size..(source + 1) * size, i * size);
        }
    }
    progress(sources.iter().enumerate().filter(|&(i, &source)| source != i).count());
}

/// Memory for `count` recordings of `size` values, all 0.
fn room(count: usize, size: usize) -> Result<Vec<f32>, DataError> {
    let out_of_memory =
        || DataError::OutOfMemory { path: None, bytes: (count as u64).saturating_mul(4 * size as u64) };
    let values = count.checked_mul(size).ok_or_else(out_of_memory)?;
    let mut x = Vec::new();
    x.try_reserve_exact(values).map_err(|_| out_of_memory())?;
    x.resize(values, 0.0);
    Ok(x)
}
