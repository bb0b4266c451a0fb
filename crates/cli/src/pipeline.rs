//! What `escape-snn run` does, stage by stage. Each stage leaves files in the run folder that later stages
//! and a resumed run start from.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use escape_data::{Dataset, Origin, Recordings};
use escape_model::ann::Ann;
use escape_model::input::KnownInput;
use escape_model::metrics::Loss;
use escape_report::rows::{
    Activity, Evaluation, Finetune, Kind, Raster, Row, Training, append_csv, read_csv,
};
use escape_snn_core::network::{Preset, SpikingNetwork};
use escape_stdb::finetune::Options;
use escape_stdb::surrogate::Surrogate;

use crate::args::WeightsArgs;
use crate::commands::convert::{Conversion, converted};
use crate::commands::finetune::{Job, adam, finetune, schedule};
use crate::commands::train::{Recipe, train_into};
use crate::commands::{Simulation, checkpoint, data, dataset, energy, network, report, spikes, tell_remarks};
use crate::config::{Config, Convert};
use crate::context::{Context, existing, existing_data, make_folder, usage};
use crate::measured::Measured;
use crate::notes;
use crate::run_folder::{Input, Manifest, clear, now, sha256, write_text};

/// The settings as they were resolved, in the run folder.
const RESOLVED: &str = "config.resolved.yaml";
/// What was evaluated already; written last of a network's tables.
const EVALUATIONS: &str = Evaluation::FILE;

/// A run in progress.
struct Run<'a> {
    context: &'a Context,
    config: &'a Config,
    folder: &'a Path,
    data: Dataset,
    /// The test recordings that networks are judged by.
    test: Recordings,
    ann: Ann,
    ann_path: PathBuf,
}

/// Runs everything that the configuration asks for; returns the page and the first table.
pub fn run(context: &Context, config: &Config, folder: &Path, resume: bool) -> Result<(PathBuf, String)> {
    let text = serde_yaml::to_string(config).context("the configuration cannot be written as YAML")?;
    let resolved = folder.join(RESOLVED);
    if resume {
        let old = std::fs::read_to_string(existing(&resolved)?)?;
        if old != text {
            return Err(usage(format!(
                "{}: the interrupted run had other settings; resume it with the same ones, or leave --resume out to start a new run",
                resolved.display()
            )));
        }
    }
    // Everything that can be wrong with the input is found before the folder is made.
    let inputs = inputs(config)?;
    let data = recordings(context, config)?;
    let limit = config.evaluate.samples.unwrap_or(usize::MAX);
    let test = data.test.head(limit.min(data.test.len()));
    if let Some(wanted) = config.spikes.as_ref().filter(|wanted| wanted.sample >= test.len()) {
        return Err(usage(format!(
            "spikes.sample: {} is not among the {} test recordings, numbered from 0",
            wanted.sample,
            test.len()
        )));
    }
    let origin = Origin { sample_rate_hz: data.sample_rate_hz, nerve: data.nerve };
    let load = |path: PathBuf| -> Result<(Ann, PathBuf)> {
        let found = network(context, &path, &WeightsArgs::default())?;
        tell_remarks(context, &path, &KnownInput::of(&found), &origin);
        let ann = Ann::from_checkpoint(&found, &path, test.contacts, test.samples, context.device()?)?;
        Ok((ann, path))
    };
    let given = config.ann.checkpoint.clone().map(&load).transpose()?;

    if context.force && !resume {
        clear(folder, RESOLVED)?;
    }
    make_folder(folder)?;
    write_text(&resolved, &text)?;
    manifest(context, config, folder, &text, inputs)?;
    let (ann, ann_path) = match given {
        Some(given) => given,
        None => load(train_ann(context, config, folder, &data)?)?,
    };
    let run = Run { context, config, folder, data, test, ann, ann_path };
    run.judge_ann()?;
    for route in &config.convert {
        run.convert(route)?;
    }
    for (i, _) in config.finetune.iter().enumerate() {
        run.finetune(i, resume)?;
    }
    run.spikes()?;
    if config.energy && folder.join(Activity::FILE).exists() {
        energy::write(folder)?;
    }
    if !config.report {
        return Ok((folder.to_path_buf(), String::new()));
    }
    context.note("drawing the figures");
    let (summary, tables) = report::build(folder)?;
    Ok((summary.page, tables))
}

