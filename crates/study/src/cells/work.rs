//! Doing one cell.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use escape_data::nerve::NerveConfig;
use escape_data::write_npz;
use escape_report::rows::{Evaluation, Row};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::plan::{RECORDINGS, TEACHER};
use super::{Cell, CellKind, FINISHED, Index, LOG, PROGRESS};
use crate::folder::{BEST, now, remove, wait_for, write_text};
use crate::load::{dataset, simulated};
use crate::place::make_folder;
use crate::run::run_in;
use crate::session::{Listener, Progress, Session, usage};
use crate::training::teacher;

/// What a cell says of how far it is.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Stage {
    /// What it is at.
    pub what: String,
    /// Units that are done of that.
    pub done: f64,
    /// All of them.
    pub total: usize,
    /// The machine.
    pub host: String,
    /// Its process there.
    pub process: u32,
    /// Why it failed, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

/// What a cell says when it is done.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Finished {
    /// When, UTC.
    pub finished: String,
    /// Seconds that its last process took; one that was killed before is not counted.
    pub seconds: f64,
    /// The files that it made, by their paths in its folder.
    #[serde(default)]
    pub files: Vec<String>,
}

impl Finished {
    /// What the cell in a folder said; nothing, if it did not, or if nobody can read it.
    pub fn read(folder: &Path) -> Option<Self> {
        serde_json::from_str(&std::fs::read_to_string(folder.join(FINISHED)).ok()?).ok()
    }

    /// Whether the cell in a folder is done, and all that it made is there.
    pub fn is_in(folder: &Path) -> bool {
        Self::read(folder).is_some_and(|finished| finished.lost(folder).is_empty())
    }

    /// The files that are there no more, or have nothing in them.
    pub fn lost(&self, folder: &Path) -> Vec<&str> {
        let holds = |name: &&String| folder.join(name).metadata().is_ok_and(|file| file.len() > 0);
        self.files.iter().filter(|name| !holds(name)).map(String::as_str).collect()
    }
}

/// The files in a cell's folder that others may read.
fn made_in(folder: &Path) -> Result<Vec<String>> {
    let listed =
        std::fs::read_dir(folder).with_context(|| format!("{}: cannot be read", folder.display()))?;
    let listed = listed.map(|file| Ok(file?.file_name().to_string_lossy().into_owned()));
    let mut files = listed.collect::<std::io::Result<Vec<String>>>()?;
    files.push(format!("ann/{BEST}"));
    let about_it = [LOG, PROGRESS, FINISHED];
    files.retain(|name| {
        !name.starts_with('.') && !about_it.contains(&name.as_str()) && folder.join(name).is_file()
    });
    files.sort();
    Ok(files)
}

/// How often a cell says how far it is.
pub const HEARTBEAT: Duration = Duration::from_secs(3);

/// Does a cell, or what is left of it. One that another process is at work on is waited for.
///
/// # Errors
/// A cell that it needs is not done; those of a run.
pub fn work(session: &Session, study: &Path, index: &Index, cell: &Cell) -> Result<()> {
    let study = &std::path::absolute(study)?;
    let folder = cell.path(study);
    make_folder(&folder)?;
    let held = wait_for(session, &folder);
    if cell.is_done(study) {
        return Ok(());
    }
    let missing =
        index.cells.iter().find(|other| cell.needs.contains(&other.folder) && !other.is_done(study));
    if let Some(missing) = missing {
        return Err(usage(format!(
            "{}: needs {}, which is not done; do that one first",
            cell.folder, missing.folder
        )));
    }
    if let Some(before) = Finished::read(&folder) {
        let lost = before.lost(&folder);
        session.note(format!(
            "{}: was done, and {} is gone; what is missing is made again",
            cell.folder,
            lost.join(", ")
        ));
        // Some may be there and empty. Where the accuracies are all else is taken for there.
        let damaged = lost.into_iter().chain([FINISHED, Evaluation::FILE]);
        remove(&damaged.map(|name| folder.join(name)).collect::<Vec<_>>())?;
    }
    let begin = Instant::now();
    let pulse = Pulse::start(&folder)?;
    let told = Told { inner: session.listener.clone(), stage: pulse.stage.clone() };
    let session = &Session { listener: Arc::new(told), force: false, ..session.clone() };
    let found = match cell.kind {
        CellKind::Data => simulate(session, cell, &folder).map(|()| drop(held)),
        CellKind::Teacher => teach(session, study, cell).map(|()| drop(held)),
        CellKind::Ann | CellKind::Convert | CellKind::Finetune => {
            let config = cell.config(study)?;
            run_in(&session.with_seed(config.seed), &config, &folder, true, Some(held)).map(drop)
        }
    };
    if let Err(error) = &found {
        pulse.fail(&format!("{error:#}"));
    }
    pulse.end()?;
    found?;
    let seconds = begin.elapsed().as_secs_f64();
    let finished = Finished { finished: now(), seconds, files: made_in(&folder)? };
    write_text(&folder.join(FINISHED), &(json!(finished).to_string() + "\n"))
}

