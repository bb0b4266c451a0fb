//! The YAML file of `escape-snn run`: what the user says, checked as a whole before anything starts.
//!
//! configs/demo.yaml explains every key.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use escape_checkpoint::{Selection, description};
use escape_convert::readout::Gain;
use escape_convert::{Method, quantised};
use escape_data::nerve::NerveConfig;
use escape_data::{Axes, BadContacts, Classes, ReadOptions, Rescale};
use escape_energy::{ann_name, ann_of};
use escape_files::text::{DEEPEST, too_deep};
use escape_model::optim::Rule;
use escape_model::train::Balance;
use escape_network::arch::Architecture;
use escape_network::sequential::Sequential;
use escape_snn_core::encode::Encoding;
use escape_snn_core::integer::{Bits, Precision};
use escape_snn_core::rules::{Preset, Readout};
use escape_stdb::bptt;
use escape_stdb::finetune::Options;
use escape_stdb::surrogate::Surrogate;
use escape_stdb::temperature::Temperature;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_yaml::Value;

use crate::conversion::{Conversion, Wanted};
use crate::defaults::{Defaults, EngineName, OptimizerName, Route, ScheduleName, SurrogateName};
use crate::folder::{A_NAME, names_a_file};
use crate::session::usage;
use crate::training::ann::{Recipe, Width, rounding};
use crate::training::finetune::{adam, check_order, schedule, surrogate};
use crate::training::teacher::Teaching;

/// A run.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Names the run and its folder.
    pub name: String,
    /// Seed of everything random.
    #[serde(default)]
    pub seed: u64,
    /// Recordings.
    pub data: Data,
    /// The ANN; needed where a network is converted from it.
    #[serde(default)]
    pub ann: Ann,
    /// Routes from the ANN to spiking networks.
    #[serde(default)]
    pub convert: Vec<Convert>,
    /// Fine-tunings of those.
    #[serde(default)]
    pub finetune: Vec<Finetune>,
    /// The ANN quantised, which spiking networks are compared with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baselines: Option<Baselines>,
    /// How networks are judged.
    #[serde(default)]
    pub evaluate: Evaluate,
    /// Which recording to show spike by spike.
    #[serde(default)]
    pub spikes: Option<Spikes>,
    /// Whether to compute energies, and with which constants.
    #[serde(default)]
    pub energy: Energies,
    /// Whether to draw figures and a page.
    #[serde(default = "yes")]
    pub report: bool,
}

pub(crate) fn yes() -> bool {
    true
}

