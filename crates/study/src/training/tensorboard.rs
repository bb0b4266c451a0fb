//! The epochs of a training as TensorBoard reads them, beside the table that everything else is drawn from.
//!
//! The format: records of TensorFlow (`tensorflow/core/lib/io/record_writer.h`: length, its checksum, content, its checksum), each an `Event`
//! message (`tensorflow/core/util/event.proto`), the first of which says the version.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use escape_files::write_atomically;
use escape_model::train::EpochResult;

/// Its file; TensorBoard asks for `tfevents` in the name.
pub const EVENTS: &str = "events.out.tfevents.0.escape-snn";

/// Brings the file up to date with a training's epochs. TensorBoard reads on where it stopped, so what is there already stays:
/// the rest is added, to whatever a killed process left of it.
///
/// # Errors
/// The file cannot be read or written.
pub fn write(folder: &Path, judged_on: &str, epochs: &[EpochResult]) -> Result<()> {
    let path = folder.join(EVENTS);
    let there = match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        other => other.with_context(|| format!("{}: cannot be read", path.display()))?,
    };
    let taken: f64 = epochs.iter().map(|epoch| epoch.seconds).sum();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs_f64();
    let whole = records(started(&there).unwrap_or(now - taken), judged_on, epochs);
    let written = match whole.strip_prefix(&there[..]) {
        Some(rest) => {
            OpenOptions::new().create(true).append(true).open(&path).and_then(|mut f| f.write_all(rest))
        }
        // Of another training.
        None => write_atomically(&path, |file| file.write_all(&records(now - taken, judged_on, epochs))),
    };
    written.with_context(|| format!("{}: cannot be written", path.display()))
}

/// Where the time of a file's first event lies: after a record's length and checksum, and the field's key.
const TIME_AT: usize = 8 + 4 + 1;

/// When the training of a file began, in seconds since 1970.
fn started(file: &[u8]) -> Option<f64> {
    let bytes = file.get(TIME_AT..TIME_AT + 8)?;
    Some(f64::from_le_bytes(bytes.try_into().ok()?))
}

fn records(began: f64, judged_on: &str, epochs: &[EpochResult]) -> Vec<u8> {
    let mut file = Vec::new();
    // Field 3 of an event.
    record(&mut file, &event(began, 0, 3, b"brain.Event:2"));
    let mut time = began;
    for e in epochs {
        time += e.seconds;
        let judged = |what: &str, value| (format!("{what}/{judged_on}"), Some(value));
        let values = [
            ("loss/training".to_owned(), e.train_loss),
            ("accuracy/training".to_owned(), e.train_accuracy),
            judged("loss", e.test_loss),
            judged("accuracy", e.test_accuracy),
            judged("balanced accuracy", e.test_balanced_accuracy),
            judged("macro F1", e.test_macro_f1),
        ];
        let mut summary = Vec::new();
        for (tag, value) in values.into_iter().filter_map(|(tag, value)| Some((tag, value?))) {
            // A summary's value: its tag, field 1, and a float32, field 2.
            let mut one = Vec::new();
            field(&mut one, 1, tag.as_bytes());
            one.push(2 << 3 | 5);
            one.extend_from_slice(&(value as f32).to_le_bytes());
            field(&mut summary, 1, &one);
        }
        record(&mut file, &event(time, e.epoch as u64, 5, &summary));
    }
    file
}

/// An event: its time, field 1, a float64; its step, field 2; and what happened.
fn event(time: f64, step: u64, number: u8, what: &[u8]) -> Vec<u8> {
    let mut event = vec![1 << 3 | 1];
    event.extend_from_slice(&time.to_le_bytes());
    if step > 0 {
        event.push(2 << 3);
        varint(&mut event, step);
    }
    field(&mut event, number, what);
    event
}

/// A field of bytes, text or another message.
fn field(message: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    message.push(number << 3 | 2);
    varint(message, bytes.len() as u64);
    message.extend_from_slice(bytes);
}

fn varint(message: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        message.push(number as u8 | 0x80);
        number >>= 7;
    }
    message.push(number as u8);
}

fn record(file: &mut Vec<u8>, content: &[u8]) {
    let length = (content.len() as u64).to_le_bytes();
    for part in [&length[..], content] {
        file.extend_from_slice(part);
        file.extend_from_slice(&checksum(part).to_le_bytes());
    }
}

/// CRC-32C, turned and shifted as the format wants it.
fn checksum(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(epochs: usize) -> Vec<EpochResult> {
        let epoch = |epoch: usize| EpochResult {
            epoch,
            train_loss: (epoch > 0).then_some(0.5),
            train_accuracy: (epoch > 0).then_some(0.25),
            test_loss: 2.0,
            test_accuracy: 0.75,
            test_balanced_accuracy: 0.7,
            test_macro_f1: 0.6,
            seconds: 10.0,
            is_best: true,
        };
        (0..epochs).map(epoch).collect()
    }

    /// The first bytes of every file that TensorFlow writes.
    #[test]
    fn it_begins_as_tensorflows_do() {
        let file = records(1.5, "test", &history(0));
        assert_eq!(file[..12], *b"\x18\0\0\0\0\0\0\0\xa3\x7fK\"");
        assert_eq!(file[12], 9);
        assert_eq!(&file[21..36], b"\x1a\x0dbrain.Event:2");
        assert_eq!((file.len(), started(&file)), (40, Some(1.5)));
        assert_eq!(checksum(b"123456789"), 0xe306_9283u32.rotate_right(15).wrapping_add(0xa282_ead8));
    }

    /// A training of as many epochs as there is a need for lengths and steps of two bytes.
    #[test]
    fn numbers_above_127_take_two_bytes() {
        let mut bytes = Vec::new();
        [0, 127, 128, 300].into_iter().for_each(|n| varint(&mut bytes, n));
        assert_eq!(bytes, [0, 127, 0x80, 1, 0xac, 2]);
    }

    #[test]
    fn what_is_there_stays_and_what_a_kill_cut_off_is_completed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(EVENTS);
        write(folder.path(), "test", &history(1)).unwrap();
        let one = fs::read(&path).unwrap();
        write(folder.path(), "test", &history(3)).unwrap();
        let three = fs::read(&path).unwrap();
        assert!(three.len() > one.len() && three.starts_with(&one));
        for cut in [25, one.len() - 3, one.len() + 7, three.len()] {
            fs::write(&path, &three[..cut]).unwrap();
            write(folder.path(), "test", &history(3)).unwrap();
            assert_eq!(fs::read(&path).unwrap(), three, "{cut}");
        }
        // Another training, or something else altogether.
        for other in [three.clone(), b"something else that is long enough to have a time".to_vec()] {
            fs::write(&path, other).unwrap();
            write(folder.path(), "held-out", &history(2)).unwrap();
            let found = fs::read(&path).unwrap();
            assert!(found.windows(8).any(|w| w == b"held-out") && found.starts_with(&one[..12]));
        }
    }
}
