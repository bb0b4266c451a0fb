//! Files as people have them: one test for each kind of surprise.

use std::fs;
use std::path::{Path, PathBuf};

use escape_data::{
    BadContacts, DataError, Dataset, LabelForm, Nerve, Note, ReadOptions, Reason, Rescale, Split, read_bytes,
    write_mat, write_npz,
};

use crate::python::{python, run};
use crate::{contains, dataset, message, recordings};

/// Reads a file with options that a closure sets.
fn read_with(path: &Path, set: impl FnOnce(&mut ReadOptions)) -> Result<(Dataset, Vec<Note>), DataError> {
    let mut options = ReadOptions::default();
    set(&mut options);
    escape_data::read(path, &options)
}

/// A file of this repository; `files/README.md` says what made it.
fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/files").join(name)
}

fn texts(notes: &[Note]) -> String {
    notes.iter().map(|note| format!("{note}\n")).collect()
}

/// What Python writes below: value i is (i * 769 % 2049) / 1024 - 1, labels 0, 1, 2, 0, ...
fn expected(n: usize, contacts: usize, samples: usize) -> Vec<f32> {
    (0..n * contacts * samples).map(|i| ((i * 769 % 2049) as f64 / 1024.0 - 1.0) as f32).collect()
}

/// Objects of MATLAB's own classes beside the recordings.
#[test]
fn objects_are_left_aside() {
    for (name, class) in [("string.mat", "string"), ("table.mat", "table")] {
        let (data, notes) = read_with(&file(name), |_| {}).unwrap();
        assert_eq!((data.train.len(), data.test.len(), data.train.contacts), (6, 6, 1));
        contains(&texts(&notes), &["left aside: ", &format!("a MATLAB object of class {class}")]);
    }
}

#[test]
fn level_4_in_every_type() {
    let matrix = |kind: u32, big: bool, name: &str, dims: [u32; 2], data: &[u8]| {
        let words = [kind + if big { 1000 } else { 0 }, dims[0], dims[1], 0, name.len() as u32 + 1];
        let words = words.map(|word| if big { word.to_be_bytes() } else { word.to_le_bytes() });
        [&words.concat()[..], name.as_bytes(), &[0], data].concat()
    };
    let x: Vec<f64> = (0..400).map(|i| f64::from(i % 7) / 4.0 - 0.75).collect();
    let read = |bytes: &[u8]| read_bytes("a.mat", bytes, &ReadOptions::default());
    for big in [false, true] {
        let doubles = |values: &[f64]| -> Vec<u8> {
            values.iter().flat_map(|v| if big { v.to_be_bytes() } else { v.to_le_bytes() }).collect()
        };
        let y = matrix(0, big, "test_data_labels", [2, 1], &doubles(&[2.0, 3.0]));
        let text = matrix(51, big, "remark", [1, 5], b"a rat");
        let file =
            [text.clone(), matrix(0, big, "test_data_rat", [200, 2], &doubles(&x)), y.clone()].concat();
        let (data, notes) = read(&file).unwrap();
        assert_eq!((data.test.contacts, &data.test.y[..]), (2, &[1, 2][..]));
        assert!(data.test.x.iter().zip(&x).all(|(a, b)| f64::from(*a) == *b));
        contains(&texts(&notes), &["level 4", if big { "big-endian" } else { "little-endian" }]);
        // Whole numbers of the other types; they are scaled as raw ones.
        let counts: Vec<u32> = (0..400).map(|i| i % 90).collect();
        type Written<'a> = (u32, &'a dyn Fn(u32) -> Vec<u8>);
        let kinds: [Written<'_>; 4] = [
            (10, &|v| if big { (v as f32).to_be_bytes().into() } else { (v as f32).to_le_bytes().into() }),
            (20, &|v| if big { v.to_be_bytes().into() } else { v.to_le_bytes().into() }),
            (30, &|v| if big { (v as i16).to_be_bytes().into() } else { (v as i16).to_le_bytes().into() }),
            (50, &|v| vec![v as u8]),
        ];
        for (kind, write) in kinds {
            let bytes: Vec<u8> = counts.iter().flat_map(|&v| write(v)).collect();
            let file = [matrix(kind, big, "test_data_rat", [200, 2], &bytes), y.clone()].concat();
            let (data, notes) = read(&file).unwrap();
            assert_eq!(data.test.x[..3], [-1.0, 2.0 / 89.0 - 1.0, 4.0 / 89.0 - 1.0]);
            assert!(notes.iter().any(|note| matches!(note, Note::Scaled { .. })), "{kind}");
        }
        // Sparse matrices and cut files are named.
        let sparse = matrix(2, big, "test_data_rat", [3, 3], &doubles(&[0.0; 9]));
        contains(&message(read(&[sparse, y.clone()].concat()).unwrap_err()), &["sparse matrix", "full"]);
        contains(
            &message(read(&file[..file.len() - 9]).unwrap_err()),
            &["test_data_labels declares 16 bytes"],
        );
    }
    assert_eq!(read_with(&file("level4.mat"), |_| {}).unwrap().0.train.len(), 6);
}

