//! `escape-snn export`

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use escape_files::write_atomically;
use escape_study::export::{Language, Names, drawn, program};
use escape_study::load::{Simulation, input_of, network, recordings, simulation_of};
use escape_study::place::{check_folder, check_results, make_folder};
use escape_study::session::usage;
use serde::Serialize;

use super::{BitsReport, thousands};
use crate::args::ExportArgs;
use crate::context::Context;

#[derive(Serialize)]
struct Report {
    written: Vec<PathBuf>,
    prefix: String,
    timesteps: usize,
    #[serde(flatten)]
    bits: Option<BitsReport>,
    constant_bytes: usize,
    state_bytes: usize,
    self_tests: usize,
}

pub fn run(context: &Context, args: ExportArgs) -> Result<()> {
    let session = &context.session;
    let (language, folder) = match (args.c, args.rust) {
        (Some(folder), None) => (Language::C, folder),
        (None, Some(folder)) => (Language::Rust, folder),
        _ => return Err(usage("expected either --c DIR or --rust DIR")),
    };
    check_folder(&folder)?;
    let checkpoint = network(session, &args.checkpoint, &args.selection.selection())?;
    let shown = (&checkpoint, args.checkpoint.as_path());
    let given = match &args.data {
        None => None,
        Some(data) => Some(
            recordings(session, data, &args.reading.options(), args.split, Some(args.recordings), shown)?.0,
        ),
    };
    let shape = match &given {
        None => input_of(session, &checkpoint, &args.checkpoint)?,
        Some(recordings) => (recordings.contacts, recordings.samples),
    };
    let chosen = simulation_of(session, &checkpoint, &args.checkpoint, args.simulation.asked(), shape)?;
    let Simulation { steps, ref network, .. } = chosen;
    let (bits, size) = (BitsReport::of(&network.rules), network.input().count());
    let x = given.map_or_else(|| drawn(size, args.recordings, session.seed), |recordings| recordings.x);
    let title =
        args.checkpoint.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let program = program(language, chosen, &x, Names { prefix: &args.prefix, title: &title })?;
    let names: Vec<&str> = program.files.iter().map(|file| file.name.as_str()).collect();
    check_results(session, &folder, &names, "a program", "")?;
    make_folder(&folder)?;
    for file in &program.files {
        let path = folder.join(&file.name);
        path.parent().map_or(Ok(()), make_folder)?;
        write_atomically(&path, |to| to.write_all(file.text.as_bytes()))
            .with_context(|| format!("{}: cannot be written", path.display()))?;
    }
    let report = Report {
        written: names.iter().map(|name| folder.join(name)).collect(),
        prefix: args.prefix,
        timesteps: steps,
        bits,
        constant_bytes: program.constant_bytes,
        state_bytes: program.state_bytes,
        self_tests: x.len() / size,
    };
    context.result(&report, || text(&report))
}

fn text(report: &Report) -> String {
    let files: Vec<String> = report.written.iter().map(|path| path.display().to_string()).collect();
    format!(
        "T = {}; {} bytes of weights, biases and thresholds, {} bytes kept between calls; {} recordings for the self-test\n\
         written to {}\n",
        report.timesteps,
        thousands(report.constant_bytes as f64),
        thousands(report.state_bytes as f64),
        report.self_tests,
        files.join(", ")
    )
}