/// The files that a run reads.
fn inputs(config: &Config) -> Result<Vec<Input>> {
    let mut files = Vec::new();
    if let Some(data) = &config.data.file {
        files.extend(escape_data::files(&existing_data(data)?, &config.data.reading())?);
    }
    files.extend(config.ann.checkpoint.clone());
    files.iter().map(|p| Input::of(&existing(p)?)).collect()
}

fn manifest(context: &Context, config: &Config, folder: &Path, text: &str, inputs: Vec<Input>) -> Result<()> {
    let manifest = Manifest {
        name: config.name.clone(),
        created: now(),
        command: std::env::args().collect(),
        version: env!("CARGO_PKG_VERSION"),
        libtorch: "2.11.0",
        device: format!("{:?}", context.device()?),
        threads: rayon::current_num_threads(),
        seed: context.seed,
        config_sha256: sha256(text),
        inputs,
    };
    write_text(&folder.join("manifest.json"), &(serde_json::to_string_pretty(&manifest)? + "\n"))
}

/// The recordings. Simulated ones are not stored: settings and seed make them again, the same.
fn recordings(context: &Context, config: &Config) -> Result<Dataset> {
    match (&config.data.file, &config.data.simulate) {
        (Some(file), _) => dataset(context, file, &config.data.reading()),
        (None, Some(simulate)) => {
            context.note(format!("simulating {} recordings", simulate.samples));
            data::simulated(context, simulate)
        }
        (None, None) => Err(usage("data: expected either file or simulate")),
    }
}

/// Trains the ANN; returns its checkpoint.
fn train_ann(context: &Context, config: &Config, folder: &Path, data: &Dataset) -> Result<PathBuf> {
    let train = config.ann.train.as_ref().ok_or_else(|| usage("ann: expected either checkpoint or train"))?;
    let mut recipe = Recipe::of(train.arch).with_rule(None, train.lr, 0.0)?;
    recipe.preset = train.preset;
    recipe.epochs = train.epochs;
    recipe.batch_size = train.batch_size.unwrap_or(recipe.batch_size);
    let into = folder.join("ann");
    let trained = train_into(context, &recipe, data, &into, true)?;
    copy_rows::<Training>(&into, folder)?;
    Ok(trained)
}

/// Adds the rows of a stage's table that the run's table lacks.
fn copy_rows<R: Row + PartialEq>(from: &Path, to: &Path) -> Result<()> {
    let known: Vec<R> = read_csv(&to.join(R::FILE))?.unwrap_or_default();
    let rows: Vec<R> = read_csv(&from.join(R::FILE))?.unwrap_or_default();
    let new: Vec<R> = rows.into_iter().filter(|r| !known.contains(r)).collect();
    Ok(append_csv(&to.join(R::FILE), &new)?)
}

