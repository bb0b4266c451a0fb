use std::process::{Command, Stdio};
use std::time::Duration;

use escape_checkpoint::{Checkpoint, DType, TensorData, Value, write};
use escape_network::arch::Architecture;

use crate::support::{Files, escape, failure, json};

#[test]
fn a_checkpoint_goes_through_safetensors_and_back() {
    let files = Files::with_snn();
    let (pth, safetensors, back) = (files.at("snn.pth"), files.at("b.safetensors"), files.at("c.pth"));
    let written = json(&["checkpoint", "convert", &pth, &safetensors]);
    assert_eq!(written["tensors"], 5);
    json(&["checkpoint", "convert", &safetensors, &back]);
    let [first, last] = [&pth, &back].map(|path| Checkpoint::load(path.as_ref()).unwrap());
    assert_eq!(first, last);
    // Thresholds, preset and all: the file is as good as the other.
    let data = files.at("data.npz");
    let [a, b] = [&pth, &safetensors].map(|checkpoint| {
        let mut result = json(&["evaluate", "--checkpoint", checkpoint, "--data", &data]);
        result.as_object_mut().unwrap().remove("seconds");
        result
    });
    assert_eq!(a, b);
    // And it can be made directly.
    let direct = files.at("direct.safetensors");
    json(&["convert", "--checkpoint", &files.at("ann.pth"), "--data", &data, "--out", &direct]);
    assert_eq!(Checkpoint::load(direct.as_ref()).unwrap().thresholds, first.thresholds);
}

#[test]
fn inspection_tells_everything() {
    let files = Files::with_snn();
    files.save("ig1.pth", Architecture::Ig1, 64);
    let found = json(&["checkpoint", "inspect", &files.at("snn.pth")]);
    let text = found["network"].as_str().unwrap();
    let expected = "the modified network of the ESCAPE-NET family for recordings of 56 contacts x 100 samples, as a \
                    spiking network for 4 timesteps";
    assert_eq!(text, expected);
    assert!(found["format"].as_str().unwrap().contains("PyTorch 1.6"));
    assert_eq!(found["sha256"].as_str().unwrap().len(), 64);
    assert_eq!(found["content"]["thresholds"].as_array().unwrap().len(), 5);
    let found = json(&["checkpoint", "inspect", &files.at("ann.pth")]);
    let weight = &found["content"]["state_dict"]["module.features.0.weight"];
    assert_eq!(
        (&weight["dtype"], &weight["shape"]),
        (&"torch.float32".into(), &serde_json::json!([64, 1, 8, 8]))
    );
    // PyTorch's initial values are uniform within +-1/8.
    assert!(weight["max"].as_f64().unwrap() <= 0.125 && weight["sd"].as_f64().unwrap() > 0.06);
    assert_eq!(weight["not_finite"], 0);

    let found = json(&["checkpoint", "inspect", &files.at("ig1.pth")]);
    let text = found["network"].as_str().unwrap();
    assert!(text.starts_with("the ig1 network") && text.contains("takes 25600 features"), "{text}");
}

#[test]
fn half_precision_is_for_weights_that_it_can_hold() {
    let files = Files::with_snn();
    let small = files.at("half.pth");
    json(&["checkpoint", "convert", &files.at("snn.pth"), &small, "--half"]);
    let mut checkpoint = Checkpoint::load(small.as_ref()).unwrap();
    assert!(checkpoint.weights.iter().all(|(_, w)| w.dtype == DType::F16));

    let counter =
        TensorData { dtype: DType::I64, shape: vec![], bytes: 100_000i64.to_le_bytes().to_vec().into() };
    checkpoint.weights.push(("counter".to_owned(), counter.clone()));
    checkpoint.save(small.as_ref()).unwrap();
    json(&["checkpoint", "convert", &small, &files.at("again.pth"), "--half"]);
    assert_eq!(Checkpoint::load(files.at("again.pth").as_ref()).unwrap().weights[5].1, counter);

    checkpoint.weights[5].1 = TensorData::from_f32(&[2], &[1.0, 70_000.0]);
    checkpoint.save(small.as_ref()).unwrap();
    let (code, message) = failure(&["checkpoint", "convert", &small, &files.at("inf.pth"), "--half"]);
    assert!(code == 1 && message.contains("counter has values from 1 to 70000"), "{code}: {message}");
}

