//! The pickle machine: opcodes in, a graph of plain data out.
//!
//! The machine knows no Python. A name that a pickle imports becomes a [`Global`], and a "call" of one that is on the
//! list is a conversion of plain data written out in `globals`. Every other name stays a name: what it would make is
//! an [`Object::Opaque`], which is never made.
//!
//! Opcodes: CPython's `Lib/pickletools.py`, protocols 2 to 5.

mod globals;

use std::borrow::Cow;

use escape_files::text::shown;

use super::budget::{Budget, size};
use super::dtype::DType;
use super::error::Fault;

/// A value on the machine's stack; whatever can be shared or changed later is an index into the objects.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Item {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Object(u32),
}

#[derive(Debug)]
pub(crate) enum Object<'a> {
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
    Storage(Box<Storage<'a>>),
    View(Box<View<'a>>),
    /// `None` until the array's state arrives.
    Array(Option<Box<NumpyContent>>),
    NumpyDType(NumpyDType<'a>),
    Device(String),
    Quantised(Box<Quantised<'a>>),
    Sparse(Box<Sparse<'a>>),
    Opaque(Box<Opaque>),
}

/// A name that is imported.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Global<'a> {
    OrderedDict,
    Counter,
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
    RebuildQuantised,
    RebuildSparse,
    RebuildMeta,
    RebuildFromDevice,
    GetLayout,
    /// How a quantised tensor's numbers are to be read, `per_tensor_affine` say.
    QuantisedAs(&'a str),
    /// How a tensor is laid out, `sparse_coo` say.
    Layout(&'a str),
    /// Any other name, by its number in [`Graph::names`].
    Foreign(u32),
}

/// A name that nothing is known of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Name<'a> {
    pub(crate) module: &'a str,
    pub(crate) name: &'a str,
    /// Whether the pickle calls it, and not only mentions it.
    pub(crate) called: bool,
}

/// A value that is not made, because it is no plain data or of a kind that this program has not.
#[derive(Debug)]
pub(crate) struct Opaque {
    pub(crate) what: What,
    /// What it would be made from, and the state that it would get then.
    pub(crate) arguments: Item,
    pub(crate) state: Item,
}

#[derive(Debug, Clone)]
pub(crate) enum What {
    /// What the call of a name would give, by its number in [`Graph::names`].
    Call(u32),
    /// A tensor or array, in words, and how to save it so that it can be read.
    Tensor(String, &'static str),
}

/// A tensor of whole numbers that stand for others.
#[derive(Debug)]
pub(crate) struct Quantised<'a> {
    pub(crate) view: View<'a>,
    /// Whether factor and zero are one for each index of a dimension.
    pub(crate) axis: Option<u64>,
    /// Whether the factors are float32 and the zeros numbers of that kind; else float64 and whole numbers.
    pub(crate) in_floats: bool,
    pub(crate) scales: Item,
    pub(crate) zeros: Item,
}

/// A tensor of which only some elements are kept.
#[derive(Debug)]
pub(crate) struct Sparse<'a> {
    /// `sparse_coo`, `sparse_csr`, `sparse_csc`, `sparse_bsr` or `sparse_bsc`.
    pub(crate) layout: &'a str,
    /// Indices (for the compressed layouts in two tensors), values, shape, and perhaps a flag.
    pub(crate) parts: Vec<Item>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum StorageType<'a> {
    Of(DType),
    /// Bytes, typed by whoever looks at them.
    Untyped,
    /// Known to PyTorch, but not to [`DType`].
    Other(&'a str),
}

/// What a persistent id stands for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Storage<'a> {
    pub(crate) kind: StorageType<'a>,
    pub(crate) key: &'a str,
    /// Elements, or bytes if untyped.
    pub(crate) numel: u64,
    /// The part of it that is meant, first element and number of elements; legacy files only.
    pub(crate) window: Option<(u64, u64)>,
}

/// A tensor as a pickle describes it; nothing compared with the storage yet.
#[derive(Debug, Clone)]
pub(crate) struct View<'a> {
    pub(crate) storage: Storage<'a>,
    /// The element type's name where the storage does not tell it.
    pub(crate) dtype: Option<&'a str>,
    pub(crate) offset: u64,
    pub(crate) shape: Vec<u64>,
    pub(crate) strides: Vec<u64>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct NumpyDType<'a> {
    /// Kind and size, such as `f8`.
    pub(crate) code: &'a str,
    pub(crate) big_endian: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct NumpyContent {
    pub(crate) dtype: DType,
    pub(crate) big_endian: bool,
    pub(crate) shape: Vec<u64>,
    pub(crate) fortran: bool,
    /// Index of the bytes.
    pub(crate) data: u32,
}

/// The outcome of a pickle.
#[derive(Debug)]
pub(crate) struct Graph<'a> {
    pub(crate) objects: Vec<Object<'a>>,
    /// Names that nothing is known of, in the order of their imports.
    pub(crate) names: Vec<Name<'a>>,
    pub(crate) root: Item,
    /// Where the pickle ended; what follows was not looked at.
    pub(crate) end: usize,
}

impl<'a> Graph<'a> {
    /// What an item refers to, if it is no plain one.
    pub(crate) fn object(&self, item: Item) -> Option<&Object<'a>> {
        object(&self.objects, item)
    }
}

fn object<'o, 'a>(objects: &'o [Object<'a>], item: Item) -> Option<&'o Object<'a>> {
    match item {
        Item::Object(index) => objects.get(index as usize),
        _ => None,
    }
}

