//! Spiking networks in whole numbers: what an implant computes, and what every engine can compute to the last bit.
//!
//! Weights are `i8`, recordings whole numbers of a few bits, spikes counts; currents, thresholds and potentials are `i32`.
//! Each row of weights (an output channel's, a linear neuron's) has a scale that is never multiplied at run time, because
//! its threshold is divided by it instead. A pooling adds up, its division is in the next layer's scales. The readout has one
//! scale for all its rows, so that classes compare as they are.
//!
//! One timestep of a neuron, with theta >= 1 and u = floor(theta / 2) at the start:
//!
//! u <- floor(decay u) + I + b;  s = \[u > theta\];  u <- u - theta s
//!
//! where decay is a multiple of 2^-15. Sums of whole numbers do not depend on their order, so neither spikes nor readout
//! depend on batch size, threads, device or engine; and no sum overflows, which is proven when a network is made: what could
//! is refused by name.

use std::fmt;

use escape_network::sequential::Sequential;
use escape_network::stage::Stage;
use rayon::prelude::*;

use crate::Weights;
use crate::encode::Encoding;
use crate::network::SpikingNetwork;
use crate::neuron::{Firing, Plane, Reset};
use crate::rules::{Arithmetic, Readout, Rules};

/// Bits of weights and of input values, sign included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Precision {
    weight_bits: u32,
    input_bits: u32,
}

impl Precision {
    /// 8 bits a weight, 10 of input, which is what an implant's converter gives.
    pub const DEFAULT: Self = Self { weight_bits: 8, input_bits: 10 };
    /// Bits of a weight, at least and at most.
    pub const WEIGHT_BITS: [u32; 2] = [2, 8];
    /// Bits of an input value, at least and at most.
    pub const INPUT_BITS: [u32; 2] = [2, 16];

    /// Weights of 2 to 8 bits and input of 2 to 16.
    ///
    /// # Errors
    /// Another number of bits, in words.
    pub fn new(weight_bits: u32, input_bits: u32) -> Result<Self, String> {
        for (what, bits, [least, most]) in [
            ("bits of a weight", weight_bits, Self::WEIGHT_BITS),
            ("bits of input", input_bits, Self::INPUT_BITS),
        ] {
            if !(least..=most).contains(&bits) {
                return Err(format!("{what}: expected {least} to {most}, got {bits}"));
            }
        }
        Ok(Self { weight_bits, input_bits })
    }

    /// The same with other numbers of bits, where any are given.
    ///
    /// # Errors
    /// As [`Precision::new`].
    pub fn with(self, Bits { weight, input }: Bits) -> Result<Self, String> {
        Self::new(weight.unwrap_or(self.weight_bits), input.unwrap_or(self.input_bits))
    }

    /// Bits of a weight.
    pub fn weight_bits(self) -> u32 {
        self.weight_bits
    }

    /// Bits of an input value.
    pub fn input_bits(self) -> u32 {
        self.input_bits
    }

    /// The largest magnitude of a weight, 2^(bits - 1) - 1.
    pub fn largest_weight(self) -> i32 {
        (1 << (self.weight_bits - 1)) - 1
    }

    /// The largest magnitude of an input value, which 1 in a recording becomes.
    pub fn largest_input(self) -> i32 {
        (1 << (self.input_bits - 1)) - 1
    }

    /// A recording as the first layer gets it: each value, cut to [-1, 1], as the nearest whole number of that scale; ties go
    /// away from 0.
    pub fn round_recording(self, x: &[f32]) -> Vec<i32> {
        let most = f64::from(self.largest_input());
        x.iter().map(|v| (f64::from(*v) * most).round().clamp(-most, most) as i32).collect()
    }

    /// A recording as real numbers that the whole ones stand for.
    pub fn rounded(self, x: &[f32]) -> Vec<f32> {
        let most = f64::from(self.largest_input());
        self.round_recording(x).into_iter().map(|v| (f64::from(v) / most) as f32).collect()
    }
}

/// Numbers of bits that were asked for; others are as they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bits {
    /// Of a weight.
    pub weight: Option<u32>,
    /// Of an input value.
    pub input: Option<u32>,
}

