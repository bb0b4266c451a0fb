//! Neurons by tensor operations, for CUDA: the same arithmetic as on the host.

use escape_dense::tensors;
use escape_model::ModelError;
use escape_snn_core::neuron::{Dynamics, Firing, Plane};
use tch::{Kind, Tensor};

use super::{Kernels, Neurons};
use crate::scan::NeuronGradients;
use crate::surrogate::Surrogate;

/// See the module.
pub(super) struct Tensors;

impl Kernels for Tensors {
    fn forward(&self, neurons: &Neurons, current: &Tensor) -> Result<Tensor, ModelError> {
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

    fn backward(
        &self,
        neurons: &Neurons,
        current: &Tensor,
        to_frames: &Tensor,
    ) -> Result<(Tensor, NeuronGradients), ModelError> {
        let &Neurons {
            channels, plane, batch, steps, constant_current, fraction, surrogate, parameters, ..
        } = neurons;
        let Dynamics { neuron, firing } = neurons.dynamics;
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
            let mut found = NeuronGradients::default();
            let sum =
                |t: &Tensor| -> Result<f64, ModelError> { Ok(t.f_sum(Kind::Double)?.f_double_value(&[])?) };
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
                let fraction = f64::from(fraction);
                let first = sum(&later)?;
                let (to_start, through_decay) = match firing {
                    Firing::BeforeInput => (1.0, 0.0),
                    Firing::AfterInput => (kept, 1.0),
                };
                found.threshold += fraction * to_start * first;
                found.decay += through_decay * fraction * theta * first;
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
}

/// m for all steps, B x T x C x H x W, from currents.
fn potentials(neurons: &Neurons, current: &Tensor) -> Result<Tensor, ModelError> {
    let &Neurons { channels, plane, batch, steps, constant_current, .. } = neurons;
    let frames = if constant_current { 1 } else { steps };
    let shape = [batch, frames, channels, plane.height, plane.width].map(|n| n as i64);
    let current = current.f_detach()?.f_view(shape)?;
    let rule = tensors::Neurons::new(neurons.dynamics, current.device())?;
    let mut u = current.f_select(1, 0)?.f_full_like(f64::from(neurons.start))?;
    let mut ms = Vec::new();
    for t in 0..steps {
        let input = current.f_select(1, if constant_current { 0 } else { t as i64 })?;
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
