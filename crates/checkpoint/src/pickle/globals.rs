//! What the names mean that a pickle may import: conversions of plain data in place of calls.
//!
//! Names and their arguments: `torch/_utils.py`, `torch/_weights_only_unpickler.py` (PyTorch 2.11),
//! `numpy/_core/multiarray.py` (NumPy 2.4).

use std::borrow::Cow;

use escape_files::text::shown;

use super::super::budget::size;
use super::super::dtype::DType;
use super::super::error::Fault;
use super::super::value::TensorData;
use super::{
    Global, Item, MAX_DIMS, Machine, Name, NumpyContent, NumpyDType, Object, Opaque, Quantised, Sparse,
    Storage, StorageType, View, What, is_dtype, object,
};

impl<'a> Machine<'a, '_> {
    pub(super) fn import(&mut self, module: &'a str, name: &'a str) -> Result<(), Fault> {
        let global = match lookup(module, name) {
            Some(global) => global,
            None => {
                let number = u32::try_from(self.names.len()).unwrap_or(u32::MAX);
                self.budget.push(
                    &mut self.names,
                    Name { module, name, called: false },
                    "the names of a pickle",
                )?;
                Global::Foreign(number)
            }
        };
        self.push(Object::Global(global))
    }

    /// Puts on the stack what a call gives: plain data for a name on the list, for any other nothing but the mention
    /// that it was called.
    pub(super) fn apply(&mut self, function: Item, arguments: Item) -> Result<(), Fault> {
        let what = match self.object(function) {
            Some(&Object::Global(Global::Foreign(name))) => What::Call(name),
            // What a call would give can be called in turn.
            Some(Object::Opaque(opaque)) => opaque.what.clone(),
            Some(&Object::Global(function)) => {
                let Some(Object::Tuple(arguments)) = self.object(arguments) else {
                    return Err(self.damaged("expected a tuple of arguments, got something else"));
                };
                // Copied, because a call may add objects. The longest rightful argument list has 8 items.
                if arguments.len() > MAX_DIMS {
                    return Err(bad_call(self.part, self.opcode_at, function));
                }
                let arguments = arguments.clone();
                let result = self.call(function, &arguments)?;
                return self.push_item(result);
            }
            _ => return Err(self.damaged("expected an imported name to call, got something else")),
        };
        let result = self.opaque(what, arguments)?;
        self.push_item(result)
    }

    /// Notes what is not made.
    fn opaque(&mut self, what: What, arguments: Item) -> Result<Item, Fault> {
        if let What::Call(name) = what
            && let Some(name) = self.names.get_mut(name as usize)
        {
            name.called = true;
        }
        self.charge(size::<Opaque>(1))?;
        self.add(Object::Opaque(Box::new(Opaque { what, arguments, state: Item::None })))
    }

    /// Notes a tensor or array that cannot be read.
    fn unreadable(&mut self, what: What) -> Result<Item, Fault> {
        if let What::Tensor(words, _) = &what {
            self.charge(words.len() as u64)?;
        }
        self.opaque(what, Item::None)
    }

    /// The storage that a persistent id names: `('storage', type, key, location, numel)`; legacy files add `None`, or
    /// which part of it is meant.
    pub(super) fn storage(&self, id: Item) -> Result<Storage<'a>, Fault> {
        let storage = || {
            let Some(Object::Tuple(items)) = self.object(id) else { return None };
            let (tag, kind, key, numel, view) = match items[..] {
                [tag, kind, key, _location, numel] => (tag, kind, key, numel, Item::None),
                [tag, kind, key, _location, numel, view] => (tag, kind, key, numel, view),
                _ => return None,
            };
            let Some(&Object::Global(Global::Storage(kind))) = self.object(kind) else { return None };
            let window = match (view, self.object(view)) {
                (Item::None, _) => None,
                // (its own key, offset, size)
                (_, Some(Object::Tuple(view))) => match view[..] {
                    [_key, offset, size] => Some((as_u64(offset)?, as_u64(size)?)),
                    _ => return None,
                },
                _ => return None,
            };
            let (key, numel) = (self.as_borrowed_str(key)?, as_u64(numel)?);
            (self.as_str(tag) == Some("storage")).then_some(Storage { kind, key, numel, window })
        };
        storage().ok_or_else(|| {
            self.damaged(
                "expected a storage as ('storage', type, key, location, number of elements), got something else",
            )
        })
    }

    /// The class that a persistent id names: `('module', class, its file, its source)`.
    pub(super) fn module(&self, id: Item) -> Option<Item> {
        let Some(Object::Tuple(items)) = self.object(id) else { return None };
        let &[tag, class, _file, _source] = &items[..] else { return None };
        let is_class = matches!(self.object(class), Some(Object::Global(Global::Foreign(_))));
        (is_class && self.as_str(tag) == Some("module")).then_some(class)
    }

    fn as_str(&self, item: Item) -> Option<&str> {
        match self.object(item) {
            Some(Object::Str(text)) => Some(text),
            _ => None,
        }
    }

    /// Text that stands in the pickle itself, which is all but the decoded kind.
    pub(super) fn as_borrowed_str(&self, item: Item) -> Option<&'a str> {
        match self.object(item) {
            Some(&Object::Str(Cow::Borrowed(text))) => Some(text),
            _ => None,
        }
    }

    /// The name of a device, which is short.
    fn as_device(&self, item: Item) -> Option<&str> {
        self.as_str(item).filter(|name| name.len() <= 64)
    }

    fn as_bytes(&self, item: Item) -> Option<&[u8]> {
        match self.object(item) {
            Some(Object::Bytes(bytes)) => Some(bytes),
            // Python 2 has no other bytes than these.
            Some(Object::Str(text)) => Some(text.as_bytes()),
            _ => None,
        }
    }

    /// Sizes or strides: whole numbers, not negative, at most [`MAX_DIMS`] of them.
    fn as_dims(&self, item: Item) -> Option<Vec<u64>> {
        match self.object(item) {
            Some(Object::Tuple(items) | Object::List(items)) if items.len() <= MAX_DIMS => {
                items.iter().map(|&item| as_u64(item)).collect()
            }
            _ => None,
        }
    }

    /// What Python would get from calling `function`.
    pub(super) fn call(&mut self, function: Global<'a>, arguments: &[Item]) -> Result<Item, Fault> {
        // Worded only when needed, and without a hold on the machine.
        let (part, at) = (self.part, self.opcode_at);
        let bad = move || bad_call(part, at, function);
        match (function, arguments) {
            (Global::OrderedDict, []) => self.add(Object::Dict { ordered: true, entries: Vec::new() }),
            // Python 2 passes the entries as a list of pairs.
            (Global::OrderedDict, &[pairs]) => {
                let Some(Object::List(pairs)) = object(&self.objects, pairs) else { return Err(bad()) };
                self.budget.charge(size::<(Item, Item)>(pairs.len()), || "a dictionary".to_owned())?;
                let mut entries = Vec::with_capacity(pairs.len());
                for pair in pairs {
                    match object(&self.objects, *pair) {
                        Some(Object::List(pair) | Object::Tuple(pair)) => match pair[..] {
                            [key, value] => entries.push((key, value)),
                            _ => return Err(bad()),
                        },
                        _ => return Err(bad()),
                    }
                }
                self.add(Object::Dict { ordered: true, entries })
            }

            // Counts by what was counted, as learning rate schedules keep them.
            (Global::Counter, []) => self.add(Object::Dict { ordered: false, entries: Vec::new() }),
            (Global::Counter, &[counts]) => match self.object(counts) {
                Some(Object::Dict { .. }) => Ok(counts),
                _ => Err(bad()),
            },

            (Global::RebuildTensor, &[storage, offset, shape, strides]) => {
                self.view(storage, offset, shape, strides, None)
            }
            (Global::RebuildTensorV2, &[storage, offset, shape, strides, _gradient, _hooks]) => {
                self.view(storage, offset, shape, strides, None)
            }
            (Global::RebuildTensorV2, &[storage, offset, shape, strides, _gradient, _hooks, metadata]) => {
                match self.has_metadata(metadata) {
                    true => self.lazy_view(),
                    false => self.view(storage, offset, shape, strides, None),
                }
            }
            (Global::RebuildTensorV3, &[storage, offset, shape, strides, _gradient, _hooks, dtype]) => {
                self.view(storage, offset, shape, strides, Some(dtype))
            }
            (
                Global::RebuildTensorV3,
                &[storage, offset, shape, strides, _gradient, _hooks, dtype, metadata],
            ) => match self.has_metadata(metadata) {
                true => self.lazy_view(),
                false => self.view(storage, offset, shape, strides, Some(dtype)),
            },
            (Global::RebuildParameter, &[data, _gradient, _hooks])
            | (Global::RebuildParameter, &[data, _gradient, _hooks, _]) => match self.object(data) {
                Some(Object::View(_) | Object::Quantised(_) | Object::Sparse(_) | Object::Opaque(_)) => {
                    Ok(data)
                }
                _ => Err(bad()),
            },
            // A tensor or parameter with attributes, or one of another class: (function, type, arguments, attributes).
            (Global::RebuildFromType, &[function, kind, arguments, _state]) => {
                match (self.object(function), self.object(kind), self.object(arguments)) {
                    (Some(&Object::Global(Global::Foreign(name))), _, _) => {
                        self.opaque(What::Call(name), arguments)
                    }
                    (
                        Some(&Object::Global(function)),
                        Some(Object::Global(Global::TensorType | Global::Foreign(_))),
                        Some(Object::Tuple(arguments)),
                    ) if function != Global::RebuildFromType && arguments.len() <= MAX_DIMS => {
                        let arguments = arguments.clone();
                        self.call(function, &arguments)
                    }
                    _ => Err(bad()),
                }
            }

            (Global::RebuildQuantised, &[storage, offset, shape, strides, quantiser, _gradient, _hooks]) => {
                let view = self.view(storage, offset, shape, strides, None)?;
                self.quantised(view, quantiser)
            }
            (Global::GetLayout, &[name]) => {
                let name = self.as_borrowed_str(name).and_then(|name| layout(name.strip_prefix("torch.")?));
                self.add(Object::Global(name.ok_or_else(bad)?))
            }
            (Global::RebuildSparse, &[kind, parts]) => match (self.object(kind), self.object(parts)) {
                (Some(&Object::Global(Global::Layout(layout))), Some(Object::Tuple(parts)))
                    if (3..=4).contains(&parts.len()) =>
                {
                    let parts = parts.clone();
                    self.charge(size::<Sparse<'_>>(1) + size::<Item>(parts.len()))?;
                    self.add(Object::Sparse(Box::new(Sparse { layout, parts })))
                }
                _ => Err(bad()),
            },
            (Global::RebuildMeta, &[_type, shape, _strides, _gradient]) => {
                let shape = self.as_dims(shape).ok_or_else(bad)?;
                let shape: Vec<String> = shape.iter().map(u64::to_string).collect();
                let what = format!("a meta tensor of shape [{}], which has no values", shape.join(", "));
                self.unreadable(What::Tensor(
                    what,
                    "load the real weights into the model in Python and save those: torch.save(model.state_dict(), \
                     'weights.pth')",
                ))
            }
            // From accelerators without storages of their own: (tensor or array, type, device, gradient).
            (Global::RebuildFromDevice, &[data, _type, _device, _gradient]) => match self.object(data) {
                Some(Object::View(_) | Object::Array(_)) => Ok(data),
                _ => Err(bad()),
            },

            (Global::Size, &[sizes]) => match self.object(sizes) {
                Some(Object::Tuple(_)) => Ok(sizes),
                _ => Err(bad()),
            },
            (Global::Device, &[kind]) => {
                let device = self.as_device(kind).ok_or_else(bad)?.to_owned();
                self.charge(device.len() as u64)?;
                self.add(Object::Device(device))
            }
            (Global::Device, &[kind, Item::Int(index)]) => {
                let device = format!("{}:{index}", self.as_device(kind).ok_or_else(bad)?);
                self.charge(device.len() as u64)?;
                self.add(Object::Device(device))
            }

            (Global::NumpyDType, &[code, ..]) => {
                let code = self.as_borrowed_str(code).ok_or_else(bad)?;
                self.add(Object::NumpyDType(NumpyDType { code, big_endian: false }))
            }
            (Global::NumpyScalar, &[dtype, data]) => {
                let dtype = self.numpy_dtype(dtype)?;
                if element(dtype).is_none() {
                    return self.unreadable(numpy_other("number", dtype));
                }
                let bytes = self.as_bytes(data).ok_or_else(bad)?;
                self.numpy_scalar(dtype, bytes)
            }
            (Global::NumpyReconstruct, &[kind, _shape, _code]) => match self.object(kind) {
                Some(Object::Global(Global::NumpyArrayType)) => self.add(Object::Array(None)),
                Some(&Object::Global(Global::Foreign(name))) => self.opaque(What::Call(name), Item::None),
                _ => Err(bad()),
            },
            (Global::NumpyFromBuffer, &[data, dtype, shape, order]) => {
                let fortran = self.as_str(order) == Some("F");
                let kind = self.numpy_dtype(dtype)?;
                if element(kind).is_none() {
                    return self.unreadable(numpy_other("array", kind));
                }
                let content = self.numpy_content(shape, dtype, fortran, data)?;
                self.add(Object::Array(Some(Box::new(content))))
            }

            // Before protocol 3 bytes travel as text, each character a byte.
            (Global::Encode, &[text, encoding]) => {
                let (Some(Object::Str(text)), Some("latin1" | "latin-1")) =
                    (object(&self.objects, text), self.as_str(encoding))
                else {
                    return Err(bad());
                };
                // A text has at least as many bytes as characters.
                self.budget.charge(text.len() as u64, || "bytes".to_owned())?;
                let mut bytes = Vec::with_capacity(text.len());
                for c in text.chars() {
                    let Ok(byte) = u8::try_from(c) else { return Err(bad()) };
                    bytes.push(byte);
                }
                self.add(Object::Bytes(bytes.into()))
            }
            (Global::Bytes | Global::ByteArray, []) => self.add(Object::Bytes(Cow::Borrowed(&[]))),
            (Global::ByteArray, &[data]) => match self.object(data) {
                Some(Object::Bytes(_)) => Ok(data),
                _ => Err(bad()),
            },
            (Global::Set, []) => self.add(Object::Set(Vec::new())),
            (Global::Set, &[items]) => {
                let Some(Object::List(items)) = object(&self.objects, items) else { return Err(bad()) };
                self.budget.charge(size::<Item>(items.len()), || "a set".to_owned())?;
                let items = items.clone();
                self.add(Object::Set(items))
            }
            _ => Err(bad()),
        }
    }

    fn view(
        &mut self,
        storage: Item,
        offset: Item,
        shape: Item,
        strides: Item,
        dtype: Option<Item>,
    ) -> Result<Item, Fault> {
        let Some(Object::Storage(storage)) = self.object(storage) else {
            return Err(self.damaged("expected the storage of a tensor, got something else"));
        };
        let storage = **storage;
        let dtype = match dtype.map(|item| self.object(item)) {
            None => None,
            Some(Some(&Object::Global(Global::DType(name)))) => Some(name),
            Some(_) => return Err(self.damaged("expected the type of a tensor, got something else")),
        };
        match (as_u64(offset), self.as_dims(shape), self.as_dims(strides)) {
            (Some(offset), Some(shape), Some(strides)) if shape.len() == strides.len() => {
                self.charge(size::<View<'_>>(1) + size::<u64>(2 * shape.len()))?;
                self.add(Object::View(Box::new(View { storage, dtype, offset, shape, strides })))
            }
            _ => Err(self.damaged(
                "expected offset, sizes and strides of a tensor, as many sizes as strides, at most 64 and none \
                 negative, got something else",
            )),
        }
    }

    /// Metadata tell that a view is conjugate or negated, which its bytes do not show.
    fn has_metadata(&self, metadata: Item) -> bool {
        match (metadata, self.object(metadata)) {
            (Item::None, _) => false,
            (_, Some(Object::Dict { entries, .. })) => !entries.is_empty(),
            _ => true,
        }
    }

    fn lazy_view(&mut self) -> Result<Item, Fault> {
        self.unreadable(What::Tensor(
            "a conjugate or negative view of a tensor".to_owned(),
            "save it in Python after .resolve_conj().resolve_neg()",
        ))
    }

    /// A quantised tensor: (scheme, factor, zero), or (scheme, factors, zeros, dimension).
    fn quantised(&mut self, view: Item, quantiser: Item) -> Result<Item, Fault> {
        let bad = self.damaged("expected how a tensor is quantised, got something else");
        let (Some(Object::View(view)), Some(Object::Tuple(quantiser))) =
            (self.object(view), self.object(quantiser))
        else {
            return Err(bad);
        };
        let scheme = quantiser.first().and_then(|&scheme| self.object(scheme));
        let Some(&Object::Global(Global::QuantisedAs(scheme))) = scheme else { return Err(bad) };
        let (in_floats, axis, scales, zeros) = match (scheme, &quantiser[..]) {
            ("per_tensor_affine", &[_, scale, zero]) => (false, None, scale, zero),
            ("per_channel_affine", &[_, scales, zeros, Item::Int(axis)]) => {
                (false, Some(axis), scales, zeros)
            }
            ("per_channel_affine_float_qparams", &[_, scales, zeros, Item::Int(axis)]) => {
                (true, Some(axis), scales, zeros)
            }
            _ => return Err(bad),
        };
        let axis = match axis.map(u64::try_from) {
            None => None,
            Some(Ok(axis)) if (axis as usize) < view.shape.len() => Some(axis),
            Some(_) => return Err(bad),
        };
        let view = View::clone(view);
        self.charge(size::<Quantised<'_>>(1) + size::<u64>(2 * view.shape.len()))?;
        self.add(Object::Quantised(Box::new(Quantised { view, axis, in_floats, scales, zeros })))
    }

    fn numpy_dtype(&self, item: Item) -> Result<NumpyDType<'a>, Fault> {
        match self.object(item) {
            Some(Object::NumpyDType(dtype)) => Ok(*dtype),
            _ => Err(self.damaged("expected a NumPy type, got something else")),
        }
    }

    fn numpy_scalar(&self, dtype: NumpyDType<'a>, bytes: &[u8]) -> Result<Item, Fault> {
        let element = self.element(dtype)?;
        if bytes.len() != element.size() {
            let problem = format!("a NumPy number: expected {} bytes, got {}", element.size(), bytes.len());
            return Err(self.damaged(&problem));
        }
        let mut bytes = bytes.to_vec(); // eight at most
        if dtype.big_endian {
            bytes.reverse();
        }
        let scalar = TensorData { dtype: element, shape: Vec::new(), bytes: bytes.into() };
        let item = match (element, scalar.to_i64()) {
            (DType::Bool, Some(v)) => v.first().map(|&v| Item::Bool(v != 0)),
            (_, Some(v)) => v.first().map(|&v| Item::Int(v)),
            (DType::U64, None) => return Err(self.unsupported("a NumPy number of 2^63 or more".to_owned())),
            (_, None) => scalar.to_f64().first().map(|&v| Item::Float(v)),
        };
        item.ok_or_else(|| self.damaged("expected a NumPy number, got no bytes"))
    }

    fn element(&self, dtype: NumpyDType<'a>) -> Result<DType, Fault> {
        element(dtype).ok_or_else(|| self.damaged("expected numbers, got another NumPy type"))
    }

    fn numpy_content(
        &mut self,
        shape: Item,
        dtype: Item,
        fortran: bool,
        data: Item,
    ) -> Result<NumpyContent, Fault> {
        let dtype = self.numpy_dtype(dtype)?;
        let element = self.element(dtype)?;
        match (self.as_dims(shape), self.as_bytes(data), data) {
            (Some(shape), Some(_), Item::Object(data)) => {
                self.charge(size::<NumpyContent>(1) + size::<u64>(shape.len()))?;
                Ok(NumpyContent { dtype: element, big_endian: dtype.big_endian, shape, fortran, data })
            }
            _ => Err(self.damaged("expected shape and bytes of a NumPy array, got something else")),
        }
    }

    /// Sets the state of the object on top of the stack.
    pub(super) fn build(&mut self) -> Result<(), Fault> {
        let state = self.pop()?;
        let target = self.top()?;
        if let Some(Object::Opaque(opaque)) = self.top_object() {
            opaque.state = state;
            return Ok(());
        }
        let bad = self.damaged("expected an object and its state, got something else");
        let changed = match (self.object(target), self.object(state)) {
            // Attributes, such as the versions of the modules in `_metadata`; not data of the dictionary.
            (Some(Object::Dict { .. } | Object::List(_)), Some(Object::Dict { .. } | Object::Tuple(_))) => {
                return Ok(());
            }
            // (version, byte order, ...)
            (Some(Object::NumpyDType(dtype)), Some(Object::Tuple(state))) => match state[..] {
                [_, order, ..] => {
                    let big_endian = match self.as_str(order) {
                        Some(">") => true,
                        Some("<" | "|" | "=") => false,
                        _ => return Err(bad),
                    };
                    Object::NumpyDType(NumpyDType { big_endian, ..*dtype })
                }
                _ => return Err(bad),
            },
            // (version, shape, type, order is Fortran's, bytes)
            (Some(Object::Array(_)), Some(Object::Tuple(state))) => match state[..] {
                [_, shape, dtype, Item::Bool(fortran), data] => {
                    let kind = self.numpy_dtype(dtype)?;
                    if element(kind).is_none() {
                        // Its items, objects say, are not looked at.
                        let what = numpy_other("array", kind);
                        self.charge(size::<Opaque>(1) + size::<u8>(NUMPY_WORDS))?;
                        Object::Opaque(Box::new(Opaque { what, arguments: Item::None, state: Item::None }))
                    } else {
                        let content = self.numpy_content(shape, dtype, fortran, data)?;
                        Object::Array(Some(Box::new(content)))
                    }
                }
                _ => return Err(bad),
            },
            _ => return Err(bad),
        };
        if let Some(object) = self.top_object() {
            *object = changed;
        }
        Ok(())
    }
}

/// A call that Python would not make sense of either.
pub(super) fn bad_call(part: &str, at: usize, function: Global<'_>) -> Fault {
    Fault::Damaged(format!("{part}, byte {at}: the arguments of {function:?} are not what it takes"))
}

/// A whole number that is not negative.
fn as_u64(item: Item) -> Option<u64> {
    match item {
        Item::Int(v) => u64::try_from(v).ok(),
        _ => None,
    }
}

/// A NumPy number or array that holds no numbers, or such as PyTorch has not.
fn numpy_other(what: &str, dtype: NumpyDType<'_>) -> What {
    let code: String = dtype.code.chars().take(40).collect();
    let what = format!("a NumPy {what} of type {}", shown(&code));
    What::Tensor(what, "convert it to a tensor or number in Python before saving")
}

/// Most bytes that [`numpy_other`] takes: each of forty characters can be shown as ten.
const NUMPY_WORDS: usize = 500;

/// The element type that a NumPy type is, if there is such a one.
fn element(dtype: NumpyDType<'_>) -> Option<DType> {
    Some(match dtype.code {
        "f8" => DType::F64,
        "f4" => DType::F32,
        "f2" => DType::F16,
        "i8" => DType::I64,
        "i4" => DType::I32,
        "i2" => DType::I16,
        "i1" => DType::I8,
        "u8" => DType::U64,
        "u4" => DType::U32,
        "u2" => DType::U16,
        "u1" => DType::U8,
        "b1" => DType::Bool,
        _ => return None,
    })
}

fn layout(name: &str) -> Option<Global<'_>> {
    const LAYOUTS: [&str; 6] =
        ["strided", "sparse_coo", "sparse_csr", "sparse_csc", "sparse_bsr", "sparse_bsc"];
    LAYOUTS.contains(&name).then_some(Global::Layout(name))
}

