//! The pickle machine: opcodes in, a graph of plain data out.
//!
//! The machine knows no Python. A name that a pickle imports becomes a [`Global`] if it is on the list, and a
//! "call" of one is a conversion of plain data written out in `globals`; anything else is a [`Fault::Refused`].
//!
//! Opcodes: CPython's `Lib/pickletools.py`, protocols 2 to 5.

mod globals;

use std::borrow::Cow;
use std::collections::HashMap;

use escape_data::shown;

use super::error::Fault;
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
    Dict {
        ordered: bool,
        entries: Vec<(Item, Item)>,
    },
    Global(Global<'a>),
    Storage(Storage<'a>),
    View(Box<View<'a>>),
    /// `None` until the array's state arrives.
    Array(Option<Box<NumpyContent>>),
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

/// Runs a pickle; bytes after its end are not looked at.
pub(super) fn run(bytes: &[u8]) -> Result<Graph<'_>, Fault> {
    let mut machine = Machine {
        bytes,
        at: 0,
        opcode_at: 0,
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
        objects: Vec::new(),
        allowance: bytes.len().saturating_mul(4).saturating_add(1 << 16),
    };
    let root = machine.run()?;
    Ok(Graph { objects: machine.objects, root })
}

/// Most texts, containers and tensors in a pickle, and most memo entries. A tensor of a state dict takes about ten.
const MAX_OBJECTS: usize = 1 << 21;
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
                        return Err(
                            self.unsupported(format!("expected a pickle of protocol 2 to 5, got {other}"))
                        );
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
                        "the pickle is of protocol 0 or 1, expected 2 to 5; save it anew with torch.save"
                            .to_owned(),
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

    fn too_many(&self, what: &str) -> Fault {
        Fault::TooLarge(format!("{}: expected at most {MAX_OBJECTS} {what}, got more", self.place()))
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
            return Err(
                self.damaged(&format!("the pickle is cut short: expected {n} more bytes, got {left}"))
            );
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
        let text = std::str::from_utf8(bytes)
            .map_err(|_| self.damaged("expected text in UTF-8, got other bytes"))?;
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
            return Err(
                self.unsupported(format!("expected a whole number of at most 255 bytes, got {length}"))
            );
        }
        self.push(Object::BigInt(bytes))
    }

    fn push(&mut self, object: Object<'a>) -> Result<(), Fault> {
        let item = self.add(object)?;
        self.stack.push(item);
        Ok(())
    }

    fn add(&mut self, object: Object<'a>) -> Result<Item, Fault> {
        let index = self.objects.len();
        if index >= MAX_OBJECTS {
            return Err(self.too_many("texts, containers and tensors"));
        }
        self.objects.push(object);
        Ok(Item::Object(index as u32))
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
            Some(Object::Dict { entries, .. }) => {
                entries.extend(pairs.iter().map(|&[key, value]| (key, value)))
            }
            _ => return Err(self.damaged("expected a dictionary to set items of, got something else")),
        }
        Ok(())
    }

    fn memoize(&mut self, index: u32) -> Result<(), Fault> {
        let top = self.top()?;
        if self.memo.len() >= MAX_OBJECTS {
            return Err(self.too_many("memo entries"));
        }
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
