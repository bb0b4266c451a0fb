//! A results folder that single commands fill, `evaluate --out DIR` and `spikes --out DIR`: the tables of a run folder,
//! a network after the other. docs/run-folder.md describes them.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use escape_data::{ReadOptions, Split};
use escape_energy::{ANN, ann_name, ann_of};
use escape_report::rows::{
    Activity, AnnActivity, Confusion, Energy, EnergyStep, Epoch, Evaluation, Finetune, Front, Kind,
    Prediction, Raster, Row, Step, Training, read_csv,
};
use escape_snn_core::encode::Encoding;
use escape_snn_core::integer::{Bits, Precision};
use escape_snn_core::rules::Rules;
use serde_json::{Map, Value, json};

use crate::energy;
use crate::folder::{
    A_NAME, BEST, Held, Input, LAST, MANIFEST, names_a_file, now, remove, wait_for, write_csv, write_text,
};
use crate::measured::{Measured, put};
use crate::place::{check_folder, make_folder};
use crate::session::{LIBTORCH, Session, usage};

/// What judging a network is called in it.
pub const EVALUATE: &str = "evaluate";

/// A results folder, and the network that is being added to it.
pub struct Results<'a> {
    session: &'a Session,
    folder: &'a Path,
    network: String,
    checkpoint: Input,
    recordings: Vec<Input>,
    /// What the folder says of the network by this name is of another checkpoint, or was found out in another way, and is
    /// to be forgotten.
    forget: bool,
}

/// How a network is used: what results under one name have in common, but for T.
#[derive(Clone, Copy)]
pub struct Use<'a> {
    /// What is done, a command's name.
    pub command: &'a str,
    /// Rules and encoder of a spiking network, which is simulated.
    pub rules: Option<(Rules, Encoding)>,
    /// Bits of a quantised ANN.
    pub precision: Option<Precision>,
    /// The split of the recordings.
    pub split: Split,
}

impl Use<'_> {
    /// Bits of whole numbers, if it computes in any.
    fn precision(&self) -> Option<Precision> {
        self.precision.or(self.rules.and_then(|(rules, _)| rules.precision()))
    }
}

impl<'a> Results<'a> {
    /// Opens a folder, which need not exist yet, for a network's results. Nothing is written yet.
    ///
    /// # Errors
    /// The folder cannot be written to, the name is none, or is that of another checkpoint there.
    pub fn open(
        session: &'a Session,
        folder: &'a Path,
        (name, bits): (Option<&str>, Bits),
        kind: Kind,
        checkpoint: &Path,
        (recordings, reading): (&Path, &ReadOptions),
    ) -> Result<Self> {
        check_folder(folder)?;
        let network = match name {
            Some(name) if names_a_file(name) => name.to_owned(),
            Some(name) => return Err(usage(format!("--name {name}: {A_NAME}"))),
            None => usual_name(checkpoint, kind, bits),
        };
        if kind.is_spiking() && ann_of(&network).is_some() {
            return Err(usage(format!(
                "the name '{network}' is kept for the ANN that spiking networks are compared with; give this one another with --name"
            )));
        }
        let checkpoint = Input::of(checkpoint)?;
        let recordings =
            escape_data::files(recordings, reading)?.iter().map(|p| Input::of(p)).collect::<Result<_>>()?;
        let mut results = Self { session, folder, network, checkpoint, recordings, forget: false };
        results.forget = results.is_other(&manifest(folder)?)?;
        if results.forget && !session.force {
            return Err(results.other());
        }
        Ok(results)
    }

    /// What tables and figures call the network.
    pub fn network(&self) -> &str {
        &self.network
    }

    fn other(&self) -> anyhow::Error {
        usage(format!(
            "{}: '{}' is the name of another checkpoint there; give this one a name of its own with --name, or replace the other's results with --force",
            self.folder.display(),
            self.network
        ))
    }

