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

#[cfg(test)]
mod tests {
    use super::*;
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
