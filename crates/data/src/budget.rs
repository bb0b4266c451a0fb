//! How much memory a file of recordings may make its reader take.

use std::path::Path;

use escape_files::budget::{Budget, EXPANSION};

use crate::error::DataError;

/// What a reader may take besides, in bytes: buffers and tables that do not grow with the file.
pub const SLACK: u64 = 1 << 20;
/// How many times a compressed file's size its recordings may take: float32 values that came of half a bit each. Measured
/// signals carry more than one; files made to exhaust a machine's memory stay far below.
pub const COMPRESSED: u64 = 64;
/// The most that a file may take by [`COMPRESSED`] alone: 47,000 recordings of 56 contacts and 100 samples.
pub const COMPRESSED_LIMIT: u64 = 1 << 30;

/// Set aside for what does not grow with the file: read buffers, the state of a decompressor, error messages.
const FIXED: u64 = 1 << 19;

/// The most memory that reading recordings from a file of so many bytes takes: [`EXPANSION`] times its size, or
/// [`COMPRESSED`] times up to [`COMPRESSED_LIMIT`], whichever is more, and [`SLACK`].
pub fn memory_limit(file: u64) -> u64 {
    let compressed = file.saturating_mul(COMPRESSED).min(COMPRESSED_LIMIT);
    file.saturating_mul(EXPANSION).max(compressed).saturating_add(SLACK)
}

/// That of a file of so many bytes.
pub(crate) fn of_file(length: u64) -> Budget {
    Budget::new(memory_limit(length) - FIXED, length)
}

/// Takes memory for `count` things of `each` bytes.
///
/// # Errors
/// [`DataError::TooLarge`] if that is more than is left.
pub(crate) fn take(
    budget: &mut Budget,
    path: &Path,
    what: &str,
    count: usize,
    each: usize,
) -> Result<(), DataError> {
    budget.take(what, count, each).map_err(|error| DataError::memory(path, error))
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
    fn the_error_names_file_and_sizes() {
        let mut budget = of_file(1000);
        take(&mut budget, Path::new("f"), "x", 64_000 + (1 << 19), 1).unwrap();
        let error = take(&mut budget, Path::new("f"), "x", 1, 1).unwrap_err().to_string();
        assert!(error.contains("x takes 1 bytes") && error.contains("a file of 1000 bytes"), "{error}");
    }
}
