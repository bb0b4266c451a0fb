//! Thresholds fitted to the number of timesteps.
//!
//! T steps of a neuron with threshold theta approximate its activation a by theta n / T, n the number of spikes: a
//! staircase of T + 1 levels up to theta. A low threshold clips large activations, a high one has coarse steps and leaves
//! small activations silent; which is worse depends on T, and on the layer. Percentiles of activations cannot know that,
//! and neither can the mean squared difference of staircase and ReLU: clipping always errs in one direction, so its errors
//! add up in the next layer where those of rounding cancel.
//!
//! So a layer's threshold is chosen by what its spikes do to the next layer: layer by layer, from the input upwards, each
//! candidate runs for T steps on the spikes of the layers below (whose errors it therefore makes up for where it can), and
//! the next layer's input, averaged over the steps, is compared with that of the ANN.
//!
//! Letters: B batch, T timesteps, C channels, H rows, W columns.

use escape_data::Recordings;
use escape_dense::{Dense, Synapses};
use escape_model::ModelError;
use escape_model::ann::{Ann, pool, to_tensor, to_vec};
use escape_model::train::batch_tensor;
use escape_snn_core::encode::Encoding;
use escape_snn_core::engine::{Batch, Engine};
use escape_snn_core::network::SpikingNetwork;
use escape_snn_core::neuron::{Dynamics, step_all};
use rayon::prelude::*;
use tch::{Kind, Tensor};

use crate::quantile::Quantiles;
use crate::set_threshold;

/// Percentiles of a layer's activations that are tried as its threshold.
pub const CANDIDATES: [f64; 10] = [97.0, 98.0, 99.0, 99.5, 99.8, 99.9, 99.95, 99.99, 99.997, 100.0];

/// Of candidates whose squared error is within this share of the least, the largest threshold is taken: it causes the
/// fewest spikes.
pub const SLACK: f64 = 0.1;

/// Thresholds for more steps than this are fitted to as many: rounding hardly matters any more.
pub const MOST_STEPS: usize = 64;

/// Recordings simulated together.
const BATCH: usize = 4;

/// Sets the thresholds of `network`, whose weights are those of `ann`, for `steps` timesteps, and folds each into the
/// next layer's weights. `seen` are the activations of each layer over the `calibration` recordings, `encoding` the input
/// the network will have. The readout's threshold, which nothing uses, is the largest logit. `tick` hears of recordings
/// done, all of them for each layer, and stops the work by returning false.
///
/// # Errors
/// A layer none of whose candidates is above 0, or [`ModelError::Interrupted`].
pub fn fit(
    network: &mut SpikingNetwork,
    ann: &Ann,
    calibration: &Recordings,
    seen: &[Quantiles],
    (encoding, steps): (Encoding, usize),
    tick: &mut dyn FnMut(usize) -> bool,
) -> Result<(), ModelError> {
    let steps = steps.clamp(1, MOST_STEPS);
    let last = network.layers.len() - 1;
    for (k, seen) in seen.iter().enumerate().take(last) {
        let mut candidates: Vec<f32> = CANDIDATES.iter().map(|&p| seen.percentile(p)).collect();
        candidates.retain(|theta| *theta > 0.0);
        candidates.dedup();
        // The largest is a threshold, or there is none.
        set_threshold(&mut network.layers[k], candidates.last().copied().unwrap_or(0.0))?;
        let errors = errors(network, k, ann, calibration, &candidates, (encoding, steps), tick)?;
        let least = errors.iter().copied().fold(f64::INFINITY, f64::min);
        let chosen = (0..candidates.len()).rev().find(|&i| errors[i] <= least * (1.0 + SLACK)).unwrap_or(0);
        let threshold = candidates[chosen];
        set_threshold(&mut network.layers[k], threshold)?;
        network.layers[k + 1].weights.iter_mut().for_each(|w| *w *= threshold);
    }
    set_threshold(&mut network.layers[last], seen[last].largest())
}

