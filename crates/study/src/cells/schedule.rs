//! Doing all cells of a study on this machine, several at once, each in a process of its own: what kills one leaves the
//! others, and libtorch has one generator and one pool of threads a process.

use std::collections::HashSet;
use std::fs::File;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use escape_report::rows::{Evaluation, read_table};

use super::standing::{State, of, standing};
use super::work::Stage;
use super::{Cell, CellKind, Index, LOG};
use crate::place::make_folder;
use crate::session::{Progress, Session};

/// How cells are done.
pub struct How {
    /// Cells at once; as many as cores and memory allow if not said.
    pub jobs: Option<usize>,
    /// The program, and what it is told before the name of a cell.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Cells that failed, and why.
    pub failed: Vec<(String, String)>,
    /// Cells that stand on those.
    pub left: usize,
    /// Somebody asked to stop.
    pub stopped: bool,
}

/// A cell at work.
struct Job<'a> {
    cell: &'a Cell,
    child: Child,
    begun: Instant,
    /// Units of work that were told so far.
    told: f64,
    shown: Option<(String, f64, Box<dyn Progress>)>,
}

/// Time between two looks at the processes.
const LOOK: Duration = Duration::from_millis(250);
/// The share of a cell's expected work that may be told before it is done.
const BEFORE_DONE: f64 = 0.95;
/// Seconds that a unit of work takes until one is known.
const FIRST_GUESS: f64 = 1.0;

/// Does all cells that are not done, those that fail and what stands on them excepted.
///
/// # Errors
/// A process cannot be started.
pub fn all(session: &Session, study: &Path, index: &Index, how: &How) -> Result<Outcome> {
    let states = standing(study, index);
    let mut open: Vec<&Cell> = index.cells.iter().collect();
    open.retain(|cell| !cell.is_done(study));
    let done = index.cells.len() - open.len();
    if open.is_empty() {
        return Ok(Outcome::default());
    }
    let jobs = how.jobs.unwrap_or_else(|| jobs_here(index.threads));
    session.note(format!(
        "{} cells: {done} done, {} to do, at most {jobs} at once with {} each",
        index.cells.len(),
        open.len(),
        if index.threads == 1 { "1 thread".to_owned() } else { format!("{} threads", index.threads) }
    ));
    let total: f64 = open.iter().map(|cell| cell.work).sum();
    let mut pace = Pace::of(&states, index);
    // First everything of the first seed, so that there is something to look at.
    let rank = |cell: &Cell| index.seeds.iter().position(|seed| Some(*seed) == cell.seed).unwrap_or(0);
    open.sort_by_key(|cell| rank(cell));
    let mut whole = session.progress("study, percent", 100);
    let mut running: Vec<Job<'_>> = Vec::new();
    let mut outcome = Outcome::default();
    let mut failed: HashSet<&str> = HashSet::new();
    let memory = available_memory();
    let mut count = done;
    loop {
        if !outcome.stopped {
            // What stands on a failed cell is never begun.
            while let Some(at) = open.iter().position(|c| c.needs.iter().any(|n| failed.contains(n.as_str())))
            {
                failed.insert(&open.remove(at).folder);
                outcome.left += 1;
            }
            while running.len() < jobs {
                let used: u64 = running.iter().map(|job| job.cell.memory).sum();
                // What other programs take meanwhile counts too.
                let free = memory.saturating_sub(used).min(available_memory());
                let fits = |cell: &Cell| running.is_empty() || cell.memory <= free;
                let ready = |cell: &&Cell| fits(cell) && cell.is_ready(study);
                let Some(at) = open.iter().position(ready) else { break };
                running.push(start(study, open.remove(at), how)?);
            }
        }
        if running.is_empty() {
            break;
        }
        std::thread::sleep(LOOK);
        let mut still = Vec::new();
        let mut more = 0.0;
        for mut job in running {
            let Some(status) = job.child.try_wait().context("a cell's process cannot be watched")? else {
                more += job.look(session, study, pace.seconds(job.cell.kind));
                still.push(job);
                continue;
            };
            let cell = job.cell;
            more += cell.work - job.told;
            if status.success() && cell.is_done(study) {
                count += 1;
                pace.learn(cell, job.begun.elapsed().as_secs_f64());
                let text = result_of(study, cell);
                whole.note(&format!("[{count}/{}] {}: {text}", index.cells.len(), cell.folder));
            } else if !outcome.stopped {
                let why = match status.signal() {
                    Some(signal) => killed(signal),
                    None => why_failed(study, cell),
                };
                whole.note(&format!("{}: failed: {why}", cell.folder));
                failed.insert(&cell.folder);
                outcome.failed.push((cell.folder.clone(), why));
            }
        }
        running = still;
        let go_on = whole.part(100.0 * more / total);
        if !go_on && !outcome.stopped {
            outcome.stopped = true;
            running.iter().for_each(|job| interrupt(&job.child));
        }
    }
    Ok(outcome)
}

