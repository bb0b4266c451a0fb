//! The study's formula, kept to the letter so that its figures can be reproduced.

use serde::{Deserialize, Serialize};

use crate::activity::{EnergyError, LayerKind, NetworkActivity, count};
use crate::itemised::{Component, Entry};
use crate::model::ANN;

/// Name of this model in tables.
pub const PUBLISHED: &str = "published";

/// E_MAC of the study in picojoules: the 45 nm int32 multiplication, without its addition (printed as mJ).
pub const PUBLISHED_MAC_PJ: f64 = 3.1;

/// E_AC of the study in picojoules: the 45 nm int32 addition (printed as mJ).
pub const PUBLISHED_AC_PJ: f64 = 0.1;

/// The layers that count, with C_in C_out k^2 H_out W_out of each.
///
/// conv1: 1 * 64 * 8^2 * 56 * 100; conv2: 64 * 64 * 4^2 * 28 * 50; conv3: 64 * 64 * 2^2 * 14 * 25.
pub const PUBLISHED_MACS: [(&str, u64); 3] =
    [("conv1", 64 * 64 * 56 * 100), ("conv2", 64 * 64 * 16 * 28 * 50), ("conv3", 64 * 64 * 4 * 14 * 25)];

/// What the published formula says.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Published {
    /// Energy of the ANN, picojoules per sample.
    pub e_ann_pj: f64,
    /// Energy of the SNN, picojoules per sample.
    pub e_snn_pj: f64,
    /// SNN over ANN.
    pub normalised: f64,
    /// ANN over SNN: "times less energy".
    pub saving: f64,
}

/// The study's energies from the output rates of conv1, conv2 and conv3 (spikes per neuron over the whole
/// simulation): E_ann = sum of MACs * 3.1 pJ, E_snn = sum of MACs * rate * 0.1 pJ.
///
/// ```
/// let model_1 = escape_energy::published(&[0.314, 0.685, 0.542])?;
/// assert!((model_1.saving - 51.0).abs() < 0.1);
/// # Ok::<(), escape_energy::EnergyError>(())
/// ```
///
/// # Errors
/// Not three rates, a rate that is negative or not finite, or all of them zero.
pub fn published(rates: &[f64]) -> Result<Published, EnergyError> {
    if rates.len() != PUBLISHED_MACS.len() {
        return Err(EnergyError::RateCount { expected: PUBLISHED_MACS.len(), got: rates.len() });
    }
    let (mut e_ann_pj, mut e_snn_pj) = (0.0, 0.0);
    for ((layer, macs), &rate) in PUBLISHED_MACS.iter().zip(rates) {
        count(layer, "rate", rate)?;
        e_ann_pj += *macs as f64 * PUBLISHED_MAC_PJ;
        e_snn_pj += *macs as f64 * rate * PUBLISHED_AC_PJ;
    }
    if e_snn_pj == 0.0 {
        return Err(EnergyError::Silent);
    }
    Ok(Published { e_ann_pj, e_snn_pj, normalised: e_snn_pj / e_ann_pj, saving: e_ann_pj / e_snn_pj })
}

/// Whether the formula is about this network: its convolutions are those whose multiplications the study counted.
pub fn is_published(activity: &NetworkActivity) -> bool {
    let convolutions =
        activity.layers.iter().filter(|l| l.kind == LayerKind::Conv).map(|l| (l.layer.as_str(), l.macs));
    convolutions.eq(PUBLISHED_MACS)
}

/// The published formula layer by layer, from an activity: entries of the network [`ANN`] and of `network`.
///
/// # Errors
/// The activity lacks a convolution, or holds counts that cannot be.
pub fn published_entries(network: &str, activity: &NetworkActivity) -> Result<Vec<Entry>, EnergyError> {
    activity.check()?;
    let mut entries = Vec::with_capacity(2 * PUBLISHED_MACS.len());
    for (name, macs) in PUBLISHED_MACS {
        let Some(layer) = activity.layers.iter().find(|l| l.layer == name) else {
            let got = activity.layers.iter().map(|l| l.layer.as_str()).collect::<Vec<_>>().join(", ");
            return Err(EnergyError::MissingLayer { expected: name, got });
        };
        let mut push = |network: &str, component, picojoules| {
            entries.push(Entry {
                model: PUBLISHED.to_owned(),
                network: network.to_owned(),
                layer: name.to_owned(),
                component,
                picojoules,
            });
        };
        push(ANN, Component::MultiplyAccumulate, macs as f64 * PUBLISHED_MAC_PJ);
        push(network, Component::Accumulate, macs as f64 * layer.rate() * PUBLISHED_AC_PJ);
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::activity::examples;

    #[test]
    fn macs_are_the_published_ones() {
        assert_eq!(PUBLISHED_MACS.map(|(_, macs)| macs), [22_937_600, 91_750_400, 5_734_400]);
    }

    #[test]
    fn model_1_saves_51_times() {
        let energy = published(&[0.314, 0.685, 0.542]).unwrap();
        assert!((energy.saving - 51.0).abs() < 0.05, "{}", energy.saving);
        assert!((energy.normalised - 0.0196).abs() < 5e-5, "{}", energy.normalised);
        assert!((energy.e_ann_pj - 373_309_440.0).abs() < 1.0);
    }

    #[test]
    fn model_2_saves_9_times() {
        let energy = published(&[1.055, 3.965, 4.227]).unwrap();
        assert!((energy.saving - 9.06).abs() < 0.01, "{}", energy.saving);
    }

    #[test]
    fn entries_add_up_to_the_formula() {
        let activity = examples::model_1(false);
        let rates: Vec<f64> = activity.layers[..3].iter().map(|l| l.rate()).collect();
        let whole = published(&rates).unwrap();
        let entries = published_entries("snn", &activity).unwrap();
        let sum =
            |name: &str| entries.iter().filter(|e| e.network == name).map(|e| e.picojoules).sum::<f64>();
        assert!((sum("snn") / whole.e_snn_pj - 1.0).abs() < 1e-12);
        assert!((sum(ANN) / whole.e_ann_pj - 1.0).abs() < 1e-12);
    }

    #[test]
    fn wrong_rates_are_refused() {
        assert_eq!(published(&[0.1; 5]), Err(EnergyError::RateCount { expected: 3, got: 5 }));
        assert_eq!(published(&[]), Err(EnergyError::RateCount { expected: 3, got: 0 }));
        assert_eq!(published(&[0.0; 3]), Err(EnergyError::Silent));
        assert!(published(&[0.1, f64::NAN, 0.1]).unwrap_err().to_string().contains("rate of conv2"));
        assert!(published(&[0.1, 0.1, -0.1]).is_err());
        let mut activity = examples::model_1(false);
        activity.layers.remove(1);
        assert!(matches!(
            published_entries("snn", &activity),
            Err(EnergyError::MissingLayer { expected: "conv2", .. })
        ));
    }
}
