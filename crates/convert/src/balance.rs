//! The study's threshold balancing (Sengupta et al., "Going deeper in spiking neural networks", Front.
//! Neurosci. 2019, as the study applies it): layer by layer, the largest single-step input that a layer
//! sees while the layers below it already spike becomes its threshold. Or, for few steps, the threshold at which it fires as
//! often as it should.

use escape_dense::Dense;
use escape_model::ModelError;
use escape_model::ann::{Ann, to_vec};
use escape_snn_core::encode::{Encoder, Encoding};
use escape_snn_core::engine::Batch;
use escape_snn_core::network::SpikingNetwork;
use escape_snn_core::rules::Rules;
use tch::{Kind, Tensor};

use crate::quantile::Quantiles;
use crate::rate::{heard, threshold_for};
use crate::{set_threshold, skeleton};

/// A network of the published preset with balanced thresholds.
#[derive(Clone, Debug)]
pub struct Balanced {
    /// The network.
    pub network: SpikingNetwork,
    /// Mean magnitude of a class's synaptic input to the readout in a step; see [`crate::readout`].
    pub readout_input: f32,
}

/// What becomes of a layer's inputs over the steps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Target {
    /// The largest is the threshold, as in the study.
    Largest,
    /// This percentile is.
    Percentile(f64),
    /// The threshold makes a neuron fire this often a step, of the steps whose spikes can still reach the readout. The
    /// readout's, which only says when it is reset, is the largest.
    Rate(f64),
}

/// Sets every threshold of the published preset from one batch of recordings `x` (B x H x W). New input
/// spikes are drawn for each layer's run, the encoder's generator running on. `tick` hears of layers done,
/// and stops the run by returning false.
///
/// # Errors
/// The ANN does not convert, a layer receives nothing above 0, or no threshold gives the rate.
pub fn balance(
    ann: &Ann,
    x: &[f32],
    encoder: &mut Encoder,
    steps: usize,
    target: Target,
    tick: &mut dyn FnMut(usize) -> bool,
) -> Result<Balanced, ModelError> {
    let mut network = skeleton(ann, Rules::PUBLISHED)?;
    let count = network.layers.len();
    if matches!(target, Target::Rate(_)) && steps < count {
        return Err(ModelError::Data(format!(
            "rate: each of the {count} layers adds a step of delay, so that in {steps} steps nothing reaches the readout; \
             expected at least {count} timesteps"
        )));
    }
    let batch = (x.len() / network.input().count().max(1)) as i64;
    let (mut magnitude, mut inputs) = (0f64, 0usize);
    for k in 0..count {
        // Cheap beside the simulation: the weights are only handed over.
        let engine = Dense::new(network.clone(), Encoding::Poisson, ann.device())?;
        let mut seen = Quantiles::default();
        let mut largest = 0f32;
        let mut trains = Trains::default();
        engine.synaptic_currents(Batch { x, first: 0 }, encoder, steps, k, &mut |current| {
            if k + 1 == count {
                magnitude += current.f_abs()?.f_sum(Kind::Double)?.f_double_value(&[])?;
                inputs += current.numel();
            }
            match target {
                Target::Percentile(_) => seen.extend(&to_vec(current)?),
                Target::Rate(_) if k + 1 < count => trains.extend(current, batch, steps)?,
                Target::Largest | Target::Rate(_) => {
                    largest = largest.max(current.f_max()?.f_double_value(&[])? as f32);
                }
            }
            Ok(())
        })?;
        let threshold = match target {
            Target::Percentile(p) => seen.percentile(p),
            Target::Rate(rate) if k + 1 < count => {
                threshold_for(&trains.0, &heard(k, count, steps), rate).map_err(|reached| {
                    ModelError::Data(format!(
                        "{}: expected {rate} spikes a neuron and step, but with the lowest thresholds there are \
                         {reached:.4} in {steps} steps; ask for a lower rate, or give more timesteps",
                        network.layers[k].shape.name
                    ))
                })?
            }
            Target::Largest | Target::Rate(_) => largest,
        };
        set_threshold(&mut network.layers[k], threshold)?;
        if !tick(1) {
            return Err(ModelError::Interrupted);
        }
    }
    let mut readout_input = (magnitude / inputs.max(1) as f64) as f32;
    if let Target::Rate(_) = target {
        // Of the steps in which there can be any.
        readout_input *= steps as f32 / (steps + 1 - count) as f32;
    }
    Ok(Balanced { network, readout_input })
}

/// Values of currents that are kept to find a rate; so many tell it to a thousandth.
const KEPT: usize = 1 << 22;

/// Currents of some of a layer's neurons, spread evenly over it: T x n.
#[derive(Default)]
struct Trains(Vec<Vec<f32>>);

impl Trains {
    /// Adds a block of B x T frames of a run over `steps` steps.
    fn extend(&mut self, current: &Tensor, batch: i64, steps: usize) -> Result<(), ModelError> {
        let block = current.size()[0] / batch;
        let neurons = current.numel() as i64 / (batch * block);
        let most = (KEPT / (steps * batch as usize)).max(1) as i64;
        let values =
            current.f_view([batch, block, neurons])?.f_slice(2, 0, neurons, spread(neurons, most))?;
        for t in 0..block {
            self.0.push(to_vec(&values.f_select(1, t)?.f_contiguous()?)?);
        }
        Ok(())
    }
}

/// The distance at which to take no more than `most` of so many neurons; without a factor in common with their number, so
/// that no row or channel is left out.
fn spread(neurons: i64, most: i64) -> i64 {
    fn gcd(a: i64, b: i64) -> i64 {
        if b == 0 { a } else { gcd(b, a % b) }
    }
    let least = (neurons + most - 1) / most;
    (least..).find(|&n| n <= 1 || gcd(n, neurons) == 1).unwrap_or(least)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neurons_are_taken_from_everywhere() {
        assert_eq!(spread(256, 1000), 1);
        assert_eq!(spread(22_400, 22_400), 1);
        assert_eq!(spread(358_400, 5000), 73);
        // Rows of 100 and planes of 5,600: every column of every channel is seen.
        let seen =
            |n: i64| (0..358_400).step_by(73).map(|i| i % n).collect::<std::collections::HashSet<_>>().len();
        assert_eq!((seen(100), seen(64)), (100, 64));
    }
}
