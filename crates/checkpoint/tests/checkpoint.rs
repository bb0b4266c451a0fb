//! Checkpoints without PyTorch: what is written comes back, and no file, however damaged or hostile, does more than
//! be refused with a message that says why. What PyTorch itself makes of the files: `checkpoint_pytorch.rs`.

#![allow(clippy::unwrap_used)] // in the helpers; a test fails by panicking

use std::fs;
use std::io::Write;
use std::path::Path;

use escape_checkpoint::{
    Checkpoint, CheckpointError, DType, Leak, Note, Parts, Selection, TensorData, Value, match_weights,
    matched_weights, read, read_bytes, write,
};
use escape_network::arch::Architecture;
use escape_network::family::Family;
use escape_network::sequential::Sequential;
use flate2::{Compression, Crc, write::DeflateEncoder};
use tempfile::TempDir;

// ---- helpers: files byte by byte ----

/// A zip archive written entry by entry, lies included.
#[derive(Default)]
struct Zip {
    bytes: Vec<u8>,
    central: Vec<u8>,
    count: u16,
}

/// What the headers of an entry say; by default the truth.
struct Headers {
    crc: u32,
    compressed: u32,
    size: u32,
    method: u16,
    flags: u16,
    at: u32,
}

impl Zip {
    fn add(self, name: &str, content: &[u8]) -> Self {
        self.add_as(name, content, |_| ())
    }

    fn deflate(self, name: &str, content: &[u8], lie: impl FnOnce(&mut Headers)) -> Self {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(content).unwrap();
        let (size, mut crc) = (content.len() as u32, Crc::new());
        crc.update(content);
        self.add_as(name, &encoder.finish().unwrap(), |headers| {
            (headers.size, headers.crc, headers.method) = (size, crc.sum(), 8);
            lie(headers);
        })
    }

    fn add_as(mut self, name: &str, content: &[u8], lie: impl FnOnce(&mut Headers)) -> Self {
        let mut crc = Crc::new();
        crc.update(content);
        let n = content.len() as u32;
        let at = self.bytes.len() as u32;
        let mut headers = Headers { crc: crc.sum(), compressed: n, size: n, method: 0, flags: 0, at };
        lie(&mut headers);
        let mut common = vec![20, 0];
        common.extend(headers.flags.to_le_bytes());
        common.extend(headers.method.to_le_bytes());
        common.extend([0, 0, 0x21, 0]);
        common.extend(headers.crc.to_le_bytes());
        common.extend(headers.compressed.to_le_bytes());
        common.extend(headers.size.to_le_bytes());
        common.extend((name.len() as u16).to_le_bytes());
        common.extend([0; 2]);
        self.bytes.extend(b"PK\x03\x04");
        self.bytes.extend(&common);
        self.bytes.extend(name.as_bytes());
        self.bytes.extend(content);
        self.central.extend(b"PK\x01\x02\x14\0");
        self.central.extend(&common);
        self.central.extend([0; 10]);
        self.central.extend(headers.at.to_le_bytes());
        self.central.extend(name.as_bytes());
        self.count += 1;
        self
    }

    fn finish(self) -> Vec<u8> {
        let Self { mut bytes, central, count } = self;
        let start = bytes.len() as u32;
        bytes.extend(&central);
        bytes.extend(b"PK\x05\x06\0\0\0\0");
        bytes.extend([count.to_le_bytes(), count.to_le_bytes()].concat());
        bytes.extend((central.len() as u32).to_le_bytes());
        bytes.extend(start.to_le_bytes());
        bytes.extend([0; 2]);
        bytes
    }
}

/// Opcodes without the frame of protocol and end.
fn pickle(body: &[u8]) -> Vec<u8> {
    [b"\x80\x02", body, b"."].concat()
}

fn text(s: &str) -> Vec<u8> {
    [b"X".as_slice(), &(s.len() as u32).to_le_bytes(), s.as_bytes()].concat()
}

fn int(v: i64) -> Vec<u8> {
    [b"\x8a\x08".as_slice(), &v.to_le_bytes()].concat()
}

fn ints(values: &[i64]) -> Vec<u8> {
    [b"(".to_vec(), values.iter().flat_map(|v| int(*v)).collect(), b"t".to_vec()].concat()
}

/// Opcodes for a view of storage `0`.
fn view(storage: &str, numel: i64, offset: i64, shape: &[i64], strides: &[i64]) -> Vec<u8> {
    [
        b"ctorch._utils\n_rebuild_tensor_v2\n((".to_vec(),
        text("storage"),
        format!("ctorch\n{storage}\n").into_bytes(),
        text("0"),
        text("cpu"),
        int(numel),
        b"tQ".to_vec(),
        int(offset),
        ints(shape),
        ints(strides),
        b"\x89ccollections\nOrderedDict\n)RtR".to_vec(),
    ]
    .concat()
}

fn archive(body: &[u8]) -> Zip {
    Zip::default().add("a/data.pkl", &pickle(body))
}

/// Reads these bytes as a file.
fn load(bytes: &[u8]) -> Result<Value, CheckpointError> {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a.pth");
    fs::write(&path, bytes).unwrap();
    read(&path)
}

/// The error's text, with that of its source.
#[track_caller]
fn refusal<T>(result: Result<T, CheckpointError>) -> String {
    // The value itself could be millions of numbers.
    let error = result.map(|_| ()).expect_err("must be refused");
    let source = std::error::Error::source(&error).map(|s| format!(": {s}")).unwrap_or_default();
    format!("{error}{source}")
}

#[track_caller]
fn assert_says(result: Result<Value, CheckpointError>, parts: &[&str]) {
    let message = refusal(result);
    for part in parts {
        assert!(message.contains(part), "expected '{part}' in: {message}");
    }
}

/// A small storage of six float32: 0, 1, ... 5.
fn six() -> Vec<u8> {
    (0..6u8).flat_map(|v| f32::from(v).to_le_bytes()).collect()
}

fn tensor(dtype: DType, shape: &[usize], bytes: impl Into<Vec<u8>>) -> TensorData {
    TensorData { dtype, shape: shape.to_vec(), bytes: bytes.into().into() }
}

fn s(text: &str) -> Value {
    Value::Str(text.to_owned())
}

/// Every kind of value and of element type.
fn everything() -> Value {
    let tensors = DType::ALL.iter().map(|&dtype| {
        // A boolean's byte is 0 or 1; all other patterns, NaN among them, are worth keeping bit by bit.
        let byte = |i: usize| if dtype == DType::Bool { i as u8 & 1 } else { (i * 37 + 128) as u8 };
        let bytes: Vec<u8> = (0..12 * dtype.size()).map(byte).collect();
        (s(&dtype.to_string()), Value::from(tensor(dtype, &[2, 3, 2], bytes)))
    });
    Value::Dict(vec![
        (s("none"), Value::None),
        (s("bools"), Value::Tuple(vec![Value::Bool(true), Value::Bool(false)])),
        (
            s("ints"),
            Value::List(
                [0, 1, 255, 256, 65535, 65536, -1, -129, i32::MIN.into(), 1 << 31, i64::MIN, i64::MAX]
                    .map(Value::Int)
                    .into(),
            ),
        ),
        (s("big"), Value::BigInt(vec![0, 0, 0, 0, 0, 0, 0, 0x80, 0])),
        (
            s("floats"),
            Value::List([0.0, -0.0, 0.1, f64::MIN_POSITIVE, f64::INFINITY].map(Value::Float).into()),
        ),
        (s("texts"), Value::List(vec![s(""), s("Grüße, 神経\n\0"), s("none")])),
        (s("bytes"), Value::Bytes((0..=255).collect())),
        (s("empty bytes"), Value::Bytes(Vec::new())),
        (s("set"), Value::Set(vec![Value::Int(1), s("a"), Value::Tuple(vec![Value::Int(1)])])),
        (s("empty"), Value::List(vec![Value::List(vec![]), Value::Tuple(vec![]), Value::Dict(vec![])])),
        (s("ordered"), Value::OrderedDict(vec![(s("z"), Value::Int(1)), (s("a"), Value::Int(2))])),
        (
            s("keys"),
            Value::Dict(vec![
                (Value::Int(0), s("int")),
                (Value::Float(0.5), s("float")),
                (Value::None, s("none")),
                (Value::Tuple(vec![Value::Int(0), s("x")]), s("tuple")),
            ]),
        ),
        (s("dtypes"), Value::Tuple(vec![Value::DType("float32".into()), Value::DType("complex64".into())])),
        (s("device"), Value::Device("cuda:1".into())),
        (s("tensors"), Value::OrderedDict(tensors.collect())),
        (s("scalar"), Value::from(tensor(DType::I64, &[], 7i64.to_le_bytes()))),
        (s("no elements"), Value::from(tensor(DType::F32, &[3, 0, 2], []))),
    ])
}

// ---- round trips ----

#[test]
fn every_type_and_structure_comes_back() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("everything.pth");
    write(&path, &everything()).unwrap();
    assert_eq!(read(&path).unwrap(), everything());
}

#[test]
fn many_tensors_come_back() {
    // More than 256 memo entries and storages.
    let tensors = (0..700u16)
        .map(|i| (s(&format!("layer.{i}")), Value::from(tensor(DType::I16, &[1], i.to_le_bytes()))));
    let value = Value::Dict(tensors.collect());
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("many.pth");
    write(&path, &value).unwrap();
    assert_eq!(read(&path).unwrap(), value);
}

#[test]
fn equal_values_give_equal_files() {
    let folder = TempDir::new().unwrap();
    let (a, b) = (folder.path().join("a.pth"), folder.path().join("b").join("a.pth"));
    fs::create_dir(b.parent().unwrap()).unwrap();
    write(&a, &everything()).unwrap();
    write(&b, &everything()).unwrap();
    assert_eq!(fs::read(a).unwrap(), fs::read(b).unwrap());
}

#[test]
fn entries_are_those_of_torch_save_and_aligned() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("net.pth");
    let tensors = [TensorData::from_f32(&[3], &[1.0, 2.0, 3.0]), tensor(DType::U8, &[1], [9])];
    write(&path, &Value::List(tensors.map(Value::from).into())).unwrap();
    let bytes = fs::read(path).unwrap();
    let mut names = Vec::new();
    let mut at = 0;
    while bytes[at..].starts_with(b"PK\x03\x04") {
        let number = |i: usize| usize::from(bytes[at + i]) + 256 * usize::from(bytes[at + i + 1]);
        let (name, extra, size) = (number(26), number(28), number(22));
        names.push(String::from_utf8(bytes[at + 30..at + 30 + name].to_vec()).unwrap());
        at += 30 + name + extra;
        assert_eq!(at % 64, 0, "{names:?}");
        at += size;
    }
    let expected = [
        "data.pkl",
        ".format_version",
        ".storage_alignment",
        "byteorder",
        "data/0",
        "data/1",
        "version",
        ".data/serialization_id",
    ];
    assert_eq!(names, expected.map(|name| format!("net/{name}")));
}

