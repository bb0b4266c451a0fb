//! Having a cluster do a study: Slurm job arrays, one task a cell.
//!
//! Cells that need nothing are an array, those that need only these another that waits for the first, and so on; a last
//! job draws the report. A cell whose needs failed says so and ends; whatever is not done, the same command with --resume submits
//! again. Nothing but the study's folder is shared, and nothing in it has to be cleaned up after a node that died.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};

use super::{Cell, Index};
use crate::folder::write_text;
use crate::place::make_folder;

/// What jobs ask the cluster for.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Partition.
    pub partition: Option<String>,
    /// Time limit of a cell, as Slurm writes it: minutes, or days-hours:minutes:seconds.
    pub time: Option<String>,
    /// Graphics cards of a cell.
    pub gpus: Option<u32>,
    /// Memory of a cell, as Slurm writes it: 8G.
    pub memory: Option<String>,
    /// Cells at once.
    pub jobs: Option<usize>,
    /// Further options of sbatch, word by word.
    pub options: Vec<String>,
}

/// A job to be submitted.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// Its script.
    pub script: PathBuf,
    /// What the script says.
    pub text: String,
    /// Cells of an array, by task; none of the job that draws the report.
    pub cells: Vec<String>,
}

/// The folder of scripts and logs in a study's.
const FOLDER: &str = "slurm";
/// Memory that a task gets beyond what its cell is expected to take.
const SPARE: u64 = 1 << 30;

/// The jobs of a study, in the order in which they depend on each other. `program` and its arguments do a cell, `report` the
/// report.
pub fn jobs(
    study: &Path,
    index: &Index,
    wanted: &Wanted,
    program: &Path,
    cell_arguments: &[String],
    report_arguments: &[String],
) -> Vec<Job> {
    let folder = study.join(FOLDER);
    let open = |level: Vec<&Cell>| -> Vec<String> {
        let cells = level.into_iter().filter(|cell| !cell.is_done(study));
        cells.map(|cell| cell.folder.clone()).collect()
    };
    let levels: Vec<Vec<&Cell>> = index.levels();
    let command = |arguments: &[String]| {
        let words = arguments.iter().map(|word| quoted(word));
        std::iter::once(quoted(&program.display().to_string())).chain(words).collect::<Vec<_>>().join(" ")
    };
    let mut jobs = Vec::new();
    for (n, level) in levels.into_iter().enumerate() {
        let memory = level.iter().map(|cell| cell.memory).max().unwrap_or(0) + SPARE;
        let cells = open(level);
        if cells.is_empty() {
            continue;
        }
        let script = folder.join(format!("level-{}.sh", n + 1));
        let last = cells.len() - 1;
        let at_once = wanted.jobs.map_or(String::new(), |jobs| format!("%{jobs}"));
        let mut text = head(index, wanted, &folder, memory, &format!("level-{}-%A_%a.log", n + 1));
        text += &format!("#SBATCH --array=0-{last}{at_once}\n");
        text += "#SBATCH --requeue\n\n";
        text += "cells=(\n";
        cells.iter().for_each(|cell| text += &format!("  {}\n", quoted(cell)));
        text += ")\n";
        text += &format!("exec {} \"${{cells[$SLURM_ARRAY_TASK_ID]}}\"\n", command(cell_arguments));
        jobs.push(Job { script, text, cells });
    }
    let mut text = head(index, &Wanted { gpus: None, ..wanted.clone() }, &folder, 2 * SPARE, "report-%j.log");
    text += &format!("\nexec {}\n", command(report_arguments));
    jobs.push(Job { script: folder.join("report.sh"), text, cells: Vec::new() });
    jobs
}