/// The meaning of a name, if it is on the list.
fn lookup<'a>(module: &'a str, name: &'a str) -> Option<Global<'a>> {
    Some(match (module, name) {
        ("collections", "OrderedDict") => Global::OrderedDict,
        ("collections", "Counter") => Global::Counter,
        ("torch._utils", "_rebuild_tensor") => Global::RebuildTensor,
        ("torch._utils", "_rebuild_tensor_v2") => Global::RebuildTensorV2,
        ("torch._utils", "_rebuild_tensor_v3") => Global::RebuildTensorV3,
        ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => Global::RebuildParameter,
        ("torch._tensor", "_rebuild_from_type_v2") => Global::RebuildFromType,
        ("torch", "Tensor") | ("torch.nn.parameter", "Parameter" | "Buffer") => Global::TensorType,
        ("torch._utils", "_rebuild_qtensor") => Global::RebuildQuantised,
        ("torch._utils", "_rebuild_sparse_tensor") => Global::RebuildSparse,
        ("torch._utils", "_rebuild_meta_tensor_no_storage") => Global::RebuildMeta,
        (
            "torch._utils",
            "_rebuild_device_tensor_from_numpy"
            | "_rebuild_device_tensor_from_cpu_tensor"
            | "_rebuild_xla_tensor",
        ) => Global::RebuildFromDevice,
        ("torch.serialization", "_get_layout") => Global::GetLayout,
        (
            "torch",
            scheme @ ("per_tensor_affine" | "per_channel_affine" | "per_channel_affine_float_qparams"),
        ) => Global::QuantisedAs(scheme),
        ("torch", "Size") => Global::Size,
        ("torch", "device") => Global::Device,
        ("torch.storage", "UntypedStorage" | "_UntypedStorage") => Global::Storage(StorageType::Untyped),
        ("torch" | "torch.cuda", storage) if storage.ends_with("Storage") => {
            Global::Storage(storage_type(storage)?)
        }
        ("torch", dtype) if is_dtype(dtype) => Global::DType(dtype),
        ("numpy.core.multiarray" | "numpy._core.multiarray", "scalar") => Global::NumpyScalar,
        ("numpy.core.multiarray" | "numpy._core.multiarray", "_reconstruct") => Global::NumpyReconstruct,
        ("numpy.core.numeric" | "numpy._core.numeric", "_frombuffer") => Global::NumpyFromBuffer,
        ("numpy", "dtype") => Global::NumpyDType,
        ("numpy", "ndarray") => Global::NumpyArrayType,
        ("_codecs", "encode") => Global::Encode,
        ("builtins" | "__builtin__", "set" | "frozenset") => Global::Set,
        ("builtins" | "__builtin__", "bytes") => Global::Bytes,
        ("builtins" | "__builtin__", "bytearray") => Global::ByteArray,
        _ => return None,
    })
}

fn storage_type(name: &str) -> Option<StorageType<'_>> {
    if let Some(dtype) = DType::ALL.into_iter().find(|dtype| dtype.storage() == Some(name)) {
        return Some(StorageType::Of(dtype));
    }
    match name {
        "UntypedStorage" => Some(StorageType::Untyped),
        "ComplexDoubleStorage"
        | "ComplexFloatStorage"
        | "QInt8Storage"
        | "QInt32Storage"
        | "QUInt8Storage"
        | "QUInt4x2Storage"
        | "QUInt2x4Storage" => Some(StorageType::Other(name)),
        _ => None,
    }
}
