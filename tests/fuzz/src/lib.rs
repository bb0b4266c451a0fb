//! What each fuzz target does with its bytes. A target fails by a panic, by hanging, or by taking more memory than
//! the readers promise; what it answers is of no interest.
//!
//! `crates/checkpoint/tests/memory.rs` includes this file and runs every seed and regression through its target.

#[path = "../../counting.rs"]
mod counting;

use std::path::Path;

use escape_checkpoint::identify::Identity;
use escape_checkpoint::{
    Checkpoint, CheckpointError, Contents, Selection, memory_limit, read, read_bytes, write,
};
use escape_data::frames::{FrameFormat, FrameLayout, Frames, Received};
use escape_data::{BadContacts, ReadOptions, Rescale};

#[global_allocator]
static ALLOCATOR: counting::Counting = counting::Counting;

/// Name and function of a target.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: [Target; 11] = [
    ("pickle", pickle),
    ("written", written),
    ("legacy", legacy),
    ("archive", archive),
    ("safetensors", safetensors),
    ("mat", mat),
    ("hdf5", hdf5),
    ("npz", npz),
    ("frames", frames),
    ("description", description),
    ("keras", keras),
];

/// Runs `work` on an input of so many bytes.
fn bounded<T>(length: usize, work: impl FnOnce() -> T) -> T {
    let (result, peak) = counting::peak_of(work);
    let limit = memory_limit(length as u64);
    assert!(
        peak as u64 <= limit,
        "an input of {length} bytes took {peak} bytes of memory, more than {limit}"
    );
    result
}

/// Reads a network's description, and writes what was read so that it comes back the same.
pub fn description(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    bounded(data.len(), || match escape_checkpoint::description::parse("input", text) {
        Ok(network) => {
            let again = escape_checkpoint::description::to_yaml(&network);
            let read = escape_checkpoint::description::parse("again", &again);
            assert_eq!(read.ok().as_ref(), Some(&network));
            let _ = network.stages().map_err(|why| why.to_string());
        }
        Err(error) => drop(error.to_string()),
    });
}

/// Reads a checkpoint; says why it is refused.
pub fn checkpoint(bytes: &[u8]) -> Option<String> {
    bounded(bytes.len(), || match read_bytes(Path::new("input"), bytes) {
        Ok(contents) => {
            match Checkpoint::select(contents, &Selection::default()) {
                Ok((checkpoint, notes)) => {
                    let _ = Identity::of(&checkpoint.weights).to_string();
                    notes.iter().for_each(|note| drop(note.to_string()));
                }
                Err(error) => drop(error.to_string()),
            }
            None
        }
        Err(error) => Some(error.to_string()),
    })
}

/// What a file of the legacy format begins with, up to its fourth pickle.
pub const BEFORE: &[u8] = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}.";

/// A file of the legacy format from its fourth pickle on: the pickle machine without checksums in its way.
pub fn pickle(data: &[u8]) {
    checkpoint(&[BEFORE, data].concat());
}

/// As `pickle`; what could be read must come back from files of both formats that are written.
pub fn written(data: &[u8]) {
    let Ok(Contents { value, .. }) = read_bytes(Path::new("input"), &[BEFORE, data].concat()) else { return };
    // In memory, where there is such a place: a file is flushed before it gets its name.
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let file = |end: &str| folder.join(format!("escape-fuzz-{}.{end}", std::process::id()));
    let (pth, safetensors) = (file("pth"), file("safetensors"));
    if write(&pth, &value).is_ok() {
        same(read(&pth), &value);
    }
    if let Ok(mut checkpoint) = Checkpoint::from_value(value)
        && checkpoint.save(&safetensors).is_ok()
    {
        checkpoint.had_module_prefix = false;
        same(Checkpoint::load(&safetensors), &checkpoint);
    }
}

/// What was read back is what was written, NaN included; but a smaller file may be too small for what is in it.
fn same<T: PartialEq + std::fmt::Debug>(found: Result<T, CheckpointError>, expected: &T) {
    match found {
        Ok(found) if found == *expected => {}
        Ok(found) => assert_eq!(format!("{found:?}"), format!("{expected:?}")),
        Err(CheckpointError::TooLarge { .. }) => {}
        Err(error) => panic!("{error} for {expected:?}"),
    }
}

/// A whole file of the legacy format.
pub fn legacy(data: &[u8]) {
    checkpoint(data);
}

/// A whole zip archive. The seeds have no checksums, so that changes to their content are seen.
pub fn archive(data: &[u8]) {
    checkpoint(data);
}

/// A whole file of recordings of the format that the name says; what is read must be as promised.
fn recordings(name: &str, data: &[u8]) {
    // Every way to read is tried by some lengths.
    let every = |n: usize| data.len().is_multiple_of(n);
    let options = ReadOptions {
        drop_bad: every(2),
        bad_contacts: if every(3) { BadContacts::Mean } else { BadContacts::Refuse },
        axes: if every(5) { "N,S,C".parse().ok() } else { None },
        samples: every(7).then_some(50),
        x: if every(11) { vec!["a.x".to_owned()] } else { Vec::new() },
        y: if every(11) { vec!["a.y".to_owned()] } else { Vec::new() },
        ..ReadOptions::default()
    };
    let (read, peak) = counting::peak_of(|| escape_data::read_bytes(name, data, &options));
    let limit = escape_data::memory_limit(data.len() as u64);
    assert!(
        peak as u64 <= limit,
        "{name} of {} bytes took {peak} bytes of memory, more than {limit}",
        data.len()
    );
    match read {
        Ok((found, notes)) => {
            for split in [&found.train, &found.test] {
                split.check().expect("recordings that fit each other");
                assert!(split.x.iter().all(|v| v.abs() <= 1.0));
            }
            notes.iter().for_each(|note| drop(note.to_string()));
        }
        Err(error) => drop(error.to_string()),
    }
}

/// A MATLAB file of level 5.
pub fn mat(data: &[u8]) {
    recordings("fuzz.mat", data);
}

/// A MATLAB file of level 7.3, which is HDF5.
pub fn hdf5(data: &[u8]) {
    recordings("fuzz_RAW.mat", data);
}

/// A NumPy archive.
pub fn npz(data: &[u8]) {
    recordings("fuzz.npz", data);
}

/// Raw frames, behind a byte each for their format, scaling, contacts and samples: every byte is in a frame, a recording is as
/// promised, and what is none does not keep the next one from being read.
pub fn frames(data: &[u8]) {
    let [format, scaling, contacts, samples, bytes @ ..] = data else { return };
    let layout = FrameLayout {
        format: if format % 2 == 0 { FrameFormat::F32 } else { FrameFormat::I16 },
        scaling: Rescale::ALL[usize::from(*scaling) % 3],
        contacts: usize::from(contacts % 16) + 1,
        samples: usize::from(samples % 16) + 1,
    };
    let count = bytes.len().div_ceil(layout.bytes());
    let mut frames = Frames::new(bytes, layout);
    for _ in 0..count {
        assert_eq!(frames.receive().ok(), Some(Received::Frame));
        match frames.recording() {
            Ok(x) => assert!(x.len() == layout.values() && x.iter().all(|v| v.abs() <= 1.0)),
            Err(error) => drop(error.to_string()),
        }
    }
    assert_eq!(frames.receive().ok(), Some(Received::End));
}

/// A whole `.safetensors` file.
pub fn safetensors(data: &[u8]) {
    checkpoint(data);
}

/// A whole Keras model, of either format.
pub fn keras(data: &[u8]) {
    checkpoint(data);
}
