use std::fs;
use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};

use escape_data::npz::{Values, write};
use escape_data::{DataError, Dataset, Note, ReadOptions, Split, write_npz};
use npyz::WriterBuilder;
use npyz::npz::{NpzArchive, NpzWriter};
use npyz::zip::{CompressionMethod, write::FileOptions};
use tempfile::TempDir;

use crate::{contains, dataset, message, read, read_split};

fn temporary() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("d.npz");
    (dir, path)
}

/// An `.npy` file: header as given, then the data.
fn npy(header: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16 + 1).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.push(b'\n');
    bytes.extend(data);
    bytes
}

fn array(descr: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    npy(&format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}"), data)
}

/// A zip archive of files.
fn archive(files: &[(&str, &[u8])], method: CompressionMethod) -> Vec<u8> {
    let mut writer = npyz::zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in files {
        writer.start_file(*name, FileOptions::default().compression_method(method)).unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

/// Write test_x and test_y and read the split.
fn read_test(path: &Path, x: &[u8], y: &[u8]) -> Result<escape_data::Recordings, DataError> {
    fs::write(path, archive(&[("test_x.npy", x), ("test_y.npy", y)], CompressionMethod::Stored)).unwrap();
    read_split(path, Split::Test)
}

fn floats(values: impl IntoIterator<Item = f32>) -> Vec<u8> {
    values.into_iter().flat_map(f32::to_le_bytes).collect()
}

#[test]
fn round_trip() {
    let (dir, path) = temporary();
    let data = Dataset { sample_rate_hz: 24_414.5, ..dataset() };
    write_npz(&path, &data).unwrap();
    assert_eq!(read(&path).unwrap(), data);
    assert_eq!(read_split(&path, Split::Train).unwrap(), data.train);
    assert_eq!(read_split(&path, Split::Test).unwrap(), data.test);

    // Equal data, equal bytes; an existing file is replaced; nothing else stays behind.
    let first = fs::read(&path).unwrap();
    write_npz(&path, &data).unwrap();
    assert_eq!(fs::read(&path).unwrap(), first);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);

    // Content decides where the extension says nothing.
    let renamed = dir.path().join("recordings");
    fs::rename(&path, &renamed).unwrap();
    assert_eq!(read(&renamed).unwrap(), data);
}

#[test]
fn an_independent_reader_finds_the_documented_layout() {
    let (_dir, path) = temporary();
    let data = dataset();
    write_npz(&path, &data).unwrap();
    let mut npz = NpzArchive::open(&path).unwrap();
    let x = npz.by_name("train_x").unwrap().unwrap();
    assert_eq!((x.dtype().descr().as_str(), x.shape()), ("'<f4'", &[5, 4, 100][..]));
    assert_eq!(x.into_vec::<f32>().unwrap(), data.train.x);
    let y = npz.by_name("test_y").unwrap().unwrap();
    assert_eq!((y.dtype().descr().as_str(), y.shape()), ("'<i8'", &[3][..]));
    assert_eq!(y.into_vec::<i64>().unwrap(), data.test.y);
    let contacts = npz.by_name("contacts").unwrap().unwrap();
    assert_eq!((contacts.shape().len(), contacts.into_vec::<i64>().unwrap()), (0, vec![4]));
}

#[test]
fn writing_fails_whole() {
    let (dir, path) = temporary();
    let mut data = dataset();
    data.test.x.pop();
    let error = message(write_npz(&path, &data).unwrap_err());
    contains(&error, &["test split", "d.npz", "expected 3 x 4 x 100 values", "got 1199"]);
    let error = write(&path, &[("a", &[2, 2], Values::F32(&[1.0]))]).unwrap_err();
    contains(&message(error), &["could not write", "d.npz"]);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "a temporary file was left behind");

    let nowhere = dir.path().join("no/such/folder/d.npz");
    contains(&message(write_npz(&nowhere, &dataset()).unwrap_err()), &["could not create", "no/such/folder"]);
}

