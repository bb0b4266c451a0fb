//! How much memory a file may make its reader take.

use std::path::Path;

use crate::archive::{EXPANSION, SLACK};
use crate::error::DataError;

/// How many times a compressed file's size its recordings may take: float32 values that came of half a bit each. Measured
/// signals carry more than one; files made to exhaust a machine's memory stay far below.
pub const COMPRESSED: u64 = 64;
/// The most that a file may take by [`COMPRESSED`] alone: 47,000 recordings of 56 contacts and 100 samples.
pub const COMPRESSED_LIMIT: u64 = 1 << 30;

/// The most memory that reading recordings from a file of so many bytes takes: four times its size, or
/// [`COMPRESSED`] times up to [`COMPRESSED_LIMIT`], whichever is more, and [`SLACK`].
pub fn memory_limit(file: u64) -> u64 {
    let compressed = file.saturating_mul(COMPRESSED).min(COMPRESSED_LIMIT);
    file.saturating_mul(EXPANSION).max(compressed).saturating_add(SLACK)
}

/// What is left of a file's [`memory_limit`].
///
/// Every allocation that a file can ask for is taken from here first, so that no declared size has to be believed.
pub(crate) struct Budget {
    left: u64,
    file: u64,
}

impl Budget {
    /// Set aside for what does not grow with the file: read buffers, the state of a decompressor, error messages.
    const FIXED: u64 = 1 << 19;

    /// For a file of so many bytes.
    pub(crate) fn new(file: u64) -> Self {
        Self { left: memory_limit(file) - Self::FIXED, file }
    }

    /// Memory for `count` things of `each` bytes.
    ///
    /// # Errors
    /// [`DataError::TooLarge`] if that is more than is left.
    pub(crate) fn take(
        &mut self,
        path: &Path,
        what: &str,
        count: usize,
        each: usize,
    ) -> Result<(), DataError> {
        let bytes = (count as u64).saturating_mul(each as u64);
        self.left = self.left.checked_sub(bytes).ok_or_else(|| DataError::TooLarge {
            path: path.to_owned(),
            what: what.to_owned(),
            bytes,
            file: self.file,
        })?;
        Ok(())
    }

    /// Memory that was freed again.
    pub(crate) fn give_back(&mut self, count: usize, each: usize) {
        self.left += (count as u64).saturating_mul(each as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_follow_the_size() {
        assert_eq!(memory_limit(0), SLACK);
        assert_eq!(memory_limit(1 << 20), (64 << 20) + SLACK);
        assert_eq!(memory_limit(100 << 20), COMPRESSED_LIMIT + SLACK);
        assert_eq!(memory_limit(1 << 30), (4 << 30) + SLACK);
    }

    #[test]
    fn what_is_taken_is_gone_until_it_is_given_back() {
        let mut budget = Budget::new(1000);
        let all = 64_000 + (1 << 19);
        let mut take = |n| budget.take(Path::new("f"), "x", n, 1).map_err(|e| e.to_string());
        assert_eq!(take(all), Ok(()));
        let error = take(1).unwrap_err();
        assert!(error.contains("x takes 1 bytes") && error.contains("a file of 1000 bytes"), "{error}");
        budget.give_back(2, 4);
        budget.take(Path::new("f"), "x", 8, 1).unwrap();
        budget.take(Path::new("f"), "x", usize::MAX, usize::MAX).unwrap_err();
    }
}