impl Run<'_> {
    /// Whether a resumed run judged this network already.
    fn judged(&self, network: &str) -> Result<bool> {
        let rows: Vec<Evaluation> = read_csv(&self.folder.join(EVALUATIONS))?.unwrap_or_default();
        Ok(rows.iter().any(|r| r.network == network))
    }

    fn checkpoint_of(&self, network: &str) -> PathBuf {
        self.folder.join(format!("{network}.pth"))
    }

    fn test(&self, limit: Option<usize>) -> Recordings {
        self.test.head(limit.unwrap_or(usize::MAX).min(self.test.len()))
    }

    fn judge_ann(&self) -> Result<()> {
        if self.judged("ann")? {
            return Ok(());
        }
        let batch = self.config.evaluate.batch_size;
        self.keep(&Measured::ann(self.context, "ann", &self.ann, &self.test, batch, Loss::CrossEntropy)?)
    }

    fn keep(&self, measured: &Measured) -> Result<()> {
        measured.write(self.folder)?;
        measured.lines().iter().chain(&measured.notes()).for_each(|line| self.context.note(line));
        Ok(())
    }

    fn convert(&self, route: &Convert) -> Result<()> {
        let path = self.checkpoint_of(&route.name);
        let encoding = route.encoder.unwrap_or(route.preset.encoding());
        if !path.exists() {
            let conversion =
                Conversion::new(route.preset, route.method, route.steps(), route.scale, route.readout_gain)?;
            let calibration = self.data.train.head(route.samples.min(self.data.train.len()));
            if let Some(note) = notes::on_calibration(route.samples, calibration.len()) {
                self.context.note(format!("{}: {note}", route.name));
            }
            let made = conversion.convert(self.context, &self.ann, &calibration, encoding)?;
            let ann = checkpoint(&self.ann_path)?;
            let origin = Origin { sample_rate_hz: self.data.sample_rate_hz, nerve: self.data.nerve };
            let input = KnownInput::of(&ann).converted_with(&calibration, &origin);
            converted(&ann, &made, encoding, route.timesteps, &input).save(&path)?;
            let thresholds: Vec<String> =
                made.network.layers.iter().map(|l| format!("{:.4}", l.threshold)).collect();
            self.context.note(format!("{}: thresholds {}", route.name, thresholds.join(", ")));
        }
        let test = self.test(route.test_samples);
        self.judge(&route.name, (Kind::Converted, None), route.timesteps, &route.also_at, &test)
    }

    fn finetune(&self, index: usize, resume: bool) -> Result<()> {
        let job = &self.config.finetune[index];
        let path = self.checkpoint_of(&job.name);
        if !path.exists() {
            let start = self.simulation(&self.checkpoint_of(&job.from), job.timesteps)?;
            let preset = start.network.preset;
            let by_default = preset == Preset::Default;
            let options = Options {
                rule: adam(job.lr, 0.0)?,
                batch_size: job.batch_size,
                steps: job.timesteps,
                encoding: start.encoding,
                surrogate: if by_default { Surrogate::DEFAULT } else { Surrogate::PUBLISHED_LINEAR },
                learn_thresholds: by_default,
                learn_leaks: by_default,
                shuffle: true,
                schedule: schedule(None, preset, job.epochs),
                seed: self.context.seed,
            };
            let folder = self.folder.join(format!("{}-training", job.name));
            let train = self.data.train.head(job.samples.unwrap_or(usize::MAX).min(self.data.train.len()));
            let name = job.name.clone();
            let input = KnownInput::trained_on(&self.data);
            let into = Job {
                name,
                options,
                epochs: job.epochs,
                max_steps: None,
                folder: folder.clone(),
                resume,
                input,
            };
            let report = finetune(self.context, into, start, &train, &self.test(job.test_samples))?;
            copy_rows::<Finetune>(&folder, self.folder)?;
            checkpoint(&report.checkpoint)?.save(&path)?;
        }
        let best = checkpoint(&path)?.epoch.and_then(|e| u32::try_from(e).ok());
        self.judge(&job.name, (Kind::Finetuned, best), job.timesteps, &[], &self.test)
    }

    /// A spiking network from the run folder.
    fn simulation(&self, path: &Path, steps: usize) -> Result<Simulation> {
        let found = checkpoint(path)?;
        let (contacts, samples) = (self.test.contacts, self.test.samples);
        let loaded = SpikingNetwork::load(&found, path, None, contacts, samples)?;
        Ok(Simulation { network: loaded.network, encoding: loaded.encoding, steps })
    }

    /// Judges a spiking network from the run folder.
    fn judge(
        &self,
        name: &str,
        how: (Kind, Option<u32>),
        steps: usize,
        also_at: &[usize],
        test: &Recordings,
    ) -> Result<()> {
        if self.judged(name)? {
            return Ok(());
        }
        let chosen = self.simulation(&self.checkpoint_of(name), steps)?;
        let batch = self.config.evaluate.batch_size;
        self.keep(&Measured::snn(self.context, name, how, chosen, also_at, test, batch)?)
    }

    fn spikes(&self) -> Result<()> {
        let Some(wanted) = &self.config.spikes else { return Ok(()) };
        if self.folder.join(Raster::FILE).exists() {
            return Ok(());
        }
        let converted = self.config.convert.iter().map(|c| (&c.name, c.timesteps));
        let tuned = self.config.finetune.iter().map(|f| (&f.name, f.timesteps));
        let steps = converted.chain(tuned).find(|(name, _)| **name == wanted.network).map_or(1, |n| n.1);
        let chosen = self.simulation(&self.checkpoint_of(&wanted.network), steps)?;
        let device = self.context.device()?;
        spikes::record(self.context, &wanted.network, chosen, &self.test, wanted.sample, device)?
            .write(self.folder)
    }
}
