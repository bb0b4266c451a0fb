//! From a study's YAML file to its cells.
//!
//! configs/study.yaml explains every key. An entry under `ann`, `convert` and `finetune` has the keys that it has in a run
//! ([`crate::config`]), which also checks them; `timesteps` may be a list, whose first number tables show where they have room
//! for one.
//!
//! Letters: N recordings, T timesteps, B recordings a step.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use escape_data::Classes;
use escape_data::nerve::NerveConfig;
use escape_network::arch::{CONTACTS, SAMPLES};
use escape_network::sequential::Sequential;
use escape_snn_core::encode::Encoding;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::json;
use serde_yaml::{Mapping, Value};

use super::space::SPACE;
use super::{CELLS, Cell, CellKind, Index, Shown, space};
use crate::config::{self, Config, Energies, STANDARD_NERVE, Spikes};
use crate::defaults::{Defaults, Route};
use crate::energy;
use crate::folder::{A_NAME, BEST, Input, names_a_file, sha256};
use crate::session::usage;
use crate::spikes::check_sample;
use crate::training::finetune::check_skip;
use crate::training::teacher::holds_logits;

/// A study.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Study {
    /// Names the study and its folder.
    pub name: String,
    /// Seeds; whatever one reaches is done for each.
    pub seeds: Vec<u64>,
    /// CPU threads of a cell. Trained ANNs depend on them in the last digits, so they are part of what is asked for.
    #[serde(default = "one_thread")]
    pub threads: usize,
    /// Recordings, as in a run.
    pub data: Value,
    /// How networks are judged, as in a run.
    #[serde(default)]
    pub evaluate: Mapping,
    /// ANNs, each with a name; or one as in a run, whose name is `ann`.
    #[serde(deserialize_with = "one_or_several")]
    pub ann: Vec<Mapping>,
    /// Routes; `ann` says from which of several.
    #[serde(default)]
    pub convert: Vec<Mapping>,
    /// Fine-tunings.
    #[serde(default)]
    pub finetune: Vec<Mapping>,
    /// The recording that is shown spike by spike, and in which network, an entry under `convert` or `finetune`; of its first number
    /// of timesteps and the first seed.
    #[serde(default)]
    pub spikes: Option<Spikes>,
    /// The ANNs quantised, as in a run.
    #[serde(default)]
    pub baselines: Option<Value>,
    /// Constants of the energy models, as in a run. They reach no cell.
    #[serde(default)]
    pub energy: Option<Value>,
    /// Whether the networks of Table 1 are timed once all cells are done.
    #[serde(default = "config::yes")]
    pub timing: bool,
    /// Whether its entries are those of a space of settings.
    #[serde(skip)]
    pub searched: bool,
}

fn one_thread() -> usize {
    1
}

fn one_or_several<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<Mapping>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected an ANN's settings, or a list of such with a name each")]
    enum Anns {
        One(Mapping),
        Several(Vec<Mapping>),
    }
    Ok(match Anns::deserialize(d)? {
        Anns::One(mut ann) => {
            ann.entry(text("name")).or_insert(text("ann"));
            vec![ann]
        }
        Anns::Several(anns) => anns,
    })
}

/// Whether a configuration is that of a study.
pub fn is_study(settings: &Value) -> bool {
    settings.get("seeds").is_some()
}

/// What an entry's cells have in common with the next entry that stands on them.
struct Made {
    entry: String,
    ann: String,
    seed: Option<u64>,
    /// The study's seed that this is of, even where it reaches nothing.
    of_seed: u64,
    timesteps: usize,
    folder: String,
    /// Multiply-accumulates of a recording, of those of the usual network.
    size: f64,
}

/// Rough costs, in seconds of one core for a network of the usual size. Only their ratios matter: what the cells take is
/// measured while they run.
mod cost {
    /// An ANN's training, a recording and epoch.
    pub const TRAINING: f64 = 0.018;
    /// An ANN's pass, a recording.
    pub const PASS: f64 = 0.006;
    /// A timestep of a spiking network, a recording.
    pub const STEP: f64 = 0.0012;
    /// Fine-tuning, a recording and epoch: whatever T is, and for each timestep.
    pub const TUNING: [f64; 2] = [0.02, 0.0015];
    /// Bytes that fine-tuning keeps, a recording and timestep.
    pub const KEPT: u64 = 3 << 20;
    /// Bytes of a program with libtorch and a network.
    pub const PROGRAM: u64 = 1 << 30;
    /// Bytes of a recording of 56 contacts x 100 samples.
    pub const RECORDING: u64 = 56 * 100 * 4;
    /// Recordings where nobody knows how many there are.
    pub const RECORDINGS: usize = 28_000;
    /// Reading a recording from the file.
    pub const READING: f64 = 1e-4;
    /// Multiply-accumulates of a recording in the usual network, and the least share of them that counts: small networks take
    /// their time for other things.
    pub const USUAL: [f64; 2] = [126e6, 0.02];
}

/// How large the network of a configuration is, as far as that is known without reading a file.
fn size(config: &Config) -> f64 {
    let train = config.ann.train.as_ref();
    let described = config.ann.described().ok().flatten();
    let family = || {
        let recipe = train?.recipe().ok()?;
        recipe.network(CONTACTS, SAMPLES, &Classes::Open.names()).ok()
    };
    let macs = |network: Sequential| (0..network.layers().len()).map(|i| network.macs(i)).sum::<usize>();
    let [usual, least] = cost::USUAL;
    described.or_else(family).map_or(1.0, |network| (macs(network) as f64 / usual).max(least))
}