/// What MATLAB marks as empty, and text, in level 7.3; a group for each variable, as Octave has it.
#[test]
fn hdf5_of_matlab_and_octave() {
    let (data, _) = read_with(&file("v73_empty_test.mat"), |_| {}).unwrap();
    assert_eq!((data.train.len(), data.test.len(), data.test.contacts), (6, 0, data.train.contacts));
    let (data, _) = read_with(&file("v73_text_labels.mat"), |_| {}).unwrap();
    assert_eq!(data.train.y, [0, 1, 2, 0, 1, 2]);
    let (data, notes) = read_with(&file("octave_hdf5.mat"), |_| {}).unwrap();
    assert_eq!((data.train.len(), &data.train.y[..3]), (6, &[0, 1, 2][..]));
    contains(&texts(&notes), &["Octave"]);
}

/// Labels as names, numbers in text, one-hot, in each format that can hold them.
#[test]
fn labels_in_every_form() {
    let Some(python) = python() else { return };
    let dir = tempfile::tempdir().unwrap();
    let script = "
import h5py
classes = ['dorsiflexion', 'Plantarflexion', 'pricking']
names = [classes[i] for i in y(7)]
hot = np.eye(3)[y(7)]
v = x(7, 2)
np.savez('names.npz', test_x=v, test_y=np.array(names))
np.savez('bytes.npz', test_x=v, test_y=np.array(names, dtype='S'))
np.savez('numbers.npz', test_x=v, test_y=np.array([str(i) for i in y(7)]))
np.savez('hot.npz', test_x=v, test_y=hot)
np.savez('hot_f.npz', test_x=v, test_y=np.asfortranarray(hot))
np.savez('hot_bool.npz', test_x=v, test_y=hot.astype(bool))
np.savez('hot_turned.npz', test_x=v, test_y=hot.T.astype('i1'))
def mat(name, labels, **o):
    scipy.io.savemat(name, dict(test_data_rat=v.reshape(7, -1).T, test_data_labels=labels), **o)
cells = np.empty((7, 1), object)
cells[:, 0] = names
mixed = np.empty((1, 7), object)
mixed[0, :] = [str(i + 1) for i in y(7)]
for o, end in ((dict(), ''), (dict(do_compression=True), '_z')):
    mat('chars%s.mat' % end, np.array([n.ljust(14) for n in names]), **o)
    mat('cells%s.mat' % end, cells, **o)
    mat('cell_numbers%s.mat' % end, mixed, **o)
    mat('hot%s.mat' % end, hot, **o)
    mat('hot_turned%s.mat' % end, hot.T, **o)
mat('chars4.mat', np.array([n.ljust(14) for n in names]), format='4')
mat('hot4.mat', hot, format='4')
def h5(name, make):
    with h5py.File(name, 'w') as f:
        f['test_data_rat'] = v.reshape(7, -1)
        make(f)
def chars(f, text):
    d = f.create_dataset('test_data_labels', data=np.array([[ord(c) for c in t.ljust(14)] for t in text], 'u2').T)
    d.attrs['MATLAB_class'] = np.bytes_('char')
def cell(f):
    refs = []
    for i, n in enumerate(names):
        d = f.create_dataset('#refs#/c%d' % i, data=np.array([[ord(c)] for c in n], 'u2'))
        d.attrs['MATLAB_class'] = np.bytes_('char')
        refs.append(d.ref)
    d = f.create_dataset('test_data_labels', data=np.array([refs], h5py.ref_dtype))
    d.attrs['MATLAB_class'] = np.bytes_('cell')
h5('chars73.mat', lambda f: chars(f, names))
h5('cells73.mat', cell)
h5('hot73.mat', lambda f: f.create_dataset('test_data_labels', data=hot.T))
h5('fixed73.mat', lambda f: f.create_dataset('test_data_labels', data=np.array(names, 'S')))
def octave(name, labels):
    with h5py.File(name, 'w') as f:
        def put(key, kind, value):
            g = f.create_group(key)
            g.attrs['OCTAVE_NEW_FORMAT'] = np.uint8(1)
            g['type'] = np.bytes_(kind)
            if isinstance(value, list):
                v = g.create_group('value')
                for i, text in enumerate(value):
                    e = v.create_group('_%d' % i)
                    e.attrs['OCTAVE_NEW_FORMAT'] = np.uint8(1)
                    e['type'] = np.bytes_('string')
                    e['value'] = np.array([[ord(c)] for c in text], 'i1')
            else:
                g['value'] = value
        put('test_data_rat', 'matrix', v.reshape(7, -1))
        put('test_data_labels', *labels)
octave('octave_cells.mat', ('cell', names))
octave('octave_chars.mat', ('string', np.array([[ord(c) for c in n.ljust(14)] for n in names], 'i1').T))
";
    run(&python, dir.path(), script);
    let mut count = 0;
    for entry in fs::read_dir(dir.path()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let (data, notes) = read_with(&path, |_| {}).unwrap_or_else(|e| panic!("{name}: {}", message(e)));
        assert_eq!(data.test.y, [0, 1, 2, 0, 1, 2, 0], "{name}");
        assert!(data.test.x == expected(7, 2, 100), "{name}");
        let form = notes.iter().find_map(|note| match note {
            Note::LabelsAs { form, .. } => Some(*form),
            _ => None,
        });
        let numbers = name.contains("numbers");
        let hot = name.starts_with("hot");
        let want = if numbers {
            None
        } else if hot {
            Some(LabelForm::OneHot)
        } else {
            Some(LabelForm::Names)
        };
        assert_eq!(form, want, "{name}");
        count += 1;
    }
    assert_eq!(count, 7 + 10 + 2 + 4 + 2);
    // What is none.
    let script = "
v = x(4, 2)
np.savez('two.npz', test_x=v, test_y=np.array([[1, 0, 0], [0, 1, 1], [0, 0, 1], [1, 0, 0]]))
np.savez('walk.npz', test_x=v, test_y=np.array(['pricking', 'walking', 'pricking', 'pricking']))
np.savez('objects.npz', test_x=v, test_y=np.array([None, 1, 'a', 2], object))
np.savez('square.npz', test_x=x(3, 2), test_y=np.eye(3))
scipy.io.savemat('deep.mat', dict(test_data_rat=v.reshape(4, -1).T, test_data_labels=np.array([np.zeros((2, 2)), 'a', 'b', 'c'], object)))
";
    let dir = tempfile::tempdir().unwrap();
    run(&python, dir.path(), script);
    let error = |name: &str| message(read_with(&dir.path().join(name), |_| {}).unwrap_err());
    contains(&error("two.npz"), &["label 1 is 0, 1, 1", "single 1"]);
    contains(&error("walk.npz"), &["\"walking\"", "dorsiflexion"]);
    contains(&error("objects.npz"), &["test_y", "Python objects"]);
    contains(&error("square.npz"), &["3 x 3", "by rows or by columns"]);
    contains(&error("deep.mat"), &["cell 0 of test_data_labels", "an array of numbers"]);
}

