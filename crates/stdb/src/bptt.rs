//! Loss and gradients of a whole spiking network, backpropagated through all timesteps.
//!
//! Forwards each layer runs through all steps of a part of the batch; its currents are overwritten with m
//! (see [`crate::scan`]), which the way back overwrites with dL/dI. The synapses' own gradients come from
//! libtorch, one layer at a time. Parts of the batch are taken one after the other, sized to a memory
//! budget: the mean loss is a sum over samples, so memory does not grow with the batch.
//!
//! Letters: B batch, T timesteps, C channels, H rows, W columns, K classes. Frames are in the order B x T.

use escape_dense::{slice, slice_mut, synapses};
use escape_model::ModelError;
use escape_model::ann::{to_tensor, to_vec};
use escape_network::arch::CLASSES;
use escape_snn_core::encode::Encoder;
use escape_snn_core::network::SpikingNetwork;
use escape_snn_core::neuron::{Dynamics, Firing, published_readout_step, step_all, step_all_traced};
use rayon::prelude::*;
use tch::{Device, Kind, Reduction, Tensor};

use crate::scan::{Backward, ConstantGradients, Scratch, back, clock_values, constants};
use crate::surrogate::Surrogate;

/// A spiking network whose weights, thresholds and leaks can change.
#[derive(Debug)]
pub struct Trainable {
    /// Shapes, rules, and the current thresholds and leaks; its weights are those at the start.
    pub network: SpikingNetwork,
    /// Weights, in the order of the layers, on the training device.
    pub weights: Vec<Tensor>,
    /// What stands in for a spike's derivative.
    pub surrogate: Surrogate,
    /// Whether gradients of thresholds and leaks are wanted.
    pub constants: bool,
    /// What each class's loss counts, if not the same; a batch's loss is then the weighted mean.
    pub class_weights: Option<[f32; CLASSES]>,
    /// Bytes that a part of the batch may take.
    pub budget: usize,
    /// Computes neurons by tensor operations on the CPU too; they are what a CUDA device uses.
    pub tensor_neurons: bool,
}

/// What one batch came to.
#[derive(Debug)]
pub struct Gradients {
    /// Mean cross-entropy, weighted if classes are.
    pub loss: f64,
    /// Readout after the last step, B x K.
    pub readout: Vec<f32>,
    /// dL/dW, layer by layer.
    pub weights: Vec<Tensor>,
    /// dL/dtheta and dL/dleak, layer by layer; zeros unless asked for.
    pub constants: Vec<ConstantGradients>,
}

/// Bytes that a part of a batch takes unless told otherwise.
pub const DEFAULT_BUDGET: usize = 512 << 20;

/// One layer between its forward and its backward pass.
struct Kept {
    /// Input frames, if they depend on the layers below.
    frames: Option<Tensor>,
    /// Currents with their graph; their storage holds m, later dL/dI.
    current: Tensor,
}

impl Trainable {
    /// Makes a network trainable on `device`.
    pub fn new(
        network: SpikingNetwork,
        surrogate: Surrogate,
        constants: bool,
        device: Device,
    ) -> Result<Self, ModelError> {
        let weights = network
            .layers
            .iter()
            .map(|l| Ok(to_tensor(&l.weights, &l.shape.weight_shape(), device)?.set_requires_grad(true)))
            .collect::<Result<_, ModelError>>()?;
        Ok(Self {
            network,
            weights,
            surrogate,
            constants,
            class_weights: None,
            budget: DEFAULT_BUDGET,
            tensor_neurons: device.is_cuda(),
        })
    }

    /// The network with its weights as they are now.
    pub fn snapshot(&self) -> Result<SpikingNetwork, ModelError> {
        let mut network = self.network.clone();
        for (layer, weight) in network.layers.iter_mut().zip(&self.weights) {
            layer.weights = to_vec(weight)?;
        }
        Ok(network)
    }

