//! The ANN quantised to a few bits, weights and activations alike: the baseline that a spiking network has to beat.
//!
//! It is made from what [`activations`](crate::activations) finds: batch norms folded, thresholds from activations over
//! calibration recordings, the values of a layer as shares of its threshold. With b bits and n = 2^b - 1:
//!
//! - weights are whole numbers of b bits, sign included, on a scale for each row (an output channel's, a linear neuron's);
//! - an activation is min(n, max(0, round(n a / theta))) for a layer's threshold theta, b bits without a sign; so the
//!   scale is the layer's;
//! - a mean over a window is rounded to b bits again; a maximum needs no rounding;
//! - the recording is a signed number of `input_bits`, as it is for spiking networks in whole numbers: it is what the
//!   converter gives, whoever computes with it.
//!
//! A layer's sum of products is a whole number. One multiplication by a real factor brings it to the next layer's b bits,
//! with a constant for bias; ties of a rounding go to the even number. Sums are computed in float32 where their bound
//! lies below 2^24, else in float64, so that they are exact and do not depend on their order: results are the same for any
//! batch size and number of threads.

use escape_model::ModelError;
use escape_model::ann::{convolve, pool, to_tensor};
use escape_model::rounding::round_recording;
use escape_network::sequential::{Pool, Pooling, Sequential};
use escape_network::stage::{Op, Stage};
use escape_snn_core::integer::Precision;
use escape_snn_core::network::{SpikingLayer, SpikingNetwork};
use tch::{Device, Kind, Tensor};

use crate::Method;

/// One layer in whole numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantisedLayer {
    /// Sizes and names.
    pub shape: Stage,
    /// Weights, row-major in PyTorch's order.
    pub weights: Vec<i8>,
    /// What a row's sum is multiplied by: to have activations in whole numbers, or logits.
    pub factors: Vec<f32>,
    /// What is added then.
    pub offsets: Vec<f32>,
    /// Whether a sum of products may reach 2^24, which float32 does not hold exactly; factor and offset are then applied in
    /// float64 as well.
    pub wide: bool,
}

/// Calibration recordings and method that a baseline is made with unless told otherwise: the thresholds of the default route
/// from four timesteps on (docs/design.md has what others gave).
pub const CALIBRATION: usize = 32;
/// See [`CALIBRATION`].
pub const METHOD: Method = Method::Channels(99.9);

/// Sums up to this are exact in float32.
const EXACT: f64 = (1 << 24) as f64;

/// An ANN in whole numbers.
#[derive(Debug)]
pub struct QuantisedAnn {
    precision: Precision,
    network: Sequential,
    layers: Vec<(QuantisedLayer, Tensors)>,
    device: Device,
}

/// What of a layer computes.
#[derive(Debug)]
struct Tensors {
    weights: Tensor,
    factors: Tensor,
    offsets: Tensor,
}

/// The largest activation of so many bits.
fn largest(bits: u32) -> f64 {
    f64::from((1u32 << bits) - 1)
}

impl QuantisedLayer {
    /// From real weights of values in units of `unit`, which are `most` at most; `sent` is the largest whole number that an
    /// activation of its threshold becomes, none for the readout.
    fn new(layer: &SpikingLayer, bits: u32, (unit, most): (f64, f64), sent: Option<f64>) -> Self {
        let rows = layer.shape.output.channels;
        let row = layer.weights.len() / rows;
        let top = f64::from((1i32 << (bits - 1)) - 1);
        let per_threshold = sent.map_or(1.0, |n| n / f64::from(layer.neuron.threshold()));
        let (mut weights, mut factors, mut offsets) =
            (Vec::with_capacity(layer.weights.len()), vec![], vec![]);
        let mut bound = 0f64;
        for (o, real) in layer.weights.chunks_exact(row).enumerate() {
            let largest = real.iter().fold(0f32, |m, w| m.max(w.abs()));
            let scale = if largest > 0.0 { f64::from(largest) / top } else { 1.0 };
            let whole = real.iter().map(|w| (f64::from(*w) / scale).round().clamp(-top, top) as i8);
            let start = weights.len();
            weights.extend(whole);
            let sum: f64 = weights[start..].iter().map(|w| f64::from(w.unsigned_abs())).sum();
            bound = bound.max(sum * most);
            factors.push((scale * unit * per_threshold) as f32);
            offsets.push((f64::from(layer.bias.get(o).copied().unwrap_or(0.0)) * per_threshold) as f32);
        }
        Self { shape: layer.shape.clone(), weights, factors, offsets, wide: bound >= EXACT }
    }

