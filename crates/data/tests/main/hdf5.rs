use std::collections::HashMap;
use std::fs;

use escape_data::{Note, ReadOptions, Split, read_bytes};

use crate::python::{expected, python, run};
use crate::{contains, message, read, read_split};

/// Files that h5py writes; `save(name, libver, type of the values, options of the data set)`. MATLAB's own have a block
/// of 512 bytes in front and HDF5's oldest structures, which is `libver=None`.
const SCRIPT: &str = "
import h5py
HEAD = b'MATLAB 7.3 MAT-file, Platform: GLNXA64'.ljust(124) + bytes([0, 2]) + b'IM'
def save(name, libver=None, kind='f8', userblock=512, column=True, rows=(7, 4), extra=0, h=56, **options):
    with h5py.File(name, 'w', userblock_size=userblock, libver=libver) as f:
        for i in range(extra):
            f['extra%d' % i] = i
        for split, n in zip(('training', 'test'), rows):
            values = f.create_dataset(split + '_data_rat', data=x(n, h).reshape(n, -1).astype(kind), **options)
            values.attrs['MATLAB_class'] = np.bytes_('double')
            labels = (y(n) + 1.0)[None] if column else (y(n) + 1)[:, None].astype('u1')
            f[split + '_data_labels'] = labels
        f.create_group('#refs#')['a'] = np.arange(4)
    if userblock:
        with open(name, 'r+b') as f:
            f.write(HEAD)
";

const GRID: &str = "
chunks = dict(chunks=(3, 1000))
gzip = dict(compression='gzip', **chunks)
save('contiguous.mat')
save('row.mat', column=False)
save('big.mat', kind='>f8')
save('single.mat', kind='f4', **gzip)
save('plain_chunks.mat', **chunks)
save('gzip.mat', **gzip)
save('shuffle.mat', shuffle=True, **gzip)
save('shuffle_only.mat', shuffle=True, **chunks)
save('checked.mat', fletcher32=True, **gzip)
save('checked_only.mat', fletcher32=True, **chunks)
save('all.mat', shuffle=True, fletcher32=True, **gzip)
save('big_gzip.mat', kind='>f8', **gzip)
save('userblock.mat', userblock=2048, **gzip)
save('none.h5', userblock=0, **gzip)
save('many.mat', extra=300, **gzip)
save('narrow.mat', chunks=(2, 1), compression='gzip')
save('growing.mat', maxshape=(None, 5600), **gzip)
for libver in ('latest', 'v108', 'v110'):
    name = lambda what: '%s_%s.mat' % (libver, what)
    v = (libver, libver)
    save(name('contiguous'), v)
    save(name('chunks'), v, **chunks)
    save(name('gzip'), v, shuffle=True, fletcher32=True, **gzip)
    save(name('one'), v, chunks=(4, 5600), rows=(4, 4))
    save(name('one_gzip'), v, chunks=(4, 5600), rows=(4, 4), compression='gzip')
    save(name('bounded'), v, maxshape=(20, 5600), **gzip)
    # More chunks than a page of a fixed array has.
    save(name('pages'), v, chunks=(1, 30), compression='gzip')
    save(name('pages_plain'), v, chunks=(1, 30))
";

#[test]
fn what_h5py_writes() {
    let Some(python) = python() else { return };
    let dir = tempfile::tempdir().unwrap();
    run(&python, dir.path(), &format!("{SCRIPT}{GRID}"));
    let mut count = 0;
    for entry in fs::read_dir(dir.path()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let data = read(&path).unwrap_or_else(|e| panic!("{name}: {}", message(e)));
        let n = if name.contains("_one") { 4 } else { 7 };
        assert!(data.train == expected(n, 56) && data.test == expected(4, 56), "{name}");
        assert!(read_split(&path, Split::Test).unwrap() == data.test, "{name}");
        let bytes = fs::read(&path).unwrap();
        let (again, notes) = read_bytes(&name, &bytes, &ReadOptions::default()).unwrap();
        assert!(again == data, "{name}");
        let assumed =
            Note::AssumedSamples { name: "training_data_rat".to_owned(), values: 5600, contacts: 56 };
        assert_eq!(notes, [Note::Format { format: "MATLAB level 7.3 (HDF5)".to_owned() }, assumed]);
        count += 1;
    }
    assert_eq!(count, 17 + 3 * 8);
}

