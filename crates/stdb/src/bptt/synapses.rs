//! A layer's synapses, followed from what arrives at them, and backwards from what is not zero of dL/dI. Plain slices.
//!
//! Weights are kept in rows: for each tap of the kernel and each channel on one side, a weight for every channel on the other.
//! An arrival adds its row, multiplied, to sums that stay in registers, or, where few arrive at a target, in memory. A linear layer is
//! a convolution whose kernel is as large as its input.
//!
//! Letters: C channels, H rows, W columns. Channels come last here: H x W x C.

use std::ops::Range;

use escape_network::sequential::{Conv2d, Shape};
use escape_network::stage::{Op, Stage};
use rayon::prelude::*;

use super::arrivals::{Arrival, ByChannel, Frames, Order, Row};

/// What marks a place beyond the border.
const NONE: u32 = u32::MAX;

/// Where the taps of a kernel lead along one axis.
#[derive(Clone, Debug)]
struct Axis {
    taps: usize,
    stride: usize,
    before: usize,
    inputs: usize,
    outputs: usize,
}

impl Axis {
    /// The output whose tap an input is under, if it is one.
    fn output(&self, input: usize, tap: usize) -> Option<usize> {
        let from = (input + self.before).checked_sub(tap)?;
        (from % self.stride == 0 && from / self.stride < self.outputs).then_some(from / self.stride)
    }

    /// Where a target gets something from.
    fn reach(&self, way: Way) -> Reach {
        let Self { taps, stride, before, inputs, outputs } = *self;
        match way {
            Way::Forward => Reach { taps, stride, before, sources: inputs, targets: outputs },
            Way::Backward => {
                Reach { taps, stride: 1, before: taps - 1 - before, sources: outputs, targets: inputs }
            }
        }
    }
}

/// Where targets along one axis get something from: target n from sources n stride - before .. + taps.
#[derive(Clone, Copy)]
struct Reach {
    taps: usize,
    stride: usize,
    before: usize,
    sources: usize,
    targets: usize,
}

impl Reach {
    /// The first tap that is within the border, and the sources from there on.
    #[inline(always)]
    fn of(&self, target: usize) -> (usize, Range<usize>) {
        let first = target * self.stride;
        let start = first.saturating_sub(self.before).min(self.sources);
        let end = (first + self.taps).saturating_sub(self.before).min(self.sources);
        (self.before.saturating_sub(first), start..end.max(start))
    }
}

/// Which way currents or gradients go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// From inputs to outputs.
    Forward,
    /// From outputs to inputs, of a convolution of stride 1 whose padding is less than its kernel: one with its kernel turned
    /// around.
    Backward,
}

/// Where a layer's synapses are.
#[derive(Clone, Debug)]
pub(super) struct Geometry {
    pub input: Shape,
    pub output: Shape,
    pub conv: Conv2d,
    pub linear: bool,
    rows: Axis,
    columns: Axis,
    /// Along a row: where the channels of the output begin that an input is under a tap of, at input x taps + tap;
    /// [`NONE`] beyond the border.
    reached: Vec<u32>,
}

impl Geometry {
    /// Those of a stage that gets `below`, planes or features.
    pub fn new(stage: &Stage, below: Shape) -> Self {
        let (conv, linear) = match stage.op {
            Op::Conv(conv) => (conv, false),
            Op::Linear => (Conv2d::new(stage.output.channels, (below.height, below.width)), true),
        };
        let (input, output) = (below, stage.output);
        let Conv2d { kernel, stride, padding, .. } = conv;
        let axis = |taps, stride, before, inputs, outputs| Axis { taps, stride, before, inputs, outputs };
        let columns = axis(kernel.1, stride.1, padding.left, input.width, output.width);
        let places = (0..input.width).flat_map(|x| (0..kernel.1).map(move |tap| (x, tap)));
        let place = |(x, tap)| columns.output(x, tap).map_or(NONE, |at| (at * output.channels) as u32);
        Self {
            reached: places.map(place).collect(),
            input,
            output,
            conv,
            linear,
            rows: axis(kernel.0, stride.0, padding.top, input.height, output.height),
            columns,
        }
    }

