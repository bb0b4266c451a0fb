//! MATLAB level 5 `.mat` files, as far as recordings need them: numeric 2-D arrays, compressed or plain, in
//! either byte order, with numbers stored in a smaller type than their class. Everything else in a file is
//! skipped. Level 7.3 holds the same variables in HDF5, see [`crate::hdf5`].
//!
//! `training_data_rat` and `test_data_rat` are (H * 100) x N: one column a recording, element i of it contact
//! i / 100, sample i % 100. Storage is column-major, so the columns come one after the other and each is a
//! row-major H x W recording. `training_data_labels` and `test_data_labels` are N x 1 or 1 x N, values 1..3 or 0..2,
//! and become 0..2. This project adds a scalar `sample_rate_hz` where it is not 30,000. N recordings, H contacts,
//! W = 100 samples.
//!
//! Layout, from "MAT-File Format" (MathWorks): a 128-byte header, then elements. An element is a tag (type,
//! size in bytes; or both and up to four bytes of data in eight bytes) and its data, padded to eight bytes. A
//! matrix is an element of elements: flags, dimensions, name, numbers. A compressed element is a zlib stream
//! of one matrix.

use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

use flate2::bufread::ZlibDecoder;

use crate::budget::Budget;
use crate::error::{DataError, invalid, shape};
use crate::reading::Source;
use crate::recordings::{Dataset, Recordings, Split};
use crate::scalar::{Element, Endian, Scalar, narrow, read_values};
use crate::{SAMPLE_RATE_HZ, SAMPLES, write_atomically};

const MI_INT8: u32 = 1;
const MI_UINT8: u32 = 2;
const MI_INT32: u32 = 5;
const MI_UINT32: u32 = 6;
const MI_DOUBLE: u32 = 9;
const MI_MATRIX: u32 = 14;
const MI_COMPRESSED: u32 = 15;
const MI_UTF8: u32 = 16;
/// Class of an array of doubles.
const MX_DOUBLE: u32 = 6;
/// Header of the file, in bytes.
const HEADER: u64 = 128;
/// The longest name read, in bytes (MATLAB allows 63), and the most dimensions.
const NAME_LIMIT: u32 = 1024;
const DIMENSIONS_LIMIT: u32 = 32;

/// The variables that are looked at.
pub(crate) const NAMES: [&str; 5] =
    ["training_data_rat", "training_data_labels", "test_data_rat", "test_data_labels", "sample_rate_hz"];

/// Names of the values and of the labels of a split.
pub(crate) fn variables(split: Split) -> [&'static str; 2] {
    match split {
        Split::Train => [NAMES[0], NAMES[1]],
        Split::Test => [NAMES[2], NAMES[3]],
    }
}

/// What the dimensions of a variable of values should be.
pub(crate) const VALUES_SHAPE: &str =
    "(contacts * 100) x recordings, 5600 x N for 56 contacts; transpose it if it is the other way round";
/// What those of labels should be.
pub(crate) const LABELS_SHAPE: &str = "N x 1 or 1 x N, one label a recording";

/// N, H and W of values of these dimensions, in MATLAB's order.
pub(crate) fn recordings_shape(dims: &[u64]) -> Option<[usize; 3]> {
    let &[rows, recordings] = dims else { return None };
    if rows == 0 || !rows.is_multiple_of(SAMPLES as u64) {
        return None;
    }
    let contacts = usize::try_from(rows).ok()? / SAMPLES;
    Some([usize::try_from(recordings).ok()?, contacts, SAMPLES])
}

/// How many labels there are in an array of these dimensions.
pub(crate) fn labels_count(dims: &[u64]) -> Option<usize> {
    match *dims {
        [n] | [n, 1] | [1, n] => usize::try_from(n).ok(),
        [0, _] | [_, 0] => Some(0),
        _ => None,
    }
}

