//! Checkpoints against PyTorch itself: its files read, and files written here opened by it, bit for bit.
//!
//! Needs a Python with PyTorch, named by `ESCAPE_PYTHON`; without it the tests say that they were skipped, or fail
//! if `ESCAPE_REQUIRE_PYTHON=1`. PyTorch's side is `checkpoint_pytorch.py`.

#![allow(clippy::print_stderr)] // a skipped test must say so
#![allow(clippy::unwrap_used)] // in the helpers; a test fails by panicking

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use escape_checkpoint::{
    Checkpoint, DType, Leak, Note, Parts, Selection, TensorData, Value, open, read, write,
};
use tempfile::TempDir;

/// Runs PyTorch's side; `None` if there is no Python to run it.
fn pytorch(command: &str, path: &Path) -> Option<String> {
    let Some(python) = env::var_os("ESCAPE_PYTHON") else {
        let required = env::var("ESCAPE_REQUIRE_PYTHON").is_ok_and(|v| v == "1");
        assert!(!required, "ESCAPE_REQUIRE_PYTHON is 1, but ESCAPE_PYTHON names no Python with PyTorch");
        eprintln!("skipped: set ESCAPE_PYTHON to a Python with PyTorch to compare checkpoints with it");
        return None;
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/checkpoint_pytorch.py");
    let output = Command::new(&python)
        .args(["-W", "ignore"])
        .arg(script)
        .arg(command)
        .arg(path)
        .output()
        .unwrap_or_else(|e| panic!("could not run {}: {e}", Path::new(&python).display()));
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).unwrap())
}

/// The folder with the script's files, made once; `None` if there is no Python to make them.
fn written() -> Option<&'static Path> {
    static FOLDER: OnceLock<Option<TempDir>> = OnceLock::new();
    let made = FOLDER.get_or_init(|| {
        let folder = TempDir::new().unwrap();
        pytorch("write", folder.path()).map(|_| folder)
    });
    made.as_ref().map(TempDir::path)
}

/// The lines that `tell` of the script writes.
fn told(value: &Value) -> String {
    let mut out = String::new();
    tell(value, &mut out);
    out
}

fn tell(value: &Value, out: &mut String) {
    let mut all = |kind: &str, items: &[Value]| {
        writeln!(out, "{kind} {}", items.len()).unwrap();
        items.iter().for_each(|item| tell(item, out));
    };
    match value {
        Value::None => out.push_str("none\n"),
        Value::Bool(v) => writeln!(out, "bool {}", u8::from(*v)).unwrap(),
        Value::Int(v) => writeln!(out, "int {v}").unwrap(),
        Value::Float(v) => writeln!(out, "float {}", hex(&v.to_le_bytes())).unwrap(),
        Value::Str(v) => writeln!(out, "str {}", hex(v.as_bytes())).unwrap(),
        Value::Bytes(v) => writeln!(out, "bytes {}", hex(v)).unwrap(),
        Value::List(v) => all("list", v),
        Value::Tuple(v) => all("tuple", v),
        Value::Set(v) => all("set", v),
        Value::Dict(v) | Value::OrderedDict(v) => {
            let kind = if matches!(value, Value::Dict(_)) { "dict" } else { "ordered" };
            writeln!(out, "{kind} {}", v.len()).unwrap();
            for (key, item) in v {
                tell(key, out);
                tell(item, out);
            }
        }
        Value::Tensor(t) => {
            let shape: Vec<_> = t.shape.iter().map(usize::to_string).collect();
            writeln!(out, "tensor {} [{}] {}", t.dtype, shape.join(","), hex(&t.bytes)).unwrap();
        }
        Value::DType(v) => writeln!(out, "dtype torch.{v}").unwrap(),
        Value::Device(v) => writeln!(out, "device {v}").unwrap(),
        other => panic!("no line for {other:?}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut out, byte| {
        write!(out, "{byte:02x}").unwrap();
        out
    })
}

/// Compares line by line, since a mismatch in a long dump would be unreadable.
#[track_caller]
fn assert_same(name: &str, got: &str, expected: &str) {
    for (i, (got, expected)) in got.lines().zip(expected.lines()).enumerate() {
        assert_eq!(got, expected, "{name}, line {}", i + 1);
    }
    assert_eq!(got.lines().count(), expected.lines().count(), "{name}");
}

