//! Whether the layers of a spiking network still learn, told while it is trained; plain arithmetic, no tensors.

use std::collections::VecDeque;
use std::fmt;

/// Training steps over which a layer is judged: long enough that a few recordings do not make it silent, short enough to
/// save most of an epoch.
pub const WINDOW: usize = 10;
/// Spikes a neuron and timestep below which a layer is as good as silent.
const SILENT: f64 = 1e-6;
/// Spikes a neuron and timestep above which it says the same whatever arrives.
const SATURATED: f64 = 0.95;
/// Share of neurons and timesteps with a surrogate above 0 below which a layer learns nothing to speak of.
const CLOSED: f64 = 1e-3;
/// Factor between the norm of a gradient and its mean over the first [`WINDOW`] steps that is called an explosion.
const EXPLOSION: f64 = 1e3;
/// Factor by which a threshold may leave what it was at the start, either way.
const RANGE: f32 = 10.0;

/// What goes wrong in a layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LayerTrouble {
    /// It hardly fires; spikes a neuron and timestep.
    Silent(f64),
    /// It fires nearly always; spikes a neuron and timestep.
    Saturated(f64),
    /// Hardly a neuron has a surrogate that is not zero; their share, timesteps counted one by one.
    Closed(f64),
    /// No gradient arrives.
    NoGradient,
    /// The gradient is a multiple of what it was at the start.
    Explosion {
        /// Mean norm over the first steps.
        before: f64,
        /// Norm now.
        now: f64,
    },
    /// A learned threshold is far from where it started.
    Threshold {
        /// At the start.
        before: f32,
        /// Now.
        now: f32,
    },
}

/// Tells of a layer by name.
pub struct Told<'a>(pub &'a str, pub LayerTrouble);

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(layer, trouble) = self;
        match trouble {
            LayerTrouble::Silent(rate) => write!(
                f,
                "{layer} has been silent for {WINDOW} steps ({rate:.1e} spikes a neuron and timestep), so that nothing above \
                 it learns; convert with lower thresholds (--scale 0.7; published preset: --method rate:0.03, for the \
                 timesteps that are trained) or give more --timesteps"
            ),
            LayerTrouble::Saturated(rate) => write!(
                f,
                "{layer} has fired {rate:.3} spikes a neuron and timestep for {WINDOW} steps, the same whatever arrives; \
                 convert with higher thresholds (--scale 1.5), or try a smaller --lr"
            ),
            LayerTrouble::Closed(share) => write!(
                f,
                "the surrogate of {layer} has been 0 at all but {:.2} % of its neurons' timesteps for {WINDOW} steps, so \
                 that hardly a gradient passes it; a smaller --lr, or other thresholds (convert --scale), may help",
                100.0 * share
            ),
            LayerTrouble::NoGradient => write!(
                f,
                "no gradient has reached {layer} for {WINDOW} steps (norm 0), so that neither it nor what is below \
                 learns; more --timesteps or lower thresholds (convert --scale 0.7) may help"
            ),
            LayerTrouble::Explosion { before, now } => write!(
                f,
                "the gradient of {layer} explodes, its norm is {now:.2e} after {before:.2e} at the start; a smaller --lr \
                 or --gamma may help"
            ),
            LayerTrouble::Threshold { before, now } => write!(
                f,
                "the threshold of {layer} {}, {now:.4} after {before:.4}; a smaller --lr or --learn-threshold false may \
                 help",
                if now < before { "collapses" } else { "explodes" }
            ),
        }
    }
}

/// One layer in one training step.
#[derive(Clone, Debug)]
pub struct LayerStep {
    /// What it is called.
    pub name: String,
    /// Neurons times timesteps in which they could fire; 0 where nothing is counted.
    pub decisions: u64,
    /// How often they did.
    pub spikes: u64,
    /// How often their surrogate was not 0.
    pub open: u64,
    /// Norm of the gradient of its weights.
    pub gradient: f64,
    /// Threshold at the start.
    pub before: f32,
    /// Threshold now.
    pub now: f32,
}

