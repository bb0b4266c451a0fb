//! HDF5 as far as recordings need it: MATLAB's `.mat` files of level 7.3, what Octave's `save -hdf5` and h5py write. Arrays
//! of plain numbers or text, contiguous, compact or in chunks, with the filters shuffle, deflate and fletcher32, in either
//! byte order; in the root group or in structures, which are groups.
//!
//! The variables are those of [`crate::mat`]. HDF5 counts dimensions from the slowest one, MATLAB from the fastest, so
//! `training_data_rat` stands in the file as N x (H * 100): one row a recording. Octave turns dimensions over in the same
//! way; it keeps each variable in a group, as `type` and `value`. A file with `train_x` or `test_x` is taken in HDF5's own
//! order, as h5py counts. MATLAB and Octave mark an empty array by an attribute and store its dimensions instead; MATLAB
//! says by another one that numbers are characters, and keeps a cell array as references to its cells. N recordings, H
//! contacts, W samples.
//!
//! The container itself, and why it is read by code of this project, is [`escape_files::hdf5`].

use std::io::{Read, Seek};
use std::path::Path;

use crate::arrays::{Array, Convention, Kind, Sink, Source};
use crate::budget::take;
use crate::error::DataError;
use crate::mat::texts_of;
use crate::recordings::Split;
use escape_files::budget::Budget;
use escape_files::hdf5::{self, Dataset, Fault, Number, Object, Raw, Visit, damaged, members, superblock};
use escape_files::scalar::{Element, Endian, Scalar};

/// Find the variables of a file.
pub(crate) fn open<'a, R: Read + Seek>(
    path: &'a Path,
    reader: R,
    length: u64,
    budget: &mut Budget,
) -> Result<Hdf5<'a, R>, DataError> {
    let at = |fault: Fault| of_fault(path, "the root group", fault);
    let (mut raw, root) = superblock(reader, length).map_err(at)?;
    let mut variables: Vec<(String, u64)> = Vec::new();
    let add: &mut Visit<'_> = &mut |name, address| {
        let name = String::from_utf8_lossy(name).into_owned();
        if variables.iter().any(|(other, _)| *other == name) {
            return Err(damaged(format!("variable {name} occurs twice")));
        }
        // Twice, for the list may be grown by doubling it.
        let bytes = 2 * size_of::<(String, u64)>() + name.len();
        budget.take("the names of the variables", bytes, 1)?;
        variables.push((name, address));
        Ok(())
    };
    members(&mut raw, root, add).map_err(at)?;
    let mut hdf5 = Hdf5 { path, raw, variables, octave: false };
    hdf5.octave = match hdf5.variables.first() {
        Some(&(_, address)) => {
            Object::read(&mut hdf5.raw, address, None).is_ok_and(|first| is_set(&first, OCTAVE))
        }
        None => false,
    };
    Ok(hdf5)
}

/// The attribute with which Octave marks the group of a variable.
const OCTAVE: &str = "OCTAVE_NEW_FORMAT";

/// Whether an attribute is there and not zero.
fn is_set(object: &Object, attribute: &str) -> bool {
    object.attribute(attribute).is_some_and(|value| value.iter().any(|&byte| byte != 0))
}

/// Whether MATLAB's or Octave's array is empty; its values are its dimensions then.
fn is_empty(object: &Object) -> bool {
    is_set(object, "MATLAB_empty") || is_set(object, "OCTAVE_EMPTY_MATRIX")
}

/// MATLAB's class of a variable; empty if nothing says it.
fn class(object: &Object) -> String {
    let text = object.attribute("MATLAB_class").unwrap_or_default();
    let text = String::from_utf8_lossy(text.get(..64).unwrap_or(text));
    text.trim_end_matches(['\0', ' ']).to_owned()
}

/// A file whose variables are known.
pub(crate) struct Hdf5<'a, R> {
    path: &'a Path,
    raw: Raw<R>,
    /// Names of all variables, and where their headers stand.
    variables: Vec<(String, u64)>,
    /// Whether Octave wrote it.
    octave: bool,
}

/// What is wrong with an object called `what`.
fn of_fault(path: &Path, what: &str, fault: Fault) -> DataError {
    match fault {
        Fault::Io(error) => DataError::reading(path, what, error),
        Fault::Memory(error) => DataError::memory(path, error),
    }
}