/// Reads every file with a `.txt` beside it and compares with that; says how many there were.
fn compare_all(folder: &Path) -> usize {
    let mut compared = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let expected = entry.unwrap().path();
        if expected.extension().is_some_and(|extension| extension == "txt") {
            let files = ["pth", "safetensors"].map(|e| expected.with_extension(e));
            let path = files.into_iter().find(|path| path.exists()).unwrap();
            let value = read(&path).unwrap_or_else(|e| panic!("{e}"));
            let name = path.display().to_string();
            assert_same(&name, &told(&value), &fs::read_to_string(&expected).unwrap());
            compared += 1;
        }
    }
    compared
}

#[test]
fn old_files_that_nobody_here_wrote_are_read_bit_for_bit() {
    let folder = TempDir::new().unwrap();
    let Some(_) = pytorch("real", folder.path()) else { return };
    assert_eq!(compare_all(folder.path()), 6);
}

#[test]
fn what_torch_save_writes_is_read_bit_for_bit() {
    let Some(files) = written() else { return };
    let folder = TempDir::new().unwrap();
    let compared = compare_all(files);
    assert_eq!(compared, 2 * 16 + 2 + 1 + 3 + 1 + 4, "files compared");

    let half = read(&files.join("half.pth")).unwrap();
    let ours: Vec<u8> = ["double", "single"]
        .iter()
        .flat_map(|key| half.get(key).unwrap().as_tensor().unwrap().to_f16().bytes.to_vec())
        .collect();
    assert!(ours == fs::read(files.join("half.bin")).unwrap(), "to_f16 must round as PyTorch does");

    let snn = Checkpoint::load(&files.join("snn.pth")).unwrap();
    assert_eq!(snn.accuracy, Some(f64::from(0.6962f32)));
    assert_eq!((snn.epoch, snn.timesteps, snn.leak), (Some(9), Some(28), Some(Leak::Same(1.0))));
    assert_eq!(snn.thresholds, Some(vec![7.5, 1.25, 0.5]));
    assert!(snn.had_module_prefix);
    let names: Vec<_> = snn.weights.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!((names[0], names[names.len() - 1]), ("features.0.weight", "classifier.0.weight"));

    let refusals = [
        ("script.pth", "TorchScript"),
        (
            "module.pth",
            "got an object of torch.nn.modules.container.Sequential; save just its weights in Python",
        ),
        (
            "module-legacy.pth",
            "got an object of torch.nn.modules.container.Sequential; save just its weights",
        ),
        (
            "whole.pth",
            "['model'] is an object of __main__.Net: save just its weights in Python: torch.save(torch.load(",
        ),
        ("complex.pth", "['w']: expected a tensor, got a tensor of torch.complex64 and shape [3]"),
        ("complex-legacy.pth", "['w']: expected a tensor, got a tensor of torch.complex64 and shape [3]"),
        ("negative.pth", "['w']: expected a tensor, got a conjugate or negative view"),
        (
            "meta.pth",
            "['w']: expected a tensor, got a meta tensor of shape [3], which has no values; load the real",
        ),
        (
            "nested.pth",
            "['w']: expected a tensor, got a nested tensor, whose rows differ in length; save it in Python",
        ),
        ("jagged.pth", "torch.nested.to_padded_tensor(tensor, 0.0)"),
        ("float8.safetensors", "w: expected a tensor of type F64,"),
    ];
    for (name, expected) in refusals {
        let error = Checkpoint::load(&files.join(name)).expect_err(name).to_string();
        assert!(error.contains(expected), "{name}: {error}");
    }

    // And back: what was read is written, and PyTorch finds in it what it wrote.
    let names = ["dtypes", "views", "adam", "nesterov", "state_dict", "parameters", "adam-legacy"];
    for name in names.map(|name| format!("{name}.pth")) {
        write(&folder.path().join(&name), &read(&files.join(&name)).unwrap()).unwrap();
    }
    pytorch("dump", folder.path()).unwrap();
    for name in names {
        let found = fs::read_to_string(folder.path().join(format!("{name}.found"))).unwrap();
        assert_same(name, &found, &fs::read_to_string(files.join(format!("{name}.txt"))).unwrap());
    }
}