    /// Whether the folder knows another checkpoint by this name.
    fn is_other(&self, manifest: &Map<String, Value>) -> Result<bool> {
        let known = self.entries(manifest).find_map(|entry| entry["inputs"][0]["sha256"].as_str());
        if let Some(hash) = known {
            return Ok(hash != self.checkpoint.sha256);
        }
        // No single command put it there, so that it is a run's, whose networks lie beside their results.
        let named = self.evaluations()?.iter().any(|row| row.network == self.network)
            || has_rows(self.folder, |row: &Raster| row.network == self.network)?;
        if !named {
            return Ok(false);
        }
        if self.network == ANN {
            let added: Vec<&Value> = entries(manifest).map(|entry| &entry["inputs"][0]).collect();
            let read = manifest.get("inputs").and_then(Value::as_array).into_iter().flatten();
            let mut read = read.filter(|input| !added.contains(input));
            if read.any(|input| input["sha256"] == self.checkpoint.sha256.as_str()) {
                return Ok(false);
            }
        }
        let kept = match self.network.as_str() {
            ANN => self.folder.join("ann").join(BEST),
            name => self.folder.join(format!("{name}.pth")),
        };
        Ok(!kept.is_file() || Input::of(&kept)?.sha256 != self.checkpoint.sha256)
    }

    /// What single commands did with the network.
    fn entries<'m>(&'m self, manifest: &'m Map<String, Value>) -> impl Iterator<Item = &'m Value> {
        entries(manifest).filter(|entry| entry["network"] == self.network.as_str())
    }

    fn evaluations(&self) -> Result<Vec<Evaluation>> {
        Ok(read_csv(&self.folder.join(Evaluation::FILE))?.unwrap_or_default())
    }

    /// Refuses to use the network otherwise than results under its name were found: there is one table of activity, of
    /// steps and of confusion for it, one energy, and one page for all networks of the folder.
    ///
    /// # Errors
    /// What is there was found in another way, which is named.
    pub fn check_use(&mut self, used: Use<'_>) -> Result<()> {
        if self.forget {
            return Ok(());
        }
        let manifest = manifest(self.folder)?;
        let there = self.evaluations()?;
        let mine = || there.iter().filter(|row| row.network == self.network);
        let split = used.split.to_string();
        let bits = used.precision().map(|precision| precision.to_string());
        let rules = used.rules.map(|(rules, encoding)| [rules.preset.to_string(), encoding.to_string()]);
        let [preset, encoder] = rules.clone().unwrap_or_default();
        let mut differs: Option<String> = mine()
            .find(|row| (&row.preset, &row.encoder) != (&preset, &encoder))
            .map(|row| format!("preset {}, encoder {}", row.preset, row.encoder));
        for entry in self.entries(&manifest) {
            let said = [entry["preset"].as_str(), entry["encoder"].as_str()];
            if let ([Some(old), Some(input)], Some(_)) = (said, &rules)
                && (old, input) != (preset.as_str(), encoder.as_str())
            {
                differs.get_or_insert_with(|| format!("preset {old}, encoder {input}"));
            }
            if let (Some(old), Some(bits)) = (entry["bits"].as_str(), &bits)
                && old != bits
            {
                differs.get_or_insert_with(|| old.to_owned());
            }
        }
        if used.command == EVALUATE {
            let judged: Vec<&Value> = entries(&manifest).filter(|entry| entry["does"] == EVALUATE).collect();
            for entry in &judged {
                let other = entry["split"].as_str().filter(|other| *other != split);
                match other {
                    Some(other) if entry["network"] == self.network.as_str() => {
                        differs.get_or_insert_with(|| format!("the {other} split"));
                    }
                    Some(other) => return Err(self.other_split(other, &split)),
                    None => {}
                }
            }
            // What a run judged is the test split.
            let of_run =
                |row: &Evaluation| judged.iter().all(|entry| entry["network"] != row.network.as_str());
            if used.split != Split::Test && there.iter().any(of_run) {
                return Err(self.other_split("test", &split));
            }
        }
        let Some(differs) = differs else { return Ok(()) };
        if !self.session.force {
            return Err(usage(format!(
                "{}: what it holds of '{}' was found with {differs}; name this one otherwise with --name, or replace it with \
                 --force",
                self.folder.display(),
                self.network
            )));
        }
        self.forget = true;
        Ok(())
    }

    fn other_split(&self, there: &str, asked: &str) -> anyhow::Error {
        usage(format!(
            "{}: its networks were judged by the {there} split, which the {asked} split cannot be compared with; choose \
             another folder",
            self.folder.display()
        ))
    }

