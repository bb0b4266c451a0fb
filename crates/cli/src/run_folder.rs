//! Files of a run folder that are written while the run goes on; docs/run-folder.md describes them all.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use escape_model::checkpoint::write_atomically;
use escape_report::rows::{self, Row, append_csv, read_csv};
use serde::Serialize;
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::config::names_a_file;
use crate::context::{Context, check_results, make_folder};

/// The latest checkpoint, with everything to go on from.
pub const LAST: &str = "last.pth";
/// The checkpoint of the best epoch.
pub const BEST: &str = "best.pth";

/// An epoch's result as a row of training.csv or finetune.csv, whose columns are the same.
macro_rules! epoch_row {
    ($row:ident, $network:expr, $result:expr) => {
        $row {
            network: $network.to_string(),
            epoch: $result.epoch as u32,
            train_loss: Some($result.train_loss),
            train_accuracy: Some($result.train_accuracy),
            test_loss: $result.test_loss,
            test_accuracy: $result.test_accuracy,
            seconds: $result.seconds,
            test_balanced_accuracy: None,
            test_macro_f1: None,
            judged_on: None,
        }
    };
}
pub(crate) use epoch_row;

/// A table that grows by a row an epoch.
pub struct EpochLog(PathBuf);

impl EpochLog {
    /// Starts a training in a folder, which is made if need be. It holds none yet, or one that may be replaced.
    pub fn start(context: &Context, folder: &Path, file: &str) -> Result<Self> {
        let files = [LAST, BEST, file];
        check_results(context, folder, &files, "a training", "continue it with --resume, ")?;
        make_folder(folder)?;
        for old in files.map(|name| folder.join(name)).iter().filter(|old| old.exists()) {
            std::fs::remove_file(old).with_context(|| format!("{}: cannot be replaced", old.display()))?;
        }
        Ok(Self(folder.join(file)))
    }

    /// Continues after `epochs` epochs; rows of later ones, whose checkpoint was not saved any more, are
    /// dropped.
    pub fn resume<R: Row>(folder: &Path, file: &str, keep: impl Fn(&R) -> bool) -> Result<Self> {
        let path = folder.join(file);
        let rows: Vec<R> = read_csv(&path)?.unwrap_or_default();
        write_csv(&path, &rows.into_iter().filter(keep).collect::<Vec<_>>())?;
        Ok(Self(path))
    }

    /// Adds an epoch.
    pub fn add<R: Row>(&self, row: R) -> Result<()> {
        Ok(append_csv(&self.0, &[row])?)
    }
}

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
            let bytes = std::io::copy(&mut std::fs::File::open(path)?, &mut hasher)?;
            Ok((bytes, hex(&hasher.finalize())))
        };
        let (bytes, sha256) = hash().with_context(|| format!("{}: cannot be read", path.display()))?;
        Ok(Self { path: path.to_path_buf(), bytes, sha256 })
    }
}

/// Removes what an earlier run left in a folder, so that another can take its place; files of other names stay. The
/// configuration, which names the run's checkpoints, goes last.
pub fn clear(folder: &Path, resolved: &str) -> Result<()> {
    let resolved = folder.join(resolved);
    let text = std::fs::read_to_string(&resolved).unwrap_or_default();
    let config: serde_yaml::Value = serde_yaml::from_str(&text).unwrap_or_default();
    let mut old = vec![folder.join("manifest.json"), folder.join("report/index.html")];
    old.extend(rows::FILES.map(|file| folder.join(file)));
    let mut trainings = vec![folder.join("ann")];
    for part in ["convert", "finetune"] {
        for network in config[part].as_sequence().into_iter().flatten() {
            let Some(name) = network["name"].as_str().filter(|name| names_a_file(name)) else { continue };
            old.push(folder.join(format!("{name}.pth")));
            trainings.push(folder.join(format!("{name}-training")));
        }
    }
    for training in trainings {
        old.extend([LAST, BEST, rows::Training::FILE, rows::Finetune::FILE].map(|file| training.join(file)));
    }
    let drawn = std::fs::read_dir(folder.join("figures")).into_iter().flatten().flatten();
    old.extend(drawn.map(|file| file.path()).filter(|path| {
        path.extension().is_some_and(|e| ["csv", "svg", "png"].iter().any(|drawn| e == *drawn))
    }));
    old.push(resolved);
    for path in old.iter().filter(|path| path.is_file()) {
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

/// `wanted`, or if it exists the first of wanted-2, wanted-3 and so on that does not.
pub fn free_folder(wanted: &Path) -> PathBuf {
    let numbered = |n: usize| PathBuf::from(format!("{}-{n}", wanted.display()));
    if !wanted.exists() {
        return wanted.to_path_buf();
    }
    (2..).map(numbered).find(|p| !p.exists()).unwrap_or_else(|| wanted.to_path_buf())
}
