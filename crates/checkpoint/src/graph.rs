//! From the graph that a pickle describes to a [`Value`], with the tensors' bytes filled in.

use std::collections::HashMap;
use std::rc::Rc;

use escape_files::text::shown;

use super::budget::{Budget, size};
use super::dtype::DType;
use super::error::Fault;
use super::expand::{self, Quantisation};
use super::foreign::{self, Foreign};
use super::pickle::{self, Global, Graph, Item, NumpyContent, Object, Storage, StorageType, View, What};
use super::value::{Key, Opaque, TensorData, Value, check_keys, elements};
use escape_files::text::dims;

/// Deepest nesting of containers, read or written; checkpoints need about five.
pub(crate) const MAX_DEPTH: usize = 100;

const SAVE_TENSOR: &str = "save the tensor instead of its storage";
const COMPLEX: &str = "save its .real and .imag in Python";

/// The storages that a pickle's tensors are views of.
pub(crate) trait Storages {
    /// Size of a storage in bytes, if there is one of this key.
    fn size(&self, key: &str) -> Option<u64>;

    /// The bytes of a storage, which the caller has paid for.
    fn bytes(&mut self, key: &str) -> Result<Vec<u8>, Fault>;

    /// Whether elements have their highest byte first.
    fn is_big_endian(&self) -> bool;
}

/// What a file of `torch.save` holds.
pub(crate) struct Built {
    pub(crate) value: Value,
    /// The names that its pickle asks for and that mean nothing here.
    pub(crate) foreign: Vec<Foreign>,
    /// How many quantised and how many sparse tensors were made ordinary.
    pub(crate) expanded: (usize, usize),
}

/// The value that a graph describes.
pub(crate) fn build(
    graph: &Graph<'_>,
    storages: &mut dyn Storages,
    budget: &mut Budget,
) -> Result<Built, Fault> {
    let mut views = HashMap::new();
    for object in &graph.objects {
        let view = match object {
            Object::View(view) => view,
            Object::Quantised(quantised) => &quantised.view,
            _ => continue,
        };
        // Two words and a text's place, and a table is at most 7/8 full after doubling.
        budget.charge(64, || "the views of a storage".to_owned())?;
        *views.entry(view.storage.key).or_insert(0) += 1;
    }
    let foreign = foreign::listed(&graph.names, budget)?;
    let mut builder = Builder { graph, storages, views, shared: HashMap::new(), expanded: (0, 0), budget };
    let value = builder.value(graph.root, 0)?;
    Ok(Built { value, foreign, expanded: builder.expanded })
}

struct Builder<'g, 'a> {
    graph: &'g Graph<'a>,
    storages: &'g mut dyn Storages,
    /// How many tensors each storage has: views, and mentions of one after the first.
    views: HashMap<&'a str, usize>,
    /// Storages of several tensors, kept once read.
    shared: HashMap<&'a str, Rc<Vec<u8>>>,
    /// How many quantised and sparse tensors were made ordinary.
    expanded: (usize, usize),
    /// A value that the pickle mentions twice is built twice, so that a short pickle could ask for a lot.
    budget: &'g mut Budget,
}

