//! `escape-snn report`

use std::path::Path;

use anyhow::Result;

use crate::args::ReportArgs;
use crate::context::{Context, usage};

pub fn run(context: &Context, args: ReportArgs) -> Result<()> {
    if !args.run.is_dir() {
        return Err(usage(format!("{}: no such folder; name a run folder, runs/demo say", args.run.display())));
    }
    let (summary, tables) = build(&args.run)?;
    context.result(&summary, || format!("{tables}\nreport: {}", summary.page.display()))
}

/// Draws everything a run recorded; returns what was written and the first table as text.
pub fn build(run: &Path) -> Result<(escape_report::ReportSummary, String)> {
    let summary = escape_report::build(run)?;
    Ok((summary, escape_report::tables(run)?))
}