#[test]
fn elements_convert() {
    let t = TensorData::from_f32(&[2, 2], &[1.5, -2.0, 65504.0, 1e6]);
    assert_eq!((t.len(), t.is_empty(), t.dtype), (4, false, DType::F32));
    assert_eq!(t.to_f16().to_f32(), [1.5, -2.0, 65504.0, f32::INFINITY]);
    assert_eq!(t.to_f64(), [1.5, -2.0, 65504.0, 1e6]);
    assert_eq!(t.to_i64(), None);
    assert_eq!(tensor(DType::BF16, &[1], [0x80, 0xbf]).to_f32(), [-1.0]);
    assert_eq!(tensor(DType::F64, &[1], 0.1f64.to_le_bytes()).to_f64(), [0.1]);
    // 1 + 2^-11 lies half way between two halves and goes to the even one.
    let v = 1.0 + 2f64.powi(-11);
    assert_eq!(tensor(DType::F64, &[1], v.to_le_bytes()).to_f16().to_f64(), [1.0]);
    assert_eq!(tensor(DType::I64, &[1], i64::MAX.to_le_bytes()).to_i64().unwrap(), [i64::MAX]);
    assert_eq!(tensor(DType::I8, &[2], [255, 127]).to_i64().unwrap(), [-1, 127]);
    assert_eq!(tensor(DType::Bool, &[3], [0, 1, 2]).to_f32(), [0.0, 1.0, 1.0]);
    assert_eq!(DType::BF16.to_string(), "torch.bfloat16");
}

#[test]
fn what_cannot_be_written_is_refused_before_the_file_is_touched() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a.pth");
    fs::write(&path, "old").unwrap();
    let mut deep = Value::None;
    for _ in 0..5000 {
        deep = Value::List(vec![deep]);
    }
    let cases = [
        (Value::from(tensor(DType::F32, &[2], [0; 7])), "expected 8 bytes, got 7"),
        (Value::from(tensor(DType::F32, &[usize::MAX, 4], [0; 7])), "got 7"),
        (Value::Dict(vec![(s("k"), Value::None), (s("k"), Value::None)]), "got the text 'k' twice"),
        (Value::Dict(vec![(Value::List(vec![]), Value::None)]), "as a key, got a list of 0"),
        (Value::BigInt(vec![1; 256]), "at most 255 bytes"),
        (Value::DType("float33\nos.system".into()), "expected a type that PyTorch has"),
        (deep, "at most 100 containers"),
    ];
    for (value, expected) in cases {
        let message = refusal(write(&path, &Value::Dict(vec![(s("x"), Value::Tuple(vec![value]))])));
        assert!(message.contains(expected), "{message}");
        assert!(message.contains("a.pth: ['x'][0]"), "{message}");
    }
    assert_eq!(fs::read(&path).unwrap(), b"old");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file may remain");
}

// ---- the study's dictionary ----

fn snn() -> Checkpoint {
    Checkpoint {
        accuracy: Some(0.6962),
        epoch: Some(9),
        weights: vec![
            ("features.0.weight".into(), TensorData::from_f32(&[1, 2], &[0.25, -1.0])),
            ("classifier.2.weight".into(), TensorData::from_f32(&[1], &[3.0])),
        ],
        had_module_prefix: true,
        thresholds: Some(vec![7.3638, 1.4794, 0.7314, 0.7243, 2.1453]),
        timesteps: Some(28),
        leak: Some(Leak::Same(1.0)),
        activation: Some("Linear".into()),
        scaling_threshold: Some(0.7),
        optimizer: Some(Value::Dict(vec![(s("state"), Value::Dict(vec![])), (s("lr"), Value::Float(1e-4))])),
        extra: vec![("encoder".into(), s("direct")), ("seed".into(), Value::Int(-3))],
    }
}

#[test]
fn a_study_checkpoint_comes_back_and_has_the_study_s_keys_in_order() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("snn.pth");
    for leak in [Leak::Same(0.99), Leak::PerLayer(vec![1.0, 0.9, 0.8, 0.7, 0.6])] {
        let checkpoint = Checkpoint { leak: Some(leak), ..snn() };
        checkpoint.save(&path).unwrap();
        assert_eq!(Checkpoint::load(&path).unwrap(), checkpoint);
    }
    let value = read(&path).unwrap();
    let keys: Vec<_> = value.entries().unwrap().iter().map(|(k, _)| k.as_str().unwrap()).collect();
    let study =
        ["accuracy", "epoch", "state_dict", "optimizer", "thresholds", "timesteps", "leak", "activation"];
    assert_eq!(keys, [&study[..], &["scaling_threshold", "encoder", "seed"]].concat());
    let Some(Value::OrderedDict(weights)) = value.get("state_dict") else {
        panic!("expected an OrderedDict")
    };
    assert_eq!(weights[0].0, s("module.features.0.weight"));
    assert_eq!(value.get("thresholds").unwrap().items().unwrap()[1], Value::Float(1.4794));
}

#[test]
fn absent_fields_are_not_written() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("ann.pth");
    let ann = Checkpoint { accuracy: Some(0.5), weights: snn().weights, ..Checkpoint::default() };
    ann.save(&path).unwrap();
    assert_eq!(read(&path).unwrap().entries().unwrap().len(), 2);
    assert_eq!(Checkpoint::load(&path).unwrap(), Checkpoint { had_module_prefix: true, ..ann });
}

#[test]
fn an_extra_key_must_not_repeat_a_field() {
    let folder = TempDir::new().unwrap();
    let checkpoint = Checkpoint { extra: vec![("epoch".into(), Value::Int(1))], ..snn() };
    let message = refusal(checkpoint.save(&folder.path().join("a.pth")));
    assert!(message.contains("got the text 'epoch' twice"), "{message}");
}

fn scalar(v: f32) -> Value {
    Value::from(TensorData::from_f32(&[], &[v]))
}

fn dictionary(entries: Vec<(&str, Value)>) -> Value {
    Value::Dict(entries.into_iter().map(|(k, v)| (s(k), v)).collect())
}

fn with(key: &str, value: Value) -> Result<Checkpoint, CheckpointError> {
    Checkpoint::from_value(dictionary(vec![("state_dict", dictionary(vec![])), (key, value)]))
}

#[test]
fn a_bare_state_dict_is_enough() {
    let c = Checkpoint::from_value(dictionary(vec![("features.0.weight", scalar(1.0)), ("x", scalar(2.0))]))
        .unwrap();
    assert_eq!(c.weights[0].0, "features.0.weight");
    assert_eq!((c.weights.len(), c.had_module_prefix, c.accuracy), (2, false, None));
}

#[test]
fn numbers_may_be_tensors() {
    assert_eq!(with("accuracy", scalar(0.5)).unwrap().accuracy, Some(0.5));
    assert_eq!(with("accuracy", Value::Int(1)).unwrap().accuracy, Some(1.0));
    assert_eq!(with("accuracy", Value::None).unwrap().accuracy, None);
    assert_eq!(with("epoch", Value::Float(12.0)).unwrap().epoch, Some(12));
    assert_eq!(with("epoch", Value::from(tensor(DType::I32, &[1], [5, 0, 0, 0]))).unwrap().epoch, Some(5));
    assert_eq!(with("timesteps", scalar(28.0)).unwrap().timesteps, Some(28));
    let list = Value::List(vec![Value::Float(2.0), scalar(0.5), Value::Int(3)]);
    assert_eq!(with("thresholds", list).unwrap().thresholds, Some(vec![2.0, 0.5, 3.0]));
    let vector = || Value::from(TensorData::from_f32(&[2], &[0.25, 4.0]));
    assert_eq!(with("thresholds", vector()).unwrap().thresholds, Some(vec![0.25, 4.0]));
    assert_eq!(with("leak", vector()).unwrap().leak, Some(Leak::PerLayer(vec![0.25, 4.0])));
    assert_eq!(with("leak_mem", scalar(0.5)).unwrap().leak, Some(Leak::Same(0.5)));
    // Older PyTorch sorts such dictionaries as text; the layers' numbers tell.
    let by_layer = dictionary(vec![("t0", scalar(1.0)), ("t11", scalar(3.0)), ("t3", scalar(2.0))]);
    assert_eq!(with("thresholds", by_layer).unwrap().thresholds, Some(vec![1.0, 2.0, 3.0]));
    let by_name = dictionary(vec![("conv1", scalar(2.0)), ("linear1", scalar(1.0))]);
    assert_eq!(with("thresholds", by_name).unwrap().thresholds, Some(vec![2.0, 1.0]));
}

#[test]
fn trained_thresholds_are_taken_from_the_state_dict() {
    let state_dict = || {
        dictionary(vec![
            ("module.threshold.t0", scalar(0.7)),
            ("module.threshold.t10", scalar(0.9)),
            ("module.threshold.t2", scalar(0.8)),
            ("module.features.0.weight", scalar(1.0)),
            ("module.leak.l0", scalar(1.0)),
            ("module.leak.l2", scalar(0.5)),
        ])
    };
    let c = Checkpoint::from_value(dictionary(vec![("state_dict", state_dict())])).unwrap();
    assert_eq!(c.thresholds.unwrap(), [0.7f32, 0.8, 0.9].map(f64::from));
    assert_eq!(c.leak, Some(Leak::PerLayer(vec![1.0, 0.5])));
    assert_eq!(c.weights.len(), 1);

    let list = |v: &[f64]| Value::List(v.iter().copied().map(Value::Float).collect());
    let both = |v: &[f64]| {
        Checkpoint::from_value(dictionary(vec![("state_dict", state_dict()), ("thresholds", list(v))]))
    };
    assert_eq!(both(&[0.7, 0.8, 0.9]).unwrap().thresholds, Some(vec![0.7, 0.8, 0.9]));
    let message = refusal(both(&[0.7, 0.8, 0.99]));
    assert!(message.contains("expected the same numbers"), "{message}");
}

