//! The values of a data set, wherever they lie.

use std::io::{BufReader, Read, Seek};

use flate2::bufread::ZlibDecoder;

use super::Sink;
use super::objects::{Filter, Index, Layout, Object, TreeNode};
use super::raw::{Fault, Fields, Fletcher, Raw, damaged, unsupported, without_checksum};
use crate::budget::Budget;
use crate::scalar::{Element, Endian, Scalar, stream_values};
use crate::text::dims as spoken;

/// Where an array lies and how it is stored.
pub struct Dataset {
    /// Slowest first.
    pub dims: Vec<u64>,
    limits: Vec<Option<u64>>,
    layout: Layout,
    filters: Vec<Filter>,
    /// Bytes of an element.
    each: usize,
    /// Dimensions that the file does not know of.
    own: usize,
}

/// Positions of chunks, slowest dimension first.
struct Grid {
    dims: Vec<usize>,
    /// Size of a chunk.
    chunk: Vec<usize>,
    /// Chunks along each dimension.
    chunks: Vec<usize>,
    /// Chunks that a step along each dimension passes in an index, which counts those that may still be added.
    strides: Vec<usize>,
}

impl Grid {
    /// Chunks in all.
    fn count(&self) -> usize {
        self.chunks.iter().product()
    }

    /// Where chunk `index` is, in chunks, and which one it is in an index.
    fn position(&self, index: usize) -> (Vec<usize>, usize) {
        let mut rest = index;
        let mut position = vec![0; self.chunks.len()];
        for (place, &chunks) in position.iter_mut().zip(&self.chunks).rev() {
            (*place, rest) = (rest % chunks, rest / chunks);
        }
        let stored = position.iter().zip(&self.strides).map(|(place, stride)| place * stride).sum();
        (position, stored)
    }
}

/// A chunk as the index has it.
struct Chunk {
    address: u64,
    /// Bytes in the file.
    stored: u64,
    /// Bit k: the k-th filter was left out.
    mask: u32,
}

impl Dataset {
    /// The data set that an object is, with elements of `each` bytes.
    ///
    /// # Errors
    /// [`Fault`] if it lies in another file, has no dimensions, or was written with a filter that is not read.
    pub fn new(object: Object, each: usize) -> Result<Self, Fault> {
        if object.external {
            return Err(unsupported("its values lie in another file; save it anew"));
        }
        let (Some((dims, limits)), Some(layout)) = (object.space, object.layout) else {
            return Err(damaged("a data set without dimensions or without a place"));
        };
        if let Some(other) = object.filters.iter().find_map(|filter| match filter {
            Filter::Other(id) => Some(filter_name(*id)),
            _ => None,
        }) {
            return Err(unsupported(format!(
                "it is stored with the filter {other}, expected deflate (gzip), shuffle or fletcher32; save it anew"
            )));
        }
        Ok(Self { dims, limits, layout, filters: object.filters, each, own: 0 })
    }

    /// Take each element for `parts` smaller ones, in a dimension of their own.
    pub fn split_elements(&mut self, parts: u64) {
        let each = self.each as u64;
        self.dims.push(parts);
        self.limits.push(Some(parts));
        self.each = (each / parts.max(1)) as usize;
        self.own += 1;
        if let Layout::Chunked { chunk, .. } = &mut self.layout
            && let Some(size) = chunk.last_mut()
        {
            *size = parts;
            chunk.push(self.each as u64);
        }
    }

    /// The bytes of a short data set that is not in chunks.
    ///
    /// # Errors
    /// It is longer than `limit`, in chunks, or damaged.
    pub fn bytes<R: Read + Seek>(&self, raw: &mut Raw<R>, limit: u64) -> Result<Vec<u8>, Fault> {
        match &self.layout {
            Layout::Compact(content) if content.len() as u64 <= limit => Ok(content.clone()),
            &Layout::Contiguous { address: Some(address), size } if size <= limit => raw.bytes(address, size),
            _ => Err(damaged("expected a short text")),
        }
    }

