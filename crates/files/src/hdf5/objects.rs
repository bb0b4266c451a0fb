//! The superblock, object headers and the members of a group.

use std::collections::VecDeque;
use std::io::{self, Read, Seek, SeekFrom};

use super::raw::{Fault, Fields, METADATA_LIMIT, Raw, Sizes, damaged, unsupported, without_checksum};
use crate::budget::Budget;
use crate::invalid;
use crate::scalar::{Element, Endian, Scalar};

/// Bytes of an element: the length of a text, the address of its heap, and its number there. Files with shorter addresses
/// are not read.
pub(super) const ELEMENT: u32 = 16;

const SIGNATURE: &[u8; 8] = b"\x89HDF\r\n\x1a\n";
/// The most members of a group. A file of recordings has four.
const MEMBERS_LIMIT: usize = 2_000;
/// The most dimensions of an array that HDF5 has.
const RANK_LIMIT: u8 = 32;

/// Read the superblock; gives the file and the address of the root group's header.
///
/// # Errors
/// This is no HDF5 file, of a version that is not known, or damaged.
pub fn superblock<R: Read + Seek>(mut reader: R, length: u64) -> Result<(Raw<R>, u64), Fault> {
    // At 0, or after a block for the user of 512 bytes or a larger power of two.
    let starts = std::iter::successors(Some(512u64), |start| start.checked_mul(2));
    let mut head = [0; 16];
    let mut base = None;
    for start in std::iter::once(0).chain(starts.take_while(|&start| start < length)) {
        reader.seek(SeekFrom::Start(start))?;
        if reader.read_exact(&mut head).is_ok() && head.starts_with(SIGNATURE) {
            base = Some(start);
            break;
        }
    }
    let Some(base) = base else {
        return Err(damaged("expected an HDF5 superblock, got none; the file is incomplete"));
    };
    let version = head[8];
    let sizes = match version {
        0 | 1 => [head[13], head[14]],
        2 | 3 => [head[9], head[10]],
        _ => return Err(unsupported(format!("HDF5 superblock version {version}, expected 0 to 3"))),
    };
    if sizes.iter().any(|size| !matches!(size, 2 | 4 | 8)) {
        return Err(damaged(format!(
            "addresses of {} and lengths of {} bytes, expected 2, 4 or 8",
            sizes[0], sizes[1]
        )));
    }
    let [address, length_size] = sizes.map(usize::from);
    let sizes = Sizes { address, length: length_size };
    let mut raw = Raw { reader, base, length: length - base, sizes };
    let root = if version < 2 {
        // Up to the addresses: of the file, of free space, of its end, of a driver's block; then the root's entry.
        let fixed = if version == 0 { 24 } else { 28 };
        let block = raw.bytes(0, fixed + 6 * address as u64)?;
        let mut fields = Fields::new(&block, sizes);
        fields.skip(fixed as usize + 5 * address)?;
        fields.address()?
    } else {
        let block = raw.bytes(0, 12 + 4 * address as u64 + 4)?;
        let mut fields = Fields::new(without_checksum(&block)?, sizes);
        fields.skip(12 + 3 * address)?;
        fields.address()?
    };
    Ok((raw, root.ok_or_else(|| damaged("no root group"))?))
}

/// Is told the name of each member of a group and the address of its header.
pub type Visit<'a> = dyn FnMut(&[u8], u64) -> Result<(), Fault> + 'a;

/// Visit the members of the group whose header is at `root`.
///
/// # Errors
/// The group is damaged, or of a version that is not known.
pub fn members<R: Read + Seek>(raw: &mut Raw<R>, root: u64, links: &mut Visit<'_>) -> Result<(), Fault> {
    let mut count = 0;
    let links: &mut Visit<'_> = &mut |name, address| {
        count += 1;
        if count > MEMBERS_LIMIT {
            return Err(unsupported(format!(
                "a group of more than {MEMBERS_LIMIT} members; save what is needed of it in a file of its own"
            )));
        }
        links(name, address)
    };
    let group = Object::read(raw, root, Some(links))?;
    if group.dense_links {
        return Err(unsupported(
            "it is a group that keeps its members in a heap, as h5py does with more than 8 of them and libver=\"latest\" or \
             a name that is not ASCII; save recordings without libver or as four arrays alone, a Keras model as .keras",
        ));
    }
    match group.symbol_table {
        Some((tree, heap)) => symbol_table(raw, tree, heap, links),
        None => Ok(()),
    }
}

