//! From an ANN to a spiking network, with every setting filled in.

use anyhow::Result;
use escape_checkpoint::input::KnownInput;
use escape_checkpoint::{Checkpoint, Value};
use escape_convert::Method;
use escape_convert::activations;
use escape_convert::balance::{Balanced, Target, balance};
use escape_convert::readout::{Gain, amplify, is_swamped, softmax_drive};
use escape_data::Recordings;
use escape_model::ann::Ann;
use escape_model::rounding::Trained;
use escape_snn_core::encode::Encoding;
use escape_snn_core::integer::{Bits, Precision};
use escape_snn_core::network::SpikingNetwork;
use escape_snn_core::rules::{self, Preset, Rules};
use escape_snn_core::stored;
use serde::Serialize;

use crate::defaults::{Defaults, Route};
use crate::session::{Session, usage};

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
    /// The network.
    pub network: SpikingNetwork,
    /// Of the published preset only.
    pub readout: Option<Readout>,
    /// What somebody should know who uses it.
    pub notes: Vec<String>,
}

/// How to convert, with every default filled in.
pub struct Conversion {
    /// Its rules.
    pub preset: Preset,
    /// Where thresholds come from.
    pub method: Method,
    /// T.
    pub steps: usize,
    /// Factor on every threshold.
    pub scale: f64,
    /// Factor on the last layer's weights.
    pub readout_gain: Option<Gain>,
    /// Bits of whole numbers.
    pub bits: Bits,
}

/// What was asked for of a conversion; what was not has defaults.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted {
    /// Where thresholds come from.
    pub method: Option<Method>,
    /// T.
    pub steps: Option<usize>,
    /// Factor on the last layer's weights.
    pub readout_gain: Option<Gain>,
    /// Bits of whole numbers.
    pub bits: Bits,
}

impl Conversion {
    /// # Errors
    /// A scale that no threshold can have, or a gain or numbers of bits for rules that have no use for them.
    pub fn new(preset: Preset, scale: f64, wanted: Wanted) -> Result<Self> {
        let Wanted { method, steps, readout_gain, bits } = wanted;
        preset.rules().with_bits(bits).map_err(usage)?;
        if readout_gain.is_some() && preset.rules().readout == rules::Readout::Accumulate {
            return Err(usage(format!(
                "readout gain: the {preset} preset's readout adds nothing to its input, so a gain changes nothing; \
                 leave it out, or choose --preset published"
            )));
        }
        if !(scale > 0.0 && scale.is_finite()) {
            return Err(usage(format!("scale: expected a positive number, got {scale}")));
        }
        let Defaults { route, conversion_steps, method: usual, .. } = Defaults::of(preset);
        let steps = steps.unwrap_or(conversion_steps);
        if route == Route::Balancing && matches!(method, Some(Method::Channels(_) | Method::Trained)) {
            return Err(usage(
                "method channels, trained: thresholds of each channel and those that an ANN was trained with are the default preset's; expected max, percentile:P or rate:R for the published one",
            ));
        }
        if route == Route::Activations && matches!(method, Some(Method::Rate(_))) {
            return Err(usage(
                "method rate: rates are what the published preset's thresholds can be balanced for; expected max, percentile:P or channels:P for the default one",
            ));
        }
        let method = method.unwrap_or_else(|| usual(steps));
        Ok(Self { preset, method, steps, scale, readout_gain, bits })
    }