impl Bits {
    /// Whether none were.
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }
}

impl Default for Precision {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bits a weight, {} of input", self.weight_bits, self.input_bits)
    }
}

/// A network that has no whole numbers of these sizes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IntegerError {
    /// Its rules are not those of whole numbers.
    #[error("these rules compute in float32; whole numbers go with the default preset")]
    Rules,
    /// A sum of one timestep may be larger than 31 bits hold.
    #[error(
        "{layer}: the input of a neuron in one timestep may reach {bound}, expected at most 2147483647; take fewer bits \
         (--input-bits, --bits) or Poisson input"
    )]
    Current {
        /// The layer.
        layer: String,
        /// The largest sum of magnitudes of a row.
        bound: i64,
    },
    /// So many timesteps may carry a potential past 31 bits.
    #[error(
        "{layer}: over {steps} timesteps a potential may exceed 31 bits, up to {most} it cannot; take fewer timesteps, fewer \
         bits (--input-bits, --bits) or Poisson input"
    )]
    Steps {
        /// The layer.
        layer: String,
        /// What was asked for.
        steps: usize,
        /// What is proven to be safe.
        most: usize,
    },
    /// A weight is NaN or infinite.
    #[error("{layer} has a weight that is no finite number")]
    NotFinite {
        /// The layer.
        layer: String,
    },
}

/// One layer in whole numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct IntegerLayer {
    /// Sizes and names.
    pub shape: Stage,
    /// Weights, row-major in PyTorch's order.
    pub weights: Vec<i8>,
    /// A constant current for each row, at every step; empty where there is none.
    pub bias: Vec<i32>,
    /// A threshold for each row, at least 1; empty for the readout, which has none.
    pub thresholds: Vec<i32>,
    /// What remains of a potential after a step, in units of 2^-15; 32768 loses nothing.
    pub decay: i32,
    /// What one unit of a row's potential is in the network of real numbers; not needed at run time.
    pub units: Vec<f64>,
    /// The largest sum of magnitudes that any partial sum of a row can reach in a step.
    pub largest_current: i32,
}

/// 1 in the units of a decay.
pub const NO_DECAY: i32 = 1 << 15;
/// The largest threshold and bias that scales are chosen for; far above any that matters.
const LARGEST_CONSTANT: f64 = (1 << 24) as f64;

impl IntegerLayer {
    /// The potential with which the neurons of a row start: half a threshold, rounded down; 0 in the readout.
    pub fn initial_potential(&self, row: usize) -> i32 {
        self.thresholds.get(row).map_or(0, |theta| theta / 2)
    }

    /// Where training, in real numbers, starts the potentials of its rows, as a fraction of the threshold: half a unit below the whole
    /// ones. Every potential lies half a unit below then ([`Leak`] brings it back there), and whether it is above the threshold is not
    /// decided by how sums are rounded, as long as they are right to half a unit: in float32 up to thresholds of some 10^5 units.
    pub fn start_fractions(&self) -> Vec<f32> {
        let rows = self.thresholds.iter().enumerate();
        let below = |(row, &theta)| (f64::from(self.initial_potential(row)) - 0.5) / f64::from(theta);
        rows.map(|row| below(row) as f32).collect()
    }

    /// How its potentials leak, if they do.
    pub fn leak(&self) -> Option<Leak> {
        (self.decay != NO_DECAY).then(|| Leak { units: self.units.clone(), decay: self.decay })
    }

    /// Weights of a row.
    pub fn row(&self) -> usize {
        self.weights.len() / self.shape.output.channels
    }
}

/// The leak of a layer's potentials, for training in real numbers.
#[derive(Clone, Debug)]
pub struct Leak {
    /// What one unit of a row's potential is in the network of real numbers.
    pub units: Vec<f64>,
    /// See [`IntegerLayer::decay`].
    decay: i32,
}

impl Leak {
    /// What a step leaves of one unit.
    pub fn kept(&self) -> f64 {
        f64::from(self.decay) / f64::from(NO_DECAY)
    }

