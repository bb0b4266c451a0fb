//! Synapses and neurons by tensor operations, for CUDA: the host's spikes, in float32 where that computes in whole numbers.

use escape_dense::{Synapses, tensors};
use escape_model::ModelError;
use escape_model::ann::{to_tensor, to_vec};
use escape_snn_core::neuron::{Dynamics, Firing, Plane};
use tch::{Kind, Tensor};

use super::{Gradients, Part, Pass, Seen, Trainable, learned};
use crate::scan::{Activity, NeuronFindings};
use crate::surrogate::Surrogate;

/// A network made ready for one batch.
pub(super) struct Tensors<'a> {
    net: &'a Trainable,
    /// Where whole numbers stand for the weights.
    rounded: Option<Vec<Synapses>>,
    /// Where each layer's potentials start, see [`Neurons::starts`].
    starts: Vec<Tensor>,
    /// See [`Neurons::leak`].
    leaks: Vec<Option<(Tensor, f64)>>,
}

/// One layer between its forward and its backward pass.
struct Kept {
    /// Input frames, if they depend on the layers below.
    frames: Option<Tensor>,
    /// Currents with their graph; their storage holds m, later dL/dI.
    current: Tensor,
}

/// One layer's neurons over all timesteps of a part of the batch.
struct Neurons {
    dynamics: Dynamics,
    /// Where potentials start, as fractions of the threshold, in a shape that spreads over a step's potentials, B x C x H x W.
    starts: Tensor,
    /// What they do on the way forward; in whole numbers without the leak,
    seen: Dynamics,
    /// which is this, if they leak: what a unit is, in the same shape, and what is left of one.
    leak: Option<(Tensor, f64)>,
    surrogate: Surrogate,
    /// Whether gradients of threshold and decay are wanted.
    parameters: bool,
    channels: usize,
    plane: Plane,
    batch: usize,
    steps: usize,
    /// The current is the same at every step, B frames instead of B x T.
    constant_current: bool,
}

impl<'a> Tensors<'a> {
    /// For a network as it is, or as `rounded`.
    pub fn new(net: &'a Trainable, rounded: Option<Seen>) -> Result<Self, ModelError> {
        let (rounded, starts, whole) = match rounded {
            None => (None, net.starts(), None),
            Some(Seen { network, starts, whole }) => (Some(learned(&network, net.device())?), starts, whole),
        };
        // The neurons of a linear layer are one row of one channel.
        let shape = |k: usize, rows: usize| match rows == net.network.planes(k).0 {
            true => [rows, 1, 1],
            false => [1, 1, rows],
        };
        let starts = starts.iter().enumerate();
        let starts = starts.map(|(k, starts)| to_tensor(starts, &shape(k, starts.len()), net.device()));
        let leak = |k: usize| -> Result<Option<(Tensor, f64)>, ModelError> {
            let Some(leak) = whole.as_ref().and_then(|whole| whole.layers[k].leak()) else { return Ok(None) };
            let shape = shape(k, leak.units.len()).map(|n| n as i64);
            let units = Tensor::f_from_slice(&leak.units)?.f_view(shape)?.f_to_device(net.device())?;
            Ok(Some((units, leak.kept())))
        };
        Ok(Self {
            net,
            rounded,
            starts: starts.collect::<Result<_, _>>()?,
            leaks: (0..net.network.layers.len()).map(leak).collect::<Result<_, _>>()?,
        })
    }

    fn synapses(&self) -> &[Synapses] {
        self.rounded.as_ref().unwrap_or(&self.net.synapses)
    }

    fn neurons(&self, k: usize, batch: usize, steps: usize, constant_input: bool) -> Neurons {
        let (channels, plane) = self.net.network.planes(k);
        let dynamics = self.net.network.dynamics(k);
        Neurons {
            dynamics,
            seen: if self.rounded.is_some() { dynamics.without_leak() } else { dynamics },
            starts: self.starts[k].shallow_clone(),
            leak: self.leaks[k].as_ref().map(|(units, kept)| (units.shallow_clone(), *kept)),
            surrogate: self.net.surrogate,
            parameters: self.net.neuron_parameters,
            channels,
            plane,
            batch,
            steps,
            constant_current: constant_input && k == 0,
        }
    }
}

