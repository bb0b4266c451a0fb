//! Starting the program, and small files to give it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use escape_checkpoint::Checkpoint;
use escape_model::ann::Ann;
use escape_network::arch::Architecture;
use escape_network::family::Family;
use serde_json::Value;
use tch::Device;

/// Starts the program on the CPU.
pub fn escape(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_escape-snn")).args(["--device", "cpu"]).args(arguments).output().unwrap()
}

/// The JSON that a successful call prints.
pub fn json(arguments: &[&str]) -> Value {
    let mut all = vec!["--json", "--quiet"];
    all.extend(arguments);
    let output = escape(&all);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Exit code and message of a call that fails; checks that it fails as every call should.
pub fn failure(arguments: &[&str]) -> (i32, String) {
    let output = escape(arguments);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{arguments:?} succeeded");
    assert!(output.stdout.is_empty(), "{arguments:?} printed a result and failed");
    for trace in ["panicked", "frame #", "RUST_BACKTRACE", "Exception raised"] {
        assert!(!text.contains(trace), "{arguments:?}: {text}");
    }
    (output.status.code().unwrap(), text)
}

/// A folder with `data.npz`, 24 simulated recordings, and `ann.pth`, an untrained network.
pub struct Files(pub tempfile::TempDir);

impl Files {
    pub fn new() -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        json(&["data", "simulate", "--samples", "24", "--out", &files.at("data.npz")]);
        files.save("ann.pth", Architecture::Modified, 56);
        files
    }

    /// As [`Files::new`], and `snn.pth`, converted by the default route.
    pub fn with_snn() -> Self {
        let files = Self::new();
        json(&[
            "convert",
            "--checkpoint",
            &files.at("ann.pth"),
            "--data",
            &files.at("data.npz"),
            "--out",
            &files.at("snn.pth"),
        ]);
        files
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Path of a file in the folder, as an argument.
    pub fn at(&self, name: &str) -> String {
        self.path().join(name).display().to_string()
    }

    /// Saves an untrained network for recordings of that many contacts.
    pub fn save(&self, name: &str, arch: Architecture, contacts: usize) -> PathBuf {
        self.save_network(name, arch, contacts, 4)
    }

    /// Saves an untrained modified network that this seed draws; [`Files::new`] takes 4.
    pub fn save_seeded(&self, name: &str, seed: u64) -> PathBuf {
        self.save_network(name, Architecture::Modified, 56, seed)
    }

    fn save_network(&self, name: &str, arch: Architecture, contacts: usize, seed: u64) -> PathBuf {
        let network = Family::published(arch).network(contacts, 100).unwrap();
        let ann = Ann::new(network, seed, Device::Cpu).unwrap();
        let path = self.path().join(name);
        let checkpoint = Checkpoint {
            accuracy: Some(0.3),
            epoch: Some(1),
            weights: ann.weights().unwrap(),
            ..Checkpoint::default()
        };
        checkpoint.save(&path).unwrap();
        path
    }
}

/// Lines of a text file.
pub fn lines(path: &Path) -> usize {
    std::fs::read_to_string(path).unwrap().lines().count()
}
