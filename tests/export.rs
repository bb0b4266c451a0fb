//! `export`: from a checkpoint to a program that a C compiler takes.

use std::path::Path;
use std::process::Command;

use crate::support::{Files, failure, json};

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
