//! Models that Keras saves, in both of its formats: the same logits.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

use std::path::Path;
use std::process::Command;

use escape_checkpoint::{Checkpoint, Selection, description};
use escape_model::ann::{Ann, to_tensor, to_vec};
use escape_network::sequential::Sequential;
use serde_json::Value;
use tch::Device;

#[path = "../../../tests/parity/mod.rs"]
// Only the Python is needed of it.
#[allow(dead_code)]
mod parity;

/// The network and the weights of a model give the logits that lie beside it.
fn check(model: &Path, network: &Sequential, checkpoint: &Checkpoint) {
    let floats = |end: &str| -> Vec<f32> {
        let bytes = std::fs::read(model.with_extension(end)).unwrap();
        bytes.as_chunks().0.iter().map(|&four| f32::from_le_bytes(four)).collect()
    };
    let (x, y) = (floats("x"), floats("y"));
    let count = network.input().count();
    let ann = Ann::of(network.clone(), checkpoint, model, Device::Cpu).unwrap();
    let tensor = to_tensor(&x, &[x.len() / count, count], Device::Cpu).unwrap();
    let got = to_vec(&ann.forward(&tensor, false).unwrap()).unwrap();
    assert_eq!(got.len(), y.len(), "{model:?}");
    for (got, want) in got.iter().zip(&y) {
        assert!((got - want).abs() <= 1e-5 * want.abs().max(1.0), "{model:?}: {got} against {want}");
    }
}

fn load(path: &Path) -> (Sequential, Checkpoint, Vec<String>) {
    let (checkpoint, notes) = Checkpoint::load_as(path, &Selection::default()).unwrap();
    let network = description::stored(&checkpoint, path).unwrap().unwrap();
    (network, checkpoint, notes.iter().map(ToString::to_string).collect())
}

#[test]
fn logits_are_those_of_keras_3() {
    let Some(python) = parity::python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/keras/models.py");
    let output = Command::new(python).arg(script).arg(folder.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let models = std::fs::read_to_string(folder.path().join("models.json")).unwrap();
    let models: Value = serde_json::from_str(&models).unwrap();
    for (name, model) in models.as_object().unwrap() {
        for end in ["h5", "keras"] {
            let path = folder.path().join(format!("{name}.{end}"));
            let (network, checkpoint, notes) = load(&path);
            let left_out = model["left_out"].as_array().unwrap();
            assert_eq!(notes.len(), left_out.len(), "{path:?}: {notes:?}");
            for layer in left_out {
                assert!(
                    notes.iter().any(|note| note.contains(layer.as_str().unwrap())),
                    "{layer}: {notes:?}"
                );
            }
            let input = network.input();
            assert_eq!(
                serde_json::json!([input.channels, input.height, input.width]),
                model["input"],
                "{path:?}"
            );
            check(&path, &network, &checkpoint);
        }
    }
}

/// Saved by tf_keras 2.21, which is Keras 2, and the logits that it gave.
#[test]
fn logits_are_those_of_keras_2() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/keras");
    for name in ["keras2_functional.h5", "keras2_sequential.keras"] {
        let path = folder.join(name);
        let (network, checkpoint, _) = load(&path);
        check(&path, &network, &checkpoint);
    }
}
