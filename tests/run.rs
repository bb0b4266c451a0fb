use std::path::Path;

use escape_checkpoint::Checkpoint;

use crate::support::{Files, escape, failure, json, lines};

const CONFIG: &str = "
name: small
seed: 3
data: {simulate: {samples: 40}}
ann: {checkpoint: ann.pth}
convert:
  - {name: direct, timesteps: 2, also_at: [1, 3], samples: 8}
  - {name: published, preset: published, timesteps: 4, balance_timesteps: 20, samples: 2, test_samples: 4}
finetune:
  - {name: tuned, from: direct, timesteps: 2, samples: 16, batch_size: 8}
spikes: {network: tuned}
";

fn configured(files: &Files) -> String {
    let text = CONFIG.replace("ann.pth", &files.at("ann.pth"));
    std::fs::write(files.path().join("run.yaml"), text).unwrap();
    files.at("run.yaml")
}

#[test]
fn a_run_leaves_everything_in_its_folder_and_can_be_resumed() {
    let files = Files::new();
    let (config, out) = (configured(&files), files.at("out"));
    let report = json(&["run", &config, "--out", &out]);
    let folder = files.path().join("out");
    assert!(Path::new(report["report"].as_str().unwrap()).is_file());
    for (table, rows) in [
        ("evaluations.csv", 1 + 3 + 1 + 1),
        ("activity.csv", 15),
        ("confusion.csv", 4 * 9),
        // The network that was given, and one epoch.
        ("finetune.csv", 2),
    ] {
        assert_eq!(lines(&folder.join(table)), rows + 1, "{table}");
    }
    for file in
        ["manifest.json", "config.resolved.yaml", "energy.csv", "energy_steps.csv", "steps.csv", "raster.csv"]
    {
        assert!(folder.join(file).is_file(), "{file}");
    }
    let page = std::fs::read_to_string(folder.join("report/index.html")).unwrap();
    assert!(page.contains("<svg") && !page.contains("<script"));
    let manifest: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(folder.join("manifest.json")).unwrap()).unwrap();
    assert_eq!(manifest["seed"], 3);
    assert_eq!(manifest["inputs"][0]["sha256"].as_str().unwrap().len(), 64);

    // A second run must not touch the first; a resumed one has nothing left to do and adds no row.
    assert_eq!(failure(&["run", &config, "--out", &out]).0, 2);
    let before = std::fs::read(folder.join("evaluations.csv")).unwrap();
    json(&["run", &config, "--out", &out, "--resume"]);
    assert_eq!(std::fs::read(folder.join("evaluations.csv")).unwrap(), before);
    let (code, text) = failure(&["run", &config, "--out", &out, "--resume", "--set", "finetune.0.lr=0.5"]);
    assert!(code == 2 && text.contains("other settings"), "{text}");
    assert!(text.contains("finetune[0].lr: 0.0001 before, 0.5 now"), "{text}");
    let (code, text) = failure(&["run", &config, "--out", &out, "--resume", "--data-seed", "2"]);
    assert!(code == 2 && text.contains("data.simulate.seed: 1 before, 2 now"), "{text}");
    // Tables come with the JSON.
    assert_eq!(report["evaluations"].as_array().unwrap().len(), 6);
    assert_eq!(report["activity"].as_array().unwrap().len(), 15);
    assert!(report["energy"].as_array().unwrap().iter().all(|row| row["picojoules"].is_number()));
    // Another ANN under the old name is noticed.
    let ann = std::fs::read(files.path().join("ann.pth")).unwrap();
    files.save_seeded("ann.pth", 5);
    let (code, text) = failure(&["run", &config, "--out", &out, "--resume"]);
    assert!(code == 2 && text.contains("ann.checkpoint: ") && text.contains("... now"), "{text}");
    std::fs::write(files.path().join("ann.pth"), ann).unwrap();

    // Tables and figures come from the recorded data alone.
    std::fs::remove_file(folder.join("direct.pth")).unwrap();
    std::fs::remove_dir_all(folder.join("figures")).unwrap();
    json(&["report", &out]);
    assert!(std::fs::read_dir(folder.join("figures")).unwrap().count() > 20);
}

