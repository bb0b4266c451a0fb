//! The tables of a run folder: one type a file, for whoever writes it and for the report that reads it.
//!
//! `docs/run-folder.md` describes the same columns for people. Counts from 0: `step`, `contact`, `sample`,
//! `neuron` and the classes; from 1: `epoch`.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::Path;

pub use escape_energy::LayerKind;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::ReportError;

/// What is wrong with a row that has the right types: column, expected, got.
pub struct Objection {
    column: &'static str,
    expected: &'static str,
    got: String,
}

/// A row of one of the tables. Implemented by the types of this module only.
pub trait Row: Serialize + DeserializeOwned {
    /// Name of the file in a run folder.
    const FILE: &'static str;
    /// The columns, in the order they are written.
    const COLUMNS: &'static [&'static str];
    /// Those of them that a file must have; files that were written before the others came lack them.
    const REQUIRED: &'static [&'static str];
    /// Refuse values that have the right type and yet cannot be.
    ///
    /// # Errors
    /// The first column at fault.
    fn check(&self) -> Result<(), Objection>;
}

/// How a network came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Trained, not spiking.
    Ann,
    /// An ANN quantised to a few bits, not spiking.
    Quantised,
    /// Spiking, converted from an ANN and not trained since.
    Converted,
    /// Spiking, converted and then fine-tuned.
    Finetuned,
}

impl Kind {
    /// Whether it is a spiking network's.
    pub fn is_spiking(self) -> bool {
        matches!(self, Self::Converted | Self::Finetuned)
    }

    /// In words, for a reader.
    pub fn words(self) -> &'static str {
        match self {
            Self::Ann => "ANN",
            Self::Quantised => "quantised ANN",
            Self::Converted => "converted only",
            Self::Finetuned => "fine-tuned",
        }
    }
}

/// Ranges a column may have to keep to.
mod check {
    use super::Objection;

    type Checked = Result<(), Objection>;

    fn refuse(column: &'static str, expected: &'static str, got: impl ToString) -> Checked {
        Err(Objection { column, expected, got: got.to_string() })
    }
    pub(super) fn share(column: &'static str, value: f64) -> Checked {
        if (0.0..=1.0).contains(&value) { Ok(()) } else { refuse(column, "a share from 0 to 1", value) }
    }
    pub(super) fn amount(column: &'static str, value: f64) -> Checked {
        if value.is_finite() && value >= 0.0 {
            Ok(())
        } else {
            refuse(column, "a finite number of 0 or more", value)
        }
    }
    pub(super) fn finite(column: &'static str, value: f64) -> Checked {
        if value.is_finite() { Ok(()) } else { refuse(column, "a finite number", value) }
    }
    /// Indices span a grid that is held in memory, so a stray digit must not ask for gigabytes.
    pub(super) fn index(column: &'static str, value: u32) -> Checked {
        if value < 100_000 { Ok(()) } else { refuse(column, "a whole number below 100000", value) }
    }
    pub(super) fn named(column: &'static str, value: &str) -> Checked {
        if value.trim().is_empty() { refuse(column, "a name", value) } else { Ok(()) }
    }
}

