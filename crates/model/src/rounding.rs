//! Training with the rounding that a network will compute with: an ANN of few bits (quantisation-aware training, Jacob et al., CVPR 2018,
//! section 3). Numbers are those of the quantised ANN that `escape-convert` makes in the end:
//!
//! - weights are whole numbers of b bits on a scale for each row, the largest weight of which takes the largest number;
//! - an activation is one of 2^b shares of its layer's threshold, which is learned as the weights are (Esser et al., "Learned step size
//!   quantization", ICLR 2020), from a percentile of what the first batch sends on;
//! - a mean over a window is rounded again, the recording to numbers of its own.
//!
//! An ANN that is to become a spiking network for T timesteps is trained with T levels instead (quantisation clip-floor-shift, Bu et
//! al., ICLR 2022): a neuron whose potential starts at half a threshold sends, of a constant current, as many spikes as the activation has
//! shares, so that little is left for T steps to lose.
//!
//! Gradients go through every rounding as if it were not there (the straight-through estimator of Bengio et al.,
//! arXiv 1308.3432, 2013), and stop where an activation is above its threshold.
//!
//! Letters: B batch, C channels, H rows, W columns, K classes.

use escape_checkpoint::{Checkpoint, Value};
use escape_network::sequential::{Layer, Pool, Pooling, Role};
use escape_network::stage::{Op, Stage};
use tch::{Device, Kind, Tensor};

use crate::ModelError;
use crate::ann::{Ann, convolve, pool, to_tensor};

/// Share of the first batch's activations above a threshold at its start.
const ABOVE: f64 = 0.001;
/// Keys of thresholds and of bits in a checkpoint.
const THRESHOLDS_KEY: &str = "activation_thresholds";
const BITS_KEY: &str = "activation_bits";

/// Numbers of bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoundingBits {
    /// Of weights, sign included, and of activations, which have none.
    pub bits: u32,
    /// Of a value of the recording, sign included.
    pub input: u32,
    /// Shares of a threshold that an activation can be, if not as many as its bits hold: what a spiking neuron can send in so many
    /// timesteps. Means over windows are not rounded then, since spikes of a window arrive as they are.
    pub levels: Option<u32>,
}

impl RoundingBits {
    /// The largest activation, as a whole number.
    fn largest(self) -> f64 {
        f64::from(self.levels.unwrap_or((1 << self.bits) - 1))
    }
}

/// The rounding of one network.
#[derive(Debug)]
pub struct Rounding {
    bits: RoundingBits,
    stages: Vec<Stage>,
    /// Of each stage but the last; none before the first batch. Their magnitudes count.
    thresholds: Vec<Option<Tensor>>,
}

/// The nearest whole number, and a gradient as if it were the number itself.
fn rounded(x: &Tensor) -> Result<Tensor, ModelError> {
    Ok(x.f_add(&x.f_round()?.f_sub(x)?.f_detach()?)?)
}

/// Recordings from -1 to 1 as whole numbers up to `most`, float32: the nearest, ties away from 0, as the converter gives them.
///
/// # Errors
/// Libtorch's: no memory.
pub fn round_recording(x: &Tensor, most: f64) -> Result<Tensor, ModelError> {
    let scaled = x.f_to_kind(Kind::Double)?.f_mul_scalar(most)?;
    let rounded = scaled.f_abs()?.f_add_scalar(0.5)?.f_floor()?.f_mul(&scaled.f_sign()?)?;
    Ok(rounded.f_clamp(-most, most)?.f_to_kind(Kind::Float)?)
}

/// Weights as whole numbers of so many bits on a scale for each row, in their own units.
fn rounded_weights(weights: &Tensor, bits: u32) -> Result<Tensor, ModelError> {
    let top = f64::from((1i32 << (bits - 1)) - 1);
    let scale = tch::no_grad(|| -> Result<Tensor, ModelError> {
        let largest = weights.f_abs()?.f_flatten(1, -1)?.f_amax([1].as_slice(), false)?;
        let mut shape = vec![1; weights.dim()];
        shape[0] = -1;
        // A row of zeros stays one on any scale.
        Ok(largest
            .f_clamp_min(f64::from(f32::MIN_POSITIVE) * top)?
            .f_div_scalar(top)?
            .f_view(shape.as_slice())?)
    })?;
    Ok(rounded(&weights.f_div(&scale)?)?.f_mul(&scale)?)
}

/// Activations of at least 0 as whole numbers up to `largest`, which is what a threshold becomes, and what one of them stands for.
fn shares(sent: &Tensor, threshold: &Tensor, largest: f64) -> Result<(Tensor, Tensor), ModelError> {
    let unit = threshold.f_abs()?.f_div_scalar(largest)?;
    Ok((rounded(&sent.f_div(&unit)?.f_clamp_max(largest)?)?, unit))
}

/// The value that a share of all values exceeds.
fn exceeded(values: &Tensor) -> Result<f64, ModelError> {
    let flat = values.f_detach()?.f_flatten(0, -1)?;
    let above = (flat.numel() as f64 * ABOVE) as i64 + 1;
    let (largest, _) = flat.f_topk(above, 0, true, false)?;
    Ok(largest.f_min()?.f_double_value(&[])?)
}

