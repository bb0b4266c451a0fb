//! From the tables of a study's cells to those of the study, whose folder is then one that reports are drawn from like
//! a run's: the tables of the first seed's networks, and what all seeds found.

use std::path::Path;

use anyhow::{Context as _, Result};
use escape_data::Recordings;
use escape_energy::Constants;
use escape_model::ann::Ann;
use escape_network::arch::Architecture;
use escape_report::rows::{
    Activity, AnnActivity, Confusion, Energy, EnergyStep, Epoch, Evaluation, FILES, Front, InputSpike, Kind,
    Latency, Outcome, OutcomeEnergy, Prediction, Raster, Recording, Row, SEEDS, STUDY_FILES, Step,
    read_table,
};
use escape_snn_core::stored;

use super::outcomes::outcomes;
use super::{CELLS, Cell, CellKind, Index};
use crate::config::Config;
use crate::energy;
use crate::engine::AnyEngine;
use crate::folder::{BEST, holds_something, remove, write_csv};
use crate::front;
use crate::load::{Simulation, checkpoint, dataset, network};
use crate::measured::put;
use crate::place::make_folder;
use crate::session::{Session, usage};
use crate::spikes::{self, check_sample};
use crate::timing::{self, Plan};

/// Writes the tables of a study from those of its cells that are done; returns how many are.
///
/// # Errors
/// A table cannot be read or written.
pub fn collect(study: &Path, index: &Index) -> Result<usize> {
    let done: Vec<&Cell> = index.cells.iter().filter(|cell| cell.is_done(study)).collect();
    let outcomes = outcomes(study, index, &done)?;
    // Its tables may be all that is left of a study whose cells somebody removed.
    if outcomes.is_empty() && study.join(Outcome::FILE).exists() {
        return Err(usage(format!(
            "{}: no network of this study is done (any more), and its tables stay as they are; do its cells again with --resume",
            study.display()
        )));
    }
    write_csv(&study.join(Outcome::FILE), &outcomes)?;
    let constants = index.constants.as_ref().map(|path| study.join(path));
    let constants = constants.as_deref();
    for cell in done.iter().map(|cell| cell.path(study)).filter(|cell| cell.join(Energy::FILE).exists()) {
        if !energy::is_counted_with(&cell, constants)? {
            energy::recount(&cell, constants)?;
        }
    }
    let energies = energies(study, &done)?;
    write_csv(&study.join(OutcomeEnergy::FILE), &energies)?;
    write_csv(&study.join(Front::FILE), &fronts(study, &done, constants)?)?;
    let cells = Cells { study, index, done: &done, outcomes: &outcomes, energies: &energies, constants };
    cells.tables(study, index.seeds.first().copied())?;
    cells.other_seeds()?;
    let timed = |cell: &&Cell| holds_something(&cell.path(study).join(Latency::FILE));
    let shown: Vec<&Cell> = done.iter().filter(|cell| is_shown(index, cell)).copied().collect();
    let of_first = |cell: &&Cell| is_of(cell.seed, index.seeds.first().copied());
    let timed: Vec<&Cell> = shown.iter().copied().filter(of_first).filter(timed).collect();
    merge(study, study, &timed, |row: &mut Latency| &mut row.network)?;
    followed(study, index)?;
    // Epochs of all seeds: figures show their mean.
    epochs::<false>(study, &shown)?;
    epochs::<true>(study, &shown)?;
    Ok(done.len())
}

/// Whether a seed, or none, reaches what belongs to the given one.
fn is_of(reached_by: Option<u64>, seed: Option<u64>) -> bool {
    reached_by.is_none() || reached_by == seed
}

/// The cells of a study that are done, with what all of them found.
struct Cells<'a> {
    study: &'a Path,
    index: &'a Index,
    done: &'a [&'a Cell],
    outcomes: &'a [Outcome],
    energies: &'a [OutcomeEnergy],
    constants: Option<&'a Path>,
}