impl Study {
    /// Reads a study from a configuration's settings.
    ///
    /// # Errors
    /// A key is unknown or of the wrong type, an entry has no name of its own.
    pub fn of(source: &str, settings: Value) -> Result<Self> {
        let searched = settings.get(SPACE).is_some();
        let settings = space::expanded(settings).map_err(|why| usage(format!("{source}: {why}")))?;
        let study: Self = serde_path_to_error::deserialize(settings)
            .map_err(|e| usage(format!("{source}: at {}: {}", e.path(), e.inner())))?;
        let study = Self { searched, ..study };
        let mut problems = Vec::new();
        let mut check = |fits: bool, text: String| {
            if !fits {
                problems.push(text);
            }
        };
        check(names_a_file(&study.name), format!("name: {A_NAME}"));
        check(!study.seeds.is_empty(), "seeds: expected at least one, got none".into());
        let twice = study.seeds.iter().enumerate().find(|(i, seed)| study.seeds[..*i].contains(seed));
        check(twice.is_none(), format!("seeds: {} is there twice", twice.map_or(0, |(_, seed)| *seed)));
        check((1..=4096).contains(&study.threads), "threads: expected 1 to 4096".into());
        check(!study.ann.is_empty(), "ann: expected at least one, got none".into());
        let sections = [("ann", &study.ann), ("convert", &study.convert), ("finetune", &study.finetune)];
        let mut names = Vec::new();
        for (section, entries) in sections {
            for (i, entry) in entries.iter().enumerate() {
                let name = entry.get("name").and_then(Value::as_str).unwrap_or_default();
                let own = names_a_file(name) && !names.contains(&name) && (name != "ann" || section == "ann");
                check(own, format!("{section}[{i}].name: {A_NAME}"));
                names.push(name);
            }
        }
        if problems.is_empty() { Ok(study) } else { Err(usage(format!("{source}: {}", problems.join("; ")))) }
    }

    /// The cells, for a study that lies in `folder`. Reads the files that it starts from, for their hashes.
    ///
    /// # Errors
    /// Settings that do not fit each other, or a file that is not there.
    pub fn plan(&self, source: &str, folder: &Path) -> Result<Index> {
        // As configurations name what is there.
        let folder = folder.canonicalize().or_else(|_| std::path::absolute(folder))?;
        let mut planner = Planner::new(self, source, folder)?;
        planner.anns()?;
        planner.conversions()?;
        planner.tunings()?;
        let spikes = planner.spikes()?;
        Ok(Index {
            name: self.name.clone(),
            seeds: self.seeds.clone(),
            threads: self.threads,
            timing: self.timing,
            searched: self.searched,
            spikes,
            constants: planner.constants()?,
            cells: planner.cells,
        })
    }
}

struct Planner<'a> {
    study: &'a Study,
    source: &'a str,
    folder: PathBuf,
    /// Where the folder of the cells is, past all links, if it is there.
    cells_lie_in: Option<PathBuf>,
    cells: Vec<Cell>,
    /// `data` of the runs.
    data: Value,
    /// What the recordings are known by.
    data_key: serde_json::Value,
    /// The cell that makes them, if one does.
    data_needs: Vec<String>,
    /// Recordings to train with and to judge by.
    counts: [usize; 2],
    anns: Vec<(Made, Value)>,
    conversions: Vec<(Made, Mapping)>,
    tunings: Vec<Made>,
    /// Teachers' files that were read.
    teachers: HashMap<PathBuf, TaughtBy>,
}

/// What trainings with a teacher stand on.
#[derive(Clone)]
enum TaughtBy {
    /// The cell of its logits.
    Cell(String),
    /// A file that holds them, by hash.
    File(serde_json::Value),
}

impl TaughtBy {
    fn cell(&self) -> Option<&String> {
        match self {
            Self::Cell(name) => Some(name),
            Self::File(_) => None,
        }
    }

    /// What it is known by among what a cell stands on.
    fn known(&self) -> serde_json::Value {
        match self {
            Self::Cell(name) => json!(name),
            Self::File(hash) => hash.clone(),
        }
    }
}

/// What a cell is made of.
struct Draft {
    kind: CellKind,
    entry: String,
    ann: String,
    seed: Option<u64>,
    timesteps: Option<usize>,
    needs: Vec<String>,
    /// Files and cells that it stands on, by hash.
    upon: serde_json::Value,
    work: f64,
    memory: u64,
}

fn text(value: &str) -> Value {
    Value::from(value)
}

