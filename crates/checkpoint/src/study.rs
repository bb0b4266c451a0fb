//! The dictionary in which the study keeps a network.

use std::path::Path;

use escape_files::text::shown;

use super::error::CheckpointError;
use super::locate::{Located, locate};
use super::note::Note;
use super::parts::{self, Parts};
use super::value::{TensorData, Value};
use super::{Contents, Format, names};
use escape_files::text::dims;
use escape_network::arch::Architecture;
use escape_network::family::Family;
use escape_network::sequential::Sequential;

use crate::description::{self, NETWORK_KEY};

/// How much of a membrane's potential remains after a step.
#[derive(Debug, Clone, PartialEq)]
pub enum Leak {
    /// The same for every layer.
    Same(f64),
    /// One for each spiking layer, the first layer first.
    PerLayer(Vec<f64>),
}

impl Leak {
    /// The values for `layers` layers; `None` if this holds another number of them.
    pub fn for_layers(&self, layers: usize) -> Option<Vec<f64>> {
        match self {
            Self::Same(leak) => Some(vec![*leak; layers]),
            Self::PerLayer(leaks) => (leaks.len() == layers).then(|| leaks.clone()),
        }
    }
}

/// What to take as a network from a file that is not the study's own.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Selection {
    /// The network, where the file does not tell it, or is not to be believed.
    pub network: Option<Sequential>,
    /// The dictionary that holds the weights: its key, or the keys that lead to it, joined by dots.
    pub weights: Option<String>,
    /// Names, or what stands before a dot in names, and what to call them instead; one after the other.
    pub rename: Vec<(String, String)>,
    /// Names, or what stands before a dot in names, of tensors to leave out.
    pub ignore: Vec<String>,
}

impl Selection {
    /// Whether nothing was asked for of the weights.
    pub fn is_empty(&self) -> bool {
        self.weights.is_none() && self.rename.is_empty() && self.ignore.is_empty()
    }

    /// A renaming, `OLD=NEW`, in its parts.
    ///
    /// # Errors
    /// It has not that form, in words.
    pub fn renaming(text: &str) -> Result<(String, String), String> {
        match text.split_once('=') {
            Some((old, new)) if !old.is_empty() => Ok((old.to_owned(), new.to_owned())),
            _ => Err("expected OLD=NEW, `conv1=features.0` say".to_owned()),
        }
    }
}

/// The study's dictionary: a network (ANN or SNN) with what is known about it.
///
/// A key that is absent, or is there with `None`, is `None` here and is not written.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Checkpoint {
    /// Fraction of the test set classified correctly, 0 to 1.
    pub accuracy: Option<f64>,
    /// Epoch after which it was saved.
    pub epoch: Option<i64>,
    /// The state dict: names, without the prefixes `module.` and `_orig_mod.`, and tensors, in file order.
    pub weights: Vec<(String, TensorData)>,
    /// Whether a name in the file had the prefix `module.`, which PyTorch's `DataParallel` adds.
    pub had_module_prefix: bool,
    /// Firing threshold of each spiking layer, the first layer first.
    pub thresholds: Option<Vec<f64>>,
    /// Time steps a recording is shown for.
    pub timesteps: Option<i64>,
    /// Leak of the membranes; `leak_mem` in older files.
    pub leak: Option<Leak>,
    /// Surrogate derivative: `Linear` or `STDB`.
    pub activation: Option<String>,
    /// Factor by which the thresholds were multiplied.
    pub scaling_threshold: Option<f64>,
    /// The optimiser's state dict.
    pub optimizer: Option<Value>,
    /// Every other key, in file order.
    pub extra: Vec<(String, Value)>,
}

impl Checkpoint {
    /// Reads a checkpoint: the study's dictionary, or any other file with a network's weights.
    ///
    /// # Errors
    /// Those of [`super::read`], and those of [`Checkpoint::from_value`] with the file's name.
    pub fn load(path: &Path) -> Result<Self, CheckpointError> {
        Self::load_as(path, &Selection::default()).map(|(checkpoint, _)| checkpoint)
    }

