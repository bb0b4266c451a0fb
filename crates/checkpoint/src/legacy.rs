//! The format of `torch.save` before PyTorch 1.6, and of `_use_new_zipfile_serialization=False` to this day.
//!
//! Five pickles, one after the other: a magic number, the protocol (1001), facts about the machine, the object,
//! and the keys of its storages in the order in which these follow, each as its number of elements (8 bytes) and the
//! elements. Numbers are little-endian whatever machine wrote them. Source: `_legacy_save` and `_legacy_load` in
//! `torch/serialization.py`, `THPStorage_writeFileRaw` in `torch/csrc/serialization.cpp` (PyTorch 2.11).

use std::collections::HashMap;
use std::io::{Read, Seek, SeekFrom};

use escape_files::text::shown;

use super::budget::{Budget, read_at};
use super::error::Fault;
use super::graph::{self, Built, Storages};
use super::pickle::{self, Graph, Item, Object, StorageType};

/// The magic number, little-endian, behind the opcode that it is written with.
const MAGIC: &[u8] = b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.";
const PROTOCOL: i64 = 1001;
/// What positions in messages count in.
const PART: &str = "the file";
/// So much is read at first to find the end of the pickles; a state dict takes about 150 bytes a tensor.
const FIRST_READ: u64 = 1 << 16;

/// Whether a file that begins so is in this format: protocol and, from protocol 4 on, a frame precede the number.
pub(crate) fn is_legacy(head: &[u8]) -> bool {
    head.first() == Some(&0x80)
        && [2, 11].iter().any(|&at| head.get(at..).is_some_and(|h| h.starts_with(MAGIC)))
}

/// Reads a whole file of `length` bytes.
pub(crate) fn load(mut input: impl Read + Seek, length: u64, budget: &mut Budget) -> Result<Built, Fault> {
    let bytes = pickled(&mut input, length, budget)?;
    let (graph, keys) = pickles(&bytes, budget)?;
    let places = mentioned(&graph, budget)?;
    let mut storages = File { input, places };
    storages.locate(&keys, length)?;
    graph::build(&graph, &mut storages, budget)
}

/// The bytes of all five pickles, whose length nothing tells: twice as many are tried until they end.
fn pickled(input: &mut (impl Read + Seek), length: u64, budget: &mut Budget) -> Result<Vec<u8>, Fault> {
    let mut bytes = Vec::new();
    let mut wanted = FIRST_READ;
    input.seek(SeekFrom::Start(0)).map_err(Fault::Io)?;
    loop {
        let more = wanted.min(length).saturating_sub(bytes.len() as u64);
        budget.reserve(&mut bytes, usize::try_from(more).unwrap_or(usize::MAX), "the pickle")?;
        input.take(more).read_to_end(&mut bytes).map_err(Fault::Io)?;
        // What the attempt takes is free again after it.
        let attempt = pickles(&bytes, &mut budget.clone()).map(|(_, keys)| keys.end);
        match attempt {
            Err(Fault::CutShort(_)) if wanted < length => wanted = wanted.saturating_mul(2),
            Err(fault) => return Err(fault),
            Ok(end) => {
                bytes.truncate(end);
                return Ok(bytes);
            }
        }
    }
}

/// The object and the storages' keys.
fn pickles<'a>(bytes: &'a [u8], budget: &mut Budget) -> Result<(Graph<'a>, Graph<'a>), Fault> {
    let mut at = 0;
    let mut next = |budget: &mut Budget| {
        let graph = pickle::run(bytes, at, PART, budget)?;
        at = graph.end;
        Ok::<_, Fault>(graph)
    };
    // Whatever is not the object is but numbers and texts.
    let plain = |graph: Graph<'a>| match graph.names.first() {
        None => Ok(graph),
        Some(name) => Err(Fault::Damaged(format!(
            "expected numbers and texts around the object, got {}.{}; nothing was executed",
            shown(name.module),
            shown(name.name)
        ))),
    };
    plain(next(budget)?)?; // the magic number, which was seen already
    match plain(next(budget)?)?.root {
        Item::Int(PROTOCOL) => {}
        other => {
            let got =
                if let Item::Int(version) = other { version.to_string() } else { "no number".to_owned() };
            return Err(Fault::Unsupported(format!("expected protocol version {PROTOCOL}, got {got}")));
        }
    }
    plain(next(budget)?)?; // byte order and sizes of C's types, of which nothing depends
    Ok((next(budget)?, plain(next(budget)?)?))
}