    /// Input and output channels of a group.
    fn group(&self) -> (usize, usize) {
        (self.input.channels / self.conv.groups, self.output.channels / self.conv.groups)
    }

    fn taps(&self) -> usize {
        self.conv.kernel.0 * self.conv.kernel.1
    }

    /// Weights in rows for a way, from PyTorch's order: taps x channels that it comes from x channels of the group that it goes to.
    pub fn in_rows(&self, weights: &[f32], way: Way, rows: &mut [f32]) {
        let ((inputs, outputs), taps) = (self.group(), self.taps());
        let (from, to) = match way {
            Way::Forward => (self.input.channels, outputs),
            Way::Backward => (self.output.channels, inputs),
        };
        let last = self.taps() - 1;
        // Tap by tap, in squares of outputs and inputs: of a large layer either side alone would be far apart in memory.
        rows.par_chunks_mut(from * to).enumerate().for_each(|(n, rows)| {
            let tap = if way == Way::Forward { n } else { last - n };
            let outs = (0..self.output.channels).step_by(16);
            for (o, i) in outs.flat_map(|o| (0..inputs).step_by(16).map(move |i| (o, i))) {
                for o in o..(o + 16).min(self.output.channels) {
                    let group = o / outputs;
                    for i in i..(i + 16).min(inputs) {
                        let at = match way {
                            Way::Forward => (group * inputs + i) * to + o % outputs,
                            Way::Backward => o * to + i,
                        };
                        rows[at] = weights[(o * inputs + i) * taps + tap];
                    }
                }
            }
        });
    }

    /// Whether [`Way::Backward`] is there.
    pub fn goes_back(&self) -> bool {
        let Conv2d { kernel, stride, padding, .. } = self.conv;
        stride == (1, 1) && padding.top < kernel.0 && padding.left < kernel.1
    }

    /// PyTorch's shape of the weights of a convolution.
    pub fn weight_shape(&self) -> [usize; 4] {
        let (down, across) = self.conv.kernel;
        [self.conv.out, self.group().0, down, across]
    }

    /// Gradients in PyTorch's order, from rows of the way forward.
    pub fn out_of_rows(&self, rows: &[f32]) -> Vec<f32> {
        let ((inputs, outputs), taps) = (self.group(), self.taps());
        let mut weights = vec![0.0; rows.len()];
        for (o, each) in weights.chunks_exact_mut(inputs * taps).enumerate() {
            let group = o / outputs;
            for (n, weight) in each.iter_mut().enumerate() {
                let (i, tap) = (n / taps, n % taps);
                *weight = rows[(tap * self.input.channels + group * inputs + i) * outputs + o % outputs];
            }
        }
        weights
    }

    /// Adds to a row `y` of targets (W x C) what comes from a frame: currents of outputs, or the gradients of inputs.
    ///
    /// In the frame's order, and with fused multiplications where the machine has them. In the order of libtorch's convolutions on
    /// the CPU currents are theirs to the last bit: what is zero adds nothing there either.
    pub fn gather(
        &self,
        way: Way,
        weights: &[f32],
        (frames, t): (&Frames, usize),
        y: usize,
        target: &mut [f32],
    ) {
        let (inputs, outputs) = self.group();
        let group = match way {
            Way::Forward => (inputs, outputs),
            Way::Backward => (outputs, inputs),
        };
        let (down, across) = (self.rows.reach(way), self.columns.reach(way));
        let from = frames.channels;
        let (tap, sources) = down.of(y);
        let sources = (tap..).zip(sources).map(|(i, y)| (i * across.taps * from, frames.row(t, y))).collect();
        add_row(&Across { order: frames.order, sources, weights, reach: across, from, group }, target);
    }