#[test]
fn weights_among_foreign_objects_are_found() {
    let Some(files) = written() else { return };
    for name in ["foreign.pth", "foreign-legacy.pth"] {
        let (checkpoint, notes) = Checkpoint::load_as(&files.join(name), &Selection::default()).unwrap();
        assert_eq!((checkpoint.epoch, checkpoint.weights.len()), (Some(7), 7), "{name}");
        let extra: Vec<&str> = checkpoint.extra.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(extra, ["hyper_parameters", "defaults", "easy"]);
        let hyper = Value::Dict(vec![
            (s("lr"), Value::Float(0.1)),
            (s("list"), Value::List(vec![Value::Int(1), Value::None])),
        ]);
        assert_eq!(checkpoint.extra[0].1, hyper);
        assert_eq!(checkpoint.extra[2].1, Value::Dict(vec![(s("depth"), Value::Int(3))]));
        let [Note::Found { place, .. }, Note::Opaque { objects, count: 12 }] = &notes[..] else {
            panic!("{notes:?}")
        };
        assert_eq!(place, "['model']");
        let told: Vec<String> = objects.iter().map(|(place, what)| format!("{place} {what}")).collect();
        let expected = [
            "['args'] an object of argparse.Namespace",
            "['colour'] an object of __main__.Colour",
            "['settings'] an object of __main__.Settings",
            "['function'] the class or function __main__.foreign",
            "['class'] the class or function __main__.Net",
            "['now'] the result of calling datetime.datetime",
            "['hyper_parameters']['out'] an object of pathlib.PosixPath",
            "['hyper_parameters']['list'][1] an object of __main__.Colour",
        ];
        assert_eq!(told, expected, "{name}");
        let contents = open(&files.join(name)).unwrap();
        let args = contents.value.get("args").and_then(Value::as_opaque).unwrap().fields.clone();
        assert_eq!(args, [("lr".to_owned(), Value::Float(0.1)), ("name".to_owned(), s("x"))]);
    }
}

#[test]
fn weights_in_parts_are_those_that_pytorch_uses() {
    let Some(files) = written() else { return };
    let (found, notes) = Checkpoint::load_as(&files.join("parts.pth"), &Selection::default()).unwrap();
    let kinds: Vec<Parts> = notes
        .iter()
        .filter_map(|note| if let Note::PutTogether(kind, _) = note { Some(*kind) } else { None })
        .collect();
    assert_eq!(kinds, [Parts::Pruned, Parts::WeightNorm, Parts::SpectralNorm]);
    let expected = Checkpoint::load(&files.join("put-together.pth")).unwrap();
    assert_eq!(found.weights.len(), expected.weights.len());
    for (name, expected) in &expected.weights {
        let (_, found) =
            found.weights.iter().find(|(other, _)| other == name).unwrap_or_else(|| panic!("{name}"));
        assert_eq!(found.shape, expected.shape, "{name}");
        // A mask changes no bit, a norm is a sum that PyTorch takes in another order.
        let tolerance = if name.starts_with('0') { 0.0 } else { 4.0 * f32::EPSILON };
        for (a, b) in found.to_f32().iter().zip(expected.to_f32()) {
            assert!((a - b).abs() <= tolerance * b.abs(), "{name}: {a} against {b}");
        }
    }
}

fn s(text: &str) -> Value {
    Value::Str(text.to_owned())
}

