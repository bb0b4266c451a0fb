//! Measures a network over a set of recordings.

use anyhow::Result;
#[cfg(feature = "libtorch")]
use escape_convert::quantised::QuantisedAnn;
use escape_data::Recordings;
#[cfg(feature = "libtorch")]
use escape_model::ann::Ann;
#[cfg(feature = "libtorch")]
use escape_model::work::Counter;
#[cfg(feature = "libtorch")]
use escape_model::{ModelError, train};
#[cfg(feature = "libtorch")]
use escape_network::metrics::Loss;
use escape_network::sequential::Sequential;
#[cfg(feature = "libtorch")]
use escape_network::stage::Stage;
use escape_report::rows::Kind;
use escape_snn_core::encode::{Encoder, Encoding};
use escape_snn_core::engine::{Averaged, Batch, Engine, SpikeRecorder};
use escape_snn_core::evaluate::{Labelled, evaluate};
use escape_snn_core::event::{Event, EventError};
#[cfg(feature = "libtorch")]
use escape_snn_core::integer::Precision;
use escape_snn_core::network::SpikingNetwork;
use escape_snn_core::nonzero::{Nonzero, Tracer};
use rayon::prelude::*;
#[cfg(feature = "libtorch")]
use tch::{Device, Tensor};

use crate::engine::AnyEngine;
use crate::load::{Simulation, check_classes};
use crate::measured::{Findings, Measured, Simulated, Sparse, Traced};
use crate::session::{Progress, Session};

/// Measures an ANN.
///
/// # Errors
/// The listener asked to stop, or libtorch fails.
#[cfg(feature = "libtorch")]
pub fn ann(
    session: &Session,
    network: &str,
    ann: &Ann,
    recordings: &Recordings,
    batch_size: usize,
    loss: Loss,
) -> Result<Measured> {
    let nonzero = |_: usize, stage: &Stage| ann.nonzero(stage.weights_at);
    let counter = Counter::new(ann.network(), ann.device(), nonzero)?;
    let mut forward = |x: &Tensor, counter: &mut Option<Counter>| {
        let Some(counter) = counter else { return ann.forward(x, false) };
        counter.add_before(0, x)?;
        ann.forward_with(x, false, |i, x| counter.add_before(i + 1, x))
    };
    let what =
        Artificial { network, kind: Kind::Ann, of: ann.network(), precision: None, device: ann.device() };
    what.measure(session, &mut forward, counter, recordings, batch_size, loss)
}

/// Measures a quantised ANN.
///
/// # Errors
/// As [`ann`].
#[cfg(feature = "libtorch")]
pub fn quantised(
    session: &Session,
    network: &str,
    ann: &QuantisedAnn,
    recordings: &Recordings,
    batch_size: usize,
    loss: Loss,
) -> Result<Measured> {
    let counter = Counter::new(ann.network(), ann.device(), |k, _| Ok(ann.nonzero(k)))?;
    let mut forward = |x: &Tensor, counter: &mut Option<Counter>| {
        ann.forward(x, |k, x| counter.as_mut().map_or(Ok(()), |counter| counter.add(k, x)))
    };
    let precision = Some(ann.precision());
    let what =
        Artificial { network, kind: Kind::Quantised, of: ann.network(), precision, device: ann.device() };
    what.measure(session, &mut forward, counter, recordings, batch_size, loss)
}

/// Logits of a batch, with what arrives at the layers counted if that is asked for.
#[cfg(feature = "libtorch")]
type Forward<'a> = &'a mut dyn FnMut(&Tensor, &mut Option<Counter>) -> Result<Tensor, ModelError>;

/// An ANN to be measured.
#[cfg(feature = "libtorch")]
struct Artificial<'a> {
    network: &'a str,
    kind: Kind,
    of: &'a Sequential,
    precision: Option<Precision>,
    device: Device,
}

