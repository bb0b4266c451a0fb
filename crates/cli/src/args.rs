//! The command line.

use std::any::TypeId;
use std::path::PathBuf;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use escape_checkpoint::Selection;
use escape_convert::Method;
use escape_convert::readout::Gain;
use escape_data::{Axes, BadContacts, ReadOptions, Rescale, Split};
use escape_model::device::Request;
use escape_model::train::Balance;
use escape_network::arch::Architecture;
use escape_snn_core::encode::Encoding;
use escape_snn_core::rules::Preset;
use serde::{Deserialize, Serialize};

/// Turn ESCAPE-NET, a CNN that classifies nerve-cuff recordings, into a spiking network: convert a PyTorch
/// checkpoint, fine-tune it, count spikes, estimate energy, draw the figures.
#[derive(Parser)]
#[command(version, max_term_width = 100)]
pub struct Arguments {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Args)]
pub struct Global {
    /// Where to compute: auto, cpu, cuda or cuda:N
    #[arg(long, global = true, default_value = "auto", value_name = "DEVICE")]
    pub device: Request,
    /// CPU threads [default: all cores]
    #[arg(long, global = true, value_name = "N", value_parser = whole_up_to::<u32>(1, 4096))]
    pub threads: Option<u32>,
    /// Seed of everything random [default: 0, or what a configuration says]
    #[arg(long, global = true, value_name = "N", value_parser = whole::<u64>(0))]
    pub seed: Option<u64>,
    /// Print the result as JSON
    #[arg(long, global = true)]
    pub json: bool,
    /// No progress, no notes
    #[arg(long, global = true)]
    pub quiet: bool,
    /// Replace files and results that are there already, which are otherwise never touched
    #[arg(long, global = true)]
    pub force: bool,
}

/// A parser of whole numbers of at least `least`, which says in words what is expected.
fn whole<T: TryFrom<u64>>(least: u64) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static {
    whole_up_to(least, u64::MAX)
}

/// As [`whole`], with an upper bound.
fn whole_up_to<T: TryFrom<u64>>(
    least: u64,
    most: u64,
) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static {
    move |text| {
        let range = if most == u64::MAX { format!("at least {least}") } else { format!("{least} to {most}") };
        let number: i128 =
            text.trim().parse().map_err(|_| format!("expected a whole number, {range}, got {text}"))?;
        let fits = u64::try_from(number).ok().filter(|n| (least..=most).contains(n));
        fits.and_then(|n| T::try_from(n).ok()).ok_or_else(|| format!("expected {range}, got {number}"))
    }
}

/// A parser of positive numbers.
fn positive(text: &str) -> Result<f64, String> {
    number(text, "a positive number", |value| value > 0.0)
}

/// A parser of numbers of at least 0.
fn not_negative(text: &str) -> Result<f64, String> {
    number(text, "a number of at least 0", |value| value >= 0.0)
}

fn number(text: &str, expected: &str, fits: impl Fn(f64) -> bool) -> Result<f64, String> {
    let value: Option<f64> = text.trim().parse().ok();
    value
        .filter(|value| value.is_finite() && fits(*value))
        .ok_or_else(|| format!("expected {expected}, got {text}"))
}

impl Arguments {
    /// The command line of this process.
    pub fn read() -> Result<Self, clap::Error> {
        let matches = with_negative_numbers(Self::command()).try_get_matches()?;
        Self::from_arg_matches(&matches)
    }
}

/// Lets every option take -1 as a value, which is then refused for what it is instead of being taken for an option.
fn with_negative_numbers(command: clap::Command) -> clap::Command {
    command
        .mut_args(|arg| {
            let takes_value = arg.get_action().takes_values() && arg.get_long().is_some();
            // Neither -1,2 nor -1e-3 is a number to clap.
            let kind = arg.get_value_parser().type_id();
            let odd = arg.get_value_delimiter().is_some()
                || [TypeId::of::<f32>(), TypeId::of::<f64>()].iter().any(|number| kind == *number);
            arg.allow_negative_numbers(takes_value && !odd).allow_hyphen_values(takes_value && odd)
        })
        .mut_subcommands(with_negative_numbers)
}