#[test]
fn content_that_is_not_the_study_s_is_named() {
    let unclear = |value| Checkpoint::from_value(value);
    let state_dict = |entries| dictionary(vec![("state_dict", dictionary(entries))]);
    let cases = [
        (unclear(Value::List(vec![])), "top level: expected a dictionary with 'state_dict'"),
        (unclear(dictionary(vec![])), "got an empty dictionary"),
        (unclear(dictionary(vec![("model", s("x"))])), "got a dictionary of 'model'; save the weights under"),
        (
            unclear(dictionary(vec![("state_dict", s("x"))])),
            "['state_dict']: expected a dictionary of tensors",
        ),
        (
            unclear(state_dict(vec![("w", s("x"))])),
            "['state_dict']['w']: expected a tensor, got the text 'x'",
        ),
        (
            unclear(state_dict(vec![("module.w", scalar(1.0)), ("w", scalar(1.0))])),
            "expected every weight once, got 'w' with and without 'module.'",
        ),
        (with("timesteps", Value::Float(1.5)), "['timesteps']: expected a whole number, got the float 1.5"),
        (with("timesteps", Value::Bool(true)), "got True"),
        (
            with("thresholds", Value::List(vec![s("x")])),
            "['thresholds'][0]: expected a number, got the text 'x'",
        ),
        (with("thresholds", Value::Float(1.0)), "['thresholds']: expected a list of numbers"),
        (with("thresholds", Value::from(TensorData::from_f32(&[2, 2], &[0.0; 4]))), "shape 2 x 2"),
        (with("leak", s("\x1b[2J")), "got the text '\\u{1b}[2J'"),
    ];
    for (result, expected) in cases {
        let message = refusal(result);
        assert!(message.contains(expected), "expected '{expected}' in: {message}");
    }
    let two = dictionary(vec![
        ("state_dict", dictionary(vec![])),
        ("leak", scalar(1.0)),
        ("leak_mem", scalar(0.5)),
    ]);
    assert!(refusal(Checkpoint::from_value(two)).contains("['leak'] and ['leak_mem']"));
}

#[test]
fn a_file_is_not_lost_over_what_nothing_depends_on() {
    let kept = with("epoch", s("best")).unwrap();
    assert_eq!((kept.epoch, &kept.extra), (None, &vec![("epoch".to_owned(), s("best"))]));
    let top = dictionary(vec![("top1", Value::Float(0.7))]);
    let kept = with("accuracy", top.clone()).unwrap();
    assert_eq!((kept.accuracy, &kept.extra), (None, &vec![("accuracy".to_owned(), top)]));
    assert_eq!(Checkpoint::from_value(kept.to_value()).unwrap(), kept);
    // A layer may be called as trained constants are.
    let layer = TensorData::from_f32(&[2, 2], &[0.5; 4]);
    let named = dictionary(vec![("state_dict", dictionary(vec![("leak.weight", layer.clone().into())]))]);
    let found = Checkpoint::from_value(named).unwrap();
    assert_eq!((found.leak, found.weights), (None, vec![("leak.weight".to_owned(), layer)]));
}

#[test]
fn ten_thousand_small_tensors_come_back() {
    let folder = TempDir::new().unwrap();
    let weights = (0..10_000).map(|i| (format!("layer.{i}"), TensorData::from_f32(&[1], &[i as f32])));
    let checkpoint = Checkpoint { weights: weights.collect(), ..Default::default() };
    for name in ["a.pth", "a.safetensors"] {
        let path = folder.path().join(name);
        checkpoint.save(&path).unwrap();
        let found = Checkpoint::load(&path).unwrap();
        assert!(found.weights == checkpoint.weights, "{name}");
    }
}

#[test]
fn one_tensor_mentioned_often_is_read_once() {
    // Some of a storage, so that it cannot be handed out whole: read anew each time this would take minutes.
    const SIZE: i64 = 8 << 20;
    let body = [
        b"](".to_vec(),
        view("ByteStorage", SIZE, 1, &[1], &[1]),
        b"q\0".to_vec(),
        b"h\0".repeat(10_000),
        b"e".to_vec(),
    ];
    let zip = archive(&body.concat()).add("a/data/0", &vec![7; SIZE as usize]);
    let value = load(&zip.finish()).unwrap();
    assert_eq!(value.items().unwrap().len(), 10_001);
    assert_eq!(value.items().unwrap()[10_000].as_i64(), Some(7));
}

#[test]
fn counters_are_dictionaries() {
    let body = b"ccollections\nCounter\n}(K\x05K\x01K\x07K\x02u\x85R";
    let expected = vec![(Value::Int(5), Value::Int(1)), (Value::Int(7), Value::Int(2))];
    assert_eq!(load(&archive(body).finish()).unwrap(), Value::Dict(expected));
    assert_eq!(load(&archive(b"ccollections\nCounter\n)R").finish()).unwrap(), Value::Dict(vec![]));
    assert_says(load(&archive(b"ccollections\nCounter\nK\x01\x85R").finish()), &["Counter"]);
}

#[test]
fn content_errors_name_the_file() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("odd.pth");
    write(&path, &dictionary(vec![("epoch", Value::Int(1))])).unwrap();
    assert!(refusal(Checkpoint::load(&path)).contains("odd.pth: top level"));
    let message = refusal(Checkpoint::load(&folder.path().join("absent.pth")));
    assert!(message.starts_with("no checkpoint at ") && message.contains("absent.pth"), "{message}");
}

// ---- files that are not the study's ----

/// The modified network for recordings of 8 x 8.
fn modified_network() -> Sequential {
    Family::published(Architecture::Modified).network(8, 8).unwrap()
}

fn modified_parameters() -> Vec<(String, Vec<usize>)> {
    modified_network().parameters().into_iter().map(|p| (p.name, p.shape)).collect()
}

/// Names and shapes of the modified network's weights under a prefix, of zeros.
fn modified(prefix: &str) -> Vec<(Value, Value)> {
    let zeros = |shape: &[usize]| TensorData::from_f32(shape, &vec![0.0; shape.iter().product()]);
    modified_parameters()
        .into_iter()
        .map(|(name, shape)| (s(&format!("{prefix}{name}")), zeros(&shape).into()))
        .collect()
}

fn network() -> Value {
    Value::OrderedDict(modified(""))
}

fn select(value: Value, selection: &Selection) -> Result<(Checkpoint, Vec<Note>), CheckpointError> {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a.pth");
    write(&path, &value).unwrap();
    Checkpoint::load_as(&path, selection)
}

fn found(value: Value) -> (Checkpoint, Vec<Note>) {
    select(value, &Selection::default()).unwrap()
}

fn at(place: &str, others: &[&str]) -> Note {
    Note::Found { place: place.to_owned(), others: others.iter().map(|other| other.to_string()).collect() }
}

#[test]
fn weights_are_found_where_they_lie() {
    let cases = [
        (dictionary(vec![("model", network()), ("epoch", Value::Int(3))]), at("['model']", &[])),
        (dictionary(vec![("epoch", Value::Int(3)), ("my_net", network())]), at("['my_net']", &[])),
        (
            dictionary(vec![("ema", network()), ("net", network()), ("epoch", Value::Int(3))]),
            at("['net']", &["ema"]),
        ),
        (
            dictionary(vec![(
                "checkpoint",
                dictionary(vec![("model", network()), ("epoch", Value::Int(3))]),
            )]),
            at("['checkpoint']['model']", &[]),
        ),
        (
            dictionary(vec![
                ("state_dict", dictionary(vec![("model", network())])),
                ("epoch", Value::Int(3)),
            ]),
            at("['state_dict']['model']", &[]),
        ),
        (Value::Dict([modified(""), vec![(s("epoch"), Value::Int(3))]].concat()), at("", &[])),
    ];
    for (value, note) in cases {
        let (checkpoint, notes) = found(value);
        assert_eq!((checkpoint.weights.len(), checkpoint.epoch), (5, Some(3)), "{note:?}");
        assert_eq!(notes, [note]);
    }
    let (checkpoint, notes) = found(Value::Tuple(vec![network(), Value::Float(0.5)]));
    assert_eq!((checkpoint.weights.len(), notes), (5, vec![at("[0]", &[])]));
    assert_eq!(checkpoint.extra, [("[1]".to_owned(), Value::Float(0.5))]);
    // Moments of an optimiser, and numbers of a callback, are no weights.
    let moments = dictionary(vec![("exp_avg", network())]);
    let optimizer = dictionary(vec![("state", moments), ("param_groups", Value::List(vec![]))]);
    let scores = dictionary(vec![("best", scalar(0.5))]);
    let file = dictionary(vec![("adam", optimizer), ("scores", scores), ("net", network())]);
    assert_eq!(found(file).1, [at("['net']", &[])]);
}

#[test]
fn one_of_several_dictionaries_is_chosen() {
    let file = || dictionary(vec![("a", network()), ("b", dictionary(vec![("c", network())]))]);
    let message = refusal(select(file(), &Selection::default()));
    assert!(message.contains("several: ['a'], ['b']['c']; choose one, --weights a say"), "{message}");
    for (key, place) in [("b.c", "['b']['c']"), ("['b']['c']", "['b']['c']"), ("a", "['a']")] {
        let wanted = Selection { weights: Some(key.to_owned()), ..Selection::default() };
        let (checkpoint, notes) = select(file(), &wanted).unwrap();
        let Note::Found { place: found, .. } = &notes[0] else { panic!("{notes:?}") };
        assert_eq!((checkpoint.weights.len(), found.as_str()), (5, place));
    }
    let wanted = Selection { weights: Some("ema".to_owned()), ..Selection::default() };
    let message = refusal(select(file(), &wanted));
    assert!(
        message.contains("a.pth: no dictionary of tensors 'ema'") && message.contains("there is: a, b.c"),
        "{message}"
    );
}

#[test]
fn names_are_fitted_and_said() {
    let lightning = [modified("model."), vec![(s("criterion.weight"), scalar(1.0))]].concat();
    let (checkpoint, notes) = found(dictionary(vec![
        ("state_dict", Value::OrderedDict(lightning)),
        ("hyper_parameters", dictionary(vec![("lr", Value::Float(0.1))])),
    ]));
    assert_eq!(checkpoint.weights[0].0, "features.0.weight");
    assert_eq!(notes, [Note::Prefix("model.".into()), Note::Losses(vec!["criterion.weight".into()])]);
    assert_eq!(checkpoint.extra[0].0, "hyper_parameters");
    let (checkpoint, notes) = found(Value::OrderedDict(modified("module._orig_mod.net.model.")));
    assert_eq!(
        (checkpoint.weights[4].0.as_str(), notes),
        ("classifier.2.weight", vec![Note::Prefix("net.model.".into())])
    );
    assert!(checkpoint.had_module_prefix);

    let renamed = |rules: &[(&str, &str)], ignore: &[&str]| {
        let mut weights = modified("");
        weights[0].0 = s("conv1.weight");
        weights.push((s("aux.weight"), scalar(1.0)));
        let rename = rules.iter().map(|(old, new)| (old.to_string(), new.to_string())).collect();
        let ignore = ignore.iter().map(|name| name.to_string()).collect();
        select(Value::OrderedDict(weights), &Selection { rename, ignore, ..Selection::default() })
    };
    let (checkpoint, notes) = renamed(&[("conv1", "features.0")], &["aux"]).unwrap();
    assert_eq!((checkpoint.weights.len(), checkpoint.weights[0].0.as_str()), (5, "features.0.weight"));
    let texts: Vec<String> = notes.iter().map(ToString::to_string).collect();
    assert_eq!(texts, ["--rename conv1=features.0 changed 1 names", "--ignore aux left 1 tensors out"]);
    let message = refusal(renamed(&[("conv11", "features.0")], &[]));
    assert!(message.contains("--rename conv11: no tensor is called so"), "{message}");
    assert!(matches!(renamed(&[], &["x"]), Err(CheckpointError::Choice { .. })));
}

