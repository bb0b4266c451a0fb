//! `escape-snn energy`

use std::path::Path;

use anyhow::Result;
use escape_energy::{
    ANN, Entry, LayerActivity, LayerKind, NetworkActivity, PUBLISHED, Published, Totals, energy, models,
    per_step, published, published_entries, quantised_bits,
};
use escape_report::rows::{self, Activity, Energy, EnergyStep, Row, Step};
use serde::Serialize;

use super::table;
use crate::args::EnergyArgs;
use crate::context::{Context, usage};
use crate::run_folder::{wait_for, write_csv};

#[derive(Serialize)]
struct Report {
    published: Published,
}

#[derive(Serialize)]
struct MeasuredReport {
    network: String,
    timesteps: u32,
    /// A layer before the readout fired no spike, so that nothing of the recordings passes it.
    silent: bool,
    published: Option<Published>,
    models: Vec<ModelReport>,
}

#[derive(Serialize)]
struct ModelReport {
    model: &'static str,
    quantised_bits: u32,
    #[serde(flatten)]
    totals: Totals,
}

pub fn run(context: &Context, args: EnergyArgs) -> Result<()> {
    match (&args.rates, &args.run) {
        (Some(rates), _) => {
            let report = Report { published: published(rates).map_err(|e| usage(e.to_string()))? };
            context.result(&report, || {
                let p = &report.published;
                format!(
                    "published formula, convolutions only: ANN {:.1} uJ, SNN {:.2} uJ a recording; normalised {:.4}, {:.1}x less\n(the study prints its constants as mJ; they are pJ)",
                    p.e_ann_pj / 1e6,
                    p.e_snn_pj / 1e6,
                    p.normalised,
                    p.saving
                )
            })
        }
        (None, Some(run)) => {
            let held = wait_for(context, run);
            let reports = of_run(run)?;
            drop(held);
            for silent in reports.iter().filter(|r| r.silent) {
                context.note(format!(
                    "note: {} has a layer that fires no spike; that it needs little energy means nothing",
                    silent.network
                ));
            }
            context.result(&reports, || text(&reports))
        }
        (None, None) => Err(usage("give --rates R1,R2,R3 or --run DIR")),
    }
}

fn text(reports: &[MeasuredReport]) -> String {
    let head = ["network", "model", "ANN uJ", "quantised ANN uJ", "SNN uJ", "ANN/SNN", "quantised/SNN"];
    let mut rows = vec![head.map(String::from).to_vec()];
    for r in reports {
        if let Some(p) = &r.published {
            let [ann, snn] = [p.e_ann_pj, p.e_snn_pj].map(|pj| format!("{:.3}", pj / 1e6));
            let saving = format!("{:.2}", p.saving);
            rows.push(vec![
                r.network.clone(),
                PUBLISHED.into(),
                ann,
                String::new(),
                snn,
                saving,
                String::new(),
            ]);
        }
        for m in &r.models {
            let t = &m.totals;
            let [ann, quantised, snn] =
                [t.ann_pj, t.quantised_pj, t.snn_pj].map(|pj| format!("{:.3}", pj / 1e6));
            let ratio = |ratio: f64| if r.silent { "-".to_string() } else { format!("{ratio:.2}") };
            let [full, fair] = [t.saving, t.saving_over_quantised].map(ratio);
            rows.push(vec![r.network.clone(), m.model.into(), ann, quantised, snn, full, fair]);
        }
    }
    table(&rows)
}

