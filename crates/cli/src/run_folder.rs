//! Files of a run folder that are written while the run goes on; docs/run-folder.md describes them all.

use std::fs::{File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use escape_data::Recordings;
use escape_files::{remove_leftovers, write_atomically};
use escape_report::rows::{self, Row};
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::config::names_a_file;
use crate::context::{Context, check_results, make_folder, usage};

/// The latest checkpoint, with everything to go on from.
pub const LAST: &str = "last.pth";
/// The checkpoint of the best epoch.
pub const BEST: &str = "best.pth";

/// What a training was started with.
const SETTINGS: &str = "training.json";

/// A folder that this process works in; nobody else may until it is dropped.
pub struct Held {
    /// Locked; the lock goes with the process, however it ends.
    _folder: Option<File>,
}

/// Takes a folder, which must be there, for this process alone, and removes what killed processes left half-written.
///
/// # Errors
/// Another process is at work in it.
pub fn hold(folder: &Path) -> Result<Held> {
    let handle = File::open(folder).ok();
    // A file system without locks takes our word for it.
    if let Some(Err(TryLockError::WouldBlock)) = handle.as_ref().map(File::try_lock) {
        anyhow::bail!(
            "{}: another escape-snn is at work in this folder; wait for it to end, or choose another folder",
            folder.display()
        );
    }
    Ok(held(folder, handle))
}

/// As [`hold`], but waits until the folder is free: for commands that change its tables in a moment.
pub fn wait_for(context: &Context, folder: &Path) -> Held {
    let handle = File::open(folder).ok();
    if let Some(Err(TryLockError::WouldBlock)) = handle.as_ref().map(File::try_lock) {
        context.note(format!("{}: waiting for another escape-snn to end its work there", folder.display()));
        // A file system without locks takes our word for it.
        let _ = handle.as_ref().map(File::lock);
    }
    held(folder, handle)
}

fn held(folder: &Path, handle: Option<File>) -> Held {
    for part in ["", "figures", "report"] {
        remove_leftovers(&folder.join(part));
    }
    Held { _folder: handle }
}

/// Refuses a folder that holds a training, whose epochs are in `table`, unless it may be replaced.
pub fn check_training(context: &Context, folder: &Path, table: &str) -> Result<()> {
    check_results(
        context,
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
pub fn begin(context: &Context, folder: &Path, settings: &Value, table: &str, resume: bool) -> Result<Held> {
    let files = [LAST, BEST, table, SETTINGS];
    if !resume {
        check_training(context, folder, table)?;
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
                .with_context(|| format!("{}: expected JSON as a training writes it", path.display()))?;
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

/// What differs between two values, each with its path: `lr: 0.1 before, 0.2 now`.
pub fn differences(old: &Value, new: &Value) -> Vec<String> {
    let [mut before, mut now] = [Vec::new(), Vec::new()];
    leaves(old, String::new(), &mut before);
    leaves(new, String::new(), &mut now);
    let value = |list: &[(String, String)], key: &str| {
        list.iter().find(|entry| entry.0 == key).map_or_else(|| "none".to_owned(), |entry| entry.1.clone())
    };
    let mut keys: Vec<&String> = before.iter().chain(&now).map(|entry| &entry.0).collect();
    let mut seen = std::collections::HashSet::new();
    keys.retain(|key| seen.insert(*key));
    let different = keys.into_iter().map(|key| (key, value(&before, key), value(&now, key)));
    different.filter(|d| d.1 != d.2).map(|(key, a, b)| format!("{key}: {a} before, {b} now")).collect()
}

/// Every value that has no parts, with its path.
fn leaves(value: &Value, path: String, out: &mut Vec<(String, String)>) {
    match value {
        Value::Object(entries) => {
            let name = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
            entries.iter().for_each(|(key, value)| leaves(value, name(key), out));
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(i, value)| leaves(value, format!("{path}[{i}]"), out));
        }
        Value::Null => out.push((path, "none".to_owned())),
        Value::String(text) => {
            // The beginning of a hash tells it from another.
            let hash = text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
            out.push((path, if hash { format!("{}...", &text[..12]) } else { text.clone() }));
        }
        other => out.push((path, other.to_string())),
    }
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

/// A row of training.csv or finetune.csv, whose columns are the same.
macro_rules! epoch_rows {
    ($row:ident, $network:expr, $judged_on:expr, $history:expr) => {
        $history
            .epochs()
            .iter()
            .map(|e| $row {
                network: $network.to_string(),
                epoch: e.epoch as u32,
                train_loss: e.train_loss,
                train_accuracy: e.train_accuracy,
                test_loss: e.test_loss,
                test_accuracy: e.test_accuracy,
                seconds: e.seconds,
                test_balanced_accuracy: Some(e.test_balanced_accuracy),
                test_macro_f1: Some(e.test_macro_f1),
                judged_on: Some($judged_on.to_string()),
            })
            .collect::<Vec<_>>()
    };
}
pub(crate) use epoch_rows;

/// Writes a whole table, or leaves the old one.
pub fn write_csv<R: Row>(path: &Path, rows: &[R]) -> Result<()> {
    let bytes = rows::to_csv(rows).with_context(|| format!("{}: cannot be written", path.display()))?;
    write_atomically(path, |file| file.write_all(&bytes))
        .with_context(|| format!("{}: cannot be written", path.display()))
}

/// Writes a text file, or leaves the old one.
pub fn write_text(path: &Path, text: &str) -> Result<()> {
    write_atomically(path, |file| file.write_all(text.as_bytes()))
        .with_context(|| format!("{}: cannot be written", path.display()))
}

/// What made a run: written before its work starts.
#[derive(Serialize)]
pub struct Manifest {
    pub name: String,
    pub created: String,
    pub command: Vec<String>,
    pub version: &'static str,
    pub libtorch: &'static str,
    pub device: String,
    pub threads: usize,
    pub seed: u64,
    pub config_sha256: String,
    pub inputs: Vec<Input>,
}

/// A file that a run read.
#[derive(Serialize)]
pub struct Input {
    pub path: PathBuf,
    pub bytes: u64,
    pub sha256: String,
}

impl Input {
    /// Hashes a file.
    pub fn of(path: &Path) -> Result<Self> {
        let hash = || -> std::io::Result<(u64, String)> {
            let mut hasher = Sha256::new();
            let bytes = std::io::copy(&mut File::open(path)?, &mut hasher)?;
            Ok((bytes, hex(&hasher.finalize())))
        };
        let (bytes, sha256) = hash().with_context(|| format!("{}: cannot be read", path.display()))?;
        Ok(Self { path: path.to_path_buf(), bytes, sha256 })
    }
}

/// What a run with networks of these names would take for its own in its folder: tables, checkpoints and trainings, by
/// their paths there.
pub fn files_of(networks: &[&str]) -> Vec<String> {
    let mut files = rows::FILES.map(str::to_owned).to_vec();
    let mut trainings = vec!["ann".to_owned()];
    for name in networks {
        files.push(format!("{name}.pth"));
        trainings.push(format!("{name}-training"));
    }
    for training in trainings {
        let parts = [LAST, BEST, SETTINGS, rows::Training::FILE, rows::Finetune::FILE];
        files.extend(parts.map(|file| format!("{training}/{file}")));
    }
    files
}

/// What an earlier run left in a folder, and what one with networks of these names would take for its own; files of
/// other names are somebody else's. The configuration, which names the earlier run's checkpoints, comes last.
pub fn left_in(folder: &Path, resolved: &str, networks: &[&str]) -> Vec<PathBuf> {
    let resolved = folder.join(resolved);
    let text = std::fs::read_to_string(&resolved).unwrap_or_default();
    let config: serde_yaml::Value = serde_yaml::from_str(&text).unwrap_or_default();
    let earlier = ["convert", "finetune"].into_iter().flat_map(|part| config[part].as_sequence());
    let earlier = earlier.flatten().filter_map(|network| network["name"].as_str());
    let names: Vec<&str> =
        earlier.filter(|name| names_a_file(name)).chain(networks.iter().copied()).collect();
    let mut old = vec![folder.join("manifest.json"), folder.join("report/index.html")];
    old.extend(files_of(&names).iter().map(|file| folder.join(file)));
    let drawn = std::fs::read_dir(folder.join("figures")).into_iter().flatten().flatten();
    old.extend(drawn.map(|file| file.path()).filter(|path| {
        path.extension().is_some_and(|e| ["csv", "svg", "png"].iter().any(|drawn| e == *drawn))
    }));
    old.push(resolved);
    old.retain(|path| path.is_file());
    old
}

/// Removes files, one after the other.
pub fn remove(files: &[PathBuf]) -> Result<()> {
    // The networks of two configurations may have a name in common.
    for path in files.iter().filter(|path| path.exists()) {
        std::fs::remove_file(path).with_context(|| format!("{}: cannot be replaced", path.display()))?;
    }
    Ok(())
}

/// SHA-256 of a text, in hexadecimal.
pub fn sha256(text: &str) -> String {
    hex(&Sha256::digest(text.as_bytes()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// The time now, UTC, as in 2026-01-31T12:00:00Z.
pub fn now() -> String {
    let whole_seconds = OffsetDateTime::now_utc().replace_nanosecond(0);
    whole_seconds.ok().and_then(|t| t.format(&Rfc3339).ok()).unwrap_or_default()
}

/// The last of `wanted`, wanted-2, wanted-3 and so on that is there; `wanted` if none is.
pub fn latest_folder(wanted: &Path) -> PathBuf {
    let numbered = |n: usize| PathBuf::from(format!("{}-{n}", wanted.display()));
    (2..).map(numbered).take_while(|p| p.exists()).last().unwrap_or_else(|| wanted.to_path_buf())
}

/// `wanted`, or if it exists the first of wanted-2, wanted-3 and so on that does not.
pub fn free_folder(wanted: &Path) -> PathBuf {
    let numbered = |n: usize| PathBuf::from(format!("{}-{n}", wanted.display()));
    if !wanted.exists() {
        return wanted.to_path_buf();
    }
    (2..).map(numbered).find(|p| !p.exists()).unwrap_or_else(|| wanted.to_path_buf())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_named_old_against_new() {
        let hash = "0123456789abcdef".repeat(4);
        let old =
            json!({ "lr": 0.1, "rule": { "name": "adam" }, "list": [1, 2], "gone": true, "data": hash });
        let new =
            json!({ "lr": 0.2, "rule": { "name": "adam" }, "list": [1, 3, 4], "data": "x", "gone": null });
        assert_eq!(
            differences(&old, &new),
            [
                "lr: 0.1 before, 0.2 now",
                "list[1]: 2 before, 3 now",
                "gone: true before, none now",
                "data: 0123456789ab... before, x now",
                "list[2]: none before, 4 now",
            ]
        );
        assert!(differences(&old, &old).is_empty());
    }

    #[test]
    fn a_folder_is_held_by_one_and_cleaned() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("figures")).unwrap();
        let leftover = folder.path().join("figures/.a.svg.99-0.tmp");
        std::fs::write(&leftover, "half").unwrap();
        let held = hold(folder.path()).unwrap();
        assert!(!leftover.exists());
        assert!(hold(folder.path()).err().unwrap().to_string().contains("at work in this folder"));
        drop(held);
        hold(folder.path()).unwrap();
    }
}