#[test]
fn weights_in_parts_are_put_together_and_said() {
    let mut weights = modified("");
    let values: Vec<f32> = (0..64 * 64).map(|i| i as f32 - 7.0).collect();
    let mask: Vec<f32> = (0..64 * 64).map(|i| (i % 2) as f32).collect();
    let shape = [64, 1, 8, 8];
    weights[0] = (s("features.0.weight_orig"), TensorData::from_f32(&shape, &values).into());
    weights.insert(3, (s("features.0.weight_mask"), TensorData::from_f32(&shape, &mask).into()));
    let (checkpoint, notes) = found(dictionary(vec![("model", Value::OrderedDict(weights))]));
    assert_eq!(notes[1], Note::PutTogether(Parts::Pruned, vec!["features.0.weight".into()]));
    assert_eq!((checkpoint.weights.len(), checkpoint.weights[0].0.as_str()), (5, "features.0.weight"));
    let product: Vec<f32> = values.iter().zip(&mask).map(|(v, m)| v * m).collect();
    assert_eq!(checkpoint.weights[0].1.to_f32(), product);
}

#[test]
fn objects_beside_the_weights_are_told_of_and_left_out() {
    let body = [
        b"}(".to_vec(),
        text("net"),
        [b"}(".to_vec(), text("a.w"), view("FloatStorage", 6, 0, &[6], &[1]), b"u".to_vec()].concat(),
        text("args"),
        b"cargparse\nNamespace\n)\x81}".to_vec(),
        text("lr"),
        b"K\x01sb".to_vec(),
        text("hp"),
        [b"}(".to_vec(), text("lr"), b"K\x02".to_vec(), text("p"), b"cpathlib\nPosixPath\n)R".to_vec()]
            .concat(),
        [text("l"), b"](K\x01cmine\nf\neu".to_vec()].concat(),
        text("x"),
        b"cos\nsystem\nX\x02\0\0\0id\x85Ru".to_vec(),
    ];
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a.pth");
    fs::write(&path, archive(&body.concat()).add("a/data/0", &six()).finish()).unwrap();
    let (checkpoint, notes) = Checkpoint::load_as(&path, &Selection::default()).unwrap();
    assert_eq!(checkpoint.weights[0].1.to_f32(), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    let hp = dictionary(vec![("lr", Value::Int(2)), ("l", Value::List(vec![Value::Int(1), Value::None]))]);
    assert_eq!(checkpoint.extra, [("hp".to_owned(), hp)]);
    let texts: Vec<String> = notes.iter().map(ToString::to_string).collect();
    assert!(texts[0].contains("would run os.system"), "{texts:?}");
    assert_eq!(texts[1], "the weights are those of ['net']");
    assert!(
        texts[2].ends_with(
            "['args'] (an object of argparse.Namespace), ['hp']['p'] (an object of pathlib.PosixPath), ['hp']['l'][1] \
             (the class or function mine.f), ['x'] (the result of calling os.system)"
        ),
        "{texts:?}"
    );
    checkpoint.save(&folder.path().join("b.pth")).unwrap();
    checkpoint.save(&folder.path().join("b.safetensors")).unwrap();
    // Among the weights it is refused, with its name.
    let body = [
        b"}(".to_vec(),
        text("a.w"),
        view("FloatStorage", 6, 0, &[6], &[1]),
        text("b.w"),
        b"cmine\nA\n)Ru".to_vec(),
    ];
    let body = [b"}".to_vec(), text("state_dict"), body.concat(), b"s".to_vec()].concat();
    fs::write(&path, archive(&body).add("a/data/0", &six()).finish()).unwrap();
    let message = refusal(Checkpoint::load(&path));
    assert!(
        message.contains(
            "['state_dict']['b.w']: expected a tensor, got an object of mine.A; save the tensors alone"
        ),
        "{message}"
    );
    // A whole model where weights are expected.
    let bytes = archive(&[b"}".to_vec(), text("model"), b"cmine\nNet\n)\x81s".to_vec()].concat()).finish();
    fs::write(&path, bytes).unwrap();
    let message = refusal(Checkpoint::load(&path));
    let line = format!(
        "torch.save(torch.load('{}', weights_only=False)['model'].state_dict(), 'weights.pth')",
        path.display()
    );
    assert!(message.contains("['model'] is an object of mine.Net") && message.contains(&line), "{message}");
}

#[test]
fn thresholds_follow_the_names_of_the_layers() {
    let with = |thresholds: &[(&str, f64)]| {
        let thresholds = thresholds.iter().map(|&(name, v)| (name, Value::Float(v))).collect();
        let file = dictionary(vec![("state_dict", network()), ("thresholds", dictionary(thresholds))]);
        Checkpoint::from_value(file).map(|c| c.thresholds.unwrap())
    };
    let five = Ok(vec![1.0, 2.0, 3.0, 4.0, 5.0]);
    let text = |result: Result<Vec<f64>, CheckpointError>| result.map_err(|e| e.to_string());
    let by_name = [("linear2", 5.0), ("conv1", 1.0), ("conv3", 3.0), ("linear1", 4.0), ("conv2", 2.0)];
    assert_eq!(text(with(&by_name)), five);
    let by_key = [
        ("classifier.2", 5.0),
        ("module.features.3", 2.0),
        ("features.6.weight", 3.0),
        ("features.0", 1.0),
        ("classifier.0", 4.0),
    ];
    assert_eq!(text(with(&by_key)), five);
    let numbered = [("t6", 3.0), ("t0", 1.0), ("t11", 5.0), ("t3", 2.0), ("t9", 4.0)];
    assert_eq!(text(with(&numbered)), five);
    let message = text(with(&by_name[..4])).unwrap_err();
    assert!(
        message.contains("['thresholds']") && message.contains("none for conv2 (features.3)"),
        "{message}"
    );
    let capital = [("Linear2", 5.0), ("Conv1", 1.0), ("CONV3", 3.0), ("Linear1", 4.0), ("Conv2", 2.0)];
    assert_eq!(text(with(&capital)), five);
    let unknown = [by_name.as_slice(), &[("conv4", 1.0)]].concat();
    assert!(text(with(&unknown)).unwrap_err().contains("'conv4', which is none of these layers"));
    let twice = [by_name.as_slice(), &[("features.0", 1.0)]].concat();
    assert!(text(with(&twice)).unwrap_err().contains("'features.0', a layer that was there already"));
}

#[test]
fn what_fits_but_for_names_is_told_how_to_rename_it() {
    let named = |names: &[&str]| -> Vec<(String, TensorData)> {
        let tensors = modified("").into_iter().filter_map(|(_, v)| v.as_tensor().cloned());
        names.iter().map(ToString::to_string).zip(tensors).collect()
    };
    let expected = modified_parameters();
    let message = |found: &[(String, TensorData)]| {
        refusal(match_weights(&expected, found).into_result(Path::new("a.pth"), "a network", "another"))
    };
    let text = message(&named(&["conv1.weight", "conv2.weight", "conv3.weight", "fc1.weight", "fc2.weight"]));
    let rules = "--rename conv1=features.0 --rename conv2=features.3 --rename conv3=features.6 --rename \
                 fc1=classifier.0 --rename fc2=classifier.2\n";
    assert!(text.contains(rules), "{text}");
    let mut whole = named(&expected.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>());
    whole.push(("aux.weight".to_owned(), TensorData::from_f32(&[1], &[0.0])));
    let text = message(&whole);
    assert!(
        text.contains("the network is whole") && text.contains("leave them out with --ignore aux.weight"),
        "{text}"
    );
}

/// Advice must not lead to a network that computes something else.
#[test]
fn what_changes_the_network_is_not_advised() {
    let expected = modified_parameters();
    type Weights = Vec<(String, TensorData)>;
    let message = |change: &dyn Fn(&mut Weights)| {
        let of = |(name, value): (Value, Value)| {
            (name.as_str().unwrap().to_owned(), value.as_tensor().unwrap().clone())
        };
        let mut weights: Vec<_> = modified("").into_iter().map(of).collect();
        change(&mut weights);
        refusal(match_weights(&expected, &weights).into_result(Path::new("a.pth"), "a network", "another"))
    };
    let named = |name: &str, shape: &[usize], value: f32| {
        (name.to_owned(), TensorData::from_f32(shape, &vec![value; shape.iter().product()]))
    };
    let text = message(&|weights| weights.push(named("features.0.bias", &[64], 0.5)));
    assert!(
        text.contains("a network with biases (features.0.bias is not zero)") && !text.contains("--ignore"),
        "{text}"
    );
    // Zeros change nothing.
    let text = message(&|weights| weights.push(named("features.0.bias", &[64], 0.0)));
    assert!(text.contains("--ignore features.0.bias"), "{text}");
    for name in ["classifier.2.scale", "classifier.2.zero_point"] {
        let text = message(&|weights| weights.push(named(name, &[], 1.0)));
        assert!(text.contains(name) && text.contains("dequantize()") && !text.contains("--ignore"), "{text}");
    }
    for end in ["v", "g", "orig"] {
        let part = format!("classifier.2.weight_{end}");
        let text = message(&|weights| weights[4].0 = part.clone());
        assert!(
            text.contains(&format!("{part} is a part of a weight")) && !text.contains("--rename"),
            "{text}"
        );
        assert!(text.contains("did you mean (0)"), "{text}");
    }
    let text = message(&|weights| weights[4] = named("classifier.2.weight", &[256, 3], 0.0));
    assert!(text.contains("state['classifier.2.weight'].T.contiguous()"), "{text}");
    let text = message(&|weights| weights[0] = named("features.0.weight", &[64, 8, 8], 0.0));
    assert!(text.contains("state['features.0.weight'].unsqueeze(1)"), "{text}");
}

#[test]
fn whole_numbers_are_no_weights() {
    for (dtype, scale) in [(DType::I8, true), (DType::I64, false), (DType::Bool, false)] {
        let mut weights = modified("");
        let bytes = vec![1; 3 * 256 * dtype.size()];
        weights[4].1 = TensorData { dtype, shape: vec![3, 256], bytes: bytes.into() }.into();
        if scale {
            weights.push((s("classifier.2.scale"), scalar(0.1)));
        }
        let (checkpoint, _) = found(Value::OrderedDict(weights));
        let matched = matched_weights(&checkpoint, Path::new("a.pth"), &modified_network());
        let text = refusal(matched);
        let named = format!("a.pth: classifier.2.weight holds whole numbers ({dtype})");
        assert!(text.starts_with(&named) && text.contains("dequantize()"), "{text}");
        let by_scale = "state['classifier.2.weight'].float() * state['classifier.2.scale']";
        assert_eq!(text.contains(by_scale), scale, "{text}");
    }
}

#[test]
fn what_stands_among_the_weights_is_left_out_or_named() {
    let among = |more: Vec<(&str, Value)>, ignore: &[&str]| {
        let mut weights = modified("module.");
        weights.extend(more.into_iter().map(|(key, value)| (s(key), value)));
        let ignore = ignore.iter().map(|name| name.to_string()).collect();
        let file = dictionary(vec![("state_dict", Value::OrderedDict(weights))]);
        select(file, &Selection { ignore, ..Selection::default() })
    };
    let text = refusal(among(vec![("note", s("hello"))], &[]));
    assert!(text.contains("['state_dict']['note']") && text.contains("--ignore note"), "{text}");
    let (checkpoint, notes) =
        among(vec![("note", s("hello")), ("x.epoch", Value::Int(3))], &["note", "x"]).unwrap();
    assert_eq!(checkpoint.weights.len(), 5);
    assert_eq!(notes[0].to_string(), "--ignore note left out 0 tensors and 1 other things");
    let averaged =
        TensorData { dtype: DType::I64, shape: vec![], bytes: vec![5, 0, 0, 0, 0, 0, 0, 0].into() };
    let (checkpoint, notes) = among(vec![("n_averaged", averaged.into())], &[]).unwrap();
    assert_eq!((checkpoint.weights.len(), notes), (5, vec![Note::ExtraState(vec!["n_averaged".into()])]));
    let packed =
        vec![("classifier.0._packed_params._packed_params", Value::Tuple(vec![scalar(1.0), Value::None]))];
    let text = refusal(among(packed, &[]));
    assert!(
        text.contains("_packed_params']") && text.contains("packed weights of a quantised module"),
        "{text}"
    );
}

#[test]
fn weights_beside_an_empty_place_and_in_parts_are_found() {
    for empty in [Value::None, dictionary(vec![])] {
        let (checkpoint, notes) = found(dictionary(vec![("state_dict", empty), ("model", network())]));
        assert_eq!((checkpoint.weights.len(), notes), (5, vec![at("['model']", &[])]));
    }
    let (mut features, mut classifier) = (Vec::new(), Vec::new());
    for (name, value) in modified("") {
        match name.as_str().and_then(|name| name.split_once('.')) {
            Some(("features", rest)) => features.push((s(rest), value)),
            Some((_, rest)) => classifier.push((s(rest), value)),
            None => {}
        }
    }
    let parts = vec![
        ("features", Value::Dict(features)),
        ("classifier", Value::Dict(classifier)),
        ("epoch", Value::Int(3)),
    ];
    let (checkpoint, _) = found(dictionary(parts));
    assert_eq!((checkpoint.weights[4].0.as_str(), checkpoint.epoch), ("classifier.2.weight", Some(3)));
    let numbered = Value::Dict(vec![(Value::Int(0), TensorData::from_f32(&[2], &[0.5, 1.0]).into())]);
    let text = refusal(select(dictionary(vec![("weights", numbered)]), &Selection::default()));
    assert!(text.contains("['weights'] has tensors without names") && text.contains("zip("), "{text}");
    // As deep as it is named.
    let deep =
        ["f", "e", "d", "c", "b", "a"].iter().fold(network(), |inner, key| dictionary(vec![(key, inner)]));
    let wanted = Selection { weights: Some("a.b.c.d.e.f".to_owned()), ..Selection::default() };
    assert_eq!(select(deep, &wanted).unwrap().0.weights.len(), 5);
}

// ---- the load report ----

#[test]
fn a_report_accounts_for_every_key() {
    let expected: Vec<(String, Vec<usize>)> = vec![
        ("features.0.weight".into(), vec![64, 1, 8, 8]),
        ("features.3.weight".into(), vec![64, 64, 4, 4]),
        ("classifier.0.weight".into(), vec![2, 2]),
        ("bias".into(), vec![]),
    ];
    let zeros = |shape: &[usize]| TensorData::from_f32(shape, &vec![0.0; shape.iter().product()]);
    let found = vec![
        ("features.0.weight".to_owned(), zeros(&[64, 1, 8, 8])),
        ("features.3.weight".to_owned(), zeros(&[64, 64, 3, 3])),
        ("clasifier.0.weight".to_owned(), zeros(&[2, 2])),
        ("running_mean".to_owned(), zeros(&[7])),
    ];
    let report = match_weights(&expected, &found);
    assert!(!report.is_clean());
    let text = report.to_string();
    let lines: Vec<_> = text.lines().map(str::trim).collect();
    assert_eq!(
        lines,
        [
            "applied (1): features.0.weight",
            "missing (2): classifier.0.weight (2 x 2), bias (scalar)",
            "unused (2): clasifier.0.weight (2 x 2), running_mean (7)",
            "mismatched (1): features.3.weight (expected 64 x 64 x 4 x 4, got 64 x 64 x 3 x 3)",
            "did you mean (1): clasifier.0.weight for classifier.0.weight",
        ]
    );
    let message = refusal(report.into_result(Path::new("net.pth"), "a network", "another"));
    assert!(message.contains("rename its keys: --rename clasifier=classifier\n"), "{message}");
    assert!(
        message.starts_with("weights of net.pth do not fit: expected a network, got another;"),
        "{message}"
    );
    assert!(message.ends_with(&text), "{message}");

    let clean = match_weights(&expected[..1], &found[..1]).into_result(Path::new("net.pth"), "", "").unwrap();
    assert_eq!(clean.applied, ["features.0.weight"]);
    assert!(clean.to_string().contains("missing (0): none"));
}

// ---- files that are something else ----

#[test]
fn other_files_are_called_what_they_are() {
    let mut tar = vec![b'x'; 512];
    tar[257..262].copy_from_slice(b"ustar");
    let npz = Zip::default().add("train_x.npy", b"\x93NUMPY").add("train_y.npy", b"").finish();
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (vec![], "an empty file"),
        (b"PK\x05\x06".iter().chain(&[0; 18]).copied().collect(), "an empty zip archive"),
        (include_bytes!("../../../tests/fuzz/seeds/hdf5/cells").to_vec(), "an HDF5 file"),
        (b"\x93NUMPY\x01\0".to_vec(), "a NumPy array (.npy)"),
        (npz, "a NumPy archive (.npz)"),
        (b"MATLAB 5.0 MAT-file, Platform".to_vec(), "a MATLAB file"),
        (b"\x1f\x8b\x08\0".to_vec(), "a gzip file"),
        (tar, "a tar archive"),
        (b"version https://git-lfs.github.com/spec/v1".to_vec(), "a Git LFS pointer"),
        (b"\n<!DOCTYPE html><html>".to_vec(), "a web page"),
        (b"\x80\x04\x95\0\0\0\0\0\0\0\0.".to_vec(), "a bare pickle"),
        (b"{\"lr\": 1}".to_vec(), "JSON"),
        (vec![0; 4096], "zeros"),
        (b"hello".to_vec(), "plain text"),
        (b"hello\x01".to_vec(), "an unknown format"),
        (Zip::default().add("word/document.xml", b"").finish(), "(it holds word/document.xml)"),
        (Zip::default().add("best/model.pth", b"").finish(), "a zip archive around a checkpoint"),
        (Zip::default().add("a/archive_format", b"pt2").finish(), "an archive of torch.export (.pt2)"),
        (Zip::default().add("a/b/data.pkl", b"").finish(), "without data.pkl in its top folder"),
        (archive(b"N").add("b/data.pkl", b"").finish(), "several data.pkl"),
    ];
    for (bytes, expected) in cases {
        assert_says(
            load(&bytes),
            &[
                "a.pth is not a checkpoint: expected a file of torch.save, .safetensors or a Keras model",
                expected,
            ],
        );
    }
    assert_says(read(TempDir::new().unwrap().path()), &["got a folder"]);
}