    /// Put each number of 64 bits into its place, exactly.
    ///
    /// # Errors
    /// It is too long, or damaged.
    pub fn addresses<R: Read + Seek>(
        mut self,
        raw: &mut Raw<R>,
        budget: &mut Budget,
        places: &mut [u64],
    ) -> Result<(), Fault> {
        // Two numbers of 32 bits each, for a float64 does not hold every address.
        self.split_elements(2);
        let element = (Scalar::U32, Endian::Little);
        self.read(raw, element, budget, &mut |start, run| {
            for (at, &half) in (start..).zip(run) {
                places[at / 2] |= (half as u64) << (32 * (at % 2));
            }
        })
    }

    /// Hand over all values in the file's order.
    ///
    /// # Errors
    /// It is damaged, packed in a way that is not known, or the budget does not allow for it.
    pub fn read<R: Read + Seek>(
        &self,
        raw: &mut Raw<R>,
        element: Element,
        budget: &mut Budget,
        sink: &mut Sink<'_>,
    ) -> Result<(), Fault> {
        let count = self.dims.iter().try_fold(1u64, |n, &dim| n.checked_mul(dim));
        let count = count.and_then(|count| usize::try_from(count).ok());
        let bytes = count.and_then(|count| count.checked_mul(self.each)).map(|bytes| bytes as u64);
        let (Some(count), Some(bytes)) = (count, bytes) else {
            return Err(damaged(format!("{} values are too many to count", spoken(&self.dims))));
        };
        let wrong_size =
            |size: u64| damaged(format!("{} values take {bytes} bytes, got {size}", spoken(&self.dims)));
        if count == 0 {
            return Ok(());
        }
        match &self.layout {
            Layout::Other(what) => Err(unsupported(format!(
                "it is stored as {what}; save it anew, in MATLAB or with h5py's defaults"
            ))),
            Layout::Compact(content) if content.len() as u64 != bytes => {
                Err(wrong_size(content.len() as u64))
            }
            Layout::Compact(content) => Ok(stream_values(&mut &content[..], element, count, sink)?),
            &Layout::Contiguous { size, .. } if size != bytes => Err(wrong_size(size)),
            Layout::Contiguous { address: None, .. } | Layout::Chunked { address: None, .. } => {
                Err(damaged("its values were never written"))
            }
            &Layout::Contiguous { address: Some(address), .. } => {
                Ok(stream_values(&mut raw.part(address, bytes)?, element, count, sink)?)
            }
            &Layout::Chunked { ref chunk, address: Some(address), index, whole_edges } => {
                let grid = self.grid(chunk, count)?;
                let mut reading =
                    ChunkReader { dataset: self, grid, whole_edges, element, buffers: Default::default() };
                // Sorting bytes back takes a second one.
                let shuffled = self.filters.iter().any(|filter| matches!(filter, Filter::Shuffle(_)));
                let buffers = if shuffled { 2 } else { 1 };
                let chunk_bytes = reading.bytes();
                budget.take("a chunk of it", chunk_bytes, buffers)?;
                reading.all(raw, address, index, budget, sink)?;
                budget.give_back(chunk_bytes, buffers);
                Ok(())
            }
        }
    }

