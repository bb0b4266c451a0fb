//! What a checkpoint can hold.

use std::ops::Range;
use std::sync::Arc;

use escape_files::text::shown;
use half::{bf16, f16};

use super::dtype::DType;
use escape_files::text::dims;

/// A tensor's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorData {
    /// Element type.
    pub dtype: DType,
    /// Size of each dimension, the slowest first; empty for a scalar.
    pub shape: Vec<usize>,
    /// The elements, contiguous, row-major, little-endian: their number times [`DType::size`] bytes. Clones share them.
    pub bytes: Arc<Vec<u8>>,
}

impl TensorData {
    /// A float32 tensor of these values, row-major.
    ///
    /// # Panics
    /// If there are not as many values as the shape asks for.
    pub fn from_f32(shape: &[usize], values: &[f32]) -> Self {
        assert_eq!(elements(shape), Some(values.len()), "values do not fit the shape {}", dims(shape));
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Self { dtype: DType::F32, shape: shape.to_vec(), bytes: bytes.into() }
    }

    /// Number of elements, as the bytes tell.
    pub fn len(&self) -> usize {
        self.bytes.len() / self.dtype.size()
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The elements as float32, row-major, rounded to nearest where they do not fit; booleans as 0 and 1.
    pub fn to_f32(&self) -> Vec<f32> {
        let mut values = Vec::with_capacity(self.len());
        self.append_f32(0..self.len(), &mut values);
        values
    }

    /// Appends some of the elements, counted row-major, as [`TensorData::to_f32`] has them.
    ///
    /// # Panics
    /// If there are not as many.
    pub fn append_f32(&self, elements: Range<usize>, values: &mut Vec<f32>) {
        fn each<const N: usize>(bytes: &[u8], values: &mut Vec<f32>, convert: impl Fn([u8; N]) -> f32) {
            values.extend(bytes.as_chunks::<N>().0.iter().map(|b| convert(*b)));
        }
        let size = self.dtype.size();
        let bytes = &self.bytes[elements.start * size..elements.end * size];
        match self.dtype {
            DType::F64 => each(bytes, values, |b| f64::from_le_bytes(b) as f32),
            DType::F32 => each(bytes, values, f32::from_le_bytes),
            DType::F16 => each(bytes, values, |b| f16::from_le_bytes(b).to_f32()),
            DType::BF16 => each(bytes, values, |b| bf16::from_le_bytes(b).to_f32()),
            DType::I64 => each(bytes, values, |b| i64::from_le_bytes(b) as f32),
            DType::I32 => each(bytes, values, |b| i32::from_le_bytes(b) as f32),
            DType::I16 => each(bytes, values, |b| f32::from(i16::from_le_bytes(b))),
            DType::I8 => each(bytes, values, |b| f32::from(i8::from_le_bytes(b))),
            DType::U64 => each(bytes, values, |b| u64::from_le_bytes(b) as f32),
            DType::U32 => each(bytes, values, |b| u32::from_le_bytes(b) as f32),
            DType::U16 => each(bytes, values, |b| f32::from(u16::from_le_bytes(b))),
            DType::U8 => each(bytes, values, |b| f32::from(u8::from_le_bytes(b))),
            DType::Bool => each(bytes, values, |[b]| f32::from(u8::from(b != 0))),
        }
    }

    /// The elements as float64, row-major, rounded to nearest where they do not fit (64-bit integers beyond 2^53);
    /// booleans as 0 and 1.
    pub fn to_f64(&self) -> Vec<f64> {
        let mut values = Vec::with_capacity(self.len());
        self.each_f64(|v| values.push(v));
        values
    }

    /// Hands each element to `sink` as [`TensorData::to_f64`] has it, one after the other.
    pub fn each_f64(&self, sink: impl FnMut(f64)) {
        each_f64(self.dtype, &self.bytes, sink);
    }

    /// The first element that is no finite float32, counted row-major.
    pub(crate) fn first_not_finite(&self) -> Option<usize> {
        // Looking for any needs neither memory nor branches.
        let mut finite = true;
        self.each_f64(|v| finite &= (v as f32).is_finite());
        if finite { None } else { self.to_f32().iter().position(|v| !v.is_finite()) }
    }

    /// The elements as int64, row-major; `None` unless the type is an integer or boolean one and they fit.
    pub fn to_i64(&self) -> Option<Vec<i64>> {
        match self.dtype {
            DType::I64 => Some(self.map(i64::from_le_bytes)),
            DType::U64 => self.map(|b| i64::try_from(u64::from_le_bytes(b)).ok()).into_iter().collect(),
            DType::F64 | DType::F32 | DType::F16 | DType::BF16 => None,
            _ => Some(self.to_f64().into_iter().map(|v| v as i64).collect()),
        }
    }

    /// The tensor in half precision, rounded to nearest, ties to even (float64 by way of float32, as PyTorch does);
    /// what is nearer to 65536 than to 65504 becomes infinite.
    pub fn to_f16(&self) -> Self {
        let bytes = match self.dtype {
            DType::F16 => Arc::clone(&self.bytes),
            _ => Arc::new(self.to_f32().into_iter().flat_map(|v| f16::from_f32(v).to_le_bytes()).collect()),
        };
        Self { dtype: DType::F16, shape: self.shape.clone(), bytes }
    }

    /// The element at `i`, counted row-major, as [`TensorData::to_f64`] has it; 0 behind the last.
    pub(crate) fn element(&self, i: usize) -> f64 {
        let size = self.dtype.size();
        let mut value = 0.0;
        let bytes = i.checked_mul(size).and_then(|start| self.bytes.get(start..start.checked_add(size)?));
        each_f64(self.dtype, bytes.unwrap_or_default(), |v| value = v);
        value
    }

    /// Replaces the element at `i` by the nearest that its type has; behind the last it changes nothing.
    pub(crate) fn set_element(&mut self, i: usize, value: f64) {
        let size = self.dtype.size();
        let Some(place) = Arc::make_mut(&mut self.bytes).get_mut(i * size..(i + 1) * size) else { return };
        let single = value as f32;
        match self.dtype {
            DType::F64 => place.copy_from_slice(&value.to_le_bytes()),
            DType::F32 => place.copy_from_slice(&single.to_le_bytes()),
            DType::F16 => place.copy_from_slice(&f16::from_f32(single).to_le_bytes()),
            DType::BF16 => place.copy_from_slice(&bf16::from_f32(single).to_le_bytes()),
            DType::I64 => place.copy_from_slice(&(value as i64).to_le_bytes()),
            DType::I32 => place.copy_from_slice(&(value as i32).to_le_bytes()),
            DType::I16 => place.copy_from_slice(&(value as i16).to_le_bytes()),
            DType::I8 => place.copy_from_slice(&(value as i8).to_le_bytes()),
            DType::U64 => place.copy_from_slice(&(value as u64).to_le_bytes()),
            DType::U32 => place.copy_from_slice(&(value as u32).to_le_bytes()),
            DType::U16 => place.copy_from_slice(&(value as u16).to_le_bytes()),
            DType::U8 => place.copy_from_slice(&[value as u8]),
            DType::Bool => place.copy_from_slice(&[u8::from(value != 0.0)]),
        }
    }

    fn map<const N: usize, T>(&self, f: impl Fn([u8; N]) -> T) -> Vec<T> {
        self.bytes.as_chunks::<N>().0.iter().map(|b| f(*b)).collect()
    }

    /// Whether the bytes are as many as type and shape ask for, else what they should be.
    pub(crate) fn check(&self) -> Result<(), String> {
        match elements(&self.shape).and_then(|n| n.checked_mul(self.dtype.size())) {
            Some(expected) if expected == self.bytes.len() => Ok(()),
            expected => Err(format!(
                "a {} tensor of shape {}: expected {} bytes, got {}",
                self.dtype,
                dims(&self.shape),
                expected.map_or("an impossible number of".to_owned(), |n| n.to_string()),
                self.bytes.len()
            )),
        }
    }
}

fn each_f64(dtype: DType, bytes: &[u8], sink: impl FnMut(f64)) {
    fn each<const N: usize>(bytes: &[u8], convert: impl Fn([u8; N]) -> f64, mut sink: impl FnMut(f64)) {
        bytes.as_chunks::<N>().0.iter().for_each(|b| sink(convert(*b)));
    }
    match dtype {
        DType::F64 => each(bytes, f64::from_le_bytes, sink),
        DType::F32 => each(bytes, |b| f32::from_le_bytes(b).into(), sink),
        DType::F16 => each(bytes, |b| f16::from_le_bytes(b).into(), sink),
        DType::BF16 => each(bytes, |b| bf16::from_le_bytes(b).into(), sink),
        DType::I64 => each(bytes, |b| i64::from_le_bytes(b) as f64, sink),
        DType::I32 => each(bytes, |b| i32::from_le_bytes(b).into(), sink),
        DType::I16 => each(bytes, |b| i16::from_le_bytes(b).into(), sink),
        DType::I8 => each(bytes, |b| i8::from_le_bytes(b).into(), sink),
        DType::U64 => each(bytes, |b| u64::from_le_bytes(b) as f64, sink),
        DType::U32 => each(bytes, |b| u32::from_le_bytes(b).into(), sink),
        DType::U16 => each(bytes, |b| u16::from_le_bytes(b).into(), sink),
        DType::U8 => each(bytes, |b| u8::from_le_bytes(b).into(), sink),
        DType::Bool => each(bytes, |[b]| u8::from(b != 0).into(), sink),
    }
}

/// Product of the dimensions; zero if any is, whatever the others are.
pub(crate) fn elements(shape: &[usize]) -> Option<usize> {
    if shape.contains(&0) {
        return Some(0);
    }
    shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d))
}