    /// Loss and gradients of a batch of recordings `x` (B x H x W) with classes `labels`, over `steps`
    /// steps. `indices` are the recordings' places in their file, which keyed encoders draw by.
    pub fn gradients(
        &self,
        x: &[f32],
        labels: &[i64],
        indices: &[usize],
        encoder: &mut Encoder,
        steps: usize,
    ) -> Result<Gradients, ModelError> {
        let (contacts, samples) = self.network.input();
        let pixels = contacts * samples;
        // Drawn for the whole batch at once: the published generator runs over it step by step.
        let direct = encoder.is_direct();
        let input = match encoder {
            Encoder::Poisson { .. } => {
                let each = x.chunks_exact(pixels).zip(indices);
                each.flat_map(|(x, &i)| encoder.encode(x, pixels, i, 0, steps)).collect()
            }
            _ => encoder.encode(x, pixels, 0, 0, steps),
        };
        let per_recording = if direct { pixels } else { pixels * steps };
        let frames_each = if direct { 1 } else { steps };
        let mut total: Option<Gradients> = None;
        let part = self.part_size(steps, direct);
        for (input, part_labels) in input.chunks(part * per_recording).zip(labels.chunks(part)) {
            let batch = part_labels.len();
            let frames =
                to_tensor(input, &[batch * frames_each, 1, contacts, samples], self.weights[0].device())?;
            let found = self.part(&frames, direct, part_labels, labels, steps)?;
            total = Some(match total {
                None => found,
                Some(sum) => sum.plus(found)?,
            });
        }
        total.ok_or_else(|| ModelError::Data("a training step needs at least one recording".into()))
    }

    /// Recordings a part: as many as the budget holds, at least one for each thread.
    fn part_size(&self, steps: usize, held: bool) -> usize {
        let values: usize = (0..self.network.layers.len())
            .map(|k| {
                let (channels, plane) = self.network.planes(k);
                let times = if k == 0 && held { 1 } else { steps };
                // Currents, outgoing frames and the gradient of either of them.
                channels * (times * plane.neurons() + 2 * steps * plane.padded_len())
            })
            .sum();
        (self.budget / (values * size_of::<f32>())).max(rayon::current_num_threads())
    }

    fn part(
        &self,
        input: &Tensor,
        held: bool,
        labels: &[i64],
        whole: &[i64],
        steps: usize,
    ) -> Result<Gradients, ModelError> {
        let last = self.network.layers.len() - 1;
        let batch = labels.len();
        let mut kept = Vec::new();
        let mut frames: Option<Tensor> = None;
        for k in 0..last {
            let layer = &self.network.layers[k].shape;
            let source = frames.as_ref().unwrap_or(input);
            let current =
                synapses(layer, &self.weights[k], source, k > 0 && !self.tensor_neurons)?.f_contiguous()?;
            let next = self.forward(k, &current, held && k == 0, batch, steps)?;
            kept.push(Kept { frames, current });
            frames = Some(next.set_requires_grad(true));
        }
        let source = frames.as_ref().unwrap_or(input);
        let current = synapses(&self.network.layers[last].shape, &self.weights[last], source, false)?;
        let readout = self.read_out(&to_vec(&current)?, labels, whole, steps)?;
        let mut gradient = to_tensor(&readout.current_gradient, &[batch * steps, CLASSES], current.device())?;
        kept.push(Kept { frames, current });

        let mut weights = Vec::new();
        let mut constants = vec![readout.constants];
        let mut k = last;
        while let Some(Kept { frames, current }) = kept.pop() {
            let mut inputs = vec![&self.weights[k]];
            inputs.extend(frames.as_ref());
            // The product's value means nothing (the currents' storage holds m or dL/dI by now); its
            // gradient with respect to the currents is dL/dI, and from there libtorch goes on.
            let product = current.f_flatten(0, -1)?.f_dot(&gradient.f_flatten(0, -1)?)?;
            let mut found = Tensor::f_run_backward(&[product], &inputs, false, false)?;
            drop(current);
            let to_frames = frames.is_some().then(|| found.pop()).flatten();
            weights.extend(found.pop());
            drop(frames);
            if let (Some(to_frames), Some(below)) = (to_frames, kept.last()) {
                k -= 1;
                let (current_gradient, found) =
                    self.backward(k, &below.current, &to_frames, held && k == 0, batch, steps)?;
                gradient = current_gradient;
                constants.push(found);
            }
        }
        weights.reverse();
        constants.reverse();
        Ok(Gradients { loss: readout.loss, readout: readout.values, weights, constants })
    }

    fn rule(&self, k: usize, steps: usize) -> Backward {
        let fraction = self.network.preset.initial_fraction();
        Backward::new(self.network.dynamics(k), fraction, self.surrogate, self.constants, steps)
    }

