//! Recordings one by one, as raw frames: what a host receives of a converter.
//!
//! A frame is H x W values, little-endian, contact by contact (value i is contact i / W, sample i % W), with nothing before,
//! between or after frames. H contacts, W samples.

use std::fmt;
use std::io::{self, BufWriter, ErrorKind, Read, Write};
use std::path::Path;
use std::str::FromStr;

use escape_files::write_atomically;

use crate::error::DataError;
use crate::options::Rescale;
use crate::range::{ROUNDING, Range, scale};
use crate::recordings::Recordings;

/// What a frame's values are. Written `f32` and `i16`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameFormat {
    /// IEEE 754 single precision.
    F32,
    /// Counts of the converter.
    I16,
}

impl FrameFormat {
    /// The names of its members, which are also how names of files with such frames end.
    pub const NAMES: &'static [&'static str] = &["f32", "i16"];

    /// What a file's name says of it.
    pub fn of_name(path: &Path) -> Option<Self> {
        crate::extension(path).parse().ok()
    }

    /// Bytes of a value.
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => size_of::<f32>(),
            Self::I16 => size_of::<i16>(),
        }
    }
}

impl fmt::Display for FrameFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::I16 => "i16",
        })
    }
}

impl FromStr for FrameFormat {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "f32" => Ok(Self::F32),
            "i16" => Ok(Self::I16),
            _ => Err(format!("expected f32 or i16, got {name}")),
        }
    }
}

/// A count of full scale: `i16` frames that are not scaled are read as shares of it.
const FULL_SCALE: f32 = 32_768.0;

/// How frames are to be understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameLayout {
    /// What the values are.
    pub format: FrameFormat,
    /// Whether each recording is scaled to [-1, 1] on its own, as those of files are; see [`Self::scaled`].
    pub scaling: Rescale,
    /// Contacts (H), at least one.
    pub contacts: usize,
    /// Samples (W), at least one.
    pub samples: usize,
}

impl FrameLayout {
    /// Values of a frame.
    pub fn values(&self) -> usize {
        self.contacts * self.samples
    }

    /// Bytes of a frame.
    pub fn bytes(&self) -> usize {
        self.values() * self.format.bytes()
    }

    /// Whether recordings are scaled one by one. There are no others to look at, so where that is left open, counts are
    /// and floating-point numbers, which must lie within [-1, 1], are not.
    pub fn scaled(&self) -> bool {
        match self.scaling {
            Rescale::Auto => self.format == FrameFormat::I16,
            Rescale::None => false,
            Rescale::PerRecording => true,
        }
    }
}

impl fmt::Display for FrameLayout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { format, contacts, samples, .. } = self;
        write!(f, "{} bytes, {contacts} contacts x {samples} samples of {format}", self.bytes())
    }
}

/// Why a frame is no recording. Counts start at 0.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum FrameError {
    /// The input ended before the frame did.
    #[error(
        "the frame was cut short: expected {layout}, got {got} bytes; send whole frames, or say another --format"
    )]
    Cut {
        /// What it should have been.
        layout: FrameLayout,
        /// Bytes of it that came.
        got: usize,
    },
    /// A value is NaN or infinite.
    #[error("contact {contact}, sample {sample}: expected a finite number, got {value}; check this contact")]
    NotFinite {
        /// Its contact.
        contact: usize,
        /// Its sample.
        sample: usize,
        /// What it is.
        value: f32,
    },
    /// A value that is not scaled lies outside [-1, 1].
    #[error(
        "contact {contact}, sample {sample}: expected a value from -1 to 1, got {value}; scale the recording, or ask for \
         --scaling per-recording"
    )]
    OutOfRange {
        /// Its contact.
        contact: usize,
        /// Its sample.
        sample: usize,
        /// What it is.
        value: f32,
    },
    /// All values are equal.
    #[error("every value is {value}: there is no signal in it; check the cuff and the converter")]
    Constant {
        /// What they are.
        value: f32,
    },
}

/// What came of waiting for a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// There is one, whole or cut short: [`Frames::recording`] has it.
    Frame,
    /// The input ended where a frame did.
    End,
}

/// Reads frames from wherever bytes come from. Its memory is that of one frame.
#[derive(Debug)]
pub struct Frames<R> {
    source: R,
    layout: FrameLayout,
    bytes: Vec<u8>,
    /// Bytes of the frame at hand.
    got: usize,
    values: Vec<f32>,
}

impl<R: Read> Frames<R> {
    /// Frames of a source, which need not be buffered.
    pub fn new(source: R, layout: FrameLayout) -> Self {
        let (bytes, values) = (vec![0; layout.bytes()], vec![0.0; layout.values()]);
        Self { source, layout, bytes, got: 0, values }
    }