/// One layer so far.
#[derive(Debug, Default)]
struct Followed {
    window: VecDeque<LayerStep>,
    /// Norms of the first steps.
    first: Vec<f64>,
    told: Vec<std::mem::Discriminant<LayerTrouble>>,
}

/// Follows the layers of a training step by step. Each kind of trouble is told of a layer once.
#[derive(Debug, Default)]
pub struct LayerWatch(Vec<Followed>);

impl LayerWatch {
    /// One training step, the layers in order; returns what is new by the layer's place. Of several silent layers only the
    /// lowest is told of, and of several without a gradient the highest, because the others follow from it; and a gradient that stops where a layer is silent,
    /// saturated or without a surrogate is not told of besides.
    pub fn step(&mut self, layers: Vec<LayerStep>) -> Vec<(usize, LayerTrouble)> {
        self.0.resize_with(layers.len(), Followed::default);
        let mut found = Vec::new();
        for (k, (followed, layer)) in self.0.iter_mut().zip(layers).enumerate() {
            found.extend(followed.step(layer).into_iter().map(|trouble| (k, trouble)));
        }
        let silent = found.iter().position(|f| matches!(f.1, LayerTrouble::Silent(_)));
        let still = found.iter().rposition(|f| f.1 == LayerTrouble::NoGradient);
        let shut = found.iter().any(|f| {
            matches!(f.1, LayerTrouble::Silent(_) | LayerTrouble::Saturated(_) | LayerTrouble::Closed(_))
        });
        let follows = |i: usize, trouble: LayerTrouble| match trouble {
            LayerTrouble::Silent(_) => Some(i) != silent,
            LayerTrouble::Closed(_) => silent.is_some(),
            LayerTrouble::NoGradient => shut || Some(i) != still,
            _ => false,
        };
        for (k, trouble) in &found {
            self.0[*k].told.push(std::mem::discriminant(trouble));
        }
        found.iter().enumerate().filter(|(i, f)| !follows(*i, f.1)).map(|(_, f)| *f).collect()
    }
}

impl Followed {
    /// What is wrong now and was not told before.
    fn step(&mut self, layer: LayerStep) -> Vec<LayerTrouble> {
        let (gradient, before, now) = (layer.gradient, layer.before, layer.now);
        let mut found = Vec::new();
        if self.first.len() < WINDOW {
            self.first.push(gradient);
        } else {
            let before = self.first.iter().sum::<f64>() / WINDOW as f64;
            if before > 0.0 && gradient > EXPLOSION * before {
                found.push(LayerTrouble::Explosion { before, now: gradient });
            }
        }
        if now < before / RANGE || now > before * RANGE {
            found.push(LayerTrouble::Threshold { before, now });
        }
        self.window.push_back(layer);
        if self.window.len() > WINDOW {
            self.window.pop_front();
        }
        if self.window.len() == WINDOW {
            let sum = |of: fn(&LayerStep) -> u64| self.window.iter().map(of).sum::<u64>() as f64;
            let decisions = sum(|l| l.decisions);
            if decisions > 0.0 {
                found.extend(activity(sum(|l| l.spikes) / decisions, sum(|l| l.open) / decisions));
            }
            if self.window.iter().all(|l| l.gradient == 0.0) {
                found.push(LayerTrouble::NoGradient);
            }
        }
        found.retain(|trouble| !self.told.contains(&std::mem::discriminant(trouble)));
        found
    }
}

