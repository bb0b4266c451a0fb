//! Filters along time. Frames are samples x channels, sample after sample, so that all channels of a sample are
//! filtered together.

use std::f64::consts::{FRAC_1_SQRT_2, PI, TAU};

use crate::SAMPLE_RATE_HZ;

/// A second-order filter: y\[t\] = b0 x\[t\] + b1 x\[t-1\] + b2 x\[t-2\] - a1 y\[t-1\] - a2 y\[t-2\].
#[derive(Debug, Clone, Copy)]
pub(super) struct Biquad {
    b: [f32; 3],
    a: [f32; 2],
}

impl Biquad {
    /// Butterworth's second-order low-pass (`high` false) or high-pass at `edge` hertz, by the bilinear transform with
    /// the edge kept in place.
    fn butterworth(edge: f64, high: bool) -> Self {
        let omega = TAU * edge / SAMPLE_RATE_HZ;
        let (sin, cos) = omega.sin_cos();
        let alpha = sin * FRAC_1_SQRT_2;
        let side = if high { (1.0 + cos) / 2.0 } else { (1.0 - cos) / 2.0 };
        let middle = if high { -2.0 * side } else { 2.0 * side };
        let norm = 1.0 + alpha;
        Self {
            b: [side, middle, side].map(|v| (v / norm) as f32),
            a: [-2.0 * cos, 1.0 - alpha].map(|v| (v / norm) as f32),
        }
    }

    /// A resonator of the band `low` to `high` hertz with zeros at 0 and half the sampling rate, which turns white noise
    /// of unit variance into noise of unit variance.
    pub(super) fn resonator([low, high]: [f64; 2]) -> Self {
        // y[t] = gain (e[t] - e[t - 2]) + a y[t - 1] + b y[t - 2]. The bandwidth of a pole pair of radius r is
        // -ln(r) * rate / pi.
        let radius = (-PI * (high - low) / SAMPLE_RATE_HZ).exp();
        let centre = TAU * (low * high).sqrt() / SAMPLE_RATE_HZ;
        let (a, b) = (2.0 * radius * centre.cos(), -radius * radius);
        // Variance for unit gain: twice that of the pole pair alone minus twice its autocovariance at lag 2.
        let variance = (1.0 - b) / ((1.0 + b) * ((1.0 - b).powi(2) - a * a));
        let lag1 = a / (1.0 - b) * variance;
        let lag2 = a * lag1 + b * variance;
        let gain = (2.0 * (variance - lag2)).sqrt().recip();
        Self { b: [gain, 0.0, -gain].map(|v| v as f32), a: [-a, -b].map(|v| v as f32) }
    }

    /// Filter `frames` in place; before them there was silence. `channels` values a sample.
    pub(super) fn run(&self, frames: &mut [f32], channels: usize) {
        let [b0, b1, b2] = self.b;
        let [a1, a2] = self.a;
        // Direct form II transposed: two values of state a channel.
        let mut state = vec![[0.0f32; 2]; channels];
        for frame in frames.chunks_exact_mut(channels) {
            for (value, [s1, s2]) in frame.iter_mut().zip(&mut state) {
                let x = *value;
                let y = b0 * x + *s1;
                *s1 = b1 * x - a1 * y + *s2;
                *s2 = b2 * x - a2 * y;
                *value = y;
            }
        }
    }
}

/// The amplifier's band: a high-pass and a low-pass of second order, both causal.
#[derive(Debug, Clone, Copy)]
pub(super) struct BandPass([Biquad; 2]);

impl BandPass {
    pub(super) fn new([low, high]: [f64; 2]) -> Self {
        Self([Biquad::butterworth(low, true), Biquad::butterworth(high, false)])
    }

    /// Filter `frames` in place; before them there was silence. `channels` values a sample.
    pub(super) fn run(&self, frames: &mut [f32], channels: usize) {
        self.0.iter().for_each(|section| section.run(frames, channels));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use escape_network::rng::Stream;

    /// Gain at a frequency, from the response to a long sine.
    fn gain(run: impl Fn(&mut [f32]), hz: f64) -> f64 {
        let mut wave: Vec<f32> =
            (0..6000).map(|t| (TAU * hz * f64::from(t) / SAMPLE_RATE_HZ).sin() as f32).collect();
        run(&mut wave);
        let late = &wave[3000..];
        (late.iter().map(|&v| f64::from(v * v)).sum::<f64>() / late.len() as f64 * 2.0).sqrt()
    }

    #[test]
    fn butterworth_s_gains() {
        let band = BandPass::new([300.0, 5000.0]);
        let at = |hz| gain(|wave| band.run(wave, 1), hz);
        for edge in [300.0, 5000.0] {
            assert!((at(edge) - FRAC_1_SQRT_2).abs() < 0.01, "{edge} Hz: {}", at(edge));
        }
        assert!((at(1200.0) - 1.0).abs() < 0.01, "{}", at(1200.0));
        // Second order: 12 dB an octave.
        assert!((at(50.0) - 1.0 / 36.0).abs() < 0.002, "{}", at(50.0));
        assert!(at(12_000.0) < 0.06, "{}", at(12_000.0));
    }

    #[test]
    fn channels_are_filtered_alike_and_apart() {
        let band = BandPass::new([300.0, 5000.0]);
        let mut random = Stream::new(3, 0);
        let one: Vec<f32> = (0..90).map(|_| random.normal() as f32).collect();
        let mut both: Vec<f32> = one.iter().flat_map(|&v| [v, 0.0, 2.0 * v]).collect();
        let mut alone = one;
        band.run(&mut alone, 1);
        band.run(&mut both, 3);
        for (t, v) in alone.iter().enumerate() {
            assert_eq!(both[3 * t..3 * t + 3], [*v, 0.0, 2.0 * v]);
        }
    }

    #[test]
    fn coloured_noise_has_unit_variance_and_its_band() {
        let resonator = Biquad::resonator([1000.0, 2000.0]);
        let mut random = Stream::new(1, 2);
        let mut noise: Vec<f32> = (0..300_000).map(|_| random.normal() as f32).collect();
        resonator.run(&mut noise, 1);
        let variance = noise.iter().map(|&v| f64::from(v * v)).sum::<f64>() / noise.len() as f64;
        assert!((variance - 1.0).abs() < 0.03, "{variance}");
        // Power follows the squared gain.
        let power = |hz| gain(|wave| resonator.run(wave, 1), hz).powi(2);
        let centre = power(1400.0);
        assert!(centre > 1.5 * power(1000.0).max(power(2000.0)), "narrower than its band");
        assert!(centre < 3.0 * power(1000.0).min(power(2000.0)), "wider than its band");
        assert!(centre > 20.0 * power(100.0).max(power(6000.0)), "not confined");
    }
}
