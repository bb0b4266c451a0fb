//! The energy of every network whose activity a folder holds.

use std::path::Path;

use anyhow::Result;
use escape_energy::{
    ANN, Entry, LayerActivity, NetworkActivity, Published, Totals, energy, is_published, models, per_step,
    published, published_entries, quantised_bits,
};
use escape_report::rows::{self, Activity, Energy, EnergyStep, Row, Step};
use serde::Serialize;

use crate::folder::write_csv;
use crate::session::usage;

/// A network's energy.
#[derive(Serialize)]
pub struct NetworkEnergy {
    /// Its name in the folder's tables.
    pub network: String,
    /// T.
    pub timesteps: u32,
    /// A layer before the readout fired no spike, so that nothing of the recordings passes it.
    pub silent: bool,
    /// By the study's formula, where its rates allow one.
    pub published: Option<Published>,
    /// By each of the itemised models.
    pub models: Vec<ModelEnergy>,
}

/// A network's energy by one model.
#[derive(Serialize)]
pub struct ModelEnergy {
    /// The model's name.
    pub model: &'static str,
    /// Bits of the ANN that the network is compared with: those that its T can tell apart.
    pub quantised_bits: u32,
    /// Sums over layers and components, pJ a recording.
    #[serde(flatten)]
    pub totals: Totals,
}

/// Computes the energy of every network in a folder's activity.csv, writes energy.csv and energy_steps.csv.
///
/// # Errors
/// The folder holds no activity, or a table that cannot be read or written.
pub fn of_run(run: &Path) -> Result<Vec<NetworkEnergy>> {
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
        let published_applies = is_published(&measured);
        if published_applies {
            add(published_entries(&network, &measured)?);
        }
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
            of_models.push(ModelEnergy { model: model.name, quantised_bits, totals });
        }
        let rates: Vec<f64> = measured.layers.iter().take(3).map(LayerActivity::rate).collect();
        // A silent network has no ratio.
        let published = if published_applies { published(&rates).ok() } else { None };
        // Of the readout alone nothing would follow: only the published preset's spikes.
        let before_readout = &measured.layers[..(measured.layers.len() - 1).max(1)];
        let silent = before_readout.iter().any(|layer| layer.spikes_per_sample == 0.0);
        let timesteps = measured.timesteps;
        reports.push(NetworkEnergy { network, timesteps, silent, published, models: of_models });
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
///
/// # Errors
/// As [`of_run`].
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
        kind: r.kind,
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
