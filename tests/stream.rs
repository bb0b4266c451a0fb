use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::{Files, array, escape, failure, text};

/// Bytes of a frame of f32 and of i16.
const F32: usize = 56 * 100 * 4;
const I16: usize = 56 * 100 * 2;

/// The program at work, with all its streams in our hands.
fn start(arguments: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_escape-snn"));
    command.arg("stream").args(arguments).stdin(Stdio::piped());
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// What it answers to these bytes on its standard input.
fn fed(bytes: &[u8], arguments: &[&str]) -> Output {
    let mut child = start(arguments);
    let mut input = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || input.write_all(bytes));
        child.wait_with_output().unwrap()
    })
}

fn lines(output: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(output).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Answers without what differs each time.
fn without_latency(mut lines: Vec<Value>) -> Vec<Value> {
    for line in &mut lines {
        let latency = line["latency_ms"].take();
        assert!(latency.as_f64().is_some_and(|ms| ms > 0.0), "{line}");
    }
    lines
}

fn scores(lines: &[Value]) -> Vec<f32> {
    let all = lines.iter().flat_map(|line| line["scores"].as_array().unwrap());
    all.map(|score| score.as_f64().unwrap() as f32).collect()
}

fn stop(child: &Child) {
    // SAFETY: a process of ours that nobody has waited for.
    assert_eq!(unsafe { libc::kill(child.id() as i32, libc::SIGINT) }, 0);
}

/// Waits for the end of a process, but not for ever.
fn end(mut child: Child) -> Output {
    let start = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if start.elapsed() > Duration::from_secs(60) {
            child.kill().unwrap();
            panic!("it goes on: {:?}", child.wait_with_output());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    child.wait_with_output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn answers_are_those_of_an_evaluation() {
    let files = Files::new();
    let (snn, data, logits) = (files.at("snn.pth"), files.at("data.npz"), files.at("logits.npz"));
    let (floats, counts) = (files.at("frames.f32"), files.at("frames.i16"));
    text(&["data", "convert", &data, &floats]);
    text(&["data", "convert", &data, &counts]);
    let labels = array(&data, "test_x").len() / 5600;
    let bytes = std::fs::read(&floats).unwrap();
    assert_eq!((bytes.len(), std::fs::read(&counts).unwrap().len()), (labels * F32, labels * I16));
    for encoder in ["direct", "poisson"] {
        let with = ["--checkpoint", &snn, "--encoder", encoder, "--seed", "3"];
        let evaluate = ["evaluate", "--data", &data, "--logits", &logits, "--batch-size", "5"];
        text(&[&evaluate[..], &with].concat());
        let printed = text(&[&["stream", "--input", &floats], &with[..]].concat());
        let answers = without_latency(lines(printed.as_bytes()));
        let expected = array(&logits, "logits");
        assert_eq!(scores(&answers), expected);
        for (index, (answer, logits)) in answers.iter().zip(expected.chunks(3)).enumerate() {
            let class = (0..3).fold(0, |best, k| if logits[k] > logits[best] { k } else { best });
            assert_eq!((&answer["index"], &answer["class"]), (&index.into(), &class.into()));
            assert_eq!(answer["class_name"], ["dorsiflexion", "plantarflexion", "pricking"][class]);
        }
        // The same from standard input, of which nobody says what is in it.
        let output = fed(&bytes, &[&with[..], &["--format", "f32"]].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        assert_eq!(without_latency(lines(&output.stdout)), answers);
    }
}

#[test]
fn counts_are_scaled_as_those_of_files() {
    let files = Files::new();
    let (snn, raw, counts, logits) =
        (files.at("snn.pth"), files.at("raw.npz"), files.at("frames.i16"), files.at("logits.npz"));
    // A converter with an offset, whose recordings have amplitudes of their own.
    let x = array(&files.at("data.npz"), "test_x");
    let count = |(i, v): (usize, &f32)| (v * (50.0 + (i / 5600) as f32 * 40.0)).round() as i16 + 500;
    let x: Vec<i16> = x.iter().enumerate().map(count).collect();
    std::fs::write(&counts, x.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>()).unwrap();
    let n = x.len() / 5600;
    let as_floats: Vec<f32> = x.iter().map(|&v| f32::from(v)).collect();
    let labels = vec![0; n];
    let arrays = [
        ("test_x", &[n, 56, 100][..], escape_data::npz::Values::F32(&as_floats)),
        ("test_y", &[n], escape_data::npz::Values::I64(&labels)),
    ];
    escape_data::npz::write(raw.as_ref(), &arrays).unwrap();
    text(&[
        "evaluate",
        "--checkpoint",
        &snn,
        "--data",
        &raw,
        "--scaling",
        "per-recording",
        "--logits",
        &logits,
    ]);
    let expected = array(&logits, "logits");
    let stream = ["stream", "--checkpoint", &snn, "--input", &counts];
    assert_eq!(scores(&lines(text(&stream).as_bytes())), expected);
    // Taken as they are, these are small shares of full scale.
    let unscaled = text(&[&stream[..], &["--scaling", "none"]].concat());
    assert_ne!(scores(&lines(unscaled.as_bytes())), expected);
}

#[test]
fn a_bad_frame_is_told_and_the_stream_goes_on() {
    let files = Files::new();
    let (snn, frames) = (files.at("snn.pth"), files.at("frames.f32"));
    text(&["data", "convert", &files.at("data.npz"), &frames]);
    let good = std::fs::read(&frames).unwrap();
    let with = ["--checkpoint", &snn, "--format", "f32", "--json"];
    let mut bytes = good[..4 * F32].to_vec();
    bytes[F32 + 404..][..4].copy_from_slice(&f32::NAN.to_le_bytes());
    bytes[2 * F32..3 * F32].fill(0);
    bytes.extend([1, 2, 3]);
    let output = fed(&bytes, &with);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let answers = lines(&output.stdout);
    assert_eq!(answers.len(), 6);
    for (index, part) in [(1, "contact 1, sample 1"), (2, "every value is 0"), (4, "got 3 bytes")] {
        let text = answers[index]["error"].as_str().unwrap();
        assert!(text.contains(part) && answers[index]["index"] == index, "{text}");
    }
    assert!(answers[3]["class"].is_u64() && answers[3]["index"] == 3);
    let summary = &answers[5]["summary"];
    assert_eq!((&summary["frames"], &summary["errors"]), (&5.into(), &3.into()));
    let latency = |key: &str| summary["latency_ms"][key].as_f64().unwrap();
    assert!(
        latency("median") > 0.0 && latency("median") <= latency("p99") && latency("p99") <= latency("worst")
    );
    assert!(stderr(&output).contains("5 frames"), "{}", stderr(&output));
    // Nothing but bad frames is a failure, no frame at all is none.
    let output = fed(&bytes[2 * F32..3 * F32], &with);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("none of 1 frames was a recording"), "{}", stderr(&output));
    let output = fed(&[], &with);
    assert_eq!(output.status.code(), Some(0));
    assert!(lines(&output.stdout)[0]["summary"]["latency_ms"]["worst"].is_null());
}

#[test]
fn one_client_after_another_is_served() {
    let files = Files::new();
    let (snn, frames) = (files.at("snn.pth"), files.at("frames.i16"));
    text(&["data", "convert", &files.at("data.npz"), &frames]);
    let bytes = std::fs::read(&frames).unwrap();
    let mut child = start(&["--checkpoint", &snn, "--input", "tcp:0", "--json"]);
    let mut said = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    let address = line.trim().strip_prefix("listening on ").unwrap().to_owned();
    assert!(address.starts_with("127.0.0.1:"), "{address}");
    // A port that is taken is refused.
    let (_, port) = address.split_once(':').unwrap();
    let (code, why) = failure(&["stream", "--checkpoint", &snn, "--input", &format!("tcp:{port}")]);
    assert!(code == 2 && why.contains("another program listens"), "{why}");
    let mut answers = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut answer = || serde_json::from_str::<Value>(&answers.next().unwrap().unwrap()).unwrap();
    let mut first = TcpStream::connect(&address).unwrap();
    let mut second = TcpStream::connect(&address).unwrap();
    second.write_all(&bytes[I16..][..I16 + 10]).unwrap();
    drop(second);
    // The first is not at its end: its answers come at once, while the second waits.
    for index in 0..2 {
        first.write_all(&bytes[..I16]).unwrap();
        assert_eq!(answer()["index"], index);
    }
    drop(first);
    let of_second = answer();
    assert_eq!((&of_second["index"], of_second["class"].is_u64()), (&2.into(), true));
    assert!(answer()["error"].as_str().unwrap().contains("got 10 bytes"));
    stop(&child);
    assert_eq!(answer()["summary"]["frames"], 4);
    assert_eq!(end(child).status.code(), Some(0));
    line.clear();
    said.read_to_string(&mut line).unwrap();
    assert!(line.contains("4 frames"), "{line}");
}

#[test]
fn a_stream_ends_quietly_when_asked_to_or_unread() {
    let files = Files::new();
    let (snn, frames) = (files.at("snn.pth"), files.at("frames.f32"));
    text(&["data", "convert", &files.at("data.npz"), &frames]);
    let bytes = std::fs::read(&frames).unwrap();
    for ctrl_c in [true, false] {
        let mut child = start(&["--checkpoint", &snn, "--format", "f32"]);
        let mut input = child.stdin.take().unwrap();
        let mut answers = BufReader::new(child.stdout.take().unwrap());
        input.write_all(&bytes[..F32 + 100]).unwrap();
        answers.read_line(&mut String::new()).unwrap();
        if ctrl_c {
            stop(&child);
        } else {
            drop(answers);
            // It may be gone before all of it is written.
            let _ = input.write_all(&bytes[F32 + 100..]);
        }
        let output = end(child);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(0), "{said}");
        assert!(said.contains("0 of them bad; latency") && !said.contains("error"), "{said}");
    }
}

#[test]
fn a_file_comes_in_time_where_that_is_asked_for() {
    let files = Files::new();
    let (snn, frames) = (files.at("snn.pth"), files.at("frames.f32"));
    text(&["data", "convert", &files.at("data.npz"), &frames]);
    let n = std::fs::metadata(&frames).unwrap().len() as usize / F32;
    let start = Instant::now();
    let printed = text(&["stream", "--checkpoint", &snn, "--input", &frames, "--realtime", "--json"]);
    let spent = start.elapsed();
    let answers = lines(printed.as_bytes());
    let summary = &answers[n]["summary"];
    assert!(spent >= Duration::from_secs_f64((n - 1) as f64 / 43.0), "{spent:?} for {n}");
    assert!(summary["late"].as_u64().unwrap() <= n as u64);
    // Elsewhere there is no schedule to be late on.
    let printed = text(&["stream", "--checkpoint", &snn, "--input", &frames, "--json"]);
    assert!(lines(printed.as_bytes())[n]["summary"]["late"].is_null());
    for input in ["-", "tcp:0"] {
        let (code, why) = failure(&["stream", "--checkpoint", &snn, "--input", input, "--realtime"]);
        assert!(code == 2 && why.contains("--realtime") && why.contains("--input FILE"), "{why}");
    }
}

#[test]
fn what_holds_no_frames_is_refused() {
    let files = Files::new();
    let (snn, data) = (files.at("snn.pth"), files.at("data.npz"));
    let (mat, named) = (files.at("data.mat"), files.at("data.bin"));
    text(&["data", "convert", &data, &mat]);
    std::fs::copy(&data, &named).unwrap();
    let (missing, folder) = (files.at("missing.i16"), files.at(""));
    for (input, part) in [
        (&data, "data convert"),
        (&mat, "data convert"),
        (&named, "data convert"),
        (&missing, "no such file"),
        (&folder, "a folder"),
        (&"tcp:70000".to_owned(), "65535"),
    ] {
        let (code, text) = failure(&["stream", "--checkpoint", &snn, "--input", input]);
        assert!(code == 2 && text.contains(part), "{input}: {code}, {text}");
    }
}

#[test]
fn frames_that_are_written_leave_labels_out_and_say_so() {
    let files = Files::new();
    let output = escape(&["data", "convert", &files.at("data.npz"), &files.at("a.i16")]);
    let said = stderr(&output);
    assert!(
        said.contains("test recordings") && said.contains("labels") && said.contains("training"),
        "{said}"
    );
    let (code, why) = failure(&["data", "convert", &files.at("data.npz"), &files.at("a.i16")]);
    assert!(code == 2 && why.contains("is there already"), "{why}");
}
