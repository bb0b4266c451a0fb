//! Of the commands that need libtorch.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use escape_convert::Method;
use escape_convert::readout::Gain;
use escape_data::Split;
use escape_model::train::Balance;
use escape_network::arch::Architecture;
use escape_snn_core::rules::Preset;
use escape_stdb::temperature::Temperature;
use escape_study::defaults::{OptimizerName, ScheduleName, SurrogateName};
use escape_study::session::usage;
use escape_study::training::teacher::Teaching;

use super::{
    BitsArgs, ReadingArgs, SimulationArgs, WeightsArgs, WindowedReading, between_0_and_1, named,
    not_negative, positive, whole, whole_up_to,
};

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
    /// YAML file of a run (configs/demo.yaml explains every key), a study (configs/study.yaml) or a search (configs/search.yaml)
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
    /// Continue an interrupted run, whose settings and inputs must be the same, or a study, which may have grown
    #[arg(long, conflicts_with = "force")]
    pub resume: bool,
    /// Cells of a study at once [default: as many as cores and memory allow]
    #[arg(long, value_name = "N", value_parser = whole_up_to::<usize>(1, 4096))]
    pub jobs: Option<usize>,
    #[command(flatten)]
    pub slurm: SlurmArgs,
}

/// What a cluster is asked for.
#[derive(Args)]
pub struct SlurmArgs {
    /// Submit a study to Slurm: job arrays, one task a cell, and a job for the report
    #[arg(long)]
    pub slurm: bool,
    /// Partition
    #[arg(long, value_name = "NAME", requires = "slurm")]
    pub partition: Option<String>,
    /// Time limit of a cell
    #[arg(long, value_name = "TIME", requires = "slurm")]
    pub time: Option<String>,
    /// Memory of a cell, 8G say [default: what it is expected to take]
    #[arg(long, value_name = "SIZE", requires = "slurm")]
    pub memory: Option<String>,
    /// GPUs of a cell
    #[arg(long, value_name = "N", requires = "slurm", value_parser = whole_up_to::<u32>(1, 64))]
    pub gpus: Option<u32>,
    /// Any other option of sbatch, `--sbatch=--account=lab` say; may be given several times
    #[arg(long, value_name = "OPTION", requires = "slurm", allow_hyphen_values = true)]
    pub sbatch: Vec<String>,
}

#[derive(Args)]
pub struct StudyArgs {
    #[command(subcommand)]
    pub command: StudyCommand,
}

#[derive(Subcommand)]
pub enum StudyCommand {
    /// How far each cell is
    Status {
        /// The study's folder
        folder: PathBuf,
    },
    /// Do one cell, as the tasks of a cluster do
    Cell {
        /// The study's folder
        folder: PathBuf,
        /// The cell, as `status` calls it
        cell: String,
        /// End when standard input does, which a process that started this one holds open
        #[arg(long, hide = true)]
        with_parent: bool,
    },
    /// Tables, figures and page from the cells that are done; times networks that were not timed
    Report {
        /// The study's folder
        folder: PathBuf,
    },
}

/// Another network to learn from.
#[derive(Args)]
pub struct TeacherArgs {
    /// Learn from this ANN too: a checkpoint, or a file with its logits for the training recordings
    #[arg(long, value_name = "FILE")]
    teacher: Option<PathBuf>,
    /// The teacher's part of the loss, 0 to 1
    #[arg(long, default_value_t = Teaching::share(), value_name = "S", requires = "teacher", value_parser = not_negative)]
    teacher_share: f64,
    /// Logits are divided by TAU before they are compared with the teacher's
    #[arg(long, default_value_t = Teaching::temperature(), value_name = "TAU", requires = "teacher", value_parser = positive)]
    temperature: f64,
}

