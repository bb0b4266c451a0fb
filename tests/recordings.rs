//! Every command reads recordings through the same options, so few commands stand for all.

use std::path::Path;

use escape_checkpoint::input::KnownInput;
use escape_checkpoint::{Checkpoint, TensorData, Value as CheckpointValue};
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

/// The recordings of a file, contacts and samples changed over.
fn swapped(from: &str, to: &str) {
    let data = escape_data::read(from.as_ref(), &Default::default()).unwrap().0;
    let turned: Vec<f32> =
        data.test.x.chunks_exact(SIZE).flat_map(|x| (0..SIZE).map(|i| x[i % 56 * 100 + i / 56])).collect();
    let n = data.test.len();
    write(
        to.as_ref(),
        &[("test_x", &[n, 100, 56], Values::F32(&turned)), ("test_y", &[n], Values::I64(&data.test.y))],
    )
    .unwrap();
}

/// 100 x 56 recordings fit the weights of a network for 56 x 100, and are refused all the same.
#[test]
fn a_network_knows_rows_columns_rate_and_nerve() {
    let files = Files::with_snn();
    let (data, ann, snn, turned) =
        (files.at("data.npz"), files.at("ann.pth"), files.at("snn.pth"), files.at("t.npz"));
    swapped(&data, &turned);
    for checkpoint in [&ann, &snn] {
        let call = |data| ["evaluate", "--checkpoint", checkpoint, "--data", data];
        let (code, text) = failure(&call(&turned));
        assert!(
            code == 1 && text.contains("100 contacts x 56 samples") && text.contains("--axes N,S,C"),
            "{text}"
        );
        let right = json(&[&call(&turned)[..], &["--axes", "N,S,C"]].concat());
        let plain = json(&call(&data));
        assert_eq!((&right["confusion"], &right["loss"]), (&plain["confusion"], &plain["loss"]));
    }
    let (code, text) = failure(&["data", "inspect", &turned, "--axes", "N,C"]);
    assert!(code == 2 && text.contains("each of N (recordings)"), "{text}");

    // What is trained knows what it was trained on; what is converted from it, and copies, know it still.
    let trained = files.at("trained");
    json(&["train", "--data", &data, "--epochs", "1", "--out", &trained]);
    let (best, converted, copy) =
        (files.at("trained/best.pth"), files.at("converted.pth"), files.at("copy.safetensors"));
    json(&["convert", "--checkpoint", &best, "--data", &data, "--out", &converted]);
    json(&["checkpoint", "convert", &converted, &copy]);
    for path in [&best, &converted, &copy] {
        let known = KnownInput::of(&Checkpoint::load(path.as_ref()).unwrap());
        let nerve = Some("seed 0, animal 2".to_owned());
        assert_eq!(known, KnownInput { shape: Some((56, 100)), sample_rate_hz: Some(30e3), nerve }, "{path}");
    }
    let said = remarks(&["evaluate", "--checkpoint", &copy, "--data", &data]);
    assert!(!said.contains("another"), "{said}");
    // Another animal, another seed, another sampling rate.
    let other = files.at("other.npz");
    json(&["data", "simulate", "--samples", "24", "--seed", "3", "--animal", "4", "--out", &other]);
    let said = remarks(&["evaluate", "--checkpoint", &copy, "--data", &other]);
    assert!(
        said.contains("another nerve (seed 0, animal 2) than these recordings are of (seed 3, animal 4)"),
        "{said}"
    );
    let mut slow = escape_data::read(data.as_ref(), &Default::default()).unwrap().0;
    slow.sample_rate_hz = 24e3;
    escape_data::write_mat(other.replace("npz", "mat").as_ref(), &slow).unwrap();
    let said = remarks(&["evaluate", "--checkpoint", &copy, "--data", &other.replace("npz", "mat")]);
    assert!(said.contains("trained on recordings of 30000 Hz, these are of 24000 Hz"), "{said}");
}

#[test]
fn changed_places_are_seen() {
    let files = Files::new();
    let (data, ann) = (files.at("data.npz"), files.at("ann.pth"));
    let (code, text) = failure(&["evaluate", "--checkpoint", &data, "--data", &ann]);
    assert!(code == 1 && text.contains("these are recordings") && text.contains("changed places"), "{text}");
    let (code, text) = failure(&["evaluate", "--checkpoint", &ann, "--data", &ann]);
    assert!(code == 1 && text.contains("this is a checkpoint (the modified network"), "{text}");
    let (code, text) = failure(&["train", "--data", &ann, "--out", &files.at("out")]);
    assert!(code == 1 && text.contains("changed places"), "{text}");
}

/// Values that stand sample by sample, as reshape(x, [], N) of contacts x samples x N gives them, are seen and read.
#[test]
fn the_other_order_of_values_is_seen() {
    let files = Files::new();
    let mut data = escape_data::read(files.at("data.npz").as_ref(), &Default::default()).unwrap().0;
    let right = data.clone();
    for split in [&mut data.train, &mut data.test] {
        split.x =
            split.x.chunks_exact(SIZE).flat_map(|x| (0..SIZE).map(|i| x[i % 56 * 100 + i / 56])).collect();
    }
    let (mat, npz) = (files.at("natural.mat"), files.at("right.npz"));
    escape_data::write_mat(mat.as_ref(), &data).unwrap();
    let report = json(&["data", "inspect", &mat]);
    let notes = texts(&report).join("; ");
    assert!(
        notes.contains("train: the other order of values fits clearly better")
            && notes.contains("--axes C,S,N"),
        "{notes}"
    );
    json(&["data", "convert", &mat, &npz, "--axes", "C,S,N"]);
    assert!(escape_data::read(npz.as_ref(), &Default::default()).unwrap().0 == right);
    let report = json(&["data", "inspect", &npz]);
    assert_eq!(texts(&report), Vec::<&str>::new());
    let alike = &report["train"]["neighbours"];
    assert!(alike["time"].as_f64() > Some(0.8) && alike["contacts"].as_f64() > Some(0.6), "{alike}");
}

