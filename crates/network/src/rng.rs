//! A counter-based random generator: any stream can be had without drawing the ones before it, so results do
//! not depend on the number of threads.
//!
//! Philox 4x32-10 of Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011).
//! The key is the seed; the counter is (block, stream).

use std::f64::consts::TAU;

/// One block: `counter` encrypted under `key`, ten rounds.
pub fn philox4x32(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    const MULTIPLIERS: [u32; 2] = [0xd251_1f53, 0xcd9e_8d57];
    const WEYL: [u32; 2] = [0x9e37_79b9, 0xbb67_ae85];
    for _ in 0..10 {
        let low = u64::from(MULTIPLIERS[0]) * u64::from(counter[0]);
        let high = u64::from(MULTIPLIERS[1]) * u64::from(counter[2]);
        counter = [
            (high >> 32) as u32 ^ counter[1] ^ key[0],
            high as u32,
            (low >> 32) as u32 ^ counter[3] ^ key[1],
            low as u32,
        ];
        key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
    }
    counter
}

/// The random numbers of one stream of one seed.
#[derive(Debug, Clone)]
pub struct Stream {
    key: [u32; 2],
    stream: [u32; 2],
    block: u64,
    words: [u32; 4],
    used: usize,
    spare: Option<f64>,
}

impl Stream {
    /// Stream number `stream` of `seed`, from its beginning.
    pub fn new(seed: u64, stream: u64) -> Self {
        let halves = |v: u64| [v as u32, (v >> 32) as u32];
        Self { key: halves(seed), stream: halves(stream), block: 0, words: [0; 4], used: 4, spare: None }
    }

    /// 32 random bits.
    pub fn bits(&mut self) -> u32 {
        if self.used == self.words.len() {
            let counter = [self.block as u32, (self.block >> 32) as u32, self.stream[0], self.stream[1]];
            self.words = philox4x32(counter, self.key);
            self.block += 1;
            self.used = 0;
        }
        self.used += 1;
        self.words[self.used - 1]
    }

    /// Uniform in the open interval (0, 1), in steps of 2^-32.
    pub fn uniform(&mut self) -> f64 {
        (f64::from(self.bits()) + 0.5) / 4_294_967_296.0
    }

    /// Uniform between the bounds.
    pub fn between(&mut self, [low, high]: [f64; 2]) -> f64 {
        low + (high - low) * self.uniform()
    }

    /// Uniform among the whole numbers from `low` to `high`, both included.
    pub fn whole(&mut self, [low, high]: [u32; 2]) -> u32 {
        let span = u64::from(high.saturating_sub(low)) + 1;
        // The multiplication's bias is below span / 2^32.
        low + ((u64::from(self.bits()) * span) >> 32) as u32
    }

    /// Standard normal (Box and Muller).
    pub fn normal(&mut self) -> f64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        let radius = (-2.0 * self.uniform().ln()).sqrt();
        let (sin, cos) = (TAU * self.uniform()).sin_cos();
        self.spare = Some(radius * sin);
        radius * cos
    }

    /// Poisson with the given mean, which should be below some tens (the time taken grows with it).
    pub fn poisson(&mut self, mean: f64) -> u32 {
        let limit = (-mean).exp();
        let mut product = self.uniform();
        let mut count = 0;
        while product > limit && count < 10_000 {
            product *= self.uniform();
            count += 1;
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Known answers of the authors' library, Random123 (`kat_vectors`).
    #[test]
    fn known_answers() {
        let pi = [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344];
        assert_eq!(philox4x32([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(philox4x32([!0; 4], [!0; 2]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        let key = [0xa409_3822, 0x299f_31d0];
        assert_eq!(philox4x32(pi, key), [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]);
    }

    #[test]
    fn a_stream_is_its_blocks() {
        let mut stream = Stream::new(0x1_0000_0002, 0x3_0000_0004);
        for block in 0..3 {
            let words = philox4x32([block, 0, 4, 3], [2, 1]);
            assert_eq!([stream.bits(), stream.bits(), stream.bits(), stream.bits()], words);
        }
    }

    #[test]
    fn moments() {
        let mut s = Stream::new(7, 0);
        let n = 200_000;
        let mean = |f: &mut dyn FnMut() -> f64| (0..n).map(|_| f()).sum::<f64>() / f64::from(n);
        let near = |got: f64, expected: f64, tolerance: f64| {
            assert!((got - expected).abs() < tolerance, "expected {expected} +- {tolerance}, got {got}");
        };
        // Tolerances are five standard errors.
        near(mean(&mut || s.between([-1.0, 3.0])), 1.0, 5.0 * 1.155 / 447.0);
        near(mean(&mut || s.normal()), 0.0, 5.0 / 447.0);
        near(mean(&mut || s.normal().powi(2)), 1.0, 5.0 * 1.414 / 447.0);
        near(mean(&mut || s.normal().powi(4)), 3.0, 5.0 * 9.8 / 447.0);
        near(mean(&mut || s.poisson(3.0).into()), 3.0, 5.0 * 1.732 / 447.0);
        near(mean(&mut || s.whole([5, 8]).into()), 6.5, 5.0 * 1.118 / 447.0);
        assert_eq!(Stream::new(0, 0).poisson(0.0), 0);
    }
}
