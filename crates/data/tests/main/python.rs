use std::io::Write;
use std::path::Path;
use std::process::Command;

use escape_data::{Recordings, Split, write_npz};

use crate::{dataset, read, read_split};

/// The Python to use: `$ESCAPE_PYTHON`, or `python3`, if it has NumPy and SciPy. `None` means that the test
/// is skipped, which is printed; with `ESCAPE_REQUIRE_PYTHON=1` it is a failure.
pub fn python() -> Option<String> {
    let python = std::env::var("ESCAPE_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let imported = Command::new(&python).args(["-c", "import numpy, scipy.io"]).output();
    let problem = match imported {
        Ok(output) if output.status.success() => return Some(python),
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        Err(error) => error.to_string(),
    };
    let required = std::env::var("ESCAPE_REQUIRE_PYTHON").is_ok_and(|v| v == "1");
    let message = format!("{python} has no numpy and scipy ({problem}); set ESCAPE_PYTHON to one that has");
    assert!(!required, "{message}");
    // eprintln! would be swallowed by the test harness.
    #[allow(clippy::explicit_write)]
    writeln!(std::io::stderr(), "skipped: {message}").unwrap();
    None
}

fn run(python: &str, folder: &Path, script: &str) {
    let output = Command::new(python).args(["-c", script]).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// What the scripts below write: value i is (i * 769 % 2049) / 1024 - 1, labels 0, 1, 2, 0, ...
fn expected(n: usize, contacts: usize) -> Recordings {
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
    run(&python, dir.path(), &format!("{PREAMBLE}{script}"));
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
    run(&python, dir.path(), &format!("{PREAMBLE}{script}"));
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