/// Sound files of kinds that are not read say which, and what to do.
#[test]
fn what_is_not_read_is_named() {
    let Some(python) = python() else { return };
    let dir = tempfile::tempdir().unwrap();
    let script = "
gzip = dict(compression='gzip', chunks=(3, 1000))
save('lzf.mat', compression='lzf', chunks=(3, 1000))
save('growing.mat', ('latest', 'latest'), maxshape=(None, 5600), **gzip)
save('dense.mat', ('latest', 'latest'), extra=9)
save('scaled.mat', kind='i4', scaleoffset=4, chunks=(3, 1000))
def one(name, make):
    with h5py.File(name, 'w') as f:
        f['test_data_labels'] = np.ones((1, 4))
        make(f)
def structure(f): f.create_group('test_data_rat')['a'] = 1
def external(f): f.create_dataset('test_data_rat', (4, 5600), 'f8', external=[('values.raw', 0, 179200)])
def virtual(f): f.create_virtual_dataset('test_data_rat', h5py.VirtualLayout((4, 5600), 'f8'))
one('structure.mat', structure)
one('external.mat', external)
one('virtual.mat', virtual)
one('empty.mat', lambda f: f.create_dataset('test_data_rat', (4, 5600), 'f8'))
one('holes.mat', lambda f: f.create_dataset('test_data_rat', (4, 5600), 'f8', chunks=(2, 700)).__setitem__((3, 9), 1))
one('complex.mat', lambda f: f.create_dataset('test_data_rat', data=np.zeros((4, 5600), complex)))
one('text.mat', lambda f: f.create_dataset('test_data_rat', data='a rat'))
one('bool.mat', lambda f: f.create_dataset('test_data_rat', data=np.zeros((4, 5600), bool)))
one('words.mat', lambda f: f.create_dataset('test_data_rat', data=['a', 'rat'], dtype=h5py.string_dtype()))
one('turned.mat', lambda f: f.create_dataset('test_data_rat', data=x(4, 56).reshape(4, -1).T))
one('cube.mat', lambda f: f.create_dataset('test_data_rat', data=x(4, 56)))
one('none.mat', lambda f: None)
";
    run(&python, dir.path(), &format!("{SCRIPT}{script}"));
    let said: HashMap<&str, &[&str]> = HashMap::from([
        ("lzf.mat", &["the filter LZF", "save it anew"][..]),
        ("growing.mat", &["an array that may grow", "libver"]),
        ("dense.mat", &["more than 8", "libver"]),
        ("scaled.mat", &["the filter scale-offset"]),
        ("structure.mat", &["got a group (a structure"]),
        ("external.mat", &["another file"]),
        ("virtual.mat", &["a virtual array"]),
        ("empty.mat", &["never written"]),
        ("holes.mat", &["chunk 0 of 16 was never written"]),
        ("complex.mat", &["got compounds (complex"]),
        ("text.mat", &["wrong element type of test_data_rat"]),
        ("bool.mat", &["recording 0 is constant (0 throughout)"]),
        ("words.mat", &["wrong element type of test_data_rat", "got text"]),
        ("turned.mat", &["got 4 x 5600", "transpose"]),
        ("cube.mat", &["got 100 x 56 x 4"]),
        ("none.mat", &["has no array test_data_rat", "it holds test_data_labels"]),
    ]);
    for (name, parts) in said {
        let error = read_split(&dir.path().join(name), Split::Test).unwrap_err();
        contains(&message(error), &[&[name][..], parts].concat());
    }
}
