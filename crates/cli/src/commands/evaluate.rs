//! `escape-snn evaluate`

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result};
use escape_checkpoint::Checkpoint;
#[cfg(feature = "libtorch")]
use escape_convert::quantised::{CALIBRATION, METHOD, QuantisedAnn};
use escape_data::npz::{self, Values};
use escape_data::{Recordings, Split};
use escape_energy::ann_name;
use escape_files::archive::Archive;
#[cfg(feature = "libtorch")]
use escape_model::ann::Ann;
use escape_network::metrics::Metrics;
use escape_network::stage::LayerWork;
use escape_report::rows::Kind;
use escape_snn_core::evaluate::Evaluation;
#[cfg(feature = "libtorch")]
use escape_snn_core::integer::Precision;
#[cfg(feature = "libtorch")]
use escape_snn_core::network::SpikingNetwork;
#[cfg(feature = "libtorch")]
use escape_snn_core::rules::{Preset, Rules};
#[cfg(feature = "libtorch")]
use escape_study::conversion::{calibrated, trained_thresholds};
#[cfg(feature = "libtorch")]
use escape_study::defaults::Defaults;
#[cfg(feature = "libtorch")]
use escape_study::load::reading_for;
use escape_study::load::{Simulation, is_spiking, kind_of, network, recordings, simulation};
use escape_study::measure;
use escape_study::measured::{Findings, Measured};
#[cfg(feature = "libtorch")]
use escape_study::notes;
use escape_study::place::{check_apart, check_file};
use escape_study::results::{EVALUATE, Results, Use};
#[cfg(not(feature = "libtorch"))]
use escape_study::session::WHOLE_PROGRAM;
use escape_study::session::{Session, usage};
use serde::Serialize;

use super::{BitsReport, table, thousands};
use crate::args::EvaluateArgs;
use crate::context::Context;

#[derive(Serialize)]
struct Report {
    kind: &'static str,
    samples: usize,
    accuracy: f64,
    standard_error: f64,
    balanced_accuracy: f64,
    macro_f1: f64,
    largest_class_share: f64,
    loss: f64,
    timesteps: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    engine: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    preset: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    encoder: Option<String>,
    #[serde(flatten)]
    bits: Option<BitsReport>,
    class_names: Vec<String>,
    confusion: Vec<Vec<u64>>,
    layers: Vec<LayerReport>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    accuracy_by_step: Vec<f64>,
    seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    written: Option<Written>,
}

/// Where the results went.
#[derive(Serialize)]
struct Written {
    folder: PathBuf,
    network: String,
    kind: &'static str,
}

#[derive(Serialize)]
struct LayerReport {
    name: String,
    neurons: usize,
    #[serde(flatten)]
    did: Did,
}

/// What a layer did for a recording, on average.
#[derive(Serialize)]
#[serde(untagged)]
enum Did {
    Spiking { spikes_per_sample: f64, spikes_per_neuron: f64, synaptic_operations_per_sample: f64 },
    Artificial { macs: usize, nonzero_inputs_per_sample: f64, nonzero_macs_per_sample: f64 },
}

