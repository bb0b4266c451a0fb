//! Trains an ANN into a folder: `best.pth`, `last.pth`, `training.csv`.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use escape_checkpoint::Checkpoint;
use escape_checkpoint::description;
use escape_checkpoint::identify::Identity;
use escape_checkpoint::input::KnownInput;
use escape_data::{Classes, Dataset};
use escape_model::ModelError;
use escape_model::ann::{Ann, to_vec};
use escape_model::optim::Rule;
use escape_model::prune::{self, Pruning};
use escape_model::rounding::{Rounding, RoundingBits};
use escape_model::train::{Balance, Options, Trainer, evaluate, evaluate_with};
use escape_network::arch::Architecture;
use escape_network::family::Family;
use escape_network::metrics::Metrics;
use escape_network::sequential::Sequential;
use escape_report::rows::{Row, Training};
use escape_snn_core::integer::Precision;
use escape_snn_core::rules::Preset;
use serde::Serialize;
use serde_json::json;
use tch::Tensor;

use super::teacher::Teaching;
use super::{Accuracies, Parts, Teller, describe, interrupted, known, known_after, parts};
use super::{BEST, LAST, begin, hash_of, no_way_on, tell};
use crate::defaults::{Defaults, HELD_OUT, OptimizerName, ScheduleName};
use crate::load;
use crate::notes;
use crate::session::{Session, usage};

/// The table that grows by a row an epoch.
pub const LOG: &str = Training::FILE;

/// What to train and how, with every default filled in.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// The network, and the recipe where nothing else is said.
    pub arch: Architecture,
    /// Another network instead.
    pub described: Option<Sequential>,
    /// Channels of each convolution and features between the linear layers, if not as published.
    pub width: Width,
    /// Its rules.
    pub preset: Preset,
    /// The optimiser and its constants.
    pub rule: Rule,
    /// Passes over the training recordings.
    pub epochs: usize,
    /// Recordings a step.
    pub batch_size: usize,
    /// Epochs without a better accuracy to stop after.
    pub patience: Option<usize>,
    /// Recordings a class held out to judge epochs by; the test set judges them if 0, the usual number if not given.
    pub validation: Option<usize>,
    /// How classes of different frequency are made up for.
    pub balance: Option<Balance>,
    /// How the learning rate goes.
    pub schedule: ScheduleName,
    /// Another network to learn from.
    pub teacher: Option<Teaching>,
    /// Numbers that the network is to compute with.
    pub rounding: Option<RoundingBits>,
    /// Share of the weights of every layer but the last that become zero, above 0 and below 1.
    pub prune: Option<f64>,
}

/// Sizes of a network of the family that are not those that were published.
#[derive(Clone, Copy, Debug, Default)]
pub struct Width {
    /// Output channels of every convolution.
    pub channels: Option<usize>,
    /// Features between the two linear layers.
    pub hidden: Option<usize>,
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
            described: None,
            width: Width::default(),
            preset: Preset::Default,
            rule,
            epochs,
            batch_size: if modified { 64 } else { 50 },
            patience: (!modified).then_some(15),
            validation: None,
            balance: None,
            schedule: ScheduleName::Constant,
            teacher: None,
            rounding: None,
            prune: None,
        }
    }

    /// What tables and figures call it.
    pub fn name(&self) -> String {
        if self.described.is_some() { "network".to_owned() } else { self.arch.to_string() }
    }

    /// The network, for recordings of `contacts` x `samples` of such classes; it takes their names, if it has none.
    ///
    /// # Errors
    /// A network for other recordings, or sizes that no network has.
    pub fn network(&self, contacts: usize, samples: usize, names: &[String]) -> Result<Sequential> {
        let classes = names.len();
        let Some(network) = &self.described else {
            let mut family = Family { classes, ..Family::published(self.arch) };
            if let Some(channels) = self.width.channels {
                family.convolutions.iter_mut().for_each(|conv| conv.0 = channels);
            }
            family.hidden = self.width.hidden.unwrap_or(family.hidden);
            let network = family.network(contacts, samples).map_err(|why| {
                usage(format!("recordings of {contacts} contacts x {samples} samples: {why}"))
            })?;
            // The nerve's three, unless the recordings say otherwise.
            return Ok(named(network, names, true));
        };
        let input = network.input();
        if input.recording() != (contacts, samples) {
            return Err(usage(format!(
                "--network describes a network for {input} (channels x rows x columns), but these recordings have {contacts} \
                 contacts x {samples} samples; correct its `input`, or give it other recordings"
            )));
        }
        if network.classes() < classes {
            return Err(usage(format!(
                "--network describes a network that tells {} classes apart, but these recordings are of {classes}; correct its \
                 last layer's `out`",
                network.classes()
            )));
        }
        Ok(named(network.clone(), names, false))
    }

    /// See [`Recipe::validation`].
    pub fn held_out(&self) -> usize {
        // The study let the test set judge the modified network only.
        let modified = self.arch == Architecture::Modified;
        let usual = if modified { Defaults::of(self.preset).held_out } else { HELD_OUT };
        self.validation.unwrap_or(usual)
    }

    /// Replaces rule and settings that were given.
    ///
    /// # Errors
    /// A learning rate or weight decay that cannot be.
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