#[cfg(feature = "libtorch")]
impl Artificial<'_> {
    fn measure(
        self,
        session: &Session,
        forward: Forward<'_>,
        mut counter: Option<Counter>,
        recordings: &Recordings,
        batch_size: usize,
        loss: Loss,
    ) -> Result<Measured> {
        let Self { network, kind, of, precision, device } = self;
        let classes = of.classes();
        check_classes(network, classes, recordings)?;
        let mut progress = session.progress(network, recordings.len());
        let mut logits = Vec::with_capacity(recordings.len() * classes);
        let forward = &mut |x: &Tensor| forward(x, &mut counter);
        let metrics =
            train::evaluate_with(forward, device, recordings, batch_size, loss, &mut |_, batch| {
                logits.extend_from_slice(batch);
                progress.tick(batch.len() / classes)
            })?;
        let layers = counter.map(Counter::into_layers).unwrap_or_default();
        Ok(Measured {
            network: network.to_owned(),
            classes: names(of),
            kind,
            epoch: None,
            labels: recordings.y.clone(),
            result: Findings::Artificial { metrics, logits, precision, layers },
        })
    }
}

/// Simulates a spiking network; `also_at` are further numbers of steps at which its accuracy is told, all from one
/// simulation over the most of them.
///
/// # Errors
/// The listener asked to stop, or the engine fails.
pub fn snn(
    session: &Session,
    network: &str,
    (kind, epoch): (Kind, Option<u32>),
    chosen: Simulation,
    also_at: &[usize],
    recordings: &Recordings,
    batch_size: usize,
) -> Result<Measured> {
    let Simulation { network: description, encoding, steps, engine } = chosen;
    check_classes(network, description.classes(), recordings)?;
    let mut moments: Vec<usize> = also_at.iter().copied().chain([steps]).collect();
    moments.sort_unstable();
    moments.dedup();
    let longest = moments.last().copied().unwrap_or(steps);
    let rules = description.rules;
    let layers = description.layers.iter().map(|l| (l.shape.clone(), f64::from(l.neuron.decay()))).collect();
    let classes = names(&description.network);
    let device = session.device()?;
    let one = |network| AnyEngine::new(engine, network, encoding, device);
    let mut encoder = rules.encoder(encoding, session.seed);
    let mut progress = session.progress(&format!("{network}, T up to {longest}"), recordings.len());
    let labelled = Labelled { x: &recordings.x, y: &recordings.y };
    let told = &mut |n| progress.part(n);
    let (engine, found) = if rules.averaged {
        let engine = Averaged::new(description, one)?;
        (engine.either().to_string(), evaluate(&engine, labelled, &mut encoder, longest, batch_size, told)?)
    } else {
        let engine = one(description)?;
        (engine.to_string(), evaluate(&engine, labelled, &mut encoder, longest, batch_size, told)?)
    };
    let simulated = Simulated { engine, rules, encoding, steps, moments, layers, found, sparse: None };
    Ok(Measured {
        network: network.to_owned(),
        classes,
        kind,
        epoch,
        labels: recordings.y.clone(),
        result: Findings::Spiking(Box::new(simulated)),
    })
}

/// As [`snn`], and counts what zeros leave of the network's work, which tables tell.
///
/// # Errors
/// As [`snn`].
pub fn snn_and_zeros(
    session: &Session,
    network: &str,
    how: (Kind, Option<u32>),
    chosen: Simulation,
    also_at: &[usize],
    recordings: &Recordings,
    batch_size: usize,
) -> Result<Measured> {
    let (description, encoding, steps) = (chosen.network.clone(), chosen.encoding, chosen.steps);
    let mut measured = snn(session, network, how, chosen, also_at, recordings, batch_size)?;
    if let Findings::Spiking(simulated) = &mut measured.result {
        let mut progress = session.progress(&format!("{network}, what is zero"), recordings.len());
        simulated.sparse = sparse(&description, encoding, steps, recordings, &mut *progress)?;
    }
    Ok(measured)
}

