//! How much memory reading a checkpoint may take.

use escape_files::budget::EXPANSION;
pub(crate) use escape_files::budget::{Budget, read_at, room, size};

/// What reading may take beyond [`EXPANSION`] times the file's size, in bytes: a small tensor takes about five times
/// more memory than room in a file, and a file of ten thousand of them is nothing unusual. For the fuzzer, whose
/// inputs are small, it is less, so that it sees what grows too fast.
pub(crate) const SLACK: u64 = if cfg!(fuzzing) { 1 << 18 } else { 16 << 20 };

/// Set aside for what does not grow with the file: read buffers, the state of a decompressor, error messages.
const FIXED: u64 = 1 << 17;

/// Most memory that reading a file of `length` bytes takes, in bytes.
pub fn memory_limit(length: u64) -> u64 {
    length.saturating_mul(EXPANSION).saturating_add(SLACK)
}

/// The memory that is left for a file of `length` bytes: whatever a reader allocates in proportion to anything the file
/// says is charged here first, so that no file takes more than its size warrants.
pub(crate) fn of_file(length: u64) -> Budget {
    Budget::new(memory_limit(length) - FIXED, length)
}
