//! Studies: many runs from one file, killed and resumed, grown, seen from outside, and on a cluster that is a stand-in.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::{Files, escape, failure, json};

const STUDY: &str = "
name: small
seeds: [1, 2]
data: {simulate: {samples: 40}}
evaluate: {batch_size: 8}
ann:
  - {name: original, train: {arch: original, channels: 8, hidden: 16, epochs: 1, batch_size: 8}}
  - {name: modified, checkpoint: ann.pth}
convert:
  - {name: published, ann: modified, preset: published, samples: 2, balance_timesteps: 20, timesteps: 5, also_at: [3]}
  - {name: direct, ann: modified, samples: 8, timesteps: [2, 1]}
finetune:
  - {name: stdb, from: published, timesteps: [3], samples: 8, batch_size: 8}
  - {name: tuned, from: direct, timesteps: [2, 1], samples: 8, batch_size: 8, validation: 2}
spikes: {network: tuned}
";

fn configured(files: &Files) -> String {
    // Small networks: what is tested is how cells are done, not what they compute.
    let (ann, data) = (files.at("small"), files.at("data.npz"));
    let small = ["--channels", "8", "--hidden", "16", "--epochs", "1", "--validation", "2"];
    json(&[&["train", "--data", &data, "--out", &ann][..], &small].concat());
    let text = STUDY.replace("ann.pth", &format!("{ann}/best.pth"));
    std::fs::write(files.path().join("study.yaml"), text).unwrap();
    files.at("study.yaml")
}

/// All tables of a study that do not hold times, cells' included.
fn numbers(folder: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(here) = folders.pop() {
        for entry in std::fs::read_dir(&here).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.strip_prefix(folder).unwrap().display().to_string();
            assert!(!name.ends_with(".tmp"), "left behind: {name}");
            let timed = ["finetune.csv", "training.csv", "latency.csv", "table1.csv"];
            if name.ends_with(".csv") && !timed.iter().any(|t| name.ends_with(t)) {
                found.insert(name, std::fs::read_to_string(&path).unwrap());
            }
        }
    }
    found
}

#[test]
fn a_study_is_killed_again_and_again_and_ends_with_the_same_numbers() {
    let files = Files::new();
    let config = configured(&files);
    let whole = files.at("whole");
    let begin = Instant::now();
    let report = json(&["run", &config, "--out", &whole]);
    let seconds = begin.elapsed().as_secs_f64();
    assert_eq!((report["cells"].as_u64(), report["done"].as_u64()), (Some(14), Some(14)), "{report}");
    let want = numbers(Path::new(&whole));
    let outcomes = &want["outcomes.csv"];
    // Two ANNs, one of them for two seeds; published at two T, stdb and tuned for two seeds.
    assert_eq!(outcomes.lines().count(), 1 + 3 + 4 + 2 + 2 + 4, "{outcomes}");

    // Whatever moment it is killed at, together with what it has started.
    let out = files.at("killed");
    let mut moment = 0x9e37_79b9_u64;
    let mut kills = 0;
    for n in 0..50 {
        moment = moment.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let wait = (moment >> 33) as f64 / f64::from(1u32 << 31) * seconds / 20.0;
        let mut arguments = vec!["run", &config, "--out", &out, "--quiet", "--device", "cpu"];
        if n > 0 {
            arguments.push("--resume");
        }
        let mut study = Command::new(env!("CARGO_BIN_EXE_escape-snn"))
            .args(&arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_secs_f64(wait));
        if study.try_wait().unwrap().is_none() {
            kills += 1;
            study.kill().unwrap();
        }
        study.wait().unwrap();
    }
    assert!(kills > 10, "{kills} kills of 50");
    let report = json(&["run", &config, "--out", &out, "--resume"]);
    assert_eq!(report["done"], report["cells"]);
    let got = numbers(Path::new(&out));
    assert_eq!(got.keys().collect::<Vec<_>>(), want.keys().collect::<Vec<_>>());
    for (name, text) in &want {
        assert_eq!(&got[name], text, "{name}");
    }

    // The page and its tables, in every form.
    let page = std::fs::read_to_string(Path::new(&out).join("report/index.html")).unwrap();
    for text in ["Table 1", "Table 2", "Table 3", "mean and standard deviation over the seeds", "tuned"] {
        assert!(page.contains(text), "{text}");
    }
    for file in ["tables/table1.tex", "tables/table2.md", "tables/table3.csv", "raster.csv", "latency.csv"] {
        assert!(Path::new(&out).join(file).is_file(), "{file}");
    }

    // A study that grows does what is new and nothing else.
    let before = std::fs::read_dir(Path::new(&out).join("cells")).unwrap().count();
    let finished = |name: &str| {
        let path = Path::new(&out).join("cells").join(name).join("finished.json");
        std::fs::metadata(path).unwrap().modified().unwrap()
    };
    let status = json(&["study", "status", &out]);
    let first = status["cells"][0]["cell"].as_str().unwrap().to_owned();
    let then = finished(&first);
    let set = "finetune.0.timesteps=[3, 4]";
    let report = json(&["run", &config, "--out", &out, "--resume", "--set", set]);
    assert_eq!(report["cells"], 16);
    assert_eq!(std::fs::read_dir(Path::new(&out).join("cells")).unwrap().count(), before + 2);
    assert_eq!(finished(&first), then);
}

