//! Zip archives, for reading only: their directory, and their entries one at a time.
//!
//! Files come from anywhere, so nothing an archive says is believed before it was compared with the file's length:
//! no size makes memory be taken that the file does not warrant, no sum of offsets overflows, and nothing recurses.
//! What two readers could understand differently is refused: two entries of one name, an entry whose own header
//! tells another name than the directory, content that is longer or shorter than declared.
//!
//! Read are entries stored or deflated, with or without the 64-bit extension, which is what NumPy and PyTorch write.
//! Field offsets are those of PKWARE's APPNOTE 6.3.10, section 4.3.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};

use flate2::Crc;
use flate2::bufread::DeflateDecoder;

use crate::budget;
use crate::invalid;
use crate::text::shown;

/// How an entry's own header starts.
pub const LOCAL: &[u8] = b"PK\x03\x04";
/// How an entry of the directory starts.
pub const CENTRAL: &[u8] = b"PK\x01\x02";
/// How the record at the end of the file starts.
pub const END: &[u8] = b"PK\x05\x06";
/// How the 64-bit end record starts.
pub const END64: &[u8] = b"PK\x06\x06";
/// How the record starts that tells where the 64-bit end record is.
pub const END64_LOCATOR: &[u8] = b"PK\x06\x07";

/// Why an archive or an entry cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The operating system refused.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The archive breaks its format: truncated, corrupted or hostile. What is wrong, and where.
    #[error("{0}")]
    Damaged(String),
    /// Sound, but of a kind that is not read. What that is, and what to do instead.
    #[error("{0}")]
    Unsupported(String),
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    encrypted: bool,
    method: u16,
    crc: u32,
    compressed: u64,
    size: u64,
    header: u64,
}

/// An opened archive: a file, or anything else that can be read at any place.
#[derive(Debug)]
pub struct Archive<R = File> {
    file: R,
    length: u64,
    entries: BTreeMap<String, Entry>,
}

impl<R: Read + Seek> Archive<R> {
    /// Read the directory.
    ///
    /// # Errors
    /// [`ArchiveError::Damaged`] if it contradicts itself or the file's length, names an entry twice or not in UTF-8.
    pub fn new(mut file: R) -> Result<Self, ArchiveError> {
        let length = file.seek(SeekFrom::End(0))?;
        let entries = directory(&mut file, length)?;
        Ok(Self { file, length, entries })
    }

    /// Size of the file in bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// At most how many bytes of memory the directory takes.
    pub fn overhead(&self) -> usize {
        // Nodes of a B-tree are at least half full.
        let each = 2 * size_of::<(String, Entry)>();
        self.entries.keys().map(|name| name.len() + each).sum()
    }

    /// The names of all entries, in alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// What the directory declares as an entry's size after decompression, in bytes; `None` if there is no such
    /// entry.
    pub fn size(&self, name: &str) -> Option<u64> {
        self.entries.get(name).map(|entry| entry.size)
    }

    /// Open an entry; its checksum is compared in any case, also if it is declared as 0.
    ///
    /// # Errors
    /// [`ArchiveError::Unsupported`] if it is encrypted or compressed by another method than deflate;
    /// [`ArchiveError::Damaged`] if there is no such entry, or it does not lie within the file.
    pub fn reader(&mut self, name: &str) -> Result<EntryReader<'_, R>, ArchiveError> {
        let spoken = shown(name);
        let Some(&Entry { encrypted, method, crc, compressed, size, header }) = self.entries.get(name) else {
            return Err(damaged(format!("expected an entry {spoken}, got none of that name")));
        };
        if encrypted {
            let problem = format!("{spoken} is encrypted; decrypt the archive first");
            return Err(ArchiveError::Unsupported(problem));
        }
        if method != 0 && method != 8 {
            let problem = format!(
                "{spoken} is compressed by method {method}, expected 0 (stored) or 8 (deflated); save it anew"
            );
            return Err(ArchiveError::Unsupported(problem));
        }
        if method == 0 && compressed != size {
            let problem = format!("{spoken} is stored in {compressed} bytes, expected the declared {size}");
            return Err(damaged(problem));
        }
        let start = self.data_start(name, header)?;
        if start.checked_add(compressed).is_none_or(|end| end > self.length) {
            let length = self.length;
            return Err(damaged(format!(
                "{spoken}: expected {compressed} bytes from offset {start}, got a file of {length}"
            )));
        }
        self.file.seek(SeekFrom::Start(start))?;
        let raw = BufReader::with_capacity(1 << 16, (&mut self.file).take(compressed));
        Ok(EntryReader {
            content: match method {
                0 => Content::Stored(raw),
                _ => Content::Deflated(DeflateDecoder::new(raw)),
            },
            size,
            left: size,
            checksum: Some((Crc::new(), crc)),
            finished: false,
        })
    }

    /// Where an entry's bytes start: after its own header, which must tell the same name as the directory.
    fn data_start(&mut self, name: &str, header: u64) -> Result<u64, ArchiveError> {
        let bad = || {
            let spoken = shown(name);
            damaged(format!("{spoken}: expected its header at offset {header}, got something else"))
        };
        if header.checked_add(30 + name.len() as u64).is_none_or(|end| end > self.length) {
            return Err(bad());
        }
        let fixed = read_at(&mut self.file, header, 30)?;
        let (name_length, extra_length) = (u16_at(&fixed, 26), u16_at(&fixed, 28));
        if !fixed.starts_with(LOCAL) || usize::from(name_length) != name.len() {
            return Err(bad());
        }
        if read_at(&mut self.file, header + 30, name_length.into())? != name.as_bytes() {
            return Err(bad());
        }
        Ok(header + 30 + u64::from(name_length) + u64::from(extra_length))
    }
}

