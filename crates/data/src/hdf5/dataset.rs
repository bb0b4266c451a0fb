//! The values of a data set, wherever they lie. Arrays have at most two dimensions here, R rows x C columns; a list is
//! one row.

use std::io::{BufReader, Read, Seek};
use std::path::Path;

use flate2::bufread::ZlibDecoder;

use super::file::{Fault, Fields, Fletcher, Raw, damaged, unsupported, without_checksum};
use super::objects::{Filter, Index, Layout, Object, TreeNode};
use crate::budget::Budget;
use crate::error::shape;
use crate::scalar::{Element, Endian, Scalar, read_values};

/// Where an array lies and how it is stored.
pub(super) struct Dataset {
    /// Slowest first.
    pub(super) dims: Vec<u64>,
    limits: Vec<Option<u64>>,
    layout: Layout,
    filters: Vec<Filter>,
    /// Bytes of an element.
    each: usize,
}

/// Two-dimensional positions of chunks.
struct Grid {
    /// R x C.
    dims: [usize; 2],
    /// Rows and columns of a chunk.
    chunk: [usize; 2],
    /// Chunks along each dimension.
    chunks: [usize; 2],
    /// Chunks a row of chunks has in the index, which counts those that may still be added.
    stride: usize,
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
    pub(super) fn new(object: Object, each: usize) -> Result<Self, Fault> {
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
        Ok(Self { dims, limits, layout, filters: object.filters, each })
    }

    /// All values in the file's order, each converted.
    pub(super) fn read<R: Read + Seek, T: Copy + Default>(
        &self,
        raw: &mut Raw<R>,
        element: Element,
        path: &Path,
        name: &str,
        budget: &mut Budget,
        convert: impl Fn(f64) -> T + Copy,
    ) -> Result<Vec<T>, Fault> {
        let count = self.dims.iter().try_fold(1u64, |n, &dim| n.checked_mul(dim));
        let count = count.and_then(|count| usize::try_from(count).ok());
        let bytes = count.and_then(|count| count.checked_mul(self.each)).map(|bytes| bytes as u64);
        let (Some(count), Some(bytes)) = (count, bytes) else {
            return Err(damaged(format!("{} values are too many to count", shape(&self.dims))));
        };
        let wrong_size =
            |size: u64| damaged(format!("{} values take {bytes} bytes, got {size}", shape(&self.dims)));
        if count == 0 {
            return Ok(Vec::new());
        }
        budget.take(path, name, count, size_of::<T>())?;
        match &self.layout {
            Layout::Other(what) => Err(unsupported(format!(
                "it is stored as {what}; save it anew, in MATLAB or with h5py's defaults"
            ))),
            Layout::Compact(content) if content.len() as u64 != bytes => {
                Err(wrong_size(content.len() as u64))
            }
            Layout::Compact(content) => Ok(read_values(&mut &content[..], element, count, convert)?),
            &Layout::Contiguous { size, .. } if size != bytes => Err(wrong_size(size)),
            Layout::Contiguous { address: None, .. } | Layout::Chunked { address: None, .. } => {
                Err(damaged("its values were never written"))
            }
            &Layout::Contiguous { address: Some(address), .. } => {
                Ok(read_values(&mut raw.part(address, bytes)?, element, count, convert)?)
            }
            &Layout::Chunked { ref chunk, address: Some(address), index, whole_edges } => {
                let grid = self.grid(chunk, count)?;
                let mut reading = ChunkReader {
                    dataset: self,
                    grid,
                    whole_edges,
                    element,
                    values: Vec::new(),
                    buffers: Default::default(),
                };
                // Sorting bytes back takes a second one.
                let shuffled = self.filters.iter().any(|filter| matches!(filter, Filter::Shuffle(_)));
                let buffers = if shuffled { 2 } else { 1 };
                let chunk_bytes = reading.bytes();
                budget.take(path, "a chunk of it", chunk_bytes, buffers)?;
                reading.values.try_reserve_exact(count).map_err(std::io::Error::other)?;
                reading.values.resize(count, T::default());
                reading.all(raw, address, index, path, budget, convert)?;
                budget.give_back(chunk_bytes, buffers);
                Ok(reading.values)
            }
        }
    }

    /// How the array is cut into chunks; `chunk` ends with the size of an element.
    fn grid(&self, chunk: &[u64], count: usize) -> Result<Grid, Fault> {
        let bad = || damaged(format!("chunks of {} for {}", shape(chunk), shape(&self.dims)));
        let (_, chunk) = chunk.split_last().filter(|(each, _)| **each == self.each as u64).ok_or_else(bad)?;
        let pair = |dims: &[u64]| match *dims {
            [columns] => Some([1, usize::try_from(columns).ok()?]),
            [rows, columns] => Some([usize::try_from(rows).ok()?, usize::try_from(columns).ok()?]),
            _ => None,
        };
        let (dims, chunk) = pair(&self.dims).zip(pair(chunk)).ok_or_else(bad)?;
        let elements = chunk[0].checked_mul(chunk[1]).filter(|&n| n > 0).ok_or_else(bad)?;
        elements.checked_mul(self.each).and_then(|n| n.checked_add(8)).ok_or_else(bad)?;
        let chunks = [dims[0].div_ceil(chunk[0]), dims[1].div_ceil(chunk[1])];
        // Much more than there is to read would have to be unpacked. Edges may take some; no array needs so much.
        let unpacked = chunks[0].saturating_mul(chunks[1]).saturating_mul(elements);
        if unpacked > count.saturating_mul(4).saturating_add(1 << 24) {
            return Err(unsupported(format!(
                "chunks of {} x {} are far larger than its {}; save it anew",
                chunk[0],
                chunk[1],
                shape(&self.dims)
            )));
        }
        let limit = self.limits.last().copied().flatten().unwrap_or(0);
        let columns = usize::try_from(limit).unwrap_or(0).max(dims[1]);
        Ok(Grid { dims, chunk, chunks, stride: columns.div_ceil(chunk[1]) })
    }
}

