use std::os::unix::fs::PermissionsExt;

use escape_checkpoint::Checkpoint;
use escape_network::arch::Architecture;

use crate::support::{Files, escape, failure, json};

/// The message is one paragraph that contains every part.
fn says(arguments: &[&str], code: i32, parts: &[&str]) {
    let (got, text) = failure(arguments);
    assert_eq!(got, code, "{arguments:?}: {text}");
    for part in parts {
        assert!(text.contains(part), "{arguments:?}: expected '{part}' in: {text}");
    }
}

#[test]
fn wrong_usage_is_exit_2() {
    says(&["evalute"], 2, &["evaluate"]);
    says(&["evaluate"], 2, &["--checkpoint"]);
    says(
        &["convert", "--checkpoint", "a", "--data", "b", "--out", "c", "--method", "mean"],
        2,
        &["percentile"],
    );
    says(&["convert", "--checkpoint", "a", "--data", "b", "--out", "/nowhere/c.pth"], 2, &["/nowhere"]);
    says(
        &["evaluate", "--checkpoint", "a", "--data", "b", "--preset", "best"],
        2,
        &["default, published, toolbox"],
    );
    says(&["evaluate", "--checkpoint", "a", "--data", "b", "--timesteps", "0"], 2, &["0"]);
    says(&["evaluate", "--checkpoint", "a", "--data", "b", "--device", "gpu"], 2, &["cuda:N"]);
    says(&["energy", "--rates", "0.3,0.4"], 2, &["3"]);
    says(&["energy", "--rates", "0.3,-0.4,nan"], 2, &["conv2"]);
    says(&["data", "simulate", "--out", "x.csv"], 2, &[".npz"]);
    says(&["report", "/nowhere"], 2, &["/nowhere"]);
}

#[test]
fn missing_and_foreign_files_are_named() {
    let files = Files::new();
    let (ann, data) = (files.at("ann.pth"), files.at("data.npz"));
    let none = files.at("none.pth");
    says(&["evaluate", "--checkpoint", &none, "--data", &data], 1, &["none.pth", "no such file"]);
    says(&["evaluate", "--checkpoint", &ann, "--data", &none], 1, &["none.pth", "no such file"]);
    // The two files in each other's place.
    says(&["evaluate", "--checkpoint", &data, "--data", &data], 1, &["data.npz"]);
    says(&["evaluate", "--checkpoint", &ann, "--data", &ann], 1, &["ann.pth"]);
    std::fs::write(files.path().join("text.pth"), "not a checkpoint").unwrap();
    says(&["checkpoint", "inspect", &files.at("text.pth")], 1, &["text.pth"]);
    std::fs::write(files.path().join("empty.npz"), "").unwrap();
    says(&["data", "inspect", &files.at("empty.npz")], 1, &["empty.npz"]);
}

#[test]
fn a_checkpoint_of_another_network_is_refused_key_by_key() {
    let files = Files::new();
    let data = files.at("data.npz");
    // Trained for a newer cuff of 64 contacts.
    files.save("wide.pth", Architecture::Modified, 64);
    let wide = files.at("wide.pth");
    says(
        &["evaluate", "--checkpoint", &wide, "--data", &data],
        1,
        &["classifier.0.weight", "25600", "22400"],
    );
    // An ANN where a spiking network is expected.
    let ann = files.at("ann.pth");
    let folder = files.at("tuned");
    says(&["finetune", "--checkpoint", &ann, "--data", &data, "--out", &folder], 1, &["escape-snn convert"]);
    says(
        &["evaluate", "--checkpoint", &ann, "--data", &data, "--timesteps", "4"],
        1,
        &["escape-snn convert"],
    );
}

