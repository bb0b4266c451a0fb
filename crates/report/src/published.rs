//! What the published study reports, for comparison beside a run's own numbers.

use crate::rows::{Evaluation, Kind};

/// The preset of its rules.
pub(crate) const PRESET: &str = "published";

/// Table 1: accuracy of the original ANN.
const ORIGINAL_ANN: f64 = 0.738;
/// Table 1: accuracy of the modified ANN.
const MODIFIED_ANN: f64 = 0.727;
/// Table 1: converted only, T = 300.
const CONVERTED: f64 = 0.713;
/// Table 1: converted and fine-tuned, T = 28.
const FINETUNED: f64 = 0.699;
/// Table 1: energy of the fine-tuned network, relative to the ANN's.
pub(crate) const ENERGY: f64 = 0.0194;

/// Whether the study tells the energy of such a network: only of the one that it fine-tuned for T = 28.
pub(crate) fn has_energy(e: &Evaluation) -> bool {
    e.kind == Kind::Finetuned && e.preset == PRESET && e.timesteps == Some(28)
}

/// Table 1's accuracy of an ANN.
pub(crate) fn ann_accuracy(network: &str) -> f64 {
    if network.contains("original") { ORIGINAL_ANN } else { MODIFIED_ANN }
}

/// Table 1's accuracy for such a network, with its T in words: of ANNs, and of networks by the study's rules.
pub(crate) fn accuracy(e: &Evaluation) -> String {
    match e.kind {
        Kind::Ann => format!("{:.3}", ann_accuracy(&e.network)),
        Kind::Converted if e.preset == PRESET => format!("{CONVERTED:.3} (T = 300)"),
        Kind::Finetuned if e.preset == PRESET => format!("{FINETUNED:.3} (T = 28)"),
        _ => "-".to_owned(),
    }
}

/// Table 2: accuracy of the converted network at T.
pub(crate) const CONVERTED_AT: [(u32, f64); 5] =
    [(50, 0.422), (75, 0.588), (100, 0.6623), (200, 0.711), (300, 0.713)];

/// Table 3: T, converted only, after fine-tuning, best epoch; the better of two entries for one T.
pub(crate) const FINETUNED_AT: [(u32, f64, f64, u32); 10] = [
    (5, 0.274, 0.274, 1),
    (10, 0.273, 0.609, 12),
    (15, 0.280, 0.676, 12),
    (20, 0.277, 0.680, 12),
    (25, 0.279, 0.696, 11),
    (28, 0.283, 0.699, 10),
    (35, 0.306, 0.695, 12),
    (50, 0.422, 0.690, 2),
    (75, 0.588, 0.681, 7),
    (100, 0.662, 0.669, 7),
];

/// Table 3's row for such a network: of the study's rules at one of its T.
pub(crate) fn finetuned(preset: &str, timesteps: Option<u32>) -> Option<&'static (u32, f64, f64, u32)> {
    FINETUNED_AT.iter().find(|row| preset == PRESET && Some(row.0) == timesteps)
}

/// Table 3's other entries for T: after fine-tuning, best epoch.
pub(crate) const FINETUNED_AGAIN: [(u32, f64, u32); 2] = [(25, 0.695, 9), (50, 0.666, 3)];

/// Spikes per neuron at T = 28: layer, model 1, model 2.
pub(crate) const RATES: [(&str, f64, f64); 5] = [
    ("conv1", 0.314, 1.055),
    ("conv2", 0.685, 3.965),
    ("conv3", 0.542, 4.227),
    ("linear1", 2.647, 10.086),
    ("linear2", 2.117, 2.636),
];
