//! The energy of every network whose activity a folder holds.

use std::path::Path;

use anyhow::{Context as _, Result};
use escape_energy::{
    ANN, AnnBits, AnnLayer, Constants, Entry, LayerActivity, LayerStep, NetworkActivity, Nonzero, Published,
    SHIPPED, ann_energy, energy, is_published, models, per_step, published, published_entries, total,
};
use escape_files::text::{DEEPEST, too_deep};
use escape_report::rows::{self, Activity, AnnActivity, Energy, EnergyStep, Front, Outcome, Row, Step};
use escape_report::{Claim, claims};
use escape_snn_core::integer::Precision;
use serde::Serialize;

use crate::folder::{remove, write_csv, write_text};
use crate::front;
use crate::session::usage;

/// The constants that a folder's energies were counted with, where they are others than the program's own.
pub const CONSTANTS: &str = "energy.yaml";
/// Bytes of the largest file of constants.
const LARGEST: u64 = 1 << 20;

/// A network's energy.
#[derive(Serialize)]
pub struct NetworkEnergy {
    /// Its name in the folder's tables.
    pub network: String,
    /// T.
    pub timesteps: u32,
    /// A layer before the readout fired no spike, so that nothing of the recordings passes it.
    pub silent: bool,
    /// Its layers are others than those of the ANN that it stands beside, so that it saves what it is smaller by too.
    pub other_layers: bool,
    /// By the study's formula, where its rates allow one.
    pub published: Option<Published>,
    /// By each of the itemised models.
    pub models: Vec<ModelEnergy>,
}

/// A network's energy by one model, beside the ANNs' of the folder. Energies are sums over layers and components, pJ a
/// recording; a saving is an ANN's over the network's. What was not measured is none.
#[derive(Serialize)]
pub struct ModelEnergy {
    /// The model's name.
    pub model: &'static str,
    /// The spiking network's.
    pub snn_pj: f64,
    /// That of the ANN in fp32.
    pub ann_pj: f64,
    /// SNN over ANN.
    pub normalised: f64,
    /// ANN over SNN: above 1, the spiking network needs less. Infinite for a network that costs nothing.
    pub saving: f64,
    /// Over the ANN in fp32 that skips zeros.
    pub saving_over_skipping: Option<f64>,
    /// Bits of the cheapest quantised ANN that is no less accurate.
    pub quantised_bits: Option<u32>,
    /// Its energy.
    pub quantised_pj: Option<f64>,
    /// Over it.
    pub saving_over_quantised: Option<f64>,
    /// Bits of the cheapest that skips zeros.
    pub quantised_skipping_bits: Option<u32>,
    /// Over it.
    pub saving_over_quantised_skipping: Option<f64>,
    /// Whether the network needs less than all of them: `holds`, `does not` or `cannot be told`.
    pub claim: Option<&'static str>,
}

impl ModelEnergy {
    fn new(model: &'static str, (snn_pj, ann_pj): (f64, f64)) -> Self {
        Self {
            model,
            snn_pj,
            ann_pj,
            normalised: snn_pj / ann_pj,
            saving: ann_pj / snn_pj,
            saving_over_skipping: None,
            quantised_bits: None,
            quantised_pj: None,
            saving_over_quantised: None,
            quantised_skipping_bits: None,
            saving_over_quantised_skipping: None,
            claim: None,
        }
    }

    fn compare(&mut self, claim: &Claim) {
        self.saving_over_skipping = claim.full_skip;
        self.quantised_bits = claim.quantised.map(|rival| rival.bits);
        self.quantised_pj = claim.quantised.map(|rival| rival.picojoules);
        self.saving_over_quantised = claim.quantised.map(|rival| rival.saving);
        self.quantised_skipping_bits = claim.quantised_skip.map(|rival| rival.bits);
        self.saving_over_quantised_skipping = claim.quantised_skip.map(|rival| rival.saving);
        self.claim = Some(claim.verdict.words());
    }
}