impl Pass for Tensors<'_> {
    fn part(&self, part: &Part<'_>) -> Result<Gradients, ModelError> {
        let last = self.net.network.layers.len() - 1;
        let (synapses, constant_input, steps) = (self.synapses(), part.constant, part.steps);
        let batch = part.labels.len();
        let shape = self.net.network.input();
        let frames = part.input.len() / shape.count();
        let input =
            &to_tensor(part.input, &[frames, shape.channels, shape.height, shape.width], self.net.device())?;
        let mut kept = Vec::new();
        let mut frames: Option<Tensor> = None;
        for (k, layer) in synapses.iter().enumerate().take(last) {
            let source = frames.as_ref().unwrap_or(input);
            let current = layer.current(source, false)?.f_contiguous()?;
            let next = forward(&self.neurons(k, batch, steps, constant_input), &current)?;
            kept.push(Kept { frames, current });
            frames = Some(next.set_requires_grad(true));
        }
        let source = frames.as_ref().unwrap_or(input);
        let mut current = synapses[last].current(source, false)?;
        if last == 0 && constant_input {
            // The recording itself is the readout's input, at every step.
            current = current.f_repeat_interleave_self_int(steps as i64, 0, None)?;
        }
        let readout = self.net.read_out(&to_vec(&current)?, part)?;
        let mut gradient = to_tensor(
            &readout.current_gradient,
            &[batch * steps, self.net.network.classes()],
            current.device(),
        )?;
        kept.push(Kept { frames, current });

        let mut weights = Vec::new();
        let mut found_neurons = vec![readout.neuron];
        let mut k = last;
        while let Some(Kept { frames, current }) = kept.pop() {
            let Synapses { weight, bias, .. } = &synapses[k];
            let mut inputs = vec![weight];
            inputs.extend(bias);
            inputs.extend(frames.as_ref());
            // The product's value means nothing (the currents' storage holds m or dL/dI by now); its
            // gradient with respect to the currents is dL/dI, and from there libtorch goes on.
            let product = current.f_flatten(0, -1)?.f_dot(&gradient.f_flatten(0, -1)?)?;
            let mut found = Tensor::f_run_backward(&[product], &inputs, false, false)?;
            drop(current);
            let to_frames = frames.is_some().then(|| found.pop()).flatten();
            found.reverse();
            weights.extend(found);
            drop(frames);
            if let (Some(to_frames), Some(below)) = (to_frames, kept.last()) {
                k -= 1;
                let neurons = self.neurons(k, batch, steps, constant_input);
                let to_frames = match self.net.penalties(k + 1, part.whole.len()) {
                    None => to_frames,
                    Some(due) if due.len() == 1 => to_frames.f_add_scalar(f64::from(due[0]))?,
                    Some(due) => {
                        let plane = &to_frames.size()[2..];
                        let plane: Vec<usize> = plane.iter().map(|&n| n as usize).collect();
                        to_frames.f_add(&to_tensor(&due, &plane, to_frames.device())?)?
                    }
                };
                let (current_gradient, found) = backward(&neurons, &below.current, &to_frames)?;
                gradient = current_gradient;
                found_neurons.push(found);
            }
        }
        weights.reverse();
        found_neurons.reverse();
        Ok(Gradients { loss: readout.loss, readout: readout.values, weights, neurons: found_neurons })
    }
}

/// Runs the neurons through all steps: overwrites the storage of `current` with m (unless it is constant) and returns
/// the next layer's input frames.
fn forward(neurons: &Neurons, current: &Tensor) -> Result<Tensor, ModelError> {
    let &Neurons { channels, plane, batch, steps, constant_current, .. } = neurons;
    tch::no_grad(|| {
        let m = potentials(neurons, current)?;
        let spikes = m.f_gt(0.0)?.f_to_kind(Kind::Float)?;
        if !constant_current {
            current.f_detach()?.f_view_as(&m)?.f_copy_(&m)?;
        }
        let shape = [batch, steps, channels, plane.height, plane.width].map(|n| n as i64);
        tensors::pooled(&plane, &spikes.f_view(shape)?, &mut None)
    })
}

