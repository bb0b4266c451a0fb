//! What training an ANN and fine-tuning a spiking network have in common: recordings to judge epochs by, what is told
//! meanwhile, and settings that a resumed training must share.

use std::path::Path;

use anyhow::{Context as _, Result};
use escape_checkpoint::input::KnownInput;
use escape_data::Recordings;
use escape_model::train::{EpochResult, Event, History, hold_out};
use escape_report::rows::{Epoch, Row};
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::folder::{Held, SETTINGS, differences, hex, hold, now, remove, write_csv, write_text};
use crate::place::{check_results, make_folder};
use crate::session::{Progress, Session, usage};
use tensorboard::EVENTS;

pub use crate::folder::{BEST, LAST};

pub mod ann;
pub mod finetune;
pub mod teacher;
mod tensorboard;

/// What a training works on.
pub struct Parts {
    /// What is trained on,
    pub train: Recordings,
    /// and where in the training split that is.
    pub places: Vec<usize>,
    /// What each epoch is judged by.
    pub judges: Recordings,
    /// `test` or `held-out`.
    pub judged_on: &'static str,
}

/// Holds `validation` recordings a class out of the training ones to judge epochs by; with 0 the test ones do.
///
/// # Errors
/// There is nothing to train on, or nothing to judge by.
pub fn parts(session: &Session, train: &Recordings, test: &Recordings, validation: usize) -> Result<Parts> {
    let parts = if validation == 0 {
        session.note(
            "note: epochs are judged by the test recordings, as in the study: the best one's accuracy is chosen among \
             several, and so a little too good; --validation N (`validation:` in a configuration) holds out training \
             recordings instead",
        );
        let places = (0..train.len()).collect();
        Parts { train: train.clone(), places, judges: test.clone(), judged_on: "test" }
    } else {
        let (places, held) = hold_out(train, validation);
        let (on, judges) = (train.select(&places), train.select(&held));
        Parts { train: on, places, judges, judged_on: "held-out" }
    };
    if parts.train.is_empty() || parts.judges.is_empty() {
        let remedy = match validation {
            0 => "give a file with both splits, or --validation N to judge by training recordings",
            _ => {
                "give more (at most a fifth of a class is held out), or --validation 0 to judge by the test recordings"
            }
        };
        return Err(usage(format!(
            "too few recordings: {} to train on and {} to judge epochs by, at least 1 of each is needed; {remedy}",
            parts.train.len(),
            parts.judges.len()
        )));
    }
    Ok(parts)
}

/// What a network knows of recordings after so many epochs on those that `trained_on` describes: only an epoch makes it one
/// that was trained on them, before the first it knows what it knew when it was `given`.
pub fn known_after(epoch: Option<i64>, given: Option<&KnownInput>, trained_on: &KnownInput) -> KnownInput {
    match (epoch, given) {
        (Some(0), Some(given)) => given.converted_with(trained_on),
        _ => trained_on.clone(),
    }
}

/// Recordings as the settings of a training know them.
pub fn known(recordings: &Recordings) -> Value {
    json!({ "recordings": recordings.len(), "sha256": fingerprint(recordings) })
}

/// An epoch's accuracies, for a report.
#[derive(Clone, Debug, Serialize)]
pub struct Accuracies {
    /// From 1; 0 is the network that was given.
    pub epoch: usize,
    /// Share classified correctly.
    pub accuracy: f64,
    /// Mean of the classes' shares.
    pub balanced_accuracy: f64,
    /// Mean of the classes' F1.
    pub macro_f1: f64,
}

impl From<&EpochResult> for Accuracies {
    fn from(e: &EpochResult) -> Self {
        Self {
            epoch: e.epoch,
            accuracy: e.test_accuracy,
            balanced_accuracy: e.test_balanced_accuracy,
            macro_f1: e.test_macro_f1,
        }
    }
}

/// The best of the epochs proper, of those that were trained.
pub fn best_trained(history: &History) -> Option<&EpochResult> {
    let trained = history.epochs().iter().filter(|e| e.epoch > 0);
    trained.reduce(|a, b| if b.test_accuracy > a.test_accuracy { b } else { a })
}

