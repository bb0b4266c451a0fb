use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use escape_checkpoint::Checkpoint;
use escape_report::rows::{Activity, Front, read_table};
use escape_snn_core::encode::Encoding;
use escape_snn_core::integer::{IntegerLayer, IntegerNetwork};
use escape_snn_core::stored;
use serde_json::Value;

use crate::support::{Files, escape, failure, json};

/// Batch norms behind hidden layers; small, so that an epoch takes a moment.
const NETWORK: &str = "
input: [1, 56, 100]
layers:
  - {type: conv2d, name: conv1, out: 4, kernel: [8, 8], stride: [8, 4], padding: [0, 2], bias: false}
  - {type: batch_norm, name: norm1}
  - {type: relu}
  - {type: conv2d, name: conv2, out: 6, kernel: [7, 5], padding: [0, 2], bias: false}
  - {type: batch_norm, name: norm2}
  - {type: relu}
  - {type: avg_pool2d, kernel: [1, 5]}
  - {type: flatten}
  - {type: linear, name: linear1, out: 16, bias: false}
  - {type: batch_norm, name: norm3}
  - {type: relu}
  - {type: linear, name: linear2, out: 3}
";
/// How many weights conv1, conv2, linear1 and linear2 have, and how many are zero where 0.6 are pruned.
const PRUNED: [(usize, usize); 4] = [(256, 154), (840, 504), (480, 288), (48, 0)];

/// [`Files::new`] with `net.yaml`.
fn files() -> Files {
    let files = Files::new();
    std::fs::write(files.path().join("net.yaml"), NETWORK).unwrap();
    files
}

/// `train` of that network into `out`, with further words.
fn train(files: &Files, out: &str, more: &str) -> Vec<String> {
    let fixed =
        ["train", "--data", &files.at("data.npz"), "--network", &files.at("net.yaml")].map(str::to_owned);
    let usual = "--validation 2 --batch-size 5 --lr 0.01 --out".split(' ').map(str::to_owned);
    let more = more.split_whitespace().map(str::to_owned);
    fixed.into_iter().chain(usual).chain([files.at(out)]).chain(more).collect()
}

