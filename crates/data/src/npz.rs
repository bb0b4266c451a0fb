//! NumPy's formats. `.npz` is the project's own: `train_x` float32 N x H x W, `train_y` int64 N (0..2), `test_x`,
//! `test_y`, and the optional scalars `contacts` and `sample_rate_hz`. The same arrays are read from `.npy` files side
//! by side, `train_x.npy` and so on.
//!
//! Read are also values and labels of any integer or floating-point type of 8 to 64 bits, labels as text or one-hot, either
//! byte order and memory order, N x 1 x H x W, and archives with or without compression. N recordings, H contacts, W
//! samples.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};
use std::path::{Path, PathBuf};

use npyz::WriterBuilder;
use npyz::npz::NpzWriter;
use npyz::zip::{CompressionMethod, DateTime, write::FileOptions};

use crate::arrays::{Array, Convention, Kind, SCALARS, Sink, Source};
use crate::budget::take;
use crate::error::{DataError, LISTED};
use crate::mat::texts_of;
use crate::options::ReadOptions;
use crate::recordings::{Dataset, Recordings, Split};
use escape_files::archive::{Archive, EntryReader};
use escape_files::budget::Budget;
use escape_files::invalid;
use escape_files::scalar::{Element, Endian, Scalar, stream_values};
use escape_files::text::shown;
use escape_files::write_atomically;

/// The arrays that are looked at where nothing else is said.
fn names() -> impl Iterator<Item = &'static str> {
    let arrays = Split::ALL.into_iter().flat_map(|split| Convention::NumPy.names(split));
    arrays.chain(SCALARS)
}

/// Open an archive.
pub(crate) fn open<R: Read + Seek>(
    path: &Path,
    reader: R,
    budget: &mut Budget,
) -> Result<Numpy<Entries<R>>, DataError> {
    let archive = Archive::new(reader).map_err(|e| DataError::archive(path, e))?;
    take(budget, path, "the archive's directory", archive.overhead(), 1)?;
    Ok(Numpy(Entries { path: path.to_owned(), archive }))
}

/// Open `.npy` files: those of a folder, or those that begin as the one named does.
///
/// Also says how many bytes they have together, and what their common name is (for `_RAW` at its end).
///
/// # Errors
/// [`DataError::ArrayName`] if the name is none of those expected, or the folder holds none of them.
pub(crate) fn open_files(
    path: &Path,
    options: &ReadOptions,
) -> Result<(Numpy<Files>, u64, String), DataError> {
    let unnamed = || DataError::ArrayName { path: path.to_owned() };
    let text = |name: Option<&std::ffi::OsStr>| name.and_then(|n| n.to_str()).map(str::to_owned);
    let (folder, prefix) = if path.is_dir() {
        (path.to_owned(), String::new())
    } else {
        let stem = text(path.file_stem()).ok_or_else(unnamed)?;
        let prefix = match options.x.is_empty() {
            true => names().find_map(|name| stem.strip_suffix(name)).ok_or_else(unnamed)?,
            // Files that were named stand for themselves.
            false => "",
        };
        (path.parent().unwrap_or(Path::new("")).to_owned(), prefix.to_owned())
    };
    let title = match prefix.trim_end_matches(['_', '-', '.']) {
        "" => text(folder.file_name()).unwrap_or_default(),
        prefix => prefix.to_owned(),
    };
    let named = options.x.iter().chain(&options.y).cloned();
    let files = Files { folder, prefix, names: named.chain(names().map(str::to_owned)).collect() };
    let sizes = files.names.iter().filter_map(|name| files.path(name).metadata().ok()).map(|m| m.len());
    let (count, bytes) = sizes.fold((0, 0), |(count, bytes), size| (count + 1, bytes + size));
    if count == 0 && options.x.is_empty() {
        return Err(unnamed());
    }
    Ok((Numpy(files), bytes, title))
}

/// The files that [`open_files`] would read.
pub(crate) fn files(path: &Path, options: &ReadOptions) -> Result<Vec<PathBuf>, DataError> {
    let (Numpy(files), ..) = open_files(path, options)?;
    Ok(files.names.iter().map(|name| files.path(name)).filter(|path| path.is_file()).collect())
}

/// Arrays by name, each as NumPy stores it in a file.
pub(crate) trait Arrays {
    /// The format in words.
    const FORMAT: &'static str;

