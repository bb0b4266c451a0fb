//! A results folder that single commands fill, `evaluate --out DIR` and `spikes --out DIR`: the tables of a run folder,
//! a network after the other. docs/run-folder.md describes them.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use escape_data::ReadOptions;
use escape_energy::is_baseline;
use escape_report::rows::{
    Activity, Confusion, Energy, Evaluation, Finetune, Kind, Raster, Row, Step, Training, read_csv,
};
use serde_json::{Map, Value, json};

use crate::commands::energy;
use crate::config::{A_NAME, names_a_file};
use crate::context::{Context, check_folder, make_folder, usage};
use crate::measured::{Measured, put};
use crate::run_folder::{BEST, Input, LAST, now, write_csv, write_text};

/// What made the results, and of what.
const MANIFEST: &str = "manifest.json";

/// A results folder, and the network that is being added to it.
pub struct Results<'a> {
    context: &'a Context,
    folder: &'a Path,
    network: String,
    checkpoint: Input,
    recordings: Vec<Input>,
    /// The folder knows another checkpoint by this name, which is to be forgotten.
    forget: bool,
}

impl<'a> Results<'a> {
    /// Opens a folder, which need not exist yet, for a network's results. Nothing is written yet.
    ///
    /// # Errors
    /// The folder cannot be written to, the name is none, or is that of another checkpoint there.
    pub fn open(
        context: &'a Context,
        folder: &'a Path,
        name: Option<&str>,
        kind: Kind,
        checkpoint: &Path,
        (recordings, reading): (&Path, &ReadOptions),
    ) -> Result<Self> {
        check_folder(folder)?;
        let network = match name {
            Some(name) if names_a_file(name) => name.to_owned(),
            Some(name) => return Err(usage(format!("--name {name}: {A_NAME}"))),
            None => usual_name(checkpoint, kind),
        };
        if kind != Kind::Ann && is_baseline(&network) {
            return Err(usage(format!(
                "the name '{network}' is kept for the ANN that spiking networks are compared with; give this one another with --name"
            )));
        }
        let checkpoint = Input::of(checkpoint)?;
        let recordings =
            escape_data::files(recordings, reading)?.iter().map(|p| Input::of(p)).collect::<Result<_>>()?;
        let manifest = manifest(folder)?;
        let known = entries(&manifest)
            .filter(|entry| entry["network"] == network.as_str())
            .find_map(|entry| entry["inputs"][0]["sha256"].as_str());
        let other = known.is_some_and(|hash| hash != checkpoint.sha256);
        if other && !context.force {
            return Err(usage(format!(
                "{}: '{network}' is the name of another checkpoint there; give this one a name of its own with --name, or replace the other's results with --force",
                folder.display()
            )));
        }
        Ok(Self { context, folder, network, checkpoint, recordings, forget: other })
    }

    /// What tables and figures call the network.
    pub fn network(&self) -> &str {
        &self.network
    }

    /// Refuses to judge what was judged already.
    pub fn check_evaluation(&self, preset: &str, encoder: &str, timesteps: Option<u32>) -> Result<()> {
        let there: Vec<Evaluation> = read_csv(&self.folder.join(Evaluation::FILE))?.unwrap_or_default();
        let same = |row: &&Evaluation| {
            (row.network.as_str(), row.preset.as_str(), row.encoder.as_str(), row.timesteps)
                == (self.network(), preset, encoder, timesteps)
        };
        match there.iter().find(same) {
            Some(row) if !self.context.force => {
                let at = row.timesteps.map_or_else(String::new, |t| format!(" at T = {t}"));
                Err(usage(format!(
                    "{}: holds an evaluation of '{}'{at} already ({}); name this one otherwise with --name, or replace it with --force",
                    self.folder.display(),
                    self.network,
                    Evaluation::FILE
                )))
            }
            _ => Ok(()),
        }
    }

