//! Whether the parts of a data set fit each other.

use std::path::Path;

use crate::error::DataError;
use crate::recordings::{Dataset, Split};

impl Dataset {
    /// Whether the fields of both splits fit each other; `path` is the file that they are to be written to.
    pub(crate) fn check(&self, path: &Path) -> Result<(), DataError> {
        for split in Split::ALL {
            self.split(split).check().map_err(|source| DataError::Inconsistent {
                path: path.to_owned(),
                split,
                source,
            })?;
        }
        self.check_shapes(path)
    }

    /// Whether the recordings of both splits have the same shape; `path` is the file to name if not.
    pub(crate) fn check_shapes(&self, path: &Path) -> Result<(), DataError> {
        let [train, test] = [&self.train, &self.test].map(|split| [split.contacts, split.samples]);
        if train != test {
            return Err(DataError::SplitsDiffer { path: path.to_owned(), train, test });
        }
        Ok(())
    }
}
