//! `.safetensors`: eight bytes for the length of a JSON directory, the directory, the tensors' bytes.
//!
//! The directory maps names to `{"dtype", "shape", "data_offsets": [begin, end]}`, offsets counting from its end, and
//! `__metadata__` to texts by name. Tensors lie one after the other without holes; elements are little-endian and
//! row-major. Source: the format's description in the repository of safetensors.
//!
//! # What is not a weight
//! The study's dictionary holds more than tensors by name. Each of its other keys becomes a text of JSON under
//! `checkpoint.KEY`: numbers, texts, lists and dictionaries with texts as keys as such, everything else as an object
//! of one tag: `{"$tuple": [..]}`, `{"$set": [..]}`, `{"$dict": [[key, value], ..]}`, `{"$ordered": [[key, value],
//! ..]}`, `{"$tensor": name}`, `{"$float": bits}`, `{"$int": bytes}`, `{"$bytes": bytes}`, `{"$dtype": name}`,
//! `{"$device": name}`; bits and bytes in hexadecimal. So everything comes back as it was.

use std::collections::{HashMap, HashSet};
use std::fmt::{self, Write as _};
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

use escape_files::text::shown;
use serde::Deserialize;
use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value as Json, json};

use super::budget::{Budget, read_at, size};
use super::dtype::DType;
use super::error::{CheckpointError, Fault};
use super::graph::{distinct_keys, place};
use super::value::{TensorData, Value, check_keys, elements};
use escape_files::text::dims;
use escape_files::write_atomically;

/// Longest directory that the format allows, in bytes.
const DIRECTORY_LIMIT: u64 = 100_000_000;
/// Most dimensions that a tensor may have, as in PyTorch.
const MAX_DIMS: usize = 64;
/// Deepest nesting of containers that is written; JSON needs up to three levels for one, and readers stop at 128.
const MAX_DEPTH: usize = 40;
const METADATA: &str = "__metadata__";
/// What the metadata's names of a checkpoint's keys begin with.
const FIELD: &str = "checkpoint.";
/// Where other programs' metadata are kept.
const FOREIGN: &str = "metadata";

fn name_of(dtype: DType) -> &'static str {
    match dtype {
        DType::F64 => "F64",
        DType::F32 => "F32",
        DType::F16 => "F16",
        DType::BF16 => "BF16",
        DType::I64 => "I64",
        DType::I32 => "I32",
        DType::I16 => "I16",
        DType::I8 => "I8",
        DType::U64 => "U64",
        DType::U32 => "U32",
        DType::U16 => "U16",
        DType::U8 => "U8",
        DType::Bool => "BOOL",
    }
}

// ---- reading ----

/// Whether a file that begins so is in this format.
pub(crate) fn is_safetensors(head: &[u8]) -> bool {
    let length = head.first_chunk().map(|n| u64::from_le_bytes(*n));
    head.get(8) == Some(&b'{') && length.is_some_and(|n| n <= DIRECTORY_LIMIT)
}

/// Reads a whole file of `length` bytes.
pub(crate) fn load(mut input: impl Read + Seek, length: u64, budget: &mut Budget) -> Result<Value, Fault> {
    let mut prefix = [0; 8];
    input.seek(SeekFrom::Start(0)).map_err(Fault::Io)?;
    input.read_exact(&mut prefix).map_err(Fault::Io)?;
    let promised = u64::from_le_bytes(prefix);
    let start = promised.saturating_add(8);
    if start > length {
        let problem = format!("expected a directory of {promised} bytes, got {}", length.saturating_sub(8));
        return Err(Fault::Damaged(problem));
    }
    budget.charge(promised, || "the directory".to_owned())?;
    let bytes = read_at(&mut input, 8, promised, "the directory")?;
    let Directory { metadata, tensors } = Directory::parse(&bytes, budget)?;
    drop(bytes);
    budget.refund(promised);
    check_layout(&tensors, length - start)?;

    budget.charge(size::<(String, Option<TensorData>)>(tensors.len()), || "tensors".to_owned())?;
    let mut read: TensorsByName = Vec::with_capacity(tensors.len());
    for Info { name, dtype, shape, begin, end } in tensors {
        let at = start.saturating_add(begin);
        budget.charge(end - begin, || shown(&name))?;
        let bytes = read_at(&mut input, at, end - begin, &shown(&name))?;
        read.push((name, Some(TensorData { dtype, shape, bytes: bytes.into() })));
    }
    dictionary(metadata, read, budget)
}

