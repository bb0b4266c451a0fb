//! The weights of a network in a checkpoint.

use std::borrow::Cow;
use std::path::Path;

use escape_network::NetworkError;
use escape_network::arch::{Architecture, CONTACTS, SAMPLES};
use escape_network::family::{Family, nearest};
use escape_network::sequential::{Layer, Sequential};

use crate::description;
use crate::identify::{Identity, of_family};
use crate::input::KnownInput;
use crate::{Checkpoint, CheckpointError, LoadReport, TensorData, match_weights};

/// The member of the family whose names a checkpoint has; where none fits, the nearest one, so that the
/// load report has something to compare with.
fn detect(checkpoint: &Checkpoint) -> Architecture {
    let names = || checkpoint.weights.iter().map(|w| w.0.as_str());
    Architecture::detect(names()).unwrap_or_else(|| {
        let found: Vec<_> =
            checkpoint.weights.iter().map(|(n, t)| (n.as_str(), t.shape.as_slice())).collect();
        nearest(&found)
    })
}

/// The network in a checkpoint: the member of the family that its names and shapes are of, in its own width; where they are
/// of none, the nearest one as published, so that there is something to compare with.
fn family(checkpoint: &Checkpoint) -> Family {
    of_family(&checkpoint.weights).unwrap_or_else(|| Family::published(detect(checkpoint)))
}

/// The network in a checkpoint, for recordings of `contacts` x `samples`: the one it keeps a description of, or the one of the
/// family that its names and shapes are of.
///
/// # Errors
/// A description that is none, or recordings that the network does not take.
pub fn network_of(
    checkpoint: &Checkpoint,
    path: &Path,
    contacts: usize,
    samples: usize,
) -> Result<Sequential, CheckpointError> {
    if let Some(network) = description::stored(checkpoint, path)? {
        let input = network.input();
        let (rows, columns) = input.recording();
        if (rows, columns) != (contacts, samples) {
            return Err(CheckpointError::OtherInput(format!(
                "{}: the network takes recordings of {rows} rows x {columns} columns ({input} channels x rows x columns), but these have \
                 {contacts} contacts x {samples} samples",
                path.display()
            )));
        }
        return Ok(network);
    }
    told(checkpoint, contacts, samples).map_err(|why| CheckpointError::Network {
        path: path.to_path_buf(),
        contacts,
        samples,
        why,
    })
}

/// The network that names and shapes tell.
fn told(checkpoint: &Checkpoint, contacts: usize, samples: usize) -> Result<Sequential, NetworkError> {
    family(checkpoint).network(contacts, samples)
}

/// Keeps a description of `network` in a checkpoint of its weights, unless their names and shapes tell it.
pub fn describe(checkpoint: &mut Checkpoint, network: &Sequential) {
    let (contacts, samples) = network.input().recording();
    if told(checkpoint, contacts, samples).as_ref() != Ok(network) {
        description::store(checkpoint, network);
    }
}