/// Reads a file of constants; its text comes with it.
///
/// # Errors
/// All of exit code 2: there is no such file, it is too large, or it holds no constants; where in it, and why.
pub fn constants(path: &Path) -> Result<(Constants, String)> {
    let shown = path.display();
    let size = std::fs::metadata(path).map_err(|why| usage(format!("{shown}: cannot be read: {why}")))?.len();
    if size > LARGEST {
        return Err(usage(format!(
            "{shown}: expected constants in at most {LARGEST} bytes, got {size}; name a file such as configs/energy.yaml"
        )));
    }
    let text =
        std::fs::read_to_string(path).map_err(|why| usage(format!("{shown}: cannot be read: {why}")))?;
    if too_deep(&text) {
        return Err(usage(format!("{shown}: nested more than {DEEPEST} levels deep; no constants are")));
    }
    let constants = Constants::parse(&shown.to_string(), &text).map_err(|why| usage(why.to_string()))?;
    Ok((constants, text))
}

/// The constants of a file with its text, which a folder keeps that is counted with them; the program's own have none.
fn given(path: Option<&Path>) -> Result<(Constants, Option<String>)> {
    let Some(path) = path else { return Ok((Constants::default(), None)) };
    let (constants, text) = constants(path)?;
    Ok((constants, Some(text).filter(|text| text != SHIPPED)))
}

/// Keeps the text of constants in a folder that was counted with them. It comes after the tables: whoever is killed between counts again.
fn keep(run: &Path, text: Option<&str>) -> Result<()> {
    let kept = run.join(CONSTANTS);
    match text {
        Some(text) => write_text(&kept, text),
        None => remove(&[kept]),
    }
}

/// Counts a folder of a study again, with the constants of a file or the program's own, whatever it was counted with before.
///
/// # Errors
/// As [`of_run`].
pub fn recount(run: &Path, constants: Option<&Path>) -> Result<()> {
    count_with(run, constants).map(drop)
}

/// Counts with the constants of a file, which the folder then keeps, or with the program's own.
fn count_with(run: &Path, file: Option<&Path>) -> Result<Vec<NetworkEnergy>> {
    let (constants, text) = given(file)?;
    let reports = counted(run, &constants)?;
    keep(run, text.as_deref())?;
    Ok(reports)
}

/// Whether a folder was counted with the constants of a file, or with the program's own.
///
/// # Errors
/// The file cannot be read.
pub fn is_counted_with(run: &Path, constants: Option<&Path>) -> Result<bool> {
    Ok(std::fs::read_to_string(run.join(CONSTANTS)).ok() == given(constants)?.1)
}

/// Computes the energy of every network in a folder's activity.csv and of the ANNs in its ann_activity.csv, writes
/// energy.csv, energy_steps.csv and front.csv. `constants` is a file of them, which the folder keeps.
///
/// # Errors
/// The folder holds no activity, a table that cannot be read or written, or constants that are none. Constants for a study, whose tables have
/// more than this folder's networks.
pub fn of_run(run: &Path, constants: Option<&Path>) -> Result<Vec<NetworkEnergy>> {
    if let Some(file) = constants.filter(|_| is_of_study(run)) {
        return Err(usage(format!(
            "{}: the networks of a study are all counted with the same constants, and here are only those of one seed; name {} in the study's \
             configuration (energy: {{constants: FILE}}) and `escape-snn run STUDY.yaml --resume`",
            run.display(),
            file.display()
        )));
    }
    write(run, constants)
}

/// Whether a folder has the tables of a study, or of one of its seeds.
pub fn is_of_study(run: &Path) -> bool {
    run.join(Outcome::FILE).exists()
}