/// What every script begins with.
fn head(index: &Index, wanted: &Wanted, folder: &Path, memory: u64, log: &str) -> String {
    let mut lines = vec![
        "#!/bin/bash".to_owned(),
        format!("#SBATCH --job-name={}", index.name),
        format!("#SBATCH --output={}", folder.join(log).display()),
        "#SBATCH --nodes=1 --ntasks=1".to_owned(),
        format!("#SBATCH --cpus-per-task={}", index.threads),
    ];
    let memory = wanted.memory.clone().unwrap_or_else(|| format!("{}M", memory.div_ceil(1 << 20)));
    lines.push(format!("#SBATCH --mem={memory}"));
    lines.extend(wanted.partition.iter().map(|name| format!("#SBATCH --partition={name}")));
    lines.extend(wanted.time.iter().map(|time| format!("#SBATCH --time={time}")));
    lines.extend(wanted.gpus.iter().map(|gpus| format!("#SBATCH --gpus={gpus}")));
    lines.extend(wanted.options.iter().map(|option| format!("#SBATCH {option}")));
    lines.join("\n") + "\n"
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// Writes the scripts, the last of which is the report's, and submits them; returns the numbers of the jobs.
///
/// # Errors
/// A script cannot be written, there is no sbatch, or it refuses.
pub fn submit(study: &Path, jobs: &[Job]) -> Result<Vec<u64>> {
    make_folder(&study.join(FOLDER))?;
    for job in jobs {
        write_text(&job.script, &job.text)?;
    }
    let mut numbers: Vec<u64> = Vec::new();
    for job in jobs {
        let mut command = Command::new("sbatch");
        command.arg("--parsable");
        // Cells whose needs failed say so themselves.
        if let Some(before) = numbers.last() {
            command.arg(format!("--dependency=afterany:{before}"));
        }
        let output = command
            .arg(&job.script)
            .stdin(Stdio::null())
            .output()
            .context("sbatch cannot be started; --slurm needs a machine from which jobs are submitted")?;
        let said = String::from_utf8_lossy(&output.stdout);
        // NUMBER, or NUMBER;CLUSTER.
        let number = said.trim().split(';').next().and_then(|number| number.parse().ok());
        let number = number.filter(|_| output.status.success()).with_context(|| {
            format!(
                "sbatch refused {}: {}",
                job.script.display(),
                String::from_utf8_lossy(&output.stderr).trim()
            )
        })?;
        numbers.push(number);
    }
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cells::CellKind;
    use crate::cells::work::Finished;

    fn cell(folder: &str, needs: &[&str]) -> Cell {
        Cell {
            folder: folder.into(),
            kind: CellKind::Convert,
            entry: "e".into(),
            ann: "a".into(),
            seed: Some(1),
            timesteps: Some(4),
            needs: needs.iter().map(|name| (*name).to_owned()).collect(),
            work: 1.0,
            memory: 3 << 30,
            settings: serde_json::Value::Null,
        }
    }

    #[test]
    fn each_level_is_an_array_and_the_report_comes_last() {
        let folder = tempfile::tempdir().unwrap();
        let cells = vec![cell("a", &[]), cell("b", &[]), cell("it's", &["a"]), cell("d", &["it's", "b"])];
        let index = Index {
            name: "s".into(),
            seeds: vec![1],
            threads: 2,
            timing: false,
            searched: false,
            spikes: None,
            constants: None,
            cells,
        };
        let wanted = Wanted { time: Some("1:00:00".into()), jobs: Some(5), ..Wanted::default() };
        let one = |text: &str| [text.to_owned()];
        let all = jobs(folder.path(), &index, &wanted, Path::new("/p q/x"), &one("cell"), &one("report"));
        let of: Vec<&[String]> = all.iter().map(|job| &job.cells[..]).collect();
        assert_eq!(of, [&["a", "b"].map(String::from)[..], &["it's".into()], &["d".into()], &[]]);
        assert!(all[0].text.contains("--array=0-1%5\n") && all[0].text.contains("--mem=4096M"));
        assert!(all[1].text.contains("  'it'\\''s'\n"), "{}", all[1].text);
        assert!(all[1].text.ends_with("exec '/p q/x' 'cell' \"${cells[$SLURM_ARRAY_TASK_ID]}\"\n"));
        assert!(all[3].text.contains("exec '/p q/x' 'report'\n") && !all[3].text.contains("array"));

        // What is done is not submitted again.
        let done = index.cells[2].path(folder.path());
        make_folder(&done).unwrap();
        let finished = serde_json::to_string(&Finished::default()).unwrap();
        std::fs::write(done.join(super::super::FINISHED), finished).unwrap();
        let left = jobs(folder.path(), &index, &wanted, Path::new("x"), &[], &[]);
        assert_eq!(left.len(), 3);
    }
}
