//! What `escape-snn run` does, stage by stage. Each stage leaves files in the run folder that later stages
//! and a resumed run start from.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use escape_checkpoint::input::KnownInput;
use escape_checkpoint::{Checkpoint, Selection, Value as Text};
use escape_convert::quantised::QuantisedAnn;
use escape_data::{Dataset, Recordings};
use escape_model::ann::Ann;
use escape_network::metrics::Loss;
use escape_report::rows::{
    Activity, Evaluation, Finetune, Kind, Raster, Row, Training, read_csv, read_table,
};
use escape_snn_core::rules::Rules;
use escape_snn_core::stored;
use serde_json::{Map, Value};

use crate::config::{Config, Convert, Train};
use crate::conversion::{calibrated, converted, trained_thresholds};
use crate::defaults::Defaults;
use crate::energy;
use crate::folder::{
    Held, Input, MANIFEST, Manifest, differences, files_of, hold, left_in, remove, write_text,
};
use crate::load::{
    Simulation, checkpoint, dataset, kind_of, network, reading_for, simulated, tell_fewer_steps, tell_remarks,
};
use crate::measure;
use crate::measured::{Measured, put};
use crate::notes;
use crate::place::{check_apart, check_results, existing, existing_data, make_folder};
use crate::session::{Session, usage};
use crate::spikes;
use crate::training::ann::{Recipe, train_stages};
use crate::training::finetune::{Job, finetune};

/// The settings as they were resolved, in the run folder.
pub const RESOLVED: &str = "config.resolved.yaml";
/// What was evaluated already; written last of a network's tables.
const EVALUATIONS: &str = Evaluation::FILE;

/// A run in progress.
struct Run<'a> {
    session: &'a Session,
    config: &'a Config,
    folder: &'a Path,
    data: Dataset,
    /// The test recordings that networks are judged by.
    test: Recordings,
    /// The ANN, and what it was read from; none where spiking networks are given.
    ann: Option<(Ann, Checkpoint)>,
}

/// Runs everything that the configuration asks for; returns the page, if there is to be one.
///
/// # Errors
/// Input that is missing or does not fit, settings that an interrupted run did not have, a folder that holds another run or
/// another process at work; `ModelError::Interrupted` where the listener asked to stop.
pub fn run(session: &Session, config: &Config, folder: &Path, resume: bool) -> Result<Option<PathBuf>> {
    run_in(session, config, folder, resume, None)
}

/// As [`run`], in a folder that this process may hold already, and then holds still.
///
/// # Errors
/// As [`run`].
pub fn run_in(
    session: &Session,
    config: &Config,
    folder: &Path,
    resume: bool,
    held: Option<&Held>,
) -> Result<Option<PathBuf>> {
    // Everything that can be wrong with the input is found before the folder is made.
    let inputs = inputs(config)?;
    if resume {
        check_same(session, config, folder, &inputs)?;
    } else {
        check_new(session, config, folder)?;
    }
    let networks: Vec<&str> = config.networks().collect();
    let replaced = if session.force { left_in(folder, RESOLVED, &networks) } else { Vec::new() };
    let read: Vec<&Path> = inputs.iter().map(|input| input.path.as_path()).collect();
    replaced.iter().try_for_each(|old| check_apart(old, &read))?;
    let data = recordings(session, config)?;
    if data.test.is_empty() {
        return Err(usage(
            "data: no test recordings, by which a run judges its networks; give a file with both splits",
        ));
    }
    let limit = config.evaluate.samples.unwrap_or(usize::MAX);
    let test = data.test.head(limit);
    if let Some(wanted) = &config.spikes {
        spikes::check_sample(wanted.sample, test.len()).map_err(usage)?;
    }
    let origin = data.origin();
    let load = |path: &Path, selection: &Selection| -> Result<(Ann, Checkpoint)> {
        let found = network(session, path, selection)?;
        tell_remarks(session, path, &KnownInput::of(&found), &origin);
        let ann = Ann::from_checkpoint(&found, path, test.contacts, test.samples, session.device()?)?;
        Ok((ann, found))
    };
    let selection = config.ann.selection()?;
    let given = config.ann.checkpoint.as_ref().map(|path| load(path, &selection));
    let given = given.transpose()?;

    make_folder(folder)?;
    let _held = if held.is_none() { Some(hold(folder)?) } else { None };
    remove(&replaced)?;
    let text = resolved(config)?;
    // A resumed run keeps what it was started with.
    if !folder.join(RESOLVED).exists() {
        write_text(&folder.join(RESOLVED), &text)?;
    }
    if !folder.join(MANIFEST).exists() {
        Manifest::of(session, &config.name, &text, inputs)?.write(folder)?;
    }
    let trained = config.ann.train.as_ref().map(|train| -> Result<_> {
        load(&train_ann(session, config, train, folder, &data)?, &Selection::default())
    });
    let ann = given.or(trained.transpose()?);
    let run = Run { session, config, folder, data, test, ann };
    run.measure_ann()?;
    run.baselines()?;
    for route in &config.convert {
        run.convert(route)?;
    }
    for (i, _) in config.finetune.iter().enumerate() {
        run.finetune(i)?;
    }
    run.spikes()?;
    if config.energy.wanted() && folder.join(Activity::FILE).exists() {
        energy::write(folder, config.energy.constants())?;
    }
    if !config.report {
        return Ok(None);
    }
    session.note("drawing the figures");
    Ok(Some(escape_report::build(folder)?.page))
}

