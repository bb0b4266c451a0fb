//! One layer at a time in whole numbers, for training, which asks for what backpropagation needs of every neuron at every step.
//!
//! Letters: S steps of a block, H rows, W columns, C channels, L lanes, P pixels; channels come last.

use std::ops::Range;

use escape_network::stage::Op;

use super::kernels::Instructions;
use super::number::Chunk;
use super::packed::Packed;
use super::plane::{BLOCK_STEPS, LARGEST_WORD, Lists, Values, blocks};
use super::state::{columns_together, lists_of, room, sum};
use super::{Event, whole};
use crate::aligned::Aligned;
use crate::integer::{IntegerNetwork, signal_of, trace_each};

/// A convolution and its neurons, made ready for what arrives.
#[derive(Debug)]
pub struct WholeLayer {
    packed: Packed<i32>,
    /// What one of a count is in the network of real numbers.
    arrival: f32,
    /// 1 / threshold of each lane.
    inverse: Vec<f32>,
    with: Instructions,
}

/// What arrives at a layer over some steps, up to [`WholeLayer::STEPS`]. It belongs to its layer: lists of another one would lead beyond
/// its weights.
#[derive(Debug)]
pub struct Block<'a> {
    layer: &'a WholeLayer,
    steps: usize,
    input: Values,
    lists: Lists<u8>,
    listed: bool,
}

impl WholeLayer {
    /// The most steps of a block.
    pub const STEPS: usize = BLOCK_STEPS;

    /// Of a network, if the layer is a convolution of a size that the event engine takes.
    pub fn of(network: &IntegerNetwork, layer: usize) -> Option<Self> {
        let shape = &network.layers[layer].shape;
        let largest = layer.checked_sub(1).map_or(1, |below| network.layers[below].shape.largest_count());
        if !matches!(shape.op, Op::Conv(_)) || Event::check_size(shape).is_err() || largest > LARGEST_WORD {
            return None;
        }
        let with = Instructions::best();
        let packed = whole::pack_layer(network, layer, with);
        let inverse = packed.thresholds.iter().map(|&theta| 1.0 / theta as f32).collect();
        Some(Self { packed, arrival: signal_of(network, layer) as f32, inverse, with })
    }

    /// The blocks into which so many steps are divided.
    pub fn blocks(steps: usize) -> impl ExactSizeIterator<Item = Range<usize>> {
        blocks(steps)
    }

    /// Room for a block of arrivals.
    pub fn block(&self) -> Block<'_> {
        Block { layer: self, steps: 0, input: room(&self.packed), lists: Lists::default(), listed: false }
    }

    /// Potentials with which rows of outputs begin, any number of W x C.
    pub fn start(&self, u: &mut [i32]) {
        for pixel in u.chunks_exact_mut(self.packed.groups * self.packed.group.0) {
            self.each_group(|lanes, channels| pixel[channels].copy_from_slice(&self.packed.start[lanes]));
        }
    }

    /// Shows the lanes and the channels of every group.
    #[inline(always)]
    fn each_group(&self, mut look: impl FnMut(Range<usize>, Range<usize>)) {
        let (channels, filled) = self.packed.group;
        for g in 0..self.packed.groups {
            look(g * filled..g * filled + channels, g * channels..(g + 1) * channels);
        }
    }
}

