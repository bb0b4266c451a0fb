//! One layer at a time in whole numbers, for training, which asks for what backpropagation needs of every neuron at every step.
//!
//! Letters: S steps of a block, H rows, W columns, C channels, L lanes, P pixels; channels come last.

use std::ops::Range;

use escape_network::stage::Op;

use super::kernels::Instructions;
use super::number::{Chunk, Number};
use super::packed::Packed;
use super::plane::{BLOCK_STEPS, Lists, Values};
use super::state::{lists_of, room, sum};
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

/// What arrives at a layer over the steps of a block.
#[derive(Debug)]
pub struct Block {
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
        if !matches!(shape.op, Op::Conv(_)) || Event::check_layer(shape).is_err() {
            return None;
        }
        let with = Instructions::best();
        let packed = whole::pack_layer(network, layer, with);
        let inverse = packed.thresholds.iter().map(|&theta| 1.0 / theta as f32).collect();
        Some(Self { packed, arrival: signal_of(network, layer) as f32, inverse, with })
    }

    /// Room for a block of arrivals.
    pub fn block(&self) -> Block {
        Block { steps: 0, input: room(&self.packed), lists: Lists::default(), listed: false }
    }

    /// Takes what arrives over `steps` steps, one where it is the same at every step. `row` has what is not zero in a row of the input at
    /// a step: places in the row, W x C, and values in the network of real numbers.
    pub fn take<I: Iterator<Item = (usize, f32)>>(
        &self,
        block: &mut Block,
        steps: usize,
        row: impl Fn(usize, usize) -> I,
    ) {
        let (frame, nothing) = (&self.packed.frame, self.packed.nothing());
        let count = |value: f32| {
            let count = value / self.arrival;
            // To the nearest: it is one but for rounding.
            (count + 0.5f32.copysign(count)) as i32
        };
        let mut arrivals = 0;
        let places = (0..steps).flat_map(|s| (0..frame.input.0).map(move |y| (s, y)));
        match &mut block.input {
            Values::Bytes(to) => {
                to.fill(nothing);
                for (s, y) in places {
                    let to = &mut to[frame.at(y, 0) + s * frame.step()..][..frame.input.1 * frame.input.2];
                    for (place, value) in row(s, y) {
                        to[place] = (count(value) + i32::from(nothing)) as u8;
                        arrivals += 1;
                    }
                }
            }
            Values::Words(to) => {
                to.fill(0);
                for (s, y) in places {
                    let to = &mut to[frame.at(y, 0) + s * frame.step()..][..frame.input.1 * frame.input.2];
                    row(s, y).for_each(|(place, value)| to[place] = count(value) as i16);
                }
            }
            Values::Floats(_) => unreachable!("whole numbers"),
        }
        block.steps = steps;
        let lists = lists_of(&self.packed, &block.input, (arrivals, steps), &mut block.lists, self.with);
        block.listed = lists.is_some();
    }

    /// Currents of a row of outputs over a block's steps, P x S x L.
    pub fn row(&self, block: &Block, y: usize, sums: &mut Aligned<i32>) {
        let columns = self.packed.output.1;
        sums.resize(columns * block.steps * self.packed.lanes());
        let lists = block.listed.then_some(&block.lists);
        let most = if i32::by_rows(&self.packed, lists.is_some()) { columns } else { columns.min(8) };
        let each = block.steps * self.packed.lanes();
        for first in (0..columns).step_by(most) {
            let here = first..(first + most).min(columns);
            let sums = &mut sums[here.start * each..here.end * each];
            let chunk = Chunk { y, columns: here, steps: block.steps };
            sum(&self.packed, &chunk, (&block.input, lists), sums, self.with);
        }
    }

    /// Potentials with which rows of outputs begin, any number of W x C.
    pub fn start(&self, u: &mut [i32]) {
        for pixel in u.chunks_exact_mut(self.packed.groups * self.packed.group.0) {
            self.each_group(|lanes, channels| pixel[channels].copy_from_slice(&self.packed.start[lanes]));
        }
    }

    /// Neurons of a row, W x C, at one step of a block, whose currents [`WholeLayer::row`] found. Updates potentials; writes spikes, and by
    /// how many thresholds potentials were above their own before they were reset, less half a unit.
    pub fn step(&self, now: (&Block, &[i32], usize), u: &mut [i32], m: &mut [f32], spikes: &mut [f32]) {
        step_row(self, now, u, m, spikes);
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

#[multiversion::multiversion(targets("x86_64+avx512f+avx512bw+avx512vl", "x86_64+avx2", "aarch64+neon"))]
fn step_row(
    layer: &WholeLayer,
    (block, sums, step): (&Block, &[i32], usize),
    u: &mut [i32],
    m: &mut [f32],
    spikes: &mut [f32],
) {
    let (lanes, count) = (layer.packed.lanes(), layer.packed.groups * layer.packed.group.0);
    let (thresholds, decay) = (&layer.packed.thresholds, layer.packed.rule.decay);
    let pixels = sums.chunks_exact(lanes).skip(step).step_by(block.steps);
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
