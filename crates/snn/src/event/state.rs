//! One recording on its way through the layers.
//!
//! Letters: S steps of a block, H rows, W columns, C channels, L lanes (output channels, filled up); channels come last.

use std::ops::{AddAssign, Range};

use escape_network::sequential::{Pool, Pooling};

use crate::encode::Encoder;
use crate::engine::Spike;
use crate::integer::IntegerNetwork;

use super::kernels::{Dense, Instructions, Listed, Neurons};
use super::packed::{Band, LANES, Packed, Weights};
use super::plane::{Lists, SLACK, Values};

/// The most steps that are simulated of one layer before the next one's turn.
pub(super) const BLOCK_STEPS: usize = 8;

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

/// A recording, and where its input spikes come from.
#[derive(Clone, Copy)]
pub(super) enum Input<'a> {
    /// The recording itself, in whole numbers.
    Constant(&'a [f32]),
    /// Spikes that were drawn before, T x C x H x W.
    Drawn(&'a [i8]),
    /// A recording, from which an encoder whose draws are keyed makes spikes; and its index.
    Keyed(&'a [f32], &'a Encoder, usize),
}

/// What is kept of one layer from step to step.
#[derive(Debug)]
struct LayerState {
    /// Its input over a block.
    input: Values,
    /// Values of it that are not zero, of all steps of a block.
    arrivals: u64,
    /// Potentials, H x W x L; of one pixel where a run has one block only.
    u: Vec<i32>,
    /// How often each neuron fired, where a pooling over maxima asks for it.
    counts: Vec<u32>,
}

/// Buffers that a band of a layer needs.
#[derive(Debug, Default)]
struct Scratch {
    /// P x S x L.
    sums: Vec<i32>,
    /// Potentials of a run's only block, P x L.
    u: Vec<i32>,
    /// Rows of a band x W x S x L.
    spikes: Vec<u8>,
    fired: Vec<u64>,
    /// Where the spikes of a window's pixels begin.
    pixels: Vec<usize>,
    /// Of a window over maxima: counts of its neurons, window x C.
    window: Vec<u32>,
}

/// Buffers for one recording after another.
#[derive(Debug)]
pub(super) struct State {
    /// The steps for which they are.
    pub steps: usize,
    layers: Vec<LayerState>,
    lists: Lists,
    scratch: Scratch,
    /// What a constant recording causes in the first layer, H x W x L, where it is needed for more than one block.
    constant: Vec<i32>,
    /// Draws of a step.
    drawn: Vec<i8>,
}

impl State {
    /// Buffers for runs of a length.
    pub fn new(network: &IntegerNetwork, layers: &[Packed], steps: usize) -> Self {
        let block = steps.min(BLOCK_STEPS);
        let whole = steps > block;
        let last = layers.len() - 1;
        let of = |(k, packed): (usize, &Packed)| {
            let neurons = packed.output.0 * packed.output.1 * packed.lanes();
            let maxima = packed.pool.is_some_and(|pool| pool.pooling == Pooling::Max);
            let values = block * packed.frame.len() + SLACK;
            LayerState {
                input: match packed.weights {
                    // What lies around the input is as nothing that arrives.
                    Weights::Narrow { .. } => Values::Bytes(vec![packed.shift; values]),
                    Weights::Wide(_) => Values::Words(vec![0; values]),
                },
                arrivals: 0,
                u: vec![0; if whole || k == last { neurons } else { 0 }],
                counts: vec![0; if maxima { neurons } else { 0 }],
            }
        };
        let first = &layers[0];
        let constant = if first.fixed && whole { first.output.0 * first.output.1 * first.lanes() } else { 0 };
        Self {
            steps,
            layers: layers.iter().enumerate().map(of).collect(),
            lists: Lists::default(),
            scratch: Scratch::default(),
            constant: vec![0; constant],
            drawn: vec![0; if first.fixed { 0 } else { network.network.input().count() }],
        }
    }

    /// Simulates `steps` timesteps of a recording.
    pub fn simulate(
        &mut self,
        (network, layers, instructions): (&IntegerNetwork, &[Packed], Instructions),
        input: Input<'_>,
        record: bool,
    ) -> Found {
        let steps = self.steps;
        let mut found = Found {
            readout: Vec::with_capacity(steps * network.network.classes()),
            spikes: vec![0; layers.len() * steps],
            operations: vec![0; layers.len() * steps],
            recorded: Vec::new(),
        };
        for (state, packed) in self.layers.iter_mut().zip(layers) {
            for u in state.u.chunks_exact_mut(packed.lanes()) {
                fill(u, &packed.start);
            }
            state.counts.fill(0);
        }
        if let Input::Constant(x) = input {
            self.take_constant(network, &layers[0], x, instructions);
        }
        let mut begin = 0;
        let blocks = steps.div_ceil(BLOCK_STEPS);
        for block in 0..blocks {
            let end = steps * (block + 1) / blocks;
            let span = begin..end;
            self.take_spikes(&layers[0], input, &span, &mut found);
            for k in 0..layers.len() {
                self.layer(layers, k, &span, instructions, (record, steps), &mut found);
            }
            begin = end;
        }
        found
    }

    /// Takes a recording that is the same at every step.
    fn take_constant(&mut self, network: &IntegerNetwork, packed: &Packed, x: &[f32], with: Instructions) {
        let Values::Words(values) = &mut self.layers[0].input else { return };
        let (rows, columns, channels) = packed.frame.input;
        for (n, value) in network.precision.round_recording(x).into_iter().enumerate() {
            let (channel, row, column) = (n / (rows * columns), n / columns % rows, n % columns);
            values[packed.frame.at(row, column) + channel] = value as i16;
        }
        debug_assert!(channels * rows * columns == x.len());
        for (y, row) in self.constant.chunks_exact_mut(packed.output.1 * packed.lanes()).enumerate() {
            let chunk = Chunk { packed, y, columns: 0..packed.output.1, steps: 1 };
            chunk.sum(&self.layers[0].input, None, row, with);
        }
    }

    /// Takes the input spikes of a block.
    fn take_spikes(&mut self, packed: &Packed, input: Input<'_>, span: &Range<usize>, found: &mut Found) {
        let Values::Bytes(values) = &mut self.layers[0].input else { return };
        let (rows, columns, channels) = packed.frame.input;
        let size = rows * columns * channels;
        for (t, frame) in span.clone().zip(values.chunks_exact_mut(packed.frame.len())) {
            let spikes = match input {
                Input::Constant(_) => return,
                Input::Drawn(all) => &all[t * size..][..size],
                Input::Keyed(x, encoder, index) => {
                    encoder.clone().draw(x, index, t, &mut self.drawn);
                    &self.drawn[..]
                }
            };
            let mut operations = 0;
            for (n, plane) in spikes.chunks_exact(columns).enumerate() {
                let (channel, row) = (n / rows, n % rows);
                let first = packed.frame.at(row, 0) + channel;
                for (column, &spike) in plane.iter().enumerate() {
                    frame[first + column * channels] = (spike + packed.shift as i8) as u8;
                    if spike != 0 {
                        operations += packed.reaches(row, column);
                    }
                }
            }
            found.operations[t] += operations;
        }
    }

    /// Steps of a block of one layer, whose spikes become the next one's input.
    fn layer(
        &mut self,
        layers: &[Packed],
        k: usize,
        span: &Range<usize>,
        with: Instructions,
        (record, steps): (bool, usize),
        found: &mut Found,
    ) {
        let packed = &layers[k];
        let (this, above) = self.layers.split_at_mut(k + 1);
        let this = &mut this[k];
        let listed = packed.lists_pay(this.arrivals, span.len());
        if let (true, Values::Bytes(bytes)) = (listed, &this.input) {
            with.list(&mut self.lists, &packed.frame, bytes, span.len());
        }
        let lists = listed.then_some(&self.lists);
        let constant = (k == 0 && !self.constant.is_empty()).then_some(&self.constant[..]);
        let Some(above) = above.first_mut() else {
            readout(packed, this, lists, (&mut self.scratch, with), found, span.len());
            return;
        };
        let next = &layers[k + 1];
        above.arrivals = 0;
        self.scratch.fired.clear();
        self.scratch.fired.resize(span.len(), 0);
        for band in &packed.bands {
            let work = BandWork { packed, band, lists, constant, steps: span.len(), with };
            work.fire(this, &mut self.scratch);
            if record {
                work.record(&self.scratch, (k, span.start), &mut found.recorded);
            }
            let operations = &mut found.operations[(k + 1) * steps..][span.clone()];
            above.arrivals += work.send(this, &mut self.scratch, (next, &mut above.input), operations);
        }
        found.spikes[k * steps..][span.clone()].copy_from_slice(&self.scratch.fired);
    }
}

/// Output pixels of a row over the steps of a block.
struct Chunk<'a> {
    packed: &'a Packed,
    y: usize,
    columns: Range<usize>,
    steps: usize,
}

