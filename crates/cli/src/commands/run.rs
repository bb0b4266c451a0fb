//! `escape-snn run` and `escape-snn demo`

use std::path::{Path, PathBuf};

use anyhow::Result;
use escape_report::rows::{Activity, Energy, Evaluation, read_table};
use escape_study::cells::plan::is_study;
use escape_study::config::{Config, settings_of};
use escape_study::engine::interrupted;
use escape_study::folder::{free_folder, latest_folder};
use escape_study::place::check_folder;
use escape_study::run;
use escape_study::session::usage;
use serde_json::json;

use super::report::first_table;
use super::study;
use crate::args::{DemoArgs, RunArgs};
use crate::context::Context;

/// The demo's settings; the binary carries them so that it runs from any folder.
const DEMO: &str = include_str!("../../../../configs/demo.yaml");
/// Where they lie: the file's paths are relative to it.
const DEMO_FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../configs");

pub fn run(context: &Context, args: RunArgs) -> Result<()> {
    let settings = settings_of(&args.config, &args.set)?;
    if is_study(&settings) {
        return study::start(context, args);
    }
    if args.jobs.is_some() || args.slurm.slurm {
        return Err(usage(format!(
            "{}: --jobs and --slurm are for a study, of several seeds; this is a run",
            args.config.display()
        )));
    }
    let config = Config::of(&args.config.display().to_string(), settings)?;
    start(context, config, args.out, args.data_seed, args.resume)
}

pub fn demo(context: &Context, args: DemoArgs) -> Result<()> {
    // A clone in the current folder comes before the one that the program was built in.
    let here = Path::new("configs");
    let folder = if here.join("demo.yaml").exists() { here } else { Path::new(DEMO_FOLDER) };
    let config = Config::parse("configs/demo.yaml", DEMO, folder, &args.set)?;
    start(context, config, args.out, args.data_seed, args.resume)
}

fn start(
    context: &Context,
    mut config: Config,
    out: Option<PathBuf>,
    data_seed: Option<u64>,
    resume: bool,
) -> Result<()> {
    match (&mut config.data.simulate, data_seed) {
        (Some(simulate), Some(seed)) => simulate.seed = Some(seed),
        (None, Some(_)) => {
            return Err(usage(
                "--data-seed: the recordings come from a file; leave it out, or simulate them",
            ));
        }
        _ => {}
    }
    let usual = Path::new("runs").join(&config.name);
    let folder = match (out, resume) {
        (Some(out), _) => out,
        (None, true) => latest_folder(&usual),
        (None, false) => free_folder(&usual),
    };
    check_folder(&folder)?;
    let session = &context.session_with_seed(config.seed);
    config.seed = session.seed;
    session.note(format!("results go to {}", folder.display()));
    let page = match run::run(session, &config, &folder, resume) {
        Err(error) if interrupted(&error) => {
            return Err(anyhow::anyhow!(
                "stopped; the same command with --resume goes on in {}",
                folder.display()
            ));
        }
        other => other?,
    };
    let tables = match page {
        Some(_) => first_table(&folder)?,
        None => String::new(),
    };
    let result = json!({
        "run": folder,
        "report": page,
        "evaluations": read_table::<Evaluation>(&folder)?,
        "activity": read_table::<Activity>(&folder)?,
        "energy": read_table::<Energy>(&folder)?,
    });
    context.result(&result, || match &page {
        Some(page) => format!("{tables}\nreport: {}", page.display()),
        None => format!("results: {}", folder.display()),
    })
}
