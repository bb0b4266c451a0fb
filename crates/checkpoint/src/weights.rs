//! The weights of a network of the ESCAPE-NET family in a checkpoint.

use std::path::Path;

use escape_network::arch::{Architecture, CONTACTS, HIDDEN, Layer, SAMPLES, nearest};

use crate::identify::Identity;
use crate::input::KnownInput;
use crate::{Checkpoint, CheckpointError, LoadReport, TensorData, match_weights};

/// The member of the family whose names a checkpoint has; where none fits, the nearest one, so that the
/// load report has something to compare with.
pub fn detect(checkpoint: &Checkpoint) -> Architecture {
    let names = || checkpoint.weights.iter().map(|w| w.0.as_str());
    Architecture::detect(names()).unwrap_or_else(|| {
        let found: Vec<_> =
            checkpoint.weights.iter().map(|(n, t)| (n.as_str(), t.shape.as_slice())).collect();
        nearest(&found)
    })
}

/// The checkpoint's weights in the network's own order, every key accounted for.
///
/// # Errors
/// Anything but a clean match, with the load report.
pub fn matched_weights(
    checkpoint: &Checkpoint,
    path: &Path,
    arch: Architecture,
    contacts: usize,
    samples: usize,
) -> Result<Vec<(String, TensorData)>, CheckpointError> {
    let known = KnownInput::of(checkpoint);
    let misfit = known.misfit(path, contacts, samples);
    let expected = arch.parameters(contacts, samples);
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
    let report = match_weights(&expected, &checkpoint.weights);
    if let [(name, _, found)] = &report.mismatched[..]
        && report.missing.is_empty()
        && report.unused.is_empty()
        && let Some(takes) = made_for(arch, name, found, contacts, samples)
    {
        if let Some(misfit) = misfit.filter(|_| known.other_reading(contacts, samples)) {
            return Err(CheckpointError::OtherInput(misfit));
        }
        let (path, report) = (path.to_path_buf(), Box::new(report));
        return Err(CheckpointError::OtherRecordings { path, takes, contacts, samples, report });
    }
    let network = format!("the {arch} network for recordings of {contacts} contacts x {samples} samples");
    report.into_result(path, &network, &Identity::of(&checkpoint.weights).to_string())?;
    if let Some(misfit) = misfit {
        return Err(CheckpointError::OtherInput(misfit));
    }
    for (name, data) in &checkpoint.weights {
        if let Some(i) = data.to_f32().iter().position(|v| !v.is_finite()) {
            return Err(CheckpointError::NotFinite { path: path.to_path_buf(), name: name.clone(), at: i });
        }
    }
    Ok(expected
        .iter()
        .filter_map(|(name, _)| checkpoint.weights.iter().find(|w| w.0 == *name).cloned())
        .collect())
}

/// For what recordings a network of the family is, in words, if the weight that does not fit is the one whose shape
/// depends on them: the first linear layer has an input for each channel and pixel that pooling leaves.
fn made_for(
    arch: Architecture,
    name: &str,
    found: &[usize],
    contacts: usize,
    samples: usize,
) -> Option<String> {
    let &[HIDDEN, inputs] = found else { return None };
    // Channels, rows and columns before the first linear layer.
    let pooled = |contacts: usize, samples: usize| {
        let layers = arch.layers(contacts, samples);
        layers.get(arch.convolutions() - 1).map(Layer::pooled)
    };
    let layers = arch.layers(contacts, samples);
    let layer = layers.get(arch.convolutions()).filter(|layer| name == format!("{}.weight", layer.key))?;
    // Pooling drops a remainder, so several shapes give the same number; the usual one is the best guess.
    let shapes = [(CONTACTS, SAMPLES), (contacts, SAMPLES), (CONTACTS, samples)];
    let more = (1..=4096).flat_map(|contacts| [(contacts, SAMPLES), (contacts, samples)]);
    let fits = |&(contacts, samples): &(usize, usize)| {
        pooled(contacts, samples).is_some_and(|(c, h, w)| c * h * w == inputs)
    };
    let shape = shapes.into_iter().chain(more).find(fits);
    Some(
        match shape.and_then(|(contacts, samples)| Some(((contacts, samples), pooled(contacts, samples)?))) {
            Some(((contacts, samples), (c, h, w))) => format!(
                "of {contacts} contacts x {samples} samples ({} has {inputs} inputs = {c} x {h} x {w})",
                layer.key
            ),
            None => format!("of another shape ({} has {inputs} inputs)", layer.key),
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
