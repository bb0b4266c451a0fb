//! The pass on the CPU, by what is there: currents from what arrives, gradients of weights from what arrived, and of what arrived
//! from what is not zero of dL/dI. In whole numbers convolutions and their neurons are the event engine's. Neurons are run band by
//! band, so that a band's potentials stay in cache for all its timesteps.
//!
//! Letters: B batch, T timesteps, C channels, H rows, W columns. Channels come last here: H x W x C.

use std::ops::Range;

use escape_dense::{slice, slice_mut};
use escape_model::ModelError;
use escape_model::ann::to_tensor;
use escape_network::sequential::{Padding, Shape};
use escape_snn_core::aligned::Aligned;
use escape_snn_core::event::{Block, WholeLayer};
use escape_snn_core::integer::Leak;
use escape_snn_core::neuron::{Dynamics, count_nonzero, step_all_traced};
use escape_snn_core::rules::Arithmetic;
use rayon::prelude::*;
use tch::{Device, Kind, Tensor};

use super::arrivals::{ByChannel, Frames, Order};
use super::pooling::{Band, Maxima, Sending};
use super::synapses::{Geometry, Way, linear_gradient};
use super::{Gradients, Part, Pass, Seen, Trainable};
use crate::scan::{Backward, NeuronFindings, Scratch};

/// A network made ready for one batch.
pub(super) struct Host<'a> {
    net: &'a Trainable,
    /// In which currents are added up.
    order: Order,
    layers: Vec<Layer>,
}

/// One of its layers.
struct Layer {
    geometry: Geometry,
    sending: Sending,
    bands: Vec<Band>,
    /// Runs its neurons in whole numbers, if it does.
    whole: Option<WholeLayer>,
    /// Weights in PyTorch's order, and, where it computes in real numbers, in rows for the way forward.
    weights: Vec<f32>,
    rows: Aligned<f32>,
    bias: Vec<f32>,
    /// What its neurons do in real numbers, without the leak that whole numbers stand for,
    dynamics: Dynamics,
    /// which is this, if they leak.
    leak: Option<Leak>,
    /// Where potentials start there: one value, or one for each channel.
    starts: Vec<f32>,
    backward: Backward,
    steps: usize,
    /// The steps of each block of whole numbers; all of them where the input is constant.
    spans: Vec<Range<usize>>,
    /// The input is the recording itself, the same at every step.
    constant: bool,
}

/// What arrived at a layer from one recording, and what it made of it.
struct Kept {
    frames: Frames,
    /// m at every step, T x H x W x C, later dL/dI. Of the first layer it is made again, so that it need not be kept.
    trace: Aligned<f32>,
}

/// What running a recording's neurons takes.
#[derive(Default)]
struct Running<'a> {
    u: Aligned<f32>,
    spikes: Aligned<f32>,
    constant: Aligned<f32>,
    /// In whole numbers potentials, what arrived over all steps, and currents of a band's rows over those of a block.
    potentials: Aligned<i32>,
    blocks: Vec<Block<'a>>,
    sums: Vec<Aligned<i32>>,
}

/// A thread's buffers.
#[derive(Default)]
struct Buffers<'a> {
    running: Running<'a>,
    fired: Aligned<f32>,
    pooled: Aligned<f32>,
    trace: Aligned<f32>,
    maxima: Maxima,
    scratch: Scratch,
    by_channel: ByChannel,
}

/// Above this share of dL/dI that is not zero, libtorch finds the gradient of what arrived sooner.
const DENSE: f64 = 0.5;

/// Gives each thread a share of some things, in order.
fn shares<'a, T: Send, R: Send>(
    items: Vec<T>,
    work: impl Fn(Vec<T>, &mut Buffers<'a>) -> R + Sync,
) -> Vec<R> {
    let share = items.len().div_ceil(rayon::current_num_threads()).max(1);
    let mut items = items.into_iter();
    let shares = std::iter::from_fn(|| Some(items.by_ref().take(share).collect::<Vec<_>>()));
    let shares: Vec<Vec<T>> = shares.take_while(|share| !share.is_empty()).collect();
    shares.into_par_iter().map(|share| work(share, &mut Buffers::default())).collect()
}