fn mapping(entries: impl IntoIterator<Item = (&'static str, Value)>) -> Mapping {
    entries.into_iter().map(|(key, value)| (text(key), value)).collect()
}

impl<'a> Planner<'a> {
    fn new(study: &'a Study, source: &'a str, folder: PathBuf) -> Result<Self> {
        let mut planner = Self {
            study,
            source,
            cells_lie_in: folder.join(CELLS).canonicalize().ok(),
            folder,
            cells: Vec::new(),
            data: study.data.clone(),
            data_key: serde_json::Value::Null,
            data_needs: Vec::new(),
            counts: [cost::RECORDINGS, cost::RECORDINGS],
            anns: Vec::new(),
            conversions: Vec::new(),
            tunings: Vec::new(),
            teachers: HashMap::new(),
        };
        match study.data.get("simulate") {
            Some(simulate) => planner.simulated(simulate.clone())?,
            None => {
                let file = study.data.get("file").and_then(Value::as_str);
                let file = file.ok_or_else(|| planner.wrong("data: expected either file or simulate"))?;
                planner.data_key = hashes(Path::new(file))?;
            }
        }
        Ok(planner)
    }

    fn wrong(&self, what: impl std::fmt::Display) -> anyhow::Error {
        usage(format!("{}: {what}", self.source))
    }

    /// Recordings of the nerve are simulated once, into a file that all cells read.
    fn simulated(&mut self, settings: Value) -> Result<()> {
        let mut nerve: NerveConfig = serde_path_to_error::deserialize(settings)
            .map_err(|e| self.wrong(format!("at data.simulate.{}: {}", e.path(), e.inner())))?;
        nerve.seed.get_or_insert(STANDARD_NERVE);
        let problems = nerve.problems();
        if !problems.is_empty() {
            return Err(self.wrong(format!("data.simulate: {}", problems.join("; "))));
        }
        let settings = serde_json::to_value(&nerve)?;
        self.data_key = json!({ "simulate": settings });
        let name = format!("recordings-{}", key_of(&self.data_key)?);
        let [test, train] = nerve.recordings();
        self.counts = [train, test];
        let file = self.folder.join(CELLS).join(&name).join(RECORDINGS);
        self.data = Value::Mapping(mapping([("file", text(&file.display().to_string()))]));
        self.data_needs = vec![name.clone()];
        self.cells.push(Cell {
            folder: name,
            kind: CellKind::Data,
            entry: "recordings".into(),
            ann: String::new(),
            seed: None,
            timesteps: None,
            needs: Vec::new(),
            work: (train + test) as f64 * 0.002,
            memory: cost::PROGRAM + self.held(),
            settings,
        });
        Ok(())
    }

    /// Bytes that recordings take at most: the file's, those to train on, and what is on its way from one to the other.
    fn held(&self) -> u64 {
        3 * (self.counts[0] + self.counts[1]) as u64 * cost::RECORDING
    }

    /// Test recordings that networks are judged by.
    fn judged(&self) -> f64 {
        let wanted = self.study.evaluate.get("samples").and_then(Value::as_u64);
        (wanted.map_or(self.counts[1], |n| self.counts[1].min(n as usize))) as f64
    }

    /// Settings that all runs have; `only` is the network to judge.
    fn settings(&self, name: &str, seed: Option<u64>, only: &str) -> Mapping {
        let mut evaluate = self.study.evaluate.clone();
        evaluate.insert(text("only"), Value::Sequence(vec![text(only)]));
        mapping([
            ("name", text(name)),
            ("seed", Value::from(seed.unwrap_or(0))),
            ("data", self.data.clone()),
            ("evaluate", Value::Mapping(evaluate)),
            ("report", Value::from(false)),
        ])
        .into_iter()
        .chain(
            self.study.energy.iter().filter(|energy| energy.is_bool()).map(|e| (text("energy"), e.clone())),
        )
        .collect()
    }

    /// The file of constants, checked.
    fn constants(&self) -> Result<Option<PathBuf>> {
        let Some(energy) = &self.study.energy else { return Ok(None) };
        let energy: Energies =
            serde_yaml::from_value(energy.clone()).map_err(|why| self.wrong(format!("energy: {why}")))?;
        let Some(path) = energy.constants() else { return Ok(None) };
        energy::constants(path)?;
        Ok(Some(path.strip_prefix(&self.folder).unwrap_or(path).to_path_buf()))
    }

    /// The configuration of a run, checked; what is wrong with it is told at the study's place.
    fn config(&self, section: &str, entry: &str, settings: &Mapping) -> Result<Config> {
        let at = format!("{}: {section} '{entry}'", self.source);
        Config::of(&at, Value::Mapping(settings.clone()))
    }

    /// Adds a cell, unless one of the same settings is there.
    fn add(&mut self, draft: Draft, config: Config) -> Result<String> {
        let mut same = config.comparable()?;
        // What the folder is called says nothing of what is in it.
        same["name"] = serde_json::Value::Null;
        let key = key_of(&json!({ "settings": same, "upon": draft.upon, "data": self.data_key }))?;
        let steps = draft.timesteps.map_or(String::new(), |t| format!("-T{t}"));
        let seed = draft.seed.map_or(String::new(), |seed| format!("-s{seed}"));
        let folder = format!("{}{steps}{seed}-{key}", draft.entry);
        if self.cells.iter().all(|cell| cell.folder != folder) {
            let mut needs = self.data_needs.clone();
            needs.extend(draft.needs);
            self.cells.push(Cell {
                folder: folder.clone(),
                kind: draft.kind,
                entry: draft.entry,
                ann: draft.ann,
                seed: draft.seed,
                timesteps: draft.timesteps,
                needs,
                work: draft.work + (self.counts[0] + self.counts[1]) as f64 * cost::READING,
                memory: draft.memory + self.held(),
                settings: self.settings_in_study(config)?,
            });
        }
        Ok(folder)
    }

    /// A cell's settings as the index holds them, which a study takes along when it moves.
    fn settings_in_study(&self, mut config: Config) -> Result<serde_json::Value> {
        config.relative_to(&self.folder, "");
        // The cells may lie on another disk.
        if let Some(cells) = &self.cells_lie_in {
            config.relative_to(cells, CELLS);
        }
        Ok(serde_json::to_value(config)?)
    }

    /// The logits of the network that a training learns from are computed once, in a cell whose file they are then taken from; returns
    /// what the training needs and stands on.
    fn teacher(&mut self, at: &str, training: &mut Mapping, seed: u64) -> Result<Option<TaughtBy>> {
        let Some(teaching) = training.get_mut("teacher").and_then(Value::as_mapping_mut) else {
            return Ok(None);
        };
        let mut made = None;
        if let Some(name) = teaching.remove("ann") {
            let found = self.anns.iter().find(|(made, _)| name == made.entry && made.of_seed == seed);
            let named = found.filter(|_| !teaching.contains_key("checkpoint"));
            let Some((ann, settings)) = named else {
                return Err(self.wrong(format!(
                    "{at}: teacher: expected either checkpoint, a file, or ann, the name of an ANN that stands before"
                )));
            };
            made = ann.seed.map(|seed| (ann.folder.clone(), seed));
            teaching.extend(settings.get("checkpoint").map(|path| (text("checkpoint"), path.clone())));
        }
        let Some(path) = teaching.get("checkpoint").and_then(Value::as_str).map(PathBuf::from) else {
            // What is wrong with it the configuration says.
            return Ok(None);
        };
        let taught = match self.teachers.get(&path) {
            Some(taught) => taught.clone(),
            None => self.teacher_cell(&path, made)?,
        };
        if let Some(name) = taught.cell() {
            let file = self.folder.join(CELLS).join(name).join(TEACHER);
            teaching.insert(text("checkpoint"), text(&file.display().to_string()));
        }
        self.teachers.insert(path, taught.clone());
        Ok(Some(taught))
    }

    /// Adds the cell of a teacher's logits, unless the file holds them. `made` are the cell that trains it and its seed, where one
    /// does.
    fn teacher_cell(&mut self, path: &Path, made: Option<(String, u64)>) -> Result<TaughtBy> {
        let hash = match &made {
            Some((cell, _)) => json!(cell),
            None => hashes(path)?,
        };
        if made.is_none() && holds_logits(path) {
            return Ok(TaughtBy::File(hash));
        }
        let key = key_of(&json!({ "teacher": hash, "data": self.data_key }))?;
        let name = format!("teacher-{key}");
        // The same file by another path.
        if self.cells.iter().any(|cell| cell.folder == name) {
            return Ok(TaughtBy::Cell(name));
        }
        let seed = made.as_ref().map(|(_, seed)| *seed);
        let mut settings = self.settings("teacher", None, "ann");
        let network = mapping([("checkpoint", text(&path.display().to_string()))]);
        settings.insert(text("ann"), Value::Mapping(network));
        settings.insert(text("energy"), Value::from(false));
        let config = self.config("teacher", &path.display().to_string(), &settings)?;
        self.cells.push(Cell {
            folder: name.clone(),
            kind: CellKind::Teacher,
            entry: "teacher".into(),
            ann: String::new(),
            seed,
            timesteps: None,
            needs: self.data_needs.iter().cloned().chain(made.map(|(cell, _)| cell)).collect(),
            work: self.counts[0] as f64 * cost::PASS,
            memory: cost::PROGRAM + self.held(),
            settings: self.settings_in_study(config)?,
        });
        Ok(TaughtBy::Cell(name))
    }

    fn anns(&mut self) -> Result<()> {
        for (entry, seed) in pairs(&self.study.ann, &self.study.seeds) {
            let (name, mut ann) = named(entry);
            let teacher = match ann.get_mut("train").and_then(Value::as_mapping_mut) {
                Some(train) => self.teacher(&format!("ann '{name}'"), train, seed)?,
                None => None,
            };
            let given = ann.get("checkpoint").and_then(Value::as_str).map(PathBuf::from);
            let reached = given.is_none().then_some(seed);
            let mut settings = self.settings(&name, reached, "ann");
            settings.insert(text("ann"), Value::Mapping(ann.clone()));
            settings.insert(text("energy"), Value::from(false));
            settings.extend(self.study.baselines.iter().map(|b| (text("baselines"), b.clone())));
            let config = self.config("ann", &name, &settings)?;
            let files = config.ann.checkpoint.iter().chain(config.ann.network_file());
            let files = files.map(|path| hashes(path)).collect::<Result<Vec<_>>>()?;
            let train = config.ann.train.as_ref();
            let stages = train.map(|train| train.stages()).transpose()?.unwrap_or_default();
            let epochs: usize = stages.iter().map(|recipe| recipe.epochs).sum();
            let threads = train.is_some().then_some(self.study.threads);
            let mut upon = json!({ "files": files, "threads": threads });
            if let Some(teacher) = &teacher {
                upon["teacher"] = teacher.known();
            }
            let size = size(&config);
            let draft = Draft {
                kind: CellKind::Ann,
                entry: name.clone(),
                ann: name.clone(),
                seed: reached,
                timesteps: None,
                needs: teacher.iter().filter_map(TaughtBy::cell).cloned().collect(),
                upon,
                work: size
                    * ((epochs * self.counts[0]) as f64 * cost::TRAINING
                        + (epochs + 1) as f64 * self.judged() * cost::PASS),
                memory: cost::PROGRAM,
            };
            let folder = self.add(draft, config)?;
            if given.is_none() {
                let best = self.folder.join(CELLS).join(&folder).join("ann").join(BEST);
                ann = mapping([("checkpoint", text(&best.display().to_string()))]);
            }
            let (entry, ann_name) = (name.clone(), name);
            let made =
                Made { entry, ann: ann_name, seed: reached, of_seed: seed, timesteps: 0, folder, size };
            self.anns.push((made, Value::Mapping(ann)));
        }
        Ok(())
    }

    fn conversions(&mut self) -> Result<()> {
        for (entry, seed) in pairs(&self.study.convert, &self.study.seeds) {
            let (name, mut entry) = named(entry);
            let from = entry.remove("ann").and_then(|v| v.as_str().map(str::to_owned));
            let from = match (from, &self.study.ann[..]) {
                (Some(from), _) => from,
                (None, [only]) => named(only).0,
                (None, _) => {
                    Err(self.wrong(format!("convert '{name}': expected ann, the name of one of the ANNs")))?
                }
            };
            let of = self.anns.iter().find(|(made, _)| made.entry == from && made.of_seed == seed);
            let Some((ann, of)) = of else {
                return Err(self.wrong(format!("convert '{name}': no ANN is called '{from}'")));
            };
            let (ann_seed, ann_folder, of, size) = (ann.seed, ann.folder.clone(), of.clone(), ann.size);
            let all = self.steps_of("convert", &name, &mut entry)?;
            let also_at = entry.remove("also_at");
            for (i, &timesteps) in all.iter().enumerate() {
                let mut route = entry.clone();
                for key in OF_STEPS {
                    let Some(Value::Sequence(list)) = route.get(key) else { continue };
                    let own = list.get(i).filter(|_| list.len() == all.len()).cloned().ok_or_else(|| {
                        self.wrong(format!(
                            "convert '{name}': {key}: expected one value, or as many as timesteps, {}; got {}",
                            all.len(),
                            list.len()
                        ))
                    })?;
                    route.insert(text(key), own);
                }
                route.insert(text("name"), text(&name));
                route.insert(text("timesteps"), Value::from(timesteps));
                // The longest simulation serves all of them.
                if let Some(also_at) = also_at.as_ref().filter(|_| all.iter().max() == Some(&timesteps)) {
                    route.insert(text("also_at"), also_at.clone());
                }
                let mut settings = self.settings(&name, Some(seed), &name);
                settings.insert(text("ann"), of.clone());
                settings.insert(text("convert"), Value::Sequence(vec![Value::Mapping(route.clone())]));
                let mut config = self.config("convert", &name, &settings)?;
                let Some(converted) = config.convert.first() else { continue };
                let drawn = Defaults::of(converted.preset).route == Route::Balancing
                    || converted.encoder == Some(Encoding::Poisson);
                let longest = converted.also_at.iter().copied().max().unwrap_or(0).max(timesteps);
                let balanced = converted.balance_timesteps.unwrap_or(0) * converted.samples;
                let of_calibration = (balanced * 5) as f64 * cost::STEP;
                let reached = ann_seed.or(drawn.then_some(seed));
                if !drawn {
                    config.seed = 0;
                }
                let trained = ann_seed.is_some();
                let files =
                    config.ann.checkpoint.iter().chain(config.ann.network_file()).filter(|_| !trained);
                let files = files.map(|path| hashes(path)).collect::<Result<Vec<_>>>()?;
                let needs: Vec<String> = trained.then(|| ann_folder.clone()).into_iter().collect();
                let upon = json!({ "files": files, "cells": needs });
                let draft = Draft {
                    kind: CellKind::Convert,
                    entry: name.clone(),
                    ann: from.clone(),
                    seed: reached,
                    timesteps: Some(timesteps),
                    needs,
                    upon,
                    work: size * (self.judged() * longest as f64 * cost::STEP + of_calibration),
                    memory: cost::PROGRAM,
                };
                let folder = self.add(draft, config)?;
                let made = Made {
                    entry: name.clone(),
                    ann: from.clone(),
                    seed: reached,
                    of_seed: seed,
                    timesteps,
                    folder: folder.clone(),
                    size,
                };
                let file = self.folder.join(CELLS).join(folder).join(format!("{name}.pth"));
                let mut given =
                    mapping([("name", text(&name)), ("checkpoint", text(&file.display().to_string()))]);
                given.extend(route.get("preset").map(|preset| (text("preset"), preset.clone())));
                self.conversions.push((made, given));
            }
        }
        Ok(())
    }

    fn tunings(&mut self) -> Result<()> {
        for (entry, seed) in pairs(&self.study.finetune, &self.study.seeds) {
            let (name, mut entry) = named(entry);
            let from = entry.get("from").and_then(Value::as_str).unwrap_or_default().to_owned();
            for timesteps in self.steps_of("finetune", &name, &mut entry)? {
                let fits = self.conversions.iter().filter(|(m, _)| m.entry == from && m.of_seed == seed);
                // The one that was converted for this T, or else the one for most steps.
                let best = fits.max_by_key(|(made, _)| (made.timesteps == timesteps, made.timesteps));
                let Some((made, given)) = best else {
                    return Err(
                        self.wrong(format!("finetune '{name}': from: no conversion is called '{from}'"))
                    );
                };
                let (ann, below, size, mut given) =
                    (made.ann.clone(), made.folder.clone(), made.size, given.clone());
                given.insert(text("timesteps"), Value::from(timesteps));
                let mut job = entry.clone();
                let teacher = self.teacher(&format!("finetune '{name}'"), &mut job, seed)?;
                job.insert(text("name"), text(&name));
                job.insert(text("timesteps"), Value::from(timesteps));
                let mut settings = self.settings(&name, Some(seed), &name);
                settings.insert(text("convert"), Value::Sequence(vec![Value::Mapping(given)]));
                settings.insert(text("finetune"), Value::Sequence(vec![Value::Mapping(job)]));
                let config = self.config("finetune", &name, &settings)?;
                let Some(job) = config.finetune.first() else { continue };
                // How many a file holds is not known yet.
                if !self.data_needs.is_empty() {
                    check_skip(job.skip, self.counts[0])
                        .map_err(|why| self.wrong(format!("finetune '{name}': {why}")))?;
                }
                let there = self.counts[0].saturating_sub(job.skip);
                let tuned = job.samples.map_or(there, |n| n.min(there));
                let tuned = job.max_steps.map_or(job.epochs * tuned, |n| n * job.batch_size);
                let [once, a_step] = cost::TUNING;
                let epochs = job.epochs;
                let of_batch = (job.batch_size * timesteps) as u64 * cost::KEPT;
                let taught_by = teacher.as_ref().and_then(TaughtBy::cell).cloned();
                let needs: Vec<String> = std::iter::once(below).chain(taught_by).collect();
                let mut upon = json!({ "cells": needs });
                if let Some(TaughtBy::File(hash)) = teacher {
                    upon["teacher"] = hash;
                }
                let draft = Draft {
                    kind: CellKind::Finetune,
                    entry: name.clone(),
                    ann,
                    seed: Some(seed),
                    timesteps: Some(timesteps),
                    upon,
                    needs,
                    work: size
                        * (tuned as f64 * (once + a_step * timesteps as f64)
                            + (epochs + 1) as f64 * self.judged() * timesteps as f64 * cost::STEP),
                    memory: cost::PROGRAM + of_batch,
                };
                let ann = draft.ann.clone();
                let folder = self.add(draft, config)?;
                let (entry, seed) = (name.clone(), Some(seed));
                let made =
                    Made { entry, ann, seed, of_seed: seed.unwrap_or_default(), timesteps, folder, size };
                self.tunings.push(made);
            }
        }
        Ok(())
    }

    /// The numbers of timesteps of an entry, a number or a list; taken out of it.
    fn steps_of(&self, section: &str, name: &str, entry: &mut Mapping) -> Result<Vec<usize>> {
        let given = match entry.remove("timesteps") {
            Some(Value::Sequence(list)) => list,
            Some(one) => vec![one],
            None => Vec::new(),
        };
        let whole = |value: &Value| value.as_u64().filter(|t| *t > 0).map(|t| t as usize);
        let steps: Option<Vec<usize>> = given.iter().map(whole).collect();
        let steps = steps.filter(|steps| {
            !steps.is_empty() && steps.iter().enumerate().all(|(i, t)| !steps[..i].contains(t))
        });
        steps.ok_or_else(|| {
            self.wrong(format!(
                "{section} '{name}': timesteps: expected a whole number of at least 1, or a list of different ones"
            ))
        })
    }

    /// The network whose spikes are shown.
    fn spikes(&self) -> Result<Option<Shown>> {
        let Some(wanted) = &self.study.spikes else { return Ok(None) };
        let all = self.conversions.iter().map(|(made, _)| made).chain(&self.tunings);
        let Some(made) = all.into_iter().find(|made| made.entry == wanted.network) else {
            return Err(
                self.wrong(format!("spikes.network: no spiking network is called '{}'", wanted.network))
            );
        };
        // How many a file holds is not known yet.
        if !self.data_needs.is_empty() {
            check_sample(wanted.sample, self.judged() as usize).map_err(|why| self.wrong(why))?;
        }
        Ok(Some(Shown { cell: made.folder.clone(), sample: wanted.sample }))
    }
}

/// Keys of a conversion that may be lists, with a value for each number of timesteps.
const OF_STEPS: [&str; 3] = ["method", "balance_timesteps", "scale"];

/// The simulated recordings in their cell's folder.
pub const RECORDINGS: &str = "recordings.npz";
/// A teacher's logits in theirs.
pub const TEACHER: &str = "teacher.pth";

/// Every entry for every seed, seed after seed.
fn pairs<'a>(entries: &'a [Mapping], seeds: &'a [u64]) -> Vec<(&'a Mapping, u64)> {
    seeds.iter().flat_map(|&seed| entries.iter().map(move |entry| (entry, seed))).collect()
}