#[test]
fn a_run_can_train_its_own_network() {
    let files = Files::new();
    let text = "
name: own
data: {simulate: {samples: 40}}
ann: {train: {epochs: 1, batch_size: 8}}
convert: [{name: direct, timesteps: 2}]
";
    std::fs::write(files.path().join("run.yaml"), text).unwrap();
    let out = files.at("out");
    json(&["run", &files.at("run.yaml"), "--out", &out]);
    assert_eq!(lines(&files.path().join("out/training.csv")), 2);
    assert!(files.path().join("out/ann/best.pth").is_file());
}

#[test]
fn a_run_grows_the_original_network_in_stages() {
    let files = Files::new();
    let out = files.at("out");
    let config = configured(&files);
    let train = "ann={train: {arch: original, incremental: true, preset: published, channels: 4, hidden: 8, epochs: 2, validation: 2}}";
    let fixed =
        ["run", &config, "--out", &out, "--set", train, "--set", "convert=[]", "--set", "finetune=[]"];
    let data = files.at("data.npz");
    let file = format!("data={{file: {data}}}");
    let arguments = [&fixed[..], &["--set", "spikes=null", "--set", &file]].concat();
    let report = json(&arguments);
    assert_eq!(report["evaluations"].as_array().unwrap().len(), 1);
    // Each stage as the command leaves it, the last where a run's ANN is.
    let folder = files.path().join("out");
    for stage in ["ann/ig1", "ann/ig2", "ann"] {
        assert!(folder.join(stage).join("best.pth").is_file(), "{stage}");
    }
    let table = std::fs::read_to_string(folder.join("training.csv")).unwrap();
    let stages: Vec<&str> = table.lines().skip(1).map(|row| row.split_once(',').unwrap().0).collect();
    assert_eq!(stages, ["ig1", "ig1", "ig2", "ig2", "original", "original"]);
    // They are what the command trains.
    let same = files.at("stages");
    let command = ["train", "--incremental", "--seed", "3", "--data", &data, "--out", &same];
    let widths = ["--preset", "published", "--channels", "4", "--hidden", "8", "--epochs", "2"];
    json(&[&command[..], &widths, &["--validation", "2"]].concat());
    for (stage, own) in [("ig1", "ann/ig1"), ("ig2", "ann/ig2"), ("original", "ann")] {
        let weights =
            |folder: std::path::PathBuf| Checkpoint::load(&folder.join("best.pth")).unwrap().weights;
        let (command, run) = (files.path().join("stages").join(stage), folder.join(own));
        assert!(weights(command) == weights(run), "{stage}");
    }
    // A resumed run has nothing left to do.
    let before = std::fs::read(folder.join("ann/best.pth")).unwrap();
    json(&[&arguments[..], &["--resume"]].concat());
    assert_eq!(std::fs::read(folder.join("ann/best.pth")).unwrap(), before);
    assert_eq!(std::fs::read_to_string(folder.join("training.csv")).unwrap(), table);
}

/// The nerve is not redrawn by a run's seed; paths go by the file that they stand in.
#[test]
fn a_runs_seed_is_not_the_nerves_and_paths_are_the_files_own() {
    let files = Files::new();
    std::fs::create_dir(files.path().join("configs")).unwrap();
    let text = "{name: seeded, data: {simulate: {samples: 24}}, ann: {checkpoint: ../ann.pth}, report: false, energy: false}";
    std::fs::write(files.path().join("configs/run.yaml"), text).unwrap();
    let losses = [[].as_slice(), &["--seed", "8"], &["--data-seed", "8"]].map(|more| {
        let out = files.at(&format!("out{}", more.join("")));
        let config = files.at("configs/run.yaml");
        let report = json(&[&["run", &config, "--out", &out], more].concat());
        report["evaluations"][0]["loss"].as_f64().unwrap()
    });
    assert_eq!(losses[0], losses[1]);
    assert_ne!(losses[0], losses[2]);
}

