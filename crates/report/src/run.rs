//! A run folder read into memory: what is there, checked and without repetitions.

use std::collections::HashMap;
use std::fs;
use std::hash::Hash;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::error::ReportError;
use crate::rows::{self, Row};

/// Samples a second where the manifest does not say.
const SAMPLE_RATE_HZ: f64 = 30_000.0;

/// Everything a report is made from; `None` where there is no such file.
pub(crate) struct Run {
    pub folder: PathBuf,
    pub manifest: Option<Map<String, Value>>,
    pub training: Option<Vec<rows::Training>>,
    pub finetune: Option<Vec<rows::Finetune>>,
    pub evaluations: Option<Vec<rows::Evaluation>>,
    pub activity: Option<Vec<rows::Activity>>,
    pub predictions: Option<Vec<rows::Prediction>>,
    pub confusion: Option<Vec<rows::Confusion>>,
    pub recording: Option<Vec<rows::Recording>>,
    pub input_spikes: Option<Vec<rows::InputSpike>>,
    pub raster: Option<Vec<rows::Raster>>,
    pub steps: Option<Vec<rows::Step>>,
    pub energy: Option<Vec<rows::Energy>>,
    pub energy_steps: Option<Vec<rows::EnergyStep>>,
    pub outcomes: Option<Vec<rows::Outcome>>,
    pub outcome_energy: Option<Vec<rows::OutcomeEnergy>>,
    pub latency: Option<Vec<rows::Latency>>,
    pub front: Option<Vec<rows::Front>>,
    /// Of a study: its seeds but the first, whose tables are the folder's own.
    pub other_seeds: Vec<Run>,
}

impl Run {
    pub(crate) fn load(folder: &Path) -> Result<Self, ReportError> {
        let mut run = Self::load_alone(folder)?;
        // Its own tables are those of the first seed, which has no folder.
        let mut seeds: Vec<u64> = run.outcomes.iter().flatten().filter_map(|outcome| outcome.seed).collect();
        seeds.sort_unstable();
        seeds.dedup();
        let folders = seeds.iter().map(|seed| folder.join(rows::SEEDS).join(seed.to_string()));
        let there = folders.filter(|folder| folder.join(rows::Outcome::FILE).exists());
        run.other_seeds = there.map(|folder| Self::load_alone(&folder)).collect::<Result<_, _>>()?;
        Ok(run)
    }

    /// Of a study without its other seeds.
    pub(crate) fn load_alone(folder: &Path) -> Result<Self, ReportError> {
        if !folder.is_dir() {
            return Err(ReportError::NoRun { path: folder.to_owned() });
        }
        let run = Self {
            folder: folder.to_owned(),
            manifest: manifest(&folder.join("manifest.json"))?,
            training: table(folder, |r: &rows::Training| (r.network.clone(), r.seed, r.epoch))?,
            finetune: table(folder, |r: &rows::Finetune| (r.network.clone(), r.seed, r.epoch))?,
            evaluations: table(folder, |r: &rows::Evaluation| {
                (r.network.clone(), r.preset.clone(), r.encoder.clone(), r.timesteps)
            })?,
            activity: table(folder, |r: &rows::Activity| {
                (r.network.clone(), r.preset.clone(), r.timesteps, r.layer.clone())
            })?,
            predictions: table(folder, |r: &rows::Prediction| (r.network.clone(), r.timesteps, r.recording))?,
            confusion: table(folder, |r: &rows::Confusion| (r.network.clone(), r.actual, r.predicted))?,
            recording: table(folder, |r: &rows::Recording| (r.contact, r.sample))?,
            input_spikes: table(folder, |r: &rows::InputSpike| (r.step, r.contact, r.sample))?,
            raster: table(folder, |r: &rows::Raster| (r.network.clone(), r.layer.clone(), r.step, r.neuron))?,
            steps: table(folder, |r: &rows::Step| (r.network.clone(), r.layer.clone(), r.step))?,
            energy: table(folder, |r: &rows::Energy| {
                (r.model.clone(), r.network.clone(), r.layer.clone(), r.component.clone())
            })?,
            energy_steps: table(folder, |r: &rows::EnergyStep| (r.model.clone(), r.network.clone(), r.step))?,
            outcomes: table(folder, |r: &rows::Outcome| (r.network.clone(), r.timesteps, r.seed))?,
            outcome_energy: table(folder, |r: &rows::OutcomeEnergy| {
                (r.network.clone(), r.timesteps, r.seed, r.model.clone())
            })?,
            latency: table(folder, |r: &rows::Latency| (r.network.clone(), r.timesteps))?,
            front: table(folder, |r: &rows::Front| {
                (r.network.clone(), r.timesteps, r.seed, r.bits, r.skips)
            })?,
            other_seeds: Vec::new(),
        };
        run.check_neurons()?;
        Ok(run)
    }

