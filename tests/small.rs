//! What the program does without libtorch, and what it then says of the rest. Tested in both builds.

// A test fails by panicking.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use escape_report::rows::{Activity, Energy, Evaluation, Kind, LayerKind, Row, to_csv};

const CHECKPOINT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../checkpoints/modified.pth");

fn escape(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_escape-snn")).args(arguments).output().unwrap()
}

/// The standard output of a call that succeeds.
fn text(arguments: &[&str]) -> String {
    let output = escape(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn recordings_are_simulated_inspected_and_converted() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    text(&["data", "simulate", "--samples", "12", "--out", &at("a.npz")]);
    text(&["data", "convert", &at("a.npz"), &at("a.mat")]);
    let [first, second] = ["a.npz", "a.mat"].map(|name| {
        let json = text(&["--json", "data", "inspect", &at(name)]);
        serde_json::from_str::<serde_json::Value>(&json).unwrap()
    });
    assert_eq!(first["train"], second["train"]);
}

#[test]
fn checkpoints_are_inspected_and_converted() {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("a.safetensors").display().to_string();
    assert!(
        text(&["checkpoint", "inspect", CHECKPOINT]).contains("modified network of the ESCAPE-NET family")
    );
    text(&["checkpoint", "convert", CHECKPOINT, &to]);
    assert!(text(&["checkpoint", "inspect", &to]).contains("safetensors"));
}

/// A folder with what was measured of one spiking network.
fn measured(folder: &Path) {
    let layer = |layer: &str, kind, macs, neurons, spikes| Activity {
        network: "snn".into(),
        preset: "default".into(),
        timesteps: 4,
        samples: 10,
        layer: layer.into(),
        kind,
        neurons,
        weights: 100,
        macs,
        analog_input: false,
        leak: 1.0,
        spikes_per_sample: spikes,
        synaptic_operations_per_sample: 1000.0,
        channels: None,
    };
    let activity = [
        layer("conv1", LayerKind::Conv, 5000, 400, 120.0),
        layer("conv2", LayerKind::Conv, 4000, 200, 60.0),
        layer("conv3", LayerKind::Conv, 3000, 100, 30.0),
        layer("fc1", LayerKind::Linear, 300, 3, 0.0),
    ];
    let evaluation = Evaluation {
        network: "snn".into(),
        kind: Kind::Converted,
        preset: "default".into(),
        encoder: "direct".into(),
        timesteps: Some(4),
        samples: 10,
        accuracy: 0.7,
        loss: 0.9,
        epoch: None,
        balanced_accuracy: None,
        macro_f1: None,
    };
    fs::write(folder.join(Activity::FILE), to_csv(&activity).unwrap()).unwrap();
    fs::write(folder.join(Evaluation::FILE), to_csv(&[evaluation]).unwrap()).unwrap();
}

#[test]
fn energies_and_pages_come_from_tables() {
    assert!(text(&["energy", "--rates", "1.2,0.5,0.3"]).contains("published formula"));
    let folder = tempfile::tempdir().unwrap();
    measured(folder.path());
    let run = folder.path().display().to_string();
    text(&["energy", "--run", &run]);
    assert!(folder.path().join(Energy::FILE).exists());
    text(&["report", &run]);
    assert!(fs::read_to_string(folder.path().join("report/index.html")).unwrap().contains("snn"));
}

#[test]
#[cfg(not(feature = "libtorch"))]
fn what_needs_libtorch_says_so() {
    for command in ["demo", "run", "train", "convert", "evaluate", "finetune", "spikes", "bench"] {
        let output = escape(&[command, "--checkpoint", "a.pth", "-x", "b", "--json"]);
        assert_eq!(output.status.code(), Some(2), "{command}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("built without libtorch"), "{command}");
        let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(answer["error"]["message"].as_str().unwrap().contains("libtorch"), "{command}");
    }
    assert!(text(&["--help"]).contains("Built without libtorch"));
    let output = escape(&["--device", "cuda", "energy", "--rates", "1,1,1"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("expected auto or cpu"));
}