/// What lies in a folder under a run's names is used by no run that did not make it.
#[test]
fn what_a_run_did_not_make_is_not_its_own() {
    let files = Files::new();
    let (ann, data) = (files.at("ann.pth"), files.at("data.npz"));
    let text = format!(
        "name: a\ndata: {{file: {data}}}\nann: {{checkpoint: {ann}}}\nconvert: [{{name: direct, timesteps: 1}}]\n\
         finetune: [{{name: tuned, from: direct, timesteps: 1, max_steps: 1}}]\nevaluate: {{samples: 2}}\nreport: false\n"
    );
    std::fs::write(files.path().join("run.yaml"), text).unwrap();
    let config = files.at("run.yaml");
    let foreign = files.at("foreign.pth");
    json(&["convert", "--checkpoint", &ann, "--data", &data, "--scale", "0.5", "--out", &foreign]);
    let foreign = std::fs::read(foreign).unwrap();
    let judged = "network,kind,preset,encoder,timesteps,samples,accuracy,loss,epoch\n\
                  direct,converted,default,direct,1,5,0.9,0.1,\n";
    let names = ["direct.pth", "evaluations.csv", "tuned-training/last.pth", "ann/training.json"];
    for (n, name) in names.into_iter().enumerate() {
        let path = files.path().join(format!("out{n}")).join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, if name.ends_with("csv") { judged.as_bytes() } else { &foreign }).unwrap();
        let out = files.at(&format!("out{n}"));
        for more in [&[][..], &["--resume"]] {
            let (code, text) = failure(&[&["run", &config, "--out", &out], more].concat());
            assert!(code == 2 && text.contains(name) && text.contains("--force"), "{text}");
        }
        assert!(path.is_file());
    }
    let out = files.path().join("out1");
    std::fs::write(out.join("direct.pth"), &foreign).unwrap();
    let report = json(&["run", &config, "--out", &files.at("out1"), "--force"]);
    assert!(std::fs::read(out.join("direct.pth")).unwrap() != foreign);
    let rows = report["evaluations"].as_array().unwrap();
    assert!(rows.len() == 3 && rows.iter().all(|row| row["samples"] == 2), "{report}");
    assert!(report["report"].is_null());
    // What is read is not removed to make room.
    let inside = files.path().join("out3/ann/best.pth");
    std::fs::copy(&ann, &inside).unwrap();
    let given = format!("ann.checkpoint={}", inside.display());
    let (code, text) = failure(&["run", &config, "--out", &files.at("out3"), "--force", "--set", &given]);
    assert!(code == 2 && text.contains("which is read here") && inside.is_file(), "{text}");
    // Nor is anything else unless asked. Without a page the folder is what there is to tell of.
    let mine = files.path().join("out4/figures/mine.png");
    std::fs::create_dir_all(mine.parent().unwrap()).unwrap();
    std::fs::write(&mine, "mine").unwrap();
    let output = escape(&["run", &config, "--out", &files.at("out4")]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.trim_end(), format!("results: {}", files.at("out4")));
    assert!(mine.is_file());
}

/// A network of somebody else's, from a configuration.
#[test]
fn a_configuration_says_what_to_take_from_a_checkpoint() {
    let files = Files::new();
    let mut foreign = Checkpoint::load(&files.path().join("ann.pth")).unwrap();
    for (name, _) in &mut foreign.weights {
        *name = name.replace("features.0", "first");
    }
    foreign.save(&files.path().join("foreign.pth")).unwrap();
    let text = "{name: a, data: {simulate: {samples: 24}}, ann: {checkpoint: foreign.pth}, convert: [{name: snn, timesteps: \
                1}], report: false}";
    std::fs::write(files.path().join("run.yaml"), text).unwrap();
    let (config, out) = (files.at("run.yaml"), files.at("out"));
    assert_eq!(failure(&["run", &config, "--out", &out]).0, 1);
    let rename = "ann.rename=[first=features.0]";
    let report = json(&["run", &config, "--out", &out, "--set", rename]);
    let text = std::fs::read_to_string(files.path().join("run.yaml")).unwrap();
    std::fs::write(files.path().join("run.yaml"), text.replace("foreign.pth", "ann.pth")).unwrap();
    let same = json(&["run", &config, "--out", &files.at("same")]);
    assert_eq!(report["evaluations"], same["evaluations"]);
    let (code, text) = failure(&["run", &config, "--out", &files.at("x"), "--set", "ann.rename=[first]"]);
    assert!(code == 2 && text.contains("ann.rename[0]: expected OLD=NEW"), "{text}");
}

