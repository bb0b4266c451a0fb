//! Doing one cell.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use escape_data::nerve::NerveConfig;
use escape_data::write_npz;
use escape_report::rows::{Evaluation, Latency, Row};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::plan::{RECORDINGS, TEACHER};
use super::{Cell, CellKind, FINISHED, Index, LOG, PROGRESS};
use crate::energy::CONSTANTS;
use crate::folder::{BEST, LAST, MANIFEST, holds_something, now, remove, wait_for, write_text};
use crate::load::{dataset, simulated};
use crate::place::make_folder;
use crate::run::{RESOLVED, resolved, run_in};
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
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
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

    /// What it said, if all that it made is there: only then is the cell done.
    pub fn whole(folder: &Path) -> Option<Self> {
        Self::read(folder).filter(|finished| finished.lost(folder).is_empty())
    }

    /// The files that are there no more, or have nothing in them.
    pub fn lost(&self, folder: &Path) -> Vec<&str> {
        let names = self.files.iter().map(String::as_str);
        names.filter(|name| !holds_something(&folder.join(name))).collect()
    }
}

/// The files in a cell's folder that others may read.
fn made_in(folder: &Path) -> Result<Vec<String>> {
    let listed =
        std::fs::read_dir(folder).with_context(|| format!("{}: cannot be read", folder.display()))?;
    let listed = listed.map(|file| Ok(file?.file_name().to_string_lossy().into_owned()));
    let mut files = listed.collect::<std::io::Result<Vec<String>>>()?;
    files.push(format!("ann/{BEST}"));
    // What the study adds when all are done is known by its being there; other constants than its own a cell has only from the study.
    let others = [LOG, PROGRESS, FINISHED, Latency::FILE, CONSTANTS];
    files.retain(|name| {
        !name.starts_with('.') && !others.contains(&name.as_str()) && holds_something(&folder.join(name))
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
    let before = Finished::read(&folder);
    if before.as_ref().is_some_and(|before| before.lost(&folder).is_empty()) {
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
    if folder.join(FINISHED).exists() {
        mend(session, cell, &folder, before.unwrap_or_default())?;
    }
    let begin = Instant::now();
    let pulse = Pulse::start(&folder)?;
    let told = Told { inner: session.listener.clone(), stage: pulse.stage.clone() };
    let session = &Session { listener: Arc::new(told), force: false, ..session.clone() };
    let found = match cell.kind {
        CellKind::Data => simulate(session, cell, &folder),
        CellKind::Teacher => teach(session, study, cell),
        CellKind::Ann | CellKind::Convert | CellKind::Finetune => {
            let config = cell.config(study)?;
            // The index knows what a cell was started with.
            if !folder.join(RESOLVED).exists() && folder.join(MANIFEST).exists() {
                write_text(&folder.join(RESOLVED), &resolved(&config)?)?;
            }
            run_in(&session.with_seed(config.seed), &config, &folder, true, Some(&held)).map(drop)
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

/// Prepares a cell that was done, and has lost files since or can no longer say which it had, for being done again as far as needs
/// be. Killed at any moment, it is prepared again.
fn mend(session: &Session, cell: &Cell, folder: &Path, before: Finished) -> Result<()> {
    let lost = before.lost(folder);
    let what = match lost[..] {
        [] => format!("{FINISHED} cannot be read"),
        _ => format!("{} is gone", lost.join(", ")),
    };
    session.note(format!("{}: was done, and {what}; what is missing is made again", cell.folder));
    // Where the accuracies are all else is taken for there; where a training's last state is, so is its best.
    let mut stale = vec![folder.join(Evaluation::FILE)];
    if lost.iter().any(|name| *name == format!("ann/{BEST}")) {
        stale.push(folder.join("ann").join(LAST));
    }
    // They may be there and empty.
    stale.extend(lost.into_iter().map(|name| folder.join(name)));
    stale.push(folder.join(FINISHED));
    remove(&stale)
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
