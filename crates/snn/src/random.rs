//! PyTorch's CPU generator. The default preset's, which is keyed by seed, recording, step and pixel, is [`escape_network::rng::philox4x32`].

/// The Mersenne twister as PyTorch's CPU generator runs it (Matsumoto and Nishimura 1998, `mt19937`), and
/// its float32 uniform: the low 24 bits of one output over 2^24. Equal seeds give the numbers of
/// `torch.manual_seed(seed); torch.rand(n)` whatever the device the network runs on.
#[derive(Clone, Debug)]
pub struct TorchGenerator {
    state: Box<[u32; 624]>,
    next: usize,
}

impl TorchGenerator {
    /// Seeds as `torch.manual_seed` does; like there, the low 32 bits count.
    pub fn new(seed: u64) -> Self {
        let mut state = Box::new([0u32; 624]);
        state[0] = seed as u32;
        for i in 1..624 {
            let before = state[i - 1];
            state[i] = 1_812_433_253u32.wrapping_mul(before ^ (before >> 30)).wrapping_add(i as u32);
        }
        Self { state, next: 624 }
    }

    /// Continues from numbers that [`TorchGenerator::save`] gave; `None` if they cannot be a state.
    pub fn restore(saved: &[i64]) -> Option<Self> {
        let (next, words) = saved.split_first()?;
        let state: Vec<u32> = words.iter().map(|&w| u32::try_from(w).ok()).collect::<Option<_>>()?;
        let next = usize::try_from(*next).ok().filter(|&n| n <= 624)?;
        Some(Self { state: Box::new(state.try_into().ok()?), next })
    }

    /// The state as 625 integers.
    pub fn save(&self) -> Vec<i64> {
        std::iter::once(self.next as i64).chain(self.state.iter().map(|&w| i64::from(w))).collect()
    }

    /// The next 32 bits.
    pub fn next_u32(&mut self) -> u32 {
        if self.next == 624 {
            self.regenerate();
        }
        let mut y = self.state[self.next];
        self.next += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }

    /// Uniform in [0, 1), a multiple of 2^-24.
    pub fn uniform(&mut self) -> f32 {
        unit(self.next_u32())
    }

    fn regenerate(&mut self) {
        for i in 0..624 {
            let y = (self.state[i] & 0x8000_0000) | (self.state[(i + 1) % 624] & 0x7fff_ffff);
            let twist = if y & 1 == 1 { 0x9908_b0df } else { 0 };
            self.state[i] = self.state[(i + 397) % 624] ^ (y >> 1) ^ twist;
        }
        self.next = 0;
    }
}

/// The low 24 bits as a fraction.
pub fn unit(bits: u32) -> f32 {
    (bits & 0x00ff_ffff) as f32 * (1.0 / 16_777_216.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mersenne_twister_gives_the_standard_sequence() {
        // The C++ standard fixes the 10000th output of mt19937 with its default seed (rand.predef).
        let mut g = TorchGenerator::new(5489);
        let mut last = 0;
        for _ in 0..10_000 {
            last = g.next_u32();
        }
        assert_eq!(last, 4_123_659_995);
    }

    #[test]
    fn a_saved_generator_goes_on_where_it_was() {
        let mut g = TorchGenerator::new(3);
        for _ in 0..700 {
            g.next_u32();
        }
        let mut back = TorchGenerator::restore(&g.save()).unwrap();
        assert!((0..2000).all(|_| back.next_u32() == g.next_u32()));
        assert!(TorchGenerator::restore(&g.save()[1..]).is_none());
        assert!(TorchGenerator::restore(&[]).is_none());
        assert!(TorchGenerator::restore(&[-1; 625]).is_none());
    }
}