impl<'g, 'a> Builder<'g, 'a> {
    fn value(&mut self, item: Item, depth: usize) -> Result<Value, Fault> {
        if depth > MAX_DEPTH {
            let problem = format!("expected at most {MAX_DEPTH} containers within each other, got more");
            return Err(Fault::unsupported(problem));
        }
        match item {
            Item::None => return Ok(Value::None),
            Item::Bool(v) => return Ok(Value::Bool(v)),
            Item::Int(v) => return Ok(Value::Int(v)),
            Item::Float(v) => return Ok(Value::Float(v)),
            Item::Object(_) => {}
        }
        let graph = self.graph;
        let object = graph.object(item).ok_or_else(|| Fault::damaged("expected an object, got none"))?;
        Ok(match object {
            Object::Str(text) => {
                self.budget.charge(text.len() as u64, || "a text".to_owned())?;
                Value::Str(text.to_string())
            }
            Object::Bytes(bytes) => {
                self.budget.charge(bytes.len() as u64, || "bytes".to_owned())?;
                Value::Bytes(bytes.to_vec())
            }
            Object::BigInt(bytes) => {
                self.budget.charge(bytes.len() as u64, || "a number".to_owned())?;
                Value::BigInt(bytes.to_vec())
            }
            Object::List(items) => Value::List(self.items(items, depth)?),
            Object::Tuple(items) => Value::Tuple(self.items(items, depth)?),
            Object::Set(items) => {
                let items = self.items(items, depth)?;
                distinct_keys(items.iter(), "a set", self.budget)?;
                Value::Set(items)
            }
            Object::Dict { ordered, entries } => {
                let entries = self.entries(entries, depth)?;
                if *ordered { Value::OrderedDict(entries) } else { Value::Dict(entries) }
            }
            Object::View(view) => match dtype(view) {
                Ok(dtype) => self.tensor(view, dtype)?.into(),
                Err(other) => self.other_tensor(view, other)?,
            },
            Object::Quantised(quantised) => self.quantised(quantised, depth)?,
            Object::Sparse(sparse) => self.sparse(sparse, depth)?,
            Object::Opaque(opaque) => self.opaque(opaque)?,
            Object::Array(content) => match content {
                Some(content) => self.array(content)?.into(),
                None => return Err(Fault::damaged("expected a NumPy array, got one without content")),
            },
            Object::Global(Global::DType(name)) => {
                self.budget.charge(name.len() as u64, || "a type".to_owned())?;
                Value::DType((*name).to_owned())
            }
            Object::Device(name) => {
                self.budget.charge(name.len() as u64, || "a device".to_owned())?;
                Value::Device(name.clone())
            }
            Object::Storage(_) => self.words("a bare storage of a tensor".to_owned(), false, SAVE_TENSOR)?,
            Object::Global(Global::Foreign(name)) => {
                let what = format!("the class or function {}", foreign::spoken(graph, *name, None));
                self.words(what, false, "")?
            }
            Object::Global(_) => {
                self.words("a class or function of PyTorch or NumPy".to_owned(), false, "")?
            }
            Object::NumpyDType(_) => self.words("a NumPy type".to_owned(), false, "")?,
        })
    }

    fn items(&mut self, items: &[Item], depth: usize) -> Result<Vec<Value>, Fault> {
        self.budget.charge(size::<Value>(items.len()), || "a list".to_owned())?;
        let mut out = Vec::with_capacity(items.len());
        for (i, item) in items.iter().enumerate() {
            out.push(self.value(*item, depth + 1).map_err(|fault| fault.within(&format!("[{i}]")))?);
        }
        Ok(out)
    }

