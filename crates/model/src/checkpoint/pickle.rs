//! The pickle machine: opcodes in, a graph of plain data out.
//!
//! The machine knows no Python. A name that a pickle imports becomes a [`Global`] if it is on the list, and a
//! "call" of one is a conversion of plain data written out below; anything else is a [`Fault::Refused`]. It reads
//! one pickle from a longer slice, because legacy files hold several in a row.
//!
//! Opcodes: CPython's `Lib/pickletools.py`, protocols 2 to 5. Names and their arguments: `torch/_utils.py`,
//! `torch/_weights_only_unpickler.py` (PyTorch 2.11), `numpy/_core/multiarray.py` (NumPy 2.4).

use std::borrow::Cow;
use std::collections::HashMap;

use super::error::{Fault, shown};
use super::value::DType;

/// A value on the machine's stack; whatever can be shared or changed later is an index into the objects.
#[derive(Debug, Clone, Copy)]
pub(super) enum Item {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Object(u32),
}

#[derive(Debug)]
pub(super) enum Object<'a> {
    Str(Cow<'a, str>),
    Bytes(Cow<'a, [u8]>),
    BigInt(&'a [u8]),
    List(Vec<Item>),
    Tuple(Vec<Item>),
    Set(Vec<Item>),
    Dict { ordered: bool, entries: Vec<(Item, Item)> },
    Global(Global<'a>),
    Storage(Storage<'a>),
    View(View<'a>),
    Array(NumpyArray),
    NumpyDType(NumpyDType<'a>),
    Device(String),
}

/// A name that may be imported.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Global<'a> {
    OrderedDict,
    RebuildTensor,
    RebuildTensorV2,
    RebuildTensorV3,
    RebuildParameter,
    RebuildFromType,
    TensorType,
    Storage(StorageType<'a>),
    DType(&'a str),
    Size,
    Device,
    NumpyScalar,
    NumpyReconstruct,
    NumpyFromBuffer,
    NumpyDType,
    NumpyArrayType,
    Encode,
    Set,
    Bytes,
    ByteArray,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum StorageType<'a> {
    Of(DType),
    /// Bytes, typed by whoever looks at them.
    Untyped,
    /// Known to PyTorch, but not to [`DType`].
    Other(&'a str),
}

/// What a persistent id stands for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Storage<'a> {
    pub(super) kind: StorageType<'a>,
    pub(super) key: &'a str,
    /// Elements, or bytes if untyped.
    pub(super) numel: u64,
}

/// A tensor as a pickle describes it; nothing compared with the storage yet.
#[derive(Debug, Clone)]
pub(super) struct View<'a> {
    pub(super) storage: Storage<'a>,
    /// The element type's name where the storage does not tell it.
    pub(super) dtype: Option<&'a str>,
    pub(super) offset: u64,
    pub(super) shape: Vec<u64>,
    pub(super) strides: Vec<u64>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct NumpyDType<'a> {
    /// Kind and size, such as `f8`.
    pub(super) code: &'a str,
    pub(super) big_endian: bool,
}

#[derive(Debug, Clone)]
pub(super) struct NumpyArray {
    /// `None` until the array's state arrives.
    pub(super) content: Option<NumpyContent>,
}

#[derive(Debug, Clone)]
pub(super) struct NumpyContent {
    pub(super) dtype: DType,
    pub(super) big_endian: bool,
    pub(super) shape: Vec<u64>,
    pub(super) fortran: bool,
    /// Index of the bytes.
    pub(super) data: u32,
}

/// The outcome of a pickle.
#[derive(Debug)]
pub(super) struct Graph<'a> {
    pub(super) objects: Vec<Object<'a>>,
    pub(super) root: Item,
}

/// Runs the pickle that starts at `start`; also returns where the next byte after it is.
pub(super) fn run(bytes: &[u8], start: usize) -> Result<(Graph<'_>, usize), Fault> {
    let mut machine = Machine {
        bytes,
        at: start,
        opcode_at: start,
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
        objects: Vec::new(),
        allowance: bytes.len().saturating_mul(4).saturating_add(1 << 16),
    };
    let root = machine.run()?;
    Ok((Graph { objects: machine.objects, root }, machine.at))
}

/// Most dimensions that a tensor may have, as in PyTorch.
const MAX_DIMS: usize = 64;

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Where the current opcode stands.
    opcode_at: usize,
    stack: Vec<Item>,
    /// Heights of the stack at each open mark.
    marks: Vec<usize>,
    memo: HashMap<u32, Item>,
    objects: Vec<Object<'a>>,
    /// Bytes or items that calls may still copy; without it a short pickle could copy one long text again and again.
    allowance: usize,
}

impl<'a> Machine<'a> {
    fn run(&mut self) -> Result<Item, Fault> {
        loop {
            self.opcode_at = self.at;
            let [opcode] = self.array()?;
            match opcode {
                b'.' => {
                    let root = self.pop()?;
                    if !self.stack.is_empty() || !self.marks.is_empty() {
                        return Err(self.damaged("expected one value at the end, got more on the stack"));
                    }
                    return Ok(root);
                }
                0x80 => match self.array()? {
                    [2..=5] => {}
                    [other] => {
                        return Err(self.unsupported(format!("expected a pickle of protocol 2 to 5, got {other}")));
                    }
                },
                // A frame only tells how much to read ahead.
                0x95 => drop(self.array::<8>()?),

                b'N' => self.stack.push(Item::None),
                0x88 => self.stack.push(Item::Bool(true)),
                0x89 => self.stack.push(Item::Bool(false)),
                b'K' => {
                    let [v] = self.array()?;
                    self.stack.push(Item::Int(v.into()));
                }
                b'M' => {
                    let v = u16::from_le_bytes(self.array()?);
                    self.stack.push(Item::Int(v.into()));
                }
                b'J' => {
                    let v = i32::from_le_bytes(self.array()?);
                    self.stack.push(Item::Int(v.into()));
                }
                0x8a => {
                    let n = self.length1()?;
                    self.long(n)?;
                }
                0x8b => {
                    let n = self.length4()?;
                    self.long(n)?;
                }
                b'G' => {
                    let v = f64::from_be_bytes(self.array()?);
                    self.stack.push(Item::Float(v));
                }

                0x8c => {
                    let n = self.length1()?;
                    self.text(n)?;
                }
                b'X' => {
                    let n = self.length4()?;
                    self.text(n)?;
                }
                0x8d => {
                    let n = self.length8()?;
                    self.text(n)?;
                }
                // Strings of Python 2: text if it is, else bytes.
                b'U' | b'T' => {
                    let n = if opcode == b'U' { self.length1()? } else { self.length4()? };
                    let bytes = self.take(n)?;
                    self.push(match std::str::from_utf8(bytes) {
                        Ok(text) => Object::Str(text.into()),
                        Err(_) => Object::Bytes(bytes.into()),
                    })?;
                }
                b'C' => {
                    let n = self.length1()?;
                    self.binary(n)?;
                }
                b'B' => {
                    let n = self.length4()?;
                    self.binary(n)?;
                }
                0x8e | 0x96 => {
                    let n = self.length8()?;
                    self.binary(n)?;
                }

                b'(' => self.marks.push(self.stack.len()),
                b'0' => {
                    // Python lets this opcode remove a mark, too; no pickler relies on it.
                    self.pop()?;
                }
                b'1' => drop(self.pop_mark()?),
                b'2' => {
                    let top = self.top()?;
                    self.stack.push(top);
                }

                b')' => self.push(Object::Tuple(Vec::new()))?,
                0x85..=0x87 => {
                    let mut items = Vec::new();
                    for _ in 0x84..opcode {
                        items.push(self.pop()?);
                    }
                    items.reverse();
                    self.push(Object::Tuple(items))?;
                }
                b't' => {
                    let items = self.pop_mark()?;
                    self.push(Object::Tuple(items))?;
                }
                b']' => self.push(Object::List(Vec::new()))?,
                b'l' => {
                    let items = self.pop_mark()?;
                    self.push(Object::List(items))?;
                }
                b'a' => {
                    let item = self.pop()?;
                    self.append(&[item])?;
                }
                b'e' => {
                    let items = self.pop_mark()?;
                    self.append(&items)?;
                }
                b'}' => self.push(Object::Dict { ordered: false, entries: Vec::new() })?,
                b'd' => {
                    let items = self.pop_mark()?;
                    self.push(Object::Dict { ordered: false, entries: Vec::new() })?;
                    self.set_items(&items)?;
                }
                b's' => {
                    let value = self.pop()?;
                    let key = self.pop()?;
                    self.set_items(&[key, value])?;
                }
                b'u' => {
                    let items = self.pop_mark()?;
                    self.set_items(&items)?;
                }
                0x8f => self.push(Object::Set(Vec::new()))?,
                0x90 => {
                    let items = self.pop_mark()?;
                    match self.top_object() {
                        Some(Object::Set(set)) => set.extend(items),
                        _ => return Err(self.damaged("expected a set to add to, got something else")),
                    }
                }
                0x91 => {
                    let items = self.pop_mark()?;
                    self.push(Object::Set(items))?;
                }

                b'q' => {
                    let [index] = self.array()?;
                    self.memoize(index.into())?;
                }
                b'r' => {
                    let index = u32::from_le_bytes(self.array()?);
                    self.memoize(index)?;
                }
                // At most one memo entry for each byte read, and a pickle has less than 2^32 of them.
                0x94 => self.memoize(self.memo.len() as u32)?,
                b'h' => {
                    let [index] = self.array()?;
                    self.recall(index.into())?;
                }
                b'j' => {
                    let index = u32::from_le_bytes(self.array()?);
                    self.recall(index)?;
                }

                b'c' => {
                    let module = self.line()?;
                    let name = self.line()?;
                    self.import(module, name)?;
                }
                0x93 => {
                    let name = self.pop()?;
                    let module = self.pop()?;
                    match (self.as_borrowed_str(module), self.as_borrowed_str(name)) {
                        (Some(module), Some(name)) => self.import(module, name)?,
                        _ => return Err(self.damaged("expected module and name as text, got something else")),
                    }
                }
                // Calls of a function, and of a class's constructor.
                b'R' | 0x81 => {
                    let arguments = self.pop()?;
                    let function = self.pop()?;
                    let Some(&Object::Global(function)) = self.object(function) else {
                        return Err(self.damaged("expected an imported name to call, got something else"));
                    };
                    let Some(Object::Tuple(arguments)) = self.object(arguments) else {
                        return Err(self.damaged("expected a tuple of arguments, got something else"));
                    };
                    // Copied, because a call may add objects. The longest rightful argument list has 8 items.
                    if arguments.len() > MAX_DIMS {
                        return Err(self.bad_call(function));
                    }
                    let arguments = arguments.clone();
                    let result = self.call(function, &arguments)?;
                    self.stack.push(result);
                }
                b'b' => self.build()?,
                b'Q' => {
                    let id = self.pop()?;
                    let storage = self.storage(id)?;
                    self.push(Object::Storage(storage))?;
                }

                b'i' => {
                    let module = self.line()?;
                    let name = self.line()?;
                    return Err(self.refused(module, name));
                }
                b'P' | b'o' | 0x92 | 0x82..=0x84 | 0x97 | 0x98 => {
                    return Err(self.unsupported(format!(
                        "the opcode 0x{opcode:02x} makes objects that are no plain data; save a state dict instead"
                    )));
                }
                b'I' | b'L' | b'F' | b'S' | b'V' | b'p' | b'g' => {
                    return Err(self.unsupported(
                        "the pickle is of protocol 0 or 1, expected 2 to 5; save it anew with torch.save".to_owned(),
                    ));
                }
                other => return Err(self.damaged(&format!("expected an opcode, got the byte 0x{other:02x}"))),
            }
        }
    }

    fn place(&self) -> String {
        format!("data.pkl, byte {}", self.opcode_at)
    }

    fn damaged(&self, problem: &str) -> Fault {
        Fault::Damaged(format!("{}: {problem}", self.place()))
    }

    fn unsupported(&self, problem: String) -> Fault {
        Fault::Unsupported(format!("{}: {problem}", self.place()))
    }

    fn refused(&self, module: &str, name: &str) -> Fault {
        Fault::Refused { global: format!("{}.{}", shown(module), shown(name)), position: self.opcode_at }
    }

    fn bad_call(&self, function: Global<'_>) -> Fault {
        self.damaged(&format!("the arguments of {function:?} are not what it takes"))
    }

    fn take(&mut self, n: usize) -> Result<&'a [u8], Fault> {
        let taken = self.at.checked_add(n).and_then(|end| self.bytes.get(self.at..end));
        let Some(taken) = taken else {
            let left = self.bytes.len().saturating_sub(self.at);
            return Err(self.damaged(&format!("the pickle is cut short: expected {n} more bytes, got {left}")));
        };
        self.at += n;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    fn length1(&mut self) -> Result<usize, Fault> {
        Ok(usize::from(u8::from_le_bytes(self.array()?)))
    }

    /// Lengths that do not fit are longer than the pickle, and [`Machine::take`] refuses them.
    fn length4(&mut self) -> Result<usize, Fault> {
        Ok(usize::try_from(u32::from_le_bytes(self.array()?)).unwrap_or(usize::MAX))
    }

    fn length8(&mut self) -> Result<usize, Fault> {
        Ok(usize::try_from(u64::from_le_bytes(self.array()?)).unwrap_or(usize::MAX))
    }

    /// Text up to a line feed.
    fn line(&mut self) -> Result<&'a str, Fault> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let Some(end) = rest.iter().position(|&b| b == b'\n') else {
            return Err(self.damaged("the pickle is cut short within a name"));
        };
        let line = self.take(end)?;
        self.take(1)?;
        std::str::from_utf8(line).map_err(|_| self.damaged("expected a name in UTF-8, got other bytes"))
    }

    fn text(&mut self, length: usize) -> Result<(), Fault> {
        let bytes = self.take(length)?;
        let text =
            std::str::from_utf8(bytes).map_err(|_| self.damaged("expected text in UTF-8, got other bytes"))?;
        self.push(Object::Str(text.into()))
    }

    fn binary(&mut self, length: usize) -> Result<(), Fault> {
        let bytes = self.take(length)?;
        self.push(Object::Bytes(bytes.into()))
    }

    /// A whole number of any length, two's complement.
    fn long(&mut self, length: usize) -> Result<(), Fault> {
        let bytes = self.take(length)?;
        let negative = bytes.last().is_some_and(|b| b & 0x80 != 0);
        let fill = if negative { 0xff } else { 0 };
        let (low, high) = bytes.split_at(bytes.len().min(8));
        let mut padded = [fill; 8];
        for (to, from) in padded.iter_mut().zip(low) {
            *to = *from;
        }
        let value = i64::from_le_bytes(padded);
        if high.iter().all(|&b| b == fill) && (value < 0) == negative {
            self.stack.push(Item::Int(value));
            return Ok(());
        }
        if length > 255 {
            return Err(self.unsupported(format!("expected a whole number of at most 255 bytes, got {length}")));
        }
        self.push(Object::BigInt(bytes))
    }

    fn push(&mut self, object: Object<'a>) -> Result<(), Fault> {
        let item = self.add(object)?;
        self.stack.push(item);
        Ok(())
    }

    fn add(&mut self, object: Object<'a>) -> Result<Item, Fault> {
        let index = u32::try_from(self.objects.len())
            .map_err(|_| Fault::TooLarge(format!("{}: more than 2^32 objects", self.place())))?;
        self.objects.push(object);
        Ok(Item::Object(index))
    }

    /// The top of the stack down to the last mark.
    fn pop(&mut self) -> Result<Item, Fault> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn top(&self) -> Result<Item, Fault> {
        let floor = self.marks.last().copied().unwrap_or(0);
        match self.stack.get(floor..) {
            Some([.., top]) => Ok(*top),
            _ => Err(self.damaged("expected a value on the stack, got none")),
        }
    }

    fn pop_mark(&mut self) -> Result<Vec<Item>, Fault> {
        match self.marks.pop() {
            // No mark lies above the stack, because `pop` stops at the last one.
            Some(height) => Ok(self.stack.split_off(height.min(self.stack.len()))),
            None => Err(self.damaged("expected a mark on the stack, got none")),
        }
    }

    fn object(&self, item: Item) -> Option<&Object<'a>> {
        match item {
            Item::Object(index) => self.objects.get(index as usize),
            _ => None,
        }
    }

    /// The object on top of the stack, to be changed.
    fn top_object(&mut self) -> Option<&mut Object<'a>> {
        match self.top() {
            Ok(Item::Object(index)) => self.objects.get_mut(index as usize),
            _ => None,
        }
    }

    fn append(&mut self, items: &[Item]) -> Result<(), Fault> {
        match self.top_object() {
            Some(Object::List(list)) => list.extend(items),
            _ => return Err(self.damaged("expected a list to append to, got something else")),
        }
        Ok(())
    }

    fn set_items(&mut self, items: &[Item]) -> Result<(), Fault> {
        let (pairs, rest) = items.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(self.damaged("expected keys and values in pairs, got a key without a value"));
        }
        match self.top_object() {
            Some(Object::Dict { entries, .. }) => entries.extend(pairs.iter().map(|&[key, value]| (key, value))),
            _ => return Err(self.damaged("expected a dictionary to set items of, got something else")),
        }
        Ok(())
    }

    fn memoize(&mut self, index: u32) -> Result<(), Fault> {
        let top = self.top()?;
        self.memo.insert(index, top);
        Ok(())
    }

    fn recall(&mut self, index: u32) -> Result<(), Fault> {
        let Some(&item) = self.memo.get(&index) else {
            return Err(self.damaged(&format!("expected something in memo {index}, got nothing")));
        };
        self.stack.push(item);
        Ok(())
    }

    /// Takes from the allowance for copies.
    fn charge(&mut self, bytes: usize) -> Result<(), Fault> {
        match self.allowance.checked_sub(bytes) {
            Some(left) => {
                self.allowance = left;
                Ok(())
            }
            None => {
                let size = self.bytes.len();
                let problem = format!("{}: its calls copy more than 4 times its {size} bytes", self.place());
                Err(Fault::TooLarge(problem))
            }
        }
    }

    fn import(&mut self, module: &'a str, name: &'a str) -> Result<(), Fault> {
        match lookup(module, name) {
            Some(global) => self.push(Object::Global(global)),
            None => Err(self.refused(module, name)),
        }
    }

    /// The storage that a persistent id names: `('storage', type, key, location, numel)`; legacy files add `None`.
    fn storage(&self, id: Item) -> Result<Storage<'a>, Fault> {
        let storage = match self.object(id) {
            Some(Object::Tuple(items)) => match items[..] {
                [tag, kind, key, _location, Item::Int(numel)]
                | [tag, kind, key, _location, Item::Int(numel), Item::None]
                    if self.as_str(tag) == Some("storage") =>
                {
                    match (self.object(kind), self.as_borrowed_str(key), u64::try_from(numel)) {
                        (Some(&Object::Global(Global::Storage(kind))), Some(key), Ok(numel)) => {
                            Some(Storage { kind, key, numel })
                        }
                        _ => None,
                    }
                }
                _ => None,
            },
            _ => None,
        };
        storage.ok_or_else(|| {
            self.damaged(
                "expected a storage as ('storage', type, key, location, number of elements), got something else",
            )
        })
    }

    fn as_str(&self, item: Item) -> Option<&str> {
        match self.object(item) {
            Some(Object::Str(text)) => Some(text),
            _ => None,
        }
    }

    /// Text that stands in the pickle itself, which is all but the decoded kind.
    fn as_borrowed_str(&self, item: Item) -> Option<&'a str> {
        match self.object(item) {
            Some(&Object::Str(Cow::Borrowed(text))) => Some(text),
            _ => None,
        }
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
            Some(Object::Tuple(items) | Object::List(items)) if items.len() <= MAX_DIMS => items
                .iter()
                .map(|item| match item {
                    Item::Int(v) => u64::try_from(*v).ok(),
                    _ => None,
                })
                .collect(),
            _ => None,
        }
    }

    /// What Python would get from calling `function`.
    fn call(&mut self, function: Global<'a>, arguments: &[Item]) -> Result<Item, Fault> {
        let bad = self.bad_call(function);
        match (function, arguments) {
            (Global::OrderedDict, []) => self.add(Object::Dict { ordered: true, entries: Vec::new() }),
            // Python 2 passes the entries as a list of pairs.
            (Global::OrderedDict, &[pairs]) => {
                let Some(Object::List(pairs)) = self.object(pairs) else { return Err(bad) };
                let mut entries = Vec::new();
                for pair in pairs {
                    match self.object(*pair) {
                        Some(Object::List(pair) | Object::Tuple(pair)) if pair.len() == 2 => {
                            entries.extend(pair.as_chunks::<2>().0.iter().map(|&[key, value]| (key, value)));
                        }
                        _ => return Err(bad),
                    }
                }
                self.charge(entries.len())?;
                self.add(Object::Dict { ordered: true, entries })
            }

            (Global::RebuildTensor, &[storage, offset, shape, strides]) => {
                self.view(storage, offset, shape, strides, None)
            }
            (Global::RebuildTensorV2, &[storage, offset, shape, strides, _gradient, _hooks]) => {
                self.view(storage, offset, shape, strides, None)
            }
            (Global::RebuildTensorV2, &[storage, offset, shape, strides, _gradient, _hooks, metadata]) => {
                self.no_metadata(metadata)?;
                self.view(storage, offset, shape, strides, None)
            }
            (Global::RebuildTensorV3, &[storage, offset, shape, strides, _gradient, _hooks, dtype]) => {
                self.view(storage, offset, shape, strides, Some(dtype))
            }
            (
                Global::RebuildTensorV3,
                &[storage, offset, shape, strides, _gradient, _hooks, dtype, metadata],
            ) => {
                self.no_metadata(metadata)?;
                self.view(storage, offset, shape, strides, Some(dtype))
            }
            (Global::RebuildParameter, &[data, _gradient, _hooks])
            | (Global::RebuildParameter, &[data, _gradient, _hooks, _]) => match self.object(data) {
                Some(Object::View(_)) => Ok(data),
                _ => Err(bad),
            },
            // A tensor or parameter with attributes: (function, type, arguments, attributes).
            (Global::RebuildFromType, &[function, kind, arguments, _state]) => {
                match (self.object(function), self.object(kind), self.object(arguments)) {
                    (
                        Some(&Object::Global(function)),
                        Some(Object::Global(Global::TensorType)),
                        Some(Object::Tuple(arguments)),
                    ) if function != Global::RebuildFromType && arguments.len() <= MAX_DIMS => {
                        let arguments = arguments.clone();
                        self.call(function, &arguments)
                    }
                    _ => Err(bad),
                }
            }

            (Global::Size, &[sizes]) => match self.object(sizes) {
                Some(Object::Tuple(_)) => Ok(sizes),
                _ => Err(bad),
            },
            (Global::Device, &[kind]) => {
                let device = self.as_str(kind).ok_or(bad)?.to_owned();
                self.charge(device.len())?;
                self.add(Object::Device(device))
            }
            (Global::Device, &[kind, Item::Int(index)]) => {
                let device = format!("{}:{index}", self.as_str(kind).ok_or(bad)?);
                self.charge(device.len())?;
                self.add(Object::Device(device))
            }

            (Global::NumpyDType, &[code, ..]) => {
                let code = self.as_borrowed_str(code).ok_or(bad)?;
                self.add(Object::NumpyDType(NumpyDType { code, big_endian: false }))
            }
            (Global::NumpyScalar, &[dtype, data]) => {
                let dtype = self.numpy_dtype(dtype)?;
                let bytes = self.as_bytes(data).ok_or(bad)?;
                self.numpy_scalar(dtype, bytes)
            }
            (Global::NumpyReconstruct, &[kind, _shape, _code]) => match self.object(kind) {
                Some(Object::Global(Global::NumpyArrayType)) => {
                    self.add(Object::Array(NumpyArray { content: None }))
                }
                _ => Err(bad),
            },
            (Global::NumpyFromBuffer, &[data, dtype, shape, order]) => {
                let fortran = self.as_str(order) == Some("F");
                let content = self.numpy_content(shape, dtype, fortran, data)?;
                self.add(Object::Array(NumpyArray { content: Some(content) }))
            }

            // Before protocol 3 bytes travel as text, each character a byte.
            (Global::Encode, &[text, encoding]) => {
                let (Some(text), Some("latin1" | "latin-1")) = (self.as_str(text), self.as_str(encoding)) else {
                    return Err(bad);
                };
                let bytes: Option<Vec<u8>> = text.chars().map(|c| u8::try_from(c).ok()).collect();
                let bytes = bytes.ok_or(bad)?;
                self.charge(bytes.len())?;
                self.add(Object::Bytes(bytes.into()))
            }
            (Global::Bytes | Global::ByteArray, []) => self.add(Object::Bytes(Cow::Borrowed(&[]))),
            (Global::ByteArray, &[data]) => match self.object(data) {
                Some(Object::Bytes(_)) => Ok(data),
                _ => Err(bad),
            },
            (Global::Set, []) => self.add(Object::Set(Vec::new())),
            (Global::Set, &[items]) => {
                let Some(Object::List(items)) = self.object(items) else { return Err(bad) };
                let items = items.clone();
                self.charge(items.len())?;
                self.add(Object::Set(items))
            }
            _ => Err(bad),
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
        let Some(&Object::Storage(storage)) = self.object(storage) else {
            return Err(self.damaged("expected the storage of a tensor, got something else"));
        };
        let dtype = match dtype.map(|item| self.object(item)) {
            None => None,
            Some(Some(&Object::Global(Global::DType(name)))) => Some(name),
            Some(_) => return Err(self.damaged("expected the type of a tensor, got something else")),
        };
        let offset = match offset {
            Item::Int(offset) => u64::try_from(offset).ok(),
            _ => None,
        };
        match (offset, self.as_dims(shape), self.as_dims(strides)) {
            (Some(offset), Some(shape), Some(strides)) if shape.len() == strides.len() => {
                self.add(Object::View(View { storage, dtype, offset, shape, strides }))
            }
            _ => Err(self.damaged(
                "expected offset, sizes and strides of a tensor, as many sizes as strides, at most 64 and none \
                 negative, got something else",
            )),
        }
    }

    /// Metadata tell that a view is conjugate or negated, which its bytes do not show.
    fn no_metadata(&self, metadata: Item) -> Result<(), Fault> {
        match (metadata, self.object(metadata)) {
            (Item::None, _) => Ok(()),
            (_, Some(Object::Dict { entries, .. })) if entries.is_empty() => Ok(()),
            _ => Err(self.unsupported(
                "a tensor is a conjugate or negative view; save it after .resolve_conj().resolve_neg()".to_owned(),
            )),
        }
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
            let problem =
                format!("a NumPy number: expected {} bytes, got {}", element.size(), bytes.len());
            return Err(self.damaged(&problem));
        }
        let mut bytes = bytes.to_vec();
        if dtype.big_endian {
            bytes.reverse();
        }
        let scalar = super::value::TensorData { dtype: element, shape: Vec::new(), bytes };
        let item = match (element, scalar.to_i64()) {
            (DType::Bool, Some(v)) => v.first().map(|&v| Item::Bool(v != 0)),
            (_, Some(v)) => v.first().map(|&v| Item::Int(v)),
            (_, None) => scalar.to_f64().first().map(|&v| Item::Float(v)),
        };
        item.ok_or_else(|| self.damaged("expected a NumPy number, got no bytes"))
    }

    fn element(&self, dtype: NumpyDType<'a>) -> Result<DType, Fault> {
        Ok(match dtype.code {
            "f8" => DType::F64,
            "f4" => DType::F32,
            "f2" => DType::F16,
            "i8" => DType::I64,
            "i4" => DType::I32,
            "i2" => DType::I16,
            "i1" => DType::I8,
            "u1" => DType::U8,
            "b1" => DType::Bool,
            other => {
                return Err(self.unsupported(format!(
                    "expected a NumPy type of f8, f4, f2, i8, i4, i2, i1, u1 and b1, got {}; convert it to a tensor \
                     or number before saving",
                    shown(other)
                )));
            }
        })
    }

    fn numpy_content(&self, shape: Item, dtype: Item, fortran: bool, data: Item) -> Result<NumpyContent, Fault> {
        let dtype = self.numpy_dtype(dtype)?;
        let element = self.element(dtype)?;
        match (self.as_dims(shape), self.as_bytes(data), data) {
            (Some(shape), Some(_), Item::Object(data)) => {
                Ok(NumpyContent { dtype: element, big_endian: dtype.big_endian, shape, fortran, data })
            }
            _ => Err(self.damaged("expected shape and bytes of a NumPy array, got something else")),
        }
    }

    /// Sets the state of the object on top of the stack.
    fn build(&mut self) -> Result<(), Fault> {
        let state = self.pop()?;
        let target = self.top()?;
        let bad = self.damaged("expected an object and its state, got something else");
        let changed = match (self.object(target), self.object(state)) {
            // Attributes, such as the versions of the modules in `_metadata`; not data of the dictionary.
            (Some(Object::Dict { ordered: true, .. }), Some(Object::Dict { .. })) => return Ok(()),
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
                    let content = self.numpy_content(shape, dtype, fortran, data)?;
                    Object::Array(NumpyArray { content: Some(content) })
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

/// The meaning of a name, if it is one that may be imported.
fn lookup<'a>(module: &'a str, name: &'a str) -> Option<Global<'a>> {
    Some(match (module, name) {
        ("collections", "OrderedDict") => Global::OrderedDict,
        ("torch._utils", "_rebuild_tensor") => Global::RebuildTensor,
        ("torch._utils", "_rebuild_tensor_v2") => Global::RebuildTensorV2,
        ("torch._utils", "_rebuild_tensor_v3") => Global::RebuildTensorV3,
        ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => Global::RebuildParameter,
        ("torch._tensor", "_rebuild_from_type_v2") => Global::RebuildFromType,
        ("torch", "Tensor") | ("torch.nn.parameter", "Parameter") => Global::TensorType,
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
    if let Some(dtype) = DType::ALL.into_iter().find(|dtype| dtype.storage() == name) {
        return Some(StorageType::Of(dtype));
    }
    match name {
        "UntypedStorage" => Some(StorageType::Untyped),
        "ComplexDoubleStorage" | "ComplexFloatStorage" | "QInt8Storage" | "QInt32Storage" | "QUInt8Storage"
        | "QUInt4x2Storage" | "QUInt2x4Storage" => Some(StorageType::Other(name)),
        _ => None,
    }
}

/// Whether PyTorch has an element type of this name.
pub(super) fn is_dtype(name: &str) -> bool {
    const OTHERS: [&str; 12] = [
        "complex32",
        "complex64",
        "complex128",
        "uint16",
        "uint32",
        "uint64",
        "float8_e4m3fn",
        "float8_e4m3fnuz",
        "float8_e5m2",
        "float8_e5m2fnuz",
        "float8_e8m0fnu",
        "float4_e2m1fn_x2",
    ];
    DType::ALL.iter().any(|dtype| dtype.name() == name) || OTHERS.contains(&name)
}