    /// How the array is cut into chunks; `chunk` ends with the size of an element.
    fn grid(&self, chunk: &[u64], count: usize) -> Result<Grid, Fault> {
        let bad = || damaged(format!("chunks of {} for {}", spoken(chunk), spoken(&self.dims)));
        let (_, chunk) = chunk.split_last().filter(|(each, _)| **each == self.each as u64).ok_or_else(bad)?;
        let sizes = |dims: &[u64]| -> Option<Vec<usize>> {
            dims.iter().map(|&dim| usize::try_from(dim).ok()).collect()
        };
        let (dims, chunk) = sizes(&self.dims).zip(sizes(chunk)).ok_or_else(bad)?;
        if dims.is_empty() || dims.len() != chunk.len() {
            return Err(bad());
        }
        let product = |sizes: &[usize]| sizes.iter().try_fold(1usize, |n, &size| n.checked_mul(size));
        let elements = product(&chunk).filter(|&n| n > 0).ok_or_else(bad)?;
        elements.checked_mul(self.each).and_then(|n| n.checked_add(8)).ok_or_else(bad)?;
        let chunks: Vec<usize> = dims.iter().zip(&chunk).map(|(dim, chunk)| dim.div_ceil(*chunk)).collect();
        // Much more than there is to read would have to be unpacked. Edges may take some; no array needs so much.
        let unpacked = product(&chunks).and_then(|n| n.checked_mul(elements)).unwrap_or(usize::MAX);
        if unpacked > count.saturating_mul(4).saturating_add(1 << 24) {
            let chunk: Vec<u64> = chunk.iter().map(|&n| n as u64).collect();
            return Err(unsupported(format!(
                "chunks of {} are far larger than its {}; save it anew",
                spoken(&chunk),
                spoken(&self.dims)
            )));
        }
        let mut strides = vec![1usize; dims.len()];
        for k in (0..dims.len() - 1).rev() {
            let limit = self.limits.get(k + 1).copied().flatten().unwrap_or(0);
            let columns = usize::try_from(limit).unwrap_or(0).max(dims[k + 1]);
            strides[k] = strides[k + 1].saturating_mul(columns.div_ceil(chunk[k + 1]));
        }
        Ok(Grid { dims, chunk, chunks, strides })
    }
}

struct ChunkReader<'a> {
    dataset: &'a Dataset,
    grid: Grid,
    /// Whether chunks that reach over the edge are stored without filters.
    whole_edges: bool,
    element: Element,
    buffers: [Vec<u8>; 2],
}

