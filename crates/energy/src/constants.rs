//! What an operation costs: constants in picojoules, each with its source, from a YAML file.

use std::sync::LazyLock;

use serde::Deserialize;

/// The constants that the program carries, as YAML: `configs/energy.yaml`.
pub const SHIPPED: &str = include_str!("../../../configs/energy.yaml");

/// A file of constants that cannot be used, in words: which file, where in it, expected against got.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConstantsError(String);

/// One constant.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Constant {
    #[serde(rename = "pJ")]
    picojoules: f64,
    source: String,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Operations {
    multiply: Constant,
    add: Constant,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Level {
    #[serde(default)]
    bytes: Option<u64>,
    access_64_bits: Constant,
}

/// What operations and memories cost.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Constants {
    fp32: Operations,
    int8: Operations,
    requantise: Constant,
    memory: Vec<Level>,
    event_queue: Constant,
}

/// Energy of arithmetic in one number format.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Arithmetic {
    /// One multiplication, picojoules.
    pub multiply_pj: f64,
    /// One addition, picojoules.
    pub add_pj: f64,
    /// Bits of a weight, a sum or a membrane potential.
    pub bits: u32,
}

impl Arithmetic {
    /// One multiply-accumulate, picojoules: a multiplication **and** its addition.
    pub fn mac_pj(&self) -> f64 {
        self.multiply_pj + self.add_pj
    }
}

/// Bits of the number format that [`Constants`] scales from.
const INT8_BITS: f64 = 8.0;

static DEFAULT: LazyLock<Constants> = LazyLock::new(|| {
    Constants::parse("configs/energy.yaml", SHIPPED).expect("a test reads the shipped file")
});

impl Default for Constants {
    /// Those that the program carries.
    fn default() -> Self {
        DEFAULT.clone()
    }
}

impl Constants {
    /// Constants in YAML, from text that `source` names.
    ///
    /// # Errors
    /// A key that is missing, unknown or of the wrong type, an energy that cannot be, a constant without a source, memories
    /// that do not grow or of which none holds everything.
    pub fn parse(source: &str, text: &str) -> Result<Self, ConstantsError> {
        let refuse = |at: &str, why: String| ConstantsError(format!("{source}: at {at}: {why}"));
        let value: serde_yaml::Value = serde_yaml::from_str(text)
            .map_err(|why| ConstantsError(format!("{source}: no valid YAML: {why}")))?;
        let read: Self = serde_path_to_error::deserialize(value)
            .map_err(|why| refuse(&why.path().to_string(), why.inner().to_string()))?;
        let mut all: Vec<(String, &Constant)> = vec![
            ("fp32.multiply".into(), &read.fp32.multiply),
            ("fp32.add".into(), &read.fp32.add),
            ("int8.multiply".into(), &read.int8.multiply),
            ("int8.add".into(), &read.int8.add),
            ("requantise".into(), &read.requantise),
            ("event_queue".into(), &read.event_queue),
        ];
        let levels = read.memory.iter().enumerate();
        all.extend(levels.map(|(i, level)| (format!("memory[{i}].access_64_bits"), &level.access_64_bits)));
        for (at, constant) in all {
            let got = constant.picojoules;
            if !(got.is_finite() && got >= 0.0) {
                return Err(refuse(
                    &format!("{at}.pJ"),
                    format!("expected a finite number of 0 or more, got {got}"),
                ));
            }
            if constant.source.trim().is_empty() {
                return Err(refuse(&format!("{at}.source"), "expected where the constant is from".into()));
            }
        }
        let Some((last, smaller)) = read.memory.split_last() else {
            return Err(refuse("memory", "expected at least one memory, got none".into()));
        };
        if let Some(bytes) = last.bytes {
            let at = format!("memory[{}].bytes", smaller.len());
            return Err(refuse(
                &at,
                format!("the last memory holds anything: expected no number of bytes, got {bytes}"),
            ));
        }
        let mut before = 0;
        for (i, level) in smaller.iter().enumerate() {
            let at = format!("memory[{i}].bytes");
            match level.bytes {
                Some(bytes) if bytes > before => before = bytes,
                Some(bytes) => {
                    return Err(refuse(&at, format!("expected more than the {before} before, got {bytes}")));
                }
                None => {
                    return Err(refuse(
                        &at,
                        "expected how many bytes it holds; only the last memory holds anything".into(),
                    ));
                }
            }
        }
        Ok(read)
    }

    /// 32-bit floating point.
    pub fn fp32(&self) -> Arithmetic {
        let Operations { multiply, add } = &self.fp32;
        Arithmetic { multiply_pj: multiply.picojoules, add_pj: add.picojoules, bits: 32 }
    }

    /// Integers: weights of `bits` bits that are multiplied with values of `value_bits`. Scaled from 8 bits: an array
    /// multiplier has a cell for each pair of bits, an adder one for each bit. An estimate, and the usual one.
    pub fn integer(&self, bits: u32, value_bits: u32) -> Arithmetic {
        let Operations { multiply, add } = &self.int8;
        let [weight, value] = [bits, value_bits].map(|bits| f64::from(bits) / INT8_BITS);
        Arithmetic {
            multiply_pj: multiply.picojoules * weight * value,
            add_pj: add.picojoules * weight,
            bits,
        }
    }

    /// What bringing a sum back to a few bits costs.
    pub fn requantise_pj(&self) -> f64 {
        self.requantise.picojoules
    }

