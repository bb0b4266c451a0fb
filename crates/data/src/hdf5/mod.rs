//! MATLAB level 7.3 `.mat` files, which are HDF5, as far as recordings need them: arrays of plain numbers in the
//! root group, contiguous, compact or in chunks, with the filters shuffle, deflate and fletcher32, in either byte order.
//!
//! The variables are those of [`crate::mat`]. HDF5 counts dimensions from the slowest one, MATLAB from the fastest, so
//! `training_data_rat` stands in the file as N x (H * 100): one row a recording. N recordings, H contacts, W samples.
//!
//! The reader is this project's own because it has to keep to [`crate::archive::EXPANSION`]: of the two maintained
//! crates that need no C library, one changed byte in a file of 17 kB makes one (`hdf5-pure` 0.47) ask for 64 GiB and
//! abort the process, and the other (`hdf5-reader` 0.12) take up to a gigabyte or two seconds. Here every size is taken
//! from the file's budget or compared with the file's length before it is believed, nothing recurses, and every walk
//! through a tree ends after as many steps as there can be things to find.
//!
//! Layout, from "HDF5 File Format Specification" (The HDF Group; version 3.0, and the layout message 5 that HDF5 2.0
//! added): superblocks 0 to 3, object headers 1 and 2, groups as symbol tables or as links in their header, chunks indexed by a B-tree of version 1, singly, implicitly
//! or by a fixed array. That is what MATLAB and h5py write, the latter also with `libver="latest"`, except where a
//! data set may grow or a group has more than eight members; what is not read is named.

mod dataset;
mod file;
mod objects;

use std::io::{Read, Seek};
use std::path::Path;

use crate::budget::Budget;
use crate::error::DataError;
use crate::mat;
use crate::reading::Source;
use crate::recordings::Split;
use crate::scalar::{Element, narrow};

use dataset::Dataset;
use file::{Fault, Raw};
use objects::{Links, Number, Object};

/// Find the variables of a file.
pub(crate) fn open<'a, R: Read + Seek>(
    path: &'a Path,
    reader: R,
    length: u64,
    budget: &mut Budget,
) -> Result<Hdf5<'a, R>, DataError> {
    let at = |fault: Fault| fault.at(path, "the root group");
    let (mut raw, root) = objects::superblock(reader, length).map_err(at)?;
    let mut links = Links::new(path, budget);
    objects::members(&mut raw, root, &mut links).map_err(at)?;
    let Links { wanted, present, .. } = links;
    Ok(Hdf5 { path, raw, wanted, present })
}

/// A file whose variables are known.
pub(crate) struct Hdf5<'a, R> {
    path: &'a Path,
    raw: Raw<R>,
    /// Where the header of each of [`mat::NAMES`] stands.
    wanted: [Option<u64>; mat::NAMES.len()],
    /// Names of all variables.
    present: Vec<String>,
}

/// An array of plain numbers that was not read yet.
struct Variable {
    dataset: Dataset,
    element: Element,
    /// In MATLAB's order.
    dims: Vec<u64>,
}

impl<R: Read + Seek> Hdf5<'_, R> {
    fn variable(&mut self, name: &'static str) -> Result<Variable, DataError> {
        let path = self.path;
        let failed = |fault: Fault| fault.at(path, name);
        let address = mat::NAMES.iter().position(|known| *known == name).and_then(|i| self.wanted[i]);
        let object = Object::read(&mut self.raw, address.unwrap_or(0), None).map_err(failed)?;
        let wrong_type = |got: &str| DataError::WrongType {
            path: path.to_owned(),
            name: name.to_owned(),
            expected: "a full array of real numbers",
            got: got.to_owned(),
        };
        if object.is_group() {
            return Err(wrong_type("a group (a structure, an object or a sparse matrix)"));
        }
        let element = match object.number() {
            Number::Plain(element) => element,
            Number::Other(got) => return Err(wrong_type(got)),
        };
        let dataset = Dataset::new(object, element.0.bytes()).map_err(failed)?;
        let dims = dataset.dims.iter().rev().copied().collect();
        Ok(Variable { dataset, element, dims })
    }

    fn wrong_shape(&self, name: &str, expected: &str, got: Vec<u64>) -> DataError {
        let (path, name, expected) = (self.path.to_owned(), name.to_owned(), expected.to_owned());
        DataError::WrongShape { path, name, expected, got }
    }

    fn read<T: Copy + Default>(
        &mut self,
        name: &'static str,
        variable: &Variable,
        budget: &mut Budget,
        convert: impl Fn(f64) -> T + Copy,
    ) -> Result<Vec<T>, DataError> {
        let path = self.path;
        let Variable { dataset, element, .. } = variable;
        dataset
            .read(&mut self.raw, *element, path, name, budget, convert)
            .map_err(|fault| fault.at(path, name))
    }
}

impl<R: Read + Seek> Source for Hdf5<'_, R> {
    fn format(&self) -> String {
        "MATLAB level 7.3 (HDF5)".to_owned()
    }

    fn first_label(&self) -> u8 {
        1
    }

    fn names(&self, split: Split) -> [&'static str; 2] {
        mat::variables(split)
    }

    fn holds(&self, name: &str) -> bool {
        mat::NAMES.iter().zip(&self.wanted).any(|(known, at)| *known == name && at.is_some())
    }

    fn present(&self) -> Vec<String> {
        self.present.clone()
    }

    fn labels(&mut self, name: &'static str, budget: &mut Budget) -> Result<Vec<f64>, DataError> {
        let variable = self.variable(name)?;
        match mat::labels_count(&variable.dims) {
            Some(_) => self.read(name, &variable, budget, |v| v),
            None => Err(self.wrong_shape(name, mat::LABELS_SHAPE, variable.dims)),
        }
    }

    fn shape(&mut self, name: &'static str) -> Result<[usize; 3], DataError> {
        let variable = self.variable(name)?;
        mat::recordings_shape(&variable.dims)
            .ok_or_else(|| self.wrong_shape(name, mat::VALUES_SHAPE, variable.dims))
    }

    fn values(&mut self, name: &'static str, budget: &mut Budget) -> Result<Vec<f32>, DataError> {
        let variable = self.variable(name)?;
        self.read(name, &variable, budget, narrow)
    }

    fn scalar(&mut self, name: &'static str, budget: &mut Budget) -> Result<f64, DataError> {
        let variable = self.variable(name)?;
        match self.read(name, &variable, budget, |v| v)?[..] {
            [value] => Ok(value),
            _ => Err(self.wrong_shape(name, "one number", variable.dims)),
        }
    }
}
