//! Fine-tunes a spiking network into a folder: `best.pth`, `last.pth`, `finetune.csv`, and the same for TensorBoard.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use escape_checkpoint::Checkpoint;
use escape_checkpoint::input::KnownInput;
use escape_data::Recordings;
use escape_model::ModelError;
use escape_model::optim::{Rule, Schedule};
use escape_model::train::Balance;
use escape_report::rows::{Finetune, Kind, Row};
use escape_snn_core::network::SpikingNetwork;
use escape_snn_core::rules::{Arithmetic, Preset};
use escape_snn_core::stored;
use escape_stdb::bptt;
use escape_stdb::finetune::{FineTuner, Options};
use escape_stdb::surrogate::Surrogate;
use escape_stdb::temperature::{self, Temperature};
use serde::Serialize;
use serde_json::json;

use super::teacher::Teaching;
use super::{Accuracies, Parts, Teller, best_trained, describe, interrupted, known, known_after, parts};
use super::{BEST, LAST, begin, hash_of, no_way_on, tell};
use crate::defaults::{Defaults, EngineName, ScheduleName, SurrogateName};
use crate::load::{self, Simulation, check_classes};
use crate::measure;
use crate::notes;
use crate::session::{Session, usage};

/// The table that grows by a row an epoch.
pub const LOG: &str = Finetune::FILE;

/// What there is to say at the end.
#[derive(Serialize)]
pub struct Finetuned {
    /// Mean loss of every step.
    pub step_losses: Vec<f64>,
    /// The epoch whose network was kept; 0 is the network that was given.
    pub best: Accuracies,
    /// The network that was given.
    pub input: Accuracies,
    /// Whether an epoch was better than it.
    pub improved: bool,
    /// By what `best` and `input` were judged: the `test` split, or recordings `held-out` of the training split.
    pub judged_on: &'static str,
    /// The kept network on the test recordings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test: Option<Accuracies>,
    /// Passes over the training recordings.
    pub epochs: usize,
    /// T.
    pub timesteps: usize,
    /// Its rules.
    pub preset: String,
    /// What the input is.
    pub encoder: String,
    /// What stands in for a spike's derivative.
    pub surrogate: &'static str,
    /// Of the kept network, layer by layer.
    pub thresholds: Vec<f32>,
    /// Decays of the kept network, layer by layer.
    pub leaks: Vec<f32>,
    /// What went wrong meanwhile, in words.
    pub warnings: Vec<String>,
    /// `best.pth`.
    pub checkpoint: PathBuf,
    /// The best of the epochs that were trained, whether it was kept or not.
    #[serde(skip)]
    pub best_trained: f64,
}

/// A fine-tuning with every default filled in.
pub struct Job {
    /// Its name in tables and figures.
    pub name: String,
    /// How; its temperature is left to `temperature`.
    pub options: Options,
    /// Passes over the training recordings.
    pub epochs: usize,
    /// Steps to stop after, of all epochs.
    pub max_steps: Option<usize>,
    /// Training recordings to leave out, the first ones,
    pub skip: usize,
    /// and how many of the others to take, if not all.
    pub samples: Option<usize>,
    /// Recordings a class held out to judge epochs by; 0: the test recordings judge them.
    pub validation: usize,
    /// What the readout is divided by before the loss judges it.
    pub temperature: Temperature,
    /// Another network to learn from.
    pub teacher: Option<Teaching>,
    /// Where it leaves its files.
    pub folder: PathBuf,
    /// Whether to go on where an interrupted one stopped.
    pub resume: bool,
    /// What the network that is given knows of recordings.
    pub given: KnownInput,
    /// What the recordings are that it is trained on.
    pub input: KnownInput,
}

impl Job {
    /// Saves a checkpoint with what the network knows of recordings.
    fn save(&self, mut checkpoint: Checkpoint, path: &Path) -> Result<()> {
        known_after(checkpoint.epoch, Some(&self.given), &self.input).store(&mut checkpoint);
        Ok(checkpoint.save(path)?)
    }
}

/// Refuses an order that cannot be had.
///
/// # Errors
/// Balanced sampling in file order.
pub fn check_order(shuffle: bool, balance: Option<Balance>) -> Result<()> {
    if !shuffle && balance == Some(Balance::Sampling) {
        return Err(usage(
            "balanced sampling draws recordings in an order of its own: leave out --no-shuffle",
        ));
    }
    Ok(())
}