#[derive(Subcommand)]
pub enum Command {
    /// The whole job on the shipped checkpoint and simulated recordings; takes minutes on two cores
    Demo(DemoArgs),
    /// The pipeline that a YAML file describes
    Run(RunArgs),
    /// Make, look at and translate recordings
    Data(DataArgs),
    /// Train an ANN
    Train(TrainArgs),
    /// ANN checkpoint to SNN checkpoint
    Convert(ConvertArgs),
    /// Accuracy, loss, confusion and activity of an ANN or SNN checkpoint
    Evaluate(EvaluateArgs),
    /// Surrogate-gradient fine-tuning of an SNN checkpoint
    Finetune(FinetuneArgs),
    /// Record every spike of one recording
    Spikes(SpikesArgs),
    /// Energy of a network from measured or given activity
    Energy(EnergyArgs),
    /// Tables, figures and one page from a run's recorded data; never loads a model
    Report(ReportArgs),
    /// What is in a checkpoint file; copies in other formats
    Checkpoint(CheckpointArgs),
    /// Time the engine on this machine
    Bench(BenchArgs),
}

#[derive(Args)]
pub struct DemoArgs {
    /// Folder for the results [default: runs/demo, or the next free number]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Change a setting of configs/demo.yaml, `evaluate.samples=100` say
    #[arg(long, value_name = "PATH=VALUE")]
    pub set: Vec<String>,
    /// Seed of the simulated nerve, `data.simulate.seed` of the configuration
    #[arg(long, value_name = "N", value_parser = whole::<u64>(0))]
    pub data_seed: Option<u64>,
    /// Continue an interrupted demo
    #[arg(long, conflicts_with = "force")]
    pub resume: bool,
}

#[derive(Args)]
pub struct RunArgs {
    /// YAML file; configs/demo.yaml explains every key
    pub config: PathBuf,
    /// Change one of its settings, `evaluate.samples=100` say
    #[arg(long, value_name = "PATH=VALUE")]
    pub set: Vec<String>,
    /// Seed of the simulated nerve, `data.simulate.seed` of the configuration
    #[arg(long, value_name = "N", value_parser = whole::<u64>(0))]
    pub data_seed: Option<u64>,
    /// Folder for the results [default: runs/NAME, or the next free number; with --resume the last that is there]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Continue an interrupted run; settings and inputs must be the same
    #[arg(long, conflicts_with = "force")]
    pub resume: bool,
}

/// How recordings are read.
#[derive(Args)]
pub struct ReadingArgs {
    #[command(flatten)]
    common: CommonReading,
    /// Samples of a recording's window, where a row of the file is a whole recording [default: what `samples` or
    /// `contacts` in the file say, otherwise 100]
    #[arg(long, visible_alias = "window", value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    samples: Option<u32>,
}

/// The same where `--samples` is a number of recordings.
#[derive(Args)]
pub struct WindowedReading {
    #[command(flatten)]
    common: CommonReading,
    /// Samples of a recording's window, where a row of the file is a whole recording [default: what `samples` or
    /// `contacts` in the file say, otherwise 100]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    window: Option<u32>,
}

#[derive(Args)]
struct CommonReading {
    /// What the dimensions of the recordings are, N recordings, C contacts, S samples, in the order of NumPy's shape or of
    /// MATLAB's size() [default: N,C,S in .npz, .npy and torch files; S,C,N in .mat, a column of whole recordings, contact
    /// after contact, which x(contacts, samples, recordings) is after reshape(permute(x, [2 1 3]), [], size(x, 3))]
    #[arg(long, value_name = "AXES")]
    axes: Option<Axes>,
    /// Name of the array of recordings, rat.trials say for a field of a structure: the split that is asked for (training
    /// where both are); or two with a comma, of the training and the test split
    #[arg(long, value_name = "NAME", value_delimiter = ',', requires = "y")]
    x: Vec<String>,
    /// Name of the array of labels, or two as --x
    #[arg(long, value_name = "NAME", value_delimiter = ',', requires = "x")]
    y: Vec<String>,
    /// Contacts that hold NaN or infinities, or one value throughout: refuse, zero or mean (of the neighbours); flat ones are
    /// noted only by refuse
    #[arg(long, default_value = "refuse", value_name = "HOW")]
    bad_contacts: BadContacts,
    /// Scale each recording to [-1, 1]: auto (files ending in _RAW, and where most recordings leave that range or are far
    /// smaller), none or per-recording
    #[arg(long, default_value = "auto", value_name = "HOW")]
    pub scaling: Rescale,
    /// Label of the first class, 0 or 1 [default: what the labels say]
    #[arg(long, value_name = "N", value_parser = whole_up_to::<u8>(0, 1))]
    pub first_label: Option<u8>,
    /// Leave out recordings that are constant, hold NaN or an infinity, or have a label that is no class
    #[arg(long)]
    pub drop_bad: bool,
}

