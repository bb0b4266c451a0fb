//! `escape-snn train`

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use escape_data::{Dataset, Origin};
use escape_model::ModelError;
use escape_model::ann::Ann;
use escape_model::arch::Architecture;
use escape_model::checkpoint::Checkpoint;
use escape_model::input::KnownInput;
use escape_model::metrics::Loss;
use escape_model::optim::Rule;
use escape_model::train::{EpochResult, Options, Trainer, evaluate, hold_out};
use escape_report::rows::Training;
use escape_snn_core::network::Preset;
use serde::Serialize;
use tch::Device;

use crate::args::{OptimizerName, TrainArgs};
use crate::context::{Context, check_folder, usage};
use crate::run_folder::{BEST, EpochLog, LAST, epoch_row};

/// The table that grows by a row an epoch.
const LOG: &str = "training.csv";

/// What to train and how, with every default filled in.
#[derive(Clone, Debug)]
pub struct Recipe {
    pub arch: Architecture,
    pub preset: Preset,
    pub rule: Rule,
    pub epochs: usize,
    pub batch_size: usize,
    pub patience: Option<usize>,
    pub validation: usize,
}

impl Recipe {
    /// The study's recipe of a network: Adam 1e-3 in batches of 64 for the modified one, best test accuracy
    /// kept; for the original and its stages SGD, 1e-2 for the first stage and 1e-3 after, batches of 50,
    /// stopped early by 1,000 held-out recordings a class.
    pub fn of(arch: Architecture) -> Self {
        let modified = arch == Architecture::Modified;
        let rule = match arch {
            Architecture::Modified => Rule::adam(1e-3),
            Architecture::Ig1 => Rule::sgd(1e-2),
            Architecture::Ig2 | Architecture::Original => Rule::sgd(1e-3),
        };
        let epochs = if matches!(arch, Architecture::Ig1 | Architecture::Ig2) { 25 } else { 150 };
        Self {
            arch,
            preset: Preset::Default,
            rule,
            epochs,
            batch_size: if modified { 64 } else { 50 },
            patience: (!modified).then_some(15),
            validation: if modified { 0 } else { 1000 },
        }
    }

    /// Replaces rule and settings that were given.
    pub fn with_rule(mut self, name: Option<OptimizerName>, lr: Option<f64>, decay: f64) -> Result<Self> {
        let usual = match self.rule {
            Rule::Adam { lr, .. } | Rule::Sgd { lr, .. } => lr,
        };
        let step = lr.unwrap_or(usual);
        if !(step > 0.0 && step.is_finite() && decay >= 0.0) {
            return Err(usage(format!(
                "expected a positive learning rate and a weight decay of at least 0, got {step} and {decay}"
            )));
        }
        self.rule = match (name, self.rule) {
            (Some(OptimizerName::Adam), _) | (None, Rule::Adam { .. }) => Rule::adam(step),
            (Some(OptimizerName::Sgd), _) | (None, Rule::Sgd { .. }) => Rule::sgd(step),
        };
        match &mut self.rule {
            Rule::Adam { weight_decay, .. } | Rule::Sgd { weight_decay, .. } => *weight_decay = decay,
        }
        Ok(self)
    }
}

#[derive(Serialize)]
struct Report {
    arch: String,
    epochs: usize,
    best_epoch: usize,
    best_accuracy: f64,
    test_accuracy: f64,
    checkpoint: PathBuf,
}

pub fn run(context: &Context, args: TrainArgs) -> Result<()> {
    check_folder(&args.out)?;
    let data = super::dataset(context, &args.data, &args.reading.options())?;
    let device = context.device()?;
    let stages: Vec<Architecture> = if args.incremental {
        vec![Architecture::Ig1, Architecture::Ig2, Architecture::Original]
    } else {
        vec![args.arch]
    };
    let mut trunk = match &args.init {
        Some(path) => {
            let (contacts, samples) = (data.train.contacts, data.train.samples);
            let stage = super::network(context, path, &args.selection)?;
            let origin = Origin { sample_rate_hz: data.sample_rate_hz, nerve: data.nerve };
            super::tell_remarks(context, path, &KnownInput::of(&stage), &origin);
            Some(Ann::from_checkpoint(&stage, path, contacts, samples, device)?)
        }
        None => None,
    };
    let mut reports = Vec::new();
    for arch in stages {
        let mut recipe = Recipe::of(arch).with_rule(args.optimizer, args.lr, args.weight_decay)?;
        recipe.preset = args.preset;
        recipe.epochs = args.epochs.unwrap_or(recipe.epochs);
        recipe.batch_size = args.batch_size.unwrap_or(recipe.batch_size).max(1);
        recipe.patience = args.patience.or(recipe.patience);
        recipe.validation = args.validation.unwrap_or(recipe.validation);
        let folder = if args.incremental { args.out.join(arch.to_string()) } else { args.out.clone() };
        let (trained, report) = train(context, &recipe, &data, &folder, trunk.as_ref(), args.resume, device)?;
        trunk = Some(trained);
        reports.push(report);
    }
    context.result(&reports, || {
        let each = reports.iter().map(|r| {
            format!(
                "{}: best epoch {} of {}, accuracy {:.4}; test accuracy {:.4}; {}",
                r.arch,
                r.best_epoch,
                r.epochs,
                r.best_accuracy,
                r.test_accuracy,
                r.checkpoint.display()
            )
        });
        each.collect::<Vec<_>>().join("\n")
    })
}

