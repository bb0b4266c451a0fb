//! The zip archive around a checkpoint: which it is, its entries, and writing one.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use escape_data::archive::{self as zip, ArchiveError, CENTRAL, END, END64, END64_LOCATOR, LOCAL};
use escape_data::shown;
use flate2::Crc;

use super::error::{CheckpointError, Fault};

/// What may be read from an archive, and what may be made of it, in multiples of the file's size ...
pub(super) const EXPANSION: u64 = 4;
/// ... plus so much, in bytes, for small files.
const SLACK: u64 = 1 << 20;
/// The largest pickle that is read, in bytes; a state dict takes about 150 bytes a tensor.
const PICKLE_LIMIT: u64 = 16 << 20;

/// An opened checkpoint.
#[derive(Debug)]
pub(super) struct Archive {
    zip: zip::Archive,
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
    let file = File::open(path).map_err(|e| CheckpointError::open(path, e))?;
    let mut head = Vec::new();
    (&file).take(512).read_to_end(&mut head).map_err(reading)?;
    if !head.starts_with(LOCAL) {
        if head.starts_with(LEGACY) {
            return Err(CheckpointError::Legacy { path: path.to_owned() });
        }
        let (looks_like, hint) = sniff(&head);
        return not_a_checkpoint(looks_like.to_owned(), hint);
    }
    let zip = zip::Archive::new(file).map_err(|e| Fault::from(e).at(path))?;
    let mut pickles = zip.names().filter_map(|name| {
        let folder = name.strip_suffix("data.pkl")?;
        let depth = folder.matches('/').count();
        (folder.is_empty() || depth == 1 && folder.ends_with('/')).then(|| folder.to_owned())
    });
    let (first, second) = (pickles.next(), pickles.next());
    drop(pickles);
    let Some(folder) = first else {
        let (looks_like, hint) = sniff_entries(&zip);
        return not_a_checkpoint(looks_like, hint);
    };
    if second.is_some() {
        return not_a_checkpoint("a zip archive with several data.pkl".to_owned(), "unpack it first");
    }
    let (code, constants) = (format!("{folder}code/"), format!("{folder}constants.pkl"));
    if let Some(entry) = zip.names().find(|name| *name == constants || name.starts_with(&code)) {
        return Err(CheckpointError::TorchScript { path: path.to_owned(), entry: shown(entry) });
    }
    let budget = zip.length().saturating_mul(EXPANSION).saturating_add(SLACK);
    Ok(Archive { zip, folder, budget })
}

impl Archive {
    /// Size of the file in bytes.
    pub(super) fn length(&self) -> u64 {
        self.zip.length()
    }

    /// The pickle that describes the value.
    pub(super) fn pickle(&mut self) -> Result<Vec<u8>, Fault> {
        let name = format!("{}data.pkl", self.folder);
        match self.zip.size(&name) {
            Some(size) if size > PICKLE_LIMIT => {
                let problem = format!("data.pkl: expected at most {PICKLE_LIMIT} bytes, got {size}");
                Err(Fault::TooLarge(problem))
            }
            _ => self.entry(&name),
        }
    }

    /// Whether the storages are big-endian. Files from before the entry `byteorder` existed are little-endian.
    pub(super) fn is_big_endian(&mut self) -> Result<bool, Fault> {
        let name = format!("{}byteorder", self.folder);
        match self.zip.size(&name) {
            None => return Ok(false),
            Some(size) if size > 16 => {}
            Some(_) => match self.entry(&name)?.as_slice() {
                b"little" => return Ok(false),
                b"big" => return Ok(true),
                _ => {}
            },
        }
        Err(Fault::damaged("byteorder: expected 'little' or 'big', got something else"))
    }

    /// Size of a storage in bytes, if there is one of this key.
    pub(super) fn storage_size(&self, key: &str) -> Option<u64> {
        self.zip.size(&format!("{}data/{key}", self.folder))
    }

    /// The bytes of a storage.
    pub(super) fn storage(&mut self, key: &str) -> Result<Vec<u8>, Fault> {
        self.entry(&format!("{}data/{key}", self.folder))
    }

    fn entry(&mut self, name: &str) -> Result<Vec<u8>, Fault> {
        let (spoken, length) = (shown(name), self.length());
        let mut reader = self.zip.reader(name)?.zero_checksum_is_none();
        let size = reader.left();
        // Overlapping entries and deflated ones can multiply a file's size.
        self.budget = self.budget.checked_sub(size).ok_or_else(|| {
            Fault::TooLarge(format!(
                "with {spoken} of {size} bytes its entries add up to more than {EXPANSION} times the file's \
                 {length} bytes"
            ))
        })?;
        let mut bytes = Vec::new();
        if reader.is_stored() {
            let size = usize::try_from(size).unwrap_or(usize::MAX);
            bytes.try_reserve_exact(size).map_err(|_| no_memory(&spoken, size as u64))?;
        }
        reader.read_to_end(&mut bytes).map_err(|e| match e.kind() {
            io::ErrorKind::InvalidInput => Fault::Damaged(format!("{spoken} cannot be inflated: {e}")),
            io::ErrorKind::InvalidData => Fault::Damaged(format!("{spoken}: {e}")),
            io::ErrorKind::OutOfMemory => no_memory(&spoken, size),
            _ => Fault::Io(e),
        })?;
        Ok(bytes)
    }
}

impl From<ArchiveError> for Fault {
    fn from(error: ArchiveError) -> Self {
        match error {
            ArchiveError::Io(source) => Self::Io(source),
            ArchiveError::Damaged(problem) => Self::Damaged(problem),
            ArchiveError::Unsupported(problem) => Self::Unsupported(problem),
        }
    }
}

fn no_memory(what: &str, bytes: u64) -> Fault {
    Fault::TooLarge(format!("not enough memory for {what}, {bytes} bytes"))
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
    } else if head.get(8) == Some(&b'{')
        && head.first_chunk().is_some_and(|n| u64::from_le_bytes(*n) < 100_000_000)
    {
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
fn sniff_entries(zip: &zip::Archive) -> (String, &'static str) {
    let names: Vec<&str> = zip.names().collect();
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
