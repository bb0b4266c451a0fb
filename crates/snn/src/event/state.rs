//! One recording on its way through the layers.

use escape_network::sequential::{Pool, Pooling};
use escape_network::stage::{Op, Stage};

use crate::engine::Spike;
use crate::integer::{IntegerNetwork, NO_DECAY, step};

use super::packed::Packed;

/// What a recording gave.
pub(super) struct Found {
    /// Potentials of the readout after each step, T x K.
    pub readout: Vec<i32>,
    /// Of each layer, step by step.
    pub spikes: Vec<u64>,
    /// Operations that arrivals cause in it, likewise.
    pub operations: Vec<u64>,
    /// Every spike, if they are wanted.
    pub recorded: Vec<Spike>,
}

/// What arrives at a pixel from one channel.
#[derive(Clone, Copy, Debug)]
struct Arrival {
    channel: u32,
    count: i32,
}

/// Arrivals of all pixels of a plane.
#[derive(Debug, Default)]
struct Arrivals {
    /// Where those of each pixel begin, and where the last ones end.
    starts: Vec<usize>,
    all: Vec<Arrival>,
}

impl Arrivals {
    fn clear(&mut self) {
        self.starts.clear();
        self.all.clear();
        self.starts.push(0);
    }

    /// Ends a pixel, whose channels come in `values`.
    fn pixel(&mut self, values: impl Iterator<Item = i32>) {
        for (channel, count) in values.enumerate() {
            if count != 0 {
                self.all.push(Arrival { channel: channel as u32, count });
            }
        }
        self.starts.push(self.all.len());
    }

    fn at(&self, pixel: usize) -> &[Arrival] {
        &self.all[self.starts[pixel]..self.starts[pixel + 1]]
    }

    fn pixels(&self) -> usize {
        self.starts.len().saturating_sub(1)
    }
}

/// What is kept of one layer from step to step, and its buffers.
#[derive(Debug)]
struct LayerState {
    /// Potentials, H x W x C.
    u: Vec<i32>,
    /// Spikes of this step, likewise.
    spikes: Vec<u8>,
    /// How often each neuron fired, where a pooling over maxima asks for it.
    fired: Vec<u32>,
    arrivals: Arrivals,
}

/// Buffers for one recording after another.
pub(super) struct State {
    layers: Vec<LayerState>,
    /// What arrives at the first layer.
    input: Arrivals,
    /// What the recording causes in the first layer, where it is the input itself.
    constant: Vec<i32>,
    current: Vec<i32>,
    pooled: Vec<u32>,
}

impl State {
    pub fn new(network: &IntegerNetwork, layers: &[Packed]) -> Self {
        let of = |(packed, layer): (&Packed, &crate::integer::IntegerLayer)| {
            let (rows, columns, channels) = packed.output;
            let neurons = rows * columns * channels;
            let counts = layer.shape.pool.is_some_and(|pool| pool.pooling == Pooling::Max);
            LayerState {
                u: vec![0; neurons],
                spikes: vec![0; neurons],
                fired: vec![0; if counts { neurons } else { 0 }],
                arrivals: Arrivals::default(),
            }
        };
        Self {
            layers: layers.iter().zip(&network.layers).map(of).collect(),
            input: Arrivals::default(),
            constant: Vec::new(),
            current: Vec::new(),
            pooled: Vec::new(),
        }
    }

    /// Simulates `steps` timesteps of a recording; `drawn` are its input spikes, T x C x H x W, where it is no input itself.
    pub fn simulate(
        &mut self,
        network: &IntegerNetwork,
        layers: &[Packed],
        x: &[f32],
        drawn: Option<&[f32]>,
        steps: usize,
        record: bool,
    ) -> Found {
        let last = layers.len() - 1;
        let classes = layers[last].output.2;
        let mut found = Found {
            readout: Vec::with_capacity(steps * classes),
            spikes: vec![0; layers.len() * steps],
            operations: vec![0; layers.len() * steps],
            recorded: Vec::new(),
        };
        for (state, layer) in self.layers.iter_mut().zip(&network.layers) {
            for (n, u) in state.u.iter_mut().enumerate() {
                *u = layer.initial_potential(n % layer.shape.output.channels);
            }
            state.fired.fill(0);
        }
        let input = &mut self.input;
        if drawn.is_none() {
            let whole = network.precision.round_recording(x);
            list(&layers[0], |at| whole[at], input);
            accumulate(&layers[0], input, &mut self.constant);
        }
        let size = x.len();
        for t in 0..steps {
            if let Some(drawn) = drawn {
                let step = &drawn[t * size..][..size];
                list(&layers[0], |at| step[at] as i32, input);
                found.operations[t] = operations(&layers[0], input);
                accumulate(&layers[0], input, &mut self.constant);
            }
            for (k, packed) in layers.iter().enumerate() {
                let (below, this) = self.layers.split_at_mut(k);
                let state = &mut this[0];
                let current = match below.last() {
                    None => &self.constant,
                    Some(below) => {
                        found.operations[k * steps + t] = operations(packed, &below.arrivals);
                        accumulate(packed, &below.arrivals, &mut self.current);
                        &self.current
                    }
                };
                if k == last {
                    state.u.iter_mut().zip(current).for_each(|(u, c)| *u += c);
                    found.readout.extend_from_slice(&state.u);
                    break;
                }
                let fired = fire(packed, current, &mut state.u, &mut state.spikes);
                found.spikes[k * steps + t] = fired;
                if record && fired > 0 {
                    recorded(packed, &state.spikes, (k, t), &mut found.recorded);
                }
                send(&network.layers[k].shape, packed, state, &mut self.pooled);
            }
        }
        found
    }
}

