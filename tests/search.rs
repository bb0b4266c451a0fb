//! A space of settings, searched: networks by combination, a teacher, a penalty on operations, and the front of accuracy against
//! energy.

use std::path::Path;

use crate::support::{Files, escape, failure, json};

const SEARCH: &str = "
name: small
seeds: [1]
data: {simulate: {samples: 60, training_rounds: 2}}
evaluate: {batch_size: 8}
space:
  channels: [2, 3]
  stride: [[8, 4], [8, 10]]
  steps: [1, 3]
  penalty: [0, 500.5]
ann:
  - name: c$channels-s$stride
    network:
      input: [1, 56, 100]
      layers:
        - {type: conv2d, name: a, out: $channels, kernel: [8, 10], stride: $stride, bias: false}
        - {type: batch_norm, name: n}
        - {type: relu}
        - {type: flatten}
        - {type: linear, name: b, out: 8, bias: false}
        - {type: relu}
        - {type: linear, name: c, out: 3}
    train: {epochs: 1, lr: 0.01, batch_size: 8, validation: 4, teacher: {checkpoint: ann.pth, share: 0.3}}
convert:
  - {name: c$channels-s$stride-w, ann: c$channels-s$stride, bits: 4, input_bits: 5, samples: 16, timesteps: [1, 3]}
finetune:
  - name: c$channels-s$stride-t$steps-p$penalty
    from: c$channels-s$stride-w
    timesteps: $steps
    operations_penalty: $penalty
    teacher: {checkpoint: ann.pth}
    batch_size: 8
    validation: 4
baselines: {bits: [4], input_bits: 5, samples: 16}
timing: false
";