/// An entry's name, and its other keys.
fn named(entry: &Mapping) -> (String, Mapping) {
    let mut rest = entry.clone();
    let name = rest.remove("name").and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default();
    (name, rest)
}

/// What a file, or the files of a folder, are known by.
fn hashes(path: &Path) -> Result<serde_json::Value> {
    let mut files = if path.is_dir() {
        let listed =
            std::fs::read_dir(path).with_context(|| format!("{}: cannot be read", path.display()))?;
        listed.map(|file| Ok(file?.path())).collect::<std::io::Result<Vec<_>>>()?
    } else {
        vec![crate::place::existing(path)?]
    };
    files.sort();
    files.retain(|file| file.is_file());
    files.iter().map(|file| Ok(json!(Input::of(file)?.sha256))).collect()
}

/// The beginning of a hash, long enough to tell a study's cells apart.
fn key_of(value: &serde_json::Value) -> Result<String> {
    let text = serde_json::to_string(value).context("settings cannot be written as JSON")?;
    Ok(sha256(&text)[..10].to_owned())
}

#[cfg(test)]
mod tests {
    use escape_checkpoint::{TensorData, Value as Data};

    use super::*;

    const SMALL: &str = "
name: small
seeds: [1, 2]
data: {simulate: {samples: 100}}
ann:
  - {name: given, checkpoint: GIVEN}
  - {name: trained, train: {epochs: 2}}
convert:
  - {name: published, ann: given, preset: published, timesteps: 30, also_at: [5]}
  - {name: direct, ann: given, timesteps: [4, 1], also_at: [2]}
  - {name: of-trained, ann: trained, timesteps: 4}
finetune:
  - {name: stdb, from: published, timesteps: [5, 7]}
  - {name: tuned, from: direct, timesteps: [1, 3]}
spikes: {network: stdb}
";

