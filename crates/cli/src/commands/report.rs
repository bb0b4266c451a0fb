//! `escape-snn report`

use std::path::Path;

use anyhow::Result;
use escape_report::ReportError;
use escape_study::folder::wait_for;
use escape_study::session::usage;
use serde_json::json;

use crate::args::ReportArgs;
use crate::context::Context;

pub fn run(context: &Context, args: ReportArgs) -> Result<()> {
    let session = &context.session;
    if !args.run.is_dir() {
        return Err(usage(format!(
            "{}: no such folder; name a run folder, runs/demo say",
            args.run.display()
        )));
    }
    match escape_report::check(&args.run) {
        Err(ReportError::OtherPage { .. }) if session.force => {}
        checked => checked.map_err(|error| usage(error.to_string()))?,
    }
    let held = wait_for(session, &args.run);
    let (summary, tables) = (escape_report::build(&args.run)?, first_table(&args.run)?);
    drop(held);
    for missing in &summary.left_out {
        session.note(format!("left out: {missing}"));
    }
    let result = json!({
        "report": summary.page,
        "written": summary.written,
        "left_out": summary.left_out.iter().map(ToString::to_string).collect::<Vec<_>>(),
    });
    context.result(&result, || format!("{tables}\nreport: {}", summary.page.display()))
}

/// The first table of a folder, as text.
pub fn first_table(run: &Path) -> Result<String> {
    let first = escape_report::tables(run)?.table1;
    Ok(first.map_or_else(String::new, |table| table.to_string()))
}