    fn tensors(&self, device: Device) -> Result<Tensors, ModelError> {
        let kind = self.kind();
        let weights: Vec<f32> = self.weights.iter().map(|w| f32::from(*w)).collect();
        let weights = to_tensor(&weights, &self.shape.weight_shape(), device)?.f_to_kind(kind)?;
        // One value a row, beside the pixels of a plane.
        let along: &[i64] = match self.shape.op {
            Op::Conv(_) => &[-1, 1, 1],
            Op::Linear => &[-1],
        };
        let constants = |values: &[f32]| -> Result<Tensor, ModelError> {
            Ok(to_tensor(values, &[values.len()], device)?.f_view(along)?.f_to_kind(kind)?)
        };
        Ok(Tensors { weights, factors: constants(&self.factors)?, offsets: constants(&self.offsets)? })
    }

    fn kind(&self) -> Kind {
        if self.wide { Kind::Double } else { Kind::Float }
    }
}

impl QuantisedAnn {
    /// An ANN whose thresholds were found by [`activations::convert`](crate::activations::convert), with weights and
    /// activations of as many bits as `precision` has for weights.
    ///
    /// # Errors
    /// A weight that is no finite number, or libtorch's: no memory.
    pub fn new(found: &SpikingNetwork, precision: Precision, device: Device) -> Result<Self, ModelError> {
        let bits = precision.weight_bits();
        let n = largest(bits);
        let input = f64::from(precision.largest_input());
        let last = found.layers.len() - 1;
        let layers = found.layers.iter().enumerate().map(|(k, layer)| {
            if layer.weights.iter().chain(&layer.bias).any(|w| !w.is_finite()) {
                let name = &layer.shape.name;
                return Err(ModelError::Data(format!("{name} has a weight that is no finite number")));
            }
            // Thresholds are folded into the weights behind, which take shares of them.
            let most = if k == 0 { input } else { n };
            let made = QuantisedLayer::new(layer, bits, (1.0 / most, most), (k < last).then_some(n));
            let tensors = made.tensors(device)?;
            Ok((made, tensors))
        });
        let layers = layers.collect::<Result<_, ModelError>>()?;
        Ok(Self { precision, network: found.network.clone(), layers, device })
    }

    /// Bits of its weights and activations, and of its input.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// What it is made from, batch norms folded.
    pub fn network(&self) -> &Sequential {
        &self.network
    }

    /// Its layers, in whole numbers.
    pub fn layers(&self) -> impl Iterator<Item = &QuantisedLayer> {
        self.layers.iter().map(|(layer, _)| layer)
    }

    /// Whether each weight of a layer is not zero.
    pub fn nonzero(&self, layer: usize) -> Vec<bool> {
        self.layers[layer].0.weights.iter().map(|weight| *weight != 0).collect()
    }

    /// Where it computes.
    pub fn device(&self) -> Device {
        self.device
    }