    /// A raster must fit the layers the activity describes.
    fn check_neurons(&self) -> Result<(), ReportError> {
        let (Some(raster), Some(_)) = (&self.raster, &self.activity) else { return Ok(()) };
        let mut known: HashMap<(&str, &str), Option<u64>> = HashMap::new();
        for row in raster {
            let neurons = known
                .entry((&row.network, &row.layer))
                .or_insert_with(|| self.layer(&row.network, &row.layer).map(|a| a.neurons));
            if let Some(neurons) = *neurons
                && row.neuron >= neurons
            {
                return Err(ReportError::Line {
                    path: self.folder.join(rows::Raster::FILE),
                    line: self.raster_line(row),
                    expected: format!(
                        "a neuron below {neurons}, which activity.csv gives {} of {}",
                        row.layer, row.network
                    ),
                    got: row.neuron.to_string(),
                });
            }
        }
        Ok(())
    }

    /// The line of a raster row in the file, found again because repetitions are gone.
    fn raster_line(&self, row: &rows::Raster) -> u64 {
        let path = self.folder.join(rows::Raster::FILE);
        let all = rows::read_csv::<rows::Raster>(&path).ok().flatten().unwrap_or_default();
        all.iter().position(|r| r == row).map_or(0, |i| i as u64 + 2)
    }

    /// Milliseconds between samples.
    pub(crate) fn sample_ms(&self) -> f64 {
        let rate = self.manifest.as_ref().and_then(|m| m.get("sample_rate_hz")).and_then(Value::as_f64);
        1000.0 / rate.filter(|r| r.is_finite() && *r > 0.0).unwrap_or(SAMPLE_RATE_HZ)
    }