#[test]
fn spikes_and_bench_say_what_they_did() {
    let files = Files::with_snn();
    let (snn, data) = (files.at("snn.pth"), files.at("data.npz"));
    let spikes = json(&[
        "spikes",
        "--checkpoint",
        &snn,
        "--data",
        &data,
        "--sample",
        "2",
        "--out",
        &files.at("spikes"),
    ]);
    let total: u64 = spikes["layers"].as_array().unwrap().iter().map(|l| l["spikes"].as_u64().unwrap()).sum();
    assert_eq!(lines(&files.path().join("spikes/raster.csv")) as u64, total + 1);
    assert!(total > 0);
    for extra in [&[][..], &["--train"]] {
        let mut arguments = vec![
            "bench",
            "--checkpoint",
            &snn,
            "--data",
            &data,
            "--samples",
            "4",
            "--batch-size",
            "2",
            "--timesteps",
            "2",
        ];
        arguments.extend(extra);
        check_bench(&json(&arguments), extra.is_empty());
    }
    for engine in ["dense", "event"] {
        let on = ["bench", "--checkpoint", &snn, "--data", &data, "--samples", "4", "--engine", engine];
        let bench = json(&[&on[..], &["--rounds", "2"]].concat());
        check_bench(&bench, true);
        assert_eq!((&bench["engine"], &bench["rounds"]), (&engine.into(), &2.into()));
    }
    let ann = files.at("ann.pth");
    let on = ["bench", "--checkpoint", &ann, "--data", &data, "--samples", "4"];
    let bench = json(&on);
    check_bench(&bench, true);
    assert_eq!((&bench["engine"], &bench["timesteps"]), (&"ann".into(), &serde_json::Value::Null));
    for (extra, part) in [
        (&["--train"][..], "--train"),
        (&["--engine", "event"], "--engine"),
        (&["--encoder", "direct"], "--encoder"),
        (&["--bits", "4"], "--bits"),
    ] {
        let (code, text) = failure(&[&on[..], extra].concat());
        assert!(code == 2 && text.contains(part), "{text}");
    }
}

/// Times that make sense, of layers too if there are any.
fn check_bench(bench: &serde_json::Value, has_layers: bool) {
    let number = |key: &str| bench[key].as_f64().unwrap();
    let [least, median, most] = ["ms_per_sample_least", "ms_per_sample", "ms_per_sample_most"].map(number);
    assert!(0.0 < least && least <= median && median <= most, "{bench}");
    assert!(number("peak_rss_mb") > 1.0);
    let layers = bench["layers"].as_array().unwrap();
    let sum = |key: &str| layers.iter().map(|layer| layer[key].as_f64().unwrap()).sum::<f64>();
    if has_layers {
        assert!((sum("share") - 1.0).abs() < 1e-6 && (sum("ms_per_sample") - median).abs() < 1e-6 * median);
        assert!(sum("operations_per_sample") > 0.0);
    } else {
        assert!(layers.is_empty());
    }
}

#[test]
fn help_and_version_are_there_for_every_command() {
    for command in [
        "demo",
        "run",
        "data",
        "train",
        "convert",
        "evaluate",
        "finetune",
        "spikes",
        "energy",
        "report",
        "checkpoint",
        "bench",
    ] {
        let output = escape(&[command, "--help"]);
        assert!(output.status.success() && output.stdout.len() > 100, "{command}");
    }
    assert!(escape(&["--version"]).status.success());
}
