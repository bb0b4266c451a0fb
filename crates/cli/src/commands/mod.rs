//! One module a command.

pub mod bench;
pub mod checkpoint;
pub mod convert;
pub mod data;
pub mod energy;
pub mod evaluate;
pub mod finetune;
pub mod report;
pub mod run;
pub mod spikes;
pub mod train;
pub mod training;

use std::path::Path;

use anyhow::Result;
use escape_checkpoint::input::KnownInput;
use escape_checkpoint::{Checkpoint, CheckpointError, Note as Finding};
use escape_data::{Dataset, Note, Origin, ReadOptions, Recordings, Split};
use escape_data::{are_recordings, holds_recordings};
use escape_report::rows::Kind;
use escape_snn_core::encode::Encoding;
use escape_snn_core::network::SpikingNetwork;
use escape_snn_core::rules::Preset;
use escape_snn_core::stored::{self, Loaded};

use crate::args::{SimulationArgs, WeightsArgs};
use crate::context::{Context, existing, existing_data, usage};

/// Both splits of a file of recordings.
pub fn dataset(context: &Context, path: &Path, options: &ReadOptions) -> Result<Dataset> {
    let (dataset, notes) = read_dataset(path, options)?;
    tell(context, path, &notes);
    Ok(dataset)
}

/// Both splits of a file of recordings, and what its reader found and decided.
pub fn read_dataset(path: &Path, options: &ReadOptions) -> Result<(Dataset, Vec<Note>)> {
    Ok(escape_data::read(&existing_data(path)?, options)?)
}

/// Says what a reader found and decided, but for the format, which surprises nobody.
pub fn tell(context: &Context, path: &Path, notes: &[Note]) {
    for note in notes.iter().filter(|note| !matches!(note, Note::Format { .. })) {
        context.note(format!("note: {}: {note}", path.display()));
    }
}

/// Says what somebody should know who gives a network recordings of an origin.
pub fn tell_remarks(context: &Context, network: &Path, input: &KnownInput, origin: &Origin) {
    for remark in input.remarks(origin.sample_rate_hz, origin.nerve.map(|nerve| nerve.to_string()).as_deref())
    {
        context.note(format!("note: {}: {remark}", network.display()));
    }
}

/// Recordings of a split for a network, at most `limit` of them, and where they come from.
pub fn recordings(
    context: &Context,
    path: &Path,
    options: &ReadOptions,
    split: Split,
    limit: Option<usize>,
    (network, network_path): (&Checkpoint, &Path),
) -> Result<(Recordings, Origin)> {
    let (all, origin, notes) = escape_data::read_split(&existing_data(path)?, split, options)?;
    tell(context, path, &notes);
    if all.is_empty() || limit == Some(0) {
        return Err(usage(format!("{}: no recordings to work on in the {split} split", path.display())));
    }
    tell_remarks(context, network_path, &KnownInput::of(network), &origin);
    Ok((all.at_most(limit), origin))
}

/// A checkpoint in the study's dictionary, this program's own.
pub fn checkpoint(path: &Path) -> Result<Checkpoint> {
    load(path, &WeightsArgs::default()).map(|(checkpoint, _)| checkpoint)
}

/// A user's checkpoint, of which may be said more than that it was read.
pub fn network(context: &Context, path: &Path, selection: &WeightsArgs) -> Result<Checkpoint> {
    let (checkpoint, notes) = load(path, selection)?;
    for note in notes {
        context.note(format!("note: {}: {note}", path.display()));
    }
    Ok(checkpoint)
}

/// A checkpoint, and what is to be said of it. What is asked for and not there is wrong usage.
fn load(path: &Path, selection: &WeightsArgs) -> Result<(Checkpoint, Vec<Finding>)> {
    const TENSORS: &str = "tensors of recordings";
    // The reader itself says what a folder may be.
    let path = if path.is_dir() { path.to_path_buf() } else { existing(path)? };
    let found = Checkpoint::load_as(&path, &selection.selection());
    let recordings = match &found {
        Ok((checkpoint, _)) => are_recordings(checkpoint).then_some(TENSORS),
        Err(CheckpointError::Choice { .. }) => None,
        Err(_) if path.is_dir() => None,
        Err(_) => escape_data::recordings_format(&path).or(holds_recordings(&path).then_some(TENSORS)),
    };
    match (recordings, found) {
        (Some(what), _) => Err(anyhow::anyhow!(
            "{}: these are recordings ({what}), expected a checkpoint; have --data and --checkpoint changed places?",
            path.display()
        )),
        (None, Err(error @ CheckpointError::Choice { .. })) => Err(usage(error.to_string())),
        (None, found) => Ok(found?),
    }
}

/// A spiking network with everything that its simulation needs.
pub struct Simulation {
    pub network: SpikingNetwork,
    pub encoding: Encoding,
    pub steps: usize,
}

/// Brings together what the checkpoint says and what the command line says.
pub fn simulation(
    context: &Context,
    checkpoint: &Checkpoint,
    path: &Path,
    args: &SimulationArgs,
    recordings: &Recordings,
) -> Result<Simulation> {
    let Loaded { network, encoding, timesteps, stored_preset } =
        stored::load(checkpoint, path, args.preset, recordings.contacts, recordings.samples)?;
    if let (Some(asked), Some(stored)) = (args.preset, stored_preset)
        && asked != stored
    {
        context.note(format!(
            "note: {} was made for the {stored} preset and is simulated by the {asked} one",
            path.display()
        ));
    }
    let steps = args.timesteps.map(|t| t as usize).or(timesteps).ok_or_else(|| {
        usage(format!("{}: the checkpoint names no number of timesteps; give --timesteps T", path.display()))
    })?;
    tell_fewer_steps(context, (path, checkpoint), network.rules.preset, steps);
    Ok(Simulation { network, encoding: args.encoder.unwrap_or(encoding), steps })
}

/// Says where a network of the default preset that was made for more timesteps is simulated over a single one, for which
/// other thresholds do better.
pub fn tell_fewer_steps(
    context: &Context,
    (path, checkpoint): (&Path, &Checkpoint),
    preset: Preset,
    steps: usize,
) {
    let Some(stored) =
        checkpoint.timesteps.filter(|&stored| preset == Preset::Default && steps < 2 && stored > 1)
    else {
        return;
    };
    let make = match evaluate::origin(checkpoint, true).0 {
        Kind::Finetuned => "fine-tune",
        Kind::Converted | Kind::Ann => "convert",
    };
    context.note(format!(
        "note: {}: its thresholds were chosen for T = {stored}; for a single timestep, {make} with --timesteps 1",
        path.display()
    ));
}

/// Columns aligned for a terminal: the first to the left, the others to the right.
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |c: usize| rows.iter().filter_map(|r| r.get(c)).map(|s| s.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        for (c, cell) in row.iter().enumerate() {
            let space = " ".repeat(widths[c] - cell.chars().count());
            match c {
                0 => text.push_str(&format!("{cell}{space}")),
                _ => text.push_str(&format!("  {space}{cell}")),
            }
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}

/// A count with thousands set apart.
pub fn thousands(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    if value < 0.0 { format!("-{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_align() {
        let cells = |a: &str, b: &str| vec![a.to_string(), b.to_string()];
        assert_eq!(table(&[cells("a", "10"), cells("long", "2")]), "a     10\nlong   2\n");
    }

    #[test]
    fn counts_are_grouped() {
        assert_eq!(thousands(1234567.4), "1,234,567");
        assert_eq!(thousands(999.0), "999");
        assert_eq!(thousands(-1000.0), "-1,000");
    }
}