/// Where recordings come from: a file, or the simulator.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Data {
    /// A file of recordings, or a folder of `.npy` files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// The simulated nerve.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub simulate: Option<NerveConfig>,
    /// How a file is read, as the options of the same names.
    #[serde(default, skip_serializing_if = "is_default")]
    pub scaling: Rescale,
    /// Label of the first class, 0 or 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_label: Option<u8>,
    /// How many classes there are, or a list of their names.
    #[serde(default, skip_serializing_if = "is_default")]
    pub classes: Classes,
    /// Whether to leave bad recordings out.
    #[serde(default, skip_serializing_if = "is_default")]
    pub drop_bad: bool,
    /// What the dimensions are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub axes: Option<Axes>,
    /// Samples of a recording's window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub samples: Option<usize>,
    /// Names of the arrays of recordings.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "one_or_two")]
    pub x: Vec<String>,
    /// Names of the arrays of labels.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "one_or_two")]
    pub y: Vec<String>,
    /// What to do with contacts that hold nothing.
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
    /// As the readers take it.
    pub fn reading(&self) -> ReadOptions {
        ReadOptions {
            scaling: self.scaling,
            first_label: self.first_label,
            classes: self.classes.clone(),
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
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Ann {
    /// A checkpoint to load.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<PathBuf>,
    /// How to train one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train: Option<Train>,
    /// A description of the network where the checkpoint does not tell it; or of the one to train.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<Described>,
    /// What to take as the network from a checkpoint that is not the study's, as the options of the same names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<String>,
    /// Renamings of weights, OLD=NEW.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rename: Vec<String>,
    /// Tensors to leave out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ignore: Vec<String>,
}

/// The description of a network: a YAML file, or what would be in it.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(untagged)]
pub enum Described {
    /// The file.
    File(PathBuf),
    /// The description.
    Here(Value),
}

impl Described {
    fn file_mut(&mut self) -> Option<&mut PathBuf> {
        match self {
            Self::File(path) => Some(path),
            Self::Here(_) => None,
        }
    }
}

impl Ann {
    /// The file that describes the network, if one does.
    pub fn network_file(&self) -> Option<&PathBuf> {
        match self.network.as_ref()? {
            Described::File(path) => Some(path),
            Described::Here(_) => None,
        }
    }

    /// Whether there is one.
    pub fn is_there(&self) -> bool {
        self.checkpoint.is_some() || self.train.is_some()
    }

    /// The description of the network, if there is one.
    ///
    /// # Errors
    /// The file is not there, or describes no network.
    pub fn described(&self) -> Result<Option<Sequential>> {
        let read = |described: &Described| match described {
            Described::File(path) => description::read(path).map_err(|why| usage(why.to_string())),
            Described::Here(value) => {
                let text = serde_yaml::to_string(value).context("ann.network: cannot be written as YAML")?;
                description::parse("ann.network", &text).map_err(|why| usage(why.to_string()))
            }
        };
        self.network.as_ref().map(read).transpose()
    }

    /// What to take from the checkpoint.
    ///
    /// # Errors
    /// As [`Ann::described`].
    pub fn selection(&self) -> Result<Selection> {
        Ok(Selection {
            network: self.described()?,
            weights: self.weights.clone(),
            rename: self.rename.iter().filter_map(|text| Selection::renaming(text).ok()).collect(),
            ignore: self.ignore.clone(),
        })
    }
}

/// How an ANN is trained; what is not said is the network's usual recipe.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Train {
    /// The network, where `ann.network` describes no other.
    #[serde(with = "text", default = "modified")]
    pub arch: Architecture,
    /// Channels of each of its convolutions, if not as published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channels: Option<usize>,
    /// Its features between the linear layers, if not as published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hidden: Option<usize>,
    /// Its loss, and by what epochs are judged.
    #[serde(with = "text", default = "default_preset")]
    pub preset: Preset,
    /// Grow the original network in the study's three stages, each with its own recipe where nothing is said.
    #[serde(default, skip_serializing_if = "is_not")]
    pub incremental: bool,
    /// Passes over the training recordings, of each stage; at most the recipe's.
    #[serde(default)]
    pub epochs: Option<usize>,
    /// Adam or SGD; the network's usual one.
    #[serde(default)]
    pub optimizer: Option<OptimizerName>,
    /// Recordings a step.
    #[serde(default)]
    pub batch_size: Option<usize>,
    /// Learning rate.
    #[serde(default)]
    pub lr: Option<f64>,
    /// L2 penalty.
    #[serde(default)]
    pub weight_decay: f64,
    /// Epochs without a better accuracy to stop after.
    #[serde(default)]
    pub patience: Option<usize>,
    /// Recordings a class held out to judge epochs by; the test set judges them if 0.
    #[serde(default)]
    pub validation: Option<usize>,
    /// How classes of different frequency are made up for.
    #[serde(with = "optional_text", default)]
    pub balance: Option<Balance>,
    /// How the learning rate goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<ScheduleName>,
    /// Another network to learn from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub teacher: Option<Teaching>,
    /// Bits of weights and activations that the network is to compute with; not rounded if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bits: Option<u32>,
    /// Bits of an input value then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_bits: Option<u32>,
    /// Levels of an activation then: the timesteps of the spiking network that it is to become.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub levels: Option<u32>,
    /// Share of the weights of every layer but the last that become zero while it is trained; none if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prune: Option<f64>,
}

impl Train {
    /// The recipe, with its usual settings where nothing is said.
    ///
    /// # Errors
    /// A learning rate or weight decay that cannot be.
    pub fn recipe(&self) -> Result<Recipe> {
        self.recipe_of(self.arch)
    }

    /// The recipes of all stages, in order; where the network is trained at once, its own.
    ///
    /// # Errors
    /// As [`Train::recipe`].
    pub fn stages(&self) -> Result<Vec<Recipe>> {
        let stages =
            if self.incremental { &Architecture::STAGES[..] } else { std::slice::from_ref(&self.arch) };
        stages.iter().map(|arch| self.recipe_of(*arch)).collect()
    }

    fn recipe_of(&self, arch: Architecture) -> Result<Recipe> {
        let mut recipe = Recipe::of(arch).with_rule(self.optimizer, self.lr, self.weight_decay)?;
        recipe.width = Width { channels: self.channels, hidden: self.hidden };
        recipe.preset = self.preset;
        recipe.epochs = self.epochs.unwrap_or(recipe.epochs);
        recipe.batch_size = self.batch_size.unwrap_or(recipe.batch_size);
        recipe.patience = self.patience.or(recipe.patience);
        recipe.validation = self.validation;
        recipe.balance = self.balance;
        recipe.schedule = self.schedule.unwrap_or(recipe.schedule);
        recipe.teacher.clone_from(&self.teacher);
        recipe.rounding = rounding(self.bits, self.input_bits, self.levels)?;
        recipe.prune = self.prune;
        Ok(recipe)
    }
}

fn modified() -> Architecture {
    Architecture::Modified
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_not(flag: &bool) -> bool {
    !flag
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
    /// The rules.
    #[serde(with = "text", default = "default_preset")]
    pub preset: Preset,
    /// A spiking network of this preset that is there already, taken as it is instead of converting the ANN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<PathBuf>,
    /// Calibration recordings.
    #[serde(default = "calibration")]
    pub samples: usize,
    /// Steps to balance over (published preset).
    #[serde(default)]
    pub balance_timesteps: Option<usize>,
    /// Where thresholds come from.
    #[serde(with = "optional_text", default)]
    pub method: Option<Method>,
    /// Factor on every threshold.
    #[serde(default = "one")]
    pub scale: f64,
    /// Factor on the last layer's weights (published preset).
    #[serde(with = "optional_text", default, skip_serializing_if = "Option::is_none")]
    pub readout_gain: Option<Gain>,
    /// Bits a weight (default preset).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bits: Option<u32>,
    /// Bits of an input value (default preset).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_bits: Option<u32>,
    /// What the input is.
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
    /// How the ANN is converted, with every default filled in.
    ///
    /// # Errors
    /// Settings that do not fit each other.
    pub fn conversion(&self) -> Result<Conversion> {
        // Steps that the conversion itself works with: those to balance over, or those to fit thresholds to.
        let steps = match Defaults::of(self.preset).route {
            // Rates are those of the steps that are simulated.
            Route::Balancing => {
                let of_rates = matches!(self.method, Some(Method::Rate(_))).then_some(self.timesteps);
                self.balance_timesteps.or(of_rates)
            }
            Route::Activations => Some(self.timesteps),
        };
        let bits = Bits { weight: self.bits, input: self.input_bits };
        let wanted = Wanted { method: self.method, steps, readout_gain: self.readout_gain, bits };
        Conversion::new(self.preset, self.scale, wanted)
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
    /// What tables and figures call the network.
    pub name: String,
    /// Name of the converted network to start from.
    pub from: String,
    /// T.
    pub timesteps: usize,
    /// Passes over the training recordings.
    #[serde(default = "one_epoch")]
    pub epochs: usize,
    /// Recordings a step.
    #[serde(default = "batch")]
    pub batch_size: usize,
    /// Adam's learning rate.
    #[serde(default = "step_size")]
    pub lr: f64,
    /// L2 penalty.
    #[serde(default)]
    pub weight_decay: f64,
    /// How the learning rate goes.
    #[serde(default)]
    pub schedule: Option<ScheduleName>,
    /// What stands in for a spike's derivative.
    #[serde(default = "linear")]
    pub surrogate: SurrogateName,
    /// Height of the linear surrogate.
    #[serde(default)]
    pub gamma: Option<f32>,
    /// Whether thresholds are learned.
    #[serde(default)]
    pub learn_threshold: Option<bool>,
    /// Whether decays are learned.
    #[serde(default)]
    pub learn_leak: Option<bool>,
    /// Whether recordings come in random order.
    #[serde(default = "yes")]
    pub shuffle: bool,
    /// How classes of different frequency are made up for.
    #[serde(with = "optional_text", default)]
    pub balance: Option<Balance>,
    /// What the readout is divided by before the loss judges it; 1 if not given.
    #[serde(with = "optional_text", default, skip_serializing_if = "Option::is_none")]
    pub loss_temperature: Option<Temperature>,
    /// What the loss grows by for each million synaptic operations of a recording.
    #[serde(default, skip_serializing_if = "is_default")]
    pub operations_penalty: f64,
    /// Whether weights that are zero in the network that is given stay so.
    #[serde(default, skip_serializing_if = "is_default")]
    pub keep_zeros: bool,
    /// Another network to learn from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub teacher: Option<Teaching>,
    /// Steps to stop after, of all epochs.
    #[serde(default)]
    pub max_steps: Option<usize>,
    /// Recordings a class held out to judge epochs by; the test set judges them if 0.
    #[serde(default)]
    pub validation: Option<usize>,
    /// Training recordings to leave out, the first ones: those that the ANN has seen, say.
    #[serde(default, skip_serializing_if = "is_default")]
    pub skip: usize,
    /// Training recordings, if fewer than there are.
    #[serde(default)]
    pub samples: Option<usize>,
    /// Test recordings to judge each epoch by where `validation` is 0, if fewer than `evaluate.samples`.
    #[serde(default)]
    pub test_samples: Option<usize>,
}

impl Finetune {
    /// Everything that a fine-tuning under this preset's rules is done with.
    ///
    /// # Errors
    /// Settings that do not fit each other.
    pub fn options(&self, preset: Preset, encoding: Encoding, seed: u64) -> Result<Options> {
        let learn = Defaults::of(preset).learn_neurons;
        check_order(self.shuffle, self.balance)?;
        Ok(Options {
            rule: adam(self.lr, self.weight_decay)?,
            batch_size: self.batch_size,
            steps: self.timesteps,
            encoding,
            surrogate: surrogate(self.surrogate, self.gamma, preset)?,
            learn_thresholds: self.learn_threshold.unwrap_or(learn),
            learn_decays: self.learn_leak.unwrap_or(learn),
            shuffle: self.shuffle,
            balance: self.balance,
            temperature: 1.0,
            schedule: schedule(self.schedule, preset, self.epochs),
            operations_penalty: self.operations_penalty,
            keep_zeros: self.keep_zeros,
            seed,
        })
    }
}

fn linear() -> SurrogateName {
    SurrogateName::Linear
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

/// Whether to compute energies: true, false, or a file of constants to do it with.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(untagged, expecting = "expected true, false or {constants: FILE}")]
pub enum Energies {
    /// With the program's own constants, or not at all.
    Usual(bool),
    /// With those of a file.
    With(EnergyConstants),
}

/// A file of constants.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct EnergyConstants {
    /// The file, YAML.
    pub constants: PathBuf,
}

impl Default for Energies {
    fn default() -> Self {
        Self::Usual(true)
    }
}

impl Energies {
    /// Whether energies are computed.
    pub fn wanted(&self) -> bool {
        !matches!(self, Self::Usual(false))
    }

    /// The file of constants, if one is given.
    pub fn constants(&self) -> Option<&Path> {
        match self {
            Self::Usual(_) => None,
            Self::With(EnergyConstants { constants }) => Some(constants),
        }
    }

    fn constants_mut(&mut self) -> Option<&mut PathBuf> {
        match self {
            Self::Usual(_) => None,
            Self::With(EnergyConstants { constants }) => Some(constants),
        }
    }
}

/// The ANN quantised to a few bits, weights and activations alike.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Baselines {
    /// Numbers of bits, a network each: `ann-8bit` and so on.
    pub bits: Vec<u32>,
    /// Bits of an input value.
    #[serde(default = "converter")]
    pub input_bits: u32,
    /// Calibration recordings.
    #[serde(default = "baseline_calibration")]
    pub samples: usize,
    /// Where the largest activations come from.
    #[serde(with = "text", default = "baseline_method")]
    pub method: Method,
}

impl Baselines {
    /// Each network's name and numbers of bits.
    ///
    /// # Errors
    /// A number of bits that none has, in words.
    pub fn networks(&self) -> Result<Vec<(String, Precision)>, String> {
        let network = |&bits: &u32| Ok((ann_name(Some(bits), false), Precision::new(bits, self.input_bits)?));
        self.bits.iter().map(network).collect()
    }
}

fn converter() -> u32 {
    Precision::DEFAULT.input_bits()
}

fn baseline_calibration() -> usize {
    quantised::CALIBRATION
}

fn baseline_method() -> Method {
    quantised::METHOD
}

/// How networks are judged.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Evaluate {
    /// Test recordings, if fewer than there are.
    pub samples: Option<usize>,
    /// Recordings at once.
    pub batch_size: usize,
    /// The engine that simulates spiking networks.
    #[serde(with = "text")]
    pub engine: EngineName,
    /// Networks to judge, `ann` among them, if not all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub only: Option<Vec<String>>,
}

impl Default for Evaluate {
    fn default() -> Self {
        Self { samples: None, batch_size: batch(), engine: EngineName::Auto, only: None }
    }
}

/// Which recording of which network to show spike by spike.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Spikes {
    /// Its name.
    pub network: String,
    /// Index among the test recordings.
    #[serde(default)]
    pub sample: usize,
}

