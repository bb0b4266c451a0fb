//! One recording on its way through the layers.
//!
//! Letters: S steps of a block, H rows, W columns, C channels, L lanes (output channels, filled up), P pixels; channels come
//! last.

use std::ops::Range;
use std::time::{Duration, Instant};

use escape_network::sequential::{Pool, Pooling};
use rayon::prelude::*;

use crate::aligned::Aligned;
use crate::encode::Encoder;
use crate::engine::Spike;

use super::kernels::Instructions;
use super::number::{Chunk, Neurons, Number, fill};
use super::packed::{Band, Holds, Packed};
use super::plane::{BLOCK_STEPS, Lists, SLACK, Values, blocks};
use super::pooling::{Windows, lead};

/// What a recording gave.
#[derive(Debug)]
pub(super) struct Found {
    /// The readout after each step, T x K.
    pub readout: Vec<f32>,
    /// Of each layer, step by step.
    pub spikes: Vec<u64>,
    /// Operations that arrivals cause in it, likewise.
    pub operations: Vec<u64>,
    /// Every spike, if they are wanted.
    pub recorded: Vec<Spike>,
    /// How long each layer took.
    pub spent: Vec<Duration>,
}

/// A recording, and where its input spikes come from.
#[derive(Clone, Copy)]
pub(super) enum Input<'a> {
    /// Whole numbers, the same at every step.
    Whole(&'a [i32]),
    /// A recording, the same at every step.
    Real(&'a [f32]),
    /// Spikes that were drawn before, T x C x H x W.
    Drawn(&'a [i8]),
    /// A recording, from which an encoder whose draws are keyed makes spikes; and its index.
    Keyed(&'a [f32], &'a Encoder, usize),
}

/// How a recording is simulated.
#[derive(Clone, Copy)]
pub(super) struct How {
    pub with: Instructions,
    /// Parts of a layer that are simulated side by side.
    pub shares: usize,
    /// Whether every spike is wanted.
    pub record: bool,
}

/// What is kept of one layer from step to step.
#[derive(Debug)]
struct LayerState<N> {
    /// Its input over a block.
    input: Values,
    /// Values of it that are not zero, of all steps of a block.
    arrivals: u64,
    /// Potentials, H x W x L; none where a run has one block only, which needs them of a few pixels at a time.
    u: Aligned<N>,
    /// How often each neuron fired, where a pooling over maxima asks for it.
    counts: Vec<u32>,
}

/// Buffers that bands need, and what they found.
#[derive(Debug, Default)]
struct Scratch<N> {
    /// P x S x L.
    sums: Aligned<N>,
    /// Potentials of a run's only block, P x L.
    u: Aligned<N>,
    /// Rows of a band x W x S x L.
    spikes: Aligned<u8>,
    /// Where the spikes of a window's pixels begin.
    pixels: Vec<usize>,
    /// Of a window over maxima, see [`lead`].
    window: Vec<u32>,
    /// Spikes of each step, and operations that they cause in the next layer.
    fired: Vec<u64>,
    operations: Vec<u64>,
    arrivals: u64,
    recorded: Vec<Spike>,
}

/// Buffers for one recording after another.
#[derive(Debug, Default)]
pub(super) struct State<N: Number> {
    /// The steps and shares for which they are.
    pub steps: usize,
    pub shares: usize,
    layers: Vec<LayerState<N>>,
    lists: Lists<N::Listed>,
    scratch: Vec<Scratch<N>>,
    /// What a constant recording causes in the first layer, H x W x L, where it is needed for more than one block.
    constant: Aligned<N>,
    /// Draws of a step.
    drawn: Vec<i8>,
    /// Potentials of the readout, what it receives, its spikes; by class.
    classes: (Vec<N>, Vec<N>, Vec<f32>),
}

impl<N: Number> State<N> {
    pub fn new(layers: &[Packed<N>], steps: usize, shares: usize) -> Self {
        let whole = steps > BLOCK_STEPS;
        let of = |packed: &Packed<N>| {
            let neurons = packed.output.0 * packed.output.1 * packed.lanes();
            let maxima = packed.pool.is_some_and(|pool| pool.pooling == Pooling::Max);
            LayerState {
                input: room(packed),
                arrivals: 0,
                u: Aligned::new(if whole { neurons } else { 0 }),
                counts: vec![0; if maxima { neurons } else { 0 }],
            }
        };
        let (first, last) = (&layers[0], &layers[layers.len() - 1]);
        let constant =
            if first.fixed() && whole { first.output.0 * first.output.1 * first.lanes() } else { 0 };
        let classes = last.output.0 * last.output.1 * last.output.2;
        let (height, width, channels) = first.frame.input;
        Self {
            steps,
            shares,
            layers: layers.iter().map(of).collect(),
            lists: Lists::default(),
            scratch: (0..shares).map(|_| Scratch::default()).collect(),
            constant: Aligned::new(constant),
            drawn: vec![0; if first.fixed() { 0 } else { height * width * channels }],
            classes: (vec![N::default(); classes], vec![N::default(); classes], vec![0.0; classes]),
        }
    }

    /// Simulates all timesteps of a recording, unless it is to stop before, about which it asks before each block.
    pub fn simulate(
        &mut self,
        layers: &[Packed<N>],
        input: Input<'_>,
        how: How,
        stop: &mut dyn FnMut() -> bool,
    ) -> Option<Found> {
        let steps = self.steps;
        let mut found = Found {
            readout: Vec::with_capacity(steps * self.classes.0.len()),
            spikes: vec![0; layers.len() * steps],
            operations: vec![0; layers.len() * steps],
            recorded: Vec::new(),
            spent: vec![Duration::ZERO; layers.len()],
        };
        for (state, packed) in self.layers.iter_mut().zip(layers) {
            state.u.chunks_exact_mut(packed.lanes()).for_each(|u| fill(u, &packed.start));
            state.counts.fill(0);
        }
        let readout = &layers[layers.len() - 1];
        let pixels = readout.output.0 * readout.output.1;
        for (n, u) in self.classes.0.iter_mut().enumerate() {
            *u = readout.start[readout.lane(n / pixels)];
        }
        let mut before = Instant::now();
        self.take_recording(&layers[0], input, how);
        for span in blocks(steps) {
            if stop() {
                return None;
            }
            self.take_spikes(&layers[0], input, &span, &mut found);
            for k in 0..layers.len() {
                self.layer(layers, k, &span, how, &mut found);
                let now = Instant::now();
                found.spent[k] += now - before;
                before = now;
            }
        }
        Some(found)
    }

    /// Takes a recording that is the same at every step.
    fn take_recording(&mut self, packed: &Packed<N>, input: Input<'_>, how: How) {
        let first = &mut self.layers[0].input;
        match (first, input) {
            (Values::Words(to), Input::Whole(x)) => place(packed, x, to, |v| v as i16),
            (Values::Floats(to), Input::Real(x)) => place(packed, x, to, |v| v),
            _ => return,
        }
        if self.constant.is_empty() {
            return;
        }
        let input = &self.layers[0].input;
        let lists = lists_of(packed, input, (0, 1), &mut self.lists, how.with);
        let columns = packed.output.1;
        let rows = self.constant.par_chunks_exact_mut(columns * packed.lanes()).enumerate();
        let row = |(y, row): (usize, &mut [N])| {
            sum(packed, &Chunk { y, columns: 0..columns, steps: 1 }, (input, lists), row, how.with);
        };
        match how.shares {
            1 => self.constant.chunks_exact_mut(columns * packed.lanes()).enumerate().for_each(row),
            _ => rows.for_each(row),
        }
    }

    /// Takes the input spikes of a block.
    fn take_spikes(&mut self, packed: &Packed<N>, input: Input<'_>, span: &Range<usize>, found: &mut Found) {
        let Values::Bytes(values) = &mut self.layers[0].input else { return };
        let frame = &packed.frame;
        let (rows, columns, channels) = frame.input;
        let size = rows * columns * channels;
        let mut arrivals = 0;
        for (s, t) in span.clone().enumerate() {
            let spikes = match input {
                Input::Whole(_) | Input::Real(_) => return,
                Input::Drawn(all) => &all[t * size..][..size],
                Input::Keyed(x, encoder, index) => {
                    encoder.clone().draw(x, index, t, &mut self.drawn);
                    &self.drawn[..]
                }
            };
            for (n, plane) in spikes.chunks_exact(columns).enumerate() {
                let (channel, row) = (n / rows, n % rows);
                let first = frame.at(row, 0) + s * frame.step() + channel;
                for (column, &spike) in plane.iter().enumerate() {
                    values[first + column * channels] = (spike + packed.nothing() as i8) as u8;
                    if spike != 0 {
                        found.operations[t] += packed.reaches(row, column);
                        arrivals += 1;
                    }
                }
            }
        }
        self.layers[0].arrivals = arrivals;
    }

    /// Steps of a block of one layer, whose spikes become the next one's input.
    fn layer(&mut self, layers: &[Packed<N>], k: usize, span: &Range<usize>, how: How, found: &mut Found) {
        let packed = &layers[k];
        let (this, above) = self.layers.split_at_mut(k + 1);
        let this = &mut this[k];
        let constant = (k == 0 && !self.constant.is_empty()).then_some(&self.constant[..]);
        let steps = span.len();
        let lists = match constant {
            Some(_) => None,
            None => {
                let held = if packed.fixed() { 1 } else { steps };
                lists_of(packed, &this.input, (this.arrivals as usize, held), &mut self.lists, how.with)
            }
        };
        let work = Work { packed, span, lists, constant, input: &this.input, how, layer: k };
        let Some(above) = above.first_mut() else {
            work.read(&mut self.scratch[0], &mut self.classes, found);
            return;
        };
        let next = &layers[k + 1];
        let mut shares = self.scratch.iter_mut();
        let mut rest = Share {
            bands: &packed.bands,
            u: &mut this.u,
            counts: &mut this.counts,
            to: match &mut above.input {
                Values::Bytes(to) => To::Bytes(to),
                Values::Words(to) => To::Words(to),
                Values::Floats(_) => unreachable!("a layer sends counts"),
            },
            row: 0,
            before: 0,
        };
        match how.shares.min(packed.bands.len()) {
            1 => {
                if let Some(scratch) = shares.next() {
                    work.share(rest, scratch, next);
                }
            }
            // This thread takes a share itself: to wait for others to wake up costs as much as a small one.
            count => rayon::in_place_scope(|scope| {
                for (n, scratch) in (0..count).zip(shares) {
                    let bands = packed.bands.len() * (n + 1) / count - packed.bands.len() * n / count;
                    let share = rest.split_off(bands, packed, next);
                    let work = &work;
                    match n + 1 < count {
                        true => scope.spawn(move |_| work.share(share, scratch, next)),
                        false => work.share(share, scratch, next),
                    }
                }
            }),
        }
        above.arrivals = 0;
        for scratch in self.scratch.iter_mut().take(how.shares.min(packed.bands.len())) {
            above.arrivals += scratch.arrivals;
            let all = self.steps;
            for (s, t) in span.clone().enumerate() {
                found.spikes[k * all + t] += scratch.fired[s];
                found.operations[(k + 1) * all + t] += scratch.operations[s];
            }
            found.recorded.append(&mut scratch.recorded);
        }
    }
}

/// Sets a recording, C x H x W, into a frame.
fn place<N: Number, V: Copy, T>(packed: &Packed<N>, x: &[V], to: &mut [T], value: impl Fn(V) -> T) {
    let (rows, columns, channels) = packed.frame.input;
    for (n, row) in x.chunks_exact(columns).enumerate() {
        let first = packed.frame.at(n % rows, 0) + n / rows;
        for (column, &v) in row.iter().enumerate() {
            to[first + column * channels] = value(v);
        }
    }
}

/// Room for a layer's input. What lies around it is as nothing that arrives.
pub(super) fn room<N: Number>(packed: &Packed<N>) -> Values {
    let values = packed.frame.len() + SLACK;
    match packed.holds {
        Holds::Signs | Holds::Bytes => Values::Bytes(vec![packed.nothing(); values]),
        Holds::Words => Values::Words(vec![0; values]),
        Holds::Recordings => N::recording(values),
    }
}

/// Lists an input if that pays, of which some values are not zero over some steps.
pub(super) fn lists_of<'a, N: Number>(
    packed: &Packed<N>,
    input: &Values,
    (arrivals, steps): (usize, usize),
    lists: &'a mut Lists<N::Listed>,
    with: Instructions,
) -> Option<&'a Lists<N::Listed>> {
    let (height, width, channels) = packed.frame.input;
    let share = arrivals as f64 / (steps * height * width * channels) as f64;
    if !N::lists_pay(packed, share) {
        return None;
    }
    N::list(packed, input, (steps, arrivals), lists, with);
    Some(lists)
}

