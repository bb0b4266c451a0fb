use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::{Files, escape, failure, json, lines};

/// The JSON result of a command with values in place of `@name`, a path among the files.
fn go(files: &Files, command: &str) -> Value {
    let arguments: Vec<String> = arguments(files, command);
    json(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
}

/// The message of a command that is refused for its usage.
fn refused(files: &Files, command: &str, parts: &[&str]) {
    let arguments: Vec<String> = arguments(files, command);
    let (code, text) = failure(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(code, 2, "{command}: {text}");
    for part in parts {
        assert!(text.contains(part), "{command}: expected '{part}' in: {text}");
    }
}

fn arguments(files: &Files, command: &str) -> Vec<String> {
    let word = |word: &str| word.strip_prefix('@').map_or_else(|| word.to_owned(), |name| files.at(name));
    command.split_whitespace().map(word).collect()
}

fn networks(table: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(table).unwrap();
    let mut names: Vec<String> =
        text.lines().skip(1).map(|line| line.split(',').next().unwrap().to_owned()).collect();
    names.dedup();
    names
}

/// README's commands, one after the other, make the page that a run makes: nothing is left out of it.
#[test]
fn single_commands_add_up_to_a_full_page() {
    let files = Files(tempfile::tempdir().unwrap());
    go(&files, "data simulate --samples 60 --seed 1 --out @nerve.npz");
    go(&files, "train --data @nerve.npz --epochs 1 --batch-size 8 --out @ann");
    go(&files, "convert --checkpoint @ann/best.pth --data @nerve.npz --out @snn.pth");
    go(&files, "evaluate --checkpoint @ann/best.pth --data @nerve.npz --limit 8 --out @results");
    go(&files, "evaluate --checkpoint @snn.pth --data @nerve.npz --limit 8 --timesteps 3 --out @results");
    go(&files, "finetune --checkpoint @snn.pth --data @nerve.npz --limit 8 --timesteps 2 --out @tuned");
    let tuned =
        go(&files, "evaluate --checkpoint @tuned/best.pth --data @nerve.npz --limit 8 --out @results");
    assert_eq!(tuned["written"]["network"], "tuned");
    go(&files, "spikes --checkpoint @tuned/best.pth --data @nerve.npz --out @results");
    go(&files, "spikes --checkpoint @snn.pth --data @nerve.npz --timesteps 3 --out @results");
    let energy = go(&files, "energy --run @results");
    let names: Vec<&str> =
        energy.as_array().unwrap().iter().map(|e| e["network"].as_str().unwrap()).collect();
    assert_eq!(names, ["snn", "tuned"]);
    let report = go(&files, "report @results");
    // A constant input and single epochs make no figure.
    let left_out: Vec<&str> =
        report["left_out"].as_array().unwrap().iter().map(|l| l.as_str().unwrap()).collect();
    let figures: Vec<&str> = left_out.iter().map(|text| text.split([':', ',']).next().unwrap()).collect();
    assert_eq!(figures, ["Figure 2", "Figure 3", "Figure 3"], "{left_out:?}");

    let folder = files.path().join("results");
    for (table, wanted) in [
        ("evaluations.csv", &["ann", "snn", "tuned"][..]),
        ("activity.csv", &["snn", "tuned"]),
        ("steps.csv", &["snn", "tuned"]),
        ("confusion.csv", &["ann", "snn", "tuned"]),
        ("training.csv", &["ann"]),
        ("finetune.csv", &["tuned"]),
        ("raster.csv", &["tuned", "snn"]),
    ] {
        assert_eq!(networks(&folder.join(table)), wanted, "{table}");
    }
    // T = 1 and 2 as well, for the accuracy figure.
    assert_eq!(lines(&folder.join("evaluations.csv")), 1 + 1 + 3 + 2);
    assert_eq!(lines(&folder.join("steps.csv")), 1 + 5 * 3 + 5 * 2);
    let manifest: Value =
        serde_json::from_str(&std::fs::read_to_string(folder.join("manifest.json")).unwrap()).unwrap();
    assert!(manifest["version"].is_string() && manifest["device"].is_string() && manifest["seed"] == 0);
    let commands = manifest["commands"].as_array().unwrap();
    assert_eq!(commands.len(), 5);
    assert_eq!((&commands[2]["does"], &commands[2]["network"]), (&"evaluate".into(), &"tuned".into()));
    for input in commands[2]["inputs"].as_array().unwrap() {
        assert_eq!(input["sha256"].as_str().unwrap().len(), 64);
        assert!(manifest["inputs"].as_array().unwrap().contains(input));
    }
}

/// What `evaluate --out` records is what `run` records.
#[test]
fn evaluate_records_what_a_run_records() {
    let files = Files::with_snn();
    let config = format!(
        "name: a\nseed: 5\ndata: {{file: {}}}\nann: {{checkpoint: {}}}\nconvert: [{{name: snn, timesteps: 4, also_at: [2]}}]\n",
        files.at("data.npz"),
        files.at("ann.pth")
    );
    std::fs::write(files.path().join("run.yaml"), config).unwrap();
    go(&files, "run @run.yaml --out @run");
    go(&files, "evaluate --checkpoint @ann.pth --data @data.npz --seed 5 --out @single");
    let evaluate =
        go(&files, "evaluate --checkpoint @run/snn.pth --data @data.npz --seed 5 --also-at 2 --out @single");
    assert_eq!(evaluate["accuracy_by_step"].as_array().unwrap().len(), 4);
    go(&files, "energy --run @single");
    for table in ["activity.csv", "steps.csv", "confusion.csv", "energy.csv", "energy_steps.csv"] {
        let read = |folder: &str| std::fs::read_to_string(files.path().join(folder).join(table)).unwrap();
        assert_eq!(read("run"), read("single"), "{table}");
    }
    // But for the epoch of the ANN, which only a single command tells.
    let rows = |folder: &str| {
        let text = std::fs::read_to_string(files.path().join(folder).join("evaluations.csv")).unwrap();
        text.lines().skip(2).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(rows("run"), rows("single"));
}

#[test]
fn results_of_a_network_are_replaced_only_when_asked() {
    let files = Files::with_snn();
    let evaluate = "evaluate --checkpoint @snn.pth --data @data.npz --out @results";
    let table = files.path().join("results/evaluations.csv");
    go(&files, &format!("{evaluate} --limit 4 --timesteps 2"));
    assert_eq!(lines(&table), 1 + 2);
    refused(&files, &format!("{evaluate} --timesteps 2"), &["'snn' at T = 2", "--name", "--force"]);
    // Another T is another result, and leaves those that are there alone.
    let before = std::fs::read_to_string(&table).unwrap();
    go(&files, &format!("{evaluate} --timesteps 5 --limit 3"));
    assert!(std::fs::read_to_string(&table).unwrap().starts_with(&before));
    assert_eq!(lines(&table), 1 + 2 + 2);
    let energy = go(&files, "energy --run @results");
    assert_eq!((energy[0]["timesteps"].as_u64(), energy.as_array().unwrap().len()), (Some(5), 1));
    go(&files, &format!("{evaluate} --timesteps 2 --limit 2 --force"));
    assert_eq!(lines(&table), 1 + 4);
    assert_eq!(go(&files, "energy --run @results")[0]["timesteps"], 2);
    // Another checkpoint of that name.
    std::fs::create_dir(files.path().join("other")).unwrap();
    go(&files, "convert --checkpoint @ann.pth --data @data.npz --scale 0.5 --out @other/snn.pth");
    let other =
        "evaluate --checkpoint @other/snn.pth --data @data.npz --limit 4 --timesteps 7 --out @results";
    refused(&files, other, &["another checkpoint", "--name", "--force"]);
    go(&files, &format!("{other} --name half"));
    assert_eq!(networks(&table), ["snn", "half"]);
    go(&files, &format!("{other} --force"));
    assert_eq!(networks(&table), ["half", "snn"]);
    assert_eq!(lines(&table), 1 + 4 + 4);
    for (name, parts) in [("ann", "kept for the ANN"), ("ann-3bit", "kept"), ("a/b", "letters, digits")] {
        refused(&files, &format!("{other} --name {name}"), &[parts]);
    }
    refused(&files, &format!("{other} --name x --also-at 8"), &["--also-at 8", "7 steps"]);
}

#[test]
fn spikes_add_up_for_one_recording() {
    let files = Files::with_snn();
    let spikes = "spikes --checkpoint @snn.pth --data @data.npz --timesteps 2 --out @results";
    let raster = files.path().join("results/raster.csv");
    go(&files, spikes);
    let one = lines(&raster);
    refused(&files, spikes, &["'snn'", "--name", "--force"]);
    go(&files, &format!("{spikes} --name again"));
    assert_eq!(lines(&raster), 2 * one - 1);
    refused(&files, &format!("{spikes} --name third --sample 1"), &["another recording", "--force"]);
    go(&files, &format!("{spikes} --sample 1 --force"));
    assert_eq!(networks(&raster), ["snn"]);
    // The folder to report on is named, not the table again.
    let words = arguments(&files, &format!("--quiet {spikes} --sample 1 --force"));
    let output = escape(&words.iter().map(String::as_str).collect::<Vec<_>>());
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains(&format!("`escape-snn report {}`", files.at("results"))), "{text}");
    assert_eq!(text.matches("conv1").count(), 1, "{text}");
}

/// A replacement that is stopped leaves nothing of what it replaces beside what is new.
#[test]
fn a_stopped_replacement_mixes_no_networks() {
    let files = Files::with_snn();
    go(&files, "evaluate --checkpoint @snn.pth --data @data.npz --limit 2 --timesteps 2 --out @results");
    go(&files, "energy --run @results");
    let at = |name: &str| files.path().join("results").join(name);
    let log =
        "network,epoch,train_loss,train_accuracy,test_loss,test_accuracy,seconds\nsnn,1,1,0.5,1,0.5,1\n";
    std::fs::write(at("finetune.csv"), log).unwrap();
    std::fs::create_dir(files.path().join("other")).unwrap();
    go(&files, "convert --checkpoint @ann.pth --data @data.npz --scale 0.5 --out @other/snn.pth");
    let other = "--device cpu --quiet evaluate --checkpoint @other/snn.pth --data @data.npz --timesteps 20000 --force \
                 --out @results";
    let mut process =
        Command::new(env!("CARGO_BIN_EXE_escape-snn")).args(arguments(&files, other)).spawn().unwrap();
    let begun = || std::fs::read_to_string(at("manifest.json")).unwrap().contains("20000");
    let start = std::time::Instant::now();
    while !begun() && start.elapsed().as_secs() < 120 {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    process.kill().unwrap();
    process.wait().unwrap();
    for table in ["evaluations.csv", "activity.csv", "steps.csv", "confusion.csv", "finetune.csv"] {
        assert_eq!(networks(&at(table)), Vec::<String>::new(), "{table}");
    }
    assert!(!at("energy.csv").exists() && !at("energy_steps.csv").exists());
    let again = "evaluate --checkpoint @snn.pth --data @data.npz --limit 2 --timesteps 2 --out @results";
    refused(&files, again, &["another checkpoint"]);
}

/// Processes that add to one folder at a time take turns.
#[test]
fn parallel_evaluations_lose_nothing() {
    let files = Files::with_snn();
    let evaluate = "--device cpu --quiet --threads 1 evaluate --checkpoint @snn.pth --data @data.npz --limit 1 --timesteps 2 \
                    --out @results --name";
    let names: Vec<String> = (0..6).map(|n| format!("n{n}")).collect();
    let start = |name: &String| {
        let words = arguments(&files, &format!("{evaluate} {name}"));
        let program = env!("CARGO_BIN_EXE_escape-snn");
        Command::new(program).args(words).stdout(std::process::Stdio::null()).spawn().unwrap()
    };
    let processes: Vec<_> = names.iter().map(start).collect();
    for mut process in processes {
        assert!(process.wait().unwrap().success());
    }
    for table in ["evaluations.csv", "activity.csv", "steps.csv", "confusion.csv"] {
        let mut found = networks(&files.path().join("results").join(table));
        found.sort();
        assert_eq!(found, names, "{table}");
    }
    let manifest = std::fs::read(files.path().join("results/manifest.json")).unwrap();
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    assert_eq!(manifest["commands"].as_array().unwrap().len(), 6);
}

/// A run's networks are known by the checkpoints beside their results; what single commands add is kept.
#[test]
fn a_runs_networks_are_not_mixed_with_others() {
    let files = Files::with_snn();
    let config = format!(
        "name: a\ndata: {{file: {}}}\nann: {{checkpoint: {}}}\nconvert: [{{name: snn, timesteps: 2}}]\n\
         evaluate: {{samples: 2}}\nreport: false\n",
        files.at("data.npz"),
        files.at("ann.pth")
    );
    std::fs::write(files.path().join("run.yaml"), config).unwrap();
    go(&files, "run @run.yaml --out @run");
    files.save_seeded("another.pth", 5);
    let on = "--data @data.npz --limit 2 --out @run";
    go(&files, "convert --checkpoint @ann.pth --data @data.npz --scale 0.5 --force --out @snn.pth");
    for command in [
        format!("evaluate --checkpoint @snn.pth --timesteps 3 {on}"),
        "spikes --checkpoint @snn.pth --data @data.npz --out @run".to_owned(),
        format!("evaluate --checkpoint @another.pth {on}"),
    ] {
        refused(&files, &command, &["another checkpoint", "--name", "--force"]);
    }
    refused(&files, &format!("evaluate --checkpoint @ann.pth {on}"), &["'ann' already"]);
    go(&files, &format!("evaluate --checkpoint @run/snn.pth --timesteps 3 {on}"));
    go(&files, &format!("evaluate --checkpoint @snn.pth --timesteps 3 --name half {on}"));
    let read = |name: &str| std::fs::read(files.path().join("run").join(name)).unwrap();
    let (table, manifest) = (read("evaluations.csv"), read("manifest.json"));
    go(&files, "run @run.yaml --out @run --resume");
    assert!(read("evaluations.csv") == table && read("manifest.json") == manifest);
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    assert_eq!(manifest["commands"].as_array().unwrap().len(), 2);
}

/// One name stands for one way of simulating, as there is one activity, one energy and one confusion for it; and one
/// folder for one split.
#[test]
fn one_name_is_one_network_used_in_one_way() {
    let files = Files::with_snn();
    let evaluate = "evaluate --checkpoint @snn.pth --data @data.npz --limit 2 --out @results";
    let table = files.path().join("results/evaluations.csv");
    go(&files, &format!("{evaluate} --timesteps 2"));
    for otherwise in ["--encoder poisson", "--preset published"] {
        refused(
            &files,
            &format!("{evaluate} --timesteps 3 {otherwise}"),
            &["encoder direct", "--name", "--force"],
        );
    }
    let spikes =
        "spikes --checkpoint @snn.pth --data @data.npz --timesteps 2 --encoder poisson --out @results";
    refused(&files, spikes, &["encoder direct", "--name"]);
    go(&files, &format!("{evaluate} --timesteps 2 --encoder poisson --name noisy"));
    assert_eq!(networks(&table), ["snn", "noisy"]);
    go(&files, &format!("{evaluate} --timesteps 3 --encoder poisson --force"));
    let text = std::fs::read_to_string(&table).unwrap();
    assert!(text.contains("snn,converted,default,poisson") && !text.contains("snn,converted,default,direct"));
    // Training recordings are no test recordings.
    let train = "evaluate --checkpoint @ann.pth --data @data.npz --split train --limit 2";
    refused(&files, &format!("{train} --out @results"), &["the test split", "another folder"]);
    go(&files, &format!("{train} --out @trained"));
    go(&files, &format!("{evaluate} --timesteps 2 --split train").replace("@results", "@trained"));
    let test = format!("{evaluate} --timesteps 3").replace("@results", "@trained");
    refused(&files, &format!("{test} --name other"), &["the train split", "another folder"]);
    go(&files, "report @trained");
    let page = std::fs::read_to_string(files.path().join("trained/report/index.html")).unwrap();
    assert!(page.contains("Of 2 training recordings, the ANN") && !page.contains("Of 2 test recordings"));
    assert!(page.contains("Share of training recordings"));
}

/// Accuracies at several T are asked for, or kept; which of them are of other recordings is said.
#[test]
fn accuracies_that_are_there_are_not_passed_over_in_silence() {
    let files = Files::with_snn();
    let said = |command: &str| {
        let words = arguments(&files, command);
        let output = escape(&words.iter().map(String::as_str).collect::<Vec<_>>());
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{text}");
        text
    };
    let evaluate = "evaluate --checkpoint @snn.pth --data @data.npz --out @results";
    // The network is for four steps.
    let text = said(&format!("{evaluate} --limit 4 --timesteps 1"));
    assert!(text.contains("chosen for T = 4; for a single timestep, convert with --timesteps 1"), "{text}");
    let text = said(&format!("{evaluate} --limit 4 --timesteps 2"));
    assert!(!text.contains("keeps its accuracies") && !text.contains("chosen for T"), "{text}");
    refused(
        &files,
        &format!("{evaluate} --timesteps 5 --also-at 2,3"),
        &["'snn' at T = 2 already", "--name"],
    );
    let text = said(&format!("{evaluate} --limit 3 --timesteps 5"));
    assert!(
        text.contains("'snn' keeps its accuracies at T = 1 (4 recordings), T = 2 (4 recordings)"),
        "{text}"
    );
    assert!(text.contains("beside those of 3 recordings"), "{text}");
}

/// Options that nothing would be done with.
#[test]
fn options_without_effect_are_refused() {
    let files = Files::new();
    let on = "--data @data.npz";
    for (command, part) in [
        (format!("train {on} --out @out --ignore x"), "--init"),
        (format!("train {on} --out @out --rename a=b"), "--init"),
        (format!("evaluate --checkpoint @ann.pth {on} --encoder direct"), "--encoder"),
        (format!("evaluate --checkpoint @ann.pth {on} --engine dense"), "--engine"),
        (format!("evaluate --checkpoint @ann.pth {on} --out @out --also-at 1"), "--also-at"),
    ] {
        refused(&files, &command, &[part, "leave"]);
    }
    assert!(!files.path().join("out").exists());
}

/// A layer that fires nothing lets nothing through, whatever the others do.
#[test]
fn one_silent_layer_silences_a_network() {
    let files = Files(tempfile::tempdir().unwrap());
    let folder = files.path().join("results");
    std::fs::create_dir(&folder).unwrap();
    let write = |conv2: f64| {
        let mut text = "network,preset,timesteps,samples,layer,kind,neurons,weights,macs,analog_input,leak,\
                        spikes_per_sample,synaptic_operations_per_sample\n"
            .to_owned();
        for (layer, kind, spikes) in [
            ("conv1", "conv", 90.0),
            ("conv2", "conv", conv2),
            ("conv3", "conv", 8.0),
            ("linear2", "linear", 0.0),
        ] {
            text += &format!("snn,default,4,2,{layer},{kind},64,10,100,false,1,{spikes},20\n");
        }
        std::fs::write(folder.join("activity.csv"), text).unwrap();
        go(&files, "energy --run @results")[0]["silent"].clone()
    };
    assert_eq!((write(5.0), write(0.0)), (false.into(), true.into()));
}

/// Beside the ANN that was measured, whichever network came first; one of other layers is told.
#[test]
fn a_network_of_other_layers_than_the_ann_is_told() {
    let files = Files(tempfile::tempdir().unwrap());
    let folder = files.path().join("results");
    std::fs::create_dir(&folder).unwrap();
    let head = "network,preset,timesteps,samples,layer,kind,neurons,weights,macs,analog_input,leak,\
                spikes_per_sample,synaptic_operations_per_sample\n";
    let rows = |network: &str, macs: u64| {
        let row = |layer: &str, kind: &str| {
            format!("{network},default,4,2,{layer},{kind},64,10,{macs},false,1,5,20\n")
        };
        row("conv1", "conv") + &row("linear1", "linear")
    };
    let of = |first: &str, measured: bool| {
        let [small, large] = [rows("small", 100), rows("large", 900)];
        let both = if first == "small" { small + &large } else { large + &small };
        std::fs::write(folder.join("activity.csv"), head.to_owned() + &both).unwrap();
        let ann = "network,bits,input_bits,samples,layer,kind,neurons,sent,weights,macs,nonzero_sent_per_sample,nonzero_macs_per_sample\n\
                   ann,,,2,conv1,conv,64,64,10,900,60,800\nann,,,2,linear1,linear,64,64,10,900,60,800\n";
        let path = folder.join("ann_activity.csv");
        if measured {
            std::fs::write(&path, ann).unwrap()
        } else {
            _ = std::fs::remove_file(&path)
        }
        let found = go(&files, "energy --run @results");
        let named =
            |name: &str| found.as_array().unwrap().iter().find(|n| n["network"] == name).unwrap().clone();
        (named("small")["other_layers"].clone(), named("large")["other_layers"].clone())
    };
    assert_eq!(of("small", false), (false.into(), true.into()));
    assert_eq!(of("large", false), (true.into(), false.into()));
    assert_eq!(of("small", true), (true.into(), false.into()));
    let output = escape(&["energy", "--run", &files.at("results")]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("small has other layers than the ANN"), "{text}");
}

/// One rule for all commands: what is there stays, and `--force` replaces it.
#[test]
fn nothing_is_overwritten_unless_asked() {
    let files = Files::with_snn();
    go(&files, "data simulate --samples 20 --page @page --out @small.npz");
    go(&files, "checkpoint convert @snn.pth @copy.safetensors");
    go(&files, "data convert @small.npz @small.mat");
    go(&files, "data inspect @small.npz --picture @small.png");
    // Logits of an earlier evaluation are replaced, any other file is not.
    go(&files, "evaluate --checkpoint @ann.pth --data @small.npz --logits @logits.npz");
    go(&files, "evaluate --checkpoint @ann.pth --data @small.npz --logits @logits.npz");
    std::fs::copy(files.path().join("small.npz"), files.path().join("copy.npz")).unwrap();
    let run = format!(
        "name: a\ndata: {{file: {}}}\nann: {{checkpoint: {}}}\nconvert: [{{name: snn, timesteps: 1}}]\nreport: false\n",
        files.at("small.npz"),
        files.at("ann.pth")
    );
    std::fs::write(files.path().join("run.yaml"), run).unwrap();
    go(&files, "run @run.yaml --out @run");
    go(&files, "train --data @small.npz --epochs 1 --out @trained");
    go(&files, "finetune --checkpoint @snn.pth --data @small.npz --timesteps 1 --out @tuned");
    for (file, command) in [
        ("small.npz", "data simulate --samples 20 --out @small.npz"),
        ("page/report/index.html", "data simulate --samples 20 --out @other.npz --page @page"),
        ("snn.pth", "convert --checkpoint @ann.pth --data @small.npz --out @snn.pth"),
        ("copy.safetensors", "checkpoint convert @snn.pth @copy.safetensors"),
        ("small.mat", "data convert @small.npz @small.mat"),
        ("small.csv", "data inspect @small.npz --picture @small.png"),
        ("copy.npz", "evaluate --checkpoint @ann.pth --data @small.npz --logits @copy.npz"),
        ("run/manifest.json", "run @run.yaml --out @run"),
        ("trained/best.pth", "train --data @small.npz --epochs 1 --out @trained"),
        ("tuned/last.pth", "finetune --checkpoint @snn.pth --data @small.npz --timesteps 1 --out @tuned"),
    ] {
        let path = files.path().join(file);
        // Not the inode, whose number a new file may take over from a removed one.
        let written = |path: &Path| std::fs::metadata(path).unwrap().modified().unwrap();
        let before = (std::fs::read(&path).unwrap(), written(&path));
        refused(&files, command, &["already", "--force"]);
        assert!((std::fs::read(&path).unwrap(), written(&path)) == before, "{command}");
        go(&files, &format!("{command} --force"));
        assert!(path.is_file() && written(&path) > before.1, "{command} --force");
    }
    refused(&files, "run @run.yaml --out @run --resume --force", &["--resume", "--force"]);
    // Files that are not a run's stay.
    std::fs::write(files.path().join("run/mine.pth"), "mine").unwrap();
    go(&files, "run @run.yaml --out @run --force --set convert.0.name=other");
    let left = |name: &str| files.path().join("run").join(name).exists();
    assert!(left("mine.pth") && left("other.pth") && !left("snn.pth"));
    // What is read is not written over, whatever is asked for.
    refused(&files, "data convert @small.npz @small.npz --force", &["name another file"]);
}

/// Files get what the umask gives, so that colleagues can read them; replaced ones keep what they have.
#[test]
fn files_have_the_mode_of_the_umask() {
    let files = Files::with_snn();
    let program = env!("CARGO_BIN_EXE_escape-snn");
    let script = format!(
        "umask 027 && cd '{}' && go() {{ {program} --device cpu --quiet \"$@\" >/dev/null; }} && \
         go evaluate --checkpoint snn.pth --data data.npz --limit 2 --out results --logits results.npz && \
         go spikes --checkpoint snn.pth --data data.npz --timesteps 1 --out results && \
         go energy --run results && go report results && \
         go finetune --checkpoint snn.pth --data data.npz --timesteps 1 --max-steps 1 --out results && \
         chmod 604 results/energy.csv results/report/index.html && \
         go energy --run results && go report results",
        files.path().display()
    );
    assert!(Command::new("sh").args(["-c", &script]).status().unwrap().success());
    let mut seen = 0;
    let mut folders = vec![files.path().join("results")];
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            let mode = path.metadata().unwrap().permissions().mode() & 0o777;
            if path.is_dir() {
                assert_eq!(mode, 0o750, "{}", path.display());
                folders.push(path);
                continue;
            }
            let kept = ["energy.csv", "index.html"].iter().any(|name| path.ends_with(name));
            assert_eq!(mode, if kept { 0o604 } else { 0o640 }, "{}", path.display());
            seen += 1;
        }
    }
    assert!(seen > 40, "{seen}");
}

#[test]
fn numbers_below_their_range_are_refused_in_words() {
    let files = Files(tempfile::tempdir().unwrap());
    let evaluate = "evaluate --checkpoint a --data b";
    for (command, expected) in [
        (format!("{evaluate} --limit -1"), "'--limit <N>': expected at least 1, got -1"),
        (format!("{evaluate} --limit 0"), "expected at least 1, got 0"),
        (format!("{evaluate} --batch-size -3"), "expected at least 1, got -3"),
        (format!("{evaluate} --timesteps -1"), "expected 1 to 100000, got -1"),
        (format!("{evaluate} --threads -1"), "expected 1 to 4096, got -1"),
        (format!("{evaluate} --seed -1"), "expected at least 0, got -1"),
        (format!("{evaluate} --out c --also-at -1,2"), "expected 1 to 100000, got -1"),
        (format!("{evaluate} --limit 1.5"), "expected a whole number, at least 1, got 1.5"),
        (
            "finetune --checkpoint a --data b --out c --lr -1e-3".into(),
            "expected a positive number, got -1e-3",
        ),
        ("finetune --checkpoint a --data b --out c --epochs -1".into(), "expected at least 1, got -1"),
        ("train --data b --out c --weight-decay -1".into(), "expected a number of at least 0, got -1"),
        ("convert --checkpoint a --data b --out c --scale -2".into(), "expected a positive number, got -2"),
        ("spikes --checkpoint a --data b --out c --sample -1".into(), "expected at least 0, got -1"),
        ("data simulate --out c.npz --samples -1".into(), "expected at least 1, got -1"),
        ("energy --rates -0.1,0.2,0.3".into(), "conv1"),
    ] {
        refused(&files, &command, &[expected]);
    }
}

/// With `--json` a failure is JSON too: on stdout where the result would be, and in words on stderr.
#[test]
fn errors_are_json_where_results_are() {
    for (arguments, code, part) in [
        (&["--json", "data", "inspect", "/nowhere.npz"][..], 1, "/nowhere.npz"),
        (&["report", "/nowhere", "--json"], 2, "/nowhere"),
        (&["evaluate", "--json", "--checkpoint", "a", "--data", "b", "--limit", "-1"], 2, "got -1"),
        (&["evaluate", "--json"], 2, "--checkpoint"),
    ] {
        let output = escape(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}");
        let printed: Value = serde_json::from_slice(&output.stdout).unwrap();
        let error = &printed["error"];
        assert!(error["message"].as_str().unwrap().contains(part), "{printed}");
        assert_eq!(error["exit_code"], code);
        assert!(!error["chain"].as_array().unwrap().is_empty(), "{printed}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(part), "{arguments:?}");
    }
    let help = escape(&["--json", "--help"]);
    assert!(help.status.success() && serde_json::from_slice::<Value>(&help.stdout).is_err());
}

/// A page about recordings, or one that shows a run, is not replaced by another that shows less.
#[test]
fn report_keeps_pages_of_another_kind() {
    let files = Files::with_snn();
    go(&files, "data simulate --samples 20 --out @small.npz --page @results");
    let page = files.path().join("results/report/index.html");
    let before = std::fs::read(&page).unwrap();
    refused(&files, "report @results", &["page about recordings", "--force"]);
    go(&files, "evaluate --checkpoint @snn.pth --data @small.npz --limit 2 --out @results");
    refused(&files, "report @results", &["page about recordings", "--force"]);
    assert!(std::fs::read(&page).unwrap() == before);
    go(&files, "report @results --force");
    assert!(std::fs::read_to_string(&page).unwrap().contains("id=\"table1\""));
    // Its own page it makes anew.
    go(&files, "report @results");
    std::fs::create_dir(files.path().join("empty")).unwrap();
    refused(&files, "report @empty", &["nothing to report on", "evaluate --out"]);
    assert!(!files.path().join("empty/report").exists());
    refused(&files, "energy --run @empty", &["activity.csv", "evaluate"]);
}

/// A quantised ANN is measured as any network is, and its energy counted with constants of one's own.
#[test]
fn quantised_anns_stand_beside_spiking_networks() {
    let files = Files::with_snn();
    let on = "--data @data.npz --limit 3 --out @results";
    go(&files, &format!("evaluate --checkpoint @ann.pth {on}"));
    let one =
        go(&files, &format!("evaluate --checkpoint @ann.pth --bits 4 --calibration 5 --batch-size 1 {on}"));
    assert_eq!(
        (one["written"]["network"].as_str(), one["weight_bits"].as_u64()),
        (Some("ann-4bit"), Some(4))
    );
    let all =
        go(&files, "evaluate --checkpoint @ann.pth --bits 4 --calibration 5 --data @data.npz --limit 3");
    assert_eq!((&one["loss"], &one["layers"]), (&all["loss"], &all["layers"]), "batches change nothing");
    let layer = &one["layers"][1];
    assert!(layer["nonzero_macs_per_sample"].as_f64() < layer["macs"].as_f64(), "{layer}");
    refused(&files, &format!("evaluate --checkpoint @ann.pth --bits 4 --input-bits 8 {on}"), &["--force"]);
    refused(&files, "evaluate --checkpoint @ann.pth --input-bits 8 --data @data.npz", &["--bits B"]);
    go(&files, &format!("evaluate --checkpoint @snn.pth --timesteps 2 {on}"));

    let usual = go(&files, "energy --run @results");
    let of = |energy: &Value, key: &str| energy[0]["models"][0][key].as_f64().unwrap();
    assert_eq!(usual[0]["models"][0]["quantised_bits"], 4);
    assert!(of(&usual, "saving_over_skipping") < of(&usual, "saving"));
    let shipped =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../configs/energy.yaml")).unwrap();
    std::fs::write(files.path().join("mine.yaml"), shipped.replace("pJ: 3.7", "pJ: 37")).unwrap();
    let mine = go(&files, "energy --run @results --constants @mine.yaml");
    assert!(of(&mine, "ann_pj") > 5.0 * of(&usual, "ann_pj"));
    // The folder keeps them.
    assert_eq!(go(&files, "energy --run @results"), mine);
    std::fs::write(files.path().join("bad.yaml"), shipped.replace("pJ: 3.7", "pJ: -1")).unwrap();
    refused(
        &files,
        "energy --run @results --constants @bad.yaml",
        &["bad.yaml: at fp32.multiply.pJ", "0 or more", "-1"],
    );
    let page = go(&files, "report @results");
    let page = std::fs::read_to_string(page["report"].as_str().unwrap()).unwrap();
    assert!(page.contains("id=\"claims\"") && page.contains("ANN, 4 bits, skips zeros"));
}