impl Config {
    /// Reads a file, with some of its settings replaced (`path.to.key=value`). Paths in the file are relative to
    /// the folder that it lies in, those among the replacements to the current one.
    ///
    /// # Errors
    /// All of exit code 2: the file is no YAML, a key is unknown or of the wrong type, or settings do not fit
    /// each other; the message gives YAML paths.
    pub fn read(path: &Path, set: &[String]) -> Result<Self> {
        Self::of(&path.display().to_string(), settings_of(path, set)?)
    }

    /// As [`Config::read`], from text that `source` names and whose paths are relative to `folder`.
    ///
    /// # Errors
    /// As [`Config::read`], but that there is a text already.
    pub fn parse(source: &str, text: &str, folder: &Path, set: &[String]) -> Result<Self> {
        Self::of(source, document(source, text, folder, set)?)
    }

    /// As [`Config::parse`], from settings whose paths are relative to the current folder.
    ///
    /// # Errors
    /// A key is unknown or of the wrong type, or settings do not fit each other.
    pub fn of(source: &str, settings: Value) -> Result<Self> {
        let mut config: Self = serde_path_to_error::deserialize(settings)
            .map_err(|e| usage(format!("{source}: at {}: {}", e.path(), e.inner())))?;
        let problems = config.problems();
        if problems.is_empty() {
            config.resolve()?;
            return Ok(config);
        }
        Err(usage(format!("{source}: {}", problems.join("; "))))
    }

