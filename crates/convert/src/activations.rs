//! Thresholds from the ANN's own activations (Rueckauer et al., "Conversion of continuous-valued deep
//! networks to efficient event-driven networks", Front. Neurosci. 2017, section 2.2.2, robust
//! normalisation), arranged so that spikes stay 0 or 1.
//!
//! A neuron with threshold theta that receives its activation a as a constant current fires a T / theta
//! times in T steps, so its rate times theta approximates a (up to theta, to within theta / 2T when the
//! potential starts at theta / 2). The next layer should receive rate x theta: theta is folded into its
//! weights.

use escape_data::Recordings;
use escape_model::ModelError;
use escape_model::ann::{Ann, to_vec};
use escape_model::train::batch_tensor;
use escape_network::stage::{Op, Stage};
use escape_snn_core::encode::Encoding;
use escape_snn_core::network::{SpikingLayer, SpikingNetwork};
use escape_snn_core::rules::Rules;

use crate::fit::fit;
use crate::quantile::{Quantiles, Top};
use crate::{Method, set_threshold, skeleton};

/// A spiking network of the default preset, each threshold what `method` takes from the layer's activations over the
/// `calibration` recordings. The readout's, which nothing uses, is that of the logits. [`Method::Fit`] fits to `steps`
/// timesteps of input of the kind `encoding`; the other methods need neither. `tick` hears of recordings done, of
/// [`passes`] over all of them, and stops the work by returning false.
///
/// # Errors
/// The ANN does not convert, a layer whose activations give no threshold above 0, or [`ModelError::Interrupted`].
pub fn convert(
    ann: &Ann,
    calibration: &Recordings,
    method: Method,
    (encoding, steps): (Encoding, usize),
    tick: &mut dyn FnMut(usize) -> bool,
) -> Result<SpikingNetwork, ModelError> {
    let mut network = skeleton(ann, Rules::DEFAULT)?;
    let mut seen = vec![Quantiles::default(); network.layers.len()];
    // Of each channel of a convolution, where that is asked for.
    let mut by_channel: Vec<Vec<Top>> = match method {
        Method::Channels(percent) => {
            network.layers.iter().map(|l| tops(l, percent, calibration.len())).collect()
        }
        _ => Vec::new(),
    };
    let indices: Vec<usize> = (0..calibration.len()).collect();
    for batch in indices.chunks(16) {
        let x = batch_tensor(calibration, batch, ann.device())?;
        let _ = tch::no_grad(|| {
            ann.forward_with(&x, false, |i, activations| {
                if let Some(k) = network.layers.iter().position(|l| l.shape.activations_at == i) {
                    let readout = k + 1 == network.layers.len();
                    let activations =
                        if readout { activations.shallow_clone() } else { activations.f_relu()? };
                    let values = to_vec(&activations)?;
                    seen[k].extend(&values);
                    if let Some(tops) = by_channel.get_mut(k).filter(|tops| !tops.is_empty()) {
                        let plane = values.len() / batch.len() / tops.len();
                        for (n, values) in values.chunks_exact(plane).enumerate() {
                            let channels = tops.len();
                            tops[n % channels].extend(values.iter().copied());
                        }
                    }
                }
                Ok(())
            })
        })?;
        if !tick(batch.len()) {
            return Err(ModelError::Interrupted);
        }
    }
    let percent = match method {
        Method::Fit => {
            fit(&mut network, ann, calibration, &seen, (encoding, steps), tick)?;
            return Ok(network);
        }
        Method::Percentile(p) | Method::Channels(p) => p,
        Method::Max => 100.0,
    };
    by_channel.resize(network.layers.len(), Vec::new());
    let mut amplitudes = vec![1.0f32];
    for ((layer, seen), tops) in network.layers.iter_mut().zip(&seen).zip(by_channel) {
        receive(layer, &amplitudes);
        set_threshold(layer, seen.percentile(percent))?;
        let threshold = layer.neuron.threshold();
        amplitudes = vec![threshold];
        if !tops.is_empty() {
            // Of a channel that hardly ever fires the layer's own: it would say nothing but noise.
            let own = |theta: f32| if theta > FAINTEST * threshold { theta } else { threshold };
            amplitudes = tops.into_iter().map(|top| own(top.value())).collect();
            send(layer, &amplitudes);
        }
    }
    Ok(network)
}

/// A channel whose own threshold would be less than this share of its layer's takes the layer's.
const FAINTEST: f32 = 0.01;

/// What to find of each channel of a convolution's neurons; nothing of the readout and of linear layers, whose neurons have a
/// single value a recording.
fn tops(layer: &SpikingLayer, percent: f64, recordings: usize) -> Vec<Top> {
    let Stage { op, output, .. } = layer.shape;
    match op {
        Op::Conv(_) => vec![Top::new(percent, output.height * output.width * recordings); output.channels],
        Op::Linear => Vec::new(),
    }
}

/// Multiplies a layer's weights by what a spike of each channel of the layer below stands for; one amplitude is that of all.
fn receive(layer: &mut SpikingLayer, amplitudes: &[f32]) {
    let Stage { op, input, output, .. } = layer.shape;
    let row = layer.weights.len() / output.channels;
    // Channels that an output channel receives, and values of each of them.
    let (inputs, each, groups) = match op {
        Op::Conv(conv) => (input.channels / conv.groups, conv.kernel.0 * conv.kernel.1, conv.groups),
        Op::Linear => (amplitudes.len(), row / amplitudes.len(), 1),
    };
    for (o, weights) in layer.weights.chunks_exact_mut(row).enumerate() {
        let first = o / (output.channels / groups) * inputs;
        for (c, weights) in weights.chunks_exact_mut(each).enumerate() {
            let amplitude = if amplitudes.len() == 1 { amplitudes[0] } else { amplitudes[first + c] };
            weights.iter_mut().for_each(|w| *w *= amplitude);
        }
    }
}

/// Gives each output channel a threshold of its own, while the layer keeps its one: its input is scaled instead.
fn send(layer: &mut SpikingLayer, thresholds: &[f32]) {
    let row = layer.weights.len() / layer.shape.output.channels;
    for (o, (weights, own)) in layer.weights.chunks_exact_mut(row).zip(thresholds).enumerate() {
        let factor = layer.neuron.threshold() / own;
        weights.iter_mut().for_each(|w| *w *= factor);
        if let Some(bias) = layer.bias.get_mut(o) {
            *bias *= factor;
        }
    }
}

/// How often [`convert`] goes through the calibration recordings for a network of so many layers.
pub fn passes(method: Method, layers: usize) -> usize {
    // All layers' activations come of one pass; fitting compares once more for each layer but the readout.
    if method == Method::Fit { layers } else { 1 }
}
