//! `escape-snn train`

use anyhow::Result;
use escape_checkpoint::input::KnownInput;
use escape_data::Origin;
use escape_model::ann::Ann;
use escape_network::arch::Architecture;
use escape_study::load::{dataset, network, tell_remarks};
use escape_study::place::check_folder;
use escape_study::session::usage;
use escape_study::training::ann::{LOG, Recipe, Start, Tested, Trained, Width, rounding, train_stages};
use escape_study::training::check_training;

use crate::args::TrainArgs;
use crate::context::Context;

pub fn run(context: &Context, args: TrainArgs) -> Result<()> {
    let session = &context.session;
    check_folder(&args.out)?;
    if args.init.is_none() && !args.selection.selection().is_empty() {
        return Err(usage(
            "--weights, --rename and --ignore say what to take from the checkpoint of --init; leave them out without it",
        ));
    }
    let described = args.selection.network.clone();
    if described.is_some() && (args.incremental || args.channels.is_some() || args.hidden.is_some()) {
        return Err(usage(
            "--network describes the network; leave --incremental, --channels and --hidden out",
        ));
    }
    let data = dataset(session, &args.data, &args.reading.options())?;
    let device = session.device()?;
    let archs = if args.incremental { &Architecture::STAGES[..] } else { std::slice::from_ref(&args.arch) };
    let folder_of = |arch: &Architecture| match args.incremental {
        true => args.out.join(arch.to_string()),
        false => args.out.clone(),
    };
    if !args.resume {
        // A later stage's training must not be found when the earlier ones are done.
        archs.iter().try_for_each(|arch| check_training(session, &folder_of(arch), LOG))?;
    }
    let trunk = match &args.init {
        Some(path) => {
            let (contacts, samples) = (data.train.contacts, data.train.samples);
            let stage = network(session, path, &args.selection.selection())?;
            let origin = Origin { sample_rate_hz: data.sample_rate_hz, nerve: data.nerve };
            let input = KnownInput::of(&stage);
            tell_remarks(session, path, &input, &origin);
            let ann = Ann::from_checkpoint(&stage, path, contacts, samples, device)?;
            Some(Start { ann, input })
        }
        None => None,
    };
    let mut stages = Vec::new();
    for arch in archs {
        let mut recipe = Recipe::of(*arch).with_rule(args.optimizer, args.lr, args.weight_decay)?;
        recipe.described.clone_from(&described);
        recipe.width = Width { channels: args.channels, hidden: args.hidden };
        recipe.preset = args.preset;
        recipe.epochs = args.epochs.unwrap_or(recipe.epochs);
        recipe.batch_size = args.batch_size.unwrap_or(recipe.batch_size).max(1);
        recipe.patience = args.patience.or(recipe.patience);
        recipe.validation = args.validation;
        recipe.balance = args.balance;
        recipe.schedule = args.schedule;
        recipe.teacher = args.teacher.teaching()?;
        recipe.rounding = rounding(args.bits, args.input_bits, args.levels)?;
        recipe.prune = args.prune;
        stages.push((recipe, folder_of(arch)));
    }
    let reports = train_stages(session, &stages, &data, trunk, args.resume)?;
    context.result(&reports, || reports.iter().map(text).collect::<Vec<_>>().join("\n"))
}

/// What came of a training, for a reader.
fn text(report: &Trained) -> String {
    let best = match &report.input {
        Some(input) if report.best_epoch == 0 => format!(
            "no epoch of {} was better than the network it went on from, accuracy {:.4} ({}), which is kept",
            report.epochs, input.accuracy, report.judged_on
        ),
        _ => format!(
            "best epoch {} of {}, accuracy {:.4} ({})",
            report.best_epoch, report.epochs, report.best_accuracy, report.judged_on
        ),
    };
    let test = match &report.test {
        Some(Tested { test_accuracy, test_balanced_accuracy, test_macro_f1 }) => format!(
            "test accuracy {test_accuracy:.4} (balanced {test_balanced_accuracy:.4}, macro F1 {test_macro_f1:.4})"
        ),
        None => "no test recordings".to_owned(),
    };
    format!("{}: {best}; {test}; {}", report.arch, report.checkpoint.display())
}
