//! Neurons by tensor operations, for CUDA; the arithmetic is that of [`escape_snn_core::neuron::step`].
//!
//! Letters: B batch, T timesteps, C channels, H rows, W columns.

use escape_model::ModelError;
use escape_model::ann::to_vec;
use escape_network::sequential::Pooling;
use escape_snn_core::engine::Spike;
use escape_snn_core::integer::NO_DECAY;
use escape_snn_core::neuron::{Dynamics, Firing, Plane, Reset};
use tch::{Device, Kind, Tensor};

use crate::scan::{Rule, Scan, Tally};

/// Neurons of one layer with their potentials, of any shape, on one device.
#[derive(Debug)]
pub struct Neurons {
    dynamics: Dynamics,
    /// As a tensor on the device: divided by a number, CUDA would multiply by its reciprocal instead.
    threshold: Tensor,
}

impl Neurons {
    /// For potentials on `device`.
    ///
    /// # Errors
    /// Of libtorch.
    pub fn new(dynamics: Dynamics, device: Device) -> Result<Self, ModelError> {
        let threshold = f64::from(dynamics.neuron.threshold());
        Ok(Self { dynamics, threshold: Tensor::f_full([1], threshold, (Kind::Float, device))? })
    }

    /// One timestep: replaces the potentials `u` by those after it; returns m and the spikes, 0 or 1.
    ///
    /// # Errors
    /// Of libtorch: shapes that differ.
    pub fn step(&self, u: &mut Tensor, current: &Tensor) -> Result<(Tensor, Tensor), ModelError> {
        let integrated = u.f_mul_scalar(f64::from(self.dynamics.neuron.decay()))?.f_add(current)?;
        let deciding = match self.dynamics.firing {
            Firing::BeforeInput => &*u,
            Firing::AfterInput => &integrated,
        };
        let m = deciding.f_div(&self.threshold)?.f_sub_scalar(1.0)?;
        let spikes = m.f_gt(0.0)?.f_to_kind(Kind::Float)?;
        *u = match self.dynamics.reset {
            Reset::Subtraction => integrated.f_sub(&spikes.f_mul(&self.threshold)?)?,
            Reset::Zero => integrated.f_mul(&spikes.f_rsub_scalar(1.0)?)?,
        };
        Ok((m, spikes))
    }
}

/// Neurons of one layer in whole numbers, see [`escape_snn_core::integer`].
#[derive(Debug)]
struct WholeNeurons {
    /// Of shapes that meet the potentials': a threshold for each channel, or for each neuron of a linear layer.
    thresholds: Tensor,
    decay: i32,
}

impl WholeNeurons {
    fn new(thresholds: &[i32], decay: i32, channels: usize, device: Device) -> Result<Self, ModelError> {
        let shape = if channels == 1 { [1, 1, 1, -1] } else { [1, -1, 1, 1] };
        let thresholds = Tensor::f_from_slice(thresholds)?.f_view(shape)?.f_to_device(device)?;
        Ok(Self { thresholds, decay })
    }

    /// One timestep: replaces the potentials `u`, returns the spikes.
    fn step(&self, u: &mut Tensor, current: &Tensor) -> Result<Tensor, ModelError> {
        let kept = match self.decay {
            NO_DECAY => u.shallow_clone(),
            decay => u
                .f_to_kind(Kind::Int64)?
                .f_mul_scalar(i64::from(decay))?
                .f_floor_divide_scalar(i64::from(NO_DECAY))?
                .f_to_kind(Kind::Int)?,
        };
        let integrated = kept.f_add(&current.f_to_kind(Kind::Int)?)?;
        let fires = integrated.f_gt_tensor(&self.thresholds)?;
        *u = integrated.f_sub(&fires.f_to_kind(Kind::Int)?.f_mul(&self.thresholds)?)?;
        Ok(fires.f_to_kind(Kind::Float)?)
    }
}

/// Neurons of either kind.
enum AnyNeurons {
    Real(Neurons),
    Whole(WholeNeurons),
}

impl AnyNeurons {
    fn new(scan: &Scan<'_>, device: Device) -> Result<Self, ModelError> {
        Ok(match scan.rule {
            Rule::Real(dynamics) => Self::Real(Neurons::new(dynamics, device)?),
            Rule::Whole { thresholds, decay } => {
                Self::Whole(WholeNeurons::new(thresholds, decay, scan.channels, device)?)
            }
        })
    }

    /// One timestep: replaces the potentials `u`, returns the spikes.
    fn step(&self, u: &mut Tensor, current: &Tensor) -> Result<Tensor, ModelError> {
        match self {
            Self::Real(neurons) => Ok(neurons.step(u, current)?.1),
            Self::Whole(neurons) => neurons.step(u, current),
        }
    }
}