/// The same one by one.
fn each<'a, T: Send, R: Send>(items: Vec<T>, work: impl Fn(T, &mut Buffers<'a>) -> R + Sync) -> Vec<R> {
    let found = shares(items, |share, buffers| -> Vec<R> {
        share.into_iter().map(|item| work(item, buffers)).collect()
    });
    found.into_iter().flatten().collect()
}

/// Adds to frames, any number of H x W x C, what is due for each pixel, or for all alike.
fn add_to_pixels(frames: &mut [f32], due: &[f32], Shape { channels, .. }: Shape) {
    for (pixel, due) in frames.chunks_exact_mut(channels).zip(due.iter().cycle()) {
        pixel.iter_mut().for_each(|value| *value += due);
    }
}

impl<'a> Host<'a> {
    /// For `net` as the forward pass sees it.
    pub fn new(net: &'a Trainable, seen: Seen, steps: usize, constant: bool) -> Result<Self, ModelError> {
        // Spikes of whole numbers do not depend on how sums are rounded; in float32 they are libtorch's, where it is known how it
        // adds up.
        let order = match net.network.rules.arithmetic {
            Arithmetic::Float32 => net.order_of_libtorch().unwrap_or(Order::FREE),
            Arithmetic::Integer(_) => Order::FREE,
        };
        // What a layer sends are planes, although a linear one takes them in a row.
        let Seen { network, starts, whole } = seen;
        let last = network.layers.len() - 1;
        let mut below = network.input();
        let mut layers = Vec::new();
        for (k, (layer, fractions)) in network.layers.into_iter().zip(starts).enumerate() {
            let shape = &layer.shape;
            let geometry = Geometry::new(shape, below);
            below = shape.pooled;
            let sending = Sending {
                neurons: shape.output,
                pool: shape.pool,
                pooled: shape.pooled,
                share: net.network.planes(k).1.share,
            };
            let dynamics = net.network.dynamics(k);
            let seen = if whole.is_some() { dynamics.without_leak() } else { dynamics };
            let leak = whole.as_ref().and_then(|whole| whole.layers[k].leak());
            let whole = whole.as_ref().filter(|_| k < last).and_then(|whole| WholeLayer::of(whole, k));
            let mut rows = Aligned::default();
            if whole.is_none() {
                rows.resize(layer.weights.len());
                geometry.in_rows(&layer.weights, Way::Forward, &mut rows);
            }
            layers.push(Layer {
                whole,
                rows,
                geometry,
                bands: sending.bands(),
                sending,
                weights: layer.weights.into_values(),
                bias: layer.bias,
                dynamics: seen,
                leak,
                starts: fractions.iter().map(|f| dynamics.neuron.threshold() * f).collect(),
                backward: Backward::new(dynamics, fractions, net.surrogate, net.neuron_parameters, steps),
                steps,
                spans: match constant && k == 0 {
                    true => std::iter::once(0..steps).collect(),
                    false => WholeLayer::blocks(steps).collect(),
                },
                constant: constant && k == 0,
            });
        }
        Ok(Self { net, order, layers })
    }
}