/// For each candidate threshold of layer `k`, the squared difference between the input that the layer above receives,
/// averaged over `steps`, and what it receives in the ANN, summed over neurons and recordings.
fn errors(
    network: &SpikingNetwork,
    k: usize,
    ann: &Ann,
    calibration: &Recordings,
    candidates: &[f32],
    (encoding, steps): (Encoding, usize),
    tick: &mut dyn FnMut(usize) -> bool,
) -> Result<Vec<f64>, ModelError> {
    let device = ann.device();
    let engine = Dense::new(network.clone(), encoding, device)?;
    let (layer, above) = (&network.layers[k], Synapses::new(&network.layers[k + 1], device)?);
    let into_next = |activations: &Tensor| -> Result<Tensor, ModelError> {
        let sent = match &layer.shape.pool {
            Some(of) => pool(of, activations)?,
            None => activations.shallow_clone(),
        };
        above.current(&sent, false)
    };
    let mut errors = vec![0f64; candidates.len()];
    let indices: Vec<usize> = (0..calibration.len()).collect();
    for batch in indices.chunks(BATCH) {
        let mut wanted = None;
        let _ = tch::no_grad(|| {
            ann.forward_with(&batch_tensor(calibration, batch, device)?, false, |i, activations| {
                if i == layer.shape.activations_at {
                    wanted = Some((activations.size(), into_next(&activations.f_relu()?)?));
                }
                Ok(())
            })
        })?;
        let (shape, wanted) = wanted.ok_or_else(|| ModelError::Data(format!("the ANN has no layer {k}")))?;
        let shape: Vec<usize> = shape.iter().map(|&n| n as usize).collect();
        let counts = counts(&engine, k, &calibration.select(batch).x, batch[0], candidates, steps)?;
        for ((error, threshold), counts) in errors.iter_mut().zip(candidates).zip(counts) {
            let scale = threshold / steps as f32;
            let mean: Vec<f32> = counts.into_iter().map(|n| n * scale).collect();
            let got = into_next(&to_tensor(&mean, &shape, device)?)?;
            *error += (got - &wanted).f_square()?.f_sum(Kind::Double)?.f_double_value(&[])?;
        }
        if !tick(batch.len()) {
            return Err(ModelError::Interrupted);
        }
    }
    Ok(errors)
}

/// Spikes of each neuron of layer `k` in `steps` steps, for each candidate threshold: B x C x H x W. `first` is the index
/// of the first of the recordings `x`.
fn counts(
    engine: &Dense,
    k: usize,
    x: &[f32],
    first: usize,
    candidates: &[f32],
    steps: usize,
) -> Result<Vec<Vec<f32>>, ModelError> {
    let network = engine.network();
    let neurons = network.layers[k].shape.neurons();
    let batch = x.len() / network.input().count();
    let mut encoder = network.rules.encoder(engine.encoding(), 0);
    let mut running: Vec<Running> = candidates
        .iter()
        .map(|&threshold| {
            let neuron = network.layers[k].neuron.with_threshold(threshold);
            let neuron = neuron.map_err(|error| ModelError::Data(error.to_string()))?;
            Ok(Running {
                dynamics: Dynamics { neuron, ..network.dynamics(k) },
                u: vec![network.rules.start * threshold; batch * neurons],
                counts: vec![0.0; batch * neurons],
                spikes: vec![0.0; neurons],
            })
        })
        .collect::<Result<_, ModelError>>()?;
    // The first layer's input from a recording that is itself the current is the same at every step.
    let constant = k == 0 && encoder.is_direct();
    let (input, shown) = (Batch { x, first }, if constant { 1 } else { steps });
    engine.synaptic_currents(input, &mut encoder, shown, k, &mut |current| {
        let current = to_vec(current)?;
        // Frames are in the order recording, step.
        let here = current.len() / (batch * neurons);
        let repeat = if constant { steps } else { 1 };
        running.par_iter_mut().for_each(|running| {
            for (b, frames) in current.chunks_exact(here * neurons).enumerate() {
                for _ in 0..repeat {
                    frames.chunks_exact(neurons).for_each(|frame| running.step(b, frame));
                }
            }
        });
        Ok(())
    })?;
    Ok(running.into_iter().map(|running| running.counts).collect())
}

/// Neurons of one candidate threshold on their way through the steps.
struct Running {
    dynamics: Dynamics,
    /// Potentials, B x neurons.
    u: Vec<f32>,
    /// Spikes so far, likewise.
    counts: Vec<f32>,
    /// Those of one step and recording.
    spikes: Vec<f32>,
}

