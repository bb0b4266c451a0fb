//! From a recording to what the first layer receives.
//!
//! Letters: B batch, T timesteps, P pixels of a recording (contacts x samples).

use std::fmt;
use std::str::FromStr;

use escape_network::rng::philox4x32;
use rayon::prelude::*;

use crate::random::{TorchGenerator, unit};

/// How recordings become input, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// The recording itself is a constant current; the first layer's synapses are computed once.
    Direct,
    /// Signed spikes whose rate is the recording's magnitude.
    Poisson,
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Direct => "direct",
            Self::Poisson => "poisson",
        })
    }
}

impl FromStr for Encoding {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "direct" => Ok(Self::Direct),
            "poisson" => Ok(Self::Poisson),
            _ => Err(format!("unknown encoder '{text}': expected poisson or direct")),
        }
    }
}

/// Turns recordings into input, with the random numbers it needs.
#[derive(Clone, Debug)]
pub enum Encoder {
    /// See [`Encoding::Direct`].
    Direct,
    /// The study's: s = sign(x) \[r <= 0.9 |x|\], one draw a pixel a step from PyTorch's generator, for the
    /// whole batch at once, steps in order.
    PublishedPoisson(TorchGenerator),
    /// s = sign(x) \[r < |x|\], each draw a function of (seed, recording, step, pixel) alone.
    Poisson {
        /// Key of the generator.
        seed: u64,
    },
}

/// The study's factor between magnitude and spike rate.
pub const PUBLISHED_GAIN: f32 = 0.9;

impl Encoder {
    /// Whether the input is the same at every step.
    pub fn is_direct(&self) -> bool {
        matches!(self, Self::Direct)
    }

    /// Spikes of B recordings of `pixels` pixels each over the next `steps` steps: B x T x P values of
    /// -1, 0 or 1. `first` is the index of the first recording in its file, `step` the number of the
    /// first step. A direct encoder has no spikes and gives the recordings back, B x P.
    pub fn encode(&mut self, x: &[f32], pixels: usize, first: usize, step: usize, steps: usize) -> Vec<f32> {
        if self.is_direct() {
            return x.to_vec();
        }
        self.draw_all(x, pixels, first, step, steps).into_iter().map(f32::from).collect()
    }

    /// The spikes of [`Encoder::encode`] as small numbers.
    pub fn draw_all(&mut self, x: &[f32], pixels: usize, first: usize, step: usize, steps: usize) -> Vec<i8> {
        let mut all = vec![0; x.len() * steps];
        if let Self::Poisson { .. } = self {
            all.par_chunks_mut(pixels).enumerate().for_each_init(
                || self.clone(),
                |encoder, (n, spikes)| {
                    let (b, t) = (n / steps, n % steps);
                    encoder.draw(&x[b * pixels..][..pixels], first + b, step + t, spikes);
                },
            );
            return all;
        }
        // Over the whole batch, step by step.
        for t in 0..steps {
            for (b, recording) in x.chunks_exact(pixels).enumerate() {
                self.draw(recording, first + b, step + t, &mut all[(b * steps + t) * pixels..][..pixels]);
            }
        }
        all
    }

    /// The spikes of one recording at one step, -1, 0 or 1 for each of its pixels. `index` is the recording's in its file, by
    /// which keyed encoders draw; others have to be asked in the order in which they draw. A direct encoder has none.
    pub fn draw(&mut self, x: &[f32], index: usize, step: usize, spikes: &mut [i8]) {
        match self {
            Self::Direct => spikes.fill(0),
            Self::PublishedPoisson(generator) => {
                for (spike, &v) in spikes.iter_mut().zip(x) {
                    let fires = generator.uniform() <= v.abs() * PUBLISHED_GAIN;
                    *spike = if fires { sign(v) as i8 } else { 0 };
                }
            }
            Self::Poisson { seed } => {
                let key = [*seed as u32, (*seed >> 32) as u32];
                let index = index as u64;
                for (group, (spikes, values)) in spikes.chunks_mut(4).zip(x.chunks(4)).enumerate() {
                    let counter = [group as u32, step as u32, index as u32, (index >> 32) as u32];
                    for ((spike, &v), r) in spikes.iter_mut().zip(values).zip(philox4x32(counter, key)) {
                        *spike = if unit(r) < v.abs() { sign(v) as i8 } else { 0 };
                    }
                }
            }
        }
    }
}

/// -1, 0 or 1; `f32::signum` has no 0.
fn sign(v: f32) -> f32 {
    if v == 0.0 { 0.0 } else { v.signum() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn poisson_rates_follow_the_magnitude() {
        let x: Vec<f32> = (0..400).map(|i| (i as f32 / 200.0) - 1.0).collect();
        let steps = 4000;
        for (mut encoder, gain) in
            [(Encoder::Poisson { seed: 3 }, 1.0), (Encoder::PublishedPoisson(TorchGenerator::new(3)), 0.9)]
        {
            let spikes = encoder.encode(&x, 400, 0, 0, steps);
            for (p, v) in x.iter().enumerate() {
                let sum: f32 = (0..steps).map(|t| spikes[t * 400 + p]).sum();
                let (rate, want) = (sum / steps as f32, gain * v);
                // Five standard deviations of a binomial.
                let band = 5.0 * (want.abs() * (1.0 - want.abs()) / steps as f32).sqrt() + 1e-6;
                assert!((rate - want).abs() <= band, "pixel {p}: {rate} against {want}");
            }
        }
    }

    #[test]
    fn keyed_draws_do_not_depend_on_batch_or_blocks() {
        let x: Vec<f32> = (0..30).map(|i| (i as f32 * 0.7).sin()).collect();
        let all = Encoder::Poisson { seed: 9 }.encode(&x, 10, 5, 0, 6);
        for b in 0..3 {
            for t in 0..6 {
                let one = Encoder::Poisson { seed: 9 }.encode(&x[b * 10..][..10], 10, 5 + b, t, 1);
                assert_eq!(one, all[(b * 6 + t) * 10..][..10]);
            }
        }
        assert_ne!(all, Encoder::Poisson { seed: 10 }.encode(&x, 10, 5, 0, 6));
    }

    #[test]
    fn published_draws_run_over_the_batch_step_by_step() {
        let x = [0.5f32, -0.5, 1.0, 0.0];
        let spikes = Encoder::PublishedPoisson(TorchGenerator::new(7)).encode(&x, 2, 0, 0, 3);
        let mut g = TorchGenerator::new(7);
        for t in 0..3 {
            for (i, v) in x.iter().enumerate() {
                let (b, p) = (i / 2, i % 2);
                let want = if g.uniform() <= v.abs() * 0.9 { sign(*v) } else { 0.0 };
                assert_eq!(spikes[(b * 3 + t) * 2 + p], want);
            }
        }
    }
}