    /// What to call the place of an array in errors.
    fn path(&self, name: &str) -> PathBuf;
    fn holds(&self, name: &str) -> bool;
    fn present(&self) -> Vec<String>;
    /// What to call an array in a list.
    fn shown(&self, name: &str) -> String;
    /// A reader of the array's file, from its beginning.
    fn open(&mut self, name: &str) -> Result<Box<dyn Stream + '_>, DataError>;
}

/// A file whose end is known.
pub(crate) trait Stream: Read {
    /// Bytes that were not read yet.
    fn left(&self) -> u64;
}

/// An archive.
pub(crate) struct Entries<R> {
    path: PathBuf,
    archive: Archive<R>,
}

impl<R: Read + Seek> Arrays for Entries<R> {
    const FORMAT: &'static str = "NumPy archive (.npz)";

    fn path(&self, _: &str) -> PathBuf {
        self.path.clone()
    }

    fn holds(&self, name: &str) -> bool {
        self.archive.size(&format!("{name}.npy")).is_some()
    }

    fn present(&self) -> Vec<String> {
        self.archive.names().map(|name| name.trim_end_matches(".npy").to_owned()).collect()
    }

    fn shown(&self, name: &str) -> String {
        name.to_owned()
    }

    fn open(&mut self, name: &str) -> Result<Box<dyn Stream + '_>, DataError> {
        let reader = self.archive.reader(&format!("{name}.npy"));
        Ok(Box::new(reader.map_err(|e| DataError::archive(&self.path, e))?))
    }
}

impl<R: Read> Stream for EntryReader<'_, R> {
    fn left(&self) -> u64 {
        EntryReader::left(self)
    }
}

/// Files side by side.
pub(crate) struct Files {
    folder: PathBuf,
    prefix: String,
    /// Names of the arrays that may be there.
    names: Vec<String>,
}

impl Arrays for Files {
    const FORMAT: &'static str = "NumPy arrays (.npy)";

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{}{name}.npy", self.prefix))
    }

    fn holds(&self, name: &str) -> bool {
        self.path(name).is_file()
    }

    fn present(&self) -> Vec<String> {
        let there = self.names.iter().filter(|name| self.holds(name));
        there.cloned().collect()
    }

    fn shown(&self, name: &str) -> String {
        format!("{}{name}.npy", self.prefix)
    }

    fn open(&mut self, name: &str) -> Result<Box<dyn Stream + '_>, DataError> {
        let path = self.path(name);
        let file = File::open(&path).map_err(|e| DataError::open(&path, e))?;
        let length = file.metadata().map_err(|e| DataError::io(&path, "read", e))?.len();
        Ok(Box::new(BufReader::new(file).take(length)))
    }
}

impl<R: Read> Stream for io::Take<R> {
    fn left(&self) -> u64 {
        self.limit()
    }
}

/// Recordings in NumPy arrays.
pub(crate) struct Numpy<A>(A);

/// An array whose header was read, and a reader that stands at its first value.
struct Opened<'a> {
    path: PathBuf,
    name: &'a str,
    header: Header,
    reader: Box<dyn Stream + 'a>,
}

impl<A: Arrays> Numpy<A> {
    /// Open an array.
    fn opened<'a>(&'a mut self, name: &'a str) -> Result<Opened<'a>, DataError> {
        let path = self.0.path(name);
        let mut reader = self.0.open(name)?;
        let header = Header::read(&mut reader).map_err(|e| DataError::reading(&path, name, e))?;
        Ok(Opened { path, name, header, reader })
    }
}

impl Opened<'_> {
    fn failed(&self, error: io::Error) -> DataError {
        DataError::reading(&self.path, self.name, error)
    }

    /// Number of values of `each` bytes. What is left of the file must be these and nothing else, so that a checksum is
    /// always compared.
    fn count(&self, each: usize) -> Result<usize, DataError> {
        let left = self.reader.left();
        match self.header.count().filter(|&n| (n as u64).checked_mul(each as u64) == Some(left)) {
            Some(count) => Ok(count),
            None => {
                let (shape, descr) = (crate::error::shape(&self.header.shape), shown(&self.header.descr));
                let problem =
                    format!("its header promises {shape} values of type {descr}, {left} bytes follow");
                Err(self.failed(invalid(problem)))
            }
        }
    }
}

impl<A: Arrays> Source for Numpy<A> {
    fn format(&self) -> String {
        A::FORMAT.to_owned()
    }

    fn convention(&self) -> Convention {
        Convention::NumPy
    }

