//! Every command reads recordings through the same options, so few commands stand for all.

use std::path::Path;

use escape_data::npz::{Values, write};
use serde_json::Value;

use crate::support::{Files, escape, failure, json, lines};

const SIZE: usize = 56 * 100;

/// Recordings that go from -1 to 1 in their own ways, times a factor.
fn values(n: usize, factor: f32) -> Vec<f32> {
    (0..n * SIZE)
        .map(|i| ((i * 7919 + i / SIZE * 31) % 2001) as f32 / 1000.0 - 1.0)
        .map(|v| v * factor)
        .collect()
}

fn write_test(path: &Path, x: &[f32], y: &[i64]) {
    let n = y.len();
    write(path, &[("test_x", &[n, 56, 100], Values::F32(x)), ("test_y", &[n], Values::I64(y))]).unwrap();
}

/// What a successful call says on standard error.
fn remarks(arguments: &[&str]) -> String {
    let output = escape(arguments);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{arguments:?}: {text}");
    text
}

fn texts(report: &Value) -> Vec<&str> {
    report["notes"].as_array().unwrap().iter().map(|note| note.as_str().unwrap()).collect()
}

#[test]
fn microvolts_are_scaled_and_it_is_said() {
    let files = Files::new();
    let path = files.path().join("rat2_RAW.npz");
    write_test(&path, &values(3, 40.0), &[0, 1, 2]);
    let raw = files.at("rat2_RAW.npz");
    let report = json(&["data", "inspect", &raw]);
    assert_eq!((report["test"]["min"].as_f64(), report["test"]["max"].as_f64()), (Some(-1.0), Some(1.0)));
    assert_eq!(
        (&report["scaling"]["test"], &report["scaling"]["train"]),
        (&"per-recording".into(), &"none".into())
    );
    assert_eq!(report["format"], "NumPy archive (.npz)");
    assert!(texts(&report)[0].contains("the file's name ends in _RAW"), "{report}");
    assert!(texts(&report).contains(&"the file has no train split"), "{report}");
    // Whatever reads them says so, unless it is to be quiet.
    let ann = files.at("ann.pth");
    let call = ["evaluate", "--checkpoint", &ann, "--data", &raw];
    let said = remarks(&call);
    assert!(said.contains("note: ") && said.contains("scaled each of 3 recordings"), "{said}");
    assert_eq!(remarks(&[&call[..], &["--quiet"]].concat()), "");
    // Asked not to be, or half of them only.
    let (code, text) = failure(&[&call[..], &["--scaling", "none"]].concat());
    assert_eq!(code, 1);
    assert!(text.contains("recording 0, contact 0, sample 0 is -40") && text.contains("--scaling"), "{text}");
    let (code, text) = failure(&[&call[..], &["--scaling", "raw"]].concat());
    assert_eq!((code, text.contains("per-recording")), (2, true), "{text}");
}

#[test]
fn bad_recordings_are_named_or_left_out() {
    let files = Files::new();
    let path = files.path().join("bad.npz");
    let mut x = values(5, 1.0);
    x[SIZE + 205] = f32::NAN;
    x[3 * SIZE..4 * SIZE].fill(0.25);
    write_test(&path, &x, &[0, 1, 2, 1, 7]);
    let (bad, ann, good) = (files.at("bad.npz"), files.at("ann.pth"), files.at("good.npz"));
    let call = ["evaluate", "--checkpoint", &ann, "--data", &bad];
    let (code, text) = failure(&call);
    assert_eq!((code, text.contains("label 4") && text.contains("--drop-bad")), (1, true), "{text}");
    write_test(&path, &x, &[0, 1, 2, 1, 0]);
    let (_, text) = failure(&call);
    assert!(
        text.contains("recording 1, contact 2, sample 5 is NaN") && text.contains("--drop-bad"),
        "{text}"
    );
    x[SIZE + 205] = 0.0;
    write_test(&path, &x, &[0, 1, 2, 1, 0]);
    let (_, text) = failure(&call);
    assert!(text.contains("recording 3 is constant (0.25") && text.contains("--drop-bad"), "{text}");
    x[SIZE + 205] = f32::INFINITY;
    write_test(&path, &x, &[0, 1, 2, 1, 7]);
    let said = remarks(&["data", "convert", &bad, &good, "--drop-bad"]);
    assert!(
        said.contains("left out 3 of 5 recordings (1, 3, 4): 1 with NaN or an infinity, 1 constant, 1"),
        "{said}"
    );
    let report = json(&["data", "inspect", &good]);
    assert_eq!(report["test"]["class_counts"], serde_json::json!([1, 0, 1]));
    assert!(texts(&report).contains(&"test: no recording of class 1 (plantarflexion)"), "{report}");
}

