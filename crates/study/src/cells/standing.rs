//! How far the cells of a study are, as anybody can tell who sees its folder.

use std::path::Path;
use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::work::{Finished, HEARTBEAT, Stage, host};
use super::{Cell, Index, PROGRESS};

/// How far a cell is.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "lowercase", tag = "state")]
pub enum State {
    /// All of it is there.
    Done {
        /// Seconds that it took.
        seconds: f64,
    },
    /// A process says that it is at work on it.
    Working {
        /// At what, and how far that is.
        #[serde(flatten)]
        stage: Stage,
    },
    /// The process that was at work has not been heard of for a while; another can go on.
    Stopped,
    /// It failed, and would be tried again by the next run.
    Failed {
        /// Why.
        why: String,
    },
    /// Nobody has begun; what it needs is done.
    Ready,
    /// Nobody has begun, and what it needs is not done.
    Waiting,
}

impl State {
    /// In a word.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Done { .. } => "done",
            Self::Working { .. } => "working",
            Self::Stopped => "stopped",
            Self::Failed { .. } => "failed",
            Self::Ready => "ready",
            Self::Waiting => "waiting",
        }
    }
}

/// After this long a process that said nothing is taken for dead. On other machines' clocks the time may be off.
const DEAD: Duration = HEARTBEAT.saturating_mul(20);

/// How far each cell is.
pub fn standing(study: &Path, index: &Index) -> Vec<State> {
    index.cells.iter().map(|cell| of(study, cell)).collect()
}

/// How far a cell is.
pub fn of(study: &Path, cell: &Cell) -> State {
    let folder = cell.path(study);
    if let Some(finished) = Finished::whole(&folder) {
        return State::Done { seconds: finished.seconds };
    }
    let path = folder.join(PROGRESS);
    let said = std::fs::read_to_string(&path).ok();
    let Some(stage) = said.and_then(|text| serde_json::from_str::<Stage>(&text).ok()) else {
        return if cell.is_ready(study) { State::Ready } else { State::Waiting };
    };
    if let Some(why) = stage.failed {
        return State::Failed { why };
    }
    let heard = std::fs::metadata(&path).and_then(|file| file.modified()).ok();
    let silent = heard.and_then(|heard| SystemTime::now().duration_since(heard).ok()).unwrap_or_default();
    let gone = stage.host == host() && !Path::new("/proc").join(stage.process.to_string()).exists();
    if silent > DEAD || gone && Path::new("/proc/self").exists() {
        State::Stopped
    } else {
        State::Working { stage }
    }
}