    /// Fills in what follows from other settings, so that the file in the run folder says what is done, and makes
    /// paths independent of the current folder.
    fn resolve(&mut self) -> Result<()> {
        self.paths_mut().into_iter().try_for_each(independent)?;
        if let Some(simulate) = &mut self.data.simulate {
            simulate.seed.get_or_insert(STANDARD_NERVE);
        }
        if let Some(train) = &mut self.ann.train {
            let recipe = train.recipe()?;
            let (optimizer, lr) = match recipe.rule {
                Rule::Adam { lr, .. } => (OptimizerName::Adam, lr),
                Rule::Sgd { lr, .. } => (OptimizerName::Sgd, lr),
            };
            // Stages differ in these.
            if !train.incremental {
                train.epochs.get_or_insert(recipe.epochs);
                train.optimizer.get_or_insert(optimizer);
                train.lr.get_or_insert(lr);
                train.patience = recipe.patience;
            }
            train.batch_size.get_or_insert(recipe.batch_size);
            train.validation.get_or_insert(recipe.held_out());
        }
        for convert in self.convert.iter_mut().filter(|route| route.checkpoint.is_none()) {
            let conversion = convert.conversion()?;
            convert.encoder.get_or_insert(convert.preset.rules().encoding);
            convert.method.get_or_insert(conversion.method);
            if Defaults::of(convert.preset).route == Route::Balancing {
                convert.balance_timesteps.get_or_insert(conversion.steps);
            }
        }
        for job in &mut self.finetune {
            let Some(from) = self.convert.iter().find(|c| c.name == job.from) else { continue };
            let encoding = from.encoder.unwrap_or(from.preset.rules().encoding);
            let options = job.options(from.preset, encoding, 0)?;
            if let Surrogate::Linear { gamma } = options.surrogate {
                job.gamma.get_or_insert(gamma);
            }
            job.learn_threshold.get_or_insert(options.learn_thresholds);
            job.learn_leak.get_or_insert(options.learn_decays);
            job.schedule.get_or_insert(ScheduleName::of(options.schedule));
            job.validation.get_or_insert(Defaults::of(from.preset).held_out);
        }
        Ok(())
    }

    /// What the spiking networks are called.
    pub fn networks(&self) -> impl Iterator<Item = &str> {
        let converted = self.convert.iter().map(|route| route.name.as_str());
        converted.chain(self.finetune.iter().map(|job| job.name.as_str()))
    }

    /// Networks to learn from, each with its place.
    pub fn teachers(&self) -> impl Iterator<Item = (String, &Teaching)> {
        let of_train = self.ann.train.iter().filter_map(|train| train.teacher.as_ref());
        let of_train = of_train.map(|teaching| ("ann.train.teacher".to_owned(), teaching));
        let of_finetune = self.finetune.iter().enumerate();
        let of_finetune = of_finetune
            .filter_map(|(i, job)| Some((format!("finetune[{i}].teacher"), job.teacher.as_ref()?)));
        of_train.chain(of_finetune)
    }

    /// The files and folders that are read.
    fn paths_mut(&mut self) -> Vec<&mut PathBuf> {
        let Self { data, ann, convert, finetune, energy, .. } = self;
        let of_train = ann.train.iter_mut().filter_map(|train| train.teacher.as_mut());
        let of_finetune = finetune.iter_mut().filter_map(|job| job.teacher.as_mut());
        let teachers = of_train.chain(of_finetune).map(|teaching| &mut teaching.checkpoint);
        let networks = ann.checkpoint.iter_mut().chain(ann.network.as_mut().and_then(Described::file_mut));
        let converted = convert.iter_mut().filter_map(|route| route.checkpoint.as_mut());
        let networks = networks.chain(converted).chain(teachers);
        data.file.iter_mut().chain(networks).chain(energy.constants_mut()).collect()
    }

    /// Names what lies in a folder by its path there, with `at` before it, so that it is found when the folder has moved;
    /// [`Config::parse`] with the folder undoes it.
    pub(crate) fn relative_to(&mut self, folder: &Path, at: &str) {
        for path in self.paths_mut() {
            if let Ok(rest) = path.strip_prefix(folder) {
                *path = Path::new(at).join(rest);
            }
        }
    }

    /// Whether a network is to be judged, by the name that tables have for it.
    pub fn judges(&self, network: &str) -> bool {
        self.evaluate.only.as_ref().is_none_or(|names| names.iter().any(|name| name == network))
    }

