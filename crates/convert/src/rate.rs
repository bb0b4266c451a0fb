//! The threshold at which a layer of neurons that decide before their input arrives fires as often as it should.
//!
//! Under the published rules each layer adds a step of delay. Of T steps, the spikes of a layer that reach the readout are
//! those of T - L + 1 steps, L the number of layers: for T = L a single one. Thresholds from single inputs over many steps
//! then keep every layer silent; a rate over just these steps does not.
//!
//! Letters: T timesteps, n neurons, L layers.

use std::ops::Range;

use escape_snn_core::neuron::{Dynamics, Firing, Neuron, Reset, step_all};

/// Halvings of the range of thresholds, which spans six orders of magnitude: to a millionth of a threshold.
const HALVINGS: usize = 24;

/// The steps in which a spike of layer `layer`, from 0, can still reach the readout, the last of `layers`; none where there
/// are fewer steps than layers.
pub fn heard(layer: usize, layers: usize, steps: usize) -> Range<usize> {
    let first = layer + 1;
    first..first + (steps + 1).saturating_sub(layers)
}

/// The largest threshold at which neurons with these currents (T x n) fire at least `rate` times a step of `window`; where
/// no threshold does that, the rate at the lowest.
///
/// # Errors
/// That rate, which is too low.
pub fn threshold_for(currents: &[Vec<f32>], window: &Range<usize>, rate: f64) -> Result<f32, f64> {
    let (mut largest, mut sums) = (0f32, vec![0f32; currents.first().map_or(0, Vec::len)]);
    for current in &currents[..window.end.saturating_sub(1)] {
        for (sum, &current) in sums.iter_mut().zip(current) {
            *sum += current;
            largest = largest.max(*sum);
        }
    }
    let (mut low, mut high) = (f64::from(largest) * 1e-6, f64::from(largest));
    let reached = rate_at(currents, window, low as f32);
    if reached < rate {
        return Err(reached);
    }
    for _ in 0..HALVINGS {
        let middle = (low * high).sqrt();
        match rate_at(currents, window, middle as f32) >= rate {
            true => low = middle,
            false => high = middle,
        }
    }
    Ok(low as f32)
}

/// How often a neuron fires in a step of `window` at a threshold; 0 at one that no neuron can have.
fn rate_at(currents: &[Vec<f32>], window: &Range<usize>, threshold: f32) -> f64 {
    let Ok(neuron) = Neuron::new(threshold, 1.0) else { return 0.0 };
    let dynamics = Dynamics { neuron, firing: Firing::BeforeInput, reset: Reset::Subtraction };
    let n = currents.first().map_or(0, Vec::len);
    let (mut u, mut spikes) = (vec![0f32; n], vec![0f32; n]);
    let mut fired = 0.0;
    for (t, current) in currents[..window.end].iter().enumerate() {
        step_all(dynamics, &mut u, current, &mut spikes);
        if window.contains(&t) {
            fired += spikes.iter().map(|&s| f64::from(s)).sum::<f64>();
        }
    }
    fired / (window.len() * n).max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_layer_is_heard_for_as_many_steps() {
        assert_eq!((0..4).map(|k| heard(k, 5, 5)).collect::<Vec<_>>(), [1..2, 2..3, 3..4, 4..5]);
        assert_eq!(heard(0, 5, 28), 1..25);
        assert_eq!(heard(3, 5, 28), 4..28);
        assert!(heard(2, 5, 4).is_empty());
    }

    #[test]
    fn the_rate_is_what_was_asked_for() {
        // 100 neurons with currents of 0.01 to 1 a step, from step 1 on; before it nothing has arrived.
        let current: Vec<f32> = (1..=100).map(|i| i as f32 / 100.0).collect();
        let mut currents = vec![vec![0.0; 100]];
        currents.extend(vec![current; 20]);
        // In the one step after the first input the tenth with the largest currents fires.
        let threshold = threshold_for(&currents, &(2..3), 0.1).unwrap();
        assert!((0.9..0.91).contains(&threshold), "{threshold}");
        for (window, rate) in [(2..3, 0.5), (2..20, 0.05), (2..20, 0.4)] {
            let threshold = threshold_for(&currents, &window, rate).unwrap();
            let [at, above] = [1.0, 1.0001].map(|f| rate_at(&currents, &window, threshold * f));
            assert!(at >= rate && above < rate + 1e-9, "{window:?} {rate}: {at}, {above}");
        }
    }

    #[test]
    fn a_rate_that_no_threshold_gives_is_refused_with_the_one_that_there_is() {
        // Half of the neurons receive nothing above 0.
        let currents = vec![vec![1.0, -1.0]; 4];
        assert!(threshold_for(&currents, &(1..4), 0.4).is_ok());
        assert_eq!(threshold_for(&currents, &(1..4), 0.6), Err(0.5));
        assert_eq!(threshold_for(&vec![vec![0.0; 3]; 4], &(1..4), 0.1), Err(0.0));
    }
}
