use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A folder that looks like a clone in which scripts/libtorch can run, and where it finds no Python but a stand-in.
struct Clone(tempfile::TempDir);

impl Clone {
    fn new() -> Self {
        let clone = Self(tempfile::tempdir().unwrap());
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/libtorch");
        std::fs::create_dir_all(clone.at("scripts")).unwrap();
        std::fs::create_dir_all(clone.at("crates")).unwrap();
        std::fs::write(clone.at("crates/rpath.rs"), "").unwrap();
        std::fs::copy(script, clone.at("scripts/libtorch")).unwrap();
        clone.program("bin/python3", "exit 1");
        clone
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn program(&self, name: &str, body: &str) {
        let path = self.at(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// A libtorch in name; with CUDA it has a library that links nothing that is not there.
    fn libtorch(&self, name: &str, cuda: bool) -> PathBuf {
        let lib = self.at(name).join("lib");
        std::fs::create_dir_all(&lib).unwrap();
        std::fs::write(self.at(name).join("build-version"), "2.11.0+x").unwrap();
        std::fs::write(lib.join("libtorch_cpu.so"), "").unwrap();
        if cuda {
            std::fs::copy("/bin/sh", lib.join("libtorch_cuda.so")).unwrap();
        }
        self.at(name)
    }

    /// A virtual environment whose torch lies in `torch`; its pip notes what it is asked for and then does `does`.
    fn venv(&self, torch: &Path, does: &str) {
        // Asked where torch is, it says so; asked what else it has, nothing.
        let python = format!("case \"$2\" in *find_spec*) echo '{}' ;; *) exit 1 ;; esac", torch.display());
        self.program(".libtorch/venv/bin/python", &python);
        self.program(
            ".libtorch/venv/bin/pip",
            &format!("echo \"$@\" >> '{}'\n{does}", self.at("asked").display()),
        );
    }

    fn run(&self, arguments: &[&str], libtorch: Option<&Path>) -> Output {
        let mut command = Command::new("bash");
        command.arg(self.at("scripts/libtorch")).args(arguments);
        let path = format!("{}:{}", self.at("bin").display(), std::env::var("PATH").unwrap());
        command.env("PATH", path).env_remove("ESCAPE_PYTHON").env_remove("LIBTORCH");
        if let Some(libtorch) = libtorch {
            command.env("LIBTORCH", libtorch);
        }
        command.output().unwrap()
    }

    fn points_at(&self) -> PathBuf {
        std::fs::canonicalize(self.at(".libtorch/torch")).unwrap()
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_given_libtorch_must_be_able_to_do_what_is_asked() {
    let clone = Clone::new();
    let (lean, whole) = (clone.libtorch("lean", false), clone.libtorch("whole", true));
    assert!(clone.run(&[], Some(&lean)).status.success());
    assert_eq!(clone.points_at(), lean.canonicalize().unwrap());
    let refused = clone.run(&["--cuda"], Some(&lean));
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        said(&refused).contains("no CUDA") && said(&refused).contains("2.11 with CUDA"),
        "{}",
        said(&refused)
    );
    assert_eq!(clone.points_at(), lean.canonicalize().unwrap());
    assert!(clone.run(&["--cuda"], Some(&whole)).status.success());
    assert_eq!(clone.points_at(), whole.canonicalize().unwrap());
    let wrong = clone.run(&["--gpu"], None);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(said(&wrong).contains("--cuda or --python"), "{}", said(&wrong));
}

#[test]
fn a_lean_libtorch_is_replaced_when_cuda_is_asked_for() {
    let clone = Clone::new();
    let torch = clone.libtorch(".libtorch/venv/torch", false);
    symlink(&torch, clone.at(".libtorch/torch")).unwrap();
    // Without network what is there stays.
    clone.venv(&torch, "exit 1");
    assert!(!clone.run(&["--cuda"], None).status.success());
    assert_eq!(clone.points_at(), torch.canonicalize().unwrap());
    // An index without CUDA is named as the cause.
    clone.venv(&torch, "");
    let lean = clone.run(&["--cuda"], None);
    assert!(!lean.status.success() && said(&lean).contains("PIP_INDEX_URL"), "{}", said(&lean));
    clone.venv(&torch, &format!("cp /bin/sh '{}/lib/libtorch_cuda.so'", torch.display()));
    let done = clone.run(&["--cuda"], None);
    assert!(done.status.success(), "{}", said(&done));
    assert_eq!(clone.points_at(), torch.canonicalize().unwrap());
    let asked = std::fs::read_to_string(clone.at("asked")).unwrap();
    assert_eq!(asked.lines().count(), 3);
    assert!(
        asked.lines().all(|line| line.contains("torch==2.11.0") && !line.contains("--no-deps")),
        "{asked}"
    );
    // Now it is there, and nothing is installed again.
    assert!(clone.run(&["--cuda"], None).status.success() && clone.run(&[], None).status.success());
    assert_eq!(std::fs::read_to_string(clone.at("asked")).unwrap(), asked);
}

#[test]
fn a_machine_without_gpu_gets_a_lean_one_and_is_told_of_the_other() {
    if Path::new("/dev/nvidiactl").exists() {
        return;
    }
    let clone = Clone::new();
    let torch = clone.libtorch("torch", false);
    clone.venv(&torch, "");
    let output = clone.run(&[], None);
    assert!(
        output.status.success() && said(&output).contains("scripts/libtorch --cuda"),
        "{}",
        said(&output)
    );
    assert!(std::fs::read_to_string(clone.at("asked")).unwrap().contains("--no-deps"));
    assert_eq!(clone.points_at(), torch.canonicalize().unwrap());
}