impl CommonReading {
    fn options(&self, samples: Option<u32>) -> ReadOptions {
        ReadOptions {
            scaling: self.scaling,
            first_label: self.first_label,
            drop_bad: self.drop_bad,
            axes: self.axes,
            samples: samples.map(|n| n as usize),
            x: self.x.clone(),
            y: self.y.clone(),
            bad_contacts: self.bad_contacts,
        }
    }
}

impl ReadingArgs {
    pub fn options(&self) -> ReadOptions {
        self.common.options(self.samples)
    }
}

impl WindowedReading {
    pub fn options(&self) -> ReadOptions {
        self.common.options(self.window)
    }
}

/// What to take as the network from a checkpoint that is not the study's.
#[derive(Args, Default)]
pub struct WeightsArgs {
    /// Dictionary in the checkpoint that holds the weights, its key or keys joined by dots [default: `state_dict`, or
    /// the one there is]
    #[arg(long, value_name = "KEY")]
    pub weights: Option<String>,
    /// Rename weights: a whole name, or what stands before a dot in names (`conv1=features.0`); can be repeated
    #[arg(long, value_name = "OLD=NEW", value_parser = rename)]
    pub rename: Vec<(String, String)>,
    /// Leave tensors out: a whole name, or what stands before a dot in names; can be repeated
    #[arg(long, value_name = "NAME")]
    pub ignore: Vec<String>,
}

impl WeightsArgs {
    /// Whether nothing was asked for.
    pub fn is_empty(&self) -> bool {
        self.weights.is_none() && self.rename.is_empty() && self.ignore.is_empty()
    }

    pub fn selection(&self) -> Selection {
        Selection { weights: self.weights.clone(), rename: self.rename.clone(), ignore: self.ignore.clone() }
    }
}

/// `OLD=NEW` in its parts.
pub fn rename(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((old, new)) if !old.is_empty() => Ok((old.to_owned(), new.to_owned())),
        _ => Err("expected OLD=NEW, `conv1=features.0` say".to_owned()),
    }
}

#[derive(Args)]
pub struct DataArgs {
    #[command(subcommand)]
    pub command: DataCommand,
}

#[derive(Subcommand)]
pub enum DataCommand {
    /// Simulate recordings of the three classes
    Simulate {
        /// File to write, .npz or .mat
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// Settings of the simulator, YAML; configs/nerve.yaml explains all of them and has their defaults
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Recordings in all, of both splits [default: 28052, or what --config says]
        #[arg(long, value_name = "N", value_parser = whole::<usize>(1))]
        samples: Option<usize>,
        /// Number of the animal, from 1 on [default: 2, or what --config says]
        #[arg(long, value_name = "N", value_parser = whole::<u16>(1))]
        animal: Option<u16>,
        /// Which third of the session is for testing, 1 to 3 [default: 1, or what --config says]
        #[arg(long, value_name = "N", value_parser = whole::<usize>(1))]
        fold: Option<usize>,
        /// Draw nerve and recordings, with a page to open: DIR/report/index.html
        #[arg(long, value_name = "DIR")]
        page: Option<PathBuf>,
    },
    /// Shapes, classes and ranges of a file, and how it was understood
    Inspect {
        /// .mat, .npz, torch.save's .pt, or .npy files by one of them or their folder
        file: PathBuf,
        #[command(flatten)]
        reading: ReadingArgs,
        /// Draw the first recording of each class: .png, with .svg and the .csv that it is drawn from beside it
        #[arg(long, value_name = "FILE")]
        picture: Option<PathBuf>,
        /// Draw recordings, mean images and spectra, with a page to open: DIR/report/index.html
        #[arg(long, value_name = "DIR")]
        page: Option<PathBuf>,
    },
    /// Translate recordings
    Convert {
        /// .mat, .npz, torch.save's .pt, or .npy files by one of them or their folder
        from: PathBuf,
        /// .npz or .mat (level 5)
        to: PathBuf,
        #[command(flatten)]
        reading: ReadingArgs,
    },
}