    fn entries(&mut self, entries: &[(Item, Item)], depth: usize) -> Result<Vec<(Value, Value)>, Fault> {
        self.budget.charge(size::<(Value, Value)>(entries.len()), || "a dictionary".to_owned())?;
        let mut out = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            let key = self.value(*key, depth + 1)?;
            let value = self.value(*value, depth + 1).map_err(|fault| fault.within(&place(&key)))?;
            out.push((key, value));
        }
        distinct_keys(out.iter().map(|(key, _)| key), "a dictionary", self.budget)?;
        Ok(out)
    }

    /// A value that is not made, in words.
    fn words(&mut self, what: String, is_tensor: bool, remedy: &str) -> Result<Value, Fault> {
        self.budget.charge(size::<Opaque>(1) + (what.len() + remedy.len()) as u64, || what.clone())?;
        Ok(Value::Opaque(Box::new(Opaque { what, is_tensor, remedy: remedy.to_owned(), fields: Vec::new() })))
    }

    /// A tensor of an element type that [`DType`] has not.
    fn other_tensor(&mut self, view: &View<'a>, name: &str) -> Result<Value, Fault> {
        let (name, remedy) = match name.strip_suffix("Storage") {
            Some("ComplexDouble") => ("complex128", COMPLEX),
            Some("ComplexFloat") => ("complex64", COMPLEX),
            Some(_) => (name, "save it in Python after .dequantize()"),
            None if name.starts_with("complex") => (name, COMPLEX),
            None => (name, "save it in Python after .float()"),
        };
        let shape: Vec<String> = view.shape.iter().map(u64::to_string).collect();
        self.words(format!("a tensor of torch.{name} and shape [{}]", shape.join(", ")), true, remedy)
    }

    fn opaque(&mut self, opaque: &pickle::Opaque) -> Result<Value, Fault> {
        let graph = self.graph;
        let name = match &opaque.what {
            What::Tensor(what, remedy) => return self.words(what.clone(), true, remedy),
            What::Call(name) => *name,
        };
        let (what, is_tensor, remedy) = foreign::described(graph, name, opaque.arguments);
        let mut made = self.words(what, is_tensor, remedy)?;
        let fields = foreign::fields(graph, opaque);
        let memory: usize =
            fields.iter().map(|(name, value)| name.len() + value.as_str().map_or(0, str::len)).sum();
        let memory = memory as u64 + size::<(String, Value)>(2 * fields.len());
        self.budget.charge(memory, || "the fields of an object".to_owned())?;
        if let Value::Opaque(made) = &mut made {
            made.fields = fields;
        }
        Ok(made)
    }

    fn quantised(&mut self, quantised: &pickle::Quantised<'a>, depth: usize) -> Result<Value, Fault> {
        let pickle::Quantised { view, axis, in_floats, scales, zeros } = quantised;
        let stored = match view.storage.kind {
            StorageType::Other("QInt8Storage") => DType::I8,
            StorageType::Other("QUInt8Storage") => DType::U8,
            StorageType::Other("QInt32Storage") => DType::I32,
            StorageType::Other(name) => return self.other_tensor(view, name),
            _ => return Err(Fault::damaged("expected a quantised tensor's storage, got another")),
        };
        let scales = self.value(*scales, depth + 1)?;
        let zeros = self.value(*zeros, depth + 1)?;
        let axis = axis.and_then(|axis| usize::try_from(axis).ok());
        let how = Quantisation {
            axis,
            in_floats: *in_floats,
            scales: self.numbers(&scales)?,
            zeros: self.numbers(&zeros)?,
        };
        let raw = self.tensor(view, stored)?;
        let dense = expand::dequantise(&raw, &how, self.budget)?;
        self.budget.refund(raw.bytes.len() as u64 + size::<f64>(how.scales.len() + how.zeros.len()));
        self.expanded.0 += 1;
        Ok(dense.into())
    }

    /// Numbers, however they are kept.
    fn numbers(&mut self, value: &Value) -> Result<Vec<f64>, Fault> {
        let count = match value {
            Value::Tensor(t) => t.len(),
            Value::List(items) => items.len(),
            _ => 1,
        };
        self.budget.charge(size::<f64>(count), || "scales and zeros".to_owned())?;
        let numbers = match value {
            Value::Tensor(t) => Some(t.to_f64()),
            Value::List(items) => items.iter().map(Value::as_f64).collect(),
            number => number.as_f64().map(|number| vec![number]),
        };
        numbers.ok_or_else(|| {
            Fault::damaged("expected scales and zeros of a quantised tensor, got something else")
        })
    }

    fn sparse(&mut self, sparse: &pickle::Sparse<'a>, depth: usize) -> Result<Value, Fault> {
        let bad =
            || Fault::damaged("expected indices, values and shape of a sparse tensor, got something else");
        let parts = self.items(&sparse.parts, depth)?;
        let used: usize = parts.iter().filter_map(Value::as_tensor).map(|part| part.bytes.len()).sum();
        let shape = |shape: &Value| -> Option<Vec<usize>> {
            shape.items()?.iter().map(|n| usize::try_from(n.as_i64()?).ok()).collect()
        };
        let dense = match (sparse.layout, &parts[..]) {
            (_, parts) if parts.iter().any(|part| part.as_opaque().is_some()) => {
                let what = format!("a {} tensor of a type that this program has not", sparse.layout);
                return self.words(what, true, "save it in Python after .to_dense().float()");
            }
            ("sparse_coo", [Value::Tensor(indices), Value::Tensor(values), size, ..]) => {
                expand::from_coordinates(indices, values, &shape(size).ok_or_else(bad)?, self.budget)?
            }
            (layout, [Value::Tensor(bounds), Value::Tensor(others), Value::Tensor(values), size]) => {
                let size = shape(size).ok_or_else(bad)?;
                expand::from_compressed(layout, bounds, others, values, &size, self.budget)?
            }
            _ => return Err(bad()),
        };
        self.budget.refund(used as u64);
        self.expanded.1 += 1;
        Ok(dense.into())
    }

    fn tensor(&mut self, view: &View<'a>, dtype: DType) -> Result<TensorData, Fault> {
        let shape = self.shape(&view.shape)?;
        let spoken = || format!("a {dtype} tensor of shape {}", dims(&shape));
        let size = dtype.size() as u64;
        let Storage { kind, key, numel, window } = view.storage;
        let declared = match kind {
            StorageType::Untyped => Some(numel),
            _ => numel.checked_mul(size),
        };
        let stored = self.storages.size(key);
        if declared.is_none() || declared != stored {
            return Err(Fault::Damaged(format!(
                "{}: expected a storage '{}' of {numel} {}, got {}",
                spoken(),
                shown(key),
                if kind == StorageType::Untyped {
                    "bytes".to_owned()
                } else {
                    format!("elements of {size} bytes")
                },
                stored.map_or("none".to_owned(), |bytes| format!("{bytes} bytes"))
            )));
        }
        let stored = stored.unwrap_or(0);
        // What the view may use of the storage, in elements.
        let held = stored / size;
        let (first, count) = window.unwrap_or((0, held));
        let out_of_bounds = || {
            Fault::Damaged(format!(
                "{} at offset {} with strides {:?}: expected it to lie within its storage, got a storage of {count} \
                 elements",
                spoken(),
                view.offset,
                view.strides,
            ))
        };
        let limit = first.checked_add(count).filter(|&limit| limit <= held).ok_or_else(out_of_bounds)?;
        if shape.contains(&0) {
            return Ok(TensorData { dtype, shape, bytes: Vec::new().into() });
        }
        let bytes = view.shape.iter().try_fold(size, |n, &d| n.checked_mul(d)).ok_or_else(out_of_bounds)?;
        let offset = first.checked_add(view.offset).ok_or_else(out_of_bounds)?;
        let last = view
            .shape
            .iter()
            .zip(&view.strides)
            .try_fold(offset, |at, (&d, &stride)| at.checked_add(stride.checked_mul(d - 1)?));
        if last.is_none_or(|last| last >= limit) {
            return Err(out_of_bounds());
        }
        self.budget.charge(bytes, spoken)?;
        let strides = to_usize_saturating(&view.strides);
        let offset = usize::try_from(offset).map_err(|_| out_of_bounds())?;

        let tensors = self.views.entry(key).or_insert(0);
        let several = *tensors > 1;
        *tensors += 1;
        let mut bytes = if several {
            let storage = match self.shared.get(key) {
                Some(storage) => Rc::clone(storage),
                None => {
                    self.budget.charge(stored, || format!("the storage '{}'", shown(key)))?;
                    let storage = Rc::new(self.storages.bytes(key)?);
                    self.shared.insert(key, Rc::clone(&storage));
                    storage
                }
            };
            gather(&storage, dtype.size(), offset, &shape, &strides)
        } else if offset == 0 && stored == bytes && is_contiguous(&shape, &strides) {
            Some(self.storages.bytes(key)?)
        } else {
            self.budget.charge(stored, || format!("the storage '{}'", shown(key)))?;
            let gathered = gather(&self.storages.bytes(key)?, dtype.size(), offset, &shape, &strides);
            self.budget.refund(stored);
            gathered
        }
        .ok_or_else(out_of_bounds)?;
        if self.storages.is_big_endian() {
            swap(&mut bytes, dtype.size());
        }
        Ok(TensorData { dtype, shape, bytes: bytes.into() })
    }

    fn shape(&mut self, shape: &[u64]) -> Result<Vec<usize>, Fault> {
        self.budget.charge(size::<usize>(shape.len()), || "a shape".to_owned())?;
        let shape: Result<_, _> = shape.iter().map(|&n| usize::try_from(n)).collect();
        shape.map_err(|_| Fault::TooLarge("a tensor's dimension exceeds this machine's memory".to_owned()))
    }

    fn array(&mut self, array: &NumpyContent) -> Result<TensorData, Fault> {
        let NumpyContent { dtype, big_endian, fortran, .. } = *array;
        let shape = self.shape(&array.shape)?;
        let spoken = || format!("a NumPy array of shape {}", dims(&shape));
        let data = match self.graph.objects.get(array.data as usize) {
            Some(Object::Bytes(data)) => data.as_ref(),
            Some(Object::Str(data)) => data.as_bytes(),
            _ => return Err(Fault::Damaged(format!("{}: expected its bytes, got something else", spoken()))),
        };
        let expected = elements(&shape).and_then(|n| n.checked_mul(dtype.size()));
        if expected != Some(data.len()) {
            let expected = expected.map_or("more".to_owned(), |n| n.to_string());
            let problem = format!("{}: expected {expected} bytes, got {}", spoken(), data.len());
            return Err(Fault::Damaged(problem));
        }
        self.budget.charge(data.len() as u64, spoken)?;
        let mut bytes = if fortran && !data.is_empty() {
            let mut step = 1;
            let mut strides = Vec::new();
            for &d in &shape {
                strides.push(step);
                step *= d;
            }
            gather(data, dtype.size(), 0, &shape, &strides)
                .ok_or_else(|| Fault::Damaged(format!("{}: its bytes do not suffice", spoken())))?
        } else {
            data.to_vec()
        };
        if big_endian {
            swap(&mut bytes, dtype.size());
        }
        Ok(TensorData { dtype, shape, bytes: bytes.into() })
    }
}