/// Dimensions in any order, flat or not, in every format.
#[test]
fn axes_and_windows() {
    let Some(python) = python() else { return };
    let dir = tempfile::tempdir().unwrap();
    let script = "
import h5py, itertools
v = (np.arange(5 * 4 * 30) * 769 % 2049 / 1024 - 1).reshape(5, 4, 30)
t = y(5)
for order in itertools.permutations('NCS'):
    w = v.transpose(['NCS'.index(c) for c in order])
    name = ','.join(order)
    np.savez(name + '.npz', test_x=w, test_y=t)
    np.savez(name + '_f.npz', test_x=np.asfortranarray(w), test_y=t)
    scipy.io.savemat(name + '.mat', dict(test_data_rat=w, test_data_labels=t + 1))
    with h5py.File(name + '_73.mat', 'w') as f:
        f.create_dataset('test_data_rat', data=w.transpose(), chunks=(2, 3, 2), compression='gzip')
        f['test_data_labels'] = t + 1
flat = v.reshape(5, -1)
np.savez('flat.npz', test_x=flat, test_y=t)
np.savez('flat_told.npz', test_x=flat, test_y=t, samples=30)
scipy.io.savemat('flat.mat', dict(test_data_rat=flat.T, test_data_labels=t + 1))
scipy.io.savemat('told.mat', dict(test_data_rat=flat.T, test_data_labels=t + 1, samples=30.0))
scipy.io.savemat('contacts.mat', dict(test_data_rat=flat.T, test_data_labels=t + 1, contacts=4.0))
# What reshape(x, [], N) of contacts x samples x N gives, and recordings as rows.
scipy.io.savemat('natural.mat', dict(test_data_rat=v.transpose(0, 2, 1).reshape(5, -1).T, test_data_labels=t + 1))
scipy.io.savemat('rows.mat', dict(test_data_rat=flat, test_data_labels=t + 1))
";
    run(&python, dir.path(), script);
    let want = expected(5, 4, 30);
    let check = |name: &str, axes: Option<&str>, samples: Option<usize>| {
        let set = |options: &mut ReadOptions| {
            options.axes = axes.map(|axes| axes.parse().unwrap());
            options.samples = samples;
        };
        let (data, notes) =
            read_with(&dir.path().join(name), set).unwrap_or_else(|e| panic!("{name}: {}", message(e)));
        assert_eq!((data.test.contacts, data.test.samples), (4, 30), "{name}");
        assert!(data.test.x == want, "{name}");
        assert!(!notes.iter().any(|note| matches!(note, Note::AssumedSamples { .. })), "{name}");
    };
    for axes in ["N,C,S", "N,S,C", "C,N,S", "C,S,N", "S,N,C", "S,C,N"] {
        for end in [".npz", "_f.npz", ".mat", "_73.mat"] {
            check(&format!("{axes}{end}"), Some(axes), None);
        }
    }
    check("flat.npz", None, Some(30));
    check("flat_told.npz", None, None);
    check("flat.mat", None, Some(30));
    check("told.mat", None, None);
    check("contacts.mat", None, None);
    check("natural.mat", Some("C,S,N"), Some(30));
    check("rows.mat", Some("N,S,C"), Some(30));
    let error = |name: &str, samples: Option<usize>| {
        message(read_with(&dir.path().join(name), |options| options.samples = samples).unwrap_err())
    };
    contains(&error("flat.mat", Some(50)), &["120 values", "windows of 50 samples", "--samples"]);
    contains(&error("flat.npz", None), &["got 5 x 120", "--samples"]);
    contains(&error("C,S,N.mat", None), &["got 4 x 30 x 5", "--axes"]);
    contains(&error("N,S,C.npz", Some(30)), &["4 samples a contact", "--axes N,S,C"]);
}

