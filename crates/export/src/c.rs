//! C99.

use std::fmt::Write as _;

use escape_snn_core::integer::IntegerNetwork;

use crate::plan::{ExportError, Plan};
use crate::template::{Array, Told, arrays, fill, golden_row, numbers, stages};
use crate::{Golden, Program, Written, prepared};

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
    let plan = prepared(network, steps, prefix, goldens)?;
    let array = |what: &str, k: usize, there: bool| match there {
        true => format!("{prefix}_{what}_{k}"),
        false => "NULL".to_owned(),
    };
    let own = [
        ("count", if plan.wide { "uint16_t" } else { "uint8_t" }.to_owned()),
        ("table", stages(STAGE, &plan, KINDS, KEPT, array)),
        ("golden_table", golden_table(goldens)),
    ];
    let fill = |template: &str| fill(template, &plan, Told { prefix, title, goldens }, &own);
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

const KINDS: [&str; 4] = ["CONVOLUTION", "SUM", "MAXIMUM", "LINEAR"];
const KEPT: [&str; 3] = ["RECORDING", "TRAINS", "COUNTS"];

/// A stage as C initialises it.
const STAGE: &str = "    /* @name@ */
    {@kind@, {@in_channels@u, @in_rows@u, @in_columns@u}, {@out_channels@u, @out_rows@u, @out_columns@u}, @kernel_rows@u, @kernel_columns@u,
     @stride_rows@u, @stride_columns@u, @top@u, @left@u, @groups@u, @group_in@u, @group_out@u,
     @slots@u, @kept@, @kept_at@u, @spiking@u,
     @weights@, @bias@, @thresholds@, @decay@},
";

/// Every constant array.
fn weights(plan: &Plan, prefix: &str) -> String {
    let guard = format!("{}_WEIGHTS_H", prefix.to_uppercase());
    let mut text = format!(
        "/* Weights, biases and thresholds; {prefix}.c has their order. */\n#ifndef {guard}\n#define {guard}\n\n#include <stdint.h>\n"
    );
    for Array { stage, k, what, bits, values } in arrays(plan) {
        let (name, count) = (&stage.name, values.len());
        let _ = writeln!(text, "\n/* {name} */\nstatic const int{bits}_t {prefix}_{what}_{k}[{count}] = {{");
        numbers(&mut text, &values);
        text.push_str("};\n");
    }
    text.push_str("\n#endif\n");
    text
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
            let _ = writeln!(text, "    {{{}}},", golden_row(&row, suffix));
        }
        text.push_str("};\n\n");
    };
    array("recordings", "int16_t", "", &|g| g.recording.iter().map(|&v| i64::from(v)).collect());
    array("readouts", "int32_t", "", &|g| g.readout.iter().map(|&v| i64::from(v)).collect());
    array("spikes", "uint32_t", "u", &|g| g.spikes.iter().map(|&v| v as i64).collect());
    text
}