    /// Reads a checkpoint as asked, and says what was found and decided on the way.
    ///
    /// # Errors
    /// Those of [`super::read`], and those of [`Checkpoint::select`] with the file's name.
    pub fn load_as(path: &Path, selection: &Selection) -> Result<(Self, Vec<Note>), CheckpointError> {
        Self::select(super::open(path)?, selection).map_err(|e| e.in_file(path))
    }

    /// Writes the study's dictionary, every weight with the prefix `module.`, so that the study's PyTorch code and
    /// `torch.load(path, weights_only=True)` accept it; under a name that ends in `.safetensors` in that format, the
    /// weights without prefix and everything else as metadata.
    ///
    /// # Errors
    /// Those of [`super::write`]; keys of [`Checkpoint::extra`] that repeat a field's are among them.
    pub fn save(&self, path: &Path) -> Result<(), CheckpointError> {
        let value = self.to_value();
        if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("safetensors")) {
            super::safetensors::write(path, &value, names::MODULE)
        } else {
            super::write(path, &value)
        }
    }

    /// Takes a checkpoint out of what a file holds.
    ///
    /// The weights are the dictionary of tensors under `state_dict`; the file itself, if it holds but tensors; or the
    /// dictionary of tensors that lies in it under another name. Of their names, what wrappers of PyTorch put before
    /// them is taken off, and any prefix under which they are those of a network of the family. Weights that are kept
    /// in parts are put together. What lies beside them is read as the study's fields, or kept as [`Checkpoint::extra`];
    /// objects of other programs are left out.
    ///
    /// Where the study has numbers, tensors and NumPy numbers of one element will do. `thresholds` and `leak` can be a
    /// list, a tensor, or a dictionary of numbers by layer, which is put in the order of the network's layers, or of
    /// the numbers in its keys (`t0`, `t3`, `t11`). They can also stand in the state dict, as they do where they are
    /// trained (`threshold.t0`, `leak.l0`); they are taken out of it.
    ///
    /// # Errors
    /// [`CheckpointError::Content`], which says what was found: no weights, or several dictionaries of them; a field of
    /// another type; something else than tensors among the weights; a weight that is there twice; or two statements
    /// about thresholds or leak that disagree. [`CheckpointError::Choice`] if the selection names what is not there.
    pub fn select(contents: Contents, selection: &Selection) -> Result<(Self, Vec<Note>), CheckpointError> {
        let Contents { format, value, foreign, notes: found } = contents;
        let mut notes: Vec<Note> = foreign
            .iter()
            .filter(|f| f.would_run())
            .take(SHOWN)
            .map(|f| Note::WouldRun(f.name.clone()))
            .collect();
        let Located { place, usual, weights, beside, others } = locate(value, selection.weights.as_deref())?;
        if !usual || !others.is_empty() {
            notes.push(Note::Found { place: place.clone(), others });
        }
        notes.extend(found);
        let mut objects = Objects::default();
        let beside = objects.take_from(beside, "");
        let Objects { first: objects, count } = objects;
        notes.extend((count > 0).then_some(Note::Opaque { objects, count }));

        let mut checkpoint = Self::default();
        if let Some((key, value)) = weights.iter().chain(&beside).find(|(key, _)| is_packed(key)) {
            let at = format!("{place}{}", super::graph::place(key));
            return Err(CheckpointError::content(at, "a tensor", format!("{}; {PACKED}", value.describe())));
        }
        if format == Format::Safetensors {
            notes.extend(unread_metadata(&beside).map(Note::Metadata));
        }
        let (weights, left) = checkpoint.named(weights, selection, &place, &mut notes)?;
        let kept = beside.iter().find(|(key, _)| key.as_str() == Some(NETWORK_KEY));
        let network = match (&selection.network, kept.and_then(|(_, text)| text.as_str())) {
            (Some(given), _) => Some(given.clone()),
            // What is wrong with it is said where the network is needed.
            (None, Some(text)) => description::parse(NETWORK_KEY, text).ok(),
            (None, None) => None,
        };
        let (weights, constants) = chosen(weights, selection, network.as_ref(), left, &place, &mut notes)?;
        checkpoint.weights = weights;
        let layers = Layers::of(&checkpoint.weights);
        checkpoint.set_fields(beside, &layers)?;
        checkpoint.set_constants(constants, &layers)?;
        if let Some(given) = &selection.network {
            description::store(&mut checkpoint, given);
        }
        Ok((checkpoint, notes))
    }

    /// Takes a checkpoint out of a value, see [`Checkpoint::select`].
    ///
    /// # Errors
    /// Those of [`Checkpoint::select`].
    pub fn from_value(value: Value) -> Result<Self, CheckpointError> {
        let contents = Contents { format: Format::Zip, value, foreign: Vec::new(), notes: Vec::new() };
        Self::select(contents, &Selection::default()).map(|(checkpoint, _)| checkpoint)
    }

    /// Reads what lies beside the weights.
    fn set_fields(&mut self, entries: Vec<(Value, Value)>, layers: &Layers) -> Result<(), CheckpointError> {
        let mut old_leak = None;
        for (key, value) in entries {
            let Value::Str(key) = key else {
                // Nothing that is known has such a key.
                let key = if let Value::Int(key) = key { key.to_string() } else { key.describe() };
                self.extra.push((key, value));
                continue;
            };
            let number = || one(&value, &key, "a number", Value::as_f64);
            match key.as_str() {
                // Nothing depends on these two, and people keep more under such names than a number.
                "accuracy" if value != Value::None => match value.as_f64() {
                    Some(accuracy) => self.accuracy = Some(accuracy),
                    None => self.extra.push((key, value)),
                },
                "epoch" if value != Value::None => match whole(&value) {
                    Some(epoch) => self.epoch = Some(epoch),
                    None => self.extra.push((key, value)),
                },
                "accuracy" | "epoch" => {}
                "timesteps" => self.timesteps = one(&value, &key, "a whole number", whole)?,
                "scaling_threshold" => self.scaling_threshold = number()?,
                "activation" => {
                    self.activation = one(&value, &key, "text", |v| v.as_str().map(str::to_owned))?;
                }
                "thresholds" => self.thresholds = thresholds(&value, &key, layers)?,
                "leak" => self.leak = leak(&value, &key, layers)?,
                "leak_mem" => old_leak = leak(&value, &key, layers)?,
                "optimizer" => self.optimizer = (value != Value::None).then_some(value),
                _ => self.extra.push((key, value)),
            }
        }
        let mut seen = std::collections::HashSet::new();
        self.extra.retain(|(key, _)| seen.insert(key.clone()));
        self.leak = agree("['leak'] and ['leak_mem']", self.leak.take(), old_leak, same_leak, numbers_of)?;
        Ok(())
    }

    /// The study's dictionary: its keys in its order, then the extra ones.
    pub fn to_value(&self) -> Value {
        let mut entries: Vec<(Value, Value)> = Vec::new();
        let mut add =
            |key: &str, value: Option<Value>| entries.extend(value.map(|value| (key.into(), value)));
        let weights = self.weights.iter().map(|(name, tensor)| {
            (Value::Str(format!("{}{name}", names::MODULE)), Value::from(tensor.clone()))
        });
        let list = |numbers: &[f64]| Value::List(numbers.iter().copied().map(Value::Float).collect());
        add("accuracy", self.accuracy.map(Value::Float));
        add("epoch", self.epoch.map(Value::Int));
        add("state_dict", Some(Value::OrderedDict(weights.collect())));
        add("optimizer", self.optimizer.clone());
        add("thresholds", self.thresholds.as_deref().map(list));
        add("timesteps", self.timesteps.map(Value::Int));
        add(
            "leak",
            self.leak.as_ref().map(|leak| match leak {
                Leak::Same(leak) => Value::Float(*leak),
                Leak::PerLayer(leaks) => list(leaks),
            }),
        );
        add("activation", self.activation.clone().map(Value::Str));
        add("scaling_threshold", self.scaling_threshold.map(Value::Float));
        for (key, value) in &self.extra {
            add(key, Some(value.clone()));
        }
        Value::Dict(entries)
    }

    /// The weights by name, without what wrappers put before them; and the names of what is no tensor and was left out
    /// as asked.
    fn named(
        &mut self,
        entries: Vec<(Value, Value)>,
        selection: &Selection,
        place: &str,
        notes: &mut Vec<Note>,
    ) -> Result<(Weights, Vec<String>), CheckpointError> {
        let here = if place.is_empty() { "top level" } else { place };
        let mut weights = Vec::with_capacity(entries.len());
        let (mut states, mut left) = (Vec::new(), Vec::new());
        for (key, value) in entries {
            let Value::Str(key) = key else {
                return Err(CheckpointError::content(here, "names as keys", key.describe()));
            };
            let (name, had_module) = names::unwrapped(&key);
            self.had_module_prefix |= had_module;
            match value {
                Value::Tensor(tensor) => weights.push((name, *tensor)),
                // What a module gives beside its tensors (`get_extra_state`); no layer here has such a thing.
                _ if name.ends_with("_extra_state") => states.push(name),
                _ if selection.ignore.iter().any(|rule| names::is_meant(&name, rule)) => left.push(name),
                other => {
                    let at = format!("{place}['{}']", shown(&key));
                    let remedy = match &other {
                        Value::Opaque(opaque) if !opaque.remedy.is_empty() => opaque.remedy.clone(),
                        Value::Opaque(_) => TENSORS_ONLY.to_owned(),
                        _ => format!("leave it out with --ignore {}", shown(&name)),
                    };
                    let got = format!("{}; {remedy}", other.describe());
                    return Err(CheckpointError::content(at, "a tensor", got));
                }
            }
        }
        notes.extend((!states.is_empty()).then_some(Note::ExtraState(states)));
        if let Err(twice) = names::distinct(&weights) {
            let got = format!("'{}' with and without '{}'; remove one", shown(&twice), names::MODULE);
            return Err(CheckpointError::content(here, "every weight once", got));
        }
        Ok((weights, left))
    }

    /// Takes over thresholds and leaks that stood among the weights.
    fn set_constants(&mut self, constants: Constants, layers: &Layers) -> Result<(), CheckpointError> {
        if !constants.thresholds.is_empty() {
            let trained = thresholds(&flat(constants.thresholds), "state_dict']['threshold", layers)?;
            let two = "['thresholds'] and the thresholds in ['state_dict']";
            self.thresholds = agree(two, self.thresholds.take(), trained, |a, b| near(a, b), |t| t)?;
        }
        if !constants.leaks.is_empty() {
            let trained = leak(&flat(constants.leaks), "state_dict']['leak", layers)?;
            self.leak = agree(
                "['leak'] and the leaks in ['state_dict']",
                self.leak.take(),
                trained,
                same_leak,
                numbers_of,
            )?;
        }
        Ok(())
    }
}

