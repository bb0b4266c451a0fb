//! The YAML file of `escape-snn run`: what the user says, checked as a whole before anything starts.
//!
//! configs/demo.yaml explains every key.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use escape_convert::Method;
use escape_convert::readout::Gain;
use escape_data::nerve::NerveConfig;
use escape_data::{Axes, BadContacts, ReadOptions, Rescale};
use escape_model::arch::Architecture;
use escape_snn_core::encode::Encoding;
use escape_snn_core::network::Preset;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_yaml::Value;

use crate::context::usage;

/// A run.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Names the run and its folder.
    pub name: String,
    /// Seed of everything random.
    #[serde(default)]
    pub seed: u64,
    pub data: Data,
    pub ann: Ann,
    #[serde(default)]
    pub convert: Vec<Convert>,
    #[serde(default)]
    pub finetune: Vec<Finetune>,
    #[serde(default)]
    pub evaluate: Evaluate,
    #[serde(default)]
    pub spikes: Option<Spikes>,
    #[serde(default = "yes")]
    pub energy: bool,
    #[serde(default = "yes")]
    pub report: bool,
}

fn yes() -> bool {
    true
}

/// Where recordings come from: a file, or the simulator.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Data {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub simulate: Option<NerveConfig>,
    /// How a file is read, as the options of the same names.
    #[serde(default, skip_serializing_if = "is_default")]
    pub scaling: Rescale,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_label: Option<u8>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub drop_bad: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub axes: Option<Axes>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub samples: Option<usize>,
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "one_or_two")]
    pub x: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "one_or_two")]
    pub y: Vec<String>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub bad_contacts: BadContacts,
}

/// A name, or a list of them.
fn one_or_two<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Names {
        One(String),
        Several(Vec<String>),
    }
    Ok(match Names::deserialize(d)? {
        Names::One(name) => vec![name],
        Names::Several(names) => names,
    })
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Data {
    pub fn reading(&self) -> ReadOptions {
        ReadOptions {
            scaling: self.scaling,
            first_label: self.first_label,
            drop_bad: self.drop_bad,
            axes: self.axes,
            samples: self.samples,
            x: self.x.clone(),
            y: self.y.clone(),
            bad_contacts: self.bad_contacts,
        }
    }
}

/// Where the ANN comes from: a checkpoint, or training.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Ann {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train: Option<Train>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Train {
    #[serde(with = "text", default = "modified")]
    pub arch: Architecture,
    #[serde(with = "text", default = "default_preset")]
    pub preset: Preset,
    pub epochs: usize,
    #[serde(default)]
    pub batch_size: Option<usize>,
    #[serde(default)]
    pub lr: Option<f64>,
}

fn modified() -> Architecture {
    Architecture::Modified
}

fn default_preset() -> Preset {
    Preset::Default
}

/// One route from the ANN to a spiking network.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Convert {
    /// What tables and figures call the network.
    pub name: String,
    #[serde(with = "text", default = "default_preset")]
    pub preset: Preset,
    #[serde(default = "calibration")]
    pub samples: usize,
    /// Steps to balance over (published preset).
    #[serde(default)]
    pub balance_timesteps: Option<usize>,
    #[serde(with = "optional_text", default)]
    pub method: Option<Method>,
    #[serde(default = "one")]
    pub scale: f64,
    /// Factor on the last layer's weights (published preset).
    #[serde(with = "optional_text", default, skip_serializing_if = "Option::is_none")]
    pub readout_gain: Option<Gain>,
    #[serde(with = "optional_text", default)]
    pub encoder: Option<Encoding>,
    /// T that the network is meant for.
    pub timesteps: usize,
    /// Further numbers of steps to judge it at; the longest run serves all of them.
    #[serde(default)]
    pub also_at: Vec<usize>,
    /// Test recordings to judge it by, if fewer than `evaluate.samples`.
    #[serde(default)]
    pub test_samples: Option<usize>,
}

impl Convert {
    /// Steps that the conversion itself works with: those to balance over, or those to fit thresholds to.
    pub fn steps(&self) -> Option<usize> {
        match self.preset {
            Preset::Published => self.balance_timesteps,
            Preset::Default => Some(self.timesteps),
        }
    }
}

fn calibration() -> usize {
    32
}

fn one() -> f64 {
    1.0
}

/// One fine-tuning of a converted network.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Finetune {
    pub name: String,
    /// Name of the converted network to start from.
    pub from: String,
    pub timesteps: usize,
    #[serde(default = "one_epoch")]
    pub epochs: usize,
    #[serde(default = "batch")]
    pub batch_size: usize,
    #[serde(default = "step_size")]
    pub lr: f64,
    /// Training recordings, if fewer than there are.
    #[serde(default)]
    pub samples: Option<usize>,
    /// Test recordings to judge each epoch by, if fewer than `evaluate.samples`.
    #[serde(default)]
    pub test_samples: Option<usize>,
}

fn one_epoch() -> usize {
    1
}

fn batch() -> usize {
    32
}

fn step_size() -> f64 {
    1e-4
}

/// How networks are judged.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Evaluate {
    /// Test recordings, if fewer than there are.
    pub samples: Option<usize>,
    pub batch_size: usize,
}