/// A configuration as the run folder keeps it.
pub(crate) fn resolved(config: &Config) -> Result<String> {
    serde_yaml::to_string(config).context("the configuration cannot be written as YAML")
}

/// The files that a run reads.
fn inputs(config: &Config) -> Result<Vec<Input>> {
    let mut files = Vec::new();
    if let Some(data) = &config.data.file {
        files.extend(escape_data::files(&existing_data(data)?, &config.data.reading())?);
    }
    files.extend(config.ann.checkpoint.clone());
    files.extend(config.ann.network_file().cloned());
    files.extend(config.convert.iter().filter_map(|route| route.checkpoint.clone()));
    files.extend(config.teachers().map(|(_, teaching)| teaching.checkpoint.clone()));
    if let Some(path) = config.energy.constants() {
        energy::constants(path)?;
        files.push(path.to_path_buf());
    }
    files.iter().map(|p| Input::of(&existing(p)?)).collect()
}

/// Whether a run can start in a folder.
///
/// # Errors
/// The folder holds a run, or files that this one would take for its own, and they may not be replaced.
fn check_new(session: &Session, config: &Config, folder: &Path) -> Result<()> {
    check_results(session, folder, &[MANIFEST, RESOLVED], "a run", "continue it with `run --resume`, ")?;
    check_results(session, folder, &["report/index.html"], "a page", "")?;
    check_foreign(session, config, folder)
}

/// Whether a folder without a run is free of files that a run would take for its own.
fn check_foreign(session: &Session, config: &Config, folder: &Path) -> Result<()> {
    let files = files_of(&config.networks().collect::<Vec<_>>());
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    check_results(session, folder, &files, "files under this run's names", "")
}

