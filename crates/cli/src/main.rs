//! `escape-snn`: an ANN that classifies nerve-cuff recordings becomes a spiking network.

mod args;
mod commands;
mod context;

use std::io::Write;
use std::process::ExitCode;

use args::{Arguments, Command};
use context::Context;
use escape_study::session::Usage;
#[cfg(not(feature = "libtorch"))]
use escape_study::session::{WHOLE_PROGRAM, usage};

fn main() -> ExitCode {
    let arguments = match Arguments::read() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are results and no errors.
            if error.use_stderr() && wants_json() {
                let text = error.to_string();
                let message = text.split("\n\n").next().unwrap_or(&text).trim_start_matches("error: ").trim();
                print_json_error(message, &[message.to_owned()], 2);
            }
            error.exit();
        }
    };
    // A command that is not there has taken the option for one of its own.
    let json = arguments.global.json || !cfg!(feature = "libtorch") && wants_json();
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // A reader that closed its end of the pipe is no failure of ours.
            let closed = |e: &std::io::Error| e.kind() == std::io::ErrorKind::BrokenPipe;
            if error.downcast_ref().is_some_and(closed) {
                return ExitCode::SUCCESS;
            }
            let code = if error.is::<Usage>() { 2 } else { 1 };
            if json {
                let chain: Vec<String> = error.chain().map(ToString::to_string).collect();
                print_json_error(&format!("{error:#}"), &chain, code);
            }
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::from(code)
        }
    }
}

/// Whether the command line asks for JSON, though it may not be understood otherwise.
fn wants_json() -> bool {
    std::env::args_os().any(|argument| argument == "--json")
}

/// What `--json` prints in the place of a result. `chain` has the message's parts, the outermost first.
fn print_json_error(message: &str, chain: &[String], exit_code: u8) {
    let error = serde_json::json!({ "message": message, "exit_code": exit_code, "chain": chain });
    let _ = writeln!(std::io::stdout(), "{}", serde_json::json!({ "error": error }));
}

fn run(arguments: Arguments) -> anyhow::Result<()> {
    let context = Context::new(&arguments.global)?;
    match arguments.command {
        Command::Data(a) => commands::data::run(&context, a),
        Command::Energy(a) => commands::energy::run(&context, a),
        Command::Report(a) => commands::report::run(&context, a),
        Command::Checkpoint(a) => commands::checkpoint::run(&context, a),
        Command::Evaluate(a) => commands::evaluate::run(&context, a),
        Command::Spikes(a) => commands::spikes::run(&context, a),
        Command::Bench(a) => commands::bench::run(&context, a),
        Command::Stream(a) => commands::stream::run(&context, a),
        Command::Export(a) => commands::export::run(&context, a),
        #[cfg(feature = "libtorch")]
        computing => compute(&context, computing),
        #[cfg(not(feature = "libtorch"))]
        _ => Err(usage(format!(
            "this escape-snn is built without libtorch, which this command needs; it inspects and converts files, simulates a \
             nerve and spiking networks, computes energies and draws reports. Take {WHOLE_PROGRAM}"
        ))),
    }
}

/// The commands that need libtorch.
#[cfg(feature = "libtorch")]
fn compute(context: &Context, command: Command) -> anyhow::Result<()> {
    match command {
        Command::Demo(a) => commands::run::demo(context, a),
        Command::Run(a) => commands::run::run(context, a),
        Command::Search(a) => commands::study::search(context, a),
        Command::Study(a) => commands::study::run(context, a),
        Command::Train(a) => commands::train::run(context, a),
        Command::Convert(a) => commands::convert::run(context, a),
        Command::Finetune(a) => commands::finetune::run(context, a),
        Command::Data(_)
        | Command::Evaluate(_)
        | Command::Spikes(_)
        | Command::Stream(_)
        | Command::Export(_)
        | Command::Bench(_)
        | Command::Energy(_)
        | Command::Report(_)
        | Command::Checkpoint(_) => unreachable!("done without libtorch"),
    }
}