impl Cells<'_> {
    /// The tables of all seeds but the first, each in a folder of its own: with what no seed reaches they are as whole as the study's own.
    fn other_seeds(&self) -> Result<()> {
        let folder = self.study.join(SEEDS);
        let has_networks =
            |seed: &u64| self.outcomes.iter().any(|o| o.kind.is_spiking() && o.seed == Some(*seed));
        let others: Vec<u64> = self.index.seeds.iter().skip(1).copied().filter(has_networks).collect();
        // Of seeds of before, which the study does not have any more, only what was written here goes.
        for old in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let name = old.file_name();
            let seed = name.to_str().and_then(|name| name.parse::<u64>().ok());
            let seed = seed.filter(|seed| name == seed.to_string().as_str());
            if seed.is_some_and(|seed| !others.contains(&seed)) {
                let tables = FILES.iter().chain(&STUDY_FILES).chain([&energy::CONSTANTS]);
                remove(&tables.map(|file| old.path().join(file)).collect::<Vec<_>>())?;
                // If it is empty now.
                let _ = std::fs::remove_dir(old.path());
            }
        }
        for seed in others {
            let own = folder.join(seed.to_string());
            make_folder(&own)?;
            let seed = Some(seed);
            let energies = self.energies.iter().filter(|e| is_of(e.seed, seed)).cloned();
            write_csv(&own.join(OutcomeEnergy::FILE), &energies.collect::<Vec<_>>())?;
            write_csv(&own.join(Outcome::FILE), &self.outcomes_of(seed))?;
            self.tables(&own, seed)?;
        }
        Ok(())
    }

    /// Where an entry stands among all, whatever seed its first cell is of: networks are in this order in the tables of every seed.
    fn place(&self, entry: &str) -> Option<usize> {
        self.index.cells.iter().position(|cell| cell.entry == entry)
    }

    fn outcomes_of(&self, seed: Option<u64>) -> Vec<Outcome> {
        let mut own: Vec<Outcome> = self.outcomes.iter().filter(|o| is_of(o.seed, seed)).cloned().collect();
        own.sort_by_key(|o| self.place(&o.network));
        own
    }

    /// The tables of one seed's networks as those of a run, with their energies.
    fn tables(&self, folder: &Path, seed: Option<u64>) -> Result<()> {
        let Self { study, index, .. } = self;
        let mut evaluations: Vec<Evaluation> =
            self.outcomes_of(seed).iter().map(Outcome::evaluation).collect();
        // The quantised ANNs that spiking networks are compared with are those of the ANN that they come from, which in tables is the
        // last ANN.
        let reference = index.reference_ann();
        let ann = |e: &Evaluation| e.kind == Kind::Ann;
        let of_reference = evaluations.iter().position(|e| ann(e) && e.network == reference);
        if let Some((at, last)) = of_reference.zip(evaluations.iter().rposition(ann)) {
            evaluations[at..=last].rotate_left(1);
        }
        let of_seed = self.done.iter().copied().filter(|cell| is_of(cell.seed, seed));
        let baseline = of_seed.clone().find(|c| c.kind == CellKind::Ann && c.entry == reference);
        if let Some(cell) = baseline {
            let quantised = read_table::<Evaluation>(&cell.path(study))?.into_iter();
            evaluations.extend(quantised.filter(|row| row.kind == Kind::Quantised));
        }
        let measured = baseline.map(|cell| read_table::<AnnActivity>(&cell.path(study))).transpose()?;
        put_table(folder, &measured.unwrap_or_default())?;
        write_csv(&folder.join(Evaluation::FILE), &evaluations)?;
        let mut shown: Vec<&Cell> = of_seed.filter(|cell| is_shown(index, cell)).collect();
        shown.sort_by_key(|cell| self.place(&cell.entry));
        merge(study, folder, &shown, |row: &mut Activity| &mut row.network)?;
        merge(study, folder, &shown, |row: &mut Step| &mut row.network)?;
        merge(study, folder, &shown, |row: &mut Confusion| &mut row.network)?;
        merge(study, folder, &shown, |row: &mut Prediction| &mut row.network)?;
        // Where the study's configuration wants none, its cells have none.
        let counted = shown.iter().any(|cell| cell.path(study).join(Energy::FILE).exists());
        match counted && folder.join(Activity::FILE).exists() {
            true => energy::recount(folder, self.constants),
            false => remove(&[Energy::FILE, EnergyStep::FILE].map(|file| folder.join(file))),
        }
    }
}

fn is_followed(folder: &Path) -> bool {
    spikes::TABLES.iter().all(|file| holds_something(&folder.join(file)))
}

/// Takes the recording over that is followed spike by spike; where none is, the study shows none.
fn followed(study: &Path, index: &Index) -> Result<()> {
    let from = match &index.spikes {
        Some(shown) => Some(shown.folder(study, index.cell(&shown.cell)?)),
        None => None,
    };
    let Some(from) = from.filter(|from| is_followed(from)) else {
        return remove(&spikes::TABLES.map(|file| study.join(file)));
    };
    write_csv(&study.join(Recording::FILE), &read_table::<Recording>(&from)?)?;
    write_csv(&study.join(InputSpike::FILE), &read_table::<InputSpike>(&from)?)?;
    write_csv(&study.join(Raster::FILE), &read_table::<Raster>(&from)?)
}