/// Runs the pickle that starts at `start`. Messages call the bytes `part` and count from their beginning.
pub(crate) fn run<'a>(
    bytes: &'a [u8],
    start: usize,
    part: &'static str,
    budget: &mut Budget,
) -> Result<Graph<'a>, Fault> {
    let mut machine = Machine {
        bytes,
        part,
        at: start,
        opcode_at: start,
        stack: Vec::new(),
        marks: Vec::new(),
        memo: Vec::new(),
        objects: Vec::new(),
        names: Vec::new(),
        budget,
    };
    let root = machine.run()?;
    machine.budget.refund(size::<Item>(machine.stack.capacity()));
    machine.budget.refund(size::<usize>(machine.marks.capacity()));
    machine.budget.refund(size::<Option<Item>>(machine.memo.capacity()));
    Ok(Graph { objects: machine.objects, names: machine.names, root, end: machine.at })
}

/// Most dimensions that a tensor may have, as in PyTorch.
const MAX_DIMS: usize = 64;

struct Machine<'a, 'b> {
    bytes: &'a [u8],
    part: &'static str,
    at: usize,
    /// Where the current opcode stands.
    opcode_at: usize,
    stack: Vec<Item>,
    /// Heights of the stack at each open mark.
    marks: Vec<usize>,
    memo: Vec<Option<Item>>,
    objects: Vec<Object<'a>>,
    names: Vec<Name<'a>>,
    /// Everything above and every copy that a call makes is charged to it.
    budget: &'b mut Budget,
}