/// Whether the run in a folder was started with these settings and inputs.
///
/// # Errors
/// It was not; each difference is named.
fn check_same(session: &Session, config: &Config, folder: &Path, inputs: &[Input]) -> Result<()> {
    let resolved = folder.join(RESOLVED);
    let Ok(text) = std::fs::read_to_string(&resolved) else {
        if folder.join(MANIFEST).exists() {
            return Err(usage(format!(
                "{}: holds a run without {RESOLVED}, so that nobody can tell what it was started with; choose another \
                 folder",
                folder.display()
            )));
        }
        check_foreign(session, config, folder)?;
        session.note(format!("{}: nothing to resume yet, the run starts", folder.display()));
        return Ok(());
    };
    let old = Config::parse(&resolved.display().to_string(), &text, folder, &[]).with_context(|| {
        format!("{}: what the run was started with cannot be read; choose another folder", folder.display())
    })?;
    let mut found = differences(&old.comparable()?, &config.comparable()?);
    if let Ok(text) = std::fs::read_to_string(folder.join(MANIFEST)) {
        let manifest: Value = serde_json::from_str(&text).with_context(|| {
            format!(
                "{}: expected JSON; remove it, and the files that the run read are not compared",
                folder.join(MANIFEST).display()
            )
        })?;
        // Networks and constants come after the recordings' files, in the order of `inputs`.
        let of_ann =
            [("ann.checkpoint", config.ann.checkpoint.as_ref()), ("ann.network", config.ann.network_file())];
        let of_ann = of_ann.iter().filter(|(_, path)| path.is_some()).map(|(key, _)| (*key).to_owned());
        let given = config.convert.iter().enumerate().filter(|(_, route)| route.checkpoint.is_some());
        let given = given.map(|(i, _)| format!("convert[{i}].checkpoint"));
        let teachers = config.teachers().map(|(at, _)| at);
        let constants = config.energy.constants().map(|_| "energy.constants".to_owned());
        let networks: Vec<String> = of_ann.chain(given).chain(teachers).chain(constants).collect();
        let recordings = inputs.len() - networks.len();
        let setting = |i: usize| match i < recordings {
            true => format!("data.file ({})", i + 1),
            false => networks[i - recordings].clone(),
        };
        let named = |hashes: Vec<Value>| -> Value {
            hashes.into_iter().enumerate().map(|(i, hash)| (setting(i), hash)).collect::<Map<_, _>>().into()
        };
        // Those of single commands that added to the folder come after the run's own.
        let kept = manifest["inputs"].as_array().into_iter().flatten().take(inputs.len());
        let before = kept.map(|input| input["sha256"].clone()).collect();
        let now = inputs.iter().map(|input| Value::from(input.sha256.clone())).collect();
        found.extend(differences(&named(before), &named(now)));
    }
    if found.is_empty() {
        return Ok(());
    }
    Err(usage(format!(
        "{}: the interrupted run had other settings: {}; resume it with the same ones, or leave --resume out to start a \
         new run",
        resolved.display(),
        found.join("; ")
    )))
}

/// The recordings. Simulated ones are not stored: settings and seed make them again, the same.
fn recordings(session: &Session, config: &Config) -> Result<Dataset> {
    match (&config.data.file, &config.data.simulate) {
        (Some(file), _) => {
            let reading = config.data.reading();
            let selection = config.ann.selection()?;
            // What is wrong with the checkpoint is said where it is needed.
            let given = config.ann.checkpoint.as_ref().map(|path| Checkpoint::load_as(path, &selection));
            let reading = match given {
                Some(Ok((network, _))) => reading_for(&reading, &network),
                _ => reading,
            };
            dataset(session, file, &reading)
        }
        (None, Some(simulate)) => {
            session.note(format!("simulating {} recordings", simulate.samples));
            simulated(session, simulate)
        }
        (None, None) => Err(usage("data: expected either file or simulate")),
    }
}

/// Trains the ANN, stages before the last in folders of their own; returns its checkpoint.
fn train_ann(
    session: &Session,
    config: &Config,
    wanted: &Train,
    folder: &Path,
    data: &Dataset,
) -> Result<PathBuf> {
    let described = config.ann.described()?;
    let into = folder.join("ann");
    let own = |recipe: Recipe| {
        let into = if recipe.arch == wanted.arch { into.clone() } else { into.join(recipe.name()) };
        (Recipe { described: described.clone(), ..recipe }, into)
    };
    let stages: Vec<_> = wanted.stages()?.into_iter().map(own).collect();
    let trained = train_stages(session, &stages, data, None, true)?;
    let rows = stages.iter().map(|(_, into)| read_table::<Training>(into));
    let rows: Vec<Training> = rows.collect::<Result<Vec<_>, _>>()?.concat();
    put(folder, &rows, |_| true)?;
    Ok(trained.last().context("a training has a stage")?.checkpoint.clone())
}

/// Takes a network's rows of a stage's table over into the run's.
fn copy_rows<R: Row + Clone>(from: &Path, to: &Path, theirs: impl Fn(&R) -> bool) -> Result<()> {
    let rows: Vec<R> = read_csv(&from.join(R::FILE))?.unwrap_or_default();
    // A stage whose folder is gone takes nothing away.
    if rows.is_empty() { Ok(()) } else { put(to, &rows, theirs) }
}

