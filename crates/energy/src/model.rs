//! What an operation costs: constants and where they come from.
//!
//! All constants are for a 45 nm process at 0.9 V: M. Horowitz, "Computing's energy problem (and what we can do
//! about it)", ISSCC 2014, figure 1.1.9. They are the usual yardstick, not a measurement of any chip.

use serde::{Deserialize, Serialize};

/// Name of the full-precision ANN in tables.
pub const ANN: &str = "ann";

/// Name, in tables, of the ANN quantised to `bits` bits: `ann-5bit`.
pub fn ann_name(bits: u32) -> String {
    format!("{ANN}-{bits}bit")
}

/// Whether a name is kept for a baseline: that of [`ANN`] or of [`ann_name`].
pub fn is_baseline(network: &str) -> bool {
    let bits = network.strip_prefix("ann-").and_then(|rest| rest.strip_suffix("bit"));
    network == ANN || bits.is_some_and(|bits| bits.parse::<u32>().is_ok())
}

/// Energy of arithmetic in one number format.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Arithmetic {
    /// One multiplication, picojoules.
    pub multiply_pj: f64,
    /// One addition, picojoules.
    pub add_pj: f64,
    /// Bits of a weight, an activation or a membrane potential.
    pub bits: u32,
}

impl Arithmetic {
    /// One multiply-accumulate, picojoules: a multiplication **and** its addition.
    pub fn mac_pj(&self) -> f64 {
        self.multiply_pj + self.add_pj
    }
}

/// 32-bit floating point: multiplication 3.7 pJ, addition 0.9 pJ.
pub const FP32: Arithmetic = Arithmetic { multiply_pj: 3.7, add_pj: 0.9, bits: 32 };

/// 32-bit integers, the format of the published constants: multiplication 3.1 pJ, addition 0.1 pJ. The
/// published MAC of 3.1 pJ leaves out its own addition; this one has it.
pub const INT32: Arithmetic = Arithmetic { multiply_pj: 3.1, add_pj: 0.1, bits: 32 };

/// 8-bit integers: multiplication 0.2 pJ, addition 0.03 pJ, so a MAC of 0.23 pJ.
pub const INT8: Arithmetic = Arithmetic { multiply_pj: 0.2, add_pj: 0.03, bits: 8 };

/// Integers of `bits` bits, extrapolated from [`INT8`]: an array multiplier has bits^2 cells, so the
/// multiplication scales with bits^2; a ripple of adders with bits. An estimate, and the usual one.
pub fn quantised(bits: u32) -> Arithmetic {
    let scale = f64::from(bits) / f64::from(INT8.bits);
    Arithmetic { multiply_pj: INT8.multiply_pj * scale * scale, add_pj: INT8.add_pj * scale, bits }
}

/// One level of a memory hierarchy.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Store {
    /// What fits, in bytes; `None` for the last level, which holds anything.
    pub bytes: Option<u64>,
    /// One access of 64 bits, picojoules.
    pub access_64_bits_pj: f64,
}

/// A memory hierarchy, smallest level first. A tensor lives in the smallest level that holds all of it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Memory {
    /// SRAM, smallest first, then DRAM.
    pub levels: [Store; 4],
}

/// Horowitz's levels, 64 bits an access: 8 KB SRAM 10 pJ, 32 KB 20 pJ, 1 MB 100 pJ, DRAM 1300 pJ (the lower end
/// of his 1.3 to 2.6 nJ).
pub const HOROWITZ: Memory = Memory {
    levels: [
        Store { bytes: Some(8 << 10), access_64_bits_pj: 10.0 },
        Store { bytes: Some(32 << 10), access_64_bits_pj: 20.0 },
        Store { bytes: Some(1 << 20), access_64_bits_pj: 100.0 },
        Store { bytes: None, access_64_bits_pj: 1300.0 },
    ],
};

impl Memory {
    /// Picojoules to move one bit of a tensor that takes `tensor_bits` bits in all.
    pub fn bit_pj(&self, tensor_bits: f64) -> f64 {
        let bytes = tensor_bits / 8.0;
        let fits = |store: &&Store| store.bytes.is_none_or(|capacity| bytes <= capacity as f64);
        let store = self.levels.iter().find(fits).unwrap_or(&self.levels[3]);
        store.access_64_bits_pj / 64.0
    }
}

/// An itemised model: a number format for both networks, and whether memory counts.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Model {
    /// Name in tables.
    pub name: &'static str,
    /// Arithmetic of the spiking network and of the full-precision ANN.
    pub arithmetic: Arithmetic,
    /// Memory traffic, or `None` to count arithmetic only.
    pub memory: Option<Memory>,
}

/// The models reported: `fp32`, `int32`, `int8` (arithmetic only), then `fp32+memory` and `int8+memory`.
pub fn models() -> [Model; 5] {
    [
        Model { name: "fp32", arithmetic: FP32, memory: None },
        Model { name: "int32", arithmetic: INT32, memory: None },
        Model { name: "int8", arithmetic: INT8, memory: None },
        Model { name: "fp32+memory", arithmetic: FP32, memory: Some(HOROWITZ) },
        Model { name: "int8+memory", arithmetic: INT8, memory: Some(HOROWITZ) },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn macs_include_their_addition() {
        assert!((FP32.mac_pj() - 4.6).abs() < 1e-12);
        assert!((INT32.mac_pj() - 3.2).abs() < 1e-12);
        assert!((INT8.mac_pj() - 0.23).abs() < 1e-12);
    }

    #[test]
    fn quantised_arithmetic_scales_from_int8() {
        assert_eq!(quantised(8), INT8);
        assert!((quantised(4).multiply_pj - 0.05).abs() < 1e-12);
        assert!((quantised(4).add_pj - 0.015).abs() < 1e-12);
    }

    #[test]
    fn tensors_live_in_the_smallest_level_that_holds_them() {
        let pj = |bytes: f64| HOROWITZ.bit_pj(bytes * 8.0) * 64.0;
        assert_eq!(pj(0.0), 10.0);
        assert_eq!(pj(8192.0), 10.0);
        assert_eq!(pj(8193.0), 20.0);
        assert_eq!(pj(65_536.0), 100.0);
        assert_eq!(pj(22.9e6), 1300.0);
    }
}