/// The optimisers of the study's recipes.
#[derive(Clone, Copy, ValueEnum, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerName {
    Adam,
    Sgd,
}

#[derive(Args)]
pub struct TrainArgs {
    /// Recordings to train and test on
    #[arg(long, value_name = "FILE")]
    pub data: PathBuf,
    #[command(flatten)]
    pub reading: ReadingArgs,
    /// Folder for best.pth, last.pth and training.csv
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// modified, original, ig1 or ig2
    #[arg(long, default_value = "modified")]
    pub arch: Architecture,
    /// Take the convolutions over from this checkpoint of an earlier stage; of the same network all weights, and it is
    /// kept unless an epoch is better
    #[arg(long, value_name = "FILE")]
    pub init: Option<PathBuf>,
    #[command(flatten)]
    pub selection: WeightsArgs,
    /// Train the original network in its incremental stages, ig1, ig2 and full
    #[arg(long, conflicts_with_all = ["init", "arch"])]
    pub incremental: bool,
    /// published: the study's loss, a cross-entropy on top of the softmax; default: cross-entropy
    #[arg(long, default_value = "default")]
    pub preset: Preset,
    /// [default: adam for the modified network, sgd for the others]
    #[arg(long, value_enum)]
    pub optimizer: Option<OptimizerName>,
    /// Learning rate [default: 1e-3 (modified, and original after ig1), 1e-2 (ig1)]
    #[arg(long, value_parser = positive)]
    pub lr: Option<f64>,
    /// L2 penalty
    #[arg(long, default_value_t = 0.0, value_parser = not_negative)]
    pub weight_decay: f64,
    /// [default: 150 (modified and original), 25 (ig1, ig2)]
    #[arg(long, value_name = "N", value_parser = whole::<usize>(1))]
    pub epochs: Option<usize>,
    /// [default: 64 (modified), 50 (others)]
    #[arg(long, value_name = "N", value_parser = whole::<usize>(1))]
    pub batch_size: Option<usize>,
    /// Stop after this many epochs without a better accuracy [default: 15, none for the modified network]
    #[arg(long, value_name = "N", value_parser = whole::<usize>(1))]
    pub patience: Option<usize>,
    /// Recordings a class held out of training to judge epochs by (at most a fifth); 0: by the test set, as the study
    /// did for the modified network [default: 1000, 0 for the modified network with --preset published]
    #[arg(long, value_name = "N", value_parser = whole::<usize>(0))]
    pub validation: Option<usize>,
    /// Make up for classes of different frequency: weights (of the loss) or sampling (each class equally often)
    #[arg(long, value_name = "HOW")]
    pub balance: Option<Balance>,
    /// Continue an interrupted training; settings must be the same, but for --epochs and --patience
    #[arg(long, conflicts_with = "force")]
    pub resume: bool,
}