pub fn run(context: &Context, args: EvaluateArgs) -> Result<()> {
    let session = &context.session;
    if let Some(path) = &args.logits {
        check_apart(path, &[&args.checkpoint, &args.data])?;
        // Logits are made anew by any evaluation, so those of an earlier one are no loss; scripts reuse the name.
        if !holds_logits(path) {
            check_file(session, path)?;
        }
    }
    let checkpoint = network(session, &args.checkpoint, &args.selection.selection())?;
    check_kind(&args, &checkpoint)?;
    let spiking = is_spiking(&checkpoint) || args.simulation.timesteps.is_some();
    #[cfg(not(feature = "libtorch"))]
    if !spiking {
        return Err(usage(format!(
            "{}: this is an ANN, which computes with libtorch, and this escape-snn is built without it; evaluate a spiking \
             network, or take {WHOLE_PROGRAM}",
            args.checkpoint.display()
        )));
    }
    let (kind, epoch) = match (kind_of(&checkpoint, spiking), args.simulation.bits.bits) {
        ((Kind::Ann, epoch), Some(_)) => (Kind::Quantised, epoch),
        (found, _) => found,
    };
    if spiking && args.calibration.is_some() {
        return Err(usage(
            "--calibration: a spiking network's thresholds are in its checkpoint; leave it out",
        ));
    }
    let results = args.out.as_deref().map(|folder| {
        let bits = match kind {
            Kind::Quantised => args.simulation.bits.asked(),
            _ => args.simulation.bits.other_than(&checkpoint),
        };
        let name = (args.name.name.as_deref(), bits);
        Results::open(session, folder, name, kind, &args.checkpoint, (&args.data, &args.reading.options()))
    });
    let mut results = results.transpose()?;
    let judged = (&checkpoint, args.checkpoint.as_path());
    let (recordings, _) =
        recordings(session, &args.data, &args.reading.options(), args.split, args.limit, judged)?;
    let unnamed = match args.simulation.bits.bits {
        _ if spiking => "snn".to_owned(),
        bits => ann_name(bits, false),
    };
    let network = results.as_ref().map_or(unnamed.as_str(), Results::network).to_owned();
    let split = args.split;
    let batch_size = args.batch_size as usize;
    let start;
    let measured = if spiking {
        let chosen =
            simulation(session, &checkpoint, &args.checkpoint, args.simulation.asked(), &recordings)?;
        let also_at = match &mut results {
            Some(results) => begin(session, results, &chosen, (split, recordings.len()), args.also_at)?,
            None => Vec::new(),
        };
        start = Instant::now();
        let measure = if results.is_some() { measure::snn_and_zeros } else { measure::snn };
        measure(session, &network, (kind, epoch), chosen, &also_at, &recordings, batch_size)?
    } else {
        #[cfg(feature = "libtorch")]
        {
            check_ann_options(&args)?;
            let (contacts, samples) = (recordings.contacts, recordings.samples);
            let ann =
                Ann::from_checkpoint(&checkpoint, &args.checkpoint, contacts, samples, session.device()?)?;
            let loss = Defaults::of(args.simulation.preset.unwrap_or(Preset::Default)).ann_loss;
            let precision = precision(&args)?;
            let scales = precision.map(|p| Scales::of(session, &args, &checkpoint, &ann, p)).transpose()?;
            if let Some(results) = &mut results {
                let used = Use { command: EVALUATE, rules: None, precision, split };
                results.check_use(used)?;
                results.check_evaluation(&[None])?;
                results.begin(used, None)?;
            }
            start = Instant::now();
            let measured = match precision.zip(scales) {
                Some((precision, scales)) => {
                    let found = match scales {
                        Scales::Own(found) => found,
                        Scales::From(some) => calibrated(session, &ann, &some, Rules::DEFAULT, METHOD)?,
                    };
                    let ann = QuantisedAnn::new(&found, precision, session.device()?)?;
                    measure::quantised(session, &network, &ann, &recordings, batch_size, loss)?
                }
                None => measure::ann(session, &network, &ann, &recordings, batch_size, loss)?,
            };
            Measured { epoch, ..measured }
        }
        #[cfg(not(feature = "libtorch"))]
        unreachable!("refused above")
    };
    measured.notes().iter().for_each(|note| session.note(note));
    let mut report = Report::new(&measured, start.elapsed().as_secs_f64());
    if let Some(path) = &args.logits {
        write_logits(path, measured.logits(), &recordings)?;
    }
    if let (Some(results), Some(folder)) = (&results, &args.out) {
        results.add(&measured)?;
        report.written = Some(Written { folder: folder.clone(), network, kind: kind.words() });
    }
    context.result(&report, || report.text())
}

/// Thresholds without timesteps are those of a spiking network, or those that the study adds to an ANN's file when it
/// first converts it: only the user can tell.
fn check_kind(args: &EvaluateArgs, checkpoint: &Checkpoint) -> Result<()> {
    let path = args.checkpoint.display();
    if args.ann && is_spiking(checkpoint) {
        return Err(usage(format!(
            "{path}: --ann, but this is a spiking network (for {} timesteps); evaluate the ANN it was made from",
            checkpoint.timesteps.unwrap_or_default()
        )));
    }
    if !args.ann
        && args.simulation.timesteps.is_none()
        && checkpoint.thresholds.is_some()
        && checkpoint.timesteps.is_none()
    {
        return Err(usage(format!(
            "{path}: the file holds thresholds and no number of timesteps; give --timesteps T to simulate it as a spiking \
             network, or --ann to judge it as an ANN"
        )));
    }
    Ok(())
}

/// Refuses what only a simulation has a use for.
#[cfg(feature = "libtorch")]
fn check_ann_options(args: &EvaluateArgs) -> Result<()> {
    match args.also_at {
        Some(_) => Err(usage("--also-at: an ANN has no steps; leave it out")),
        None => args.simulation.refuse_for_ann(true),
    }
}

/// The bits that an ANN is to be quantised to, if it is.
#[cfg(feature = "libtorch")]
fn precision(args: &EvaluateArgs) -> Result<Option<Precision>> {
    let asked = args.simulation.bits.asked();
    let precision = asked.weight.map(|_| Precision::DEFAULT.with(asked).map_err(usage));
    precision.transpose()
}