/// Refuses to leave out all of so many training recordings.
///
/// # Errors
/// None would be left.
pub fn check_skip(skip: usize, recordings: usize) -> Result<()> {
    if skip > 0 && skip >= recordings {
        return Err(usage(format!(
            "skip: expected fewer than the {recordings} training recordings there are, got {skip}"
        )));
    }
    Ok(())
}

/// The surrogate of a name; its height follows the preset unless given.
///
/// # Errors
/// A height that cannot be, or one for a surrogate that has none.
pub fn surrogate(name: SurrogateName, gamma: Option<f32>, preset: Preset) -> Result<Surrogate> {
    match (name, gamma) {
        (SurrogateName::Exponential, Some(_)) => {
            Err(usage("gamma is the height of the linear surrogate; leave it out with the exponential one"))
        }
        (SurrogateName::Exponential, None) => Ok(Surrogate::PUBLISHED_EXPONENTIAL),
        (SurrogateName::Linear, None) => Ok(Defaults::of(preset).surrogate),
        (SurrogateName::Linear, Some(gamma)) if gamma > 0.0 && gamma.is_finite() => {
            Ok(Surrogate::Linear { gamma })
        }
        (SurrogateName::Linear, Some(gamma)) => {
            Err(usage(format!("gamma: expected a positive number, got {gamma}")))
        }
    }
}

/// The schedule of a name, otherwise the preset's.
pub fn schedule(name: Option<ScheduleName>, preset: Preset, epochs: usize) -> Schedule {
    name.unwrap_or(Defaults::of(preset).schedule).over(epochs)
}

/// Adam with a step size and penalty that make sense.
///
/// # Errors
/// A learning rate or weight decay that cannot be.
pub fn adam(lr: f64, weight_decay: f64) -> Result<Rule> {
    if !(lr > 0.0 && lr.is_finite() && weight_decay >= 0.0 && weight_decay.is_finite()) {
        return Err(usage(format!(
            "expected a positive learning rate and a weight decay of at least 0, got {lr} and {weight_decay}"
        )));
    }
    let Rule::Adam { lr, betas, eps, .. } = Rule::adam(lr) else { unreachable!("Rule::adam gives Adam") };
    Ok(Rule::Adam { lr, betas, eps, weight_decay })
}

