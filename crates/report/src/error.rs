//! The errors of this crate: which file, where in it, expected against got, what to do.

use std::io;
use std::path::{Path, PathBuf};

/// Why a report could not be made, or a row not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReportError {
    /// There is no such run.
    #[error("no run at {path}: the folder does not exist; check the path, or run the pipeline first")]
    NoRun {
        /// The folder asked for.
        path: PathBuf,
    },
    /// The folder has nothing that a page could show.
    #[error(
        "{path}: nothing to report on: no table of a run is there (evaluations.csv, activity.csv and so on); make them \
         with `escape-snn run`, `evaluate --out` or `spikes --out`"
    )]
    Nothing {
        /// The folder asked for.
        path: PathBuf,
    },
    /// The page in the folder is not of a run.
    #[error(
        "{path}: this is a page about recordings, as the data commands make it; report in another folder, or replace it with --force"
    )]
    OtherPage {
        /// The page.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("could not {operation} {path}")]
    Io {
        /// The file concerned.
        path: PathBuf,
        /// What was tried, as a verb.
        operation: &'static str,
        /// What the system answered.
        source: io::Error,
    },
    /// A table lacks a column.
    #[error("{path}, line 1: expected the column `{column}`, got the header `{header}`; {remedy}", remedy = REMEDY)]
    MissingColumn {
        /// The table.
        path: PathBuf,
        /// The column it must have.
        column: &'static str,
        /// The header it has.
        header: String,
    },
    /// A value is not what its column holds.
    #[error("{path}, line {line}, column `{column}`: expected {expected}, got `{got}`; {remedy}", remedy = REMEDY)]
    Value {
        /// The table.
        path: PathBuf,
        /// The line, from 1; the header is line 1.
        line: u64,
        /// The column's name.
        column: String,
        /// What the column holds.
        expected: String,
        /// What the file holds.
        got: String,
    },
    /// A line is not a row of the table.
    #[error("{path}, line {line}: expected {expected}, got {got}; {remedy}", remedy = REMEDY)]
    Line {
        /// The table.
        path: PathBuf,
        /// The line, from 1; the header is line 1.
        line: u64,
        /// What a line must be.
        expected: String,
        /// What it is.
        got: String,
    },
    /// The rows to append do not belong to the table in the file.
    #[error("{path} holds another table: expected the header `{expected}`, got `{got}`; move the file away")]
    OtherTable {
        /// The file.
        path: PathBuf,
        /// The header of the rows.
        expected: String,
        /// The header of the file.
        got: String,
    },
    /// The manifest cannot be read.
    #[error("{path}: expected a JSON object, got {got}; write the manifest again or remove it")]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// What is in it.
        got: String,
    },
    /// A style is not one.
    #[error("{path}: key `{key}`: {what}; configs/style.yaml lists every key with its default")]
    Style {
        /// The file.
        path: PathBuf,
        /// The key, with dots; a dot alone is the whole file.
        key: String,
        /// Expected and got.
        what: String,
    },
    /// There is no figure to check.
    #[error(
        "{path}: no figure with its table is there (figures/NAME.csv); make them with `escape-snn report DIR`"
    )]
    NoFigure {
        /// The folder.
        path: PathBuf,
    },
    /// A figure could not be drawn; not the user's doing.
    #[error("could not draw {path}: {what}; please report this")]
    Draw {
        /// The figure's file.
        path: PathBuf,
        /// What went wrong.
        what: String,
    },
}

const REMEDY: &str = "correct the line, or remove the file to leave it out of the report";

impl ReportError {
    /// For `map_err`: what was tried, at which path.
    pub(crate) fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { path: path.to_owned(), operation, source }
    }
}
