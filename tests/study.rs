//! Studies: many runs from one file, killed and resumed, grown, seen from outside, and on a cluster that is a stand-in.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

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
  - {name: tuned, from: direct, timesteps: [2, 1], samples: 8, batch_size: 8, validation: 2, teacher: {ann: original}}
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
    assert_eq!((report["cells"].as_u64(), report["done"].as_u64()), (Some(16), Some(16)), "{report}");
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

    // The tables of the second seed's networks, which are as whole as the study's own.
    let read = |file: &str| std::fs::read_to_string(Path::new(&out).join(file)).unwrap();
    let of_second: Vec<&str> = outcomes.lines().filter(|row| row.split(',').nth(6) != Some("1")).collect();
    let sorted =
        |rows: &[&str]| rows.iter().map(|row| (*row).to_owned()).collect::<std::collections::BTreeSet<_>>();
    let written = read("seeds/2/outcomes.csv");
    assert_eq!(sorted(&written.lines().collect::<Vec<_>>()), sorted(&of_second));
    let networks = |text: &str| -> Vec<String> {
        text.lines().map(|row| row.split(',').take(2).collect::<Vec<_>>().join(",")).collect()
    };
    assert!(networks(&read("seeds/2/energy.csv")) == networks(&read("energy.csv")), "in the same order");
    assert!(read("seeds/2/energy.csv") != read("energy.csv"));
    assert!(read("tables/claims.csv").contains(", n = 2)"));
    assert!(read("tables/energy-table.csv").contains("tuned,2,"));

    // Its energies are counted by its configuration; of a seed that it does not have any more nothing stays but what is not its own.
    let constants = concat!(env!("CARGO_MANIFEST_DIR"), "/../../configs/energy.yaml");
    for folder in [out.clone(), format!("{out}/seeds/2")] {
        let (code, text) = failure(&["energy", "--run", &folder, "--constants", constants]);
        assert!(code == 2 && text.contains("in the study's configuration"), "{text}");
    }
    std::fs::create_dir_all(Path::new(&out).join("seeds/9")).unwrap();
    std::fs::write(Path::new(&out).join("seeds/9/notes.txt"), "mine").unwrap();
    // Other constants make no new cells: all is counted again, Table 1 and other seeds too, and as before when they are gone.
    let dear = std::fs::read_to_string(constants).unwrap().replace("pJ: 0.9,", "pJ: 9.0,");
    std::fs::write(files.at("dear.yaml"), dear).unwrap();
    let set = format!("energy={{constants: {}}}", files.at("dear.yaml"));
    let report = json(&["run", &config, "--out", &out, "--resume", "--set", &set]);
    assert_eq!((report["cells"].as_u64(), report["done"].as_u64()), (Some(16), Some(16)), "{report}");
    let picojoules = |text: &str| -> f64 {
        text.lines()
            .find(|row| row.starts_with("direct,") && row.contains(",fp32,"))
            .map_or(0.0, |row| row.split(',').nth(4).unwrap().parse().unwrap())
    };
    let own: f64 = picojoules(&want["outcome_energy.csv"]);
    for file in ["outcome_energy.csv", "seeds/2/outcome_energy.csv"] {
        assert!(picojoules(&read(file)) > 1.001 * own && own > 0.0, "{file}");
    }
    assert!(read("seeds/2/energy.csv") != want["seeds/2/energy.csv"]);
    json(&["run", &config, "--out", &out, "--resume"]);
    let got = numbers(Path::new(&out));
    for (name, text) in &want {
        assert!(&got[name] == text, "{name}");
    }
    assert_eq!(std::fs::read_dir(Path::new(&out).join("cells")).unwrap().count(), 16);

    for file in ["seeds/7", "seeds/9/energy.csv", "seeds/9/outcomes.csv", "seeds/2/energy.csv"] {
        std::fs::write(Path::new(&out).join(file), "of before").unwrap();
    }
    json(&["study", "report", &out]);
    assert!(read("seeds/2/energy.csv") == want["seeds/2/energy.csv"] && read("seeds/7") == "of before");
    let left = std::fs::read_dir(Path::new(&out).join("seeds/9")).unwrap().count();
    assert_eq!((left, read("seeds/9/notes.txt").as_str()), (1, "mine"));
    json(&["report", &format!("{out}/seeds/2")]);
    assert!(read("seeds/2/report/index.html").contains("killed, seed 2"));

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
    assert_eq!(report["cells"], 18);
    assert_eq!(std::fs::read_dir(Path::new(&out).join("cells")).unwrap().count(), before + 2);
    assert_eq!(finished(&first), then);
}

