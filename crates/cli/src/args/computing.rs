//! Of the commands that compute with a network.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use escape_checkpoint::Checkpoint;
use escape_convert::Method;
use escape_convert::readout::Gain;
use escape_data::{ReadOptions, Split};
use escape_model::train::Balance;
use escape_network::arch::Architecture;
use escape_snn_core::encode::Encoding;
use escape_snn_core::integer::Bits;
use escape_snn_core::rules::Preset;
use escape_snn_core::stored;
use escape_study::defaults::{OptimizerName, ScheduleName, SurrogateName};
use escape_study::load::{self, Asked};
use escape_study::session::usage;

use super::{CommonReading, ReadingArgs, WeightsArgs, named, not_negative, positive, whole, whole_up_to};

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

impl WindowedReading {
    pub fn options(&self) -> ReadOptions {
        self.common.options(self.window)
    }
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
    /// Output channels of every convolution of such a network [default: 64]
    #[arg(long, value_name = "N", value_parser = whole_up_to::<usize>(1, 65_536))]
    pub channels: Option<usize>,
    /// Features between its two linear layers [default: 256]
    #[arg(long, value_name = "N", value_parser = whole_up_to::<usize>(1, 1 << 20))]
    pub hidden: Option<usize>,
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
    #[arg(long, value_parser = named::<OptimizerName>(OptimizerName::NAMES))]
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
    /// Thresholds from activations: max, percentile:P of each layer, or channels:P of each channel of a convolution [default: max
    /// (published), channels:99.9, below 4 timesteps channels:99.5, for a single one channels:99 (default)]
    #[arg(long)]
    pub method: Option<Method>,
    #[command(flatten)]
    pub bits: BitsArgs,
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
    /// The usual one, so far the dense
    Auto,
    /// Every synapse at every step, in libtorch
    Dense,
    /// Only what spikes cause, on the CPU; the default preset's whole numbers, with the same spikes
    Event,
}

impl From<EngineName> for load::EngineName {
    fn from(name: EngineName) -> Self {
        match name {
            EngineName::Auto => Self::Auto,
            EngineName::Dense => Self::Dense,
            EngineName::Event => Self::Event,
        }
    }
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
    #[command(flatten)]
    pub bits: BitsArgs,
    /// Which engine simulates
    #[arg(long, value_enum, default_value = "auto")]
    pub engine: EngineName,
}

/// Bits of the default preset's whole numbers.
#[derive(Args)]
pub struct BitsArgs {
    /// Bits a weight (default preset) [default: what the checkpoint names, otherwise 8]
    #[arg(long, value_name = "B", value_parser = whole_up_to::<u32>(2, 8))]
    pub bits: Option<u32>,
    /// Bits of an input value (default preset) [default: what the checkpoint names, otherwise 10]
    #[arg(long, value_name = "B", value_parser = whole_up_to::<u32>(2, 16))]
    pub input_bits: Option<u32>,
}

impl BitsArgs {
    pub fn asked(&self) -> Bits {
        Bits { weight: self.bits, input: self.input_bits }
    }

    /// Those that are others than a checkpoint's own.
    pub fn other_than(&self, checkpoint: &Checkpoint) -> Bits {
        let own = stored::bits(checkpoint);
        Bits {
            weight: self.bits.filter(|bits| own.weight != Some(*bits)),
            input: self.input_bits.filter(|bits| own.input != Some(*bits)),
        }
    }
}

impl SimulationArgs {
    /// Refuses what only a simulation has a use for.
    pub fn refuse_for_ann(&self) -> anyhow::Result<()> {
        let given = [
            (self.encoder.is_some(), "--encoder: an ANN takes the recording as it is"),
            (self.engine != EngineName::Auto, "--engine: an ANN is not simulated"),
            (!self.bits.asked().is_empty(), "--bits and --input-bits: an ANN computes in float32"),
        ];
        match given.into_iter().find(|option| option.0) {
            Some((_, why)) => Err(usage(format!("{why}; leave it out"))),
            None => Ok(()),
        }
    }

    pub fn asked(&self) -> Asked {
        Asked {
            preset: self.preset,
            timesteps: self.timesteps.map(|t| t as usize),
            encoding: self.encoder,
            bits: self.bits.asked(),
            engine: self.engine.into(),
        }
    }
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
    #[arg(long, default_value = "linear", value_parser = named::<SurrogateName>(SurrogateName::NAMES))]
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
    #[arg(long, value_parser = named::<ScheduleName>(ScheduleName::NAMES))]
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
pub struct BenchArgs {
    /// ANN or SNN checkpoint
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
    /// How often all of them are timed, after one batch to warm up; the median counts
    #[arg(long, default_value_t = 5, value_name = "R", value_parser = whole::<usize>(1))]
    pub rounds: usize,
    /// Time training steps instead of inference, three a round
    #[arg(long)]
    pub train: bool,
}