impl Rounding {
    /// Of a network, before its first batch.
    ///
    /// # Errors
    /// A network that has no layers of neurons; the message names the layer that is in the way.
    pub fn new(ann: &Ann, bits: RoundingBits) -> Result<Self, ModelError> {
        let stages = ann.network().stages().map_err(|why| ModelError::Data(why.to_string()))?;
        let thresholds = stages.iter().map(|_| None).collect();
        Ok(Self { bits, stages, thresholds })
    }

    /// Logits, B x K, of recordings `x`, B x 1 x H x W or with as many values, computed with rounded numbers. In `training`
    /// values are dropped, and batch norms use the batch's statistics.
    ///
    /// # Errors
    /// Recordings of another shape than the network takes, or no memory.
    pub fn forward(&mut self, ann: &Ann, x: &Tensor, training: bool) -> Result<Tensor, ModelError> {
        let input = ann.network().input();
        let x = x.f_view([-1, input.channels as i64, input.height as i64, input.width as i64])?;
        let most = f64::from((1i32 << (self.bits.input - 1)) - 1);
        let mut x = round_recording(&x, most)?.f_div_scalar(most)?;
        let last = self.stages.len() - 1;
        for k in 0..=last {
            let sums = self.sums(ann, k, &x, training)?;
            if k == last {
                return Ok(sums);
            }
            x = self.activations(k, &sums)?;
            let between = self.stages[k].weights_at..self.stages[k + 1].weights_at;
            for layer in &ann.network().layers()[between] {
                if let (Layer::Dropout { p }, true) = (layer.layer, training) {
                    x = x.f_dropout(p, true)?;
                }
            }
        }
        Ok(x)
    }

    /// What the neurons of a stage receive, behind its batch norm.
    fn sums(&self, ann: &Ann, k: usize, x: &Tensor, training: bool) -> Result<Tensor, ModelError> {
        let stage = &self.stages[k];
        let missing = || ModelError::Data(format!("{}: no weights", stage.name));
        let weight = ann.parameter(stage.weights_at, Role::Weight).ok_or_else(missing)?;
        let bias = ann.parameter(stage.weights_at, Role::Bias);
        let whole = rounded_weights(weight, self.bits.bits)?;
        let sums = match stage.op {
            Op::Conv(conv) => convolve(&conv, x, &whole, bias)?,
            Op::Linear => x.f_flatten(1, -1)?.f_linear(&whole, bias)?,
        };
        match stage.norm_at.map(|at| (at, ann.network().layers()[at].layer)) {
            Some((at, Layer::BatchNorm { eps, .. })) => ann.normalised(at, eps, &sums, training),
            _ => Ok(sums),
        }
    }

    /// What a stage sends of such sums, in few bits and pooled.
    fn activations(&mut self, k: usize, sums: &Tensor) -> Result<Tensor, ModelError> {
        let sent = sums.f_relu()?;
        let threshold = match &self.thresholds[k] {
            Some(known) => known.shallow_clone(),
            None => {
                // Of a layer that sends nothing yet, anything will do.
                let start = Some(exceeded(&sent)?).filter(|theta| *theta > 0.0).unwrap_or(1.0);
                let start = to_tensor(&[start as f32], &[1], sums.device())?.f_set_requires_grad(true)?;
                self.thresholds[k].insert(start).shallow_clone()
            }
        };
        let (mut x, unit) = shares(&sent, &threshold, self.bits.largest())?;
        if let Some(of) = &self.stages[k].pool {
            x = pool(of, &x)?;
            if let (Pool { pooling: Pooling::Average { .. }, .. }, None) = (of, self.bits.levels) {
                x = rounded(&x)?;
            }
        }
        Ok(x.f_mul(&unit)?)
    }

    /// Its thresholds, to be learned beside the network's parameters; none before the first batch.
    pub fn learned(&self) -> impl Iterator<Item = &Tensor> {
        self.thresholds.iter().flatten()
    }

    /// How many thresholds there are to learn.
    pub fn count(&self) -> usize {
        self.stages.len() - 1
    }

    /// What a checkpoint keeps of it.
    ///
    /// # Errors
    /// Libtorch's.
    pub fn entries(&self) -> Result<Vec<(String, Value)>, ModelError> {
        let value = |theta: &Tensor| Ok(Value::Float(theta.f_abs()?.f_double_value(&[0])?));
        let thresholds = self.learned().map(value).collect::<Result<_, ModelError>>()?;
        let RoundingBits { bits, input, levels } = self.bits;
        let bits = [bits, input].into_iter().chain(levels).map(|b| Value::Int(i64::from(b)));
        Ok(vec![
            (THRESHOLDS_KEY.to_owned(), Value::List(thresholds)),
            (BITS_KEY.to_owned(), Value::List(bits.collect())),
        ])
    }

