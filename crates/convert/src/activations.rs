//! Thresholds from the ANN's own activations (Rueckauer et al., "Conversion of continuous-valued deep
//! networks to efficient event-driven networks", Front. Neurosci. 2017, section 2.2.2, robust
//! normalisation), arranged so that spikes stay 0 or 1.
//!
//! A neuron with threshold theta that receives its activation a as a constant current fires a T / theta
//! times in T steps, so its rate times theta approximates a (up to theta, to within theta / 2T when the
//! potential starts at theta / 2). The next layer should receive rate x theta: theta is folded into its
//! weights.

use escape_data::Recordings;
use escape_model::ModelError;
use escape_model::ann::{Ann, to_vec};
use escape_model::train::batch_tensor;
use escape_network::stage::{Op, Stage};
use escape_snn_core::network::{SpikingLayer, SpikingNetwork};
use escape_snn_core::rules::Rules;

use crate::quantile::{Quantiles, Top};
use crate::{Method, set_threshold, skeleton};

/// A spiking network that follows `rules`, each threshold what `method` takes from the layer's activations over the
/// `calibration` recordings. The readout's, which nothing uses, is that of the logits. `tick` hears of recordings done, and
/// stops the work by returning false.
///
/// # Errors
/// The ANN does not convert, a layer whose activations give no threshold above 0, or [`ModelError::Interrupted`].
pub fn convert(
    ann: &Ann,
    calibration: &Recordings,
    rules: Rules,
    method: Method,
    tick: &mut dyn FnMut(usize) -> bool,
) -> Result<SpikingNetwork, ModelError> {
    let mut network = skeleton(ann, rules)?;
    let mut seen = vec![Quantiles::default(); network.layers.len()];
    // Of each channel of a convolution, where that is asked for.
    let mut by_channel: Vec<Vec<Top>> = match method {
        Method::Channels(percent) => {
            network.layers.iter().map(|l| tops(l, percent, calibration.len())).collect()
        }
        _ => vec![Vec::new(); network.layers.len()],
    };
    let indices: Vec<usize> = (0..calibration.len()).collect();
    for batch in indices.chunks(16) {
        let x = batch_tensor(calibration, batch, ann.device())?;
        let _ = tch::no_grad(|| {
            ann.forward_with(&x, false, |i, activations| {
                if let Some(k) = network.layers.iter().position(|l| l.shape.activations_at == i) {
                    let readout = k + 1 == network.layers.len();
                    let activations =
                        if readout { activations.shallow_clone() } else { activations.f_relu()? };
                    let values = to_vec(&activations)?;
                    seen[k].extend(&values);
                    if let Some(tops) = by_channel.get_mut(k).filter(|tops| !tops.is_empty()) {
                        let plane = values.len() / batch.len() / tops.len();
                        for (n, values) in values.chunks_exact(plane).enumerate() {
                            let channels = tops.len();
                            tops[n % channels].extend(values.iter().copied());
                        }
                    }
                }
                Ok(())
            })
        })?;
        if !tick(batch.len()) {
            return Err(ModelError::Interrupted);
        }
    }
    let percent = match method {
        Method::Percentile(p) | Method::Channels(p) => p,
        Method::Max => 100.0,
        Method::Rate(_) | Method::Trained => {
            return Err(ModelError::Data(format!(
                "{method}: not found among activations; expected max, percentile:P or channels:P"
            )));
        }
    };
    let mut amplitudes = vec![1.0f32];
    for ((layer, seen), tops) in network.layers.iter_mut().zip(&seen).zip(by_channel) {
        receive(layer, &amplitudes);
        set_threshold(layer, seen.percentile(percent))?;
        let threshold = layer.neuron.threshold();
        amplitudes = vec![threshold];
        if !tops.is_empty() {
            // Of a channel that hardly ever fires the layer's own: it would say nothing but noise.
            let own = |theta: f32| if theta > FAINTEST * threshold { theta } else { threshold };
            amplitudes = tops.into_iter().map(|top| own(top.value())).collect();
            send(layer, &amplitudes);
        }
    }
    Ok(network)
}

