//! A layer made ready for the kernels: its weights in the orders in which they read them.

use std::ops::Range;

use escape_network::sequential::{Conv2d, Padding, Pool, Size};
use escape_network::stage::{Op, Stage};
use rayon::prelude::*;

use crate::aligned::Aligned;
use crate::encode::Encoding;

use super::number::Number;
use super::plane::Frame;

/// Output channels come in multiples of so many; what is not there has weights of 0 and never fires.
pub(super) const LANES: usize = 32;

/// The largest count that a byte holds for the kernels: two of them, weighed by 127 each, are within 16 bits.
pub(super) const LARGEST_BYTE: usize = 127;

/// How the weights of dense kernels are grouped: so many outputs together.
pub(super) const BLOCK: usize = 16;

/// A layer as a convolution. A linear layer is one whose kernel is as large as its input.
#[derive(Debug)]
pub(super) struct Packed<N: Number> {
    /// Its input in memory, and what that holds.
    pub frame: Frame,
    pub holds: Holds,
    /// Output rows, columns and channels.
    pub output: (usize, usize, usize),
    pub kernel: Size,
    pub stride: Size,
    pub groups: usize,
    /// Output channels of a group, and what it fills of a row of sums.
    pub group: (usize, usize),
    pub weights: N::Weights,
    /// What lies under a kernel as runs of values in a row: where each begins, from the window's first value on, for the first
    /// group; and how long they are.
    pub runs: Vec<usize>,
    pub run: usize,
    /// Constants of each lane: bias, threshold, potential at the start. What fills a row up never fires.
    pub bias: Vec<N>,
    pub thresholds: Vec<N>,
    pub start: Vec<N>,
    pub rule: N::Rule,
    /// Arrivals at each input pixel, weighed by the neurons that they reach.
    fan_out: Vec<u32>,
    /// How the output is pooled.
    pub pool: Option<Pool>,
    pub pooled: Size,
    pub bands: Vec<Band>,
}

/// What a layer's input is kept in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holds {
    /// Poisson input: -1, 0 and 1, stored as 0, 1 and 2.
    Signs,
    /// Counts of up to 127, see [`LARGEST_BYTE`].
    Bytes,
    /// Larger counts.
    Words,
    /// Recordings, in whole numbers or not.
    Recordings,
}

impl Holds {
    /// What the layer after `below` gets, or the first one.
    pub fn of(below: Option<&Stage>, encoding: Encoding) -> Self {
        match (below, encoding) {
            (Some(below), _) if below.largest_count() > LARGEST_BYTE => Self::Words,
            (Some(_), _) => Self::Bytes,
            (None, Encoding::Direct) => Self::Recordings,
            (None, Encoding::Poisson) => Self::Signs,
        }
    }
}

/// Where an output is in memory among 32: interleaving two such rows by halves of 16 bytes, bytes of one and the other in turn,
/// brings outputs 0 to 15 together, and 16 to 31.
pub(super) const ORDER: [usize; LANES] = [
    0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28,
    29, 30, 31,
];

/// Rows of neurons that are stepped together, and rows of their pooled plane that are then known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Band {
    pub rows: Range<usize>,
    pub pooled: Range<usize>,
}

/// What is put into a [`Packed`] of the numbers in which it computes.
pub(super) struct Parts<'a, N: Number> {
    /// The layer, and the one before it.
    pub shape: &'a Stage,
    pub below: Option<&'a Stage>,
    pub holds: Holds,
    /// Weights, from those of the layer in PyTorch's order.
    pub weights: &'a dyn Fn(Order) -> N::Weights,
    /// Constants of each output channel.
    pub bias: &'a dyn Fn(usize) -> N,
    pub threshold: &'a dyn Fn(usize) -> N,
    pub start: &'a dyn Fn(usize) -> N,
    pub never: N,
    pub rule: N::Rule,
}

