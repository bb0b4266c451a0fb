//! Where in a file the weights are, and what lies beside them.

use escape_files::text::shown;

use super::error::CheckpointError;
use super::graph::place;
use super::value::Value;
use crate::identify::prefixes;

/// The weights of a file, as they lie there.
pub(crate) struct Located {
    /// Where, as Python would index it; empty for the file's own top level.
    pub(crate) place: String,
    /// Whether that is where everybody looks: under `state_dict`, or the whole file.
    pub(crate) usual: bool,
    pub(crate) weights: Vec<(Value, Value)>,
    /// The entries of the dictionary that the weights lie in, then those of the dictionaries around it.
    pub(crate) beside: Vec<(Value, Value)>,
    /// Other dictionaries of weights, as `--weights` takes them.
    pub(crate) others: Vec<String>,
}

/// Names under which weights lie, the likeliest first; averages of them come last.
pub(crate) const NAMES: [&str; 24] = [
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "module",
    "net",
    "network",
    "net_state_dict",
    "network_state_dict",
    "network_weights",
    "weights",
    "params",
    "parameters",
    "state",
    "ann",
    "snn",
    "model_ema",
    "model_ema_state_dict",
    "state_dict_ema",
    "ema_state_dict",
    "ema_model",
    "params_ema",
    "ema",
    "swa",
];
const EXPECTED: &str = "a dictionary with 'state_dict', or a state dict of tensors only";
/// So deep weights are looked for; a file of Lightning or of a toolbox has them one or two levels down.
const DEPTH: usize = 4;
/// So deep they can be named.
const DEEPEST: usize = 64;
/// So many dictionaries are told of.
const SHOWN: usize = 12;

/// A dictionary that may be the weights.
struct Candidate {
    /// Its place among the entries of its dictionary, from the top on.
    path: Vec<usize>,
    place: String,
    /// Keys joined by dots.
    dotted: String,
    /// Its key's place in [`NAMES`].
    rank: Option<usize>,
}

/// Finds the weights: in the dictionary that `wanted` names, else under `state_dict`, else the whole file if it is but
/// tensors, else in the one dictionary of tensors there is, or the first of several in the order of [`NAMES`].
///
/// # Errors
/// [`CheckpointError::Content`] if there are none, or several none of which has a usual name;
/// [`CheckpointError::Choice`] if there is nothing that `wanted` could mean.
pub(crate) fn locate(value: Value, wanted: Option<&str>) -> Result<Located, CheckpointError> {
    if let Some(wanted) = wanted {
        let candidates = search(&value, &|_, entries| has_tensors(entries), true);
        let Some(at) = candidates.iter().position(|c| c.dotted == wanted || c.place == wanted) else {
            let list = candidates.iter().take(SHOWN).map(|c| shown(&c.dotted)).collect::<Vec<_>>().join(", ");
            let there = if list.is_empty() { "none".to_owned() } else { list };
            return Err(CheckpointError::choice(format!(
                "no dictionary of tensors '{}' for --weights; there is: {there}",
                shown(wanted)
            )));
        };
        return Ok(taken(value, candidates, at));
    }
    let top = match &value {
        Value::Dict(entries) | Value::OrderedDict(entries) => &entries[..],
        Value::List(_) | Value::Tuple(_) => &[][..],
        other => {
            return Err(CheckpointError::content(
                "top level",
                EXPECTED,
                format!("{}; {}", other.describe(), hint(other)),
            ));
        }
    };
    let candidates;
    let empty = |value: &Value| *value == Value::None || value.entries().is_some_and(<[_]>::is_empty);
    // An empty place for weights does not hide those that lie elsewhere.
    let mut there = top.iter().position(|(key, _)| key.as_str() == Some("state_dict"));
    if there.is_some_and(|i| top.get(i).is_some_and(|(_, value)| empty(value)))
        && !search(&value, &is_weights, false).is_empty()
    {
        there = None;
    }
    if let Some(i) = there {
        let found = top.get(i).map(|(_, found)| found).and_then(Value::entries);
        let Some(entries) = found else {
            let got = top.get(i).map(|(_, found)| found);
            let got = got.map(|found| format!("{}; {}", found.describe(), hint_for("state_dict", found)));
            return Err(CheckpointError::content(
                "['state_dict']",
                "a dictionary of tensors",
                got.unwrap_or_default(),
            ));
        };
        let mut nested = Vec::new();
        if !has_tensors(entries) {
            nested = search(&value, &is_weights, false);
            nested.retain(|c| c.path.first() == Some(&i) && c.path.len() > 1);
        }
        if nested.is_empty() {
            let key = Candidate::at(&value, &[i]);
            let mut located = taken(value, vec![key], 0);
            located.usual = true;
            return Ok(located);
        }
        candidates = nested;
    } else if !top.is_empty() && top.iter().all(|(_, value)| is_tensor(value)) {
        return Ok(Located { usual: true, ..flat(value, true) });
    } else {
        candidates = search(&value, &is_weights, false);
    }
    let best = candidates.iter().filter_map(|c| c.rank).min();
    let mut first = (0..candidates.len()).filter(|&i| candidates.get(i).is_some_and(|c| c.rank == best));
    match (first.next(), first.next()) {
        (Some(at), None) => Ok(taken(value, candidates, at)),
        (Some(_), Some(_)) if best.is_none() && parts_of_one(&value, &candidates) => {
            Ok(joined(value, &candidates))
        }
        (Some(_), Some(_)) => {
            let list = candidates.iter().take(SHOWN).map(|c| c.place.clone()).collect::<Vec<_>>().join(", ");
            let example = candidates.first().map(|c| shown(&c.dotted)).unwrap_or_default();
            let got = format!("several: {list}; choose one, --weights {example} say");
            Err(CheckpointError::content("top level", "one dictionary of weights", got))
        }
        (None, _) if top.iter().any(|(key, value)| is_tensor(value) && is_parameter(key)) => {
            Ok(flat(value, false))
        }
        (None, _) => {
            let got = format!("{}; {}", value.describe(), hint(&value));
            Err(CheckpointError::content("top level", EXPECTED, got))
        }
    }
}