#[derive(Args)]
pub struct ConvertArgs {
    /// ANN checkpoint
    #[arg(long, value_name = "FILE")]
    pub checkpoint: PathBuf,
    #[command(flatten)]
    pub selection: WeightsArgs,
    /// Recordings to calibrate with
    #[arg(long, value_name = "FILE")]
    pub data: PathBuf,
    #[command(flatten)]
    pub reading: WindowedReading,
    /// train or test
    #[arg(long, default_value = "train")]
    pub split: Split,
    /// SNN checkpoint to write; .safetensors by that ending, otherwise as torch.save does
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// published: the study's threshold balancing; default: thresholds from the ANN's activations
    #[arg(long, default_value = "default")]
    pub preset: Preset,
    /// Timesteps to balance over (published) or to fit thresholds to (default), and to store [default: 1000
    /// (published), 4 (default)]
    #[arg(long, value_name = "T", value_parser = whole_up_to::<u32>(1, 100_000))]
    pub timesteps: Option<u32>,
    /// Calibration recordings, the first of the split
    #[arg(long, default_value_t = 32, value_name = "N", value_parser = whole::<usize>(1))]
    pub samples: usize,
    /// Thresholds from activations: max, percentile:P, or fit: the percentile of each layer that serves the next layer
    /// best after --timesteps [default: max (published), percentile:99.9, for a single timestep fit (default)]
    #[arg(long)]
    pub method: Option<Method>,
    /// Factor on every threshold
    #[arg(long, default_value_t = 1.0, value_parser = positive)]
    pub scale: f64,
    /// Factor on the last layer's weights, or auto: for networks whose small logits drown in what the published readout
    /// adds of its own [default: none, as in the study]
    #[arg(long, value_name = "G")]
    pub readout_gain: Option<Gain>,
}

/// Which engine simulates.
#[derive(Clone, Copy, ValueEnum, PartialEq, Eq)]
pub enum EngineName {
    /// The best for the network and device; dense, so far the only one
    Auto,
    /// Every synapse at every step
    Dense,
}

/// What every command that simulates a checkpoint shares.
#[derive(Args)]
pub struct SimulationArgs {
    /// Rules to simulate by [default: what the checkpoint names, otherwise default]
    #[arg(long)]
    pub preset: Option<Preset>,
    /// Timesteps [default: what the checkpoint names]
    #[arg(long, value_name = "T", value_parser = whole_up_to::<u32>(1, 100_000))]
    pub timesteps: Option<u32>,
    /// poisson or direct [default: what the checkpoint names, otherwise the preset's]
    #[arg(long)]
    pub encoder: Option<Encoding>,
    /// Which engine simulates
    #[arg(long, value_enum, default_value = "auto")]
    pub engine: EngineName,
}

/// What to call a network in a results folder.
#[derive(Args)]
pub struct NameArgs {
    /// What tables and figures call the network [default: ann, or the checkpoint's name; its folder's, for best.pth]
    #[arg(long, value_name = "NAME", requires = "out")]
    pub name: Option<String>,
}

#[derive(Args)]
pub struct EvaluateArgs {
    /// ANN or SNN checkpoint
    #[arg(long, value_name = "FILE")]
    pub checkpoint: PathBuf,
    #[command(flatten)]
    pub selection: WeightsArgs,
    /// Judge a checkpoint as an ANN although it holds thresholds, which the study adds to an ANN's file when it
    /// converts it
    #[arg(long, conflicts_with_all = ["timesteps", "encoder"])]
    pub ann: bool,
    /// Recordings
    #[arg(long, value_name = "FILE")]
    pub data: PathBuf,
    #[command(flatten)]
    pub reading: ReadingArgs,
    /// train or test
    #[arg(long, default_value = "test")]
    pub split: Split,
    /// Only the first N recordings
    #[arg(long, value_name = "N", value_parser = whole::<usize>(1))]
    pub limit: Option<usize>,
    /// Recordings simulated together
    #[arg(long, default_value_t = 32, value_name = "B", value_parser = whole::<u32>(1))]
    pub batch_size: u32,
    #[command(flatten)]
    pub simulation: SimulationArgs,
    /// Write logits and labels, .npz; those of an earlier evaluation are replaced
    #[arg(long, value_name = "FILE")]
    pub logits: Option<PathBuf>,
    /// Results folder to add to: what `energy --run` and `report` read, of this and of other networks
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    #[command(flatten)]
    pub name: NameArgs,
    /// Steps at which accuracy is recorded as well, up to T [default: 1, 2, 4, 8 and so on]
    #[arg(
        long,
        value_name = "T1,T2,..",
        value_delimiter = ',',
        requires = "out",
        value_parser = whole_up_to::<usize>(1, 100_000)
    )]
    pub also_at: Option<Vec<usize>>,
}

