//! `escape-snn checkpoint`

use std::path::Path;

use anyhow::Result;
use escape_checkpoint::description::{self, NETWORK_KEY};
use escape_checkpoint::identify::Identity;
use escape_checkpoint::propose::propose;
use escape_checkpoint::{Checkpoint, CheckpointError, DType, Opaque, TensorData, Value};
use escape_files::text::shown;
use escape_network::sequential::{Parameter, Sequential};
use escape_snn_core::stored::PRESET_KEY;
use escape_study::folder::{Input, write_text};
use escape_study::load::network;
use escape_study::place::{check_apart, check_file, existing};
use escape_study::session::{Session, usage};
use serde::Serialize;
use serde_json::{Map, json};

use super::thousands;
use crate::args::{CheckpointArgs, CheckpointCommand, WeightsArgs};
use crate::context::Context;

pub fn run(context: &Context, args: CheckpointArgs) -> Result<()> {
    let session = &context.session;
    match args.command {
        CheckpointCommand::Inspect { file, selection, propose } => {
            if let Some(to) = &propose {
                check_apart(to, &[&file])?;
                check_file(session, to)?;
            }
            inspect(context, &file, &selection, propose.as_deref())
        }
        CheckpointCommand::Convert { from, to, selection, half, without_optimizer } => {
            check_apart(&to, &[&from])?;
            check_extension(session, &to)?;
            let mut found = network(session, &from, &selection.selection())?;
            if half {
                for (name, weight) in &mut found.weights {
                    *weight = halved(&from, name, weight)?;
                }
            }
            if without_optimizer {
                found.optimizer = None;
            }
            found.save(&to)?;
            let (tensors, network) = (found.weights.len(), Identity::of(&found.weights).to_string());
            context.result(&json!({ "written": to, "tensors": tensors, "network": network }), || {
                format!("{}: {network}, {tensors} tensors", to.display())
            })
        }
    }
}

/// A weight in half precision; whole numbers, counters say, stay what they are.
fn halved(path: &Path, name: &str, weight: &TensorData) -> Result<TensorData> {
    if !matches!(weight.dtype, DType::F64 | DType::F32 | DType::BF16) {
        return Ok(weight.clone());
    }
    let half = weight.to_f16();
    let (before, after) = (Statistics::of(weight), Statistics::of(&half));
    if before.not_finite != after.not_finite {
        return Err(anyhow::anyhow!(
            "{}: {} has values from {} to {}, half precision ends at 65504; leave --half out",
            path.display(),
            shown(name),
            before.min.unwrap_or_default(),
            before.max.unwrap_or_default(),
        ));
    }
    Ok(half)
}

fn check_extension(session: &Session, path: &Path) -> Result<()> {
    let ends = ["pth", "pt", "ckpt", "safetensors"];
    if path.extension().is_none_or(|e| !ends.iter().any(|end| e.eq_ignore_ascii_case(end))) {
        return Err(usage(format!(
            "{}: checkpoints are written as .pth (.pt, .ckpt) or .safetensors; name a file that ends so",
            path.display()
        )));
    }
    check_file(session, path)
}

fn inspect(context: &Context, path: &Path, selection: &WeightsArgs, proposal: Option<&Path>) -> Result<()> {
    // The reader itself says what a folder may be.
    let path = if path.is_dir() { path.to_path_buf() } else { existing(path)? };
    let contents = escape_checkpoint::open(&path)?;
    let file = Input::of(&path)?;
    let (tree, outline) = match context.json {
        true => (tree(&contents.value), String::new()),
        false => (json!(null), outline(&contents.value)),
    };
    let (format, foreign) = (contents.format, contents.foreign.clone());
    let mut described = None;
    let (network, tensors, notes) = match Checkpoint::select(contents, &selection.selection()) {
        Ok((checkpoint, notes)) => {
            described = description::stored(&checkpoint, &path).ok().flatten();
            let mut notes: Vec<String> = notes.iter().map(ToString::to_string).collect();
            if is_converted(&checkpoint) && checkpoint.accuracy.is_some() {
                notes.push("accuracy and epoch are those of the ANN that it was converted from".to_owned());
            }
            if let Some(to) = proposal {
                let kept = description::stored(&checkpoint, &path)?;
                let text = match kept {
                    Some(network) => Ok(description::to_yaml(&network)),
                    None => propose(&checkpoint),
                };
                write_text(to, &text.map_err(|why| usage(format!("{}: {why}", path.display())))?)?;
                notes.push(format!(
                    "a description of the network is written to {}; check the lines that say so, and give it with --network",
                    to.display()
                ));
            }
            (describe(&checkpoint, described.as_ref()), Some(checkpoint.weights.len()), notes)
        }
        Err(CheckpointError::Choice { problem, .. }) => {
            return Err(usage(format!("{}: {problem}", path.display())));
        }
        Err(why) if proposal.is_some() => return Err(why.in_file(&path).into()),
        Err(why) => (format!("no network to be used as it is ({})", why.in_file(&path)), None, Vec::new()),
    };
    let names: Vec<_> = foreign
        .iter()
        .map(|f| json!({ "name": f.name, "called": f.called, "would_run": f.would_run() }))
        .collect();
    let report = json!({
        "path": path, "format": format.to_string(), "bytes": file.bytes, "sha256": file.sha256,
        "network": network, "description": described.as_ref().map(description::to_yaml), "tensors": tensors, "notes": notes, "foreign": names, "content": tree,
    });
    context.result(&report, || {
        let bytes = thousands(file.bytes as f64);
        let mut text =
            format!("{}: {format}, {bytes} bytes\nsha256 {}\n{network}\n", path.display(), file.sha256);
        for note in &notes {
            text.push_str(&format!("note: {note}\n"));
        }
        if !foreign.is_empty() {
            let names: Vec<String> = foreign.iter().take(SHOWN).map(|f| shown(&f.name)).collect();
            let more = foreign.len().saturating_sub(SHOWN);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            text.push_str(&format!(
                "names of classes and functions, none of them executed: {}{more}\n",
                names.join(", ")
            ));
        }
        if let Some(network) = &described {
            text.push_str(&format!("\n{}", description::to_yaml(network)));
        }
        format!("{text}\n{outline}")
    })
}