    /// What the recordings are called that networks were judged by: those of the test split, unless the manifest says that
    /// single commands took the other.
    pub(crate) fn recordings(&self) -> &'static str {
        let commands = self.manifest.as_ref().and_then(|m| m.get("commands")).and_then(Value::as_array);
        let mut judged = commands.into_iter().flatten().filter(|entry| entry["does"] == "evaluate");
        if judged.any(|entry| entry["split"] == "train") { "training recordings" } else { "test recordings" }
    }

    /// What is known of a layer, from the network's latest activity.
    pub(crate) fn layer(&self, network: &str, layer: &str) -> Option<&rows::Activity> {
        self.activity.as_ref()?.iter().rev().find(|r| r.network == network && r.layer == layer)
    }

    /// The latest activity of a network: all rows of its last preset and T, layers in order.
    pub(crate) fn activity_of(&self, network: &str) -> Vec<&rows::Activity> {
        let Some(all) = &self.activity else { return Vec::new() };
        let Some(last) = all.iter().rev().find(|r| r.network == network) else { return Vec::new() };
        let same = |r: &&rows::Activity| {
            r.network == network && r.preset == last.preset && r.timesteps == last.timesteps
        };
        let mut layers: Vec<_> = all.iter().filter(same).collect();
        layers.sort_by_key(|r| layer_rank(&r.layer));
        layers
    }

    /// Those of the tables that are missing, by file name.
    pub(crate) fn missing(&self, files: &[&'static str]) -> Vec<&'static str> {
        let there = |file: &str| match file {
            "manifest.json" => self.manifest.is_some(),
            rows::Training::FILE => self.training.is_some(),
            rows::Finetune::FILE => self.finetune.is_some(),
            rows::Evaluation::FILE => self.evaluations.is_some(),
            rows::Activity::FILE => self.activity.is_some(),
            rows::Prediction::FILE => self.predictions.is_some(),
            rows::Confusion::FILE => self.confusion.is_some(),
            rows::Recording::FILE => self.recording.is_some(),
            rows::InputSpike::FILE => self.input_spikes.is_some(),
            rows::Raster::FILE => self.raster.is_some(),
            rows::Step::FILE => self.steps.is_some(),
            rows::Energy::FILE => self.energy.is_some(),
            rows::EnergyStep::FILE => self.energy_steps.is_some(),
            _ => false,
        };
        files.iter().copied().filter(|file| !there(file)).collect()
    }

    /// Where each network stands among all spiking ones that were evaluated, from 0: its mark in figures.
    pub(crate) fn places(&self) -> HashMap<String, usize> {
        let spiking = self.evaluations.iter().flatten().filter(|e| e.kind.is_spiking());
        let names = distinct(spiking.map(|e| e.network.as_str()));
        names.into_iter().enumerate().map(|(place, name)| (name, place)).collect()
    }

    /// Whether the spikes of a network were followed.
    pub(crate) fn has_raster(&self, network: &str) -> bool {
        self.raster.iter().flatten().any(|row| row.network == network)
    }

    /// Where a layer stands among all of the run's, from 0: its colour in every figure.
    pub(crate) fn layer_order(&self, layer: &str) -> usize {
        let of_activity = self.activity.iter().flatten().map(|row| row.layer.as_str());
        let mut layers =
            distinct(of_activity.chain(self.steps.iter().flatten().map(|row| row.layer.as_str())));
        layers.sort_by_key(|layer| layer_rank(layer));
        layers.iter().position(|known| known == layer).unwrap_or(layers.len())
    }

    /// Contacts of a ring of the cuff, where the rows of a recording go ring by ring: as the manifest says
    /// (`contacts_per_ring`), else 8 where there are the 56 contacts of the study's cuff.
    pub(crate) fn contacts_per_ring(&self, contacts: usize) -> Option<usize> {
        let said = self.manifest.as_ref().and_then(|m| m.get("contacts_per_ring"));
        let said = said.and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok());
        said.or((contacts == 56).then_some(8)).filter(|&n| n > 1 && contacts.is_multiple_of(n))
    }
}

/// Where a layer stands, whatever the order of the rows: convolutions before linear layers, by their numbers.
pub(crate) fn layer_rank(layer: &str) -> (usize, u64) {
    let number = |kind: &str| layer.strip_prefix(kind).and_then(|n| n.parse().ok());
    match (number("conv"), number("linear")) {
        (Some(n), _) => (0, n),
        (_, Some(n)) => (1, n),
        _ => (2, 0),
    }
}

/// Names in order of first appearance.
pub(crate) fn distinct<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut seen: Vec<String> = Vec::new();
    for name in names {
        if seen.last().is_some_and(|l| l == name) || seen.iter().any(|s| s == name) {
            continue;
        }
        seen.push(name.to_owned());
    }
    seen
}

/// A table without repetitions: of rows with the same key the last counts, at the place of the first.
fn table<R: Row, K: Hash + Eq>(folder: &Path, key: impl Fn(&R) -> K) -> Result<Option<Vec<R>>, ReportError> {
    let Some(all) = rows::read_csv::<R>(&folder.join(R::FILE))? else { return Ok(None) };
    let mut places: HashMap<K, usize> = HashMap::with_capacity(all.len());
    let mut kept: Vec<R> = Vec::with_capacity(all.len());
    for row in all {
        match places.entry(key(&row)) {
            std::collections::hash_map::Entry::Occupied(place) => kept[*place.get()] = row,
            std::collections::hash_map::Entry::Vacant(place) => {
                place.insert(kept.len());
                kept.push(row);
            }
        }
    }
    Ok(Some(kept))
}

fn manifest(path: &Path) -> Result<Option<Map<String, Value>>, ReportError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(ReportError::io("read", path)(error)),
    };
    let got = match serde_json::from_str(&text) {
        Ok(Value::Object(map)) => return Ok(Some(map)),
        Ok(Value::Array(_)) => "an array".to_owned(),
        Ok(other) => format!("`{other}`"),
        Err(error) => format!("text that is no JSON ({error})"),
    };
    Err(ReportError::Manifest { path: path.to_owned(), got })
}