#[test]
fn what_is_written_is_opened_by_torch_load() {
    let tensors = DType::ALL.iter().map(|&dtype| {
        let byte = |i: usize| if dtype == DType::Bool { i as u8 & 1 } else { (i * 37 + 128) as u8 };
        let bytes: Vec<u8> = (0..6 * dtype.size()).map(byte).collect();
        (s(&dtype.to_string()), Value::from(TensorData { dtype, shape: vec![2, 3], bytes: bytes.into() }))
    });
    let ints = [0, 255, 256, 65535, 65536, -1, i32::MIN.into(), 1 << 31, i64::MIN, i64::MAX];
    let floats = [0.1, -0.0, f64::INFINITY, f64::NAN];
    let value = Value::Dict(vec![
        (s("tensors"), Value::OrderedDict(tensors.collect())),
        (s("scalar"), Value::from(TensorData::from_f32(&[], &[2.5]))),
        (s("no elements"), Value::from(TensorData::from_f32(&[3, 0, 2], &[]))),
        (
            s("many"),
            Value::List((0..400).map(|i| Value::from(TensorData::from_f32(&[1], &[i as f32]))).collect()),
        ),
        (s("ints"), Value::List(ints.map(Value::Int).into())),
        (s("floats"), Value::Tuple(floats.map(Value::Float).into())),
        (s("texts"), Value::List(vec![s(""), s("Grüße, 神経\n\0"), s("ints"), s(&"x".repeat(70_000))])),
        (s("bytes"), Value::List(vec![Value::Bytes(vec![]), Value::Bytes((0..=255).collect())])),
        (s("none"), Value::List(vec![Value::None, Value::Bool(true), Value::Bool(false)])),
        (s("empty"), Value::List(vec![Value::List(vec![]), Value::Tuple(vec![]), Value::Dict(vec![])])),
        (s("set"), Value::List(vec![Value::Set(vec![Value::Int(1)]), Value::Set(vec![])])),
        (
            s("keys"),
            Value::Dict(vec![(Value::Int(0), s("int")), (Value::Tuple(vec![Value::None]), s("tuple"))]),
        ),
        (s("torch"), Value::List(vec![Value::DType("bfloat16".into()), Value::Device("cuda:1".into())])),
    ]);
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("written.pth");
    write(&path, &value).unwrap();
    let Some(_) = pytorch("dump", folder.path()) else { return };
    let found = fs::read_to_string(path.with_extension("found")).unwrap();
    assert_same("written.pth", &found, &told(&value));
}

#[test]
fn the_study_s_code_uses_a_saved_checkpoint() {
    let Some(files) = written() else { return };
    let folder = TempDir::new().unwrap();
    // Weights and optimiser from a training in PyTorch, everything else from here.
    let mut checkpoint = Checkpoint::load(&files.join("adam.pth")).unwrap();
    checkpoint.thresholds = Some(vec![7.3638, 1.4794]);
    checkpoint.timesteps = Some(28);
    checkpoint.leak = Some(Leak::Same(1.0));
    checkpoint.activation = Some("Linear".to_owned());
    checkpoint.scaling_threshold = Some(1.0);
    checkpoint.extra.push(("note".to_owned(), s("kept")));
    let path = folder.path().join("saved.pth");
    checkpoint.save(&path).unwrap();
    pytorch("study", &path);
}

#[test]
fn safetensors_opens_a_saved_checkpoint() {
    let Some(files) = written() else { return };
    let folder = TempDir::new().unwrap();
    let mut checkpoint = Checkpoint::load(&files.join("adam.pth")).unwrap();
    checkpoint.thresholds = Some(vec![7.3638, 1.4794]);
    checkpoint.weights.extend(DType::ALL.map(|dtype| {
        let bytes = vec![1; 3 * dtype.size()];
        (format!("a {dtype}"), TensorData { dtype, shape: vec![3], bytes: bytes.into() })
    }));
    let path = folder.path().join("saved.safetensors");
    checkpoint.save(&path).unwrap();

    // Everything comes back but the prefix, which `.pth` files get and these do not.
    let back = Checkpoint::load(&path).unwrap();
    checkpoint.had_module_prefix = false;
    assert_eq!(back, checkpoint);

    let found = pytorch("safetensors", &path).unwrap();
    for (name, tensor) in &checkpoint.weights {
        let lines = told(&Value::List(vec![s(name), Value::from(tensor.clone())]));
        let (_, lines) = lines.split_once('\n').unwrap();
        assert!(found.contains(lines), "{name}");
    }
    for (key, text) in [
        ("format", "pt"),
        ("checkpoint.accuracy", "0.75"),
        ("checkpoint.epoch", "12"),
        ("checkpoint.thresholds", "[7.3638,1.4794]"),
    ] {
        let lines = told(&Value::List(vec![s(key), s(text)]));
        assert!(found.contains(lines.split_once('\n').unwrap().1), "{key}: {text}");
    }
}