/// What a name leads to.
struct Variable {
    object: Object,
    address: u64,
    /// What Octave says that it is.
    octave: Option<String>,
}

/// Cells looked at for a list of labels.
const CELLS: &str = "a cell array";

impl<R: Read + Seek> Hdf5<'_, R> {
    /// The member of a group.
    fn member(&mut self, group: u64, wanted: &str) -> Result<Option<u64>, Fault> {
        let mut found = None;
        members(&mut self.raw, group, &mut |name, address| {
            if name == wanted.as_bytes() {
                found = Some(address);
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// An object, or the value that Octave keeps in it.
    fn object(&mut self, address: u64) -> Result<Variable, Fault> {
        let object = Object::read(&mut self.raw, address, None)?;
        if !(is_set(&object, OCTAVE) && object.is_group()) {
            return Ok(Variable { object, address, octave: None });
        }
        let kind = self.member(address, "type")?.ok_or_else(|| damaged("Octave's variable without type"))?;
        let kind = self.short_text(kind)?;
        let address =
            self.member(address, "value")?.ok_or_else(|| damaged("Octave's variable without value"))?;
        let object = Object::read(&mut self.raw, address, None)?;
        Ok(Variable { object, address, octave: Some(kind) })
    }

    /// The text of a data set of one short text.
    fn short_text(&mut self, address: u64) -> Result<String, Fault> {
        const LIMIT: u32 = 256;
        let object = Object::read(&mut self.raw, address, None)?;
        let Number::Text(size @ 1..=LIMIT) = object.number() else {
            return Err(damaged("expected a short text"));
        };
        let dataset = Dataset::new(object, size as usize)?;
        let bytes = dataset.bytes(&mut self.raw, LIMIT.into())?;
        Ok(String::from_utf8_lossy(&bytes).trim_end_matches(['\0', ' ']).to_owned())
    }

    /// Where a name leads; dots lead into structures.
    fn find(&mut self, name: &str) -> Result<Option<Variable>, Fault> {
        let address =
            |wanted: &str| self.variables.iter().find(|(name, _)| name == wanted).map(|found| found.1);
        if let Some(address) = address(name) {
            return self.object(address).map(Some);
        }
        let mut parts = name.split('.');
        let Some(first) = parts.next().and_then(address) else { return Ok(None) };
        let mut found = self.object(first)?;
        for part in parts {
            if !found.object.is_group() {
                return Ok(None);
            }
            let Some(address) = self.member(found.address, part)? else { return Ok(None) };
            found = self.object(address)?;
        }
        Ok(Some(found))
    }

    fn variable(&mut self, name: &str) -> Result<Variable, DataError> {
        let path = self.path;
        self.find(name)
            .and_then(|found| found.ok_or_else(|| damaged("no such variable")))
            .map_err(|fault| of_fault(path, name, fault))
    }

    /// What a variable is.
    fn described(&mut self, variable: &Variable) -> Array {
        let object = &variable.object;
        let class = class(object);
        let class = class.as_str();
        let stored = object.space.as_ref().map(|(dims, _)| dims.clone()).unwrap_or_default();
        let reversed = self.convention() == Convention::Matlab;
        let mut dims = stored;
        if reversed {
            dims.reverse();
        }
        let text = |what: &str| Kind::Text(what.to_owned());
        let other = |what: String| Kind::Other(what);
        let octave = variable.octave.as_deref().unwrap_or_default();
        let kind = if is_set(object, "MATLAB_object_decode")
            || (object.is_group() && !class.is_empty() && class != "struct")
        {
            other(format!("a MATLAB object of class {class}; save double(...) or cellstr(...) of it"))
        } else if octave == "cell" {
            text(CELLS)
        } else if object.is_group() {
            other(match class {
                "struct" => "a structure; name one of its fields with dots".to_owned(),
                _ => "a group (a structure, an object or a sparse matrix)".to_owned(),
            })
        } else if is_empty(object) {
            // The values are the dimensions; how many there are does not matter, for one of them is 0.
            dims = vec![0, 0];
            if class == "char" { text("text") } else { Kind::Numbers }
        } else {
            match object.number() {
                Number::Plain(_) if class == "function_handle" => other("a function handle".to_owned()),
                Number::Plain(_) if class == "char" || matches!(octave, "string" | "sq_string") => {
                    text("text")
                }
                Number::Plain(_) => Kind::Numbers,
                Number::Text(_) | Number::AnyText => text("text"),
                Number::References => text(CELLS),
                Number::Other(what) => other(what.to_owned()),
            }
        };
        Array { dims, column_major: reversed, kind }
    }

    /// All numbers of a variable.
    fn values(
        &mut self,
        name: &str,
        object: Object,
        budget: &mut Budget,
        sink: &mut Sink<'_>,
    ) -> Result<(), DataError> {
        let path = self.path;
        if is_empty(&object) {
            return Ok(());
        }
        let Number::Plain(element) = object.number() else {
            return Err(DataError::malformed(path, format!("{name} holds no numbers")));
        };
        let read = Dataset::new(object, element.0.bytes())
            .and_then(|dataset| dataset.read(&mut self.raw, element, budget, sink));
        read.map_err(|fault| of_fault(path, name, fault))
    }

    /// The characters of a variable, as rows of MATLAB's.
    fn characters(
        &mut self,
        name: &str,
        variable: Variable,
        budget: &mut Budget,
    ) -> Result<Vec<String>, DataError> {
        let path = self.path;
        let Array { dims, column_major, .. } = self.described(&variable);
        let object = variable.object;
        if is_empty(&object) {
            return Ok(Vec::new());
        }
        // Texts of one length are rows of bytes.
        let (dims, element, column_major, size): (Vec<u64>, Element, bool, Option<u32>) =
            match object.number() {
                Number::Text(size) => {
                    let texts = dims.iter().try_fold(1u64, |n, &dim| n.checked_mul(dim)).unwrap_or(u64::MAX);
                    (vec![texts, size.into()], (Scalar::U8, Endian::Little), false, Some(size))
                }
                Number::Plain(element) => (dims, element, column_major, None),
                _ => return Err(DataError::malformed(path, format!("{name} holds no characters"))),
            };
        let raw = &mut self.raw;
        texts_of(path, name, &dims, column_major, budget, |budget, sink| {
            let failed = |fault: Fault| of_fault(path, name, fault);
            let each = size.map_or(element.0.bytes(), |size| size as usize);
            let mut dataset = Dataset::new(object, each).map_err(failed)?;
            if let Some(size) = size {
                dataset.split_elements(size.into());
            }
            dataset.read(raw, element, budget, sink).map_err(failed)
        })
    }
}

impl<R: Read + Seek> Source for Hdf5<'_, R> {
    fn format(&self) -> String {
        match (self.octave, self.convention()) {
            (true, _) => "HDF5 as Octave writes it".to_owned(),
            (false, Convention::Matlab) => "MATLAB level 7.3 (HDF5)".to_owned(),
            (false, Convention::NumPy) => "HDF5".to_owned(),
        }
    }

    fn convention(&self) -> Convention {
        let numpy = Split::ALL.map(|split| Convention::NumPy.names(split)[0]);
        match self.variables.iter().any(|(name, _)| numpy.contains(&name.as_str())) {
            true => Convention::NumPy,
            false => Convention::Matlab,
        }
    }

    fn holds(&mut self, name: &str) -> bool {
        // What is there and damaged is said when it is read.
        self.variables.iter().any(|(other, _)| other == name) || !matches!(self.find(name), Ok(None))
    }

    fn entries(&mut self) -> Vec<String> {
        let names: Vec<String> = self.variables.iter().map(|(name, _)| name.clone()).collect();
        let named = names.iter().filter(|name| !name.starts_with('#'));
        named
            .enumerate()
            .map(|(i, name)| match self.find(name) {
                Ok(Some(variable)) if i < crate::error::LISTED => {
                    let mut array = self.described(&variable);
                    if variable.object.is_group() {
                        let mut fields: Vec<String> = Vec::new();
                        let _ = members(&mut self.raw, variable.address, &mut |field, _| {
                            if fields.len() < 8 {
                                fields.push(String::from_utf8_lossy(field).into_owned());
                            }
                            Ok(())
                        });
                        if !fields.is_empty() {
                            array.kind = Kind::Other(format!("a structure of {}", fields.join(", ")));
                        }
                    }
                    array.describe(name)
                }
                _ => name.clone(),
            })
            .collect()
    }

    fn skipped(&mut self) -> Vec<(String, String)> {
        // A file of recordings has a handful of variables; one of hundreds is not worth the time.
        const FEW: usize = 64;
        if self.variables.len() > FEW {
            return Vec::new();
        }
        let names: Vec<String> = self
            .variables
            .iter()
            .map(|(name, _)| name.clone())
            .filter(|name| !name.starts_with('#'))
            .collect();
        let mut skipped = Vec::new();
        for name in names {
            let Ok(Some(variable)) = self.find(&name) else { continue };
            match self.described(&variable).kind {
                Kind::Other(what) => skipped.push((name, what)),
                Kind::Text(what) if what == CELLS => skipped.push((name, what)),
                _ => {}
            }
        }
        skipped
    }

    fn array(&mut self, name: &str) -> Result<Array, DataError> {
        let variable = self.variable(name)?;
        let array = self.described(&variable);
        if let (Kind::Numbers, false, Number::Plain(element)) =
            (&array.kind, is_empty(&variable.object), variable.object.number())
        {
            // Whether it can be read at all is known now.
            Dataset::new(variable.object, element.0.bytes())
                .map_err(|fault| of_fault(self.path, name, fault))?;
        }
        Ok(array)
    }

    fn numbers(&mut self, name: &str, budget: &mut Budget, sink: &mut Sink<'_>) -> Result<(), DataError> {
        let variable = self.variable(name)?;
        self.values(name, variable.object, budget, sink)
    }

    fn texts(&mut self, name: &str, budget: &mut Budget) -> Result<Vec<String>, DataError> {
        let path = self.path;
        let variable = self.variable(name)?;
        if matches!(variable.object.number(), Number::AnyText) {
            return hdf5::texts(&mut self.raw, variable.object, budget)
                .map_err(|fault| of_fault(path, name, fault));
        }
        let octave = variable.octave.as_deref() == Some("cell");
        if !octave && !matches!(variable.object.number(), Number::References) {
            return self.characters(name, variable, budget);
        }
        let failed = |fault: Fault| of_fault(path, name, fault);
        if is_empty(&variable.object) {
            return Ok(Vec::new());
        }
        // Addresses of the cells.
        let mut cells: Vec<(u64, u64)> = Vec::new();
        if octave {
            let group = variable.address;
            let take = &mut |name: &[u8], address: u64| {
                let number =
                    std::str::from_utf8(name).ok().and_then(|name| name.strip_prefix('_')?.parse().ok());
                if let Some(number) = number {
                    budget.take("the cells", 2, size_of::<(u64, u64)>())?;
                    cells.push((number, address));
                }
                Ok(())
            };
            members(&mut self.raw, group, take).map_err(failed)?;
            cells.sort_unstable();
        } else {
            let dataset = Dataset::new(variable.object, 8).map_err(failed)?;
            let count =
                dataset.dims.iter().try_fold(1usize, |n, &dim| n.checked_mul(usize::try_from(dim).ok()?));
            let count = count.unwrap_or(usize::MAX);
            take(budget, path, name, count, size_of::<(u64, u64)>() + size_of::<u64>())?;
            let mut addresses = vec![0; count];
            dataset.addresses(&mut self.raw, budget, &mut addresses).map_err(failed)?;
            cells = addresses.into_iter().map(|address| (0, address)).collect();
        }
        take(budget, path, name, cells.len(), size_of::<String>())?;
        let mut texts = Vec::with_capacity(cells.len());
        for (i, (_, address)) in cells.into_iter().enumerate() {
            let cell = self.object(address).map_err(failed)?;
            let array = self.described(&cell);
            let wrong = |got: String| {
                DataError::unsupported(
                    path,
                    format!("cell {i} of {name} is {got}, expected a text or a number"),
                )
            };
            texts.push(match (&array.kind, array.count()) {
                (Kind::Text(what), _) if what != CELLS => {
                    let mut rows = self.characters(name, cell, budget)?;
                    if rows.len() > 1 {
                        return Err(wrong(format!("{} texts", rows.len())));
                    }
                    rows.pop().unwrap_or_default()
                }
                (Kind::Numbers, Some(1)) => {
                    let mut value = f64::NAN;
                    self.values(name, cell.object, budget, &mut |_, run| value = run[0])?;
                    value.to_string()
                }
                (Kind::Text(what) | Kind::Other(what), _) => return Err(wrong(what.clone())),
                _ => return Err(wrong("an array of numbers".to_owned())),
            });
        }
        Ok(texts)
    }
}