impl Candidate {
    /// What is known of the place that a path leads to. Keys can be long.
    fn at(value: &Value, path: &[usize]) -> Self {
        const LONG: usize = 200;
        let mut candidate =
            Self { path: path.to_vec(), place: String::new(), dotted: String::new(), rank: None };
        let mut here = Some(value);
        for &i in path {
            let step = match here.and_then(Value::entries) {
                Some(entries) => entries.get(i).map(|(key, value)| (key.clone(), value)),
                None => {
                    here.and_then(Value::items).and_then(|items| Some((Value::Int(i as i64), items.get(i)?)))
                }
            };
            let Some((key, below)) = step else { break };
            let name: String = match &key {
                Value::Str(name) => name.chars().take(LONG).collect(),
                _ => i.to_string(),
            };
            candidate.place.push_str(&place(&key));
            candidate.dotted.push_str(if candidate.dotted.is_empty() { "" } else { "." });
            candidate.dotted.push_str(&name);
            candidate.rank = rank(&name);
            here = Some(below);
        }
        candidate
    }
}

/// The place of a key in [`NAMES`].
fn rank(key: &str) -> Option<usize> {
    NAMES.iter().position(|known| key.eq_ignore_ascii_case(known))
}

/// Whether a dictionary is looked for, by the place of its key in [`NAMES`] and its entries.
type Accepts<'a> = &'a dyn Fn(Option<usize>, &[(Value, Value)]) -> bool;

/// The dictionaries below the top that are accepted; those within them only if `everywhere`.
fn search(value: &Value, accepts: Accepts<'_>, everywhere: bool) -> Vec<Candidate> {
    let mut found = Vec::new();
    walk(value, &mut Vec::new(), &mut found, accepts, everywhere);
    found.iter().map(|path| Candidate::at(value, path)).collect()
}