    /// The settings by which two runs are compared. Where their inputs lie is none of them: they are known by hash.
    ///
    /// # Errors
    /// A value that JSON has no form for.
    pub fn comparable(&self) -> Result<serde_json::Value> {
        let mut same = self.clone();
        same.paths_mut().into_iter().for_each(|path| *path = PathBuf::from("a file"));
        Ok(serde_json::to_value(same)?)
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
        let needed = self.convert.is_empty() || self.convert.iter().any(|route| route.checkpoint.is_none());
        check(
            sources[0] != sources[1] || !sources[0] && !needed,
            "ann",
            "expected either checkpoint or train",
        );
        check(
            self.ann.checkpoint.is_some()
                || self.ann.weights.is_none() && self.ann.rename.is_empty() && self.ann.ignore.is_empty(),
            "ann",
            "weights, rename and ignore say what to take from a checkpoint, and there is none",
        );
        for (i, text) in self.ann.rename.iter().enumerate() {
            if let Err(why) = Selection::renaming(text) {
                check(false, &format!("ann.rename[{i}]"), &why);
            }
        }
        if let Some(Described::Here(_)) = &self.ann.network
            && let Err(why) = self.ann.described()
        {
            // It begins with that itself.
            check(false, "ann.network", format!("{why:#}").trim_start_matches("ann.network: "));
        }
        if let Some(train) = &self.ann.train {
            check(train.epochs != Some(0), "ann.train.epochs", "expected at least 1");
            check(
                !train.incremental || train.arch == Architecture::Original && self.ann.network.is_none(),
                "ann.train.incremental",
                "the original network's stages; say arch: original and no ann.network, or leave it out",
            );
            check(train.batch_size != Some(0), "ann.train.batch_size", "expected at least 1");
            check(train.channels != Some(0), "ann.train.channels", "expected at least 1");
            check(train.hidden != Some(0), "ann.train.hidden", "expected at least 1");
            if let Err(why) = rounding(train.bits, train.input_bits, train.levels) {
                check(false, "ann.train.bits", &why.to_string());
            }
            check(
                self.ann.network.is_none() || train.channels.is_none() && train.hidden.is_none(),
                "ann.train",
                "channels and hidden go with arch; ann.network describes a network whole",
            );
            if let Some(share) = train.prune {
                let fits = share > 0.0 && share < 1.0;
                let what = format!("expected a share of the weights, above 0 and below 1, got {share}");
                check(fits, "ann.train.prune", &what);
            }
            let possible = |x: f64| x > 0.0 && x.is_finite();
            check(train.lr.is_none_or(possible), "ann.train.lr", "expected a positive number");
            let decay = train.weight_decay;
            check(
                decay == 0.0 || possible(decay),
                "ann.train.weight_decay",
                "expected 0 or a positive number",
            );
        }
        if let Some(baselines) = &self.baselines {
            check(!baselines.bits.is_empty(), "baselines.bits", "expected at least one number of bits");
            let twice = (1..baselines.bits.len()).any(|i| baselines.bits[..i].contains(&baselines.bits[i]));
            check(!twice, "baselines.bits", "expected each number of bits once");
            if let Err(why) = baselines.networks() {
                check(false, "baselines", &why);
            }
            check(baselines.samples > 0, "baselines.samples", "expected at least 1");
            check(
                !matches!(baselines.method, Method::Rate(_) | Method::Trained),
                "baselines.method",
                "expected max, percentile:P or channels:P; an ANN's own thresholds are taken where it was trained with so many bits",
            );
        }
        for (at, teaching) in self.teachers() {
            if let Some(problem) = teaching.problem() {
                check(false, &at, &problem);
            }
        }
        let mut names = vec!["ann"];
        for (i, c) in self.convert.iter().enumerate() {
            let at = |key: &str| format!("convert[{i}].{key}");
            check(names_a_file(&c.name) && !names.contains(&c.name.as_str()), &at("name"), A_NAME);
            check(c.name == "ann" || ann_of(&c.name).is_none(), &at("name"), KEPT);
            check(c.timesteps > 0 && !c.also_at.contains(&0), &at("timesteps"), "expected at least 1");
            check(c.samples > 0, &at("samples"), "expected at least 1");
            check(c.balance_timesteps != Some(0), &at("balance_timesteps"), "expected at least 1");
            let balanced = c.balance_timesteps.is_none() || Defaults::of(c.preset).route == Route::Balancing;
            check(balanced, &at("balance_timesteps"), "the published preset's; leave it out");
            check(c.scale > 0.0 && c.scale.is_finite(), &at("scale"), "expected a positive number");
            check(c.test_samples != Some(0), &at("test_samples"), "expected at least 1");
            let made = c.balance_timesteps.is_some()
                || c.method.is_some()
                || c.scale != 1.0
                || c.readout_gain.is_some()
                || c.bits.is_some()
                || c.input_bits.is_some()
                || c.encoder.is_some();
            check(
                c.checkpoint.is_none() || !made,
                &at("checkpoint"),
                "a network that is there already is taken as it is; leave out how it is converted (balance_timesteps, method, \
                 scale, readout_gain, bits, input_bits, encoder)",
            );
            let plain = c.readout_gain.is_none() || c.preset.rules().readout == Readout::Spiking;
            check(plain, &at("readout_gain"), "the published preset's; leave it out");
            names.push(&c.name);
        }
        for (i, f) in self.finetune.iter().enumerate() {
            let at = |key: &str| format!("finetune[{i}].{key}");
            check(names_a_file(&f.name) && !names.contains(&f.name.as_str()), &at("name"), A_NAME);
            check(f.name == "ann" || ann_of(&f.name).is_none(), &at("name"), KEPT);
            let known = self.convert.iter().any(|c| c.name == f.from);
            check(known, &at("from"), &format!("no conversion is called '{}'", f.from));
            check(f.timesteps > 0, &at("timesteps"), "expected at least 1");
            check(f.epochs > 0, &at("epochs"), "expected at least 1");
            check(f.batch_size > 0, &at("batch_size"), "expected at least 1");
            check(f.lr > 0.0 && f.lr.is_finite(), &at("lr"), "expected a positive number");
            let decay = f.weight_decay;
            check(decay >= 0.0 && decay.is_finite(), &at("weight_decay"), "expected 0 or a positive number");
            let height =
                f.gamma.is_none_or(|g| g > 0.0 && g.is_finite() && f.surrogate == SurrogateName::Linear);
            check(height, &at("gamma"), "expected a positive number, the height of the linear surrogate");
            let penalty = f.operations_penalty;
            check(
                penalty >= 0.0 && penalty.is_finite(),
                &at("operations_penalty"),
                "expected 0 or a positive number",
            );
            check(f.max_steps != Some(0), &at("max_steps"), "expected at least 1");
            let drawn = f.shuffle || f.balance != Some(Balance::Sampling);
            check(drawn, &at("shuffle"), "balanced sampling draws recordings in an order of its own");
            check(f.samples != Some(0) && f.test_samples != Some(0), &at("samples"), "expected at least 1");
            let from = self.convert.iter().find(|c| c.name == f.from);
            if let Some(why) = from.and_then(|c| bptt::check(&c.preset.rules()).err()) {
                check(false, &at("from"), &why);
            }
            let judges = f.validation.or(from.map(|c| Defaults::of(c.preset).held_out));
            check(
                f.test_samples.is_none() || judges == Some(0) || from.is_none(),
                &at("test_samples"),
                "held-out recordings judge the epochs; leave it out, or let the test recordings judge with validation: 0",
            );
            names.push(&f.name);
        }
        check(self.evaluate.samples != Some(0), "evaluate.samples", "expected at least 1");
        check(self.evaluate.batch_size > 0, "evaluate.batch_size", "expected at least 1");
        for name in self.evaluate.only.iter().flatten() {
            let there = names.contains(&name.as_str()) && (name != "ann" || self.ann.is_there());
            check(there, "evaluate.only", &format!("no network is called '{name}'"));
        }
        if let Some(spikes) = &self.spikes {
            let known = spikes.network != "ann" && names.contains(&spikes.network.as_str());
            check(known, "spikes.network", &format!("no spiking network is called '{}'", spikes.network));
        }
        found
    }
}