/// Lists what arrives at a first layer, whose values `value` gives by their place among C x H x W.
fn list(packed: &Packed, value: impl Fn(usize) -> i32, input: &mut Arrivals) {
    let (rows, columns, channels) = packed.input;
    input.clear();
    for pixel in 0..rows * columns {
        input.pixel((0..channels).map(|channel| value(channel * rows * columns + pixel)));
    }
}

/// Operations that arrivals cause in a layer.
fn operations(packed: &Packed, arrivals: &Arrivals) -> u64 {
    (0..arrivals.pixels()).map(|pixel| arrivals.at(pixel).len() as u64 * packed.reaches(pixel)).sum()
}

/// Weighted sums of what arrives, H x W x C, biases included.
#[multiversion::multiversion(targets("x86_64+avx512f+avx512bw+avx512vl", "x86_64+avx2", "aarch64+neon"))]
fn accumulate(packed: &Packed, arrivals: &Arrivals, current: &mut Vec<i32>) {
    let (rows, columns, out) = packed.output;
    let whole = packed.group.1 == out;
    current.clear();
    current.resize(rows * columns * out, 0);
    for (n, sums) in current.chunks_exact_mut(out).enumerate() {
        let at = (n / columns, n % columns);
        sums.copy_from_slice(&packed.bias);
        if !whole {
            each_arrival(packed, arrivals, at, |first, row, arrival| {
                let group = arrival.channel as usize / packed.group.0 * packed.group.1;
                add(
                    &mut sums[group..][..packed.group.1],
                    &packed.rows[first + row..][..packed.group.1],
                    arrival.count,
                );
            });
            continue;
        }
        // Blocks of a fixed number of channels, whose sums stay in registers; the rest one by one.
        let mut first = 0;
        while out - first >= 64 {
            block::<64>(packed, arrivals, at, first, sums);
            first += 64;
        }
        while out - first >= 16 {
            block::<16>(packed, arrivals, at, first, sums);
            first += 16;
        }
        if first < out {
            each_arrival(packed, arrivals, at, |start, row, arrival| {
                add(&mut sums[first..], &packed.rows[start + row + first..][..out - first], arrival.count);
            });
        }
    }
}

/// Adds what arrives at an output pixel, of output channels from `first` on.
#[inline(always)]
fn block<const N: usize>(
    packed: &Packed,
    arrivals: &Arrivals,
    at: (usize, usize),
    first: usize,
    sums: &mut [i32],
) {
    let Some(sums) = sums[first..].first_chunk_mut::<N>() else { return };
    let mut own = *sums;
    each_arrival(packed, arrivals, at, |start, row, arrival| {
        let Some(weights) = packed.rows[start + row + first..].first_chunk::<N>() else { return };
        if arrival.count == 1 {
            for i in 0..N {
                own[i] += i32::from(weights[i]);
            }
        } else {
            for i in 0..N {
                own[i] += i32::from(weights[i]) * arrival.count;
            }
        }
    });
    *sums = own;
}

/// Hands over what arrives under the kernel at an output pixel, with where the rows of its tap begin and where its own row is
/// among them.
#[inline(always)]
fn each_arrival(
    packed: &Packed,
    arrivals: &Arrivals,
    (y, x): (usize, usize),
    mut each: impl FnMut(usize, usize, Arrival),
) {
    let (height, width, channels) = packed.input;
    let outputs = packed.group.1;
    for i in 0..packed.kernel.0 {
        let row = (y * packed.stride.0 + i).wrapping_sub(packed.padding.top);
        if row >= height {
            continue;
        }
        for j in 0..packed.kernel.1 {
            let column = (x * packed.stride.1 + j).wrapping_sub(packed.padding.left);
            if column >= width {
                continue;
            }
            let start = (i * packed.kernel.1 + j) * channels * outputs;
            for arrival in arrivals.at(row * width + column) {
                each(start, arrival.channel as usize * outputs, *arrival);
            }
        }
    }
}

#[inline(always)]
fn add(sums: &mut [i32], weights: &[i8], count: i32) {
    for (sum, &weight) in sums.iter_mut().zip(weights) {
        *sum += i32::from(weight) * count;
    }
}

