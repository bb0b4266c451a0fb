//! `escape-snn checkpoint`

use std::path::Path;

use anyhow::Result;
use escape_model::arch::Architecture;
use escape_model::checkpoint::{self, Checkpoint, TensorData, Value};
use serde_json::{Map, json};

use super::thousands;
use crate::args::{CheckpointArgs, CheckpointCommand};
use crate::context::{Context, check_apart, check_file, existing, usage};
use crate::run_folder::Input;

pub fn run(context: &Context, args: CheckpointArgs) -> Result<()> {
    match args.command {
        CheckpointCommand::Inspect { file } => inspect(context, &existing(&file)?),
        CheckpointCommand::Convert { from, to, half, without_optimizer } => {
            check_pth(&to)?;
            check_apart(&to, &[&from])?;
            let mut found = super::checkpoint(&from)?;
            if half {
                found.weights.iter_mut().for_each(|(_, w)| *w = w.to_f16());
            }
            if without_optimizer {
                found.optimizer = None;
            }
            found.save(&to)?;
            let tensors = found.weights.len();
            context.result(&json!({ "written": to, "tensors": tensors }), || {
                format!("{tensors} tensors written to {}", to.display())
            })
        }
    }
}

fn check_pth(path: &Path) -> Result<()> {
    let ends = ["pth", "pt", "ckpt"];
    if path.extension().is_none_or(|e| !ends.iter().any(|end| e.eq_ignore_ascii_case(end))) {
        return Err(usage(format!(
            "{}: checkpoints are written as .pth; name a file that ends so",
            path.display()
        )));
    }
    check_file(path)
}

fn inspect(context: &Context, path: &Path) -> Result<()> {
    let value = checkpoint::read(path)?;
    let file = Input::of(path)?;
    let what =
        Checkpoint::load(path).map_or_else(|_| "no dictionary of weights".to_string(), |c| describe(&c));
    let tree = tree(&value);
    let report = json!({
        "path": path, "bytes": file.bytes, "sha256": file.sha256, "network": what, "content": tree,
    });
    context.result(&report, || {
        let mut text = format!(
            "{}: {} bytes, sha256 {}\n{what}\n\n",
            path.display(),
            thousands(file.bytes as f64),
            file.sha256
        );
        outline(&value, 0, &mut text);
        text
    })
}

/// Which network a checkpoint holds, in words.
fn describe(checkpoint: &Checkpoint) -> String {
    let names = checkpoint.weights.iter().map(|w| w.0.as_str());
    let network = match Architecture::detect(names) {
        Some(arch) => format!("the {arch} network"),
        None => "a network of another family".to_string(),
    };
    match (&checkpoint.thresholds, checkpoint.timesteps) {
        (Some(_), Some(steps)) => format!("{network} as a spiking network for {steps} timesteps"),
        (Some(_), None) => format!("{network} with thresholds"),
        (None, _) => network,
    }
}

fn tensor_summary(tensor: &TensorData) -> String {
    let shape: Vec<String> = tensor.shape.iter().map(usize::to_string).collect();
    let values = tensor.to_f32();
    let shape = if shape.is_empty() { "scalar".to_string() } else { shape.join(" x ") };
    if values.is_empty() {
        return format!("{} {shape}", tensor.dtype);
    }
    let n = values.len() as f64;
    let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
    let sd = (values.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n).sqrt();
    let (low, high) =
        values.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(l, h), &v| (l.min(v), h.max(v)));
    format!("{} {shape}, {low:.4} to {high:.4}, mean {mean:.4}, sd {sd:.4}", tensor.dtype)
}

fn key(value: &Value) -> String {
    value.as_str().map_or_else(|| plain(value), str::to_string)
}

/// A value that has no parts.
fn plain(value: &Value) -> String {
    match value {
        Value::Str(s) => format!("{s:?}"),
        Value::Int(i) => i.to_string(),
        Value::Float(f) => f.to_string(),
        Value::Bool(b) => b.to_string(),
        Value::None => "None".into(),
        Value::Tensor(t) => tensor_summary(t),
        other => other.describe(),
    }
}

fn outline(value: &Value, depth: usize, text: &mut String) {
    let pad = "  ".repeat(depth);
    if let Some(entries) = value.entries() {
        for (k, v) in entries {
            let parts = v.entries().is_some_and(|e| !e.is_empty());
            text.push_str(&format!("{pad}{}: {}\n", key(k), if parts { String::new() } else { one_line(v) }));
            if parts {
                outline(v, depth + 1, text);
            }
        }
    } else {
        text.push_str(&format!("{pad}{}\n", one_line(value)));
    }
}

fn one_line(value: &Value) -> String {
    match value.items() {
        Some(items) if items.len() <= 8 && items.iter().all(|i| i.entries().is_none()) => {
            format!("[{}]", items.iter().map(one_line).collect::<Vec<_>>().join(", "))
        }
        Some(items) => format!("list of {}", items.len()),
        None => plain(value),
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
        Value::Tensor(t) => {
            json!({ "dtype": t.dtype.to_string(), "shape": t.shape, "summary": tensor_summary(t) })
        }
        Value::Int(i) => json!(i),
        Value::Float(f) => json!(f),
        Value::Bool(b) => json!(b),
        Value::Str(s) => json!(s),
        Value::None => json!(null),
        other => json!(other.describe()),
    }
}
