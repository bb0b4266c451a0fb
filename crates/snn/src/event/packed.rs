//! A layer made ready for the kernels: its weights in the orders in which they read them.

use escape_network::sequential::{Conv2d, Padding, Pool, Pooling, Size};
use escape_network::stage::Op;

use crate::encode::Encoding;
use crate::integer::{IntegerLayer, IntegerNetwork};

use super::plane::Frame;

/// Output channels come in multiples of so many; what is not there has weights of 0 and never fires.
pub(super) const LANES: usize = 32;

/// The largest count that a byte holds for the kernels: two of them, weighed by 127 each, are within 16 bits.
const LARGEST_BYTE: usize = 127;

/// The share of an input that is not zero up to which its list costs less than its plane.
const LISTED_BELOW: f64 = 0.5;

/// How the weights of dense kernels are grouped: so many outputs together.
pub(super) const BLOCK: usize = 16;

/// A layer as a convolution. A linear layer is one whose kernel is as large as its input.
#[derive(Debug)]
pub(super) struct Packed {
    /// Its input in memory.
    pub frame: Frame,
    /// Output rows, columns and channels.
    pub output: (usize, usize, usize),
    pub kernel: Size,
    pub stride: Size,
    pub groups: usize,
    /// Output channels of a group, and what it fills of a row of sums.
    pub group: (usize, usize),
    /// What weights a window's values have.
    pub weights: Weights,
    /// What lies under a kernel as runs of values in a row: where each begins, from the window's first value on, for the first
    /// group; and how long they are.
    pub runs: Vec<usize>,
    pub run: usize,
    /// Constants of each lane: bias, threshold, potential at the start. The readout's thresholds are never reached.
    pub bias: Vec<i32>,
    pub thresholds: Vec<i32>,
    pub start: Vec<i32>,
    pub decay: i32,
    /// Whether its input is the same at every step.
    pub fixed: bool,
    /// What is added to every value of the input: Poisson input is -1, 0 or 1 and stored as 0, 1 or 2.
    pub shift: u8,
    /// Arrivals at each input pixel, weighed by the neurons that they reach.
    fan_out: Vec<u32>,
    /// How the output is pooled.
    pub pool: Option<Pool>,
    pub pooled: Size,
    pub bands: Vec<Band>,
}

/// Weights in the orders of the kernels that may be chosen.
#[derive(Debug)]
pub(super) enum Weights {
    /// For input in bytes.
    Narrow {
        /// For lists: blocks of 64 outputs and one of 32, in each runs x values x outputs, whose order within 32 is that of
        /// [`ORDER`]. Empty if there are groups or the input is shifted.
        rows: Vec<i8>,
        /// For planes: groups x blocks x runs x quads of values x outputs x 4. Empty for linear layers that have lists.
        quads: Vec<i8>,
        /// The sum of counts that 16 bits hold, times the largest weight.
        mass: u32,
        /// So many quads of the largest count that 16 bits hold.
        budget: usize,
    },
    /// For input in words: groups x blocks x runs x pairs of values x outputs x 2.
    Wide(Vec<i16>),
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
    pub rows: std::ops::Range<usize>,
    pub pooled: std::ops::Range<usize>,
}

impl Packed {
    pub fn new(network: &IntegerNetwork, k: usize) -> Self {
        let layer = &network.layers[k];
        let shape = &layer.shape;
        let below = k.checked_sub(1).map(|k| &network.layers[k].shape);
        let conv = match shape.op {
            Op::Conv(conv) => conv,
            Op::Linear => {
                // The planes that the layer below sends, if it sends planes.
                let planes = below.map(|b| b.pooled).filter(|planes| planes.count() == shape.input.channels);
                let (rows, columns) = planes.map_or((1, 1), |planes| (planes.height, planes.width));
                Conv2d { bias: false, ..Conv2d::new(shape.output.channels, (rows, columns)) }
            }
        };
        let Conv2d { out, kernel, stride, padding, groups, .. } = conv;
        let (height, width, output) = match shape.op {
            Op::Conv(_) => {
                (shape.input.height, shape.input.width, (shape.output.height, shape.output.width, out))
            }
            Op::Linear => (kernel.0, kernel.1, (1, 1, out)),
        };
        let channels = shape.input.count() / (height * width);
        let needed = ((output.0 - 1) * stride.0 + kernel.0, (output.1 - 1) * stride.1 + kernel.1);
        let frame = Frame::new((height, width, channels), padding, needed);
        let taps = Taps { layer, kernel, inputs: channels / groups, outputs: out / groups };
        let poisson = k == 0 && network.encoding == Encoding::Poisson;
        let largest = match below {
            None if poisson => 2,
            None => usize::MAX,
            Some(below) => largest_count(below.pool.as_ref()),
        };
        let (runs, run) = runs(&frame, kernel, groups);
        let padded = taps.outputs.next_multiple_of(LANES);
        let weights = if largest > LARGEST_BYTE {
            Weights::Wide(taps.grouped::<2, i16>(groups, padded, run))
        } else {
            let heaviest =
                layer.weights.iter().map(|w| u32::from(w.unsigned_abs())).max().unwrap_or(0).max(1);
            let listed = groups == 1 && !poisson;
            let linear = shape.op == Op::Linear;
            Weights::Narrow {
                rows: if listed { taps.rows(padded) } else { Vec::new() },
                quads: if listed && linear { Vec::new() } else { taps.grouped::<4, i8>(groups, padded, run) },
                mass: i16::MAX as u32 / heaviest,
                budget: i16::MAX as usize / (2 * largest * heaviest as usize),
            }
        };
        // A group's constants, and what fills its lanes.
        let lanes = |of: &dyn Fn(usize) -> i32, rest: i32| -> Vec<i32> {
            let lane = |g: usize, n: usize| {
                if n < taps.outputs { of(g * taps.outputs + n) } else { rest }
            };
            (0..groups).flat_map(|g| (0..padded).map(move |n| (g, n))).map(|(g, n)| lane(g, n)).collect()
        };
        let row = layer.row();
        // What the shift of the input adds to a sum.
        let shifted =
            |o: usize| -> i32 { layer.weights[o * row..][..row].iter().map(|&w| i32::from(w)).sum() };
        let bias = |o: usize| layer.bias.get(o).copied().unwrap_or(0) - if poisson { shifted(o) } else { 0 };
        let pooled = match shape.op {
            Op::Conv(_) => (shape.pooled.height, shape.pooled.width),
            Op::Linear => (1, 1),
        };
        Self {
            frame,
            output,
            kernel,
            stride,
            groups,
            group: (taps.outputs, padded),
            weights,
            runs,
            run,
            bias: lanes(&bias, 0),
            thresholds: lanes(&|o| layer.thresholds.get(o).copied().unwrap_or(i32::MAX), i32::MAX),
            start: lanes(&|o| layer.initial_potential(o), 0),
            decay: layer.decay,
            fixed: k == 0 && !poisson,
            shift: u8::from(poisson),
            fan_out: shape.fan_out(),
            pool: shape.pool,
            pooled,
            bands: bands(output.0, pooled.0, shape.pool.as_ref()),
        }
    }

