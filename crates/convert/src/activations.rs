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
use escape_snn_core::encode::Encoding;
use escape_snn_core::network::SpikingNetwork;
use escape_snn_core::rules::Rules;

use crate::fit::fit;
use crate::quantile::Quantiles;
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
    let indices: Vec<usize> = (0..calibration.len()).collect();
    for batch in indices.chunks(16) {
        let x = batch_tensor(calibration, batch, ann.device())?;
        let _ = tch::no_grad(|| {
            ann.forward_with(&x, false, |i, activations| {
                if let Some(k) = network.layers.iter().position(|l| l.shape.activations_at == i) {
                    let readout = k + 1 == network.layers.len();
                    let activations =
                        if readout { activations.shallow_clone() } else { activations.f_relu()? };
                    seen[k].extend(&to_vec(&activations)?);
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
        Method::Percentile(p) => p,
        Method::Max => 100.0,
    };
    let mut amplitude = 1.0f32;
    for (layer, seen) in network.layers.iter_mut().zip(&seen) {
        layer.weights.iter_mut().for_each(|w| *w *= amplitude);
        set_threshold(layer, seen.percentile(percent))?;
        amplitude = layer.neuron.threshold();
    }
    Ok(network)
}

/// How often [`convert`] goes through the calibration recordings for a network of so many layers.
pub fn passes(method: Method, layers: usize) -> usize {
    // All layers' activations come of one pass; fitting compares once more for each layer but the readout.
    if method == Method::Fit { layers } else { 1 }
}