impl Default for Evaluate {
    fn default() -> Self {
        Self { samples: None, batch_size: batch() }
    }
}

/// Which recording of which network to show spike by spike.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Spikes {
    pub network: String,
    #[serde(default)]
    pub sample: usize,
}

impl Config {
    /// Reads a file, with some of its settings replaced (`path.to.key=value`).
    ///
    /// # Errors
    /// All of exit code 2: the file is no YAML, a key is unknown or of the wrong type, or settings do not fit
    /// each other; the message gives YAML paths.
    pub fn read(path: &Path, set: &[String]) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("{}: the configuration cannot be read", path.display()))?;
        Self::parse(&path.display().to_string(), &text, set)
    }

    /// As [`Config::read`], from text that `source` names.
    pub fn parse(source: &str, text: &str, set: &[String]) -> Result<Self> {
        let mut value: Value =
            serde_yaml::from_str(text).map_err(|e| usage(format!("{source}: no valid YAML: {e}")))?;
        for setting in set {
            replace(&mut value, setting).map_err(|why| usage(format!("--set {setting}: {why}")))?;
        }
        let config: Self = serde_path_to_error::deserialize(value)
            .map_err(|e| usage(format!("{source}: at {}: {}", e.path(), e.inner())))?;
        let problems = config.problems();
        if problems.is_empty() {
            return Ok(config);
        }
        Err(usage(format!("{source}: {}", problems.join("; "))))
    }

    /// Everything that does not fit, each with its path.
    fn problems(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut check = |fits: bool, path: &str, what: &str| {
            if !fits {
                found.push(format!("{path}: {what}"));
            }
        };
        check(names_a_file(&self.name), "name", A_NAME);
        let sources = [self.data.file.is_some(), self.data.simulate.is_some()];
        check(sources[0] != sources[1], "data", "expected either file or simulate");
        check(self.data.first_label.is_none_or(|label| label <= 1), "data.first_label", "expected 0 or 1");
        check(self.data.samples != Some(0), "data.samples", "expected at least 1");
        check(self.data.x.len() == self.data.y.len(), "data.x", "expected as many names in x as in y");
        let plain = self.data.reading() == ReadOptions::default();
        check(
            self.data.file.is_some() || plain,
            "data",
            "scaling, first_label, drop_bad, axes, samples, x, y and bad_contacts say how a file is read, and there is none",
        );
        if let Some(simulate) = &self.data.simulate {
            check(simulate.samples >= 10, "data.simulate.samples", "expected at least 10");
            for problem in simulate.problems() {
                check(false, "data.simulate", &problem);
            }
        }
        let sources = [self.ann.checkpoint.is_some(), self.ann.train.is_some()];
        check(sources[0] != sources[1], "ann", "expected either checkpoint or train");
        if let Some(train) = &self.ann.train {
            check(train.epochs > 0, "ann.train.epochs", "expected at least 1");
            check(train.batch_size != Some(0), "ann.train.batch_size", "expected at least 1");
            check(train.lr.is_none_or(|lr| lr > 0.0), "ann.train.lr", "expected a positive number");
        }
        let mut names = vec!["ann"];
        for (i, c) in self.convert.iter().enumerate() {
            let at = |key: &str| format!("convert[{i}].{key}");
            check(names_a_file(&c.name) && !names.contains(&c.name.as_str()), &at("name"), A_NAME);
            check(c.timesteps > 0 && !c.also_at.contains(&0), &at("timesteps"), "expected at least 1");
            check(c.samples > 0, &at("samples"), "expected at least 1");
            check(c.balance_timesteps != Some(0), &at("balance_timesteps"), "expected at least 1");
            check(c.scale > 0.0 && c.scale.is_finite(), &at("scale"), "expected a positive number");
            check(c.test_samples != Some(0), &at("test_samples"), "expected at least 1");
            let plain = c.readout_gain.is_none() || c.preset.spiking_readout();
            check(plain, &at("readout_gain"), "the published preset's; leave it out");
            names.push(&c.name);
        }
        for (i, f) in self.finetune.iter().enumerate() {
            let at = |key: &str| format!("finetune[{i}].{key}");
            check(names_a_file(&f.name) && !names.contains(&f.name.as_str()), &at("name"), A_NAME);
            let known = self.convert.iter().any(|c| c.name == f.from);
            check(known, &at("from"), &format!("no conversion is called '{}'", f.from));
            check(f.timesteps > 0, &at("timesteps"), "expected at least 1");
            check(f.epochs > 0, &at("epochs"), "expected at least 1");
            check(f.batch_size > 0, &at("batch_size"), "expected at least 1");
            check(f.lr > 0.0 && f.lr.is_finite(), &at("lr"), "expected a positive number");
            check(f.samples != Some(0) && f.test_samples != Some(0), &at("samples"), "expected at least 1");
            names.push(&f.name);
        }
        check(self.evaluate.samples != Some(0), "evaluate.samples", "expected at least 1");
        check(self.evaluate.batch_size > 0, "evaluate.batch_size", "expected at least 1");
        if let Some(spikes) = &self.spikes {
            let known = spikes.network != "ann" && names.contains(&spikes.network.as_str());
            check(known, "spikes.network", &format!("no spiking network is called '{}'", spikes.network));
        }
        found
    }
}