    /// Adds to a linear layer's currents what comes from a frame, in the order of libtorch's products on the CPU (MKL's: features
    /// by 192).
    pub fn gather_features(&self, rows: &[f32], (frames, t): (&Frames, usize), target: &mut [f32]) {
        let Shape { channels, height, width } = self.input;
        // Features in PyTorch's order, with the place of their row.
        let mut starts = vec![0usize; channels + 1];
        let each = |look: &mut dyn FnMut(usize, usize, f32)| {
            for y in 0..height {
                frames.each_of_row(t, y, |x, channel, value| look(y * width + x, channel, value));
            }
        };
        each(&mut |_, channel, _| starts[channel + 1] += 1);
        for channel in 0..channels {
            starts[channel + 1] += starts[channel];
        }
        let mut features = vec![(0u32, 0u32, 0f32); starts[channels]];
        each(&mut |pixel, channel, value| {
            let (feature, row) = (channel * height * width + pixel, pixel * channels + channel);
            features[starts[channel]] = ((feature / MKL_BLOCK) as u32, row as u32, value);
            starts[channel] += 1;
        });
        add_features(rows, &features, target);
    }

    /// Adds to gradients in rows what the input row `input`, under the kernel's row `i`, contributes through dL/dI of an output row, W x
    /// C.
    fn outer(&self, input: &ByChannel, i: usize, gradient: &[f32], rows: &mut [f32]) {
        let (inputs, outputs) = self.group();
        let kernel = self.columns.taps * self.input.channels * outputs;
        let rows = &mut rows[i * kernel..][..kernel];
        let (taps, channels) = (self.columns.taps, self.input.channels);
        let group = (inputs, outputs);
        correlate(
            &Correlation { places: &self.reached, taps, inputs: channels, group, input, gradient },
            rows,
        );
    }

    /// Adds to gradients in rows what frame `t` contributes through dL/dI of the output rows from `first` on; `by_channel` is a
    /// buffer.
    pub fn weights_gradient(
        &self,
        (frames, t): (&Frames, usize),
        (first, gradient): (usize, &[f32]),
        by_channel: &mut ByChannel,
        rows: &mut [f32],
    ) {
        let width = self.output.width * self.output.channels;
        let last = first + gradient.len() / width;
        for y in 0..self.input.height {
            let reached = (0..self.rows.taps)
                .filter_map(|i| Some((i, self.rows.output(y, i)?)))
                .filter(|(_, output)| (first..last).contains(output));
            let mut listed = false;
            for (i, output) in reached {
                if !std::mem::replace(&mut listed, true) {
                    by_channel.set(frames, t, y);
                }
                self.outer(by_channel, i, &gradient[(output - first) * width..][..width], rows);
            }
        }
    }
}

/// Goes through so many channels in blocks of N, a constant, so that a block's sums stay in registers; `first` is where a block begins.
macro_rules! by_blocks {
    ($count:expr, $first:ident, $n:ident => $work:expr) => {
        let mut $first = 0;
        by_blocks!($count, $first, $n => $work; 64 16 4 1);
    };
    ($count:expr, $first:ident, $n:ident => $work:expr; $($block:literal)+) => {
        $(while $count - $first >= $block {
            const $n: usize = $block;
            $work;
            $first += $block;
        })+
    };
}

/// Where a row of a window holds at most so many values, of which less than half are there, arrivals are scattered to their targets: a
/// loop over a list costs as much where it ends, which cannot be foreseen, as several arrivals.
const SHORT: usize = 16;

/// What reaches a row of targets.
struct Across<'a> {
    order: Order,
    /// Rows that it comes from: where the weights of their taps begin, in rows, and what is there.
    sources: Vec<(usize, Row<'a>)>,
    weights: &'a [f32],
    reach: Reach,
    /// Channels that it comes from; of a group, and those that it goes to.
    from: usize,
    group: (usize, usize),
}