/// What is wrong with a layer of so many spikes a neuron and timestep, of whose neurons' timesteps this share has a
/// surrogate above 0.
fn activity(rate: f64, open: f64) -> Option<LayerTrouble> {
    match (rate, open) {
        (rate, _) if rate < SILENT => Some(LayerTrouble::Silent(rate)),
        (rate, _) if rate > SATURATED => Some(LayerTrouble::Saturated(rate)),
        (_, open) if open < CLOSED => Some(LayerTrouble::Closed(open)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A healthy layer: 1,000 neurons over 10 timesteps.
    fn layer(name: &str) -> LayerStep {
        LayerStep {
            name: name.into(),
            decisions: 10_000,
            spikes: 800,
            open: 4_000,
            gradient: 0.5,
            before: 1.0,
            now: 1.1,
        }
    }

    /// What a watch says over so many steps, and at which, from 1.
    fn told(steps: usize, of: impl Fn(usize) -> Vec<LayerStep>) -> Vec<(usize, usize, LayerTrouble)> {
        let mut watch = LayerWatch::default();
        let of_step = |step| watch.step(of(step)).into_iter().map(move |(k, trouble)| (step, k, trouble));
        (1..=steps).flat_map(of_step).collect()
    }

    #[test]
    fn healthy_layers_are_not_told_of() {
        assert_eq!(told(100, |_| vec![layer("conv1"), layer("conv2")]), []);
        // Of a readout nothing is counted.
        assert_eq!(told(100, |_| vec![LayerStep { decisions: 0, spikes: 0, open: 0, ..layer("y") }]), []);
        // A quiet batch is no silent layer.
        let quiet = |step| LayerStep { spikes: if step % 5 == 0 { 800 } else { 0 }, ..layer("conv1") };
        assert_eq!(told(100, |step| vec![quiet(step)]), []);
    }

    #[test]
    fn the_lowest_silent_layer_is_told_of_once() {
        let silent = |name| LayerStep { spikes: 0, open: 0, gradient: 0.0, ..layer(name) };
        let found = told(50, |_| vec![layer("conv1"), silent("conv2"), silent("conv3")]);
        assert_eq!(found, [(WINDOW, 1, LayerTrouble::Silent(0.0))]);
        let text = Told("conv2", found[0].2).to_string();
        assert!(
            text.starts_with("conv2 has been silent for 10 steps (0.0e0") && text.contains("--scale 0.7"),
            "{text}"
        );
    }

    #[test]
    fn saturated_layers_and_closed_surrogates_have_their_share_told() {
        let found = told(20, |_| {
            vec![LayerStep { spikes: 9_900, ..layer("a") }, LayerStep { open: 5, ..layer("b") }]
        });
        assert_eq!(
            found,
            [(WINDOW, 0, LayerTrouble::Saturated(0.99)), (WINDOW, 1, LayerTrouble::Closed(0.0005))]
        );
        assert!(Told("a", found[0].2).to_string().contains("a has fired 0.990 spikes"));
        assert!(Told("b", found[1].2).to_string().contains("all but 0.05 %"));
    }

    #[test]
    fn gradients_that_stop_or_explode_are_told_of() {
        let norm = |step: usize| match step {
            0..30 => 0.5,
            30 => 600.0,
            _ => 0.0,
        };
        let found = told(60, |step| vec![LayerStep { gradient: norm(step), ..layer("a") }, layer("b")]);
        let explosion = LayerTrouble::Explosion { before: 0.5, now: 600.0 };
        assert_eq!(found, [(30, 0, explosion), (40, 0, LayerTrouble::NoGradient)]);
        assert!(Told("a", explosion).to_string().contains("norm is 6.00e2 after 5.00e-1"));
        // Where none arrives from the start, the highest such layer is the one.
        let none = |name| LayerStep { gradient: 0.0, ..layer(name) };
        let found = told(20, |_| vec![none("a"), none("b"), layer("c")]);
        assert_eq!(found, [(WINDOW, 1, LayerTrouble::NoGradient)]);
    }

    #[test]
    fn thresholds_that_leave_their_range_are_told_of_once() {
        let found = told(20, |step| {
            vec![
                LayerStep { now: if step > 3 { 0.05 } else { 0.2 }, ..layer("a") },
                LayerStep { now: if step > 5 { 11.0 } else { 9.0 }, ..layer("b") },
            ]
        });
        let threshold = |now| LayerTrouble::Threshold { before: 1.0, now };
        assert_eq!(found, [(4, 0, threshold(0.05)), (6, 1, threshold(11.0))]);
        assert!(Told("a", found[0].2).to_string().contains("of a collapses, 0.0500 after 1.0000"));
        assert!(Told("b", found[1].2).to_string().contains("of b explodes"));
    }
}