    /// Logits, B x K, of recordings `x`, B x 1 x H x W or with as many values; `look` sees what arrives at each layer, in
    /// whole numbers.
    ///
    /// # Errors
    /// Recordings of another shape than the network takes, no memory, or those of `look`.
    pub fn forward(
        &self,
        x: &Tensor,
        mut look: impl FnMut(usize, &Tensor) -> Result<(), ModelError>,
    ) -> Result<Tensor, ModelError> {
        let input = self.network.input();
        let x = x.f_view([-1, input.channels as i64, input.height as i64, input.width as i64])?;
        // As `Precision::round_recording`.
        let mut x = round_recording(&x, f64::from(self.precision.largest_input()))?;
        let most = largest(self.precision.weight_bits());
        let last = self.layers.len() - 1;
        for (k, (layer, tensors)) in self.layers.iter().enumerate() {
            look(k, &x)?;
            let values = x.f_to_kind(layer.kind())?;
            let mut sums = match layer.shape.op {
                Op::Conv(conv) => convolve(&conv, &values, &tensors.weights, None)?,
                Op::Linear => values.f_flatten(1, -1)?.f_linear(&tensors.weights, None::<Tensor>)?,
            };
            // A multiplication and an addition, each rounded: not fused.
            sums = sums.f_mul_(&tensors.factors)?.f_add_(&tensors.offsets)?;
            if k == last {
                return Ok(sums.f_to_kind(Kind::Float)?);
            }
            x = sums.f_round_()?.f_clamp_(0.0, most)?.f_to_kind(Kind::Float)?;
            if let Some(of) = &layer.shape.pool {
                x = pool(of, &x)?;
                if let Pool { pooling: Pooling::Average { .. }, .. } = of {
                    x = x.f_round_()?;
                }
            }
        }
        Ok(x)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::activations;
    use escape_data::Recordings;
    use escape_model::ann::{Ann, to_vec};
    use escape_network::rng::Stream;
    use escape_network::sequential::{Conv2d, Layer, Named, Shape};
    use escape_snn_core::rules::Rules;

    fn network() -> Sequential {
        let named = |(i, layer): (usize, Layer)| Named { name: format!("n{i}"), layer };
        let average = Layer::Pool(Pool::new(Pooling::Average { count_padding: true }, (2, 2)));
        let layers = vec![
            Layer::Conv2d(Conv2d::new(4, (3, 3))),
            Layer::BatchNorm { eps: 1e-5, affine: true },
            Layer::Relu,
            average,
            Layer::Flatten,
            Layer::Linear { out: 3, bias: true },
        ];
        Sequential::new(Shape::new(1, 8, 10), layers.into_iter().enumerate().map(named).collect(), vec![])
            .unwrap()
    }

    fn recordings(n: usize) -> Recordings {
        let mut random = Stream::new(5, 0);
        let x = (0..n * 80).map(|_| (random.uniform() * 2.0 - 1.0) as f32).collect();
        Recordings { x, y: vec![0; n], contacts: 8, samples: 10 }
    }

    /// Root mean square of the differences of logits, relative to the logits.
    fn error(bits: u32) -> f64 {
        let ann = Ann::new(network(), 3, Device::Cpu).unwrap();
        let r = recordings(40);
        let found = activations::convert(&ann, &r, Rules::DEFAULT, Method::Max, &mut |_| true).unwrap();
        let quantised = QuantisedAnn::new(&found, Precision::new(bits, 16).unwrap(), Device::Cpu).unwrap();
        let x = to_tensor(&r.x, &[40, 1, 8, 10], Device::Cpu).unwrap();
        let want = to_vec(&ann.forward(&x, false).unwrap()).unwrap();
        let got = to_vec(&quantised.forward(&x, |_, _| Ok(())).unwrap()).unwrap();
        let square = |v: f64| v * v;
        let off: f64 = got.iter().zip(&want).map(|(g, w)| square(f64::from(g - w))).sum();
        (off / want.iter().map(|w| square(f64::from(*w))).sum::<f64>()).sqrt()
    }

    #[test]
    fn more_bits_come_nearer_to_the_ann() {
        let errors = [8, 6, 4, 3, 2].map(error);
        assert!(errors.windows(2).all(|pair| pair[0] < pair[1]) && errors[0] < 0.01, "{errors:?}");
    }

    #[test]
    fn a_weight_that_is_no_number_is_refused_by_name() {
        let ann = Ann::new(network(), 3, Device::Cpu).unwrap();
        let mut found =
            activations::convert(&ann, &recordings(2), Rules::DEFAULT, Method::Max, &mut |_| true).unwrap();
        found.layers[1].weights[0] = f32::NAN;
        let why = QuantisedAnn::new(&found, Precision::DEFAULT, Device::Cpu).unwrap_err().to_string();
        assert!(why.contains("linear1"), "{why}");
    }
}
