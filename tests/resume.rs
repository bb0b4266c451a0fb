use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use escape_checkpoint::Checkpoint;
use escape_checkpoint::input::KnownInput;
use escape_data::npz::{Values, write};
use escape_model::rounding::Trained;
use serde_json::Value;

use crate::support::{Files, failure, json, lines};

fn weights(path: &Path) -> Vec<Vec<u8>> {
    Checkpoint::load(path).unwrap().weights.into_iter().map(|w| w.1.bytes.to_vec()).collect()
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
        // A header, the network that was given, two epochs.
        assert_eq!(lines.lines().count(), 4, "{lines}");
    }
}

/// Training with rounded numbers: thresholds are learned and resumed too, and the network computes as it was trained to.
#[test]
fn a_network_of_few_bits_is_trained_resumed_and_judged_alike() {
    let files = Files::new();
    let data = files.at("data.npz");
    let train = |out: &str, epochs: &str, more: &[&str]| {
        let out = files.at(out);
        let usual = ["train", "--data", &data, "--out", &out, "--epochs", epochs, "--batch-size", "9"];
        let few =
            ["--channels", "3", "--hidden", "4", "--validation", "2", "--bits", "3", "--input-bits", "5"];
        json(&[&usual[..], &few, more].concat())[0].clone()
    };
    train("once", "2", &[]);
    train("twice", "1", &[]);
    let report = train("twice", "2", &["--resume"]);
    let file = |folder: &str, name: &str| Checkpoint::load(&files.path().join(folder).join(name)).unwrap();
    let [once, twice] = ["once", "twice"].map(|folder| file(folder, "last.pth"));
    assert!(once.weights == twice.weights, "the weights differ");
    let thresholds = |of: &Checkpoint| Trained::of(of).unwrap().thresholds;
    assert_eq!(thresholds(&once), thresholds(&twice));
    assert_eq!(thresholds(&once).len(), 4);
    let best = files.at("twice/best.pth");
    let judged = ["evaluate", "--checkpoint", &best, "--data", &data, "--input-bits", "5", "--bits"];
    let accuracy = |more: &[&str]| json(&[&judged[..], more].concat())["accuracy"].clone();
    assert_eq!(accuracy(&["3"]), report["test_accuracy"]);
    // Of other bits it is calibrated, and where that is asked for.
    accuracy(&["4"]);
    accuracy(&["3", "--calibration", "4"]);
    // Bits are settings, which a training that goes on must share; those of the input alone say nothing.
    let twice = files.at("twice");
    let on = ["train", "--data", &data, "--out", &twice, "--channels", "3", "--hidden", "4", "--resume"];
    assert!(failure(&on).1.contains("bits"));
    assert_eq!(failure(&["train", "--data", &data, "--out", &files.at("no"), "--input-bits", "5"]).0, 2);
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

/// A fine-tuning of `snn.pth` into `out`, with further options.
fn tune(files: &Files, out: &str, more: &[&str]) -> Vec<String> {
    let (snn, data, out) = (files.at("snn.pth"), files.at("data.npz"), files.at(out));
    let fixed = ["finetune", "--checkpoint", &snn, "--data", &data, "--out", &out];
    fixed.iter().chain(more).map(|s| s.to_string()).collect()
}

fn run(arguments: &[String]) -> Value {
    json(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
}

fn refused(arguments: &[String]) -> String {
    let (code, text) = failure(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(code, 2, "{text}");
    text
}

#[test]
fn a_network_that_training_does_not_improve_is_kept() {
    let files = Files::with_snn();
    let report = run(&tune(&files, "tuned", &["--timesteps", "2", "--lr", "1e-12", "--epochs", "2"]));
    assert_eq!((&report["improved"], &report["best"]["epoch"]), (&Value::Bool(false), &Value::from(0)));
    assert_eq!(report["best"]["accuracy"], report["input"]["accuracy"]);
    assert!(report["warnings"].to_string().contains("no epoch was better"), "{report}");
    assert_eq!(report["judged_on"], "held-out");
    assert!(report["test"]["accuracy"].is_number() && report["test"]["macro_f1"].is_number());
    assert!(weights(&files.path().join("tuned/best.pth")) == weights(&files.path().join("snn.pth")));
    // It has not seen these recordings; the network of the last epoch has.
    let nerve = |name: &str| KnownInput::of(&Checkpoint::load(&files.path().join(name)).unwrap()).nerve;
    assert_eq!((nerve("tuned/best.pth"), nerve("tuned/last.pth").is_some()), (None, true));
    let table = std::fs::read_to_string(files.path().join("tuned/finetune.csv")).unwrap();
    assert!(table.lines().nth(1).unwrap().starts_with("T=2,0,,,"), "{table}");
    // The study's recipe is judged by the test set, and says so.
    let report =
        run(&tune(&files, "published", &["--timesteps", "2", "--preset", "published", "--max-steps", "1"]));
    assert_eq!(
        (&report["judged_on"], &report["test"]["accuracy"]),
        (&"test".into(), &report["best"]["accuracy"])
    );

    // An ANN of the same kind goes on as a whole, and is kept likewise.
    let (data, out, ann) = (files.at("data.npz"), files.at("ann"), files.at("ann.pth"));
    let report =
        json(&["train", "--data", &data, "--out", &out, "--init", &ann, "--lr", "1e-12", "--epochs", "1"]);
    assert_eq!((&report[0]["improved"], &report[0]["best_epoch"]), (&Value::Bool(false), &Value::from(0)));
    assert!(weights(&files.path().join("ann/best.pth")) == weights(&files.path().join("ann.pth")));
    assert_eq!((nerve("ann/best.pth"), nerve("ann/last.pth").is_some()), (None, true));
}

/// A file of training recordings is enough where held-out ones of them judge.
#[test]
fn a_file_without_test_recordings_can_be_trained_on() {
    let files = Files::with_snn();
    let all = escape_data::read(files.at("data.npz").as_ref(), &Default::default()).unwrap().0.train;
    let shape = [all.len(), all.contacts, all.samples];
    let arrays =
        [("train_x", &shape[..], Values::F32(&all.x)), ("train_y", &shape[..1], Values::I64(&all.y))];
    write(&files.path().join("train.npz"), &arrays).unwrap();
    let (data, ann, snn) = (files.at("train.npz"), files.at("ann.pth"), files.at("snn.pth"));
    let out = files.at("trained");
    let report = json(&["train", "--data", &data, "--out", &out, "--epochs", "1", "--batch-size", "9"]);
    assert!(report[0]["best_accuracy"].is_number() && report[0].get("test_accuracy").is_none(), "{report}");
    let out = files.at("tuned");
    let on = ["finetune", "--checkpoint", &snn, "--data", &data, "--timesteps", "1", "--max-steps", "1"];
    let report = json(&[&on[..], &["--out", &out]].concat());
    assert!(report["best"]["accuracy"].is_number() && report.get("test").is_none(), "{report}");
    let (code, text) = failure(&[&on[..], &["--out", &files.at("x"), "--validation", "0"]].concat());
    assert!(code == 2 && text.contains("too few recordings"), "{text}");
    let text = format!("{{name: a, data: {{file: {data}}}, ann: {{checkpoint: {ann}}}}}");
    std::fs::write(files.path().join("run.yaml"), text).unwrap();
    let (code, text) = failure(&["run", &files.at("run.yaml"), "--out", &files.at("run")]);
    assert!(code == 2 && text.contains("no test recordings"), "{text}");
}

/// The last stage's folder is looked at before the first is trained.
#[test]
fn an_incremental_training_finds_what_is_there_at_once() {
    let files = Files::new();
    std::fs::create_dir_all(files.path().join("stages/original")).unwrap();
    std::fs::write(files.path().join("stages/original/last.pth"), "old").unwrap();
    let (data, out) = (files.at("data.npz"), files.at("stages"));
    let (code, text) = failure(&["train", "--data", &data, "--out", &out, "--incremental", "--epochs", "1"]);
    assert!(code == 2 && text.contains("stages/original") && text.contains("last.pth"), "{text}");
    assert!(!files.path().join("stages/ig1").exists());
}

#[test]
fn a_training_is_resumed_with_the_same_settings_only() {
    let files = Files::with_snn();
    run(&tune(&files, "tuned", &["--epochs", "1"]));
    let again =
        |more: &[&str]| refused(&tune(&files, "tuned", &[&["--resume", "--epochs", "2"], more].concat()));
    for (more, part) in [
        (["--lr", "0.5"], "lr: 0.0001 before, 0.5 now"),
        (["--limit", "5"], "training.recordings: "),
        (["--batch-size", "4"], "batch_size: 32 before, 4 now"),
        (["--schedule", "constant"], "schedule: linear before, constant now"),
        (["--surrogate", "exponential"], "surrogate: linear before, exponential now"),
        (["--weight-decay", "0.1"], "weight_decay: 0.0 before, 0.1 now"),
        (["--seed", "3"], "seed: 0 before, 3 now"),
        (["--timesteps", "3"], "timesteps: 4 before, 3 now"),
        (["--balance", "weights"], "balance: none before, weights now"),
        (["--validation", "0"], "validation: 1000 before, 0 now"),
    ] {
        let text = again(&more);
        assert!(text.contains(part) && text.contains("other settings"), "{text}");
    }
    let before = std::fs::read(files.path().join("snn.pth")).unwrap();
    let (ann, data, snn) = (files.at("ann.pth"), files.at("data.npz"), files.at("snn.pth"));
    json(&["convert", "--checkpoint", &ann, "--data", &data, "--out", &snn, "--scale", "0.9", "--force"]);
    assert!(again(&[]).contains("checkpoint: "));
    std::fs::write(files.path().join("snn.pth"), before).unwrap();
    assert_eq!(run(&tune(&files, "tuned", &["--resume", "--epochs", "2"]))["epochs"], 2);

    let train = |more: &[&str]| -> Vec<String> {
        let out = files.at("trained");
        let fixed = ["train", "--data", &data, "--out", &out, "--batch-size", "9"];
        fixed.iter().chain(more).map(|s| s.to_string()).collect()
    };
    run(&train(&["--epochs", "1"]));
    let text = refused(&train(&["--epochs", "2", "--resume", "--optimizer", "sgd"]));
    assert!(text.contains("optimizer: adam before, sgd now"), "{text}");
    run(&train(&["--epochs", "2", "--resume"]));
}

#[test]
fn classes_of_different_frequency_are_made_up_for() {
    let files = Files::with_snn();
    let losses = ["weights", "sampling"].map(|how| {
        let report = run(&tune(&files, how, &["--timesteps", "2", "--balance", how, "--validation", "0"]));
        let (data, out) = (files.at("data.npz"), files.at(&format!("ann-{how}")));
        json(&[
            "train",
            "--data",
            &data,
            "--out",
            &out,
            "--balance",
            how,
            "--epochs",
            "1",
            "--batch-size",
            "9",
        ]);
        report["step_losses"].to_string()
    });
    assert_ne!(losses[0], losses[1]);
    let text = refused(&tune(&files, "none", &["--balance", "sampling", "--no-shuffle"]));
    assert!(text.contains("--no-shuffle"), "{text}");
}

/// The moments between two writes at which a process can be killed.
#[test]
fn whatever_was_written_last_a_training_goes_on() {
    let files = Files::with_snn();
    let options = ["--timesteps", "2", "--batch-size", "9", "--epochs", "2"];
    run(&tune(&files, "whole", &options));
    let at = |name: &str| files.path().join("killed").join(name);
    let resumed = || {
        let report = run(&tune(&files, "killed", &[&options[..], &["--resume"]].concat()));
        assert_eq!(report["epochs"], 2);
        assert!(weights(&at("last.pth")) == weights(&files.path().join("whole/last.pth")));
        assert_eq!(lines(&at("finetune.csv")), 4);
        let left = std::fs::read_dir(files.path().join("killed")).unwrap();
        let left: Vec<_> = left.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        assert!(left.iter().all(|name| !name.ends_with(".tmp")), "{left:?}");
    };
    // After the settings, before anything else; with what a write left behind.
    run(&tune(&files, "killed", &options));
    for file in ["last.pth", "best.pth", "finetune.csv"] {
        std::fs::remove_file(at(file)).unwrap();
    }
    std::fs::write(at(".best.pth.4194305-3.tmp"), "half").unwrap();
    resumed();
    // After the given network was kept, before the table and the first epoch.
    std::fs::remove_file(at("last.pth")).unwrap();
    std::fs::remove_file(at("finetune.csv")).unwrap();
    resumed();
    // After the state, before the row that tells of it; and within that row.
    let table = std::fs::read_to_string(at("finetune.csv")).unwrap();
    let without_last: Vec<&str> = table.lines().take(3).collect();
    std::fs::write(at("finetune.csv"), without_last.join("\n") + "\n").unwrap();
    resumed();
    std::fs::write(at("finetune.csv"), &table[..table.len() - 9]).unwrap();
    resumed();
    // Nobody begins anew where something was begun, and settings that are gone are not guessed.
    assert!(refused(&tune(&files, "killed", &options)).contains("--resume"));
    std::fs::remove_file(at("training.json")).unwrap();
    assert!(
        refused(&tune(&files, "killed", &[&options[..], &["--resume"]].concat())).contains("training.json")
    );
}

/// A short version of scripts/kill-test, which knows all moments.
#[test]
fn killed_work_is_resumed_to_the_same_numbers() {
    let files = Files::with_snn();
    let config = "
name: killed
data: {file: data.npz}
ann: {train: {epochs: 2, batch_size: 9}}
convert: [{name: direct, timesteps: 2, samples: 8}]
baselines: {bits: [8, 3], samples: 8}
finetune: [{name: tuned, from: direct, timesteps: 2, batch_size: 9, validation: 2}]
report: false
";
    std::fs::write(files.path().join("run.yaml"), config).unwrap();
    let run_of = |out: &str| vec!["run".to_string(), files.at("run.yaml"), "--out".into(), files.at(out)];
    let tune_of = |out: &str| tune(&files, out, &["--timesteps", "2", "--batch-size", "9", "--epochs", "3"]);
    type Arguments<'a> = &'a dyn Fn(&str) -> Vec<String>;
    for (name, arguments) in [("run", &run_of as Arguments), ("tune", &tune_of)] {
        let whole = format!("{name}-whole");
        let start = std::time::Instant::now();
        run(&arguments(&whole));
        let (took, killed) = (start.elapsed(), format!("{name}-killed"));
        for (n, moment) in [0.3, 0.55, 0.75].into_iter().enumerate() {
            let mut arguments = arguments(&killed);
            arguments.extend((n > 0).then(|| "--resume".to_string()));
            let mut process = Command::new(env!("CARGO_BIN_EXE_escape-snn"))
                .args(["--device", "cpu", "--quiet"])
                .args(&arguments)
                .stdout(Stdio::null())
                .spawn()
                .unwrap();
            std::thread::sleep(Duration::from_secs_f64(took.as_secs_f64() * moment));
            process.kill().unwrap();
            process.wait().unwrap();
        }
        let mut arguments = arguments(&killed);
        arguments.push("--resume".into());
        run(&arguments);
        let mut compared = 0;
        let mut folders = vec![files.path().join(&whole)];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).unwrap() {
                let path = entry.unwrap().path();
                let inside = path.strip_prefix(files.path().join(&whole)).unwrap();
                let other = files.path().join(&killed).join(inside);
                match path.extension().and_then(|e| e.to_str()) {
                    _ if path.is_dir() => folders.push(path),
                    Some("pth") => assert!(weights(&path) == weights(&other), "{}", other.display()),
                    Some("csv") => assert_eq!(timeless(&path), timeless(&other), "{}", other.display()),
                    _ => continue,
                }
                compared += 1;
            }
        }
        assert!(compared >= 3, "{name}: {compared} files");
    }
}

/// A table without what the clock says.
fn timeless(path: &Path) -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(path).unwrap();
    let seconds = text.lines().next().unwrap().split(',').position(|column| column == "seconds");
    let cells = |line: &str| -> Vec<String> {
        let cells = line.split(',').enumerate().filter(|(i, _)| Some(*i) != seconds);
        cells.map(|(_, cell)| cell.to_string()).collect()
    };
    text.lines().map(cells).collect()
}

/// What cannot be read is named, with what to do; nothing starts over by itself.
#[test]
fn a_damaged_training_says_how_to_start_over() {
    let files = Files::new();
    let (data, out) = (files.at("data.npz"), files.at("ann"));
    let begun = [
        "train",
        "--data",
        &data,
        "--out",
        &out,
        "--channels",
        "4",
        "--hidden",
        "8",
        "--epochs",
        "1",
        "--validation",
        "2",
    ];
    let resumed = [&begun[..], &["--resume"]].concat();
    json(&begun);
    for name in ["training.json", "last.pth", "best.pth"] {
        let path = Path::new(&out).join(name);
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, "").unwrap();
        let (_, text) = failure(&resumed);
        assert!(text.contains("remove the folder to start it over") && text.contains(name), "{text}");
        std::fs::write(&path, whole).unwrap();
    }
    json(&resumed);
}
