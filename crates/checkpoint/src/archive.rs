//! The zip archive around a checkpoint: which it is, its entries, and writing one.

use std::io::{self, Read, Seek, Write};

use escape_files::archive::{self as zip, ArchiveError, CENTRAL, END, END64, END64_LOCATOR, LOCAL};
use escape_files::text::shown;
use flate2::Crc;

use super::budget::{Budget, room};
use super::error::Fault;
use super::graph::{self, Built, Storages};
use super::pickle;

/// An opened checkpoint.
#[derive(Debug)]
struct Archive<R> {
    zip: zip::Archive<R>,
    /// The top folder with its slash.
    folder: String,
    big_endian: bool,
}

/// Whether a file that begins so is a zip archive.
pub(crate) fn is_archive(head: &[u8]) -> bool {
    head.starts_with(LOCAL)
}

/// Opens a zip archive, whatever it is of.
pub(crate) fn open<R: Read + Seek>(input: R, budget: &mut Budget) -> Result<zip::Archive<R>, Fault> {
    let zip = zip::Archive::new(input)?;
    // What knowing an entry takes: its name, six words, and a node of a tree that is at least half full.
    let directory: usize = zip.names().map(|name| name.len() + 150).sum();
    budget.charge(directory as u64, || "the directory".to_owned())?;
    Ok(zip)
}

/// Reads a whole archive, if it is one of `torch.save`.
pub(crate) fn load<R: Read + Seek>(zip: zip::Archive<R>, budget: &mut Budget) -> Result<Built, Fault> {
    let mut archive = Archive::open(zip)?;
    let bytes = archive.entry("data.pkl", budget)?;
    archive.big_endian = archive.byte_order(budget)?;
    let graph = pickle::run(&bytes, 0, "data.pkl", budget)?;
    graph::build(&graph, &mut archive, budget)
}

impl<R: Read + Seek> Archive<R> {
    /// Finds the top folder; little-endian until told otherwise.
    fn open(zip: zip::Archive<R>) -> Result<Self, Fault> {
        let mut pickles = zip.names().filter_map(|name| {
            let folder = name.strip_suffix("data.pkl")?;
            let depth = folder.matches('/').count();
            (folder.is_empty() || depth == 1 && folder.ends_with('/')).then(|| folder.to_owned())
        });
        let (first, second) = (pickles.next(), pickles.next());
        drop(pickles);
        let Some(folder) = first else {
            let (looks_like, hint) = sniff_entries(&zip);
            return Err(Fault::Other { looks_like, hint: hint.to_owned() });
        };
        if second.is_some() {
            let looks_like = "a zip archive with several data.pkl".to_owned();
            return Err(Fault::Other { looks_like, hint: "unpack it first".to_owned() });
        }
        let (code, constants) = (format!("{folder}code/"), format!("{folder}constants.pkl"));
        if let Some(entry) = zip.names().find(|name| *name == constants || name.starts_with(&code)) {
            return Err(Fault::TorchScript(shown(entry)));
        }
        Ok(Self { zip, folder, big_endian: false })
    }

    /// Whether the storages are big-endian. Files from before the entry `byteorder` existed are little-endian.
    fn byte_order(&mut self, budget: &mut Budget) -> Result<bool, Fault> {
        match self.zip.size(&format!("{}byteorder", self.folder)) {
            None => return Ok(false),
            Some(size) if size > 16 => {}
            Some(_) => match self.entry("byteorder", budget)?.as_slice() {
                b"little" => return Ok(false),
                b"big" => return Ok(true),
                _ => {}
            },
        }
        Err(Fault::damaged("byteorder: expected 'little' or 'big', got something else"))
    }

    /// An entry of the top folder, paid for.
    fn entry(&mut self, name: &str, budget: &mut Budget) -> Result<Vec<u8>, Fault> {
        let name = format!("{}{name}", self.folder);
        if let Some(size) = self.zip.size(&name) {
            budget.charge(size, || shown(&name))?;
        }
        self.read(&name)
    }

    /// The bytes of an entry, whose declared size was paid for.
    fn read(&mut self, name: &str) -> Result<Vec<u8>, Fault> {
        let spoken = shown(name);
        let mut reader = self.zip.reader(name)?.zero_checksum_is_none();
        let mut bytes = room(reader.left(), &spoken)?;
        reader.read_to_end(&mut bytes).map_err(|e| match e.kind() {
            io::ErrorKind::InvalidInput => Fault::Damaged(format!("{spoken} cannot be inflated: {e}")),
            io::ErrorKind::InvalidData => Fault::Damaged(format!("{spoken}: {e}")),
            _ => Fault::Io(e),
        })?;
        Ok(bytes)
    }

    fn storage(&self, key: &str) -> String {
        format!("{}data/{key}", self.folder)
    }
}

impl<R: Read + Seek> Storages for Archive<R> {
    fn size(&self, key: &str) -> Option<u64> {
        self.zip.size(&self.storage(key))
    }

    fn bytes(&mut self, key: &str) -> Result<Vec<u8>, Fault> {
        self.read(&self.storage(key))
    }

    fn is_big_endian(&self) -> bool {
        self.big_endian
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

/// What a zip archive without a `data.pkl` looks like.
fn sniff_entries<R: Read + Seek>(zip: &zip::Archive<R>) -> (String, &'static str) {
    let names: Vec<&str> = zip.names().collect();
    let inner = |ending: &str| names.iter().any(|name| name.ends_with(ending));
    if names.is_empty() {
        ("an empty zip archive".to_owned(), "download or copy the file again")
    } else if names.iter().all(|name| name.ends_with(".npy")) && inner("weight.npy") {
        (
            "a NumPy archive (.npz) of weights".to_owned(),
            "save them in Python with torch.save({name: torch.from_numpy(value) for name, value in numpy.load(\
             'old.npz').items()}, 'new.pth')",
        )
    } else if names.iter().all(|name| name.ends_with(".npy")) {
        (
            "a NumPy archive (.npz)".to_owned(),
            "checkpoints are .pth files; if these are recordings, pass them as data",
        )
    } else if inner("/archive_format") {
        (
            "an archive of torch.export (.pt2)".to_owned(),
            "save its state dict in Python with torch.save(torch.export.load('old.pt2').state_dict, 'new.pth')",
        )
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
pub(crate) struct ArchiveWriter<W> {
    out: W,
    at: u64,
    central: Vec<u8>,
    count: u64,
}

impl<W: Write> ArchiveWriter<W> {
    pub(crate) fn new(out: W) -> Self {
        Self { out, at: 0, central: Vec::new(), count: 0 }
    }

    /// Adds an entry. Its extra field `FB` fills up to the alignment, as in PyTorch's own files.
    pub(crate) fn add(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
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
    pub(crate) fn finish(mut self) -> io::Result<()> {
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