/// A study of one seed and one fine-tuning, in a folder.
struct Short {
    config: String,
}

impl Short {
    fn run(&self, folder: &str, more: &[&str]) -> Value {
        let tuned =
            "finetune=[{name: tuned, from: direct, timesteps: 2, samples: 8, batch_size: 8, validation: 2}]";
        let short = ["--set", tuned, "--set", "seeds=[1]", "--set", "spikes={network: direct}"];
        json(&[&["run", &self.config, "--out", folder][..], &short, more].concat())
    }
}

/// The folder of the cell whose name begins so, of those that the study has now.
fn cell(study: &str, name: &str) -> PathBuf {
    let status = json(&["study", "status", study]);
    let mut names = status["cells"].as_array().unwrap().iter().map(|cell| cell["cell"].as_str().unwrap());
    Path::new(study).join("cells").join(names.find(|cell| cell.starts_with(name)).unwrap())
}

fn read(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(path.as_ref()).unwrap_or_else(|why| panic!("{}: {why}", path.as_ref().display()))
}

#[test]
fn what_a_study_shows_is_of_its_networks_as_they_are_now() {
    let files = Files::new();
    let study = Short { config: configured(&files) };
    let out = files.at("out");
    let shown = ["recording.csv", "input_spikes.csv", "raster.csv", "latency.csv"];
    let of_study = || shown.map(|name| read(Path::new(&out).join(name)));
    study.run(&out, &[]);
    let before = of_study();
    assert!(before[2].contains("direct,") && before[3].contains("direct,2,"), "{before:?}");
    let networks = |latency: &str| {
        latency.lines().skip(1).map(|row| row.split(',').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(networks(&before[3]), ["original", "modified", "published", "direct", "tuned"]);

    // Another network by the same name is timed and followed anew.
    study.run(&out, &["--resume", "--set", "convert.1.scale=0.5"]);
    let changed = of_study();
    let own = cell(&out, "direct-T2");
    assert_eq!(changed[2], read(own.join("spikes-0/raster.csv")));
    assert_ne!(changed[2], before[2]);
    let row = |latency: &str| latency.lines().find(|row| row.starts_with("direct,")).unwrap().to_owned();
    assert!(read(own.join("latency.csv")).contains(&row(&changed[3])));
    assert_ne!(row(&changed[3]), row(&before[3]));
    // So is another recording.
    study.run(&out, &["--resume", "--set", "spikes.sample=1"]);
    let other = of_study();
    assert!((0..3).all(|i| other[i] != before[i]), "{other:?}");
    assert_eq!(other[3], before[3]);
    // What was there before is there again, and nothing is timed that was.
    study.run(&out, &["--resume", "--set", "timing=false"]);
    assert_eq!(of_study(), before);
    // What is gone of it is made again.
    std::fs::write(cell(&out, "direct-T2").join("latency.csv"), "").unwrap();
    std::fs::remove_file(cell(&out, "direct-T2").join("spikes-0/recording.csv")).unwrap();
    study.run(&out, &["--resume"]);
    let again = of_study();
    assert_eq!((&again[..3], networks(&again[3])), (&before[..3], networks(&before[3])));
    let (code, text) =
        failure(&["run", &study.config, "--out", &out, "--resume", "--set", "spikes.sample=100"]);
    assert!(code == 2 && text.contains("spikes.sample: 100 is not among the "), "{text}");
    // Where none is followed, none is shown.
    study.run(&out, &["--resume", "--set", "spikes=null"]);
    assert!(shown[..3].iter().all(|name| !Path::new(&out).join(name).exists()));
    // Nor energies, where none are wanted.
    let energies = ["energy.csv", "energy_steps.csv", "tables/claims.csv", "figures/fig7_energy.csv"];
    let there = || energies.iter().filter(|name| Path::new(&out).join(name).exists()).collect::<Vec<_>>();
    assert_eq!(there().len(), energies.len());
    study.run(&out, &["--resume", "--set", "spikes=null", "--set", "energy=false"]);
    assert_eq!(there(), Vec::<&&str>::new());
}

#[test]
fn a_study_mends_what_is_gone_and_goes_on_in_another_place() {
    let files = Files::new();
    let study = Short { config: configured(&files) };
    let first = files.at("first");
    let report = study.run(&first, &["--set", "timing=false"]);
    let cells = report["cells"].as_u64().unwrap();
    let want = numbers(Path::new(&first));
    let out = files.at("elsewhere");
    std::fs::rename(&first, &out).unwrap();
    let folder = Path::new(&out);
    let goes_on = |what: &str| {
        let report = study.run(&out, &["--resume", "--set", "timing=false"]);
        assert_eq!(report["done"].as_u64(), Some(cells), "{what}");
        let got = numbers(folder);
        let changed: Vec<&String> =
            want.keys().chain(got.keys()).filter(|name| want.get(*name) != got.get(*name)).collect();
        assert!(changed.is_empty(), "{what}: {changed:?}");
    };
    // A report of what is done needs nothing but the folder.
    let report = json(&["study", "report", &out]);
    assert_eq!(report["done"].as_u64(), Some(cells));
    goes_on("moved");
    let status = || json(&["study", "status", &out])["counts"]["done"].as_u64().unwrap();
    // Files that a cell had made, in tables, networks and recordings; emptied or gone.
    let made = [
        ("direct-T2", "evaluations.csv"),
        ("direct-T2", "activity.csv"),
        ("direct-T1", "direct.pth"),
        ("modified", "ann_activity.csv"),
        ("original", "training.csv"),
        ("tuned", "finetune.csv"),
        ("original", "ann/best.pth"),
        ("modified", "config.resolved.yaml"),
        ("recordings", "recordings.npz"),
        ("published", "finished.json"),
    ];
    for (i, (name, file)) in made.into_iter().enumerate() {
        let path = cell(&out, name).join(file);
        match i % 2 {
            0 => std::fs::write(&path, "").unwrap(),
            _ => std::fs::remove_file(&path).unwrap(),
        }
        assert_eq!(status(), cells - 1, "{}", path.display());
        goes_on(file);
    }
    // Nobody knows what is gone beside a file that would say so.
    std::fs::write(cell(&out, "direct-T2").join("finished.json"), "{").unwrap();
    std::fs::remove_file(cell(&out, "direct-T2").join("activity.csv")).unwrap();
    goes_on("finished.json and another");
    // The index follows from the settings.
    let index = folder.join("study.json");
    let before = read(&index);
    for text in ["", "{\"name\": \"small\"}"] {
        std::fs::write(&index, text).unwrap();
        let (code, text) = failure(&["study", "status", &out]);
        assert!(code == 2 && text.contains("--resume"), "{text}");
        goes_on("study.json");
        assert_eq!(read(&index), before);
    }
    std::fs::remove_file(&index).unwrap();
    goes_on("no study.json");
    assert_eq!(read(&index), before);
    assert!([&first, &out].iter().all(|place| !before.contains(*place)), "{before}");

    // Nobody else changes it while one is at work.
    let held = std::fs::File::open(&out).unwrap();
    held.lock().unwrap();
    let (_, text) = failure(&["run", &study.config, "--out", &out, "--resume"]);
    assert!(text.contains("at work in this folder"), "{text}");
    assert_eq!(read(&index), before);
    drop(held);

    // Tables outlive the cells that they came from.
    std::fs::remove_dir_all(folder.join("cells")).unwrap();
    let (code, text) = failure(&["study", "report", &out]);
    assert!(code == 2 && text.contains("no network of this study is done"), "{text}");
    assert_eq!(read(folder.join("outcomes.csv")), want["outcomes.csv"]);
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