impl Block<'_> {
    /// Takes what arrives over `steps` steps, one where it is the same at every step. `row` has what is not zero in a row of the input at
    /// a step: places in the row, W x C, and values in the network of real numbers.
    ///
    /// # Panics
    /// There are none, or too many steps for a block.
    pub fn take<I: Iterator<Item = (usize, f32)>>(&mut self, steps: usize, row: impl Fn(usize, usize) -> I) {
        assert!((1..=WholeLayer::STEPS).contains(&steps), "{steps} steps");
        let WholeLayer { packed, arrival, with, .. } = self.layer;
        let (frame, nothing) = (&packed.frame, packed.nothing());
        let count = |value: f32| {
            let count = value / arrival;
            // To the nearest: it is one but for rounding.
            (count + 0.5f32.copysign(count)) as i32
        };
        let mut arrivals = 0;
        let places = (0..steps).flat_map(|s| (0..frame.input.0).map(move |y| (s, y)));
        let line = |(s, y): (usize, usize)| {
            let first = frame.at(y, 0) + s * frame.step();
            first..first + frame.input.1 * frame.input.2
        };
        match &mut self.input {
            Values::Bytes(to) => {
                to.fill(nothing);
                for place in places {
                    let to = &mut to[line(place)];
                    for (at, value) in row(place.0, place.1) {
                        to[at] = (count(value) + i32::from(nothing)) as u8;
                        arrivals += 1;
                    }
                }
            }
            Values::Words(to) => {
                to.fill(0);
                for place in places {
                    let to = &mut to[line(place)];
                    row(place.0, place.1).for_each(|(at, value)| to[at] = count(value) as i16);
                }
            }
            Values::Floats(_) => unreachable!("whole numbers"),
        }
        self.steps = steps;
        let lists = lists_of(packed, &self.input, (arrivals, steps), &mut self.lists, *with);
        self.listed = lists.is_some();
    }

    /// Currents of a row of outputs over all steps, P x S x L.
    pub fn row(&self, y: usize, sums: &mut Aligned<i32>) {
        let WholeLayer { packed, with, .. } = self.layer;
        let columns = packed.output.1;
        let each = self.steps * packed.lanes();
        sums.resize(columns * each);
        let lists = self.listed.then_some(&self.lists);
        let most = columns_together(packed, lists.is_some());
        for first in (0..columns).step_by(most) {
            let here = first..(first + most).min(columns);
            let sums = &mut sums[here.start * each..here.end * each];
            sum(packed, &Chunk { y, columns: here, steps: self.steps }, (&self.input, lists), sums, *with);
        }
    }

    /// Neurons of a row, W x C, at one step, whose currents [`Block::row`] found. Updates potentials; writes spikes, and m, by how many
    /// thresholds potentials were above their own before they were reset, less half a unit.
    pub fn step(&self, (sums, step): (&[i32], usize), u: &mut [i32], m: &mut [f32], spikes: &mut [f32]) {
        step_row(self.layer, (sums, step, self.steps), u, m, spikes);
    }
}