    /// Refuses to judge what was judged already, at any of these T; an ANN has none.
    ///
    /// # Errors
    /// It was judged at one of them, which is named.
    pub fn check_evaluation(&self, timesteps: &[Option<u32>]) -> Result<()> {
        let there = self.evaluations()?;
        let same = |row: &&Evaluation| row.network == self.network && timesteps.contains(&row.timesteps);
        match there.iter().find(same) {
            Some(row) if !self.session.force => {
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

    /// Steps at which the folder knows the network's accuracy already, which an evaluation at another T leaves alone,
    /// with the number of recordings that it is of.
    ///
    /// # Errors
    /// A table cannot be read.
    pub fn known_moments(&self) -> Result<Vec<(usize, u64)>> {
        if self.forget {
            return Ok(Vec::new());
        }
        let mut there = self.evaluations()?;
        there.retain(|row| row.network == self.network);
        Ok(there.iter().filter_map(|row| Some((row.timesteps? as usize, row.samples))).collect())
    }

    /// Makes the folder, forgets what is to be replaced, and says in the manifest what is about to be done.
    ///
    /// # Errors
    /// Another process has taken the name, or the folder cannot be written to.
    pub fn begin(&self, used: Use<'_>, timesteps: Option<usize>) -> Result<()> {
        make_folder(self.folder)?;
        let _held = wait_for(self.session, self.folder);
        let mut manifest = manifest(self.folder)?;
        // Somebody else may have taken the name since.
        let forget = self.forget || self.is_other(&manifest)?;
        if forget && !self.session.force {
            return Err(self.other());
        }
        if forget {
            self.forget()?;
        }
        let full = self.folder.canonicalize().unwrap_or_else(|_| self.folder.to_path_buf());
        let name = full.file_name().unwrap_or(OsStr::new("results")).to_string_lossy().into_owned();
        let inputs: Vec<Value> =
            std::iter::once(&self.checkpoint).chain(&self.recordings).map(|input| json!(input)).collect();
        let facts = json!({
            "created": now(),
            "command": self.session.command,
            "version": env!("CARGO_PKG_VERSION"),
            "libtorch": LIBTORCH,
            "device": self.session.device_name()?,
            "threads": rayon::current_num_threads(),
            "seed": self.session.seed,
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
        let mut entry = json!({
            "does": used.command,
            "network": self.network,
            "timesteps": timesteps,
            "split": used.split.to_string(),
        });
        if let (Some(entry), Value::Object(facts)) = (entry.as_object_mut(), facts) {
            if let Some((rules, encoding)) = used.rules {
                entry.insert("preset".into(), json!(rules.preset.to_string()));
                entry.insert("encoder".into(), json!(encoding.to_string()));
            }
            if let Some(precision) = used.precision() {
                entry.insert("bits".into(), json!(precision.to_string()));
            }
            entry.extend(facts);
            entry.insert("inputs".into(), json!(inputs));
        }
        let same = |other: &Value| {
            ["does", "network", "timesteps"].iter().all(|key| other[*key] == entry[*key])
                || forget && other["network"] == entry["network"]
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
    ///
    /// # Errors
    /// Another process has replaced the network, or a table cannot be written.
    pub fn add(&self, measured: &Measured) -> Result<()> {
        let _held = self.hold()?;
        self.take_log_over(measured.kind)?;
        measured.write(self.folder)?;
        self.update_energy()
    }

    /// Takes the folder for this process, to add what was found out. Others wait.
    ///
    /// # Errors
    /// Another process has replaced the network since [`Results::begin`].
    pub fn hold(&self) -> Result<Held> {
        let held = wait_for(self.session, self.folder);
        if self.is_other(&manifest(self.folder)?)? {
            anyhow::bail!(
                "{}: another process has given the name '{}' to another checkpoint meanwhile; nothing was added, do it \
                 again with a --name of its own",
                self.folder.display(),
                self.network
            );
        }
        Ok(held)
    }

    /// Drops all that the folder says of the network; the accuracies first, whose being there says that the rest is.
    fn forget(&self) -> Result<()> {
        drop_rows(self.folder, |row: &Evaluation| row.network == self.network)?;
        drop_rows(self.folder, |row: &Activity| row.network == self.network)?;
        drop_rows(self.folder, |row: &AnnActivity| row.network == self.network)?;
        drop_rows(self.folder, |row: &Prediction| row.network == self.network)?;
        drop_rows(self.folder, |row: &Step| row.network == self.network)?;
        drop_rows(self.folder, |row: &Confusion| row.network == self.network)?;
        drop_rows(self.folder, |row: &Raster| row.network == self.network)?;
        drop_rows(self.folder, |row: &Training| row.network == self.network)?;
        drop_rows(self.folder, |row: &Finetune| row.network == self.network)?;
        self.update_energy()
    }

    /// Makes the energy, where there is one, that of the activity.
    fn update_energy(&self) -> Result<()> {
        let files = [Energy::FILE, EnergyStep::FILE, Front::FILE].map(|file| self.folder.join(file));
        if files.iter().all(|file| !file.exists()) {
            return Ok(());
        }
        if has_rows(self.folder, |_: &Activity| true)? {
            energy::write(self.folder, None).map(drop)
        } else {
            remove(&files)
        }
    }

    /// `best.pth` and `last.pth` lie beside the log of their training.
    fn take_log_over(&self, kind: Kind) -> Result<()> {
        let path = &self.checkpoint.path;
        let beside = folder_of(path);
        let same = |a: &Path, b: &Path| a.canonicalize().ok() == b.canonicalize().ok();
        if !is_of_training(path) || same(&beside, self.folder) {
            return Ok(());
        }
        match kind {
            Kind::Ann => self.take_rows_over::<false>(&beside),
            // Nobody has trained it as it is.
            Kind::Quantised => Ok(()),
            Kind::Converted | Kind::Finetuned => self.take_rows_over::<true>(&beside),
        }
    }

    /// Takes the log of a training, or of a fine-tuning, over from the folder beside.
    fn take_rows_over<const FINETUNING: bool>(&self, beside: &Path) -> Result<()> {
        let file = Epoch::<FINETUNING>::FILE;
        let mut rows: Vec<Epoch<FINETUNING>> = read_csv(&beside.join(file))?.unwrap_or_default();
        rows.iter_mut().for_each(|row| row.network.clone_from(&self.network));
        if rows.is_empty() { Ok(()) } else { put(self.folder, &rows, |row| row.network == self.network) }
    }
}

fn has_rows<R: Row>(folder: &Path, which: impl Fn(&R) -> bool) -> Result<bool> {
    Ok(read_csv::<R>(&folder.join(R::FILE))?.is_some_and(|rows| rows.iter().any(which)))
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

/// `ann` for an ANN, `ann-8bit` quantised to 8 bits; else the checkpoint's name, or that of its folder where a training named it.
fn usual_name(checkpoint: &Path, kind: Kind, bits: Bits) -> String {
    if !kind.is_spiking() {
        return ann_name(bits.weight, false);
    }
    let folder = folder_of(checkpoint).canonicalize().ok();
    let of_folder = folder.as_deref().and_then(Path::file_name).filter(|_| is_of_training(checkpoint));
    let name = of_folder.or(checkpoint.file_stem()).unwrap_or_default().to_string_lossy();
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
    let name: String = name.trim_start_matches('.').chars().map(plain).collect();
    let name = if name.is_empty() { "snn".to_owned() } else { name };
    // In other numbers of bits than its own it is another network.
    let part =
        |letter: &str, bits: Option<u32>| bits.map(|bits| format!("-{letter}{bits}")).unwrap_or_default();
    name + &part("w", bits.weight) + &part("i", bits.input)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_named_after_their_checkpoints() {
        let name = |path: &str| usual_name(Path::new(path), Kind::Converted, Bits::default());
        assert_eq!(name("a/snn.pth"), "snn");
        assert_eq!(name("rat 2, T=4.safetensors"), "rat-2--T-4");
        assert_eq!(name(".pth"), "pth");
        let bits = Bits { weight: Some(4), input: None };
        assert_eq!(usual_name(Path::new("snn.pth"), Kind::Converted, bits), "snn-w4");
        assert_eq!(usual_name(Path::new("modified.pth"), Kind::Ann, Bits::default()), "ann");
        assert_eq!(usual_name(Path::new("modified.pth"), Kind::Quantised, bits), "ann-4bit");
        let folder = tempfile::tempdir().unwrap();
        let tuned = folder.path().join("tuned");
        std::fs::create_dir(&tuned).unwrap();
        assert_eq!(usual_name(&tuned.join("best.pth"), Kind::Finetuned, Bits::default()), "tuned");
        assert_eq!(usual_name(&tuned.join("other.pth"), Kind::Finetuned, Bits::default()), "other");
    }
}
