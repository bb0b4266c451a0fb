//! What a reader should know about a result that its numbers alone do not say; one place for every command.

use escape_network::metrics::Metrics;

/// The notes on how a network did over some recordings; none if there is nothing to remark. `what` names the network
/// or the stage it is in, `class` its classes.
pub fn on_metrics(what: &str, metrics: &Metrics, class: impl Fn(usize) -> String) -> Option<String> {
    if let Some(only) = metrics.only_class_predicted() {
        return Some(format!(
            "note: {what} takes every one of the {} recordings for {}",
            metrics.samples(),
            class(only)
        ));
    }
    let (accuracy, share) = (metrics.accuracy(), metrics.largest_class_share());
    // Of a few recordings that many can be wrong by chance.
    (metrics.samples() >= 30 && share < 1.0 && accuracy <= share).then(|| {
        format!(
            "note: {what}: accuracy {accuracy:.4} is no better than naming the most frequent class of these recordings \
             throughout, which gives {share:.4}"
        )
    })
}

/// A note where fewer calibration recordings were there than asked for.
pub fn on_calibration(asked: usize, there: usize) -> Option<String> {
    (there < asked).then(|| {
        format!("note: calibrated with {there} recordings: there are no more, and {asked} were asked for")
    })
}

/// A note that names layers which fired no spike at all: nothing of the recordings passes them. `spikes` are totals
/// over `samples` recordings, layer by layer; a readout that sums its input instead of spiking is not among them.
pub fn on_silence<'a>(
    what: &str,
    spikes: impl IntoIterator<Item = (&'a str, u64)>,
    samples: usize,
) -> Option<String> {
    let silent: Vec<&str> = spikes.into_iter().filter(|s| s.1 == 0).map(|s| s.0).collect();
    let first = silent.first()?;
    let layers = if silent.len() == 1 { "fires" } else { "fire" };
    Some(format!(
        "note: {what}: {} {layers} no spike on any of {samples} recordings, so nothing of them passes {first}; lower \
         its threshold (`convert --scale`; published preset: `--method rate:0.03` for the timesteps that are simulated), or simulate \
         more timesteps",
        silent.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use escape_network::metrics::Loss;

    fn metrics(pairs: &[(usize, usize, usize)]) -> Metrics {
        let mut metrics = Metrics::default();
        for &(actual, predicted, times) in pairs {
            let mut logits = [0.0f32; 3];
            logits[predicted] = 1.0;
            (0..times).for_each(|_| metrics.add(&logits, actual, Loss::CrossEntropy));
        }
        metrics
    }

    fn name(class: usize) -> String {
        ["rest", "flex", "extend"][class].to_owned()
    }

    #[test]
    fn a_network_that_names_one_class_or_guesses_is_remarked_on() {
        let only = on_metrics("ann", &metrics(&[(0, 2, 5), (2, 2, 5)]), name).unwrap();
        assert_eq!(only, "note: ann takes every one of the 10 recordings for extend");
        let guess =
            on_metrics("ann", &metrics(&[(0, 0, 10), (0, 1, 20), (1, 1, 15), (1, 0, 15)]), name).unwrap();
        assert!(guess.contains("0.4167") && guess.contains("0.5000"), "{guess}");
        assert_eq!(
            on_metrics("ann", &metrics(&[(0, 0, 20), (0, 1, 10), (1, 1, 20), (1, 0, 10)]), name),
            None
        );
        // One class only is all there is to find.
        assert_eq!(on_metrics("ann", &metrics(&[(1, 1, 50)]), name), None);
    }

    #[test]
    fn too_few_recordings_and_silent_layers_are_named() {
        assert_eq!(on_calibration(32, 32), None);
        assert!(on_calibration(64, 16).unwrap().contains("16 recordings"));
        assert_eq!(on_silence("snn", [("conv1", 3), ("conv2", 1)], 4), None);
        let text = on_silence("snn", [("conv1", 3), ("conv2", 0), ("conv3", 0)], 4).unwrap();
        assert!(text.contains("conv2, conv3 fire no spike on any of 4 recordings"), "{text}");
        assert!(text.contains("passes conv2"), "{text}");
    }
}