    /// How its frames are understood.
    pub fn layout(&self) -> &FrameLayout {
        &self.layout
    }

    /// Waits for the next frame. Its values are not looked at yet, so this returns right when its last byte was read.
    ///
    /// # Errors
    /// The source's own, but for [`ErrorKind::Interrupted`], after which it is asked again.
    pub fn receive(&mut self) -> io::Result<Received> {
        self.got = 0;
        while self.got < self.bytes.len() {
            match self.source.read(&mut self.bytes[self.got..]) {
                Ok(0) if self.got == 0 => return Ok(Received::End),
                Ok(0) => break,
                Ok(more) => self.got += more,
                Err(why) if why.kind() == ErrorKind::Interrupted => {}
                Err(why) => return Err(why),
            }
        }
        Ok(Received::Frame)
    }

    /// The recording in the frame that was received last, H x W values in [-1, 1], checked as those of files are.
    ///
    /// # Errors
    /// Why it is none.
    pub fn recording(&mut self) -> Result<&[f32], FrameError> {
        let (layout, got) = (self.layout, self.got);
        if got < self.bytes.len() {
            return Err(FrameError::Cut { layout, got });
        }
        match layout.format {
            FrameFormat::F32 => {
                let values = self.bytes.as_chunks().0.iter();
                self.values.iter_mut().zip(values).for_each(|(v, b)| *v = f32::from_le_bytes(*b));
            }
            FrameFormat::I16 => {
                let counts = self.bytes.as_chunks().0.iter().map(|b| f32::from(i16::from_le_bytes(*b)));
                let unit = if layout.scaled() { 1.0 } else { FULL_SCALE };
                self.values.iter_mut().zip(counts).for_each(|(v, count)| *v = count / unit);
            }
        }
        let range = Range::of(&self.values);
        let place = |is: fn(f32) -> bool| {
            let at = self.values.iter().position(|v| is(*v)).unwrap_or(0);
            (at / layout.samples, at % layout.samples, self.values[at])
        };
        if !range.is_finite() {
            let (contact, sample, value) = place(|v| !v.is_finite());
            return Err(FrameError::NotFinite { contact, sample, value });
        }
        if range.min == range.max {
            return Err(FrameError::Constant { value: range.min });
        }
        if layout.scaled() {
            scale(&mut self.values, range);
        } else if range.magnitude() > 1.0 + ROUNDING {
            let (contact, sample, value) = place(|v| v.abs() > 1.0 + ROUNDING);
            return Err(FrameError::OutOfRange { contact, sample, value });
        } else {
            self.values.iter_mut().for_each(|v| *v = v.clamp(-1.0, 1.0));
        }
        Ok(&self.values)
    }
}

/// Writes recordings as frames, one after the other; their labels have no place there. Of `i16`, 1 is 32,767 counts.
///
/// The file appears whole or not at all, see [`escape_files::write_atomically`].
///
/// # Errors
/// [`DataError::Io`] when writing fails.
pub fn write_frames(path: &Path, recordings: &Recordings, format: FrameFormat) -> Result<(), DataError> {
    let written = write_atomically(path, |file| {
        let mut out = BufWriter::with_capacity(1 << 20, file);
        for &value in &recordings.x {
            match format {
                FrameFormat::F32 => out.write_all(&value.to_le_bytes())?,
                FrameFormat::I16 => out.write_all(&count(value).to_le_bytes())?,
            }
        }
        out.flush()
    });
    written.map_err(|why| DataError::io(path, "write", why))
}