    /// Converts; scale and gain are multiplied into thresholds and weights.
    ///
    /// # Errors
    /// The listener asked to stop, a scale or gain leaves a threshold or weight that cannot be, or libtorch fails.
    pub fn convert(
        &self,
        session: &Session,
        (ann, checkpoint): (&Ann, &Checkpoint),
        calibration: &Recordings,
    ) -> Result<Converted> {
        let layers = ann.network().layers().iter().filter(|l| l.layer.has_weights()).count();
        let mut converted = match Defaults::of(self.preset).route {
            Route::Balancing => {
                let mut progress = session.progress("balancing thresholds", layers);
                let mut encoder = self.preset.rules().encoder(Encoding::Poisson, session.seed);
                let target = match self.method {
                    Method::Percentile(p) => Target::Percentile(p),
                    Method::Rate(rate) => Target::Rate(rate),
                    Method::Max | Method::Channels(_) | Method::Trained => Target::Largest,
                };
                let Balanced { mut network, readout_input } =
                    balance(ann, &calibration.x, &mut encoder, self.steps, target, &mut |n| {
                        progress.tick(n)
                    })?;
                drop(progress);
                let classes = network.classes();
                let readout_gain = self.readout_gain.map_or(1.0, |gain| gain.factor(readout_input, classes));
                amplify(&mut network, readout_gain).map_err(|error| {
                    usage(format!("readout gain {readout_gain}: of the last layer, {error}"))
                })?;
                let readout = Readout { readout_input: readout_input * readout_gain, readout_gain };
                Converted { network, readout: Some(readout), notes: self.remarks(&readout, classes) }
            }
            Route::Activations => {
                let rules = self.preset.rules();
                let trained = Trained::of(checkpoint);
                let notes = trained.as_ref().and_then(|trained| self.beside(trained)).into_iter().collect();
                let network = match (self.method, trained) {
                    (Method::Trained, Some(trained)) => {
                        activations::with_thresholds(ann, rules, &trained.thresholds)?
                    }
                    (Method::Trained, None) => {
                        return Err(usage(
                            "method trained: this ANN was trained without thresholds (train --bits, --levels); take another method",
                        ));
                    }
                    _ => calibrated(session, ann, calibration, rules, self.method)?,
                };
                Converted { network, readout: None, notes }
            }
        };
        let rules = &mut converted.network.rules;
        *rules = rules.with_bits(self.bits).map_err(usage)?;
        for layer in &mut converted.network.layers {
            let threshold = (f64::from(layer.neuron.threshold()) * self.scale) as f32;
            layer.neuron = layer.neuron.with_threshold(threshold).map_err(|_| {
                usage(format!("scale {}: leaves {} no threshold it can have", self.scale, layer.shape.name))
            })?;
        }
        Ok(converted)
    }

    /// What is to be said of an ANN that has thresholds of its own.
    fn beside(&self, trained: &Trained) -> Option<String> {
        let levels = trained.bits.levels?;
        if self.method != Method::Trained {
            return Some(format!(
                "note: this ANN has thresholds that it was trained with, for T = {levels}; --method trained takes them"
            ));
        }
        (self.steps != levels as usize).then(|| {
            format!(
                "note: this ANN was trained for T = {levels}, and is converted for T = {}; take --timesteps {levels}, or train with \
                 --levels {}",
                self.steps, self.steps
            )
        })
    }

    /// What is to be said of the published readout: a gain that was chosen, a softmax of its own that outweighs its input.
    fn remarks(&self, readout: &Readout, classes: usize) -> Vec<String> {
        let Readout { readout_input, readout_gain } = readout;
        let chosen = (self.readout_gain == Some(Gain::Auto))
            .then(|| format!("note: the last layer's weights were multiplied by {readout_gain}"));
        let swamped = is_swamped(*readout_input, classes).then(|| {
            format!(
                "note: the logits of this network are small: its readout receives {readout_input:.3} a step and class, \
                 and the published rules add {:.3} of their own whatever the recording, so accuracy will \
                 stay well below the ANN's at any number of steps; give --readout-gain auto, \
                 which multiplies the last layer's weights and changes no decision of the ANN (longer training makes \
                 logits grow too, but slowly)",
                softmax_drive(classes)
            )
        });
        chosen.into_iter().chain(swamped).collect()
    }
}

/// The ANN with thresholds from its activations over calibration recordings, as the default route and the quantised ANN
/// start from.
///
/// # Errors
/// The listener asked to stop, the ANN has no spiking counterpart or a silent layer, or libtorch fails.
pub fn calibrated(
    session: &Session,
    ann: &Ann,
    calibration: &Recordings,
    rules: Rules,
    method: Method,
) -> Result<SpikingNetwork> {
    let mut progress = session.progress("thresholds", calibration.len());
    Ok(activations::convert(ann, calibration, rules, method, &mut |n| progress.tick(n))?)
}

/// The ANN with the thresholds that it was trained with, where it was trained to compute with as many bits.
///
/// # Errors
/// Thresholds that do not fit the network.
pub fn trained_thresholds(
    ann: &Ann,
    checkpoint: &Checkpoint,
    precision: Precision,
) -> Result<Option<SpikingNetwork>> {
    let trained = Trained::of(checkpoint)
        .filter(|trained| trained.bits.levels.is_none() && trained.bits.bits == precision.weight_bits());
    let network = trained.map(|t| activations::with_thresholds(ann, Rules::DEFAULT, &t.thresholds));
    Ok(network.transpose()?)
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
