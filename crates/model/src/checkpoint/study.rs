//! The dictionary in which the study keeps a network.

use std::path::Path;

use escape_data::shown;

use super::error::{CheckpointError, dims};
use super::value::{TensorData, Value};

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
    /// Reads a checkpoint: the study's dictionary, or a bare state dict.
    ///
    /// # Errors
    /// Those of [`super::read`], and those of [`Checkpoint::from_value`] with the file's name.
    pub fn load(path: &Path) -> Result<Self, CheckpointError> {
        Self::from_value(super::read(path)?).map_err(|e| e.in_file(path))
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
            super::safetensors::write(path, &value, PREFIX)
        } else {
            super::write(path, &value)
        }
    }

    /// Takes the fields out of a dictionary.
    ///
    /// A dictionary without `state_dict` all of whose values are tensors is taken for a bare state dict. Where the
    /// study has numbers, tensors and NumPy numbers of one element will do. `thresholds` and `leak` can be a list,
    /// a tensor, or a dictionary of numbers by layer, which is put in the order of the numbers in its keys (`t0`,
    /// `t3`, `t11`). They can also stand in the state dict, as they do where they are trained (`threshold.t0`,
    /// `leak.l0`); they are taken out of it.
    ///
    /// # Errors
    /// [`CheckpointError::Content`], which says what was found: not such a dictionary, a field of another type,
    /// a state dict that holds more than tensors, a weight that is there both with and without prefix, or two
    /// statements about thresholds or leak that disagree.
    pub fn from_value(value: Value) -> Result<Self, CheckpointError> {
        let entries = match value {
            Value::Dict(entries) | Value::OrderedDict(entries) => entries,
            other => return Err(CheckpointError::content("top level", DICTIONARY, other.describe())),
        };
        let mut checkpoint = Self::default();
        let has_state_dict = entries.iter().any(|(key, _)| key.as_str() == Some("state_dict"));
        if !has_state_dict {
            let is_bare = !entries.is_empty() && entries.iter().all(|(_, v)| v.as_tensor().is_some());
            if !is_bare {
                let got = Value::Dict(entries).describe();
                let got = format!("{got}; save the weights under 'state_dict'");
                return Err(CheckpointError::content("top level", DICTIONARY, got));
            }
            checkpoint.set_weights(entries)?;
            return Ok(checkpoint);
        }
        let mut state_dict = Vec::new();
        let mut old_leak = None;
        for (key, value) in entries {
            let Value::Str(key) = key else {
                return Err(CheckpointError::content("top level", "text as keys", key.describe()));
            };
            let number = || one(&value, &key, "a number", Value::as_f64);
            match key.as_str() {
                // Nothing depends on these two, and people keep more under such names than a number.
                "accuracy" if value != Value::None => match value.as_f64() {
                    Some(accuracy) => checkpoint.accuracy = Some(accuracy),
                    None => checkpoint.extra.push((key, value)),
                },
                "epoch" if value != Value::None => match whole(&value) {
                    Some(epoch) => checkpoint.epoch = Some(epoch),
                    None => checkpoint.extra.push((key, value)),
                },
                "accuracy" | "epoch" => {}
                "timesteps" => checkpoint.timesteps = one(&value, &key, "a whole number", whole)?,
                "scaling_threshold" => checkpoint.scaling_threshold = number()?,
                "activation" => {
                    checkpoint.activation = one(&value, &key, "text", |v| v.as_str().map(str::to_owned))?;
                }
                "thresholds" => checkpoint.thresholds = thresholds(&value, &key)?,
                "leak" => checkpoint.leak = leak(&value, &key)?,
                "leak_mem" => old_leak = leak(&value, &key)?,
                "optimizer" => checkpoint.optimizer = (value != Value::None).then_some(value),
                "state_dict" => match value {
                    Value::Dict(entries) | Value::OrderedDict(entries) => state_dict = entries,
                    other => {
                        return Err(CheckpointError::content(
                            "['state_dict']",
                            "a dictionary of tensors",
                            other.describe(),
                        ));
                    }
                },
                _ => checkpoint.extra.push((key, value)),
            }
        }
        checkpoint.leak = agree("['leak'] and ['leak_mem']", checkpoint.leak.take(), old_leak, same_leak)?;
        checkpoint.set_weights(state_dict)?;
        Ok(checkpoint)
    }

    /// The study's dictionary: its keys in its order, then the extra ones.
    pub fn to_value(&self) -> Value {
        let mut entries: Vec<(Value, Value)> = Vec::new();
        let mut add =
            |key: &str, value: Option<Value>| entries.extend(value.map(|value| (key.into(), value)));
        let weights = self
            .weights
            .iter()
            .map(|(name, tensor)| (Value::Str(format!("{PREFIX}{name}")), Value::from(tensor.clone())));
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

    /// Takes over a state dict; thresholds and leaks among its tensors go to their fields.
    fn set_weights(&mut self, entries: Vec<(Value, Value)>) -> Result<(), CheckpointError> {
        let at = "['state_dict']";
        let (mut trained_thresholds, mut trained_leaks) = (Vec::new(), Vec::new());
        let mut seen = std::collections::HashSet::new();
        for (key, value) in entries {
            let Value::Str(key) = key else {
                return Err(CheckpointError::content(at, "names as keys", key.describe()));
            };
            let Value::Tensor(tensor) = value else {
                let at = format!("{at}['{}']", shown(&key));
                return Err(CheckpointError::content(at, "a tensor", value.describe()));
            };
            let mut name = key.as_str();
            loop {
                if let Some(rest) = name.strip_prefix(PREFIX) {
                    self.had_module_prefix = true;
                    name = rest;
                } else if let Some(rest) = name.strip_prefix(COMPILED) {
                    name = rest;
                } else {
                    break;
                }
            }
            let name = name.to_owned();
            if !seen.insert(name.clone()) {
                let got = format!("'{}' with and without '{PREFIX}'; remove one", shown(&name));
                return Err(CheckpointError::content(at, "every weight once", got));
            }
            // Trained constants are single numbers by layer, or one vector; a layer may be called so too.
            let constant = tensor.len() == 1 || !name.contains('.') && tensor.shape.len() == 1;
            match name.split('.').next().filter(|_| constant) {
                Some("threshold" | "thresholds") => {
                    trained_thresholds.push((Value::Str(name), Value::Tensor(tensor)))
                }
                Some("leak" | "leak_mem") => trained_leaks.push((Value::Str(name), Value::Tensor(tensor))),
                _ => self.weights.push((name, *tensor)),
            }
        }
        if !trained_thresholds.is_empty() {
            let trained = thresholds(&flat(trained_thresholds), "state_dict']['threshold")?;
            let two = "['thresholds'] and the thresholds in ['state_dict']";
            self.thresholds = agree(two, self.thresholds.take(), trained, |a, b| near(a, b))?;
        }
        if !trained_leaks.is_empty() {
            let trained = leak(&flat(trained_leaks), "state_dict']['leak")?;
            self.leak =
                agree("['leak'] and the leaks in ['state_dict']", self.leak.take(), trained, same_leak)?;
        }
        Ok(())
    }
}