    /// What a step leaves of potentials, any number of times those of all rows, which lie half a unit below whole ones
    /// ([`IntegerLayer::start_fractions`]).
    pub fn apply(&self, potentials: &mut [f32]) {
        for pixel in potentials.chunks_exact_mut(self.units.len()) {
            for (u, unit) in pixel.iter_mut().zip(&self.units) {
                let whole = (f64::from(*u) / unit + 0.5).round();
                *u = (((whole * self.kept()).floor() - 0.5) * unit) as f32;
            }
        }
    }
}

/// A spiking network in whole numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct IntegerNetwork {
    /// Bits of its weights and of its input.
    pub precision: Precision,
    /// What its input is.
    pub encoding: Encoding,
    /// What it is made from; names its classes.
    pub network: Sequential,
    /// Layers from input to readout.
    pub layers: Vec<IntegerLayer>,
}

/// What a layer sends is this many values of this size at most: counts of spikes.
#[derive(Clone, Copy)]
struct Signal {
    /// The largest value.
    largest: i32,
    /// What 1 stands for in the network of real numbers.
    unit: f64,
}

impl IntegerNetwork {
    /// The network in whole numbers, each row of weights on the finest scale that its largest weight allows.
    ///
    /// # Errors
    /// [`IntegerError`]: other rules, a weight that is no number, or sums that may be too large.
    pub fn new(network: &SpikingNetwork, encoding: Encoding) -> Result<Self, IntegerError> {
        let Arithmetic::Integer(precision) = network.rules.arithmetic else {
            return Err(IntegerError::Rules);
        };
        let Rules { firing, reset, start, readout, averaged, .. } = network.rules;
        let other = averaged || reset != Reset::Subtraction || start != 0.5;
        if other || readout != Readout::Accumulate || firing != Firing::AfterInput {
            return Err(IntegerError::Rules);
        }
        let mut signal = of_input(precision, encoding);
        let last = network.layers.len() - 1;
        let mut layers = Vec::new();
        for (k, layer) in network.layers.iter().enumerate() {
            let theta = (k < last).then(|| f64::from(layer.neuron.threshold()));
            let rows =
                Rows { weights: &layer.weights, bias: &layer.bias, count: layer.shape.output.channels };
            let rounded = rows.rounded(theta, precision, signal);
            let rounded =
                rounded.ok_or_else(|| IntegerError::NotFinite { layer: layer.shape.name.clone() })?;
            let mut made = rounded.in_layer(layer.shape.clone())?;
            made.decay = (f64::from(layer.neuron.decay()) * f64::from(NO_DECAY)).round() as i32;
            layers.push(made);
            signal = sent(&layer.shape);
        }
        Ok(Self { precision, encoding, network: network.network.clone(), layers })
    }

    /// How many timesteps no potential can exceed 31 bits in, and the layer that sets the limit.
    pub fn most_steps(&self) -> (usize, &str) {
        let limit = |layer: &IntegerLayer| {
            let theta = layer.thresholds.iter().copied().max().unwrap_or(0);
            // From half a threshold on, each step moves a potential by no more than the largest current, and before it fires
            // it may exceed the threshold by as much.
            ((i32::MAX - theta) / layer.largest_current.max(1)) as usize
        };
        let all = self.layers.iter().map(|layer| (limit(layer), layer.shape.name.as_str()));
        all.min().unwrap_or_default()
    }

    /// Whether it can be simulated for so many timesteps.
    ///
    /// # Errors
    /// [`IntegerError::Steps`], which names the layer whose potentials may overflow.
    pub fn check_steps(&self, steps: usize) -> Result<(), IntegerError> {
        let (most, layer) = self.most_steps();
        match steps <= most {
            true => Ok(()),
            false => Err(IntegerError::Steps { layer: layer.to_owned(), steps, most }),
        }
    }

    /// The readout as the network of real numbers has it.
    pub fn logit(&self, potential: i32) -> f32 {
        let unit = self.layers.last().and_then(|readout| readout.units.first()).copied().unwrap_or(1.0);
        (f64::from(potential) * unit) as f32
    }

