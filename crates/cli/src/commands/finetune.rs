//! `escape-snn finetune`

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use escape_data::{Recordings, Split};
use escape_model::ModelError;
use escape_model::checkpoint::Checkpoint;
use escape_model::input::KnownInput;
use escape_model::optim::Rule;
use escape_report::rows::Finetune;
use escape_snn_core::encode::Encoding;
use escape_snn_core::network::{Preset, SpikingNetwork};
use escape_stdb::finetune::{FineTuner, Options, Schedule};
use escape_stdb::surrogate::Surrogate;
use serde::Serialize;

use super::train::{describe, interrupted};
use super::{Simulation, recordings, simulation};
use crate::args::{FinetuneArgs, ScheduleName, SurrogateName};
use crate::context::{Context, check_folder, usage};
use crate::run_folder::{BEST, EpochLog, LAST, epoch_row};

/// The table that grows by a row an epoch.
const LOG: &str = "finetune.csv";

/// What there is to say at the end.
#[derive(Serialize)]
pub struct Report {
    pub step_losses: Vec<f64>,
    pub best: Best,
    pub epochs: usize,
    pub timesteps: usize,
    pub preset: String,
    pub encoder: String,
    pub surrogate: &'static str,
    pub thresholds: Vec<f32>,
    pub leaks: Vec<f32>,
    pub checkpoint: PathBuf,
}

/// The epoch whose checkpoint was kept.
#[derive(Serialize)]
pub struct Best {
    pub epoch: usize,
    pub accuracy: f64,
}

/// A fine-tuning with every default filled in.
pub struct Job {
    pub name: String,
    pub options: Options,
    pub epochs: usize,
    pub max_steps: Option<usize>,
    pub folder: PathBuf,
    pub resume: bool,
    /// What the network knows of recordings from now on.
    pub input: KnownInput,
}

impl Job {
    /// Saves a checkpoint with what the network knows of recordings.
    fn save(&self, mut checkpoint: Checkpoint, path: &Path) -> Result<()> {
        self.input.store(&mut checkpoint);
        Ok(checkpoint.save(path)?)
    }
}