fn run(arguments: &[String]) -> Value {
    json(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
}

fn refused(arguments: &[String]) -> String {
    let (code, text) = failure(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(code, 2, "{text}");
    text
}

/// Which weights of each layer are zero.
fn zeros(path: &Path) -> Vec<Vec<bool>> {
    let checkpoint = Checkpoint::load(path).unwrap();
    // Biases and batch norms have one dimension.
    let weights = checkpoint.weights.iter().filter(|w| w.1.shape.len() > 1);
    weights.map(|w| w.1.to_f32().iter().map(|w| *w == 0.0).collect()).collect()
}

fn counts(zeros: &[Vec<bool>]) -> Vec<(usize, usize)> {
    zeros.iter().map(|layer| (layer.len(), layer.iter().filter(|zero| **zero).count())).collect()
}

/// Each stage is pruned by itself: the trunk that it takes over has its zeros already.
#[test]
fn stages_are_pruned_each() {
    let files = Files::new();
    let (data, out) = (files.at("data.npz"), files.at("stages"));
    let fixed = ["train", "--data", &data, "--out", &out, "--incremental", "--validation", "2"];
    json(&[&fixed[..], &["--channels", "8", "--hidden", "8", "--epochs", "1", "--prune", "0.5"]].concat());
    let mut trunk: Vec<Vec<bool>> = Vec::new();
    for (stage, layers) in [("ig1", 1), ("ig2", 2), ("original", 3)] {
        let zeros = zeros(&files.path().join("stages").join(stage).join("best.pth"));
        let counts = counts(&zeros);
        let (last, pruned) = counts.split_last().unwrap();
        assert!(pruned.iter().all(|(weights, zeros)| zeros * 2 == *weights), "{stage}: {counts:?}");
        assert_eq!(last.1, 0, "{stage}");
        assert_eq!(zeros[..trunk.len()], trunk, "{stage}: what the stage before pruned stays pruned");
        trunk = zeros[..layers].to_vec();
    }
}

#[test]
fn pruned_weights_stay_zero_through_conversion_and_fine_tuning() {
    let files = files();
    let at = |name: &str| files.path().join(name);
    let report = run(&train(&files, "ann", "--epochs 3 --prune 0.6 --bits 4 --levels 2"));
    let ann = zeros(&at("ann/best.pth"));
    assert_eq!(counts(&ann), PRUNED);
    // Of three epochs the first ends before half of the steps are done.
    assert!(report[0]["best_epoch"].as_u64().unwrap() >= 2, "{report}");

    let (data, snn) = (files.at("data.npz"), files.at("snn.pth"));
    let best = files.at("ann/best.pth");
    let convert = ["convert", "--checkpoint", &best, "--data", &data, "--out", &snn, "--bits", "4"];
    json(&[&convert[..], &["--method", "trained", "--timesteps", "2"]].concat());
    assert_eq!(zeros(&at("snn.pth")), ann, "batch norms are folded into weights, which stay zero");

    let tune = |out: &str, more: &[&str]| {
        let out = files.at(out);
        let fixed = ["finetune", "--checkpoint", &snn, "--data", &data, "--out", &out, "--validation", "2"];
        json(&[&fixed[..], &["--lr", "0.01", "--batch-size", "5"], more].concat());
    };
    tune("kept", &["--epochs", "2", "--keep-zeros"]);
    assert_eq!(zeros(&at("kept/last.pth")), ann);
    assert_eq!(zeros(&at("kept/best.pth")), ann);
    // In whole numbers too, where others may be rounded to 0.
    let saved = Checkpoint::load(&at("kept/last.pth")).unwrap();
    let network = stored::load(&saved, &at("kept/last.pth"), None, 56, 100).unwrap().network;
    let whole = IntegerNetwork::new(&network, Encoding::Direct).unwrap();
    for (layer, zeros) in whole.layers.iter().zip(&ann) {
        assert!(layer.weights.iter().zip(zeros).all(|(weight, zero)| !zero || *weight == 0));
    }
    // What it costs is counted without them: of a layer stored are all its weights, or a map of them and those that are not zero.
    let (out, judged) = (files.at("out"), ["--data", &data, "--limit", "9"]);
    let kept = files.at("kept/last.pth");
    json(&[&["evaluate", "--checkpoint", &kept, "--out", &out, "--name", "kept"][..], &judged].concat());
    json(&[&["evaluate", "--checkpoint", &best, "--bits", "4", "--out", &out][..], &judged].concat());
    json(&["energy", "--run", &out]);
    let stored = |skips: bool| -> f64 {
        let bits = |layer: &IntegerLayer| {
            let (weights, nonzero) = (layer.weights.len(), layer.weights.iter().filter(|w| **w != 0).count());
            if skips { (weights * 4).min(weights + nonzero * 4) } else { weights * 4 }
        };
        whole.layers.iter().map(bits).sum::<usize>() as f64 / 8e3
    };
    let front: Vec<Front> = read_table(&at("out")).unwrap();
    let row =
        |name: &str, skips: bool| front.iter().find(|row| row.network == name && row.skips == skips).unwrap();
    assert!((row("kept", true).kilobytes - stored(true)).abs() < 1e-9 && stored(true) < 0.7 * stored(false));
    assert!((row("ann", false).kilobytes - stored(false)).abs() < 1e-9);
    assert!(row("ann", true).kilobytes < 0.7 * stored(false));
    // As the energies' own tables say, which are held to brute force elsewhere.
    let activity: Vec<Activity> = read_table(&at("out")).unwrap();
    let operations: f64 = activity.iter().map(|row| row.nonzero_operations_per_sample.unwrap()).sum();
    let all: f64 = activity.iter().map(|row| row.synaptic_operations_per_sample).sum();
    assert!(row("kept", true).additions >= operations && operations > 0.0 && operations < 0.7 * all);
    // Resumed it comes to the same; without the option they are weights like others.
    tune("resumed", &["--epochs", "2", "--keep-zeros", "--schedule", "constant"]);
    tune("halves", &["--epochs", "1", "--keep-zeros", "--schedule", "constant"]);
    tune("halves", &["--epochs", "2", "--keep-zeros", "--schedule", "constant", "--resume"]);
    let weights = |name: &str| Checkpoint::load(&at(name)).unwrap().weights;
    assert!(weights("resumed/last.pth") == weights("halves/last.pth"));
    tune("plain", &["--epochs", "1"]);
    let left: usize = counts(&zeros(&at("plain/last.pth"))).iter().map(|(_, zeros)| zeros).sum();
    // What no spike reaches in so short a training stays.
    assert!(left < 850, "{left} of 946 zeros are left");
    let (code, text) = failure(
        &["finetune --timesteps 2 --lr 0.01 --batch-size 5 --validation 2 --epochs 2 --resume"]
            .iter()
            .flat_map(|words| words.split(' '))
            .chain(["--checkpoint", &snn, "--data", &data, "--out", &files.at("kept")])
            .collect::<Vec<_>>(),
    );
    assert!(code == 2 && text.contains("keep_zeros"), "{text}");
    // It is said how many there are, and that there are none.
    let said = |checkpoint: &str, out: &str| {
        let out = files.at(out);
        let words = ["finetune", "--checkpoint", checkpoint, "--data", &data, "--out", &out, "--keep-zeros"];
        let output = escape(&[&words[..], &["--timesteps", "1", "--max-steps", "1"]].concat());
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(said(&snn, "told").contains("946 of 1624 weights are 0 and stay so"));
    let dense = Files::with_snn();
    let text = said(&dense.at("snn.pth"), "none");
    assert!(text.contains("no weight of the network is 0"), "{text}");
}

/// Killed at whatever moment: what is pruned is what is zero.
#[test]
fn a_killed_pruning_is_resumed_to_the_same_numbers() {
    let files = files();
    let with = "--epochs 12 --prune 0.6 --optimizer sgd --schedule linear";
    let whole = run(&train(&files, "whole", with));
    assert_eq!(counts(&zeros(&files.path().join("whole/last.pth"))), PRUNED);
    let mut process = Command::new(env!("CARGO_BIN_EXE_escape-snn"))
        .args(["--device", "cpu", "--quiet"])
        .args(train(&files, "killed", with))
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let last = files.path().join("killed/last.pth");
    while !last.exists() && process.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(1));
    }
    process.kill().unwrap();
    process.wait().unwrap();
    let resumed = run(&train(&files, "killed", &format!("{with} --resume")));
    assert_eq!(whole[0]["best_epoch"], resumed[0]["best_epoch"]);
    for name in ["last.pth", "best.pth"] {
        let of = |folder: &str| Checkpoint::load(&files.path().join(folder).join(name)).unwrap().weights;
        assert!(of("whole") == of("killed"), "{name}: the weights differ");
    }
    // The share is a setting, which a training that goes on must share.
    let text = refused(&train(&files, "killed", "--epochs 12 --optimizer sgd --schedule linear --resume"));
    assert!(text.contains("prune: 0.6 before"), "{text}");
}

#[test]
fn a_network_that_is_to_be_pruned_is_not_kept_as_it_was_given() {
    let files = files();
    run(&train(&files, "given", "--epochs 1"));
    let init = format!("--epochs 1 --init {} --prune 0.6", files.at("given/best.pth"));
    let report = run(&train(&files, "pruned", &init));
    assert_eq!(report[0]["best_epoch"], 1, "{report}");
    assert!(report[0]["input"]["accuracy"].is_number() && report[0]["improved"].is_boolean(), "{report}");
    assert_eq!(counts(&zeros(&files.path().join("pruned/best.pth"))), PRUNED);
}

#[test]
fn shares_that_cannot_be_are_refused() {
    let files = files();
    for share in ["0", "1", "-0.1", "1.5", "nan", "half"] {
        let text = refused(&train(&files, "none", &format!("--epochs 1 --prune {share}")));
        let part = format!("'--prune <SHARE>': expected a number above 0 and below 1, got {share}");
        assert!(text.contains(&part), "{text}");
    }
    let config = |share: &str| {
        let text = format!(
            "{{name: a, data: {{file: {}}}, ann: {{network: net.yaml, train: {{epochs: 1, prune: {share}}}}}}}",
            files.at("data.npz")
        );
        std::fs::write(files.path().join("run.yaml"), text).unwrap();
        ["run", &files.at("run.yaml"), "--out", &files.at("run")].map(str::to_owned)
    };
    for share in ["0", "1", "-0.5", ".nan"] {
        let text = refused(&config(share));
        assert!(
            text.contains("ann.train.prune: expected a share of the weights, above 0 and below 1"),
            "{text}"
        );
    }
    assert!(refused(&config("half")).contains("ann.train.prune"));
    let single = "{input: [1, 56, 100], layers: [{type: flatten}, {type: linear, name: a, out: 3}]}";
    std::fs::write(files.path().join("net.yaml"), single).unwrap();
    let text = refused(&train(&files, "none", "--epochs 1 --prune 0.5"));
    assert!(text.contains("at least two layers with weights, got one"), "{text}");
    std::fs::write(files.path().join("net.yaml"), NETWORK).unwrap();
    // 255.74 of 256.
    let text = refused(&train(&files, "none", "--epochs 1 --prune 0.999"));
    assert!(text.contains("none of the 256 weights of conv1.weight"), "{text}");
    assert!(!files.path().join("none").exists() && !files.path().join("run").exists());
}

/// The same by a configuration, from training to fine-tuning.
#[test]
fn a_run_prunes_and_keeps_the_zeros() {
    let files = files();
    let text = "
name: pruned
data: {file: data.npz}
ann:
  network: net.yaml
  train: {epochs: 1, batch_size: 5, lr: 0.01, validation: 2, prune: 0.6}
convert: [{name: direct, timesteps: 2, bits: 4, samples: 8}]
finetune:
  - {name: kept, from: direct, timesteps: 2, batch_size: 5, lr: 0.01, validation: 2, keep_zeros: true}
report: false
";
    std::fs::write(files.path().join("run.yaml"), text).unwrap();
    json(&["run", &files.at("run.yaml"), "--out", &files.at("run")]);
    let at = |name: &str| files.path().join("run").join(name);
    let ann = zeros(&at("ann/best.pth"));
    assert_eq!(counts(&ann), PRUNED);
    assert_eq!(zeros(&at("kept-training/last.pth")), ann);
    let resolved = std::fs::read_to_string(at("config.resolved.yaml")).unwrap();
    assert!(resolved.contains("prune: 0.6") && resolved.contains("keep_zeros: true"), "{resolved}");
}