/// Runs them back: from dL/dframes of their outgoing frames to dL/dI (summed over the steps if the current is
/// constant), and dL of their constants.
fn backward(
    neurons: &Neurons,
    current: &Tensor,
    to_frames: &Tensor,
) -> Result<(Tensor, NeuronFindings), ModelError> {
    let &Neurons { channels, plane, batch, steps, constant_current, surrogate, parameters, .. } = neurons;
    let Dynamics { neuron, firing, .. } = neurons.dynamics;
    let (theta, kept) = (f64::from(neuron.threshold()), f64::from(neuron.decay()));
    tch::no_grad(|| {
        let shape = [batch, steps, channels, plane.height, plane.width].map(|n| n as i64);
        let m = if constant_current {
            potentials(neurons, current)?
        } else {
            current.f_detach()?.f_view(shape)?
        };
        let spikes = m.f_gt(0.0)?.f_to_kind(Kind::Float)?;
        let spike_gradient = unpool(to_frames, &plane, &spikes)?;
        let shape = surrogate_values(surrogate, &m, &spikes, steps)?;
        let through = spike_gradient.f_mul_scalar(f64::from(surrogate.height()))?.f_mul(&shape)?;
        let mut later = m.f_select(1, 0)?.f_zeros_like()?;
        let mut trains = Vec::new();
        let count = |t: &Tensor| -> Result<u64, ModelError> {
            Ok(t.f_count_nonzero(None)?.f_int64_value(&[])? as u64)
        };
        let activity =
            Activity { decisions: m.numel() as u64, spikes: count(&spikes)?, open: count(&shape)? };
        let mut found = NeuronFindings { activity, ..NeuronFindings::default() };
        let sum = |t: &Tensor| -> Result<f64, ModelError> { Ok(t.f_sum(Kind::Double)?.f_double_value(&[])?) };
        for t in (0..steps as i64).rev() {
            let e = through.f_select(1, t)?.f_div_scalar(theta)?.f_add(&later.f_mul_scalar(kept)?)?;
            if parameters {
                let (m, s) = (m.f_select(1, t)?, spikes.f_select(1, t)?);
                let potential = m.f_add_scalar(1.0)?;
                let (reset, left) = match firing {
                    Firing::BeforeInput => (1.0, potential.shallow_clone()),
                    Firing::AfterInput => (kept, potential.f_sub(&s)?),
                };
                found.threshold -= sum(&through.f_select(1, t)?.f_mul(&potential)?)? / theta;
                found.threshold -= reset * sum(&later.f_mul(&s)?)?;
                found.decay += theta * sum(&later.f_mul(&left)?)?;
            }
            trains.push(match firing {
                Firing::BeforeInput => later.shallow_clone(),
                Firing::AfterInput => e.shallow_clone(),
            });
            later = e;
        }
        if parameters {
            let first = sum(&later.f_mul(&neurons.starts)?)?;
            let (to_start, through_decay) = match firing {
                Firing::BeforeInput => (1.0, 0.0),
                Firing::AfterInput => (kept, 1.0),
            };
            found.threshold += to_start * first;
            found.decay += through_decay * theta * first;
        }
        trains.reverse();
        let gradient = Tensor::f_stack(&trains, 1)?;
        let gradient = if constant_current {
            gradient.f_sum_dim_intlist([1].as_slice(), false, Kind::Float)?
        } else {
            gradient
        };
        Ok((gradient.f_reshape(current.size())?, found))
    })
}

/// m for all steps, B x T x C x H x W, from currents.
fn potentials(neurons: &Neurons, current: &Tensor) -> Result<Tensor, ModelError> {
    let &Neurons { channels, plane, batch, steps, constant_current, .. } = neurons;
    let frames = if constant_current { 1 } else { steps };
    let shape = [batch, frames, channels, plane.height, plane.width].map(|n| n as i64);
    let current = current.f_detach()?.f_view(shape)?;
    let rule = tensors::Neurons::new(neurons.seen, current.device())?;
    let start = neurons.starts.f_mul_scalar(f64::from(neurons.dynamics.neuron.threshold()))?;
    let mut u = current.f_select(1, 0)?.f_zeros_like()?.f_add(&start)?;
    let mut ms = Vec::new();
    for t in 0..steps {
        let input = current.f_select(1, if constant_current { 0 } else { t as i64 })?;
        if let Some((units, kept)) = &neurons.leak {
            // See `Leak::apply`.
            let whole = u.f_to_kind(Kind::Double)?.f_div(units)?.f_add_scalar(0.5)?.f_round()?;
            let left = whole.f_mul_scalar(*kept)?.f_floor()?.f_sub_scalar(0.5)?;
            u = left.f_mul(units)?.f_to_kind(Kind::Float)?;
        }
        ms.push(rule.step(&mut u, &input)?.0);
    }
    Ok(Tensor::f_stack(&ms, 1)?)
}

/// The surrogate for all steps but for its height, B x T x C x H x W.
fn surrogate_values(
    surrogate: Surrogate,
    m: &Tensor,
    spikes: &Tensor,
    steps: usize,
) -> Result<Tensor, ModelError> {
    match surrogate.table(steps) {
        None => Ok(m.f_abs()?.f_neg()?.f_add_scalar(1.0)?.f_clamp_min(0.0)?),
        Some(stdb) => {
            // Entry 0 stands for never, entry dt for a last spike dt steps ago.
            let table: Vec<f32> = std::iter::once(stdb.value(0, None))
                .chain((1..=steps).map(|dt| stdb.value(dt, Some(0))))
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

/// Gradients of pooled frames spread over their windows: B x T x C x H x W, as the spikes.
fn unpool(to_frames: &Tensor, plane: &Plane, spikes: &Tensor) -> Result<Tensor, ModelError> {
    let shape = spikes.size();
    if plane.pool.is_none() {
        return Ok(to_frames.f_reshape(shape)?);
    }
    let input = spikes.f_detach_copy()?.set_requires_grad(true);
    let pooled = tch::with_grad(|| tensors::pooled(plane, &input, &mut None))?;
    let product = tch::with_grad(|| pooled.f_flatten(0, -1)?.f_dot(&to_frames.f_flatten(0, -1)?))?;
    let found = Tensor::f_run_backward(&[product], &[&input], false, false)?;
    Ok(found[0].f_reshape(shape)?)
}