/// Neurons times timesteps of the largest network whose spikes are gone through one by one. Of a large one that would take many
/// times as long as its simulation, and by far the most of what it costs is its size.
const TRACED: usize = 1 << 18;

/// What zeros leave of the work of a network that computes in whole numbers and takes the recordings themselves.
fn sparse(
    network: &SpikingNetwork,
    encoding: Encoding,
    steps: usize,
    recordings: &Recordings,
    progress: &mut dyn Progress,
) -> Result<Option<Sparse>> {
    let Some(precision) = network.rules.precision().filter(|_| encoding == Encoding::Direct) else {
        return Ok(None);
    };
    let neurons: usize = network.layers.iter().map(|layer| layer.shape.neurons()).sum();
    if neurons * steps <= TRACED {
        return Ok(traced(network, steps, recordings, progress)?.map(Sparse::Traced));
    }
    let fan_out = network.layers[0].shape.fan_out();
    let of_value = |(value, reached): (&i32, &u32)| if *value == 0 { 0 } else { u64::from(*reached) };
    let of_recording = |i: usize| -> Result<u64> {
        let rounded = precision.round_recording(recordings.get(i));
        Ok(rounded.iter().zip(fan_out.iter().cycle()).map(of_value).sum())
    };
    let macs = of_all(recordings.len(), progress, 0, of_recording, |a, b| a + b)?;
    Ok(Some(Sparse::Values(macs)))
}

/// Goes through every spike; nothing, if the network is not one that events simulate.
fn traced(
    network: &SpikingNetwork,
    steps: usize,
    recordings: &Recordings,
    progress: &mut dyn Progress,
) -> Result<Option<Traced>> {
    // Every engine gives the same spikes; this one takes the least time for one recording.
    let engine = match Event::new(network.clone(), Encoding::Direct) {
        Ok(engine) => engine,
        Err(EventError::Integer(why)) => return Err(why.into()),
        Err(_) => return Ok(None),
    };
    let Some(integer) = engine.integer() else { return Ok(None) };
    let tracer = Tracer::new(integer);
    let of_recording = |i: usize| -> Result<Vec<Nonzero>> {
        let x = recordings.get(i);
        let mut recorder = SpikeRecorder::default();
        engine.run(Batch { x, first: i }, &mut Encoder::Direct, steps, &mut recorder)?;
        Ok(tracer.trace(&integer.precision.round_recording(x), &recorder.into_spikes(), steps))
    };
    let nothing = vec![Nonzero::default(); network.layers.len()];
    let sum = |a: Vec<Nonzero>, b: Vec<Nonzero>| a.into_iter().zip(b).map(|(a, b)| a.and(b)).collect();
    let layers = of_all(recordings.len(), progress, nothing, of_recording, sum)?;
    Ok(Some(Traced { weights: tracer.weights(), layers }))
}

/// Recordings between two looks at whether to stop.
const TOLD: usize = 256;

/// The sum of what is found of each recording.
fn of_all<S: Clone + Send + Sync>(
    recordings: usize,
    progress: &mut dyn Progress,
    nothing: S,
    of_recording: impl Fn(usize) -> Result<S> + Sync,
    sum: impl Fn(S, S) -> S + Sync,
) -> Result<S> {
    let mut all = nothing.clone();
    for first in (0..recordings).step_by(TOLD) {
        let some = first..recordings.min(first + TOLD);
        let told = some.len();
        let found = some.into_par_iter().map(&of_recording);
        all = sum(all, found.try_reduce(|| nothing.clone(), |a, b| Ok(sum(a, b)))?);
        if !progress.tick(told) {
            return Err(EventError::Interrupted.into());
        }
    }
    Ok(all)
}

/// What a network's classes are called.
fn names(network: &Sequential) -> Vec<String> {
    (0..network.classes()).map(|class| network.class_name(class)).collect()
}