    /// How a layer's spikes reach the layer after it, see [`SpikingNetwork::planes`]; a pooling adds up.
    pub fn planes(&self, layer: usize) -> (usize, Plane) {
        let next = self.layers.get(layer + 1).map(|next| &next.shape);
        let (channels, plane) = Plane::between(&self.layers[layer].shape, next);
        (channels, Plane { share: 1.0, ..plane })
    }

    /// The real numbers that its whole ones stand for, in place of those of the network that it was made from: what training
    /// sees in its forward pass.
    pub fn write_back(&self, network: &mut SpikingNetwork) {
        for (k, (layer, made)) in network.layers.iter_mut().zip(&self.layers).enumerate() {
            let unit_in = signal_of(self, k);
            let row = made.row();
            let rows = layer.weights.par_chunks_mut(row).zip(made.weights.par_chunks(row)).zip(&made.units);
            rows.for_each(|((weights, whole), unit)| {
                for (weight, &whole) in weights.iter_mut().zip(whole) {
                    *weight = (f64::from(whole) * unit / unit_in) as f32;
                }
            });
            for ((bias, &whole), unit) in layer.bias.iter_mut().zip(&made.bias).zip(&made.units) {
                *bias = (f64::from(whole) * unit) as f32;
            }
        }
    }
}

/// What a first layer gets.
fn of_input(precision: Precision, encoding: Encoding) -> Signal {
    let largest = match encoding {
        Encoding::Direct => precision.largest_input(),
        Encoding::Poisson => 1,
    };
    Signal { largest, unit: 1.0 / f64::from(largest) }
}

/// What one of the counts that arrive at a layer is in the network of real numbers.
pub(crate) fn signal_of(network: &IntegerNetwork, layer: usize) -> f64 {
    match layer.checked_sub(1) {
        None => of_input(network.precision, network.encoding).unit,
        Some(below) => sent(&network.layers[below].shape).unit,
    }
}

/// What the neurons of a stage send to the next one.
fn sent(shape: &Stage) -> Signal {
    let window = shape.largest_count();
    Signal { largest: i32::try_from(window).unwrap_or(i32::MAX), unit: 1.0 / window as f64 }
}

/// The weights of a layer, row after row.
struct Rows<'a> {
    weights: &'a Weights,
    bias: &'a [f32],
    count: usize,
}

/// The same in whole numbers.
struct Rounded {
    weights: Vec<i8>,
    bias: Vec<i64>,
    thresholds: Vec<i32>,
    units: Vec<f64>,
    signal: Signal,
}

impl Rows<'_> {
    /// On scales that thresholds `theta` allow; of a readout, which has none, on one scale. Nothing where a number is not
    /// finite.
    fn rounded(&self, theta: Option<f64>, precision: Precision, signal: Signal) -> Option<Rounded> {
        let most = f64::from(precision.largest_weight());
        let count = self.weights.count();
        let row = (count / self.count).max(1);
        let of_row = |o: usize| o * row..(o + 1) * row;
        let bias = |o: usize| self.bias.get(o).map_or(0.0, |b| f64::from(*b));
        // What one unit of potential is at least, so that no weight is cut and no bias is huge; more only where a threshold would be below 1.
        let least = |buffer: &mut Vec<f32>, o: usize| {
            let largest = largest(self.weights.part(of_row(o), buffer));
            let of_weights = f64::from(largest) / most * signal.unit;
            let finite = largest.is_finite() && bias(o).is_finite();
            finite.then_some(of_weights.max(bias(o).abs() / LARGEST_CONSTANT))
        };
        let of_rows = (0..count / row).into_par_iter().map_init(Vec::new, least);
        let of_rows = of_rows.collect::<Option<Vec<f64>>>()?;
        let common = match of_rows.iter().copied().fold(0.0, f64::max) {
            // Nothing but zeros.
            0.0 => 1.0,
            unit => unit,
        };
        let (mut thresholds, mut units) = (Vec::new(), Vec::new());
        for least in of_rows {
            match theta {
                None => units.push(common),
                // A whole threshold, and the unit that makes it exact.
                Some(theta) => {
                    // A little more than what float32 weights are rounded by, so that what was rounded once stays as it is.
                    let whole = (theta / least * (1.0 + 1e-6)).floor().clamp(1.0, LARGEST_CONSTANT);
                    thresholds.push(whole as i32);
                    units.push(theta / whole);
                }
            }
        }
        let mut weights = vec![0; count];
        let rows = weights.par_chunks_mut(row).zip(&units).enumerate();
        rows.for_each_init(Vec::new, |buffer, (o, (whole, unit))| {
            round_all(self.weights.part(of_row(o), buffer), signal.unit / unit, most, whole);
        });
        let whole = |(b, unit): (&f32, &f64)| (f64::from(*b) / unit).round() as i64;
        let bias = self.bias.iter().zip(&units).map(whole).collect();
        Some(Rounded { weights, bias, thresholds, units, signal })
    }
}