#[test]
fn files_of_other_programs_are_called_what_they_are() {
    let cases: [(&str, &[u8], &str, &str); 18] = [
        (
            "a.h5",
            include_bytes!("../../../tests/fuzz/seeds/keras/weights"),
            "weights of a Keras model without their network",
            "model.save(",
        ),
        ("a.nir", include_bytes!("../../../tests/fuzz/seeds/keras/nir"), "a NIR graph", "nir.read"),
        ("a.onnx", b"\x08\x08\x12\x07pytorch", "an ONNX model", "onnx.load"),
        ("a.pth", b"\x08\x08\x12\x07pytorch", "an ONNX model", "onnx.load"),
        ("a.gguf", b"GGUF\x03\0\0\0", "a GGUF file", "PyTorch file"),
        ("a.tflite", b"\x1c\0\0\0TFL3", "a TensorFlow Lite model", "torch.save"),
        ("saved_model.pb", b"\x08\x01\x92\x01", "a TensorFlow model", "torch.save"),
        ("checkpoint", b"model_checkpoint_path: \"a\"", "a TensorFlow model", "torch.save"),
        ("__0_0.distcp", b"PK\x03\x04", "a distributed checkpoint", "dcp_to_torch"),
        (".metadata", b"\x80\x02}.", "a distributed checkpoint", "dcp_to_torch"),
        ("a.pkl", b"\x80\x04\x95\x10\0\0\0\0\0\0\0\x8c\x07sklearn.", "scikit-learn", "the .pth file"),
        ("a.pkl", b"\x80\x04\x95\x10\0\0\0\0\0\0\0}.", "a bare pickle", "pickle.load"),
        ("a.json", b"{\"metadata\": {}, \"weight_map\": {}}", "weights in several files", "load_file"),
        ("a.pth", b"<Error><Code>AccessDenied</Code>", "servers", "again"),
        ("a.pth", b"Entry not found", "plain text", "servers"),
        ("a.pth", b"\xfd7zXZ\0\0\0", "a compressed file", "unpack it"),
        ("a.mat", b"MATLAB 7.3 MAT-file", "a MATLAB file", "--data"),
        ("a.pth", b"%PDF-1.7", "a picture or document", "check"),
    ];
    for (name, bytes, what, hint) in cases {
        let message = refusal(read_bytes(Path::new(name), bytes));
        let hint = if hint == "check" { "checkpoints are .pth files" } else { hint };
        assert!(message.contains(what) && message.contains(hint), "{name}: {message}");
    }
    let folders: [(&[&str], &str, &str); 6] = [
        (&[".metadata", "__0_0.distcp"], "a distributed checkpoint", "dcp_to_torch"),
        (&["saved_model.pb"], "SavedModel", "torch.save"),
        (&["data.pkl"], "an unpacked file of torch.save", "zip -0"),
        (&["latest", "global_step10"], "DeepSpeed", "zero_to_fp32.py"),
        (&["model.safetensors.index.json", "a.safetensors"], "several files", "load_file"),
        (&["best.pth", "notes.txt"], "a folder (with best.pth)", "best.pth say"),
    ];
    for (names, what, hint) in folders {
        let folder = TempDir::new().unwrap();
        names.iter().for_each(|name| fs::write(folder.path().join(name), "").unwrap());
        let message = refusal(read(folder.path()));
        assert!(message.contains(what) && message.contains(hint), "{message}");
    }
}

