//! The zip archive around a checkpoint: its directory, its entries, and writing one.
//!
//! Only what `torch.save` and common tools write is read: entries stored or deflated, with or without the 64-bit
//! extension. Nothing the file says is believed before it was compared with the file's length. Field offsets are
//! those of PKWARE's APPNOTE 6.3.10, section 4.3.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;

use flate2::Crc;
use flate2::bufread::DeflateDecoder;

use super::error::{CheckpointError, Fault, shown};
use super::graph::Storages;

const LOCAL: &[u8] = b"PK\x03\x04";
const CENTRAL: &[u8] = b"PK\x01\x02";
const END: &[u8] = b"PK\x05\x06";
const END64: &[u8] = b"PK\x06\x06";
const END64_LOCATOR: &[u8] = b"PK\x06\x07";

/// What may be read from an archive, and what may be made of it, in multiples of the file's size ...
pub(super) const EXPANSION: u64 = 4;
/// ... plus so much, in bytes, for small files.
const SLACK: u64 = 1 << 20;
/// The largest pickle that is read, in bytes; a state dict takes about 150 bytes a tensor.
const PICKLE_LIMIT: u64 = 16 << 20;

#[derive(Debug)]
struct Entry {
    encrypted: bool,
    method: u16,
    crc: u32,
    compressed: u64,
    size: u64,
    header: u64,
}

/// An opened checkpoint.
#[derive(Debug)]
pub(super) struct Archive {
    file: File,
    length: u64,
    entries: HashMap<String, Entry>,
    /// The top folder with its slash.
    folder: String,
    /// Bytes that may still be read.
    budget: u64,
}

/// Opens a file and makes sure that it is a `torch.save` archive.
pub(super) fn open(path: &Path) -> Result<Archive, CheckpointError> {
    let reading = |e| Fault::Io(e).at(path);
    let not_a_checkpoint = |looks_like: String, hint| {
        Err(CheckpointError::NotACheckpoint { path: path.to_owned(), looks_like, hint })
    };
    let metadata = std::fs::metadata(path).map_err(|e| CheckpointError::open(path, e))?;
    if !metadata.is_file() {
        let looks_like = if metadata.is_dir() { "a folder" } else { "a device or pipe" };
        return not_a_checkpoint(looks_like.to_owned(), "name the file itself");
    }
    let mut file = File::open(path).map_err(|e| CheckpointError::open(path, e))?;
    let length = file.seek(SeekFrom::End(0)).map_err(reading)?;
    file.rewind().map_err(reading)?;
    let mut head = Vec::new();
    (&file).take(512).read_to_end(&mut head).map_err(reading)?;
    if !head.starts_with(LOCAL) {
        if head.starts_with(LEGACY) {
            return Err(CheckpointError::Legacy { path: path.to_owned() });
        }
        let (looks_like, hint) = sniff(&head);
        return not_a_checkpoint(looks_like.to_owned(), hint);
    }
    let entries = directory(&mut file, length).map_err(|fault| fault.at(path))?;
    let mut pickles = entries.keys().filter_map(|name| {
        let folder = name.strip_suffix("data.pkl")?;
        let depth = folder.matches('/').count();
        (folder.is_empty() || depth == 1 && folder.ends_with('/')).then(|| folder.to_owned())
    });
    let (first, second) = (pickles.next(), pickles.next());
    drop(pickles);
    let Some(folder) = first else {
        let (looks_like, hint) = sniff_entries(&entries);
        return not_a_checkpoint(looks_like, hint);
    };
    if second.is_some() {
        return not_a_checkpoint("a zip archive with several data.pkl".to_owned(), "unpack it first");
    }
    let code = format!("{folder}code/");
    let constants = format!("{folder}constants.pkl");
    if let Some(entry) = entries.keys().filter(|name| **name == constants || name.starts_with(&code)).min() {
        return Err(CheckpointError::TorchScript { path: path.to_owned(), entry: shown(entry) });
    }
    let budget = length.saturating_mul(EXPANSION).saturating_add(SLACK);
    Ok(Archive { file, length, entries, folder, budget })
}

