//! One recording, followed through a network spike by spike.

use std::ops::ControlFlow;
use std::path::Path;

use anyhow::Result;
use escape_data::Recordings;
use escape_report::rows::{InputSpike, Raster, Recording, Row, read_csv};
use escape_snn_core::encode::Encoding;
use escape_snn_core::engine::{Batch, Engine, Observer, Outcome, Spike, SpikeRecorder};
use escape_snn_core::rules::Rules;

use crate::engine::AnyEngine;
use crate::folder::write_csv;
use crate::load::Simulation;
use crate::place::make_folder;
use crate::session::{Progress, Session, usage};

/// The tables of a recording that is followed spike by spike.
pub const TABLES: [&str; 3] = [Recording::FILE, InputSpike::FILE, Raster::FILE];

/// Keeps every spike, and tells how far the run is.
struct Followed {
    recorder: SpikeRecorder,
    progress: Box<dyn Progress>,
}

impl Observer for Followed {
    fn wants_spikes(&self) -> bool {
        self.recorder.wants_spikes()
    }

    fn spikes(&mut self, spikes: &[Spike]) {
        self.recorder.spikes(spikes);
    }

    fn advanced(&mut self, steps: usize) -> ControlFlow<()> {
        match self.progress.tick(steps) {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        }
    }
}

/// One recording, followed through a network.
pub struct Recorded {
    encoding: Encoding,
    recording: Vec<Recording>,
    input: Vec<InputSpike>,
    raster: Vec<Raster>,
    network: String,
    /// Readout and counts.
    pub outcome: Outcome,
    /// Every spike, by layer, timestep and neuron.
    pub spikes: Vec<Spike>,
}

/// Simulates one recording: its values, its Poisson spikes and every spike of the network.
///
/// # Errors
/// The engine fails.
pub fn record(
    session: &Session,
    network: &str,
    chosen: Simulation,
    recordings: &Recordings,
    sample: usize,
) -> Result<Recorded> {
    let Simulation { network: description, encoding, steps, engine } = chosen;
    let rules = description.rules;
    let names: Vec<String> = description.layers.iter().map(|l| l.shape.name.clone()).collect();
    let engine = AnyEngine::new(engine, description, encoding, session.device()?)?;
    let x = recordings.get(sample);
    let mut encoder = rules.encoder(encoding, session.seed);
    let progress = session.progress(network, steps);
    let mut recorder = Followed { recorder: SpikeRecorder::default(), progress };
    let outcome = engine.run(Batch { x, first: sample }, &mut encoder, steps, &mut recorder)?;
    let fired = recorder.recorder.into_spikes();

    // With a constant input there are no input spikes to record; shown are those that Poisson coding, which
    // the study uses, would send.
    let mut poisson = match encoding {
        Encoding::Poisson => rules.encoder(encoding, session.seed),
        Encoding::Direct => Rules::DEFAULT.encoder(Encoding::Poisson, session.seed),
    };
    let input = poisson.encode(x, x.len(), sample, 0, steps);
    let spikes = input.iter().enumerate().filter(|(_, s)| **s != 0.0).map(|(i, &s)| {
        let (contact, sample) = place(i % x.len(), recordings.samples);
        InputSpike { step: (i / x.len()) as u32, contact, sample, spike: s as i8 }
    });
    let raster = fired.iter().map(|e| Raster {
        network: network.to_string(),
        layer: names[e.layer].clone(),
        step: e.step as u32,
        neuron: e.neuron as u64,
    });
    Ok(Recorded {
        encoding,
        recording: recording(recordings, sample),
        input: spikes.collect(),
        raster: raster.collect(),
        network: network.to_owned(),
        outcome,
        spikes: fired,
    })
}

/// Whether a recording that a configuration wants followed is among those that networks are judged by.
///
/// # Errors
/// It is not, in words.
pub fn check_sample(sample: usize, recordings: usize) -> Result<(), String> {
    match sample < recordings {
        true => Ok(()),
        false => Err(format!(
            "spikes.sample: {sample} is not among the {recordings} test recordings, numbered from 0"
        )),
    }
}

/// Contact and sample of a value of a recording.
fn place(index: usize, samples: usize) -> (u32, u32) {
    ((index / samples) as u32, (index % samples) as u32)
}

/// A recording as a table.
pub fn recording(recordings: &Recordings, index: usize) -> Vec<Recording> {
    let value = |(i, &value): (usize, &f32)| {
        let (contact, sample) = place(i, recordings.samples);
        Recording { contact, sample, value: f64::from(value) }
    };
    recordings.get(index).iter().enumerate().map(value).collect()
}

/// Refuses to replace what a folder shows: another recording, or this network's spikes.
///
/// # Errors
/// It would, in words.
pub fn check_free(session: &Session, folder: &Path, network: &str, shown: &[Recording]) -> Result<()> {
    if session.force {
        return Ok(());
    }
    let there: Option<Vec<Recording>> = read_csv(&folder.join(Recording::FILE))?;
    let raster: Vec<Raster> = read_csv(&folder.join(Raster::FILE))?.unwrap_or_default();
    let (what, file, otherwise) = if there.is_some_and(|there| there != shown) {
        ("another recording".to_owned(), Recording::FILE, "choose another folder")
    } else if raster.iter().any(|row| row.network == network) {
        (format!("'{network}'"), Raster::FILE, "name this network otherwise with --name")
    } else {
        return Ok(());
    };
    Err(usage(format!(
        "{}: holds spikes of {what} already ({file}); {otherwise}, or replace them with --force",
        folder.display()
    )))
}

impl Recorded {
    /// Writes the tables into a folder; beside the spikes of other networks if they are of the same recording, in the
    /// place of this network's.
    ///
    /// # Errors
    /// A table cannot be read or written.
    pub fn write(&self, folder: &Path) -> Result<()> {
        make_folder(folder)?;
        let there: Option<Vec<Recording>> = read_csv(&folder.join(Recording::FILE))?;
        let same = there.is_some_and(|there| there == self.recording);
        let mut raster: Vec<Raster> =
            if same { read_csv(&folder.join(Raster::FILE))?.unwrap_or_default() } else { Vec::new() };
        raster.retain(|row| row.network != self.network);
        raster.extend(self.raster.iter().cloned());
        write_csv(&folder.join(Recording::FILE), &self.recording)?;
        // Spikes that a network really gets are of more interest than those that one with a constant input would.
        if !same || self.encoding == Encoding::Poisson || !folder.join(InputSpike::FILE).exists() {
            write_csv(&folder.join(InputSpike::FILE), &self.input)?;
        }
        write_csv(&folder.join(Raster::FILE), &raster)
    }
}