    fn holds(&mut self, name: &str) -> bool {
        self.0.holds(name)
    }

    fn entries(&mut self) -> Vec<String> {
        let names = self.0.present();
        let described = |(i, name): (usize, &String)| {
            let shown = self.0.shown(name);
            match self.opened(name) {
                Ok(opened) if i < LISTED => opened.header.array().describe(&shown),
                _ => shown,
            }
        };
        names.iter().enumerate().map(described).collect()
    }

    fn array(&mut self, name: &str) -> Result<Array, DataError> {
        let opened = self.opened(name)?;
        if let Some((scalar, _)) = opened.header.element {
            // A count that cannot be is a shape that cannot be.
            if opened.header.count().is_some() {
                opened.count(scalar.bytes())?;
            }
        }
        Ok(opened.header.array())
    }

    fn numbers(&mut self, name: &str, _: &mut Budget, sink: &mut Sink<'_>) -> Result<(), DataError> {
        let mut opened = self.opened(name)?;
        let Some(element) = opened.header.element else {
            return Err(DataError::malformed(&opened.path, format!("{name} holds no numbers")));
        };
        let count = opened.count(element.0.bytes())?;
        stream_values(&mut opened.reader, element, count, sink).map_err(|e| opened.failed(e))
    }

    fn texts(&mut self, name: &str, budget: &mut Budget) -> Result<Vec<String>, DataError> {
        let mut opened = self.opened(name)?;
        let Some((length, element)) = text_element(&opened.header.descr) else {
            return Err(DataError::malformed(&opened.path, format!("{name} holds no text")));
        };
        let each = length.saturating_mul(element.0.bytes());
        let texts = opened.count(each)?;
        if each == 0 {
            take(budget, &opened.path, name, texts, size_of::<String>())?;
            return Ok(vec![String::new(); texts]);
        }
        let path = opened.path.clone();
        texts_of(&path, name, &[texts as u64, length as u64], false, budget, |_, sink| {
            stream_values(&mut opened.reader, element, texts * length, sink).map_err(|e| opened.failed(e))
        })
    }
}

/// The header of an `.npy` array.
#[derive(Debug, PartialEq)]
struct Header {
    descr: String,
    /// `None` for an element type that is not a plain number.
    element: Option<(Scalar, Endian)>,
    fortran: bool,
    shape: Vec<u64>,
}

impl Header {
    /// Longest header read, in bytes. That of an array of numbers needs 128; the format allows 4 GiB.
    const LIMIT: usize = 1 << 16;