/// Columns of a row of outputs whose sums are made together.
pub(super) fn columns_together<N: Number>(packed: &Packed<N>, lists: bool) -> usize {
    let columns = packed.output.1;
    if N::by_rows(packed, lists) { columns } else { columns.min(8) }
}

/// Sums of a chunk, biases included, P x S x L.
pub(super) fn sum<N: Number>(
    packed: &Packed<N>,
    chunk: &Chunk,
    (input, lists): (&Values, Option<&Lists<N::Listed>>),
    sums: &mut [N],
    with: Instructions,
) {
    let lanes = packed.lanes();
    let sums = &mut sums[..chunk.columns.len() * chunk.steps * lanes];
    sums.chunks_exact_mut(lanes).for_each(|sums| fill(sums, &packed.bias));
    N::sum(packed, chunk, input, lists, sums, with);
}

/// A layer over the steps of a block.
struct Work<'a, N: Number> {
    packed: &'a Packed<N>,
    span: &'a Range<usize>,
    lists: Option<&'a Lists<N::Listed>>,
    constant: Option<&'a [N]>,
    input: &'a Values,
    how: How,
    layer: usize,
}

/// Bands that a thread takes, and what it writes to.
struct Share<'a, N> {
    bands: &'a [Band],
    u: &'a mut [N],
    counts: &'a mut [u32],
    to: To<'a>,
    /// The row of neurons with which `u` and `counts` begin, and the values of the next layer's input before `to`.
    row: usize,
    before: usize,
}

