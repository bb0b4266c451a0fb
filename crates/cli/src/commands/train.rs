//! `escape-snn train`

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use escape_checkpoint::Checkpoint;
use escape_checkpoint::input::KnownInput;
use escape_data::{Dataset, Origin};
use escape_model::ModelError;
use escape_model::ann::{Ann, to_vec};
use escape_model::optim::Rule;
use escape_model::train::{Balance, Options, Trainer, evaluate};
use escape_network::arch::{Architecture, CLASSES};
use escape_network::metrics::{Loss, Metrics};
use escape_report::rows::Training;
use escape_snn_core::rules::Preset;
use serde::Serialize;
use serde_json::json;
use tch::Device;

use super::training::{
    Accuracies, HELD_OUT, Parts, Teller, best_trained, describe, interrupted, known, known_after, parts,
};
use crate::args::{OptimizerName, TrainArgs};
use crate::context::{Context, check_folder, usage};
use crate::notes;
use crate::run_folder::{BEST, LAST, begin, check_training, epoch_rows, hash_of, write_csv};

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
    /// Recordings a class held out to judge epochs by; the test set judges them if 0, the usual number if not given.
    pub validation: Option<usize>,
    pub balance: Option<Balance>,
}

impl Recipe {
    /// The study's recipe of a network: Adam 1e-3 in batches of 64 for the modified one, best test accuracy
    /// kept; for the original and its stages SGD, 1e-2 for the first stage and 1e-3 after, batches of 50,
    /// stopped early by 1,000 held-out recordings a class. The default preset always holds out.
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
            validation: None,
            balance: None,
        }
    }

    /// See [`Recipe::validation`].
    pub fn held_out(&self) -> usize {
        let by_test = self.preset == Preset::Published && self.arch == Architecture::Modified;
        self.validation.unwrap_or(if by_test { 0 } else { HELD_OUT })
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
    /// By what epochs were judged.
    best_accuracy: f64,
    judged_on: &'static str,
    /// Of the network that a training went on from.
    #[serde(skip_serializing_if = "Option::is_none")]
    input: Option<Accuracies>,
    /// Whether an epoch was better than that network.
    #[serde(skip_serializing_if = "Option::is_none")]
    improved: Option<bool>,
    /// Of the kept network, where there are test recordings.
    #[serde(flatten)]
    test: Option<Tested>,
    warnings: Vec<String>,
    checkpoint: PathBuf,
}

/// What a network did on the test recordings.
#[derive(Serialize)]
struct Tested {
    test_accuracy: f64,
    test_balanced_accuracy: f64,
    test_macro_f1: f64,
}

impl From<Metrics> for Tested {
    fn from(test: Metrics) -> Self {
        Self {
            test_accuracy: test.accuracy(),
            test_balanced_accuracy: test.balanced_accuracy(),
            test_macro_f1: test.macro_f1(),
        }
    }
}

impl Report {
    fn text(&self) -> String {
        let best = match &self.input {
            Some(input) if self.improved == Some(false) => format!(
                "no epoch of {} was better than the network it went on from, accuracy {:.4} ({}), which is kept",
                self.epochs, input.accuracy, self.judged_on
            ),
            _ => format!(
                "best epoch {} of {}, accuracy {:.4} ({})",
                self.best_epoch, self.epochs, self.best_accuracy, self.judged_on
            ),
        };
        let test = match &self.test {
            Some(Tested { test_accuracy, test_balanced_accuracy, test_macro_f1 }) => format!(
                "test accuracy {test_accuracy:.4} (balanced {test_balanced_accuracy:.4}, macro F1 {test_macro_f1:.4})"
            ),
            None => "no test recordings".to_owned(),
        };
        format!("{}: {best}; {test}; {}", self.arch, self.checkpoint.display())
    }
}

/// A network that a training goes on from.
struct Start {
    ann: Ann,
    /// What it knows of recordings.
    input: KnownInput,
}

