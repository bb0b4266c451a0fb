//! `escape-snn bench`

use anyhow::Result;
use escape_checkpoint::Checkpoint;
use escape_data::{Recordings, Split};
#[cfg(feature = "libtorch")]
use escape_model::ann::Ann;
use escape_snn_core::rules::Rules;
#[cfg(feature = "libtorch")]
use escape_study::defaults::EngineName;
use escape_study::engine::AnyEngine;
use escape_study::load::{Simulation, is_spiking, network, recordings, simulation};
#[cfg(not(feature = "libtorch"))]
use escape_study::session::WHOLE_PROGRAM;
use escape_study::session::{Session, usage};
use escape_study::timing::{LayerTime, Plan, Timing, inference};
#[cfg(feature = "libtorch")]
use escape_study::timing::{ann, training};
use serde::Serialize;

use super::{BitsReport, table, thousands};
use crate::args::BenchArgs;
use crate::context::Context;

#[derive(Serialize)]
struct Report {
    engine: String,
    mode: &'static str,
    ms_per_sample: f64,
    ms_per_sample_least: f64,
    ms_per_sample_most: f64,
    rounds: usize,
    layers: Vec<LayerReport>,
    peak_rss_mb: Option<f64>,
    #[serde(flatten)]
    simulated: Option<Simulated>,
    batch_size: usize,
    samples: usize,
    device: String,
    threads: usize,
}

/// What is known of a spiking network only.
#[derive(Serialize)]
struct Simulated {
    preset: String,
    encoder: String,
    timesteps: usize,
    #[serde(flatten)]
    bits: Option<BitsReport>,
}

#[derive(Serialize)]
struct LayerReport {
    name: String,
    ms_per_sample: f64,
    share: f64,
    operations_per_sample: f64,
}

pub fn run(context: &Context, args: BenchArgs) -> Result<()> {
    let session = &context.session;
    let checkpoint = network(session, &args.checkpoint, &args.selection.selection())?;
    let judged = (&checkpoint, args.checkpoint.as_path());
    let (recordings, _) =
        recordings(session, &args.data, &args.reading.options(), Split::Test, Some(args.samples), judged)?;
    let plan = Plan { batch_size: args.batch_size as usize, rounds: args.rounds };
    let asked = args.simulation.asked();
    let mut device = session.device_name()?;
    let (timing, engine, simulated) = if is_spiking(&checkpoint) || asked.timesteps.is_some() {
        let chosen = simulation(session, &checkpoint, &args.checkpoint, asked, &recordings)?;
        let simulated = Simulated::of(&chosen.network.rules, &chosen.encoding.to_string(), chosen.steps);
        let (timing, engine) = match args.train {
            true => (time_training(session, chosen, &recordings, plan)?, "dense".to_owned()),
            false => {
                let network = chosen.network.clone();
                let engine = AnyEngine::new(chosen.engine, network, chosen.encoding, session.device()?)?;
                device = format!("{:?}", engine.device());
                (inference(session, &engine, &chosen, &recordings, plan)?, engine.to_string())
            }
        };
        (timing, engine, Some(simulated))
    } else {
        if args.train {
            return Err(usage(format!(
                "{}: --train times the fine-tuning of a spiking network, and this is an ANN; give a converted one",
                args.checkpoint.display()
            )));
        }
        args.simulation.refuse_for_ann(false)?;
        if args.simulation.preset.is_some() {
            return Err(usage("--preset: an ANN has no rules of a spiking network; leave it out"));
        }
        (time_ann(session, &args, &checkpoint, &recordings, plan)?, "ann".to_owned(), None)
    };
    let (least, most) = timing.range();
    let report = Report {
        engine,
        mode: if args.train { "train" } else { "inference" },
        ms_per_sample: timing.median(),
        ms_per_sample_least: least,
        ms_per_sample_most: most,
        rounds: timing.rounds.len(),
        layers: layers(&timing),
        peak_rss_mb: peak_rss_mb(),
        simulated,
        batch_size: plan.batch_size.min(recordings.len()),
        samples: recordings.len(),
        device,
        threads: rayon::current_num_threads(),
    };
    context.result(&report, || report.text())
}

