//! Bytes of an HDF5 file: reading them where they must be, taking fields apart, checksums.

use std::io::{self, Read, Seek, SeekFrom};

use crate::budget::MemoryError;
use crate::invalid;

/// What can go wrong with an object of a file.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// Of its content, as `InvalidData` (damaged), `Unsupported` or `UnexpectedEof`; or of the system.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It asks for too much memory.
    #[error(transparent)]
    Memory(#[from] MemoryError),
}

/// Sound, but not read here.
pub(super) fn unsupported(problem: impl Into<String>) -> Fault {
    Fault::Io(io::Error::new(io::ErrorKind::Unsupported, problem.into()))
}

/// Truncated, corrupted or hostile.
pub fn damaged(problem: impl Into<String>) -> Fault {
    Fault::Io(invalid(problem))
}

/// How many bytes addresses and lengths take in a file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    pub(super) address: usize,
    pub(super) length: usize,
}

/// The file.
pub struct Raw<R> {
    pub(super) reader: R,
    /// Where the superblock stands; addresses count from here.
    pub(super) base: u64,
    /// Bytes from there to the end.
    pub(super) length: u64,
    pub(super) sizes: Sizes,
}

impl<R: Read + Seek> Raw<R> {
    /// A reader of `size` bytes from `address`, which must lie within the file.
    ///
    /// # Errors
    /// It does not lie within the file.
    pub fn part(&mut self, address: u64, size: u64) -> Result<io::Take<&mut R>, Fault> {
        if address.checked_add(size).is_none_or(|end| end > self.length) {
            let length = self.length;
            return Err(damaged(format!(
                "expected {size} bytes at address {address}, got a file of {length}"
            )));
        }
        self.reader.seek(SeekFrom::Start(self.base + address))?;
        Ok((&mut self.reader).take(size))
    }

    /// A short piece of the file, at most `METADATA_LIMIT` bytes.
    ///
    /// # Errors
    /// It is longer than that, or does not lie within the file.
    pub fn bytes(&mut self, address: u64, size: u64) -> Result<Vec<u8>, Fault> {
        if size > METADATA_LIMIT {
            return Err(unsupported(format!(
                "a header of {size} bytes at address {address}, expected at most {METADATA_LIMIT}"
            )));
        }
        let mut part = self.part(address, size)?;
        let mut bytes = vec![0; size as usize];
        part.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

/// The most metadata read in one piece, in bytes. An object header takes some hundred, with many attributes more.
pub(super) const METADATA_LIMIT: u64 = 1 << 17;

/// Fields one after the other.
pub(super) struct Fields<'a> {
    rest: &'a [u8],
    sizes: Sizes,
}

impl<'a> Fields<'a> {
    pub fn new(rest: &'a [u8], sizes: Sizes) -> Self {
        Self { rest, sizes }
    }

    pub fn left(&self) -> usize {
        self.rest.len()
    }

    pub fn take(&mut self, count: usize) -> io::Result<&'a [u8]> {
        let (taken, rest) =
            self.rest.split_at_checked(count).ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
        self.rest = rest;
        Ok(taken)
    }

    /// The next `count` bytes as fields of their own.
    pub fn part(&mut self, count: usize) -> io::Result<Self> {
        Ok(Self { rest: self.take(count)?, sizes: self.sizes })
    }

    /// The next byte, which stays.
    pub fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    pub fn skip(&mut self, count: usize) -> io::Result<()> {
        self.take(count).map(drop)
    }

    /// A little-endian number of up to 8 bytes.
    pub fn number(&mut self, bytes: usize) -> io::Result<u64> {
        Ok(self.take(bytes)?.iter().rev().fold(0, |n, &byte| n << 8 | u64::from(byte)))
    }

    pub fn u8(&mut self) -> io::Result<u8> {
        Ok(self.take(1)?[0])
    }

    pub fn u16(&mut self) -> io::Result<u16> {
        Ok(self.number(2)? as u16)
    }

    pub fn u32(&mut self) -> io::Result<u32> {
        Ok(self.number(4)? as u32)
    }

    pub fn u64(&mut self) -> io::Result<u64> {
        self.number(8)
    }

    pub fn length(&mut self) -> io::Result<u64> {
        self.number(self.sizes.length)
    }

    /// A length that takes as many bytes as an address.
    pub fn any_length(&mut self) -> io::Result<u64> {
        self.number(self.sizes.address)
    }

    /// An address; all ones mean that there is none.
    pub fn address(&mut self) -> io::Result<Option<u64>> {
        let bytes = self.sizes.address;
        let none = u64::MAX >> (64 - 8 * bytes);
        Ok(Some(self.number(bytes)?).filter(|&address| address != none))
    }

    /// How far a dimension may grow; all ones mean without limit.
    pub fn limit(&mut self) -> io::Result<Option<u64>> {
        let bytes = self.sizes.length;
        let none = u64::MAX >> (64 - 8 * bytes);
        Ok(Some(self.number(bytes)?).filter(|&limit| limit != none))
    }

