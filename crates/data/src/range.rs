//! Smallest and largest values.

/// Smallest and largest of some values.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Range {
    pub(crate) min: f32,
    pub(crate) max: f32,
    /// Not finite if any value is not.
    pub(crate) probe: f32,
}

impl Range {
    pub(crate) const EMPTY: Self = Self { min: f32::INFINITY, max: f32::NEG_INFINITY, probe: 0.0 };

    pub(crate) fn of(values: &[f32]) -> Self {
        // In lanes, which the compiler turns into vector instructions.
        const LANES: usize = 16;
        let mut min = [f32::INFINITY; LANES];
        let mut max = [f32::NEG_INFINITY; LANES];
        let mut probe = [0.0; LANES];
        let mut add = |chunk: &[f32; LANES]| {
            for (lane, &v) in chunk.iter().enumerate() {
                min[lane] = if v < min[lane] { v } else { min[lane] };
                max[lane] = if v > max[lane] { v } else { max[lane] };
                // Zero times NaN or an infinity is NaN, and stays so.
                probe[lane] += v * 0.0;
            }
        };
        let (chunks, rest) = values.as_chunks();
        chunks.iter().for_each(&mut add);
        if let Some(&any) = rest.first() {
            let mut last = [any; LANES];
            last[..rest.len()].copy_from_slice(rest);
            add(&last);
        }
        let lanes = (0..LANES).map(|lane| Self { min: min[lane], max: max[lane], probe: probe[lane] });
        lanes.fold(Self::EMPTY, Self::with)
    }

    pub(crate) fn with(self, other: Self) -> Self {
        Self { min: self.min.min(other.min), max: self.max.max(other.max), probe: self.probe + other.probe }
    }

    /// Of the largest value.
    pub(crate) fn magnitude(self) -> f32 {
        self.max.abs().max(self.min.abs())
    }

    pub(crate) fn is_finite(self) -> bool {
        self.probe == 0.0
    }

    pub(crate) fn span(self) -> f32 {
        self.max - self.min
    }
}