impl Archive {
    /// Size of the file in bytes.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// The pickle that describes the value.
    pub(super) fn pickle(&mut self) -> Result<Vec<u8>, Fault> {
        let name = format!("{}data.pkl", self.folder);
        match self.entries.get(&name) {
            Some(entry) if entry.size > PICKLE_LIMIT => Err(Fault::TooLarge(format!(
                "data.pkl: expected at most {PICKLE_LIMIT} bytes, got {}",
                entry.size
            ))),
            _ => self.entry(&name),
        }
    }

    /// Whether the storages are big-endian. Files from before the entry `byteorder` existed are little-endian.
    pub(super) fn is_big_endian(&mut self) -> Result<bool, Fault> {
        let name = format!("{}byteorder", self.folder);
        match self.entries.get(&name) {
            None => return Ok(false),
            Some(entry) if entry.size > 16 => {}
            Some(_) => match self.entry(&name)?.as_slice() {
                b"little" => return Ok(false),
                b"big" => return Ok(true),
                _ => {}
            },
        }
        Err(Fault::damaged("byteorder: expected 'little' or 'big', got something else"))
    }

    fn entry(&mut self, name: &str) -> Result<Vec<u8>, Fault> {
        let spoken = shown(name);
        let Some(entry) = self.entries.get(name) else {
            return Err(Fault::damaged(format!("expected an entry {spoken}, got none of that name")));
        };
        let Entry { encrypted, method, crc, compressed, size, header } = *entry;
        if encrypted {
            return Err(Fault::unsupported(format!("{spoken} is encrypted; decrypt the archive first")));
        }
        if method == 0 && compressed != size {
            let problem = format!("{spoken} is stored in {compressed} bytes, expected the declared {size}");
            return Err(Fault::damaged(problem));
        }
        // Overlapping entries and deflated ones can multiply a file's size.
        let Some(budget) = self.budget.checked_sub(size) else {
            return Err(Fault::TooLarge(format!(
                "with {spoken} of {size} bytes its entries add up to more than {EXPANSION} times the file's {} bytes",
                self.length
            )));
        };
        self.budget = budget;
        let start = self.data_start(name, header)?;
        if start.checked_add(compressed).is_none_or(|end| end > self.length) {
            let problem = format!(
                "{spoken}: expected {compressed} bytes from offset {start}, got a file of {}",
                self.length
            );
            return Err(Fault::damaged(problem));
        }
        self.file.seek(SeekFrom::Start(start)).map_err(Fault::Io)?;
        let raw = (&self.file).take(compressed);
        let mut bytes = Vec::new();
        match method {
            0 => {
                let size = usize::try_from(size).unwrap_or(usize::MAX);
                bytes.try_reserve_exact(size).map_err(|_| no_memory(&spoken, size))?;
                { raw }.read_to_end(&mut bytes).map_err(Fault::Io)?;
            }
            8 => {
                let inflated = DeflateDecoder::new(BufReader::with_capacity(1 << 16, raw));
                inflated
                    .take(size.saturating_add(1))
                    .read_to_end(&mut bytes)
                    .map_err(|e| Fault::damaged(format!("{spoken} cannot be inflated: {e}")))?;
            }
            _ => {
                let problem = format!(
                    "{spoken} is compressed by method {method}, expected 0 (stored) or 8 (deflated); save it anew"
                );
                return Err(Fault::unsupported(problem));
            }
        }
        if bytes.len() as u64 != size {
            let got = if bytes.len() as u64 > size { "more".to_owned() } else { bytes.len().to_string() };
            return Err(Fault::damaged(format!("{spoken}: expected the declared {size} bytes, got {got}")));
        }
        // PyTorch writes 0 where `torch.serialization.set_crc32_options(False)` is in force.
        if crc != 0 {
            let mut actual = Crc::new();
            actual.update(&bytes);
            if actual.sum() != crc {
                let problem = format!("{spoken}: expected checksum {crc:08x}, got {:08x}", actual.sum());
                return Err(Fault::damaged(problem));
            }
        }
        Ok(bytes)
    }