/// A storage in the file.
struct Place {
    /// Elements, or bytes if untyped.
    numel: u64,
    /// Size in bytes.
    size: u64,
    /// Where its elements begin, once that is known.
    start: Option<u64>,
}

/// The storages that the object mentions, by their keys.
fn mentioned<'a>(graph: &Graph<'a>, budget: &mut Budget) -> Result<HashMap<&'a str, Place>, Fault> {
    let mut places = HashMap::new();
    for object in &graph.objects {
        let Object::Storage(storage) = object else { continue };
        // Six words, and a table is at least 7/16 full after doubling.
        budget.charge(112, || "the places of storages".to_owned())?;
        let (numel, spoken) = (storage.numel, shown(storage.key));
        let Some(size) = numel.checked_mul(element_size(storage.kind)) else {
            let problem = format!("storage '{spoken}': expected less than 2^64 bytes, got {numel} elements");
            return Err(Fault::Damaged(problem));
        };
        let place = places.entry(storage.key).or_insert(Place { numel, size, start: None });
        if (place.numel, place.size) != (numel, size) {
            let problem =
                format!("storage '{spoken}': expected one size, got {} and {size} bytes", place.size);
            return Err(Fault::Damaged(problem));
        }
    }
    Ok(places)
}

fn element_size(kind: StorageType<'_>) -> u64 {
    match kind {
        StorageType::Of(dtype) => dtype.size() as u64,
        StorageType::Other("ComplexDoubleStorage") => 16,
        StorageType::Other("ComplexFloatStorage") => 8,
        StorageType::Other("QInt32Storage") => 4,
        StorageType::Untyped | StorageType::Other(_) => 1,
    }
}

struct File<'a, R> {
    input: R,
    places: HashMap<&'a str, Place>,
}

impl<R: Read + Seek> File<'_, R> {
    /// Finds where each storage begins, by the order of the keys.
    fn locate(&mut self, keys: &Graph<'_>, length: u64) -> Result<(), Fault> {
        let Some(Object::List(list)) = keys.object(keys.root) else {
            return Err(Fault::damaged(
                "expected a list of the storages' keys after the object, got something else",
            ));
        };
        let mut at = keys.end as u64;
        for item in list {
            let Some(Object::Str(key)) = keys.object(*item) else {
                return Err(Fault::damaged("expected the key of a storage as text, got something else"));
            };
            let damaged = |expected: String| {
                Err(Fault::Damaged(format!("storage '{}' at byte {at}: expected {expected}", shown(key))))
            };
            let Some(place) = self.places.get_mut(key.as_ref()) else {
                return damaged("a tensor of it, got none".to_owned());
            };
            if place.start.is_some() {
                return damaged("it once, got it twice".to_owned());
            }
            let start = at.saturating_add(8);
            let end = start.saturating_add(place.size);
            if end > length {
                return damaged(format!("it to end at byte {end}, got a file of {length}"));
            }
            let mut found = [0; 8];
            self.input.seek(SeekFrom::Start(at)).map_err(Fault::Io)?;
            self.input.read_exact(&mut found).map_err(Fault::Io)?;
            let found = i64::from_le_bytes(found);
            if u64::try_from(found) != Ok(place.numel) {
                return damaged(format!("its {} elements, got {found}", place.numel));
            }
            place.start = Some(start);
            at = end;
        }
        Ok(())
    }
}

impl<R: Read + Seek> Storages for File<'_, R> {
    fn size(&self, key: &str) -> Option<u64> {
        self.places.get(key).filter(|place| place.start.is_some()).map(|place| place.size)
    }

    fn bytes(&mut self, key: &str) -> Result<Vec<u8>, Fault> {
        let Some(&Place { size, start: Some(start), .. }) = self.places.get(key) else {
            return Err(Fault::Damaged(format!(
                "storage '{}': expected it in the file, got none",
                shown(key)
            )));
        };
        Ok(read_at(&mut self.input, start, size, &format!("storage '{}'", shown(key)))?)
    }

    fn is_big_endian(&self) -> bool {
        false
    }
}
