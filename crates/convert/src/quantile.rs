//! Percentiles of more values than one would like to keep.

/// Counts of positive float32 values by their leading 16 bits: sign, exponent and 7 bits of mantissa, so
/// that a quantile is known to within 2^-8 of itself from any number of values in fixed memory. Values up
/// to 0 share one bin, whose value is 0.
#[derive(Clone, Debug)]
pub struct Quantiles {
    bins: Vec<u64>,
    count: u64,
    largest: f32,
}

impl Default for Quantiles {
    fn default() -> Self {
        Self { bins: vec![0; 1 << 15], count: 0, largest: 0.0 }
    }
}

impl Quantiles {
    /// Adds values; NaN is not allowed.
    pub fn extend(&mut self, values: &[f32]) {
        for &v in values {
            let bits = if v > 0.0 { v.to_bits() >> 16 } else { 0 };
            self.bins[bits as usize] += 1;
            self.largest = self.largest.max(v);
        }
        self.count += values.len() as u64;
    }

    /// The largest value, floor 0.
    pub fn largest(&self) -> f32 {
        self.largest
    }

    /// The value below which `percent` percent of the values lie, linear within a bin; 0 without values.
    pub fn percentile(&self, percent: f64) -> f32 {
        if percent >= 100.0 {
            return self.largest;
        }
        let rank = percent / 100.0 * self.count as f64;
        let mut below = 0.0;
        for (i, &n) in self.bins.iter().enumerate() {
            if n > 0 && below + n as f64 >= rank {
                if i == 0 {
                    return 0.0;
                }
                let edge = |i: usize| f64::from(f32::from_bits((i as u32) << 16));
                let (low, high) = (edge(i), edge(i + 1));
                let value = low + (high - low) * (rank - below) / n as f64;
                return (value as f32).min(self.largest);
            }
            below += n as f64;
        }
        self.largest
    }
}

/// The value that a share of a known number of values exceeds, in memory that grows with that share only: for high
/// percentiles of many sets of values at once.
#[derive(Clone, Debug)]
pub struct Top {
    /// How many of the largest values are kept, at least 1.
    keep: usize,
    /// At least those, up to twice as many.
    values: Vec<f32>,
}

impl Top {
    /// For the value below which `percent` percent of `count` values lie.
    pub fn new(percent: f64, count: usize) -> Self {
        let above = ((1.0 - percent / 100.0) * count as f64).floor() as usize;
        Self { keep: above + 1, values: Vec::new() }
    }

    /// Adds values; NaN is not allowed.
    pub fn extend(&mut self, values: impl Iterator<Item = f32>) {
        for value in values.filter(|v| *v > 0.0) {
            self.values.push(value);
            if self.values.len() >= 2 * self.keep {
                self.prune();
            }
        }
    }

    fn prune(&mut self) {
        if self.values.len() > self.keep {
            self.values.select_nth_unstable_by(self.keep - 1, |a, b| b.total_cmp(a));
            self.values.truncate(self.keep);
        }
    }

    /// The value that is asked for, floor 0.
    pub fn value(mut self) -> f32 {
        if self.values.len() < self.keep {
            return 0.0;
        }
        self.prune();
        self.values.iter().copied().fold(f32::INFINITY, f32::min)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_share_is_found_in_little_memory() {
        let mut random = Stream::new(2, 0);
        let values: Vec<f32> = (0..10_000).map(|_| random.normal() as f32).collect();
        let mut sorted = values.clone();
        sorted.sort_by(|a, b| b.total_cmp(a));
        for percent in [100.0, 99.9, 99.0, 90.0, 30.0] {
            let mut top = Top::new(percent, values.len());
            values.chunks(700).for_each(|part| top.extend(part.iter().copied()));
            assert!(top.values.len() <= 2 * top.keep);
            let above = ((1.0 - percent / 100.0) * 10_000.0).floor() as usize;
            assert_eq!(top.value(), sorted[above].max(0.0), "{percent}");
        }
        assert_eq!(Top::new(99.0, 10).value(), 0.0);
    }
    use escape_network::rng::Stream;

    #[test]
    fn percentiles_agree_with_sorting() {
        let mut r = Stream::new(1, 0);
        let mut values: Vec<f32> =
            (0..50_000).map(|_| (r.uniform() * 8.0 - 2.0).exp() as f32 - 0.5).collect();
        let mut q = Quantiles::default();
        values.chunks(777).for_each(|c| q.extend(c));
        values.sort_by(f32::total_cmp);
        for p in [10.0, 50.0, 90.0, 99.0, 99.9] {
            let want = values[(p / 100.0 * values.len() as f64) as usize].max(0.0);
            let got = q.percentile(p);
            assert!((got - want).abs() <= want / 200.0 + 1e-6, "{p}: {got} against {want}");
        }
        assert_eq!(q.percentile(100.0), *values.last().unwrap());
        assert_eq!(q.largest(), *values.last().unwrap());
    }

    #[test]
    fn zeros_and_nothing_give_zero() {
        let mut q = Quantiles::default();
        assert_eq!(q.percentile(99.0), 0.0);
        q.extend(&[0.0, -1.0, 0.0]);
        assert_eq!(q.percentile(50.0), 0.0);
        assert_eq!(q.largest(), 0.0);
    }
}
