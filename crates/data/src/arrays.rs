//! Arrays by name, whatever file holds them. N recordings, H contacts, W samples.

use std::path::Path;

use crate::error::{DataError, shape};
use crate::recordings::Split;
use escape_files::budget::Budget;
use escape_files::scalar::{Endian, Scalar, stream_values};

/// In what program's terms a file speaks: how arrays are called, where labels start, which dimension comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Convention {
    /// `training_data_rat` and so on, labels from 1, one column a recording.
    Matlab,
    /// `train_x` and so on, labels from 0, N x H x W.
    NumPy,
}

impl Convention {
    /// What the values and the labels of a split are called.
    pub(crate) fn names(self, split: Split) -> [&'static str; 2] {
        match (self, split) {
            (Self::Matlab, Split::Train) => ["training_data_rat", "training_data_labels"],
            (Self::Matlab, Split::Test) => ["test_data_rat", "test_data_labels"],
            (Self::NumPy, Split::Train) => ["train_x", "train_y"],
            (Self::NumPy, Split::Test) => ["test_x", "test_y"],
        }
    }

    /// The label of the first class.
    pub(crate) fn first_label(self) -> u8 {
        match self {
            Self::Matlab => 1,
            Self::NumPy => 0,
        }
    }
}

/// Single numbers that describe the recordings, in every format.
pub(crate) const SCALARS: [&str; 5] = ["contacts", "samples", "sample_rate_hz", "nerve_seed", "nerve_animal"];

/// What an array is, before anything of it is read.
#[derive(Debug, Clone)]
pub(crate) struct Array {
    /// In the order in which the file's own program counts dimensions.
    pub(crate) dims: Vec<u64>,
    /// Whether the first index runs fastest where the values stand one after the other.
    pub(crate) column_major: bool,
    pub(crate) kind: Kind,
}

/// What the elements of an array are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Real numbers of any type.
    Numbers,
    /// Texts, or characters whose rows are texts; what holds them, in words.
    Text(String),
    /// Something else, in words.
    Other(String),
}

impl Array {
    /// For a list of what a file holds.
    pub(crate) fn describe(&self, name: &str) -> String {
        let dims = shape(&self.dims);
        match &self.kind {
            Kind::Numbers => format!("{name} ({dims})"),
            Kind::Text(what) => format!("{name} ({what}, {dims})"),
            Kind::Other(what) => format!("{name} ({what})"),
        }
    }

    /// Number of elements, if it can be counted.
    pub(crate) fn count(&self) -> Option<usize> {
        let count = self.dims.iter().try_fold(1u64, |n, &dim| n.checked_mul(dim))?;
        usize::try_from(count).ok()
    }
}

/// Takes values: where they stand among those of the array, counted as they are stored, and a run of them.
pub(crate) type Sink<'a> = dyn FnMut(usize, &[f64]) + 'a;

/// An opened file of arrays by name.
pub(crate) trait Source {
    /// The format in words.
    fn format(&self) -> String;

    fn convention(&self) -> Convention;

    /// Whether this program wrote the file, so that its single numbers are what their names say.
    fn is_ours(&self) -> bool {
        false
    }

    /// Whether there is an array of this name; dots lead into structures.
    fn holds(&mut self, name: &str) -> bool;

    /// What there is, each in words, for error messages.
    fn entries(&mut self) -> Vec<String>;

    /// What there is beside arrays of numbers and text: names, and what they are in words.
    fn skipped(&mut self) -> Vec<(String, String)> {
        Vec::new()
    }

    fn array(&mut self, name: &str) -> Result<Array, DataError>;

    /// Hand over all numbers of an array: as many as [`Array::count`], each once.
    fn numbers(&mut self, name: &str, budget: &mut Budget, sink: &mut Sink<'_>) -> Result<(), DataError>;

    /// The texts of an array.
    fn texts(&mut self, name: &str, budget: &mut Budget) -> Result<Vec<String>, DataError>;
}

/// An array that something else has read, to be taken for recordings or labels.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct NamedArray {
    /// Its name.
    pub(crate) name: String,
    /// Size of each dimension, the slowest first.
    pub(crate) shape: Vec<usize>,
    /// Its elements.
    pub(crate) values: ArrayValues,
}

/// The elements of a [`NamedArray`], row-major.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum ArrayValues {
    /// Little-endian numbers of a type.
    Numbers(Scalar, Vec<u8>),
    /// Texts.
    Texts(Vec<String>),
    /// Something that is neither, in words.
    Other(String),
}

/// Arrays in memory. Each can be read once; its memory is freed then.
pub(crate) struct Memory<'a> {
    pub(crate) path: &'a Path,
    pub(crate) format: &'a str,
    pub(crate) arrays: Vec<NamedArray>,
}

impl Memory<'_> {
    fn find(&mut self, name: &str) -> Result<&mut NamedArray, DataError> {
        let path = self.path;
        self.arrays
            .iter_mut()
            .find(|array| array.name == name)
            .ok_or_else(|| DataError::malformed(path, format!("no array {name}")))
    }
}

impl NamedArray {
    pub(crate) fn described(&self) -> Array {
        Array {
            dims: self.shape.iter().map(|&dim| dim as u64).collect(),
            column_major: false,
            kind: match &self.values {
                ArrayValues::Numbers(..) => Kind::Numbers,
                ArrayValues::Texts(_) => Kind::Text("text".to_owned()),
                ArrayValues::Other(what) => Kind::Other(what.clone()),
            },
        }
    }
}

impl Source for Memory<'_> {
    fn format(&self) -> String {
        self.format.to_owned()
    }

    fn convention(&self) -> Convention {
        let matlab = Split::ALL.map(|split| Convention::Matlab.names(split)[0]);
        match self.arrays.iter().any(|array| matlab.contains(&array.name.as_str())) {
            true => Convention::Matlab,
            false => Convention::NumPy,
        }
    }

    fn holds(&mut self, name: &str) -> bool {
        self.arrays.iter().any(|array| array.name == name)
    }

    fn entries(&mut self) -> Vec<String> {
        self.arrays.iter().map(|array| array.described().describe(&array.name)).collect()
    }

    fn array(&mut self, name: &str) -> Result<Array, DataError> {
        Ok(self.find(name)?.described())
    }

    fn numbers(&mut self, name: &str, _: &mut Budget, sink: &mut Sink<'_>) -> Result<(), DataError> {
        let path = self.path;
        let array = self.find(name)?;
        let taken = std::mem::replace(&mut array.values, ArrayValues::Other("an array already read".into()));
        let count = array.described().count();
        match taken {
            ArrayValues::Numbers(kind, bytes) => {
                let element = (kind, Endian::Little);
                if count.and_then(|n| n.checked_mul(element.0.bytes())) != Some(bytes.len()) {
                    return Err(DataError::malformed(path, format!("{name} does not fit its shape")));
                }
                stream_values(&mut bytes.as_slice(), element, count.unwrap_or(0), sink)
                    .map_err(|e| DataError::reading(path, name, e))
            }
            _ => Err(DataError::malformed(path, format!("{name} holds no numbers"))),
        }
    }

    fn texts(&mut self, name: &str, _: &mut Budget) -> Result<Vec<String>, DataError> {
        match &self.find(name)?.values {
            ArrayValues::Texts(texts) => Ok(texts.clone()),
            _ => Err(DataError::malformed(self.path, format!("{name} holds no text"))),
        }
    }
}