#[test]
fn recordings_of_another_shape_are_refused() {
    let files = Files::with_snn();
    std::fs::write(files.path().join("wide.yaml"), "nerve: {rings: 8, cuff_length_mm: 26}\n").unwrap();
    let wide = files.at("wide.npz");
    json(&["data", "simulate", "--samples", "24", "--config", &files.at("wide.yaml"), "--out", &wide]);
    for checkpoint in ["ann.pth", "snn.pth"] {
        let checkpoint = files.at(checkpoint);
        says(
            &["evaluate", "--checkpoint", &checkpoint, "--data", &wide],
            1,
            &[
                "takes recordings of 56 contacts x 100 samples (classifier.0 has 22400 inputs = 64 x 14 x 25)",
                "but these have 64 contacts x 100 samples",
                "classifier.0.weight",
            ],
        );
    }
}

#[test]
fn outputs_are_checked_before_the_work() {
    let files = Files::with_snn();
    let (snn, data) = (files.at("snn.pth"), files.at("data.npz"));
    let folder = files.path().display().to_string();
    says(&["evaluate", "--checkpoint", &snn, "--data", &data, "--logits", &folder], 2, &["folder"]);
    says(&["finetune", "--checkpoint", &snn, "--data", &data, "--out", &data], 2, &["data.npz"]);
    let sealed = files.path().join("sealed");
    std::fs::create_dir(&sealed).unwrap();
    std::fs::set_permissions(&sealed, std::fs::Permissions::from_mode(0o555)).unwrap();
    // Root may write anywhere.
    if tempfile::tempfile_in(&sealed).is_err() {
        let out = sealed.join("out.pth").display().to_string();
        says(
            &["convert", "--checkpoint", &files.at("ann.pth"), "--data", &data, "--out", &out],
            1,
            &["sealed"],
        );
    }
}

#[test]
fn a_training_is_never_overwritten() {
    let files = Files::with_snn();
    let (snn, data, out) = (files.at("snn.pth"), files.at("data.npz"), files.at("tuned"));
    let arguments = [
        "finetune",
        "--checkpoint",
        &snn,
        "--data",
        &data,
        "--out",
        &out,
        "--max-steps",
        "1",
        "--timesteps",
        "2",
    ];
    json(&arguments);
    says(&arguments, 2, &["--resume"]);
}

#[test]
fn configurations_are_checked_as_a_whole() {
    let files = Files::new();
    let write = |text: &str| std::fs::write(files.path().join("run.yaml"), text).unwrap();
    let run = files.at("run.yaml");
    write("name: [");
    says(&["run", &run], 2, &["run.yaml", "YAML"]);
    write("name: a/b\ndata: {}\nann: {checkpoint: x.pth}\nconvert: [{name: one, timesteps: 0}]");
    says(&["run", &run], 2, &["name", "data", "convert[0].timesteps"]);
    write("name: a\ndata: {file: none.npz}\nann: {checkpoint: none.pth}\n");
    let out = files.at("out");
    says(&["run", &run, "--out", &out], 1, &["none.npz"]);
    says(&["run", &run, "--set", "data.fil=x"], 2, &["fil"]);
    says(&["run", &files.at("none.yaml")], 2, &["none.yaml", "name the YAML file"]);
}

/// Whoever is told what is wrong finds no half-made folder afterwards.
#[test]
fn a_refused_command_leaves_no_folder() {
    let files = Files::with_snn();
    let (ann, snn, data) = (files.at("ann.pth"), files.at("snn.pth"), files.at("data.npz"));
    let (none, out) = (files.at("none.npz"), files.at("made/out"));
    let run = files.at("run.yaml");
    let config = format!(
        "name: a\ndata: {{file: {data}}}\nann: {{checkpoint: {ann}}}\nconvert: [{{name: direct, timesteps: 2}}]\n\
         spikes: {{network: direct}}\n"
    );
    std::fs::write(files.path().join("run.yaml"), config).unwrap();
    says(&["train", "--data", &none, "--out", &out], 1, &["none.npz"]);
    let lone = files.at("lone.npz");
    json(&["data", "simulate", "--samples", "1", "--out", &lone]);
    says(&["train", "--data", &lone, "--out", &out], 2, &["too few"]);
    says(&["finetune", "--checkpoint", &snn, "--data", &none, "--out", &out], 1, &["none.npz"]);
    says(&["spikes", "--checkpoint", &snn, "--data", &data, "--sample", "99", "--out", &out], 2, &["99"]);
    says(&["data", "inspect", &none, "--page", &out], 1, &["none.npz"]);
    for (setting, code, part) in [
        (format!("data.file={none}"), 1, "none.npz"),
        (format!("data.file={ann}"), 1, "ann.pth"),
        (format!("ann.checkpoint={data}"), 1, "data.npz"),
        ("spikes.sample=99".to_owned(), 2, "numbered from 0"),
    ] {
        says(&["run", &run, "--out", &out, "--set", &setting], code, &[part]);
    }
    assert!(!files.path().join("made").exists());
}

