//! A study: the same networks over several seeds, routes and numbers of timesteps, from one YAML file.
//!
//! A study is an index over ordinary run folders, one a cell. A cell's folder is named by the hash of the settings that
//! reach it, those of the cells that it stands on included: nothing is computed twice, and a study that grows keeps what it
//! has. Cells meet only through the study's folder:
//!
//! * [`plan`]: from the YAML file to cells; [`space`]: many entries from one. [`work`]: doing one. [`schedule`]: doing all of them on this machine, each in a
//!   process of its own. [`slurm`]: having a cluster do them.
//! * [`standing`]: how far each is. [`collect`]: from the tables of the cells to those of the study.

pub mod collect;
mod outcomes;
pub mod plan;
pub mod schedule;
pub mod slurm;
pub mod space;
pub mod standing;
pub mod work;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::Config;
use crate::folder::{Held, MANIFEST, Manifest, hold, write_text};
use crate::place::{check_results, make_folder};
use crate::run::RESOLVED;
use crate::session::{Session, usage};
use work::Finished;

/// The index of a study, in its folder; written first when it begins.
pub const INDEX: &str = "study.json";
/// The folder of the cells' run folders.
pub const CELLS: &str = "cells";
/// What says that a cell is done, in its folder; written last.
pub const FINISHED: &str = "finished.json";
/// What a cell that is worked on says of how far it is.
pub const PROGRESS: &str = "progress.json";
/// What a cell's process said.
pub const LOG: &str = "log.txt";

/// Begins a study in a folder, or goes on with one that was begun there; the study may have grown since. Its settings, its
/// manifest and its index are written before any of its work. The folder is then this process's, which two schedulers would do
/// the same cells in.
///
/// # Errors
/// The folder holds another study or a run, and is not to go on; another process is at work in it; a file cannot be written.
pub fn begin(
    session: &Session,
    study: &plan::Study,
    source: &str,
    folder: &Path,
    resume: bool,
) -> Result<(Index, Held)> {
    let index = study.plan(source, folder)?;
    // Nobody changes a study under one that is at work on it.
    let held = if folder.is_dir() { Some(hold(folder)?) } else { None };
    let otherwise = "continue it with `run --resume`, ";
    if !resume {
        check_results(session, folder, &[INDEX], "a study", otherwise)?;
        check_results(session, folder, &[MANIFEST, RESOLVED], "a run", "")?;
    } else if folder.join(INDEX).exists() || folder.join(CELLS).is_dir() {
        match Index::read(folder) {
            Ok(before) => {
                let gone = before.cells.iter().filter(|cell| index.cell(&cell.folder).is_err()).count();
                if gone > 0 {
                    session.note(format!(
                        "note: {gone} cells of before are no part of the study any more; they stay in {}",
                        folder.join(CELLS).display()
                    ));
                }
            }
            // All that is in it follows from the study's settings; what is done the cells' folders know.
            Err(_) => session.note(format!(
                "note: {} is gone, or no index of a study; it is written anew",
                folder.join(INDEX).display()
            )),
        }
    } else {
        check_results(session, folder, &[MANIFEST, RESOLVED], "a run", "")?;
        session.note(format!("{}: nothing to resume yet, the study starts", folder.display()));
    }
    make_folder(folder)?;
    let held = held.map_or_else(|| hold(folder), Ok)?;
    // What tells a study from a run comes first.
    index.write(folder)?;
    let text = serde_yaml::to_string(study).context("the study cannot be written as YAML")?;
    write_text(&folder.join(RESOLVED), &text)?;
    if !folder.join(MANIFEST).exists() {
        let seed = index.seeds.first().copied().unwrap_or_default();
        let manifest = Manifest::of(session, &study.name, &text, Vec::new())?;
        Manifest { threads: index.threads, seed, ..manifest }.write(folder)?;
    }
    Ok((index, held))
}

/// The cells of a study.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Index {
    /// Its name.
    pub name: String,
    /// Its seeds.
    pub seeds: Vec<u64>,
    /// CPU threads of a cell.
    pub threads: usize,
    /// Whether networks are timed once all cells are done.
    pub timing: bool,
    /// The network whose spikes are shown, if one's are.
    pub spikes: Option<Shown>,
    /// Its entries are those of a space of settings, see [`space`].
    #[serde(default)]
    pub searched: bool,
    /// The file of constants that energies are counted with, from the study's folder where it lies there; none for the program's own. Cells
    /// know nothing of it: they are counted again where the tables are put together.
    #[serde(default)]
    pub constants: Option<PathBuf>,
    /// In the order of the file; each after those that it needs.
    pub cells: Vec<Cell>,
}

/// A recording that is followed through a cell's network, spike by spike.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Shown {
    /// The cell's folder.
    pub cell: String,
    /// Index among the test recordings.
    pub sample: usize,
}

