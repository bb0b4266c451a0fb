//! How long inference and training take on this machine, and where the time goes.
//!
//! Letters: R rounds over the same recordings.

use std::time::{Duration, Instant};

use anyhow::Result;
use escape_data::Recordings;
#[cfg(feature = "libtorch")]
use escape_model::ann::{Ann, to_tensor};
#[cfg(feature = "libtorch")]
use escape_model::device::synchronize;
#[cfg(feature = "libtorch")]
use escape_model::optim::{Rule, Schedule};
use escape_snn_core::engine::{Batch, Engine, Observer};
use escape_snn_core::event::EventError;
#[cfg(feature = "libtorch")]
use escape_stdb::finetune::{FineTuner, Options};
#[cfg(feature = "libtorch")]
use escape_stdb::surrogate::Surrogate;

use crate::engine::AnyEngine;
use crate::load::Simulation;
use crate::session::Session;

/// What is timed.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Recordings together.
    pub batch_size: usize,
    /// R, after one batch to warm up.
    pub rounds: usize,
}

/// What it took.
#[derive(Clone, Debug, PartialEq)]
pub struct Timing {
    /// Milliseconds a recording, of each round.
    pub rounds: Vec<f64>,
    /// Layers, where the time inside is known.
    pub layers: Vec<LayerTime>,
}

/// A layer's share.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerTime {
    /// `conv1` and so on.
    pub name: String,
    /// Of the time that all layers take, 0 to 1.
    pub share: f64,
    /// What a recording costs: synaptic operations of a spiking network, multiply-accumulates of an ANN.
    pub operations: f64,
}

impl Timing {
    /// The median of the rounds, ms a recording; NaN without any.
    pub fn median(&self) -> f64 {
        let mut sorted = self.rounds.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        match sorted.len() {
            0 => f64::NAN,
            n if n % 2 == 1 => sorted[middle],
            _ => (sorted[middle - 1] + sorted[middle]) / 2.0,
        }
    }

    /// The fastest round and the slowest.
    pub fn range(&self) -> (f64, f64) {
        let most = self.rounds.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        (self.rounds.iter().copied().fold(f64::INFINITY, f64::min), most)
    }
}

/// Collects what layers take.
struct Stopwatch(Vec<Duration>);

impl Observer for Stopwatch {
    fn wants_times(&self) -> bool {
        true
    }

    fn spent(&mut self, layer: usize, time: Duration) {
        self.0[layer] += time;
    }
}

impl Stopwatch {
    /// Each layer's share, of which names and operations come in the same order.
    fn layers(self, known: impl Iterator<Item = (String, f64)>) -> Vec<LayerTime> {
        let total: f64 = self.0.iter().map(Duration::as_secs_f64).sum();
        let each = self.0.into_iter().zip(known).map(|(time, (name, operations))| {
            let share = if total > 0.0 { time.as_secs_f64() / total } else { 0.0 };
            LayerTime { name, share, operations }
        });
        each.collect()
    }
}

/// Times an engine.
///
/// # Errors
/// Those of the engine, or the listener asked to stop.
pub fn inference(
    session: &Session,
    engine: &AnyEngine,
    chosen: &Simulation,
    recordings: &Recordings,
    plan: Plan,
) -> Result<Timing> {
    let network = engine.network();
    let mut encoder = network.rules.encoder(chosen.encoding, session.seed);
    let values = plan.batch_size * network.input().count();
    let mut watch = Stopwatch(vec![Duration::ZERO; network.layers.len()]);
    let mut operations = vec![0u64; network.layers.len()];
    let rounds = rounds(session, recordings.len(), plan, |warm_up, done| {
        let batches = recordings.x.chunks(values).enumerate();
        for (b, x) in batches.take(if warm_up { 1 } else { usize::MAX }) {
            let batch = Batch { x, first: b * plan.batch_size };
            // It tells of its last layer when that is done, on whatever device.
            let found = engine.run(batch, &mut encoder, chosen.steps, &mut watch)?;
            for (sum, of_layer) in operations.iter_mut().zip(&found.operations) {
                *sum += of_layer.iter().sum::<u64>();
            }
            done(x.len() * plan.batch_size / values)?;
        }
        if warm_up {
            watch.0.fill(Duration::ZERO);
            operations.fill(0);
        }
        Ok(())
    })?;
    let simulated = (recordings.len() * plan.rounds) as f64;
    let known = network.layers.iter().zip(&operations);
    let layers = watch.layers(known.map(|(l, n)| (l.shape.name.clone(), *n as f64 / simulated)));
    Ok(Timing { rounds, layers })
}