impl Pass for Host<'_> {
    fn part(&self, part: &Part<'_>) -> Result<Gradients, ModelError> {
        let batch = part.labels.len();
        let last = self.layers.len() - 1;
        let Shape { channels, height, width } = self.layers[0].geometry.input;
        let recordings: Vec<&[f32]> = part.input.chunks_exact(part.input.len() / batch).collect();
        let order = self.order;
        let mut frames = each(recordings, |x, _| Frames::of_planes(order, x, (height, width), channels));
        let mut kept = Vec::new();
        for (k, layer) in self.layers[..last].iter().enumerate() {
            let found = each(frames, |frames, buffers| layer.forward(frames, k > 0, buffers));
            let (these, next): (Vec<_>, Vec<_>) = found.into_iter().unzip();
            kept.push(these);
            frames = next;
        }
        let readout = &self.layers[last];
        let currents = each(frames.iter().collect(), |frames, _| readout.all_currents(frames));
        let found = self.net.read_out(&currents.concat(), part)?;
        let traces = found.current_gradient.chunks_exact(found.current_gradient.len() / batch);
        let mut above: Vec<Kept> =
            frames.into_iter().zip(traces).map(|(frames, d)| Kept { frames, trace: d.into() }).collect();
        let mut weights = readout.gradients(&above)?;
        let mut neurons = vec![found.neuron];
        for k in (0..last).rev() {
            let mut to_frames = self.layers[k + 1].to_frames(&above)?;
            drop(above);
            let layer = &self.layers[k];
            if let Some(penalties) = self.net.penalties(k + 1, part.whole.len()) {
                add_to_pixels(&mut to_frames, &penalties, layer.sending.pooled);
            }
            let sent = to_frames.chunks_exact(to_frames.len() / batch);
            let recordings: Vec<(Kept, &[f32])> = kept.pop().into_iter().flatten().zip(sent).collect();
            let mut sum = NeuronFindings::default();
            if k == 0 && !layer.geometry.linear {
                let found = shares(recordings, |recordings, buffers| layer.first(recordings, buffers));
                let (found, each): (Vec<_>, Vec<_>) = found.into_iter().unzip();
                each.into_iter().for_each(|n| sum += n);
                weights.extend(layer.tensors(found)?);
                neurons.push(sum);
                break;
            }
            let found = each(recordings, |(kept, sent), buffers| layer.back(kept, sent, buffers));
            let (these, each): (Vec<_>, Vec<_>) = found.into_iter().unzip();
            each.into_iter().for_each(|n| sum += n);
            neurons.push(sum);
            weights.extend(layer.gradients(&these)?);
            above = these;
        }
        weights.reverse();
        neurons.reverse();
        Ok(Gradients { loss: found.loss, readout: found.values, weights, neurons })
    }
}

/// A recording on its way through a layer's neurons.
struct Run<'a, 'r> {
    layer: &'a Layer,
    frames: &'r Frames,
    running: &'r mut Running<'a>,
}

impl Run<'_, '_> {
    /// Runs a band through all steps: leaves its m in `trace`, step t at t `stride`, and shows `look` each step's spikes.
    fn band(&mut self, band: &Band, (trace, stride): (&mut [f32], usize), look: impl FnMut(usize, &[f32])) {
        let (_, size) = self.layer.neurons(band);
        self.running.spikes.resize(size);
        match &self.layer.whole {
            Some(whole) => self.in_whole_numbers(whole, band, (trace, stride), look),
            None => self.in_real_numbers(band, (trace, stride), look),
        }
    }

    fn in_real_numbers(
        &mut self,
        band: &Band,
        (trace, stride): (&mut [f32], usize),
        mut look: impl FnMut(usize, &[f32]),
    ) {
        let Self { layer, frames, running: Running { u, spikes, constant, .. } } = self;
        u.resize(spikes.len());
        u.iter_mut().zip(layer.starts.iter().cycle()).for_each(|(u, start)| *u = *start);
        if layer.constant {
            constant.resize(spikes.len());
            layer.current((frames, 0), band, constant);
        }
        for t in 0..layer.steps {
            let m = &mut trace[t * stride..][..spikes.len()];
            match layer.constant {
                true => m.copy_from_slice(constant),
                false => layer.current((frames, t), band, m),
            }
            if let Some(leak) = &layer.leak {
                leak.apply(u);
            }
            step_all_traced(layer.dynamics, u, m, spikes);
            look(t, spikes);
        }
    }