    /// Runs the neurons of layer `k` forward through all steps: overwrites the storage of `current` with
    /// m (unless it is held, the same at every step) and returns the next layer's input frames.
    fn forward(
        &self,
        k: usize,
        current: &Tensor,
        held: bool,
        batch: usize,
        steps: usize,
    ) -> Result<Tensor, ModelError> {
        if self.tensor_neurons {
            return self.forward_on_device(k, current, held, batch, steps);
        }
        let (channels, plane) = self.network.planes(k);
        let dynamics = self.network.dynamics(k);
        let start = dynamics.threshold * self.network.preset.initial_fraction();
        let (size, padded) = (plane.neurons(), plane.padded_len());
        let neurons = channels * size;
        let (rows, columns) = plane.padded();
        let shape = [batch * steps, channels, rows, columns].map(|n| n as i64);
        let mut frames = Tensor::f_zeros(shape, (Kind::Float, Device::Cpu))?;
        let mut trace = current.f_detach()?;
        let per_recording = if held { neurons } else { neurons * steps };
        slice_mut(&mut trace)?
            .par_chunks_mut(per_recording)
            .zip(slice_mut(&mut frames)?.par_chunks_mut(channels * padded * steps))
            .for_each(|(trace, frames)| {
                let (mut u, mut spikes) = (vec![0f32; size], vec![0f32; size]);
                for c in 0..channels {
                    u.fill(start);
                    for t in 0..steps {
                        if held {
                            step_all(dynamics, &mut u, &trace[c * size..][..size], &mut spikes);
                        } else {
                            step_all_traced(
                                dynamics,
                                &mut u,
                                &mut trace[t * neurons + c * size..][..size],
                                &mut spikes,
                            );
                        }
                        plane.pool_into(&spikes, &mut frames[(t * channels + c) * padded..][..padded]);
                    }
                }
            });
        Ok(frames)
    }

    /// Runs layer `k` backward: from dL/dframes of its outgoing frames to dL/dI, in the storage of
    /// `current` (summed over the steps if it is held).
    fn backward(
        &self,
        k: usize,
        current: &Tensor,
        to_frames: &Tensor,
        held: bool,
        batch: usize,
        steps: usize,
    ) -> Result<(Tensor, ConstantGradients), ModelError> {
        if self.tensor_neurons {
            return self.backward_on_device(k, current, to_frames, held, batch, steps);
        }
        let (channels, plane) = self.network.planes(k);
        let dynamics = self.network.dynamics(k);
        let start = dynamics.threshold * self.network.preset.initial_fraction();
        let (size, padded) = (plane.neurons(), plane.padded_len());
        let neurons = channels * size;
        let rule = self.rule(k, steps);
        let to_frames = to_frames.f_contiguous()?;
        let mut trace = current.f_detach()?;
        let per_recording = if held { neurons } else { neurons * steps };
        let found: Vec<ConstantGradients> = slice_mut(&mut trace)?
            .par_chunks_mut(per_recording)
            .zip(slice(&to_frames)?.par_chunks(channels * padded * steps))
            .map(|(trace, to_frames)| {
                let mut scratch = Scratch::default();
                let mut sum = ConstantGradients::default();
                let (mut u, mut spikes, mut again) = (Vec::new(), Vec::new(), Vec::new());
                for c in 0..channels {
                    let gradient = |t: usize, out: &mut [f32]| {
                        plane.unpool_from(&to_frames[(t * channels + c) * padded..][..padded], out);
                    };
                    if !held {
                        sum += rule.plane(trace, (c * size, neurons, size), steps, &mut scratch, gradient);
                        continue;
                    }
                    // m was not kept: one plane of it is quickly made again.
                    let current = &mut trace[c * size..][..size];
                    again.clear();
                    u.clear();
                    u.resize(size, start);
                    spikes.resize(size, 0.0);
                    for t in 0..steps {
                        again.extend_from_slice(current);
                        step_all_traced(dynamics, &mut u, &mut again[t * size..], &mut spikes);
                    }
                    sum += rule.plane(&mut again, (0, size, size), steps, &mut scratch, gradient);
                    current.fill(0.0);
                    for each in again.chunks_exact(size) {
                        current.iter_mut().zip(each).for_each(|(a, b)| *a += b);
                    }
                }
                sum
            })
            .collect();
        let mut total = ConstantGradients::default();
        found.into_iter().for_each(|f| total += f);
        Ok((trace, total))
    }