/// Thresholds and leaks that are trained, and stand among the weights.
#[derive(Default)]
struct Constants {
    thresholds: Vec<(Value, Value)>,
    leaks: Vec<(Value, Value)>,
}

type Weights = Vec<(String, TensorData)>;

/// The weights under the names that a network has, and without the constants among them.
fn chosen(
    mut weights: Weights,
    selection: &Selection,
    network: Option<&Sequential>,
    left: Vec<String>,
    place: &str,
    notes: &mut Vec<Note>,
) -> Result<(Weights, Constants), CheckpointError> {
    for (old, new) in &selection.rename {
        let names = names::rename(&mut weights, old, new)?;
        notes.push(Note::Renamed { rule: format!("{old}={new}"), names });
    }
    for name in &selection.ignore {
        let others = left.iter().filter(|left| names::is_meant(left, name)).count();
        let tensors = match names::ignore(&mut weights, name) {
            Err(error) if others == 0 => return Err(error),
            ignored => ignored.unwrap_or(0),
        };
        notes.push(Note::Ignored { name: name.clone(), tensors, others });
    }
    // How many networks PyTorch's `AveragedModel` is the mean of.
    let averaged = |(name, tensor): &(String, TensorData)| name == "n_averaged" && tensor.len() == 1;
    if let Some(at) = weights.iter().position(averaged) {
        notes.push(Note::ExtraState(vec![weights.remove(at).0]));
    }
    let (mut weights, made) = parts::put_together(weights)?;
    for kind in [Parts::Pruned, Parts::WeightNorm, Parts::SpectralNorm] {
        let names: Vec<String> =
            made.iter().filter(|(_, k)| *k == kind).map(|(name, _)| name.clone()).collect();
        notes.extend((!names.is_empty()).then_some(Note::PutTogether(kind, names)));
    }
    let prefix = match network {
        Some(network) => names::fit_to(&mut weights, network),
        None => names::fit(&mut weights)?,
    };
    notes.extend(prefix.map(Note::Prefix));
    let losses = names::without_losses(&mut weights);
    notes.extend((!losses.is_empty()).then_some(Note::Losses(losses)));
    if let Err(twice) = names::distinct(&weights) {
        let got = format!(
            "two called '{}' once prefixes are taken off; leave one out with --ignore",
            shown(&twice)
        );
        return Err(CheckpointError::content(place, "every weight once", got));
    }
    let mut constants = Constants::default();
    let mut kept = Vec::with_capacity(weights.len());
    for (name, tensor) in weights {
        // Trained constants are single numbers by layer, or one vector; a layer may be called so too.
        let constant = tensor.len() == 1 || !name.contains('.') && tensor.shape.len() == 1;
        match name.split('.').next().filter(|_| constant) {
            Some("threshold" | "thresholds") => constants.thresholds.push((Value::Str(name), tensor.into())),
            Some("leak" | "leak_mem") => constants.leaks.push((Value::Str(name), tensor.into())),
            _ => kept.push((name, tensor)),
        }
    }
    Ok((kept, constants))
}

