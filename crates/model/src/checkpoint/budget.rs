//! How much memory reading a file may take.

use std::io::{Read, Seek, SeekFrom};

use escape_data::archive::EXPANSION;

use super::error::Fault;

/// What reading may take beyond [`EXPANSION`] times the file's size, in bytes: a small tensor takes about five times
/// more memory than room in a file, and a file of ten thousand of them is nothing unusual. For the fuzzer, whose
/// inputs are small, it is less, so that it sees what grows too fast.
const SLACK: u64 = if cfg!(fuzzing) { 1 << 18 } else { 16 << 20 };

/// Set aside for what does not grow with the file: read buffers, the state of a decompressor, error messages.
const FIXED: u64 = 1 << 17;

/// Most memory that reading a file of `length` bytes takes, in bytes.
pub fn memory_limit(length: u64) -> u64 {
    length.saturating_mul(EXPANSION).saturating_add(SLACK)
}

/// The memory that is left for one file: whatever a reader allocates in proportion to anything the file says is
/// charged here first, so that no file takes more than its size warrants.
#[derive(Debug, Clone)]
pub(super) struct Budget {
    left: u64,
    limit: u64,
    /// Size of the file in bytes.
    length: u64,
}

impl Budget {
    /// That of a file of `length` bytes.
    pub(super) fn of_file(length: u64) -> Self {
        let limit = memory_limit(length) - FIXED;
        Self { left: limit, limit, length }
    }

    /// Takes `bytes`; `what` tells what for.
    ///
    /// # Errors
    /// [`Fault::TooLarge`] if that is more than what is left.
    pub(super) fn charge(&mut self, bytes: u64, what: impl FnOnce() -> String) -> Result<(), Fault> {
        match self.left.checked_sub(bytes) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => Err(Fault::TooLarge(format!(
                "{} would take {bytes} bytes of memory, and with that the file more than {EXPANSION} times its {} bytes \
                 and {SLACK}",
                what(),
                self.length
            ))),
        }
    }

    /// Gives back what was taken for something that is gone.
    pub(super) fn refund(&mut self, bytes: u64) {
        self.left = self.left.saturating_add(bytes).min(self.limit);
    }

    /// Makes room for `more` items, growing by doubling. While a vector moves, old and new memory both count.
    pub(super) fn reserve<T>(
        &mut self,
        items: &mut Vec<T>,
        more: usize,
        what: &'static str,
    ) -> Result<(), Fault> {
        let (length, capacity) = (items.len(), items.capacity());
        if capacity - length >= more {
            return Ok(());
        }
        let wanted = length.saturating_add(more).max(capacity.saturating_mul(2)).max(4);
        self.charge(size::<T>(wanted), || what.to_owned())?;
        items
            .try_reserve_exact(wanted - length)
            .map_err(|_| Fault::TooLarge(format!("not enough memory for {wanted} {what}")))?;
        self.refund(size::<T>(capacity));
        Ok(())
    }

    /// Appends an item, see [`Budget::reserve`].
    pub(super) fn push<T>(&mut self, items: &mut Vec<T>, item: T, what: &'static str) -> Result<(), Fault> {
        self.reserve(items, 1, what)?;
        items.push(item);
        Ok(())
    }
}

/// An empty vector with room for so many bytes, which were paid for.
pub(super) fn room(bytes: u64, what: &str) -> Result<Vec<u8>, Fault> {
    let no_memory = || Fault::TooLarge(format!("not enough memory for {what}, {bytes} bytes"));
    let mut room = Vec::new();
    room.try_reserve_exact(usize::try_from(bytes).map_err(|_| no_memory())?).map_err(|_| no_memory())?;
    Ok(room)
}

/// So many bytes from `at` on, which lie within the file and were paid for.
pub(super) fn read_at(
    input: &mut (impl Read + Seek),
    at: u64,
    bytes: u64,
    what: &str,
) -> Result<Vec<u8>, Fault> {
    let mut content = room(bytes, what)?;
    input.seek(SeekFrom::Start(at)).map_err(Fault::Io)?;
    input.take(bytes).read_to_end(&mut content).map_err(Fault::Io)?;
    if content.len() as u64 != bytes {
        return Err(Fault::damaged("the file shrank while it was read"));
    }
    Ok(content)
}

/// Bytes of so many items.
pub(super) fn size<T>(count: usize) -> u64 {
    (count as u64).saturating_mul(size_of::<T>() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vector_costs_its_capacity_and_no_more() {
        let mut budget = Budget::of_file(0);
        let mut items = Vec::new();
        for i in 0..1000u64 {
            budget.push(&mut items, i, "numbers").unwrap();
        }
        assert_eq!(budget.limit - budget.left, size::<u64>(items.capacity()));
        // Doubling this once more would need old and new memory at once.
        budget.left = size::<u64>(2 * items.capacity()) - 1;
        let room = items.capacity() - items.len();
        let error = budget.reserve(&mut items, room + 1, "numbers").unwrap_err();
        assert!(
            matches!(&error, Fault::TooLarge(problem) if problem.starts_with("numbers would take ")),
            "{error:?}"
        );
    }

    #[test]
    fn no_sum_overflows() {
        let mut budget = Budget::of_file(u64::MAX);
        budget.charge(u64::MAX - FIXED, || unreachable!()).unwrap();
        assert!(budget.charge(1, || "one more".to_owned()).is_err());
        budget.refund(u64::MAX);
        budget.refund(u64::MAX);
        assert_eq!(budget.left, budget.limit);
    }
}