#[cfg(feature = "libtorch")]
fn time_training(
    session: &Session,
    chosen: Simulation,
    recordings: &Recordings,
    plan: Plan,
) -> Result<Timing> {
    if chosen.engine == EngineName::Event {
        return Err(usage("--engine event does not train; leave it out"));
    }
    training(session, chosen, recordings, plan)
}

#[cfg(feature = "libtorch")]
fn time_ann(
    session: &Session,
    args: &BenchArgs,
    checkpoint: &Checkpoint,
    recordings: &Recordings,
    plan: Plan,
) -> Result<Timing> {
    let (contacts, samples) = (recordings.contacts, recordings.samples);
    let network = Ann::from_checkpoint(checkpoint, &args.checkpoint, contacts, samples, session.device()?)?;
    ann(session, &network, recordings, plan)
}

#[cfg(not(feature = "libtorch"))]
fn time_training(_: &Session, _: Simulation, _: &Recordings, _: Plan) -> Result<Timing> {
    Err(usage(format!("--train computes with libtorch; take {WHOLE_PROGRAM}")))
}

#[cfg(not(feature = "libtorch"))]
fn time_ann(_: &Session, args: &BenchArgs, _: &Checkpoint, _: &Recordings, _: Plan) -> Result<Timing> {
    Err(usage(format!("{}: an ANN computes with libtorch; take {WHOLE_PROGRAM}", args.checkpoint.display())))
}

/// Times of layers, which share what the whole takes.
fn layers(timing: &Timing) -> Vec<LayerReport> {
    let each = timing.layers.iter().map(|LayerTime { name, share, operations }| LayerReport {
        name: name.clone(),
        ms_per_sample: share * timing.median(),
        share: *share,
        operations_per_sample: *operations,
    });
    each.collect()
}

impl Simulated {
    fn of(rules: &Rules, encoder: &str, timesteps: usize) -> Self {
        Self {
            preset: rules.preset.to_string(),
            encoder: encoder.to_owned(),
            timesteps,
            bits: BitsReport::of(rules),
        }
    }
}

impl Report {
    fn text(&self) -> String {
        let mut text = format!(
            "{} {}: {:.2} ms a recording, {:.2} to {:.2} over {} rounds of {} recordings{} (batch {}, {}, {} threads",
            self.engine,
            self.mode,
            self.ms_per_sample,
            self.ms_per_sample_least,
            self.ms_per_sample_most,
            self.rounds,
            self.samples,
            self.peak_rss_mb.map(|mb| format!(", {mb:.0} MB at most")).unwrap_or_default(),
            self.batch_size,
            self.device,
            self.threads,
        );
        if let Some(Simulated { preset, encoder, timesteps, .. }) = &self.simulated {
            text.push_str(&format!("; {timesteps} timesteps, preset {preset}, encoder {encoder}"));
        }
        text.push_str(")\n");
        if !self.layers.is_empty() {
            let operations =
                if self.simulated.is_some() { "synaptic operations/sample" } else { "MACs/sample" };
            let head = ["layer", "ms/sample", "share", operations, "G/s"];
            let mut rows = vec![head.map(String::from).to_vec()];
            for layer in &self.layers {
                let rate = layer.operations_per_sample / (layer.ms_per_sample * 1e6);
                rows.push(vec![
                    layer.name.clone(),
                    format!("{:.3}", layer.ms_per_sample),
                    format!("{:.0} %", 100.0 * layer.share),
                    thousands(layer.operations_per_sample),
                    if layer.operations_per_sample > 0.0 { format!("{rate:.1}") } else { String::new() },
                ]);
            }
            text.push('\n');
            text.push_str(&table(&rows));
        }
        text
    }
}

/// The process's largest resident size so far, MB of 2^20 bytes, where the system tells.
fn peak_rss_mb() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    let kilobytes: f64 = line.trim().trim_end_matches(" kB").trim().parse().ok()?;
    Some(kilobytes / 1024.0)
}