/// Whether every tensor is as long as its shape asks for, and all together fill the `available` bytes.
fn check_layout(tensors: &[Info], available: u64) -> Result<(), Fault> {
    let mut order: Vec<&Info> = tensors.iter().collect();
    order.sort_by_key(|info| (info.begin, info.end));
    let mut at = 0;
    for Info { name, dtype, shape, begin, end } in order {
        let spoken = || format!("{}, a {dtype} tensor of shape {}", shown(name), dims(shape));
        let needed = elements(shape).and_then(|n| n.checked_mul(dtype.size()));
        if *begin != at || end < begin {
            return Err(Fault::Damaged(format!(
                "{}: expected its bytes from {at} on, got {begin} to {end}",
                spoken()
            )));
        }
        if needed.map(|n| n as u64) != Some(end - begin) {
            let needed = needed.map_or("an impossible number of".to_owned(), |n| n.to_string());
            return Err(Fault::Damaged(format!(
                "{}: expected {needed} bytes, got {}",
                spoken(),
                end - begin
            )));
        }
        at = *end;
    }
    if at != available {
        return Err(Fault::Damaged(format!("expected {at} bytes of tensors, got {available}")));
    }
    Ok(())
}

/// A budget that can be spent from within the reading of JSON, whose errors are but text.
struct Guard<'b> {
    budget: &'b mut Budget,
    /// Why reading was broken off, if it was no mistake in the JSON.
    fault: Option<Fault>,
}

impl Guard<'_> {
    fn keep<T, E: de::Error>(&mut self, result: Result<T, Fault>) -> Result<T, E> {
        result.map_err(|fault| {
            self.fault = Some(fault);
            E::custom("refused")
        })
    }

    fn charge<E: de::Error>(&mut self, bytes: usize, what: &str) -> Result<(), E> {
        let result = self.budget.charge(bytes as u64, || what.to_owned());
        self.keep(result.map_err(Fault::from))
    }

    fn push<T, E: de::Error>(&mut self, items: &mut Vec<T>, item: T, what: &'static str) -> Result<(), E> {
        let result = self.budget.push(items, item, what);
        self.keep(result.map_err(Fault::from))
    }

    fn distinct<'v, E: de::Error>(
        &mut self,
        keys: impl ExactSizeIterator<Item = &'v Value>,
        what: &str,
    ) -> Result<(), E> {
        let result = distinct_keys(keys, what, self.budget);
        self.keep(result)
    }

    /// What went wrong in reading `what`.
    fn fault(&mut self, what: &str, error: &serde_json::Error) -> Fault {
        match self.fault.take() {
            Some(fault) => fault.within(what),
            None => Fault::Damaged(format!("{what}: {error}")),
        }
    }
}

/// Reads one JSON value and nothing behind it.
fn parse<'de, S: DeserializeSeed<'de>>(text: &'de [u8], seed: S) -> Result<S::Value, serde_json::Error> {
    let mut reader = serde_json::Deserializer::from_slice(text);
    let value = seed.deserialize(&mut reader)?;
    reader.end()?;
    Ok(value)
}

struct Info {
    name: String,
    dtype: DType,
    shape: Vec<usize>,
    begin: u64,
    end: u64,
}

#[derive(Default)]
struct Directory {
    metadata: Vec<(String, String)>,
    tensors: Vec<Info>,
}