impl Running {
    /// One step of the neurons of recording `b`.
    fn step(&mut self, b: usize, current: &[f32]) {
        let here = b * current.len()..(b + 1) * current.len();
        step_all(self.dynamics, &mut self.u[here.clone()], current, &mut self.spikes);
        self.counts[here].iter_mut().zip(&self.spikes).for_each(|(n, s)| *n += s);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Method, activations};
    use escape_network::arch::Architecture;
    use escape_network::arch::CLASSES;
    use escape_network::family::Family;
    use escape_network::rng::Stream;
    use tch::Device;

    fn untrained() -> Ann {
        let network = Family::published(Architecture::Modified).network(56, 100).unwrap();
        Ann::new(network, 3, Device::Cpu).unwrap()
    }

    fn recordings(n: usize) -> Recordings {
        let mut random = Stream::new(5, 0);
        let x = (0..n * 5600).map(|_| (random.uniform() * 2.0 - 1.0) as f32).collect();
        Recordings { x, y: vec![0; n], contacts: 56, samples: 100 }
    }

    /// Squared difference between the logits of the ANN and the spiking network's mean readout, relative to the logits.
    fn logit_error(ann: &Ann, r: &Recordings, method: Method, meant_for: usize, steps: usize) -> f64 {
        let spiking = (Encoding::Direct, meant_for);
        let network = activations::convert(ann, r, method, spiking, &mut |_| true).unwrap();
        let mut encoder = network.rules.encoder(Encoding::Direct, 0);
        let engine = Dense::new(network, Encoding::Direct, Device::Cpu).unwrap();
        let outcome = engine.run(Batch { x: &r.x, first: 0 }, &mut encoder, steps, &mut ()).unwrap();
        let all: Vec<usize> = (0..r.len()).collect();
        let logits =
            to_vec(&ann.forward(&batch_tensor(r, &all, Device::Cpu).unwrap(), false).unwrap()).unwrap();
        let got = outcome.logits(steps);
        assert_eq!(got.len(), r.len() * CLASSES);
        let error =
            got.iter().zip(&logits).map(|(g, w)| f64::from(g / steps as f32 - w).powi(2)).sum::<f64>();
        error / logits.iter().map(|w| f64::from(*w).powi(2)).sum::<f64>()
    }

    #[test]
    fn fitted_thresholds_follow_the_number_of_steps() {
        let ann = untrained();
        let r = recordings(2);
        let thresholds = |steps| {
            let network =
                activations::convert(&ann, &r, Method::Fit, (Encoding::Direct, steps), &mut |_| true)
                    .unwrap();
            network.layers.iter().map(|l| l.neuron.threshold()).collect::<Vec<_>>()
        };
        let (few, many) = (thresholds(1), thresholds(32));
        assert!((0..4).all(|k| few[k] <= many[k]) && few[0] < many[0], "{few:?} {many:?}");
        // Each is better than the other at its own number of steps.
        let error = |meant_for, steps| logit_error(&ann, &r, Method::Fit, meant_for, steps);
        assert!(error(32, 32) < error(1, 32));
        assert!(error(1, 1) < error(32, 1));
        // And the spikes of many steps say what the ANN says.
        assert!(error(32, 32) < 0.05, "{}", error(32, 32));
    }

    #[test]
    fn more_steps_than_are_fitted_to_change_nothing() {
        let ann = untrained();
        let r = recordings(1);
        let fitted = |steps| {
            let network =
                activations::convert(&ann, &r, Method::Fit, (Encoding::Direct, steps), &mut |_| true)
                    .unwrap();
            network.layers.iter().map(|l| l.neuron.threshold()).collect::<Vec<_>>()
        };
        assert_eq!(fitted(MOST_STEPS), fitted(1000));
    }

    #[test]
    fn the_work_can_be_stopped() {
        let ann = untrained();
        for method in [Method::Fit, Method::Percentile(99.0), Method::Max] {
            let convert = |tick: &mut dyn FnMut(usize) -> bool| {
                activations::convert(&ann, &recordings(1), method, (Encoding::Direct, 1), tick)
            };
            assert!(matches!(convert(&mut |_| false), Err(ModelError::Interrupted)), "{method}");
            let mut heard = 0;
            let count = &mut |recordings| {
                heard += recordings;
                true
            };
            convert(count).unwrap();
            assert_eq!(heard, activations::passes(method, 5), "{method}");
        }
    }
}
