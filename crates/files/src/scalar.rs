//! Element types of stored arrays, and reading them in bounded steps.

use std::io::{self, Read};

use half::f16;

/// Byte order of a stored number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endian {
    /// Least significant byte first.
    Little,
    /// Most significant byte first.
    Big,
}

/// Element type of a stored array.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Scalar {
    F16,
    F32,
    F64,
    I8,
    I16,
    I32,
    I64,
    U8,
    U16,
    U32,
    U64,
}

/// How the elements of an array are stored.
pub type Element = (Scalar, Endian);

impl Scalar {
    /// Size of one element, in bytes.
    pub fn bytes(self) -> usize {
        match self {
            Self::I8 | Self::U8 => 1,
            Self::F16 | Self::I16 | Self::U16 => 2,
            Self::F32 | Self::I32 | Self::U32 => 4,
            Self::F64 | Self::I64 | Self::U64 => 8,
        }
    }

    /// Whether it has fractions.
    pub fn is_float(self) -> bool {
        matches!(self, Self::F16 | Self::F32 | Self::F64)
    }

    /// Append each whole element of `bytes`. 64-bit integers beyond 2^53 are rounded.
    pub fn decode<T>(
        self,
        endian: Endian,
        bytes: &[u8],
        values: &mut impl Extend<T>,
        convert: impl Fn(f64) -> T + Copy,
    ) {
        macro_rules! each {
            ($type:ty, $size:literal, $to_f64:expr) => {{
                let chunks = bytes.as_chunks::<$size>().0.iter();
                // One loop for each byte order: without a branch inside, the compiler vectorises it.
                match endian {
                    Endian::Little => {
                        values.extend(chunks.map(|raw| convert($to_f64(<$type>::from_le_bytes(*raw)))))
                    }
                    Endian::Big => {
                        values.extend(chunks.map(|raw| convert($to_f64(<$type>::from_be_bytes(*raw)))))
                    }
                }
            }};
        }
        match self {
            Self::F16 => each!(f16, 2, f64::from),
            Self::F32 => each!(f32, 4, f64::from),
            Self::F64 => each!(f64, 8, |v| v),
            Self::I8 => each!(i8, 1, f64::from),
            Self::I16 => each!(i16, 2, f64::from),
            Self::I32 => each!(i32, 4, f64::from),
            Self::I64 => each!(i64, 8, |v| v as f64),
            Self::U8 => each!(u8, 1, f64::from),
            Self::U16 => each!(u16, 2, f64::from),
            Self::U32 => each!(u32, 4, f64::from),
            Self::U64 => each!(u64, 8, |v| v as f64),
        }
    }
}

/// Hand `count` elements to `sink`, some thousand at a time: the number of the first, and the run itself.
///
/// # Errors
/// `UnexpectedEof` if the data end early, or what the reader answers.
pub fn stream_values(
    reader: &mut impl Read,
    (scalar, endian): Element,
    count: usize,
    sink: &mut dyn FnMut(usize, &[f64]),
) -> io::Result<()> {
    const STEP: usize = 1 << 13;
    let step = count.min(STEP);
    let mut buffer = vec![0; step * scalar.bytes()];
    let mut values: Vec<f64> = Vec::with_capacity(step);
    let mut done = 0;
    while done < count {
        let take = (count - done).min(STEP);
        let bytes = &mut buffer[..take * scalar.bytes()];
        reader.read_exact(bytes)?;
        values.clear();
        scalar.decode(endian, bytes, &mut values, |v| v);
        sink(done, &values);
        done += take;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(mut bytes: &[u8], element: Element, count: usize) -> io::Result<Vec<f64>> {
        let mut values = Vec::new();
        stream_values(&mut bytes, element, count, &mut |start, run| {
            assert_eq!(start, values.len());
            values.extend_from_slice(run);
        })?;
        Ok(values)
    }

    #[test]
    fn every_type_in_both_byte_orders() {
        macro_rules! check {
            ($scalar:ident, $type:ty, $value:expr) => {
                let value: $type = $value;
                for (endian, bytes) in
                    [(Endian::Little, value.to_le_bytes()), (Endian::Big, value.to_be_bytes())]
                {
                    assert_eq!(bytes.len(), Scalar::$scalar.bytes());
                    let read = all(&bytes, (Scalar::$scalar, endian), 1).unwrap();
                    assert_eq!(read, [value as f64], "{:?}", Scalar::$scalar);
                }
            };
        }
        check!(F32, f32, -3.0);
        check!(F64, f64, -3.0);
        check!(I8, i8, -3);
        check!(I16, i16, -3);
        check!(I32, i32, -3);
        check!(I64, i64, -3);
        check!(U8, u8, 3);
        check!(U16, u16, 3);
        check!(U32, u32, 3);
        check!(U64, u64, 3);
        let bytes = [0x3c, 0x00, 0xc2, 0x00];
        let read = all(&bytes, (Scalar::F16, Endian::Big), 2).unwrap();
        assert_eq!(read, [1.0, -3.0]);
    }

    #[test]
    fn more_than_one_chunk_and_a_lying_count() {
        let stored: Vec<u8> = (0..100_000u32).flat_map(u32::to_le_bytes).collect();
        let read = |count| all(&stored, (Scalar::U32, Endian::Little), count);
        assert_eq!(read(100_000).unwrap(), (0..100_000).map(f64::from).collect::<Vec<_>>());
        assert_eq!(read(100_001).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(read(usize::MAX).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
