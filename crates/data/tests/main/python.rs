use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use escape_data::{
    Dataset, Note, ReadOptions, Reason, Recordings, Rescale, Split, read_bytes, write_mat, write_npz,
};

use crate::{contains, dataset, message, read, read_split};

/// The Python to use: `$ESCAPE_PYTHON`, or `python3`, if it has NumPy, SciPy and h5py. `None` means that the test
/// is skipped, which is printed; with `ESCAPE_REQUIRE_PYTHON=1` it is a failure.
pub fn python() -> Option<String> {
    let python = std::env::var("ESCAPE_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let imported = Command::new(&python).args(["-c", "import numpy, scipy.io, h5py"]).output();
    let problem = match imported {
        Ok(output) if output.status.success() => return Some(python),
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        Err(error) => error.to_string(),
    };
    let required = std::env::var("ESCAPE_REQUIRE_PYTHON").is_ok_and(|v| v == "1");
    let message =
        format!("{python} has no numpy, scipy or h5py ({problem}); set ESCAPE_PYTHON to one that has");
    assert!(!required, "{message}");
    // eprintln! would be swallowed by the test harness.
    #[allow(clippy::explicit_write)]
    writeln!(std::io::stderr(), "skipped: {message}").unwrap();
    None
}

/// Run a script after [`PREAMBLE`], in a folder.
pub fn run(python: &str, folder: &Path, script: &str) {
    let script = format!("{PREAMBLE}{script}");
    let output = Command::new(python).args(["-c", &script]).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// What the scripts below write: value i is (i * 769 % 2049) / 1024 - 1, labels 0, 1, 2, 0, ...
pub fn expected(n: usize, contacts: usize) -> Recordings {
    let x = (0..n * contacts * 100).map(|i| ((i * 769 % 2049) as f64 / 1024.0 - 1.0) as f32).collect();
    Recordings::new(x, (0..n as i64).map(|i| i % 3).collect(), contacts, 100).unwrap()
}

const PREAMBLE: &str = "
import numpy as np, scipy.io
def x(n, h): return (np.arange(n * h * 100) * 769 % 2049 / 1024 - 1).reshape(n, h, 100)
def y(n): return np.arange(n) % 3
";

#[test]
fn scipy_writes_mat() {
    let Some(python) = python() else { return };
    let dir = tempfile::tempdir().unwrap();
    let script = "
def variables(x_type, y_type, column):
    def labels(n):
        v = (y(n) + 1).astype(y_type)
        return v[:, None] if column else v[None, :]
    return dict(comment='four rats', cell=np.array([1, 'a'], dtype=object), struct=dict(a=1),
                training_data_rat=x(7, 56).reshape(7, -1).T.astype(x_type), training_data_labels=labels(7),
                test_data_rat=x(4, 56).reshape(4, -1).T.astype(x_type), test_data_labels=labels(4))
scipy.io.savemat('a.mat', variables('f8', 'f8', True), do_compression=True)
scipy.io.savemat('b.mat', variables('f8', 'u1', False), do_compression=False)
scipy.io.savemat('c.mat', variables('f4', 'i2', False), do_compression=True)
scipy.io.savemat('d.mat', variables('>f8', '>i4', True), do_compression=False)
";
    run(&python, dir.path(), script);
    for name in ["a.mat", "b.mat", "c.mat", "d.mat"] {
        let path = dir.path().join(name);
        let data = read(&path).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(data.train, expected(7, 56), "{name}");
        assert_eq!(data.test, expected(4, 56), "{name}");
        assert_eq!(read_split(&path, Split::Test).unwrap(), data.test, "{name}");
    }
}

#[test]
fn numpy_writes_npz() {
    let Some(python) = python() else { return };
    let dir = tempfile::tempdir().unwrap();
    let script = "
def arrays(convert, y_type): return dict(train_x=convert(x(7, 8)), train_y=y(7).astype(y_type),
                                         test_x=convert(x(4, 8)), test_y=y(4).astype(y_type))
np.savez('a.npz', **arrays(lambda v: v, 'i8'))
np.savez_compressed('b.npz', contacts=8, sample_rate_hz=30e3, **arrays(lambda v: v.astype('f4'), 'i1'))
np.savez('c.npz', **arrays(lambda v: np.asfortranarray(v.astype('>f8')), '>u4'))
np.savez('d.npz', **arrays(lambda v: v[:, None].astype('f4'), 'u8'))
np.savez('e.npz', **arrays(lambda v: np.asfortranarray(v[:, None].astype('f4')), 'i2'))
";
    run(&python, dir.path(), script);
    for name in ["a.npz", "b.npz", "c.npz", "d.npz", "e.npz"] {
        let data = read(&dir.path().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(data.train, expected(7, 8), "{name}");
        assert_eq!(data.test, expected(4, 8), "{name}");
    }
}

#[test]
fn numpy_reads_our_npz() {
    let Some(python) = python() else { return };
    let dir = tempfile::tempdir().unwrap();
    write_npz(&dir.path().join("ours.npz"), &dataset()).unwrap();
    let script = "
import numpy as np
d = np.load('ours.npz')
i = np.arange(5 * 4 * 100)
assert sorted(d) == ['contacts', 'sample_rate_hz', 'test_x', 'test_y', 'train_x', 'train_y'], sorted(d)
assert d['train_x'].dtype == np.float32 and d['train_y'].dtype == np.int64
assert (d['train_x'] == ((i * 7919 % 2001 - 1000) / np.float32(1000)).astype('f4').reshape(5, 4, 100)).all()
assert d['train_y'].tolist() == [0, 1, 2, 0, 1] and d['test_y'].tolist() == [1, 2, 1]
assert (d['test_x'] == d['train_x'][[4, 2, 1]]).all()
assert d['contacts'] == 4 and d['contacts'].shape == () and d['sample_rate_hz'] == 30000.0
";
    run(&python, dir.path(), script);
}

/// Every combination of what SciPy can vary, for three cuffs.
#[test]
fn a_grid_of_mat_files() {
    let Some(python) = python() else { return };
    let dir = tempfile::tempdir().unwrap();
    let script = "
from itertools import product
grid = product((False, True), ('f8', 'f4'), ('f8', 'u1', 'i4'), (False, True), (0, 1), (56, 64, 4))
for i, (compressed, values, kind, column, base, h) in enumerate(grid):
    d = {}
    for split, n in (('training', 7), ('test', 4)):
        v = (y(n) + base).astype(kind)
        d[split + '_data_labels'] = v[:, None] if column else v[None]
        d[split + '_data_rat'] = x(n, h).reshape(n, -1).T.astype(values)
    scipy.io.savemat('%d_%d_%d.mat' % (i, base, h), d, do_compression=compressed)
";
    run(&python, dir.path(), script);
    let mut count = 0;
    for entry in fs::read_dir(dir.path()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let [base, contacts] =
            [1, 2].map(|part| name.split('_').nth(part).unwrap().parse::<usize>().unwrap());
        let (data, notes) = escape_data::read(&path, &ReadOptions::default()).unwrap();
        assert!(data.train == expected(7, contacts) && data.test == expected(4, contacts), "{name}");
        let unusual = (base == 0).then_some(Note::UnusualLabels { first: 0, classes: 3 });
        let (name_of, values) = ("training_data_rat".to_owned(), contacts * 100);
        let assumed = Note::AssumedSamples { name: name_of, values, contacts };
        assert!(notes[1..].iter().eq(unusual.iter().chain([&assumed])), "{name}: {notes:?}");
        count += 1;
    }
    assert_eq!(count, 2 * 2 * 3 * 2 * 2 * 3);
}

#[test]
fn numpy_writes_arrays_side_by_side() {
    let Some(python) = python() else { return };
    let dir = tempfile::tempdir().unwrap();
    let script = "
import os
os.mkdir('folder')
for prefix in ('folder/', 'rat2_'):
    for split, n in (('train', 7), ('test', 4)):
        np.save(prefix + split + '_x.npy', np.asfortranarray(x(n, 8)) if prefix == 'rat2_' else x(n, 8).astype('f4'))
        np.save(prefix + split + '_y.npy', y(n).astype('f4'))
np.save('odd.npy', x(1, 1))
np.save('half_test_x.npy', x(4, 8))
";
    run(&python, dir.path(), script);
    let folder = dir.path().join("folder");
    let mut paths =
        vec![folder.clone(), dir.path().join("rat2_train_x.npy"), dir.path().join("rat2_test_y.npy")];
    paths.push(folder.join("test_x.npy"));
    for path in paths {
        let data = read(&path).unwrap_or_else(|e| panic!("{}: {}", path.display(), message(e)));
        assert!(data.train == expected(7, 8) && data.test == expected(4, 8), "{}", path.display());
        assert!(read_split(&path, Split::Test).unwrap() == data.test);
        assert_eq!(escape_data::files(&path, &ReadOptions::default()).unwrap().len(), 4);
    }
    let error = |name: &str| message(read(&dir.path().join(name)).unwrap_err());
    contains(&error("odd.npy"), &["cannot tell what", "odd.npy", "train_x.npy", "rename"]);
    contains(&error("half_test_x.npy"), &["no array test_y", "it holds half_test_x.npy"]);
    contains(&error("none_test_x.npy"), &["does not exist"]);
    contains(&error(""), &["cannot tell what", "folder of their own"]);
}

/// Microvolts scaled here are those scaled by NumPy in double precision, but for float32's rounding.
#[test]
fn microvolts_are_scaled_as_numpy_would() {
    let Some(python) = python() else { return };
    let dir = tempfile::tempdir().unwrap();
    let script = "
rng = np.random.default_rng(1)
def raw(n): return rng.normal(0.3, 25, (n, 5600)) * rng.uniform(0.2, 4, (n, 1))
def scaled(v):
    lo, hi = v.min(1, keepdims=True), v.max(1, keepdims=True)
    return ((v - lo) / (hi - lo) * 2 - 1).astype('f4').reshape(-1, 56, 100)
a, b = raw(9), raw(6)
d = dict(training_data_rat=a.T, training_data_labels=y(9)[:, None] + 1, test_data_rat=b.T,
         test_data_labels=y(6)[:, None] + 1)
for name in ('Rat2Training_Fold1_RAW', 'lower_raw', 'unnamed'):
    scipy.io.savemat(name + '.mat', d)
np.savez('want.npz', train_x=scaled(a), train_y=y(9), test_x=scaled(b), test_y=y(6))
b[:4] /= 1000
scipy.io.savemat('few.mat', dict(d, test_data_rat=b.T))
";
    run(&python, dir.path(), script);
    let want = read(&dir.path().join("want.npz")).unwrap();
    for (name, named) in [("Rat2Training_Fold1_RAW", true), ("lower_raw", true), ("unnamed", false)] {
        let (got, notes) =
            escape_data::read(&dir.path().join(name).with_extension("mat"), &ReadOptions::default()).unwrap();
        for split in Split::ALL {
            let (got, want) = (got.split(split), want.split(split));
            assert_eq!(got.y, want.y);
            for (a, b) in got.x.iter().zip(&want.x) {
                assert!((a - b).abs() <= 2.0 * f32::EPSILON, "{name}: {a} against {b}");
            }
        }
        let reasons: Vec<&Reason> = notes
            .iter()
            .filter_map(|note| match note {
                Note::Scaled { reason, .. } => Some(reason),
                _ => None,
            })
            .collect();
        let by_values = [&Reason::Values { outside: 9 }, &Reason::Values { outside: 6 }];
        assert_eq!(reasons, if named { [&Reason::Name; 2] } else { by_values }, "{name}");
    }
    // Where only some leave the range, the first of them is an error, which names the option.
    let path = dir.path().join("few.mat");
    let error = message(read_split(&path, Split::Test).unwrap_err());
    contains(&error, &["test split", "recording 4, contact", "[-1, 1]", "--scaling per-recording"]);
    let options = ReadOptions { scaling: Rescale::PerRecording, ..ReadOptions::default() };
    escape_data::read_split(&path, Split::Test, &options).unwrap();
}

#[test]
fn scipy_reads_our_mat() {
    let Some(python) = python() else { return };
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ours.mat");
    let data = Dataset { sample_rate_hz: 24_414.5, ..dataset() };
    write_mat(&path, &data).unwrap();
    assert!(read(&path).unwrap() == data);
    let script = "
d = scipy.io.loadmat('ours.mat')
i = np.arange(5 * 4 * 100)
want = ((i * 7919 % 2001 - 1000) / np.float32(1000)).astype('f4').reshape(5, 400)
assert d['training_data_rat'].dtype == np.float64 and d['training_data_rat'].shape == (400, 5)
assert (d['training_data_rat'].T == want).all() and (d['test_data_rat'].T == want[[4, 2, 1]]).all()
assert d['training_data_labels'].tolist() == [[1], [2], [3], [1], [2]], d['training_data_labels']
assert d['test_data_labels'].tolist() == [[2], [3], [2]] and d['sample_rate_hz'] == 24414.5
assert b'MATLAB 5.0 MAT-file' in d['__header__'], d['__header__']
";
    run(&python, dir.path(), script);
    // A split without recordings, and another window.
    let empty = Dataset { test: data.test.head(0), ..data.clone() };
    write_mat(&path, &empty).unwrap();
    assert!(read(&path).unwrap() == empty);
    let short = crate::recordings(2, 2, 3);
    let data = Dataset {
        train: short.clone(),
        test: short,
        classes: escape_data::Classes::Open.names(),
        sample_rate_hz: 30e3,
        nerve: None,
    };
    write_mat(&path, &data).unwrap();
    assert!(read(&path).unwrap() == data);
}

/// Files that nobody here wrote: those that the package heartpy carries. They hold heart beats.
#[test]
fn other_peoples_mat_files() {
    let Some(python) = python() else { return };
    let dir = tempfile::tempdir().unwrap();
    let script = "
import importlib.metadata as m, shutil
for f in m.files('heartpy'):
    if f.suffix == '.mat':
        shutil.copy(f.locate(), f.name)
";
    run(&python, dir.path(), script);
    let held = [
        ("data.mat", "it holds hr (2483 x 1);"),
        ("data2.mat", "it holds hr (15000 x 1), timer (15000 x 1);"),
        ("data3.mat", "it holds datetime ("),
    ];
    for (name, held) in held {
        let error = message(read(&dir.path().join(name)).unwrap_err());
        contains(&error, &[name, "has no array training_data_rat or test_data_rat", held]);
    }
}

/// Files of every format, cut short at every 512th byte: an error in each case, but where only an index at the end of
/// an HDF5 file is gone that nothing refers to.
#[test]
fn cut_short_at_every_512th_byte() {
    let Some(python) = python() else { return };
    let dir = tempfile::tempdir().unwrap();
    let script = "
import h5py
d = dict(training_data_rat=x(9, 56).reshape(9, -1).T, training_data_labels=y(9)[:, None] + 1.0,
         test_data_rat=x(4, 56).reshape(4, -1).T, test_data_labels=y(4)[:, None] + 1.0)
scipy.io.savemat('plain.mat', d)
scipy.io.savemat('packed.mat', d, do_compression=True)
arrays = dict(train_x=x(9, 56), train_y=y(9), test_x=x(4, 56), test_y=y(4))
np.savez('plain.npz', **arrays)
np.savez_compressed('packed.npz', **arrays)
for name, options in (('h5.mat', {}), ('h5packed.mat', dict(compression='gzip', chunks=(2, 700)))):
    with h5py.File(name, 'w', userblock_size=512) as f:
        for key, value in d.items():
            f.create_dataset(key, data=value.T, **(options if 'rat' in key else {}))
";
    run(&python, dir.path(), script);
    for name in ["plain.mat", "packed.mat", "plain.npz", "packed.npz", "h5.mat", "h5packed.mat"] {
        let bytes = fs::read(dir.path().join(name)).unwrap();
        let options = ReadOptions::default();
        let (whole, _) = read_bytes(name, &bytes, &options).unwrap();
        assert!(whole.train == expected(9, 56), "{name}");
        for length in (0..bytes.len()).step_by(512) {
            if let Ok((data, _)) = read_bytes(name, &bytes[..length], &options) {
                assert!(
                    name.starts_with("h5") && data == whole,
                    "{length} of {} bytes of {name}",
                    bytes.len()
                );
            }
        }
    }
}
