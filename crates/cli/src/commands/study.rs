//! Studies: `escape-snn run STUDY.yaml` and `escape-snn study`

use std::io::Read;
use std::path::Path;

use anyhow::{Context as _, Result};
use escape_report::rows::{Front, Latency, Outcome, OutcomeEnergy, read_table};
use escape_study::cells::plan::Study;
use escape_study::cells::schedule::{How, all};
use escape_study::cells::slurm::{Wanted, jobs, submit};
use escape_study::cells::space::SPACE;
use escape_study::cells::standing::{State, standing};
use escape_study::cells::{Index, begin, collect, work};
use escape_study::config::settings_of;
use escape_study::engine::interrupted;
use escape_study::folder::{Held, free_folder, hold, latest_folder};
use escape_study::place::check_folder;
use escape_study::session::usage;
use serde_json::{Value, json};

use super::report::{first_table, front_table};
use crate::args::{RunArgs, StudyArgs, StudyCommand};
use crate::context::{Context, end_at_once};

pub fn run(context: &Context, args: StudyArgs) -> Result<()> {
    match args.command {
        StudyCommand::Status { folder } => status(context, &folder),
        StudyCommand::Cell { folder, cell, with_parent } => {
            if context.seed_given || context.session.force {
                return Err(usage(
                    "--seed and --force: a cell has its own seed, and is done once; remove its folder to do it anew",
                ));
            }
            if with_parent {
                end_with_parent()?;
            }
            let index = Index::read(&folder)?;
            let cell = index.cell(&cell)?;
            work::work(&context.session, &folder, &index, cell)?;
            let result = json!({ "cell": cell.folder, "folder": cell.path(&folder) });
            context.result(&result, || format!("{}: done", cell.folder))
        }
        StudyCommand::Report { folder } => {
            let index = Index::read(&folder)?;
            let held = hold(&folder)?;
            finish(context, &folder, &index, &held)
        }
    }
}

/// Ends this process, wherever it is, when the one that started it is gone: what it did is kept, and it must not be in the
/// way of whoever goes on.
fn end_with_parent() -> Result<()> {
    let wait = || {
        let _ = std::io::copy(&mut std::io::stdin().lock().by_ref(), &mut std::io::sink());
        end_at_once(1);
    };
    std::thread::Builder::new().spawn(wait).context("cannot watch the process that started this one")?;
    Ok(())
}

/// A study of a space of settings.
pub fn search(context: &Context, args: RunArgs) -> Result<()> {
    if settings_of(&args.config, &args.set)?.get(SPACE).is_none() {
        return Err(usage(format!(
            "{}: no {SPACE} to search, whose values entries name; configs/search.yaml explains it, and `escape-snn run` takes other \
             configurations",
            args.config.display()
        )));
    }
    start(context, args)
}

/// Begins a study or goes on with it, on this machine or a cluster.
pub fn start(context: &Context, mut args: RunArgs) -> Result<()> {
    if context.seed_given {
        return Err(usage("--seed: a study has seeds of its own; change them with --set 'seeds=[1, 2]'"));
    }
    args.set.extend(args.data_seed.map(|seed| format!("data.simulate.seed={seed}")));
    let source = args.config.display().to_string();
    let mut study = Study::of(&source, settings_of(&args.config, &args.set)?)?;
    study.threads = context.threads.unwrap_or(study.threads);
    let usual = Path::new("runs").join(&study.name);
    let folder = match (args.out, args.resume) {
        (Some(out), _) => out,
        (None, true) => latest_folder(&usual),
        (None, false) => free_folder(&usual),
    };
    check_folder(&folder)?;
    let session = &context.session;
    let (index, held) = begin(session, &study, &source, &folder, args.resume)?;
    session.note(format!("results go to {}", folder.display()));
    let program = std::env::current_exe().context("where this program lies cannot be found out")?;
    let device = ["--device".to_owned(), session.device.to_string()];
    let cell = |more: &[&str]| -> Vec<String> {
        let words = ["study", "cell", "--threads", &index.threads.to_string()].map(str::to_owned);
        words.into_iter().chain(device.clone()).chain(more.iter().map(|word| (*word).to_owned())).collect()
    };
    if args.slurm.slurm {
        let wanted = Wanted {
            partition: args.slurm.partition,
            time: args.slurm.time,
            gpus: args.slurm.gpus,
            memory: args.slurm.memory,
            jobs: args.jobs,
            options: args.slurm.sbatch,
        };
        let study = std::path::absolute(&folder)?;
        let place = study.display().to_string();
        let report: Vec<String> = ["study", "report", &place].map(str::to_owned).to_vec();
        let all = jobs(&study, &index, &wanted, &program, &cell(&[&place]), &report);
        let numbers = submit(&study, &all)?;
        let cells: usize = all.iter().map(|job| job.cells.len()).sum();
        let result = json!({ "study": folder, "jobs": numbers, "cells": cells });
        return context.result(&result, || {
            let numbers: Vec<String> = numbers.iter().map(u64::to_string).collect();
            format!(
                "submitted {cells} cells and the report as jobs {}; `escape-snn study status {}` says how far they are",
                numbers.join(", "),
                folder.display()
            )
        });
    }
    let how = How { jobs: args.jobs, program, arguments: cell(&["--with-parent"]) };
    let outcome = all(session, &folder, &index, &how)?;
    if outcome.stopped {
        return Err(stopped(&folder));
    }
    let finished = match finish(context, &folder, &index, &held) {
        Err(error) if interrupted(&error) => return Err(stopped(&folder)),
        other => other,
    };
    if outcome.failed.is_empty() {
        return finished;
    }
    // That no report can be made of what is there is no news beside cells that failed.
    if let Err(error) = finished {
        session.note(format!("note: no report: {error:#}"));
    }
    let why: Vec<String> = outcome.failed.iter().map(|(cell, why)| format!("{cell}: {why}")).collect();
    let stand = match outcome.left {
        0 => String::new(),
        n => format!(", and {n} that stand on them were not begun"),
    };
    Err(anyhow::anyhow!(
        "{} cells failed{stand}: {}; their folders in {} have a log.txt; the same command with --resume tries them again",
        outcome.failed.len(),
        why.join("; "),
        folder.join("cells").display()
    ))
}