/// Steps all neurons of a layer; writes their spikes, and returns how many.
#[multiversion::multiversion(targets("x86_64+avx512f+avx512bw+avx512vl", "x86_64+avx2", "aarch64+neon"))]
fn fire(packed: &Packed, current: &[i32], u: &mut [i32], spikes: &mut [u8]) -> u64 {
    let channels = packed.output.2;
    let mut total = 0u64;
    let pixels = u
        .chunks_exact_mut(channels)
        .zip(current.chunks_exact(channels))
        .zip(spikes.chunks_exact_mut(channels));
    for ((u, current), spikes) in pixels {
        let mut fired = 0u32;
        let each = u.iter_mut().zip(current).zip(spikes).zip(&packed.thresholds);
        match packed.decay {
            NO_DECAY => each.for_each(|(((u, c), s), &theta)| one(theta, NO_DECAY, u, *c, s, &mut fired)),
            decay => each.for_each(|(((u, c), s), &theta)| one(theta, decay, u, *c, s, &mut fired)),
        }
        total += u64::from(fired);
    }
    total
}

#[inline(always)]
fn one(theta: i32, decay: i32, u: &mut i32, current: i32, spike: &mut u8, fired: &mut u32) {
    let (fires, next) = step(theta, decay, *u, current);
    *u = next;
    *spike = u8::from(fires);
    *fired += u32::from(fires);
}

/// Every spike of a step, in the order of channels, rows and columns.
fn recorded(packed: &Packed, spikes: &[u8], (layer, step): (usize, usize), all: &mut Vec<Spike>) {
    let (rows, columns, channels) = packed.output;
    for (channel, pixel) in (0..channels).flat_map(|c| (0..rows * columns).map(move |pixel| (c, pixel))) {
        if spikes[pixel * channels + channel] != 0 {
            all.push(Spike { layer, step, neuron: channel * rows * columns + pixel });
        }
    }
}

/// Pools what a layer's neurons send, and lists it for the next one.
fn send(shape: &Stage, packed: &Packed, state: &mut LayerState, pooled: &mut Vec<u32>) {
    let (rows, columns, channels) = packed.output;
    let LayerState { spikes, fired, arrivals, .. } = state;
    arrivals.clear();
    let Some(pool) = shape.pool else {
        for pixel in spikes.chunks_exact(channels) {
            // Most pixels of a silent network are.
            match pixel.iter().all(|&s| s == 0) {
                true => arrivals.pixel(std::iter::empty()),
                false => arrivals.pixel(pixel.iter().map(|&s| i32::from(s))),
            }
        }
        return;
    };
    // A linear layer is one pixel here, and nothing pools it.
    debug_assert!(matches!(shape.op, Op::Conv(_)));
    let maxima = pool.pooling == Pooling::Max;
    for (r, c) in (0..shape.pooled.height).flat_map(|r| (0..shape.pooled.width).map(move |c| (r, c))) {
        pooled.clear();
        pooled.resize(channels, 0);
        each_of_window(&pool, (r, c), (rows, columns), |at| {
            let (fired, spikes) = (fired.get(at * channels..), &spikes[at * channels..][..channels]);
            match fired.filter(|_| maxima) {
                // What the most active one has had before this step.
                Some(fired) => pooled.iter_mut().zip(fired).for_each(|(p, f)| *p = (*p).max(*f)),
                None => pooled.iter_mut().zip(spikes).for_each(|(p, s)| *p += u32::from(*s)),
            }
        });
        if !maxima {
            arrivals.pixel(pooled.iter().map(|&n| n as i32));
            continue;
        }
        // It has gained a spike if one that had as many fires now.
        let before: Vec<u32> = pooled.clone();
        pooled.fill(0);
        each_of_window(&pool, (r, c), (rows, columns), |at| {
            let fired = &fired[at * channels..][..channels];
            let spikes = &spikes[at * channels..][..channels];
            for (((p, f), s), b) in pooled.iter_mut().zip(fired).zip(spikes).zip(&before) {
                *p |= u32::from(*s != 0 && f == b);
            }
        });
        arrivals.pixel(pooled.iter().map(|&n| n as i32));
    }
    if maxima {
        fired.iter_mut().zip(spikes).for_each(|(fired, spike)| *fired += u32::from(*spike));
    }
}

/// The pixels of a window that lie within the plane.
fn each_of_window(
    pool: &Pool,
    (r, c): (usize, usize),
    (rows, columns): (usize, usize),
    mut look: impl FnMut(usize),
) {
    for i in 0..pool.kernel.0 {
        let row = (r * pool.stride.0 + i).wrapping_sub(pool.padding.top);
        for j in 0..pool.kernel.1 {
            let column = (c * pool.stride.1 + j).wrapping_sub(pool.padding.left);
            if row < rows && column < columns {
                look(row * columns + column);
            }
        }
    }
}
