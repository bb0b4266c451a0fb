//! What each fuzz target does with its bytes. A target fails by a panic, by hanging, or by taking more memory than
//! the readers promise; what it answers is of no interest.
//!
//! `crates/model/tests/memory.rs` includes this file and runs every seed and regression through its target.

#[path = "../../counting.rs"]
mod counting;

use std::path::Path;

use escape_data::archive::{EXPANSION, SLACK};
use escape_model::checkpoint::{Checkpoint, read_bytes};
use escape_model::identify::Identity;

#[global_allocator]
static ALLOCATOR: counting::Counting = counting::Counting;

/// Runs `work` on an input of so many bytes.
fn bounded<T>(length: usize, work: impl FnOnce() -> T) {
    let (_, peak) = counting::peak_of(work);
    let limit = (length as u64) * EXPANSION + SLACK;
    assert!(
        peak as u64 <= limit,
        "an input of {length} bytes took {peak} bytes of memory, more than {limit}"
    );
}

fn checkpoint(bytes: &[u8]) {
    bounded(bytes.len(), || match read_bytes(Path::new("input"), bytes) {
        Ok(value) => {
            if let Ok(checkpoint) = Checkpoint::from_value(value) {
                let _ = Identity::of(&checkpoint.weights).to_string();
            }
        }
        Err(error) => {
            let _ = error.to_string();
        }
    });
}

/// Name and function of a target.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: [Target; 4] =
    [("pickle", pickle), ("legacy", legacy), ("archive", archive), ("safetensors", safetensors)];

/// A file of the legacy format from its fourth pickle on: the pickle machine without checksums in its way.
pub fn pickle(data: &[u8]) {
    const BEFORE: &[u8] = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}.";
    checkpoint(&[BEFORE, data].concat());
}

/// A whole file of the legacy format.
pub fn legacy(data: &[u8]) {
    checkpoint(data);
}

/// A whole zip archive. The seeds have no checksums, so that changes to their content are seen.
pub fn archive(data: &[u8]) {
    checkpoint(data);
}

/// A whole `.safetensors` file.
pub fn safetensors(data: &[u8]) {
    checkpoint(data);
}