/// Find the variables of a file.
pub(crate) fn open<'a, R: Read + Seek>(
    path: &'a Path,
    reader: R,
    length: u64,
    budget: &mut Budget,
) -> Result<Mat<'a, R>, DataError> {
    let mut file = BufReader::with_capacity(1 << 16, reader);
    let mut header = [0; HEADER as usize];
    file.read_exact(&mut header).map_err(|e| DataError::reading(path, "the header", e))?;
    // Written as the number 0x4d49, so it reads "IM" when the low byte comes first.
    let endian = if header.ends_with(b"IM") { Endian::Little } else { Endian::Big };
    match u16_of([header[124], header[125]], endian) {
        0x0100 => {}
        other => {
            let problem = format!("version {other:#06x} in its header, expected 0x0100");
            return Err(DataError::malformed(path, problem));
        }
    }
    let mut mat = Mat {
        path,
        file,
        length,
        endian,
        wanted: [None; NAMES.len()],
        present: Vec::new(),
        compressed: false,
    };
    mat.find_variables(budget)?;
    Ok(mat)
}

/// A file whose variables are known.
pub(crate) struct Mat<'a, R> {
    path: &'a Path,
    file: BufReader<R>,
    length: u64,
    endian: Endian,
    /// Where the element of each of [`NAMES`] stands.
    wanted: [Option<u64>; NAMES.len()],
    /// Names of all variables.
    present: Vec<String>,
    /// Whether any of them is compressed.
    compressed: bool,
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

/// The content of a matrix, after its own tag.
enum Content<'a, R> {
    Plain(io::Take<&'a mut BufReader<R>>),
    Packed(io::Take<ZlibDecoder<io::Take<&'a mut BufReader<R>>>>),
}

impl<R: Read> Read for Content<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(reader) => reader.read(buffer),
            Self::Packed(reader) => reader.read(buffer),
        }
    }
}

impl<R: Read> Content<'_, R> {
    /// Read what follows the numbers: nothing but padding, and the end at which the decoder compares its checksum.
    fn finish(self) -> io::Result<()> {
        if let Self::Packed(reader) = self {
            io::copy(&mut reader.into_inner().take(16), &mut io::sink())?;
        }
        Ok(())
    }
}

/// A variable of plain numbers, read up to them.
struct Variable<'a, R> {
    path: &'a Path,
    name: &'static str,
    dims: Vec<u64>,
    tag: Tag,
    element: Element,
    count: usize,
    content: Content<'a, R>,
}

impl<R: Read> Variable<'_, R> {
    fn wrong_shape(self, expected: &str) -> DataError {
        let (path, name, expected) = (self.path.to_owned(), self.name.to_owned(), expected.to_owned());
        DataError::WrongShape { path, name, expected, got: self.dims }
    }

    /// All its numbers, each converted.
    fn numbers<T>(
        mut self,
        budget: &mut Budget,
        convert: impl Fn(f64) -> T + Copy,
    ) -> Result<Vec<T>, DataError> {
        budget.take(self.path, self.name, self.count, size_of::<T>())?;
        let read = match self.tag.small {
            Some(bytes) => read_values(&mut &bytes[..], self.element, self.count, convert),
            None => read_values(&mut self.content, self.element, self.count, convert),
        };
        read.and_then(|values| self.content.finish().map(|()| values))
            .map_err(|e| DataError::reading(self.path, self.name, e))
    }
}

impl<'p, R: Read + Seek> Mat<'p, R> {
    fn bad(&self, problem: impl Into<String>) -> DataError {
        DataError::malformed(self.path, problem)
    }

    fn find_variables(&mut self, budget: &mut Budget) -> Result<(), DataError> {
        let (path, endian) = (self.path, self.endian);
        let mut at = HEADER;
        while at < self.length {
            let place = format!("the element at byte {at}");
            let failed = |e| DataError::reading(path, &place, e);
            // Most elements are skipped, so what was read ahead is thrown away in any case.
            self.file.seek(SeekFrom::Start(at)).map_err(|e| DataError::io(path, "read", e))?;
            let tag = read_tag(&mut self.file, endian).map_err(failed)?;
            // Small elements and others of no interest cannot stand here in a sound file, but do no harm.
            let size = if tag.small.is_some() { 0 } else { u64::from(tag.size) };
            let end = at + 8 + size;
            if end > self.length {
                let left = self.length - at - 8;
                return Err(
                    self.bad(format!("{place} declares {size} bytes, but {left} are left in the file"))
                );
            }
            // No data at all is what MATLAB writes for an empty cell.
            let named = match tag.kind {
                MI_MATRIX | MI_COMPRESSED if size > 0 => {
                    let mut content = self.content(tag, &place)?;
                    let matrix = read_preamble(&mut content, endian).map_err(failed)?;
                    Some(matrix.name).filter(|name| !name.is_empty()) // MATLAB's own data have no name
                }
                _ => None,
            };
            if let Some(name) = named {
                self.compressed |= tag.kind == MI_COMPRESSED;
                if let Some(which) = NAMES.iter().position(|wanted| *wanted == name)
                    && self.wanted[which].replace(at).is_some()
                {
                    return Err(self.bad(format!("variable {name} occurs twice, the second time in {place}")));
                }
                // Twice, for the list may be grown by doubling it.
                budget.take(path, "the names of the variables", 2 * size_of::<String>() + name.len(), 1)?;
                self.present.push(name);
            }
            // Matrices are padded to eight bytes by their own elements, compressed ones not at all.
            at = end;
        }
        Ok(())
    }