/// A B-tree of version 1 whose leaves are lists of names and addresses; the names lie in a heap.
fn symbol_table<R: Read + Seek>(
    raw: &mut Raw<R>,
    tree: u64,
    heap: u64,
    links: &mut Visit<'_>,
) -> Result<(), Fault> {
    let sizes = raw.sizes;
    let head = raw.bytes(heap, 8 + 2 * sizes.length as u64 + sizes.address as u64)?;
    let mut fields = Fields::new(&head, sizes);
    fields.signature(b"HEAP")?;
    fields.skip(4)?;
    let size = fields.length()?;
    fields.length()?;
    let names = fields.address()?.ok_or_else(|| damaged("a heap of names without data"))?;
    let names = raw.bytes(names, size)?;

    // Every node but the first is named by another; more of them than there may be members is damage.
    let mut nodes = vec![(tree, None)];
    let mut visits = 0;
    while let Some((address, level)) = nodes.pop() {
        visits += 1;
        if visits > 2 * MEMBERS_LIMIT {
            return Err(damaged("the tree of its members never ends"));
        }
        if level == Some(0) {
            let head = raw.bytes(address, 8)?;
            let mut fields = Fields::new(&head, sizes);
            fields.signature(b"SNOD")?;
            fields.skip(2)?;
            let count = u64::from(fields.u16()?);
            let entry = 2 * sizes.address as u64 + 24;
            let entries = raw.bytes(address + 8, count * entry)?;
            let mut fields = Fields::new(&entries, sizes);
            for _ in 0..count {
                let name = fields.number(sizes.address)?;
                let header = fields.address()?;
                let cache = fields.u32()?;
                fields.skip(20)?;
                let name = usize::try_from(name).ok().and_then(|start| names.get(start..));
                let name = name.ok_or_else(|| damaged("the name of a member lies outside its heap"))?;
                let name = name.split(|&byte| byte == 0).next().unwrap_or_default();
                // 2: a symbolic link, which names its target instead.
                if let Some(header) = header.filter(|_| cache != 2) {
                    links(name, header)?;
                }
            }
            continue;
        }
        let node = TreeNode::read(raw, address, level, 0, sizes.length)?;
        if nodes.len() + node.count > 2 * MEMBERS_LIMIT {
            return Err(damaged("the tree of its members never ends"));
        }
        // A node of level 0 has lists as its children.
        for child in 0..node.count {
            nodes.push((node.child(child)?.1, Some(node.level)));
        }
    }
    Ok(())
}

/// A node of a B-tree of version 1.
pub(super) struct TreeNode {
    pub level: u8,
    pub count: usize,
    key: usize,
    sizes: Sizes,
    /// Keys and children in turn.
    entries: Vec<u8>,
}

impl TreeNode {
    /// Read a node of a kind, whose keys have so many bytes, and which is a child of one of level `parent`.
    pub fn read<R: Read + Seek>(
        raw: &mut Raw<R>,
        address: u64,
        parent: Option<u8>,
        kind: u8,
        key: usize,
    ) -> Result<Self, Fault> {
        let sizes = raw.sizes;
        let head = raw.bytes(address, 8)?;
        let mut fields = Fields::new(&head, sizes);
        fields.signature(b"TREE")?;
        let (got, level, count) = (fields.u8()?, fields.u8()?, fields.u16()?);
        if got != kind || parent.is_some_and(|parent| u16::from(level) + 1 != u16::from(parent)) {
            return Err(damaged(format!(
                "a tree's node of kind {got} and level {level} at address {address}, expected kind {kind} and the level \
                 below its parent's"
            )));
        }
        let size = u64::from(count) * (key + sizes.address) as u64;
        let entries = raw.bytes(address + 8 + 2 * sizes.address as u64, size)?;
        Ok(Self { level, count: count.into(), key, sizes, entries })
    }