const PREFIX: &str = "module.";
/// What `torch.compile` puts before names.
const COMPILED: &str = "_orig_mod.";
const DICTIONARY: &str = "a dictionary with 'state_dict', or a state dict of tensors only";
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

fn thresholds(value: &Value, key: &str) -> Result<Option<Vec<f64>>, CheckpointError> {
    if *value == Value::None {
        return Ok(None);
    }
    per_layer(value, key, PER_LAYER).map(Some)
}

fn leak(value: &Value, key: &str) -> Result<Option<Leak>, CheckpointError> {
    match value {
        Value::None => Ok(None),
        Value::Float(_) | Value::Int(_) => Ok(value.as_f64().map(Leak::Same)),
        Value::Tensor(t) if t.len() == 1 => Ok(value.as_f64().map(Leak::Same)),
        _ => {
            per_layer(value, key, &format!("a number, {PER_LAYER}")).map(|leaks| Some(Leak::PerLayer(leaks)))
        }
    }
}

/// Numbers, one for each layer, in the order of the layers.
fn per_layer(value: &Value, key: &str, expected: &str) -> Result<Vec<f64>, CheckpointError> {
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
                .map(|(k, v)| Ok((layer_number(k), number(&|| super::graph::place(k), v)?)))
                .collect::<Result<Vec<_>, CheckpointError>>()?;
            // Names without numbers, such as `conv1` next to `linear1`, stand in the file's order.
            let mut prefixes = numbers.iter().map(|(k, _)| k.as_ref().map(|(prefix, _)| prefix));
            let first = prefixes.next().flatten();
            if first.is_some() && prefixes.all(|prefix| prefix == first) {
                numbers.sort_by_key(|(k, _)| k.as_ref().map(|(_, layer)| *layer));
            }
            Ok(numbers.into_iter().map(|(_, number)| number).collect())
        }
        other => Err(CheckpointError::content(at(), expected, other.describe())),
    }
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
fn agree<T: std::fmt::Debug>(
    at: &str,
    first: Option<T>,
    second: Option<T>,
    same: impl Fn(&T, &T) -> bool,
) -> Result<Option<T>, CheckpointError> {
    match (first, second) {
        (Some(a), Some(b)) if !same(&a, &b) => {
            let got = format!("{} and {}; remove the wrong one", brief(&a), brief(&b));
            Err(CheckpointError::content(at, "the same numbers", got))
        }
        (a, b) => Ok(a.or(b)),
    }
}

/// The beginning of a list of numbers.
fn brief(numbers: &impl std::fmt::Debug) -> String {
    const SHOWN: usize = 200;
    let text = format!("{numbers:?}");
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
        None => text,
    }
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
