//! `export`: from a checkpoint to a program that a C compiler takes.

use std::path::Path;
use std::process::Command;

use crate::support::{Files, failure, json};

/// Of checkpoints/implant.pth on the standard set's test recordings, as checkpoints/README.md has it.
const IMPLANT_ACCURACY: f64 = 0.7264;

/// Compiles a program with its self-test, and runs it.
fn compiled(folder: &Path, prefix: &str) -> String {
    let files = [format!("{prefix}.c"), format!("{prefix}_selftest.c")];
    let define = format!("-D{}_COUNT_SPIKES", prefix.to_uppercase());
    let flags =
        ["-std=c99", "-O3", "-Wall", "-Wextra", "-Wconversion", "-pedantic", "-Werror", "-o", "selftest"];
    let built = Command::new("cc").current_dir(folder).args(flags).arg(define).args(files).output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let output = Command::new(folder.join("selftest")).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}");
    said
}

/// The shipped network for an implant, on 1,000 recordings of the standard set: as accurate as was said, as large as was said, and in C
/// what the event engine is.
#[test]
fn the_shipped_network_is_the_program_that_it_was_said_to_be() {
    let files = Files::new();
    let (data, out) = (files.at("standard.npz"), files.at("program"));
    let implant = concat!(env!("CARGO_MANIFEST_DIR"), "/../../checkpoints/implant.pth");
    json(&["data", "simulate", "--seed", "1", "--out", &data]);
    let judged = json(&["evaluate", "--checkpoint", implant, "--data", &data]);
    let (accuracy, samples) = (judged["accuracy"].as_f64().unwrap(), judged["samples"].as_u64().unwrap());
    // Sums of whole numbers are the same everywhere; a recording's last digits may not be.
    assert!((accuracy - IMPLANT_ACCURACY).abs() < 0.002 && samples == 7835, "{judged}");
    let report =
        json(&["export", implant, "--c", &out, "--data", &data, "--split", "test", "--recordings", "1000"]);
    assert_eq!(report["self_tests"], 1000, "{report}");
    assert!(report["constant_bytes"].as_u64().unwrap() < 8192, "{report}");
    assert_eq!(compiled(Path::new(&out), "escape"), "1000 recordings: all as expected\n");
}

/// The trained network, on recordings of the simulated nerve.
#[test]
fn the_program_gives_what_the_event_engine_gives() {
    let files = Files::new();
    let (snn, data, out) = (files.at("t4.pth"), files.at("data.npz"), files.at("program"));
    let ann = concat!(env!("CARGO_MANIFEST_DIR"), "/../../checkpoints/modified.pth");
    json(&["convert", "--checkpoint", ann, "--data", &data, "--timesteps", "4", "--out", &snn]);
    let wanted = ["export", &snn, "--c", &out, "--prefix", "nerve_net"];
    let more = files.at("more.npz");
    json(&["data", "simulate", "--samples", "160", "--out", &more]);
    let report = json(&[&wanted[..], &["--data", &more, "--split", "train", "--recordings", "100"]].concat());
    assert_eq!((&report["self_tests"], &report["timesteps"]), (&100.into(), &4.into()), "{report}");
    assert_eq!(compiled(Path::new(&out), "nerve_net"), "100 recordings: all as expected\n");
    let header = std::fs::read_to_string(Path::new(&out).join("nerve_net.h")).unwrap();
    assert!(header.contains("#define NERVE_NET_ROWS 56\n") && header.contains("#define NERVE_NET_STEPS 4\n"));

    let (code, text) = failure(&wanted);
    assert!(code == 2 && text.contains("holds a program already (nerve_net.h)"), "{text}");
    let none = files.at("none");
    let base = ["export", snn.as_str(), "--c", &none];
    for (more, part) in [
        (["--encoder", "poisson"], "Poisson"),
        (["--preset", "published"], "float32"),
        (["--prefix", "Net"], "prefix 'Net'"),
        (["--timesteps", "9000"], "the readout may reach"),
    ] {
        let (code, text) = failure(&[&base[..], &more].concat());
        assert!(code == 2 && text.contains(part), "{text}");
    }
    assert!(failure(&["export", ann, "--c", &none]).1.contains("this is an ANN"));
    assert!(!Path::new(&none).exists());
}