#[test]
fn labels_start_where_they_say() {
    let files = Files::new();
    let path = files.path().join("labels.npz");
    let labels = files.at("labels.npz");
    let counts = |arguments: &[&str]| {
        let report = json(&[&["data", "inspect", &labels][..], arguments].concat());
        (report["test"]["class_counts"].to_string(), texts(&report).join("; "))
    };
    let x = values(3, 1.0);
    write_test(&path, &x, &[1, 2, 3]);
    let (found, notes) = counts(&[]);
    assert!(found == "[1,1,1]" && notes.contains("labels are 1..=3, not 0..=2 as usual"), "{found} {notes}");
    write_test(&path, &x, &[1, 2, 2]);
    let (found, notes) = counts(&[]);
    assert!(found == "[0,1,2]" && notes.contains("taken to start at 0"), "{found} {notes}");
    assert_eq!(counts(&["--first-label", "1"]).0, "[1,2,0]");
    write_test(&path, &x, &[3, 2, 0]);
    let (code, text) = failure(&["data", "inspect", &labels]);
    assert_eq!(code, 1);
    assert!(text.contains("label 2 of the test split is 0") && text.contains("--first-label"), "{text}");
    assert_eq!(counts(&["--first-label", "1", "--drop-bad"]).0, "[0,1,1]");
    let (code, _) = failure(&["data", "inspect", &labels, "--first-label", "2"]);
    assert_eq!(code, 2);
}

#[test]
fn translations_keep_every_bit() {
    let files = Files::new();
    let (npz, mat, again) = (files.at("data.npz"), files.at("data.mat"), files.at("again.npz"));
    assert_eq!(remarks(&["data", "convert", &npz, &mat]), "");
    assert_eq!(remarks(&["data", "convert", &mat, &again]), "");
    assert!(std::fs::read(&npz).unwrap() == std::fs::read(&again).unwrap());
    // Unpacked, an archive is a folder of arrays.
    let data = escape_data::read(npz.as_ref(), &Default::default()).unwrap().0;
    for (split, recordings) in [("train", &data.train), ("test", &data.test)] {
        let n = recordings.len();
        let array = |name: &str, descr: &str, shape: &str, bytes: Vec<u8>| {
            let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n");
            let length = (header.len() as u16).to_le_bytes();
            let file = [b"\x93NUMPY\x01\0", &length[..], header.as_bytes(), &bytes].concat();
            std::fs::write(files.path().join(format!("rat_{name}.npy")), file).unwrap();
        };
        let x = recordings.x.iter().flat_map(|v| v.to_le_bytes()).collect();
        array(&format!("{split}_x"), "<f4", &format!("({n}, 56, 100)"), x);
        let y = recordings.y.iter().flat_map(|v| v.to_le_bytes()).collect();
        array(&format!("{split}_y"), "<i8", &format!("({n},)"), y);
    }
    let one = files.at("rat_test_y.npy");
    assert_eq!(json(&["data", "inspect", &one])["train"], json(&["data", "inspect", &npz])["train"]);
    let (code, text) = failure(&["data", "convert", &one, &files.at("x.csv")]);
    assert_eq!((code, text.contains(".npz or .mat")), (2, true), "{text}");
    let (code, text) = failure(&["data", "inspect", &files.path().display().to_string()]);
    assert_eq!((code, text.contains("train_x.npy")), (1, true), "{text}");
}

/// The standard configuration is what is simulated where nothing else is said; recordings depend on no thread.
#[test]
fn a_nerve_is_simulated() {
    let files = Files::new();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../configs/nerve.yaml");
    let make = |name: &str, more: &[&str]| {
        let out = files.at(name);
        let call = [
            "--force",
            "data",
            "simulate",
            "--config",
            path,
            "--samples",
            "40",
            "--seed",
            "3",
            "--out",
            &out,
        ];
        let report = json(&[&call[..], more].concat());
        assert_eq!((&report["train"]["recordings"], &report["test"]["recordings"]), (&29.into(), &11.into()));
        std::fs::read(out).unwrap()
    };
    let one = make("one.npz", &["--threads", "1"]);
    assert!(one == make("two.npz", &["--threads", "2"]));
    assert!(one == make("same.npz", &["--animal", "2", "--fold", "1"]), "as configured");
    let plain = files.at("plain.npz");
    json(&["data", "simulate", "--samples", "40", "--seed", "3", "--out", &plain]);
    assert!(one == std::fs::read(plain).unwrap(), "configs/nerve.yaml is the default");
    assert!(one != make("fold.npz", &["--fold", "2"]));
    assert!(one != make("animal.npz", &["--animal", "5"]));
    // The number of recordings is the configuration's where nothing else says it.
    let (config, out) = (files.at("nerve.yaml"), files.at("few.npz"));
    std::fs::write(&config, "nerve: {samples: 12}\n").unwrap();
    let report = json(&["data", "simulate", "--force", "--config", &config, "--out", &out]);
    assert_eq!((&report["train"]["recordings"], &report["test"]["recordings"]), (&9.into(), &3.into()));
    let (code, text) =
        failure(&["data", "simulate", "--force", "--config", &config, "--out", &out, "--fold", "4"]);
    assert_eq!((code, text.contains("fold: expected 1 to 3, got 4")), (2, true), "{text}");
    std::fs::write(&config, "white_noise: 1\n").unwrap();
    let (code, text) = failure(&["data", "simulate", "--force", "--config", &config, "--out", &out]);
    assert_eq!((code, text.contains("white_noise"), text.contains("`nerve`")), (2, true, true), "{text}");
}