    /// Plans the small study, with lines replaced.
    fn plan(folder: &Path, replaced: &[(&str, &str)]) -> Result<Index> {
        let given = folder.join("given.pth");
        std::fs::write(&given, "weights").unwrap();
        let mut text = SMALL.replace("GIVEN", &given.display().to_string());
        for (old, new) in replaced {
            assert!(text.contains(old), "{old}");
            text = text.replace(old, new);
        }
        Study::of("small.yaml", serde_yaml::from_str(&text).unwrap())?.plan("small.yaml", folder)
    }

    /// Names without their hashes.
    fn names(index: &Index) -> Vec<&str> {
        index.cells.iter().map(|cell| &cell.folder[..cell.folder.len() - 11]).collect()
    }

    #[test]
    fn cells_are_what_seeds_reach() {
        let folder = tempfile::tempdir().unwrap();
        let index = plan(folder.path(), &[]).unwrap();
        assert_eq!(
            names(&index),
            [
                "recordings",
                "given",
                "trained-s1",
                "trained-s2",
                "published-T30-s1",
                "direct-T4",
                "direct-T1",
                "of-trained-T4-s1",
                "published-T30-s2",
                "of-trained-T4-s2",
                "stdb-T5-s1",
                "stdb-T7-s1",
                "tuned-T1-s1",
                "tuned-T3-s1",
                "stdb-T5-s2",
                "stdb-T7-s2",
                "tuned-T1-s2",
                "tuned-T3-s2",
            ]
        );
        let of = |name: &str| index.cells.iter().find(|c| c.folder.starts_with(name)).unwrap();
        assert!(of("tuned-T1-s1").needs.contains(&of("direct-T1").folder));
        assert!(of("tuned-T3-s1").needs.contains(&of("direct-T4").folder), "else that for most steps");
        assert!(of("of-trained-T4-s2").needs.contains(&of("trained-s2").folder));
        assert_eq!(of("direct-T4").settings["convert"][0]["also_at"], json!([2]));
        assert_eq!(of("direct-T1").settings["convert"][0]["also_at"], json!([]));
        assert_eq!(index.spikes.as_ref().unwrap().cell, of("stdb-T5-s1").folder);
        let levels: Vec<usize> = index.levels().iter().map(Vec::len).collect();
        // The given network is there from the start, so that its conversions come with the trainings.
        assert_eq!(levels, [1, 7, 10]);
    }

