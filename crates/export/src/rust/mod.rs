//! Rust without the standard library.

use std::fmt::Write as _;

use escape_snn_core::integer::IntegerNetwork;

use crate::plan::{ExportError, Plan};
use crate::template::{Array, Told, arrays, fill, golden_row, numbers, stages};
use crate::{Golden, Program, Written, prepared};

const MANIFEST: &str = include_str!("Cargo.toml.txt");
const SOURCE: &str = include_str!("lib.rs.txt");
const TEST: &str = include_str!("selftest.rs.txt");
const README: &str = include_str!("README.md");

/// Names that no crate can have: Rust's words, and the crates that come with it.
const TAKEN: &str = "abstract alloc as async await become box break const continue core crate do dyn else enum extern false final fn \
    for gen if impl in let loop macro match mod move mut override priv proc_macro pub ref return self static std struct super test \
    trait true try type typeof unsafe unsized use virtual where while yield";

/// A network as a crate called `prefix`, otherwise as [`c99`](crate::c99).
///
/// # Errors
/// As [`c99`](crate::c99), and a prefix that no crate can be called.
pub fn no_std(
    network: &IntegerNetwork,
    steps: usize,
    prefix: &str,
    title: &str,
    goldens: &[Golden],
) -> Result<Program, ExportError> {
    let plan = prepared(network, steps, prefix, goldens)?;
    if TAKEN.split_whitespace().any(|taken| taken == prefix) {
        return Err(ExportError::Taken(prefix.to_owned()));
    }
    // A string in a manifest.
    let toml_title: String = title.chars().filter(|c| !c.is_control() && !"\"\\".contains(*c)).collect();
    let array = |what: &str, k: usize, there: bool| match there {
        true => format!("&weights::{}_{k}", what.to_uppercase()),
        false => "&[]".to_owned(),
    };
    let own = [
        ("count", if plan.wide { "u16" } else { "u8" }.to_owned()),
        ("table", stages(STAGE, &plan, KINDS, KEPT, array)),
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

const KINDS: [&str; 4] = ["Convolution", "Sum", "Maximum", "Linear"];
const KEPT: [&str; 3] = ["Recording", "Trains", "Counts"];

/// A stage as Rust has it.
const STAGE: &str = "    // @name@
    Stage {
        kind: Kind::@kind@,
        from: Shape { channels: @in_channels@, rows: @in_rows@, columns: @in_columns@ },
        to: Shape { channels: @out_channels@, rows: @out_rows@, columns: @out_columns@ },
        kernel: [@kernel_rows@, @kernel_columns@],
        stride: [@stride_rows@, @stride_columns@],
        before: [@top@, @left@],
        groups: @groups@,
        group: [@group_in@, @group_out@],
        slots: @slots@,
        kept: Kept::@kept@,
        kept_at: @kept_at@,
        spiking: @spiking@,
        weights: @weights@,
        bias: @bias@,
        thresholds: @thresholds@,
        decay: @decay@,
    },
";

/// Every constant array.
fn weights(plan: &Plan) -> String {
    let mut text = "//! Weights, biases and thresholds; lib.rs has their order.\n".to_owned();
    for Array { stage, k, what, bits, values } in arrays(plan) {
        let (name, what, count) = (&stage.name, what.to_uppercase(), values.len());
        let _ = writeln!(text, "\n/// {name}\npub static {what}_{k}: [i{bits}; {count}] = [");
        numbers(&mut text, &values);
        text.push_str("];\n");
    }
    text
}

/// The recordings of the self-test, and what is to come out.
fn golden_table(goldens: &[Golden]) -> String {
    let mut text = String::new();
    let mut array = |name: &str, of: &str, each: &dyn Fn(&Golden) -> Vec<i64>| {
        let _ = writeln!(text, "static {name}: [[{of}]; GOLDENS] = [");
        for values in goldens.iter().map(each) {
            let _ = writeln!(text, "    [{}],", golden_row(&values, ""));
        }
        text.push_str("];\n\n");
    };
    array("RECORDINGS", "i16; RECORDING", &|g| g.recording.iter().map(|&v| i64::from(v)).collect());
    array("READOUTS", "i32; CLASSES", &|g| g.readout.iter().map(|&v| i64::from(v)).collect());
    array("SPIKES", "u32; SPIKING_LAYERS", &|g| g.spikes.iter().map(|&v| v as i64).collect());
    text
}