/// The input of the next layer.
enum To<'a> {
    Bytes(&'a mut [u8]),
    Words(&'a mut [i16]),
}

impl<'a, N: Number> Share<'a, N> {
    /// The first `count` bands; the others stay.
    fn split_off(&mut self, count: usize, packed: &Packed<N>, next: &Packed<N>) -> Share<'a, N> {
        let (bands, rest) = self.bands.split_at(count);
        self.bands = rest;
        // Where the first row of the rest begins.
        let row = rest.first().map_or(packed.output.0, |band| band.rows.start);
        let end = rest
            .first()
            .map(|band| next.frame.at(band.pooled.start, 0) - next.frame.left * next.frame.input.2);
        let neurons = (row - self.row) * packed.output.1 * packed.lanes();
        let cut = |length: usize| end.map_or(length, |end| end - self.before);
        let (to, others) = match std::mem::replace(&mut self.to, To::Bytes(&mut [])) {
            To::Bytes(to) => {
                let (to, others) = to.split_at_mut(cut(to.len()));
                (To::Bytes(to), To::Bytes(others))
            }
            To::Words(to) => {
                let (to, others) = to.split_at_mut(cut(to.len()));
                (To::Words(to), To::Words(others))
            }
        };
        self.to = others;
        let share = Share {
            bands,
            u: split_front(&mut self.u, neurons),
            counts: split_front(&mut self.counts, neurons),
            to,
            row: self.row,
            before: self.before,
        };
        (self.row, self.before) = (row, end.unwrap_or(self.before));
        share
    }
}