/// Whether a key is that of the weights of a quantised module.
fn is_packed(key: &Value) -> bool {
    key.as_str().is_some_and(|key| key.ends_with("_packed_params"))
}

/// Fields of the study among the metadata that other programs wrote into a safetensors file, which are texts, and what
/// they say.
fn unread_metadata(beside: &[(Value, Value)]) -> Option<Vec<(String, String)>> {
    const FIELDS: [&str; 4] = ["thresholds", "timesteps", "leak", "scaling_threshold"];
    let (_, metadata) = beside.iter().find(|(key, _)| key.as_str() == Some("metadata"))?;
    let field = |(key, value): &(Value, Value)| {
        let key = key.as_str().filter(|key| FIELDS.contains(key))?;
        Some((key.to_owned(), value.as_str()?.chars().take(60).collect()))
    };
    let found: Vec<_> = metadata.entries()?.iter().filter_map(field).collect();
    (!found.is_empty()).then_some(found)
}

/// What is no plain data, and was left out.
#[derive(Default)]
struct Objects {
    /// Where the first few stood, and what they are.
    first: Vec<(String, String)>,
    count: usize,
}

impl Objects {
    fn add(&mut self, place: impl FnOnce() -> String, what: String) {
        self.count += 1;
        if self.first.len() < SHOWN {
            self.first.push((place(), what));
        }
    }

