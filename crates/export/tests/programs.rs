//! Programs against the event engine: the readout and every layer's spikes of random networks. C is compiled without a warning and run
//! under the address and undefined-behaviour sanitizers, Rust with checks of every sum.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::Command;

use escape_export::{ExportError, Golden, Program, c99, no_std};
use escape_network::rng::Stream;
use escape_network::sequential::{Conv2d, Layer, Named, Pool, Pooling, Sequential, Shape};
use escape_snn_core::encode::Encoding;
use escape_snn_core::engine::{Batch, Engine};
use escape_snn_core::event::Event;
use escape_snn_core::integer::IntegerNetwork;
use escape_snn_core::network::SpikingNetwork;

#[path = "../../../tests/random_networks/mod.rs"]
mod networks;
#[path = "../../../tests/random_networks/spiking.rs"]
mod spiking;
use spiking::{spiking, spiking_of};

/// Recordings of a network, and what the event engine makes of them.
fn goldens(network: &SpikingNetwork, whole: &IntegerNetwork, steps: usize, seed: u64) -> Vec<Golden> {
    let event = Event::new(network.clone(), Encoding::Direct).unwrap();
    let unit = whole.layers.last().unwrap().units[0];
    let mut random = Stream::new(seed, 4);
    let golden = |_| {
        let x: Vec<f32> =
            (0..network.input().count()).map(|_| (random.uniform() * 2.0 - 1.0) as f32).collect();
        let mut encoder = network.rules.encoder(Encoding::Direct, 0);
        let found = event.run(Batch { x: &x, first: 0 }, &mut encoder, steps, &mut ()).unwrap();
        let readout = found.logits(steps).iter().map(|&v| (f64::from(v) / unit).round() as i32).collect();
        let layers = network.rules.firing_layers(network.layers.len());
        let spikes = found.spikes[..layers].iter().map(|steps| steps.iter().sum()).collect();
        Golden { recording: whole.precision.round_recording(&x), readout, spikes }
    };
    (0..3).map(golden).collect()
}

fn write(program: &Program, folder: &Path) {
    for file in &program.files {
        let path = folder.join(&file.name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, &file.text).unwrap();
    }
}

/// Compiles files of a folder strictly; with the sanitizers.
fn compile(compiler: &str, folder: &Path, files: &[&str], more: &[&str]) {
    let strict = [
        "-std=c99",
        "-O1",
        "-Wall",
        "-Wextra",
        "-Wconversion",
        "-Wshadow",
        "-Wcast-qual",
        "-pedantic",
        "-Werror",
    ];
    let safe = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-o", "program"];
    let output =
        Command::new(compiler).current_dir(folder).args(strict).args(safe).args(more).args(files).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{compiler}: {}", String::from_utf8_lossy(&output.stderr));
}

fn compilers() -> Vec<&'static str> {
    let is_there = |c: &&str| Command::new(c).arg("--version").output().is_ok_and(|o| o.status.success());
    ["cc", "clang"].into_iter().filter(is_there).collect()
}

/// Trains of less than a byte, of one, and of more.
const STEPS: [usize; 5] = [4, 1, 9, 8, 17];

/// Compiles a C program with its self-test and runs it: whether it came out, and what was said. Its state has to be as large as was said.
fn ran(program: &Program, compiler: &str) -> (bool, String) {
    let folder = tempfile::tempdir().unwrap();
    write(program, folder.path());
    let size = format!(
        "#undef NET_COUNT_SPIKES\n#include \"net.h\"\ntypedef char as_said[(sizeof(net_state_t) == {}u) ? 1 : -1];\n",
        program.state_bytes
    );
    std::fs::write(folder.path().join("size.c"), size).unwrap();
    compile(compiler, folder.path(), &["net.c", "net_selftest.c", "size.c"], &["-DNET_COUNT_SPIKES"]);
    let output = Command::new(folder.path().join("program")).output().unwrap();
    let said =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    (output.status.success(), said)
}

#[test]
fn programs_give_the_event_engines_readouts_and_spikes() {
    let compilers = compilers();
    assert!(!compilers.is_empty(), "no C compiler, which Rust needs as well");
    let (mut written, mut spikes, mut refused) = (0, 0, 0);
    for index in 0..40u64 {
        let steps = STEPS[index as usize % STEPS.len()];
        let network = spiking(index, 17);
        let whole = IntegerNetwork::new(&network, Encoding::Direct).unwrap();
        let goldens = goldens(&network, &whole, steps, index);
        let program = match c99(&whole, steps, "net", "a random network", &goldens) {
            Ok(program) => program,
            Err(ExportError::Readout { .. }) => {
                refused += 1;
                continue;
            }
            Err(other) => panic!("network {index}: {other}"),
        };
        // Each compiler its turn.
        let compiler = compilers[index as usize % compilers.len()];
        assert_eq!(
            ran(&program, compiler),
            (true, "3 recordings: all as expected\n".into()),
            "network {index}"
        );
        // A self-test that finds nothing would be none.
        if written == 0 {
            let wrong: Vec<Golden> = goldens
                .iter()
                .map(|g| Golden { readout: g.readout.iter().map(|v| v + 1).collect(), ..g.clone() })
                .collect();
            let (came_out, said) = ran(&c99(&whole, steps, "net", "", &wrong).unwrap(), compiler);
            assert!(!came_out && said.contains("expected") && said.ends_with("FAILED\n"), "{said}");
        }
        written += 1;
        spikes += goldens.iter().flat_map(|g| &g.spikes).sum::<u64>();
    }
    assert!(written > 20 && spikes > 3_000, "{written} written, {refused} refused, {spikes} spikes");
}

