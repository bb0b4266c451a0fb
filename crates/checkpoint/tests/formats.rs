//! The legacy format and safetensors byte by byte, lies included, and values of any kind through every format. What
//! PyTorch and safetensors themselves write and read: `checkpoint_pytorch.rs`.

#![allow(clippy::unwrap_used)] // in the helpers; a test fails by panicking

use std::fs;
use std::path::Path;

use escape_checkpoint::{
    Checkpoint, CheckpointError, DType, Format, Leak, Selection, TensorData, Value, open, read, read_bytes,
    write,
};
use tempfile::TempDir;

fn load(bytes: &[u8]) -> Result<Value, CheckpointError> {
    read_bytes(Path::new("a.pth"), bytes).map(|found| found.value)
}

#[track_caller]
fn assert_says(result: Result<Value, CheckpointError>, parts: &[&str]) {
    let message = result.expect_err("must be refused").to_string();
    for part in parts {
        assert!(message.contains(part), "expected '{part}' in: {message}");
    }
}

fn s(text: &str) -> Value {
    Value::Str(text.to_owned())
}

// ---- legacy ----

/// A file of the legacy format: the opcodes of its object, its storages' keys, and what stands behind.
fn legacy(object: &[u8], keys: &[&str], behind: &[u8]) -> Vec<u8> {
    let mut bytes = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}.".to_vec();
    bytes.extend([b"\x80\x02", object, b".\x80\x02]("].concat());
    keys.iter().for_each(|key| bytes.extend(text(key)));
    bytes.extend([b"e.", behind].concat());
    bytes
}

fn text(s: &str) -> Vec<u8> {
    [b"X".as_slice(), &(s.len() as u32).to_le_bytes(), s.as_bytes()].concat()
}

fn int(v: i64) -> Vec<u8> {
    [b"\x8a\x08".as_slice(), &v.to_le_bytes()].concat()
}

/// Opcodes for all of storage `a`, from `offset` on, as the releases before 0.4 wrote it; `window` as opcodes.
fn view(kind: &str, numel: i64, window: &[u8], offset: i64, size: i64) -> Vec<u8> {
    [
        b"ctorch._utils\n_rebuild_tensor\n((".to_vec(),
        text("storage"),
        format!("c{kind}\n").into_bytes(),
        text("a"),
        text("cuda:0"),
        int(numel),
        window.to_vec(),
        b"tQ".to_vec(),
        int(offset),
        [b"(", &int(size)[..], b"t("].concat(),
        [&int(1)[..], b"ttR"].concat(),
    ]
    .concat()
}

const FLOATS: &str = "torch\nFloatStorage";

/// A storage of 0, 1, ... as it stands in the file.
fn floats(declared: i64, count: u8) -> Vec<u8> {
    let values = (0..count).flat_map(|v| f32::from(v).to_le_bytes());
    declared.to_le_bytes().into_iter().chain(values).collect()
}

fn tensor(values: &[f32]) -> Value {
    Value::from(TensorData::from_f32(&[values.len()], values))
}

#[test]
fn old_views_cuda_storages_and_windows_are_read() {
    let read = |object: &[u8]| load(&legacy(object, &["a"], &floats(6, 6))).unwrap();
    assert_eq!(read(&view(FLOATS, 6, b"N", 2, 3)), tensor(&[2.0, 3.0, 4.0]));
    assert_eq!(read(&view("torch.cuda\nFloatStorage", 6, b"", 0, 2)), tensor(&[0.0, 1.0]));
    // A storage that is part of another: its own key, first element, size.
    let window = [b"(", &text("part")[..], &int(2), &int(3), b"t"].concat();
    assert_eq!(read(&view(FLOATS, 6, &window, 1, 2)), tensor(&[3.0, 4.0]));
    // Nothing may follow from what stands behind the last storage.
    let longer = [legacy(&view(FLOATS, 6, b"N", 0, 1), &["a"], &floats(6, 6)), vec![7; 100]].concat();
    assert_eq!(load(&longer).unwrap(), tensor(&[0.0]));
}

#[test]
fn pickles_longer_than_the_first_read_are_read() {
    let long = "x".repeat(300_000);
    let object = [b"(".to_vec(), text(&long), view(FLOATS, 6, b"N", 5, 1), b"t".to_vec()].concat();
    let value = load(&legacy(&object, &["a"], &floats(6, 6))).unwrap();
    assert_eq!(value, Value::Tuple(vec![s(&long), tensor(&[5.0])]));
}