pub fn run(context: &Context, args: TrainArgs) -> Result<()> {
    check_folder(&args.out)?;
    if args.init.is_none() && !args.selection.is_empty() {
        return Err(usage(
            "--weights, --rename and --ignore say what to take from the checkpoint of --init; leave them out without it",
        ));
    }
    let data = super::dataset(context, &args.data, &args.reading.options())?;
    let device = context.device()?;
    let stages: Vec<Architecture> = if args.incremental {
        vec![Architecture::Ig1, Architecture::Ig2, Architecture::Original]
    } else {
        vec![args.arch]
    };
    let folder_of = |arch: &Architecture| match args.incremental {
        true => args.out.join(arch.to_string()),
        false => args.out.clone(),
    };
    if !args.resume {
        // A later stage's training must not be found when the earlier ones are done.
        stages.iter().try_for_each(|arch| check_training(context, &folder_of(arch), LOG))?;
    }
    let mut trunk = match &args.init {
        Some(path) => {
            let (contacts, samples) = (data.train.contacts, data.train.samples);
            let stage = super::network(context, path, &args.selection)?;
            let origin = Origin { sample_rate_hz: data.sample_rate_hz, nerve: data.nerve };
            let input = KnownInput::of(&stage);
            super::tell_remarks(context, path, &input, &origin);
            let ann = Ann::from_checkpoint(&stage, path, contacts, samples, device)?;
            Some(Start { ann, input })
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
        recipe.validation = args.validation;
        recipe.balance = args.balance;
        let (trained, report) =
            train(context, &recipe, &data, &folder_of(&arch), trunk.as_ref(), args.resume, device)?;
        trunk = Some(Start { ann: trained, input: data.origin().known_input(&data.train) });
        reports.push(report);
    }
    context.result(&reports, || reports.iter().map(Report::text).collect::<Vec<_>>().join("\n"))
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
    trunk: Option<&Start>,
    resume: bool,
    device: Device,
) -> Result<(Ann, Report)> {
    let (contacts, samples) = (data.train.contacts, data.train.samples);
    let Parts { train, judges, judged_on } = parts(context, &data.train, &data.test, recipe.held_out())?;
    let options = Options {
        rule: recipe.rule,
        batch_size: recipe.batch_size,
        loss: match recipe.preset {
            Preset::Published => Loss::SoftmaxCrossEntropy,
            Preset::Default => Loss::CrossEntropy,
        },
        balance: recipe.balance,
        patience: recipe.patience,
        seed: context.seed,
    };
    let (optimizer, lr, weight_decay) = match recipe.rule {
        Rule::Adam { lr, weight_decay, .. } => ("adam", lr, weight_decay),
        Rule::Sgd { lr, weight_decay, .. } => ("sgd", lr, weight_decay),
    };
    let init = match trunk {
        Some(Start { ann, .. }) => {
            let weights = ann.parameters().iter().map(|p| to_vec(&p.1)).collect::<Result<Vec<_>, _>>()?;
            Some(hash_of(weights.iter().map(Vec::as_slice)))
        }
        None => None,
    };
    let settings = json!({
        "arch": recipe.arch.to_string(),
        "preset": recipe.preset.to_string(),
        "optimizer": optimizer,
        "lr": lr,
        "weight_decay": weight_decay,
        "batch_size": recipe.batch_size,
        "balance": recipe.balance.map(|b| b.to_string()),
        "validation": recipe.held_out(),
        "seed": context.seed,
        "init": init,
        "training": known(&data.train),
        "test": known(&data.test),
    });
    let _held = begin(context, folder, &settings, LOG, resume)?;
    let (last, best) = (folder.join(LAST), folder.join(BEST));
    let known_input = data.origin().known_input(&data.train);
    let save = |mut checkpoint: Checkpoint, path: &Path| {
        known_after(checkpoint.epoch, trunk.map(|given| &given.input), &known_input).store(&mut checkpoint);
        checkpoint.save(path)
    };
    let load = |path: &Path| -> Result<Ann> {
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
        Ok(ann)
    };
    let mut warnings = Vec::new();
    let name = recipe.arch.to_string();
    let log = |trainer: &Trainer| {
        write_csv(&folder.join(LOG), &epoch_rows!(Training, name, judged_on, trainer.history()))
    };
    let mut trainer = if last.exists() {
        let trainer = Trainer::resume(load(&last)?, options, &super::checkpoint(&last)?)?;
        // A process that was killed may have saved an epoch and not told of it.
        log(&trainer)?;
        trainer
    } else {
        let mut ann = Ann::new(recipe.arch, contacts, samples, context.seed, device)?;
        match trunk {
            Some(Start { ann: whole, .. }) if whole.architecture() == recipe.arch => {
                ann.inherit(whole)?;
                context.note(format!("{name}: goes on from the whole network, which is of the same kind"));
                let mut trainer = Trainer::new(ann, options);
                let mut teller = Teller::new(
                    context,
                    &format!("{name} before training"),
                    (0, judges.len()),
                    &mut warnings,
                );
                let result = match trainer.judge_input(&judges, &mut |event| teller.hear(event)) {
                    Err(ModelError::Interrupted) => return Err(interrupted(&last, 0)),
                    other => other?,
                };
                drop(teller);
                save(trainer.checkpoint(false)?, &best)?;
                log(&trainer)?;
                context.note(describe(&name, judged_on, &result));
                trainer
            }
            Some(Start { ann: trunk, .. }) => {
                let taken = ann.inherit_trunk(trunk)?;
                context.note(format!("{name}: took {taken} tensors of the trunk over"));
                Trainer::new(ann, options)
            }
            None => Trainer::new(ann, options),
        }
    };
    while trainer.epoch() < recipe.epochs && !trainer.out_of_patience() {
        let epoch = format!("{name} epoch {}/{}", trainer.epoch() + 1, recipe.epochs);
        let mut teller = Teller::new(context, &epoch, (train.len(), judges.len()), &mut warnings);
        let result = match trainer.run_epoch(&train, &judges, &mut |event| teller.hear(event)) {
            Err(ModelError::Interrupted) => return Err(interrupted(&last, trainer.epoch())),
            other => other?,
        };
        drop(teller);
        // The state first, then what tells of it.
        if result.is_best {
            save(trainer.checkpoint(false)?, &best)?;
        }
        save(trainer.checkpoint(true)?, &last)?;
        log(&trainer)?;
        context.note(describe(&name, judged_on, &result));
    }
    let history = trainer.history();
    let (Some(kept), Some(trained)) = (history.best(), best_trained(history)) else {
        return Err(usage("no epoch was trained; give --epochs a number above 0"));
    };
    let input = history.epochs().first().filter(|e| e.epoch == 0).map(Accuracies::from);
    let ann = load(&best)?;
    let test = if data.test.is_empty() {
        context.note(format!("note: there are no test recordings, so {name} is not tested"));
        None
    } else {
        let mut progress = context.progress(&format!("{name}, tested"), data.test.len());
        let test = evaluate(&ann, &data.test, 256, options.loss, &mut |_, logits| {
            progress.tick(logits.len() / CLASSES)
        })
        .context("the training is complete; --resume tests it again")?;
        drop(progress);
        if let Some(note) = notes::on_metrics(&name, &test) {
            context.note(note);
        }
        Some(Tested::from(test))
    };
    let report = Report {
        arch: name.clone(),
        epochs: trainer.epoch(),
        best_epoch: kept.epoch,
        best_accuracy: kept.test_accuracy,
        judged_on,
        improved: input.is_some().then_some(kept.epoch == trained.epoch),
        input,
        test,
        warnings,
        checkpoint: best,
    };
    Ok((ann, report))
}
