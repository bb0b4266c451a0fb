//! MATLAB level 5 `.mat` files, as far as recordings need them: arrays of numbers, compressed or plain, in either byte
//! order, with numbers stored in a smaller type than their class; text and cell arrays of text as labels; fields of
//! structures. Everything else in a file is skipped, and it is said. Level 7.3 holds the same variables in HDF5,
//! and level 4 has fewer kinds of them, see [`crate::mat4`].
//!
//! `training_data_rat` and `test_data_rat` are (H * 100) x N: one column a recording, element i of it contact
//! i / 100, sample i % 100. Storage is column-major, so the columns come one after the other and each is a
//! row-major H x W recording. `training_data_labels` and `test_data_labels` are N x 1 or 1 x N, values 1..3 or 0..2,
//! and become 0..2. This project adds the scalars `samples` (W, which is 100 where nothing says otherwise),
//! `sample_rate_hz` where it is not 30,000, and `nerve_seed` and `nerve_animal`. N recordings, H contacts, W samples.
//!
//! Layout, from "MAT-File Format" (MathWorks): a 128-byte header, then elements. An element is a tag (type,
//! size in bytes; or both and up to four bytes of data in eight bytes) and its data, padded to eight bytes. A
//! matrix is an element of elements: flags, dimensions, name, numbers. A compressed element is a zlib stream
//! of one matrix.

use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

use flate2::bufread::ZlibDecoder;

use crate::SAMPLE_RATE_HZ;
use crate::arrays::{Array, Convention, Kind, SCALARS, Sink, Source};
use crate::budget::take;
use crate::error::{DataError, LISTED, shape};
use crate::recordings::{Dataset, Nerve, Recordings, Split};
use escape_files::budget::Budget;
use escape_files::invalid;
use escape_files::scalar::{Element, Endian, Scalar, stream_values};
use escape_files::text::shown;
use escape_files::write_atomically;

const MI_INT8: u32 = 1;
const MI_UINT8: u32 = 2;
const MI_INT32: u32 = 5;
const MI_UINT32: u32 = 6;
const MI_DOUBLE: u32 = 9;
const MI_MATRIX: u32 = 14;
const MI_COMPRESSED: u32 = 15;
const MI_UTF8: u32 = 16;
const MI_UTF16: u32 = 17;
const MI_UTF32: u32 = 18;
/// Classes: a cell array, a structure, an array of doubles, an object whose content MATLAB keeps elsewhere.
const MX_CELL: u8 = 1;
const MX_STRUCT: u8 = 2;
const MX_DOUBLE: u32 = 6;
const MX_OPAQUE: u8 = 17;
/// What the header of a file of ours begins with.
const OURS: &[u8] = b"MATLAB 5.0 MAT-file, written by escape-snn";
/// Header of the file, in bytes.
const HEADER: u64 = 128;
/// The longest name read, in bytes (MATLAB allows 63), and the most dimensions.
const NAME_LIMIT: u32 = 1024;
const DIMENSIONS_LIMIT: u32 = 32;
/// The longest list of field names read, in bytes.
const FIELDS_LIMIT: u32 = 1 << 16;

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
    let (variables, skipped, ours) = (Vec::new(), Vec::new(), header.starts_with(OURS));
    let mut mat = Mat { path, file, length, endian, variables, skipped, compressed: false, ours };
    mat.find_variables(budget)?;
    Ok(mat)
}

/// A file whose variables are known.
pub(crate) struct Mat<'a, R> {
    path: &'a Path,
    file: BufReader<R>,
    length: u64,
    endian: Endian,
    /// Names of all variables, and where their elements stand.
    variables: Vec<(String, u64)>,
    /// Those that are no arrays of numbers or text, at most [`SKIPPED`], and what they are.
    skipped: Vec<(String, String)>,
    /// Whether any of them is compressed.
    compressed: bool,
    /// Whether [`save`] wrote it.
    ours: bool,
}

/// So many skipped variables are named.
const SKIPPED: usize = 40;

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
    /// Of a MATLAB object.
    class_name: Option<String>,
}