    /// What remains of entries that stand at `at`.
    fn take_from(&mut self, entries: Vec<(Value, Value)>, at: &str) -> Vec<(Value, Value)> {
        let mut kept = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            let place = || format!("{at}{}", super::graph::place(&key));
            match value {
                Value::Opaque(object) => self.add(place, object.what),
                _ if has_objects(&key) => self.add(place, key.describe()),
                value if has_objects(&value) => {
                    let place = place();
                    kept.push((key, self.plain(value, &place)));
                }
                value => kept.push((key, value)),
            }
        }
        kept
    }

    /// A value with `None` in the place of what is no plain data in its lists.
    fn plain(&mut self, value: Value, at: &str) -> Value {
        let mut all = |items: Vec<Value>| -> Vec<Value> {
            let each = items.into_iter().enumerate();
            each.map(|(i, item)| match item {
                Value::Opaque(object) => {
                    self.add(|| format!("{at}[{i}]"), object.what);
                    Value::None
                }
                item if has_objects(&item) => self.plain(item, &format!("{at}[{i}]")),
                item => item,
            })
            .collect()
        };
        match value {
            Value::List(items) => Value::List(all(items)),
            Value::Tuple(items) => Value::Tuple(all(items)),
            Value::Set(items) => {
                // A set has each item once.
                let mut items = all(items);
                items.retain(|item| *item != Value::None);
                Value::Set(items)
            }
            Value::Dict(entries) => Value::Dict(self.take_from(entries, at)),
            Value::OrderedDict(entries) => Value::OrderedDict(self.take_from(entries, at)),
            other => other,
        }
    }
}