    /// The content of the matrix whose tag, or whose compressed element's tag, was just read.
    fn content(&mut self, tag: Tag, place: &str) -> Result<Content<'_, R>, DataError> {
        let (path, endian, size) = (self.path, self.endian, u64::from(tag.size));
        let plain = (&mut self.file).take(size);
        if tag.kind == MI_MATRIX {
            return Ok(Content::Plain(plain));
        }
        let mut content = ZlibDecoder::new(plain);
        let inner = read_tag(&mut content, endian).map_err(|e| DataError::reading(path, place, e))?;
        if inner.kind != MI_MATRIX || inner.small.is_some() {
            return Err(DataError::malformed(path, format!("{place} is compressed but holds no matrix")));
        }
        Ok(Content::Packed(content.take(inner.size.into())))
    }

    /// Open a variable that is there.
    fn variable(&mut self, name: &'static str) -> Result<Variable<'_, R>, DataError> {
        let (path, endian) = (self.path, self.endian);
        let failed = |e| DataError::reading(path, name, e);
        let at = NAMES.iter().position(|known| *known == name).and_then(|which| self.wanted[which]);
        self.file.seek(SeekFrom::Start(at.unwrap_or(HEADER))).map_err(|e| DataError::io(path, "read", e))?;
        let tag = read_tag(&mut self.file, endian).map_err(failed)?;
        let mut content = self.content(tag, name)?;
        let Matrix { class, complex, dims, .. } = read_preamble(&mut content, endian).map_err(failed)?;
        if complex || !(6..=15).contains(&class) {
            let got = if complex { "complex numbers" } else { class_name(class) };
            return Err(DataError::WrongType {
                path: path.to_owned(),
                name: name.to_owned(),
                expected: "a full array of real numbers",
                got: got.to_owned(),
            });
        }
        let tag = read_tag(&mut content, endian).map_err(failed)?;
        let Some(scalar) = scalar_of(tag.kind) else {
            let problem = format!("the numbers of {name} are of element type {}", tag.kind);
            return Err(DataError::malformed(path, problem));
        };
        let declared = dims.iter().try_fold(1u64, |n, &dim| n.checked_mul(dim));
        let needed = declared.and_then(|n| n.checked_mul(scalar.bytes() as u64));
        if needed != Some(u64::from(tag.size)) {
            let shape = shape(&dims);
            let problem = format!("{name} is {shape} but holds {} bytes of {scalar:?}", tag.size);
            return Err(DataError::malformed(path, problem));
        }
        let count = tag.size as usize / scalar.bytes();
        Ok(Variable { path, name, dims, tag, element: (scalar, endian), count, content })
    }
}

