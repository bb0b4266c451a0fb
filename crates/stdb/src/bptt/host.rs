//! Neurons on the CPU, plane by plane, so that a plane's potentials stay in cache for all its timesteps.

use escape_dense::{slice, slice_mut};
use escape_model::ModelError;
use escape_snn_core::neuron::{step_all, step_all_traced};
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
                for c in 0..channels {
                    u.fill(start);
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
                            &mut [],
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
                for c in 0..channels {
                    let gradient = |t: usize, out: &mut [f32]| {
                        plane.unpool_from(&to_frames[(t * channels + c) * padded..][..padded], out);
                    };
                    if !constant_current {
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
