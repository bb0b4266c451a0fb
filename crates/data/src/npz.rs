//! `.npz`, the project's own format: `train_x` float32 N x H x W, `train_y` int64 N (0..2), `test_x`,
//! `test_y`, and the optional scalars `contacts` and `sample_rate_hz`.
//!
//! Read are also float16 and float64 values, labels of any integer type of 8 to 64 bits, either byte order
//! and memory order, N x 1 x H x W, and archives with or without compression. N recordings, H contacts, W
//! samples.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::Path;

use npyz::WriterBuilder;
use npyz::npz::NpzWriter;
use npyz::zip::{CompressionMethod, DateTime, write::FileOptions};

use crate::archive::{Archive, EntryReader};
use crate::error::{DataError, invalid, shown};
use crate::recordings::{Dataset, Recordings, Split};
use crate::scalar::{Endian, Scalar, narrow, read_values};
use crate::{Magic, SAMPLE_RATE_HZ, Source, write_atomically};

/// Open an archive; what its first bytes look like is known.
pub(crate) fn open(path: &Path, looks_like: Magic) -> Result<Npz<'_>, DataError> {
    if looks_like != Magic::Zip {
        return Err(DataError::WrongFormat {
            path: path.to_owned(),
            expected: "an .npz archive",
            looks_like: looks_like.describe(),
            hint: match looks_like {
                Magic::Mat5 | Magic::Hdf5 => "rename it to .mat",
                _ => "write it with numpy.savez or the data commands",
            },
        });
    }
    let file = File::open(path).map_err(|e| DataError::open(path, e))?;
    let archive = Archive::new(file).map_err(|e| DataError::archive(path, e))?;
    let mut npz = Npz { path, archive, contacts: None, sample_rate_hz: SAMPLE_RATE_HZ };
    if let Some(rate) = npz.scalar("sample_rate_hz")? {
        if !rate.is_finite() || rate <= 0.0 {
            let problem = format!("sample_rate_hz is {rate}, expected a positive number");
            return Err(DataError::malformed(path, problem));
        }
        npz.sample_rate_hz = rate;
    }
    npz.contacts = npz.scalar("contacts")?;
    Ok(npz)
}

/// An opened archive and its scalars.
pub(crate) struct Npz<'a> {
    path: &'a Path,
    archive: Archive,
    contacts: Option<f64>,
    sample_rate_hz: f64,
}

impl Npz<'_> {
    /// The name of an array's entry, which is there.
    fn require(&self, array: &str) -> Result<String, DataError> {
        let entry = format!("{array}.npy");
        if self.archive.size(&entry).is_some() {
            return Ok(entry);
        }
        let present = self.archive.names().map(|name| name.trim_end_matches(".npy").to_owned()).collect();
        Err(DataError::MissingArray { path: self.path.to_owned(), name: array.to_owned(), present })
    }

    /// Open an array: its header, and a reader that stands at its first value.
    fn open(&mut self, entry: &str) -> Result<(Header, EntryReader<'_>), DataError> {
        let path = self.path;
        let mut reader = self.archive.reader(entry).map_err(|e| DataError::archive(path, e))?;
        let header = Header::read(&mut reader).map_err(|e| DataError::reading(path, entry, e))?;
        Ok((header, reader))
    }

    fn scalar(&mut self, array: &str) -> Result<Option<f64>, DataError> {
        let Ok(entry) = self.require(array) else { return Ok(None) };
        let path = self.path;
        let (header, mut reader) = self.open(&entry)?;
        let (Some(count @ 1), Some(element)) = (header.count(), header.element) else {
            return Err(header.wrong_shape(path, array, "one number"));
        };
        let values = values(&mut reader, element, count, |v| v);
        Ok(values.map_err(|e| DataError::reading(path, array, e))?.pop())
    }
}

