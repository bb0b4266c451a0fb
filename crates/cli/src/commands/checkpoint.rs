//! `escape-snn checkpoint`

use std::path::Path;

use anyhow::Result;
use escape_data::shown;
use escape_model::checkpoint::{self, Checkpoint, TensorData, Value};
use escape_model::identify::Identity;
use serde::Serialize;
use serde_json::{Map, json};

use super::thousands;
use crate::args::{CheckpointArgs, CheckpointCommand};
use crate::context::{Context, check_apart, check_file, existing, usage};
use crate::run_folder::Input;

pub fn run(context: &Context, args: CheckpointArgs) -> Result<()> {
    match args.command {
        CheckpointCommand::Inspect { file } => inspect(context, &existing(&file)?),
        CheckpointCommand::Convert { from, to, half, without_optimizer } => {
            check_extension(&to)?;
            check_apart(&to, &[&from])?;
            let mut found = super::checkpoint(&from)?;
            if half {
                found.weights.iter_mut().for_each(|(_, w)| *w = w.to_f16());
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

fn check_extension(path: &Path) -> Result<()> {
    let ends = ["pth", "pt", "ckpt", "safetensors"];
    if path.extension().is_none_or(|e| !ends.iter().any(|end| e.eq_ignore_ascii_case(end))) {
        return Err(usage(format!(
            "{}: checkpoints are written as .pth (.pt, .ckpt) or .safetensors; name a file that ends so",
            path.display()
        )));
    }
    check_file(path)
}

fn inspect(context: &Context, path: &Path) -> Result<()> {
    let (format, value) = checkpoint::open(path)?;
    let file = Input::of(path)?;
    let (tree, outline) =
        if context.json { (tree(&value), String::new()) } else { (json!(null), outline(&value)) };
    let checkpoint = Checkpoint::from_value(value);
    let network = match &checkpoint {
        Ok(checkpoint) => describe(checkpoint),
        Err(why) => format!("no dictionary of weights ({why})"),
    };
    let report = json!({
        "path": path, "format": format.to_string(), "bytes": file.bytes, "sha256": file.sha256,
        "network": network, "content": tree,
    });
    context.result(&report, || {
        let bytes = thousands(file.bytes as f64);
        format!("{}: {format}, {bytes} bytes\nsha256 {}\n{network}\n\n{outline}", path.display(), file.sha256)
    })
}

/// Which network a checkpoint holds, in words.
fn describe(checkpoint: &Checkpoint) -> String {
    let network = Identity::of(&checkpoint.weights);
    match (&checkpoint.thresholds, checkpoint.timesteps) {
        (Some(_), Some(steps)) => format!("{network}, as a spiking network for {steps} timesteps"),
        (Some(_), None) => format!("{network}, with thresholds"),
        (None, _) => network.to_string(),
    }
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
        let values = tensor.to_f64();
        let finite = || values.iter().copied().filter(|v| v.is_finite());
        let count = finite().count();
        let n = (count > 0).then_some(count as f64);
        let mean = n.map(|n| finite().sum::<f64>() / n);
        Self {
            dtype: tensor.dtype.to_string(),
            shape: tensor.shape.clone(),
            min: n.map(|_| finite().fold(f64::INFINITY, f64::min)),
            max: n.map(|_| finite().fold(f64::NEG_INFINITY, f64::max)),
            mean,
            sd: n.zip(mean).map(|(n, mean)| (finite().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt()),
            zeros: values.iter().filter(|&&v| v == 0.0).count(),
            not_finite: values.len() - count,
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
        other => other.describe(),
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

fn tree(value: &Value) -> serde_json::Value {
    if let Some(entries) = value.entries() {
        return entries.iter().map(|(k, v)| (key(k), tree(v))).collect::<Map<_, _>>().into();
    }
    if let Some(items) = value.items() {
        return items.iter().map(tree).collect();
    }
    match value {
        Value::Tensor(t) => json!(Statistics::of(t)),
        Value::Int(i) => json!(i),
        Value::Float(f) => json!(f),
        Value::Bool(b) => json!(b),
        Value::Str(s) => json!(s),
        Value::None => json!(null),
        other => json!(other.describe()),
    }
}
