//! Neurons on the CPU, plane by plane, so that a plane's potentials stay in cache for all its timesteps.

use escape_dense::{slice, slice_mut};
use escape_model::ModelError;
use escape_snn_core::neuron::{Plane, step_all, step_all_traced};
use rayon::prelude::*;
use tch::{Device, Kind, Tensor};

use super::{Kernels, Neurons};
use crate::scan::{NeuronGradients, Scratch};

/// See the module.
pub(super) struct Host;

impl Kernels for Host {
    fn forward(&self, neurons: &Neurons, current: &Tensor) -> Result<Tensor, ModelError> {
        let &Neurons { dynamics, start, channels, plane, batch, steps, constant_current, .. } = neurons;
        let (size, padded) = (plane.neurons(), plane.padded_len());
        let all = channels * size;
        let (rows, columns) = plane.padded();
        let shape = [batch * steps, channels, rows, columns].map(|n| n as i64);
        let mut frames = Tensor::f_zeros(shape, (Kind::Float, Device::Cpu))?;
        let mut trace = current.f_detach()?;
        let per_recording = if constant_current { all } else { all * steps };
        slice_mut(&mut trace)?
            .par_chunks_mut(per_recording)
            .zip(slice_mut(&mut frames)?.par_chunks_mut(channels * padded * steps))
            .for_each(|(trace, frames)| {
                let (mut u, mut spikes) = (vec![0f32; size], vec![0f32; size]);
                let mut fired = vec![0f32; if plane.counts() { size } else { 0 }];
                for c in 0..channels {
                    u.fill(start);
                    fired.fill(0.0);
                    for t in 0..steps {
                        if constant_current {
                            step_all(dynamics, &mut u, &trace[c * size..][..size], &mut spikes);
                        } else {
                            step_all_traced(
                                dynamics,
                                &mut u,
                                &mut trace[t * all + c * size..][..size],
                                &mut spikes,
                            );
                        }
                        plane.pool_into(
                            &spikes,
                            &mut fired,
                            &mut frames[(t * channels + c) * padded..][..padded],
                        );
                    }
                }
            });
        Ok(frames)
    }

    fn backward(
        &self,
        neurons: &Neurons,
        current: &Tensor,
        to_frames: &Tensor,
    ) -> Result<(Tensor, NeuronGradients), ModelError> {
        let &Neurons { dynamics, start, channels, plane, steps, constant_current, .. } = neurons;
        let (size, padded) = (plane.neurons(), plane.padded_len());
        let all = channels * size;
        let rule = neurons.backward();
        let to_frames = to_frames.f_contiguous()?;
        let mut trace = current.f_detach()?;
        let per_recording = if constant_current { all } else { all * steps };
        let found: Vec<NeuronGradients> = slice_mut(&mut trace)?
            .par_chunks_mut(per_recording)
            .zip(slice(&to_frames)?.par_chunks(channels * padded * steps))
            .map(|(trace, to_frames)| {
                let mut scratch = Scratch::default();
                let mut sum = NeuronGradients::default();
                let (mut u, mut spikes, mut again) = (Vec::new(), Vec::new(), Vec::new());
                let mut maxima = Maxima::default();
                for c in 0..channels {
                    let of_step = |t: usize| &to_frames[(t * channels + c) * padded..][..padded];
                    if plane.counts() && !constant_current {
                        maxima.begin(&plane, steps, |t| &trace[t * all + c * size..][..size]);
                    }
                    if !constant_current {
                        let gradient = |t: usize, out: &mut [f32]| match plane.counts() {
                            true => maxima.back(&plane, t, of_step(t), out),
                            false => plane.unpool_from(of_step(t), out),
                        };
                        sum += rule.plane(trace, (c * size, all, size), steps, &mut scratch, gradient);
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
                    if plane.counts() {
                        maxima.begin(&plane, steps, |t| &again[t * size..][..size]);
                    }
                    let gradient = |t: usize, out: &mut [f32]| match plane.counts() {
                        true => maxima.back(&plane, t, of_step(t), out),
                        false => plane.unpool_from(of_step(t), out),
                    };
                    sum += rule.plane(&mut again, (0, size, size), steps, &mut scratch, gradient);
                    current.fill(0.0);
                    for each in again.chunks_exact(size) {
                        current.iter_mut().zip(each).for_each(|(a, b)| *a += b);
                    }
                }
                sum
            })
            .collect();
        let mut total = NeuronGradients::default();
        found.into_iter().for_each(|f| total += f);
        Ok((trace, total))
    }
}

/// The way back through a pooling over maxima. What a window has sent by step t is M\[t\], the largest count of its neurons,
/// so that it sends M\[t\] - M\[t - 1\] at t; the gradient of a maximum is that of its leader. With g\[t\] the gradient of
/// what is sent, a neuron's spike at t counts in every M\[t'\], t' >= t, that it leads: dL/ds\[t\] is the sum over them of
/// g\[t'\] - g\[t' + 1\].
#[derive(Default)]
struct Maxima {
    /// The leader of each window after each step, T x windows.
    leaders: Vec<u32>,
    /// What each neuron's spike counts from the step on that was last gone back through.
    sum: Vec<f32>,
    /// g of the step after, of each window.
    later: Vec<f32>,
    fired: Vec<f32>,
}

impl Maxima {
    /// For a plane whose m at a step `m` gives.
    fn begin<'a>(&mut self, plane: &Plane, steps: usize, m: impl Fn(usize) -> &'a [f32]) {
        let (size, windows) = (plane.neurons(), plane.pooled.0 * plane.pooled.1);
        self.leaders.clear();
        for (buffer, length) in [(&mut self.sum, size), (&mut self.fired, size), (&mut self.later, windows)] {
            buffer.clear();
            buffer.resize(length, 0.0);
        }
        for t in 0..steps {
            self.fired.iter_mut().zip(m(t)).for_each(|(fired, m)| *fired += f32::from(u8::from(*m > 0.0)));
            plane.leaders(&self.fired, &mut self.leaders);
        }
    }

    /// One step back, from the last one downwards: dL/ds from the padded gradient of what is sent.
    fn back(&mut self, plane: &Plane, t: usize, to_frame: &[f32], out: &mut [f32]) {
        let columns = plane.pooled.1;
        let leaders = &self.leaders[t * self.later.len()..][..self.later.len()];
        for r in 0..plane.pooled.0 {
            let sent = to_frame[plane.row(r)].iter();
            let windows = r * columns..(r + 1) * columns;
            for ((g, later), leader) in sent.zip(&mut self.later[windows.clone()]).zip(&leaders[windows]) {
                self.sum[*leader as usize] += g - *later;
                *later = *g;
            }
        }
        out.copy_from_slice(&self.sum);
    }
}