/// A Python object, as far as checkpoints hold them.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Value {
    /// `None`.
    None,
    /// `bool`.
    Bool(bool),
    /// `int` of up to 64 bits.
    Int(i64),
    /// A larger `int`: two's complement, little-endian, at most 255 bytes.
    BigInt(Vec<u8>),
    /// `float`.
    Float(f64),
    /// `str`.
    Str(String),
    /// `bytes` or `bytearray`.
    Bytes(Vec<u8>),
    /// `list`.
    List(Vec<Value>),
    /// `tuple` or `torch.Size`.
    Tuple(Vec<Value>),
    /// `set` or `frozenset`, in file order.
    Set(Vec<Value>),
    /// `dict`, in file order.
    Dict(Vec<(Value, Value)>),
    /// `collections.OrderedDict`, in file order.
    OrderedDict(Vec<(Value, Value)>),
    /// `torch.Tensor`, `torch.nn.Parameter` or `numpy.ndarray`; boxed, since values of other kinds are much smaller.
    Tensor(Box<TensorData>),
    /// A `torch.dtype`: its name without `torch.`, which need not be one that [`DType`] has.
    DType(String),
    /// A `torch.device`, such as `cpu` or `cuda:0`.
    Device(String),
    /// What a file has and nothing here can be: an object of a class, a function, a tensor of another kind.
    Opaque(Box<Opaque>),
}

