//! `.npz`, the project's own format: `train_x` float32 N x H x W, `train_y` int64 N (0..2), `test_x`,
//! `test_y`, and the optional scalars `contacts` and `sample_rate_hz`.
//!
//! Read are also float16 and float64 values, labels of any integer type of 8 to 64 bits, either byte order
//! and memory order, N x 1 x H x W, and archives with or without compression. N recordings, H contacts, W
//! samples.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use npyz::WriterBuilder;
use npyz::npz::NpzWriter;
use npyz::zip::{CompressionMethod, DateTime, write::FileOptions};

use crate::error::DataError;
use crate::recordings::{Dataset, Recordings, Split};
use crate::scalar::{Endian, Scalar, narrow, read_values};
use crate::zip::{Archive, Entry, EntryReader};
use crate::{Loaded, Magic, SAMPLE_RATE_HZ, looks_like};

/// Read the splits asked for.
pub(crate) fn load(path: &Path, splits: &[Split]) -> Result<Loaded, DataError> {
    match looks_like(path)? {
        Magic::Zip => {}
        other => {
            return Err(DataError::WrongFormat {
                path: path.to_owned(),
                expected: "an .npz archive",
                looks_like: other.describe(),
                hint: match other {
                    Magic::Mat5 | Magic::Hdf5 => "rename it to .mat",
                    _ => "write it with numpy.savez or the data commands",
                },
            });
        }
    }
    let mut npz = Npz { path, archive: Archive::open(path)? };
    let mut loaded = Loaded { train: None, test: None, sample_rate_hz: SAMPLE_RATE_HZ };
    if let Some(rate) = npz.scalar("sample_rate_hz")? {
        if !rate.is_finite() || rate <= 0.0 {
            return Err(DataError::malformed(
                path,
                format!("sample_rate_hz is {rate}, expected a positive number"),
            ));
        }
        loaded.sample_rate_hz = rate;
    }
    let contacts = npz.scalar("contacts")?;
    for &split in splits {
        let recordings = npz.split(split)?;
        if let Some(declared) = contacts.filter(|&c| c != recordings.contacts as f64) {
            let got = recordings.contacts;
            let problem = format!("contacts is {declared}, but {split}_x has {got} rows a recording");
            return Err(DataError::malformed(path, problem));
        }
        match split {
            Split::Train => loaded.train = Some(recordings),
            Split::Test => loaded.test = Some(recordings),
        }
    }
    Ok(loaded)
}

struct Npz<'a> {
    path: &'a Path,
    archive: Archive,
}

