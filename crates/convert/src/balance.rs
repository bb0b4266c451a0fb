//! The study's threshold balancing (Sengupta et al., "Going deeper in spiking neural networks", Front.
//! Neurosci. 2019, as the study applies it): layer by layer, the largest single-step input that a layer
//! sees while the layers below it already spike becomes its threshold.

use escape_model::ModelError;
use escape_model::ann::{Ann, to_vec};
use escape_snn_core::dense::Dense;
use escape_snn_core::encode::{Encoder, Encoding};
use escape_snn_core::network::{Preset, SpikingNetwork};

use crate::quantile::Quantiles;
use crate::{Method, positive, skeleton};

/// Sets every threshold of the published preset from one batch of recordings `x` (B x H x W). New input
/// spikes are drawn for each layer's run, the encoder's generator running on. `tick` hears of layers done,
/// and stops the run by returning false.
///
/// # Errors
/// The ANN does not convert, or a layer receives nothing above 0.
pub fn balance(
    ann: &Ann,
    x: &[f32],
    encoder: &mut Encoder,
    steps: usize,
    method: Method,
    tick: &mut dyn FnMut(usize) -> bool,
) -> Result<SpikingNetwork, ModelError> {
    let mut network = skeleton(ann, Preset::Published)?;
    for k in 0..network.layers.len() {
        // Cheap beside the simulation: the weights are only handed over.
        let engine = Dense::new(network.clone(), Encoding::Poisson, ann.device())?;
        let mut seen = Quantiles::default();
        let mut largest = 0f32;
        engine.look_at_input(x, encoder, steps, k, &mut |current| {
            match method {
                Method::Max => largest = largest.max(current.f_max()?.f_double_value(&[])? as f32),
                Method::Percentile(_) => seen.extend(&to_vec(current)?),
            }
            Ok(())
        })?;
        let threshold = match method {
            Method::Max => largest,
            Method::Percentile(p) => seen.percentile(p),
        };
        let layer = &mut network.layers[k];
        layer.threshold = positive(threshold, &layer.shape.name)?;
        if !tick(1) {
            return Err(ModelError::Interrupted);
        }
    }
    Ok(network)
}