    /// Takes the thresholds of a checkpoint that [`Rounding::entries`] are in.
    ///
    /// # Errors
    /// It holds none, or others than the network's.
    pub fn restore(&mut self, saved: &Checkpoint, device: Device) -> Result<(), ModelError> {
        let found = Trained::of(saved)
            .filter(|found| found.bits == self.bits && found.thresholds.len() == self.count());
        let found = found.ok_or_else(|| {
            ModelError::Data(
                "the checkpoint holds no sound thresholds of its activations to go on from; start afresh without --resume".into(),
            )
        })?;
        for (known, theta) in self.thresholds.iter_mut().zip(found.thresholds) {
            *known = Some(to_tensor(&[theta], &[1], device)?.f_set_requires_grad(true)?);
        }
        Ok(())
    }
}

/// What a checkpoint says of the rounding that its ANN was trained with.
#[derive(Clone, Debug, PartialEq)]
pub struct Trained {
    /// Numbers of bits.
    pub bits: RoundingBits,
    /// Threshold of each layer's activations but the last's, above 0.
    pub thresholds: Vec<f32>,
}

impl Trained {
    /// Of a checkpoint, if it was trained so and says it soundly.
    pub fn of(saved: &Checkpoint) -> Option<Self> {
        let items = |key: &str| saved.extra.iter().find(|e| e.0 == key)?.1.items();
        let whole = |value: &Value| value.as_i64().and_then(|n| u32::try_from(n).ok());
        let bits: Vec<u32> = items(BITS_KEY)?.iter().map(whole).collect::<Option<_>>()?;
        let bits = match bits[..] {
            [bits, input] => RoundingBits { bits, input, levels: None },
            [bits, input, levels] => RoundingBits { bits, input, levels: Some(levels) },
            _ => return None,
        };
        let sound = |value: &Value| {
            value.as_f64().map(|theta| theta as f32).filter(|theta| *theta > 0.0 && theta.is_finite())
        };
        let thresholds = items(THRESHOLDS_KEY)?.iter().map(sound).collect::<Option<_>>()?;
        Some(Self { bits, thresholds })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ann::to_vec;

    fn leaf(values: &[f32]) -> Tensor {
        Tensor::from_slice(values).set_requires_grad(true)
    }

    #[test]
    fn weights_are_whole_numbers_of_a_scale_for_each_row_and_gradients_pass() {
        let weights = leaf(&[0.55, -1.0, 0.2, 0.0, 0.0, 0.0, 6.0, 7.0, -2.4]);
        let got = rounded_weights(&weights.view([3, 3]), 4).unwrap();
        let want = [4.0 / 7.0, -1.0, 1.0 / 7.0, 0.0, 0.0, 0.0, 6.0, 7.0, -2.0];
        let off = to_vec(&got).unwrap().iter().zip(want).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
        assert!(off < 1e-6, "{got:?}");
        let gradient = Tensor::run_backward(&[got.sum(Kind::Float)], &[&weights], false, false);
        assert_eq!(to_vec(&gradient[0]).unwrap(), [1.0; 9]);
    }

    /// Esser et al. 2020, equations 2 and 3, of activations below and above their threshold.
    #[test]
    fn thresholds_have_the_gradient_of_learned_step_sizes() {
        let (sent, threshold) = (leaf(&[0.0, 0.3, 0.9, 2.0]), leaf(&[1.0]));
        let (whole, unit) = shares(&sent, &threshold, 3.0).unwrap();
        assert_eq!(to_vec(&whole).unwrap(), [0.0, 1.0, 3.0, 3.0]);
        let total = (whole * unit).sum(Kind::Float);
        let gradients = Tensor::run_backward(&[total], &[&sent, &threshold], false, false);
        assert_eq!(to_vec(&gradients[0]).unwrap(), [1.0, 1.0, 1.0, 0.0]);
        let want = (1.0 / 3.0 - 0.3) + (1.0 - 0.9) + 1.0;
        assert!((to_vec(&gradients[1]).unwrap()[0] - want).abs() < 1e-6, "{:?}", gradients[1]);
    }

    #[test]
    fn only_sound_entries_are_taken() {
        let entries = |thresholds: Vec<f64>, bits: Vec<i64>| Checkpoint {
            extra: vec![
                (THRESHOLDS_KEY.into(), Value::List(thresholds.into_iter().map(Value::Float).collect())),
                (BITS_KEY.into(), Value::List(bits.into_iter().map(Value::Int).collect())),
            ],
            ..Checkpoint::default()
        };
        let sound = Trained::of(&entries(vec![1.5], vec![4, 10])).unwrap();
        assert_eq!(
            sound,
            Trained { bits: RoundingBits { bits: 4, input: 10, levels: None }, thresholds: vec![1.5] }
        );
        for (thresholds, bits) in [
            (vec![0.0], vec![4, 10]),
            (vec![f64::INFINITY], vec![4, 10]),
            (vec![1.0], vec![4]),
            (vec![1.0], vec![-4, 10]),
        ] {
            assert_eq!(Trained::of(&entries(thresholds, bits)), None);
        }
        assert_eq!(Trained::of(&Checkpoint::default()), None);
    }
}