impl Directory {
    fn parse(bytes: &[u8], budget: &mut Budget) -> Result<Self, Fault> {
        let mut guard = Guard { budget, fault: None };
        let found = parse(bytes, DirectorySeed(&mut guard));
        let found = found.map_err(|e| guard.fault("the directory", &e))?;
        let memory = size::<&str>(found.tensors.len()).saturating_mul(4);
        budget.charge(memory, || "the names of tensors".to_owned())?;
        let mut names = HashSet::new();
        if let Some(twice) = found.tensors.iter().find(|info| !names.insert(info.name.as_str())) {
            let problem = format!("the directory: expected distinct names, got {} twice", shown(&twice.name));
            return Err(Fault::Damaged(problem));
        }
        budget.refund(memory);
        Ok(found)
    }
}

struct DirectorySeed<'x, 'b>(&'x mut Guard<'b>);

impl<'de> DeserializeSeed<'de> for DirectorySeed<'_, '_> {
    type Value = Directory;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Directory, D::Error> {
        reader.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for DirectorySeed<'_, '_> {
    type Value = Directory;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors by name")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Directory, A::Error> {
        let Self(guard) = self;
        let mut found = Directory::default();
        while let Some(name) = map.next_key::<String>()? {
            if name == METADATA {
                if !found.metadata.is_empty() {
                    return Err(de::Error::custom(format!("{METADATA} stands there twice")));
                }
                found.metadata = map.next_value_seed(TextsSeed(guard))?;
                continue;
            }
            let RawInfo { dtype, shape: Dims(shape), data_offsets: (begin, end) } = map.next_value()?;
            guard.charge(name.len() + shape.len() * size_of::<usize>(), "names and shapes")?;
            let known = DType::ALL.into_iter().find(|known| name_of(*known) == dtype).ok_or_else(|| {
                let (all, name) = (DType::ALL.map(name_of).join(", "), shown(&name));
                let got = shown(&dtype);
                let problem =
                    format!("{name}: expected a tensor of type {all}, got {got}; convert it before saving");
                Fault::Unsupported(problem)
            });
            let dtype = guard.keep(known)?;
            guard.push(&mut found.tensors, Info { name, dtype, shape, begin, end }, "tensors")?;
        }
        Ok(found)
    }
}

#[derive(Deserialize)]
struct RawInfo {
    dtype: String,
    shape: Dims,
    data_offsets: (u64, u64),
}

/// A shape, of so few dimensions that it costs nothing to speak of.
struct Dims(Vec<usize>);

impl<'de> Deserialize<'de> for Dims {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        reader.deserialize_seq(DimsVisitor)
    }
}

struct DimsVisitor;

impl<'de> Visitor<'de> for DimsVisitor {
    type Value = Dims;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at most {MAX_DIMS} sizes")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Dims, A::Error> {
        let mut dims = Vec::new();
        while let Some(dim) = seq.next_element()? {
            if dims.len() == MAX_DIMS {
                return Err(de::Error::invalid_length(MAX_DIMS + 1, &self));
            }
            dims.push(dim);
        }
        Ok(Dims(dims))
    }
}

struct TextsSeed<'x, 'b>(&'x mut Guard<'b>);

impl<'de> DeserializeSeed<'de> for TextsSeed<'_, '_> {
    type Value = Vec<(String, String)>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for TextsSeed<'_, '_> {
    type Value = Vec<(String, String)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of texts by name")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Vec::new())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut texts = Vec::new();
        while let Some((name, Text(text))) = map.next_entry::<String, Text>()? {
            let text = text.ok_or_else(|| {
                let name = shown(&name);
                Fault::Unsupported(format!(
                    "{METADATA} {name} is no text, expected a string: save the file anew in Python with '{name}': str(...)"
                ))
            });
            let text = self.0.keep(text)?;
            self.0.charge(name.len() + text.len(), "metadata")?;
            self.0.push(&mut texts, (name, text), "metadata")?;
        }
        Ok(texts)
    }
}

