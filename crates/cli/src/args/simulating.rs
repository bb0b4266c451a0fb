//! Of the commands that simulate a network, which the program without libtorch has too.

use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use escape_checkpoint::Checkpoint;
use escape_data::frames::FrameFormat;
use escape_data::{ReadOptions, Rescale, Split};
use escape_snn_core::encode::Encoding;
use escape_snn_core::integer::Bits;
use escape_snn_core::rules::Preset;
use escape_snn_core::stored;
use escape_study::defaults::EngineName;
use escape_study::load::Asked;
use escape_study::session::usage;

use super::{CommonReading, ReadingArgs, WeightsArgs, named, whole, whole_up_to};

/// What every command that simulates a checkpoint shares.
#[derive(Args)]
pub struct SimulationArgs {
    /// Rules to simulate by: default, published, toolbox, toolbox-zero or toolbox-mean [default: what the checkpoint names, otherwise default]
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
    /// Which engine simulates: dense (every synapse at every step, in libtorch), event (what spikes cause, on the CPU; of
    /// whole numbers the same spikes to the last one, of the published preset but for rounding) or auto (event for whole
    /// numbers on a CPU, otherwise dense; without libtorch event)
    #[arg(long, default_value = "auto", value_parser = named::<EngineName>(EngineName::NAMES))]
    pub engine: EngineName,
}

/// Bits of the default preset's whole numbers.
#[derive(Args)]
pub struct BitsArgs {
    /// Bits a weight (default preset) [default: what the checkpoint names, otherwise 8]; `evaluate` quantises an ANN with it,
    /// weights and activations alike
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
    /// Refuses what only a simulation has a use for; `quantises` says whether an ANN is quantised where bits are asked for.
    pub fn refuse_for_ann(&self, quantises: bool) -> anyhow::Result<()> {
        let Bits { weight, input } = self.bits.asked();
        let given = [
            (self.encoder.is_some(), "--encoder: an ANN takes the recording as it is"),
            (self.engine != EngineName::Auto, "--engine: an ANN is not simulated"),
            (
                !quantises && !self.bits.asked().is_empty(),
                "--bits and --input-bits: an ANN computes in float32 here",
            ),
            (
                quantises && weight.is_none() && input.is_some(),
                "--input-bits: an ANN has whole numbers only where --bits B quantises it",
            ),
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
            engine: self.engine,
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
    /// Recordings simulated together; the random numbers of the published preset go over all of them, step by step, as the
    /// study's do, so that its results depend on this
    #[arg(long, default_value_t = 32, value_name = "B", value_parser = whole::<u32>(1))]
    pub batch_size: u32,
    #[command(flatten)]
    pub simulation: SimulationArgs,
    /// Recordings that an ANN's activations are scaled by, with --bits: the first of the training split [default: 32]
    #[arg(long, value_name = "N", value_parser = whole::<usize>(1), requires = "bits")]
    pub calibration: Option<usize>,
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
    /// Time training steps instead of inference, three a round; memory grows with the timesteps (every current of a recording for
    /// each thread: of the modified network about 1.5 MB a timestep)
    #[arg(long)]
    pub train: bool,
}

/// Where frames come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Standard input.
    Standard,
    /// A port of this machine.
    Tcp(u16),
    /// A file, or a named pipe.
    File(PathBuf),
}

impl FromStr for Input {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.strip_prefix("tcp:")) {
            ("-", _) => Ok(Self::Standard),
            (_, Some(port)) => port.parse().map(Self::Tcp).map_err(|_| {
                format!(
                    "expected a port from 0 to 65535 after tcp:, got {port} (a file of such a name: ./{text})"
                )
            }),
            _ => Ok(Self::File(text.into())),
        }
    }
}

