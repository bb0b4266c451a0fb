//! From the graph that a pickle describes to a [`Value`], with the tensors' bytes filled in.

use std::collections::HashMap;
use std::rc::Rc;

use escape_data::shown;

use super::archive::{Archive, EXPANSION};
use super::error::{Fault, dims};
use super::pickle::{self, Global, Graph, Item, NumpyContent, Object, Storage, StorageType, View};
use super::value::{DType, TensorData, Value, check_keys, elements};

/// Deepest nesting of containers, read or written; checkpoints need about five.
pub(super) const MAX_DEPTH: usize = 100;
/// What tensors and texts may take beyond [`EXPANSION`] times the file's size, in bytes.
const SLACK: u64 = 16 << 20;

/// Most values in all containers together, each counted as often as it is mentioned.
const MAX_VALUES: usize = 1 << 22;

/// The value in an archive.
pub(super) fn load(archive: &mut Archive) -> Result<Value, Fault> {
    let bytes = archive.pickle()?;
    let big_endian = archive.is_big_endian()?;
    let graph = pickle::run(&bytes)?;
    let limit = archive.length().saturating_mul(EXPANSION).saturating_add(SLACK);
    let mut views = HashMap::new();
    for object in &graph.objects {
        if let Object::View(view) = object {
            *views.entry(view.storage.key).or_insert(0) += 1;
        }
    }
    let mut builder = Builder {
        graph: &graph,
        archive,
        big_endian,
        views,
        shared: HashMap::new(),
        values_left: MAX_VALUES,
        bytes_left: limit,
        limit,
    };
    builder.value(graph.root, 0)
}

struct Builder<'g, 'a> {
    graph: &'g Graph<'a>,
    archive: &'g mut Archive,
    big_endian: bool,
    /// How many views each storage has.
    views: HashMap<&'a str, usize>,
    /// Storages of several views, kept once read.
    shared: HashMap<&'a str, Rc<Vec<u8>>>,
    /// A value that the pickle mentions twice is built twice, so that a short pickle could ask for a lot.
    values_left: usize,
    /// What tensors and texts may still take.
    bytes_left: u64,
    limit: u64,
}

impl<'g, 'a> Builder<'g, 'a> {
    fn value(&mut self, item: Item, depth: usize) -> Result<Value, Fault> {
        if depth > MAX_DEPTH {
            let problem = format!("expected at most {MAX_DEPTH} containers within each other, got more");
            return Err(Fault::unsupported(problem));
        }
        self.values_left = self.values_left.checked_sub(1).ok_or_else(|| {
            Fault::TooLarge(format!("expected at most {MAX_VALUES} values in containers, got more"))
        })?;
        let index = match item {
            Item::None => return Ok(Value::None),
            Item::Bool(v) => return Ok(Value::Bool(v)),
            Item::Int(v) => return Ok(Value::Int(v)),
            Item::Float(v) => return Ok(Value::Float(v)),
            Item::Object(index) => index,
        };
        let graph = self.graph;
        let object = graph
            .objects
            .get(index as usize)
            .ok_or_else(|| Fault::damaged("expected an object, got none"))?;
        Ok(match object {
            Object::Str(text) => {
                self.charge(text.len() as u64, || "a text".to_owned())?;
                Value::Str(text.to_string())
            }
            Object::Bytes(bytes) => {
                self.charge(bytes.len() as u64, || "bytes".to_owned())?;
                Value::Bytes(bytes.to_vec())
            }
            Object::BigInt(bytes) => Value::BigInt(bytes.to_vec()),
            Object::List(items) => Value::List(self.items(items, depth)?),
            Object::Tuple(items) => Value::Tuple(self.items(items, depth)?),
            Object::Set(items) => {
                let items = self.items(items, depth)?;
                check_keys(items.iter()).map_err(|problem| Fault::damaged(format!("a set: {problem}")))?;
                Value::Set(items)
            }
            Object::Dict { ordered, entries } => {
                let entries = self.entries(entries, depth)?;
                if *ordered { Value::OrderedDict(entries) } else { Value::Dict(entries) }
            }
            Object::View(view) => Value::Tensor(self.tensor(view)?),
            Object::Array(content) => match content {
                Some(content) => Value::Tensor(self.array(content)?),
                None => return Err(Fault::damaged("expected a NumPy array, got one without content")),
            },
            Object::Global(Global::DType(name)) => Value::DType((*name).to_owned()),
            Object::Device(name) => {
                self.charge(name.len() as u64, || "a device".to_owned())?;
                Value::Device(name.clone())
            }
            Object::Storage(_) => {
                return Err(Fault::unsupported(
                    "expected a tensor, got a bare storage; save the tensor instead",
                ));
            }
            Object::Global(_) | Object::NumpyDType(_) => {
                return Err(Fault::unsupported(
                    "expected a value, got a type or function; save a state dict instead",
                ));
            }
        })
    }

    fn items(&mut self, items: &[Item], depth: usize) -> Result<Vec<Value>, Fault> {
        let mut out = Vec::new();
        for (i, item) in items.iter().enumerate() {
            out.push(self.value(*item, depth + 1).map_err(|fault| fault.within(&format!("[{i}]")))?);
        }
        Ok(out)
    }

