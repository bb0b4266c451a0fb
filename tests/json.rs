use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::support::{Files, escape, json};

const DOCUMENT: &str = include_str!("../docs/json.md");

/// The keys that docs/json.md has under each heading.
fn documented() -> BTreeMap<String, BTreeSet<String>> {
    let mut sections: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for section in DOCUMENT.split("\n## ").skip(1) {
        let (heading, body) = section.split_once('\n').unwrap();
        let first_cells = body.lines().filter_map(|line| line.strip_prefix("| `")?.split(" | ").next());
        let keys =
            first_cells.flat_map(|cell| cell.split(',').map(|key| key.trim().trim_matches('`').to_owned()));
        let keys: BTreeSet<String> = keys.collect();
        assert!(!keys.is_empty(), "{heading} has no keys");
        for name in heading.split(", ") {
            sections.insert(name.to_owned(), keys.clone());
        }
    }
    sections
}

/// Every path to a value: `a.b`, `a[]`, `[].a`.
fn paths(value: &Value, at: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            for (key, inner) in object {
                let dot = if at.is_empty() { "" } else { "." };
                paths(inner, &format!("{at}{dot}{key}"), found);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            items.iter().for_each(|item| paths(item, &format!("{at}[]"), found));
        }
        Value::Array(_) => drop(found.insert(format!("{at}[]"))),
        _ => drop(found.insert(at.to_owned())),
    }
}

/// Whether a key of the document stands for a path that was printed.
fn stands_for(key: &str, path: &str) -> bool {
    let key = key.trim_end_matches('?');
    match key.strip_suffix("...") {
        Some(start) => path.starts_with(start),
        // A list without items and an object that is null have nothing inside.
        None => path == key || key.strip_prefix(path).is_some_and(|rest| rest.starts_with(['.', '['])),
    }
}

fn check(heading: &str, keys: &BTreeSet<String>, printed: &[Value]) {
    let mut found = BTreeSet::new();
    printed.iter().for_each(|value| paths(value, "", &mut found));
    for path in &found {
        assert!(keys.iter().any(|key| stands_for(key, path)), "docs/json.md, {heading}: lacks `{path}`");
    }
    for key in keys.iter().filter(|key| !key.ends_with('?')) {
        assert!(
            found.iter().any(|path| stands_for(key, path)),
            "docs/json.md, {heading}: `{key}` was not printed: {printed:?}"
        );
    }
}

#[test]
fn every_key_that_is_printed_is_documented() {
    let files = Files::with_snn();
    let (ann, snn, data) = (files.at("ann.pth"), files.at("snn.pth"), files.at("data.npz"));
    let (out, tuned, trained) = (files.at("out"), files.at("tuned"), files.at("trained"));
    let (mat, made, copy, run) =
        (files.at("a.mat"), files.at("made.npz"), files.at("copy.pth"), files.at("run.yaml"));
    let (published, out_run) = (files.at("published.pth"), files.at("run"));
    let config = format!(
        "name: a\ndata: {{file: {data}}}\nann: {{checkpoint: {ann}}}\nconvert: [{{name: snn, timesteps: 1}}]\n\
         evaluate: {{samples: 2}}\n"
    );
    std::fs::write(files.path().join("run.yaml"), &config).unwrap();
    std::fs::write(files.path().join("study.yaml"), format!("{config}seeds: [1]\n")).unwrap();
    let (study, out_study, program) = (files.at("study.yaml"), files.at("study"), files.at("program"));
    let on = |command: &'static str, checkpoint: &str| {
        [command, "--checkpoint", checkpoint, "--data", &data].map(str::to_owned).to_vec()
    };
    let with = |mut arguments: Vec<String>, more: &[&str]| {
        arguments.extend(more.iter().map(|&word| word.to_owned()));
        arguments
    };
    let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<String>>();
    let calls: Vec<(&str, Vec<String>)> = vec![
        ("data simulate", words(&["data", "simulate", "--samples", "12", "--out", &made])),
        ("data convert", words(&["data", "convert", &data, &mat])),
        ("data inspect", words(&["data", "inspect", &mat])),
        ("train", words(&["train", "--data", &made, "--epochs", "1", "--out", &trained])),
        (
            "convert",
            with(
                on("convert", &ann),
                &["--preset", "published", "--timesteps", "20", "--samples", "2", "--out", &published],
            ),
        ),
        ("evaluate", with(on("evaluate", &ann), &["--limit", "2"])),
        ("evaluate", with(on("evaluate", &ann), &["--limit", "2", "--bits", "8", "--out", &out])),
        ("evaluate", with(on("evaluate", &snn), &["--limit", "2", "--out", &out])),
        (
            "finetune",
            with(
                on("finetune", &snn),
                &["--limit", "2", "--validation", "0", "--timesteps", "1", "--out", &tuned],
            ),
        ),
        ("export", words(&["export", &snn, "--c", &program])),
        ("spikes", with(on("spikes", &snn), &["--out", &out])),
        ("energy --rates", words(&["energy", "--rates", "0.3,0.6,0.5"])),
        ("energy --run", words(&["energy", "--run", &out])),
        ("report", words(&["report", &out])),
        ("run", words(&["run", &run, "--out", &out_run])),
        ("study report", words(&["run", &study, "--out", &out_study])),
        ("study status", words(&["study", "status", &out_study])),
        ("study cell", words(&["study", "cell", &out_study, "ann"])),
        ("study report", words(&["study", "report", &out_study])),
        ("checkpoint inspect", words(&["checkpoint", "inspect", &snn])),
        ("checkpoint convert", words(&["checkpoint", "convert", &snn, &copy])),
        ("bench", with(on("bench", &snn), &["--samples", "2", "--batch-size", "1", "--timesteps", "1"])),
    ];
    let documented = documented();
    // The last is printed where there is a cluster only: scripts/test-slurm.
    let mut seen: BTreeSet<String> = ["Errors", "demo", "run --slurm"].map(str::to_owned).into();
    for (heading, arguments) in &calls {
        let printed = json(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        let mut keys = documented[*heading].clone();
        if *heading == "data inspect" {
            keys.extend(documented["data convert"].iter().cloned());
        }
        check(heading, &keys, &[printed]);
        seen.insert((*heading).to_owned());
    }
    let failed = escape(&["--json", "data", "inspect", "/nowhere.npz"]);
    check("Errors", &documented["Errors"], &[serde_json::from_slice(&failed.stdout).unwrap()]);
    // A result of several lines.
    let frames = files.at("frames.f32");
    json(&["data", "convert", &data, &frames]);
    let mut bytes = std::fs::read(&frames).unwrap();
    bytes.truncate(30_000);
    std::fs::write(&frames, bytes).unwrap();
    let streamed = escape(&["--json", "stream", "--checkpoint", &snn, "--input", &frames, "--realtime"]);
    let lines: Vec<Value> =
        streamed.stdout.split(|b| *b == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect();
    assert!(lines.len() == 3 && lines[1]["error"].is_string(), "{lines:?}");
    check("stream", &documented["stream"], &lines);
    seen.insert("stream".to_owned());
    assert_eq!(
        seen,
        documented.keys().cloned().collect(),
        "a command without a call here, or the other way round"
    );
}

#[test]
fn keys_stand_for_paths() {
    assert!(
        stands_for("a.b", "a.b") && stands_for("a[].b?", "a[].b") && stands_for("content...", "content.x[]")
    );
    // An empty list, a null object.
    assert!(stands_for("a[].b", "a[]") && stands_for("a.b", "a"));
    assert!(!stands_for("a.b", "a.c") && !stands_for("ab", "a"));
}