#[test]
fn json_of_an_inspection_loses_nothing() {
    let files = Files::new();
    let path = files.at("odd.pth");
    let s = |text: &str| Value::Str(text.to_owned());
    let long = "x".repeat(300);
    let value = Value::Dict(vec![
        (s(&long), Value::Set(vec![Value::Int(3)])),
        (s("mixed"), Value::Dict(vec![(Value::Int(1), s("a")), (s("1"), s("b"))])),
        (s("bytes"), Value::Bytes(vec![7, 255])),
    ]);
    write(path.as_ref(), &value).unwrap();
    let content = json(&["checkpoint", "inspect", &path])["content"].clone();
    assert_eq!(content[long.as_str()], serde_json::json!([3]));
    assert_eq!(content["mixed"], serde_json::json!([[1, "a"], ["1", "b"]]));
    assert_eq!(content["bytes"]["bytes"], serde_json::json!([7, 255]));
}

#[test]
fn wrong_names_for_checkpoints_are_refused() {
    let files = Files::new();
    let (ann, text) = (files.at("ann.pth"), files.at("out.txt"));
    let (code, message) = failure(&["checkpoint", "convert", &ann, &text]);
    assert!(code == 2 && message.contains(".safetensors"), "{code}: {message}");
    let (code, message) = failure(&["checkpoint", "convert", &ann, &ann]);
    assert!(code == 2 && message.contains("ann.pth"), "{code}: {message}");
}

#[test]
fn a_killed_process_leaves_the_old_file_or_the_new_one() {
    let files = Files::new();
    files.save("other.pth", Architecture::Original, 56);
    let out = files.path().join("out.safetensors");
    let start = |from: &str| {
        Command::new(env!("CARGO_BIN_EXE_escape-snn"))
            .args(["--quiet", "--force", "checkpoint", "convert", &files.at(from)])
            .arg(&out)
            .stdout(Stdio::null())
            .spawn()
            .unwrap()
    };
    assert!(start("ann.pth").wait().unwrap().success());
    let old = std::fs::read(&out).unwrap();
    assert!(start("other.pth").wait().unwrap().success());
    let new = std::fs::read(&out).unwrap();
    assert_ne!(old, new);
    std::fs::write(&out, &old).unwrap();
    // Killed while the new file grows beside the old one, and at other times.
    let growing = || {
        let names = std::fs::read_dir(files.path()).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.to_string_lossy().ends_with(".tmp")).count()
    };
    let mut within = 0;
    for round in 0..20 {
        let before = growing();
        let mut process = start("other.pth");
        while growing() == before && process.try_wait().unwrap().is_none() {}
        std::thread::sleep(Duration::from_micros(500 * round));
        process.kill().unwrap();
        within += u32::from(!process.wait().unwrap().success() && growing() > before);
        let found = std::fs::read(&out).unwrap();
        assert!(found == old || found == new, "half a file in round {round}");
        if found == new {
            std::fs::write(&out, &old).unwrap();
        }
    }
    assert!(within > 0, "no process was killed while it wrote");
}

/// What the program says beside its result.
fn notes(arguments: &[&str]) -> String {
    let output = escape(arguments);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{arguments:?}: {text}");
    text
}