    /// [`Trainable::forward`] by tensor operations.
    fn forward_on_device(
        &self,
        k: usize,
        current: &Tensor,
        held: bool,
        batch: usize,
        steps: usize,
    ) -> Result<Tensor, ModelError> {
        let (channels, plane) = self.network.planes(k);
        let pool = [plane.pool as i64; 2];
        tch::no_grad(|| {
            let m = self.potentials(k, current, held, batch, steps)?;
            let spikes = m.f_gt(0.0)?.f_to_kind(Kind::Float)?;
            if !held {
                current.f_detach()?.f_view_as(&m)?.f_copy_(&m)?;
            }
            let shape = [batch * steps, channels, plane.height, plane.width].map(|n| n as i64);
            Ok(match plane.pool {
                1 => spikes.f_view(shape)?,
                _ => spikes.f_view(shape)?.f_avg_pool2d(pool, pool, [0, 0], false, true, None::<i64>)?,
            })
        })
    }

    /// m for all steps, B x T x C x H x W, from currents.
    fn potentials(
        &self,
        k: usize,
        current: &Tensor,
        held: bool,
        batch: usize,
        steps: usize,
    ) -> Result<Tensor, ModelError> {
        let (channels, plane) = self.network.planes(k);
        let Dynamics { threshold, leak, firing } = self.network.dynamics(k);
        let shape =
            [batch, if held { 1 } else { steps }, channels, plane.height, plane.width].map(|n| n as i64);
        let current = current.f_detach()?.f_view(shape)?;
        let theta = Tensor::f_full([1], f64::from(threshold), (Kind::Float, current.device()))?;
        let start = f64::from(threshold * self.network.preset.initial_fraction());
        let mut u = current.f_select(1, 0)?.f_full_like(start)?;
        let mut ms = Vec::new();
        for t in 0..steps {
            let integrated = u
                .f_mul_scalar(f64::from(leak))?
                .f_add(&current.f_select(1, if held { 0 } else { t as i64 })?)?;
            let deciding = match firing {
                Firing::BeforeInput => &u,
                Firing::AfterInput => &integrated,
            };
            let m = deciding.f_div(&theta)?.f_sub_scalar(1.0)?;
            u = integrated.f_sub(&m.f_gt(0.0)?.f_to_kind(Kind::Float)?.f_mul(&theta)?)?;
            ms.push(m);
        }
        Ok(Tensor::f_stack(&ms, 1)?)
    }

    /// [`Trainable::backward`] by tensor operations.
    fn backward_on_device(
        &self,
        k: usize,
        current: &Tensor,
        to_frames: &Tensor,
        held: bool,
        batch: usize,
        steps: usize,
    ) -> Result<(Tensor, ConstantGradients), ModelError> {
        let (channels, plane) = self.network.planes(k);
        let Dynamics { threshold, leak, firing } = self.network.dynamics(k);
        let (theta, kept) = (f64::from(threshold), f64::from(leak));
        tch::no_grad(|| {
            let shape = [batch, steps, channels, plane.height, plane.width].map(|n| n as i64);
            let m = if held {
                self.potentials(k, current, true, batch, steps)?
            } else {
                current.f_detach()?.f_view(shape)?
            };
            let spikes = m.f_gt(0.0)?.f_to_kind(Kind::Float)?;
            let spike_gradient = unpool(to_frames, plane.pool, shape)?;
            let shape = self.surrogate_shape(&m, &spikes, steps)?;
            let through = spike_gradient.f_mul_scalar(f64::from(self.surrogate.height()))?.f_mul(&shape)?;
            let mut later = m.f_select(1, 0)?.f_zeros_like()?;
            let mut trains = Vec::new();
            let mut found = ConstantGradients::default();
            let sum =
                |t: &Tensor| -> Result<f64, ModelError> { Ok(t.f_sum(Kind::Double)?.f_double_value(&[])?) };
            for t in (0..steps as i64).rev() {
                let e = through.f_select(1, t)?.f_div_scalar(theta)?.f_add(&later.f_mul_scalar(kept)?)?;
                if self.constants {
                    let (m, s) = (m.f_select(1, t)?, spikes.f_select(1, t)?);
                    let potential = m.f_add_scalar(1.0)?;
                    let (reset, left) = match firing {
                        Firing::BeforeInput => (1.0, potential.shallow_clone()),
                        Firing::AfterInput => (kept, potential.f_sub(&s)?),
                    };
                    found.threshold -= sum(&through.f_select(1, t)?.f_mul(&potential)?)? / theta;
                    found.threshold -= reset * sum(&later.f_mul(&s)?)?;
                    found.leak += theta * sum(&later.f_mul(&left)?)?;
                }
                trains.push(match firing {
                    Firing::BeforeInput => later.shallow_clone(),
                    Firing::AfterInput => e.shallow_clone(),
                });
                later = e;
            }
            if self.constants {
                let fraction = f64::from(self.network.preset.initial_fraction());
                let first = sum(&later)?;
                let (to_start, through_leak) = match firing {
                    Firing::BeforeInput => (1.0, 0.0),
                    Firing::AfterInput => (kept, 1.0),
                };
                found.threshold += fraction * to_start * first;
                found.leak += through_leak * fraction * theta * first;
            }
            trains.reverse();
            let gradient = Tensor::f_stack(&trains, 1)?;
            let gradient =
                if held { gradient.f_sum_dim_intlist([1].as_slice(), false, Kind::Float)? } else { gradient };
            Ok((gradient.f_reshape(current.size())?, found))
        })
    }