/// Checks that keys can be hashed and are distinct, and pays for the table that this takes.
pub(crate) fn distinct_keys<'v>(
    keys: impl ExactSizeIterator<Item = &'v Value>,
    what: &str,
    budget: &mut Budget,
) -> Result<(), Fault> {
    // A table that is half full after doubling.
    let memory = size::<Key<'_>>(keys.len()).saturating_mul(3);
    budget.charge(memory, || format!("the keys of {what}"))?;
    check_keys(keys).map_err(|problem| Fault::damaged(format!("{what}: {problem}")))?;
    budget.refund(memory);
    Ok(())
}

/// A key as Python would index by it.
pub(crate) fn place(key: &Value) -> String {
    match key {
        Value::Str(key) => format!("['{}']", shown(key)),
        Value::Int(key) => format!("[{key}]"),
        other => format!("[{}]", other.describe()),
    }
}

/// The element type of a view, or its name where [`DType`] has not it.
fn dtype<'a>(view: &View<'a>) -> Result<DType, &'a str> {
    let name = match (view.storage.kind, view.dtype) {
        (StorageType::Of(dtype), None) => return Ok(dtype),
        (StorageType::Untyped, None) => return Ok(DType::U8),
        (StorageType::Of(_) | StorageType::Untyped, Some(name)) => name,
        (StorageType::Other(name), _) => name,
    };
    DType::ALL.into_iter().find(|dtype| dtype.name() == name).ok_or(name)
}

