//! `escape-snn convert`

use std::path::Path;

use anyhow::Result;
use escape_checkpoint::input::KnownInput;
use escape_model::ann::Ann;
use escape_study::conversion::{Conversion, Readout, Wanted, converted};
use escape_study::load::{network, recordings};
use escape_study::notes::on_calibration;
use escape_study::place::{check_apart, check_file};
use escape_study::session::usage;
use serde::Serialize;

use super::{BitsReport, table};
use crate::args::ConvertArgs;
use crate::context::Context;

#[derive(Serialize)]
struct Report<'a> {
    thresholds: Vec<f64>,
    preset: String,
    method: String,
    timesteps: usize,
    samples: usize,
    /// Of the default preset: bits of its whole numbers.
    #[serde(flatten)]
    bits: Option<BitsReport>,
    /// Of the published preset: mean input of a readout neuron in a step, and the factor on the last layer's weights.
    #[serde(flatten)]
    readout: Option<Readout>,
    /// What was remarked on.
    notes: Vec<String>,
    out: &'a Path,
}

pub fn run(context: &Context, args: ConvertArgs) -> Result<()> {
    let session = &context.session;
    check_apart(&args.out, &[&args.checkpoint, &args.data])?;
    check_file(session, &args.out)?;
    let steps = args.timesteps.map(|t| t as usize);
    let wanted =
        Wanted { method: args.method, steps, readout_gain: args.readout_gain, bits: args.bits.asked() };
    let conversion = Conversion::new(args.preset, args.scale, wanted)?;
    let checkpoint = network(session, &args.checkpoint, &args.selection.selection())?;
    if checkpoint.thresholds.is_some() && checkpoint.timesteps.is_some() {
        return Err(usage(format!(
            "{}: this is a spiking network already; convert the ANN it was made from",
            args.checkpoint.display()
        )));
    }
    let mut notes = Vec::new();
    if checkpoint.thresholds.is_some() {
        notes.push(format!(
            "note: {}: holds thresholds of an earlier conversion; they are not used",
            args.checkpoint.display()
        ));
    }
    let from = (&checkpoint, args.checkpoint.as_path());
    let (calibration, origin) =
        recordings(session, &args.data, &args.reading.options(), args.split, Some(args.samples), from)?;
    notes.extend(on_calibration(args.samples, calibration.len()));
    notes.iter().for_each(|note| session.note(note));
    let (contacts, samples) = (calibration.contacts, calibration.samples);
    let ann = Ann::from_checkpoint(&checkpoint, &args.checkpoint, contacts, samples, session.device()?)?;
    let made = conversion.convert(session, (&ann, &checkpoint), &calibration)?;
    made.notes.iter().for_each(|note| session.note(note));
    notes.extend(made.notes.iter().cloned());
    // In JSON they need not be called notes again.
    let plain = |note: &String| note.strip_prefix("note: ").unwrap_or(note).to_owned();
    let network = &made.network;
    let input = KnownInput::of(&checkpoint).converted_with(&origin.known_input(&calibration));
    converted(&checkpoint, &made, conversion.preset.rules().encoding, conversion.steps, &input)
        .save(&args.out)?;
    let report = Report {
        thresholds: network.layers.iter().map(|l| f64::from(l.neuron.threshold())).collect(),
        preset: conversion.preset.to_string(),
        method: conversion.method.to_string(),
        timesteps: conversion.steps,
        samples: calibration.len(),
        bits: BitsReport::of(&network.rules),
        readout: made.readout,
        notes: notes.iter().map(plain).collect(),
        out: &args.out,
    };
    context.result(&report, || {
        let mut rows = vec![vec!["layer".to_string(), "threshold".to_string()]];
        for layer in &network.layers {
            rows.push(vec![layer.shape.name.clone(), format!("{:.4}", layer.neuron.threshold())]);
        }
        format!("{}\nwritten to {}", table(&rows), args.out.display())
    })
}
