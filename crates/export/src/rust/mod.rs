//! Rust without the standard library.

use std::fmt::Write as _;

use escape_snn_core::integer::IntegerNetwork;

use crate::plan::{ExportError, Kind, Plan, Stage};
use crate::template::{Told, fill, numbers};
use crate::{Golden, Program, Written, prepared};

const MANIFEST: &str = include_str!("Cargo.toml.txt");
const SOURCE: &str = include_str!("lib.rs.txt");
const TEST: &str = include_str!("selftest.rs.txt");
const README: &str = include_str!("README.md");

/// A network as a crate called `prefix`, otherwise as [`c99`](crate::c99).
///
/// # Errors
/// As [`c99`](crate::c99).
pub fn no_std(
    network: &IntegerNetwork,
    steps: usize,
    prefix: &str,
    title: &str,
    goldens: &[Golden],
) -> Result<Program, ExportError> {
    let plan = prepared(network, steps, prefix, goldens)?;
    // A string in a manifest.
    let toml_title: String = title.chars().filter(|c| !c.is_control() && !"\"\\".contains(*c)).collect();
    let own = [
        ("value", if plan.wide { "u16" } else { "u8" }.to_owned()),
        ("table", table(&plan)),
        ("golden_table", golden_table(goldens)),
        ("toml_title", toml_title),
    ];
    let fill = |template: &str| fill(template, &plan, Told { prefix, title, goldens }, &own);
    let file = |name: &str, text: String| Written { name: name.to_owned(), text };
    let files = vec![
        file("Cargo.toml", fill(MANIFEST)),
        file("src/lib.rs", fill(SOURCE)),
        file("src/weights.rs", weights(&plan)),
        file("tests/selftest.rs", fill(TEST)),
        file("README.md", fill(README)),
    ];
    Ok(Program { files, constant_bytes: plan.constant_bytes(), state_bytes: plan.state_bytes() })
}

fn table(plan: &Plan) -> String {
    let mut text = String::new();
    for (k, stage) in plan.stages.iter().enumerate() {
        let Stage { input, output, kernel, stride, padding, .. } = stage;
        let array = |what: &str, there: bool| match there {
            true => format!("&weights::{what}_{k}"),
            false => "&[]".to_owned(),
        };
        let kind = match stage.kind {
            Kind::Convolution => "Convolution",
            Kind::Sum => "Sum",
            Kind::Maximum => "Maximum",
            Kind::Linear => "Linear",
        };
        let _ = writeln!(
            text,
            "    // {}\n    Stage {{\n        kind: Kind::{kind},\n        from: Shape {{ channels: {}, rows: {}, columns: {} }},\n        \
             to: Shape {{ channels: {}, rows: {}, columns: {} }},\n        kernel: [{}, {}],\n        stride: [{}, {}],\n        \
             before: [{}, {}],\n        groups: {},\n        slots: {},\n        values_at: {},\n        spiking: {},\n        \
             weights: {},\n        bias: {},\n        thresholds: {},\n        decay: {},\n    }},",
            stage.name,
            input.channels,
            input.height,
            input.width,
            output.channels,
            output.height,
            output.width,
            kernel.0,
            kernel.1,
            stride.0,
            stride.1,
            padding.top,
            padding.left,
            stage.groups,
            stage.slots,
            stage.values_at,
            stage.spiking,
            array("WEIGHTS", !stage.weights.is_empty()),
            array("BIAS", !stage.bias.is_empty()),
            array("THRESHOLDS", !stage.thresholds.is_empty()),
            stage.decay,
        );
    }
    text
}

/// Every constant array.
fn weights(plan: &Plan) -> String {
    let mut text = "//! Weights, biases and thresholds; lib.rs has their order.\n".to_owned();
    for (k, stage) in plan.stages.iter().enumerate() {
        let mut array = |what: &str, of: &str, values: &mut dyn Iterator<Item = i32>| {
            let values: Vec<i32> = values.collect();
            if values.is_empty() {
                return;
            }
            let _ =
                writeln!(text, "\n/// {}\npub static {what}_{k}: [{of}; {}] = [", stage.name, values.len());
            numbers(&mut text, &values);
            text.push_str("];\n");
        };
        array("WEIGHTS", "i8", &mut stage.weights.iter().map(|&w| i32::from(w)));
        array("BIAS", "i32", &mut stage.bias.iter().copied());
        array("THRESHOLDS", "i32", &mut stage.thresholds.iter().copied());
    }
    text
}

/// The recordings of the self-test, and what is to come out.
fn golden_table(goldens: &[Golden]) -> String {
    let mut text = String::new();
    let mut array = |name: &str, of: &str, each: &dyn Fn(&Golden) -> Vec<i64>| {
        let _ = writeln!(text, "static {name}: [[{of}]; GOLDENS] = [");
        for values in goldens.iter().map(each) {
            let lines: Vec<String> = values
                .chunks(24)
                .map(|line| line.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
                .collect();
            let _ = writeln!(text, "    [{}],", lines.join(",\n     "));
        }
        text.push_str("];\n\n");
    };
    array("RECORDINGS", "i16; RECORDING", &|g| g.recording.iter().map(|&v| i64::from(v)).collect());
    array("READOUTS", "i32; CLASSES", &|g| g.readout.iter().map(|&v| i64::from(v)).collect());
    array("SPIKES", "u32; SPIKING_LAYERS", &|g| g.spikes.iter().map(|&v| v as i64).collect());
    text
}