impl TeacherArgs {
    /// Who teaches, if anybody.
    ///
    /// # Errors
    /// A part of the loss above 1.
    pub fn teaching(&self) -> anyhow::Result<Option<Teaching>> {
        let Some(checkpoint) = self.teacher.clone() else { return Ok(None) };
        let teaching = Teaching { checkpoint, share: self.teacher_share, temperature: self.temperature };
        match teaching.problem() {
            None => Ok(Some(teaching)),
            Some(problem) => Err(usage(format!("--teacher: {problem}"))),
        }
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
    /// kept unless an epoch is better, or it is still to be pruned
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
    /// How the learning rate goes: constant, or linear down to 0 at the last epoch
    #[arg(long, default_value = "constant", value_parser = named::<ScheduleName>(ScheduleName::NAMES))]
    pub schedule: ScheduleName,
    #[command(flatten)]
    pub teacher: TeacherArgs,
    /// Train it to compute with weights and activations of B bits, as `evaluate --bits B` does [default: not rounded]
    #[arg(long, value_name = "B", value_parser = whole_up_to::<u32>(2, 8))]
    pub bits: Option<u32>,
    /// Bits of an input value then [default: 10]
    #[arg(long, value_name = "B", value_parser = whole_up_to::<u32>(2, 16), requires = "bits")]
    pub input_bits: Option<u32>,
    /// Train it for T timesteps, with activations that a neuron can send in as many spikes; then `convert --method trained --timesteps T`
    #[arg(long, value_name = "T", value_parser = whole_up_to::<u32>(1, 1024), requires = "bits")]
    pub levels: Option<u32>,
    /// Set this share of the weights of every layer but the last to zero, the smallest ones, while it is trained: fewer weights and
    /// operations for hardware that skips zeros; then `finetune --keep-zeros` [default: none]
    #[arg(long, value_name = "SHARE", value_parser = between_0_and_1)]
    pub prune: Option<f64>,
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
    /// published: the study's threshold balancing; default: thresholds from the ANN's activations; toolbox, toolbox-zero,
    /// toolbox-mean: weight normalisation as in the SNN toolbox, reset by subtraction, to zero, or the mean of both
    #[arg(long, default_value = "default")]
    pub preset: Preset,
    /// Timesteps to balance over (published) or to fit thresholds to (default), and to store [default: 1000
    /// (published), 4 (default), 300 (toolbox)]
    #[arg(long, value_name = "T", value_parser = whole_up_to::<u32>(1, 100_000))]
    pub timesteps: Option<u32>,
    /// Calibration recordings, the first of the split
    #[arg(long, default_value_t = 32, value_name = "N", value_parser = whole::<usize>(1))]
    pub samples: usize,
    /// Thresholds from activations: max, percentile:P of each layer, or channels:P of each channel of a convolution; rate:R
    /// (published): those at which neurons fire R times a step, of the --timesteps whose spikes reach the readout, for few of
    /// them; trained: those that the ANN was trained with (train --levels) [default: max (published), channels:99.9, below 4
    /// timesteps channels:99.5, for a single one channels:99 (default)]
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
    /// Divide the readout by TAU before the loss judges it, or by what fits the network that is given (auto): a readout that sums over many
    /// steps is far too sure of itself, and only recordings that it gets wrong are learned from
    #[arg(long, default_value = "1", value_name = "TAU")]
    pub loss_temperature: Temperature,
    /// Add P to the loss for each million synaptic operations that the spikes of a recording cause: fewer spikes, for some accuracy
    #[arg(long, default_value_t = 0.0, value_name = "P", value_parser = not_negative)]
    pub operations_penalty: f64,
    /// Keep weights at zero that are zero in the checkpoint, those that were pruned say
    #[arg(long)]
    pub keep_zeros: bool,
    #[command(flatten)]
    pub teacher: TeacherArgs,
    /// Leave out the first N training recordings: those that the ANN has seen, say
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub skip: usize,
    /// Only the first N recordings of each split, of the training split after those left out
    #[arg(long, value_name = "N", value_parser = whole::<usize>(1))]
    pub limit: Option<usize>,
    /// Continue an interrupted fine-tuning; settings must be the same, but for --epochs
    #[arg(long, conflicts_with = "force")]
    pub resume: bool,
}