macro_rules! table {
    ($(#[$meta:meta])* $name:ident $([$flag:ident])? in $file:expr => {
        $($(#[$doc:meta])* $field:ident: $type:ty,)+
    } $(optional { $($(#[$extra_doc:meta])* $extra:ident: $extra_type:ty,)+ })?
    check $self:ident { $($check:expr;)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        pub struct $name $(<const $flag: bool>)? {
            $($(#[$doc])* pub $field: $type,)+
            $($($(#[$extra_doc])* #[serde(default)] pub $extra: $extra_type,)+)?
        }

        impl $(<const $flag: bool>)? Row for $name $(<$flag>)? {
            const FILE: &'static str = $file;
            const COLUMNS: &'static [&'static str] = &[$(stringify!($field)),+ $($(, stringify!($extra))+)?];
            const REQUIRED: &'static [&'static str] = &[$(stringify!($field)),+];
            fn check(&$self) -> Result<(), Objection> {
                $($check?;)*
                Ok(())
            }
        }
    };
}

table! {
    /// One epoch of a training, or of a fine-tuning.
    Epoch[FINETUNING] in if FINETUNING { "finetune.csv" } else { "training.csv" } => {
        /// The network or stage.
        network: String,
        /// From 1; 0 is the network that was given, before it was trained.
        epoch: u32,
        /// Mean loss over the training samples; `NaN` if it diverged, empty at epoch 0.
        train_loss: Option<f64>,
        /// Share of training samples classified correctly; empty at epoch 0.
        train_accuracy: Option<f64>,
        /// Mean loss over the samples that the epoch was judged by.
        test_loss: f64,
        /// Share of them classified correctly.
        test_accuracy: f64,
        /// Wall time of the epoch.
        seconds: f64,
    } optional {
        /// Mean share of the samples of each class classified correctly, as [`Self::test_accuracy`].
        test_balanced_accuracy: Option<f64>,
        /// Mean F1 over the classes, likewise.
        test_macro_f1: Option<f64>,
        /// What the epoch was judged by: the `test` split, or recordings `held-out` of the training split.
        judged_on: Option<String>,
        /// The seed, in a study's table.
        seed: Option<u64>,
        /// `false` of an epoch whose network is not pruned to the end; else empty.
        may_be_kept: Option<bool>,
    } check self {
        check::named("network", &self.network);
        check::share("train_accuracy", self.train_accuracy.unwrap_or_default());
        check::share("test_balanced_accuracy", self.test_balanced_accuracy.unwrap_or_default());
        check::share("test_macro_f1", self.test_macro_f1.unwrap_or_default());
        check::share("test_accuracy", self.test_accuracy);
    }
}

/// One epoch of an ANN's training.
pub type Training = Epoch<false>;
/// One epoch of a spiking network's fine-tuning.
pub type Finetune = Epoch<true>;

table! {
    /// One network evaluated once. A later row for the same network, preset, encoder and T replaces an earlier.
    Evaluation in "evaluations.csv" => {
        /// The network; `activity.csv`, `confusion.csv` and `energy.csv` call it the same.
        network: String,
        /// How it came to be.
        kind: Kind,
        /// `published` or `default`; empty for an ANN.
        preset: String,
        /// `poisson` or `direct`; empty for an ANN.
        encoder: String,
        /// T; empty for an ANN.
        timesteps: Option<u32>,
        /// Samples classified.
        samples: u64,
        /// Share of them classified correctly.
        accuracy: f64,
        /// Mean cross-entropy.
        loss: f64,
        /// Epoch of fine-tuning that was kept, 0 for the network as it was before; empty where there was none.
        epoch: Option<u32>,
    } optional {
        /// Mean share of the samples of each class classified correctly.
        balanced_accuracy: Option<f64>,
        /// Mean F1 over the classes.
        macro_f1: Option<f64>,
        /// Bits of a weight and of an activation, of a quantised ANN.
        bits: Option<u32>,
    } check self {
        check::named("network", &self.network);
        check::share("accuracy", self.accuracy);
        check::share("balanced_accuracy", self.balanced_accuracy.unwrap_or_default());
        check::share("macro_f1", self.macro_f1.unwrap_or_default());
        match (self.kind, self.timesteps) {
            (Kind::Ann | Kind::Quantised, _) | (_, Some(1..)) => Ok(()),
            (_, got) => Err(Objection {
                column: "timesteps",
                expected: "a whole number from 1 for a spiking network",
                got: got.map_or(String::new(), |t| t.to_string()),
            }),
        };
    }
}

table! {
    /// What one layer did on average for one sample.
    Activity in "activity.csv" => {
        /// The network.
        network: String,
        /// `published` or `default`.
        preset: String,
        /// T.
        timesteps: u32,
        /// Samples averaged over.
        samples: u64,
        /// The layer.
        layer: String,
        /// What it computes.
        kind: LayerKind,
        /// Its neurons.
        neurons: u64,
        /// Its weights.
        weights: u64,
        /// Multiply-accumulates of one pass of the ANN, per sample.
        macs: u64,
        /// It sees the recording itself, a constant current, instead of spikes.
        analog_input: bool,
        /// Fraction of a membrane's potential that survives a step; 1 for none lost.
        leak: f64,
        /// Spikes it fired, over all T steps.
        spikes_per_sample: f64,
        /// Accumulates caused by spikes that arrived, over all T steps.
        synaptic_operations_per_sample: f64,
    } optional {
        /// Feature channels that its neurons are divided into, of a convolution.
        channels: Option<u64>,
        /// Values that the next layer takes, after pooling.
        sent: Option<u64>,
        /// Bits of an input value, of a network in whole numbers.
        input_bits: Option<u32>,
        /// Bits of a weight likewise.
        weight_bits: Option<u32>,
        /// Of a layer that sees the recording: multiply-accumulates with a value that is not zero, inside the border; of networks that
        /// are small enough with a weight that is not either.
        nonzero_macs_per_sample: Option<f64>,
        /// Weights that are not zero; of networks that are small enough for their spikes to be gone through once more.
        nonzero_weights: Option<u64>,
        /// Accumulates with a weight that is not zero, likewise.
        nonzero_operations_per_sample: Option<f64>,
        /// Neurons that fired at all in T steps, likewise.
        active_per_sample: Option<f64>,
    } check self {
        check::named("network", &self.network);
        check::named("layer", &self.layer);
        check::share("leak", self.leak);
        check::amount("spikes_per_sample", self.spikes_per_sample);
        check::amount("synaptic_operations_per_sample", self.synaptic_operations_per_sample);
    }
}

table! {
    /// What one layer of an ANN did on average for one sample.
    AnnActivity in "ann_activity.csv" => {
        /// `ann`, or `ann-Bbit` quantised to B bits.
        network: String,
        /// B; empty in fp32.
        bits: Option<u32>,
        /// Bits of an input value, of a quantised ANN.
        input_bits: Option<u32>,
        /// Samples averaged over.
        samples: u64,
        /// The layer, called as the spiking network's.
        layer: String,
        /// What it computes.
        kind: LayerKind,
        /// Its neurons.
        neurons: u64,
        /// Values that the next layer takes, after pooling.
        sent: u64,
        /// Its weights.
        weights: u64,
        /// Multiply-accumulates of one pass.
        macs: u64,
        /// Those of the values sent that were not zero.
        nonzero_sent_per_sample: f64,
        /// Multiply-accumulates with a value that was not zero, inside the border.
        nonzero_macs_per_sample: f64,
    } optional {
        /// Weights that are not zero.
        nonzero_weights: Option<u64>,
        /// Of the multiply-accumulates with a value that was not zero, those with a weight that is not either.
        nonzero_weight_macs_per_sample: Option<f64>,
    } check self {
        check::named("network", &self.network);
        check::named("layer", &self.layer);
        check::amount("nonzero_sent_per_sample", self.nonzero_sent_per_sample);
        check::amount("nonzero_macs_per_sample", self.nonzero_macs_per_sample);
    }
}

table! {
    /// What one recording was taken for.
    Prediction in "predictions.csv" => {
        /// The network.
        network: String,
        /// T; empty for an ANN.
        timesteps: Option<u32>,
        /// Which recording of those that networks are judged by, from 0.
        recording: u32,
        /// The true class, from 0.
        actual: u32,
        /// The class the network chose, from 0.
        predicted: u32,
    } check self {
        check::named("network", &self.network);
    }
}

table! {
    /// How often samples of one class were taken for another.
    Confusion in "confusion.csv" => {
        /// The network.
        network: String,
        /// The true class, from 0.
        actual: u32,
        /// The class the network chose, from 0.
        predicted: u32,
        /// Samples.
        count: u64,
    } optional {
        /// What the true class is called.
        actual_name: Option<String>,
        /// What the chosen one is called.
        predicted_name: Option<String>,
    } check self {
        check::named("network", &self.network);
        if self.actual < 64 { Ok(()) } else {
            Err(Objection { column: "actual", expected: "a class below 64", got: self.actual.to_string() })
        };
        if self.predicted < 64 { Ok(()) } else {
            Err(Objection { column: "predicted", expected: "a class below 64", got: self.predicted.to_string() })
        };
    }
}

table! {
    /// One value of the recording shown.
    Recording in "recording.csv" => {
        /// From 0.
        contact: u32,
        /// From 0, 1/30 ms apart unless the manifest has a `sample_rate_hz`.
        sample: u32,
        /// Scaled to [-1, 1].
        value: f64,
    } check self {
        check::index("contact", self.contact);
        check::index("sample", self.sample);
        check::finite("value", self.value);
    }
}

table! {
    /// One spike of the recording's Poisson encoding.
    InputSpike in "input_spikes.csv" => {
        /// From 0.
        step: u32,
        /// From 0.
        contact: u32,
        /// From 0.
        sample: u32,
        /// 1 or -1.
        spike: i8,
    } check self {
        check::index("step", self.step);
        check::index("contact", self.contact);
        check::index("sample", self.sample);
        if self.spike.abs() == 1 { Ok(()) } else {
            Err(Objection { column: "spike", expected: "1 or -1", got: self.spike.to_string() })
        };
    }
}

table! {
    /// One spike of one neuron, for the recording shown.
    Raster in "raster.csv" => {
        /// The network.
        network: String,
        /// The layer.
        layer: String,
        /// From 0.
        step: u32,
        /// From 0, channel first, then row, then column.
        neuron: u64,
    } check self {
        check::index("step", self.step);
    }
}

table! {
    /// What one layer did at one step, on average for one sample.
    Step in "steps.csv" => {
        /// The network.
        network: String,
        /// The layer.
        layer: String,
        /// From 0.
        step: u32,
        /// Spikes it fired.
        spikes_per_sample: f64,
        /// Accumulates caused by spikes that arrived.
        synaptic_operations_per_sample: f64,
    } check self {
        check::index("step", self.step);
        check::amount("spikes_per_sample", self.spikes_per_sample);
        check::amount("synaptic_operations_per_sample", self.synaptic_operations_per_sample);
    }
}

table! {
    /// Energy of one part of one layer, per sample.
    Energy in "energy.csv" => {
        /// `published`, or the name of an itemised model.
        model: String,
        /// `ann`, `ann-Bbit` for the ANN quantised to B bits, each with `-skip` where it computes with what is not zero only,
        /// or a spiking network.
        network: String,
        /// The layer.
        layer: String,
        /// `multiply_accumulate`, `accumulate`, `membrane`, `requantise`, `weight_memory`, `state_memory`, `addressing`.
        component: String,
        /// Energy.
        picojoules: f64,
    } check self {
        check::named("model", &self.model);
        check::named("network", &self.network);
        check::amount("picojoules", self.picojoules);
    }
}

table! {
    /// Energy spent up to and with one step, per sample.
    EnergyStep in "energy_steps.csv" => {
        /// As in [`Energy`].
        model: String,
        /// As in [`Energy`]; an ANN's value is the same at all steps, one row is enough.
        network: String,
        /// From 0.
        step: u32,
        /// Cumulative energy.
        picojoules: f64,
    } check self {
        check::named("model", &self.model);
        check::named("network", &self.network);
        check::index("step", self.step);
        check::amount("picojoules", self.picojoules);
    }
}

table! {
    /// One network of a study, for one seed and T.
    Outcome in "outcomes.csv" => {
        /// The entry of the study's file.
        network: String,
        /// How it came to be.
        kind: Kind,
        /// The entry of the ANN that it comes from, itself for an ANN.
        ann: String,
        /// As in [`Evaluation`].
        preset: String,
        /// As in [`Evaluation`].
        encoder: String,
        /// T; empty for an ANN.
        timesteps: Option<u32>,
        /// The seed; empty where none reaches it.
        seed: Option<u64>,
        /// Samples classified.
        samples: u64,
        /// Share of them classified correctly.
        accuracy: f64,
        /// Mean cross-entropy.
        loss: f64,
        /// Epoch that was kept, of a fine-tuned network.
        epoch: Option<u32>,
        /// Accuracy of the converted network that fine-tuning began with, at the same T.
        before: Option<f64>,
        /// Mean F1 over the classes.
        macro_f1: Option<f64>,
        /// Whether this is the T that tables show which have room for one.
        shown: bool,
        /// What the epoch was chosen by, `test` or `held-out`.
        judged_on: Option<String>,
    } optional {
        /// Samples that [`Self::before`] is a share of.
        before_samples: Option<u64>,
        /// Accuracy above that of the converted network, over the samples that both were judged by.
        gained: Option<f64>,
        /// Accuracy below that of its ANN, of the same seed, over the samples that both were judged by.
        lost: Option<f64>,
    } check self {
        check::named("network", &self.network);
        check::share("accuracy", self.accuracy);
        check::share("before", self.before.unwrap_or_default());
        check::share("macro_f1", self.macro_f1.unwrap_or_default());
    }
}

impl Outcome {
    /// As the tables of a run have it.
    pub fn evaluation(&self) -> Evaluation {
        Evaluation {
            network: self.network.clone(),
            kind: self.kind,
            preset: self.preset.clone(),
            encoder: self.encoder.clone(),
            timesteps: self.timesteps,
            samples: self.samples,
            accuracy: self.accuracy,
            loss: self.loss,
            epoch: self.epoch,
            balanced_accuracy: None,
            macro_f1: self.macro_f1,
            bits: None,
        }
    }
}

table! {
    /// Energy of one network of a study, for one seed and T.
    OutcomeEnergy in "outcome_energy.csv" => {
        /// As in [`Outcome`].
        network: String,
        /// T.
        timesteps: u32,
        /// The seed; empty where none reaches it.
        seed: Option<u64>,
        /// As in [`Energy`].
        model: String,
        /// Of a recording.
        picojoules: f64,
        /// Of the ANN in full precision, by the same model.
        ann_picojoules: f64,
    } check self {
        check::named("network", &self.network);
        check::amount("picojoules", self.picojoules);
        check::amount("ann_picojoules", self.ann_picojoules);
    }
}

table! {
    /// How long one network of a study takes for a recording.
    Latency in "latency.csv" => {
        /// As in [`Outcome`].
        network: String,
        /// T; empty for an ANN.
        timesteps: Option<u32>,
        /// What ran it: `event`, `dense`, `ann`.
        engine: String,
        /// CPU threads.
        threads: u32,
        /// Recordings that were timed, one after the other.
        samples: u64,
        /// The median of the rounds.
        milliseconds: f64,
        /// The fastest round.
        fastest: f64,
        /// The slowest.
        slowest: f64,
    } check self {
        check::named("network", &self.network);
        check::amount("milliseconds", self.milliseconds);
    }
}

table! {
    /// What one network of a folder costs, in its own number format, and what it is worth.
    Front in "front.csv" => {
        /// Its name; in a study the entry of the study's file.
        network: String,
        /// How it came to be.
        kind: Kind,
        /// The ANN that it comes from, likewise; itself for an ANN.
        ann: String,
        /// T; empty for an ANN.
        timesteps: Option<u32>,
        /// The seed; empty in a run, and where none reaches it.
        seed: Option<u64>,
        /// Bits of a weight; empty in fp32.
        bits: Option<u32>,
        /// Bits of an input value; empty in fp32.
        input_bits: Option<u32>,
        /// An ANN that computes only with what is not zero.
        skips: bool,
        /// Samples classified.
        samples: u64,
        /// Share of them classified correctly.
        accuracy: f64,
        /// 1,000 bytes that its weights take; of hardware that skips zeros behind a map of the others, where that is less.
        kilobytes: f64,
        /// Multiplications of a sample, of values and weights that are not zero where it skips those.
        multiplications: f64,
        /// Additions of a sample besides, those of membrane updates included.
        additions: f64,
        /// Energy of its arithmetic, a sample.
        arithmetic_pj: f64,
        /// That and its memory, layer by layer: a weight that was fetched serves all, and no membrane potential is stored.
        memory_pj: f64,
        /// That and its memory, step by step, weights fetched by each arriving spike or value that is not zero.
        events_pj: f64,
        /// The network's checkpoint, from the folder; empty for a quantised ANN, which has none.
        checkpoint: Option<String>,
    } check self {
        check::named("network", &self.network);
        check::share("accuracy", self.accuracy);
        check::amount("kilobytes", self.kilobytes);
        check::amount("multiplications", self.multiplications);
        check::amount("additions", self.additions);
        check::amount("arithmetic_pj", self.arithmetic_pj);
        check::amount("memory_pj", self.memory_pj);
        check::amount("events_pj", self.events_pj);
    }
}

/// Of a study's folder: where the tables of its seeds lie, each in a folder that is called as its seed; those of the first seed are the
/// study's own.
pub const SEEDS: &str = "seeds";

/// The files of the tables that a study's folder has besides those of a run.
pub const STUDY_FILES: [&str; 3] = [Outcome::FILE, OutcomeEnergy::FILE, Latency::FILE];

/// The files of all tables of a run folder.
pub const FILES: [&str; 14] = [
    Training::FILE,
    Finetune::FILE,
    Evaluation::FILE,
    Activity::FILE,
    AnnActivity::FILE,
    Prediction::FILE,
    Confusion::FILE,
    Recording::FILE,
    InputSpike::FILE,
    Raster::FILE,
    Step::FILE,
    Energy::FILE,
    EnergyStep::FILE,
    Front::FILE,
];

/// A folder's table; none is an empty one.
///
/// # Errors
/// As [`read_csv`].
pub fn read_table<R: Row>(folder: &Path) -> Result<Vec<R>, ReportError> {
    Ok(read_csv(&folder.join(R::FILE))?.unwrap_or_default())
}

/// A whole table: the header, and a line for each row.
///
/// # Errors
/// A row cannot be expressed, which none of this module's types can bring about.
pub fn to_csv<R: Row>(rows: &[R]) -> std::io::Result<Vec<u8>> {
    let mut writer = csv::WriterBuilder::new().has_headers(false).from_writer(Vec::new());
    writer.write_record(R::COLUMNS)?;
    rows.iter().try_for_each(|row| writer.serialize(row))?;
    writer.into_inner().map_err(csv::IntoInnerError::into_error)
}

/// Append rows to a table, with a header if the file is new. All rows go out in a single write. A last line
/// without its end, as an interrupted write leaves, is dropped first.
///
/// # Errors
/// The file cannot be read or written, or holds another table.
pub fn append_csv<R: Row>(path: &Path, rows: &[R]) -> Result<(), ReportError> {
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(ReportError::io("open", path))?;
    let end = whole_lines(&mut file).map_err(ReportError::io("read", path))?;
    let header = R::COLUMNS.join(",");
    let mut writer = csv::WriterBuilder::new().has_headers(false).from_writer(Vec::new());
    if end == 0 {
        writer.write_record(R::COLUMNS).map_err(|e| from_csv("write", path, e))?;
    } else {
        let got = first_line(&mut file).map_err(ReportError::io("read", path))?;
        if got != header {
            return Err(ReportError::OtherTable { path: path.to_owned(), expected: header, got });
        }
    }
    for row in rows {
        writer.serialize(row).map_err(|e| from_csv("write", path, e))?;
    }
    let bytes = writer.into_inner().map_err(|e| ReportError::io("write", path)(e.into_error()))?;
    file.set_len(end)
        .and_then(|()| file.seek(SeekFrom::Start(end)))
        .and_then(|_| file.write_all(&bytes))
        .map_err(ReportError::io("write", path))
}

/// Length of the file up to its last line end.
fn whole_lines(file: &mut fs::File) -> std::io::Result<u64> {
    let mut end = file.seek(SeekFrom::End(0))?;
    let mut block = [0_u8; 4096];
    while end > 0 {
        let start = end.saturating_sub(block.len() as u64);
        let part = &mut block[..(end - start) as usize];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(part)?;
        if let Some(at) = part.iter().rposition(|&b| b == b'\n') {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

fn first_line(file: &mut fs::File) -> std::io::Result<String> {
    file.seek(SeekFrom::Start(0))?;
    let mut bytes = Vec::new();
    file.take(4096).read_to_end(&mut bytes)?;
    let line = bytes.split(|&b| b == b'\n').next().unwrap_or_default();
    Ok(String::from_utf8_lossy(line).trim_end_matches('\r').to_owned())
}

fn from_csv(operation: &'static str, path: &Path, error: csv::Error) -> ReportError {
    ReportError::io(operation, path)(error.into())
}

/// Read a whole table. `None` if there is no such file.
///
/// # Errors
/// The file cannot be read, lacks a column, or holds a value its column cannot have.
pub fn read_csv<R: Row>(path: &Path) -> Result<Option<Vec<R>>, ReportError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(ReportError::io("read", path)(error)),
    };
    let rows = parse::<R>(path, &bytes, R::REQUIRED)?;
    for (row, line) in &rows {
        row.check().map_err(|objection| ReportError::Value {
            path: path.to_owned(),
            line: *line,
            column: objection.column.to_owned(),
            expected: objection.expected.to_owned(),
            got: objection.got,
        })?;
    }
    Ok(Some(rows.into_iter().map(|(row, _)| row).collect()))
}

/// The rows of a table with their line numbers.
pub(crate) fn parse<R: DeserializeOwned>(
    path: &Path,
    bytes: &[u8],
    columns: &[&'static str],
) -> Result<Vec<(R, u64)>, ReportError> {
    let bad_line = |line, expected: &str, got: &str| ReportError::Line {
        path: path.to_owned(),
        line,
        expected: expected.to_owned(),
        got: got.to_owned(),
    };
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(bytes);
    let header = reader.headers().map_err(|_| bad_line(1, "a header in UTF-8", "other bytes"))?.clone();
    for column in columns {
        if !header.iter().any(|h| h == *column) {
            return Err(ReportError::MissingColumn {
                path: path.to_owned(),
                column,
                header: header.iter().collect::<Vec<_>>().join(","),
            });
        }
    }
    let mut rows = Vec::new();
    let mut record = csv::StringRecord::new();
    loop {
        let line = reader.position().line();
        match reader.read_record(&mut record) {
            Ok(false) => return Ok(rows),
            Ok(true) => {
                let line = record.position().map_or(line, csv::Position::line);
                let row = record
                    .deserialize::<R>(Some(&header))
                    .map_err(|error| value_error(path, line, &header, &record, &error))?;
                rows.push((row, line));
            }
            Err(error) => {
                let line = error.position().map_or(line, csv::Position::line);
                return Err(match error.kind() {
                    csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
                        bad_line(line, &format!("{expected_len} values"), &len.to_string())
                    }
                    csv::ErrorKind::Utf8 { .. } => bad_line(line, "text in UTF-8", "other bytes"),
                    _ => bad_line(line, "a row", &error.to_string()),
                });
            }
        }
    }
}

fn value_error(
    path: &Path,
    line: u64,
    header: &csv::StringRecord,
    record: &csv::StringRecord,
    error: &csv::Error,
) -> ReportError {
    use csv::DeserializeErrorKind as Why;
    let csv::ErrorKind::Deserialize { err, .. } = error.kind() else {
        return ReportError::Line {
            path: path.to_owned(),
            line,
            expected: "a row".to_owned(),
            got: error.to_string(),
        };
    };
    let said = err.kind().to_string();
    let expected = match err.kind() {
        Why::ParseBool(_) => "true or false".to_owned(),
        Why::ParseInt(why) if why.to_string().contains("too large") => "a smaller whole number".to_owned(),
        Why::ParseInt(_) => "a whole number of 0 or more".to_owned(),
        Why::ParseFloat(_) => "a number".to_owned(),
        // "unknown variant `spiking`, expected one of `ann`, `converted`, `finetuned`"
        _ => said.split_once("expected ").map_or_else(|| said.clone(), |(_, rest)| rest.to_owned()),
    };
    // Only number columns say where they are; names in a message are found again in the line.
    let quoted = |value: &str| !value.is_empty() && said.contains(&format!("`{value}`"));
    let field = match err.field() {
        Some(field) => usize::try_from(field).ok(),
        None => record.iter().position(quoted),
    };
    let at = |record: &csv::StringRecord, unknown: &str| {
        field.and_then(|f| record.get(f)).unwrap_or(unknown).to_owned()
    };
    ReportError::Value {
        path: path.to_owned(),
        line,
        column: at(header, "(unknown)"),
        expected,
        got: at(record, &said),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<R: Row>(text: &str) -> Result<Vec<R>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(R::FILE);
        fs::write(&path, text).unwrap();
        let rows = read_csv(&path).map(Option::unwrap);
        rows.map_err(|e| e.to_string().replace(&format!("{}/", folder.path().display()), ""))
    }

    #[test]
    fn rows_survive_writing_and_reading() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(Evaluation::FILE);
        let ann = Evaluation {
            network: "modified, \"best\"".to_owned(),
            kind: Kind::Ann,
            preset: String::new(),
            encoder: String::new(),
            timesteps: None,
            samples: 7835,
            accuracy: 0.727,
            loss: f64::NAN,
            epoch: None,
            balanced_accuracy: Some(0.5),
            macro_f1: None,
            bits: None,
        };
        let snn = Evaluation {
            kind: Kind::Finetuned,
            preset: "default".to_owned(),
            encoder: "direct".to_owned(),
            timesteps: Some(4),
            loss: 0.6,
            epoch: Some(2),
            ..ann.clone()
        };
        append_csv(&path, std::slice::from_ref(&ann)).unwrap();
        append_csv(&path, std::slice::from_ref(&snn)).unwrap();
        append_csv::<Evaluation>(&path, &[]).unwrap();
        let back: Vec<Evaluation> = read_csv(&path).unwrap().unwrap();
        assert_eq!(back.len(), 2);
        assert!(back[0].loss.is_nan());
        assert_eq!((back[0].timesteps, &back[0].network), (None, &ann.network));
        assert_eq!(back[1], snn);
        let text = fs::read_to_string(&path).unwrap();
        let header = "network,kind,preset,encoder,timesteps,samples,accuracy,loss,epoch,balanced_accuracy,macro_f1,bits";
        assert!(text.starts_with(&format!("{header}\n")), "{text}");
    }

    #[test]
    fn tables_from_before_the_newer_columns_are_read() {
        let rows: Vec<Finetune> = read(
            "network,epoch,train_loss,train_accuracy,test_loss,test_accuracy,seconds\na,1,0.5,0.8,0.6,0.7,3\n\
             a,0,,,0.7,0.6,1\n",
        )
        .unwrap();
        assert_eq!((rows[0].train_loss, rows[0].test_balanced_accuracy), (Some(0.5), None));
        assert_eq!((rows[1].epoch, rows[1].train_accuracy, &rows[1].judged_on), (0, None, &None));
        let wrong = read::<Finetune>(
            "network,epoch,train_loss,train_accuracy,test_loss,test_accuracy,seconds\na,1,0.5,80,0.6,0.7,3\n",
        );
        assert!(wrong.unwrap_err().contains("column `train_accuracy`: expected a share from 0 to 1"));
    }

    #[test]
    fn an_interrupted_line_is_dropped_before_appending() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(Confusion::FILE);
        let (actual_name, predicted_name) = (Some("rest".to_owned()), None);
        let row = Confusion {
            network: "a".to_owned(),
            actual: 0,
            predicted: 1,
            count: 7,
            actual_name,
            predicted_name,
        };
        append_csv(&path, &[row.clone(), row.clone()]).unwrap();
        let mut text = fs::read_to_string(&path).unwrap();
        text.truncate(text.len() - 3);
        fs::write(&path, &text).unwrap();
        append_csv(&path, std::slice::from_ref(&row)).unwrap();
        assert_eq!(read_csv::<Confusion>(&path).unwrap().unwrap(), [row.clone(), row]);
    }

    #[test]
    fn another_table_is_not_appended_to() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.csv");
        fs::write(&path, "a,b\n1,2\n").unwrap();
        let row = Recording { contact: 0, sample: 0, value: 0.0 };
        let error = append_csv(&path, &[row]).unwrap_err().to_string();
        assert!(error.contains("`contact,sample,value`") && error.contains("`a,b`"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "a,b\n1,2\n");
    }

    #[test]
    fn an_absent_table_is_none() {
        let folder = tempfile::tempdir().unwrap();
        assert!(read_csv::<Step>(&folder.path().join("steps.csv")).unwrap().is_none());
    }

    #[test]
    fn columns_may_stand_in_any_order() {
        let rows: Vec<Recording> = read("value,note,sample,contact\n-0.5,x,3,2\n").unwrap();
        assert_eq!(rows, [Recording { contact: 2, sample: 3, value: -0.5 }]);
    }

    #[test]
    fn errors_say_where_and_what() {
        let of = |text: &str| read::<Recording>(text).unwrap_err();
        let start = "recording.csv, line ";
        assert!(of("contact,value\n0,1\n").starts_with(&format!("{start}1: expected the column `sample`")));
        let header = "contact,sample,value\n";
        let starts = |body: &str, expected: &str| {
            let got = of(&format!("{header}0,0,0.5\n{body}\n"));
            assert!(got.starts_with(&format!("{start}3{expected}")), "{got}");
        };
        starts("0,one,0.5", ", column `sample`: expected a whole number of 0 or more, got `one`");
        starts("0,-1,0.5", ", column `sample`: expected a whole number of 0 or more, got `-1`");
        starts("0,1,", ", column `value`: expected a number, got ``");
        starts("0,1,inf", ", column `value`: expected a finite number, got `inf`");
        starts("400000,1,0.5", ", column `contact`: expected a whole number below 100000, got `400000`");
        starts("0,1", ": expected 3 values, got 2");

        let header = "network,kind,preset,encoder,timesteps,samples,accuracy,loss,epoch\n";
        let of = |row: &str| read::<Evaluation>(&format!("{header}{row}\n")).unwrap_err();
        let got = of("a,spiking,,,,1,0.5,1,");
        assert!(
            got.contains("line 2, column `kind`: expected one of `ann`") && got.contains("got `spiking`"),
            "{got}"
        );
        assert!(
            of("a,ann,,,,1,73.8,1,").contains("column `accuracy`: expected a share from 0 to 1, got `73.8`")
        );
        assert!(of("a,converted,default,direct,,1,0.7,1,").contains("column `timesteps`"));
        assert!(of("a,converted,default,direct,0,1,0.7,1,").contains("got `0`"));
        assert!(of(",ann,,,,1,0.7,1,").contains("column `network`: expected a name"));
    }
}