/// The counts of a value in [-1, 1].
fn count(value: f32) -> i16 {
    (value * f32::from(i16::MAX)).round() as i16
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives one byte at a time, and now and then asks to be asked again.
    struct Dripping<'a>(&'a [u8], bool);

    impl Read for Dripping<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.1 = !self.1;
            if self.1 {
                return Err(ErrorKind::Interrupted.into());
            }
            let one = buffer.len().min(1);
            self.0.read(&mut buffer[..one])
        }
    }

    const LAYOUT: FrameLayout =
        FrameLayout { format: FrameFormat::F32, scaling: Rescale::Auto, contacts: 2, samples: 2 };
    const COUNTS: FrameLayout = FrameLayout { format: FrameFormat::I16, ..LAYOUT };

    fn floats(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|v| v.to_le_bytes()).collect()
    }

    fn counts(values: &[i16]) -> Vec<u8> {
        values.iter().flat_map(|v| v.to_le_bytes()).collect()
    }

    /// What each frame of some bytes is.
    fn all(bytes: &[u8], layout: FrameLayout) -> Vec<Result<Vec<f32>, FrameError>> {
        let mut frames = Frames::new(Dripping(bytes, false), layout);
        let mut found = Vec::new();
        while frames.receive().unwrap() == Received::Frame {
            found.push(frames.recording().map(<[f32]>::to_vec));
        }
        found
    }

    #[test]
    fn frames_follow_each_other_without_anything_between() {
        let found = all(&floats(&[0.5, -1.0, 1.0, 0.0, 0.25, 0.0, -0.25, 0.125]), LAYOUT);
        assert_eq!(found, [Ok(vec![0.5, -1.0, 1.0, 0.0]), Ok(vec![0.25, 0.0, -0.25, 0.125])]);
        assert!(all(&[], LAYOUT).is_empty());
    }

    #[test]
    fn counts_are_scaled_one_recording_at_a_time_unless_told_otherwise() {
        let bytes = counts(&[-300, 100, 500, 100, 0, 1, 2, 4]);
        assert_eq!(all(&bytes, COUNTS), [Ok(vec![-1.0, 0.0, 1.0, 0.0]), Ok(vec![-1.0, -0.5, 0.0, 1.0])]);
        let unscaled = FrameLayout { scaling: Rescale::None, ..COUNTS };
        assert_eq!(
            all(&counts(&[i16::MIN, 0, 16_384, 1]), unscaled),
            [Ok(vec![-1.0, 0.0, 0.5, 1.0 / 32_768.0])]
        );
        let scaled = FrameLayout { scaling: Rescale::PerRecording, ..LAYOUT };
        assert_eq!(all(&floats(&[1.0, 2.0, 3.0, 5.0]), scaled), [Ok(vec![-1.0, -0.5, 0.0, 1.0])]);
    }

    #[test]
    fn a_bad_frame_is_named_and_the_next_one_is_read() {
        let mut bytes =
            floats(&[0.0, 0.0, f32::NAN, 0.0, 0.5, 0.5, 0.5, 0.5, 0.0, 0.0, 0.0, -1.5, 0.0, 0.5, 0.0, 0.0]);
        bytes.extend([1, 2, 3]);
        let found = all(&bytes, LAYOUT);
        let text = |i: usize| found[i].as_ref().unwrap_err().to_string();
        assert!(text(0).contains("contact 1, sample 0") && text(0).contains("NaN"), "{}", text(0));
        assert_eq!(found[1], Err(FrameError::Constant { value: 0.5 }));
        assert_eq!(found[2], Err(FrameError::OutOfRange { contact: 1, sample: 1, value: -1.5 }));
        assert_eq!(found[3], Ok(vec![0.0, 0.5, 0.0, 0.0]));
        assert_eq!(found[4], Err(FrameError::Cut { layout: LAYOUT, got: 3 }));
        assert!(
            text(4).contains("expected 16 bytes, 2 contacts x 2 samples of f32, got 3 bytes"),
            "{}",
            text(4)
        );
    }

    #[test]
    fn rounding_beyond_1_is_clamped() {
        assert_eq!(all(&floats(&[1.000_005, 0.0, -1.000_005, 0.0]), LAYOUT), [Ok(vec![1.0, 0.0, -1.0, 0.0])]);
    }

    #[test]
    fn what_is_written_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let x = vec![-1.0, 1.0, 0.3, -0.2, 0.1, -1.0, 1.0, 0.7];
        let recordings = Recordings { x: x.clone(), y: vec![0, 1], contacts: 2, samples: 2 };
        for (layout, apart) in [(LAYOUT, 0.0), (COUNTS, 1.0 / 65_534.0)] {
            let path = folder.path().join(format!("a.{}", layout.format));
            assert_eq!(FrameFormat::of_name(&path), Some(layout.format));
            write_frames(&path, &recordings, layout.format).unwrap();
            let found: Vec<f32> =
                all(&std::fs::read(&path).unwrap(), layout).into_iter().flat_map(Result::unwrap).collect();
            assert_eq!(found.len(), x.len());
            assert!(found.iter().zip(&x).all(|(a, b)| (a - b).abs() <= apart + 1e-7), "{found:?}");
        }
        assert_eq!("i8".parse::<FrameFormat>(), Err("expected f32 or i16, got i8".into()));
    }

    #[test]
    fn a_source_that_fails_says_why() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(ErrorKind::NotConnected.into())
            }
        }
        let why = Frames::new(Broken, LAYOUT).receive().unwrap_err();
        assert_eq!(why.kind(), ErrorKind::NotConnected);
    }
}