/// Tensors that torch.save kept, by their usual names and by others.
#[test]
fn tensors_of_torch_are_data_files() {
    let files = Files::new();
    let data = escape_data::read(files.at("data.npz").as_ref(), &Default::default()).unwrap().0;
    let ann = files.at("ann.pth");
    let labels = CheckpointValue::List(data.test.y.iter().map(|&y| CheckpointValue::Int(y)).collect());
    let x = TensorData::from_f32(&[data.test.len(), 1, 56, 100], &data.test.x);
    let keep = |name: &str, keys: [&str; 2]| {
        let entries = [(keys[0].into(), x.clone().into()), (keys[1].into(), labels.clone())];
        escape_checkpoint::write(&files.path().join(name), &CheckpointValue::Dict(entries.to_vec())).unwrap();
        files.at(name)
    };
    let usual = keep("usual.pt", ["test_x", "test_y"]);
    let plain = json(&["evaluate", "--checkpoint", &ann, "--data", &files.at("data.npz")]);
    let found = json(&["evaluate", "--checkpoint", &ann, "--data", &usual]);
    assert_eq!(found["confusion"], plain["confusion"]);
    let other = keep("other.pt", ["signals", "classes"]);
    let call = ["evaluate", "--checkpoint", &ann, "--data", &other];
    let (code, text) = failure(&call);
    assert!(code == 1 && text.contains("it holds signals (") && text.contains("--x NAME --y NAME"), "{text}");
    let found = json(&[&call[..], &["--x", "signals", "--y", "classes"]].concat());
    assert_eq!(found["confusion"], plain["confusion"]);
    let (code, _) = failure(&[&call[..], &["--x", "signals"]].concat());
    assert_eq!(code, 2);
    // As a checkpoint it is none.
    let (code, text) = failure(&["evaluate", "--checkpoint", &usual, "--data", &usual]);
    assert!(code == 1 && text.contains("changed places"), "{text}");
}

/// An electrode that broke, from the command line and from a configuration; an empty result is no success.
#[test]
fn broken_contacts_are_zeroed_or_replaced() {
    let files = Files::new();
    let path = files.path().join("broken.npz");
    let mut x = values(4, 1.0);
    (0..4).for_each(|n| x[n * SIZE + 1705] = f32::NAN);
    write_test(&path, &x, &[0, 1, 2, 1]);
    let (broken, out, ann) = (files.at("broken.npz"), files.at("out.npz"), files.at("ann.pth"));
    let (code, text) = failure(&["data", "convert", &broken, &out]);
    assert!(code == 1 && text.contains("contact 17 holds NaN") && text.contains("--bad-contacts"), "{text}");
    let (code, text) = failure(&["data", "convert", &broken, &out, "--drop-bad"]);
    assert!(code == 1 && text.contains("nothing is left of 4 recordings"), "{text}");
    let said = remarks(&["data", "convert", &broken, &out, "--bad-contacts", "mean"]);
    assert!(said.contains("neighbours' mean: contact 17 in every recording"), "{said}");
    let text = format!(
        "name: a\ndata: {{file: {broken}, bad_contacts: zero, x: [test_x, test_x], y: [test_y, test_y], axes: 'N,C,S', \
         samples: 100}}\nann: {{checkpoint: {ann}}}\nreport: false\n"
    );
    std::fs::write(files.path().join("run.yaml"), text).unwrap();
    let said = remarks(&["run", &files.at("run.yaml"), "--out", &files.at("run")]);
    assert!(said.contains("train: zeroed: contact 17") && said.contains("test: zeroed"), "{said}");
}

/// A window of another length, told by --samples (by --window where that counts recordings).
#[test]
fn windows_have_their_length() {
    let files = Files::new();
    let (flat, ann) = (files.at("flat.npz"), files.at("ann.pth"));
    let x = values(6, 1.0);
    write(
        flat.as_ref(),
        &[("test_x", &[6, SIZE], Values::F32(&x)), ("test_y", &[6], Values::I64(&[0, 1, 2, 0, 1, 2]))],
    )
    .unwrap();
    let shape = |more: &[&str]| {
        let report = json(&[&["data", "inspect", &flat][..], more].concat());
        [&report["test"]["contacts"], &report["test"]["samples"]].map(|n| n.as_u64().unwrap())
    };
    assert_eq!((shape(&["--samples", "200"]), shape(&["--window", "50"])), ([28, 200], [112, 50]));
    let (code, text) = failure(&["data", "inspect", &flat, "--samples", "300"]);
    assert!(code == 1 && text.contains("5600 values, which windows of 300 samples do not divide"), "{text}");
    let convert =
        ["convert", "--checkpoint", &ann, "--data", &flat, "--split", "test", "--out", &files.at("s.pth")];
    let (code, text) = failure(&[&convert[..], &["--window", "200"]].concat());
    assert!(code == 1 && text.contains("28 contacts x 200 samples"), "{text}");
    json(&[&convert[..], &["--window", "100", "--samples", "4"]].concat());
    let (code, text) =
        failure(&["evaluate", "--checkpoint", &files.at("s.pth"), "--data", &flat, "--samples", "200"]);
    assert!(code == 1 && text.contains("28 contacts x 200") && text.contains("--samples 100"), "{text}");
}