/// Shows what an epoch tells: how far it has come, and what goes wrong.
pub struct Teller<'a> {
    session: &'a Session,
    name: String,
    judges: usize,
    progress: Box<dyn Progress>,
    judging: bool,
    warnings: &'a mut Vec<String>,
}

impl<'a> Teller<'a> {
    /// For an epoch over `train` recordings that is judged by `judges`; what goes wrong is added to `warnings`.
    pub fn new(
        session: &'a Session,
        name: &str,
        (train, judges): (usize, usize),
        warnings: &'a mut Vec<String>,
    ) -> Self {
        let progress = session.progress(name, train);
        Self { session, name: name.to_owned(), judges, progress, judging: false, warnings }
    }

    /// False once the user asked to stop.
    pub fn hear(&mut self, event: Event) -> bool {
        match event {
            Event::Trained(recordings) => self.progress.tick(recordings),
            Event::Judged(recordings) => {
                if !self.judging {
                    self.judging = true;
                    self.progress = self.session.progress(&format!("{}, judged", self.name), self.judges);
                }
                self.progress.part(recordings)
            }
            Event::Trouble(trouble) => {
                self.progress.note(&format!("warning: {trouble}"));
                self.warnings.push(trouble.to_string());
                true
            }
        }
    }
}

/// Refuses a folder that holds a training, whose epochs are in `table`, unless it may be replaced.
///
/// # Errors
/// It holds one, and the file that says so.
pub fn check_training(session: &Session, folder: &Path, table: &str) -> Result<()> {
    check_results(
        session,
        folder,
        &[LAST, BEST, table, SETTINGS],
        "a training",
        "continue it with --resume, ",
    )
}

/// Starts a training in a folder, which is made if need be and holds none yet, or one that may be replaced. With
/// `resume` one goes on that was started with the same settings. They are kept before the work starts.
///
/// # Errors
/// The folder holds a training that is neither to be resumed nor replaced, or one that was started with other settings;
/// each is named.
pub fn begin(session: &Session, folder: &Path, settings: &Value, table: &str, resume: bool) -> Result<Held> {
    let files = [LAST, BEST, table, EVENTS, SETTINGS];
    if !resume {
        check_training(session, folder, table)?;
    }
    make_folder(folder)?;
    let held = hold(folder)?;
    if !resume {
        remove(&files.map(|name| folder.join(name)))?;
    }
    let path = folder.join(SETTINGS);
    match files.into_iter().find(|name| folder.join(name).exists()) {
        None => {
            let started = json!({
                "version": env!("CARGO_PKG_VERSION"),
                "started": now(),
                "command": std::env::args().collect::<Vec<_>>(),
                "settings": settings,
            });
            write_text(&path, &(serde_json::to_string_pretty(&started)? + "\n"))?;
        }
        Some(_) if !path.exists() => {
            return Err(usage(format!(
                "{}: holds a training without {SETTINGS}, so that nobody can tell what it was started with; choose \
                 another folder",
                folder.display()
            )));
        }
        Some(_) => {
            let text = std::fs::read_to_string(&path)
                .with_context(|| format!("{}: cannot be read", path.display()))?;
            let old: Value = serde_json::from_str(&text)
                .with_context(|| format!("{}: expected JSON as a training writes it", path.display()))
                .with_context(|| no_way_on(folder))?;
            let found = differences(&old["settings"], settings);
            if !found.is_empty() {
                return Err(usage(format!(
                    "{}: the training in it was started with other settings: {}; resume it with the same ones, or \
                     choose another folder",
                    folder.display(),
                    found.join("; ")
                )));
            }
        }
    }
    Ok(held)
}

/// What can be done where a training's own files are gone or damaged.
pub fn no_way_on(folder: &Path) -> String {
    format!(
        "{}: the training cannot go on from what is there; remove the folder to start it over",
        folder.display()
    )
}

