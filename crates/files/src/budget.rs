//! How much memory a file may make its reader take.

use std::io::{self, Read, Seek, SeekFrom};

/// Memory that any reader of this project may take for a file: its size times this, and an allowance. Recordings, which
/// compress better than weights, may take more.
pub const EXPANSION: u64 = 4;

/// What is left of the memory that one file may make its reader take.
///
/// Every allocation that a file can ask for is taken from here first, so that no declared size has to be believed.
#[derive(Debug, Clone)]
pub struct Budget {
    left: u64,
    limit: u64,
    file: u64,
}

/// Why memory could not be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MemoryError {
    /// The file asks for more than its size warrants.
    #[error(
        "{what} would take {bytes} bytes of memory, and with that the file more than a file of {file} bytes may"
    )]
    Limit {
        /// What was to be read.
        what: String,
        /// The memory for it.
        bytes: u64,
        /// Size of the file in bytes.
        file: u64,
    },
    /// The system has none left.
    #[error("not enough memory for {what}, {bytes} bytes")]
    System {
        /// What was to be read.
        what: String,
        /// The memory for it.
        bytes: u64,
    },
}

impl Budget {
    /// Of so many bytes, for a file of `file` bytes.
    pub fn new(limit: u64, file: u64) -> Self {
        Self { left: limit, limit, file }
    }

    /// Takes `bytes`; `what` tells what for.
    ///
    /// # Errors
    /// [`MemoryError::Limit`] if that is more than what is left.
    pub fn charge(&mut self, bytes: u64, what: impl FnOnce() -> String) -> Result<(), MemoryError> {
        match self.left.checked_sub(bytes) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => Err(MemoryError::Limit { what: what(), bytes, file: self.file }),
        }
    }

    /// Takes memory for `count` things of `each` bytes.
    ///
    /// # Errors
    /// As [`Budget::charge`].
    pub fn take(&mut self, what: &str, count: usize, each: usize) -> Result<(), MemoryError> {
        self.charge((count as u64).saturating_mul(each as u64), || what.to_owned())
    }

    /// Gives back what was taken for something that is gone, in bytes.
    pub fn refund(&mut self, bytes: u64) {
        self.left = self.left.saturating_add(bytes).min(self.limit);
    }

    /// Gives back what was taken for `count` things of `each` bytes.
    pub fn give_back(&mut self, count: usize, each: usize) {
        self.refund((count as u64).saturating_mul(each as u64));
    }

    /// Makes room for `more` items, growing by doubling. While a vector moves, old and new memory both count.
    ///
    /// # Errors
    /// [`MemoryError`].
    pub fn reserve<T>(&mut self, items: &mut Vec<T>, more: usize, what: &str) -> Result<(), MemoryError> {
        let (length, capacity) = (items.len(), items.capacity());
        if capacity - length >= more {
            return Ok(());
        }
        let wanted = length.saturating_add(more).max(capacity.saturating_mul(2)).max(4);
        let bytes = size::<T>(wanted);
        self.charge(bytes, || what.to_owned())?;
        items
            .try_reserve_exact(wanted - length)
            .map_err(|_| MemoryError::System { what: what.to_owned(), bytes })?;
        self.refund(size::<T>(capacity));
        Ok(())
    }

    /// Appends an item, see [`Budget::reserve`].
    ///
    /// # Errors
    /// [`MemoryError`].
    pub fn push<T>(&mut self, items: &mut Vec<T>, item: T, what: &str) -> Result<(), MemoryError> {
        self.reserve(items, 1, what)?;
        items.push(item);
        Ok(())
    }
}

/// An empty vector with room for so many bytes, which were taken from a budget.
///
/// # Errors
/// [`MemoryError::System`].
pub fn room(bytes: u64, what: &str) -> Result<Vec<u8>, MemoryError> {
    let no_memory = || MemoryError::System { what: what.to_owned(), bytes };
    let mut room = Vec::new();
    room.try_reserve_exact(usize::try_from(bytes).map_err(|_| no_memory())?).map_err(|_| no_memory())?;
    Ok(room)
}

/// So many bytes from `at` on, which lie within the file and were taken from a budget.
///
/// # Errors
/// What the system answers; `OutOfMemory` with a [`MemoryError`] inside; `InvalidData` if the file shrank meanwhile.
pub fn read_at(input: &mut (impl Read + Seek), at: u64, bytes: u64, what: &str) -> io::Result<Vec<u8>> {
    // In one piece: growing step by step would take up to twice as much.
    let mut content = room(bytes, what).map_err(|e| io::Error::new(io::ErrorKind::OutOfMemory, e))?;
    input.seek(SeekFrom::Start(at))?;
    input.take(bytes).read_to_end(&mut content)?;
    if content.len() as u64 != bytes {
        let got = content.len();
        return Err(crate::invalid(format!(
            "{what}: expected {bytes} bytes at offset {at}, got {got}; the file shrank meanwhile"
        )));
    }
    Ok(content)
}

/// Bytes of so many items.
pub fn size<T>(count: usize) -> u64 {
    (count as u64).saturating_mul(size_of::<T>() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_gone_until_it_is_given_back() {
        let mut budget = Budget::new(64_000, 1000);
        budget.take("x", 64_000, 1).unwrap();
        let error = budget.take("x", 1, 1).unwrap_err().to_string();
        assert!(error.contains("x would take 1 bytes") && error.contains("a file of 1000 bytes"), "{error}");
        budget.give_back(2, 4);
        budget.take("x", 8, 1).unwrap();
        budget.take("x", usize::MAX, usize::MAX).unwrap_err();
    }

    #[test]
    fn a_vector_costs_its_capacity_and_no_more() {
        let mut budget = Budget::new(1 << 24, 0);
        let mut items = Vec::new();
        for i in 0..1000u64 {
            budget.push(&mut items, i, "numbers").unwrap();
        }
        assert_eq!(budget.limit - budget.left, size::<u64>(items.capacity()));
        // Doubling this once more would need old and new memory at once.
        budget.left = size::<u64>(2 * items.capacity()) - 1;
        let room = items.capacity() - items.len();
        let error = budget.reserve(&mut items, room + 1, "numbers").unwrap_err();
        assert!(matches!(&error, MemoryError::Limit { what, .. } if what == "numbers"), "{error:?}");
    }

    #[test]
    fn a_file_that_shrank_is_named() {
        let mut file = io::Cursor::new([1, 2, 3]);
        assert_eq!(read_at(&mut file, 1, 2, "x").unwrap(), [2, 3]);
        let error = read_at(&mut file, 1, 5, "x").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert!(error.to_string().contains("x: expected 5 bytes at offset 1, got 2"), "{error}");
    }

    #[test]
    fn no_sum_overflows() {
        let mut budget = Budget::new(u64::MAX, u64::MAX);
        budget.charge(u64::MAX, || unreachable!()).unwrap();
        assert!(budget.charge(1, || "one more".to_owned()).is_err());
        budget.refund(u64::MAX);
        budget.refund(u64::MAX);
        assert_eq!(budget.left, budget.limit);
    }
}
