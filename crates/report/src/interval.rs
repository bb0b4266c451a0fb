//! How sure a number is: of a share of recordings, and of a value over several seeds.

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

/// Mean of values of several seeds, and one standard deviation (of the sample, n - 1) to either side. `None` of fewer than two
/// values, or where one is not finite.
pub fn over_seeds(values: &[f64]) -> Option<Interval> {
    if values.len() < 2 || values.iter().any(|value| !value.is_finite()) {
        return None;
    }
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let deviation = (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (n - 1.0)).sqrt();
    Some(Interval { value: mean, low: mean - deviation, high: mean + deviation })
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
    fn a_deviation_over_seeds() {
        let interval = over_seeds(&[0.70, 0.72, 0.74]).unwrap();
        let ends = [interval.value, interval.low, interval.high];
        for (got, expected) in ends.into_iter().zip([0.72, 0.70, 0.74]) {
            assert!((got - expected).abs() < 1e-12, "{interval:?}");
        }
        assert_eq!((over_seeds(&[0.7]), over_seeds(&[0.7, f64::NAN])), (None, None));
    }
}