#[test]
fn a_network_is_taken_from_files_that_are_not_the_study_s() {
    let files = Files::new();
    let (ann, data) = (files.at("ann.pth"), files.at("data.npz"));
    let weights = Checkpoint::load(ann.as_ref()).unwrap().weights;
    let named = |rename: &dyn Fn(&str) -> String| {
        let each = weights.iter().map(|(name, w)| (Value::Str(rename(name)), Value::from(w.clone())));
        Value::OrderedDict(each.collect())
    };
    let path = files.at("other.pth");
    let save = |entries: Vec<(&str, Value)>| {
        let entries = entries.into_iter().map(|(key, value)| (Value::from(key), value));
        write(path.as_ref(), &Value::Dict(entries.collect())).unwrap();
    };
    let logits = |checkpoint: &str, more: &[&str]| {
        let mut result = json(&[&["evaluate", "--checkpoint", checkpoint, "--data", &data], more].concat());
        result.as_object_mut().unwrap().remove("seconds");
        result
    };
    let expected = logits(&ann, &[]);

    save(vec![("net", named(&|name| format!("model.{name}"))), ("epoch", Value::Int(3))]);
    let said = notes(&["evaluate", "--checkpoint", &path, "--data", &data]);
    assert!(
        said.contains("the weights are those of ['net']") && said.contains("'model.' was taken off"),
        "{said}"
    );
    assert_eq!(logits(&path, &[]), expected);

    save(vec![
        ("a", named(&|name| name.to_owned())),
        ("b", named(&|name| name.replace("features.0", "conv1"))),
    ]);
    let (code, message) = failure(&["evaluate", "--checkpoint", &path, "--data", &data]);
    assert!(
        code == 1 && message.contains("several: ['a'], ['b']; choose one, --weights a say"),
        "{code}: {message}"
    );
    let (code, message) = failure(&["evaluate", "--checkpoint", &path, "--data", &data, "--weights", "b"]);
    assert!(
        code == 1 && message.contains("rename its keys: --rename conv1=features.0\n"),
        "{code}: {message}"
    );
    let chosen = ["--weights", "b", "--rename", "conv1=features.0"];
    assert_eq!(logits(&path, &chosen), expected);
    let wrong = ["checkpoint", "inspect", &path, "--weights", "b", "--rename", "conv2=features.0"];
    let (code, message) = failure(&wrong);
    assert!(code == 2 && message.contains("--rename conv2: no tensor is called so"), "{code}: {message}");
    let (code, message) = failure(&["checkpoint", "inspect", &path, "--rename", "conv1"]);
    assert!(code == 2 && message.contains("OLD=NEW"), "{code}: {message}");

    // What is not the network's is left out when asked.
    let extra = TensorData::from_f32(&[1], &[1.0]);
    let Value::OrderedDict(mut all) = named(&|name| name.to_owned()) else { unreachable!() };
    all.push((Value::from("aux.w"), extra.into()));
    save(vec![("state_dict", Value::OrderedDict(all)), ("nerve", Value::from("kept"))]);
    let (code, message) = failure(&["evaluate", "--checkpoint", &path, "--data", &data]);
    assert!(code == 1 && message.contains("leave them out with --ignore aux.w\n"), "{code}: {message}");
    let copy = files.at("copy.pth");
    json(&["checkpoint", "convert", &path, &copy, "--ignore", "aux"]);
    assert_eq!(logits(&copy, &[]), expected);
    assert_eq!(Checkpoint::load(copy.as_ref()).unwrap().extra, [("nerve".to_owned(), Value::from("kept"))]);
}

#[test]
fn thresholds_without_timesteps_are_asked_about() {
    let files = Files::with_snn();
    let data = files.at("data.npz");
    let mut checkpoint = Checkpoint::load(files.at("ann.pth").as_ref()).unwrap();
    // As the study leaves an ANN's file when it has converted it.
    checkpoint.thresholds = Some(vec![1.0; 5]);
    let path = files.at("study.pth");
    checkpoint.save(path.as_ref()).unwrap();
    let (code, message) = failure(&["evaluate", "--checkpoint", &path, "--data", &data]);
    assert!(code == 2 && message.contains("--timesteps T") && message.contains("--ann"), "{code}: {message}");
    let ann = json(&["evaluate", "--checkpoint", &path, "--data", &data, "--ann"]);
    assert_eq!(ann["kind"], "ann");
    let snn = json(&["evaluate", "--checkpoint", &path, "--data", &data, "--timesteps", "2"]);
    assert_eq!((&snn["kind"], &snn["timesteps"]), (&"snn".into(), &2.into()));
    let (code, message) =
        failure(&["evaluate", "--checkpoint", &files.at("snn.pth"), "--data", &data, "--ann"]);
    assert!(code == 2 && message.contains("a spiking network (for 4 timesteps)"), "{code}: {message}");
    // It is converted anew from its weights.
    let out = files.at("again.pth");
    let said = notes(&["convert", "--checkpoint", &path, "--data", &data, "--out", &out]);
    assert!(said.contains("thresholds of an earlier conversion; they are not used"), "{said}");
    let [again, first] = [&out, &files.at("snn.pth")].map(|path| Checkpoint::load(path.as_ref()).unwrap());
    assert_eq!(again.thresholds, first.thresholds);
    let inspected = json(&["checkpoint", "inspect", &out]);
    let expected = "accuracy and epoch are those of the ANN that it was converted from";
    assert_eq!(inspected["notes"], serde_json::json!([expected]));
    assert_eq!((&inspected["tensors"], &inspected["foreign"]), (&5.into(), &serde_json::json!([])));
}

#[test]
fn folders_and_other_programs_files_are_called_what_they_are() {
    let files = Files::new();
    let folder = files.path().join("sharded");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join(".metadata"), "").unwrap();
    for command in ["evaluate", "bench"] {
        let (code, message) = failure(&[
            command,
            "--checkpoint",
            &folder.display().to_string(),
            "--data",
            &files.at("data.npz"),
        ]);
        assert!(code == 1 && message.contains("dcp_to_torch"), "{code}: {message}");
    }
    let (code, message) = failure(&["checkpoint", "inspect", &folder.display().to_string()]);
    assert!(code == 1 && message.contains("a distributed checkpoint"), "{code}: {message}");
}
