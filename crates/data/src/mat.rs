//! MATLAB level 5 `.mat` files, as far as recordings need them: numeric 2-D arrays, compressed or plain, in
//! either byte order, with numbers stored in a smaller type than their class. Everything else in a file is
//! skipped.
//!
//! `training_data_rat` and `test_data_rat` are (H * 100) x N: one column a recording, element i of it contact
//! i / 100, sample i % 100. Storage is column-major, so the columns come one after the other and each is a
//! row-major H x W recording. `training_data_labels` and `test_data_labels` are N x 1 or 1 x N, values 1..3,
//! and become 0..2. N recordings, H contacts, W = 100 samples.
//!
//! Layout, from "MAT-File Format" (MathWorks): a 128-byte header, then elements. An element is a tag (type,
//! size in bytes; or both and up to four bytes of data in eight bytes) and its data, padded to eight bytes. A
//! matrix is an element of elements: flags, dimensions, name, numbers. A compressed element is a zlib stream
//! of one matrix.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use flate2::bufread::ZlibDecoder;

use crate::error::{DataError, invalid, shape};
use crate::recordings::{Recordings, Split};
use crate::scalar::{Endian, Scalar, narrow, read_values};
use crate::{Magic, SAMPLE_RATE_HZ, SAMPLES, Source};

const MI_INT8: u32 = 1;
const MI_UINT8: u32 = 2;
const MI_INT32: u32 = 5;
const MI_UINT32: u32 = 6;
const MI_MATRIX: u32 = 14;
const MI_COMPRESSED: u32 = 15;
const MI_UTF8: u32 = 16;
/// Header of the file, in bytes.
const HEADER: u64 = 128;
/// The longest name read, in bytes (MATLAB allows 63), and the most dimensions.
const NAME_LIMIT: u32 = 1024;
const DIMENSIONS_LIMIT: u32 = 32;

/// Names of the values and of the labels of a split.
fn variables(split: Split) -> [&'static str; 2] {
    match split {
        Split::Train => ["training_data_rat", "training_data_labels"],
        Split::Test => ["test_data_rat", "test_data_labels"],
    }
}

/// Read the variables of the splits asked for; what the file's first bytes look like is known.
pub(crate) fn open<'a>(
    path: &'a Path,
    looks_like: Magic,
    splits: &'a [Split],
) -> Result<Variables<'a>, DataError> {
    match looks_like {
        Magic::Mat5 => {}
        Magic::Hdf5 => return Err(DataError::Hdf5 { path: path.to_owned() }),
        other => {
            return Err(DataError::WrongFormat {
                path: path.to_owned(),
                expected: "a MATLAB level 5 file",
                looks_like: other.describe(),
                hint: if other == Magic::Zip { "rename it to .npz" } else { "save it in MATLAB with -v7" },
            });
        }
    }
    let mut found =
        Variables { path, splits, values: [None, None], labels: [None, None], present: Vec::new() };
    let file = File::open(path).map_err(|e| DataError::open(path, e))?;
    found.read_file(file)?;
    Ok(found)
}

/// What was read so far.
pub(crate) struct Variables<'a> {
    path: &'a Path,
    splits: &'a [Split],
    /// By split: the values, and how many contacts they are of.
    values: [Option<(Vec<f32>, usize)>; 2],
    /// By split: the labels, 1 to 3.
    labels: [Option<Vec<f64>>; 2],
    /// Names of all variables.
    present: Vec<String>,
}

impl Source for Variables<'_> {
    fn split(&mut self, split: Split) -> Result<Recordings, DataError> {
        let [values_name, labels_name] = variables(split);
        let missing = |name: &str| DataError::MissingArray {
            path: self.path.to_owned(),
            name: name.to_owned(),
            present: self.present.clone(),
        };
        let (x, contacts) = self.values[split as usize].take().ok_or_else(|| missing(values_name))?;
        let labels = self.labels[split as usize].take().ok_or_else(|| missing(labels_name))?;
        Recordings::checked(self.path, split, x, &labels, 1, [contacts, SAMPLES])
    }

    fn sample_rate_hz(&self) -> f64 {
        SAMPLE_RATE_HZ
    }
}

/// Type and size of an element, and whether its data lie within the tag.
#[derive(Debug, Clone, Copy)]
struct Tag {
    kind: u32,
    /// Size of the data, in bytes, without padding.
    size: u32,
    small: Option<[u8; 4]>,
}

/// The part of a matrix before its numbers.
struct Matrix {
    name: String,
    class: u8,
    complex: bool,
    dims: Vec<u64>,
}

