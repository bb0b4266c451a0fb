use std::path::Path;

use escape_model::checkpoint::Checkpoint;

use crate::support::{Files, json};

fn weights(path: &Path) -> Vec<Vec<u8>> {
    Checkpoint::load(path).unwrap().weights.into_iter().map(|w| w.1.bytes).collect()
}

#[test]
fn a_resumed_fine_tuning_ends_where_an_uninterrupted_one_does() {
    let files = Files::with_snn();
    for preset in ["default", "published"] {
        let tune = |out: &str, epochs: &str, resume: bool| {
            let (snn, data, out) = (files.at("snn.pth"), files.at("data.npz"), files.at(out));
            let mut arguments = vec![
                "finetune",
                "--checkpoint",
                &snn,
                "--data",
                &data,
                "--out",
                &out,
                "--timesteps",
                "2",
                "--preset",
                preset,
                "--batch-size",
                "9",
                "--lr",
                "1e-3",
                "--schedule",
                "constant",
                "--epochs",
                epochs,
            ];
            if resume {
                arguments.push("--resume");
            }
            json(&arguments)
        };
        let (once, twice) = (format!("{preset}-once"), format!("{preset}-twice"));
        tune(&once, "2", false);
        tune(&twice, "1", false);
        let report = tune(&twice, "2", true);
        assert_eq!(report["epochs"], 2);
        let [a, b] = [&once, &twice].map(|name| weights(&files.path().join(name).join("last.pth")));
        assert!(a == b, "{preset}: the weights differ");
        let lines = std::fs::read_to_string(files.path().join(&twice).join("finetune.csv")).unwrap();
        assert_eq!(lines.lines().count(), 3, "{lines}");
    }
}

#[test]
fn a_resumed_training_ends_where_an_uninterrupted_one_does() {
    let files = Files::new();
    let train = |out: &str, arch: &str, epochs: &str, resume: bool| {
        let (data, out) = (files.at("data.npz"), files.at(out));
        let mut arguments = vec![
            "train",
            "--data",
            &data,
            "--out",
            &out,
            "--arch",
            arch,
            "--epochs",
            epochs,
            "--batch-size",
            "9",
            "--validation",
            "2",
            "--patience",
            "9",
        ];
        if resume {
            arguments.push("--resume");
        }
        json(&arguments)
    };
    for arch in ["modified", "ig1"] {
        let (once, twice) = (format!("{arch}-once"), format!("{arch}-twice"));
        train(&once, arch, "2", false);
        train(&twice, arch, "1", false);
        train(&twice, arch, "2", true);
        let [a, b] = [&once, &twice].map(|name| weights(&files.path().join(name).join("last.pth")));
        assert!(a == b, "{arch}: the weights differ");
    }
}

#[test]
fn incremental_training_hands_the_trunk_on() {
    let files = Files::new();
    let (data, out) = (files.at("data.npz"), files.at("stages"));
    let report =
        json(&["train", "--data", &data, "--out", &out, "--incremental", "--epochs", "1", "--lr", "1e-9"]);
    assert_eq!(report.as_array().unwrap().len(), 3);
    // At a vanishing learning rate each stage's first convolution is the one before it.
    let [a, b, c] = ["ig1", "ig2", "original"]
        .map(|stage| weights(&files.path().join("stages").join(stage).join("best.pth")));
    let floats = |bytes: &[u8]| -> Vec<f32> {
        bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
    };
    let near = |x: &[u8], y: &[u8]| floats(x).iter().zip(floats(y)).all(|(x, y)| (x - y).abs() < 1e-5);
    assert!(near(&a[0], &b[0]) && near(&b[0], &c[0]) && near(&b[2], &c[2]));
    assert!(!near(&a[2], &c[2]), "classifiers start afresh");
}
