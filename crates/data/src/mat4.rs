//! MATLAB level 4 `.mat` files: matrices of numbers or text, one after the other, nothing else. The variables are those of
//! [`crate::mat`].
//!
//! Layout, from "MAT-File Format" (MathWorks), level 4: five 32-bit numbers, type (thousands: byte order; tens: element
//! type; ones: full, text or sparse), rows, columns, whether there are imaginary parts, length of the name; then the name
//! with a zero at its end, and the real parts, column after column. MATLAB's manual and its files of this level since 1992;
//! Octave and SciPy write them still.

use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use crate::arrays::{Array, Convention, Kind, Sink, Source};
use crate::budget::take;
use crate::error::DataError;
use crate::mat::texts_of;
use escape_files::budget::Budget;
use escape_files::scalar::{Element, Endian, Scalar, stream_values};

const HEADER: usize = 20;
/// The longest name, with its zero.
const NAME_LIMIT: u32 = 256;

/// The head of a matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Head {
    endian: Endian,
    scalar: Scalar,
    form: Form,
    dims: [u32; 2],
    complex: bool,
    /// Length of the name, with its zero.
    name: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Full,
    Text,
    Sparse,
}

impl Head {
    fn parse(bytes: &[u8; HEADER]) -> Option<Self> {
        let word = |i: usize, endian: Endian| {
            let raw = *bytes[4 * i..].first_chunk()?;
            Some(match endian {
                Endian::Little => u32::from_le_bytes(raw),
                Endian::Big => u32::from_be_bytes(raw),
            })
        };
        // The thousands say the byte order in which they are written themselves.
        let endian = match (word(0, Endian::Little)?, word(0, Endian::Big)?) {
            (0..=99, _) => Endian::Little,
            (_, 1000..=1099) => Endian::Big,
            _ => return None,
        };
        let kind = word(0, endian)? % 1000;
        let scalar = match kind / 10 {
            0 => Scalar::F64,
            1 => Scalar::F32,
            2 => Scalar::I32,
            3 => Scalar::I16,
            4 => Scalar::U16,
            5 => Scalar::U8,
            _ => return None,
        };
        let form = match kind % 10 {
            0 => Form::Full,
            1 => Form::Text,
            2 => Form::Sparse,
            _ => return None,
        };
        let complex = match word(3, endian)? {
            0 => false,
            1 => true,
            _ => return None,
        };
        let name = word(4, endian).filter(|length| (2..=NAME_LIMIT).contains(length))?;
        let dims = [word(1, endian)?, word(2, endian)?];
        dims.iter().all(|&dim| dim <= i32::MAX as u32).then_some(())?;
        Some(Self { endian, scalar, form, dims, complex, name })
    }

    /// Bytes of the real parts.
    fn bytes(&self) -> u64 {
        let [rows, columns] = self.dims.map(u64::from);
        (rows * columns).saturating_mul(self.scalar.bytes() as u64)
    }

    fn describe(&self) -> Kind {
        match self.form {
            Form::Sparse => Kind::Other("a sparse matrix; save full(...) of it".to_owned()),
            Form::Text => Kind::Text("text".to_owned()),
            Form::Full if self.complex => Kind::Other("complex numbers".to_owned()),
            Form::Full => Kind::Numbers,
        }
    }
}

/// A variable's name, as MATLAB allows it; without the zero at its end.
fn name(bytes: &[u8]) -> Option<&str> {
    let name = str::from_utf8(bytes.strip_suffix(b"\0")?).ok()?;
    let mut letters = name.bytes();
    let starts = letters.next().is_some_and(|c| c.is_ascii_alphabetic() || c == b'_');
    (starts && letters.all(|c| c.is_ascii_alphanumeric() || c == b'_')).then_some(name)
}

/// Whether a file that begins so is one of level 4, which has no signature: its first head and name make sense.
pub(crate) fn is_mat4(head: &[u8]) -> bool {
    let Some(first) = head.first_chunk().and_then(Head::parse) else { return false };
    head.get(HEADER..HEADER + first.name as usize).is_some_and(|bytes| name(bytes).is_some())
}

/// A file whose variables are known.
pub(crate) struct Mat4<'a, R> {
    path: &'a Path,
    file: BufReader<R>,
    /// Names, heads, and where the numbers stand.
    variables: Vec<(String, Head, u64)>,
}