impl Variables<'_> {
    fn bad(&self, problem: impl Into<String>) -> DataError {
        DataError::malformed(self.path, problem)
    }

    fn read_file(&mut self, file: File) -> Result<(), DataError> {
        let path = self.path;
        let io = |e| DataError::io(path, "read", e);
        let length = file.metadata().map_err(io)?.len();
        let mut file = BufReader::with_capacity(1 << 16, file);
        let mut header = [0; HEADER as usize];
        file.read_exact(&mut header).map_err(|e| DataError::reading(path, "the header", e))?;
        // Written as the number 0x4d49, so it reads "IM" when the low byte comes first.
        let endian = if header.ends_with(b"IM") { Endian::Little } else { Endian::Big };
        let version = [header[124], header[125]];
        match u16_of(version, endian) {
            0x0100 => {}
            0x0200 => return Err(DataError::Hdf5 { path: path.to_owned() }),
            other => return Err(self.bad(format!("version {other:#06x} in its header, expected 0x0100"))),
        }
        let mut at = HEADER;
        while at < length {
            let place = format!("the element at byte {at}");
            file.seek(SeekFrom::Start(at)).map_err(io)?;
            let tag = read_tag(&mut file, endian).map_err(|e| DataError::reading(path, &place, e))?;
            // Small elements and others of no interest cannot stand here in a sound file, but do no harm.
            let size = if tag.small.is_some() { 0 } else { u64::from(tag.size) };
            let end = at + 8 + size;
            if end > length {
                let left = length - at - 8;
                return Err(
                    self.bad(format!("{place} declares {size} bytes, but {left} are left in the file"))
                );
            }
            match tag.kind {
                MI_MATRIX => {
                    let mut content = (&mut file).take(size);
                    self.read_matrix(&mut content, endian, size, &place)?;
                }
                MI_COMPRESSED => {
                    let mut content = ZlibDecoder::new((&mut file).take(size));
                    let inner =
                        read_tag(&mut content, endian).map_err(|e| DataError::reading(path, &place, e))?;
                    if inner.kind != MI_MATRIX || inner.small.is_some() {
                        return Err(self.bad(format!("{place} is compressed but holds no matrix")));
                    }
                    let limit = u64::from(inner.size);
                    if self.read_matrix(&mut (&mut content).take(limit), endian, limit, &place)? {
                        // Only padding is left; reading to the end makes the decoder compare its checksum.
                        let rest = io::copy(&mut content.take(16), &mut io::sink());
                        rest.map_err(|e| DataError::reading(path, &place, e))?;
                    }
                }
                _ => {}
            }
            // Matrices are padded to eight bytes by their own elements, compressed ones not at all.
            at = end;
        }
        Ok(())
    }

    /// Read a matrix of `size` bytes from `content`, if it is one that is looked for; say whether it was.
    fn read_matrix(
        &mut self,
        content: &mut impl Read,
        endian: Endian,
        size: u64,
        place: &str,
    ) -> Result<bool, DataError> {
        let path = self.path;
        if size == 0 {
            return Ok(false); // what MATLAB writes for an empty cell
        }
        let matrix = read_preamble(content, endian).map_err(|e| DataError::reading(path, place, e))?;
        let Matrix { name, class, complex, dims } = matrix;
        if !name.is_empty() {
            self.present.push(name.clone()); // MATLAB's own data have no name
        }
        let wanted = self.splits.iter().find_map(|&split| {
            let which = variables(split).iter().position(|&variable| variable == name)?;
            Some((split as usize, which == 0))
        });
        let Some((split, is_values)) = wanted else { return Ok(false) };
        let occupied = if is_values { self.values[split].is_some() } else { self.labels[split].is_some() };
        if occupied {
            return Err(self.bad(format!("variable {name} occurs twice, the second time in {place}")));
        }
        if complex || !(6..=15).contains(&class) {
            let got = if complex { "complex numbers" } else { class_name(class) };
            return Err(DataError::WrongType {
                path: path.to_owned(),
                name,
                expected: "a full array of real numbers",
                got: got.to_owned(),
            });
        }
        let tag = read_tag(content, endian).map_err(|e| DataError::reading(path, &name, e))?;
        let Some(scalar) = scalar_of(tag.kind) else {
            return Err(self.bad(format!("the numbers of {name} are of element type {}", tag.kind)));
        };
        let declared = dims.iter().try_fold(1u64, |n, &dim| n.checked_mul(dim));
        let needed = declared.and_then(|n| n.checked_mul(scalar.bytes() as u64));
        if needed != Some(u64::from(tag.size)) {
            let shape = shape(&dims);
            return Err(self.bad(format!("{name} is {shape} but holds {} bytes of {scalar:?}", tag.size)));
        }
        let count = tag.size as usize / scalar.bytes();
        let wrong_shape = |expected: &str| DataError::WrongShape {
            path: path.to_owned(),
            name: name.clone(),
            expected: expected.to_owned(),
            got: dims.clone(),
        };
        let failed = |e| DataError::reading(path, &name, e);
        if is_values {
            let rows = match *dims {
                [rows, _] if rows > 0 && rows.is_multiple_of(SAMPLES as u64) => rows,
                _ => {
                    return Err(wrong_shape(
                        "(contacts * 100) x recordings, 5600 x N for 56 contacts; transpose it if it is the other \
                         way round",
                    ));
                }
            };
            let x = numbers(content, tag, scalar, endian, count, narrow).map_err(failed)?;
            // A dimension is at most `i32::MAX`.
            self.values[split] = Some((x, rows as usize / SAMPLES));
        } else {
            match *dims {
                [_, 1] | [1, _] | [0, _] | [_, 0] => {}
                _ => return Err(wrong_shape("N x 1 or 1 x N, one label a recording")),
            }
            let labels = numbers(content, tag, scalar, endian, count, |v| v).map_err(failed)?;
            self.labels[split] = Some(labels);
        }
        Ok(true)
    }
}