/// A text, or something else, which is passed over.
struct Text(Option<String>);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        reader.deserialize_any(TextVisitor)
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Text;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_str<E>(self, v: &str) -> Result<Text, E> {
        Ok(Text(Some(v.to_owned())))
    }

    fn visit_unit<E>(self) -> Result<Text, E> {
        Ok(Text(None))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Text, E> {
        Ok(Text(None))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Text, E> {
        Ok(Text(None))
    }

    fn visit_u64<E>(self, _: u64) -> Result<Text, E> {
        Ok(Text(None))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Text, E> {
        Ok(Text(None))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Text, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Text(None))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Text, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Text(None))
    }
}

/// Puts together what [`read()`](super::read()) promises.
fn dictionary(
    metadata: Vec<(String, String)>,
    mut tensors: TensorsByName,
    budget: &mut Budget,
) -> Result<Value, Fault> {
    let (mut fields, mut foreign) = (Vec::new(), Vec::new());
    // Names once more, in a table that is at least 7/16 full.
    let memory: usize = tensors.iter().map(|(name, _)| name.len() + 3 * size_of::<(String, usize)>()).sum();
    budget.charge(memory as u64, || "the names of tensors".to_owned())?;
    let index = tensors.iter().enumerate().map(|(i, (name, _))| (name.clone(), i)).collect();
    for (name, text) in metadata {
        match name.strip_prefix(FIELD) {
            Some(key) => {
                let mut decoding =
                    Decoding { guard: Guard { budget, fault: None }, tensors: &mut tensors, index: &index };
                let value = parse(text.as_bytes(), Seed(&mut decoding));
                let what = format!("metadata {}", shown(&name));
                let value = value.map_err(|e| decoding.guard.fault(&what, &e))?;
                budget.push(&mut fields, (Value::from(key), value), "metadata")?;
            }
            None => budget.push(&mut foreign, (Value::Str(name), Value::Str(text)), "metadata")?,
        }
    }
    for entries in [&fields, &foreign] {
        distinct_keys(entries.iter().map(|(key, _)| key), "metadata", budget)?;
    }
    budget.charge(size::<(Value, Value)>(tensors.len()), || "the tensors".to_owned())?;
    let mut weights = Vec::with_capacity(tensors.len());
    for (name, tensor) in tensors {
        if let Some(tensor) = tensor {
            budget.charge(size::<TensorData>(1), || "a tensor".to_owned())?;
            weights.push((Value::Str(name), tensor.into()));
        }
    }
    let weights = Value::OrderedDict(weights);
    // What almost every file says, and nobody asks for.
    foreign.retain(|(name, _)| name.as_str() != Some("format"));
    if fields.is_empty() && foreign.is_empty() {
        return Ok(weights);
    }
    fields.push(("state_dict".into(), weights));
    if !foreign.is_empty() {
        fields.push((FOREIGN.into(), Value::Dict(foreign)));
    }
    Ok(Value::Dict(fields))
}

/// The tensors of a file, in its order; `None` in place of those that the metadata referred to.
type TensorsByName = Vec<(String, Option<TensorData>)>;

/// What decoding a key of a checkpoint needs.
struct Decoding<'b> {
    guard: Guard<'b>,
    tensors: &'b mut TensorsByName,
    /// Where in `tensors` each stands.
    index: &'b HashMap<String, usize>,
}

struct Seed<'x, 'b>(&'x mut Decoding<'b>);

