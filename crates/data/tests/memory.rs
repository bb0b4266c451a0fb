//! No file makes a reader take more memory than `memory_limit` of its size: every allocation of this test is counted. The files are of a few megabytes, and hostile.

#![allow(clippy::unwrap_used)] // in the helpers; a test fails by panicking

use std::io::{Cursor, Write};
use std::path::Path;
use std::sync::Mutex;

use escape_data::{Dataset, ReadOptions, Recordings, Split, memory_limit, read_bytes, write_mat, write_npz};
use escape_network::rng::Stream;
use flate2::Compression;
use flate2::write::ZlibEncoder;
use npyz::zip::{CompressionMethod, ZipWriter, write::FileOptions};

#[path = "../../../tests/counting.rs"]
mod counting;

#[global_allocator]
static ALLOCATOR: counting::Counting = counting::Counting;

/// Allocations of tests that run side by side would be counted together.
static ALONE: Mutex<()> = Mutex::new(());

/// Reads a file, within the limit of memory; whether it was read.
fn bounded(name: &str, bytes: &[u8]) -> Result<Dataset, String> {
    let options = ReadOptions { drop_bad: true, ..ReadOptions::default() };
    let (read, peak) = counting::peak_of(|| read_bytes(name, bytes, &options));
    let limit = memory_limit(bytes.len() as u64);
    assert!(
        peak as u64 <= limit,
        "{name} of {} bytes took {peak} bytes of memory, more than {limit}",
        bytes.len()
    );
    read.map(|(data, _)| data).map_err(|error| error.to_string())
}

/// An element of a `.mat` file.
fn element(kind: u32, data: &[u8]) -> Vec<u8> {
    let mut bytes = [kind.to_le_bytes(), (data.len() as u32).to_le_bytes()].concat();
    bytes.extend(data);
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes
}

fn matrix(name: &str, dims: [u32; 2], kind: u32, data: &[u8]) -> Vec<u8> {
    let flags = [6u32.to_le_bytes(), [0; 4]].concat();
    let dims = dims.map(u32::to_le_bytes).concat();
    let parts = [element(6, &flags), element(5, &dims), element(1, name.as_bytes()), element(kind, data)];
    element(14, &parts.concat())
}

fn packed(element: &[u8]) -> Vec<u8> {
    let mut zlib = ZlibEncoder::new(Vec::new(), Compression::default());
    zlib.write_all(element).unwrap();
    let stream = zlib.finish().unwrap();
    [15u32.to_le_bytes().to_vec(), (stream.len() as u32).to_le_bytes().to_vec(), stream].concat()
}

fn mat(elements: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = b"MATLAB 5.0 MAT-file".to_vec();
    bytes.resize(124, b' ');
    bytes.extend(b"\x00\x01IM");
    bytes.extend(elements.concat());
    bytes
}

fn npy(descr: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n");
    [b"\x93NUMPY\x01\0", &(header.len() as u16).to_le_bytes()[..], header.as_bytes(), data].concat()
}

fn zip(files: &[(String, Vec<u8>)], method: CompressionMethod) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in files {
        writer.start_file(name, FileOptions::default().compression_method(method)).unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

/// Random bytes, which cannot be compressed.
fn noise(count: usize) -> Vec<u8> {
    let mut stream = Stream::new(1, 2);
    (0..count).map(|_| stream.bits() as u8).collect()
}

/// Name and content of every seed of the fuzz targets that read recordings.
fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fuzz/seeds");
    let mut seeds = Vec::new();
    for (target, name) in [("mat", "a.mat"), ("npz", "a.npz"), ("hdf5", "b.mat")] {
        for entry in std::fs::read_dir(folder.join(target)).unwrap() {
            seeds.push((name, std::fs::read(entry.unwrap().path()).unwrap()));
        }
    }
    assert!(seeds.len() >= 12);
    seeds
}