#[test]
fn other_element_types_and_layouts() {
    let (_dir, path) = temporary();
    let values = [0.5f64, -0.25, 1.0, -1.0, 0.0, 0.125];
    let expected: Vec<f32> = values.iter().map(|&v| v as f32).collect();
    let half: Vec<u8> =
        [0x3800u16, 0xb400, 0x3c00, 0xbc00, 0, 0x3000].iter().flat_map(|v| v.to_le_bytes()).collect();
    let x = [
        array("<f4", "(1, 2, 3)", &floats(expected.iter().copied())),
        array(">f8", "(1, 2, 3)", &values.map(f64::to_be_bytes).concat()),
        array("<f8", "(1, 1, 2, 3)", &values.map(f64::to_le_bytes).concat()),
        array("<f2", "(1, 2, 3)", &half),
        npy("{'descr': '<f8', 'fortran_order': True, 'shape': (1, 2, 3), }", &{
            [0, 3, 1, 4, 2, 5].map(|i: usize| values[i].to_le_bytes()).concat()
        }),
    ];
    let y = [
        array("|i1", "(1,)", &[2]),
        array("|u1", "(1, 1)", &[2]),
        array(">i2", "(1,)", &2i16.to_be_bytes()),
        array("<u4", "(1,)", &2u32.to_le_bytes()),
        array(">u8", "(1,)", &2u64.to_be_bytes()),
    ];
    for (x, y) in x.iter().zip(&y) {
        for method in [CompressionMethod::Stored, CompressionMethod::Deflated] {
            fs::write(&path, archive(&[("test_x.npy", x), ("test_y.npy", y)], method)).unwrap();
            let read = read_split(&path, Split::Test).unwrap();
            assert_eq!((read.x.as_slice(), read.y.as_slice()), (expected.as_slice(), &[2][..]));
            assert_eq!((read.contacts, read.samples), (2, 3));
        }
    }
}

#[test]
fn empty_splits_are_read() {
    let (_dir, path) = temporary();
    let data = dataset();
    let data = Dataset { test: data.test.head(0), ..data };
    write_npz(&path, &data).unwrap();
    assert_eq!(read(&path).unwrap(), data);
}

#[test]
fn missing_or_other_files() {
    let (dir, path) = temporary();
    contains(&message(read(&path).unwrap_err()), &["no recordings at", "d.npz", "does not exist"]);
    fs::write(&path, "train_x,train_y\n").unwrap();
    contains(&message(read(&path).unwrap_err()), &["is not an .npz archive", "looks like text"]);
    fs::write(&path, b"\x93NUMPY\x01\x00").unwrap();
    contains(&message(read(&path).unwrap_err()), &["single NumPy array"]);
    fs::write(&path, "").unwrap();
    contains(&message(read(&path).unwrap_err()), &["an empty file"]);
    let other = dir.path().join("d.csv");
    fs::write(&other, "1,2").unwrap();
    contains(&message(read(&other).unwrap_err()), &["expected .npz or .mat", "got text"]);
    contains(&message(read(dir.path()).unwrap_err()), &["cannot tell what", "train_x.npy"]);
}

#[test]
fn one_split_is_enough_when_only_it_is_asked_for() {
    let (_dir, path) = temporary();
    let train = dataset().train;
    write(
        &path,
        &[("train_x", &[5, 4, 100], Values::F32(&train.x)), ("train_y", &[5], Values::I64(&train.y))],
    )
    .unwrap();
    assert_eq!(read_split(&path, Split::Train).unwrap(), train);
    let error = message(read_split(&path, Split::Test).unwrap_err());
    contains(
        &error,
        &["has no array test_x", "it holds train_x (5 x 4 x 100), train_y (5)", "--x NAME --y NAME"],
    );
    // Asked for both, the other one is empty.
    let (data, notes) = escape_data::read(&path, &ReadOptions::default()).unwrap();
    assert_eq!((data.test, &data.train), (train.head(0), &train));
    assert_eq!(notes[1..], [Note::NoSplit { split: Split::Test }]);
    write(&path, &[("x", &[1], Values::F32(&[0.0]))]).unwrap();
    contains(&message(read(&path).unwrap_err()), &["has no array train_x or test_x: it holds x"]);
}

#[test]
fn wrong_shapes_and_types() {
    let (_dir, path) = temporary();
    let y = array("<i8", "(1,)", &0i64.to_le_bytes());
    let x = array("<f4", "(1, 2, 2)", &floats([0.0; 4]));
    let error = |x: &[u8], y: &[u8]| message(read_test(&path, x, y).unwrap_err());

    contains(
        &error(&array("<f4", "(2, 2)", &floats([0.0; 4])), &y),
        &["test_x", "expected N x H x W", "got 2 x 2"],
    );
    contains(&error(&array("<f4", "(1, 2, 2, 1)", &floats([0.0; 4])), &y), &["got 1 x 2 x 2 x 1"]);
    contains(&error(&array("<f4", "(1, 0, 2)", &[]), &y), &["got 1 x 0 x 2"]);
    contains(&error(&array("<U1", "(1, 2, 2)", &[0; 16]), &y), &["a full array of real numbers", "got text"]);
    contains(&error(&array("|O", "(1, 2, 2)", &[0; 16]), &y), &["got |O"]);
    contains(&error(&x, &array("<c8", "(1,)", &[0; 8])), &["test_y", "integers", "got <c8"]);
    contains(
        &error(&x, &array("<f8", "(1,)", &0.5f64.to_le_bytes())),
        &["label 0", "whole number", "got 0.5"],
    );
    contains(&error(&x, &array("<i8", "(1, 2)", &[0; 16])), &["1 recordings but 2 labels"]);
    contains(&error(&x, &array("<i8", "(2, 2)", &[0; 32])), &["one label a recording", "got 2 x 2"]);
    contains(&error(&x, &array("<i8", "()", &[0; 8])), &["got a scalar"]);
}