/// Takes a table over from all cells into a folder; their own networks are called as their entries.
fn merge<R: Row>(
    study: &Path,
    folder: &Path,
    cells: &[&Cell],
    network: impl Fn(&mut R) -> &mut String,
) -> Result<()> {
    merge_with(study, folder, cells, |row, cell| {
        let name = network(row);
        if cell.network() == name {
            name.clone_from(&cell.entry);
        }
    })
}

/// The epochs of all cells, with their seeds. An ANN's training calls it by its kind, which other entries may have too; stages before the
/// last keep their names.
fn epochs<const FINETUNING: bool>(study: &Path, cells: &[&Cell]) -> Result<()>
where
    Epoch<FINETUNING>: Row,
{
    merge_with(study, study, cells, |row: &mut Epoch<FINETUNING>, cell| {
        row.seed = cell.seed;
        let grown = cell.settings["ann"]["train"]["incremental"] == true;
        let own = if FINETUNING { cell.network() == row.network } else { cell.kind == CellKind::Ann };
        if !own {
            return;
        }
        let last = Architecture::STAGES[Architecture::STAGES.len() - 1].to_string();
        row.network = match grown && !FINETUNING && row.network != last {
            true => format!("{} {}", cell.entry, row.network),
            false => cell.entry.clone(),
        };
    })
}

fn merge_with<R: Row>(
    study: &Path,
    folder: &Path,
    cells: &[&Cell],
    called: impl Fn(&mut R, &Cell),
) -> Result<()> {
    let mut all: Vec<R> = Vec::new();
    for cell in cells {
        for mut row in read_table::<R>(&cell.path(study))? {
            called(&mut row, cell);
            all.push(row);
        }
    }
    put_table(folder, &all)
}

/// Writes a table; one without rows is none.
fn put_table<R: Row>(folder: &Path, rows: &[R]) -> Result<()> {
    let path = folder.join(R::FILE);
    if rows.is_empty() { remove(&[path]) } else { write_csv(&path, rows) }
}

/// Whether this is the T of its entry that is shown where there is room for one: the first in the file.
pub(super) fn is_shown(index: &Index, cell: &Cell) -> bool {
    let first = index.cells.iter().find(|other| other.entry == cell.entry);
    first.is_some_and(|first| first.timesteps == cell.timesteps)
}

/// The baseline of every energy table, a full-precision ANN.
const ANN: &str = "ann";

fn energies(study: &Path, done: &[&Cell]) -> Result<Vec<OutcomeEnergy>> {
    let mut found = Vec::new();
    for cell in done {
        let Some(timesteps) = cell.timesteps else { continue };
        let rows: Vec<Energy> = read_table(&cell.path(study))?;
        let mut models: Vec<&str> = Vec::new();
        rows.iter().for_each(|row| {
            if !models.contains(&row.model.as_str()) {
                models.push(&row.model);
            }
        });
        for model in models {
            let total = |network: &str| -> f64 {
                let theirs = rows.iter().filter(|row| row.model == model && row.network == network);
                theirs.map(|row| row.picojoules).sum()
            };
            found.push(OutcomeEnergy {
                network: cell.entry.clone(),
                timesteps: timesteps as u32,
                seed: cell.seed,
                model: model.to_owned(),
                picojoules: total(cell.network()),
                ann_picojoules: total(ANN),
            });
        }
    }
    Ok(found)
}

/// What the cells' own networks cost, as the study calls them.
fn fronts(study: &Path, done: &[&Cell], constants: Option<&Path>) -> Result<Vec<Front>> {
    let constants = match constants {
        Some(path) => energy::constants(path)?.0,
        None => Constants::default(),
    };
    let mut found = Vec::new();
    for cell in done {
        let steps = cell.timesteps.and_then(|t| u32::try_from(t).ok());
        let own = |row: &Front| match steps {
            None => !row.kind.is_spiking(),
            Some(_) => row.network == cell.network() && row.timesteps == steps,
        };
        let given = cell.settings["ann"]["checkpoint"].as_str().filter(|_| cell.kind == CellKind::Ann);
        for row in front::rows(&cell.path(study), &constants)?.into_iter().filter(own) {
            let made = row.checkpoint.map(|file| format!("{CELLS}/{}/{file}", cell.folder));
            found.push(Front {
                network: cell.entry.clone(),
                ann: cell.ann.clone(),
                seed: cell.seed,
                checkpoint: made.or(given.filter(|_| row.kind == Kind::Ann).map(str::to_owned)),
                ..row
            });
        }
    }
    Ok(found)
}