    fn read(reader: &mut impl Read) -> io::Result<Self> {
        let mut magic = [0; 8];
        reader.read_exact(&mut magic)?;
        if !magic.starts_with(b"\x93NUMPY") {
            return Err(invalid("not a NumPy array (no \\x93NUMPY at its start)"));
        }
        let length = match magic[6] {
            1 => {
                let mut length = [0; 2];
                reader.read_exact(&mut length)?;
                usize::from(u16::from_le_bytes(length))
            }
            2 | 3 => {
                let mut length = [0; 4];
                reader.read_exact(&mut length)?;
                usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX)
            }
            version => return Err(invalid(format!("NumPy format version {version}, expected 1 to 3"))),
        };
        if length > Self::LIMIT {
            return Err(invalid(format!("a header of {length} bytes, expected at most {}", Self::LIMIT)));
        }
        let mut text = vec![0; length];
        reader.read_exact(&mut text)?;
        let text = str::from_utf8(&text).map_err(|_| invalid("a header that is not text"))?;
        Self::parse(text)
            .ok_or_else(|| invalid(format!("a header that cannot be understood: {}", shown(text.trim()))))
    }

    /// Parse `{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }`. A structured `descr` (a list) is
    /// kept as text, so that the error can show it.
    fn parse(text: &str) -> Option<Self> {
        let mut rest = text.trim().strip_prefix('{')?.strip_suffix('}')?.trim();
        let (mut descr, mut fortran, mut shape) = (None, None, None);
        while !rest.is_empty() {
            let (key, after) = quoted(rest)?;
            rest = after.trim_start().strip_prefix(':')?.trim_start();
            rest = match key {
                "descr" if rest.starts_with('[') => {
                    // Strings within may hold brackets; a structured type is refused in any case, so the list
                    // simply ends where the next key begins.
                    let end = rest.rfind("'fortran_order'").or(rest.rfind("'shape'")).unwrap_or(rest.len());
                    let (list, after) = rest.split_at(end);
                    descr = Some(list.trim_end_matches([',', ' ']).to_owned());
                    after
                }
                "descr" => {
                    let (value, after) = quoted(rest)?;
                    descr = Some(value.to_owned());
                    after
                }
                "fortran_order" => {
                    let (value, after) = match rest.strip_prefix("True") {
                        Some(after) => (true, after),
                        None => (false, rest.strip_prefix("False")?),
                    };
                    fortran = Some(value);
                    after
                }
                "shape" => {
                    let (list, after) = rest.strip_prefix('(')?.split_once(')')?;
                    let dims = list.split(',').map(str::trim).filter(|dim| !dim.is_empty());
                    // Python 2 wrote long integers with an L.
                    let dims: Result<_, _> = dims.map(|dim| dim.trim_end_matches('L').parse()).collect();
                    shape = Some(dims.ok()?);
                    after
                }
                _ => return None,
            };
            rest = rest.trim_start();
            rest = rest.strip_prefix(',').unwrap_or(rest).trim_start();
        }
        let descr = descr?;
        Some(Self { element: element(&descr), descr, fortran: fortran?, shape: shape? })
    }

    /// Number of elements, if it can be counted.
    fn count(&self) -> Option<usize> {
        let count = self.shape.iter().try_fold(1u64, |n, &dim| n.checked_mul(dim))?;
        usize::try_from(count).ok()
    }

    /// What the array is.
    fn array(&self) -> Array {
        let kind = match (self.element, text_element(&self.descr)) {
            (Some(_), _) => Kind::Numbers,
            (None, Some(_)) => Kind::Text("text".to_owned()),
            (None, None) if self.descr == "|O" => Kind::Other(
                "|O (Python objects); save numbers with numpy.stack(...), text with dtype=str".to_owned(),
            ),
            (None, None) => Kind::Other(shown(&self.descr)),
        };
        Array { dims: self.shape.clone(), column_major: self.fortran, kind }
    }
}

/// The content of a Python string literal without escapes, and what follows it.
fn quoted(text: &str) -> Option<(&str, &str)> {
    let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    text[1..].split_once(quote)
}

/// The element type a NumPy type string such as `<f4` names.
fn element(descr: &str) -> Option<(Scalar, Endian)> {
    let mut chars = descr.chars();
    let endian = match chars.next()? {
        '<' | '|' | '=' => Endian::Little,
        '>' => Endian::Big,
        _ => return None,
    };
    let scalar = match chars.as_str() {
        "f2" => Scalar::F16,
        "f4" => Scalar::F32,
        "f8" => Scalar::F64,
        "i1" => Scalar::I8,
        "i2" => Scalar::I16,
        "i4" => Scalar::I32,
        "i8" => Scalar::I64,
        "u1" | "b1" => Scalar::U8,
        "u2" => Scalar::U16,
        "u4" => Scalar::U32,
        "u8" => Scalar::U64,
        _ => return None,
    };
    Some((scalar, endian))
}

/// Characters of a text, and how each is stored, of a NumPy type string such as `<U12` or `|S12`.
fn text_element(descr: &str) -> Option<(usize, Element)> {
    let mut chars = descr.chars();
    let endian = match chars.next()? {
        '<' | '|' | '=' => Endian::Little,
        '>' => Endian::Big,
        _ => return None,
    };
    let scalar = match chars.next()? {
        'U' => Scalar::U32,
        'S' | 'a' => Scalar::U8,
        _ => return None,
    };
    Some((chars.as_str().parse().ok()?, (scalar, endian)))
}