/// Seed of the simulated nerve unless told otherwise: that of the standard set, which the shipped checkpoints were
/// trained on. A run's own seed is another, so that repeats of it judge networks on one animal.
pub(crate) const STANDARD_NERVE: u64 = 1;
/// Of a spiking network that is called like an ANN.
const KEPT: &str = "names of this form are kept for the ANNs that spiking networks are compared with";
/// Bytes of the largest configuration. The parser takes time that grows with their square.
const LARGEST: u64 = 1 << 20;

/// The settings of a configuration file, of a run or of a study, as [`Config::read`] takes them.
///
/// # Errors
/// The file cannot be read, is larger than any configuration or no YAML, or a replacement has no place in it.
pub fn settings_of(path: &Path, set: &[String]) -> Result<Value> {
    let size = std::fs::metadata(path).map_or(0, |m| m.len());
    if size > LARGEST {
        return Err(usage(format!(
            "{}: expected a configuration of at most {LARGEST} bytes, got {size}; name the YAML file of a run",
            path.display()
        )));
    }
    let text = std::fs::read_to_string(path).map_err(|why| {
        usage(format!(
            "{}: the configuration cannot be read: {why}; name the YAML file of a run or study",
            path.display()
        ))
    })?;
    document(&path.display().to_string(), &text, path.parent().unwrap_or(Path::new("")), set)
}