    /// Picojoules to move one bit of a tensor that takes `tensor_bits` bits in all.
    pub fn bit_pj(&self, tensor_bits: f64) -> f64 {
        let bytes = tensor_bits / 8.0;
        let fits = |level: &&Level| level.bytes.is_none_or(|capacity| bytes <= capacity as f64);
        // The last one holds anything.
        let level = self.memory.iter().find(fits);
        level.map_or(0.0, |level| level.access_64_bits.picojoules) / 64.0
    }

    /// Picojoules to tell the next layer, over so many steps, which `events` of a layer's `values` there were, and to be
    /// told: by their addresses, ceil(log2 values) bits each, in a queue, or by a map of one bit for each value and step,
    /// whichever is cheaper; each is written once and read once.
    pub fn addressing_pj(&self, events: f64, values: u64, steps: f64) -> f64 {
        let queue = events * address_bits(values) * self.event_queue.picojoules / 64.0;
        let map = steps * values as f64 * self.bit_pj(values as f64);
        2.0 * queue.min(map)
    }

    /// Picojoules to tell the next layer, and to be told, the whole spike trains of a layer that has gone through so many steps:
    /// which `active` neurons of its `values` fired at all, by their addresses or by a map, and for each of them a bit a step;
    /// whichever is cheaper.
    pub fn trains_pj(&self, active: f64, values: u64, steps: f64) -> f64 {
        let queue = active * (address_bits(values) + steps) * self.event_queue.picojoules / 64.0;
        let map = values as f64 + active * steps;
        2.0 * queue.min(map * self.bit_pj(map))
    }
}

/// Bits of the address of one of so many values.
fn address_bits(values: u64) -> f64 {
    f64::from((u64::BITS - values.saturating_sub(1).leading_zeros()).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_file_holds_horowitzs_constants() {
        let constants = Constants::default();
        let (fp32, int8) = (constants.fp32(), constants.integer(8, 8));
        assert!((fp32.mac_pj() - 4.6).abs() < 1e-12 && (int8.mac_pj() - 0.23).abs() < 1e-12);
        assert_eq!((fp32.bits, int8.bits), (32, 8));
        assert_eq!(constants.requantise_pj(), 3.1);
    }

    #[test]
    fn other_bits_scale_from_int8() {
        let constants = Constants::default();
        let four = constants.integer(4, 4);
        assert!((four.multiply_pj - 0.05).abs() < 1e-12 && (four.add_pj - 0.015).abs() < 1e-12);
        assert!((constants.integer(4, 10).multiply_pj - 0.2 * 0.5 * 1.25).abs() < 1e-12);
    }

    #[test]
    fn tensors_live_in_the_smallest_memory_that_holds_them() {
        let constants = Constants::default();
        let pj = |bytes: f64| constants.bit_pj(bytes * 8.0) * 64.0;
        assert_eq!([0.0, 8192.0, 8193.0, 65_536.0, 22.9e6].map(pj), [10.0, 10.0, 20.0, 100.0, 1300.0]);
    }

    #[test]
    fn events_are_told_by_address_or_by_a_map_whichever_is_cheaper() {
        let constants = Constants::default();
        // 1,000 values: 10 bits an address, a map of 125 bytes in the smallest memory.
        let bit = 10.0 / 64.0;
        assert_eq!(constants.addressing_pj(3.0, 1000, 4.0), 2.0 * 3.0 * 10.0 * bit);
        assert_eq!(constants.addressing_pj(900.0, 1000, 4.0), 2.0 * 4000.0 * bit);
        assert_eq!(constants.addressing_pj(0.0, 1000, 4.0), 0.0);
        assert_eq!(constants.addressing_pj(0.25, 1, 1.0), 2.0 * 0.25 * bit);
    }

    #[test]
    fn bad_files_are_refused_with_their_place() {
        let refused = |from: &str, to: &str, words: &[&str]| {
            assert!(SHIPPED.contains(from), "{from}");
            let why = Constants::parse("my.yaml", &SHIPPED.replacen(from, to, 1)).unwrap_err().to_string();
            assert!(why.starts_with("my.yaml: ") && words.iter().all(|word| why.contains(word)), "{why}");
        };
        refused("pJ: 3.7", "pJ: -3.7", &["fp32.multiply.pJ", "0 or more", "-3.7"]);
        refused("pJ: 3.7", "pJ: .nan", &["fp32.multiply.pJ", "NaN"]);
        refused("pJ: 3.7", "pJ: much", &["fp32.multiply.pJ", "much"]);
        refused("pJ: 3.7", "nJ: 3.7", &["fp32.multiply", "nJ"]);
        refused("fp32:", "fp64:", &["fp64"]);
        refused("source: \"Horowitz, ISSCC 2014: FP add, 32 bit\"", "source: ' '", &["fp32.add.source"]);
        refused(", source: \"Horowitz, ISSCC 2014: FP add, 32 bit\"", "", &["fp32.add", "source"]);
        refused("bytes: 32768", "bytes: 4096", &["memory[1].bytes", "8192", "4096"]);
        refused("bytes: 32768, ", "", &["memory[1].bytes", "only the last"]);
        refused(
            "- {access_64_bits: {pJ: 1300",
            "- {bytes: 9999999, access_64_bits: {pJ: 1300",
            &["memory[3].bytes", "9999999"],
        );
        refused("  - {bytes: 8192", "  ]", &["YAML"]);
    }
}