impl<'de> DeserializeSeed<'de> for Seed<'_, '_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_, '_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a part of a checkpoint")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::None)
    }

    fn visit_bool<E>(self, v: bool) -> Result<Value, E> {
        Ok(Value::Bool(v))
    }

    fn visit_i64<E>(self, v: i64) -> Result<Value, E> {
        Ok(Value::Int(v))
    }

    fn visit_u64<E: de::Error>(self, v: u64) -> Result<Value, E> {
        i64::try_from(v).map(Value::Int).map_err(|_| E::custom(format!("{v} is too large for a number")))
    }

    fn visit_f64<E>(self, v: f64) -> Result<Value, E> {
        Ok(Value::Float(v))
    }

    fn visit_str<E: de::Error>(self, v: &str) -> Result<Value, E> {
        self.0.guard.charge(v.len(), "a text")?;
        Ok(Value::from(v))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(Seed(self.0))? {
            self.0.guard.push(&mut items, item, "a list")?;
        }
        Ok(Value::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            let value = map.next_value_seed(Seed(self.0))?;
            self.0.guard.charge(key.len(), "a key")?;
            self.0.guard.push(&mut entries, (Value::Str(key), value), "a dictionary")?;
        }
        let tag = match &entries[..] {
            [(Value::Str(key), _)] if key.starts_with('$') => key.clone(),
            _ => {
                self.0.guard.distinct(entries.iter().map(|(key, _)| key), "a dictionary")?;
                return Ok(Value::Dict(entries));
            }
        };
        let content = entries.pop().map(|(_, content)| content);
        let spoken = content.as_ref().map(Value::describe).unwrap_or_default();
        self.tagged(&tag, content)?
            .ok_or_else(|| de::Error::custom(format!("the tag {} does not go with {spoken}", shown(&tag))))
    }
}

impl Seed<'_, '_> {
    /// What a tag makes of its content; `None` if there is no such tag, or not for this content.
    fn tagged<E: de::Error>(self, tag: &str, content: Option<Value>) -> Result<Option<Value>, E> {
        Ok(match (tag, content) {
            ("$tuple", Some(Value::List(items))) => Some(Value::Tuple(items)),
            ("$set", Some(Value::List(items))) => {
                self.0.guard.distinct(items.iter(), "a set")?;
                Some(Value::Set(items))
            }
            ("$dict" | "$ordered", Some(Value::List(pairs))) => {
                let mut entries = Vec::new();
                for pair in pairs {
                    let Value::List(pair) = pair else { return Ok(None) };
                    let Ok([key, value]) = <[Value; 2]>::try_from(pair) else { return Ok(None) };
                    self.0.guard.push(&mut entries, (key, value), "a dictionary")?;
                }
                self.0.guard.distinct(entries.iter().map(|(key, _)| key), "a dictionary")?;
                Some(if tag == "$dict" { Value::Dict(entries) } else { Value::OrderedDict(entries) })
            }
            ("$tensor", Some(Value::Str(name))) => {
                let found = self.0.index.get(&name).and_then(|&i| self.0.tensors.get_mut(i));
                let tensor = found.and_then(|(_, tensor)| tensor.take()).map(Value::from);
                Some(tensor.ok_or_else(|| {
                    E::custom(format!("expected one tensor {} for one mention of it", shown(&name)))
                })?)
            }
            ("$float", Some(Value::Str(bits))) => {
                unhex(&bits).and_then(|b| Some(Value::Float(f64::from_be_bytes(b.try_into().ok()?))))
            }
            ("$int", Some(Value::Str(bytes))) => unhex(&bytes).filter(|b| b.len() < 256).map(Value::BigInt),
            ("$bytes", Some(Value::Str(bytes))) => unhex(&bytes).map(Value::Bytes),
            ("$dtype", Some(Value::Str(name))) => Some(Value::DType(name)),
            ("$device", Some(Value::Str(name))) => Some(Value::Device(name)),
            _ => None,
        })
    }
}

/// Bytes from pairs of hexadecimal digits.
fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |c: u8| char::from(c).to_digit(16);
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let byte = |&[high, low]: &[u8; 2]| u8::try_from(digit(high)? << 4 | digit(low)?).ok();
    rest.is_empty().then(|| pairs.iter().map(byte).collect()).flatten()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

// ---- writing ----

/// Writes a dictionary of which `state_dict` becomes the tensors and everything else metadata; see the module.
///
/// `prefix` is taken off the tensors' names.
///
/// # Errors
/// Those of [`write()`](super::write()).
pub(crate) fn write(path: &Path, dictionary: &Value, prefix: &str) -> Result<(), CheckpointError> {
    let file = File::of(dictionary, prefix).map_err(|e| e.in_file(path))?;
    write_atomically(path, |out| file.write(BufWriter::new(out))).map_err(|source| CheckpointError::Io {
        path: path.to_owned(),
        operation: "write",
        source,
    })
}

