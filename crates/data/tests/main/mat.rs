use std::fs;
use std::io::Write;
use std::path::PathBuf;

use escape_data::{DataError, Recordings, Split};
use flate2::Compression;
use flate2::write::ZlibEncoder;
use tempfile::TempDir;

use crate::{contains, message, read, read_split};

const DOUBLE: u8 = 6;
const MI_DOUBLE: u32 = 9;

/// Writes level 5 files, in either byte order.
#[derive(Clone, Copy)]
struct Mat {
    big: bool,
    compressed: bool,
    /// Whether data of at most four bytes go into the tag.
    small: bool,
}

const PLAIN: Mat = Mat { big: false, compressed: false, small: true };

impl Mat {
    fn all() -> impl Iterator<Item = Self> {
        (0..8).map(|k| Self { big: k & 1 != 0, compressed: k & 2 != 0, small: k & 4 != 0 })
    }

    /// A number in the file's byte order, from its little-endian bytes.
    fn number<const K: usize>(self, mut little: [u8; K]) -> [u8; K] {
        if self.big {
            little.reverse();
        }
        little
    }

    fn u32(self, value: u32) -> [u8; 4] {
        self.number(value.to_le_bytes())
    }

    fn element(self, kind: u32, data: &[u8]) -> Vec<u8> {
        let size = data.len() as u32;
        let mut bytes = Vec::new();
        if self.small && (1..=4).contains(&size) {
            bytes.extend(self.u32(size << 16 | kind));
        } else {
            bytes.extend(self.u32(kind));
            bytes.extend(self.u32(size));
        }
        bytes.extend(data);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes
    }

    /// A matrix element of a class, with numbers already encoded as `kind`.
    fn matrix(self, name: &str, class: u8, dims: [u32; 2], kind: u32, data: &[u8]) -> Vec<u8> {
        let mut flags = self.u32(class.into()).to_vec();
        flags.extend([0; 4]);
        let mut body = self.element(6, &flags);
        body.extend(self.element(5, &[self.u32(dims[0]), self.u32(dims[1])].concat()));
        body.extend(self.element(1, name.as_bytes()));
        body.extend(self.element(kind, data));
        self.finish(14, body)
    }

    fn finish(self, kind: u32, body: Vec<u8>) -> Vec<u8> {
        let mut matrix = [self.u32(kind), self.u32(body.len() as u32)].concat();
        matrix.extend(body);
        if !self.compressed {
            return matrix;
        }
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::default());
        zlib.write_all(&matrix).unwrap();
        let stream = zlib.finish().unwrap();
        [self.u32(15).to_vec(), self.u32(stream.len() as u32).to_vec(), stream].concat()
    }

    fn doubles(self, name: &str, dims: [u32; 2], values: impl IntoIterator<Item = f64>) -> Vec<u8> {
        let data: Vec<u8> = values.into_iter().flat_map(|v| self.number(v.to_le_bytes())).collect();
        self.matrix(name, DOUBLE, dims, MI_DOUBLE, &data)
    }

    /// Doubles stored as bytes, as MATLAB does where nothing is lost.
    fn bytes(self, name: &str, dims: [u32; 2], values: &[u8]) -> Vec<u8> {
        self.matrix(name, DOUBLE, dims, 2, values)
    }

    fn file(self, elements: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = b"MATLAB 5.0 MAT-file, written by a test".to_vec();
        bytes.resize(124, b' ');
        bytes.extend(self.number(0x0100u16.to_le_bytes()));
        bytes.extend(self.number(*b"IM"));
        bytes.extend(elements.concat());
        bytes
    }
}

fn temporary() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("d.mat");
    (dir, path)
}

/// Value `i` of a file: a multiple of 1/1024, so that no rounding hides an error.
fn value(i: usize) -> f64 {
    (i * 769 % 2049) as f64 / 1024.0 - 1.0
}

fn expected(n: usize, contacts: usize, y: &[i64]) -> Recordings {
    let x = (0..n * contacts * 100).map(|i| value(i) as f32).collect();
    Recordings::new(x, y.to_vec(), contacts, 100).unwrap()
}

#[test]
fn byte_orders_compression_and_small_elements() {
    let (_dir, path) = temporary();
    for mat in Mat::all() {
        let file = mat.file(&[
            mat.bytes("test_data_labels", [1, 2], &[3, 1]),
            mat.matrix("remark", 4, [1, 5], 16, b"a rat"),
            mat.doubles("training_data_rat", [200, 3], (0..600).map(value)),
            mat.doubles("test_data_rat", [200, 2], (0..400).map(value)),
            mat.bytes("training_data_labels", [3, 1], &[1, 2, 3]),
        ]);
        fs::write(&path, file).unwrap();
        let data = read(&path).unwrap();
        assert_eq!(data.train, expected(3, 2, &[0, 1, 2]));
        assert_eq!(data.test, expected(2, 2, &[2, 0]));
        assert_eq!(data.sample_rate_hz, 30_000.0);
        assert_eq!(read_split(&path, Split::Test).unwrap(), data.test);
    }
}