impl Chunk<'_> {
    /// Their sums, biases included, P x S x L.
    fn sum(&self, input: &Values, lists: Option<&Lists>, sums: &mut [i32], with: Instructions) {
        let Self { packed, y, ref columns, steps } = *self;
        let (pixels, lanes) = (columns.len(), packed.lanes());
        for sums in sums[..pixels * steps * lanes].chunks_exact_mut(lanes) {
            fill(sums, &packed.bias);
        }
        let frame = &packed.frame;
        let (top, left) = (y * packed.stride.0, columns.start * packed.stride.1);
        let channels = frame.input.2;
        if let (Some(lists), Weights::Narrow { rows, mass, .. }) = (lists, &packed.weights) {
            let slab = packed.slab();
            for first in (0..packed.runs.len()).step_by(slab) {
                let work = Listed {
                    lists,
                    weights: rows,
                    all_runs: packed.runs.len(),
                    runs: (first, (first + slab).min(packed.runs.len())),
                    run: packed.run,
                    across: packed.kernel.1,
                    pixel: top * frame.padded.1 + left,
                    value: left * channels,
                    per_pixel: packed.stride.1,
                    channels,
                    row: frame.padded.1,
                    frame: frame.padded.0 * frame.padded.1,
                    pixels,
                    steps,
                    mass: *mass,
                    lanes,
                };
                with.listed(&work, sums);
            }
            return;
        }
        for g in 0..packed.groups {
            let group = Group { packed, first: top * frame.row() + left * channels, g, pixels, steps };
            match (input, &packed.weights) {
                (Values::Bytes(values), Weights::Narrow { quads, budget, .. }) => {
                    with.narrow(&group.work::<4, u8, i8>(values, quads, *budget), sums);
                }
                (Values::Words(values), Weights::Wide(weights)) => {
                    with.wide(&group.work::<2, i16, i16>(values, weights, 0), sums);
                }
                _ => unreachable!("bytes have narrow weights, and words wide ones"),
            }
        }
    }
}