#[multiversion::multiversion(targets("x86_64+avx512f+avx512bw+avx512vl", "x86_64+avx2", "aarch64+neon"))]
fn step_row(
    layer: &WholeLayer,
    (sums, step, steps): (&[i32], usize, usize),
    u: &mut [i32],
    m: &mut [f32],
    spikes: &mut [f32],
) {
    let (lanes, count) = (layer.packed.lanes(), layer.packed.groups * layer.packed.group.0);
    let (thresholds, decay) = (&layer.packed.thresholds, layer.packed.rule.decay);
    let pixels = sums.chunks_exact(lanes).skip(step).step_by(steps);
    let neurons =
        u.chunks_exact_mut(count).zip(m.chunks_exact_mut(count)).zip(spikes.chunks_exact_mut(count));
    for (current, ((u, m), spikes)) in pixels.zip(neurons) {
        layer.each_group(|lanes, channels| {
            let constants = (&thresholds[lanes.clone()], &layer.inverse[lanes.clone()]);
            let (u, m, spikes) = (&mut u[channels.clone()], &mut m[channels.clone()], &mut spikes[channels]);
            trace_each(constants, decay, (u, &current[lanes]), m, spikes);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::Encoding;
    use crate::integer::step;
    use crate::network::{SpikingLayer, SpikingNetwork};
    use crate::neuron::Neuron;
    use crate::rules::Rules;
    use escape_network::rng::Stream;
    use escape_network::sequential::{Conv2d, Layer, Named, Padding, Pool, Pooling, Sequential, Shape};

    /// A network of two convolutions behind a window of so many neurons, and a linear layer.
    fn network(
        (channels, out, groups): (usize, usize, usize),
        (window, decay): (usize, f32),
        random: &mut Stream,
    ) -> SpikingNetwork {
        let named = |name: &str, layer| Named { name: name.into(), layer };
        let first = Conv2d::new(channels, (1, 1));
        let second = Conv2d {
            groups,
            padding: Padding { top: 1, left: 2, ..Padding::default() },
            ..Conv2d::new(out, (2, 3))
        };
        let layers = vec![
            named("first", Layer::Conv2d(first)),
            named("", Layer::Relu),
            named("", Layer::Pool(Pool::new(Pooling::Average { count_padding: true }, (window, window)))),
            named("second", Layer::Conv2d(second)),
            named("", Layer::Relu),
            named("", Layer::Flatten),
            named("last", Layer::Linear { out: 2, bias: false }),
        ];
        let network = Sequential::new(Shape::new(1, 4 * window, 11 * window), layers, Vec::new()).unwrap();
        let layers = network.stages().unwrap().into_iter().map(|shape| {
            let weights: Vec<f32> = (0..shape.weights()).map(|_| random.normal() as f32).collect();
            SpikingLayer {
                shape,
                weights: weights.into(),
                bias: Vec::new(),
                neuron: Neuron::new(3.0, decay).unwrap(),
            }
        });
        SpikingNetwork { rules: Rules::DEFAULT, layers: layers.collect(), network }
    }

    #[test]
    fn currents_and_neurons_are_those_of_a_loop() {
        let mut random = Stream::new(5, 0);
        for (case, (channels, out, groups)) in
            [(1, 5, 1), (64, 64, 1), (70, 130, 1), (130, 64, 1), (12, 8, 4), (64, 128, 2)]
                .into_iter()
                .enumerate()
        {
            // Counts in bytes and in words; few arrivals and many.
            for (window, share, steps, decay) in [(2, 0.1, 8, 1.0), (2, 0.9, 1, 0.9), (12, 0.3, 5, 0.9)] {
                let network = network((channels, out, groups), (window, decay), &mut random);
                let whole = IntegerNetwork::new(&network, Encoding::Direct).unwrap();
                let (layer, made) = (WholeLayer::of(&whole, 1).unwrap(), &whole.layers[1]);
                let (input, output) = (made.shape.input, made.shape.output);
                let largest = (window * window) as f64;
                let count =
                    |r: &mut Stream| (r.uniform() < share) as i32 * (1 + (r.uniform() * largest) as i32);
                // S x H x W x C.
                let counts: Vec<i32> =
                    (0..steps * input.count()).map(|_| count(&mut random).min(largest as i32)).collect();
                let at = |s: usize, y: usize, place: usize| {
                    counts[((s * input.height + y) * input.width) * input.channels + place]
                };
                let mut block = layer.block();
                block.take(steps, |s, y| {
                    let row = 0..input.width * input.channels;
                    let value = move |n: usize| (n, at(s, y, n) as f32 / (window * window) as f32);
                    row.map(value).filter(|(_, value)| *value != 0.0)
                });
                let (inputs, outputs) = (input.channels / groups, out / groups);
                let current = |s: usize, y: usize, x: usize, o: usize| -> i32 {
                    let mut sum = 0;
                    for (i, a, b) in (0..inputs * 6).map(|n| (n / 6, n / 3 % 2, n % 3)) {
                        let (row, column) = ((y + a).wrapping_sub(1), (x + b).wrapping_sub(2));
                        if row < input.height && column < input.width {
                            let place = column * input.channels + o / outputs * inputs + i;
                            sum += at(s, row, place)
                                * i32::from(made.weights[o * inputs * 6 + i * 6 + a * 3 + b]);
                        }
                    }
                    sum
                };
                let mut sums = Aligned::default();
                let row = output.width * out;
                let (mut fired, mut m, mut spikes) = (0, vec![0.0; row], vec![0.0; row]);
                for y in 0..output.height {
                    block.row(y, &mut sums);
                    let mut u = vec![0; row];
                    layer.start(&mut u);
                    for s in 0..steps {
                        let before = u.clone();
                        block.step((&sums, s), &mut u, &mut m, &mut spikes);
                        for n in 0..row {
                            let theta = made.thresholds[n % out];
                            let (spike, next) =
                                step(theta, made.decay, before[n], current(s, y, n / out, n % out));
                            let name = format!("case {case}, window {window}, row {y}, step {s}, {n}");
                            assert_eq!((spikes[n], u[n]), (f32::from(u8::from(spike)), next), "{name}");
                            let above = next + if spike { 0 } else { -theta };
                            let want = (f64::from(above) - 0.5) / f64::from(theta);
                            assert!((f64::from(m[n]) - want).abs() < 1e-5 * (1.0 + want.abs()), "{name}");
                            assert_eq!(m[n] > 0.0, spike, "{name}");
                            fired += usize::from(spike);
                        }
                    }
                }
                assert!(fired > 0, "case {case}");
            }
        }
    }

    #[test]
    fn counts_that_16_bits_do_not_hold_are_left_to_others() {
        let network = network((1, 1, 1), (182, 1.0), &mut Stream::new(6, 0));
        let whole = IntegerNetwork::new(&network, Encoding::Direct).unwrap();
        assert!(WholeLayer::of(&whole, 0).is_some() && WholeLayer::of(&whole, 1).is_none());
        // Nor is a linear layer one.
        assert!(WholeLayer::of(&whole, 2).is_none());
    }
}
