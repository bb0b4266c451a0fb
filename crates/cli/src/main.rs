//! `escape-snn`: an ANN that classifies nerve-cuff recordings becomes a spiking network.

mod args;
mod commands;
mod config;
mod context;
mod measured;
mod notes;
mod pipeline;
mod run_folder;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

use args::{Arguments, Command};
use context::{Context, Usage};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // A reader that closed its end of the pipe is no failure of ours.
            let closed = |e: &std::io::Error| e.kind() == std::io::ErrorKind::BrokenPipe;
            if error.downcast_ref().is_some_and(closed) {
                return ExitCode::SUCCESS;
            }
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::from(if error.is::<Usage>() { 2 } else { 1 })
        }
    }
}

fn run(arguments: Arguments) -> anyhow::Result<()> {
    let context = Context::new(&arguments.global)?;
    match arguments.command {
        Command::Demo(a) => commands::run::demo(&context, a),
        Command::Run(a) => commands::run::run(&context, a),
        Command::Data(a) => commands::data::run(&context, a),
        Command::Train(a) => commands::train::run(&context, a),
        Command::Convert(a) => commands::convert::run(&context, a),
        Command::Evaluate(a) => commands::evaluate::run(&context, a),
        Command::Finetune(a) => commands::finetune::run(&context, a),
        Command::Spikes(a) => commands::spikes::run(&context, a),
        Command::Energy(a) => commands::energy::run(&context, a),
        Command::Report(a) => commands::report::run(&context, a),
        Command::Checkpoint(a) => commands::checkpoint::run(&context, a),
        Command::Bench(a) => commands::bench::run(&context, a),
    }
}