    /// Where an entry's bytes start: after its own header, which must tell the same name as the directory.
    fn data_start(&mut self, name: &str, header: u64) -> Result<u64, Fault> {
        let bad = || {
            Fault::damaged(format!(
                "{}: expected its header at offset {header}, got something else",
                shown(name)
            ))
        };
        if header.checked_add(30 + name.len() as u64).is_none_or(|end| end > self.length) {
            return Err(bad());
        }
        let fixed = read_at(&mut self.file, header, 30)?;
        let (name_length, extra_length) = (u16_at(&fixed, 26), u16_at(&fixed, 28));
        if !fixed.starts_with(LOCAL) || usize::from(name_length) != name.len() {
            return Err(bad());
        }
        let own_name = read_at(&mut self.file, header + 30, name_length.into())?;
        if own_name != name.as_bytes() {
            return Err(bad());
        }
        Ok(header + 30 + u64::from(name_length) + u64::from(extra_length))
    }
}

impl Storages for Archive {
    fn size(&self, key: &str) -> Option<u64> {
        self.entries.get(&format!("{}data/{key}", self.folder)).map(|entry| entry.size)
    }

    fn read(&mut self, key: &str) -> Result<Vec<u8>, Fault> {
        self.entry(&format!("{}data/{key}", self.folder))
    }
}

fn no_memory(what: &str, bytes: usize) -> Fault {
    Fault::TooLarge(format!("not enough memory for {what}, {bytes} bytes"))
}

/// All entries by name.
fn directory(file: &mut File, length: u64) -> Result<HashMap<String, Entry>, Fault> {
    let bad = |problem: String| Fault::Damaged(format!("directory of the zip archive: {problem}"));
    // The end record is the last thing in the file, but for a comment of at most 65535 bytes.
    let tail_start = length.saturating_sub(22 + 65_535);
    let tail = read_at(file, tail_start, length - tail_start)?;
    let end = (0..tail.len().saturating_sub(21))
        .rev()
        .find(|&i| starts_with(&tail, i, END) && i + 22 + usize::from(u16_at(&tail, i + 20)) == tail.len())
        .ok_or_else(|| bad("expected an end record, got none; the file is incomplete".to_owned()))?;
    let mut end_at = tail_start + end as u64;
    let mut count = u64::from(u16_at(&tail, end + 10));
    let mut size = u64::from(u32_at(&tail, end + 12));
    let mut start = u64::from(u32_at(&tail, end + 16));
    if end.checked_sub(20).is_some_and(|locator| starts_with(&tail, locator, END64_LOCATOR)) {
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
        return Err(bad(format!(
            "expected {size} bytes from offset {start}, got the end record at {end_at}"
        )));
    }
    if count > size / 46 {
        return Err(bad(format!("expected {count} entries, got {size} bytes")));
    }
    let bytes = read_at(file, start, size)?;
    let mut entries = HashMap::new();
    let mut rest = bytes.as_slice();
    for index in 0..count {
        let (name, entry, after) = parse_entry(rest)
            .ok_or_else(|| bad(format!("entry {index} is cut short, no entry or its name not UTF-8")))?;
        rest = after;
        // Two readers could take different ones.
        let spoken = shown(&name);
        if entries.insert(name, entry).is_some() {
            return Err(bad(format!("{spoken} stands there twice")));
        }
    }
    Ok(entries)
}

