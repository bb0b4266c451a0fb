//! Memory that begins where a line of the cache does.

use std::fmt;
use std::ops::{Deref, DerefMut};

/// Bytes of a line of the cache, and of the widest vector register.
const LINE: usize = 64;

/// Values, the first of which lies at the beginning of a line of the cache: a row of 64 bytes then lies in one line, where
/// in a `Vec` it usually lies in two, each of which takes a load of its own.
pub struct Aligned<T> {
    values: Vec<T>,
    first: usize,
    len: usize,
}

impl<T: Copy + Default> Aligned<T> {
    /// So many zeros.
    pub fn new(len: usize) -> Self {
        let values = vec![T::default(); len + LINE / size_of::<T>()];
        let first = values.as_ptr().align_offset(LINE).min(values.len() - len);
        Self { values, first, len }
    }

    /// Changes how many there are. Where there is room for them they are what they were, where not, all are zeros.
    pub fn resize(&mut self, len: usize) {
        match self.first + len <= self.values.len() {
            true => self.len = len,
            false => *self = Self::new(len),
        }
    }
}

impl<T: Copy + Default> From<&[T]> for Aligned<T> {
    fn from(values: &[T]) -> Self {
        let mut all = Self::new(values.len());
        all.copy_from_slice(values);
        all
    }
}

impl<T> Default for Aligned<T> {
    fn default() -> Self {
        Self { values: Vec::new(), first: 0, len: 0 }
    }
}

impl<T> Deref for Aligned<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.values[self.first..self.first + self.len]
    }
}

impl<T> DerefMut for Aligned<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.values[self.first..self.first + self.len]
    }
}

impl<T: fmt::Debug> fmt::Debug for Aligned<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self[..].fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_begin_where_a_line_does() {
        for len in [0, 1, 15, 16, 17, 1000, 100_000] {
            let mut floats = Aligned::<f32>::new(len);
            let bytes = Aligned::from(&vec![7u8; len][..]);
            assert!(floats.iter().all(|&v| v == 0.0) && floats.len() == len, "{len}");
            assert!(bytes.iter().all(|&v| v == 7) && bytes.len() == len, "{len}");
            floats.fill(3.0);
            for grown in [len, len / 2, len, 3 * len + 1000] {
                floats.resize(grown);
                assert!(floats.iter().all(|&v| v == if grown <= len { 3.0 } else { 0.0 }), "{len}");
                assert_eq!(floats.len(), grown);
                assert_eq!(floats.as_ptr().addr() % LINE, 0, "{len}");
            }
            assert_eq!(bytes.as_ptr().addr() % LINE, 0, "{len}");
        }
    }
}