/// A value of a file that was not made, and nothing of which was executed.
#[derive(Debug, Clone, PartialEq)]
pub struct Opaque {
    /// What it is, in words: `an object of argparse.Namespace`.
    pub what: String,
    /// Whether it is a tensor, of a kind that cannot be read, and no other object.
    pub is_tensor: bool,
    /// What to do in Python so that it can be read; empty where nothing helps.
    pub remedy: String,
    /// Of its arguments and its state what is a number or short text, for a person to see.
    pub fields: Vec<(String, Value)>,
}

impl Value {
    /// The value under a text key; `None` also if this is no dictionary.
    pub fn get(&self, key: &str) -> Option<&Self> {
        self.entries()?.iter().find(|(k, _)| matches!(k, Self::Str(k) if k == key)).map(|(_, value)| value)
    }

    /// The entries of a `dict` or `OrderedDict`.
    pub fn entries(&self) -> Option<&[(Self, Self)]> {
        match self {
            Self::Dict(entries) | Self::OrderedDict(entries) => Some(entries),
            _ => None,
        }
    }

    /// The items of a `list` or `tuple`.
    pub fn items(&self) -> Option<&[Self]> {
        match self {
            Self::List(items) | Self::Tuple(items) => Some(items),
            _ => None,
        }
    }