fn stopped(folder: &Path) -> anyhow::Error {
    anyhow::anyhow!("stopped; the same command with --resume goes on in {}", folder.display())
}

/// Tables, figures and page of what is done, in a folder that this process holds.
fn finish(context: &Context, folder: &Path, index: &Index, _held: &Held) -> Result<()> {
    let session = &context.session;
    collect::finish(session, folder, index)?;
    let done = collect::collect(folder, index)?;
    session.note("drawing the figures");
    let summary = escape_report::build(folder)?;
    summary.left_out.iter().for_each(|missing| session.note(format!("left out: {missing}")));
    let tables = match index.searched {
        true => front_table(folder)?,
        false => first_table(folder)?,
    };
    let result = json!({
        "study": folder,
        "report": summary.page,
        "cells": index.cells.len(),
        "done": done,
        "outcomes": read_table::<Outcome>(folder)?,
        "energies": read_table::<OutcomeEnergy>(folder)?,
        "latencies": read_table::<Latency>(folder)?,
        "front": read_table::<Front>(folder)?,
    });
    context.result(&result, || {
        let left = match index.cells.len() - done {
            0 => String::new(),
            n => format!("{n} of {} cells are not done, and no part of these numbers\n", index.cells.len()),
        };
        format!("{tables}\n{left}report: {}", summary.page.display())
    })
}

fn status(context: &Context, folder: &Path) -> Result<()> {
    let index = Index::read(folder)?;
    let states = standing(folder, &index);
    let cells: Vec<Value> = index
        .cells
        .iter()
        .zip(&states)
        .map(|(cell, state)| {
            let mut value = json!(state);
            value["cell"] = json!(cell.folder);
            value
        })
        .collect();
    let count = |word: &str| states.iter().filter(|state| state.word() == word).count();
    let words = ["done", "working", "ready", "waiting", "stopped", "failed"];
    let counts: serde_json::Map<String, Value> =
        words.iter().map(|word| ((*word).to_owned(), json!(count(word)))).collect();
    context.result(&json!({ "study": index.name, "counts": counts, "cells": cells }), || {
        let rows: Vec<Vec<String>> = index
            .cells
            .iter()
            .zip(&states)
            .map(|(cell, state)| {
                let more = match state {
                    State::Done { seconds } => format!("{seconds:.0} s"),
                    State::Working { stage } if stage.total > 0 => {
                        let percent = 100.0 * stage.done / stage.total as f64;
                        format!("{}, {percent:.0} % ({})", stage.what, stage.host)
                    }
                    State::Working { stage } => stage.host.clone(),
                    State::Failed { why } => why.clone(),
                    State::Stopped | State::Ready | State::Waiting => String::new(),
                };
                vec![cell.folder.clone(), format!("{}  {more}", state.word()).trim_end().to_owned()]
            })
            .collect();
        let width = rows.iter().map(|row| row[0].chars().count()).max().unwrap_or(0);
        let lines = rows.iter().map(|row| format!("{:width$}  {}\n", row[0], row[1])).collect::<String>();
        let told = words.iter().filter(|word| count(word) > 0);
        let told: Vec<String> = told.map(|word| format!("{} {word}", count(word))).collect();
        format!("{lines}{} cells: {}", index.cells.len(), told.join(", "))
    })
}