/// The largest magnitude, which is no finite number if any is none.
#[multiversion::multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2", "aarch64+neon"))]
fn largest(numbers: &[f32]) -> f32 {
    // Without their signs, numbers are in the order of their bits, infinity and then NaN above all.
    f32::from_bits(numbers.iter().fold(0, |most, number| most.max(number.abs().to_bits())))
}

/// Weights times `scale`, each as the nearest whole number of at most this magnitude, halves away from zero.
#[multiversion::multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2", "aarch64+neon"))]
fn round_all(weights: &[f32], scale: f64, most: f64, rounded: &mut [i8]) {
    // [`f64::round`] is a call into the C library for processors of any age; to add the number before a half and cut off is
    // the same.
    const BELOW_HALF: f64 = 0.5_f64.next_down();
    for (rounded, &weight) in rounded.iter_mut().zip(weights) {
        let cut = (f64::from(weight) * scale).clamp(-most, most);
        *rounded = (cut + BELOW_HALF.copysign(cut)) as i32 as i8;
    }
}

impl Rounded {
    /// Proves that no sum overflows.
    fn in_layer(self, shape: Stage) -> Result<IntegerLayer, IntegerError> {
        let Self { weights, bias, thresholds, units, signal } = self;
        let row = (weights.len() / units.len().max(1)).max(1);
        let of_row = |(o, weights): (usize, &[i8])| {
            let sum: i64 = weights.iter().map(|w| i64::from(w.unsigned_abs())).sum();
            let constant = bias.get(o).map_or(0, |b| b.saturating_abs());
            sum.saturating_mul(signal.largest.into()).saturating_add(constant)
        };
        let bound = weights.par_chunks(row).enumerate().map(of_row).max().unwrap_or(0);
        let Ok(largest_current) = i32::try_from(bound) else {
            return Err(IntegerError::Current { layer: shape.name, bound });
        };
        // Each is within the bound.
        let bias = bias.into_iter().map(|b| b as i32).collect();
        Ok(IntegerLayer { shape, weights, bias, thresholds, decay: NO_DECAY, units, largest_current })
    }
}

/// One neuron, one timestep: the spike, and the potential after it.
#[inline(always)]
pub fn step(threshold: i32, decay: i32, u: i32, current: i32) -> (bool, i32) {
    let kept = match decay {
        NO_DECAY => u,
        _ => ((i64::from(u) * i64::from(decay)) >> 15) as i32,
    };
    let integrated = kept + current;
    let spike = integrated > threshold;
    (spike, if spike { integrated - threshold } else { integrated })
}

/// One step of many neurons with thresholds of their own or one for all, whose currents are whole numbers in float32:
/// updates `u`, writes `spikes`, 0 or 1.
#[multiversion::multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2", "aarch64+neon"))]
pub fn step_all(thresholds: &[i32], decay: i32, u: &mut [i32], current: &[f32], spikes: &mut [f32]) {
    each(thresholds, decay, u, current.iter().map(|&c| c as i32), spikes);
}

/// As [`step_all`], for currents that float32 does not hold.
#[multiversion::multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2", "aarch64+neon"))]
pub fn step_all_wide(thresholds: &[i32], decay: i32, u: &mut [i32], current: &[i32], spikes: &mut [f32]) {
    each(thresholds, decay, u, current.iter().copied(), spikes);
}