/// Strides of dimensions of size 1 can be anything and are not used.
fn to_usize_saturating(strides: &[u64]) -> Vec<usize> {
    strides.iter().map(|&n| usize::try_from(n).unwrap_or(usize::MAX)).collect()
}

fn is_contiguous(shape: &[usize], strides: &[usize]) -> bool {
    let mut step = 1;
    for (&d, &stride) in shape.iter().zip(strides).rev().filter(|(d, _)| **d != 1) {
        if stride != step {
            return false;
        }
        step *= d;
    }
    true
}

/// The elements of a view in row-major order; `None` if it leaves its storage. No dimension may be 0, and the
/// offset of the last element must have been compared with the storage.
fn gather(storage: &[u8], size: usize, offset: usize, shape: &[usize], strides: &[usize]) -> Option<Vec<u8>> {
    let count: usize = shape.iter().product();
    if is_contiguous(shape, strides) {
        let start = offset.checked_mul(size)?;
        return storage.get(start..start.checked_add(count.checked_mul(size)?)?).map(<[u8]>::to_vec);
    }
    let loops: Vec<_> = shape.iter().copied().zip(strides.iter().copied()).filter(|(d, _)| *d != 1).collect();
    let mut index = vec![0; loops.len()];
    let mut at = offset;
    let mut out = Vec::with_capacity(count.checked_mul(size)?);
    for _ in 0..count {
        let start = at.checked_mul(size)?;
        out.extend_from_slice(storage.get(start..start.checked_add(size)?)?);
        for (i, &(d, stride)) in index.iter_mut().zip(&loops).rev() {
            *i += 1;
            at += stride;
            if *i < d {
                break;
            }
            *i = 0;
            at -= d * stride;
        }
    }
    Some(out)
}

fn swap(bytes: &mut [u8], size: usize) {
    for element in bytes.chunks_exact_mut(size) {
        element.reverse();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_are_gathered_in_row_major_order() {
        let storage: Vec<u8> = (0..24).collect();
        assert_eq!(gather(&storage, 1, 4, &[2, 3], &[3, 1]).unwrap(), [4, 5, 6, 7, 8, 9]);
        assert_eq!(gather(&storage, 1, 1, &[3, 2], &[1, 4]).unwrap(), [1, 5, 2, 6, 3, 7]);
        assert_eq!(gather(&storage, 2, 3, &[2, 2], &[0, 1]).unwrap(), [6, 7, 8, 9, 6, 7, 8, 9]);
        assert_eq!(gather(&storage, 4, 5, &[1, 1], &[usize::MAX, 0]).unwrap(), [20, 21, 22, 23]);
        assert_eq!(gather(&storage, 4, 5, &[2], &[1]), None);
        assert_eq!(gather(&storage, 4, 5, &[2], &[2]), None);
    }
}