impl<N: Number> Packed<N> {
    pub fn new(parts: &Parts<'_, N>) -> Self {
        let Parts { shape, below, holds, .. } = *parts;
        let conv = match shape.op {
            Op::Conv(conv) => conv,
            Op::Linear => {
                // The planes that the layer below sends, if it sends planes.
                let planes = below.map(|b| b.pooled).filter(|planes| planes.count() == shape.input.channels);
                let (rows, columns) = planes.map_or((1, 1), |planes| (planes.height, planes.width));
                Conv2d { bias: false, ..Conv2d::new(shape.output.channels, (rows, columns)) }
            }
        };
        let Conv2d { out, kernel, stride, padding, groups: joined, .. } = conv;
        let groups = if N::GROUPS { joined } else { 1 };
        let (height, width, output) = match shape.op {
            Op::Conv(_) => {
                (shape.input.height, shape.input.width, (shape.output.height, shape.output.width, out))
            }
            Op::Linear => (kernel.0, kernel.1, (1, 1, out)),
        };
        let channels = shape.input.count() / (height * width);
        let needed = ((output.0 - 1) * stride.0 + kernel.0, (output.1 - 1) * stride.1 + kernel.1);
        let frame = Frame::new((height, width, channels), padding, needed);
        let (runs, run) = runs(&frame, kernel, groups);
        let outputs = out / groups;
        let filled = outputs.next_multiple_of(LANES);
        let linear = shape.op == Op::Linear;
        let inputs = channels / joined;
        let order = Order { kernel, stride, groups, joined, channels, inputs, outputs, filled, run, linear };
        // A group's constants, and what fills its lanes.
        let lanes = |of: &dyn Fn(usize) -> N, rest: N| -> Vec<N> {
            let lane = |g: usize, n: usize| if n < outputs { of(g * outputs + n) } else { rest };
            (0..groups).flat_map(|g| (0..filled).map(move |n| (g, n))).map(|(g, n)| lane(g, n)).collect()
        };
        let pooled = match shape.op {
            Op::Conv(_) => (shape.pooled.height, shape.pooled.width),
            Op::Linear => (1, 1),
        };
        Self {
            frame,
            holds,
            output,
            kernel,
            stride,
            groups,
            group: (outputs, filled),
            weights: (parts.weights)(order),
            runs,
            run,
            bias: lanes(parts.bias, N::default()),
            thresholds: lanes(parts.threshold, parts.never),
            start: lanes(parts.start, N::default()),
            rule: parts.rule,
            fan_out: shape.fan_out(),
            pool: shape.pool,
            pooled,
            bands: bands(output.0, pooled.0, shape.pool.as_ref()),
        }
    }

    /// Whether its input is the same at every step.
    pub fn fixed(&self) -> bool {
        self.holds == Holds::Recordings
    }

    /// The byte that stands for nothing.
    pub fn nothing(&self) -> u8 {
        u8::from(self.holds == Holds::Signs)
    }

    /// Sums of one output pixel: output channels, those of each group filled up.
    pub fn lanes(&self) -> usize {
        self.groups * self.group.1
    }

    /// The lane of an output channel.
    pub fn lane(&self, channel: usize) -> usize {
        channel / self.group.0 * self.group.1 + channel % self.group.0
    }

    /// How many neurons an arrival at a pixel reaches.
    pub fn reaches(&self, row: usize, column: usize) -> u64 {
        u64::from(match self.fan_out.len() {
            1 => self.fan_out[0],
            _ => self.fan_out[row * self.frame.input.1 + column],
        })
    }

    /// Runs whose weights for 64 outputs, so many bytes each, lie in the first level of cache together.
    pub fn slab(&self, bytes: usize) -> usize {
        const CACHE: usize = 16 << 10;
        (CACHE / (self.run * 64 * bytes)).clamp(1, self.runs.len())
    }
}

/// Without groups a row of the kernel is one run, with them a pixel of it.
fn runs(frame: &Frame, kernel: Size, groups: usize) -> (Vec<usize>, usize) {
    let (row, channels) = (frame.row(), frame.input.2);
    match groups {
        1 => ((0..kernel.0).map(|i| i * row).collect(), kernel.1 * channels),
        _ => {
            let all = (0..kernel.0).flat_map(|i| (0..kernel.1).map(move |j| i * row + j * channels));
            (all.collect(), channels / groups)
        }
    }
}

/// One band for each row of windows if no neuron is in windows of two rows; else one of everything.
fn bands(rows: usize, pooled: usize, pool: Option<&Pool>) -> Vec<Band> {
    let (kernel, stride, Padding { top, .. }) =
        pool.map_or((1, 1, Padding::default()), |pool| (pool.kernel.0, pool.stride.0, pool.padding));
    if kernel > stride {
        return vec![Band { rows: 0..rows, pooled: 0..pooled }];
    }
    let end =
        |r: usize| if r + 1 == pooled { rows } else { (r * stride + kernel).saturating_sub(top).min(rows) };
    let begin = |r: usize| if r == 0 { 0 } else { end(r - 1) };
    (0..pooled).map(|r| Band { rows: begin(r)..end(r), pooled: r..r + 1 }).collect()
}

/// The orders in which kernels read a layer's weights.
#[derive(Clone, Copy, Debug)]
pub(super) struct Order {
    kernel: Size,
    pub stride: Size,
    /// Groups that are apart, and the convolution's, which may be joined by zeros.
    pub groups: usize,
    joined: usize,
    channels: usize,
    /// Channels that an output has weights for; kept, so that no weight takes a division.
    inputs: usize,
    /// Outputs of a group, and the same filled up.
    outputs: usize,
    filled: usize,
    pub run: usize,
    pub linear: bool,
}