impl ChunkReader<'_> {
    /// Bytes of a chunk, with room for a checksum.
    fn bytes(&self) -> usize {
        self.grid.chunk.iter().product::<usize>() * self.dataset.each + 4
    }

    fn all<R: Read + Seek>(
        &mut self,
        raw: &mut Raw<R>,
        address: u64,
        index: Index,
        budget: &mut Budget,
        sink: &mut Sink<'_>,
    ) -> Result<(), Fault> {
        let plain = self.bytes() as u64 - 4;
        let chunks = self.grid.count();
        match index {
            Index::Tree => return self.tree(raw, address, budget, sink),
            Index::Single(_) if chunks != 1 => {
                return Err(damaged("one chunk where there should be more"));
            }
            Index::Single(filtered) => {
                let (stored, mask) = filtered.unwrap_or((plain, 0));
                self.chunk(raw, 0, Chunk { address, stored, mask }, sink)?;
            }
            Index::Implicit => {
                for index in 0..chunks {
                    let before = self.grid.position(index).1 as u64;
                    let address = before.checked_mul(plain).and_then(|n| n.checked_add(address));
                    let address = address.ok_or_else(|| damaged("chunks beyond any file"))?;
                    self.chunk(raw, index, Chunk { address, stored: plain, mask: 0 }, sink)?;
                }
            }
            Index::Array => {
                let array = FixedArray::open(raw, address)?;
                for index in 0..chunks {
                    let chunk = array.entry(raw, self.grid.position(index).1, plain)?;
                    let chunk = chunk.ok_or_else(|| unwritten(index, chunks))?;
                    self.chunk(raw, index, chunk, sink)?;
                }
            }
        }
        Ok(())
    }

    /// Chunks in a B-tree of version 1, which has them in order.
    fn tree<R: Read + Seek>(
        &mut self,
        raw: &mut Raw<R>,
        root: u64,
        budget: &mut Budget,
        sink: &mut Sink<'_>,
    ) -> Result<(), Fault> {
        // One of our own is never cut.
        let rank = self.dataset.dims.len() - self.dataset.own;
        let chunks = self.grid.count();
        // Every node leads to one chunk at least, so that more of them are damage; some for the path to them.
        let limit = chunks.saturating_add(1 << 10);
        let (mut done, mut visits) = (0, 0);
        // The node, its parent's level, and which of its children is next.
        let mut nodes = vec![(root, None)];
        let mut taken = 0;
        while let Some((address, parent)) = nodes.pop() {
            visits += 1;
            let node = TreeNode::read(raw, address, parent, 1, 8 + 8 * (rank + 1))?;
            if visits > 2 * limit || nodes.len() + node.count > limit {
                return Err(damaged("the tree of its chunks never ends"));
            }
            if node.level > 0 {
                // Twice, for the list may be grown by doubling it.
                let more = (nodes.len() + node.count).saturating_sub(taken);
                budget.take("the tree of its chunks", 2 * more, size_of::<(u64, Option<u8>)>())?;
                taken += more;
                for child in (0..node.count).rev() {
                    nodes.push((node.child(child)?.1, Some(node.level)));
                }
                continue;
            }
            for child in 0..node.count {
                let (key, address) = node.child(child)?;
                let mut fields = Fields::new(key, raw.sizes);
                let (stored, mask) = (u64::from(fields.u32()?), fields.u32()?);
                let at = (0..rank).map(|_| fields.u64()).collect::<std::io::Result<Vec<_>>>()?;
                let mut index = Some(0usize);
                for (&at, (&chunk, &chunks)) in at.iter().zip(self.grid.chunk.iter().zip(&self.grid.chunks)) {
                    let place = usize::try_from(at / chunk as u64).unwrap_or(usize::MAX);
                    let fits = at.is_multiple_of(chunk as u64) && place < chunks;
                    index = index.filter(|_| fits).map(|index| index * chunks + place);
                }
                let Some(index) = index.filter(|&index| index >= done) else {
                    return Err(damaged(format!("a chunk at {} out of its order", spoken(&at))));
                };
                if index > done {
                    return Err(unwritten(done, chunks));
                }
                done += 1;
                self.chunk(raw, index, Chunk { address, stored, mask }, sink)?;
            }
        }
        if done < chunks {
            return Err(unwritten(done, chunks));
        }
        Ok(())
    }

    /// Read one chunk and hand over its values.
    fn chunk<R: Read + Seek>(
        &mut self,
        raw: &mut Raw<R>,
        index: usize,
        chunk: Chunk,
        sink: &mut Sink<'_>,
    ) -> Result<(), Fault> {
        let (position, _) = self.grid.position(index);
        let Grid { dims, chunk: size, .. } = &self.grid;
        let start: Vec<usize> = position.iter().zip(size).map(|(place, size)| place * size).collect();
        let inside: Vec<usize> = start
            .iter()
            .zip(size.iter().zip(dims))
            .map(|(start, (size, dim))| *size.min(&(dim - start)))
            .collect();
        let whole = inside == *size;
        self.unpack(raw, &chunk, whole || !self.whole_edges)?;
        let Grid { dims, chunk: size, .. } = &self.grid;
        let (each, last) = (self.dataset.each, size.len() - 1);
        // Row after row along the fastest dimension.
        let mut row = vec![0; last];
        loop {
            let mut from = 0;
            let mut to = 0;
            for k in 0..last {
                from = (from + row[k]) * size[k + 1];
                to = (to + start[k] + row[k]) * dims[k + 1];
            }
            let bytes = &self.buffers[0][from * each..][..inside[last] * each];
            let to = to + start[last];
            stream_values(&mut &bytes[..], self.element, inside[last], &mut |at, run| sink(to + at, run))?;
            let Some(k) = (0..last).rev().find(|&k| row[k] + 1 < inside[k]) else { return Ok(()) };
            row[k] += 1;
            row[k + 1..].fill(0);
        }
    }

    /// Undo the filters of a chunk: its bytes are in the first buffer afterwards.
    fn unpack<R: Read + Seek>(
        &mut self,
        raw: &mut Raw<R>,
        chunk: &Chunk,
        filtered: bool,
    ) -> Result<(), Fault> {
        let plain = self.bytes() - 4;
        let kept = |(k, filter): (usize, &Filter)| {
            (filtered && chunk.mask.checked_shr(k as u32).unwrap_or(0) & 1 == 0).then_some(*filter)
        };
        let filters: Vec<Filter> = self.dataset.filters.iter().enumerate().filter_map(kept).collect();
        // What was done before and after compression, if there was one.
        let (before, after, packed) = match filters.iter().position(|filter| *filter == Filter::Deflate) {
            Some(at) => (&filters[..at], &filters[at + 1..], true),
            None => (&filters[..], &[][..], false),
        };
        let sums = |filters: &[Filter]| filters.iter().filter(|f| **f == Filter::Fletcher32).count();
        if !matches!(after, [] | [Filter::Fletcher32]) || sums(before) > 1 {
            return Err(unsupported("its filters are combined in an unusual way; save it anew"));
        }
        let mut stored = chunk.stored;
        if !after.is_empty() {
            stored = stored.checked_sub(4).ok_or_else(|| damaged("a chunk too short for its checksum"))?;
            check_sum(raw, chunk.address, stored)?;
        }
        let [bytes, spare] = &mut self.buffers;
        let size = plain + 4 * sums(before);
        bytes.resize(size, 0);
        let mut part = raw.part(chunk.address, stored)?;
        if packed {
            let mut unpacked = ZlibDecoder::new(BufReader::with_capacity(1 << 16, part));
            unpacked.read_exact(bytes)?;
            if unpacked.read(&mut [0])? != 0 {
                return Err(damaged(format!("a chunk unpacks to more than its {size} bytes")));
            }
        } else {
            if stored != size as u64 {
                return Err(damaged(format!("a chunk of {stored} bytes, expected {size}")));
            }
            part.read_exact(bytes)?;
        }
        for filter in before.iter().rev() {
            match *filter {
                Filter::Fletcher32 => {
                    let (content, sum) =
                        bytes.split_last_chunk().ok_or_else(|| damaged("a chunk without checksum"))?;
                    let mut fletcher = Fletcher::default();
                    fletcher.add(content);
                    if !fletcher.is(*sum) {
                        return Err(damaged("a chunk whose checksum is wrong"));
                    }
                    bytes.truncate(plain);
                }
                Filter::Shuffle(each) => {
                    spare.resize(bytes.len(), 0);
                    unshuffle(bytes, spare, each as usize);
                    std::mem::swap(bytes, spare);
                }
                Filter::Deflate | Filter::Other(_) => {}
            }
        }
        Ok(())
    }
}