impl Job<'_> {
    /// Shows what a cell that goes on is at; returns the units of work that it has presumably done since the last look.
    fn look(&mut self, session: &Session, study: &Path, seconds_a_unit: f64) -> f64 {
        if let State::Working { stage } = of(study, self.cell) {
            self.show(session, &stage);
        }
        let expected = self.begun.elapsed().as_secs_f64() / seconds_a_unit;
        let more = (expected.min(BEFORE_DONE * self.cell.work) - self.told).max(0.0);
        self.told += more;
        more
    }

    fn show(&mut self, session: &Session, stage: &Stage) {
        let what = format!("{}: {}", self.cell.folder, stage.what);
        let same = self.shown.as_ref().is_some_and(|(shown, done, _)| *shown == what && *done <= stage.done);
        if !same {
            self.shown = Some((what.clone(), 0.0, session.listener.one_of_several(&what, stage.total)));
        }
        if let Some((_, done, progress)) = &mut self.shown {
            // Whether to stop is heard by the whole.
            let _ = progress.part(stage.done - *done);
            *done = stage.done;
        }
    }
}

/// Seconds that a unit of work takes, by what makes up a cell's kind.
struct Pace {
    known: Vec<(CellKind, f64, f64)>,
}

impl Pace {
    fn of(states: &[State], index: &Index) -> Self {
        let mut pace = Self { known: Vec::new() };
        for (state, cell) in states.iter().zip(&index.cells) {
            if let State::Done { seconds } = state {
                pace.learn(cell, *seconds);
            }
        }
        pace
    }

    fn learn(&mut self, cell: &Cell, seconds: f64) {
        self.known.push((cell.kind, cell.work, seconds));
    }

    /// Of this kind of cells; of all where none of them is known, a guess where nothing is.
    fn seconds(&self, kind: CellKind) -> f64 {
        let ratio = |of: &dyn Fn(CellKind) -> bool| {
            let mut sums = (0.0, 0.0);
            for (_, work, seconds) in self.known.iter().filter(|known| of(known.0)) {
                sums = (sums.0 + work, sums.1 + seconds);
            }
            (sums.0 > 0.0 && sums.1 > 0.0).then(|| sums.1 / sums.0)
        };
        ratio(&|other| other == kind).or_else(|| ratio(&|_| true)).unwrap_or(FIRST_GUESS)
    }
}

fn start<'a>(study: &Path, cell: &'a Cell, how: &How) -> Result<Job<'a>> {
    let folder = cell.path(study);
    make_folder(&folder)?;
    let path = folder.join(LOG);
    let log = File::options().create(true).append(true).open(&path);
    let log = log.with_context(|| format!("{}: cannot be written", path.display()))?;
    let child = Command::new(&how.program)
        .args(&how.arguments)
        .arg(study)
        .arg(&cell.folder)
        // Its end tells the cell that this process is gone, however it went.
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .with_context(|| format!("{}: cannot be started", how.program.display()))?;
    Ok(Job { cell, child, begun: Instant::now(), told: 0.0, shown: None })
}

/// Asks a process to stop at its next batch, as Ctrl-C does; a terminal may have told it already.
fn interrupt(child: &Child) {
    let _ = Command::new("kill").arg("-INT").arg(child.id().to_string()).stderr(Stdio::null()).status();
}

/// Cells at once: one for so many cores as it has threads.
fn jobs_here(threads: usize) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    (cores / threads).max(1)
}

/// Bytes that are free, or could be; as many as anybody may want where the system does not say.
fn available_memory() -> u64 {
    let said = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = said.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kilobytes = line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kilobytes.map_or(u64::MAX, |kb| kb << 10)
}

/// Why a cell failed that could say nothing.
fn killed(signal: i32) -> String {
    const KILL: i32 = 9;
    match signal {
        KILL => "killed from outside (signal 9), as a system does that has no memory left; fewer at once (--jobs) take less".to_owned(),
        _ => format!("its process was ended by signal {signal}"),
    }
}

/// Why a cell failed, in its own words.
fn why_failed(study: &Path, cell: &Cell) -> String {
    if let State::Failed { why } = of(study, cell) {
        return why;
    }
    let log = cell.path(study).join(LOG);
    let said = std::fs::read_to_string(&log).unwrap_or_default();
    let last = said.lines().rev().find(|line| !line.trim().is_empty()).map(str::to_owned);
    last.unwrap_or_else(|| format!("its process ended without a word; {} is empty", log.display()))
}

/// What a cell found, in a line.
fn result_of(study: &Path, cell: &Cell) -> String {
    let rows: Vec<Evaluation> = read_table(&cell.path(study)).unwrap_or_default();
    let own = rows.iter().filter(|row| row.network == cell.network());
    let best = own.max_by_key(|row| row.timesteps);
    best.map_or_else(
        || "done".to_owned(),
        |row| {
            let at = row.timesteps.map_or_else(String::new, |t| format!(" at T = {t}"));
            format!("accuracy {:.3}{at}", row.accuracy)
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_that_was_killed_is_told_from_one_that_failed() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        child.kill().unwrap();
        let signal = child.wait().unwrap().signal().unwrap();
        assert!(killed(signal).contains("no memory left"), "{}", killed(signal));
        assert_eq!(killed(11), "its process was ended by signal 11");
    }

    #[test]
    fn pace_is_that_of_the_kind_where_it_is_known() {
        let mut pace = Pace { known: Vec::new() };
        assert_eq!(pace.seconds(CellKind::Ann), FIRST_GUESS);
        pace.known.push((CellKind::Ann, 10.0, 30.0));
        assert_eq!(pace.seconds(CellKind::Convert), 3.0);
        pace.known.push((CellKind::Convert, 10.0, 10.0));
        assert_eq!((pace.seconds(CellKind::Ann), pace.seconds(CellKind::Finetune)), (3.0, 2.0));
    }
}