/// Trains by a recipe into a folder; returns the best network.
pub fn train_into(
    context: &Context,
    recipe: &Recipe,
    data: &Dataset,
    folder: &Path,
    resume: bool,
) -> Result<PathBuf> {
    train(context, recipe, data, folder, None, resume, context.device()?).map(|(_, report)| report.checkpoint)
}

fn train(
    context: &Context,
    recipe: &Recipe,
    data: &Dataset,
    folder: &Path,
    trunk: Option<&Ann>,
    resume: bool,
    device: Device,
) -> Result<(Ann, Report)> {
    let (contacts, samples) = (data.train.contacts, data.train.samples);
    let (train, held_out) = match recipe.validation {
        0 => (data.train.clone(), data.test.clone()),
        n => hold_out(&data.train, n),
    };
    if train.is_empty() || held_out.is_empty() {
        return Err(usage(
            "training needs recordings to train on and recordings to stop by; the file has too few",
        ));
    }
    let options = Options {
        rule: recipe.rule,
        batch_size: recipe.batch_size,
        loss: match recipe.preset {
            Preset::Published => Loss::SoftmaxCrossEntropy,
            Preset::Default => Loss::CrossEntropy,
        },
        patience: recipe.patience,
        seed: context.seed,
    };
    let (last, best) = (folder.join(LAST), folder.join(BEST));
    let input = KnownInput::trained_on(data);
    let save = |mut checkpoint: Checkpoint, path: &Path| {
        input.store(&mut checkpoint);
        checkpoint.save(path)
    };
    let load = |path: &Path| -> Result<(Checkpoint, Ann)> {
        let checkpoint = super::checkpoint(path)?;
        let ann = Ann::from_checkpoint(&checkpoint, path, contacts, samples, device)?;
        if ann.architecture() != recipe.arch {
            return Err(usage(format!(
                "{}: expected the {} network, got the {} one; choose another folder",
                path.display(),
                recipe.arch,
                ann.architecture()
            )));
        }
        Ok((checkpoint, ann))
    };
    let (mut trainer, log) = if resume && last.exists() {
        let (saved, ann) = load(&last)?;
        let trainer = Trainer::resume(ann, options, &saved)?;
        let done = trainer.epoch();
        let log = EpochLog::resume(folder, LOG, |row: &Training| row.epoch as usize <= done)?;
        (trainer, log)
    } else {
        let mut ann = Ann::new(recipe.arch, contacts, samples, context.seed, device)?;
        if let Some(trunk) = trunk {
            let taken = ann.inherit_trunk(trunk)?;
            context.note(format!("{}: took {taken} tensors of the trunk over", recipe.arch));
        }
        (Trainer::new(ann, options), EpochLog::start(context, folder, LOG)?)
    };
    while trainer.epoch() < recipe.epochs && !trainer.out_of_patience() {
        let name = format!("{} epoch {}/{}", recipe.arch, trainer.epoch() + 1, recipe.epochs);
        let mut progress = context.progress(&name, train.len());
        let result = match trainer.run_epoch(&train, &held_out, &mut |n| progress.tick(n)) {
            Err(ModelError::Interrupted) => return Err(interrupted(&last, trainer.epoch())),
            other => other?,
        };
        drop(progress);
        if result.is_best {
            save(trainer.checkpoint(result.test_accuracy, false)?, &best)?;
        }
        log.add(epoch_row!(Training, recipe.arch, result))?;
        save(trainer.checkpoint(result.test_accuracy, true)?, &last)?;
        context.note(describe(&recipe.arch.to_string(), &result));
    }
    let (best_epoch, best_accuracy) =
        trainer.best().context("no epoch was trained; give --epochs a number above 0")?;
    let (_, ann) = load(&best)?;
    let test = evaluate(&ann, &data.test, 256, options.loss, &mut |_, _| true)?;
    let report = Report {
        arch: recipe.arch.to_string(),
        epochs: trainer.epoch(),
        best_epoch,
        best_accuracy,
        test_accuracy: test.accuracy(),
        checkpoint: best,
    };
    Ok((ann, report))
}

/// What to say when the user stopped a run.
pub fn interrupted(last: &Path, epochs: usize) -> anyhow::Error {
    match epochs {
        0 => anyhow::anyhow!("stopped before the first epoch was done; nothing to resume"),
        n => anyhow::anyhow!("stopped; {n} epoch(s) are saved in {}, go on with --resume", last.display()),
    }
}

/// An epoch for the reader.
pub fn describe(name: &str, r: &EpochResult) -> String {
    format!(
        "{name} epoch {}: training loss {:.4}, accuracy {:.4}; test loss {:.4}, accuracy {:.4}{}; {:.0} s",
        r.epoch,
        r.train_loss,
        r.train_accuracy,
        r.test_loss,
        r.test_accuracy,
        if r.is_best { " (best)" } else { "" },
        r.seconds
    )
}