#[test]
fn seeds_cut_short_and_with_every_byte_changed() {
    let _alone = ALONE.lock();
    for (name, mut bytes) in seeds() {
        let whole = bounded(name, &bytes).unwrap();
        for at in 0..bytes.len() {
            if at % 5 == 0 {
                let _ = bounded(name, &bytes[..at]);
            }
            // Much of an HDF5 file is the unused rest of its tables.
            let kept = bytes[at];
            let changes: &[u8] = if kept == 0 && at % 8 != 0 { &[0xff] } else { &[1, 0x7f, 0x80, 0xff] };
            for change in changes {
                bytes[at] = kept ^ change;
                if let Ok(data) = bounded(name, &bytes) {
                    for split in Split::ALL {
                        data.split(split).check().unwrap();
                        assert!(data.split(split).x.iter().all(|v| v.abs() <= 1.0));
                    }
                }
            }
            bytes[at] = kept;
        }
        assert!(bounded(name, &bytes).unwrap() == whole);
    }
}

/// Several bytes at once, at places and of values that a generator draws; sizes are drawn often.
#[test]
fn seeds_with_many_changes() {
    let _alone = ALONE.lock();
    for (number, (name, bytes)) in seeds().into_iter().enumerate() {
        let mut stream = Stream::new(7, number as u64);
        for _ in 0..1500 {
            let mut changed = bytes.clone();
            for _ in 0..stream.whole([1, 4]) {
                let at = stream.whole([0, changed.len() as u32 - 1]) as usize;
                let value = match stream.whole([0, 3]) {
                    0 => stream.bits().to_le_bytes(),
                    1 => u32::MAX.to_le_bytes(),
                    2 => (1u32 << stream.whole([0, 31])).to_le_bytes(),
                    _ => stream.whole([0, 4096]).to_le_bytes(),
                };
                let width = (1 << stream.whole([0, 2])).min(changed.len() - at);
                changed[at..at + width].copy_from_slice(&value[..width]);
            }
            let _ = bounded(name, &changed);
        }
    }
}

#[test]
fn sound_files() {
    let _alone = ALONE.lock();
    let bytes = noise(400 * 5600);
    let x = bytes.iter().map(|&b| f32::from(b) / 127.5 - 1.0).collect();
    let train = Recordings::new(x, (0..400).map(|i| i % 3).collect(), 56, 100).unwrap();
    let test = train.head(3);
    let data = Dataset {
        train,
        test,
        classes: escape_data::Classes::Open.names(),
        sample_rate_hz: 30e3,
        nerve: None,
    };
    let dir = tempfile::tempdir().unwrap();
    for name in ["a.mat", "a.npz"] {
        let path = dir.path().join(name);
        if name == "a.mat" {
            write_mat(&path, &data).unwrap()
        } else {
            write_npz(&path, &data).unwrap()
        }
        assert!(bounded(name, &std::fs::read(&path).unwrap()).unwrap() == data);
    }
    // As float32, numbers in single bytes take four times as much, which is just allowed.
    let labels = matrix("test_data_labels", [400, 1], 2, &[1; 400]);
    let values = matrix("test_data_rat", [5600, 400], 1, &bytes);
    assert_eq!(bounded("a_RAW.mat", &mat(&[values, labels])).unwrap().test.len(), 400);
}

#[test]
fn bombs() {
    let _alone = ALONE.lock();
    let zeros = vec![0; 60_000_000];
    let columns = zeros.len() as u32 / 100;
    let values = packed(&matrix("test_data_rat", [100, columns], 2, &zeros));
    let labels = packed(&matrix("test_data_labels", [1, columns], 2, &vec![1; columns as usize]));
    let filler = matrix("filler", [1, 3 << 20], 2, &noise(3 << 20));
    for elements in [vec![values.clone(), labels.clone()], vec![filler, values, labels]] {
        let error = bounded("a.mat", &mat(&elements)).unwrap_err();
        assert!(error.contains("of memory") && error.contains("-v6"), "{error}");
    }
    for (x, y) in [(100, 1), (1, 1)] {
        let n = zeros.len() / 2 / x / y;
        let files = [
            ("noise".to_owned(), noise(1 << 20)),
            ("test_x.npy".to_owned(), npy("<f2", &format!("({n}, {y}, {x})"), &zeros[..n * x * y * 2])),
            ("test_y.npy".to_owned(), npy("|i1", &format!("({n},)"), &zeros[..n])),
        ];
        let error = bounded("a.npz", &zip(&files, CompressionMethod::Deflated)).unwrap_err();
        assert!(error.contains("bytes of memory"), "{error}");
    }
    // Labels alone.
    let n = zeros.len();
    let files = [("test_y.npy".to_owned(), npy("|i1", &format!("({n},)"), &zeros))];
    bounded("a.npz", &zip(&files, CompressionMethod::Deflated)).unwrap_err();
    bounded("a.npz", &zip(&files, CompressionMethod::Stored)).unwrap_err();
}

