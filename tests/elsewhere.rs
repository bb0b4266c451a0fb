//! The example of docs/use-from-elsewhere.md, as it stands there.

use std::path::Path;
use std::process::Command;

use crate::parity;

/// The block of a language in a page.
fn block<'a>(page: &'a str, language: &str) -> &'a str {
    let (_, rest) = page.split_once(&format!("```{language}\n")).unwrap();
    rest.split_once("```").unwrap().0
}

#[test]
fn the_python_example_runs() {
    let Some(python) = parity::python() else { return };
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let page = std::fs::read_to_string(root.join("docs/use-from-elsewhere.md")).unwrap();
    let output = Command::new(python)
        .args(["-c", block(&page, "python")])
        .arg(root.join("checkpoints/modified.pth"))
        .env("ESCAPE_SNN", env!("CARGO_BIN_EXE_escape-snn"))
        .output()
        .unwrap();
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}{errors}");
    assert!(said.contains("recordings, accuracy 0.") && said.contains("thresholds ["), "{said}");
}