type Raw<'a, R> = BufReader<io::Take<&'a mut R>>;

enum Content<'a, R> {
    Stored(Raw<'a, R>),
    Deflated(DeflateDecoder<Raw<'a, R>>),
}

/// The content of an entry.
///
/// What it gives is never longer than declared. The read that reaches the declared end also checks that nothing
/// follows and that the checksum is right. Errors are, besides the system's, `InvalidInput` where the content cannot
/// be inflated, and `InvalidData` where it is not of its declared length or checksum.
pub struct EntryReader<'a, R = File> {
    content: Content<'a, R>,
    size: u64,
    left: u64,
    /// The checksum so far, and the declared one.
    checksum: Option<(Crc, u32)>,
    finished: bool,
}

impl<R: Read> EntryReader<'_, R> {
    /// Take a declared checksum of 0 for none; PyTorch writes it where
    /// `torch.serialization.set_crc32_options(False)` is in force.
    pub fn zero_checksum_is_none(mut self) -> Self {
        self.checksum = self.checksum.filter(|(_, declared)| *declared != 0);
        self
    }

    /// Declared bytes that were not read yet.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// Whether the declared size was compared with the file's, because nothing is compressed.
    pub fn is_stored(&self) -> bool {
        matches!(self.content, Content::Stored(_))
    }

    fn read_content(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.content {
            Content::Stored(raw) => raw.read(buffer),
            Content::Deflated(raw) => raw.read(buffer).map_err(|e| match e.kind() {
                // A stream that is cut short; the file itself is not.
                io::ErrorKind::UnexpectedEof => io::Error::new(io::ErrorKind::InvalidInput, e),
                _ => e,
            }),
        }
    }

    /// What remains to be checked once all declared bytes were read.
    fn finish(&mut self) -> io::Result<()> {
        if self.read_content(&mut [0])? != 0 {
            return Err(invalid(format!("expected the declared {} bytes, got more", self.size)));
        }
        match &self.checksum {
            Some((crc, declared)) if crc.sum() != *declared => {
                Err(invalid(format!("expected checksum {declared:08x}, got {:08x}", crc.sum())))
            }
            _ => Ok(()),
        }
    }
}

impl<R: Read> Read for EntryReader<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let buffer = &mut buffer[..wanted];
        let got = if wanted == 0 { 0 } else { self.read_content(buffer)? };
        if got == 0 && wanted > 0 {
            let (size, got) = (self.size, self.size - self.left);
            return Err(invalid(format!("expected the declared {size} bytes, got {got}")));
        }
        if let Some((crc, _)) = &mut self.checksum {
            crc.update(&buffer[..got]);
        }
        self.left -= got as u64;
        if self.left == 0 && !self.finished {
            self.finish()?;
            self.finished = true;
        }
        Ok(got)
    }
}