    #[test]
    fn names_follow_the_settings_that_reach_a_cell() {
        let folder = tempfile::tempdir().unwrap();
        let before = plan(folder.path(), &[]).unwrap();
        let all = |index: &Index| index.cells.iter().map(|c| c.folder.clone()).collect::<Vec<_>>();
        // A study that grows keeps what it has.
        let grown =
            plan(folder.path(), &[("[5, 7]", "[5, 7, 9]"), ("seeds: [1, 2]", "seeds: [1, 2, 3]")]).unwrap();
        assert!(all(&before).iter().all(|name| all(&grown).contains(name)));
        // A setting changes its own cells and those that stand on them.
        let changed = plan(folder.path(), &[("timesteps: 30", "scale: 0.7, timesteps: 30")]).unwrap();
        let differ: Vec<String> = all(&changed).into_iter().filter(|n| !all(&before).contains(n)).collect();
        assert!(differ.iter().all(|n| n.starts_with("published") || n.starts_with("stdb")), "{differ:?}");
        assert_eq!(differ.len(), 6);
        // One value for each number of timesteps changes those that differ.
        let lists = "method: [channels:99.9, channels:98], timesteps: [4, 1]";
        let each = plan(folder.path(), &[("timesteps: [4, 1]", lists)]).unwrap();
        let differ: Vec<String> = all(&each).into_iter().filter(|n| !all(&before).contains(n)).collect();
        assert!(differ.iter().all(|n| n.contains("-T1-")) && differ.len() == 3, "{differ:?}");
        // Where the study lies does not.
        let elsewhere = tempfile::tempdir().unwrap();
        assert_eq!(all(&plan(elsewhere.path(), &[]).unwrap()), all(&before));
        // Neither does what a file is called, but what is in it does.
        let other = plan(folder.path(), &[("epochs: 2", "epochs: 3")]).unwrap();
        let differ: Vec<String> = all(&other).into_iter().filter(|n| !all(&before).contains(n)).collect();
        assert!(differ.iter().all(|n| n.contains("trained")) && differ.len() == 4, "{differ:?}");
    }