impl Across<'_> {
    /// Adds to all targets what a block of channels of a source row sends, target by target.
    #[inline(always)]
    fn gather<const FUSED: bool>(&self, (start, source): (usize, Row<'_>), block: usize, target: &mut [f32]) {
        let channels = target.len() / self.reach.targets;
        for (x, sums) in target.chunks_exact_mut(channels).enumerate() {
            let (tap, pixels) = self.reach.of(x);
            // Taps go on as pixels do.
            let shift = (start + tap * self.from).wrapping_sub(pixels.start * self.from);
            let arrivals = source.block(block, pixels);
            if channels == self.group.1 {
                by_blocks!(channels, first, N => self.add::<N, FUSED>((arrivals, shift), first, sums));
                continue;
            }
            for arrival in arrivals {
                let row = (arrival.place as usize).wrapping_add(shift);
                let group = row % self.from / self.group.0 * self.group.1;
                let row = &self.weights[row * self.group.1..][..self.group.1];
                for (sum, &weight) in sums[group..].iter_mut().zip(row) {
                    *sum = product::<FUSED>(weight, arrival.value, *sum);
                }
            }
        }
    }

    /// Adds arrivals to a block of a target's channels from `first` on.
    #[inline(always)]
    fn add<const N: usize, const FUSED: bool>(
        &self,
        (arrivals, shift): (&[Arrival], usize),
        first: usize,
        sums: &mut [f32],
    ) {
        let Some(sums) = sums[first..].first_chunk_mut::<N>() else { return };
        let weights = &self.weights[first..];
        let mut own = *sums;
        for arrival in arrivals {
            let row = (arrival.place as usize).wrapping_add(shift);
            let Some(row) = weights[row * self.group.1..].first_chunk::<N>() else { return };
            for n in 0..N {
                own[n] = product::<FUSED>(row[n], arrival.value, own[n]);
            }
        }
        *sums = own;
    }

    /// Adds to a block of all targets' channels from `at` on what a block of channels of a source row sends, arrival by arrival. Of no
    /// groups.
    #[inline(always)]
    fn scatter<const N: usize, const FUSED: bool>(
        &self,
        arrivals: &[Arrival],
        (first, at): (usize, usize),
        target: &mut [f32],
    ) {
        let (channels, Reach { taps, stride, before, targets, .. }) = (self.group.1, self.reach);
        for arrival in arrivals {
            let place = arrival.place as usize;
            let (x, channel) = (place / self.from + before, place % self.from);
            let reached = (x + 1).saturating_sub(taps).div_ceil(stride)..(x / stride + 1).min(targets);
            for reached in reached {
                let row = first + (x - reached * stride) * self.from + channel;
                let (Some(row), Some(sums)) = (
                    self.weights[row * channels + at..].first_chunk::<N>(),
                    target[reached * channels + at..].first_chunk_mut::<N>(),
                ) else {
                    return;
                };
                for n in 0..N {
                    sums[n] = product::<FUSED>(row[n], arrival.value, sums[n]);
                }
            }
        }
    }

    #[inline(always)]
    fn add_all<const FUSED: bool>(&self, target: &mut [f32]) {
        let whole = target.len() == self.reach.targets * self.group.1;
        let scatters = whole && self.reach.taps * self.order.block.min(self.from) <= SHORT;
        let mut apart = vec![0.0; if self.order.apart { target.len() } else { 0 }];
        for block in 0..self.from.div_ceil(self.order.block) {
            apart.fill(0.0);
            let sums = if self.order.apart { &mut apart[..] } else { &mut *target };
            for &(first, source) in &self.sources {
                let arrivals = source.block(block, 0..self.reach.sources);
                if scatters && 2 * arrivals.len() < self.reach.sources * self.order.block.min(self.from) {
                    by_blocks!(self.group.1, at, N => self.scatter::<N, FUSED>(arrivals, (first, at), sums));
                } else {
                    self.gather::<FUSED>((first, source), block, sums);
                }
            }
            target.iter_mut().zip(&apart).for_each(|(sum, apart)| *sum += apart);
        }
    }
}