fn unwritten(chunk: usize, chunks: usize) -> Fault {
    damaged(format!("chunk {chunk} of {chunks} was never written"))
}

/// Put the bytes of each element together again: first come all first bytes, then all second ones, and so on.
fn unshuffle(from: &[u8], to: &mut [u8], each: usize) {
    let count = from.len().checked_div(each).unwrap_or(0);
    if each < 2 || count < 2 {
        return to.copy_from_slice(from);
    }
    let whole = count * each;
    for (k, bytes) in from[..whole].chunks_exact(count).enumerate() {
        for (element, &byte) in to[..whole].chunks_exact_mut(each).zip(bytes) {
            element[k] = byte;
        }
    }
    to[whole..].copy_from_slice(&from[whole..]);
}

/// Compare the checksum that follows `size` bytes.
fn check_sum<R: Read + Seek>(raw: &mut Raw<R>, address: u64, size: u64) -> Result<(), Fault> {
    let mut part = raw.part(address, size.saturating_add(4))?;
    let mut sum = Fletcher::default();
    let mut buffer = vec![0; 1 << 16];
    let mut left = size;
    while left > 0 {
        let step = left.min(1 << 16) as usize;
        part.read_exact(&mut buffer[..step])?;
        sum.add(&buffer[..step]);
        left -= step as u64;
    }
    let mut stored = [0; 4];
    part.read_exact(&mut stored)?;
    if sum.is(stored) { Ok(()) } else { Err(damaged("a chunk whose checksum is wrong")) }
}