    /// A number: a `float`, an `int`, or a tensor of one element.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Float(v) => Some(*v),
            Self::Int(v) => Some(*v as f64),
            Self::Tensor(t) if t.len() == 1 => t.to_f64().first().copied(),
            _ => None,
        }
    }

    /// A whole number: an `int`, or an integer tensor of one element.
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Self::Int(v) => Some(*v),
            Self::Tensor(t) if t.len() == 1 => t.to_i64()?.first().copied(),
            _ => None,
        }
    }

    /// A `str`.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Str(v) => Some(v),
            _ => None,
        }
    }

    /// What was not made.
    pub fn as_opaque(&self) -> Option<&Opaque> {
        match self {
            Self::Opaque(v) => Some(v),
            _ => None,
        }
    }

    /// A tensor.
    pub fn as_tensor(&self) -> Option<&TensorData> {
        match self {
            Self::Tensor(v) => Some(v),
            _ => None,
        }
    }

    /// What it is, in a few words, for a person: `a list of 3`, `a torch.float32 tensor of shape 64 x 3`.
    pub fn describe(&self) -> String {
        match self {
            Self::None => "None".to_owned(),
            Self::Bool(v) => if *v { "True" } else { "False" }.to_owned(),
            Self::Int(v) => format!("the int {v}"),
            Self::BigInt(_) => "an int of more than 64 bits".to_owned(),
            Self::Float(v) => format!("the float {v}"),
            Self::Str(v) => format!("the text '{}'", shown(v)),
            Self::Bytes(v) => format!("{} bytes", v.len()),
            Self::List(v) => format!("a list of {}", v.len()),
            Self::Tuple(v) => format!("a tuple of {}", v.len()),
            Self::Set(v) => format!("a set of {}", v.len()),
            Self::Dict(v) | Self::OrderedDict(v) => match keys(v) {
                keys if keys.is_empty() => "an empty dictionary".to_owned(),
                keys => format!("a dictionary of {keys}"),
            },
            Self::Tensor(t) => format!("a {} tensor of shape {}", t.dtype, dims(&t.shape)),
            Self::DType(v) => format!("the type torch.{}", shown(v)),
            Self::Device(v) => format!("the device '{}'", shown(v)),
            Self::Opaque(v) => v.what.clone(),
        }
    }
}

/// The first few keys, for a message.
fn keys(entries: &[(Value, Value)]) -> String {
    const SHOWN: usize = 12;
    let mut names: Vec<String> = entries
        .iter()
        .take(SHOWN)
        .map(|(key, _)| match key {
            Value::Str(key) => format!("'{}'", shown(key)),
            Value::Int(key) => key.to_string(),
            other => other.describe(),
        })
        .collect();
    if entries.len() > SHOWN {
        names.push(format!("{} more", entries.len() - SHOWN));
    }
    names.join(", ")
}

/// A dictionary key that could be compared; two equal ones in one dictionary are a mistake.
#[derive(PartialEq, Eq, Hash)]
pub(crate) enum Key<'a> {
    None,
    Bool(bool),
    Int(i64),
    BigInt(&'a [u8]),
    Float(u64),
    Text(&'a str),
    Bytes(&'a [u8]),
    Name(&'a str),
    Tuple(Vec<Key<'a>>),
    /// Objects and tensors are keys by what they are, not by what they hold: each is a key of its own.
    Itself(usize),
}

impl<'a> Key<'a> {
    /// `None` for what Python cannot hash.
    pub(crate) fn of(value: &'a Value) -> Option<Self> {
        Some(match value {
            Value::None => Self::None,
            Value::Bool(v) => Self::Bool(*v),
            Value::Int(v) => Self::Int(*v),
            Value::Float(v) => Self::Float(v.to_bits()),
            Value::Str(v) => Self::Text(v),
            Value::BigInt(v) => Self::BigInt(v),
            Value::Bytes(v) => Self::Bytes(v),
            Value::DType(v) | Value::Device(v) => Self::Name(v),
            Value::Tuple(v) => Self::Tuple(v.iter().map(Self::of).collect::<Option<_>>()?),
            Value::Tensor(v) => Self::Itself(std::ptr::from_ref(&**v).addr()),
            Value::Opaque(v) => Self::Itself(std::ptr::from_ref(&**v).addr()),
            _ => return None,
        })
    }
}

/// Checks that keys can be hashed and are distinct; else says which is not.
pub(crate) fn check_keys<'a>(keys: impl Iterator<Item = &'a Value>) -> Result<(), String> {
    let mut seen = std::collections::HashSet::new();
    for key in keys {
        let Some(comparable) = Key::of(key) else {
            return Err(format!("expected a number, text or tuple as a key, got {}", key.describe()));
        };
        if !seen.insert(comparable) {
            return Err(format!("expected distinct keys, got {} twice", key.describe()));
        }
    }
    Ok(())
}

impl From<TensorData> for Value {
    fn from(tensor: TensorData) -> Self {
        Self::Tensor(Box::new(tensor))
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Str(text.to_owned())
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Self::Float(number)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}