impl Scan<'_> {
    /// Runs the block on the potentials' device: they are B x C x H x W, currents of B x T frames (B if constant);
    /// returns frames B x T x C x pooled plane.
    pub(crate) fn on_device(
        &self,
        u: &mut Tensor,
        fired: &mut Option<Tensor>,
        current: &Tensor,
    ) -> Result<(Tensor, Tally), ModelError> {
        let [batch, steps, channels] = [self.batch, self.steps, self.channels].map(|n| n as i64);
        let (height, width) = (self.plane.height as i64, self.plane.width as i64);
        let neurons = AnyNeurons::new(self, u.device())?;
        let current = current.f_view([batch, -1, channels, height, width])?;
        let mut trains = Vec::new();
        for t in 0..steps {
            let input = current.f_select(1, if self.constant_current { 0 } else { t })?;
            trains.push(neurons.step(u, &input)?);
        }
        let spikes = Tensor::f_stack(&trains, 1)?;
        let per_step = |totals: Tensor| -> Result<Vec<u64>, ModelError> {
            let totals: Vec<i64> = totals.f_to_device(Device::Cpu)?.try_into()?;
            Ok(totals.into_iter().map(|n| n as u64).collect())
        };
        let count = per_step(spikes.f_sum_dim_intlist([0, 2, 3, 4].as_slice(), false, Kind::Int64)?)?;
        let mut recorded = Vec::new();
        if let Some((layer, start)) = self.record {
            let neurons = self.channels * self.plane.neurons();
            let first = to_vec(&spikes.f_select(0, 0)?)?;
            let fired = (0..first.len()).filter(|&i| first[i] > 0.0);
            recorded.extend(fired.map(|i| Spike { layer, step: start + i / neurons, neuron: i % neurons }));
        }
        let frames = pooled(&self.plane, &spikes, fired)?;
        let (rows, columns) = self.plane.pooled;
        let weights: Vec<i64> = match self.fan_out {
            [everywhere] => vec![i64::from(*everywhere); rows * columns],
            by_pixel => by_pixel.iter().map(|&n| i64::from(n)).collect(),
        };
        let weights = Tensor::f_from_slice(&weights)?.f_to_device(frames.device())?;
        let arrivals = frames
            .f_ne(0.0)?
            .f_view([batch, steps, channels, (rows * columns) as i64])?
            .f_sum_dim_intlist([0, 2].as_slice(), false, Kind::Int64)?;
        let sent =
            per_step(arrivals.f_mul(&weights)?.f_sum_dim_intlist([1].as_slice(), false, Kind::Int64)?)?;
        Ok((frames, Tally { spikes: count, sent, recorded }))
    }
}

/// What a plane's neurons send of spikes B x T x C x H x W: frames B T x C x pooled plane. `fired`, B x C x H x W, is how often
/// each neuron fired before, where the pooling asks for it, and is brought up to date.
///
/// # Errors
/// Of libtorch: shapes that differ.
pub fn pooled(plane: &Plane, spikes: &Tensor, fired: &mut Option<Tensor>) -> Result<Tensor, ModelError> {
    let size = spikes.size();
    let frames = spikes.f_reshape([size[0] * size[1], size[2], size[3], size[4]])?;
    let Some(pool) = &plane.pool else { return Ok(frames) };
    if pool.pooling != Pooling::Max {
        let means = escape_model::ann::pool(pool, &frames)?;
        let window = (pool.kernel.0 * pool.kernel.1) as f32;
        // A sum is a mean times the window, but not to the last bit.
        return Ok(match plane.share == 1.0 / window {
            true => means,
            false => {
                means.f_mul_scalar(f64::from(window))?.f_round()?.f_mul_scalar(f64::from(plane.share))?
            }
        });
    }
    // The largest count of each window, before and after each step.
    let before = match fired {
        Some(fired) => fired.shallow_clone(),
        None => spikes.f_select(1, 0)?.f_zeros_like()?,
    };
    let totals = spikes.f_cumsum(1, Kind::Float)?.f_add(&before.f_unsqueeze(1)?)?;
    if let Some(fired) = fired {
        *fired = totals.f_select(1, size[1] - 1)?.f_detach_copy()?;
    }
    let all = Tensor::f_cat(&[&before.f_unsqueeze(1)?, &totals], 1)?;
    let frames = all.f_reshape([size[0] * (size[1] + 1), size[2], size[3], size[4]])?;
    let (rows, columns) = (plane.pooled.0 as i64, plane.pooled.1 as i64);
    let most =
        escape_model::ann::pool(pool, &frames)?.f_view([size[0], size[1] + 1, size[2], rows, columns])?;
    let gained = most.f_narrow(1, 1, size[1])?.f_sub(&most.f_narrow(1, 0, size[1])?)?;
    Ok(gained.f_reshape([size[0] * size[1], size[2], rows, columns])?)
}