#[test]
fn wrong_values() {
    let (_dir, path) = temporary();
    let y = array("|i1", "(2,)", &[0, 2]);
    let x = |v: f32| {
        array("<f4", "(2, 2, 3)", &floats((0..12).map(|i| if i == 10 { v } else { 0.01 * i as f32 })))
    };
    let error = |x: &[u8], y: &[u8]| message(read_test(&path, x, y).unwrap_err());
    let place = "test split of";
    let at = "recording 1, contact 1, sample 1";
    contains(&error(&x(f32::NAN), &y), &[place, at, "is NaN", "finite"]);
    contains(&error(&x(f32::NEG_INFINITY), &y), &[place, at, "is -inf"]);
    contains(&error(&x(37.5), &y), &[place, at, "is 37.5", "[-1, 1]", "scale"]);
    let labels = |bad: i8| array("|i1", "(2,)", &[0, bad as u8]);
    contains(&error(&x(0.0), &labels(4)), &["label 1", "0..=2", "2 pricking", "got 4"]);
    contains(
        &error(&x(0.0), &labels(3)),
        &["label 0 of the test split is 0", "label 1 of the test split is 3"],
    );
    contains(&error(&x(0.0), &labels(-1)), &["label 1", "got -1"]);
}

#[test]
fn scalars_must_fit() {
    let (_dir, path) = temporary();
    let x = array("<f4", "(1, 2, 2)", &floats([0.0, 0.5, 1.0, 0.5]));
    let y = array("|i1", "(1,)", &[1]);
    let with = |name: &str, scalar: &[u8]| {
        let files = [("test_x.npy", x.as_slice()), ("test_y.npy", &y), (name, scalar)];
        fs::write(&path, archive(&files, CompressionMethod::Stored)).unwrap();
        read(&path).map_err(message)
    };
    with("contacts.npy", &array("<i4", "()", &2i32.to_le_bytes())).unwrap();
    with("contacts.npy", &array("<i4", "(1,)", &2i32.to_le_bytes())).unwrap();
    let error = with("contacts.npy", &array("<i4", "()", &3i32.to_le_bytes())).unwrap_err();
    contains(&error, &["contacts is 3", "test_x has 2 rows"]);
    let error = with("sample_rate_hz.npy", &array("<f8", "()", &(-1f64).to_le_bytes())).unwrap_err();
    contains(&error, &["sample_rate_hz is -1", "positive"]);
    // Something else of the same name is none of ours, and that is said.
    with("contacts.npy", &array("<i4", "(2,)", &[0, 0, 0, 0, 9, 0, 0, 0])).unwrap();
    let (_, notes) = escape_data::read(&path, &ReadOptions::default()).unwrap();
    let said = notes.iter().map(Note::to_string).collect::<String>();
    contains(&said, &["contacts is 2 different numbers, expected one number: not taken"]);
}

/// A small file cut anywhere is refused, in both compressions.
#[test]
fn truncated_at_every_offset() {
    let (_dir, path) = temporary();
    let x = array("<f4", "(1, 2, 2)", &floats([0.0, 0.5, -0.5, 1.0]));
    let y = array("|i1", "(1,)", &[1]);
    for method in [CompressionMethod::Stored, CompressionMethod::Deflated] {
        let whole = archive(&[("test_x.npy", &x), ("test_y.npy", &y)], method);
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            assert!(read_split(&path, Split::Test).is_err(), "{length} of {} bytes were read", whole.len());
        }
    }
}