    /// The surrogate for all steps but for its height, B x T x C x H x W.
    fn surrogate_shape(&self, m: &Tensor, spikes: &Tensor, steps: usize) -> Result<Tensor, ModelError> {
        match self.surrogate.clock(steps) {
            None => Ok(m.f_abs()?.f_neg()?.f_add_scalar(1.0)?.f_clamp_min(0.0)?),
            Some(clock) => {
                // Entry 0 stands for never, entry dt for a last spike dt steps ago.
                let table: Vec<f32> = std::iter::once(clock.value(0, None))
                    .chain((1..=steps).map(|dt| clock.value(dt, Some(0))))
                    .collect();
                let table = Tensor::f_from_slice(&table)?.f_to_device(m.device())?;
                let mut since = m.f_select(1, 0)?.f_zeros_like()?.f_to_kind(Kind::Int64)?;
                let mut values = Vec::new();
                for t in 0..steps as i64 {
                    values.push(table.f_take(&since)?);
                    let fired = spikes.f_select(1, t)?.f_gt(0.0)?;
                    let older = since.f_add(&since.f_gt(0)?.f_to_kind(Kind::Int64)?)?;
                    since = older.f_masked_fill(&fired, 1)?;
                }
                Ok(Tensor::f_stack(&values, 1)?)
            }
        }
    }

    /// The readout of B x T x K currents, its loss as part of a batch with the classes `whole`, and the way
    /// back to the currents.
    fn read_out(
        &self,
        current: &[f32],
        labels: &[i64],
        whole: &[i64],
        steps: usize,
    ) -> Result<ReadOut, ModelError> {
        let k = self.network.layers.len() - 1;
        let dynamics = self.network.dynamics(k);
        let spiking = self.network.preset.spiking_readout();
        let start = if spiking { dynamics.threshold * self.network.preset.initial_fraction() } else { 0.0 };
        let per_recording = steps * CLASSES;
        let (mut m, mut spikes) = (vec![0f32; current.len()], vec![0f32; current.len()]);
        let mut values = Vec::with_capacity(labels.len() * CLASSES);
        for b in 0..labels.len() {
            let mut u = [start; CLASSES];
            for t in 0..steps {
                let at = b * per_recording + t * CLASSES..b * per_recording + (t + 1) * CLASSES;
                if spiking {
                    let current = &current[at.clone()];
                    published_readout_step(dynamics, &mut u, current, &mut m[at.clone()], &mut spikes[at]);
                } else {
                    u.iter_mut().zip(&current[at]).for_each(|(u, c)| *u += c);
                }
            }
            values.extend(u);
        }
        let (loss, to_values) = self.judge(&values, labels, whole, steps)?;
        let mut out =
            ReadOut { loss, values, current_gradient: vec![0.0; current.len()], ..ReadOut::default() };
        for (b, later) in to_values.chunks_exact(CLASSES).enumerate() {
            let sample = b * per_recording..(b + 1) * per_recording;
            let gradient = &mut out.current_gradient[sample.clone()];
            if spiking {
                out.constants +=
                    self.readout_backward(&m[sample.clone()], &spikes[sample], later, gradient, steps);
            } else {
                gradient.chunks_exact_mut(CLASSES).for_each(|g| g.copy_from_slice(later));
            }
        }
        Ok(out)
    }