fn counted(run: &Path, constants: &Constants) -> Result<Vec<NetworkEnergy>> {
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
    let anns: Vec<AnnActivity> = rows::read_csv(&run.join(AnnActivity::FILE))?.unwrap_or_default();
    let mut reports = Vec::new();
    let (mut entries, mut cumulative) = (Vec::<Entry>::new(), Vec::new());
    let spiking: Vec<(String, NetworkActivity)> =
        networks(&activity).into_iter().map(|name| (name.clone(), measured(&activity, &name))).collect();
    // The ANN is the same beside every spiking network: one that was measured, if a network has its layers.
    let beside = |(_, did): &(String, NetworkActivity)| ann_activities(&anns, did);
    let is_measured =
        |of: &&(String, NetworkActivity)| beside(of).iter().any(escape_energy::AnnActivity::is_measured);
    let reference = spiking.iter().find(is_measured).or(spiking.first());
    let of_reference = reference.map(|(_, did)| did.clone());
    let anns = reference.map(beside).unwrap_or_default();
    for model in models() {
        for ann in &anns {
            entries.extend(ann_energy(ann, false, &model, constants)?);
            if ann.is_measured() {
                entries.extend(ann_energy(ann, true, &model, constants)?);
            }
        }
    }
    for (network, measured) in spiking {
        let published_applies = is_published(&measured);
        if published_applies {
            let all = published_entries(&network, &measured)?;
            let known = entries.iter().any(|e| e.model == escape_energy::PUBLISHED);
            entries.extend(all.into_iter().filter(|e| e.network != ANN || !known));
        }
        let mut of_models = Vec::new();
        for model in models() {
            let own = energy(&network, &measured, &model, constants)?;
            let ann: f64 = entries
                .iter()
                .filter(|e| e.model == model.name && e.network == ANN)
                .map(|e| e.picojoules)
                .sum();
            if let Some(did) = steps_of(&steps, &network, &measured) {
                for (step, picojoules) in
                    per_step(&measured, &did, &model, constants)?.into_iter().enumerate()
                {
                    let (model, network) = (model.name.to_string(), network.clone());
                    cumulative.push(EnergyStep { model, network, step: step as u32, picojoules });
                }
                let known = |s: &EnergyStep| s.model == model.name && s.network == ANN;
                if !cumulative.iter().any(known) {
                    let (model, network) = (model.name.to_string(), ANN.to_string());
                    cumulative.push(EnergyStep { model, network, step: 0, picojoules: ann });
                }
            }
            of_models.push(ModelEnergy::new(model.name, (total(&own), ann)));
            entries.extend(own);
        }
        let rates: Vec<f64> = measured.layers.iter().take(3).map(LayerActivity::rate).collect();
        // A silent network has no ratio.
        let published = if published_applies { published(&rates).ok() } else { None };
        // Of the readout alone nothing would follow: only the published preset's spikes.
        let before_readout = &measured.layers[..(measured.layers.len() - 1).max(1)];
        let silent = before_readout.iter().any(|layer| layer.spikes_per_sample == 0.0);
        let timesteps = measured.timesteps;
        let other_layers = of_reference.as_ref().is_none_or(|of| !layers(of).eq(layers(&measured)));
        reports.push(NetworkEnergy {
            network,
            timesteps,
            silent,
            other_layers,
            published,
            models: of_models,
        });
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
    // A study has its own, of all seeds and T.
    if !is_of_study(run) {
        write_csv(&run.join(Front::FILE), &front::rows(run, constants)?)?;
    }
    let claims = claims(run).context("the energies were written, but cannot be compared")?;
    for report in &mut reports {
        for model in &mut report.models {
            let same = |claim: &&Claim| claim.network == report.network && claim.model == model.model;
            if let Some(claim) = claims.iter().find(same) {
                model.compare(claim);
            }
        }
    }
    Ok(reports)
}

/// As [`of_run`] of a folder that is no study's: with the constants given, which the folder then keeps, else those that it keeps, else the
/// program's own.
///
/// # Errors
/// As [`of_run`].
pub fn write(run: &Path, constants: Option<&Path>) -> Result<Vec<NetworkEnergy>> {
    let kept = run.join(CONSTANTS);
    count_with(run, constants.or_else(|| Some(kept.as_path()).filter(|kept| kept.exists())))
}

/// By what the layers of two networks are compared: their names, and the size of their work.
fn layers(did: &NetworkActivity) -> impl Iterator<Item = (&String, u64)> {
    did.layers.iter().map(|layer| (&layer.layer, layer.macs))
}

/// The ANN in fp32 and each quantised one, the last of each number of bits. Those that were measured have the layers of
/// the spiking networks; of the one in fp32 nothing needs to be measured but what it skips.
fn ann_activities(rows: &[AnnActivity], spiking: &NetworkActivity) -> Vec<escape_energy::AnnActivity> {
    let mut bits: Vec<Option<u32>> = Vec::new();
    for row in rows.iter().rev().filter(|row| row.bits.is_some()) {
        if !bits.contains(&row.bits) {
            bits.push(row.bits);
        }
    }
    bits.sort_unstable_by(|a, b| b.cmp(a));
    let measured = |bits: Option<u32>| {
        let last = rows.iter().rev().find(|row| row.bits == bits)?;
        let layers: Vec<AnnLayer> = rows
            .iter()
            .filter(|row| row.bits == bits && row.network == last.network)
            .map(ann_layer)
            .collect();
        if !layers.iter().map(|layer| (&layer.layer, layer.macs)).eq(self::layers(spiking)) {
            return None;
        }
        let input_bits = last.input_bits.unwrap_or(Precision::DEFAULT.input_bits());
        Some(escape_energy::AnnActivity { bits: bits.map(|bits| AnnBits { bits, input_bits }), layers })
    };
    let full = measured(None).unwrap_or_else(|| escape_energy::AnnActivity::dense(spiking));
    std::iter::once(full).chain(bits.into_iter().filter_map(measured)).collect()
}

/// A layer of an ANN as it was measured.
pub(crate) fn ann_layer(row: &AnnActivity) -> AnnLayer {
    AnnLayer {
        layer: row.layer.clone(),
        macs: row.macs,
        neurons: row.neurons,
        sent: row.sent,
        weights: row.weights,
        nonzero_weights: row.nonzero_weights,
        nonzero: Some(Nonzero {
            macs: row.nonzero_macs_per_sample,
            macs_of_nonzero_weights: row.nonzero_weight_macs_per_sample,
            sent: row.nonzero_sent_per_sample,
        }),
    }
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

pub(crate) fn measured(activity: &[Activity], network: &str) -> NetworkActivity {
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
        // Tables of before do not know.
        sent: r.sent.unwrap_or(r.neurons),
        weights: r.weights,
        spikes_per_sample: r.spikes_per_sample,
        synaptic_operations_per_sample: r.synaptic_operations_per_sample,
        analog_input: r.analog_input,
        nonzero_macs: r.nonzero_macs_per_sample,
        nonzero_weights: r.nonzero_weights,
        nonzero_operations: r.nonzero_operations_per_sample,
        active: r.active_per_sample,
    });
    let layers = layers.collect();
    let timesteps = rows().map(|r| r.timesteps).max().unwrap_or(0);
    let input_bits = rows().find_map(|r| r.input_bits).unwrap_or(Precision::DEFAULT.input_bits());
    let weight_bits = rows().find_map(|r| r.weight_bits);
    let leaky = rows().any(|r| r.leak < 1.0);
    NetworkActivity { timesteps, leaky, input_bits, weight_bits, layers }
}

/// Spikes and synaptic operations by step and layer, if every step is there.
fn steps_of(steps: &[Step], network: &str, measured: &NetworkActivity) -> Option<Vec<Vec<LayerStep>>> {
    let value = |t: u32, layer: &str| {
        let row = steps.iter().rev().find(|s| s.network == network && s.layer == layer && s.step == t)?;
        Some(LayerStep { spikes: row.spikes_per_sample, operations: row.synaptic_operations_per_sample })
    };
    (0..measured.timesteps).map(|t| measured.layers.iter().map(|l| value(t, &l.layer)).collect()).collect()
}