#[test]
fn torchscript_is_told_to_export_a_state_dict() {
    for entry in ["a/constants.pkl", "a/code/__torch__.py"] {
        let bytes = archive(b"N").add(entry, b"").finish();
        assert_says(load(&bytes), &["TorchScript", entry, "state_dict()"]);
    }
}

// ---- hostile pickles ----

/// What an opaque value is, in words.
#[track_caller]
fn opaque(result: Result<Value, CheckpointError>) -> String {
    let value = result.unwrap();
    value.as_opaque().unwrap_or_else(|| panic!("expected nothing that is made, got {value:?}")).what.clone()
}

/// What a file names and would run.
fn names(bytes: &[u8]) -> (Vec<String>, Vec<String>) {
    let foreign = read_bytes(Path::new("a.pth"), bytes).unwrap().foreign;
    let run = foreign.iter().filter(|f| f.would_run()).map(|f| f.name.clone()).collect();
    (foreign.into_iter().map(|f| f.name).collect(), run)
}

#[test]
fn nothing_but_data_is_made() {
    let calls: [(&[u8], &str, bool); 9] = [
        (b"cos\nsystem\nX\x02\0\0\0id\x85R", "os.system", true),
        (b"cposix\nsystem\nX\x02\0\0\0id\x85R", "posix.system", true),
        (b"c__builtin__\neval\nX\x01\0\0\0\x31\x85R", "builtins.eval", true),
        (b"cbuiltins\ngetattr\n)R", "builtins.getattr", false),
        (b"ctorch\nload\n)R", "torch.load", true),
        (b"ctorch.hub\nload\n)R", "torch.hub.load", true),
        (b"ctorch\nos.system\n)R", "torch.os.system", true),
        (b"cmine\nNet\n)\x81", "mine.Net", false),
        (b"ccollections\ndefaultdict\n)R", "collections.defaultdict", false),
    ];
    for (call, name, runs) in calls {
        let bytes = archive(&[b"]", call, b"a"].concat()).finish();
        let value = load(&bytes).unwrap();
        let what = &value.items().unwrap()[0].as_opaque().unwrap().what;
        assert!(what.ends_with(name), "{what}");
        let expected = vec![name.to_owned()];
        assert_eq!(names(&bytes), (expected.clone(), if runs { expected } else { vec![] }));
        // Nothing of it can be written again.
        let folder = TempDir::new().unwrap();
        assert!(refusal(write(&folder.path().join("b.pth"), &value)).contains("expected plain data"));
    }
    // By way of the stack, as protocol 4 does it, and of opcodes that make objects.
    let stack = [text("subprocess"), text("Popen"), b"\x93)R".to_vec()].concat();
    assert_eq!(opaque(load(&archive(&stack).finish())), "an object of subprocess.Popen");
    assert_eq!(opaque(load(&archive(b"(ios\nsystem\n").finish())), "the result of calling os.system");
    assert_eq!(opaque(load(&archive(b"(cos\nsystem\no").finish())), "the result of calling os.system");
    assert_eq!(
        opaque(load(&archive(b"cos\n\x1b[31mred\n").finish())),
        "the class or function os.\\u{1b}[31mred"
    );
    assert_eq!(opaque(load(&archive(b"cmine\nA\n)}\x92").finish())), "an object of mine.A");
    let class = b"ccopyreg\n_reconstructor\ncmine\nA\nc__builtin__\nobject\nN\x87R}X\x01\0\0\0aK\x01sb";
    let value = load(&archive(class).finish()).unwrap();
    let object = value.as_opaque().unwrap();
    assert_eq!(
        (object.what.as_str(), &object.fields[..]),
        ("an object of mine.A", &[("[2]".into(), Value::None), ("a".into(), Value::Int(1))][..])
    );
    // The result of a call is called, and a call that leaves nothing behind.
    assert_eq!(opaque(load(&archive(b"cmine\nmake\n)R)R").finish())), "the result of calling mine.make");
    let hidden = archive(b"cos\nsystem\nX\x02\0\0\0id\x85R0N").finish();
    assert_eq!((load(&hidden).unwrap(), names(&hidden).1), (Value::None, vec!["os.system".to_owned()]));
    for (body, expected) in [
        (&b"(No"[..], "expected an imported name to call"),
        (b"(o", "expected a class to make an object of"),
        (b"\x82\x01", "refers to what is not in the file"),
        (b"Pid\n", "refers to what is not in the file"),
    ] {
        assert_says(load(&archive(body).finish()), &[expected]);
    }
}

#[test]
fn dictionaries_and_lists_of_other_classes_are_plain() {
    let dictionary = b"cmine\nDict\n)\x81(X\x01\0\0\0aK\x01u}X\x01\0\0\0bNsb";
    assert_eq!(load(&archive(dictionary).finish()).unwrap(), Value::Dict(vec![(s("a"), Value::Int(1))]));
    let defaults = b"ccollections\ndefaultdict\nc__builtin__\nlist\n\x85RX\x01\0\0\0aK\x01s";
    assert_eq!(load(&archive(defaults).finish()).unwrap(), Value::Dict(vec![(s("a"), Value::Int(1))]));
    let queue = b"ccollections\ndeque\n)R(K\x01K\x02e";
    assert_eq!(load(&archive(queue).finish()).unwrap(), Value::List(vec![Value::Int(1), Value::Int(2)]));
    // Each object is a key of its own.
    let keys = b"}cmine\nColor\nK\x01\x85RNscmine\nColor\nK\x01\x85RNs";
    assert_eq!(load(&archive(keys).finish()).unwrap().entries().unwrap().len(), 2);
}

#[test]
fn objects_that_hold_themselves_or_much_are_but_named() {
    // A state that is the object itself, and one that is a list that holds it.
    assert_eq!(opaque(load(&archive(b"cmine\nA\n)\x81q\0h\0b").finish())), "an object of mine.A");
    assert_eq!(opaque(load(&archive(b"cmine\nA\n)\x81q\0](h\0h\0eb").finish())), "an object of mine.A");
    // A million containers within each other, none of which is looked at.
    let deep = [b"cmine\nA\n)\x81)".as_slice(), &vec![0x85; 100_000], b"b"].concat();
    assert_eq!(opaque(load(&archive(&deep).finish())), "an object of mine.A");
    let deep = [b"cmine\nA\n)".as_slice(), &vec![0x85; 100_000], b"R"].concat();
    assert_eq!(opaque(load(&archive(&deep).finish())), "an object of mine.A");
}

#[test]
fn a_hint_names_the_key() {
    let body = [&b"}("[..], &text("state_dict"), b"}(", &text("a"), b"K\x01", &text("w"), b"Na"].concat();
    assert_says(load(&archive(&body).finish()), &["byte ", ", in ['state_dict']['w']: expected a list"]);
}

#[test]
fn allowed_names_are_only_called_as_meant() {
    let cases: [&[u8]; 16] = [
        b"ctorch._utils\n_rebuild_tensor_v2\n)R",
        b"ctorch._utils\n_rebuild_tensor_v2\nNR",
        b"ctorch._utils\n_rebuild_parameter\n(N\x88NtR",
        b"ctorch\nFloatStorage\n)R",
        b"ctorch\nSize\nK\x03\x85R",
        b"ctorch\ndevice\nK\x03\x85R",
        b"c_codecs\nencode\nX\x02\0\0\0idX\x03\0\0\0hex\x86R",
        b"c_codecs\nencode\nX\x03\0\0\0\xe2\x82\xacX\x06\0\0\0latin1\x86R",
        b"c__builtin__\nset\nK\x01\x85R",
        b"ccollections\nOrderedDict\n]K\x01a\x85R",
        b"cnumpy\ndtype\n)R",
        b"cnumpy.core.multiarray\nscalar\nNN\x86R",
        b"cnumpy.core.multiarray\n_reconstruct\nN)C\x01b\x87R",
        // A call that names itself as the function to call.
        b"ctorch._tensor\n_rebuild_from_type_v2\n(ctorch._tensor\n_rebuild_from_type_v2\nctorch\nTensor\n)}tR",
        b"K\x01)R",
        b"N)R",
    ];
    for case in cases {
        let result = load(&archive(case).finish());
        assert!(
            matches!(&result, Err(CheckpointError::Damaged { .. })),
            "{result:?} for {}",
            case.escape_ascii()
        );
    }
}

#[test]
fn a_name_is_no_value() {
    let value = load(&archive(b"]ctorch\nFloatStorage\na").finish()).unwrap();
    assert_eq!(value.items().unwrap()[0].describe(), "a class or function of PyTorch or NumPy");
    let dtype = load(&archive(b"ctorch\nfloat8_e5m2\n").finish()).unwrap();
    assert_eq!(dtype, Value::DType("float8_e5m2".into()));
}