/// The numbers that a network is trained to compute with, where some are asked for.
///
/// # Errors
/// Bits of the input or levels alone, or numbers that whole numbers do not come in.
pub fn rounding(bits: Option<u32>, input: Option<u32>, levels: Option<u32>) -> Result<Option<RoundingBits>> {
    let Some(bits) = bits else {
        return match (input, levels) {
            (None, None) => Ok(None),
            _ => Err(usage(
                "input bits and levels are those of a network that is trained with rounded numbers; say how many bits its weights \
                 have too (--bits)",
            )),
        };
    };
    let input = input.unwrap_or(Precision::DEFAULT.input_bits());
    Precision::new(bits, input).map_err(usage)?;
    if levels.is_some_and(|levels| !(1..=MOST_LEVELS).contains(&levels)) {
        return Err(usage(format!(
            "levels: expected 1 to {MOST_LEVELS}, got {}",
            levels.unwrap_or_default()
        )));
    }
    Ok(Some(RoundingBits { bits, input, levels }))
}

/// Levels of an activation, at most: whole numbers that float32 holds with room for sums.
const MOST_LEVELS: u32 = 1024;

/// What came of a training.
#[derive(Serialize)]
pub struct Trained {
    /// Which network.
    pub arch: String,
    /// Epochs in all.
    pub epochs: usize,
    /// The one that was kept.
    pub best_epoch: usize,
    /// By what epochs were judged.
    pub best_accuracy: f64,
    /// `test` or `held-out`.
    pub judged_on: &'static str,
    /// Of the network that a training went on from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<Accuracies>,
    /// Whether an epoch was better than that network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub improved: Option<bool>,
    /// Of the kept network, where there are test recordings.
    #[serde(flatten)]
    pub test: Option<Tested>,
    /// What went wrong meanwhile, in words.
    pub warnings: Vec<String>,
    /// `best.pth`.
    pub checkpoint: PathBuf,
}

