//! What files in any language have in common: templates with the numbers of a network in `@name@`.

use std::fmt::Write as _;

use crate::Golden;
use crate::plan::Plan;

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
        ("sums", plan.sums.to_string()),
        ("currents", plan.currents.to_string()),
        ("stages", plan.stages.len().to_string()),
        ("input", plan.kept_input.to_string()),
        ("values", plan.kept_values.max(1).to_string()),
        ("constant_bytes", plan.constant_bytes().to_string()),
        ("state_bytes", plan.state_bytes().to_string()),
        ("goldens", goldens.len().to_string()),
    ];
    let mut text = template.to_owned();
    for (name, value) in
        own.iter().map(|(name, value)| (*name, value)).chain(values.iter().map(|(n, v)| (*n, v)))
    {
        text = text.replace(&format!("@{name}@"), value);
    }
    text
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
