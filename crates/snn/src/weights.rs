//! A layer's weights, which need not be numbers in memory before somebody looks at all of them.

use std::ops::{Deref, DerefMut, Range};
use std::sync::OnceLock;

use escape_checkpoint::TensorData;

/// Weights, row-major in PyTorch's order: float32 numbers, or a checkpoint's tensor, which shares the file's bytes and
/// becomes numbers when it is first read as a slice.
#[derive(Clone, Debug)]
pub struct Weights {
    stored: Option<TensorData>,
    values: OnceLock<Vec<f32>>,
}

impl Weights {
    /// How many there are.
    pub fn count(&self) -> usize {
        match (&self.stored, self.values.get()) {
            (Some(stored), _) => stored.len(),
            (None, values) => values.map_or(0, Vec::len),
        }
    }

    /// Some of them, in the buffer where they are no numbers yet.
    pub(crate) fn part<'a>(&'a self, range: Range<usize>, buffer: &'a mut Vec<f32>) -> &'a [f32] {
        match (self.values.get(), &self.stored) {
            (None, Some(stored)) => {
                buffer.clear();
                stored.append_f32(range, buffer);
                buffer
            }
            _ => &self[range],
        }
    }

    /// The numbers themselves.
    pub fn into_values(self) -> Vec<f32> {
        let _ = &*self;
        self.values.into_inner().unwrap_or_default()
    }
}

impl Deref for Weights {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        self.values.get_or_init(|| self.stored.as_ref().map(TensorData::to_f32).unwrap_or_default())
    }
}

impl DerefMut for Weights {
    fn deref_mut(&mut self) -> &mut [f32] {
        let _ = &**self;
        // What the file has is not what they are from now on.
        self.stored = None;
        self.values.get_mut().map_or(&mut [], Vec::as_mut_slice)
    }
}

impl From<Vec<f32>> for Weights {
    fn from(values: Vec<f32>) -> Self {
        Self { stored: None, values: values.into() }
    }
}

impl From<TensorData> for Weights {
    fn from(stored: TensorData) -> Self {
        Self { stored: Some(stored), values: OnceLock::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_weights_are_the_numbers_that_they_stand_for() {
        let numbers: Vec<f32> = (0..6).map(|i| i as f32 / 4.0 - 0.5).collect();
        let tensor = TensorData::from_f32(&[2, 3], &numbers);
        for stored in [tensor.clone(), tensor.to_f16()] {
            let mut weights = Weights::from(stored.clone());
            let mut buffer = Vec::new();
            assert_eq!((weights.count(), weights.part(2..5, &mut buffer)), (6, &numbers[2..5]));
            assert!(weights.values.get().is_none(), "a part alone makes no numbers of the rest");
            assert_eq!(*weights, numbers[..]);
            weights[4] = 7.0;
            assert_eq!((weights.count(), weights.part(4..5, &mut buffer)), (6, &[7.0][..]));
            assert_eq!(weights.into_values()[3..], [numbers[3], 7.0, numbers[5]]);
            assert_eq!(Weights::from(stored).into_values(), numbers);
        }
        assert_eq!(*Weights::from(numbers.clone()), numbers[..]);
    }
}