/// Surrogates by name.
#[derive(Clone, Copy, ValueEnum, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SurrogateName {
    Linear,
    Exponential,
}

/// Learning rate schedules by name.
#[derive(Clone, Copy, ValueEnum, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScheduleName {
    Constant,
    Linear,
}

#[derive(Args)]
pub struct FinetuneArgs {
    /// SNN checkpoint
    #[arg(long, value_name = "FILE")]
    pub checkpoint: PathBuf,
    #[command(flatten)]
    pub selection: WeightsArgs,
    /// Recordings to train and test on
    #[arg(long, value_name = "FILE")]
    pub data: PathBuf,
    #[command(flatten)]
    pub reading: ReadingArgs,
    /// Folder for best.pth, last.pth and finetune.csv
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    #[command(flatten)]
    pub simulation: SimulationArgs,
    /// Passes over the training recordings
    #[arg(long, default_value_t = 1, value_name = "E", value_parser = whole::<usize>(1))]
    pub epochs: usize,
    /// Recordings a step
    #[arg(long, default_value_t = 32, value_name = "B", value_parser = whole::<u32>(1))]
    pub batch_size: u32,
    /// Adam's learning rate
    #[arg(long, default_value_t = 1e-4, value_parser = positive)]
    pub lr: f64,
    /// L2 penalty
    #[arg(long, default_value_t = 0.0, value_parser = not_negative)]
    pub weight_decay: f64,
    /// What stands in for a spike's derivative
    #[arg(long, value_enum, default_value = "linear")]
    pub surrogate: SurrogateName,
    /// Height of the linear surrogate [default: 0.3 (published), 1 (default)]
    #[arg(long)]
    pub gamma: Option<f32>,
    /// Learn thresholds: true or false [default: false (published), true (default)]
    #[arg(long, value_name = "BOOL")]
    pub learn_threshold: Option<bool>,
    /// Learn leaks: true or false [default: false (published), true (default)]
    #[arg(long, value_name = "BOOL")]
    pub learn_leak: Option<bool>,
    /// How the learning rate goes: constant, or linear down to 0 [default: constant (published), linear
    /// (default)]
    #[arg(long, value_enum)]
    pub schedule: Option<ScheduleName>,
    /// Train in file order
    #[arg(long)]
    pub no_shuffle: bool,
    /// Stop after this many steps in all
    #[arg(long, value_name = "N", value_parser = whole::<usize>(1))]
    pub max_steps: Option<usize>,
    /// Recordings a class held out of training to judge epochs by (at most a fifth); 0: by the test set, as the study
    /// did [default: 0 (published), 1000 (default)]
    #[arg(long, value_name = "N", value_parser = whole::<usize>(0))]
    pub validation: Option<usize>,
    /// Make up for classes of different frequency: weights (of the loss) or sampling (each class equally often)
    #[arg(long, value_name = "HOW")]
    pub balance: Option<Balance>,
    /// Only the first N recordings of each split
    #[arg(long, value_name = "N", value_parser = whole::<usize>(1))]
    pub limit: Option<usize>,
    /// Continue an interrupted fine-tuning; settings must be the same, but for --epochs
    #[arg(long, conflicts_with = "force")]
    pub resume: bool,
}

#[derive(Args)]
pub struct SpikesArgs {
    /// SNN checkpoint
    #[arg(long, value_name = "FILE")]
    pub checkpoint: PathBuf,
    #[command(flatten)]
    pub selection: WeightsArgs,
    /// Recordings
    #[arg(long, value_name = "FILE")]
    pub data: PathBuf,
    #[command(flatten)]
    pub reading: ReadingArgs,
    /// train or test
    #[arg(long, default_value = "test")]
    pub split: Split,
    /// Index of the recording in the split
    #[arg(long, default_value_t = 0, value_name = "I", value_parser = whole::<usize>(0))]
    pub sample: usize,
    #[command(flatten)]
    pub simulation: SimulationArgs,
    /// Results folder to add to: recording.csv, input_spikes.csv and raster.csv, which `report` draws
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    #[command(flatten)]
    pub name: NameArgs,
}