#[test]
fn cuda_that_is_not_there_is_a_clear_error() {
    let files = Files::new();
    let (ann, data) = (files.at("ann.pth"), files.at("data.npz"));
    let output = escape(&["evaluate", "--checkpoint", &ann, "--data", &data, "--device", "cuda:77"]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("cuda:77"), "{text}");
}

#[test]
fn what_is_read_is_never_written_over() {
    let files = Files::with_snn();
    let (ann, snn, data) = (files.at("ann.pth"), files.at("snn.pth"), files.at("data.npz"));
    let before = std::fs::read(files.path().join("ann.pth")).unwrap();
    says(&["convert", "--checkpoint", &ann, "--data", &data, "--out", &ann], 2, &["name another file"]);
    says(&["convert", "--checkpoint", &ann, "--data", &data, "--out", &data], 2, &["name another file"]);
    says(&["evaluate", "--checkpoint", &snn, "--data", &data, "--logits", &data], 2, &["name another file"]);
    says(&["data", "convert", &data, &data], 2, &["name another file"]);
    says(&["checkpoint", "convert", &snn, &snn], 2, &["name another file"]);
    assert!(std::fs::read(files.path().join("ann.pth")).unwrap() == before);
}

#[test]
fn networks_that_cannot_be_meant_are_refused() {
    let files = Files::with_snn();
    let (snn, data, out) = (files.at("snn.pth"), files.at("data.npz"), files.at("out.pth"));
    says(&["convert", "--checkpoint", &snn, "--data", &data, "--out", &out], 2, &["already"]);
    let mut broken = Checkpoint::load(&files.path().join("snn.pth")).unwrap();
    std::sync::Arc::make_mut(&mut broken.weights[1].1.bytes)[..4].copy_from_slice(&f32::NAN.to_le_bytes());
    broken.save(&files.path().join("nan.pth")).unwrap();
    says(
        &["evaluate", "--checkpoint", &files.at("nan.pth"), "--data", &data],
        1,
        &["features.3.weight", "finite"],
    );
    let mut endless = Checkpoint::load(&files.path().join("snn.pth")).unwrap();
    endless.timesteps = Some(1_000_000_000_000);
    endless.save(&files.path().join("endless.pth")).unwrap();
    says(&["evaluate", "--checkpoint", &files.at("endless.pth"), "--data", &data], 1, &["100000"]);
}

#[test]
fn a_training_that_diverges_is_no_success() {
    let files = Files::with_snn();
    let (data, out) = (files.at("data.npz"), files.at("out"));
    let train =
        ["train", "--data", &data, "--out", &out, "--lr", "1e30", "--batch-size", "4", "--epochs", "3"];
    says(&train, 1, &["training diverged", "epoch 1", "--lr"]);
    let snn = files.at("snn.pth");
    let (tuned, many) = (files.at("tuned"), ["--timesteps", "2", "--batch-size", "4", "--epochs", "3"]);
    let mut finetune =
        vec!["finetune", "--checkpoint", &snn, "--data", &data, "--out", &tuned, "--lr", "1e38"];
    finetune.extend(many);
    says(&finetune, 1, &["training diverged", "--lr"]);
}
