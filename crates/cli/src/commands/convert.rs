//! `escape-snn convert`

use std::path::Path;

use anyhow::Result;
use escape_checkpoint::input::KnownInput;
use escape_checkpoint::{Checkpoint, Value};
use escape_convert::Method;
use escape_convert::activations;
use escape_convert::balance::{Balanced, balance};
use escape_convert::readout::{Gain, SOFTMAX_DRIVE, amplify, is_swamped};
use escape_data::Recordings;
use escape_model::ann::Ann;
use escape_snn_core::encode::Encoding;
use escape_snn_core::network::SpikingNetwork;
use escape_snn_core::rules::{self, Preset};
use escape_snn_core::stored;
use serde::Serialize;

use super::{recordings, table};
use crate::args::ConvertArgs;
use crate::context::{Context, check_apart, check_file, usage};
use crate::notes::on_calibration;

#[derive(Serialize)]
struct Report<'a> {
    thresholds: Vec<f64>,
    preset: String,
    method: String,
    timesteps: usize,
    samples: usize,
    /// Of the published preset: mean input of a readout neuron in a step, and the factor on the last layer's weights.
    #[serde(flatten)]
    readout: Option<Readout>,
    /// What was remarked on.
    notes: Vec<String>,
    out: &'a Path,
}

/// What was measured of the published readout, and done about it.
#[derive(Clone, Copy, Serialize)]
pub struct Readout {
    /// Mean magnitude of a class's synaptic input in a step, with the gain.
    pub readout_input: f32,
    /// Factor on the weights of the last layer; 1 leaves them as they are.
    pub readout_gain: f32,
}

/// A spiking network, and what is to be said of it.
pub struct Converted {
    pub network: SpikingNetwork,
    /// Of the published preset only.
    pub readout: Option<Readout>,
    /// What somebody should know who uses it.
    pub notes: Vec<String>,
}

/// How to convert, with every default filled in.
pub struct Conversion {
    pub preset: Preset,
    pub method: Method,
    pub steps: usize,
    pub scale: f64,
    pub readout_gain: Option<Gain>,
}

impl Conversion {
    /// # Errors
    /// A scale that no threshold can have, or a gain for a readout that has no use for it.
    pub fn new(
        preset: Preset,
        method: Option<Method>,
        steps: Option<usize>,
        scale: f64,
        readout_gain: Option<Gain>,
    ) -> Result<Self> {
        if readout_gain.is_some() && preset.rules().readout == rules::Readout::Accumulate {
            return Err(usage(format!(
                "readout gain: the {preset} preset's readout adds nothing to its input, so a gain changes nothing; \
                 leave it out, or choose --preset published"
            )));
        }
        if !(scale > 0.0 && scale.is_finite()) {
            return Err(usage(format!("scale: expected a positive number, got {scale}")));
        }
        let steps = steps.unwrap_or(match preset {
            Preset::Published => 1000,
            Preset::Default => 4,
        });
        if preset == Preset::Published && method == Some(Method::Fit) {
            return Err(usage(
                "method fit: thresholds are fitted for the default preset; expected max or percentile:P for the published one",
            ));
        }
        let method = method.unwrap_or(match preset {
            Preset::Published => Method::Max,
            Preset::Default => Method::for_steps(steps),
        });
        Ok(Self { preset, method, steps, scale, readout_gain })
    }

    /// Converts, for input of the kind `encoding`; scale and gain are multiplied into thresholds and weights.
    pub fn convert(
        &self,
        context: &Context,
        ann: &Ann,
        calibration: &Recordings,
        encoding: Encoding,
    ) -> Result<Converted> {
        let mut converted = match self.preset {
            Preset::Published => {
                let mut progress = context.progress("balancing thresholds", ann.layers().len());
                let mut encoder = self.preset.rules().encoder(Encoding::Poisson, context.seed);
                let percentile = match self.method {
                    Method::Percentile(p) => Some(p),
                    Method::Max | Method::Fit => None,
                };
                let Balanced { mut network, readout_input } =
                    balance(ann, &calibration.x, &mut encoder, self.steps, percentile, &mut |n| {
                        progress.tick(n)
                    })?;
                drop(progress);
                let readout_gain = self.readout_gain.map_or(1.0, |gain| gain.factor(readout_input));
                amplify(&mut network, readout_gain).map_err(|error| {
                    usage(format!("readout gain {readout_gain}: of the last layer, {error}"))
                })?;
                let readout = Readout { readout_input: readout_input * readout_gain, readout_gain };
                Converted { network, readout: Some(readout), notes: self.remarks(&readout) }
            }
            Preset::Default => {
                let what = if self.method == Method::Fit { "fitting thresholds" } else { "thresholds" };
                let passes = activations::passes(self.method, ann.layers().len());
                let mut progress = context.progress(what, passes * calibration.len());
                let meant_for = (encoding, self.steps);
                let network = activations::convert(ann, calibration, self.method, meant_for, &mut |n| {
                    progress.tick(n)
                })?;
                Converted { network, readout: None, notes: Vec::new() }
            }
        };
        for layer in &mut converted.network.layers {
            let threshold = (f64::from(layer.neuron.threshold()) * self.scale) as f32;
            layer.neuron = layer.neuron.with_threshold(threshold).map_err(|_| {
                usage(format!("scale {}: leaves {} no threshold it can have", self.scale, layer.shape.name))
            })?;
        }
        Ok(converted)
    }