/// Arrays of any name, in structures too.
#[test]
fn arrays_by_name() {
    let Some(python) = python() else { return };
    let dir = tempfile::tempdir().unwrap();
    let script = "
import h5py
flat = x(4, 2).reshape(4, -1).T
labels = y(4) + 1
rat = dict(name='a rat', trials=dict(left=0.0, ecap=flat, class_=labels))
for o, end in ((dict(), ''), (dict(do_compression=True), '_z')):
    scipy.io.savemat('struct%s.mat' % end, dict(rat=rat, other=1.0), **o)
with h5py.File('struct73.mat', 'w') as f:
    f['rat/trials/ecap'] = flat.T
    f['rat/trials/class_'] = labels[None]
    f['rat'].attrs['MATLAB_class'] = np.bytes_('struct')
    f['rat/trials'].attrs['MATLAB_class'] = np.bytes_('struct')
with h5py.File('octave.mat', 'w') as f:
    def group(at, kind):
        g = f.require_group(at)
        g.attrs['OCTAVE_NEW_FORMAT'] = np.uint8(1)
        g['type'] = np.bytes_(kind)
        return g
    group('rat', 'scalar struct')
    group('rat/value/trials', 'scalar struct')
    group('rat/value/trials/value/ecap', 'matrix')['value'] = flat.T
    group('rat/value/trials/value/class_', 'matrix')['value'] = labels[None].astype('f8')
np.savez('plain.npz', data=x(4, 2), target=y(4), more=x(3, 2), more_y=y(3))
np.save('data.npy', x(4, 2))
np.save('target.npy', y(4))
";
    run(&python, dir.path(), script);
    let named = |name: &str, x: &str, y: &str| {
        let list = |text: &str| text.split(',').map(str::to_owned).collect();
        read_with(&dir.path().join(name), |options| (options.x, options.y) = (list(x), list(y)))
    };
    for name in ["struct.mat", "struct_z.mat", "struct73.mat", "octave.mat"] {
        let (data, _) = named(name, "rat.trials.ecap", "rat.trials.class_")
            .unwrap_or_else(|e| panic!("{name}: {}", message(e)));
        assert!(data.train.x == expected(4, 2, 100) && data.train.y == [0, 1, 2, 0], "{name}");
        assert!(data.test.is_empty());
        let error = message(named(name, "rat.trials.ecg", "rat.trials.class_").unwrap_err());
        contains(&error, &["no array rat.trials.ecg", "a structure of", "trials"]);
    }
    let error = message(read_with(&dir.path().join("struct.mat"), |_| {}).unwrap_err());
    contains(&error, &["rat (a structure of name, trials), other (1 x 1)", "--x NAME --y NAME"]);
    let (data, _) = named("plain.npz", "data,more", "target,more_y").unwrap();
    assert!(data.train.x == expected(4, 2, 100) && data.test.x == expected(3, 2, 100));
    let options = ReadOptions { x: vec!["data".into()], y: vec!["target".into()], ..ReadOptions::default() };
    let (test, ..) = escape_data::read_split(&dir.path().join("plain.npz"), Split::Test, &options).unwrap();
    assert!(test.x == expected(4, 2, 100));
    for name in ["", "data.npy"] {
        let (data, _) = named(name, "data", "target").unwrap();
        assert!(data.train.x == expected(4, 2, 100));
    }
    let error = message(named("plain.npz", "data,more", "target").unwrap_err());
    contains(&error, &["2 arrays of recordings and 1 of labels"]);
}