/// What a cell makes.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CellKind {
    /// Simulated recordings.
    Data,
    /// The logits of an ANN that others learn from.
    Teacher,
    /// An ANN.
    Ann,
    /// A spiking network by a route from the ANN.
    Convert,
    /// A fine-tuned one.
    Finetune,
}

/// One of a study's runs.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Cell {
    /// Its folder among [`CELLS`]: a name for people, and the beginning of the hash.
    pub folder: String,
    /// What it makes.
    pub kind: CellKind,
    /// The entry of the study's file that it belongs to.
    pub entry: String,
    /// The ANN's entry that it comes from.
    pub ann: String,
    /// The seed, where one reaches it.
    pub seed: Option<u64>,
    /// T, of a spiking network.
    pub timesteps: Option<usize>,
    /// Folders of the cells that must be done before.
    pub needs: Vec<String>,
    /// How long it takes, as seconds of one core of some machine: only ratios count.
    pub work: f64,
    /// Bytes of memory that it takes at most, roughly.
    pub memory: u64,
    /// Settings of its run, in which what lies in the study's folder has its path there; of [`CellKind::Data`] the nerve's.
    pub settings: Value,
}

impl Shown {
    /// Where what is seen lies: in the folder of its cell.
    fn folder(&self, study: &Path, cell: &Cell) -> PathBuf {
        cell.path(study).join(format!("spikes-{}", self.sample))
    }
}

impl Index {
    /// Reads the index of a study's folder.
    ///
    /// # Errors
    /// There is none, or it cannot be read.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(INDEX);
        let text = std::fs::read_to_string(&path).map_err(|e| {
            usage(format!(
                "{}: {e}; expected the folder of a study, which `escape-snn run STUDY.yaml` makes",
                path.display()
            ))
        })?;
        serde_json::from_str(&text)
            .map_err(|e| {
                usage(format!(
                    "{}: expected the index of a study, got something else ({e}); `escape-snn run STUDY.yaml --resume` writes it anew",
                    path.display()
                ))
            })
    }

    /// Writes it.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self).context("the index cannot be written as JSON")?;
        write_text(&folder.join(INDEX), &(text + "\n"))
    }

    /// The cell of this folder's name, or the only one whose name begins so.
    ///
    /// # Errors
    /// There is none, or more than one.
    pub fn cell(&self, name: &str) -> Result<&Cell> {
        if let Some(cell) = self.cells.iter().find(|cell| cell.folder == name) {
            return Ok(cell);
        }
        let begins: Vec<&Cell> = self.cells.iter().filter(|cell| cell.folder.starts_with(name)).collect();
        match begins[..] {
            [cell] => Ok(cell),
            [] => Err(usage(format!(
                "{name}: no cell of the study; `escape-snn study status FOLDER` lists them"
            ))),
            [first, .., last] => Err(usage(format!(
                "{name}: {} cells begin so, from {} to {}; add letters",
                begins.len(),
                first.folder,
                last.folder
            ))),
        }
    }

    /// The ANN's entry that spiking networks are compared with: that of the first conversion.
    pub fn reference_ann(&self) -> &str {
        let converted = self.cells.iter().find(|cell| cell.kind == CellKind::Convert);
        let last = self.cells.iter().rfind(|cell| cell.kind == CellKind::Ann);
        converted.or(last).map_or("", |cell| &cell.ann)
    }

    /// Cells that need nothing, cells that need only those, and so on.
    pub fn levels(&self) -> Vec<Vec<&Cell>> {
        let mut levels: Vec<Vec<&Cell>> = Vec::new();
        for cell in &self.cells {
            let needed = |level: &Vec<&Cell>| level.iter().any(|other| cell.needs.contains(&other.folder));
            let level = levels.iter().rposition(needed).map_or(0, |highest| highest + 1);
            if level == levels.len() {
                levels.push(Vec::new());
            }
            levels[level].push(cell);
        }
        levels
    }
}

impl Cell {
    /// Its run folder.
    pub fn path(&self, study: &Path) -> PathBuf {
        study.join(CELLS).join(&self.folder)
    }

    /// Whether it is done, and all that it made is there.
    pub fn is_done(&self, study: &Path) -> bool {
        Finished::whole(&self.path(study)).is_some()
    }

    /// Whether all that it needs is done.
    pub fn is_ready(&self, study: &Path) -> bool {
        self.needs.iter().all(|name| Finished::whole(&study.join(CELLS).join(name)).is_some())
    }

    /// The configuration of its run, in a study that lies there.
    ///
    /// # Errors
    /// The index was changed by hand to what no run can be.
    pub fn config(&self, study: &Path) -> Result<Config> {
        let settings = serde_yaml::to_string(&self.settings).context("the cell's settings are no YAML")?;
        Config::parse(&self.folder, &settings, study, &[])
    }

    /// The name of its network in its own tables.
    pub fn network(&self) -> &str {
        if self.kind == CellKind::Ann { "ann" } else { &self.entry }
    }
}
