//! The directory of a zip archive and its entries, for reading only.
//!
//! Recordings come from anywhere, so nothing in the file is believed before it was checked against the file's
//! length: the zip crate below `npyz` adds offsets unchecked and its header parser recurses without a limit,
//! which a crafted file turns into a panic or an overflown stack. NumPy writes entries stored or deflated, in
//! archives with or without the 64-bit extension; those are read here, and nothing else.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use flate2::Crc;
use flate2::bufread::DeflateDecoder;

use crate::error::DataError;

const END_SIGNATURE: &[u8] = b"PK\x05\x06";
const END64_LOCATOR_SIGNATURE: &[u8] = b"PK\x06\x07";
const END64_SIGNATURE: &[u8] = b"PK\x06\x06";
const ENTRY_SIGNATURE: &[u8] = b"PK\x01\x02";
const LOCAL_SIGNATURE: &[u8] = b"PK\x03\x04";

/// One file of an archive, as the directory describes it.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) name: String,
    encrypted: bool,
    method: u16,
    crc: u32,
    compressed: u64,
    /// Size after decompression, in bytes, as declared.
    pub(crate) size: u64,
    header: u64,
}

impl Entry {
    /// Whether the declared size was compared with the file's, because nothing is compressed.
    pub(crate) fn is_stored(&self) -> bool {
        self.method == 0
    }
}

/// An opened archive.
#[derive(Debug)]
pub(crate) struct Archive {
    path: PathBuf,
    file: File,
    length: u64,
    pub(crate) entries: Vec<Entry>,
}

impl Archive {
    /// Read the directory.
    pub(crate) fn open(path: &Path) -> Result<Self, DataError> {
        let io = |e| DataError::io(path, "read", e);
        let mut file = File::open(path).map_err(|e| DataError::open(path, e))?;
        let length = file.seek(SeekFrom::End(0)).map_err(io)?;
        let entries = read_directory(&mut file, length)
            .map_err(|e| DataError::reading(path, "the directory of the zip archive", e))?;
        Ok(Self { path: path.to_owned(), file, length, entries })
    }

    /// The content of an entry. Reading it to its end checks its length and checksum.
    pub(crate) fn reader(&mut self, entry: &Entry) -> Result<EntryReader<'_>, DataError> {
        let bad = |problem: String| DataError::malformed(&self.path, problem);
        let name = &entry.name;
        if entry.encrypted {
            let problem = format!("{name} is encrypted; decrypt the archive first");
            return Err(DataError::unsupported(&self.path, problem));
        }
        if entry.method != 0 && entry.method != 8 {
            let problem = format!(
                "{name} is compressed by method {}, expected 0 (stored) or 8 (deflated); write it with numpy.savez",
                entry.method
            );
            return Err(DataError::unsupported(&self.path, problem));
        }
        if entry.method == 0 && entry.compressed != entry.size {
            let problem =
                format!("{name} is stored in {} bytes but declares {}", entry.compressed, entry.size);
            return Err(bad(problem));
        }
        let mut local = [0; 30];
        let mut read_local = || {
            self.file.seek(SeekFrom::Start(entry.header))?;
            self.file.read_exact(&mut local)
        };
        read_local().map_err(|e| DataError::reading(&self.path, name, e))?;
        let lengths = u64::from(u16_at(&local, 26)) + u64::from(u16_at(&local, 28));
        let start = entry.header.checked_add(30 + lengths);
        let fits = |start: u64| start.checked_add(entry.compressed).is_some_and(|end| end <= self.length);
        let start = match start {
            Some(start) if local.starts_with(LOCAL_SIGNATURE) && fits(start) => start,
            _ => return Err(bad(format!("{name} points outside the file or at something that is no entry"))),
        };
        self.file.seek(SeekFrom::Start(start)).map_err(|e| DataError::io(&self.path, "read", e))?;
        let raw = BufReader::with_capacity(1 << 16, (&self.file).take(entry.compressed));
        Ok(EntryReader {
            content: if entry.is_stored() {
                Content::Stored(raw)
            } else {
                Content::Deflated(DeflateDecoder::new(raw))
            },
            left: entry.size,
            crc: Crc::new(),
            expected_crc: entry.crc,
        })
    }
}

type Raw<'a> = BufReader<io::Take<&'a File>>;