/// What a quantised ANN's activations are scaled by.
#[cfg(feature = "libtorch")]
enum Scales {
    /// The thresholds that it was trained with.
    Own(SpikingNetwork),
    /// What they come to on these recordings.
    From(Recordings),
}

#[cfg(feature = "libtorch")]
impl Scales {
    fn of(
        session: &Session,
        args: &EvaluateArgs,
        checkpoint: &Checkpoint,
        ann: &Ann,
        precision: Precision,
    ) -> Result<Self> {
        if args.calibration.is_none()
            && let Some(own) = trained_thresholds(ann, checkpoint, precision)?
        {
            session.note("note: its activations have the thresholds that it was trained with");
            return Ok(Self::Own(own));
        }
        Ok(Self::From(calibration(session, args, checkpoint)?))
    }
}

/// The recordings that a quantised ANN's activations are scaled by.
#[cfg(feature = "libtorch")]
fn calibration(session: &Session, args: &EvaluateArgs, checkpoint: &Checkpoint) -> Result<Recordings> {
    let asked = args.calibration.unwrap_or(CALIBRATION);
    let options = reading_for(&args.reading.options(), checkpoint);
    // What is to be said of the file has been said.
    let (all, ..) = escape_data::read_split(&args.data, Split::Train, &options)?;
    if all.is_empty() {
        return Err(usage(format!(
            "{}: no recordings in the train split, by which the activations of a quantised ANN are scaled; give a file with both \
             splits",
            args.data.display()
        )));
    }
    let calibration = all.at_most(Some(asked));
    if let Some(note) = notes::on_calibration(asked, calibration.len()) {
        session.note(note);
    }
    Ok(calibration)
}

/// Begins the results of a spiking network, judged by so many recordings of a split; returns the steps besides T at which
/// its accuracy is recorded.
fn begin(
    session: &Session,
    results: &mut Results<'_>,
    chosen: &Simulation,
    (split, recordings): (Split, usize),
    also_at: Option<Vec<usize>>,
) -> Result<Vec<usize>> {
    let steps = chosen.steps;
    if let Some(beyond) = also_at.iter().flatten().find(|&&t| t > steps) {
        return Err(usage(format!(
            "--also-at {beyond}: the simulation ends after {steps} steps; give the largest T as --timesteps"
        )));
    }
    let used = Use {
        command: EVALUATE,
        rules: Some((chosen.network.rules, chosen.encoding)),
        precision: None,
        split,
    };
    results.check_use(used)?;
    let asked = also_at.iter().flatten().copied().chain([steps]);
    results.check_evaluation(&asked.map(|t| Some(t as u32)).collect::<Vec<_>>())?;
    let powers = || std::iter::successors(Some(1usize), |t| t.checked_mul(2)).take_while(|&t| t < steps);
    let mut moments = also_at.unwrap_or_else(|| powers().collect());
    if !session.force {
        let known = results.known_moments()?;
        let kept: Vec<&(usize, u64)> = known.iter().filter(|known| moments.contains(&known.0)).collect();
        let others: Vec<String> = kept
            .iter()
            .filter(|known| known.1 != recordings as u64)
            .map(|(t, samples)| format!("T = {t} ({samples} recordings)"))
            .collect();
        if !others.is_empty() {
            session.note(format!(
                "note: '{}' keeps its accuracies at {}, beside those of {recordings} recordings now; judge it anew at all \
                 of them with --force",
                results.network(),
                others.join(", ")
            ));
        }
        moments.retain(|t| !known.iter().any(|known| known.0 == *t));
    }
    results.begin(used, Some(steps))?;
    Ok(moments)
}

fn layers(found: &Evaluation, samples: usize) -> Vec<LayerReport> {
    let each = found.layers.iter().map(|layer| LayerReport {
        name: layer.name.clone(),
        neurons: layer.neurons,
        did: Did::Spiking {
            spikes_per_sample: layer.spikes_per_sample(samples),
            spikes_per_neuron: layer.spikes_per_sample(samples) / layer.neurons as f64,
            synaptic_operations_per_sample: layer.operations_per_sample(samples),
        },
    });
    each.collect()
}

/// The same of an ANN.
fn ann_layers(found: &[LayerWork], samples: usize) -> Vec<LayerReport> {
    let each = found.iter().map(|LayerWork { stage, arrived, .. }| LayerReport {
        name: stage.name.clone(),
        neurons: stage.neurons(),
        did: Did::Artificial {
            macs: stage.macs(),
            nonzero_inputs_per_sample: arrived.values as f64 / samples as f64,
            nonzero_macs_per_sample: arrived.macs as f64 / samples as f64,
        },
    });
    each.collect()
}

/// Whether a file is one that [`write_logits`] wrote.
fn holds_logits(path: &Path) -> bool {
    let archive = File::open(path).ok().and_then(|file| Archive::new(file).ok());
    archive.is_some_and(|archive| archive.names().eq(["labels.npy", "logits.npy"]))
}

