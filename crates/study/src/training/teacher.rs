//! Another network to learn from: an ANN, or its logits as a file.
//!
//! Letters: N training recordings, K classes.

use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use escape_checkpoint::{Selection, TensorData, Value};
use escape_data::Recordings;
use escape_model::ann::Ann;
use escape_model::distill::{Distillation, Teacher};
use escape_model::train::evaluate;
use escape_network::metrics::Loss;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::fingerprint;
use crate::folder::Input;
use crate::load::{check_classes, is_spiking, network};
use crate::place::existing;
use crate::session::{Session, usage};

/// Who teaches, and how much it counts.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Teaching {
    /// An ANN's checkpoint, or a file with its logits.
    pub checkpoint: PathBuf,
    /// Its part of the loss, from 0 to 1; see [`Distillation`].
    #[serde(default = "Teaching::share")]
    pub share: f64,
    /// See [`Distillation`].
    #[serde(default = "Teaching::temperature")]
    pub temperature: f64,
}

/// Key of logits, N x K, in a file of them,
const LOGITS: &str = "logits";
/// and of the hash of the first recordings that they are for.
const FIRST: &str = "first_recordings";
/// How many those are, if there are as many.
const TOLD_BY: usize = 64;
/// Recordings at once.
const BATCH: usize = 256;

impl Teaching {
    /// What the teacher counts unless told otherwise.
    pub const fn share() -> f64 {
        0.5
    }

    /// The temperature unless told otherwise.
    pub const fn temperature() -> f64 {
        2.0
    }

    /// What does not fit, in words that a setting's name goes before.
    pub fn problem(&self) -> Option<String> {
        let Self { share, temperature, .. } = *self;
        if !(0.0..=1.0).contains(&share) {
            return Some(format!("share: expected 0 to 1, got {share}"));
        }
        (!(temperature > 0.0 && temperature.is_finite()))
            .then(|| format!("temperature: expected a positive number, got {temperature}"))
    }

    /// By what trainings are told apart.
    ///
    /// # Errors
    /// The file is not there.
    pub fn settings(&self) -> Result<serde_json::Value> {
        let sha256 = Input::of(&existing(&self.checkpoint)?)?.sha256;
        Ok(json!({ "sha256": sha256, "share": self.share, "temperature": self.temperature }))
    }

    /// Opens it for a part of the training split `train`, before a training of a network of so many classes begins.
    ///
    /// # Errors
    /// The file is none of an ANN for such recordings or their logits, or the teacher tells another number of classes apart.
    pub fn open<'a>(
        &self,
        session: &Session,
        train: &'a Recordings,
        part: Range<usize>,
        classes: usize,
    ) -> Result<Opened<'a>> {
        let source = source(session, &self.checkpoint, train, part.end)?;
        let taught = source.classes();
        if taught != classes {
            return Err(usage(format!(
                "{}: expected a teacher that tells {classes} classes apart, as the network does that is to learn, got one for {taught}",
                self.checkpoint.display()
            )));
        }
        let how = Distillation { share: self.share, temperature: self.temperature };
        Ok(Opened { source, train, part, how })
    }
}

/// A teacher that can begin.
pub struct Opened<'a> {
    source: Source,
    train: &'a Recordings,
    part: Range<usize>,
    how: Distillation,
}

impl Opened<'_> {
    /// The teacher of the recordings at these `places` of its part.
    ///
    /// # Errors
    /// The listener asked to stop, or libtorch fails.
    pub fn teacher(self, session: &Session, places: &[usize]) -> Result<Teacher> {
        let classes = self.source.classes();
        let all =
            Teacher { logits: self.source.logits(session, self.train, self.part)?, classes, how: self.how };
        Ok(Teacher { logits: all.of(places), ..all })
    }
}

/// Where logits come from.
enum Source {
    /// A file of them; K.
    Stored(Vec<f32>, usize),
    /// A network.
    Network(Ann),
}

impl Source {
    fn classes(&self) -> usize {
        match self {
            Self::Stored(_, classes) => *classes,
            Self::Network(ann) => ann.network().classes(),
        }
    }