/// Copies constants of all lanes; so few that a call for each costs more.
#[inline(always)]
fn fill(to: &mut [i32], from: &[i32]) {
    for (to, from) in to.as_chunks_mut::<LANES>().0.iter_mut().zip(from.as_chunks::<LANES>().0) {
        *to = *from;
    }
}

/// A group of a layer's channels, for pixels of a row.
struct Group<'a> {
    packed: &'a Packed,
    /// The first window's first value.
    first: usize,
    g: usize,
    pixels: usize,
    steps: usize,
}

impl<'a> Group<'a> {
    /// What a dense kernel has to do, whose parts have `N` values.
    fn work<const N: usize, V, W>(
        &self,
        values: &'a [V],
        weights: &'a [W],
        budget: usize,
    ) -> Dense<'a, V, W> {
        let packed = self.packed;
        let channels = packed.frame.input.2;
        let size = weights.len() / packed.groups;
        Dense {
            values,
            weights: &weights[self.g * size..][..size],
            runs: &packed.runs,
            parts: packed.run.div_ceil(N),
            pixels: self.pixels,
            steps: self.steps,
            first: self.first + self.g * (channels / packed.groups),
            per_pixel: packed.stride.1 * channels,
            per_step: packed.frame.len(),
            budget,
            lanes: packed.lanes(),
            lane: self.g * packed.group.1,
            group: packed.group.1,
        }
    }
}

