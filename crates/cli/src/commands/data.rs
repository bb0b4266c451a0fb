//! `escape-snn data`

use std::path::Path;

use anyhow::Result;
use escape_data::{CLASS_NAMES, Dataset, SimulatorConfig, SplitSummary, simulate, write_npz};

use super::{table, thousands};
use crate::args::{DataArgs, DataCommand};
use crate::context::{Context, check_apart, check_file, existing, usage};

pub fn run(context: &Context, args: DataArgs) -> Result<()> {
    match args.command {
        DataCommand::Simulate { out, config, samples, animal, fold } => {
            check_npz(&out)?;
            let mut config = match config {
                Some(path) => SimulatorConfig::read(&existing(&path)?).map_err(|e| usage(e.to_string()))?,
                None => SimulatorConfig::default(),
            };
            config.animal = animal.unwrap_or(config.animal);
            config.fold = fold.unwrap_or(config.fold);
            let dataset = simulated(context, &config, samples.unwrap_or(config.samples))?;
            write_npz(&out, &dataset)?;
            describe(context, &dataset)
        }
        DataCommand::Inspect { file } => describe(context, &escape_data::read(&existing(&file)?)?),
        DataCommand::Convert { from, to } => {
            check_npz(&to)?;
            check_apart(&to, &[&from])?;
            let dataset = escape_data::read(&existing(&from)?)?;
            write_npz(&to, &dataset)?;
            describe(context, &dataset)
        }
    }
}

/// Simulates with a progress bar.
pub fn simulated(context: &Context, config: &SimulatorConfig, samples: usize) -> Result<Dataset> {
    let progress = std::sync::Mutex::new(context.progress("simulating", samples));
    let tick = |n: usize| {
        if let Ok(mut progress) = progress.lock() {
            progress.tick(n);
        }
    };
    simulate(config, samples, context.seed, &tick).map_err(|e| usage(e.to_string()))
}

fn check_npz(path: &Path) -> Result<()> {
    if path.extension().is_none_or(|e| !e.eq_ignore_ascii_case("npz")) {
        return Err(usage(format!(
            "{}: recordings are written as .npz; name a file that ends so",
            path.display()
        )));
    }
    check_file(path)
}

fn describe(context: &Context, dataset: &Dataset) -> Result<()> {
    let summary = dataset.summary();
    context.result(&summary, || {
        let head = ["split", "recordings", "contacts", "samples", "min", "max", "mean", "sd", "constant"];
        let mut rows: Vec<Vec<String>> =
            vec![head.iter().chain(&CLASS_NAMES).map(|s| s.to_string()).collect()];
        rows.push(row("train", &summary.train));
        rows.push(row("test", &summary.test));
        format!("{}\n{} Hz", table(&rows), thousands(summary.sample_rate_hz))
    })
}

fn row(name: &str, s: &SplitSummary) -> Vec<String> {
    let mut cells = vec![name.to_string()];
    cells.extend([s.recordings, s.contacts, s.samples].map(|n| thousands(n as f64)));
    cells.extend([s.min, s.max, s.mean, s.sd].map(|v| v.map_or_else(String::new, |v| format!("{v:.3}"))));
    cells.push(thousands(s.constant_recordings as f64));
    cells.extend(s.class_counts.map(|n| thousands(n as f64)));
    cells
}