fn walk(
    value: &Value,
    path: &mut Vec<usize>,
    found: &mut Vec<Vec<usize>>,
    accepts: Accepts<'_>,
    everywhere: bool,
) {
    const MANY: usize = 1000;
    // What somebody names may lie anywhere.
    if path.len() >= if everywhere { DEEPEST } else { DEPTH } {
        return;
    }
    let mut visit = |i: usize, rank: Option<usize>, value: &Value| {
        path.push(i);
        let accepted = value.entries().is_some_and(|entries| accepts(rank, entries));
        if accepted && found.len() < MANY {
            found.push(path.clone());
        }
        if (!accepted || everywhere) && value.get("param_groups").is_none() {
            walk(value, path, found, accepts, everywhere);
        }
        path.pop();
    };
    for (i, (key, value)) in value.entries().unwrap_or_default().iter().enumerate() {
        if let Some(key) = key.as_str().filter(|key| everywhere || !is_something_else(key)) {
            visit(i, rank(key), value);
        }
    }
    for (i, value) in value.items().unwrap_or_default().iter().enumerate().take(64) {
        visit(i, None, value);
    }
}

/// Keys of the study and of training programs under which tensors lie that are no weights.
fn is_something_else(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    let begins =
        ["optim", "sched", "lr_sched", "scaler", "rng", "amp", "callback", "loops", "hyper", "hparam"];
    let is = ["opt", "thresholds", "leak", "leak_mem", "metrics", "history", "loss"];
    begins.iter().any(|start| key.starts_with(start)) || is.contains(&key.as_str())
}

fn is_tensor(value: &Value) -> bool {
    value.as_tensor().is_some() || value.as_opaque().is_some_and(|opaque| opaque.is_tensor)
}

/// Whether a name is that of a parameter among other things.
fn is_parameter(key: &Value) -> bool {
    key.as_str().is_some_and(|key| key.ends_with(".weight") || key.ends_with(".bias"))
}

fn has_tensors(entries: &[(Value, Value)]) -> bool {
    entries.iter().any(|(_, value)| is_tensor(value))
}

/// Under a usual name most values must be tensors, and what is not will be complained of; under another name all of
/// them, and more than numbers.
fn is_weights(rank: Option<usize>, entries: &[(Value, Value)]) -> bool {
    let named = entries.iter().all(|(key, _)| key.as_str().is_some());
    let tensors = entries.iter().filter(|(_, value)| is_tensor(value)).count();
    let arrays = entries.iter().any(|(_, value)| match value.as_tensor() {
        Some(tensor) => !tensor.shape.is_empty(),
        None => is_tensor(value),
    });
    let objects = entries.iter().filter(|(_, value)| value.as_opaque().is_some()).count();
    named
        && tensors > 0
        && match rank {
            Some(_) => 2 * tensors >= entries.len(),
            None => {
                arrays
                    && entries.iter().all(|(_, v)| is_tensor(v) || v.as_opaque().is_some())
                    && 2 * objects <= entries.len()
            }
        }
}

/// Whether dictionaries at the top are those of the modules of one network that this program knows.
fn parts_of_one(value: &Value, candidates: &[Candidate]) -> bool {
    let mut names = Vec::new();
    for candidate in candidates {
        let [i] = candidate.path[..] else { return false };
        let Some((Value::Str(module), part)) = value.entries().and_then(|entries| entries.get(i)) else {
            return false;
        };
        let keys = part.entries().unwrap_or_default().iter().filter_map(|(key, _)| key.as_str());
        names.extend(keys.map(|key| format!("{module}.{key}")));
    }
    prefixes(&names).iter().any(String::is_empty)
}

/// A file whose weights lie in several dictionaries at the top, one a module.
fn joined(value: Value, candidates: &[Candidate]) -> Located {
    let (mut weights, mut beside) = (Vec::new(), Vec::new());
    let entries = match value {
        Value::Dict(entries) | Value::OrderedDict(entries) => entries,
        _ => Vec::new(),
    };
    for (i, (key, value)) in entries.into_iter().enumerate() {
        match (key, value) {
            (Value::Str(module), Value::Dict(part) | Value::OrderedDict(part))
                if candidates.iter().any(|candidate| candidate.path == [i]) =>
            {
                let named = |key: &Value| key.as_str().map(|key| Value::Str(format!("{module}.{key}")));
                weights.extend(part.into_iter().filter_map(|(key, value)| Some((named(&key)?, value))));
            }
            (key, value) => beside.push((key, value)),
        }
    }
    Located { place: String::new(), usual: false, weights, beside, others: Vec::new() }
}