/// What is to be written.
struct File<'a> {
    metadata: Map<String, Json>,
    tensors: Vec<(String, &'a TensorData)>,
    names: HashSet<String>,
}

impl<'a> File<'a> {
    fn of(dictionary: &'a Value, prefix: &str) -> Result<Self, CheckpointError> {
        let entries = dictionary.entries().unwrap_or_default();
        check_keys(entries.iter().map(|(key, _)| key))
            .map_err(|problem| CheckpointError::unwritable("", problem))?;
        let mut file = Self { metadata: Map::new(), tensors: Vec::new(), names: HashSet::new() };
        file.metadata.insert("format".to_owned(), json!("pt"));
        for (name, tensor) in dictionary.get("state_dict").and_then(Value::entries).unwrap_or_default() {
            let at = format!("['state_dict']{}", place(name));
            let (Value::Str(name), Value::Tensor(tensor)) = (name, tensor) else {
                return Err(CheckpointError::unwritable(&at, "expected a tensor under a name"));
            };
            let name = name.strip_prefix(prefix).unwrap_or(name);
            if name == METADATA || file.names.contains(name) {
                return Err(CheckpointError::unwritable(
                    &at,
                    "expected another name, which no other tensor has",
                ));
            }
            file.add(name.to_owned(), tensor, &at)?;
        }
        for (key, value) in entries {
            match key {
                Value::Str(key) if key == "state_dict" => {}
                Value::Str(key) if key == FOREIGN && is_foreign(value) => {
                    for (name, text) in value.entries().unwrap_or_default() {
                        let pair = name.as_str().zip(text.as_str());
                        file.metadata.extend(pair.map(|(name, text)| (name.to_owned(), json!(text))));
                    }
                }
                Value::Str(name) => {
                    // A key can be long, and tensors many.
                    let short: String = name.chars().take(40).collect();
                    let json = file.encode(value, &place(key), &short, 0)?;
                    file.metadata.insert(format!("{FIELD}{name}"), json!(json.to_string()));
                }
                _ => return Err(CheckpointError::unwritable(&place(key), "expected text as a key")),
            }
        }
        Ok(file)
    }

    fn add(&mut self, name: String, tensor: &'a TensorData, at: &str) -> Result<(), CheckpointError> {
        tensor.check().map_err(|problem| CheckpointError::unwritable(at, problem))?;
        self.names.insert(name.clone());
        self.tensors.push((name, tensor));
        Ok(())
    }