/// Computes the energy of every network in a run's activity.csv, writes energy.csv and energy_steps.csv.
fn of_run(run: &Path) -> Result<Vec<MeasuredReport>> {
    let path = run.join(Activity::FILE);
    let activity: Vec<Activity> = rows::read_csv(&path)?
        .filter(|rows: &Vec<_>| !rows.is_empty())
        .ok_or_else(|| {
            usage(format!(
                "{}: no activity of a spiking network is recorded there; `escape-snn evaluate --checkpoint SNN --data FILE --out {}` records it, as `escape-snn run` does",
                path.display(),
                run.display()
            ))
        })?;
    let steps: Vec<Step> = rows::read_csv(&run.join(Step::FILE))?.unwrap_or_default();
    let mut reports = Vec::new();
    let (mut entries, mut cumulative) = (Vec::<Entry>::new(), Vec::new());
    for network in networks(&activity) {
        let measured = measured(&activity, &network);
        let mut add = |more: Vec<Entry>| {
            for entry in more {
                let same = |e: &&Entry| {
                    (&e.model, &e.network, &e.layer, e.component)
                        == (&entry.model, &entry.network, &entry.layer, entry.component)
                };
                // The ANN is the same beside every spiking network.
                if !entries.iter().any(|e| same(&e)) {
                    entries.push(entry);
                }
            }
        };
        add(published_entries(&network, &measured)?);
        let mut of_models = Vec::new();
        for model in models() {
            let breakdown = energy(&network, &measured, &model)?;
            let totals = breakdown.totals();
            if let Some(operations) = operations(&steps, &network, &measured) {
                for (step, picojoules) in per_step(&measured, &operations, &model)?.into_iter().enumerate() {
                    let (model, network) = (model.name.to_string(), network.clone());
                    cumulative.push(EnergyStep { model, network, step: step as u32, picojoules });
                }
                let known = |s: &EnergyStep| s.model == model.name && s.network == ANN;
                if !cumulative.iter().any(known) {
                    let (model, network) = (model.name.to_string(), ANN.to_string());
                    cumulative.push(EnergyStep { model, network, step: 0, picojoules: totals.ann_pj });
                }
            }
            add(breakdown.entries().cloned().collect());
            let quantised_bits = quantised_bits(measured.timesteps);
            of_models.push(ModelReport { model: model.name, quantised_bits, totals });
        }
        let rates: Vec<f64> = measured.layers.iter().take(3).map(LayerActivity::rate).collect();
        // A silent network has no ratio.
        let published = published(&rates).ok();
        // Of the readout alone nothing would follow: only the published preset's spikes.
        let before_readout = &measured.layers[..(measured.layers.len() - 1).max(1)];
        let silent = before_readout.iter().any(|layer| layer.spikes_per_sample == 0.0);
        let timesteps = measured.timesteps;
        reports.push(MeasuredReport { network, timesteps, silent, published, models: of_models });
    }
    let table: Vec<Energy> = entries
        .into_iter()
        .map(|e| Energy {
            model: e.model,
            network: e.network,
            layer: e.layer,
            component: e.component.to_string(),
            picojoules: e.picojoules,
        })
        .collect();
    write_csv(&run.join(Energy::FILE), &table)?;
    write_csv(&run.join(EnergyStep::FILE), &cumulative)?;
    Ok(reports)
}

/// As [`of_run`], for whoever holds the folder.
pub fn write(run: &Path) -> Result<()> {
    of_run(run).map(drop)
}

/// Names in order of appearance.
fn networks(activity: &[Activity]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for row in activity {
        if !names.contains(&row.network) {
            names.push(row.network.clone());
        }
    }
    names
}

fn measured(activity: &[Activity], network: &str) -> NetworkActivity {
    // Of several presets or T the last counts, and of a layer's rows the last.
    let last = activity.iter().rev().find(|r| r.network == network);
    let same = |r: &&Activity| {
        let key = |r: &Activity| (r.preset.clone(), r.timesteps);
        r.network == network && last.is_some_and(|last| key(last) == key(r))
    };
    let mut latest: Vec<&Activity> = Vec::new();
    for row in activity.iter().filter(same) {
        match latest.iter_mut().find(|r| r.layer == row.layer) {
            Some(earlier) => *earlier = row,
            None => latest.push(row),
        }
    }
    let rows = || latest.iter();
    let layers = rows().map(|r| LayerActivity {
        layer: r.layer.clone(),
        kind: match r.kind {
            rows::LayerKind::Conv => LayerKind::Conv,
            rows::LayerKind::Linear => LayerKind::Linear,
        },
        macs: r.macs,
        neurons: r.neurons,
        weights: r.weights,
        spikes_per_sample: r.spikes_per_sample,
        synaptic_operations_per_sample: r.synaptic_operations_per_sample,
        analog_input: r.analog_input,
    });
    let layers = layers.collect();
    let timesteps = rows().map(|r| r.timesteps).max().unwrap_or(0);
    NetworkActivity { timesteps, leaky: rows().any(|r| r.leak < 1.0), layers }
}

/// Synaptic operations by step and layer, if every step is there.
fn operations(steps: &[Step], network: &str, measured: &NetworkActivity) -> Option<Vec<Vec<f64>>> {
    let value = |t: u32, layer: &str| {
        let row = steps.iter().rev().find(|s| s.network == network && s.layer == layer && s.step == t)?;
        Some(row.synaptic_operations_per_sample)
    };
    (0..measured.timesteps).map(|t| measured.layers.iter().map(|l| value(t, &l.layer)).collect()).collect()
}