fn filter_name(id: u16) -> String {
    let name = match id {
        4 => "szip",
        5 => "nbit",
        6 => "scale-offset",
        32000 => "LZF",
        32001 => "Blosc",
        32004 => "LZ4",
        32015 => "Zstandard",
        _ => return format!("number {id}"),
    };
    name.to_owned()
}

/// A fixed array of chunks.
struct FixedArray {
    /// Whether entries tell the stored size and the filter mask.
    filtered: bool,
    entry: usize,
    /// Entries of a page, if there are several.
    page: Option<usize>,
    count: usize,
    /// Of the first entry; of its page, where there are pages.
    start: u64,
    /// All entries, unless they are in pages.
    entries: Vec<u8>,
}

impl FixedArray {
    fn open<R: Read + Seek>(raw: &mut Raw<R>, address: u64) -> Result<Self, Fault> {
        let sizes = raw.sizes;
        let head = raw.bytes(address, (8 + sizes.length + sizes.address + 4) as u64)?;
        let mut fields = Fields::new(without_checksum(&head)?, sizes);
        fields.signature(b"FAHD")?;
        let version = fields.u8()?;
        let (client, entry, bits) = (fields.u8()?, usize::from(fields.u8()?), fields.u8()?);
        let (count, block) = (fields.length()?, fields.address()?);
        let block = block.ok_or_else(|| damaged("its values were never written"))?;
        let filtered = client == 1;
        let fits = if filtered { entry > sizes.address + 4 } else { entry == sizes.address };
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        if version != 0 || client > 1 || !fits || entry > sizes.address + 12 || bits >= 32 {
            return Err(damaged("a fixed array of chunks that cannot be understood"));
        }
        let page = 1usize << bits;
        let head = (6 + sizes.address) as u64;
        if count <= page {
            // Its own checksum covers the whole block.
            let size = count.saturating_mul(entry) as u64;
            let whole = raw.bytes(block, head.saturating_add(size).saturating_add(4))?;
            let mut fields = Fields::new(without_checksum(&whole)?, sizes);
            fields.signature(b"FADB")?;
            fields.skip(head as usize - 4)?;
            let entries = fields.take(fields.left())?.to_vec();
            return Ok(Self { filtered, entry, page: None, count, start: 0, entries });
        }
        Fields::new(&raw.bytes(block, 4)?, sizes).signature(b"FADB")?;
        // Which pages there are, one bit each, and a checksum; then the pages, each with its own.
        let bitmap = count.div_ceil(page).div_ceil(8) as u64;
        let start = block.checked_add(head + 4).and_then(|n| n.checked_add(bitmap));
        let start = start.ok_or_else(|| damaged("a fixed array beyond any file"))?;
        Ok(Self { filtered, entry, page: Some(page), count, start, entries: Vec::new() })
    }

    /// A chunk by its number; `None` if it was never written. `plain` is its size if nothing else is said.
    fn entry<R: Read + Seek>(
        &self,
        raw: &mut Raw<R>,
        index: usize,
        plain: u64,
    ) -> Result<Option<Chunk>, Fault> {
        if index >= self.count {
            return Err(damaged(format!("chunk {index} of a fixed array of {}", self.count)));
        }
        let own;
        let bytes = match self.page {
            None => self.entries.get(index * self.entry..).unwrap_or_default(),
            Some(page) => {
                let before = (index * self.entry) as u64 + 4 * (index / page) as u64;
                own = raw.bytes(self.start.saturating_add(before), self.entry as u64)?;
                &own
            }
        };
        let mut fields = Fields::new(bytes, raw.sizes);
        let Some(address) = fields.address()? else { return Ok(None) };
        if !self.filtered {
            return Ok(Some(Chunk { address, stored: plain, mask: 0 }));
        }
        let stored = fields.number(self.entry - raw.sizes.address - 4)?;
        Ok(Some(Chunk { address, stored, mask: fields.u32()? }))
    }
}