impl Order {
    /// Blocks of 64 outputs and one of 32, in each runs x values x outputs, whose order within 32 is `order`. Of no groups that
    /// are apart.
    pub fn rows<W: Copy + Default + Send + Sync>(
        &self,
        weights: &[W],
        order: impl Fn(usize) -> usize + Sync,
    ) -> Aligned<W> {
        let values = self.kernel.0 * self.run;
        let mut rows = Aligned::new(values * self.filled);
        rows.par_chunks_mut(values * 2 * LANES).enumerate().for_each(|(n, block)| {
            let (first, size) = (n * 2 * LANES, block.len() / values);
            let outputs = (0..size).map(|n| first + n / LANES * LANES + order(n % LANES));
            let of: Vec<Option<usize>> = outputs.map(|o| (o < self.outputs).then_some(o)).collect();
            // Taps of a channel lie together there, outputs here.
            self.each_value(|value, channel, tap| {
                for (to, o) in block[value * size..][..size].iter_mut().zip(&of) {
                    if let Some(weight) = o.and_then(|o| self.place(o, channel, tap)) {
                        *to = weights[weight];
                    }
                }
            });
        });
        rows
    }

    /// Groups x blocks of [`BLOCK`] outputs, in each runs x parts of a run x outputs x the values of a part.
    pub fn parts<W: From<i8> + Copy + Default>(&self, weights: &[i8], together: usize) -> Aligned<W> {
        let parts = self.run.div_ceil(together);
        let block = self.runs() * parts * BLOCK * together;
        let blocks = self.outputs.div_ceil(BLOCK);
        let mut all = Aligned::new(self.groups * blocks * block);
        for (n, to) in all.chunks_exact_mut(block).enumerate() {
            let (g, first) = (n / blocks, n % blocks * BLOCK);
            let outputs = first..(first + BLOCK).min(self.outputs);
            self.each_value(|value, channel, tap| {
                let (run, value) = (value / self.run, value % self.run);
                let part = (run * parts + value / together) * BLOCK * together + value % together;
                for (n, o) in outputs.clone().enumerate() {
                    if let Some(weight) = self.place(g * self.outputs + o, channel, tap) {
                        to[part + n * together] = W::from(weights[weight]);
                    }
                }
            });
        }
        all
    }

    /// Rows of the kernel x channels x columns of the kernel, the last one first, x lanes. Of no groups that are apart.
    pub fn scattered(&self, weights: &[f32]) -> Aligned<f32> {
        let mut all = Aligned::new(self.kernel.0 * self.run * self.filled);
        self.each_value(|_, channel, tap| {
            let (row, column) = (tap / self.kernel.1, tap % self.kernel.1);
            let at = (row * self.channels + channel) * self.kernel.1 + self.kernel.1 - 1 - column;
            for o in 0..self.outputs {
                if let Some(weight) = self.place(o, channel, tap) {
                    all[at * self.filled + o] = weights[weight];
                }
            }
        });
        all
    }

    fn runs(&self) -> usize {
        self.kernel.0 * self.kernel.1 * (self.channels / self.groups) / self.run
    }

    /// Every value under a kernel, run after run, with the channel (of its group, if groups are apart) and the tap that it is of;
    /// channel by channel.
    fn each_value(&self, mut look: impl FnMut(usize, usize, usize)) {
        let channels = self.channels / self.groups;
        for channel in 0..channels {
            for tap in 0..self.kernel.0 * self.kernel.1 {
                // Runs are rows of the kernel, or, if groups are apart, its taps.
                look(tap * channels + channel, channel, tap);
            }
        }
    }

    /// Where the weight of an output for a channel at a tap is in PyTorch's order; nowhere, if they are of two groups that are
    /// joined here.
    #[inline(always)]
    fn place(&self, o: usize, channel: usize, tap: usize) -> Option<usize> {
        let within = match self.joined == self.groups {
            true => channel,
            false => channel
                .checked_sub(o / (self.outputs / self.joined) * self.inputs)
                .filter(|&c| c < self.inputs)?,
        };
        Some((o * self.inputs + within) * self.kernel.0 * self.kernel.1 + tap)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use escape_network::sequential::Pooling;

    #[test]
    fn bands_are_apart_or_one() {
        let pool = |kernel, stride, top| {
            let pooling = Pooling::Average { count_padding: true };
            let padding = Padding { top, ..Padding::default() };
            Pool { stride: (stride, 1), padding, ..Pool::new(pooling, (kernel, 1)) }
        };
        let rows = |bands: Vec<Band>| bands.into_iter().map(|b| (b.rows, b.pooled)).collect::<Vec<_>>();
        assert_eq!(rows(bands(3, 3, None)), [(0..1, 0..1), (1..2, 1..2), (2..3, 2..3)]);
        assert_eq!(rows(bands(5, 2, Some(&pool(2, 2, 0)))), [(0..2, 0..1), (2..5, 1..2)]);
        assert_eq!(rows(bands(5, 3, Some(&pool(2, 2, 1)))), [(0..1, 0..1), (1..3, 1..2), (3..5, 2..3)]);
        // Rows between windows belong to nobody, but their neurons fire all the same.
        assert_eq!(rows(bands(7, 2, Some(&pool(2, 4, 0)))), [(0..2, 0..1), (2..7, 1..2)]);
        assert_eq!(rows(bands(5, 4, Some(&pool(2, 1, 0)))), [(0..5, 0..4)]);
    }
}
