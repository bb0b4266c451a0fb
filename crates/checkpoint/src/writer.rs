//! From a [`Value`] to a file that `torch.load(path, weights_only=True)` opens.
//!
//! The pickle is of protocol 2 and uses only opcodes and names that PyTorch's restricted unpickler knows
//! (`torch/_weights_only_unpickler.py`, 2.11). Entries stand in the order in which `torch.save` writes them.

use std::collections::HashMap;
use std::io::{self, BufWriter};
use std::path::Path;

use super::archive::ArchiveWriter;
use super::error::CheckpointError;
use super::graph::{MAX_DEPTH, place};
use super::pickle::is_dtype;
use super::value::{TensorData, Value, check_keys, elements};
use escape_files::write_atomically;

/// Writes a checkpoint; see [`super::write`].
pub(crate) fn write(path: &Path, value: &Value) -> Result<(), CheckpointError> {
    let mut pickler = Pickler { out: vec![0x80, 2], memo: HashMap::new(), tensors: Vec::new() };
    pickler.value(value, "", 0).map_err(|e| e.in_file(path))?;
    pickler.out.push(b'.');
    let Pickler { out: pickle, tensors, .. } = pickler;
    write_atomically(path, |file| archive(BufWriter::new(file), folder(path), &pickle, &tensors))
        .map_err(|source| CheckpointError::Io { path: path.to_owned(), operation: "write", source })
}

fn archive(out: impl io::Write, folder: &str, pickle: &[u8], tensors: &[&TensorData]) -> io::Result<()> {
    let mut archive = ArchiveWriter::new(out);
    // PyTorch's own identification, too, is a hash of names and content; a constant would defeat its purpose.
    let mut identification = Identification::new();
    let mut add = |name: &str, bytes: &[u8]| {
        identification.update(name.as_bytes());
        identification.update(bytes);
        archive.add(&format!("{folder}/{name}"), bytes)
    };
    add("data.pkl", pickle)?;
    add(".format_version", b"1")?;
    add(".storage_alignment", b"64")?;
    add("byteorder", b"little")?;
    for (key, tensor) in tensors.iter().enumerate() {
        add(&format!("data/{key}"), &tensor.bytes)?;
    }
    add("version", b"3\n")?;
    archive.add(&format!("{folder}/.data/serialization_id"), identification.digits().as_bytes())?;
    archive.finish()
}

/// The top folder: the file's name without its extension, as `torch.save` has it.
fn folder(path: &Path) -> &str {
    match path.file_stem().and_then(|stem| stem.to_str()) {
        Some(stem) if stem.is_ascii() && !stem.contains(['/', '\\', '\0']) => stem,
        _ => "archive",
    }
}

/// A quick hash, stable across releases: FNV-1a's constants, eight bytes at a time, mixed by rotation.
struct Identification(u64);

impl Identification {
    fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    fn update(&mut self, bytes: &[u8]) {
        let (chunks, rest) = bytes.as_chunks::<8>();
        for chunk in chunks {
            self.mix(u64::from_le_bytes(*chunk));
        }
        for byte in rest {
            self.mix(u64::from(*byte));
        }
        self.mix(bytes.len() as u64);
    }

    fn mix(&mut self, word: u64) {
        self.0 = (self.0 ^ word).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(29);
    }

    /// Forty decimal digits.
    fn digits(&self) -> String {
        format!("{:020}{:020}", self.0, self.0.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }
}

struct Pickler<'a> {
    out: Vec<u8>,
    /// Where texts and names stand in the memo.
    memo: HashMap<Vec<u8>, u32>,
    /// Tensors in the order of their storage keys.
    tensors: Vec<&'a TensorData>,
}