    /// Key and address of a child.
    pub fn child(&self, index: usize) -> Result<(&[u8], u64), Fault> {
        let each = self.key + self.sizes.address;
        let mut fields = Fields::new(self.entries.get(index * each..).unwrap_or_default(), self.sizes);
        let key = fields.take(self.key)?;
        let address = fields.address()?.ok_or_else(|| damaged("a tree with an absent child"))?;
        Ok((key, address))
    }
}

/// How the numbers of a data set are stored.
#[derive(Debug, Clone, Copy)]
pub enum Number {
    /// Numbers of a type.
    Plain(Element),
    /// Texts of so many bytes.
    Text(u32),
    /// Texts of any length, see [`texts`](super::texts).
    AnyText,
    /// Addresses of objects in the same file.
    References,
    /// Something else, in words.
    Other(&'static str),
}

/// Where the values of a data set lie. Addresses are absent where nothing was ever written.
#[derive(Debug)]
pub(super) enum Layout {
    Compact(Vec<u8>),
    Contiguous { address: Option<u64>, size: u64 },
    Chunked { chunk: Vec<u64>, address: Option<u64>, index: Index, whole_edges: bool },
    Other(String),
}

/// How chunks are found.
#[derive(Debug, Clone, Copy)]
pub(super) enum Index {
    /// A B-tree of version 1.
    Tree,
    /// There is only one; its stored size and filter mask if it is filtered.
    Single(Option<(u64, u32)>),
    /// One after the other.
    Implicit,
    /// A fixed array.
    Array,
}

/// A filter that was applied when a chunk was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Filter {
    Deflate,
    /// With the size of the elements whose bytes were sorted.
    Shuffle(u32),
    Fletcher32,
    Other(u16),
}

/// What the header of a group or data set says, as far as it matters here.
#[derive(Debug, Default)]
pub struct Object {
    /// Dimensions, and how far each may grow.
    pub space: Option<(Vec<u64>, Vec<Option<u64>>)>,
    number: Option<Number>,
    pub(super) layout: Option<Layout>,
    pub(super) filters: Vec<Filter>,
    pub(super) external: bool,
    symbol_table: Option<(u64, u64)>,
    dense_links: bool,
    has_links: bool,
    attributes: Vec<Attribute>,
}

/// A name with a value, at an object.
#[derive(Debug)]
struct Attribute {
    name: Vec<u8>,
    number: Option<Number>,
    value: Vec<u8>,
}

impl Object {
    /// Whether it has members.
    pub fn is_group(&self) -> bool {
        self.symbol_table.is_some() || self.has_links
    }

    /// How its numbers are stored.
    pub fn number(&self) -> Number {
        self.number.unwrap_or(Number::Other("no element type"))
    }

    /// The bytes of an attribute's value; those of texts of any length are elsewhere, see [`Object::text`].
    pub fn attribute(&self, name: &str) -> Option<&[u8]> {
        self.named(name).map(|attribute| &attribute.value[..])
    }

    fn named(&self, name: &str) -> Option<&Attribute> {
        self.attributes.iter().find(|attribute| attribute.name == name.as_bytes())
    }

    /// The texts that an attribute is a list of, at most `most` of them, without what fills them up; `None` if it is no such
    /// list, or a longer one.
    ///
    /// # Errors
    /// As [`Object::text`].
    pub fn texts<R: Read + Seek>(
        &self,
        raw: &mut Raw<R>,
        name: &str,
        most: usize,
        budget: &mut Budget,
    ) -> Result<Option<Vec<String>>, Fault> {
        let Some(Attribute { number: Some(number), value, .. }) = self.named(name) else { return Ok(None) };
        let (each, elsewhere) = match number {
            Number::Text(size) => (*size as usize, false),
            Number::AnyText => (ELEMENT as usize, true),
            _ => return Ok(None),
        };
        let count = value.len() / each.max(1);
        if count > most {
            return Ok(None);
        }
        budget.take("a list of texts", value.len() + count * size_of::<String>(), 1)?;
        let one = |text: &[u8]| match elsewhere {
            true => super::heap::text(raw, text, budget),
            false => Ok(String::from_utf8_lossy(text).trim_end_matches('\0').to_owned()),
        };
        value.chunks_exact(each.max(1)).map(one).collect::<Result<_, _>>().map(Some)
    }