    /// N x K, for a part of a training split.
    fn logits(self, session: &Session, train: &Recordings, part: Range<usize>) -> Result<Vec<f32>> {
        let ann = match self {
            Self::Stored(logits, classes) => {
                return Ok(logits[part.start * classes..part.end * classes].to_vec());
            }
            Self::Network(ann) => ann,
        };
        let classes = ann.network().classes();
        let train = &*train.part(part.start, Some(part.len()));
        let mut progress = session.progress("the teacher", train.len());
        let mut all = Vec::with_capacity(train.len() * classes);
        evaluate(&ann, train, BATCH, Loss::CrossEntropy, &mut |_, logits| {
            all.extend_from_slice(logits);
            progress.tick(logits.len() / classes)
        })?;
        Ok(all)
    }
}

/// For the first `count` recordings of a training split.
fn source(session: &Session, path: &Path, train: &Recordings, count: usize) -> Result<Source> {
    let path = &existing(path)?;
    if let Some((logits, classes)) = stored(path, train, count)? {
        return Ok(Source::Stored(logits, classes));
    }
    let found = network(session, path, &Selection::default())?;
    if is_spiking(&found) {
        return Err(usage(format!(
            "{}: a spiking network; expected the checkpoint of an ANN to learn from, or its logits",
            path.display()
        )));
    }
    let ann = Ann::from_checkpoint(&found, path, train.contacts, train.samples, session.device()?)?;
    check_classes("the teacher", ann.network().classes(), train)?;
    Ok(Source::Network(ann))
}

/// The logits in a file of them, of at least so many recordings; nothing if it holds something else.
fn stored(path: &Path, train: &Recordings, count: usize) -> Result<Option<(Vec<f32>, usize)>> {
    // What is wrong with a network's file is said by its own reader.
    let Ok(value) = escape_checkpoint::read(path) else { return Ok(None) };
    let Some(tensor) = value.get(LOGITS).and_then(Value::as_tensor) else { return Ok(None) };
    let odd = |expected: String, got: String| {
        usage(format!("{}: {LOGITS}: expected {expected}, got {got}", path.display()))
    };
    let [rows, classes] = tensor.shape[..] else {
        return Err(odd("a matrix, recordings x classes".into(), format!("{:?}", tensor.shape)));
    };
    if rows < count {
        return Err(odd(
            format!("a row for each of the first {count} training recordings"),
            format!("{rows} rows"),
        ));
    }
    check_classes("the teacher", classes, train)?;
    let first = value.get(FIRST).and_then(Value::as_str);
    // Of fewer recordings it is not known.
    let known = train.len() >= TOLD_BY.min(rows);
    if first.is_some_and(|first| known && first != told_by(train)) {
        return Err(usage(format!(
            "{}: the logits of other recordings; make them anew from the teacher's checkpoint",
            path.display()
        )));
    }
    let logits = tensor.to_f32();
    if let Some(at) = logits.iter().position(|logit| !logit.is_finite()) {
        return Err(odd("finite numbers".into(), format!("{} for recording {}", logits[at], at / classes)));
    }
    Ok(Some((logits, classes)))
}

/// Whether a file holds logits, not a network.
pub fn holds_logits(path: &Path) -> bool {
    let value = escape_checkpoint::read(path);
    value.is_ok_and(|value| value.get(LOGITS).and_then(Value::as_tensor).is_some())
}

/// The hash of the first recordings.
fn told_by(train: &Recordings) -> String {
    fingerprint(&train.head(TOLD_BY))
}

/// Writes the logits of an ANN for all recordings of a training split into a file, which [`Teaching::checkpoint`] can name: they are
/// computed once for many trainings.
///
/// # Errors
/// The file is none of an ANN for such recordings, the listener asked to stop, or the file cannot be written.
pub fn write(session: &Session, teacher: &Path, train: &Recordings, out: &Path) -> Result<()> {
    let source = source(session, teacher, train, train.len())?;
    let shape = [train.len(), source.classes()];
    let tensor = TensorData::from_f32(&shape, &source.logits(session, train, 0..train.len())?);
    let text = |text: &str| Value::Str(text.to_owned());
    let dictionary = Value::Dict(vec![
        (text(LOGITS), Value::Tensor(Box::new(tensor))),
        (text(FIRST), text(&told_by(train))),
    ]);
    escape_checkpoint::write(out, &dictionary)
        .with_context(|| format!("{}: cannot be written", out.display()))
}
