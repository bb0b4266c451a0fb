//! `escape-snn finetune`

use anyhow::Result;
use escape_checkpoint::input::KnownInput;
use escape_stdb::finetune::Options;
use escape_study::defaults::Defaults;
use escape_study::load::{dataset, network, reading_for, simulation, tell_remarks};
use escape_study::place::check_folder;
use escape_study::session::usage;
use escape_study::training::Accuracies;
use escape_study::training::finetune::{Finetuned, Job, adam, check_order, finetune, schedule, surrogate};

use crate::args::FinetuneArgs;
use crate::context::Context;

pub fn run(context: &Context, args: FinetuneArgs) -> Result<()> {
    let session = &context.session;
    check_folder(&args.out)?;
    if args.epochs == 0 {
        return Err(usage("--epochs: expected at least 1, got 0"));
    }
    let checkpoint = network(session, &args.checkpoint, &args.selection.selection())?;
    // A split that is not there is an empty one; what is needed of them is asked for where it is known.
    let data = dataset(session, &args.data, &reading_for(&args.reading.options(), &checkpoint))?;
    let origin = data.origin();
    tell_remarks(session, &args.checkpoint, &KnownInput::of(&checkpoint), &origin);
    let test = data.test.at_most(args.limit);
    // The whole split is kept only where some in its middle are asked for.
    let train = if args.skip == 0 { data.train.at_most(args.limit) } else { data.train };
    let chosen = simulation(session, &checkpoint, &args.checkpoint, args.simulation.asked(), &train)?;
    let preset = chosen.network.rules.preset;
    let defaults = Defaults::of(preset);
    check_order(!args.no_shuffle, args.balance)?;
    let options = Options {
        rule: adam(args.lr, args.weight_decay)?,
        batch_size: args.batch_size as usize,
        steps: chosen.steps,
        encoding: chosen.encoding,
        surrogate: surrogate(args.surrogate, args.gamma, preset)?,
        learn_thresholds: args.learn_threshold.unwrap_or(defaults.learn_neurons),
        learn_decays: args.learn_leak.unwrap_or(defaults.learn_neurons),
        shuffle: !args.no_shuffle,
        balance: args.balance,
        temperature: 1.0,
        schedule: schedule(args.schedule, preset, args.epochs),
        operations_penalty: args.operations_penalty,
        keep_zeros: args.keep_zeros,
        seed: session.seed,
    };
    let job = Job {
        name: format!("T={}", chosen.steps),
        options,
        epochs: args.epochs,
        max_steps: args.max_steps,
        skip: args.skip,
        samples: args.limit,
        validation: args.validation.unwrap_or(defaults.held_out),
        temperature: args.loss_temperature,
        teacher: args.teacher.teaching()?,
        folder: args.out,
        resume: args.resume,
        given: KnownInput::of(&checkpoint),
        input: origin.known_input(&train),
    };
    let report = finetune(session, job, chosen, &train, &test, true)?;
    context.result(&report, || text(&report))
}

/// What came of it, for a reader.
fn text(report: &Finetuned) -> String {
    let Accuracies { epoch, accuracy, balanced_accuracy, macro_f1 } = &report.best;
    let mut text = if report.improved {
        format!(
            "best epoch {epoch} of {}: accuracy {accuracy:.4} (balanced {balanced_accuracy:.4}, macro F1 \
             {macro_f1:.4}) at T = {} on {} recordings; {:.4} before training",
            report.epochs, report.timesteps, report.judged_on, report.input.accuracy
        )
    } else {
        format!(
            "no epoch of {} was better than the network that was given: accuracy {accuracy:.4} at T = {} on {} \
             recordings, the best epoch {:.4}; the network is kept as it was",
            report.epochs, report.timesteps, report.judged_on, report.best_trained
        )
    };
    if let Some(test) = &report.test {
        text.push_str(&format!(
            "\ntest accuracy {:.4} (balanced {:.4}, macro F1 {:.4})",
            test.accuracy, test.balanced_accuracy, test.macro_f1
        ));
    }
    format!("{text}\nwritten to {}", report.checkpoint.display())
}
