//! Hostile descriptions of networks: each is refused in words, quickly, and without taking much memory.

#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use escape_checkpoint::description::parse;

#[path = "../../../tests/counting.rs"]
mod counting;

#[global_allocator]
static ALLOCATOR: counting::Counting = counting::Counting;

/// A network with one line of its own in the place of a layer.
fn with(line: &str) -> String {
    format!(
        "input: [2, 12, 10]\nlayers:\n  - {line}\n  - {{type: relu}}\n  - {{type: flatten}}\n  - {{type: linear, name: z, out: 3}}\n"
    )
}

/// Every one of them, with a word that the refusal has.
fn hostile() -> Vec<(String, &'static str)> {
    let mut all: Vec<(String, &str)> = Vec::new();
    let mut layer = |line: &str, word: &'static str| all.push((with(line), word));
    let conv = |rest: &str| format!("{{type: conv2d, name: a, {rest}}}");
    for size in ["0", "[0, 3]", "[3, 0]"] {
        layer(&conv(&format!("out: 2, kernel: {size}")), "kernel");
        layer(&conv(&format!("out: 2, kernel: 3, stride: {size}")), "stride");
        layer(&format!("{{type: max_pool2d, kernel: {size}}}"), "kernel");
        layer(&format!("{{type: avg_pool2d, kernel: 2, stride: {size}}}"), "stride");
        layer(&format!("{{type: adaptive_avg_pool2d, out: {size}}}"), "at least 1");
    }
    let huge = ["1000000000", "4294967296", "9223372036854775807", "18446744073709551615"];
    for size in huge {
        layer(&conv(&format!("out: {size}, kernel: 3")), "at most");
        layer(&conv(&format!("out: 2, kernel: {size}")), "kernel");
        layer(&conv(&format!("out: 2, kernel: 1, padding: {size}")), "at most");
        layer(&conv(&format!("out: 2, kernel: [1, {size}], padding: {size}")), "at most");
        layer(&conv(&format!("out: 4, kernel: 1, groups: {size}")), "groups");
        layer(&format!("{{type: max_pool2d, kernel: {size}}}"), "kernel");
        layer(&format!("{{type: avg_pool2d, kernel: 2, padding: {size}}}"), "half of its kernel");
        layer(&format!("{{type: adaptive_avg_pool2d, out: {size}}}"), "at most");
    }
    for size in huge {
        let plain = with("{type: relu}");
        all.push((plain.replace("out: 3", &format!("out: {size}")), "at most"));
        all.push((plain.replace("[2, 12, 10]", &format!("[{size}, 12, 10]")), "input"));
        all.push((plain.replace("[2, 12, 10]", &format!("[{size}, {size}, {size}]")), "input"));
    }
    let mut layer = |line: &str, word: &'static str| all.push((with(line), word));
    for size in [
        "-1",
        "1.5",
        "1e9",
        ".inf",
        ".nan",
        "'3'",
        "null",
        "[1, 2, 3, 4, 5, 6]",
        "[]",
        "{a: 1}",
        "true",
        "18446744073709551616",
    ] {
        layer(&conv(&format!("out: {size}, kernel: 3")), "layers");
        layer(&conv(&format!("out: 2, kernel: {size}")), "layers");
        layer(&format!("{{type: linear, name: a, out: {size}}}"), "layers");
    }
    for (line, word) in [
        ("{type: flatten}\n  - {type: conv2d, name: a, out: 2, kernel: 1}", "features in a row"),
        ("{type: flatten}\n  - {type: max_pool2d, kernel: 2}", "features in a row"),
        ("{type: linear, name: a, out: 3}", "flatten before it"),
        ("{type: conv2d, out: 2, kernel: 1}", "name"),
        ("{type: conv2d, name: '', out: 2, kernel: 1}", "needs a name"),
        ("{type: conv2d, name: z, out: 2, kernel: 1}", "earlier layer"),
        ("{type: conv2d, name: a, out: 3, kernel: 1, groups: 2}", "groups"),
        ("{type: conv2d, name: a, out: 2, kernel: 1, groups: 0}", "groups"),
        ("{type: conv2d, name: a, out: 2, kernel: 1, dilation: 2}", "dilation"),
        ("{type: conv2d, name: a, out: 2, kernel: 20}", "kernel of 20"),
        ("{type: batch_norm, name: a, eps: -1}", "eps"),
        ("{type: batch_norm, name: a, eps: .nan}", "eps"),
        ("{type: dropout, p: 1}", "p:"),
        ("{type: dropout, p: -0.1}", "p:"),
        ("{type: dropout, p: .nan}", "p:"),
        ("{type: lstm}", "lstm"),
        ("{type: 3}", "layers"),
        ("{}", "type"),
        ("3", "layers"),
        ("&a [*a]", "YAML"),
    ] {
        layer(line, word);
    }
    let relus = |n: usize| format!("input: [1, 1, 1]\nlayers: [{}]\n", "{type: relu},".repeat(n));
    let twice =
        "input: [1, 4, 4]\nclasses: [a, a]\nlayers: [{type: flatten}, {type: linear, name: z, out: 2}]";
    for (text, word) in [
        (String::new(), "input"),
        ("3".into(), ""),
        ("layers: []".into(), "input"),
        ("input: [1, 2, 3]".into(), "layers"),
        ("input: [1, 2, 3]\nlayers: []".into(), "no layer with weights"),
        ("input: [1, 2]\nlayers: []".into(), "input"),
        ("input: [0, 2, 3]\nlayers: []".into(), "input"),
        ("input: [1, 2, 3]\nlayers: []\nextra: 1".into(), "extra"),
        (twice.into(), "twice"),
        (twice.replace("[a, a]", "[a, b, c]"), "3 class"),
        (relus(20_000), "20000 layers"),
        (relus(60_000), "60000 layers"),
        ("[".repeat(100_000), "levels deep"),
        (format!("input: {}", "[".repeat(90)), ""),
        ("x".repeat(2 << 20), "at most"),
        (
            format!("input: [1, 2, 3]\nlayers:\n  - {{type: conv2d, name: {}}}", "n".repeat(1 << 20)),
            "at most",
        ),
        // Aliases that multiply: a billion laughs.
        (
            (1..20).fold("a0: &a0 [x, x]\n".to_owned(), |text, i| {
                format!("{text}a{i}: &a{i} [*a{0}, *a{0}]\n", i - 1)
            }),
            "",
        ),
        ("\u{0}\u{1}".into(), ""),
        ("input: !!binary x\nlayers: []".into(), ""),
    ] {
        all.push((text, word));
    }
    all
}

#[test]
fn all_are_refused_in_words_within_a_second_and_100_megabytes() {
    let all = hostile();
    assert!(all.len() >= 100, "only {}", all.len());
    for (text, word) in all {
        let start = Instant::now();
        let (found, peak) = counting::peak_of(|| parse("hostile.yaml", &text));
        let took = start.elapsed();
        let shown: String = text.chars().take(300).collect();
        let why = found.map(drop).unwrap_err().to_string();
        assert!(why.starts_with("hostile.yaml: ") && why.contains(word), "{shown}\n-> {why}");
        assert!(why.len() < 2000, "{shown}\n-> {} bytes of words", why.len());
        assert!(took < Duration::from_secs(1), "{shown}\n-> {took:?}");
        assert!(peak < 100 << 20, "{shown}\n-> {peak} bytes");
    }
}