/// The first directory entry, and what follows it.
fn parse_entry(bytes: &[u8]) -> Option<(String, Entry, &[u8])> {
    let fixed = bytes.get(..46).filter(|b| b.starts_with(CENTRAL))?;
    let extra_start = 46 + usize::from(u16_at(fixed, 28));
    let extra_end = extra_start + usize::from(u16_at(fixed, 30));
    let rest = bytes.get(extra_end + usize::from(u16_at(fixed, 32))..)?;
    let name = std::str::from_utf8(bytes.get(46..extra_start)?).ok()?.to_owned();
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
fn read_at(file: &mut File, start: u64, size: u64) -> Result<Vec<u8>, Fault> {
    file.seek(SeekFrom::Start(start)).map_err(Fault::Io)?;
    let mut bytes = Vec::new();
    file.take(size).read_to_end(&mut bytes).map_err(Fault::Io)?;
    if bytes.len() as u64 == size {
        Ok(bytes)
    } else {
        Err(Fault::damaged(format!(
            "expected {size} bytes at offset {start}, got {}; it shrank meanwhile",
            bytes.len()
        )))
    }
}

fn starts_with(bytes: &[u8], at: usize, prefix: &[u8]) -> bool {
    bytes.get(at..).is_some_and(|rest| rest.starts_with(prefix))
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

/// A pickle, protocol 2, of the number 0x1950a86a20f9469cfc6c: how legacy files of `torch.save` start.
const LEGACY: &[u8] = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.";

/// What the first 512 bytes of a file look like, and what to do about it.
fn sniff(head: &[u8]) -> (&'static str, &'static str) {
    const NO_WEIGHTS: &str = "checkpoints are .pth files, data go elsewhere; check the path";
    const AGAIN: &str = "download or copy the file again";
    let text = head.trim_ascii_start();
    let is = |magic: &[u8]| head.starts_with(magic);
    if head.is_empty() {
        ("an empty file", AGAIN)
    } else if is(END) {
        ("an empty zip archive", AGAIN)
    } else if is(b"\x89HDF\r\n\x1a\n") {
        ("an HDF5 file", "export the weights from Keras or h5py as tensors with torch.save")
    } else if is(b"\x93NUMPY") {
        ("a NumPy array (.npy)", NO_WEIGHTS)
    } else if is(b"MATLAB 5.0 MAT-file") {
        ("a MATLAB file", NO_WEIGHTS)
    } else if is(b"\x1f\x8b") {
        ("a gzip file", "unpack it first")
    } else if head.get(257..262) == Some(b"ustar") {
        (
            "a tar archive",
            "unpack it first; if torch.save of PyTorch before 0.1.10 wrote it, re-save it in PyTorch",
        )
    } else if is(b"version https://git-lfs") {
        ("a Git LFS pointer", "fetch the file itself with git lfs pull")
    } else if head.get(8) == Some(&b'{') && head.get(..8).is_some_and(|n| u64_at(n, 0) < 100_000_000) {
        ("a safetensors file", "name it .safetensors, or convert it")
    } else if text.get(..5).is_some_and(|t| [&b"<!doc"[..], b"<html"].contains(&&*t.to_ascii_lowercase())) {
        ("a web page", "download the file itself rather than the page that links to it")
    } else if head.first() == Some(&0x80) && head.get(1).is_some_and(|p| (2..=5).contains(p)) {
        ("a bare pickle", "load it in Python and save it with torch.save")
    } else if text.starts_with(b"{") {
        ("JSON", NO_WEIGHTS)
    } else if head.iter().all(|&b| b == 0) {
        ("zeros", AGAIN)
    } else {
        ("an unknown format", NO_WEIGHTS)
    }
}

/// What a zip archive without a `data.pkl` looks like.
fn sniff_entries(entries: &HashMap<String, Entry>) -> (String, &'static str) {
    let mut names: Vec<&str> = entries.keys().map(String::as_str).collect();
    names.sort_unstable();
    let inner = |ending: &str| names.iter().any(|name| name.ends_with(ending));
    if names.is_empty() {
        ("an empty zip archive".to_owned(), "download or copy the file again")
    } else if names.iter().all(|name| name.ends_with(".npy")) {
        (
            "a NumPy archive (.npz)".to_owned(),
            "checkpoints are .pth files; if these are recordings, pass them as data",
        )
    } else if inner("model.weights.h5") {
        ("a Keras model".to_owned(), "export its weights as tensors with torch.save")
    } else if inner(".pth") || inner(".pt") {
        ("a zip archive around a checkpoint".to_owned(), "unpack it first")
    } else {
        let some: Vec<String> = names.iter().take(5).map(|name| shown(name)).collect();
        let more = if names.len() > 5 { ", ..." } else { "" };
        let got =
            format!("a zip archive without data.pkl in its top folder (it holds {}{more})", some.join(", "));
        (got, "check the path")
    }
}

/// Bytes on which storages are aligned, as PyTorch does so that files can be mapped into memory.
const ALIGNMENT: u64 = 64;

/// Writes stored entries, one after the other, and then their directory.
pub(super) struct ArchiveWriter<W> {
    out: W,
    at: u64,
    central: Vec<u8>,
    count: u64,
}

impl<W: Write> ArchiveWriter<W> {
    pub(super) fn new(out: W) -> Self {
        Self { out, at: 0, central: Vec::new(), count: 0 }
    }

    /// Adds an entry. Its extra field `FB` fills up to the alignment, as in PyTorch's own files.
    pub(super) fn add(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let name_length = u16::try_from(name.len()).map_err(|_| io::Error::other("entry name too long"))?;
        let mut crc = Crc::new();
        crc.update(bytes);
        let (size, header) = (bytes.len() as u64, self.at);
        let short = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);

        let mut extra = Vec::new();
        if short(size) == u32::MAX {
            extra.extend([1, 0, 16, 0]);
            extra.extend(size.to_le_bytes());
            extra.extend(size.to_le_bytes());
        }
        let unpadded = header + 30 + u64::from(name_length) + extra.len() as u64 + 4;
        let padding = unpadded.next_multiple_of(ALIGNMENT) - unpadded;
        extra.extend(b"FB");
        extra.extend((padding as u16).to_le_bytes());
        extra.extend(std::iter::repeat_n(b'Z', padding as usize));
        self.out.write_all(LOCAL)?;
        self.out.write_all(&common(crc.sum(), short(size), name_length, extra.len() as u16))?;
        self.out.write_all(name.as_bytes())?;
        self.out.write_all(&extra)?;
        self.out.write_all(bytes)?;
        self.at = unpadded + padding + size;

        extra.clear();
        let large: Vec<u64> = [size, size, header].into_iter().filter(|&n| short(n) == u32::MAX).collect();
        if !large.is_empty() {
            extra.extend([1, 0, 8 * large.len() as u8, 0]);
            extra.extend(large.iter().flat_map(|n| n.to_le_bytes()));
        }
        self.central.extend(CENTRAL);
        self.central.extend(VERSION);
        self.central.extend(common(crc.sum(), short(size), name_length, extra.len() as u16));
        self.central.extend([0; 10]); // no comment, first disk, no attributes
        self.central.extend(short(header).to_le_bytes());
        self.central.extend(name.as_bytes());
        self.central.extend(&extra);
        self.count += 1;
        Ok(())
    }

    /// Writes the directory, with 64-bit end records as PyTorch always has them.
    pub(super) fn finish(mut self) -> io::Result<()> {
        let (start, size, count) = (self.at, self.central.len() as u64, self.count);
        let short = |n: u64| u32::try_from(n).unwrap_or(u32::MAX).to_le_bytes();
        let few = u16::try_from(count).unwrap_or(u16::MAX).to_le_bytes();
        let end = &mut self.central;
        end.extend(END64);
        end.extend(44u64.to_le_bytes());
        end.extend([VERSION, VERSION].concat());
        end.extend([0; 8]); // the first disk
        for field in [count, count, size, start] {
            end.extend(field.to_le_bytes());
        }
        end.extend(END64_LOCATOR);
        end.extend([0; 4]);
        end.extend((start + size).to_le_bytes());
        end.extend(1u32.to_le_bytes());
        end.extend(END);
        end.extend([0; 4]);
        end.extend([few, few].concat());
        end.extend([short(size), short(start)].concat());
        end.extend([0; 2]);
        self.out.write_all(end)?;
        self.out.flush()
    }
}

/// Version 4.5, the first with the 64-bit extension.
const VERSION: [u8; 2] = [45, 0];

/// The fields that local and central headers share: from the version needed to the length of the extra field.
fn common(crc: u32, size: u32, name_length: u16, extra_length: u16) -> Vec<u8> {
    let mut out = Vec::with_capacity(26);
    out.extend(VERSION);
    out.extend([0, 8]); // names are UTF-8
    out.extend([0, 0]); // stored
    out.extend([0, 0, 0x21, 0]); // midnight, 1 January 1980: equal values give equal files
    out.extend(crc.to_le_bytes());
    out.extend(size.to_le_bytes());
    out.extend(size.to_le_bytes());
    out.extend(name_length.to_le_bytes());
    out.extend(extra_length.to_le_bytes());
    out
}