/// Every byte of a small file replaced by every one of some values: an answer or an error, never a panic, and
/// never wrong values, since the checksum would tell.
#[test]
fn damaged_at_every_byte() {
    let (_dir, path) = temporary();
    let x = array("<f4", "(1, 2, 2)", &floats([0.0, 0.5, -0.5, 1.0]));
    let y = array("|i1", "(1,)", &[1]);
    for method in [CompressionMethod::Stored, CompressionMethod::Deflated] {
        let whole = archive(&[("test_x.npy", &x), ("test_y.npy", &y)], method);
        for at in 0..whole.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] = value;
                fs::write(&path, &bytes).unwrap();
                if let Ok(read) = read_split(&path, Split::Test) {
                    assert_eq!((read.x, read.y), (vec![0.0, 0.5, -0.5, 1.0], vec![1]), "byte {at} = {value}");
                }
            }
        }
    }
}

/// Headers that promise far more than the file holds must cost neither time nor memory.
#[test]
fn lying_sizes() {
    let (_dir, path) = temporary();
    let y = array("|i1", "(1,)", &[1]);
    let shapes = [
        "(1, 1000000, 1000000)",
        "(1, 4294967296, 4294967296)",
        "(0, 4294967296, 4294967296)",
        "(1, 18446744073709551615, 1)",
        "(1, 99999999999999999999999, 1)",
        "(1, -2, -2)",
    ];
    for shape in shapes {
        let x = array("<f4", shape, &floats([0.0; 4]));
        assert!(read_test(&path, &x, &y).is_err(), "{shape}");
    }
    let x = array("<f4", "(1, 2, 2)", &floats([0.0; 4]));
    for shape in ["(1000000000000,)", "(4294967296, 4294967296)"] {
        assert!(read_test(&path, &x, &array("|i1", shape, &[1])).is_err(), "{shape}");
    }
    // A header said to be 4 GiB long, and one nested so deeply that a recursive parser would run out of
    // stack.
    let long = b"\x93NUMPY\x02\x00\xff\xff\xff\xff{'descr'";
    contains(&message(read_test(&path, long, &y).unwrap_err()), &["a header of 4294967295 bytes"]);
    let deep = npy(&format!("{{'descr': {}", "(".repeat(65_000)), &[]);
    assert!(read_test(&path, &deep, &y).is_err());

    // The directory itself lies about sizes: 4 GiB in an entry that is a few hundred bytes long.
    for method in [CompressionMethod::Stored, CompressionMethod::Deflated] {
        let promise = array("<f4", "(1, 1000, 1000000)", &floats([0.0; 4]));
        let mut bytes = archive(&[("test_x.npy", &promise), ("test_y.npy", &y)], method);
        let entry = bytes.windows(4).position(|w| w == b"PK\x01\x02").unwrap();
        bytes[entry + 24..entry + 28].copy_from_slice(&0xffff_fff0u32.to_le_bytes());
        fs::write(&path, &bytes).unwrap();
        assert!(matches!(read_split(&path, Split::Test), Err(DataError::Malformed { .. })));
    }
}

/// A directory and a header that agree on 4 GB, in an entry that inflates to much less or to more than declared.
#[test]
fn bombs() {
    let (_dir, path) = temporary();
    let y = array("|i1", "(1,)", &[1]);
    let with_size = |x: &[u8], size: usize| {
        let files = [("test_x.npy", x), ("test_y.npy", &y)];
        let mut bytes = archive(&files, CompressionMethod::Deflated);
        let entry = bytes.windows(4).position(|w| w == b"PK\x01\x02").unwrap();
        bytes[entry + 24..entry + 28].copy_from_slice(&(size as u32).to_le_bytes());
        fs::write(&path, &bytes).unwrap();
        message(read_split(&path, Split::Test).unwrap_err())
    };
    let (header, data) = (array("<f4", "(1, 1000, 1000000)", &[]), vec![0; 4 << 20]);
    let error = with_size(&[header.as_slice(), &data].concat(), header.len() + 4_000_000_000);
    contains(&error, &["test_x takes 4000000000 bytes of memory", "a file of 44", "savez"]);
    let (header, size) = (array("<f4", "(1, 1, 1000)", &[]), 4000);
    let error = with_size(&[header.as_slice(), &data[..2000]].concat(), header.len() + size);
    let (size, got) = (header.len() + size, header.len() + 2000);
    contains(&error, &[&format!("test_x: expected the declared {size} bytes, got {got}")]);
    let (header, size) = (array("<f4", "(1, 1, 2)", &[]), 8);
    let error = with_size(&[header.as_slice(), &data].concat(), header.len() + size);
    contains(&error, &["test_x: expected the declared", "got more"]);
}