/// Times an ANN.
///
/// # Errors
/// Libtorch's, or the listener asked to stop.
#[cfg(feature = "libtorch")]
pub fn ann(session: &Session, ann: &Ann, recordings: &Recordings, plan: Plan) -> Result<Timing> {
    let network = ann.network();
    let pixels = network.input().count();
    let mut watch = Stopwatch(vec![Duration::ZERO; network.layers().len()]);
    let device = ann.device();
    let rounds = rounds(session, recordings.len(), plan, |warm_up, done| {
        let batches = recordings.x.chunks(plan.batch_size * pixels);
        tch::no_grad(|| -> Result<()> {
            for x in batches.take(if warm_up { 1 } else { usize::MAX }) {
                let count = x.len() / pixels;
                let x = to_tensor(x, &[count, pixels], device)?;
                let mut since = Instant::now();
                let _logits = ann.forward_with(&x, false, |layer, _| {
                    synchronize(device);
                    let now = Instant::now();
                    watch.0[layer] += now - since;
                    since = now;
                    Ok(())
                })?;
                done(count)?;
            }
            Ok(())
        })?;
        if warm_up {
            watch.0.fill(Duration::ZERO);
        }
        Ok(())
    })?;
    let known = network.layers().iter().enumerate();
    let known = known.map(|(i, named)| (named.layer.called(&named.name), network.macs(i) as f64));
    let layers = watch.layers(known);
    Ok(Timing { rounds, layers })
}

/// Times steps of fine-tuning with everything learned, three a round.
///
/// # Errors
/// Libtorch's, or the listener asked to stop.
#[cfg(feature = "libtorch")]
pub fn training(
    session: &Session,
    chosen: Simulation,
    recordings: &Recordings,
    plan: Plan,
) -> Result<Timing> {
    const STEPS: usize = 3;
    let device = session.device()?;
    let options = Options {
        rule: Rule::adam(1e-5),
        batch_size: plan.batch_size,
        steps: chosen.steps,
        encoding: chosen.encoding,
        surrogate: Surrogate::DEFAULT,
        learn_thresholds: false,
        learn_decays: false,
        balance: None,
        shuffle: false,
        schedule: Schedule::Constant,
        temperature: 1.0,
        operations_penalty: 0.0,
        keep_zeros: false,
        seed: session.seed,
    };
    let mut tuner = FineTuner::new(chosen.network, options, device)?;
    let batch: Vec<usize> = (0..plan.batch_size.min(recordings.len())).collect();
    let rounds = rounds(session, STEPS * batch.len(), plan, |warm_up, done| {
        for _ in 0..if warm_up { 1 } else { STEPS } {
            tuner.step(recordings, &batch, 1.0)?;
            synchronize(device);
            done(batch.len())?;
        }
        Ok(())
    })?;
    Ok(Timing { rounds, layers: Vec::new() })
}

/// Times rounds of some work on so many recordings, which tells of those that are done; it is called once before, to warm up.
fn rounds(
    session: &Session,
    recordings: usize,
    plan: Plan,
    mut work: impl FnMut(bool, &mut dyn FnMut(usize) -> Result<()>) -> Result<()>,
) -> Result<Vec<f64>> {
    let mut progress = session.progress("timing", recordings * plan.rounds);
    let mut tick = |count: usize| match progress.tick(count) {
        true => Ok(()),
        false => Err(EventError::Interrupted.into()),
    };
    work(true, &mut |_| tick(0))?;
    let mut times = Vec::new();
    for _ in 0..plan.rounds {
        let start = Instant::now();
        work(false, &mut tick)?;
        times.push(start.elapsed().as_secs_f64() * 1e3 / recordings as f64);
    }
    Ok(times)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_shares() {
        let timing = |rounds: &[f64]| Timing { rounds: rounds.to_vec(), layers: Vec::new() };
        assert_eq!(timing(&[3.0, 1.0, 2.0]).median(), 2.0);
        assert_eq!(timing(&[3.0, 1.0]).median(), 2.0);
        assert!(timing(&[]).median().is_nan());
        assert_eq!(timing(&[3.0, 1.0, 2.0]).range(), (1.0, 3.0));
        let watch = Stopwatch(vec![Duration::from_millis(3), Duration::from_millis(1)]);
        let known = [("a".to_owned(), 5.0), ("b".to_owned(), 6.0)];
        let layers = watch.layers(known.into_iter());
        assert_eq!((layers[0].share, layers[1].share), (0.75, 0.25));
        assert_eq!(layers[1], LayerTime { name: "b".into(), share: 0.25, operations: 6.0 });
    }
}