fn has_objects(value: &Value) -> bool {
    match value {
        Value::Opaque(_) => true,
        Value::List(items) | Value::Tuple(items) | Value::Set(items) => items.iter().any(has_objects),
        Value::Dict(entries) | Value::OrderedDict(entries) => {
            entries.iter().any(|(key, value)| has_objects(key) || has_objects(value))
        }
        _ => false,
    }
}

/// So many objects are told of.
const SHOWN: usize = 8;
const TENSORS_ONLY: &str = "save the tensors alone in Python: torch.save({name: value for name, value in \
                            model.state_dict().items() if torch.is_tensor(value)}, 'weights.pth')";
const PACKED: &str = "these are the packed weights of a quantised module, which computes with whole numbers; save the \
                      state dict of the network that it was made from";

const PER_LAYER: &str = "a list of numbers, a tensor of one dimension, or a dictionary of numbers by layer";

/// One entry of a state dict stands for itself, several for a dictionary by layer.
fn flat(mut entries: Vec<(Value, Value)>) -> Value {
    match entries.pop() {
        Some((_, only)) if entries.is_empty() => only,
        last => {
            entries.extend(last);
            Value::Dict(entries)
        }
    }
}

/// A field of one value; `None` stands for an absent one.
fn one<T>(
    value: &Value,
    key: &str,
    expected: &str,
    convert: impl Fn(&Value) -> Option<T>,
) -> Result<Option<T>, CheckpointError> {
    match (value, convert(value)) {
        (Value::None, _) => Ok(None),
        (_, Some(converted)) => Ok(Some(converted)),
        (other, None) => Err(CheckpointError::content(format!("['{key}']"), expected, other.describe())),
    }
}

/// A whole number, also where arithmetic made it a float.
fn whole(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| {
        let number = value.as_f64()?;
        // Up to 2^53 every whole number is a float of its own.
        (number.fract() == 0.0 && number.abs() <= 9_007_199_254_740_992.0).then_some(number as i64)
    })
}

fn thresholds(value: &Value, key: &str, layers: &Layers) -> Result<Option<Vec<f64>>, CheckpointError> {
    if *value == Value::None {
        return Ok(None);
    }
    per_layer(value, key, PER_LAYER, layers).map(Some)
}

