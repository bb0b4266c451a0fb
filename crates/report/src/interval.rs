//! How sure a number is: of a share of recordings, and of a value over several seeds.

use std::fmt;

/// Half the width of a 95% interval in standard deviations of a normal distribution.
const Z: f64 = 1.959_964;

/// A value and the ends of the interval around it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// The value, between the ends.
    pub value: f64,
    /// Its lower end.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
}

/// Standard error of a share p of n independent recordings: sqrt(p (1 - p) / n). Not finite without recordings.
pub fn standard_error(share: f64, n: u64) -> f64 {
    (share * (1.0 - share) / n as f64).sqrt()
}

/// Wilson's 95% interval of a share of n independent recordings, which stays within 0 and 1 and has a width at both. `None` without
/// recordings, and for what is no share.
pub fn wilson(share: f64, n: u64) -> Option<Interval> {
    if n == 0 || !(0.0..=1.0).contains(&share) {
        return None;
    }
    let n = n as f64;
    let wider = 1.0 + Z * Z / n;
    let middle = (share + Z * Z / (2.0 * n)) / wider;
    let half = Z / wider * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
    // Of 0 and 1 only rounding would leave the range.
    let (low, high) = ((middle - half).clamp(0.0, share), (middle + half).clamp(share, 1.0));
    Some(Interval { value: share, low, high })
}

/// A quantity over the seeds that reach it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// Mean.
    pub mean: f64,
    /// Standard deviation of a single seed, by n - 1; of one seed none.
    pub deviation: Option<f64>,
    /// n.
    pub seeds: usize,
}

impl Spread {
    /// Of these values; none of no values.
    pub fn of(values: &[f64]) -> Option<Self> {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
        let deviation = (values.len() > 1).then(|| (squares / (n - 1.0)).sqrt());
        // Of equal values rounding may leave something.
        let deviation = deviation.map(|sd| if sd > 1e-9 * mean.abs() { sd } else { 0.0 });
        (!values.is_empty()).then_some(Self { mean, deviation, seeds: values.len() })
    }

    /// The standard error of an accuracy's mean, of N recordings: those are the same for all seeds, so that more seeds do not
    /// make their share smaller.
    pub fn standard_error(&self, recordings: f64) -> f64 {
        let of_seeds = self.deviation.map_or(0.0, |sd| sd * sd / self.seeds as f64);
        (of_seeds + binomial(self.mean, recordings)).sqrt()
    }
}

/// The variance of a share of N recordings.
pub(crate) fn binomial(share: f64, recordings: f64) -> f64 {
    share * (1.0 - share) / recordings.max(1.0)
}

impl Spread {
    /// The mean and one standard deviation to either side, where there is one.
    pub fn interval(&self) -> Option<Interval> {
        let deviation = self.deviation?;
        Some(Interval { value: self.mean, low: self.mean - deviation, high: self.mean + deviation })
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.deviation {
            Some(deviation) => write!(f, "{:.3} \u{b1} {deviation:.3}", self.mean),
            None => write!(f, "{:.3}", self.mean),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shares_interval() {
        // Wilson's interval of 8 of 10, as in Brown, Cai and DasGupta (2001) and R's prop.test without correction.
        let interval = wilson(0.8, 10).unwrap();
        assert!(
            (interval.low - 0.4902).abs() < 5e-5 && (interval.high - 0.9433).abs() < 5e-5,
            "{interval:?}"
        );
        let (none, all) = (wilson(0.0, 20).unwrap(), wilson(1.0, 20).unwrap());
        assert!(none.low == 0.0 && (none.high - 0.1611).abs() < 5e-5, "{none:?}");
        assert!(all.high == 1.0 && (all.low - (1.0 - none.high)).abs() < 1e-12, "{all:?}");
        assert_eq!((wilson(0.5, 0), wilson(f64::NAN, 9), wilson(1.1, 9)), (None, None, None));
        // Of many recordings it is the normal one.
        let many = wilson(0.722, 7835).unwrap();
        assert!((many.high - many.low - 2.0 * Z * standard_error(0.722, 7835)).abs() < 1e-5);
        assert!((standard_error(0.775, 200) - 0.02953).abs() < 1e-5 && !standard_error(0.5, 0).is_finite());
    }

    #[test]
    fn spreads_are_of_a_sample() {
        let spread = Spread::of(&[0.6, 0.7, 0.8]).unwrap();
        assert!((spread.mean - 0.7).abs() < 1e-12 && (spread.deviation.unwrap() - 0.1).abs() < 1e-12);
        assert_eq!(spread.to_string(), "0.700 \u{b1} 0.100");
        assert_eq!(Spread::of(&[0.5]).unwrap().to_string(), "0.500");
        assert!(Spread::of(&[]).is_none());
        // 0.21 / 100 of the recordings, 0.01 / 3 of the seeds.
        assert!((spread.standard_error(100.0) - (0.0021f64 + 0.01 / 3.0).sqrt()).abs() < 1e-12);
    }
}