/// The checkpoint's weights in the network's own order, every key accounted for. The number of batches that a batch norm
/// counted is none.
///
/// # Errors
/// Anything but a clean match, with the load report.
pub fn matched_weights<'a>(
    checkpoint: &'a Checkpoint,
    path: &Path,
    network: &Sequential,
) -> Result<Vec<(String, &'a TensorData)>, CheckpointError> {
    let (contacts, samples) = network.input().recording();
    let known = KnownInput::of(checkpoint);
    let family = family(checkpoint);
    // Nothing but a file of the study's is taken to know what it does not say.
    let of_family = family.network(contacts, samples).as_ref() == Ok(network);
    let misfit = known.misfit(path, contacts, samples).filter(|_| of_family || known.shape.is_some());
    let expected: Vec<_> = network.parameters().into_iter().map(|p| (p.name, p.shape)).collect();
    let parameter = |name: &str| expected.iter().any(|(other, _)| other == name);
    if let Some((name, data)) =
        checkpoint.weights.iter().find(|(name, data)| parameter(name) && !data.dtype.is_floating())
    {
        let base = name.rsplit_once('.').map_or(name.as_str(), |(base, _)| base);
        let scales = [format!("{base}.scale"), format!("{base}.weight_scale"), format!("{name}.scale")];
        let scale =
            scales.into_iter().find(|scale| checkpoint.weights.iter().any(|(other, _)| other == scale));
        let (path, name, dtype) = (path.to_path_buf(), name.clone(), data.dtype);
        return Err(CheckpointError::WholeNumbers { path, name, dtype, scale });
    }
    let counter = |name: &str| {
        name.strip_suffix(".num_batches_tracked").is_some_and(|of| {
            network.layers().iter().any(|l| l.name == of && matches!(l.layer, Layer::BatchNorm { .. }))
        })
    };
    let found = match checkpoint.weights.iter().any(|(name, _)| counter(name)) {
        true => Cow::Owned(checkpoint.weights.iter().filter(|(name, _)| !counter(name)).cloned().collect()),
        false => Cow::Borrowed(&checkpoint.weights[..]),
    };
    let report = match_weights(&expected, &found);
    if let [(name, _, shape)] = &report.mismatched[..]
        && report.missing.is_empty()
        && report.unused.is_empty()
        && of_family
        && let Some(takes) = made_for(&family, name, shape, contacts, samples)
    {
        if let Some(misfit) = misfit.filter(|_| known.other_reading(contacts, samples)) {
            return Err(CheckpointError::OtherInput(misfit));
        }
        let (path, report) = (path.to_path_buf(), Box::new(report));
        return Err(CheckpointError::OtherRecordings { path, takes, contacts, samples, report });
    }
    let which =
        if of_family { format!("the {} network", family.arch) } else { "the described network".to_owned() };
    let what = format!("{which} for recordings of {contacts} contacts x {samples} samples");
    report.into_result(path, &what, &Identity::of(&checkpoint.weights).to_string())?;
    if let Some(misfit) = misfit {
        return Err(CheckpointError::OtherInput(misfit));
    }
    for (name, data) in found.iter() {
        if let Some(at) = data.first_not_finite() {
            return Err(CheckpointError::NotFinite { path: path.to_path_buf(), name: name.clone(), at });
        }
    }
    let weight = |name: String| {
        let (_, data) = checkpoint.weights.iter().find(|weight| weight.0 == name)?;
        Some((name, data))
    };
    Ok(expected.into_iter().filter_map(|(name, _)| weight(name)).collect())
}

/// For what recordings a network of the family is, in words, if the weight that does not fit is the one whose shape
/// depends on them: the first linear layer has an input for each channel and pixel that pooling leaves.
fn made_for(family: &Family, name: &str, found: &[usize], contacts: usize, samples: usize) -> Option<String> {
    const FIRST: &str = "classifier.0";
    let &[hidden, inputs] = found else { return None };
    if hidden != family.hidden || name != format!("{FIRST}.weight") {
        return None;
    }
    // Channels, rows and columns before the first linear layer.
    let pooled = |contacts: usize, samples: usize| {
        let network = family.network(contacts, samples).ok()?;
        let flatten = network.layers().iter().position(|l| l.layer == Layer::Flatten)?;
        Some(network.input_of(flatten))
    };
    // Pooling drops a remainder, so several shapes give the same number; the usual one is the best guess.
    let shapes = [(CONTACTS, SAMPLES), (contacts, SAMPLES), (CONTACTS, samples)];
    let more = (1..=4096).flat_map(|contacts| [(contacts, SAMPLES), (contacts, samples)]);
    let fits = |&(contacts, samples): &(usize, usize)| {
        pooled(contacts, samples).is_some_and(|shape| shape.count() == inputs)
    };
    let shape = shapes.into_iter().chain(more).find(fits);
    Some(
        match shape.and_then(|(contacts, samples)| Some(((contacts, samples), pooled(contacts, samples)?))) {
            Some(((contacts, samples), shape)) => {
                format!("of {contacts} contacts x {samples} samples ({FIRST} has {inputs} inputs = {shape})")
            }
            None => format!("of another shape ({FIRST} has {inputs} inputs)"),
        },
    )
}

impl LoadReport {
    /// The report itself if it is clean; `path` is the file to name, `network` and `holds` say in words what was
    /// expected and what is there.
    ///
    /// # Errors
    /// [`CheckpointError::Mismatch`] with the report if it is not.
    pub fn into_result(self, path: &Path, network: &str, holds: &str) -> Result<Self, CheckpointError> {
        if self.is_clean() {
            return Ok(self);
        }
        let (path, report) = (path.to_owned(), Box::new(self));
        Err(CheckpointError::Mismatch { path, network: network.to_owned(), holds: holds.to_owned(), report })
    }
}