/// The same with thresholds that are known, of each layer but the readout, whose is 1.
///
/// # Errors
/// The ANN does not convert, or thresholds are not as many as its layers or not above 0.
pub fn with_thresholds(ann: &Ann, rules: Rules, thresholds: &[f32]) -> Result<SpikingNetwork, ModelError> {
    let mut network = skeleton(ann, rules)?;
    let firing = network.layers.len() - 1;
    if thresholds.len() != firing {
        let got = thresholds.len();
        return Err(ModelError::Data(format!(
            "expected a threshold for each of the {firing} layers before the last, got {got}"
        )));
    }
    let mut amplitude = 1.0;
    for (layer, theta) in network.layers.iter_mut().zip(thresholds.iter().chain([&1.0])) {
        receive(layer, &[amplitude]);
        set_threshold(layer, *theta)?;
        amplitude = *theta;
    }
    Ok(network)
}

/// A channel whose own threshold would be less than this share of its layer's takes the layer's.
const FAINTEST: f32 = 0.01;

/// What to find of each channel of a convolution's neurons; nothing of the readout and of linear layers, whose neurons have a
/// single value a recording.
fn tops(layer: &SpikingLayer, percent: f64, recordings: usize) -> Vec<Top> {
    let Stage { op, output, .. } = layer.shape;
    match op {
        Op::Conv(_) => vec![Top::new(percent, output.height * output.width * recordings); output.channels],
        Op::Linear => Vec::new(),
    }
}

/// Multiplies a layer's weights by what a spike of each channel of the layer below stands for; one amplitude is that of all.
fn receive(layer: &mut SpikingLayer, amplitudes: &[f32]) {
    let Stage { op, input, output, .. } = layer.shape;
    let row = layer.weights.len() / output.channels;
    // Channels that an output channel receives, and values of each of them.
    let (inputs, each, groups) = match op {
        Op::Conv(conv) => (input.channels / conv.groups, conv.kernel.0 * conv.kernel.1, conv.groups),
        Op::Linear => (amplitudes.len(), row / amplitudes.len(), 1),
    };
    for (o, weights) in layer.weights.chunks_exact_mut(row).enumerate() {
        let first = o / (output.channels / groups) * inputs;
        for (c, weights) in weights.chunks_exact_mut(each).enumerate() {
            let amplitude = if amplitudes.len() == 1 { amplitudes[0] } else { amplitudes[first + c] };
            weights.iter_mut().for_each(|w| *w *= amplitude);
        }
    }
}