/// One step of many neurons, for training: as [`step_all_wide`], with the thresholds' inverses too. Writes m, by how many thresholds a
/// potential is above its own before it is reset, less half a unit: a neuron spikes where that is above 0, as potentials do in real
/// numbers that start half a unit lower ([`IntegerLayer::start_fractions`]).
#[inline(always)]
pub(crate) fn trace_each(
    (thresholds, inverse): (&[i32], &[f32]),
    decay: i32,
    (u, current): (&mut [i32], &[i32]),
    m: &mut [f32],
    spikes: &mut [f32],
) {
    let fire = |(theta, inverse): (i32, f32),
                decay: i32,
                u: &mut i32,
                current: i32,
                m: &mut f32,
                spike: &mut f32| {
        let (fires, next) = step(theta, decay, *u, current);
        let above = if fires { next as f32 } else { next as f32 - theta as f32 };
        (*u, *m, *spike) = (next, (above - 0.5) * inverse, f32::from(u8::from(fires)));
    };
    let constants = thresholds.iter().copied().zip(inverse.iter().copied());
    let all = u.iter_mut().zip(current).zip(constants).zip(m.iter_mut().zip(spikes));
    // Each case has a loop of its own, so that it vectorises.
    match decay {
        NO_DECAY => all.for_each(|(((u, &c), of), (m, s))| fire(of, NO_DECAY, u, c, m, s)),
        _ => all.for_each(|(((u, &c), of), (m, s))| fire(of, decay, u, c, m, s)),
    }
}

