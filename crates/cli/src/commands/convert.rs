//! `escape-snn convert`

use std::path::Path;

use anyhow::Result;
use escape_convert::Method;
use escape_convert::activations;
use escape_convert::balance::balance;
use escape_data::Recordings;
use escape_model::ann::Ann;
use escape_model::checkpoint::Checkpoint;
use escape_model::input::KnownInput;
use escape_snn_core::encode::Encoding;
use escape_snn_core::network::{Preset, SpikingNetwork};
use serde::Serialize;

use super::{recordings, table};
use crate::args::ConvertArgs;
use crate::context::{Context, check_apart, check_file, usage};

#[derive(Serialize)]
struct Report<'a> {
    thresholds: Vec<f64>,
    preset: String,
    method: String,
    timesteps: usize,
    samples: usize,
    out: &'a Path,
}

/// How to convert, with every default filled in.
pub struct Conversion {
    pub preset: Preset,
    pub method: Method,
    pub steps: usize,
    pub scale: f64,
}

impl Conversion {
    /// # Errors
    /// A scale that no threshold can have.
    pub fn new(preset: Preset, method: Option<Method>, steps: Option<usize>, scale: f64) -> Result<Self> {
        if !(scale > 0.0 && scale.is_finite()) {
            return Err(usage(format!("scale: expected a positive number, got {scale}")));
        }
        let (usual, usual_steps) = match preset {
            Preset::Published => (Method::Max, 1000),
            Preset::Default => (Method::Percentile(99.0), 4),
        };
        Ok(Self { preset, method: method.unwrap_or(usual), steps: steps.unwrap_or(usual_steps), scale })
    }

    /// Converts; the scale is multiplied into the thresholds.
    pub fn convert(&self, context: &Context, ann: &Ann, calibration: &Recordings) -> Result<SpikingNetwork> {
        let mut network = match self.preset {
            Preset::Published => {
                let mut progress = context.progress("balancing thresholds", ann.layers().len());
                let mut encoder = self.preset.encoder(Encoding::Poisson, context.seed);
                balance(ann, &calibration.x, &mut encoder, self.steps, self.method, &mut |n| {
                    progress.tick(n)
                })?
            }
            Preset::Default => activations::convert(ann, calibration, self.method)?,
        };
        for layer in &mut network.layers {
            layer.threshold = (f64::from(layer.threshold) * self.scale) as f32;
            if !(layer.threshold > 0.0 && layer.threshold.is_finite()) {
                return Err(usage(format!(
                    "scale {}: leaves {} no threshold it can have",
                    self.scale, layer.shape.name
                )));
            }
        }
        Ok(network)
    }
}

/// The SNN checkpoint of a converted network. Accuracy and epoch stay those of the ANN until the network is
/// fine-tuned, as in the study.
pub fn converted(
    ann: &Checkpoint,
    network: &SpikingNetwork,
    encoding: Encoding,
    steps: usize,
    input: &KnownInput,
) -> Checkpoint {
    let mut out = network.to_checkpoint(encoding, steps);
    input.store(&mut out);
    (out.accuracy, out.epoch) = (ann.accuracy, ann.epoch);
    out
}

pub fn run(context: &Context, args: ConvertArgs) -> Result<()> {
    check_apart(&args.out, &[&args.checkpoint, &args.data])?;
    check_file(context, &args.out)?;
    let conversion =
        Conversion::new(args.preset, args.method, args.timesteps.map(|t| t as usize), args.scale)?;
    let checkpoint = super::checkpoint(&args.checkpoint)?;
    if checkpoint.thresholds.is_some() && checkpoint.timesteps.is_some() {
        return Err(usage(format!(
            "{}: this is a spiking network already; convert the ANN it was made from",
            args.checkpoint.display()
        )));
    }
    let from = (&checkpoint, args.checkpoint.as_path());
    let (calibration, origin) =
        recordings(context, &args.data, &args.reading.options(), args.split, Some(args.samples), from)?;
    let (contacts, samples) = (calibration.contacts, calibration.samples);
    let ann = Ann::from_checkpoint(&checkpoint, &args.checkpoint, contacts, samples, context.device()?)?;
    let network = conversion.convert(context, &ann, &calibration)?;
    let input = KnownInput::of(&checkpoint).converted_with(&calibration, &origin);
    converted(&checkpoint, &network, conversion.preset.encoding(), conversion.steps, &input)
        .save(&args.out)?;
    let report = Report {
        thresholds: network.layers.iter().map(|l| f64::from(l.threshold)).collect(),
        preset: conversion.preset.to_string(),
        method: conversion.method.to_string(),
        timesteps: conversion.steps,
        samples: calibration.len(),
        out: &args.out,
    };
    context.result(&report, || {
        let mut rows = vec![vec!["layer".to_string(), "threshold".to_string()]];
        for layer in &network.layers {
            rows.push(vec![layer.shape.name.clone(), format!("{:.4}", layer.threshold)]);
        }
        format!("{}\nwritten to {}", table(&rows), args.out.display())
    })
}
