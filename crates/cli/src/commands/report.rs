//! `escape-snn report`

use std::path::Path;

use anyhow::{Result, bail};
use escape_report::{ReportError, Style};
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
    let style = args.style.as_deref().map(Style::read).transpose().map_err(|error| {
        let source = std::error::Error::source(&error).map_or(String::new(), |source| format!(": {source}"));
        usage(format!("{error}{source}"))
    })?;
    if args.check {
        return check(context, &args.run, style.as_ref());
    }
    match escape_report::check(&args.run) {
        Err(ReportError::OtherPage { .. }) if session.force => {}
        checked => checked.map_err(|error| usage(error.to_string()))?,
    }
    let held = wait_for(session, &args.run);
    let summary = escape_report::build_in(&args.run, &style.unwrap_or_default())?;
    let tables = first_table(&args.run)?;
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

/// Compare the figures of a folder with what their tables draw.
fn check(context: &Context, run: &Path, style: Option<&Style>) -> Result<()> {
    let session = &context.session;
    let held = wait_for(session, run);
    let checked = match escape_report::verify(run, style) {
        Err(error @ ReportError::NoFigure { .. }) => return Err(usage(error.to_string())),
        checked => checked?,
    };
    drop(held);
    let all = checked.figures;
    if !checked.differing.is_empty() {
        let paths: Vec<String> = checked.differing.iter().map(|path| path.display().to_string()).collect();
        bail!(
            "of {all} figures these files are gone, or not what the tables beside them draw: {}; `escape-snn report {}` draws all anew",
            paths.join(", "),
            run.display()
        );
    }
    context
        .result(&json!({ "checked": all }), || format!("{all} figures are what the tables beside them draw"))
}

/// The first table of a folder, as text.
pub fn first_table(run: &Path) -> Result<String> {
    let first = escape_report::tables(run)?.table1;
    Ok(first.map_or_else(String::new, |table| table.to_string()))
}

/// Accuracy against energy of a study's networks, as text.
#[cfg(feature = "libtorch")]
pub fn front_table(study: &Path) -> Result<String> {
    let front = escape_report::tables(study)?.front;
    Ok(front.map_or_else(String::new, |table| table.to_string()))
}