/// What a name has to be.
pub const A_NAME: &str =
    "expected a name of its own of letters, digits, '-', '_' and '.', for it names files";

/// Whether a name can stand for a file or folder, and for no other place than the run's folder.
pub fn names_a_file(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    !name.is_empty() && name.chars().all(plain) && !name.starts_with('.')
}

/// Replaces the value at `path.to.key=value`; list entries go by number. The last key may be new.
fn replace(root: &mut Value, setting: &str) -> std::result::Result<(), String> {
    let (path, text) = setting.split_once('=').ok_or("expected path=value")?;
    let value: Value = serde_yaml::from_str(text).map_err(|e| format!("the value is no valid YAML: {e}"))?;
    let keys: Vec<&str> = path.split('.').collect();
    let mut at = root;
    for (i, key) in keys.iter().enumerate() {
        let last = i + 1 == keys.len();
        let here = keys[..i].join(".");
        at = match at {
            Value::Sequence(items) => {
                let count = items.len();
                key.parse::<usize>()
                    .ok()
                    .and_then(|n| items.get_mut(n))
                    .ok_or_else(|| format!("'{here}' is a list of {count}, numbered from 0; got '{key}'"))?
            }
            Value::Mapping(entries) => {
                if last && !entries.contains_key(*key) {
                    entries.insert(Value::from(*key), Value::Null);
                }
                entries.get_mut(*key).ok_or_else(|| format!("there is no '{key}' in '{here}'"))?
            }
            _ => return Err(format!("'{here}' has no parts")),
        };
    }
    *at = value;
    Ok(())
}

/// Values that are written as their command-line names.
mod text {
    use super::*;

    pub fn serialize<T: std::fmt::Display, S: Serializer>(value: &T, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(value)
    }

    pub fn deserialize<'de, T, D>(d: D) -> Result<T, D::Error>
    where
        T: std::str::FromStr<Err = String>,
        D: Deserializer<'de>,
    {
        String::deserialize(d)?.parse().map_err(D::Error::custom)
    }
}

/// The same, possibly absent.
mod optional_text {
    use super::*;

    pub fn serialize<T: std::fmt::Display, S: Serializer>(
        value: &Option<T>,
        s: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => s.collect_str(value),
            None => s.serialize_none(),
        }
    }

    pub fn deserialize<'de, T, D>(d: D) -> Result<Option<T>, D::Error>
    where
        T: std::str::FromStr<Err = String>,
        D: Deserializer<'de>,
    {
        let text: Option<String> = Option::deserialize(d)?;
        text.map(|t| t.parse().map_err(D::Error::custom)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = "
name: small
data: {simulate: {samples: 100}}
ann: {checkpoint: a.pth}
convert:
  - {name: direct, timesteps: 4}
finetune:
  - {name: tuned, from: direct, timesteps: 4}
";

    fn error(set: &[&str]) -> String {
        let set: Vec<String> = set.iter().map(|s| s.to_string()).collect();
        Config::parse("x.yaml", SMALL, &set).unwrap_err().to_string()
    }

    #[test]
    fn what_is_written_is_read_back() {
        let config = Config::parse("x.yaml", SMALL, &["seed=7".into()]).unwrap();
        assert_eq!(config.seed, 7);
        let text = serde_yaml::to_string(&config).unwrap();
        let again = Config::parse("again", &text, &[]).unwrap();
        assert_eq!(text, serde_yaml::to_string(&again).unwrap());
    }

    #[test]
    fn settings_reach_lists_and_new_keys() {
        let set = ["convert.0.timesteps=8".to_string(), "convert.0.method=percentile:99.5".into()];
        let config = Config::parse("x.yaml", SMALL, &set).unwrap();
        assert_eq!(config.convert[0].timesteps, 8);
        assert_eq!(config.convert[0].method, Some(Method::Percentile(99.5)));
    }

    #[test]
    fn errors_name_their_place() {
        assert!(error(&["convert.0.timesteps=many"]).contains("convert[0].timesteps"));
        assert!(error(&["convert.0.preset=odd"]).contains("expected published or default"));
        assert!(error(&["ann.checkpont=b.pth"]).contains("checkpont"));
        assert!(error(&["convert.3.timesteps=1"]).contains("list of 1"));
        assert!(error(&["nothing"]).contains("path=value"));
        assert!(error(&["name.x=1"]).contains("no parts"));
        assert!(error(&["data.first_label=1"]).contains("there is none"));
        assert!(error(&["data={file: a.mat, first_label: 2}"]).contains("data.first_label: expected 0 or 1"));
        assert!(error(&["data={file: a.mat, scaling: raw}"]).contains("per-recording"));
        let both = error(&["finetune.0.from=nobody", "evaluate={batch_size: 0}"]);
        assert!(error(&["convert.0.name=../out"]).contains("convert[0].name"));
        assert!(both.contains("finetune[0].from") && both.contains("evaluate.batch_size"), "{both}");
    }
}