    /// A signature of four bytes.
    pub fn signature(&mut self, expected: &[u8; 4]) -> Result<(), Fault> {
        if self.take(4)? != expected {
            return Err(damaged(format!(
                "expected {}, got something else",
                String::from_utf8_lossy(expected)
            )));
        }
        Ok(())
    }
}

/// Split off the checksum at the end of a block of metadata, and compare it.
pub(super) fn without_checksum(block: &[u8]) -> Result<&[u8], Fault> {
    let (content, checksum) = block.split_last_chunk().ok_or_else(|| damaged("a block without checksum"))?;
    let (expected, got) = (u32::from_le_bytes(*checksum), lookup3(content));
    if expected != got {
        return Err(damaged(format!("expected checksum {expected:08x}, got {got:08x}")));
    }
    Ok(content)
}

/// Bob Jenkins' hash of 2006, `hashlittle` with an initial value of 0.
fn lookup3(bytes: &[u8]) -> u32 {
    let start = 0xdead_beefu32.wrapping_add(bytes.len() as u32);
    let [mut a, mut b, mut c] = [start; 3];
    // The last block, whole or not, is mixed differently.
    let whole = bytes.len().saturating_sub(1) / 12;
    let word = |block: &[u8], i: usize| {
        (0..4).rev().fold(0u32, |n, k| n << 8 | u32::from(block.get(4 * i + k).copied().unwrap_or(0)))
    };
    for block in bytes.chunks(12).take(whole) {
        a = a.wrapping_add(word(block, 0));
        b = b.wrapping_add(word(block, 1));
        c = c.wrapping_add(word(block, 2));
        let mix = |x: &mut u32, y: &mut u32, z: &mut u32, rotation: u32| {
            *x = x.wrapping_sub(*z) ^ z.rotate_left(rotation);
            *z = z.wrapping_add(*y);
        };
        mix(&mut a, &mut b, &mut c, 4);
        mix(&mut b, &mut c, &mut a, 6);
        mix(&mut c, &mut a, &mut b, 8);
        mix(&mut a, &mut b, &mut c, 16);
        mix(&mut b, &mut c, &mut a, 19);
        mix(&mut c, &mut a, &mut b, 4);
    }
    let last = &bytes[12 * whole..];
    if last.is_empty() {
        return c;
    }
    a = a.wrapping_add(word(last, 0));
    b = b.wrapping_add(word(last, 1));
    c = c.wrapping_add(word(last, 2));
    let finish = |x: &mut u32, y: u32, rotation: u32| *x = (*x ^ y).wrapping_sub(y.rotate_left(rotation));
    finish(&mut c, b, 14);
    finish(&mut a, c, 11);
    finish(&mut b, a, 25);
    finish(&mut c, b, 16);
    finish(&mut a, c, 4);
    finish(&mut b, a, 14);
    finish(&mut c, b, 24);
    c
}

/// Fletcher's checksum of big-endian 16-bit words, as HDF5 has it.
#[derive(Default)]
pub(super) struct Fletcher {
    sums: [u64; 2],
}

impl Fletcher {
    /// Every piece but the last must have an even number of bytes.
    pub fn add(&mut self, bytes: &[u8]) {
        // So few words that the sums do not overflow.
        for block in bytes.chunks(1 << 12) {
            for pair in block.chunks(2) {
                let low = pair.get(1).copied().unwrap_or(0);
                self.sums[0] += u64::from(pair[0]) << 8 | u64::from(low);
                self.sums[1] += self.sums[0];
            }
            self.sums = self.sums.map(|sum| sum % 0xffff);
        }
    }

    /// Whether this is the stored checksum. HDF5 writes either 0 or 0xffff for a sum that is a multiple of the latter.
    pub fn is(&self, stored: [u8; 4]) -> bool {
        let stored = u32::from_le_bytes(stored);
        [stored & 0xffff, stored >> 16].map(|half| u64::from(half % 0xffff)) == self.sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The known answers of the hash's author.
    #[test]
    fn checksums() {
        assert_eq!(lookup3(b""), 0xdead_beef);
        assert_eq!(lookup3(b"Four score and seven years ago"), 0x1777_0551);
        // Words 0x0102, 0x0304, 0x0500: sums 0x0906 and 0x0102 + 0x0406 + 0x0906.
        let mut sum = Fletcher::default();
        sum.add(&[1, 2, 3, 4]);
        sum.add(&[5]);
        assert!(sum.is([0x06, 0x09, 0x0e, 0x0e]));
        assert!(!sum.is([0x06, 0x09, 0x0e, 0x0f]));
        let mut ones = Fletcher::default();
        ones.add(&[0xff; 10_000]);
        assert!(ones.is([0xff; 4]) && ones.is([0; 4]));
    }

    #[test]
    fn fields_end_with_their_bytes() {
        let sizes = Sizes { address: 4, length: 2 };
        let mut fields = Fields::new(&[0xff, 0xff, 0xff, 0xff, 1, 2, 3], sizes);
        assert_eq!(fields.address().unwrap(), None);
        assert_eq!((fields.length().unwrap(), fields.left()), (0x0201, 1));
        assert_eq!(fields.u16().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
