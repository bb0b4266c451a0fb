//! What a file says, fit for a terminal.

use std::fmt::Write as _;

/// Text from a file: control characters escaped, cut at 100 characters.
pub fn shown(text: &str) -> String {
    const LIMIT: usize = 100;
    let mut out = String::new();
    for (i, c) in text.chars().enumerate() {
        if i == LIMIT {
            out.push('…');
            break;
        }
        // Also the invisible formatting characters that reorder text on a terminal.
        if c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        {
            let _ = write!(out, "{}", c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// A shape as it is spoken: `64 x 1 x 8 x 8`.
pub fn dims<N: ToString>(sizes: &[N]) -> String {
    match sizes {
        [] => "scalar".to_owned(),
        _ => sizes.iter().map(N::to_string).collect::<Vec<_>>().join(" x "),
    }
}

/// Levels of lists and mappings that a YAML text may have: a parser takes time that grows with their square.
pub const DEEPEST: usize = 100;

/// Whether lists and mappings in a YAML text are nested deeper than [`DEEPEST`], by a look at its brackets and at the marks of
/// lists and keys that begin its lines.
pub fn too_deep(text: &str) -> bool {
    let mut depth = 0usize;
    for line in text.lines() {
        let marks =
            line.split(' ').filter(|word| !word.is_empty()).take_while(|word| matches!(*word, "-" | "?"));
        let indented = line.len() - line.trim_start().len();
        if marks.count() > DEEPEST || indented > 20 * DEEPEST {
            return true;
        }
        let said =
            if line.trim_start().starts_with('#') { "" } else { line.split(" #").next().unwrap_or("") };
        for c in said.chars() {
            match c {
                '[' | '{' => depth += 1,
                ']' | '}' => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth > DEEPEST {
                return true;
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_and_length_are_tamed() {
        assert_eq!(shown("a\u{1b}[31mb\u{202e}c"), "a\\u{1b}[31mb\\u{202e}c");
        assert_eq!(shown(&"x".repeat(200)), format!("{}…", "x".repeat(100)));
    }

    #[test]
    fn shapes_are_spoken() {
        assert_eq!(dims::<u64>(&[]), "scalar");
        assert_eq!(dims(&[64usize, 1, 8, 8]), "64 x 1 x 8 x 8");
    }
}