/// Counts of a converter of any width, volts, millivolts and microvolts.
#[test]
fn units_are_told_by_amplitude() {
    let Some(python) = python() else { return };
    let dir = tempfile::tempdir().unwrap();
    let script = "
base = (x(6, 4) * 120).round()
def save(name, v): np.savez(name, test_x=v, test_y=y(6))
for kind in ('i1', 'i2', 'i4', 'i8'):
    save(kind + '.npz', base.astype(kind))
for kind in ('u1', 'u2', 'u4', 'u8'):
    save(kind + '.npz', (base + 120).astype(kind))
save('volts.npz', base * 1e-6)
save('volts32.npz', (base * 1e-6).astype('f4'))
save('millivolts.npz', base * 1e-3)
save('want.npz', base)
whole = base / 120
save('loud.npz', whole)
one = whole * 0.3
one[2] = whole[2]
save('globally.npz', one)
";
    run(&python, dir.path(), script);
    let read =
        |name: &str, scaling| read_with(&dir.path().join(name), |options| options.scaling = scaling).unwrap();
    let (want, _) = read("want.npz", Rescale::Auto);
    for kind in ["i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "volts", "volts32", "millivolts"] {
        let (data, notes) = read(&format!("{kind}.npz"), Rescale::Auto);
        let close = data.test.x.iter().zip(&want.test.x).all(|(a, b)| (a - b).abs() < 1e-5);
        assert!(close && data.test.x.contains(&1.0), "{kind}");
        let small = notes.iter().any(|n| matches!(n, Note::Scaled { reason: Reason::Small { .. }, .. }));
        assert_eq!(small, kind.contains("volts"), "{kind}");
    }
    let (kept, notes) = read("volts.npz", Rescale::None);
    assert!(kept.test.x.iter().all(|v| v.abs() < 2e-4) && !texts(&notes).contains("scaled"));
    for name in ["loud.npz", "globally.npz"] {
        assert!(!texts(&read(name, Rescale::Auto).1).contains("scaled"), "{name}");
    }
}

/// Recordings within [-1, 1] that were not stretched to it are taken as they are, and that is said.
#[test]
fn what_was_not_stretched_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("d.npz");
    let said = |change: &dyn Fn(usize, f32) -> f32, scaling| {
        let mut data = Dataset { train: recordings(12, 4, 100), ..dataset() };
        data.train.x.iter_mut().enumerate().for_each(|(i, v)| *v = change(i / 400, *v));
        write_npz(&path, &data).unwrap();
        let (_, notes) = read_with(&path, |options| options.scaling = scaling).unwrap();
        texts(&notes)
    };
    let half = |_, v: f32| (v + 1.0) / 2.0;
    contains(
        &said(&half, Rescale::Auto),
        &[
            "train: values are taken as they are",
            "most of the 12 recordings",
            "spans 0.997 of 2",
            "--scaling per-recording",
            "--scaling none",
        ],
    );
    let some = |n: usize, v: f32| if n.is_multiple_of(6) { v * 1e-3 } else { v };
    contains(&said(&some, Rescale::Auto), &["but 2 of 12 span less than a tenth of the median one"]);
    for (change, scaling) in [
        (&half as &dyn Fn(usize, f32) -> f32, Rescale::None),
        (&half, Rescale::PerRecording),
        (&|_, v| v, Rescale::Auto),
    ] {
        assert!(!said(change, scaling).contains("as they are"));
    }
    let spikes = said(&|_, v| if v > 0.5 { 1.0 } else { 0.0 }, Rescale::Auto);
    contains(&spikes, &["train: every value is 0 or 1"]);
}