    /// Steps at which the folder knows the network's accuracy already, which an evaluation at another T leaves alone.
    pub fn known_moments(&self, preset: &str, encoder: &str) -> Result<Vec<usize>> {
        if self.forget {
            return Ok(Vec::new());
        }
        let there: Vec<Evaluation> = read_csv(&self.folder.join(Evaluation::FILE))?.unwrap_or_default();
        let same = |row: &&Evaluation| {
            (row.network.as_str(), row.preset.as_str(), row.encoder.as_str())
                == (self.network(), preset, encoder)
        };
        Ok(there.iter().filter(same).filter_map(|row| Some(row.timesteps? as usize)).collect())
    }

    /// Makes the folder and says in its manifest what is about to be done; `command` is its name.
    pub fn begin(&self, command: &str, timesteps: Option<usize>) -> Result<()> {
        make_folder(self.folder)?;
        let mut manifest = manifest(self.folder)?;
        let full = self.folder.canonicalize().unwrap_or_else(|_| self.folder.to_path_buf());
        let name = full.file_name().unwrap_or(OsStr::new("results")).to_string_lossy().into_owned();
        let inputs: Vec<Value> =
            std::iter::once(&self.checkpoint).chain(&self.recordings).map(|input| json!(input)).collect();
        let facts = json!({
            "created": now(),
            "command": std::env::args().collect::<Vec<_>>(),
            "version": env!("CARGO_PKG_VERSION"),
            "libtorch": "2.11.0",
            "device": format!("{:?}", self.context.device()?),
            "threads": rayon::current_num_threads(),
            "seed": self.context.seed,
        });
        // What is there stays: the folder may be a run's.
        manifest.entry("name").or_insert(json!(name));
        for (key, fact) in facts.as_object().into_iter().flatten() {
            manifest.entry(key.clone()).or_insert(fact.clone());
        }
        let all = manifest.entry("inputs").or_insert(json!([]));
        for input in &inputs {
            if let Some(all) = all.as_array_mut().filter(|all| !all.contains(input)) {
                all.push(input.clone());
            }
        }
        let mut entry = json!({ "does": command, "network": self.network, "timesteps": timesteps });
        if let (Some(entry), Value::Object(facts)) = (entry.as_object_mut(), facts) {
            entry.extend(facts);
            entry.insert("inputs".into(), json!(inputs));
        }
        let same = |other: &Value| {
            ["does", "network", "timesteps"].iter().all(|key| other[*key] == entry[*key])
                || self.forget && other["network"] == entry["network"]
        };
        let commands = manifest.entry("commands").or_insert(json!([]));
        if let Some(commands) = commands.as_array_mut() {
            // An earlier one that was stopped, or is replaced.
            commands.retain(|other| !same(other));
            commands.push(entry);
        }
        write_text(&self.folder.join(MANIFEST), &(serde_json::to_string_pretty(&manifest)? + "\n"))
    }

    /// Adds what was measured, with the log of the training that the checkpoint comes from, and brings the energy up to
    /// date where there is one.
    pub fn add(&self, measured: &Measured) -> Result<()> {
        self.forget()?;
        self.take_log_over(measured.kind)?;
        measured.write(self.folder)?;
        if self.folder.join(Energy::FILE).exists() {
            energy::write(self.folder)?;
        }
        Ok(())
    }

    /// Drops all that the folder says of another checkpoint of the same name; the accuracies first, whose being there
    /// says that the rest is.
    pub fn forget(&self) -> Result<()> {
        if self.forget {
            drop_rows(self.folder, |row: &Evaluation| row.network == self.network)?;
            drop_rows(self.folder, |row: &Activity| row.network == self.network)?;
            drop_rows(self.folder, |row: &Step| row.network == self.network)?;
            drop_rows(self.folder, |row: &Confusion| row.network == self.network)?;
            drop_rows(self.folder, |row: &Raster| row.network == self.network)?;
        }
        Ok(())
    }