/// SHA-256 of recordings: their shape, classes and values.
pub fn fingerprint(recordings: &Recordings) -> String {
    let mut hasher = Sha256::new();
    for n in [recordings.len(), recordings.contacts, recordings.samples] {
        hasher.update((n as u64).to_le_bytes());
    }
    recordings.y.iter().for_each(|label| hasher.update(label.to_le_bytes()));
    hash_values(&mut hasher, &recordings.x);
    hex(&hasher.finalize())
}

/// SHA-256 of numbers, lists of them after each other.
pub fn hash_of<'a>(lists: impl IntoIterator<Item = &'a [f32]>) -> String {
    let mut hasher = Sha256::new();
    lists.into_iter().for_each(|values| hash_values(&mut hasher, values));
    hex(&hasher.finalize())
}

fn hash_values(hasher: &mut Sha256, values: &[f32]) {
    let mut bytes = Vec::with_capacity(1 << 16);
    for part in values.chunks(1 << 14) {
        bytes.clear();
        part.iter().for_each(|v| bytes.extend_from_slice(&v.to_le_bytes()));
        hasher.update(&bytes);
    }
}

/// Tells of all epochs so far: a network's `training.csv`, or its `finetune.csv`, and the same for TensorBoard.
fn tell<const FINETUNING: bool>(
    folder: &Path,
    network: &str,
    judged_on: &str,
    history: &History,
) -> Result<()>
where
    Epoch<FINETUNING>: Row,
{
    let rows = epoch_rows::<FINETUNING>(network, judged_on, history);
    write_csv(&folder.join(Epoch::<FINETUNING>::FILE), &rows)?;
    tensorboard::write(folder, judged_on, history.epochs())
}

fn epoch_rows<const FINETUNING: bool>(
    network: &str,
    judged_on: &str,
    history: &History,
) -> Vec<Epoch<FINETUNING>> {
    let row = |(n, e): (usize, &EpochResult)| Epoch {
        network: network.to_owned(),
        epoch: e.epoch as u32,
        train_loss: e.train_loss,
        train_accuracy: e.train_accuracy,
        test_loss: e.test_loss,
        test_accuracy: e.test_accuracy,
        seconds: e.seconds,
        test_balanced_accuracy: Some(e.test_balanced_accuracy),
        test_macro_f1: Some(e.test_macro_f1),
        judged_on: Some(judged_on.to_owned()),
        seed: None,
        may_be_kept: (n < history.unfinished()).then_some(false),
    };
    history.epochs().iter().enumerate().map(row).collect()
}

/// What to say when the user stopped a training.
pub fn interrupted(last: &Path, epochs: usize) -> anyhow::Error {
    match epochs {
        0 => anyhow::anyhow!("stopped before the first epoch was done; --resume starts it over"),
        n => anyhow::anyhow!("stopped; {n} epoch(s) are saved in {}, go on with --resume", last.display()),
    }
}

/// An epoch for the reader.
pub fn describe(name: &str, judged_on: &str, r: &EpochResult) -> String {
    let judged = format!(
        "{judged_on} loss {:.4}, accuracy {:.4} (balanced {:.4}, macro F1 {:.4})",
        r.test_loss, r.test_accuracy, r.test_balanced_accuracy, r.test_macro_f1
    );
    match (r.train_loss, r.train_accuracy) {
        (Some(loss), Some(accuracy)) => format!(
            "{name} epoch {}: training loss {loss:.4}, accuracy {accuracy:.4}; {judged}{}; {:.0} s",
            r.epoch,
            if r.is_best { " (best)" } else { "" },
            r.seconds
        ),
        _ => format!("{name} before training: {judged}; {:.0} s", r.seconds),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_epoch_makes_a_network_one_that_was_trained_on_these() {
        let of = |nerve: &str| KnownInput { nerve: Some(nerve.to_owned()), ..KnownInput::default() };
        let (given, trained_on) = (of("seed 1, animal 2"), of("seed 5, animal 2"));
        assert_eq!(known_after(Some(0), Some(&given), &trained_on).nerve, given.nerve);
        assert_eq!(known_after(Some(1), Some(&given), &trained_on), trained_on);
        assert_eq!(known_after(Some(0), None, &trained_on), trained_on);
    }
}