impl<'a> Machine<'a, '_> {
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

                b'N' => self.push_item(Item::None)?,
                0x88 => self.push_item(Item::Bool(true))?,
                0x89 => self.push_item(Item::Bool(false))?,
                b'K' => {
                    let [v] = self.array()?;
                    self.push_item(Item::Int(v.into()))?;
                }
                b'M' => {
                    let v = u16::from_le_bytes(self.array()?);
                    self.push_item(Item::Int(v.into()))?;
                }
                b'J' => {
                    let v = i32::from_le_bytes(self.array()?);
                    self.push_item(Item::Int(v.into()))?;
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
                    self.push_item(Item::Float(v))?;
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

                b'(' => self.budget.push(&mut self.marks, self.stack.len(), "marks")?,
                b'0' => {
                    // Python lets this opcode remove a mark, too; no pickler relies on it.
                    self.pop()?;
                }
                b'1' => {
                    let height = self.mark()?;
                    self.stack.truncate(height);
                }
                b'2' => {
                    let top = self.top()?;
                    self.push_item(top)?;
                }

                b')' => self.push(Object::Tuple(Vec::new()))?,
                0x85..=0x87 => {
                    let mut items = Vec::new();
                    for _ in 0x84..opcode {
                        let item = self.pop()?;
                        self.budget.push(&mut items, item, "a tuple")?;
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
                    let height = self.height_of(1)?;
                    self.append(height)?;
                }
                b'e' => {
                    let height = self.mark()?;
                    self.append(height)?;
                }
                b'}' => self.push(Object::Dict { ordered: false, entries: Vec::new() })?,
                b'd' => {
                    let height = self.mark()?;
                    let mut entries = Vec::new();
                    self.take_pairs(height, &mut entries)?;
                    self.push(Object::Dict { ordered: false, entries })?;
                }
                b's' => {
                    let height = self.height_of(2)?;
                    self.set_items(height)?;
                }
                b'u' => {
                    let height = self.mark()?;
                    self.set_items(height)?;
                }
                0x8f => self.push(Object::Set(Vec::new()))?,
                0x90 => {
                    let height = self.mark()?;
                    self.append(height)?;
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
                0x94 => {
                    let next = u32::try_from(self.memo.len()).unwrap_or(u32::MAX);
                    self.memoize(next)?;
                }
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
                    self.apply(function, arguments)?;
                }
                // The same with named arguments, which no name on the list takes.
                0x92 => {
                    self.pop()?;
                    let arguments = self.pop()?;
                    let class = self.pop()?;
                    self.apply(class, arguments)?;
                }
                b'o' => {
                    let mut items = self.pop_mark()?;
                    if items.is_empty() {
                        return Err(self.damaged("expected a class to make an object of, got none"));
                    }
                    let class = items.remove(0);
                    let arguments = self.add(Object::Tuple(items))?;
                    self.apply(class, arguments)?;
                }
                b'i' => {
                    let module = self.line()?;
                    let name = self.line()?;
                    let items = self.pop_mark()?;
                    let arguments = self.add(Object::Tuple(items))?;
                    self.import(module, name)?;
                    let class = self.pop()?;
                    self.apply(class, arguments)?;
                }
                b'b' => self.build()?,
                b'Q' => {
                    let id = self.pop()?;
                    // The class of a module, which the legacy format writes with its source.
                    if let Some(class) = self.module(id) {
                        self.push_item(class)?;
                        continue;
                    }
                    let storage = self.storage(id)?;
                    self.charge(size::<Storage<'_>>(1))?;
                    self.push(Object::Storage(Box::new(storage)))?;
                }

                b'P' | 0x82..=0x84 | 0x97 | 0x98 => {
                    return Err(self.unsupported(format!(
                        "the opcode 0x{opcode:02x} refers to what is not in the file; save a state dict in Python: \
                         torch.save(model.state_dict(), 'weights.pth')"
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
        let keys = self.keys();
        let within = if keys.is_empty() { String::new() } else { format!(", in {keys}") };
        format!("{}, byte {}{within}", self.part, self.opcode_at)
    }

    /// Under which keys of dictionaries the machine is at work, as Python would index them.
    fn keys(&self) -> String {
        const SHOWN: usize = 8;
        let mut keys = String::new();
        let ends = self.marks.iter().skip(1).copied().chain([self.stack.len()]);
        for (&start, end) in self.marks.iter().zip(ends).take(SHOWN) {
            let is_dictionary = self
                .stack
                .get(..start)
                .and_then(<[Item]>::last)
                .is_some_and(|under| matches!(self.object(*under), Some(Object::Dict { .. })));
            // Keys and values take turns; the last key's value is not there yet or being made.
            let key = end.checked_sub(start + 1).and_then(|n| self.stack.get(start + (n & !1)));
            if let (true, Some(Object::Str(key))) = (is_dictionary, key.and_then(|key| self.object(*key))) {
                keys.push_str(&format!("['{}']", shown(key)));
            }
        }
        keys
    }

    fn damaged(&self, problem: &str) -> Fault {
        Fault::Damaged(format!("{}: {problem}", self.place()))
    }

    fn cut_short(&self, how: &str) -> Fault {
        Fault::CutShort(format!("{}: the pickle is cut short{how}", self.place()))
    }

    fn unsupported(&self, problem: String) -> Fault {
        Fault::Unsupported(format!("{}: {problem}", self.place()))
    }

    fn take(&mut self, n: usize) -> Result<&'a [u8], Fault> {
        let taken = self.at.checked_add(n).and_then(|end| self.bytes.get(self.at..end));
        let Some(taken) = taken else {
            let left = self.bytes.len().saturating_sub(self.at);
            return Err(self.cut_short(&format!(": expected {n} more bytes, got {left}")));
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
            return Err(self.cut_short(" within a name"));
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
            self.push_item(Item::Int(value))?;
            return Ok(());
        }
        if length > 255 {
            return Err(
                self.unsupported(format!("expected a whole number of at most 255 bytes, got {length}"))
            );
        }
        self.push(Object::BigInt(bytes))
    }

    fn push_item(&mut self, item: Item) -> Result<(), Fault> {
        Ok(self.budget.push(&mut self.stack, item, "the values of a pickle")?)
    }

    fn push(&mut self, object: Object<'a>) -> Result<(), Fault> {
        let item = self.add(object)?;
        self.push_item(item)
    }

    fn add(&mut self, object: Object<'a>) -> Result<Item, Fault> {
        let Ok(index) = u32::try_from(self.objects.len()) else {
            return Err(Fault::TooLarge(format!("{}: more than {} objects", self.place(), u32::MAX)));
        };
        self.budget.push(&mut self.objects, object, "the objects of a pickle")?;
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

    /// Removes the last mark and says at which height of the stack it stood.
    fn mark(&mut self) -> Result<usize, Fault> {
        // No mark lies above the stack, because `pop` stops at the last one.
        self.marks.pop().ok_or_else(|| self.damaged("expected a mark on the stack, got none"))
    }

    /// Where the topmost `count` items begin.
    fn height_of(&self, count: usize) -> Result<usize, Fault> {
        let floor = self.marks.last().copied().unwrap_or(0);
        match self.stack.len().checked_sub(count) {
            Some(height) if height >= floor => Ok(height),
            _ => Err(self.damaged("expected a value on the stack, got none")),
        }
    }

    /// The items down to the last mark.
    fn pop_mark(&mut self) -> Result<Vec<Item>, Fault> {
        let height = self.mark()?;
        let count = self.stack.len().saturating_sub(height);
        let mut items = Vec::new();
        self.budget.charge(size::<Item>(count), || "a tuple or list".to_owned())?;
        items.reserve_exact(count);
        items.extend(self.stack.drain(height..));
        Ok(items)
    }

    fn object(&self, item: Item) -> Option<&Object<'a>> {
        object(&self.objects, item)
    }

    /// The object on top of the stack, to be changed.
    fn top_object(&mut self) -> Option<&mut Object<'a>> {
        match self.top() {
            Ok(Item::Object(index)) => self.objects.get_mut(index as usize),
            _ => None,
        }
    }

    /// The object under the items from `height` on.
    fn object_under(&self, height: usize) -> Option<usize> {
        let floor = self.marks.last().copied().unwrap_or(0);
        match self.stack.get(floor..height)?.last()? {
            Item::Object(index) => Some(*index as usize),
            _ => None,
        }
    }

    /// What is given items is a list or dictionary of a class of its own, and read as a plain one.
    fn as_plain(&mut self, height: usize, plain: Object<'a>) {
        let target = self.object_under(height).and_then(|index| self.objects.get_mut(index));
        if let Some(target @ Object::Opaque(_)) = target {
            *target = plain;
        }
    }

    /// Appends the items from `height` on to the list or set under them.
    fn append(&mut self, height: usize) -> Result<(), Fault> {
        self.as_plain(height, Object::List(Vec::new()));
        let target = self.object_under(height).and_then(|index| self.objects.get_mut(index));
        let Some(Object::List(items) | Object::Set(items)) = target else {
            return Err(self.damaged("expected a list or set to append to, got something else"));
        };
        self.budget.reserve(items, self.stack.len().saturating_sub(height), "a list")?;
        items.extend(self.stack.drain(height..));
        Ok(())
    }

    /// Sets the keys and values from `height` on in the dictionary under them.
    fn set_items(&mut self, height: usize) -> Result<(), Fault> {
        self.as_plain(height, Object::Dict { ordered: false, entries: Vec::new() });
        let index = self.object_under(height);
        let target = index.and_then(|index| self.objects.get_mut(index));
        let Some(Object::Dict { entries, .. }) = target else {
            return Err(self.damaged("expected a dictionary to set items of, got something else"));
        };
        let mut entries = std::mem::take(entries);
        self.take_pairs(height, &mut entries)?;
        if let Some(Object::Dict { entries: empty, .. }) = index.and_then(|index| self.objects.get_mut(index))
        {
            *empty = entries;
        }
        Ok(())
    }

    /// Moves the items from `height` on to `entries`, two by two.
    fn take_pairs(&mut self, height: usize, entries: &mut Vec<(Item, Item)>) -> Result<(), Fault> {
        let (pairs, rest) = self.stack.get(height..).unwrap_or_default().as_chunks::<2>();
        if !rest.is_empty() {
            return Err(self.damaged("expected keys and values in pairs, got a key without a value"));
        }
        self.budget.reserve(entries, pairs.len(), "a dictionary")?;
        entries.extend(pairs.iter().map(|&[key, value]| (key, value)));
        self.stack.truncate(height);
        Ok(())
    }

    fn memoize(&mut self, index: u32) -> Result<(), Fault> {
        let (top, index) = (self.top()?, index as usize);
        // Every pickler counts its entries, so that none is numbered higher than the bytes it has written.
        if index > self.at {
            return Err(self.damaged(&format!("expected a memo entry numbered in turn, got {index}")));
        }
        if let Some(more) = (index + 1).checked_sub(self.memo.len()) {
            self.budget.reserve(&mut self.memo, more, "the memo of a pickle")?;
            self.memo.resize(self.memo.len() + more, None);
        }
        if let Some(entry) = self.memo.get_mut(index) {
            *entry = Some(top);
        }
        Ok(())
    }

    fn recall(&mut self, index: u32) -> Result<(), Fault> {
        match self.memo.get(index as usize) {
            Some(&Some(item)) => self.push_item(item),
            _ => Err(self.damaged(&format!("expected something in memo {index}, got nothing"))),
        }
    }

    /// Pays for a copy that a call makes.
    fn charge(&mut self, bytes: u64) -> Result<(), Fault> {
        let place = self.place();
        Ok(self.budget.charge(bytes, || format!("{place}: a copy"))?)
    }
}

/// Whether PyTorch has an element type of this name.
pub(crate) fn is_dtype(name: &str) -> bool {
    const OTHERS: [&str; 9] = [
        "complex32",
        "complex64",
        "complex128",
        "float8_e4m3fn",
        "float8_e4m3fnuz",
        "float8_e5m2",
        "float8_e5m2fnuz",
        "float8_e8m0fnu",
        "float4_e2m1fn_x2",
    ];
    DType::ALL.iter().any(|dtype| dtype.name() == name) || OTHERS.contains(&name)
}
