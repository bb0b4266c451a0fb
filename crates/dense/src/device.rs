//! Neurons by tensor operations, for CUDA; the arithmetic is that of [`escape_snn_core::neuron::step`].

use escape_model::ModelError;
use escape_model::ann::to_vec;
use tch::{Device, Kind, Tensor};

use crate::{Scan, Tally};
use escape_snn_core::neuron::Firing;

impl Scan<'_> {
    /// Runs the block on the membranes' device: membranes B x C x H x W, currents of B x T frames (B if
    /// held); returns frames B x T x C x pooled plane. `events` gets (step, neuron) of the first
    /// recording's spikes.
    pub(super) fn on_device(
        &self,
        u: &mut Tensor,
        current: &Tensor,
        events: Option<&mut Vec<(usize, usize)>>,
    ) -> Result<(Tensor, Tally), ModelError> {
        let [batch, steps, channels] = [self.batch, self.steps, self.channels].map(|n| n as i64);
        let (height, width) = (self.plane.height as i64, self.plane.width as i64);
        // As a tensor on the device: divided by a number, CUDA would multiply by its reciprocal instead.
        let threshold = Tensor::f_full([1], f64::from(self.dynamics.threshold), (Kind::Float, u.device()))?;
        let current = current.f_view([batch, -1, channels, height, width])?;
        let mut trains = Vec::new();
        for t in 0..steps {
            let input = current.f_select(1, if self.held { 0 } else { t })?;
            let integrated = u.f_mul_scalar(f64::from(self.dynamics.leak))?.f_add(&input)?;
            let deciding = match self.dynamics.firing {
                Firing::BeforeInput => &*u,
                Firing::AfterInput => &integrated,
            };
            let spikes = deciding.f_div(&threshold)?.f_sub_scalar(1.0)?.f_gt(0.0)?.f_to_kind(Kind::Float)?;
            *u = integrated.f_sub(&spikes.f_mul(&threshold)?)?;
            trains.push(spikes);
        }
        let spikes = Tensor::f_stack(&trains, 1)?;
        let per_step = |totals: Tensor| -> Result<Vec<u64>, ModelError> {
            let totals: Vec<i64> = totals.f_to_device(Device::Cpu)?.try_into()?;
            Ok(totals.into_iter().map(|n| n as u64).collect())
        };
        let count = per_step(spikes.f_sum_dim_intlist([0, 2, 3, 4].as_slice(), false, Kind::Int64)?)?;
        if let Some(events) = events {
            let neurons = self.channels * self.plane.neurons();
            let first = to_vec(&spikes.f_select(0, 0)?)?;
            events.extend((0..first.len()).filter(|&i| first[i] > 0.0).map(|i| (i / neurons, i % neurons)));
        }
        let mut frames = spikes.f_view([batch * steps, channels, height, width])?;
        if self.plane.pool > 1 {
            let size = [self.plane.pool as i64; 2];
            frames = frames.f_avg_pool2d(size, size, [0, 0], false, true, None::<i64>)?;
        }
        let (rows, columns) = self.plane.pooled();
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
        Ok((frames, Tally { spikes: count, sent }))
    }
}