/// Tests a crate by the compiler itself, not cargo: no folder for what it builds, and no lock to wait for.
fn tested(program: &Program) -> Result<(), String> {
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    let folder = tempfile::tempdir().unwrap();
    write(program, folder.path());
    for arguments in [
        &["--crate-name", "net", "--crate-type", "rlib", "src/lib.rs"][..],
        &["--test", "--extern", "net=libnet.rlib", "-o", "selftest", "tests/selftest.rs"],
    ] {
        let strict = ["--edition", "2021", "-D", "warnings", "-C", "overflow-checks=yes"];
        let output =
            Command::new(&rustc).current_dir(folder.path()).args(strict).args(arguments).output().unwrap();
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
    }
    let output = Command::new(folder.path().join("selftest")).output().unwrap();
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stdout).into_owned()),
    }
}

#[test]
fn crates_give_the_event_engines_readouts_and_spikes() {
    let mut spikes = 0;
    for index in (0..40u64).step_by(3) {
        let steps = STEPS[index as usize / 3 % STEPS.len()];
        let network = spiking(index, 17);
        let whole = IntegerNetwork::new(&network, Encoding::Direct).unwrap();
        let goldens = goldens(&network, &whole, steps, index);
        let Ok(program) = no_std(&whole, steps, "net", "a \"random\" network", &goldens) else { continue };
        if let Err(said) = tested(&program) {
            panic!("network {index}: {said}");
        }
        spikes += goldens.iter().flat_map(|g| &g.spikes).sum::<u64>();
    }
    assert!(spikes > 500, "{spikes} spikes");
}

/// A mean of 900 neurons, more than half of which fire: counts of 16 bits.
#[test]
fn counts_beyond_a_byte_are_the_event_engines() {
    let (steps, channels) = (9, 3);
    let layers = [
        Layer::Conv2d(Conv2d { out: channels, ..Conv2d::new(0, (1, 1)) }),
        Layer::Relu,
        Layer::Pool(Pool { stride: (1, 1), ..Pool::new(Pooling::Average { count_padding: true }, (30, 30)) }),
        Layer::Conv2d(Conv2d::new(4, (1, 2))),
        Layer::Relu,
        Layer::Flatten,
        Layer::Linear { out: 3, bias: true },
    ];
    let named = |(i, layer): (usize, Layer)| Named { name: format!("net.{i}"), layer };
    let layers = layers.into_iter().enumerate().map(named).collect();
    let network = spiking_of(Sequential::new(Shape::new(2, 30, 32), layers, Vec::new()).unwrap(), 1, steps);
    let whole = IntegerNetwork::new(&network, Encoding::Direct).unwrap();
    let goldens = goldens(&network, &whole, steps, 0);
    // Even if all fire that are in no window, some window has more than a byte counts.
    let most = steps * channels * (255 + 30 * 2);
    assert!(
        goldens[0].spikes[0] as usize > most && goldens[0].spikes[1] > 0,
        "{:?}, {most}",
        goldens[0].spikes
    );
    let program = c99(&whole, steps, "net", "wide", &goldens).unwrap();
    assert!(program.files[0].text.contains("uint16_t counts["));
    for compiler in compilers() {
        assert_eq!(ran(&program, compiler), (true, "3 recordings: all as expected\n".into()));
    }
    tested(&no_std(&whole, steps, "net", "wide", &goldens).unwrap()).unwrap();
}

#[test]
fn what_no_program_is_written_for_is_refused() {
    let network = spiking(0, 9);
    let whole = IntegerNetwork::new(&network, Encoding::Direct).unwrap();
    let goldens = goldens(&network, &whole, 1, 0);
    for prefix in ["", "Net", "9x", "a-b", "_a", &"a".repeat(41)] {
        let refused = c99(&whole, 1, prefix, "", &goldens).unwrap_err();
        assert_eq!(refused, ExportError::Prefix(prefix.to_owned()));
    }
    for prefix in ["fn", "match", "core", "self"] {
        let refused = no_std(&whole, 1, prefix, "", &goldens).unwrap_err();
        assert_eq!(refused, ExportError::Taken(prefix.to_owned()));
        c99(&whole, 1, prefix, "", &goldens).unwrap();
    }
    assert_eq!(c99(&whole, 1, "net", "", &[]).unwrap_err(), ExportError::NoGolden);
    let (most, _) = whole.most_steps();
    assert!(c99(&whole, most + 1, "net", "", &goldens).unwrap_err().to_string().contains("31 bits"));
    let poisson = IntegerNetwork::new(&network, Encoding::Poisson).unwrap();
    assert_eq!(c99(&poisson, 1, "net", "", &goldens).unwrap_err(), ExportError::Encoder);
    // Nothing in a title ends a comment.
    let program = c99(&whole, 1, "net", "a */ b\nc", &goldens).unwrap();
    assert!(program.files[0].text.starts_with("/* A spiking network in whole numbers: a * / b c.\n"));
}
