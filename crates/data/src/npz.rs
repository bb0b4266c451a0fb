//! NumPy's formats. `.npz` is the project's own: `train_x` float32 N x H x W, `train_y` int64 N (0..2), `test_x`,
//! `test_y`, and the optional scalars `contacts` and `sample_rate_hz`. The same arrays are read from `.npy` files side
//! by side, `train_x.npy` and so on.
//!
//! Read are also float16 and float64 values, labels of any integer or floating-point type of 8 to 64 bits, either byte
//! order and memory order, N x 1 x H x W, and archives with or without compression. N recordings, H contacts, W
//! samples.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};
use std::path::{Path, PathBuf};

use npyz::WriterBuilder;
use npyz::npz::NpzWriter;
use npyz::zip::{CompressionMethod, DateTime, write::FileOptions};

use crate::archive::{Archive, EntryReader};
use crate::budget::Budget;
use crate::error::{DataError, invalid, shown};
use crate::reading::Source;
use crate::recordings::{Dataset, Recordings, Split};
use crate::scalar::{Element, Endian, Scalar, narrow, read_steps, read_values};
use crate::write_atomically;

/// The arrays that are looked at.
const NAMES: [&str; 6] = ["train_x", "train_y", "test_x", "test_y", "contacts", "sample_rate_hz"];

/// Open an archive.
pub(crate) fn open<R: Read + Seek>(
    path: &Path,
    reader: R,
    budget: &mut Budget,
) -> Result<Numpy<Entries<R>>, DataError> {
    let archive = Archive::new(reader).map_err(|e| DataError::archive(path, e))?;
    budget.take(path, "the archive's directory", archive.overhead(), 1)?;
    Ok(Numpy(Entries { path: path.to_owned(), archive }))
}

/// Open `.npy` files: those of a folder, or those that begin as the one named does.
///
/// Also says how many bytes they have together, and what their common name is (for `_RAW` at its end).
///
/// # Errors
/// [`DataError::ArrayName`] if the name is none of those expected, or the folder holds none of them.
pub(crate) fn open_files(path: &Path) -> Result<(Numpy<Files>, u64, String), DataError> {
    let unnamed = || DataError::ArrayName { path: path.to_owned() };
    let text = |name: Option<&std::ffi::OsStr>| name.and_then(|n| n.to_str()).map(str::to_owned);
    let (folder, prefix) = if path.is_dir() {
        (path.to_owned(), String::new())
    } else {
        let stem = text(path.file_stem()).ok_or_else(unnamed)?;
        let prefix = NAMES.iter().find_map(|name| stem.strip_suffix(name)).ok_or_else(unnamed)?;
        (path.parent().unwrap_or(Path::new("")).to_owned(), prefix.to_owned())
    };
    let title = match prefix.trim_end_matches(['_', '-', '.']) {
        "" => text(folder.file_name()).unwrap_or_default(),
        prefix => prefix.to_owned(),
    };
    let files = Files { folder, prefix };
    let sizes = NAMES.iter().filter_map(|name| files.path(name).metadata().ok()).map(|m| m.len());
    let (count, bytes) = sizes.fold((0, 0), |(count, bytes), size| (count + 1, bytes + size));
    if count == 0 {
        return Err(unnamed());
    }
    Ok((Numpy(files), bytes, title))
}

/// The files that [`open_files`] would read.
pub(crate) fn files(path: &Path) -> Result<Vec<PathBuf>, DataError> {
    let (Numpy(files), ..) = open_files(path)?;
    Ok(NAMES.iter().map(|name| files.path(name)).filter(|path| path.is_file()).collect())
}

/// Arrays by name, each as NumPy stores it in a file.
pub(crate) trait Arrays {
    /// The format in words.
    const FORMAT: &'static str;

    /// What to call the place of an array in errors.
    fn path(&self, name: &str) -> PathBuf;
    fn holds(&self, name: &str) -> bool;
    fn present(&self) -> Vec<String>;
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
        let there = NAMES.iter().filter(|name| self.holds(name));
        there.map(|name| format!("{}{name}.npy", self.prefix)).collect()
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
    element: Element,
    reader: Box<dyn Stream + 'a>,
}

impl<A: Arrays> Numpy<A> {
    /// Open an array of plain numbers; `expected` says which, for the error.
    fn array<'a>(
        &'a mut self,
        name: &'a str,
        expected: &'static str,
        fits: impl Fn(Scalar) -> bool,
    ) -> Result<Opened<'a>, DataError> {
        let path = self.0.path(name);
        let mut reader = self.0.open(name)?;
        let header = Header::read(&mut reader).map_err(|e| DataError::reading(&path, name, e))?;
        let Some(element) = header.element.filter(|(scalar, _)| fits(*scalar)) else {
            return Err(header.wrong_type(&path, name, expected));
        };
        Ok(Opened { path, name, header, element, reader })
    }

    fn recordings<'a>(&'a mut self, name: &'a str) -> Result<(Opened<'a>, [usize; 3]), DataError> {
        let opened = self.array(name, "float16, float32 or float64", Scalar::is_float)?;
        let (Some(shape), Some(_)) = (opened.header.recordings_shape(), opened.header.count()) else {
            return Err(opened.wrong_shape(
                "N x H x W or N x 1 x H x W (recordings x contacts x samples), H and W at least 1",
            ));
        };
        Ok((opened, shape))
    }
}