    fn entries(&mut self, entries: &[(Item, Item)], depth: usize) -> Result<Vec<(Value, Value)>, Fault> {
        let mut out = Vec::new();
        for (key, value) in entries {
            let key = self.value(*key, depth + 1)?;
            let value = self.value(*value, depth + 1).map_err(|fault| fault.within(&place(&key)))?;
            out.push((key, value));
        }
        check_keys(out.iter().map(|(key, _)| key))
            .map_err(|problem| Fault::damaged(format!("a dictionary: {problem}")))?;
        Ok(out)
    }

    fn charge(&mut self, bytes: u64, what: impl Fn() -> String) -> Result<(), Fault> {
        match self.bytes_left.checked_sub(bytes) {
            Some(left) => {
                self.bytes_left = left;
                Ok(())
            }
            None => Err(Fault::TooLarge(format!(
                "with {} of {bytes} bytes its content takes more than {} bytes, which is {EXPANSION} times the \
                 file's size and some",
                what(),
                self.limit
            ))),
        }
    }

    fn tensor(&mut self, view: &View<'a>) -> Result<TensorData, Fault> {
        let dtype = dtype(view)?;
        let shape = to_usize(&view.shape)?;
        let spoken = || format!("a {dtype} tensor of shape {}", dims(&shape));
        let size = dtype.size() as u64;
        let Storage { kind, key, numel } = view.storage;
        let declared = match kind {
            StorageType::Untyped => Some(numel),
            _ => numel.checked_mul(size),
        };
        let stored = self.archive.storage_size(key);
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
        let out_of_bounds = || {
            Fault::Damaged(format!(
                "{} at offset {} with strides {:?}: expected it to lie within its storage, got a storage of {} \
                 elements",
                spoken(),
                view.offset,
                view.strides,
                stored.unwrap_or(0) / size
            ))
        };
        if shape.contains(&0) {
            return Ok(TensorData { dtype, shape, bytes: Vec::new() });
        }
        let bytes = view.shape.iter().try_fold(size, |n, &d| n.checked_mul(d)).ok_or_else(out_of_bounds)?;
        let last = view
            .shape
            .iter()
            .zip(&view.strides)
            .try_fold(view.offset, |at, (&d, &stride)| at.checked_add(stride.checked_mul(d - 1)?));
        let end = last.and_then(|last| last.checked_add(1)?.checked_mul(size));
        if end.is_none_or(|end| end > stored.unwrap_or(0)) {
            return Err(out_of_bounds());
        }
        self.charge(bytes, spoken)?;
        let strides = to_usize_saturating(&view.strides);
        let offset = usize::try_from(view.offset).map_err(|_| out_of_bounds())?;

        let mut bytes = if self.views.get(key).is_some_and(|&n| n > 1) {
            let storage = match self.shared.get(key) {
                Some(storage) => Rc::clone(storage),
                None => {
                    let storage = Rc::new(self.archive.storage(key)?);
                    self.shared.insert(key, Rc::clone(&storage));
                    storage
                }
            };
            gather(&storage, dtype.size(), offset, &shape, &strides)
        } else {
            let storage = self.archive.storage(key)?;
            if offset == 0 && storage.len() as u64 == bytes && is_contiguous(&shape, &strides) {
                Some(storage)
            } else {
                gather(&storage, dtype.size(), offset, &shape, &strides)
            }
        }
        .ok_or_else(out_of_bounds)?;
        if self.big_endian {
            swap(&mut bytes, dtype.size());
        }
        Ok(TensorData { dtype, shape, bytes })
    }

    fn array(&mut self, array: &NumpyContent) -> Result<TensorData, Fault> {
        let NumpyContent { dtype, big_endian, fortran, .. } = *array;
        let shape = to_usize(&array.shape)?;
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
        self.charge(data.len() as u64, spoken)?;
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
        Ok(TensorData { dtype, shape, bytes })
    }
}

/// A key as Python would index by it.
pub(super) fn place(key: &Value) -> String {
    match key {
        Value::Str(key) => format!("['{}']", shown(key)),
        Value::Int(key) => format!("[{key}]"),
        other => format!("[{}]", other.describe()),
    }
}

fn dtype(view: &View<'_>) -> Result<DType, Fault> {
    let name = match (view.storage.kind, view.dtype) {
        (StorageType::Of(dtype), None) => return Ok(dtype),
        (StorageType::Untyped, None) => return Ok(DType::U8),
        (StorageType::Of(_) | StorageType::Untyped, Some(name)) => name,
        (StorageType::Other(name), _) => name,
    };
    DType::ALL.into_iter().find(|dtype| dtype.name() == name).ok_or_else(|| {
        let known: Vec<_> = DType::ALL.iter().map(|dtype| dtype.name()).collect();
        Fault::Unsupported(format!(
            "expected a tensor of type {}, got one of torch.{name}; convert it before saving",
            known.join(", ")
        ))
    })
}

fn to_usize(shape: &[u64]) -> Result<Vec<usize>, Fault> {
    let shape: Result<_, _> = shape.iter().map(|&n| usize::try_from(n)).collect();
    shape.map_err(|_| Fault::TooLarge("a tensor's dimension exceeds this machine's memory".to_owned()))
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