/// Every numeric class, and every type a double may be stored in.
#[test]
fn numbers_stored_in_other_types() {
    let (_dir, path) = temporary();
    let ends: [i8; 100] = std::array::from_fn(|i| (i % 3) as i8 - 1);
    for mat in Mat::all() {
        let encode = |kind: u32| -> Vec<u8> {
            let encode = |v: i8| match kind {
                1 => v.to_le_bytes().to_vec(),
                3 => mat.number(i16::from(v).to_le_bytes()).to_vec(),
                5 => mat.number(i32::from(v).to_le_bytes()).to_vec(),
                7 => mat.number(f32::from(v).to_le_bytes()).to_vec(),
                12 => mat.number(i64::from(v).to_le_bytes()).to_vec(),
                _ => mat.number(f64::from(v).to_le_bytes()).to_vec(),
            };
            ends.iter().flat_map(|&v| encode(v)).collect()
        };
        for (kind, class) in [(1, 6), (3, 6), (5, 7), (7, 7), (12, 14), (9, 6), (1, 8)] {
            let labels = mat.matrix("test_data_labels", 9, [1, 1], 4, &mat.number(2u16.to_le_bytes()));
            let x = mat.matrix("test_data_rat", class, [100, 1], kind, &encode(kind));
            fs::write(&path, mat.file(&[x, labels])).unwrap();
            let read = read_split(&path, Split::Test).unwrap();
            assert_eq!(read.x, ends.map(f32::from), "type {kind}");
            assert_eq!(read.y, [1]);
        }
    }
}

#[test]
fn what_is_missing_is_named() {
    let (_dir, path) = temporary();
    let x = PLAIN.doubles("training_data_rat", [100, 1], (0..100).map(value));
    let other = PLAIN.bytes("subject", [1, 1], &[4]);
    fs::write(&path, PLAIN.file(&[x.clone(), other])).unwrap();
    let error = message(read_split(&path, Split::Train).unwrap_err());
    contains(&error, &["has no array training_data_labels", "training_data_rat (100 x 1), subject (1 x 1)"]);
    fs::write(&path, PLAIN.file(&[])).unwrap();
    contains(&message(read(&path).unwrap_err()), &["has no array training_data_rat", "no arrays"]);
    let labels = PLAIN.bytes("training_data_labels", [1, 1], &[1]);
    fs::write(&path, PLAIN.file(&[labels, x.clone(), x])).unwrap();
    contains(&message(read_split(&path, Split::Train).unwrap_err()), &["training_data_rat occurs twice"]);
}

#[test]
fn wrong_shapes_types_and_values() {
    let (_dir, path) = temporary();
    let error = |x: Vec<u8>, labels: Vec<u8>| {
        fs::write(&path, PLAIN.file(&[x, labels])).unwrap();
        message(read_split(&path, Split::Test).unwrap_err())
    };
    let x = |dims, value: f64| {
        let [rows, columns] = dims;
        let ramp = |i: u32| f64::from(i % 100) / 100.0;
        PLAIN.doubles(
            "test_data_rat",
            dims,
            (0..rows * columns).map(|i| if i == 350 { value } else { ramp(i) }),
        )
    };
    let good = x([200, 2], 0.5);
    let labels = |values: &[u8]| PLAIN.bytes("test_data_labels", [values.len() as u32, 1], values);

    contains(
        &error(x([2, 150], 0.0), labels(&[1, 1])),
        &["(contacts * 100) x recordings", "got 2 x 150", "transpose"],
    );
    contains(&error(x([0, 2], 0.0), labels(&[1, 1])), &["got 0 x 2"]);
    contains(&error(good.clone(), labels(&[1, 2, 3])), &["2 recordings but 3 labels"]);
    contains(&error(good.clone(), labels(&[1, 4])), &["label 1", "1..=3", "3 pricking", "got 4"]);
    contains(
        &error(good.clone(), labels(&[3, 0])),
        &["label 1 of the test split is 0 and label 0 of the test split is 3", "--first-label"],
    );
    contains(&error(good.clone(), labels(&[9, 9])), &["label 0", "1..=3", "got 9", "--drop-bad"]);
    let square = PLAIN.bytes("test_data_labels", [2, 2], &[1; 4]);
    contains(&error(good.clone(), square), &["test_data_labels", "one label a recording", "got 2 x 2"]);
    let halves = PLAIN.doubles("test_data_labels", [1, 2], [1.0, 1.5]);
    contains(&error(good.clone(), halves), &["whole number", "got 1.5"]);

    let at = "recording 1, contact 1, sample 50";
    contains(&error(x([200, 2], f64::NAN), labels(&[1, 1])), &[at, "is NaN"]);
    contains(&error(x([200, 2], f64::INFINITY), labels(&[1, 1])), &[at, "is inf"]);
    contains(&error(x([200, 2], -37.25), labels(&[1, 1])), &[at, "is -37.25", "scale"]);

    let text = PLAIN.matrix("test_data_rat", 4, [100, 1], 16, &[b'a'; 100]);
    contains(&error(text, labels(&[1])), &["a full array of real numbers", "got text"]);
    let sparse = PLAIN.matrix("test_data_rat", 5, [100, 1], 9, &[0; 800]);
    contains(&error(sparse, labels(&[1])), &["got a sparse matrix"]);
}