#[test]
fn malformed_pickles_are_refused() {
    let cases: [(&[u8], &str); 22] = [
        (b"", "expected a value on the stack"),
        (b"NN", "expected one value at the end"),
        (b"(N", "expected one value at the end"),
        (b"(", "expected a value on the stack"),
        (b"N(0", "expected a value on the stack"),
        (b"t", "expected a mark"),
        (b"\x87", "expected a value on the stack"),
        (b"]K\x01Ns", "dictionary to set items of"),
        (b"}(K\x02u", "key without a value"),
        (b"}]Ns", "as a key, got a list"),
        (b"}K\x01NsK\x01Ns", "distinct keys, got the int 1 twice"),
        (b"Na", "expected a list"),
        (b"h\x05", "memo 5"),
        (b"j\xff\xff\xff\xff", "memo 4294967295"),
        (b"q\x00", "expected a value on the stack"),
        (b"X\xff\xff\xff\xffabc", "expected 4294967295 more bytes, got 4"),
        (b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff", "cut short"),
        (b"X\x02\0\0\0\xff\xfe", "UTF-8"),
        (b"\x8b\xff\xff\xff\xff", "cut short"),
        (b"\xfa", "expected an opcode, got the byte 0xfa"),
        (b"I5\n", "protocol 0 or 1"),
        (b"cos", "cut short within a name"),
    ];
    for (body, expected) in cases {
        assert_says(load(&archive(body).finish()), &[expected]);
    }
    let newer = Zip::default().add("a/data.pkl", b"\x80\x06N.").finish();
    assert_says(load(&newer), &["protocol 2 to 5, got 6"]);
}

#[test]
fn memo_entries_are_numbered_in_turn() {
    // Python 2 begins with 1.
    let value = load(&archive(b"K\x07q\x010h\x01").finish()).unwrap();
    assert_eq!(value, Value::Int(7));
    assert_says(load(&archive(b"K\x07r\xff\xff\xff\xff").finish()), &["numbered in turn, got 4294967295"]);
}

#[test]
fn nesting_is_limited() {
    let lists = |n: usize| archive(&[vec![b']'; n], vec![b'a'; n - 1]].concat()).finish();
    assert!(load(&lists(100)).is_ok());
    for n in [102, 5_000] {
        assert_says(load(&lists(n)), &["at most 100 containers within each other"]);
    }
    let tuples = [b")".as_slice(), &vec![0x85; 5_000]].concat();
    assert_says(load(&archive(&tuples).finish()), &["at most 100 containers"]);
    // A list within itself.
    assert_says(load(&archive(b"]q\0h\0a").finish()), &["at most 100 containers"]);
    // As a key.
    let keys = [b"}".as_slice(), b")", &[0x85; 5000], b"Ns"].concat();
    assert_says(load(&archive(&keys).finish()), &["at most 100 containers"]);
}

#[test]
fn repeated_mention_cannot_multiply() {
    // Each list holds the one before twice: 2^40 values from 200 bytes.
    let mut laughs = b"]q\0".to_vec();
    for i in 0..40u8 {
        laughs.extend([b']', b'(', b'h', i, b'h', i, b'e', b'q', i + 1]);
    }
    let laughs = [b"(".as_slice(), &laughs, b"t"].concat();
    assert_says(load(&archive(&laughs).finish()), &["a list would take", "4 times its 486 bytes"]);
    // One text of 64 KiB a thousand times.
    let texts = [b"]".to_vec(), text(&"x".repeat(65536)), b"q\0a".to_vec(), b"h\0a".repeat(1000)].concat();
    assert_says(load(&archive(&texts).finish()), &["a text would take 65536 bytes"]);
    // The same, copied by a call.
    let call = b"c_codecs\nencode\nh\0X\x06\0\0\0latin1\x86R0".repeat(1000);
    let calls = [text(&"x".repeat(65536)), b"q\0".to_vec(), call].concat();
    assert_says(load(&archive(&calls).finish()), &["bytes would take 65536 bytes"]);
}

#[test]
fn objects_take_no_more_than_the_file_warrants() {
    const MANY: usize = 3 << 20;
    for opcode in [b']', b'}', b')'] {
        let body = [b"(".as_slice(), &vec![opcode; MANY], b"t"].concat();
        assert_says(load(&archive(&body).finish()), &["the objects of a pickle would take"]);
    }
    let memo = [b"N".as_slice(), &vec![0x94; MANY]].concat();
    assert_says(load(&archive(&memo).finish()), &["the memo of a pickle would take"]);
    let numbers = [b"(".as_slice(), &vec![b'N'; MANY], b"t"].concat();
    assert_says(load(&archive(&numbers).finish()), &["the values of a pickle would take"]);
    assert_says(load(&archive(&[b'('; MANY]).finish()), &["marks would take"]);
    // What a genuine file holds beside its tensors.
    let history = Value::List((0..5_000).map(|i| Value::Float(f64::from(i))).collect());
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a.pth");
    write(&path, &history).unwrap();
    assert_eq!(read(&path).unwrap(), history);
}

// ---- tensors ----

fn six_as(
    storage: &str,
    numel: i64,
    offset: i64,
    shape: &[i64],
    strides: &[i64],
) -> Result<Value, CheckpointError> {
    let body = view(storage, numel, offset, shape, strides);
    load(&archive(&body).add("a/data/0", &six()).finish())
}

#[track_caller]
fn values(result: Result<Value, CheckpointError>) -> (Vec<usize>, Vec<f32>) {
    match result.unwrap() {
        Value::Tensor(t) => (t.shape.clone(), t.to_f32()),
        other => panic!("expected a tensor, got {other:?}"),
    }
}

#[test]
fn views_come_out_contiguous() {
    let six =
        |offset, shape: &[i64], strides: &[i64]| values(six_as("FloatStorage", 6, offset, shape, strides));
    assert_eq!(six(0, &[2, 3], &[3, 1]), (vec![2, 3], vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0]));
    assert_eq!(six(0, &[3, 2], &[1, 3]), (vec![3, 2], vec![0.0, 3.0, 1.0, 4.0, 2.0, 5.0]));
    assert_eq!(six(1, &[2, 2], &[3, 1]), (vec![2, 2], vec![1.0, 2.0, 4.0, 5.0]));
    assert_eq!(six(5, &[], &[]), (vec![], vec![5.0]));
    assert_eq!(six(5, &[1, 1], &[i64::MAX, i64::MAX]), (vec![1, 1], vec![5.0]));
    assert_eq!(six(2, &[3], &[0]), (vec![3], vec![2.0, 2.0, 2.0]));
    assert_eq!(six(0, &[2, 2], &[2, 2]), (vec![2, 2], vec![0.0, 2.0, 2.0, 4.0]));
    assert_eq!(six(0, &[0, 5], &[5, 1]), (vec![0, 5], vec![]));
    assert_eq!(six(99, &[0], &[1]), (vec![0], vec![]));
}

#[test]
fn views_must_lie_within_their_storage() {
    let out_of_bounds = "expected it to lie within its storage, got a storage of 6 elements";
    let max = i64::MAX;
    let cases: [(i64, &[i64], &[i64]); 7] = [
        (0, &[7], &[1]),
        (6, &[], &[]),
        (1, &[2, 3], &[3, 1]),
        (0, &[3, 2], &[2, 2]),
        (max, &[2], &[max]),
        (0, &[max, max], &[1, 1]),
        (0, &[max, max, 4], &[0, 0, 0]),
    ];
    for (offset, shape, strides) in cases {
        assert_says(six_as("FloatStorage", 6, offset, shape, strides), &[out_of_bounds]);
    }
    let cases: [(i64, &[i64], &[i64]); 6] = [
        (-1, &[1], &[1]),
        (0, &[-1], &[1]),
        (0, &[2], &[-1]),
        (0, &[2], &[]),
        (0, &[], &[1]),
        (0, &[1; 65], &[1; 65]),
    ];
    for (offset, shape, strides) in cases {
        assert_says(six_as("FloatStorage", 6, offset, shape, strides), &["as many sizes as strides"]);
    }
}

#[test]
fn storages_must_have_their_declared_size() {
    for (storage, numel) in
        [("FloatStorage", 7), ("FloatStorage", 5), ("DoubleStorage", 6), ("FloatStorage", i64::MAX)]
    {
        let expected = format!("expected a storage '0' of {numel} elements");
        assert_says(six_as(storage, numel, 0, &[1], &[1]), &[&expected, "got 24 bytes"]);
    }
    assert_says(six_as("FloatStorage", -6, 0, &[1], &[1]), &["expected a storage as ('storage', type, key"]);
    assert_says(
        load(&archive(&view("FloatStorage", 6, 0, &[6], &[1])).finish()),
        &["'0' of 6 elements", "got none"],
    );
    // A key is looked up, never followed.
    let body = view("FloatStorage", 6, 0, &[6], &[1]);
    let at = body.windows(6).position(|w| w == b"\x01\0\0\x000X").unwrap();
    let body = [&body[..at], b"\x07\0\0\0../../x", &body[at + 5..]].concat();
    assert_says(load(&archive(&body).add("a/data/0", &six()).finish()), &["'../../x'", "got none"]);
}

#[test]
fn element_types_without_counterpart_are_named_with_their_place() {
    let body =
        [b"}".to_vec(), text("w"), view("ComplexFloatStorage", 3, 0, &[3], &[1]), b"s".to_vec()].concat();
    let value = load(&archive(&body).add("a/data/0", &six()).finish()).unwrap();
    let message = refusal(Checkpoint::from_value(value));
    let expected = "['w']: expected a tensor, got a tensor of torch.complex64 and shape [3]; save its .real";
    assert!(message.contains(expected), "{message}");
}

#[test]
fn tensors_share_a_storage() {
    let first = view("FloatStorage", 6, 0, &[2], &[1]);
    let second = view("FloatStorage", 6, 2, &[2, 2], &[1, 2]);
    let body = [b"(".to_vec(), first, b"q\0".to_vec(), second, b"h\0t".to_vec()].concat();
    let value = load(&archive(&body).add("a/data/0", &six()).finish()).unwrap();
    let tensors: Vec<_> = value.items().unwrap().iter().map(|v| v.as_tensor().unwrap().to_f32()).collect();
    assert_eq!(tensors, [vec![0.0, 1.0], vec![2.0, 4.0, 3.0, 5.0], vec![0.0, 1.0]]);
}

#[test]
fn a_small_storage_cannot_become_a_large_tensor() {
    let expanded = |n| six_as("FloatStorage", 6, 3, &[n], &[0]);
    assert_eq!(values(expanded(1 << 20)).1, vec![3.0; 1 << 20]);
    assert_says(expanded(1 << 28), &["refused ", "would take 1073741824 bytes", "views cloned"]);
    assert_says(expanded(i64::MAX / 4), &["would take"]);
    // Nor many tensors that are each small enough.
    let many = [
        b"(".to_vec(),
        view("FloatStorage", 6, 3, &[1 << 20], &[0]),
        b"q\0".to_vec(),
        b"h\0".repeat(9),
        b"t".to_vec(),
    ];
    assert_says(
        load(&archive(&many.concat()).add("a/data/0", &six()).finish()),
        &["[3]", "would take 4194304 bytes"],
    );
}