    fn in_whole_numbers(
        &mut self,
        whole: &WholeLayer,
        band: &Band,
        (trace, stride): (&mut [f32], usize),
        mut look: impl FnMut(usize, &[f32]),
    ) {
        let Self { layer, running: Running { potentials, spikes, blocks, sums, .. }, .. } = self;
        let (row, _) = layer.sizes();
        potentials.resize(spikes.len());
        whole.start(potentials);
        sums.resize_with(band.rows.len(), Aligned::default);
        for (block, span) in blocks.iter().zip(&layer.spans) {
            for (y, sums) in band.rows.clone().zip(&mut *sums) {
                block.row(y, sums);
            }
            for (s, t) in span.clone().enumerate() {
                let m = &mut trace[t * stride..][..spikes.len()];
                let rows = potentials.chunks_exact_mut(row).zip(m.chunks_exact_mut(row));
                for ((sums, spikes), (u, m)) in sums.iter().zip(spikes.chunks_exact_mut(row)).zip(rows) {
                    block.step((sums, if layer.constant { 0 } else { s }), u, m, spikes);
                }
                look(t, spikes);
            }
        }
    }
}

impl<'a> Layer {
    /// Neurons of a row, and of the whole.
    fn sizes(&self) -> (usize, usize) {
        let Shape { channels, height, width } = self.geometry.output;
        (width * channels, height * width * channels)
    }

    /// A band's neurons: the first, and how many.
    fn neurons(&self, band: &Band) -> (usize, usize) {
        let (row, _) = self.sizes();
        (band.rows.start * row, band.rows.len() * row)
    }

    /// Currents of a band's neurons from frame `t`.
    fn current(&self, (frames, t): (&Frames, usize), band: &Band, out: &mut [f32]) {
        for (y, row) in band.rows.clone().zip(out.chunks_exact_mut(self.sizes().0)) {
            match self.bias.is_empty() {
                true => row.fill(0.0),
                false => {
                    row.chunks_exact_mut(self.bias.len()).for_each(|pixel| pixel.copy_from_slice(&self.bias));
                }
            }
            match self.geometry.linear {
                true => self.geometry.gather_features(&self.rows, (frames, t), row),
                false => self.geometry.gather(Way::Forward, &self.rows, (frames, t), y, row),
            }
        }
    }

    /// Makes ready for a recording, which is then run band by band.
    fn begin<'r>(&'a self, frames: &'r Frames, running: &'r mut Running<'a>) -> Run<'a, 'r> {
        if let Some(whole) = &self.whole {
            running.blocks.resize_with(self.spans.len(), || whole.block());
            for (block, span) in running.blocks.iter_mut().zip(&self.spans) {
                let steps = if self.constant { 1 } else { span.len() };
                block.take(steps, |s, y| frames.values_of_row(span.start + s, y));
            }
        }
        Run { layer: self, frames, running }
    }

    /// Runs a recording through all steps; returns what is kept of it, and what it sends.
    fn forward(&'a self, frames: Frames, keeps: bool, buffers: &mut Buffers<'a>) -> (Kept, Frames) {
        let (_, all) = self.sizes();
        let Shape { channels, height, width } = self.sending.pooled;
        let mut sent = Frames::new(frames.order, self.steps, (height, width), channels);
        let mut kept = Aligned::new(if keeps { self.steps * all } else { 0 });
        let Buffers { running, fired, pooled, trace, .. } = buffers;
        let mut run = self.begin(&frames, running);
        for band in &self.bands {
            let (first, size) = self.neurons(band);
            fired.resize(if self.sending.counts() { size } else { 0 });
            fired.fill(0.0);
            pooled.resize(band.pooled.len() * width * channels);
            // Where m is not kept, every step may overwrite the one before.
            trace.resize(size);
            let (trace, stride) = if keeps { (&mut kept[first..], all) } else { (&mut trace[..], 0) };
            run.band(band, (trace, stride), |t, spikes| {
                self.sending.pool(band, spikes, fired, pooled);
                for (y, row) in band.pooled.clone().zip(pooled.chunks_exact(width * channels)) {
                    sent.push(t, y, row);
                }
            });
        }
        (Kept { frames, trace: kept }, sent)
    }

    /// Currents at every step, T x C x H x W.
    fn all_currents(&self, frames: &Frames) -> Vec<f32> {
        let (_, all) = self.sizes();
        let whole = Band { rows: 0..self.geometry.output.height, pooled: 0..0 };
        let mut currents = vec![0.0; self.steps * all];
        for (t, current) in currents.chunks_exact_mut(all).enumerate() {
            self.current((frames, if self.constant { 0 } else { t }), &whole, current);
        }
        currents
    }

    /// The way back through a band: overwrites its m, step t at t `stride` + `first`, with dL/dI; `sent` is dL of the frames that the
    /// layer sent.
    fn back_band(
        &self,
        band: &Band,
        trace: &mut [f32],
        (first, stride): (usize, usize),
        sent: &[f32],
        (maxima, scratch): (&mut Maxima, &mut Scratch),
    ) -> NeuronFindings {
        let (_, size) = self.neurons(band);
        let Shape { channels, height, width } = self.sending.pooled;
        let of_step = |t: usize| {
            let row = width * channels;
            &sent[(t * height + band.pooled.start) * row..][..band.pooled.len() * row]
        };
        if self.sending.counts() {
            maxima.begin(&self.sending, band, self.steps, |t| &trace[t * stride + first..][..size]);
        }
        self.backward.plane(trace, (first, stride, size), self.steps, scratch, |t, out| {
            match self.sending.counts() {
                true => maxima.back(t, of_step(t), out),
                false => self.sending.unpool(band, of_step(t), out),
            }
        })
    }

    /// The way back through a recording's neurons: what is kept of it, with dL/dI in its trace, summed over the steps where the input
    /// is constant.
    fn back(&'a self, kept: Kept, sent: &[f32], buffers: &mut Buffers<'a>) -> (Kept, NeuronFindings) {
        let (_, all) = self.sizes();
        let Kept { frames, mut trace } = kept;
        let Buffers { running, maxima, scratch, .. } = buffers;
        let mut sum = NeuronFindings::default();
        let mut run = trace.is_empty().then(|| self.begin(&frames, running));
        if run.is_some() {
            trace = Aligned::new(self.steps * all);
        }
        for band in &self.bands {
            let (first, _) = self.neurons(band);
            if let Some(run) = &mut run {
                run.band(band, (&mut trace[first..], all), |_, _| ());
            }
            sum += self.back_band(band, &mut trace, (first, all), sent, (maxima, scratch));
        }
        (Kept { frames, trace }, sum)
    }

    /// The way back through a first layer that is a convolution, whose dL/dI is used up band by band.
    fn first(
        &'a self,
        recordings: Vec<(Kept, &[f32])>,
        buffers: &mut Buffers<'a>,
    ) -> ((Aligned<f32>, Vec<f32>), NeuronFindings) {
        let Buffers { running, trace, maxima, scratch, by_channel, .. } = buffers;
        let mut found = (Aligned::new(self.weights.len()), vec![0.0; self.bias.len()]);
        let mut sum = NeuronFindings::default();
        for (Kept { frames, .. }, sent) in recordings {
            let mut run = self.begin(&frames, running);
            for band in &self.bands {
                let (_, size) = self.neurons(band);
                trace.resize(self.steps * size);
                run.band(band, (trace, size), |_, _| ());
                sum += self.back_band(band, trace, (0, size), sent, (maxima, scratch));
                if self.constant {
                    let (once, more) = trace.split_at_mut(size);
                    more.chunks_exact(size).for_each(|d| once.iter_mut().zip(d).for_each(|(a, b)| *a += b));
                }
                let different = if self.constant { 1 } else { self.steps };
                for (t, d) in trace.chunks_exact(size).enumerate().take(different) {
                    let d = (band.rows.start, d);
                    self.geometry.weights_gradient((&frames, t), d, by_channel, &mut found.0);
                    self.bias_gradient(d.1, &mut found.1);
                }
            }
        }
        (found, sum)
    }

    /// Adds dL/dI, pixel by pixel, to the gradient of the biases, if there are any.
    fn bias_gradient(&self, d: &[f32], bias: &mut [f32]) {
        if !bias.is_empty() {
            for pixel in d.chunks_exact(bias.len()) {
                bias.iter_mut().zip(pixel).for_each(|(sum, d)| *sum += d);
            }
        }
    }

    /// Gradients of the biases, if there are any, and of the weights, from what arrived and dL/dI, T x H x W x C.
    fn gradients(&self, recordings: &[Kept]) -> Result<Vec<Tensor>, ModelError> {
        let (_, all) = self.sizes();
        let once: Vec<Aligned<f32>> = recordings
            .iter()
            .filter(|_| self.constant)
            .map(|kept| {
                let mut sum = Aligned::new(all);
                kept.trace.chunks_exact(all).for_each(|d| sum.iter_mut().zip(d).for_each(|(a, b)| *a += b));
                sum
            })
            .collect();
        let gradient = |b: usize| once.get(b).unwrap_or(&recordings[b].trace);
        if self.geometry.linear {
            let each: Vec<(&Frames, &[f32])> =
                recordings.iter().enumerate().map(|(b, kept)| (&kept.frames, &gradient(b)[..])).collect();
            let (inputs, outputs) = (self.geometry.input.count() as i64, all as i64);
            let mut weights = Tensor::f_empty([outputs, inputs], (Kind::Float, Device::Cpu))?;
            linear_gradient(&self.geometry, &each, slice_mut(&mut weights)?);
            let mut bias = vec![0.0; self.bias.len()];
            each.iter().for_each(|(_, d)| self.bias_gradient(d, &mut bias));
            let bias =
                (!bias.is_empty()).then(|| to_tensor(&bias, &[bias.len()], Device::Cpu)).transpose()?;
            return Ok(bias.into_iter().chain([weights]).collect());
        }
        let found = shares((0..recordings.len()).collect(), |share, buffers| {
            let mut found = (Aligned::new(self.weights.len()), vec![0.0; self.bias.len()]);
            for b in share {
                let frames = &recordings[b].frames;
                for (t, d) in gradient(b).chunks_exact(all).enumerate() {
                    let by_channel = &mut buffers.by_channel;
                    self.geometry.weights_gradient((frames, t), (0, d), by_channel, &mut found.0);
                    self.bias_gradient(d, &mut found.1);
                }
            }
            found
        });
        self.tensors(found)
    }

    /// Sums of what threads found, as [`Layer::gradients`].
    fn tensors(&self, found: Vec<(Aligned<f32>, Vec<f32>)>) -> Result<Vec<Tensor>, ModelError> {
        let (mut rows, mut bias) = (vec![0.0; self.weights.len()], vec![0.0; self.bias.len()]);
        for (more, more_bias) in &found {
            rows.iter_mut().zip(&more[..]).for_each(|(a, b)| *a += b);
            bias.iter_mut().zip(more_bias).for_each(|(a, b)| *a += b);
        }
        let weights =
            to_tensor(&self.geometry.out_of_rows(&rows), &self.geometry.weight_shape(), Device::Cpu)?;
        let bias = (!bias.is_empty()).then(|| to_tensor(&bias, &[bias.len()], Device::Cpu)).transpose()?;
        Ok(bias.into_iter().chain([weights]).collect())
    }

    /// dL of the frames that arrived, B x T x H x W x C, from dL/dI.
    fn to_frames(&self, recordings: &[Kept]) -> Result<Aligned<f32>, ModelError> {
        let (_, all) = self.sizes();
        let input = self.geometry.input;
        let each_frame = input.count();
        if self.geometry.linear {
            let d: Vec<f32> = recordings.iter().flat_map(|kept| &kept.trace[..]).copied().collect();
            let d = to_tensor(&d, &[d.len() / all, all], Device::Cpu)?;
            let rows = to_tensor(&self.rows, &[each_frame, all], Device::Cpu)?;
            return Ok(slice(&d.f_matmul(&rows.f_tr()?)?.f_contiguous()?)?.into());
        }
        let mut found = Aligned::new(recordings.len() * self.steps * each_frame);
        let nonzero: u64 = recordings.par_iter().map(|kept| u64::from(count_nonzero(&kept.trace))).sum();
        let share = nonzero as f64 / (recordings.len() * self.steps * all) as f64;
        let chunks = found.chunks_exact_mut(self.steps * each_frame).zip(recordings).collect();
        if share > DENSE || !self.geometry.goes_back() {
            return self.dense_to_frames(chunks).map(|()| found);
        }
        let mut rows = Aligned::new(self.weights.len());
        self.geometry.in_rows(&self.weights, Way::Backward, &mut rows);
        let output = self.geometry.output;
        each(chunks, |(found, kept): (&mut [f32], &Kept), _| {
            let frames = found.chunks_exact_mut(each_frame).zip(kept.trace.chunks_exact(all));
            for (found, d) in frames {
                let size = (output.height, output.width);
                let mut active = Frames::new(Order::FREE, 1, size, output.channels);
                for (y, row) in d.chunks_exact(self.sizes().0).enumerate() {
                    active.push(0, y, row);
                }
                for (y, row) in found.chunks_exact_mut(input.width * input.channels).enumerate() {
                    self.geometry.gather(Way::Backward, &rows, (&active, 0), y, row);
                }
            }
        });
        Ok(found)
    }

    /// [`Layer::to_frames`] of a convolution by libtorch.
    fn dense_to_frames(&self, recordings: Vec<(&mut [f32], &Kept)>) -> Result<(), ModelError> {
        let Shape { channels, height, width } = self.geometry.output;
        let (input, conv) = (self.geometry.input, &self.geometry.conv);
        let Padding { top, bottom, left, right } = conv.padding;
        let stride = [conv.stride.0, conv.stride.1].map(|n| n as i64);
        // What no window covers, at the end of the padded input.
        let over = |padded: usize, outputs: usize, stride: usize, kernel: usize| {
            (padded - (outputs - 1) * stride - kernel) as i64
        };
        let rest = [
            over(input.height + top + bottom, height, conv.stride.0, conv.kernel.0),
            over(input.width + left + right, width, conv.stride.1, conv.kernel.1),
        ];
        let one = |found: &mut [f32], kept: &Kept| -> Result<(), ModelError> {
            let weights = to_tensor(&self.weights, &self.geometry.weight_shape(), Device::Cpu)?;
            let d = to_tensor(&kept.trace, &[self.steps, height, width, channels], Device::Cpu)?
                .f_permute([0, 3, 1, 2])?;
            let none: Option<&Tensor> = None;
            let whole =
                d.f_conv_transpose2d(&weights, none, stride, [0, 0], rest, conv.groups as i64, [1, 1])?;
            let inside = whole
                .f_narrow(2, top as i64, input.height as i64)?
                .f_narrow(3, left as i64, input.width as i64)?
                .f_permute([0, 2, 3, 1])?
                .f_contiguous()?;
            found.copy_from_slice(slice(&inside)?);
            Ok(())
        };
        // Each recording on one thread: libtorch's own threads would wait for one another at every operation.
        let threads = tch::get_num_threads();
        let done = each(recordings, |(found, kept), _| {
            tch::set_num_threads(1);
            tch::no_grad(|| one(found, kept))
        });
        tch::set_num_threads(threads);
        done.into_iter().collect()
    }
}