/// Fine-tunes into the job's folder, keeping the best checkpoint; with `tested` the kept network is judged by the test
/// recordings in the end. `train` is the whole training split, of which the job takes its part.
///
/// # Errors
/// Too few recordings, a folder with another training, a checkpoint that cannot be written; where the listener asked to stop,
/// words that say how to go on.
pub fn finetune(
    session: &Session,
    mut job: Job,
    start: Simulation,
    train: &Recordings,
    test: &Recordings,
    tested: bool,
) -> Result<Finetuned> {
    check_skip(job.skip, train.len())?;
    let whole = train;
    let train = &*whole.part(job.skip, job.samples);
    let Parts { train: on, places, judges, judged_on } = parts(session, train, test, job.validation)?;
    let classes = start.network.classes();
    [train, test].into_iter().try_for_each(|split| check_classes("the network", classes, split))?;
    bptt::check(&start.network.rules).map_err(usage)?;
    let taught = job.skip..job.skip + train.len();
    let teacher =
        job.teacher.as_ref().map(|teaching| teaching.open(session, whole, taught, classes)).transpose()?;
    let preset = start.network.rules.preset;
    let Options { steps, encoding, surrogate, .. } = job.options;
    let _held = begin(session, &job.folder, &settings(&job, &start.network, train, test)?, LOG, job.resume)?;
    job.options.temperature = loss_temperature(session, &job, &start, &on)?;
    let (last, best) = (job.folder.join(LAST), job.folder.join(BEST));
    let (contacts, samples) = (train.contacts, train.samples);
    let device = session.device()?;
    let mut warnings = Vec::new();
    let log = |tuner: &FineTuner| tell::<true>(&job.folder, &job.name, judged_on, tuner.history());
    let load = |path: &PathBuf| -> Result<_> {
        let saved = load::checkpoint(path).with_context(|| no_way_on(&job.folder))?;
        let network = stored::load(&saved, path, Some(preset), contacts, samples)?.network;
        Ok((saved, network))
    };
    let mut tuner = if last.exists() {
        let (saved, network) = load(&last)?;
        let tuner = FineTuner::resume(&start.network, network, job.options, device, &saved)?;
        // A process that was killed may have saved an epoch and not told of it.
        log(&tuner)?;
        if let Schedule::Linear { epochs } = job.options.schedule
            && tuner.epoch() > 0
            && epochs > tuner.epoch()
        {
            session.note(format!(
                "{}: goes on after epoch {}; the learning rate falls to 0 over {epochs} epochs in all",
                job.name,
                tuner.epoch()
            ));
        }
        tuner
    } else {
        let described = start.network.network.clone();
        if job.options.keep_zeros {
            session.note(zeros_kept(&job.name, &start.network));
        }
        let mut tuner = FineTuner::new(start.network, job.options, device)?;
        let name = format!("{} before training", job.name);
        let mut teller = Teller::new(session, &name, (0, judges.len()), &mut warnings);
        let (result, found) = match tuner.judge_input(&judges, &mut |event| teller.hear(event)) {
            Err(ModelError::Interrupted) => return Err(interrupted(&last, 0)),
            other => other?,
        };
        drop(teller);
        let firing = preset.rules().firing_layers(found.layers.len());
        let spikes = found.layers[..firing].iter().map(|l| (l.name.as_str(), l.spikes.iter().sum()));
        let silent = notes::on_silence("the network that was given", spikes, judges.len());
        let guessing = notes::on_metrics("the network that was given", &found.last(), |class| {
            described.class_name(class)
        });
        guessing.into_iter().chain(silent).for_each(|note| session.note(note));
        job.save(tuner.checkpoint(false)?, &best)?;
        log(&tuner)?;
        session.note(describe(&job.name, judged_on, &result));
        tuner
    };
    if tuner.epoch() < job.epochs {
        tuner.learn_from(teacher.map(|t| t.teacher(session, &places)).transpose()?);
    }
    while tuner.epoch() < job.epochs {
        let limit = job.max_steps.map(|n| n.saturating_sub(tuner.step_losses().len()));
        if limit == Some(0) {
            break;
        }
        let name = format!("{} epoch {}/{}", job.name, tuner.epoch() + 1, job.epochs);
        let trained = limit.map_or(on.len(), |n| on.len().min(n.saturating_mul(job.options.batch_size)));
        let mut teller = Teller::new(session, &name, (trained, judges.len()), &mut warnings);
        let result = match tuner.run_epoch(&on, &judges, limit, &mut |event| teller.hear(event)) {
            Err(ModelError::Interrupted) => return Err(interrupted(&last, tuner.epoch())),
            other => other?,
        };
        drop(teller);
        // The state first, then what tells of it.
        if result.is_best {
            job.save(tuner.checkpoint(false)?, &best)?;
        }
        job.save(tuner.checkpoint(true)?, &last)?;
        log(&tuner)?;
        session.note(describe(&job.name, judged_on, &result));
    }
    let history = tuner.history();
    let (Some(input), Some(kept), Some(trained)) =
        (history.epochs().first(), history.best(), best_trained(history))
    else {
        return Err(usage("no epoch was trained; give --epochs and --max-steps numbers above 0"));
    };
    let improved = kept.epoch > 0;
    if !improved {
        warnings.push(format!(
            "no epoch was better than the network that was given (accuracy {:.4}, the best epoch {:.4}), which is kept",
            kept.test_accuracy, trained.test_accuracy
        ));
    }
    let (_, network) = load(&best)?;
    let constant =
        |of: fn(&escape_snn_core::network::SpikingLayer) -> f32| network.layers.iter().map(of).collect();
    let (thresholds, leaks) = (constant(|l| l.neuron.threshold()), constant(|l| l.neuron.decay()));
    let test = match (tested, judged_on) {
        (false, _) => None,
        (true, "test") => Some(Accuracies::from(kept)),
        (true, _) if test.is_empty() => {
            session.note("note: there are no test recordings, so the kept network is not tested");
            None
        }
        (true, _) => {
            let kind = (Kind::Finetuned, Some(kept.epoch as u32));
            let chosen = Simulation { network, encoding, steps, engine: EngineName::Auto };
            let batch = job.options.batch_size;
            let measured = measure::snn(session, "the kept network", kind, chosen, &[], test, batch)
                .context("the fine-tuning is complete; --resume tests it again")?;
            measured.notes().iter().for_each(|note| session.note(note));
            let metrics = measured.metrics();
            Some(Accuracies {
                epoch: kept.epoch,
                accuracy: metrics.accuracy(),
                balanced_accuracy: metrics.balanced_accuracy(),
                macro_f1: metrics.macro_f1(),
            })
        }
    };
    Ok(Finetuned {
        step_losses: tuner.step_losses().to_vec(),
        best: Accuracies::from(kept),
        input: Accuracies::from(input),
        improved,
        judged_on,
        test,
        epochs: tuner.epoch(),
        timesteps: steps,
        preset: preset.to_string(),
        encoder: encoding.to_string(),
        surrogate: surrogate.name(),
        thresholds,
        leaks,
        warnings,
        checkpoint: best,
        best_trained: trained.test_accuracy,
    })
}