impl Matrix {
    /// What it is if it is no array of numbers.
    fn describe(&self) -> String {
        match (&self.class_name, self.class) {
            (Some(name), _) => {
                format!("a MATLAB object of class {}; save double(...) or cellstr(...) of it", shown(name))
            }
            (None, _) if self.complex => "complex numbers".to_owned(),
            (None, class) => class_name(class).to_owned(),
        }
    }

    fn kind(&self) -> Kind {
        match self.class {
            6..=15 if !self.complex => Kind::Numbers,
            1 | 4 => Kind::Text(self.describe()),
            _ => Kind::Other(self.describe()),
        }
    }
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
    /// Read on to the end, at which the decoder compares its checksum; but for `more`, nothing but padding is left.
    fn finish(self, more: bool) -> io::Result<()> {
        if let Self::Packed(reader) = self {
            let left = if more { u64::MAX } else { 16 };
            io::copy(&mut reader.into_inner().take(left), &mut io::sink())?;
        }
        Ok(())
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
            if matches!(tag.kind, MI_MATRIX | MI_COMPRESSED) && size > 0 {
                let mut content = self.content(tag, &place)?;
                let matrix = read_preamble(&mut content, endian).map_err(failed)?;
                // MATLAB's own data have no name.
                if !matrix.name.is_empty() {
                    self.compressed |= tag.kind == MI_COMPRESSED;
                    self.add(matrix, at, &place, budget)?;
                }
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

    /// Take a variable down that stands at a place.
    fn add(&mut self, matrix: Matrix, at: u64, place: &str, budget: &mut Budget) -> Result<(), DataError> {
        let read =
            Split::ALL.iter().any(|&split| Convention::Matlab.names(split).contains(&matrix.name.as_str()));
        if (read || SCALARS.contains(&matrix.name.as_str()))
            && self.variables.iter().any(|(name, _)| *name == matrix.name)
        {
            let name = matrix.name;
            return Err(self.bad(format!("variable {name} occurs twice, the second time in {place}")));
        }
        if !matches!(matrix.class, 4 | 6..=15) && self.skipped.len() < SKIPPED {
            self.skipped.push((matrix.name.clone(), matrix.describe()));
        }
        // Twice, for the list may be grown by doubling it.
        let bytes = 2 * size_of::<(String, u64)>() + matrix.name.len();
        take(budget, self.path, "the names of the variables", bytes, 1)?;
        self.variables.push((matrix.name, at));
        Ok(())
    }

    /// Open a variable, or a field of a structure, up to what it holds; `None` if there is none of this name.
    fn find(&mut self, name: &str) -> Result<Option<(Matrix, Content<'_, R>)>, DataError> {
        let (path, endian) = (self.path, self.endian);
        let failed = |e| DataError::reading(path, name, e);
        let address =
            |wanted: &str| self.variables.iter().find(|(name, _)| name == wanted).map(|found| found.1);
        let (at, mut index, fields) = match address(name) {
            Some(at) => (at, None, None),
            None => {
                let Some((first, fields)) = name.split_once('.') else { return Ok(None) };
                let (first, index) = element_of(first);
                let Some(at) = address(first) else { return Ok(None) };
                (at, index, Some(fields))
            }
        };
        self.file.seek(SeekFrom::Start(at)).map_err(|e| DataError::io(path, "read", e))?;
        let tag = read_tag(&mut self.file, endian).map_err(failed)?;
        let mut content = self.content(tag, name)?;
        let mut matrix = read_preamble(&mut content, endian).map_err(failed)?;
        for field in fields.iter().flat_map(|fields| fields.split('.')) {
            let (field, of_field) = element_of(field);
            match read_field(&mut content, endian, &matrix, index, field).map_err(failed)? {
                Some(inner) => matrix = inner,
                None => return Ok(None),
            }
            index = of_field;
        }
        Ok(Some((matrix, content)))
    }

    /// Open a variable that is there.
    fn variable(&mut self, name: &str) -> Result<(Matrix, Content<'_, R>), DataError> {
        let path = self.path;
        self.find(name)?.ok_or_else(|| DataError::malformed(path, format!("no variable {name}")))
    }
}

impl<R: Read + Seek> Source for Mat<'_, R> {
    fn format(&self) -> String {
        let order = if self.endian == Endian::Big { "big" } else { "little" };
        let storage = if self.compressed { "compressed" } else { "not compressed" };
        format!("MATLAB level 5, {order}-endian, {storage}")
    }

    fn convention(&self) -> Convention {
        Convention::Matlab
    }

    fn is_ours(&self) -> bool {
        self.ours
    }

    fn holds(&mut self, name: &str) -> bool {
        // What is there and damaged is said when it is read.
        !matches!(self.find(name), Ok(None))
    }

    fn entries(&mut self) -> Vec<String> {
        let names: Vec<String> = self.variables.iter().map(|(name, _)| name.clone()).collect();
        let endian = self.endian;
        let described = |(i, name): (usize, String)| match self.find(&name) {
            Ok(Some((matrix, mut content))) if i < LISTED => {
                let mut kind = matrix.kind();
                if matrix.class == MX_STRUCT
                    && let Ok(fields) = read_fields(&mut content, endian)
                {
                    let some: Vec<&str> = fields.iter().take(8).map(String::as_str).collect();
                    let one = matrix.dims.iter().all(|&dim| dim == 1);
                    let array = if one { String::new() } else { format!(" array, {},", shape(&matrix.dims)) };
                    kind = Kind::Other(format!("a structure{array} of {}", some.join(", ")));
                }
                Array { dims: matrix.dims, column_major: true, kind }.describe(&name)
            }
            _ => name,
        };
        names.into_iter().enumerate().map(described).collect()
    }

    fn skipped(&mut self) -> Vec<(String, String)> {
        self.skipped.clone()
    }

    fn array(&mut self, name: &str) -> Result<Array, DataError> {
        let (path, endian) = (self.path, self.endian);
        let (matrix, mut content) = self.variable(name)?;
        let kind = matrix.kind();
        if kind == Kind::Numbers {
            read_numbers_tag(&mut content, endian, &matrix, name)
                .map_err(|e| DataError::reading(path, name, e))?;
        }
        Ok(Array { dims: matrix.dims, column_major: true, kind })
    }

    fn numbers(&mut self, name: &str, _: &mut Budget, sink: &mut Sink<'_>) -> Result<(), DataError> {
        let (path, endian) = (self.path, self.endian);
        let nested = self.variables.iter().all(|(other, _)| other != name);
        let (matrix, mut content) = self.variable(name)?;
        let read = read_numbers(&mut content, endian, &matrix, name, sink);
        read.and_then(|()| content.finish(nested)).map_err(|e| DataError::reading(path, name, e))
    }

    fn texts(&mut self, name: &str, budget: &mut Budget) -> Result<Vec<String>, DataError> {
        let (path, endian) = (self.path, self.endian);
        let failed = |e| DataError::reading(path, name, e);
        let (matrix, mut content) = self.variable(name)?;
        if matrix.class != MX_CELL {
            let texts = read_texts(&mut content, endian, &matrix, (path, name), budget)?;
            content.finish(true).map_err(failed)?;
            return Ok(texts);
        }
        let count = matrix.dims.iter().try_fold(1u64, |n, &dim| n.checked_mul(dim)).unwrap_or(u64::MAX);
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        take(budget, path, name, count, size_of::<String>())?;
        let mut texts = Vec::with_capacity(count);
        for i in 0..count {
            let wrong = |got: &str| {
                DataError::unsupported(
                    path,
                    format!("cell {i} of {name} is {got}, expected a text or a number"),
                )
            };
            let tag = read_tag(&mut content, endian).map_err(failed)?;
            if tag.kind != MI_MATRIX || tag.small.is_some() || tag.size == 0 {
                return Err(wrong("empty"));
            }
            let cell = read_preamble(&mut content, endian).map_err(failed)?;
            texts.push(match cell.kind() {
                Kind::Text(_) if cell.class != MX_CELL => {
                    let mut rows = read_texts(&mut content, endian, &cell, (path, name), budget)?;
                    match rows.len() {
                        0 | 1 => rows.pop().unwrap_or_default(),
                        _ => return Err(wrong("several texts")),
                    }
                }
                Kind::Numbers if cell.dims.iter().all(|&dim| dim == 1) => {
                    let mut value = f64::NAN;
                    read_numbers(&mut content, endian, &cell, name, &mut |_, run| value = run[0])
                        .map_err(failed)?;
                    value.to_string()
                }
                Kind::Text(what) | Kind::Other(what) => return Err(wrong(&what)),
                Kind::Numbers => return Err(wrong("an array of numbers")),
            });
        }
        content.finish(true).map_err(failed)?;
        Ok(texts)
    }
}

/// The tag of a matrix's numbers, and how they are stored.
fn read_numbers_tag(
    reader: &mut impl Read,
    endian: Endian,
    matrix: &Matrix,
    name: &str,
) -> io::Result<(Tag, Element, usize)> {
    let tag = read_tag(reader, endian)?;
    let Some(scalar) = scalar_of(tag.kind) else {
        return Err(invalid(format!("the numbers of {name} are of element type {}", tag.kind)));
    };
    let declared = matrix.dims.iter().try_fold(1u64, |n, &dim| n.checked_mul(dim));
    let needed = declared.and_then(|n| n.checked_mul(scalar.bytes() as u64));
    if needed != Some(u64::from(tag.size)) {
        let shape = shape(&matrix.dims);
        return Err(invalid(format!("{name} is {shape} but holds {} bytes of {scalar:?}", tag.size)));
    }
    Ok((tag, (scalar, endian), tag.size as usize / scalar.bytes()))
}

/// Hand over a matrix's numbers, up to the end of their padding.
fn read_numbers(
    reader: &mut impl Read,
    endian: Endian,
    matrix: &Matrix,
    name: &str,
    sink: &mut Sink<'_>,
) -> io::Result<()> {
    let (tag, element, count) = read_numbers_tag(reader, endian, matrix, name)?;
    match tag.small {
        Some(bytes) => stream_values(&mut &bytes[..], element, count, sink),
        None => {
            stream_values(reader, element, count, sink)?;
            skip_padding(reader, tag.size)
        }
    }
}

/// The characters of a matrix, by rows.
fn read_texts(
    reader: &mut impl Read,
    endian: Endian,
    matrix: &Matrix,
    (path, name): (&Path, &str),
    budget: &mut Budget,
) -> Result<Vec<String>, DataError> {
    texts_of(path, name, &matrix.dims, true, budget, |_, sink| {
        let tag = read_tag(reader, endian).map_err(|e| DataError::reading(path, name, e))?;
        let scalar = match tag.kind {
            MI_UTF8 => Scalar::U8,
            MI_UTF16 => Scalar::U16,
            MI_UTF32 => Scalar::U32,
            kind => scalar_of(kind).unwrap_or(Scalar::U8),
        };
        let count = matrix.dims.iter().try_fold(1u64, |n, &dim| n.checked_mul(dim));
        if count.and_then(|n| n.checked_mul(scalar.bytes() as u64)) != Some(u64::from(tag.size)) {
            return Err(DataError::unsupported(
                path,
                format!(
                    "{name}: {} bytes of text for {} characters; use plain letters",
                    tag.size,
                    shape(&matrix.dims)
                ),
            ));
        }
        let count = tag.size as usize / scalar.bytes();
        let read = match tag.small {
            Some(bytes) => stream_values(&mut &bytes[..], (scalar, endian), count, sink),
            None => stream_values(reader, (scalar, endian), count, sink)
                .and_then(|()| skip_padding(reader, tag.size)),
        };
        read.map_err(|e| DataError::reading(path, name, e))
    })
}

/// Rows of characters as texts. `read` hands over their codes as they are stored.
pub(crate) fn texts_of(
    path: &Path,
    name: &str,
    dims: &[u64],
    column_major: bool,
    budget: &mut Budget,
    read: impl FnOnce(&mut Budget, &mut Sink<'_>) -> Result<(), DataError>,
) -> Result<Vec<String>, DataError> {
    let (rows, length) = match *dims {
        [] => (1, 1),
        [length] => (1, length),
        [rows, length] => (rows, length),
        _ => {
            let (path, name, expected) = (path.to_owned(), name.to_owned(), "rows of characters".to_owned());
            return Err(DataError::WrongShape { path, name, expected, got: dims.to_vec() });
        }
    };
    let too_many = || DataError::unsupported(path, format!("{name} has too many characters"));
    let rows = usize::try_from(rows).map_err(|_| too_many())?;
    let length = usize::try_from(length).map_err(|_| too_many())?;
    let count = rows.checked_mul(length).ok_or_else(too_many)?;
    if count == 0 {
        return Ok(Vec::new());
    }
    // A code and up to four bytes of text a character.
    take(budget, path, name, count, 2 * size_of::<u32>())?;
    take(budget, path, name, rows, size_of::<String>())?;
    let mut codes = vec![0u32; count];
    read(budget, &mut |start, run| {
        codes[start..].iter_mut().zip(run).for_each(|(code, &value)| *code = value as u32);
    })?;
    let letter = |code: u32| char::from_u32(code).unwrap_or('?');
    let row = |row: usize| -> String {
        let at = |i: usize| if column_major { i * rows + row } else { row * length + i };
        let mut text = String::with_capacity((0..length).map(|i| letter(codes[at(i)]).len_utf8()).sum());
        text.extend((0..length).map(|i| letter(codes[at(i)])));
        text.truncate(text.trim_end_matches(['\0', ' ']).len());
        text
    };
    Ok((0..rows).map(row).collect())
}

/// The names of a structure's fields.
fn read_fields(reader: &mut impl Read, endian: Endian) -> io::Result<Vec<String>> {
    let length = read_short(reader, endian, "the length of field names", &[MI_INT32], 4)?;
    let length = length.first_chunk().map_or(0, |&raw| u32_of(raw, endian)) as usize;
    let names = read_short(reader, endian, "the names of fields", &[MI_INT8, MI_UINT8], FIELDS_LIMIT)?;
    if length == 0 {
        return Ok(Vec::new());
    }
    let name = |raw: &[u8]| {
        String::from_utf8_lossy(raw.split(|&byte| byte == 0).next().unwrap_or_default()).into_owned()
    };
    Ok(names.chunks_exact(length).map(name).collect())
}

/// `s(2)` is the second element of `s`, as MATLAB counts.
fn element_of(part: &str) -> (&str, Option<u64>) {
    let found = part.strip_suffix(')').and_then(|part| part.rsplit_once('('));
    match found.and_then(|(name, index)| Some((name, index.parse().ok().filter(|&index| index > 0)?))) {
        Some((name, index)) => (name, Some(index)),
        None => (part, None),
    }
}

/// Go on from a structure, or an element of an array of structures, to one of its fields; `None` if it has no such field.
fn read_field(
    reader: &mut impl Read,
    endian: Endian,
    structure: &Matrix,
    index: Option<u64>,
    wanted: &str,
) -> io::Result<Option<Matrix>> {
    if structure.class != MX_STRUCT {
        return Ok(None);
    }
    let fields = read_fields(reader, endian)?;
    let Some(which) = fields.iter().position(|name| name == wanted) else { return Ok(None) };
    let elements = structure.dims.iter().try_fold(1u64, |n, &dim| n.checked_mul(dim)).unwrap_or(u64::MAX);
    let index = match index {
        None if elements == 1 => 1,
        Some(index) if index <= elements => index,
        _ => {
            let shape = shape(&structure.dims);
            let problem = format!(
                "an array of {elements} structures ({shape}) stands before .{wanted}; say which of them, the first with \
                 (1).{wanted}"
            );
            return Err(io::Error::new(io::ErrorKind::Unsupported, problem));
        }
    };
    // Element after element, each with all of its fields.
    let which = (index - 1).saturating_mul(fields.len() as u64).saturating_add(which as u64);
    for at in 0..=which {
        let tag = read_tag(reader, endian)?;
        if tag.kind != MI_MATRIX || tag.small.is_some() {
            return Err(invalid(format!("field {wanted} of element type {}", tag.kind)));
        }
        if at < which {
            let skipped = io::copy(&mut reader.take(tag.size.into()), &mut io::sink())?;
            if skipped < u64::from(tag.size) {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
            }
        } else if tag.size == 0 {
            return Ok(None);
        }
    }
    read_preamble(reader, endian).map(Some)
}

/// Read what fills an element up to eight bytes.
fn skip_padding(reader: &mut impl Read, size: u32) -> io::Result<()> {
    io::copy(&mut reader.take((size.next_multiple_of(8) - size).into()), &mut io::sink()).map(drop)
}

/// The largest variable that MATLAB reads from a level 5 file, in bytes.
const LARGEST: u64 = i32::MAX as u64;

/// See [`crate::write_mat`].
pub(crate) fn save(path: &Path, dataset: &Dataset) -> Result<(), DataError> {
    dataset.check(path)?;
    let largest = Split::ALL.map(|split| dataset.split(split).x.len() as u64 * 8).into_iter().max();
    if let Some(bytes) = largest.filter(|&bytes| bytes > LARGEST - 1024) {
        let problem = format!(
            "a split of {bytes} bytes as doubles, but MATLAB level 5 holds less than {LARGEST}; write .npz"
        );
        return Err(DataError::unwritable(path, problem));
    }
    let mut operation = "create";
    let written = write_atomically(path, |file| {
        operation = "write";
        let mut out = BufWriter::with_capacity(1 << 20, file);
        let mut header = OURS.to_vec();
        header.resize(124, b' ');
        header.extend(0x0100u16.to_le_bytes());
        header.extend(b"IM");
        out.write_all(&header)?;
        for split in Split::ALL {
            let [values, labels] = Convention::Matlab.names(split);
            let Recordings { x, y, .. } = dataset.split(split);
            let size = dataset.train.size();
            put(&mut out, values, [size, y.len()], x.iter().map(|&v| f64::from(v)))?;
            put(&mut out, labels, [y.len(), 1], y.iter().map(|&label| label as f64 + 1.0))?;
        }
        let [_, samples, rate, seed, animal] = SCALARS;
        put(&mut out, samples, [1, 1], [dataset.train.samples as f64])?;
        if dataset.sample_rate_hz != SAMPLE_RATE_HZ {
            put(&mut out, rate, [1, 1], [dataset.sample_rate_hz])?;
        }
        if let Some((exact, number)) = dataset.nerve.and_then(Nerve::exact) {
            put(&mut out, seed, [1, 1], [exact])?;
            put(&mut out, animal, [1, 1], [number])?;
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
    let class = flags as u8;
    if !(1..=MX_OPAQUE).contains(&class) {
        // Whatever it is, it is skipped.
        let name = "something".to_owned();
        return Ok(Matrix { name, class, complex: false, dims: Vec::new(), class_name: None });
    }
    let text = |raw: Vec<u8>| String::from_utf8_lossy(&raw).trim_end_matches('\0').to_owned();
    let name_kinds = [MI_INT8, MI_UINT8, MI_UTF8];
    if class == MX_OPAQUE {
        // No dimensions, but the name of the system of classes, and of the class.
        let mut texts = Vec::new();
        for what in ["a name", "a system of classes", "a class"] {
            texts.push(text(read_short(reader, endian, what, &name_kinds, NAME_LIMIT)?));
        }
        let (class_name, name) = (texts.pop(), texts.swap_remove(0));
        return Ok(Matrix { name, class, complex: false, dims: Vec::new(), class_name });
    }
    let dims =
        words(&read_short(reader, endian, "dimensions", &[MI_INT32, MI_UINT32], 4 * DIMENSIONS_LIMIT)?);
    if let Some(dim) = dims.iter().find(|&&dim| dim > i32::MAX as u32) {
        return Err(invalid(format!("a negative dimension ({})", *dim as i32)));
    }
    let name = read_short(reader, endian, "a name", &name_kinds, NAME_LIMIT)?;
    Ok(Matrix {
        name: text(name),
        class,
        complex: flags & 0x0800 != 0,
        dims: dims.into_iter().map(u64::from).collect(),
        class_name: None,
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