impl Source for Npz<'_> {
    fn split(&mut self, split: Split) -> Result<Recordings, DataError> {
        let (path, contacts) = (self.path, self.contacts);
        let (x_name, y_name) = (format!("{split}_x"), format!("{split}_y"));
        // Both looked up first: a missing array is reported before hundreds of megabytes are read.
        let (x_entry, y_entry) = (self.require(&x_name)?, self.require(&y_name)?);

        let (header, mut reader) = self.open(&y_entry)?;
        let element = match header.element {
            Some((scalar, endian)) if !scalar.is_float() => (scalar, endian),
            _ => return Err(header.wrong_type(path, &y_name, "integers of 8 to 64 bits")),
        };
        let count = match (header.shape.as_slice(), header.count()) {
            (&([_] | [_, 1] | [1, _]), Some(count)) => count,
            _ => return Err(header.wrong_shape(path, &y_name, "N (one label a recording)")),
        };
        let labels =
            values(&mut reader, element, count, |v| v).map_err(|e| DataError::reading(path, &y_name, e))?;

        let (header, mut reader) = self.open(&x_entry)?;
        let element = match header.element {
            Some((scalar, endian)) if scalar.is_float() => (scalar, endian),
            _ => return Err(header.wrong_type(path, &x_name, "float16, float32 or float64")),
        };
        let (count, [n, h, w]) = match (header.recordings_shape(), header.count()) {
            (Some(shape), Some(count)) => (count, shape),
            _ => {
                let expected =
                    "N x H x W or N x 1 x H x W (recordings x contacts x samples), H and W at least 1";
                return Err(header.wrong_shape(path, &x_name, expected));
            }
        };
        if n != labels.len() {
            let path = path.to_owned();
            return Err(DataError::LabelCount { path, split, recordings: n, labels: labels.len() });
        }
        let mut x =
            values(&mut reader, element, count, narrow).map_err(|e| DataError::reading(path, &x_name, e))?;
        if header.fortran && n > 0 {
            x = to_row_major(&x, [n, h, w]);
        }
        let recordings = Recordings::checked(path, split, x, &labels, 0, [h, w])?;
        if let Some(declared) = contacts.filter(|&c| c != h as f64) {
            let problem = format!("contacts is {declared}, but {split}_x has {h} rows a recording");
            return Err(DataError::malformed(path, problem));
        }
        Ok(recordings)
    }

    fn sample_rate_hz(&self) -> f64 {
        self.sample_rate_hz
    }
}

/// The values of an array whose header was read. What is left of the entry must be these and nothing else, so
/// that its checksum is always compared.
fn values<T>(
    reader: &mut EntryReader<'_>,
    (scalar, endian): (Scalar, Endian),
    count: usize,
    convert: impl Fn(f64) -> T,
) -> io::Result<Vec<T>> {
    let left = reader.left();
    if (count as u64).checked_mul(scalar.bytes() as u64) != Some(left) {
        return Err(invalid(format!(
            "its header promises {count} values of {scalar:?}, {left} bytes follow"
        )));
    }
    let stored = reader.is_stored();
    read_values(reader, scalar, endian, count, stored, convert)
}

/// Column-major N x H x W to row-major.
fn to_row_major(stored: &[f32], [n, h, w]: [usize; 3]) -> Vec<f32> {
    let mut x = Vec::with_capacity(stored.len());
    for i in 0..n {
        for row in 0..h {
            x.extend(stored[i + n * row..].iter().step_by(n * h).take(w));
        }
    }
    x
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

pub(crate) fn save(path: &Path, dataset: &Dataset) -> Result<(), DataError> {
    for split in Split::ALL {
        dataset.split(split).check().map_err(|source| DataError::Inconsistent {
            path: path.to_owned(),
            split,
            source,
        })?;
    }
    dataset.check_shapes(path)?;
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

    #[test]
    fn column_major_is_turned() {
        // Element (i, row, column) is 100 i + 10 row + column; the first index runs fastest.
        let [n, h, w] = [2, 3, 4];
        let mut stored = Vec::new();
        (0..w).for_each(|c| {
            (0..h).for_each(|r| (0..n).for_each(|i| stored.push((100 * i + 10 * r + c) as f32)))
        });
        let x = to_row_major(&stored, [n, h, w]);
        assert_eq!(x[h * w + 2 * w + 3], 123.0);
        assert!(x.is_sorted());
    }
}
