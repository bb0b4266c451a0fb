//! Synaptic currents of one layer in whole numbers, for training, which runs the neurons itself.
//!
//! Letters: S steps of a block, H rows, W columns, C channels, L lanes, P pixels; channels come last.

use escape_network::stage::Op;

use super::kernels::Instructions;
use super::number::{Chunk, Number};
use super::packed::Packed;
use super::plane::{BLOCK_STEPS, Lists, Values};
use super::state::{lists_of, room, sum};
use super::{Event, whole};
use crate::aligned::Aligned;
use crate::integer::{IntegerNetwork, signal_of};

/// A convolution made ready for what arrives at it.
#[derive(Debug)]
pub struct Currents {
    packed: Packed<i32>,
    /// What one of a count is in the network of real numbers.
    arrival: f32,
    /// What a unit of each output channel's currents is there.
    units: Vec<f32>,
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

impl Currents {
    /// The most steps of a block.
    pub const STEPS: usize = BLOCK_STEPS;

    /// Of a network's layer, if that is a convolution of a size that the event engine takes.
    pub fn of(network: &IntegerNetwork, layer: usize) -> Option<Self> {
        let shape = &network.layers[layer].shape;
        if !matches!(shape.op, Op::Conv(_)) || Event::check_layer(shape).is_err() {
            return None;
        }
        let with = Instructions::best();
        let packed = whole::pack_layer(network, layer, with);
        let units = network.layers[layer].units.iter().map(|&unit| unit as f32).collect();
        Some(Self { packed, arrival: signal_of(network, layer) as f32, units, with })
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

    /// One step of such a row in the network of real numbers, W x C.
    pub fn step(&self, block: &Block, sums: &[i32], step: usize, row: &mut [f32]) {
        let (lanes, channels) = (self.packed.lanes(), self.units.len());
        if self.packed.groups == 1 {
            real(&sums[step * lanes..], (block.steps * lanes, &self.units), row);
            return;
        }
        let sums = sums.chunks_exact(lanes).skip(step).step_by(block.steps);
        for (sums, row) in sums.zip(row.chunks_exact_mut(channels)) {
            for (c, value) in row.iter_mut().enumerate() {
                *value = sums[self.packed.lane(c)] as f32 * self.units[c];
            }
        }
    }
}

/// Sums of each pixel's channels times their units.
#[multiversion::multiversion(targets("x86_64+avx512f+avx512bw+avx512vl", "x86_64+avx2", "aarch64+neon"))]
fn real(sums: &[i32], (per_pixel, units): (usize, &[f32]), row: &mut [f32]) {
    for (sums, row) in sums.chunks(per_pixel).zip(row.chunks_exact_mut(units.len())) {
        for ((value, &sum), &unit) in row.iter_mut().zip(sums).zip(units) {
            *value = sum as f32 * unit;
        }
    }
}