    /// A teacher's logits are a cell, unless the file holds them; then its contents tell trainings apart.
    #[test]
    fn a_teachers_file_reaches_those_that_learn_from_it() {
        let folder = tempfile::tempdir().unwrap();
        let taught = |value: f32| {
            let file = folder.path().join("logits.pth");
            let logits = TensorData::from_f32(&[1, 3], &[value, 0.0, 0.0]);
            let entry = (Data::Str("logits".into()), Data::Tensor(Box::new(logits)));
            escape_checkpoint::write(&file, &Data::Dict(vec![entry])).unwrap();
            let (train, tune) = ("train: {epochs: 2", "name: tuned, from: direct");
            let teacher = format!(", teacher: {{checkpoint: {}}}", file.display());
            let more = [train, tune].map(|text| (text, format!("{text}{teacher}")));
            let more = more.each_ref().map(|(old, new)| (*old, new.as_str()));
            plan(folder.path(), &more).unwrap()
        };
        let (one, other) = (taught(1.0), taught(2.0));
        assert!(one.cells.iter().all(|cell| cell.kind != CellKind::Teacher));
        let of = |index: &Index, name: &str| -> Vec<String> {
            let all = index.cells.iter().map(|cell| cell.folder.clone());
            all.filter(|folder| folder.starts_with(name)).collect()
        };
        for (name, same) in [("trained", false), ("tuned", false), ("direct", true), ("stdb", true)] {
            let (one, other) = (of(&one, name), of(&other, name));
            assert!(!one.is_empty() && one.iter().all(|folder| other.contains(folder) == same), "{name}");
        }
        // A network, which GIVEN is taken for, has a cell.
        let given = folder.path().join("given.pth");
        let teacher = format!("train: {{teacher: {{checkpoint: {}}}, epochs: 2", given.display());
        let index = plan(folder.path(), &[("train: {epochs: 2", &teacher)]).unwrap();
        assert_eq!(of(&index, "teacher").len(), 1);
        // So has an ANN of the study: one for each seed that it is trained for.
        let by = |name: &str| {
            let tune = format!("name: tuned, teacher: {{ann: {name}}}, from: direct");
            plan(folder.path(), &[("name: tuned, from: direct", tune.as_str())])
        };
        let index = by("given").unwrap();
        assert_eq!(
            of(&index, "teacher"),
            of(&plan(folder.path(), &[("train: {epochs: 2", &teacher)]).unwrap(), "teacher")
        );
        let index = by("trained").unwrap();
        let teachers: Vec<&Cell> = index.cells.iter().filter(|cell| cell.kind == CellKind::Teacher).collect();
        assert_eq!(teachers.len(), 2);
        for (teacher, seed) in teachers.into_iter().zip([1, 2]) {
            let needs = |cell: &Cell, name: &str| cell.needs.iter().any(|need| need.starts_with(name));
            assert!(
                teacher.seed == Some(seed) && needs(teacher, &format!("trained-s{seed}")),
                "{:?}",
                teacher.needs
            );
            let taught = index.cells.iter().filter(|cell| needs(cell, &teacher.folder));
            assert_eq!(taught.map(|cell| cell.seed).collect::<Vec<_>>(), [Some(seed); 2]);
        }
        assert!(by("nobody").unwrap_err().to_string().contains("finetune 'tuned': teacher: expected either"));
    }