/// Gives each output channel a threshold of its own, while the layer keeps its one: its input is scaled instead.
fn send(layer: &mut SpikingLayer, thresholds: &[f32]) {
    let row = layer.weights.len() / layer.shape.output.channels;
    for (o, (weights, own)) in layer.weights.chunks_exact_mut(row).zip(thresholds).enumerate() {
        let factor = layer.neuron.threshold() / own;
        weights.iter_mut().for_each(|w| *w *= factor);
        if let Some(bias) = layer.bias.get_mut(o) {
            *bias *= factor;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use escape_checkpoint::Checkpoint;
    use escape_dense::Dense;
    use escape_model::rounding::{Rounding, RoundingBits, Trained};
    use escape_network::arch::Architecture;
    use escape_network::family::Family;
    use escape_network::rng::Stream;
    use escape_network::sequential::{Conv2d, Layer, Named, Pool, Pooling, Sequential, Shape};
    use escape_snn_core::encode::Encoding;
    use escape_snn_core::engine::{Batch, Engine};
    use escape_snn_core::rules::Preset;
    use tch::Device;

    fn untrained() -> Ann {
        let network = Family::published(Architecture::Modified).network(56, 100).unwrap();
        Ann::new(network, 3, Device::Cpu).unwrap()
    }

    fn recordings(n: usize) -> Recordings {
        let mut random = Stream::new(5, 0);
        let x = (0..n * 5600).map(|_| (random.uniform() * 2.0 - 1.0) as f32).collect();
        Recordings { x, y: vec![0; n], contacts: 56, samples: 100 }
    }

    /// Squared difference between the logits of the ANN and the spiking network's mean readout, relative to the logits.
    fn logit_error(ann: &Ann, r: &Recordings, method: Method, steps: usize) -> f64 {
        logit_error_by(ann, r, Rules::DEFAULT, method, steps)
    }

    fn logit_error_by(ann: &Ann, r: &Recordings, rules: Rules, method: Method, steps: usize) -> f64 {
        let network = convert(ann, r, rules, method, &mut |_| true).unwrap();
        let mut encoder = network.rules.encoder(Encoding::Direct, 0);
        let engine = Dense::new(network, Encoding::Direct, Device::Cpu).unwrap();
        let outcome = engine.run(Batch { x: &r.x, first: 0 }, &mut encoder, steps, &mut ()).unwrap();
        let all: Vec<usize> = (0..r.len()).collect();
        let logits =
            to_vec(&ann.forward(&batch_tensor(r, &all, Device::Cpu).unwrap(), false).unwrap()).unwrap();
        let got = outcome.logits(steps);
        let error =
            got.iter().zip(&logits).map(|(g, w)| f64::from(g / steps as f32 - w).powi(2)).sum::<f64>();
        error / logits.iter().map(|w| f64::from(*w).powi(2)).sum::<f64>()
    }

    /// The paper's equation: weights times the activation of the layer below over that of the layer, thresholds 1. Here a layer
    /// keeps its activation as its threshold instead, in powers of two so that both round alike.
    #[test]
    fn thresholds_are_weight_normalisation_in_other_units() {
        let (ann, r) = (untrained(), recordings(3));
        for preset in [Preset::Toolbox, Preset::ToolboxZero] {
            let mut ours =
                convert(&ann, &r, preset.rules(), Method::Percentile(99.9), &mut |_| true).unwrap();
            let mut theirs = skeleton(&ann, preset.rules()).unwrap();
            let mut below = 1.0;
            for (layer, normalised) in ours.layers.iter_mut().zip(&mut theirs.layers) {
                let exact = layer.neuron.threshold();
                let lambda = exact.log2().round().exp2();
                layer.neuron = layer.neuron.with_threshold(lambda).unwrap();
                // What this layer receives stands for the rounded activation too.
                layer.weights.iter_mut().zip(normalised.weights.iter_mut()).for_each(|(own, w)| {
                    *own = *w * below;
                    *w *= below / lambda;
                });
                below = lambda;
            }
            let run = |network: SpikingNetwork| {
                let mut encoder = network.rules.encoder(Encoding::Direct, 0);
                let engine = Dense::new(network, Encoding::Direct, Device::Cpu).unwrap();
                engine.run(Batch { x: &r.x, first: 0 }, &mut encoder, 20, &mut ()).unwrap()
            };
            let readout = below;
            let (ours, theirs) = (run(ours), run(theirs));
            assert_eq!(ours.spikes, theirs.spikes);
            assert!(ours.spikes.iter().take(4).all(|steps| steps.iter().sum::<u64>() > 0));
            assert!(ours.readout.iter().zip(&theirs.readout).all(|(a, b)| *a == b * readout));
        }
    }

    /// With one layer of neurons nothing is left to lose: of a constant current a neuron sends as many spikes as its activation has levels.
    #[test]
    fn a_network_trained_for_so_many_steps_says_in_them_what_the_ann_says() {
        let average = Layer::Pool(Pool::new(Pooling::Average { count_padding: true }, (2, 2)));
        let layers = [
            Layer::Conv2d(Conv2d { bias: true, ..Conv2d::new(6, (8, 8)) }),
            Layer::Relu,
            average,
            Layer::Flatten,
            Layer::Linear { out: 3, bias: true },
        ];
        let named = |(i, layer): (usize, Layer)| Named { name: format!("n{i}"), layer };
        let layers = layers.into_iter().enumerate().map(named).collect();
        let network = Sequential::new(Shape::new(1, 56, 100), layers, vec![]).unwrap();
        let (ann, r) = (Ann::new(network, 3, Device::Cpu).unwrap(), recordings(4));
        let all: Vec<usize> = (0..r.len()).collect();
        let x = batch_tensor(&r, &all, Device::Cpu).unwrap();
        let square = |values: Vec<f32>| values.into_iter().map(|v| f64::from(v).powi(2)).sum::<f64>();
        for steps in [1, 4, 7] {
            let bits = RoundingBits { bits: 8, input: 10, levels: Some(steps as u32) };
            let mut rounding = Rounding::new(&ann, bits).unwrap();
            let logits = to_vec(&rounding.forward(&ann, &x, false).unwrap()).unwrap();
            let saved = Checkpoint { extra: rounding.entries().unwrap(), ..Checkpoint::default() };
            let thresholds = Trained::of(&saved).unwrap().thresholds;
            let network = with_thresholds(&ann, Rules::DEFAULT, &thresholds).unwrap();
            let mut encoder = network.rules.encoder(Encoding::Direct, 0);
            let engine = Dense::new(network, Encoding::Direct, Device::Cpu).unwrap();
            let outcome = engine.run(Batch { x: &r.x, first: 0 }, &mut encoder, steps, &mut ()).unwrap();
            let off = outcome.logits(steps).iter().zip(&logits).map(|(got, want)| got / steps as f32 - want);
            let error = square(off.collect()) / square(logits.clone());
            assert!(error < 1e-4, "{steps} steps: {error}");
        }
    }

    #[test]
    fn reset_by_subtraction_approaches_the_ann_and_reset_to_zero_less_so() {
        let (ann, r) = (untrained(), recordings(2));
        let error = |preset: Preset| logit_error_by(&ann, &r, preset.rules(), Method::Percentile(99.9), 200);
        let (subtraction, zero) = (error(Preset::Toolbox), error(Preset::ToolboxZero));
        assert!(subtraction < zero, "{subtraction} {zero}");
    }

    #[test]
    fn the_spikes_of_many_steps_say_what_the_ann_says() {
        let (ann, r) = (untrained(), recordings(2));
        for method in
            [Method::Max, Method::Percentile(99.99), Method::Channels(100.0), Method::Channels(99.99)]
        {
            let error = logit_error(&ann, &r, method, 64);
            assert!(error < 0.05, "{method}: {error}");
        }
    }

    #[test]
    fn a_threshold_for_each_channel_changes_the_weights_and_not_what_they_compute() {
        let (ann, r) = (untrained(), recordings(1));
        let [layers, channels] = [Method::Max, Method::Channels(100.0)]
            .map(|method| convert(&ann, &r, Rules::DEFAULT, method, &mut |_| true).unwrap());
        assert_eq!(
            layers.layers.iter().map(|l| l.neuron).collect::<Vec<_>>(),
            channels.layers.iter().map(|l| l.neuron).collect::<Vec<_>>()
        );
        // A channel's input is scaled by one factor, which the next layer takes out again: of every pair of layers the
        // product of weights along a path is the same.
        let (first, second) = (&layers.layers[0], &layers.layers[1]);
        let (scaled, next) = (&channels.layers[0], &channels.layers[1]);
        let mut factors = 0;
        for c in 0..64 {
            let before = first.weights[c * 64] * second.weights[c * 16];
            let after = scaled.weights[c * 64]
                * next.weights[c * 16]
                * next.weights[0].signum()
                * second.weights[0].signum();
            // The second layer's own channel 0 has a factor too, the same for all of its inputs.
            let own = next.weights[0] * scaled.weights[0] / (second.weights[0] * first.weights[0]);
            assert!((after.abs() / before.abs() / own.abs() - 1.0).abs() < 1e-4, "channel {c}");
            factors += usize::from((scaled.weights[c * 64] / first.weights[c * 64] - 1.0).abs() > 0.01);
        }
        assert!(factors > 32, "most channels have thresholds of their own, {factors} had");
    }

    #[test]
    fn the_work_can_be_stopped() {
        let ann = untrained();
        for method in [Method::Channels(99.0), Method::Percentile(99.0), Method::Max] {
            let of = |tick: &mut dyn FnMut(usize) -> bool| {
                convert(&ann, &recordings(1), Rules::DEFAULT, method, tick)
            };
            assert!(matches!(of(&mut |_| false), Err(ModelError::Interrupted)), "{method}");
            let mut heard = 0;
            let count = &mut |recordings| {
                heard += recordings;
                true
            };
            of(count).unwrap();
            assert_eq!(heard, 1, "{method}");
        }
    }
}