impl Opened<'_> {
    fn wrong_shape(&self, expected: &str) -> DataError {
        self.header.wrong_shape(&self.path, self.name, expected)
    }

    fn failed(&self, error: io::Error) -> DataError {
        DataError::reading(&self.path, self.name, error)
    }

    /// Number of values. What is left of the file must be these and nothing else, so that a checksum is always compared.
    fn count(&self) -> Result<usize, DataError> {
        let (scalar, left) = (self.element.0, self.reader.left());
        let count = self.header.count();
        match count.filter(|&n| (n as u64).checked_mul(scalar.bytes() as u64) == Some(left)) {
            Some(count) => Ok(count),
            None => {
                let shape = crate::error::shape(&self.header.shape);
                let problem =
                    format!("its header promises {shape} values of {scalar:?}, {left} bytes follow");
                Err(self.failed(invalid(problem)))
            }
        }
    }

    /// All values, each converted.
    fn values<T>(
        mut self,
        budget: &mut Budget,
        convert: impl Fn(f64) -> T + Copy,
    ) -> Result<Vec<T>, DataError> {
        let count = self.count()?;
        budget.take(&self.path, self.name, count, size_of::<T>())?;
        read_values(&mut self.reader, self.element, count, convert).map_err(|e| self.failed(e))
    }

    /// Column-major N x H x W, turned to row-major while it is read.
    fn turned(mut self, budget: &mut Budget, [n, h, w]: [usize; 3]) -> Result<Vec<f32>, DataError> {
        let count = self.count()?;
        budget.take(&self.path, self.name, count, size_of::<f32>())?;
        let mut x = vec![0.0; count];
        // The first index runs fastest, then the contact, then the sample.
        let (mut recording, mut contact, mut sample) = (0, 0, 0);
        let mut step = Vec::with_capacity(1 << 15);
        let (scalar, endian) = self.element;
        let read = read_steps(&mut self.reader, (scalar, endian), count, |bytes| {
            step.clear();
            scalar.decode(endian, bytes, &mut step, narrow);
            for &value in &step {
                x[(recording * h + contact) * w + sample] = value;
                recording += 1;
                if recording == n {
                    (recording, contact) = (0, contact + 1);
                    if contact == h {
                        (contact, sample) = (0, sample + 1);
                    }
                }
            }
        });
        read.map_err(|e| self.failed(e))?;
        Ok(x)
    }
}

impl<A: Arrays> Source for Numpy<A> {
    fn format(&self) -> String {
        A::FORMAT.to_owned()
    }

    fn first_label(&self) -> u8 {
        0
    }

    fn names(&self, split: Split) -> [&'static str; 2] {
        match split {
            Split::Train => ["train_x", "train_y"],
            Split::Test => ["test_x", "test_y"],
        }
    }

    fn holds(&self, name: &str) -> bool {
        self.0.holds(name)
    }

    fn present(&self) -> Vec<String> {
        self.0.present()
    }

    fn labels(&mut self, name: &'static str, budget: &mut Budget) -> Result<Vec<f64>, DataError> {
        let opened = self.array(name, "integers or floating-point numbers of 8 to 64 bits", |_| true)?;
        match opened.header.shape.as_slice() {
            [_] | [_, 1] | [1, _] => opened.values(budget, |v| v),
            _ => Err(opened.wrong_shape("N (one label a recording)")),
        }
    }

    fn shape(&mut self, name: &'static str) -> Result<[usize; 3], DataError> {
        Ok(self.recordings(name)?.1)
    }

    fn values(&mut self, name: &'static str, budget: &mut Budget) -> Result<Vec<f32>, DataError> {
        let (opened, shape) = self.recordings(name)?;
        if opened.header.fortran { opened.turned(budget, shape) } else { opened.values(budget, narrow) }
    }

    fn scalar(&mut self, name: &'static str, budget: &mut Budget) -> Result<f64, DataError> {
        let opened = self.array(name, "a number", |_| true)?;
        if opened.header.count() != Some(1) {
            return Err(opened.wrong_shape("one number"));
        }
        let values = opened.values(budget, |v| v)?;
        Ok(values[0])
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

    /// N, H and W.
    fn recordings_shape(&self) -> Option<[usize; 3]> {
        let dims = match *self.shape {
            [n, h, w] | [n, 1, h, w] if h > 0 && w > 0 => [n, h, w],
            _ => return None,
        };
        // Also when N is 0: nothing else bounds H x W then.
        usize::try_from(dims[1].checked_mul(dims[2])?).ok()?;
        Some([usize::try_from(dims[0]).ok()?, usize::try_from(dims[1]).ok()?, usize::try_from(dims[2]).ok()?])
    }

    fn wrong_shape(&self, path: &Path, array: &str, expected: &str) -> DataError {
        let (name, expected, got) = (array.to_owned(), expected.to_owned(), self.shape.clone());
        DataError::WrongShape { path: path.to_owned(), name, expected, got }
    }

    fn wrong_type(&self, path: &Path, array: &str, expected: &'static str) -> DataError {
        let (name, got) = (array.to_owned(), self.descr.clone());
        DataError::WrongType { path: path.to_owned(), name, expected, got }
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
        "u1" => Scalar::U8,
        "u2" => Scalar::U16,
        "u4" => Scalar::U32,
        "u8" => Scalar::U64,
        _ => return None,
    };
    Some((scalar, endian))
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
    let Dataset { train, test, sample_rate_hz } = dataset;
    let shape = |r: &Recordings| [r.len(), r.contacts, r.samples];
    write(
        path,
        &[
            ("train_x", &shape(train), Values::F32(&train.x)),
            ("train_y", &[train.len()], Values::I64(&train.y)),
            ("test_x", &shape(test), Values::F32(&test.x)),
            ("test_y", &[test.len()], Values::I64(&test.y)),
            ("contacts", &[], Values::I64(&[train.contacts as i64])),
            ("sample_rate_hz", &[], Values::F64(&[*sample_rate_hz])),
        ],
    )
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