/// The numbers of an element whose tag was read.
fn numbers<T>(
    content: &mut impl Read,
    tag: Tag,
    scalar: Scalar,
    endian: Endian,
    count: usize,
    convert: impl Fn(f64) -> T,
) -> io::Result<Vec<T>> {
    match tag.small {
        Some(bytes) => read_values(&mut &bytes[..], scalar, endian, count, false, convert),
        None => read_values(content, scalar, endian, count, false, convert),
    }
}

fn read_tag(reader: &mut impl Read, endian: Endian) -> io::Result<Tag> {
    let mut bytes = [0; 8];
    reader.read_exact(&mut bytes)?;
    let [a, b, c, d, data @ ..] = bytes;
    let first = u32_of([a, b, c, d], endian);
    if first >> 16 == 0 {
        return Ok(Tag { kind: first, size: u32_of(data, endian), small: None });
    }
    let size = first >> 16;
    if size > 4 {
        return Err(invalid(format!("a small element declares {size} bytes, at most 4 fit")));
    }
    Ok(Tag { kind: first & 0xffff, size, small: Some(data) })
}

/// The data of a short element of one of the given types, at most `limit` bytes long.
fn read_short(
    reader: &mut impl Read,
    endian: Endian,
    what: &str,
    kinds: &[u32],
    limit: u32,
) -> io::Result<Vec<u8>> {
    let tag = read_tag(reader, endian)?;
    if !kinds.contains(&tag.kind) || tag.size > limit {
        let (kind, size) = (tag.kind, tag.size);
        return Err(invalid(format!(
            "{what} of element type {kind} and {size} bytes, expected at most {limit}"
        )));
    }
    let size = tag.size as usize;
    if let Some(data) = tag.small {
        return Ok(data[..size].to_vec());
    }
    let mut data = vec![0; size.next_multiple_of(8)];
    reader.read_exact(&mut data)?;
    data.truncate(size);
    Ok(data)
}

/// Flags, dimensions and name of a matrix.
fn read_preamble(reader: &mut impl Read, endian: Endian) -> io::Result<Matrix> {
    let words =
        |data: &[u8]| -> Vec<u32> { data.as_chunks().0.iter().map(|&raw| u32_of(raw, endian)).collect() };
    let flags = words(&read_short(reader, endian, "array flags", &[MI_UINT32], 8)?);
    let &flags = flags.first().ok_or_else(|| invalid("empty array flags"))?;
    let dims =
        words(&read_short(reader, endian, "dimensions", &[MI_INT32, MI_UINT32], 4 * DIMENSIONS_LIMIT)?);
    if let Some(dim) = dims.iter().find(|&&dim| dim > i32::MAX as u32) {
        return Err(invalid(format!("a negative dimension ({})", *dim as i32)));
    }
    let name = read_short(reader, endian, "a name", &[MI_INT8, MI_UINT8, MI_UTF8], NAME_LIMIT)?;
    Ok(Matrix {
        name: String::from_utf8_lossy(&name).trim_end_matches('\0').to_owned(),
        class: flags as u8,
        complex: flags & 0x0800 != 0,
        dims: dims.into_iter().map(u64::from).collect(),
    })
}

fn scalar_of(kind: u32) -> Option<Scalar> {
    Some(match kind {
        MI_INT8 => Scalar::I8,
        MI_UINT8 => Scalar::U8,
        3 => Scalar::I16,
        4 => Scalar::U16,
        MI_INT32 => Scalar::I32,
        MI_UINT32 => Scalar::U32,
        7 => Scalar::F32,
        9 => Scalar::F64,
        12 => Scalar::I64,
        13 => Scalar::U64,
        _ => return None,
    })
}

fn class_name(class: u8) -> &'static str {
    match class {
        1 => "a cell array",
        2 => "a structure",
        3 => "an object",
        4 => "text",
        5 => "a sparse matrix",
        16 => "a function handle",
        17 => "an opaque object",
        _ => "an unknown class",
    }
}

fn u32_of(bytes: [u8; 4], endian: Endian) -> u32 {
    match endian {
        Endian::Little => u32::from_le_bytes(bytes),
        Endian::Big => u32::from_be_bytes(bytes),
    }
}

fn u16_of(bytes: [u8; 2], endian: Endian) -> u16 {
    match endian {
        Endian::Little => u16::from_le_bytes(bytes),
        Endian::Big => u16::from_be_bytes(bytes),
    }
}