impl<R: Read + Seek> Source for Mat<'_, R> {
    fn format(&self) -> String {
        let order = if self.endian == Endian::Big { "big" } else { "little" };
        let storage = if self.compressed { "compressed" } else { "not compressed" };
        format!("MATLAB level 5, {order}-endian, {storage}")
    }

    fn first_label(&self) -> u8 {
        1
    }

    fn names(&self, split: Split) -> [&'static str; 2] {
        variables(split)
    }

    fn holds(&self, name: &str) -> bool {
        NAMES.iter().zip(&self.wanted).any(|(known, at)| *known == name && at.is_some())
    }

    fn present(&self) -> Vec<String> {
        self.present.clone()
    }

    fn labels(&mut self, name: &'static str, budget: &mut Budget) -> Result<Vec<f64>, DataError> {
        let variable = self.variable(name)?;
        match labels_count(&variable.dims) {
            Some(_) => variable.numbers(budget, |v| v),
            None => Err(variable.wrong_shape(LABELS_SHAPE)),
        }
    }

    fn shape(&mut self, name: &'static str) -> Result<[usize; 3], DataError> {
        let variable = self.variable(name)?;
        recordings_shape(&variable.dims).ok_or_else(|| variable.wrong_shape(VALUES_SHAPE))
    }

    fn values(&mut self, name: &'static str, budget: &mut Budget) -> Result<Vec<f32>, DataError> {
        self.variable(name)?.numbers(budget, narrow)
    }

    fn scalar(&mut self, name: &'static str, budget: &mut Budget) -> Result<f64, DataError> {
        let variable = self.variable(name)?;
        if variable.count != 1 {
            return Err(variable.wrong_shape("one number"));
        }
        Ok(variable.numbers(budget, |v| v)?[0])
    }
}

/// The largest variable that MATLAB reads from a level 5 file, in bytes.
const LARGEST: u64 = i32::MAX as u64;

/// See [`crate::write_mat`].
pub(crate) fn save(path: &Path, dataset: &Dataset) -> Result<(), DataError> {
    dataset.check(path)?;
    if dataset.train.samples != SAMPLES {
        let problem = format!(
            "recordings of {} samples, but a .mat file holds {SAMPLES} a contact; write .npz",
            dataset.train.samples
        );
        return Err(DataError::unsupported(path, problem));
    }
    let largest = Split::ALL.map(|split| dataset.split(split).x.len() as u64 * 8).into_iter().max();
    if let Some(bytes) = largest.filter(|&bytes| bytes > LARGEST - 1024) {
        let problem = format!(
            "a split of {bytes} bytes as doubles, but MATLAB level 5 holds less than {LARGEST}; write .npz"
        );
        return Err(DataError::unsupported(path, problem));
    }
    let mut operation = "create";
    let written = write_atomically(path, |file| {
        operation = "write";
        let mut out = BufWriter::with_capacity(1 << 20, file);
        let mut header = b"MATLAB 5.0 MAT-file, written by escape-snn".to_vec();
        header.resize(124, b' ');
        header.extend(0x0100u16.to_le_bytes());
        header.extend(b"IM");
        out.write_all(&header)?;
        for split in Split::ALL {
            let [values, labels] = variables(split);
            let Recordings { x, y, .. } = dataset.split(split);
            let size = dataset.train.size();
            put(&mut out, values, [size, y.len()], x.iter().map(|&v| f64::from(v)))?;
            put(&mut out, labels, [y.len(), 1], y.iter().map(|&label| label as f64 + 1.0))?;
        }
        if dataset.sample_rate_hz != SAMPLE_RATE_HZ {
            put(&mut out, NAMES[4], [1, 1], [dataset.sample_rate_hz])?;
        }
        out.flush()
    });
    written.map_err(|e| DataError::io(path, operation, e))
}

/// Write a matrix of doubles; dimensions and size fit a signed 32-bit number.
fn put(
    out: &mut impl Write,
    name: &str,
    dims: [usize; 2],
    values: impl IntoIterator<Item = f64>,
) -> io::Result<()> {
    let bytes = 8 * dims[0] as u32 * dims[1] as u32;
    let name_room = name.len().next_multiple_of(8);
    let mut head = Vec::new();
    let words = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<_>>();
    // Flags, dimensions, name and numbers, each with a tag of 8 bytes.
    head.extend(words(&[MI_MATRIX, 16 + 16 + 8 + name_room as u32 + 8 + bytes]));
    head.extend(words(&[MI_UINT32, 8, MX_DOUBLE, 0]));
    head.extend(words(&[MI_INT32, 8, dims[0] as u32, dims[1] as u32]));
    head.extend(words(&[MI_INT8, name.len() as u32]));
    head.extend(name.as_bytes());
    head.resize(head.len().next_multiple_of(8), 0);
    head.extend(words(&[MI_DOUBLE, bytes]));
    out.write_all(&head)?;
    values.into_iter().try_for_each(|value| out.write_all(&value.to_le_bytes()))
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
