//! Files of a run folder that are written while the run goes on; docs/run-folder.md describes them all.

use std::fs::{File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use escape_files::{remove_leftovers, write_atomically};
use escape_network::arch::Architecture;
use escape_report::rows::{self, Row};
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::energy::CONSTANTS;
use crate::session::{LIBTORCH, Session};

/// The latest checkpoint, with everything to go on from.
pub const LAST: &str = "last.pth";
/// The checkpoint of the best epoch.
pub const BEST: &str = "best.pth";

/// What ran, where and on which inputs.
pub const MANIFEST: &str = "manifest.json";
/// What a training was started with.
pub const SETTINGS: &str = "training.json";

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
pub fn wait_for(session: &Session, folder: &Path) -> Held {
    let handle = File::open(folder).ok();
    if let Some(Err(TryLockError::WouldBlock)) = handle.as_ref().map(File::try_lock) {
        session.note(format!("{}: waiting for another escape-snn to end its work there", folder.display()));
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

/// Writes a whole table, or leaves the old one.
///
/// # Errors
/// The file cannot be written.
pub fn write_csv<R: Row>(path: &Path, rows: &[R]) -> Result<()> {
    let bytes = rows::to_csv(rows).with_context(|| format!("{}: cannot be written", path.display()))?;
    write_atomically(path, |file| file.write_all(&bytes))
        .with_context(|| format!("{}: cannot be written", path.display()))
}

/// Whether a file is there that has something in it.
pub fn holds_something(path: &Path) -> bool {
    path.metadata().is_ok_and(|file| file.is_file() && file.len() > 0)
}

/// Writes a text file, or leaves the old one.
///
/// # Errors
/// The file cannot be written.
pub fn write_text(path: &Path, text: &str) -> Result<()> {
    write_atomically(path, |file| file.write_all(text.as_bytes()))
        .with_context(|| format!("{}: cannot be written", path.display()))
}

/// What made a run: written before its work starts.
#[derive(Serialize)]
pub struct Manifest {
    /// Its name in tables and figures.
    pub name: String,
    /// When, UTC.
    pub created: String,
    /// The command line.
    pub command: Vec<String>,
    /// Of this program.
    pub version: &'static str,
    /// The version of libtorch.
    pub libtorch: Option<&'static str>,
    /// Where it computes.
    pub device: String,
    /// CPU threads.
    pub threads: usize,
    /// Seed of everything random.
    pub seed: u64,
    /// Of the resolved configuration.
    pub config_sha256: String,
    /// Files that are read.
    pub inputs: Vec<Input>,
}

impl Manifest {
    /// Of work that begins now in this process, on these files and by this resolved configuration.
    ///
    /// # Errors
    /// The device that was asked for is not there.
    pub fn of(session: &Session, name: &str, config: &str, inputs: Vec<Input>) -> Result<Self> {
        Ok(Self {
            name: name.to_owned(),
            created: now(),
            command: session.command.clone(),
            version: env!("CARGO_PKG_VERSION"),
            libtorch: LIBTORCH,
            device: session.device_name()?,
            threads: rayon::current_num_threads(),
            seed: session.seed,
            config_sha256: sha256(config),
            inputs,
        })
    }

    /// Writes it into the folder of the work.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, folder: &Path) -> Result<()> {
        write_text(&folder.join(MANIFEST), &(serde_json::to_string_pretty(self)? + "\n"))
    }
}

/// A file that a run read.
#[derive(Serialize)]
pub struct Input {
    /// Where it lies.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// Of its bytes, hexadecimal.
    pub sha256: String,
}

impl Input {
    /// Hashes a file.
    ///
    /// # Errors
    /// It cannot be read.
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
    files.push(CONSTANTS.to_owned());
    let mut trainings = vec!["ann".to_owned()];
    trainings.extend(Architecture::STAGES.iter().map(|stage| format!("ann/{stage}")));
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
    let mut old = vec![folder.join(MANIFEST), folder.join("report/index.html")];
    old.extend(files_of(&names).iter().map(|file| folder.join(file)));
    let drawn = std::fs::read_dir(folder.join("figures")).into_iter().flatten().flatten();
    old.extend(drawn.map(|file| file.path()).filter(|path| {
        path.extension().is_some_and(|e| ["csv", "svg", "pdf", "png"].iter().any(|drawn| e == *drawn))
    }));
    old.push(resolved);
    old.retain(|path| path.is_file());
    old
}

/// Removes files, one after the other.
///
/// # Errors
/// One cannot be removed.
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

/// Bytes in hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// What a name has to be.
pub const A_NAME: &str =
    "expected a name of its own of letters, digits, '-', '_' and '.', for it names files";

/// Whether a name can stand for a file or folder, and for no other place than the run's folder.
pub fn names_a_file(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    !name.is_empty() && name.chars().all(plain) && !name.starts_with('.')
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
    use serde_json::json;

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