    /// Cross-entropy of readout values, B x K, as part of a batch with the classes `whole`, and its gradient.
    ///
    /// By libtorch, in float32: of a sample that is already right beyond doubt, softmax minus one-hot is mere
    /// rounding, and Adam's first steps would make much of a different rounding than PyTorch's.
    fn judge(
        &self,
        values: &[f32],
        labels: &[i64],
        whole: &[i64],
        steps: usize,
    ) -> Result<(f64, Vec<f32>), ModelError> {
        let logits = to_tensor(values, &[labels.len(), CLASSES], Device::Cpu)?.set_requires_grad(true);
        let judged = match self.network.preset.loss_scale(steps) {
            1.0 => logits.shallow_clone(),
            scale => logits.f_mul_scalar(f64::from(scale))?,
        };
        let target = Tensor::f_from_slice(labels)?;
        let loss = |weights: Option<&Tensor>, reduction| {
            judged.f_cross_entropy_loss(&target, weights, reduction, -100, 0.0)
        };
        let share = match &self.class_weights {
            None if labels.len() == whole.len() => loss(None, Reduction::Mean)?,
            None => loss(None, Reduction::Mean)?.f_mul_scalar(labels.len() as f64 / whole.len() as f64)?,
            Some(weights) => {
                let total: f64 = whole.iter().map(|&label| f64::from(weights[label as usize])).sum();
                loss(Some(&Tensor::f_from_slice(weights)?), Reduction::Sum)?.f_div_scalar(total)?
            }
        };
        let gradient = Tensor::f_run_backward(&[&share], &[&logits], false, false)?;
        Ok((share.f_double_value(&[])?, to_vec(&gradient[0])?))
    }

    /// One sample's way back through the study's readout: from dL/du after the last step to dL/dI, T x K.
    fn readout_backward(
        &self,
        m: &[f32],
        spikes: &[f32],
        later: &[f32],
        gradient: &mut [f32],
        steps: usize,
    ) -> ConstantGradients {
        let dynamics = self.network.dynamics(self.network.layers.len() - 1);
        let height = self.surrogate.height();
        let values = match self.surrogate.clock(steps) {
            None => m.iter().map(|&m| Surrogate::triangle(m)).collect(),
            Some(clock) => {
                let mut values = vec![0f32; m.len()];
                clock_values(&clock, m, (0, CLASSES, CLASSES), steps, &mut values, &mut Vec::new());
                values
            }
        };
        let mut later: Vec<f32> = later.to_vec();
        let mut found = ConstantGradients::default();
        for t in (0..steps).rev() {
            // u gains softmax(s): J = diag(p) - p p'.
            let p = escape_snn_core::neuron::softmax(&spikes[t * CLASSES..(t + 1) * CLASSES]);
            let mean: f32 = p.iter().zip(&later).map(|(p, l)| p * l).sum();
            for i in 0..CLASSES {
                let at = t * CLASSES + i;
                let through = p[i] * (later[i] - mean) * height * values[at];
                if self.constants {
                    let (theta, leak) = constants(dynamics, m[at], through, later[i]);
                    found += ConstantGradients { threshold: f64::from(theta), leak: f64::from(leak) };
                }
                (gradient[at], later[i]) = back(dynamics, through, later[i]);
            }
        }
        found
    }
}

/// The readout forwards and backwards.
#[derive(Default)]
struct ReadOut {
    loss: f64,
    values: Vec<f32>,
    /// dL/dI, B x T x K.
    current_gradient: Vec<f32>,
    constants: ConstantGradients,
}

impl Gradients {
    /// Sums two parts of one batch.
    fn plus(mut self, other: Self) -> Result<Self, ModelError> {
        self.loss += other.loss;
        self.readout.extend(other.readout);
        for (sum, more) in self.weights.iter_mut().zip(&other.weights) {
            let _ = sum.f_add_(more)?;
        }
        for (sum, more) in self.constants.iter_mut().zip(other.constants) {
            *sum += more;
        }
        Ok(self)
    }
}