/// Which network a checkpoint holds, in words.
fn describe(checkpoint: &Checkpoint, described: Option<&Sequential>) -> String {
    let network = match described {
        Some(network) => {
            let (rows, columns) = network.input().recording();
            let weights: usize = network.parameters().iter().map(Parameter::count).sum();
            format!(
                "a described network of {} parameters for recordings of {rows} x {columns} and {} classes",
                thousands(weights as f64),
                network.classes()
            )
        }
        None => Identity::of(&checkpoint.weights).to_string(),
    };
    match (&checkpoint.thresholds, checkpoint.timesteps) {
        (Some(_), Some(steps)) => format!("{network}, as a spiking network for {steps} timesteps"),
        (Some(_), None) => format!("{network}, with thresholds and no timesteps"),
        (None, _) => network,
    }
}

/// Whether a spiking network is as conversion left it: what fine-tuning writes beside the weights is not there.
fn is_converted(checkpoint: &Checkpoint) -> bool {
    let extra = |key: &str| checkpoint.extra.iter().any(|(name, _)| name == key);
    checkpoint.timesteps.is_some()
        && extra(PRESET_KEY)
        && !extra("best_epoch")
        && checkpoint.optimizer.is_none()
}

/// A tensor in numbers; statistics over its finite elements, absent where there are none.
#[derive(Serialize)]
struct Statistics {
    dtype: String,
    shape: Vec<usize>,
    min: Option<f64>,
    max: Option<f64>,
    mean: Option<f64>,
    /// Of the population: divided by the number of elements.
    sd: Option<f64>,
    zeros: usize,
    not_finite: usize,
}

impl Statistics {
    fn of(tensor: &TensorData) -> Self {
        // In two passes without a copy: a file of booleans would grow eightfold.
        let (mut count, mut zeros, mut sum) = (0usize, 0, 0.0);
        let (mut min, mut max) = (f64::INFINITY, f64::NEG_INFINITY);
        tensor.each_f64(|v| {
            if v.is_finite() {
                count += 1;
                sum += v;
                (min, max) = (min.min(v), max.max(v));
            }
            zeros += usize::from(v == 0.0);
        });
        let n = (count > 0).then_some(count as f64);
        let mean = n.map(|n| sum / n);
        let mut squares = 0.0;
        if let Some(mean) = mean {
            tensor.each_f64(|v| squares += if v.is_finite() { (v - mean).powi(2) } else { 0.0 });
        }
        Self {
            dtype: tensor.dtype.to_string(),
            shape: tensor.shape.clone(),
            min: n.map(|_| min),
            max: n.map(|_| max),
            mean,
            sd: n.map(|n| (squares / n).sqrt()),
            zeros,
            not_finite: tensor.len() - count,
        }
    }

    fn text(&self) -> String {
        let shape: Vec<String> = self.shape.iter().map(usize::to_string).collect();
        let shape = if shape.is_empty() { "scalar".to_string() } else { shape.join(" x ") };
        let mut text = format!("{} {shape}", self.dtype);
        if let (Some(min), Some(max), Some(mean), Some(sd)) = (self.min, self.max, self.mean, self.sd) {
            let elements: usize = self.shape.iter().product();
            text.push_str(&match elements {
                1 => format!(", {}", number(min)),
                _ => {
                    format!(", {} to {}, mean {}, sd {}", number(min), number(max), number(mean), number(sd))
                }
            });
        }
        if self.not_finite > 0 {
            text.push_str(&format!(", {} not finite", thousands(self.not_finite as f64)));
        }
        text
    }
}