/// a b + c, rounded once where the machine does that as fast.
#[inline(always)]
fn product<const FUSED: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FUSED { a.mul_add(b, c) } else { a * b + c }
}

#[multiversion::multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma", "aarch64+neon"))]
fn add_row(across: &Across<'_>, target: &mut [f32]) {
    match multiversion::target::target_cfg_f!(any(target_feature = "fma", target_arch = "aarch64")) {
        true => across.add_all::<true>(target),
        false => across.add_all::<false>(target),
    }
}

/// Features whose products MKL adds up in a row.
const MKL_BLOCK: usize = 192;

#[multiversion::multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma", "aarch64+neon"))]
fn add_features(rows: &[f32], features: &[(u32, u32, f32)], target: &mut [f32]) {
    match multiversion::target::target_cfg_f!(any(target_feature = "fma", target_arch = "aarch64")) {
        true => feature_sums::<true>(rows, features, target),
        false => feature_sums::<false>(rows, features, target),
    }
}

/// Of each feature that is not zero: its block, its row, its value.
#[inline(always)]
fn feature_sums<const FUSED: bool>(rows: &[f32], features: &[(u32, u32, f32)], target: &mut [f32]) {
    let outputs = target.len();
    let mut own = vec![0f32; outputs];
    for block in features.chunk_by(|a, b| a.0 == b.0) {
        own.fill(0.0);
        for &(_, row, value) in block {
            let row = &rows[row as usize * outputs..][..outputs];
            for (sum, &weight) in own.iter_mut().zip(row) {
                *sum = product::<FUSED>(weight, value, *sum);
            }
        }
        target.iter_mut().zip(&own).for_each(|(sum, own)| *sum += own);
    }
}

/// What one input row contributes to the gradients of a row of the kernel.
struct Correlation<'a> {
    /// Where dL/dI of the output is that an input value reaches through a tap, at value x taps + tap; [`NONE`] beyond the border.
    places: &'a [u32],
    taps: usize,
    /// Input channels; of a group, and its output channels.
    inputs: usize,
    group: (usize, usize),
    input: &'a ByChannel,
    /// dL/dI of the output row, W x C.
    gradient: &'a [f32],
}

#[multiversion::multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma", "aarch64+neon"))]
fn correlate(work: &Correlation<'_>, rows: &mut [f32]) {
    // 32 registers of 16 sums: those of four taps at once.
    let wide = multiversion::target::target_cfg_f!(target_feature = "avx512f");
    match multiversion::target::target_cfg_f!(any(target_feature = "fma", target_arch = "aarch64")) {
        true if wide => work.all::<4, true>(rows),
        true => work.all::<1, true>(rows),
        false => work.all::<1, false>(rows),
    }
}