/// Gradients of pooled frames spread over their windows: B x T x C x H x W.
fn unpool(to_frames: &Tensor, pool: usize, shape: [i64; 5]) -> Result<Tensor, ModelError> {
    if pool == 1 {
        return Ok(to_frames.f_reshape(shape)?);
    }
    let n = pool as i64;
    let size = to_frames.size();
    let spread = to_frames
        .f_div_scalar((n * n) as f64)?
        .f_repeat_interleave_self_int(n, 2, None)?
        .f_repeat_interleave_self_int(n, 3, None)?;
    // Rows and columns that no window covers get no gradient.
    let (right, below) = (shape[4] - size[3] * n, shape[3] - size[2] * n);
    Ok(spread.f_constant_pad_nd([0, right, 0, below])?.f_reshape(shape)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use escape_model::ann::Ann;
    use escape_network::arch::Architecture;
    use escape_snn_core::encode::Encoding;
    use escape_snn_core::network::{Preset, SpikingLayer};

    /// An untrained network with thresholds low enough that every layer fires.
    fn trainable(preset: Preset) -> Trainable {
        let ann = Ann::new(Architecture::Modified, 56, 100, 3, Device::Cpu).unwrap();
        let layers = ann.layers().iter().zip(ann.parameters()).map(|(shape, (_, weight))| SpikingLayer {
            shape: shape.clone(),
            weights: to_vec(weight).unwrap(),
            threshold: 0.05,
            leak: 1.0,
        });
        let mut network = SpikingNetwork { preset, layers: layers.collect() };
        // Sums that do not depend on the batch: potentials would differ by rounding, and thresholds are small.
        network.snap(Encoding::Direct);
        Trainable::new(network, Surrogate::DEFAULT, false, Device::Cpu).unwrap()
    }

    #[test]
    fn the_gradient_of_a_weighted_loss_is_its_slope() {
        for preset in [Preset::Default, Preset::Published] {
            let mut net = trainable(preset);
            for weights in [None, Some([0.5, 1.5, 3.0])] {
                net.class_weights = weights;
                let (values, labels, steps) =
                    ([0.3, -1.2, 0.8, 1.1, 0.4, -0.5, -0.9, 0.2, 1.7], [0i64, 2, 1], 2);
                let whole = [0i64, 2, 1, 1, 0];
                let at = |values: &[f32]| net.judge(values, &labels, &whole, steps).unwrap().0;
                let (_, gradient) = net.judge(&values, &labels, &whole, steps).unwrap();
                for i in 0..values.len() {
                    let moved = |by: f32| {
                        let mut values = values;
                        values[i] += by;
                        at(&values)
                    };
                    let slope = (moved(0.02) - moved(-0.02)) / 0.04;
                    let got = f64::from(gradient[i]);
                    assert!((got - slope).abs() < 2e-4, "{preset} {weights:?} {i}: {got} against {slope}");
                }
            }
        }
    }

    #[test]
    fn a_weighted_batch_is_the_weighted_mean_of_its_recordings() {
        let mut net = trainable(Preset::Default);
        let x: Vec<f32> = (0..3 * 5600).map(|i| (i as f32 * 0.37).sin()).collect();
        let labels = [2i64, 0, 0];
        let weights = [0.5f32, 1.0, 2.5];
        let run = |net: &Trainable, which: std::ops::Range<usize>| {
            let x = &x[which.start * 5600..which.end * 5600];
            let places: Vec<usize> = which.clone().collect();
            net.gradients(x, &labels[which], &places, &mut Encoder::Direct, 3).unwrap()
        };
        let single: Vec<Gradients> = (0..3).map(|i| run(&net, i..i + 1)).collect();
        net.class_weights = Some(weights);
        let whole = run(&net, 0..3);
        net.budget = 0;
        let share = |i: usize| f64::from(weights[labels[i] as usize]) / 3.5;
        let loss: f64 = (0..3).map(|i| share(i) * single[i].loss).sum();
        assert!((whole.loss - loss).abs() < 1e-5 * loss, "{} against {loss}", whole.loss);
        for (k, got) in whole.weights.iter().enumerate() {
            let each: Vec<Vec<f32>> = single.iter().map(|g| to_vec(&g.weights[k]).unwrap()).collect();
            let got = to_vec(got).unwrap();
            let largest = got.iter().fold(0f32, |m, v| m.max(v.abs()));
            assert!(largest > 0.0, "layer {k}: no gradient, so this would test nothing");
            for (n, got) in got.iter().enumerate() {
                let want: f64 = (0..3).map(|i| share(i) * f64::from(each[i][n])).sum();
                assert!(
                    (f64::from(*got) - want).abs() < 1e-5 * f64::from(largest),
                    "layer {k}: {got}, {want}"
                );
            }
        }
        // Cut into parts it is the same.
        let parts = run(&net, 0..3);
        assert!((parts.loss - whole.loss).abs() < 1e-6);
    }
}