fn simulate(session: &Session, cell: &Cell, folder: &Path) -> Result<()> {
    let nerve: NerveConfig =
        serde_json::from_value(cell.settings.clone()).context("the cell's settings are no nerve's")?;
    Ok(write_npz(&folder.join(RECORDINGS), &simulated(session, &nerve)?)?)
}

fn teach(session: &Session, study: &Path, cell: &Cell) -> Result<()> {
    let config = cell.config(study)?;
    let (Some(file), Some(network)) = (&config.data.file, &config.ann.checkpoint) else {
        return Err(usage(format!("{}: expected recordings and a network", cell.folder)));
    };
    let train = dataset(session, file, &config.data.reading())?.train;
    teacher::write(session, network, &train, &cell.path(study).join(TEACHER))
}

/// Says again and again in a cell's folder how far it is, until it is ended or the process dies.
struct Pulse {
    stage: Arc<Mutex<Stage>>,
    path: PathBuf,
    stop: Sender<()>,
    thread: std::thread::JoinHandle<()>,
}

impl Pulse {
    fn start(folder: &Path) -> Result<Self> {
        let first = Stage { host: host(), process: std::process::id(), ..Stage::default() };
        let stage = Arc::new(Mutex::new(first));
        let path = folder.join(PROGRESS);
        tell(&path, &stage)?;
        let (stop, stopped) = channel();
        let (shared, file) = (stage.clone(), path.clone());
        let thread = std::thread::spawn(move || {
            while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(HEARTBEAT) {
                // Whoever looks misses one beat.
                let _ = tell(&file, &shared);
            }
        });
        Ok(Self { stage, path, stop, thread })
    }

    fn fail(&self, why: &str) {
        if let Ok(mut stage) = self.stage.lock() {
            stage.failed = Some(why.to_owned());
        }
    }

    /// Says it a last time.
    fn end(self) -> Result<()> {
        drop(self.stop);
        let _ = self.thread.join();
        tell(&self.path, &self.stage)
    }
}

fn tell(path: &Path, stage: &Mutex<Stage>) -> Result<()> {
    let stage = stage.lock().map(|stage| stage.clone()).unwrap_or_default();
    write_text(path, &(serde_json::to_string(&stage)? + "\n"))
}

/// The name of this machine, as far as it says.
pub fn host() -> String {
    let said = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    said.trim().to_owned()
}

/// Passes on what happens, and notes how far it is.
struct Told {
    inner: Arc<dyn Listener>,
    stage: Arc<Mutex<Stage>>,
}

impl Listener for Told {
    fn note(&self, text: &str) {
        self.inner.note(text);
    }

    fn progress(&self, what: &str, total: usize) -> Box<dyn Progress> {
        if let Ok(mut stage) = self.stage.lock() {
            (stage.what, stage.done, stage.total) = (what.to_owned(), 0.0, total);
        }
        Box::new(Telling { inner: self.inner.one_of_several(what, total), stage: self.stage.clone() })
    }

    fn one_of_several(&self, what: &str, total: usize) -> Box<dyn Progress> {
        self.progress(what, total)
    }
}

struct Telling {
    inner: Box<dyn Progress>,
    stage: Arc<Mutex<Stage>>,
}

impl Progress for Telling {
    fn part(&mut self, more: f64) -> bool {
        if let Ok(mut stage) = self.stage.lock() {
            stage.done += more;
        }
        self.inner.part(more)
    }

    fn note(&self, text: &str) {
        self.inner.note(text);
    }
}