/// A band of a layer over the steps of a block.
struct BandWork<'a> {
    packed: &'a Packed,
    band: &'a Band,
    lists: Option<&'a Lists>,
    constant: Option<&'a [i32]>,
    steps: usize,
    with: Instructions,
}

impl BandWork<'_> {
    /// Steps the band's neurons.
    fn fire(&self, layer: &mut LayerState, scratch: &mut Scratch) {
        let Self { packed, band, lists, constant, steps, with } = *self;
        let (columns, lanes) = (packed.output.1, packed.lanes());
        let held = if packed.fixed { 1 } else { steps };
        // As many pixels at once as stay in cache; whole rows where weights have to be read in slabs.
        let most =
            if lists.is_some() && packed.slab() < packed.runs.len() { columns } else { 8.min(columns) };
        scratch.sums.resize(scratch.sums.len().max(most * held * lanes), 0);
        let size = band.rows.len() * columns * steps * lanes;
        scratch.spikes.resize(scratch.spikes.len().max(size), 0);
        if layer.u.is_empty() {
            // Set at every pixel.
            scratch.u.resize(scratch.u.len().max(most * lanes), 0);
        }
        for (y, first) in
            band.rows.clone().flat_map(|y| (0..columns).step_by(most).map(move |first| (y, first)))
        {
            let here = first..(first + most).min(columns);
            let pixels = here.len();
            let at = y * columns + first;
            let current = match constant {
                Some(all) => &all[at * lanes..][..pixels * lanes],
                None => {
                    let chunk = Chunk { packed, y, columns: here, steps: held };
                    chunk.sum(&layer.input, lists, &mut scratch.sums, with);
                    &scratch.sums[..]
                }
            };
            let u = match layer.u.is_empty() {
                false => &mut layer.u[at * lanes..][..pixels * lanes],
                true => {
                    let u = &mut scratch.u[..pixels * lanes];
                    u.chunks_exact_mut(lanes).for_each(|u| fill(u, &packed.start));
                    u
                }
            };
            let spikes = ((y - band.rows.start) * columns + first) * steps * lanes;
            with.fire(&mut Neurons {
                u,
                current,
                constant: packed.fixed,
                thresholds: &packed.thresholds,
                decay: packed.decay,
                spikes: &mut scratch.spikes[spikes..][..pixels * steps * lanes],
                fired: &mut scratch.fired,
            });
        }
    }

    /// Every spike of the band.
    fn record(&self, scratch: &Scratch, (layer, first): (usize, usize), all: &mut Vec<Spike>) {
        let (rows, columns, channels) = self.packed.output;
        let lanes = self.packed.lanes();
        let (outputs, filled) = self.packed.group;
        for (y, x) in self.band.rows.clone().flat_map(|y| (0..columns).map(move |x| (y, x))) {
            let pixel = (y - self.band.rows.start) * columns + x;
            for (s, channel) in (0..self.steps).flat_map(|s| (0..channels).map(move |c| (s, c))) {
                let lane = channel / outputs * filled + channel % outputs;
                if scratch.spikes[(pixel * self.steps + s) * lanes + lane] != 0 {
                    let neuron = (channel * rows + y) * columns + x;
                    all.push(Spike { layer, step: first + s, neuron });
                }
            }
        }
    }

    /// Pools the band's spikes into the input of the next layer. Returns how many of its values are not zero, and adds the
    /// operations that these cause, step by step.
    fn send(
        &self,
        layer: &mut LayerState,
        scratch: &mut Scratch,
        (next, input): (&Packed, &mut Values),
        operations: &mut [u64],
    ) -> u64 {
        let plain = Pool::new(Pooling::Average { count_padding: true }, (1, 1));
        let pool = self.packed.pool.unwrap_or(plain);
        let windows = Windows { packed: self.packed, band: self.band, pool, steps: self.steps };
        let from = &scratch.spikes[..];
        match (input, pool.pooling) {
            (Values::Bytes(to), Pooling::Average { .. }) => {
                add_up(&windows, from, &mut scratch.pixels, (next, to), operations)
            }
            (Values::Words(to), Pooling::Average { .. }) => {
                add_up(&windows, from, &mut scratch.pixels, (next, to), operations)
            }
            (Values::Bytes(to), Pooling::Max) => {
                lead(&windows, from, &mut layer.counts, &mut scratch.window, (next, to), operations)
            }
            (Values::Words(_), Pooling::Max) => unreachable!("maxima are 0 or 1"),
        }
    }
}

