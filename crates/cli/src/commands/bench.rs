//! `escape-snn bench`

use std::time::Instant;

use anyhow::Result;
use escape_data::{Recordings, Split};
use escape_model::optim::Rule;
use escape_snn_core::evaluate::{Labelled, evaluate};
use escape_stdb::finetune::{FineTuner, Options, Schedule};
use escape_stdb::surrogate::Surrogate;
use escape_study::engine::AnyEngine;
use escape_study::load::{EngineName, Simulation, network, recordings, simulation};
use escape_study::session::usage;
use serde::Serialize;
use tch::{Cuda, Device};

use crate::args::BenchArgs;
use crate::context::Context;

#[derive(Serialize)]
struct Report {
    engine: String,
    mode: &'static str,
    ms_per_sample: f64,
    peak_rss_mb: f64,
    preset: String,
    encoder: String,
    timesteps: usize,
    batch_size: usize,
    samples: usize,
    device: String,
    threads: usize,
}

pub fn run(context: &Context, args: BenchArgs) -> Result<()> {
    let session = &context.session;
    let checkpoint = network(session, &args.checkpoint, &args.selection.selection())?;
    let network = (&checkpoint, args.checkpoint.as_path());
    let (recordings, _) =
        recordings(session, &args.data, &args.reading.options(), Split::Test, Some(args.samples), network)?;
    let chosen = simulation(session, &checkpoint, &args.checkpoint, args.simulation.asked(), &recordings)?;
    let device = session.device()?;
    let batch_size = args.batch_size as usize;
    let (preset, encoding, steps) = (chosen.network.rules.preset, chosen.encoding, chosen.steps);
    let (ms_per_sample, engine) = if args.train {
        if chosen.engine == EngineName::Event {
            return Err(usage("--engine event does not train; leave it out"));
        }
        (time_training(chosen, &recordings, batch_size, device)?, "dense".to_owned())
    } else {
        time_inference(chosen, &recordings, batch_size, device)?
    };
    let report = Report {
        engine,
        mode: if args.train { "train" } else { "inference" },
        ms_per_sample,
        peak_rss_mb: peak_rss_mb(),
        preset: preset.to_string(),
        encoder: encoding.to_string(),
        timesteps: steps,
        batch_size,
        samples: recordings.len(),
        device: format!("{device:?}"),
        threads: rayon::current_num_threads(),
    };
    context.result(&report, || {
        format!(
            "{} {}: {:.2} ms a recording, {:.0} MB at most ({} timesteps, batch {}, preset {}, encoder {}, {})",
            report.engine,
            report.mode,
            report.ms_per_sample,
            report.peak_rss_mb,
            report.timesteps,
            report.batch_size,
            report.preset,
            report.encoder,
            report.device
        )
    })
}

/// One batch to warm up, then every recording once.
fn time_inference(
    chosen: Simulation,
    recordings: &Recordings,
    batch_size: usize,
    device: Device,
) -> Result<(f64, String)> {
    let mut encoder = chosen.network.rules.encoder(chosen.encoding, 0);
    let engine = AnyEngine::new(chosen.engine, chosen.network, chosen.encoding, device)?;
    let mut go = |set: &Recordings| {
        let labelled = Labelled { x: &set.x, y: &set.y };
        evaluate(&engine, labelled, &mut encoder, chosen.steps, batch_size, &mut |_| true)
    };
    go(&recordings.head(batch_size))?;
    synchronize(device);
    let start = Instant::now();
    go(recordings)?;
    synchronize(device);
    Ok((start.elapsed().as_secs_f64() * 1e3 / recordings.len() as f64, engine.to_string()))
}

/// One training step to warm up, then three.
fn time_training(
    chosen: Simulation,
    recordings: &Recordings,
    batch_size: usize,
    device: Device,
) -> Result<f64> {
    let options = Options {
        rule: Rule::adam(1e-5),
        batch_size,
        steps: chosen.steps,
        encoding: chosen.encoding,
        surrogate: Surrogate::DEFAULT,
        learn_thresholds: false,
        learn_decays: false,
        balance: None,
        shuffle: false,
        schedule: Schedule::Constant,
        seed: 0,
    };
    let mut tuner = FineTuner::new(chosen.network, options, device)?;
    let batch: Vec<usize> = (0..batch_size.min(recordings.len())).collect();
    tuner.step(recordings, &batch, 1.0)?;
    synchronize(device);
    let start = Instant::now();
    for _ in 0..3 {
        tuner.step(recordings, &batch, 1.0)?;
    }
    synchronize(device);
    Ok(start.elapsed().as_secs_f64() * 1e3 / (3 * batch.len()) as f64)
}

fn synchronize(device: Device) {
    if let Device::Cuda(index) = device {
        Cuda::synchronize(index as i64);
    }
}

/// The process's largest resident size so far, MB of 2^20 bytes; NaN where the system does not tell.
fn peak_rss_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    line.and_then(|l| l.trim().trim_end_matches(" kB").trim().parse::<f64>().ok())
        .map_or(f64::NAN, |kb| kb / 1024.0)
}
