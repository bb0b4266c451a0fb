//! What a file is, by how it begins.

use std::io::{Read, Seek, SeekFrom};

use escape_data::archive::END;

use super::budget::Budget;
use super::error::Fault;
use super::value::Value;
use super::{Format, archive, legacy, safetensors};

/// Reads a file of any format.
pub(super) fn load(mut input: impl Read + Seek) -> Result<(Format, Value), Fault> {
    let length = input.seek(SeekFrom::End(0)).map_err(Fault::Io)?;
    let mut head = Vec::new();
    input.seek(SeekFrom::Start(0)).map_err(Fault::Io)?;
    (&mut input).take(512).read_to_end(&mut head).map_err(Fault::Io)?;
    let mut budget = Budget::of_file(length);
    if archive::is_archive(&head) {
        Ok((Format::Zip, archive::load(input, &mut budget)?))
    } else if legacy::is_legacy(&head) {
        Ok((Format::Legacy, legacy::load(input, length, &mut budget)?))
    } else if safetensors::is_safetensors(&head) {
        Ok((Format::Safetensors, safetensors::load(input, length, &mut budget)?))
    } else {
        let (looks_like, hint) = sniff(&head);
        Err(Fault::Other { looks_like: looks_like.to_owned(), hint })
    }
}

/// What the first 512 bytes of a file look like, and what to do about it.
fn sniff(head: &[u8]) -> (&'static str, &'static str) {
    const NO_WEIGHTS: &str = "checkpoints are .pth files, data go elsewhere; check the path";
    const AGAIN: &str = "download or copy the file again";
    let text = head.trim_ascii_start();
    let is = |magic: &[u8]| head.starts_with(magic);
    if head.is_empty() {
        ("an empty file", AGAIN)
    } else if is(END) {
        ("an empty zip archive", AGAIN)
    } else if is(b"\x89HDF\r\n\x1a\n") {
        ("an HDF5 file", "export the weights from Keras or h5py as tensors with torch.save")
    } else if is(b"\x93NUMPY") {
        ("a NumPy array (.npy)", NO_WEIGHTS)
    } else if is(b"MATLAB 5.0 MAT-file") {
        ("a MATLAB file", NO_WEIGHTS)
    } else if is(b"\x1f\x8b") {
        ("a gzip file", "unpack it first")
    } else if head.get(257..262) == Some(b"ustar") {
        (
            "a tar archive",
            "unpack it first; if torch.save of PyTorch before 0.1.10 wrote it, re-save it in PyTorch",
        )
    } else if is(b"version https://git-lfs") {
        ("a Git LFS pointer", "fetch the file itself with git lfs pull")
    } else if text.get(..5).is_some_and(|t| [&b"<!doc"[..], b"<html"].contains(&&*t.to_ascii_lowercase())) {
        ("a web page", "download the file itself rather than the page that links to it")
    } else if head.first() == Some(&0x80) && head.get(1).is_some_and(|p| (2..=5).contains(p)) {
        ("a bare pickle", "load it in Python and save it with torch.save")
    } else if text.starts_with(b"{") {
        ("JSON", NO_WEIGHTS)
    } else if head.iter().all(|&b| b == 0) {
        ("zeros", AGAIN)
    } else {
        ("an unknown format", NO_WEIGHTS)
    }
}