/// Takes a candidate out of the file.
fn taken(value: Value, candidates: Vec<Candidate>, at: usize) -> Located {
    let others = candidates.iter().enumerate().filter(|(i, _)| *i != at);
    let others = others.take(SHOWN).map(|(_, c)| shown(&c.dotted)).collect();
    let (path, place) = candidates.into_iter().nth(at).map(|c| (c.path, c.place)).unwrap_or_default();
    let mut outer: Vec<Vec<(Value, Value)>> = Vec::new();
    let mut here = value;
    for i in path {
        let mut entries = match here {
            Value::Dict(entries) | Value::OrderedDict(entries) => entries,
            Value::List(items) | Value::Tuple(items) => {
                items.into_iter().enumerate().map(|(i, item)| (Value::Str(format!("[{i}]")), item)).collect()
            }
            _ => Vec::new(),
        };
        if i >= entries.len() {
            here = Value::None;
            break;
        }
        here = entries.remove(i).1;
        outer.push(entries);
    }
    let weights = match here {
        Value::Dict(entries) | Value::OrderedDict(entries) => entries,
        _ => Vec::new(),
    };
    let mut beside: Vec<(Value, Value)> = Vec::new();
    for entries in outer.into_iter().rev() {
        let new = |key: &Value| !beside.iter().any(|(other, _)| other == key);
        let entries: Vec<_> = entries.into_iter().filter(|(key, _)| new(key)).collect();
        beside.extend(entries);
    }
    Located { place, usual: false, weights, beside, others }
}

/// A file whose weights lie at the top: `all` that is there, or among other things.
fn flat(value: Value, all: bool) -> Located {
    let entries = match value {
        Value::Dict(entries) | Value::OrderedDict(entries) => entries,
        _ => Vec::new(),
    };
    let (weights, beside) = entries
        .into_iter()
        .partition(|(key, value)| all || is_tensor(value) && !key.as_str().is_some_and(is_field));
    Located { place: String::new(), usual: false, weights, beside, others: Vec::new() }
}

/// Keys of the study that can be tensors.
fn is_field(key: &str) -> bool {
    matches!(
        key,
        "accuracy"
            | "epoch"
            | "timesteps"
            | "thresholds"
            | "leak"
            | "leak_mem"
            | "scaling_threshold"
            | "optimizer"
    )
}

/// What to do about a file without weights.
fn hint(value: &Value) -> String {
    match value {
        Value::Opaque(_) => {
            "save just its weights in Python: torch.save(torch.load('FILE', weights_only=False).state_dict(), \
             'weights.pth')"
                .to_owned()
        }
        Value::Tensor(_) => "these are values without names; if they are recordings, pass them with --data".to_owned(),
        _ => {
            let entries = value.entries().unwrap_or_default();
            let object = entries.iter().find_map(|(key, value)| {
                let key = key.as_str()?;
                let opaque = value.as_opaque().filter(|opaque| !opaque.is_tensor)?;
                let rank = NAMES.iter().any(|name| key.eq_ignore_ascii_case(name));
                rank.then(|| format!("['{}'] is {}: {}", shown(key), opaque.what, hint_for(key, value)))
            });
            // A dictionary of the layers' tensors by number, say.
            let nameless = entries.iter().find_map(|(key, value)| {
                let inner = value.entries()?;
                let nameless = has_tensors(inner) && inner.iter().all(|(key, _)| key.as_str().is_none());
                nameless.then(|| {
                    format!(
                        "{} has tensors without names: give them those of the network in Python: \
                         dict(zip(model.state_dict(), tensors.values()))",
                        place(key)
                    )
                })
            });
            object.or(nameless).unwrap_or_else(|| {
                "save the weights under 'state_dict' in Python: torch.save({'state_dict': model.state_dict()}, \
                 'weights.pth')"
                    .to_owned()
            })
        }
    }
}

/// What to do about something under a key where weights were expected.
fn hint_for(key: &str, value: &Value) -> String {
    match value {
        Value::Opaque(_) => format!(
            "save just its weights in Python: torch.save(torch.load('FILE', weights_only=False)['{}'].state_dict(), \
             'weights.pth')",
            shown(key)
        ),
        _ => {
            "save the weights there in Python: torch.save({'state_dict': model.state_dict()}, 'weights.pth')"
                .to_owned()
        }
    }
}