/// The windows of a band's pooling.
struct Windows<'a> {
    packed: &'a Packed,
    band: &'a Band,
    pool: Pool,
    steps: usize,
}

impl Windows<'_> {
    /// The pixels of a window that lie within the plane.
    fn each_pixel(&self, (r, c): (usize, usize), mut look: impl FnMut(usize, usize)) {
        let Pool { kernel, stride, padding, .. } = self.pool;
        let (rows, columns, _) = self.packed.output;
        for i in 0..kernel.0 {
            let row = (r * stride.0 + i).wrapping_sub(padding.top);
            for j in 0..kernel.1 {
                let column = (c * stride.1 + j).wrapping_sub(padding.left);
                if row < rows && column < columns {
                    look(row, column);
                }
            }
        }
    }
}

/// A number of spikes in a plane.
trait Count: Copy + Default + PartialEq + From<u8> + AddAssign {}

impl Count for u8 {}
impl Count for i16 {}

/// How many values are not zero.
#[inline(always)]
fn nonzero<V: Count>(values: &[V]) -> u64 {
    let mut all = 0;
    // So few at a time that a byte holds their number.
    for some in values.chunks(128) {
        all += u64::from(some.iter().map(|v| u8::from(*v != V::default())).sum::<u8>());
    }
    all
}

/// Adds up the spikes of each window. Returns how many sums are not zero.
#[multiversion::multiversion(targets("x86_64+avx512f+avx512bw+avx512vl", "x86_64+avx2", "aarch64+neon"))]
fn add_up<V: Count>(
    windows: &Windows<'_>,
    spikes: &[u8],
    pixels: &mut Vec<usize>,
    (next, to): (&Packed, &mut [V]),
    operations: &mut [u64],
) -> u64 {
    let Windows { packed, band, steps, .. } = *windows;
    let (columns, channels, lanes) = (packed.output.1, packed.output.2, packed.lanes());
    let (outputs, filled) = packed.group;
    let mut arrivals = 0;
    for r in band.pooled.clone() {
        for c in 0..packed.pooled.1 {
            // Where the spikes of the window's pixels begin.
            pixels.clear();
            windows.each_pixel((r, c), |row, column| {
                pixels.push(((row - band.rows.start) * columns + column) * steps * lanes);
            });
            let (at, reaches) = (next.frame.at(r, c), next.reaches(r, c));
            for (s, operations) in operations.iter_mut().enumerate() {
                let to = &mut to[s * next.frame.len() + at..][..channels];
                let mut some = 0;
                for (g, to) in to.chunks_exact_mut(outputs).enumerate() {
                    for (lane, to) in (0..filled).step_by(LANES).zip(to.chunks_mut(LANES)) {
                        let mut sums = [V::default(); LANES];
                        for pixel in &*pixels {
                            let Some(spikes) =
                                spikes[pixel + s * lanes + g * filled + lane..].first_chunk::<LANES>()
                            else {
                                continue;
                            };
                            for n in 0..LANES {
                                sums[n] += V::from(spikes[n]);
                            }
                        }
                        some += nonzero(&sums);
                        match to.first_chunk_mut::<LANES>() {
                            Some(to) => *to = sums,
                            None => to.copy_from_slice(&sums[..to.len()]),
                        }
                    }
                }
                arrivals += some;
                *operations += some * reaches;
            }
        }
    }
    arrivals
}

