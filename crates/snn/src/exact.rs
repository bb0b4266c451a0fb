//! Weights on a grid on which every order of summation gives the same result.
//!
//! A float32 sum depends on its order, a convolution's order on batch size, threads, device and engine;
//! and a spiking neuron turns a difference in the last bit into a spike more or less. Spikes are multiples
//! of 1 (of 1/4 after pooling), so if a neuron's weights are multiples of some g and no partial sum exceeds
//! 2^24 g (2^22 g), then every partial sum is a float32 number and nothing is ever rounded. The grid is
//! chosen for each output channel from its sum of |w|, the largest value any partial sum can reach. For
//! this network that leaves 9 to 12 bits a weight, and the rounding is far below a threshold.

/// Bits between the largest partial sum and the grid so that sums of float32 spikes are exact; less
/// log2 of the number of values in a pooling window.
pub const SPIKE_BITS: i32 = 24;
/// Likewise where a recording, on a grid of 2^-24, is summed in float64: 53 bits less the recording's 24.
pub const ANALOG_BITS: i32 = 29;

/// Rounds each row of `row` weights, with its entry of `bias` if there are any, to its own grid,
/// 2^(ceil(log2(sum of |w|)) - bits).
pub fn round_rows(weights: &mut [f32], bias: &mut [f32], row: usize, bits: i32) {
    let sum = |w: &[f32]| w.iter().map(|&v| f64::from(v).abs()).sum::<f64>();
    for (i, weights) in weights.chunks_mut(row.max(1)).enumerate() {
        let constant = bias.get(i).copied();
        let of_bias = |b: Option<f32>| f64::from(b.unwrap_or(0.0)).abs();
        let total = sum(weights) + of_bias(constant);
        if total == 0.0 || !total.is_finite() {
            continue;
        }
        let mut exponent = total.log2().ceil() as i32;
        let original: Vec<f32> = weights.to_vec();
        loop {
            let grid = f64::exp2(f64::from(exponent - bits));
            let rounded = |v: f32| ((f64::from(v) / grid).round() * grid) as f32;
            for (w, &v) in weights.iter_mut().zip(&original) {
                *w = rounded(v);
            }
            if let (Some(b), Some(v)) = (bias.get_mut(i), constant) {
                *b = rounded(v);
            }
            // Rounding may have carried the sum just past the power of two.
            if sum(weights) + of_bias(bias.get(i).copied()) <= f64::exp2(f64::from(exponent)) {
                break;
            }
            exponent += 1;
        }
    }
}

/// Rounds recordings to multiples of 2^-24; for values in [-1, 1] every result is a float32 number.
pub fn round_recording(x: &mut [f32]) {
    for v in x {
        *v = ((f64::from(*v) * 16_777_216.0).round() / 16_777_216.0) as f32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use escape_network::rng::Stream;
    use escape_network::shuffle::permutation;

    fn random_row(n: usize, seed: u64) -> Vec<f32> {
        let mut r = Stream::new(seed, 0);
        (0..n).map(|_| ((r.uniform() + r.uniform() + r.uniform() - 1.5) * 0.05) as f32).collect()
    }

    #[test]
    fn every_order_of_summation_agrees() {
        for (seed, n) in [(1u64, 64usize), (2, 1024), (3, 22_400)] {
            let raw = random_row(n, seed);
            let mut w = raw.clone();
            round_rows(&mut w, &mut [], n, SPIKE_BITS - 2);
            let mut r = Stream::new(seed, 1);
            // Pooled spikes: quarters.
            let s: Vec<f32> = (0..n).map(|_| r.whole([0, 4]) as f32 / 4.0).collect();
            let sum = |order: &[usize]| order.iter().fold(0f32, |a, &i| a + w[i] * s[i]);
            let want = sum(&(0..n).collect::<Vec<_>>());
            for epoch in 0..20 {
                assert_eq!(sum(&permutation(n, seed, epoch)), want);
            }
            let exact: f64 = (0..n).map(|i| f64::from(w[i]) * f64::from(s[i])).sum();
            assert_eq!(f64::from(want), exact);
            // The same orders on the raw weights do differ, or this test would prove nothing.
            let rough = |order: &[usize]| order.iter().fold(0f32, |a, &i| a + raw[i] * s[i]);
            let first = rough(&(0..n).collect::<Vec<_>>());
            assert!((0..20).any(|e| rough(&permutation(n, seed, e)) != first));
        }
    }

    #[test]
    fn a_bias_shares_its_rows_grid() {
        let (mut w, mut bias) = (random_row(64, 9), vec![0.013f32, -3.7]);
        round_rows(&mut w, &mut bias, 32, 16);
        for (w, b) in w.chunks(32).zip(&bias) {
            let total: f64 = w.iter().chain([b]).map(|v| f64::from(*v).abs()).sum();
            let grid = f64::exp2(total.log2().ceil() - 16.0);
            assert!(w.iter().chain([b]).all(|v| f64::from(*v) % grid == 0.0), "{grid}");
        }
    }

    #[test]
    fn rounding_moves_little_and_is_idempotent() {
        let raw = random_row(1024 * 4, 5);
        let mut w = raw.clone();
        round_rows(&mut w, &mut [], 1024, SPIKE_BITS - 2);
        let grid = 2f32.powi(-17);
        assert!(raw.iter().zip(&w).all(|(a, b)| (a - b).abs() <= grid / 2.0));
        let mut again = w.clone();
        round_rows(&mut again, &mut [], 1024, SPIKE_BITS - 2);
        assert_eq!(w, again);
        let mut zeros = vec![0f32; 8];
        round_rows(&mut zeros, &mut [], 4, SPIKE_BITS);
        assert_eq!(zeros, [0f32; 8]);
    }

    #[test]
    fn a_sum_carried_past_the_power_of_two_gets_a_coarser_grid() {
        // Three bits: the grid is 1/8, and each 0.19 rounds up to 0.25.
        let mut w = vec![0.19f32; 5];
        round_rows(&mut w, &mut [], 5, 3);
        let total: f32 = w.iter().sum();
        let grid = if total > 1.0 { 0.25 } else { 0.125 };
        assert!(w.iter().all(|v| v % grid == 0.0), "{w:?}");
    }

    #[test]
    fn rounded_recordings_stay_in_range() {
        let mut x = vec![1.0f32, -1.0, 0.0, 1e-9, 0.123_456_79];
        round_recording(&mut x);
        assert_eq!(x[..4], [1.0, -1.0, 0.0, 0.0]);
        assert!((x[4] - 0.123_456_79).abs() <= 2f32.powi(-25));
    }
}