/// All entries by name.
fn directory(file: &mut (impl Read + Seek), length: u64) -> Result<BTreeMap<String, Entry>, ArchiveError> {
    let bad = |problem: String| damaged(format!("directory of the zip archive: {problem}"));
    // The end record is the last thing in the file, but for a comment of at most 65535 bytes.
    let tail_start = length.saturating_sub(22 + 65_535);
    let tail = read_at(file, tail_start, length - tail_start)?;
    let end = (0..tail.len().saturating_sub(21))
        .rev()
        .find(|&i| tail[i..].starts_with(END) && i + 22 + usize::from(u16_at(&tail, i + 20)) == tail.len())
        .ok_or_else(|| bad("expected an end record, got none; the file is incomplete".to_owned()))?;
    let mut end_at = tail_start + end as u64;
    let mut count = u64::from(u16_at(&tail, end + 10));
    let mut size = u64::from(u32_at(&tail, end + 12));
    let mut start = u64::from(u32_at(&tail, end + 16));
    if end >= 20 && tail[end - 20..].starts_with(END64_LOCATOR) {
        end_at = u64_at(&tail, end - 20 + 8);
        if end_at.checked_add(56).is_none_or(|record_end| record_end > length) {
            return Err(bad(format!("its 64-bit end record at offset {end_at} lies outside the file")));
        }
        let record = read_at(file, end_at, 56)?;
        if !record.starts_with(END64) {
            return Err(bad(format!("expected a 64-bit end record at offset {end_at}, got something else")));
        }
        (count, size, start) = (u64_at(&record, 32), u64_at(&record, 40), u64_at(&record, 48));
    }
    if start.checked_add(size).is_none_or(|directory_end| directory_end > end_at) {
        let problem = format!("expected {size} bytes from offset {start}, got the end record at {end_at}");
        return Err(bad(problem));
    }
    if count > size / 46 {
        return Err(bad(format!("expected {count} entries, got {size} bytes")));
    }
    let bytes = read_at(file, start, size)?;
    let mut entries = BTreeMap::new();
    let mut rest = bytes.as_slice();
    for index in 0..count {
        let (name, entry, after) = parse_entry(rest)
            .ok_or_else(|| bad(format!("entry {index} is cut short, no entry or its name not UTF-8")))?;
        rest = after;
        if entries.insert(name.to_owned(), entry).is_some() {
            return Err(bad(format!("{} stands there twice", shown(name))));
        }
    }
    Ok(entries)
}

/// The first directory entry with its name, and what follows it.
fn parse_entry(bytes: &[u8]) -> Option<(&str, Entry, &[u8])> {
    let fixed = bytes.get(..46).filter(|b| b.starts_with(CENTRAL))?;
    let extra_start = 46 + usize::from(u16_at(fixed, 28));
    let extra_end = extra_start + usize::from(u16_at(fixed, 30));
    let rest = bytes.get(extra_end + usize::from(u16_at(fixed, 32))..)?;
    let name = str::from_utf8(bytes.get(46..extra_start)?).ok()?;
    let mut entry = Entry {
        encrypted: u16_at(fixed, 8) & 1 != 0,
        method: u16_at(fixed, 10),
        crc: u32_at(fixed, 16),
        compressed: u32_at(fixed, 20).into(),
        size: u32_at(fixed, 24).into(),
        header: u32_at(fixed, 42).into(),
    };
    // The 64-bit extension holds, in this order, those of the fields that are all ones.
    let mut extra = bytes.get(extra_start..extra_end)?;
    while extra.len() >= 4 {
        let body_end = 4 + usize::from(u16_at(extra, 2));
        let mut body = extra.get(4..body_end)?;
        if u16_at(extra, 0) == 1 {
            for field in [&mut entry.size, &mut entry.compressed, &mut entry.header] {
                if *field == u64::from(u32::MAX) {
                    let (value, after) = body.split_first_chunk::<8>()?;
                    (*field, body) = (u64::from_le_bytes(*value), after);
                }
            }
        }
        extra = extra.get(body_end..)?;
    }
    Some((name, entry, rest))
}

/// `size` bytes from `start`; the caller has compared them with the file's length.
fn read_at(file: &mut (impl Read + Seek), start: u64, size: u64) -> Result<Vec<u8>, ArchiveError> {
    budget::read_at(file, start, size, "the archive").map_err(|error| match error.kind() {
        io::ErrorKind::InvalidData => damaged(error.to_string()),
        _ => ArchiveError::Io(error),
    })
}

fn damaged(problem: String) -> ArchiveError {
    ArchiveError::Damaged(problem)
}

/// Little-endian numbers; bytes beyond the end count as zero, so that no offset can panic.
fn u64_at(bytes: &[u8], at: usize) -> u64 {
    (0..8).rev().fold(0, |n, i| n << 8 | u64::from(bytes.get(at + i).copied().unwrap_or(0)))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u64_at(bytes, at) as u32
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u64_at(bytes, at) as u16
}