#[test]
fn a_cell_that_fails_is_told_and_the_others_go_on() {
    let files = Files::new();
    let config = configured(&files);
    let out = files.at("out");
    // Two cells of a study that was only begun, by hand.
    let begun = ["--set", "finetune=[]", "--set", "spikes=null", "--set", "timing=false"];
    let (code, text) = failure(&[&["run", &config, "--out", &out, "--slurm"][..], &begun].concat());
    assert!(code == 1 && text.contains("sbatch"), "{text}");
    let status = json(&["study", "status", &out]);
    let cells: Vec<&str> =
        status["cells"].as_array().unwrap().iter().map(|c| c["cell"].as_str().unwrap()).collect();
    assert_eq!(status["counts"]["ready"], 1, "the recordings: {status}");
    let direct = cells.iter().find(|name| name.starts_with("direct-T2")).unwrap();
    let (code, text) = failure(&["study", "cell", &out, direct]);
    assert!(code == 2 && text.contains("needs recordings-"), "{text}");
    assert!(failure(&["study", "cell", &out, "nobody"]).1.contains("no cell of the study"));
    assert!(failure(&["study", "status", &files.at("nowhere")]).1.contains("expected the folder of a study"));
    json(&["study", "cell", &out, cells[0]]);

    // The recordings are damaged: whatever reads them fails, in words.
    let data = Path::new(&out).join("cells").join(cells[0]).join("recordings.npz");
    std::fs::write(&data, "no archive").unwrap();
    let output = escape(&[&["run", &config, "--out", &out, "--resume", "--jobs", "2"][..], &begun].concat());
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("recordings.npz") && text.contains("log.txt"), "{text}");
    let status = json(&["study", "status", &out]);
    assert_eq!(status["counts"]["done"], 1);
    assert_eq!(status["counts"]["failed"].as_u64().unwrap() + 1, cells.len() as u64, "{status}");

    // Mended, it goes on.
    std::fs::remove_file(data.with_file_name("finished.json")).unwrap();
    let report = json(&[&["run", &config, "--out", &out, "--resume"][..], &begun].concat());
    assert_eq!(report["done"].as_u64(), Some(cells.len() as u64));
}

#[test]
fn what_is_no_study_is_refused() {
    let files = Files::new();
    let config = configured(&files);
    let out = files.at("out");
    let refused = |more: &[&str]| failure(&[&["run", &config, "--out", &out][..], more].concat());
    let (code, text) = refused(&["--seed", "3"]);
    assert!(code == 2 && text.contains("seeds of its own"), "{text}");
    let (code, text) = refused(&["--set", "convert.1.method=odd"]);
    assert!(code == 2 && text.contains("convert 'direct'") && text.contains("method"), "{text}");
    assert_eq!(refused(&["--partition", "short"]).0, 2);
    assert!(!Path::new(&out).exists());
    // A run knows neither jobs nor clusters.
    let run = files.path().join("run.yaml");
    std::fs::write(&run, "name: r\ndata: {simulate: {samples: 40}}\nann: {train: {epochs: 1}}\n").unwrap();
    let (code, text) = failure(&["run", &run.display().to_string(), "--jobs", "2"]);
    assert!(code == 2 && text.contains("this is a run"), "{text}");
}