/// Recordings of one value or two, whose labels take more than they do.
#[test]
fn more_labels_than_values() {
    let _alone = ALONE.lock();
    for samples in [1, 2, 5, 30] {
        let n = (4 << 20) / samples;
        let files = [
            ("test_x.npy".to_owned(), npy("<f2", &format!("({n}, 1, {samples})"), &noise(2 * n * samples))),
            ("test_y.npy".to_owned(), npy("|i1", &format!("({n},)"), &vec![1; n])),
        ];
        let _ = bounded("a.npz", &zip(&files, CompressionMethod::Stored));
    }
}

/// Very many things with names.
#[test]
fn floods_of_names() {
    let _alone = ALONE.lock();
    let many = |each: &dyn Fn(usize) -> Vec<u8>| (0..60_000).map(each).collect::<Vec<_>>();
    let error = bounded("a.mat", &mat(&many(&|i| matrix(&format!("{i}"), [0, 0], 9, b""))));
    assert!(error.is_err());
    let error = bounded("a.mat", &mat(&many(&|i| packed(&matrix(&format!("{i}"), [0, 0], 9, b"")))));
    assert!(error.is_err());
    let files: Vec<(String, Vec<u8>)> = (0..60_000).map(|i| (format!("{i:x}"), Vec::new())).collect();
    let bytes = zip(&files, CompressionMethod::Stored);
    assert!(bounded("a.npz", &bytes).is_err());
    // The directory alone, without the entries' own headers.
    let start = bytes.windows(4).position(|four| four == b"PK\x01\x02").unwrap();
    let mut bytes = bytes[start..].to_vec();
    let end = bytes.len() - 22;
    bytes[end + 16..end + 20].fill(0);
    assert!(bounded("a", &[b"PK\x03\x04", &bytes[..]].concat()).is_err());
    assert!(bounded("a.npz", &bytes).is_err());
}

/// Sizes that lie, beside megabytes that do not.
#[test]
fn lying_headers() {
    let _alone = ALONE.lock();
    let body = noise(5 << 20);
    for dims in [[100, 50_000_000], [100, 52_428], [0x7fff_ff9c, 1]] {
        let mut values = matrix("test_data_rat", dims, 2, &body);
        let labels = matrix("test_data_labels", [1, 4], 2, &[1; 4]);
        assert!(bounded("a.mat", &mat(&[labels.clone(), values.clone()])).is_err());
        // The tag of the numbers agrees with the dimensions.
        let size = (dims[0] * dims[1] % 0xffff_ffff).to_le_bytes();
        let at = values.len() - body.len() - 4;
        values[at..at + 4].copy_from_slice(&size);
        assert!(bounded("a.mat", &mat(&[labels.clone(), values.clone()])).is_err());
        assert!(bounded("a.mat", &mat(&[packed(&values), labels])).is_err());
    }
    for shape in ["(1, 1, 2000000000)", "(2000000000, 1, 1)", "(1000, 1000, 1000)"] {
        for method in [CompressionMethod::Stored, CompressionMethod::Deflated] {
            let files = [
                ("test_x.npy".to_owned(), npy("<f4", shape, &body)),
                ("test_y.npy".to_owned(), npy("|i1", "(1,)", &[1])),
            ];
            let mut bytes = zip(&files, method);
            assert!(bounded("a.npz", &bytes).is_err());
            let at = bytes.windows(4).position(|four| four == b"PK\x01\x02").unwrap();
            bytes[at + 24..at + 28].copy_from_slice(&4_000_000_100u32.to_le_bytes());
            assert!(bounded("a.npz", &bytes).is_err());
        }
    }
}