#[derive(Args)]
pub struct EnergyArgs {
    /// Spikes per neuron of conv1, conv2, conv3 over the whole simulation
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "R1,R2,R3",
        required_unless_present = "run",
        conflicts_with = "run"
    )]
    pub rates: Option<Vec<f64>>,
    /// Folder with a measured activity.csv, of `run` or of `evaluate --out`
    #[arg(long, value_name = "DIR")]
    pub run: Option<PathBuf>,
}

#[derive(Args)]
pub struct ReportArgs {
    /// Folder that `run` made, or that `evaluate --out` and `spikes --out` filled
    pub run: PathBuf,
}

#[derive(Args)]
pub struct CheckpointArgs {
    #[command(subcommand)]
    pub command: CheckpointCommand,
}

#[derive(Subcommand)]
pub enum CheckpointCommand {
    /// What is in a file: format, hash, which network, every value with its statistics
    ///
    /// With --json: `path`, `format`, `bytes`, `sha256`; `network`, in words; `tensors`, how many weights were found
    /// (null where there are none); `notes`, what was decided to find them; `foreign`, the classes and functions that
    /// the file names, each with `name`, `called` and `would_run` (none was called here); and `content`, every value: a
    /// tensor as an object of `dtype`, `shape`, `min`, `max`, `mean`, `sd`, `zeros` and `not_finite`, an object of
    /// another program as one of `opaque` and `fields`.
    Inspect {
        /// .pth, .pt, .ckpt or .safetensors
        file: PathBuf,
        #[command(flatten)]
        selection: WeightsArgs,
    },
    /// Read a checkpoint and write it anew in the study's dictionary
    Convert {
        /// .pth, .pt, .ckpt (any PyTorch's) or .safetensors
        from: PathBuf,
        /// .pth, .pt, .ckpt or .safetensors
        to: PathBuf,
        #[command(flatten)]
        selection: WeightsArgs,
        /// Store weights in half precision
        #[arg(long)]
        half: bool,
        /// Leave the optimiser's state out
        #[arg(long)]
        without_optimizer: bool,
    },
}

#[derive(Args)]
pub struct BenchArgs {
    /// SNN checkpoint
    #[arg(long, value_name = "FILE")]
    pub checkpoint: PathBuf,
    #[command(flatten)]
    pub selection: WeightsArgs,
    /// Recordings
    #[arg(long, value_name = "FILE")]
    pub data: PathBuf,
    #[command(flatten)]
    pub reading: WindowedReading,
    #[command(flatten)]
    pub simulation: SimulationArgs,
    /// Recordings simulated together
    #[arg(long, default_value_t = 16, value_name = "B", value_parser = whole::<u32>(1))]
    pub batch_size: u32,
    /// Recordings in all
    #[arg(long, default_value_t = 64, value_name = "N", value_parser = whole::<usize>(1))]
    pub samples: usize,
    /// Time training steps instead of inference
    #[arg(long)]
    pub train: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        with_negative_numbers(Arguments::command()).debug_assert();
    }

    #[test]
    fn numbers_out_of_range_are_refused_in_words() {
        assert_eq!(whole::<usize>(1)("-1"), Err("expected at least 1, got -1".into()));
        assert_eq!(whole_up_to::<u32>(1, 4096)("4097"), Err("expected 1 to 4096, got 4097".into()));
        assert_eq!(whole::<u16>(1)("70000"), Err("expected at least 1, got 70000".into()));
        assert_eq!(whole::<usize>(0)("2.5"), Err("expected a whole number, at least 0, got 2.5".into()));
        assert_eq!(whole::<u64>(0)("18446744073709551615"), Ok(u64::MAX));
        assert_eq!(positive("-0.5"), Err("expected a positive number, got -0.5".into()));
        assert_eq!(positive("nan"), Err("expected a positive number, got nan".into()));
        assert_eq!((positive("1e-4"), not_negative("0")), (Ok(1e-4), Ok(0.0)));
    }
}