#[test]
fn legacy_files_that_lie_are_refused() {
    let whole = view(FLOATS, 6, b"N", 0, 6);
    let file = |object: &[u8], keys: &[&str], behind: &[u8]| load(&legacy(object, keys, behind));
    assert_says(file(&whole, &["a"], &floats(7, 7)), &["storage 'a' at byte", "its 6 elements, got 7"]);
    assert_says(file(&whole, &["a"], &floats(-1, 6)), &["its 6 elements, got -1"]);
    assert_says(file(&whole, &["a"], &floats(6, 5)), &["expected it to end at byte", "got a file of"]);
    assert_says(file(&whole, &["a"], b""), &["expected it to end at byte"]);
    assert_says(file(&whole, &[], &floats(6, 6)), &["a storage 'a' of 6 elements", "got none"]);
    assert_says(file(&whole, &["a", "a"], &[floats(6, 6), floats(6, 6)].concat()), &["once, got it twice"]);
    assert_says(file(&whole, &["b"], &floats(6, 6)), &["storage 'b'", "a tensor of it, got none"]);
    assert_says(file(&view(FLOATS, i64::MAX, b"N", 0, 1), &["a"], &[]), &["less than 2^64 bytes"]);
    assert_says(file(&view(FLOATS, -6, b"N", 0, 1), &["a"], &[]), &["('storage', type, key, location"]);
    assert_says(file(&view(FLOATS, 6, b"N", 1, 6), &["a"], &floats(6, 6)), &["lie within its storage"]);
    for (first, size) in [(4, 3), (-1, 3), (i64::MAX, i64::MAX)] {
        let window = [b"(", &text("part")[..], &int(first), &int(size), b"t"].concat();
        assert!(file(&view(FLOATS, 6, &window, 0, 1), &["a"], &floats(6, 6)).is_err());
    }
    let two =
        [b"(".to_vec(), view(FLOATS, 6, b"N", 0, 1), view("torch\nIntStorage", 5, b"N", 0, 1), b"t".to_vec()];
    assert_says(file(&two.concat(), &["a"], &floats(6, 6)), &["expected one size, got 24 and 20 bytes"]);
    let mut keys = legacy(&whole, &[], &[]);
    keys.truncate(keys.len() - 4);
    assert_says(load(&[&keys[..], b"}."].concat()), &["expected a list of the storages' keys"]);
    let mut version = legacy(&whole, &["a"], &floats(6, 6));
    version[18] = 0xea;
    assert_says(load(&version), &["expected protocol version 1001, got 1002"]);
}

#[test]
fn legacy_files_ask_in_vain() {
    for (call, name) in [
        (b"cos\nsystem\nX\x02\0\0\0id\x85R".as_slice(), "os.system"),
        (b"c__builtin__\neval\nX\x01\0\0\0\x31\x85R", "builtins.eval"),
        (b"cnt\nsystem\n(X\x02\0\0\0idtR", "nt.system"),
    ] {
        let bytes = legacy(call, &[], &[]);
        let what = load(&bytes).unwrap().as_opaque().unwrap().what.clone();
        assert_eq!(what, format!("the result of calling {name}"));
        let found = read_bytes(Path::new("a.pth"), &bytes).unwrap();
        assert!(found.foreign[0].name == name && found.foreign[0].would_run());
        // Around the object nothing is called at all.
        let mut sly = bytes.clone();
        let facts = sly.windows(4).position(|w| w == b"\x80\x02}.").unwrap() + 2;
        sly.splice(facts..=facts, call.iter().copied());
        assert_says(load(&sly), &["expected numbers and texts around the object", "nothing was executed"]);
    }
}

#[test]
fn a_legacy_file_cut_short_is_refused_wherever_it_ends() {
    let whole = legacy(&view(FLOATS, 6, b"N", 0, 6), &["a"], &floats(6, 6));
    for end in 0..whole.len() {
        assert!(load(&whole[..end]).is_err(), "cut at {end}");
    }
}

// ---- safetensors ----

fn safetensors(directory: &str, content: &[u8]) -> Vec<u8> {
    [&(directory.len() as u64).to_le_bytes(), directory.as_bytes(), content].concat()
}

