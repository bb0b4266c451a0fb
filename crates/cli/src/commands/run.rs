//! `escape-snn run` and `escape-snn demo`

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::json;

use crate::args::{DemoArgs, RunArgs};
use crate::config::Config;
use crate::context::{Context, check_folder, check_results};
use crate::pipeline;
use crate::run_folder::free_folder;

/// The demo's settings; the binary carries them so that it runs from any folder.
const DEMO: &str = include_str!("../../../../configs/demo.yaml");

pub fn run(context: &Context, args: RunArgs) -> Result<()> {
    let config = Config::read(&args.config, &args.set)?;
    start(context, config, args.out, args.resume)
}

pub fn demo(context: &Context, args: DemoArgs) -> Result<()> {
    let mut config = Config::parse("configs/demo.yaml", DEMO, &args.set)?;
    // Run from elsewhere, the shipped checkpoint is where the program was built.
    if let Some(path) = config.ann.checkpoint.as_mut().filter(|p| !p.exists()) {
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(&*path);
        if shipped.exists() {
            *path =
                shipped.canonicalize().with_context(|| format!("{}: cannot be found", shipped.display()))?;
        }
    }
    start(context, config, args.out, false)
}

fn start(context: &Context, mut config: Config, out: Option<PathBuf>, resume: bool) -> Result<()> {
    let usual = Path::new("runs").join(&config.name);
    let folder = match (out, resume) {
        (Some(out), _) => out,
        (None, true) => usual,
        (None, false) => free_folder(&usual),
    };
    if !resume {
        check_results(context, &folder, &["manifest.json"], "a run", "continue it with `run --resume`, ")?;
        check_results(context, &folder, &["report/index.html"], "a page", "")?;
    }
    check_folder(&folder)?;
    let context = &context.with_seed(config.seed);
    config.seed = context.seed;
    context.note(format!("results go to {}", folder.display()));
    let (page, tables) = pipeline::run(context, &config, &folder, resume)?;
    context
        .result(&json!({ "run": folder, "report": page }), || format!("{tables}\nreport: {}", page.display()))
}