/// The surrogate of a name; its height follows the preset unless given.
pub fn surrogate(name: SurrogateName, gamma: Option<f32>, preset: Preset) -> Result<Surrogate> {
    let usual = match preset {
        Preset::Published => Surrogate::PUBLISHED_LINEAR,
        Preset::Default => Surrogate::DEFAULT,
    };
    match (name, gamma) {
        (SurrogateName::Exponential, Some(_)) => {
            Err(usage("gamma is the height of the linear surrogate; leave it out with the exponential one"))
        }
        (SurrogateName::Exponential, None) => Ok(Surrogate::PUBLISHED_EXPONENTIAL),
        (SurrogateName::Linear, None) => Ok(usual),
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
    match (name, preset) {
        (Some(ScheduleName::Linear), _) | (None, Preset::Default) => Schedule::Linear { epochs },
        (Some(ScheduleName::Constant), _) | (None, Preset::Published) => Schedule::Constant,
    }
}

/// Adam with a step size and penalty that make sense.
pub fn adam(lr: f64, weight_decay: f64) -> Result<Rule> {
    if !(lr > 0.0 && lr.is_finite() && weight_decay >= 0.0 && weight_decay.is_finite()) {
        return Err(usage(format!(
            "expected a positive learning rate and a weight decay of at least 0, got {lr} and {weight_decay}"
        )));
    }
    let Rule::Adam { lr, betas, eps, .. } = Rule::adam(lr) else { unreachable!("Rule::adam gives Adam") };
    Ok(Rule::Adam { lr, betas, eps, weight_decay })
}

pub fn run(context: &Context, args: FinetuneArgs) -> Result<()> {
    check_folder(&args.out)?;
    if args.epochs == 0 {
        return Err(usage("--epochs: expected at least 1, got 0"));
    }
    let checkpoint = super::network(context, &args.checkpoint, &args.selection)?;
    let from = (&checkpoint, args.checkpoint.as_path());
    let reading = args.reading.options();
    let (train, origin) = recordings(context, &args.data, &reading, Split::Train, args.limit, from)?;
    let (test, _) = recordings(context, &args.data, &reading, Split::Test, args.limit, from)?;
    let chosen = simulation(context, &checkpoint, &args.checkpoint, &args.simulation, &train)?;
    let preset = chosen.network.preset;
    let by_default = preset == Preset::Default;
    let options = Options {
        rule: adam(args.lr, args.weight_decay)?,
        batch_size: args.batch_size as usize,
        steps: chosen.steps,
        encoding: chosen.encoding,
        surrogate: surrogate(args.surrogate, args.gamma, preset)?,
        learn_thresholds: args.learn_threshold.unwrap_or(by_default),
        learn_leaks: args.learn_leak.unwrap_or(by_default),
        shuffle: !args.no_shuffle,
        schedule: schedule(args.schedule, preset, args.epochs),
        seed: context.seed,
    };
    let job = Job {
        name: format!("T={}", chosen.steps),
        options,
        epochs: args.epochs,
        max_steps: args.max_steps,
        folder: args.out,
        resume: args.resume,
        input: KnownInput::trained_on_split(&train, &origin),
    };
    let report = finetune(context, job, chosen, &train, &test)?;
    context.result(&report, || {
        format!(
            "best epoch {} of {}: accuracy {:.4} at T = {}\nwritten to {}",
            report.best.epoch,
            report.epochs,
            report.best.accuracy,
            report.timesteps,
            report.checkpoint.display()
        )
    })
}

/// Fine-tunes into the job's folder, keeping the best checkpoint.
pub fn finetune(
    context: &Context,
    job: Job,
    start: Simulation,
    train: &Recordings,
    test: &Recordings,
) -> Result<Report> {
    let (last, best) = (job.folder.join(LAST), job.folder.join(BEST));
    let Options { steps, encoding, surrogate, .. } = job.options;
    let preset = start.network.preset;
    let (contacts, samples) = (train.contacts, train.samples);
    let device = context.device()?;
    let (mut tuner, log) = if job.resume && last.exists() {
        let saved = super::checkpoint(&last)?;
        let network = resumable(&saved, &last, preset, (steps, encoding, surrogate), contacts, samples)?;
        let tuner = FineTuner::resume(network, job.options, device, &saved)?;
        let done = tuner.epoch();
        let log = EpochLog::resume(&job.folder, LOG, |row: &Finetune| {
            row.network != job.name || row.epoch as usize <= done
        })?;
        (tuner, log)
    } else {
        (FineTuner::new(start.network, job.options, device)?, EpochLog::start(context, &job.folder, LOG)?)
    };
    while tuner.epoch() < job.epochs {
        let limit = job.max_steps.map(|n| n.saturating_sub(tuner.step_losses().len()));
        if limit == Some(0) {
            break;
        }
        let name = format!("{} epoch {}/{}", job.name, tuner.epoch() + 1, job.epochs);
        let trained =
            limit.map_or(train.len(), |n| train.len().min(n.saturating_mul(job.options.batch_size)));
        let mut progress = context.progress(&name, trained + test.len());
        let result = match tuner.run_epoch(train, test, limit, &mut |n| progress.tick(n)) {
            Err(ModelError::Interrupted) => return Err(interrupted(&last, tuner.epoch())),
            other => other?,
        };
        drop(progress);
        if result.is_best {
            job.save(tuner.checkpoint(result.test_accuracy, false)?, &best)?;
        }
        log.add(epoch_row!(Finetune, job.name, result))?;
        job.save(tuner.checkpoint(result.test_accuracy, true)?, &last)?;
        context.note(describe(&job.name, &result));
    }
    let (epoch, accuracy) = tuner.best().context("no epoch was trained; give --epochs a number above 0")?;
    let network = tuner.network()?;
    Ok(Report {
        step_losses: tuner.step_losses().to_vec(),
        best: Best { epoch, accuracy },
        epochs: tuner.epoch(),
        timesteps: steps,
        preset: preset.to_string(),
        encoder: encoding.to_string(),
        surrogate: surrogate.name(),
        thresholds: network.layers.iter().map(|l| l.threshold).collect(),
        leaks: network.layers.iter().map(|l| l.leak).collect(),
        checkpoint: best,
    })
}

/// The network to go on with, if it was being trained the way that is asked for now.
fn resumable(
    saved: &Checkpoint,
    path: &Path,
    preset: Preset,
    (steps, encoding, surrogate): (usize, Encoding, Surrogate),
    contacts: usize,
    samples: usize,
) -> Result<SpikingNetwork> {
    let loaded = SpikingNetwork::load(saved, path, None, contacts, samples)?;
    let was = (loaded.network.preset, loaded.timesteps, loaded.encoding, saved.activation.as_deref());
    if was != (preset, Some(steps), encoding, Some(surrogate.activation())) {
        return Err(usage(format!(
            "{}: was trained with other settings (preset {}, T = {}, encoder {}, surrogate {}); resume with the same ones, or choose another folder",
            path.display(),
            was.0,
            was.1.unwrap_or(0),
            was.2,
            was.3.unwrap_or("unknown")
        )));
    }
    Ok(loaded.network)
}