/// What is done once all cells are: networks are timed, one after the other and alone on the machine, and one recording is
/// followed spike by spike. What is found goes into the cell of the network; what is there already is not done again.
///
/// # Errors
/// The listener asked to stop; a checkpoint or the recordings cannot be read.
pub fn finish(session: &Session, study: &Path, index: &Index) -> Result<()> {
    if let Some(shown) = &index.spikes {
        let cell = index.cell(&shown.cell)?;
        let folder = shown.folder(study, cell);
        if cell.is_done(study) && !is_followed(&folder) {
            let (test, chosen) = network_of(session, study, cell)?;
            check_sample(shown.sample, test.len()).map_err(usage)?;
            remove(&spikes::TABLES.map(|file| folder.join(file)))?;
            spikes::record(session, &cell.entry, chosen, &test, shown.sample)?.write(&folder)?;
        }
    }
    if !index.timing {
        return Ok(());
    }
    let first = |cell: &&Cell| {
        cell.seed.is_none_or(|seed| Some(&seed) == index.seeds.first())
            && !matches!(cell.kind, CellKind::Data | CellKind::Teacher)
            && is_shown(index, cell)
            && cell.is_done(study)
    };
    for cell in index.cells.iter().filter(first) {
        let folder = cell.path(study);
        if !holds_something(&folder.join(Latency::FILE)) {
            remove(&[folder.join(Latency::FILE)])?;
        }
        let known: Vec<Latency> = read_table(&folder)?;
        if known.iter().any(|row| row.network == cell.network()) {
            continue;
        }
        if let Some(row) = latency(session, study, cell)? {
            put(&folder, &[row], |old: &Latency| old.network == cell.network())?;
        }
    }
    Ok(())
}

/// Recordings that a network is timed with, and the rounds.
const TIMED: (usize, Plan) = (16, Plan { batch_size: 1, rounds: 3 });

/// Nothing of two networks whose readouts are averaged, which are no engine's.
fn latency(session: &Session, study: &Path, cell: &Cell) -> Result<Option<Latency>> {
    session.note(format!("timing {}", cell.entry));
    let (samples, plan) = TIMED;
    let (engine, timing, timed) = if cell.kind == CellKind::Ann {
        let config = cell.config(study)?;
        let test = test_of(session, &config)?.head(samples);
        let trained = cell.path(study).join("ann").join(BEST);
        let path = config.ann.checkpoint.clone().unwrap_or(trained);
        let found = network(session, &path, &config.ann.selection()?)?;
        let ann = Ann::from_checkpoint(&found, &path, test.contacts, test.samples, session.device()?)?;
        ("ann".to_owned(), timing::ann(session, &ann, &test, plan)?, test.len())
    } else {
        let (test, chosen) = network_of(session, study, cell)?;
        if chosen.network.rules.averaged {
            return Ok(None);
        }
        let test = test.head(samples);
        let engine =
            AnyEngine::new(chosen.engine, chosen.network.clone(), chosen.encoding, session.device()?)?;
        (engine.to_string(), timing::inference(session, &engine, &chosen, &test, plan)?, test.len())
    };
    let (fastest, slowest) = timing.range();
    Ok(Some(Latency {
        network: cell.network().to_owned(),
        timesteps: cell.timesteps.map(|t| t as u32),
        engine,
        threads: rayon::current_num_threads() as u32,
        samples: timed as u64,
        milliseconds: timing.median(),
        fastest,
        slowest,
    }))
}

fn test_of(session: &Session, config: &Config) -> Result<Recordings> {
    let file = config.data.file.as_ref().context("a cell's recordings come from a file")?;
    let test = dataset(session, file, &config.data.reading())?.test;
    Ok(test.head(config.evaluate.samples.unwrap_or(usize::MAX)))
}

/// The test recordings and the spiking network of a cell.
fn network_of(session: &Session, study: &Path, cell: &Cell) -> Result<(Recordings, Simulation)> {
    let config = cell.config(study)?;
    let test = test_of(session, &config)?;
    let path = cell.path(study).join(format!("{}.pth", cell.entry));
    let loaded = stored::load(&checkpoint(&path)?, &path, None, test.contacts, test.samples)?;
    let steps = cell.timesteps.unwrap_or(1);
    let engine = config.evaluate.engine;
    let chosen = Simulation { network: loaded.network, encoding: loaded.encoding, steps, engine };
    Ok((test, chosen))
}
