//! `escape-snn report`

use std::path::Path;

use anyhow::Result;
use escape_report::ReportError;
use serde_json::json;

use crate::args::ReportArgs;
use crate::context::{Context, usage};
use crate::run_folder::wait_for;

pub fn run(context: &Context, args: ReportArgs) -> Result<()> {
    if !args.run.is_dir() {
        return Err(usage(format!(
            "{}: no such folder; name a run folder, runs/demo say",
            args.run.display()
        )));
    }
    match escape_report::check(&args.run) {
        Err(ReportError::OtherPage { .. }) if context.force => {}
        checked => checked.map_err(|error| usage(error.to_string()))?,
    }
    let held = wait_for(context, &args.run);
    let (summary, tables) = build(&args.run)?;
    drop(held);
    for missing in &summary.left_out {
        context.note(format!("left out: {missing}"));
    }
    let result = json!({
        "report": summary.page,
        "written": summary.written,
        "left_out": summary.left_out.iter().map(ToString::to_string).collect::<Vec<_>>(),
    });
    context.result(&result, || format!("{tables}\nreport: {}", summary.page.display()))
}

/// Draws everything a run recorded; returns what was written and the first table as text.
pub fn build(run: &Path) -> Result<(escape_report::ReportSummary, String)> {
    let summary = escape_report::build(run)?;
    let first = escape_report::tables(run)?.table1;
    Ok((summary, first.map_or_else(String::new, |t| t.to_string())))
}
