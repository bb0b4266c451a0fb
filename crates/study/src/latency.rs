//! How long answers took, over any number of them in memory of fixed size.

use std::time::Duration;

/// Bins grow by this factor, so that the middle of one is within 1 % of everything in it.
const GROWTH: f64 = 1.02;
/// The first bin ends here.
const LEAST: Duration = Duration::from_micros(1);
/// Bins; the last ends beyond a quarter of an hour.
const BINS: usize = 1060;

/// A histogram of durations in logarithmic bins.
#[derive(Clone, Debug)]
pub struct Latencies {
    /// Bin 0 holds what took at most [`LEAST`], bin b what took up to [`LEAST`] times [`GROWTH`]^b, the last all else.
    counts: Box<[u64; BINS]>,
    total: u64,
    worst: Duration,
}

impl Default for Latencies {
    fn default() -> Self {
        Self { counts: Box::new([0; BINS]), total: 0, worst: Duration::ZERO }
    }
}

impl Latencies {
    /// Adds one.
    pub fn add(&mut self, latency: Duration) {
        self.counts[bin(latency)] += 1;
        self.total += 1;
        self.worst = self.worst.max(latency);
    }

    /// The largest, exactly; `None` before the first.
    pub fn worst(&self) -> Option<Duration> {
        (self.total > 0).then_some(self.worst)
    }

    /// What a share of all of them did not exceed (0.5: the median), within 1 % from a microsecond to a quarter of an hour;
    /// `None` before the first.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let worst = self.worst()?;
        let rank = ((share * self.total as f64).ceil() as u64).clamp(1, self.total);
        let mut seen = 0;
        let bin = self.counts.iter().position(|count| {
            seen += count;
            seen >= rank
        })?;
        Some(middle(bin).min(worst))
    }
}

/// The bin of a duration.
fn bin(latency: Duration) -> usize {
    let times = latency.as_secs_f64() / LEAST.as_secs_f64();
    // A negative number becomes 0.
    ((times.ln() / GROWTH.ln()).ceil() as usize).min(BINS - 1)
}

/// The geometric middle of a bin.
fn middle(bin: usize) -> Duration {
    LEAST.mul_f64(GROWTH.powf(bin as f64 - 0.5))
}

#[cfg(test)]
mod tests {
    use super::*;
    use escape_network::rng::Stream;

    #[test]
    fn nothing_has_no_quantiles() {
        let none = Latencies::default();
        assert_eq!((none.quantile(0.5), none.worst()), (None, None));
    }

    #[test]
    fn quantiles_are_those_of_a_sorted_list_within_one_percent() {
        let mut random = Stream::new(3, 0);
        for scale in [2e-6, 1e-3, 0.5, 100.0] {
            let mut all: Vec<Duration> = (0..10_001)
                .map(|_| Duration::from_secs_f64(scale * (1.0 + 4.0 * random.uniform())))
                .collect();
            let mut found = Latencies::default();
            all.iter().for_each(|latency| found.add(*latency));
            all.sort_unstable();
            for share in [0.0, 0.25, 0.5, 0.99, 1.0] {
                let rank = ((share * all.len() as f64).ceil() as usize).max(1);
                let (exact, told) =
                    (all[rank - 1].as_secs_f64(), found.quantile(share).unwrap().as_secs_f64());
                assert!((told / exact - 1.0).abs() <= 0.0101, "{share} of {scale}: {told} against {exact}");
            }
            assert_eq!(found.worst(), all.last().copied());
        }
    }

    #[test]
    fn the_ends_hold_whatever_is_beyond_them() {
        let mut found = Latencies::default();
        found.add(Duration::ZERO);
        assert_eq!(found.quantile(1.0), Some(Duration::ZERO));
        found.add(Duration::from_secs(1 << 40));
        assert!(found.quantile(1.0).unwrap() > Duration::from_secs(900));
        assert_eq!((bin(LEAST), bin(LEAST * 2)), (0, 36));
    }
}