/// Changes where the parts of an archive contradict each other, or could be read in two ways.
#[test]
fn archives_that_contradict_themselves() {
    let (_dir, path) = temporary();
    let x = array("<f4", "(1, 2, 2)", &floats([0.0; 4]));
    let y = array("|i1", "(1,)", &[1]);
    let whole = archive(&[("test_x.npy", &x), ("test_y.npy", &y)], CompressionMethod::Stored);
    let find = |what: &[u8]| whole.windows(what.len()).position(|w| w == what).unwrap();
    let entry = find(b"PK\x01\x02");
    let changed = |at: usize, bytes: &[u8]| {
        let mut copy = whole.clone();
        copy[at..at + bytes.len()].copy_from_slice(bytes);
        fs::write(&path, &copy).unwrap();
        message(read_split(&path, Split::Test).unwrap_err())
    };
    contains(&changed(30, b"test_z.npy"), &["test_x.npy: expected its header at offset 0"]);
    contains(&changed(entry + 46, b"test_y.npy"), &["test_y.npy stands there twice"]);
    contains(&changed(entry + 46, b"\xff"), &["entry 0 is cut short, no entry or its name not UTF-8"]);
    // A checksum of 0 is no excuse for none: NumPy writes them all.
    contains(&changed(entry + 16, &[0; 4]), &["test_x: expected checksum 00000000"]);
    contains(&changed(entry + 8, &[1]), &["test_x.npy is encrypted"]);
    contains(&changed(entry + 10, &[12]), &["compressed by method 12, expected 0 (stored) or 8 (deflated)"]);
    contains(&changed(entry + 20, &[9]), &["test_x.npy is stored in 9 bytes, expected the declared"]);
    contains(&changed(entry + 10, &[8]), &["is damaged: test_x:"]);
    // A header that promises less than there is would get round the checksum.
    contains(&changed(find(b"(1, 2, 2)"), b"(1, 1, 2)"), &["test_x: its header promises 1 x 1 x 2 values"]);
}

#[test]
fn names_are_fit_for_a_terminal() {
    let (_dir, path) = temporary();
    fs::write(&path, archive(&[("a\x1b[2J.npy", b"")], CompressionMethod::Stored)).unwrap();
    contains(&message(read(&path).unwrap_err()), &["it holds a\\u{1b}[2J"]);
}

/// Offsets of the 64-bit extension that overflow when added up.
#[test]
fn hostile_zip64() {
    let (_dir, path) = temporary();
    let entry = |sizes: [u64; 3]| {
        let mut entry = b"PK\x01\x02".to_vec();
        entry.extend([45, 0, 45, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        entry.extend([0xff; 8]); // compressed and real size
        entry.extend(10u16.to_le_bytes());
        entry.extend(28u16.to_le_bytes());
        entry.extend([0; 10]);
        entry.extend([0xff; 4]); // offset
        entry.extend(b"test_y.npy");
        entry.extend([1, 0, 24, 0]);
        sizes.iter().for_each(|size| entry.extend(size.to_le_bytes()));
        entry
    };
    let max = u64::MAX;
    for sizes in [[max, max, max], [max, 8, max - 10], [8, max, 0], [max, max, 0]] {
        let x = entry(sizes);
        let mut x_entry = x.clone();
        x_entry[46..56].copy_from_slice(b"test_x.npy");
        let mut bytes = b"PK\x03\x04".to_vec();
        bytes.resize(64, 0);
        let start = bytes.len();
        bytes.extend(&x);
        bytes.extend(&x_entry);
        let size = bytes.len() - start;
        bytes.extend(b"PK\x05\x06\0\0\0\0\x02\0\x02\0");
        bytes.extend((size as u32).to_le_bytes());
        bytes.extend((start as u32).to_le_bytes());
        bytes.extend([0, 0]);
        fs::write(&path, &bytes).unwrap();
        assert!(matches!(read_split(&path, Split::Test), Err(DataError::Malformed { .. })), "{sizes:?}");
    }
}

/// Archives as NumPy writes them: with the 64-bit extension in the local headers.
#[test]
fn large_file_headers() {
    let (_dir, path) = temporary();
    let mut writer = NpzWriter::create(&path).unwrap();
    let options = FileOptions::default().large_file(true);
    let mut x =
        writer.array::<f32>("test_x", options).unwrap().default_dtype().shape(&[1, 1, 2]).begin_nd().unwrap();
    x.extend([0.5, -0.5]).unwrap();
    x.finish().unwrap();
    let mut y =
        writer.array::<i64>("test_y", options).unwrap().default_dtype().shape(&[1]).begin_nd().unwrap();
    y.push(&2).unwrap();
    y.finish().unwrap();
    drop(writer);
    let read = read_split(&path, Split::Test).unwrap();
    assert_eq!((read.x, read.y), (vec![0.5, -0.5], vec![2]));
}
