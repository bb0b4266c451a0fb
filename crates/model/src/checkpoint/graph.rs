//! From the graph that a pickle describes to a [`Value`], with the tensors' bytes filled in.

use std::collections::HashMap;
use std::rc::Rc;

use escape_data::shown;

use super::budget::{Budget, size};
use super::error::{Fault, dims};
use super::pickle::{Global, Graph, Item, NumpyContent, Object, Storage, StorageType, View};
use super::value::{DType, Key, TensorData, Value, check_keys, elements};

/// Deepest nesting of containers, read or written; checkpoints need about five.
pub(super) const MAX_DEPTH: usize = 100;

/// The storages that a pickle's tensors are views of.
pub(super) trait Storages {
    /// Size of a storage in bytes, if there is one of this key.
    fn size(&self, key: &str) -> Option<u64>;

    /// The bytes of a storage, which the caller has paid for.
    fn bytes(&mut self, key: &str) -> Result<Vec<u8>, Fault>;

    /// Whether elements have their highest byte first.
    fn is_big_endian(&self) -> bool;
}

/// The value that a graph describes.
pub(super) fn build(
    graph: &Graph<'_>,
    storages: &mut dyn Storages,
    budget: &mut Budget,
) -> Result<Value, Fault> {
    let mut views = HashMap::new();
    for object in &graph.objects {
        if let Object::View(view) = object {
            // Two words and a text's place, and a table is at most 7/8 full after doubling.
            budget.charge(64, || "the views of a storage".to_owned())?;
            *views.entry(view.storage.key).or_insert(0) += 1;
        }
    }
    let mut builder = Builder { graph, storages, views, shared: HashMap::new(), budget };
    builder.value(graph.root, 0)
}

struct Builder<'g, 'a> {
    graph: &'g Graph<'a>,
    storages: &'g mut dyn Storages,
    /// How many tensors each storage has: views, and mentions of one after the first.
    views: HashMap<&'a str, usize>,
    /// Storages of several tensors, kept once read.
    shared: HashMap<&'a str, Rc<Vec<u8>>>,
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
            Object::View(view) => self.tensor(view)?.into(),
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

    fn tensor(&mut self, view: &View<'a>) -> Result<TensorData, Fault> {
        let dtype = dtype(view)?;
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
            return Ok(TensorData { dtype, shape, bytes: Vec::new() });
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
        Ok(TensorData { dtype, shape, bytes })
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
        Ok(TensorData { dtype, shape, bytes })
    }
}

/// Checks that keys can be hashed and are distinct, and pays for the table that this takes.
pub(super) fn distinct_keys<'v>(
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