#[test]
fn a_space_is_searched() {
    let files = Files::new();
    let config = files.at("search.yaml");
    std::fs::write(files.path().join("search.yaml"), SEARCH).unwrap();
    let out = files.at("out");
    let report = json(&["search", &config, "--out", &out]);
    // Recordings, the teacher's logits once, 4 ANNs, 8 conversions, 16 fine-tunings.
    assert_eq!((report["cells"].as_u64(), report["done"].as_u64()), (Some(30), Some(30)), "{report}");
    let front = report["front"].as_array().unwrap();
    let of = |kind: &str| front.iter().filter(|row| row["kind"] == kind).collect::<Vec<_>>();
    // Each ANN in two number formats, with and without zeros.
    let counts = ["ann", "quantised", "converted", "finetuned"].map(|kind| of(kind).len());
    assert_eq!(counts, [8, 8, 8, 16], "{front:?}");
    for row in front {
        let number = |key: &str| row[key].as_f64().unwrap();
        let (arithmetic, memory, events) =
            (number("arithmetic_pj"), number("memory_pj"), number("events_pj"));
        assert!(0.0 < arithmetic && arithmetic < memory && memory <= events * 1.0001, "{row}");
        let path = row["checkpoint"].as_str().map(|path| Path::new(&out).join(path));
        assert_eq!(path.is_some_and(|path| path.is_file()), row["kind"] != "quantised", "{row}");
    }
    // What is known by hand of one: weights of 2 x 8 x 10, 2 x 7 x 23 x 8 and 8 x 3, half a byte each.
    let one = front.iter().find(|row| row["network"] == "c2-s8x4-t3-p0").unwrap();
    assert_eq!(one["kilobytes"].as_f64(), Some((160.0 + 2576.0 + 24.0) / 2000.0));
    let macs = one["multiplications"].as_f64().unwrap();
    assert!(macs > 1000.0 && macs < 160.0 * 7.0 * 23.0, "those with what is zero are left out: {macs}");
    // The penalty reaches the training, of which these epochs tell.
    let epochs = |network: &str| {
        let cells =
            std::fs::read_dir(Path::new(&out).join("cells")).unwrap().map(|cell| cell.unwrap().path());
        let mut cells = cells.filter(|cell| cell.file_name().unwrap().to_str().unwrap().starts_with(network));
        let table = std::fs::read_to_string(cells.next().unwrap().join("finetune.csv")).unwrap();
        let loss = |line: &str| line.split(',').nth(2).map(str::to_owned);
        table.lines().map(loss).collect::<Vec<_>>()
    };
    assert_ne!(epochs("c2-s8x4-t3-p0-"), epochs("c2-s8x4-t3-p500.5-"));
    for file in ["front.csv", "tables/front.md", "figures/front.svg", "figures/front.csv"] {
        assert!(Path::new(&out).join(file).is_file(), "{file}");
    }

    // Stored logits are those of the recordings that are trained on, where the first of them are left out too.
    let in_cell = |name: &str, file: &str| {
        let cells = std::fs::read_dir(Path::new(&out).join("cells")).unwrap();
        let mut cells = cells.map(|cell| cell.unwrap().path());
        cells.find(|cell| cell.file_name().unwrap().to_str().unwrap().starts_with(name)).unwrap().join(file)
    };
    let text = |path: std::path::PathBuf| path.display().to_string();
    let data = text(in_cell("recordings-", "recordings.npz"));
    let given = of("converted")[0]["checkpoint"].as_str().unwrap();
    let given = text(Path::new(&out).join(given));
    let tune = |name: &str, teacher: &str, more: &[&str]| {
        let folder = files.at(name);
        let call = ["finetune", "--checkpoint", &given, "--data", &data, "--out", &folder, "--epochs", "1"];
        let how = ["--teacher", teacher, "--validation", "4", "--batch-size", "8"];
        let report = json(&[&call[..], &how, more].concat());
        let losses = report["step_losses"].as_array().unwrap().iter().map(|loss| loss.as_f64().unwrap());
        losses.collect::<Vec<_>>()
    };
    let logits = text(in_cell("teacher-", "teacher.pth"));
    let left_out = ["--skip", "20", "--limit", "30"];
    let stored = tune("stored", &logits, &left_out);
    // A product's last bits may depend on how many recordings there are.
    let apart = |losses: Vec<f64>| losses.iter().zip(&stored).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(apart(tune("computed", &files.at("ann.pth"), &left_out)) < 1e-5);
    assert!(apart(tune("first", &logits, &["--limit", "30"])) > 1e-3);
    let (code, why) = failure(&[
        "finetune",
        "--checkpoint",
        &given,
        "--data",
        &data,
        "--out",
        &files.at("none"),
        "--skip",
        "99999",
    ]);
    assert!(code == 2 && why.contains("skip: expected fewer than the"), "{why}");

    // It goes on like any study, and grows.
    let output =
        escape(&["search", &config, "--out", &out, "--resume", "--set", "space.penalty=[0, 500.5, 9]"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.starts_with("Accuracy against energy"), "{text}");
    assert_eq!(json(&["study", "status", &out])["counts"]["done"], 38);
    assert!(escape(&["report", &out, "--check"]).status.success());
}

#[test]
fn what_cannot_be_searched_is_said() {
    let files = Files::new();
    let config = files.at("search.yaml");
    let why = |old: &str, new: &str| {
        assert!(SEARCH.contains(old), "{old}");
        std::fs::write(files.path().join("search.yaml"), SEARCH.replacen(old, new, 1)).unwrap();
        let (code, text) = failure(&["search", &config, "--out", &files.at("out")]);
        assert_eq!(code, 2, "{text}");
        text
    };
    assert!(why("out: $channels", "out: $chanels").contains("ann[0].network.layers[0].out: $chanels"));
    assert!(why("penalty: [0, 500.5]", "penalty: [0, -1]").contains("finetune[0].operations_penalty"));
    assert!(why("share: 0.3", "share: 1.3").contains("ann.train.teacher: share: expected 0 to 1, got 1.3"));
    assert!(
        why("kernel: [8, 10]", "kernel: [80, 10]")
            .contains("ann.network: layer 1 (a, conv2d) has a kernel of 80 rows")
    );
    assert!(why("type: relu", "type: rellu").contains("rellu"));
    let text = why("name: c$channels-s$stride-w", "name: c$channels-w");
    assert!(text.contains("convert[0].name: ") && text.contains("write $stride into it"), "{text}");
    std::fs::write(files.path().join("search.yaml"), SEARCH.replace("ann.pth", "nobody.pth")).unwrap();
    let (code, text) = failure(&["search", &config, "--out", &files.at("out")]);
    assert!(code == 1 && text.contains("nobody.pth: no such file"), "{text}");
    std::fs::write(files.path().join("search.yaml"), SEARCH.replace("space:", "spikes:")).unwrap();
    let (code, text) = failure(&["search", &config]);
    assert!(code == 2 && text.contains("no space to search"), "{text}");
    assert!(!files.path().join("out").exists());
}

#[test]
fn a_network_learns_from_another_ones_logits() {
    let files = Files::with_snn();
    let (ann, snn, data) = (files.at("ann.pth"), files.at("snn.pth"), files.at("data.npz"));
    let small = ["--channels", "4", "--hidden", "8", "--epochs", "1", "--validation", "2"];
    let train = |out: &str, more: &[&str]| {
        let out = files.at(out);
        json(&[&["train", "--data", &data, "--out", &out][..], &small, more].concat());
        std::fs::read_to_string(Path::new(&out).join("training.csv")).unwrap()
    };
    let (alone, taught) = (train("alone", &[]), train("taught", &["--teacher", &ann]));
    let epoch = |table: &str| table.lines().last().unwrap().to_owned();
    assert_ne!(
        epoch(&alone).split(',').nth(4),
        epoch(&taught).split(',').nth(4),
        "the teacher says something"
    );
    // A part of 0 is as good as no teacher.
    let silent = train("silent", &["--teacher", &ann, "--teacher-share", "0"]);
    assert_eq!(epoch(&alone).split(',').nth(4), epoch(&silent).split(',').nth(4));
    let tune = |more: &[&str]| {
        let out = files.at("tuned");
        failure(&[&["finetune", "--checkpoint", &snn, "--data", &data, "--out", &out][..], more].concat())
    };
    let (code, text) = tune(&["--teacher", &snn]);
    assert!(code == 2 && text.contains("a spiking network; expected the checkpoint of an ANN"), "{text}");
    assert!(!files.path().join("tuned").exists(), "nothing was begun");
    let (code, text) = tune(&["--teacher", &ann, "--teacher-share", "2"]);
    assert!(code == 2 && text.contains("expected 0 to 1, got 2"), "{text}");
    let (code, text) = tune(&["--temperature", "2"]);
    assert!(code == 2 && text.contains("--teacher"), "{text}");
    let (code, text) = tune(&["--teacher", &data]);
    assert!(code == 1 && text.contains("these are recordings"), "{text}");
    let four = files.path().join("four.yaml");
    let layers = "[{type: flatten}, {type: linear, name: a, out: 4}]";
    std::fs::write(&four, format!("input: [1, 56, 100]\nlayers: {layers}\n")).unwrap();
    let (four, of_four) = (four.display().to_string(), files.at("four"));
    let own = ["--network", &four, "--epochs", "1", "--validation", "2"];
    json(&[&["train", "--data", &data, "--out", &of_four][..], &own].concat());
    let (code, text) = tune(&["--teacher", &format!("{of_four}/best.pth")]);
    assert!(
        code == 2
            && text.contains("tells 3 classes apart, as the network does that is to learn, got one for 4")
    );
    // Another teacher is another training.
    let other = files.save_seeded("other.pth", 9).display().to_string();
    let out = files.at("taught");
    let again =
        [&["train", "--data", &data, "--out", &out, "--resume", "--teacher", &other][..], &small].concat();
    let (code, text) = failure(&again);
    assert!(code == 2 && text.contains("teacher"), "{text}");
}