impl Npz<'_> {
    fn find(&self, array: &str) -> Option<Entry> {
        let is_it = |e: &&Entry| e.name.strip_suffix(".npy") == Some(array);
        self.archive.entries.iter().rev().find(is_it).cloned()
    }

    fn require(&self, array: &str) -> Result<Entry, DataError> {
        self.find(array).ok_or_else(|| DataError::MissingArray {
            path: self.path.to_owned(),
            name: array.to_owned(),
            present: self
                .archive
                .entries
                .iter()
                .map(|e| e.name.trim_end_matches(".npy").to_owned())
                .collect(),
        })
    }

    /// Open an array: its header, and a reader that stands at its first value.
    fn open(&mut self, entry: &Entry) -> Result<(Header, EntryReader<'_>), DataError> {
        let path = self.path;
        let mut reader = self.archive.reader(entry)?;
        let header = Header::read(&mut reader).map_err(|e| DataError::reading(path, &entry.name, e))?;
        Ok((header, reader))
    }

    fn scalar(&mut self, array: &str) -> Result<Option<f64>, DataError> {
        let Some(entry) = self.find(array) else { return Ok(None) };
        let path = self.path;
        let (header, mut reader) = self.open(&entry)?;
        let count = header.count().filter(|&n| n == 1);
        let (Some(count), Some((scalar, endian))) = (count, header.element) else {
            return Err(header.wrong_shape(path, array, "one number"));
        };
        let values = read_values(&mut reader, scalar, endian, count, false, |v| v);
        Ok(values.map_err(|e| DataError::reading(path, array, e))?.pop())
    }

    fn split(&mut self, split: Split) -> Result<Recordings, DataError> {
        let path = self.path;
        let (x_name, y_name) = (format!("{split}_x"), format!("{split}_y"));
        // Both looked up first: a missing array is reported before hundreds of megabytes are read.
        let (x_entry, y_entry) = (self.require(&x_name)?, self.require(&y_name)?);

        let (header, mut reader) = self.open(&y_entry)?;
        let (scalar, endian) = match header.element {
            Some((scalar, endian)) if !scalar.is_float() => (scalar, endian),
            _ => return Err(header.wrong_type(path, &y_name, "integers of 8 to 64 bits")),
        };
        let count = match (header.shape.as_slice(), header.count()) {
            (&([_] | [_, 1] | [1, _]), Some(count)) => count,
            _ => return Err(header.wrong_shape(path, &y_name, "N (one label a recording)")),
        };
        header.check_size(&y_entry, count, scalar).map_err(|e| DataError::reading(path, &y_name, e))?;
        let labels = read_values(&mut reader, scalar, endian, count, y_entry.is_stored(), |v| v)
            .map_err(|e| DataError::reading(path, &y_name, e))?;

        let (header, mut reader) = self.open(&x_entry)?;
        let (scalar, endian) = match header.element {
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
        header.check_size(&x_entry, count, scalar).map_err(|e| DataError::reading(path, &x_name, e))?;
        let mut x = read_values(&mut reader, scalar, endian, count, x_entry.is_stored(), narrow)
            .map_err(|e| DataError::reading(path, &x_name, e))?;
        if header.fortran && n > 0 {
            x = to_row_major(&x, [n, h, w]);
        }
        Recordings::checked(path, split, x, &labels, 0, [h, w])
    }
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
        Self::parse(text).ok_or_else(|| {
            let shown: String = text.trim().chars().take(200).collect();
            invalid(format!("a header that cannot be understood: {shown}"))
        })
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

    /// Compare what the header promises with what the entry holds after the header.
    fn check_size(&self, entry: &Entry, count: usize, scalar: Scalar) -> io::Result<()> {
        let needed = (count as u64).checked_mul(scalar.bytes() as u64);
        // 10 to 12 bytes and the header's text come first; a bound that is off by them does no harm, since
        // reading stops at the entry's end.
        match needed {
            Some(needed) if needed <= entry.size => Ok(()),
            _ => Err(invalid(format!(
                "its header promises {count} values, its entry holds {} bytes",
                entry.size
            ))),
        }
    }

    fn wrong_shape(&self, path: &Path, array: &str, expected: &str) -> DataError {
        let (name, expected, got) = (array.to_owned(), expected.to_owned(), self.shape.clone());
        DataError::WrongShape { path: path.to_owned(), name, expected, got }
    }

    fn wrong_type(&self, path: &Path, array: &str, expected: &'static str) -> DataError {
        let (name, got) = (array.to_owned(), self.descr.chars().take(100).collect());
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

fn invalid(problem: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem.into())
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
/// The file appears whole or not at all (temporary file in the same folder, flush to disk, rename), is not
/// compressed, and depends on nothing but the arrays: equal arrays give equal bytes.
///
/// # Errors
/// [`DataError::Io`] when writing fails, also when a shape does not fit its values.
pub fn write(path: &Path, arrays: &[(&str, &[usize], Values<'_>)]) -> Result<(), DataError> {
    atomically(path, |file| {
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
    })
}

fn put<T: npyz::AutoSerialize + Copy>(
    npz: &mut NpzWriter<BufWriter<&File>>,
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
    let Dataset { train, test, sample_rate_hz } = dataset;
    if (train.contacts, train.samples) != (test.contacts, test.samples) {
        return Err(DataError::SplitsDiffer {
            path: path.to_owned(),
            train: [train.contacts, train.samples],
            test: [test.contacts, test.samples],
        });
    }
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

/// A temporary file that is removed unless it was renamed.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        // Renamed, it is no longer there; left behind, nothing better can be done.
        let _ = fs::remove_file(&self.0);
    }
}

/// Let `fill` write a new file beside `path`, flush it to disk, and rename it to `path`.
fn atomically(path: &Path, fill: impl FnOnce(&File) -> io::Result<()>) -> Result<(), DataError> {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let unique = format!(".{name}.{}-{}.tmp", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed));
    let temporary = Temporary(path.with_file_name(unique));
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&temporary.0)
        .map_err(|e| DataError::io(path, "create", e))?;
    fill(&file).and_then(|()| file.sync_all()).map_err(|e| DataError::io(path, "write", e))?;
    drop(file);
    fs::rename(&temporary.0, path).map_err(|e| DataError::io(path, "rename the finished file to", e))?;
    // The name is durable once its folder is; a system that cannot flush folders has renamed all the same.
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let _ = File::open(folder).and_then(|folder| folder.sync_all());
    Ok(())
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