    #[test]
    fn what_does_not_fit_is_refused_before_anything_starts() {
        let folder = tempfile::tempdir().unwrap();
        let why = |replaced: &[(&str, &str)]| plan(folder.path(), replaced).unwrap_err().to_string();
        assert!(why(&[("seeds: [1, 2]", "seeds: []")]).contains("seeds: expected at least one"));
        assert!(why(&[("seeds: [1, 2]", "seeds: [1, 1]")]).contains("1 is there twice"));
        assert!(
            why(&[("name: direct, ann: given,", "name: direct,")]).contains("convert 'direct': expected ann")
        );
        assert!(why(&[("from: direct", "from: nobody")]).contains("no conversion is called 'nobody'"));
        assert!(why(&[("[5, 7]", "[5, 5]")]).contains("finetune 'stdb': timesteps"));
        assert!(why(&[("[5, 7]", "[0]")]).contains("finetune 'stdb': timesteps"));
        assert!(
            why(&[("also_at: [5]", "also_at: [0]")]).contains("convert 'published': convert[0].timesteps")
        );
        assert!(why(&[("also_at: [5]", "allso_at: [5]")]).contains("allso_at"));
        assert!(why(&[("name: stdb", "name: direct")]).contains("finetune[0].name"));
        assert!(why(&[("samples: 100", "sampels: 100")]).contains("sampels"));
        let lists = "method: [percentile:99, max], timesteps: 30";
        assert!(why(&[("timesteps: 30", lists)]).contains("as many as timesteps, 1; got 2"));
        assert!(why(&[("network: stdb", "network: ann")]).contains("spikes.network"));
        assert!(
            why(&[("timesteps: 4}", "timesteps: 4, checkpoint: x.pth, scale: 2}")])
                .contains("taken as it is")
        );
    }
}
