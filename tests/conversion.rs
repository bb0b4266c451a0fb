use std::path::Path;

use escape_checkpoint::Checkpoint;
use escape_model::rounding::Trained;
use serde_json::Value as Json;

use crate::support::{Files, escape, failure, json};

fn thresholds(report: &Json) -> Vec<f64> {
    report["thresholds"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

/// Converts the untrained network, by few steps, with further options.
fn convert(files: &Files, out: &str, more: &[&str]) -> Vec<String> {
    let fixed = ["convert", "--samples", "2", "--checkpoint"].map(String::from);
    let paths = [files.at("ann.pth"), "--data".into(), files.at("data.npz"), "--out".into(), files.at(out)];
    fixed.into_iter().chain(paths).chain(more.iter().map(|s| s.to_string())).collect()
}

#[test]
fn a_gain_multiplies_the_readout_alone_and_a_swamped_one_is_said() {
    let files = Files::new();
    let published = ["--preset", "published", "--timesteps", "60"];
    let run = |out: &str, more: &[&str]| -> Json {
        let all = convert(&files, out, &[&published[..], more].concat());
        json(&all.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let plain = run("plain.pth", &[]);
    let gained = run("gained.pth", &["--readout-gain", "4"]);
    assert_eq!((&plain["readout_gain"], &gained["readout_gain"]), (&1.0.into(), &4.0.into()));
    let (before, after) = (thresholds(&plain), thresholds(&gained));
    assert_eq!(before[..4], after[..4]);
    assert_eq!(before[4] * 4.0, after[4]);
    let notes = |report: &Json| report["notes"].to_string();
    assert!(notes(&plain).contains("\"the logits of this network are small"), "{plain}");
    let input = |report: &Json| report["readout_input"].as_f64().unwrap() as f32;
    assert_eq!(input(&plain) * 4.0, input(&gained));

    // An untrained network has small logits; auto makes its readout's input eight times the softmax's third.
    let auto = run("auto.pth", &["--readout-gain", "auto"]);
    assert!(input(&plain) < 8.0 / 3.0 && (8.0 / 3.0..16.0 / 3.0).contains(&input(&auto)), "{plain} {auto}");
    assert!(notes(&auto).contains("weights were multiplied by") && !notes(&auto).contains("small"), "{auto}");
    let told = |more: &[&str]| {
        let all = convert(&files, "told.pth", &[&published[..], more, &["--force"]].concat());
        let output = escape(&all.iter().map(String::as_str).collect::<Vec<_>>());
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(told(&[]).contains("--readout-gain auto"));
    assert!(!told(&["--readout-gain", "auto"]).contains("small"));
}

#[test]
fn what_a_preset_has_no_use_for_is_refused() {
    let files = Files::new();
    for (more, part) in [
        (["--readout-gain", "2", "--preset", "default"], "published"),
        (["--method", "channels:99", "--preset", "published"], "percentile"),
        (["--readout-gain", "0", "--preset", "published"], "positive"),
        (["--method", "rate:0.1", "--preset", "default"], "published"),
    ] {
        let all = convert(&files, "none.pth", &more);
        let (code, text) = failure(&all.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(code == 2 && text.contains(part), "{text}");
        assert!(!files.path().join("none.pth").exists());
    }
}

/// The loss of the mean of two readouts is no more than the mean of both losses.
#[test]
fn weight_normalisation_resets_either_way_and_averages_both() {
    let files = Files::new();
    let losses = ["toolbox", "toolbox-zero", "toolbox-mean"].map(|preset| {
        let out = format!("{preset}.pth");
        let all = convert(&files, &out, &["--preset", preset]);
        json(&all.iter().map(String::as_str).collect::<Vec<_>>());
        let inspected = json(&["checkpoint", "inspect", &files.at(&out)]);
        assert_eq!(inspected["content"]["timesteps"], 300, "{inspected}");
        let paths = ["--checkpoint", &files.at(&out), "--data", &files.at("data.npz")];
        let evaluate = ["evaluate", "--limit", "4", "--timesteps", "20", "--engine", "event"];
        let found = json(&[&evaluate[..], &paths].concat());
        assert_eq!((&found["preset"], &found["encoder"]), (&preset.into(), &"direct".into()));
        if preset != "toolbox" {
            let tune = ["finetune", "--timesteps", "2", "--out", &files.at("t")];
            let (_, text) = failure(&[&tune[..], &paths].concat());
            assert!(text.contains("resets potentials to zero") && !files.path().join("t").exists(), "{text}");
        }
        found["loss"].as_f64().unwrap()
    });
    assert!(losses[0] != losses[1] && losses[2] <= (losses[0] + losses[1]) / 2.0, "{losses:?}");
    for more in ["--bits", "--readout-gain"] {
        let all = convert(&files, "none.pth", &["--preset", "toolbox", more, "4"]);
        let (code, text) = failure(&all.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(code == 2 && text.contains("the toolbox preset"), "{text}");
    }
    let mean = files.at("toolbox-mean.pth");
    let (_, text) =
        failure(&["spikes", "--checkpoint", &mean, "--data", &files.at("data.npz"), "--out", &files.at("s")]);
    assert!(text.contains("averages two networks") && !text.contains("--engine"), "{text}");
}

/// In five steps a spike passes the five layers once. Thresholds from the largest inputs leave some layer silent, so that the one
/// above receives nothing; those for a rate do not.
#[test]
fn a_rate_lets_spikes_through_in_as_many_steps_as_there_are_layers() {
    let files = Files::new();
    let run = |rate: &str, steps: &str| {
        let out = format!("{rate}-{steps}.pth");
        convert(&files, &out, &["--preset", "published", "--method", rate, "--timesteps", steps])
    };
    fn texts(arguments: &[String]) -> Vec<&str> {
        arguments.iter().map(String::as_str).collect()
    }
    let report = json(&texts(&run("rate:0.1", "5")));
    assert_eq!((&report["method"], &report["timesteps"]), (&"rate:0.1".into(), &5.into()));
    let (snn, data) = (files.at("rate:0.1-5.pth"), files.at("data.npz"));
    let judged =
        json(&["evaluate", "--checkpoint", &snn, "--data", &data, "--split", "train", "--limit", "2"]);
    for layer in &judged["layers"].as_array().unwrap()[..4] {
        // A tenth in the one step that counts; conv1 to conv3 fire in more.
        assert!(layer["spikes_per_neuron"].as_f64().unwrap() > 0.05, "{judged}");
    }
    for (rate, steps, part) in [
        ("rate:0.1", "4", "expected at least 5 timesteps"),
        ("rate:0.99", "5", "conv1: expected 0.99 spikes a neuron and step"),
    ] {
        let (code, text) = failure(&texts(&run(rate, steps)));
        assert!(code == 1 && text.contains(part), "{text}");
    }
}

#[test]
fn thresholds_follow_the_steps_asked_for() {
    let files = Files::new();
    let found = |steps: &str| {
        let all = convert(&files, &format!("{steps}.pth"), &["--timesteps", steps]);
        thresholds(&json(&all.iter().map(String::as_str).collect::<Vec<_>>()))
    };
    let (few, many) = (found("1"), found("16"));
    assert!(few[0] < many[0] && (0..4).all(|k| few[k] <= many[k]), "{few:?} {many:?}");
}

#[test]
fn too_few_calibration_recordings_are_told() {
    let files = Files::new();
    let run = |out: &str, samples: &str| {
        let all =
            convert(&files, out, &[]).into_iter().map(|word| if word == "2" { samples.into() } else { word });
        json(&all.collect::<Vec<_>>().iter().map(String::as_str).collect::<Vec<_>>())
    };
    assert_eq!(run("few.pth", "3")["notes"], Json::Array(Vec::new()));
    let there = run("many.pth", "500");
    let said =
        format!("calibrated with {} recordings: there are no more, and 500 were asked for", there["samples"]);
    assert_eq!(there["notes"], Json::from(vec![said]));
}

/// An ANN trained for so many timesteps becomes the spiking network that it was trained to be; others have no such thresholds.
#[test]
fn thresholds_that_were_trained_are_taken() {
    let files = Files::new();
    let (data, out, snn) = (files.at("data.npz"), files.at("levels"), files.at("levels.pth"));
    let train =
        ["train", "--data", &data, "--out", &out, "--epochs", "1", "--validation", "2", "--channels", "3"];
    json(&[&train[..], &["--hidden", "4", "--bits", "4", "--levels", "3"]].concat());
    let ann = files.at("levels/best.pth");
    let usual = ["convert", "--data", &data, "--out", &snn, "--force", "--samples", "9", "--checkpoint"];
    let made = |ann: &str, more: &[&str]| json(&[&usual[..], &[ann], more].concat());
    let report = made(&ann, &["--method", "trained", "--timesteps", "3", "--bits", "4"]);
    let trained = Trained::of(&Checkpoint::load(Path::new(&ann)).unwrap()).unwrap().thresholds;
    let trained: Vec<f64> = trained.iter().chain([&1.0]).map(|t| f64::from(*t)).collect();
    assert_eq!(thresholds(&report), trained);
    assert_eq!(report["notes"], serde_json::json!([]));
    // Another T, or another method, is told of.
    let told = |more: &[&str]| made(&ann, more)["notes"].to_string();
    assert!(told(&["--method", "trained", "--timesteps", "4"]).contains("--timesteps 3"));
    assert!(told(&["--timesteps", "3"]).contains("--method trained"));
    let refused = |ann: &str, more: &[&str]| failure(&[&usual[..], &[ann], more].concat());
    let (code, text) = refused(&files.at("ann.pth"), &["--method", "trained"]);
    assert!(code == 2 && text.contains("--levels"), "{text}");
    let (code, text) = refused(&ann, &["--method", "trained", "--preset", "published"]);
    assert!(code == 2 && text.contains("trained"), "{text}");
}