impl Correlation<'_> {
    /// `TAPS` at once where there are so many, the others one by one.
    #[inline(always)]
    fn all<const TAPS: usize, const FUSED: bool>(&self, rows: &mut [f32]) {
        let each = self.inputs * self.group.1;
        let together = self.taps / TAPS * TAPS;
        let (rows, rest) = rows.split_at_mut(together * each);
        for (n, rows) in rows.chunks_exact_mut(TAPS * each).enumerate() {
            self.channels::<TAPS, FUSED>(n * TAPS, rows);
        }
        for (n, rows) in rest.chunks_exact_mut(each).enumerate() {
            self.channels::<1, FUSED>(together + n, rows);
        }
    }

    /// All channels of the taps from `tap` on.
    #[inline(always)]
    fn channels<const TAPS: usize, const FUSED: bool>(&self, tap: usize, rows: &mut [f32]) {
        for channel in 0..self.inputs {
            let events = self.input.of(channel);
            if events.is_empty() {
                continue;
            }
            let start = channel / self.group.0 * self.group.1;
            let rows = &mut rows[channel * self.group.1..];
            by_blocks!(self.group.1, first, N => {
                self.dot::<N, TAPS, FUSED>(tap, events, start + first, &mut rows[first..]);
            });
        }
    }

    /// Adds to a block of some taps' rows what one channel's arrivals contribute through the output channels from `first` on.
    #[inline(always)]
    fn dot<const N: usize, const TAPS: usize, const FUSED: bool>(
        &self,
        tap: usize,
        events: &[(u32, f32)],
        first: usize,
        rows: &mut [f32],
    ) {
        let next = self.inputs * self.group.1;
        let (places, gradient) = (&self.places[tap..], &self.gradient[first..]);
        let mut own = [[0.0; N]; TAPS];
        for (tap, own) in own.iter_mut().enumerate() {
            own.copy_from_slice(&rows[tap * next..][..N]);
        }
        for &(x, value) in events {
            let Some(places) = places[x as usize * self.taps..].first_chunk::<TAPS>() else { return };
            for (own, &place) in own.iter_mut().zip(places) {
                let Some(each) = gradient.get(place as usize..place as usize + N) else {
                    debug_assert_eq!(place, NONE);
                    continue;
                };
                for n in 0..N {
                    own[n] = product::<FUSED>(each[n], value, own[n]);
                }
            }
        }
        for (tap, own) in own.iter().enumerate() {
            rows[tap * next..][..N].copy_from_slice(own);
        }
    }
}

/// The weights' gradient of a linear layer, in PyTorch's order: of each feature's arrivals, the value times dL/dI. Each recording
/// has its input frames and its dL/dI, T x outputs.
pub(super) fn linear_gradient(geometry: &Geometry, recordings: &[(&Frames, &[f32])], weights: &mut [f32]) {
    let outputs = geometry.output.channels;
    let Shape { channels, height, width } = geometry.input;
    let features = channels * height * width;
    // Where dL/dI of the frame is, and the value; feature by feature.
    let (mut starts, mut events) = (vec![0usize; features + 1], Vec::new());
    let each = |look: &mut dyn FnMut(usize, u32, f32)| {
        let mut frame = 0;
        for (frames, gradient) in recordings {
            for t in 0..gradient.len() / outputs {
                for y in 0..height {
                    frames.each_of_row(t, y, |x, channel, value| {
                        look((channel * height + y) * width + x, frame, value);
                    });
                }
                frame += 1;
            }
        }
    };
    each(&mut |feature, _, _| starts[feature + 1] += 1);
    for feature in 0..features {
        starts[feature + 1] += starts[feature];
    }
    events.resize(starts[features], (0u32, 0f32));
    let mut next = starts.clone();
    each(&mut |feature, frame, value| {
        events[next[feature]] = (frame, value);
        next[feature] += 1;
    });
    let gradient: Vec<f32> = recordings.iter().flat_map(|(_, gradient)| gradient.iter().copied()).collect();
    weights.par_chunks_mut(64 * features).enumerate().for_each(|(n, weights)| {
        feature_rows((&starts, &events), &gradient, (64 * n, outputs), weights);
    });
}