/// Doubles beyond what a float32 holds are refused with their place; one among others is a broken value.
#[test]
fn doubles_beyond_float32() {
    let Some(python) = python() else { return };
    let dir = tempfile::tempdir().unwrap();
    let script = "
base = x(6, 4)
np.savez('large.npz', test_x=base * 1e300, test_y=y(6))
np.savez('small.npz', test_x=base * 1e-300, test_y=y(6))
base[4, 2, 7] = -1e300
np.savez('one.npz', test_x=base, test_y=y(6))
";
    run(&python, dir.path(), script);
    let read =
        |name: &str, drop_bad| read_with(&dir.path().join(name), |options| options.drop_bad = drop_bad);
    for (name, part) in [("large", "beyond what a float32"), ("small", "below what a float32")] {
        let error = message(read(&format!("{name}.npz"), false).unwrap_err());
        contains(&error, &["test split", "recording 0, contact", part, "another unit"]);
    }
    let error = message(read("one.npz", false).unwrap_err());
    contains(&error, &["recording 4, contact 2, sample 7 is -1e300", "beyond what a float32"]);
    assert_eq!(read("one.npz", true).unwrap().0.test.len(), 5);
}

/// Rows that are recordings in MATLAB, in both orders of their values; what the file's own numbers make of them.
#[test]
fn orders_of_flat_rows_are_told() {
    let Some(python) = python() else { return };
    let dir = tempfile::tempdir().unwrap();
    let script = "
t = np.arange(100) * 0.25 + np.arange(8)[:, None] * 0.5
w = np.sin(t + np.arange(16)[:, None, None])
def save(name, v, **more): scipy.io.savemat(name, dict(test_data_rat=v, test_data_labels=y(16) + 1, **more))
save('rows.mat', w.reshape(16, -1))
save('turned.mat', w.transpose(0, 2, 1).reshape(16, -1))
save('told.mat', w.reshape(16, -1).T, samples=200.0)
np.savez('cube.npz', test_x=w.transpose(1, 2, 0), test_y=y(16), contacts=np.ones((8, 3)) * np.arange(3))
np.savez('positions.npz', test_x=w, test_y=y(16), contacts=np.ones((8, 3)) * np.arange(3),
    sample_rate_hz=np.full(16, 24000.0))
np.savez('units.npz', test_x=w, test_y=y(16), sample_rate_hz=np.array('30 kHz'))
np.savez('none.npz', test_x=w[:0], test_y=y(0))
";
    run(&python, dir.path(), script);
    let read = |name: &str, axes: &str| {
        read_with(&dir.path().join(name), |options| options.axes = axes.parse().ok())
    };
    contains(&message(read("rows.mat", "").unwrap_err()), &["--axes N,S,C", "N,C,S (sample after sample)"]);
    for (name, right, wrong) in [("rows.mat", "N,S,C", "N,C,S"), ("turned.mat", "N,C,S", "N,S,C")] {
        let (_, notes) = read(name, wrong).unwrap();
        contains(&texts(&notes), &["fits clearly better", &format!("--axes {right}")]);
        let (data, notes) = read(name, right).unwrap();
        assert!(!texts(&notes).contains("fits clearly better"));
        assert_eq!((data.test.contacts, data.test.samples), (8, 100));
    }
    let (data, notes) = read("told.mat", "").unwrap();
    assert_eq!((data.test.contacts, data.test.samples), (4, 200));
    contains(&texts(&notes), &["4 contacts x 200 samples, as `samples` in the file says"]);
    let error = message(read("cube.npz", "").unwrap_err());
    contains(&error, &["8 recordings but 16 labels", "8 x 100 x 16", "--axes C,S,N"]);
    assert_eq!(read("cube.npz", "C,S,N").unwrap().0.test.len(), 16);
    let (data, notes) = read("positions.npz", "").unwrap();
    assert_eq!(data.sample_rate_hz, 24e3);
    contains(&texts(&notes), &["contacts is 8 x 3 different numbers, expected one number"]);
    let (_, notes) = read("units.npz", "").unwrap();
    contains(&texts(&notes), &["sample_rate_hz is text", "30000 Hz assumed"]);
    contains(&message(read("none.npz", "").unwrap_err()), &["no split has a recording"]);
}