fn write_logits(path: &Path, logits: &[f32], recordings: &Recordings) -> Result<()> {
    let n = recordings.len();
    npz::write(
        path,
        &[
            ("logits", &[n, logits.len() / n.max(1)], Values::F32(logits)),
            ("labels", &[n], Values::I64(&recordings.y)),
        ],
    )
    .with_context(|| format!("{}: the logits could not be written", path.display()))
}

impl Report {
    fn new(measured: &Measured, seconds: f64) -> Self {
        let metrics = measured.metrics();
        let snn = measured.simulated();
        let (precision, ann) = match &measured.result {
            Findings::Artificial { precision, layers, .. } => (*precision, layers.as_slice()),
            Findings::Spiking(_) => (None, &[][..]),
        };
        let of_ann = || ann_layers(ann, metrics.samples());
        Self {
            kind: if snn.is_some() { "snn" } else { "ann" },
            samples: metrics.samples(),
            accuracy: metrics.accuracy(),
            standard_error: metrics.standard_error(),
            balanced_accuracy: metrics.balanced_accuracy(),
            macro_f1: metrics.macro_f1(),
            largest_class_share: metrics.largest_class_share(),
            loss: metrics.loss(),
            timesteps: snn.map(|s| s.steps),
            engine: snn.map(|s| s.engine.clone()),
            preset: snn.map(|s| s.rules.preset.to_string()),
            encoder: snn.map(|s| s.encoding.to_string()),
            bits: snn.and_then(|s| BitsReport::of(&s.rules)).or(precision.map(BitsReport::from)),
            class_names: measured.classes.clone(),
            confusion: metrics.confusion().to_vec(),
            layers: snn.map_or_else(of_ann, |s| layers(&s.found, metrics.samples())),
            accuracy_by_step: snn
                .map(|s| s.found.by_step.iter().map(Metrics::accuracy).collect())
                .unwrap_or_default(),
            seconds,
            written: None,
        }
    }

    fn text(&self) -> String {
        let mut text = format!(
            "accuracy {:.4} \u{b1} {:.4} (balanced {:.4}, macro F1 {:.4}; the largest class has {:.4}), loss {:.4}, {} \
             recordings",
            self.accuracy,
            self.standard_error,
            self.balanced_accuracy,
            self.macro_f1,
            self.largest_class_share,
            self.loss,
            self.samples
        );
        if let (Some(steps), Some(preset), Some(encoder), Some(engine)) =
            (self.timesteps, &self.preset, &self.encoder, &self.engine)
        {
            text.push_str(&format!(
                ", {steps} timesteps, preset {preset}, encoder {encoder}, {engine} engine"
            ));
        }
        if let Some(bits) = self.bits {
            text.push_str(&format!(", {bits}"));
        }
        text.push_str("\n\n");
        let names = self.class_names.iter().cloned();
        let mut rows = vec![std::iter::once("actual \\ predicted".to_owned()).chain(names.clone()).collect()];
        for (name, counts) in names.zip(&self.confusion) {
            rows.push(std::iter::once(name).chain(counts.iter().map(u64::to_string)).collect());
        }
        text.push_str(&table(&rows));
        if !self.layers.is_empty() {
            let head = match self.layers[0].did {
                Did::Spiking { .. } => ["spikes/sample", "spikes/neuron", "synaptic operations/sample"],
                Did::Artificial { .. } => ["MACs", "inputs not 0/sample", "MACs with them/sample"],
            };
            let mut rows = vec![["layer", "neurons"].into_iter().chain(head).map(String::from).collect()];
            for l in &self.layers {
                let did = match l.did {
                    Did::Spiking { spikes_per_sample, spikes_per_neuron, synaptic_operations_per_sample } => {
                        [
                            thousands(spikes_per_sample),
                            format!("{spikes_per_neuron:.3}"),
                            thousands(synaptic_operations_per_sample),
                        ]
                    }
                    Did::Artificial { macs, nonzero_inputs_per_sample, nonzero_macs_per_sample } => [
                        thousands(macs as f64),
                        thousands(nonzero_inputs_per_sample),
                        thousands(nonzero_macs_per_sample),
                    ],
                };
                let mut row = vec![l.name.clone(), thousands(l.neurons as f64)];
                row.extend(did);
                rows.push(row);
            }
            text.push('\n');
            text.push_str(&table(&rows));
        }
        if let Some(written) = &self.written {
            let folder = written.folder.display();
            text.push_str(&format!(
                "\nadded to {folder} as '{}', {}; `escape-snn report {folder}` makes its page",
                written.network, written.kind
            ));
        }
        text
    }
}