/// Five digits that say something, however small or large.
fn number(value: f64) -> String {
    let size = value.abs();
    if value == 0.0 || (1e-3..1e5).contains(&size) {
        let text = format!("{value:.4}");
        text.trim_end_matches('0').trim_end_matches('.').to_string()
    } else {
        format!("{value:.3e}")
    }
}

fn key(value: &Value) -> String {
    value.as_str().map_or_else(|| plain(value), shown)
}

/// A value that has no parts.
fn plain(value: &Value) -> String {
    match value {
        Value::Str(s) => format!("\"{}\"", shown(s)),
        Value::Int(i) => i.to_string(),
        Value::Float(f) => f.to_string(),
        Value::Bool(b) => b.to_string(),
        Value::None => "None".into(),
        Value::Tensor(t) => Statistics::of(t).text(),
        Value::Opaque(o) => opaque(o),
        other => other.describe(),
    }
}

/// What was not made, with what little of it is plain.
fn opaque(object: &Opaque) -> String {
    let fields: Vec<String> =
        object.fields.iter().map(|(name, value)| format!("{} {}", shown(name), plain(value))).collect();
    match fields.is_empty() {
        true => object.what.clone(),
        false => format!("{}: {}", object.what, fields.join(", ")),
    }
}

/// The tree of values, a line each, parts under what they are part of.
fn outline(value: &Value) -> String {
    let mut text = String::new();
    match one_line(value) {
        Some(line) => text.push_str(&line),
        None => branches(value, 0, &mut text),
    }
    text
}

/// Of a long list only the first items are shown.
const SHOWN: usize = 20;

fn branches(value: &Value, depth: usize, text: &mut String) {
    let pad = "  ".repeat(depth);
    let mut branch = |name: String, value: &Value| match one_line(value) {
        Some(line) => text.push_str(&format!("{pad}{name}: {line}\n")),
        None => {
            text.push_str(&format!("{pad}{name}:\n"));
            branches(value, depth + 1, text);
        }
    };
    for (k, v) in value.entries().unwrap_or_default() {
        // Shown in its lines.
        if k.as_str() == Some(NETWORK_KEY) {
            continue;
        }
        branch(key(k), v);
    }
    let items = value.items().unwrap_or_default();
    for (i, item) in items.iter().take(SHOWN).enumerate() {
        branch(format!("[{i}]"), item);
    }
    if items.len() > SHOWN {
        text.push_str(&format!("{pad}and {} more\n", thousands((items.len() - SHOWN) as f64)));
    }
}

/// A value that fits a line, if it does.
fn one_line(value: &Value) -> Option<String> {
    let is_plain = |v: &Value| v.entries().is_none() && v.items().is_none() && v.as_tensor().is_none();
    match (value.entries(), value.items()) {
        (Some([]), _) | (_, Some([])) => Some("empty".to_string()),
        (Some(_), _) => None,
        (_, Some(items)) if items.iter().all(is_plain) => {
            let mut words: Vec<String> = items.iter().take(SHOWN).map(plain).collect();
            if items.len() > SHOWN {
                words.push(format!("and {} more", thousands((items.len() - SHOWN) as f64)));
            }
            Some(format!("[{}]", words.join(", ")))
        }
        (_, Some(_)) => None,
        _ => Some(plain(value)),
    }
}

/// The tree as JSON. A dictionary is an object where all its keys are texts, else a list of pairs.
fn tree(value: &Value) -> serde_json::Value {
    if let Some(entries) = value.entries() {
        let texts: Option<Map<_, _>> =
            entries.iter().map(|(k, v)| Some((k.as_str()?.to_string(), tree(v)))).collect();
        return match texts {
            Some(object) => object.into(),
            None => entries.iter().map(|(k, v)| json!([tree(k), tree(v)])).collect(),
        };
    }
    if let Value::List(items) | Value::Tuple(items) | Value::Set(items) = value {
        return items.iter().map(tree).collect();
    }
    match value {
        Value::Tensor(t) => json!(Statistics::of(t)),
        Value::Int(i) => json!(i),
        Value::Float(f) => json!(f),
        Value::Bool(b) => json!(b),
        Value::Str(s) => json!(s),
        Value::None => json!(null),
        Value::Opaque(o) => {
            let fields: Map<_, _> =
                o.fields.iter().map(|(name, value)| (name.clone(), tree(value))).collect();
            json!({ "opaque": o.what, "fields": fields })
        }
        Value::Bytes(b) => json!({ "bytes": b }),
        Value::BigInt(b) => json!({ "twos_complement": b }),
        other => json!(other.describe()),
    }
}
