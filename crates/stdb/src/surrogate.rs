//! What stands in for the derivative of a spike s = \[m > 0\] with respect to m = v/theta - 1.

/// A surrogate derivative g = ds/dm.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Surrogate {
    /// g = gamma max(0, 1 - |m|) (Bellec et al., "Long short-term memory and learning-to-learn in networks
    /// of spiking neurons", NeurIPS 2018); the study takes gamma = 0.3.
    Linear {
        /// Height at the threshold.
        gamma: f32,
    },
    /// g = alpha exp(-beta dt), dt the steps since the neuron's last spike (Rathi et al., "Enabling deep
    /// spiking neural networks with hybrid conversion and spike timing dependent backpropagation", ICLR
    /// 2020, eq. 9); the study takes alpha = 0.3, beta = 0.01.
    Exponential {
        /// Value right after a spike.
        alpha: f32,
        /// Decay a step.
        beta: f32,
    },
}

/// The step at which a neuron counts as having fired before it ever did.
const NEVER: i64 = -1000;

impl Surrogate {
    /// The study's linear surrogate.
    pub const PUBLISHED_LINEAR: Self = Self::Linear { gamma: 0.3 };
    /// The study's exponential surrogate.
    pub const PUBLISHED_EXPONENTIAL: Self = Self::Exponential { alpha: 0.3, beta: 0.01 };
    /// The default preset's: the linear one at full height.
    pub const DEFAULT: Self = Self::Linear { gamma: 1.0 };

    /// The name used on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Linear { .. } => "linear",
            Self::Exponential { .. } => "exponential",
        }
    }

    /// The study's name for it in a checkpoint's `activation`.
    pub fn activation(self) -> &'static str {
        match self {
            Self::Linear { .. } => "Linear",
            Self::Exponential { .. } => "STDB",
        }
    }

    /// The factor gamma or alpha. It is multiplied to a gradient before the rest, as PyTorch does when the
    /// study's program runs backwards.
    pub fn height(self) -> f32 {
        match self {
            Self::Linear { gamma } => gamma,
            Self::Exponential { alpha, .. } => alpha,
        }
    }

    /// The exponential surrogate's table for runs of up to `steps` steps; the linear one needs none.
    pub fn table(self, steps: usize) -> Option<StdbTable> {
        match self {
            Self::Exponential { beta, .. } => Some(StdbTable::new(beta, steps)),
            Self::Linear { .. } => None,
        }
    }

    /// The linear surrogate's value but for its height; see [`StdbTable`] for the exponential one, which has a
    /// memory.
    #[inline(always)]
    pub fn triangle(m: f32) -> f32 {
        (1.0 - m.abs()).max(0.0)
    }
}

/// The exponential surrogate's values for T steps but for its height, by when the neuron last fired.
///
/// The study records a spike at step t as t - 1 and takes dt = (t - 1) - recorded, so dt is 1 right after
/// a spike; and it computes (exp(-dt))^beta, which in float32 is 0 once exp(-dt) underflows, so a
/// neuron that never fired has no gradient.
#[derive(Clone, Debug)]
pub struct StdbTable {
    by_steps_since: Vec<f32>,
    never: f32,
}

impl StdbTable {
    /// A table for runs of up to `steps` steps.
    pub fn new(beta: f32, steps: usize) -> Self {
        let value = |dt: f32| (-dt).exp().powf(beta);
        Self {
            by_steps_since: (0..=steps).map(|dt| value(dt as f32)).collect(),
            never: value((-1 - NEVER) as f32),
        }
    }

    /// g at step `now` of a neuron that last fired at step `last`, if it did.
    pub fn value(&self, now: usize, last: Option<usize>) -> f32 {
        last.map_or(self.never, |l| self.by_steps_since[now - l])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_linear_surrogate_is_a_triangle() {
        let g = |m| Surrogate::PUBLISHED_LINEAR.height() * Surrogate::triangle(m);
        assert_eq!([g(-1.5), g(-1.0), g(0.0), g(1.0), g(7.0)], [0.0, 0.0, 0.3, 0.0, 0.0]);
        assert!((g(0.5) - 0.15).abs() < 1e-7 && (g(-0.5) - 0.15).abs() < 1e-7);
    }

    #[test]
    fn the_exponential_surrogate_follows_the_studys_clock() {
        let table = StdbTable::new(0.01, 200);
        for (now, last) in [(1usize, 0usize), (9, 2), (100, 20)] {
            let want = (-0.01 * (now - last) as f64).exp();
            assert!((f64::from(table.value(now, Some(last))) - want).abs() < 1e-6);
        }
        assert_eq!(table.value(5, None), 0.0);
        // float32: exp(-104) is 0.
        assert_eq!(table.value(150, Some(10)), 0.0);
    }
}