    /// The largest value that a plane of its input can have as a word.
    pub const LARGEST_WORD: usize = i16::MAX as usize;

    /// Sums of one output pixel: output channels, those of each group filled up.
    pub fn lanes(&self) -> usize {
        self.groups * self.group.1
    }

    /// How many neurons an arrival at a pixel reaches.
    pub fn reaches(&self, row: usize, column: usize) -> u64 {
        u64::from(match self.fan_out.len() {
            1 => self.fan_out[0],
            _ => self.fan_out[row * self.frame.input.1 + column],
        })
    }

    /// Whether lists cost less than whole planes, for an input of which `arrivals` values are not zero over some steps.
    pub fn lists_pay(&self, arrivals: u64, steps: usize) -> bool {
        let Weights::Narrow { rows, quads, .. } = &self.weights else { return false };
        let (height, width, channels) = self.frame.input;
        let share = arrivals as f64 / (steps * height * width * channels) as f64;
        !rows.is_empty() && (quads.is_empty() || share < LISTED_BELOW)
    }

    /// Runs that lie in the first level of cache together, with their weights for 64 outputs.
    pub fn slab(&self) -> usize {
        const BYTES: usize = 16 << 10;
        (BYTES / (self.run * 64)).clamp(1, self.runs.len())
    }
}

/// The largest count that leaves a pooling.
pub(super) fn largest_count(pool: Option<&Pool>) -> usize {
    match pool {
        Some(pool) if matches!(pool.pooling, Pooling::Average { .. }) => pool.kernel.0 * pool.kernel.1,
        _ => 1,
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

/// A layer's weights by output, input and tap.
struct Taps<'a> {
    layer: &'a IntegerLayer,
    kernel: Size,
    /// Channels of a group.
    inputs: usize,
    outputs: usize,
}

impl Taps<'_> {
    /// The weight of output `o` for input channel `i` of its group at a tap.
    fn weight(&self, o: usize, i: usize, tap: usize) -> i8 {
        self.layer.weights[(o * self.inputs + i) * self.kernel.0 * self.kernel.1 + tap]
    }

    /// The weight of output `o` for value `v` of run `r`. A run is a row of the kernel if there are no groups, else one tap.
    fn in_run(&self, o: usize, r: usize, v: usize, run: usize) -> i8 {
        match run == self.inputs {
            true => self.weight(o, v, r),
            false => self.weight(o, v % self.inputs, r * self.kernel.1 + v / self.inputs),
        }
    }

    /// See [`Weights::Narrow`].
    fn rows(&self, padded: usize) -> Vec<i8> {
        let run = self.kernel.1 * self.inputs;
        let mut rows = Vec::with_capacity(self.kernel.0 * run * padded);
        let mut first = 0;
        while first < padded {
            let size = if padded - first >= 2 * LANES { 2 * LANES } else { LANES };
            for (r, v) in (0..self.kernel.0).flat_map(|r| (0..run).map(move |v| (r, v))) {
                for n in 0..size {
                    let o = first + n / LANES * LANES + ORDER[n % LANES];
                    let whole_row = r * self.kernel.1 + v / self.inputs;
                    rows.push(if o < self.outputs { self.weight(o, v % self.inputs, whole_row) } else { 0 });
                }
            }
            first += size;
        }
        rows
    }

    /// Blocks of [`BLOCK`] outputs, in each runs x ceil(run / N) x outputs x N.
    fn grouped<const N: usize, W: From<i8>>(&self, groups: usize, padded: usize, run: usize) -> Vec<W> {
        let taps = self.kernel.0 * self.kernel.1;
        let runs = taps * self.inputs / run;
        let mut all = Vec::new();
        for (g, block) in (0..groups).flat_map(|g| (0..padded / BLOCK).map(move |block| (g, block))) {
            for (r, q) in (0..runs).flat_map(|r| (0..run.div_ceil(N)).map(move |q| (r, q))) {
                for (n, v) in (0..BLOCK).flat_map(|n| (q * N..(q + 1) * N).map(move |v| (n, v))) {
                    let o = block * BLOCK + n;
                    let there = o < self.outputs && v < run;
                    all.push(W::from(if there { self.in_run(g * self.outputs + o, r, v, run) } else { 0 }));
                }
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
