//! What the program does without libtorch, and what it then says of the rest. Tested in both builds.

// A test fails by panicking.
#![allow(clippy::unwrap_used)]

// Recordings classified one by one as they arrive.
mod stream;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use escape_checkpoint::{Checkpoint, TensorData};
use escape_network::family::Family;
use escape_network::rng::Stream;
use escape_report::rows::{Activity, Energy, Evaluation, Kind, LayerKind, Row, to_csv};
use escape_snn_core::engine::{Batch, Engine};
use escape_snn_core::event::Event;
use escape_snn_core::stored;

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

/// Exit code and message of a call that fails.
fn failure(arguments: &[&str]) -> (i32, String) {
    let output = escape(arguments);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{arguments:?} succeeded");
    assert!(!text.contains("panicked"), "{arguments:?}: {text}");
    (output.status.code().unwrap(), text)
}

/// A folder with `data.npz`, 24 simulated recordings, and `snn.pth`, a narrow spiking network for them that nobody trained.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        text(&["data", "simulate", "--samples", "24", "--out", &files.at("data.npz")]);
        files.save("snn.pth", |_| {});
        files
    }

    /// Saves the network, changed before.
    fn save(&self, name: &str, change: impl FnOnce(&mut Checkpoint)) {
        let convolutions = vec![(4, (8, 8)), (4, (4, 4)), (4, (2, 2))];
        let arch = "modified".parse().unwrap();
        let family = Family { arch, convolutions, hidden: 16, classes: 3 };
        let mut random = Stream::new(11, 0);
        let parameters = family.network(56, 100).unwrap().parameters().into_iter();
        let weights = parameters.map(|p| {
            let values: Vec<f32> =
                (0..p.shape.iter().product()).map(|_| random.uniform() as f32 * 0.2 - 0.08).collect();
            (p.name, TensorData::from_f32(&p.shape, &values))
        });
        let mut checkpoint = Checkpoint {
            weights: weights.collect(),
            thresholds: Some(vec![0.5; 5]),
            timesteps: Some(4),
            ..Checkpoint::default()
        };
        checkpoint.extra.push((stored::PRESET_KEY.to_owned(), "default".into()));
        change(&mut checkpoint);
        checkpoint.save(&self.0.path().join(name)).unwrap();
    }

    /// Path of a file in the folder, as an argument.
    fn at(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }
}

/// An array of float32 in an `.npz`.
fn array(path: &str, name: &str) -> Vec<f32> {
    let mut npz = npyz::npz::NpzArchive::open(path).unwrap();
    npz.by_name(name).unwrap().unwrap().into_vec().unwrap()
}

#[test]
fn spiking_networks_are_evaluated_by_the_event_engine() {
    let files = Files::new();
    let (snn, data, out, logits) =
        (files.at("snn.pth"), files.at("data.npz"), files.at("out"), files.at("logits.npz"));
    let on = ["evaluate", "--checkpoint", &snn, "--data", &data, "--json"];
    let evaluate = |more: &[&str]| {
        let mut report: serde_json::Value = serde_json::from_str(&text(&[&on[..], more].concat())).unwrap();
        report["seconds"].take();
        report
    };
    let more = ["--engine", "event", "--logits", &logits, "--out", &out, "--also-at", "1,3"];
    let mut report = evaluate(&more);
    report.as_object_mut().unwrap().remove("written");
    // Every engine that there is gives the same.
    assert_eq!(evaluate(&["--device", "cpu"]), report);
    #[cfg(feature = "libtorch")]
    {
        report["engine"] = "dense".into();
        assert_eq!(evaluate(&["--engine", "dense"]), report);
    }
    let table: Vec<Evaluation> =
        escape_report::rows::read_csv(&Path::new(&out).join(Evaluation::FILE)).unwrap().unwrap();
    assert_eq!(table.iter().filter_map(|row| row.timesteps).collect::<Vec<_>>(), [1, 3, 4]);
    // And it is what the library says.
    let checkpoint = Checkpoint::load(Path::new(&snn)).unwrap();
    let loaded = stored::load(&checkpoint, Path::new(&snn), None, 56, 100).unwrap();
    let mut encoder = loaded.network.rules.encoder(loaded.encoding, 0);
    let engine = Event::new(loaded.network, loaded.encoding).unwrap();
    let x = array(&data, "test_x");
    let outcome = engine.run(Batch { x: &x, first: 0 }, &mut encoder, 4, &mut ()).unwrap();
    assert_eq!(array(&logits, "logits"), outcome.logits(4));
    assert!(outcome.spikes.iter().take(4).all(|layer| layer.iter().sum::<u64>() > 0));
    assert_eq!(evaluate(&["--limit", "2"])["samples"], 2);
    // Its spikes go to the same folder, and into its page.
    text(&["spikes", "--checkpoint", &snn, "--data", &data, "--out", &out, "--engine", "event"]);
    text(&["report", &out]);
}

#[test]
#[cfg(not(feature = "libtorch"))]
fn what_only_the_whole_program_computes_is_refused() {
    let files = Files::new();
    let (snn, data) = (files.at("snn.pth"), files.at("data.npz"));
    let out = files.at("out");
    for (arguments, part) in [
        (vec!["evaluate", "--checkpoint", CHECKPOINT, "--data", &data], "an ANN"),
        (
            vec!["evaluate", "--checkpoint", &snn, "--data", &data, "--engine", "dense", "--out", &out],
            "--engine dense",
        ),
        (vec!["bench", "--checkpoint", CHECKPOINT, "--data", &data], "an ANN"),
        (vec!["bench", "--checkpoint", &snn, "--data", &data, "--train"], "--train"),
    ] {
        let (code, text) = failure(&arguments);
        let found = text.contains(part) && text.contains("built without --no-default-features");
        assert!(code == 2 && found, "{arguments:?}: {code}, {text}");
    }
    assert!(!Path::new(&out).exists());
}

#[test]
fn published_rules_are_simulated_and_networks_timed() {
    let files = Files::new();
    files.save("published.pth", |checkpoint| checkpoint.extra[0].1 = "published".into());
    let (published, data) = (files.at("published.pth"), files.at("data.npz"));
    let on = ["--checkpoint", &published, "--data", &data];
    let json = |command: &[&str]| -> serde_json::Value {
        serde_json::from_str(&text(&[&["--json"][..], command, &on].concat())).unwrap()
    };
    let found = json(&["evaluate", "--engine", "event"]);
    assert_eq!((&found["preset"], &found["engine"]), (&"published".into(), &"event".into()));
    #[cfg(feature = "libtorch")]
    {
        let dense = json(&["evaluate", "--engine", "dense"]);
        for key in ["confusion", "layers"] {
            assert_eq!(found[key], dense[key]);
        }
    }
    let bench = json(&["bench", "--engine", "event", "--samples", "4", "--rounds", "2"]);
    assert_eq!((&bench["engine"], &bench["rounds"]), (&"event".into(), &2.into()));
    assert!(bench["ms_per_sample"].as_f64().unwrap() > 0.0);
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
        sent: None,
        input_bits: None,
        weight_bits: None,
        nonzero_macs_per_sample: None,
        nonzero_weights: None,
        nonzero_operations_per_sample: None,
        active_per_sample: None,
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
        bits: None,
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
    for command in ["demo", "run", "train", "convert", "finetune"] {
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