#[inline(always)]
fn each(
    thresholds: &[i32],
    decay: i32,
    u: &mut [i32],
    current: impl Iterator<Item = i32>,
    spikes: &mut [f32],
) {
    let fire = |threshold: i32, decay: i32, u: &mut i32, current: i32, spike: &mut f32| {
        let (fired, next) = step(threshold, decay, *u, current);
        *u = next;
        *spike = f32::from(u8::from(fired));
    };
    let all = u.iter_mut().zip(current).zip(spikes);
    // Each case has a loop of its own, so that it vectorises.
    match (thresholds, decay) {
        (&[threshold], NO_DECAY) => all.for_each(|((u, c), s)| fire(threshold, NO_DECAY, u, c, s)),
        (&[threshold], _) => all.for_each(|((u, c), s)| fire(threshold, decay, u, c, s)),
        _ => all.zip(thresholds).for_each(|(((u, c), s), &threshold)| fire(threshold, decay, u, c, s)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::SpikingLayer;
    use crate::neuron::Neuron;
    use escape_network::rng::Stream;
    use escape_network::sequential::{Conv2d, Layer, Named, Pool, Pooling, Shape};

    #[test]
    fn weights_are_rounded_as_round_does() {
        let mut random = Stream::new(5, 0);
        let halves = (-300..300).map(|n| n as f32 / 2.0);
        let beside = halves.clone().flat_map(|half| [half.next_down(), half.next_up()]);
        let drawn = (0..10_000).map(|_| (random.uniform() * 300.0 - 150.0) as f32);
        let weights: Vec<f32> = halves.chain(beside).chain(drawn).collect();
        for scale in [1.0, 0.7, 1e-3] {
            let expected: Vec<i8> =
                weights.iter().map(|w| (f64::from(*w) * scale).round().clamp(-127.0, 127.0) as i8).collect();
            let mut rounded = vec![0; weights.len()];
            round_all(&weights, scale, 127.0, &mut rounded);
            assert_eq!(rounded, expected);
        }
    }

    /// A convolution, an average over 2 x 2, and a linear readout.
    fn network(precision: Precision, decay: f32) -> SpikingNetwork {
        let named = |name: &str, layer| Named { name: name.into(), layer };
        let average = Pooling::Average { count_padding: true };
        let layers = vec![
            named("a", Layer::Conv2d(Conv2d::new(3, (2, 3)))),
            named("", Layer::Relu),
            named("", Layer::Pool(Pool::new(average, (2, 2)))),
            named("", Layer::Flatten),
            named("z", Layer::Linear { out: 2, bias: true }),
        ];
        let network = Sequential::new(Shape::new(1, 5, 8), layers, Vec::new()).unwrap();
        let mut random = Stream::new(2, 0);
        let mut values = |n: usize| (0..n).map(|_| random.normal() as f32 * 0.2).collect::<Vec<f32>>();
        let layers = network.stages().unwrap().into_iter().map(|stage| {
            let (weights, bias) = (values(stage.weights()), values(stage.output.channels));
            SpikingLayer {
                shape: stage,
                weights: weights.into(),
                bias,
                neuron: Neuron::new(0.7, decay).unwrap(),
            }
        });
        let layers = layers.collect();
        let rules = Rules { arithmetic: Arithmetic::Integer(precision), ..Rules::DEFAULT };
        SpikingNetwork { rules, network, layers }
    }

    #[test]
    fn bits_that_make_no_sense_are_refused() {
        for (weight, input, part) in
            [(1, 10, "weight: expected 2 to 8, got 1"), (8, 17, "input: expected 2 to 16, got 17")]
        {
            assert!(Precision::new(weight, input).unwrap_err().contains(part));
        }
        let precision = Precision::new(4, 8).unwrap();
        assert_eq!((precision.largest_weight(), precision.largest_input()), (7, 127));
        assert_eq!(precision.round_recording(&[1.0, -1.0, 0.5, 2.0, 0.0]), [127, -127, 64, 127, 0]);
    }

    #[test]
    fn weights_are_within_half_a_unit_and_thresholds_exact() {
        for bits in [8, 4] {
            let precision = Precision::new(bits, 10).unwrap();
            let network = network(precision, 1.0);
            let made = IntegerNetwork::new(&network, Encoding::Direct).unwrap();
            let mut back = network.clone();
            made.write_back(&mut back);
            for ((layer, whole), real) in network.layers.iter().zip(&made.layers).zip(&back.layers) {
                let signal = if whole.thresholds.is_empty() { 4.0 } else { 511.0 };
                for (i, (w, r)) in layer.weights.iter().zip(&real.weights[..]).enumerate() {
                    let unit = whole.units[i / whole.row()] * signal;
                    assert!(f64::from((w - r).abs()) <= unit * 0.5001, "{w} {r} {unit}");
                }
                for (theta, unit) in whole.thresholds.iter().zip(&whole.units) {
                    assert!((f64::from(*theta) * unit - f64::from(layer.neuron.threshold())).abs() < 1e-12);
                }
                let largest = whole.weights.iter().map(|w| w.unsigned_abs()).max().unwrap();
                // The threshold's rounding may take a weight of a few hundred off its end, no more.
                assert!(i32::from(largest) <= precision.largest_weight() && largest > 0);
            }
            // Rounded once, nothing moves.
            let again = IntegerNetwork::new(&back, Encoding::Direct).unwrap();
            for (a, b) in made.layers.iter().zip(&again.layers) {
                assert_eq!(a.thresholds, b.thresholds);
                assert_eq!(a.weights, b.weights);
            }
        }
    }

    #[test]
    fn bounds_are_those_of_the_worst_input() {
        let network = network(Precision::DEFAULT, 1.0);
        let made = IntegerNetwork::new(&network, Encoding::Direct).unwrap();
        for (layer, largest) in made.layers.iter().zip([511i64, 4]) {
            let sums = layer.weights.chunks(layer.row()).zip(&layer.bias).map(|(row, bias)| {
                row.iter().map(|w| i64::from(*w).abs() * largest).sum::<i64>() + i64::from(*bias).abs()
            });
            assert_eq!(i64::from(layer.largest_current), sums.max().unwrap());
        }
        let (most, layer) = made.most_steps();
        assert_eq!(layer, "conv1");
        made.check_steps(most).unwrap();
        let why = made.check_steps(most + 1).unwrap_err().to_string();
        assert!(why.contains("conv1") && why.contains(&format!("{} timesteps", most + 1)), "{why}");
    }

    #[test]
    fn what_may_overflow_or_is_no_number_is_refused_by_name() {
        let mut huge = network(Precision::new(8, 16).unwrap(), 1.0);
        let stage = Stage { input: Shape::features(1 << 20), ..huge.layers[1].shape.clone() };
        huge.layers[1] = SpikingLayer {
            shape: stage,
            weights: vec![1.0; 2 << 20].into(),
            bias: vec![0.0; 2],
            neuron: Neuron::default(),
        };
        huge.layers.remove(0);
        let why = IntegerNetwork::new(&huge, Encoding::Direct).unwrap_err().to_string();
        assert!(why.contains("linear1") && why.contains("--input-bits"), "{why}");
        let mut broken = network(Precision::DEFAULT, 1.0);
        for wrong in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            broken.layers[0].weights[3] = wrong;
            let why = IntegerNetwork::new(&broken, Encoding::Direct).unwrap_err().to_string();
            assert!(why.contains("conv1"), "{why}");
        }
        broken.layers[0].weights[3] = 0.1;
        broken.layers[0].bias[1] = -1e30;
        let why = IntegerNetwork::new(&broken, Encoding::Direct).unwrap_err().to_string();
        assert!(why.contains("conv1") && why.contains("2147483647"), "{why}");
        broken.rules.start = 0.0;
        assert_eq!(IntegerNetwork::new(&broken, Encoding::Direct), Err(IntegerError::Rules));
        broken.rules = Rules::PUBLISHED;
        assert_eq!(IntegerNetwork::new(&broken, Encoding::Direct), Err(IntegerError::Rules));
    }

    #[test]
    fn rows_of_zeros_and_large_biases_have_scales_too() {
        let mut network = network(Precision::DEFAULT, 1.0);
        network.layers[0].weights.fill(0.0);
        network.layers[0].bias = vec![0.0, 0.5, -1e6];
        network.layers[1].weights.fill(0.0);
        network.layers[1].bias.fill(0.0);
        let made = IntegerNetwork::new(&network, Encoding::Direct).unwrap();
        let first = &made.layers[0];
        assert!(first.thresholds.iter().all(|theta| *theta >= 1));
        // Half a threshold and a bit more or less, as a share of it.
        let share = f64::from(first.bias[1]) / f64::from(first.thresholds[1]);
        assert!((share - 0.5 / 0.7).abs() < 1e-6, "{share}");
        assert!(first.bias[2] < 0 && first.bias[0] == 0);
        assert_eq!(made.logit(5), 5.0);
    }

    #[test]
    fn a_step_is_the_rule() {
        // By hand: 50 + 60 = 110 fires and keeps 10; 100 does not exceed; half of -7, rounded down, is -4.
        assert_eq!(step(100, NO_DECAY, 50, 60), (true, 10));
        assert_eq!(step(100, NO_DECAY, 40, 60), (false, 100));
        assert_eq!(step(100, NO_DECAY / 2, -7, 0), (false, -4));
        let mut random = Stream::new(1, 0);
        let mut whole = || (random.normal() * 300.0) as i32;
        let u: Vec<i32> = (0..77).map(|_| whole()).collect();
        let current: Vec<f32> = (0..77).map(|_| whole() as f32).collect();
        let thresholds: Vec<i32> = (0..77).map(|_| whole().abs() + 1).collect();
        for decay in [NO_DECAY, 30_000] {
            for thresholds in [&thresholds[..], &thresholds[..1]] {
                let (mut next, mut spikes) = (u.clone(), vec![9.0; 77]);
                step_all(thresholds, decay, &mut next, &current, &mut spikes);
                let (mut wide, mut again) = (u.clone(), vec![9.0; 77]);
                let currents: Vec<i32> = current.iter().map(|&c| c as i32).collect();
                step_all_wide(thresholds, decay, &mut wide, &currents, &mut again);
                assert_eq!((&wide, &again), (&next, &spikes));
                for i in 0..77 {
                    let threshold = thresholds[i % thresholds.len()];
                    let (fired, potential) = step(threshold, decay, u[i], current[i] as i32);
                    assert_eq!((next[i], spikes[i]), (potential, f32::from(u8::from(fired))));
                }
            }
        }
    }
}
