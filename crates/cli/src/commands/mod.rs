//! One module a command.

pub mod bench;
pub mod checkpoint;
#[cfg(feature = "libtorch")]
pub mod convert;
pub mod data;
pub mod energy;
pub mod evaluate;
pub mod export;
#[cfg(feature = "libtorch")]
pub mod finetune;
pub mod report;
#[cfg(feature = "libtorch")]
pub mod run;
pub mod spikes;
pub mod stream;
#[cfg(feature = "libtorch")]
pub mod study;
#[cfg(feature = "libtorch")]
pub mod train;

use escape_snn_core::integer::Precision;

/// Columns aligned for a terminal: the first to the left, the others to the right.
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |c: usize| rows.iter().filter_map(|r| r.get(c)).map(|s| s.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        for (c, cell) in row.iter().enumerate() {
            let space = " ".repeat(widths[c] - cell.chars().count());
            match c {
                0 => text.push_str(&format!("{cell}{space}")),
                _ => text.push_str(&format!("  {space}{cell}")),
            }
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}

/// Bits of the default preset's whole numbers, in results.
#[derive(Clone, Copy, serde::Serialize)]
pub struct BitsReport {
    weight_bits: u32,
    input_bits: u32,
}

impl BitsReport {
    /// Of rules that have any.
    pub fn of(rules: &escape_snn_core::rules::Rules) -> Option<Self> {
        rules.precision().map(Self::from)
    }
}

impl From<Precision> for BitsReport {
    fn from(precision: Precision) -> Self {
        Self { weight_bits: precision.weight_bits(), input_bits: precision.input_bits() }
    }
}

impl std::fmt::Display for BitsReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bits a weight, {} of input", self.weight_bits, self.input_bits)
    }
}

/// A count with thousands set apart.
pub fn thousands(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    if value < 0.0 { format!("-{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_align() {
        let cells = |a: &str, b: &str| vec![a.to_string(), b.to_string()];
        assert_eq!(table(&[cells("a", "10"), cells("long", "2")]), "a     10\nlong   2\n");
    }

    #[test]
    fn counts_are_grouped() {
        assert_eq!(thousands(1234567.4), "1,234,567");
        assert_eq!(thousands(999.0), "999");
        assert_eq!(thousands(-1000.0), "-1,000");
    }
}