/// Elements of arrays of structures, lists of recordings, and files of Octave's own.
#[test]
fn other_containers_are_named() {
    let Some(python) = python() else { return };
    let dir = tempfile::tempdir().unwrap();
    let script = "
import gzip, h5py
v = x(4, 2)
inner = np.zeros((1, 2), dtype=[('x', object), ('y', object)])
for i in (0, 1): inner[0, i]['x'], inner[0, i]['y'] = v[i * 2:][:2].reshape(2, -1).T, y(2) + 1
scipy.io.savemat('s.mat', dict(s=dict(inner=inner), t=inner))
text = b'# Created by Octave 8.4.0'
open('text.mat', 'wb').write(text)
open('binary.mat', 'wb').write(b'Octave-1-L' + bytes(100))
open('zip.mat', 'wb').write(gzip.compress(text))
np.savez('object.npz', train_x=v.astype(object), train_y=y(4))
with h5py.File('b.h5', 'w') as f:
    f['train_x'] = v
    f['train_y'] = np.eye(3, dtype=bool)[y(4)]
# Texts of any length, so many that they fill several heaps.
names = ['dorsiflexion', 'plantarflexion', 'pricking']
for name, more in (('plain', {}), ('chunks', dict(chunks=(70,), compression='gzip', shuffle=True))):
    with h5py.File(name + '.h5', 'w') as f:
        f['train_x'] = x(600, 1)
        f.create_dataset('train_y', data=[names[i] for i in y(600)], dtype=h5py.string_dtype(), **more)
    with h5py.File('fixed_' + name + '.h5', 'w') as f:
        f['train_x'] = x(600, 1)
        f.create_dataset('train_y', data=np.array(names)[y(600)].astype('S'), **more)
whole = open('plain.h5', 'rb').read()
at = whole.index(b'plantarflexion')
open('cut.h5', 'wb').write(whole[:at - 16] + bytes([255, 255]) + whole[at - 14:])
";
    run(&python, dir.path(), script);
    let read = |name: &str, x: &str, y: &str| {
        read_with(&dir.path().join(name), |options| {
            let list = |names: &str| names.split(',').filter(|n| !n.is_empty()).map(String::from).collect();
            (options.x, options.y) = (list(x), list(y));
        })
    };
    let (data, _) = read("s.mat", "s.inner(1).x,t(2).x", "s.inner(1).y,t(2).y").unwrap();
    let all = expected(4, 2, 100);
    assert!(data.train.x == all[..400] && data.test.x == all[400..] && data.train.y == [0, 1]);
    let error = message(read("s.mat", "s.inner.x", "s.inner.y").unwrap_err());
    contains(&error, &["s.inner.y: an array of 2 structures (1 x 2)", "(1).y", "cannot read"]);
    contains(&message(read("s.mat", "t(3).x", "t(3).y").unwrap_err()), &["2 structures"]);
    for name in ["text.mat", "binary.mat", "zip.mat"] {
        contains(&message(read(name, "", "").unwrap_err()), &["Octave", "save -v7 or save -hdf5"]);
    }
    contains(&message(read("object.npz", "", "").unwrap_err()), &["numpy.stack(...), text with dtype=str"]);
    assert_eq!(read("b.h5", "", "").unwrap().0.train.y, [0, 1, 2, 0]);
    for name in ["plain.h5", "chunks.h5", "fixed_plain.h5", "fixed_chunks.h5"] {
        let (data, _) = read(name, "", "").unwrap();
        assert!(data.train.y.iter().zip((0..3).cycle()).all(|(a, b)| *a == b) && data.train.len() == 600);
    }
    contains(&message(read("cut.h5", "", "").unwrap_err()), &["damaged", "train_y", "not in its heap"]);
}

