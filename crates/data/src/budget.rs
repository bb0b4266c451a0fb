//! How much memory a file may make its reader take.

use std::path::Path;

use crate::archive::{EXPANSION, SLACK};
use crate::error::DataError;

/// What is left of a file's [`EXPANSION`] times its size and [`SLACK`].
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
        Self { left: file.saturating_mul(EXPANSION).saturating_add(SLACK - Self::FIXED), file }
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
    fn what_is_taken_is_gone_until_it_is_given_back() {
        let mut budget = Budget::new(1000);
        let all = 4000 + (1 << 19);
        let mut take = |n| budget.take(Path::new("f"), "x", n, 1).map_err(|e| e.to_string());
        assert_eq!(take(all), Ok(()));
        let error = take(1).unwrap_err();
        assert!(error.contains("x takes 1 bytes") && error.contains("4 times its 1000 bytes"), "{error}");
        budget.give_back(2, 4);
        budget.take(Path::new("f"), "x", 8, 1).unwrap();
        budget.take(Path::new("f"), "x", usize::MAX, usize::MAX).unwrap_err();
    }
}
