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