#[test]
fn files_of_other_kinds() {
    let (dir, path) = temporary();
    let mut version2 = PLAIN.file(&[]);
    version2[124..126].copy_from_slice(&0x0200u16.to_le_bytes());
    let mut text = b"MATLAB 7.3 MAT-file, Platform: GLNXA64".to_vec();
    text.resize(128, b' ');
    for bytes in [version2, text] {
        fs::write(&path, bytes).unwrap();
        contains(
            &message(read(&path).unwrap_err()),
            &["expected an HDF5 superblock, got none", "incomplete"],
        );
    }
    let bare = dir.path().join("bare");
    fs::write(&bare, b"\x89HDF\r\n\x1a\n and more").unwrap();
    contains(&message(read(&bare).unwrap_err()), &["superblock version 32, expected 0 to 3"]);
    fs::write(&path, b"PK\x03\x04").unwrap();
    contains(&message(read(&path).unwrap_err()), &["is not a MATLAB file", "zip archive", "rename"]);
    fs::write(&path, "1 2 3").unwrap();
    contains(&message(read(&path).unwrap_err()), &["looks like text"]);
    let mut version3 = PLAIN.file(&[]);
    version3[124..126].copy_from_slice(&0x0300u16.to_le_bytes());
    fs::write(&path, version3).unwrap();
    contains(&message(read(&path).unwrap_err()), &["version 0x0300"]);

    // Without an extension the content decides.
    let x = PLAIN.doubles("test_data_rat", [100, 1], (0..100).map(value));
    let labels = PLAIN.bytes("test_data_labels", [1, 1], &[1]);
    fs::write(&bare, PLAIN.file(&[x, labels])).unwrap();
    assert_eq!(read_split(&bare, Split::Test).unwrap(), expected(1, 1, &[0]));
}

fn small_files() -> impl Iterator<Item = Vec<u8>> {
    Mat::all().map(|mat| {
        let x = mat.bytes("test_data_rat", [100, 1], &std::array::from_fn::<u8, 100, _>(|i| (i % 2) as u8));
        mat.file(&[x, mat.bytes("test_data_labels", [1, 1], &[2])])
    })
}

#[test]
fn truncated_at_every_offset() {
    let (_dir, path) = temporary();
    for whole in small_files() {
        fs::write(&path, &whole).unwrap();
        read_split(&path, Split::Test).unwrap();
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            assert!(read_split(&path, Split::Test).is_err(), "{length} of {} bytes were read", whole.len());
        }
    }
}

/// Any damage gives an answer or an error, never a panic; what is read keeps what the reader promises.
#[test]
fn damaged_at_every_byte() {
    let (_dir, path) = temporary();
    for whole in small_files() {
        for at in 0..whole.len() {
            for value in [0, 0x0e, 0x0f, 0x80, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] = value;
                fs::write(&path, &bytes).unwrap();
                if let Ok(read) = read_split(&path, Split::Test) {
                    read.check().unwrap();
                    assert!(read.x.iter().all(|v| v.abs() <= 1.0));
                }
            }
        }
    }
}