fn leak(value: &Value, key: &str, layers: &Layers) -> Result<Option<Leak>, CheckpointError> {
    match value {
        Value::None => Ok(None),
        Value::Float(_) | Value::Int(_) => Ok(value.as_f64().map(Leak::Same)),
        Value::Tensor(t) if t.len() == 1 => Ok(value.as_f64().map(Leak::Same)),
        _ => per_layer(value, key, &format!("a number, {PER_LAYER}"), layers)
            .map(|leaks| Some(Leak::PerLayer(leaks))),
    }
}

/// The layers of a network of the family, by what they can be called; none of another network.
struct Layers(Vec<(String, String)>);

impl Layers {
    fn of(weights: &Weights) -> Self {
        let (mut convolutions, mut linears) = (0, 0);
        let arch = Architecture::detect(weights.iter().map(|(name, _)| name.as_str()));
        let names = arch.into_iter().flat_map(|arch| Family::published(arch).keys());
        let named = names.map(|key| {
            let (kind, count) = match key.starts_with("features.") {
                true => ("conv", &mut convolutions),
                false => ("linear", &mut linears),
            };
            *count += 1;
            (format!("{kind}{count}"), key)
        });
        Self(named.collect())
    }

    /// Which layer a name means: `conv1`, `features.0`, either with the network's prefix or a parameter's name.
    fn find(&self, name: &str) -> Option<usize> {
        let name = names::unwrapped(name).0.to_lowercase();
        let name = ["threshold.", "thresholds.", "leak.", "leak_mem."]
            .iter()
            .find_map(|start| name.strip_prefix(start))
            .unwrap_or(&name);
        let name =
            [".weight", ".threshold", ".leak"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
        let name = name.replace("fc", "linear");
        let means = |known: &str| {
            name == known || name.strip_suffix(known).is_some_and(|before| before.ends_with('.'))
        };
        self.0.iter().position(|(short, key)| means(short) || means(key))
    }

    /// Numbers by name in the order of the layers.
    fn sort(&self, at: &str, numbers: Vec<(String, f64)>) -> Result<Vec<f64>, CheckpointError> {
        let mut sorted = vec![None; self.0.len()];
        let known = || {
            let names: Vec<String> = self.0.iter().map(|(name, key)| format!("{name} ({key})")).collect();
            format!("a number for each of {}", names.join(", "))
        };
        for (name, number) in numbers {
            let wrong =
                |what: &str| CheckpointError::content(at, known(), format!("'{}', {what}", shown(&name)));
            match self.find(&name).and_then(|i| sorted.get_mut(i)) {
                None => return Err(wrong("which is none of these layers")),
                Some(Some(_)) => return Err(wrong("a layer that was there already")),
                Some(place) => *place = Some(number),
            }
        }
        let missing = sorted.iter().position(Option::is_none).and_then(|i| self.0.get(i));
        if let Some((name, key)) = missing {
            return Err(CheckpointError::content(at, known(), format!("none for {name} ({key})")));
        }
        Ok(sorted.into_iter().flatten().collect())
    }
}

/// Numbers, one for each layer, in the order of the layers.
fn per_layer(value: &Value, key: &str, expected: &str, layers: &Layers) -> Result<Vec<f64>, CheckpointError> {
    let at = || format!("['{key}']");
    let number = |place: &dyn Fn() -> String, value: &Value| {
        value.as_f64().ok_or_else(|| {
            CheckpointError::content(format!("{}{}", at(), place()), "a number", value.describe())
        })
    };
    const MANY: usize = 1000;
    let count = match value {
        Value::List(items) | Value::Tuple(items) => items.len(),
        Value::Dict(entries) | Value::OrderedDict(entries) => entries.len(),
        Value::Tensor(t) => t.len(),
        _ => 0,
    };
    if count > MANY {
        let got = format!("{count}, more than any network has layers");
        return Err(CheckpointError::content(at(), expected, got));
    }
    match value {
        Value::List(items) | Value::Tuple(items) => {
            items.iter().enumerate().map(|(i, item)| number(&|| format!("[{i}]"), item)).collect()
        }
        Value::Tensor(t) if t.shape.iter().filter(|&&d| d != 1).count() <= 1 => Ok(t.to_f64()),
        Value::Tensor(t) => {
            Err(CheckpointError::content(at(), expected, format!("a tensor of shape {}", dims(&t.shape))))
        }
        Value::Dict(entries) | Value::OrderedDict(entries) if !entries.is_empty() => {
            let mut numbers = entries
                .iter()
                .map(|(k, v)| Ok((k, layer_number(k), number(&|| super::graph::place(k), v)?)))
                .collect::<Result<Vec<_>, CheckpointError>>()?;
            let mut prefixes = numbers.iter().map(|(_, k, _)| k.as_ref().map(|(prefix, _)| prefix));
            let first = prefixes.next().flatten();
            let numbered = first.is_some() && prefixes.all(|prefix| prefix == first);
            let named = entries.iter().any(|(k, _)| k.as_str().is_some_and(|k| layers.find(k).is_some()));
            // Names that number something else than layers, `t0` and `t3`, have the order of their numbers. Of a
            // network that is not known, names without numbers stand in the file's order.
            if !layers.0.is_empty() && (named || !numbered) {
                let numbers = numbers.into_iter().map(|(k, _, number)| (text_of(k), number));
                return layers.sort(&at(), numbers.collect());
            }
            if numbered {
                numbers.sort_by_key(|(_, k, _)| k.as_ref().map(|(_, layer)| *layer));
            }
            Ok(numbers.into_iter().map(|(.., number)| number).collect())
        }
        other => Err(CheckpointError::content(at(), expected, other.describe())),
    }
}

fn text_of(key: &Value) -> String {
    key.as_str().map_or_else(|| key.describe(), str::to_owned)
}

/// `t11` is (`t`, 11): what stands before the digits at the end, and their number.
fn layer_number(key: &Value) -> Option<(String, i64)> {
    match key {
        Value::Int(layer) => Some((String::new(), *layer)),
        Value::Str(name) => {
            let prefix = name.trim_end_matches(|c: char| c.is_ascii_digit());
            let layer = name.strip_prefix(prefix)?.parse().ok()?;
            Some((prefix.to_owned(), layer))
        }
        _ => None,
    }
}

/// One of two statements about the same thing, if they do not contradict each other.
fn agree<T>(
    at: &str,
    first: Option<T>,
    second: Option<T>,
    same: impl Fn(&T, &T) -> bool,
    numbers: fn(&T) -> &[f64],
) -> Result<Option<T>, CheckpointError> {
    match (first, second) {
        (Some(a), Some(b)) if !same(&a, &b) => {
            let got = format!("{} and {}; remove the wrong one", brief(numbers(&a)), brief(numbers(&b)));
            Err(CheckpointError::content(at, "the same numbers", got))
        }
        (a, b) => Ok(a.or(b)),
    }
}

fn numbers_of(leak: &Leak) -> &[f64] {
    match leak {
        Leak::Same(leak) => std::slice::from_ref(leak),
        Leak::PerLayer(leaks) => leaks,
    }
}

/// The beginning of a list of numbers.
fn brief(numbers: &[f64]) -> String {
    const SHOWN: usize = 12;
    let some: Vec<String> = numbers.iter().take(SHOWN).map(|number| format!("{number:?}")).collect();
    let more = if numbers.len() > SHOWN { ", ..." } else { "" };
    format!("[{}{more}]", some.join(", "))
}

/// Equal to the precision of a float32, in which trained values are kept.
fn near(a: &[f64], b: &[f64]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a == b || (a - b).abs() <= 1e-6 * a.abs().max(b.abs()))
}

fn same_leak(a: &Leak, b: &Leak) -> bool {
    let layers = |leak: &Leak| match leak {
        Leak::Same(_) => 1,
        Leak::PerLayer(leaks) => leaks.len(),
    };
    let layers = layers(a).max(layers(b));
    a.for_layers(layers).zip(b.for_layers(layers)).is_some_and(|(a, b)| near(&a, &b))
}