/// A broken electrode, in all recordings or in some.
#[test]
fn broken_contacts() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("d.npz");
    let mut data = Dataset { train: recordings(5, 6, 100), test: recordings(3, 6, 100), ..dataset() };
    for split in [&mut data.train, &mut data.test] {
        for n in 0..split.len() {
            split.x[n * 600 + 217] = f32::NAN;
            split.x[n * 600 + 400..n * 600 + 500].fill(0.25);
        }
    }
    write_npz(&path, &data).unwrap();
    let read = |how, drop_bad| {
        read_with(&path, |options| (options.bad_contacts, options.drop_bad) = (how, drop_bad))
    };
    let error = message(read(BadContacts::Refuse, false).unwrap_err());
    contains(&error, &["train split", "contact 2 holds NaN", "--bad-contacts zero or mean"]);
    let error = message(read(BadContacts::Refuse, true).unwrap_err());
    contains(&error, &["nothing is left of 5 recordings", "5 with NaN", "--bad-contacts"]);
    let (mean, notes) = read(BadContacts::Mean, false).unwrap();
    contains(
        &texts(&notes),
        &["train: replaced by their neighbours' mean: contacts 2, 4 in every recording"],
    );
    let r = &mean.train;
    let at = |n: usize, c: usize, s: usize| r.x[n * 600 + c * 100 + s];
    assert!((0..100).all(|s| at(3, 2, s) == (at(3, 1, s) + at(3, 3, s)) / 2.0));
    let (zero, _) = read(BadContacts::Zero, false).unwrap();
    assert!(
        zero.test.x[200..300].iter().all(|v| *v == 0.0) && zero.test.x[400..500].iter().all(|v| *v == 0.0)
    );
    // Whatever the dead contacts hold, sound ones alone say how counts with an offset are scaled.
    let counts = |r: &mut escape_data::Recordings| r.x.iter_mut().for_each(|v| *v = *v * 2000.0 + 32768.0);
    let mut raw = data.clone();
    for split in [&mut raw.train, &mut raw.test] {
        counts(split);
        for x in split.x.chunks_exact_mut(600) {
            x[400..500].fill(0.0);
        }
    }
    write_npz(&path, &raw).unwrap();
    for how in [BadContacts::Zero, BadContacts::Mean] {
        let (scaled, notes) = read(how, false).unwrap();
        contains(&texts(&notes), &["scaled each of 5 recordings", "(values from 30768 to 34768)"]);
        let by_hand = |x: &[f32]| {
            let sound = x[..200].iter().chain(&x[300..400]).chain(&x[500..]);
            let (min, max) = sound.fold((f32::MAX, f32::MIN), |(a, b), v| (a.min(*v), b.max(*v)));
            (x[0] - min) / (max - min) * 2.0 - 1.0
        };
        for (got, raw) in scaled.train.x.chunks_exact(600).zip(raw.train.x.chunks_exact(600)) {
            assert!((got[0] - by_hand(raw)).abs() < 1e-5);
            let dead =
                |s: usize| if how == BadContacts::Zero { 0.0 } else { (got[300 + s] + got[500 + s]) / 2.0 };
            assert!((0..100).all(|s| got[400 + s] == dead(s)), "{how}");
        }
    }
    // Without the option it is said that the flat contact sets the scale.
    for x in raw.train.x.chunks_exact_mut(100).filter(|x| x.iter().any(|v| v.is_nan())) {
        x.fill(f32::NAN);
    }
    for x in [&mut raw.train.x, &mut raw.test.x] {
        x.iter_mut().filter(|v| v.is_nan()).for_each(|v| *v = 32768.0);
    }
    write_npz(&path, &raw).unwrap();
    let (_, notes) = read(BadContacts::Refuse, false).unwrap();
    contains(&texts(&notes), &["the scale is set by it", "span 11.5 % of the range"]);
    // Flat contacts alone are noted.
    for split in [&mut data.train, &mut data.test] {
        split.x.iter_mut().filter(|v| v.is_nan()).for_each(|v| *v = 0.0);
    }
    write_npz(&path, &data).unwrap();
    let (_, notes) = read(BadContacts::Refuse, false).unwrap();
    contains(&texts(&notes), &["train: unlike the others: contact 4 (flat throughout", "--bad-contacts"]);
}

/// Which nerve it is, and another window, survive both formats.
#[test]
fn nerves_and_windows_are_written() {
    let dir = tempfile::tempdir().unwrap();
    let nerve = Some(Nerve { seed: 1 << 40, animal: 3 });
    let data = Dataset { train: recordings(4, 3, 50), test: recordings(2, 3, 50), nerve, ..dataset() };
    let mat = dir.path().join("d.mat");
    write_mat(&mat, &data).unwrap();
    let npz = dir.path().join("d.npz");
    write_npz(&npz, &data).unwrap();
    for path in [mat, npz] {
        let (again, notes) = read_with(&path, |_| {}).unwrap();
        assert!(again == data);
        assert_eq!(notes.len(), 2, "format and an absent class: {}", texts(&notes));
        let (_, origin, _) = escape_data::read_split(&path, Split::Test, &ReadOptions::default()).unwrap();
        assert_eq!(origin.nerve, nerve);
    }
    // A seed that no float64 holds is not written wrongly.
    let data = Dataset { nerve: Some(Nerve { seed: u64::MAX, animal: 3 }), ..data };
    write_npz(&dir.path().join("e.npz"), &data).unwrap();
    assert_eq!(read_with(&dir.path().join("e.npz"), |_| {}).unwrap().0.nerve, None);
}

/// Recordings that compress well are no bomb.
#[test]
fn compressible_recordings() {
    let (data, _) = read_with(&file("whole_microvolts.mat"), |_| {}).unwrap();
    assert_eq!((data.test.len(), data.test.contacts), (150, 56));
}