    /// The text that an attribute is, wherever it lies; `None` if there is none of that name, or it is no text.
    ///
    /// # Errors
    /// It is not where it should be, or takes more memory than the file warrants.
    pub fn text<R: Read + Seek>(
        &self,
        raw: &mut Raw<R>,
        name: &str,
        budget: &mut Budget,
    ) -> Result<Option<String>, Fault> {
        match self.named(name) {
            Some(Attribute { number: Some(Number::Text(_)), value, .. }) => {
                budget.take("a text", value.len(), 1)?;
                Ok(Some(String::from_utf8_lossy(value).trim_end_matches('\0').to_owned()))
            }
            Some(Attribute { number: Some(Number::AnyText), value, .. }) => {
                super::heap::text(raw, value, budget).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Read a header. Links are handed on, if anybody wants them.
    ///
    /// # Errors
    /// It is damaged, or longer than any header.
    pub fn read<R: Read + Seek>(
        raw: &mut Raw<R>,
        address: u64,
        mut links: Option<&mut Visit<'_>>,
    ) -> Result<Self, Fault> {
        let sizes = raw.sizes;
        let mut object = Self::default();
        let start = raw.bytes(address, 6)?;
        let modern = start.starts_with(b"OHDR");
        let (flags, first) = if modern {
            let flags = start[5];
            let times = if flags & 0x20 != 0 { 16 } else { 0 };
            let phases = if flags & 0x10 != 0 { 4 } else { 0 };
            let width = 1usize << (flags & 3);
            let head = 6 + times + phases + width;
            let fixed = raw.bytes(address, head as u64)?;
            let size = Fields::new(&fixed[head - width..], sizes).number(width)?;
            if start[4] != 2 {
                return Err(damaged(format!("object header version {}, expected 2", start[4])));
            }
            // The checksum covers the header's beginning, too.
            let whole = raw.bytes(address, (head as u64).saturating_add(size).saturating_add(4))?;
            (flags, without_checksum(&whole)?[head..].to_vec())
        } else {
            if start[0] != 1 {
                return Err(damaged(format!("object header version {}, expected 1 or 2", start[0])));
            }
            let fixed = raw.bytes(address, 16)?;
            let size = Fields::new(&fixed[8..], sizes).u32()?;
            (0, raw.bytes(address + 16, size.into())?)
        };
        let mut total = first.len() as u64;
        let mut blocks = VecDeque::from([first]);
        while let Some(block) = blocks.pop_front() {
            let mut fields = Fields::new(&block, sizes);
            let head = if !modern {
                8
            } else if flags & 4 != 0 {
                6
            } else {
                4
            };
            // A gap too small for a message may be left at the end.
            while fields.left() >= head {
                let (kind, size, message_flags);
                if modern {
                    (kind, size, message_flags) = (u16::from(fields.u8()?), fields.u16()?, fields.u8()?);
                    fields.skip(head - 4)?;
                } else {
                    (kind, size, message_flags) = (fields.u16()?, fields.u16()?, fields.u8()?);
                    fields.skip(3)?;
                }
                let body = fields.take(size.into())?;
                if kind != 0x10 {
                    object.message(
                        kind,
                        message_flags,
                        Fields::new(body, sizes),
                        match &mut links {
                            Some(links) => Some(&mut **links),
                            None => None,
                        },
                    )?;
                    continue;
                }
                let mut fields = Fields::new(body, sizes);
                let (address, size) = (fields.address()?, fields.length()?);
                let address = address.ok_or_else(|| damaged("an object header that goes on nowhere"))?;
                // Blocks that name each other would never end.
                total = total.saturating_add(size.max(16));
                if total > METADATA_LIMIT {
                    return Err(unsupported(format!(
                        "an object header of more than {METADATA_LIMIT} bytes; save the array anew"
                    )));
                }
                let block = raw.bytes(address, size)?;
                blocks.push_back(if modern {
                    let content = without_checksum(&block)?;
                    Fields::new(content, sizes).signature(b"OCHK")?;
                    content[4..].to_vec()
                } else {
                    block
                });
            }
        }
        Ok(object)
    }

    fn message(
        &mut self,
        kind: u16,
        flags: u8,
        mut fields: Fields<'_>,
        links: Option<&mut Visit<'_>>,
    ) -> Result<(), Fault> {
        let shared = flags & 2 != 0;
        if shared && matches!(kind, 0x01 | 0x08 | 0x0b) {
            return Err(unsupported("its header refers to one that several arrays share; save it anew"));
        }
        match kind {
            0x01 => self.space = Some(dataspace(&mut fields)?),
            0x02 => {
                self.has_links = true;
                fields.skip(1)?;
                let flags = fields.u8()?;
                fields.skip(if flags & 1 != 0 { 8 } else { 0 })?;
                self.dense_links |= fields.address()?.is_some();
            }
            0x03 if shared => self.number = Some(Number::Other("a named type")),
            0x03 => self.number = Some(number(&mut fields)?),
            0x06 => {
                self.has_links = true;
                if let (Some((name, address)), Some(links)) = (link(&mut fields)?, links) {
                    links(name, address)?;
                }
            }
            0x07 => self.external = true,
            0x08 => self.layout = Some(layout(&mut fields)?),
            0x0b => self.filters = filters(&mut fields)?,
            // One that cannot be understood is as good as none.
            0x0c if !shared => self.take_attribute(fields).unwrap_or_default(),
            0x11 => {
                let (tree, heap) = (fields.address()?, fields.address()?);
                self.symbol_table = Some(tree.zip(heap).ok_or_else(|| damaged("a group without names"))?);
            }
            _ => {}
        }
        Ok(())
    }
}

impl Object {
    /// Take an attribute down.
    fn take_attribute(&mut self, mut fields: Fields<'_>) -> io::Result<()> {
        let version = fields.u8()?;
        // Of the flags the first says that the type is another object.
        let named_type = fields.u8()? & 1 != 0;
        let sizes = [fields.u16()?, fields.u16()?, fields.u16()?].map(usize::from);
        fields.skip(if version == 3 { 1 } else { 0 })?;
        // Version 1 fills up each part.
        let room = |size: usize| if version == 1 { size.next_multiple_of(8) } else { size };
        let name = fields.take(room(sizes[0]))?;
        let name = name.split(|&byte| byte == 0).next().unwrap_or_default().to_vec();
        let mut kind = fields.part(room(sizes[1]))?;
        fields.skip(room(sizes[2]))?;
        let value = fields.take(fields.left())?.to_vec();
        let number = if named_type { None } else { number(&mut kind).ok() };
        self.attributes.push(Attribute { name, number, value });
        Ok(())
    }
}

/// Dimensions, and how far each may grow (`None`: without limit).
fn dataspace(fields: &mut Fields<'_>) -> Result<(Vec<u64>, Vec<Option<u64>>), Fault> {
    let (version, rank, flags) = (fields.u8()?, fields.u8()?, fields.u8()?);
    match version {
        1 => fields.skip(5)?,
        2 => {
            if fields.u8()? == 2 {
                return Ok((vec![0], vec![Some(0)])); // an array of nothing
            }
        }
        _ => return Err(damaged(format!("dataspace version {version}, expected 1 or 2"))),
    }
    if rank > RANK_LIMIT {
        return Err(damaged(format!("an array of {rank} dimensions, expected at most {RANK_LIMIT}")));
    }
    let dims = (0..rank).map(|_| fields.length()).collect::<io::Result<Vec<_>>>()?;
    let limits = match flags & 1 {
        0 => dims.iter().copied().map(Some).collect(),
        _ => (0..rank).map(|_| fields.limit()).collect::<io::Result<_>>()?,
    };
    Ok((dims, limits))
}

/// An element type.
fn number(fields: &mut Fields<'_>) -> io::Result<Number> {
    let class = fields.u8()?;
    let bits = fields.number(3)?;
    let size = fields.u32()?;
    let other = |what| Ok(Number::Other(what));
    match class & 0x0f {
        0 | 1 => {}
        3 => return Ok(Number::Text(size)),
        6 => return other("compounds (complex numbers or records)"),
        7 if size == 8 && bits & 0x0f == 0 => return Ok(Number::References),
        7 => return other("references"),
        // The type of an enumeration's numbers follows; h5py's bool is one of 0 and 1.
        8 => match fields.peek().is_some_and(|class| class & 0x0f == 0) {
            true => return number(fields),
            false => return other("an enumeration of no whole numbers"),
        },
        9 if bits & 0x0f == 1 && size == ELEMENT => return Ok(Number::AnyText),
        9 if bits & 0x0f == 1 => {
            return other("texts of any length; save numpy.asarray(y, dtype='S') of them");
        }
        9 => return other("lists of any length"),
        10 => return other("arrays"),
        _ => return other("an unusual element type"),
    }
    let (offset, precision) = (fields.u16()?, fields.u16()?);
    if offset != 0 || u32::from(precision) != size.saturating_mul(8) {
        return other("numbers that do not fill their bytes");
    }
    let endian = if bits & 1 != 0 { Endian::Big } else { Endian::Little };
    let integer = class & 0x0f == 0;
    let signed = bits & 8 != 0;
    let scalar = match (integer, signed, size) {
        (true, true, 1) => Scalar::I8,
        (true, true, 2) => Scalar::I16,
        (true, true, 4) => Scalar::I32,
        (true, true, 8) => Scalar::I64,
        (true, false, 1) => Scalar::U8,
        (true, false, 2) => Scalar::U16,
        (true, false, 4) => Scalar::U32,
        (true, false, 8) => Scalar::U64,
        (false, _, 2) => Scalar::F16,
        (false, _, 4) => Scalar::F32,
        (false, _, 8) => Scalar::F64,
        _ => return other("numbers of an unusual size"),
    };
    if !integer {
        // Where the exponent starts and how long it is, then the same of the fraction.
        let parts = fields.take(4)?;
        let ieee = match scalar {
            Scalar::F16 => [10, 5, 0, 10],
            Scalar::F32 => [23, 8, 0, 23],
            _ => [52, 11, 0, 52],
        };
        if parts != ieee || bits & 0x40 != 0 {
            return other("floating-point numbers that are not IEEE 754's");
        }
    }
    Ok(Number::Plain((scalar, endian)))
}

/// A link to an object in the same file: its name and the address of its header.
fn link<'a>(fields: &mut Fields<'a>) -> Result<Option<(&'a [u8], u64)>, Fault> {
    fields.skip(1)?;
    let flags = fields.u8()?;
    let kind = if flags & 8 != 0 { fields.u8()? } else { 0 };
    fields.skip(if flags & 4 != 0 { 8 } else { 0 })?;
    fields.skip(if flags & 0x10 != 0 { 1 } else { 0 })?;
    let length = fields.number(1 << (flags & 3))?;
    let name = fields.take(usize::try_from(length).unwrap_or(usize::MAX))?;
    if kind != 0 {
        return Ok(None);
    }
    Ok(fields.address()?.map(|address| (name, address)))
}

fn layout(fields: &mut Fields<'_>) -> Result<Layout, Fault> {
    let version = fields.u8()?;
    let rank = |rank: u8| match rank {
        1..=RANK_LIMIT => Ok(usize::from(rank)),
        _ => Err(invalid(format!("chunks of {rank} dimensions"))),
    };
    match version {
        1 | 2 => {
            let (dimensions, class) = (rank(fields.u8()?)?, fields.u8()?);
            fields.skip(5)?;
            let address = if class == 0 { None } else { fields.address()? };
            let dims = (0..dimensions).map(|_| fields.number(4)).collect::<io::Result<Vec<_>>>()?;
            Ok(match class {
                0 => {
                    let size = fields.u32()?;
                    Layout::Compact(fields.take(size as usize)?.to_vec())
                }
                1 => {
                    // Lengths in bytes; the slowest dimension first, the element's size last.
                    let size = dims.iter().try_fold(1u64, |n, &dim| n.checked_mul(dim));
                    let size = size.ok_or_else(|| damaged("an array too large to count"))?;
                    Layout::Contiguous { address, size }
                }
                2 => Layout::Chunked { chunk: dims, address, index: Index::Tree, whole_edges: false },
                _ => Layout::Other(format!("layout class {class}")),
            })
        }
        3..=5 => {
            let class = fields.u8()?;
            Ok(match class {
                0 => {
                    let size = fields.u16()?;
                    Layout::Compact(fields.take(size.into())?.to_vec())
                }
                1 => Layout::Contiguous { address: fields.address()?, size: fields.length()? },
                2 if version == 3 => {
                    let dimensions = rank(fields.u8()?)?;
                    let address = fields.address()?;
                    let chunk = (0..dimensions).map(|_| fields.number(4)).collect::<io::Result<_>>()?;
                    Layout::Chunked { chunk, address, index: Index::Tree, whole_edges: false }
                }
                2 => newer_chunks(fields, version, rank)?,
                3 => Layout::Other("a virtual array, whose values lie in other files".to_owned()),
                _ => Layout::Other(format!("layout class {class}")),
            })
        }
        _ => Ok(Layout::Other(format!("layout version {version}"))),
    }
}

/// The rest of a chunked layout of version 4 or 5.
fn newer_chunks(
    fields: &mut Fields<'_>,
    version: u8,
    rank: impl Fn(u8) -> io::Result<usize>,
) -> Result<Layout, Fault> {
    let flags = fields.u8()?;
    let dimensions = rank(fields.u8()?)?;
    let width = usize::from(fields.u8()?);
    if !(1..=8).contains(&width) {
        return Err(damaged(format!("dimensions of {width} bytes")));
    }
    let chunk = (0..dimensions).map(|_| fields.number(width)).collect::<io::Result<_>>()?;
    let index = match fields.u8()? {
        1 if flags & 2 != 0 => {
            let stored = if version == 4 { fields.length()? } else { fields.any_length()? };
            Index::Single(Some((stored, fields.u32()?)))
        }
        1 => Index::Single(None),
        2 => Index::Implicit,
        3 => {
            fields.skip(1)?;
            Index::Array
        }
        4 | 5 => {
            return Ok(Layout::Other(
                "chunks of an array that may grow (h5py's maxshape with libver=\"latest\")".to_owned(),
            ));
        }
        other => return Err(damaged(format!("chunk index {other}, expected 1 to 5"))),
    };
    Ok(Layout::Chunked { chunk, address: fields.address()?, index, whole_edges: flags & 1 != 0 })
}

/// The filters in the order in which they were applied.
fn filters(fields: &mut Fields<'_>) -> Result<Vec<Filter>, Fault> {
    let (version, count) = (fields.u8()?, fields.u8()?);
    match version {
        1 => fields.skip(6)?,
        2 => {}
        _ => return Err(damaged(format!("filter pipeline version {version}, expected 1 or 2"))),
    }
    let mut filters = Vec::new();
    for _ in 0..count {
        let id = fields.u16()?;
        let name = if version == 1 || id >= 256 { usize::from(fields.u16()?) } else { 0 };
        fields.skip(2)?;
        let values = usize::from(fields.u16()?);
        fields.skip(if version == 1 { name.next_multiple_of(8) } else { name })?;
        let mut first = None;
        for i in 0..values {
            let value = fields.u32()?;
            if i == 0 {
                first = Some(value);
            }
        }
        fields.skip(if version == 1 && values % 2 == 1 { 4 } else { 0 })?;
        filters.push(match id {
            1 => Filter::Deflate,
            2 => Filter::Shuffle(first.unwrap_or(0)),
            3 => Filter::Fletcher32,
            other => Filter::Other(other),
        });
    }
    Ok(filters)
}