/// One array to be written.
#[derive(Debug, Clone, Copy)]
pub enum Values<'a> {
    /// Single-precision numbers.
    F32(&'a [f32]),
    /// Double-precision numbers.
    F64(&'a [f64]),
    /// 64-bit integers.
    I64(&'a [i64]),
}

/// Write arrays as `.npz`: name, shape (empty for a scalar), values in row-major order.
///
/// The file appears whole or not at all (see [`write_atomically`]), is not compressed, and depends on nothing but
/// the arrays: equal arrays give equal bytes.
///
/// # Errors
/// [`DataError::Io`] when writing fails, also when a shape does not fit its values.
pub fn write(path: &Path, arrays: &[(&str, &[usize], Values<'_>)]) -> Result<(), DataError> {
    let mut operation = "create";
    let written = write_atomically(path, |file| {
        operation = "write";
        let mut npz = NpzWriter::new(BufWriter::with_capacity(1 << 20, file));
        for (name, shape, values) in arrays {
            match values {
                Values::F32(values) => put(&mut npz, name, shape, values),
                Values::F64(values) => put(&mut npz, name, shape, values),
                Values::I64(values) => put(&mut npz, name, shape, values),
            }?;
        }
        // The archive's directory, then what is left in the buffer.
        npz.zip_writer().finish().map_err(io::Error::from)?.flush()
    });
    written.map_err(|e| DataError::io(path, operation, e))
}

fn put<T: npyz::AutoSerialize + Copy>(
    npz: &mut NpzWriter<BufWriter<&mut File>>,
    name: &str,
    shape: &[usize],
    values: &[T],
) -> io::Result<()> {
    let options = FileOptions::default()
        .compression_method(CompressionMethod::Stored)
        .last_modified_time(DateTime::default())
        .large_file(size_of_val(values) as u64 >= u64::from(u32::MAX) - (1 << 16));
    let shape: Vec<u64> = shape.iter().map(|&dim| dim as u64).collect();
    let mut array = npz.array(name, options)?.default_dtype().shape(&shape).begin_nd()?;
    array.extend(values.iter().copied())?;
    array.finish()
}

/// See [`crate::write_npz`].
pub(crate) fn save(path: &Path, dataset: &Dataset) -> Result<(), DataError> {
    dataset.check(path)?;
    let Dataset { train, test, sample_rate_hz, nerve, .. } = dataset;
    let shape = |r: &Recordings| [r.len(), r.contacts, r.samples];
    let shapes = [shape(train), shape(test)];
    let lengths = [[train.len()], [test.len()]];
    let contacts = [train.contacts as i64];
    let nerve = nerve
        .filter(|nerve| nerve.exact().is_some())
        .map(|nerve| [[nerve.seed as i64], [nerve.animal.into()]]);
    let mut arrays: Vec<(&str, &[usize], Values<'_>)> = vec![
        ("train_x", &shapes[0], Values::F32(&train.x)),
        ("train_y", &lengths[0], Values::I64(&train.y)),
        ("test_x", &shapes[1], Values::F32(&test.x)),
        ("test_y", &lengths[1], Values::I64(&test.y)),
        ("contacts", &[], Values::I64(&contacts)),
        ("sample_rate_hz", &[], Values::F64(std::slice::from_ref(sample_rate_hz))),
    ];
    if let Some([seed, animal]) = &nerve {
        arrays.push(("nerve_seed", &[], Values::I64(seed)));
        arrays.push(("nerve_animal", &[], Values::I64(animal)));
    }
    write(path, &arrays)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_as_numpy_writes_them() {
        let header =
            Header::parse("{'descr': '<f4', 'fortran_order': False, 'shape': (3, 56, 100), }   \n").unwrap();
        assert_eq!(header.element, Some((Scalar::F32, Endian::Little)));
        assert_eq!((header.fortran, header.shape.as_slice()), (false, &[3, 56, 100][..]));
        let header = Header::parse("{'shape': (5,), 'fortran_order': True, 'descr': '>i8'}").unwrap();
        assert_eq!(header.element, Some((Scalar::I64, Endian::Big)));
        assert_eq!((header.fortran, header.shape.as_slice(), header.count()), (true, &[5][..], Some(5)));
        let scalar = Header::parse("{'descr': '|u1', 'fortran_order': False, 'shape': (), }").unwrap();
        assert_eq!((scalar.shape.len(), scalar.count()), (0, Some(1)));
        let record = "{'descr': [('a', '<f4'), ('b]', '|S3')], 'fortran_order': False, 'shape': (2,), }";
        assert_eq!(Header::parse(record).unwrap().element, None);
    }

    #[test]
    fn headers_that_are_none() {
        let deep = format!("{{'descr': '<f4', 'shape': {}", "(".repeat(60_000));
        let broken = [
            "",
            "{",
            "{}",
            "{'descr': '<f4'}",
            "{'descr: ",
            "{'shape': (-1,), 'descr': '<f4'}",
            "{'a': 1}",
            "\u{e9}",
        ];
        for text in broken.into_iter().chain([deep.as_str()]) {
            assert_eq!(Header::parse(text), None, "{text:.40}");
        }
        let huge = "{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296, 1), }";
        assert_eq!(Header::parse(huge).unwrap().count(), None);
    }
}
