//! What files in any language have in common: templates with the numbers of a network in `@name@`.

use std::fmt::Write as _;

use crate::Golden;
use crate::plan::{Plan, Stage};

/// What is told of a network besides its plan.
#[derive(Clone, Copy)]
pub(crate) struct Told<'a> {
    pub prefix: &'a str,
    pub title: &'a str,
    pub goldens: &'a [Golden],
}

/// Fills in a template; `own` are the language's names and values.
pub(crate) fn fill(template: &str, plan: &Plan, told: Told<'_>, own: &[(&str, String)]) -> String {
    let Told { prefix, title, goldens } = told;
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
        ("stages", plan.stages.len().to_string()),
        ("input", plan.input_length.to_string()),
        // C has no empty array.
        ("sums", plan.sums.max(1).to_string()),
        ("currents", plan.currents.max(1).to_string()),
        ("counts", plan.counts_length.max(1).to_string()),
        ("trains", plan.trains_length.max(1).to_string()),
        ("constant_bytes", plan.constant_bytes().to_string()),
        ("state_bytes", plan.state_bytes().to_string()),
        ("goldens", goldens.len().to_string()),
    ];
    let all = own
        .iter()
        .map(|(name, value)| (*name, value))
        .chain(values.iter().map(|(name, value)| (*name, value)));
    replaced(template, all)
}

/// A template with each `@name@` as its value.
fn replaced<'a>(template: &str, values: impl Iterator<Item = (&'a str, &'a String)>) -> String {
    values.fold(template.to_owned(), |text, (name, value)| text.replace(&format!("@{name}@"), value))
}

/// The stages, each by a template of the language's; `kinds` are what it calls a convolution, a sum, a maximum and a linear stage, `kept`
/// what it calls the recording, trains and counts, and `array` is an array's name there, or what stands for none.
pub(crate) fn stages(
    template: &str,
    plan: &Plan,
    kinds: [&str; 4],
    kept: [&str; 3],
    array: impl Fn(&str, usize, bool) -> String,
) -> String {
    let one = |(k, stage): (usize, &Stage)| {
        let Stage { input, output, kernel, stride, padding, .. } = stage;
        let numbers = [
            ("in_channels", input.channels),
            ("in_rows", input.height),
            ("in_columns", input.width),
            ("out_channels", output.channels),
            ("out_rows", output.height),
            ("out_columns", output.width),
            ("kernel_rows", kernel.0),
            ("kernel_columns", kernel.1),
            ("stride_rows", stride.0),
            ("stride_columns", stride.1),
            ("top", padding.top),
            ("left", padding.left),
            ("groups", stage.groups),
            ("group_in", input.channels / stage.groups),
            ("group_out", output.channels / stage.groups),
            ("slots", stage.slots),
            ("kept_at", stage.kept_at),
            ("spiking", stage.spiking),
        ];
        let named = [
            ("name", stage.name.clone()),
            ("kind", kinds[stage.kind as usize].to_owned()),
            ("kept", kept[stage.kept as usize].to_owned()),
            ("decay", stage.decay.to_string()),
            ("weights", array("weights", k, !stage.weights.is_empty())),
            ("bias", array("bias", k, !stage.bias.is_empty())),
            ("thresholds", array("thresholds", k, !stage.thresholds.is_empty())),
        ];
        let numbers = numbers.map(|(name, number)| (name, number.to_string()));
        replaced(template, named.iter().chain(&numbers).map(|(name, value)| (*name, value)))
    };
    plan.stages.iter().enumerate().map(one).collect()
}

/// A constant array.
pub(crate) struct Array<'a> {
    pub stage: &'a Stage,
    /// The stage's number.
    pub k: usize,
    pub what: &'static str,
    /// Of a value.
    pub bits: u32,
    pub values: Vec<i32>,
}

/// Every constant array.
pub(crate) fn arrays(plan: &Plan) -> Vec<Array<'_>> {
    let mut all = Vec::new();
    for (k, stage) in plan.stages.iter().enumerate() {
        let weights = stage.weights.iter().map(|&w| i32::from(w)).collect();
        let mut add = |what, bits, values| all.push(Array { stage, k, what, bits, values });
        add("weights", 8, weights);
        add("bias", 32, stage.bias.clone());
        add("thresholds", 32, stage.thresholds.clone());
    }
    all.retain(|array| !array.values.is_empty());
    all
}

/// A row of the self-test's tables, in lines of a readable length; `suffix` follows each number.
pub(crate) fn golden_row(values: &[i64], suffix: &str) -> String {
    let line = |line: &[i64]| line.iter().map(|v| format!("{v}{suffix}")).collect::<Vec<_>>().join(", ");
    values.chunks(24).map(line).collect::<Vec<_>>().join(",\n     ")
}

/// Numbers in lines of a readable length.
pub(crate) fn numbers(text: &mut String, values: &[i32]) {
    for line in values.chunks(24) {
        text.push_str("   ");
        for value in line {
            let _ = write!(text, " {value},");
        }
        text.push('\n');
    }
}
