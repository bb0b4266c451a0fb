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

mod animal;
mod band;
mod config;
mod fibre;
mod leadfield;
mod session;

use std::collections::HashMap;

use rayon::prelude::*;

use self::animal::{Animal, Purpose, Scratch, stream};
pub use self::config::{Fascicle, NerveConfig, RowOrder};
use self::session::{Session, Take};
use crate::error::DataError;
use crate::recordings::{Dataset, Recordings};
pub use crate::simulated::Scaling;
use crate::simulated::{check, room};
use crate::{SAMPLE_RATE_HZ, SAMPLES};

/// Recordings that a thread simulates at a time: few enough to share out evenly, enough that its memory is reused.
const BATCH: usize = 16;

/// Simulate `samples` recordings in all: both splits of the configured fold.
///
/// A recording depends on the configuration, the seed, the animal, its class, its number and (by the drift) the
/// length of the session only, not on the number of threads. It runs on rayon's current thread pool. `progress` is
/// told, from any thread, how many more recordings are finished since it was last told; these numbers add up to
/// `samples`.
///
/// # Errors
/// [`DataError::Config`] when the configuration cannot be simulated, with all its problems;
/// [`DataError::OutOfMemory`].
pub fn simulate(
    config: &NerveConfig,
    samples: usize,
    seed: u64,
    progress: &(dyn Fn(usize) + Sync),
) -> Result<Dataset, DataError> {
    check(config.problems(), samples)?;
    let session = Session::new(samples, config.test_fraction, config.test_class_weights, config.fold);
    // Room for both splits before any work.
    let size = config.contacts() * SAMPLES;
    let [train_x, test_x] = session.sizes().map(|count| room(count, size));
    let (train_x, test_x) = (train_x?, test_x?);
    let animal = Animal::new(config, seed);
    let order = |split: usize| stream(seed, Purpose::Order, config.animal, split, config.fold);
    let part = |takes: Vec<Take>, mut x: Vec<f32>| {
        fill(&animal, &session, &takes, size, config, &mut x, progress);
        let y = takes.iter().map(|take| take.class as i64).collect();
        Recordings { x, y, contacts: config.contacts(), samples: SAMPLES }
    };
    Ok(Dataset {
        train: part(session.train(&mut order(0)), train_x),
        test: part(session.test(&mut order(1)), test_x),
        sample_rate_hz: SAMPLE_RATE_HZ,
    })
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
                    let progressed = (take.index as f64 + 0.5) / session.counts[take.class] as f64;
                    animal.record(take, progressed, scratch, out);
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