/// The first `count` of some values, or none where there are none.
fn split_front<'a, T>(all: &mut &'a mut [T], count: usize) -> &'a mut [T] {
    let values = std::mem::take(all);
    let (front, rest) = values.split_at_mut(count.min(values.len()));
    *all = rest;
    front
}

impl<N: Number> Work<'_, N> {
    /// Steps the neurons of some bands, and sends their spikes.
    fn share(&self, mut share: Share<'_, N>, scratch: &mut Scratch<N>, next: &Packed<N>) {
        let steps = self.span.len();
        // Whatever a run that panicked may have left.
        scratch.recorded.clear();
        scratch.arrivals = 0;
        for counts in [&mut scratch.fired, &mut scratch.operations] {
            counts.clear();
            counts.resize(steps, 0);
        }
        for band in share.bands {
            self.fire(band, &mut share, scratch);
            if self.how.record {
                self.record(band, scratch);
            }
            self.send(band, &mut share, scratch, next);
        }
    }

    /// Steps a band's neurons.
    fn fire(&self, band: &Band, share: &mut Share<'_, N>, scratch: &mut Scratch<N>) {
        let Self { packed, lists, constant, input, how, .. } = *self;
        let steps = self.span.len();
        let (columns, lanes) = (packed.output.1, packed.lanes());
        let held = if packed.fixed() { 1 } else { steps };
        let most = columns_together(packed, lists.is_some());
        scratch.sums.resize(most * held * lanes);
        scratch.spikes.resize(band.rows.len() * columns * steps * lanes);
        if share.u.is_empty() {
            scratch.u.resize(most * lanes);
        }
        for y in band.rows.clone() {
            for first in (0..columns).step_by(most) {
                let here = first..(first + most).min(columns);
                let (pixels, at) = (here.len(), y * columns + first);
                let current = match constant {
                    Some(all) => &all[at * lanes..][..pixels * lanes],
                    None => {
                        let chunk = Chunk { y, columns: here, steps: held };
                        sum(packed, &chunk, (input, lists), &mut scratch.sums, how.with);
                        &scratch.sums[..]
                    }
                };
                let u = match share.u.is_empty() {
                    false => &mut share.u[(at - share.row * columns) * lanes..][..pixels * lanes],
                    true => {
                        let u = &mut scratch.u[..pixels * lanes];
                        u.chunks_exact_mut(lanes).for_each(|u| fill(u, &packed.start));
                        u
                    }
                };
                let spikes = (at - band.rows.start * columns) * steps * lanes;
                let mut neurons = Neurons {
                    u,
                    current,
                    constant: packed.fixed(),
                    spikes: &mut scratch.spikes[spikes..][..pixels * steps * lanes],
                    fired: &mut scratch.fired,
                };
                N::fire(packed, &mut neurons, how.with);
            }
        }
    }

    /// Every spike of a band.
    fn record(&self, band: &Band, scratch: &mut Scratch<N>) {
        let (rows, columns, channels) = self.packed.output;
        let (lanes, steps) = (self.packed.lanes(), self.span.len());
        for (y, x) in band.rows.clone().flat_map(|y| (0..columns).map(move |x| (y, x))) {
            let pixel = (y - band.rows.start) * columns + x;
            for (s, channel) in (0..steps).flat_map(|s| (0..channels).map(move |c| (s, c))) {
                if scratch.spikes[(pixel * steps + s) * lanes + self.packed.lane(channel)] != 0 {
                    let neuron = (channel * rows + y) * columns + x;
                    scratch.recorded.push(Spike { layer: self.layer, step: self.span.start + s, neuron });
                }
            }
        }
    }

    /// Pools a band's spikes into the input of the next layer.
    fn send(&self, band: &Band, share: &mut Share<'_, N>, scratch: &mut Scratch<N>, next: &Packed<N>) {
        let plain = Pool::new(Pooling::Average { count_padding: true }, (1, 1));
        let pool = self.packed.pool.unwrap_or(plain);
        let windows = Windows {
            packed: self.packed,
            band,
            pool,
            steps: self.span.len(),
            before: share.before,
            first_row: share.row,
        };
        let Scratch { spikes, pixels, window, operations, .. } = scratch;
        scratch.arrivals += match (&mut share.to, pool.pooling) {
            (To::Bytes(to), Pooling::Average { .. }) => {
                self.how.with.add_up_bytes(&windows, spikes, pixels, (next, to), operations)
            }
            (To::Words(to), Pooling::Average { .. }) => {
                self.how.with.add_up_words(&windows, spikes, pixels, (next, to), operations)
            }
            (To::Bytes(to), Pooling::Max) => {
                lead(&windows, spikes, share.counts, window, (next, to), operations)
            }
            (To::Words(_), Pooling::Max) => unreachable!("maxima are 0 or 1"),
        };
    }

    /// The readout's steps.
    fn read(
        &self,
        scratch: &mut Scratch<N>,
        (u, current, spikes): &mut (Vec<N>, Vec<N>, Vec<f32>),
        found: &mut Found,
    ) {
        let packed = self.packed;
        let (rows, columns, _) = packed.output;
        let lanes = packed.lanes();
        let held = if packed.fixed() { 1 } else { self.span.len() };
        let row = columns * held * lanes;
        scratch.sums.resize(rows * row);
        if self.constant.is_none() {
            for (y, sums) in scratch.sums[..rows * row].chunks_exact_mut(row).enumerate() {
                let chunk = Chunk { y, columns: 0..columns, steps: held };
                sum(packed, &chunk, (self.input, self.lists), sums, self.how.with);
            }
        }
        let sums = self.constant.unwrap_or(&scratch.sums);
        for (s, t) in self.span.clone().enumerate() {
            for (n, current) in current.iter_mut().enumerate() {
                let (channel, pixel) = (n / (rows * columns), n % (rows * columns));
                *current = sums[(pixel * held + s.min(held - 1)) * lanes + packed.lane(channel)];
            }
            N::read(packed, u, current, spikes);
            found.readout.extend(u.iter().map(|u| N::logit(packed, *u)));
            let fired = spikes.iter().enumerate().filter(|spike| *spike.1 > 0.0);
            let steps = found.spikes.len() / (self.layer + 1);
            found.spikes[self.layer * steps + t] += fired.clone().count() as u64;
            if self.how.record {
                found.recorded.extend(fired.map(|(neuron, _)| Spike { layer: self.layer, step: t, neuron }));
            }
        }
    }
}