/// Classify recordings one by one as they arrive
///
/// A frame is the H contacts x W samples of a recording that the checkpoint's network takes, little-endian, contact by
/// contact, with nothing between frames. Each is answered by a line of JSON on standard output: index, class, class_name,
/// scores (the readout, a number a class) and latency_ms, from when the frame's last byte was read; or index and error, in
/// words, and the stream goes on. A summary follows on standard error, and with --json as a last line {"summary": ...}.
/// Exit code 0: the stream went through to its end, to Ctrl-C, or until nobody read the answers, though single frames were
/// bad; 1: it broke, or every frame was bad; 2: wrong usage. docs/stream.md has more.
#[derive(Args)]
pub struct StreamArgs {
    /// SNN checkpoint
    #[arg(long, value_name = "FILE")]
    pub checkpoint: PathBuf,
    #[command(flatten)]
    pub selection: WeightsArgs,
    /// Where frames come from: - (standard input), a file (`data convert` makes one of recordings), or tcp:PORT, on which
    /// this program listens (on 127.0.0.1 only, one client after another; 0 takes a free port) until Ctrl-C
    #[arg(long, value_name = "FILE|-|tcp:PORT", default_value = "-")]
    pub input: Input,
    /// What a frame's values are: i16 (counts of the converter) or f32 [default: what the file's name ends in, otherwise i16]
    #[arg(long, value_parser = named::<FrameFormat>(FrameFormat::NAMES))]
    pub format: Option<FrameFormat>,
    /// Scale each recording to [-1, 1]: per-recording, as `.mat` files are, none (values must lie within [-1, 1]; 32,768
    /// counts are 1), or auto (per-recording for i16, none for f32)
    #[arg(long, default_value = "auto", value_name = "HOW")]
    pub scaling: Rescale,
    #[command(flatten)]
    pub simulation: SimulationArgs,
    /// Take a file's recordings at 43 a second, as the nerve sends them, and count the answers that come after the next
    /// recording has
    #[arg(long)]
    pub realtime: bool,
}

/// An SNN checkpoint of the default preset as a program for an implant
///
/// Writes C99 without dependencies, allocation, floating point or recursion (PREFIX.h, PREFIX.c, PREFIX_weights.h,
/// PREFIX_selftest.c, README.md), or a crate of Rust without the standard library and without unsafe code. The program takes a recording column by column as it arrives, and its readout is the event engine's, bit for bit; the
/// self-test holds recordings and what is to come out. docs/export.md has more.
#[derive(Args)]
pub struct ExportArgs {
    /// SNN checkpoint
    #[arg(value_name = "CHECKPOINT")]
    pub checkpoint: PathBuf,
    #[command(flatten)]
    pub selection: WeightsArgs,
    /// Folder to write C99 into
    #[arg(long, value_name = "DIR", required_unless_present = "rust", conflicts_with = "rust")]
    pub c: Option<PathBuf>,
    /// Folder to write a crate of Rust into, without the standard library
    #[arg(long, value_name = "DIR")]
    pub rust: Option<PathBuf>,
    /// What every name in the program begins with
    #[arg(long, default_value = "escape", value_name = "NAME")]
    pub prefix: String,
    /// Recordings for the self-test [default: drawn at random]
    #[arg(long, value_name = "FILE")]
    pub data: Option<PathBuf>,
    #[command(flatten)]
    pub reading: ReadingArgs,
    /// train or test
    #[arg(long, default_value = "test")]
    pub split: Split,
    /// How many recordings the self-test runs
    #[arg(long, default_value_t = 2, value_name = "N", value_parser = whole::<usize>(1))]
    pub recordings: usize,
    #[command(flatten)]
    pub simulation: SimulationArgs,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_are_told_apart() {
        let parse = |text: &str| text.parse::<Input>();
        assert_eq!(parse("-"), Ok(Input::Standard));
        assert_eq!(parse("tcp:0"), Ok(Input::Tcp(0)));
        assert_eq!(parse("./tcp:a"), Ok(Input::File("./tcp:a".into())));
        assert!(parse("tcp:70000").unwrap_err().contains("65535"));
    }
}