/// The settings of a configuration's text, whose paths are relative to `folder`, some of them replaced.
///
/// # Errors
/// The text is no YAML, or there is nothing to replace.
fn document(source: &str, text: &str, folder: &Path, set: &[String]) -> Result<Value> {
    if too_deep(text) {
        return Err(usage(format!("{source}: nested more than {DEEPEST} levels deep; no configuration is")));
    }
    let mut value: Value =
        serde_yaml::from_str(text).map_err(|e| usage(format!("{source}: no valid YAML: {e}")))?;
    for (section, keys) in [
        ("data", &["file"][..]),
        ("ann", &["checkpoint"]),
        ("ann", &["network"]),
        ("ann", &["train", "teacher", "checkpoint"]),
        ("convert", &["checkpoint"]),
        ("finetune", &["teacher", "checkpoint"]),
        ("energy", &["constants"]),
    ] {
        // A run has one ANN, a study may have several.
        let entries: Vec<&mut Value> = match value.get_mut(section) {
            Some(Value::Sequence(entries)) => entries.iter_mut().collect(),
            entry => entry.into_iter().collect(),
        };
        for entry in entries {
            let found = keys.iter().try_fold(entry, |value, key| value.get_mut(key));
            if let Some(Value::String(path)) = found {
                *path = folder.join(&*path).display().to_string();
            }
        }
    }
    for setting in set {
        replace(&mut value, setting).map_err(|why| usage(format!("--set {setting}: {why}")))?;
    }
    Ok(value)
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

/// Makes a path independent of the current folder.
fn independent(path: &mut PathBuf) -> std::io::Result<()> {
    *path = path.canonicalize().or_else(|_| std::path::absolute(&*path))?;
    Ok(())
}

/// What stands for a value that has a name on the command line; some are numbers there, which need no quotes here.
#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a name or a number")]
enum Written {
    Name(String),
    Number(f64),
}

impl Written {
    fn parsed<T: std::str::FromStr<Err = String>>(self) -> Result<T, String> {
        match self {
            Self::Name(text) => text.parse(),
            Self::Number(number) => number.to_string().parse(),
        }
    }
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
        Written::deserialize(d)?.parsed().map_err(D::Error::custom)
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
        let written: Option<Written> = Option::deserialize(d)?;
        written.map(|w| w.parsed().map_err(D::Error::custom)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use escape_model::optim::Schedule;

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
        Config::parse("x.yaml", SMALL, Path::new(""), &set).unwrap_err().to_string()
    }

    #[test]
    fn what_is_written_is_read_back() {
        let config = Config::parse("x.yaml", SMALL, Path::new(""), &["seed=7".into()]).unwrap();
        assert_eq!(config.seed, 7);
        let text = serde_yaml::to_string(&config).unwrap();
        let again = Config::parse("again", &text, Path::new(""), &[]).unwrap();
        assert_eq!(text, serde_yaml::to_string(&again).unwrap());
        // Studies of before have the same cells.
        assert!(!text.contains("keep_zeros"), "{text}");
    }

    #[test]
    fn weights_are_pruned_by_a_share_and_kept_at_zero() {
        let set =
            ["ann={train: {epochs: 3, prune: 0.5}}".to_string(), "finetune.0.keep_zeros=true".to_string()];
        let config = Config::parse("x.yaml", SMALL, Path::new(""), &set).unwrap();
        assert_eq!(config.ann.train.as_ref().unwrap().recipe().unwrap().prune, Some(0.5));
        assert!(config.finetune[0].options(Preset::Default, Encoding::Direct, 0).unwrap().keep_zeros);
        let comparable = config.comparable().unwrap();
        assert_eq!(comparable["ann"]["train"]["prune"], 0.5);
        assert_eq!(comparable["finetune"][0]["keep_zeros"], true);
        for share in ["0", "1", "-0.1", ".nan"] {
            let why = error(&[&format!("ann={{train: {{epochs: 3, prune: {share}}}}}")]);
            assert!(
                why.contains("ann.train.prune: expected a share of the weights, above 0 and below 1, got"),
                "{why}"
            );
        }
    }

    #[test]
    fn how_to_convert_is_resolved() {
        let published = "convert.0={name: direct, preset: published, timesteps: 4}".to_string();
        let text = |set: &[String]| {
            serde_yaml::to_string(&Config::parse("x.yaml", SMALL, Path::new(""), set).unwrap()).unwrap()
        };
        assert!(text(&[]).contains("method: channels:99.9"));
        assert!(text(&["convert.0.timesteps=1".into()]).contains("method: channels:99\n"));
        let resolved = text(std::slice::from_ref(&published));
        assert!(
            resolved.contains("method: max") && resolved.contains("balance_timesteps: 1000"),
            "{resolved}"
        );
        // What does not fit is refused before anything starts.
        assert!(
            error(&[&published, "convert.0.method=channels:99"])
                .contains("expected max, percentile:P or rate:R")
        );
    }

    #[test]
    fn settings_reach_lists_and_new_keys() {
        let set = ["convert.0.timesteps=8".to_string(), "convert.0.method=percentile:99.5".into()];
        let config = Config::parse("x.yaml", SMALL, Path::new(""), &set).unwrap();
        assert_eq!(config.convert[0].timesteps, 8);
        assert_eq!(config.convert[0].method, Some(Method::Percentile(99.5)));
    }

    #[test]
    fn errors_name_their_place() {
        assert!(error(&["convert.0.timesteps=many"]).contains("convert[0].timesteps"));
        assert!(error(&["convert.0.preset=odd"]).contains("expected one of default, published, toolbox"));
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

    #[test]
    fn baselines_and_constants_are_checked() {
        let set = ["baselines={bits: [8, 3]}".to_string(), "energy={constants: my.yaml}".into()];
        let config = Config::parse("x.yaml", SMALL, Path::new("/there"), &set).unwrap();
        let names: Vec<String> =
            config.baselines.as_ref().unwrap().networks().unwrap().into_iter().map(|n| n.0).collect();
        assert_eq!(names, ["ann-8bit", "ann-3bit"]);
        let here = std::env::current_dir().unwrap();
        assert_eq!(config.energy.constants(), Some(&*here.join("my.yaml")));
        let text = SMALL.to_owned() + "energy: {constants: my.yaml}";
        let config = Config::parse("x.yaml", &text, Path::new("/there"), &[]).unwrap();
        assert_eq!(config.energy.constants(), Some(Path::new("/there/my.yaml")));
        assert!(error(&["baselines={bits: [9]}"]).contains("expected 2 to 8, got 9"));
        assert!(error(&["baselines={bits: []}"]).contains("baselines.bits: expected at least one"));
        assert!(error(&["baselines={bits: [4, 8, 4]}"]).contains("each number of bits once"));
        assert!(error(&["baselines={bits: [8], samples: 0}"]).contains("baselines.samples"));
        assert!(error(&["baselines={bits: [8], method: trained}"]).contains("baselines.method"));
        assert!(error(&["energy=maybe"]).contains("expected true, false or {constants: FILE}"));
        assert!(error(&["convert.0.name=ann-8bit"]).contains("convert[0].name: names of this form are kept"));
    }

    #[test]
    fn numbers_need_no_quotes_where_names_may_stand() {
        let of = |set: &str| Config::parse("x.yaml", SMALL, Path::new(""), &[set.to_owned()]).unwrap();
        for (written, read) in
            [("5", Temperature::Is(5.0)), ("0.5", Temperature::Is(0.5)), ("auto", Temperature::Auto)]
        {
            let config = of(&format!("finetune.0.loss_temperature={written}"));
            assert_eq!(config.finetune[0].loss_temperature, Some(read));
        }
        for wrong in ["warm", "-1", "[5]", ".nan"] {
            let why = error(&[&format!("finetune.0.loss_temperature={wrong}")]);
            assert!(why.contains("finetune[0].loss_temperature: expected"), "{why}");
        }
    }

    #[test]
    fn settings_without_effect_are_refused() {
        let balanced = error(&["convert.0.balance_timesteps=10"]);
        assert!(balanced.contains("convert[0].balance_timesteps: the published preset's"), "{balanced}");
        let judged = error(&["finetune.0.test_samples=10"]);
        assert!(judged.contains("finetune[0].test_samples: held-out recordings judge"), "{judged}");
        for judge in ["finetune.0.validation=0", "convert.0.preset=published"] {
            let set = ["finetune.0.test_samples=10".to_string(), judge.to_string()];
            assert!(Config::parse("x.yaml", SMALL, Path::new(""), &set).is_ok(), "{judge}");
        }
        assert!(error(&["ann={train: {epochs: 1}, ignore: [x]}"]).contains("there is none"));
        let zero = error(&["convert.0.preset=toolbox-zero"]);
        assert!(
            zero.contains("finetune[0].from: the toolbox-zero preset resets potentials to zero"),
            "{zero}"
        );
    }

    #[test]
    fn paths_in_a_file_are_relative_to_it_and_given_ones_to_the_current_folder() {
        let here = std::env::current_dir().unwrap();
        let config = Config::parse("x.yaml", SMALL, Path::new("/there/configs"), &[]).unwrap();
        assert_eq!(config.ann.checkpoint.as_deref(), Some(Path::new("/there/configs/a.pth")));
        let set = ["ann.checkpoint=b.pth".to_string(), "data={file: c.mat}".into()];
        let config = Config::parse("x.yaml", SMALL, Path::new("/there"), &set).unwrap();
        assert_eq!(config.ann.checkpoint, Some(here.join("b.pth")));
        assert_eq!(config.data.file, Some(here.join("c.mat")));
    }

    #[test]
    fn what_follows_from_other_settings_is_filled_in() {
        let set = ["convert.0.preset=published".to_string(), "ann={train: {epochs: 3}}".into()];
        let config = Config::parse("x.yaml", SMALL, Path::new(""), &set).unwrap();
        let tuned = &config.finetune[0];
        assert_eq!((tuned.validation, tuned.gamma, tuned.learn_leak), (Some(0), Some(0.3), Some(false)));
        let train = config.ann.train.as_ref().unwrap();
        assert_eq!((train.lr, train.batch_size, train.validation), (Some(1e-3), Some(64), Some(1000)));
        assert_eq!(config.data.simulate.as_ref().unwrap().seed, Some(1));
        let config = Config::parse("x.yaml", SMALL, Path::new(""), &["seed=9".into()]).unwrap();
        assert_eq!(config.data.simulate.as_ref().unwrap().seed, Some(1), "a run's seed is not the nerve's");
        assert_eq!(config.finetune[0].validation, Some(1000));
    }

    #[test]
    fn each_stage_of_the_original_network_has_its_own_recipe() {
        let of = |train: &str| {
            let config = Config::parse("x.yaml", SMALL, Path::new(""), &[format!("ann={{train: {train}}}")]);
            config.unwrap().ann.train.unwrap()
        };
        let told = |train: &Train| -> Vec<_> {
            let stages = train.stages().unwrap();
            stages.iter().map(|r| (r.name(), r.epochs, r.rule, r.patience)).collect()
        };
        let grown = of("{arch: original, incremental: true, preset: published}");
        let (fast, slow) = (Rule::sgd(1e-2), Rule::sgd(1e-3));
        let wanted = [("ig1", 25, fast), ("ig2", 25, slow), ("original", 150, slow)];
        let wanted = wanted.map(|(name, epochs, rule)| (name.to_owned(), epochs, rule, Some(15)));
        assert_eq!(told(&grown), wanted);
        assert_eq!((grown.epochs, grown.lr, grown.validation), (None, None, Some(1000)));
        let shorter = of("{arch: original, incremental: true, epochs: 3, patience: 2}");
        assert!(told(&shorter).iter().all(|stage| (stage.1, stage.3) == (3, Some(2))));
        // At once, and the usual number of epochs.
        let modified = of("{preset: published}");
        assert_eq!((modified.epochs, modified.validation), (Some(150), Some(0)));
        assert_eq!(told(&modified).len(), 1);
        assert!(!serde_yaml::to_string(&modified).unwrap().contains("incremental"));
        let why = error(&["ann={train: {incremental: true}}"]);
        assert!(why.contains("ann.train.incremental: the original network's stages"), "{why}");
    }

    #[test]
    fn fine_tuning_takes_the_options_of_the_command() {
        let set =
            ["finetune.0={name: t, from: direct, timesteps: 2, surrogate: exponential, schedule: constant, \
                    balance: sampling, weight_decay: 0.1, max_steps: 3, validation: 5}"
                .to_string()];
        let config = Config::parse("x.yaml", SMALL, Path::new(""), &set).unwrap();
        let options = config.finetune[0].options(Preset::Default, Encoding::Direct, 0).unwrap();
        assert_eq!((options.surrogate.name(), options.schedule), ("exponential", Schedule::Constant));
        assert_eq!((options.balance, config.finetune[0].validation), (Some(Balance::Sampling), Some(5)));
        assert!(error(&["finetune.0.balance=classes"]).contains("expected weights or sampling"));
        assert!(error(&["finetune.0.gamma=-1"]).contains("finetune[0].gamma"));
    }

    #[test]
    fn depth_is_refused_at_once() {
        let start = std::time::Instant::now();
        for text in ["[".repeat(100_000), "{a: ".repeat(100_000), "- ".repeat(100_000), "? ".repeat(100_000)]
        {
            let why = Config::parse("deep.yaml", &text, Path::new(""), &[]).unwrap_err().to_string();
            assert!(why.contains("levels deep"), "{why}");
        }
        let steps: String = (0..400).map(|i| format!("{}a:\n", " ".repeat(i * 6))).collect();
        assert!(Config::parse("deep.yaml", &steps, Path::new(""), &[]).is_err());
        assert!(start.elapsed().as_secs() < 5);
        assert!(!too_deep(&format!("a: [{}]  # [[[\n# {{", "[1], ".repeat(500))));
    }
}