#[test]
fn safetensors_by_hand() {
    let directory = r#"{"b":{"dtype":"U8","shape":[],"data_offsets":[4,5]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}  "#;
    let value = load(&safetensors(directory, &[0, 0, 0x80, 0x3f, 7])).unwrap();
    let b = TensorData { dtype: DType::U8, shape: vec![], bytes: vec![7].into() };
    assert_eq!(value, Value::OrderedDict(vec![(s("b"), Value::from(b)), (s("a"), tensor(&[1.0]))]));
    assert_eq!(load(&safetensors("{}", &[])).unwrap(), Value::OrderedDict(vec![]));
}

#[test]
fn safetensors_that_lie_are_refused() {
    let one = |dtype: &str, shape: &str, offsets: &str| {
        let directory = format!(r#"{{"w":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}}}"#);
        load(&safetensors(&directory, &[0; 8]))
    };
    assert!(one("F32", "[2]", "[0,8]").is_ok());
    for (dtype, shape, offsets, expected) in [
        ("F32", "[2]", "[0,4]", "w, a torch.float32 tensor of shape 2: expected 8 bytes, got 4"),
        ("F32", "[1]", "[0,4]", "expected 4 bytes of tensors, got 8"),
        ("F32", "[3]", "[0,12]", "expected 12 bytes of tensors, got 8"),
        ("F32", "[1]", "[4,8]", "expected its bytes from 0 on, got 4 to 8"),
        ("F32", "[2]", "[8,0]", "expected its bytes from 0 on, got 8 to 0"),
        ("F32", "[18446744073709551615,2]", "[0,8]", "expected an impossible number of bytes"),
        ("F32", "[2]", "[0,18446744073709551615]", "expected 8 bytes, got 18446744073709551615"),
        ("F32", "[-2]", "[0,8]", "the directory"),
        ("F32", "[2.0]", "[0,8]", "the directory"),
        ("F32", "[2]", "[0,8,9]", "the directory"),
        ("F8_E4M3", "[8]", "[0,8]", "w: expected a tensor of type F64, F32,"),
        ("F4\\u001b[31m", "[8]", "[0,8]", "got F4\\u{1b}[31m"),
    ] {
        assert_says(one(dtype, shape, offsets), &[expected]);
    }
    let w = r#""w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}"#;
    let x = r#""x":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}"#;
    for (directory, expected) in [
        (format!("{{{w},{w}}}"), "expected distinct names, got w twice"),
        (
            format!("{{{w},{x}}}"),
            "x, a torch.uint8 tensor of shape 1: expected its bytes from 1 on, got 0 to 1",
        ),
        (format!("{{{w}}} {{}}"), "trailing characters"),
        (format!("{{{w}"), "EOF"),
        (r#"{"w":[]}"#.to_owned(), "the directory"),
        (r#"{"__metadata__":{"a":1}}"#.to_owned(), "expected a string"),
        (r#"{"__metadata__":{"b":"","a":[{}]}}"#.to_owned(), "__metadata__ a is no text"),
        (r#"{"__metadata__":{"checkpoint.a":"[1"}}"#.to_owned(), "metadata checkpoint.a: EOF"),
        (r#"{"__metadata__":{"checkpoint.a":"{\"$tensor\":\"t\"}"}}"#.to_owned(), "expected one tensor t"),
        (
            r#"{"__metadata__":{"checkpoint.a":"{\"$new\":1}"}}"#.to_owned(),
            "the tag $new does not go with the int 1",
        ),
        (r#"{"__metadata__":{"checkpoint.a":"{\"$set\":[[]]}"}}"#.to_owned(), "as a key, got a list"),
        (r#"{"__metadata__":{"checkpoint.a":"1","checkpoint.a":"2"}}"#.to_owned(), "distinct keys"),
        (format!(r#"{{"__metadata__":{{"checkpoint.a":"{}"}}}}"#, "[".repeat(200)), "recursion limit"),
    ] {
        let content: &[u8] = if directory.contains(w) { &[0] } else { &[] };
        assert_says(load(&safetensors(&directory, content)), &[expected]);
    }
    let mut longer = safetensors("{}", &[]);
    longer[0] = 200;
    assert_says(load(&longer), &["expected a directory of 200 bytes, got 2"]);
}

#[test]
fn a_safetensors_file_cut_short_is_refused_wherever_it_ends() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a.safetensors");
    let weights = vec![("w".to_owned(), TensorData::from_f32(&[300], &[0.5; 300]))];
    Checkpoint { weights, epoch: Some(3), ..Default::default() }.save(&path).unwrap();
    let whole = fs::read(&path).unwrap();
    assert_eq!(open(&path).unwrap().format, Format::Safetensors);
    for end in 0..whole.len() {
        assert!(load(&whole[..end]).is_err(), "cut at {end}");
    }
}

#[test]
fn other_programs_metadata_stay_where_they_were() {
    let directory =
        r#"{"__metadata__":{"format":"pt","by":"hand"},"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}"#;
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a.safetensors");
    fs::write(&path, safetensors(directory, &[7])).unwrap();
    let checkpoint = Checkpoint::load(&path).unwrap();
    let by = Value::Dict(vec![(s("by"), s("hand"))]);
    assert_eq!(checkpoint.extra, [("metadata".to_owned(), by)]);
    checkpoint.save(&path).unwrap();
    let bytes = fs::read(&path).unwrap();
    let text = String::from_utf8_lossy(&bytes);
    assert!(text.contains(r#"{"__metadata__":{"format":"pt","by":"hand"},"w""#), "{text}");
    assert_eq!(Checkpoint::load(&path).unwrap(), checkpoint);
    // Fields of the study as texts of another program are not taken, and that is said.
    let directory =
        r#"{"__metadata__":{"timesteps":"8"},"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}"#;
    fs::write(&path, safetensors(directory, &[7])).unwrap();
    let (checkpoint, notes) = Checkpoint::load_as(&path, &Selection::default()).unwrap();
    let said = notes.iter().map(ToString::to_string).collect::<String>();
    assert!(checkpoint.timesteps.is_none() && said.contains("timesteps = '8'"), "{said}");
}

// ---- any value, any format ----

/// A small generator of pseudorandom numbers (Steele, Lea and Flood, 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn bytes(&mut self, n: u64) -> Vec<u8> {
        (0..n).map(|_| self.next() as u8).collect()
    }

    fn text(&mut self) -> String {
        const SIGNS: [char; 10] = ['a', 'b', '.', '$', '"', '\\', '\0', 'ü', '神', '\u{1f600}'];
        (0..self.below(6)).map(|_| SIGNS[self.below(10) as usize]).collect()
    }

    fn tensor(&mut self) -> TensorData {
        let dtype = DType::ALL[self.below(DType::ALL.len() as u64) as usize];
        let shape: Vec<usize> = (0..self.below(4)).map(|_| self.below(4) as usize).collect();
        let bytes = self.bytes((shape.iter().product::<usize>() * dtype.size()) as u64);
        TensorData { dtype, shape, bytes: bytes.into() }
    }

    /// Something that can be a key.
    fn key(&mut self) -> Value {
        match self.below(8) {
            0 => Value::None,
            1 => Value::Int(self.next() as i64),
            2 => Value::Int(self.below(300) as i64 - 20),
            3 => Value::Bytes(self.bytes(3)),
            4 => Value::Tuple(vec![Value::Bool(self.below(2) == 0), s(&self.text())]),
            // Numbers that are not to be mistaken for whole ones.
            5 => Value::Float(
                [0.0, -0.0, 1.0, 0.1, 1e300, 5e-324, f64::INFINITY, -2.5e-9][self.below(8) as usize],
            ),
            _ => s(&self.text()),
        }
    }

    fn entries(&mut self, depth: u64) -> Vec<(Value, Value)> {
        let mut entries: Vec<(Value, Value)> = Vec::new();
        for _ in 0..self.below(4) {
            let key = self.key();
            // Zeros of either sign are one key to Python.
            if !entries.iter().any(|(other, _)| *other == key) {
                entries.push((key, self.value(depth)));
            }
        }
        entries
    }

    fn value(&mut self, depth: u64) -> Value {
        let items = |random: &mut Self| (0..random.below(4)).map(|_| random.value(depth - 1)).collect();
        match self.below(if depth == 0 { 8 } else { 13 }) {
            0 => self.tensor().into(),
            1 => Value::Float(f64::from_bits(self.next())),
            2 => Value::BigInt([self.bytes(9), vec![1]].concat()),
            3 => Value::DType("float8_e5m2".to_owned()),
            4 => Value::Device("cuda:1".to_owned()),
            5 => Value::Bool(self.below(2) == 0),
            6 | 7 => self.key(),
            8 => Value::List(items(self)),
            9 => Value::Tuple(items(self)),
            10 => Value::Set(self.entries(0).into_iter().map(|(key, _)| key).collect()),
            11 => Value::Dict(self.entries(depth - 1)),
            _ => Value::OrderedDict(self.entries(depth - 1)),
        }
    }
}

/// Equal to the last bit; as values NaN would differ from itself.
#[track_caller]
fn assert_same<T: std::fmt::Debug>(found: &T, expected: &T, seed: u64) {
    assert_eq!(format!("{found:?}"), format!("{expected:?}"), "seed {seed}");
}

#[test]
fn any_value_comes_back_from_pth() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a.pth");
    for seed in 0..300 {
        let value = Random(seed).value(5);
        write(&path, &value).unwrap();
        assert_same(&read(&path).unwrap(), &value, seed);
    }
}

#[test]
fn any_checkpoint_comes_back_from_both_formats() {
    let folder = TempDir::new().unwrap();
    for seed in 0..200 {
        let random = &mut Random(seed);
        let weights =
            (0..random.below(4)).map(|i| (format!("{}{i}", random.text()), random.tensor())).collect();
        let extra = (0..random.below(3)).map(|i| (format!("extra {i}"), random.value(4))).collect();
        let mut checkpoint = Checkpoint {
            accuracy: Some(f64::from_bits(random.next())).filter(|v| v.is_finite()),
            epoch: Some(random.next() as i64),
            weights,
            thresholds: Some(vec![0.1, 7.0]),
            leak: Some(Leak::PerLayer(vec![1.0, 0.5])),
            optimizer: Some(random.value(4)).filter(|value| *value != Value::None),
            extra,
            ..Checkpoint::default()
        };
        // `None` stands for an absent key.
        checkpoint.extra.retain(|(_, value)| *value != Value::None);
        let direct = folder.path().join("a.safetensors");
        checkpoint.save(&direct).unwrap();
        let found = Checkpoint::load(&direct).unwrap();
        assert_same(&found, &checkpoint, seed);

        let pth = folder.path().join("b.pth");
        found.save(&pth).unwrap();
        let mut found = Checkpoint::load(&pth).unwrap();
        assert_eq!(found.had_module_prefix, !found.weights.is_empty(), "seed {seed}");
        found.had_module_prefix = false;
        assert_same(&found, &checkpoint, seed);
    }
}

#[test]
fn equal_checkpoints_give_equal_safetensors_and_wide_elements_come_first() {
    let folder = TempDir::new().unwrap();
    let weights = vec![
        ("byte".to_owned(), TensorData { dtype: DType::U8, shape: vec![3], bytes: vec![1, 2, 3].into() }),
        ("wide".to_owned(), TensorData { dtype: DType::F64, shape: vec![1], bytes: vec![9; 8].into() }),
    ];
    let checkpoint = Checkpoint { weights, ..Default::default() };
    let [a, b] = ["a", "b"].map(|name| {
        let path = folder.path().join(name).with_extension("safetensors");
        checkpoint.save(&path).unwrap();
        fs::read(&path).unwrap()
    });
    assert_eq!(a, b);
    assert!(a.ends_with(&[9, 9, 9, 9, 9, 9, 9, 9, 1, 2, 3]) && (a.len() - 11).is_multiple_of(8));
    let path = folder.path().join("a.safetensors");
    assert_eq!(Checkpoint::load(&path).unwrap().weights, checkpoint.weights);
}

#[test]
fn what_safetensors_cannot_hold_is_refused_before_the_file_is_touched() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a.safetensors");
    fs::write(&path, "old").unwrap();
    let with = |name: &str, tensor: TensorData| Checkpoint {
        weights: vec![(name.to_owned(), tensor)],
        ..Default::default()
    };
    let deep = (0..60).fold(Value::None, |value, _| Value::List(vec![value]));
    let cases = [
        (with("__metadata__", TensorData::from_f32(&[], &[1.0])), "expected another name"),
        (
            with("w", TensorData { dtype: DType::F32, shape: vec![2], bytes: vec![0; 7].into() }),
            "expected 8 bytes, got 7",
        ),
        (
            Checkpoint { extra: vec![("deep".to_owned(), deep)], ..Default::default() },
            "at most 40 containers",
        ),
        (
            Checkpoint { extra: vec![("epoch".to_owned(), s("x"))], epoch: Some(1), ..Default::default() },
            "twice",
        ),
    ];
    for (checkpoint, expected) in cases {
        let error = checkpoint.save(&path).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert!(error.to_string().contains("a.safetensors"), "{error}");
    }
    assert_eq!(fs::read(&path).unwrap(), b"old");
}