/// Lets a window spike whenever the largest of its neurons' counts grows. Returns how often that is.
#[multiversion::multiversion(targets("x86_64+avx512f+avx512bw+avx512vl", "x86_64+avx2", "aarch64+neon"))]
fn lead(
    windows: &Windows<'_>,
    spikes: &[u8],
    counts: &mut [u32],
    own: &mut Vec<u32>,
    (next, to): (&Packed, &mut [u8]),
    operations: &mut [u64],
) -> u64 {
    let Windows { packed, band, steps, .. } = *windows;
    let (columns, channels, lanes) = (packed.output.1, packed.output.2, packed.lanes());
    let (outputs, filled) = packed.group;
    let mut arrivals = 0;
    // The largest counts, what the window sends, and each neuron's counts.
    own.resize((windows.pool.kernel.0 * windows.pool.kernel.1 + 2) * lanes, 0);
    let (largest, rest) = own.split_at_mut(lanes);
    let (gains, own) = rest.split_at_mut(lanes);
    for (r, c) in band.pooled.clone().flat_map(|r| (0..packed.pooled.1).map(move |c| (r, c))) {
        let mut pixels = 0;
        windows.each_pixel((r, c), |row, column| {
            let from = &counts[(row * columns + column) * lanes..][..lanes];
            own[pixels * lanes..][..lanes].copy_from_slice(from);
            pixels += 1;
        });
        let own = &mut own[..pixels * lanes];
        let (at, reaches) = (next.frame.at(r, c), next.reaches(r, c));
        for (s, operations) in operations.iter_mut().enumerate() {
            // What the most active one has had before this step.
            largest.fill(0);
            for own in own.chunks_exact(lanes) {
                largest.iter_mut().zip(own).for_each(|(most, n)| *most = (*most).max(*n));
            }
            // It has gained a spike if one that had as many fires now.
            gains.fill(0);
            let mut own = own.chunks_exact_mut(lanes);
            windows.each_pixel((r, c), |row, column| {
                let pixel = (row - band.rows.start) * columns + column;
                let from = &spikes[(pixel * steps + s) * lanes..][..lanes];
                let Some(own) = own.next() else { return };
                for (((gain, own), spike), most) in gains.iter_mut().zip(own).zip(from).zip(&*largest) {
                    *gain |= u32::from(*spike) & u32::from(*own == *most);
                    *own += u32::from(*spike);
                }
            });
            let to = &mut to[s * next.frame.len() + at..][..channels];
            for (to, from) in to.chunks_exact_mut(outputs).zip(gains.chunks_exact(filled)) {
                to.iter_mut().zip(from).for_each(|(to, gain)| *to = *gain as u8);
            }
            let some = nonzero(to);
            arrivals += some;
            *operations += some * reaches;
        }
    }
    let first = band.rows.start * columns * lanes;
    let counts = &mut counts[first..][..band.rows.len() * columns * lanes];
    for (counts, spikes) in counts.chunks_exact_mut(lanes).zip(spikes.chunks_exact(steps * lanes)) {
        for spikes in spikes.chunks_exact(lanes) {
            counts.iter_mut().zip(spikes).for_each(|(n, spike)| *n += u32::from(*spike));
        }
    }
    arrivals
}

/// A block of the readout, whose potentials are kept step by step.
fn readout(
    packed: &Packed,
    layer: &mut LayerState,
    lists: Option<&Lists>,
    (scratch, with): (&mut Scratch, Instructions),
    found: &mut Found,
    steps: usize,
) {
    let (rows, columns, channels) = packed.output;
    let lanes = packed.lanes();
    let held = if packed.fixed { 1 } else { steps };
    scratch.sums.resize(scratch.sums.len().max(rows * columns * held * lanes), 0);
    let row = columns * held * lanes;
    for (y, sums) in scratch.sums[..rows * row].chunks_exact_mut(row).enumerate() {
        Chunk { packed, y, columns: 0..columns, steps: held }.sum(&layer.input, lists, sums, with);
    }
    let (outputs, filled) = packed.group;
    for s in 0..steps {
        let sums = &scratch.sums[if packed.fixed { 0 } else { s } * lanes..];
        for (pixel, u) in layer.u.chunks_exact_mut(lanes).enumerate() {
            u.iter_mut().zip(&sums[pixel * held * lanes..]).for_each(|(u, sum)| *u += sum);
        }
        for channel in 0..channels {
            let lane = channel / outputs * filled + channel % outputs;
            found.readout.extend(layer.u.chunks_exact(lanes).map(|u| u[lane]));
        }
    }
}