enum Content<'a> {
    Stored(Raw<'a>),
    Deflated(DeflateDecoder<Raw<'a>>),
}

/// Reads exactly the declared number of bytes of an entry.
pub(crate) struct EntryReader<'a> {
    content: Content<'a>,
    left: u64,
    crc: Crc,
    expected_crc: u32,
}

impl Read for EntryReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if wanted == 0 {
            return Ok(0);
        }
        let got = match &mut self.content {
            Content::Stored(raw) => raw.read(&mut buffer[..wanted]),
            Content::Deflated(raw) => raw.read(&mut buffer[..wanted]),
        }?;
        if got == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.crc.update(&buffer[..got]);
        self.left -= got as u64;
        if self.left == 0 && self.crc.sum() != self.expected_crc {
            let (expected, got) = (self.expected_crc, self.crc.sum());
            return Err(invalid(format!("checksum: expected {expected:08x}, got {got:08x}")));
        }
        Ok(got)
    }
}

fn read_directory(file: &mut File, length: u64) -> io::Result<Vec<Entry>> {
    // The end record is the last thing in the file, but for a comment of at most 65535 bytes.
    let tail_start = length.saturating_sub(22 + 65_535);
    let tail = read_at(file, tail_start, length - tail_start)?;
    let end = (0..tail.len().saturating_sub(21))
        .rev()
        .find(|&i| {
            tail[i..].starts_with(END_SIGNATURE) && i + 22 + usize::from(u16_at(&tail, i + 20)) == tail.len()
        })
        .ok_or_else(|| invalid("no end record; the file is incomplete"))?;
    let mut end_at = tail_start + end as u64;
    let mut count = u64::from(u16_at(&tail, end + 10));
    let mut size = u64::from(u32_at(&tail, end + 12));
    let mut start = u64::from(u32_at(&tail, end + 16));
    if end >= 20 && tail[end - 20..].starts_with(END64_LOCATOR_SIGNATURE) {
        end_at = u64_at(&tail, end - 20 + 8);
        if end_at.checked_add(56).is_none_or(|record_end| record_end > length) {
            return Err(invalid("the 64-bit end record lies outside the file"));
        }
        let record = read_at(file, end_at, 56)?;
        if !record.starts_with(END64_SIGNATURE) {
            return Err(invalid("the 64-bit end record is missing"));
        }
        (count, size, start) = (u64_at(&record, 32), u64_at(&record, 40), u64_at(&record, 48));
    }
    if start.checked_add(size).is_none_or(|directory_end| directory_end > end_at) {
        return Err(invalid(format!(
            "{size} bytes from offset {start} do not fit before the end record at {end_at}"
        )));
    }
    if count > size / 46 {
        return Err(invalid(format!("{count} entries do not fit in {size} bytes")));
    }
    let directory = read_at(file, start, size)?;
    let mut entries = Vec::new();
    let mut rest = directory.as_slice();
    for index in 0..count {
        let (entry, length) =
            parse_entry(rest).ok_or_else(|| invalid(format!("entry {index} is cut short or no entry")))?;
        entries.push(entry);
        rest = &rest[length..];
    }
    Ok(entries)
}

/// One directory entry and its length in bytes, which lies within `bytes`.
fn parse_entry(bytes: &[u8]) -> Option<(Entry, usize)> {
    let fixed = bytes.get(..46).filter(|b| b.starts_with(ENTRY_SIGNATURE))?;
    let extra_start = 46 + usize::from(u16_at(fixed, 28));
    let extra_end = extra_start + usize::from(u16_at(fixed, 30));
    let end = extra_end + usize::from(u16_at(fixed, 32));
    bytes.get(..end)?;
    let mut entry = Entry {
        name: String::from_utf8_lossy(&bytes[46..extra_start]).into_owned(),
        encrypted: u16_at(fixed, 8) & 1 != 0,
        method: u16_at(fixed, 10),
        crc: u32_at(fixed, 16),
        compressed: u32_at(fixed, 20).into(),
        size: u32_at(fixed, 24).into(),
        header: u32_at(fixed, 42).into(),
    };
    // The 64-bit extension holds, in this order, those of the fields that are all ones.
    let mut extra = &bytes[extra_start..extra_end];
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
        extra = &extra[body_end..];
    }
    Some((entry, end))
}

/// `size` bytes from `start`; the caller has compared them with the file's length.
fn read_at(file: &mut File, start: u64, size: u64) -> io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(size).read_to_end(&mut bytes)?;
    if bytes.len() as u64 == size { Ok(bytes) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

fn invalid(problem: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem.into())
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