impl<'a> Pickler<'a> {
    /// Appends what builds `value`, which stands at `at`.
    fn value(&mut self, value: &'a Value, at: &str, depth: usize) -> Result<(), CheckpointError> {
        if depth > MAX_DEPTH {
            return Err(CheckpointError::unwritable(
                at,
                format!("expected at most {MAX_DEPTH} containers within each other"),
            ));
        }
        match value {
            Value::None => self.out.push(b'N'),
            Value::Bool(v) => self.out.push(if *v { 0x88 } else { 0x89 }),
            Value::Int(v) => self.int(*v),
            Value::BigInt(bytes) => match u8::try_from(bytes.len()) {
                Ok(length) => {
                    self.out.extend([0x8a, length]);
                    self.out.extend(bytes);
                }
                Err(_) => {
                    let problem =
                        format!("expected a whole number of at most 255 bytes, got {}", bytes.len());
                    return Err(CheckpointError::unwritable(at, problem));
                }
            },
            Value::Float(v) => {
                self.out.push(b'G');
                self.out.extend(v.to_be_bytes());
            }
            Value::Str(v) => self.text(v, at)?,
            Value::Bytes(v) => {
                // Before protocol 3 there is no opcode for bytes.
                self.global("_codecs", "encode");
                let text: String = v.iter().map(|&b| char::from(b)).collect();
                self.plain_text(&text, at)?;
                self.text("latin1", at)?;
                self.out.extend([0x86, b'R']);
            }
            Value::List(items) => {
                self.out.extend(b"](");
                self.items(items, at, depth)?;
                self.out.push(b'e');
            }
            Value::Tuple(items) => {
                if items.is_empty() {
                    self.out.push(b')');
                } else {
                    self.out.push(b'(');
                    self.items(items, at, depth)?;
                    self.out.push(b't');
                }
            }
            Value::Set(items) => {
                self.global("__builtin__", "set");
                self.out.extend(b"](");
                self.items(items, at, depth)?;
                check_keys(items.iter()).map_err(|problem| CheckpointError::unwritable(at, problem))?;
                self.out.extend(b"e\x85R");
            }
            Value::Dict(entries) => {
                self.out.push(b'}');
                self.entries(entries, at, depth)?;
            }
            Value::OrderedDict(entries) => {
                self.ordered_dict();
                self.entries(entries, at, depth)?;
            }
            Value::Tensor(tensor) => self.tensor(tensor, at)?,
            Value::DType(name) if is_dtype(name) => self.global("torch", name),
            Value::DType(_) => {
                let problem = format!("expected a type that PyTorch has, got {}", value.describe());
                return Err(CheckpointError::unwritable(at, problem));
            }
            Value::Opaque(_) => {
                return Err(CheckpointError::unwritable(
                    at,
                    format!("expected plain data, got {}", value.describe()),
                ));
            }
            Value::Device(name) => {
                self.global("torch", "device");
                self.text(name, at)?;
                self.out.extend([0x85, b'R']);
            }
        }
        Ok(())
    }

    fn items(&mut self, items: &'a [Value], at: &str, depth: usize) -> Result<(), CheckpointError> {
        for (i, item) in items.iter().enumerate() {
            self.value(item, &format!("{at}[{i}]"), depth + 1)?;
        }
        Ok(())
    }

    fn entries(
        &mut self,
        entries: &'a [(Value, Value)],
        at: &str,
        depth: usize,
    ) -> Result<(), CheckpointError> {
        if entries.is_empty() {
            return Ok(());
        }
        self.out.push(b'(');
        for (key, value) in entries {
            // Checks the key's depth, so that comparing keys below cannot recurse far.
            self.value(key, &format!("a key of {at}"), depth + 1)?;
            self.value(value, &format!("{at}{}", place(key)), depth + 1)?;
        }
        self.out.push(b'u');
        check_keys(entries.iter().map(|(key, _)| key))
            .map_err(|problem| CheckpointError::unwritable(at, problem))
    }

    fn int(&mut self, v: i64) {
        if let Ok(v) = u8::try_from(v) {
            self.out.extend([b'K', v]);
        } else if let Ok(v) = u16::try_from(v) {
            self.out.push(b'M');
            self.out.extend(v.to_le_bytes());
        } else if let Ok(v) = i32::try_from(v) {
            self.out.push(b'J');
            self.out.extend(v.to_le_bytes());
        } else {
            self.out.extend([0x8a, 8]);
            self.out.extend(v.to_le_bytes());
        }
    }