/// Sizes far beyond the file cost neither time nor memory.
#[test]
fn lying_sizes() {
    let (_dir, path) = temporary();
    for mat in Mat::all() {
        let labels = mat.bytes("test_data_labels", [1, 1], &[1]);
        // Dimensions of 1.7e18 values, with and without a tag that agrees.
        for dims in
            [[0x7fff_ff00, 0x7fff_ffff], [100, 0x7fff_ffff], [0x8000_0000, 1], [0xffff_ff9c, 0xffff_ffff]]
        {
            let x = mat.bytes("test_data_rat", dims, &[0; 100]);
            fs::write(&path, mat.file(&[x, labels.clone()])).unwrap();
            assert!(matches!(read_split(&path, Split::Test), Err(DataError::Malformed { .. })), "{dims:?}");
        }
        // Dimensions and tags that agree on 4 GB, in an element that agrees as well, in a short file.
        let mut body = mat.element(6, &[mat.u32(6), [0; 4]].concat());
        body.extend(mat.element(5, &[mat.u32(100), mat.u32(5_000_000)].concat()));
        body.extend(mat.element(1, b"test_data_rat"));
        body.extend([mat.u32(9), mat.u32(4_000_000_000)].concat());
        body.extend([0; 800]);
        let honest = Mat { compressed: false, ..mat }.finish(14, body);
        let mut lying = honest;
        lying[4..8].copy_from_slice(&mat.u32(4_000_000_064));
        let element = if mat.compressed {
            let mut zlib = ZlibEncoder::new(Vec::new(), Compression::default());
            zlib.write_all(&lying).unwrap();
            let stream = zlib.finish().unwrap();
            [mat.u32(15).to_vec(), mat.u32(stream.len() as u32).to_vec(), stream].concat()
        } else {
            lying
        };
        fs::write(&path, mat.file(&[element, labels.clone()])).unwrap();
        let said = if mat.compressed { "5000000 recordings but 1 labels" } else { "are left in the file" };
        contains(&message(read_split(&path, Split::Test).unwrap_err()), &[said]);
    }
    // A name and dimensions of 4 GB.
    for skipped in [1, 2] {
        let mut body = PLAIN.element(6, &[PLAIN.u32(6), [0; 4]].concat());
        if skipped == 2 {
            body.extend(PLAIN.element(5, &[PLAIN.u32(100), PLAIN.u32(1)].concat()));
        }
        body.extend([PLAIN.u32(if skipped == 1 { 5 } else { 1 }), PLAIN.u32(0xffff_fff0)].concat());
        fs::write(&path, PLAIN.file(&[PLAIN.finish(14, body)])).unwrap();
        contains(&message(read(&path).unwrap_err()), &["4294967280 bytes", "expected at most"]);
    }
    // A stream in which nothing but zeros follow: 100 MB of padding that nobody asked for.
    let mut zlib = ZlibEncoder::new(Vec::new(), Compression::default());
    zlib.write_all(&[PLAIN.u32(14), PLAIN.u32(0xffff_ffff)].concat()).unwrap();
    zlib.write_all(&vec![0; 100_000_000]).unwrap();
    let stream = zlib.finish().unwrap();
    let element = [PLAIN.u32(15).to_vec(), PLAIN.u32(stream.len() as u32).to_vec(), stream].concat();
    fs::write(&path, PLAIN.file(&[element])).unwrap();
    assert!(read(&path).is_err());
}

/// Objects, of which a level 5 file has names only, and classes that nobody knows are left aside; as labels they are
/// named, with what to save instead.
#[test]
fn objects_beside_and_as_labels() {
    let (_dir, path) = temporary();
    for mat in Mat::all() {
        let object = |name: &str, class: &str| {
            let mut flags = mat.u32(17).to_vec();
            flags.extend([0; 4]);
            let mut body = mat.element(6, &flags);
            for text in [name, "MCOS", class] {
                body.extend(mat.element(1, text.as_bytes()));
            }
            // Where the object's content is, in data of MATLAB's own.
            body.extend(mat.element(14, &mat.element(6, &flags)));
            mat.finish(14, body)
        };
        let unknown = mat.matrix("odd", 40, [1, 1], 9, &[0; 8]);
        let x = mat.doubles("test_data_rat", [200, 2], (0..400).map(value));
        let y = mat.bytes("test_data_labels", [2, 1], &[3, 1]);
        let beside = [object("t", "datetime"), x.clone(), unknown, object("s", "string"), y];
        fs::write(&path, mat.file(&beside)).unwrap();
        let (data, notes) = escape_data::read(&path, &escape_data::ReadOptions::default()).unwrap();
        assert_eq!(data.test, expected(2, 2, &[2, 0]));
        let notes: String = notes.iter().map(ToString::to_string).collect();
        contains(
            &notes,
            &["left aside: t (a MATLAB object of class datetime", "an unknown class", "s (a MATLAB"],
        );
        fs::write(&path, mat.file(&[x, object("test_data_labels", "categorical")])).unwrap();
        let error = message(read_split(&path, Split::Test).unwrap_err());
        contains(&error, &["test_data_labels", "class categorical", "cellstr"]);
    }
}