impl Run<'_> {
    /// Whether an interrupted run has measured this network already.
    fn is_measured(&self, network: &str) -> Result<bool> {
        let rows: Vec<Evaluation> = read_csv(&self.folder.join(EVALUATIONS))?.unwrap_or_default();
        Ok(rows.iter().any(|r| r.network == network))
    }

    fn checkpoint_of(&self, network: &str) -> PathBuf {
        self.folder.join(format!("{network}.pth"))
    }

    fn test(&self, limit: Option<usize>) -> Recordings {
        self.test.head(limit.unwrap_or(usize::MAX))
    }

    fn measure_ann(&self) -> Result<()> {
        let Some((ann, _)) = self.ann.as_ref().filter(|_| self.config.judges("ann")) else { return Ok(()) };
        if self.is_measured("ann")? {
            return Ok(());
        }
        let batch = self.config.evaluate.batch_size;
        self.keep(&measure::ann(self.session, "ann", ann, &self.test, batch, Loss::CrossEntropy)?)
    }

    /// The ANN quantised, as far as an interrupted run has not measured it. It is made anew each time, which is no work.
    fn baselines(&self) -> Result<()> {
        let (Some(wanted), Some((ann, trained))) = (&self.config.baselines, &self.ann) else { return Ok(()) };
        let mut open = Vec::new();
        for (name, precision) in wanted.networks().map_err(usage)? {
            if !self.is_measured(&name)? {
                open.push((name, precision));
            }
        }
        if open.is_empty() {
            return Ok(());
        }
        let calibration = self.data.train.head(wanted.samples);
        if let Some(note) = notes::on_calibration(wanted.samples, calibration.len()) {
            self.session.note(format!("baselines: {note}"));
        }
        let found = calibrated(self.session, ann, &calibration, Rules::DEFAULT, wanted.method)?;
        let batch = self.config.evaluate.batch_size;
        for (name, precision) in open {
            let own = trained_thresholds(ann, trained, precision)?;
            let ann = QuantisedAnn::new(own.as_ref().unwrap_or(&found), precision, self.session.device()?)?;
            self.keep(&measure::quantised(
                self.session,
                &name,
                &ann,
                &self.test,
                batch,
                Loss::CrossEntropy,
            )?)?;
        }
        Ok(())
    }

    fn keep(&self, measured: &Measured) -> Result<()> {
        measured.write(self.folder)?;
        measured.lines().iter().chain(&measured.notes()).for_each(|line| self.session.note(line));
        Ok(())
    }

    fn convert(&self, route: &Convert) -> Result<()> {
        let path = self.checkpoint_of(&route.name);
        match (&route.checkpoint, &self.ann) {
            _ if path.exists() => {}
            (Some(given), _) => self.take(route, given, &path)?,
            (None, None) => return Err(usage("ann: expected either checkpoint or train")),
            (None, Some((ann, ann_checkpoint))) => self.make(route, ann, ann_checkpoint, &path)?,
        }
        let test = self.test(route.test_samples);
        // One that was given may have been fine-tuned.
        let how = match &route.checkpoint {
            Some(_) => kind_of(&checkpoint(&path)?, true),
            None => (Kind::Converted, None),
        };
        self.measure(&route.name, how, route.timesteps, &route.also_at, &test)
    }

    /// Takes a spiking network that is there already.
    fn take(&self, route: &Convert, given: &Path, path: &Path) -> Result<()> {
        let mut found = checkpoint(given)?;
        let loaded = stored::load(&found, given, Some(route.preset), self.test.contacts, self.test.samples)?;
        match loaded.stored_preset {
            Some(stored) if stored != route.preset => Err(usage(format!(
                "{}: expected a network of the {} preset, as {} says, got one of the {stored} preset",
                given.display(),
                route.preset,
                route.name
            )))?,
            Some(_) => {}
            None => found.extra.push((stored::PRESET_KEY.into(), Text::Str(route.preset.to_string()))),
        }
        Ok(found.save(path)?)
    }

    /// Converts the ANN.
    fn make(&self, route: &Convert, ann: &Ann, ann_checkpoint: &Checkpoint, path: &Path) -> Result<()> {
        let encoding = route.encoder.unwrap_or(route.preset.rules().encoding);
        let conversion = route.conversion()?;
        let calibration = self.data.train.head(route.samples);
        if let Some(note) = notes::on_calibration(route.samples, calibration.len()) {
            self.session.note(format!("{}: {note}", route.name));
        }
        let made = conversion.convert(self.session, (ann, ann_checkpoint), &calibration)?;
        made.notes.iter().for_each(|note| self.session.note(format!("{}: {note}", route.name)));
        let input =
            KnownInput::of(ann_checkpoint).converted_with(&self.data.origin().known_input(&calibration));
        converted(ann_checkpoint, &made, encoding, route.timesteps, &input).save(path)?;
        let thresholds: Vec<String> =
            made.network.layers.iter().map(|l| format!("{:.4}", l.neuron.threshold())).collect();
        self.session.note(format!("{}: thresholds {}", route.name, thresholds.join(", ")));
        Ok(())
    }

    fn finetune(&self, index: usize) -> Result<()> {
        let job = &self.config.finetune[index];
        let path = self.checkpoint_of(&job.name);
        let folder = self.folder.join(format!("{}-training", job.name));
        if !path.exists() {
            let from = self.checkpoint_of(&job.from);
            let start = self.simulation(&from, job.timesteps)?;
            let preset = start.network.rules.preset;
            let into = Job {
                name: job.name.clone(),
                options: job.options(preset, start.encoding, self.session.seed)?,
                epochs: job.epochs,
                max_steps: job.max_steps,
                skip: job.skip,
                samples: job.samples,
                validation: job.validation.unwrap_or(Defaults::of(preset).held_out),
                temperature: job.loss_temperature.unwrap_or_default(),
                teacher: job.teacher.clone(),
                folder: folder.clone(),
                given: KnownInput::of(&checkpoint(&from)?),
                input: self.data.origin().known_input(&self.data.train),
                // The folder is the run's: what is in it was begun by this run.
                resume: true,
            };
            let test = self.test(job.test_samples);
            let report = finetune(self.session, into, start, &self.data.train, &test, false)?;
            if !report.improved {
                self.session
                    .note(format!("{}: no epoch was better than {}, which is kept", job.name, job.from));
            }
            checkpoint(&report.checkpoint)?.save(&path)?;
        }
        copy_rows(&folder, self.folder, |row: &Finetune| row.network == job.name)?;
        let best = checkpoint(&path)?.epoch.and_then(|e| u32::try_from(e).ok());
        self.measure(&job.name, (Kind::Finetuned, best), job.timesteps, &[], &self.test)
    }

    /// A spiking network from the run folder.
    fn simulation(&self, path: &Path, steps: usize) -> Result<Simulation> {
        let found = checkpoint(path)?;
        let (contacts, samples) = (self.test.contacts, self.test.samples);
        let loaded = stored::load(&found, path, None, contacts, samples)?;
        tell_fewer_steps(self.session, (path, &found), loaded.network.rules.preset, steps);
        let engine = self.config.evaluate.engine;
        Ok(Simulation { network: loaded.network, encoding: loaded.encoding, steps, engine })
    }

    /// Measures a spiking network of the run folder.
    fn measure(
        &self,
        name: &str,
        how: (Kind, Option<u32>),
        steps: usize,
        also_at: &[usize],
        test: &Recordings,
    ) -> Result<()> {
        if !self.config.judges(name) || self.is_measured(name)? {
            return Ok(());
        }
        let chosen = self.simulation(&self.checkpoint_of(name), steps)?;
        let batch = self.config.evaluate.batch_size;
        self.keep(&measure::snn_and_zeros(self.session, name, how, chosen, also_at, test, batch)?)
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
        spikes::record(self.session, &wanted.network, chosen, &self.test, wanted.sample)?.write(self.folder)
    }
}