struct ChunkReader<'a, T> {
    dataset: &'a Dataset,
    grid: Grid,
    /// Whether chunks that reach over the edge are stored without filters.
    whole_edges: bool,
    element: Element,
    values: Vec<T>,
    buffers: [Vec<u8>; 2],
}

impl<T: Copy> ChunkReader<'_, T> {
    /// Bytes of a chunk, with room for a checksum.
    fn bytes(&self) -> usize {
        self.grid.chunk[0] * self.grid.chunk[1] * self.dataset.each + 4
    }

    fn all<R: Read + Seek>(
        &mut self,
        raw: &mut Raw<R>,
        address: u64,
        index: Index,
        path: &Path,
        budget: &mut Budget,
        convert: impl Fn(f64) -> T + Copy,
    ) -> Result<(), Fault> {
        let plain = self.bytes() as u64 - 4;
        let [rows, columns] = self.grid.chunks;
        let positions = (0..rows).flat_map(|row| (0..columns).map(move |column| [row, column]));
        match index {
            Index::Tree => return self.tree(raw, address, path, budget, convert),
            Index::Single(_) if rows * columns != 1 => {
                return Err(damaged("one chunk where there should be more"));
            }
            Index::Single(filtered) => {
                let (stored, mask) = filtered.unwrap_or((plain, 0));
                self.chunk(raw, [0, 0], Chunk { address, stored, mask }, convert)?;
            }
            Index::Implicit => {
                for [row, column] in positions {
                    let before = (row * self.grid.stride + column) as u64;
                    let address = before.checked_mul(plain).and_then(|n| n.checked_add(address));
                    let address = address.ok_or_else(|| damaged("chunks beyond any file"))?;
                    self.chunk(raw, [row, column], Chunk { address, stored: plain, mask: 0 }, convert)?;
                }
            }
            Index::Array => {
                let array = FixedArray::open(raw, address)?;
                for [row, column] in positions {
                    let chunk = array.entry(raw, row * self.grid.stride + column, plain)?;
                    let chunk = chunk.ok_or_else(|| unwritten(row * columns + column, rows * columns))?;
                    self.chunk(raw, [row, column], chunk, convert)?;
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
        path: &Path,
        budget: &mut Budget,
        convert: impl Fn(f64) -> T + Copy,
    ) -> Result<(), Fault> {
        let rank = self.dataset.dims.len();
        let chunks = self.grid.chunks[0] * self.grid.chunks[1];
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
                budget.take(path, "the tree of its chunks", 2 * more, size_of::<(u64, Option<u8>)>())?;
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
                let mut at = [0, 0];
                for place in &mut at[2usize.saturating_sub(rank)..] {
                    *place = fields.u64()?;
                }
                let mut position = [0; 2];
                for k in 0..2 {
                    let chunk = self.grid.chunk[k] as u64;
                    if !at[k].is_multiple_of(chunk) {
                        return Err(damaged(format!("a chunk at {} x {}", at[0], at[1])));
                    }
                    position[k] = usize::try_from(at[k] / chunk).unwrap_or(usize::MAX);
                }
                let index = position[0].saturating_mul(self.grid.chunks[1]).saturating_add(position[1]);
                if position[1] >= self.grid.chunks[1] || index >= chunks || index < done {
                    return Err(damaged(format!("a chunk at {} x {} out of its order", at[0], at[1])));
                }
                if index > done {
                    return Err(unwritten(done, chunks));
                }
                done += 1;
                self.chunk(raw, position, Chunk { address, stored, mask }, convert)?;
            }
        }
        if done < chunks {
            return Err(unwritten(done, chunks));
        }
        Ok(())
    }

    /// Read one chunk and put its values in their place.
    fn chunk<R: Read + Seek>(
        &mut self,
        raw: &mut Raw<R>,
        [row, column]: [usize; 2],
        chunk: Chunk,
        convert: impl Fn(f64) -> T + Copy,
    ) -> Result<(), Fault> {
        let Grid { dims, chunk: size, .. } = self.grid;
        let (top, left) = (row * size[0], column * size[1]);
        let height = size[0].min(dims[0] - top);
        let width = size[1].min(dims[1] - left);
        let whole = [height, width] == size;
        self.unpack(raw, &chunk, whole || !self.whole_edges)?;
        let (scalar, endian): (Scalar, Endian) = self.element;
        let each = self.dataset.each;
        for i in 0..height {
            let start = i * size[1] * each;
            let bytes = &self.buffers[0][start..start + width * each];
            let to = (top + i) * dims[1] + left;
            let mut target = Filling(self.values[to..to + width].iter_mut());
            scalar.decode(endian, bytes, &mut target, convert);
        }
        Ok(())
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

/// Values that are written one after the other into a place that is there already.
struct Filling<'a, T>(std::slice::IterMut<'a, T>);

impl<T> Extend<T> for Filling<'_, T> {
    fn extend<I: IntoIterator<Item = T>>(&mut self, values: I) {
        for (place, value) in (&mut self.0).zip(values) {
            *place = value;
        }
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