/// What a network did on the test recordings.
#[derive(Serialize)]
pub struct Tested {
    /// Share of them classified correctly.
    pub test_accuracy: f64,
    /// Mean of the classes' shares.
    pub test_balanced_accuracy: f64,
    /// Mean of the classes' F1.
    pub test_macro_f1: f64,
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

/// A network that a training goes on from.
pub struct Start {
    /// The network.
    pub ann: Ann,
    /// What it knows of recordings.
    pub input: KnownInput,
}

/// A network with the names of recordings' classes, where those are more than numbers; its own stay unless it is to be
/// `renamed`.
fn named(network: Sequential, names: &[String], renamed: bool) -> Sequential {
    let usual = *names == Classes::Count(names.len()).names();
    match !usual && names.len() == network.classes() && (renamed || network.class_names().is_empty()) {
        true => network.clone().with_classes(names.to_vec()).unwrap_or(network),
        false => network,
    }
}

/// Trains one network after the other, each into its folder, each going on from the convolutions of the one before.
///
/// # Errors
/// Too few recordings, a folder with another training, a checkpoint that cannot be written; [`ModelError::Interrupted`] in
/// words where the listener asked to stop.
pub fn train_stages(
    session: &Session,
    stages: &[(Recipe, PathBuf)],
    data: &Dataset,
    mut trunk: Option<Start>,
    resume: bool,
) -> Result<Vec<Trained>> {
    let one = |(recipe, folder): &(Recipe, PathBuf)| {
        let (ann, trained) = train(session, recipe, data, folder, trunk.as_ref(), resume)?;
        trunk = Some(Start { ann, input: data.origin().known_input(&data.train) });
        Ok(trained)
    };
    stages.iter().map(one).collect()
}

/// Trains by a recipe into a folder; returns the best network and what came of it. Of a network in `trunk` the convolutions
/// are taken over; of one of the same kind everything, and it is kept unless an epoch is better or it is still to be pruned.
fn train(
    session: &Session,
    recipe: &Recipe,
    data: &Dataset,
    folder: &Path,
    trunk: Option<&Start>,
    resume: bool,
) -> Result<(Ann, Trained)> {
    let device = session.device()?;
    let (contacts, samples) = (data.train.contacts, data.train.samples);
    let network = recipe.network(contacts, samples, &data.classes)?;
    if let Some(share) = recipe.prune {
        prune::check(&network, share).map_err(|why| usage(why.to_string()))?;
    }
    let Parts { train, places, judges, judged_on } =
        parts(session, &data.train, &data.test, recipe.held_out())?;
    let options = Options {
        rule: recipe.rule,
        batch_size: recipe.batch_size,
        loss: Defaults::of(recipe.preset).ann_loss,
        balance: recipe.balance,
        patience: recipe.patience,
        schedule: recipe.schedule.over(recipe.epochs),
        rounding: recipe.rounding,
        pruning: recipe.prune.map(|share| Pruning { share, epochs: recipe.epochs }),
        seed: session.seed,
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
    let mut settings = json!({
        "arch": recipe.name(),
        "preset": recipe.preset.to_string(),
        "optimizer": optimizer,
        "lr": lr,
        "weight_decay": weight_decay,
        "batch_size": recipe.batch_size,
        "balance": recipe.balance.map(|b| b.to_string()),
        "validation": recipe.held_out(),
        "seed": session.seed,
        "init": init,
        "training": known(&data.train),
        "test": known(&data.test),
    });
    // Only where they differ from what was published, so that trainings of before can go on.
    if let Some(network) = &recipe.described {
        settings["network"] = json!(description::to_yaml(network));
    }
    for (key, size) in [("channels", recipe.width.channels), ("hidden", recipe.width.hidden)] {
        if let Some(size) = size {
            settings[key] = json!(size);
        }
    }
    if recipe.schedule == ScheduleName::Linear {
        settings["schedule"] = json!("linear");
    }
    if let Some(RoundingBits { bits, input, levels }) = recipe.rounding {
        settings["bits"] = json!(bits);
        settings["input_bits"] = json!(input);
        if let Some(levels) = levels {
            settings["levels"] = json!(levels);
        }
    }
    if let Some(share) = recipe.prune {
        settings["prune"] = json!(share);
    }
    let mut teacher = None;
    if let Some(teaching) = &recipe.teacher {
        teacher = Some(teaching.open(session, &data.train, 0..data.train.len(), network.classes())?);
        settings["teacher"] = teaching.settings()?;
    }
    let _held = begin(session, folder, &settings, LOG, resume)?;
    let (last, best) = (folder.join(LAST), folder.join(BEST));
    let known_input = data.origin().known_input(&data.train);
    let save = |mut checkpoint: Checkpoint, path: &Path| {
        known_after(checkpoint.epoch, trunk.map(|given| &given.input), &known_input).store(&mut checkpoint);
        checkpoint.save(path)
    };
    let load = |path: &Path| -> Result<Ann> {
        let checkpoint = load::checkpoint(path).with_context(|| no_way_on(folder))?;
        let ann = Ann::from_checkpoint(&checkpoint, path, contacts, samples, device)?;
        if *ann.network() != network {
            return Err(usage(format!(
                "{}: expected the {} network, got another one ({}); choose another folder",
                path.display(),
                recipe.name(),
                Identity::of(&checkpoint.weights)
            )));
        }
        Ok(ann)
    };
    let mut warnings = Vec::new();
    let name = recipe.name();
    let log = |trainer: &Trainer| tell::<false>(folder, &name, judged_on, trainer.history());
    let mut trainer = if last.exists() {
        let trainer = Trainer::resume(load(&last)?, options, &load::checkpoint(&last)?)?;
        // A process that was killed may have saved an epoch and not told of it.
        log(&trainer)?;
        trainer
    } else {
        let mut ann = Ann::new(network.clone(), session.seed, device)?;
        match trunk {
            Some(Start { ann: whole, .. }) if *whole.network() == network => {
                ann.inherit(whole)?;
                session.note(format!("{name}: goes on from the whole network, which is of the same kind"));
                let mut trainer = Trainer::new(ann, options)?;
                let mut teller = Teller::new(
                    session,
                    &format!("{name} before training"),
                    (0, judges.len()),
                    &mut warnings,
                );
                let result = match trainer.judge_input(&judges, &mut |event| teller.hear(event)) {
                    Err(ModelError::Interrupted) => return Err(interrupted(&last, 0)),
                    other => other?,
                };
                drop(teller);
                if result.is_best {
                    save(trainer.checkpoint(false)?, &best)?;
                }
                log(&trainer)?;
                session.note(describe(&name, judged_on, &result));
                trainer
            }
            Some(Start { ann: trunk, .. }) => {
                let taken = ann.inherit_trunk(trunk)?;
                session.note(format!("{name}: took {taken} tensors of the trunk over"));
                Trainer::new(ann, options)?
            }
            None => Trainer::new(ann, options)?,
        }
    };
    if let (Some(share), 0) = (recipe.prune, trainer.epoch()) {
        session.note(match trainer.is_finished()? {
            true => format!("{name}: {share} of the weights of every layer but the last are 0 already, and stay so"),
            false => format!(
                "{name}: {share} of the weights of every layer but the last become 0 until half of the steps are done; the first epoch \
                 that may be kept is {}",
                recipe.epochs.div_ceil(2)
            ),
        });
    }
    if trainer.epoch() < recipe.epochs && !trainer.out_of_patience() {
        trainer.learn_from(teacher.map(|t| t.teacher(session, &places)).transpose()?);
    }
    while trainer.epoch() < recipe.epochs && !trainer.out_of_patience() {
        let epoch = format!("{name} epoch {}/{}", trainer.epoch() + 1, recipe.epochs);
        let mut teller = Teller::new(session, &epoch, (train.len(), judges.len()), &mut warnings);
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
        session.note(describe(&name, judged_on, &result));
    }
    let history = trainer.history();
    let kept = history.best().filter(|_| trainer.epoch() > 0).ok_or_else(|| {
        usage(match trainer.epoch() {
            0 => "no epoch was trained; give --epochs a number above 0".to_owned(),
            epochs => format!(
                "expected an epoch at whose end the whole share is pruned, got {epochs} epochs that ended before; resume with \
                 --epochs {} or more",
                epochs + 1
            ),
        })
    })?;
    let input = history.epochs().first().filter(|e| e.epoch == 0).map(Accuracies::from);
    let ann = load(&best)?;
    let test = if data.test.is_empty() {
        session.note(format!("note: there are no test recordings, so {name} is not tested"));
        None
    } else {
        let mut progress = session.progress(&format!("{name}, tested"), data.test.len());
        let look = &mut |_: usize, logits: &[f32]| progress.tick(logits.len() / network.classes());
        let test = match recipe.rounding {
            None => evaluate(&ann, &data.test, 256, options.loss, look),
            Some(bits) => {
                let mut rounding = Rounding::new(&ann, bits)?;
                rounding.restore(&load::checkpoint(&best)?, device)?;
                let forward = &mut |x: &Tensor| rounding.forward(&ann, x, false);
                evaluate_with(forward, device, &data.test, 256, options.loss, look)
            }
        };
        let test = test.context("the training is complete; --resume tests it again")?;
        drop(progress);
        if let Some(note) = notes::on_metrics(&name, &test, |class| network.class_name(class)) {
            session.note(note);
        }
        Some(Tested::from(test))
    };
    let report = Trained {
        arch: name.clone(),
        epochs: trainer.epoch(),
        best_epoch: kept.epoch,
        best_accuracy: kept.test_accuracy,
        judged_on,
        improved: input.as_ref().map(|given| kept.test_accuracy > given.accuracy),
        input,
        test,
        warnings,
        checkpoint: best,
    };
    Ok((ann, report))
}