    /// A text, from the memo if it stood there before.
    fn text(&mut self, text: &str, at: &str) -> Result<(), CheckpointError> {
        if self.recall(text.as_bytes()) {
            return Ok(());
        }
        self.plain_text(text, at)?;
        self.memoize(text.as_bytes());
        Ok(())
    }

    fn plain_text(&mut self, text: &str, at: &str) -> Result<(), CheckpointError> {
        let length = u32::try_from(text.len()).map_err(|_| {
            CheckpointError::unwritable(at, format!("expected a text below 4 GiB, got {} bytes", text.len()))
        })?;
        self.out.push(b'X');
        self.out.extend(length.to_le_bytes());
        self.out.extend(text.as_bytes());
        Ok(())
    }

    /// An imported name, from the memo if it stood there before.
    fn global(&mut self, module: &str, name: &str) {
        // No text contains the line feed and this ending: the last byte is not UTF-8.
        let import = [module.as_bytes(), b"\n", name.as_bytes(), b"\n\xff"].concat();
        if self.recall(&import) {
            return;
        }
        self.out.push(b'c');
        self.out.extend(import.strip_suffix(b"\xff").unwrap_or(&import));
        self.memoize(&import);
    }

    fn recall(&mut self, what: &[u8]) -> bool {
        let Some(&index) = self.memo.get(what) else { return false };
        match u8::try_from(index) {
            Ok(index) => self.out.extend([b'h', index]),
            Err(_) => {
                self.out.push(b'j');
                self.out.extend(index.to_le_bytes());
            }
        }
        true
    }

    fn memoize(&mut self, what: &[u8]) {
        let Ok(index) = u32::try_from(self.memo.len()) else { return };
        match u8::try_from(index) {
            Ok(index) => self.out.extend([b'q', index]),
            Err(_) => {
                self.out.push(b'r');
                self.out.extend(index.to_le_bytes());
            }
        }
        self.memo.insert(what.to_vec(), index);
    }

    fn ordered_dict(&mut self) {
        self.global("collections", "OrderedDict");
        self.out.extend(b")R");
    }

    /// `_rebuild_tensor_v2(storage, offset, shape, strides, requires_grad, backward_hooks)`; for types that have no
    /// storage of their own `_rebuild_tensor_v3`, which also takes the type.
    fn tensor(&mut self, tensor: &'a TensorData, at: &str) -> Result<(), CheckpointError> {
        tensor.check().map_err(|problem| CheckpointError::unwritable(at, problem))?;
        let storage = tensor.dtype.storage();
        let rebuild = if storage.is_some() { "_rebuild_tensor_v2" } else { "_rebuild_tensor_v3" };
        self.global("torch._utils", rebuild);
        self.out.extend(b"((");
        self.text("storage", at)?;
        match storage {
            Some(name) => self.global("torch", name),
            None => self.global("torch.storage", "UntypedStorage"),
        }
        self.plain_text(&self.tensors.len().to_string(), at)?;
        self.text("cpu", at)?;
        // Of an untyped storage the bytes are counted.
        self.int(if storage.is_some() { tensor.len() } else { tensor.bytes.len() } as i64);
        self.out.extend(b"tQ");
        self.int(0);
        let strides = (1..=tensor.shape.len()).map(|i| {
            let inner: Vec<usize> = tensor.shape.iter().skip(i).map(|&d| d.max(1)).collect();
            elements(&inner)
        });
        let shape = tensor.shape.iter().map(|&d| Some(d));
        for numbers in [shape.collect::<Vec<_>>(), strides.collect()] {
            self.out.push(b'(');
            for n in numbers {
                let n = n.and_then(|n| i64::try_from(n).ok());
                let n = n.ok_or_else(|| {
                    CheckpointError::unwritable(
                        at,
                        format!("expected dimensions below 2^63, got {:?}", tensor.shape),
                    )
                })?;
                self.int(n);
            }
            self.out.push(b't');
        }
        self.out.push(0x89);
        self.ordered_dict();
        if storage.is_none() {
            self.global("torch", tensor.dtype.name());
        }
        self.out.extend(b"tR");
        self.tensors.push(tensor);
        Ok(())
    }
}