#[test]
fn big_endian_files_are_swapped() {
    let big: Vec<u8> = (0..6u8).flat_map(|v| f32::from(v).to_be_bytes()).collect();
    let body = view("FloatStorage", 6, 0, &[3, 2], &[1, 3]);
    let file = |order: &[u8]| archive(&body).add("a/data/0", &big).add("a/byteorder", order).finish();
    assert_eq!(values(load(&file(b"big"))).1, [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
    assert_ne!(values(load(&file(b"little"))).1, [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
    assert_says(load(&file(b"middle")), &["byteorder: expected 'little' or 'big'"]);
    assert_says(load(&file(&[b'l'; 100])), &["byteorder: expected 'little' or 'big'"]);
}

#[test]
fn numpy_numbers_and_arrays_are_read() {
    let dtype = |code: &str, order: &str| {
        [
            b"cnumpy\ndtype\n".to_vec(),
            text(code),
            b"K\0K\x01\x87R(K\x03".to_vec(),
            text(order),
            b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb".to_vec(),
        ]
        .concat()
    };
    let number = |code: &str, order: &str, bytes: &[u8]| {
        let bytes = [b"C".as_slice(), &[bytes.len() as u8], bytes].concat();
        let call =
            [b"cnumpy.core.multiarray\nscalar\n".to_vec(), dtype(code, order), bytes, b"\x86R".to_vec()];
        load(&archive(&call.concat()).finish())
    };
    assert_eq!(number("f8", "<", &0.1f64.to_le_bytes()).unwrap(), Value::Float(0.1));
    assert_eq!(number("f8", ">", &0.1f64.to_be_bytes()).unwrap(), Value::Float(0.1));
    assert_eq!(number("f4", "<", &0.25f32.to_le_bytes()).unwrap(), Value::Float(0.25));
    assert_eq!(number("i8", "<", &(-5i64).to_le_bytes()).unwrap(), Value::Int(-5));
    assert_eq!(number("b1", "|", &[1]).unwrap(), Value::Bool(true));
    assert_eq!(number("u4", "<", &[0xff; 4]).unwrap(), Value::Int(u32::MAX.into()));
    assert_eq!(number("u8", ">", &7u64.to_be_bytes()).unwrap(), Value::Int(7));
    assert_says(number("u8", "<", &[0xff; 8]), &["a NumPy number of 2^63 or more"]);
    assert_says(number("f8", "<", &[0; 4]), &["expected 8 bytes, got 4"]);
    assert_eq!(opaque(number("O8", "|", &[0; 8])), "a NumPy number of type O8");
    assert_eq!(opaque(number("U3", "<", &[0; 12])), "a NumPy number of type U3");

    let array = |shape: &[i64], fortran: bool, bytes: &[u8]| {
        let order: &[u8] = if fortran { b"\x88" } else { b"\x89" };
        let bytes = [b"C".as_slice(), &[bytes.len() as u8], bytes].concat();
        let build = [
            b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85C\x01b\x87R(K\x01".to_vec(),
            ints(shape),
            dtype("i2", ">"),
            order.to_vec(),
            bytes,
            b"tb".to_vec(),
        ];
        load(&archive(&build.concat()).finish())
    };
    let bytes: Vec<u8> = (0..6u8).flat_map(|v| [0, v]).collect();
    assert_eq!(values(array(&[2, 3], false, &bytes)), (vec![2, 3], vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0]));
    assert_eq!(values(array(&[2, 3], true, &bytes)), (vec![2, 3], vec![0.0, 2.0, 4.0, 1.0, 3.0, 5.0]));
    assert_eq!(values(array(&[0, 3], true, &[])), (vec![0, 3], vec![]));
    assert_says(array(&[2, 2], false, &bytes), &["shape 2 x 2: expected 8 bytes, got 12"]);
    assert_says(array(&[i64::MAX, 4], true, &bytes), &["expected more bytes, got 12"]);
}

#[test]
fn pickles_of_python_2_are_read() {
    let body = b"ccollections\nOrderedDict\n](](U\x01aK\x01e](U\x01bU\x01\xffee\x85R}U\x01xNsb";
    let expected = Value::OrderedDict(vec![(s("a"), Value::Int(1)), (s("b"), Value::Bytes(vec![0xff]))]);
    assert_eq!(load(&archive(body).finish()).unwrap(), expected);
}

// ---- the archive ----

#[test]
fn compressed_archives_are_read() {
    let body = view("FloatStorage", 6, 0, &[6], &[1]);
    let zip =
        Zip::default().deflate("a/data.pkl", &pickle(&body), |_| ()).deflate("a/data/0", &six(), |_| ());
    assert_eq!(values(load(&zip.finish())).1, [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
}

#[test]
fn files_saved_without_checksums_are_read() {
    let zip = Zip::default().add_as("a/data.pkl", &pickle(b"K\x01"), |h| h.crc = 0);
    assert_eq!(load(&zip.finish()).unwrap(), Value::Int(1));
}

#[test]
fn archives_that_lie_are_refused() {
    let body = view("FloatStorage", 6, 0, &[6], &[1]);
    let stored = |lie: fn(&mut Headers)| load(&archive(&body).add_as("a/data/0", &six(), lie).finish());
    assert_says(stored(|h| h.crc ^= 1), &["a/data/0: expected checksum"]);
    assert_says(stored(|h| h.compressed = 20), &["a/data/0 is stored in 20 bytes, expected the declared 24"]);
    assert_says(stored(|h| (h.size, h.compressed) = (20, 20)), &["got 20 bytes"]);
    assert_says(stored(|h| (h.size, h.compressed) = (u32::MAX - 1, u32::MAX - 1)), &["got 4294967294 bytes"]);
    assert_says(stored(|h| h.flags = 1), &["a/data/0 is encrypted"]);
    assert_says(stored(|h| h.method = 12), &["compressed by method 12, expected 0 (stored) or 8 (deflated)"]);
    assert_says(stored(|h| h.method = 8), &["a/data/0 cannot be inflated"]);
    assert_says(stored(|h| h.at = 0), &["a/data/0: expected its header at offset 0"]);
    assert_says(stored(|h| h.at = u32::MAX - 1), &["expected its header at offset 4294967294"]);
    let deflated = |lie: fn(&mut Headers)| load(&archive(&body).deflate("a/data/0", &six(), lie).finish());
    assert_says(deflated(|h| h.compressed -= 1), &["a/data/0"]);
    assert_says(deflated(|h| h.size = 23), &["got 23 bytes"]);
    let twice = archive(b"N").add("a/data/0", b"x").add("a/data/0", b"y");
    assert_says(load(&twice.finish()), &["a/data/0 stands there twice"]);
    // The pickle's own size, which nothing else declares.
    for (size, got) in [(3, "got more"), (50, "got 4")] {
        let zip = Zip::default().deflate("a/data.pkl", &pickle(b"N"), |h| h.size = size);
        assert_says(load(&zip.finish()), &[&format!("expected the declared {size} bytes"), got]);
    }
    let huge = Zip::default().add_as("a/data.pkl", b"x", |h| (h.size, h.compressed) = (1 << 30, 1 << 30));
    assert_says(load(&huge.finish()), &["a/data.pkl would take 1073741824 bytes"]);
}

#[test]
fn zip_bombs_are_refused() {
    let numel = 32 << 20;
    let body = view("ByteStorage", numel, 0, &[numel], &[1]);
    let zip = archive(&body).deflate("a/data/0", &vec![0; numel as usize], |_| ());
    assert_says(load(&zip.finish()), &["would take 33554432 bytes of memory", "4 times its"]);
    // One that declares to be small.
    let zip = archive(&view("ByteStorage", 9, 0, &[9], &[1]))
        .deflate("a/data/0", &vec![0; 1 << 24], |h| h.size = 9);
    assert_says(load(&zip.finish()), &["a/data/0: expected the declared 9 bytes, got more"]);
}

#[test]
fn a_cut_off_file_is_refused_wherever_it_ends() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a.pth");
    let small = Value::Dict(vec![(s("w"), scalar(1.0)), (s("epoch"), Value::Int(3))]);
    write(&path, &small).unwrap();
    let whole = fs::read(&path).unwrap();
    for end in 0..whole.len() {
        fs::write(&path, &whole[..end]).unwrap();
        let error = read(&path).expect_err("must be refused");
        let matches = match error {
            CheckpointError::NotACheckpoint { .. } => end < 4,
            CheckpointError::Damaged { .. } => true,
            _ => false,
        };
        assert!(matches, "cut at {end}: {error}");
    }
}

#[test]
fn a_cut_off_pickle_is_refused_wherever_it_ends() {
    let body = pickle(&view("FloatStorage", 6, 0, &[6], &[1]));
    for end in 0..body.len() {
        let zip = Zip::default().add("a/data.pkl", &body[..end]).add("a/data/0", &six());
        assert_says(load(&zip.finish()), &["a.pth is damaged: data.pkl, byte"]);
    }
}

/// A small generator of pseudorandom numbers (Steele, Lea and Flood, 2014).
fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Changes a few bytes: to anything, or to a byte that stands elsewhere, which is likely another opcode.
fn mutate(bytes: &mut [u8], state: &mut u64) {
    for _ in 0..1 + splitmix(state) % 4 {
        let n = bytes.len() as u64;
        let (to, from) = ((splitmix(state) % n) as usize, (splitmix(state) % n) as usize);
        bytes[to] = if splitmix(state).is_multiple_of(2) { bytes[from] } else { splitmix(state) as u8 };
    }
}

#[test]
fn random_damage_never_panics() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a.pth");
    snn().save(&path).unwrap();
    let file = fs::read(&path).unwrap();
    let body = pickle(&[b"]".to_vec(), view("FloatStorage", 6, 0, &[2, 3], &[3, 1]), b"a".to_vec()].concat());
    write(&path, &everything()).unwrap();
    let all = fs::read(&path).unwrap();
    let pickle_at = all.windows(2).position(|w| w == b"\x80\x02").unwrap();
    let all = all[pickle_at..][..2000].to_vec();
    let mut state = 1;
    let mut refused = 0;
    for round in 0..6000 {
        // Checksums hide most damage to a whole file from the machine, so pickles are also damaged beforehand.
        let bytes = match round % 3 {
            0 => {
                let mut bytes = file.clone();
                mutate(&mut bytes, &mut state);
                bytes
            }
            1 => {
                let mut body = body.clone();
                mutate(&mut body, &mut state);
                Zip::default().add("a/data.pkl", &body).add("a/data/0", &six()).finish()
            }
            _ => {
                let mut body = all.clone();
                mutate(&mut body, &mut state);
                Zip::default().add("a/data.pkl", &body).add("a/data/0", &six()).finish()
            }
        };
        fs::write(&path, bytes).unwrap();
        refused += u32::from(Checkpoint::load(&path).is_err());
    }
    assert!(refused > 4000, "most damage must be noticed, but only {refused} files were refused");
}