    /// What is to be said of the published readout: a gain that was chosen, a softmax of its own that outweighs its input.
    fn remarks(&self, readout: &Readout) -> Vec<String> {
        let Readout { readout_input, readout_gain } = readout;
        let chosen = (self.readout_gain == Some(Gain::Auto))
            .then(|| format!("note: the last layer's weights were multiplied by {readout_gain}"));
        let swamped = is_swamped(*readout_input).then(|| {
            format!(
                "note: the logits of this network are small: its readout receives {readout_input:.3} a step and class, \
                 and the published rules add {SOFTMAX_DRIVE:.3} of their own whatever the recording, so accuracy will \
                 stay well below the ANN's at any number of steps; give --readout-gain auto, \
                 which multiplies the last layer's weights and changes no decision of the ANN (longer training makes \
                 logits grow too, but slowly)"
            )
        });
        chosen.into_iter().chain(swamped).collect()
    }
}

/// The SNN checkpoint of a converted network. Accuracy and epoch stay those of the ANN until the network is
/// fine-tuned, as in the study.
pub fn converted(
    ann: &Checkpoint,
    made: &Converted,
    encoding: Encoding,
    steps: usize,
    input: &KnownInput,
) -> Checkpoint {
    let mut out = stored::to_checkpoint(&made.network, encoding, steps);
    input.store(&mut out);
    if let Some(Readout { readout_gain, .. }) = made.readout.filter(|r| r.readout_gain != 1.0) {
        out.extra.push(("readout_gain".into(), Value::Float(f64::from(readout_gain))));
    }
    (out.accuracy, out.epoch) = (ann.accuracy, ann.epoch);
    out
}

pub fn run(context: &Context, args: ConvertArgs) -> Result<()> {
    check_apart(&args.out, &[&args.checkpoint, &args.data])?;
    check_file(context, &args.out)?;
    let steps = args.timesteps.map(|t| t as usize);
    let conversion = Conversion::new(args.preset, args.method, steps, args.scale, args.readout_gain)?;
    let checkpoint = super::network(context, &args.checkpoint, &args.selection)?;
    if checkpoint.thresholds.is_some() && checkpoint.timesteps.is_some() {
        return Err(usage(format!(
            "{}: this is a spiking network already; convert the ANN it was made from",
            args.checkpoint.display()
        )));
    }
    let mut notes = Vec::new();
    if checkpoint.thresholds.is_some() {
        notes.push(format!(
            "note: {}: holds thresholds of an earlier conversion; they are not used",
            args.checkpoint.display()
        ));
    }
    let from = (&checkpoint, args.checkpoint.as_path());
    let (calibration, origin) =
        recordings(context, &args.data, &args.reading.options(), args.split, Some(args.samples), from)?;
    notes.extend(on_calibration(args.samples, calibration.len()));
    notes.iter().for_each(|note| context.note(note));
    let (contacts, samples) = (calibration.contacts, calibration.samples);
    let ann = Ann::from_checkpoint(&checkpoint, &args.checkpoint, contacts, samples, context.device()?)?;
    let made = conversion.convert(context, &ann, &calibration, conversion.preset.rules().encoding)?;
    made.notes.iter().for_each(|note| context.note(note));
    notes.extend(made.notes.iter().cloned());
    // In JSON they need not be called notes again.
    let plain = |note: &String| note.strip_prefix("note: ").unwrap_or(note).to_owned();
    let network = &made.network;
    let input = KnownInput::of(&checkpoint).converted_with(&origin.known_input(&calibration));
    converted(&checkpoint, &made, conversion.preset.rules().encoding, conversion.steps, &input)
        .save(&args.out)?;
    let report = Report {
        thresholds: network.layers.iter().map(|l| f64::from(l.neuron.threshold())).collect(),
        preset: conversion.preset.to_string(),
        method: conversion.method.to_string(),
        timesteps: conversion.steps,
        samples: calibration.len(),
        readout: made.readout,
        notes: notes.iter().map(plain).collect(),
        out: &args.out,
    };
    context.result(&report, || {
        let mut rows = vec![vec!["layer".to_string(), "threshold".to_string()]];
        for layer in &network.layers {
            rows.push(vec![layer.shape.name.clone(), format!("{:.4}", layer.neuron.threshold())]);
        }
        format!("{}\nwritten to {}", table(&rows), args.out.display())
    })
}
