//! The command line.

#[cfg(not(feature = "libtorch"))]
mod absent;
#[cfg(feature = "libtorch")]
mod computing;
mod simulating;

use std::any::TypeId;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use escape_checkpoint::Selection;
use escape_data::{Axes, BadContacts, Classes, ReadOptions, Rescale};
#[cfg(feature = "libtorch")]
use escape_model::device::Request;
use escape_network::sequential::Sequential;

#[cfg(not(feature = "libtorch"))]
pub use absent::*;
#[cfg(feature = "libtorch")]
pub use computing::*;
pub use simulating::*;

/// Turn ESCAPE-NET, a CNN that classifies nerve-cuff recordings, into a spiking network: convert a PyTorch
/// checkpoint, fine-tune it, count spikes, estimate energy, draw the figures.
#[derive(Parser)]
#[command(version, max_term_width = 100)]
#[cfg_attr(
    not(feature = "libtorch"),
    command(
        after_help = "Built without libtorch: spiking networks are simulated by the event engine; demo, run, search, train, convert \
                      and finetune are refused"
    )
)]
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

/// A parser of the files that describe networks.
fn description(path: &str) -> Result<Sequential, String> {
    escape_checkpoint::description::read(Path::new(path)).map_err(|why| why.to_string())
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

/// A parser of the names that stand for members of an enum, which the help lists.
fn named<T: FromStr<Err = String> + Clone + Send + Sync + 'static>(
    names: &'static [&'static str],
) -> impl TypedValueParser<Value = T> {
    PossibleValuesParser::new(names).try_map(|name| name.parse())
}

/// A parser of positive numbers.
#[cfg(feature = "libtorch")]
fn positive(text: &str) -> Result<f64, String> {
    number(text, "a positive number", |value| value > 0.0)
}

/// A parser of numbers of at least 0.
#[cfg(feature = "libtorch")]
fn not_negative(text: &str) -> Result<f64, String> {
    number(text, "a number of at least 0", |value| value >= 0.0)
}

/// A parser of numbers above 0 and below 1.
#[cfg(feature = "libtorch")]
fn between_0_and_1(text: &str) -> Result<f64, String> {
    number(text, "a number above 0 and below 1", |value| value > 0.0 && value < 1.0)
}

#[cfg(feature = "libtorch")]
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
            if arg.get_long().is_none() {
                return arg;
            }
            let takes_value = arg.get_action().takes_values();
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
    /// The pipeline that a YAML file describes, or a whole study
    Run(RunArgs),
    /// Networks of a space of settings, trained, converted and fine-tuned: which is the most accurate for how much energy
    Search(RunArgs),
    /// A study of many runs: how far it is, its tables and its page
    Study(StudyArgs),
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
    Stream(StreamArgs),
    Export(ExportArgs),
    /// Energy of a network from measured or given activity
    Energy(EnergyArgs),
    /// Tables, figures and one page from a run's recorded data; never loads a model
    Report(ReportArgs),
    /// What is in a checkpoint file; copies in other formats
    Checkpoint(CheckpointArgs),
    /// Time the engine on this machine
    Bench(BenchArgs),
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
    /// How many classes there are, or their names in the order of their labels, with commas between them [default: those of
    /// the network that is given, otherwise the nerve's 3]
    #[arg(long, value_name = "K|NAME,...")]
    pub classes: Option<Classes>,
    /// Leave out recordings that are constant, hold NaN or an infinity, or have a label that is no class
    #[arg(long)]
    pub drop_bad: bool,
}

impl CommonReading {
    fn options(&self, samples: Option<u32>) -> ReadOptions {
        ReadOptions {
            scaling: self.scaling,
            first_label: self.first_label,
            classes: self.classes.clone().unwrap_or_default(),
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

/// What to take as the network from a checkpoint that is not the study's.
#[derive(Args, Default)]
pub struct WeightsArgs {
    /// Description of the network, where the checkpoint does not tell it: a YAML file, docs/networks.md has its form
    #[arg(long, value_name = "FILE", value_parser = description)]
    pub network: Option<Sequential>,
    /// Dictionary in the checkpoint that holds the weights, its key or keys joined by dots [default: `state_dict`, or
    /// the one there is]
    #[arg(long, value_name = "KEY")]
    pub weights: Option<String>,
    /// Rename weights: a whole name, or what stands before a dot in names (`conv1=features.0`); can be repeated
    #[arg(long, value_name = "OLD=NEW", value_parser = Selection::renaming)]
    pub rename: Vec<(String, String)>,
    /// Leave tensors out: a whole name, or what stands before a dot in names; can be repeated
    #[arg(long, value_name = "NAME")]
    pub ignore: Vec<String>,
}

impl WeightsArgs {
    pub fn selection(&self) -> Selection {
        Selection {
            network: self.network.clone(),
            weights: self.weights.clone(),
            rename: self.rename.clone(),
            ignore: self.ignore.clone(),
        }
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
        /// .npz or .mat (level 5); .f32 or .i16: raw frames of the test recordings (the training ones if there are no others)
        /// for `stream`, without labels
        to: PathBuf,
        #[command(flatten)]
        reading: ReadingArgs,
    },
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
    /// What operations cost: a file such as configs/energy.yaml, which the folder then keeps [default: the folder's energy.yaml,
    /// otherwise the program's own]
    #[arg(long, value_name = "FILE", requires = "run")]
    pub constants: Option<PathBuf>,
}

#[derive(Args)]
pub struct ReportArgs {
    /// Folder that `run` made, or that `evaluate --out` and `spikes --out` filled
    pub run: PathBuf,
    /// YAML file of how figures look: width, language, fonts, colours; configs/style.yaml lists every key with its default
    #[arg(long, value_name = "FILE")]
    pub style: Option<PathBuf>,
    /// Write nothing: draw every figure again from the CSV beside it, in the style it was drawn in unless --style names another, and
    /// say which of the SVG, PDF and PNG that are there differ; exit code 1 if any does
    #[arg(long)]
    pub check: bool,
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
    /// With --json: `path`, `format`, `bytes`, `sha256`; `network`, in words; `description`, that
    /// of the network, where the file has one; `tensors`, how many weights were found
    /// (null where there are none); `notes`, what was decided to find them; `foreign`, the classes and functions that
    /// the file names, each with `name`, `called` and `would_run` (none was called here); and `content`, every value: a
    /// tensor as an object of `dtype`, `shape`, `min`, `max`, `mean`, `sd`, `zeros` and `not_finite`, an object of
    /// another program as one of `opaque` and `fields`.
    Inspect {
        /// .pth, .pt, .ckpt, .safetensors, or a Keras model (.h5, .keras)
        file: PathBuf,
        #[command(flatten)]
        selection: WeightsArgs,
        /// Write a description of the network for --network, as far as names and shapes tell it; lines that are guesses
        /// say what to check
        #[arg(long, value_name = "FILE")]
        propose: Option<PathBuf>,
    },
    /// Read a checkpoint and write it anew in the study's dictionary
    Convert {
        /// .pth, .pt, .ckpt (any PyTorch's), .safetensors, or a Keras model (.h5, .keras)
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
    }

    #[test]
    #[cfg(feature = "libtorch")]
    fn only_numbers_that_make_sense_are_taken() {
        assert_eq!(positive("-0.5"), Err("expected a positive number, got -0.5".into()));
        assert_eq!(positive("nan"), Err("expected a positive number, got nan".into()));
        assert_eq!((positive("1e-4"), not_negative("0")), (Ok(1e-4), Ok(0.0)));
    }
}