/// Training recordings that a temperature is fitted over, at most.
const FITTED_OVER: usize = 256;

/// What the readout is divided by in the loss. A function of the network that is given, so that a training which goes on has the same.
fn loss_temperature(session: &Session, job: &Job, start: &Simulation, on: &Recordings) -> Result<f64> {
    if let Temperature::Is(number) = job.temperature {
        return Ok(number);
    }
    let (some, batch) = (on.head(FITTED_OVER), job.options.batch_size);
    let name = format!("{}, for the loss's temperature", job.name);
    let kind = (Kind::Converted, None);
    let network = start.network.clone();
    let found = measure::snn(session, &name, kind, Simulation { network, ..*start }, &[], &some, batch)?;
    let scale = start.network.rules.loss_scale.factor(job.options.steps);
    let judged: Vec<f32> = found.logits().iter().map(|z| z * scale).collect();
    let fitted = temperature::fitted(&judged, &some.y).ok_or_else(|| {
        usage("loss temperature: expected finite readouts, there is one that is none; give a number in place of auto")
    })?;
    session.note(format!(
        "{}: the loss divides the readout by {fitted:.4}, which fits {} of the training recordings",
        job.name,
        some.len()
    ));
    Ok(fitted)
}

/// How many weights stay zero.
fn zeros_kept(name: &str, start: &SpikingNetwork) -> String {
    let weights = || start.layers.iter().flat_map(|l| l.weights.iter());
    match weights().filter(|w| **w == 0.0).count() {
        0 => format!(
            "note: {name}: no weight of the network is 0, so there are none to keep; leave keep_zeros out"
        ),
        zeros => format!("{name}: {zeros} of {} weights are 0 and stay so", weights().count()),
    }
}

/// What a fine-tuning that goes on must share with the one that began. The number of epochs is not among it.
fn settings(
    job: &Job,
    start: &SpikingNetwork,
    train: &Recordings,
    test: &Recordings,
) -> Result<serde_json::Value> {
    let Options { rule, batch_size, steps, encoding, surrogate, .. } = job.options;
    let (lr, weight_decay) = match rule {
        Rule::Adam { lr, weight_decay, .. } | Rule::Sgd { lr, weight_decay, .. } => (lr, weight_decay),
    };
    let constants: Vec<f32> =
        start.layers.iter().flat_map(|l| [l.neuron.threshold(), l.neuron.decay()]).collect();
    let weights = start.layers.iter().map(|l| &l.weights[..]);
    let mut settings = json!({
        "preset": start.rules.preset.to_string(),
        "timesteps": steps,
        "encoder": encoding.to_string(),
        "lr": lr,
        "weight_decay": weight_decay,
        "batch_size": batch_size,
        "schedule": ScheduleName::of(job.options.schedule).to_string(),
        "surrogate": surrogate.name(),
        "gamma": surrogate.height(),
        "learn_threshold": job.options.learn_thresholds,
        "learn_leak": job.options.learn_decays,
        "shuffle": job.options.shuffle,
        "balance": job.options.balance.map(|b| b.to_string()),
        "max_steps": job.max_steps,
        "validation": job.validation,
        "seed": job.options.seed,
        "checkpoint": hash_of(weights.chain([constants.as_slice()])),
        "training": known(train),
        "test": known(test),
    });
    if let Arithmetic::Integer(precision) = start.rules.arithmetic {
        settings["whole_numbers"] =
            json!(format!("{} bits a weight, {} of input", precision.weight_bits(), precision.input_bits()));
    }
    // Only where they are, so that trainings of before can go on.
    if job.options.keep_zeros {
        settings["keep_zeros"] = json!(true);
    }
    if job.options.operations_penalty > 0.0 {
        settings["operations_penalty"] = json!(job.options.operations_penalty);
    }
    if job.temperature != Temperature::default() {
        settings["loss_temperature"] = json!(job.temperature.to_string());
    }
    if let Some(teaching) = &job.teacher {
        settings["teacher"] = teaching.settings()?;
    }
    Ok(settings)
}