    /// `best.pth` and `last.pth` lie beside the log of their training.
    fn take_log_over(&self, kind: Kind) -> Result<()> {
        let path = &self.checkpoint.path;
        let beside = folder_of(path);
        let same = |a: &Path, b: &Path| a.canonicalize().ok() == b.canonicalize().ok();
        if !is_of_training(path) || same(&beside, self.folder) {
            return Ok(());
        }
        if kind == Kind::Ann {
            let mut rows: Vec<Training> = read_csv(&beside.join(Training::FILE))?.unwrap_or_default();
            rows.iter_mut().for_each(|row| row.network.clone_from(&self.network));
            return put_some(self.folder, &rows, |row| row.network == self.network);
        }
        let mut rows: Vec<Finetune> = read_csv(&beside.join(Finetune::FILE))?.unwrap_or_default();
        rows.iter_mut().for_each(|row| row.network.clone_from(&self.network));
        put_some(self.folder, &rows, |row| row.network == self.network)
    }
}

fn put_some<R: Row + Clone>(folder: &Path, rows: &[R], replaced: impl Fn(&R) -> bool) -> Result<()> {
    if rows.is_empty() { Ok(()) } else { put(folder, rows, replaced) }
}

fn drop_rows<R: Row>(folder: &Path, dropped: impl Fn(&R) -> bool) -> Result<()> {
    let path = folder.join(R::FILE);
    match read_csv::<R>(&path)? {
        Some(rows) if rows.iter().any(&dropped) => {
            write_csv(&path, &rows.into_iter().filter(|row| !dropped(row)).collect::<Vec<_>>())
        }
        _ => Ok(()),
    }
}

/// The manifest of a folder; empty where there is none.
fn manifest(folder: &Path) -> Result<Map<String, Value>> {
    let path = folder.join(MANIFEST);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Map::new()),
        Err(error) => return Err(error).with_context(|| format!("{}: cannot be read", path.display())),
    };
    serde_json::from_str(&text).map_err(|why| {
        usage(format!(
            "{}: expected a JSON object ({why}); remove it, or choose another folder",
            path.display()
        ))
    })
}

/// What single commands did for a folder.
fn entries(manifest: &Map<String, Value>) -> impl Iterator<Item = &Value> {
    manifest.get("commands").and_then(Value::as_array).into_iter().flatten()
}

fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

/// Whether a checkpoint has the name that trainings give theirs.
fn is_of_training(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == BEST || name == LAST)
}

/// `ann` for an ANN; else the checkpoint's name, or that of its folder where a training named it.
fn usual_name(checkpoint: &Path, kind: Kind) -> String {
    if kind == Kind::Ann {
        return "ann".to_owned();
    }
    let folder = folder_of(checkpoint).canonicalize().ok();
    let of_folder = folder.as_deref().and_then(Path::file_name).filter(|_| is_of_training(checkpoint));
    let name = of_folder.or(checkpoint.file_stem()).unwrap_or_default().to_string_lossy();
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
    let name: String = name.trim_start_matches('.').chars().map(plain).collect();
    if name.is_empty() { "snn".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_named_after_their_checkpoints() {
        let name = |path: &str| usual_name(Path::new(path), Kind::Converted);
        assert_eq!(name("a/snn.pth"), "snn");
        assert_eq!(name("rat 2, T=4.safetensors"), "rat-2--T-4");
        assert_eq!(name(".pth"), "pth");
        assert_eq!(usual_name(Path::new("modified.pth"), Kind::Ann), "ann");
        let folder = tempfile::tempdir().unwrap();
        let tuned = folder.path().join("tuned");
        std::fs::create_dir(&tuned).unwrap();
        assert_eq!(usual_name(&tuned.join("best.pth"), Kind::Finetuned), "tuned");
        assert_eq!(usual_name(&tuned.join("other.pth"), Kind::Finetuned), "other");
    }
}
