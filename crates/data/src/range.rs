//! Smallest and largest values, and scaling by them.

/// Values this far outside [-1, 1] are taken for rounding of the scaling and clamped.
pub(crate) const ROUNDING: f32 = 1e-5;

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

/// Stretches one recording so that `range`, whose ends are finite and not equal, becomes [-1, 1].
pub(crate) fn scale(recording: &mut [f32], Range { min, max, .. }: Range) {
    let (min, span) = (f64::from(min), f64::from(max) - f64::from(min));
    recording.iter_mut().for_each(|v| *v = ((f64::from(*v) - min) / span * 2.0 - 1.0) as f32);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_see_every_value() {
        for length in 1..40 {
            for at in 0..length {
                let mut values = vec![0.25; length];
                values[at] = 0.5;
                let range = Range::of(&values);
                assert_eq!((range.max, range.is_finite()), (0.5, true));
                assert_eq!(range.min, if length == 1 { 0.5 } else { 0.25 });
                for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                    values[at] = bad;
                    assert!(!Range::of(&values).is_finite(), "{bad} at {at} of {length}");
                }
            }
        }
        assert!(Range::of(&[f32::MAX, f32::MIN]).is_finite());
    }

    #[test]
    fn scaling_reaches_both_ends() {
        let scale = |values: &mut [f32]| {
            let range = Range::of(values);
            scale(values, range);
        };
        let mut values = [-37.5, 12.5, -12.5, 62.5];
        scale(&mut values);
        assert_eq!(values, [-1.0, 0.0, -0.5, 1.0]);
        let mut extremes = [f32::MIN, 0.0, f32::MAX];
        scale(&mut extremes);
        assert_eq!(extremes, [-1.0, 0.0, 1.0]);
    }
}