/// A page of the recordings just made, with their nerve, and one of those of a file, each drawn from tables beside it.
#[test]
fn recordings_have_a_page() {
    let files = Files::new();
    let (npz, folder) = (files.at("nerve.npz"), files.at("page"));
    json(&["data", "simulate", "--samples", "60", "--out", &npz, "--page", &folder]);
    let read = |name: &str| std::fs::read_to_string(files.path().join(name)).unwrap();
    let table = read("page/figures/nerve_section.csv");
    for (part, count) in [("cuff", 1), ("contact", 8), ("fascicle", 3), ("fibre", 600)] {
        let found = table.lines().filter(|line| line.starts_with(&format!("{part},"))).count();
        assert_eq!(found, count, "{part}");
    }
    for (name, rows) in [("traces", 6 * SIZE), ("means", 6 * SIZE), ("spectra", 3 * 50)] {
        assert_eq!(lines(&files.path().join(format!("page/figures/{name}.csv"))), 1 + rows, "{name}");
    }
    let html = read("page/report/index.html");
    for text in ["The nerve in its cuff", "No animal was recorded", "pricking", "coloured_noise_uv"] {
        assert!(html.contains(text), "{text}");
    }
    assert_eq!(html.matches("<svg").count(), 4);

    let of_file = files.at("of_file");
    json(&["data", "inspect", &npz, "--page", &of_file]);
    let html = read("of_file/report/index.html");
    assert_eq!((html.matches("<svg").count(), html.contains("nerve.npz")), (3, true));
    assert!(!files.path().join("of_file/figures/nerve_section.csv").exists());
    // What was recorded is the same on both.
    let recorded = |table: &str| table.lines().filter(|line| line.starts_with("As recorded")).count();
    assert_eq!(recorded(&read("page/figures/traces.csv")), 3 * SIZE);
    assert!(read("page/figures/traces.csv").starts_with(&read("of_file/figures/traces.csv")));
    let (code, text) = failure(&["data", "inspect", &npz, "--page", &npz]);
    assert_eq!((code, text.contains("nerve.npz")), (2, true), "{text}");
}

#[test]
fn a_picture_lies_beside_its_numbers() {
    let files = Files::new();
    let (npz, picture) = (files.at("data.npz"), files.at("picture.png"));
    json(&["data", "inspect", &npz, "--picture", &picture]);
    let csv = std::fs::read_to_string(files.path().join("picture.csv")).unwrap();
    assert_eq!(csv.lines().count(), 1 + 3 * SIZE);
    assert!(csv.starts_with("panel,recording,class,contact,sample,time_ms,value\n0,0,dorsiflexion,0,0,0.0,"));
    let svg = std::fs::read_to_string(files.path().join("picture.svg")).unwrap();
    assert!(svg.contains("pricking") && svg.contains("The first test recording of each class in data.npz"));
    assert!(std::fs::read(&picture).unwrap().starts_with(b"\x89PNG"));
    let (code, text) = failure(&["data", "inspect", &npz, "--picture", &files.at("p.jpg")]);
    assert_eq!((code, text.contains(".png")), (2, true), "{text}");
}

#[test]
fn a_configuration_says_how_its_file_is_read() {
    let files = Files::new();
    let data = escape_data::read(files.at("data.npz").as_ref(), &Default::default()).unwrap().0;
    let scaled = |r: &escape_data::Recordings| r.x.iter().map(|v| v * 30.0).collect::<Vec<f32>>();
    let (train, test) = (scaled(&data.train), scaled(&data.test));
    let shape = |r: &escape_data::Recordings| [r.len(), 56, 100];
    write(
        &files.path().join("micro.npz"),
        &[
            ("train_x", &shape(&data.train), Values::F32(&train)),
            ("train_y", &[data.train.len()], Values::I64(&data.train.y)),
            ("test_x", &shape(&data.test), Values::F32(&test)),
            ("test_y", &[data.test.len()], Values::I64(&data.test.y)),
        ],
    )
    .unwrap();
    let (ann, micro) = (files.at("ann.pth"), files.at("micro.npz"));
    let run = |scaling: &str, out: &str| {
        let text =
            format!("name: a\ndata: {{file: {micro}, scaling: {scaling}}}\nann: {{checkpoint: {ann}}}\n");
        std::fs::write(files.path().join("run.yaml"), text).unwrap();
        escape(&["run", &files.at("run.yaml"), "--out", &files.at(out)])
    };
    let output = run("none", "no");
    assert_eq!(output.status.code(), Some(1));
    let output = run("auto", "out");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    let said = format!("train: scaled each of {} recordings", data.train.len());
    assert!(text.contains(&said), "{text}");
    let manifest: Value =
        serde_json::from_slice(&std::fs::read(files.path().join("out/manifest.json")).unwrap()).unwrap();
    assert_eq!(manifest["inputs"][0]["path"], micro.as_str());
}
