use std::path::Path;

use escape_checkpoint::{Checkpoint, Value, read};
use serde_json::Value as Json;

use crate::parity::reference;
use crate::support::json;

const SEED: &str = "5";

fn numbers(json: &Json) -> Vec<f64> {
    json.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

fn want(folder: &Path, key: &str) -> Value {
    read(&folder.join("published.pth")).unwrap().get(key).unwrap().clone()
}

fn file(folder: &Path, name: &str) -> String {
    folder.join(name).display().to_string()
}

/// Logits of an `.npz` that `evaluate --logits` wrote.
fn logits(path: &str) -> Vec<f32> {
    let bytes = std::fs::File::open(path).unwrap();
    let mut archive = npyz::npz::NpzArchive::new(std::io::BufReader::new(bytes)).unwrap();
    archive.by_name("logits").unwrap().unwrap().into_vec::<f32>().unwrap()
}

#[test]
fn every_ann_of_the_family_gives_pytorchs_logits() {
    let Some(folder) = reference() else { return };
    let out = tempfile::tempdir().unwrap();
    let family = read(&folder.join("family.pth")).unwrap();
    let of = |name: &str| family.get(name).unwrap().clone();
    for (checkpoint, expected) in [
        ("ann.pth", want(&folder, "ann_logits")),
        ("original.pth", of("original")),
        ("ig1.pth", of("ig1")),
        ("ig2.safetensors", of("ig2")),
    ] {
        let got = file(out.path(), "ann.npz");
        let (checkpoint, data) = (file(&folder, checkpoint), file(&folder, "data.npz"));
        let report = json(&["evaluate", "--checkpoint", &checkpoint, "--data", &data, "--logits", &got]);
        assert_eq!(report["samples"], 2);
        let expected = expected.as_tensor().unwrap().to_f32();
        for (got, want) in logits(&got).iter().zip(&expected) {
            assert!((got - want).abs() <= 1e-4 * want.abs().max(1.0), "{checkpoint}: {got} against {want}");
        }
    }
}

#[test]
fn spikes_and_logits_are_pytorchs() {
    let Some(folder) = reference() else { return };
    let out = tempfile::tempdir().unwrap();
    // Read from either format; the draws run over the batch, so it must be the generator's.
    for data in ["data.npz", "data.mat"] {
        let got = file(out.path(), "snn.npz");
        let report = json(&[
            "evaluate",
            "--checkpoint",
            &file(&folder, "snn.pth"),
            "--data",
            &file(&folder, data),
            "--preset",
            "published",
            "--seed",
            SEED,
            "--batch-size",
            "2",
            "--logits",
            &got,
        ]);
        let counts = want(&folder, "counts");
        for (layer, count) in report["layers"].as_array().unwrap().iter().zip(counts.items().unwrap()) {
            let (got, want) = (layer["spikes_per_sample"].as_f64().unwrap() * 2.0, count.as_f64().unwrap());
            assert!(want > 0.0, "{}: silent, so this would test nothing", layer["name"]);
            assert!((got - want).abs() <= 1e-5 * want, "{}: {got} against {want} spikes", layer["name"]);
        }
        let expected = want(&folder, "logits").as_tensor().unwrap().to_f32();
        for (got, want) in logits(&got).iter().zip(&expected) {
            assert!((got - want).abs() <= 1e-3 * want.abs().max(1.0), "{got} against {want}");
        }
    }
}

#[test]
fn training_steps_have_pytorchs_losses() {
    let Some(folder) = reference() else { return };
    let out = tempfile::tempdir().unwrap();
    for surrogate in ["linear", "exponential"] {
        let report = json(&[
            "finetune",
            "--checkpoint",
            &file(&folder, "snn.pth"),
            "--data",
            &file(&folder, "data.npz"),
            "--preset",
            "published",
            "--seed",
            SEED,
            "--batch-size",
            "2",
            "--epochs",
            "3",
            "--no-shuffle",
            "--lr",
            "1e-4",
            "--surrogate",
            surrogate,
            "--out",
            &file(out.path(), surrogate),
        ]);
        let expected = want(&folder, &format!("losses_{surrogate}"));
        let expected: Vec<f64> = expected.items().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
        let got = numbers(&report["step_losses"]);
        assert_eq!(got.len(), 3);
        assert!(
            (got[0] - expected[0]).abs() <= 1e-4 * expected[0],
            "{surrogate}: {got:?} against {expected:?}"
        );
        for (got, want) in got.iter().zip(&expected) {
            assert!((got - want).abs() <= 1e-2 * want, "{surrogate}: {got} against {want}");
        }
        let best = Checkpoint::load(&out.path().join(surrogate).join("best.pth")).unwrap();
        assert_eq!(best.activation.as_deref(), Some(if surrogate == "linear" { "Linear" } else { "STDB" }));
    }
}

#[test]
fn the_published_energy_is_the_studys() {
    let saving = |rates: &str| json(&["energy", "--rates", rates])["published"]["saving"].as_f64().unwrap();
    assert!((saving("0.314,0.685,0.542") - 51.0).abs() < 0.1);
    assert!((saving("1.055,3.965,4.227") - 9.0).abs() < 0.3);
}
