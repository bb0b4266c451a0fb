//! Neurons on the CPU: one pass over memory, plane by plane, so that a membrane stays in cache while its
//! plane runs through all steps of the block.

use escape_model::ModelError;
use rayon::prelude::*;
use tch::{Device, Kind, Tensor};

use crate::scan::{Currents, Potential, Scan, Tally};
use escape_snn_core::engine::Spike;
use escape_snn_core::neuron::{count_nonzero, weigh_nonzero};

/// The values of a contiguous float32 tensor on the CPU.
///
/// # Errors
/// The tensor is of another kind, elsewhere, or not contiguous.
pub fn slice(tensor: &Tensor) -> Result<&[f32], ModelError> {
    slice_of(tensor, Kind::Float)
}

/// As [`slice()`], for writing. The caller must hold the only handle in use on this storage.
///
/// # Errors
/// It is not a contiguous float32 tensor on the CPU.
pub fn slice_mut(tensor: &mut Tensor) -> Result<&mut [f32], ModelError> {
    check(tensor, Kind::Float)?;
    // SAFETY: checked above; by contract no other handle reads or writes the storage during the borrow.
    Ok(unsafe { std::slice::from_raw_parts_mut(tensor.data_ptr() as *mut f32, tensor.numel()) })
}

/// As [`slice()`], of a kind with which `T` goes.
pub(crate) fn slice_of<T: tch::kind::Element>(tensor: &Tensor, kind: Kind) -> Result<&[T], ModelError> {
    check(tensor, kind)?;
    if T::KIND != kind {
        return Err(ModelError::Data(format!("expected values of {:?}, got {kind:?}", T::KIND)));
    }
    // SAFETY: checked above; the tensor outlives the borrow and nobody writes it meanwhile.
    Ok(unsafe { std::slice::from_raw_parts(tensor.data_ptr() as *const T, tensor.numel()) })
}

fn check(tensor: &Tensor, kind: Kind) -> Result<(), ModelError> {
    let fits = tensor.f_kind()? == kind && tensor.device() == Device::Cpu && tensor.is_contiguous();
    if fits && tensor.numel() > 0 {
        Ok(())
    } else {
        Err(ModelError::Data(format!("expected a contiguous CPU tensor of {kind:?}, got {tensor:?}")))
    }
}

impl Scan<'_> {
    /// Runs the block on the host: membrane potentials B x C x H x W (and as many counts of spikes, where a pooling over maxima
    /// asks for them), currents of B x T frames (B if constant), into
    /// frames B x T x C x padded plane.
    pub(crate) fn on_host<U: Potential>(
        &self,
        u: &mut [U],
        fired: &mut [f32],
        current: &Tensor,
        frames: &Tensor,
    ) -> Result<Tally, ModelError> {
        let current = current.f_contiguous()?;
        let current = Currents::of(&current)?;
        let mut frames = frames.shallow_clone();
        let frames = slice_mut(&mut frames)?;
        let neurons = self.channels * self.plane.neurons();
        let frame = self.channels * self.plane.padded_len();
        let per_recording = if self.constant_current { neurons } else { neurons * self.steps };
        // Without a pooling over maxima nobody counts, and each recording has none of nothing.
        let mut counts: Vec<&mut [f32]> = match fired.is_empty() {
            true => (0..self.batch).map(|_| &mut [][..]).collect(),
            false => fired.chunks_mut(neurons).collect(),
        };
        let tallies: Vec<Tally> = u
            .par_chunks_mut(neurons)
            .zip(counts.par_iter_mut())
            .zip(frames.par_chunks_mut(frame * self.steps))
            .enumerate()
            // Only the first recording's spikes are asked for.
            .map(|(b, ((u, fired), frames))| {
                let current = current.part(b * per_recording, per_recording);
                self.recording(u, fired, current, frames, self.record.filter(|_| b == 0))
            })
            .collect();
        let mut total = Tally::of(self.steps);
        for mut tally in tallies {
            total.spikes.iter_mut().zip(tally.spikes).for_each(|(a, b)| *a += b);
            total.sent.iter_mut().zip(tally.sent).for_each(|(a, b)| *a += b);
            total.recorded.append(&mut tally.recorded);
        }
        Ok(total)
    }

    /// One recording's neurons.
    fn recording<U: Potential>(
        &self,
        u: &mut [U],
        fired: &mut [f32],
        current: Currents<'_>,
        frames: &mut [f32],
        record: Option<(usize, usize)>,
    ) -> Tally {
        let size = self.plane.neurons();
        let (neurons, padded) = (self.channels * size, self.plane.padded_len());
        let mut tally = Tally::of(self.steps);
        let mut spikes = vec![0f32; size];
        for (c, u) in u.chunks_exact_mut(size).enumerate() {
            for t in 0..self.steps {
                let start = if self.constant_current { 0 } else { t * neurons } + c * size;
                U::step(self, c, u, current.part(start, size), &mut spikes);
                let out = &mut frames[(t * self.channels + c) * padded..][..padded];
                let counts = if fired.is_empty() { &mut [][..] } else { &mut fired[c * size..][..size] };
                self.plane.pool_into(&spikes, counts, out);
                tally.spikes[t] += u64::from(count_nonzero(&spikes));
                tally.sent[t] += match self.fan_out {
                    [everywhere] => u64::from(count_nonzero(out)) * u64::from(*everywhere),
                    by_pixel => self.sent(out, by_pixel),
                };
                if let Some((layer, first)) = record {
                    let fired = (0..size).filter(|&i| spikes[i] > 0.0);
                    let spike = |i| Spike { layer, step: first + t, neuron: c * size + i };
                    tally.recorded.extend(fired.map(spike));
                }
            }
        }
        tally
    }

    /// Operations that a padded frame causes in the next layer.
    fn sent(&self, frame: &[f32], fan_out: &[u32]) -> u64 {
        let width = self.plane.pooled.1;
        fan_out
            .chunks_exact(width)
            .enumerate()
            .map(|(r, weights)| u64::from(weigh_nonzero(&frame[self.plane.row(r)], weights)))
            .sum()
    }
}