    /// JSON for a value that stands at `at`; its tensors are named after the `key` it belongs to.
    fn encode(
        &mut self,
        value: &'a Value,
        at: &str,
        key: &str,
        depth: usize,
    ) -> Result<Json, CheckpointError> {
        if depth > MAX_DEPTH {
            return Err(CheckpointError::unwritable(
                at,
                format!("expected at most {MAX_DEPTH} containers within each other"),
            ));
        }
        let mut list = |items: &'a [Value]| -> Result<Vec<Json>, CheckpointError> {
            let each = items.iter().enumerate();
            each.map(|(i, item)| self.encode(item, &format!("{at}[{i}]"), key, depth + 1)).collect()
        };
        Ok(match value {
            Value::None => Json::Null,
            Value::Bool(v) => json!(v),
            Value::Int(v) => json!(v),
            Value::Float(v) if v.is_finite() => json!(v),
            Value::Float(v) => json!({ "$float": hex(&v.to_be_bytes()) }),
            Value::BigInt(v) if v.len() < 256 => json!({ "$int": hex(v) }),
            Value::BigInt(v) => {
                let problem = format!("expected a whole number of at most 255 bytes, got {}", v.len());
                return Err(CheckpointError::unwritable(at, problem));
            }
            Value::Str(v) => json!(v),
            Value::Bytes(v) => json!({ "$bytes": hex(v) }),
            Value::DType(v) => json!({ "$dtype": v }),
            Value::Device(v) => json!({ "$device": v }),
            Value::Opaque(_) => {
                return Err(CheckpointError::unwritable(
                    at,
                    format!("expected plain data, got {}", value.describe()),
                ));
            }
            Value::List(items) => Json::Array(list(items)?),
            Value::Tuple(items) => json!({ "$tuple": list(items)? }),
            Value::Set(items) => {
                check_keys(items.iter()).map_err(|problem| CheckpointError::unwritable(at, problem))?;
                json!({ "$set": list(items)? })
            }
            Value::Dict(entries) | Value::OrderedDict(entries) => {
                check_keys(entries.iter().map(|(key, _)| key))
                    .map_err(|problem| CheckpointError::unwritable(at, problem))?;
                let mut pairs = Vec::with_capacity(entries.len());
                for (name, value) in entries {
                    let at = format!("{at}{}", place(name));
                    let name = self.encode(name, &at, key, depth + 1)?;
                    pairs.push((name, self.encode(value, &at, key, depth + 1)?));
                }
                let plain = matches!(value, Value::Dict(_))
                    && entries
                        .iter()
                        .all(|(name, _)| name.as_str().is_some_and(|name| !name.starts_with('$')));
                if plain {
                    let named =
                        pairs.into_iter().filter_map(|(name, v)| Some((name.as_str()?.to_owned(), v)));
                    return Ok(Json::Object(named.collect()));
                }
                let tag = if matches!(value, Value::Dict(_)) { "$dict" } else { "$ordered" };
                json!({ tag: pairs })
            }
            Value::Tensor(tensor) => {
                // Numbered by their order in the file; a weight can have any name.
                let mut name = format!("{FIELD}{key}.{}", self.tensors.len());
                while self.names.contains(&name) {
                    name.push('_');
                }
                self.add(name.clone(), tensor, at)?;
                json!({ "$tensor": name })
            }
        })
    }

    fn write(self, mut out: impl Write) -> io::Result<()> {
        // Wide elements first, so that every tensor is aligned to its element as other readers need it.
        let mut order: Vec<usize> = (0..self.tensors.len()).collect();
        order.sort_by_key(|&i| std::cmp::Reverse(self.tensors.get(i).map(|(_, t)| t.dtype.size())));
        let mut begins = vec![0; order.len()];
        let mut at = 0;
        for &i in &order {
            begins[i] = at;
            at += self.tensors[i].1.bytes.len();
        }
        let mut directory = Map::new();
        directory.insert(METADATA.to_owned(), Json::Object(self.metadata));
        for ((name, tensor), begin) in self.tensors.iter().zip(begins) {
            let offsets = [begin, begin + tensor.bytes.len()];
            let info =
                json!({ "dtype": name_of(tensor.dtype), "shape": tensor.shape, "data_offsets": offsets });
            directory.insert(name.clone(), info);
        }
        let mut directory = Json::Object(directory).to_string().into_bytes();
        directory.resize(directory.len().next_multiple_of(8), b' ');
        if directory.len() as u64 > DIRECTORY_LIMIT {
            let problem =
                format!("a directory of {} bytes, at most {DIRECTORY_LIMIT} allowed", directory.len());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, problem));
        }
        out.write_all(&(directory.len() as u64).to_le_bytes())?;
        out.write_all(&directory)?;
        for i in order {
            out.write_all(&self.tensors[i].1.bytes)?;
        }
        out.flush()
    }
}

/// Whether this is what [`read()`](super::read()) makes of other programs' metadata, and can be that again.
fn is_foreign(value: &Value) -> bool {
    let Value::Dict(entries) = value else { return false };
    let free = |name: &str| name != "format" && !name.starts_with(FIELD);
    !entries.is_empty()
        && entries.iter().all(|(name, text)| name.as_str().is_some_and(free) && text.as_str().is_some())
}
