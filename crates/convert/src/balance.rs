//! The study's threshold balancing (Sengupta et al., "Going deeper in spiking neural networks", Front.
//! Neurosci. 2019, as the study applies it): layer by layer, the largest single-step input that a layer
//! sees while the layers below it already spike becomes its threshold.

use escape_dense::Dense;
use escape_model::ModelError;
use escape_model::ann::{Ann, to_vec};
use escape_snn_core::encode::{Encoder, Encoding};
use escape_snn_core::engine::Batch;
use escape_snn_core::network::SpikingNetwork;
use escape_snn_core::rules::Rules;
use tch::Kind;

use crate::quantile::Quantiles;
use crate::{set_threshold, skeleton};

/// A network of the published preset with balanced thresholds.
#[derive(Clone, Debug)]
pub struct Balanced {
    /// The network.
    pub network: SpikingNetwork,
    /// Mean magnitude of a class's synaptic input to the readout in a step; see [`crate::readout`].
    pub readout_input: f32,
}

/// Sets every threshold of the published preset from one batch of recordings `x` (B x H x W). New input
/// spikes are drawn for each layer's run, the encoder's generator running on. A threshold is the largest input in a step,
/// as in the study, or this `percentile` of them. `tick` hears of layers done,
/// and stops the run by returning false.
///
/// # Errors
/// The ANN does not convert, or a layer receives nothing above 0.
pub fn balance(
    ann: &Ann,
    x: &[f32],
    encoder: &mut Encoder,
    steps: usize,
    percentile: Option<f64>,
    tick: &mut dyn FnMut(usize) -> bool,
) -> Result<Balanced, ModelError> {
    let mut network = skeleton(ann, Rules::PUBLISHED)?;
    let count = network.layers.len();
    let (mut magnitude, mut inputs) = (0f64, 0usize);
    for k in 0..count {
        // Cheap beside the simulation: the weights are only handed over.
        let engine = Dense::new(network.clone(), Encoding::Poisson, ann.device())?;
        let mut seen = Quantiles::default();
        let mut largest = 0f32;
        engine.synaptic_currents(Batch { x, first: 0 }, encoder, steps, k, &mut |current| {
            if k + 1 == count {
                magnitude += current.f_abs()?.f_sum(Kind::Double)?.f_double_value(&[])?;
                inputs += current.numel();
            }
            match percentile {
                None => largest = largest.max(current.f_max()?.f_double_value(&[])? as f32),
                Some(_) => seen.extend(&to_vec(current)?),
            }
            Ok(())
        })?;
        let threshold = percentile.map_or(largest, |p| seen.percentile(p));
        set_threshold(&mut network.layers[k], threshold)?;
        if !tick(1) {
            return Err(ModelError::Interrupted);
        }
    }
    let readout_input = (magnitude / inputs.max(1) as f64) as f32;
    Ok(Balanced { network, readout_input })
}