/// Find the variables of a file.
pub(crate) fn open<'a, R: Read + Seek>(
    path: &'a Path,
    reader: R,
    length: u64,
    budget: &mut Budget,
) -> Result<Mat4<'a, R>, DataError> {
    let mut file = BufReader::with_capacity(1 << 16, reader);
    let mut variables: Vec<(String, Head, u64)> = Vec::new();
    let mut at = 0;
    while at < length {
        let place = format!("the variable at byte {at}");
        let failed = |e| DataError::reading(path, &place, e);
        file.seek(SeekFrom::Start(at)).map_err(|e| DataError::io(path, "read", e))?;
        let mut bytes = [0; HEADER];
        file.read_exact(&mut bytes).map_err(failed)?;
        let bad = || DataError::malformed(path, format!("{place} has no head of MATLAB level 4"));
        let head = Head::parse(&bytes).ok_or_else(bad)?;
        let mut bytes = vec![0; head.name as usize];
        file.read_exact(&mut bytes).map_err(failed)?;
        let name = name(&bytes).ok_or_else(bad)?.to_owned();
        let start = at + (HEADER + bytes.len()) as u64;
        let size = head.bytes().saturating_mul(if head.complex && head.form == Form::Full { 2 } else { 1 });
        at = start.saturating_add(size);
        if at > length {
            let left = length - start;
            let problem = format!("variable {name} declares {size} bytes, but {left} are left in the file");
            return Err(DataError::malformed(path, problem));
        }
        if variables.iter().any(|(other, ..)| *other == name) {
            return Err(DataError::malformed(path, format!("variable {name} occurs twice")));
        }
        // Twice, for the list may be grown by doubling it.
        let bytes = 2 * size_of::<(String, Head, u64)>() + name.len();
        take(budget, path, "the names of the variables", bytes, 1)?;
        variables.push((name, head, start));
        if variables.len() > MOST {
            return Err(DataError::unsupported(
                path,
                format!("more than {MOST} variables; save the recordings in a file of their own"),
            ));
        }
    }
    Ok(Mat4 { path, file, variables })
}

/// The most variables of a file.
const MOST: usize = 2_000;

impl<R: Read + Seek> Mat4<'_, R> {
    fn find(&self, name: &str) -> Option<(Head, u64)> {
        self.variables.iter().find(|(other, ..)| other == name).map(|&(_, head, start)| (head, start))
    }

    /// Hand over the numbers of a variable that is there.
    fn stream(&mut self, name: &str, sink: &mut Sink<'_>) -> Result<(), DataError> {
        let path = self.path;
        let (head, start) =
            self.find(name).ok_or_else(|| DataError::malformed(path, format!("no variable {name}")))?;
        self.file.seek(SeekFrom::Start(start)).map_err(|e| DataError::io(path, "read", e))?;
        let element: Element = (head.scalar, head.endian);
        let count = (head.bytes() / head.scalar.bytes() as u64) as usize;
        stream_values(&mut self.file, element, count, sink).map_err(|e| DataError::reading(path, name, e))
    }
}

impl<R: Read + Seek> Source for Mat4<'_, R> {
    fn format(&self) -> String {
        let big = self.variables.first().is_some_and(|(_, head, _)| head.endian == Endian::Big);
        format!("MATLAB level 4, {}-endian", if big { "big" } else { "little" })
    }

    fn convention(&self) -> Convention {
        Convention::Matlab
    }

    fn holds(&mut self, name: &str) -> bool {
        self.find(name).is_some()
    }

    fn entries(&mut self) -> Vec<String> {
        let names: Vec<String> = self.variables.iter().map(|(name, ..)| name.clone()).collect();
        names.iter().filter_map(|name| self.array(name).ok().map(|array| array.describe(name))).collect()
    }

    fn skipped(&mut self) -> Vec<(String, String)> {
        let other = |(name, head, _): &(String, Head, u64)| match head.describe() {
            Kind::Other(what) => Some((name.clone(), what)),
            _ => None,
        };
        self.variables.iter().filter_map(other).collect()
    }

    fn array(&mut self, name: &str) -> Result<Array, DataError> {
        let (head, _) =
            self.find(name).ok_or_else(|| DataError::malformed(self.path, format!("no variable {name}")))?;
        Ok(Array { dims: head.dims.map(u64::from).to_vec(), column_major: true, kind: head.describe() })
    }

    fn numbers(&mut self, name: &str, _: &mut Budget, sink: &mut Sink<'_>) -> Result<(), DataError> {
        self.stream(name, sink)
    }

    fn texts(&mut self, name: &str, budget: &mut Budget) -> Result<Vec<String>, DataError> {
        let (path, dims) = (self.path, self.array(name)?.dims);
        texts_of(path, name, &dims, true, budget, |_, sink| self.stream(name, sink))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_makes_sense_is_level_4() {
        let head = |kind: u32, name: &[u8]| {
            let words = [kind, 1, 1, 0, name.len() as u32];
            [&words.map(u32::to_le_bytes).concat(), name].concat()
        };
        assert!(is_mat4(&head(0, b"x\0")) && is_mat4(&head(51, b"a_name\0")));
        for (kind, name) in
            [(60, &b"x\0"[..]), (3, b"x\0"), (100, b"x\0"), (0, b"x"), (0, b"1x\0"), (0, b"a b\0")]
        {
            assert!(!is_mat4(&head(kind, name)), "{kind} {name:?}");
        }
        assert!(!is_mat4(&[0; 512]) && !is_mat4(b""));
    }
}