/// The rows of up to 64 outputs from `first` on.
#[multiversion::multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma", "aarch64+neon"))]
fn feature_rows(
    (starts, events): (&[usize], &[(u32, f32)]),
    gradient: &[f32],
    (first, outputs): (usize, usize),
    weights: &mut [f32],
) {
    let features = starts.len() - 1;
    let count = weights.len() / features;
    // Features by the line of memory, so that what is written of each output lies together.
    let mut tile = [[0f32; 64]; 16];
    for start in (0..features).step_by(16) {
        let some = 16.min(features - start);
        for (f, sums) in tile.iter_mut().enumerate().take(some) {
            let events = &events[starts[start + f]..starts[start + f + 1]];
            let mut own = [0f32; 64];
            for &(frame, value) in events {
                let each = &gradient[frame as usize * outputs + first..];
                match each.first_chunk::<64>() {
                    Some(each) if count == 64 => (0..64).for_each(|n| own[n] += each[n] * value),
                    _ => own[..count].iter_mut().zip(each).for_each(|(sum, g)| *sum += g * value),
                }
            }
            *sums = own;
        }
        for (o, row) in weights.chunks_exact_mut(features).enumerate() {
            row[start..start + some].iter_mut().zip(&tile).for_each(|(weight, sums)| *weight = sums[o]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use escape_network::rng::Stream;
    use escape_network::sequential::Padding;

    /// A random layer: its stage, what it gets, and whether it is a linear one.
    fn random(r: &mut Stream) -> (Stage, Shape) {
        let mut draw = |low: usize, high: usize| low + (r.uniform() * (high - low + 1) as f64) as usize;
        let groups = draw(1, 2);
        let input = Shape::new(groups * draw(1, 9), draw(4, 9), draw(4, 9));
        let out = groups * [1, 3, 4, 17, 70][draw(0, 4)];
        let padding = Padding { top: draw(0, 2), bottom: draw(0, 2), left: draw(0, 2), right: draw(0, 2) };
        let (kernel, stride) = ((draw(1, 4), draw(1, 4)), (draw(1, 2), draw(1, 2)));
        let conv = Conv2d { out, kernel, stride, padding, groups, bias: false };
        let linear = draw(0, 3) == 0;
        let (height, width) = (
            (input.height + padding.top + padding.bottom - kernel.0) / stride.0 + 1,
            (input.width + padding.left + padding.right - kernel.1) / stride.1 + 1,
        );
        let (op, output) = match linear {
            true => (Op::Linear, Shape::features(out)),
            false => (Op::Conv(conv), Shape::new(out, height, width)),
        };
        let stage = Stage {
            name: "a".into(),
            key: "a".into(),
            op,
            input: if linear { Shape::features(input.count()) } else { input },
            output,
            bias: false,
            pool: None,
            pooled: output,
            weights_at: 0,
            norm_at: None,
            activations_at: 0,
        };
        (stage, input)
    }

    /// Every synapse of a layer: output, input and weight, by their places in C x H x W and PyTorch's order.
    fn synapses(geometry: &Geometry) -> Vec<(usize, usize, usize)> {
        let (input, output) = (geometry.input, geometry.output);
        let (conv, (inputs, outputs)) = (geometry.conv, geometry.group());
        let mut all = Vec::new();
        for (o, y, x) in (0..output.count())
            .map(|n| (n / (output.height * output.width), n / output.width % output.height, n % output.width))
        {
            for (i, a, b) in (0..inputs * geometry.taps())
                .map(|n| (n / geometry.taps(), n / conv.kernel.1 % conv.kernel.0, n % conv.kernel.1))
            {
                let row = (y * conv.stride.0 + a).wrapping_sub(conv.padding.top);
                let column = (x * conv.stride.1 + b).wrapping_sub(conv.padding.left);
                if row < input.height && column < input.width {
                    let channel = o / outputs * inputs + i;
                    all.push((
                        (o * output.height + y) * output.width + x,
                        (channel * input.height + row) * input.width + column,
                        ((o * inputs + i) * conv.kernel.0 + a) * conv.kernel.1 + b,
                    ));
                }
            }
        }
        all
    }

    /// Of H x W x C the order C x H x W.
    fn planes(values: &[f32], shape: Shape) -> Vec<f32> {
        let pixels = shape.height * shape.width;
        (0..values.len()).map(|n| values[n % pixels * shape.channels + n / pixels]).collect()
    }

    fn close(got: &[f32], want: &[f32], what: &str) {
        assert_eq!(got.len(), want.len(), "{what}");
        for (n, (got, want)) in got.iter().zip(want).enumerate() {
            assert!((got - want).abs() < 1e-4 * (1.0 + want.abs()), "{what} {n}: {got} against {want}");
        }
    }

    #[test]
    fn every_way_is_that_of_a_loop_over_all_synapses() {
        let mut r = Stream::new(7, 0);
        let mut backward = 0;
        for case in 0..200 {
            let (stage, below) = random(&mut r);
            let geometry = Geometry::new(&stage, below);
            let (input, output) = (geometry.input, geometry.output);
            let mut sparse = |n: usize, share: f64| -> Vec<f32> {
                (0..n).map(|_| if r.uniform() < share { r.normal() as f32 } else { 0.0 }).collect()
            };
            let (x, d) = (sparse(input.count(), 0.4), sparse(output.count(), 0.4));
            let weights = sparse(stage.weights(), 1.0);
            let all = synapses(&geometry);
            let order = [Order::AVX2, Order::AVX512, Order::FREE][case % 3];
            let what = format!("{case}: {order:?} {stage:?}");

            let frames = Frames::of_planes(order, &x, (input.height, input.width), input.channels);
            let active = Frames::of_planes(order, &d, (output.height, output.width), output.channels);
            let mut rows = vec![0.0; weights.len()];
            geometry.in_rows(&weights, Way::Forward, &mut rows);
            assert_eq!(geometry.out_of_rows(&rows), weights, "{what}");

            let mut currents = vec![0.0; output.count()];
            for (y, row) in currents.chunks_exact_mut(output.width * output.channels).enumerate() {
                geometry.gather(Way::Forward, &rows, (&frames, 0), y, row);
            }
            let mut want = vec![0.0; output.count()];
            all.iter().for_each(|&(o, i, w)| want[o] += x[i] * weights[w]);
            close(&planes(&currents, output), &want, &what);
            if geometry.linear {
                currents.fill(0.0);
                geometry.gather_features(&rows, (&frames, 0), &mut currents);
                close(&currents, &want, &what);
            }

            let mut want = vec![0.0; input.count()];
            all.iter().for_each(|&(o, i, w)| want[i] += d[o] * weights[w]);
            if geometry.goes_back() && !geometry.linear {
                backward += 1;
                let mut turned = vec![0.0; weights.len()];
                geometry.in_rows(&weights, Way::Backward, &mut turned);
                let mut found = vec![0.0; input.count()];
                for (y, row) in found.chunks_exact_mut(input.width * input.channels).enumerate() {
                    geometry.gather(Way::Backward, &turned, (&active, 0), y, row);
                }
                close(&planes(&found, input), &want, &what);
            }

            let mut want = vec![0.0; weights.len()];
            all.iter().for_each(|&(o, i, w)| want[w] += d[o] * x[i]);
            let pixels = output.height * output.width;
            let last: Vec<f32> =
                (0..d.len()).map(|n| d[n % output.channels * pixels + n / output.channels]).collect();
            let mut gradient = vec![0.0; weights.len()];
            // In bands of two rows.
            let row = output.width * output.channels;
            for (n, band) in last.chunks(2 * row).enumerate() {
                let by_channel = &mut ByChannel::default();
                geometry.weights_gradient((&frames, 0), (2 * n, band), by_channel, &mut gradient);
            }
            close(&geometry.out_of_rows(&gradient), &want, &what);
            if geometry.linear {
                let mut found = vec![0.0; weights.len()];
                linear_gradient(&geometry, &[(&frames, &last), (&frames, &last)], &mut found);
                let twice: Vec<f32> = want.iter().map(|w| 2.0 * w).collect();
                close(&found, &twice, &what);
            }
        }
        assert!(backward > 10);
    }
}
