//! What the two simulators, [`mod@crate::simulate`] and [`crate::nerve`], have in common.

use std::f64::consts::{PI, TAU};

use serde::{Deserialize, Serialize};

use crate::SAMPLE_RATE_HZ;
use crate::error::DataError;

/// How a recording is brought to [-1, 1].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scaling {
    /// x / max|x|. Silence stays at 0: an encoder whose spike rate follows |x| is silent where the nerve is,
    /// and the sign of x keeps its meaning.
    MaxAbs,
    /// (x - min) / (max - min) * 2 - 1, as in the published recordings. Uses the whole range, but moves the
    /// baseline of each recording to another value, up to some tenths away from 0.
    MinMax,
}

impl Scaling {
    /// What is taken off each value of a recording from `min` to `max`, and then multiplied with it. A recording
    /// without any signal becomes 0.
    pub(crate) fn offset_and_factor(self, min: f64, max: f64) -> (f64, f64) {
        let (offset, factor) = match self {
            Self::MaxAbs => (0.0, max.abs().max(min.abs()).recip()),
            Self::MinMax => ((min + max) / 2.0, 2.0 / (max - min)),
        };
        (offset, if factor.is_finite() { factor } else { 0.0 })
    }
}

/// Whether `samples` recordings can be simulated by a configuration with these problems.
pub(crate) fn check(mut problems: Vec<String>, samples: usize) -> Result<(), DataError> {
    if samples == 0 {
        problems.push("samples: expected at least 1 recording, got 0".to_owned());
    }
    if problems.is_empty() { Ok(()) } else { Err(DataError::Config { path: None, problems }) }
}

/// Memory for `count` recordings of `size` values, all 0.
pub(crate) fn room(count: usize, size: usize) -> Result<Vec<f32>, DataError> {
    let out_of_memory =
        || DataError::OutOfMemory { path: None, bytes: (count as u64).saturating_mul(4 * size as u64) };
    let values = count.checked_mul(size).ok_or_else(out_of_memory)?;
    let mut x = Vec::new();
    x.try_reserve_exact(values).map_err(|_| out_of_memory())?;
    x.resize(values, 0.0);
    Ok(x)
}

/// A second-order resonator with zeros at 0 and half the sampling rate, which turns white noise of unit variance into
/// noise of unit variance: y[t] = gain (e[t] - e[t - 2]) + a y[t - 1] + b y[t - 2].
pub(crate) struct Resonance {
    pub(crate) a: f64,
    pub(crate) b: f64,
    pub(crate) gain: f64,
    /// Radius of its pole pair.
    pub(crate) radius: f64,
}

impl Resonance {
    /// That of the band `low` to `high`, in hertz.
    pub(crate) fn new([low, high]: [f64; 2]) -> Self {
        // The bandwidth of a pole pair of radius r is -ln(r) * rate / pi.
        let radius = (-PI * (high - low) / SAMPLE_RATE_HZ).exp();
        let centre = TAU * (low * high).sqrt() / SAMPLE_RATE_HZ;
        let (a, b) = (2.0 * radius * centre.cos(), -radius * radius);
        // Variance for unit gain: twice that of the pole pair alone minus twice its autocovariance at lag 2.
        let variance = (1.0 - b) / ((1.0 + b) * ((1.0 - b).powi(2) - a * a));
        let lag1 = a / (1.0 - b) * variance;
        let lag2 = a * lag1 + b * variance;
        let gain = (2.0 * (variance - lag2)).sqrt().recip();
        Self { a, b, gain, radius }
    }
}
