//! C99.

use std::fmt::Write as _;

use escape_snn_core::integer::IntegerNetwork;

use crate::plan::{ExportError, Kind, Plan, Stage};
use crate::{Golden, Program, Written, check_prefix};

const HEADER: &str = include_str!("c/net.h");
const SOURCE: &str = include_str!("c/net.c");
const TEST: &str = include_str!("c/selftest.c");
const README: &str = include_str!("c/README.md");

/// A network as a program in C99 that simulates `steps` timesteps of a recording, with the `goldens` for its self-test. Every name in it
/// begins with `prefix`; `title` is what its files call it.
///
/// # Errors
/// [`ExportError`]: no recording, Poisson input, a readout that is a convolution, sizes beyond 16 bits, potentials that may overflow over so
/// many timesteps, a prefix that is no name.
pub fn c99(
    network: &IntegerNetwork,
    steps: usize,
    prefix: &str,
    title: &str,
    goldens: &[Golden],
) -> Result<Program, ExportError> {
    check_prefix(prefix)?;
    let plan = Plan::new(network, steps)?;
    if goldens.is_empty() {
        return Err(ExportError::NoGolden);
    }
    let fill = |template: &str| fill(template, &plan, prefix, title, goldens);
    let file = |name: &str, text: String| Written { name: name.to_owned(), text };
    let files = vec![
        file(&format!("{prefix}.h"), fill(HEADER)),
        file(&format!("{prefix}.c"), fill(SOURCE)),
        file(&format!("{prefix}_weights.h"), weights(&plan, prefix)),
        file(&format!("{prefix}_selftest.c"), fill(TEST)),
        file("README.md", fill(README)),
    ];
    Ok(Program { files, constant_bytes: plan.constant_bytes(), state_bytes: plan.state_bytes() })
}

fn fill(template: &str, plan: &Plan, prefix: &str, title: &str, goldens: &[Golden]) -> String {
    // Nothing that ends a comment.
    let title = title.replace("*/", "* /").replace(['\n', '\r'], " ");
    let classes: Vec<String> = plan.classes.iter().map(|c| c.replace(['\n', '\r'], " ")).collect();
    let values = [
        ("P", prefix.to_uppercase()),
        ("p", prefix.to_owned()),
        ("title", title),
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
        ("input_bits", plan.input_bits.to_string()),
        ("channels", plan.input.channels.to_string()),
        ("rows", plan.input.height.to_string()),
        ("columns", plan.input.width.to_string()),
        ("largest", plan.largest_input.to_string()),
        ("classes", plan.classes.len().to_string()),
        ("class_names", classes.join(", ")),
        ("steps", plan.steps.to_string()),
        ("spiking", plan.spiking.len().to_string()),
        ("spikes_length", plan.spiking.len().max(1).to_string()),
        ("spiking_names", plan.spiking.join(", ")),
        ("sums", plan.sums.to_string()),
        ("currents", plan.currents.to_string()),
        ("stages", plan.stages.len().to_string()),
        ("input", plan.kept_input.to_string()),
        ("values", plan.kept_values.max(1).to_string()),
        ("value", if plan.wide { "uint16_t" } else { "uint8_t" }.to_owned()),
        ("constant_bytes", plan.constant_bytes().to_string()),
        ("state_bytes", plan.state_bytes().to_string()),
        ("table", table(plan, prefix)),
        ("goldens", goldens.len().to_string()),
        ("golden_table", golden_table(goldens)),
    ];
    let mut text = template.to_owned();
    for (name, value) in values {
        text = text.replace(&format!("@{name}@"), &value);
    }
    text
}

/// The stages as C initialises them.
fn table(plan: &Plan, prefix: &str) -> String {
    let mut text = String::new();
    for (k, stage) in plan.stages.iter().enumerate() {
        let Stage { input, output, kernel, stride, padding, .. } = stage;
        let kind = match stage.kind {
            Kind::Convolution => "CONVOLUTION",
            Kind::Sum => "SUM",
            Kind::Maximum => "MAXIMUM",
            Kind::Linear => "LINEAR",
        };
        let array = |what: &str, there: bool| match there {
            true => format!("{prefix}_{what}_{k}"),
            false => "NULL".to_owned(),
        };
        let _ = writeln!(
            text,
            "    /* {} */\n    {{{kind}, {{{}u, {}u, {}u}}, {{{}u, {}u, {}u}}, {}u, {}u, {}u, {}u, {}u, {}u, {}u, {}u, {}u, {}u,\n     {}, {}, {}, {}}},",
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
            array("weights", !stage.weights.is_empty()),
            array("bias", !stage.bias.is_empty()),
            array("thresholds", !stage.thresholds.is_empty()),
            stage.decay,
        );
    }
    text
}

/// Every constant array.
fn weights(plan: &Plan, prefix: &str) -> String {
    let guard = format!("{}_WEIGHTS_H", prefix.to_uppercase());
    let mut text = format!(
        "/* Weights, biases and thresholds; {prefix}.c has their order. */\n#ifndef {guard}\n#define {guard}\n\n#include <stdint.h>\n"
    );
    for (k, stage) in plan.stages.iter().enumerate() {
        let mut array = |what: &str, of: &str, values: &mut dyn Iterator<Item = i32>| {
            let values: Vec<i32> = values.collect();
            if values.is_empty() {
                return;
            }
            let _ = writeln!(
                text,
                "\n/* {} */\nstatic const {of} {prefix}_{what}_{k}[{}] = {{",
                stage.name,
                values.len()
            );
            numbers(&mut text, &values);
            text.push_str("};\n");
        };
        array("weights", "int8_t", &mut stage.weights.iter().map(|&w| i32::from(w)));
        array("bias", "int32_t", &mut stage.bias.iter().copied());
        array("thresholds", "int32_t", &mut stage.thresholds.iter().copied());
    }
    text.push_str("\n#endif\n");
    text
}

/// Numbers in lines of a readable length.
fn numbers(text: &mut String, values: &[i32]) {
    for line in values.chunks(24) {
        text.push_str("   ");
        for value in line {
            let _ = write!(text, " {value},");
        }
        text.push('\n');
    }
}

/// The recordings of the self-test, and what is to come out.
fn golden_table(goldens: &[Golden]) -> String {
    let mut text = String::new();
    let mut array = |name: &str, of: &str, suffix: &str, each: &dyn Fn(&Golden) -> Vec<i64>| {
        let rows: Vec<Vec<i64>> = goldens.iter().map(each).collect();
        // C has no empty list.
        let length = rows.first().map_or(0, Vec::len).max(1);
        let _ = writeln!(text, "static const {of} {name}[GOLDENS][{length}] = {{");
        for row in rows {
            let row = if row.is_empty() { vec![0] } else { row };
            let lines: Vec<String> = row
                .chunks(24)
                .map(|line| line.iter().map(|v| format!("{v}{suffix}")).collect::<Vec<_>>().join(", "))
                .collect();
            let _ = writeln!(text, "    {{{}}},", lines.join(",\n     "));
        }
        text.push_str("};\n\n");
    };
    array("recordings", "int16_t", "", &|g| g.recording.iter().map(|&v| i64::from(v)).collect());
    array("readouts", "int32_t", "", &|g| g.readout.iter().map(|&v| i64::from(v)).collect());
    array("spikes", "uint32_t", "u", &|g| g.spikes.iter().map(|&v| v as i64).collect());
    text
}
